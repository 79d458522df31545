//! PNG: the same picture and text give the same bytes.

use png::{BitDepth, ColorType, Compression, Encoder, Filter};

use super::Image;
use crate::error::{Error, Result};

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
}
