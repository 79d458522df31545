//! Pictures: RGB8, read from files, fitted and masked; PNG with what made it in its text chunks, contact
//! sheets and animations.

mod animation;
mod fit;
mod input;
mod mask;
mod output;
mod png;
#[cfg(test)]
mod tests;

pub use animation::Animation;
pub use fit::Fit;
pub use input::Picture;
pub use mask::{Mask, Rectangle};
pub use output::{check_new, write_new};

use crate::error::{Error, Result};

/// Pixels between the images of a contact sheet.
const GAP: usize = 4;

/// A picture of 8-bit RGB pixels.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Image {
    /// Columns.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// `[height, width, 3]`, row-major.
    pub rgb: Vec<u8>,
}

impl Image {
    /// A picture of one colour.
    pub fn filled(width: usize, height: usize, colour: [u8; 3]) -> Self {
        Image { width, height, rgb: colour.repeat(width * height) }
    }

    /// A copy of another size, each pixel that of the nearest of this one: to enlarge without blur.
    pub fn enlarge_to(&self, width: usize, height: usize) -> Image {
        let mut rgb = Vec::with_capacity(3 * width * height);
        for y in 0..height {
            for x in 0..width {
                rgb.extend(self.pixel(x * self.width / width, y * self.height / height));
            }
        }
        Image { width, height, rgb }
    }

    /// Draws diagonal stripes over the square at (`x`, `y`), so that it reads as not yet known.
    /// What lies outside of the picture is left out.
    pub fn hatch(&mut self, x: usize, y: usize, side: usize) {
        let stripe = (side / 4).max(1);
        for row in y..(y + side).min(self.height) {
            for column in x..(x + side).min(self.width) {
                let light = ((row + column) / stripe).is_multiple_of(2);
                let at = 3 * (row * self.width + column);
                if let Some(pixel) = self.rgb.get_mut(at..at + 3) {
                    pixel.fill(if light { 0xb0 } else { 0x90 });
                }
            }
        }
    }

    fn pixel(&self, x: usize, y: usize) -> [u8; 3] {
        let at = 3 * (y * self.width + x);
        self.rgb.get(at..at + 3).map_or([0; 3], |pixel| [pixel[0], pixel[1], pixel[2]])
    }

    /// Checks that there is a picture of the stated size.
    pub(crate) fn check(&self) -> Result<()> {
        let bytes = self.width.checked_mul(self.height).and_then(|n| n.checked_mul(3));
        if self.rgb.is_empty() || bytes != Some(self.rgb.len()) {
            let found = format!("{}×{} with {} bytes", self.width, self.height, self.rgb.len());
            return Err(Error::option("image", found, "three bytes for every pixel, at least one"));
        }
        Ok(())
    }
}

/// The images on white, in reading order, as many rows as columns or one row fewer.
pub fn contact_sheet(images: &[Image]) -> Image {
    let columns = (images.len() as f64).sqrt().ceil() as usize;
    let rows = images.len().div_ceil(columns.max(1));
    let cell_width = images.iter().map(|image| image.width).max().unwrap_or(0);
    let cell_height = images.iter().map(|image| image.height).max().unwrap_or(0);
    let span = |count: usize, cell: usize| count * cell + count.saturating_sub(1) * GAP;
    let (width, height) = (span(columns, cell_width), span(rows, cell_height));
    let mut sheet = Image::filled(width, height, [255; 3]);
    for (i, image) in images.iter().enumerate() {
        let left = i % columns * (cell_width + GAP);
        let top = i / columns * (cell_height + GAP);
        for (y, row) in image.rgb.chunks_exact((3 * image.width).max(1)).enumerate() {
            let start = 3 * ((top + y) * width + left);
            if let Some(target) = sheet.rgb.get_mut(start..start + row.len()) {
                target.copy_from_slice(row);
            }
        }
    }
    sheet
}
