//! Small made-up folders: the published layouts, and each way in which one can be wrong.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;

const INDEX: &str = "model_index.json";
const SCHEDULER: &str = "scheduler/scheduler_config.json";
const TEXT: &str = "text_encoder/config.json";
const TRANSFORMER: &str = "transformer/config.json";
const VQVAE: &str = "vqvae/config.json";
const WEIGHTS: [&str; 3] = [
    "text_encoder/model.safetensors",
    "transformer/diffusion_pytorch_model.safetensors",
    "vqvae/diffusion_pytorch_model.safetensors",
];

/// The configs of amused-256, as published.
fn published() -> Vec<(&'static str, Value)> {
    let part = |library: &str, class: &str| json!([library, class]);
    let down = vec!["DownEncoderBlock2D"; 5];
    let up = vec!["UpDecoderBlock2D"; 5];
    vec![
        (
            INDEX,
            json!({
                "_class_name": "AmusedPipeline", "_diffusers_version": "0.25.0.dev0",
                "scheduler": part("diffusers", "AmusedScheduler"),
                "text_encoder": part("transformers", "CLIPTextModelWithProjection"),
                "tokenizer": part("transformers", "CLIPTokenizer"),
                "transformer": part("diffusers", "UVit2DModel"),
                "vqvae": part("diffusers", "VQModel"),
            }),
        ),
        (
            SCHEDULER,
            json!({"_class_name": "AmusedScheduler", "mask_token_id": 8255, "masking_schedule": "cosine"}),
        ),
        (
            TEXT,
            json!({
                "architectures": ["CLIPTextModelWithProjection"], "attention_dropout": 0.0, "bos_token_id": 0,
                "eos_token_id": 2, "hidden_act": "quick_gelu", "hidden_size": 768, "intermediate_size": 3072,
                "layer_norm_eps": 1e-5, "max_position_embeddings": 77, "model_type": "clip_text_model",
                "num_attention_heads": 12, "num_hidden_layers": 12, "projection_dim": 768, "vocab_size": 49408,
            }),
        ),
        (
            TRANSFORMER,
            json!({
                "_class_name": "UVit2DModel", "block_num_heads": 12, "block_out_channels": 768, "codebook_size": 8192,
                "cond_embed_dim": 768, "downsample": false, "encoder_hidden_size": 768, "hidden_size": 1024,
                "in_channels": 768, "intermediate_size": 2816, "layer_norm_eps": 1e-6, "ln_elementwise_affine": true,
                "micro_cond_embed_dim": 1280, "micro_cond_encode_dim": 256, "num_attention_heads": 16,
                "num_hidden_layers": 22, "num_res_blocks": 3, "sample_size": 16, "upsample": false,
                "use_bias": false, "vocab_size": 8256,
            }),
        ),
        (
            VQVAE,
            json!({
                "_class_name": "VQModel", "act_fn": "silu", "block_out_channels": [128, 256, 256, 512, 768],
                "down_block_types": down, "up_block_types": up, "force_upcast": true, "in_channels": 3,
                "latent_channels": 64, "layers_per_block": 2, "lookup_from_codebook": true,
                "mid_block_add_attention": false, "norm_num_groups": 32, "norm_type": "group",
                "num_vq_embeddings": 8192, "out_channels": 3, "sample_size": 32, "vq_embed_dim": null,
            }),
        ),
    ]
}

fn write(root: &Path, name: &str, text: &str) {
    let path = root.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// A folder of the published configs with empty files for weights.
fn fill(root: &Path) {
    for (name, config) in published() {
        write(root, name, &config.to_string());
    }
    for name in WEIGHTS {
        write(root, name, "");
    }
    write(root, "tokenizer/vocab.json", "{}");
}

fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fill(folder.path());
    folder
}

fn set(root: &Path, name: &str, key: &str, value: Value) {
    let mut config: Value = serde_json::from_slice(&fs::read(root.join(name)).unwrap()).unwrap();
    config[key] = value;
    fs::write(root.join(name), config.to_string()).unwrap();
}

fn problem(root: &Path, variant: Option<Variant>) -> String {
    Folder::open(root, variant).expect_err("a folder that is wrong").to_string()
}

#[test]
fn the_published_folder() {
    let folder = folder();
    let open = Folder::open(folder.path(), None).unwrap();
    assert_eq!(open.scheduler.masking_schedule, MaskingSchedule::Cosine);
    assert_eq!((open.scheduler.mask_token_id, open.text_encoder.eos_token_id), (8255, 2));
    assert_eq!(open.transformer, UvitConfig { sample_size: 16, ..UvitConfig::default() });
    assert_eq!((open.vqvae.scale(), open.vqvae.code_channels()), (16, 64));
    assert!(open.vqvae.force_upcast);
    assert_eq!(open.tokenizer, folder.path().join("tokenizer"));
    let found = [open.text_encoder_weights, open.transformer_weights, open.vqvae_weights].concat();
    assert_eq!(found, WEIGHTS.map(|name| folder.path().join(name)));
}

#[test]
fn variants_and_shards() {
    let folder = folder();
    let root = folder.path();
    assert!(problem(root, Some(Variant::Half)).contains("no model.fp16.safetensors"));
    let half = WEIGHTS.map(|name| name.replace(".safetensors", ".fp16.safetensors"));
    half.iter().for_each(|name| write(root, name, ""));
    let names = |variant| Folder::open(root, variant).unwrap().vqvae_weights;
    assert_eq!(names(None), [root.join(WEIGHTS[2])]);
    assert_eq!(names(Some(Variant::Full)), [root.join(WEIGHTS[2])]);
    assert_eq!(names(Some(Variant::Half)), [root.join(&half[2])]);
    WEIGHTS.iter().for_each(|name| fs::remove_file(root.join(name)).unwrap());
    assert_eq!(names(None), [root.join(&half[2])]);
    assert!(problem(root, Some(Variant::Full)).contains("no model.safetensors"));

    fs::remove_file(root.join(&half[2])).unwrap();
    assert!(problem(root, None).contains("no diffusion_pytorch_model.safetensors or"));
    let indexes = [
        "vqvae/diffusion_pytorch_model.safetensors.index.json",
        "vqvae/diffusion_pytorch_model.safetensors.index.fp16.json",
    ];
    for index in indexes {
        write(root, index, &json!({"weight_map": {"a": "2.safetensors", "b": "1.safetensors", "c": "2.safetensors"}}).to_string());
        assert!(problem(root, None).contains("1.safetensors: not there"));
        write(root, "vqvae/1.safetensors", "");
        assert!(problem(root, None).contains("2.safetensors: not there"));
        write(root, "vqvae/2.safetensors", "");
        assert_eq!(names(None), ["1", "2"].map(|n| root.join(format!("vqvae/{n}.safetensors"))));
        for (map, expected) in [
            (json!({}), "weight_map: names no file"),
            (json!({"a": "../config.json"}), "is not a file of this folder"),
            (json!({"a": "/etc/passwd"}), "is not a file of this folder"),
            (json!({"a": ""}), "is not a file of this folder"),
            (json!({"a": 1}), "weight_map.a: invalid type"),
        ] {
            write(root, index, &json!({"weight_map": map}).to_string());
            let error = problem(root, None);
            assert!(error.contains(index) && error.contains(expected), "{error}");
        }
        fs::remove_file(root.join(index)).unwrap();
        fs::remove_file(root.join("vqvae/1.safetensors")).unwrap();
        fs::remove_file(root.join("vqvae/2.safetensors")).unwrap();
    }
}

#[cfg(unix)]
#[test]
fn the_hubs_cache() {
    let cache = tempfile::tempdir().unwrap();
    let root = cache.path();
    let hash = "0123456789abcdef0123456789abcdef01234567";
    let snapshot = root.join("snapshots").join(hash);
    fill(&snapshot);
    let blob = root.join("blobs/f00d");
    write(root, "blobs/f00d", "");
    let weights = snapshot.join(WEIGHTS[1]);
    fs::remove_file(&weights).unwrap();
    std::os::unix::fs::symlink(&blob, &weights).unwrap();
    let opened = || Folder::open(root, None).map(|folder| folder.root);
    assert_eq!(opened().unwrap(), snapshot); // the only one
    fs::create_dir(root.join("snapshots/89ab")).unwrap();
    assert!(opened().unwrap_err().to_string().contains("2 snapshots and no refs/main"));
    write(root, "refs/main", hash);
    assert_eq!(opened().unwrap(), snapshot);
    assert_eq!(Folder::open(&snapshot, None).unwrap().root, snapshot);
    for wrong in ["", "..", "1234"] {
        write(root, "refs/main", wrong);
        let error = opened().unwrap_err().to_string();
        assert!(error.contains("refs/main: names the snapshot"), "{error}");
    }
    write(root, "refs/main", hash);
    fs::remove_file(blob).unwrap();
    let error = opened().unwrap_err().to_string();
    assert!(error.contains(WEIGHTS[1]) && error.contains("a link to a file that is not there"));
}

#[test]
fn files_that_are_missing_or_no_json() {
    for name in [INDEX, SCHEDULER, TEXT, TRANSFORMER, VQVAE] {
        let folder = folder();
        let path = folder.path().join(name);
        for text in ["", "{", "[]", "{} {"] {
            fs::write(&path, text).unwrap();
            let error = problem(folder.path(), None);
            assert!(error.contains(name), "{name} of {text:?}: {error}");
        }
        fs::remove_file(&path).unwrap();
        assert!(problem(folder.path(), None).contains(&format!("{name}: not there")));
    }
    for name in WEIGHTS {
        let folder = folder();
        fs::remove_file(folder.path().join(name)).unwrap();
        assert!(problem(folder.path(), None).contains("fetch that variant"));
        fs::create_dir(folder.path().join(name)).unwrap();
        assert!(problem(folder.path(), None).contains("a folder; expected a file"));
    }
    let folder = folder();
    fs::remove_dir_all(folder.path().join("tokenizer")).unwrap();
    assert!(problem(folder.path(), None).contains("tokenizer: not there"));
    assert!(problem(&folder.path().join("nowhere"), None).contains("not a folder"));
}

#[test]
fn values_that_are_not_supported() {
    let cases = [
        (INDEX, "_class_name", json!("StableDiffusionPipeline"), "expected [\"AmusedPipeline\""),
        (INDEX, "transformer", json!(["diffusers", "UNet2DModel"]), "expected \"UVit2DModel\""),
        (INDEX, "vqvae", Value::Null, "missing; expected [library, \"VQModel\"]"),
        (INDEX, "tokenizer", json!(["transformers", "T5Tokenizer"]), "expected \"CLIPTokenizer\""),
        (SCHEDULER, "_class_name", json!("DDIMScheduler"), "expected \"AmusedScheduler\""),
        (SCHEDULER, "mask_token_id", json!(8191), "expected from 8192 to 8255"),
        (SCHEDULER, "mask_token_id", json!(8256), "expected from 8192 to 8255"),
        (SCHEDULER, "masking_schedule", json!("cubic"), "unknown variant `cubic`"),
        (TEXT, "architectures", json!(["CLIPTextModel"]), "CLIPTextModelWithProjection"),
        (TEXT, "hidden_act", json!("gelu"), "expected \"quick_gelu\""),
        (TEXT, "num_hidden_layers", json!(1), "expected at least 2"),
        (TEXT, "max_position_embeddings", json!(1), "expected at least 2"),
        (TEXT, "num_attention_heads", json!(7), "a divisor of hidden_size, 768"),
        (TEXT, "eos_token_id", json!([2, 3]), "invalid type"),
        (TEXT, "vocab_size", json!(0), "expected 1 to"),
        (TRANSFORMER, "_class_name", json!("UViT"), "expected \"UVit2DModel\""),
        (TRANSFORMER, "hidden_size", json!(-1), "invalid value"),
        (TRANSFORMER, "hidden_size", json!(1e30), "invalid type"),
        (TRANSFORMER, "intermediate_size", json!(1u64 << 40), "expected 1 to"),
        (TRANSFORMER, "num_attention_heads", json!(0), "expected 1 to"),
        (TRANSFORMER, "block_num_heads", json!(5), "a divisor of block_out_channels, 768"),
        (TRANSFORMER, "layer_norm_eps", json!(0), "between 0 and 1"),
        (TRANSFORMER, "ln_elementwise_affine", json!(false), "expected true"),
        (TRANSFORMER, "upsample", json!(true), "expected false, as downsample"),
        (TRANSFORMER, "micro_cond_encode_dim", json!(255), "an even number"),
        (TRANSFORMER, "micro_cond_embed_dim", json!(1024), "expected 1280, five times"),
        (TRANSFORMER, "vocab_size", json!(8192), "more than codebook_size, 8192"),
        (TRANSFORMER, "codebook_size", json!(4096), "expected 8192, vqvae's num_vq_embeddings"),
        (TRANSFORMER, "cond_embed_dim", json!(512), "expected 768, text_encoder's projection_dim"),
        (
            TRANSFORMER,
            "encoder_hidden_size",
            json!(512),
            "expected 768, text_encoder's hidden_size",
        ),
        (VQVAE, "_class_name", json!("AutoencoderKL"), "expected \"VQModel\""),
        (VQVAE, "in_channels", json!(4), "expected 3"),
        (VQVAE, "out_channels", json!(1), "expected 3"),
        (VQVAE, "block_out_channels", json!([]), "1 to 8 levels"),
        (VQVAE, "block_out_channels", json!([128, 256, 256, 512, 700]), "norm_num_groups, 32"),
        (VQVAE, "norm_num_groups", json!(0), "expected 1 to"),
        (VQVAE, "vq_embed_dim", json!(0), "expected 1 to"),
        (VQVAE, "down_block_types", json!(["DownEncoderBlock2D"]), "5 of \"DownEncoderBlock2D\""),
        (VQVAE, "up_block_types", json!(["A", "B", "C", "D", "E"]), "5 of \"UpDecoderBlock2D\""),
        (VQVAE, "act_fn", json!("relu"), "expected \"silu\""),
        (VQVAE, "norm_type", json!("spatial"), "expected \"group\""),
        (VQVAE, "mid_block_add_attention", json!(true), "expected false"),
        (VQVAE, "lookup_from_codebook", json!(false), "expected true"),
    ];
    for (name, key, value, expected) in cases {
        let folder = folder();
        set(folder.path(), name, key, value.clone());
        let error = problem(folder.path(), None);
        let named = error.contains(name) && error.contains(key) && error.contains(expected);
        assert!(named, "{name}: {key} = {value}: {error}\nexpected {expected}");
    }
}
