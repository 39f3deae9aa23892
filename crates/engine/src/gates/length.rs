//! Rows that are too short or too long.

use dpg_spec::TokenRange;

use super::{Around, Candidate, Gate};
use crate::Error;

pub(super) struct Range(TokenRange);

#[expect(clippy::unnecessary_wraps, reason = "other gates may fail to open")]
pub(super) fn open(settings: &TokenRange, _: Around) -> Result<Range, Error> {
    Ok(Range(settings.clone()))
}

impl Gate for Range {
    fn passes(&mut self, row: &Candidate) -> Result<bool, Error> {
        Ok(row.measure.tokens >= self.0.min && self.0.max.is_none_or(|max| row.measure.tokens <= max))
    }
}
