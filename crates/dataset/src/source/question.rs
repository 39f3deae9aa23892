//! Multiple-choice questions from the values of a row, as the tasks of lm-evaluation-harness store them.

use std::path::Path;

use dpg_spec::{Choice, Options};
use serde_json::Value;

use super::{Record, Room, kind, records};
use crate::{Error, Result};

/// A multiple-choice question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// The question, up to where an option follows.
    pub prompt: String,
    /// The options, each with what stands between it and the question.
    pub options: Vec<String>,
    /// The characters of each option by itself.
    pub characters: Vec<usize>,
    /// The right one.
    pub right: usize,
}

/// Reads the questions that a metric asks.
///
/// Errors as those of [`read_examples`](super::read_examples), and where the answer is none of the options.
pub fn read_questions(settings: &Choice) -> Result<Vec<Question>> {
    let data = &settings.data;
    let path = Path::new(&data.path);
    let mut columns = placeholders(&settings.template);
    match &data.options {
        Options::Column(column) => columns.push(column),
        Options::Templates(options) => columns.extend(options.iter().flat_map(|option| placeholders(option))),
    }
    columns.extend([Some(&data.answer), data.labels.as_ref()].into_iter().flatten().map(String::as_str));
    // what is in a column is read with it
    let roots: Vec<&str> = columns.iter().map(|column| column.split('.').next().unwrap_or(column)).collect();
    let asked = |record: Record| Row { path, record }.question(settings);
    let questions: Vec<Question> =
        records(&mut Room::of(path), &roots, data.limit)?.into_iter().map(asked).collect::<Result<_>>()?;
    if questions.is_empty() { Err(Error::Empty(path.into())) } else { Ok(questions) }
}

/// The names in braces of a template.
fn placeholders(template: &str) -> Vec<&str> {
    let parts = template.split('{').skip(1);
    parts.filter_map(|part| part.split_once('}').map(|(name, _)| name)).collect()
}

/// A row of a file.
struct Row<'a> {
    path: &'a Path,
    record: Record,
}

impl Row<'_> {
    fn question(&self, settings: &Choice) -> Result<Question> {
        let data = &settings.data;
        let options: Vec<String> = match &data.options {
            Options::Column(column) => self.texts(column)?,
            Options::Templates(options) => {
                options.iter().map(|option| self.filled(option)).collect::<Result<_>>()?
            }
        };
        if options.len() < 2 {
            let Options::Column(column) = &data.options else { unreachable!("a spec has two templates") };
            return Err(self.wrong(column, &format!("a list of {}", options.len()), "at least two options"));
        }
        let right = self.right(settings, options.len())?;
        let characters = options.iter().map(|option| option.chars().count().max(1)).collect();
        let options = options.into_iter().map(|option| settings.delimiter.clone() + &option).collect();
        Ok(Question { prompt: self.filled(&settings.template)?, options, characters, right })
    }

    /// The number of the right option.
    fn right(&self, settings: &Choice, options: usize) -> Result<usize> {
        const NUMBER: &str = "the number of an option, from 0";
        let (column, answer) = (&settings.data.answer, self.value(&settings.data.answer)?);
        let word = match answer {
            Value::String(text) => text.trim().to_owned(),
            Value::Number(number) => number.to_string(),
            other => return Err(self.wrong(column, kind(other), NUMBER)),
        };
        let (found, expected) = match &settings.data.labels {
            Some(labels) => {
                let labels = self.texts(labels)?;
                (labels.iter().position(|label| *label == word), "one of the labels")
            }
            None => (word.parse().ok(), NUMBER),
        };
        found
            .filter(|&right| right < options)
            .ok_or_else(|| self.wrong(column, &format!("`{word}`"), expected))
    }

    /// A template with the texts of its columns.
    fn filled(&self, template: &str) -> Result<String> {
        let mut filled = String::new();
        let mut rest = template;
        while let Some((before, after)) = rest.split_once('{') {
            let Some((name, after)) = after.split_once('}') else { break };
            filled += before;
            match self.value(name)? {
                Value::String(text) => filled += text,
                Value::Number(number) => filled += &number.to_string(),
                other => return Err(self.wrong(name, kind(other), "a text")),
            }
            rest = after;
        }
        Ok(filled + rest)
    }

    fn texts(&self, column: &str) -> Result<Vec<String>> {
        const TEXTS: &str = "a list of texts";
        let value = self.value(column)?;
        let Value::Array(items) = value else { return Err(self.wrong(column, kind(value), TEXTS)) };
        let text = |item: &Value| match item {
            Value::String(text) => Ok(text.clone()),
            Value::Number(number) => Ok(number.to_string()),
            other => Err(self.wrong(column, &format!("a list with {}", kind(other)), TEXTS)),
        };
        items.iter().map(text).collect()
    }

    /// What is in a column, or inside of one.
    fn value(&self, column: &str) -> Result<&Value> {
        let absent = |columns: Vec<String>| Error::NoColumn {
            path: self.path.into(),
            place: Some(self.record.place),
            column: column.into(),
            columns,
        };
        let named =
            |name: &str| self.record.values.iter().find(|(other, _)| other == name).map(|(_, value)| value);
        if let Some(value) = named(column) {
            return Ok(value);
        }
        let mut names = column.split('.');
        let root = names.next().and_then(named).ok_or_else(|| absent(self.record.names.to_vec()))?;
        names.try_fold(root, |value, name| {
            let inside =
                || value.as_object().map(|object| object.keys().cloned().collect()).unwrap_or_default();
            value.get(name).ok_or_else(|| absent(inside()))
        })
    }

    fn wrong(&self, column: &str, found: &str, expected: &'static str) -> Error {
        Error::WrongType {
            path: self.path.into(),
            place: self.record.place,
            column: column.into(),
            found: found.into(),
            expected,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn settings(path: &Path, data: Value, template: &str) -> Choice {
        let mut settings = json!({ "data": data, "template": template });
        settings["data"]["path"] = path.to_string_lossy().into();
        serde_json::from_value(settings).unwrap()
    }

    fn read(rows: &str, data: Value, template: &str) -> Result<Vec<Question>> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("questions.jsonl");
        std::fs::write(&path, rows).unwrap();
        read_questions(&settings(&path, data, template))
    }

    /// Rows as ARC, HellaSwag, PIQA and BoolQ have them.
    #[test]
    fn rows_of_benchmarks_are_read_as_they_are() {
        let arc = r#"{"id":"a","question":"Why?","choices":{"text":["so","no"],"label":["A","B"]},"answerKey":"B"}"#;
        let data = json!({ "options": "choices.text", "answer": "answerKey", "labels": "choices.label" });
        let question = Question {
            prompt: "Question: Why?\nAnswer:".into(),
            options: vec![" so".into(), " no".into()],
            characters: vec![2, 2],
            right: 1,
        };
        assert_eq!(read(arc, data, "Question: {question}\nAnswer:").unwrap(), [question]);
        let hellaswag = r#"{"ctx":"A man","endings":["runs.","is."],"label":"1"}"#;
        let found = read(hellaswag, json!({ "options": "endings", "answer": "label" }), "{ctx}").unwrap();
        assert_eq!((found[0].prompt.as_str(), found[0].right), ("A man", 1));
        let piqa = r#"{"goal":"Open","sol1":"Pull","sol2":"Push","label":0}"#;
        let data = json!({ "options": ["{sol1}", "{sol2}"], "answer": "label" });
        assert_eq!(read(piqa, data, "{goal}").unwrap()[0].options, [" Pull", " Push"]);
        let boolq = r#"{"passage":"P","question":"q","label":1}"#;
        let data = json!({ "options": ["no", "yes"], "answer": "label" });
        assert_eq!(read(boolq, data, "{passage}\n{question}?").unwrap()[0].prompt, "P\nq?");
    }

    #[test]
    fn what_is_wrong_names_the_file_the_row_and_the_column() {
        let data = json!({ "options": "options", "answer": "answer" });
        for (row, parts) in [
            (r#"{"q":"a","options":["b","c"],"answer":2}"#, ["`answer` in line 1", "`2`"]),
            (r#"{"q":"a","options":["b"],"answer":0}"#, ["`options` in line 1", "at least two"]),
            (r#"{"q":"a","options":"b","answer":0}"#, ["`options` in line 1", "a list of texts"]),
            (r#"{"q":["a"],"options":["b","c"],"answer":0}"#, ["`q` in line 1", "a text"]),
            (r#"{"options":["b","c"],"answer":0}"#, ["no column `q`", "`options`, `answer`"]),
        ] {
            let error = read(row, data.clone(), "{q}").unwrap_err().to_string();
            assert!(parts.iter().all(|part| error.contains(part)), "{error}");
            assert!(error.contains("questions.jsonl"), "{error}");
        }
    }
}
