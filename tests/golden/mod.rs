//! Golden files: tensors, and what else is known of them.

use std::collections::HashMap;

use safetensors::SafeTensors;

/// The tensors of `tests/golden/NAME.safetensors`, and its metadata.
pub fn open(name: &str) -> (SafeTensors<'static>, HashMap<String, String>) {
    let path = format!("{}/tests/golden/{name}.safetensors", env!("CARGO_MANIFEST_DIR"));
    let bytes = std::fs::read(path).expect("golden file").leak();
    let (_, metadata) = SafeTensors::read_metadata(bytes).expect("golden file");
    let metadata = metadata.metadata().clone().expect("metadata of a golden file");
    (SafeTensors::deserialize(bytes).unwrap(), metadata)
}
