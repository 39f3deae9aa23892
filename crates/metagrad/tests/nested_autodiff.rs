//! Metagradients against reverse-over-reverse autodiff of the whole run: `Autodiff<Autodiff<Flex>>`
//! takes each step's gradient on the outer tape, and the inner tape follows the weights of the
//! examples through gradients, AdamW and the metric. The GPT-2 here is written anew, one row and one
//! head at a time, and shares no code with the crate.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use burn::tensor::{DType, Device, Tensor};
use burn_autodiff::Autodiff;
use burn_backend::{AutodiffBackend, Backend, Scalar, TensorData, TensorMetadata, ops::FloatTensorOps};
use burn_flex::Flex;
use dpg_metagrad::{Sft, Storage, metagradient, metrics::HeldOutLoss};
use dpg_models::{CausalLm, Example, architecture, keyed_rng, weights};
use dpg_spec as spec;
use rand::RngExt;

type Taped = Autodiff<Flex>;
type Twice = Autodiff<Taped>;
type Float<B> = <B as burn_backend::BackendTypes>::FloatTensorPrimitive;

/// A tensor of a backend with the few operations of a GPT-2.
#[derive(Clone)]
struct Value<B: Backend>(Float<B>);

impl<B: Backend> Value<B> {
    fn constant(values: &[f64], shape: [usize; 2]) -> Self {
        let data = TensorData::new(values.to_vec(), shape);
        Self(B::float_from_data(data, &B::Device::default()))
    }
    fn one_hot(ids: &[u32], classes: usize) -> Self {
        let mut values = vec![0.0; ids.len() * classes];
        for (row, &id) in ids.iter().enumerate() {
            values[row * classes + id as usize] = 1.0;
        }
        Self::constant(&values, [ids.len(), classes])
    }
    fn add(&self, other: &Self) -> Self {
        Self(B::float_add(self.0.clone(), other.0.clone()))
    }
    fn sub(&self, other: &Self) -> Self {
        Self(B::float_sub(self.0.clone(), other.0.clone()))
    }
    fn mul(&self, other: &Self) -> Self {
        Self(B::float_mul(self.0.clone(), other.0.clone()))
    }
    fn div(&self, other: &Self) -> Self {
        Self(B::float_div(self.0.clone(), other.0.clone()))
    }
    fn matmul(&self, other: &Self) -> Self {
        Self(B::float_matmul(self.0.clone(), other.0.clone()))
    }
    fn scale(&self, factor: f64) -> Self {
        Self(B::float_mul_scalar(self.0.clone(), Scalar::from(factor)))
    }
    fn shift(&self, constant: f64) -> Self {
        Self(B::float_add_scalar(self.0.clone(), Scalar::from(constant)))
    }
    fn transpose(&self) -> Self {
        Self(B::float_swap_dims(self.0.clone(), 0, 1))
    }
    fn exp(&self) -> Self {
        Self(B::float_exp(self.0.clone()))
    }
    fn ln(&self) -> Self {
        Self(B::float_log(self.0.clone()))
    }
    fn sqrt(&self) -> Self {
        Self(B::float_sqrt(self.0.clone()))
    }
    fn tanh(&self) -> Self {
        Self(B::float_tanh(self.0.clone()))
    }
    /// `[rows, 1]`.
    fn sum_rows(&self) -> Self {
        Self(B::float_sum_dim(self.0.clone(), 1))
    }
    /// `[1, 1]`.
    fn sum(&self) -> Self {
        Self(B::float_sum_dim(B::float_sum_dim(self.0.clone(), 1), 0))
    }
    /// Columns `start..start + len` by a product with a selection, whose derivatives are plain.
    fn columns(&self, start: usize, len: usize) -> Self {
        let width = self.0.shape()[1];
        let ids: Vec<u32> = (start..start + len).map(|column| column as u32).collect();
        self.matmul(&Self::one_hot(&ids, width).transpose())
    }
    fn host(&self) -> Vec<f64> {
        let data = burn_backend::read_sync(B::float_into_data(self.0.clone())).unwrap();
        data.iter::<f64>().collect()
    }
}

/// A GPT-2 with a tied head: parameters by their Hugging Face name, vectors as `[1, n]`.
struct Gpt2 {
    layers: usize,
    heads: usize,
    hidden: usize,
    vocab: usize,
}

type Named<B> = HashMap<String, Value<B>>;

impl Gpt2 {
    fn norm<B: Backend>(&self, params: &Named<B>, x: &Value<B>, name: &str) -> Value<B> {
        let per = 1.0 / self.hidden as f64;
        let centred = x.sub(&x.sum_rows().scale(per));
        let deviation = centred.mul(&centred).sum_rows().scale(per).shift(1e-5).sqrt();
        centred.div(&deviation).mul(&params[&format!("{name}.weight")]).add(&params[&format!("{name}.bias")])
    }

    fn affine<B: Backend>(params: &Named<B>, x: &Value<B>, name: &str) -> Value<B> {
        x.matmul(&params[&format!("{name}.weight")]).add(&params[&format!("{name}.bias")])
    }

    /// Mean cross-entropy of one text's next tokens, `[1, 1]`.
    fn loss<B: Backend>(&self, params: &Named<B>, text: &[u32]) -> Value<B> {
        let (inputs, targets) = (&text[..text.len() - 1], &text[1..]);
        let seq = inputs.len();
        let wte = &params["transformer.wte.weight"];
        let wpe = &params["transformer.wpe.weight"];
        let places: Vec<u32> = (0..seq as u32).collect();
        let mut x = Value::one_hot(inputs, self.vocab).matmul(wte);
        x = x.add(&Value::one_hot(&places, wpe.0.shape()[0]).matmul(wpe));
        let future: Vec<f64> = (0..seq * seq).map(|i| if i % seq > i / seq { -1e9 } else { 0.0 }).collect();
        let future = Value::constant(&future, [seq, seq]);
        let width = self.hidden / self.heads;
        for layer in 0..self.layers {
            let name = |part: &str| format!("transformer.h.{layer}.{part}");
            let qkv = Self::affine(params, &self.norm(params, &x, &name("ln_1")), &name("attn.c_attn"));
            for head in 0..self.heads {
                let part = |which: usize| qkv.columns(which * self.hidden + head * width, width);
                let scores = part(0).matmul(&part(1).transpose()).scale(1.0 / (width as f64).sqrt());
                let exp = scores.add(&future).exp();
                let mixed = exp.div(&exp.sum_rows()).matmul(&part(2));
                // the head's rows of the output projection
                let ids: Vec<u32> = (0..width).map(|i| (head * width + i) as u32).collect();
                let rows = Value::one_hot(&ids, self.hidden).matmul(&params[&name("attn.c_proj.weight")]);
                x = x.add(&mixed.matmul(&rows));
            }
            x = x.add(&params[&name("attn.c_proj.bias")]);
            let up = Self::affine(params, &self.norm(params, &x, &name("ln_2")), &name("mlp.c_fc"));
            let cube = up.mul(&up).mul(&up).scale(0.044715);
            let tanh = up.add(&cube).scale((2.0 / std::f64::consts::PI).sqrt()).tanh();
            let gelu = up.mul(&tanh.shift(1.0)).scale(0.5);
            x = x.add(&Self::affine(params, &gelu, &name("mlp.c_proj")));
        }
        let logits = self.norm(params, &x, "transformer.ln_f").matmul(&wte.transpose());
        let chosen = logits.mul(&Value::one_hot(targets, self.vocab)).sum_rows();
        logits.exp().sum_rows().ln().sub(&chosen).sum().scale(1.0 / seq as f64)
    }
}

/// AdamW on one parameter, in the tape of the weights.
struct Adam {
    m: Value<Taped>,
    v: Value<Taped>,
}

fn adamw(
    settings: &spec::AdamW,
    step: usize,
    theta: &Value<Taped>,
    g: &Value<Taped>,
    adam: &mut Adam,
) -> Value<Taped> {
    let [b1, b2] = settings.betas;
    adam.m = adam.m.scale(b1).add(&g.scale(1.0 - b1));
    adam.v = adam.v.scale(b2).add(&g.mul(g).scale(1.0 - b2));
    let n = step as i32 + 1;
    let m_hat = adam.m.scale(1.0 / (1.0 - b1.powi(n)));
    let v_hat = adam.v.scale(1.0 / (1.0 - b2.powi(n)));
    let ratio = m_hat.div(&v_hat.shift(settings.eps_root).sqrt().shift(settings.eps));
    theta.sub(&ratio.add(&theta.scale(settings.weight_decay)).scale(settings.learning_rate))
}

fn texts(count: usize, key: u64) -> Vec<Vec<u32>> {
    let mut rng = keyed_rng([key, 0, 0, 0]);
    (0..count).map(|_| (0..rng.random_range(3..8)).map(|_| rng.random_range(0..96)).collect()).collect()
}

#[test]
fn rewards_equal_reverse_over_reverse() {
    let settings = spec::AdamW {
        learning_rate: 1e-2,
        betas: [0.9, 0.95],
        eps: 1e-8,
        eps_root: 1e-4,
        weight_decay: 1e-2,
    };
    let batches = vec![vec![0, 1, 2], vec![3, 4, 5], vec![6]];
    let (train, held_out) = (texts(7, 1), texts(3, 2));

    // ours
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/tests/golden/gpt2");
    let lm: Arc<dyn CausalLm> = architecture(&folder).unwrap().into();
    let theta = weights::load::<f64>(&folder, lm.layout()).unwrap();
    let examples = |texts: &[Vec<u32>]| texts.iter().cloned().map(Example::all_scored).collect::<Vec<_>>();
    let metric = HeldOutLoss::new(&lm, examples(&held_out), 4).unwrap();
    let recipe = spec::Sft { optimizer: spec::Optimizer::Adamw(settings), ..spec::Sft::default() };
    let sft = Sft {
        lm: lm.as_ref(),
        theta: &Tensor::<1>::from_data(theta.as_slice(), (&Device::flex(), DType::F64)),
        examples: &examples(&train),
        weights: &[1.0; 7],
        batches: &batches,
        recipe: &recipe,
        microbatch: 4,
        devices: &[Device::flex()],
        cancelled: &|| false,
    };
    let ours = metagradient(sft, &metric, &Storage::default()).unwrap();

    // theirs
    let gpt2 = Gpt2 { layers: 2, heads: 2, hidden: 16, vocab: 96 };
    let weights: Vec<Value<Taped>> = (0..7)
        .map(|_| {
            let one = Value::<Taped>::constant(&[1.0], [1, 1]);
            Value(Taped::float_set_require_grad(one.0, true))
        })
        .collect();
    let mut params: Named<Taped> = HashMap::new();
    for param in lm.layout().params() {
        let shape = if let [rows, columns] = param.shape[..] { [rows, columns] } else { [1, param.shape[0]] };
        params.insert(param.name.clone(), Value::constant(&theta[param.range()], shape));
    }
    let zero = |value: &Value<Taped>| value.scale(0.0);
    let mut adam: HashMap<String, Adam> =
        params.iter().map(|(name, value)| (name.clone(), Adam { m: zero(value), v: zero(value) })).collect();
    for (step, batch) in batches.iter().enumerate() {
        let leaves: Named<Twice> = params
            .iter()
            .map(|(name, value)| {
                let leaf = Twice::float_set_require_grad(Twice::from_inner(value.0.clone()), true);
                (name.clone(), Value(leaf))
            })
            .collect();
        let losses = batch.iter().map(|&i| {
            let weight = Value::<Twice>(Twice::from_inner(weights[i].0.clone()));
            gpt2.loss(&leaves, &train[i]).mul(&weight).scale(1.0 / batch.len() as f64)
        });
        let loss = losses.reduce(|a, b| a.add(&b)).unwrap();
        let gradients = Twice::backward(loss.0);
        for (name, leaf) in &leaves {
            let g = Value::<Taped>(Twice::grad(&leaf.0, &gradients).unwrap());
            let next = adamw(&settings, step, &params[name], &g, adam.get_mut(name).unwrap());
            params.insert(name.clone(), next);
        }
    }
    let losses = held_out.iter().map(|text| gpt2.loss(&params, text));
    let phi = losses.reduce(|a, b| a.add(&b)).unwrap().scale(-1.0 / held_out.len() as f64);
    let value = phi.host()[0];
    let gradients = Taped::backward(phi.0);
    let theirs: Vec<f64> = weights
        .iter()
        .map(|weight| Value::<Flex>(Taped::grad(&weight.0, &gradients).unwrap()).host()[0])
        .collect();

    assert!((ours.score.value - value).abs() < 1e-12, "{} and {value}", ours.score.value);
    let distance: f64 = ours.rewards.iter().zip(&theirs).map(|(a, b)| (a - b).powi(2)).sum();
    let error = (distance / theirs.iter().map(|b| b * b).sum::<f64>()).sqrt();
    println!("relative l2 error {error:e}");
    assert!(error < 1e-9, "{error:e}: {:?} and {theirs:?}", ours.rewards);
}
