//! Editing: what to change of an image, and the start masks from which the one decode loop changes it.
//!
//! Tokens that are not masked stay as the VQ encoder made them; the loop fills in the others with the
//! prompt and all known tokens in view (Muse §3.3). So an edit needs no training and no inversion of the
//! image, only a choice of positions:
//!
//! | edit | masked |
//! |---|---|
//! | [`Change::Inpaint`] | every token with a pixel of the mask; of aMUSEd, as diffusers has it, half of them |
//! | [`Change::Outpaint`] | what lies outside of the image, a window of the model's grid at a time |
//! | [`Change::Repaint`] | a random part of the coarse grid (image to image), then all of the fine one |
//! | [`Change::Resample`] | a few random tokens of the coarse grid, again and again, then all of the fine one |

use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::image::{Fit, Image, Mask, Rectangle};

/// Longest side of an outpainted image, in pixels.
const MAX_SIDE: usize = 8192;
/// Pixels of an outpainted image: the VQ decoder sees all of it at once.
const MAX_PIXELS: usize = 8 << 20;
/// Windows that fill it.
const MAX_WINDOWS: usize = 4096;

/// An image and what to change of it.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Edit {
    /// The image; JSON cannot hold it.
    #[serde(skip)]
    pub image: Image,
    /// What changes.
    pub change: Change,
    /// How an image of another shape is brought to the model's; outpainting takes any.
    #[serde(default)]
    pub fit: Fit,
    /// Pixels beside the repainted ones over which the new fades into the old.
    #[serde(default = "feather")]
    pub feather: usize,
    /// Return the picture as decoded, without the original's pixels.
    #[serde(default)]
    pub decoded: bool,
}

/// What changes of an image.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
#[non_exhaustive]
pub enum Change {
    /// Repaints the pixels of a mask.
    Inpaint {
        /// As large as the image; JSON cannot hold it.
        #[serde(skip)]
        mask: Mask,
        /// The part of the steps that run, from the end: of aMUSEd; Muse runs all, 1.
        #[serde(default = "whole")]
        strength: f32,
    },
    /// Paints beyond the image's edges.
    Outpaint {
        /// Pixels to add.
        margins: Margins,
        /// Tokens of the coarse grid that a window shares with what is known; `None` for half of the grid.
        #[serde(default)]
        overlap: Option<usize>,
    },
    /// Image to image: forgets a part of the tokens and decodes from the middle of the schedule on.
    Repaint {
        /// The part of the steps that run: 0 changes nothing, 1 is generation from nothing.
        strength: f32,
    },
    /// Mask-free editing (Muse §3.3.2).
    Resample {
        /// Rounds; after fewer of them the image is what a longer edit passes through.
        #[serde(default = "iterations")]
        iterations: usize,
        /// Part of the tokens that a round draws anew.
        #[serde(default = "fraction")]
        fraction: f32,
        /// How much less often a token is drawn anew that the prompt explains well: its chances are
        /// multiplied by (p(token) / p(token | prompt))^preserve. 0, the paper's way, treats all alike.
        #[serde(default)]
        preserve: f32,
    },
}

/// Pixels to add at each side of an image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Margins {
    /// Left of it.
    pub left: usize,
    /// Right of it.
    pub right: usize,
    /// Above it.
    pub top: usize,
    /// Below it.
    pub bottom: usize,
}

fn whole() -> f32 {
    1.0
}

fn feather() -> usize {
    Edit::FEATHER
}

fn iterations() -> usize {
    Change::ITERATIONS
}

fn fraction() -> f32 {
    Change::FRACTION
}

impl Change {
    /// Rounds of a mask-free edit (Muse §3.3.2).
    pub const ITERATIONS: usize = 100;
    /// Part of the tokens that a round of it draws anew (Muse §3.3.2).
    pub const FRACTION: f32 = 0.08;
    /// Tokens that a round of it draws from, the most likely ones (Muse §3.3.2).
    pub const TOP_K: usize = 3;
}

impl Edit {
    /// Width of the seam unless a request says otherwise, in pixels.
    pub const FEATHER: usize = 4;

    /// An edit with the usual settings.
    pub fn new(image: Image, change: Change) -> Self {
        Edit { image, change, fit: Fit::Crop, feather: Self::FEATHER, decoded: false }
    }

    /// Checks everything but the pixels.
    pub(crate) fn validate_settings(&self) -> Result<()> {
        if self.feather > 256 {
            return Err(Error::option("feather", self.feather, "0 to 256 pixels"));
        }
        match &self.change {
            Change::Inpaint { strength, .. } | Change::Repaint { strength } => {
                within("strength", *strength, 0.0..=1.0)
            }
            Change::Outpaint { margins, .. } if *margins == Margins::default() => {
                let expected = "at least one pixel left, right, top or bottom";
                Err(Error::option("outpainting", "no pixels to add", expected))
            }
            Change::Outpaint { .. } => Ok(()),
            Change::Resample { iterations, fraction, preserve } => {
                if !(1..=1000).contains(iterations) {
                    return Err(Error::option("iterations", iterations, "1 to 1000"));
                }
                within("fraction", *fraction, 0.001..=1.0)?;
                within("preserve", *preserve, 0.0..=10.0)
            }
        }
    }

    /// Checks the image and the mask.
    pub(crate) fn validate_pixels(&self) -> Result<()> {
        self.image.check()?;
        let (width, height) = (self.image.width, self.image.height);
        match &self.change {
            Change::Inpaint { mask, .. } => {
                if (mask.width, mask.height, mask.repaint.len()) != (width, height, width * height)
                {
                    let found = format!("{}×{} pixels", mask.width, mask.height);
                    let expected = format!("{width}×{height} pixels, the size of the image");
                    return Err(Error::option("mask", found, expected));
                }
            }
            Change::Outpaint { margins, .. } => {
                let Margins { left, right, top, bottom } = *margins;
                let side = |sizes: [usize; 3]| sizes.into_iter().fold(0, usize::saturating_add);
                let (wide, high) = (side([left, width, right]), side([top, height, bottom]));
                if wide.max(high) > MAX_SIDE || wide * high > MAX_PIXELS {
                    let found = format!("an image of {wide}×{high} pixels");
                    let expected =
                        format!("at most {MAX_SIDE} pixels a side and {MAX_PIXELS} in all");
                    return Err(Error::option("outpainting", found, expected));
                }
            }
            Change::Repaint { .. } | Change::Resample { .. } => {}
        }
        Ok(())
    }
}

/// Checks a number of a request.
pub(crate) fn within(name: &'static str, value: f32, range: RangeInclusive<f32>) -> Result<()> {
    match range.contains(&value) {
        true => Ok(()),
        false => {
            let expected = format!("a number from {} to {}", range.start(), range.end());
            Err(Error::option(name, value, expected))
        }
    }
}

/// The tokens of a fine grid that lie within marked tokens of a coarse one.
pub(crate) fn refined(marked: &[bool], coarse: [usize; 2], fine: [usize; 2]) -> Vec<bool> {
    let cell = |at: usize| {
        let [y, x] = [at / fine[1] * coarse[0] / fine[0], at % fine[1] * coarse[1] / fine[1]];
        marked[y * coarse[1] + x]
    };
    (0..fine[0] * fine[1]).map(cell).collect()
}

/// Which tokens of a grid have a pixel that is repainted. The mask is as large as the grid's picture.
pub(crate) fn touched(mask: &Mask, [rows, columns]: [usize; 2]) -> Vec<bool> {
    let (width, height) = (mask.width / columns, mask.height / rows);
    let cell = |cell: usize| {
        let (x, y) = (cell % columns * width, cell / columns * height);
        mask.touches(Rectangle { x, y, width, height })
    };
    (0..rows * columns).map(cell).collect()
}

/// Where an outpainted image's tokens lie. All lengths are in tokens of the coarse grid (`unit` pixels of
/// the finest picture), but for [`Canvas::crop`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Canvas {
    /// Rows and columns.
    pub grid: [usize; 2],
    /// The image's tokens: those that lie wholly inside of it.
    pub known: Rectangle,
    /// The result within the canvas's picture, in pixels.
    pub crop: Rectangle,
}

impl Canvas {
    /// The smallest canvas, at least as large as the model's `grid`, for an image of `width` × `height`
    /// pixels and its margins. Its tokens are aligned with the image's upper left corner.
    pub fn new(
        [width, height]: [usize; 2],
        margins: Margins,
        grid: [usize; 2],
        unit: usize,
    ) -> Result<Self> {
        // Along one axis: cells before the image, whole cells of it, cells in all, pixels to cut off.
        let axis = |before: usize, size: usize, after: usize, least: usize| {
            let (first, whole) = (before.div_ceil(unit), size / unit);
            let rest = (size % unit + after).div_ceil(unit);
            ([first, whole, (first + whole + rest).max(least)], first * unit - before)
        };
        let ([x, columns, wide], left) = axis(margins.left, width, margins.right, grid[1]);
        let ([y, rows, high], top) = axis(margins.top, height, margins.bottom, grid[0]);
        if rows == 0 || columns == 0 {
            let found = format!("{width}×{height} pixels");
            let expected = format!("at least {unit}×{unit} pixels, those of one token");
            return Err(Error::option("image", found, expected));
        }
        Ok(Canvas {
            grid: [high, wide],
            known: Rectangle { x, y, width: columns, height: rows },
            crop: Rectangle {
                x: left,
                y: top,
                width: margins.left + width + margins.right,
                height: margins.top + height + margins.bottom,
            },
        })
    }

    /// The windows of `grid` tokens that fill the canvas, in order: always the one next that sees most of what is known, and shares at least `overlap` rows or
    /// columns with it where the canvas allows.
    ///
    /// # Errors
    /// [`Error::Option`] when a window cannot have that overlap, or there would be too many of them.
    pub fn windows(&self, [rows, columns]: [usize; 2], overlap: usize) -> Result<Vec<Rectangle>> {
        let most = rows.min(columns).saturating_sub(1).max(1);
        if !(1..=most).contains(&overlap) {
            let expected = format!("1 to {most} tokens of the coarse grid");
            return Err(Error::option("overlap", overlap, expected));
        }
        let xs = starts(self.known.x, self.known.width, self.grid[1], columns, overlap);
        let ys = starts(self.known.y, self.known.height, self.grid[0], rows, overlap);
        if xs.len() * ys.len() > MAX_WINDOWS {
            let found = format!("{overlap}, which takes {} windows", xs.len() * ys.len());
            let expected = format!("one that takes at most {MAX_WINDOWS}; choose a smaller one");
            return Err(Error::option("overlap", found, expected));
        }
        let mut known = Mask::empty(self.grid[1], self.grid[0]);
        known.add(self.known)?;
        let window = |x, y| Rectangle { x, y, width: columns, height: rows };
        let mut open: Vec<Rectangle> =
            ys.iter().flat_map(|&y| xs.iter().map(move |&x| window(x, y))).collect();
        let mut order = Vec::new();
        loop {
            let count = |at: &Rectangle| known.cropped(*at).count();
            open.retain(|at| count(at) < rows * columns); // nothing is left to fill in the others
            let Some(next) = open.iter().copied().rev().max_by_key(count) else { return Ok(order) };
            known.add(next)?;
            order.push(next);
        }
    }
}

/// Where windows of `size` begin along an axis of `total` cells: from `known` cells at `start` outward, each
/// `overlap` cells into what the one before it has filled.
fn starts(start: usize, known: usize, total: usize, size: usize, overlap: usize) -> Vec<usize> {
    let last = total - size;
    let stride = (size - overlap).max(1);
    // Within the image, then to the right of it, then to the left.
    let end = start + known;
    let mut all: Vec<usize> = (start..end.max(start + 1)).step_by(stride).collect();
    all.push(end.saturating_sub(size));
    let mut right = end.saturating_sub(overlap);
    while right < total {
        all.push(right);
        right += stride;
    }
    let mut left = (start + overlap).saturating_sub(size);
    while left > 0 {
        all.push(left);
        left = left.saturating_sub(stride);
    }
    all.extend([0, last]);
    for at in &mut all {
        *at = (*at).min(last);
    }
    all.sort_unstable();
    all.dedup();
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every window is within the canvas and shares tokens with what is known before it; together they cover
    /// everything, and the image is cut out where it lies.
    #[test]
    fn windows_fill_any_canvas_from_the_image_outward() {
        let grid = [6, 8];
        let mut seen = 0;
        for (i, (width, height)) in [(16, 16), (96, 40), (128, 96), (300, 77), (64, 500)]
            .into_iter()
            .flat_map(|size| [size; 9])
            .enumerate()
        {
            let side = |k: usize| [0, 5, 16, 130, 333][(i * 7 + k * k) % 5];
            let margins = Margins { left: side(0), right: side(1), top: side(2), bottom: side(3) };
            let canvas = Canvas::new([width, height], margins, grid, 16).unwrap();
            let pixels = canvas.known.scaled(16);
            assert_eq!(canvas.crop.x + margins.left, pixels.x);
            assert_eq!(canvas.crop.y + margins.top, pixels.y);
            assert!(canvas.crop.x + canvas.crop.width <= 16 * canvas.grid[1]);
            assert!(canvas.crop.y + canvas.crop.height <= 16 * canvas.grid[0]);
            for overlap in 1..6 {
                let mut known = Mask::empty(canvas.grid[1], canvas.grid[0]);
                known.add(canvas.known).unwrap();
                for window in canvas.windows(grid, overlap).unwrap() {
                    assert_eq!([window.height, window.width], grid);
                    let shared = known.cropped(window).count();
                    assert!((1..48).contains(&shared), "{window} of {canvas:?}, overlap {overlap}");
                    known.add(window).unwrap();
                    seen += 1;
                }
                let missing = known.repaint.len() - known.count();
                assert_eq!(missing, 0, "{canvas:?}, overlap {overlap}");
            }
        }
        assert!(seen > 500, "{seen} windows");
    }

    #[test]
    fn a_strip_is_filled_with_the_overlap_asked_for() {
        let margins = Margins { right: 20 * 16, ..Margins::default() };
        let canvas = Canvas::new([128, 128], margins, [8, 8], 16).unwrap();
        let starts = |overlap| -> Vec<usize> {
            canvas.windows([8, 8], overlap).unwrap().iter().map(|window| window.x).collect()
        };
        assert_eq!(starts(4), [4, 8, 12, 16, 20]);
        assert_eq!(starts(1), [7, 14, 20]);
        let huge = Margins { right: 8000, bottom: 500, ..Margins::default() };
        let canvas = Canvas::new([128, 128], huge, [8, 8], 16).unwrap();
        let error = canvas.windows([8, 8], 7).unwrap_err().to_string();
        assert!(error.contains("overlap: 7") && error.contains("at most 4096"), "{error}");
    }

    #[test]
    fn tokens_are_marked_where_a_pixel_is() {
        let mut mask = Mask::empty(32, 16);
        mask.add(Rectangle { x: 7, y: 8, width: 2, height: 1 }).unwrap();
        assert_eq!(touched(&mask, [1, 2]), [true, false]);
        let fine = touched(&mask, [2, 4]);
        assert_eq!(fine, [false, false, false, false, true, true, false, false]);
        let [t, f] = [true, false];
        assert_eq!(refined(&[true, false], [1, 2], [2, 4]), [t, t, f, f, t, t, f, f]);
    }
}
