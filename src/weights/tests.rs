//! Every malformed checkpoint has a named error; every encoding decodes as stated.

use std::fs;

use half::{bf16, f16};

use super::*;
use crate::device::GATE;

/// A safetensors file of `(name, dtype, shape, bytes)`.
fn file(tensors: &[(&str, &str, &[usize], Vec<u8>)]) -> Vec<u8> {
    let mut header = serde_json::Map::new();
    let mut data = Vec::new();
    for (name, dtype, shape, bytes) in tensors {
        let offsets = [data.len(), data.len() + bytes.len()];
        let info = serde_json::json!({"dtype": dtype, "shape": shape, "data_offsets": offsets});
        header.insert(name.to_string(), info);
        data.extend_from_slice(bytes);
    }
    let mut header = serde_json::Value::Object(header).to_string();
    while !header.len().is_multiple_of(8) {
        header.push(' ');
    }
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &data].concat()
}

fn f32s(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|x| x.to_le_bytes()).collect()
}

fn bf16s(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|&x| bf16::from_f32(x).to_le_bytes()).collect()
}

fn open(tensors: &[(&str, &str, &[usize], Vec<u8>)]) -> Weights {
    Weights::from_bytes("test.safetensors", file(tensors)).unwrap()
}

/// The error's whole text, after checking that it names the file.
fn message<T>(result: Result<T>) -> String {
    let text = result.err().expect("an error").to_string();
    assert!(text.contains("test.safetensors"), "{text}");
    text
}

fn refused(bytes: &[u8]) -> String {
    message(Weights::from_bytes("test.safetensors", bytes.to_vec()))
}

/// Asserts that `text` holds every one of `parts`.
fn holds(text: String, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "'{part}' is not in: {text}");
    }
}

/// The matrix as it lies in host memory.
fn host(source: Result<MatrixSource<'_>>) -> HostMatrix<'_> {
    match source.unwrap() {
        MatrixSource::Host(matrix, _) => matrix,
        MatrixSource::Kept(_) => panic!("packed already"),
    }
}

#[test]
fn bf16_is_borrowed_from_the_map_and_others_are_rounded_once() {
    let values = [1.0, -0.0, 3.140_625, 1.003_906_3]; // the last rounds to even, down to 1
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("test.safetensors");
    let halves = values.iter().flat_map(|&x| f16::from_f32(x).to_le_bytes()).collect();
    let tensors: &[(&str, &str, &[usize], Vec<u8>)] = &[
        ("a.weight", "BF16", &[2, 2], bf16s(&values)),
        ("b.weight", "F32", &[2, 2], f32s(&values)),
        ("c.weight", "F16", &[2, 2], halves),
    ];
    fs::write(&path, file(tensors)).unwrap();
    let mut weights = Weights::open(&path).unwrap();
    for name in ["a", "b", "c"] {
        let matrix = host(weights.matrices(&[name], [2, 2], false));
        assert_eq!(matches!(matrix.weight, Floats::BF16(Cow::Borrowed(_))), name == "a");
        assert_eq!(matrix.weight, values.map(bf16::from_f32).to_vec().into());
        assert_eq!((matrix.rows, matrix.cols, matrix.taps), (2, 2, 1));
        assert!(matrix.bias.is_none());
    }
    assert_eq!(weights.floats("b.weight", &[2, 2]).unwrap(), values);
    weights.finish().unwrap();
}

#[test]
fn f32_is_borrowed_from_the_map_and_not_rounded() {
    let values = [1.0, -0.0, 3.140_625, 1.003_906_3];
    let tensors: &[(&str, &str, &[usize], Vec<u8>)] = &[
        ("a.weight", "F32", &[2, 2], f32s(&values)),
        ("b.weight", "BF16", &[2, 2], bf16s(&values)),
        ("q.weight", "I8", &[2, 2], vec![1, 2, 3, 0xFF]),
        ("q.weight_scale", "F32", &[2], f32s(&[0.1, 0.2])),
        ("conv.weight", "F32", &[1, 2, 1, 2], f32s(&values)),
        ("conv.bias", "BF16", &[1], bf16s(&[1.0])),
    ];
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("test.safetensors");
    fs::write(&path, file(tensors)).unwrap();
    let mut weights = Weights::open(&path).unwrap().in_precision(Precision::F32);
    assert_eq!(weights.activations(), DType::F32);
    let a = host(weights.matrices(&["a"], [2, 2], false)).weight;
    assert!(matches!(a, Floats::F32(Cow::Borrowed(_))));
    assert_eq!(a, values.to_vec().into());
    let rounded = values.map(|x| bf16::from_f32(x).to_f32());
    let scaled = [0.1, 2.0 * 0.1, 3.0 * 0.2, -0.2].map(|x| bf16::from_f32(x).to_f32());
    let both = [rounded, scaled].concat();
    assert_eq!(host(weights.matrices(&["b", "q"], [2, 2], false)).weight, both.into());
    assert_eq!(weights.values("b.weight", &[2, 2]).unwrap(), rounded.to_vec().into());
    let table = weights.rows("q.weight", [2, 2]).unwrap();
    assert_eq!(table.gather(&[1]).unwrap(), scaled[2..].to_vec().into());
    let conv = host(weights.conv("conv", [1, 2, 1, 2], 2, true)).weight;
    assert_eq!(conv, vec![values[0], values[2], values[1], values[3]].into());
    weights.finish().unwrap();
}

#[test]
fn int8_rows_are_scaled_in_f32_then_rounded() {
    let q: Vec<u8> = [-128i8, 127, 1, 0, -1, 77].iter().map(|&q| q as u8).collect();
    let scales = [0.012_345_f32, 3.3e-3];
    let expected = [-128.0, 127.0, 1.0, 0.0, -1.0, 77.0];
    let expected: Vec<f32> = (0..6).map(|i| expected[i] * scales[i / 3]).collect();
    let rounded: Vec<_> = expected.iter().map(|&x| bf16::from_f32(x)).collect();
    let mut weights =
        open(&[("w.weight", "I8", &[2, 3], q), ("w.weight_scale", "F32", &[2], f32s(&scales))]);
    let widened: Vec<f32> = rounded.iter().map(|x| x.to_f32()).collect();
    assert_eq!(weights.floats("w.weight", &[2, 3]).unwrap(), widened);
    assert_eq!(host(weights.matrices(&["w"], [2, 3], false)).weight, (&rounded).into());
    let rows = weights.rows("w.weight", [2, 3]).unwrap();
    weights.finish().unwrap();
    assert_eq!(rows.gather(&[1, 0, 1]).unwrap(), [&rounded[3..], &rounded].concat().into());
    holds(message(rows.gather(&[2])), &["'w.weight'", "id 2", "2 rows"]);
}

#[test]
fn matrices_are_stacked_along_their_rows() {
    let mut weights = open(&[
        ("q.weight", "BF16", &[1, 2], bf16s(&[1.0, 2.0])),
        ("k.weight", "F32", &[1, 2], f32s(&[3.0, 4.0])),
        ("q.bias", "F32", &[1], f32s(&[5.0])),
        ("k.bias", "BF16", &[1], bf16s(&[6.0])),
    ]);
    let matrix = host(weights.matrices(&["q", "k"], [1, 2], true));
    assert_eq!(matrix.weight, [1.0, 2.0, 3.0, 4.0].map(bf16::from_f32).to_vec().into());
    assert_eq!(matrix.bias.unwrap(), [5.0, 6.0]);
    assert_eq!(matrix.rows, 2);
}

#[test]
fn convolutions_become_taps_by_channels_with_padding() {
    // out 2, in 3, 2×2: value = 100·out + 10·in + tap
    let value = |o: usize, i: usize, t: usize| (100 * o + 10 * i + t) as f32;
    let source: Vec<f32> = (0..24).map(|n| value(n / 12, n / 4 % 3, n % 4)).collect();
    let mut weights = open(&[
        ("conv.weight", "F32", &[2, 3, 2, 2], f32s(&source)),
        ("conv.bias", "F32", &[2], f32s(&[1.0, 2.0])),
        ("point.weight", "BF16", &[1, 2, 1, 1], bf16s(&[1.0, 2.0])),
        ("point.bias", "F32", &[1], f32s(&[0.0])),
    ]);
    for padded in [3, 4] {
        let matrix = host(weights.conv("conv", [2, 3, 2, 2], padded, true));
        assert_eq!((matrix.rows, matrix.taps, matrix.cols), (2, 4, padded));
        let moved = (0..8 * padded).map(|n| {
            let (o, t, i) = (n / (4 * padded), n / padded % 4, n % padded);
            bf16::from_f32(if i < 3 { value(o, i, t) } else { 0.0 })
        });
        assert_eq!(matrix.weight, Vec::from_iter(moved).into());
        assert_eq!(matrix.bias.as_deref(), Some(&[1.0, 2.0][..]));
    }
    let point = host(weights.conv("point", [1, 2, 1, 1], 2, true));
    assert_eq!(point.weight, [1.0, 2.0].map(bf16::from_f32).to_vec().into());
    weights.finish().unwrap();
}

#[test]
fn a_path_that_is_no_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("test.safetensors");
    let error = Weights::open(&path).err().unwrap();
    assert_eq!(error.exit_code(), 4);
    holds(message::<()>(Err(error)), &["No such file"]);
    fs::write(&path, "").unwrap();
    holds(message(Weights::open(&path)), &["0 bytes long", "fetch it again"]);
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    let error = Weights::open(&path).err().unwrap();
    assert_eq!(error.exit_code(), 3);
    holds(message::<()>(Err(error)), &["a directory", "expected a safetensors file"]);
}

#[test]
fn a_file_cut_anywhere_or_lengthened_is_refused() {
    let whole = file(&[("a", "F32", &[2], f32s(&[1.0, 2.0])), ("b", "I8", &[3], vec![0; 3])]);
    for end in 0..whole.len() {
        holds(refused(&whole[..end]), &["not a whole safetensors file"]);
    }
    refused(&[&whole[..], &[0]].concat());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("test.safetensors");
    fs::write(&path, &whole[..whole.len() - 1]).unwrap();
    holds(message(Weights::open(&path)), &["not a whole safetensors file"]);
}

#[test]
fn a_header_that_lies() {
    let with = |header: &str, data: &[u8]| {
        refused(&[&(header.len() as u64).to_le_bytes(), header.as_bytes(), data].concat())
    };
    with("this is not json", b"");
    with("[]", b"");
    with("{\"a\":1}", b"");
    with("\u{1}", b"");
    with(&"[".repeat(100_000), b"");
    let info = |dtype: &str, shape: &str, offsets: &str| {
        format!("{{\"a\":{{\"dtype\":\"{dtype}\",\"shape\":{shape},\"data_offsets\":{offsets}}}}}")
    };
    with(&info("F33", "[1]", "[0,4]"), &[0; 4]);
    with(&info("F32", "[1]", "[0,8]"), &[0; 8]);
    with(&info("F32", "[2]", "[0,4]"), &[0; 4]);
    with(&info("F32", "[-1]", "[0,4]"), &[0; 4]);
    with(&info("F32", "[1]", "[4,8]"), &[0; 8]);
    with(&info("F32", "[1]", "[4,0]"), &[0; 4]);
    with(&info("F32", "[1]", "[0,18446744073709551615]"), &[0; 4]);
    with(&info("F32", "[9223372036854775807,9223372036854775807]", "[0,4]"), &[0; 4]);
    for length in [u64::MAX, u64::MAX - 7, 1 << 40, 100_000_001, 9] {
        let bytes = [&length.to_le_bytes()[..], b"12345678"].concat();
        holds(refused(&bytes), &[&format!("a header of {length} bytes in a file of 16")]);
    }
    refused(&[&8u64.to_le_bytes()[..], b"\xff\xfe\xff\xff\xff\xff\xff\xff"].concat());
}

#[test]
fn a_header_too_long_to_parse_is_refused_unread() {
    let mut bytes = (MAX_HEADER + 1).to_le_bytes().to_vec();
    bytes.resize(bytes.len() + MAX_HEADER as usize + 1, b' ');
    holds(refused(&bytes), &["a header of 8388609 bytes"]);
}

#[test]
fn missing_wrong_shape_wrong_dtype_and_leftover() {
    let tensors: &[(&str, &str, &[usize], Vec<u8>)] = &[
        ("a", "F32", &[2], f32s(&[1.0, 2.0])),
        ("ids", "I64", &[1], vec![0; 8]),
        ("z", "F32", &[], f32s(&[0.0])),
    ];
    let mut weights = open(tensors);
    holds(message(weights.floats("b", &[2])), &["'b'", "shape [2]", "no tensor of that name"]);
    for shape in [&[3][..], &[1, 2], &[2, 1], &[], &[0]] {
        let wanted = format!("f32 or scaled int8 of shape {shape:?}");
        holds(message(weights.floats("a", shape)), &["'a'", &wanted, "found f32 of shape [2]"]);
        message(weights.values("a", shape));
    }
    holds(message(weights.values("ids", &[1])), &["'ids'", "bf16, f16", "found i64 of shape [1]"]);
    assert_eq!(weights.floats("z", &[]).unwrap(), [0.0]);
    assert_eq!(open(tensors).tensors().len(), 3);
    let info = TensorInfo { name: "a", dtype: "f32".into(), shape: &[2], bytes: 8 };
    assert_eq!(open(tensors).tensors().next(), Some(info));
    let mut weights = open(tensors);
    weights.floats("a", &[2]).unwrap();
    let expected = "no tensors but the 1 of the config, found i64 of shape [1] and 1 more";
    holds(message(weights.finish()), &["'ids'", expected]);
}

#[test]
fn scales_that_are_missing_or_wrong() {
    let q = || ("w", "I8", &[2, 1][..], vec![1, 2]);
    let scale = |dtype, bytes| ("w_scale", dtype, &[2][..], bytes);
    let mut weights = open(&[q()]);
    holds(message(weights.floats("w", &[2, 1])), &["'w_scale'", "f32 of shape [2]", "no tensor"]);
    let mut weights = open(&[q(), ("w_scale", "F32", &[1], f32s(&[1.0]))]);
    holds(message(weights.values("w", &[2, 1])), &["'w_scale'", "found f32 of shape [1]"]);
    let mut weights = open(&[q(), scale("BF16", bf16s(&[1.0, 1.0]))]);
    holds(message(weights.values("w", &[2, 1])), &["'w_scale'", "found bf16 of shape [2]"]);
    let mut weights = open(&[q(), scale("F32", f32s(&[1.0, f32::NAN]))]);
    holds(message(weights.values("w", &[2, 1])), &["'w_scale'", "finite", "at [1]"]);
    holds(message(weights.rows("w", [2, 1])), &["'w_scale'", "finite", "at [1]"]);
    let mut weights = open(&[q(), scale("F32", f32s(&[1.0, 3e38]))]);
    holds(message(weights.values("w", &[2, 1])), &["'w'", "finite", "overflow", "at [1, 0]"]);
    holds(message(weights.rows("w", [2, 1])), &["'w_scale'", "overflow", "at [1]"]);
}

#[test]
fn values_that_are_not_finite() {
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let mut values = [0.5; 6];
        values[4] = bad;
        let half = values.iter().flat_map(|&x| f16::from_f32(x).to_le_bytes()).collect();
        let kinds = [("BF16", bf16s(&values)), ("F32", f32s(&values)), ("F16", half)];
        for (dtype, bytes) in kinds {
            let mut weights = open(&[("w", dtype, &[2, 3], bytes)]);
            holds(message(weights.values("w", &[2, 3])), &["'w'", "finite values", "at [1, 1]"]);
            holds(message(weights.floats("w", &[2, 3])), &["'w'", "at [1, 1]"]);
            holds(message(weights.rows("w", [2, 3])), &["'w'", "at [1, 1]"]);
        }
    }
    // Finite in f32, but infinite once rounded to bf16.
    let mut weights = open(&[("w", "F32", &[1], f32s(&[f32::MAX]))]);
    holds(message(weights.values("w", &[1])), &["overflow at [0]"]);
    assert_eq!(weights.floats("w", &[1]).unwrap(), [f32::MAX]);
}

#[test]
fn empty_tensors_do_no_harm() {
    let tensors: &[(&str, &str, &[usize], Vec<u8>)] = &[
        ("none.weight", "BF16", &[0, 3], vec![]),
        ("q", "I8", &[0, 3], vec![]),
        ("q_scale", "F32", &[0], vec![]),
        ("wide", "BF16", &[0, usize::MAX, usize::MAX], vec![]),
    ];
    let mut weights = open(tensors);
    assert_eq!(host(weights.matrices(&["none"], [0, 3], false)).weight.len(), 0);
    assert!(weights.floats("q", &[0, 3]).unwrap().is_empty());
    assert_eq!(weights.values("wide", &[0, usize::MAX, usize::MAX]).unwrap().len(), 0);
    holds(message(weights.rows("q", [0, 3]).unwrap().gather(&[0])), &["0 rows"]);
    weights.finish().unwrap();
    assert!(Weights::from_bytes("test.safetensors", file(&[])).unwrap().finish().is_ok());
}

#[test]
fn shards_are_read_as_one() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, tensors: &[(&str, &str, &[usize], Vec<u8>)]| {
        let path = folder.path().join(name);
        fs::write(&path, file(tensors)).unwrap();
        path
    };
    let a = write("1.safetensors", &[("a", "F32", &[2], f32s(&[1.0, 2.0]))]);
    let b = write(
        "2.safetensors",
        &[("b", "F32", &[2], f32s(&[3.0, f32::NAN])), ("t", "F32", &[2, 1], f32s(&[5.0, 6.0]))],
    );
    let c = write(
        "3.safetensors",
        &[("c", "F32", &[1], f32s(&[4.0])), ("a", "F32", &[1], f32s(&[7.0]))],
    );

    let mut weights = Weights::open_shards(&[&a, &b]).unwrap();
    assert_eq!(weights.path(), folder.path());
    assert_eq!(weights.tensors().map(|t| t.name.to_owned()).collect::<Vec<_>>(), ["a", "b", "t"]);
    assert_eq!(weights.floats("a", &[2]).unwrap(), [1.0, 2.0]);
    let table = weights.rows("t", [2, 1]).unwrap();
    assert_eq!(table.gather(&[1]).unwrap(), vec![bf16::from_f32(6.0)].into());
    holds(table.gather(&[2]).unwrap_err().to_string(), &["2.safetensors", "'t'"]);
    holds(weights.floats("b", &[2]).unwrap_err().to_string(), &["2.safetensors", "'b'", "[1]"]);
    let missing = weights.floats("c", &[1]).unwrap_err().to_string();
    holds(missing, &[&folder.path().display().to_string(), "'c'", "no tensor of that name"]);
    let twice = Weights::open_shards(&[&a, &b, &c]).err().expect("a twice").to_string();
    holds(twice, &["3.safetensors", "'a'", "1.safetensors too"]);
    assert_eq!(Weights::open_shards(&[&a]).unwrap().path(), a);
}

#[test]
fn gates_follow_their_values_in_blocks() {
    // 17 outputs of 2 columns: rows 0..17 are values and 17..34 gates
    let outputs = GATE + 1;
    let value = |row: usize, column: usize| (2 * row + column) as f32;
    let source: Vec<f32> = (0..4 * outputs).map(|n| n as f32).collect();
    let bias: Vec<f32> = (0..2 * outputs).map(|n| n as f32).collect();
    let mut weights = open(&[
        ("up.weight", "F32", &[2 * outputs, 2], f32s(&source)),
        ("up.bias", "F32", &[2 * outputs], f32s(&bias)),
    ]);
    let matrix = host(weights.gated("up", [outputs, 2], true));
    assert_eq!((matrix.rows, matrix.cols, matrix.taps), (4 * GATE, 2, 1));
    let rows: Vec<Option<usize>> = (0..GATE)
        .chain(outputs..outputs + GATE)
        .map(Some)
        .chain((0..2 * GATE).map(|i| (i % GATE == 0).then_some(GATE + i / GATE * outputs)))
        .collect();
    let moved = (0..4 * GATE * 2).map(|n| rows[n / 2].map_or(0.0, |row| value(row, n % 2)));
    assert_eq!(matrix.weight, Vec::from_iter(moved.map(bf16::from_f32)).into());
    let bias = matrix.bias.unwrap();
    assert_eq!(bias, rows.iter().map(|row| row.map_or(0.0, |row| row as f32)).collect::<Vec<_>>());
    assert!(host(weights.gated("up", [outputs, 2], false)).bias.is_none());
    weights.finish().unwrap();
}

#[test]
fn columns_of_a_layer() {
    let mut weights = open(&[
        ("all.weight", "F32", &[2, 3], f32s(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0])),
        ("all.bias", "F32", &[2], f32s(&[7.0, 8.0])),
    ]);
    let first = host(weights.columns("all", [2, 3], 0..2, true));
    assert_eq!((first.rows, first.cols), (2, 2));
    assert_eq!(first.weight, [1.0, 2.0, 4.0, 5.0].map(bf16::from_f32).to_vec().into());
    assert_eq!(first.bias.as_deref(), Some(&[7.0, 8.0][..]));
    let mut weights = weights.in_precision(Precision::F32);
    let second = host(weights.columns("all", [2, 3], 2..3, false));
    assert_eq!(second.weight, vec![3.0f32, 6.0].into());
    assert!(second.bias.is_none());
    weights.finish().unwrap();
}

#[test]
fn transposed_convolutions_become_layers_of_a_patch() {
    // in 2, out 3, 2×2: value = 100·in + 10·out + tap
    let value = |i: usize, o: usize, t: usize| (100 * i + 10 * o + t) as f32;
    let source: Vec<f32> = (0..24).map(|n| value(n / 12, n / 4 % 3, n % 4)).collect();
    let mut weights = open(&[
        ("up.weight", "F32", &[2, 3, 2, 2], f32s(&source)),
        ("up.bias", "F32", &[3], f32s(&[1.0, 2.0, 3.0])),
    ]);
    let matrix = host(weights.transposed_conv("up", [2, 3, 2, 2], true));
    assert_eq!((matrix.rows, matrix.cols, matrix.taps), (12, 2, 1));
    let moved = (0..24).map(|n| bf16::from_f32(value(n % 2, n / 2 % 3, n / 6)));
    assert_eq!(matrix.weight, Vec::from_iter(moved).into());
    assert_eq!(matrix.bias.unwrap(), [1.0, 2.0, 3.0].repeat(4));
    weights.finish().unwrap();
}

#[test]
fn only_what_is_ignored_by_name_may_be_left() {
    let tensors: [(&str, &str, &[usize], Vec<u8>); 2] =
        [("position_ids", "I64", &[1], vec![0; 8]), ("a", "F32", &[1], f32s(&[1.0]))];
    let mut weights = open(&tensors);
    weights.ignore("position_ids");
    weights.ignore("not there");
    holds(message(weights.finish()), &["'a'", "no tensors but"]);
}
