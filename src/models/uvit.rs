//! aMUSEd's transformer (arXiv 2401.01808), diffusers' `UVit2DModel`: a U-ViT without skip connections
//! between its halves. Convolutional blocks see to neighbourhoods, and to position, which enters nowhere
//! else; the layers between them see the whole grid, at half its size where the model says so.

mod blocks;
mod halving;
mod head;

use super::MaskedModel;
use super::layers::*;
use crate::device::{Activation, Device, Masked, Norm};
use crate::error::{Error, Result};
use crate::hub::UvitConfig;
use crate::ops;
use crate::tensor::{DType, Matrix, Tensor};
use crate::weights::Weights;
use blocks::{BlockScratch, Blocks, BlocksKv, Layer, NORMS, Sizes};
use halving::{Halving, Patches};
use head::{Head, HeadScratch};

/// What a picture is conditioned on.
pub struct Conditions<'a, D: Device> {
    /// Text states, float `[batch*length, encoder_hidden_size]`: of the prompt, then of the negative one.
    pub states: &'a Tensor<D::Buffer>,
    /// Pooled text states, float `[batch, cond_embed_dim]`.
    pub pooled: &'a Tensor<D::Buffer>,
    /// Width and height in pixels, left and upper margin of the crop, aesthetic score: the same for all.
    pub micro: [f32; 5],
}

/// An aMUSEd transformer on one device.
pub struct Uvit<D: Device> {
    sizes: Sizes,
    /// What a token is to the first block, or to [`Halving::down`]: [tokens, channels], f32 or float.
    table: Tensor<D::Buffer>,
    text: (Matrix<D::Packed>, Norm<D::Buffer>), // [hidden, encoder_hidden_size]
    pooled: Matrix<D::Packed>,                  // [hidden, cond_embed_dim]
    micro: Matrix<D::Packed>,                   // [hidden, 5*encoding]
    encoding: usize,                            // channels of a micro-condition
    condition: Matrix<D::Packed>,               // [hidden, hidden]
    block_modulation: Matrix<D::Packed>,        // [blocks*2*channels, hidden]
    layer_modulation: Matrix<D::Packed>,        // [layers*3*2*hidden, hidden]
    halving: Option<Halving<D>>,
    before: Blocks<D>,
    into: (Norm<D::Buffer>, Matrix<D::Packed>), // [hidden, channels]
    layers: Vec<Layer<D>>,
    out_of: (Norm<D::Buffer>, Matrix<D::Packed>), // [channels, hidden]
    after: Blocks<D>,
    head: Head<D>,
}

impl<D: Device> Uvit<D> {
    /// Reads the whole checkpoint; a missing, misshapen or leftover tensor is an error.
    pub fn load(device: &D, mut weights: Weights, config: &UvitConfig) -> Result<Self> {
        let w = &mut weights;
        let (epsilon, dtype, bias) = (config.layer_norm_eps, w.activations(), config.use_bias);
        let (channels, hidden) = (config.block_out_channels, config.hidden_size);
        let wide = Width {
            hidden,
            heads: config.num_attention_heads,
            mlp: config.intermediate_size,
            epsilon,
            dtype,
        };
        let narrow = Sizes::narrow(channels, config.block_num_heads, epsilon, dtype);
        let sizes = Sizes { narrow, wide, bias };
        let blocks = |part: &str, w: &mut Weights| {
            Blocks::read(device, w, part, config.num_res_blocks, sizes)
        };
        // First what is stacked: the copy is gone before the rest is read.
        let mut names = Vec::new();
        for part in ["down_block", "up_block"] {
            let name = |i| format!("{part}.res_blocks.{i}.cond_embeds_mapper");
            names.extend((0..config.num_res_blocks).map(name));
        }
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let block_modulation = stacked(device, w, &names, [2 * channels, hidden], bias)?;
        let name = |i| format!("transformer_layers.{}.norm{}.linear", i / NORMS, i % NORMS + 1);
        let names: Vec<String> = (0..NORMS * config.num_hidden_layers).map(name).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let layer_modulation = stacked(device, w, &names, [2 * hidden, hidden], bias)?;

        let layer = |i| Layer::read(device, w, &format!("transformer_layers.{i}"), sizes);
        let layers = (0..config.num_hidden_layers).map(layer).collect::<Result<_>>()?;

        let (condition, micro) = (config.cond_embed_dim, config.micro_cond_embed_dim);
        let all = [hidden, condition + micro];
        let text = [hidden, config.encoder_hidden_size];
        let square = [hidden, hidden];
        let model = Uvit {
            sizes,
            table: token_table(device, w, config, sizes)?,
            text: (
                linear(device, w, "encoder_proj", text, bias)?,
                sizes.rms(device, w, "encoder_proj_layer_norm", hidden)?,
            ),
            pooled: ops::pack(device, w.columns("cond_embed.linear_1", all, 0..condition, bias)?)?,
            micro: {
                let columns = condition..condition + micro;
                ops::pack(device, w.columns("cond_embed.linear_1", all, columns, false)?)?
            },
            encoding: config.micro_cond_encode_dim,
            condition: linear(device, w, "cond_embed.linear_2", square, bias)?,
            block_modulation,
            layer_modulation,
            halving: config.downsample.then(|| Halving::read(device, w, sizes)).transpose()?,
            before: blocks("down_block", w)?,
            into: (
                sizes.rms(device, w, "project_to_hidden_norm", channels)?,
                step_linear(device, w, "project_to_hidden", [hidden, channels], bias)?,
            ),
            layers,
            out_of: (
                sizes.rms(device, w, "project_from_hidden_norm", hidden)?,
                step_linear(device, w, "project_from_hidden", [channels, hidden], bias)?,
            ),
            after: blocks("up_block", w)?,
            head: Head::read(device, w, config, sizes)?,
        };
        weights.finish()?;
        Ok(model)
    }

    /// Bytes that [`Uvit::prepare`] allocates for each picture of `[height, width]` tokens.
    pub fn bytes_per_image(&self, [height, width]: [usize; 2]) -> usize {
        let Sizes { narrow, wide, .. } = self.sizes;
        let positions = height * width;
        let inner = if self.halving.is_some() { positions / 4 } else { positions };
        let blocks = 4 * narrow.hidden + narrow.dtype.size() * narrow.mlp;
        let layers = [narrow, wide].map(Scratch::<D>::bytes_per_row).iter().sum::<usize>();
        let patches = if self.halving.is_some() { 12 * narrow.hidden } else { 0 };
        2 * (inner * (blocks + layers) + positions * (patches + self.head.bytes_per_row()))
    }

    /// Computes everything that is constant for `images` pictures of `[height, width]` tokens.
    ///
    /// # Errors
    /// [`Error::Option`] where a model that halves the grid is given one that has no half.
    pub fn prepare<'a>(
        &'a self,
        device: &D,
        conditions: &Conditions<'_, D>,
        grid: [usize; 2],
        images: usize,
    ) -> Result<Prepared<'a, D>> {
        let Sizes { narrow, wide, .. } = self.sizes;
        let Width { hidden, dtype, .. } = wide;
        let Conditions { states, pooled, .. } = conditions;
        let batch = pooled.shape().rows();
        let keys = states.shape().rows() / batch;

        let (project, norm) = &self.text;
        let mut projected = device.zeros(DType::F32, [batch * keys, hidden])?;
        ops::linear(device, &mut projected, states, project, Activation::None)?;
        let mut text = device.zeros(dtype, [batch * keys, hidden])?;
        ops::layer_norm(device, &mut text, &projected, norm)?; // [batch*keys, hidden]
        let mut activated = device.zeros(dtype, [batch * keys, hidden])?;
        ops::activate(device, &mut activated, &text, Activation::Silu)?;

        let condition = self.condition(device, conditions, batch)?; // [batch, hidden]
        let modulation = |matrix: &Matrix<D::Packed>| {
            let mut all = device.zeros(DType::F32, [batch, matrix.rows])?;
            ops::linear(device, &mut all, &condition, matrix, Activation::None)?;
            Ok::<_, Error>(all)
        };

        let inner = match self.halving {
            Some(_) if grid.iter().any(|side| side % 2 == 1) => {
                let expected = "even numbers of tokens each way: this model halves the grid";
                return Err(Error::option("size", format!("{grid:?} tokens"), expected));
            }
            Some(_) => grid.map(|side| side / 2),
            None => grid,
        };
        let sequences = batch * images;
        let (rows, positions) = (sequences * inner[0] * inner[1], grid[0] * grid[1]);
        Ok(Prepared {
            model: self,
            images,
            inner,
            block_modulation: modulation(&self.block_modulation)?,
            layer_modulation: modulation(&self.layer_modulation)?,
            before: self.before.context(device, (&text, &activated), keys)?,
            layers: self
                .layers
                .iter()
                .map(|layer| layer.context(device, &text, keys))
                .collect::<Result<_>>()?,
            after: self.after.context(device, (&text, &activated), keys)?,
            patches: self
                .halving
                .as_ref()
                .map(|_| Patches::new(device, grid, [batch, images], narrow))
                .transpose()?,
            narrow: Scratch::new(device, rows, narrow)?,
            blocks: BlockScratch::new(device, [sequences, inner[0], inner[1]], narrow)?,
            wide: Scratch::new(device, rows, wide)?,
            head: self.head.scratch(device, sequences * positions, dtype)?,
        })
    }

    /// SiLU of what modulates all norms and blocks, float `[batch, hidden]`.
    fn condition(
        &self,
        device: &D,
        conditions: &Conditions<'_, D>,
        batch: usize,
    ) -> Result<Tensor<D::Buffer>> {
        let Width { hidden, dtype, .. } = self.sizes.wide;
        let encoded = encode_micro(&conditions.micro, self.encoding).repeat(batch);
        let encoded = device.upload(&encoded, [batch, self.micro.cols])?;
        let mut micro = device.zeros(dtype, *encoded.shape())?;
        ops::activate(device, &mut micro, &encoded, Activation::None)?;
        // The layer's input is the pooled text beside the micro-conditions: a sum of two products.
        let mut sum = device.zeros(DType::F32, [batch, hidden])?;
        ops::linear(device, &mut sum, conditions.pooled, &self.pooled, Activation::None)?;
        ops::linear_add(device, &mut sum, &micro, &self.micro)?;
        let mut between = device.zeros(dtype, [batch, hidden])?;
        ops::activate(device, &mut between, &sum, Activation::Silu)?;
        let mut condition = device.zeros(dtype, [batch, hidden])?;
        ops::linear(device, &mut condition, &between, &self.condition, Activation::Silu)?;
        Ok(condition)
    }
}

/// The transformer with the constants and buffers of a batch of pictures.
pub struct Prepared<'a, D: Device> {
    model: &'a Uvit<D>,
    images: usize,
    inner: [usize; 2],                   // of the blocks and layers
    block_modulation: Tensor<D::Buffer>, // f32 [batch, blocks*2*channels]
    layer_modulation: Tensor<D::Buffer>, // f32 [batch, layers*3*2*hidden]
    before: BlocksKv<D>,
    layers: Vec<ContextKv<D>>,
    after: BlocksKv<D>,
    patches: Option<Patches<D>>,
    narrow: Scratch<D>,
    blocks: BlockScratch<D>,
    wide: Scratch<D>,
    head: HeadScratch<D>,
}

impl<D: Device> MaskedModel<D> for Prepared<'_, D> {
    fn logits(
        &mut self,
        device: &D,
        masked: &Masked<D::Buffer>,
        batch: usize,
    ) -> Result<&mut Tensor<D::Buffer>> {
        let Prepared { model, narrow: s, blocks: b, wide: t, .. } = self;
        let grid = [batch, self.images, self.inner[0], self.inner[1]];
        let rows = grid.iter().product();
        s.set_rows(rows);
        t.set_rows(rows);
        self.block_modulation.reshape([batch, model.block_modulation.rows]);
        self.layer_modulation.reshape([batch, model.layer_modulation.rows]);
        let (of_blocks, of_layers) = (&self.block_modulation, &self.layer_modulation);

        match (&model.halving, &mut self.patches) {
            (Some(halving), Some(patches)) => {
                patches.halve(device, &mut s.x, &masked.tokens, &model.table, halving)?
            }
            _ => ops::embed(device, &mut s.x, &masked.tokens, &model.table, None)?,
        } // [rows, channels]
        let (norm, into) = &model.into;
        model.before.forward(device, (s, b), &mut self.before, (of_blocks, 0), grid, Some(norm))?;

        ops::linear(device, &mut t.x, &s.normed, into, Activation::None)?; // [rows, hidden]
        let columns = NORMS * 2 * model.sizes.wide.hidden;
        let (norm, out_of) = &model.out_of;
        ops::layer_norm(device, &mut t.normed, &t.x, model.layers[0].begin(of_layers, 0))?;
        for (i, (layer, context)) in model.layers.iter().zip(&mut self.layers).enumerate() {
            let after = model.layers.get(i + 1);
            let next = after.map(|layer| layer.begin(of_layers, (i + 1) * columns));
            let next = next.unwrap_or_else(|| norm.into());
            layer.forward(
                device,
                t,
                context,
                (of_layers, i * columns),
                [batch, self.images],
                next,
            )?;
        }
        ops::linear(device, &mut s.x, &t.normed, out_of, Activation::None)?; // [rows, channels]

        let first = of_blocks.shape().last() / 2;
        let norm = model.halving.as_ref().map(|halving| &halving.norm);
        model.after.forward(device, (s, b), &mut self.after, (of_blocks, first), grid, norm)?;
        let x = match (&model.halving, &mut self.patches) {
            (Some(halving), Some(patches)) => patches.double(device, &s.normed, halving)?,
            _ => &s.x,
        }; // [batch*images*positions, channels]

        model.head.forward(device, &mut self.head, x, &masked.positions, batch)?;
        Ok(&mut self.head.logits)
    }
}

/// A 1×1 convolution: a linear layer of every position.
fn point<D: Device>(
    device: &D,
    w: &mut Weights,
    name: &str,
    [to, from]: [usize; 2],
    bias: bool,
) -> Result<Matrix<D::Packed>> {
    ops::pack(device, w.conv(name, [to, from, 1, 1], from, bias)?)
}

/// `embed.conv(rms(embedding))` of every token, f32 `[tokens, channels]`: up to the first block no position
/// sees another. Where the grid is halved, what is convolved there, rounded: `rms` of it again.
fn token_table<D: Device>(
    device: &D,
    w: &mut Weights,
    config: &UvitConfig,
    sizes: Sizes,
) -> Result<Tensor<D::Buffer>> {
    let (tokens, inner, channels) =
        (config.vocab_size, config.in_channels, config.block_out_channels);
    let dtype = sizes.narrow.dtype;
    let embedding = w.floats("embed.embeddings.weight", &[tokens, inner])?;
    let embedding = device.upload(&embedding, [tokens, inner])?;
    let norm = sizes.rms(device, w, "embed.layer_norm", inner)?;
    let conv = point(device, w, "embed.conv", [channels, inner], sizes.bias)?;
    let mut normed = device.zeros(dtype, [tokens, inner])?;
    ops::layer_norm(device, &mut normed, &embedding, &norm)?;
    let mut table = device.zeros(DType::F32, [tokens, channels])?;
    ops::linear(device, &mut table, &normed, &conv, Activation::None)?;
    if !config.downsample {
        return Ok(table);
    }
    let norm = sizes.rms(device, w, "down_block.downsample.norm", channels)?;
    let mut normed = device.zeros(dtype, [tokens, channels])?;
    ops::layer_norm(device, &mut normed, &table, &norm)?;
    Ok(normed)
}

/// Micro-conditions as diffusers' `get_timestep_embedding` encodes each: cosines, then sines, of the value
/// times `10000^(−i/half)`.
fn encode_micro(micro: &[f32], channels: usize) -> Vec<f32> {
    let half = channels / 2;
    let encode = |&value: &f32| {
        let angle = move |i| f64::from(value) * (-(1e4f64.ln()) * i as f64 / half as f64).exp();
        let cosines = (0..half).map(move |i| angle(i).cos() as f32);
        cosines.chain((0..half).map(move |i| angle(i).sin() as f32))
    };
    micro.iter().flat_map(encode).collect()
}
