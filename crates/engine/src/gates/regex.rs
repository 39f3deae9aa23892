//! Rows that do not look as they should.

use dpg_spec::Pattern;
use fancy_regex::Regex;

use super::{Around, Candidate, Gate};
use crate::Error;

pub(super) struct Expression(Regex);

pub(super) fn open(settings: &Pattern, _: Around) -> Result<Expression, Error> {
    Ok(Expression(expression("output.gates", &settings.pattern)?))
}

/// An expression of a spec, which has been read before.
pub(crate) fn expression(field: &'static str, pattern: &str) -> Result<Regex, Error> {
    Regex::new(pattern).map_err(|error| Error::setting(field, format!("`{pattern}`: {error}")))
}

impl Gate for Expression {
    fn passes(&mut self, row: &Candidate) -> Result<bool, Error> {
        // an expression that gives up has not been found
        Ok(self.0.is_match(row.text).unwrap_or(false))
    }
}
