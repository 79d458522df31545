//! Integer and bit operations. Signedness matters to few of them; the others exist once per width.

use super::lanes::{LANES, Operation, lanewise, load, load_bits, store, store_bits};
use super::op::{Ctx, Op};

lanewise! {
    Move16(a: u16) -> u16 = a;
    Move32(a: u32) -> u32 = a;
    Move64(a: u64) -> u64 = a;
    Move128(a: u128) -> u128 = a;

    Add16(a: u16, b: u16) -> u16 = a.wrapping_add(b);
    Add32(a: u32, b: u32) -> u32 = a.wrapping_add(b);
    Add64(a: u64, b: u64) -> u64 = a.wrapping_add(b);
    AddSaturated(a: i32, b: i32) -> i32 = a.saturating_add(b);
    Sub16(a: u16, b: u16) -> u16 = a.wrapping_sub(b);
    Sub32(a: u32, b: u32) -> u32 = a.wrapping_sub(b);
    Sub64(a: u64, b: u64) -> u64 = a.wrapping_sub(b);
    SubSaturated(a: i32, b: i32) -> i32 = a.saturating_sub(b);

    Mul16(a: u16, b: u16) -> u16 = a.wrapping_mul(b);
    Mul32(a: u32, b: u32) -> u32 = a.wrapping_mul(b);
    Mul64(a: u64, b: u64) -> u64 = a.wrapping_mul(b);
    MulHighU16(a: u16, b: u16) -> u16 = ((u32::from(a) * u32::from(b)) >> 16) as u16;
    MulHighS16(a: i16, b: i16) -> i16 = ((i32::from(a) * i32::from(b)) >> 16) as i16;
    MulHighU32(a: u32, b: u32) -> u32 = ((u64::from(a) * u64::from(b)) >> 32) as u32;
    MulHighS32(a: i32, b: i32) -> i32 = ((i64::from(a) * i64::from(b)) >> 32) as i32;
    MulHighU64(a: u64, b: u64) -> u64 = ((u128::from(a) * u128::from(b)) >> 64) as u64;
    MulHighS64(a: i64, b: i64) -> i64 = ((i128::from(a) * i128::from(b)) >> 64) as i64;
    MulWideU16(a: u16, b: u16) -> u32 = u32::from(a) * u32::from(b);
    MulWideS16(a: i16, b: i16) -> i32 = i32::from(a) * i32::from(b);
    MulWideU32(a: u32, b: u32) -> u64 = u64::from(a) * u64::from(b);
    MulWideS32(a: i32, b: i32) -> i64 = i64::from(a) * i64::from(b);
    Mul24U(a: u32, b: u32) -> u32 = (a & 0xFF_FFFF).wrapping_mul(b & 0xFF_FFFF);
    Mul24S(a: i32, b: i32) -> i32 = (a << 8 >> 8).wrapping_mul(b << 8 >> 8);

    Mul24HighU(a: u32, b: u32) -> u32 = ((u64::from(a & 0xFF_FFFF) * u64::from(b & 0xFF_FFFF)) >> 16) as u32;
    Mul24HighS(a: i32, b: i32) -> i32 = ((i64::from(a << 8 >> 8) * i64::from(b << 8 >> 8)) >> 16) as i32;
    Mad24U(a: u32, b: u32, c: u32) -> u32 = (a & 0xFF_FFFF).wrapping_mul(b & 0xFF_FFFF).wrapping_add(c);
    Mad24S(a: i32, b: i32, c: i32) -> i32 = (a << 8 >> 8).wrapping_mul(b << 8 >> 8).wrapping_add(c);

    Mad16(a: u16, b: u16, c: u16) -> u16 = a.wrapping_mul(b).wrapping_add(c);
    Mad32(a: u32, b: u32, c: u32) -> u32 = a.wrapping_mul(b).wrapping_add(c);
    Mad64(a: u64, b: u64, c: u64) -> u64 = a.wrapping_mul(b).wrapping_add(c);
    MadHighU16(a: u16, b: u16, c: u16) -> u16 = (((u32::from(a) * u32::from(b)) >> 16) as u16).wrapping_add(c);
    MadHighS16(a: i16, b: i16, c: i16) -> i16 = (((i32::from(a) * i32::from(b)) >> 16) as i16).wrapping_add(c);
    MadHighU32(a: u32, b: u32, c: u32) -> u32 = (((u64::from(a) * u64::from(b)) >> 32) as u32).wrapping_add(c);
    MadHighS32(a: i32, b: i32, c: i32) -> i32 = (((i64::from(a) * i64::from(b)) >> 32) as i32).wrapping_add(c);
    MadHighU64(a: u64, b: u64, c: u64) -> u64 = (((u128::from(a) * u128::from(b)) >> 64) as u64).wrapping_add(c);
    MadHighS64(a: i64, b: i64, c: i64) -> i64 = (((i128::from(a) * i128::from(b)) >> 64) as i64).wrapping_add(c);
    MadWideU16(a: u16, b: u16, c: u32) -> u32 = (u32::from(a) * u32::from(b)).wrapping_add(c);
    MadWideS16(a: i16, b: i16, c: i32) -> i32 = (i32::from(a) * i32::from(b)).wrapping_add(c);
    MadWideU32(a: u32, b: u32, c: u64) -> u64 = (u64::from(a) * u64::from(b)).wrapping_add(c);
    MadWideS32(a: i32, b: i32, c: i64) -> i64 = (i64::from(a) * i64::from(b)).wrapping_add(c);

    // Division by zero gives all ones, its remainder the dividend: unspecified by the ISA, so on GPUs.
    DivU16(a: u16, b: u16) -> u16 = a.checked_div(b).unwrap_or(u16::MAX);
    DivS16(a: i16, b: i16) -> i16 = if b == 0 { -1 } else { a.wrapping_div(b) };
    DivU32(a: u32, b: u32) -> u32 = a.checked_div(b).unwrap_or(u32::MAX);
    DivS32(a: i32, b: i32) -> i32 = if b == 0 { -1 } else { a.wrapping_div(b) };
    DivU64(a: u64, b: u64) -> u64 = a.checked_div(b).unwrap_or(u64::MAX);
    DivS64(a: i64, b: i64) -> i64 = if b == 0 { -1 } else { a.wrapping_div(b) };
    RemU16(a: u16, b: u16) -> u16 = a.checked_rem(b).unwrap_or(a);
    RemS16(a: i16, b: i16) -> i16 = if b == 0 { a } else { a.wrapping_rem(b) };
    RemU32(a: u32, b: u32) -> u32 = a.checked_rem(b).unwrap_or(a);
    RemS32(a: i32, b: i32) -> i32 = if b == 0 { a } else { a.wrapping_rem(b) };
    RemU64(a: u64, b: u64) -> u64 = a.checked_rem(b).unwrap_or(a);
    RemS64(a: i64, b: i64) -> i64 = if b == 0 { a } else { a.wrapping_rem(b) };

    Abs16(a: i16) -> i16 = a.wrapping_abs();
    Abs32(a: i32) -> i32 = a.wrapping_abs();
    Abs64(a: i64) -> i64 = a.wrapping_abs();
    Neg16(a: i16) -> i16 = a.wrapping_neg();
    Neg32(a: i32) -> i32 = a.wrapping_neg();
    Neg64(a: i64) -> i64 = a.wrapping_neg();
    MinU16(a: u16, b: u16) -> u16 = a.min(b);
    MinS16(a: i16, b: i16) -> i16 = a.min(b);
    MinU32(a: u32, b: u32) -> u32 = a.min(b);
    MinS32(a: i32, b: i32) -> i32 = a.min(b);
    MinU64(a: u64, b: u64) -> u64 = a.min(b);
    MinS64(a: i64, b: i64) -> i64 = a.min(b);
    MaxU16(a: u16, b: u16) -> u16 = a.max(b);
    MaxS16(a: i16, b: i16) -> i16 = a.max(b);
    MaxU32(a: u32, b: u32) -> u32 = a.max(b);
    MaxS32(a: i32, b: i32) -> i32 = a.max(b);
    MaxU64(a: u64, b: u64) -> u64 = a.max(b);
    MaxS64(a: i64, b: i64) -> i64 = a.max(b);

    And16(a: u16, b: u16) -> u16 = a & b;
    And32(a: u32, b: u32) -> u32 = a & b;
    And64(a: u64, b: u64) -> u64 = a & b;
    Or16(a: u16, b: u16) -> u16 = a | b;
    Or32(a: u32, b: u32) -> u32 = a | b;
    Or64(a: u64, b: u64) -> u64 = a | b;
    Xor16(a: u16, b: u16) -> u16 = a ^ b;
    Xor32(a: u32, b: u32) -> u32 = a ^ b;
    Xor64(a: u64, b: u64) -> u64 = a ^ b;
    Not16(a: u16) -> u16 = !a;
    Not32(a: u32) -> u32 = !a;
    Not64(a: u64) -> u64 = !a;
    Cnot16(a: u16) -> u16 = u16::from(a == 0);
    Cnot32(a: u32) -> u32 = u32::from(a == 0);
    Cnot64(a: u64) -> u64 = u64::from(a == 0);

    // Shifts by the width or more shift everything out.
    ShiftLeft16(a: u16, n: u32) -> u16 = if n > 15 { 0 } else { a << n };
    ShiftLeft32(a: u32, n: u32) -> u32 = if n > 31 { 0 } else { a << n };
    ShiftLeft64(a: u64, n: u32) -> u64 = if n > 63 { 0 } else { a << n };
    ShiftRightU16(a: u16, n: u32) -> u16 = if n > 15 { 0 } else { a >> n };
    ShiftRightS16(a: i16, n: u32) -> i16 = a >> n.min(15);
    ShiftRightU32(a: u32, n: u32) -> u32 = if n > 31 { 0 } else { a >> n };
    ShiftRightS32(a: i32, n: u32) -> i32 = a >> n.min(31);
    ShiftRightU64(a: u64, n: u32) -> u64 = if n > 63 { 0 } else { a >> n };
    ShiftRightS64(a: i64, n: u32) -> i64 = a >> n.min(63);
    FunnelLeftWrap(a: u32, b: u32, n: u32) -> u32 = ((pair(a, b) << (n & 31)) >> 32) as u32;
    FunnelLeftClamp(a: u32, b: u32, n: u32) -> u32 = ((pair(a, b) << n.min(32)) >> 32) as u32;
    FunnelRightWrap(a: u32, b: u32, n: u32) -> u32 = (pair(a, b) >> (n & 31)) as u32;
    FunnelRightClamp(a: u32, b: u32, n: u32) -> u32 = (pair(a, b) >> n.min(32)) as u32;

    Reverse32(a: u32) -> u32 = a.reverse_bits();
    Reverse64(a: u64) -> u64 = a.reverse_bits();
    LeadingZeros32(a: u32) -> u32 = a.leading_zeros();
    LeadingZeros64(a: u64) -> u32 = a.leading_zeros();
    Population32(a: u32) -> u32 = a.count_ones();
    Population64(a: u64) -> u32 = a.count_ones();
    FindU32(a: u32) -> u32 = 31u32.wrapping_sub(a.leading_zeros());
    FindS32(a: i32) -> u32 = 31u32.wrapping_sub((a ^ (a >> 31)).leading_zeros());
    FindU64(a: u64) -> u32 = 63u32.wrapping_sub(a.leading_zeros());
    FindS64(a: i64) -> u32 = 63u32.wrapping_sub((a ^ (a >> 63)).leading_zeros());
    FindShiftU32(a: u32) -> u32 = if a == 0 { u32::MAX } else { a.leading_zeros() };
    FindShiftU64(a: u64) -> u32 = if a == 0 { u32::MAX } else { a.leading_zeros() };
    FindShiftS32(a: i32) -> u32 = match a ^ (a >> 31) { 0 => u32::MAX, a => a.leading_zeros() };
    FindShiftS64(a: i64) -> u32 = match a ^ (a >> 63) { 0 => u32::MAX, a => a.leading_zeros() };
    ExtractU32(a: u32, at: u32, n: u32) -> u32 = extract(u64::from(a), at, n, 31, false) as u32;
    ExtractS32(a: i32, at: u32, n: u32) -> u32 = extract(a as i64 as u64, at, n, 31, true) as u32;
    ExtractU64(a: u64, at: u32, n: u32) -> u64 = extract(a, at, n, 63, false);
    ExtractS64(a: i64, at: u32, n: u32) -> u64 = extract(a as u64, at, n, 63, true);
    Insert32(a: u32, b: u32, at: u32, n: u32) -> u32 = insert(u64::from(a), u64::from(b), at, n, 32) as u32;
    Insert64(a: u64, b: u64, at: u32, n: u32) -> u64 = insert(a, b, at, n, 64);
    SadU16(a: u16, b: u16, c: u16) -> u16 = a.abs_diff(b).wrapping_add(c);
    SadS16(a: i16, b: i16, c: u16) -> u16 = a.abs_diff(b).wrapping_add(c);
    SadU64(a: u64, b: u64, c: u64) -> u64 = a.abs_diff(b).wrapping_add(c);
    SadS64(a: i64, b: i64, c: u64) -> u64 = a.abs_diff(b).wrapping_add(c);
    SadU32(a: u32, b: u32, c: u32) -> u32 = a.abs_diff(b).wrapping_add(c);
    SadS32(a: i32, b: i32, c: u32) -> u32 = a.abs_diff(b).wrapping_add(c);
    Dp4aUU(a: u32, b: u32, c: u32) -> u32 = dot4(a, b, c, false, false);
    Dp4aSS(a: u32, b: u32, c: u32) -> u32 = dot4(a, b, c, true, true);
    Dp4aSU(a: u32, b: u32, c: u32) -> u32 = dot4(a, b, c, true, false);
    Dp4aUS(a: u32, b: u32, c: u32) -> u32 = dot4(a, b, c, false, true);
    Permute(a: u32, b: u32, selector: u32) -> u32 = permute(a, b, selector);
}

/// `b` above `a`.
#[inline(always)]
fn pair(a: u32, b: u32) -> u64 {
    u64::from(b) << 32 | u64::from(a)
}

/// `bfe`: bits beyond the last are the sign, or zero. `msb` is the highest bit's number.
#[inline(always)]
fn extract(a: u64, at: u32, n: u32, msb: u32, signed: bool) -> u64 {
    let (at, n) = (at & 0xFF, n & 0xFF);
    if n == 0 {
        return 0;
    }
    let top = (at + n - 1).min(msb);
    let sign = signed && a >> top & 1 == 1;
    let field = if at > msb { 0 } else { a >> at };
    let have = if at > msb { 0 } else { (msb - at + 1).min(n) };
    let mask = if have >= 64 { u64::MAX } else { (1 << have) - 1 };
    field & mask | if sign { !mask } else { 0 }
}

/// `bfi`: the low `n` bits of `a` into `b` at `at`.
#[inline(always)]
fn insert(a: u64, b: u64, at: u32, n: u32, width: u32) -> u64 {
    let (at, n) = (at & 0xFF, n & 0xFF);
    if at >= width || n == 0 {
        return b;
    }
    let mask = if n >= 64 { u64::MAX } else { (1 << n) - 1 } << at;
    b & !mask | (a << at) & mask
}

#[inline(always)]
fn dot4(a: u32, b: u32, c: u32, a_signed: bool, b_signed: bool) -> u32 {
    let byte = |x: u32, i: u32, signed: bool| {
        let byte = (x >> (8 * i)) as u8;
        if signed { i32::from(byte as i8) } else { i32::from(byte) }
    };
    (0..4).fold(c, |sum, i| sum.wrapping_add((byte(a, i, a_signed) * byte(b, i, b_signed)) as u32))
}

/// `prmt`: each result byte is one of eight, or its sign repeated.
#[inline(always)]
pub fn permute(a: u32, b: u32, selector: u32) -> u32 {
    let bytes = pair(a, b);
    (0..4).fold(0, |result, i| {
        let choice = selector >> (4 * i);
        let byte = (bytes >> (8 * (choice & 7))) as u8;
        let byte = if choice & 8 == 0 { byte } else { ((byte as i8) >> 7) as u8 };
        result | u32::from(byte) << (8 * i)
    })
}

/// `lop3`: any function of three bits, from the truth table in `immediate`.
pub struct Lop3;

impl Operation for Lop3 {
    #[inline(always)]
    unsafe fn run(ctx: &mut Ctx<'_>, op: &Op, mask: u32) {
        // SAFETY: the caller's.
        unsafe {
            let a = load::<u32>(ctx.registers, op.sources[0]);
            let b = load::<u32>(ctx.registers, op.sources[1]);
            let c = load::<u32>(ctx.registers, op.sources[2]);
            let mut result = [0; LANES];
            for term in 0..8 {
                if op.immediate >> term & 1 == 1 {
                    let flip = |bit: i32, x: u32| if term >> bit & 1 == 1 { x } else { !x };
                    for i in 0..LANES {
                        result[i] |= flip(2, a[i]) & flip(1, b[i]) & flip(0, c[i]);
                    }
                }
            }
            store(ctx.registers, op.result, mask, result);
        }
    }
}

/// `add.cc`, `addc`, `sub.cc`, `subc` and `madc`: sums that pass a carry on. `immediate` has
/// [`CARRY_IN`], [`CARRY_OUT`] and [`BORROW`]; `sources[3]` is the carry's place, a bit per lane.
pub struct Carry<T>(std::marker::PhantomData<T>);

pub const CARRY_IN: i64 = 1;
pub const CARRY_OUT: i64 = 2;
pub const BORROW: i64 = 4;

impl<T: Copy + Default + Into<u128> + TryFrom<u128>> Operation for Carry<T> {
    #[inline(always)]
    unsafe fn run(ctx: &mut Ctx<'_>, op: &Op, mask: u32) {
        // SAFETY: the caller's.
        unsafe {
            let a = load::<T>(ctx.registers, op.sources[0]);
            let b = load::<T>(ctx.registers, op.sources[1]);
            let bits = if op.immediate & CARRY_IN == 0 {
                0
            } else {
                load_bits(ctx.registers, op.sources[3])
            };
            let range = 1u128 << (8 * size_of::<T>());
            let (mut result, mut carries) = ([T::default(); LANES], 0);
            for i in 0..LANES {
                let carry = u128::from(bits >> i & 1);
                let (a, b): (u128, u128) = (a[i].into(), b[i].into());
                // A borrow is a carry in the other direction.
                let sum =
                    if op.immediate & BORROW == 0 { a + b + carry } else { range + a - b - carry };
                let out = if op.immediate & BORROW == 0 { sum >= range } else { sum < range };
                carries |= u32::from(out) << i;
                result[i] = T::try_from(sum % range).unwrap_or_default();
            }
            store(ctx.registers, op.result, mask, result);
            if op.immediate & CARRY_OUT != 0 {
                store_bits(ctx.registers, op.sources[3], mask, carries);
            }
        }
    }
}

/// `selp`: by a predicate, the third source.
pub struct Select<T>(std::marker::PhantomData<T>);

impl<T: Copy> Operation for Select<T> {
    #[inline(always)]
    unsafe fn run(ctx: &mut Ctx<'_>, op: &Op, mask: u32) {
        // SAFETY: the caller's.
        unsafe {
            let a = load::<T>(ctx.registers, op.sources[0]);
            let mut result = load::<T>(ctx.registers, op.sources[1]);
            let bits = load_bits(ctx.registers, op.sources[2]) ^ op.immediate as u32;
            for i in 0..LANES {
                result[i] = if bits >> i & 1 == 1 { a[i] } else { result[i] };
            }
            store(ctx.registers, op.result, mask, result);
        }
    }
}

/// `and`, `or`, `xor`, `not` and `mov` of predicates: a truth table of two bits in `immediate`.
pub struct Logic;

impl Operation for Logic {
    #[inline(always)]
    unsafe fn run(ctx: &mut Ctx<'_>, op: &Op, mask: u32) {
        // SAFETY: the caller's.
        unsafe {
            let a = load_bits(ctx.registers, op.sources[0]);
            let b = load_bits(ctx.registers, op.sources[1]);
            store_bits(ctx.registers, op.result, mask, table(op.immediate, a, b));
        }
    }
}

/// The function of two bits whose truth table is `t`: bit 2a + b.
#[inline(always)]
pub fn table(t: i64, a: u32, b: u32) -> u32 {
    let term = |i: i64, bits: u32| if t >> i & 1 == 1 { bits } else { 0 };
    term(0, !a & !b) | term(1, !a & b) | term(2, a & !b) | term(3, a & b)
}
