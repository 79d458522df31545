//! Which pixels of an image are repainted, and how the new ones meet the old.

use ::image::imageops::{FilterType, resize};
use ::image::{ImageBuffer, Luma};

use super::Image;
use crate::error::{Error, Result};

/// Lightness from which a mask image counts as white.
const WHITE: u32 = 128;

/// The pixels of an image that are repainted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mask {
    /// Columns.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// `[height, width]`, row-major.
    pub repaint: Vec<bool>,
}

/// A rectangle of pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rectangle {
    /// First column.
    pub x: usize,
    /// First row.
    pub y: usize,
    /// Columns.
    pub width: usize,
    /// Rows.
    pub height: usize,
}

impl std::fmt::Display for Rectangle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{},{},{},{}", self.x, self.y, self.width, self.height)
    }
}

impl Rectangle {
    /// Whether it has pixels, all of them within `width` × `height`.
    fn fits(&self, width: usize, height: usize) -> bool {
        let within = |start: usize, length: usize, size: usize| {
            length > 0 && start.checked_add(length).is_some_and(|end| end <= size)
        };
        within(self.x, self.width, width) && within(self.y, self.height, height)
    }

    /// Where each of its cells is `scale` × `scale` ones.
    pub(crate) fn scaled(self, scale: usize) -> Self {
        let Rectangle { x, y, width, height } = self;
        let [x, y, width, height] = [x, y, width, height].map(|n| n * scale);
        Rectangle { x, y, width, height }
    }

    /// The cells within it of a grid of `columns`.
    pub(crate) fn read(self, cells: &[u32], columns: usize) -> Vec<u32> {
        let row = |row: usize| &cells[(self.y + row) * columns + self.x..][..self.width];
        (0..self.height).flat_map(row).copied().collect()
    }

    /// Puts `part` there.
    pub(crate) fn write<T: Copy>(self, cells: &mut [T], columns: usize, part: &[T]) {
        for (row, part) in part.chunks_exact(self.width).enumerate() {
            cells[(self.y + row) * columns + self.x..][..self.width].copy_from_slice(part);
        }
    }
}

impl Mask {
    /// A mask of no pixel.
    pub fn empty(width: usize, height: usize) -> Self {
        Mask { width, height, repaint: vec![false; width * height] }
    }

    /// White is repainted, black is kept.
    pub fn of_image(image: &Image) -> Self {
        let white = |p: &[u8]| {
            let [r, g, b] = [p[0], p[1], p[2]].map(u32::from);
            (299 * r + 587 * g + 114 * b + 500) / 1000 >= WHITE
        };
        let repaint = image.rgb.chunks_exact(3).map(white).collect();
        Mask { width: image.width, height: image.height, repaint }
    }

    /// How many pixels are repainted.
    pub fn count(&self) -> usize {
        self.repaint.iter().filter(|&&repaint| repaint).count()
    }

    /// Adds the pixels of a rectangle.
    ///
    /// # Errors
    /// [`Error::Option`] when it is empty or not within the image.
    pub fn add(&mut self, rectangle: Rectangle) -> Result<()> {
        if !rectangle.fits(self.width, self.height) {
            let expected = format!(
                "x,y,width,height of at least one pixel, within the image of {}×{} pixels",
                self.width, self.height
            );
            return Err(Error::option("box", rectangle, expected));
        }
        for y in rectangle.y..rectangle.y + rectangle.height {
            let start = y * self.width + rectangle.x;
            self.repaint[start..start + rectangle.width].fill(true);
        }
        Ok(())
    }

    /// Whether any pixel of a rectangle is repainted.
    pub fn touches(&self, rectangle: Rectangle) -> bool {
        (rectangle.y..rectangle.y + rectangle.height).any(|y| {
            let start = y * self.width + rectangle.x;
            self.repaint[start..start + rectangle.width].contains(&true)
        })
    }

    /// A mask of another size: a pixel is repainted where it covers one that was.
    pub fn resized(&self, width: usize, height: usize) -> Mask {
        if (width, height) == (self.width, self.height) {
            return self.clone();
        }
        let span = |i: usize, to: usize, from: usize| {
            let start = i * from / to;
            (start, ((i + 1) * from).div_ceil(to).max(start + 1) - start)
        };
        let covers = |at: usize| {
            let (x, columns) = span(at % width, width, self.width);
            let (y, rows) = span(at / width, height, self.height);
            self.touches(Rectangle { x, y, width: columns, height: rows })
        };
        Mask { width, height, repaint: (0..width * height).map(covers).collect() }
    }

    /// A mask of another size, by Lanczos's filter of three lobes: a pixel is repainted where at least half of
    /// what it covers is, about.
    pub fn filtered(&self, width: usize, height: usize) -> Mask {
        let grey = self.repaint.iter().map(|&repaint| if repaint { 255 } else { 0 }).collect();
        let size = [self.width, self.height].map(|n| n as u32);
        let grey = ImageBuffer::<Luma<u8>, Vec<u8>>::from_raw(size[0], size[1], grey);
        let grey = grey.expect("a byte a pixel"); // requests are checked
        let grey = resize(&grey, width as u32, height as u32, FilterType::Lanczos3).into_raw();
        let repaint = grey.into_iter().map(|grey| u32::from(grey) >= WHITE).collect();
        Mask { width, height, repaint }
    }

    /// The part within a rectangle.
    pub fn cropped(&self, rectangle: Rectangle) -> Mask {
        let Rectangle { x, y, width, height } = rectangle;
        let row = |row: usize| &self.repaint[row * self.width + x..][..width];
        Mask { width, height, repaint: (y..y + height).flat_map(row).copied().collect() }
    }

    /// Each pixel's distance to the nearest one that is repainted, in steps to any of eight neighbours.
    fn distances(&self) -> Vec<usize> {
        let far = usize::MAX / 2;
        let mut distance: Vec<usize> =
            self.repaint.iter().map(|&repaint| if repaint { 0 } else { far }).collect();
        // Two passes suffice where each of the eight steps costs the same (Rosenfeld and Pfaltz, 1966).
        let mut relax = |x: usize, y: usize, dy: isize| {
            let at = y * self.width + x;
            let side = if dy < 0 { x.checked_sub(1) } else { Some(x + 1) };
            let mut least = distance[at];
            let mut look = |x: Option<usize>, y: Option<usize>| {
                if let (Some(x), Some(y)) = (x, y)
                    && x < self.width
                    && y < self.height
                {
                    least = least.min(distance[y * self.width + x] + 1);
                }
            };
            look(side, Some(y));
            for dx in [x.checked_sub(1), Some(x), Some(x + 1)] {
                look(dx, y.checked_add_signed(dy));
            }
            distance[at] = least;
        };
        for y in 0..self.height {
            (0..self.width).for_each(|x| relax(x, y, -1));
        }
        for y in (0..self.height).rev() {
            (0..self.width).rev().for_each(|x| relax(x, y, 1));
        }
        distance
    }
}

impl Image {
    /// This image with the pixels of `new` where `mask` repaints, and beside them a seam of `feather`
    /// pixels that fades from the new to the old. Everything else stays as it is, to the byte.
    pub fn repainted(&self, new: &Image, mask: &Mask, feather: usize) -> Image {
        let mut out = self.clone();
        let pixels = out.rgb.chunks_exact_mut(3).zip(new.rgb.chunks_exact(3));
        for ((old, new), distance) in pixels.zip(mask.distances()) {
            let share = (feather + 1).saturating_sub(distance); // of feather + 1
            for (old, new) in old.iter_mut().zip(new) {
                let rest = feather + 1 - share;
                let sum = usize::from(*new) * share + usize::from(*old) * rest;
                *old = ((2 * sum + feather + 1) / (2 * (feather + 1))) as u8;
            }
        }
        out
    }
}
