//! What transformers are made of: weights read by name, packed for the device.

use crate::device::{Activation, Attention, Device, Heads, Norm, NormKind};
use crate::error::Result;
use crate::ops;
use crate::tensor::{DType, Matrix, Tensor};
use crate::weights::Weights;

/// Packs the linear layer `name.weight [rows, cols]`, with `name.bias` when `bias`.
pub fn linear<D: Device>(
    device: &D,
    weights: &mut Weights,
    name: &str,
    [rows, cols]: [usize; 2],
    bias: bool,
) -> Result<Matrix<D::Packed>> {
    stacked(device, weights, &[name], [rows, cols], bias)
}

/// Packs linear layers of equal width `[rows, cols]` as one matrix, their rows one after another.
pub fn stacked<D: Device>(
    device: &D,
    weights: &mut Weights,
    names: &[&str],
    [rows, cols]: [usize; 2],
    bias: bool,
) -> Result<Matrix<D::Packed>> {
    ops::pack(device, weights.matrices(names, [rows, cols], bias)?)
}

/// Reads `name.weight` and `name.bias`, f32 `[channels]`.
pub fn norm<D: Device>(
    device: &D,
    weights: &mut Weights,
    name: &str,
    channels: usize,
    epsilon: f32,
) -> Result<Norm<D::Buffer>> {
    let weight = weights.floats(&format!("{name}.weight"), &[channels])?;
    let bias = weights.floats(&format!("{name}.bias"), &[channels])?;
    Ok(Norm {
        kind: NormKind::Layer,
        weight: device.upload(&weight, [channels])?,
        bias: Some(device.upload(&bias, [channels])?),
        epsilon,
    })
}

/// Widths shared by all blocks of one transformer.
#[derive(Clone, Copy, Debug)]
pub struct Width {
    /// Channels of the residual stream.
    pub hidden: usize,
    /// Attention heads.
    pub heads: usize,
    /// Channels inside the MLP.
    pub mlp: usize,
    /// Added to the variance in LayerNorm.
    pub epsilon: f32,
    /// What lies between two verbs: bf16 or f32.
    pub dtype: DType,
}

/// Buffers of one forward over at most `rows` rows, laid out once.
pub struct Scratch<D: Device> {
    /// Residual stream, f32 `[rows, hidden]`.
    pub x: Tensor<D::Buffer>,
    /// Normalised input of a block, float `[rows, hidden]`.
    pub normed: Tensor<D::Buffer>,
    /// Queries, keys and values, float `[rows, 3*hidden]`.
    pub qkv: Tensor<D::Buffer>,
    /// Attention output, float `[rows, hidden]`.
    pub attended: Tensor<D::Buffer>,
    /// MLP activations, float `[rows, mlp]`.
    pub mlp: Tensor<D::Buffer>,
    width: Width,
}

impl<D: Device> Scratch<D> {
    /// Buffers for `rows` rows.
    pub fn new(device: &D, rows: usize, width: Width) -> Result<Self> {
        let Width { hidden, dtype, .. } = width;
        Ok(Scratch {
            x: device.zeros(DType::F32, [rows, hidden])?,
            normed: device.zeros(dtype, [rows, hidden])?,
            qkv: device.zeros(dtype, [rows, 3 * hidden])?,
            attended: device.zeros(dtype, [rows, hidden])?,
            mlp: device.zeros(dtype, [rows, width.mlp])?,
            width,
        })
    }

    /// Shapes every buffer for `rows` rows.
    pub fn set_rows(&mut self, rows: usize) {
        let Width { hidden, mlp, .. } = self.width;
        self.x.reshape([rows, hidden]);
        self.normed.reshape([rows, hidden]);
        self.qkv.reshape([rows, 3 * hidden]);
        self.attended.reshape([rows, hidden]);
        self.mlp.reshape([rows, mlp]);
    }
}

// A block finds `normed` as its own norm made it, and leaves there what the norm that follows it makes: so the
// end of one and the beginning of the next are one verb.

/// Pre-norm self-attention: `x += out(attention(qkv(norm(x))))`.
pub struct SelfAttention<D: Device> {
    /// Of its input.
    pub norm: Norm<D::Buffer>,
    qkv: Matrix<D::Packed>, // [3*hidden, hidden]
    out: Matrix<D::Packed>, // [hidden, hidden]
}

impl<D: Device> SelfAttention<D> {
    /// Reads `{prefix}.self_norm` and `{prefix}.self_attention.{q,k,v,out}`.
    pub fn read(device: &D, weights: &mut Weights, prefix: &str, w: Width) -> Result<Self> {
        let square = [w.hidden, w.hidden];
        let attention = format!("{prefix}.self_attention");
        let [q, k, v] = ["q", "k", "v"].map(|part| format!("{attention}.{part}"));
        Ok(SelfAttention {
            norm: norm(device, weights, &format!("{prefix}.self_norm"), w.hidden, w.epsilon)?,
            qkv: stacked(device, weights, &[&q, &k, &v], square, false)?,
            out: linear(device, weights, &format!("{attention}.out"), square, false)?,
        })
    }

    /// Attends within each of `batch` sequences of equal length. `next` is the norm that follows, `None`
    /// where it does not follow at once.
    pub fn forward(
        &self,
        device: &D,
        s: &mut Scratch<D>,
        batch: usize,
        next: Option<&Norm<D::Buffer>>,
    ) -> Result<()> {
        let Width { hidden, heads, .. } = s.width;
        let rows = s.x.shape().rows() / batch;
        ops::linear(device, &mut s.qkv, &s.normed, &self.qkv, Activation::None)?; // [batch*rows, 3*hidden]
        let part = |i| Heads { tensor: &s.qkv, offset: i * hidden };
        let sizes = Attention {
            batch,
            heads,
            head_dim: hidden / heads,
            queries: rows,
            keys: rows,
            lengths: [rows; 2],
            causal: false,
        };
        ops::attention(device, &mut s.attended, part(0), part(1), part(2), sizes)?; // [batch*rows, hidden]
        match next {
            Some(next) => {
                ops::linear_add_norm(device, &mut s.x, &mut s.normed, &s.attended, &self.out, next)
            }
            None => ops::linear_add(device, &mut s.x, &s.attended, &self.out),
        }
    }
}

/// Keys and values of the cross-attention context of one layer: constant for one image.
pub struct ContextKv<D: Device> {
    /// Float `[batch*keys, 2*hidden]`: keys, then values.
    pub kv: Tensor<D::Buffer>,
    /// Rows reserved for one sequence.
    pub keys: usize,
    /// Rows of each sequence that exist.
    pub lengths: [usize; 2],
}

/// Pre-norm cross-attention to the context: `x += out(attention(q(norm(x)), kv))`.
pub struct CrossAttention<D: Device> {
    /// Of its input.
    pub norm: Norm<D::Buffer>,
    q: Matrix<D::Packed>,   // [hidden, hidden]
    kv: Matrix<D::Packed>,  // [2*hidden, hidden]
    out: Matrix<D::Packed>, // [hidden, hidden]
}

impl<D: Device> CrossAttention<D> {
    /// Reads `{prefix}.cross_norm` and `{prefix}.cross_attention.{q,k,v,out}`.
    pub fn read(device: &D, weights: &mut Weights, prefix: &str, w: Width) -> Result<Self> {
        let square = [w.hidden, w.hidden];
        let attention = format!("{prefix}.cross_attention");
        let [k, v] = ["k", "v"].map(|part| format!("{attention}.{part}"));
        Ok(CrossAttention {
            norm: norm(device, weights, &format!("{prefix}.cross_norm"), w.hidden, w.epsilon)?,
            q: linear(device, weights, &format!("{attention}.q"), square, false)?,
            kv: stacked(device, weights, &[&k, &v], square, false)?,
            out: linear(device, weights, &format!("{attention}.out"), square, false)?,
        })
    }

    /// Keys and values of `context` float `[batch*keys, hidden]`, once per image.
    pub fn context(
        &self,
        device: &D,
        context: &Tensor<D::Buffer>,
        keys: usize,
        lengths: [usize; 2],
    ) -> Result<ContextKv<D>> {
        let mut kv = device.zeros(context.dtype(), [context.shape().rows(), self.kv.rows])?;
        ops::linear(device, &mut kv, context, &self.kv, Activation::None)?;
        Ok(ContextKv { kv, keys, lengths })
    }

    /// Attends from each of `batch` sequences to its own context rows. `next` is the norm that follows.
    pub fn forward(
        &self,
        device: &D,
        s: &mut Scratch<D>,
        context: &mut ContextKv<D>,
        batch: usize,
        next: &Norm<D::Buffer>,
    ) -> Result<()> {
        let Width { hidden, heads, .. } = s.width;
        let rows = s.x.shape().rows();
        s.qkv.reshape([rows, hidden]);
        ops::linear(device, &mut s.qkv, &s.normed, &self.q, Activation::None)?; // [batch*rows, hidden]
        context.kv.reshape([batch * context.keys, 2 * hidden]);
        let sizes = Attention {
            batch,
            heads,
            head_dim: hidden / heads,
            queries: rows / batch,
            keys: context.keys,
            lengths: context.lengths,
            causal: false,
        };
        let q = Heads { tensor: &s.qkv, offset: 0 };
        let part = |i| Heads { tensor: &context.kv, offset: i * hidden };
        ops::attention(device, &mut s.attended, q, part(0), part(1), sizes)?; // [batch*rows, hidden]
        s.qkv.reshape([rows, 3 * hidden]);
        ops::linear_add_norm(device, &mut s.x, &mut s.normed, &s.attended, &self.out, next)
    }
}

/// Pre-norm MLP with exact GELU: `x += down(gelu(up(norm(x))))`.
pub struct Mlp<D: Device> {
    /// Of its input.
    pub norm: Norm<D::Buffer>,
    up: Matrix<D::Packed>,   // [mlp, hidden]
    down: Matrix<D::Packed>, // [hidden, mlp]
}

impl<D: Device> Mlp<D> {
    /// Reads `{prefix}.mlp_norm` and `{prefix}.mlp.{up,down}`.
    pub fn read(device: &D, weights: &mut Weights, prefix: &str, w: Width) -> Result<Self> {
        let (up, down) = (format!("{prefix}.mlp.up"), format!("{prefix}.mlp.down"));
        Ok(Mlp {
            norm: norm(device, weights, &format!("{prefix}.mlp_norm"), w.hidden, w.epsilon)?,
            up: linear(device, weights, &up, [w.mlp, w.hidden], false)?,
            down: linear(device, weights, &down, [w.hidden, w.mlp], false)?,
        })
    }

    /// Applies the block to every row. `next` is the norm that follows.
    pub fn forward(&self, device: &D, s: &mut Scratch<D>, next: &Norm<D::Buffer>) -> Result<()> {
        ops::linear(device, &mut s.mlp, &s.normed, &self.up, Activation::Gelu)?; // [rows, mlp]
        ops::linear_add_norm(device, &mut s.x, &mut s.normed, &s.mlp, &self.down, next)
    }
}
