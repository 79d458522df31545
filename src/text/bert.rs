//! BERT text encoder (post-norm, learned positions), as transformers' `BertModel` computes it:
//! the last hidden states.

use crate::config::TextConfig;
use crate::device::{Activation, Attention, Device, Heads, Norm};
use crate::error::Result;
use crate::models::layers::{Scratch, Width, linear, norm, stacked};
use crate::ops;
use crate::tensor::{DType, Matrix, Tensor};
use crate::weights::{Rows, Weights};

/// `x = norm(x + out(attention(x)))`, then `x = norm(x + down(gelu(up(x))))`.
struct Block<D: Device> {
    qkv: Matrix<D::Packed>, // [3*hidden, hidden]
    out: Matrix<D::Packed>, // [hidden, hidden]
    attention_norm: Norm<D::Buffer>,
    up: Matrix<D::Packed>,   // [mlp, hidden]
    down: Matrix<D::Packed>, // [hidden, mlp]
    output_norm: Norm<D::Buffer>,
}

/// A BERT encoder on one device.
pub struct Bert<D: Device> {
    width: Width,
    word_embedding: Rows,         // [vocabulary, hidden], decoded row by row
    position_embedding: Vec<f32>, // [positions, hidden], token type 0 added
    embedding_norm: Norm<D::Buffer>,
    blocks: Vec<Block<D>>,
}

impl<D: Device> Bert<D> {
    /// Reads the whole checkpoint (Hugging Face names, no pooler).
    pub fn load(device: &D, mut weights: Weights, config: &TextConfig) -> Result<Self> {
        let w = &mut weights;
        let width = Width {
            hidden: config.hidden_size,
            heads: config.num_attention_heads,
            mlp: config.intermediate_size,
            epsilon: config.layer_norm_eps,
            dtype: w.activations(),
        };
        let Width { hidden, mlp, epsilon, .. } = width;
        let blocks = (0..config.num_hidden_layers)
            .map(|i| {
                let layer = format!("encoder.layer.{i}");
                let attention = format!("{layer}.attention");
                let [q, k, v] =
                    ["query", "key", "value"].map(|part| format!("{attention}.self.{part}"));
                let (out, up, down) = (
                    format!("{attention}.output.dense"),
                    format!("{layer}.intermediate.dense"),
                    format!("{layer}.output.dense"),
                );
                let attention_norm = format!("{attention}.output.LayerNorm");
                let output_norm = format!("{layer}.output.LayerNorm");
                Ok(Block {
                    qkv: stacked(device, w, &[&q, &k, &v], [hidden, hidden], true)?,
                    out: linear(device, w, &out, [hidden, hidden], true)?,
                    attention_norm: norm(device, w, &attention_norm, hidden, epsilon)?,
                    up: linear(device, w, &up, [mlp, hidden], true)?,
                    down: linear(device, w, &down, [hidden, mlp], true)?,
                    output_norm: norm(device, w, &output_norm, hidden, epsilon)?,
                })
            })
            .collect::<Result<_>>()?;
        let positions = config.max_position_embeddings;
        let types = [config.type_vocab_size, hidden];
        let first_type = w.floats("embeddings.token_type_embeddings.weight", &types)?;
        let mut position_embedding =
            w.floats("embeddings.position_embeddings.weight", &[positions, hidden])?;
        for row in position_embedding.chunks_exact_mut(hidden) {
            row.iter_mut().zip(&first_type).for_each(|(p, t)| *p += t);
        }
        let words = [config.vocab_size, hidden];
        let model = Bert {
            width,
            word_embedding: w.rows("embeddings.word_embeddings.weight", words)?,
            position_embedding,
            embedding_norm: norm(device, w, "embeddings.LayerNorm", hidden, epsilon)?,
            blocks,
        };
        weights.finish()?;
        Ok(model)
    }

    /// What its states are of.
    pub fn dtype(&self) -> DType {
        self.width.dtype
    }

    /// Last hidden states of one or two sequences of token ids, float `[batch*longest, hidden]`; what lies
    /// beyond a sequence's length means nothing.
    pub fn encode(&self, device: &D, sequences: &[&[u32]]) -> Result<Tensor<D::Buffer>> {
        let Width { hidden, .. } = self.width;
        let batch = sequences.len();
        let lengths = [sequences[0].len(), sequences[batch - 1].len()];
        let longest = lengths[0].max(lengths[1]);
        let n = batch * longest;
        let ids = sequences.concat();
        let words =
            device.upload_floats(&self.word_embedding.gather(&ids)?, [ids.len(), hidden])?;
        let row = |i: usize| match (i / longest, i % longest) {
            (sequence, i) if i < lengths[sequence] => (sequence * lengths[0] + i) as u32,
            _ => 0, // padding: any row
        };
        let order = device.upload(&Vec::from_iter((0..n).map(row)), [n])?;
        let positions = self.position_embedding[..longest * hidden].repeat(batch);
        let positions = device.upload(&positions, [n, hidden])?;
        let mut s = Scratch::new(device, n, self.width)?;
        let mut sum = device.zeros(DType::F32, [n, hidden])?;
        let sizes = Attention { lengths, ..s.attention(batch, longest, longest) };

        ops::embed(device, &mut sum, &order, &words, Some(&positions))?;
        post_norm(device, &mut s, &mut sum, &self.embedding_norm)?;
        for block in &self.blocks {
            ops::linear(device, &mut s.qkv, &s.normed, &block.qkv, Activation::None)?; // [n, 3*hidden]
            let part = |i| Heads { tensor: &s.qkv, offset: i * hidden };
            ops::attention(device, &mut s.attended, part(0), part(1), part(2), sizes)?; // [n, hidden]
            ops::linear_add(device, &mut sum, &s.attended, &block.out)?;
            post_norm(device, &mut s, &mut sum, &block.attention_norm)?;
            ops::linear(device, &mut s.mlp, &s.normed, &block.up, Activation::Gelu)?; // [n, mlp]
            ops::linear_add(device, &mut sum, &s.mlp, &block.down)?;
            post_norm(device, &mut s, &mut sum, &block.output_norm)?;
        }
        Ok(s.normed)
    }
}

/// Normalises the sum of residual and branch twice: as the next residual (f32) and as the next
/// input (bf16). On return `sum` is the new residual.
fn post_norm<D: Device>(
    device: &D,
    s: &mut Scratch<D>,
    sum: &mut Tensor<D::Buffer>,
    norm: &Norm<D::Buffer>,
) -> Result<()> {
    ops::layer_norm(device, &mut s.normed, sum, norm)?;
    ops::layer_norm(device, &mut s.x, sum, norm)?;
    std::mem::swap(&mut s.x, sum);
    Ok(())
}
