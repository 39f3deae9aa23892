//! What every metric keeps, for all that are listed: its gradient is that of its value, scheduled numbers that have
//! not changed change nothing, and rewards are derivatives of it through fine-tuning. In f64, against central
//! differences.

mod subject;

use std::sync::Arc;

use burn::tensor::Device;
use dpg_metagrad::{Metric, Sft, Storage, metagradient, metrics};
use dpg_spec as spec;
use subject::{Subject, random, relative_error, slope};

fn metric(subject: &Subject, settings: &spec::Metric) -> Arc<dyn Metric> {
    metrics::from_spec(settings, &subject.lm, &subject.theta, 2, subject).unwrap()
}

#[test]
fn every_listed_metric_has_the_gradient_of_its_value() {
    for model in ["gpt2", "llama", "llama-tied", "qwen3"] {
        let subject = Subject::new(model);
        let n = subject.theta.dims()[0];
        for settings in spec::Metric::examples() {
            let metric = metric(&subject, &settings);
            let theta = subject.theta.clone() + random(n, 1) * 1e-3;
            let (score, gradient) = metric.score_and_gradient(&theta).unwrap();
            assert_eq!(score, metric.score(&theta).unwrap(), "{model}, {settings:?}");
            assert_eq!(score, metric.with_numbers(&settings).score(&theta).unwrap(), "{model}, {settings:?}");
            assert_eq!(gradient.dims(), [n]);
            let size = (gradient.clone() * gradient.clone()).sum().into_scalar::<f64>().sqrt();
            assert!(size > 0.0, "{model}, {settings:?}: the gradient is 0");
            for key in 2..6 {
                // where the metric looks at few of the weights, a direction through all of them sees little
                let direction = random(n, key) * (gradient.clone().abs() / size + 1e-2);
                let along = (gradient.clone() * direction.clone()).sum().into_scalar::<f64>();
                let at = |h: f64| metric.score(&(theta.clone() + direction.clone() * h)).unwrap().value;
                let measured = slope(at);
                let scale = size * (direction.clone() * direction).sum().into_scalar::<f64>().sqrt();
                let error = (along - measured).abs() / along.abs().max(1e-3 * scale);
                assert!(error < 1e-6, "{model}, {settings:?}: {along:e}, measured {measured:e}");
            }
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
        for settings in spec::Metric::examples() {
            let metric = metric(&subject, &settings);
            let reward = |sft: Sft| metagradient(sft, metric.as_ref(), &Storage::default()).unwrap().rewards;
            let phi = |sft: Sft| vec![metric.score(&sft.train().unwrap()).unwrap().value];
            let rewards = sft(&[1.0; 7], &reward);
            let measured: Vec<f64> = (0..7)
                .map(|index| {
                    slope(|h| {
                        let mut weights = [1.0; 7];
                        weights[index] += h;
                        sft(&weights, &phi)[0]
                    })
                })
                .collect();
            let error = relative_error(&rewards, &measured);
            assert!(error < 1e-6, "{model}, {settings:?}: off by {error:e}");
        }
    }
}
