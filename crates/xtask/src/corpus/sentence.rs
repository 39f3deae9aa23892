//! Sentences: meanings that can be said in every language and in several forms.

use super::Language;
use super::grammar::{Case, Companion, Event, NounPhrase, Order, Person, Tense};
use super::lexicon::Row;

/// A sentence, before a language is chosen.
#[derive(Clone, Copy, Debug)]
pub(super) enum Sentence<'l> {
    /// Something happened.
    Event(Event<'l>, Form<'l>),
    /// Two things happened.
    Two(Event<'l>, Junction, Event<'l>),
    /// A thing seemed to be so; why somebody did something, if there is an event.
    Seemed(NounPhrase<'l>, &'l Row<super::lexicon::Adjective>, Tense, Option<Event<'l>>),
    /// There is a thing at a place.
    There(NounPhrase<'l>, &'l Row<String>, Tense),
    /// A finished sentence.
    Remark(&'l Row<String>),
}

/// How an event is told.
#[derive(Clone, Copy, Debug)]
pub(super) enum Form<'l> {
    /// Subject first.
    Plain,
    /// The time first, if there is one.
    TimeFirst,
    /// The place first, if there is one.
    PlaceFirst,
    /// After an adverb such as `finally`.
    Opened(&'l Row<String>),
    /// Somebody says that.
    Framed(&'l Row<String>),
    /// According to somebody.
    According(&'l Row<String>),
    /// It was the subject that did it.
    Cleft,
}

/// How two events are joined.
#[derive(Clone, Copy, Debug)]
pub(super) enum Junction {
    While,
    But,
    And,
    /// The second says what else the subject of the first did: a relative clause.
    Which,
}

impl Sentence<'_> {
    /// The sentence, capitalised and with its full stop.
    pub(super) fn render(&self, language: Language) -> String {
        let column = language as usize;
        let german = language == Language::German;
        let text = match self {
            Self::Event(event, form) => format!("{}.", told(event, form, language)),
            Self::Two(first, Junction::While, second) => format!(
                "{} {}, {}.",
                ["while", "mientras", "tandis que", "während", "mentre"][column],
                first.clause(language, Order::Subordinate),
                second.clause(language, Order::Inverted)
            ),
            Self::Two(first, Junction::But, second) => format!(
                "{}, {} {}.",
                first.clause(language, Order::Main),
                ["but", "pero", "mais", "aber", "ma"][column],
                second.clause(language, Order::Main)
            ),
            Self::Two(first, Junction::And, second) => format!(
                "{} {} {}.",
                first.clause(language, Order::Main),
                ["and", "y", "et", "und", "e"][column],
                second.clause(language, Order::Main)
            ),
            Self::Two(first, Junction::Which, second) => {
                let relative = match &first.subject {
                    Person::Noun(phrase) => phrase.relative(language),
                    Person::Named(_) => return Self::Two(*first, Junction::And, *second).render(language),
                };
                let subject = first.subject.render(language, Case::Nominative);
                let aside = second.predicate(language, Order::Subordinate);
                // German and English say `, who`; a comma on both sides is right in all five.
                format!(
                    "{subject}, {} {aside}, {}.",
                    if language == Language::English { "who" } else { relative },
                    first.predicate(language, Order::Main)
                )
            }
            Self::Seemed(thing, adjective, tense, None) => {
                format!("{}.", seemed(thing, adjective, *tense, Order::Main, language))
            }
            Self::Seemed(thing, adjective, tense, Some(event)) => format!(
                "{}{} {} {}.",
                event.clause(language, Order::Main),
                if german { "," } else { "" },
                ["because", "porque", "car", "weil", "perché"][column],
                seemed(thing, adjective, *tense, Order::Subordinate, language)
            ),
            Self::There(thing, place, tense) => {
                let verb = match tense {
                    Tense::Past => ["there was", "había", "il y avait", "gab es", "c'era"],
                    Tense::Present => ["there is", "hay", "il y a", "gibt es", "c'è"],
                };
                let comma = if german { "" } else { "," };
                let thing = thing.render(language, Case::Accusative);
                format!("{}{comma} {} {thing}.", place[column], verb[column])
            }
            Self::Remark(remark) => remark[column].clone(),
        };
        capitalised(&text)
    }
}

fn told(event: &Event<'_>, form: &Form<'_>, language: Language) -> String {
    let column = language as usize;
    let comma = if language == Language::German { "" } else { "," };
    match form {
        Form::TimeFirst if event.time.is_some() => {
            let time = event.time.map_or("", |time| &time[column]);
            format!("{time}{comma} {}", Event { time: None, ..*event }.clause(language, Order::Inverted))
        }
        Form::PlaceFirst if event.place.is_some() => {
            let place = event.place.map_or("", |place| &place[column]);
            format!("{place}{comma} {}", Event { place: None, ..*event }.clause(language, Order::Inverted))
        }
        Form::Plain | Form::TimeFirst | Form::PlaceFirst => event.clause(language, Order::Main),
        Form::Opened(opener) => format!("{} {}", opener[column], event.clause(language, Order::Inverted)),
        Form::Framed(frame) => format!("{} {}", frame[column], event.clause(language, Order::Subordinate)),
        Form::According(name) => format!(
            "{} {}{comma} {}",
            ["according to", "según", "selon", "laut", "secondo"][column],
            name[column],
            event.clause(language, Order::Inverted)
        ),
        Form::Cleft => {
            let subject = event.subject.render(language, Case::Nominative);
            let predicate = event.predicate(language, Order::Subordinate);
            let was = match event.tense {
                Tense::Past => ["it was", "fue", "c'est", "es war", "è"],
                Tense::Present => ["it is", "es", "c'est", "es ist", "è"],
            };
            let who = match (&event.subject, language) {
                (_, Language::English) => " who",
                (_, Language::Spanish) => " quien",
                (Person::Noun(phrase), Language::German) => {
                    return format!("{} {subject}, {} {predicate}", was[column], phrase.relative(language));
                }
                // A name has no gender in the lexicon.
                (Person::Named(_), Language::German) => return event.clause(language, Order::Main),
                (_, Language::French) => " qui",
                (_, Language::Italian) => " che",
            };
            format!("{} {subject}{who} {predicate}", was[column])
        }
    }
}

fn seemed(
    thing: &NounPhrase<'_>,
    adjective: &Row<super::lexicon::Adjective>,
    tense: Tense,
    order: Order,
    language: Language,
) -> String {
    let column = language as usize;
    let verb = match tense {
        Tense::Past => ["seemed", "parecía", "semblait", "wirkte", "sembrava"],
        Tense::Present => ["seems", "parece", "semble", "wirkt", "sembra"],
    }[column];
    let subject = thing.render(language, Case::Nominative);
    let predicate = NounPhrase::predicate(&thing.noun[column], &adjective[column]);
    if language == Language::German && order == Order::Subordinate {
        format!("{subject} {predicate} {verb}")
    } else {
        format!("{subject} {verb} {predicate}")
    }
}

fn capitalised(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

impl<'l> Sentence<'l> {
    /// The same facts in another form, or with a detail left out; `pick(n)` chooses below n.
    pub(super) fn varied(&self, pick: &mut impl FnMut(usize) -> usize, forms: &[Form<'l>]) -> Self {
        match *self {
            Self::Event(event, _) => Self::Event(shortened(event, pick), forms[pick(forms.len())]),
            Self::Two(first, junction, second) => {
                let (first, second) = (shortened(first, pick), shortened(second, pick));
                match pick(3) {
                    0 => Self::Event(first, forms[pick(forms.len())]),
                    1 => Self::Two(first, Junction::And, second),
                    _ => Self::Two(first, junction, second),
                }
            }
            Self::Seemed(thing, adjective, tense, Some(event)) if pick(2) == 0 => {
                Self::Seemed(thing, adjective, tense, Some(shortened(event, pick)))
            }
            Self::Seemed(_, _, _, Some(event)) => Self::Event(event, forms[pick(forms.len())]),
            other => other,
        }
    }
}

fn shortened<'l>(event: Event<'l>, pick: &mut impl FnMut(usize) -> usize) -> Event<'l> {
    let companion: Option<Companion<'l>> = event.companion.filter(|_| pick(3) > 0);
    Event {
        companion,
        place: event.place.filter(|_| pick(5) > 0),
        time: event.time.filter(|_| pick(5) > 0),
        ..event
    }
}
