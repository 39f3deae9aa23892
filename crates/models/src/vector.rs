//! A vector in a safetensors file: a direction among a model's hidden states.

use std::{collections::HashMap, path::Path};

use safetensors::{Dtype, SafeTensors, tensor::TensorView};

use crate::{Error, StoredType, files};

/// Most bytes of such a file.
const BYTES: u64 = 64 << 20;

/// The numbers of a file's tensor, which has one dimension longer than 1 at most.
///
/// # Errors
/// A file that cannot be read, an absent tensor, another shape or type, and numbers that are not finite, each by name.
pub fn load_vector(path: &Path, tensor: &str) -> Result<Vec<f64>, Error> {
    let bytes = files::read(path, BYTES)?;
    let tensors = SafeTensors::deserialize(&bytes)
        .map_err(|error| Error::malformed(path, format!("{error}; it is not a whole safetensors file")))?;
    let found = tensors.tensor(tensor).map_err(|_| {
        let names: Vec<_> = tensors.names().into_iter().map(|name| format!("`{name}`")).collect();
        Error::malformed(path, format!("it has no tensor `{tensor}`; it has {}", names.join(", ")))
    })?;
    if found.shape().iter().filter(|&&size| size != 1).count() > 1 {
        let reason = format!("`{tensor}` has shape {:?}; expected one vector", found.shape());
        return Err(Error::malformed(path, reason));
    }
    let Some(precision) = StoredType::of(found.dtype()) else {
        let reason = format!("`{tensor}` is of type {:?}; expected f64, f32, f16 or bf16", found.dtype());
        return Err(Error::malformed(path, reason));
    };
    let numbers = precision.decode(found.data());
    if numbers.iter().any(|number| !number.is_finite()) {
        return Err(Error::malformed(path, format!("`{tensor}` has a number that is not finite")));
    }
    Ok(numbers)
}

/// The bytes of a file with one vector in f32, and what `about` says of it.
pub fn vector_file(tensor: &str, numbers: &[f64], about: &[(&str, &str)]) -> Vec<u8> {
    let about: HashMap<String, String> =
        about.iter().map(|&(key, said)| (key.to_owned(), said.to_owned())).collect();
    let bytes = StoredType::F32.encode(numbers.iter().copied());
    let view = TensorView::new(Dtype::F32, vec![numbers.len()], &bytes).expect("four bytes a number");
    safetensors::serialize([(tensor, view)], Some(about)).expect("a name and numbers can be written")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vector_is_read_as_it_was_written_and_what_is_wrong_with_a_file_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("direction.safetensors");
        std::fs::write(&path, vector_file("direction", &[1.0, -0.5, 0.25], &[])).unwrap();
        assert_eq!(load_vector(&path, "direction").unwrap(), [1.0, -0.5, 0.25]);
        let error = |tensor: &str| load_vector(&path, tensor).unwrap_err().to_string();
        assert!(error("other").contains("it has `direction`"), "{}", error("other"));
        std::fs::write(&path, vector_file("direction", &[f64::NAN], &[])).unwrap();
        assert!(error("direction").contains("not finite"), "{}", error("direction"));
        std::fs::write(&path, "{}").unwrap();
        assert!(error("direction").contains("direction.safetensors"), "{}", error("direction"));
    }
}
