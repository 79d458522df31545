//! [`Lanes`] in an array: the fallback, and the plainest statement of what each operation means.

use super::{Kernel, LANES, Lanes};
use half::bf16;

/// Needs nothing.
#[derive(Clone, Copy)]
pub(crate) struct Portable;

type Array = [f32; LANES];

#[inline(always)]
fn map2(a: Array, b: Array, f: impl Fn(f32, f32) -> f32) -> Array {
    std::array::from_fn(|i| f(a[i], b[i]))
}

// SAFETY, for every method: pointers are the caller's.
impl Lanes for Portable {
    type F32 = Array;

    const ROWS: usize = 2;
    const VECTORS: usize = 1;

    #[inline(always)]
    fn call<K: Kernel>(self, kernel: K) -> K::Output {
        kernel.run(self)
    }
    #[inline(always)]
    fn splat(self, x: f32) -> Array {
        [x; LANES]
    }
    #[inline(always)]
    unsafe fn load(self, p: *const f32) -> Array {
        unsafe { p.cast::<Array>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32, v: Array) {
        unsafe { p.cast::<Array>().write_unaligned(v) }
    }
    #[inline(always)]
    unsafe fn load_bf16(self, p: *const bf16) -> Array {
        let bits = unsafe { p.cast::<[u16; LANES]>().read_unaligned() };
        bits.map(|b| f32::from_bits(u32::from(b) << 16))
    }
    #[inline(always)]
    unsafe fn store_bf16(self, p: *mut bf16, v: Array) {
        unsafe { p.cast::<[bf16; LANES]>().write_unaligned(v.map(bf16::from_f32)) }
    }
    #[inline(always)]
    fn add(self, a: Array, b: Array) -> Array {
        map2(a, b, |a, b| a + b)
    }
    #[inline(always)]
    fn sub(self, a: Array, b: Array) -> Array {
        map2(a, b, |a, b| a - b)
    }
    #[inline(always)]
    fn mul(self, a: Array, b: Array) -> Array {
        map2(a, b, |a, b| a * b)
    }
    #[inline(always)]
    fn div(self, a: Array, b: Array) -> Array {
        map2(a, b, |a, b| a / b)
    }
    #[inline(always)]
    fn mul_add(self, a: Array, b: Array, c: Array) -> Array {
        std::array::from_fn(|i| a[i].mul_add(b[i], c[i]))
    }
    #[inline(always)]
    fn dot(self, a: Array, b: Array, c: Array) -> Array {
        std::array::from_fn(|i| a[i] * b[i] + c[i]) // without FMA hardware, a fused one is a call
    }
    #[inline(always)]
    fn dot_quads(self, a: Array, b: Array, sum: Array) -> Array {
        std::array::from_fn(|i| {
            let [a, b] =
                [a[i], b[i]].map(|x| x.to_bits().to_le_bytes().map(|x| i32::from(x as i8)));
            let products: i32 = a.iter().zip(b).map(|(a, b)| a * b).sum();
            f32::from_bits(sum[i].to_bits().wrapping_add(products as u32))
        })
    }
    #[inline(always)]
    fn difference(self, a: Array, b: Array) -> Array {
        map2(a, b, |a, b| a.to_bits().wrapping_sub(b.to_bits()) as i32 as f32)
    }
    #[inline(always)]
    unsafe fn store_bytes(self, p: *mut u8, v: Array) {
        unsafe { p.cast::<[u8; LANES]>().write_unaligned(v.map(|x| x.to_bits() as u8)) }
    }
    #[inline(always)]
    fn max(self, a: Array, b: Array) -> Array {
        map2(a, b, |a, b| if a > b { a } else { b })
    }
    #[inline(always)]
    fn min(self, a: Array, b: Array) -> Array {
        map2(a, b, |a, b| if a < b { a } else { b })
    }
    #[inline(always)]
    fn if_less(self, a: Array, b: Array, x: Array, y: Array) -> Array {
        std::array::from_fn(|i| if a[i] < b[i] { x[i] } else { y[i] })
    }
    #[inline(always)]
    fn scale(self, p: Array, t: Array) -> Array {
        map2(p, t, |p, t| f32::from_bits(p.to_bits().wrapping_add(t.to_bits() << 23)))
    }
}
