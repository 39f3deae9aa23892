//! An output to which other numbers are added as it is written, so that a product and a sum are one kernel.

#![allow(dead_code, reason = "of cube functions only the expansions are called")]

use cubecl::{
    ir::VectorSize,
    prelude::{barrier::Barrier, *},
    std::tensor::{
        View, ViewMut, ViewMutExpand, ViewOperations, ViewOperationsExpand, ViewOperationsMut,
        ViewOperationsMutExpand,
    },
};
use cubek::matmul::multi_level::args::BatchedCoords;

use super::parts::Position;

/// An output, and what is added to what is written there.
#[derive(CubeType, Clone)]
#[expand(derive(Clone))]
struct Plus<'a, E: CubePrimitive> {
    output: ViewMut<'a, E, BatchedCoords>,
    addend: View<'a, E, BatchedCoords>,
}

#[cube]
impl<'a, E: CubePrimitive> Plus<'a, E> {
    /// What is written at a position instead of a value.
    fn sum(&self, position: BatchedCoords, value: E) -> E {
        let addend = Vector::<f32, E::Size>::cast_from(self.addend.read_checked(position));
        E::cast_from(Vector::<f32, E::Size>::cast_from(value) + addend)
    }
}

/// A view of an output that adds to what is written.
#[cube]
pub(super) fn plus<'a, E: CubePrimitive>(
    output: ViewMut<'a, E, BatchedCoords>,
    addend: View<'a, E, BatchedCoords>,
) -> ViewMut<'a, E, BatchedCoords> {
    let plus = Plus::<'a, E> { output, addend };
    intrinsic!(|scope| ViewMutExpand::new(scope, plus))
}

impl<E: CubePrimitive> Vectorized for Plus<'_, E> {}
impl<E: CubePrimitive> VectorizedExpand for PlusExpand<'_, E> {
    fn __expand_vector_size_method(&self, scope: &Scope) -> VectorSize {
        self.output.__expand_vector_size_method(scope)
    }
}

impl<E: CubePrimitive> ViewOperations<E, BatchedCoords> for Plus<'_, E> {}
impl<E: CubePrimitive> ViewOperationsExpand<E, BatchedCoords> for PlusExpand<'_, E> {
    fn __expand_read_method(&self, _: &Scope, _: Position) -> NativeExpand<E> {
        panic!("an output is not read")
    }

    fn __expand_read_checked_method(&self, _: &Scope, _: Position) -> NativeExpand<E> {
        panic!("an output is not read")
    }

    fn __expand_read_unchecked_method(&self, _: &Scope, _: Position) -> NativeExpand<E> {
        panic!("an output is not read")
    }

    fn __expand_read_masked_method(&self, _: &Scope, _: Position, _: NativeExpand<E>) -> NativeExpand<E> {
        panic!("an output is not read")
    }

    fn __expand_as_linear_slice_method(&self, _: &Scope, _: Position, _: Position) -> &SliceExpand<E> {
        panic!("an output is not read")
    }

    fn __expand_tensor_map_load_method(
        &self,
        _: &Scope,
        _: &NativeExpand<Barrier>,
        _: &mut SliceExpand<E>,
        _: Position,
    ) {
        panic!("an output is not read")
    }

    fn __expand_shape_method(&self, scope: &Scope) -> Position {
        self.output.__expand_shape_method(scope)
    }

    fn __expand_is_in_bounds_method(&self, scope: &Scope, at: Position) -> NativeExpand<bool> {
        self.output.__expand_is_in_bounds_method(scope, at)
    }
}

impl<E: CubePrimitive> ViewOperationsMut<E, BatchedCoords> for Plus<'_, E> {}
impl<E: CubePrimitive> ViewOperationsMutExpand<E, BatchedCoords> for PlusExpand<'_, E> {
    fn __expand_write_method(&self, scope: &Scope, at: Position, value: NativeExpand<E>) {
        let sum = self.__expand_sum_method(scope, at.clone(), value);
        self.output.__expand_write_method(scope, at, sum);
    }

    fn __expand_write_checked_method(&self, scope: &Scope, at: Position, value: NativeExpand<E>) {
        let sum = self.__expand_sum_method(scope, at.clone(), value);
        self.output.__expand_write_checked_method(scope, at, sum);
    }

    fn __expand_as_linear_slice_mut_method(
        &self,
        _: &Scope,
        _: Position,
        _: Position,
    ) -> &mut SliceExpand<E> {
        panic!("what is written is added to")
    }

    fn __expand_tensor_map_store_method(&self, _: &Scope, _: &SliceExpand<E>, _: Position) {
        panic!("what is written is added to")
    }
}
