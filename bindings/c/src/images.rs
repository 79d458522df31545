//! Pictures as a C program holds them: results, previews, and files.

use std::ffi::{CString, c_char};
use std::mem::offset_of;
use std::sync::OnceLock;

use muse::image::Picture;
use muse::{Generated, Image, Request, Result};

use crate::engine::Engine;
use crate::numbers::Status;
use crate::sized::{self, Grows};
use crate::status::{guarded, text, unusable};

/// Pictures, and what they point to, until muse_images_free.
pub struct Images {
    all: Vec<Entry>,
}

struct Entry {
    image: Image,
    /// What it was made of, and what came of it besides.
    made: Option<Made>,
    png: OnceLock<Vec<u8>>,
}

struct Made {
    request: Request,
    base: Vec<u32>,
    superres: Vec<u32>,
    notes: Option<CString>,
}

impl Images {
    /// A picture that says nothing of its origin.
    pub fn one(image: Image) -> Box<Self> {
        Box::new(Images { all: vec![Entry { image, made: None, png: OnceLock::new() }] })
    }

    /// The results of a request, of its seed and those that follow it.
    pub fn made(request: &Request, results: Vec<Generated>) -> Box<Self> {
        let entry = |(generated, i): (Generated, u64)| {
            let Generated { image, base_tokens, superres_tokens, notes, .. } = generated;
            let made = Made {
                request: Request { seed: request.seed.wrapping_add(i), ..request.clone() },
                base: base_tokens,
                superres: superres_tokens.unwrap_or_default(),
                notes: (!notes.is_empty()).then(|| text(&notes.join("\n"))),
            };
            Entry { image, made: Some(made), png: OnceLock::new() }
        };
        Box::new(Images { all: results.into_iter().zip(0..).map(entry).collect() })
    }

    fn at(&self, index: usize) -> Result<&Entry> {
        let expected = format!("less than {}, the number of images", self.all.len());
        self.all.get(index).ok_or_else(|| unusable("index", index, expected))
    }
}

/// A picture of a muse_images, which owns all that is pointed to. Set its size before it is filled.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ImageView {
    /// sizeof(muse_image).
    pub size: usize,
    /// Columns.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// 3 x width x height bytes: RGB, row by row from the top, without gaps.
    pub rgb: *const u8,
    /// Its seed.
    pub seed: u64,
    /// The base grid's tokens, row by row; none of a preview or a file.
    pub base_tokens: *const u32,
    /// How many.
    pub base_count: usize,
    /// The super-res grid's tokens, where that stage ran.
    pub superres_tokens: *const u32,
    /// How many.
    pub superres_count: usize,
    /// What to know of it besides, as that a text was cut off; or NULL.
    pub notes: *const c_char,
}

// SAFETY: its first field is the size, and numbers and pointers have no forbidden values.
unsafe impl Grows for ImageView {
    const NAME: &'static str = "image";
    const FIRST: usize = offset_of!(ImageView, notes) + size_of::<*const c_char>();
}

/// How many pictures there are; 0 of NULL.
///
/// images is NULL or good.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn muse_images_count(images: *const Images) -> usize {
    // SAFETY: the caller's word.
    unsafe { images.as_ref() }.map_or(0, |images| images.all.len())
}

/// Fills image with picture number index, from 0.
///
/// images is NULL or good; image is NULL or as large as it says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn muse_images_get(
    images: *const Images,
    index: usize,
    image: *mut ImageView,
) -> Status {
    // SAFETY: the caller's word.
    guarded(|| unsafe {
        let Entry { image: picture, made, .. } = sized::at("images", images)?.at(index)?;
        let tokens = |tokens: Option<&Vec<u32>>| match tokens {
            Some(tokens) if !tokens.is_empty() => (tokens.as_ptr(), tokens.len()),
            _ => (std::ptr::null(), 0),
        };
        let made = made.as_ref();
        let (base_tokens, base_count) = tokens(made.map(|made| &made.base));
        let (superres_tokens, superres_count) = tokens(made.map(|made| &made.superres));
        let notes = made.and_then(|made| made.notes.as_ref());
        let view = ImageView {
            size: size_of::<ImageView>(),
            width: picture.width as u32,
            height: picture.height as u32,
            rgb: picture.rgb.as_ptr(),
            seed: made.map_or(0, |made| made.request.seed),
            base_tokens,
            base_count,
            superres_tokens,
            superres_count,
            notes: notes.map_or(std::ptr::null(), |notes| notes.as_ptr()),
        };
        sized::write(image, &view)
    })
}

/// Picture number index as the bytes of a PNG file, which images owns. Of a result it holds prompt, seed, settings
/// and model in its text chunks; engine is the one that made it.
///
/// Every pointer is NULL or good.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn muse_images_png(
    engine: *const Engine,
    images: *const Images,
    index: usize,
    bytes: *mut *const u8,
    length: *mut usize,
) -> Status {
    // SAFETY: the caller's word.
    guarded(|| unsafe {
        let bytes = bytes.as_mut().ok_or_else(|| sized::null("bytes"))?;
        let length = length.as_mut().ok_or_else(|| sized::null("length"))?;
        (*bytes, *length) = (std::ptr::null(), 0);
        let engine = &sized::at("engine", engine)?.engine;
        let entry = sized::at("images", images)?.at(index)?;
        if entry.png.get().is_none() {
            let request = entry.made.as_ref().map(|made| &made.request);
            let text = request.map(|request| engine.png_text(request)).transpose()?;
            let png = entry.image.to_png(&text.unwrap_or_default())?;
            let _ = entry.png.set(png); // another thread's is the same
        }
        let png = entry.png.get().map_or(&[][..], Vec::as_slice);
        (*bytes, *length) = (png.as_ptr(), png.len());
        Ok(())
    })
}

/// Reads a PNG, JPEG or WebP file, turned upright and laid over white, for an edit. Free it with muse_images_free.
///
/// Every pointer is NULL or good.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn muse_images_open(path: *const c_char, images: *mut *mut Images) -> Status {
    // SAFETY: the caller's word.
    guarded(|| unsafe {
        let images = sized::place("images", images)?;
        let path = sized::text("path", path)?.ok_or_else(|| sized::null("path"))?;
        *images = Box::into_raw(Images::one(Picture::open(path)?.image));
        Ok(())
    })
}

/// Frees pictures and all that was got of them; NULL is nothing.
///
/// images is NULL or good, and is not used afterwards.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn muse_images_free(images: *mut Images) {
    if !images.is_null() {
        // SAFETY: it is ours, and the caller's word.
        guarded(|| unsafe {
            drop(Box::from_raw(images));
            Ok(())
        });
    }
}
