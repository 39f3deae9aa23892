//! `dpg conformance`: are rewards on a device those of the CPU in f64?

use std::path::Path;

use anyhow::{Context, bail};
use burn::tensor::DType;
use clap::Args;
use dpg_dataset::{Columns, read_examples};
use dpg_engine::Problem;
use dpg_models::{MatmulPrecision, product_errors};
use dpg_spec::{DistanceMeasure, Metric, Prompts, Spec, Syntax};
use serde::Serialize;
use serde_json::{Value, json};

use crate::commands::show;
use crate::pipeline::compute::compute;
use crate::pipeline::device;
use crate::pipeline::resolve::resolve;
use crate::settings::data_dir::DataDir;
use crate::terminal::progress::Watch;
use crate::terminal::stop::Stop;

/// What `dpg conformance` compares.
#[derive(Debug, Args)]
pub(crate) struct ConformanceArguments {
    /// The device.
    #[arg(long, env = "DPG_DEVICE", default_value = "cpu", help = device::help("The device"))]
    device: String,
    /// Compare with this kind of metric alone; may be repeated.
    #[arg(long = "metric", value_name = "KIND")]
    metrics: Vec<String>,
}

/// Largest relative l2 distance of rewards in f32 from those in f64. TF32 in their products alone puts
/// them farther apart.
const TOLERANCE: f64 = 1e-3;

/// Examples in all, and in a batch.
const EXAMPLES: usize = 24;
const BATCH: usize = 8;

/// The metric of a run of one step, whose rewards are made in another way: of traces, whatever the metric.
const OF_ONE_STEP: &str = "held_out_loss";

const OPTIMIZERS: [(&str, &str); 2] = [
    ("AdamW", r#"{ "kind": "adamw", "learning_rate": 1e-4, "eps_root": 1e-6 }"#),
    ("SGD", r#"{ "kind": "sgd", "learning_rate": 1e-2, "weight_decay": 1e-4 }"#),
];

/// One comparison.
#[derive(Serialize)]
struct Case {
    optimizer: &'static str,
    steps: usize,
    metric: String,
    relative_error: f64,
}

impl Case {
    fn holds(&self) -> bool {
        self.relative_error <= TOLERANCE
    }
}

/// A device's products at one of its precisions.
#[derive(Serialize)]
struct Product {
    precision: &'static str,
    relative_error: f64,
    tolerance: f64,
}

impl Product {
    /// As many as its mantissa's bits leave, and a few roundings more; f32 may be in two parts of 8 bits.
    fn new((precision, relative_error): (MatmulPrecision, f64)) -> Self {
        let tolerance = match precision {
            MatmulPrecision::F32 => 1e-5,
            MatmulPrecision::Tf32 => 1e-3,
            MatmulPrecision::Bf16 => 1e-2,
        };
        Self { precision: precision.name(), relative_error, tolerance }
    }

    fn holds(&self) -> bool {
        self.relative_error <= self.tolerance
    }
}

/// Compares all, and fails if one is over the tolerance.
pub(crate) async fn conformance(
    data: &DataDir,
    ConformanceArguments { device, metrics }: ConformanceArguments,
    as_json: bool,
) -> anyhow::Result<()> {
    let device = device.as_str();
    let devices = dpg_models::device::parse(device)?;
    let hub = data.hub()?;
    let mut specs = vec![];
    for (kind, metric) in chosen(kinds()?, &metrics)? {
        for (optimizer, settings) in OPTIMIZERS {
            let batches: &[usize] = if kind == OF_ONE_STEP { &[BATCH, EXAMPLES] } else { &[BATCH] };
            for &batch in batches {
                let spec = resolve(spec(settings, batch, &metric)?, &hub).await?.local;
                specs.push((optimizer, EXAMPLES.div_ceil(batch), kind.clone(), spec));
            }
        }
    }
    let watch = Watch::new(Stop::listen()?);
    let (products, cases) = compute(move || {
        let products: Vec<_> = product_errors(&devices[0]).into_iter().map(Product::new).collect();
        let cancelled = || watch.pass();
        let count = specs.len();
        let cases = specs.into_iter().enumerate().map(|(place, (optimizer, steps, metric, spec))| {
            let examples = examples(&spec)?;
            let problem = Problem::to_score(&spec, DType::F32, &devices)?;
            let passes = 2 * problem.target.passes(EXAMPLES);
            watch.begin(format!("{optimizer}, {metric}, {} of {count}", place + 1), passes);
            let [relative_error] = problem.reward_errors(&examples, [MatmulPrecision::F32], &cancelled)?;
            Ok(Case { optimizer, steps, metric, relative_error })
        });
        anyhow::Ok((products, cases.collect::<anyhow::Result<Vec<_>>>()?))
    })
    .await?;
    let verdicts = products.iter().map(Product::holds).chain(cases.iter().map(Case::holds));
    let (count, failed) = (verdicts.clone().count(), verdicts.filter(|holds| !holds).count());
    let value = json!({
        "device": device,
        "tolerance": TOLERANCE,
        "holds": failed == 0,
        "products": products,
        "cases": cases,
    });
    show(as_json, &value, || text(device, &products, &cases));
    if failed > 0 {
        bail!("{failed} of {count} comparisons on `{device}` are over the tolerance");
    }
    Ok(())
}

/// Those of the kinds that were named, or all.
fn chosen(kinds: Vec<(String, Value)>, named: &[String]) -> anyhow::Result<Vec<(String, Value)>> {
    if let Some(unknown) = named.iter().find(|named| kinds.iter().all(|(kind, _)| kind != *named)) {
        let known: Vec<_> = kinds.into_iter().map(|(kind, _)| format!("`{kind}`")).collect();
        bail!("`{unknown}` is none of the metrics that are compared: {}", known.join(", "));
    }
    Ok(kinds.into_iter().filter(|(kind, _)| named.is_empty() || named.contains(kind)).collect())
}

/// The example of each kind of metric, but of those that need a program.
fn kinds() -> anyhow::Result<Vec<(String, Value)>> {
    let mut kinds = vec![];
    for mut metric in Metric::examples() {
        if let Metric::Distance(distance) = &mut metric {
            // the way of three steps is so short that its direction tells how f32 rounds weights
            distance.measure = DistanceMeasure::SquaredDistance;
        }
        if metric.programs_below("").is_empty() {
            let metric = serde_json::to_value(metric)?;
            kinds.push((metric["kind"].as_str().context("a metric has a kind")?.to_owned(), metric));
        }
    }
    Ok(kinds)
}

fn spec(optimizer: &str, batch: usize, metric: &Value) -> anyhow::Result<Spec> {
    let optimizer: Value = serde_json::from_str(optimizer)?;
    let spec = json!({
        "name": "conformance",
        "metric": metric,
        "target": {
            "model": "embedded:target",
            "sft": { "optimizer": optimizer, "batch_size": batch, "sequence_length": 64 },
        },
        "generator": {
            "model": "embedded:generator",
            "prompts": { "path": "embedded:prompts/articles.jsonl", "column": "text" },
        },
    });
    Spec::parse(&spec.to_string(), Syntax::Json).context("the built-in spec")
}

/// The first of the generator's prompts, as examples.
fn examples(spec: &Spec) -> anyhow::Result<Vec<dpg_dataset::Example>> {
    let Prompts { path, column, .. } = spec.generator()?.prompts().context("the spec has prompts")?;
    Ok(read_examples(Path::new(path), &Columns::Text(column.clone()), Some(EXAMPLES))?)
}

fn text(device: &str, products: &[Product], cases: &[Case]) -> String {
    let verdict = |holds| if holds { "ok" } else { "FAILED" };
    let mut text = format!(
        "matrix products on {device} against f64 on the CPU, relative l2 distance\n\n\
         | precision | error | tolerance | |\n|---|--:|--:|---|\n"
    );
    for product in products {
        let Product { precision, relative_error, tolerance } = product;
        let verdict = verdict(product.holds());
        text += &format!("| {precision} | {relative_error:.1e} | {tolerance:.0e} | {verdict} |\n");
    }
    text += &format!(
        "\nrewards of {EXAMPLES} examples in f32 on {device} against f64 on the CPU, relative l2 distance, tolerance \
         {TOLERANCE:.0e}\n\n| optimizer | T | metric | error | |\n|---|--:|---|--:|---|\n"
    );
    for case in cases {
        let Case { optimizer, steps, metric, relative_error } = case;
        let verdict = verdict(case.holds());
        text += &format!("| {optimizer} | {steps} | {metric} | {relative_error:.1e} | {verdict} |\n");
    }
    text.trim_end().into()
}
