use super::*;

const MIB: u64 = 1 << 20;

fn memory() -> Memory {
    Memory::new(4 * MIB).unwrap()
}

/// The state of each byte of a range.
fn states(memory: &Memory, address: u64, len: u64) -> Vec<u8> {
    assert!(memory.contains(address, len));
    // SAFETY: in the range, as just asserted.
    (0..len).map(|n| unsafe { *memory.state(address + n) }).collect()
}

#[test]
fn states_follow_allocation_write_and_free() {
    let m = memory();
    let a = m.allocate(5000, "cuMemAlloc").unwrap();
    assert_eq!(states(&m, a, 5000), vec![UNINITIALISED; 5000]);
    assert_eq!(states(&m, a - 256, 256), vec![UNADDRESSABLE; 256]);
    assert_eq!(states(&m, a + 5000, 376), vec![UNADDRESSABLE; 376]);
    m.write(a + 1, &[7; 4998]).unwrap();
    let written = states(&m, a, 5000);
    assert_eq!((written[0], written[4999]), (UNINITIALISED, UNINITIALISED));
    assert!(written[1..4999].iter().all(|&s| s == INITIALISED));
    m.free(Home::Device, a, "cuMemFree").unwrap();
    assert_eq!(states(&m, a, 5000), vec![UNADDRESSABLE; 5000]);
}

#[test]
fn copies_carry_bytes_and_states() {
    let m = memory();
    let a = m.allocate(16, "test").unwrap();
    let b = m.allocate(16, "test").unwrap();
    m.write(a, &[1, 2, 3]).unwrap();
    m.copy(a, b, 8).unwrap();
    let mut out = [0; 16];
    assert_eq!(m.read(b, &mut out[..3]), Ok(None));
    assert_eq!(out[..3], [1, 2, 3]);
    assert_eq!(m.read(b, &mut out), Ok(Some(3)));
    m.fill(b, &[0xab, 0xcd], 8).unwrap();
    assert_eq!(m.read(b, &mut out), Ok(None));
    assert_eq!(out, [0xab, 0xcd].repeat(8)[..]);
    m.fill(b + 4, &[9], 2).unwrap();
    m.read(b, &mut out).unwrap();
    assert_eq!(out[3..7], [0xcd, 9, 9, 0xab]);
}

#[test]
fn copies_stay_inside_one_allocation() {
    let m = memory();
    let a = m.allocate(16, "cuMemAlloc").unwrap();
    let bad = m.write(a + 8, &[0; 9]).unwrap_err();
    assert!(!bad.freed);
    assert_eq!(
        bad.to_string(),
        format!(
            "expected 9 bytes inside one allocation, found 9 bytes at byte 8, 1 of them past the end \
             of allocation 1 (16 bytes at {a:#x}, from cuMemAlloc)"
        )
    );
    assert!(m.fill(a, &[0; 4], u64::MAX).is_err());
    m.free(Home::Device, a, "cuMemFree").unwrap();
    assert!(m.read(a, &mut [0]).unwrap_err().freed);
    assert!(m.copy(0, a, 1).unwrap_err().found.contains("null pointer"));
}

#[test]
fn pinned_memory_is_initialised_and_not_counted() {
    let m = memory();
    let before = m.info();
    let a = m.allocate_in(Home::Host, 100, "cuMemHostAlloc").unwrap();
    assert_eq!(m.info(), before);
    assert_eq!(m.read(a, &mut [0; 100]), Ok(None));
    assert!(matches!(m.free(Home::Device, a, "cuMemFree"), Err(FreeError::WrongHome(_))));
    m.free(Home::Host, a, "cuMemFreeHost").unwrap();
}

#[test]
fn closed_allocations_keep_their_address_and_refuse_access() {
    let m = memory();
    let a = m.allocate(64, "cuMemAllocAsync").unwrap();
    m.write(a, &[1; 64]).unwrap();
    m.close(a);
    assert_eq!(states(&m, a, 64), [UNADDRESSABLE; 64]);
    assert!(m.check(a, 1).unwrap_err().found.contains("stream-ordered"));
    assert_eq!(m.find(a).unwrap().bytes, 64);
    m.open(a);
    assert_eq!(m.read(a, &mut [0; 64]), Ok(Some(0)));
}

#[test]
fn contains_is_exact() {
    let m = memory();
    let end = m.base() + m.len();
    assert!(m.contains(m.base(), m.len()));
    assert!(m.contains(end - 1, 1));
    for (address, len) in [(end, 0), (end - 1, 2), (m.base() - 1, 1), (m.base(), u64::MAX), (0, 1)]
    {
        assert!(!m.contains(address, len), "{address:#x} {len}");
    }
}

#[test]
fn writers_are_forgotten_with_the_memory() {
    let m = memory();
    for bytes in [3, 100_000] {
        let a = m.allocate(bytes, "test").unwrap();
        // SAFETY: inside the allocation, one thread.
        unsafe {
            let last = m.writer(a + bytes - 1);
            last.write(42);
            m.free(Home::Device, a, "test").unwrap();
            assert_eq!(last.read(), 0);
        }
    }
}

#[test]
fn threads_allocate_and_free_at_once() {
    let m = memory();
    std::thread::scope(|s| {
        for t in 0..4_u8 {
            let m = &m;
            s.spawn(move || {
                for round in 0..200_u64 {
                    let a = m.allocate(round * 37 + 1, "test").unwrap();
                    m.fill(a, &[t], round * 37 + 1).unwrap();
                    let mut last = [0];
                    m.read(a + round * 37, &mut last).unwrap();
                    assert_eq!(last, [t]);
                    m.free(Home::Device, a, "test").unwrap();
                }
            });
        }
    });
    assert_eq!(m.live(), []);
}

#[test]
fn numbers_of_writers_come_back_once_the_table_forgot_them() {
    let m = memory();
    let a = m.allocate(4, "test").unwrap();
    let (first, second) = (m.number_writers(1 << 27), m.number_writers(1 << 26));
    assert_eq!((first, second), (1, 1 + (1 << 27)));
    // SAFETY: inside the allocation, one thread.
    unsafe {
        m.writer(a).write(second << 4);
        assert_eq!(m.number_writers(1), second + (1 << 26));
        assert_eq!(m.writer(a).read(), second << 4);
        assert_eq!(m.number_writers(1 << 27), 1);
        assert_eq!(m.writer(a).read(), 0);
    }
}
