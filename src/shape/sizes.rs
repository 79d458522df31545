//! The sizes of the shapes that have names.

use serde::de::DeserializeOwned;

use super::{Sizes, Stage};
use crate::config::{CoarseConfig, Config, TransformerConfig, VqConfig};
use crate::decode::{DecodeOptions, GuidanceSchedule, Order};

/// Shapes that have names.
///
/// The paper's (arXiv 2301.00704): `muse-3b` is the base of App. A.1, `muse-superres` the second stage of
/// App. A.3, `muse-632m` a base of the size that Table 1 names, by our reading 36 layers of 1024 channels.
/// Open there and chosen here: heads of 128 channels (`muse-632m` and super-res: 64), blocks of 8 × 8 in
/// multi-axis attention, the VQ decoder's channel multipliers and 256 channels of a code, texts of 77 states.
/// `amused-256` and `amused-512` are the published configs, `demo` is `models/demo`.
pub const NAMES: [&str; 6] =
    ["muse-3b", "muse-superres", "muse-632m", "amused-256", "amused-512", "demo"];

const AMUSED: &str = include_str!("../../tools/fixtures/models.json");
const DEMO: &str = include_str!("demo.json");

/// The sizes of the shape called `name`.
pub(super) fn of(name: &str) -> Option<Sizes> {
    let base = |layers, hidden, heads| Sizes::Muse {
        text: None,
        stages: vec![Stage {
            name: "base",
            transformer: transformer([layers, hidden, heads], [16, 16], 24),
            vq: vq(&[128, 128, 256, 256, 512]),
        }],
    };
    Some(match name {
        "muse-3b" => base(48, 2048, 16),
        "muse-632m" => base(36, 1024, 16),
        "muse-superres" => {
            let mut transformer = transformer([32, 1024, 16], [64, 64], 8);
            transformer.multi_axis = Some([8, 8]);
            transformer.coarse = Some(CoarseConfig {
                codebook_size: 8192,
                grid: [16, 16],
                num_layers: 16,
                in_place: true,
            });
            let vq = vq(&[128, 128, 256, 512]);
            Sizes::Muse { text: None, stages: vec![Stage { name: "superres", transformer, vq }] }
        }
        "amused-256" | "amused-512" => Sizes::Amused {
            text: published("text_encoder", name),
            transformer: Box::new(published("transformer", name)),
            vq: Box::new(published("vqvae", name)),
        },
        "demo" => Sizes::from(serde_json::from_str::<Config>(DEMO).expect("a config")),
        _ => return None,
    })
}

impl From<Config> for Sizes {
    fn from(config: Config) -> Self {
        let base = Stage { name: "base", transformer: config.base, vq: config.vq_base };
        let superres = config.superres.zip(config.vq_superres).map(|(transformer, vq)| Stage {
            name: "superres",
            transformer,
            vq,
        });
        let stages = std::iter::once(base).chain(superres).collect();
        Sizes::Muse { text: Some(config.text_encoder), stages }
    }
}

fn transformer(
    [layers, hidden, heads]: [usize; 3],
    grid: [usize; 2],
    steps: usize,
) -> TransformerConfig {
    TransformerConfig {
        hidden_size: hidden,
        num_layers: layers,
        num_heads: heads,
        mlp_size: 4 * hidden,
        text_size: 4096,
        codebook_size: 8192,
        grid,
        multi_axis: None,
        layer_norm_eps: 1e-6,
        coarse: None,
        decode: DecodeOptions {
            steps,
            guidance_start: 1.5,
            guidance: 5.0,
            guidance_schedule: GuidanceSchedule::Linear,
            order: Order::Confidence,
            temperature: 4.5,
            last_temperature: None,
            token_temperature: 1.0,
            top_k: 0,
        },
    }
}

fn vq(channels: &[usize]) -> VqConfig {
    VqConfig {
        in_channels: 3,
        out_channels: 3,
        down_block_types: vec!["DownEncoderBlock2D".into(); channels.len()],
        up_block_types: vec!["UpDecoderBlock2D".into(); channels.len()],
        block_out_channels: channels.into(),
        layers_per_block: 2,
        act_fn: "silu".into(),
        latent_channels: 256,
        num_vq_embeddings: 8192,
        vq_embed_dim: 256,
        norm_num_groups: 32,
        norm_type: "group".into(),
        mid_block_add_attention: false,
    }
}

/// The config of one part of a published aMUSEd model.
fn published<T: DeserializeOwned>(part: &str, model: &str) -> T {
    let models: serde_json::Value = serde_json::from_str(AMUSED).expect("models.json is JSON");
    let mut settings = models["amused-256"][part].clone();
    for (key, value) in models[model][part].as_object().into_iter().flatten() {
        settings[key] = value.clone();
    }
    serde_json::from_value(settings).expect("models.json has a part's config")
}

impl Sizes {
    /// Parameters, norms and biases not counted.
    pub(super) fn parameters(&self) -> u64 {
        let count = match self {
            Sizes::Muse { text, stages } => {
                let text = text.as_ref().map_or(0, |t| {
                    let layer = 4 * t.hidden_size + 2 * t.intermediate_size;
                    t.hidden_size * (t.vocab_size + t.num_hidden_layers * layer)
                });
                let stages = stages.iter().map(|s| muse(&s.transformer) + convolutions(&s.vq));
                text + stages.sum::<usize>()
            }
            Sizes::Amused { text: t, transformer: u, vq } => {
                let (h, c) = (u.hidden_size, u.block_out_channels);
                let text = t.hidden_size
                    * (t.vocab_size
                        + t.num_hidden_layers * (4 * t.hidden_size + 2 * t.intermediate_size));
                let layer = 14 * h * h + 3 * h * u.intermediate_size; // attentions, modulations, GEGLU
                let block = 2 * c * h + 8 * c * c + 6 * c * c + 2 * c * h; // convolutions, attentions
                let tables = u.vocab_size * u.in_channels + u.codebook_size * c + 2 * c * h;
                text + u.num_hidden_layers * layer
                    + 2 * u.num_res_blocks * block
                    + tables
                    + convolutions(&VqConfig::from(&**vq))
            }
        };
        count as u64
    }
}

fn muse(config: &TransformerConfig) -> usize {
    let (hidden, mlp) = (config.hidden_size, 2 * config.hidden_size * config.mlp_size);
    let square = hidden * hidden;
    let tables =
        (2 * config.codebook_size + config.grid[0] * config.grid[1] + config.text_size) * hidden;
    let coarse = config.coarse.as_ref().map_or(0, |coarse| {
        let places = config.grid[0] * config.grid[1] / (coarse.grid[0] * coarse.grid[1]);
        let layers = coarse.num_layers * (4 * square + mlp);
        layers + coarse.codebook_size * hidden + places * square
    });
    config.num_layers * (8 * square + mlp) + tables + coarse
}

/// Encoder and decoder of a VQ tokenizer.
fn convolutions(config: &VqConfig) -> usize {
    let blocks = 2 * config.layers_per_block + 1; // of an encoder level and of a decoder level
    let level = |c: &usize| 9 * c * c * (2 * blocks + 2);
    config.block_out_channels.iter().map(level).sum::<usize>()
        + config.num_vq_embeddings * config.vq_embed_dim
}
