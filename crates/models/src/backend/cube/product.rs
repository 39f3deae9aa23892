//! Matrix products at the precision that is asked for.

use burn::tensor::{DType, Tensor};
use burn_backend::{Shape, TensorMetadata, cubecl::dtype_to_elem_type};
use burn_cubecl::{
    Cube, CubeDevice,
    kernel::{cast, into_contiguous},
    ops::numeric::add,
    tensor::CubeTensor,
};
use cubek::{
    matmul::{
        definition::{MatmulElems, MatmulGlobalElems},
        launch::launch_ref,
        multi_level,
        strategy::Strategy,
    },
    std::InputBinding,
};

use super::{Kernels, split, sums::empty};
use crate::MatmulPrecision;

/// A product of f32 on a device of cubecl, and what is added to it; `None` elsewhere, for tracked operands, and for a
/// precision that the device has no tensor cores for.
pub(in crate::backend) fn matmul<const D: usize>(
    a: &Tensor<D>,
    b: &Tensor<D>,
    plus: Option<&Tensor<D>>,
    precision: MatmulPrecision,
) -> Option<Tensor<D>> {
    if a.dtype() != DType::F32 || b.dtype() != DType::F32 {
        return None;
    }
    let operand = |x: &Tensor<D>| x.clone().try_into_primitive::<Cube>().ok();
    let (a, b) = (operand(a)?, operand(b)?);
    if precision != MatmulPrecision::F32 && !has_tensor_cores(&a.device()) {
        return None;
    }
    let sum = match plus {
        None => Cube::product(a, b, precision),
        Some(c) => Cube::product_plus(a, b, operand(c)?, precision),
    };
    Some(Tensor::from_primitive::<Cube>(sum))
}

pub(super) fn shape(a: &Shape, b: &Shape) -> Shape {
    let mut sizes: Vec<usize> = a.iter().copied().collect();
    let columns = sizes.len() - 1;
    assert_eq!(
        sizes[..columns - 1],
        b[..columns - 1],
        "operands of a product have the same leading dimensions"
    );
    sizes[columns] = b[columns];
    Shape::from(sizes)
}

/// `a b`, and `plus` of the output's shape or a row for all of its rows.
pub(super) fn product(
    a: CubeTensor,
    b: CubeTensor,
    plus: Option<CubeTensor>,
    precision: MatmulPrecision,
) -> CubeTensor {
    // rows side by side: behind a gap they would be copied for most of what reads them
    let output = empty(&a, shape(&a.shape(), &b.shape()));
    let plus = plus.map(into_contiguous);
    let on_tensor_cores = |operands: [CubeTensor; 2]| {
        on_tensor_cores().into_iter().any(|strategy| launch(&operands, &output, &strategy))
    };
    let launched = has_tensor_cores(&a.device)
        && match precision {
            MatmulPrecision::F32 if split::product([&a, &b], plus.as_ref(), &output) => return output,
            MatmulPrecision::F32 => false,
            MatmulPrecision::Tf32 => on_tensor_cores([a.clone(), b.clone()]),
            MatmulPrecision::Bf16 => on_tensor_cores([&a, &b].map(|x| cast(x.clone(), DType::BF16))),
        };
    assert!(
        launched || launch(&[a, b], &output, &on_units()),
        "the kernel without tensor cores takes every product"
    );
    match plus {
        None => output,
        Some(plus) => add(output, plus),
    }
}

/// Whether a device multiplies bfloat16 on tensor cores.
fn has_tensor_cores(device: &CubeDevice) -> bool {
    let client = device.client();
    let (features, bf16) = (&client.features().matmul, dtype_to_elem_type(DType::BF16));
    features.mma.iter().chain(&features.cmma).any(|instruction| instruction.a_type == bf16)
}

/// Kernels on tensor cores, the fastest first. One refuses sizes and devices that it is not made for.
fn on_tensor_cores() -> [Strategy; 3] {
    [
        multi_level::Strategy::SpecializedTmaMma(Default::default()).into(),
        multi_level::Strategy::DoubleCyclicMma(Default::default()).into(),
        multi_level::Strategy::SimpleCyclicCmma(Default::default()).into(),
    ]
}

/// The kernel without tensor cores, which takes every product and leaves f32 as it is.
fn on_units() -> Strategy {
    multi_level::Strategy::SimpleUnit(Default::default()).into()
}

/// `a b` into the output; false if the kernel refuses the product.
fn launch(operands: &[CubeTensor; 2], output: &CubeTensor, strategy: &Strategy) -> bool {
    let elem = dtype_to_elem_type(operands[0].dtype);
    let mut elems = MatmulElems::from_globals(&MatmulGlobalElems {
        lhs: elem,
        rhs: elem,
        out: dtype_to_elem_type(DType::F32),
    });
    let client = output.client.clone();
    let [a, b] = operands.clone().map(|x| InputBinding::new(x.binding(), elem));
    launch_ref(strategy, &client, a, b, output.clone().binding(), &mut elems).is_ok()
}
