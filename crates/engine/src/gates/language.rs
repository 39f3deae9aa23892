//! Rows in the wrong language.

use dpg_spec::Languages;

use super::{Around, Candidate, Gate};
use crate::{Error, language};

pub(super) struct Wanted(Vec<String>);

#[expect(clippy::unnecessary_wraps, reason = "other gates may fail to open")]
pub(super) fn open(settings: &Languages, _: Around) -> Result<Wanted, Error> {
    Ok(Wanted(settings.languages.clone()))
}

impl Gate for Wanted {
    fn passes(&mut self, row: &Candidate) -> Result<bool, Error> {
        let found = language::of_text(row.text);
        Ok(found.is_some_and(|found| self.0.iter().any(|wanted| wanted == found)))
    }
}
