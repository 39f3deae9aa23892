//! What a teacher answered, kept under a hash of what it was asked: a run that goes on asks nothing twice.
//!
//! The file has a line of JSON an answer, written whole as soon as it has come. What a kill cut off is the last line, and
//! was not told to anybody.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use dpg_spec::Price;
use serde::{Deserialize, Serialize};

use crate::{Account, Error};

/// The file of a teacher's answers in the folder of a run.
pub const ANSWERS_FILE: &str = "answers.jsonl";

/// The answer to a request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Answer {
    /// Hash of the request.
    pub(super) key: String,
    /// Who answered; in files of earlier versions there is one teacher.
    #[serde(default)]
    pub(super) teacher: String,
    /// Number of the draw that asked; none if whoever asks gets the same.
    pub(super) draw: Option<u64>,
    /// Which model was asked.
    pub(super) model: String,
    /// What it says, one for each choice that was asked for.
    pub(super) choices: Vec<Said>,
    /// What it took.
    pub(super) usage: Option<Usage>,
    /// Seconds until it had come.
    pub(super) seconds: f64,
}

/// A batch of requests, as it is about to be handed in, or with its id.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Batch {
    /// What it is known by before it has an id.
    pub(super) mark: String,
    /// Who is to answer.
    pub(super) teacher: String,
    /// The keys of its requests.
    pub(super) keys: Vec<String>,
    /// What the server calls it.
    pub(super) id: Option<String>,
}

/// A line of the file.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Line {
    Batch(Batch),
    Answer(Answer),
}

/// A choice of an answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Said {
    pub(super) text: String,
    /// What was thought before, if that is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) reasoning: Option<String>,
    /// It ended by itself.
    pub(super) stopped: bool,
}

/// Tokens as the server counts them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Usage {
    pub(super) prompt: u64,
    pub(super) cached: u64,
    pub(super) completion: u64,
    pub(super) reasoning: u64,
}

impl Answer {
    fn account(&self, prices: &BTreeMap<String, Price>) -> Account {
        let Self { model, choices, usage, seconds, .. } = self;
        let told = usage.unwrap_or(Usage { prompt: 0, cached: 0, completion: 0, reasoning: 0 });
        let account = Account {
            requests: 1,
            answers: choices.len() as u64,
            prompt_tokens: told.prompt,
            cached_tokens: told.cached,
            completion_tokens: told.completion,
            reasoning_tokens: told.reasoning,
            untold: u64::from(usage.is_none()),
            seconds: *seconds,
            money: None,
        };
        account.priced(model, prices)
    }
}

/// All answers of a teacher to a run. Several teachers of one run share a file.
pub(super) struct Answers {
    teacher: String,
    kept: Mutex<Kept>,
    prices: BTreeMap<String, Price>,
}

struct Kept {
    file: Option<(PathBuf, File)>,
    known: HashMap<String, Answer>,
    total: Account,
    draws: HashMap<u64, Account>,
    /// In the order in which they were handed in.
    batches: Vec<Batch>,
}

impl Answers {
    /// Those in the folder of a run, or none yet.
    pub(super) fn open(
        teacher: &str,
        folder: Option<&Path>,
        prices: BTreeMap<String, Price>,
    ) -> Result<Self, Error> {
        let kept = Kept {
            file: None,
            known: HashMap::new(),
            total: Account::default(),
            draws: HashMap::new(),
            batches: vec![],
        };
        let mut answers = Self { teacher: teacher.into(), kept: Mutex::new(kept), prices };
        let Some(folder) = folder else { return Ok(answers) };
        let path = folder.join(ANSWERS_FILE);
        answers.read(&path).map_err(|source| Error::Answers { path, source })?;
        Ok(answers)
    }

    fn read(&mut self, path: &Path) -> io::Result<()> {
        let file = File::options().create(true).append(true).read(true).open(path)?;
        let (mut reader, mut whole, mut line) = (BufReader::new(&file), 0, vec![]);
        while reader.read_until(b'\n', &mut line)? > 0 && line.ends_with(b"\n") {
            whole += line.len() as u64;
            match serde_json::from_slice(&line)? {
                Line::Answer(answer) if answer.teacher.is_empty() || answer.teacher == self.teacher => {
                    self.note(answer);
                }
                Line::Batch(batch) if batch.teacher == self.teacher => self.note_batch(batch),
                _ => {}
            }
            line.clear();
        }
        if !line.is_empty() {
            file.set_len(whole)?;
        }
        self.kept().file = Some((path.into(), file));
        Ok(())
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, answer: Answer) {
        let account = answer.account(&self.prices);
        let mut kept = self.kept();
        kept.total += account;
        if let Some(draw) = answer.draw {
            *kept.draws.entry(draw).or_default() += account;
        }
        kept.known.insert(answer.key.clone(), answer);
    }

    /// The answer to a request, if it has come before.
    pub(super) fn get(&self, key: &str) -> Option<Answer> {
        self.kept().known.get(key).cloned()
    }

    /// Keeps an answer.
    pub(super) fn put(&self, answer: Answer) -> Result<(), Error> {
        self.write(&answer)?;
        self.note(answer);
        Ok(())
    }

    /// Keeps that a batch is about to be handed in, or its id.
    pub(super) fn put_batch(&self, batch: Batch) -> Result<(), Error> {
        self.write(&batch)?;
        self.note_batch(batch);
        Ok(())
    }

    /// The batches that were handed in, or were about to be.
    pub(super) fn batches(&self) -> Vec<Batch> {
        self.kept().batches.clone()
    }

    fn note_batch(&self, batch: Batch) {
        let batches = &mut self.kept().batches;
        batches.retain(|other| other.mark != batch.mark);
        batches.push(batch);
    }

    fn write(&self, value: &impl Serialize) -> Result<(), Error> {
        if let Some((path, file)) = &mut self.kept().file {
            let mut line = serde_json::to_vec(value).expect("text and numbers");
            line.push(b'\n');
            let written = file.write_all(&line).and_then(|()| file.sync_data());
            written.map_err(|source| Error::Answers { path: path.clone(), source })?;
        }
        Ok(())
    }

    /// What a draw took, or all of them.
    pub(super) fn account(&self, draw: Option<u64>) -> Account {
        let kept = self.kept();
        draw.map_or(kept.total, |draw| kept.draws.get(&draw).copied().unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn answer(key: &str, draw: Option<u64>) -> Answer {
        Answer {
            key: key.into(),
            teacher: "near".into(),
            draw,
            model: "m".into(),
            choices: vec![Said { text: "a\nb".into(), reasoning: None, stopped: true }],
            usage: Some(Usage { prompt: 10, cached: 4, completion: 5, reasoning: 2 }),
            seconds: 0.5,
        }
    }

    #[test]
    fn what_was_kept_is_known_again_and_half_a_line_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let prices =
            BTreeMap::from([("m".to_owned(), Price { prompt: 1.0, cached_prompt: None, completion: 2.0 })]);
        let open = || Answers::open("near", Some(folder.path()), prices.clone()).unwrap();
        let first = open();
        for (key, draw) in [("a", Some(0)), ("b", Some(1)), ("c", None)] {
            first.put(answer(key, draw)).unwrap();
        }
        let accounts =
            |answers: &Answers| [None, Some(0), Some(1), Some(2)].map(|draw| answers.account(draw));
        let told = accounts(&first);
        assert_eq!((told[0].requests, told[1].prompt_tokens, told[3].requests), (3, 10, 0));
        assert_eq!(told[1].money, Some(20e-6));
        drop(first);
        let file = folder.path().join(ANSWERS_FILE);
        let whole = fs::read(&file).unwrap();
        fs::write(&file, [&whole[..], b"{\"key\":\"d\",\"draw"].concat()).unwrap();
        let second = open();
        assert_eq!(accounts(&second), told);
        assert_eq!(second.get("b"), Some(answer("b", Some(1))));
        assert_eq!(second.get("d"), None);
        assert_eq!(fs::read(&file).unwrap(), whole);
        second.put(answer("d", Some(1))).unwrap();
        assert_eq!(open().account(Some(1)).requests, 2);
        // another teacher's answers lie in the same file
        let other = Answers::open("far", Some(folder.path()), prices.clone()).unwrap();
        assert_eq!((other.account(None).requests, other.get("a")), (0, None));
        other.put(Answer { teacher: "far".into(), ..answer("a", Some(0)) }).unwrap();
        assert_eq!((open().account(None).requests, open().get("a")), (4, Some(answer("a", Some(0)))));
        fs::write(&file, "{}\n").unwrap();
        let Err(Error::Answers { path, .. }) = Answers::open("near", Some(folder.path()), prices.clone())
        else {
            panic!()
        };
        assert_eq!(path, file);
    }
}
