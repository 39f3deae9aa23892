//! A pass keeps for its way back about as much as is said of it, by which microbatches and `dpg plan` go. The
//! allocator counts, so that this is the only test of its program.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use burn::tensor::{DType, Device, Tensor, TensorData};
use dpg_models::{Params, Predictions, Trace, activations, from_config, places, traced};

struct Counting;

static LIVE: AtomicUsize = AtomicUsize::new(0);

#[expect(unsafe_code, reason = "an allocator is unsafe by its interface")]
// SAFETY: the system's allocator does the work
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LIVE.fetch_add(layout.size(), Ordering::Relaxed);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn a_pass_keeps_what_is_said_of_it() {
    const TOKENS: usize = 64;
    let gpt2 = serde_json::json!({
        "model_type": "gpt2", "vocab_size": 32, "n_positions": TOKENS, "n_embd": 64, "n_layer": 3, "n_head": 4,
    });
    let llama = serde_json::json!({
        "model_type": "llama", "vocab_size": 32, "max_position_embeddings": TOKENS, "hidden_size": 64,
        "intermediate_size": 192, "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2,
        "rms_norm_eps": 1e-5, "tie_word_embeddings": true,
    });
    for config in [gpt2, llama] {
        let kind = config["model_type"].to_string();
        let lm = from_config(config, Path::new("test")).unwrap();
        let vector = |key: usize| {
            let values: Vec<f32> = (0..lm.layout().len()).map(|i| ((i * key) % 17) as f32 / 170.0).collect();
            Tensor::<1>::from_data(
                TensorData::new(values, [lm.layout().len()]),
                (&Device::flex(), DType::F32),
            )
        };
        let rows: Vec<Vec<u32>> =
            (0..8).map(|row| (0..TOKENS as u32).map(|token| (token + row) % 32).collect()).collect();
        let (theta, direction) = (vector(7), vector(5));
        let told = 4 * activations(lm.as_ref()) * rows.len() * (TOKENS - 1);
        for with_tangent in [false, true] {
            let params = Params::tracked(lm.layout(), &theta);
            let params = if with_tangent { params.with_tangent(lm.layout(), &direction) } else { params };
            let places = places(&rows);
            let weights = vec![1.0; places.len()];
            let pass = || Predictions::at(lm.as_ref(), &params, &rows, &places).weighed(&weights);
            // the first pass leaves what threads work with
            drop(pass());
            let before = LIVE.load(Ordering::Relaxed);
            let found = pass();
            let kept = LIVE.load(Ordering::Relaxed) - before;
            let told = if with_tangent { told } else { told / 2 };
            let ratio = kept as f64 / told as f64;
            assert!(
                (0.9..1.2).contains(&ratio),
                "{kind}, tangents {with_tangent}: {kept} bytes, {told} told"
            );
            drop(found);
        }
        // and of the way back, what is said of a trace
        let trace = || {
            let trace = Arc::new(Trace::default());
            let params = Params::tracked(lm.layout(), &theta).traced(&trace);
            let weights = vec![1.0; rows.len() * (TOKENS - 1)];
            let pass = Predictions::at(lm.as_ref(), &params, &rows, &places(&rows));
            drop(pass.weighed(&weights).1.backward());
            trace
        };
        drop(trace());
        let before = LIVE.load(Ordering::Relaxed);
        let found = trace();
        let kept = LIVE.load(Ordering::Relaxed) - before;
        let told = 4 * traced(lm.as_ref()) * rows.len() * (TOKENS - 1);
        let ratio = kept as f64 / told as f64;
        assert!((0.9..1.2).contains(&ratio), "{kind}, a trace: {kept} bytes, {told} told");
        drop(found);
    }
}
