//! Model directories that cannot be used: each is refused by name, with exit code 3 (or 4 for a file
//! that cannot be read), by `muse check` and `muse generate`, without a panic or an output file.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use safetensors::tensor::{Dtype, SafeTensors, TensorView};

const MODEL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/models/demo");

/// Expects both commands to refuse the model that `spoil` makes of a copy of the bundled one.
fn refused(code: i32, words: &[&str], spoil: impl FnOnce(&Path)) {
    let directory = tempfile::tempdir().unwrap();
    let model = directory.path().join("model");
    std::fs::create_dir(&model).unwrap();
    for entry in std::fs::read_dir(MODEL).unwrap().flatten() {
        std::fs::hard_link(entry.path(), model.join(entry.file_name()))
            .or_else(|_| std::fs::copy(entry.path(), model.join(entry.file_name())).map(|_| ()))
            .unwrap();
    }
    spoil(&model);
    let out = directory.path().join("out.png");
    let path = model.display().to_string();
    let generate = ["generate", "a cat", "--model", &path, "-o", out.to_str().unwrap()];
    for arguments in [&["check", &path][..], &generate] {
        let output = Command::new(env!("CARGO_BIN_EXE_muse")).args(arguments).output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{words:?}: {stderr}");
        assert!(!stderr.contains("panicked"), "{words:?}: {stderr}");
        for word in words {
            assert!(stderr.contains(word), "no {word:?} in {stderr}");
        }
    }
    assert!(!out.exists());
}

/// Replaces a file of the copy; the original is only linked and must not be written through.
fn replace(model: &Path, file: &str, bytes: &[u8]) {
    std::fs::remove_file(model.join(file)).unwrap();
    std::fs::write(model.join(file), bytes).unwrap();
}

type Tensors = BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)>;

/// Rewrites one safetensors file of the copy.
fn rewrite(model: &Path, file: &str, change: impl FnOnce(&mut Tensors)) {
    let bytes = std::fs::read(model.join(file)).unwrap();
    let parsed = SafeTensors::deserialize(&bytes).unwrap();
    let mut tensors: Tensors = parsed
        .tensors()
        .into_iter()
        .map(|(name, t)| (name, (t.dtype(), t.shape().to_vec(), t.data().to_vec())))
        .collect();
    change(&mut tensors);
    let views = tensors.iter().map(|(name, (dtype, shape, data))| {
        (name, TensorView::new(*dtype, shape.clone(), data).unwrap())
    });
    replace(model, file, &safetensors::serialize(views, None).unwrap());
}

/// Replaces some text of the config, which must be there.
fn reconfigure(model: &Path, from: &str, to: &str) {
    let config = std::fs::read_to_string(model.join("config.json")).unwrap();
    assert!(config.contains(from), "{from} is not in the config");
    replace(model, "config.json", config.replacen(from, to, 1).as_bytes());
}

#[test]
fn missing_and_unreadable_files() {
    for file in ["base.safetensors", "text_encoder.safetensors", "vq_superres.safetensors"] {
        refused(4, &[file], |model| std::fs::remove_file(model.join(file)).unwrap());
    }
    refused(4, &["tokenizer.json"], |model| {
        std::fs::remove_file(model.join("tokenizer.json")).unwrap()
    });
    refused(3, &["superres.safetensors"], |model| {
        std::fs::remove_file(model.join("superres.safetensors")).unwrap();
        std::fs::write(model.join("superres.safetensors"), "").unwrap();
    });
}

#[test]
fn directories_that_are_no_model() {
    let directory = tempfile::tempdir().unwrap();
    for path in [directory.path().to_path_buf(), directory.path().join("none")] {
        let path = path.display().to_string();
        let output =
            Command::new(env!("CARGO_BIN_EXE_muse")).args(["check", &path]).output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(matches!(output.status.code(), Some(3 | 4)), "{stderr}");
        assert!(stderr.contains(&path) && stderr.contains("muse model"), "{stderr}");
    }
    // A folder of the hub, of another family.
    refused(3, &["model_index.json", "StableDiffusionPipeline", "AmusedPipeline"], |model| {
        std::fs::remove_file(model.join("config.json")).unwrap();
        let index = r#"{"_class_name": "StableDiffusionPipeline"}"#;
        std::fs::write(model.join("model_index.json"), index).unwrap();
    });
}

#[test]
fn truncated_and_corrupted_files() {
    let base = std::fs::read(format!("{MODEL}/base.safetensors")).unwrap();
    for length in [0, 7, 100, base.len() / 2, base.len() - 1] {
        refused(3, &["base.safetensors"], |model| {
            replace(model, "base.safetensors", &base[..length])
        });
    }
    let mut corrupted = base.clone();
    corrupted[0] ^= 0x40; // the length of the header
    refused(3, &["base.safetensors"], |model| replace(model, "base.safetensors", &corrupted));
    corrupted = base.clone();
    corrupted[9] = b'!'; // the header
    refused(3, &["base.safetensors"], |model| replace(model, "base.safetensors", &corrupted));
    refused(3, &["tokenizer.json"], |model| {
        replace(model, "tokenizer.json", b"{\"version\": \"1.0\"")
    });
    refused(3, &["config.json"], |model| replace(model, "config.json", b"{\"format\": \"muse\", "));
}

#[test]
fn tensors_that_are_missing_left_over_or_of_the_wrong_kind() {
    let name = "layers.2.mlp.up.weight";
    refused(3, &["base.safetensors", name, "expected bf16"], |model| {
        rewrite(model, "base.safetensors", |t| {
            t.remove(name);
        });
    });
    refused(3, &["base.safetensors", "spare.weight"], |model| {
        rewrite(model, "base.safetensors", |t| {
            t.insert("spare.weight".into(), (Dtype::F32, vec![1], vec![0; 4]));
        });
    });
    refused(3, &["base.safetensors", name, "[1024, 256]", "[256, 1024]"], |model| {
        rewrite(model, "base.safetensors", |t| t.get_mut(name).unwrap().1 = vec![256, 1024]);
    });
    refused(3, &["base.safetensors", name], |model| {
        rewrite(model, "base.safetensors", |t| {
            let tensor = t.get_mut(name).unwrap();
            *tensor = (Dtype::I64, vec![1024, 64], tensor.2.clone());
        });
    });
}

#[test]
fn values_that_are_not_numbers() {
    let spoil = |bits: [u8; 2]| {
        move |model: &Path| {
            rewrite(model, "vq_base.safetensors", |t| {
                let data = &mut t.get_mut("decoder.conv_out.weight").unwrap().2;
                data[34..36].copy_from_slice(&bits);
            });
        }
    };
    refused(3, &["vq_base.safetensors", "decoder.conv_out.weight", "NaN"], spoil([0xC0, 0x7F]));
    refused(3, &["vq_base.safetensors", "decoder.conv_out.weight", "inf"], spoil([0x80, 0xFF]));
    refused(3, &["text_encoder.safetensors", "pooler"], |model| {
        rewrite(model, "text_encoder.safetensors", |t| {
            t.insert("pooler.dense.bias".into(), (Dtype::F32, vec![1], vec![0; 4]));
        });
    });
}

#[test]
fn configs_that_do_not_fit() {
    refused(3, &["config.json", "hidden_size"], |model| {
        reconfigure(model, "\"hidden_size\": 256", "\"hidden_size\": 0");
    });
    refused(3, &["base.safetensors", "expected", "found"], |model| {
        reconfigure(model, "\"num_layers\": 6", "\"num_layers\": 5");
    });
    refused(3, &["config.json", "speed"], |model| {
        reconfigure(model, "\"name\"", "\"speed\": 9, \"name\"");
    });
    refused(3, &["config.json", "format"], |model| {
        reconfigure(model, "\"format\": \"muse\"", "\"format\": \"other\"");
    });
}
