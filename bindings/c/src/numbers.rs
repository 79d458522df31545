//! The numbers of the header.

/// Version of this interface: it changes when a program must be compiled anew.
pub const MUSE_ABI_VERSION: u32 = 1;

/// What a call returns: MUSE_OK, or one of the codes below. All but MUSE_PANIC are also the exit codes of the
/// program `muse`. More may be added.
pub type Status = i32;

/// It is done.
pub const MUSE_OK: Status = 0;
/// An argument, an option or a field of a request cannot be used: NULL, text that is not UTF-8, a wrong size too.
pub const MUSE_OPTION: Status = 2;
/// The model cannot be used.
pub const MUSE_MODEL: Status = 3;
/// A file could not be read.
pub const MUSE_IO: Status = 4;
/// The device is absent or failed.
pub const MUSE_DEVICE: Status = 5;
/// A bug of the library; the engine goes on.
pub const MUSE_PANIC: Status = 101;
/// The callback returned other than 0, or muse_cancel_now was called.
pub const MUSE_CANCELLED: Status = 130;

/// muse_request.size_of_image: as large as the model makes it.
pub const MUSE_SIZE_FULL: u32 = 0;
/// muse_request.size_of_image: the base stage alone, without super-res.
pub const MUSE_SIZE_BASE: u32 = 1;
/// muse_request.size_of_image: width and height (aMUSEd).
pub const MUSE_SIZE_PIXELS: u32 = 2;

/// muse_request.rng: muse's own noise.
pub const MUSE_RNG_COUNTER: u32 = 0;
/// muse_request.rng: PyTorch's on the processor, for diffusers' tokens (aMUSEd).
pub const MUSE_RNG_TORCH: u32 = 1;

/// muse_request.guidance_schedule: the model's.
pub const MUSE_SCHEDULE_MODEL: u32 = 0;
/// muse_request.guidance_schedule: the same scale at every step.
pub const MUSE_SCHEDULE_CONSTANT: u32 = 1;
/// muse_request.guidance_schedule: it rises.
pub const MUSE_SCHEDULE_LINEAR: u32 = 2;
/// muse_request.guidance_schedule: only between the parts guidance_from and guidance_to of the loop.
pub const MUSE_SCHEDULE_INTERVAL: u32 = 3;

/// muse_request.order: the model's.
pub const MUSE_ORDER_MODEL: u32 = 0;
/// muse_request.order: the most confident tokens are kept.
pub const MUSE_ORDER_CONFIDENCE: u32 = 1;
/// muse_request.order: those that spread evenly over the grid.
pub const MUSE_ORDER_HALTON: u32 = 2;
/// muse_request.order: random ones.
pub const MUSE_ORDER_RANDOM: u32 = 3;

/// muse_request.change: nothing, a new image.
pub const MUSE_CHANGE_NONE: u32 = 0;
/// muse_request.change: repaints the pixels of the mask. Of strength 1, but for aMUSEd.
pub const MUSE_CHANGE_INPAINT: u32 = 1;
/// muse_request.change: paints beyond the image's edges, by left, right, top and bottom.
pub const MUSE_CHANGE_OUTPAINT: u32 = 2;
/// muse_request.change: image to image and variations. Forgets a part of the tokens, by strength. Without a prompt to
/// lead towards set guidance to 1.
pub const MUSE_CHANGE_REPAINT: u32 = 3;
/// muse_request.change: mask-free editing (Muse, section 3.3.2), by iterations, fraction and preserve.
pub const MUSE_CHANGE_RESAMPLE: u32 = 4;

/// muse_request.fit: the largest part of the model's proportions, from the middle.
pub const MUSE_FIT_CROP: u32 = 0;
/// muse_request.fit: all of the image, stretched.
pub const MUSE_FIT_STRETCH: u32 = 1;
