//! Every verb of both backends against an f64 judge: the CPU on every SIMD level and thread count, CUDA on
//! the GPU or its simulator. The case tables are those of `muse selftest`.

mod bits;
#[path = "../gpu/mod.rs"]
mod gpu;
mod properties;

use std::sync::OnceLock;

use muse::cpu::{Cpu, Simd};
use muse::selftest::{self, Sums};

/// Every SIMD level of this machine with 1, 2 and 3 threads.
fn cpus() -> &'static [Cpu] {
    static CPUS: OnceLock<Vec<Cpu>> = OnceLock::new();
    CPUS.get_or_init(|| {
        let levels = Simd::available().into_iter();
        let pairs = levels.flat_map(|level| [1, 2, 3].map(|threads| (level, threads)));
        pairs.map(|(level, threads)| Cpu::with_simd(Some(threads), level).unwrap()).collect()
    })
}

fn agrees(verb: &str) {
    let verbs = selftest::verbs();
    let found = verbs.iter().find(|v| v.name == verb).expect("a verb of the self-test");
    let outcome = found.test(gpu::cuda(), Sums::TensorCores, cpus());
    assert!(outcome.failures.is_empty(), "{verb}: {:#?}", outcome.failures);
    assert!(outcome.cases > 0);
}

macro_rules! tests {
    ($($verb:ident)*) => {
        $(
            #[test]
            fn $verb() {
                agrees(stringify!($verb));
            }
        )*
        const TESTED: &[&str] = &[$(stringify!($verb)),*];
    };
}

tests! {
    embed select_rows copy_rows layer_norm layer_norm_kinds modulate linear linear_activations
    linear_int8 linear_add_norm linear_add_norm_kinds attention causal_attention project_and_attend activate depthwise
    global_response_norm guide_and_sample remask conv2d group_norm_silu split to_rgb8 load_rgb8 nearest_code
}

#[test]
fn every_verb_is_tested() {
    let verbs: Vec<&str> = selftest::verbs::<Cpu>().iter().map(|verb| verb.name).collect();
    assert_eq!(verbs, TESTED);
}
