//! `muse pull` against a server on this machine that speaks the hub's protocol.

mod hub;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use hub::{COMMIT, Hub};

const WEIGHTS: &str = "transformer/diffusion_pytorch_model.safetensors";

/// A directory with a made-up model as published, a server of it, and the user's cache.
struct Place {
    directory: tempfile::TempDir,
    hub: Hub,
}

impl Place {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let model = directory.path().join("published");
        fixtures::write("flat", &model).unwrap();
        for part in fixtures::PARTS {
            let stem = if part == "text_encoder" { "model" } else { "diffusion_pytorch_model" };
            let file = |end: &str| model.join(part).join(format!("{stem}.{end}"));
            fs::copy(file("safetensors"), file("fp16.safetensors")).unwrap();
            fs::write(file("bin"), "what muse does not read").unwrap();
        }
        fs::write(model.join("README.md"), "what muse does not read").unwrap();
        let hub = Hub::serve(model);
        Place { directory, hub }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn muse(&self, arguments: &[&str]) -> Output {
        self.muse_at(&self.hub.address(), arguments)
    }

    fn muse_at(&self, address: &str, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_muse"))
            .args(arguments)
            .env("HF_ENDPOINT", address)
            .env("HF_HOME", self.path("cache"))
            .output()
            .expect("the program starts")
    }

    /// Where the cache has the files of the commit.
    fn snapshot(&self) -> PathBuf {
        self.repository().join("snapshots").join(COMMIT)
    }

    fn repository(&self) -> PathBuf {
        self.path("cache/hub/models--made--up")
    }

    /// Below `folder` are all the files that muse reads of the variant, as published, and no others.
    fn same(&self, folder: &Path, variant: &str) {
        let names = hub::files(folder);
        let published = hub::files(&self.path("published"));
        let read = |name: &&String| match name.ends_with(".safetensors") {
            true => name.contains(".fp16.") == (variant == "fp16"),
            false => !name.ends_with(".bin") && *name != "README.md",
        };
        let wanted: Vec<&String> = published.iter().filter(read).collect();
        assert_eq!(names.iter().collect::<Vec<_>>(), wanted);
        for name in names {
            let bytes = |folder: &Path| fs::read(folder.join(&name)).unwrap();
            assert!(bytes(folder) == bytes(&self.path("published")), "{name} differs");
        }
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn refused(output: &Output, code: i32, words: &[&str]) {
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{stderr}");
    assert!(!stderr.contains("panicked"), "{stderr}");
    for word in words {
        assert!(stderr.contains(word), "no {word:?} in {stderr}");
    }
    assert_eq!(text(&output.stdout), "");
}

fn works(output: &Output) -> String {
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout)
}

#[test]
fn an_interrupted_download_goes_on() {
    let place = Place::new();
    let size = fs::metadata(place.path("published").join(WEIGHTS)).unwrap().len();
    place.hub.cut(WEIGHTS, size / 2);
    let pull = ["pull", "made/up"];
    refused(&place.muse(&pull), 4, &["made/up", WEIGHTS, "goes on"]);
    assert!(fs::symlink_metadata(place.snapshot().join(WEIGHTS)).is_err(), "it has its name");
    assert!(!place.repository().join("refs/main").exists(), "the revision has a commit");
    let blobs = hub::files(&place.repository().join("blobs"));
    let parts: Vec<_> = blobs.iter().filter(|name| name.ends_with(".part")).collect();
    assert_eq!(parts.len(), 1, "{blobs:?}");
    let kept = fs::metadata(place.repository().join("blobs").join(parts[0])).unwrap().len();
    assert_eq!(kept, size / 2);

    place.hub.take_log();
    let output = place.muse(&pull);
    let folder = works(&output);
    assert_eq!(Path::new(folder.trim()), place.snapshot());
    assert!(text(&output.stderr).contains(COMMIT));
    let log = place.hub.take_log();
    assert!(log.contains(&(WEIGHTS.into(), format!("bytes={kept}-"))), "{log:?}");
    assert!(!log.iter().any(|(file, _)| file == "model_index.json"), "fetched again: {log:?}");
    place.same(&place.snapshot(), "full");
    assert_eq!(fs::read_to_string(place.repository().join("refs/main")).unwrap(), COMMIT);

    // What is there is not fetched again, and has the repository's name.
    works(&place.muse(&pull));
    assert_eq!(place.hub.take_log(), []);
    let check = place.muse(&["check", "made/up"]);
    assert!(works(&check).contains("none left over"));
    let image = place.path("out.png").display().to_string();
    let generate =
        ["generate", "a cat", "--steps", "2", "--device", "cpu", "--model", "made/up", "-o"];
    works(&place.muse(&[&generate[..], &[&image]].concat()));
    assert!(Path::new(&image).exists());
}

#[test]
fn a_file_that_came_wholly_without_its_name_is_no_obstacle() {
    let place = Place::new();
    works(&place.muse(&["pull", "made/up"]));
    let pointer = place.snapshot().join(WEIGHTS);
    let blob = pointer.canonicalize().unwrap();
    fs::remove_file(&pointer).unwrap();
    fs::rename(&blob, blob.with_extension("part")).unwrap();
    works(&place.muse(&["pull", "made/up"]));
    place.same(&place.snapshot(), "full");
}

#[test]
fn a_folder_gets_the_plain_files_of_one_variant() {
    let place = Place::new();
    let into = place.path("model").display().to_string();
    let pull = ["pull", "made/up", "--into", &into, "--variant", "fp16", "--revision", COMMIT];
    let weights = "vqvae/diffusion_pytorch_model.fp16.safetensors";
    place.hub.cut(weights, 1000);
    refused(&place.muse(&pull), 4, &["made/up", weights]);
    assert!(!Path::new(&into).join("model_index.json").exists());
    assert_eq!(works(&place.muse(&pull)).trim(), into);
    let log = place.hub.take_log();
    assert!(log.contains(&(weights.into(), "bytes=1000-".into())), "{log:?}");
    place.same(Path::new(&into), "fp16");
    assert!(!place.path("cache").exists());
    refused(&place.muse(&pull), 2, &["--into", &into, "without a model"]);
}

#[test]
fn what_cannot_be_fetched_is_refused_by_name() {
    let place = Place::new();
    refused(&place.muse(&["pull", "amused-256"]), 2, &["amused-256", "OWNER/NAME"]);
    refused(&place.muse(&["pull", "../up"]), 2, &["../up", "OWNER/NAME"]);
    refused(&place.muse(&["pull", "made/down"]), 4, &["made/down", "401", "hf auth login"]);
    let revision = ["pull", "made/up", "--revision", "v9"];
    refused(&place.muse(&revision), 4, &["made/up", "\"v9\"", "branch"]);
    refused(&place.muse(&["pull", "made/up", "--variant", "int4"]), 2, &["int4", "fp16"]);
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let output = place.muse_at(&format!("http://{nobody}"), &["pull", "made/up"]);
    refused(&output, 4, &["made/up", "cannot be reached", "network"]);
    assert!(!place.path("cache").exists(), "something was written");

    let index = place.path("published/model_index.json");
    let whole = fs::read_to_string(&index).unwrap();
    fs::write(&index, whole.replace("AmusedPipeline", "StableDiffusionPipeline")).unwrap();
    refused(&place.muse(&["pull", "made/up"]), 3, &["StableDiffusionPipeline", "AmusedPipeline"]);
    assert_eq!(place.hub.take_log().len(), 2, "more than the index was fetched");
    fs::write(&index, whole).unwrap();
    fs::remove_file(place.path("published").join(WEIGHTS)).unwrap();
    let full = ["pull", "made/up", "--variant", "full", "--into"];
    let into = place.path("model").display().to_string();
    refused(&place.muse(&[&full[..], &[&into]].concat()), 4, &[COMMIT, WEIGHTS, "variant"]);
}
