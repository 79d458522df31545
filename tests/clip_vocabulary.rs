//! CLIP's real vocabulary: the ids of transformers' `CLIPTokenizer` on 12,288 mixed texts and on
//! every Unicode code point. `tools/reference/clip_tokenizer.py` wrote the hashes and says what they
//! are. Not among the default tests, as it needs files that `scripts/clip_vocabulary.py` downloads:
//! `cargo test --test clip_vocabulary`, which `scripts/test.sh` runs.

use muse::tokenizer::clip::ClipTokenizer;
use serde::Deserialize;

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/target/clip");
const LENGTH: usize = 77;
const WORDS: &str = "a photo of the cat, DOGS don't it's we'll I'D you've they're I'm 'S 'T 1234 3.14 \
    unbelievable antidisestablishmentarianism <|startoftext|> <|endoftext|> <|EndOfText|> \
    <|endoftext </w> #version ## # &amp; http://a.b/c?d=e 'tis rock'n'roll !!! ... ?! -- __ (a) [b] \
    caf\u{e9} cafe\u{301} \u{1c5} \u{fb01}ne stra\u{df}e \u{130}stanbul \u{3a3}\u{3a3} \u{1f88} \u{bd} \
    \u{2460} \u{216b} \u{663} \u{1f468}\u{200d}\u{1f469} \u{2764}\u{fe0f} \u{1f1e9}\u{1f1ea}";
const SPACES: [u32; 22] = [
    9, 10, 11, 12, 13, 28, 29, 30, 31, 32, 0x85, 0xA0, 0x1680, 0x2003, 0x200B, 0x2028, 0x2029,
    0x202F, 0x205F, 0x3000, 0xFEFF, 0x180E,
];
const RANGES: [(u32, u32); 16] = [
    (0x20, 0x7F),
    (0x00, 0x20),
    (0xA0, 0x250),
    (0x300, 0x370),
    (0x370, 0x530),
    (0x590, 0x780),
    (0x900, 0xE80),
    (0x1100, 0x1200),
    (0x2000, 0x2C00),
    (0x3000, 0x3400),
    (0x4E00, 0xA000),
    (0xAC00, 0xD7A4),
    (0xF900, 0x10000),
    (0x1D400, 0x1D800),
    (0x1F000, 0x1FB00),
    (0, 0x110000),
];

#[derive(Deserialize)]
struct Golden {
    random: Vec<u32>,
    sweep: Vec<u32>,
}

/// SplitMix64.
struct Counter(u64);

impl Counter {
    fn below(&mut self, n: u32) -> u32 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) % u64::from(n)) as u32
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len() as u32) as usize]
    }
}

fn scalar(code: u32) -> char {
    char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER)
}

fn random_text(index: usize) -> String {
    let words: Vec<&str> = WORDS.split(' ').collect();
    let mut counter = Counter((index as u64) << 32);
    let home = *counter.pick(&RANGES);
    let pieces = counter.below(if index % 256 == 255 { 2000 } else { 24 });
    let mut text = String::new();
    for _ in 0..pieces {
        let kind = counter.below(8);
        match kind {
            0 | 1 => {
                text.push_str(counter.pick::<&str>(&words));
                text.extend((kind == 0).then_some(' '));
            }
            2 => text.push(scalar(*counter.pick(&SPACES))),
            _ => {
                let (low, high) = if kind == 3 { *counter.pick(&RANGES) } else { home };
                text.push(scalar(low + counter.below(high - low)));
            }
        }
    }
    text
}

fn sweep_text(index: usize) -> String {
    let characters = (0..16).map(|i| scalar((16 * index + i) as u32));
    characters.map(|c| format!("a{c}b{c}")).collect::<Vec<_>>().join(" ")
}

fn fold(hash: u32, ids: &[u32]) -> u32 {
    ids.iter().fold(hash, |hash, id| (hash ^ id).wrapping_mul(0x0100_0193))
}

/// The hash of a text's ids, whole and of the encoder's length, after `hash`.
fn hash(tokenizer: &ClipTokenizer, hash: u32, text: &str) -> u32 {
    let whole = tokenizer.encode(text, usize::MAX).unwrap();
    assert_eq!(whole.truncated, 0);
    let mut cut = tokenizer.encode(text, LENGTH).unwrap();
    assert_eq!(cut.ids.len() + cut.truncated, whole.ids.len(), "{text:?}");
    cut.ids.resize(LENGTH, tokenizer.pad());
    fold(fold(hash, &whole.ids), &cut.ids)
}

fn open() -> (ClipTokenizer, Golden) {
    let tokenizer = ClipTokenizer::open(FOLDER)
        .unwrap_or_else(|e| panic!("{e}\nrun: python3 scripts/clip_vocabulary.py"));
    let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/clip_tokenizer.json");
    (tokenizer, serde_json::from_slice(&std::fs::read(golden).unwrap()).unwrap())
}

#[test]
fn a_known_prompt() {
    let (tokenizer, _) = open();
    let ids = tokenizer.encode("a photo of a cat", LENGTH).unwrap().ids;
    assert_eq!(ids, [49406, 320, 1125, 539, 320, 2368, 49407]);
    assert_eq!((tokenizer.pad(), tokenizer.vocabulary_size()), (49407, 49408));
}

#[test]
fn mixed_texts_have_the_ids_of_transformers() {
    let (tokenizer, golden) = open();
    assert_eq!(golden.random.len(), 12_288);
    let texts = golden.random.iter().enumerate().map(|(i, hash)| (random_text(i), hash));
    let wrong: Vec<String> = texts
        .filter(|(text, wanted)| hash(&tokenizer, 0x811C_9DC5, text) != **wanted)
        .map(|(text, _)| text)
        .collect();
    assert!(wrong.is_empty(), "{} texts differ, first {:?}", wrong.len(), wrong[0]);
}

#[test]
fn every_code_point_has_the_ids_of_transformers() {
    let (tokenizer, golden) = open();
    assert_eq!(golden.sweep.len(), 0x11_0000 / 16 / 64);
    let group = |i: usize| {
        (64 * i..64 * (i + 1)).fold(0x811C_9DC5, |h, text| hash(&tokenizer, h, &sweep_text(text)))
    };
    let wrong: Vec<String> = (0..golden.sweep.len())
        .filter(|&i| group(i) != golden.sweep[i])
        .map(|i| format!("U+{:04X}..U+{:04X}", 1024 * i, 1024 * (i + 1) - 1))
        .collect();
    assert!(wrong.is_empty(), "{} groups differ: {}", wrong.len(), wrong.join(", "));
}
