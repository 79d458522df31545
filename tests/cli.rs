//! The command line as a user meets it: what it writes, what it prints, how it fails.

mod program;

use std::path::{Path, PathBuf};
use std::process::Command;

use program::{fails, muse, muse_in, text};

const PROMPT: &str = "two apples and a cat on a blue background";

fn path(directory: &tempfile::TempDir, name: &str) -> String {
    directory.path().join(name).display().to_string()
}

fn png_text(file: &str) -> Vec<(String, String)> {
    let decoder = png::Decoder::new(std::io::BufReader::new(std::fs::File::open(file).unwrap()));
    let reader = decoder.read_info().unwrap();
    let info = reader.info();
    let plain = info.uncompressed_latin1_text.iter().map(|t| (t.keyword.clone(), t.text.clone()));
    let utf8 = info.utf8_text.iter().map(|t| (t.keyword.clone(), t.get_text().unwrap()));
    plain.chain(utf8).collect()
}

#[test]
fn generate_writes_a_png_that_says_how_it_was_made() {
    let directory = tempfile::tempdir().unwrap();
    let out = path(&directory, "out.png");
    let output = muse(&["generate", PROMPT, "-o", &out, "--seed", "7", "--steps", "5"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(text(&output.stdout), format!("{out}\n"));
    let summary = text(&output.stderr);
    for word in
        ["seed 7", "load", "text", "base", "5 steps", "super-res", "ms each", "vq", "tokens"]
    {
        assert!(summary.contains(word), "no {word:?} in {summary}");
    }
    let chunks = png_text(&out);
    assert!(chunks.contains(&("dtype".into(), "bf16".into())));
    let chunk =
        |name: &str| &chunks.iter().find(|(k, _)| k == name).unwrap_or_else(|| panic!("{name}")).1;
    assert_eq!(chunk("prompt"), PROMPT);
    assert_eq!(chunk("seed"), "7");
    assert!(chunk("settings").contains("\"steps\":5"));
    assert!(chunk("model").starts_with("demo "));
    let left: Vec<_> = std::fs::read_dir(directory.path()).unwrap().collect();
    assert_eq!(left.len(), 1, "nothing but the image is left");
}

#[test]
fn the_same_seed_gives_the_same_bytes_on_one_and_two_threads() {
    let directory = tempfile::tempdir().unwrap();
    let mut images = Vec::new();
    for (threads, seed) in [("1", "3"), ("2", "3"), ("2", "4")] {
        let out = path(&directory, &format!("{threads}-{seed}.png"));
        let output = muse(&["generate", PROMPT, "-o", &out, "--seed", seed, "--threads", threads]);
        assert!(output.status.success(), "{}", text(&output.stderr));
        images.push(std::fs::read(&out).unwrap());
    }
    assert!(images[0] == images[1], "threads change the image");
    assert!(images[1] != images[2], "the seed does not change the image");
}

#[test]
fn count_grid_prompts_preview_and_json() {
    let directory = tempfile::tempdir().unwrap();
    let (sheet, gif) = (path(&directory, "sheet.png"), path(&directory, "preview.gif"));
    let arguments = [
        "generate",
        PROMPT,
        "--count",
        "3",
        "--grid",
        "--size",
        "base",
        "-o",
        &sheet,
        "--preview",
        &gif,
    ];
    let output = muse(&arguments);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(text(&output.stdout), format!("{sheet}\n"));
    assert!(std::fs::read(&gif).unwrap().starts_with(b"GIF89a"));

    let prompts = path(&directory, "prompts.txt");
    std::fs::write(&prompts, "a dog\na frog in the sea\n").unwrap();
    let images = path(&directory, "images");
    let output =
        muse(&["generate", "--prompts", &prompts, "-o", &images, "--size", "base", "--json"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let lines: Vec<serde_json::Value> =
        text(&output.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 2);
    assert_eq!(lines[1]["request"]["prompt"], "a frog in the sea");
    assert_eq!(lines[1]["width"], 64);
    assert!(lines[0]["seconds"]["load"].as_f64().unwrap() > 0.0);
    for i in 0..2 {
        assert!(PathBuf::from(&images).join(format!("{i:04}.png")).is_file());
    }
}

/// A picture of two colours.
fn scene(directory: &tempfile::TempDir) -> String {
    let mut image = muse::Image::filled(128, 64, [40, 90, 160]);
    image.place(&muse::Image::filled(64, 20, [200, 60, 40]), 20, 30);
    let file = path(directory, "scene.png");
    std::fs::write(&file, image.to_png(&[("prompt", "x")]).unwrap()).unwrap();
    file
}

#[test]
fn images_are_edited() {
    let directory = tempfile::tempdir().unwrap();
    let image = scene(&directory);
    let size = |file: &str| {
        let image = muse::image::Picture::open(file).unwrap().image;
        (image.width, image.height)
    };
    let (out, gif) = (path(&directory, "out.png"), path(&directory, "out.gif"));
    let edit = |arguments: &[&str]| {
        let common = ["--size", "base", "--steps", "2", "--device", "cpu", "--force", "-o", &out];
        let output = muse(&[arguments, &common].concat());
        assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
        text(&output.stdout)
    };
    edit(&["inpaint", &image, PROMPT, "--box", "40,20,24,24", "--preview", &gif]);
    assert_eq!(size(&out), (128, 64));
    assert!(std::fs::read(&gif).unwrap().starts_with(b"GIF89a"));
    let settings = png_text(&out).into_iter().find(|(key, _)| key == "settings").unwrap().1;
    assert!(settings.contains("inpaint") && !settings.contains("rgb"), "{settings}");
    // Nothing is white in the scene: nothing is repainted.
    edit(&["inpaint", &image, PROMPT, "--mask", &image]);
    let [before, after] = [&image, &out].map(|file| muse::image::Picture::open(file).unwrap());
    assert!(before == after);
    let json = edit(&["outpaint", &image, PROMPT, "--left", "40", "--preview", &gif, "--json"]);
    let report: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&report["width"], &report["height"]), (&168.into(), &64.into()));
    assert_eq!(report["request"]["edit"]["change"]["outpaint"]["margins"]["left"], 40);
    edit(&["edit", &image, PROMPT, "--iterations", "3", "--order", "halton"]);
    assert_eq!(size(&out), (64, 64));
    edit(&["edit", &image, PROMPT, "--strength", "0.7", "--guidance-schedule", "interval:0.3-1"]);
    edit(&["vary", &image, "--count", "2", "--grid"]);
    assert_eq!(size(&out), (132, 64));
    edit(&["interpolate", PROMPT, "a frog", "--frames", "2", "--grid"]);
    assert_eq!(size(&out), (132, 64));
}

#[test]
fn edits_that_cannot_be_made() {
    let directory = tempfile::tempdir().unwrap();
    let (image, out) = (scene(&directory), path(&directory, "out.png"));
    let small = path(&directory, "small.png");
    std::fs::write(&small, muse::Image::filled(64, 64, [255; 3]).to_png(&[("a", "b")]).unwrap())
        .unwrap();
    let broken = path(&directory, "broken.jpg");
    std::fs::write(&broken, b"\xff\xd8\xff\xe0 and no more").unwrap();
    let prose = path(&directory, "prose.png");
    std::fs::write(&prose, "no picture").unwrap();
    let fails = |code, command: &str, image: &str, options: &[&str], words: &[&str]| {
        let prompt = [command, image, PROMPT];
        let prompt = if command == "vary" { &prompt[..2] } else { &prompt };
        fails(&[prompt, options, &["-o", &out]].concat(), code, words);
    };
    let reading = "reading the image";
    let missing = path(&directory, "none.png");
    fails(4, "edit", &missing, &[], &["none.png", reading]);
    fails(4, "vary", &broken, &[], &["broken.jpg", reading, "PNG, JPEG or WebP"]);
    fails(4, "outpaint", &prose, &["--left", "9"], &["prose.png", reading, "PNG, JPEG or WebP"]);
    fails(4, "inpaint", &image, &["--mask", &missing], &["none.png", reading]);
    let expected = ["mask: 64×64 pixels", "128×64 pixels, the size of the image"];
    fails(2, "inpaint", &image, &["--mask", &small], &expected);
    fails(2, "inpaint", &image, &[], &["mask", "without transparent parts", "--box"]);
    fails(2, "inpaint", &image, &["--box", "4,4,0,9"], &["box: 4,4,0,9", "at least one pixel"]);
    fails(2, "inpaint", &image, &["--box", "120,0,9,9"], &["box: 120,0,9,9", "128×64"]);
    fails(2, "inpaint", &image, &["--box", "1,2"], &["--box", "x,y,width,height"]);
    let seam = ["--box", "0,0,9,9", "--feather", "999"];
    fails(2, "inpaint", &image, &seam, &["feather: 999", "0 to 256"]);
    fails(2, "outpaint", &image, &[], &["outpainting: no pixels to add", "at least one pixel"]);
    fails(2, "outpaint", &image, &["--top", "99999"], &["outpainting", "100063", "8192 pixels"]);
    fails(2, "edit", &image, &["--strength", "1.5"], &["strength: 1.5", "0 to 1"]);
    fails(2, "vary", &image, &["--strength=-1"], &["strength: -1", "0 to 1"]);
    fails(2, "vary", &image, &["--strength", "NaN"], &["strength: NaN"]);
    fails(2, "edit", &image, &["--strength", "0.5", "--fraction", "0.1"], &["--strength"]);
    fails(2, "edit", &image, &["--iterations", "0"], &["iterations: 0", "1 to 1000"]);
    fails(2, "edit", &image, &["--fraction", "0"], &["fraction: 0"]);
    fails(2, "edit", &image, &["--fit", "squeeze"], &["--fit", "crop or stretch"]);
    fails(2, "edit", &image, &["--order", "spiral"], &["--order", "halton"]);
    let interval = ["--guidance-schedule", "interval:0.8-0.2"];
    fails(2, "edit", &image, &interval, &["guidance interval: 0.2", "from 0.8 to 1"]);
    fails(2, "interpolate", "a cat", &["--frames", "1"], &["--frames"]);
    fails(2, "interpolate", "", &[], &["prompt", "empty"]);
    assert!(!Path::new(&out).exists());
}

#[test]
fn info_and_check_describe_the_bundled_model() {
    let info = muse(&["info", "models/demo"]);
    assert!(info.status.success(), "{}", text(&info.stderr));
    for word in ["BertModel", "Muse 8×8", "Muse 16×16", "VQModel", "i8", "total"] {
        assert!(text(&info.stdout).contains(word), "no {word:?} in {}", text(&info.stdout));
    }
    let check = muse(&["check"]);
    assert!(check.status.success(), "{}", text(&check.stderr));
    assert!(text(&check.stdout).contains("none left over"));
    let json = muse(&["info", "--json"]);
    let value: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(value["config"]["base"]["grid"], serde_json::json!([8, 8]));
}

#[test]
fn prompts_that_cannot_be_used() {
    let directory = tempfile::tempdir().unwrap();
    let out = path(&directory, "out.png");
    fails(&["generate", "", "-o", &out], 2, &["prompt", "empty"]);
    fails(&["generate", " \n\t", "-o", &out], 2, &["prompt", "empty"]);
    fails(
        &["generate", &"cat ".repeat(10_000), "-o", &out],
        2,
        &["prompt", "10002 tokens", "at most"],
    );
    let long = "cat ".repeat(10_000);
    fails(
        &["generate", PROMPT, "--negative", &long, "-o", &out],
        2,
        &["negative prompt", "at most"],
    );
    fails(&["generate"], 2, &["PROMPT"]);
    assert!(!Path::new(&out).exists());
}

#[cfg(unix)]
#[test]
fn a_prompt_that_is_not_utf8() {
    use std::os::unix::ffi::OsStrExt;
    let prompt = std::ffi::OsStr::from_bytes(b"a c\xffat");
    let output =
        Command::new(env!("CARGO_BIN_EXE_muse")).arg("generate").arg(prompt).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).to_lowercase().contains("utf-8"), "{}", text(&output.stderr));

    let directory = tempfile::tempdir().unwrap();
    let prompts = path(&directory, "prompts.txt");
    std::fs::write(&prompts, b"a dog\na c\xffat\n").unwrap();
    fails(
        &["generate", "--prompts", &prompts, "-o", &path(&directory, "x")],
        4,
        &["prompts.txt", "UTF-8"],
    );
}

#[test]
fn settings_that_cannot_be_used() {
    let directory = tempfile::tempdir().unwrap();
    let out = path(&directory, "out.png");
    let with = |option: &str, value: &str, words: &[&str]| {
        fails(&["generate", PROMPT, "-o", &out, &format!("{option}={value}")], 2, words);
    };
    with("--steps", "0", &["steps", "at least 1"]);
    with("--steps", "65", &["steps: 65", "1 to 64"]);
    with("--superres-steps", "257", &["steps: 257", "1 to 256"]);
    with("--guidance", "NaN", &["guidance", "NaN", "from 0 to 100"]);
    with("--guidance", "1e9", &["guidance", "1000000000"]);
    with("--guidance", "-1", &["guidance", "-1"]);
    with("--temperature", "inf", &["temperature", "inf"]);
    with("--token-temperature", "-0.5", &["token temperature"]);
    with("--count", "0", &["--count"]);
    with("--threads", "0", &["--threads"]);
    with("--seed", "-1", &["--seed"]);
    with("--size", "huge", &["--size"]);
    with("--device", "tpu", &["--device", "auto, cpu, cuda or cuda:N"]);
    with("--dtype", "f16", &["--dtype", "bf16, f32 or int8"]);
    let f32_on_cuda = ["--device", "cuda", "--dtype", "f32"];
    let arguments = [&["generate", PROMPT, "-o", &out], &f32_on_cuda[..]].concat();
    fails(&arguments, 2, &["dtype", "f32 on cuda", "bf16, or the device cpu"]);
    let int8_on_cuda = ["--device", "cuda", "--dtype", "int8"];
    let arguments = [&["generate", PROMPT, "-o", &out], &int8_on_cuda[..]].concat();
    fails(&arguments, 2, &["dtype", "int8 on cuda", "bf16, or the device cpu"]);
    // No machine has that many; most have no driver, and the message says either.
    fails(&["generate", PROMPT, "-o", &out, "--device", "cuda:99"], 5, &["cuda:99", "driver"]);
    assert!(!Path::new(&out).exists());
}

#[test]
fn outputs_that_cannot_be_written() {
    let directory = tempfile::tempdir().unwrap();
    let out = path(&directory, "out.png");
    std::fs::write(&out, "mine").unwrap();
    fails(&["generate", PROMPT, "-o", &out], 4, &["out.png", "exists", "--force"]);
    assert_eq!(std::fs::read_to_string(&out).unwrap(), "mine");
    let output = muse(&["generate", PROMPT, "-o", &out, "--force", "--size", "base"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(std::fs::read(&out).unwrap().starts_with(b"\x89PNG"));

    let folder = directory.path().display().to_string();
    fails(&["generate", PROMPT, "-o", &folder], 4, &[&folder, "directory"]);
    fails(&["generate", PROMPT, "-o", "/proc/muse/out.png"], 4, &["/proc/muse/out.png"]);
    fails(
        &["generate", PROMPT, "-o", &path(&directory, "no/such/out.png")],
        4,
        &["no/such/out.png"],
    );
    fails(
        &["generate", "--prompts", &path(&directory, "none.txt")],
        4,
        &["none.txt", "reading prompts"],
    );
}

/// The kernel's always-full device: opening succeeds, writing does not.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_leaves_nothing_behind() {
    fails(&["generate", PROMPT, "--force", "--size", "base", "-o", "/dev/full"], 4, &["/dev/full"]);
}

#[test]
fn the_model_is_found_from_a_directory_below_it() {
    let directory = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
    let output = muse_in(directory.path(), &["generate", PROMPT, "--size", "base"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(directory.path().join("out.png").is_file(), "the default output is out.png");
}

#[test]
fn selftest_prints_a_table() {
    let verbs = ["--verb", "to_rgb8", "--verb", "layer_norm"];
    let output = muse(&[&["selftest", "--device", "cpu"], &verbs[..]].concat());
    assert!(output.status.success(), "{}", text(&output.stderr));
    let table = text(&output.stdout);
    let rows: Vec<&str> = table.lines().filter(|line| line.ends_with("  ok")).collect();
    assert_eq!(rows.len(), 2, "{table}");
    assert!(rows[0].starts_with("layer_norm ") && rows[1].starts_with("to_rgb8 "), "{table}");
    assert!(table.contains("All results agree"), "{table}");
}

#[test]
fn selftest_names_what_it_cannot_use() {
    let empty = tempfile::tempdir().unwrap();
    let folder = empty.path().to_str().unwrap();
    fails(&["selftest", "--device", "cpu", "--verb", "sort"], 2, &["--verb", "sort", "remask"]);
    fails(
        &["selftest", "--device", "cpu", "--kernels", folder],
        2,
        &["--kernels", "--device cuda"],
    );
    fails(&["selftest", "--device", "cuda", "--kernels", folder], 3, &[folder, "UNIT.ptx"]);
    std::fs::write(empty.path().join("sort.ptx"), "").unwrap();
    fails(&["selftest", "--device", "cuda", "--kernels", folder], 3, &["sort.ptx", "unit"]);
}

#[test]
fn tuning_needs_a_gpu() {
    fails(&["tune", "--device", "cpu"], 2, &["--device", "cpu", "a GPU"]);
    let generate =
        ["generate", PROMPT, "--device", "cpu", "--cache", "plans.json", "-o", "/dev/null"];
    fails(&generate, 2, &["plans.json", "GPU"]);
}

#[cfg(not(feature = "pull"))]
#[test]
fn a_build_without_pull_says_so() {
    fails(&["pull", "amused/amused-256"], 4, &["amused/amused-256", "--features pull"]);
}
