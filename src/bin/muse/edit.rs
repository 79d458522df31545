//! `muse inpaint`, `outpaint`, `edit`, `vary` and `interpolate`.

use std::path::Path;

use muse::edit::{Change, Edit, Margins};
use muse::image::{Mask, Picture, Rectangle};
use muse::{Error, Request, Result, Toward};

use crate::images::{Batch, make};
use crate::options::{EditArgs, InpaintArgs, InterpolateArgs, OutpaintArgs, SeamArgs, VaryArgs};

pub fn inpaint(arguments: Box<InpaintArgs>) -> Result<()> {
    let InpaintArgs { image, prompt, mask, boxes, strength, seam, fit, count, sampling, run } =
        *arguments;
    let picture = Picture::open(&image)?;
    let mask = mask_of(&picture, mask.as_deref(), &boxes)?;
    let change = Change::Inpaint { mask, strength };
    let edit = Edit { fit: fit.fit, ..with_seam(picture, change, &seam) };
    let request = Request { edit: Some(edit), ..sampling.request(prompt) };
    make(&run, Batch { requests: vec![request], count: count.count, directory: false })
}

pub fn outpaint(arguments: Box<OutpaintArgs>) -> Result<()> {
    let OutpaintArgs { left, right, top, bottom, overlap, .. } = *arguments;
    let margins = Margins { left, right, top, bottom };
    let picture = Picture::open(&arguments.image)?;
    let edit = with_seam(picture, Change::Outpaint { margins, overlap }, &arguments.seam);
    let request = Request { edit: Some(edit), ..arguments.sampling.request(arguments.prompt) };
    let count = arguments.count.count;
    make(&arguments.run, Batch { requests: vec![request], count, directory: false })
}

pub fn edit(arguments: Box<EditArgs>) -> Result<()> {
    let EditArgs { iterations, fraction, preserve, strength, .. } = *arguments;
    let change = match strength {
        Some(strength) => Change::Repaint { strength },
        None => Change::Resample { iterations, fraction, preserve },
    };
    let picture = Picture::open(&arguments.image)?;
    let edit = Edit { fit: arguments.fit.fit, ..Edit::new(picture.image, change) };
    let request = Request { edit: Some(edit), ..arguments.sampling.request(arguments.prompt) };
    let count = arguments.count.count;
    make(&arguments.run, Batch { requests: vec![request], count, directory: false })
}

pub fn vary(arguments: Box<VaryArgs>) -> Result<()> {
    let VaryArgs { image, prompt, strength, fit, count, sampling, run } = *arguments;
    let picture = Picture::open(&image)?;
    let edit = Edit { fit: fit.fit, ..Edit::new(picture.image, Change::Repaint { strength }) };
    let unguided = prompt.trim().is_empty();
    let mut request = Request { edit: Some(edit), ..sampling.request(prompt) };
    if unguided {
        // No prompt to lead towards.
        request.base.guidance = request.base.guidance.or(Some(1.0));
    }
    make(&run, Batch { requests: vec![request], count: count.count, directory: false })
}

pub fn interpolate(arguments: Box<InterpolateArgs>) -> Result<()> {
    let InterpolateArgs { from, to, frames, sampling, run } = *arguments;
    let request = |frame| {
        let part = frame as f32 / (frames - 1) as f32;
        let toward = Some(Toward { prompt: to.clone(), part });
        Request { toward, ..sampling.request(&from) }
    };
    make(&run, Batch { requests: (0..frames).map(request).collect(), count: 1, directory: true })
}

/// What is to be repainted: a mask image, rectangles, both, or else what is transparent.
fn mask_of(picture: &Picture, mask: Option<&Path>, boxes: &[Rectangle]) -> Result<Mask> {
    let mut mask = match mask {
        Some(path) => Mask::of_image(&Picture::open(path)?.image),
        None if !boxes.is_empty() => Mask::empty(picture.image.width, picture.image.height),
        None => picture.transparent.clone().ok_or_else(|| Error::Option {
            name: "mask",
            found: "an image without transparent parts".into(),
            expected: "--mask IMAGE, --box X,Y,WIDTH,HEIGHT, or an image with an alpha channel"
                .into(),
        })?,
    };
    boxes.iter().try_for_each(|&rectangle| mask.add(rectangle))?;
    Ok(mask)
}

fn with_seam(picture: Picture, change: Change, seam: &SeamArgs) -> Edit {
    let SeamArgs { feather, decoded } = *seam;
    Edit { feather, decoded, ..Edit::new(picture.image, change) }
}
