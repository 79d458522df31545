//! Fragments against the formulas of the PTX ISA, section by section.

use ptxsim::arith::fragments::{
    Packed, a_position, b_position, c_position, pack_d, unpack_a, unpack_b, unpack_c,
};

/// Row and column of element i in a lane's fragment.
type Formula = fn(lane: usize, i: usize) -> (usize, usize);

struct Shape {
    name: &'static str,
    /// Elements in a register of A and B.
    count: usize,
    /// Elements of A, B and C in a lane.
    elements: [usize; 3],
    a: Formula,
    b: Formula,
}

/// `row = groupID for a0 and a1 ...`, as each section gives it.
const SHAPES: [Shape; 9] = [
    Shape {
        name: "m8n8k4 f64",
        count: 1,
        elements: [1, 1, 2],
        a: |lane, _| (lane >> 2, lane % 4),
        b: |lane, _| (lane % 4, lane >> 2),
    },
    Shape {
        name: "m16n8k4 tf32 and f64",
        count: 1,
        elements: [2, 1, 4],
        a: |lane, i| (if i == 0 { lane >> 2 } else { (lane >> 2) + 8 }, lane % 4),
        b: |lane, _| (lane % 4, lane >> 2),
    },
    Shape {
        name: "m16n8k8 tf32 and f64",
        count: 1,
        elements: [4, 2, 4],
        a: |lane, i| {
            let row = if i == 0 || i == 2 { lane >> 2 } else { (lane >> 2) + 8 };
            (row, if i == 0 || i == 1 { lane % 4 } else { lane % 4 + 4 })
        },
        b: |lane, i| (if i == 0 { lane % 4 } else { lane % 4 + 4 }, lane >> 2),
    },
    Shape {
        name: "m16n8k16 f64",
        count: 1,
        elements: [8, 4, 4],
        a: |lane, i| {
            let row = if i % 2 == 0 { lane >> 2 } else { (lane >> 2) + 8 };
            (row, i / 2 * 4 + lane % 4)
        },
        b: |lane, i| (lane % 4 + i * 4, lane >> 2),
    },
    Shape {
        name: "m16n8k8 f16 and bf16",
        count: 2,
        elements: [4, 2, 4],
        a: |lane, i| (if i < 2 { lane >> 2 } else { (lane >> 2) + 8 }, lane % 4 * 2 + (i & 1)),
        b: |lane, i| (lane % 4 * 2 + i, lane >> 2),
    },
    Shape {
        name: "m16n8k16 f16 and bf16",
        count: 2,
        elements: [8, 4, 4],
        a: |lane, i| {
            let row = if i < 2 || (4..6).contains(&i) { lane >> 2 } else { (lane >> 2) + 8 };
            let col = lane % 4 * 2 + (i & 1);
            (row, if i < 4 { col } else { col + 8 })
        },
        b: |lane, i| {
            let row = lane % 4 * 2 + (i & 1);
            (if i < 2 { row } else { row + 8 }, lane >> 2)
        },
    },
    Shape {
        name: "m8n8k16 int8",
        count: 4,
        elements: [4, 4, 2],
        a: |lane, i| (lane >> 2, lane % 4 * 4 + i),
        b: |lane, i| (lane % 4 * 4 + i, lane >> 2),
    },
    Shape {
        name: "m16n8k16 int8 and fp8",
        count: 4,
        elements: [8, 4, 4],
        a: |lane, i| {
            let row = if i < 4 { lane >> 2 } else { (lane >> 2) + 8 };
            (row, lane % 4 * 4 + (i & 3))
        },
        b: |lane, i| (lane % 4 * 4 + i, lane >> 2),
    },
    Shape {
        name: "m16n8k32 int8 and fp8",
        count: 4,
        elements: [16, 8, 4],
        a: |lane, i| {
            let first = i < 4 || (8..12).contains(&i);
            let col = lane % 4 * 4 + (i & 3);
            (if first { lane >> 2 } else { (lane >> 2) + 8 }, if i < 8 { col } else { col + 16 })
        },
        b: |lane, i| {
            let row = lane % 4 * 4 + (i & 3);
            (if i < 4 { row } else { row + 16 }, lane >> 2)
        },
    },
];

/// Of every shape: `row = groupID for c0 and c1, groupID + 8 for c2 and c3`.
fn c(lane: usize, i: usize) -> (usize, usize) {
    (if i < 2 { lane >> 2 } else { (lane >> 2) + 8 }, lane % 4 * 2 + (i & 1))
}

#[test]
fn positions_are_those_of_the_isa() {
    for Shape { name, count, elements, a, b } in SHAPES {
        for lane in 0..32 {
            for i in 0..elements[0] {
                let got = a_position(count, lane, i / count, i % count);
                assert_eq!(got, a(lane, i), "A of {name}: lane {lane}, a{i}");
            }
            for i in 0..elements[1] {
                let got = b_position(count, lane, i / count, i % count);
                assert_eq!(got, b(lane, i), "B of {name}: lane {lane}, b{i}");
            }
            for i in 0..elements[2] {
                assert_eq!(c_position(1, lane, i, 0), c(lane, i), "C of {name}: lane {lane}");
                assert_eq!(c_position(2, lane, i / 2, i % 2), c(lane, i), "f16 C of {name}");
            }
        }
    }
}

/// Numbers every element of a fragment by where the formulas put it.
fn numbered<T: Packed + TryFrom<usize>, const R: usize>(
    cols: usize,
    formula: Formula,
) -> [[T::Register; 32]; R] {
    let mut registers = [[T::Register::default(); 32]; R];
    for lane in 0..32 {
        for i in 0..R * T::COUNT {
            let (row, col) = formula(lane, i);
            let number = T::try_from((row * cols + col) % 251).ok().expect("it is small");
            let register = &mut registers[i / T::COUNT][lane];
            *register = number.put(*register, i % T::COUNT);
        }
    }
    registers
}

fn in_order<T: Packed + TryFrom<usize>, const COLS: usize>(matrix: &[[T; COLS]]) {
    for (number, &element) in matrix.as_flattened().iter().enumerate() {
        assert_eq!(Some(element), T::try_from(number % 251).ok());
    }
}

fn shape(name: &str) -> &'static Shape {
    SHAPES.iter().find(|shape| shape.name == name).expect("the name is in the table")
}

#[test]
fn registers_unpack_to_matrices() {
    let s = shape("m16n8k16 f16 and bf16");
    in_order(&unpack_a::<u16, 4, 16, 16>(&numbered::<u16, 4>(16, s.a)));
    in_order(&unpack_b::<u16, 2, 16>(&numbered::<u16, 2>(8, s.b)));
    let s = shape("m16n8k32 int8 and fp8");
    in_order(&unpack_a::<u8, 4, 16, 32>(&numbered::<u8, 4>(32, s.a)));
    in_order(&unpack_b::<u8, 2, 32>(&numbered::<u8, 2>(8, s.b)));
    let s = shape("m8n8k16 int8");
    in_order(&unpack_a::<u8, 1, 8, 16>(&numbered::<u8, 1>(16, s.a)));
    in_order(&unpack_b::<u8, 1, 16>(&numbered::<u8, 1>(8, s.b)));
    let s = shape("m16n8k8 tf32 and f64");
    in_order(&unpack_a::<u32, 4, 16, 8>(&numbered::<u32, 4>(8, s.a)));
    in_order(&unpack_b::<u32, 2, 8>(&numbered::<u32, 2>(8, s.b)));
    let s = shape("m16n8k16 f64");
    in_order(&unpack_a::<u64, 8, 16, 16>(&numbered::<u64, 8>(16, s.a)));
    in_order(&unpack_b::<u64, 4, 16>(&numbered::<u64, 4>(8, s.b)));
}

#[test]
fn accumulators_unpack_and_pack() {
    let registers = numbered::<u32, 4>(8, c);
    let matrix = unpack_c::<u32, 4, 16>(&registers);
    in_order(&matrix);
    assert_eq!(pack_d::<u32, 4, 16>(&matrix), registers);
    let registers = numbered::<u16, 2>(8, c);
    let matrix = unpack_c::<u16, 2, 16>(&registers);
    in_order(&matrix);
    assert_eq!(pack_d::<u16, 2, 16>(&matrix), registers);
    let registers = numbered::<u64, 2>(8, c);
    assert_eq!(pack_d::<u64, 2, 8>(&unpack_c::<u64, 2, 8>(&registers)), registers);
}
