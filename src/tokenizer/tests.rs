//! Ids are those of the `tokenizers` crate's own reading of the same file.

use std::fs;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

const MINILM: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/models/demo/tokenizer.json");

fn reference() -> tokenizers::Tokenizer {
    let mut reference = tokenizers::Tokenizer::from_file(MINILM).unwrap();
    reference.with_truncation(None).unwrap();
    reference.with_padding(None);
    reference
}

fn long(word: &str, count: usize) -> String {
    vec![word; count].join(" ")
}

#[test]
fn ids_are_those_of_the_crate() {
    let (ours, reference) = (Tokenizer::open(MINILM).unwrap(), reference());
    let long_words = ["a".repeat(100), "a".repeat(101), "é".repeat(100), "é".repeat(101)];
    let texts = [
        "",
        " ",
        "a",
        "two apples and a cat on a blue background",
        "Two APPLES, and a Cat; on a (blue) background!!!",
        "unbelievably antidisestablishmentarianism xylophonist",
        "a kitty, a hound & a bumblebee",
        "don't can't won't it's o'clock",
        "e-mail@example.com http://example.com/a?b=c#d",
        "3.14159 1,000,000 10% $5.99 £3 €2 ¥100",
        "tab\tnewline\nreturn\r\nform\u{c}feed vertical\u{b}tab",
        "nul\0inside bell\u{7} escape\u{1b}[31m delete\u{7f}",
        "no\u{a0}break thin\u{2009}space ideographic\u{3000}space zero\u{200b}width",
        "soft\u{ad}hyphen left\u{200e}mark bom\u{feff}here replacement\u{fffd}",
        "café crème brûlée naïve façade Ångström",
        "cafe\u{301} cre\u{300}me nai\u{308}ve A\u{30a}ngstro\u{308}m",
        "Straße GROẞ ﬁne ﬂow Œuvre Ærø",
        "İstanbul ıslak DIŞ dotless",
        "ΑΒΓ ὈΔΥΣΣΕΎΣ τέλος",
        "Привет, мир! Ёлка и йогурт",
        "مرحبا بالعالم שָׁלוֹם עולם",
        "नमस्ते दुनिया สวัสดีชาวโลก",
        "你好，世界！两只苹果和一只猫",
        "日本語のテキスト、カタカナ",
        "한국어 텍스트 가나다",
        "\u{20000}\u{2a700}\u{2f800} rare ideographs",
        "two 🍎 and a 🐱 on blue",
        "👩‍👩‍👧‍👦 👍🏽 🇩🇪 ☂️",
        "mixed混合text文字",
        "[MASK] and [PAD] and [UNK]",
        "a[CLS]b [SEP] c[MASK]d",
        "[mask] [Mask] [ MASK ] [MASK",
        "##ing ## ing ##",
        "…—–‘’“”«»¿¡§¶†",
        "°±×÷√∞≈≠≤≥",
        "\u{e000}\u{f8ff}private \u{10ffff} last",
        "①②③ Ⅷ ½ ² ₃ ™ ©",
        "ｆｕｌｌｗｉｄｔｈ ＡＢＣ",
        "z̴͑a̵l̶g̷o̸",
        "\u{1f}\u{1e}\u{85}\u{2028}\u{2029}",
        "supercalifragilisticexpialidocious",
        "ababababababababababababababababababababab",
        "....................",
        "-_-_-_-_-",
        "a b  c   d    e",
        "  leading and trailing  ",
        "UPPER lower MiXeD",
        "\u{130}\u{131}\u{149}\u{1f0}\u{390}",
        "ǅ ǈ ǋ ǲ",
    ];
    let texts = texts.map(str::to_owned).into_iter().chain(long_words);
    for text in texts.chain([long("an unusually big elephant", 500)]) {
        let wanted = reference.encode(text.as_str(), true).unwrap();
        let encoded = ours.encode(&text, usize::MAX).unwrap();
        assert_eq!(encoded.ids, wanted.get_ids(), "{text:?}");
        assert_eq!(encoded.truncated, 0);
    }
}

#[test]
fn ids_are_those_of_the_crate_for_random_text() {
    let (ours, reference) = (Tokenizer::open(MINILM).unwrap(), reference());
    let word =
        prop_oneof!["[a-z]{1,12}", "[A-Za-zÀ-ÿ]{1,8}", "\\PC{1,6}", ".{0,6}", "[#\\[\\]MASK]{1,7}"];
    let text = proptest::collection::vec(word, 0..8).prop_map(|words| words.join(" "));
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
        cases: 3000,
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    let same = runner.run(&text, |text| {
        let wanted = reference.encode(text.as_str(), true).unwrap();
        prop_assert_eq!(&ours.encode(&text, usize::MAX).unwrap().ids[..], wanted.get_ids());
        Ok(())
    });
    same.unwrap();
}

#[test]
fn a_long_prompt_is_cut_and_says_so() {
    let tokenizer = Tokenizer::open(MINILM).unwrap();
    let whole = tokenizer.encode("a cat and a dog", usize::MAX).unwrap();
    assert_eq!(whole.ids.len(), 7);
    assert_eq!(tokenizer.encode("a cat and a dog", 7).unwrap(), whole);
    let cut = tokenizer.encode("a cat and a dog", 5).unwrap();
    assert_eq!(cut.ids, [&whole.ids[..4], &whole.ids[6..]].concat());
    assert_eq!(cut.truncated, 2);
    let cut = tokenizer.encode(&long("apple", 10_000), 64).unwrap();
    assert_eq!((cut.ids.len(), cut.truncated), (64, 10_000 - 62));
    assert_eq!(tokenizer.encode("", 64).unwrap().ids, [101, 102]);
    assert_eq!(tokenizer.encode("apple", 0).unwrap().ids, [101, 102]);
    assert_eq!(tokenizer.vocabulary_size(), 30_522);
}

fn small() -> Value {
    let token = |content: &str| {
        json!({"id": 0, "content": content, "single_word": false, "lstrip": false,
               "rstrip": false, "normalized": false, "special": true})
    };
    json!({
        "version": "1.0",
        "added_tokens": [token("[CLS]")],
        "normalizer": {"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true,
                       "strip_accents": null, "lowercase": true},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
                  "max_input_chars_per_word": 100,
                  "vocab": {"[UNK]": 0, "[CLS]": 1, "[SEP]": 2, "a\"b": 3, "cat": 4, "##s": 7}},
    })
}

fn parse(file: &Value) -> Result<Tokenizer> {
    Tokenizer::parse(file.to_string().as_bytes(), Path::new("model/tokenizer.json"))
}

#[test]
fn a_small_vocabulary_with_escapes_and_gaps() {
    let tokenizer = parse(&small()).unwrap();
    assert_eq!(tokenizer.vocabulary_size(), 8);
    assert_eq!(tokenizer.encode("Cats dogs", 9).unwrap().ids, [1, 4, 7, 0, 2]);
}

#[test]
fn files_that_are_no_bert_tokenizer() {
    let cases = [
        ("/version", json!("2.0"), "version \"2.0\" is not supported"),
        ("/normalizer", json!({"type": "NFC"}), "clean_text"),
        ("/normalizer", Value::Null, "invalid type"),
        ("/pre_tokenizer", json!({"type": "ByteLevel"}), "tokenizer.json: "),
        ("/model/type", json!("BPE"), "a BPE model is not supported"),
        ("/model/vocab", json!({}), "no [UNK] in the vocabulary"),
        ("/model/vocab", json!(["[UNK]"]), "expected a map from tokens to ids"),
        ("/model/vocab/cat", json!(-1), "invalid value"),
        ("/model/vocab/cat", json!("4"), "invalid type"),
        ("/model/unk_token", json!("<unk>"), "no <unk> in the vocabulary"),
        ("/added_tokens/0/content", json!("[NEW]"), "\"[NEW]\" is not in the vocabulary"),
    ];
    for (pointer, value, wanted) in cases {
        let mut file = small();
        *file.pointer_mut(pointer).unwrap() = value;
        let error = parse(&file).err().expect(pointer);
        assert_eq!(error.exit_code(), 3);
        let error = error.to_string();
        assert!(error.starts_with("model/tokenizer.json: "), "{error}");
        assert!(error.contains(wanted), "{pointer}: {error}");
        assert!(error.contains("expected the tokenizer.json of a BERT model"), "{error}");
    }
    for special in ["[CLS]", "[SEP]"] {
        let mut file = small();
        file["added_tokens"] = json!([]);
        file["model"]["vocab"].as_object_mut().unwrap().remove(special);
        let error = parse(&file).err().unwrap().to_string();
        assert!(error.contains(&format!("no {special} in the vocabulary")), "{error}");
    }
    for json in ["", "{", "[]", "\u{feff}{}", &"[".repeat(100_000)] {
        assert!(Tokenizer::parse(json.as_bytes(), Path::new("x")).is_err());
    }
}

#[test]
fn paths_that_are_no_file() {
    let folder = tempfile::tempdir().unwrap();
    let error = Tokenizer::open(folder.path().join("tokenizer.json")).err().unwrap();
    assert_eq!(error.exit_code(), 4);
    assert!(Tokenizer::open(folder.path()).err().unwrap().to_string().contains("not a JSON file"));
    let path = folder.path().join("tokenizer.json");
    fs::write(&path, &fs::read(MINILM).unwrap()[..200_000]).unwrap();
    assert!(Tokenizer::open(&path).err().unwrap().to_string().contains("EOF"));
}
