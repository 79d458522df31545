//! Weights without a file: the same numbers as of the fixtures, so that other engines can have the same model.

use muse::shape::{NAMES, Shape};
use muse::weights::Weights;
use muse::{Engine, EngineOptions, Error, Precision, Request};

#[test]
fn noise_is_that_of_the_fixtures() {
    let cases: [(&str, &[usize]); 5] = [
        ("layers.0.norm.weight", &[70]),
        ("layers.0.norm.bias", &[3]),
        ("embedding.weight", &[40, 8]),
        ("layers.0.up.weight", &[8, 33]),
        ("conv.weight", &[4, 3, 3, 3]),
    ];
    for (name, shape) in cases {
        let expected: Vec<f32> = fixtures::weight(&format!("part.{name}"), shape).collect();
        let mut weights = Weights::noise("part").in_precision(Precision::F32);
        assert_eq!(weights.floats(name, shape).unwrap(), expected, "{name}");
        weights.finish().unwrap();
        let mut weights = Weights::noise("part");
        let rounded: Vec<half::bf16> = expected.iter().map(|&x| half::bf16::from_f32(x)).collect();
        assert_eq!(weights.values(name, shape).unwrap(), rounded.into(), "{name}");
    }
    let mut weights = Weights::noise("part").in_precision(Precision::F32);
    let rows = weights.rows("embedding.weight", [40, 8]).unwrap().gather(&[39, 2]).unwrap();
    let all: Vec<f32> = fixtures::weight("part.embedding.weight", &[40, 8]).collect();
    assert_eq!(rows, [&all[39 * 8..], &all[2 * 8..3 * 8]].concat().into());
}

/// Sizes are those of the sources: the paper's counts, the bundled model's config.
#[test]
fn shapes_are_the_size_they_claim() {
    let millions = |name| Shape::named(name).unwrap().parameters() as f64 / 1e6;
    // The paper's transformers have 3.22 G, 632 M and about 738 M; VQ tokenizers come on top.
    let vq = millions("muse-3b") - (48.0 * 16.0 * 2048.0f64.powi(2) + 20736.0 * 2048.0) / 1e6;
    assert!((0.0..200.0).contains(&vq), "{vq}");
    assert!((millions("muse-632m") - vq - 632.0).abs() < 20.0, "{}", millions("muse-632m"));
    assert!((millions("muse-superres") - 738.0).abs() < 150.0, "{}", millions("muse-superres"));
    let of =
        |path| std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/").to_owned() + path).unwrap();
    assert_eq!(of("src/shape/demo.json"), of("models/demo/config.json"));
    for name in NAMES {
        Shape::named(name).unwrap();
    }
}

/// The demonstration model's shape decodes, in both dtypes, and a step does what the model's own step does.
#[test]
fn a_shape_makes_images() {
    let shape = Shape::named("demo").unwrap();
    for dtype in [Precision::Bf16, Precision::F32] {
        let engine = Engine::draw(&shape, EngineOptions { dtype, ..Default::default() }).unwrap();
        assert_eq!(engine.stages(), ["base", "superres"]);
        let mut request = Request::new("anything");
        request.base.steps = Some(2);
        request.superres.steps = Some(1);
        let image = engine.generate(&request).unwrap();
        assert_eq!((image.image.width, image.image.height), (128, 128));
        assert_eq!(image.timings.base_steps.len(), 2);
        assert_eq!(image.timings.superres_steps.len(), 1);
        assert_eq!(engine.model_hash().unwrap(), shape.hash());
    }
}

#[test]
fn what_is_no_shape_or_does_not_fit_is_refused() {
    let error = Shape::named("muse-4b").unwrap_err();
    assert!(matches!(error, Error::Option { name: "shape", .. }), "{error}");
    assert!(error.to_string().contains("muse-3b"), "{error}");
    let shape = Shape::named("muse-3b").unwrap();
    let (bf16, f32) = (shape.bytes(Precision::Bf16), shape.bytes(Precision::F32));
    assert!(6 << 30 < bf16 && bf16 < 9 << 30 && f32 > 12 << 30, "{bf16} {f32}");
    // 256 layers of 8192 channels, twice: 1 TB, that no test machine has.
    let json =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/models/demo/config.json"));
    let mut config: serde_json::Value = serde_json::from_str(&json.unwrap()).unwrap();
    for stage in ["base", "superres"] {
        for (key, value) in
            [("hidden_size", 8192), ("mlp_size", 32768), ("num_heads", 64), ("num_layers", 256)]
        {
            config[stage][key] = value.into();
        }
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), config.to_string()).unwrap();
    let huge = Shape::named(file.path().to_str().unwrap()).unwrap();
    match Engine::draw(&huge, EngineOptions::default()) {
        Err(error @ Error::Device { .. }) => {
            let text = error.to_string();
            assert!(text.contains("GiB of memory") && text.contains("smaller shape"), "{text}");
        }
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("a terabyte was found"),
    }
}
