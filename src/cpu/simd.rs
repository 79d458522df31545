//! Sixteen f32 lanes, written once per instruction set and chosen at run time.
//!
//! A verb's inner loop is a [`Kernel`]: ordinary generic code over [`Lanes`]. [`Simd::run`] compiles
//! it once per level, with that level's instructions enabled. Every lane operation is one IEEE 754
//! operation (`mul_add` is one rounding, nothing else is ever contracted) and [`Lanes::sum`] adds in
//! one fixed order, so a kernel gives the same bits on every level, in debug and in release. One
//! instruction is apart: `vdpbf16ps` ([`Lanes::dot_pairs`]), which takes denormals for zero.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod portable;

use half::bf16;

/// Lanes of a vector.
pub(super) const LANES: usize = 16;

/// An instruction set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Simd {
    /// No more than the compilation target guarantees.
    Portable,
    /// AVX2 and FMA: a vector is two registers.
    Avx2,
    /// AVX-512 F, BW, VL and DQ: a vector is one register.
    Avx512,
    /// The same, and AVX512-VNNI for products of int8: `vpdpbusd` adds four products to each of sixteen sums.
    Avx512Vnni,
    /// The same, and AVX512-BF16 for products of bf16: `vdpbf16ps` adds two products to each of
    /// sixteen sums.
    Avx512Bf16,
}

impl Simd {
    /// The levels this machine can run, slowest first.
    ///
    /// `vdpbf16ps` starts as often as an FMA on AMD's cores, and does the work of two. On the Intel cores
    /// that have it, it starts every other cycle, half the rate at which their two FMA units finish the same
    /// sum from f32 operands. Taken from the vendor and not from a clock, so that a machine always chooses alike.
    pub fn available() -> Vec<Simd> {
        let mut levels = vec![Simd::Portable];
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                levels.push(Simd::Avx2);
            }
            if is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512vl")
                && is_x86_feature_detected!("avx512dq")
            {
                levels.push(Simd::Avx512);
                if is_x86_feature_detected!("avx512vnni") {
                    levels.push(Simd::Avx512Vnni);
                }
                if is_x86_feature_detected!("avx512vnni") && is_x86_feature_detected!("avx512bf16")
                {
                    let last = if is_amd() { levels.len() } else { levels.len() - 1 };
                    levels.insert(last, Simd::Avx512Bf16);
                }
            }
        }
        levels
    }

    /// The name used in reports.
    pub fn name(self) -> &'static str {
        match self {
            Simd::Portable => "portable",
            Simd::Avx2 => "AVX2",
            Simd::Avx512 => "AVX-512",
            Simd::Avx512Vnni => "AVX-512 VNNI",
            Simd::Avx512Bf16 => "AVX-512 BF16",
        }
    }

    /// Whether bf16 is multiplied in pairs, by `vdpbf16ps`. Of all levels that do, and of all that do not, the
    /// results are the same to the bit; of these and those, but for denormal numbers in a product of bf16.
    pub fn pairs(self) -> bool {
        self == Simd::Avx512Bf16
    }

    /// Runs a kernel with this level's instructions. `Cpu` holds only available levels.
    pub(super) fn run<K: Kernel>(self, kernel: K) -> K::Output {
        match self {
            Simd::Portable => kernel.run(portable::Portable),
            // SAFETY: a `Cpu` is only made with a level of `available()`.
            #[cfg(target_arch = "x86_64")]
            Simd::Avx2 => unsafe { run_avx2(kernel) },
            #[cfg(target_arch = "x86_64")]
            Simd::Avx512 => unsafe { run_avx512(kernel) },
            #[cfg(target_arch = "x86_64")]
            Simd::Avx512Vnni => unsafe { run_avx512_vnni(kernel) },
            #[cfg(target_arch = "x86_64")]
            Simd::Avx512Bf16 => unsafe { run_avx512_bf16(kernel) },
            #[cfg(not(target_arch = "x86_64"))]
            _ => unreachable!("an x86 level on another architecture"),
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[inline(never)]
#[target_feature(enable = "avx2,fma")]
unsafe fn run_avx2<K: Kernel>(kernel: K) -> K::Output {
    kernel.run(unsafe { avx2::Avx2::assume() })
}

#[cfg(target_arch = "x86_64")]
#[inline(never)]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx2,fma")]
unsafe fn run_avx512<K: Kernel>(kernel: K) -> K::Output {
    kernel.run(unsafe { avx512::Avx512::<false, false>::assume() })
}

#[cfg(target_arch = "x86_64")]
#[inline(never)]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma")]
unsafe fn run_avx512_vnni<K: Kernel>(kernel: K) -> K::Output {
    kernel.run(unsafe { avx512::Avx512::<true, false>::assume() })
}

#[cfg(target_arch = "x86_64")]
#[inline(never)]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx512bf16,avx2,fma")]
unsafe fn run_avx512_bf16<K: Kernel>(kernel: K) -> K::Output {
    kernel.run(unsafe { avx512::Avx512::<true, true>::assume() })
}

/// Whether this is one of AMD's processors.
#[cfg(target_arch = "x86_64")]
fn is_amd() -> bool {
    let id = std::arch::x86_64::__cpuid(0);
    [id.ebx, id.edx, id.ecx].map(u32::to_le_bytes).as_flattened() == b"AuthenticAMD"
}

/// A loop to be compiled for every level. `run` and all it calls must be `#[inline(always)]`:
/// that is what carries the level's instructions into them.
pub(super) trait Kernel {
    /// What the loop returns.
    type Output;
    /// The loop.
    fn run<L: Lanes>(self, lanes: L) -> Self::Output;
}

/// Sixteen f32 lanes. A value of an implementing type is proof that its instructions exist.
pub(super) trait Lanes: Copy {
    /// The vector.
    type F32: Copy;

    /// Rows of the matrix micro-kernel's register tile.
    const ROWS: usize;
    /// Columns of it, in vectors.
    const VECTORS: usize;
    /// Whether there is [`Lanes::dot_pairs`].
    const PAIRS: bool = false;
    /// Whether [`Lanes::dot_quads`] takes the bytes of `a` as unsigned, each 128 more than it stands for.
    const UNSIGNED: bool = false;

    /// Runs a kernel as a function of its own, with all registers to itself.
    fn call<K: Kernel>(self, kernel: K) -> K::Output;

    /// Asks for the cache line at `p`.
    fn prefetch(self, _: *const u8) {}
    /// All lanes `x`.
    fn splat(self, x: f32) -> Self::F32;
    /// Lanes `p[..16]`.
    ///
    /// # Safety
    /// `p[..16]` is readable.
    unsafe fn load(self, p: *const f32) -> Self::F32;
    /// Writes `p[..16]`.
    ///
    /// # Safety
    /// `p[..16]` is writable.
    unsafe fn store(self, p: *mut f32, v: Self::F32);
    /// Lanes `p[..16]`, widened exactly.
    ///
    /// # Safety
    /// `p[..16]` is readable.
    unsafe fn load_bf16(self, p: *const bf16) -> Self::F32;
    /// Writes `p[..16]`, rounded to nearest, ties to even; NaN stays NaN.
    ///
    /// # Safety
    /// `p[..16]` is writable.
    unsafe fn store_bf16(self, p: *mut bf16, v: Self::F32);

    /// `a + b`.
    fn add(self, a: Self::F32, b: Self::F32) -> Self::F32;
    /// `a − b`.
    fn sub(self, a: Self::F32, b: Self::F32) -> Self::F32;
    /// `a·b`.
    fn mul(self, a: Self::F32, b: Self::F32) -> Self::F32;
    /// `a/b`.
    fn div(self, a: Self::F32, b: Self::F32) -> Self::F32;
    /// `a·b + c`, rounded once.
    fn mul_add(self, a: Self::F32, b: Self::F32, c: Self::F32) -> Self::F32;
    /// `a·b + c` where `a·b` is exact because both came from bf16: one rounding, fused or not.
    #[inline(always)]
    fn dot(self, a: Self::F32, b: Self::F32, c: Self::F32) -> Self::F32 {
        self.mul_add(a, b, c)
    }
    /// Each lane of a and b is two bf16: the product of the upper halves is added to c, then that of
    /// the lower ones, each with one rounding. Denormals, before and after, count as zero. Only where
    /// [`Lanes::PAIRS`].
    #[inline(always)]
    fn dot_pairs(self, _: Self::F32, _: Self::F32, _: Self::F32) -> Self::F32 {
        unreachable!("no pairs at this level")
    }
    /// Each lane of a and b is four int8 from −127 on (a's are unsigned where [`Lanes::UNSIGNED`]) and each of
    /// `sum` an i32, to which their products are added: exactly, modulo 2³².
    fn dot_quads(self, a: Self::F32, b: Self::F32, sum: Self::F32) -> Self::F32;
    /// i32 lanes `a − b`, modulo 2³², as f32: one rounding.
    fn difference(self, a: Self::F32, b: Self::F32) -> Self::F32;
    /// Writes the low byte of each of sixteen lanes.
    ///
    /// # Safety
    /// `p[..16]` is writable.
    unsafe fn store_bytes(self, p: *mut u8, v: Self::F32);
    /// `if a > b {a} else {b}`: `b` where either is NaN.
    fn max(self, a: Self::F32, b: Self::F32) -> Self::F32;
    /// `if a < b {a} else {b}`: `b` where either is NaN.
    fn min(self, a: Self::F32, b: Self::F32) -> Self::F32;
    /// `if a < b {x} else {y}`.
    fn if_less(self, a: Self::F32, b: Self::F32, x: Self::F32, y: Self::F32) -> Self::F32;
    /// `p·2ⁿ`, n the low bits of `t` (a small integer plus 1.5·2²³): an addition to the exponent.
    fn scale(self, p: Self::F32, t: Self::F32) -> Self::F32;

    /// The first `n` lanes of `p`, the others zero.
    ///
    /// # Safety
    /// `p[..n]` is readable.
    #[inline(always)]
    unsafe fn load_first(self, p: *const f32, n: usize) -> Self::F32 {
        unsafe {
            if n >= LANES {
                return self.load(p);
            }
            let mut lanes = [0.0f32; LANES];
            std::ptr::copy_nonoverlapping(p, lanes.as_mut_ptr(), n);
            self.load(lanes.as_ptr())
        }
    }

    /// Writes the first `n` lanes.
    ///
    /// # Safety
    /// `p[..n]` is writable.
    #[inline(always)]
    unsafe fn store_first(self, p: *mut f32, n: usize, v: Self::F32) {
        unsafe {
            if n >= LANES {
                return self.store(p, v);
            }
            std::ptr::copy_nonoverlapping(self.to_array(v).as_ptr(), p, n);
        }
    }

    /// [`Lanes::load_first`] of bf16.
    ///
    /// # Safety
    /// `p[..n]` is readable.
    #[inline(always)]
    unsafe fn load_bf16_first(self, p: *const bf16, n: usize) -> Self::F32 {
        unsafe {
            if n >= LANES {
                return self.load_bf16(p);
            }
            let mut lanes = [bf16::ZERO; LANES];
            std::ptr::copy_nonoverlapping(p, lanes.as_mut_ptr(), n);
            self.load_bf16(lanes.as_ptr())
        }
    }

    /// [`Lanes::store_first`] of bf16.
    ///
    /// # Safety
    /// `p[..n]` is writable.
    #[inline(always)]
    unsafe fn store_bf16_first(self, p: *mut bf16, n: usize, v: Self::F32) {
        unsafe {
            if n >= LANES {
                return self.store_bf16(p, v);
            }
            let mut lanes = [bf16::ZERO; LANES];
            self.store_bf16(lanes.as_mut_ptr(), v);
            std::ptr::copy_nonoverlapping(lanes.as_ptr(), p, n);
        }
    }

    /// The lanes in memory.
    #[inline(always)]
    fn to_array(self, v: Self::F32) -> [f32; LANES] {
        let mut lanes = [0.0; LANES];
        // SAFETY: sixteen elements.
        unsafe { self.store(lanes.as_mut_ptr(), v) };
        lanes
    }

    /// The lanes from memory.
    #[inline(always)]
    fn load_array(self, lanes: &[f32; LANES]) -> Self::F32 {
        // SAFETY: sixteen elements.
        unsafe { self.load(lanes.as_ptr()) }
    }

    /// Rows become columns: lane i of result j is lane j of `rows[i]`.
    #[inline(always)]
    fn transpose(self, rows: &mut [Self::F32; LANES]) {
        let lanes = rows.map(|row| self.to_array(row));
        for (j, row) in rows.iter_mut().enumerate() {
            *row = self.load_array(&lanes.map(|lanes| lanes[j]));
        }
    }

    /// Sum of the lanes: halves onto each other, four times.
    #[inline(always)]
    fn sum(self, v: Self::F32) -> f32 {
        let mut lanes = self.to_array(v);
        for width in [8, 4, 2, 1] {
            for i in 0..width {
                lanes[i] += lanes[i + width];
            }
        }
        lanes[0]
    }

    /// Largest lane.
    #[inline(always)]
    fn largest(self, v: Self::F32) -> f32 {
        let lanes = self.to_array(v);
        lanes.iter().fold(f32::NEG_INFINITY, |a, &b| if a > b { a } else { b })
    }
}
