//! Long work for people, on standard error: a bar with rate and ETA on a terminal, plain lines elsewhere.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use dpg_engine::{Event, StepRecord, ValidationRecord};
use indicatif::{ProgressBar, ProgressStyle};

use ::console::Term;

use crate::terminal::console::{Voice, note, tell, voice};
use crate::terminal::stop::Stop;
use crate::terminal::{columns, fitted, span};

/// Elsewhere than on a terminal there is a line as often as this.
const EVERY: Duration = Duration::from_secs(10);

/// A bar on a terminal, unless the command is to be quiet.
fn bar(template: &str) -> Option<ProgressBar> {
    let shown = Term::stderr().is_term() && voice() != Voice::Quiet;
    let style = ProgressStyle::with_template(template);
    shown.then(|| ProgressBar::new(1).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar())))
}

/// Work of a command that has stages. It asks before each of its passes whether to stop, and that is what is
/// counted.
pub(crate) struct Watch {
    stop: Stop,
    bar: Option<ProgressBar>,
    stage: Mutex<Stage>,
}

/// What goes on.
struct Stage {
    what: String,
    passes: usize,
    done: usize,
    started: Instant,
    told: Instant,
}

impl Watch {
    pub(crate) fn new(stop: Stop) -> Self {
        let bar = bar("{bar:20} {percent:>3}%  {elapsed} so far, ETA {eta}  {wide_msg}");
        if let Some(bar) = &bar {
            bar.enable_steady_tick(Duration::from_millis(500));
        }
        let watch = Self { stop, bar, stage: Mutex::new(Stage::new(String::new(), 1)) };
        watch.begin("reading", 1);
        watch
    }

    /// A new stage of about `passes` passes.
    pub(crate) fn begin(&self, what: impl Into<String>, passes: usize) {
        let stage = Stage::new(what.into(), passes.max(1));
        if let Some(bar) = &self.bar {
            bar.reset();
            bar.set_length(stage.passes as u64);
            bar.set_message(stage.what.clone());
        }
        *self.stage.lock().unwrap_or_else(PoisonError::into_inner) = stage;
    }

    /// One more pass begins; true if it should not.
    pub(crate) fn pass(&self) -> bool {
        let mut stage = self.stage.lock().unwrap_or_else(PoisonError::into_inner);
        match &self.bar {
            Some(bar) => bar.set_position((stage.done.min(stage.passes)) as u64),
            None if stage.done > 0 && stage.told.elapsed() >= EVERY => {
                tell(stage.line());
                stage.told = Instant::now();
            }
            None => {}
        }
        stage.done += 1;
        self.stop.is_set()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

impl Stage {
    fn new(what: String, passes: usize) -> Self {
        let now = Instant::now();
        Self { what, passes, done: 0, started: now, told: now }
    }

    fn line(&self) -> String {
        let share = (self.done as f64 / self.passes as f64).min(1.0);
        let left = self.started.elapsed().as_secs_f64() * (1.0 / share - 1.0);
        format!("{}: {:.0}%, ETA {}", self.what, 100.0 * share, span(left))
    }
}

/// Tells events on standard error.
pub(crate) struct Progress {
    bar: Option<ProgressBar>,
    started: Instant,
    first: usize,
    steps: usize,
}

impl Progress {
    pub(crate) fn new() -> Self {
        Self { bar: bar("{bar:12} {msg}"), started: Instant::now(), first: 0, steps: 0 }
    }

    pub(crate) fn tell(&mut self, event: &Event) {
        match event {
            Event::Started { step, steps } => {
                (self.first, self.steps, self.started) = (*step, *steps, Instant::now());
                if let Some(bar) = &self.bar {
                    bar.set_length(*steps as u64);
                    bar.set_position(*step as u64);
                }
                if *step > 0 {
                    self.line(&format!("resuming at step {step} of {steps}"));
                }
            }
            Event::Signal(signal) => {
                if let Some(advice) = signal.advice() {
                    let warning = format!("WARNING: {advice}");
                    match &self.bar {
                        Some(bar) => bar.println(warning),
                        None => note(warning),
                    }
                }
            }
            Event::Step(record) => self.step(record),
            Event::Validation(record) => self.line(&validation(record)),
            Event::Spent { step } => self.line(&format!(
                "the budget has room for the dataset and not for another step: {step} steps were made"
            )),
            Event::Drawing { examples } => {
                if let Some(bar) = &self.bar {
                    bar.finish_and_clear();
                }
                self.line(&format!("drawing and scoring {examples} examples"));
            }
            Event::Refused { drawn, kept, refused } => {
                let reasons: Vec<_> =
                    refused.iter().map(|(reason, rows)| format!("{rows} {reason}")).collect();
                self.line(&format!("kept {kept} of {drawn} drawn rows; refused: {}", reasons.join(", ")));
            }
            Event::Verifying { orders } => {
                self.line(&format!(
                    "fine-tuning fresh targets on them and on controls under {orders} data orders"
                ));
            }
        }
    }

    fn step(&self, record: &StepRecord) {
        let done = record.step + 1;
        let per_step = self.started.elapsed().as_secs_f64() / (done - self.first) as f64;
        let left = per_step * (self.steps - done) as f64;
        let mut parts = vec![
            format!("step {done}/{}", self.steps),
            format!("Phi {:.5}", record.score.value),
            format!("reward sd {:.1e}", record.reward_std),
            format!("ETA {}", span(left)),
        ];
        if let Some(likeliest) = record.arms.iter().max_by(|a, b| a.probability.total_cmp(&b.probability)) {
            parts.push(format!("{} {:.0}%", likeliest.name, 100.0 * likeliest.probability));
        }
        if let Some(total) = &record.total {
            parts.push(format!("tokens {}", total.prompt_tokens + total.completion_tokens));
        }
        parts.push(format!("KL {:.2}", record.update.kl));
        parts.extend(record.length.map(|length| format!("length {length:.0}")));
        parts.push(format!("entropy {:.2}", record.update.entropy));
        parts.push(format!("clipped {:.0}%", 100.0 * record.update.clip_fraction));
        parts.push(format!("{per_step:.1} s/step"));
        match &self.bar {
            Some(bar) => {
                bar.set_position(done as u64);
                // beside the bar, and not in the last column, where some terminals break
                bar.set_message(fitted(&parts, columns(&Term::stderr()).saturating_sub(14)));
            }
            None if voice() == Voice::Verbose => tell(parts.join("  ")),
            None => tell(fitted(&parts, columns(&Term::stderr()))),
        }
    }

    fn line(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.println(text),
            None => tell(text),
        }
    }
}

fn validation(record: &ValidationRecord) -> String {
    let proxies = record.score.proxies.iter().map(|(name, value)| format!("  {name} {value:.4}"));
    let outputs =
        record.outputs.iter().take(5).map(|(name, value)| format!("  {name} {:.0}%", 100.0 * value));
    let greedy: String = record.greedy.trim().chars().take(90).collect();
    format!(
        "validation after {} steps: Phi {:.5}{}{}\n  greedy: {greedy}",
        record.step,
        record.score.value,
        proxies.collect::<String>(),
        outputs.collect::<String>()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_how_much_is_done_and_left() {
        let started = Instant::now().checked_sub(Duration::from_secs(30)).unwrap();
        let stage = Stage { done: 30, started, ..Stage::new("scoring".into(), 40) };
        assert_eq!(stage.line(), "scoring: 75%, ETA 10 s");
        assert_eq!(Stage { done: 50, ..stage }.line(), "scoring: 100%, ETA 0 s");
    }
}
