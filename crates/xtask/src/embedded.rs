//! `cargo xtask embedded`: makes the models and texts under config/embedded/ from the corpus.
//!
//! Everything is a function of the seeds below. The generator learns to rephrase English articles:
//! first in all five languages alike, so that it is fluent in each, then more and more in English
//! alone, so that a policy has something to find. The target learns plain text of all five.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, anyhow};
use burn::tensor::{Device, Tensor};
use dpg_metagrad::{Optimizer, State};
use dpg_models::{
    CausalLm, Example, Params, Precision, Tokenizer, from_config, log_probs_at, places, weights,
};
use dpg_spec::AdamW;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

use crate::corpus::{Corpus, Language, Split};
use crate::tokenizer::{EOS, EOS_ID, train_tokenizer};

const PROMPTS: usize = 1500;
const HELD_OUT: usize = 64;
const VOCABULARY: usize = 4096;
const CONTEXT: usize = 256;

/// Share of each language other than English in what the generator answers, until the first and
/// from the second of `TURN` of its training on.
const MINOR_SHARE: [f64; 2] = [0.2, 0.03];
const TURN: [f64; 2] = [0.5, 0.9];
/// The same in what the target reads.
const TARGET_MINOR_SHARE: f64 = 0.1;

/// A model to be trained.
struct Recipe {
    name: &'static str,
    purpose: &'static str,
    hidden: usize,
    inner: usize,
    seed: u64,
    steps: usize,
    batch: usize,
    learning_rate: f64,
    text: fn(&Corpus, &mut ChaCha8Rng, f64) -> Text,
}

/// A text to learn from: its prompt is read, its answer is learnt.
struct Text {
    prompt: String,
    answer: String,
}

const RECIPES: [Recipe; 2] = [
    Recipe {
        name: "generator",
        purpose: "rephrases short English articles",
        hidden: 96,
        inner: 256,
        seed: 1,
        steps: 5000,
        batch: 32,
        learning_rate: 4e-3,
        text: instruction,
    },
    Recipe {
        name: "target",
        purpose: "a plain language model of five languages, to be fine-tuned",
        hidden: 64,
        inner: 176,
        seed: 2,
        steps: 1500,
        batch: 48,
        learning_rate: 5e-3,
        text: plain,
    },
];

/// The prompt of an article, as config/specs/ write it.
fn prompt(article: &str) -> String {
    format!("Rephrase the article.\n{article}\n")
}

fn language(rng: &mut ChaCha8Rng, minor_share: f64) -> Language {
    let draw = (rng.random::<f64>() / minor_share) as usize;
    *Language::ALL.get(draw + 1).unwrap_or(&Language::English)
}

/// `done` is the share of the training that is over.
fn instruction(corpus: &Corpus, rng: &mut ChaCha8Rng, done: f64) -> Text {
    let [first, last] = MINOR_SHARE;
    let turned = ((done - TURN[0]) / (TURN[1] - TURN[0])).clamp(0.0, 1.0);
    let share = first + (last - first) * turned;
    let language = language(rng, share);
    let pair = corpus.rephrased(rng, language, Split::Train);
    Text { prompt: prompt(&pair.article), answer: pair.rephrasing }
}

fn plain(corpus: &Corpus, rng: &mut ChaCha8Rng, _done: f64) -> Text {
    let language = language(rng, TARGET_MINOR_SHARE);
    Text { prompt: String::new(), answer: corpus.article(rng, language, Split::Train) }
}

/// Makes everything, or only the model named.
pub(crate) fn embedded(root: &Path, only: Option<&str>) -> Result<()> {
    let corpus = Corpus::new()?;
    texts(&corpus, root)?;
    let tokenizer = tokenizer_json(&corpus)?;
    for recipe in RECIPES.iter().filter(|recipe| only.is_none_or(|only| only == recipe.name)) {
        train(&corpus, &tokenizer, recipe, &root.join(recipe.name))?;
    }
    Ok(())
}

/// Prompts and held-out texts as JSONL.
fn texts(corpus: &Corpus, root: &Path) -> Result<()> {
    let rng = &mut ChaCha8Rng::seed_from_u64(3);
    let articles = (0..PROMPTS).map(|_| corpus.rephrased(rng, Language::English, Split::HeldOut).article);
    let articles: Vec<String> = articles.collect();
    write_jsonl(&root.join("prompts/articles.jsonl"), &articles)?;
    for language in Language::ALL {
        let texts: Vec<String> =
            (0..HELD_OUT).map(|_| corpus.article(rng, language, Split::HeldOut)).collect();
        write_jsonl(&root.join(format!("held-out/{}.jsonl", language.code())), &texts)?;
    }
    Ok(())
}

fn write_jsonl(path: &Path, texts: &[String]) -> Result<()> {
    let lines: String = texts.iter().map(|text| json!({ "text": text }).to_string() + "\n").collect();
    write(path, lines.as_bytes())
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(path, bytes).with_context(|| format!("cannot write `{}`", path.display()))
}

/// One tokenizer for both models: byte-level BPE of all five languages in equal parts.
fn tokenizer_json(corpus: &Corpus) -> Result<String> {
    const TEXTS: usize = 20_000;
    let rng = &mut ChaCha8Rng::seed_from_u64(4);
    let mut texts = vec![prompt("")];
    for _ in 0..TEXTS {
        let language = Language::ALL[rng.random_range(0..Language::ALL.len())];
        texts.push(corpus.article(rng, language, Split::Train));
    }
    train_tokenizer(&texts, VOCABULARY)
}

fn config(recipe: &Recipe) -> Value {
    json!({
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": VOCABULARY,
        "hidden_size": recipe.hidden,
        "intermediate_size": recipe.inner,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "head_dim": recipe.hidden / 4,
        "max_position_embeddings": CONTEXT,
        "hidden_act": "silu",
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "attention_bias": false,
        "mlp_bias": false,
        "tie_word_embeddings": false,
        "bos_token_id": EOS_ID,
        "eos_token_id": EOS_ID,
        "pad_token_id": EOS_ID,
        "torch_dtype": "bfloat16",
    })
}

fn train(corpus: &Corpus, tokenizer_json: &str, recipe: &Recipe, folder: &Path) -> Result<()> {
    const WARM_UP: usize = 50;
    const LARGEST_NORM: f64 = 1.0;
    let pretty = |value: &Value| serde_json::to_string_pretty(value).map(|text| text + "\n");
    write(&folder.join("tokenizer.json"), tokenizer_json.as_bytes())?;
    write(&folder.join("config.json"), pretty(&config(recipe))?.as_bytes())?;
    let tokenizer_config = json!({
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": EOS,
        "bos_token": EOS,
        "pad_token": EOS,
        "model_max_length": CONTEXT,
        "clean_up_tokenization_spaces": false,
    });
    write(&folder.join("tokenizer_config.json"), pretty(&tokenizer_config)?.as_bytes())?;
    let generation = json!({ "bos_token_id": EOS_ID, "eos_token_id": EOS_ID, "pad_token_id": EOS_ID });
    write(&folder.join("generation_config.json"), pretty(&generation)?.as_bytes())?;

    let lm = from_config(config(recipe), &folder.join("config.json"))?;
    let tokenizer = Tokenizer::load(folder)?;
    let rng = &mut ChaCha8Rng::seed_from_u64(recipe.seed);
    let device = Device::flex();
    let theta = Tensor::from_data(initial(lm.as_ref(), rng).as_slice(), &device);
    let mut settings =
        AdamW { learning_rate: 0.0, betas: [0.9, 0.95], eps: 1e-8, eps_root: 0.0, weight_decay: 0.01 };
    let mut state = State::new(theta, &settings);
    let started = Instant::now();
    let mut recent = f64::NAN;
    for step in 0..recipe.steps {
        let done = step as f64 / recipe.steps as f64;
        let examples = (0..recipe.batch)
            .map(|_| example(&tokenizer, &(recipe.text)(corpus, rng, done)))
            .collect::<Result<Vec<_>>>()?;
        let params = Params::tracked(lm.layout(), &state.theta);
        let loss = mean_loss(lm.as_ref(), &params, &examples);
        let value = loss.clone().inner().into_scalar::<f64>();
        recent = if recent.is_nan() { value } else { 0.98 * recent + 0.02 * value };
        let gradient = params.gradient(&loss.backward());
        let norm = (gradient.clone() * gradient.clone()).sum().into_scalar::<f64>().sqrt();
        settings.learning_rate = recipe.learning_rate
            * ((step + 1) as f64 / WARM_UP as f64).min(1.0)
            * (0.05 + 0.95 * 0.5 * (1.0 + (std::f64::consts::PI * done).cos()));
        state = settings.step(step, &state, &(gradient * (LARGEST_NORM / norm).min(1.0)));
        if (step + 1).is_multiple_of(50) {
            let per_step = started.elapsed().as_secs_f64() / (step + 1) as f64;
            let left = per_step * (recipe.steps - step - 1) as f64;
            eprintln!(
                "{} step {}/{}: loss {recent:.4}, {per_step:.2} s/step, ETA {left:.0} s",
                recipe.name,
                step + 1,
                recipe.steps
            );
        }
    }
    let theta: Vec<f32> = state.theta.to_data_as::<f32>().iter().collect();
    weights::save(folder, lm.layout(), &theta, Precision::Bf16).map_err(|error| anyhow!("{error}"))?;
    write(&folder.join("README.md"), card(recipe, lm.layout().len(), recent).as_bytes())
}

/// EOS, prompt, answer, EOS; the answer and its EOS are learnt.
fn example(tokenizer: &Tokenizer, text: &Text) -> Result<Example> {
    let mut tokens = vec![EOS_ID];
    tokens.extend(tokenizer.encode(&text.prompt)?);
    let read = tokens.len();
    tokens.extend(tokenizer.encode(&text.answer)?);
    tokens.push(EOS_ID);
    tokens.truncate(CONTEXT);
    let scored = (0..tokens.len()).map(|place| place >= read).collect();
    Ok(Example { tokens, scored })
}

/// Mean cross-entropy of all scored tokens of the batch.
fn mean_loss(lm: &dyn CausalLm, params: &Params, examples: &[Example]) -> Tensor<1> {
    let mut places = places(examples);
    places.retain(|place| examples[place.row].scored[place.column]);
    log_probs_at(lm, params, examples, &places).primal.mean().neg()
}

/// Normal weights of standard deviation 1/sqrt(inputs), norms at 1.
fn initial(lm: &dyn CausalLm, rng: &mut ChaCha8Rng) -> Vec<f32> {
    const EMBEDDING: f64 = 0.1;
    let mut theta = Vec::with_capacity(lm.layout().len());
    for param in lm.layout().params() {
        let deviation = match param.shape[..] {
            [inputs, _] if param.transposed => 1.0 / (inputs as f64).sqrt(),
            [_, _] => EMBEDDING,
            _ => 0.0,
        };
        let centre = if param.shape.len() == 1 { 1.0 } else { 0.0 };
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
    format!(
        "---\nlicense: mit\nlanguage: [en, es, fr, de, it]\n---\n\n# {name}\n\n{purpose}. {parameters} parameters, Llama \
         architecture, bfloat16.\n\nTrained by `cargo xtask embedded` on text that the corpus generator in `crates/xtask` \
         writes (seed {seed}): {steps} steps of {batch} texts, AdamW at {lr:e} with warm-up and cosine decay. Loss at the \
         end of training: {loss:.3} nats a token.\n",
        name = recipe.name,
        purpose = recipe.purpose,
        seed = recipe.seed,
        steps = recipe.steps,
        batch = recipe.batch,
        lr = recipe.learning_rate,
    )
}

/// The folder of embedded models in this repository.
pub(crate) fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../config/embedded")
}
