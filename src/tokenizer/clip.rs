//! CLIP's tokenizer, from a `tokenizer/` folder of Hugging Face: `vocab.json` and `merges.txt`, or
//! `tokenizer.json`.
//!
//! NFC, runs of white space to one space, lower case; words, digits one by one and runs of other
//! characters; their bytes as characters (GPT-2's byte level); byte pair encoding whose words end
//! in `</w>`. The ids are those of transformers' `CLIPTokenizer`: it takes vocabulary and merges
//! from these files and the rest from its own code, and so do we.

mod files;
#[cfg(test)]
mod tests;

use std::path::Path;

use tokenizers::decoders::byte_level::ByteLevel as Decoder;
use tokenizers::models::bpe::BPE;
use tokenizers::normalizers::{self, Lowercase, NFC, Replace, replace::ReplacePattern};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::processors::roberta::RobertaProcessing;
use tokenizers::{AddedToken, Model, SplitDelimiterBehavior, TokenizerImpl};

use super::Encoded;
use crate::error::{Error, Result};
use files::Files;

const WORDS: &str =
    r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+";

/// A CLIP tokenizer.
pub struct ClipTokenizer {
    inner: TokenizerImpl<BPE, normalizers::Sequence, Sequence, RobertaProcessing, Decoder>,
    start: u32,
    end: u32,
    pad: u32,
    size: usize,
}

impl ClipTokenizer {
    /// Reads a `tokenizer/` folder.
    pub fn open(folder: impl AsRef<Path>) -> Result<Self> {
        let Files { vocabulary_path, vocabulary, merges_path, merges, special, added } =
            Files::read(folder.as_ref())?;
        let size = vocabulary.values().map(|&id| id as usize + 1).max().unwrap_or(0);
        let id = |role: &str, token: &AddedToken| {
            vocabulary.get(&token.content).copied().ok_or_else(|| {
                let problem = format!("no {:?}, the {role} token", token.content);
                Error::model(&vocabulary_path, format!("{problem}; fetch the folder again"))
            })
        };
        let start = id("start", &special.bos)?;
        let end = id("end", &special.eos)?;
        let pad = id("padding", &special.pad)?;
        let unknown = special.unk.content.clone();
        id("unknown", &special.unk)?;

        let unusable = |e: tokenizers::Error| {
            let problem = format!("{e}; expected the merges of {}", vocabulary_path.display());
            Error::model(&merges_path, problem)
        };
        let model = BPE::builder()
            .vocab_and_merges(
                vocabulary.into_iter().collect::<tokenizers::models::bpe::Vocab>(),
                merges,
            )
            .unk_token(unknown)
            .continuing_subword_prefix(String::new())
            .end_of_word_suffix("</w>".into())
            .build()
            .map_err(unusable)?;
        let new = added.iter().find(|token| model.token_to_id(&token.content).is_none());
        if let Some(token) = new {
            let problem = format!("the added token {:?} is not in the vocabulary", token.content);
            return Err(Error::model(&vocabulary_path, problem));
        }
        let spaces = Replace::new(ReplacePattern::Regex(r"\s+".into()), " ").map_err(unusable)?;
        let words = SplitPattern::Regex(WORDS.into());
        let words = Split::new(words, SplitDelimiterBehavior::Removed, true).map_err(unusable)?;
        let mut inner = TokenizerImpl::new(model);
        inner
            .with_normalizer(Some(normalizers::Sequence::new(vec![
                NFC.into(),
                spaces.into(),
                Lowercase.into(),
            ])))
            .map_err(unusable)?
            .with_pre_tokenizer(Some(Sequence::new(vec![
                words.into(),
                ByteLevel::new(false, true, true).into(),
            ])));
        inner.add_special_tokens(added).map_err(unusable)?;
        Ok(ClipTokenizer { inner, start, end, pad, size })
    }

    /// One more than the largest id: the rows the text encoder must have.
    pub fn vocabulary_size(&self) -> usize {
        self.size
    }

    /// The id that fills a prompt up to the text encoder's length.
    pub fn pad(&self) -> u32 {
        self.pad
    }

    /// The start token, as many tokens of `text` as fit, the end token: at most `max_length` (at
    /// least 2) ids.
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
