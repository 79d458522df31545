use proptest::prelude::*;

use super::*;

const BASE: u64 = 1 << 40;
const CAPACITY: u64 = 1 << 20;

fn allocator() -> Allocator {
    Allocator::new(BASE..BASE + 3 * CAPACITY, CAPACITY)
}

fn allocate(a: &mut Allocator, bytes: u64) -> u64 {
    a.allocate(Home::Device, bytes, "test".into()).unwrap()
}

#[test]
fn every_wrong_free_is_told_apart() {
    let mut a = allocator();
    let p = allocate(&mut a, 100);
    let free = |a: &mut Allocator, at| a.free(Home::Device, at, "cuMemFree".into());
    assert!(matches!(free(&mut a, p + 4), Err(FreeError::NotStart(_))));
    assert!(matches!(free(&mut a, 12), Err(FreeError::Unknown(_))));
    assert_eq!(free(&mut a, p).unwrap().bytes, 100);
    let again = free(&mut a, p).unwrap_err();
    assert!(again.to_string().ends_with("was already freed by cuMemFree"), "{again}");
    assert!(matches!(free(&mut a, p + 4), Err(FreeError::Unknown(_))));
}

#[test]
fn descriptions_name_the_nearest_allocation() {
    let mut a = allocator();
    let p = allocate(&mut a, 100);
    let q = allocate(&mut a, 4096);
    let (first, second) = (
        format!("allocation 1 (100 bytes at {p:#x}, from test)"),
        format!("allocation 2 (4096 bytes at {q:#x}, from test)"),
    );
    assert_eq!(a.describe(p + 99, 1), format!("byte 99 of {first}"));
    assert_eq!(a.describe(p + 104, 4), format!("4 bytes past the end of {first}"));
    assert_eq!(a.describe(p + 100, 4), format!("4 bytes right at the end of {first}"));
    assert_eq!(a.describe(q - 4, 4), format!("4 bytes before {second}"));
    assert_eq!(
        a.describe(p + 98, 4),
        format!("4 bytes at byte 98, 2 of them past the end of {first}")
    );
    a.free(Home::Device, q, "cuMemFree".into()).unwrap();
    assert!(a.is_freed(q + 1) && !a.is_freed(q - 1));
    assert_eq!(a.describe(q + 8, 4), format!("byte 8 of freed {second}, freed by cuMemFree"));
    assert!(a.describe(BASE + CAPACITY, 1).ends_with("in or near no allocation"));
}

#[test]
fn capacity_is_what_can_be_allocated() {
    let mut a = allocator();
    let p = allocate(&mut a, CAPACITY - 256);
    let q = allocate(&mut a, 1);
    let out = a.allocate(Home::Device, 1, "test".into());
    assert_eq!(out, Err(MemoryError::OutOfMemory { wanted: 1, free: 0, capacity: CAPACITY }));
    a.allocate(Home::Host, 1, "test".into()).unwrap();
    a.free(Home::Device, p, "test".into()).unwrap();
    a.free(Home::Device, q, "test".into()).unwrap();
    // Resting ranges give way when nothing else is left.
    for _ in 0..8 {
        let p = allocate(&mut a, CAPACITY);
        a.free(Home::Device, p, "test".into()).unwrap();
    }
    for bytes in [u64::MAX, u64::MAX - 300, CAPACITY + 1] {
        assert!(a.allocate(Home::Device, bytes, "test".into()).is_err());
    }
    assert_eq!(a.allocate(Home::Device, 0, "test".into()), Err(MemoryError::Empty));
}

#[derive(Debug, Clone)]
enum Step {
    Allocate(u64),
    /// Frees the n-th live allocation, modulo their number.
    Free(usize),
    /// Frees it again right away.
    FreeTwice(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => (1..40_000_u64).prop_map(Step::Allocate),
        2 => any::<usize>().prop_map(Step::Free),
        1 => any::<usize>().prop_map(Step::FreeTwice),
    ];
    proptest::collection::vec(step, 1..200)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Against a list of live ranges: aligned, apart by a red zone, inside the range, counted exactly.
    #[test]
    fn live_allocations_never_touch(steps in steps()) {
        let mut a = allocator();
        let mut live: Vec<(u64, u64)> = Vec::new();
        for step in steps {
            match step {
                Step::Allocate(bytes) => {
                    let used: u64 = live.iter().map(|l| l.1.next_multiple_of(256)).sum();
                    match a.allocate(Home::Device, bytes, "test".into()) {
                        Ok(p) => {
                            prop_assert_eq!(p % 256, 0);
                            prop_assert!(BASE + 256 <= p && p + bytes + 256 <= BASE + 3 * CAPACITY);
                            for &(q, len) in &live {
                                prop_assert!(p + bytes + 256 <= q || q + len + 256 <= p);
                            }
                            live.push((p, bytes));
                        }
                        Err(_) => prop_assert!(used + bytes.next_multiple_of(256) > CAPACITY),
                    }
                }
                Step::Free(n) | Step::FreeTwice(n) if !live.is_empty() => {
                    let (p, bytes) = live.swap_remove(n % live.len());
                    let freed = a.free(Home::Device, p, "test".into()).unwrap();
                    prop_assert_eq!(freed.bytes, bytes);
                    if matches!(step, Step::FreeTwice(_)) {
                        let again = a.free(Home::Device, p, "test".into());
                        prop_assert!(matches!(again, Err(FreeError::DoubleFree(_) | FreeError::Unknown(_))));
                    }
                }
                Step::Free(_) | Step::FreeTwice(_) => {}
            }
            let mut expected = live.clone();
            expected.sort_unstable();
            let found: Vec<_> = a.live().map(|l| (l.address, l.bytes)).collect();
            prop_assert_eq!(found, expected);
            prop_assert_eq!(a.used(), live.iter().map(|l| l.1.next_multiple_of(256)).sum::<u64>());
        }
    }
}
