//! Noun phrases and clauses: articles, agreement, case and word order.

use super::Language;
use super::lexicon::{Adjective, Gender, Modal, Noun, Row, Verb};

/// A noun with its article and perhaps an adjective.
#[derive(Clone, Copy, Debug)]
pub(super) struct NounPhrase<'l> {
    pub(super) noun: &'l Row<Noun>,
    pub(super) adjective: Option<&'l Row<Adjective>>,
    pub(super) definite: bool,
}

/// Grammatical case; German alone shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Case {
    Nominative,
    Accusative,
    Dative,
}

/// Who does something.
#[derive(Clone, Copy, Debug)]
pub(super) enum Person<'l> {
    Named(&'l Row<String>),
    Noun(NounPhrase<'l>),
}

/// With whom or for whom.
#[derive(Clone, Copy, Debug)]
pub(super) enum Companion<'l> {
    With(Person<'l>),
    For(Person<'l>),
}

/// When.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tense {
    Past,
    Present,
}

/// Somebody does something to a thing.
#[derive(Clone, Copy, Debug)]
pub(super) struct Event<'l> {
    pub(super) tense: Tense,
    pub(super) subject: Person<'l>,
    pub(super) modal: Option<&'l Row<Modal>>,
    pub(super) verb: &'l Row<Verb>,
    pub(super) object: NounPhrase<'l>,
    pub(super) companion: Option<Companion<'l>>,
    pub(super) place: Option<&'l Row<String>>,
    pub(super) time: Option<&'l Row<String>>,
}

/// Where the verb stands; German alone makes a difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// Subject first.
    Main,
    /// Something else stands before the clause.
    Inverted,
    /// A subordinate clause.
    Subordinate,
}

impl NounPhrase<'_> {
    pub(super) fn render(&self, language: Language, case: Case) -> String {
        let noun = &self.noun[language as usize];
        let adjective =
            self.adjective.map(|row| inflect(&row[language as usize], noun, language, case, self.definite));
        let words: Vec<&str> = match language {
            Language::English | Language::German => {
                adjective.iter().map(String::as_str).chain([&*noun.word]).collect()
            }
            _ => [&*noun.word].into_iter().chain(adjective.iter().map(String::as_str)).collect(),
        };
        let article = article(language, noun.gender, case, self.definite, words[0]);
        let gap = if article.ends_with('\'') { "" } else { " " };
        format!("{article}{gap}{}", words.join(" "))
    }

    /// The relative pronoun of a clause whose subject the noun is.
    pub(super) fn relative(&self, language: Language) -> &'static str {
        match language {
            Language::English => "that",
            Language::Spanish => "que",
            Language::French => "qui",
            Language::German => {
                article(language, self.noun[language as usize].gender, Case::Nominative, true, "")
            }
            Language::Italian => "che",
        }
    }

    /// The adjective as a predicate.
    pub(super) fn predicate(noun: &Noun, adjective: &Adjective) -> String {
        if noun.gender == Gender::Feminine { adjective.feminine.clone() } else { adjective.masculine.clone() }
    }
}

fn inflect(adjective: &Adjective, noun: &Noun, language: Language, case: Case, definite: bool) -> String {
    let base = NounPhrase::predicate(noun, adjective);
    if language != Language::German {
        return base;
    }
    let ending = match (noun.gender, case, definite) {
        (_, Case::Dative, _) | (Gender::Masculine, Case::Accusative, _) => "en",
        (Gender::Masculine, Case::Nominative, false) => "er",
        (Gender::Neuter, _, false) => "es",
        _ => "e",
    };
    base + ending
}

/// The article before `next`; one that ends in an apostrophe is joined to it.
fn article(language: Language, gender: Gender, case: Case, definite: bool, next: &str) -> &'static str {
    use Gender::{Feminine, Masculine, Neuter};
    let vowel = next.starts_with(['a', 'e', 'i', 'o', 'u', 'â', 'é', 'ê', 'î', 'ó', 'œ']);
    let feminine = gender == Feminine;
    match language {
        Language::English if definite => "the",
        Language::English if vowel && !next.starts_with("use") => "an",
        Language::English => "a",
        Language::Spanish => [["un", "una"], ["el", "la"]][definite as usize][feminine as usize],
        Language::French if definite && (vowel || next.starts_with('h')) => "l'",
        Language::French => [["un", "une"], ["le", "la"]][definite as usize][feminine as usize],
        Language::German => match (definite, gender, case) {
            (true, Masculine, Case::Nominative) => "der",
            (true, Masculine, Case::Accusative) => "den",
            (true, Neuter, Case::Nominative | Case::Accusative) => "das",
            (true, Masculine | Neuter, Case::Dative) => "dem",
            (true, Feminine, Case::Dative) => "der",
            (true, Feminine, _) => "die",
            (false, Masculine, Case::Accusative) => "einen",
            (false, Masculine | Neuter, Case::Dative) => "einem",
            (false, Feminine, Case::Dative) => "einer",
            (false, Feminine, _) => "eine",
            (false, _, _) => "ein",
        },
        Language::Italian if vowel && definite => "l'",
        Language::Italian if vowel && feminine => "un'",
        Language::Italian if feminine => ["una", "la"][definite as usize],
        Language::Italian if takes_lo(next) => ["uno", "lo"][definite as usize],
        Language::Italian => ["un", "il"][definite as usize],
    }
}

/// Italian masculine nouns before which `il` becomes `lo`.
fn takes_lo(next: &str) -> bool {
    let mut letters = next.chars();
    match (letters.next(), letters.next()) {
        (Some('z'), _) => true,
        (Some('s'), Some(second)) => !"aeiouh".contains(second) || next.starts_with("sh"),
        (Some('p'), Some('s')) | (Some('g'), Some('n')) => true,
        _ => false,
    }
}

impl Person<'_> {
    pub(super) fn render(&self, language: Language, case: Case) -> String {
        match self {
            Self::Named(name) => name[language as usize].clone(),
            Self::Noun(phrase) => phrase.render(language, case),
        }
    }
}

impl Companion<'_> {
    fn render(&self, language: Language) -> String {
        let (prepositions, person, case) = match self {
            Self::With(person) => (["with", "con", "avec", "mit", "con"], person, Case::Dative),
            Self::For(person) => (["for", "para", "pour", "für", "per"], person, Case::Accusative),
        };
        format!("{} {}", prepositions[language as usize], person.render(language, case))
    }
}

impl Event<'_> {
    /// The clause with its subject.
    pub(super) fn clause(&self, language: Language, order: Order) -> String {
        self.arrange(language, order, Some(self.subject.render(language, Case::Nominative)))
    }

    /// The clause without its subject, after a relative pronoun or a second verb's `and`.
    pub(super) fn predicate(&self, language: Language, order: Order) -> String {
        self.arrange(language, order, None)
    }

    fn arrange(&self, language: Language, order: Order, subject: Option<String>) -> String {
        let column = language as usize;
        let verb = &self.verb[column];
        let (finite, infinitive) = match (self.modal, self.tense) {
            (Some(modal), Tense::Past) => {
                (&modal[column].past, Some(infinitive(verb, &modal[column].past, language)))
            }
            (Some(modal), Tense::Present) => {
                (&modal[column].present, Some(infinitive(verb, &modal[column].present, language)))
            }
            (None, Tense::Past) => (&verb.past, None),
            (None, Tense::Present) => (&verb.present, None),
        };
        let finite = Some(finite.clone());
        let object = Some(self.object.render(language, Case::Accusative));
        let companion = self.companion.map(|companion| companion.render(language));
        let place = self.place.map(|place| place[column].clone());
        let time = self.time.map(|time| time[column].clone());
        let words = match (language, order) {
            (Language::German, Order::Main) => [subject, finite, time, companion, object, place, infinitive],
            (Language::German, Order::Inverted) => {
                [finite, subject, time, companion, object, place, infinitive]
            }
            (Language::German, Order::Subordinate) => {
                [subject, time, companion, object, place, infinitive, finite]
            }
            _ => [subject, finite, infinitive, object, companion, place, time],
        };
        words.into_iter().flatten().collect::<Vec<_>>().join(" ")
    }
}

/// The infinitive after a modal verb: English `wanted` and `wants` take `to`.
fn infinitive(verb: &Verb, modal: &str, language: Language) -> String {
    if language == Language::English && modal.starts_with("want") {
        format!("to {}", verb.infinitive)
    } else {
        verb.infinitive.clone()
    }
}
