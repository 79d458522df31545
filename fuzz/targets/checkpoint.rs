//! Any bytes as a checkpoint: opened, then every tensor asked for in every way.
#![no_main]

use libfuzzer_sys::fuzz_target;
use muse::Precision;
use muse::tensor::Floats;
use muse::weights::Weights;

fn are_finite(values: &Floats) -> bool {
    match values {
        Floats::F32(values) => values.iter().all(|x| x.is_finite()),
        Floats::BF16(values) => values.iter().all(|x| x.is_finite()),
    }
}

fuzz_target!(|data: &[u8]| {
    for precision in [Precision::F32, Precision::Bf16] {
        if let Ok(weights) = Weights::from_bytes("fuzz", data.to_vec()) {
            ask(weights.in_precision(precision));
        }
    }
});

fn ask(mut weights: Weights) {
    let tensors: Vec<(String, Vec<usize>)> =
        weights.tensors().map(|t| (t.name.to_owned(), t.shape.to_vec())).collect();
    for (name, shape) in &tensors {
        if let Ok(values) = weights.values(name, shape) {
            assert!(are_finite(&values));
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
                let decoded = table.gather(&[0]).map(|row| are_finite(&row));
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
        assert!(weights.values(name, &[1, 2, 3, 4, 5]).is_err() || shape == &[1, 2, 3, 4, 5]);
    }
    let _ = weights.finish();
}
