//! The checked verbs: every contract of [`Device`] is checked here, once, before any backend runs.
//!
//! A violated contract is a mistake in a model file, not bad input (checkpoints are checked where
//! they are read), so it panics with the verb and the shapes. Aliasing cannot occur: outputs are
//! `&mut`.

use crate::device::*;
use crate::error::Result;
use crate::tensor::{DType, Matrix, Tensor};

macro_rules! check {
    ($verb:literal, $condition:expr, $($tensor:expr),+) => {
        assert!($condition, concat!($verb, ": ", stringify!($condition), " does not hold; got{}"),
            [$(format!(" {} {} {}", stringify!($tensor), $tensor.dtype(), $tensor.shape())),+].concat())
    };
}

fn is_float<B>(t: &Tensor<B>) -> bool {
    matches!(t.dtype(), DType::F32 | DType::BF16)
}

/// Whether `out` is of x's rows [in two parts](Device::split).
fn is_split<B>(out: &Tensor<B>, x: &Tensor<B>) -> bool {
    let ([rows @ .., channels], [all @ .., both]) = (x.shape().dims(), out.shape().dims()) else {
        return false;
    };
    out.dtype() == DType::BF16 && rows == all && *both == 2 * channels
}

/// [`Device::pack`], with the sizes a verb will check beside it; a matrix that is packed already is
/// [adopted](Device::adopt).
pub fn pack<'a, D: Device>(
    device: &D,
    weight: impl Into<MatrixSource<'a>>,
) -> Result<Matrix<D::Packed>> {
    packed(device, weight.into(), None, |weight| device.pack(weight))
}

/// [`Device::pack_int8`], with the same.
pub fn pack_int8<'a, D: Device>(
    device: &D,
    weight: impl Into<MatrixSource<'a>>,
) -> Result<Matrix<D::Packed>> {
    packed(device, weight.into(), Some(DType::I8), |weight| device.pack_int8(weight))
}

/// A matrix, in another dtype than that of its floats where one is named.
fn packed<D: Device>(
    device: &D,
    weight: MatrixSource<'_>,
    dtype: Option<DType>,
    pack: impl FnOnce(HostMatrix<'_>) -> Result<D::Packed>,
) -> Result<Matrix<D::Packed>> {
    /// Terms of int8 whose sum fits an i32, whatever they are.
    const TERMS: usize = i32::MAX as usize / (127 * 127);
    let check = |sizes: MatrixSizes| {
        let MatrixSizes { cols, taps, dtype, .. } = sizes;
        let fits = dtype != DType::I8 || (taps == 1 && cols <= TERMS);
        assert!(fits, "pack_int8: {taps} taps of {cols}, one of {TERMS} at most");
    };
    let (sizes, has_bias, packed) = match weight {
        MatrixSource::Host(matrix, keeper) => {
            let HostMatrix { rows, cols, taps, .. } = matrix;
            let dtype = dtype.unwrap_or(matrix.weight.dtype());
            let values = matrix.weight.len();
            assert_eq!(values, rows * taps * cols, "pack: weight of [{rows}, {taps}, {cols}]");
            let biases = matrix.bias.as_ref().map(Vec::len);
            assert!(biases.is_none_or(|n| n == rows), "pack: bias of {biases:?} rows, not {rows}");
            let sizes = MatrixSizes { rows, cols, taps, dtype };
            check(sizes);
            let packed = pack(matrix)?;
            if let Some((name, keeper)) = keeper {
                keeper.keep(&name, &device.parts(&packed)?)?;
            }
            (sizes, biases.is_some(), packed)
        }
        MatrixSource::Kept(kept) => {
            let sizes = MatrixSizes { dtype: dtype.unwrap_or(kept.sizes.dtype), ..kept.sizes };
            check(sizes);
            let has_bias = kept.parts.bias.is_some();
            let unfit = kept.unfit(sizes);
            let packed = device.adopt(sizes, kept.parts)?.ok_or(unfit)?;
            (sizes, has_bias, packed)
        }
    };
    let MatrixSizes { rows, cols, taps, dtype } = sizes;
    Ok(Matrix { packed, rows, cols, taps, dtype, has_bias })
}

/// [`Device::embed`].
pub fn embed<D: Device>(
    device: &D,
    out: &mut Tensor<D::Buffer>,
    ids: &Tensor<D::Buffer>,
    table: &Tensor<D::Buffer>,
    add: Option<&Tensor<D::Buffer>>,
) -> Result<()> {
    check!("embed", is_float(out) && is_float(table), out, table);
    check!("embed", ids.dtype() == DType::U32, ids);
    check!("embed", out.shape().last() == table.shape().last(), out, table);
    check!("embed", out.shape().rows() % ids.shape().elements() == 0, out, ids);
    if let Some(add) = add {
        check!("embed", add.dtype() == DType::F32, add);
        check!(
            "embed",
            add.shape().elements() == ids.shape().elements() * out.shape().last(),
            add,
            ids,
            out
        );
    }
    device.embed(out, ids, table, add)
}

/// [`Device::select_rows`].
pub fn select_rows<D: Device>(
    device: &D,
    out: &mut Tensor<D::Buffer>,
    x: &Tensor<D::Buffer>,
    positions: &Tensor<D::Buffer>,
) -> Result<()> {
    let n = positions.shape().elements();
    check!("select_rows", positions.dtype() == DType::U32 && n > 0, positions);
    check!("select_rows", x.dtype() == DType::F32 && out.dtype() == DType::F32, out, x);
    check!("select_rows", x.shape().last() == out.shape().last(), out, x);
    let grids = out.shape().rows() / n;
    check!("select_rows", grids > 0 && grids * n == out.shape().rows(), out, positions);
    check!("select_rows", x.shape().rows() % grids == 0, out, x, positions);
    device.select_rows(out, x, positions)
}

/// [`Device::layer_norm`].
pub fn layer_norm<'a, D: Device>(
    device: &D,
    out: &mut Tensor<D::Buffer>,
    x: &Tensor<D::Buffer>,
    norm: impl Into<Normalize<'a, D::Buffer>>,
) -> Result<()>
where
    D::Buffer: 'a,
{
    let norm = norm.into();
    check_norm(out, x, norm);
    device.layer_norm(out, x, norm)
}

fn check_norm<B>(out: &Tensor<B>, x: &Tensor<B>, Normalize { norm, modulation }: Normalize<'_, B>) {
    check!("layer_norm", is_float(out) && x.dtype() == DType::F32, out, x);
    check!("layer_norm", out.shape().last() == x.shape().last(), out, x);
    check!("layer_norm", out.shape().rows() == x.shape().rows(), out, x);
    for parameter in std::iter::once(&norm.weight).chain(&norm.bias) {
        check!("layer_norm", parameter.shape().elements() == x.shape().last(), parameter, x);
    }
    if let Some(by) = modulation {
        check_modulation(x, by);
    }
}

fn check_modulation<B>(x: &Tensor<B>, Modulation { tensor, offset }: Modulation<'_, B>) {
    let batch = tensor.shape().rows();
    check!("modulate", x.dtype() == DType::F32 && tensor.dtype() == DType::F32, x, tensor);
    check!("modulate", offset + 2 * x.shape().last() <= tensor.shape().last(), x, tensor);
    check!("modulate", batch > 0 && x.shape().rows().is_multiple_of(batch), x, tensor);
}

/// [`Device::modulate`].
pub fn modulate<D: Device>(
    device: &D,
    x: &mut Tensor<D::Buffer>,
    by: Modulation<'_, D::Buffer>,
) -> Result<()> {
    check_modulation(x, by);
    device.modulate(x, by)
}

/// [`Device::activate`].
pub fn activate<D: Device>(
    device: &D,
    out: &mut Tensor<D::Buffer>,
    x: &Tensor<D::Buffer>,
    activation: Activation,
) -> Result<()> {
    check!("activate", is_float(out) && is_float(x) && out.shape() == x.shape(), out, x);
    check!("activate", activation != Activation::Geglu, x);
    device.activate(out, x, activation)
}

fn check_linear<B, M>(out: &Tensor<B>, x: &Tensor<B>, weight: &Matrix<M>, activation: Activation) {
    let of = if weight.dtype == DType::I8 { DType::BF16 } else { weight.dtype };
    check!("linear", x.dtype() == of && weight.taps == 1, x);
    check!("linear", x.shape().last() == weight.cols, x, out);
    check!("linear", activation.rows(out.shape().last()) == weight.rows, x, out);
    check!("linear", out.shape().rows() == x.shape().rows(), x, out);
}

/// [`Device::linear`].
pub fn linear<D: Device>(
    device: &D,
    out: &mut Tensor<D::Buffer>,
    x: &Tensor<D::Buffer>,
    weight: &Matrix<D::Packed>,
    activation: Activation,
) -> Result<()> {
    check_linear(out, x, weight, activation);
    check!("linear", is_float(out), out);
    device.linear(out, x, weight, activation)
}

/// [`Device::linear_add`].
pub fn linear_add<D: Device>(
    device: &D,
    residual: &mut Tensor<D::Buffer>,
    x: &Tensor<D::Buffer>,
    weight: &Matrix<D::Packed>,
) -> Result<()> {
    check_linear(residual, x, weight, Activation::None);
    check!("linear_add", residual.dtype() == DType::F32, residual);
    device.linear_add(residual, x, weight)
}

/// [`Device::linear_add_norm`].
pub fn linear_add_norm<'a, D: Device>(
    device: &D,
    residual: &mut Tensor<D::Buffer>,
    out: &mut Tensor<D::Buffer>,
    x: &Tensor<D::Buffer>,
    weight: &Matrix<D::Packed>,
    norm: impl Into<Normalize<'a, D::Buffer>>,
) -> Result<()>
where
    D::Buffer: 'a,
{
    let norm = norm.into();
    check_linear(residual, x, weight, Activation::None);
    check!("linear_add_norm", residual.dtype() == DType::F32, residual);
    check_norm(out, residual, norm);
    device.linear_add_norm(residual, out, x, weight, norm)
}

/// [`Device::attention`].
pub fn attention<D: Device>(
    device: &D,
    out: &mut Tensor<D::Buffer>,
    q: Heads<'_, D::Buffer>,
    k: Heads<'_, D::Buffer>,
    v: Heads<'_, D::Buffer>,
    sizes: Attention,
) -> Result<()> {
    check_attention(out, [q, k, v], sizes);
    device.attention(out, q, k, v, sizes)
}

fn check_attention<B>(out: &Tensor<B>, [q, k, v]: [Heads<'_, B>; 3], sizes: Attention) {
    let width = sizes.heads * sizes.head_dim;
    for (heads, rows) in [(&q, sizes.queries), (&k, sizes.keys), (&v, sizes.keys)] {
        check!("attention", heads.tensor.dtype() == out.dtype(), heads.tensor, out);
        check!("attention", heads.offset + width <= heads.tensor.shape().last(), heads.tensor);
        check!("attention", heads.tensor.shape().rows() == sizes.batch * rows, heads.tensor);
    }
    check!("attention", is_float(out) && sizes.column + width <= out.shape().last(), out);
    check!("attention", out.shape().rows() == sizes.batch * sizes.queries, out);
    let lengths = &sizes.lengths[..sizes.batch.min(2)];
    check!("attention", lengths.iter().all(|&n| n >= 1 && n <= sizes.keys), out);
    check!("attention", sizes.step > 0 && sizes.batch.is_multiple_of(sizes.step), out);
    check!("attention", !sizes.causal && sizes.step == 1 || sizes.queries == sizes.keys, out);
}

/// [`Device::project_and_attend`].
pub fn project_and_attend<D: Device>(
    device: &D,
    out: &mut Tensor<D::Buffer>,
    queries: &mut Tensor<D::Buffer>,
    x: &Tensor<D::Buffer>,
    weight: &Matrix<D::Packed>,
    [k, v]: [Heads<'_, D::Buffer>; 2],
    sizes: Attention,
) -> Result<()> {
    check_linear(queries, x, weight, Activation::None);
    check!("project_and_attend", queries.shape().last() == sizes.heads * sizes.head_dim, queries);
    check!("project_and_attend", queries.shape() == out.shape() && sizes.step == 1, queries, out);
    check_attention(out, [Heads { tensor: queries, offset: 0 }, k, v], sizes);
    device.project_and_attend(out, queries, x, weight, [k, v], sizes)
}

/// [`Device::depthwise`].
pub fn depthwise<D: Device>(
    device: &D,
    out: &mut Tensor<D::Buffer>,
    x: &Tensor<D::Buffer>,
    filter: &Depthwise<D::Buffer>,
) -> Result<()> {
    let Depthwise { weight, bias } = filter;
    check!("depthwise", is_float(out) && is_float(x) && out.shape() == x.shape(), out, x);
    check!("depthwise", x.shape().dims().len() == 4, x);
    check!("depthwise", weight.dtype() == DType::F32 && weight.shape().rows() == 9, weight);
    check!("depthwise", weight.shape().last() == x.dim(3), weight, x);
    if let Some(bias) = bias {
        check!("depthwise", bias.dtype() == DType::F32, bias);
        check!("depthwise", bias.shape().elements() == x.dim(3), bias, x);
    }
    device.depthwise(out, x, filter)
}

/// [`Device::global_response_norm`].
pub fn global_response_norm<D: Device>(
    device: &D,
    out: &mut Tensor<D::Buffer>,
    x: &Tensor<D::Buffer>,
    gain: &Tensor<D::Buffer>,
    shift: &Tensor<D::Buffer>,
) -> Result<()> {
    check!("global_response_norm", is_float(out) && is_float(x), out, x);
    check!("global_response_norm", out.shape() == x.shape(), out, x);
    check!("global_response_norm", x.shape().dims().len() == 3, x);
    for parameter in [gain, shift] {
        check!("global_response_norm", parameter.dtype() == DType::F32, parameter);
        check!("global_response_norm", parameter.shape().elements() == x.dim(2), parameter, x);
    }
    device.global_response_norm(out, x, gain, shift)
}

/// [`Device::conv2d`].
pub fn conv2d<D: Device>(
    device: &D,
    out: &mut Tensor<D::Buffer>,
    x: &Tensor<D::Buffer>,
    weight: &Matrix<D::Packed>,
    geometry: Conv,
    residual: Option<&Tensor<D::Buffer>>,
) -> Result<()> {
    check!("conv2d", x.shape().dims().len() == 4 && out.shape().dims().len() == 4, x, out);
    check!("conv2d", x.dtype() == weight.dtype && is_float(out), x, out);
    check!("conv2d", weight.taps == geometry.taps() && weight.cols == x.dim(3), x, out);
    check!("conv2d", out.dim(0) == x.dim(0) && out.dim(3) == weight.rows, x, out);
    check!("conv2d", out.dim(1) == geometry.output(x.dim(1)), x, out);
    check!("conv2d", out.dim(2) == geometry.output(x.dim(2)), x, out);
    if geometry == Conv::Down {
        check!("conv2d", x.dim(1) % 2 == 0 && x.dim(2) % 2 == 0, x);
    }
    if let Some(r) = residual {
        check!("conv2d", r.dtype() == DType::F32 && r.shape() == out.shape(), r, out);
    }
    device.conv2d(out, x, weight, geometry, residual)
}

/// [`Device::group_norm_silu`].
pub fn group_norm_silu<D: Device>(
    device: &D,
    out: &mut Tensor<D::Buffer>,
    x: &Tensor<D::Buffer>,
    norm: &Norm<D::Buffer>,
    groups: usize,
) -> Result<()> {
    check!("group_norm_silu", x.dtype() == DType::F32 && is_float(out), x, out);
    check!("group_norm_silu", x.shape() == out.shape() || is_split(out, x), x, out);
    check!("group_norm_silu", x.shape().dims().len() == 4, x);
    check!("group_norm_silu", groups > 0 && x.dim(3) % groups == 0, x);
    check!("group_norm_silu", norm.weight.shape().elements() == x.dim(3), norm.weight, x);
    check!("group_norm_silu", norm.kind == NormKind::Layer && norm.bias.is_some(), norm.weight);
    device.group_norm_silu(out, x, norm, groups)
}

/// [`Device::guide_and_sample`].
pub fn guide_and_sample<D: Device>(
    device: &D,
    masked: &mut Masked<D::Buffer>,
    logits: &Tensor<D::Buffer>,
    sampling: Sampling,
) -> Result<()> {
    let rows = if sampling.guidance == 1.0 { 1 } else { 2 };
    let n = masked.positions.shape().elements();
    check!("guide_and_sample", logits.dtype() == DType::F32, logits);
    check!("guide_and_sample", logits.shape().rows() == rows * n, logits, masked.positions);
    check_images(masked);
    check!("guide_and_sample", masked.sampled.shape().elements() == n, masked.sampled);
    check!("guide_and_sample", masked.confidence.shape().elements() == n, masked.confidence);
    device.guide_and_sample(masked, logits, sampling)
}

fn check_images<B>(masked: &Masked<B>) {
    let Masked { images, tokens, positions, .. } = masked;
    let equal = |t: &Tensor<B>| *images > 0 && t.shape().elements().is_multiple_of(*images);
    check!("images", equal(tokens) && equal(positions), tokens, positions);
}

/// [`Device::remask`].
pub fn remask<D: Device>(device: &D, masked: &mut Masked<D::Buffer>, remask: Remask) -> Result<()> {
    let n = masked.positions.shape().elements();
    let kept = masked.images * remask.keep_masked; // masked
    check_images(masked);
    check!("remask", kept < n.max(1), masked.positions);
    check!("remask", masked.remaining.shape().elements() == kept, masked.remaining);
    check!("remask", masked.sampled.shape().elements() == n, masked.sampled);
    device.remask(masked, remask)
}

/// [`Device::nearest_code`].
pub fn nearest_code<D: Device>(
    device: &D,
    ids: &mut Tensor<D::Buffer>,
    z: &Tensor<D::Buffer>,
    codebook: &Tensor<D::Buffer>,
) -> Result<()> {
    check!("nearest_code", z.dtype() == DType::F32 && codebook.dtype() == DType::F32, z, codebook);
    check!(
        "nearest_code",
        ids.dtype() == DType::U32 && ids.shape().elements() == z.shape().rows(),
        ids,
        z
    );
    check!("nearest_code", z.shape().last() == codebook.shape().last(), z, codebook);
    device.nearest_code(ids, z, codebook)
}

/// [`Device::split`].
pub fn split<D: Device>(
    device: &D,
    out: &mut Tensor<D::Buffer>,
    x: &Tensor<D::Buffer>,
) -> Result<()> {
    check!("split", x.dtype() == DType::F32 && is_split(out, x), out, x);
    device.split(out, x)
}

/// [`Device::load_rgb8`].
pub fn load_rgb8<D: Device>(
    device: &D,
    out: &mut Tensor<D::Buffer>,
    x: &Tensor<D::Buffer>,
) -> Result<()> {
    check!("load_rgb8", x.dtype() == DType::U8 && x.shape().last() == 3, x);
    check!("load_rgb8", is_float(out) && out.shape().last() == 4, out);
    check!("load_rgb8", out.shape().rows() == x.shape().rows(), out, x);
    device.load_rgb8(out, x)
}

/// [`Device::to_rgb8`].
pub fn to_rgb8<D: Device>(
    device: &D,
    out: &mut Tensor<D::Buffer>,
    x: &Tensor<D::Buffer>,
) -> Result<()> {
    check!("to_rgb8", out.dtype() == DType::U8 && out.shape().last() == 3, out);
    check!("to_rgb8", x.dtype() == DType::F32 && x.shape().last() == 3, x);
    check!("to_rgb8", out.shape().rows() == x.shape().rows(), out, x);
    device.to_rgb8(out, x)
}

/// [`Device::copy_rows`].
pub fn copy_rows<D: Device>(
    device: &D,
    out: &mut Tensor<D::Buffer>,
    out_row: usize,
    x: &Tensor<D::Buffer>,
    x_row: usize,
    rows: usize,
) -> Result<()> {
    check!("copy_rows", x.dtype() == out.dtype() && x.shape().last() == out.shape().last(), x, out);
    check!("copy_rows", out_row + rows <= out.shape().rows(), out);
    check!("copy_rows", x_row + rows <= x.shape().rows(), x);
    device.copy_rows(out, out_row, x, x_row, rows)
}
