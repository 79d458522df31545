//! What a machine can do at most, measured: the roofs of the roofline model (Williams et al., CACM 2009).

use std::time::Duration;

use super::record::{Ceiling, Verb};
use crate::cpu::Cpu;
use crate::device::{Activation, Device, HostMatrix};
use crate::error::Result;
use crate::ops;
use crate::tensor::{DType, Floats};

/// Measures them.
pub struct Ceilings;

impl Ceilings {
    /// Of the processor, on all of the device's threads: products from registers, with the instructions that the
    /// backend uses, and copies too large for its caches.
    pub fn cpu(device: &Cpu) -> Vec<Ceiling> {
        let products = [DType::F32, DType::BF16, DType::I8].map(|dtype| Ceiling {
            name: dtype.to_string(),
            rate: device.peak(dtype),
            how: format!("products from registers, {}, the best of 30", device.simd().name()),
        });
        let copy = Ceiling {
            name: "copy".into(),
            rate: device.copy_rate(),
            how: "128 MiB from memory to memory, read and written, the best of 30".into(),
        };
        products.into_iter().chain([copy]).collect()
    }

    /// Of a GPU by its own verbs: one product of 4096 × 4096 matrices in bf16, and copied rows. The product is what
    /// the backend reaches and not what the chip could.
    pub fn verbs<D: Device>(device: &D) -> Result<Vec<Ceiling>> {
        const SIDE: usize = 4096;
        let values = vec![half::bf16::ONE; SIDE * SIDE];
        let weight = HostMatrix {
            weight: Floats::from(&values),
            bias: None,
            rows: SIDE,
            cols: SIDE,
            taps: 1,
        };
        let weight = ops::pack(device, weight)?;
        let x = device.upload(&values, [SIDE, SIDE])?;
        let mut out = device.zeros(DType::BF16, [SIDE, SIDE])?;
        let product =
            best(device, || ops::linear(device, &mut out, &x, &weight, Activation::None))?;
        let copy = best(device, || ops::copy_rows(device, &mut out, 0, &x, 0, SIDE))?;
        let operations = 2 * SIDE.pow(3);
        let bytes = 2 * x.bytes();
        let how = |what: &str| format!("{what}, by the driver's events, the best of ten");
        Ok(vec![
            Ceiling {
                name: "bf16".into(),
                rate: operations as f64 / product.as_secs_f64(),
                how: how("the backend's own product of 4096 × 4096 matrices"),
            },
            Ceiling {
                name: "copy".into(),
                rate: bytes as f64 / copy.as_secs_f64(),
                how: how("rows of 32 MiB copied, read and written"),
            },
        ])
    }
}

/// Shortest of ten times, after one that does not count.
fn best<D: Device>(device: &D, mut work: impl FnMut() -> Result<()>) -> Result<Duration> {
    work()?;
    let mut best = Duration::MAX;
    for _ in 0..10 {
        let start = device.mark()?;
        work()?;
        let end = device.mark()?;
        device.finish()?;
        best = best.min(device.elapsed(&start, &end)?);
    }
    Ok(best)
}

/// How near a verb comes to the ceiling that binds it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ridge {
    /// Least milliseconds that the ceilings allow.
    pub floor: f64,
    /// Whether its products bind, or else its bytes.
    pub products: bool,
    /// Floor over time: above 1 where operands came from caches.
    pub share: f64,
}

impl Ridge {
    /// Of a verb of a model that computes in `dtype`; `None` without the ceiling of its products or of copies. Of a
    /// model in int8 other products than those so named are of bf16.
    pub fn of(verb: &Verb, ceilings: &[Ceiling], dtype: &str) -> Option<Self> {
        let rate = |name: &str| ceilings.iter().find(|c| c.name == name).map(|c| c.rate);
        let dtype = match dtype {
            "int8" if !verb.verb.ends_with(" int8") => "bf16",
            dtype => dtype,
        };
        let products = verb.flops as f64 / rate(dtype)? * 1e3;
        let bytes = verb.bytes as f64 / rate("copy")? * 1e3;
        let floor = products.max(bytes);
        Some(Ridge { floor, products: products > bytes, share: floor / verb.ms })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_higher_floor_binds() {
        let ceiling = |name: &str, rate| Ceiling { name: name.into(), rate, how: String::new() };
        let ceilings = [ceiling("bf16", 1e12), ceiling("copy", 1e10)];
        let verb = |flops, bytes| Verb { verb: "linear".into(), calls: 1, ms: 4.0, flops, bytes };
        let found = Ridge::of(&verb(2_000_000_000, 10_000_000), &ceilings, "bf16").unwrap();
        assert_eq!(found, Ridge { floor: 2.0, products: true, share: 0.5 });
        let found = Ridge::of(&verb(1_000_000_000, 30_000_000), &ceilings, "bf16").unwrap();
        assert_eq!(found, Ridge { floor: 3.0, products: false, share: 0.75 });
        assert_eq!(Ridge::of(&verb(1, 1), &ceilings, "f32"), None);
        let ceilings = [&ceilings[..], &[ceiling("int8", 2e12)]].concat();
        let floats = verb(2_000_000_000, 0);
        let integers = Verb { verb: "linear int8".into(), ..floats.clone() };
        let floor = |verb| Ridge::of(verb, &ceilings, "int8").unwrap().floor;
        assert_eq!([floor(&floats), floor(&integers)], [2.0, 1.0]);
    }

    #[test]
    fn a_processor_has_ceilings() {
        let found = Ceilings::cpu(&Cpu::new(Some(1)).unwrap());
        assert_eq!(
            found.iter().map(|c| c.name.as_str()).collect::<Vec<_>>(),
            ["f32", "bf16", "int8", "copy"]
        );
        assert!(found.iter().all(|c| c.rate > 1e7 && c.rate.is_finite()), "{found:?}");
    }
}
