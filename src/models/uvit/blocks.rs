//! What aMUSEd's transformer is made of: the convolutional blocks round the layers, and a layer.

use crate::device::{Activation, Depthwise, Device, Modulation, Norm, NormKind, Normalize};
use crate::error::Result;
use crate::models::layers::*;
use crate::ops;
use crate::tensor::{DType, Matrix, Tensor};
use crate::weights::Weights;

/// Added to the mean square in an attention block's norms, whatever the config says.
const EPSILON: f32 = 1e-6;
/// Channels inside a residual block, by those outside.
const WIDENING: usize = 4;

/// Whether linear layers have biases, and how wide things are.
#[derive(Clone, Copy)]
pub(super) struct Sizes {
    /// Of the blocks.
    pub narrow: Width,
    /// Of the layers.
    pub wide: Width,
    pub bias: bool,
}

impl Sizes {
    /// Widths of the blocks.
    pub fn narrow(channels: usize, heads: usize, epsilon: f32, dtype: DType) -> Width {
        Width { hidden: channels, heads, mlp: WIDENING * channels, epsilon, dtype }
    }

    /// The RMSNorm `name`.
    pub fn rms<D: Device>(
        self,
        device: &D,
        w: &mut Weights,
        name: &str,
        channels: usize,
    ) -> Result<Norm<D::Buffer>> {
        norm_of(device, w, name, channels, (NormKind::Rms, self.wide.epsilon, false))
    }
}

/// diffusers' `ConvNextBlock`: `x += down(respond(gelu(up(rms(depthwise(x))))))`, then
/// `x = x·(1 + s) + t`, which modulates the residual stream itself.
struct ResBlock<D: Device> {
    filter: Depthwise<D::Buffer>,
    norm: Norm<D::Buffer>,
    up: Matrix<D::Packed>,    // [4*channels, channels]
    gain: Tensor<D::Buffer>,  // f32 [4*channels], of the global response norm
    shift: Tensor<D::Buffer>, // f32 [4*channels]
    down: Matrix<D::Packed>,  // [channels, 4*channels]
}

/// diffusers' `SkipFFTransformerBlock`: two cross-attentions to the same text.
struct AttentionBlock<D: Device> {
    map: Option<Matrix<D::Packed>>, // [channels, hidden]
    attentions: [CrossAttention<D>; 2],
}

/// Residual and attention blocks in turn, diffusers' `UVitBlock` but for what it does to the grid.
pub(super) struct Blocks<D: Device>(Vec<(ResBlock<D>, AttentionBlock<D>)>);

/// Text keys and values of [`Blocks`].
pub(super) type BlocksKv<D> = Vec<[ContextKv<D>; 2]>;

/// Buffers of [`Blocks::forward`] beside [`Scratch`].
pub(super) struct BlockScratch<D: Device> {
    filtered: Tensor<D::Buffer>,  // f32 [batch, height, width, channels]
    responded: Tensor<D::Buffer>, // float [batch*positions, 4*channels]
}

impl<D: Device> BlockScratch<D> {
    pub fn new(device: &D, [batch, height, width]: [usize; 3], narrow: Width) -> Result<Self> {
        let Width { hidden, mlp, dtype, .. } = narrow;
        Ok(BlockScratch {
            filtered: device.zeros(DType::F32, [batch, height, width, hidden])?,
            responded: device.zeros(dtype, [batch * height * width, mlp])?,
        })
    }
}

impl<D: Device> Blocks<D> {
    /// Reads `{prefix}.res_blocks` and `{prefix}.attention_blocks`, `count` of each.
    pub fn read(
        device: &D,
        w: &mut Weights,
        prefix: &str,
        count: usize,
        sizes: Sizes,
    ) -> Result<Self> {
        let block = |i| {
            let res = ResBlock::read(device, w, &format!("{prefix}.res_blocks.{i}"), sizes)?;
            let name = format!("{prefix}.attention_blocks.{i}");
            Ok((res, AttentionBlock::read(device, w, &name, sizes)?))
        };
        Ok(Blocks((0..count).map(block).collect::<Result<_>>()?))
    }

    /// Keys and values of the text float `[batch*keys, hidden]`; `activated` is its SiLU.
    pub fn context(
        &self,
        device: &D,
        (text, activated): (&Tensor<D::Buffer>, &Tensor<D::Buffer>),
        keys: usize,
    ) -> Result<BlocksKv<D>> {
        let context = |(_, block): &(ResBlock<D>, AttentionBlock<D>)| {
            let mapped = match &block.map {
                Some(map) => {
                    let mut y = device.zeros(text.dtype(), [text.shape().rows(), map.rows])?;
                    ops::linear(device, &mut y, activated, map, Activation::None)?;
                    Some(y)
                }
                None => None,
            };
            let text = mapped.as_ref().unwrap_or(text); // [batch*keys, channels]
            let [a, b] = &block.attentions;
            let of =
                |attention: &CrossAttention<D>| attention.context(device, text, keys, [keys; 2]);
            Ok([of(a)?, of(b)?])
        };
        self.0.iter().map(context).collect()
    }

    /// Runs all blocks over `s.x`, f32 `[batch*images*positions, channels]`. Block i is modulated by columns from
    /// `first + i*2*channels` on of `modulation`. `next` is the norm that follows the last.
    pub fn forward(
        &self,
        device: &D,
        (s, b): (&mut Scratch<D>, &mut BlockScratch<D>),
        context: &mut BlocksKv<D>,
        (modulation, first): (&Tensor<D::Buffer>, usize),
        [batch, images, height, width]: [usize; 4],
        next: Option<&Norm<D::Buffer>>,
    ) -> Result<()> {
        let channels = s.x.shape().last();
        let count = self.0.len();
        for (i, ((res, attention), context)) in self.0.iter().zip(context).enumerate() {
            let [one, two] = &attention.attentions;
            res.forward(device, s, b, [batch * images, height, width])?;
            let by = Modulation { tensor: modulation, offset: first + i * 2 * channels };
            ops::modulate(device, &mut s.x, by)?;
            ops::layer_norm(device, &mut s.normed, &s.x, &one.norm)?;
            let [kv_one, kv_two] = context;
            one.forward(device, s, kv_one, [batch, 1], Some((&two.norm).into()))?;
            let next = next.filter(|_| i + 1 == count).map(Normalize::from);
            two.forward(device, s, kv_two, [batch, 1], next)?;
        }
        Ok(())
    }
}

impl<D: Device> ResBlock<D> {
    fn read(device: &D, w: &mut Weights, prefix: &str, sizes: Sizes) -> Result<Self> {
        let Sizes { narrow: Width { hidden, mlp, .. }, bias, .. } = sizes;
        let name = |part: &str| format!("{prefix}.{part}");
        let filters = w.floats(&name("depthwise.weight"), &[hidden, 1, 3, 3])?;
        let filters: Vec<f32> =
            (0..9 * hidden).map(|i| filters[i % hidden * 9 + i / hidden]).collect();
        let of_filters = match bias {
            true => Some(w.floats(&name("depthwise.bias"), &[hidden])?),
            false => None,
        };
        let of_filters = of_filters.map(|bias| device.upload(&bias, [hidden])).transpose()?;
        let mut response = |part: &str| {
            let values = w.floats(&name(&format!("channelwise_norm.{part}")), &[1, 1, 1, mlp])?;
            device.upload(&values, [mlp])
        };
        let (gain, shift) = (response("gamma")?, response("beta")?);
        Ok(ResBlock {
            filter: Depthwise { weight: device.upload(&filters, [9, hidden])?, bias: of_filters },
            norm: sizes.rms(device, w, &name("norm"), hidden)?,
            up: step_linear(device, w, &name("channelwise_linear_1"), [mlp, hidden], bias)?,
            gain,
            shift,
            down: step_linear(device, w, &name("channelwise_linear_2"), [hidden, mlp], bias)?,
        })
    }

    /// All but the modulation.
    fn forward(
        &self,
        device: &D,
        s: &mut Scratch<D>,
        b: &mut BlockScratch<D>,
        [batch, height, width]: [usize; 3],
    ) -> Result<()> {
        let rows = batch * height * width;
        let (channels, mlp) = (s.x.shape().last(), s.mlp.shape().last());
        s.x.reshape([batch, height, width, channels]);
        b.filtered.reshape([batch, height, width, channels]);
        ops::depthwise(device, &mut b.filtered, &s.x, &self.filter)?; // [batch, height, width, channels]
        s.x.reshape([rows, channels]);
        b.filtered.reshape([rows, channels]);
        ops::layer_norm(device, &mut s.normed, &b.filtered, &self.norm)?; // [rows, channels]
        ops::linear(device, &mut s.mlp, &s.normed, &self.up, Activation::Gelu)?; // [rows, mlp]
        s.mlp.reshape([batch, height * width, mlp]);
        b.responded.reshape([batch, height * width, mlp]);
        ops::global_response_norm(device, &mut b.responded, &s.mlp, &self.gain, &self.shift)?;
        s.mlp.reshape([rows, mlp]);
        b.responded.reshape([rows, mlp]);
        ops::linear_add(device, &mut s.x, &b.responded, &self.down) // [rows, channels]
    }
}

impl<D: Device> AttentionBlock<D> {
    fn read(device: &D, w: &mut Weights, prefix: &str, sizes: Sizes) -> Result<Self> {
        let Sizes { narrow, wide, bias } = sizes;
        let mut attention = |i: usize| {
            let name = format!("{prefix}.norm{i}");
            let norm = norm_of(device, w, &name, narrow.hidden, (NormKind::Rms, EPSILON, false))?;
            CrossAttention::named(
                device,
                w,
                &format!("{prefix}.attn{i}"),
                (norm, NAMES),
                narrow,
                bias,
            )
        };
        let attentions = [attention(1)?, attention(2)?];
        let map = match narrow.hidden == wide.hidden {
            true => None,
            false => {
                let shape = [narrow.hidden, wide.hidden];
                Some(linear(device, w, &format!("{prefix}.kv_mapper"), shape, bias)?)
            }
        };
        Ok(AttentionBlock { map, attentions })
    }
}

/// What diffusers calls an attention's q, k, v and output.
const NAMES: [&str; 4] = ["to_q", "to_k", "to_v", "to_out.0"];

/// diffusers' `BasicTransformerBlock` with `ada_norm_continuous`: self-attention, cross-attention to the text
/// and a gated MLP, each with a norm that is modulated.
pub(super) struct Layer<D: Device> {
    attention: SelfAttention<D>,
    cross: CrossAttention<D>,
    norm: Norm<D::Buffer>,
    up: Matrix<D::Packed>,   // [2*mlp, hidden], values and gates
    down: Matrix<D::Packed>, // [hidden, mlp]
}

/// Modulated norms of a layer.
pub(super) const NORMS: usize = 3;

impl<D: Device> Layer<D> {
    pub fn read(device: &D, w: &mut Weights, prefix: &str, sizes: Sizes) -> Result<Self> {
        let Sizes { wide, bias, .. } = sizes;
        let Width { hidden, mlp, epsilon, .. } = wide;
        let norm = |i: usize| format!("{prefix}.norm{i}.norm");
        let [own, other] = [1, 2].map(|i| format!("{prefix}.attn{i}"));
        let (norm1, norm2) =
            (sizes.rms(device, w, &norm(1), hidden)?, sizes.rms(device, w, &norm(2), hidden)?);
        let products = w.products();
        let up = w.gated(&format!("{prefix}.ff.net.0.proj"), [mlp, hidden], bias)?;
        Ok(Layer {
            up: pack_step(device, up, products)?,
            attention: SelfAttention::named(device, w, &own, (norm1, NAMES), wide, bias)?,
            cross: CrossAttention::named(device, w, &other, (norm2, NAMES), wide, bias)?,
            norm: norm_of(device, w, &norm(3), hidden, (NormKind::Layer, epsilon, bias))?,
            down: step_linear(device, w, &format!("{prefix}.ff.net.2"), [hidden, mlp], bias)?,
        })
    }

    /// Keys and values of the text float `[batch*keys, hidden]`.
    pub fn context(
        &self,
        device: &D,
        text: &Tensor<D::Buffer>,
        keys: usize,
    ) -> Result<ContextKv<D>> {
        self.cross.context(device, text, keys, [keys; 2])
    }

    /// The norm it begins with, modulated as [`Layer::forward`] says.
    pub fn begin<'a>(
        &'a self,
        modulation: &'a Tensor<D::Buffer>,
        first: usize,
    ) -> Normalize<'a, D::Buffer> {
        modulated(&self.attention.norm, modulation, first)
    }

    /// Runs the layer over `s.x` and `s.normed`, f32 and float `[batch*images*positions, hidden]`. Norm k of three is
    /// modulated by columns from `first + k*2*hidden` on of `modulation`. `next` is the norm that follows.
    pub fn forward(
        &self,
        device: &D,
        s: &mut Scratch<D>,
        context: &mut ContextKv<D>,
        (modulation, first): (&Tensor<D::Buffer>, usize),
        [batch, images]: [usize; 2],
        next: Normalize<'_, D::Buffer>,
    ) -> Result<()> {
        let columns = 2 * s.x.shape().last();
        let cross = modulated(&self.cross.norm, modulation, first + columns);
        let mlp = modulated(&self.norm, modulation, first + 2 * columns);
        self.attention.forward(device, s, batch * images, Some(cross))?;
        self.cross.forward(device, s, context, [batch, 1], Some(mlp))?;
        ops::linear(device, &mut s.mlp, &s.normed, &self.up, Activation::Geglu)?; // [rows, mlp]
        ops::linear_add_norm(device, &mut s.x, &mut s.normed, &s.mlp, &self.down, next)
    }
}

fn modulated<'a, B>(norm: &'a Norm<B>, tensor: &'a Tensor<B>, offset: usize) -> Normalize<'a, B> {
    Normalize { norm, modulation: Some(Modulation { tensor, offset }) }
}
