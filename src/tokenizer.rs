//! From a prompt to the text encoder's token ids: a WordPiece `tokenizer.json` of Hugging Face.
//!
//! Normalising and splitting are the `tokenizers` crate's. The vocabulary is ours: the crate
//! allocates two strings for every one of 30,000 tokens, which takes longer than all the rest of
//! loading a model. CLIP's tokenizer is in [`clip`].

pub mod clip;
#[cfg(test)]
mod tests;
mod vocabulary;

use std::path::Path;

use serde::Deserialize;
use tokenizers::decoders::wordpiece::WordPiece as Decoder;
use tokenizers::normalizers::BertNormalizer;
use tokenizers::pre_tokenizers::bert::BertPreTokenizer;
use tokenizers::processors::bert::BertProcessing;
use tokenizers::{AddedToken, TokenizerImpl};

use crate::error::{Error, Result};
use vocabulary::{Vocabulary, WordPiece};

/// Longest file that is read; BERT's has 466 KB.
const MAX_BYTES: u64 = 64 << 20;

/// A BERT tokenizer.
pub struct Tokenizer {
    inner: TokenizerImpl<Vocabulary, BertNormalizer, BertPreTokenizer, BertProcessing, Decoder>,
    start: u32, // [CLS]
    end: u32,   // [SEP]
    size: usize,
}

/// A prompt as the text encoder reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoded {
    /// `[CLS]` or CLIP's start, the tokens, `[SEP]` or its end.
    pub ids: Vec<u32>,
    /// Tokens at the end of the prompt that found no room.
    pub truncated: usize,
}

/// The parts of a `tokenizer.json` that decide ids; padding and truncation are [`Tokenizer::encode`]'s.
#[derive(Deserialize)]
struct File<'a> {
    version: String,
    #[serde(default)]
    added_tokens: Vec<AddedToken>,
    normalizer: BertNormalizer,
    #[serde(rename = "pre_tokenizer")]
    _pre_tokenizer: BertPreTokenizer, // its type is checked
    #[serde(borrow)]
    model: WordPiece<'a>,
}

impl Tokenizer {
    /// Reads a `tokenizer.json`.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let metadata = std::fs::metadata(path).map_err(Error::io(path, "opening the tokenizer"))?;
        if !metadata.is_file() || metadata.len() > MAX_BYTES {
            return Err(Error::model(path, "not a JSON file of at most 64 MiB"));
        }
        let json = std::fs::read(path).map_err(Error::io(path, "reading the tokenizer"))?;
        Self::parse(&json, path)
    }

    /// Reads the bytes of a `tokenizer.json`; `path` is named in errors.
    pub fn parse(json: &[u8], path: &Path) -> Result<Self> {
        let unusable = |problem: String| {
            let expected = "expected the tokenizer.json of a BERT model (WordPiece)";
            Error::model(path, format!("{problem}; {expected}"))
        };
        let file: File = serde_json::from_slice(json).map_err(|e| unusable(e.to_string()))?;
        if file.version != "1.0" {
            return Err(unusable(format!("version {:?} is not supported", file.version)));
        }
        let vocabulary = Vocabulary::new(file.model).map_err(&unusable)?;
        let special = |token: &str| {
            vocabulary.get(token).ok_or_else(|| unusable(format!("no {token} in the vocabulary")))
        };
        let (start, end) = (special("[CLS]")?, special("[SEP]")?);
        let new = file.added_tokens.iter().find(|token| vocabulary.get(&token.content).is_none());
        if let Some(token) = new {
            let problem = format!("the added token {:?} is not in the vocabulary", token.content);
            return Err(unusable(problem));
        }
        let size = vocabulary.size();
        let mut inner = TokenizerImpl::new(vocabulary);
        inner
            .with_normalizer(Some(file.normalizer))
            .map_err(|e| unusable(e.to_string()))?
            .with_pre_tokenizer(Some(BertPreTokenizer));
        inner.add_tokens(file.added_tokens).map_err(|e| unusable(e.to_string()))?;
        Ok(Tokenizer { inner, start, end, size })
    }

    /// One more than the largest id: the rows the text encoder must have.
    pub fn vocabulary_size(&self) -> usize {
        self.size
    }

    /// `[CLS]`, as many tokens of `text` as fit, `[SEP]`: at most `max_length` (at least 2) ids.
    pub fn encode(&self, text: &str, max_length: usize) -> Result<Encoded> {
        let encoding = self
            .inner
            .encode_fast(text, false)
            .map_err(|e| Error::option("prompt", e, "text that the tokenizer can read"))?;
        let tokens = encoding.get_ids();
        let kept = &tokens[..tokens.len().min(max_length.saturating_sub(2))];
        let ids = [&[self.start], kept, &[self.end]].concat();
        Ok(Encoded { ids, truncated: tokens.len() - kept.len() })
    }
}
