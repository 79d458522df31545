//! Counters of kernels small enough to count by hand, and the modelled bounds that follow from them.

mod support;

use ptxsim::device::{A100, H100, RTX_4090};
use ptxsim::exec::counters::{Banked, Requests};
use ptxsim::exec::{Class, Counters, Detail, Level};
use ptxsim::model::{Bound, Launched, Term};
use support::{Arg, Device, Random};

fn counting(mut device: Device) -> Device {
    device.machine.counters = true;
    device
}

fn fixture(name: &str) -> Device {
    counting(Device::fixture(name, *Level::available().last().unwrap()))
}

/// A kernel `k` of one 64-bit parameter, in %d0; %r0 is the thread's number in the grid, %r1 in the
/// block, %d1 and %s1 what `stride` times %r0 and %r1 adds to the parameter and to shared memory.
fn kernel(stride: u32, body: &str) -> Device {
    let ptx = format!(
        ".version 8.0\n.target sm_80\n.address_size 64\n\
         .visible .entry k(.param .u64 p) {{\n\
         .shared .align 128 .b8 data[8192];\n\
         .reg .b32 %r<9>; .reg .b32 %s<9>; .reg .b64 %d<9>; .reg .f32 %f<9>; .reg .pred %p<4>;\n\
         ld.param.u64 %d0, [p];\n\
         mov.u32 %r1, %tid.x; mov.u32 %r2, %ctaid.x; mov.u32 %r3, %ntid.x;\n\
         mad.lo.u32 %r0, %r2, %r3, %r1;\n\
         mul.wide.u32 %d1, %r0, {stride}; add.u64 %d1, %d0, %d1;\n\
         mov.u32 %s0, data; mad.lo.u32 %s1, %r1, {stride}, %s0;\n\
         {body}\nret;\n}}\n"
    );
    counting(Device::new(&ptx, Level::Portable))
}

fn detail(counters: Counters) -> Detail {
    *counters.detail.expect("counters were asked for")
}

fn launched(grid: [u32; 3], block: [u32; 3], registers: u32, shared_bytes: u32) -> Launched {
    Launched { grid, block, registers, shared_bytes }
}

fn close(found: f64, expected: f64) {
    assert!((found - expected).abs() <= 1e-9 * expected.abs(), "{found}, expected {expected}");
}

#[test]
fn a_copy_moves_its_bytes_once() {
    // 64 blocks of 256 threads, 16 bytes each: 256 KiB there and back.
    let device = kernel(
        16,
        "ld.global.v4.f32 {%f0, %f1, %f2, %f3}, [%d1];\n\
         st.global.v4.f32 [%d1+262144], {%f0, %f1, %f2, %f3};",
    );
    let at = device.upload(&vec![1.0f32; 2 * 65_536]);
    let counters = device.launch("k", [64, 1, 1], [256, 1, 1], 0, &[Arg::Address(at)]).unwrap();
    let (warps, bytes) = (64 * 8, 64 * 256 * 16);
    // Of 11 instructions of the frame, 5 are moves (ld.param and four mov); then ld, st and ret.
    assert_eq!(counters.warp_instructions, warps * 12);
    let detail = detail(counters);
    assert_eq!((detail.blocks, detail.warps, detail.threads), (64, warps, 64 * 256));
    assert_eq!(detail.class(Class::Move).warps, warps * 5);
    assert_eq!(detail.class(Class::Integer).warps, warps * 4);
    assert_eq!(detail.class(Class::Control).threads, warps * 32);
    assert_eq!(detail.active_lanes(), 32.0);
    // A warp's 512 bytes are 16 sectors.
    let requests = Requests { requests: warps, sectors: warps * 16, bytes };
    assert_eq!((detail.global.loads, detail.global.stores), (requests, requests));
    assert_eq!(detail.global.unique_reads, bytes / 32);
    assert_eq!(detail.global.unique_writes, bytes / 32);
    assert_eq!(detail.global.block_reads, bytes / 32);
    // What is written stays in L2.
    assert_eq!((detail.global.l2_bytes(), detail.global.dram_bytes()), (2 * bytes, bytes));
    // Each warp waits for its one load before it stores.
    assert_eq!(detail.waits.round_trips, warps as f64);

    let bound = Bound::of(&H100, &launched([64, 1, 1], [256, 1, 1], 16, 8192), &detail);
    close(bound.term(Term::Dram), bytes as f64 / 3352e3);
    close(bound.term(Term::L2), 2.0 * bytes as f64 / 5120.0 / 1830.0);
    // One block on a multiprocessor: 8 warps × 7 instructions that are no moves, four per clock.
    close(bound.term(Term::Issue), 8.0 * 7.0 / 4.0 / 1830.0);
    // 8 warps × 4 integer instructions × 32 lanes, 64 per clock.
    close(bound.term(Term::Pipe), 8.0 * 4.0 * 32.0 / 64.0 / 1830.0);
    assert_eq!((bound.term(Term::Tensor), bound.term(Term::Shared)), (0.0, 0.0));
    // One wave; all from DRAM; before the load mad, mul and add, four clocks each.
    close(bound.term(Term::Latency), (650.0 + 12.0) / 1830.0);
    assert_eq!(bound.binding(), Some(Term::Latency));
    close(bound.microseconds, 2.1 + 662.0 / 1830.0);
    // 8 warps × 512 bytes wait at once; the bandwidth needs 3352 GB/s × 650 clocks / 132.
    close(bound.bytes_in_flight, 4096.0);
    close(bound.bytes_in_flight_needed, 3352e3 / 1830.0 * 650.0 / 132.0);
}

#[test]
fn a_stride_fetches_a_sector_for_every_lane() {
    for (stride, sectors) in [(4, 4), (8, 8), (16, 16), (32, 32), (128, 32)] {
        let device = kernel(stride, "ld.global.f32 %f0, [%d1]; st.shared.f32 [%s0], %f0;");
        let at = device.upload(&vec![0u8; 32 * 128]);
        let counters = device.launch("k", [1, 1, 1], [32, 1, 1], 0, &[Arg::Address(at)]).unwrap();
        let detail = detail(counters);
        let expected = Requests { requests: 1, sectors, bytes: 128 };
        assert_eq!(detail.global.loads, expected, "stride {stride}");
        assert_eq!(detail.global.unique_reads, sectors);
    }
}

#[test]
fn guards_and_divergence_keep_lanes_back() {
    // Half of the lanes load; a quarter of the warp branches around the second load.
    let device = kernel(
        4,
        "setp.lt.u32 %p0, %r1, 16; @%p0 ld.global.f32 %f0, [%d1];\n\
         setp.lt.u32 %p1, %r1, 8; @%p1 bra end; ld.global.f32 %f1, [%d1]; end:",
    );
    let at = device.upload(&[0f32; 32]);
    let counters = device.launch("k", [1, 1, 1], [32, 1, 1], 0, &[Arg::Address(at)]).unwrap();
    let detail = detail(counters);
    let loads = detail.class(Class::GlobalLoad);
    assert_eq!((loads.warps, loads.threads), (2, 16 + 24));
    // Words 0 to 15 are two sectors; 8 to 31 three; the launch touches four.
    assert_eq!(detail.global.loads, Requests { requests: 2, sectors: 5, bytes: 4 * 40 });
    assert_eq!((detail.global.block_reads, detail.global.unique_reads), (4, 4));
}

#[test]
fn bank_conflicts_of_strides_and_of_rows_without_a_swizzle() {
    let run = |stride, body: &str| {
        let device = kernel(stride, body);
        let at = device.upload(&[0f32; 32]);
        let counters = device.launch("k", [1, 1, 1], [32, 1, 1], 0, &[Arg::Address(at)]).unwrap();
        detail(counters).shared
    };
    // A column of a matrix of 32 words a row: every word in one bank. Padded by a word: none.
    let store = "mov.f32 %f0, 0f3F800000; st.shared.f32 [%s1], %f0;";
    let banked = |wavefronts, conflicts| Banked { requests: 1, wavefronts, conflicts };
    assert_eq!(run(128, store).stores, banked(32, 31));
    assert_eq!(run(132, store).stores, banked(1, 0));
    assert_eq!(run(8, store).stores, banked(2, 1));
    // Rows of ldmatrix at 64 bytes: of eight, every second begins in the same bank, so each of four
    // matrices goes four times. At 80 bytes they miss each other: 20 r mod 32 is 0, 20, 8, 28, ….
    let fill = |bytes| {
        format!(
            "mov.u32 %r4, 0; mad.lo.u32 %s2, %r1, {bytes}, %s0;\n\
             st.shared.v4.u32 [%s2], {{%r4, %r4, %r4, %r4}};\n\
             bar.warp.sync 0xffffffff;\n\
             ldmatrix.sync.aligned.m8n8.x4.shared.b16 {{%r4, %r5, %r6, %r7}}, [%s2];"
        )
    };
    let rows = run(4, &fill(64));
    assert_eq!((rows.matrices, rows.stores), (banked(16, 12), banked(16, 12)));
    assert_eq!(run(4, &fill(80)).matrices, banked(4, 0));
}

#[test]
fn generic_and_local_accesses_are_counted_where_they_point() {
    // The even lanes store to shared memory, the odd ones to global memory, by one instruction.
    let device = kernel(
        4,
        "mov.u32 %r4, data; cvt.u64.u32 %d2, %r4; cvta.shared.u64 %d2, %d2;\n\
         mul.wide.u32 %d3, %r1, 4; add.u64 %d2, %d2, %d3;\n\
         and.b32 %r5, %r1, 1; setp.eq.u32 %p0, %r5, 0; selp.b64 %d4, %d2, %d1, %p0;\n\
         st.u32 [%d4], %r1;",
    );
    let at = device.upload(&[0u32; 32]);
    let counters = device.launch("k", [1, 1, 1], [32, 1, 1], 0, &[Arg::Address(at)]).unwrap();
    let found = detail(counters);
    assert_eq!(found.class(Class::GenericStore).warps, 1);
    assert_eq!(found.shared.stores, Banked { requests: 1, wavefronts: 1, conflicts: 0 });
    assert_eq!(found.global.stores, Requests { requests: 1, sectors: 4, bytes: 64 });
    // An array of 16 words in local memory, of a full warp and a quarter of one: see `sorted`.
    let device = fixture("branches.80");
    let (x, out) = (device.upload(&[5i32; 16 * 40]), device.allocate(4 * 16 * 40));
    let args = [Arg::Address(x), Arg::Address(out)];
    let found = detail(device.launch("sorted", [1, 1, 1], [40, 1, 1], 0, &args).unwrap());
    assert_eq!(found.local.requests, found.class(Class::Local).warps);
    assert_eq!(found.local.bytes, 4 * found.class(Class::Local).threads);
}

#[test]
fn atomics_are_counted_by_address() {
    let device = fixture("vector.80");
    let n = 1000u32;
    let total = device.upload(&[0f32]);
    let x = device.upload(&vec![1f32; n as usize]);
    let args = [Arg::Address(x), Arg::Address(total), Arg::Word(n)];
    let counters = device.launch("sum", [4, 1, 1], [256, 1, 1], 1024, &args).unwrap();
    let detail = detail(counters);
    // One lane of each of four blocks adds to one word.
    assert_eq!(detail.global.atomics, Requests { requests: 4, sectors: 4, bytes: 16 });
    assert_eq!(detail.global.most_contended, 4);
    assert_eq!(detail.global.most_contended_address, Some(total));
    assert_eq!((detail.global.unique_reads, detail.global.unique_writes), (125 + 1, 1));
    // A warp comes to eight barriers: one before each halving of 256.
    assert_eq!(detail.class(Class::Barrier).warps, 4 * 8 * 8);
    assert_eq!(detail.shared.total().conflicts, 0);
}

/// The GEMM fixture on m, n, k, multiples of its tile of 64×64×32.
fn gemm(device: &Device, [m, n, k]: [usize; 3]) -> Counters {
    let mut random = Random(3);
    let mut matrix = |len: usize| -> Vec<u16> {
        (0..len).map(|_| (random.float().to_bits() >> 16) as u16).collect()
    };
    let (a, b) = (device.upload(&matrix(m * k)), device.upload(&matrix(n * k)));
    let c = device.allocate(2 * m * n);
    let [m_arg, n_arg, k_arg] = [m, n, k].map(|x| Arg::Word(x as u32));
    let args = [Arg::Address(a), Arg::Address(b), Arg::Address(c), m_arg, n_arg, k_arg];
    let grid = [n as u32 / 64, m as u32 / 64, 1];
    device.launch("gemm", grid, [128, 1, 1], 0, &args).unwrap()
}

#[test]
fn a_gemm_multiplies_copies_and_reads_as_its_tiles_say() {
    for target in ["80", "90", "120"] {
        let device = fixture(&format!("gemm.{target}"));
        let [m, n, k] = [128u64, 192, 96];
        let counters = gemm(&device, [m, n, k].map(|x| x as usize));
        let warps = counters.warp_instructions;
        let detail = detail(counters);
        // No path of this kernel diverges: every instruction is for all 32 lanes.
        assert_eq!((detail.executed().warps, detail.active_lanes()), (warps, 32.0));
        let (blocks, tiles) = (m * n / 64 / 64, k / 32);
        let tensor = &detail.tensor["m16n8k16 bf16 f32"];
        assert_eq!(tensor.instructions, m * n * k / (16 * 8 * 16));
        assert_eq!(tensor.macs, m * n * k);
        assert_eq!(detail.class(Class::Tensor).threads, 32 * tensor.instructions);
        // A warp's step of 16 along k reads 32×16 of a and of b: four ldmatrix.x4, four passes each.
        let matrices = blocks * 4 * tiles * 2 * 4;
        let banked = |requests| Banked { requests, wavefronts: 4 * requests, conflicts: 0 };
        assert_eq!(detail.shared.matrices, banked(matrices));
        // A tile of 64×32 of a and of b is 512 pieces of 16 bytes; a row's 64 bytes are two sectors.
        let copies = blocks * tiles * 512 / 32;
        assert_eq!(detail.shared.copies, banked(copies));
        let bytes = copies * 32 * 16;
        let expected = Requests { requests: copies, sectors: bytes / 32, bytes };
        assert_eq!(detail.global.copies, expected);
        // A store is eight rows of four pairs of bf16: half a sector of each.
        let stores = blocks * 4 * 2 * 4 * 2;
        let expected = Requests { requests: stores, sectors: 8 * stores, bytes: 128 * stores };
        assert_eq!(detail.global.stores, expected);
        assert_eq!(detail.global.unique_reads, 2 * k * (m + n) / 32);
        assert_eq!(detail.global.unique_writes, 2 * m * n / 32);
        assert_eq!(detail.global.block_reads, bytes / 32);
        assert_eq!(detail.class(Class::Barrier).warps, blocks * 4 * tiles);

        // Six blocks, one to a multiprocessor, 64·64·k multiply-adds each.
        let shape = launched([3, 2, 1], [128, 1, 1], 128, 32 << 10);
        let macs = (64 * 64 * k) as f64;
        for (bound_device, rate, clock) in
            [(&A100, 1024.0, 1410.0), (&RTX_4090, 256.0, 2520.0), (&H100, 0.63 * 2048.0, 1830.0)]
        {
            let bound = Bound::of(bound_device, &shape, &detail);
            close(bound.term(Term::Tensor), macs / rate / clock);
            // Per block: 96 ldmatrix and 48 copies, four passes each.
            close(bound.term(Term::Shared), 4.0 * (96.0 + 48.0) / clock);
        }
    }
}

#[test]
fn counters_do_not_depend_on_the_schedule() {
    let count = |threads, seed| {
        let mut device = fixture("gemm.80");
        // L2 holds a quarter of what it reads.
        (device.machine.threads, device.machine.l2_bytes) = (threads, 8 << 10);
        device.machine.seed = seed;
        detail(gemm(&device, [128, 128, 64]))
    };
    let plain = count(1, 0);
    assert_eq!(plain, count(2, 0));
    assert_eq!(plain, count(2, 5));
}

#[test]
fn layer_norm_reads_its_rows_three_times() {
    for target in ["80", "120"] {
        let device = fixture(&format!("norm.{target}"));
        let (rows, width) = (3u64, 640u64);
        let x = device.upload(&vec![0x3F80u16; (rows * width) as usize]);
        let y = device.upload(&vec![0x3F00u16; (rows * width) as usize]);
        let weight = device.upload(&vec![0x3F80u16; width as usize]);
        let out = device.allocate((2 * rows * width) as usize);
        let pairs = Arg::Word(width as u32 / 2);
        let args = [x, y, weight, out].map(Arg::Address).into_iter();
        let args: Vec<Arg> = args.chain([pairs, Arg::Float(1e-5)]).collect();
        let counters =
            device.launch("add_layer_norm", [rows as u32, 1, 1], [256, 1, 1], 0, &args).unwrap();
        let detail = detail(counters);
        // 320 pairs by 256 threads: eight warps, then two of them again; 128 bytes each time.
        let per_pass = 10;
        // Passes that load: x and y, x, x and weight; that store: x, out.
        let of_passes = |passes| Requests {
            requests: rows * passes * per_pass,
            sectors: rows * passes * per_pass * 4,
            bytes: rows * passes * width * 2,
        };
        assert_eq!(detail.global.loads, of_passes(5));
        assert_eq!(detail.global.stores, of_passes(2));
        // A row is 40 sectors; a block reads one of x, one of y, and the weight.
        assert_eq!(detail.global.unique_reads, 2 * rows * 40 + 40);
        assert_eq!(detail.global.unique_writes, 2 * rows * 40);
        assert_eq!(detail.global.block_reads, rows * 3 * 40);
        // Two sums over the block: a store by each warp, two barriers.
        assert_eq!(detail.shared.stores.requests, rows * 2 * 8);
        assert_eq!(detail.shared.total().conflicts, 0);
        assert_eq!(detail.class(Class::Barrier).warps, rows * 8 * 4);
    }
}

#[test]
fn waves_repeat_the_latency_and_fill_the_multiprocessors() {
    let device = kernel(4, "ld.global.f32 %f0, [%d1]; st.global.f32 [%d1], %f0;");
    let at = device.upload(&vec![0f32; 600 * 64]);
    let counters = device.launch("k", [600, 1, 1], [64, 1, 1], 0, &[Arg::Address(at)]).unwrap();
    let detail = detail(counters);
    // 100 KiB a block: two on an H100, 264 on the device, so 600 blocks are three waves; one on an
    // A100: 108, six waves; none at all on an RTX 4090, taken as one: 128, five waves.
    let shape = launched([600, 1, 1], [64, 1, 1], 32, 100 << 10);
    for (device, resident, waves, clocks) in
        [(&H100, 2, 3, 650.0 + 12.0), (&A100, 1, 6, 400.0 + 12.0), (&RTX_4090, 0, 5, 630.0 + 12.0)]
    {
        let occupancy = shape.occupancy(device);
        assert_eq!((occupancy.resident_blocks, occupancy.waves), (resident, waves));
        let bound = Bound::of(device, &shape, &detail);
        close(bound.term(Term::Latency), waves as f64 * clocks / device.rates.clock_mhz);
    }
    let occupancy = shape.occupancy(&H100);
    assert_eq!((occupancy.resident_warps, occupancy.occupancy), (4, 4.0 / 64.0));
}

#[test]
fn nothing_is_counted_unless_asked_for() {
    let mut device = fixture("gemm.80");
    device.machine.counters = false;
    assert_eq!(gemm(&device, [64, 64, 32]).detail, None);
}
