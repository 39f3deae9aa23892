//! Matrix products at the precision that is asked for.

use burn::tensor::{DType, Tensor};
use burn_backend::{Shape, TensorMetadata, cubecl::dtype_to_elem_type};
use burn_cubecl::{Cube, ops::numeric::add, tensor::CubeTensor};
use cubek::{
    matmul::{
        definition::{MatmulElems, MatmulGlobalElems},
        launch::launch_ref,
        multi_level,
        routine::BlueprintStrategy,
    },
    std::InputBinding,
};

use super::{Kernels, sums::empty};
use crate::MatmulPrecision;

/// A product of f32 on a device of cubecl, and what is added to it; `None` elsewhere and for tracked operands.
pub(in crate::backend) fn matmul<const D: usize>(
    a: &Tensor<D>,
    b: &Tensor<D>,
    plus: &mut Option<Tensor<D>>,
    precision: MatmulPrecision,
) -> Option<Tensor<D>> {
    if a.dtype() != DType::F32 || b.dtype() != DType::F32 {
        return None;
    }
    let operand = |x: &Tensor<D>| x.clone().try_into_primitive::<Cube>().ok();
    let (left, right) = (operand(a)?, operand(b)?);
    let [rows, columns] = [a.dims()[D - 2], b.dims()[D - 1]];
    Some(match plus.take() {
        Some(c) if c.dims()[D - 2..] == [rows, columns] => {
            let c = c.try_into_primitive::<Cube>().ok()?;
            Tensor::from_primitive::<Cube>(Cube::product_plus(left, right, c, precision))
        }
        // burn fuses the sum with what comes next
        Some(row) => Tensor::from_primitive::<Cube>(Cube::product(left, right, precision)) + row,
        None => Tensor::from_primitive::<Cube>(Cube::product(left, right, precision)),
    })
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

/// `a b`, and `plus` of the product's shape.
pub(super) fn product(
    a: &CubeTensor,
    b: &CubeTensor,
    plus: Option<CubeTensor>,
    precision: MatmulPrecision,
) -> CubeTensor {
    #[cfg(feature = "cuda")]
    if super::cublas::multiplies_on(&a.device) {
        return super::cublas::product(a, b, plus, precision);
    }
    debug_assert_eq!(precision, MatmulPrecision::F32, "a backend names the precisions that it has");
    let output = by_cubek(a, b);
    match plus {
        None => output,
        Some(plus) => add(output, plus),
    }
}

/// `a b` by the kernel without tensor cores, which takes every product and leaves f32 as it is.
fn by_cubek(a: &CubeTensor, b: &CubeTensor) -> CubeTensor {
    // rows side by side: behind a gap they would be copied for most of what reads them
    let output = empty(a, shape(&a.shape(), &b.shape()));
    let elem = dtype_to_elem_type(DType::F32);
    let mut elems = MatmulElems::from_globals(&MatmulGlobalElems { lhs: elem, rhs: elem, out: elem });
    let [a, b] = [a, b].map(|x| InputBinding::new(x.clone().binding(), elem));
    let strategy = multi_level::Strategy::SimpleUnit(BlueprintStrategy::default()).into();
    launch_ref(&strategy, &output.client, a, b, output.clone().binding(), &mut elems)
        .expect("the kernel without tensor cores takes every product");
    output
}
