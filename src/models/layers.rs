//! What transformers are made of: weights read by name, packed for the device.

use crate::device::{
    Activation, Attention, Device, Heads, MatrixSource, Norm, NormKind, Normalize,
};
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

/// Packs a matrix that every decode step multiplies by, for products in `products` ([`Weights::products`]).
pub fn pack_step<D: Device>(
    device: &D,
    matrix: MatrixSource<'_>,
    products: DType,
) -> Result<Matrix<D::Packed>> {
    match products {
        DType::I8 => ops::pack_int8(device, matrix),
        _ => ops::pack(device, matrix),
    }
}

/// [`linear`], of every decode step.
pub fn step_linear<D: Device>(
    device: &D,
    weights: &mut Weights,
    name: &str,
    shape: [usize; 2],
    bias: bool,
) -> Result<Matrix<D::Packed>> {
    let products = weights.products();
    pack_step(device, weights.matrices(&[name], shape, bias)?, products)
}

/// Reads the LayerNorm `name.weight` and `name.bias`, f32 `[channels]`.
pub fn norm<D: Device>(
    device: &D,
    weights: &mut Weights,
    name: &str,
    channels: usize,
    epsilon: f32,
) -> Result<Norm<D::Buffer>> {
    norm_of(device, weights, name, channels, (NormKind::Layer, epsilon, true))
}

/// Reads the norm `name.weight`, f32 `[channels]`, with `name.bias` when `bias`.
pub fn norm_of<D: Device>(
    device: &D,
    weights: &mut Weights,
    name: &str,
    channels: usize,
    (kind, epsilon, bias): (NormKind, f32, bool),
) -> Result<Norm<D::Buffer>> {
    let mut read = |part: &str| {
        let values = weights.floats(&format!("{name}.{part}"), &[channels])?;
        device.upload(&values, [channels])
    };
    let weight = read("weight")?;
    let bias = bias.then(|| read("bias")).transpose()?;
    Ok(Norm { kind, weight, bias, epsilon })
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
    /// Blocks of a sequence, and rows of a block, where self-attention is multi-axis.
    pub axes: Option<[usize; 2]>,
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
            axes: None,
            width,
        })
    }

    /// Bytes of its buffers for one row, about.
    pub fn bytes_per_row(width: Width) -> usize {
        let Width { hidden, mlp, dtype, .. } = width;
        4 * hidden + dtype.size() * (5 * hidden + mlp)
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

    /// The widths it was made for.
    pub fn width(&self) -> Width {
        self.width
    }

    /// Sizes of an attention of these heads without a mask.
    pub fn attention(&self, batch: usize, queries: usize, keys: usize) -> Attention {
        let Width { hidden, heads, .. } = self.width;
        Attention::new(batch, [heads, hidden / heads], [queries, keys])
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
        let norm = norm(device, weights, &format!("{prefix}.self_norm"), w.hidden, w.epsilon)?;
        let parts = ["q", "k", "v", "out"];
        Self::named(device, weights, &format!("{prefix}.self_attention"), (norm, parts), w, false)
    }

    /// Reads `{prefix}.{part}` of four parts: queries, keys, values and output, with biases when `bias`.
    pub fn named(
        device: &D,
        weights: &mut Weights,
        prefix: &str,
        (norm, parts): (Norm<D::Buffer>, [&str; 4]),
        w: Width,
        bias: bool,
    ) -> Result<Self> {
        let square = [w.hidden, w.hidden];
        let [q, k, v, out] = parts.map(|part| format!("{prefix}.{part}"));
        let products = weights.products();
        Ok(SelfAttention {
            norm,
            qkv: pack_step(device, weights.matrices(&[&q, &k, &v], square, bias)?, products)?,
            out: step_linear(device, weights, &out, square, bias)?,
        })
    }

    /// Attends within each of `batch` sequences of equal length, or along the axes of each: half of the heads
    /// within every block of rows, the others from row to row of the same place in every block (HiT, arXiv
    /// 2106.07631, §3.2). `next` is the norm that follows, `None` where it does not follow at once.
    pub fn forward(
        &self,
        device: &D,
        s: &mut Scratch<D>,
        batch: usize,
        next: Option<Normalize<'_, D::Buffer>>,
    ) -> Result<()> {
        let (hidden, rows) = (s.width.hidden, s.x.shape().rows() / batch);
        ops::linear(device, &mut s.qkv, &s.normed, &self.qkv, Activation::None)?; // [batch*rows, 3*hidden]
        let all = s.attention(batch, rows, rows);
        let halves = s.axes.map(|[blocks, cells]| {
            let half = |along, batch| Attention {
                heads: all.heads / 2,
                ..s.attention(batch, along, along)
            };
            let within = half(cells, batch * blocks);
            let across = half(blocks, batch * cells);
            [within, Attention { step: cells, column: hidden / 2, ..across }]
        });
        for &sizes in halves.as_ref().map_or(&[all][..], |halves| halves) {
            let [q, k, v] =
                [0, 1, 2].map(|i| Heads { tensor: &s.qkv, offset: i * hidden + sizes.column });
            ops::attention(device, &mut s.attended, q, k, v, sizes)?; // [batch*rows, hidden]
        }
        end(device, s, &self.out, next)
    }
}

/// Adds the attention's output to the residual stream, and makes what the norm that follows makes of it.
fn end<D: Device>(
    device: &D,
    s: &mut Scratch<D>,
    out: &Matrix<D::Packed>,
    next: Option<Normalize<'_, D::Buffer>>,
) -> Result<()> {
    match next {
        Some(next) => ops::linear_add_norm(device, &mut s.x, &mut s.normed, &s.attended, out, next),
        None => ops::linear_add(device, &mut s.x, &s.attended, out),
    }
}

/// `x` so many times, one after another: f32 `[times*rows, width]`.
pub fn repeated<D: Device>(
    device: &D,
    x: &Tensor<D::Buffer>,
    times: usize,
) -> Result<Tensor<D::Buffer>> {
    let (rows, width) = (x.shape().rows(), x.shape().last());
    let mut out = device.zeros(DType::F32, [times * rows, width])?;
    for i in 0..times {
        ops::copy_rows(device, &mut out, i * rows, x, 0, rows)?;
    }
    Ok(out)
}

/// Keys and values of the cross-attention context of one layer: constant for one image.
pub struct ContextKv<D: Device> {
    /// Float `[batch*keys, 2*hidden]`: keys, then values.
    pub kv: Tensor<D::Buffer>,
    /// Rows reserved for one sequence.
    pub keys: usize,
    /// Rows that exist of each conditional sequence, and of each unconditional one.
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
        let norm = norm(device, weights, &format!("{prefix}.cross_norm"), w.hidden, w.epsilon)?;
        let parts = ["q", "k", "v", "out"];
        Self::named(device, weights, &format!("{prefix}.cross_attention"), (norm, parts), w, false)
    }

    /// Reads `{prefix}.{part}` as [`SelfAttention::named`] does.
    pub fn named(
        device: &D,
        weights: &mut Weights,
        prefix: &str,
        (norm, parts): (Norm<D::Buffer>, [&str; 4]),
        w: Width,
        bias: bool,
    ) -> Result<Self> {
        let square = [w.hidden, w.hidden];
        let [q, k, v, out] = parts.map(|part| format!("{prefix}.{part}"));
        Ok(CrossAttention {
            norm,
            q: step_linear(device, weights, &q, square, bias)?,
            kv: stacked(device, weights, &[&k, &v], square, bias)?,
            out: step_linear(device, weights, &out, square, bias)?,
        })
    }

    /// Keys and values of `context` float `[sequences*keys, hidden]`, once per image.
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

    /// Attends from each of `batch` times `contexts` sequences to its own context rows: conditional ones, then
    /// (batch 2) unconditional ones. Images with a context in common are one sequence. `next` is the norm that
    /// follows, `None` where it does not follow at once.
    pub fn forward(
        &self,
        device: &D,
        s: &mut Scratch<D>,
        context: &mut ContextKv<D>,
        [batch, contexts]: [usize; 2],
        next: Option<Normalize<'_, D::Buffer>>,
    ) -> Result<()> {
        let (hidden, rows) = (s.width.hidden, s.x.shape().rows());
        let sequences = batch * contexts;
        s.qkv.reshape([rows, hidden]);
        context.kv.reshape([sequences * context.keys, 2 * hidden]);
        let [with, without] = context.lengths;
        let sizes = Attention {
            lengths: if batch == 1 { [with; 2] } else { [with, without] },
            ..s.attention(sequences, rows / sequences, context.keys)
        };
        let kv = [0, hidden].map(|offset| Heads { tensor: &context.kv, offset });
        let (out, queries) = (&mut s.attended, &mut s.qkv);
        ops::project_and_attend(device, out, queries, &s.normed, &self.q, kv, sizes)?; // [batch*rows, hidden]
        s.qkv.reshape([rows, 3 * hidden]);
        end(device, s, &self.out, next)
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
            up: step_linear(device, weights, &up, [w.mlp, w.hidden], false)?,
            down: step_linear(device, weights, &down, [w.hidden, w.mlp], false)?,
        })
    }

    /// Applies the block to every row. `next` is the norm that follows.
    pub fn forward(&self, device: &D, s: &mut Scratch<D>, next: &Norm<D::Buffer>) -> Result<()> {
        ops::linear(device, &mut s.mlp, &s.normed, &self.up, Activation::Gelu)?; // [rows, mlp]
        ops::linear_add_norm(device, &mut s.x, &mut s.normed, &s.mlp, &self.down, next)
    }
}
