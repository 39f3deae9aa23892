//! Many requests to a teacher in one batch file (`/v1/batches`): written up, waited for, and read back by their keys.
//!
//! Answers are kept as those of live requests are. That a batch is about to be handed in, and then its id, are written
//! beside them first: a run that was killed finds its batch again, by the id, or by the mark in its metadata if it was
//! killed in between. What a batch leaves out, since rows failed or its time was over, is asked again in another.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::time::sleep;

use super::answers::Batch;
use super::client::{Told, told};
use super::{Answer, Api, LOOK, Request, choices};
use crate::{Choice, Error, Stop};

/// Batches that a draw hands in, each with what the one before left out.
const ROUNDS: usize = 3;
/// Between two looks at a batch: at first, and at most.
const FIRST_POLL: Duration = Duration::from_millis(500);
const LONGEST_POLL: Duration = Duration::from_secs(30);
/// Most requests of a batch, as OpenAI bounds them.
const MOST: usize = 50_000;

/// Requests without an answer, by their keys: the request's number and what is sent.
pub(super) type Waiting = BTreeMap<String, (usize, Value)>;

impl Api {
    /// Has the requests that wait answered in batches.
    pub(super) async fn ask_in_batches(
        &self,
        requests: &[Request],
        mut waiting: Waiting,
        choice: Choice,
        stop: Stop<'_>,
    ) -> Result<HashMap<usize, Answer>, Error> {
        let (mut found, mut seen, mut handed_in) = (HashMap::new(), HashSet::new(), 0);
        let mut failed = None;
        while !waiting.is_empty() {
            let known = self.answers.batches().into_iter();
            let before = known.filter(|batch| batch.keys.iter().any(|key| waiting.contains_key(key)));
            let before: Vec<_> = before.collect();
            let batch = match before.iter().find(|batch| !seen.contains(&batch.mark)) {
                Some(batch) => batch.clone(),
                None if handed_in == ROUNDS => {
                    let reason = format!("left out {} rows of {ROUNDS} batches", waiting.len());
                    let why = failed.map_or(String::new(), |why| format!(": {why}"));
                    return Err(self.client.error(reason + &why, true));
                }
                None => {
                    self.check_budget()?;
                    handed_in += 1;
                    let keys: Vec<_> = waiting.keys().take(MOST).cloned().collect();
                    // another one than those that left them out
                    let mark = hex::encode(Sha256::digest(json!([keys, before.len()]).to_string()));
                    let batch = Batch { mark, teacher: self.settings.teacher.clone(), keys, id: None };
                    self.answers.put_batch(batch.clone())?;
                    batch
                }
            };
            seen.insert(batch.mark.clone());
            let begun = Instant::now();
            let id = match &batch.id {
                Some(id) => id.clone(),
                None => self.hand_in(&batch, &waiting).await?,
            };
            let lines = self.wait(&id, stop).await?;
            let seconds = begun.elapsed().as_secs_f64() / lines.len().max(1) as f64;
            for line in lines {
                let Some(key) = line["custom_id"].as_str() else { continue };
                let Some((at, _)) = waiting.get(key) else { continue };
                match answered(&line, choices(&requests[*at], choice)) {
                    Ok(told) => {
                        let draw = if let Choice::Random { draw, .. } = choice { Some(draw) } else { None };
                        let answer = self.answer(&requests[*at], key.to_owned(), draw, told, seconds);
                        self.answers.put(answer.clone())?;
                        found.insert(*at, answer);
                        waiting.remove(key);
                    }
                    Err(why) => failed = Some(why),
                }
            }
        }
        Ok(found)
    }

    /// Writes up a batch, unless it was before the run was killed, and returns its id.
    async fn hand_in(&self, batch: &Batch, waiting: &Waiting) -> Result<String, Error> {
        let created = if let Some(known) = self.client.created(&batch.mark).await? {
            known
        } else {
            let row = |key: &String| {
                let (_, body) = waiting.get(key)?;
                Some(
                    json!({ "custom_id": key, "method": "POST", "url": "/v1/chat/completions", "body": body }),
                )
            };
            let rows: String = batch.keys.iter().filter_map(row).map(|row| format!("{row}\n")).collect();
            let file = self.client.upload(&batch.mark, &rows).await?;
            let file = self.named(&file, "file")?;
            let asked = json!({
                "input_file_id": file,
                "endpoint": "/v1/chat/completions",
                "completion_window": "24h",
                "metadata": { "dpg": batch.mark },
            });
            self.client.create(&batch.mark, &asked).await?
        };
        let id = self.named(&created, "batch")?;
        self.answers.put_batch(Batch { id: Some(id.clone()), ..batch.clone() })?;
        Ok(id)
    }

    /// The id of what a server made.
    fn named(&self, made: &Value, what: &str) -> Result<String, Error> {
        let id = made["id"]
            .as_str()
            .filter(|id| id.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b)));
        let reason = || self.client.error(format!("told no id of its {what}"), false);
        id.filter(|id| !id.is_empty()).map(str::to_owned).ok_or_else(reason)
    }

    /// The rows of a batch once it has ended, in whatever order they are.
    async fn wait(&self, id: &str, stop: Stop<'_>) -> Result<Vec<Value>, Error> {
        let mut pause = FIRST_POLL;
        let ended = loop {
            let batch = self.client.get(&format!("batches/{id}")).await?;
            match batch["status"].as_str().unwrap_or_default() {
                "completed" | "expired" | "cancelled" => break batch,
                "failed" => {
                    let why = batch["errors"]["data"][0]["message"].as_str().unwrap_or("it does not say why");
                    return Err(self.client.error(format!("refused the batch `{id}`: {why}"), false));
                }
                _ => {}
            }
            let until = Instant::now() + pause;
            while Instant::now() < until {
                if stop() {
                    return Err(dpg_models::Error::Cancelled.into());
                }
                sleep(LOOK.min(until.saturating_duration_since(Instant::now()))).await;
            }
            pause = LONGEST_POLL.min(2 * pause);
        };
        let mut lines = vec![];
        for file in ["output_file_id", "error_file_id"] {
            if let Some(file) = ended[file].as_str() {
                let file = self.named(&json!({ "id": file }), "file")?;
                let text = self.client.file(&file).await?;
                lines.extend(text.lines().filter_map(|line| serde_json::from_str(line).ok()));
            }
        }
        Ok(lines)
    }
}

/// What a row of a batch says, or why it says nothing.
fn answered(line: &Value, choices: usize) -> Result<Told, String> {
    let response = &line["response"];
    let why = [&line["error"]["message"], &response["body"]["error"]["message"]];
    let why = why.into_iter().find_map(Value::as_str).unwrap_or("without what was asked");
    let is_good = response["status_code"].as_u64().is_none_or(|status| status == 200);
    told(&response["body"], choices).filter(|_| is_good).ok_or_else(|| why.to_owned())
}
