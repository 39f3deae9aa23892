//! What a teacher was asked and what that cost.

use std::collections::BTreeMap;
use std::ops::AddAssign;

use dpg_spec::{Budget, Price};
use serde::{Deserialize, Serialize};

/// Requests that were answered, and what their servers say they took. What was asked in vain, as a request that was
/// refused, costs nothing that anybody could count.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Account {
    /// Requests.
    pub requests: u64,
    /// Answers in them.
    pub answers: u64,
    /// Tokens of prompts.
    pub prompt_tokens: u64,
    /// Those of them that the server had read before.
    pub cached_tokens: u64,
    /// Tokens of answers, reasoning included.
    pub completion_tokens: u64,
    /// Those of them that were reasoning.
    pub reasoning_tokens: u64,
    /// Requests whose server did not tell their tokens, which are not counted here.
    pub untold: u64,
    /// Seconds that the requests took, added up.
    pub seconds: f64,
    /// What they cost, if the price of each is known.
    pub money: Option<f64>,
}

impl Default for Account {
    fn default() -> Self {
        Self {
            requests: 0,
            answers: 0,
            prompt_tokens: 0,
            cached_tokens: 0,
            completion_tokens: 0,
            reasoning_tokens: 0,
            untold: 0,
            seconds: 0.0,
            // nothing costs nothing
            money: Some(0.0),
        }
    }
}

impl AddAssign for Account {
    fn add_assign(&mut self, other: Self) {
        self.requests += other.requests;
        self.answers += other.answers;
        self.prompt_tokens += other.prompt_tokens;
        self.cached_tokens += other.cached_tokens;
        self.completion_tokens += other.completion_tokens;
        self.reasoning_tokens += other.reasoning_tokens;
        self.untold += other.untold;
        self.seconds += other.seconds;
        self.money = self.money.zip(other.money).map(|(a, b)| a + b);
    }
}

impl Account {
    /// Prices its tokens as those of `model`.
    pub(crate) fn priced(mut self, model: &str, prices: &BTreeMap<String, Price>) -> Self {
        let fresh = self.prompt_tokens.saturating_sub(self.cached_tokens);
        let tokens = [fresh, self.cached_tokens, self.completion_tokens].map(|tokens| tokens as f64);
        let [fresh, cached, completion] = tokens;
        let price = prices.get(model).filter(|_| self.untold == 0);
        self.money = price.map(|price| price.of(fresh, cached, completion));
        self
    }

    /// What of a budget is spent once so many answers more have come, each as those before on average; `None` if there is
    /// room for them.
    pub(crate) fn over(&self, budget: &Budget, more: usize) -> Option<String> {
        let grown = if self.answers == 0 { 1.0 } else { 1.0 + more as f64 / self.answers as f64 };
        let tokens = (self.prompt_tokens + self.completion_tokens) as f64;
        let bounds = [
            (budget.tokens.map(|bound| bound as f64), Some(tokens), "tokens"),
            (budget.money, self.money, "in money"),
            (budget.minutes, Some(self.seconds / 60.0), "minutes"),
        ];
        bounds.into_iter().find_map(|(bound, spent, what)| {
            let (bound, spent) = (bound?, spent?);
            let is_over = if more == 0 { spent >= bound } else { spent * grown > bound };
            is_over.then(|| format!("the budget is spent: {spent} of {bound} {what}"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account() -> Account {
        Account {
            requests: 2,
            answers: 4,
            prompt_tokens: 3_000_000,
            cached_tokens: 1_000_000,
            completion_tokens: 500_000,
            seconds: 90.0,
            ..Account::default()
        }
    }

    #[test]
    fn prices_are_for_a_million_and_none_is_guessed() {
        let price = Price { prompt: 1.0, cached_prompt: Some(0.25), completion: 4.0 };
        let prices = BTreeMap::from([("m".to_owned(), price)]);
        let mut known = account().priced("m", &prices);
        assert_eq!(known.money, Some(2.0 + 0.25 + 2.0));
        assert_eq!(account().priced("other", &prices).money, None);
        assert_eq!(Account { untold: 1, ..account() }.priced("m", &prices).money, None);
        known += known;
        assert_eq!((known.money, known.requests), (Some(8.5), 4));
        known += account().priced("other", &prices);
        assert_eq!((known.money, known.prompt_tokens), (None, 9_000_000));
    }

    #[test]
    fn a_budget_has_room_or_not() {
        let within = |budget: Budget, more| account().over(&budget, more);
        let tokens = |tokens| Budget { tokens: Some(tokens), ..Budget::default() };
        assert_eq!(within(Budget::default(), 1_000_000), None);
        assert_eq!(within(tokens(3_500_001), 0), None);
        assert!(within(tokens(3_500_000), 0).unwrap().contains("3500000 of 3500000 tokens"));
        // twice as many answers for twice as much
        assert_eq!(within(tokens(7_000_000), 4), None);
        assert!(within(tokens(7_000_000), 5).is_some());
        let minutes = |minutes| Budget { minutes: Some(minutes), ..Budget::default() };
        assert!(within(minutes(1.5), 0).is_some() && within(minutes(1.6), 0).is_none());
    }
}
