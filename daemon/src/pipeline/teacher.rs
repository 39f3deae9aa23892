//! What there is to tell of who was asked what: how often which arm was asked, of a teacher behind an API or of a class of
//! prompts, and what all that cost.

use dpg_dataset::markdown::escaped;
use dpg_engine::{Account, ArmRecord, Outcome};
use dpg_spec::{ApiGenerator, Arm, Generator, Length, Member, Spec};
use serde::Serialize;

use crate::pipeline::verification;

/// What was asked in a run, if there is anything to tell of it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Teaching {
    /// The arms in the dataset; none if there are none.
    pub(crate) arms: Vec<ArmRecord>,
    /// The probability of each before anything was learnt.
    pub(crate) before: Vec<f64>,
    /// What all answers of teachers took, if there are teachers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) account: Option<Account>,
    /// What those of each member of a mix took.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) members: Vec<(String, Account)>,
}

impl Teaching {
    /// Of what a run came to; what was spent is moved out of it.
    pub(crate) fn of(outcome: &mut Outcome, spec: &Spec) -> Option<Self> {
        let (account, members) = (outcome.account.take(), std::mem::take(&mut outcome.accounts));
        // classes of lengths are told below a heading of their own
        let is_told = spec.output.length.as_ref().is_some_and(Length::is_told);
        let arms = if is_told { vec![] } else { outcome.arms.clone() };
        // those of the first step were drawn before it was learnt from
        let first = outcome.history.steps.first().map_or(&arms, |step| &step.arms);
        let before = first.iter().map(|arm| arm.probability).collect();
        (account.is_some() || !arms.is_empty()).then_some(Self { arms, before, account, members })
    }

    /// For the dataset's card.
    pub(crate) fn markdown(&self, generator: &Generator) -> String {
        let mut text = String::new();
        if !self.arms.is_empty() {
            text += "What was learnt is how often to ask in which way. Mean rewards are those of the arm's rows in what was \
                     drawn for this data.\n\n| arm | probability before | after | rows | mean reward |\n|---|--:|--:|--:|--:|\n";
            for (ArmRecord { name, probability, rows, reward }, before) in self.arms.iter().zip(&self.before)
            {
                let (name, reward) =
                    (escaped(name), reward.map_or(String::new(), |reward| format!("{reward:.3e}")));
                text += &format!("| {name} | {before:.3} | {probability:.3} | {rows} | {reward} |\n");
            }
            text += "\n";
            text += &(ways(generator) + "\n");
        }
        text += &self.account.as_ref().map_or(String::new(), |of_all| format!("{}.\n", account(of_all)));
        for (name, of_member) in &self.members {
            text += &format!("\n{}: {}.\n", escaped(name), account(of_member));
        }
        text
    }
}

/// What each arm is, a line each.
fn ways(generator: &Generator) -> String {
    let line = |name: &str, told: &str| format!("- {}: {told}\n", escaped(name));
    match generator {
        Generator::Api(api) => api
            .arms()
            .into_iter()
            .map(|arm| line(arm.name.as_deref().unwrap_or_default(), &asked(&arm)))
            .collect(),
        Generator::Mix(mix) => {
            let of_member = |member: &Member| match &member.generator {
                Generator::Api(api) => {
                    let name = |arm: &Arm| match &arm.name {
                        Some(arm) => member.arm(arm),
                        None => member.name.clone(),
                    };
                    api.arms().iter().map(|arm| line(&name(arm), &asked(arm))).collect()
                }
                other => line(&member.name, &escaped(&other.named())),
            };
            mix.members.iter().map(of_member).collect::<String>()
        }
        Generator::Local(_) | Generator::Rubric(_) => String::new(),
    }
}

/// How an arm is asked.
fn asked(arm: &Arm) -> String {
    let Arm { model, template, system, temperature, max_completion_tokens, .. } = arm;
    let temperature = temperature.map_or(String::new(), |at| format!(" at temperature {at}"));
    let system =
        system.as_ref().map_or(String::new(), |system| format!(" after the system's `{}`", short(system)));
    format!(
        "{}{temperature}, at most {max_completion_tokens} tokens, asked `{}`{system}",
        escaped(model),
        short(template)
    )
}

/// The beginning of a template, in one line of code.
fn short(text: &str) -> String {
    const SHOWN: usize = 200;
    let line: String =
        text.chars().take(SHOWN).map(|c| if c.is_control() || c == '`' { ' ' } else { c }).collect();
    if text.chars().nth(SHOWN).is_some() { format!("{line}...") } else { line }
}

/// An account in words.
pub(crate) fn account(account: &Account) -> String {
    let Account {
        requests, answers, prompt_tokens, cached_tokens, completion_tokens, reasoning_tokens, ..
    } = account;
    let mut text = format!(
        "{requests} requests for {answers} answers: {prompt_tokens} tokens of prompts ({cached_tokens} cached), \
         {completion_tokens} of answers ({reasoning_tokens} reasoning), {:.0} s",
        account.seconds
    );
    if account.untold > 0 {
        text += &format!(", and what the server did not tell of {} requests", account.untold);
    }
    match account.money {
        Some(money) => text + &format!(", {money:.4} in money"),
        None => text + ", at a price that is not known",
    }
}

/// What a run would ask of a teacher at most.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Estimate {
    answers: usize,
    /// In the target's tokens: nobody knows the teacher's.
    prompt_tokens: f64,
    completion_tokens: f64,
    money: Option<f64>,
}

impl Estimate {
    /// Of a spec whose prompts are so long on average; `None` if it has no teacher. Whatever is learnt, each answer is
    /// taken to be as long and as dear as any may be.
    pub(crate) fn of(spec: &Spec, prompt: f64) -> Option<Self> {
        let generator = spec.generator.as_ref()?;
        let teachers = generator.teachers();
        if teachers.is_empty() {
            return None;
        }
        let (policy, output) = (&spec.policy, &spec.output);
        let tried = output.publish_if.map_or(0, |_| verification::ORDERS * output.examples);
        let answers = policy.steps * policy.rollouts()
            + policy.validations() * (policy.validated() + 1)
            + spec.dataset_rollouts() * output.draws()
            + tried;
        // those of a model on this machine cost nothing
        let answers = match generator {
            Generator::Mix(mix) if !mix.learn => {
                let shares = mix.members.iter().zip(mix.shares());
                let taught = shares.filter(|(member, _)| !member.generator.teachers().is_empty());
                (answers as f64 * taught.map(|(_, share)| share).sum::<f64>()).ceil() as usize
            }
            _ => answers,
        };
        let longest = teachers.iter().map(|api| api.longest()).max().unwrap_or_default();
        let (prompt_tokens, completion_tokens) = (answers as f64 * prompt, (answers * longest) as f64);
        let price = |(api, arm): (&ApiGenerator, Arm)| {
            let price = api.connection.as_ref()?.teacher.prices.get(&arm.model)?;
            Some(price.of(prompt_tokens, 0.0, (answers * arm.max_completion_tokens) as f64))
        };
        let arms = teachers.iter().flat_map(|api| api.arms().into_iter().map(move |arm| (*api, arm)));
        let money = arms.map(price).collect::<Option<Vec<_>>>();
        let money = money.map(|each| each.into_iter().fold(0.0, f64::max));
        Some(Self { answers, prompt_tokens, completion_tokens, money })
    }

    /// In a line.
    pub(crate) fn line(&self) -> String {
        let Self { answers, prompt_tokens, completion_tokens, money } = self;
        let money = money.map_or(", at a price that is not known".into(), |money| {
            format!(": at most {money:.2} in money")
        });
        format!(
            "{answers} answers of at most {completion_tokens:.0} tokens, and about {prompt_tokens:.0} of prompts by the \
             target's tokenizer{money}; the time they take is not known"
        )
    }
}
