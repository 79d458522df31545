//! Any bytes as a checkpoint: opened, then every tensor asked for in every way.
#![no_main]

use libfuzzer_sys::fuzz_target;
use muse::weights::Weights;

fuzz_target!(|data: &[u8]| {
    let Ok(mut weights) = Weights::from_bytes("fuzz", data.to_vec()) else { return };
    let tensors: Vec<(String, Vec<usize>)> =
        weights.tensors().map(|t| (t.name.to_owned(), t.shape.to_vec())).collect();
    for (name, shape) in &tensors {
        if let Ok(values) = weights.bf16(name, shape) {
            assert!(values.iter().all(|x| x.is_finite()));
            assert_eq!(values.len(), shape.iter().product::<usize>());
        }
        if let Ok(values) = weights.floats(name, shape) {
            assert!(values.iter().all(|x| x.is_finite()));
        }
        let layer = name.strip_suffix(".weight").unwrap_or(name);
        if let &[rows, cols] = &shape[..] {
            let _ = weights.matrices(&[layer], [rows, cols], true).map(drop);
            let _ = weights.matrices(&[layer, layer], [rows, cols], false).map(drop);
            let _ = weights.columns(layer, [rows, cols], 0..cols / 2, true).map(drop);
            let _ = weights.gated(layer, [rows / 2, cols], true).map(drop);
            if let Ok(table) = weights.rows(name, [rows, cols]) {
                let decoded = table.gather(&[0]).map(|row| row.iter().all(|x| x.is_finite()));
                assert!(decoded.unwrap_or(true));
                assert!(table.gather(&[u32::MAX]).is_err());
            }
        }
        if let &[rows, cols, height, width] = &shape[..] {
            let _ = weights.conv(layer, [rows, cols, height, width], cols, true).map(drop);
            let _ = weights.transposed_conv(layer, [rows, cols, height, width], true).map(drop);
            if cols == 3 {
                let _ = weights.conv(layer, [rows, cols, height, width], 4, true).map(drop);
            }
        }
        assert!(weights.bf16(name, &[1, 2, 3, 4, 5]).is_err() || shape == &[1, 2, 3, 4, 5]);
    }
    let _ = weights.finish();
});
