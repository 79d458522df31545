//! The fixture kernels against plain references, on every level of vector instructions.

mod support;

use ptxsim::exec::Level;
use support::{Arg, Device, Random};

fn everywhere(name: &str, test: impl Fn(&Device)) {
    for level in Level::available() {
        for target in [80, 120] {
            for seed in 0..3 {
                let mut device = Device::fixture(&format!("{name}.{target}"), level);
                device.machine.seed = seed;
                device.machine.threads = 1 + seed as usize % 2;
                test(&device);
                device.clean();
            }
        }
    }
}

#[test]
fn add_of_a_ragged_length() {
    everywhere("vector", |device| {
        for n in [1, 31, 32, 33, 1000] {
            let mut random = Random(n);
            let (a, b) = (random.floats(n as usize), random.floats(n as usize));
            let sum = device.allocate(4 * n as usize);
            let args = [device.upload(&a), device.upload(&b), sum].map(Arg::Address);
            let [a_at, b_at, sum_at] = args;
            let args = [a_at, b_at, sum_at, Arg::Word(n as u32)];
            device.launch("add", [(n as u32).div_ceil(128), 1, 1], [128, 1, 1], 0, &args).unwrap();
            let got: Vec<f32> = device.download(sum, n as usize);
            let expected: Vec<f32> = a.iter().zip(&b).map(|(a, b)| a + b).collect();
            assert_eq!(got, expected);
        }
    });
}

#[test]
fn grid_stride_loops_and_vectors() {
    everywhere("vector", |device| {
        let n = 500;
        let mut random = Random(7);
        let (y, x) = (random.floats(4 * n), random.floats(4 * n));
        let (y_at, x_at) = (device.upload(&y), device.upload(&x));
        let args = [Arg::Address(y_at), Arg::Address(x_at), Arg::Float(1.5), Arg::Word(n as u32)];
        device.launch("scale_add", [3, 1, 1], [64, 1, 1], 0, &args).unwrap();
        let got: Vec<f32> = device.download(y_at, 4 * n);
        let expected: Vec<f32> = x.iter().zip(&y).map(|(&x, &y)| x.mul_add(1.5, y)).collect();
        assert_eq!(got, expected);
    });
}
