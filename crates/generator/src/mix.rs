//! Several generators that write the rows of one dataset, teachers behind APIs and at most one model of this machine. Which
//! of them writes a row is drawn by their shares; each learns from its own rows.

use std::{panic::resume_unwind, path::Path, sync::Arc, thread};

use burn::tensor::Device;
use dpg_models::Frozen;
use dpg_spec::{MixGenerator, Policy};
use serde_json::{Map, Value};

use crate::{
    About, Account, Asked, Chance, Choice, Completion, Error, Generator, Lesson, Prompt, Rollout, Saved,
    Stop, UpdateStats, shares::Shares, teach, upon,
};

/// Before the names of what is saved of the shares.
const PREFIX: &str = "members_";
/// The purpose that keys which member writes.
const PURPOSE: u64 = u64::from_le_bytes(*b"members ");

/// Generators and their shares.
pub struct Mix {
    settings: MixGenerator,
    members: Vec<Box<dyn Generator>>,
    shares: Shares,
}

/// The rows of a draw that a member writes, and what it is asked for them.
struct Part {
    rows: Vec<usize>,
    prompts: Vec<Prompt>,
}

impl Mix {
    /// Loads each member; a model of this machine lies upon `frozen`, its weights, if they are in memory already.
    pub fn load(
        settings: MixGenerator,
        devices: &[Device],
        frozen: Option<&Arc<Frozen>>,
    ) -> Result<Self, Error> {
        let member = |member: &dpg_spec::Member| upon(&member.generator, devices, frozen.cloned());
        let members = settings.members.iter().map(member).collect::<Result<Vec<_>, _>>()?;
        let shares =
            if settings.learn { Shares::uniform(members.len()) } else { Shares::Fixed(settings.shares()) };
        Ok(Self { settings, members, shares })
    }

    fn names(&self) -> Value {
        self.settings.members.iter().map(|member| Value::from(member.name.as_str())).collect()
    }

    /// The number of each member's first arm; one without arms counts as one.
    fn first_arms(&self) -> Vec<usize> {
        let arms = self.members.iter().map(|member| member.about().arms.len().max(1));
        let firsts = arms.scan(0, |end, arms| {
            *end += arms;
            Some(*end - arms)
        });
        firsts.collect()
    }

    /// What a member is asked for a row of the prompts.
    fn asked(&self, member: usize, row: &str) -> Result<Prompt, Error> {
        let member = &self.members[member];
        member.prompt(member.render(row)?)
    }

    /// What each member writes of a draw.
    fn parts(&self, prompts: &[Prompt], choice: Choice) -> Result<Vec<Part>, Error> {
        let mut parts: Vec<Part> =
            self.members.iter().map(|_| Part { rows: vec![], prompts: vec![] }).collect();
        for (row, prompt) in prompts.iter().enumerate() {
            let member = self.shares.pick(choice, row, PURPOSE);
            parts[member].prompts.push(self.asked(member, &prompt.text)?);
            parts[member].rows.push(row);
        }
        Ok(parts)
    }

    /// Members with their numbers, a model of this machine last: what it loads is not loaded in vain.
    fn in_turn(&self) -> Vec<usize> {
        let mut numbers: Vec<_> = (0..self.members.len()).collect();
        numbers.sort_by_key(|&number| self.settings.members[number].generator.local().is_some());
        numbers
    }

    /// Hands each member its part of what was saved; if one refuses, all are as they were.
    fn hand_out(
        &mut self,
        saved: &Saved,
        hand: fn(&mut dyn Generator, &Saved) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let mut done: Vec<(usize, Saved)> = vec![];
        for number in self.in_turn() {
            let part = part(saved, &self.settings.members[number].name);
            let is_last = done.len() + 1 == self.members.len();
            let before = if is_last { Saved::default() } else { self.members[number].save() };
            if let Err(error) = hand(self.members[number].as_mut(), &part) {
                for (number, before) in done {
                    self.members[number].restore(&before)?;
                }
                return Err(error);
            }
            done.push((number, before));
        }
        Ok(())
    }
}

/// How a member's part of what is saved is named.
fn prefix(member: &str) -> String {
    format!("{member}/")
}

/// A member's part of what was saved.
fn part(saved: &Saved, member: &str) -> Saved {
    let prefix = prefix(member);
    let vectors = saved.vectors.iter().filter_map(|(name, values)| {
        name.strip_prefix(&prefix).map(|name| (name.to_owned(), values.clone()))
    });
    let facts = saved
        .facts
        .iter()
        .filter_map(|(name, value)| name.strip_prefix(&prefix).map(|name| (name.to_owned(), value.clone())));
    Saved { vectors: vectors.collect(), facts: facts.collect::<Map<_, _>>() }
}

impl Generator for Mix {
    fn about(&self) -> About {
        let (mut arms, mut parameters) = (vec![], Some(self.shares.parameters()));
        for ((settings, member), share) in
            self.settings.members.iter().zip(&self.members).zip(self.shares.probabilities())
        {
            let about = member.about();
            parameters = parameters.zip(about.parameters).map(|(a, b)| a + b);
            if about.arms.is_empty() {
                arms.push(Chance { name: settings.name.clone(), probability: share });
            }
            arms.extend(about.arms.into_iter().map(|Chance { name, probability }| Chance {
                name: settings.arm(&name),
                probability: share * probability,
            }));
        }
        About { kind: "several generators", parameters, arms, classes: vec![] }
    }

    /// The row itself: what is put around it is the member's.
    fn render(&self, row: &str) -> Result<String, Error> {
        Ok(row.into())
    }

    /// Its tokens are those of the member that asks with the most.
    fn prompt(&self, text: String) -> Result<Prompt, Error> {
        let asked = (0..self.members.len()).map(|member| self.asked(member, &text));
        let asked = asked.collect::<Result<Vec<_>, _>>()?;
        let tokens = asked.into_iter().filter_map(|prompt| prompt.tokens).max_by_key(Vec::len);
        Ok(Prompt::new(text, tokens))
    }

    /// Members write side by side: a model of this machine need not wait for a teacher.
    fn draw(&self, prompts: &[Prompt], choice: Choice, stop: Stop) -> Result<Vec<Completion>, Error> {
        if stop() {
            return Err(dpg_models::Error::Cancelled.into());
        }
        let parts = self.parts(prompts, choice)?;
        let drawn: Vec<Result<Vec<Completion>, Error>> = thread::scope(|scope| {
            let begun =
                self.members.iter().zip(&parts).map(|(member, Part { prompts, .. })| {
                    scope.spawn(move || {
                        if prompts.is_empty() { Ok(vec![]) } else { member.draw(prompts, choice, stop) }
                    })
                });
            let begun: Vec<_> = begun.collect();
            let ended = begun.into_iter().map(thread::ScopedJoinHandle::join);
            ended.map(|drawn| drawn.unwrap_or_else(|panic| resume_unwind(panic))).collect()
        });
        let mut teachers = self.settings.members.iter().flat_map(|member| member.generator.teachers());
        let keeps_reasoning = teachers.any(|teacher| teacher.keep_reasoning);
        let mut completions: Vec<Option<Completion>> = prompts.iter().map(|_| None).collect();
        for (((drawn, part), first), settings) in
            drawn.into_iter().zip(parts).zip(self.first_arms()).zip(&self.settings.members)
        {
            for ((row, prompt), completion) in part.rows.into_iter().zip(part.prompts).zip(drawn?) {
                let tokens = completion.length();
                let asked = match completion.asked {
                    Some(Asked { arm, name, prompt, .. }) => {
                        let name = name.map_or_else(|| settings.name.clone(), |name| settings.arm(&name));
                        Asked { arm: first + arm, name: Some(name), prompt, tokens }
                    }
                    None => {
                        Asked { arm: first, name: Some(settings.name.clone()), prompt: prompt.text, tokens }
                    }
                };
                // all rows of a dataset have the same columns
                let reasoning = completion.reasoning.or_else(|| keeps_reasoning.then(String::new));
                completions[row] = Some(Completion { asked: Some(asked), reasoning, ..completion });
            }
        }
        Ok(completions.into_iter().flatten().collect())
    }

    fn passes(&self, completions: usize) -> usize {
        1 + self.members.iter().map(|member| member.passes(completions)).sum::<usize>()
    }

    fn learn(&mut self, lesson: &Lesson) -> Result<UpdateStats, Error> {
        let firsts = self.first_arms();
        let all = self.about().arms.len();
        let mut rollouts: Vec<Vec<Rollout>> = self.members.iter().map(|_| vec![]).collect();
        let mut draws = vec![];
        for Rollout { prompt, completion, advantage } in lesson.rollouts {
            let mut completion = completion.clone();
            let asked = completion.asked.as_mut().filter(|asked| asked.arm < all);
            let asked = asked.ok_or_else(|| Error::Foreign { text: completion.text.clone() })?;
            let member = firsts.partition_point(|first| *first <= asked.arm) - 1;
            (asked.arm, asked.name) = (asked.arm - firsts[member], None);
            draws.push((member, *advantage));
            let prompt = self.asked(member, &prompt.text)?;
            rollouts[member].push(Rollout { prompt, completion, advantage: *advantage });
        }
        // a few logits take larger steps than weights
        let learning_rate = self.settings.learning_rate.unwrap_or(lesson.policy.learning_rate);
        let of_choices = Policy { learning_rate, ..lesson.policy.clone() };
        let mut told = None;
        for number in self.in_turn() {
            let member = &mut self.members[number];
            if rollouts[number].is_empty() {
                continue;
            }
            let is_local = self.settings.members[number].generator.local().is_some();
            let policy = if is_local { lesson.policy } else { &of_choices };
            let lesson = Lesson { rollouts: &rollouts[number], policy, ..*lesson };
            told = teach(member.as_mut(), &lesson)?.or(told);
        }
        // the last is the model of this machine, if there is one
        let of_shares = self.shares.learn(&draws, &of_choices)?;
        let is_local = self.settings.members.iter().any(|member| member.generator.local().is_some());
        let told = if is_local { told.or(of_shares) } else { of_shares.or(told) };
        Ok(told.unwrap_or_default())
    }

    fn save(&self) -> Saved {
        let mut saved = Saved::default();
        for (settings, member) in self.settings.members.iter().zip(&self.members) {
            let prefix = prefix(&settings.name);
            let Saved { vectors, facts } = member.save();
            saved.vectors.extend(vectors.into_iter().map(|(name, values)| (prefix.clone() + &name, values)));
            saved.facts.extend(facts.into_iter().map(|(name, value)| (prefix.clone() + &name, value)));
        }
        self.shares.save(self.names(), PREFIX, &mut saved);
        saved
    }

    fn restore(&mut self, saved: &Saved) -> Result<(), Error> {
        let shares = self.shares.read(saved, &self.names(), PREFIX)?;
        self.hand_out(saved, |member, part| member.restore(part))?;
        self.shares = shares;
        Ok(())
    }

    fn start_from(&mut self, saved: &Saved) -> Result<(), Error> {
        let shares = self.shares.read_learnt(saved, &self.names(), PREFIX)?;
        self.hand_out(saved, |member, part| member.start_from(part))?;
        self.shares = shares;
        Ok(())
    }

    /// The model of this machine.
    fn export(&self, folder: &Path) -> Result<(), Error> {
        let mut members = self.settings.members.iter().zip(&self.members);
        let local = members.find(|(settings, _)| settings.generator.local().is_some());
        local.ok_or(Error::NoExport)?.1.export(folder)
    }

    fn account(&self, draw: Option<u64>) -> Option<Account> {
        let accounts = self.members.iter().filter_map(|member| member.account(draw));
        accounts.reduce(|mut all, one| {
            all += one;
            all
        })
    }

    fn accounts(&self) -> Vec<(String, Account)> {
        let members = self.settings.members.iter().zip(&self.members);
        members
            .filter_map(|(settings, member)| Some((settings.name.clone(), member.account(None)?)))
            .collect()
    }

    fn affords(&self, completions: usize) -> bool {
        let part = |share: f64| (completions as f64 * share).ceil() as usize;
        self.members
            .iter()
            .zip(self.shares.probabilities())
            .all(|(member, share)| member.affords(part(share)))
    }
}
