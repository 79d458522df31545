//! CLIP's text encoder (pre-norm, causal, learned positions), as transformers'
//! `CLIPTextModelWithProjection` computes it: the states before the last layer, and the projection of
//! the whole text.

use crate::device::{Activation, Attention, Device, Heads, Norm};
use crate::error::Result;
use crate::hub::ClipConfig;
use crate::models::layers::{Scratch, Width, linear, norm, stacked};
use crate::ops;
use crate::tensor::{DType, Matrix, Tensor};
use crate::weights::{Rows, Weights};

/// `x += out(attention(norm1(x)))`, then `x += fc2(quick_gelu(fc1(norm2(x))))`.
struct Block<D: Device> {
    norm1: Norm<D::Buffer>,
    qkv: Matrix<D::Packed>, // [3*hidden, hidden]
    out: Matrix<D::Packed>, // [hidden, hidden]
    norm2: Norm<D::Buffer>,
    fc1: Matrix<D::Packed>, // [mlp, hidden]
    fc2: Matrix<D::Packed>, // [hidden, mlp]
}

/// A CLIP text encoder on one device.
pub struct Clip<D: Device> {
    width: Width,
    end: u32,                     // the end token; 2 stands for the largest id
    word_embedding: Rows,         // [vocabulary, hidden], decoded row by row
    position_embedding: Vec<f32>, // [positions, hidden]
    blocks: Vec<Block<D>>,
    final_norm: Norm<D::Buffer>,
    projection: Matrix<D::Packed>, // [projection, hidden]
}

/// What [`Clip::encode`] gives of a batch of texts.
pub struct Encoded<D: Device> {
    /// The states before the last layer and without a norm, float `[batch*length, hidden]`.
    pub states: Tensor<D::Buffer>,
    /// The projection of the final state at the end token, float `[batch, projection]`.
    pub pooled: Tensor<D::Buffer>,
}

impl<D: Device> Encoded<D> {
    /// Texts of [`Clip::length`] ids each as a batch.
    pub fn stacked(device: &D, texts: &[&Self]) -> Result<Self> {
        let (states, pooled): (Vec<_>, Vec<_>) =
            texts.iter().map(|t| (&t.states, &t.pooled)).unzip();
        Ok(Encoded {
            states: super::stacked(device, &states, states[0].shape().rows())?,
            pooled: super::stacked(device, &pooled, 1)?,
        })
    }
}

impl<D: Device> Clip<D> {
    /// Reads the whole checkpoint.
    pub fn load(device: &D, mut weights: Weights, config: &ClipConfig) -> Result<Self> {
        let w = &mut weights;
        let width = Width {
            hidden: config.hidden_size,
            heads: config.num_attention_heads,
            mlp: config.intermediate_size,
            epsilon: config.layer_norm_eps,
            dtype: w.activations(),
        };
        let hidden = width.hidden;
        let layer = |i| Block::read(device, w, &format!("text_model.encoder.layers.{i}"), width);
        let blocks = (0..config.num_hidden_layers).map(layer).collect::<Result<_>>()?;
        let embedding = |part: &str| format!("text_model.embeddings.{part}_embedding.weight");
        let (words, positions) = (config.vocab_size, config.max_position_embeddings);
        let projection = [config.projection_dim, hidden];
        w.ignore("text_model.embeddings.position_ids"); // 0, 1, 2, …: in older checkpoints
        let model = Clip {
            width,
            end: config.eos_token_id,
            word_embedding: w.rows(&embedding("token"), [words, hidden])?,
            position_embedding: w.floats(&embedding("position"), &[positions, hidden])?,
            blocks,
            final_norm: norm(device, w, "text_model.final_layer_norm", hidden, width.epsilon)?,
            projection: linear(device, w, "text_projection", projection, false)?,
        };
        weights.finish()?;
        Ok(model)
    }

    /// Channels of the states, and of the projection.
    pub fn channels(&self) -> [usize; 2] {
        [self.width.hidden, self.projection.rows]
    }

    /// What its states are of.
    pub fn dtype(&self) -> DType {
        self.width.dtype
    }

    /// Token ids of a text, padding among them.
    pub fn length(&self) -> usize {
        self.position_embedding.len() / self.width.hidden
    }

    /// States of one or two texts, of [`Clip::length`] ids each, padding among them: it is attended to as
    /// any token.
    pub fn encode(&self, device: &D, texts: &[&[u32]]) -> Result<Encoded<D>> {
        let Width { hidden, dtype, .. } = self.width;
        let (batch, length) = (texts.len(), self.length());
        let ids = texts.concat();
        let n = batch * length;
        let mut s = Scratch::new(device, n, self.width)?;
        let words = device.upload_floats(&self.word_embedding.gather(&ids)?, [n, hidden])?;
        let positions = device.upload(&self.position_embedding.repeat(batch), [n, hidden])?;
        let order = device.upload(&Vec::from_iter(0..n as u32), [n])?;
        ops::embed(device, &mut s.x, &order, &words, Some(&positions))?; // [batch*length, hidden]
        ops::layer_norm(device, &mut s.normed, &s.x, &self.blocks[0].norm1)?;

        let (last, blocks) = self.blocks.split_last().expect("a config has two layers or more");
        for (i, block) in blocks.iter().enumerate() {
            block.forward(device, &mut s, batch, &self.blocks[i + 1].norm1)?;
        }
        let mut states = device.zeros(dtype, [n, hidden])?;
        ops::activate(device, &mut states, &s.x, Activation::None)?; // [batch*length, hidden]

        let ends: Vec<usize> = texts.iter().map(|ids| self.end_of(ids)).collect();
        last.forward_at(device, &mut s, &ends, &self.final_norm)?; // [batch, hidden]
        let mut pooled = device.zeros(dtype, [batch, self.projection.rows])?;
        ops::linear(device, &mut pooled, &s.normed, &self.projection, Activation::None)?; // [batch, projection]
        Ok(Encoded { states, pooled })
    }

    /// Where a text ends, as transformers finds it: at the first end token, or the first of the largest
    /// ids where the config has 2 for it, as those do that were made before transformers read it.
    fn end_of(&self, ids: &[u32]) -> usize {
        let end = match self.end {
            2 => ids.iter().copied().max().unwrap_or_default(),
            end => end,
        };
        ids.iter().position(|&id| id == end).unwrap_or(0)
    }
}

impl<D: Device> Block<D> {
    fn read(device: &D, w: &mut Weights, layer: &str, width: Width) -> Result<Self> {
        let Width { hidden, mlp, epsilon, .. } = width;
        let name = |part: &str| format!("{layer}.{part}");
        let [q, k, v, out] =
            ["q", "k", "v", "out"].map(|part| format!("{layer}.self_attn.{part}_proj"));
        let square = [hidden, hidden];
        Ok(Block {
            norm1: norm(device, w, &name("layer_norm1"), hidden, epsilon)?,
            qkv: stacked(device, w, &[&q, &k, &v], square, true)?,
            out: linear(device, w, &out, square, true)?,
            norm2: norm(device, w, &name("layer_norm2"), hidden, epsilon)?,
            fc1: linear(device, w, &name("mlp.fc1"), [mlp, hidden], true)?,
            fc2: linear(device, w, &name("mlp.fc2"), [hidden, mlp], true)?,
        })
    }

    /// The layer over all rows of `batch` texts. `next` is the norm that follows it.
    fn forward(
        &self,
        device: &D,
        s: &mut Scratch<D>,
        batch: usize,
        next: &Norm<D::Buffer>,
    ) -> Result<()> {
        let (hidden, length) = (s.width().hidden, s.x.shape().rows() / batch);
        ops::linear(device, &mut s.qkv, &s.normed, &self.qkv, Activation::None)?; // [batch*length, 3*hidden]
        let part = |i| Heads { tensor: &s.qkv, offset: i * hidden };
        let sizes = Attention { causal: true, ..s.attention(batch, length, length) };
        ops::attention(device, &mut s.attended, part(0), part(1), part(2), sizes)?; // [batch*length, hidden]
        self.finish(device, s, next)
    }

    /// The layer for the row `ends[i]` of each text alone, as the last layer is asked for: of the other rows
    /// it takes the keys and values, of those up to the end. Leaves one row of each text.
    fn forward_at(
        &self,
        device: &D,
        s: &mut Scratch<D>,
        ends: &[usize],
        next: &Norm<D::Buffer>,
    ) -> Result<()> {
        let Width { hidden, dtype, .. } = s.width();
        let (batch, length) = (ends.len(), s.x.shape().rows() / ends.len());
        ops::linear(device, &mut s.qkv, &s.normed, &self.qkv, Activation::None)?; // [batch*length, 3*hidden]
        let mut x = device.zeros(DType::F32, [batch, hidden])?;
        let mut q = device.zeros(dtype, [batch, 3 * hidden])?;
        let mut sizes = s.attention(batch, 1, length);
        for (i, end) in ends.iter().enumerate() {
            ops::copy_rows(device, &mut x, i, &s.x, i * length + end, 1)?;
            ops::copy_rows(device, &mut q, i, &s.qkv, i * length + end, 1)?;
            sizes.lengths[i] = end + 1;
        }
        std::mem::swap(&mut s.x, &mut x);
        s.attended.reshape([batch, hidden]);
        let q = Heads { tensor: &q, offset: 0 };
        let part = |i| Heads { tensor: &s.qkv, offset: i * hidden };
        ops::attention(device, &mut s.attended, q, part(1), part(2), sizes)?; // [batch, hidden]
        s.set_rows(batch);
        self.finish(device, s, next)
    }

    /// What follows the attention.
    fn finish(&self, device: &D, s: &mut Scratch<D>, next: &Norm<D::Buffer>) -> Result<()> {
        ops::linear_add_norm(device, &mut s.x, &mut s.normed, &s.attended, &self.out, &self.norm2)?;
        ops::linear(device, &mut s.mlp, &s.normed, &self.fc1, Activation::QuickGelu)?; // [rows, mlp]
        ops::linear_add_norm(device, &mut s.x, &mut s.normed, &s.mlp, &self.fc2, next)
    }
}
