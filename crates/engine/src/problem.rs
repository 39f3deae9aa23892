//! A spec with everything it names in memory.

use std::path::Path;
use std::sync::Arc;

use burn::tensor::{DType, Device};
use dpg_dataset::Example;
use dpg_metagrad::Metric;
use dpg_models::MatmulPrecision;
use dpg_spec::Spec;

use crate::{Draw, Error, HeldOutTexts, Scorer, Stop, Target, Writer};

/// A spec with everything it names in memory. After it is loaded nothing is read from disk any more.
pub struct Problem {
    /// The spec, its paths local.
    pub spec: Spec,
    /// The target.
    pub target: Arc<Target>,
    /// What a fine-tuned target is measured by.
    pub metric: Arc<dyn Metric>,
    /// The texts of the metric's files.
    pub held_out: HeldOutTexts,
    /// What it is computed on.
    pub devices: Vec<Device>,
    writer: Option<Writer>,
}

impl Problem {
    /// Loads a spec whose paths are local, the target in `dtype`, for one device or several that share the work. `stop` is
    /// asked where prompts are told apart by the target's losses.
    pub fn load(spec: &Spec, dtype: DType, devices: &[Device], stop: Stop) -> Result<Self, Error> {
        let problem = Self::to_score(spec, dtype, devices)?;
        // one copy of weights that both have
        let is_shared = spec.shares_weights() && dtype == DType::F32;
        let adapters = problem.target.model.lm.layout().adapters().filter(|_| is_shared);
        let frozen = adapters.map(|adapters| Arc::clone(adapters.frozen()));
        let writer = Writer::upon(spec, devices, frozen, Some((&problem.target, stop)))?;
        Ok(Self { writer: Some(writer), ..problem })
    }

    /// The same without the generator, for examples that there are already. The spec need not name one.
    pub fn to_score(spec: &Spec, dtype: DType, devices: &[Device]) -> Result<Self, Error> {
        let target = Target::load(spec, dtype, devices, MatmulPrecision::F32)?;
        let held_out = HeldOutTexts::read(&spec.metric)?;
        let metric = target.metric(&spec.metric, &held_out)?;
        let (target, devices) = (Arc::new(target), devices.to_vec());
        Ok(Self { spec: spec.clone(), target, metric, held_out, devices, writer: None })
    }

    /// The generator and its prompts.
    ///
    /// # Errors
    /// [`Error::NoGenerator`] if it was loaded [`to_score`](Self::to_score).
    pub fn writer(&self) -> Result<&Writer, Error> {
        self.writer.as_ref().ok_or(Error::NoGenerator)
    }

    /// The same, to be trained.
    pub(crate) fn writer_mut(&mut self) -> Result<&mut Writer, Error> {
        self.writer.as_mut().ok_or(Error::NoGenerator)
    }

    /// What scores examples for this problem; see [`Scorer`].
    pub fn scorer<'a>(&'a self, scratch: &'a Path, stop: Stop<'a>) -> Scorer<'a> {
        Scorer { target: &self.target, metric: self.metric.as_ref(), scratch, stop }
    }

    /// The target and the metric with the numbers of `spec`, this problem's spec [at a
    /// step](dpg_spec::Spec::at_step).
    pub(crate) fn with_numbers(&self, spec: &Spec) -> (Arc<Target>, Arc<dyn Metric>) {
        if spec.schedules_scoring() {
            (Arc::new(self.target.with_recipe(spec)), self.metric.with_numbers(&spec.metric))
        } else {
            (Arc::clone(&self.target), Arc::clone(&self.metric))
        }
    }

    /// What the generator writes for the first step, as it would be published.
    pub fn first_draw(&self, stop: Stop) -> Result<Vec<Example>, Error> {
        let Spec { policy, seed, output, .. } = &self.spec;
        let groups = (policy.prompts_per_step, policy.group_size);
        Ok(self.writer()?.draw_groups(groups, *seed, Draw::FIRST, stop)?.examples(output.format))
    }
}
