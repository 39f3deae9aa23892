//! What a run of a spec would do, take, and be worth: formulas and a few probes, and what is asked for besides.

use std::fmt;
use std::path::Path;
use std::time::Instant;

use burn::tensor::{DType, Device};
use dpg_engine::{Draw, Problem, Signal, Stop, recipe};
use dpg_metagrad::{Score, Storage};
use dpg_models::{
    CausalLm, FEW_ROWS, MatmulPrecision, chunk_of_logits, device::backend_of, kept_of_rollout, together,
    width,
};
use dpg_spec::{Generator, LocalGenerator, PublishIf, Reward, Spec};
use serde::Serialize;

use crate::pipeline::memory::{self, Sizes};
use crate::pipeline::probe::Probe;
use crate::pipeline::teacher::Estimate;
use crate::pipeline::verification;
use crate::terminal::progress::Watch;

/// Bytes of a number in f32, which runs compute in.
const NUMBER: u64 = 4;
/// Numbers of each logit that a policy's update holds at once: both generators' logits as the models give them and as they
/// are drawn from, what is forbidden, and what goes back.
const IN_UPDATE: usize = 8;
/// Bytes that the program takes besides numbers.
const PROGRAM: u64 = 80_000_000;

/// What a plan is to find out besides, each as long as scoring a step or longer.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Asked {
    /// Whether rewards tell good examples from bad ones.
    pub(crate) signal: bool,
    /// What precisions cost the rewards.
    pub(crate) precision: bool,
    /// Rounds of optimising the examples' weights.
    pub(crate) reweigh: Option<usize>,
}

/// The plan of a run.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Plan {
    name: String,
    device: String,
    recipe: Vec<String>,
    target_parameters: usize,
    generator_parameters: Option<usize>,
    /// What is asked of a teacher behind an API.
    #[serde(skip_serializing_if = "Option::is_none")]
    teacher: Option<Estimate>,
    training_prompts: usize,
    validation_prompts: usize,
    steps: usize,
    rollouts_per_step: usize,
    /// At most: rollouts may end earlier.
    target_tokens_per_step: usize,
    inner_steps: usize,
    inner_run_vector_bytes: u64,
    inner_run_pass_bytes: u64,
    inner_run_spilled_bytes: u64,
    inner_run_segment: Option<usize>,
    /// The largest that a run takes.
    peak_bytes: u64,
    seconds_per_step: f64,
    /// Of the whole run: steps, validations, the dataset, trying it out.
    estimated_seconds: f64,
    reward_errors: Option<RewardErrors>,
    signal: Option<Signal>,
    advice: Option<String>,
    reweighed: Option<Vec<Score>>,
}

/// Relative l2 distances of rewards from those in f64, by the precision of products.
#[derive(Clone, Copy, Debug, Serialize)]
struct RewardErrors {
    f32: f64,
    tf32: f64,
    bf16: f64,
    /// The device has not all of them, and the rest was imitated.
    imitated: bool,
}

impl Plan {
    /// Plans a spec whose paths are local.
    pub(crate) fn new(spec: &Spec, asked: Asked, devices: &[Device], watch: &Watch) -> anyhow::Result<Self> {
        memory::check(spec, devices)?;
        let cancelled = || watch.pass();
        watch.begin("a few small probes", 20);
        let started = Instant::now();
        let problem = Problem::to_score(spec, DType::F32, devices)?;
        let load = started.elapsed().as_secs_f64();
        let mut probe = Probe::new(spec, &problem, devices, &cancelled)?;
        probe.load += load;
        let mut plan = Self::of(spec, &problem, &probe, devices, &cancelled)?;
        drop(problem);
        if asked.signal || asked.precision || asked.reweigh.is_some() {
            plan.ask(spec, asked, devices, watch)?;
        }
        Ok(plan)
    }

    fn of(
        spec: &Spec,
        problem: &Problem,
        probe: &Probe,
        devices: &[Device],
        stop: Stop,
    ) -> anyhow::Result<Self> {
        let target = &problem.target;
        let rows = spec.policy.rollouts();
        // made-up rollouts, as long as they may be
        let examples = vec![dpg_models::Example::all_scored(vec![0; probe.example as usize]); rows];
        let batches = target.batches(&examples, Draw::FIRST);
        let sft = target.sft(&examples, &[], &batches, &|| false);
        let storage = Storage::fitting(&sft, Path::new(""));
        let bytes = storage.bytes(&sft);
        let sizes = |local: &LocalGenerator| Sizes::of(Path::new(&local.model), local.lora.as_ref());
        let settings = spec.generator()?;
        let generator = settings.local().map(sizes).transpose()?;
        let arms = (!settings.teachers().is_empty()).then(|| settings.arms().len());
        let held_out = target.encode(&problem.held_out.helpful(&spec.metric))?;
        let held_out: usize = held_out.iter().map(|example| example.tokens.len()).sum();
        let programs = programs(spec, problem, stop)?;
        let seconds = Seconds { spec, probe, held_out: held_out as f64, programs };
        Ok(Self {
            name: spec.name.clone(),
            device: backend_of(&devices[0]).remark(),
            recipe: recipe(spec)?,
            target_parameters: target.model.lm.layout().len(),
            generator_parameters: generator.as_ref().map(|sizes| sizes.trained).or(arms),
            teacher: Estimate::of(spec, probe.prompt.0),
            training_prompts: probe.prompts.0,
            validation_prompts: probe.prompts.1,
            steps: spec.policy.steps,
            rollouts_per_step: rows,
            target_tokens_per_step: (probe.example * rows as f64) as usize,
            inner_steps: batches.len(),
            inner_run_vector_bytes: bytes.vectors,
            inner_run_pass_bytes: bytes.pass,
            inner_run_spilled_bytes: bytes.spilled,
            inner_run_segment: storage.segment,
            peak_bytes: peak(
                spec,
                probe,
                held_out,
                bytes.peak(),
                target.model.lm.as_ref(),
                generator.as_ref(),
            ),
            seconds_per_step: seconds.step(),
            estimated_seconds: seconds.run(),
            reward_errors: None,
            signal: None,
            advice: None,
            reweighed: None,
        })
    }

    /// Draws a step, keeps nothing of it, and finds out what was asked.
    fn ask(&mut self, spec: &Spec, asked: Asked, devices: &[Device], watch: &Watch) -> anyhow::Result<()> {
        let cancelled = || watch.pass();
        let problem = Problem::load(spec, DType::F32, devices, &cancelled)?;
        let (target, writer) = (&problem.target, problem.writer()?);
        let folder = tempfile::tempdir()?;
        let scorer = problem.scorer(folder.path(), &cancelled);
        let rows = self.rollouts_per_step;
        watch.begin(format!("drawing {rows} rollouts"), writer.generator.passes(rows));
        let examples = problem.first_draw(&cancelled)?;
        if asked.signal {
            watch.begin("scoring them", 2 * target.passes(rows));
            let rewards = scorer.score(&examples, Draw::FIRST)?.rewards;
            watch.begin("comparing halves", 3 * target.passes(rows));
            let signal = scorer.signal(&examples, &problem.held_out.helpful(&spec.metric), &rewards)?;
            (self.signal, self.advice) = (Some(signal), signal.advice());
        }
        if asked.precision {
            watch.begin("comparing precisions", 4 * 2 * target.passes(rows.min(32)));
            let precisions = [MatmulPrecision::F32, MatmulPrecision::Tf32, MatmulPrecision::Bf16];
            let [f32, tf32, bf16] = problem.reward_errors(&examples, precisions, &cancelled)?;
            let has = backend_of(&devices[0]).precisions();
            let imitated = precisions.iter().any(|precision| !has.contains(precision));
            self.reward_errors = Some(RewardErrors { f32, tf32, bf16, imitated });
        }
        if let Some(rounds) = asked.reweigh {
            watch.begin("reweighing", 2 * (rounds + 1) * target.passes(rows));
            self.reweighed = Some(scorer.reweigh(&examples, rounds)?);
        }
        Ok(())
    }
}

/// Seconds of the parts of a run.
struct Seconds<'a> {
    spec: &'a Spec,
    probe: &'a Probe,
    /// Tokens of the metric's held-out texts.
    held_out: f64,
    /// Seconds of the metric with its gradient, where programs measure.
    programs: f64,
}

impl Seconds<'_> {
    /// Drawing rows for some prompts.
    fn draw(&self, rows: f64, prompts: f64) -> f64 {
        let Probe { learn, prompt, decode, .. } = *self.probe;
        let new_tokens = self.spec.generator.as_ref().map_or(0, Generator::max_new_tokens);
        let a_step = self.rows();
        learn.at(0.0, prompts * prompt.0) / 3.0 + decode * new_tokens as f64 * (rows / a_step).max(0.3)
    }

    /// The metric's value; its gradient takes three times as long.
    fn metric(&self) -> f64 {
        (self.probe.fit.at(0.0, self.held_out) + self.programs) / 3.0
    }

    /// Optimizer steps and tokens of fine-tuning on rows.
    fn size(&self, rows: f64) -> (f64, f64) {
        let (sft, length) = (&self.spec.target.sft, self.probe.example);
        (sft.steps(rows.ceil() as usize, length) as f64, sft.epochs as f64 * rows * length)
    }

    fn measure(&self, rows: f64) -> f64 {
        let (steps, tokens) = self.size(rows);
        self.probe.fit.at(steps, tokens) + self.metric()
    }

    fn score(&self, rows: f64) -> f64 {
        let (steps, tokens) = self.size(rows);
        self.probe.fit.at(steps, tokens) + 3.0 * self.metric() + self.probe.walk.at(steps, tokens)
    }

    fn rows(&self) -> f64 {
        self.spec.policy.rollouts() as f64
    }

    /// Generate, score, update.
    fn step(&self) -> f64 {
        let (policy, probe, rows) = (&self.spec.policy, self.probe, self.rows());
        let rewards =
            if policy.reward == Reward::Metagradient { self.score(rows) } else { self.measure(rows) };
        let minibatches =
            policy.minibatch_prompts.map_or(1, |prompts| policy.prompts_per_step.div_ceil(prompts));
        let new_tokens = self.spec.generator.as_ref().map_or(0, Generator::max_new_tokens);
        let tokens = rows * (probe.prompt.0 + new_tokens as f64);
        // the KL term passes through the first generator as well
        let held = if policy.kl > 0.0 { 4.0 / 3.0 } else { 1.0 };
        let learn = probe.learn.at(minibatches as f64, tokens * held);
        self.draw(rows, policy.prompts_per_step as f64) + rewards + learn
    }

    fn run(&self) -> f64 {
        let (policy, output) = (&self.spec.policy, &self.spec.output);
        let (validated, validations) = (policy.validated() as f64, policy.validations());
        // the likeliest completion is a draw of one row
        let validation = self.draw(validated, validated) + self.draw(1.0, 1.0) + self.measure(validated);
        let signal = if policy.reward == Reward::Metagradient && policy.steps > 0 {
            self.measure(self.rows()) + self.score(self.rows()) + 3.0 * self.metric()
        } else {
            0.0
        };
        let examples = output.examples as f64;
        let dataset = self.draw(examples, examples) + self.score(examples);
        let tried = match output.publish_if {
            None => 0.0,
            // five arms of all rows, one of them drawn anew, and three of a tenth
            Some(PublishIf::BetterThanControls) => {
                let arms = 5.0 * self.measure(examples) + 3.0 * self.measure(examples / 10.0);
                verification::ORDERS as f64 * (arms + self.draw(examples, examples))
            }
        };
        let steps = policy.steps as f64 * self.step();
        self.probe.load + steps + validations as f64 * validation + signal + dataset + tried
    }
}

/// The most that a run takes: while it scores, while it trains the generator, or while it saves it. `scoring` is
/// what an inner run takes, `held_out` the tokens of the metric's texts.
fn peak(
    spec: &Spec,
    probe: &Probe,
    held_out: usize,
    scoring: u64,
    target: &dyn CausalLm,
    generator: Option<&Sizes>,
) -> u64 {
    let frozen = target.layout().adapters().map_or(0, |adapters| adapters.frozen().bytes());
    // a frozen head is turned in its own type, of two bytes most often, and then read in f32 by many tokens
    let read = |lm: &dyn CausalLm, frozen: u64, tokens: usize| {
        let each = if frozen == 0 { 0 } else { 2 + if tokens > FEW_ROWS { NUMBER } else { 0 } };
        (width(lm) * lm.vocab_size()) as u64 * each
    };
    let batch = spec.target.sft.batch_size.min(spec.policy.rollouts());
    let of_head = read(target, frozen, held_out.max((probe.example * batch as f64) as usize));
    let Some(generator) = generator else {
        return PROGRAM + target.layout().len() as u64 * NUMBER + frozen + of_head + scoring;
    };
    let [of_target, of_generator] = [target.layout().len(), generator.trained].map(|n| n as u64 * NUMBER);
    let new_tokens = spec.generator.as_ref().map_or(0, Generator::max_new_tokens);
    let rows = spec.policy.minibatch_prompts.unwrap_or(spec.policy.prompts_per_step) * spec.policy.group_size;
    let of_head = of_head.max(read(generator.lm.as_ref(), generator.frozen, rows * new_tokens));
    // the weights as they were at first, and the optimizer's state
    let held = 4 * of_generator + generator.frozen + frozen + of_head;
    let generator = generator.lm.as_ref();
    let scoring = held + scoring;
    let length = probe.prompt.1 + new_tokens;
    let kept = kept_of_rollout(generator, length);
    let together = together(kept, length).min(rows);
    let logits = IN_UPDATE * chunk_of_logits(generator, together * new_tokens);
    let learning = held + of_target + 2 * of_generator + (kept * together + logits) as u64 * NUMBER;
    let saving = held + of_target + 4 * of_generator;
    PROGRAM + scoring.max(learning).max(saving)
}

/// Seconds of the metric with its gradient if programs measure, the second time: the first one starts them.
fn programs(spec: &Spec, problem: &Problem, stop: Stop) -> anyhow::Result<f64> {
    if spec.clone().programs().is_empty() {
        return Ok(0.0);
    }
    problem.evaluate(None, stop)?;
    let started = Instant::now();
    problem.evaluate(None, stop)?;
    Ok(started.elapsed().as_secs_f64())
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mb = |bytes: u64| bytes as f64 / 1e6;
        let generator = self.generator_parameters.map_or("?".into(), |parameters| parameters.to_string());
        let spilled = self.inner_run_segment.map_or(String::new(), |steps| {
            let on_disk = mb(self.inner_run_spilled_bytes);
            format!(" in segments of {steps} steps and {on_disk:.1} MB on disk")
        });
        writeln!(f, "`{}` is valid; nothing was started", self.name)?;
        writeln!(f, "target       {} parameters", self.target_parameters)?;
        writeln!(
            f,
            "generator    {generator} parameters, {} prompts to train on and {} to validate on",
            self.training_prompts, self.validation_prompts
        )?;
        if let Some(teacher) = &self.teacher {
            writeln!(f, "teacher      {}", teacher.line())?;
        }
        writeln!(f, "device       {}", self.device)?;
        writeln!(f, "recipe       {}", self.recipe.join("\n             "))?;
        writeln!(
            f,
            "a step       {} rollouts, at most {} target tokens, inner steps: {}",
            self.rollouts_per_step, self.target_tokens_per_step, self.inner_steps
        )?;
        writeln!(
            f,
            "             {:.1} MB of weights, moments and gradients{spilled}, {:.1} MB for a pass",
            mb(self.inner_run_vector_bytes),
            mb(self.inner_run_pass_bytes)
        )?;
        writeln!(
            f,
            "the run      {} steps of about {:.1} s: {:.1} minutes with validations and the dataset, {:.1} MB of memory",
            self.steps,
            self.seconds_per_step,
            self.estimated_seconds / 60.0,
            mb(self.peak_bytes)
        )?;
        match self.reward_errors {
            None => write!(f, "rewards      their error in f32 was not measured: `--precision` does")?,
            Some(RewardErrors { f32, tf32, bf16, imitated }) => write!(
                f,
                "rewards      off by {f32:.1e} in f32, their precision, against f64; in tf32 {tf32:.1e}, in bf16 \
                 {bf16:.1e}{}",
                if imitated { " (both imitated)" } else { "" }
            )?,
        }
        match &self.signal {
            None => write!(
                f,
                "\nsignal       whether rewards tell good examples from bad ones was not measured: `--signal` does"
            )?,
            Some(signal) => self.fmt_signal(f, signal)?,
        }
        if let Some([first, .., last]) = self.reweighed.as_deref() {
            let rounds = self.reweighed.as_ref().map_or(0, |scores| scores.len() - 1);
            write!(f, "\n             reweighed, equal weights: {}", figures(first))?;
            write!(f, "\n             after {rounds} rounds:        {}", figures(last))?;
        }
        Ok(())
    }
}

impl Plan {
    fn fmt_signal(&self, f: &mut fmt::Formatter<'_>, signal: &Signal) -> fmt::Result {
        let Signal {
            untrained,
            better_half,
            worse_half,
            separability,
            gradient,
            saturation,
            effective_strength,
        } = signal;
        write!(
            f,
            "\nsignal       Phi {untrained:.6} as it is, {better_half:.6} after the better half by reward, \
             {worse_half:.6} after the worse"
        )?;
        if let Some(area) = separability {
            write!(f, "\n             AUC {area:.2} of held-out texts against the generator's, by reward")?;
        }
        write!(f, "\n             gradient {gradient:.1e}, root mean square where the metric looks")?;
        if let Some(ratio) = saturation {
            write!(f, ", {ratio:.1} times sqrt(eps_root) + eps")?;
        }
        if let Some(strength) = effective_strength {
            write!(f, "\n             strength times the median pixel's change: {strength:.1e}")?;
        }
        match &self.advice {
            None => write!(f, "\n             the rewards tell good examples from bad ones"),
            Some(advice) => write!(f, "\n             WARNING: {advice}"),
        }
    }
}

fn figures(score: &Score) -> String {
    let proxies = score.proxies.iter().map(|(name, value)| format!("  {name} {value:.4}"));
    format!("Phi {:.6}{}", score.value, proxies.collect::<String>())
}
