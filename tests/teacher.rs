//! `dpg run` with a teacher behind an API: the arms that serve the metric become likely, a kill costs nothing, and no key is
//! written anywhere.

#[path = "../crates/generator/tests/generators/teacher.rs"]
#[allow(dead_code, reason = "the generator's own tests use all of it")]
mod teacher;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;
use teacher::{Reply, Server, answer, asked};

const KEY: &str = "sk-never-to-be-seen";
/// Of the run: 3 steps of 16, 2 validations of 8 and 1, and the dataset.
const ANSWERS: usize = 3 * 16 + 2 * (8 + 1) + 32;

fn spec(seed: u64) -> String {
    format!(
        r#"
name = "taught"
seed = {seed}
[target]
model = "embedded:target"
[target.sft]
optimizer = {{ kind = "adamw", learning_rate = 1e-4, eps_root = 1e-4 }}
sequence_length = 64
batch_size = 16
[metric]
kind = "held_out_loss"
data = {{ path = "embedded:held-out/es.jsonl", column = "text", limit = 8 }}
[generator]
kind = "api"
teacher = "fake"
model = "m"
prompts = {{ path = "embedded:prompts/articles.jsonl" }}
max_completion_tokens = 64
send_seed = true
[[generator.arms]]
name = "english"
template = "Rephrase in English: {{text}}"
[[generator.arms]]
name = "spanish"
template = "Rephrase in Spanish: {{text}}"
[policy]
steps = 3
prompts_per_step = 4
group_size = 4
advantage = "global"
learning_rate = 0.7
validate_every = 0
validation_examples = 8
[output]
examples = 32
"#
    )
}

/// Texts of the embedded files, those apart that the metric reads.
fn texts(language: &str) -> Vec<String> {
    let file =
        Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../config/embedded/held-out/{language}.jsonl"));
    let lines = fs::read_to_string(file).unwrap();
    let text = |line: &str| serde_json::from_str::<Value>(line).unwrap()["text"].as_str().unwrap().to_owned();
    lines.lines().skip(8).map(text).collect()
}

/// A server that writes in the language that it is asked for, and stops answering after so many answers. It counts how often
/// it answered each request.
fn server(answered: Arc<Mutex<Vec<Value>>>, most: Arc<AtomicUsize>) -> Server {
    let (english, spanish) = (texts("en"), texts("es"));
    Server::start(move |_, body| {
        let mut answered = answered.lock().unwrap();
        if answered.len() >= most.load(Ordering::Relaxed) {
            drop(answered);
            return Reply::Slow;
        }
        answered.push(body.clone());
        let texts = if asked(body).contains("Spanish") { &spanish } else { &english };
        let text = &texts[body["seed"].as_u64().unwrap() as usize % texts.len()];
        Reply::Good(answer(&[text]))
    })
}

fn folder(server: &Server, seed: u64) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("spec.toml"), spec(seed)).unwrap();
    fs::create_dir(folder.path().join("data")).unwrap();
    let settings = |name: &str| {
        format!(
            "[teachers.{name}]\nbase_url = '{}'\napi_key_env = 'DPG_TEST_TEACHER'\ninside = true\nconcurrency = 3\n\
             prices.m = {{ prompt = 1.0, completion = 2.0 }}\n",
            server.url
        )
    };
    fs::write(folder.path().join("data/dpg.toml"), settings("fake") + &settings("fake-2")).unwrap();
    folder
}

fn command(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dpg"));
    for name in ["DPG_CONFIG", "DPG_STORE", "DPG_DATABASE"] {
        command.env_remove(name);
    }
    command.current_dir(folder).env("DPG_TEST_TEACHER", KEY).args(arguments).args(["--data-dir", "data"]);
    command
}

fn run(folder: &Path, spec: &str) -> Output {
    command(folder, &["run", spec, "--json"]).output().unwrap()
}

/// What a run made, without what differs between two: ids, and how long answers took.
fn made(output: &Output) -> Value {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut value: Value = serde_json::from_slice(&output.stdout).unwrap();
    value.as_object_mut().unwrap().remove("job");
    let teacher = value["teacher"].as_object_mut().unwrap();
    teacher["account"].as_object_mut().unwrap().remove("seconds");
    for member in teacher.get_mut("members").and_then(Value::as_array_mut).into_iter().flatten() {
        member[1].as_object_mut().unwrap().remove("seconds");
    }
    value
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = vec![];
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

/// A teacher, another one and a model of this machine. The first writes English, the other Spanish.
fn mixed() -> String {
    let (head, tail) = spec(0).split_once("[generator]").map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
    let policy = &tail[tail.find("[policy]").unwrap()..];
    let teacher = |name: &str, server: &str, template: &str| {
        format!(
            "[[generator.members]]\nname = '{name}'\n[generator.members.generator]\nkind = 'api'\nteacher = '{server}'\n\
             model = 'm'\nmax_completion_tokens = 64\nsend_seed = true\ntemplate = '{template}'\n"
        )
    };
    format!(
        "{head}[generator]\nkind = 'mix'\nprompts = {{ path = 'embedded:prompts/articles.jsonl' }}\nlearn = true\n\
         learning_rate = 0.7\n{}{}[[generator.members]]\nname = 'here'\n[generator.members.generator]\n\
         model = 'embedded:generator'\ntemplate = 'Rephrase the article. {{text}} '\nmax_new_tokens = 16\n{}",
        teacher("first", "fake", "Rephrase in English: {text}"),
        teacher("second", "fake-2", "Rephrase in Spanish: {text}"),
        policy.replace("learning_rate = 0.7", "learning_rate = 1e-4") + "export_generator = true\n",
    )
}

/// The bytes of the published tables.
fn tables(folder: &Path) -> Vec<Vec<u8>> {
    let files = files(&folder.join("data/registry"));
    let tables = files.iter().filter(|path| path.extension().is_some_and(|extension| extension == "parquet"));
    tables.map(|path| fs::read(path).unwrap()).collect()
}

fn assert_no_key(folder: &Path, output: &Output) {
    for said in [&output.stdout, &output.stderr] {
        assert!(!String::from_utf8_lossy(said).contains(KEY));
    }
    for path in files(folder) {
        let bytes = fs::read(&path).unwrap();
        assert!(
            !bytes.windows(KEY.len()).any(|part| part == KEY.as_bytes()),
            "the key is in {}",
            path.display()
        );
    }
}

#[test]
fn the_arm_that_serves_the_metric_becomes_likely_whatever_the_seed() {
    let server = server(Arc::default(), Arc::new(usize::MAX.into()));
    for seed in 0..3 {
        let place = folder(&server, seed);
        let made = made(&run(place.path(), "spec.toml"));
        let arms = made["teacher"]["arms"].as_array().unwrap();
        let spanish = arms.iter().find(|arm| arm["name"] == "spanish").unwrap();
        assert!(spanish["probability"].as_f64().unwrap() > 0.7, "seed {seed}: {made:#}");
        let card =
            files(&place.path().join("data/registry")).into_iter().find(|path| path.ends_with("README.md"));
        let card = fs::read_to_string(card.unwrap()).unwrap();
        for part in [
            "## What was asked",
            "| spanish | 0.500 |",
            "98 requests for 98 answers",
            "in money",
            "name: arm",
        ] {
            assert!(card.contains(part), "`{part}` is not in {card}");
        }
    }
}

#[test]
fn a_run_that_is_killed_asks_for_nothing_twice_and_ends_the_same() {
    let (answered, most) = (Arc::<Mutex<Vec<Value>>>::default(), Arc::new(AtomicUsize::new(usize::MAX)));
    let server = server(Arc::clone(&answered), Arc::clone(&most));
    let whole = folder(&server, 0);
    let expected = run(whole.path(), "spec.toml");
    let account = made(&expected)["teacher"]["account"].clone();
    assert_eq!(account["requests"], ANSWERS);
    assert_eq!(answered.lock().unwrap().len(), ANSWERS);
    assert_no_key(whole.path(), &expected);

    answered.lock().unwrap().clear();
    // in the first validation, in the middle of a step, and while the dataset is drawn
    let broken = folder(&server, 0);
    for kill_at in [5, 30, 80] {
        most.store(kill_at, Ordering::Relaxed);
        let log = fs::File::create(broken.path().join("log")).unwrap();
        let mut child =
            command(broken.path(), &["run", "spec.toml"]).stdout(Stdio::null()).stderr(log).spawn().unwrap();
        let kept = || {
            let runs = broken.path().join("data/runs");
            let files = if runs.exists() { files(&runs) } else { vec![] };
            let kept = files.iter().find(|path| path.ends_with("answers.jsonl"));
            kept.map_or(0, |path| fs::read_to_string(path).unwrap().lines().count())
        };
        let begun = Instant::now();
        while kept() < kill_at {
            assert!(
                begun.elapsed() < Duration::from_mins(5) && child.try_wait().unwrap().is_none(),
                "no answers"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }
    most.store(usize::MAX, Ordering::Relaxed);
    let resumed = run(broken.path(), "spec.toml");
    assert_eq!(made(&resumed), made(&expected));
    assert_eq!(tables(broken.path()), tables(whole.path()));
    assert_no_key(broken.path(), &resumed);
    let mut seeds: Vec<_> =
        answered.lock().unwrap().iter().map(|body| body["seed"].as_u64().unwrap()).collect();
    assert_eq!(seeds.len(), ANSWERS, "each was answered, and paid for, once");
    seeds.sort_unstable();
    seeds.dedup();
    assert_eq!(seeds.len(), ANSWERS);
}

/// Whoever writes in the language of the metric writes more; a run that is killed in its second step, while its teachers are
/// asked, goes on as it would have.
#[test]
fn a_mix_learns_who_writes_and_is_not_changed_by_a_kill() {
    let (answered, most) = (Arc::<Mutex<Vec<Value>>>::default(), Arc::new(AtomicUsize::new(usize::MAX)));
    let server = server(Arc::clone(&answered), Arc::clone(&most));
    let start = || {
        let place = folder(&server, 0);
        fs::write(place.path().join("mixed.toml"), mixed()).unwrap();
        place
    };
    let whole = start();
    let expected = run(whole.path(), "mixed.toml");
    let told = made(&expected);
    let arm = |name: &str| {
        let arms = told["teacher"]["arms"].as_array().unwrap();
        arms.iter().find(|arm| arm["name"] == name).unwrap()["probability"].as_f64().unwrap()
    };
    assert!(arm("second") > 0.5 && arm("second") > arm("first").max(arm("here")), "{told:#}");
    let all = answered.lock().unwrap().len();
    let members = told["teacher"]["members"].as_array().unwrap();
    let requests: Vec<_> =
        members.iter().map(|member| (&member[0], member[1]["requests"].as_u64())).collect();
    assert_eq!((requests[0].0, requests[1].0), (&"first".into(), &"second".into()));
    assert_eq!(requests.iter().map(|(_, requests)| requests.unwrap()).sum::<u64>(), all as u64);
    let card =
        files(&whole.path().join("data/registry")).into_iter().find(|path| path.ends_with("README.md"));
    let card = fs::read_to_string(card.unwrap()).unwrap();
    for part in ["| second | 0.333 |", "- here: embedded:generator", "\nfirst: ", "name: arm"] {
        assert!(card.contains(part), "`{part}` is not in {card}");
    }

    let (fetched, folder) = (whole.path().join("fetched"), whole.path());
    let done =
        |output: Output| assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    done(command(folder, &["fetch", "taught", fetched.to_str().unwrap()]).output().unwrap());
    let drawn =
        command(folder, &["generate", fetched.to_str().unwrap(), "--examples", "3"]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&drawn.stdout).lines().count(), 3, "{drawn:?}");
    done(drawn);

    let broken = start();
    answered.lock().unwrap().clear();
    let kill_at = 25;
    most.store(kill_at, Ordering::Relaxed);
    let mut child = command(broken.path(), &["run", "mixed.toml"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let begun = Instant::now();
    while answered.lock().unwrap().len() < kill_at {
        assert!(
            begun.elapsed() < Duration::from_mins(5) && child.try_wait().unwrap().is_none(),
            "no answers"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    // the last of them is written down
    std::thread::sleep(Duration::from_millis(300));
    child.kill().unwrap();
    child.wait().unwrap();
    most.store(usize::MAX, Ordering::Relaxed);
    assert_eq!(made(&run(broken.path(), "mixed.toml")), told);
    assert_eq!(tables(broken.path()), tables(whole.path()));
    let answered = answered.lock().unwrap();
    assert!(answered.len() <= all + 3, "at most what was under way was asked again: {}", answered.len());
}

#[test]
fn a_budget_ends_the_training_in_time_for_the_dataset() {
    let server = server(Arc::default(), Arc::new(usize::MAX.into()));
    let place = folder(&server, 0);
    // 15 tokens an answer: room for one step and the dataset
    let bounded = format!("{}\n[generator.budget]\ntokens = 1200\n", spec(0));
    fs::write(place.path().join("bounded.toml"), bounded).unwrap();
    let output = run(place.path(), "bounded.toml");
    let made = made(&output);
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("not for another step: 1 steps were made"),
        "{output:?}"
    );
    assert_eq!(made["rows"], 32);
    let account = &made["teacher"]["account"];
    let tokens = account["prompt_tokens"].as_u64().unwrap() + account["completion_tokens"].as_u64().unwrap();
    assert!(tokens <= 1200, "{account}");
}
