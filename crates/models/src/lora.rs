//! LoRA (Hu et al., 2021, <https://arxiv.org/abs/2106.09685>) as peft has it: the weight W of a linear layer stays, and
//! what is trained beside it is a product of low rank.
//!
//! ```text
//! y = x W + s (x A) B      s = alpha / rank, A [in, rank], B [rank, out]
//! ```
//!
//! A model whose flat vector holds adapters is the same model with another [`Layout`]: every gradient, tangent,
//! optimizer state and checkpoint is of the adapters alone. Names, shapes and targets are peft's, and so is the start:
//! B is 0, and A uniform within `1 / sqrt(in)`. Departures: the numbers of A are drawn here, from a seed, and there
//! is no dropout.

mod folder;
mod frozen;

use std::sync::Arc;

use burn::tensor::{DType, Device, Tensor, TensorData};
use dpg_spec::{Lora, LoraTargets};
use rand::RngExt;

pub(crate) use folder::export;
pub use folder::{load_adapter, name_base};
pub use frozen::Frozen;

use crate::{CausalLm, Error, Layout, Param, keyed_rng};

/// What every parameter's name begins with in peft's files.
const PREFIX: &str = "base_model.model.";

/// Adapters of a model whose own weights stay as they are.
#[derive(Debug)]
pub struct Adapters {
    frozen: Arc<Frozen>,
    /// For each parameter of the model, the place of its A among those of the adapters; its B follows.
    places: Vec<Option<usize>>,
    scale: f64,
    settings: Lora,
    /// The ends of the names of what is adapted.
    targets: Vec<String>,
}

impl PartialEq for Adapters {
    fn eq(&self, other: &Self) -> bool {
        self.places == other.places && self.settings == other.settings && self.model() == other.model()
    }
}

impl Eq for Adapters {}

/// The layout of the adapters that settings ask for, and the place of each parameter's A in it.
fn places(lm: &dyn CausalLm, lora: &Lora) -> Result<(Layout, Vec<Option<usize>>), Error> {
    let model = lm.layout().model();
    let targets = targets(lm, lora);
    let is_target = |name: &str, target: &String| {
        name.strip_suffix(target.as_str()).is_some_and(|before| before.is_empty() || before.ends_with('.'))
    };
    for target in &targets {
        if !linears(lm).any(|(_, name)| is_target(name, target)) {
            return Err(Error::NoLinear { name: target.clone(), known: ends(lm) });
        }
    }
    let (mut layout, mut places) = (Layout::default(), vec![None; model.params().len()]);
    for (index, name) in linears(lm) {
        if let [inputs, outputs] = model.params()[index].shape[..]
            && targets.iter().any(|target| is_target(name, target))
        {
            let name = |part: &str| format!("{PREFIX}{name}.lora_{part}.weight");
            places[index] = Some(layout.push_linear(name("A"), [inputs, lora.rank], true));
            layout.push_linear(name("B"), [lora.rank, outputs], true);
        }
    }
    Ok((layout, places))
}

/// The ends of the names of what settings ask to adapt.
fn targets(lm: &dyn CausalLm, lora: &Lora) -> Vec<String> {
    match &lora.targets {
        None => lm.lora_targets().iter().map(|&target| target.to_owned()).collect(),
        Some(LoraTargets::Named(names)) => names.clone(),
        Some(LoraTargets::All(_)) => ends(lm),
    }
}

/// The linear layers of a model but its head: the places of their weights among its parameters, and their names.
fn linears(lm: &dyn CausalLm) -> impl Iterator<Item = (usize, &str)> {
    let params = lm.layout().model().params().iter().enumerate().filter(|(_, param)| param.linear);
    params.map(|(index, param)| (index, param.name.strip_suffix(".weight").unwrap_or(&param.name)))
}

/// What the names of linear layers end in.
fn ends(lm: &dyn CausalLm) -> Vec<String> {
    let mut ends: Vec<String> = vec![];
    for (_, name) in linears(lm) {
        let end = name.rsplit('.').next().unwrap_or_default();
        if !ends.iter().any(|known| known == end) {
            ends.push(end.into());
        }
    }
    ends
}

/// The layout of a model's adapters, for whoever counts them: without the model's weights it computes nothing.
///
/// # Errors
/// [`Error::NoLinear`] for a target that the model has not.
pub fn adapter_layout(lm: &dyn CausalLm, lora: &Lora) -> Result<Layout, Error> {
    Ok(places(lm, lora)?.0)
}

/// Puts adapters upon a model's weights; returns their numbers at the start, `[lm.layout().len()]`.
///
/// # Errors
/// [`Error::NoLinear`] for a target that the model has not.
pub(crate) fn adapt(
    lm: &mut dyn CausalLm,
    lora: &Lora,
    frozen: Arc<Frozen>,
    seed: u64,
    place: (&Device, DType),
) -> Result<Tensor<1>, Error> {
    let (layout, places) = places(lm, lora)?;
    let targets = targets(lm, lora);
    let scale = lora.alpha / lora.rank as f64;
    let start = start(&layout, seed);
    lm.adapt(layout.upon(Adapters { frozen, places, scale, settings: lora.clone(), targets }));
    let start = TensorData::new(start, [lm.layout().len()]).convert_dtype(place.1);
    Ok(Tensor::from_data(start, place))
}

/// Uniform numbers for every A, and 0 for every B.
fn start(layout: &Layout, seed: u64) -> Vec<f64> {
    /// Keeps these numbers apart from what else a seed draws.
    const TAG: u64 = 0x6c6f_7261;
    let mut start = Vec::with_capacity(layout.len());
    for (number, param) in layout.params().iter().enumerate() {
        if number % 2 == 1 {
            start.extend(std::iter::repeat_n(0.0, param.len()));
            continue;
        }
        let bound = 1.0 / (param.shape[0] as f64).sqrt();
        let mut rng = keyed_rng([seed, TAG, number as u64, 0]);
        // numbers of f32, whatever is computed with
        start.extend((0..param.len()).map(|_| f64::from(rng.random_range(-bound..bound) as f32)));
    }
    start
}

impl Adapters {
    /// The layout of the model's own weights.
    pub fn model(&self) -> &Layout {
        self.frozen.layout()
    }

    /// The model's weights, which other adapters of it may share.
    pub fn frozen(&self) -> &Arc<Frozen> {
        &self.frozen
    }

    /// Whether a parameter of the model is adapted.
    pub fn adapts(&self, param: &Param) -> bool {
        let found = self.model().params().iter().position(|other| other.offset == param.offset);
        found.is_some_and(|index| self.places[index].is_some())
    }

    /// The place of a parameter's A, if it is adapted.
    pub(crate) fn place(&self, index: usize) -> Option<usize> {
        self.places[index]
    }

    /// What the product of A and B counts.
    pub(crate) fn scale(&self) -> f64 {
        self.scale
    }

    /// A parameter of the model on a device, as a vector.
    pub(crate) fn weight(&self, index: usize, device: &Device) -> Tensor<1> {
        self.frozen.weight(index, device)
    }

    /// The weights `W + s A B` of the model with the adapters `theta` of `layout`, `[layout.model().len()]`.
    pub fn merged(&self, layout: &Layout, theta: &Tensor<1>) -> Tensor<1> {
        let device = theta.device();
        let of_param = |(index, param): (usize, &Param)| {
            let weight = self.weight(index, &device).cast(theta.dtype());
            match self.matrices(layout, theta, index) {
                None => weight,
                Some([a, b]) => weight + a.matmul(b).reshape([param.len()]) * self.scale,
            }
        };
        Tensor::cat(self.model().params().iter().enumerate().map(of_param).collect(), 0)
    }

    /// The gradient in `theta` of what has the gradient `merged` in the merged weights: by the chain rule,
    /// `s G B^T` in A and `s A^T G` in B.
    pub fn gradient(&self, layout: &Layout, theta: &Tensor<1>, merged: &Tensor<1>) -> Tensor<1> {
        let of_param = |(index, param): (usize, &Param)| {
            let [a, b] = self.matrices(layout, theta, index)?;
            let g =
                merged.clone().slice(param.range()).reshape([param.shape[0], param.shape[1]]) * self.scale;
            let to_a = g.clone().matmul(b.transpose());
            let to_b = a.transpose().matmul(g);
            Some([to_a, to_b].map(|gradient| {
                let n = gradient.dims().iter().product::<usize>();
                gradient.reshape([n])
            }))
        };
        Tensor::cat(self.model().params().iter().enumerate().filter_map(of_param).flatten().collect(), 0)
    }

    /// A and B of a parameter.
    fn matrices(&self, layout: &Layout, theta: &Tensor<1>, index: usize) -> Option<[Tensor<2>; 2]> {
        let place = self.places[index]?;
        Some([place, place + 1].map(|place| {
            let param = &layout.params()[place];
            theta.clone().slice(param.range()).reshape([param.shape[0], param.shape[1]])
        }))
    }
}

#[cfg(test)]
mod tests;
