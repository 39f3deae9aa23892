//! Specs and texts of all kinds: whatever they are, they are read, or refused by path.

use proptest::prelude::*;

use super::*;

/// Small specs of every metric and optimizer with numbers all over their ranges.
fn any_spec() -> impl Strategy<Value = Spec> {
    let positive = 1e-12..1e6_f64;
    let optimizer = prop_oneof![
        (positive.clone(), 0.0..1.0_f64, 0.0..1.0_f64).prop_map(|(learning_rate, b1, b2)| {
            Optimizer::Adamw(AdamW { learning_rate, betas: [b1, b2], ..AdamW::default() })
        }),
        (positive.clone(), 0.0..10.0_f64)
            .prop_map(|(learning_rate, weight_decay)| Optimizer::Sgd(Sgd { learning_rate, weight_decay })),
        (positive.clone(), 0.0..1.0_f64).prop_map(|(learning_rate, momentum)| {
            Optimizer::Muon(Muon { learning_rate, momentum, ..Muon::default() })
        }),
    ];
    let text = "[ -~\n\"\\\\é]{1,12}";
    let leaf = prop_oneof![
        (text, positive.clone(), any::<u16>()).prop_map(|(qr, strength, rows)| {
            let parameter = NamedParameter::lm_head();
            let rows = rows.into();
            Metric::WeightPattern(WeightPattern {
                pattern: Bitmap::Qr { qr },
                strength,
                parameter,
                rows,
                columns: 0,
            })
        }),
        prop::collection::vec(text.prop_map(NamedParameter), 1..4)
            .prop_map(|names| Metric::WeightNorm(WeightNorm { parameter: Parameters::Many(names) })),
    ];
    let metric = leaf.prop_recursive(3, 8, 3, |inner| {
        let term = (-1e3..1e3_f64, inner).prop_map(|(weight, metric)| SumTerm { weight, metric });
        prop::collection::vec(term, 1..3).prop_map(|terms| Metric::Sum(Sum { terms }))
    });
    (text, optimizer, metric, 0..1_u64 << 53, prop::option::of(1_usize..256)).prop_map(
        |(description, optimizer, metric, seed, minibatch_prompts)| Spec {
            name: "any".into(),
            description,
            seed,
            target: Target { model: "model".into(), lora: None, sft: Sft { optimizer, ..Sft::default() } },
            metric,
            generator: None,
            policy: Policy { minibatch_prompts, ..Policy::default() },
            schedule: Schedule::from([("policy.kl".to_owned(), Start::Until { from: 0.1, until: 0.5 })]),
            output: Output::default(),
            resources: minibatch_prompts.map(|gpus| Resources { gpus: gpus as u32, gpu_memory: 0.5 }),
        },
    )
}

proptest! {
    #[test]
    fn any_spec_survives_toml(spec in any_spec()) {
        prop_assert_eq!(Spec::parse(&spec.to_toml().unwrap(), Syntax::Toml).unwrap(), spec);
    }

    /// What the schema walk lets through deserialises: no fault is ever without a path.
    #[test]
    fn a_value_in_any_place_is_accepted_or_refused_by_path(
        line in 0..FULL.lines().count(),
        value in prop::sample::select(vec!["-1", "0", "1.5", "true", "nan", "\"all\"", "[]", "[1, 2]", "{}", "{ kind = \"sgd\" }"]),
    ) {
        let replaced = |(index, text): (usize, &str)| match text.split_once('=') {
            Some((key, _)) if index == line => format!("{key}= {value}\n"),
            _ => format!("{text}\n"),
        };
        let text: String = FULL.lines().enumerate().map(replaced).collect();
        if let Err(error) = Spec::parse(&text, Syntax::Toml) {
            let Error::Invalid(faults) = error else { panic!("{error}") };
            prop_assert!(faults.iter().all(|fault| !fault.path.is_empty()), "{faults:?}");
        }
    }

    /// Bytes cut out, put in and changed anywhere make an error or a spec, and never a panic.
    #[test]
    fn a_damaged_text_is_an_error_or_a_spec(
        at in 0..FULL.len(), gone in 0..40_usize, put in ".{0,20}", twice in any::<bool>(),
    ) {
        let end = (at + gone).min(FULL.len());
        let text = [&FULL.as_bytes()[..at], put.as_bytes(), &FULL.as_bytes()[end..]].concat();
        let text = String::from_utf8_lossy(&text).repeat(if twice { 2 } else { 1 });
        for syntax in [Syntax::Toml, Syntax::Json] {
            if let Ok(spec) = Spec::parse(&text, syntax) {
                prop_assert_eq!(Spec::parse(&spec.to_toml().unwrap(), Syntax::Toml).unwrap(), spec);
            }
        }
    }

    #[test]
    fn any_text_is_an_error_or_a_spec(text in "[\\[\\]{}=.,\"'a-c0-9_+\\-: #\n\\\\]{0,200}") {
        for syntax in [Syntax::Toml, Syntax::Json] {
            let _ = Spec::parse(&text, syntax);
        }
    }
}
