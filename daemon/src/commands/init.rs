//! `dpg init`: a commented spec for what its user wants, with their model and data tried.
//!
//! What the command line leaves open is asked on a terminal; elsewhere the embedded models and texts stand in for it,
//! and what has no such default has to be given.

mod look;
mod questions;
mod text;

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use burn::tensor::DType;
use clap::{Args, ValueEnum};
use dpg_dataset::Columns;
use dpg_engine::Problem;
use dpg_spec::{Spec, Syntax};
use serde_json::json;

use crate::commands::doctor::check::Check;
use crate::commands::{Programs, program, show};
use crate::pipeline::compute::compute;
use crate::pipeline::memory;
use crate::pipeline::resolve::resolve;
use crate::settings::data_dir::DataDir;
use crate::terminal::console::tell;
use look::{Model, Texts};
use questions::{Asker, Question};
use text::{Draft, Metric};

/// Fewer rows than these are remarked upon.
const FEW: usize = 32;

/// What `dpg init` writes a spec for.
#[derive(Debug, Args)]
pub(crate) struct InitArguments {
    /// What the dataset is to do to the model.
    #[arg(value_enum)]
    goal: Option<Goal>,
    /// Name of the dataset [default: `my-` and the goal].
    #[arg(long)]
    name: Option<String>,
    /// The spec to write; one that exists is left alone [default: NAME.toml].
    #[arg(long)]
    file: Option<PathBuf>,
    /// The model to be changed: a folder, `hf:org/name@rev`, `s3://bucket/prefix` or `embedded:NAME` [default: an
    /// embedded one].
    #[arg(long)]
    model: Option<String>,
    /// The model that writes the examples [default: the model to be changed; for an embedded one, its companion].
    #[arg(long, value_name = "MODEL")]
    generator: Option<String>,
    /// JSONL, JSON or Parquet. For `language` and `domain`, texts that nobody trains on; for `preference`, rows with
    /// `prompt`, `chosen` and `rejected`.
    #[arg(long, value_name = "FILE")]
    data: Option<String>,
    /// The column of the texts in `--data` [default: as SFT trainers find it].
    #[arg(long)]
    column: Option<String>,
    /// What the generator is asked, a prompt a row: JSONL, JSON or Parquet [default: embedded articles].
    #[arg(long, value_name = "FILE")]
    prompts: Option<String>,
    /// The column of the prompts [default: as SFT trainers find it].
    #[arg(long, value_name = "COLUMN")]
    prompt_column: Option<String>,
    /// For `pattern`: `67` for its bitmap, or another text for its QR code [default: 67].
    #[arg(long, value_name = "TEXT")]
    draw: Option<String>,
    /// For `metric`: a name for the program, and the command that starts it.
    #[arg(long, value_name = "NAME=COMMAND")]
    program: Option<String>,
}

/// What a dataset is to do to the model that is fine-tuned on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Goal {
    /// It gets better at a language that the prompts do not speak.
    Language,
    /// It gets better at texts like yours.
    Domain,
    /// It prefers the answers that you chose.
    Preference,
    /// A picture appears in its weights.
    Pattern,
    /// What a program of yours measures goes up.
    Metric,
}

impl Goal {
    fn word(self) -> &'static str {
        match self {
            Self::Language => "language",
            Self::Domain => "domain",
            Self::Preference => "preference",
            Self::Pattern => "pattern",
            Self::Metric => "metric",
        }
    }

    /// Models that come with the program: what is changed, and what writes.
    fn embedded(self) -> [&'static str; 2] {
        match self {
            Self::Pattern => ["embedded:letters-target", "embedded:letters"],
            _ => ["embedded:target", "embedded:generator"],
        }
    }
}

/// Asks, tries, and writes the spec.
pub(crate) async fn init(data: &DataDir, arguments: InitArguments, as_json: bool) -> anyhow::Result<()> {
    let mut asker = Asker::of_terminal();
    let goal = match arguments.goal {
        Some(goal) => goal,
        None => asker.choose("dpg init GOAL", "What is the dataset to do to the model?")?,
    };
    let question = Question {
        flag: "--name",
        text: "What is the dataset called?",
        default: Some(format!("my-{}", goal.word())),
    };
    let name = asker.answer(arguments.name, question, async |name| named(name)).await?;
    let file = arguments.file.unwrap_or_else(|| format!("{name}.toml").into());
    ensure!(
        file.extension().is_some_and(|extension| extension == "toml"),
        "`{}` does not end in `.toml`, which a spec's name does",
        file.display()
    );
    ensure!(!file.exists(), "`{}` exists and is left alone; name another with --file", file.display());

    let hub = data.hub()?;
    let mut checks = vec![];
    let mut found = |check: Check| {
        tell(check.line());
        checks.push(check);
    };
    let texts = |what: &'static str, texts: &Texts| match texts.rows {
        0..FEW => Check::warning(what, texts.said(), format!("so few say little: give {FEW} or more")),
        _ => Check::ok(what, texts.said()),
    };
    let [target, generator] = goal.embedded();
    let question = Question {
        flag: "--model",
        text: "Which model is to be changed? A folder, hf:org/name@rev, or one that comes with dpg",
        default: Some(target.into()),
    };
    let model = asker
        .answer(arguments.model, question, async |at| Model::look("target.model", at, &hub).await)
        .await?;
    found(Check::ok("target", model.said()));
    let companion = if model.location == target { generator.into() } else { model.location.clone() };
    let question =
        Question { flag: "--generator", text: "Which model writes the examples?", default: Some(companion) };
    let writer = asker
        .answer(arguments.generator, question, async |at| Model::look("generator.model", at, &hub).await)
        .await?;
    found(Check::ok("generator", writer.said()));

    let mut given = Programs::default();
    let metric = match goal {
        Goal::Language | Goal::Domain => {
            let asked = match goal {
                Goal::Language => "Which file has texts in the language, that nobody trains on?",
                _ => {
                    "Which file has texts like those that the model is to be better at, that nobody trains on?"
                }
            };
            let default = (goal == Goal::Language).then(|| "embedded:held-out/es.jsonl".into());
            let question = Question { flag: "--data", text: asked, default };
            let columns = arguments.column.map(Columns::Text);
            let look = async |at: &str| Texts::look("metric.data", at, columns.clone(), &model, &hub).await;
            Metric::HeldOut(asker.answer(arguments.data, question, look).await?)
        }
        Goal::Preference => {
            let question = Question {
                flag: "--data",
                text: "Which file has the preferences, as columns prompt, chosen and rejected?",
                default: Some("embedded:preferences/spanish.jsonl".into()),
            };
            let look = async |at: &str| Texts::pairs(at, &model, &hub).await;
            Metric::Preference(asker.answer(arguments.data, question, look).await?)
        }
        Goal::Pattern => {
            let question = Question {
                flag: "--draw",
                text: "What is drawn: 67, or a text for its QR code?",
                default: Some("67".into()),
            };
            Metric::Pattern(asker.answer(arguments.draw, question, async |text| Ok(text.to_owned())).await?)
        }
        Goal::Metric => {
            let question = Question {
                flag: "--program",
                text: "Which program measures, as NAME=COMMAND? deploy/python/README.md says how to write one",
                default: None,
            };
            let look = async |text: &str| program(text).map_err(anyhow::Error::msg);
            let (name, command) = asker.answer(arguments.program, question, look).await?;
            given = Programs::one(name.clone(), command);
            Metric::Program(name)
        }
    };
    if let Metric::HeldOut(rows) | Metric::Preference(rows) = &metric {
        found(texts("data", rows));
    }
    // models of letters are asked nothing
    let prompts = if goal == Goal::Pattern && writer.location == generator && arguments.prompts.is_none() {
        None
    } else {
        let question = Question {
            flag: "--prompts",
            text: "Which file has the prompts, one a row?",
            default: Some("embedded:prompts/articles.jsonl".into()),
        };
        let columns = arguments.prompt_column.map(Columns::Text);
        let look = async |at: &str| Texts::prompts(at, columns.clone(), &writer, &hub).await;
        Some(asker.answer(arguments.prompts, question, look).await?)
    };
    if let Some(prompts) = &prompts {
        found(texts("prompts", prompts));
    }

    let draft = Draft { file: &file, goal, name: &name, target: &model, writer: &writer, metric, prompts };
    let text = draft.to_string();
    write(&file, &text)?;
    if let Err(error) = tried(data, &file, &given).await {
        // a spec that does not work helps nobody
        let _ = std::fs::remove_file(&file);
        return Err(error.context(format!("`{}` would not work, and was not kept", file.display())));
    }
    found(Check::ok("spec", "models, data and prompts fit together"));

    let next = next(&file, &given);
    let value = json!({ "spec": file, "checks": checks, "next": next.iter().map(|(command, _)| command).collect::<Vec<_>>() });
    show(as_json, &value, || {
        let lines = next.iter().map(|(command, what)| format!("  {command}\n      {what}"));
        format!("wrote {}; next:\n{}", file.display(), lines.collect::<Vec<_>>().join("\n"))
    });
    Ok(())
}

/// Loads everything that a spec names, as a run does.
async fn tried(data: &DataDir, file: &Path, programs: &Programs) -> anyhow::Result<()> {
    let mut spec = Spec::load(file)?;
    programs.give(&mut spec, data)?;
    let local = resolve(spec, &data.hub()?).await?.local;
    let devices = dpg_models::device::parse("cpu")?;
    compute(move || {
        memory::check(&local, &devices)?;
        Problem::load(&local, DType::F32, &devices, &|| false)?;
        Ok(())
    })
    .await
}

/// Writes a new file.
fn write(file: &Path, text: &str) -> anyhow::Result<()> {
    let created = OpenOptions::new().write(true).create_new(true).open(file);
    let written = created.and_then(|mut file| file.write_all(text.as_bytes()));
    written.with_context(|| format!("cannot write `{}`", file.display()))
}

/// A name that a spec takes.
fn named(name: &str) -> anyhow::Result<String> {
    let smallest = format!(
        "name = {}\n[target]\nmodel = \"embedded:target\"\n[metric]\nkind = \"weight_norm\"\n",
        text::quoted(name)
    );
    Spec::parse(&smallest, Syntax::Toml)?;
    Ok(name.into())
}

/// What to type now, and what it does.
fn next(file: &Path, programs: &Programs) -> Vec<(String, &'static str)> {
    let spec = quoted(&file.to_string_lossy());
    let program = programs.flags().into_iter().map(|given| format!(" --program {}", quoted(&given)));
    let program = program.collect::<String>();
    let mut next = vec![
        (
            format!("dpg plan {spec} --signal{program}"),
            "says what a run takes, and whether its rewards can tell examples apart",
        ),
        (format!("dpg run {spec}{program}"), "trains the generator, draws the dataset and publishes it here"),
    ];
    if program.is_empty() {
        next.push((format!("dpg submit {spec}"), "does the same at a daemon, which `dpg serve` starts and which reads what its `allow.folders` lists"));
    } else {
        let metric = format!("dpg metric {spec}{program}");
        next.insert(0, (metric, "measures the model as it is, and says where the metric's gradient lies"));
    }
    next
}

/// A word for the shell.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.into()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::quoted;

    #[test]
    fn words_are_quoted_for_the_shell() {
        for (word, expected) in
            [("a/b.toml", "a/b.toml"), ("my spec.toml", "'my spec.toml'"), ("it's", r"'it'\''s'")]
        {
            assert_eq!(quoted(word), expected);
        }
    }
}
