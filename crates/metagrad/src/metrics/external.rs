//! What a program measures: `Phi` and its gradient come from a process of the operator's, which reads theta from a
//! Hugging Face folder. deploy/python/README.md has what the two say to each other.

use std::{
    collections::BTreeMap,
    error::Error as StdError,
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use burn::tensor::{DType, Element, Tensor, TensorData};
use dpg_models::{CausalLm, StoredType, export, weights};
use dpg_spec as spec;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tempfile::TempDir;

use super::{Context, Making, Metric, Score, program::Program};
use crate::Error;

/// The version of what is said.
const PROTOCOL: u32 = 1;
/// Most proxies of a program, and most characters of a proxy's name and of a version.
const PROXIES: usize = 64;
const NAME: usize = 64;
const VERSION: usize = 200;
/// The gradient's file, beside the weights.
const GRADIENT: &str = "gradient.safetensors";
const WEIGHTS: &str = "model.safetensors";

/// The metric `external`.
#[derive(Clone)]
pub struct External {
    measured_by: Arc<MeasuredBy>,
    parameters: Map<String, Value>,
}

/// A program with all that it is told.
struct MeasuredBy {
    name: String,
    command: String,
    files: BTreeMap<String, String>,
    timeout_seconds: u64,
    lm: Arc<dyn CausalLm>,
    /// The folder of the target, whose config and tokenizer it gets.
    target: PathBuf,
    /// The program, once it is asked. One that failed is started anew.
    running: Mutex<Option<Running>>,
    /// What it called its version first, and its proxies.
    version: OnceLock<String>,
    proxies: OnceLock<Vec<String>>,
}

/// A program at work. It goes before its folder.
struct Running {
    program: Program,
    folder: TempDir,
    asked: u64,
}

/// What a program is told at first.
#[derive(Serialize)]
struct Greeting<'a> {
    dpg: u32,
    folder: &'a Path,
    dtype: &'a str,
    files: &'a BTreeMap<String, String>,
}

/// What it says to that.
#[derive(Deserialize)]
struct Greeted {
    dpg: u32,
    #[serde(default)]
    version: String,
}

/// What it is asked.
#[derive(Serialize)]
struct Question<'a> {
    id: u64,
    weights: &'a Path,
    /// Where the gradient goes, if one is asked for.
    gradient: Option<&'a Path>,
    parameters: &'a Map<String, Value>,
}

/// Its answer: a value, or why there is none.
#[derive(Deserialize)]
struct Answer {
    id: u64,
    value: Option<f64>,
    #[serde(default)]
    proxies: Map<String, Value>,
    error: Option<String>,
}

/// Notes what the program is to be told; it is started when it is asked.
pub(super) fn make<E: From<Error>>(
    settings: &spec::External,
    making: &Making<E>,
) -> Result<Arc<dyn Metric>, E> {
    let Some(command) = settings.command.clone() else {
        let reason = format!(
            "there is no program `{0}` here; give its command: `--program {0}=COMMAND`, or `{0} = \"COMMAND\"` below \
             `[allow.programs]` in the settings",
            settings.program
        );
        return Err(Error::Metric { field: "program", reason }.into());
    };
    let measured_by = MeasuredBy {
        name: settings.program.clone(),
        command,
        files: settings.files.clone(),
        timeout_seconds: settings.timeout_seconds,
        lm: Arc::clone(making.lm),
        target: making.sources.folder().into(),
        running: Mutex::default(),
        version: OnceLock::new(),
        proxies: OnceLock::new(),
    };
    let parameters = settings.parameters.clone();
    // the program sees the whole model, and may look at any of its weights
    making.of_weights(|theta| {
        let all = std::iter::once(0..theta.dims()[0]).collect();
        Ok((all, External { measured_by: Arc::new(measured_by), parameters }))
    })
}

impl MeasuredBy {
    /// The score of weights `theta [n]`, and the gradient `[n]` if it is asked for.
    fn measure<E: Number>(
        &self,
        theta: &Tensor<1>,
        parameters: &Map<String, Value>,
        with_gradient: bool,
        context: Context,
    ) -> Result<(Score, Option<Vec<E>>), Error> {
        context.go_on()?;
        let theta: Vec<E> = theta.to_data().iter::<E>().collect();
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let measured = self.ask(&mut running, &theta, parameters, with_gradient, context);
        if measured.is_err() {
            // whatever state it is in, it is not asked again
            *running = None;
        }
        measured
    }

    fn ask<E: Number>(
        &self,
        running: &mut Option<Running>,
        theta: &[E],
        parameters: &Map<String, Value>,
        with_gradient: bool,
        context: Context,
    ) -> Result<(Score, Option<Vec<E>>), Error> {
        let Running { program, folder, asked } = match running {
            Some(running) => {
                weights::save(running.folder.path(), self.lm.layout().model(), theta, E::STORED)?;
                running
            }
            None => running.insert(self.start(theta, context)?),
        };
        *asked += 1;
        let (id, file) = (*asked, folder.path().join(GRADIENT));
        let gradient = with_gradient.then_some(file.as_path());
        let weights = &folder.path().join(WEIGHTS);
        let question = Question { id, weights, gradient, parameters };
        let answer: Answer = program.ask(&question, self.timeout_seconds, context)?;
        let score = self.score_of(id, answer).map_err(|reason| program.answered(reason))?;
        if !with_gradient {
            return Ok((score, None));
        }
        let read = weights::load_some(&file, self.lm.layout().model());
        let gradient = read
            .map_err(|error| program.answered(format!("its gradient is not one: {}", with_causes(&error))))?;
        // of the next one nothing may be left of this
        let removed = fs::remove_file(&file);
        removed.map_err(|error| program.answered(format!("its gradient cannot be removed: {error}")))?;
        Ok((score, Some(gradient)))
    }

    /// Starts the program with a folder of the model.
    fn start<E: Number>(&self, theta: &[E], context: Context) -> Result<Running, Error> {
        let folder = tempfile::Builder::new().prefix("external-").tempdir_in(context.scratch);
        let folder = folder.map_err(|source| Error::Handing {
            program: self.name.clone(),
            scratch: context.scratch.into(),
            source,
        })?;
        export(&self.target, folder.path(), self.lm.layout().model(), theta, E::STORED)?;
        let mut program = Program::start(&self.name, &self.command, folder.path())?;
        let greeting = Greeting { dpg: PROTOCOL, folder: folder.path(), dtype: E::NAME, files: &self.files };
        let Greeted { dpg, version } = program.ask(&greeting, self.timeout_seconds, context)?;
        if dpg != PROTOCOL {
            let reason = format!("it speaks version {dpg} of the protocol; expected {PROTOCOL}");
            return Err(program.answered(reason));
        }
        self.version.get_or_init(|| version.chars().take(VERSION).collect());
        Ok(Running { program, folder, asked: 0 })
    }

    /// The score that an answer tells, or what is wrong with it.
    fn score_of(&self, id: u64, answer: Answer) -> Result<Score, String> {
        let Answer { id: answered, value, proxies, error } = answer;
        if answered != id {
            return Err(format!("it answered question {answered} where {id} was asked"));
        }
        let value = match (value, error) {
            (_, Some(error)) => return Err(format!("it says: {error}")),
            (None, None) => return Err("its answer has neither `value` nor `error`".into()),
            (Some(value), None) => value,
        };
        if proxies.len() > PROXIES {
            return Err(format!("it names {} proxies, more than the limit of {PROXIES}", proxies.len()));
        }
        let is_name = |name: &str| {
            let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
            (1..=NAME).contains(&name.len()) && name.bytes().all(allowed)
        };
        let proxy = |(name, value): (String, Value)| match value.as_f64() {
            Some(value) if is_name(&name) => Ok((name, value)),
            Some(_) => {
                Err(format!("it names a proxy `{name}`; expected 1 to {NAME} of letters, digits and `_`"))
            }
            None => Err(format!("its proxy `{name}` is `{value}`; expected a number")),
        };
        let proxies: Vec<(String, f64)> = proxies.into_iter().map(proxy).collect::<Result<_, _>>()?;
        let names: Vec<String> = proxies.iter().map(|(name, _)| name.clone()).collect();
        let first = self.proxies.get_or_init(|| names.clone());
        if *first != names {
            return Err(format!("it names the proxies {names:?}, and before it named {first:?}"));
        }
        Ok(Score { value, proxies })
    }
}

fn with_causes(error: &dyn StdError) -> String {
    let cause = error.source().map(|cause| format!(": {}", with_causes(cause)));
    format!("{error}{}", cause.unwrap_or_default())
}

/// The types that weights have.
trait Number: Element {
    const STORED: StoredType;
    const NAME: &str;
}

impl Number for f32 {
    const STORED: StoredType = StoredType::F32;
    const NAME: &str = "float32";
}

impl Number for f64 {
    const STORED: StoredType = StoredType::F64;
    const NAME: &str = "float64";
}

impl External {
    fn measure<E: Number>(
        &self,
        theta: &Tensor<1>,
        with_gradient: bool,
        context: Context,
    ) -> Result<(Score, Option<Tensor<1>>), Error> {
        let (score, gradient) =
            self.measured_by.measure::<E>(theta, &self.parameters, with_gradient, context)?;
        let on_device = |gradient: Vec<E>| {
            let data = TensorData::new(gradient, theta.dims());
            Tensor::from_data(data, (&theta.device(), theta.dtype()))
        };
        Ok((score, gradient.map(on_device)))
    }

    fn of_type(
        &self,
        theta: &Tensor<1>,
        with_gradient: bool,
        context: Context,
    ) -> Result<(Score, Option<Tensor<1>>), Error> {
        match theta.dtype() {
            DType::F64 => self.measure::<f64>(theta, with_gradient, context),
            _ => self.measure::<f32>(theta, with_gradient, context),
        }
    }
}

impl Metric for External {
    fn score(&self, theta: &Tensor<1>, context: Context) -> Result<Score, Error> {
        Ok(self.of_type(theta, false, context)?.0)
    }

    fn score_and_gradient(&self, theta: &Tensor<1>, context: Context) -> Result<(Score, Tensor<1>), Error> {
        let (score, gradient) = self.of_type(theta, true, context)?;
        Ok((score, gradient.expect("a gradient was asked for")))
    }

    fn with_numbers(&self, settings: &spec::Metric) -> Arc<dyn Metric> {
        let parameters = match settings {
            spec::Metric::External(settings) => settings.parameters.clone(),
            _ => self.parameters.clone(),
        };
        Arc::new(Self { measured_by: Arc::clone(&self.measured_by), parameters })
    }

    fn programs(&self) -> Vec<(String, String)> {
        let version = self.measured_by.version.get();
        version.map(|version| (self.measured_by.name.clone(), version.clone())).into_iter().collect()
    }
}
