//! A model folder in memory.

use std::path::{Path, PathBuf};

use burn::tensor::{DType, Device, Tensor};

use crate::{CausalLm, Error, Tokenizer, architecture, weights};

/// A causal language model with its weights and tokenizer.
#[derive(Debug)]
pub struct Model {
    /// The architecture.
    pub lm: Box<dyn CausalLm>,
    /// The weights as one flat vector `[lm.layout().len()]`.
    pub theta: Tensor<1>,
    /// Its tokenizer.
    pub tokenizer: Tokenizer,
    /// The folder it came from.
    pub folder: PathBuf,
}

impl Model {
    /// Reads a Hugging Face folder; `dtype` is F32 or F64.
    pub fn load(folder: &Path, dtype: DType, device: &Device) -> Result<Self, Error> {
        let lm = architecture(folder)?;
        let theta = if dtype == DType::F64 {
            let theta = weights::load::<f64>(folder, lm.layout())?;
            Tensor::from_data(theta.as_slice(), (device, dtype))
        } else {
            let theta = weights::load::<f32>(folder, lm.layout())?;
            Tensor::from_data(theta.as_slice(), (device, dtype))
        };
        // one that knows more tokens than the model is fine as long as no text has them; see `check_tokens`
        let tokenizer = Tokenizer::load(folder)?;
        Ok(Self { lm, theta, tokenizer, folder: folder.into() })
    }
}
