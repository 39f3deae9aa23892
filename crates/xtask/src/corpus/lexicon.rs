//! The lexicon: tables with one row per meaning and one column per language.
//!
//! Each topic is a file `lexicon/TOPIC.txt` whose persons, things, verbs, adjectives and places go
//! together; `lexicon/shared.txt` holds what fits every topic. Columns stand between `|`: English,
//! Spanish, French, German, Italian. A noun carries its gender (`m`, `f`, `n`), a verb has its
//! infinitive, past and present (third person singular; `_` is a space inside one form), an
//! adjective its masculine and feminine form, once if they are the same. Left out on purpose:
//! German nouns of the weak declension and separable verbs, French adjectives that precede their
//! noun, nouns that cannot be counted.

use anyhow::{Context, Result, bail, ensure};

use super::Language;

/// One entry in each language.
pub(super) type Row<T> = [T; Language::ALL.len()];

/// Grammatical gender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gender {
    Masculine,
    Feminine,
    Neuter,
}

/// A countable noun in the singular.
#[derive(Clone, Debug)]
pub(super) struct Noun {
    pub(super) word: String,
    pub(super) gender: Gender,
}

/// A transitive verb, third person singular.
#[derive(Clone, Debug)]
pub(super) struct Verb {
    pub(super) infinitive: String,
    pub(super) past: String,
    pub(super) present: String,
}

/// A modal verb, third person singular.
#[derive(Clone, Debug)]
pub(super) struct Modal {
    pub(super) past: String,
    pub(super) present: String,
}

/// An adjective; German has its stem in both.
#[derive(Clone, Debug)]
pub(super) struct Adjective {
    pub(super) masculine: String,
    pub(super) feminine: String,
}

/// Words that go together.
#[derive(Debug)]
pub(super) struct Topic {
    pub(super) persons: Vec<Row<Noun>>,
    pub(super) things: Vec<Row<Noun>>,
    pub(super) verbs: Vec<Row<Verb>>,
    pub(super) adjectives: Vec<Row<Adjective>>,
    pub(super) places: Vec<Row<String>>,
}

/// All words.
#[derive(Debug)]
pub(super) struct Lexicon {
    pub(super) topics: Vec<Topic>,
    pub(super) names: Vec<Row<String>>,
    pub(super) places: Vec<Row<String>>,
    pub(super) past_times: Vec<Row<String>>,
    pub(super) present_times: Vec<Row<String>>,
    pub(super) modals: Vec<Row<Modal>>,
    pub(super) openers: Vec<Row<String>>,
    pub(super) frames: Vec<Row<String>>,
    pub(super) past_remarks: Vec<Row<String>>,
    pub(super) present_remarks: Vec<Row<String>>,
}

const TOPICS: [&str; 8] = [
    include_str!("lexicon/food.txt"),
    include_str!("lexicon/farm.txt"),
    include_str!("lexicon/school.txt"),
    include_str!("lexicon/town.txt"),
    include_str!("lexicon/stage.txt"),
    include_str!("lexicon/sea.txt"),
    include_str!("lexicon/workshop.txt"),
    include_str!("lexicon/science.txt"),
];
const SHARED: &str = include_str!("lexicon/shared.txt");

impl Lexicon {
    /// Reads the tables.
    pub(super) fn load() -> Result<Self> {
        let topic = |text| -> Result<Topic> {
            Ok(Topic {
                persons: section(text, "persons", noun)?,
                things: section(text, "things", noun)?,
                verbs: section(text, "verbs", verb)?,
                adjectives: section(text, "adjectives", adjective)?,
                places: section(text, "places", phrase)?,
            })
        };
        Ok(Self {
            topics: TOPICS.into_iter().map(topic).collect::<Result<_>>()?,
            names: section(SHARED, "names", phrase)?,
            places: section(SHARED, "places", phrase)?,
            past_times: section(SHARED, "past_times", phrase)?,
            present_times: section(SHARED, "present_times", phrase)?,
            modals: section(SHARED, "modals", modal)?,
            openers: section(SHARED, "openers", phrase)?,
            frames: section(SHARED, "frames", phrase)?,
            past_remarks: section(SHARED, "past_remarks", phrase)?,
            present_remarks: section(SHARED, "present_remarks", phrase)?,
        })
    }
}

fn section<T>(text: &str, name: &str, parse: impl Fn(&str) -> Result<T>) -> Result<Vec<Row<T>>> {
    let header = format!("[{name}]");
    let rows: Vec<&str> = text
        .lines()
        .skip_while(|line| *line != header)
        .skip(1)
        .take_while(|line| !line.starts_with('['))
        .filter(|line| !line.trim().is_empty())
        .collect();
    ensure!(!rows.is_empty(), "the lexicon has no section `{name}`");
    rows.into_iter()
        .map(|row| {
            let cells = row
                .split('|')
                .map(|cell| parse(cell.trim()))
                .collect::<Result<Vec<T>>>()
                .context(row.to_owned())?;
            let count = cells.len();
            cells.try_into().ok().with_context(|| format!("`{row}` has {count} columns"))
        })
        .collect()
}

fn phrase(cell: &str) -> Result<String> {
    ensure!(!cell.is_empty(), "an empty cell");
    Ok(cell.to_owned())
}

/// `word gender`, or in English `word` alone.
fn noun(cell: &str) -> Result<Noun> {
    let (word, gender) = match cell.rsplit_once(' ') {
        Some((word, "m")) => (word, Gender::Masculine),
        Some((word, "f")) => (word, Gender::Feminine),
        Some((word, "n")) => (word, Gender::Neuter),
        _ => (cell, Gender::Neuter),
    };
    ensure!(!word.contains(' '), "noun `{cell}`");
    Ok(Noun { word: word.to_owned(), gender })
}

fn verb(cell: &str) -> Result<Verb> {
    match forms(cell).as_slice() {
        [infinitive, past, present] => {
            Ok(Verb { infinitive: infinitive.clone(), past: past.clone(), present: present.clone() })
        }
        _ => bail!("verb `{cell}` needs three forms"),
    }
}

fn modal(cell: &str) -> Result<Modal> {
    match forms(cell).as_slice() {
        [past, present] => Ok(Modal { past: past.clone(), present: present.clone() }),
        _ => bail!("modal verb `{cell}` needs two forms"),
    }
}

fn adjective(cell: &str) -> Result<Adjective> {
    match forms(cell).as_slice() {
        [one] => Ok(Adjective { masculine: one.clone(), feminine: one.clone() }),
        [masculine, feminine] => Ok(Adjective { masculine: masculine.clone(), feminine: feminine.clone() }),
        _ => bail!("adjective `{cell}` needs one or two forms"),
    }
}

fn forms(cell: &str) -> Vec<String> {
    cell.split(' ').map(|form| form.replace('_', " ")).collect()
}
