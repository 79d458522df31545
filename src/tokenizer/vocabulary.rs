//! WordPiece over one flat vocabulary: all tokens in one string, found through one hash table.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::path::{Path, PathBuf};

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use tokenizers::models::wordpiece::WordPieceTrainer;
use tokenizers::{Model, Token};

/// The `model` of a `tokenizer.json`.
#[derive(serde::Deserialize)]
pub(super) struct WordPiece<'a> {
    #[serde(rename = "type")]
    class: String,
    unk_token: String,
    continuing_subword_prefix: String,
    max_input_chars_per_word: usize,
    #[serde(borrow)]
    vocab: Tokens<'a>,
}

/// Tokens and ids in the file's order, borrowed from it where JSON needs no escape.
struct Tokens<'a>(Vec<(Cow<'a, str>, u32)>);

/// `Cow` alone would copy every key.
#[derive(serde::Deserialize)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Tokens<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;

        impl<'de> Visitor<'de> for Entries {
            type Value = Tokens<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map from tokens to ids")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Tokens<'de>, A::Error> {
                let mut entries = Vec::with_capacity(1 << 15);
                while let Some((Key(token), id)) = map.next_entry()? {
                    entries.push((token, id));
                }
                Ok(Tokens(entries))
            }
        }
        deserializer.deserialize_map(Entries)
    }
}

/// A vocabulary and how words are cut into its tokens.
pub(super) struct Vocabulary {
    text: String,        // every token, one after the other
    entries: Vec<Entry>, // where each lies
    slots: Vec<u32>,     // entry + 1, or 0: open addressing, at most half full
    hasher: RandomState,
    unknown: u32,
    prefix: String,
    longest_word: usize,
}

struct Entry {
    start: u32,
    end: u32,
    id: u32,
}

impl Vocabulary {
    pub fn new(model: WordPiece<'_>) -> Result<Self, String> {
        if model.class != "WordPiece" {
            return Err(format!("a {} model is not supported", model.class));
        }
        let tokens = model.vocab.0;
        let bytes = tokens.iter().map(|(token, _)| token.len()).sum();
        if u32::try_from(bytes).is_err() {
            return Err(format!("a vocabulary of {bytes} bytes is not supported"));
        }
        let mut vocabulary = Vocabulary {
            text: String::with_capacity(bytes),
            entries: Vec::with_capacity(tokens.len()),
            slots: vec![0; (2 * tokens.len() + 2).next_power_of_two()],
            hasher: RandomState::new(),
            unknown: 0,
            prefix: model.continuing_subword_prefix,
            longest_word: model.max_input_chars_per_word,
        };
        for (token, id) in &tokens {
            vocabulary.insert(token, *id);
        }
        let missing = || format!("no {} in the vocabulary", model.unk_token);
        vocabulary.unknown = vocabulary.get(&model.unk_token).ok_or_else(missing)?;
        Ok(vocabulary)
    }

    /// A token that is there twice has the later id.
    fn insert(&mut self, token: &str, id: u32) {
        let slot = self.slot(token);
        match self.slots[slot] {
            0 => {
                let start = self.text.len() as u32;
                self.text.push_str(token);
                self.entries.push(Entry { start, end: self.text.len() as u32, id });
                self.slots[slot] = self.entries.len() as u32;
            }
            entry => self.entries[entry as usize - 1].id = id,
        }
    }

    /// The slot that holds `token`, or the empty one where it would be.
    fn slot(&self, token: &str) -> usize {
        let mask = self.slots.len() - 1;
        let mut slot = self.hasher.hash_one(token) as usize & mask;
        while self.slots[slot] != 0 && self.token(self.slots[slot]) != token {
            slot = (slot + 1) & mask;
        }
        slot
    }

    fn token(&self, entry: u32) -> &str {
        let Entry { start, end, .. } = self.entries[entry as usize - 1];
        &self.text[start as usize..end as usize]
    }

    pub fn get(&self, token: &str) -> Option<u32> {
        let entry = self.slots[self.slot(token)].checked_sub(1)?;
        Some(self.entries[entry as usize].id)
    }

    /// One more than the largest id.
    pub fn size(&self) -> usize {
        self.entries.iter().map(|entry| entry.id as usize + 1).max().unwrap_or(0)
    }

    /// The longest tokens that a word begins with, one after the other; `None` where none fits.
    fn cut(&self, word: &str) -> Option<Vec<Token>> {
        let mut tokens = Vec::new();
        let mut start = 0;
        let mut candidate = word.to_owned();
        while start < word.len() {
            let prefix = if start == 0 { 0 } else { self.prefix.len() };
            let id = loop {
                if let Some(id) = self.get(&candidate) {
                    break id;
                }
                candidate.pop();
                if candidate.len() <= prefix {
                    return None;
                }
            };
            let end = start + candidate.len() - prefix;
            tokens.push(Token::new(id, String::new(), (start, end)));
            start = end;
            candidate.clear();
            candidate.push_str(&self.prefix);
            candidate.push_str(&word[start..]);
        }
        Some(tokens)
    }
}

impl Model for Vocabulary {
    type Trainer = WordPieceTrainer;

    fn tokenize(&self, word: &str) -> tokenizers::Result<Vec<Token>> {
        let known = word.chars().count() <= self.longest_word;
        let tokens = if known { self.cut(word) } else { None };
        Ok(tokens.unwrap_or_else(|| vec![Token::new(self.unknown, String::new(), (0, word.len()))]))
    }

    fn token_to_id(&self, token: &str) -> Option<u32> {
        self.get(token)
    }

    fn id_to_token(&self, id: u32) -> Option<String> {
        let entry = self.entries.iter().find(|entry| entry.id == id)?;
        Some(self.text[entry.start as usize..entry.end as usize].into())
    }

    fn get_vocab(&self) -> HashMap<String, u32> {
        let token = |entry: &Entry| self.text[entry.start as usize..entry.end as usize].to_owned();
        self.entries.iter().map(|entry| (token(entry), entry.id)).collect()
    }

    fn get_vocab_size(&self) -> usize {
        self.entries.len()
    }

    fn save(&self, _: &Path, _: Option<&str>) -> tokenizers::Result<Vec<PathBuf>> {
        Err("this vocabulary is only read".into())
    }

    fn get_trainer(&self) -> WordPieceTrainer {
        WordPieceTrainer::builder().build()
    }
}
