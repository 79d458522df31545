//! Instruction sets for which the executor compiles its loop.

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Set {
    Portable,
    Avx2,
    Avx512,
}

/// Those that this CPU has.
pub fn sets() -> Vec<Set> {
    let mut sets = vec![Set::Portable];
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            sets.push(Set::Avx2);
        }
        if is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
        {
            sets.push(Set::Avx512);
        }
    }
    sets
}

/// What can be compiled for each set. The compiler leaves a closure with its own features, so `run`
/// must be `#[inline(always)]`.
pub trait Work {
    type Output;
    fn run(&self) -> Self::Output;
}

/// Runs `work` compiled for a set, which the CPU must have.
pub fn on<W: Work>(set: Set, work: &W) -> W::Output {
    match set {
        Set::Portable => work.run(),
        #[cfg(target_arch = "x86_64")]
        // SAFETY: `sets` found the features.
        Set::Avx2 => unsafe { avx2(work) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: likewise.
        Set::Avx512 => unsafe { avx512(work) },
        #[cfg(not(target_arch = "x86_64"))]
        _ => unreachable!("no such set on this architecture"),
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn avx2<W: Work>(work: &W) -> W::Output {
    work.run()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx2,fma")]
fn avx512<W: Work>(work: &W) -> W::Output {
    work.run()
}
