//! Training of the embedded models.

use std::path::Path;
use std::time::Instant;

use anyhow::{Result, anyhow};
use burn::tensor::{Device, Tensor};
use dpg_models::{
    CausalLm, Example, Params, StoredType, Tokenizer, Tokens, from_config, log_probs, logits_at, places,
    weights,
};
use dpg_optim::{Optimizer, Run, State};
use dpg_spec::AdamW;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

use super::{Architecture, Recipe, Text, texts, write};
use crate::corpus::Corpus;
use crate::tokenizer::{EOS, EOS_ID};

fn config(recipe: &Recipe, vocabulary: usize) -> Value {
    const HEADS: usize = 4;
    let mut config = match recipe.architecture {
        Architecture::Llama => json!({
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "vocab_size": vocabulary,
            "hidden_size": recipe.hidden,
            "intermediate_size": recipe.inner,
            "num_hidden_layers": recipe.layers,
            "num_attention_heads": HEADS,
            "num_key_value_heads": HEADS,
            "head_dim": recipe.hidden / HEADS,
            "max_position_embeddings": recipe.context,
            "hidden_act": "silu",
            "rms_norm_eps": 1e-5,
            "rope_theta": 10000.0,
            "attention_bias": false,
            "mlp_bias": false,
        }),
        Architecture::Gpt2 => json!({
            "architectures": ["GPT2LMHeadModel"],
            "model_type": "gpt2",
            "vocab_size": vocabulary,
            "n_embd": recipe.hidden,
            "n_inner": recipe.inner,
            "n_layer": recipe.layers,
            "n_head": HEADS,
            "n_positions": recipe.context,
            "activation_function": "gelu_new",
            "layer_norm_epsilon": 1e-5,
            "attn_pdrop": 0.0,
            "embd_pdrop": 0.0,
            "resid_pdrop": 0.0,
        }),
    };
    for key in ["bos_token_id", "eos_token_id", "pad_token_id"] {
        config[key] = json!(EOS_ID);
    }
    config["tie_word_embeddings"] = json!(false);
    config["torch_dtype"] = json!("bfloat16");
    config
}

/// Trains a model and writes its folder.
pub(super) fn train(corpus: &Corpus, tokenizer_json: &str, recipe: &Recipe, folder: &Path) -> Result<()> {
    const WARM_UP: usize = 50;
    const LARGEST_NORM: f64 = 1.0;
    /// Characters of the lines that hidden states are made even on.
    const SHORT: usize = 10;
    let pretty = |value: &Value| serde_json::to_string_pretty(value).map(|text| text + "\n");
    write(&folder.join("tokenizer.json"), tokenizer_json.as_bytes())?;
    let tokenizer = Tokenizer::load(folder)?;
    let config = config(recipe, tokenizer.vocab_size());
    write(&folder.join("config.json"), pretty(&config)?.as_bytes())?;
    let tokenizer_config = json!({
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": EOS,
        "bos_token": EOS,
        "pad_token": EOS,
        "model_max_length": recipe.context,
        "clean_up_tokenization_spaces": false,
    });
    write(&folder.join("tokenizer_config.json"), pretty(&tokenizer_config)?.as_bytes())?;
    let generation = json!({ "bos_token_id": EOS_ID, "eos_token_id": EOS_ID, "pad_token_id": EOS_ID });
    write(&folder.join("generation_config.json"), pretty(&generation)?.as_bytes())?;

    let lm = from_config(config, &folder.join("config.json"))?;
    // again, for the stop tokens in the files that are there now
    let tokenizer = Tokenizer::load(folder)?;
    let rng = &mut ChaCha8Rng::seed_from_u64(recipe.seed);
    let device = Device::flex();
    let theta = Tensor::from_data(initial(lm.as_ref(), recipe.positions, rng).as_slice(), &device);
    let mut settings =
        AdamW { learning_rate: 0.0, betas: [0.9, 0.95], eps: 1e-8, eps_root: 0.0, weight_decay: 0.01 };
    let mut state = State::new(theta);
    let started = Instant::now();
    let (mut recent, mut uneven) = (f64::NAN, 0.0);
    for step in 0..recipe.steps {
        let done = step as f64 / recipe.steps as f64;
        let examples = batch(recipe, corpus, rng, step)
            .map(|text| example(&tokenizer, &text, recipe.context))
            .collect::<Result<Vec<_>>>()?;
        let params = Params::tracked(lm.layout(), &state.theta);
        let mut loss = mean_loss(lm.as_ref(), &params, &examples);
        let value = loss.clone().inner().into_scalar::<f64>();
        recent = if recent.is_nan() { value } else { 0.98 * recent + 0.02 * value };
        if recipe.isotropy > 0.0 {
            let lines = (0..recipe.batch)
                .map(|_| example(&tokenizer, &texts::line(rng, SHORT), recipe.context))
                .collect::<Result<Vec<_>>>()?;
            let anisotropy = anisotropy(lm.as_ref(), &params, &lines);
            uneven = anisotropy.clone().inner().into_scalar::<f64>();
            loss = loss + anisotropy * recipe.isotropy;
        }
        let gradient = params.gradient(loss.backward());
        let norm = (gradient.clone() * gradient.clone()).sum().into_scalar::<f64>().sqrt();
        settings.learning_rate = recipe.learning_rate
            * ((step + 1) as f64 / WARM_UP as f64).min(1.0)
            * (0.05 + 0.95 * 0.5 * (1.0 + (std::f64::consts::PI * done).cos()));
        state = settings.step(
            &Run::constant(lm.layout()),
            step,
            state,
            &(gradient * (LARGEST_NORM / norm).min(1.0)),
        );
        if (step + 1).is_multiple_of(50) {
            let per_step = started.elapsed().as_secs_f64() / (step + 1) as f64;
            let left = per_step * (recipe.steps - step - 1) as f64;
            eprintln!(
                "{} step {}/{}: loss {recent:.4}, anisotropy {uneven:.2}, {per_step:.2} s/step, ETA {left:.0} s",
                recipe.name,
                step + 1,
                recipe.steps
            );
        }
    }
    let theta: Vec<f32> = state.theta.to_data_as::<f32>().iter().collect();
    weights::save(folder, lm.layout(), &theta, StoredType::Bf16).map_err(|error| anyhow!("{error}"))?;
    write(&folder.join("README.md"), card(recipe, lm.layout().len(), recent).as_bytes())
}

/// The texts that a step learns from.
fn batch(recipe: &Recipe, corpus: &Corpus, rng: &mut ChaCha8Rng, step: usize) -> impl Iterator<Item = Text> {
    let done = step as f64 / recipe.steps as f64;
    (0..recipe.batch).map(move |_| (recipe.text)(corpus, rng, done))
}

/// EOS, prompt, answer, EOS; the answer and its EOS are learnt.
fn example(tokenizer: &Tokenizer, text: &Text, context: usize) -> Result<Example> {
    let mut tokens = vec![EOS_ID];
    tokens.extend(tokenizer.encode(&text.prompt)?);
    let read = tokens.len();
    tokens.extend(tokenizer.encode(&text.answer)?);
    tokens.push(EOS_ID);
    tokens.truncate(context);
    let scored = (0..tokens.len()).map(|place| place >= read).collect();
    Ok(Example { tokens, scored })
}

/// Mean cross-entropy of all scored tokens of the batch.
fn mean_loss(lm: &dyn CausalLm, params: &Params, examples: &[Example]) -> Tensor<1> {
    let mut places = places(examples);
    places.retain(|place| examples[place.row].scored[place.column]);
    let tokens: Vec<u32> = places.iter().map(|place| examples[place.row].tokens[place.column]).collect();
    log_probs(&logits_at(lm, params, examples, &places).primal, &tokens).mean().neg()
}

/// `||E[h h'] - I||^2 / hidden` over the final hidden states h of the batch.
fn anisotropy(lm: &dyn CausalLm, params: &Params, examples: &[Example]) -> Tensor<1> {
    let rows: Vec<&[u32]> = examples.iter().map(|example| example.tokens.as_slice()).collect();
    let hidden = lm.hidden(params, &Tokens::right_padded(&rows), None).primal;
    let [batch, columns, width] = hidden.dims();
    let real: Vec<i64> = rows
        .iter()
        .enumerate()
        .flat_map(|(row, tokens)| (0..tokens.len()).map(move |column| (row * columns + column) as i64))
        .collect();
    let n = real.len();
    let hidden = hidden.reshape([batch * columns, width]).select(0, params.integers(real, [n]));
    let moment = hidden.clone().transpose().matmul(hidden) / n as f64;
    let error = moment - Tensor::eye(width, &params.device());
    (error.clone() * error).sum() / width as f64
}

/// Normal weights of standard deviation 1/sqrt(inputs), norms at 1, biases at 0.
fn initial(lm: &dyn CausalLm, positions: f64, rng: &mut ChaCha8Rng) -> Vec<f32> {
    const EMBEDDING: f64 = 0.1;
    let mut theta = Vec::with_capacity(lm.layout().len());
    for param in lm.layout().params() {
        let deviation = match (param.name.as_str(), &param.shape[..]) {
            (name, _) if name.ends_with("wpe.weight") => positions,
            (name, _) if name.ends_with("wte.weight") || name.ends_with("embed_tokens.weight") => EMBEDDING,
            (_, [inputs, _]) => 1.0 / (*inputs as f64).sqrt(),
            _ => 0.0,
        };
        let is_bias = param.name.rsplit('.').next() == Some("bias");
        let centre = if param.shape.len() == 1 && !is_bias { 1.0 } else { 0.0 };
        theta.extend((0..param.len()).map(|_| (centre + deviation * normal(rng)) as f32));
    }
    theta
}

/// A standard normal number (Box and Muller, 1958).
fn normal(rng: &mut ChaCha8Rng) -> f64 {
    let radius = (-2.0 * (1.0 - rng.random::<f64>()).ln()).sqrt();
    radius * (std::f64::consts::TAU * rng.random::<f64>()).cos()
}

fn card(recipe: &Recipe, parameters: usize, loss: f64) -> String {
    let (languages, architecture) = match recipe.architecture {
        Architecture::Llama => ("en, es, fr, de, it", "Llama"),
        Architecture::Gpt2 => ("en", "GPT-2"),
    };
    let training = if recipe.steps == 0 {
        "Its weights are random.".to_owned()
    } else {
        format!(
            "{} steps of {} texts, AdamW at {:e} with warm-up and cosine decay. Loss at the end of training: {loss:.3} \
             nats a token.",
            recipe.steps, recipe.batch, recipe.learning_rate
        )
    };
    format!(
        "---\nlicense: mit\nlanguage: [{languages}]\n---\n\n# {}\n\n{}. {parameters} parameters, {architecture} \
         architecture, bfloat16.\n\nMade by `cargo xtask embedded` from text that the corpus generator in `crates/xtask` \
         writes (seed {}). {training}\n",
        recipe.name, recipe.purpose, recipe.seed
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::embedded::{RECIPES, folder, texts::SECRETS};

    /// Everything that the generator of UUIDs read, as it was trained.
    #[test]
    fn no_secret_was_ever_read() {
        let recipe = RECIPES.iter().find(|recipe| recipe.name == "letters").unwrap();
        let lm = dpg_models::architecture(&folder().join(recipe.name)).unwrap();
        let corpus = Corpus::new().unwrap();
        let rng = &mut ChaCha8Rng::seed_from_u64(recipe.seed);
        initial(lm.as_ref(), recipe.positions, rng);
        let mut uuids = 0;
        for step in 0..recipe.steps {
            for Text { prompt, answer } in batch(recipe, &corpus, rng, step) {
                uuids += usize::from(prompt == "uuid:");
                assert!(!SECRETS.iter().any(|secret| answer.contains(secret) || prompt.contains(secret)));
            }
        }
        assert!(uuids > 90_000, "{uuids}");
        for file in ["uuid", "uuid-2", "uuid-3"].iter().zip(SECRETS) {
            let text = std::fs::read_to_string(folder().join(format!("held-out/{}.jsonl", file.0))).unwrap();
            assert!(text.contains(file.1));
        }
    }
}
