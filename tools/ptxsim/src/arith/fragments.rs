//! Which lane holds which matrix element.
//!
//! PTX ISA, "Matrix Fragments for mma.m16n8k8" and the sections beside it, one for each shape. They
//! all follow three formulas. With e elements in a register (one of f64 in a 64-bit register, one of
//! tf32, two of 16 bits, four of 8 bits), g = lane / 4 and t = lane % 4, element i of register r is
//! - A: row g + 8 (r mod 2), column 4 e (r / 2) + e t + i (shapes of eight rows have one register),
//! - B: row 4 e r + e t + i, column g,
//! - C and D: with j = e r + i, row g + 8 (j / 2), column 2 t + j mod 2.
//!
//! `wgmma`: each warp of four holds 16 rows; A in registers is as here, and elements 4 c to 4 c + 3 of
//! D are a fragment D of columns 8 c to 8 c + 7.

/// Lanes of a warp.
pub const LANES: usize = 32;

/// An element that shares a register with its neighbours.
pub trait Packed: Copy + Default + PartialEq + std::fmt::Debug {
    type Register: Copy + Default + PartialEq + std::fmt::Debug;
    /// Elements in a register.
    const COUNT: usize;
    fn get(register: Self::Register, index: usize) -> Self;
    /// `register`, whose bits there are zero, with the element.
    fn put(self, register: Self::Register, index: usize) -> Self::Register;
}

impl Packed for u8 {
    type Register = u32;
    const COUNT: usize = 4;
    #[inline(always)]
    fn get(register: u32, index: usize) -> Self {
        (register >> (8 * index)) as u8
    }
    #[inline(always)]
    fn put(self, register: u32, index: usize) -> u32 {
        register | u32::from(self) << (8 * index)
    }
}

impl Packed for u16 {
    type Register = u32;
    const COUNT: usize = 2;
    #[inline(always)]
    fn get(register: u32, index: usize) -> Self {
        (register >> (16 * index)) as u16
    }
    #[inline(always)]
    fn put(self, register: u32, index: usize) -> u32 {
        register | u32::from(self) << (16 * index)
    }
}

impl Packed for u32 {
    type Register = u32;
    const COUNT: usize = 1;
    #[inline(always)]
    fn get(register: u32, _index: usize) -> Self {
        register
    }
    #[inline(always)]
    fn put(self, _register: u32, _index: usize) -> u32 {
        self
    }
}

impl Packed for u64 {
    type Register = u64;
    const COUNT: usize = 1;
    #[inline(always)]
    fn get(register: u64, _index: usize) -> Self {
        register
    }
    #[inline(always)]
    fn put(self, _register: u64, _index: usize) -> u64 {
        self
    }
}

/// Row and column in A of an element of which `count` share a register.
#[inline(always)]
pub const fn a_position(
    count: usize,
    lane: usize,
    register: usize,
    index: usize,
) -> (usize, usize) {
    let (group, thread) = (lane / 4, lane % 4);
    (group + 8 * (register % 2), 4 * count * (register / 2) + count * thread + index)
}

/// Row and column in B.
#[inline(always)]
pub const fn b_position(
    count: usize,
    lane: usize,
    register: usize,
    index: usize,
) -> (usize, usize) {
    let (group, thread) = (lane / 4, lane % 4);
    (4 * count * register + count * thread + index, group)
}

/// Row and column in C and D.
#[inline(always)]
pub const fn c_position(
    count: usize,
    lane: usize,
    register: usize,
    index: usize,
) -> (usize, usize) {
    let (group, thread) = (lane / 4, lane % 4);
    let element = count * register + index;
    (group + 8 * (element / 2), 2 * thread + element % 2)
}

/// A from its registers, each an array over the lanes.
#[inline(always)]
pub fn unpack_a<T: Packed, const R: usize, const M: usize, const K: usize>(
    registers: &[[T::Register; LANES]; R],
) -> [[T; K]; M] {
    let mut a = [[T::default(); K]; M];
    for register in 0..R {
        for lane in 0..LANES {
            for index in 0..T::COUNT {
                let (row, col) = a_position(T::COUNT, lane, register, index);
                a[row][col] = T::get(registers[register][lane], index);
            }
        }
    }
    a
}

/// B from its registers.
#[inline(always)]
pub fn unpack_b<T: Packed, const R: usize, const K: usize>(
    registers: &[[T::Register; LANES]; R],
) -> [[T; 8]; K] {
    let mut b = [[T::default(); 8]; K];
    for register in 0..R {
        for thread in 0..4 {
            for index in 0..T::COUNT {
                // A row at a time, which makes it one shuffle of registers.
                for group in 0..8 {
                    let lane = 4 * group + thread;
                    let (row, col) = b_position(T::COUNT, lane, register, index);
                    b[row][col] = T::get(registers[register][lane], index);
                }
            }
        }
    }
    b
}

/// C from its registers.
#[inline(always)]
pub fn unpack_c<T: Packed, const R: usize, const M: usize>(
    registers: &[[T::Register; LANES]; R],
) -> [[T; 8]; M] {
    let mut c = [[T::default(); 8]; M];
    for register in 0..R {
        for lane in 0..LANES {
            for index in 0..T::COUNT {
                let (row, col) = c_position(T::COUNT, lane, register, index);
                c[row][col] = T::get(registers[register][lane], index);
            }
        }
    }
    c
}

/// The registers that hold D.
#[inline(always)]
pub fn pack_d<T: Packed, const R: usize, const M: usize>(
    d: &[[T; 8]; M],
) -> [[T::Register; LANES]; R] {
    let mut registers = [[T::Register::default(); LANES]; R];
    for register in 0..R {
        for lane in 0..LANES {
            for index in 0..T::COUNT {
                let (row, col) = c_position(T::COUNT, lane, register, index);
                registers[register][lane] = d[row][col].put(registers[register][lane], index);
            }
        }
    }
    registers
}
