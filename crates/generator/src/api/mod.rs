//! A frozen teacher behind an API. What is learnt is a categorical policy over its arms: ways to ask it, which differ in
//! the template, the system's turn, the model, the temperature or the length.
//!
//! A completion is drawn in two steps: an arm, by the run's seed, the draw and the row; then the server's answer to it.
//! Answers are kept under a hash of the request and of what drew it ([`answers`]), so that the same draw asks for nothing
//! twice. Whichever answer comes first, each stands in its row. A teacher with batches is asked by file ([`batch`]).

mod answers;
mod batch;
mod client;

use std::collections::HashMap;
use std::path::Path;
use std::time::{Duration, Instant};

use dpg_models::keyed_rng;
use dpg_policy::Categorical;
use dpg_spec::{ApiGenerator, Arm, Budget};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use rand::RngExt;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::runtime::{Builder, Runtime};
use tokio::time::sleep;

use crate::{
    About, Account, Asked, Choice, Completion, Error, Generator, Lesson, Prompt, Saved, Stop, UpdateStats,
    arms,
};
pub use answers::ANSWERS_FILE;
use answers::{Answer, Answers};
use client::{Client, Told};

/// How often the caller is asked whether to stop while answers are waited for.
const LOOK: Duration = Duration::from_secs(1);
/// How long what is under way may still be answered, and paid for, after a draw has to end.
const GRACE: Duration = Duration::from_secs(10);

/// An arm and how often it is asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Chance {
    /// The arm's name.
    pub name: String,
    /// Its probability.
    pub probability: f64,
}

/// A teacher with its arms.
pub struct Api {
    settings: ApiGenerator,
    arms: Vec<Arm>,
    policy: Categorical,
    client: Client,
    answers: Answers,
    budget: Budget,
    /// How its server names the longest length.
    longest: &'static str,
    concurrency: usize,
    in_batches: bool,
    runtime: Runtime,
}

/// A request, and the rows that its choices are for.
struct Request {
    arm: usize,
    prompt: String,
    rows: Vec<usize>,
}

impl Api {
    /// Of settings that know what the teacher's name stands for.
    pub fn new(settings: ApiGenerator) -> Result<Self, Error> {
        let connection = settings.connection.clone().ok_or_else(|| {
            let reason = format!(
                "`{}` is not a teacher of this machine; name it under `teachers` in `dpg.toml`",
                settings.teacher
            );
            Error::setting("generator.teacher", reason)
        })?;
        let teacher = connection.teacher;
        let (arms, budget) = (settings.arms(), settings.budget.least(teacher.budget));
        let priced = |model: &&String| !teacher.prices.contains_key(*model);
        if let (Some(_), Some(model)) = (budget.money, settings.models().iter().find(priced)) {
            let reason = format!(
                "no money can be counted: `teachers.{}.prices` in `dpg.toml` has no price for `{model}`",
                settings.teacher
            );
            return Err(Error::setting("generator.budget.money", reason));
        }
        let runtime = Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| Error::Teacher {
            teacher: settings.teacher.clone(),
            reason: format!("cannot be asked: {error}"),
            transient: true,
        })?;
        Ok(Self {
            client: Client::new(&settings.teacher, &teacher)?,
            policy: Categorical::uniform(arms.len()),
            answers: Answers::open(&settings.teacher, connection.answers.as_deref(), teacher.prices)?,
            longest: if teacher.max_tokens { "max_tokens" } else { "max_completion_tokens" },
            concurrency: teacher.concurrency.max(1),
            in_batches: teacher.batches,
            settings,
            arms,
            budget,
            runtime,
        })
    }

    /// The arm of a row.
    fn arm(&self, choice: Choice, row: usize) -> usize {
        match choice {
            Choice::Likeliest => self.policy.likeliest(),
            Choice::Random { seed, draw } => {
                let key = [seed, draw, row as u64, u64::from_le_bytes(*b"arms    ")];
                self.policy.at(keyed_rng(key).random())
            }
        }
    }

    /// What has to be asked for these rows: rows that ask the same share a request, as far as the server's `n` goes, or
    /// where all are to get the same.
    fn requests(&self, prompts: &[Prompt], choice: Choice) -> Vec<Request> {
        let most = if choice == Choice::Likeliest { usize::MAX } else { self.settings.choices };
        let mut requests: Vec<Request> = vec![];
        let mut open: HashMap<(usize, &str), usize> = HashMap::new();
        for (row, prompt) in prompts.iter().enumerate() {
            let arm = self.arm(choice, row);
            let place = (arm, prompt.text.as_str());
            let shared = open.get(&place).copied().filter(|&at| requests[at].rows.len() < most);
            if let Some(at) = shared {
                requests[at].rows.push(row);
            } else {
                open.insert(place, requests.len());
                let prompt = self.arms[arm].template.replace("{text}", &prompt.text);
                requests.push(Request { arm, prompt, rows: vec![row] });
            }
        }
        requests
    }

    /// What is sent, and the hash that its answer is kept under.
    fn body(&self, request: &Request, choice: Choice) -> (Value, String) {
        let arm = &self.arms[request.arm];
        let turn = |role: &str, content: &str| json!({ "role": role, "content": content });
        let system = arm.system.iter().map(|system| turn("system", system));
        let messages: Vec<_> = system.chain([turn("user", &request.prompt)]).collect();
        let mut body = self.settings.parameters.clone();
        let mut put = |name: &str, value: Value| drop(body.insert(name.into(), value));
        put("model", arm.model.as_str().into());
        put("messages", messages.into());
        put(self.longest, arm.max_completion_tokens.into());
        if let Some(temperature) = arm.temperature {
            put("temperature", if choice == Choice::Likeliest { 0.0 } else { temperature }.into());
        }
        if let Some(top_p) = self.settings.top_p {
            put("top_p", top_p.into());
        }
        if choices(request, choice) > 1 {
            put("n", request.rows.len().into());
        }
        let drawn = match choice {
            Choice::Likeliest => Value::Null,
            Choice::Random { seed, draw } => json!([seed, draw, request.rows[0]]),
        };
        let hash = Sha256::digest(json!([self.settings.teacher, body, drawn]).to_string());
        if self.settings.send_seed {
            // 31 bits: there are servers that take no more
            let seed = u32::from_le_bytes([hash[0], hash[1], hash[2], hash[3]]) >> 1;
            body.insert("seed".into(), seed.into());
        }
        (body.into(), hex::encode(hash))
    }

    /// The answers to all requests, in their order.
    async fn ask(&self, requests: &[Request], choice: Choice, stop: Stop<'_>) -> Result<Vec<Answer>, Error> {
        let mut found: Vec<Option<Answer>> = requests.iter().map(|_| None).collect();
        let mut waiting = vec![];
        for (at, request) in requests.iter().enumerate() {
            let (body, key) = self.body(request, choice);
            found[at] = self.answers.get(&key);
            if found[at].is_none() {
                waiting.push((at, body, key));
            }
        }
        if self.in_batches && choice != Choice::Likeliest && waiting.len() > 1 {
            if stop() {
                return Err(dpg_models::Error::Cancelled.into());
            }
            let waiting = waiting.into_iter().map(|(at, body, key)| (key, (at, body))).collect();
            for (at, answer) in self.ask_in_batches(requests, waiting, choice, stop).await? {
                found[at] = Some(answer);
            }
            return Ok(found.into_iter().flatten().collect());
        }
        let draw = if let Choice::Random { draw, .. } = choice { Some(draw) } else { None };
        let mut waiting = waiting.into_iter();
        let mut under_way = FuturesUnordered::new();
        let mut ended: Option<(Instant, Error)> =
            stop().then(|| (Instant::now(), dpg_models::Error::Cancelled.into()));
        self.client.close(ended.is_some());
        loop {
            while ended.is_none() && under_way.len() < self.concurrency {
                let Some((at, body, key)) = waiting.next() else { break };
                if let Err(error) = self.check_budget() {
                    ended = Some((Instant::now(), error));
                    break;
                }
                let request = &requests[at];
                under_way.push(async move {
                    let begun = Instant::now();
                    let told = self.client.ask(&body, choices(request, choice)).await?;
                    let seconds = begun.elapsed().as_secs_f64();
                    Ok::<_, Error>((at, self.answer(request, key, draw, told, seconds)))
                });
            }
            let overdue = ended.as_ref().is_some_and(|(at, _)| at.elapsed() > GRACE);
            if under_way.is_empty() || overdue {
                break;
            }
            let answered = tokio::select! {
                answered = under_way.next() => answered,
                () = sleep(LOOK) => None,
            };
            let kept = match answered {
                None => Ok(()),
                Some(Err(error)) => Err(error),
                Some(Ok((at, answer))) => {
                    found[at] = Some(answer.clone());
                    self.answers.put(answer)
                }
            };
            let told =
                kept.and_then(|()| if stop() { Err(dpg_models::Error::Cancelled.into()) } else { Ok(()) });
            if let (Err(error), None) = (told, &ended) {
                ended = Some((Instant::now(), error));
                self.client.close(true);
            }
        }
        match ended {
            Some((_, error)) => Err(error),
            None => Ok(found.into_iter().flatten().collect()),
        }
    }

    /// What is kept of what a server told.
    fn answer(&self, request: &Request, key: String, draw: Option<u64>, told: Told, seconds: f64) -> Answer {
        let mut choices = told.choices;
        for said in &mut choices {
            // an answer without any has an empty one: all rows have the same columns
            said.reasoning = self.settings.keep_reasoning.then(|| said.reasoning.take().unwrap_or_default());
        }
        let (teacher, model) = (self.settings.teacher.clone(), self.arms[request.arm].model.clone());
        Answer { key, teacher, draw, model, choices, usage: told.usage, seconds }
    }

    fn check_budget(&self) -> Result<(), Error> {
        let account = self.answers.account(None);
        if self.budget.tokens.is_some() && account.untold > 0 {
            let reason = "its server does not tell how many tokens an answer took, so that none can be counted; remove \
                          `tokens`";
            return Err(Error::setting("generator.budget.tokens", reason));
        }
        account.over(&self.budget, 0).map_or(Ok(()), |spent| Err(Error::Budget { spent }))
    }

    fn names(&self) -> Value {
        self.arms.iter().map(|arm| json!(arm.name)).collect()
    }
}

/// Choices that a request asks for.
fn choices(request: &Request, choice: Choice) -> usize {
    if choice == Choice::Likeliest { 1 } else { request.rows.len() }
}

impl Generator for Api {
    fn about(&self) -> About {
        let chance = |(arm, probability): (&Arm, f64)| Some(Chance { name: arm.name.clone()?, probability });
        let arms = self.arms.iter().zip(self.policy.probabilities()).filter_map(chance).collect();
        let learnt = if self.arms.len() > 1 { self.arms.len() } else { 0 };
        About { kind: "a teacher behind an API", parameters: Some(learnt), arms, classes: vec![] }
    }

    /// The row itself: what is put around it is the arm's.
    fn render(&self, row: &str) -> Result<String, Error> {
        Ok(row.into())
    }

    fn prompt(&self, text: String) -> Result<Prompt, Error> {
        Ok(Prompt::new(text, None))
    }

    fn draw(&self, prompts: &[Prompt], choice: Choice, stop: Stop) -> Result<Vec<Completion>, Error> {
        let requests = self.requests(prompts, choice);
        let answers = self.runtime.block_on(self.ask(&requests, choice, stop))?;
        let mut completions: Vec<Option<Completion>> = prompts.iter().map(|_| None).collect();
        for (request, answer) in requests.into_iter().zip(answers) {
            // of several choices nobody knows the tokens of each
            let alone = answer.usage.filter(|_| answer.choices.len() == 1);
            let tokens = alone.map(|usage| usage.completion.saturating_sub(usage.reasoning) as usize);
            for (place, row) in request.rows.into_iter().enumerate() {
                let said = &answer.choices[place.min(answer.choices.len() - 1)];
                let name = self.arms[request.arm].name.clone();
                let asked = Asked { arm: request.arm, name, prompt: request.prompt.clone(), tokens };
                completions[row] = Some(Completion {
                    text: said.text.clone(),
                    tokens: None,
                    log_probs: None,
                    stopped: said.stopped,
                    asked: Some(asked),
                    reasoning: said.reasoning.clone(),
                });
            }
        }
        Ok(completions.into_iter().flatten().collect())
    }

    fn passes(&self, completions: usize) -> usize {
        completions + 1
    }

    fn learn(&mut self, lesson: &Lesson) -> Result<UpdateStats, Error> {
        let draw = |rollout: &crate::Rollout| match &rollout.completion.asked {
            Some(asked) if asked.arm < self.arms.len() => Ok((asked.arm, rollout.advantage)),
            _ => Err(Error::Foreign { text: rollout.completion.text.clone() }),
        };
        let draws = lesson.rollouts.iter().map(draw).collect::<Result<Vec<_>, _>>()?;
        Ok(self.policy.learn(&draws, lesson.policy)?)
    }

    fn save(&self) -> Saved {
        let mut saved = Saved::default();
        arms::save(&self.policy, self.names(), "", &mut saved);
        saved
    }

    fn restore(&mut self, saved: &Saved) -> Result<(), Error> {
        self.policy = arms::read(saved, &self.names(), "", &self.policy)?;
        Ok(())
    }

    fn start_from(&mut self, saved: &Saved) -> Result<(), Error> {
        self.policy = arms::read_learnt(saved, &self.names(), "", &self.policy)?;
        Ok(())
    }

    fn export(&self, _: &Path) -> Result<(), Error> {
        Err(Error::NoExport)
    }

    fn account(&self, draw: Option<u64>) -> Option<Account> {
        Some(self.answers.account(draw))
    }

    fn affords(&self, completions: usize) -> bool {
        self.answers.account(None).over(&self.budget, completions).is_none()
    }
}
