//! The configs of an aMUSEd model's parts, by diffusers' and transformers' names. Keys that decide
//! nothing here (dropout, initialisation, versions) are passed over; a key that is missing has the
//! library's default; a value that is not supported is refused by name.

use std::fmt::{Debug, Display};
use std::path::Path;

use serde::Deserialize;

use super::Folder;
use crate::config::VqConfig;
use crate::error::{Error, Result};

/// No size in a config is above this, so that products of a few stay in range.
const MOST: usize = 1 << 20;
const MICRO_CONDITIONS: usize = 5; // width, height, two of the crop, aesthetic score

/// diffusers' `AmusedScheduler`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct SchedulerConfig {
    /// The id that stands for a masked token.
    pub mask_token_id: usize,
    /// How the share of masked tokens falls.
    #[serde(default)]
    pub masking_schedule: MaskingSchedule,
}

/// How the share of masked tokens falls with the share of steps done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MaskingSchedule {
    /// cos(πr/2).
    #[default]
    Cosine,
    /// 1 − r.
    Linear,
}

/// transformers' `CLIPTextConfig`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default)]
pub struct ClipConfig {
    /// Token ids.
    pub vocab_size: usize,
    /// Channels of the states.
    pub hidden_size: usize,
    /// Channels inside the MLP.
    pub intermediate_size: usize,
    /// Channels of the pooled state.
    pub projection_dim: usize,
    /// Layers.
    pub num_hidden_layers: usize,
    /// Attention heads of a layer.
    pub num_attention_heads: usize,
    /// Length of the sequence.
    pub max_position_embeddings: usize,
    /// `"quick_gelu"`.
    pub hidden_act: String,
    /// Added to the variance in LayerNorm.
    pub layer_norm_eps: f32,
    /// The end token; 2 means the largest id, as the published configs have it.
    pub eos_token_id: u32,
}

impl Default for ClipConfig {
    fn default() -> Self {
        ClipConfig {
            vocab_size: 49408,
            hidden_size: 512,
            intermediate_size: 2048,
            projection_dim: 512,
            num_hidden_layers: 12,
            num_attention_heads: 8,
            max_position_embeddings: 77,
            hidden_act: "quick_gelu".into(),
            layer_norm_eps: 1e-5,
            eos_token_id: 49407,
        }
    }
}

/// diffusers' `UVit2DModel`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default)]
pub struct UvitConfig {
    /// Channels of the transformer layers.
    pub hidden_size: usize,
    /// Whether linear layers and norms have biases.
    pub use_bias: bool,
    /// Channels of the pooled text state.
    pub cond_embed_dim: usize,
    /// Channels of one encoded micro-condition.
    pub micro_cond_encode_dim: usize,
    /// Channels of all five.
    pub micro_cond_embed_dim: usize,
    /// Channels of the text states.
    pub encoder_hidden_size: usize,
    /// Rows of the token embedding: codes, the mask token, padding.
    pub vocab_size: usize,
    /// Codes it predicts.
    pub codebook_size: usize,
    /// Channels of the token embedding.
    pub in_channels: usize,
    /// Channels of the convolutional blocks.
    pub block_out_channels: usize,
    /// Residual and attention blocks before and after the transformer layers.
    pub num_res_blocks: usize,
    /// Whether the grid is halved before the layers.
    pub downsample: bool,
    /// Whether it is doubled after them.
    pub upsample: bool,
    /// Attention heads of a block.
    pub block_num_heads: usize,
    /// Transformer layers.
    pub num_hidden_layers: usize,
    /// Attention heads of a layer.
    pub num_attention_heads: usize,
    /// Channels inside the MLP.
    pub intermediate_size: usize,
    /// Added to the variance in the layers' norms.
    pub layer_norm_eps: f32,
    /// Whether norms have weights: always true.
    pub ln_elementwise_affine: bool,
    /// Rows and columns of the token grid it was trained with.
    pub sample_size: usize,
}

impl Default for UvitConfig {
    fn default() -> Self {
        UvitConfig {
            hidden_size: 1024,
            use_bias: false,
            cond_embed_dim: 768,
            micro_cond_encode_dim: 256,
            micro_cond_embed_dim: 1280,
            encoder_hidden_size: 768,
            vocab_size: 8256,
            codebook_size: 8192,
            in_channels: 768,
            block_out_channels: 768,
            num_res_blocks: 3,
            downsample: false,
            upsample: false,
            block_num_heads: 12,
            num_hidden_layers: 22,
            num_attention_heads: 16,
            intermediate_size: 2816,
            layer_norm_eps: 1e-6,
            ln_elementwise_affine: true,
            sample_size: 64,
        }
    }
}

/// diffusers' `VQModel`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default)]
pub struct VqModelConfig {
    /// 3: red, green, blue.
    pub in_channels: usize,
    /// 3.
    pub out_channels: usize,
    /// The encoder's levels: `"DownEncoderBlock2D"` each.
    pub down_block_types: Vec<String>,
    /// The decoder's levels: `"UpDecoderBlock2D"` each.
    pub up_block_types: Vec<String>,
    /// Channels of the levels.
    pub block_out_channels: Vec<usize>,
    /// Residual blocks of an encoder level; the decoder has one more.
    pub layers_per_block: usize,
    /// `"silu"`.
    pub act_fn: String,
    /// Channels of the latent grid.
    pub latent_channels: usize,
    /// Codes.
    pub num_vq_embeddings: usize,
    /// Groups of every GroupNorm.
    pub norm_num_groups: usize,
    /// Channels of a code; those of the latent grid where it is missing.
    pub vq_embed_dim: Option<usize>,
    /// `"group"`.
    pub norm_type: String,
    /// Whether the middle has attention: always false.
    pub mid_block_add_attention: bool,
    /// Whether decoding starts at ids: always true.
    pub lookup_from_codebook: bool,
    /// Whether half precision overflows.
    pub force_upcast: bool,
}

impl Default for VqModelConfig {
    fn default() -> Self {
        VqModelConfig {
            in_channels: 3,
            out_channels: 3,
            down_block_types: vec!["DownEncoderBlock2D".into()],
            up_block_types: vec!["UpDecoderBlock2D".into()],
            block_out_channels: vec![64],
            layers_per_block: 1,
            act_fn: "silu".into(),
            latent_channels: 3,
            num_vq_embeddings: 256,
            norm_num_groups: 32,
            vq_embed_dim: None,
            norm_type: "group".into(),
            mid_block_add_attention: true,
            lookup_from_codebook: false,
            force_upcast: false,
        }
    }
}

impl VqModelConfig {
    /// Pixels per token and direction.
    pub fn scale(&self) -> usize {
        1 << (self.block_out_channels.len() - 1)
    }

    /// Channels of a code.
    pub fn code_channels(&self) -> usize {
        self.vq_embed_dim.unwrap_or(self.latent_channels)
    }
}

impl From<&VqModelConfig> for VqConfig {
    fn from(config: &VqModelConfig) -> Self {
        VqConfig {
            in_channels: config.in_channels,
            out_channels: config.out_channels,
            down_block_types: config.down_block_types.clone(),
            up_block_types: config.up_block_types.clone(),
            block_out_channels: config.block_out_channels.clone(),
            layers_per_block: config.layers_per_block,
            act_fn: config.act_fn.clone(),
            latent_channels: config.latent_channels,
            num_vq_embeddings: config.num_vq_embeddings,
            vq_embed_dim: config.code_channels(),
            norm_num_groups: config.norm_num_groups,
            norm_type: config.norm_type.clone(),
            mid_block_add_attention: config.mid_block_add_attention,
        }
    }
}

/// Checks of one file.
struct Checks<'a>(&'a Path);

impl Checks<'_> {
    fn require(
        &self,
        ok: bool,
        key: &str,
        found: impl Debug,
        expected: impl Display,
    ) -> Result<()> {
        match ok {
            true => Ok(()),
            false => Err(Error::model(self.0, format!("{key}: {found:?}; expected {expected}"))),
        }
    }

    fn sizes(&self, sizes: &[(&str, usize)]) -> Result<()> {
        sizes.iter().try_for_each(|&(key, size)| {
            self.require((1..=MOST).contains(&size), key, size, format!("1 to {MOST}"))
        })
    }

    fn heads(&self, key: &str, heads: usize, of: &str, channels: usize) -> Result<()> {
        self.require(
            channels.is_multiple_of(heads),
            key,
            heads,
            format!("a divisor of {of}, {channels}"),
        )
    }

    fn epsilon(&self, key: &str, value: f32) -> Result<()> {
        self.require(value > 0.0 && value < 1.0, key, value, "a number between 0 and 1")
    }
}

impl ClipConfig {
    fn check(&self, path: &Path) -> Result<()> {
        let checks = Checks(path);
        checks.sizes(&[
            ("vocab_size", self.vocab_size),
            ("hidden_size", self.hidden_size),
            ("intermediate_size", self.intermediate_size),
            ("projection_dim", self.projection_dim),
            ("num_attention_heads", self.num_attention_heads),
        ])?;
        // The last layer but one gives the states, and start and end have to fit.
        let (layers, length) = (self.num_hidden_layers, self.max_position_embeddings);
        checks.require((2..=MOST).contains(&layers), "num_hidden_layers", layers, "at least 2")?;
        checks.require(
            (2..=MOST).contains(&length),
            "max_position_embeddings",
            length,
            "at least 2",
        )?;
        checks.heads(
            "num_attention_heads",
            self.num_attention_heads,
            "hidden_size",
            self.hidden_size,
        )?;
        checks.epsilon("layer_norm_eps", self.layer_norm_eps)?;
        let act = &self.hidden_act;
        checks.require(act == "quick_gelu", "hidden_act", act, "\"quick_gelu\"")
    }
}

impl UvitConfig {
    fn check(&self, path: &Path) -> Result<()> {
        let checks = Checks(path);
        checks.sizes(&[
            ("hidden_size", self.hidden_size),
            ("cond_embed_dim", self.cond_embed_dim),
            ("micro_cond_encode_dim", self.micro_cond_encode_dim),
            ("encoder_hidden_size", self.encoder_hidden_size),
            ("codebook_size", self.codebook_size),
            ("vocab_size", self.vocab_size),
            ("in_channels", self.in_channels),
            ("block_out_channels", self.block_out_channels),
            ("num_res_blocks", self.num_res_blocks),
            ("block_num_heads", self.block_num_heads),
            ("num_hidden_layers", self.num_hidden_layers),
            ("num_attention_heads", self.num_attention_heads),
            ("intermediate_size", self.intermediate_size),
            ("sample_size", self.sample_size),
        ])?;
        checks.heads(
            "num_attention_heads",
            self.num_attention_heads,
            "hidden_size",
            self.hidden_size,
        )?;
        checks.heads(
            "block_num_heads",
            self.block_num_heads,
            "block_out_channels",
            self.block_out_channels,
        )?;
        checks.epsilon("layer_norm_eps", self.layer_norm_eps)?;
        let encode = self.micro_cond_encode_dim;
        checks.require(
            encode.is_multiple_of(2),
            "micro_cond_encode_dim",
            encode,
            "an even number",
        )?;
        let embed = self.micro_cond_embed_dim;
        let expected = MICRO_CONDITIONS * encode;
        let what = format!("{expected}, five times micro_cond_encode_dim");
        checks.require(embed == expected, "micro_cond_embed_dim", embed, what)?;
        let what = format!("more than codebook_size, {}", self.codebook_size);
        checks.require(
            self.vocab_size > self.codebook_size,
            "vocab_size",
            self.vocab_size,
            what,
        )?;
        let what = format!("{}, as downsample", self.downsample);
        checks.require(self.upsample == self.downsample, "upsample", self.upsample, what)?;
        checks.require(self.ln_elementwise_affine, "ln_elementwise_affine", false, true)
    }
}

impl VqModelConfig {
    fn check(&self, path: &Path) -> Result<()> {
        let checks = Checks(path);
        checks.require(self.in_channels == 3, "in_channels", self.in_channels, 3)?;
        checks.require(self.out_channels == 3, "out_channels", self.out_channels, 3)?;
        let levels = self.block_out_channels.len();
        checks.require((1..=8).contains(&levels), "block_out_channels", levels, "1 to 8 levels")?;
        checks.sizes(&[
            ("layers_per_block", self.layers_per_block),
            ("latent_channels", self.latent_channels),
            ("num_vq_embeddings", self.num_vq_embeddings),
            ("norm_num_groups", self.norm_num_groups),
            ("vq_embed_dim", self.code_channels()),
        ])?;
        for &channels in &self.block_out_channels {
            checks.sizes(&[("block_out_channels", channels)])?;
            let what = format!("multiples of norm_num_groups, {}", self.norm_num_groups);
            let whole = channels.is_multiple_of(self.norm_num_groups);
            checks.require(whole, "block_out_channels", channels, what)?;
        }
        let types = [
            ("down_block_types", &self.down_block_types, "DownEncoderBlock2D"),
            ("up_block_types", &self.up_block_types, "UpDecoderBlock2D"),
        ];
        for (key, found, wanted) in types {
            let all = found.len() == levels && found.iter().all(|name| name == wanted);
            checks.require(all, key, found, format!("{levels} of {wanted:?}"))?;
        }
        checks.require(self.act_fn == "silu", "act_fn", &self.act_fn, "\"silu\"")?;
        checks.require(self.norm_type == "group", "norm_type", &self.norm_type, "\"group\"")?;
        checks.require(!self.mid_block_add_attention, "mid_block_add_attention", true, false)?;
        checks.require(self.lookup_from_codebook, "lookup_from_codebook", false, true)
    }
}

impl Folder {
    /// Each config by itself, then what they share.
    pub(super) fn check(&self) -> Result<()> {
        let file = |part: &str| self.root.join(part).join("config.json");
        let (transformer, scheduler) =
            (file("transformer"), self.root.join("scheduler/scheduler_config.json"));
        self.text_encoder.check(&file("text_encoder"))?;
        self.transformer.check(&transformer)?;
        self.vqvae.check(&file("vqvae"))?;
        let (uvit, text) = (&self.transformer, &self.text_encoder);
        let equal = |key: &str, found: usize, other: &str, wanted: usize| {
            Checks(&transformer).require(found == wanted, key, found, format!("{wanted}, {other}"))
        };
        equal(
            "encoder_hidden_size",
            uvit.encoder_hidden_size,
            "text_encoder's hidden_size",
            text.hidden_size,
        )?;
        equal(
            "cond_embed_dim",
            uvit.cond_embed_dim,
            "text_encoder's projection_dim",
            text.projection_dim,
        )?;
        let codes = self.vqvae.num_vq_embeddings;
        equal("codebook_size", uvit.codebook_size, "vqvae's num_vq_embeddings", codes)?;
        let mask = self.scheduler.mask_token_id;
        let between = (uvit.codebook_size..uvit.vocab_size).contains(&mask);
        let what = format!("from {} to {}", uvit.codebook_size, uvit.vocab_size - 1);
        Checks(&scheduler).require(between, "mask_token_id", mask, what)
    }
}
