//! `mbarrier` in every form: states, counts and phases as the ISA defines them. Words that threads
//! exchange go through shared memory, where a missing order would be a race that the checks find.

use ptxsim::exec::Level;

use crate::harness::{module, ran};
use crate::support::{Arg, Device};

pub const TESTS: crate::Tests = &[("phases", phases), ("exchanges", exchanges)];

const THREADS: u32 = 64;

const BEGINNING: &str = ".reg .pred %p, %q, %f; .reg .b32 %t, %a, %b, %x; .reg .b64 %out, %k, %s;
    .shared .align 16 .b8 tile[1024]; .shared .align 8 .b64 bar;
    mov.u32 %t, %tid.x; ld.param.u64 %out, [out]; mul.wide.u32 %k, %t, 4; add.u64 %out, %out, %k;
    setp.eq.u32 %f, %t, 0; shl.b32 %a, %t, 2; mov.u32 %x, tile; add.u32 %x, %x, %a;\n";

/// What each thread stores, the same on every level and for several orders of the warps.
fn block(body: &str, threads: u32, wanted: impl Fn(u32) -> u32) {
    ran(body, threads as usize);
    let ptx = module(".param .u64 out", &format!("{BEGINNING}{body}\nst.global.u32 [%out], %b;"));
    for level in Level::available() {
        for seed in 0..4 {
            let mut device = Device::new(&ptx, level);
            device.machine.seed = seed;
            let output = device.upload(&vec![0u32; threads as usize]);
            device.launch("k", [1, 1, 1], [threads, 1, 1], 0, &[Arg::Address(output)]).unwrap();
            device.clean();
            let got: Vec<u32> = device.download(output, threads as usize);
            let wanted: Vec<u32> = (0..threads).map(&wanted).collect();
            assert_eq!(got, wanted, "{body} on {level:?}, seed {seed}");
        }
    }
}

/// One thread: the last statements leave the answer in `%p` or `%b`.
fn phases() {
    let answer = |body: &str, wanted: u32| {
        block(&format!("mov.u32 %b, 0; {body}"), 1, |_| wanted);
    };
    for space in ["shared", "shared::cta"] {
        let init = format!("mbarrier.init.{space}.b64 [bar], 3;");
        let whole = "selp.u32 %b, 1, 0, %p;";
        for order in ["", ".release.cta", ".relaxed.cta"] {
            let arrive = format!("mbarrier.arrive{order}.{space}.b64 %s, [bar]");
            // Three arrivals complete the phase, two do not.
            for (count, done) in [(2, 0), (3, 1)] {
                let test = format!("mbarrier.test_wait.{space}.b64 %p, [bar], %s;");
                answer(&format!("{init} {arrive}, {count}; {test} {whole}"), done);
            }
        }
        // Of either parity, the phase before the first counts as complete.
        for (parity, done) in [(0, 0), (1, 1)] {
            for form in ["test_wait.parity", "try_wait.parity", "try_wait.parity.acquire.cta"] {
                answer(
                    &format!("{init} mbarrier.{form}.{space}.b64 %p, [bar], {parity}; {whole}"),
                    done,
                );
            }
        }
        // The state is that before the arrival.
        answer(
            &format!("{init} mbarrier.arrive.noComplete.{space}.b64 %s, [bar], 1;
                mbarrier.arrive.noComplete.{space}.b64 %s, [bar], 1; mbarrier.pending_count.b64 %b, %s;"),
            2,
        );
        // Bytes hold a phase back until they have come.
        for (bytes, done) in [(24, 0), (32, 1)] {
            answer(
                &format!(
                    "{init} mbarrier.expect_tx.relaxed.cta.{space}.b64 [bar], 16;
                    mbarrier.arrive.{space}.b64 _, [bar], 2;
                    mbarrier.arrive.expect_tx.{space}.b64 %s, [bar], 16;
                    mbarrier.complete_tx.{space}.b64 [bar], {bytes};
                    mbarrier.try_wait.{space}.b64 %p, [bar], %s, 100; {whole}"
                ),
                done,
            );
        }
        // Who drops out is not waited for in the next phase: 3 - 2 arrivals complete it.
        answer(
            &format!("{init} mbarrier.arrive_drop.noComplete.{space}.b64 %s, [bar], 1;
                mbarrier.arrive_drop.{space}.b64 %s, [bar]; mbarrier.arrive.{space}.b64 %s, [bar];
                mbarrier.arrive.{space}.b64 %s, [bar]; mbarrier.test_wait.parity.{space}.b64 %p, [bar], 1;
                {whole} mbarrier.inval.{space}.b64 [bar];"),
            1,
        );
    }
}

/// Each thread's word, written before the arrival, is read by another one after the wait.
fn exchanges() {
    let body = "@%f mbarrier.init.shared.b64 [bar], 64; bar.sync 0;
        st.shared.u32 [%x], %t; mbarrier.arrive.shared.b64 %s, [bar];
        AGAIN: mbarrier.try_wait.shared.b64 %p, [bar], %s; @!%p bra AGAIN;
        xor.b32 %x, %x, 252; ld.shared.u32 %b, [%x];";
    block(body, THREADS, |t| t ^ 63);
}
