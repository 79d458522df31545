//! What a callback sees of a step.

use std::ffi::{c_char, c_void};
use std::ops::ControlFlow;

use crate::status::text;

/// Called after every step, on the thread that called muse_generate; other than 0 cancels. What it is given lasts
/// until it returns. It may use the engine, and other requests of the engine wait for it.
pub type OnStep = Option<unsafe extern "C" fn(step: *const Step, user: *mut c_void) -> i32>;

/// A decode step. Fields are added at its end; a program that knows more of them than the library must look at the
/// size.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Step {
    /// Its size in this library.
    pub size: usize,
    /// "base" or "superres".
    pub stage: *const c_char,
    /// Step, from 0.
    pub step: u32,
    /// Steps of this stage.
    pub steps: u32,
    /// Window that is being decoded, from 0; only outpainting has several.
    pub window: u32,
    /// Windows of this stage.
    pub windows: u32,
    /// Image of those that are decoded side by side, from 0: each step is seen once for every image.
    pub image: u32,
    /// Images that are decoded side by side.
    pub images: u32,
    /// Rows of the token grid: of the whole image.
    pub rows: u32,
    /// Columns of it.
    pub columns: u32,
    /// rows x columns token ids, row by row from the top.
    pub tokens: *const u32,
    /// The id of a token that is still masked.
    pub mask_token: u32,
    /// How many tokens still are.
    pub masked: u32,
    /// Time this step took, in nanoseconds.
    pub nanoseconds: u64,
    /// The library's own, for muse_preview.
    pub origin: *const c_void,
    /// What the draws of this step were compared by, row by row; NaN where none was drawn.
    pub confidence: *const f32,
}

/// Shows a step to a callback; `Break` where it cancels.
pub fn show(
    step: &muse::decode::Step<'_>,
    on_step: unsafe extern "C" fn(*const Step, *mut c_void) -> i32,
    user: *mut c_void,
) -> ControlFlow<()> {
    let stage = text(step.stage);
    let [rows, columns] = step.grid.map(|n| n as u32);
    let seen = Step {
        size: size_of::<Step>(),
        stage: stage.as_ptr(),
        step: step.step as u32,
        steps: step.steps as u32,
        window: step.window as u32,
        windows: step.windows as u32,
        image: step.image as u32,
        images: step.images as u32,
        rows,
        columns,
        tokens: step.tokens.as_ptr(),
        mask_token: step.mask_token,
        masked: step.tokens.iter().filter(|&&token| token == step.mask_token).count() as u32,
        nanoseconds: u64::try_from(step.elapsed.as_nanos()).unwrap_or(u64::MAX),
        origin: std::ptr::from_ref(step).cast(),
        confidence: step.confidence.as_ptr(),
    };
    // SAFETY: the caller gave a function of this type, and all that it is shown outlives the call.
    match unsafe { on_step(&seen, user) } {
        0 => ControlFlow::Continue(()),
        _ => ControlFlow::Break(()),
    }
}
