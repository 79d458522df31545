//! Reading the folder, on a small vocabulary; `tests/clip_vocabulary.rs` holds the real one's ids
//! to transformers'.

use std::fs;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;

fn vocabulary() -> Value {
    let tokens = ["c", "a", "t", "c</w>", "a</w>", "t</w>", "!", "!</w>", "ca", "cat</w>"];
    let tokens = tokens.into_iter().chain(["<|startoftext|>", "<|endoftext|>"]);
    tokens.enumerate().map(|(id, token)| (token.to_owned(), json!(id))).collect::<Value>()
}

const MERGES: &str = "#version: 0.2\nc a\nca t</w>\n";

fn folder(files: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        fs::write(folder.path().join(name), text).unwrap();
    }
    folder
}

fn ids(files: &[(&str, &str)], text: &str) -> Vec<u32> {
    let folder = folder(files);
    ClipTokenizer::open(folder.path()).unwrap().encode(text, 77).unwrap().ids
}

#[test]
fn both_layouts_and_the_cut() {
    let vocab = vocabulary().to_string();
    let files = [("vocab.json", vocab.as_str()), ("merges.txt", MERGES)];
    assert_eq!(ids(&files, " CAT\tca!\u{3000}cat"), [10, 9, 0, 4, 7, 9, 11]);
    let merges = [json!([["c", "a"], ["ca", "t</w>"]]), json!(["c a", "ca t</w>"])];
    for merges in merges {
        let model = json!({"type": "BPE", "end_of_word_suffix": "</w>", "vocab": vocabulary(), "merges": merges});
        let whole = json!({"version": "1.0", "model": model}).to_string();
        assert_eq!(ids(&[("tokenizer.json", &whole)], "cat a"), [10, 9, 4, 11]);
    }
    let folder = folder(&files);
    let tokenizer = ClipTokenizer::open(folder.path()).unwrap();
    assert_eq!((tokenizer.vocabulary_size(), tokenizer.pad()), (12, 11));
    let cut = tokenizer.encode("cat a cat a cat", 5).unwrap();
    assert_eq!(cut, Encoded { ids: vec![10, 9, 4, 9, 11], truncated: 2 });
    assert_eq!(tokenizer.encode("", 77).unwrap().ids, [10, 11]);
}

/// As transformers does it: the map before the settings; a plain text is matched before the text is
/// normalised, an object as it says; of different ones for one text the last new one holds.
#[test]
fn special_tokens_are_read_from_the_files() {
    let vocab = vocabulary().to_string();
    let files = [("vocab.json", vocab.as_str()), ("merges.txt", MERGES)];
    let end =
        json!({"content": "<|endoftext|>", "normalized": true, "lstrip": false, "rstrip": false});
    let settings = json!({"pad_token": "<|endoftext|>", "tokenizer_class": "CLIPTokenizer"});
    let map = json!({"eos_token": end, "unk_token": end, "pad_token": "!"});
    let (settings, map) = (settings.to_string(), map.to_string());
    let with = |more: &[(&str, &str)]| {
        let folder = folder(&[&files, more].concat());
        let tokenizer = ClipTokenizer::open(folder.path()).unwrap();
        (tokenizer.pad(), tokenizer.encode("cat! <|EndOfText|>cat", 77).unwrap().ids)
    };
    let (pad, plain) = with(&[("tokenizer_config.json", &settings)]);
    // GPT-2's split makes "<|", "endoftext" and "|>" of it; of their letters only t is known.
    let letters = [11, 11, 11, 11, 11, 11, 11, 2, 11, 11, 5, 11, 11];
    assert_eq!((pad, &plain), (11, &[&[10, 9, 7][..], &letters, &[9, 11]].concat()));
    let (pad, mapped) =
        with(&[("tokenizer_config.json", &settings), ("special_tokens_map.json", &map)]);
    assert_eq!((pad, mapped), (6, vec![10, 9, 6, 11, 9, 11]));
    let text = "<|endoftext|>";
    let maps = [
        (json!({"eos_token": end, "unk_token": end, "pad_token": text}), false),
        (json!({"eos_token": text, "unk_token": end, "pad_token": text}), true),
        (json!({"eos_token": text, "unk_token": text, "pad_token": end}), true),
    ];
    for (map, any_case) in maps {
        let map = map.to_string();
        let (_, ids) = with(&[("special_tokens_map.json", &map)]);
        let wanted = if any_case { vec![10, 9, 7, 11, 9, 11] } else { plain.clone() };
        assert_eq!(ids, wanted, "{map}");
    }
}

#[test]
fn bad_folders_are_named() {
    let vocab = vocabulary().to_string();
    let twice = vocab.replace(":9", ":8");
    let headless = vocab.replace("startoftext", "begin");
    let wordpiece = json!({"model": {"type": "WordPiece", "vocab": {}, "merges": []}}).to_string();
    let byte_level = json!({"model": {"type": "BPE", "vocab": {}, "merges": []}}).to_string();
    let t5 = json!({"tokenizer_class": "T5Tokenizer"}).to_string();
    let added = json!({"added_tokens_decoder": {"12": {"content": "<new>"}}}).to_string();
    let good = ("merges.txt", MERGES);
    let cases: &[(&[(&str, &str)], &str)] = &[
        (&[], "neither vocab.json with merges.txt nor tokenizer.json"),
        (&[("vocab.json", &vocab)], "merges.txt: opening the tokenizer"),
        (&[("vocab.json", "{"), good], "vocab.json: EOF"),
        (&[("vocab.json", "{\"a\": -1}"), good], "vocab.json: invalid value"),
        (&[("vocab.json", &twice), good], "vocab.json: \"ca\" and \"cat</w>\" have the same id 8"),
        (&[("vocab.json", &headless), good], "vocab.json: no \"<|startoftext|>\", the start token"),
        (&[("vocab.json", &vocab), ("merges.txt", "c a\nc")], "merges.txt: line 2: \"c\""),
        (&[("vocab.json", &vocab), ("merges.txt", "c  a")], "merges.txt: line 1: \"c  a\""),
        (&[("vocab.json", &vocab), ("merges.txt", "c x")], "merges.txt: "),
        (&[("tokenizer.json", &wordpiece)], "a WordPiece model"),
        (&[("tokenizer.json", &byte_level)], "whose words end in \"\""),
        (
            &[("vocab.json", &vocab), good, ("tokenizer_config.json", &t5)],
            "tokenizer_config.json: class \"T5Tokenizer\" is not supported",
        ),
        (
            &[("vocab.json", &vocab), good, ("tokenizer_config.json", &added)],
            "the added token \"<new>\" is not in the vocabulary",
        ),
        (
            &[("vocab.json", &vocab), good, ("special_tokens_map.json", "{\"pad_token\": \"?\"}")],
            "no \"?\", the padding token",
        ),
    ];
    for (files, expected) in cases {
        let folder = folder(files);
        let error = ClipTokenizer::open(folder.path()).err().expect(expected).to_string();
        assert!(error.contains(expected), "{error}\nexpected {expected}");
    }
}
