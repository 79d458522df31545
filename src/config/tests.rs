//! Every value of the config that cannot be used has an error naming its key.

use std::fs;

use serde_json::{Value, json};

use super::*;

fn vq(codes: usize) -> Value {
    json!({
        "_class_name": "VQModel", "_diffusers_version": "0.42.1", "act_fn": "silu",
        "block_out_channels": [32, 64, 96, 128], "down_block_types": vec!["DownEncoderBlock2D"; 4],
        "force_upcast": true, "in_channels": 3, "latent_channels": 16, "layers_per_block": 1,
        "lookup_from_codebook": true, "mid_block_add_attention": false, "norm_num_groups": 32,
        "norm_type": "group", "num_vq_embeddings": codes, "out_channels": 3, "sample_size": 64,
        "scaling_factor": 0.18215, "up_block_types": vec!["UpDecoderBlock2D"; 4],
        "vq_embed_dim": null,
    })
}

fn transformer(grid: [usize; 2], codes: usize) -> Value {
    json!({
        "hidden_size": 256, "num_layers": 6, "num_heads": 4, "mlp_size": 1024, "text_size": 384,
        "codebook_size": codes, "grid": grid, "layer_norm_eps": 1e-5,
        "decode": {"steps": 12, "guidance_start": 1.0, "guidance": 2.0, "temperature": 1.5,
                   "token_temperature": 1.0, "top_k": 0},
    })
}

fn whole() -> Value {
    let mut superres = transformer([16, 16], 512);
    superres["coarse"] =
        json!({"codebook_size": 1024, "grid": [8, 8], "num_layers": 2, "in_place": true});
    superres["multi_axis"] = json!([4, 1]);
    json!({
        "format": "muse", "version": 1, "name": "demo",
        "text_encoder": {
            "class": "BertModel", "vocab_size": 30522, "hidden_size": 384, "num_hidden_layers": 6,
            "num_attention_heads": 12, "intermediate_size": 1536, "max_position_embeddings": 512,
            "type_vocab_size": 2, "layer_norm_eps": 1e-12, "max_length": 64,
        },
        "base": transformer([8, 8], 1024),
        "superres": superres,
        "vq_base": vq(1024),
        "vq_superres": vq(512),
    })
}

fn parse(config: &Value) -> Result<Config> {
    Config::parse(config.to_string().as_bytes(), Path::new("model/config.json"))
}

/// The error of the whole config with the value at `pointer` replaced.
fn refused(pointer: &str, value: Value) -> String {
    let mut config = whole();
    *config.pointer_mut(pointer).expect(pointer) = value;
    let error = parse(&config).expect_err(pointer);
    assert_eq!(error.exit_code(), 3);
    error.to_string()
}

#[test]
fn a_whole_config_is_read() {
    let config = parse(&whole()).unwrap();
    assert_eq!(config.base.grid, [8, 8]);
    assert_eq!(config.base.decode.steps, 12);
    assert_eq!(config.vq_base.vq_embed_dim, 16); // null: the latent channels
    assert_eq!(config.vq_base.factor(), 8);
    assert_eq!(config.text_encoder.layer_norm_eps, 1e-12);
    let again = serde_json::to_value(&config).unwrap();
    assert_eq!(parse(&again).unwrap(), config);
    let mut config = whole();
    let parts = config.as_object_mut().unwrap();
    parts.remove("superres");
    parts.remove("vq_superres");
    assert!(parse(&config).unwrap().superres.is_none());
}

#[test]
fn every_key_is_required_and_no_other_is_known() {
    let optional = [
        "_class_name",
        "_diffusers_version",
        "force_upcast",
        "lookup_from_codebook",
        "sample_size",
        "scaling_factor",
        "in_channels",
        "out_channels",
        "act_fn",
        "norm_type",
        "vq_embed_dim",
    ];
    for object in ["", "/text_encoder", "/base", "/base/decode", "/superres/coarse", "/vq_base"] {
        let keys: Vec<String> =
            whole().pointer(object).unwrap().as_object().unwrap().keys().cloned().collect();
        for key in keys.iter().filter(|key| !optional.contains(&key.as_str())) {
            let mut config = whole();
            config.pointer_mut(object).unwrap().as_object_mut().unwrap().remove(key);
            let error = parse(&config).expect_err(key).to_string();
            assert!(error.contains("model/config.json: "), "{error}");
            assert!(error.contains(key), "{key}: {error}");
        }
        let mut config = whole();
        config.pointer_mut(object).unwrap()["surprise"] = json!(1);
        let error = parse(&config).unwrap_err().to_string();
        let path = format!("{object}/surprise")[1..].replace('/', ".");
        let wanted = format!("model/config.json: {path}: unknown field `surprise`");
        assert!(error.contains(&wanted), "{error}");
    }
}

#[test]
fn values_that_cannot_be_used_name_their_key() {
    let huge = json!(1u64 << 40);
    let cases = [
        ("/format", json!("safetensors"), "format: \"safetensors\" is not supported"),
        ("/version", json!(2), "version: 2 is not supported; expected 1"),
        ("/name", json!(""), "name: "),
        ("/name", json!("a\u{1b}[31mb"), "name: "),
        ("/text_encoder/class", json!("T5EncoderModel"), "text_encoder.class: \"T5EncoderModel\""),
        ("/text_encoder/vocab_size", huge.clone(), "text_encoder.vocab_size: "),
        (
            "/text_encoder/num_attention_heads",
            json!(7),
            "text_encoder.num_attention_heads: 7; it must divide",
        ),
        ("/text_encoder/max_length", json!(513), "text_encoder.max_length: 513; expected 1 to 512"),
        ("/text_encoder/max_length", json!(2), "text_encoder.max_length: no room"),
        ("/text_encoder/layer_norm_eps", json!(-1.0), "text_encoder.layer_norm_eps: -1;"),
        ("/base/hidden_size", json!(0), "base.hidden_size: 0; expected 1 to"),
        ("/base/hidden_size", huge.clone(), "base.hidden_size: "),
        ("/base/num_heads", json!(3), "base.num_heads: 3; it must divide hidden_size 256"),
        ("/base/num_layers", json!(-1), "base.num_layers: invalid value: integer `-1`"),
        ("/base/num_layers", json!("6"), "base.num_layers: invalid type: string"),
        ("/base/text_size", json!(512), "base.text_size: 512, but text_encoder.hidden_size is 384"),
        (
            "/base/codebook_size",
            json!(512),
            "base.codebook_size: 512, but vq_base.num_vq_embeddings is 1024",
        ),
        ("/base/grid", json!([8]), "base.grid"),
        ("/base/grid", json!([8, 0]), "base.grid[1]: 0; expected 1 to 256"),
        ("/base/grid", json!([9, 8]), "superres.coarse.grid: [8, 8], but base.grid is [9, 8]"),
        ("/base/decode/steps", json!(0), "base.decode.steps: 0; expected 1 to 64"),
        ("/base/decode/steps", json!(65), "base.decode.steps: 65; expected 1 to 64"),
        ("/base/decode/steps", json!(1.5), "base.decode.steps: invalid type"),
        (
            "/base/decode/guidance",
            json!(1e9),
            "base.decode.guidance: 1000000000; expected 0 to 100",
        ),
        ("/base/decode/temperature", json!(1e300), "base.decode.temperature: inf"),
        ("/base/decode/top_k", json!(1025), "base.decode.top_k: 1025; expected 0 (all) to 1024"),
        (
            "/superres/grid",
            json!([16, 15]),
            "superres.grid: [16, 15], but twice base.grid is [16, 16]",
        ),
        (
            "/superres/coarse/in_place",
            json!(false),
            "superres.coarse.in_place: false is not supported",
        ),
        (
            "/superres/coarse/codebook_size",
            json!(1),
            "superres.coarse.codebook_size: 1, but base.codebook_size",
        ),
        (
            "/superres/multi_axis",
            json!([4, 3]),
            "superres.multi_axis: blocks of [4, 3]; expected parts of the grid [16, 16]",
        ),
        ("/superres/multi_axis", json!([0, 4]), "superres.multi_axis: blocks of [0, 4]"),
        ("/superres/coarse", Value::Null, "superres.coarse: missing"),
        ("/superres", Value::Null, "superres: missing"),
        ("/vq_superres", Value::Null, "vq_superres: missing"),
        ("/vq_base/act_fn", json!("relu"), "vq_base.act_fn: \"relu\" is not supported"),
        ("/vq_base/norm_type", json!("spatial"), "vq_base.norm_type: "),
        ("/vq_base/mid_block_add_attention", json!(true), "vq_base.mid_block_add_attention: true"),
        (
            "/vq_base/down_block_types/1",
            json!("AttnDownEncoderBlock2D"),
            "vq_base.down_block_types[1]: ",
        ),
        ("/vq_base/up_block_types", json!([]), "vq_base.up_block_types: 0 blocks"),
        (
            "/vq_base/block_out_channels",
            json!([]),
            "vq_base.block_out_channels: 0; expected 1 to 8",
        ),
        ("/vq_base/block_out_channels/2", json!(97), "vq_base.block_out_channels[2]: 97;"),
        ("/vq_base/norm_num_groups", json!(0), "vq_base.norm_num_groups: 0;"),
        ("/vq_base/in_channels", json!(4), "vq_base.in_channels: 4 is not supported"),
        ("/vq_base/num_vq_embeddings", huge, "vq_base.num_vq_embeddings: "),
    ];
    for (pointer, value, wanted) in cases {
        let error = refused(pointer, value);
        assert!(error.contains(&format!("model/config.json: {wanted}")), "{pointer}: {error}");
    }
}

#[test]
fn sizes_that_are_each_allowed_but_not_together() {
    let mut config = whole();
    config["base"]["grid"] = json!([256, 256]);
    config["base"]["mlp_size"] = json!(65_536);
    let error = parse(&config).unwrap_err().to_string();
    assert!(error.contains("base: an MLP of [2, 65536, 65536] elements"), "{error}");
    let mut config = whole();
    config["vq_base"]["block_out_channels"] = json!([32, 64, 4096, 128]);
    assert!(parse(&config).is_ok());
    config["base"]["grid"] = json!([256, 256]);
    let error = parse(&config).unwrap_err().to_string();
    assert!(error.contains("vq_base: an image of "), "{error}");
}

#[test]
fn bytes_that_are_no_config() {
    let nested = "[".repeat(100_000);
    let twice = format!("{}{}", whole(), "{}");
    for json in ["", "{", "[]", "null", "1", "\"a\"", "{}", &nested, &twice, "\u{feff}{}"] {
        let error = Config::parse(json.as_bytes(), Path::new("config.json")).unwrap_err();
        assert!(error.to_string().starts_with("config.json: "), "{error}");
    }
    assert!(Config::parse(b"\xff\xfe{\x80", Path::new("config.json")).is_err());
}

#[test]
fn directories_that_are_no_model() {
    let folder = tempfile::tempdir().unwrap();
    let refused = |dir: &Path| {
        let error = Config::read(dir).unwrap_err();
        assert_eq!(error.exit_code(), 3, "{error}");
        error.to_string()
    };
    assert!(refused(&folder.path().join("none")).contains("no such directory"));
    assert!(refused(folder.path()).contains("it holds no config.json"));
    let file = folder.path().join("config.json");
    fs::create_dir(&file).unwrap();
    assert!(refused(folder.path()).contains("not a JSON file"));
    fs::remove_dir(&file).unwrap();
    fs::write(&file, vec![b' '; MAX_BYTES as usize + 1]).unwrap();
    assert!(refused(folder.path()).contains("at most 1 MiB"));
    fs::write(&file, whole().to_string()).unwrap();
    assert!(refused(&file).contains("not a directory"));
    assert!(Config::read(folder.path()).is_ok());
}
