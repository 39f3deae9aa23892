//! Matrix products at a stated precision.
//!
//! Left alone, burn multiplies f32 matrices on tensor cores and rounds them to TF32 without saying so.
//! On CUDA the products here, and those of their gradients, are launched with the precision that was
//! asked for; on the CPU one below f32 is imitated by rounding the operands, to measure what it costs.

use burn::tensor::{DType, Device, Tensor};

use crate::Error;

/// What products of f32 matrices round their operands to. Sums are taken in f32 always.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MatmulPrecision {
    /// Nothing: 24 bits of mantissa.
    #[default]
    F32,
    /// TF32, 11 bits, on tensor cores.
    Tf32,
    /// bfloat16, 8 bits, on tensor cores.
    Bf16,
}

impl MatmulPrecision {
    /// Refuses a precision that gains nothing where the products are computed.
    ///
    /// # Errors
    /// TF32 and bfloat16 on the CPU.
    pub fn check(self, device: &Device) -> Result<(), Error> {
        if self == Self::F32 || *device != Device::flex() {
            return Ok(());
        }
        Err(Error::Precision { name: self.name() })
    }

    /// Its name in specs.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Tf32 => "tf32",
            Self::Bf16 => "bf16",
        }
    }

    /// `x` as products at this precision read it.
    fn round<const D: usize>(self, x: Tensor<D>) -> Tensor<D> {
        // 24 - 13 = 11 bits of mantissa are left (Veltkamp's splitting)
        const SPLIT: f64 = 8193.0;
        match self {
            Self::F32 => x,
            Self::Tf32 => {
                let scaled = x.clone() * SPLIT;
                scaled.clone() - (scaled - x)
            }
            Self::Bf16 => {
                let dtype = x.dtype();
                x.cast(DType::BF16).cast(dtype)
            }
        }
    }
}

/// `a b`, batched over leading dimensions, which are the same for both.
pub(crate) fn matmul<const D: usize>(a: Tensor<D>, b: Tensor<D>, precision: MatmulPrecision) -> Tensor<D> {
    #[cfg(feature = "cuda")]
    if let Some(product) = cuda::matmul(&a, &b, precision) {
        return product;
    }
    precision.round(a).matmul(precision.round(b))
}

#[cfg(feature = "cuda")]
mod cuda {
    use burn::tensor::{DType, Tensor};
    use burn_autodiff::{
        Autodiff,
        checkpoint::{base::Checkpointer, strategy::NoCheckpointing},
        grads::Gradients,
        ops::{Backward, Ops, OpsKind},
    };
    use burn_backend::{AutodiffBackend, TensorMetadata, cubecl::dtype_to_elem_type, ops::FloatTensorOps};
    use burn_cubecl::{
        Cube,
        kernel::{cast, matmul::init_matmul_output},
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

    use super::MatmulPrecision;

    /// A product on a CUDA device; `None` elsewhere, or of other numbers than f32.
    pub(super) fn matmul<const D: usize>(
        a: &Tensor<D>,
        b: &Tensor<D>,
        precision: MatmulPrecision,
    ) -> Option<Tensor<D>> {
        if a.dtype() != DType::F32 || b.dtype() != DType::F32 {
            return None;
        }
        if !a.is_autodiff() && !b.is_autodiff() {
            let operand = |x: &Tensor<D>| x.clone().try_into_primitive::<Cube>().ok();
            return Some(Tensor::from_primitive::<Cube>(product(operand(a)?, operand(b)?, precision)));
        }
        let operand = |x: &Tensor<D>| {
            let x = if x.is_autodiff() { x.clone() } else { x.clone().autodiff() };
            x.try_into_primitive::<Autodiff<Cube>>().ok()
        };
        let (a, b) = (operand(a)?, operand(b)?);
        let nodes = [a.node(), b.node()];
        let [a, b] = [a, b].map(<Autodiff<Cube> as AutodiffBackend>::inner);
        let output = product(a.clone(), b.clone(), precision);
        let output = match Product(precision).prepare::<NoCheckpointing>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prepared) => prepared.finish([a, b], output),
            OpsKind::UnTracked(prepared) => prepared.finish(output),
        };
        Some(Tensor::from_primitive::<Autodiff<Cube>>(output))
    }

    /// The operation of autodiff; its state is the operands.
    #[derive(Debug)]
    struct Product(MatmulPrecision);

    impl Backward<Cube, 2> for Product {
        type State = [CubeTensor; 2];

        fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
            let g = grads.consume::<Cube>(&ops.node);
            let [a, b] = ops.state;
            let [to_a, to_b] = ops.parents;
            if let Some(parent) = to_a {
                grads.register::<Cube>(parent.id, product(g.clone(), transposed(b), self.0));
            }
            if let Some(parent) = to_b {
                grads.register::<Cube>(parent.id, product(transposed(a), g, self.0));
            }
        }
    }

    fn transposed(x: CubeTensor) -> CubeTensor {
        let rank = x.rank();
        Cube::float_swap_dims(x, rank - 2, rank - 1)
    }

    fn product(a: CubeTensor, b: CubeTensor, precision: MatmulPrecision) -> CubeTensor {
        let leading = |x: &CubeTensor| x.shape().iter().copied().take(x.rank() - 2).collect::<Vec<_>>();
        assert_eq!(leading(&a), leading(&b), "operands of a product have the same leading dimensions");
        let output = init_matmul_output(&a, &b, DType::F32);
        let (operand, strategy) = match precision {
            // the kernel without tensor cores, the only one that leaves f32 as it is
            MatmulPrecision::F32 => {
                (DType::F32, multi_level::Strategy::SimpleUnit(Default::default()).into())
            }
            MatmulPrecision::Tf32 => (DType::F32, Strategy::Auto),
            MatmulPrecision::Bf16 => (DType::BF16, Strategy::Auto),
        };
        let [a, b] = [a, b].map(|x| cast(x, operand));
        let elem = dtype_to_elem_type(operand);
        let mut elems = MatmulElems::from_globals(&MatmulGlobalElems {
            lhs: elem,
            rhs: elem,
            out: dtype_to_elem_type(DType::F32),
        });
        let client = output.client.clone();
        let [a, b] = [a, b].map(|x| InputBinding::new(x.binding(), elem));
        launch_ref(&strategy, &client, a, b, output.clone().binding(), &mut elems)
            .expect("the kernel without tensor cores takes every product");
        output
    }
}
