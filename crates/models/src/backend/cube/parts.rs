//! An operand of a product in f32, read as its parts in bfloat16: each tile of the inner dimension as its three parts in
//! turn, which meet in the cache.

#![allow(dead_code, reason = "of cube functions only the expansions are called")]

use cubecl::{
    ir::VectorSize,
    prelude::{barrier::Barrier, *},
    std::tensor::{View, ViewExpand, ViewOperations, ViewOperationsExpand},
};
use cubek::matmul::multi_level::args::BatchedCoords;
use half::bf16;

/// Numbers of the inner dimension that are read as one part before the next, the depth of a product of tensor cores.
pub(super) const TILE: u32 = 16;

/// The side of a product that an operand is on.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Side {
    Left,
    Right,
}

/// An operand as its parts: tile after tile of its inner dimension, each three times. The left one is
/// `high, high, low`, the right one `high, low, high`.
#[derive(CubeType, Clone)]
#[expand(derive(Clone))]
struct Parts<'a, E: CubePrimitive> {
    whole: View<'a, E, BatchedCoords>,
    #[cube(comptime)]
    side: Side,
}

#[cube]
impl<'a, E: CubePrimitive> Parts<'a, E> {
    /// The part at a position, rounded to bfloat16 where it is a high one; zero behind the last.
    fn part(&self, position: BatchedCoords) -> E {
        let (batch, row, column) = position;
        let (_, rows, columns) = self.whole.shape();
        let (place, size) = match self.side.comptime() {
            Side::Left => (column, columns),
            Side::Right => (row, rows),
        };
        let tile = place / comptime!(TILE);
        let inner = tile / 3 * comptime!(TILE) + place % comptime!(TILE);
        let is_low = match self.side.comptime() {
            Side::Left => tile % 3 == 2,
            Side::Right => tile % 3 == 1,
        };
        let is_inside = inner < size;
        // a number that is always there stands for one that is not
        let inner = select(is_inside, inner, 0u32);
        let at = match self.side.comptime() {
            Side::Left => (batch, row, inner),
            Side::Right => (batch, inner, column),
        };
        let value = Vector::<f32, E::Size>::cast_from(self.whole.read_checked(at));
        let high = Vector::<f32, E::Size>::cast_from(Vector::<bf16, E::Size>::cast_from(value));
        let part = select(is_low, value - high, high);
        E::cast_from(select(is_inside, part, Vector::new(0.0f32)))
    }

    /// Whether there is a part at a position.
    fn is_inside(&self, position: BatchedCoords) -> bool {
        let (_, row, column) = position;
        let (_, rows, columns) = self.size();
        row < rows && column < columns
    }

    /// Rows and columns of the operand as it is read.
    fn size(&self) -> BatchedCoords {
        let (batch, rows, columns) = self.whole.shape();
        match self.side.comptime() {
            Side::Left => (batch, rows, 3 * columns.div_ceil(comptime!(TILE)) * comptime!(TILE)),
            Side::Right => (batch, 3 * rows.div_ceil(comptime!(TILE)) * comptime!(TILE), columns),
        }
    }
}

/// A view of an operand as its parts.
#[cube]
pub(super) fn parts<'a, E: CubePrimitive>(
    whole: View<'a, E, BatchedCoords>,
    #[comptime] side: Side,
) -> View<'a, E, BatchedCoords> {
    let parts = Parts::<'a, E> { whole, side };
    intrinsic!(|scope| ViewExpand::new(scope, parts))
}

impl<E: CubePrimitive> Vectorized for Parts<'_, E> {}
impl<E: CubePrimitive> VectorizedExpand for PartsExpand<'_, E> {
    fn __expand_vector_size_method(&self, scope: &Scope) -> VectorSize {
        self.whole.__expand_vector_size_method(scope)
    }
}

/// A position, as cube functions are expanded.
pub(super) type Position = <BatchedCoords as CubeType>::ExpandType;

impl<E: CubePrimitive> ViewOperations<E, BatchedCoords> for Parts<'_, E> {}
impl<E: CubePrimitive> ViewOperationsExpand<E, BatchedCoords> for PartsExpand<'_, E> {
    fn __expand_read_method(&self, scope: &Scope, at: Position) -> NativeExpand<E> {
        self.__expand_part_method(scope, at)
    }

    fn __expand_read_checked_method(&self, scope: &Scope, at: Position) -> NativeExpand<E> {
        self.__expand_part_method(scope, at)
    }

    fn __expand_read_unchecked_method(&self, scope: &Scope, at: Position) -> NativeExpand<E> {
        self.__expand_part_method(scope, at)
    }

    fn __expand_read_masked_method(
        &self,
        scope: &Scope,
        at: Position,
        other: NativeExpand<E>,
    ) -> NativeExpand<E> {
        let is_inside = self.__expand_is_in_bounds_method(scope, at);
        let part = self.__expand_part_method(scope, at);
        select::expand::<E>(scope, is_inside, part, other)
    }

    fn __expand_as_linear_slice_method(&self, _: &Scope, _: Position, _: Position) -> &SliceExpand<E> {
        panic!("parts lie nowhere in memory")
    }

    fn __expand_tensor_map_load_method(
        &self,
        _: &Scope,
        _: &NativeExpand<Barrier>,
        _: &mut SliceExpand<E>,
        _: Position,
    ) {
        panic!("parts lie nowhere in memory")
    }

    fn __expand_shape_method(&self, scope: &Scope) -> Position {
        self.__expand_size_method(scope)
    }

    fn __expand_is_in_bounds_method(&self, scope: &Scope, at: Position) -> NativeExpand<bool> {
        self.__expand_is_inside_method(scope, at)
    }
}
