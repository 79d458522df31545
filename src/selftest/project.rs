//! `project_and_attend`.

use super::attention::{attended, mask};
use super::judge::*;
use crate::device::{Attention, Device, Heads, HostMatrix};
use crate::ops;
use crate::tensor::DType;

#[derive(Clone, Copy, Debug)]
struct Case {
    sizes: Attention,
    channels: usize, // of x
    bias: bool,
    whole: bool, // every sum of a query is exact, so that it can be rounded in one way only
    dtype: DType,
}

fn case(batch: usize, heads: usize, queries: usize, keys: usize, channels: usize) -> Case {
    let sizes = Attention::new(batch, [heads, 64], [queries, keys]);
    Case { sizes, channels, bias: false, whole: false, dtype: DType::BF16 }
}

fn cases() -> Vec<Case> {
    let mut cases = vec![
        case(1, 1, 1, 1, 8),
        case(2, 3, 20, 77, 256),
        case(1, 2, 64, 64, 64),
        case(2, 1, 65, 65, 72),
        case(1, 2, 130, 200, 200),
        case(2, 2, 16, 9, 33), // rows that are not whole pieces
        case(1, 1, 50, 129, 1024),
    ];
    for (batch, lengths) in [(2, [1, 77]), (2, [77, 1]), (2, [16, 64]), (2, [63, 65]), (4, [70, 9])]
    {
        let mut masked = case(batch, 2, 30, 77, 128);
        masked.sizes.lengths = lengths;
        cases.push(masked);
    }
    for channels in [64, 1024] {
        cases.push(Case { whole: true, ..case(2, 1, 70, 90, channels) });
    }
    // A bias, heads of other sizes, and f32.
    cases.push(Case { bias: true, ..case(2, 1, 20, 40, 64) });
    for head_dim in [20, 32, 80] {
        let mut other = case(1, 2, 20, 30, 96);
        other.sizes.head_dim = head_dim;
        cases.push(other);
    }
    cases.push(Case { dtype: DType::F32, ..case(2, 2, 20, 77, 96) });
    cases
}

pub(super) fn project_and_attend<D: Device>(judge: &mut Judge<'_, D>) -> Checked<()> {
    for case in cases() {
        let Case { sizes, channels, bias, whole, dtype } = case;
        let Attention { batch, heads, head_dim, queries, keys, .. } = sizes;
        let width = heads * head_dim;
        let mut random = Random((queries * 1009 + keys * 31 + channels) as u64);
        let mut x = random.values(batch * queries * channels, 1.0, dtype);
        let scale = if whole { 1.0 } else { (channels as f32).powf(-0.5) };
        let mut w = random.values(width * channels, scale, dtype);
        if whole {
            // Few bits each: the sums have fewer than 24, and scores are large.
            for (x, unit) in [(&mut x, 0.5), (&mut w, 1.0 / 64.0)] {
                x.iter_mut().for_each(|x| *x = (8.0 * *x).round().clamp(-15.0, 15.0) * unit);
            }
        }
        let b = bias.then(|| random.floats(width, 1.0));
        let [mut k, mut v] = [(); 2].map(|()| random.values(batch * keys * width, 1.0, dtype));
        for x in [&mut k, &mut v] {
            mask(x, sizes);
        }
        let rows = k.chunks(width).zip(v.chunks(width));
        let kv: Vec<f32> = rows.flat_map(|(k, v)| [k, v].concat()).collect();

        let got = everywhere!(judge, case, dtype, |device| {
            let x = float_input(device, &x, dtype, [batch * queries, channels])?;
            let (weight, bias) = (of_dtype(&w, dtype), b.clone());
            let matrix = HostMatrix { weight, bias, rows: width, cols: channels, taps: 1 };
            let weight = ops::pack(device, matrix)?;
            let kv = float_input(device, &kv, dtype, [batch * keys, 2 * width])?;
            let kv = [0, width].map(|offset| Heads { tensor: &kv.tensor, offset });
            let mut room = float_output(device, dtype, [batch * queries, width])?;
            let mut out = float_output(device, dtype, [batch * queries, width])?;
            let (y, q) = (&mut out.tensor, &mut room.tensor);
            ops::project_and_attend(device, y, q, &x.tensor, &weight, kv, sizes)?;
            room.floats(device)?; // its guard
            bits(&out.floats(device)?)
        });

        // The query is rounded from its exact sum, and from the naive one.
        let (mut exact, mut naive) = (Vec::new(), Vec::new());
        for i in 0..batch * queries * width {
            let products = x[i / width * channels..][..channels]
                .iter()
                .zip(&w[i % width * channels..][..channels]);
            let bias = b.as_ref().map_or(0.0, |b| b[i % width]);
            let sum: f64 = products.clone().map(|(&x, &w)| f64::from(x) * f64::from(w)).sum();
            let sum32: f32 = products.map(|(x, w)| x * w).sum();
            exact.push(stored((sum + f64::from(bias)) as f32, dtype));
            naive.push(stored(sum32 + bias, dtype));
        }
        let (exactly, naive) = attended([&exact, &naive], &k, &v, sizes, dtype);
        judge.check_both(case, &got, &exactly, &naive, dtype);
    }
    Ok(())
}
