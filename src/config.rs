//! A model directory's `config.json`: every size of every part, checked before anything is
//! allocated.
//!
//! An unknown key, a wrong type and a value that cannot be used are errors that name the file and
//! the key's path.

mod check;
#[cfg(test)]
mod tests;

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::decode::{DecodeOptions, GuidanceSchedule, Order};
use crate::error::{Error, Result};

/// The files of a model directory; those of super-res exist when the config has it.
pub const FILES: [&str; 7] = [
    "config.json",
    "tokenizer.json",
    "text_encoder.safetensors",
    "base.safetensors",
    "superres.safetensors",
    "vq_base.safetensors",
    "vq_superres.safetensors",
];

/// Longest file that is read; a real one has 3 KB.
const MAX_BYTES: u64 = 1 << 20;

/// Sizes and settings of a whole model.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// `"muse"`.
    pub format: String,
    /// 1.
    pub version: u32,
    /// What the model is called in reports and image files.
    pub name: String,
    /// The frozen language model.
    pub text_encoder: TextConfig,
    /// The base transformer.
    pub base: TransformerConfig,
    /// The super-res transformer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub superres: Option<TransformerConfig>,
    /// The base grid's VQ tokenizer.
    pub vq_base: VqConfig,
    /// The super-res grid's VQ tokenizer; present exactly when `superres` is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vq_superres: Option<VqConfig>,
}

/// Sizes of a BERT encoder, by the names of Hugging Face's `BertConfig`.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct TextConfig {
    /// `"BertModel"`.
    pub class: String,
    /// Token ids.
    pub vocab_size: usize,
    /// Channels of the states.
    pub hidden_size: usize,
    /// Layers.
    pub num_hidden_layers: usize,
    /// Attention heads of a layer.
    pub num_attention_heads: usize,
    /// Channels inside the MLP.
    pub intermediate_size: usize,
    /// Longest sequence the encoder has positions for.
    pub max_position_embeddings: usize,
    /// Token types; the first one is used.
    pub type_vocab_size: usize,
    /// Added to the variance in LayerNorm.
    pub layer_norm_eps: f32,
    /// Longest sequence the transformers were trained with; longer prompts are cut.
    pub max_length: usize,
}

/// Sizes of a Muse transformer; super-res also has [`TransformerConfig::coarse`].
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct TransformerConfig {
    /// Channels of the residual stream.
    pub hidden_size: usize,
    /// Layers.
    pub num_layers: usize,
    /// Attention heads of a layer.
    pub num_heads: usize,
    /// Channels inside the MLP.
    pub mlp_size: usize,
    /// Channels of the text states.
    pub text_size: usize,
    /// Tokens it predicts, the mask token not counted.
    pub codebook_size: usize,
    /// Rows and columns of the token grid.
    pub grid: [usize; 2],
    /// Rows and columns of a block of multi-axis self-attention: half of the heads attend within blocks, the
    /// others across them. Without it all heads attend to the whole grid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub multi_axis: Option<[usize; 2]>,
    /// Added to the variance in LayerNorm.
    pub layer_norm_eps: f32,
    /// The coarse grid that super-res refines.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub coarse: Option<CoarseConfig>,
    /// How the model decodes unless the request says otherwise.
    #[serde(with = "DecodeKeys")]
    pub decode: DecodeOptions,
}

/// The coarse encoder of super-res.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct CoarseConfig {
    /// Tokens of the coarse grid: the base's codebook.
    pub codebook_size: usize,
    /// Rows and columns of the coarse grid: the base's.
    pub grid: [usize; 2],
    /// Layers of the encoder.
    pub num_layers: usize,
    /// Whether the coarse states are also added to the fine positions they cover: always true.
    pub in_place: bool,
}

/// The JSON keys of [`DecodeOptions`].
#[derive(Deserialize, Serialize)]
#[serde(remote = "DecodeOptions", deny_unknown_fields)]
struct DecodeKeys {
    steps: usize,
    guidance_start: f32,
    guidance: f32,
    #[serde(default)]
    guidance_schedule: GuidanceSchedule,
    #[serde(default)]
    order: Order,
    temperature: f32,
    #[serde(skip)]
    last_temperature: Option<f32>, // these models were tried with 0 alone
    token_temperature: f32,
    top_k: usize,
}

/// A VQ tokenizer, by the keys of diffusers' `VQModel`.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(from = "VqKeys")]
pub struct VqConfig {
    /// Channels of an image: 3.
    pub in_channels: usize,
    /// Channels of an image: 3.
    pub out_channels: usize,
    /// `"DownEncoderBlock2D"` for every level.
    pub down_block_types: Vec<String>,
    /// `"UpDecoderBlock2D"` for every level.
    pub up_block_types: Vec<String>,
    /// Channels of every level, the full resolution first.
    pub block_out_channels: Vec<usize>,
    /// Residual blocks of an encoder level; a decoder level has one more.
    pub layers_per_block: usize,
    /// `"silu"`.
    pub act_fn: String,
    /// Channels between the convolutions and the codebook's projection.
    pub latent_channels: usize,
    /// Codes.
    pub num_vq_embeddings: usize,
    /// Channels of a code.
    pub vq_embed_dim: usize,
    /// Groups of every group norm.
    pub norm_num_groups: usize,
    /// `"group"`.
    pub norm_type: String,
    /// Whether the middle has attention: never.
    pub mid_block_add_attention: bool,
}

/// What diffusers writes: keys that have defaults there have them here, and those that do not
/// matter to encoding and decoding are accepted.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct VqKeys {
    #[serde(default = "three")]
    in_channels: usize,
    #[serde(default = "three")]
    out_channels: usize,
    down_block_types: Vec<String>,
    up_block_types: Vec<String>,
    block_out_channels: Vec<usize>,
    layers_per_block: usize,
    #[serde(default = "silu")]
    act_fn: String,
    latent_channels: usize,
    num_vq_embeddings: usize,
    vq_embed_dim: Option<usize>, // absent or null: the latent channels
    norm_num_groups: usize,
    #[serde(default = "group")]
    norm_type: String,
    #[serde(default = "yes")]
    mid_block_add_attention: bool,
    #[serde(rename = "_class_name")]
    _class_name: Option<String>,
    #[serde(rename = "_diffusers_version")]
    _diffusers_version: Option<String>,
    #[serde(rename = "_name_or_path")]
    _name_or_path: Option<String>,
    #[serde(rename = "sample_size")]
    _sample_size: Option<serde::de::IgnoredAny>,
    #[serde(rename = "scaling_factor")]
    _scaling_factor: Option<f64>,
    #[serde(rename = "force_upcast")]
    _force_upcast: Option<bool>,
    #[serde(rename = "lookup_from_codebook")]
    _lookup_from_codebook: Option<bool>,
}

fn three() -> usize {
    3
}

fn yes() -> bool {
    true
}

fn silu() -> String {
    "silu".into()
}

fn group() -> String {
    "group".into()
}

impl From<VqKeys> for VqConfig {
    fn from(keys: VqKeys) -> Self {
        VqConfig {
            in_channels: keys.in_channels,
            out_channels: keys.out_channels,
            down_block_types: keys.down_block_types,
            up_block_types: keys.up_block_types,
            block_out_channels: keys.block_out_channels,
            layers_per_block: keys.layers_per_block,
            act_fn: keys.act_fn,
            latent_channels: keys.latent_channels,
            num_vq_embeddings: keys.num_vq_embeddings,
            vq_embed_dim: keys.vq_embed_dim.unwrap_or(keys.latent_channels),
            norm_num_groups: keys.norm_num_groups,
            norm_type: keys.norm_type,
            mid_block_add_attention: keys.mid_block_add_attention,
        }
    }
}

impl VqConfig {
    /// Pixels along the side of one token.
    pub fn factor(&self) -> usize {
        1 << self.block_out_channels.len().saturating_sub(1).min(16)
    }
}

impl Config {
    /// Reads and checks `config.json` of the model directory `dir`.
    pub fn read(dir: impl AsRef<Path>) -> Result<Self> {
        let dir = dir.as_ref();
        if !dir.is_dir() {
            let found = if dir.exists() { "not a directory" } else { "no such directory" };
            return Err(Error::model(dir, format!("{found}; expected a muse model directory")));
        }
        let path = dir.join("config.json");
        let missing = "not a muse model directory: it holds no config.json";
        let metadata = std::fs::metadata(&path).map_err(|_| Error::model(dir, missing))?;
        if !metadata.is_file() || metadata.len() > MAX_BYTES {
            return Err(Error::model(&path, "not a JSON file of at most 1 MiB"));
        }
        let json = std::fs::read(&path).map_err(Error::io(&path, "reading the config"))?;
        Self::parse(&json, &path)
    }

    /// Checks the bytes of a `config.json`; `path` is named in errors.
    pub fn parse(json: &[u8], path: &Path) -> Result<Self> {
        let mut reader = serde_json::Deserializer::from_slice(json);
        let config: Config = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
            let key = error.path().to_string();
            let at = if key == "." { String::new() } else { format!("{key}: ") };
            Error::model(path, format!("{at}{}", error.inner()))
        })?;
        reader.end().map_err(|error| Error::model(path, error.to_string()))?;
        match config.check() {
            Ok(()) => Ok(config),
            Err(problem) => Err(Error::model(path, problem)),
        }
    }
}
