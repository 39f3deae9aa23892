//! What writes the examples of a run.
//!
//! A [`Generator`] is handed prompts, gives completions, and is told afterwards how good each was. The engine
//! knows no more of it than that: how a prompt is put into words, what is drawn to answer it, and what learning
//! changes are the generator's own. [`Local`] is a language model on this machine whose weights, or whose LoRA
//! adapters, are trained; [`Api`] is a frozen teacher behind an API, of which is trained which of its arms is asked;
//! [`Rubric`] is a local model that is trained to instruct a teacher; [`Mix`] is several of these. [`Classes`] asks any of
//! them for rows of several lengths, and [`ByClass`] learns which prompts any of them is asked.
//!
//! ```no_run
//! use burn::tensor::Device;
//! use dpg_generator::{Choice, from_spec};
//!
//! let settings = dpg_spec::Spec::load("spec.toml".as_ref())?.generator()?.clone();
//! let generator = from_spec(&settings, &[Device::flex()])?;
//! let prompt = generator.prompt(generator.render("The cat sat on the mat.")?)?;
//! let drawn = generator.draw(&[prompt], Choice::Random { seed: 0, draw: 0 }, &|| false)?;
//! println!("{}", drawn[0].text);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod account;
mod api;
mod arms;
mod by_class;
mod classes;
mod error;
mod local;
mod mix;
mod rubric;
mod shares;

use std::{path::Path, sync::Arc};

use burn::tensor::Device;
use dpg_models::Frozen;
use dpg_spec as spec;
use serde_json::{Map, Value};

pub use account::Account;
pub use api::{ANSWERS_FILE, Api, Chance};
pub use by_class::ByClass;
pub use classes::Classes;
pub use dpg_policy::UpdateStats;
pub use error::Error;
pub use local::Local;
pub use mix::Mix;
pub use rubric::Rubric;

/// Asked often; true ends what is being done.
pub type Stop<'a> = &'a (dyn Fn() -> bool + Sync);

/// What writes the examples of a run.
///
/// # Contract
/// What is drawn depends on the prompts, on the [`Choice`] and on what was learnt, and on nothing else. A
/// generator that restores what another of the same settings saved goes on as that one would have, to the last
/// bit on a CPU. `tests/generators/main.rs` holds every kind to this.
pub trait Generator: Send + Sync {
    /// What there is to tell of it.
    fn about(&self) -> About;

    /// A row of the prompts' file as the generator reads it.
    fn render(&self, row: &str) -> Result<String, Error>;

    /// A prompt whose text is as the generator reads it; an error if that cannot be asked.
    fn prompt(&self, text: String) -> Result<Prompt, Error>;

    /// One completion for each prompt. Of equal prompts each is answered anew.
    ///
    /// # Errors
    /// [`Error::is_cancelled`] if `stop` says so.
    fn draw(&self, prompts: &[Prompt], choice: Choice, stop: Stop) -> Result<Vec<Completion>, Error>;

    /// How often a draw of so many completions asks whether to stop, at most, unless it has to wait for somebody.
    fn passes(&self, completions: usize) -> usize;

    /// Makes completions with a positive advantage likelier, others rarer. After an error it has to be restored.
    fn learn(&mut self, lesson: &Lesson) -> Result<UpdateStats, Error>;

    /// All that learning has changed.
    fn save(&self) -> Saved;

    /// Goes on from what a generator of the same settings saved. After an error it is as before.
    fn restore(&mut self, saved: &Saved) -> Result<(), Error>;

    /// Starts a run of its own from what a generator saved at the end of an earlier one: it writes as that one
    /// did, and whatever only serves to go on with that run is left behind.
    fn start_from(&mut self, saved: &Saved) -> Result<(), Error>;

    /// Writes it to a folder, from which [`Local::load_exported`] or others load what it is now: a model as transformers
    /// loads it, or adapters as peft does.
    ///
    /// # Errors
    /// [`Error::NoExport`] if it is not on this machine.
    fn export(&self, folder: &Path) -> Result<(), Error>;

    /// What the completions of the draw of this number cost, or all that were ever drawn for the run; `None` if nobody
    /// counts.
    fn account(&self, _draw: Option<u64>) -> Option<Account> {
        None
    }

    /// The same of each of its parts that counts, by name, if it has parts.
    fn accounts(&self) -> Vec<(String, Account)> {
        vec![]
    }

    /// Whether its budget has room for so many completions more, as far as can be told from those before.
    fn affords(&self, _completions: usize) -> bool {
        true
    }
}

/// What there is to tell of a generator.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct About {
    /// What it is, in a few words.
    pub kind: &'static str,
    /// How many numbers learning changes, where that is known.
    pub parameters: Option<usize>,
    /// Its arms, each with its probability; none if it has none.
    pub arms: Vec<Chance>,
    /// The classes of prompts, each with how often it is to be asked of; none if all prompts are asked alike.
    pub classes: Vec<Chance>,
}

/// What a generator is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prompt {
    /// As the generator reads it.
    pub text: String,
    /// Its tokens, where the generator knows them.
    pub tokens: Option<Vec<u32>>,
    /// The row of the prompts' file that it was made of; empty if it was made of none.
    pub row: String,
    /// The class of that row, if prompts have classes.
    pub class: Option<String>,
}

impl Prompt {
    /// One that was made of no row.
    pub(crate) fn new(text: String, tokens: Option<Vec<u32>>) -> Self {
        Self { text, tokens, row: String::new(), class: None }
    }
}

/// What a generator answered.
#[derive(Clone, Debug, PartialEq)]
pub struct Completion {
    /// What it says.
    pub text: String,
    /// What was drawn to say it, where the generator knows.
    pub tokens: Option<Vec<u32>>,
    /// Log-probability of each under the distribution it was drawn from, where the generator knows.
    pub log_probs: Option<Vec<f64>>,
    /// It ended by itself rather than at the largest length.
    pub stopped: bool,
    /// How it was asked for, where the generator chose that.
    pub asked: Option<Asked>,
    /// What was thought before it, if that is kept.
    pub reasoning: Option<String>,
}

impl Completion {
    /// Tokens of its text, where somebody counted them.
    pub fn length(&self) -> Option<usize> {
        match &self.asked {
            Some(asked) => asked.tokens,
            None => self.tokens.as_ref().map(Vec::len),
        }
    }
}

/// How a generator chose to ask for a completion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Its number among the generator's arms.
    pub arm: usize,
    /// The arm's name, if the generator has several.
    pub name: Option<String>,
    /// What was asked: of a teacher, the user's turn.
    pub prompt: String,
    /// Tokens of the answer, as a teacher's server counted them.
    pub tokens: Option<usize>,
}

/// How a completion is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// At random. The same numbers choose the same.
    Random {
        /// The run's seed.
        seed: u64,
        /// Number of the draw within the run.
        draw: u64,
    },
    /// The likeliest, token by token.
    Likeliest,
}

/// What a generator learns from.
#[derive(Clone, Copy, Debug)]
pub struct Lesson<'a> {
    /// What it wrote and how good that was, group after group.
    pub rollouts: &'a [Rollout],
    /// All prompts of the run: passes are sized for the longest, so that no result depends on which were drawn.
    pub prompts: &'a [Prompt],
    /// How to learn.
    pub policy: &'a spec::Policy,
}

/// A prompt's completion with its advantage.
#[derive(Clone, Debug, PartialEq)]
pub struct Rollout {
    /// What was asked.
    pub prompt: Prompt,
    /// What was answered.
    pub completion: Completion,
    /// How much better than others that was.
    pub advantage: f64,
}

/// What a generator saved.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Saved {
    /// Vectors of numbers by name.
    pub vectors: Vec<(String, Vec<f32>)>,
    /// Everything else. The names `step` and `history` are the engine's.
    pub facts: Map<String, Value>,
}

/// Lets a generator inside of another learn, unless there is nothing that it could.
pub(crate) fn teach(inner: &mut dyn Generator, lesson: &Lesson) -> Result<Option<UpdateStats>, Error> {
    (inner.about().parameters != Some(0)).then(|| inner.learn(lesson)).transpose()
}

/// The generator that a spec describes, its model a local folder, on one device or several that share its work.
pub fn from_spec(settings: &spec::Generator, devices: &[Device]) -> Result<Box<dyn Generator>, Error> {
    upon(settings, devices, None)
}

/// The same where the frozen weights of the model are in memory already, if its adapters alone are trained.
pub fn upon(
    settings: &spec::Generator,
    devices: &[Device],
    frozen: Option<Arc<Frozen>>,
) -> Result<Box<dyn Generator>, Error> {
    Ok(match settings {
        spec::Generator::Local(local) => Box::new(Local::load(local.clone(), devices, frozen)?),
        spec::Generator::Api(api) => Box::new(Api::new(api.clone())?),
        spec::Generator::Rubric(rubric) => Box::new(Rubric::load(rubric.clone(), devices, frozen)?),
        spec::Generator::Mix(mix) => Box::new(Mix::load(mix.clone(), devices, frozen.as_ref())?),
    })
}
