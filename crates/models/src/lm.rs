//! What every causal language model offers, and the computations that only need that.

use std::fmt::Debug;

use crate::{
    Cache, Dual, Layout, Params, Tokens,
    fused::{LogProb, LogProbTangent},
};

/// A causal language model: pure functions of a flat parameter vector.
///
/// An implementation holds sizes and constants only, no weights.
pub trait CausalLm: Debug + Send + Sync {
    /// Order of the parameters in the flat vector.
    fn layout(&self) -> &Layout;

    /// Number of token ids.
    fn vocab_size(&self) -> usize;

    /// Longest sequence in tokens.
    fn context(&self) -> usize;

    /// Number of decoder layers, each with a place in the [`Cache`].
    fn layers(&self) -> usize;

    /// Where the language-model head lies.
    fn head(&self) -> Head;

    /// Final hidden states `[batch, seq, hidden]` of a block of tokens, after the last norm.
    ///
    /// With a cache the block continues the rows in it, and its keys and values are appended.
    fn hidden(&self, params: &Params, tokens: &Tokens, cache: Option<&mut Cache>) -> Dual<3>;
}

/// The parameter that turns hidden states into logits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Its index in the layout.
    pub param: usize,
    /// It is the embedding table `[vocab, hidden]`; otherwise it is `[hidden, vocab]`.
    pub tied: bool,
}

impl Head {
    /// The weight as `[hidden, vocab]`.
    fn weight(self, params: &Params) -> Dual<2> {
        let weight = params.matrix(self.param);
        if self.tied { weight.swap_dims(0, 1) } else { weight }
    }
}

/// Logits `[batch, seq, vocab]` of hidden states `[batch, seq, hidden]`.
pub fn logits(lm: &dyn CausalLm, params: &Params, hidden: Dual<3>) -> Dual<3> {
    crate::layers::linear(hidden, lm.head().weight(params), None)
}

/// Logits of next-token predictions: row `b`, column `t` predicts `rows[b][t + 1]`;
/// `[batch, longest - 1, vocab]`. Columns past a row's end mean nothing.
pub fn next_token_logits<R: AsRef<[u32]>>(lm: &dyn CausalLm, params: &Params, rows: &[R]) -> Dual<3> {
    let inputs: Vec<&[u32]> = rows.iter().map(|row| &row.as_ref()[..row.as_ref().len() - 1]).collect();
    let hidden = lm.hidden(params, &Tokens::right_padded(&inputs), None);
    logits(lm, params, hidden)
}

/// Log-probabilities of the tokens that follow: row `b`, column `t` is
/// `log p(rows[b][t + 1] | rows[b][..= t])`; `[batch, longest - 1]`. Columns past a row's end mean
/// nothing and must be masked by the caller.
pub fn log_probs<R: AsRef<[u32]>>(lm: &dyn CausalLm, params: &Params, rows: &[R]) -> Dual<2> {
    chosen_log_probs(params, next_token_logits(lm, params, rows), rows)
}

/// [`log_probs`] of logits that [`next_token_logits`] has computed.
pub fn chosen_log_probs<R: AsRef<[u32]>>(params: &Params, logits: Dual<3>, rows: &[R]) -> Dual<2> {
    let [batch, columns, vocab] = logits.dims();
    let mut next = Vec::with_capacity(batch * columns);
    for row in rows {
        let row = &row.as_ref()[1..];
        next.extend_from_slice(row);
        next.extend(std::iter::repeat_n(0, columns - row.len()));
    }
    let kernel = LogProb { targets: next.as_slice().into() };
    let flat = logits.reshape([batch * columns, vocab]);
    let log_probs = match flat.fused(kernel.clone(), LogProbTangent(kernel)) {
        Some(fused) => fused,
        None => {
            let next = next.into_iter().map(i64::from).collect();
            let next = params.integers(next, [batch * columns, 1]);
            flat.clone().linear_map(|logits| logits.gather(1, next.clone())) - flat.log_sum_exp()
        }
    };
    log_probs.reshape([batch, columns])
}
