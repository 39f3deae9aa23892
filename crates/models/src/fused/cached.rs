//! Attention of new tokens to those decoded before them, on the CPU in f32. A row's result depends on
//! that row alone, so decoding may split a batch as it likes.

use burn::tensor::{DType, Tensor};
use burn_backend::TensorData;
use burn_flex::{Flex, FlexTensor};
use rayon::prelude::*;

use super::{
    Attention, Real,
    gemm::zeros,
    is_off,
    real::{largest, sum},
    slice,
};

/// Columns whose keys lie together.
const LANES: usize = 16;

/// Keys and values of one row of the batch in one layer, without padding.
#[derive(Clone, Debug, Default)]
pub(crate) struct CachedRow {
    /// For every 16 columns one block, `[kv * dim]` of 16 keys' numbers.
    keys: Vec<[f32; LANES]>,
    /// `[columns, kv * dim]`.
    values: Vec<f32>,
    columns: usize,
}

impl CachedRow {
    fn push(&mut self, key: &[f32], value: &[f32]) {
        let lane = self.columns % LANES;
        if lane == 0 {
            self.keys.resize(self.keys.len() + key.len(), [0.0; LANES]);
        }
        let block = self.keys.len() - key.len();
        for (lanes, key) in self.keys[block..].iter_mut().zip(key) {
            lanes[lane] = *key;
        }
        self.values.extend_from_slice(value);
        self.columns += 1;
    }

    /// Attention of the query `[query * dim]` to all columns.
    #[inline(always)]
    fn attend(&self, heads: Attention, query: &[f32], weights: &mut Vec<f32>, output: &mut [f32]) {
        let width = heads.kv * heads.dim;
        let scale = 1.0 / (heads.dim as f32).sqrt();
        let queries = query.chunks_exact(heads.dim).zip(output.chunks_exact_mut(heads.dim));
        for (head, (query, output)) in queries.enumerate() {
            let first = head / (heads.query / heads.kv) * heads.dim;
            weights.clear();
            for block in self.keys.chunks_exact(width) {
                let mut scores = [0.0; LANES];
                for (q, keys) in query.iter().zip(&block[first..first + heads.dim]) {
                    for (score, key) in scores.iter_mut().zip(keys) {
                        *score += q * key;
                    }
                }
                weights.extend_from_slice(&scores);
            }
            weights.truncate(self.columns);
            let shift = largest(weights);
            for weight in weights.iter_mut() {
                *weight = (scale * (*weight - shift)).exponential();
            }
            let total = 1.0 / sum([&**weights], |[weight]| weight);
            output.fill(0.0);
            for (weight, values) in weights.iter().zip(self.values.chunks_exact(width)) {
                for (output, value) in output.iter_mut().zip(&values[first..first + heads.dim]) {
                    *output += weight * total * value;
                }
            }
        }
    }
}

/// Appends the columns of `[query, key, value]` `[batch, seq, heads * dim]` to `rows` and attends to
/// all; the first `padding[row]` columns of a row, counted from its first block, are nothing, and
/// `start` came before. `None` elsewhere than on the CPU in f32, untracked.
pub(crate) fn cached_attention(
    heads: Attention,
    [q, k, v]: [&Tensor<3>; 3],
    rows: &mut Vec<CachedRow>,
    padding: &[usize],
    start: usize,
) -> Option<Tensor<3>> {
    if is_off() || [q, k, v].iter().any(|part| part.is_autodiff() || part.dtype() != DType::F32) {
        return None;
    }
    let [batch, seq, width] = q.dims();
    let primitive = |part: &Tensor<3>| Some(part.clone().try_into_primitive::<Flex>().ok()?.to_contiguous());
    let (q, k, v) = (primitive(q)?, primitive(k)?, primitive(v)?);
    let [q, k, v] = [&q, &k, &v].map(slice::<f32>);
    rows.resize_with(batch, CachedRow::default);
    let kv = heads.kv * heads.dim;
    let mut output: Vec<f32> = zeros(batch * seq * width);
    let work = output.par_chunks_mut(seq * width).zip(rows).enumerate().with_min_len(8);
    work.for_each_init(Vec::new, |weights, (row, (output, cached))| {
        let absent = padding[row].saturating_sub(start).min(seq);
        for column in absent..seq {
            let place = row * seq + column;
            cached.push(&k[place * kv..(place + 1) * kv], &v[place * kv..(place + 1) * kv]);
            let query = &q[place * width..(place + 1) * width];
            let output = &mut output[column * width..(column + 1) * width];
            vectorised!(f32, cached.attend(heads, query, weights, output));
        }
    });
    let output = FlexTensor::from_data(TensorData::new(output, [batch, seq, width]));
    Some(Tensor::from_primitive::<Flex>(output))
}
