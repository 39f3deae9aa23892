//! Articles, rephrasings of them, and the split into training and held-out text.

use anyhow::Result;
use rand::{Rng, RngExt};

use super::Language;
use super::grammar::{Companion, Event, NounPhrase, Person, Tense};
use super::lexicon::{Adjective, Lexicon, Modal, Noun, Row, Topic};
use super::sentence::{Form, Junction, Sentence};

/// Which half of the language a text is made of. No sentence of one is in the other, apart from
/// remarks, which held-out texts do not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Split {
    /// For training.
    Train,
    /// One sentence in eight.
    HeldOut,
}

/// Makes texts.
pub(crate) struct Corpus {
    lexicon: Lexicon,
}

/// An English article and a rephrasing of it.
pub(crate) struct Rephrased {
    pub(crate) article: String,
    pub(crate) rephrasing: String,
}

impl Corpus {
    /// Loads the lexicon.
    pub(crate) fn new() -> Result<Self> {
        Ok(Self { lexicon: Lexicon::load()? })
    }

    /// An article of one or two sentences.
    pub(crate) fn article(&self, rng: &mut impl Rng, language: Language, split: Split) -> String {
        let meaning = self.meaning(rng, split, &[language]);
        text(&meaning, language)
    }

    /// An English article and the same facts told otherwise in `language`.
    pub(crate) fn rephrased(&self, rng: &mut impl Rng, language: Language, split: Split) -> Rephrased {
        loop {
            let meaning = self.meaning(rng, split, &[Language::English]);
            let forms = [self.form(rng), self.form(rng), self.form(rng)];
            let varied: Vec<Sentence<'_>> =
                meaning.iter().map(|one| one.varied(&mut |n| rng.random_range(0..n), &forms)).collect();
            let rephrasing = text(&varied, language);
            let article = text(&meaning, Language::English);
            if article != rephrasing && varied.iter().all(|one| belongs(one, split, &[language])) {
                return Rephrased { article, rephrasing };
            }
        }
    }

    fn meaning<'l>(&'l self, rng: &mut impl Rng, split: Split, languages: &[Language]) -> Vec<Sentence<'l>> {
        let topic = pick(rng, &self.lexicon.topics);
        let tense = if rng.random_bool(0.65) { Tense::Past } else { Tense::Present };
        let draw = |rng: &mut _, remark: bool| loop {
            let sentence = if remark { self.remark(rng, tense) } else { self.sentence(rng, topic, tense) };
            if belongs(&sentence, split, languages) {
                return sentence;
            }
        };
        let first = draw(rng, false);
        let long = matches!(first, Sentence::Two(..) | Sentence::Seemed(.., Some(_)));
        if long && rng.random_bool(0.7) {
            return vec![first];
        }
        let remark = split == Split::Train && rng.random_bool(0.25);
        vec![first, draw(rng, remark)]
    }

    fn remark<'l>(&'l self, rng: &mut impl Rng, tense: Tense) -> Sentence<'l> {
        Sentence::Remark(pick(
            rng,
            match tense {
                Tense::Past => &self.lexicon.past_remarks,
                Tense::Present => &self.lexicon.present_remarks,
            },
        ))
    }

    fn sentence<'l>(&'l self, rng: &mut impl Rng, topic: &'l Topic, tense: Tense) -> Sentence<'l> {
        let kind = rng.random_range(0..100);
        if kind < 12 {
            return Sentence::There(thing(rng, topic, false), self.place(rng, topic), tense);
        }
        if kind < 24 {
            return Sentence::Seemed(
                thing(rng, topic, true).bare(),
                pick(rng, &topic.adjectives),
                tense,
                None,
            );
        }
        let event = self.event(rng, topic, tense);
        if kind < 34 {
            let reason = pick(rng, &topic.adjectives);
            return Sentence::Seemed(
                event.object.bare(),
                reason,
                tense,
                Some(Event { companion: None, ..event }),
            );
        }
        if kind < 52 {
            let junction = *pick(rng, &[Junction::While, Junction::But, Junction::And, Junction::Which]);
            let short = |event| Event { companion: None, place: None, ..event };
            let second = Event { time: None, ..self.event(rng, topic, tense) };
            return Sentence::Two(short(event), junction, short(second));
        }
        Sentence::Event(event, self.form(rng))
    }

    fn form<'l>(&'l self, rng: &mut impl Rng) -> Form<'l> {
        match rng.random_range(0..10) {
            0..=2 => Form::Plain,
            3 | 4 => Form::TimeFirst,
            5 => Form::PlaceFirst,
            6 => Form::Opened(pick(rng, &self.lexicon.openers)),
            7 => Form::Framed(pick(rng, &self.lexicon.frames)),
            8 => Form::According(pick(rng, &self.lexicon.names)),
            _ => Form::Cleft,
        }
    }

    fn event<'l>(&'l self, rng: &mut impl Rng, topic: &'l Topic, tense: Tense) -> Event<'l> {
        let modal: Option<&Row<Modal>> = maybe(rng, 0.2, &self.lexicon.modals);
        let companion = match rng.random_range(0..10) {
            0 => Some(Companion::With(self.person(rng, topic))),
            1 => Some(Companion::For(self.person(rng, topic))),
            _ => None,
        };
        let times = match tense {
            Tense::Past => &self.lexicon.past_times,
            Tense::Present => &self.lexicon.present_times,
        };
        let definite = rng.random_bool(0.75);
        Event {
            tense,
            subject: self.person(rng, topic),
            modal,
            verb: pick(rng, &topic.verbs),
            object: thing(rng, topic, definite),
            companion,
            place: rng.random_bool(0.5).then(|| self.place(rng, topic)),
            time: maybe(rng, 0.5, times),
        }
    }

    fn person<'l>(&'l self, rng: &mut impl Rng, topic: &'l Topic) -> Person<'l> {
        if rng.random_bool(0.3) {
            Person::Named(pick(rng, &self.lexicon.names))
        } else {
            Person::Noun(NounPhrase { noun: pick(rng, &topic.persons), adjective: None, definite: true })
        }
    }

    fn place<'l>(&'l self, rng: &mut impl Rng, topic: &'l Topic) -> &'l Row<String> {
        if rng.random_bool(0.7) { pick(rng, &topic.places) } else { pick(rng, &self.lexicon.places) }
    }
}

impl NounPhrase<'_> {
    /// The thing again, now known.
    fn bare(self) -> Self {
        Self { adjective: None, definite: true, ..self }
    }
}

fn thing<'l>(rng: &mut impl Rng, topic: &'l Topic, definite: bool) -> NounPhrase<'l> {
    let noun: &Row<Noun> = pick(rng, &topic.things);
    let adjective: Option<&Row<Adjective>> = maybe(rng, 0.5, &topic.adjectives);
    NounPhrase { noun, adjective, definite }
}

fn pick<'a, T>(rng: &mut impl Rng, from: &'a [T]) -> &'a T {
    &from[rng.random_range(0..from.len())]
}

fn maybe<'a, T>(rng: &mut impl Rng, probability: f64, from: &'a [T]) -> Option<&'a T> {
    rng.random_bool(probability).then(|| pick(rng, from))
}

fn text(sentences: &[Sentence<'_>], language: Language) -> String {
    sentences.iter().map(|one| one.render(language)).collect::<Vec<_>>().join(" ")
}

/// True if the sentence is of the split in each of the languages.
fn belongs(sentence: &Sentence<'_>, split: Split, languages: &[Language]) -> bool {
    matches!((sentence, split), (Sentence::Remark(_), Split::Train))
        || languages
            .iter()
            .all(|&language| fnv1a(&sentence.render(language)).is_multiple_of(8) == (split == Split::HeldOut))
}

/// The FNV-1a hash: unlike the standard library's it stays the same for ever.
fn fnv1a(text: &str) -> u64 {
    text.bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}
