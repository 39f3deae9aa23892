//! `dpg init`: what it writes can be planned and run, it looks before it writes, and it writes over nothing.

use std::fs;
use std::path::Path;
use std::process::Stdio;

use dpg_spec::{Generator, Metric, Spec};

use crate::constant::{CONSTANT, put_gradient};
use crate::{dpg, fail, folder, json_of, succeed};

fn spec(folder: &Path, name: &str) -> Spec {
    Spec::load(&folder.join(name)).unwrap()
}

#[test]
fn what_it_writes_of_each_goal_can_be_planned() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    fs::write(
        folder.join("mine.jsonl"),
        "{\"note\": \"A short row of words.\"}\n{\"note\": \"Another one.\"}\n",
    )
    .unwrap();
    put_gradient(folder);
    let constant = format!("constant={CONSTANT}");
    let program = ["--program", constant.as_str()];
    for (goal, given, planned) in [
        ("language", &[][..], &[][..]),
        ("domain", &["--data", "mine.jsonl"], &[]),
        ("preference", &[], &[]),
        ("pattern", &["--draw", "dpg"], &[]),
        ("metric", &program[..], &program),
    ] {
        let (said, looked) = succeed(dpg(folder, &["init", goal]).args(given));
        let file = format!("my-{goal}.toml");
        assert!(said.contains(&format!("wrote {file}; next:\n")), "{said}");
        assert!(
            said.contains(&format!("dpg run {file}")) && looked.contains("fit together"),
            "{said}{looked}"
        );
        let (plan, _) = succeed(dpg(folder, &["plan", &file]).args(planned));
        assert!(plan.contains("a step"), "{goal}: {plan}");
    }
    let Metric::HeldOutLoss(metric) = spec(folder, "my-domain.toml").metric else { panic!() };
    assert_eq!(metric.data.column.as_deref(), Some("note"), "the only column there is");
    assert_eq!(spec(folder, "my-language.toml").policy.stop_when.as_deref(), Some("spa >= 0.82"));
    let Metric::WeightPattern(metric) = spec(folder, "my-pattern.toml").metric else { panic!() };
    assert_eq!(metric.pattern, dpg_spec::Bitmap::Qr { qr: "dpg".into() });
}

#[test]
fn it_looks_before_it_writes_and_writes_over_nothing() {
    let folder = folder(1);
    let folder = folder.path();
    fs::write(folder.join("two.jsonl"), "{\"a\": \"one\", \"b\": \"two\"}\n").unwrap();
    fs::write(folder.join("no-pairs.jsonl"), "{\"prompt\": \"one\", \"chosen\": \"two\"}\n").unwrap();
    for (arguments, reason) in [
        (&["init"][..], "`dpg init GOAL`: name what the dataset is to do, one of language, domain"),
        (&["init", "domain"], "`--data` is missing"),
        (&["init", "metric"], "`--program` is missing"),
        (&["init", "language", "--name", "Mine"], "`--name`: "),
        (&["init", "language", "--file", "spec.txt"], "does not end in `.toml`"),
        (&["init", "language", "--file", "spec.toml"], "`spec.toml` exists and is left alone"),
        (&["init", "language", "--model", "absent"], "`--model`: `target.model`: `absent` does not exist"),
        (
            &["init", "domain", "--data", "two.jsonl"],
            "has the columns `a`, `b`; name that of the texts with --column",
        ),
        (&["init", "domain", "--data", "two.jsonl", "--column", "c"], "no column `c`"),
        (&["init", "preference", "--data", "no-pairs.jsonl"], "`rejected`"),
        // each by itself is in order
        (
            &[
                "init",
                "domain",
                "--data",
                "two.jsonl",
                "--column",
                "a",
                "--prompts",
                "two.jsonl",
                "--prompt-column",
                "b",
            ],
            "would not work, and was not kept",
        ),
    ] {
        let before = fs::read_to_string(folder.join("spec.toml")).unwrap();
        let said = fail(dpg(folder, arguments).stdin(Stdio::null()));
        assert!(said.contains(reason), "{arguments:?}: {said}");
        assert_eq!(fs::read_to_string(folder.join("spec.toml")).unwrap(), before);
        let specs = fs::read_dir(folder).unwrap().flatten();
        let specs =
            specs.filter(|entry| entry.path().extension().is_some_and(|extension| extension == "toml"));
        assert_eq!(specs.count(), 1, "{arguments:?}");
    }
}

#[test]
fn paths_stand_for_files_beside_the_spec() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    fs::create_dir(folder.join("specs")).unwrap();
    fs::write(folder.join("mine.jsonl"), "{\"text\": \"A short row of words.\"}\n").unwrap();
    let said =
        json_of(&mut dpg(folder, &["init", "domain", "--data", "mine.jsonl", "--file", "specs/mine.toml"]));
    assert_eq!(said["spec"], "specs/mine.toml");
    assert_eq!(said["next"][1], "dpg run specs/mine.toml");
    let Metric::HeldOutLoss(metric) = spec(folder, "specs/mine.toml").metric else { panic!() };
    assert_eq!(Path::new(&metric.data.path), folder.canonicalize().unwrap().join("mine.jsonl"));
}

#[test]
#[ignore = "a run of a spec that init wrote, of a minute; .ci/run runs it"]
fn what_it_writes_runs() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    succeed(&mut dpg(
        folder,
        &["init", "language", "--name", "french", "--data", "embedded:held-out/fr.jsonl"],
    ));
    let mut spec = spec(folder, "french.toml");
    assert!(matches!(spec.generator, Some(Generator::Local(_))));
    // fewer steps of the same
    (spec.policy.steps, spec.output.examples) = (3, 32);
    fs::write(folder.join("french.toml"), spec.to_toml().unwrap()).unwrap();
    succeed(&mut dpg(folder, &["run", "french.toml"]));
    let versions = json_of(&mut dpg(folder, &["datasets", "list", "french"]));
    assert_eq!(versions["versions"][0]["rows"], 32, "{versions}");
}
