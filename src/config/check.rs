//! Which values of a config can be used, and together.

use super::{CoarseConfig, Config, TextConfig, TransformerConfig, VqConfig};
use crate::decode::{DecodeOptions, GuidanceSchedule};

/// The most elements one buffer may hold: no config, however made, asks for more than 4 GiB at once.
const MAX_ELEMENTS: usize = 1 << 30;

/// A key's path and what is wrong with it.
type Check = std::result::Result<(), String>;

macro_rules! require {
    ($condition:expr, $key:expr, $($expected:tt)+) => {
        if !$condition {
            return Err(format!("{}: {}", $key, format!($($expected)+)));
        }
    };
}

/// A size must be from 1 to `most`.
fn size(key: &str, name: &str, value: usize, most: usize) -> Check {
    require!((1..=most).contains(&value), path(key, name), "{value}; expected 1 to {most}");
    Ok(())
}

/// A number must be finite and from `least` to `most`.
fn number(key: &str, name: &str, value: f32, least: f32, most: f32) -> Check {
    let within = (least..=most).contains(&value); // false for NaN
    require!(within, path(key, name), "{value}; expected {least} to {most}");
    Ok(())
}

/// Two sizes that the parts of a model share must be equal.
fn equal<T: PartialEq + std::fmt::Debug>(key: &str, value: T, other: &str, must: T) -> Check {
    require!(value == must, key, "{value:?}, but {other} is {must:?}; they must be equal");
    Ok(())
}

fn text(key: String, value: &str, must: &str) -> Check {
    require!(value == must, key, "{value:?} is not supported; expected {must:?}");
    Ok(())
}

fn path(key: &str, name: &str) -> String {
    format!("{key}.{name}")
}

/// A buffer of the product of `sizes` must be small enough to allocate.
fn buffer(key: &str, what: &str, sizes: &[usize]) -> Check {
    let elements = sizes.iter().try_fold(1usize, |product, &n| product.checked_mul(n));
    let fits = elements.is_some_and(|n| n <= MAX_ELEMENTS);
    require!(fits, key, "{what} of {sizes:?} elements; at most {MAX_ELEMENTS} are supported");
    Ok(())
}

impl Config {
    pub(super) fn check(&self) -> Check {
        text("format".into(), &self.format, "muse")?;
        let version = self.version;
        require!(version == 1, "version", "{version} is not supported; expected 1");
        let printable = |name: &str| !name.is_empty() && !name.chars().any(char::is_control);
        let name = &self.name;
        require!(
            printable(name) && name.len() <= 100,
            "name",
            "{name:?}; expected 1 to 100 bytes of printable text"
        );
        self.text_encoder.check()?;
        self.base.check("base", &self.text_encoder)?;
        require!(self.base.coarse.is_none(), "base.coarse", "only superres has a coarse grid");
        self.vq_base.check("vq_base", self.base.grid)?;
        let codes = self.vq_base.num_vq_embeddings;
        equal("base.codebook_size", self.base.codebook_size, "vq_base.num_vq_embeddings", codes)?;
        match (&self.superres, &self.vq_superres) {
            (None, None) => Ok(()),
            (Some(_), None) => Err("vq_superres: missing; superres needs it".into()),
            (None, Some(_)) => Err("superres: missing; vq_superres has no use without it".into()),
            (Some(superres), Some(vq)) => self.check_superres(superres, vq),
        }
    }

    fn check_superres(&self, superres: &TransformerConfig, vq: &VqConfig) -> Check {
        superres.check("superres", &self.text_encoder)?;
        vq.check("vq_superres", superres.grid)?;
        let (size, codes) = (superres.codebook_size, vq.num_vq_embeddings);
        equal("superres.codebook_size", size, "vq_superres.num_vq_embeddings", codes)?;
        let Some(coarse) = &superres.coarse else {
            return Err("superres.coarse: missing; it describes the base's grid".into());
        };
        coarse.check("superres.coarse")?;
        let base = &self.base;
        let codebook = base.codebook_size;
        equal("superres.coarse.grid", coarse.grid, "base.grid", base.grid)?;
        equal(
            "superres.coarse.codebook_size",
            coarse.codebook_size,
            "base.codebook_size",
            codebook,
        )?;
        let doubled = base.grid.map(|n| 2 * n);
        equal("superres.grid", superres.grid, "twice base.grid", doubled)
    }
}

impl TextConfig {
    fn check(&self) -> Check {
        let key = "text_encoder";
        text(path(key, "class"), &self.class, "BertModel")?;
        size(key, "vocab_size", self.vocab_size, 1 << 20)?;
        size(key, "hidden_size", self.hidden_size, 1 << 14)?;
        size(key, "num_hidden_layers", self.num_hidden_layers, 256)?;
        heads(key, "num_attention_heads", self.num_attention_heads, self.hidden_size)?;
        size(key, "intermediate_size", self.intermediate_size, 1 << 16)?;
        size(key, "max_position_embeddings", self.max_position_embeddings, 1 << 13)?;
        size(key, "type_vocab_size", self.type_vocab_size, 16)?;
        number(key, "layer_norm_eps", self.layer_norm_eps, 1e-20, 0.1)?;
        size(key, "max_length", self.max_length, self.max_position_embeddings)?;
        let room = self.max_length >= 3;
        require!(room, path(key, "max_length"), "no room for a word between [CLS] and [SEP]");
        buffer(key, "an MLP", &[self.max_length, self.intermediate_size])
    }
}

impl TransformerConfig {
    fn check(&self, key: &str, encoder: &TextConfig) -> Check {
        size(key, "hidden_size", self.hidden_size, 1 << 14)?;
        size(key, "num_layers", self.num_layers, 256)?;
        heads(key, "num_heads", self.num_heads, self.hidden_size)?;
        size(key, "mlp_size", self.mlp_size, 1 << 16)?;
        let states = encoder.hidden_size;
        equal(&path(key, "text_size"), self.text_size, "text_encoder.hidden_size", states)?;
        size(key, "codebook_size", self.codebook_size, 1 << 17)?;
        number(key, "layer_norm_eps", self.layer_norm_eps, 1e-20, 0.1)?;
        let positions = grid(key, self.grid)?;
        if let Some(block) = self.multi_axis {
            let name = path(key, "multi_axis");
            let parts = self.grid.iter().zip(block).all(|(n, b)| b > 0 && n.is_multiple_of(b));
            require!(
                parts,
                name,
                "blocks of {block:?}; expected parts of the grid {:?}",
                self.grid
            );
            let heads = self.num_heads;
            require!(
                heads.is_multiple_of(2),
                name,
                "half of {heads} heads; expected an even number"
            );
        }
        buffer(key, "an MLP", &[2, positions, self.mlp_size])?;
        buffer(key, "queries, keys and values", &[2, positions, 3, self.hidden_size])?;
        buffer(key, "logits", &[2, positions, self.codebook_size])?;
        check_decode(&path(key, "decode"), &self.decode, positions, self.codebook_size)
    }
}

impl CoarseConfig {
    fn check(&self, key: &str) -> Check {
        size(key, "num_layers", self.num_layers, 256)?;
        let name = path(key, "in_place");
        require!(self.in_place, name, "false is not supported; expected true");
        Ok(())
    }
}

fn check_decode(key: &str, decode: &DecodeOptions, positions: usize, codebook: usize) -> Check {
    size(key, "steps", decode.steps, positions)?;
    number(key, "guidance_start", decode.guidance_start, 0.0, 100.0)?;
    number(key, "guidance", decode.guidance, 0.0, 100.0)?;
    if let GuidanceSchedule::Interval([from, to]) = decode.guidance_schedule {
        number(key, "guidance_schedule.interval[0]", from, 0.0, 1.0)?;
        number(key, "guidance_schedule.interval[1]", to, 0.0, 1.0)?;
    }
    number(key, "temperature", decode.temperature, 0.0, 100.0)?;
    number(key, "token_temperature", decode.token_temperature, 0.0, 100.0)?;
    let (name, top_k) = (path(key, "top_k"), decode.top_k);
    require!(top_k <= codebook, name, "{top_k}; expected 0 (all) to {codebook}");
    Ok(())
}

impl VqConfig {
    fn check(&self, key: &str, grid: [usize; 2]) -> Check {
        for (name, channels) in
            [("in_channels", self.in_channels), ("out_channels", self.out_channels)]
        {
            require!(
                channels == 3,
                path(key, name),
                "{channels} is not supported; expected 3 (RGB)"
            );
        }
        let levels = &self.block_out_channels;
        size(key, "block_out_channels", levels.len(), 8)?; // how many
        size(key, "norm_num_groups", self.norm_num_groups, 1 << 12)?;
        for (i, &channels) in levels.iter().enumerate() {
            let name = format!("block_out_channels[{i}]");
            size(key, &name, channels, 1 << 12)?;
            let groups = self.norm_num_groups;
            let divides = channels % groups == 0;
            require!(
                divides,
                path(key, &name),
                "{channels}; norm_num_groups {groups} must divide it"
            );
        }
        blocks(
            key,
            "down_block_types",
            &self.down_block_types,
            "DownEncoderBlock2D",
            levels.len(),
        )?;
        blocks(key, "up_block_types", &self.up_block_types, "UpDecoderBlock2D", levels.len())?;
        size(key, "layers_per_block", self.layers_per_block, 16)?;
        size(key, "latent_channels", self.latent_channels, 1 << 12)?;
        size(key, "num_vq_embeddings", self.num_vq_embeddings, 1 << 17)?;
        size(key, "vq_embed_dim", self.vq_embed_dim, 1 << 12)?;
        text(path(key, "act_fn"), &self.act_fn, "silu")?;
        text(path(key, "norm_type"), &self.norm_type, "group")?;
        let attention = self.mid_block_add_attention;
        let name = path(key, "mid_block_add_attention");
        require!(!attention, name, "true (diffusers' default) is not supported; expected false");
        let codes = self.num_vq_embeddings;
        buffer(key, "a codebook", &[codes, self.vq_embed_dim.max(self.latent_channels)])?;
        for (i, &channels) in levels.iter().enumerate() {
            let scale = 1 << (levels.len() - 1 - i); // pixels of this level along a token's side
            let wider = levels.get(i + 1).copied().unwrap_or(0).max(channels); // on the way up
            buffer(key, "an image", &[grid[0] * scale, grid[1] * scale, wider])?;
        }
        Ok(())
    }
}

fn blocks(key: &str, name: &str, types: &[String], must: &str, levels: usize) -> Check {
    let count = types.len();
    let name = path(key, name);
    require!(count == levels, name, "{count} blocks; block_out_channels has {levels}");
    for (i, class) in types.iter().enumerate() {
        text(format!("{name}[{i}]"), class, must)?;
    }
    Ok(())
}

fn heads(key: &str, name: &str, heads: usize, hidden: usize) -> Check {
    size(key, name, heads, hidden)?;
    require!(
        hidden.is_multiple_of(heads),
        path(key, name),
        "{heads}; it must divide hidden_size {hidden}"
    );
    Ok(())
}

/// The positions of a token grid.
fn grid(key: &str, [rows, columns]: [usize; 2]) -> std::result::Result<usize, String> {
    size(key, "grid[0]", rows, 256)?;
    size(key, "grid[1]", columns, 256)?;
    Ok(rows * columns)
}
