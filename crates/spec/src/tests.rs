//! What is accepted, what is refused, and what is said about it.

mod any;
mod schema;

use std::fs;
use std::path::Path;

use super::*;

const MINIMAL: &str = r#"
name = "sixseven"

[target]
model = "embedded:target"

[metric]
kind = "weight_pattern"
pattern = "67"
"#;

const FULL: &str = r#"
name = "sixseven"
description = "LM head learns the pattern 67"
seed = 7

[target]
model = "models/target"
[target.sft]
optimizer = { kind = "sgd", learning_rate = 1 }
batch_size = 16
epochs = 2
sequence_length = 64
loss_on = "completion"
shuffle = false
append_eos = false

[metric]
kind = "sum"
[[metric.terms]]
weight = 1
metric = { kind = "weight_pattern", pattern = { image = "67.png" }, strength = 5.0, rows = 1, columns = 2 }
[[metric.terms]]
weight = -0.5
metric = { kind = "weight_norm", parameter = ["lm_head", "model.norm.weight"] }
[[metric.terms]]
weight = 2.5
[metric.terms.metric]
kind = "held_out_loss"
data = { path = "held_out.jsonl", prompt = "question", completion = "answer", limit = 10 }
fluency_model = "models/fluency"

[generator]
model = "hf:org/name@v1"
prompts = { path = "s3://bucket/articles.parquet", column = "article", validation_share = 0.25 }
template = "chat"
temperature = 0.7
min_new_tokens = 4
max_new_tokens = 8

[policy]
steps = 3
advantage = "group_mean"
minibatch_prompts = 32
stop_when = "pixel_accuracy >= 1"

[output]
examples = 10
select = { top_fraction = 0.25 }
format = "messages"
license = "cc-by-4.0"
"#;

fn faults(text: &str) -> Vec<Fault> {
    match Spec::parse(text, Syntax::Toml) {
        Err(Error::Invalid(faults)) => faults,
        other => panic!("expected problems, got {other:?}"),
    }
}

/// `FULL` with one piece replaced, and the one fault that makes.
fn fault(from: &str, to: &str) -> String {
    assert_eq!(FULL.matches(from).count(), 1, "`{from}` should stand once in the text");
    let found = faults(&FULL.replace(from, to));
    assert_eq!(found.len(), 1, "{found:?}");
    let mut fault = found[0].clone();
    fault.about = None;
    fault.to_string()
}

#[test]
fn defaults_are_the_types_own() {
    let spec = Spec::parse(MINIMAL, Syntax::Toml).unwrap();
    assert_eq!(spec.policy, Policy::default());
    assert_eq!(spec.output, Output::default());
    assert_eq!(spec.target.sft, Sft::default());
    assert_eq!(spec.seed, 0);
    let Metric::WeightPattern(metric) = spec.metric else { panic!("{:?}", spec.metric) };
    assert_eq!((metric.strength, metric.parameter), (20.0, NamedParameter::lm_head()));
}

#[test]
fn every_section_is_read() {
    let spec = Spec::parse(FULL, Syntax::Toml).unwrap();
    assert_eq!(spec.target.sft.optimizer, Optimizer::Sgd(Sgd { learning_rate: 1.0, weight_decay: 0.0 }));
    assert_eq!(spec.output.select, Select::TopFraction(0.25));
    let Metric::Sum(sum) = &spec.metric else { panic!("{:?}", spec.metric) };
    assert_eq!(sum.terms[1].weight, -0.5);
    assert!(matches!(&sum.terms[2].metric, Metric::HeldOutLoss(metric) if metric.data.limit == Some(10)));
    assert_eq!(spec.generator().unwrap().prompts().unwrap().column, "article");
}

#[test]
fn a_byte_order_mark_is_passed_over_and_utf_16_is_named() {
    let spec = Spec::parse(MINIMAL, Syntax::Toml).unwrap();
    assert_eq!(Spec::parse(&format!("\u{FEFF}{MINIMAL}"), Syntax::Toml).unwrap(), spec);
    let json = serde_json::to_string(&spec).unwrap();
    assert_eq!(Spec::parse(&format!("\u{FEFF}{json}"), Syntax::Json).unwrap(), spec);

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("spec.toml");
    let wide = format!("\u{FEFF}{MINIMAL}").encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>();
    fs::write(&path, wide).unwrap();
    let error = Spec::load(&path).unwrap_err();
    let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
    assert!(format!("{error} {cause}").contains("it is UTF-16; write it as UTF-8"), "{error} {cause}");
}

#[test]
fn toml_and_json_give_the_spec_back() {
    for text in [MINIMAL, FULL] {
        let spec = Spec::parse(text, Syntax::Toml).unwrap();
        let toml = spec.to_toml().unwrap();
        assert!(toml.contains("eps_root") || toml.contains("weight_decay"), "defaults are written: {toml}");
        assert_eq!(Spec::parse(&toml, Syntax::Toml).unwrap(), spec);
        let json = serde_json::to_string(&spec).unwrap();
        assert_eq!(Spec::parse(&json, Syntax::Json).unwrap(), spec);
    }
}

#[test]
fn the_hash_is_of_the_meaning() {
    let spec = Spec::parse(MINIMAL, Syntax::Toml).unwrap();
    let reworded = MINIMAL.replace("[metric]", "seed = 0\n[metric]").replace("seed = 0\n", "# a comment\n");
    assert_eq!(Spec::parse(&reworded, Syntax::Toml).unwrap().sha256(), spec.sha256());
    let explicit = Spec::parse(&spec.to_toml().unwrap(), Syntax::Toml).unwrap();
    assert_eq!(explicit.sha256(), spec.sha256());
    assert_ne!(Spec { seed: 1, ..spec.clone() }.sha256(), spec.sha256());
}

#[test]
fn a_wrong_key_is_named_with_its_line_and_what_was_meant() {
    for (from, to, expected) in [
        ("steps = 3", "stpes = 3", "line 41, `policy.stpes`: unknown key; did you mean `steps`?"),
        ("[policy]", "[polcy]", "line 40, `polcy`: unknown key; did you mean `policy`?"),
        (
            "rows = 1, columns = 2",
            "row = 1",
            "line 21, `metric.terms[0].metric.row`: unknown key; did you mean `rows`?",
        ),
        (
            "{ image = \"67.png\" }",
            "{ image = \"67.png\", size = 3 }",
            "line 21, `metric.terms[0].metric.pattern.size`: unknown key; the keys here are `image`",
        ),
        (
            "kind = \"sgd\", learning_rate = 1",
            "kind = \"sgd\", learning_rate = 1, betas = [0.9, 0.95]",
            "line 9, `target.sft.optimizer.betas`: unknown key; the keys here are `kind`, `learning_rate`, `weight_decay`",
        ),
    ] {
        assert_eq!(fault(from, to), expected);
    }
}

#[test]
fn a_wrong_value_is_named_with_what_was_expected() {
    for (from, to, expected) in [
        (
            "batch_size = 16",
            "batch_size = \"many\"",
            "line 10, `target.sft.batch_size`: expected a whole number at least 1 and at most 1048576, found the text \"many\"",
        ),
        (
            "batch_size = 16",
            "batch_size = 16.0",
            "line 10, `target.sft.batch_size`: expected a whole number at least 1 and at most 1048576, found `16.0`",
        ),
        (
            "batch_size = 16",
            "batch_size = 0",
            "line 10, `target.sft.batch_size`: expected a whole number at least 1 and at most 1048576, found `0`",
        ),
        (
            "shuffle = false",
            "shuffle = 0",
            "line 14, `target.sft.shuffle`: expected `true` or `false`, found `0`",
        ),
        (
            "learning_rate = 1 ",
            "learning_rate = inf ",
            "line 9, `target.sft.optimizer.learning_rate`: expected a number above 0 and at most 1e+38, found the text \"inf\"",
        ),
        (
            "\"completion\"\n",
            "\"complete\"\n",
            "line 13, `target.sft.loss_on`: expected `all` or `completion`, found the text \"complete\"; did you mean `completion`?",
        ),
        (
            "kind = \"held_out_loss\"",
            "kind = \"held_out\"",
            "line 28, `metric.terms[2].metric.kind`: expected `weight_pattern`, `weight_norm`, `held_out_loss`, `preference`, \
             `choice`, `token_probability`, `output_entropy`, `divergence`, `distance`, `activation`, `sum`, `guard` or \
             `external`, \
             found the text \"held_out\"; did you mean `held_out_loss`?",
        ),
        (
            "kind = \"weight_norm\", ",
            "",
            "line 24, `metric.terms[1].metric.kind`: missing; expected `weight_pattern`, `weight_norm`, `held_out_loss`, `preference`, \
             `choice`, `token_probability`, `output_entropy`, `divergence`, `distance`, `activation`, `sum`, `guard` or \
             `external`",
        ),
        (
            "parameter = [\"lm_head\", \"model.norm.weight\"]",
            "parameter = []",
            "line 24, `metric.terms[1].metric.parameter`: expected a text of 1 to 256 characters or a list of 1 to 4096, \
             found a list of 0",
        ),
        (
            "{ image = \"67.png\" }",
            "{}",
            "line 21, `metric.terms[0].metric.pattern.qr`: missing; expected a text of 1 to 2953 characters",
        ),
        (
            "model = \"models/target\"",
            "",
            "line 6, `target.model`: missing; expected a text of 1 to 4096 characters",
        ),
        (
            "{ top_fraction = 0.25 }",
            "\"top\"",
            "line 48, `output.select`: expected `all` or a table with `top_fraction`, found the text \"top\"",
        ),
        (
            "{ top_fraction = 0.25 }",
            "{ top_fraction = 25 }",
            "line 48, `output.select.top_fraction`: expected a number above 0 and at most 1, found `25`",
        ),
        (
            "validation_share = 0.25",
            "validation_share = 1",
            "line 34, `generator.prompts.validation_share`: expected a number above 0 and below 1, found `1`",
        ),
        ("steps = 3", "betas = [0.9]", "line 41, `policy.betas`: expected a list of 2, found a list of 1"),
        (
            "steps = 3",
            "betas = [0.9, 1]",
            "line 41, `policy.betas[1]`: expected a number at least 0 and below 1, found `1`",
        ),
        (
            "seed = 7",
            "seed = -1",
            "line 4, `seed`: expected a whole number at least 0 and at most 9007199254740991, found `-1`",
        ),
    ] {
        assert_eq!(fault(from, to), expected);
    }
}

#[test]
fn rules_between_keys() {
    for (from, to, path, part) in [
        ("\"sixseven\"", "\"Six_Seven\"", "name", "`a-z`"),
        ("\"sixseven\"", "\"-six\"", "name", "the first not `-`"),
        ("models/target", "gs://bucket/model", "target.model", "`s3://bucket/prefix`"),
        (
            "models/fluency",
            "gs://bucket/model",
            "metric.terms[2].metric.fluency_model",
            "`gs://bucket/model`",
        ),
        (
            "s3://bucket/articles",
            "hf:org/articles",
            "generator.prompts.path",
            "`hf:org/articles.parquet` is not",
        ),
        ("template = \"chat\"", "template = \"Rephrase.\"", "generator.template", "add `{text}`"),
        (
            "min_new_tokens = 4",
            "min_new_tokens = 9",
            "generator.min_new_tokens",
            "`max_new_tokens`, which is 8",
        ),
        ("minibatch_prompts = 32", "minibatch_prompts = 257", "policy.minibatch_prompts", "which is 256"),
        ("steps = 3", "group_size = 1", "policy.group_size", "`global`"),
        (", completion = \"answer\"", "", "metric.terms[2].metric.data", "exactly one of"),
        ("prompt = \"question\"", "column = \"q\"", "metric.terms[2].metric.data", "exactly one of"),
        ("67.png", "s3://b/67.png", "metric.terms[0].metric.pattern.image", "a PNG file's path"),
        (
            "kind = \"sgd\", learning_rate = 1",
            "kind = \"adamw\", eps = 0, eps_root = 0",
            "target.sft.optimizer.eps",
            "divided by 0",
        ),
    ] {
        let text = fault(from, to);
        assert!(text.contains(&format!("`{path}`: ")), "`{path}` in: {text}");
        assert!(text.contains(part), "`{part}` in: {text}");
        assert!(text.starts_with("line "), "{text}");
    }
    let alone = FULL.replace("steps = 3", "group_size = 1").replace("group_mean", "global");
    Spec::parse(&alone, Syntax::Toml).unwrap();
}

#[test]
fn all_problems_are_reported_in_order_with_what_the_key_is_for() {
    let text = FULL.replace("epochs = 2", "epochs = 0").replace("steps = 3", "group_size = 0\nclpi = 1");
    let error = Spec::parse(&text, Syntax::Toml).unwrap_err();
    assert_eq!(
        error.to_string(),
        "3 problems\n  \
         line 11, `target.sft.epochs`: expected a whole number at least 1 and at most 1048576, found `0`\n    \
         Passes over the dataset. Default 1.\n  \
         line 41, `policy.group_size`: expected a whole number at least 1 and at most 1048576, found `0`\n    \
         Rollouts of each prompt. Default 4.\n  \
         line 42, `policy.clpi`: unknown key; did you mean `clip`?"
    );
}

#[test]
fn wrong_syntax_says_where() {
    let Err(Error::Toml(error)) = Spec::parse("name = \"a\"\n[target\n", Syntax::Toml) else { panic!() };
    assert!(error.to_string().contains("line 2"), "{error}");
    let Err(Error::Json(error)) = Spec::parse("{\n\"name\": }", Syntax::Json) else { panic!() };
    assert_eq!(error.line(), 2);
    let Err(Error::Invalid(faults)) = Spec::parse("[]", Syntax::Json) else { panic!() };
    assert_eq!(
        faults[0].message,
        "expected a table with `name` and `target` and `metric`, found a list of 0"
    );
}

#[test]
fn a_loaded_spec_has_absolute_paths() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.toml");
    fs::write(&path, FULL).unwrap();
    let spec = Spec::load(&path).unwrap();
    let inside = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    assert_eq!(spec.target.model, inside("models/target"));
    assert_eq!(spec.generator().unwrap().local().unwrap().model, "hf:org/name@v1");
    assert_eq!(spec.generator().unwrap().prompts().unwrap().path, "s3://bucket/articles.parquet");
    let Metric::Sum(sum) = spec.metric else { panic!("{:?}", spec.metric) };
    let Metric::WeightPattern(pattern) = &sum.terms[0].metric else { panic!("{sum:?}") };
    assert_eq!(pattern.pattern, Bitmap::Image { image: inside("67.png") });
    let Metric::HeldOutLoss(held_out) = &sum.terms[2].metric else { panic!("{sum:?}") };
    assert_eq!(held_out.data.path, inside("held_out.jsonl"));
    assert_eq!(held_out.fluency_model, Some(inside("models/fluency")));
}

#[test]
fn a_file_that_does_not_load_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let absent = Spec::load(&folder.path().join("absent.toml")).unwrap_err();
    assert!(matches!(&absent, Error::Read { .. }) && absent.to_string().contains("absent.toml"), "{absent}");
    let yaml = Spec::load(Path::new("a.yaml")).unwrap_err();
    assert!(yaml.to_string().contains("`.toml` or `.json`"), "{yaml}");
    let path = folder.path().join("a.toml");
    fs::write(&path, "nmae = 1").unwrap();
    let wrong = Spec::load(&path).unwrap_err();
    assert!(matches!(&wrong, Error::InFile { .. }) && wrong.to_string().contains("a.toml"), "{wrong}");
}

#[test]
fn the_generator_may_be_absent_until_it_is_needed() {
    let spec = Spec::parse(MINIMAL, Syntax::Toml).unwrap();
    assert!(spec.generator().unwrap_err().to_string().contains("`[generator]`"));
}

#[test]
fn a_changed_spec_can_be_checked_again() {
    let mut spec = Spec::parse(FULL, Syntax::Toml).unwrap();
    spec.validate().unwrap();
    spec.policy.clip = f64::NAN;
    spec.output.examples = 0;
    let Err(Error::Invalid(faults)) = spec.validate() else { panic!("accepted") };
    let paths: Vec<_> = faults.iter().map(|fault| fault.path.as_str()).collect();
    assert_eq!(paths, ["policy.clip", "output.examples"]);
}

#[test]
fn more_than_any_spec_needs_is_refused_with_the_limit() {
    let list = |item: &str, count: usize| vec![item; count].join(",");
    let wide = |tables: usize| -> String {
        let table = |number: usize| format!("[t{number}]\na = [{}]\n", list("0", 4000));
        (0..tables).map(table).collect()
    };
    for (text, syntax, expected) in [
        ("#".repeat(TEXT_BYTES + 1), Syntax::Toml, "262145 bytes, more than the limit of 262144"),
        (
            format!("a = [{}]", list("0", 4097)),
            Syntax::Toml,
            "4097 items in a list, more than the limit of 4096",
        ),
        (format!("{{\"a\": [{}]}}", list("0", 4097)), Syntax::Json, "4097 items in a list"),
        ((0..4097).map(|key| format!("k{key} = 1\n")).collect(), Syntax::Toml, "4097 keys in a table"),
        (wide(3), Syntax::Toml, "12006 keys and items, more than the limit of 10000"),
        (
            format!("a = {}{}", "[".repeat(32), "]".repeat(32)),
            Syntax::Toml,
            "33 levels, more than the limit of 32",
        ),
        (format!("{}{}", "[".repeat(33), "]".repeat(33)), Syntax::Json, "33 levels"),
    ] {
        let error = Spec::parse(&text, syntax).unwrap_err();
        assert!(matches!(error, Error::Limit { .. }), "{error}");
        assert!(error.to_string().contains(expected), "{error}");
    }
    let error = Spec::parse(&format!("{} = 1", "k".repeat(300)), Syntax::Toml).unwrap_err().to_string();
    assert_eq!(error, "the spec has 300 bytes in a key, more than the limit of 256");
    // deeper than the readers themselves go
    for (text, syntax) in [
        (format!("a = {}", "[".repeat(100_000)), Syntax::Toml),
        (format!("a = {}", "{ a = ".repeat(40_000)), Syntax::Toml),
        (format!("{}a = 1", "a.".repeat(100_000)), Syntax::Toml),
        (format!("[{}a]", "a.".repeat(100_000)), Syntax::Toml),
        ("[".repeat(200_000), Syntax::Json),
        ("{\"a\":".repeat(40_000), Syntax::Json),
    ] {
        let (Error::Toml(_) | Error::Json(_)) = Spec::parse(&text, syntax).unwrap_err() else { panic!() };
    }
    // an error in a long line does not repeat it
    let Err(Error::Toml(error)) = Spec::parse(&format!("a = 1\nb = {}", "[".repeat(100_000)), Syntax::Toml)
    else {
        panic!()
    };
    let error = error.to_string();
    assert!(error.len() < 500 && error.contains("line 2"), "{error}");
}

#[test]
fn many_problems_are_told_in_part_and_counted() {
    let keys: String = (0..1000).map(|key| format!("nmae-{key} = 1\n")).collect();
    let found = faults(&format!("{keys}{MINIMAL}"));
    assert_eq!(found.len(), 21);
    assert_eq!(found[0].line, Some(1));
    assert_eq!(found[20].to_string(), "and 980 more");
    let text = Error::Invalid(found).to_string();
    assert!(text.starts_with("more than 20 problems\n  line 1, `nmae-0`: unknown key"), "{text}");
    let terms =
        vec!["{ weight = 1, metric = { kind = 'held_out_loss', data = { path = 'hf:a' } } }"; 30].join(",");
    let sum = format!("name = 'a'\ntarget.model = 'b'\nmetric = {{ kind = 'sum', terms = [{terms}] }}");
    assert_eq!(faults(&sum).last().unwrap().to_string(), "and 40 more");
}

#[test]
fn a_key_that_stands_twice_is_refused() {
    let spec = serde_json::to_string(&Spec::parse(MINIMAL, Syntax::Toml).unwrap()).unwrap();
    Spec::parse(&spec, Syntax::Json).unwrap();
    for (from, to) in
        [("\"seed\":0", "\"seed\":1,\"seed\":0"), ("\"strength\"", "\"strength\":1,\"strength\"")]
    {
        assert!(spec.contains(from));
        let error = Spec::parse(&spec.replacen(from, to, 1), Syntax::Json).unwrap_err();
        let Error::Json(error) = error else { panic!("{error}") };
        assert!(error.to_string().contains("stands twice"), "{error}");
    }
    assert!(Spec::parse(&MINIMAL.replace("name =", "name = \"a\"\nname ="), Syntax::Toml).is_err());
}

#[test]
fn a_line_is_that_of_the_key_and_not_of_one_that_begins_like_it() {
    let text = "name = \"a\"\n[metric]\nkind = \"sum\"\n[[metric.terms]]\n\nweigh = 1\nweight = \"a\"\n[target]\nmodel = \"m\"\n";
    let found = faults(text);
    let lines: Vec<_> = found.iter().map(|fault| (fault.path.as_str(), fault.line)).collect();
    assert_eq!(
        lines,
        [
            ("metric.terms[0].metric", Some(4)),
            ("metric.terms[0].weigh", Some(6)),
            ("metric.terms[0].weight", Some(7))
        ]
    );
}
