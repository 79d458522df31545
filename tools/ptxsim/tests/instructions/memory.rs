//! `ld` and `st`: every space, type, vector and width of register, and every caching hint and ordering.

use ptxsim::exec::Level;

use crate::harness::{module, ran};
use crate::integer::{number, width};
use crate::support::{Arg, Device, Random};

pub const TESTS: crate::Tests = &[
    ("spaces_and_types", spaces_and_types),
    ("hints_and_orders", hints_and_orders),
    ("constants", constants),
    ("parameters", parameters),
    ("variables", variables),
];

const TYPES: [&str; 14] =
    ["b8", "u8", "s8", "b16", "u16", "s16", "b32", "u32", "s32", "b64", "u64", "s64", "f32", "f64"];

const THREADS: usize = 96;
/// Bytes that a thread has to itself.
const SLOT: usize = 32;

/// Whether a thread takes part.
fn on(thread: usize) -> bool {
    thread % 5 != 2
}

/// What a register of `register` bits holds of an element.
fn extended(ty: &str, register: u32, bits: u64) -> u64 {
    number(ty, bits) as u64 & (u64::MAX >> (64 - register))
}

/// Loads from global memory, stores to a slot, and loads from there: `load` and `store` are opcodes with
/// their modifiers but the vector and type, `address` makes `%at` of the slots' addresses.
fn round_trip(load: &str, store: &str, address: &str, ty: &str, elements: usize, wide: bool) {
    let register = if wide { 64 } else { width(ty).max(16) };
    let vector = if elements > 1 { format!(".v{elements}") } else { String::new() };
    let list = |name: &str| {
        let all: Vec<String> = (0..elements).map(|i| format!("{name}{i}")).collect();
        if elements > 1 { format!("{{{}}}", all.join(", ")) } else { all.join("") }
    };
    let text = format!(
        "{load}{vector}.{ty} {}, [%at]; {store}{vector}.{ty} [%at], {};",
        list("%d"),
        list("%a")
    );
    ran(&text, THREADS);
    let mut body = format!(
        ".reg .pred %in; .reg .b{register} %a<8>, %d<8>; .reg .b32 %t, %w; .reg .b64 %at, %from, %to, %k;
        .shared .align 16 .b8 tile[{}]; .local .align 16 .b8 mine[64];
        mov.u32 %t, %tid.x; ld.param.u64 %from, [in]; ld.param.u64 %to, [out];
        mul.wide.u32 %k, %t, {SLOT}; add.u64 %from, %from, %k;
        mul.wide.u32 %k, %t, 192; add.u64 %to, %to, %k;
        rem.u32 %w, %t, 5; setp.ne.u32 %in, %w, 2;
        mul.wide.u32 %k, %t, {SLOT}; {address}\n",
        SLOT * THREADS
    );
    for i in 0..elements {
        body += &format!("mov.b{register} %d{i}, 77; mov.b{register} %a{i}, 78;\n");
    }
    body += &format!(
        "@%in ld.global{vector}.{ty} {}, [%from]; @%in {store}{vector}.{ty} [%at], {};
        @%in {load}{vector}.{ty} {}, [%at];\n",
        list("%a"),
        list("%a"),
        list("%d"),
    );
    for i in 0..elements {
        body += &format!(
            "st.global.b{register} [%to+{}], %a{i}; st.global.b{register} [%to+{}], %d{i};\n",
            8 * i,
            64 + 8 * i
        );
    }
    let ptx = module(".param .u64 in, .param .u64 out", &body);
    let mut random = Random(elements as u64);
    let input: Vec<u32> = (0..SLOT * THREADS / 4).map(|_| random.word()).collect();
    let bytes: Vec<u8> = input.iter().flat_map(|word| word.to_le_bytes()).collect();
    for level in Level::available() {
        let device = Device::new(&ptx, level);
        let output = device.upload(&vec![[0u64; 24]; THREADS]);
        let args = [Arg::Address(device.upload(&input)), Arg::Address(output)];
        device.launch("k", [1, 1, 1], [THREADS as u32, 1, 1], 0, &args).unwrap();
        device.clean();
        let got: Vec<[u64; 24]> = device.download(output, THREADS);
        for (thread, got) in got.into_iter().enumerate() {
            let size = width(ty) as usize / 8;
            for i in 0..elements {
                let mut element = [0; 8];
                element[..size].copy_from_slice(&bytes[thread * SLOT + i * size..][..size]);
                let value = extended(ty, register, u64::from_le_bytes(element));
                let wanted = if on(thread) { [value, value] } else { [78, 77] };
                assert_eq!(
                    [got[i], got[8 + i]],
                    wanted,
                    "{text} on {level:?}, thread {thread}, element {i}: first and second load"
                );
            }
        }
    }
}

/// A space by its name in the opcode, and what makes an address in it.
const SPACES: [(&str, &str); 7] = [
    (".global", "add.u64 %at, %to, 128;"),
    (".shared", "mov.u64 %at, tile; add.u64 %at, %at, %k;"),
    (".shared::cta", "mov.u64 %at, tile; add.u64 %at, %at, %k;"),
    (".local", "mov.u64 %at, mine; add.u64 %at, %at, 32;"),
    ("", "add.u64 %at, %to, 128;"),
    ("", "mov.u64 %at, tile; cvta.shared.u64 %at, %at; add.u64 %at, %at, %k;"),
    ("", "mov.u64 %at, mine; cvta.local.u64 %at, %at; add.u64 %at, %at, 32;"),
];

fn spaces_and_types() {
    for (space, address) in SPACES {
        for ty in TYPES {
            let size = width(ty) as usize / 8;
            for elements in [1, 2, 4] {
                if size * elements > 16 {
                    continue;
                }
                round_trip(
                    &format!("ld{space}"),
                    &format!("st{space}"),
                    address,
                    ty,
                    elements,
                    false,
                );
            }
            if size < 8 && !ty.starts_with('f') {
                round_trip(&format!("ld{space}"), &format!("st{space}"), address, ty, 1, true);
            }
        }
    }
    // Vectors of 32 bytes are of global memory alone.
    let (space, address) = SPACES[0];
    for (ty, elements) in [("b32", 8), ("f32", 8), ("b64", 4)] {
        round_trip(&format!("ld{space}"), &format!("st{space}"), address, ty, elements, false);
    }
}

/// They say how fast and who sees it when, none of which changes what a thread reads that it has written.
fn hints_and_orders() {
    let address = "add.u64 %at, %to, 128;";
    let loads = [
        "weak",
        "volatile",
        "ca",
        "cg",
        "cs",
        "lu",
        "cv",
        "relaxed.cta",
        "relaxed.cluster",
        "relaxed.gpu",
        "relaxed.sys",
        "acquire.cta",
        "acquire.cluster",
        "acquire.gpu",
        "acquire.sys",
        "mmio.relaxed.sys",
    ];
    let stores = [
        "weak",
        "volatile",
        "wb",
        "cg",
        "cs",
        "wt",
        "relaxed.cta",
        "relaxed.cluster",
        "relaxed.gpu",
        "relaxed.sys",
        "release.cta",
        "release.cluster",
        "release.gpu",
        "release.sys",
        "mmio.relaxed.sys",
    ];
    for (n, load) in loads.iter().enumerate() {
        let store = stores[n % stores.len()];
        // volatile and the orders come before the space, as caching does not.
        let caches = |hint: &str| hint.len() == 2;
        let text = |opcode: &str, hint: &str| match caches(hint) {
            true => format!("{opcode}.global.{hint}"),
            false => format!("{opcode}.{hint}.global"),
        };
        for (ty, elements) in [("u32", 1), ("u32", 4), ("s16", 2), ("u64", 1)] {
            if elements > 1 && load.contains("mmio") {
                continue;
            }
            round_trip(&text("ld", load), &text("st", store), address, ty, elements, false);
        }
    }
    let hints = [
        "L1::evict_normal",
        "L1::evict_unchanged",
        "L1::evict_first",
        "L1::evict_last",
        "L1::no_allocate",
    ];
    for hint in hints {
        round_trip(
            &format!("ld.global.{hint}"),
            &format!("st.global.{hint}"),
            address,
            "f32",
            2,
            false,
        );
    }
    for size in ["64B", "128B", "256B"] {
        round_trip(&format!("ld.global.L2::{size}"), "st.global", address, "u32", 1, false);
    }
}

/// What no thread writes: `.nc`, `ldu` and `.const`, element by element from a table.
fn constants() {
    let table: Vec<u8> = (0..=255).map(|n: u8| n.wrapping_mul(37).wrapping_add(11)).collect();
    let initial = table.iter().map(u8::to_string).collect::<Vec<_>>().join(", ");
    for (opcode, base) in [
        ("ld.const", "mov.u64 %at, table;"),
        ("ld.global.nc", "ld.param.u64 %at, [in];"),
        ("ld.global.nc.L1::no_allocate.L2::128B", "ld.param.u64 %at, [in];"),
        ("ldu.global", "ld.param.u64 %at, [in];"),
        ("ldu", "ld.param.u64 %at, [in];"),
    ] {
        for ty in TYPES {
            let (size, register) = (width(ty) / 8, width(ty).max(16));
            let text = format!("{opcode}.{ty} %d, [%at+16];");
            ran(&text, 16);
            let body = format!(
                ".reg .b{register} %d; .reg .b32 %t; .reg .b64 %at, %to, %k;
                mov.u32 %t, %tid.x; ld.param.u64 %to, [out]; mul.wide.u32 %k, %t, 8; add.u64 %to, %to, %k;
                {base} mul.wide.u32 %k, %t, {size}; add.u64 %at, %at, %k; {text}
                st.global.b{register} [%to], %d;"
            );
            let ptx = module(".param .u64 in, .param .u64 out", &body).replacen(
                ".visible",
                &format!(".const .align 8 .b8 table[256] = {{{initial}}};\n.visible"),
                1,
            );
            for level in Level::available() {
                let device = Device::new(&ptx, level);
                let output = device.upload(&[0u64; 16]);
                let args = [Arg::Address(device.upload(&table)), Arg::Address(output)];
                device.launch("k", [1, 1, 1], [16, 1, 1], 0, &args).unwrap();
                device.clean();
                for (thread, got) in device.download::<u64>(output, 16).into_iter().enumerate() {
                    let at = 16 + thread * size as usize;
                    let mut bytes = [0; 8];
                    bytes[..size as usize].copy_from_slice(&table[at..][..size as usize]);
                    let wanted = extended(ty, register, u64::from_le_bytes(bytes));
                    assert_eq!(got, wanted, "{text} on {level:?}, thread {thread}");
                }
            }
        }
    }
}

/// Parameters of every type, each aligned to its size.
fn parameters() {
    for ty in TYPES {
        let register = width(ty).max(16);
        let body = format!(
            ".reg .b{register} %d; .reg .b64 %to; ld.param.u64 %to, [out]; ld.param.{ty} %d, [value];
            st.global.b{register} [%to], %d; ld.param.{ty} %d, [array+{}]; st.global.b{register} [%to+8], %d;",
            8 - width(ty) / 8
        );
        ran(&format!("ld.param.{ty} %d;"), 2);
        let parameters = format!(
            ".param .b8 before, .param .{ty} value, .param .u64 out, .param .align 8 .b8 array[8]"
        );
        let ptx = module(&parameters, &body);
        for level in Level::available() {
            let device = Device::new(&ptx, level);
            let output = device.upload(&[0u64; 2]);
            let value = 0x89AB_CDEF_0123_F587;
            let args =
                [Arg::Word(3), Arg::Address(value), Arg::Address(output), Arg::Address(value)];
            device.launch("k", [1, 1, 1], [1, 1, 1], 0, &args).unwrap();
            device.clean();
            let last = value >> (64 - width(ty));
            let wanted = [extended(ty, register, value), extended(ty, register, last)];
            assert_eq!(device.download::<u64>(output, 2), wanted, "ld.param.{ty} on {level:?}");
        }
    }
}

/// Variables of a module: initial values, addresses of other variables, and what a launch left there.
fn variables() {
    let text =
        "ld.global.u32 %a, [numbers+8]; ld.global.u64 %k, [pointer]; ld.global.u32 %b, [%k+4];
        ld.global.f32 %c, [numbers+12]; add.u32 %a, %a, 1; st.global.u32 [numbers+8], %a;";
    ran(text, 1);
    let body = format!(
        ".reg .b32 %a, %b, %c; .reg .b64 %k, %to; {text} ld.param.u64 %to, [out];
        st.global.v4.u32 [%to], {{%a, %b, %c, %a}};"
    );
    let ptx = module(".param .u64 in, .param .u64 out", &body).replacen(
        ".visible",
        ".global .align 4 .u32 numbers[4] = {5, 6, 7, 0x3FC00000};
        .global .align 8 .u64 pointer = numbers;\n.visible",
        1,
    );
    for level in Level::available() {
        let device = Device::new(&ptx, level);
        let output = device.allocate(16);
        for launch in 0..3 {
            device
                .launch("k", [1, 1, 1], [1, 1, 1], 0, &[Arg::Address(0), Arg::Address(output)])
                .unwrap();
            let after = 8 + launch;
            let got: Vec<u32> = device.download(output, 4);
            assert_eq!(got, [after, 6, 1.5f32.to_bits(), after], "{level:?}, launch {launch}");
        }
        device.clean();
    }
}
