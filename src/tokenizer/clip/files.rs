//! The files of a tokenizer folder: vocabulary, merges and special tokens.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokenizers::AddedToken;

use crate::error::{Error, Result};

/// Longest file that is read; CLIP's tokenizer.json has 2.2 MB.
const MAX_BYTES: u64 = 64 << 20;

/// Two tokens that are merged.
type Pair = (String, String);

pub(super) struct Files {
    pub vocabulary_path: PathBuf,
    pub vocabulary: HashMap<String, u32>,
    pub merges_path: PathBuf,
    pub merges: Vec<Pair>,
    pub special: SpecialTokens,
    pub added: Vec<AddedToken>, // in the order they are added: of those with one text, the last holds
}

pub(super) struct SpecialTokens {
    pub bos: AddedToken,
    pub eos: AddedToken,
    pub unk: AddedToken,
    pub pad: AddedToken,
}

/// What `special_tokens_map.json` and `tokenizer_config.json` say of a token.
#[derive(Clone, Deserialize)]
#[serde(untagged)]
enum Special {
    Text(String),
    Token(Flags),
}

#[derive(Clone, Deserialize)]
struct Flags {
    content: String,
    #[serde(default)]
    single_word: bool,
    #[serde(default)]
    lstrip: bool,
    #[serde(default)]
    rstrip: bool,
    #[serde(default = "yes")]
    normalized: bool,
}

fn yes() -> bool {
    true
}

impl From<Flags> for AddedToken {
    fn from(flags: Flags) -> Self {
        AddedToken::from(flags.content, true)
            .single_word(flags.single_word)
            .lstrip(flags.lstrip)
            .rstrip(flags.rstrip)
            .normalized(flags.normalized)
    }
}

impl From<Special> for AddedToken {
    fn from(special: Special) -> Self {
        match special {
            Special::Text(text) => AddedToken::from(text, true),
            Special::Token(flags) => flags.into(),
        }
    }
}

#[derive(Default, Deserialize)]
struct SpecialMap {
    bos_token: Option<Special>,
    eos_token: Option<Special>,
    unk_token: Option<Special>,
    pad_token: Option<Special>,
}

#[derive(Default, Deserialize)]
struct Settings {
    tokenizer_class: Option<String>,
    #[serde(flatten)]
    special: SpecialMap,
    added_tokens_decoder: Option<BTreeMap<String, Flags>>, // by id
}

#[derive(Deserialize)]
struct Whole {
    #[serde(default)]
    added_tokens: Vec<Flags>,
    model: Bpe,
}

#[derive(Deserialize)]
struct Bpe {
    #[serde(rename = "type")]
    class: Option<String>,
    end_of_word_suffix: Option<String>,
    vocab: HashMap<String, u32>,
    merges: Vec<Merge>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Merge {
    Pair(String, String),
    Line(String),
}

impl Files {
    pub fn read(folder: &Path) -> Result<Self> {
        let (vocab, merges) = (folder.join("vocab.json"), folder.join("merges.txt"));
        let whole = folder.join("tokenizer.json");
        let settings: Settings = optional(&folder.join("tokenizer_config.json"))?;
        if let Some(class) = settings.tokenizer_class
            && !["CLIPTokenizer", "CLIPTokenizerFast"].contains(&class.as_str())
        {
            let problem = format!("class {class:?} is not supported; expected \"CLIPTokenizer\"");
            return Err(Error::model(folder.join("tokenizer_config.json"), problem));
        }
        let (vocabulary_path, vocabulary, merges_path, merges, from_whole) = if vocab.exists() {
            let vocabulary = json(&vocab)?;
            let lines = merge_lines(&merges)?;
            (vocab, vocabulary, merges, lines, Vec::new())
        } else if whole.exists() {
            let Whole { added_tokens, model } = json(&whole)?;
            let (vocabulary, merges) = model.parts(&whole)?;
            (whole.clone(), vocabulary, whole, merges, added_tokens)
        } else {
            let problem = "neither vocab.json with merges.txt nor tokenizer.json is here; fetch \
                           the folder again";
            return Err(Error::model(folder, problem));
        };
        check_ids(&vocabulary_path, &vocabulary)?;

        let map: SpecialMap = optional(&folder.join("special_tokens_map.json"))?;
        let role = |map: Option<Special>, settings: Option<Special>, usual: &str| {
            map.or(settings).unwrap_or_else(|| Special::Text(usual.into())).into()
        };
        let (start, end) = ("<|startoftext|>", "<|endoftext|>");
        let special = SpecialTokens {
            bos: role(map.bos_token, settings.special.bos_token, start),
            eos: role(map.eos_token, settings.special.eos_token, end),
            unk: role(map.unk_token, settings.special.unk_token, end),
            pad: role(map.pad_token, settings.special.pad_token, end),
        };
        let declared = settings.added_tokens_decoder.unwrap_or_default().into_values();
        let mut added: Vec<AddedToken> =
            from_whole.into_iter().chain(declared).map(Into::into).collect();
        let declared = added.len();
        // As transformers does: what is declared stays, and a repetition is not added again.
        for token in [&special.bos, &special.eos, &special.unk, &special.pad] {
            let stays = added[..declared].iter().any(|known| known.content == token.content);
            if !stays && !added.iter().any(|known| same(known, token)) {
                added.push(token.clone());
            }
        }
        Ok(Files { vocabulary_path, vocabulary, merges_path, merges, special, added })
    }
}

/// Equal in all that decides where it matches; the crate's own equality looks at the text only.
fn same(a: &AddedToken, b: &AddedToken) -> bool {
    let key = |t: &AddedToken| (t.single_word, t.lstrip, t.rstrip, t.normalized);
    a.content == b.content && key(a) == key(b)
}

impl Bpe {
    fn parts(self, path: &Path) -> Result<(HashMap<String, u32>, Vec<Pair>)> {
        let class = self.class.as_deref().unwrap_or("BPE");
        let suffix = self.end_of_word_suffix.as_deref().unwrap_or("");
        if class != "BPE" || suffix != "</w>" {
            let found = format!("a {class} model whose words end in {suffix:?}");
            let problem = format!("{found} is not supported; expected CLIP's: BPE, \"</w>\"");
            return Err(Error::model(path, problem));
        }
        let pair = |merge| match merge {
            Merge::Pair(a, b) => Ok((a, b)),
            Merge::Line(line) => pair(&line).ok_or_else(|| {
                Error::model(path, format!("the merge {line:?} is not two tokens and a space"))
            }),
        };
        let merges = self.merges.into_iter().map(pair).collect::<Result<_>>()?;
        Ok((self.vocab, merges))
    }
}

fn merge_lines(path: &Path) -> Result<Vec<Pair>> {
    let bytes = read(path)?;
    let text = String::from_utf8(bytes)
        .map_err(|e| Error::model(path, format!("not UTF-8 text ({e}); fetch it again")))?;
    let lines = text.lines().enumerate().filter(|(_, line)| {
        let header = line.starts_with("#version");
        !header && !line.trim().is_empty()
    });
    let merge = |(number, line): (usize, &str)| {
        pair(line).ok_or_else(|| {
            let problem = format!("line {}: {line:?} is not two tokens and a space", number + 1);
            Error::model(path, format!("{problem}; fetch it again"))
        })
    };
    lines.map(merge).collect()
}

fn pair(line: &str) -> Option<Pair> {
    let (a, b) = line.split_once(' ')?;
    let whole = !a.is_empty() && !b.is_empty() && !b.contains(' ');
    whole.then(|| (a.into(), b.into()))
}

fn check_ids(path: &Path, vocabulary: &HashMap<String, u32>) -> Result<()> {
    let mut owners: HashMap<u32, &str> = HashMap::with_capacity(vocabulary.len());
    for (token, &id) in vocabulary {
        if let Some(other) = owners.insert(id, token) {
            let (a, b) = (other.min(token), other.max(token));
            let problem = format!("{a:?} and {b:?} have the same id {id}; fetch it again");
            return Err(Error::model(path, problem));
        }
    }
    Ok(())
}

fn optional<T: DeserializeOwned + Default>(path: &Path) -> Result<T> {
    if path.exists() { json(path) } else { Ok(T::default()) }
}

fn json<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let bytes = read(path)?;
    serde_json::from_slice(&bytes).map_err(|e| {
        let expected = "expected a file of CLIP's tokenizer; fetch the folder again";
        Error::model(path, format!("{e}; {expected}"))
    })
}

fn read(path: &Path) -> Result<Vec<u8>> {
    let metadata = std::fs::metadata(path).map_err(Error::io(path, "opening the tokenizer"))?;
    if !metadata.is_file() || metadata.len() > MAX_BYTES {
        return Err(Error::model(path, "not a file of at most 64 MiB"));
    }
    std::fs::read(path).map_err(Error::io(path, "reading the tokenizer"))
}
