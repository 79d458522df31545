//! PNG: the same picture and text give the same bytes.

use std::io::{Cursor, Error as IoError, ErrorKind};
use std::path::Path;

use png::{BitDepth, ColorType, Compression, Decoder, Encoder, Filter, Limits, Transformations};

use super::Image;
use crate::error::{Error, Result};

/// Longest file, longest side, most pixels and most working memory accepted when reading.
const MAX_FILE: u64 = 256 << 20;
const MAX_SIDE: u32 = 16_384;
const MAX_PIXELS: u64 = 64 << 20;
const MAX_MEMORY: usize = 512 << 20;

impl Image {
    /// The picture as a PNG file with `text` chunks, each a keyword and a text.
    pub fn to_png(&self, text: &[(&str, impl AsRef<str>)]) -> Result<Vec<u8>> {
        self.check()?;
        let side = |n: usize| u32::try_from(n).ok().filter(|&n| n <= i32::MAX as u32);
        let Some((width, height)) = side(self.width).zip(side(self.height)) else {
            let found = format!("{}×{}", self.width, self.height);
            return Err(Error::option("image", found, "sides that a PNG file can hold"));
        };
        let mut bytes = Vec::new();
        self.encode(&mut bytes, [width, height], text).map_err(|error| {
            let keywords: Vec<_> = text.iter().map(|(keyword, _)| *keyword).collect();
            let found = format!("{keywords:?} ({error})");
            Error::option("PNG text", found, "keywords of 1 to 79 Latin-1 characters")
        })?;
        Ok(bytes)
    }

    fn encode(
        &self,
        bytes: &mut Vec<u8>,
        [width, height]: [u32; 2],
        text: &[(&str, impl AsRef<str>)],
    ) -> std::result::Result<(), png::EncodingError> {
        let mut encoder = Encoder::new(bytes, width, height);
        encoder.set_color(ColorType::Rgb);
        encoder.set_depth(BitDepth::Eight);
        encoder.set_compression(Compression::Balanced);
        encoder.set_filter(Filter::Adaptive);
        for (keyword, text) in text {
            let text = text.as_ref().replace('\0', "\u{fffd}"); // NUL would end the chunk
            if text.is_ascii() {
                encoder.add_text_chunk((*keyword).into(), text)?;
            } else {
                encoder.add_itxt_chunk((*keyword).into(), text)?;
            }
        }
        let mut writer = encoder.write_header()?;
        writer.write_image_data(&self.rgb)?;
        writer.finish()
    }

    /// Reads a PNG file: grey, palette or RGB, up to 16 bits; transparency is laid over white.
    pub fn open(path: impl AsRef<Path>) -> Result<Image> {
        let path = path.as_ref();
        let metadata = std::fs::metadata(path).map_err(Error::io(path, "opening the image"))?;
        if !metadata.is_file() || metadata.len() > MAX_FILE {
            return Err(unreadable(path, "not a PNG file of at most 256 MiB".into()));
        }
        let bytes = std::fs::read(path).map_err(Error::io(path, "reading the image"))?;
        Image::from_png(&bytes, path)
    }

    /// Reads the bytes of a PNG file, as [`Image::open`] does; `path` is named in errors.
    pub fn from_png(bytes: &[u8], path: impl AsRef<Path>) -> Result<Image> {
        let path = path.as_ref();
        let broken = |error: png::DecodingError| {
            unreadable(path, format!("not a whole PNG file ({error}); save it again as PNG"))
        };
        let limits = Limits { bytes: MAX_MEMORY };
        let mut decoder = Decoder::new_with_limits(Cursor::new(bytes), limits);
        decoder.set_transformations(Transformations::normalize_to_color8());
        decoder.set_ignore_text_chunk(true);
        let mut reader = decoder.read_info().map_err(broken)?;
        let (width, height) = reader.info().size();
        let pixels = u64::from(width) * u64::from(height);
        if width.max(height) > MAX_SIDE || pixels > MAX_PIXELS {
            return Err(unreadable(path, format!("{width}×{height} pixels are too many")));
        }
        let size = reader.output_buffer_size();
        let size = size.ok_or_else(|| unreadable(path, "too large for this machine".into()))?;
        let mut samples = vec![0; size];
        let frame = reader.next_frame(&mut samples).map_err(broken)?;
        samples.truncate(frame.buffer_size());
        let rgb: Vec<u8> = match frame.color_type {
            ColorType::Rgb => samples,
            ColorType::Rgba => samples.as_chunks().0.iter().flat_map(over_white).collect(),
            ColorType::Grayscale => samples.iter().flat_map(|&v| [v; 3]).collect(),
            ColorType::GrayscaleAlpha => {
                samples.as_chunks().0.iter().flat_map(|&[v, a]| over_white(&[v, v, v, a])).collect()
            }
            ColorType::Indexed => return Err(unreadable(path, "a palette without colours".into())),
        };
        let image = Image { width: frame.width as usize, height: frame.height as usize, rgb };
        image.check()?;
        Ok(image)
    }
}

fn over_white(&[r, g, b, alpha]: &[u8; 4]) -> [u8; 3] {
    let alpha = u32::from(alpha);
    [r, g, b].map(|v| ((u32::from(v) * alpha + 255 * (255 - alpha) + 127) / 255) as u8)
}

fn unreadable(path: &Path, problem: String) -> Error {
    Error::io(path, "reading the image")(IoError::new(ErrorKind::InvalidData, problem))
}
