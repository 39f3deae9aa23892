//! Metrics of programs, from the command line and on a daemon: who may start which, what they are told, that none is
//! left behind; and, by name, those of deploy/python against the metrics that they write once more.

mod constant;
mod serving;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use constant::{CONSTANT, put_gradient};
use dpg_queue::State;
use dpg_registry::{Registry, open_store};
use serde_json::Value;
use serving::{Place, job};

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

/// `serving::SPEC` with a metric of a program.
fn spec(name: &str, metric: &str) -> String {
    let spec = serving::spec(name, 1);
    let (before, rest) = spec.split_once("[metric]").unwrap();
    let (_, after) = rest.split_once("[generator]").unwrap();
    format!("{before}[metric]\nkind = \"external\"\n{metric}\n[generator]{after}")
}

fn dpg(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dpg"));
    command.current_dir(folder).args(arguments).args(["--data-dir", "data"]).env_remove("DPG_CONFIG");
    command
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Waits until a process has ended.
fn assert_ends(process: &str) {
    let since = Instant::now();
    let runs = || {
        let state = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
        state.rsplit(") ").next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with('Z'))
    };
    while runs() {
        assert!(since.elapsed() < Duration::from_secs(30), "the program still runs");
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_program_of_the_command_line_measures() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    put_gradient(folder);
    fs::write(folder.join("spec.toml"), spec("constant", "program = 'constant'")).unwrap();
    fs::write(folder.join("rows.jsonl"), "{\"text\": \"Ein Hund schläft.\"}\n{\"text\": \"Dos perros.\"}\n")
        .unwrap();
    let given = format!("constant={CONSTANT}");
    let mut score =
        dpg(folder, &["score", "spec.toml", "--data", "rows.jsonl", "--out", "out.jsonl", "--json"]);
    let output = score
        .args(["--program", &given])
        .env("DPG_TOKEN", "secret")
        .env("AWS_SECRET_ACCESS_KEY", "secret")
        .env("HF_TOKEN", "secret")
        .env("CUDA_VISIBLE_DEVICES", "1")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", said(&output));
    let result: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&result["phi"], &result["proxies"][0][0]), (&1.0.into(), &"half".into()), "{result}");
    assert!(result["reward_std"].as_f64().unwrap() > 0.0, "{result}");
    let environment = fs::read_to_string(folder.join("environment")).unwrap();
    assert!(
        environment.contains("CUDA_VISIBLE_DEVICES=1\n") && environment.contains("PATH="),
        "{environment}"
    );
    assert!(!environment.contains("secret"), "{environment}");
    assert_ends(fs::read_to_string(folder.join("process")).unwrap().trim());

    // the settings of the data folder name it as well
    fs::write(folder.join("data/dpg.toml"), format!("[allow.programs]\nconstant = '''{CONSTANT}'''\n"))
        .unwrap();
    let output = dpg(folder, &["metric", "spec.toml"]).output().unwrap();
    assert!(output.status.success() && said(&output).contains("model.norm.weight"), "{}", said(&output));
}

#[test]
fn a_program_without_a_command_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("spec.toml"), spec("nameless", "program = 'nameless'")).unwrap();
    let failed = |arguments: &[&str]| {
        let output = dpg(folder.path(), arguments).output().unwrap();
        assert!(!output.status.success());
        said(&output)
    };
    let said = failed(&["plan", "spec.toml", "--program", "other=true"]);
    assert!(said.contains("`metric.program`: there is no program `nameless` here, but `other`"), "{said}");
    assert!(said.contains("--program nameless=COMMAND"), "{said}");
    for wrong in ["other", "Other=true", "other= "] {
        assert!(failed(&["plan", "spec.toml", "--program", wrong]).contains("--program"));
    }
    fs::write(folder.path().join("spec.toml"), spec("named", "program = 'named'\ncommand = 'true'")).unwrap();
    let said = failed(&["plan", "spec.toml"]);
    assert!(said.contains("`metric.command`: unknown key"), "{said}");
}

/// `kill -9` of `dpg` ends what it started, and removes its files.
#[test]
fn a_program_does_not_outlive_dpg() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    fs::write(folder.join("spec.toml"), spec("hanging", "program = 'hanging'")).unwrap();
    let hanging = "hanging=echo $$ > .process; mv .process process; sleep 1000; true";
    let mut metric = dpg(folder, &["metric", "spec.toml", "--program", hanging]);
    let temporary = folder.join("temporary");
    fs::create_dir(&temporary).unwrap();
    let mut metric =
        metric.env("TMPDIR", &temporary).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let since = Instant::now();
    while !folder.join("process").exists() {
        assert!(since.elapsed() < Duration::from_mins(2), "the program was not started");
        thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(temporary.read_dir().unwrap().count(), 1);
    metric.kill().unwrap();
    metric.wait().unwrap();
    assert_ends(fs::read_to_string(folder.join("process")).unwrap().trim());
    while temporary.read_dir().unwrap().count() > 0 {
        assert!(since.elapsed() < Duration::from_mins(3), "its files are left behind");
        thread::sleep(Duration::from_millis(20));
    }
}

#[tokio::test]
async fn a_daemon_starts_what_its_operator_named_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    put_gradient(folder);
    let broken = "read -r greeting; echo '{\"dpg\": 1}'; read -r asked; echo 'out of ideas' >&2; exit 7";
    let place = Place::new(
        folder,
        &format!("[allow.programs]\nconstant = '''{CONSTANT}'''\nbroken = '''{broken}'''"),
    );
    let queue = place.queue().await;
    let mut daemon = place.start();
    for (metric, key, expected) in [
        ("program = 'other'", "metric.program", "there is no program `other` here, but `broken`, `constant`"),
        (
            "program = 'constant'\nfiles = { texts = '/etc/passwd' }",
            "metric.files.texts",
            "does not read `/etc/passwd`",
        ),
    ] {
        let file = folder.join("spec.toml");
        fs::write(&file, spec("refused", metric)).unwrap();
        // once the daemon answers, and not into its queue
        daemon.listening().await;
        let output = dpg(folder, &["submit", "spec.toml"]).output().unwrap();
        let said = said(&output);
        assert!(!output.status.success() && said.contains(key) && said.contains(expected), "{said}");
    }
    let id = queue.submit(&job(&spec("constant", "program = 'constant'"), 3)).await.unwrap().job.id;
    let ended = daemon.until(&queue, id, |job| job.state.has_ended()).await;
    // every row has a reward of its own, so the run goes through
    assert_eq!(ended.state, State::Succeeded, "{ended:#?}\n{}", daemon.log());
    let (store, prefix) = open_store(&folder.join("data/registry").to_string_lossy()).unwrap();
    let registry = Registry::new(store, prefix, folder.join("data/signing-key.pem"));
    let version = registry.dataset("constant").await.unwrap().versions.remove(0);
    let output = dpg(folder, &["fetch", &version.to_string(), "fetched"]).output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    let card = fs::read_to_string(folder.join("fetched/README.md")).unwrap();
    assert!(
        card.contains(
            "the program `constant` measures; `constant` says that it is `of \u{fffd}one\u{fffd} kind`."
        ),
        "{card}"
    );
    assert_ends(fs::read_to_string(folder.join("process")).unwrap().trim());

    // a program that ends by itself would do so again
    let id = queue.submit(&job(&spec("broken", "program = 'broken'"), 3)).await.unwrap().job.id;
    let ended = daemon.until(&queue, id, |job| job.state.has_ended()).await;
    let error = ended.error.clone().unwrap_or_default();
    assert_eq!((ended.state, ended.attempts), (State::Failed, 1), "{ended:#?}");
    assert!(error.contains("exit status: 7") && error.contains("out of ideas"), "{error}");
}

/// Rewards by a spec, in f32.
fn rewards(folder: &Path, model: &Path, metric: &str, programs: &[String]) -> Vec<f64> {
    let spec = format!(
        "name = 'a'\n[target]\nmodel = '{}'\n[target.sft]\nbatch_size = 4\nsequence_length = 40\n\
         optimizer = {{ kind = 'adamw', learning_rate = 1e-3, eps_root = 1e-4 }}\n[metric]\n{metric}\n",
        model.display()
    );
    fs::write(folder.join("spec.toml"), spec).unwrap();
    let _ = fs::remove_file(folder.join("out.jsonl"));
    let mut score = dpg(folder, &["score", "spec.toml", "--data", "rows.jsonl", "--out", "out.jsonl"]);
    let output = score.args(programs.iter().flat_map(|program| ["--program", program])).output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    println!("{}", said(&output).trim());
    let rows = fs::read_to_string(folder.join("out.jsonl")).unwrap();
    let reward = |row: &str| serde_json::from_str::<Value>(row).unwrap()["reward"].as_f64().unwrap();
    rows.lines().map(reward).collect()
}

/// Relative distance of rewards by a program of deploy/python from those by a metric of ours, on a GPT-2, a Llama and
/// the embedded target.
fn differences(python: &str, program: &str, theirs: &dyn Fn(&Path) -> String, ours: &str) -> Vec<f64> {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let texts = repository().join("config/embedded/held-out");
    let lines = |file: &str, count: usize| -> String {
        let text = fs::read_to_string(texts.join(file)).unwrap();
        let short = |line: &str| {
            let text = serde_json::from_str::<Value>(line).unwrap()["text"].as_str().unwrap().to_owned();
            let words: Vec<_> = text.split_whitespace().take(3).collect();
            format!("{}\n", serde_json::json!({ "text": words.join(" ") }))
        };
        text.lines().take(count).map(short).collect()
    };
    fs::write(folder.join("rows.jsonl"), lines("en.jsonl", 6) + &lines("es.jsonl", 4)).unwrap();
    fs::write(folder.join("texts.jsonl"), lines("es.jsonl", 8)).unwrap();
    let given = [format!("theirs={python} {}/deploy/python/{program}", repository().display())];
    let golden = repository().join("crates/models/tests/golden");
    let models = [golden.join("gpt2"), golden.join("llama"), repository().join("config/embedded/target")];
    let of_model = |model: &PathBuf| {
        let ours = rewards(folder, model, ours, &[]);
        let theirs = rewards(folder, model, &theirs(model), &given);
        let square = |numbers: &[f64]| numbers.iter().map(|x| x * x).sum::<f64>();
        let apart: Vec<_> = ours.iter().zip(&theirs).map(|(ours, theirs)| ours - theirs).collect();
        let apart = (square(&apart) / square(&ours)).sqrt();
        println!("{}: {apart:.1e}", model.display());
        apart
    };
    models.iter().map(of_model).collect()
}

const EXTERNAL: &str = "kind = 'external'\nprogram = 'theirs'\n";

/// It needs a Python with torch and transformers:
/// `DPG_TEST_PYTHON_TORCH=/path/to/python cargo test --test programs -- --ignored pytorch --nocapture`.
#[test]
#[ignore = "needs a Python with PyTorch in DPG_TEST_PYTHON_TORCH"]
fn a_metric_in_pytorch_gives_the_rewards_of_ours() {
    let python =
        std::env::var("DPG_TEST_PYTHON_TORCH").expect("DPG_TEST_PYTHON_TORCH names a Python with PyTorch");
    let held_out = format!("dpg/metric.py {}/deploy/python/held_out_loss.py", repository().display());
    let theirs = |_: &Path| {
        format!("{EXTERNAL}parameters = {{ column = 'text' }}\nfiles = {{ texts = 'texts.jsonl' }}\n")
    };
    let ours = "kind = 'held_out_loss'\ndata = { path = 'texts.jsonl', column = 'text' }\n";
    for apart in differences(&python, &held_out, &theirs, ours) {
        assert!(apart < 1e-5, "{apart:e}");
    }
}

/// The same with a Python that has JAX and safetensors, in `DPG_TEST_PYTHON_JAX`.
#[test]
#[ignore = "needs a Python with JAX in DPG_TEST_PYTHON_JAX"]
fn a_metric_in_jax_gives_the_rewards_of_ours() {
    let python = std::env::var("DPG_TEST_PYTHON_JAX").expect("DPG_TEST_PYTHON_JAX names a Python with JAX");
    let theirs = |model: &Path| {
        let tied = model.ends_with("gpt2");
        let head = if tied { "transformer.wte.weight" } else { "lm_head.weight" };
        format!("{EXTERNAL}parameters = {{ names = ['{head}'] }}\n")
    };
    for apart in differences(&python, "jax_norm.py", &theirs, "kind = 'weight_norm'\n") {
        assert!(apart < 1e-5, "{apart:e}");
    }
}

/// What deploy/python shows is a spec.
#[test]
fn the_spec_of_the_example_is_one() {
    let spec = dpg_spec::Spec::load(&repository().join("deploy/python/external.toml")).unwrap();
    let dpg_spec::Metric::External(metric) = spec.metric else { panic!() };
    let program = repository().join("deploy/python").join(metric.program.replace('-', "_") + ".py");
    assert!(program.exists(), "{}", program.display());
}
