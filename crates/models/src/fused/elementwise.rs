//! Functions of flat vectors, element by element, on all threads.

use burn::tensor::{DType, Tensor};
use burn_backend::TensorData;
use burn_flex::{Flex, FlexTensor};

use super::{Real, fill::fill, rows::TASK, slice};

/// `M` vectors of which element i is computed, in f64, from elements i of `N` vectors `[n]` of one
/// type, in one pass. `None` if they are not on the CPU in f32 or f64, or are tracked.
pub fn elementwise<const N: usize, const M: usize>(
    inputs: [&Tensor<1>; N],
    f: impl Fn([f64; N]) -> [f64; M] + Sync,
) -> Option<[Tensor<1>; M]> {
    let dtype = inputs[0].dtype();
    if inputs.iter().any(|input| input.is_autodiff() || input.dtype() != dtype) {
        return None;
    }
    let primitive = |input: &Tensor<1>| input.clone().try_into_primitive::<Flex>().ok();
    let inputs: Option<Vec<FlexTensor>> = inputs.into_iter().map(primitive).collect();
    let inputs: [FlexTensor; N] = inputs?.try_into().ok()?;
    let outputs = match dtype {
        DType::F32 => outputs::<f32, N, M>(&inputs, f),
        DType::F64 => outputs::<f64, N, M>(&inputs, f),
        _ => return None,
    };
    Some(outputs.map(Tensor::from_primitive::<Flex>))
}

fn outputs<E: Real, const N: usize, const M: usize>(
    inputs: &[FlexTensor; N],
    f: impl Fn([f64; N]) -> [f64; M] + Sync,
) -> [FlexTensor; M] {
    let inputs = inputs.each_ref().map(FlexTensor::to_contiguous);
    let slices = inputs.each_ref().map(slice::<E>);
    let n = slices[0].len();
    let (outputs, _) = fill([n; M], [TASK; M], |task, mut outputs: [&mut [E]; M]| {
        let first = task * TASK;
        let slices = slices.map(|slice| &slice[first..first + outputs[0].len()]);
        E::vectorised(|| {
            for i in 0..slices[0].len() {
                let values =
                    f(slices.map(|slice| num_traits::ToPrimitive::to_f64(&slice[i]).unwrap_or(f64::NAN)));
                for (output, value) in outputs.iter_mut().zip(values) {
                    output[i] = E::of(value);
                }
            }
        });
    });
    outputs.map(|output| FlexTensor::from_data(TensorData::new(output, [n])))
}
