//! Pictures from files: PNG, JPEG and WebP of any bit depth, grey or coloured, turned upright.

use std::fmt::Display;
use std::io::{Cursor, ErrorKind};
use std::path::Path;

use ::image::error::{LimitError, LimitErrorKind};
use ::image::{DynamicImage, ImageDecoder, ImageError, ImageReader, Limits};

use super::{Image, Mask};
use crate::error::{Error, Result};

const ACTION: &str = "reading the image";
/// Longest file that is read.
const MAX_FILE: u64 = 256 << 20;
/// Longest side, in pixels.
const MAX_SIDE: u32 = 16_384;
/// Most pixels, and most working memory: a file of a few kilobytes can claim any number.
const MAX_PIXELS: u64 = 64 << 20;
const MAX_MEMORY: u64 = 1 << 30;

/// A picture from a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    /// Its colours; what is transparent is laid over white.
    pub image: Image,
    /// Where it is more transparent than not; `None` without an alpha channel.
    pub transparent: Option<Mask>,
}

impl Picture {
    /// Reads a PNG, JPEG or WebP file, and turns it as its EXIF orientation says.
    ///
    /// # Errors
    /// [`Error::Io`] when the file cannot be read, is not such an image, or is too large.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let metadata = std::fs::metadata(path).map_err(Error::io(path, ACTION))?;
        if !metadata.is_file() || metadata.len() > MAX_FILE {
            return Err(unusable(path, "not a file of at most 256 MiB"));
        }
        let bytes = std::fs::read(path).map_err(Error::io(path, ACTION))?;
        Self::decode(&bytes, path)
    }

    /// Decodes the bytes of such a file; `path` is named in errors.
    pub fn decode(bytes: &[u8], path: impl AsRef<Path>) -> Result<Self> {
        let picture = upright(bytes).map_err(|problem| unusable(path.as_ref(), problem))?;
        let (width, height) = (picture.width() as usize, picture.height() as usize);
        if !picture.color().has_alpha() {
            let rgb = picture.into_rgb8().into_raw();
            return Ok(Picture { image: Image { width, height, rgb }, transparent: None });
        }
        let rgba = picture.into_rgba8().into_raw();
        let over_white = |pixel: &[u8]| {
            let alpha = u32::from(pixel[3]);
            let mix = |c: u8| ((u32::from(c) * alpha + 255 * (255 - alpha) + 127) / 255) as u8;
            [mix(pixel[0]), mix(pixel[1]), mix(pixel[2])]
        };
        let rgb = rgba.chunks_exact(4).flat_map(over_white).collect();
        let repaint = rgba.chunks_exact(4).map(|pixel| pixel[3] < 128).collect();
        let transparent = Some(Mask { width, height, repaint });
        Ok(Picture { image: Image { width, height, rgb }, transparent })
    }
}

fn upright(bytes: &[u8]) -> std::result::Result<DynamicImage, ImageError> {
    let mut limits = Limits::default();
    limits.max_image_width = Some(MAX_SIDE);
    limits.max_image_height = Some(MAX_SIDE);
    limits.max_alloc = Some(MAX_MEMORY);
    let mut reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format()?;
    reader.limits(limits.clone());
    let mut decoder = reader.into_decoder()?;
    let (width, height) = decoder.dimensions();
    limits.check_dimensions(width, height)?;
    if u64::from(width) * u64::from(height) > MAX_PIXELS {
        return Err(ImageError::Limits(LimitError::from_kind(LimitErrorKind::DimensionError)));
    }
    limits.reserve(decoder.total_bytes())?;
    let orientation = decoder.orientation()?;
    let mut picture = DynamicImage::from_decoder(decoder)?;
    picture.apply_orientation(orientation);
    Ok(picture)
}

fn unusable(path: &Path, problem: impl Display) -> Error {
    let problem = format!("{problem}; expected a whole PNG, JPEG or WebP image");
    Error::io(path, ACTION)(std::io::Error::new(ErrorKind::InvalidData, problem))
}
