//! The run that a step is part of: how far it is, and what the parameters are.

use std::ops::Range;

use dpg_models::Layout;
use dpg_spec::{DecayOn, LrSchedule, Sft};

/// What a step knows of its run besides its state and gradient.
#[derive(Clone, Copy, Debug)]
pub struct Run<'a> {
    /// The parameters in the flat vectors, by name and shape.
    pub layout: &'a Layout,
    /// Which of them weight decay acts on.
    pub decay_on: DecayOn,
    /// How the learning rate changes after the warm-up.
    pub schedule: LrSchedule,
    /// Steps in which it rises from 0.
    pub warmup: usize,
    /// Steps of the run; what a schedule ends with.
    pub steps: usize,
}

/// One step on one part of the parameters.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Step {
    /// Its number, from 0.
    pub(crate) number: usize,
    /// What the learning rate is multiplied by.
    pub(crate) rate: f64,
    /// What weight decay is multiplied by: 1 where it acts, or 0.
    pub(crate) decay: f64,
}

/// Neighbours in a flat vector that weight decay acts on, or does not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) range: Range<usize>,
    pub(crate) decays: bool,
}

impl<'a> Run<'a> {
    /// A run of any length at a constant learning rate, whose weight decay acts on all parameters.
    pub fn constant(layout: &'a Layout) -> Self {
        Self { layout, decay_on: DecayOn::All, schedule: LrSchedule::Constant, warmup: 0, steps: 0 }
    }

    /// A run of `steps` steps by a recipe.
    pub fn of(sft: &Sft, layout: &'a Layout, steps: usize) -> Self {
        let share = (sft.warmup_ratio * steps as f64).ceil() as usize;
        let warmup = if sft.warmup_steps > 0 { sft.warmup_steps } else { share };
        Self { layout, decay_on: sft.decay_on, schedule: sft.lr_schedule, warmup, steps }
    }

    /// What the learning rate of a step, numbered from 0, is multiplied by: transformers' `get_scheduler`.
    pub fn rate(&self, step: usize) -> f64 {
        if step < self.warmup {
            return step as f64 / self.warmup as f64;
        }
        let falling = self.steps.saturating_sub(self.warmup).max(1) as f64;
        match self.schedule {
            LrSchedule::Constant => 1.0,
            LrSchedule::Linear => self.steps.saturating_sub(step) as f64 / falling,
            LrSchedule::Cosine => {
                let progress = (step - self.warmup) as f64 / falling;
                (0.5 * (1.0 + (std::f64::consts::PI * progress).cos())).max(0.0)
            }
        }
    }

    pub(crate) fn step(&self, number: usize, part: &Part) -> Step {
        Step { number, rate: self.rate(number), decay: if part.decays { 1.0 } else { 0.0 } }
    }

    /// The flat vector in parts, as few as there can be.
    pub(crate) fn parts(&self) -> Vec<Part> {
        let mut parts: Vec<Part> = vec![];
        for param in self.layout.params() {
            let decays = self.decay_on == DecayOn::All || param.shape.len() > 1;
            match parts.last_mut() {
                Some(last) if last.decays == decays => last.range.end = param.range().end,
                _ => parts.push(Part { range: param.range(), decays }),
            }
        }
        parts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout() -> Layout {
        let mut layout = Layout::default();
        for (name, shape) in
            [("a", &[2, 3][..]), ("b", &[3, 1]), ("norm", &[4]), ("bias", &[1]), ("c", &[1, 2])]
        {
            layout.push(name, shape, false);
        }
        layout
    }

    #[test]
    fn neighbours_are_one_part() {
        let layout = layout();
        let all = Run::constant(&layout);
        assert_eq!(all.parts(), [Part { range: 0..16, decays: true }]);
        let matrices = Run { decay_on: DecayOn::Matrices, ..all };
        let expected = [(0..9, true), (9..14, false), (14..16, true)];
        assert_eq!(matrices.parts(), expected.map(|(range, decays)| Part { range, decays }));
    }

    /// `get_scheduler(name, optimizer, warmup, steps)` of transformers 4.57 at the steps of a run.
    #[test]
    fn rates_are_those_of_transformers() {
        use LrSchedule::{Constant, Cosine, Linear};
        let layout = layout();
        let cases: [(LrSchedule, usize, f64, usize, &[f64]); 7] = [
            (Constant, 0, 0.0, 2, &[1.0, 1.0]),
            (Constant, 2, 0.0, 4, &[0.0, 0.5, 1.0, 1.0]),
            (Linear, 0, 0.0, 4, &[1.0, 0.75, 0.5, 0.25]),
            (Linear, 0, 0.3, 5, &[0.0, 0.5, 1.0, 0.6666666666666666, 0.3333333333333333]),
            (Cosine, 0, 0.0, 3, &[1.0, 0.75, 0.2500000000000001]),
            (
                Cosine,
                3,
                0.0,
                7,
                &[
                    0.0,
                    0.3333333333333333,
                    0.6666666666666666,
                    1.0,
                    0.8535533905932737,
                    0.5,
                    0.14644660940672627,
                ],
            ),
            (Linear, 4, 0.0, 3, &[0.0, 0.25, 0.5]),
        ];
        for (lr_schedule, warmup_steps, warmup_ratio, steps, rates) in cases {
            let sft = Sft { lr_schedule, warmup_steps, warmup_ratio, ..Sft::default() };
            let run = Run::of(&sft, &layout, steps);
            assert_eq!(rates.len(), steps);
            for (step, expected) in rates.iter().enumerate() {
                let rate = run.rate(step);
                assert!((rate - expected).abs() < 1e-15, "{lr_schedule:?}, step {step}: {rate}, {expected}");
            }
        }
    }
}
