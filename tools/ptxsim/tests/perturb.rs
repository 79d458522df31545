//! Approximate functions that give other results: within the documented error of the true value, the
//! same for the same operand whatever the schedule, others for another seed.

mod support;

use ptxsim::exec::Level;
use support::{Arg, Device, Random};

const LANES: usize = 640;

/// An instruction with its true value, and the error that the PTX ISA allows, at a value.
type Case = (&'static str, fn(f64) -> f64, fn(f64) -> f64);

/// A unit in the last place of a positive f32.
fn place(value: f64) -> f64 {
    2f64.powi(value.log2().floor() as i32 - 23)
}

/// For operands from 1/4 to 4.
const CASES: [Case; 10] = [
    ("ex2.approx.f32", |x| x.exp2(), |y| 2.5 * place(y)),
    ("lg2.approx.f32", |x| x.log2(), |y| 2f64.powi(-22) * y.abs().max(1.0)),
    ("rcp.approx.f32", |x| 1.0 / x, |y| 1.5 * place(y)),
    ("sqrt.approx.f32", |x| x.sqrt(), |y| 2f64.powi(-23) * y),
    ("rsqrt.approx.f32", |x| 1.0 / x.sqrt(), |y| 2f64.powf(-22.9) * y),
    ("sin.approx.f32", |x| x.sin(), |_| 2f64.powf(-20.5)),
    ("cos.approx.f32", |x| x.cos(), |_| 2f64.powf(-20.5)),
    ("tanh.approx.f32", |x| x.tanh(), |y| 2f64.powi(-11) * y),
    ("div.approx.f32", |x| 3.0 / x, |y| 2.5 * place(y)),
    ("div.full.f32", |x| 3.0 / x, |y| 2.5 * place(y)),
];

fn program() -> String {
    let body: String = CASES
        .iter()
        .enumerate()
        .map(|(k, (name, ..))| {
            let sources = if name.starts_with("div") { "0f40400000, %f1" } else { "%f1" };
            format!("{name} %f2, {sources};\nst.global.f32 [%rd2+{}], %f2;\n", 4 * LANES * k)
        })
        .collect();
    format!(
        ".version 8.0 .target sm_80 .address_size 64
        .visible .entry all(.param .u64 x, .param .u64 out) {{
        .reg .f32 %f<3>; .reg .b32 %r<5>; .reg .b64 %rd<5>;
        mov.u32 %r1, %tid.x; mov.u32 %r2, %ctaid.x; mov.u32 %r3, %ntid.x;
        mad.lo.u32 %r4, %r2, %r3, %r1; mul.wide.u32 %rd3, %r4, 4;
        ld.param.u64 %rd1, [x]; add.u64 %rd1, %rd1, %rd3; ld.global.f32 %f1, [%rd1];
        ld.param.u64 %rd2, [out]; add.u64 %rd2, %rd2, %rd3;
        {body} ret; }}"
    )
}

fn run(level: Level, perturb: Option<u64>, schedule: u64, x: &[f32]) -> Vec<f32> {
    let mut device = Device::new(&program(), level);
    device.machine.perturb = perturb;
    (device.machine.seed, device.machine.threads) = (schedule, 1 + schedule as usize % 3);
    let out = device.allocate(4 * LANES * CASES.len());
    let args = [Arg::Address(device.upload(x)), Arg::Address(out)];
    device.launch("all", [LANES as u32 / 64, 1, 1], [64, 1, 1], 0, &args).unwrap();
    device.clean();
    device.download(out, LANES * CASES.len())
}

#[test]
fn results_move_within_the_documented_error() {
    let mut random = Random(11);
    let x: Vec<f32> = random.floats(LANES).iter().map(|r| (2.0 * r).exp2()).collect();
    for level in Level::available() {
        let right = run(level, None, 0, &x);
        let one = run(level, Some(1), 0, &x);
        let other = run(level, Some(2), 0, &x);
        assert_eq!(one, run(level, Some(1), 7, &x), "the schedule shows");
        for (k, (name, value, allowed)) in CASES.iter().enumerate() {
            let row = k * LANES..(k + 1) * LANES;
            let differ = |a: &[f32], b: &[f32]| a.iter().zip(b).filter(|(a, b)| a != b).count();
            for (a, b) in [(&one, &right), (&other, &right), (&one, &other)] {
                let moved = differ(&a[row.clone()], &b[row.clone()]);
                // A root has hardly any room beside its rounding.
                assert!(moved > LANES / 8 || name.starts_with("sqrt"), "{name}: {moved} moved");
            }
            for results in [&one, &other] {
                for (x, &got) in x.iter().zip(&results[row.clone()]) {
                    let expected = value(f64::from(*x));
                    let error = (f64::from(got) - expected).abs();
                    let allowed = allowed(expected);
                    assert!(error <= allowed, "{name} of {x}: {got}, {expected} expected");
                }
            }
        }
    }
}

#[test]
fn halves_move_too() {
    let program = ".version 8.0 .target sm_80 .address_size 64
        .visible .entry half(.param .u64 x, .param .u64 out) {
        .reg .b16 %h<2>; .reg .b32 %r<2>; .reg .b64 %rd<4>;
        mov.u32 %r1, %tid.x; mul.wide.u32 %rd3, %r1, 2;
        ld.param.u64 %rd1, [x]; add.u64 %rd1, %rd1, %rd3; ld.global.u16 %h1, [%rd1];
        tanh.approx.bf16 %h1, %h1;
        ld.param.u64 %rd2, [out]; add.u64 %rd2, %rd2, %rd3; st.global.u16 [%rd2], %h1;
        ret; }";
    let program = program.replace("8.0 .target sm_80", "8.0 .target sm_90");
    // 128 neighbours from 1/4 on: bf16 is the upper half of f32.
    let x: Vec<u16> = (0..128).map(|i| 0x3E80 + i).collect();
    for level in Level::available() {
        let run = |perturb| -> Vec<u16> {
            let mut device = Device::new(&program, level);
            device.machine.perturb = perturb;
            let out = device.allocate(256);
            let args = [Arg::Address(device.upload(&x)), Arg::Address(out)];
            device.launch("half", [1, 1, 1], [128, 1, 1], 0, &args).unwrap();
            device.clean();
            device.download(out, 128)
        };
        let (right, moved) = (run(None), run(Some(5)));
        assert_ne!(right, moved);
        for (&x, &got) in x.iter().zip(&moved) {
            let wide = |bits: u16| f64::from(f32::from_bits(u32::from(bits) << 16));
            let error = (wide(got) - wide(x).tanh()).abs();
            assert!(error <= 2f64.powi(-8), "tanh of {}: {}", wide(x), wide(got));
        }
    }
}
