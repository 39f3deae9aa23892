//! The five languages of the corpus.

/// A language of the corpus, in the order of the lexicon's columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Language {
    English,
    Spanish,
    French,
    German,
    Italian,
}

impl Language {
    /// All of them, in the order of the lexicon's columns.
    pub(crate) const ALL: [Self; 5] =
        [Self::English, Self::Spanish, Self::French, Self::German, Self::Italian];

    /// ISO 639-1 code.
    pub(crate) fn code(self) -> &'static str {
        match self {
            Self::English => "en",
            Self::Spanish => "es",
            Self::French => "fr",
            Self::German => "de",
            Self::Italian => "it",
        }
    }
}
