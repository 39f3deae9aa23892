//! The rows of the dataset: drawn until enough of them pass its gates and quotas.

use dpg_generator::{Asked, Completion, Prompt};
use dpg_spec::Siblings;
use fancy_regex::Regex;

use crate::{
    Draw, Error, Run, Writer,
    gates::{Around, Candidate, Gates, Refused, expression, quotas},
    lengths::{self, Measure},
    writer::row,
};

/// More rows are drawn than are likely to be needed, by this factor.
const RESERVE: f64 = 1.1;

/// Rows of the dataset before they are scored.
#[derive(Default)]
pub(crate) struct Collected {
    pub(crate) prompts: Vec<Prompt>,
    pub(crate) completions: Vec<Completion>,
    /// The group of each.
    pub(crate) groups: Vec<u64>,
    /// Whether each is the short sibling of the row before it.
    pub(crate) siblings: Vec<bool>,
    pub(crate) refused: Refused,
    /// Rows that were drawn.
    pub(crate) drawn: usize,
}

impl Collected {
    fn push(&mut self, prompt: Prompt, completion: Completion, group: u64, sibling: bool) {
        self.prompts.push(prompt);
        self.completions.push(completion);
        self.groups.push(group);
        self.siblings.push(sibling);
    }
}

impl Run<'_> {
    /// `examples` rows in groups of `group_size`; if none can be refused, whole groups.
    pub(crate) fn collect(&self, examples: usize, group_size: usize) -> Result<Collected, Error> {
        let (spec, writer) = (&self.problem.spec, self.problem.writer()?);
        let mut collected = Collected::default();
        let draw = |groups: usize, number: u64| {
            writer.draw_groups((groups, group_size), spec.seed, Draw::dataset(number), self.stop)
        };
        if !spec.output.refuses() {
            let drawn = draw(examples.div_ceil(group_size), 0)?;
            for (at, (prompt, completion)) in drawn.prompts.into_iter().zip(drawn.completions).enumerate() {
                collected.push(prompt, completion, (at / group_size) as u64, false);
            }
            collected.drawn = collected.prompts.len();
            return Ok(collected);
        }
        let siblings = spec.output.length.as_ref().and_then(|length| length.siblings.as_ref());
        let wanted = if siblings.is_some() { examples.div_ceil(2) } else { examples };
        let most = wanted * spec.output.draws();
        let mut gates = self.gates(wanted)?;
        let (mut groups, mut before, mut number) = (wanted.div_ceil(group_size), 0, 0);
        loop {
            let drawn = draw(groups, number)?;
            let (rows, kept) = (drawn.prompts.len(), collected.prompts.len());
            for (at, (prompt, completion)) in drawn.prompts.into_iter().zip(drawn.completions).enumerate() {
                if collected.prompts.len() == wanted {
                    break;
                }
                if self.takes(&mut gates, &prompt, &completion)? {
                    collected.push(prompt, completion, before + (at / group_size) as u64, false);
                }
            }
            collected.drawn += rows;
            let missing = wanted - collected.prompts.len();
            let share = (collected.prompts.len() - kept) as f64 / rows as f64;
            let next = (RESERVE * missing as f64 / share).ceil().min(wanted as f64) as usize;
            let next = next.min(most.saturating_sub(collected.drawn));
            (before, number, groups) = (before + groups as u64, number + 1, next.div_ceil(group_size));
            if missing == 0 || groups == 0 || !writer.generator.affords(groups * group_size) {
                break;
            }
        }
        if let Some(siblings) = siblings {
            self.add_siblings(siblings, &mut collected, &mut gates)?;
        }
        collected.refused = gates.refused;
        if collected.prompts.len() < 2 {
            let reasons: Vec<_> =
                collected.refused.iter().map(|(reason, rows)| format!("{rows} {reason}")).collect();
            let (kept, drawn) = (collected.prompts.len(), collected.drawn);
            return Err(Error::Refused { kept, drawn, reasons: reasons.join(", ") });
        }
        Ok(collected)
    }

    /// What the rows of the dataset have to pass, where so many are drawn.
    fn gates(&self, rows: usize) -> Result<Gates<'_>, Error> {
        let output = &self.problem.spec.output;
        let mut gates = Gates::open(&output.gates, self.around())?;
        let length = output.length.as_ref().filter(|length| length.quotas && !length.classes().is_empty());
        if let Some(length) = length {
            let shares = self.problem.writer()?.length_shares(length);
            quotas(&mut gates, &length.classes(), &shares, length.of, rows);
        }
        Ok(gates)
    }

    /// What gates look at beside rows.
    pub(crate) fn around(&self) -> Around<'_> {
        Around { held_out: &self.problem.held_out, scratch: self.folder, stop: self.stop }
    }

    /// Whether a completion passes the gates.
    pub(crate) fn takes(
        &self,
        gates: &mut Gates,
        prompt: &Prompt,
        completion: &Completion,
    ) -> Result<bool, Error> {
        let example = row(prompt, completion, self.problem.spec.output.format);
        let asked = completion.asked.as_ref().map_or(&prompt.text, |asked| &asked.prompt);
        let measure = self.measure(prompt, completion)?;
        gates.take(&Candidate { example: &example, prompt: asked, text: &completion.text, measure })
    }

    /// How long a row is.
    pub(crate) fn measure<'a>(
        &self,
        prompt: &'a Prompt,
        completion: &Completion,
    ) -> Result<Measure<'a>, Error> {
        let tokens = lengths::tokens(&self.problem.target.model, &completion.text)?;
        Ok(Measure { tokens, prompts: prompt.class.as_deref() })
    }

    /// Asks for a short sibling of each long row, and puts those that have the same answer behind it.
    fn add_siblings(
        &self,
        siblings: &Siblings,
        collected: &mut Collected,
        gates: &mut Gates,
    ) -> Result<(), Error> {
        let (spec, writer) = (&self.problem.spec, self.problem.writer()?);
        let tokens = |completion: &Completion| lengths::tokens(&self.problem.target.model, &completion.text);
        let mut long = vec![];
        for (at, completion) in collected.completions.iter().enumerate() {
            if tokens(completion)? > siblings.over {
                long.push(at);
            }
        }
        let asked =
            long.iter().map(|&at| ask(writer, siblings, &collected.prompts[at], &collected.completions[at]));
        let asked = asked.collect::<Result<Vec<_>, Error>>()?;
        let drawn = writer.draw(asked, spec.seed, Draw::SIBLINGS, self.stop)?;
        collected.drawn += drawn.completions.len();
        let pattern = siblings.answer.as_ref();
        let pattern =
            pattern.map(|pattern| expression("output.length.siblings.answer", pattern)).transpose()?;
        let mut short = vec![None; collected.prompts.len()];
        for (at, mut completion) in long.into_iter().zip(drawn.completions) {
            let sibling_of = &collected.completions[at];
            let same = pattern.as_ref().is_none_or(|pattern| {
                let found = answer(pattern, &completion.text);
                found.is_some() && found == answer(pattern, &sibling_of.text)
            });
            // it is published as an answer to what the long one was asked
            let prompt = sibling_of.asked.as_ref().map(|asked| asked.prompt.clone());
            let asked = completion.asked.take().zip(prompt);
            completion.asked = asked.map(|(asked, prompt)| Asked { prompt, ..asked });
            let reason = if completion.text.trim().is_empty() || tokens(&completion)? >= tokens(sibling_of)? {
                Some("no shorter sibling")
            } else {
                (!same).then_some("a sibling with another answer")
            };
            if let Some(reason) = reason {
                *gates.refused.entry(reason.into()).or_default() += 1;
            } else if self.takes(gates, &collected.prompts[at], &completion)? {
                short[at] = Some(completion);
            }
        }
        let Collected { prompts, completions, groups, drawn, .. } = std::mem::take(collected);
        collected.drawn = drawn;
        for (((prompt, completion), group), sibling) in
            prompts.into_iter().zip(completions).zip(groups).zip(short)
        {
            collected.push(prompt.clone(), completion, group, false);
            if let Some(sibling) = sibling {
                collected.push(prompt, sibling, group, true);
            }
        }
        Ok(())
    }
}

/// What the generator is asked for the short sibling of an answer.
fn ask(writer: &Writer, siblings: &Siblings, prompt: &Prompt, answer: &Completion) -> Result<Prompt, Error> {
    let told = siblings.told(&answer.text, &prompt.row);
    let asked = writer.generator.prompt(writer.generator.render(&told)?)?;
    Ok(Prompt { class: prompt.class.clone(), ..asked })
}

/// The answer in a text: where an expression is found last, its first group if it has one.
fn answer(pattern: &Regex, text: &str) -> Option<String> {
    let last = pattern.captures_iter(text).filter_map(Result::ok).last()?;
    let found = last.get(1).or_else(|| last.get(0))?;
    Some(found.as_str().trim().to_owned())
}
