//! A metric of a program, without Python.

use std::fs;
use std::path::Path;

/// A program of the shell whose metric is a constant, and that tells its environment and its process.
pub(crate) const CONSTANT: &str = "env > environment; echo $$ > process; read -r greeting; echo '{\"dpg\": 1, \"version\": \"of `one` kind\"}'; \
     while read -r asked; do id=$(printf %s \"$asked\" | sed 's/.*\"id\":\\([0-9]*\\).*/\\1/'); \
     cp gradient \"$(printf %s \"$asked\" | sed 's/.*\"gradient\":\"\\([^\"]*\\)\".*/\\1/')\" 2> /dev/null; \
     echo \"{\\\"id\\\": $id, \\\"value\\\": 1, \\\"proxies\\\": {\\\"half\\\": 0.5}}\"; done";

/// A gradient for the embedded target: ones in its final norm.
pub(crate) fn put_gradient(folder: &Path) {
    let mut layout = dpg_models::Layout::default();
    layout.push("model.norm.weight", &[64], false);
    let ones: Vec<f32> = (0..64_u8).map(|at| 1.0 + f32::from(at)).collect();
    dpg_models::weights::save(folder, &layout, &ones, dpg_models::StoredType::F32).unwrap();
    fs::rename(folder.join("model.safetensors"), folder.join("gradient")).unwrap();
}
