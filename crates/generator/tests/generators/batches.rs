//! A teacher that is asked by batch files: rows that fail, batches that expire, results in any order, and kills.

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use dpg_generator::{Api, Choice, Completion, Error, Generator, Prompt};
use dpg_spec::ApiGenerator;
use serde_json::{Value, json};

use crate::teacher::{Raw, Server, answer, asked};
use crate::teachers::{drawn, echo, key, settings};

/// How a batch ends.
#[derive(Clone, Copy, PartialEq)]
enum End {
    Completed,
    /// With the second half of its rows unanswered, and its first row refused.
    Expired,
    Refused,
}

/// The files and batches of a server.
#[derive(Default)]
struct Desk {
    files: HashMap<String, String>,
    batches: Vec<Value>,
    /// How often each row was answered, by its user's turn.
    answered: HashMap<String, usize>,
    live: usize,
}

impl Desk {
    fn file(&mut self, text: String) -> String {
        let id = format!("file-{}", self.files.len());
        self.files.insert(id.clone(), text);
        id
    }

    fn reply(&mut self, Raw { asked: line, key: sent, body }: Raw, ends: &[End]) -> (u16, Value) {
        assert_eq!(sent, Some(format!("Bearer {}", key())));
        let body = String::from_utf8(body).unwrap();
        match line.as_str() {
            "POST /v1/files" => {
                assert!(body.contains("name=\"purpose\"\r\n\r\nbatch\r\n"), "{body}");
                let rows = body.lines().filter(|line| line.starts_with("{\"custom_id\""));
                let id = self.file(rows.map(|row| format!("{row}\n")).collect());
                (200, json!({ "id": id }))
            }
            "POST /v1/batches" => {
                let mut batch: Value = serde_json::from_str(&body).unwrap();
                batch["id"] = format!("batch_{}", self.batches.len()).into();
                batch["status"] = "validating".into();
                self.batches.push(batch.clone());
                (200, batch)
            }
            "GET /v1/batches?limit=100" => (200, json!({ "data": self.batches })),
            "POST /v1/chat/completions" => {
                self.live += 1;
                (200, answer(&["live"]))
            }
            line => match line.strip_prefix("GET /v1/batches/batch_") {
                Some(number) => {
                    let number: usize = number.parse().unwrap();
                    self.look(number, ends[number]);
                    (200, self.batches[number].clone())
                }
                None => (404, json!({ "error": { "message": format!("no {line}") } })),
            },
        }
    }

    /// A batch is worked on when it is looked at for the first time, and has ended at the second.
    fn look(&mut self, number: usize, end: End) {
        let batch = self.batches[number].clone();
        if batch["status"] == "validating" {
            self.batches[number]["status"] = "in_progress".into();
            return;
        }
        if batch["status"] != "in_progress" {
            return;
        }
        if end == End::Refused {
            self.batches[number]["status"] = "failed".into();
            let errors = json!({ "data": [{ "message": format!("no model for {}", key()) }] });
            self.batches[number]["errors"] = errors;
            return;
        }
        let rows: Vec<Value> = self.files[batch["input_file_id"].as_str().unwrap()]
            .lines()
            .map(|row| serde_json::from_str(row).unwrap())
            .collect();
        let (mut good, mut bad) = (vec![], vec![]);
        let answered = if end == End::Expired { rows.len() / 2 } else { rows.len() };
        for (at, row) in rows[..answered].iter().enumerate() {
            assert_eq!((&row["method"], &row["url"]), (&"POST".into(), &"/v1/chat/completions".into()));
            let turn = asked(&row["body"]);
            if end == End::Expired && at == 0 {
                let body = json!({ "error": { "message": "overloaded" } });
                bad.push(json!({ "custom_id": row["custom_id"], "response": { "status_code": 500, "body": body } }));
                continue;
            }
            *self.answered.entry(turn.clone()).or_default() += 1;
            let body = answer(&[&format!("[{turn}]")]);
            let response = json!({ "status_code": 200, "body": body });
            good.push(json!({ "custom_id": row["custom_id"], "response": response, "error": null }));
        }
        good.reverse();
        let text = |rows: &[Value]| rows.iter().map(|row| format!("{row}\n")).collect::<String>();
        let output = self.file(text(&good));
        self.batches[number]["output_file_id"] = output.into();
        if !bad.is_empty() {
            let errors = self.file(text(&bad));
            self.batches[number]["error_file_id"] = errors.into();
        }
        let status = if end == End::Expired { "expired" } else { "completed" };
        self.batches[number]["status"] = status.into();
    }
}

fn server(ends: &'static [End]) -> (String, Arc<Mutex<Desk>>) {
    let desk = Arc::new(Mutex::new(Desk::default()));
    let to = Arc::clone(&desk);
    let url = Server::raw(move |raw| {
        let mut desk = to.lock().unwrap();
        let file = raw.asked.strip_prefix("GET /v1/files/").and_then(|rest| rest.strip_suffix("/content"));
        if let Some(text) = file.and_then(|id| desk.files.get(id)) {
            return (200, text.clone());
        }
        let (status, value) = desk.reply(raw, ends);
        (status, value.to_string())
    });
    (url, desk)
}

fn in_batches(url: &str, folder: Option<&Path>) -> ApiGenerator {
    let mut settings = settings(url, folder);
    settings.connection.as_mut().unwrap().teacher.batches = true;
    settings
}

fn draw(api: &Api, stop: &(dyn Fn() -> bool + Sync)) -> Result<Vec<Completion>, Error> {
    let prompts: Vec<Prompt> = (0..8).map(|row| api.prompt(format!("row {row}")).unwrap()).collect();
    api.draw(&prompts, Choice::Random { seed: 1, draw: 0 }, stop)
}

#[test]
fn what_a_batch_leaves_out_is_asked_in_another_and_each_answer_stands_in_its_row() {
    let right = drawn(settings(&echo().url, None), 8);
    let (url, desk) = server(&[End::Expired, End::Completed]);
    let api = Api::new(in_batches(&url, None)).unwrap();
    assert_eq!(draw(&api, &|| false).unwrap(), right);
    let account = api.account(Some(0)).unwrap();
    assert_eq!((account.requests, account.completion_tokens), (8, 40));
    let desk = desk.lock().unwrap();
    assert_eq!((desk.batches.len(), desk.live, desk.answered.len()), (2, 0, 8));
    assert!(desk.answered.values().all(|times| *times == 1), "{:?}", desk.answered);
}

#[test]
fn a_run_that_was_killed_finds_its_batch_again() {
    let right = drawn(settings(&echo().url, None), 8);
    // while it is waited for, and before its id was written down
    for forget in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let (url, desk) = server(&[End::Completed]);
        let api = Api::new(in_batches(&url, Some(folder.path()))).unwrap();
        let looks = AtomicUsize::new(0);
        let stopped = draw(&api, &|| looks.fetch_add(1, Ordering::Relaxed) > 0);
        assert!(stopped.unwrap_err().is_cancelled());
        drop(api);
        let file = folder.path().join("answers.jsonl");
        let kept = std::fs::read_to_string(&file).unwrap();
        assert_eq!(kept.lines().count(), 2, "{kept}");
        if forget {
            std::fs::write(&file, format!("{}\n", kept.lines().next().unwrap())).unwrap();
        }
        let api = Api::new(in_batches(&url, Some(folder.path()))).unwrap();
        assert_eq!(draw(&api, &|| false).unwrap(), right);
        assert_eq!(api.account(None).unwrap().requests, 8);
        // and what was read is not asked for again
        drop(api);
        let api = Api::new(in_batches(&url, Some(folder.path()))).unwrap();
        assert_eq!(draw(&api, &|| false).unwrap(), right);
        let desk = desk.lock().unwrap();
        assert_eq!((desk.batches.len(), desk.live), (1, 0));
        assert!(desk.answered.values().all(|times| *times == 1), "{:?}", desk.answered);
        assert!(!std::fs::read_to_string(&file).unwrap().contains(&key()));
    }
}

#[test]
fn a_batch_that_is_refused_or_never_answers_is_an_error() {
    let (url, _) = server(&[End::Refused]);
    let error = draw(&Api::new(in_batches(&url, None)).unwrap(), &|| false).unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("refused the batch `batch_0`: no model for ***") && !error.is_transient(),
        "{text}"
    );
    let (url, desk) = server(&[End::Expired; 3]);
    let error = draw(&Api::new(in_batches(&url, None)).unwrap(), &|| false).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("rows of 3 batches: overloaded") && error.is_transient(), "{text}");
    assert_eq!(desk.lock().unwrap().batches.len(), 3);
    // the likeliest answer is one, and asked for at once
    let api = Api::new(in_batches(&url, None)).unwrap();
    let prompt = api.prompt("row".into()).unwrap();
    assert_eq!(api.draw(&[prompt], Choice::Likeliest, &|| false).unwrap()[0].text, "live");
}
