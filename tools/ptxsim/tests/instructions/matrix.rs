//! `ldmatrix`, `stmatrix`, `movmatrix` and `mma.sync` in every shape and type that is supported: which
//! lane holds which element by the ISA's figures, and sums by an exact model of each preset.

use std::collections::BTreeMap;

use ptxsim::arith::mma::{Instruction, TensorCore};
use ptxsim::exec::Level;

use crate::exact::{BF16, E4M3, E5M2, F16, F32, Spec, TF32};
use crate::harness::{module, ran};
use crate::integer::value as integer;
use crate::random::Random;
use crate::rule::{DRAWS, Draw, draw, element};
use crate::support::{Arg, Device};

pub const TESTS: crate::Tests = &[
    ("loads", loads),
    ("stores", stores),
    ("transpositions", transpositions),
    ("float_products", float_products),
    ("float_products_in_f32", float_products_in_f32),
    ("integer_products", integer_products),
];

const LANES: usize = 32;

/// Runs a warp: `before` may use the shared bytes `tile`, which hold the input's first 2048 bytes, and
/// the registers `%a0`…, which hold the lane's words of the input behind that. Afterwards the words
/// `%d0`… and the tile are the output, words first.
fn warp(
    text: &str,
    words: usize,
    results: usize,
    input: &[u32],
    set: impl Fn(&mut Device),
) -> Vec<(Level, Vec<u32>, Vec<u32>)> {
    ran(text, LANES);
    let mut body = format!(
        ".reg .b32 %a<{}>, %d<{}>, %t, %u; .reg .b64 %in, %out, %k, %x; .shared .align 16 .b8 tile[2048];
        mov.u32 %t, %tid.x; ld.param.u64 %in, [in]; ld.param.u64 %out, [out]; mov.u64 %x, tile;
        mul.wide.u32 %k, %t, 4; add.u64 %in, %in, %k; add.u64 %out, %out, %k; add.u64 %x, %x, %k;\n",
        words.max(1),
        results.max(1)
    );
    for i in 0..16 {
        body += &format!("ld.global.u32 %u, [%in+{0}]; st.shared.u32 [%x+{0}], %u;\n", 128 * i);
    }
    for i in 0..words {
        body += &format!("ld.global.u32 %a{i}, [%in+{}];\n", 2048 + 128 * i);
    }
    body += "bar.warp.sync 0xFFFFFFFF;\n";
    body += text;
    body += "\nbar.warp.sync 0xFFFFFFFF;\n";
    for i in 0..results {
        body += &format!("st.global.u32 [%out+{}], %d{i};\n", 128 * i);
    }
    for i in 0..16 {
        body += &format!(
            "ld.shared.u32 %u, [%x+{}]; st.global.u32 [%out+{}], %u;\n",
            128 * i,
            128 * (results + i)
        );
    }
    let ptx = module(".param .u64 in, .param .u64 out", &body);
    let run = |level| {
        let mut device = Device::new(&ptx, level);
        set(&mut device);
        let output = device.allocate(4 * LANES * (results + 16));
        let args = [Arg::Address(device.upload(input)), Arg::Address(output)];
        device.launch("k", [1, 1, 1], [32, 1, 1], 0, &args).unwrap();
        device.clean();
        let mut words: Vec<u32> = device.download(output, LANES * (results + 16));
        let tile = words.split_off(LANES * results);
        (level, words, tile)
    };
    Level::available().into_iter().map(run).collect()
}

fn random_words(seed: u64, count: usize) -> Vec<u32> {
    let mut random = Random(seed);
    (0..count).map(|_| random.next() as u32).collect()
}

fn registers(name: &str, count: usize) -> String {
    let all: Vec<String> = (0..count).map(|i| format!("%{name}{i}")).collect();
    format!("{{{}}}", all.join(", "))
}

/// Where row `row` of matrix `matrix` lies, in halfwords: rows of 16 bytes, not in order.
fn row_at(matrix: usize, row: usize) -> usize {
    ((matrix * 8 + row) * 37 + 5) % 128 * 8
}

/// Lane 8·m + r gives the address of row r of matrix m; other lanes' addresses are not used.
fn addresses(count: usize) -> Vec<u32> {
    (0..LANES).map(|lane| 2 * row_at(lane / 8 % count, lane % 8) as u32).collect()
}

/// "A fragment: row lane/4, columns 2·(lane%4) and the next", of each matrix; transposed the other way.
fn position(lane: usize, half: usize, transposed: bool) -> (usize, usize) {
    let (row, column) = (lane / 4, 2 * (lane % 4) + half);
    if transposed { (column, row) } else { (row, column) }
}

const ADDRESS: &str =
    ".reg .b64 %y, %z; mov.u64 %y, tile; cvt.u64.u32 %z, %a0; add.u64 %y, %y, %z;";

fn loads() {
    for count in [1, 2, 4] {
        for (trans, transposed) in [("", false), (".trans", true)] {
            for space in [".shared", ".shared::cta"] {
                let form = format!("ldmatrix.sync.aligned.m8n8.x{count}{trans}{space}.b16");
                let text = format!("{ADDRESS} {form} {}, [%y];", registers("d", count));
                let input = [random_words(1, 512), addresses(count)].concat();
                let tile: Vec<u16> =
                    input[..512].iter().flat_map(|w| [*w as u16, (w >> 16) as u16]).collect();
                for (level, words, _) in warp(&text, 1, count, &input, |_| ()) {
                    for matrix in 0..count {
                        for lane in 0..LANES {
                            let part = |half| {
                                let (row, column) = position(lane, half, transposed);
                                u32::from(tile[row_at(matrix, row) + column])
                            };
                            let (got, wanted) =
                                (words[matrix * LANES + lane], part(0) | part(1) << 16);
                            assert_eq!(
                                got, wanted,
                                "{form} on {level:?}, matrix {matrix}, lane {lane}"
                            );
                        }
                    }
                }
            }
        }
    }
}

fn stores() {
    for count in [1, 2, 4] {
        for (trans, transposed) in [("", false), (".trans", true)] {
            let form = format!("stmatrix.sync.aligned.m8n8.x{count}{trans}.shared.b16");
            let sources: Vec<String> = (0..count).map(|i| format!("%a{}", i + 1)).collect();
            let text = format!("{ADDRESS} {form} [%y], {{{}}};", sources.join(", "));
            let values = random_words(2, count * LANES);
            let input = [random_words(3, 512), addresses(count), values.clone()].concat();
            let mut wanted: Vec<u16> =
                input[..512].iter().flat_map(|w| [*w as u16, (w >> 16) as u16]).collect();
            for matrix in 0..count {
                for lane in 0..LANES {
                    for half in 0..2 {
                        let (row, column) = position(lane, half, transposed);
                        wanted[row_at(matrix, row) + column] =
                            (values[matrix * LANES + lane] >> (16 * half)) as u16;
                    }
                }
            }
            for (level, _, tile) in warp(&text, 1 + count, 0, &input, |_| ()) {
                let got: Vec<u16> =
                    tile.iter().flat_map(|w| [*w as u16, (w >> 16) as u16]).collect();
                assert_eq!(got, wanted, "{form} on {level:?}");
            }
        }
    }
}

fn transpositions() {
    let text = "movmatrix.sync.aligned.m8n8.trans.b16 %d0, %a0;";
    let input = random_words(4, 512 + LANES);
    let at = |row: usize, column: usize| {
        input[512 + 4 * row + column / 2] >> (16 * (column % 2)) & 0xFFFF
    };
    for (level, words, _) in warp(text, 1, 1, &input, |_| ()) {
        for (lane, &got) in words.iter().enumerate() {
            let part = |half| {
                let (row, column) = position(lane, half, true);
                at(row, column)
            };
            assert_eq!(got, part(0) | part(1) << 16, "{text} on {level:?}, lane {lane}");
        }
    }
}

/// Elements of a matrix by row and column: register of the lane, bit of the register.
type Places = BTreeMap<(usize, usize), (usize, usize, u32)>;

/// The ISA's figures for m16n8, as formulas of groupID = lane / 4 and threadID = lane % 4, of elements
/// with `bits`: A, B, or C and D.
fn places(matrix: char, registers: usize, bits: u32) -> Places {
    let per = (32 / bits) as usize;
    let mut places = Places::new();
    for lane in 0..LANES {
        let (group, thread) = (lane / 4, lane % 4);
        for register in 0..registers {
            for e in 0..per {
                let place = match matrix {
                    'a' => {
                        (group + 8 * (register % 2), 4 * per * (register / 2) + per * thread + e)
                    }
                    'b' => (4 * per * register + per * thread + e, group),
                    _ => {
                        let i = per * register + e;
                        (group + 8 * (i / 2), 2 * thread + i % 2)
                    }
                };
                let known = places.insert(place, (register, lane, bits * e as u32));
                assert!(known.is_none(), "{place:?} is two elements");
            }
        }
    }
    places
}

fn get(words: &[u32], (register, lane, bit): (usize, usize, u32), bits: u32) -> u64 {
    u64::from(words[register * LANES + lane] >> bit) & (u64::MAX >> (64 - bits))
}

/// One shape: k, the types of D and C, A, and B.
struct Shape {
    k: usize,
    names: [&'static str; 3],
}

impl Shape {
    /// Runs the product of these registers, of A, B and C one after another.
    fn run(&self, rest: &str, input: &[u32], core: TensorCore) -> (String, Vec<(Level, Vec<u32>)>) {
        let Shape { k, names: [d, a, b] } = self;
        let [a_words, b_words, c_words] = self.words();
        let form = format!("mma.sync.aligned.m16n8k{k}.row.col{rest}.{d}.{a}.{b}.{d}");
        let part = |from: usize, count: usize| {
            let all: Vec<String> = (from..from + count).map(|i| format!("%a{i}")).collect();
            format!("{{{}}}", all.join(", "))
        };
        let text = format!(
            "{form} {}, {}, {}, {};",
            registers("d", c_words),
            part(0, a_words),
            part(a_words, b_words),
            part(a_words + b_words, c_words)
        );
        let input = [&vec![0; 512], input].concat();
        let runs = warp(&text, a_words + b_words + c_words, c_words, &input, |device| {
            device.machine.tensor_core = core;
        });
        (form, runs.into_iter().map(|(level, words, _)| (level, words)).collect())
    }

    /// Registers of A, B, and C.
    fn words(&self) -> [usize; 3] {
        let a = 16 * self.k * bits(self.names[1]) as usize / 1024;
        [a, a / 2, if self.names[0] == "f16" { 2 } else { 4 }]
    }
}

fn bits(ty: &str) -> u32 {
    match ty {
        "f16" | "bf16" => 16,
        "e4m3" | "e5m2" | "u8" | "s8" => 8,
        _ => 32,
    }
}

fn spec(ty: &str) -> Spec {
    match ty {
        "f16" => F16,
        "bf16" => BF16,
        "tf32" => TF32,
        "e4m3" => E4M3,
        "e5m2" => E5M2,
        _ => F32,
    }
}

const FLOATS: [Shape; 12] = [
    Shape { k: 16, names: ["f32", "f16", "f16"] },
    Shape { k: 8, names: ["f32", "f16", "f16"] },
    Shape { k: 16, names: ["f16", "f16", "f16"] },
    Shape { k: 8, names: ["f16", "f16", "f16"] },
    Shape { k: 16, names: ["f32", "bf16", "bf16"] },
    Shape { k: 8, names: ["f32", "bf16", "bf16"] },
    Shape { k: 8, names: ["f32", "tf32", "tf32"] },
    Shape { k: 4, names: ["f32", "tf32", "tf32"] },
    Shape { k: 32, names: ["f32", "e4m3", "e4m3"] },
    Shape { k: 32, names: ["f32", "e4m3", "e5m2"] },
    Shape { k: 32, names: ["f32", "e5m2", "e4m3"] },
    Shape { k: 32, names: ["f32", "e5m2", "e5m2"] },
];

/// Registers filled with codes of a format; tf32 has bits below that do not count.
fn fill(random: &mut Random, ty: &str, words: usize, kind: Draw) -> Vec<u32> {
    let one = |random: &mut Random| {
        let code = draw(random, spec(ty), kind) as u32;
        if ty == "tf32" { code << 13 | random.next() as u32 & 0x1FFF } else { code }
    };
    let width = bits(ty);
    (0..words * LANES)
        .map(|_| (0..32).step_by(width as usize).fold(0, |word, at| word | one(random) << at))
        .collect()
}

/// Calls `judge` with every element of D, and the factors and term that it is the sum of.
fn elements(
    shape: &Shape,
    input: &[u32],
    words: &[u32],
    mut judge: impl FnMut((usize, usize), u64, u64, &[(u64, u64)]),
) {
    let [d, a, b] = shape.names;
    let [a_words, b_words, c_words] = shape.words();
    let (a_part, rest) = input.split_at(a_words * LANES);
    let (b_part, c_part) = rest.split_at(b_words * LANES);
    let (a_at, b_at) = (places('a', a_words, bits(a)), places('b', b_words, bits(b)));
    for (&(row, column), &at) in &places('c', c_words, bits(d)) {
        let factor = |k: usize| {
            (get(a_part, a_at[&(row, k)], bits(a)), get(b_part, b_at[&(k, column)], bits(b)))
        };
        let factors: Vec<(u64, u64)> = (0..shape.k).map(factor).collect();
        judge((row, column), get(words, at, bits(d)), get(c_part, at, bits(d)), &factors);
    }
}

/// Bit for bit as A100, RTX 4090 and H100 have it, where they have the types.
fn float_products() {
    let mut random = Random(21);
    for shape in &FLOATS {
        let [d, a, b] = shape.names;
        let [a_words, b_words, c_words] = shape.words();
        let eight = bits(a) == 8;
        for core in [TensorCore::Ampere, TensorCore::Ada, TensorCore::Hopper] {
            if eight && core == TensorCore::Ampere {
                continue;
            }
            for kind in DRAWS {
                let mut input = fill(&mut random, a, a_words, kind);
                input.extend(fill(&mut random, b, b_words, kind));
                input.extend(fill(&mut random, d, c_words, kind));
                let (form, runs) = shape.run("", &input, core);
                for (level, words) in runs {
                    elements(shape, &input, &words, |place, got, c, factors| {
                        let code =
                            |ty: &str, x: u64| (spec(ty), if ty == "tf32" { x >> 13 } else { x });
                        let factors: Vec<_> =
                            factors.iter().map(|&(x, y)| (code(a, x), code(b, y))).collect();
                        let wanted = element(core, Instruction::Mma, &factors, spec(d), c);
                        assert_eq!(
                            got, wanted,
                            "{form} on {level:?} as {core:?}, {kind:?}: element {place:?} of {c:#x} and {factors:x?}"
                        );
                    });
                }
            }
        }
    }
}

/// The fast mode: within the rounding of as many f32 additions, against sums in f64.
fn float_products_in_f32() {
    let mut random = Random(22);
    for shape in &FLOATS {
        let [d, a, b] = shape.names;
        let [a_words, b_words, c_words] = shape.words();
        let mut input = fill(&mut random, a, a_words, Draw::Usual);
        input.extend(fill(&mut random, b, b_words, Draw::Usual));
        input.extend(fill(&mut random, d, c_words, Draw::Usual));
        let (form, runs) = shape.run("", &input, TensorCore::F32);
        for (level, words) in runs {
            elements(shape, &input, &words, |place, got, c, factors| {
                let value = |ty: &str, x: u64| {
                    let exact = spec(ty).finite(if ty == "tf32" { x >> 13 } else { x });
                    f64::from(i32::try_from(exact.n).expect("few bits")) * 2f64.powi(exact.e)
                };
                let products: Vec<f64> =
                    factors.iter().map(|&(x, y)| value(a, x) * value(b, y)).collect();
                let exact = value(d, c) + products.iter().sum::<f64>();
                let size = value(d, c).abs() + products.iter().map(|p| p.abs()).sum::<f64>();
                let last = 2f64.powi(if d == "f16" { -11 } else { -24 });
                let error = size * (shape.k as f64 + 1.0) * 2f64.powi(-24) + exact.abs() * last;
                let got = value(d, got);
                assert!(
                    (got - exact).abs() <= error + 2f64.powi(spec(d).smallest()),
                    "{form} on {level:?}: element {place:?} is {got}, expected {exact}"
                );
            });
        }
    }
}

fn integer_products() {
    let mut random = Random(23);
    for k in [16, 32] {
        for a in ["u8", "s8"] {
            for b in ["u8", "s8"] {
                let shape = Shape { k, names: ["s32", a, b] };
                for (rest, clamps) in [("", false), (".satfinite", true)] {
                    let words: usize = shape.words()[..2].iter().sum();
                    let mut input: Vec<u32> =
                        (0..words * LANES).map(|_| random.next() as u32).collect();
                    // Ends of the range, so that sums wrap or are clamped.
                    input.extend((0..4 * LANES).map(|_| {
                        let near = random.below(200_000) as u32;
                        [near, 0x7FFF_FFFF - near, 0x8000_0000 + near][random.below(3) as usize]
                    }));
                    let (form, runs) = shape.run(rest, &input, TensorCore::Ampere);
                    for (level, words) in runs {
                        elements(&shape, &input, &words, |place, got, c, factors| {
                            let number = |ty: &str, x: u64| integer(ty == "s8", 8, x);
                            let products =
                                factors.iter().map(|&(x, y)| number(a, x) * number(b, y));
                            let sum = integer(true, 32, c) + products.sum::<i128>();
                            let (least, most) = (i128::from(i32::MIN), i128::from(i32::MAX));
                            let sum = if clamps { sum.clamp(least, most) } else { sum };
                            assert_eq!(
                                got, sum as u32 as u64,
                                "{form} on {level:?}, element {place:?}"
                            );
                        });
                    }
                }
            }
        }
    }
}
