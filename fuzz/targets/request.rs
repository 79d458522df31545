//! Any text as a model's `config.json`, as its `tokenizer.json`, and as a request.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use muse::Request;
use muse::config::Config;
use muse::tokenizer::Tokenizer;

fuzz_target!(|data: &[u8]| {
    if let Ok(config) = Config::parse(data, Path::new("config.json")) {
        let positions = config.base.grid[0] * config.base.grid[1];
        assert!((1..=positions).contains(&config.base.decode.steps));
        assert_eq!(config.vq_base.block_out_channels.len(), config.vq_base.up_block_types.len());
    }
    let text = String::from_utf8_lossy(data);
    if let Ok(request) = Request::from_json(&text) {
        assert!(request.edit.is_some() || request.validate().is_ok()); // an edit's pixels come later
    }
    if let Ok(tokenizer) = Tokenizer::parse(data, Path::new("tokenizer.json"))
        && let Ok(encoded) = tokenizer.encode(&text, 64)
    {
        assert!(encoded.ids.len() <= 64);
        assert!(encoded.ids.iter().all(|&id| (id as usize) < tokenizer.vocabulary_size()));
    }
});
