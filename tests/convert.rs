//! Converted models give the bytes of those that they were made of, and are refused wherever they cannot be used.

use std::fs;
use std::path::Path;

use muse::{Engine, EngineOptions, Error, Generated, Precision, Request, Size, convert};

const DEMO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/models/demo");

fn load(model: &Path, dtype: Precision) -> muse::Result<Engine> {
    Engine::load(model, EngineOptions { dtype, ..EngineOptions::default() })
}

fn generate(model: &Path, dtype: Precision, size: Size) -> Generated {
    let mut request = Request::new("two apples and a cat on a blue background");
    (request.seed, request.size, request.base.steps) = (3, size, Some(4));
    load(model, dtype).unwrap().generate(&request).unwrap()
}

/// The text of the error of that precision.
fn refusal(model: &Path, dtype: Precision) -> String {
    load(model, dtype).err().expect("it must be refused").to_string()
}

#[test]
fn a_converted_model_gives_the_same_pixels_in_its_precision_and_no_other() {
    let folder = tempfile::tempdir().unwrap();
    for dtype in [Precision::Bf16, Precision::F32, Precision::Int8] {
        let made = folder.path().join(dtype.to_string());
        let sizes = convert(Path::new(DEMO), &made, dtype).unwrap();
        assert!(sizes.from > 0 && sizes.to > 0);
        let [expected, found] = [Path::new(DEMO), &made].map(|m| generate(m, dtype, Size::Full));
        let tokens = |made: &Generated| (made.base_tokens.clone(), made.superres_tokens.clone());
        assert_eq!(tokens(&found), tokens(&expected), "{dtype}");
        assert!(found.image == expected.image, "{dtype}");
        let other = if dtype == Precision::Bf16 { Precision::Int8 } else { Precision::Bf16 };
        let text = refusal(&made, other);
        let packed = format!("packed for {dtype}");
        assert!(text.contains(&packed) && text.contains(".safetensors"), "{text}");
        let again = convert(&made, &folder.path().join("again"), dtype).unwrap_err().to_string();
        assert!(again.contains(&packed) && again.contains("converted from"), "{again}");
    }
    assert!(!folder.path().join("again").exists());
}

#[test]
fn an_amused_folder_is_converted_with_its_tokenizer_and_configs() {
    let folder = tempfile::tempdir().unwrap();
    for model in ["flat", "halved"] {
        let (original, made) =
            (folder.path().join(model), folder.path().join(format!("{model}.packed")));
        fixtures::write(model, &original).unwrap();
        convert(&original, &made, Precision::Bf16).unwrap();
        let size = Size::Pixels([32, 32]);
        let [expected, found] = [&original, &made].map(|m| generate(m, Precision::Bf16, size));
        let tokens = |made: &Generated| (made.base_tokens.clone(), made.superres_tokens.clone());
        assert_eq!(tokens(&found), tokens(&expected), "{model}");
        assert!(found.image == expected.image, "{model}");
    }
}

#[test]
fn what_is_there_is_kept_and_what_fails_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let there = folder.path().join("there");
    fs::create_dir(&there).unwrap();
    let error = convert(Path::new(DEMO), &there, Precision::Bf16).unwrap_err();
    assert!(matches!(error, Error::Io { .. }) && error.to_string().contains("there"), "{error}");
    // A model that ends in the middle of its last part.
    let broken = folder.path().join("broken");
    fs::create_dir(&broken).unwrap();
    for entry in fs::read_dir(DEMO).unwrap().flatten() {
        fs::copy(entry.path(), broken.join(entry.file_name())).unwrap();
    }
    let last = broken.join("vq_superres.safetensors");
    let bytes = fs::read(&last).unwrap();
    fs::write(&last, &bytes[..bytes.len() / 2]).unwrap();
    let made = folder.path().join("made");
    let error = convert(&broken, &made, Precision::Bf16).unwrap_err().to_string();
    assert!(error.contains("vq_superres.safetensors"), "{error}");
    let mut left: Vec<_> =
        fs::read_dir(folder.path()).unwrap().flatten().map(|e| e.file_name()).collect();
    left.sort();
    assert_eq!(left, ["broken", "there"]);
}

#[test]
fn damaged_and_foreign_files_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let made = folder.path().join("made");
    convert(Path::new(DEMO), &made, Precision::Int8).unwrap();
    let file = made.join("base.safetensors");
    let bytes = fs::read(&file).unwrap();
    let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let text = std::str::from_utf8(&bytes[8..8 + header]).unwrap();
    let changed = |from: &str, to: &str| {
        assert_eq!(from.len(), to.len());
        assert!(text.contains(from), "no {from}");
        let text = text.replacen(from, to, 1);
        fs::write(&file, [&bytes[..8], text.as_bytes(), &bytes[8 + header..]].concat()).unwrap();
        refusal(&made, Precision::Int8)
    };
    for (from, to, expected) in [
        ("packed int8", "packed int9", "packed int9"),
        ("packed int8", "packed bf16", "packed for bf16"),
        ("\"layers.1.mlp.up/scales\"", "\"layers.1.mlp.up/scalez\"", "without scales"),
        ("\"head\"", "\"heat\"", "'head'"),
    ] {
        let error = changed(from, to);
        assert!(error.contains(expected) && error.contains("base.safetensors"), "{from}: {error}");
    }
    // A bias that is not there.
    let tokenizer = made.join("vq_base.safetensors");
    let whole = fs::read(&tokenizer).unwrap();
    let end = 8 + u64::from_le_bytes(whole[..8].try_into().unwrap()) as usize;
    let mut entries: serde_json::Value = serde_json::from_slice(&whole[8..end]).unwrap();
    let entries = entries.as_object_mut().unwrap();
    let place = |entry: &serde_json::Value| -> Option<[usize; 2]> {
        serde_json::from_value(entry["data_offsets"].clone()).ok()
    };
    let bias = entries.remove("decoder.conv_in/bias").expect("it has one");
    let [from, to] = place(&bias).unwrap();
    for entry in entries.values_mut() {
        if let Some(place) = place(entry).filter(|place| place[0] >= to) {
            entry["data_offsets"] = serde_json::json!(place.map(|at| at - (to - from)));
        }
    }
    let mut cut = serde_json::to_vec(&entries).unwrap();
    cut.resize(end - 8, b' ');
    let (before, after) = (&whole[end..end + from], &whole[end + to..]);
    fs::write(&tokenizer, [&whole[..8], &cut, before, after].concat()).unwrap();
    fs::write(&file, &bytes).unwrap();
    let error = refusal(&made, Precision::Int8);
    assert!(
        error.contains("decoder.conv_in/bias") && error.contains("a packed matrix's bias"),
        "{error}"
    );
    fs::write(&tokenizer, &whole).unwrap();
    // A config of another size than the packed matrices.
    fs::write(&file, &bytes).unwrap();
    let config = fs::read_to_string(made.join("config.json")).unwrap();
    let mut config: serde_json::Value = serde_json::from_str(&config).unwrap();
    let mlp = config["base"]["mlp_size"].as_u64().unwrap();
    config["base"]["mlp_size"] = (mlp + 32).into();
    fs::write(made.join("config.json"), config.to_string()).unwrap();
    let error = refusal(&made, Precision::Int8);
    assert!(
        error.contains("base.safetensors") && error.contains("a packed int8 matrix of"),
        "{error}"
    );
}
