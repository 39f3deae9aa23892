//! What every metric keeps, for all that are listed: its gradient is that of its value, scheduled numbers that have
//! not changed change nothing, and rewards are derivatives of it through fine-tuning. In f64, against central
//! differences.

#[path = "subject/kinds.rs"]
mod kinds;
mod subject;

use std::sync::Arc;

use burn::tensor::Device;
use dpg_metagrad::{Metric, Sft, Storage, metagradient, metagradient_by_token, metrics};
use dpg_models::Example;
use dpg_spec as spec;
use kinds::{assert_gradient, every_kind};
use subject::{Subject, context, random, relative_error, slopes};

fn metric(subject: &Subject, settings: &spec::Metric) -> Arc<dyn Metric> {
    metrics::from_spec(settings, &subject.lm, &subject.theta, 2, subject).unwrap()
}

#[test]
fn every_listed_metric_has_the_gradient_of_its_value() {
    for model in ["gpt2", "llama", "llama-tied", "qwen3"] {
        let subject = Subject::new(model);
        let n = subject.theta.dims()[0];
        for settings in every_kind(|kind| kind) {
            let metric = metric(&subject, &settings);
            let theta = subject.theta.clone() + random(n, 1) * 1e-3;
            assert_gradient(metric.as_ref(), &settings, &theta, 2..6, model);
        }
    }
}

#[test]
fn rewards_of_every_listed_metric_are_derivatives_through_three_steps() {
    for model in ["gpt2", "llama"] {
        let subject = Subject::new(model);
        let examples = subject.texts(7, 3);
        let batches = [vec![0, 1, 2], vec![3, 4, 5], vec![6]];
        let adamw = spec::AdamW { learning_rate: 1e-2, eps_root: 1e-4, ..spec::AdamW::default() };
        let recipe = spec::Sft { optimizer: spec::Optimizer::Adamw(adamw), ..spec::Sft::default() };
        let sft = |weights: &[f64], then: &dyn Fn(Sft) -> Vec<f64>| {
            then(Sft {
                lm: subject.lm.as_ref(),
                theta: &subject.theta,
                examples: &examples,
                weights,
                batches: &batches,
                recipe: &recipe,
                microbatch: 2,
                devices: &[Device::flex()],
                cancelled: &|| false,
            })
        };
        for settings in every_kind(|kind| kind) {
            let metric = metric(&subject, &settings);
            let reward = |sft: Sft| metagradient(sft, metric.as_ref(), &Storage::default()).unwrap().rewards;
            let phi = |sft: Sft| vec![metric.score(&sft.train().unwrap(), context()).unwrap().value];
            let rewards = sft(&[1.0; 7], &reward);
            let measured: Vec<f64> = (0..7)
                .map(|index| {
                    slopes(|h| {
                        let mut weights = [1.0; 7];
                        weights[index] += h;
                        sft(&weights, &phi)
                    })[0]
                })
                .collect();
            let error = relative_error(&rewards, &measured);
            assert!(error < 1e-6, "{model}, {settings:?}: off by {error:e}");
        }
    }
}

/// A token's reward is what an example has whose loss is that token's alone, over the scored tokens; and an example's
/// is the sum of its tokens'.
#[test]
fn rewards_of_tokens_are_those_of_examples_of_one_token() {
    for model in ["gpt2", "llama"] {
        let subject = Subject::new(model);
        let mut examples = subject.texts(4, 3);
        let whole = examples.len();
        // the first example once more for each of its scored tokens, with weight 0
        let first = examples[0].clone();
        for token in 1..first.tokens.len() {
            let scored = (0..first.tokens.len()).map(|other| other == token).collect();
            examples.push(Example { tokens: first.tokens.clone(), scored });
        }
        let weights: Vec<f64> = (0..examples.len()).map(|index| f64::from(u8::from(index < whole))).collect();
        let all: Vec<usize> = (0..examples.len()).collect();
        let adamw = spec::AdamW { learning_rate: 1e-2, eps_root: 1e-4, ..spec::AdamW::default() };
        let recipe = spec::Sft { optimizer: spec::Optimizer::Adamw(adamw), ..spec::Sft::default() };
        let sft = Sft {
            lm: subject.lm.as_ref(),
            theta: &subject.theta,
            examples: &examples,
            weights: &weights,
            batches: &[all.clone(), all],
            recipe: &recipe,
            microbatch: 3,
            devices: &[Device::flex()],
            cancelled: &|| false,
        };
        let metric = metric(&subject, &spec::Metric::examples()[2]);
        let (found, tokens) =
            metagradient_by_token(sft, metric.as_ref(), &Storage::default(), |_| ()).unwrap();
        let count = (first.tokens.len() - 1) as f64;
        let alone: Vec<f64> = found.rewards[whole..].iter().map(|reward| reward / count).collect();
        assert_eq!(tokens[0][0], 0.0);
        assert!(relative_error(&tokens[0][1..], &alone) < 1e-12, "{model}: {:?}, {alone:?}", tokens[0]);
        let sums: Vec<f64> = tokens.iter().map(|of_example| of_example.iter().sum()).collect();
        assert!(relative_error(&sums, &found.rewards) < 1e-12, "{model}");
    }
}

/// The metrics of the rows of a metric of texts have it as their mean, and so their gradients.
#[test]
fn a_metric_of_texts_is_the_mean_of_its_rows() {
    let subject = Subject::new("gpt2");
    let mut of_texts = 0;
    for settings in every_kind(|kind| kind) {
        let metric = metric(&subject, &settings);
        let rows = metric.rows();
        if rows.is_empty() {
            continue;
        }
        of_texts += 1;
        let theta = subject.theta.clone() + random(subject.theta.dims()[0], 1) * 1e-3;
        let (score, gradient) = metric.score_and_gradient(&theta, context()).unwrap();
        let of_rows: Vec<_> =
            rows.iter().map(|row| row.score_and_gradient(&theta, context()).unwrap()).collect();
        let count = rows.len() as f64;
        let mean = of_rows.iter().map(|(score, _)| score.value).sum::<f64>() / count;
        assert!((mean - score.value).abs() < 1e-12 * score.value.abs().max(1.0), "{settings:?}");
        let sum = of_rows.into_iter().map(|(_, slope)| slope).reduce(|sum, slope| sum + slope).unwrap();
        let host = |vector: burn::tensor::Tensor<1>| vector.to_data().iter::<f64>().collect::<Vec<_>>();
        assert!(relative_error(&host(sum / count), &host(gradient)) < 1e-12, "{settings:?}");
    }
    assert!(of_texts >= 7, "{of_texts}");
}

/// Beyond its tolerance a loss counts as often as `strength` says, and within it not at all.
#[test]
fn a_guard_counts_what_is_lost_beyond_its_tolerance() {
    let subject = Subject::new("gpt2");
    let parse = |text: &str| -> spec::Metric { serde_json::from_str(text).unwrap() };
    let guard = |tolerance: f64| {
        let settings = format!(
            r#"{{"kind":"guard","strength":3.0,"raise":{{"kind":"weight_norm","parameter":"transformer.ln_f.weight"}},
                "keep":[{{"tolerance":{tolerance:?},"metric":{{"kind":"weight_norm"}}}}]}}"#
        );
        metric(&subject, &parse(&settings))
    };
    let raise = metric(&subject, &parse(r#"{"kind":"weight_norm","parameter":"transformer.ln_f.weight"}"#));
    let keep = metric(&subject, &parse(r#"{"kind":"weight_norm"}"#));
    // a larger norm is a loss of the metric to keep
    let theta = subject.theta.clone() * 1.5;
    let lost =
        keep.score(&subject.theta, context()).unwrap().value - keep.score(&theta, context()).unwrap().value;
    assert!(lost > 0.0);
    let (raised, raise_slope) = raise.score_and_gradient(&theta, context()).unwrap();
    let (_, keep_slope) = keep.score_and_gradient(&theta, context()).unwrap();
    for (tolerance, over) in [(2.0 * lost, 0.0), (0.25 * lost, 0.75 * lost)] {
        let guard = guard(tolerance);
        let (score, slope) = guard.score_and_gradient(&theta, context()).unwrap();
        assert!((score.value - (raised.value - 3.0 * over)).abs() < 1e-12, "{score:?}");
        let factor = if over > 0.0 { 3.0 } else { 0.0 };
        let expected = raise_slope.clone() + keep_slope.clone() * factor;
        assert!((slope - expected).abs().max().into_scalar::<f64>() < 1e-12);
        let figure = |name: &str| score.proxies.iter().find(|(other, _)| other == name).unwrap().1;
        assert_eq!(figure("kept"), if over > 0.0 { 0.0 } else { 1.0 });
        assert!((figure("lost_0") - lost).abs() < 1e-12);
    }
}
