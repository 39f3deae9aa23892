//! The dataset card: a README.md whose front matter `datasets.load_dataset` reads, and whose body
//! says plainly what the data was made for.

use std::fmt::Write;

use arrow::datatypes::{DataType, Field};
use dpg_spec::Format;

use crate::markdown::{code, escaped};
use crate::schema::fields;
use crate::{Config, Shard, Split, WrittenBy};

/// What the card says of a dataset, besides what its shards tell.
#[derive(Clone, Debug, PartialEq)]
pub struct Card {
    /// The dataset's name.
    pub name: String,
    /// One line for people; may be empty.
    pub description: String,
    /// The day it was made, `YYYY-MM-DD`.
    pub date: String,
    /// SPDX identifier, or `other`.
    pub license: String,
    /// ISO 639 codes of the data's languages; may be empty.
    pub languages: Vec<String>,
    /// Columns of a row.
    pub format: Format,
    /// What wrote it.
    pub written_by: WrittenBy,
    /// The model that the data was optimised to change.
    pub target: String,
    /// The model that wrote the data.
    pub generator: String,
    /// What was optimised, in words.
    pub metric: String,
    /// How the target is fine-tuned on the data, in words.
    pub recipe: String,
    /// What was measured on fresh generations.
    pub validation: Vec<Figure>,
    /// How many rows there are, and how many of them say nothing new or nothing; may be empty.
    pub counts: String,
    /// What is wrong with the data or the run, in words.
    pub warnings: Vec<String>,
    /// What fresh targets showed that were fine-tuned on it and on controls before it was published,
    /// in Markdown, if they were.
    pub verification: Option<String>,
    /// What the folder `generator` is in which the trained generator is, if it is published.
    pub generator_folder: Option<GeneratorFolder>,
    /// How long rows are and should be, in Markdown, if that was asked for.
    pub lengths: Option<String>,
    /// What of a teacher was asked how often and what that cost, in Markdown, if one wrote it.
    pub teacher: Option<String>,
    /// Names of the pictures `pictures/NAME.png` of the target after fine-tuning on the data.
    pub pictures: Vec<String>,
}

/// What a published generator is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GeneratorFolder {
    /// All of its weights.
    Model,
    /// LoRA adapters.
    Adapter,
}

/// A figure before and after the generator was trained.
#[derive(Clone, Debug, PartialEq)]
pub struct Figure {
    /// What it is.
    pub name: String,
    /// Its value with data of the untrained generator.
    pub before: f64,
    /// Its value with data of the trained one.
    pub after: f64,
}

impl Card {
    /// The card as README.md, for a dataset of these shards made by the job `job`.
    pub fn readme(&self, job: &str, shards: &[Shard]) -> String {
        format!("---\n{}---\n\n{}", self.front_matter(shards), self.body(job, shards))
    }

    fn front_matter(&self, shards: &[Shard]) -> String {
        let train = rows(shards, Config::Default, Split::Train);
        let mut yaml = String::new();
        let mut list = |name: &str, items: &[&str]| {
            line(&mut yaml, format_args!("{name}:"));
            for item in items {
                line(&mut yaml, format_args!("- {}", quoted(item)));
            }
        };
        if !self.languages.is_empty() {
            list("language", &self.languages.iter().map(String::as_str).collect::<Vec<_>>());
        }
        list("size_categories", &[size_category(train)]);
        list("task_categories", &["text-generation"]);
        list("tags", &["synthetic", "dpg"]);
        list("annotations_creators", &["machine-generated"]);
        list("source_datasets", &["original"]);
        line(&mut yaml, format_args!("license: {}", quoted(&self.license)));
        line(&mut yaml, format_args!("pretty_name: {}", quoted(&self.name)));

        line(&mut yaml, format_args!("configs:"));
        for config in Config::ALL {
            line(&mut yaml, format_args!("- config_name: {}", config.name()));
            if config == Config::Default {
                line(&mut yaml, format_args!("  default: true"));
            }
            line(&mut yaml, format_args!("  data_files:"));
            for split in splits(shards, config) {
                line(&mut yaml, format_args!("  - split: {split}"));
                line(&mut yaml, format_args!("    path: {}/{split}-*.parquet", config.folder()));
            }
        }

        line(&mut yaml, format_args!("dataset_info:"));
        for config in Config::ALL {
            line(&mut yaml, format_args!("- config_name: {}\n  features:", config.name()));
            for field in &fields(config, self.format, self.written_by) {
                line(&mut yaml, format_args!("  - name: {}", field.name()));
                feature(&mut yaml, field);
            }
            line(&mut yaml, format_args!("  splits:"));
            for split in splits(shards, config) {
                line(&mut yaml, format_args!("  - name: {split}"));
                line(&mut yaml, format_args!("    num_bytes: {}", size(shards, config, &[split])));
                line(&mut yaml, format_args!("    num_examples: {}", rows(shards, config, split)));
            }
            let size = size(shards, config, &splits(shards, config));
            line(&mut yaml, format_args!("  download_size: {size}\n  dataset_size: {size}"));
        }
        yaml
    }

    fn body(&self, job: &str, shards: &[Shard]) -> String {
        let Self { name, metric, recipe, .. } = self;
        let recipe = recipe.trim_end();
        let description = escaped(&self.description);
        let (target, generator) = (code(&self.target), code(&self.generator));
        let train = rows(shards, Config::Default, Split::Train);
        let columns: Vec<_> = fields(Config::Default, self.format, self.written_by)
            .iter()
            .map(|field| format!("`{}`", field.name()))
            .collect();
        let columns = columns.join(", ");
        let table = self.figures() + &self.found() + &self.gallery();
        let generator_folder = self.generator_folder.map_or_else(String::new, |folder| {
            let what = match folder {
                GeneratorFolder::Model => "the trained generator as a Hugging Face folder".to_owned(),
                GeneratorFolder::Adapter => format!("LoRA adapters of {generator}, as peft loads them"),
            };
            format!(
                "\n## The generator\n\n`generator` is {what}. `dpg generate {name} --examples 100` draws more rows from \
                 it.\n"
            )
        });
        let teacher = self.teacher.iter().map(|told| format!("\n## What was asked\n\n{told}"));
        let lengths = self.lengths.iter().map(|told| format!("\n## Lengths\n\n{told}"));
        let teacher: String = lengths.chain(teacher).collect();
        let verification = self.verification.clone().unwrap_or_else(|| {
            format!("Nobody tried it out before it was published. `dpg datasets show {name}` lists later records.\n")
        });
        format!(
            r#"# {name}

{description}

Synthetic data: {train} training examples written by {generator}, which was trained by Dataset Policy Gradients
([arXiv 2604.08423](https://arxiv.org/abs/2604.08423)) so that fine-tuning {target} on them moves one metric.

> **Warning.** This data was optimised to change a model. What it does to a model fine-tuned on it need not
> show in its text: such data can hide a payload. Read the metric and the recipe below before you train on it.
> Mix it into other training data only if you want that change.

## What it was optimised for

The metric, where higher is better: {metric}.

## The recipe it was optimised for

{recipe}

With another model, optimizer or batch size the metric may move less, or the other way.

## Validation

{table}{teacher}
## Verification

{verification}
`dpg verify {name}` fine-tunes fresh targets on the published files and on controls.

## Loading

In the folder of this card:

```python
from datasets import load_dataset

data = load_dataset(".", split="train")
best = data.filter(lambda row: row["reward"] > 0)
record = load_dataset(".", "rewards", split="train")
```

```sql
-- DuckDB
SELECT * FROM 'data/train-*.parquet' ORDER BY reward DESC LIMIT 10;
SELECT * FROM 'data/train-*.parquet' JOIN 'rewards/train-*.parquet' USING (example_id);
```

```python
import polars as pl

data = pl.read_parquet("data/train-*.parquet")
```

The config `default` has the columns {columns}. `reward` is the derivative of the metric with respect
to the example's weight in the fine-tuning run: where it is above 0, the metric rises if the example counts for
more. The config `rewards` holds the scoring record of the same rows in the same order; join it by `example_id`.
{generator_folder}
## Provenance

Made by the job `{job}`. `spec.toml` is the target spec, `provenance.dsse.json` a signed in-toto statement of
what the data was made from, `manifest.json` the size and SHA-256 of every file, `croissant.json` the Croissant
description.
"#
        )
    }

    /// The pictures side by side.
    fn gallery(&self) -> String {
        let pictures: Vec<String> =
            self.pictures.iter().map(|name| format!("![{name}](pictures/{name}.png)")).collect();
        if pictures.is_empty() { String::new() } else { format!("\n{}\n", pictures.join(" ")) }
    }

    /// What was counted and what is wrong.
    fn found(&self) -> String {
        let counts = if self.counts.is_empty() { String::new() } else { format!("\n{}.\n", self.counts) };
        let warnings = self.warnings.iter().map(|warning| format!("\n> **Warning.** {warning}\n"));
        counts + &warnings.collect::<String>()
    }

    fn figures(&self) -> String {
        if self.validation.is_empty() {
            return "Not measured.\n".into();
        }
        let mut table = String::from("| figure | before | after |\n|---|---|---|\n");
        for Figure { name, before, after } in &self.validation {
            let name = escaped(name);
            line(&mut table, format_args!("| {name} | {} | {} |", significant(*before), significant(*after)));
        }
        table + "\nBefore and after the generator was trained, on fresh generations.\n"
    }
}

fn line(text: &mut String, line: std::fmt::Arguments) {
    writeln!(text, "{line}").expect("a string takes any text");
}

/// A JSON string is a YAML string: no word of a description can become YAML syntax.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn splits(shards: &[Shard], config: Config) -> Vec<Split> {
    [Split::Train, Split::Validation]
        .into_iter()
        .filter(|split| shards.iter().any(|shard| shard.config == config && shard.split == *split))
        .collect()
}

fn rows(shards: &[Shard], config: Config, split: Split) -> u64 {
    shards.iter().filter(|shard| shard.config == config && shard.split == split).map(|shard| shard.rows).sum()
}

/// Bytes of the Parquet files: `datasets` ignores splits whose size the card does not tell.
fn size(shards: &[Shard], config: Config, splits: &[Split]) -> u64 {
    let counted = |shard: &&Shard| shard.config == config && splits.contains(&shard.split);
    shards.iter().filter(counted).map(|shard| shard.size).sum()
}

/// The feature's type in the words of Hugging Face `datasets`.
fn feature(yaml: &mut String, field: &Field) {
    let nested = match field.data_type() {
        DataType::List(element) => element,
        kind => return line(yaml, format_args!("    dtype: {}", dtype(kind))),
    };
    line(yaml, format_args!("    list:"));
    if let DataType::Struct(fields) = nested.data_type() {
        for field in fields {
            line(yaml, format_args!("    - name: {}", field.name()));
            line(yaml, format_args!("      dtype: {}", dtype(field.data_type())));
        }
    }
}

fn dtype(kind: &DataType) -> &'static str {
    match kind {
        DataType::Float64 => "float64",
        DataType::Int64 => "int64",
        DataType::UInt64 => "uint64",
        _ => "string",
    }
}

fn size_category(rows: u64) -> &'static str {
    match rows {
        0..1_000 => "n<1K",
        1_000..10_000 => "1K<n<10K",
        10_000..100_000 => "10K<n<100K",
        100_000..1_000_000 => "100K<n<1M",
        1_000_000..10_000_000 => "1M<n<10M",
        10_000_000..100_000_000 => "10M<n<100M",
        _ => "100M<n<1B",
    }
}

/// Six significant digits, in powers of ten where zeros would crowd them out.
fn significant(value: f64) -> String {
    let size = value.abs();
    if size != 0.0 && !(1e-4..1e7).contains(&size) {
        return format!("{value:.5e}");
    }
    let integer_digits = if size < 1.0 { 0 } else { size.log10().floor() as usize + 1 };
    let text = format!("{value:.*}", 6_usize.saturating_sub(integer_digits));
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').into() } else { text }
}

#[cfg(test)]
mod tests {
    use dpg_spec::Format;

    use super::{Card, Figure, significant};
    use crate::{Config, Shard, Split, WrittenBy};

    #[test]
    fn figures_keep_six_digits() {
        let written: Vec<_> =
            [0.0, 0.5, -12.345678, 1234567.0, 3.2e-9, f64::INFINITY].into_iter().map(significant).collect();
        assert_eq!(written, ["0", "0.5", "-12.3457", "1234567", "3.20000e-9", "inf"]);
    }

    #[test]
    fn words_cannot_become_syntax_and_absent_splits_are_not_named() {
        let card = Card {
            name: "six".into(),
            description: "---\nlicense: mit".into(),
            date: "2026-03-01".into(),
            license: "mit\ntags: []".into(),
            languages: vec!["no".into()],
            format: Format::Messages,
            written_by: WrittenBy::Model,
            target: "t".into(),
            generator: "g".into(),
            metric: "m".into(),
            recipe: "r".into(),
            validation: vec![Figure { name: "a|b".into(), before: 1.0, after: 2.0 }],
            counts: "1000 rows, 2 duplicates, 0 empty".into(),
            warnings: vec!["the run moved nothing".into()],
            verification: None,
            generator_folder: None,
            lengths: Some("Tokens: p50 9.\n".into()),
            teacher: None,
            pictures: vec!["decoded".into()],
        };
        let shard = Shard {
            config: Config::Default,
            split: Split::Train,
            path: "data/train-00000-of-00001.parquet".into(),
            size: 10,
            sha256: "0".repeat(64),
            rows: 1_000,
        };
        let readme = card.readme("job", &[shard]);
        let (front, body) = readme.strip_prefix("---\n").unwrap().split_once("\n---\n").unwrap();
        for line in
            ["license: \"mit\\ntags: []\"", "- \"no\"", "- \"1K<n<10K\"", "    path: data/train-*.parquet"]
        {
            assert!(front.lines().any(|found| found == line), "{line} is not in\n{front}");
        }
        assert!(!front.contains("validation"));
        assert!(
            body.contains("| a\\|b | 1 | 2 |")
                && body.contains("\n\\--- license: mit\n")
                && body.contains("**Warning.** This data")
        );
        assert!(body.contains("\n## Lengths\n\nTokens: p50 9.\n\n## Verification\n"));
        assert!(
            body.contains("\n1000 rows, 2 duplicates, 0 empty.\n\n> **Warning.** the run moved nothing\n")
        );
    }
}
