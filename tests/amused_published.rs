//! diffusers' own slow test, of the published weights: two steps must give the pixels that diffusers expects of
//! itself. Not among the default tests, as it needs the weights:
//! `MUSE_AMUSED_256=FOLDER cargo test --release --test amused_published`, or `MUSE_AMUSED_512`, or both.

use muse::{Engine, EngineOptions, Image, Precision, Request, Rng};
use serde_json::Value;

#[test]
fn published_weights_give_diffusers_pixels() {
    let expected: Value =
        serde_json::from_str(include_str!("golden/amused_published.json")).unwrap();
    let number = |value: &Value| value.as_f64().expect("a number") as f32;
    let folders =
        ["256", "512"].map(|size| (size, std::env::var_os(format!("MUSE_AMUSED_{size}"))));
    assert!(
        folders.iter().any(|(_, folder)| folder.is_some()),
        "set MUSE_AMUSED_256 or MUSE_AMUSED_512 to the folder of amused/amused-256 or -512"
    );
    for (size, folder) in folders {
        let Some(folder) = folder else { continue };
        let options = EngineOptions { dtype: Precision::F32, ..EngineOptions::default() };
        let mut request = Request::new(expected["prompt"].as_str().unwrap());
        (request.seed, request.rng) = (expected["seed"].as_u64().unwrap(), Rng::Torch);
        request.base.steps = Some(expected["steps"].as_u64().unwrap() as usize);
        let Image { width, height, rgb } =
            Engine::load(folder, options).unwrap().generate(&request).unwrap().image;
        // Ours are rounded to 8 bits.
        let tolerance = number(&expected["tolerance"]) + 0.5 / 255.0;
        let wanted = expected[format!("amused/amused-{size}")].as_array().unwrap();
        for (i, wanted) in wanted.iter().enumerate() {
            let (x, y) = (width - 3 + i % 3, height - 3 + i / 3);
            let blue = f32::from(rgb[3 * (y * width + x) + 2]) / 255.0;
            let off = (blue - number(wanted)).abs();
            assert!(off <= tolerance, "{size}: {blue} at {x},{y}, not {wanted}");
        }
    }
}
