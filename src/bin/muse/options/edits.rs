//! What can be typed to edit an image.

use std::path::PathBuf;

use clap::Args;
use muse::edit::{Change, Edit};
use muse::image::{Fit, Rectangle};

use super::{CountArgs, RunArgs, SamplingArgs};

pub const INPAINT: &str = "Examples:
  muse inpaint scene.png --box 40,60,48,48 \"a dog\" -o edited.png
  muse inpaint scene.png --mask mask.png \"a dog\" --count 4 --grid
Tokens that the mask does not touch stay as they are, and so do pixels beyond its seam.";

pub const OUTPAINT: &str = "Example:
  muse outpaint scene.png --left 64 --right 64 \"a frog in the sea\" -o wide.png";

pub const EDIT: &str = "Examples:
  muse edit scene.png \"two apples and a dog\" -o edited.png --preview edit.gif
  muse edit scene.png \"two apples and a dog\" --strength 0.7
Without --strength a few tokens are drawn anew again and again (Muse, section 3.3.2); with it, part of the
image is forgotten at once and decoded from the middle of the schedule on.";

/// How an image of another shape is brought to the model's.
#[derive(Args)]
pub struct FitArgs {
    /// An image of another shape: crop (the largest part from its middle) or stretch
    #[arg(long, default_value = "crop", value_parser = fit)]
    pub fit: Fit,
}

/// How the new pixels meet the old.
#[derive(Args)]
pub struct SeamArgs {
    /// Pixels beside the new ones over which they fade into the image
    #[arg(long, value_name = "PIXELS", default_value_t = Edit::FEATHER)]
    pub feather: usize,
    /// Write the picture as decoded, without the image's own pixels
    #[arg(long)]
    pub decoded: bool,
}

#[derive(Args)]
pub struct InpaintArgs {
    /// Image to change (PNG, JPEG or WebP)
    pub image: PathBuf,
    /// What the whole image shows afterwards
    pub prompt: String,
    /// Image of the same size, white where it is repainted [default: the transparent parts of IMAGE]
    #[arg(long, value_name = "IMAGE")]
    pub mask: Option<PathBuf>,
    /// Repaint this rectangle of pixels too; may be given several times
    #[arg(long = "box", value_name = "X,Y,WIDTH,HEIGHT", value_parser = rectangle)]
    pub boxes: Vec<Rectangle>,
    /// The part of the decode steps that run, 0 to 1 (aMUSEd)
    #[arg(long, default_value_t = 1.0)]
    pub strength: f32,
    #[command(flatten)]
    pub seam: SeamArgs,
    #[command(flatten)]
    pub fit: FitArgs,
    #[command(flatten)]
    pub count: CountArgs,
    #[command(flatten)]
    pub sampling: SamplingArgs,
    #[command(flatten)]
    pub run: RunArgs,
}

#[derive(Args)]
pub struct OutpaintArgs {
    /// Image to enlarge (PNG, JPEG or WebP)
    pub image: PathBuf,
    /// What the whole image shows afterwards
    pub prompt: String,
    /// Pixels to add left of it
    #[arg(long, value_name = "PIXELS", default_value_t = 0)]
    pub left: usize,
    /// Pixels to add right of it
    #[arg(long, value_name = "PIXELS", default_value_t = 0)]
    pub right: usize,
    /// Pixels to add above it
    #[arg(long, value_name = "PIXELS", default_value_t = 0)]
    pub top: usize,
    /// Pixels to add below it
    #[arg(long, value_name = "PIXELS", default_value_t = 0)]
    pub bottom: usize,
    /// Tokens of the coarse grid that a window shares with what is known [default: half of the grid]
    #[arg(long, value_name = "TOKENS")]
    pub overlap: Option<usize>,
    #[command(flatten)]
    pub seam: SeamArgs,
    #[command(flatten)]
    pub count: CountArgs,
    #[command(flatten)]
    pub sampling: SamplingArgs,
    #[command(flatten)]
    pub run: RunArgs,
}

#[derive(Args)]
pub struct EditArgs {
    /// Image to change (PNG, JPEG or WebP)
    pub image: PathBuf,
    /// What it shows afterwards
    pub prompt: String,
    /// Rounds; fewer give what more of them pass through
    #[arg(long, value_name = "ROUNDS", default_value_t = Change::ITERATIONS)]
    pub iterations: usize,
    /// Part of the tokens that a round draws anew
    #[arg(long, default_value_t = Change::FRACTION)]
    pub fraction: f32,
    /// Draw tokens anew less often that the prompt explains: 0 (all alike) to 10
    #[arg(long, value_name = "WEIGHT", default_value_t = 0.0)]
    pub preserve: f32,
    /// Image to image instead: the part of the decode steps that run, 0 to 1
    #[arg(long, conflicts_with_all = ["iterations", "fraction", "preserve"])]
    pub strength: Option<f32>,
    #[command(flatten)]
    pub fit: FitArgs,
    #[command(flatten)]
    pub count: CountArgs,
    #[command(flatten)]
    pub sampling: SamplingArgs,
    #[command(flatten)]
    pub run: RunArgs,
}

#[derive(Args)]
pub struct VaryArgs {
    /// Image to vary (PNG, JPEG or WebP)
    pub image: PathBuf,
    /// What it shows, if that is to guide the variations
    #[arg(long, default_value = "", hide_default_value = true)]
    pub prompt: String,
    /// How far from it: the part of the decode steps that run, 0 to 1
    #[arg(long, default_value_t = 0.5)]
    pub strength: f32,
    #[command(flatten)]
    pub fit: FitArgs,
    #[command(flatten)]
    pub count: CountArgs,
    #[command(flatten)]
    pub sampling: SamplingArgs,
    #[command(flatten)]
    pub run: RunArgs,
}

#[derive(Args)]
pub struct InterpolateArgs {
    /// What the first image shows
    pub from: String,
    /// What the last image shows
    pub to: String,
    /// Images, all of the same seed
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(2..=1024))]
    pub frames: u32,
    #[command(flatten)]
    pub sampling: SamplingArgs,
    #[command(flatten)]
    pub run: RunArgs,
}

fn fit(text: &str) -> std::result::Result<Fit, String> {
    match text {
        "crop" => Ok(Fit::Crop),
        "stretch" => Ok(Fit::Stretch),
        _ => Err("expected crop or stretch".into()),
    }
}

/// `x,y,width,height`.
fn rectangle(text: &str) -> std::result::Result<Rectangle, String> {
    let numbers: Vec<Option<usize>> = text.split(',').map(|n| n.trim().parse().ok()).collect();
    match numbers[..] {
        [Some(x), Some(y), Some(width), Some(height)] => Ok(Rectangle { x, y, width, height }),
        _ => Err("expected four numbers of pixels: x,y,width,height".into()),
    }
}
