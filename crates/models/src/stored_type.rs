//! The floating-point types that weights are stored in.

use burn::tensor::Element;
use half::{bf16, f16};
use rayon::prelude::*;
use safetensors::Dtype;

/// A floating-point type on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoredType {
    /// bfloat16.
    Bf16,
    /// float16.
    F16,
    /// float32.
    F32,
    /// float64.
    F64,
}

impl StoredType {
    pub(crate) fn of(dtype: Dtype) -> Option<Self> {
        match dtype {
            Dtype::BF16 => Some(Self::Bf16),
            Dtype::F16 => Some(Self::F16),
            Dtype::F32 => Some(Self::F32),
            Dtype::F64 => Some(Self::F64),
            _ => None,
        }
    }

    pub(crate) fn dtype(self) -> Dtype {
        match self {
            Self::Bf16 => Dtype::BF16,
            Self::F16 => Dtype::F16,
            Self::F32 => Dtype::F32,
            Self::F64 => Dtype::F64,
        }
    }

    /// Its name in config.json.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Bf16 => "bfloat16",
            Self::F16 => "float16",
            Self::F32 => "float32",
            Self::F64 => "float64",
        }
    }

    pub(crate) fn bytes(self) -> usize {
        self.dtype().bitsize() / 8
    }

    /// Fills `place` with the numbers in little-endian `bytes`, of which f64 holds every one exactly; `transposed` has
    /// the shape in memory of a matrix that the file holds the transpose of. A number that is not finite is told.
    pub(crate) fn read<E: Element>(
        self,
        bytes: &[u8],
        transposed: Option<[usize; 2]>,
        place: &mut [E],
    ) -> Result<(), f64> {
        match self {
            Self::Bf16 => fill(bytes, transposed, place, |b| bf16::from_le_bytes(b).to_f64()),
            Self::F16 => fill(bytes, transposed, place, |b| f16::from_le_bytes(b).to_f64()),
            Self::F32 => fill(bytes, transposed, place, |b| f64::from(f32::from_le_bytes(b))),
            Self::F64 => fill(bytes, transposed, place, f64::from_le_bytes),
        }
    }

    /// Little-endian bytes of numbers.
    pub(crate) fn encode(self, numbers: impl Iterator<Item = f64>) -> Vec<u8> {
        match self {
            Self::Bf16 => numbers.flat_map(|x| bf16::from_f64(x).to_le_bytes()).collect(),
            Self::F16 => numbers.flat_map(|x| f16::from_f64(x).to_le_bytes()).collect(),
            Self::F32 => numbers.flat_map(|x| (x as f32).to_le_bytes()).collect(),
            Self::F64 => numbers.flat_map(f64::to_le_bytes).collect(),
        }
    }
}

/// [`StoredType::read`] of numbers of `N` bytes, by tasks of some rows of the place each. Those of a transposed matrix
/// are columns of the file: some beside each other share what is fetched from memory.
fn fill<E: Element, const N: usize>(
    bytes: &[u8],
    transposed: Option<[usize; 2]>,
    place: &mut [E],
    number: impl Fn([u8; N]) -> f64 + Sync,
) -> Result<(), f64> {
    const ROWS: usize = 16;
    let numbers = bytes.as_chunks::<N>().0;
    let [rows, width] = transposed.unwrap_or([1, 4096]);
    let put = |to: &mut E, from: [u8; N]| {
        let number = number(from);
        *to = E::from_elem(number);
        if number.is_finite() { Ok(()) } else { Err(number) }
    };
    place.par_chunks_mut((ROWS * width).max(1)).enumerate().try_for_each(|(task, place)| {
        if transposed.is_none() {
            let from = &numbers[task * ROWS * width..];
            return place.iter_mut().zip(from).try_for_each(|(to, &from)| put(to, from));
        }
        (0..width).try_for_each(|column| {
            let from = &numbers[column * rows + task * ROWS..];
            place[column..].iter_mut().step_by(width).zip(from).try_for_each(|(to, &from)| put(to, from))
        })
    })
}
