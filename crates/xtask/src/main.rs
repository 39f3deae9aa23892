//! Repository chores: `cargo xtask CHORE`.

mod bench;
mod corpus;
mod embedded;
mod emulated;
mod experiments;
mod gpu;
mod memory;
mod tokenizer;

use anyhow::Result;
use clap::{Parser, Subcommand};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use corpus::{Corpus, Language, Split, random_line, random_uuid};

/// Repository chores.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Make the embedded models, prompts and held-out texts; takes some minutes.
    Embedded {
        /// Train only this model.
        #[arg(long)]
        only: Option<String>,
    },
    /// Measure the engine beside its limits and its peers.
    Bench(bench::Arguments),
    /// Run the paper's experiments, ablations and baselines, and report them.
    Experiments(experiments::Arguments),
    /// Make a folder that conforms and measures on a machine with a GPU.
    Gpu(gpu::Arguments),
    /// Check the backends of GPUs, emulated, and count what they do.
    Emulated(emulated::Arguments),
    /// Run a metagradient in bounded memory and measure its peak.
    Memory(memory::Arguments),
    /// Print samples of the corpus as JSON lines.
    Sample {
        /// Samples of each language.
        #[arg(default_value_t = 3)]
        count: usize,
    },
}

#[global_allocator]
static ALLOCATOR: dpg_models::Allocator = dpg_models::Allocator;

fn main() -> Result<()> {
    dpg_models::keep_freed_memory();
    match Arguments::parse().chore {
        Chore::Embedded { only } => embedded::embedded(&embedded::folder(), only.as_deref()),
        Chore::Bench(arguments) => bench::bench(&arguments),
        Chore::Experiments(arguments) => experiments::experiments(&arguments),
        Chore::Gpu(arguments) => gpu::gpu(&arguments),
        Chore::Emulated(arguments) => emulated::emulated(&arguments),
        Chore::Memory(arguments) => {
            memory::memory(&arguments);
            Ok(())
        }
        Chore::Sample { count } => sample(count),
    }
}

fn sample(count: usize) -> Result<()> {
    let corpus = Corpus::new()?;
    let rng = &mut ChaCha8Rng::seed_from_u64(0);
    for language in Language::ALL {
        for _ in 0..count {
            let pair = corpus.rephrased(rng, language, Split::Train);
            let line = serde_json::json!({
                "language": language.code(),
                "text": corpus.article(rng, language, Split::Train),
                "held_out": corpus.article(rng, language, Split::HeldOut),
                "article": pair.article,
                "rephrasing": pair.rephrasing,
            });
            println!("{line}");
        }
    }
    println!("{} {}", random_uuid(rng), random_line(rng, &['a', 'b'], 8));
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::error::ErrorKind;

    use super::*;

    #[test]
    fn chores_that_pages_name_exist() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let mut tried = 0;
        for page in ["README.md", "config/README.md", "benches/README.md", "deploy/cuda/README.md"] {
            let text = std::fs::read_to_string(folder.join(page)).unwrap();
            for span in text.split("cargo xtask ").skip(1) {
                let words = span.split(['`', '\n', '#', ')']).next().unwrap_or("").split_whitespace();
                let parsed = Arguments::try_parse_from(std::iter::once("xtask").chain(words));
                // prose leaves out what must be given
                let wrong = parsed.err().filter(|error| error.kind() != ErrorKind::MissingRequiredArgument);
                assert!(wrong.is_none(), "{page}: {}", wrong.unwrap());
                tried += 1;
            }
        }
        assert!(tried >= 5, "{tried} chores");
    }
}
