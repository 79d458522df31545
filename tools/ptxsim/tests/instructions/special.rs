//! PTX ISA, "Special Registers": what each is in every thread of a launch of three dimensions, and that
//! clocks go on.

use ptxsim::exec::Level;

use crate::harness::{module, ran};
use crate::support::{Arg, Device};

pub const TESTS: crate::Tests = &[("places", places), ("clocks", clocks)];

/// A thread's place in its launch.
struct Place {
    tid: [u32; 3],
    ctaid: [u32; 3],
    /// Number in the block.
    thread: u32,
}

const GRID: [u32; 3] = [3, 2, 2];
const BLOCK: [u32; 3] = [5, 4, 3];
const DYNAMIC: u32 = 272;
const STATIC: u32 = 64;

fn places() {
    type Value = fn(&Place) -> u32;
    let registers: [(&str, Value); 22] = [
        ("%tid.x", |p| p.tid[0]),
        ("%tid.y", |p| p.tid[1]),
        ("%tid.z", |p| p.tid[2]),
        ("%ntid.x", |_| BLOCK[0]),
        ("%ntid.y", |_| BLOCK[1]),
        ("%ntid.z", |_| BLOCK[2]),
        ("%ctaid.x", |p| p.ctaid[0]),
        ("%ctaid.y", |p| p.ctaid[1]),
        ("%ctaid.z", |p| p.ctaid[2]),
        ("%nctaid.x", |_| GRID[0]),
        ("%nctaid.y", |_| GRID[1]),
        ("%nctaid.z", |_| GRID[2]),
        ("%laneid", |p| p.thread % 32),
        ("%warpid", |p| p.thread / 32),
        ("%nwarpid", |_| 2),
        ("%lanemask_eq", |p| 1 << (p.thread % 32)),
        ("%lanemask_lt", |p| ((1u64 << (p.thread % 32)) - 1) as u32),
        ("%lanemask_le", |p| ((2u64 << (p.thread % 32)) - 1) as u32),
        ("%lanemask_gt", |p| !((2u64 << (p.thread % 32)) - 1) as u32),
        ("%lanemask_ge", |p| !((1u64 << (p.thread % 32)) - 1) as u32),
        ("%dynamic_smem_size", |_| DYNAMIC),
        ("%total_smem_size", |_| DYNAMIC + STATIC),
    ];
    let count = registers.len();
    let mut body = format!(
        ".reg .pred %p; .reg .b32 %r, %x, %y, %z, %w; .reg .b64 %out, %k; .shared .align 16 .b8 fixed[{STATIC}];
        mov.u32 %x, %ctaid.z; mad.lo.u32 %x, %x, {}, 0; mov.u32 %y, %ctaid.y; mad.lo.u32 %x, %y, {}, %x;
        mov.u32 %y, %ctaid.x; add.u32 %x, %x, %y; mul.lo.u32 %x, %x, {};
        mov.u32 %y, %tid.z; mad.lo.u32 %x, %y, {}, %x; mov.u32 %y, %tid.y; mad.lo.u32 %x, %y, {}, %x;
        mov.u32 %y, %tid.x; add.u32 %x, %x, %y; ld.param.u64 %out, [out];
        mul.wide.u32 %k, %x, {}; add.u64 %out, %out, %k;
        mov.u32 %r, %smid; mov.u32 %w, %nsmid; setp.lt.u32 %p, %r, %w; selp.u32 %r, 1, 0, %p;
        st.global.u32 [%out+{}], %r;\n",
        GRID[0] * GRID[1],
        GRID[0],
        BLOCK.iter().product::<u32>(),
        BLOCK[0] * BLOCK[1],
        BLOCK[0],
        4 * (count + 1),
        4 * count
    );
    for (i, (name, _)) in registers.iter().enumerate() {
        let text = format!("mov.u32 %r, {name};");
        ran(&text, 720);
        body += &format!("{text} st.global.u32 [%out+{}], %r;\n", 4 * i);
    }
    let ptx = module(".param .u64 out", &body);
    for level in Level::available() {
        for seed in [0, 1] {
            let mut device = Device::new(&ptx, level);
            device.machine.seed = seed;
            let (blocks, threads) = (GRID.iter().product::<u32>(), BLOCK.iter().product::<u32>());
            let n = (blocks * threads) as usize;
            let output = device.allocate(4 * n * (count + 1));
            device.launch("k", GRID, BLOCK, DYNAMIC, &[Arg::Address(output)]).unwrap();
            device.clean();
            let got: Vec<u32> = device.download(output, n * (count + 1));
            for (i, got) in got.chunks(count + 1).enumerate() {
                let (block, thread) = (i as u32 / threads, i as u32 % threads);
                let split = |n: u32, size: [u32; 3]| {
                    [n % size[0], n / size[0] % size[1], n / (size[0] * size[1])]
                };
                let place = Place { tid: split(thread, BLOCK), ctaid: split(block, GRID), thread };
                for ((name, value), got) in registers.iter().zip(got) {
                    assert_eq!(
                        *got,
                        value(&place),
                        "{name} on {level:?}, block {block}, thread {thread}"
                    );
                }
                assert_eq!(got[count], 1, "%smid is below %nsmid");
            }
        }
    }
}

/// A clock never goes back, and a loop that waits for it ends.
fn clocks() {
    for (name, ty) in [
        ("%clock", "u32"),
        ("%clock64", "u64"),
        ("%globaltimer", "u64"),
        ("%globaltimer_lo", "u32"),
    ] {
        let text = format!("mov.{ty} %a, {name};");
        ran(&text, 64);
        let body = format!(
            ".reg .pred %p; .reg .{ty} %a, %b, %c; .reg .b64 %out; {text}
            AGAIN: mov.{ty} %b, {name}; sub.{ty} %c, %b, %a; setp.lt.{ty} %p, %c, 200; @%p bra AGAIN;
            mov.{ty} %c, {name}; setp.ge.{ty} %p, %c, %b; ld.param.u64 %out, [out];
            @%p st.global.u32 [%out], 1;"
        );
        for level in Level::available() {
            let device = Device::new(&module(".param .u64 out", &body), level);
            let output = device.upload(&[0u32]);
            device.launch("k", [1, 1, 1], [1, 1, 1], 0, &[Arg::Address(output)]).unwrap();
            device.clean();
            assert_eq!(device.download::<u32>(output, 1), [1], "{name} on {level:?}");
        }
    }
    for name in ["%clock_hi", "%globaltimer_hi"] {
        let text = format!("mov.u32 %a, {name};");
        ran(&text, 1);
        let body = format!(
            ".reg .b32 %a, %b; .reg .b64 %out; {text} mov.u32 %b, {name}; sub.u32 %b, %b, %a;
            ld.param.u64 %out, [out]; st.global.v2.u32 [%out], {{%a, %b}};"
        );
        for level in Level::available() {
            let device = Device::new(&module(".param .u64 out", &body), level);
            let output = device.allocate(8);
            device.launch("k", [1, 1, 1], [1, 1, 1], 0, &[Arg::Address(output)]).unwrap();
            // In so short a time the upper half moves by one at most.
            assert!(device.download::<u32>(output, 2)[1] <= 1, "{name} on {level:?}");
        }
    }
}
