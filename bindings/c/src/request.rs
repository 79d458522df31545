//! `muse_request`, and the engine's request that it means.

use std::ffi::{c_char, c_void};
use std::mem::offset_of;

use muse::decode::{GuidanceSchedule, Order};
use muse::edit::{Change, Edit, Margins};
use muse::image::{Fit, Mask};
use muse::{Image, Overrides, Result, Rng, Size, Toward};

use crate::engine::Cancel;
use crate::numbers::*;
use crate::sized::{self, Grows};
use crate::status::{guarded, unusable};
use crate::step::OnStep;

/// What to generate or to edit. muse_request_init fills it; then set what differs. Texts, pictures, callback and
/// cancel stay the caller's, and must stay as they are until muse_generate returns. A number that is NAN, where this
/// is said of it, is the model's own.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Request {
    /// sizeof(muse_request).
    pub size: usize,
    /// What the image shows. An edit may do without.
    pub prompt: *const c_char,
    /// What guidance leads away from, or NULL.
    pub negative: *const c_char,
    /// A second prompt, or NULL.
    pub toward: *const c_char,
    /// How far towards it, 0 to 1.
    pub toward_part: f32,
    /// How many images, of this seed and those that follow it.
    pub count: u32,
    /// Seed of all noise: the same seed gives the same image.
    pub seed: u64,
    /// MUSE_SIZE_*
    pub size_of_image: u32,
    /// With MUSE_SIZE_PIXELS.
    pub width: u32,
    /// With MUSE_SIZE_PIXELS.
    pub height: u32,
    /// MUSE_RNG_*
    pub rng: u32,
    /// What aMUSEd is told of the picture: pixels cut off at its left; NAN.
    pub crop_left: f32,
    /// The same at its top; NAN where crop_left is.
    pub crop_top: f32,
    /// What aMUSEd is told of the picture: its aesthetic score; NAN.
    pub aesthetic: f32,
    /// Decode steps of the base stage; 0 for the model's.
    pub steps: u32,
    /// Decode steps of the super-res stage; 0 for the model's.
    pub superres_steps: u32,
    /// Guidance scale of the base stage, as those that follow; NAN.
    pub guidance: f32,
    /// MUSE_SCHEDULE_*
    pub guidance_schedule: u32,
    /// With MUSE_SCHEDULE_INTERVAL, a part of the loop, 0 to 1.
    pub guidance_from: f32,
    /// With MUSE_SCHEDULE_INTERVAL, a part of the loop, 0 to 1.
    pub guidance_to: f32,
    /// MUSE_ORDER_*
    pub order: u32,
    /// Temperature of the confidence noise; NAN.
    pub temperature: f32,
    /// That of the last step; NAN.
    pub last_temperature: f32,
    /// Temperature of the token distribution, 0 for the most likely one; NAN.
    pub token_temperature: f32,
    /// Tokens are drawn from so many of the most likely ones; 0 for all, less for the model's.
    pub top_k: i32,
    /// MUSE_CHANGE_*
    pub change: u32,
    /// The image to change, rows of RGB bytes from the top, without gaps.
    pub image: *const u8,
    /// Its columns.
    pub image_width: u32,
    /// Its rows.
    pub image_height: u32,
    /// A byte for every pixel of the image; those other than 0 are repainted (MUSE_CHANGE_INPAINT).
    pub mask: *const u8,
    /// MUSE_FIT_*
    pub fit: u32,
    /// Pixels over which the new fades into the old.
    pub feather: u32,
    /// Other than 0: the picture as decoded, without the original's pixels.
    pub decoded: u32,
    /// The part of the steps that run, 0 to 1.
    pub strength: f32,
    /// Pixels to add at the left (MUSE_CHANGE_OUTPAINT).
    pub left: u32,
    /// At the right.
    pub right: u32,
    /// Above.
    pub top: u32,
    /// Below.
    pub bottom: u32,
    /// Tokens of the coarse grid that a window shares with what is known; 0 for half of the grid.
    pub overlap: u32,
    /// Rounds of MUSE_CHANGE_RESAMPLE.
    pub iterations: u32,
    /// Part of the tokens that a round draws anew.
    pub fraction: f32,
    /// How much less often tokens are drawn anew that the prompt explains well.
    pub preserve: f32,
    /// Called after every step of every image, or NULL.
    pub on_step: OnStep,
    /// Given to on_step.
    pub user: *mut c_void,
    /// What cancels the request from another thread, or NULL.
    pub cancel: *const Cancel,
}

// SAFETY: its first field is the size, and numbers and pointers have no forbidden values.
unsafe impl Grows for Request {
    const NAME: &'static str = "request";
    const FIRST: usize = offset_of!(Request, cancel) + size_of::<*const Cancel>();
}

impl Request {
    fn new() -> Self {
        Request {
            size: size_of::<Request>(),
            prompt: std::ptr::null(),
            negative: std::ptr::null(),
            toward: std::ptr::null(),
            toward_part: 0.0,
            count: 1,
            seed: 0,
            size_of_image: MUSE_SIZE_FULL,
            width: 0,
            height: 0,
            rng: MUSE_RNG_COUNTER,
            crop_left: f32::NAN,
            crop_top: f32::NAN,
            aesthetic: f32::NAN,
            steps: 0,
            superres_steps: 0,
            guidance: f32::NAN,
            guidance_schedule: MUSE_SCHEDULE_MODEL,
            guidance_from: 0.0,
            guidance_to: 1.0,
            order: MUSE_ORDER_MODEL,
            temperature: f32::NAN,
            last_temperature: f32::NAN,
            token_temperature: f32::NAN,
            top_k: -1,
            change: MUSE_CHANGE_NONE,
            image: std::ptr::null(),
            image_width: 0,
            image_height: 0,
            mask: std::ptr::null(),
            fit: MUSE_FIT_CROP,
            feather: Edit::FEATHER as u32,
            decoded: 0,
            strength: 1.0,
            left: 0,
            right: 0,
            top: 0,
            bottom: 0,
            overlap: 0,
            iterations: Change::ITERATIONS as u32,
            fraction: Change::FRACTION,
            preserve: 0.0,
            on_step: None,
            user: std::ptr::null_mut(),
            cancel: std::ptr::null(),
        }
    }

    /// Reads a caller's.
    ///
    /// # Safety
    /// As of [`sized::read`].
    pub unsafe fn read(from: *const Request) -> Result<Request> {
        // SAFETY: the caller's word.
        unsafe { sized::read(from, Request::new()) }
    }

    /// The engine's request.
    ///
    /// # Safety
    /// Every pointer is NULL or good, as the fields have it.
    pub unsafe fn meant(&self) -> Result<muse::Request> {
        // SAFETY: the caller's word.
        let (prompt, negative, toward, cancel) = unsafe {
            (
                sized::text("prompt", self.prompt)?,
                sized::text("negative", self.negative)?,
                sized::text("toward", self.toward)?,
                self.cancel.as_ref(),
            )
        };
        let toward = toward.map(|prompt| Toward { prompt: prompt.into(), part: self.toward_part });
        let crop = [self.crop_left, self.crop_top];
        let pixels = Size::Pixels([self.width, self.height].map(|n| n as usize));
        Ok(muse::Request {
            toward,
            negative: negative.unwrap_or_default().into(),
            seed: self.seed,
            size: choice("size_of_image", self.size_of_image, [Size::Full, Size::Base, pixels])?,
            rng: choice("rng", self.rng, [Rng::Counter, Rng::Torch])?,
            crop: crop.iter().any(|margin| !margin.is_nan()).then_some(crop),
            aesthetic: given(self.aesthetic),
            base: self.base()?,
            superres: Overrides { steps: steps(self.superres_steps), ..Overrides::default() },
            // SAFETY: the caller's word.
            edit: unsafe { self.edit() }?,
            cancel: cancel.map(|cancel| cancel.0.clone()),
            ..muse::Request::new(prompt.unwrap_or_default())
        })
    }

    fn base(&self) -> Result<Overrides> {
        let interval = GuidanceSchedule::Interval([self.guidance_from, self.guidance_to]);
        let [constant, linear] = [GuidanceSchedule::Constant, GuidanceSchedule::Linear];
        let schedules = [None, Some(constant), Some(linear), Some(interval)];
        let orders = [None, Some(Order::Confidence), Some(Order::Halton), Some(Order::Random)];
        Ok(Overrides {
            steps: steps(self.steps),
            guidance: given(self.guidance),
            guidance_schedule: choice("guidance_schedule", self.guidance_schedule, schedules)?,
            order: choice("order", self.order, orders)?,
            temperature: given(self.temperature),
            last_temperature: given(self.last_temperature),
            token_temperature: given(self.token_temperature),
            top_k: usize::try_from(self.top_k).ok(),
        })
    }

    /// # Safety
    /// As of [`Request::meant`].
    unsafe fn edit(&self) -> Result<Option<Edit>> {
        let [width, height, left, right, top, bottom, overlap, iterations] = [
            self.image_width,
            self.image_height,
            self.left,
            self.right,
            self.top,
            self.bottom,
            self.overlap,
            self.iterations,
        ]
        .map(|n| n as usize);
        let pixels = width.checked_mul(height);
        // SAFETY: the caller's word.
        let (rgb, mask) = unsafe {
            let rgb = sized::bytes("image", self.image, pixels.and_then(|n| n.checked_mul(3)))?;
            (rgb, sized::bytes("mask", self.mask, pixels)?)
        };
        let strength = self.strength;
        let repaint = || mask.unwrap_or_default().iter().map(|&byte| byte != 0).collect();
        let change = match self.change {
            MUSE_CHANGE_NONE if rgb.is_some() => {
                return Err(unusable("change", "none of an image", "an image only with a change"));
            }
            MUSE_CHANGE_NONE => return Ok(None),
            MUSE_CHANGE_INPAINT if mask.is_none() => return Err(sized::null("mask")),
            MUSE_CHANGE_INPAINT => {
                Change::Inpaint { mask: Mask { width, height, repaint: repaint() }, strength }
            }
            MUSE_CHANGE_OUTPAINT => Change::Outpaint {
                margins: Margins { left, right, top, bottom },
                overlap: (overlap > 0).then_some(overlap),
            },
            MUSE_CHANGE_REPAINT => Change::Repaint { strength },
            MUSE_CHANGE_RESAMPLE => {
                Change::Resample { iterations, fraction: self.fraction, preserve: self.preserve }
            }
            unknown => return Err(unusable("change", unknown, "0 to 4, as the header names them")),
        };
        let rgb = rgb.ok_or_else(|| sized::null("image"))?.to_vec();
        Ok(Some(Edit {
            fit: choice("fit", self.fit, [Fit::Crop, Fit::Stretch])?,
            feather: self.feather as usize,
            decoded: self.decoded != 0,
            ..Edit::new(Image { width, height, rgb }, change)
        }))
    }
}

/// Fills a request with what is usual: one image, seed 0, the model's own settings, no edit.
///
/// size is sizeof(muse_request).
///
/// request is NULL or points to that many bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn muse_request_init(request: *mut Request, size: usize) -> Status {
    guarded(|| {
        if request.is_null() {
            return Err(sized::null(Request::NAME));
        }
        if !(Request::FIRST..=sized::MOST).contains(&size) {
            return Err(sized::wrong_size::<Request>(size));
        }
        // SAFETY: the caller's word; what a longer one has beyond ours is zero.
        unsafe {
            std::ptr::write_bytes(request.cast::<u8>(), 0, size);
            request.cast::<usize>().write(size);
            sized::write(request, &Request::new())
        }
    })
}

/// A number that is not the model's own.
fn given(number: f32) -> Option<f32> {
    (!number.is_nan()).then_some(number)
}

/// Steps that are not the model's own.
fn steps(steps: u32) -> Option<usize> {
    (steps > 0).then_some(steps as usize)
}

/// One of the values that a number stands for.
fn choice<T: Copy, const N: usize>(name: &'static str, number: u32, values: [T; N]) -> Result<T> {
    let value = values.get(number as usize).copied();
    value.ok_or_else(|| unusable(name, number, format!("0 to {}, as the header names them", N - 1)))
}
