//! Weights that stay as they are, each in the type of its file.

use std::{fmt, path::Path};

use burn::tensor::{DType, Device, Tensor};

use crate::{Error, Layout, weights};

/// A model's weights, which nothing trains. Matrices keep the type of their file where that is narrower than the
/// numbers that are computed with (bf16 takes two bytes), and are widened one at a time where a pass reads them;
/// biases and norms, which are small, are held as they are computed with.
pub struct Frozen {
    layout: Layout,
    /// The parameters of the layout on each device, as vectors.
    copies: Vec<(Device, Vec<Tensor<1>>)>,
}

impl fmt::Debug for Frozen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Frozen").field("parameters", &self.layout.len()).finish_non_exhaustive()
    }
}

impl Frozen {
    /// Reads the weights of a model folder for passes in `dtype` on some devices.
    ///
    /// # Errors
    /// Those of [`weights::load`].
    pub(crate) fn load(
        folder: &Path,
        layout: &Layout,
        dtype: DType,
        devices: &[Device],
    ) -> Result<Self, Error> {
        let mut copies: Vec<(Device, Vec<Tensor<1>>)> = vec![];
        let stored = weights::stored_dtype(folder, layout, dtype)?;
        let flat = weights::load_tensor(folder, layout, stored, &devices[0])?;
        for device in devices {
            if copies.iter().any(|(other, _)| other == device) {
                continue;
            }
            let flat = flat.clone().to_device(device);
            let of_param = |param: &crate::Param| {
                let weight = flat.clone().slice(param.range());
                if param.shape.len() == 1 { weight.cast(dtype) } else { weight }
            };
            copies.push((device.clone(), layout.params().iter().map(of_param).collect()));
        }
        Ok(Self { layout: layout.clone(), copies })
    }

    /// The order of the parameters.
    pub(crate) fn layout(&self) -> &Layout {
        &self.layout
    }

    /// A parameter as a vector.
    ///
    /// # Panics
    /// On a device that the weights were not read for.
    pub(crate) fn weight(&self, index: usize, device: &Device) -> Tensor<1> {
        let copy = self.copies.iter().find(|(other, _)| other == device);
        copy.expect("weights are read for every device of a run").1[index].clone()
    }

    /// Bytes of the weights on a device.
    pub fn bytes(&self) -> u64 {
        self.copies[0].1.iter().map(|weight| (weight.dims()[0] * weight.dtype().size()) as u64).sum()
    }
}
