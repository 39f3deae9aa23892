//! The sampler against the plain forward pass of the same models.

use std::path::Path;

use burn::tensor::{DType, Device, Tensor};
use dpg_models::{
    CausalLm, Completion, Error, Params, Place, Sampling, architecture, keyed_rng, log_probs_at, logits_at,
    places, sample, weights,
};
use rand::RngExt;

const MODELS: [&str; 4] = ["gpt2", "llama", "qwen2", "qwen3"];

fn load(model: &str) -> (Box<dyn CausalLm>, Tensor<1>) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(model);
    let lm = architecture(&folder).unwrap();
    let theta = weights::load::<f32>(&folder, lm.layout()).unwrap();
    (lm, Tensor::from_data(theta.as_slice(), (&Device::flex(), DType::F32)))
}

/// Prompts of 1 to 9 tokens, not sorted by length.
fn prompts(lm: &dyn CausalLm, count: usize) -> Vec<Vec<u32>> {
    let mut rng = keyed_rng([4, 0, 0, 0]);
    let vocab = lm.vocab_size() as u32;
    (0..count).map(|_| (0..rng.random_range(1..10)).map(|_| rng.random_range(0..vocab)).collect()).collect()
}

fn sampling() -> Sampling {
    Sampling {
        temperature: 0.8,
        min_new_tokens: 3,
        max_new_tokens: 12,
        stop: (0..20).collect(),
        never: vec![],
        seed: 7,
        step: 2,
        batch: 64,
        devices: vec![Device::flex()],
    }
}

fn tokens(completions: &[Completion]) -> Vec<Vec<u32>> {
    completions.iter().map(|completion| completion.tokens.clone()).collect()
}

#[test]
fn log_probs_are_those_of_the_training_forward() {
    for model in MODELS {
        let (lm, theta) = load(model);
        let prompts = prompts(lm.as_ref(), 17);
        // no token is forbidden, temperature 1: the distribution is the model's own
        let plain = Sampling { temperature: 1.0, min_new_tokens: 0, ..sampling() };
        let completions = sample(lm.as_ref(), &theta, &prompts, &plain).unwrap();
        let params = Params::new(lm.layout(), &theta);
        for (prompt, completion) in prompts.iter().zip(&completions) {
            let row = [prompt.as_slice(), &completion.tokens].concat();
            let rows = [row];
            let all = log_probs_at(lm.as_ref(), &params, &rows, &places(&rows)).primal;
            let all: Vec<f64> = all.to_data().iter().collect();
            for (ours, sampled) in all[prompt.len() - 1..].iter().zip(&completion.log_probs) {
                assert!((ours - sampled).abs() < 1e-4, "{model}: {ours} and {sampled}");
            }
        }
    }
}

#[test]
fn what_a_row_says_does_not_depend_on_its_batch() {
    for model in MODELS {
        let (lm, theta) = load(model);
        let prompts = prompts(lm.as_ref(), 23);
        let draw = |batch| {
            tokens(&sample(lm.as_ref(), &theta, &prompts, &Sampling { batch, ..sampling() }).unwrap())
        };
        let whole = draw(100);
        assert_eq!(draw(1), whole, "{model}");
        assert_eq!(draw(5), whole, "{model}");
        // a group's rows share the pass over their prompt, wherever they stand
        let groups: Vec<Vec<u32>> = (0..3).flat_map(|_| prompts[..7].to_vec()).collect();
        let draw = |batch, rows: &[usize]| -> Vec<Vec<u32>> {
            let drawn = sample(lm.as_ref(), &theta, &groups, &Sampling { batch, ..sampling() }).unwrap();
            rows.iter().map(|&row| drawn[row].tokens.clone()).collect()
        };
        let first: Vec<usize> = (0..7).collect();
        assert_eq!(draw(100, &first), whole[..7], "{model}");
        let all: Vec<usize> = (0..21).collect();
        assert_eq!(draw(100, &all), draw(1, &all), "{model}");
        assert_ne!(draw(100, &all)[..7], draw(100, &all)[7..14], "{model}");
        let shared = Sampling { devices: vec![Device::flex(); 3], ..sampling() };
        assert_eq!(tokens(&sample(lm.as_ref(), &theta, &prompts, &shared).unwrap()), whole, "{model}");
        let fewer = sample(lm.as_ref(), &theta, &prompts[..9], &sampling()).unwrap();
        assert_eq!(tokens(&fewer), whole[..9], "{model}");
    }
}

#[test]
fn seeds_steps_and_rows_draw_anew() {
    let (lm, theta) = load("llama");
    let prompts = vec![vec![3, 5]; 8];
    let draw = |sampling: Sampling| tokens(&sample(lm.as_ref(), &theta, &prompts, &sampling).unwrap());
    let first = draw(sampling());
    assert_eq!(draw(sampling()), first);
    assert_ne!(draw(Sampling { seed: 8, ..sampling() }), first);
    assert_ne!(draw(Sampling { step: 3, ..sampling() }), first);
    assert_ne!(first[0], first[1]);
}

#[test]
fn rows_end_at_a_stop_token_between_the_bounds() {
    let (lm, theta) = load("gpt2");
    let prompts = prompts(lm.as_ref(), 200);
    let completions = sample(lm.as_ref(), &theta, &prompts, &sampling()).unwrap();
    for completion in &completions {
        let len = completion.tokens.len();
        assert_eq!(completion.log_probs.len(), len);
        let (last, before) = completion.tokens.split_last().unwrap();
        assert!(before.iter().all(|token| *token >= 20), "a stop token in the middle");
        assert_eq!(completion.stopped, *last < 20);
        // a stop token may be the fourth at the earliest
        assert!(if completion.stopped { (4..=12).contains(&len) } else { len == 12 }, "{len}");
    }
    assert!(completions.iter().any(|completion| completion.stopped));
    assert!(completions.iter().any(|completion| !completion.stopped));
}

/// Rows of the model that no token has, and stop tokens that the model has not.
#[test]
fn tokens_that_no_tokenizer_knows_are_never_drawn() {
    let (lm, theta) = load("gpt2");
    let prompts = prompts(lm.as_ref(), 40);
    let vocab = lm.vocab_size() as u32;
    let never: Vec<u32> = (30..vocab).collect();
    let unknown = Sampling { never, stop: vec![7, vocab, vocab + 9], ..sampling() };
    for temperature in [0.0, 1.0] {
        let completions = sample(lm.as_ref(), &theta, &prompts, &Sampling { temperature, ..unknown.clone() });
        let completions = completions.unwrap();
        assert!(completions.iter().flat_map(|completion| &completion.tokens).all(|&token| token < 30));
        assert!(completions.iter().flat_map(|completion| &completion.log_probs).all(|x| x.is_finite()));
    }
}

#[test]
fn frequencies_are_the_probabilities_at_the_temperature() {
    const ROWS: usize = 6000;
    let (lm, theta) = load("llama");
    let prompt = vec![11, 2, 30];
    let one =
        Sampling { temperature: 0.5, min_new_tokens: 1, max_new_tokens: 1, stop: vec![4, 9], ..sampling() };
    let completions = sample(lm.as_ref(), &theta, &vec![prompt.clone(); ROWS], &one).unwrap();
    // one more token, so that the prompt's last position is among the predictions
    let row = [prompt, vec![0]].concat();
    let params = Params::new(lm.layout(), &theta);
    let rows = [row];
    let logits =
        logits_at(lm.as_ref(), &params, &rows, &[Place { row: 0, column: rows[0].len() - 1 }]).primal;
    let logits: Vec<f64> = logits.to_data().iter().collect();
    let mass: Vec<f64> = logits
        .iter()
        .enumerate()
        .map(|(id, logit)| if [4, 9].contains(&id) { 0.0 } else { (logit / 0.5).exp() })
        .collect();
    let total: f64 = mass.iter().sum();
    for (id, mass) in mass.iter().enumerate() {
        let expected = mass / total;
        let drawn = completions.iter().filter(|completion| completion.tokens == [id as u32]).count() as f64;
        let deviation = (expected * (1.0 - expected) / ROWS as f64).sqrt();
        let frequency = drawn / ROWS as f64;
        assert!(
            (frequency - expected).abs() <= 5.0 * deviation + 1e-3,
            "{id}: {frequency}, expected {expected}"
        );
    }
}

#[test]
fn a_prompt_that_does_not_fit_is_refused() {
    let (lm, theta) = load("gpt2");
    let long = vec![1; lm.context()];
    let error = sample(lm.as_ref(), &theta, &[vec![1], long], &sampling()).unwrap_err();
    assert!(matches!(error, Error::TooLong { .. }));
    assert!(error.to_string().contains("prompt 1"), "{error}");
}

#[test]
fn temperature_0_takes_the_likeliest_token() {
    for model in MODELS {
        let (lm, theta) = load(model);
        let prompts = prompts(lm.as_ref(), 8);
        let greedy = Sampling { temperature: 0.0, min_new_tokens: 0, stop: vec![], ..sampling() };
        let completions = sample(lm.as_ref(), &theta, &prompts, &greedy).unwrap();
        let params = Params::new(lm.layout(), &theta);
        for (prompt, completion) in prompts.iter().zip(&completions) {
            let rows = [[prompt.as_slice(), &completion.tokens].concat()];
            for (i, drawn) in completion.tokens.iter().enumerate() {
                let place = Place { row: 0, column: prompt.len() + i };
                let logits = logits_at(lm.as_ref(), &params, &rows, &[place]).primal.to_data();
                let logits: Vec<f64> = logits.iter().collect();
                assert!(
                    logits.iter().all(|logit| *logit <= logits[*drawn as usize] + 1e-4),
                    "{model}, {i}: {drawn}"
                );
            }
        }
    }
}
