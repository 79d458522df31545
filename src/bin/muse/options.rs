//! What can be typed.

mod edits;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use muse::decode::{GuidanceSchedule, Order};
use muse::hub::Variant;
use muse::{DeviceChoice, Error, Overrides, Precision, Request, Result, Rng, Size};

pub use edits::{EditArgs, InpaintArgs, InterpolateArgs, OutpaintArgs, SeamArgs, VaryArgs};

/// Text to image with masked-token transformers (Muse).
#[derive(Parser)]
#[command(version, after_help = EXIT_CODES, propagate_version = true)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
    /// Write stages, decode steps and verbs with their times to this file, for ui.perfetto.dev or chrome://tracing
    /// (needs a build with --features spans; docs/profiling.md)
    #[arg(long, global = true, value_name = "FILE")]
    pub spans: Option<PathBuf>,
}

const EXIT_CODES: &str = "Exit codes: 0 done, 2 an option or prompt that cannot be used, 3 a model \
that cannot be used, 4 a file that cannot be read, written or fetched, 5 a device that is absent or failed.";

#[derive(Subcommand)]
pub enum Command {
    /// Make an image from a prompt
    #[command(after_help = EXAMPLES)]
    Generate(Box<GenerateArgs>),
    /// Repaint a part of an image
    #[command(after_help = edits::INPAINT)]
    Inpaint(Box<InpaintArgs>),
    /// Paint beyond the edges of an image
    #[command(after_help = edits::OUTPAINT)]
    Outpaint(Box<OutpaintArgs>),
    /// Change an image to fit a prompt, without a mask
    #[command(after_help = edits::EDIT)]
    Edit(Box<EditArgs>),
    /// Make images like another one
    Vary(Box<VaryArgs>),
    /// Make images on the way from one prompt to another
    Interpolate(Box<InterpolateArgs>),
    /// Fetch a model from the Hugging Face hub
    #[command(after_help = PULL)]
    Pull(PullArgs),
    /// Write a model anew, its weights packed, for starts without loading
    #[command(after_help = CONVERT)]
    Convert(ConvertArgs),
    /// Serve a page on this machine that shows the engine at work
    #[command(after_help = STUDIO)]
    Studio(StudioArgs),
    /// Show what a model is made of
    Info(InspectArgs),
    /// Read a whole model and verify every tensor
    Check(InspectArgs),
    /// Run every kernel's case table on this machine's device against the CPU and an f64 judge
    #[command(after_help = SELFTEST)]
    Selftest(SelftestArgs),
    /// Time every tile and split that a model's products can have on this GPU, and keep the fastest
    #[command(after_help = TUNE)]
    Tune(TuneArgs),
}

const EXAMPLES: &str = "Examples:
  muse generate \"two apples and a cat on a blue background\" -o out.png
  muse generate \"a frog in the sea\" --count 4 --grid -o frogs.png --preview frogs.gif
  muse generate --prompts prompts.txt -o images/ --json > log.json";

const SELFTEST: &str = "A case passes when its error against an f64 evaluation is at most twice that of \
a naive implementation in the same dtypes. The column \"worst\" is the largest error of all cases in \
percent of that; results that must be exact leave it at 0. Paste the table into an issue when something \
looks wrong on your GPU.";

#[derive(Args)]
pub struct SelftestArgs {
    /// Where to run: auto (the first GPU, else the processor; says which), cpu, cuda or cuda:N
    #[arg(long, value_name = "DEVICE", default_value = "auto")]
    pub device: DeviceChoice,
    /// Only this verb; may be given several times [default: all]
    #[arg(long = "verb", value_name = "VERB")]
    pub verbs: Vec<String>,
    /// Replace built-in kernels by the UNIT.ptx files of this folder
    #[arg(long, value_name = "FOLDER")]
    pub kernels: Option<PathBuf>,
}

const TUNE: &str = "Without a table the choices follow rules that come from a modelled bound, not from \
measurements. A table is good for one device, driver and build of muse. It holds the products that one image of \
this prompt takes; tune again with --prompt for much longer ones, or with another model: plans are added. Images \
do not depend on it beyond rounding.";

#[derive(Args)]
pub struct TuneArgs {
    /// Model directory [default: models/demo, beside the program or in a parent directory]
    #[arg(value_name = "MODEL")]
    pub model: Option<PathBuf>,
    /// The GPU: auto (the first), cuda or cuda:N
    #[arg(long, value_name = "DEVICE", default_value = "auto")]
    pub device: DeviceChoice,
    /// Table to write or add to [default: muse/plans-….json in the user's cache folder, where generate finds it]
    #[arg(long, value_name = "FILE")]
    pub cache: Option<PathBuf>,
    /// A prompt of the usual length
    #[arg(long, default_value = "two apples and a cat on a blue background")]
    pub prompt: String,
}

const PULL: &str = "The model's folder is printed; --model takes it, or the repository's name where it went into the \
hub's cache (HF_HOME, else ~/.cache/huggingface). An interrupted download goes on when the same command runs again.

Example:
  muse generate \"a cow on a hill\" --model \"$(muse pull amused/amused-256)\"";

#[derive(Args)]
#[cfg_attr(not(feature = "pull"), allow(dead_code))] // the others are named in --help
pub struct PullArgs {
    /// Repository: OWNER/NAME, as amused/amused-256
    pub repository: String,
    /// Branch, tag or commit
    #[arg(long, default_value = "main")]
    pub revision: String,
    /// Which weights: full or fp16 [default: full, else fp16]
    #[arg(long, value_parser = variant)]
    pub variant: Option<Variant>,
    /// Folder for the plain files [default: the hub's cache]
    #[arg(long, value_name = "DIR")]
    pub into: Option<PathBuf>,
}

const STUDIO: &str = "Prints the page's address. It answers its own page alone, by the names localhost and the address's: behind \
another one, say so with --host. A muse that was built without `--features studio` has no page.";

#[derive(Args)]
#[cfg_attr(not(feature = "studio"), allow(dead_code))] // the others are named in --help
pub struct StudioArgs {
    #[command(flatten)]
    pub model: ModelArgs,
    /// Where to run: auto (the first GPU, else the processor; says which), cpu, cuda or cuda:N
    #[arg(long, value_name = "DEVICE", default_value = "auto")]
    pub device: DeviceChoice,
    /// What to compute in: bf16, f32 or int8 (f32 and int8 on the processor)
    #[arg(long, default_value = "bf16")]
    pub dtype: Precision,
    /// Threads of the processor [default: all]
    #[arg(long)]
    pub threads: Option<usize>,
    /// Address to listen on
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:7860")]
    pub listen: std::net::SocketAddr,
    /// Another name that the page is opened by, as NAME or NAME:PORT
    #[arg(long, value_name = "NAME")]
    pub host: Vec<String>,
}

const CONVERT: &str = "The new folder gives the same images. It is for the processor, in that precision alone: keep the \
original for others and for GPUs.";

#[derive(Args)]
pub struct ConvertArgs {
    #[command(flatten)]
    pub model: ModelArgs,
    /// Folder to write; it must not exist
    #[arg(short, long, value_name = "DIR")]
    pub out: PathBuf,
    /// What it will compute in: bf16, f32 or int8
    #[arg(long, default_value = "bf16")]
    pub dtype: Precision,
}

fn variant(text: &str) -> std::result::Result<Variant, String> {
    match text {
        "full" => Ok(Variant::Full),
        "fp16" => Ok(Variant::Half),
        _ => Err("expected full or fp16".into()),
    }
}

#[derive(Args)]
pub struct ModelArgs {
    /// Model directory [default: models/demo, beside the program or in a parent directory]
    #[arg(long, value_name = "DIR")]
    pub model: Option<PathBuf>,
}

#[derive(Args)]
pub struct InspectArgs {
    /// Model directory [default: models/demo, beside the program or in a parent directory]
    #[arg(value_name = "MODEL")]
    pub model: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Args)]
pub struct GenerateArgs {
    /// What the image shows
    #[arg(required_unless_present = "prompts", conflicts_with = "prompts")]
    pub prompt: Option<String>,
    /// Read prompts from a file, one a line, and write DIR/0000.png, DIR/0001.png, …
    #[arg(long, value_name = "FILE")]
    pub prompts: Option<PathBuf>,
    #[command(flatten)]
    pub count: CountArgs,
    #[command(flatten)]
    pub sampling: SamplingArgs,
    #[command(flatten)]
    pub run: RunArgs,
}

#[derive(Args)]
pub struct CountArgs {
    /// Images per prompt
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub count: u32,
}

/// Where images are made, and where they go.
#[derive(Args)]
pub struct RunArgs {
    /// Image file to write (PNG); a directory where there are several images and no --grid
    #[arg(short, long, value_name = "PATH", default_value = "out.png")]
    pub output: PathBuf,
    /// Replace output files that exist
    #[arg(long)]
    pub force: bool,
    /// One sheet of all images instead of a file each
    #[arg(long)]
    pub grid: bool,
    /// Also write an animation of the decode, masked cells hatched (GIF; the first image)
    #[arg(long, value_name = "FILE")]
    pub preview: Option<PathBuf>,
    #[command(flatten)]
    pub model: ModelArgs,
    /// Where to run: auto (the first GPU, else the processor; says which), cpu, cuda or cuda:N (an NVIDIA
    /// GPU; never falls back to the processor)
    #[arg(long, value_name = "DEVICE", default_value = "auto")]
    pub device: DeviceChoice,
    /// What to compute in: bf16, or on the processor also f32, or int8 (weights and inputs of the transformers'
    /// products: faster and less exact, docs/int8.md)
    #[arg(long, value_name = "DTYPE", default_value_t)]
    pub dtype: Precision,
    /// Table of `muse tune` to use [default: the one of this device in the user's cache folder, where there is one]
    #[arg(long, value_name = "FILE")]
    pub cache: Option<PathBuf>,
    /// Threads of the CPU backend [default: all cores]; the image does not depend on it
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub threads: Option<u32>,
    /// Print one JSON object a line and image instead of the path
    #[arg(long)]
    pub json: bool,
}

/// How tokens are drawn.
#[derive(Args)]
pub struct SamplingArgs {
    /// Seed of the first image; each further image adds one
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Decode steps of the base stage [default: the model's]
    #[arg(long)]
    pub steps: Option<usize>,
    /// Guidance scale in the base stage, at its last step where it rises [default: the model's]
    #[arg(long, value_name = "SCALE")]
    pub guidance: Option<f32>,
    /// How guidance changes over the base steps: constant, linear (rises) or interval:FROM-TO (only between
    /// these parts of the loop, 0 to 1) [default: the model's]
    #[arg(long, value_name = "SCHEDULE", value_parser = guidance_schedule)]
    pub guidance_schedule: Option<GuidanceSchedule>,
    /// Which tokens a base step keeps: confidence, halton (spread evenly) or random [default: the model's]
    #[arg(long, value_parser = order)]
    pub order: Option<Order>,
    /// Temperature of the confidence noise in the base stage: of its first step, or FIRST,LAST [default: the
    /// model's]
    #[arg(long, value_name = "T", value_parser = temperature)]
    pub temperature: Option<(f32, Option<f32>)>,
    /// Temperature of the base token distribution, 0 for the most likely [default: the model's]
    #[arg(long, value_name = "T")]
    pub token_temperature: Option<f32>,
    /// Draw base tokens from the K most likely, 0 for all [default: the model's]
    #[arg(long, value_name = "K")]
    pub top_k: Option<usize>,
    /// Decode steps of the super-res stage [default: the model's]
    #[arg(long, value_name = "STEPS")]
    pub superres_steps: Option<usize>,
    /// What the image should not show
    #[arg(long, value_name = "PROMPT", default_value = "")]
    pub negative: String,
    /// How far to go: full, or base (the small image, without super-res); or WIDTHxHEIGHT in pixels (aMUSEd)
    #[arg(long, default_value = "full", value_parser = size)]
    pub size: Size,
    /// What aMUSEd is told of the picture: pixels cut off at its left and top [default: 0,0]
    #[arg(long, value_name = "LEFT,TOP", value_parser = crop)]
    pub crop: Option<[f32; 2]>,
    /// What aMUSEd is told of the picture: its aesthetic score [default: 6]
    #[arg(long, value_name = "SCORE")]
    pub aesthetic: Option<f32>,
    /// Where noise comes from: counter (ours), or torch (aMUSEd: the tokens of diffusers with
    /// torch.Generator("cpu") of the same seed)
    #[arg(long, default_value = "counter", value_parser = rng)]
    pub rng: Rng,
}

impl SamplingArgs {
    /// The request for `prompt`.
    pub fn request(&self, prompt: impl Into<String>) -> Request {
        Request {
            negative: self.negative.clone(),
            seed: self.seed,
            size: self.size,
            rng: self.rng,
            crop: self.crop,
            aesthetic: self.aesthetic,
            base: Overrides {
                steps: self.steps,
                guidance: self.guidance,
                guidance_schedule: self.guidance_schedule,
                order: self.order,
                temperature: self.temperature.map(|(first, _)| first),
                last_temperature: self.temperature.and_then(|(_, last)| last),
                token_temperature: self.token_temperature,
                top_k: self.top_k,
            },
            superres: Overrides { steps: self.superres_steps, ..Overrides::default() },
            ..Request::new(prompt)
        }
    }
}

/// `T`, or `FIRST,LAST`.
fn temperature(text: &str) -> std::result::Result<(f32, Option<f32>), String> {
    let number = |text: &str| text.trim().parse().ok();
    let parsed = match text.split_once(',') {
        Some((first, last)) => number(first).zip(number(last)).map(|(f, l)| (f, Some(l))),
        None => number(text).map(|first| (first, None)),
    };
    parsed.ok_or_else(|| "expected a number, or two: FIRST,LAST".into())
}

/// `full`, `base` or `WIDTHxHEIGHT`.
fn size(text: &str) -> std::result::Result<Size, String> {
    let pixels = || {
        let (width, height) = text.split_once(['x', '×'])?;
        Some(Size::Pixels([width.parse().ok()?, height.parse().ok()?]))
    };
    match text {
        "full" => Ok(Size::Full),
        "base" => Ok(Size::Base),
        _ => pixels().ok_or_else(|| "expected full, base or WIDTHxHEIGHT, as 512x512".into()),
    }
}

fn crop(text: &str) -> std::result::Result<[f32; 2], String> {
    let parsed = text
        .split_once(',')
        .and_then(|(left, top)| Some([left.trim().parse().ok()?, top.trim().parse().ok()?]));
    parsed.ok_or_else(|| "expected two numbers of pixels: LEFT,TOP".into())
}

fn rng(text: &str) -> std::result::Result<Rng, String> {
    match text {
        "counter" => Ok(Rng::Counter),
        "torch" => Ok(Rng::Torch),
        _ => Err("expected counter or torch".into()),
    }
}

fn order(text: &str) -> std::result::Result<Order, String> {
    match text {
        "confidence" => Ok(Order::Confidence),
        "halton" => Ok(Order::Halton),
        "random" => Ok(Order::Random),
        _ => Err("expected confidence, halton or random".into()),
    }
}

fn guidance_schedule(text: &str) -> std::result::Result<GuidanceSchedule, String> {
    let interval = || {
        let (from, to) = text.strip_prefix("interval:")?.split_once('-')?;
        Some(GuidanceSchedule::Interval([from.parse().ok()?, to.parse().ok()?]))
    };
    match text {
        "constant" => Ok(GuidanceSchedule::Constant),
        "linear" => Ok(GuidanceSchedule::Linear),
        _ => interval().ok_or_else(|| {
            "expected constant, linear or interval:FROM-TO, as interval:0.2-0.8".into()
        }),
    }
}

/// The model directory: the one given, or of that name in the hub's cache, else `models/demo` in the working directory, in the
/// program's directory or in a parent of either.
pub fn model_dir(given: Option<PathBuf>) -> Result<PathBuf> {
    if let Some(path) = given {
        #[cfg(feature = "pull")]
        if let (false, Some(name)) = (path.exists(), path.to_str()) {
            return Ok(muse::hub::cached(name).unwrap_or(path));
        }
        return Ok(path);
    }
    let program = std::env::current_exe().unwrap_or_default();
    let places = [std::env::current_dir().unwrap_or_default(), program];
    let found = places
        .iter()
        .flat_map(|place| place.ancestors())
        .map(|directory| directory.join("models/demo"))
        .find(|candidate| candidate.join("config.json").is_file());
    found.ok_or_else(|| Error::Model {
        path: "models/demo".into(),
        problem: "not found in the working directory, beside the program or in a parent of \
                  either; name a model directory"
            .into(),
    })
}
