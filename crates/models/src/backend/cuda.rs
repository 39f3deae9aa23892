//! NVIDIA GPUs, in programs built with the feature `cuda`.

use burn::tensor::{Device, Tensor};

use super::Backend;
use crate::MatmulPrecision;

/// Products are launched at the precision that is asked for; everything else is burn's.
pub(super) struct Cuda;

impl Backend for Cuda {
    fn name(&self) -> &'static str {
        "cuda"
    }

    fn title(&self) -> &'static str {
        "an NVIDIA GPU"
    }

    fn is_numbered(&self) -> bool {
        true
    }

    fn open(&self, number: usize) -> Result<Device, String> {
        open(number)
    }

    fn owns(&self, device: &Device) -> bool {
        owns(device)
    }

    fn precisions(&self) -> &'static [MatmulPrecision] {
        &[MatmulPrecision::F32, MatmulPrecision::Tf32, MatmulPrecision::Bf16]
    }

    fn fuses(&self) -> bool {
        false
    }

    fn is_in_host_memory(&self) -> bool {
        false
    }

    fn remedy(&self) -> &'static str {
        "CUDA needs the NVIDIA driver, and NVRTC with its headers in CUDA_PATH or /usr/local/cuda"
    }

    fn product<const D: usize>(
        &self,
        a: &Tensor<D>,
        b: &Tensor<D>,
        precision: MatmulPrecision,
    ) -> Option<Tensor<D>> {
        matmul(a, b, precision)
    }
}

#[cfg(not(feature = "cuda"))]
use absent::{matmul, open, owns};
#[cfg(feature = "cuda")]
use built_in::{matmul, open, owns};

#[cfg(not(feature = "cuda"))]
mod absent {
    use burn::tensor::{Device, Tensor};

    use crate::MatmulPrecision;

    pub(super) fn open(_: usize) -> Result<Device, String> {
        Err("this program was built for the CPU alone; build one for both with \
             `cargo build --release --config deploy/cuda/config.toml --features cuda`"
            .into())
    }

    pub(super) fn owns(_: &Device) -> bool {
        false
    }

    pub(super) fn matmul<const D: usize>(
        _: &Tensor<D>,
        _: &Tensor<D>,
        _: MatmulPrecision,
    ) -> Option<Tensor<D>> {
        None
    }
}

#[cfg(feature = "cuda")]
mod built_in {
    use burn::tensor::{DType, Device, Tensor};
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
    use cudarc::driver::{CudaContext, sys::is_culib_present};

    use crate::MatmulPrecision;

    /// The GPU of a number; the driver is asked for first, because burn panics where there is none.
    pub(super) fn open(number: usize) -> Result<Device, String> {
        let count = count()?;
        if number >= count {
            return Err(format!("expected a number below {count}, which is how many GPUs there are"));
        }
        Ok(Device::cuda(number))
    }

    pub(super) fn owns(device: &Device) -> bool {
        count().is_ok_and(|count| (0..count).any(|number| *device == Device::cuda(number)))
    }

    /// How many GPUs there are.
    fn count() -> Result<usize, String> {
        #[expect(unsafe_code, reason = "opens the driver's library, which runs nothing of it")]
        let has_driver = unsafe { is_culib_present() };
        if !has_driver {
            return Err("the NVIDIA driver is not installed on this machine (there is no libcuda.so)".into());
        }
        let count =
            CudaContext::device_count().map_err(|error| format!("the NVIDIA driver answers {error}"))?;
        Ok(usize::try_from(count).unwrap_or(0))
    }

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
