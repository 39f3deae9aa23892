//! What every causal language model offers, and the computations that only need that.

use std::fmt::Debug;

use burn::tensor::{Tensor, TensorData, activation};

use crate::{
    Cache, Dual, Error, Layout, MatmulPrecision, Params, Tokens, composed,
    fused::{self, Divergence, LogProb},
    logits::CHUNK,
};

/// A causal language model: pure functions of a flat parameter vector.
///
/// An implementation holds sizes and constants only, no weights.
pub trait CausalLm: Debug + Send + Sync {
    /// Order of the parameters in the flat vector: the model's own, or those of [adapters](Self::adapt).
    fn layout(&self) -> &Layout;

    /// Number of token ids.
    fn vocab_size(&self) -> usize;

    /// Longest sequence in tokens.
    fn context(&self) -> usize;

    /// Number of decoder layers, each with a place in the [`Cache`].
    fn layers(&self) -> usize;

    /// Where the language-model head lies.
    fn head(&self) -> Head;

    /// The token whose row of the embedding training does not move through lookups, as transformers has it:
    /// `pad_token_id` of most families. A tied head moves the row all the same.
    fn padding(&self) -> Option<u32> {
        None
    }

    /// The ends of the names of those that LoRA adapts where nothing is said, as peft has it.
    fn lora_targets(&self) -> &'static [&'static str];

    /// Has the flat vector hold adapters from now on. What else it says of parameters stays in terms of the model's own
    /// layout, [`Layout::model`].
    fn adapt(&mut self, adapters: Layout);

    /// Precision of its products; f32 unless set.
    fn precision(&self) -> MatmulPrecision;

    /// Computes products at a precision from now on.
    fn set_precision(&mut self, precision: MatmulPrecision);

    /// Final hidden states `[batch, seq, hidden]` of a block of tokens, after the last norm.
    ///
    /// With a cache the block continues the rows in it, and its keys and values are appended.
    fn hidden(&self, params: &Params, tokens: &Tokens, cache: Option<&mut Cache>) -> Dual<3> {
        self.hidden_after(self.layers(), params, tokens, cache)
    }

    /// Hidden states after the first `layers` decoder layers, as transformers numbers its `hidden_states`: those
    /// after none are the embeddings, and those after all have passed the last norm.
    fn hidden_after(
        &self,
        layers: usize,
        params: &Params,
        tokens: &Tokens,
        cache: Option<&mut Cache>,
    ) -> Dual<3>;
}

/// The parameter that turns hidden states into logits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Its index in the model's own layout.
    pub param: usize,
    /// It is the embedding table `[vocab, hidden]`; otherwise it is `[hidden, vocab]`.
    pub tied: bool,
}

impl Head {
    /// The weight as `[hidden, vocab]`.
    pub fn weight(self, params: &Params) -> Dual<2> {
        let weight = params.matrix(self.param);
        if self.tied { weight.swap_dims(0, 1) } else { weight }
    }
}

/// Refuses what the model cannot take; `what` names the tokens.
///
/// # Errors
/// [`Error::TooLong`] if there are more than the context holds, and [`Error::NoEmbedding`] if the tokenizer
/// knows one that the model has no embedding of.
pub fn check_tokens(lm: &dyn CausalLm, tokens: &[u32], what: impl FnOnce() -> String) -> Result<(), Error> {
    let (length, limit) = (tokens.len(), lm.context());
    if length > limit {
        return Err(Error::TooLong { what: what(), length, limit });
    }
    match tokens.iter().find(|&&token| token as usize >= lm.vocab_size()) {
        None => Ok(()),
        Some(&token) => Err(Error::NoEmbedding { what: what(), token, vocab: lm.vocab_size() }),
    }
}

/// Logits `[batch, seq, vocab]` of hidden states `[batch, seq, hidden]`.
pub fn logits(lm: &dyn CausalLm, params: &Params, hidden: Dual<3>) -> Dual<3> {
    let [batch, seq, width] = hidden.dims();
    let logits = hidden.reshape([batch * seq, width]).linear(lm.head().weight(params), None, lm.precision());
    logits.reshape([batch, seq, lm.vocab_size()])
}

/// Units of the hidden states.
pub fn width(lm: &dyn CausalLm) -> usize {
    lm.layout().model().params()[lm.head().param].len() / lm.vocab_size()
}

/// Numbers that a pass with tangents keeps of each token for the way back, about: what the linear layers give and what
/// they are given, and the tangents of that. The head's logits come on top, [`chunk_of_logits`].
pub fn activations(lm: &dyn CausalLm) -> usize {
    let outputs =
        lm.layout().model().params().iter().filter(|param| param.linear).map(|param| param.shape[1]);
    // both norms, attention, and the inner layer, which is the widest
    let inputs = 3 * width(lm) + outputs.clone().max().unwrap_or(0);
    2 * (outputs.sum::<usize>() + lm.layers() * inputs)
}

/// Numbers that a [`Trace`](crate::Trace) keeps of each token, about: what trained linear layers and norms are given, and
/// what comes back to what they give.
pub fn traced(lm: &dyn CausalLm) -> usize {
    let layout = lm.layout();
    let Some(adapters) = layout.adapters() else {
        return activations(lm) / 2 + 4 * lm.layers() * width(lm);
    };
    let params = layout.model().params().iter().enumerate();
    let adapted = params.filter(|&(index, _)| adapters.place(index).is_some());
    adapted.map(|(_, param)| param.shape[0] + param.shape[1]).sum()
}

/// Numbers that a rollout of up to `length` tokens keeps while the generator is trained, about: what a pass without
/// tangents keeps.
pub fn kept_of_rollout(lm: &dyn CausalLm, length: usize) -> usize {
    activations(lm) / 2 * length
}

/// Rows of up to `length` tokens that may pass through a model together if each keeps so many numbers for the way
/// back: at most 16 Ki tokens, and 4 GiB in f32, but always a row.
pub fn together(kept: usize, length: usize) -> usize {
    const TOKENS: usize = 16_384;
    const NUMBERS: usize = 1 << 30;
    (TOKENS / length).min(NUMBERS / kept).max(1)
}

/// Logits that are held at once on the CPU, of `tokens` predicted tokens.
pub fn chunk_of_logits(lm: &dyn CausalLm, tokens: usize) -> usize {
    (tokens * lm.vocab_size()).min(CHUNK)
}

/// A token of some rows that is predicted from those before it: `rows[row][column]`, column above 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The row.
    pub row: usize,
    /// Its place in the row.
    pub column: usize,
}

/// Every token that has a predecessor, row after row.
pub fn places<R: AsRef<[u32]>>(rows: &[R]) -> Vec<Place> {
    let of_row =
        |(row, tokens): (usize, &R)| (1..tokens.as_ref().len()).map(move |column| Place { row, column });
    rows.iter().enumerate().flat_map(of_row).collect()
}

/// Logits that predict the tokens at `places`, `[places.len(), vocab]`. No other position passes
/// through the head.
pub fn logits_at<R: AsRef<[u32]>>(
    lm: &dyn CausalLm,
    params: &Params,
    rows: &[R],
    places: &[Place],
) -> Dual<2> {
    hidden_at(lm, params, rows, places).linear(lm.head().weight(params), None, lm.precision())
}

/// Final hidden states that predict the tokens at `places`, `[places.len(), hidden]`.
pub fn hidden_at<R: AsRef<[u32]>>(
    lm: &dyn CausalLm,
    params: &Params,
    rows: &[R],
    places: &[Place],
) -> Dual<2> {
    let inputs: Vec<&[u32]> = rows.iter().map(|row| &row.as_ref()[..row.as_ref().len() - 1]).collect();
    let hidden = lm.hidden(params, &Tokens::right_padded(&inputs), None);
    let [batch, columns, width] = hidden.dims();
    let index: Vec<i64> =
        places.iter().map(|place| (place.row * columns + place.column - 1) as i64).collect();
    let whole = index.iter().copied().eq(0..(batch * columns) as i64);
    let index = params.integers(index, [places.len()]);
    let hidden = hidden.reshape([batch * columns, width]);
    // picking every row in order would only copy
    if whole { hidden } else { hidden.select(0, index) }
}

/// Log-probability of token `tokens[i]` under row `i` of logits `[n, vocab]`: `[n]`.
pub fn log_probs(logits: &Tensor<2>, tokens: &[u32]) -> Tensor<1> {
    let [log_probs] = fused::apply(LogProb { targets: tokens.into() }, [logits]).unwrap_or_else(|| {
        let data: Vec<i64> = tokens.iter().map(|&token| token.into()).collect();
        let index = Tensor::from_data(TensorData::new(data, [tokens.len(), 1]), &logits.device());
        [logits.clone().gather(1, index) - composed::log_sum_exp(logits.clone())]
    });
    log_probs.squeeze_dim(1)
}

/// `KL(p || q)` of the distributions that rows of logits `[n, vocab]` stand for: `[n]`.
pub fn kl_divergence(p: &Tensor<2>, q: &Tensor<2>) -> Tensor<1> {
    let [divergence] = fused::apply(Divergence, [p, q]).unwrap_or_else(|| {
        let (p, q) = (activation::log_softmax(p.clone(), 1), activation::log_softmax(q.clone(), 1));
        [(p.clone().exp() * (p - q)).sum_dim(1)]
    });
    divergence.squeeze_dim(1)
}
