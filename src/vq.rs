//! The VQ tokenizer: codebook, encoder and decoder, in the layout and with the tensor names of
//! diffusers' `VQModel` (convolutions only). Images are NHWC in `[0, 1]`.
//!
//! The residual stream is f32, as in the transformers. Within residual blocks convolutions read bf16. Those that
//! read the stream itself, and the last one, read 16 bits of it, in two parts ([`Device::split`]): with 8 of them,
//! sums of another order round so differently that a byte of the picture moves by three.

use crate::config::VqConfig;
use crate::device::{Conv, Device, MatrixSource, Norm};
use crate::error::Result;
use crate::models::layers::norm;
use crate::ops;
use crate::tensor::{DType, Floats, Matrix, Shape, Tensor};
use crate::weights::Weights;

/// GroupNorm epsilon of `VQModel`.
const EPSILON: f32 = 1e-6;

/// `x = shortcut(x) + conv2(silu(norm2(conv1(silu(norm1(x))))))`.
struct ResBlock<D: Device> {
    norm1: Norm<D::Buffer>,
    conv1: Matrix<D::Packed>,
    norm2: Norm<D::Buffer>,
    conv2: Matrix<D::Packed>,
    shortcut: Option<Matrix<D::Packed>>, // where the channels differ
}

/// Residual blocks of one resolution, then the convolution that leads to the next one.
struct Level<D: Device> {
    blocks: Vec<ResBlock<D>>,
    resample: Option<(Matrix<D::Packed>, Conv)>,
}

/// Convolutions from `conv_in` to `conv_out`: the body of the encoder and of the decoder.
struct Body<D: Device> {
    conv_in: Matrix<D::Packed>,
    levels: Vec<Level<D>>, // the middle blocks are a level of their own
    norm_out: Norm<D::Buffer>,
    conv_out: Matrix<D::Packed>,
    groups: usize,
}

/// A VQ tokenizer on one device.
pub struct Vq<D: Device> {
    grid_factor: usize,               // pixels per token side
    codebook: Tensor<D::Buffer>,      // f32 [codes, width]
    decoder_table: Tensor<D::Buffer>, // float [codes, latent]: post_quant_conv of every code
    decoder: Body<D>,
    encoder: Body<D>,
    quant_conv: Matrix<D::Packed>,
}

impl<D: Device> Vq<D> {
    /// Reads the whole checkpoint.
    pub fn load(device: &D, mut weights: Weights, config: &VqConfig) -> Result<Self> {
        let w = &mut weights;
        let (latent, width) = (config.latent_channels, config.vq_embed_dim);
        let codes = config.num_vq_embeddings;
        let codebook = w.floats("quantize.embedding.weight", &[codes, width])?;
        let vq = Vq {
            grid_factor: config.factor(),
            decoder_table: decoder_table(device, w, &codebook, [codes, width, latent])?,
            codebook: device.upload(&codebook, [codes, width])?,
            decoder: Body::read_decoder(device, w, config)?,
            encoder: Body::read_encoder(device, w, config)?,
            quant_conv: conv(device, w, "quant_conv", [width, latent], Conv::Point)?,
        };
        weights.finish()?;
        Ok(vq)
    }

    /// Dtype that its convolutions compute in.
    pub fn dtype(&self) -> DType {
        self.decoder_table.dtype()
    }

    /// Pixels `u8 [h*f, w*f, 3]` of a grid of tokens `u32 [h*w]`.
    pub fn decode(
        &self,
        device: &D,
        tokens: &Tensor<D::Buffer>,
        [height, width]: [usize; 2],
    ) -> Result<Tensor<D::Buffer>> {
        let image = self.decode_float(device, tokens, [height, width])?;
        let mut pixels = device.zeros(DType::U8, [image.dim(1), image.dim(2), 3])?;
        ops::to_rgb8(device, &mut pixels, &image)?;
        Ok(pixels)
    }

    /// What [`Vq::decode`] rounds: f32 `[1, h*f, w*f, 3]`, about `[0, 1]`.
    pub fn decode_float(
        &self,
        device: &D,
        tokens: &Tensor<D::Buffer>,
        [height, width]: [usize; 2],
    ) -> Result<Tensor<D::Buffer>> {
        let latent = self.decoder_table.shape().last();
        let mut x = device.zeros(self.decoder_table.dtype(), [1, height, width, latent])?;
        ops::embed(device, &mut x, tokens, &self.decoder_table, None)?;
        self.decoder.forward(device, x, DType::F32)
    }

    /// Tokens `u32 [h*w]` of an image `u8 [h*f, w*f, 3]` whose sides are multiples of the grid factor.
    pub fn encode(&self, device: &D, pixels: &Tensor<D::Buffer>) -> Result<Tensor<D::Buffer>> {
        let z = self.latents(device, pixels)?;
        let mut ids = device.zeros(DType::U32, [z.shape().rows()])?;
        ops::nearest_code(device, &mut ids, &z, &self.codebook)?;
        Ok(ids)
    }

    /// What [`Vq::encode`] quantises: f32 `[1, h, w, width]`.
    pub fn latents(&self, device: &D, pixels: &Tensor<D::Buffer>) -> Result<Tensor<D::Buffer>> {
        let (height, width) = (pixels.dim(0), pixels.dim(1));
        let dtype = self.decoder_table.dtype();
        let mut x = device.zeros(dtype, [1, height, width, 4])?;
        ops::load_rgb8(device, &mut x, pixels)?;
        let x = self.encoder.forward(device, x, dtype)?; // [1, h, w, latent]
        let mut z = device.zeros(DType::F32, [1, x.dim(1), x.dim(2), self.quant_conv.rows])?;
        ops::conv2d(device, &mut z, &x, &self.quant_conv, Conv::Point, None)?;
        Ok(z)
    }

    /// Codes, from 0 on.
    pub fn codes(&self) -> usize {
        self.codebook.shape().rows()
    }

    /// Pixels per token side.
    pub fn grid_factor(&self) -> usize {
        self.grid_factor
    }
}

impl<D: Device> Body<D> {
    fn read_decoder(device: &D, w: &mut Weights, config: &VqConfig) -> Result<Self> {
        let channels: Vec<usize> = config.block_out_channels.iter().rev().copied().collect();
        let mut levels = vec![middle(device, w, "decoder", channels[0])?];
        let mut from = channels[0];
        for (i, &to) in channels.iter().enumerate() {
            let prefix = format!("decoder.up_blocks.{i}");
            let blocks = res_blocks(device, w, &prefix, config.layers_per_block + 1, from, to)?;
            let resample = (i + 1 < channels.len())
                .then(|| {
                    let name = format!("{prefix}.upsamplers.0.conv");
                    conv_of_parts(device, w, &name, [to, to], Conv::Up)
                })
                .transpose()?
                .map(|matrix| (matrix, Conv::Up));
            levels.push(Level { blocks, resample });
            from = to;
        }
        Ok(Body {
            conv_in: conv(
                device,
                w,
                "decoder.conv_in",
                [channels[0], config.latent_channels],
                Conv::Same,
            )?,
            levels,
            norm_out: norm(device, w, "decoder.conv_norm_out", from, EPSILON)?,
            conv_out: conv_of_parts(
                device,
                w,
                "decoder.conv_out",
                [config.out_channels, from],
                Conv::Same,
            )?,
            groups: config.norm_num_groups,
        })
    }

    fn read_encoder(device: &D, w: &mut Weights, config: &VqConfig) -> Result<Self> {
        let channels = &config.block_out_channels;
        let mut levels = Vec::new();
        let mut from = channels[0];
        for (i, &to) in channels.iter().enumerate() {
            let prefix = format!("encoder.down_blocks.{i}");
            let blocks = res_blocks(device, w, &prefix, config.layers_per_block, from, to)?;
            let name = format!("{prefix}.downsamplers.0.conv");
            let resample = (i + 1 < channels.len())
                .then(|| conv_of_parts(device, w, &name, [to, to], Conv::Down))
                .transpose()?
                .map(|matrix| (matrix, Conv::Down));
            levels.push(Level { blocks, resample });
            from = to;
        }
        levels.push(middle(device, w, "encoder", from)?);
        Ok(Body {
            conv_in: conv(
                device,
                w,
                "encoder.conv_in",
                [channels[0], config.in_channels],
                Conv::Same,
            )?,
            levels,
            norm_out: norm(device, w, "encoder.conv_norm_out", from, EPSILON)?,
            conv_out: conv_of_parts(
                device,
                w,
                "encoder.conv_out",
                [config.latent_channels, from],
                Conv::Same,
            )?,
            groups: config.norm_num_groups,
        })
    }

    fn forward(&self, device: &D, x: Tensor<D::Buffer>, out: DType) -> Result<Tensor<D::Buffer>> {
        let mut x = convolved(device, &x, &self.conv_in, Conv::Same, DType::F32)?;
        for level in &self.levels {
            for block in &level.blocks {
                x = block.forward(device, x, self.groups)?;
            }
            if let Some((matrix, geometry)) = &level.resample {
                x = convolved(device, &x, matrix, *geometry, DType::F32)?;
            }
        }
        let shape = [x.dim(0), x.dim(1), x.dim(2), self.conv_out.cols];
        let mut normed = device.zeros(self.conv_out.dtype, shape)?;
        ops::group_norm_silu(device, &mut normed, &x, &self.norm_out, self.groups)?;
        convolved(device, &normed, &self.conv_out, Conv::Same, out)
    }
}

impl<D: Device> ResBlock<D> {
    fn read(device: &D, w: &mut Weights, prefix: &str, [to, from]: [usize; 2]) -> Result<Self> {
        let name = |part: &str| format!("{prefix}.{part}");
        Ok(ResBlock {
            norm1: norm(device, w, &name("norm1"), from, EPSILON)?,
            conv1: conv(device, w, &name("conv1"), [to, from], Conv::Same)?,
            norm2: norm(device, w, &name("norm2"), to, EPSILON)?,
            conv2: conv(device, w, &name("conv2"), [to, to], Conv::Same)?,
            shortcut: (from != to)
                .then(|| conv_of_parts(device, w, &name("conv_shortcut"), [to, from], Conv::Point))
                .transpose()?,
        })
    }

    fn forward(
        &self,
        device: &D,
        x: Tensor<D::Buffer>,
        groups: usize,
    ) -> Result<Tensor<D::Buffer>> {
        let mut normed = device.zeros(self.conv1.dtype, *x.shape())?;
        ops::group_norm_silu(device, &mut normed, &x, &self.norm1, groups)?;
        let hidden = convolved(device, &normed, &self.conv1, Conv::Same, DType::F32)?;
        normed = device.zeros(self.conv2.dtype, *hidden.shape())?;
        ops::group_norm_silu(device, &mut normed, &hidden, &self.norm2, groups)?;
        let mut out = hidden; // its values are consumed; same shape
        let shortcut = match &self.shortcut {
            Some(matrix) => convolved(device, &x, matrix, Conv::Point, DType::F32)?,
            None => x,
        };
        ops::conv2d(device, &mut out, &normed, &self.conv2, Conv::Same, Some(&shortcut))?;
        Ok(out)
    }
}

fn res_blocks<D: Device>(
    device: &D,
    w: &mut Weights,
    prefix: &str,
    count: usize,
    from: usize,
    to: usize,
) -> Result<Vec<ResBlock<D>>> {
    (0..count)
        .map(|j| {
            let from = if j == 0 { from } else { to };
            ResBlock::read(device, w, &format!("{prefix}.resnets.{j}"), [to, from])
        })
        .collect()
}

fn middle<D: Device>(device: &D, w: &mut Weights, side: &str, channels: usize) -> Result<Level<D>> {
    let prefix = format!("{side}.mid_block");
    Ok(Level { blocks: res_blocks(device, w, &prefix, 2, channels, channels)?, resample: None })
}

fn conv<D: Device>(
    device: &D,
    w: &mut Weights,
    name: &str,
    [to, from]: [usize; 2],
    geometry: Conv,
) -> Result<Matrix<D::Packed>> {
    ops::pack(device, filters(w, name, [to, from], geometry)?)
}

/// A convolution that reads its input in two parts.
fn conv_of_parts<D: Device>(
    device: &D,
    w: &mut Weights,
    name: &str,
    [to, from]: [usize; 2],
    geometry: Conv,
) -> Result<Matrix<D::Packed>> {
    let filters = filters(w, name, [to, from], geometry)?;
    let filters = if geometry == Conv::Up { filters.phases() } else { filters };
    ops::pack(device, filters.of_parts())
}

fn filters<'w>(
    w: &'w mut Weights,
    name: &str,
    [to, from]: [usize; 2],
    geometry: Conv,
) -> Result<MatrixSource<'w>> {
    let side = if geometry == Conv::Point { 1 } else { 3 };
    let padded = if from == 3 { 4 } else { from }; // RGB images carry a fourth, zero channel
    w.conv(name, [to, from, side, side], padded, true)
}

/// A convolution of activations, or of the f32 residual stream, in two parts where the weights are bf16.
fn convolved<D: Device>(
    device: &D,
    x: &Tensor<D::Buffer>,
    matrix: &Matrix<D::Packed>,
    geometry: Conv,
    dtype: DType,
) -> Result<Tensor<D::Buffer>> {
    if x.dtype() != matrix.dtype {
        let mut parts = device.zeros(DType::BF16, [x.dim(0), x.dim(1), x.dim(2), matrix.cols])?;
        ops::split(device, &mut parts, x)?;
        return convolved(device, &parts, matrix, geometry, dtype);
    }
    let shape: Shape =
        [x.dim(0), geometry.output(x.dim(1)), geometry.output(x.dim(2)), matrix.rows].into();
    let mut out = device.zeros(dtype, shape)?;
    ops::conv2d(device, &mut out, x, matrix, geometry, None)?;
    Ok(out)
}

/// `post_quant_conv` is 1×1, so the decoder's input is a table lookup: f32 products, rounded once,
/// exactly what the convolution of the looked-up code would store.
fn decoder_table<D: Device>(
    device: &D,
    w: &mut Weights,
    codebook: &[f32],
    [codes, width, latent]: [usize; 3],
) -> Result<Tensor<D::Buffer>> {
    let weight = w.floats("post_quant_conv.weight", &[latent, width, 1, 1])?;
    let bias = w.floats("post_quant_conv.bias", &[latent])?;
    let table = codebook.chunks_exact(width).flat_map(|code| {
        weight
            .chunks_exact(width)
            .zip(&bias)
            .map(move |(row, bias)| row.iter().zip(code).map(|(w, c)| w * c).sum::<f32>() + bias)
    });
    let table: Floats = match w.activations() {
        DType::F32 => table.collect::<Vec<f32>>().into(),
        _ => table.map(half::bf16::from_f32).collect::<Vec<_>>().into(),
    };
    device.upload_floats(&table, [codes, latent])
}
