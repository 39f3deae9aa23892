//! A run's events for people: a bar with rate and ETA on a terminal, plain lines elsewhere.

use std::io::IsTerminal;
use std::time::Instant;

use dpg_engine::{Event, StepRecord, ValidationRecord};
use indicatif::{ProgressBar, ProgressStyle};

use crate::console::note;

/// Tells events on standard error.
pub(crate) struct Progress {
    bar: Option<ProgressBar>,
    started: Instant,
    first: usize,
    steps: usize,
}

impl Progress {
    pub(crate) fn new() -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let style =
                ProgressStyle::with_template("{bar:30} {pos}/{len} steps  {per_sec}  ETA {eta}  {msg}");
            ProgressBar::new(0).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
        });
        Self { bar, started: Instant::now(), first: 0, steps: 0 }
    }

    pub(crate) fn tell(&mut self, event: &Event) {
        match event {
            Event::Started { step, steps } => {
                (self.first, self.steps, self.started) = (*step, *steps, Instant::now());
                if let Some(bar) = &self.bar {
                    bar.set_length(*steps as u64);
                    bar.set_position(*step as u64);
                    bar.reset_eta();
                }
                if *step > 0 {
                    self.line(&format!("resuming at step {step} of {steps}"));
                }
            }
            Event::Signal(signal) => {
                if let Some(advice) = signal.advice() {
                    self.line(&format!("WARNING: {advice}"));
                }
            }
            Event::Step(record) => self.step(record),
            Event::Validation(record) => self.line(&validation(record)),
            Event::Drawing { examples } => {
                if let Some(bar) = &self.bar {
                    bar.finish_and_clear();
                }
                self.line(&format!("drawing and scoring {examples} examples"));
            }
            Event::Verifying { orders } => {
                self.line(&format!(
                    "fine-tuning fresh targets on them and on controls under {orders} data orders"
                ));
            }
        }
    }

    fn step(&self, record: &StepRecord) {
        let text = format!(
            "Phi {:.5}  reward sd {:.1e}  entropy {:.2}  KL {:.2}  clipped {:.0}%  length {:.0}",
            record.score.value,
            record.reward_std,
            record.update.entropy,
            record.update.kl,
            100.0 * record.update.clip_fraction,
            record.length
        );
        if let Some(bar) = &self.bar {
            bar.set_position(record.step as u64 + 1);
            bar.set_message(text);
        } else {
            let done = record.step + 1;
            let per_step = self.started.elapsed().as_secs_f64() / (done - self.first) as f64;
            let left = per_step * (self.steps - done) as f64;
            note(format_args!("step {done}/{}  {text}  {per_step:.1} s/step, ETA {left:.0} s", self.steps));
        }
    }

    fn line(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.println(text),
            None => note(text),
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
