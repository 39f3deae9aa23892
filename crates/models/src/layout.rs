//! The order of a model's parameters in one flat vector.

use std::sync::Arc;

use crate::{Adapters, Error};

/// One parameter: its Hugging Face name and where it lies in the flat vector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Param {
    /// Name in `model.safetensors`.
    pub name: String,
    /// Shape in memory: linear weights are `[in, out]`, embeddings `[rows, hidden]`, vectors `[n]`.
    pub shape: Vec<usize>,
    /// The file holds the transpose (`torch.nn.Linear` stores `[out, in]`).
    pub transposed: bool,
    /// It is the weight of a linear layer other than the head: what LoRA adapts and Muon makes orthogonal.
    pub linear: bool,
    /// First element in the flat vector.
    pub offset: usize,
}

impl Param {
    /// Number of elements.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// True if the parameter has no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Its range in the flat vector.
    pub fn range(&self) -> std::ops::Range<usize> {
        self.offset..self.offset + self.len()
    }

    /// Shape in the file.
    pub fn stored_shape(&self) -> Vec<usize> {
        let mut shape = self.shape.clone();
        if self.transposed {
            shape.reverse();
        }
        shape
    }
}

/// The parameters of a model in the order of its flat vector, or, with LoRA, the adapters that the vector holds and
/// the model that they lie upon.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layout {
    params: Vec<Param>,
    len: usize,
    adapters: Option<Arc<Adapters>>,
}

impl Layout {
    /// Appends a parameter and returns its index. `shape` is the shape in memory.
    pub fn push(&mut self, name: impl Into<String>, shape: &[usize], transposed: bool) -> usize {
        let (name, shape) = (name.into(), shape.to_vec());
        self.append(Param { name, shape, transposed, linear: false, offset: self.len })
    }

    /// The same for the weight `[in, out]` of a linear layer other than the head.
    pub fn push_linear(&mut self, name: impl Into<String>, shape: [usize; 2], transposed: bool) -> usize {
        let (name, shape) = (name.into(), shape.to_vec());
        self.append(Param { name, shape, transposed, linear: true, offset: self.len })
    }

    fn append(&mut self, param: Param) -> usize {
        self.len += param.len();
        self.params.push(param);
        self.params.len() - 1
    }

    /// The same parameters as adapters of a model.
    pub(crate) fn upon(self, adapters: Adapters) -> Self {
        Self { adapters: Some(Arc::new(adapters)), ..self }
    }

    /// What the parameters adapt, if they are adapters.
    pub fn adapters(&self) -> Option<&Arc<Adapters>> {
        self.adapters.as_ref()
    }

    /// The layout of the model's own weights: this one, unless it is one of adapters.
    pub fn model(&self) -> &Self {
        self.adapters.as_ref().map_or(self, |adapters| adapters.model())
    }

    /// Number of elements of the flat vector.
    pub fn len(&self) -> usize {
        self.len
    }

    /// True if there are no parameters.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// All parameters in order.
    pub fn params(&self) -> &[Param] {
        &self.params
    }

    /// The parameter of that name.
    pub fn find(&self, name: &str) -> Result<&Param, Error> {
        self.params.iter().find(|param| param.name == name).ok_or_else(|| Error::UnknownParameter {
            name: name.into(),
            known: self.params.iter().map(|param| param.name.clone()).collect(),
        })
    }
}
