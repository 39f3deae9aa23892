//! `dpg metric`: a metric of a model as it is.

use std::path::PathBuf;

use burn::tensor::DType;
use clap::Args;
use dpg_engine::{Evaluation, Problem};

use crate::commands::{Programs, load_spec, score::Dtype, show};
use crate::pipeline::compute::compute;
use crate::pipeline::device;
use crate::pipeline::resolve::{locate, resolve};
use crate::settings::data_dir::DataDir;

/// What `dpg metric` measures.
#[derive(Debug, Args)]
pub(crate) struct MetricArguments {
    /// The target spec; `[target]` and `[metric]` are enough. `-` reads it from standard input.
    spec: PathBuf,
    /// The model to measure, written as `target.model` is and of the same architecture [default: the target]. What the
    /// metric compares with stays the target.
    #[arg(long, value_name = "FOLDER")]
    model: Option<String>,
    /// What to compute on.
    #[arg(long, env = "DPG_DEVICE", default_value = "cpu", help = device::help("What to compute on"))]
    device: String,
    /// Floating-point type of the computation.
    #[arg(long, value_enum, default_value_t = Dtype::F32)]
    dtype: Dtype,
    #[command(flatten)]
    programs: Programs,
}

/// Measures a model by the metric of a spec, and says where the metric's gradient lies.
pub(crate) async fn metric(data: &DataDir, arguments: MetricArguments, as_json: bool) -> anyhow::Result<()> {
    let MetricArguments { spec, mut model, device, dtype, programs } = arguments;
    let devices = dpg_models::device::parse(&device)?;
    let hub = data.hub()?;
    let local = resolve(load_spec(&spec, &programs, data)?, &hub).await?.local;
    if let Some(model) = &mut model {
        locate("--model", model, &hub).await?;
    }
    let found = compute(move || {
        let problem = Problem::to_score(&local, DType::from(dtype), &devices)?;
        Ok(problem.evaluate(model.map(PathBuf::from).as_deref(), &|| false)?)
    })
    .await?;
    show(as_json, &serde_json::to_value(&found)?, || text(&found));
    Ok(())
}

fn text(Evaluation { score, gradient, parameters }: &Evaluation) -> String {
    let mut text = format!("Phi {:.6}\n", score.value);
    for (name, value) in &score.proxies {
        text += &format!("{name} {value:.6}\n");
    }
    text += &format!("\ngradient, l2 norm {gradient:.3e}; of each parameter it reaches, the largest first\n");
    let mut reached: Vec<_> = parameters.iter().filter(|(_, norm)| *norm > 0.0).collect();
    reached.sort_by(|a, b| b.1.total_cmp(&a.1));
    for (name, norm) in reached {
        text += &format!("  {norm:.3e}  {name}\n");
    }
    text.trim_end().to_owned()
}
