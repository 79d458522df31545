//! Pictures and masks that go into an edit.

use std::path::PathBuf;

use muse::image::Rectangle;
use muse::{Image, Result};
use pyo3::prelude::*;
use pyo3::types::PyByteArray;

use crate::errors::{raised, unusable};

/// A picture in RGB, and which of its pixels were transparent.
#[pyclass(frozen, module = "muse._muse")]
pub struct Picture(pub muse::image::Picture);

#[pymethods]
impl Picture {
    /// Reads a PNG, JPEG or WebP file.
    #[staticmethod]
    fn open(py: Python<'_>, path: PathBuf) -> PyResult<Self> {
        let picture = py.detach(|| muse::image::Picture::open(path));
        picture.map(Picture).map_err(|error| raised(py, error))
    }

    /// Decodes such a file's bytes.
    #[staticmethod]
    fn decode(py: Python<'_>, bytes: &[u8]) -> PyResult<Self> {
        let picture = muse::image::Picture::decode(bytes, "the image");
        picture.map(Picture).map_err(|error| raised(py, error))
    }

    /// A picture of `rgb`, u8 [height*width*3].
    #[staticmethod]
    fn of(width: usize, height: usize, rgb: Vec<u8>) -> Self {
        let image = Image { width, height, rgb };
        Picture(muse::image::Picture { image, transparent: None })
    }
}

/// Which pixels are repainted.
#[pyclass(frozen, module = "muse._muse")]
pub struct Mask(muse::image::Mask);

#[pymethods]
impl Mask {
    /// The white pixels of a picture.
    #[staticmethod]
    fn white(picture: &Picture) -> Self {
        Mask(muse::image::Mask::of_image(&picture.0.image))
    }

    /// Those that are not 0, of u8 [height*width].
    #[staticmethod]
    fn of(width: usize, height: usize, repaint: Vec<u8>) -> Self {
        let repaint = repaint.into_iter().map(|byte| byte != 0).collect();
        Mask(muse::image::Mask { width, height, repaint })
    }
}

/// What is repainted of a picture: a mask, boxes (x, y, width, height), both, or else what is transparent.
pub fn mask_of(
    picture: &Picture,
    mask: Option<&Mask>,
    boxes: &[[usize; 4]],
) -> Result<muse::image::Mask> {
    let muse::image::Picture { image, transparent } = &picture.0;
    let mut mask = match mask {
        Some(mask) => mask.0.clone(),
        None if !boxes.is_empty() => muse::image::Mask::empty(image.width, image.height),
        None => transparent.clone().ok_or_else(|| {
            let expected = "a mask, boxes, or an image with an alpha channel";
            unusable("mask", "an image without transparent parts", expected)
        })?,
    };
    for &[x, y, width, height] in boxes {
        mask.add(Rectangle { x, y, width, height })?;
    }
    Ok(mask)
}

/// Bytes that Python owns, once, and NumPy can look at without a copy.
pub fn bytes<'py, T: bytemuck::NoUninit>(py: Python<'py>, from: &[T]) -> Bound<'py, PyByteArray> {
    PyByteArray::new(py, bytemuck::cast_slice(from))
}

/// Width, height and RGB.
pub type Pixels<'py> = (usize, usize, Bound<'py, PyByteArray>);

/// A picture's pixels for Python.
pub fn pixels<'py>(py: Python<'py>, image: &Image) -> Pixels<'py> {
    (image.width, image.height, bytes(py, &image.rgb))
}
