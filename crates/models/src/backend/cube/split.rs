//! Products of f32 on tensor cores: each number is two bfloat16, `x = high + low` to 16 bits of mantissa.
//!
//! Three products `high high + high low + low high`, summed in f32, are one product along an inner dimension three
//! times as long. cubek's kernels read it through a view of the operands ([`parts`]), so that it lies nowhere. What is
//! left out, `low low`, is below 2^-16 of the whole.

use burn_backend::{DType, TensorMetadata, cubecl::dtype_to_elem_type};
use burn_cubecl::tensor::CubeTensor;
use cubecl::{
    prelude::*,
    std::tensor::{View, ViewMut, launch::ViewArg},
};
use cubek::{
    matmul::{
        definition::{AvailableVectorSizes, MatmulGlobalElems, MatmulProblem, MatmulSetupError},
        multi_level::{
            BatchMatmulRoutine,
            args::{
                BatchedCoords, ConcreteInputsFactory, ConcreteOutputFactory, InputArg, MatmulArgs, OutputArg,
                TensorArgs, TensorInputs, TensorOutput,
            },
            components::{
                global::memory::{GlobalLayout, GlobalLayoutConfig, GlobalLayoutLaunch},
                tile::TileMatmulKind,
            },
            definition::Blueprint as _,
            launch_kernel,
            routines::batch::{
                double_buffering::{CyclicDoubleBufferingAlgorithm, DoubleBufferingArgs},
                simple::SimpleAlgorithm,
            },
        },
        routine::BlueprintStrategy,
    },
    std::{InputBinding, MatrixLayout},
};

use super::{
    parts::{Side, TILE, parts},
    plus::plus,
};

/// `a b`, and `plus` in one piece, of the output's shape or a row for all of its rows, into the output; false where no
/// kernel on tensor cores takes it.
pub(super) fn product(operands: [&CubeTensor; 2], plus: Option<&CubeTensor>, output: &CubeTensor) -> bool {
    let double = DoubleBufferingArgs { tile_matmul: TileMatmulKind::Mma, ..Default::default() };
    launch::<CyclicDoubleBufferingAlgorithm>(operands, plus, output, &BlueprintStrategy::Inferred(double))
        .is_ok()
        || launch::<SimpleAlgorithm>(operands, plus, output, &BlueprintStrategy::default()).is_ok()
}

/// Launches one of cubek's kernels for operands in f32 that it takes to be bfloat16, three times as long.
fn launch<Kernel: BatchMatmulRoutine<()>>(
    [a, b]: [&CubeTensor; 2],
    plus: Option<&CubeTensor>,
    output: &CubeTensor,
    strategy: &BlueprintStrategy<(), Kernel>,
) -> Result<(), MatmulSetupError>
where
    InputArg<SplitArgs>: ConcreteInputsFactory<Kernel>,
    OutputArg<TensorArgs>: ConcreteOutputFactory<Kernel>,
{
    let client = output.client.clone();
    let [f32, bf16] = [DType::F32, DType::BF16].map(dtype_to_elem_type);
    let in_rows_or_columns = |x: &CubeTensor| {
        let binding = InputBinding::new(x.clone().binding(), f32);
        match MatrixLayout::from_shape_and_strides(binding.shape(), &binding.data().strides, None) {
            Ok(_) => Ok(binding),
            Err(_) => binding.into_contiguous(&client),
        }
    };
    let (a, b) = (in_rows_or_columns(a)?, in_rows_or_columns(b)?);
    let (shape, strides) = (output.shape(), output.meta.strides().clone());
    let address =
        a.required_address_type().max(b.required_address_type()).max(output.required_address_type());
    let mut problem = MatmulProblem::from_shapes_and_strides(
        a.shape().clone(),
        b.shape().clone(),
        shape.clone(),
        a.data().strides.clone(),
        b.data().strides.clone(),
        strides,
        MatmulGlobalElems { lhs: bf16, rhs: bf16, out: f32 },
        address,
        None,
        None,
    )?;
    let sizes = AvailableVectorSizes::from_type_sizes(&client, f32.size(), f32.size(), f32.size())
        .filter_lhs_with_tensor(&problem.lhs_strides, &problem.lhs_shape, problem.lhs_layout)
        .filter_rhs_with_tensor(&problem.rhs_strides, &problem.rhs_shape, problem.rhs_layout)
        .filter_out_with_tensor(&problem.out_strides, &problem.out_shape)
        .pick_max()?;
    problem.k = 3 * problem.k.next_multiple_of(TILE as usize);
    let settings = Kernel::device_settings(&client, sizes);
    let expanded = Kernel::expand_blueprint(&problem, &settings, strategy)?;
    let mut launch = Kernel::prepare(&problem, &settings, expanded)?;
    // memory has f32, which the kernel rounds as it puts them where tensor cores read
    (launch.dtypes.lhs_global, launch.dtypes.rhs_global) = (f32, f32);
    let (blueprint, sizes) = (&launch.blueprint, &launch.vector_sizes);
    let input = <InputArg<SplitArgs> as ConcreteInputsFactory<Kernel>>::create(
        a,
        b,
        blueprint,
        &problem,
        sizes,
        &launch.dtypes,
    );
    let output = <OutputArg<TensorArgs> as ConcreteOutputFactory<Kernel>>::create(
        output.clone().binding(),
        blueprint,
        &problem,
        sizes,
        &launch.dtypes,
    );
    let plus = plus.map_or(ComptimeOptionArgs::None, |plus| {
        let is_row = plus.shape() != shape;
        let mut plus = plus.clone().binding();
        if is_row {
            let rows = shape.len() - 2;
            (plus.shape, plus.strides[rows]) = (shape, 0);
        }
        let layout = GlobalLayoutLaunch::from_handle(&plus, sizes.out, blueprint.out_global_layout_config());
        ComptimeOptionArgs::Some(ViewArg::new_tensor::<GlobalLayout>(plus.into_tensor_arg(), layout))
    });
    let output = SumLaunch::new(output, plus);
    launch_kernel::<SplitArgs, Kernel>(&client, input, output, (), launch)
}

/// The output of a product, and what is added to it.
#[derive(CubeType, CubeLaunch, Clone)]
#[expand(derive(Clone))]
struct Sum<E: CubePrimitive> {
    product: TensorOutput<E>,
    plus: ComptimeOption<View<'static, E, BatchedCoords>>,
}

/// cubek's arguments of a product of tensors, whose operands are read as their parts.
#[derive(Clone)]
struct SplitArgs;

#[cube]
impl MatmulArgs for SplitArgs {
    type Input<Lhs: CubePrimitive, Rhs: CubePrimitive, EO: CubePrimitive> = TensorInputs<Lhs, Rhs, EO>;
    type Output<EO: CubePrimitive> = Sum<EO>;
    type Config = ();
    type State<Lhs: CubePrimitive, Rhs: CubePrimitive, EO: CubePrimitive> = (
        (TensorInputs<Lhs, Rhs, EO>, TensorOutput<EO>, ()),
        ComptimeOption<View<'static, EO, BatchedCoords>>,
    );

    fn init_state<Lhs: CubePrimitive, Rhs: CubePrimitive, EO: CubePrimitive>(
        input: &Self::Input<Lhs, Rhs, EO>,
        output: &mut Self::Output<EO>,
        config: Self::Config,
        #[comptime] left: GlobalLayoutConfig,
        #[comptime] right: GlobalLayoutConfig,
        #[comptime] out: GlobalLayoutConfig,
    ) -> Self::State<Lhs, Rhs, EO> {
        let tensors = TensorArgs::<()>::init_state::<Lhs, Rhs, EO>(
            input,
            &mut output.product,
            config,
            left,
            right,
            out,
        );
        (tensors, output.plus.clone())
    }

    fn view_lhs<Lhs: CubePrimitive, Rhs: CubePrimitive, EO: CubePrimitive>(
        state: &Self::State<Lhs, Rhs, EO>,
    ) -> View<'_, Lhs, BatchedCoords> {
        parts::<Lhs>(TensorArgs::<()>::view_lhs::<Lhs, Rhs, EO>(&state.0), Side::Left)
    }

    fn batch_lhs<Lhs: CubePrimitive, Rhs: CubePrimitive, EO: CubePrimitive>(
        state: &Self::State<Lhs, Rhs, EO>,
        batch: usize,
    ) -> usize {
        TensorArgs::<()>::batch_lhs::<Lhs, Rhs, EO>(&state.0, batch)
    }

    fn view_rhs<Lhs: CubePrimitive, Rhs: CubePrimitive, EO: CubePrimitive>(
        state: &Self::State<Lhs, Rhs, EO>,
    ) -> View<'_, Rhs, BatchedCoords> {
        parts::<Rhs>(TensorArgs::<()>::view_rhs::<Lhs, Rhs, EO>(&state.0), Side::Right)
    }

    fn batch_rhs<Lhs: CubePrimitive, Rhs: CubePrimitive, EO: CubePrimitive>(
        state: &Self::State<Lhs, Rhs, EO>,
        batch: usize,
    ) -> usize {
        TensorArgs::<()>::batch_rhs::<Lhs, Rhs, EO>(&state.0, batch)
    }

    fn view_acc<Lhs: CubePrimitive, Rhs: CubePrimitive, EO: CubePrimitive>(
        state: &Self::State<Lhs, Rhs, EO>,
    ) -> ComptimeOption<View<'_, EO, BatchedCoords>> {
        TensorArgs::<()>::view_acc::<Lhs, Rhs, EO>(&state.0)
    }

    fn batch_acc<Lhs: CubePrimitive, Rhs: CubePrimitive, EO: CubePrimitive>(
        state: &Self::State<Lhs, Rhs, EO>,
        batch: usize,
    ) -> usize {
        TensorArgs::<()>::batch_acc::<Lhs, Rhs, EO>(&state.0, batch)
    }

    fn view_out<Lhs: CubePrimitive, Rhs: CubePrimitive, EO: CubePrimitive>(
        state: &Self::State<Lhs, Rhs, EO>,
    ) -> ViewMut<'_, EO, BatchedCoords> {
        let output = TensorArgs::<()>::view_out::<Lhs, Rhs, EO>(&state.0);
        #[comptime]
        match &state.1 {
            ComptimeOption::Some(addend) => plus::<EO>(output, *addend),
            ComptimeOption::None => output,
        }
    }

    fn batch_out<Lhs: CubePrimitive, Rhs: CubePrimitive, EO: CubePrimitive>(
        state: &Self::State<Lhs, Rhs, EO>,
        batch: usize,
    ) -> usize {
        TensorArgs::<()>::batch_out::<Lhs, Rhs, EO>(&state.0, batch)
    }

    fn runtime_config<Lhs: CubePrimitive, Rhs: CubePrimitive, EO: CubePrimitive>(
        _state: &Self::State<Lhs, Rhs, EO>,
    ) -> Self::Config {
    }
}
