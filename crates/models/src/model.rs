//! A model folder in memory.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
};

use burn::tensor::{DType, Device, Tensor};

use dpg_spec::Lora;

use crate::{
    CausalLm, ChatTemplate, Error, Frozen, MatmulPrecision, StoredType, Tokenizer, architecture, export,
    lora, weights,
};

/// A causal language model with its weights and tokenizer.
#[derive(Debug)]
pub struct Model {
    /// The architecture.
    pub lm: Arc<dyn CausalLm>,
    /// The weights as one flat vector `[lm.layout().len()]`.
    pub theta: Tensor<1>,
    /// Its tokenizer.
    pub tokenizer: Tokenizer,
    /// The folder it came from.
    pub folder: PathBuf,
    chat: OnceLock<ChatTemplate>,
}

impl Model {
    /// Reads a Hugging Face folder; `dtype` is F32 or F64.
    pub fn load(folder: &Path, dtype: DType, device: &Device) -> Result<Self, Error> {
        let lm = architecture(folder)?;
        let theta = weights::load_tensor(folder, lm.layout(), dtype, device)?;
        Self::new(folder, lm.into(), theta)
    }

    /// The same with LoRA adapters for its parameters, at the start that `seed` draws. Passes may run on any of the
    /// devices; the adapters lie on the first. Weights that are in memory already are not read again.
    pub fn load_adapted(
        folder: &Path,
        lora: &Lora,
        seed: u64,
        dtype: DType,
        devices: &[Device],
        frozen: Option<Arc<Frozen>>,
    ) -> Result<Self, Error> {
        let mut lm = architecture(folder)?;
        let frozen = match frozen {
            Some(frozen) => frozen,
            None => Arc::new(Frozen::load(folder, lm.layout(), dtype, devices)?),
        };
        let theta = lora::adapt(lm.as_mut(), lora, frozen, seed, (&devices[0], dtype))?;
        Self::new(folder, lm.into(), theta)
    }

    fn new(folder: &Path, lm: Arc<dyn CausalLm>, theta: Tensor<1>) -> Result<Self, Error> {
        // one that knows more tokens than the model is fine as long as no text has them; see `check`
        let tokenizer = Tokenizer::load(folder)?;
        for warning in tokenizer.warnings() {
            tracing::warn!("{warning}");
        }
        Ok(Self { lm, theta, tokenizer, folder: folder.into(), chat: OnceLock::new() })
    }

    /// Writes it with the parameters `theta` `[lm.layout().len()]` to a folder, as transformers loads it, or, if they are
    /// adapters, as peft does.
    pub fn export(&self, folder: &Path, theta: &Tensor<1>) -> Result<(), Error> {
        let (layout, numbers) = (self.lm.layout(), theta.to_data_as::<f32>());
        let numbers: Vec<f32> = numbers.iter().collect();
        match layout.adapters() {
            None => export::export(&self.folder, folder, layout, &numbers, StoredType::F32),
            Some(adapters) => lora::export(&self.folder, folder, layout, adapters, &numbers),
        }
    }

    /// Computes products at a precision from now on.
    ///
    /// # Panics
    /// If something else holds the architecture already, as a metric may.
    pub fn set_precision(&mut self, precision: MatmulPrecision) {
        Arc::get_mut(&mut self.lm).expect("the architecture is the model's alone").set_precision(precision);
    }

    /// Its chat template, read on first use: a model without one is of use for plain text.
    pub fn chat(&self) -> Result<&ChatTemplate, Error> {
        if let Some(template) = self.chat.get() {
            return Ok(template);
        }
        let template = ChatTemplate::load(&self.folder)?;
        Ok(self.chat.get_or_init(|| template))
    }

    /// Checks that the model has all of these tokens: its tokenizer may know more.
    pub fn check(&self, tokens: &[u32]) -> Result<(), Error> {
        let model = self.lm.vocab_size();
        match tokens.iter().find(|&&id| id as usize >= model) {
            None => Ok(()),
            Some(&id) => Err(Error::UnknownToken {
                folder: self.folder.clone(),
                token: self.tokenizer.token(id).unwrap_or_default(),
                id,
                tokenizer: self.tokenizer.vocab_size(),
                model,
            }),
        }
    }
}
