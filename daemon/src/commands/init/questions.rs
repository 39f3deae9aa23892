//! Questions on a terminal, and what stands in for answers where there is none.

use std::io::{BufRead, IsTerminal, stdin};

use anyhow::{Context, bail};
use clap::ValueEnum;
use clap::builder::PossibleValue;

use crate::terminal::console::note;
use crate::terminal::told::told;

/// Something that the command line may have left open.
pub(super) struct Question {
    /// The flag that answers it.
    pub(super) flag: &'static str,
    pub(super) text: &'static str,
    /// What an empty answer means, and none at all.
    pub(super) default: Option<String>,
}

/// Who is asked.
pub(super) struct Asker<R> {
    /// Nobody, if it is not a terminal.
    answers: Option<R>,
}

impl Asker<std::io::StdinLock<'static>> {
    /// Whoever sits at the terminal, if standard input and standard error are one.
    pub(super) fn of_terminal() -> Self {
        let is_terminal = stdin().is_terminal() && std::io::stderr().is_terminal();
        Self { answers: is_terminal.then(|| stdin().lock()) }
    }
}

impl<R: BufRead> Asker<R> {
    /// What `look` makes of an answer: of that given on the command line, or else of one on the terminal, which is
    /// asked for until `look` takes it, or else of the default.
    pub(super) async fn answer<T>(
        &mut self,
        given: Option<String>,
        Question { flag, text, default }: Question,
        look: impl AsyncFn(&str) -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        if let Some(given) = given {
            return look(&given).await.with_context(|| format!("`{flag}`"));
        }
        loop {
            let answer = match (self.ask(text, default.as_deref())?, &default) {
                (Some(answer), _) => answer,
                (None, Some(default)) => return look(default).await,
                (None, None) => bail!("`{flag}` is missing. {text}"),
            };
            match look(&answer).await {
                Ok(found) => return Ok(found),
                Err(error) => note(format_args!("  {}", told(&error))),
            }
        }
    }

    /// One of several values, by its number or its name.
    pub(super) fn choose<T: ValueEnum>(&mut self, usage: &'static str, text: &str) -> anyhow::Result<T> {
        let values: Vec<_> = T::value_variants().iter().filter_map(ValueEnum::to_possible_value).collect();
        let names = || values.iter().map(PossibleValue::get_name).collect::<Vec<_>>().join(", ");
        if self.answers.is_none() {
            bail!("`{usage}`: name what the dataset is to do, one of {}", names());
        }
        for (number, value) in values.iter().enumerate() {
            let help = value.get_help().map(ToString::to_string).unwrap_or_default();
            note(format_args!("  {}  {:<11} {help}", number + 1, value.get_name()));
        }
        loop {
            let answer = self.ask(text, None)?.unwrap_or_default();
            let number = answer.parse::<usize>().ok().and_then(|number| number.checked_sub(1));
            let numbered = number.and_then(|number| T::value_variants().get(number)).cloned();
            match numbered.map_or_else(|| T::from_str(&answer, true), Ok) {
                Ok(value) => return Ok(value),
                Err(_) => note(format_args!("  `{answer}` is none of {}", names())),
            }
        }
    }

    /// The next answer; none if nobody can be asked.
    fn ask(&mut self, text: &str, default: Option<&str>) -> anyhow::Result<Option<String>> {
        let Some(answers) = &mut self.answers else { return Ok(None) };
        loop {
            let offered = default.map(|default| format!(" [{default}]")).unwrap_or_default();
            note(format_args!("{text}{offered}"));
            let mut line = String::new();
            if answers.read_line(&mut line).context("cannot read the answer")? == 0 {
                bail!("there was no answer, and nothing was written");
            }
            match (line.trim(), default) {
                ("", None) => {}
                ("", Some(default)) => return Ok(Some(default.into())),
                (answer, _) => return Ok(Some(answer.into())),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Goal;
    use super::*;

    fn asker(text: &'static str) -> Asker<&'static [u8]> {
        Asker { answers: Some(text.as_bytes()) }
    }

    fn question(default: Option<&str>) -> Question {
        Question { flag: "--number", text: "How many?", default: default.map(str::to_owned) }
    }

    fn number(text: &str) -> anyhow::Result<u32> {
        Ok(text.parse()?)
    }

    #[tokio::test]
    async fn a_question_is_asked_until_its_answer_is_taken() {
        let look = async |text: &str| number(text);
        assert_eq!(asker("many\n\n7\n").answer(None, question(None), look).await.unwrap(), 7);
        assert_eq!(asker("\n").answer(None, question(Some("3")), look).await.unwrap(), 3);
        assert_eq!(asker("7\n").answer(Some("2".into()), question(None), look).await.unwrap(), 2);
        let ended = asker("many\n").answer(None, question(None), look).await.unwrap_err();
        assert!(ended.to_string().contains("nothing was written"), "{ended}");
        let given = asker("7\n").answer(Some("many".into()), question(None), look).await.unwrap_err();
        assert!(given.to_string().contains("--number"), "{given}");
    }

    #[tokio::test]
    async fn nobody_is_asked_without_a_terminal() {
        let mut nobody = Asker::<&[u8]> { answers: None };
        let look = async |text: &str| number(text);
        assert_eq!(nobody.answer(None, question(Some("3")), look).await.unwrap(), 3);
        let missing = nobody.answer(None, question(None), look).await.unwrap_err();
        assert_eq!(missing.to_string(), "`--number` is missing. How many?");
        let goals = nobody.choose::<Goal>("dpg init GOAL", "What?").unwrap_err().to_string();
        assert!(goals.contains("language, domain, preference, pattern, metric"), "{goals}");
    }

    #[test]
    fn a_choice_is_a_number_or_a_name() {
        for answers in ["3\n", "preference\n", "0\n9\nsomething\n3\n"] {
            assert_eq!(asker(answers).choose::<Goal>("", "What?").unwrap(), Goal::Preference);
        }
    }
}
