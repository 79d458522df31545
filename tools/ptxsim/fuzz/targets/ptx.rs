//! Any text as a PTX module: read, checked and, if it passes, analysed.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ptxsim::ptx::analysis::analyse;
use ptxsim::ptx::{inventory, parse};

fuzz_target!(|data: &[u8]| {
    let text = String::from_utf8_lossy(data);
    let Ok(module) = parse(&text) else { return };
    assert!(inventory::opcodes(&module).values().all(|count| *count > 0));
    for function in &module.functions {
        let Ok(analysis) = analyse(function) else { continue };
        assert_eq!(analysis.reconverge.len(), function.body.len());
        assert!(analysis.blocks.iter().all(|block| block.start < block.end));
        for slot in &analysis.slots {
            assert!(slot.offset < analysis.register_bytes.max(1));
        }
    }
});
