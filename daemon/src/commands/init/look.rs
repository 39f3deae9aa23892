//! A look at models and texts before a spec names them.

use std::path::{Path, PathBuf};

use anyhow::{bail, ensure};
use dpg_dataset::{Columns, Error, Example, read_examples};
use dpg_engine::languages;
use dpg_hub::Options;
use dpg_models::{ChatTemplate, Tokenizer, architecture};

use crate::pipeline::resolve::locate;

/// Texts of which the tokens are counted.
const COUNTED: usize = 256;

/// A model that opens.
pub(super) struct Model {
    /// As the user writes it.
    pub(super) location: String,
    pub(super) folder: PathBuf,
    pub(super) weights: usize,
    /// Tokens that it reads at most.
    pub(super) context: usize,
    /// Whether it has a chat template.
    pub(super) chats: bool,
}

impl Model {
    /// Opens a model's folder, which is downloaded first if it has to be.
    pub(super) async fn look(key: &str, location: &str, hub: &Options) -> anyhow::Result<Self> {
        let folder = located(key, location, hub).await?;
        let lm = architecture(&folder)?;
        dpg_models::weights::weight_files(&folder)?;
        Tokenizer::load(&folder)?;
        Ok(Self {
            location: location.into(),
            weights: lm.layout().model().len(),
            context: lm.context(),
            chats: ChatTemplate::load(&folder).is_ok(),
            folder,
        })
    }

    pub(super) fn said(&self) -> String {
        let Self { location, weights, context, .. } = self;
        let chats = if self.chats { "with" } else { "without" };
        let weights = *weights as f64 / 1e6;
        format!("`{location}`: {weights:.1} M weights, reads {context} tokens, {chats} a chat template")
    }
}

/// A file of texts that can be read.
pub(super) struct Texts {
    /// As the user writes it.
    pub(super) location: String,
    pub(super) columns: Columns,
    pub(super) rows: usize,
    /// Tokens of the longest.
    pub(super) longest: usize,
    /// The language of most.
    pub(super) language: Option<String>,
}

impl Texts {
    /// Reads texts that a model is measured on. Without columns they are those that an SFT trainer would read, or the
    /// only one there is.
    pub(super) async fn look(
        key: &str,
        location: &str,
        columns: Option<Columns>,
        model: &Model,
        hub: &Options,
    ) -> anyhow::Result<Self> {
        let path = located(key, location, hub).await?;
        let columns = columns.map_or_else(|| detect(&path, "--column"), Ok)?;
        let examples = read_examples(&path, &columns, None)?;
        Self::of(location, columns, &examples, model)
    }

    /// Reads prompts of a generator: texts.
    pub(super) async fn prompts(
        location: &str,
        columns: Option<Columns>,
        model: &Model,
        hub: &Options,
    ) -> anyhow::Result<Self> {
        let path = located("generator.prompts.path", location, hub).await?;
        let columns = match columns.map_or_else(|| detect(&path, "--prompt-column"), Ok)? {
            // a dataset of questions and answers is one of questions here
            Columns::PromptCompletion { prompt, .. } => Columns::Text(prompt),
            columns => columns,
        };
        ensure!(
            matches!(columns, Columns::Text(_)),
            "`{location}` has conversations, and a prompt is a text; name the column of one with --prompt-column"
        );
        let examples = read_examples(&path, &columns, None)?;
        Self::of(location, columns, &examples, model)
    }

    /// Reads pairs of answers.
    pub(super) async fn pairs(location: &str, model: &Model, hub: &Options) -> anyhow::Result<Self> {
        let path = located("metric.data.path", location, hub).await?;
        let read = |answer: &str| {
            let columns = Columns::PromptCompletion { prompt: "prompt".into(), completion: answer.into() };
            let examples = read_examples(&path, &columns, None)?;
            Self::of(location, columns, &examples, model)
        };
        let (chosen, rejected) = (read("chosen")?, read("rejected")?);
        Ok(Self { longest: chosen.longest.max(rejected.longest), ..chosen })
    }

    fn of(location: &str, columns: Columns, examples: &[Example], model: &Model) -> anyhow::Result<Self> {
        let texts: Vec<String> = examples.iter().take(COUNTED).map(text).collect();
        let mut longest = 0;
        let tokenizer = Tokenizer::load(&model.folder)?;
        for text in &texts {
            longest = longest.max(tokenizer.encode(text)?.len());
        }
        if longest >= model.context {
            bail!(
                "a text of `{location}` has {longest} tokens, and `{}` reads {}; cut the texts into shorter ones",
                model.location,
                model.context
            );
        }
        let language = languages(&texts).into_iter().find(|(code, share)| code != "und" && *share > 0.5);
        let (rows, language) = (examples.len(), language.map(|(code, _)| code));
        Ok(Self { location: location.into(), columns, rows, longest, language })
    }

    pub(super) fn said(&self) -> String {
        let Self { location, rows, longest, .. } = self;
        let columns = match &self.columns {
            Columns::Text(column) | Columns::Messages(column) => format!("column `{column}`"),
            Columns::PromptCompletion { prompt, completion } => {
                format!("columns `{prompt}` and `{completion}`")
            }
        };
        let language = self.language.as_ref().map(|code| format!(", mostly `{code}`")).unwrap_or_default();
        format!("`{location}`: {rows} rows, {columns}, of at most {longest} tokens{language}")
    }
}

/// Where a model or a file is on this machine, after it was downloaded if it had to be.
async fn located(key: &str, location: &str, hub: &Options) -> anyhow::Result<PathBuf> {
    let mut path = location.to_owned();
    locate(key, &mut path, hub).await?;
    Ok(path.into())
}

/// The columns that an SFT trainer would read, or the only one.
fn detect(path: &Path, flag: &str) -> anyhow::Result<Columns> {
    let columns = match Columns::detect(path) {
        Err(Error::NoKnownColumns { columns, .. }) => columns,
        detected => return Ok(detected?),
    };
    if let [only] = &columns[..] {
        return Ok(Columns::Text(only.clone()));
    }
    let columns = columns.iter().map(|column| format!("`{column}`")).collect::<Vec<_>>().join(", ");
    bail!("`{}` has the columns {columns}; name that of the texts with {flag}", path.display())
}

/// All that an example says.
fn text(example: &Example) -> String {
    match example {
        Example::Text(text) => text.clone(),
        Example::PromptCompletion { prompt, completion } => format!("{prompt}{completion}"),
        Example::Messages(conversation) => {
            let said = conversation.turns.iter().filter_map(|turn| turn.get("content")?.as_str());
            said.collect::<Vec<_>>().join("\n")
        }
    }
}
