//! Every verb of both backends against an f64 judge: the CPU on every SIMD level and thread count, CUDA on
//! the GPU or its simulator. The case tables are those of `muse selftest`.

mod bits;
#[path = "../gpu/mod.rs"]
mod gpu;
mod properties;

use std::sync::OnceLock;

use muse::cpu::{Cpu, Simd};
use muse::device::Device;
use muse::selftest::{self, Sums, Verb};

/// Every SIMD level of this machine with 1, 2 and 3 threads.
fn cpus() -> &'static [Cpu] {
    static CPUS: OnceLock<Vec<Cpu>> = OnceLock::new();
    CPUS.get_or_init(|| {
        let levels = Simd::available().into_iter();
        let pairs = levels.flat_map(|level| [1, 2, 3].map(|threads| (level, threads)));
        pairs.map(|(level, threads)| Cpu::with_simd(Some(threads), level).unwrap()).collect()
    })
}

fn agrees<D: Device>(device: &D, sums: Sums, verbs: Vec<Verb<D>>, name: &str) {
    let found = verbs.iter().find(|v| v.name == name).expect("a verb of the self-test");
    let outcome = found.test(device, sums, cpus());
    assert!(outcome.failures.is_empty(), "{name}: {:#?}", outcome.failures);
    assert!(outcome.cases > 0);
}

macro_rules! tests {
    ($list:ident, $agrees:expr, $($verb:ident)*) => {
        $(
            #[test]
            fn $verb() {
                $agrees(stringify!($verb));
            }
        )*
        const $list: &[&str] = &[$(stringify!($verb)),*];
    };
}

tests! {
    TESTED, |name| agrees(gpu::cuda(), Sums::TensorCores, selftest::verbs(), name),
    embed select_rows copy_rows layer_norm linear linear_add_norm attention project_and_attend
    guide_and_sample remask conv2d group_norm_silu to_bf16 to_rgb8 load_rgb8 nearest_code
}

tests! {
    TESTED_ON_CPU, |name| agrees(&cpus()[0], Sums::of(&cpus()[0]), selftest::verbs_of_cpu(), name),
    layer_norm_kinds linear_activations linear_add_norm_kinds causal_attention modulate activate depthwise
    global_response_norm
}

#[test]
fn every_verb_is_tested() {
    let verbs: Vec<&str> = selftest::verbs::<Cpu>().iter().map(|verb| verb.name).collect();
    assert_eq!(verbs, TESTED);
    let verbs = selftest::verbs_of_cpu::<Cpu>();
    assert_eq!(Vec::from_iter(verbs.iter().map(|verb| verb.name)), TESTED_ON_CPU);
}

/// A GPU has no kernels for them yet, and says so.
#[test]
fn what_the_gpu_lacks_is_an_error() {
    for verb in selftest::verbs_of_cpu() {
        let outcome = verb.test(gpu::cuda(), Sums::TensorCores, &cpus()[..1]);
        let failures = outcome.failures.join(", ");
        assert!(failures.contains("no kernel for"), "{}: {failures}", verb.name);
    }
}
