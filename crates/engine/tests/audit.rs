//! An audit finds exact rewards exact, on metrics of weights, through several
//! steps, and passes over what cannot be trained on.

use std::path::Path;

use burn::tensor::{DType, Device};
use dpg_dataset::Example;
use dpg_engine::{Audit, Extent, Problem, Statistic};
use dpg_spec::{Spec, Syntax};

const SPEC: &str = r#"
name = "audited"
[target]
model = "EMBEDDED/letters-target"
[target.sft]
optimizer = { kind = "adamw", learning_rate = 1e-4, eps_root = 1e-2 }
batch_size = 16
sequence_length = 16
append_eos = false
[metric]
METRIC
"#;

fn audited(metric: &str) -> Audit {
    let embedded = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../config/embedded");
    let spec = SPEC.replace("METRIC", metric).replace("EMBEDDED", &embedded.to_string_lossy());
    let spec = Spec::parse(&spec, Syntax::Toml).unwrap();
    let problem = Problem::to_score(&spec, DType::F64, &[Device::flex()]).unwrap();
    let mut examples: Vec<_> = (0..48_u32)
        .map(|number| {
            let letter = |place: u32| char::from(b'a' + (number.wrapping_mul(7919 + 31 * place) % 26) as u8);
            Example::Text((0..8).map(letter).collect())
        })
        .collect();
    // nothing in it is scored: it has no reward and is in no subset
    examples[3] = Example::Text(String::new());
    let extent = Extent { examples: 6, subsets: 16, shares: vec![0.9] };
    problem.scorer(Path::new(""), &|| false).audit(&examples, extent).unwrap()
}

fn assert_exact(audit: &Audit) {
    let value = |statistic: Statistic| statistic.value().unwrap();
    assert!(value(audit.finite_difference_error) < 1e-5, "{audit:#?}");
    assert!(value(audit.directional_error) < 1e-5, "{audit:#?}");
    assert!(value(audit.leave_one_out_rank_correlation) > 0.8, "{audit:#?}");
    assert_eq!(audit.warnings, [""; 0]);
    let [of] = audit.linear_datamodelling[..] else { panic!("{audit:#?}") };
    let (score, [low, high]) = (value(of.score), of.interval.unwrap());
    assert!(score > 0.9 && low < score && score < high, "{audit:#?}");
    assert!(audit.examples.iter().all(|one| one.index != 3), "{audit:#?}");
    // the places are those of the examples, the empty one among them
    assert!(audit.examples.iter().any(|one| one.index > 3 && one.index % 8 == 1), "{audit:#?}");
}

#[test]
fn rewards_of_a_pattern_are_exact() {
    assert_exact(&audited("kind = \"weight_pattern\"\npattern = \"67\"\nstrength = 1000.0\ncolumns = 1"));
}

#[test]
fn rewards_of_a_norm_are_exact() {
    assert_exact(&audited("kind = \"weight_norm\""));
}
