//! Where the tokens of a forward pass stand: positions, causal mask and the cache of earlier keys
//! and values.

use std::sync::Arc;

use burn::tensor::Tensor;

use crate::{
    Params,
    fused::{Attention, CachedRow, cached_attention},
    params::indices,
};

/// A block of token ids, padded to one length.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tokens {
    ids: Arc<[u32]>,
    batch: usize,
    seq: usize,
}

impl Tokens {
    /// Rows padded on the right with id 0. Under a causal mask no real token sees the padding.
    pub fn right_padded<R: AsRef<[u32]>>(rows: &[R]) -> Self {
        Self::padded(rows, |ids, row, seq| {
            ids.extend(row);
            ids.extend(std::iter::repeat_n(0, seq - row.len()));
        })
    }

    /// Rows padded on the left with id 0; decode them with a [`Cache`] that knows the padding.
    pub fn left_padded<R: AsRef<[u32]>>(rows: &[R]) -> Self {
        Self::padded(rows, |ids, row, seq| {
            ids.extend(std::iter::repeat_n(0, seq - row.len()));
            ids.extend(row);
        })
    }

    fn padded<R: AsRef<[u32]>>(rows: &[R], push: impl Fn(&mut Vec<u32>, &[u32], usize)) -> Self {
        let seq = rows.iter().map(|row| row.as_ref().len()).max().unwrap_or(0);
        let mut ids = Vec::with_capacity(rows.len() * seq);
        for row in rows {
            push(&mut ids, row.as_ref(), seq);
        }
        Self { ids: ids.into(), batch: rows.len(), seq }
    }

    /// `[batch, seq]`.
    pub fn dims(&self) -> [usize; 2] {
        [self.batch, self.seq]
    }

    /// The ids as one vector `[batch * seq]`.
    pub fn flat(&self) -> Arc<[u32]> {
        self.ids.clone()
    }

    /// 0 for the tokens `id` and 1 for all others, `[batch * seq, 1]`; `None` where all are others.
    pub(crate) fn others(&self, params: &Params, id: u32) -> Option<Tensor<2>> {
        let marks = || self.ids.iter().map(|&other| if other == id { 0.0 } else { 1.0 }).collect();
        self.ids.contains(&id).then(|| params.constant(marks(), [self.ids.len(), 1]))
    }
}

/// Keys and values of the tokens decoded so far.
#[derive(Clone, Debug)]
pub struct Cache {
    /// On the CPU: the rows of every layer.
    rows: Vec<Vec<CachedRow>>,
    /// Elsewhere: one pair a layer, `[batch, kv_heads, len, head_dim]`.
    layers: Vec<Option<(Tensor<4>, Tensor<4>)>>,
    padding: Vec<usize>,
    len: usize,
}

impl Cache {
    /// An empty cache for rows of which the first `padding[row]` columns are padding.
    pub fn new(layers: usize, padding: Vec<usize>) -> Self {
        Self { rows: vec![vec![]; layers], layers: vec![None; layers], padding, len: 0 }
    }

    /// Columns decoded so far.
    pub fn len(&self) -> usize {
        self.len
    }

    /// True before the first block.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Appends a layer's new keys and values and attends to all, on the CPU; `None` elsewhere.
    pub(crate) fn attend(
        &mut self,
        layer: usize,
        heads: Attention,
        parts: [&Tensor<3>; 3],
    ) -> Option<Tensor<3>> {
        cached_attention(heads, parts, &mut self.rows[layer], &self.padding, self.len)
    }

    /// Appends a layer's new keys and values and returns all of them.
    pub(crate) fn append(
        &mut self,
        layer: usize,
        keys: Tensor<4>,
        values: Tensor<4>,
    ) -> (Tensor<4>, Tensor<4>) {
        let all = match self.layers[layer].take() {
            None => (keys, values),
            Some((old_keys, old_values)) => {
                (Tensor::cat(vec![old_keys, keys], 2), Tensor::cat(vec![old_values, values], 2))
            }
        };
        self.layers[layer] = Some(all.clone());
        all
    }

    /// Says that all layers have seen `columns` more tokens.
    pub(crate) fn advance(&mut self, columns: usize) {
        self.len += columns;
    }

    /// Has the rows `rows` go on, in ascending order: those left out cost nothing more, and one that is
    /// named again is copied.
    pub fn select(&mut self, rows: &[usize]) {
        self.padding = rows.iter().map(|&row| self.padding[row]).collect();
        for layer in self.rows.iter_mut().filter(|layer| !layer.is_empty()) {
            let row = |(place, &row): (usize, &usize)| {
                let again = rows.get(place + 1) == Some(&row);
                if again { layer[row].clone() } else { std::mem::take(&mut layer[row]) }
            };
            *layer = rows.iter().enumerate().map(row).collect();
        }
        for (keys, values) in self.layers.iter_mut().flatten() {
            let index = indices(rows, &keys.device());
            *keys = keys.clone().select(0, index.clone());
            *values = values.clone().select(0, index);
        }
    }
}

/// Positions and mask of one block.
pub(crate) struct Context {
    /// `[batch, seq]`, or `[1, seq]` if all rows agree, row-major.
    pub(crate) positions: Vec<usize>,
    /// Rows of `positions`.
    pub(crate) rows: usize,
    /// Which keys a query sees.
    pub(crate) mask: Mask,
}

/// Which keys a query sees.
pub(crate) enum Mask {
    /// All.
    None,
    /// Those up to its own.
    Causal,
    /// Those up to its own that are not padding.
    Padded {
        /// Columns of padding at the start of each row.
        padding: Vec<usize>,
        /// Column of the first query.
        start: usize,
    },
}

impl Mask {
    /// 0 where a query of padded rows may look and very negative elsewhere, `[batch, 1, seq, keys]`.
    pub(crate) fn scores(params: &Params, padding: &[usize], start: usize, seq: usize) -> Tensor<4> {
        let keys = start + seq;
        let mut mask = Vec::with_capacity(padding.len() * seq * keys);
        for &pad in padding {
            for query in start..keys {
                mask.extend((0..keys).map(|key| if (pad..=query).contains(&key) { 0.0 } else { MASKED }));
            }
        }
        params.constant(mask, [padding.len(), 1, seq, keys])
    }
}

/// Far below any score, and finite so that a row without keys stays finite.
const MASKED: f64 = -1e9;

impl Context {
    pub(crate) fn new([_, seq]: [usize; 2], cache: Option<&Cache>) -> Self {
        let (start, padding) = match cache {
            None => (0, vec![0]),
            Some(cache) if cache.padding.iter().all(|&pad| pad == 0) => (cache.len, vec![0]),
            Some(cache) => (cache.len, cache.padding.clone()),
        };
        let rows = padding.len();
        let keys = start + seq;
        let mut positions = Vec::with_capacity(rows * seq);
        for &pad in &padding {
            positions.extend((start..keys).map(|query| query.saturating_sub(pad)));
        }
        let mask = if padding.iter().any(|&pad| pad > 0) {
            Mask::Padded { padding, start }
        } else if seq == 1 {
            Mask::None
        } else {
            assert_eq!(start, 0, "a cache without padding is continued token by token");
            Mask::Causal
        };
        Self { positions, rows, mask }
    }
}
