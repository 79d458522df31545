//! Other sizes: cropping, resizing, and how an image of any shape is brought to the one a model has.

use ::image::imageops::{FilterType, resize};
use ::image::{ImageBuffer, Rgb};

use super::{Image, Rectangle};

/// How an image of another shape is brought to the model's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Fit {
    /// The largest part of the model's proportions, from the middle.
    #[default]
    Crop,
    /// All of it, stretched.
    Stretch,
}

impl Fit {
    /// The part of an image of `width` × `height` pixels that is brought to the shape `to`.
    pub fn part(self, width: usize, height: usize, to: [usize; 2]) -> Rectangle {
        let whole = Rectangle { x: 0, y: 0, width, height };
        let [rows, columns] = to;
        match self {
            Fit::Stretch => whole,
            Fit::Crop if width * rows > height * columns => {
                let part = (height * columns / rows).max(1);
                Rectangle { x: (width - part) / 2, width: part, ..whole }
            }
            Fit::Crop => {
                let part = (width * rows / columns).clamp(1, height);
                Rectangle { y: (height - part) / 2, height: part, ..whole }
            }
        }
    }
}

impl Image {
    /// A copy of another size, by Lanczos's filter of three lobes; the same bytes where it is the same.
    pub fn resized(&self, width: usize, height: usize) -> Image {
        if (width, height) == (self.width, self.height) {
            return self.clone();
        }
        let size = [self.width, self.height].map(|n| n as u32);
        let source = ImageBuffer::<Rgb<u8>, _>::from_raw(size[0], size[1], &*self.rgb);
        let source = source.expect("three bytes a pixel"); // `check` has seen to it
        let rgb = resize(&source, width as u32, height as u32, FilterType::Lanczos3).into_raw();
        Image { width, height, rgb }
    }

    /// The part within a rectangle.
    pub fn cropped(&self, rectangle: Rectangle) -> Image {
        let Rectangle { x, y, width, height } = rectangle;
        let row = |row: usize| &self.rgb[3 * (row * self.width + x)..][..3 * width];
        Image { width, height, rgb: (y..y + height).flat_map(row).copied().collect() }
    }

    /// Puts `other` at (`x`, `y`); what lies outside is left out.
    pub fn place(&mut self, other: &Image, x: usize, y: usize) {
        let columns = other.width.min(self.width.saturating_sub(x));
        for row in 0..other.height.min(self.height.saturating_sub(y)) {
            let to = 3 * ((y + row) * self.width + x);
            let from = 3 * row * other.width;
            self.rgb[to..to + 3 * columns].copy_from_slice(&other.rgb[from..from + 3 * columns]);
        }
    }
}
