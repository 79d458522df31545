//! Pictures survive their files; files appear whole or not at all.

use std::fs;
use std::io::{self, ErrorKind, Write};
use std::path::Path;

use ::image::codecs::{jpeg::JpegEncoder, webp::WebPEncoder};
use ::image::{ExtendedColorType, ImageEncoder};
use ::png::{BitDepth, ColorType};

use super::output::write_with;
use super::*;

fn gradient(width: usize, height: usize) -> Image {
    let rgb = (0..height * width).flat_map(|i| [i as u8, (i / width) as u8, (7 * i) as u8]);
    Image { width, height, rgb: rgb.collect() }
}

fn text_of(png: &[u8]) -> Vec<(String, String)> {
    let reader = ::png::Decoder::new(io::Cursor::new(png)).read_info().unwrap();
    let info = reader.info();
    let latin = info.uncompressed_latin1_text.iter().map(|t| (t.keyword.clone(), t.text.clone()));
    let utf8 = info.utf8_text.iter().map(|t| (t.keyword.clone(), t.get_text().unwrap()));
    latin.chain(utf8).collect()
}

#[test]
fn png_keeps_pixels_and_text_and_is_always_the_same() {
    for (width, height) in [(1, 1), (3, 2), (128, 128)] {
        let image = gradient(width, height);
        let text = [
            ("prompt", "two apples\nand a cat"),
            ("negative prompt", "日本 🍎"),
            ("seed", "7"),
            ("settings", "nul\0inside"),
            ("empty", ""),
        ];
        let png = image.to_png(&text).unwrap();
        assert_eq!(Picture::decode(&png, "x.png").unwrap().image, image);
        assert_eq!(png, image.to_png(&text).unwrap());
        let mut found = text_of(&png);
        let mut wanted = text.map(|(k, t)| (k.to_owned(), t.replace('\0', "\u{fffd}")));
        found.sort();
        wanted.sort();
        assert_eq!(found, wanted);
    }
    let none: [(&str, &str); 0] = [];
    assert!(text_of(&gradient(2, 2).to_png(&none).unwrap()).is_empty());
}

#[test]
fn the_png_bytes_are_those_of_every_machine() {
    let png = gradient(16, 16).to_png(&[("prompt", "a cat"), ("seed", "0")]).unwrap();
    let hash = blake3::hash(&png).to_hex();
    assert_eq!(
        &hash[..16],
        "71eea6f55e254f45",
        "an update of `png` that packs differently is harmless"
    );
}

#[test]
fn pictures_that_cannot_be_written() {
    let none: [(&str, &str); 0] = [];
    for (width, height, bytes) in [(0, 0, 0), (2, 2, 11), (0, 1, 3), (usize::MAX, usize::MAX, 3)] {
        let image = Image { width, height, rgb: vec![0; bytes] };
        let error = image.to_png(&none).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        assert!(error.to_string().contains("three bytes for every pixel"), "{error}");
    }
    for keyword in ["", &"k".repeat(80), "日本"] {
        let error = gradient(1, 1).to_png(&[(keyword, "text")]).unwrap_err().to_string();
        assert!(error.contains("keywords of 1 to 79 Latin-1 characters"), "{error}");
    }
}

fn encoded(colour: ColorType, depth: BitDepth, samples: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = ::png::Encoder::new(&mut bytes, 2, 1);
    encoder.set_color(colour);
    encoder.set_depth(depth);
    if colour == ColorType::Indexed {
        encoder.set_palette(vec![1, 2, 3, 4, 5, 6]);
    }
    let mut writer = encoder.write_header().unwrap();
    writer.write_image_data(samples).unwrap();
    writer.finish().unwrap();
    bytes
}

#[test]
fn every_kind_of_png_becomes_rgb() {
    use BitDepth::{Eight, One, Sixteen};
    use ColorType::*;
    let cases: &[(ColorType, BitDepth, &[u8], [u8; 6])] = &[
        (Rgb, Eight, &[1, 2, 3, 4, 5, 6], [1, 2, 3, 4, 5, 6]),
        (Rgb, Sixteen, &[1, 0, 2, 0, 3, 0, 4, 0, 5, 0, 6, 0], [1, 2, 3, 4, 5, 6]),
        (Grayscale, Eight, &[9, 200], [9, 9, 9, 200, 200, 200]),
        (Grayscale, Sixteen, &[9, 0, 200, 0], [9, 9, 9, 199, 199, 199]), // 51,200 of 65,535
        (Grayscale, One, &[0b0100_0000], [0, 0, 0, 255, 255, 255]),
        (GrayscaleAlpha, Eight, &[9, 255, 9, 0], [9, 9, 9, 255, 255, 255]),
        (Rgba, Eight, &[1, 2, 3, 255, 0, 0, 0, 51], [1, 2, 3, 204, 204, 204]),
        (
            Rgba,
            Sixteen,
            &[1, 0, 2, 0, 3, 0, 255, 255, 0, 0, 0, 0, 0, 0, 0, 0],
            [1, 2, 3, 255, 255, 255],
        ),
        (Indexed, Eight, &[1, 0], [4, 5, 6, 1, 2, 3]),
    ];
    for (colour, depth, samples, rgb) in cases {
        let image = Picture::decode(&encoded(*colour, *depth, samples), "x.png").unwrap().image;
        assert_eq!(image.rgb, rgb, "{colour:?} {depth:?}");
        assert_eq!((image.width, image.height), (2, 1));
    }
}

#[test]
fn files_that_are_no_picture() {
    let whole = gradient(20, 20).to_png(&[("prompt", "x")]).unwrap();
    for end in 0..whole.len() - 12 {
        let error = Picture::decode(&whole[..end], "x.png").unwrap_err();
        assert_eq!(error.exit_code(), 4);
        assert!(
            error.to_string().starts_with("x.png: reading the image: ")
                && error.to_string().ends_with("expected a whole PNG, JPEG or WebP image"),
            "{error}"
        );
    }
    for at in 0..whole.len() {
        let mut damaged = whole.clone();
        damaged[at] ^= 0x55;
        let _ = Picture::decode(&damaged, "x.png"); // an error or a picture, never a panic
    }
    // A header that claims 2^31 − 1 pixels a side.
    let mut huge = whole.clone();
    huge[16..24].copy_from_slice(&[0x7f, 0xff, 0xff, 0xff, 0x7f, 0xff, 0xff, 0xff]);
    let crc = crc32(&huge[12..29]).to_be_bytes();
    huge[29..33].copy_from_slice(&crc);
    assert!(Picture::decode(&huge, "x.png").is_err());
    let folder = tempfile::tempdir().unwrap();
    assert!(Picture::open(folder.path()).unwrap_err().to_string().contains("not a file"));
    assert!(Picture::open(folder.path().join("none.png")).is_err());
}

/// EXIF of one entry: the orientation.
fn exif(orientation: u8) -> Vec<u8> {
    let mut bytes = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0".to_vec();
    bytes.extend([orientation, 0, 0, 0, 0, 0, 0, 0]);
    bytes
}

#[test]
fn photographs_are_turned_upright() {
    // Left half red, right half blue: upright after a quarter turn clockwise it is red above blue.
    let mut image = Image::filled(32, 16, [200, 20, 20]);
    image.place(&Image::filled(16, 16, [20, 20, 200]), 16, 0);
    for (orientation, size, red, blue) in [
        (1, (32, 16), (4, 8), (28, 8)),
        (3, (32, 16), (28, 8), (4, 8)),
        (6, (16, 32), (8, 4), (8, 28)),
        (8, (16, 32), (8, 28), (8, 4)),
    ] {
        let mut bytes = Vec::new();
        let mut encoder = JpegEncoder::new_with_quality(&mut bytes, 95);
        encoder.set_exif_metadata(exif(orientation)).unwrap();
        encoder.encode(&image.rgb, 32, 16, ExtendedColorType::Rgb8).unwrap();
        let Picture { image: read, transparent } = Picture::decode(&bytes, "x.jpg").unwrap();
        assert_eq!(((read.width, read.height), transparent), (size, None));
        for ((x, y), colour) in [(red, [200u8, 20, 20]), (blue, [20, 20, 200])] {
            let near = read.pixel(x, y).iter().zip(colour).all(|(a, b)| a.abs_diff(b) < 12);
            assert!(near, "orientation {orientation}: {:?}", read.pixel(x, y));
        }
    }
}

#[test]
fn webp_and_its_transparent_parts() {
    let rgba = [1, 2, 3, 255, 4, 5, 6, 0, 7, 8, 9, 127, 10, 11, 12, 128];
    let mut bytes = Vec::new();
    let encoder = WebPEncoder::new_lossless(&mut bytes);
    encoder.encode(&rgba, 4, 1, ExtendedColorType::Rgba8).unwrap();
    let picture = Picture::decode(&bytes, "x.webp").unwrap();
    assert_eq!((picture.image.pixel(0, 0), picture.image.pixel(1, 0)), ([1, 2, 3], [255; 3]));
    assert_eq!(picture.transparent.unwrap().repaint, [false, true, true, false]);
}

#[test]
fn more_pixels_than_a_picture_may_have() {
    let whole = encoded(ColorType::Grayscale, BitDepth::One, &[0]);
    for (width, height, word) in [(16_385u32, 1u32, "size"), (16_384, 16_384, "")] {
        let mut huge = whole.clone();
        huge[16..20].copy_from_slice(&width.to_be_bytes());
        huge[20..24].copy_from_slice(&height.to_be_bytes());
        huge[24] = 16; // bits of a sample
        let crc = crc32(&huge[12..29]).to_be_bytes();
        huge[29..33].copy_from_slice(&crc);
        let error = Picture::decode(&huge, "bomb.png").unwrap_err().to_string();
        assert!(
            error.starts_with("bomb.png: reading the image: ") && error.contains(word),
            "{error}"
        );
        assert!(error.to_lowercase().contains("limit") || error.contains("large"), "{error}");
    }
}

#[test]
fn the_part_that_fits() {
    let part = |fit: Fit, width, height, to| {
        let Rectangle { x, y, width, height } = fit.part(width, height, to);
        [x, y, width, height]
    };
    assert_eq!(part(Fit::Crop, 300, 200, [1, 1]), [50, 0, 200, 200]);
    assert_eq!(part(Fit::Crop, 200, 301, [1, 1]), [0, 50, 200, 200]);
    assert_eq!(part(Fit::Crop, 300, 200, [1, 3]), [0, 50, 300, 100]);
    assert_eq!(part(Fit::Crop, 1, 500, [4, 1]), [0, 248, 1, 4]);
    assert_eq!(part(Fit::Crop, 500, 1, [1, 900]), [0, 0, 500, 1]);
    assert_eq!(part(Fit::Stretch, 300, 200, [1, 1]), [0, 0, 300, 200]);
    let image = gradient(30, 20);
    assert_eq!(image.resized(30, 20), image);
    let flat = Image::filled(31, 7, [9, 80, 200]);
    assert_eq!(flat.resized(64, 3), Image::filled(64, 3, [9, 80, 200]));
    let cut = image.cropped(Rectangle { x: 3, y: 5, width: 4, height: 2 });
    assert_eq!((cut.pixel(0, 0), cut.pixel(3, 1)), (image.pixel(3, 5), image.pixel(6, 6)));
    let mut pasted = Image::filled(30, 20, [0; 3]);
    pasted.place(&image, 28, 19);
    assert_eq!((pasted.pixel(29, 19), pasted.pixel(27, 19)), (image.pixel(1, 0), [0; 3]));
}

#[test]
fn masks_are_white_and_cover_what_they_touch() {
    let mut image = Image::filled(4, 2, [0; 3]);
    image.place(&Image::filled(1, 1, [255; 3]), 2, 1);
    image.place(&Image::filled(1, 1, [127; 3]), 0, 0);
    let mask = Mask::of_image(&image);
    assert_eq!((mask.count(), mask.repaint[6]), (1, true));
    assert_eq!(mask.resized(2, 1).repaint, [false, true]);
    assert_eq!(mask.resized(8, 4).count(), 4);
    assert_eq!(mask.resized(3, 2).repaint, [false, false, false, false, true, true]);
    assert_eq!(mask.resized(4, 2), mask);
}

/// Each pixel is mixed by its distance to the nearest one of the mask, found here by looking at all.
#[test]
fn the_seam_fades_with_the_distance() {
    let (width, height) = (17, 11);
    let mut mask = Mask::empty(width, height);
    for (x, y) in [(3, 2), (4, 2), (14, 9), (16, 0)] {
        mask.add(Rectangle { x, y, width: 1, height: 1 }).unwrap();
    }
    let (old, new) =
        (Image::filled(width, height, [10; 3]), Image::filled(width, height, [250; 3]));
    for feather in [0, 1, 4, 30] {
        let mixed = old.repainted(&new, &mask, feather);
        for at in 0..width * height {
            let (x, y) = (at % width, at / width);
            let nearest = (0..width * height).filter(|&other| mask.repaint[other]);
            let distance =
                nearest.map(|other| x.abs_diff(other % width).max(y.abs_diff(other / width)));
            let share = 1.0 - distance.min().unwrap() as f64 / (feather + 1) as f64;
            let expected = (10.0 + 240.0 * share.max(0.0)).round() as u8;
            assert_eq!(mixed.pixel(x, y), [expected; 3], "{x}, {y}, feather {feather}");
        }
    }
    assert_eq!(old.repainted(&new, &Mask::empty(width, height), 256), old);
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |crc, &byte| {
        (0..8)
            .fold(crc ^ u32::from(byte), |c, _| (c >> 1) ^ if c & 1 == 1 { 0xedb8_8320 } else { 0 })
    })
}

#[test]
fn enlarging_repeats_pixels() {
    let image = gradient(2, 2);
    let large = image.enlarge_to(6, 4);
    for y in 0..4 {
        for x in 0..6 {
            assert_eq!(large.pixel(x, y), image.pixel(x / 3, y / 2));
        }
    }
    assert_eq!(image.enlarge_to(2, 2), image);
}

#[test]
fn hatching_stays_inside_its_cell() {
    let mut image = Image::filled(8, 8, [1, 2, 3]);
    image.hatch(4, 0, 4);
    for y in 0..8 {
        for x in 0..8 {
            assert_eq!(image.pixel(x, y) == [1, 2, 3], x < 4 || y >= 4, "{x} {y}");
        }
    }
    image.hatch(6, 6, 100);
    image.hatch(100, 100, 4);
    assert_ne!(image.pixel(7, 7), [1, 2, 3]);
}

#[test]
fn contact_sheets_hold_every_image() {
    let images: Vec<_> = (0..5u8).map(|i| Image::filled(10, 6, [i; 3])).collect();
    let sheet = contact_sheet(&images);
    assert_eq!((sheet.width, sheet.height), (3 * 10 + 2 * GAP, 2 * 6 + GAP));
    for i in 0..5 {
        let (x, y) = (i % 3 * (10 + GAP), i / 3 * (6 + GAP));
        assert_eq!([sheet.pixel(x, y), sheet.pixel(x + 9, y + 5)], [[i as u8; 3]; 2]);
    }
    assert_eq!(sheet.pixel(10, 0), [255; 3]); // the gap
    assert_eq!(sheet.pixel(sheet.width - 1, sheet.height - 1), [255; 3]); // no sixth image
    assert_eq!(contact_sheet(&images[..1]), images[0]);
    assert!(contact_sheet(&[]).rgb.is_empty());
}

#[test]
fn animations_repeat_and_hold() {
    let mut animation = Animation::new(16, 8).unwrap();
    let first = Image::filled(16, 8, [200, 10, 10]);
    animation.push(&first, 150).unwrap();
    animation.push(&gradient(16, 8), 2000).unwrap();
    let error = animation.push(&gradient(8, 16), 10).unwrap_err().to_string();
    assert!(error.contains("8×16") && error.contains("16×8 pixels"), "{error}");
    let bytes = animation.finish().unwrap();
    let mut options = gif::DecodeOptions::new();
    options.set_color_output(gif::ColorOutput::RGBA);
    let mut decoder = options.read_info(io::Cursor::new(&bytes)).unwrap();
    assert_eq!(decoder.repeat(), gif::Repeat::Infinite);
    let frame = decoder.read_next_frame().unwrap().unwrap();
    assert_eq!((frame.delay, frame.width, frame.height), (15, 16, 8));
    assert_eq!(frame.buffer[..4], [200, 10, 10, 255]);
    assert_eq!(decoder.read_next_frame().unwrap().unwrap().delay, 200);
    assert!(decoder.read_next_frame().unwrap().is_none());
    for (width, height) in [(0, 1), (1, 0), (65_536, 1)] {
        assert!(Animation::new(width, height).is_err());
    }
}

fn names(folder: &Path) -> Vec<String> {
    let names =
        fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
    names.collect()
}

#[test]
fn a_file_is_written_whole_and_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out.png");
    check_new(&path, false).unwrap();
    assert!(names(folder.path()).is_empty());
    write_new(&path, b"first", false).unwrap();
    for error in [check_new(&path, false), write_new(&path, b"second", false)] {
        let error = error.unwrap_err();
        assert_eq!(error.exit_code(), 4);
        assert!(
            error.to_string().contains("out.png: writing the file: it exists already"),
            "{error}"
        );
    }
    assert_eq!(fs::read(&path).unwrap(), b"first");
    check_new(&path, true).unwrap();
    write_new(&path, b"third", true).unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"third");
    assert_eq!(names(folder.path()), ["out.png"]);
    let long = folder.path().join("n".repeat(250));
    write_new(&long, b"x", false).unwrap();
}

#[test]
fn a_write_that_fails_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out.png");
    for existing in [false, true] {
        if existing {
            fs::write(&path, "before").unwrap();
        }
        let before = names(folder.path());
        let full = write_with(&path, true, |file| {
            file.write_all(b"half of the")?;
            Err(ErrorKind::StorageFull.into())
        });
        assert_eq!(full.unwrap_err().kind(), ErrorKind::StorageFull);
        assert_eq!(names(folder.path()), before);
    }
    assert_eq!(fs::read(&path).unwrap(), b"before");
    assert!(write_new(&folder.path().join("n".repeat(300)), b"x", false).is_err());
    assert_eq!(names(folder.path()), ["out.png"]);
}

#[test]
fn paths_that_cannot_be_written() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    let mut read_only = fs::metadata(&file).unwrap().permissions();
    read_only.set_readonly(true);
    fs::set_permissions(&file, read_only).unwrap();
    let cases = [
        (folder.path().to_path_buf(), "it is a directory; give a file name"),
        (folder.path().join("none/out.png"), "its directory does not exist; create it first"),
        (folder.path().join("new/"), "it names no file"),
        ("".into(), "it names no file"),
        ("/".into(), "it names no file"),
        ("..".into(), "it names no file"),
        (file.join("out.png"), "Not a directory"),
        (file, "it is read-only"),
    ];
    for (path, wanted) in cases {
        for result in [check_new(&path, true), write_new(&path, b"x", true)] {
            let error = result.unwrap_err();
            assert_eq!(error.exit_code(), 4);
            assert!(error.to_string().contains(wanted), "{}: {error}", path.display());
        }
    }
    assert_eq!(names(folder.path()), ["file"]);
}

#[cfg(target_os = "linux")]
#[test]
fn devices_and_links() {
    let full = Path::new("/dev/full");
    check_new(full, false).unwrap();
    let error = write_new(full, b"x", false).unwrap_err().to_string();
    assert!(error.contains("/dev/full: writing the file: No space left"), "{error}");
    assert!(!fs::metadata(full).unwrap().is_file());
    write_new(Path::new("/dev/null"), b"x", false).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (target, link) = (folder.path().join("target"), folder.path().join("link"));
    fs::write(&target, "before").unwrap();
    std::os::unix::fs::symlink(&target, &link).unwrap();
    write_new(&link, b"after", true).unwrap();
    assert_eq!(fs::read(&target).unwrap(), b"after");
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
}
