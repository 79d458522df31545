//! Fetching a model from the Hugging Face hub, by way of the `hf-hub` library: into the hub's cache, where all
//! of its programs look, or into a plain folder. An interrupted file stays beside the blobs as `.part`, and the
//! next attempt asks for the rest of it.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use hf_hub::api::Progress;
use hf_hub::api::sync::{Api, ApiBuilder, ApiError, ApiRepo};
use hf_hub::{Cache, Repo, RepoType};

use super::{CONFIGS, Folder, TOKENIZER, Variant, WEIGHTS, check_index, shards};
use crate::error::{Error, Result};

/// Where a folder being fetched into keeps what has come so far.
const STORE: &str = ".pull";

/// How far a file has come.
#[derive(Clone, Copy, Debug)]
pub struct Fetching<'a> {
    /// Its name within the repository.
    pub file: &'a str,
    /// Bytes that are here.
    pub bytes: u64,
    /// Its size in bytes.
    pub of: u64,
}

/// A model that is here.
#[derive(Clone, Debug)]
pub struct Pulled {
    /// The folder with `model_index.json`.
    pub folder: PathBuf,
    /// The commit of the repository that it is.
    pub commit: String,
}

/// Fetches what muse reads of `repository` (`owner/name`) as it was at `revision` (a branch, tag or commit):
/// configs, tokenizer, and the weights of `variant`, chosen as [`Folder::open`] does. Files that are here are not
/// fetched again. The model goes into the hub's cache, or into the folder `into`, which becomes a model only when
/// all of it is here.
pub fn pull(
    repository: &str,
    revision: &str,
    variant: Option<Variant>,
    into: Option<&Path>,
    on_progress: &mut dyn FnMut(Fetching<'_>),
) -> Result<Pulled> {
    let cache = cache_of(repository, into)?;
    let api = ApiBuilder::from_env().with_cache_dir(cache.path().clone()).build();
    let api = api.map_err(|e| hub(repository, revision, e))?;
    let at =
        |revision: &str| Repo::with_revision(repository.into(), RepoType::Model, revision.into());
    let info = api.repo(at(revision)).info().map_err(|e| hub(repository, revision, e))?;
    let commit = info.sha;
    if commit.is_empty() || !commit.bytes().all(|b| b.is_ascii_hexdigit()) {
        let problem = format!("the hub names the commit {commit:?}; expected hexadecimal digits");
        return Err(Error::Hub { repository: repository.into(), problem });
    }
    // By commit: all files are of one, whatever is published meanwhile.
    let mut source = Source {
        repository,
        commit: &commit,
        cache: &cache,
        remote: api.repo(at(&commit)),
        api: &api,
        published: info.siblings.into_iter().map(|file| file.rfilename).collect(),
        on_progress,
    };
    let files = source.fetch(variant)?;
    let snapshot = cache.repo(at(&commit)).pointer_path(&commit);
    Folder::open(&snapshot, variant)?;
    let folder = match into {
        None => {
            let named = cache.repo(at(revision)).create_ref(&commit);
            named.map_err(Error::io(cache.path(), "writing the revision's commit"))?;
            snapshot
        }
        Some(into) => {
            settle(&snapshot, into, &files)?;
            fs::remove_dir_all(cache.path()).map_err(Error::io(cache.path(), "removing"))?;
            into.into()
        }
    };
    Ok(Pulled { folder, commit })
}

/// The folder of `repository` (`owner/name`) in the hub's cache, where there is one.
pub fn cached(repository: &str) -> Option<PathBuf> {
    let cache = cache_of(repository, None).ok()?;
    let folder = cache.path().join(Repo::model(repository.into()).folder_name());
    folder.is_dir().then_some(folder)
}

/// The cache that a model is fetched into.
fn cache_of(repository: &str, into: Option<&Path>) -> Result<Cache> {
    let plain = |part: &str| {
        let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        !part.is_empty() && !part.starts_with('.') && part.chars().all(allowed)
    };
    if !repository.split_once('/').is_some_and(|(owner, name)| plain(owner) && plain(name)) {
        let expected = "a repository of the Hugging Face hub: OWNER/NAME, as amused/amused-256";
        return Err(Error::option("repository", repository, expected));
    }
    if std::env::var_os("HF_HOME").is_none() && std::env::home_dir().is_none() {
        let expected = "a folder for the hub's cache: there is no home folder either";
        return Err(Error::option("HF_HOME", "nothing", expected));
    }
    if let Some(into) = into {
        if into.join(CONFIGS[0]).exists() {
            let expected = "a folder without a model, or a new one";
            return Err(Error::option("--into", into.display(), expected));
        }
        return Ok(Cache::new(into.join(STORE)));
    }
    Ok(Cache::from_env())
}

/// One commit of a repository.
struct Source<'a> {
    repository: &'a str,
    commit: &'a str,
    cache: &'a Cache,
    remote: ApiRepo,
    api: &'a Api,
    /// Its files.
    published: BTreeSet<String>,
    on_progress: &'a mut dyn FnMut(Fetching<'_>),
}

impl Source<'_> {
    /// Fetches a model's files; the small ones come first, so that a model that cannot be used is refused early.
    fn fetch(&mut self, variant: Option<Variant>) -> Result<Vec<String>> {
        let index = self.file(CONFIGS[0])?;
        check_index(&index)?;
        let mut files: Vec<String> = CONFIGS.map(String::from).into();
        let tokenizer = TOKENIZER.map(|file| format!("tokenizer/{file}"));
        files.extend(tokenizer.into_iter().filter(|file| self.published.contains(file)));
        for (part, stem) in WEIGHTS {
            let variants = Variant::wanted(variant).into_iter();
            let named = variants.map(|v| v.files(stem).map(|file| format!("{part}/{file}")));
            let named: Vec<[String; 2]> = named.collect();
            let found = named.iter().flatten().find(|file| self.published.contains(*file));
            let Some(found) = found else {
                let wanted = named.iter().map(|[whole, _]| whole.as_str()).collect::<Vec<_>>();
                let problem = format!(
                    "{} has no {}; choose another variant or repository",
                    self.commit,
                    wanted.join(" or ")
                );
                return Err(self.error(problem));
            };
            if found.ends_with(".json") {
                let names = shards(&self.file(found)?)?;
                files.extend(names.into_iter().map(|name| format!("{part}/{name}")));
            }
            files.push(found.clone());
        }
        for file in &files {
            self.file(file)?;
        }
        Ok(files)
    }

    /// Fetches a file, or the rest of it; where it is.
    fn file(&mut self, file: &str) -> Result<PathBuf> {
        if !self.published.contains(file) {
            let problem = format!("{} has no {file}: not a model that muse can run", self.commit);
            return Err(self.error(problem));
        }
        let repo = Repo::with_revision(self.repository.into(), RepoType::Model, self.commit.into());
        let local = self.cache.repo(repo);
        if let Some(path) = local.get(file) {
            return Ok(path);
        }
        let mut size = 0;
        let mut result = self.download(file, &mut size);
        if matches!(&result, Err(error) if is_past_the_end(error)) {
            // All of the file had come, or more; then there is no rest that could be asked for.
            let known =
                self.api.metadata(&self.remote.url(file)).map_err(|e| self.failed(file, e))?;
            let part = local.blob_path(known.etag()).with_extension("part");
            fs::remove_file(&part).map_err(Error::io(&part, "removing"))?;
            result = self.download(file, &mut size);
        }
        let path = result.map_err(|e| self.failed(file, e))?;
        let found = fs::metadata(&path).map_err(Error::io(&path, "reading its size"))?.len();
        if found != size {
            let blob = path.canonicalize().map_err(Error::io(&path, "finding"))?;
            for path in [&path, &blob] {
                fs::remove_file(path).map_err(Error::io(path, "removing"))?;
            }
            let problem = format!("{file}: {found} bytes came; expected {size}; try again");
            return Err(self.error(problem));
        }
        Ok(path)
    }

    fn download(&mut self, file: &str, size: &mut u64) -> std::result::Result<PathBuf, ApiError> {
        let count = Count { file, bytes: 0, size, on_progress: &mut *self.on_progress };
        self.remote.download_with_progress(file, count)
    }

    fn error(&self, problem: String) -> Error {
        Error::Hub { repository: self.repository.into(), problem }
    }

    fn failed(&self, file: &str, error: ApiError) -> Error {
        self.error(format!("{file}: {error}; the same command goes on where this one has stopped"))
    }
}

/// Whether the rest of a file was asked for that has none.
fn is_past_the_end(error: &ApiError) -> bool {
    match error {
        ApiError::InvalidResume => true,
        ApiError::RequestError(error) => matches!(**error, ureq::Error::StatusCode(416)),
        _ => false,
    }
}

/// Why the hub does not say what there is.
fn hub(repository: &str, revision: &str, error: ApiError) -> Error {
    let status = match &error {
        ApiError::RequestError(error) => match **error {
            ureq::Error::StatusCode(status) => Some(status),
            _ => None,
        },
        _ => None,
    };
    let problem = match status {
        Some(404) => format!(
            "the hub has no such repository, or no revision {revision:?} of it; expected OWNER/NAME, and a branch, \
             tag or commit"
        ),
        Some(status @ (401 | 403)) => format!(
            "the hub has no such repository, or does not show it to everyone (status {status}); check the name, or \
             log in with `hf auth login`"
        ),
        _ => format!(
            "the hub cannot be reached or understood: {error}; check the network and try again"
        ),
    };
    Error::Hub { repository: repository.into(), problem }
}

/// Moves a snapshot's files to where they are named plainly; the first one, which makes the folder a model, last.
fn settle(snapshot: &Path, into: &Path, files: &[String]) -> Result<()> {
    for file in files.iter().rev() {
        let (from, to) = (snapshot.join(file), into.join(file));
        let blob = from.canonicalize().map_err(Error::io(&from, "finding"))?;
        let folder = to.parent().unwrap_or(into);
        fs::create_dir_all(folder).map_err(Error::io(folder, "creating"))?;
        if to.is_file() {
            fs::remove_file(&to).map_err(Error::io(&to, "replacing"))?;
        }
        // Files of one content are one blob: a link first, for the next one to find it.
        let linked = fs::hard_link(&blob, &to).or_else(|_| fs::rename(&blob, &to));
        linked.map_err(Error::io(&to, "writing"))?;
    }
    Ok(())
}

/// Counts bytes for the caller.
struct Count<'a> {
    file: &'a str,
    bytes: u64,
    size: &'a mut u64,
    on_progress: &'a mut dyn FnMut(Fetching<'_>),
}

impl Count<'_> {
    fn report(&mut self) {
        (self.on_progress)(Fetching { file: self.file, bytes: self.bytes, of: *self.size });
    }
}

impl Progress for Count<'_> {
    fn init(&mut self, size: usize, _: &str) {
        (*self.size, self.bytes) = (size as u64, 0);
        self.report();
    }

    fn update(&mut self, size: usize) {
        self.bytes += size as u64;
        self.report();
    }

    fn finish(&mut self) {}
}
