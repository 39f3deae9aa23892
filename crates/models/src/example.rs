//! One training example as a model sees it.

/// Token ids and which of them are scored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Example {
    /// Token ids, at least two.
    pub tokens: Vec<u32>,
    /// `scored[t]`: the prediction of `tokens[t]` counts in the loss. The first token never counts,
    /// having no predecessor.
    pub scored: Vec<bool>,
}

impl Example {
    /// All predicted tokens are scored.
    pub fn all_scored(tokens: Vec<u32>) -> Self {
        let mut scored = vec![true; tokens.len()];
        if let Some(first) = scored.first_mut() {
            *first = false;
        }
        Self { tokens, scored }
    }

    /// Number of scored tokens.
    pub fn scored_len(&self) -> usize {
        self.scored.iter().filter(|&&scored| scored).count()
    }
}

impl AsRef<[u32]> for Example {
    fn as_ref(&self) -> &[u32] {
        &self.tokens
    }
}
