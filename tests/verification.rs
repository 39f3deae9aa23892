//! A dataset is tried out before and after it is published: one that helps becomes `latest`, one that
//! does not is kept aside. And its generator draws more.

mod serving;

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use dpg_queue::State;
use dpg_registry::{Registry, open_store};
use serde_json::{Value, json};
use serving::{Place, job};

/// The generator is hardly trained; what makes the dataset better is which rows are kept.
const SPEC: &str = r#"
name = "tried"
seed = 5
[target]
model = "embedded:target"
[target.sft]
optimizer = { kind = "adamw", learning_rate = 1e-4, eps_root = 1e-4 }
sequence_length = 48
batch_size = 16
[metric]
kind = "held_out_loss"
data = { path = "embedded:held-out/es.jsonl", column = "text", limit = 16 }
[generator]
model = "embedded:generator"
prompts = { path = "embedded:prompts/articles.jsonl" }
template = "Rephrase the article.\n{text}\n"
min_new_tokens = 8
max_new_tokens = 24
[policy]
steps = 1
prompts_per_step = 4
group_size = 4
learning_rate = 1e-6
validate_every = 0
validation_examples = 4
[output]
examples = 400
select = { top_fraction = 0.2 }
publish_if = "better_than_controls"
export_generator = true
"#;

/// All rows of the same generator: no better than those of the control.
fn useless() -> String {
    SPEC.replace("examples = 400", "examples = 48").replace("select = { top_fraction = 0.2 }\n", "")
}

fn dpg(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dpg"));
    command.current_dir(folder).args(arguments).args(["--data-dir", "data"]).output().unwrap()
}

fn said(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn refusal(output: &Output) -> String {
    assert!(!output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn registry(folder: &Path) -> Registry {
    let (store, prefix) = open_store(&folder.join("data/registry").to_string_lossy()).unwrap();
    Registry::new(store, prefix, folder.join("data/signing-key.pem"))
}

#[tokio::test]
#[ignore = "a story of a run and two verifications; .ci/run runs it"]
async fn a_better_dataset_is_published_with_a_signed_record_and_its_generator() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    fs::write(folder.join("spec.toml"), SPEC).unwrap();
    said(&dpg(folder, &["run", "spec.toml"]));

    let registry = registry(folder);
    let version = registry.resolve("tried", "latest").await.unwrap();
    let [attestation] = &version.attestations[..] else { panic!("{version:?}") };
    let report = registry.report(&version, attestation).await.unwrap();
    assert_eq!((attestation.is_proof(), &report["failures"]), (true, &json!([])));
    let spanish = |arm: &str| {
        let proxies = report["arms"][arm]["proxies"].as_array().unwrap();
        proxies
            .iter()
            .find(|figure| figure["name"] == "spa")
            .map_or(0.0, |figure| figure["mean"].as_f64().unwrap())
    };
    assert!(spanish("dataset") > spanish("untrained_generator"), "{report:#}");

    let shown = said(&dpg(folder, &["datasets", "show", "tried"]));
    for part in ["passed verification", "signed by this machine's key", "the untrained generator's"] {
        assert!(shown.contains(part), "no `{part}` in\n{shown}");
    }
    assert!(said(&dpg(folder, &["datasets", "tried"])).contains("latest  verified"));
    said(&dpg(folder, &["fetch", "tried", "fetched"]));
    let card = fs::read_to_string(folder.join("fetched/README.md")).unwrap();
    assert!(card.contains("| all but the worst tenth |") && card.contains("## The generator"), "{card}");

    // again, from what was published, and with the prompts that were published
    let again: Value =
        serde_json::from_str(&said(&dpg(folder, &["verify", "tried", "--seeds", "3", "--json"]))).unwrap();
    assert_eq!(again["report"]["holds"], true);
    assert_eq!(registry.resolve("tried", "v1").await.unwrap().attestations.len(), 2);

    // the generator draws the same for a seed, wherever it lies
    let draw = |more: &[&str]| {
        let output = dpg(folder, &[&["generate"], more, &["--examples", "3"]].concat());
        said(&output).lines().map(|line| serde_json::from_str::<Value>(line).unwrap()).collect::<Vec<_>>()
    };
    let drawn = draw(&["tried@v1"]);
    assert_eq!(drawn.len(), 3);
    assert!(drawn.iter().all(|row| !row["text"].as_str().unwrap().is_empty()), "{drawn:?}");
    assert_eq!(draw(&["fetched"]), drawn);
    assert_ne!(draw(&["tried", "--seed", "1"]), drawn);
    let scored = draw(&["tried", "--score"]);
    assert!(
        scored
            .iter()
            .zip(&drawn)
            .all(|(scored, row)| scored["text"] == row["text"] && scored["reward"].is_f64())
    );
    fs::write(folder.join("mine.jsonl"), "{\"text\": \"The cat sleeps.\"}\n").unwrap();
    let mine = ["--prompts", "mine.jsonl", "--template", "{text}", "--max-new-tokens", "4"];
    assert_eq!(draw(&[&["fetched/generator"][..], &mine].concat()).len(), 3);
}

#[tokio::test]
#[ignore = "a story of a run and its verification; .ci/run runs it"]
async fn a_useless_dataset_is_kept_aside() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    fs::write(folder.join("spec.toml"), useless()).unwrap();
    let message = refusal(&dpg(folder, &["run", "spec.toml"]));
    for part in
        ["tried@v1 is kept but withheld", "no better than what the untrained generator writes", "publish_if"]
    {
        assert!(message.contains(part), "no `{part}` in\n{message}");
    }
    let registry = registry(folder);
    assert!(registry.resolve("tried", "latest").await.is_err());
    let version = registry.resolve("tried", "v1").await.unwrap();
    assert!(version.attestations.iter().all(|attestation| !attestation.holds));
    registry.verify(&version).await.unwrap();
    // it is there for whoever asks for it
    said(&dpg(folder, &["datasets", "tag", "tried@v1", "mine"]));
    said(&dpg(folder, &["fetch", "tried@mine", "fetched"]));
    assert!(refusal(&dpg(folder, &["verify", "tried@mine"])).contains("does not hold"));
}

#[tokio::test]
#[ignore = "a story of a run and its verification; .ci/run runs it"]
async fn a_useless_dataset_fails_its_job() {
    let folder = tempfile::tempdir().unwrap();
    let place = Place::new(folder.path(), "");
    let queue = place.queue().await;
    let id = queue.submit(&job(&useless(), 3)).await.unwrap().job.id;
    let mut daemon = place.start();
    let ended = daemon.until(&queue, id, |job| job.state.has_ended()).await;
    assert_eq!((ended.state, ended.attempts), (State::Failed, 1), "{ended:#?}");
    assert!(ended.error.as_ref().unwrap().contains("withheld"), "{ended:#?}");
    // an attempt after one that was killed before it could say so says the same
    let again = queue.retry(id).await.unwrap();
    let ended = daemon.until(&queue, again.id, |job| job.state.has_ended()).await;
    assert_eq!(ended.state, State::Failed, "{ended:#?}");
    let kinds: Vec<_> =
        queue.events(id, 0, 1000).await.unwrap().into_iter().map(|event| event.kind).collect();
    assert!(kinds.iter().any(|kind| kind == "verifying"), "{kinds:?}");
    // a daemon tells the verdict; what it serves can be verified elsewhere, and it records what was found
    let url = daemon.log().split_whitespace().find(|word| word.starts_with("http://")).unwrap().to_owned();
    let shown = said(&dpg(folder.path(), &["datasets", "show", "tried@v1", "--url", &url]));
    assert!(shown.contains("did not pass verification"), "{shown}");
    let verified = dpg(folder.path(), &["verify", "tried@v1", "--seeds", "2", "--url", &url]);
    let said = refusal(&verified);
    assert!(said.contains("does not hold") && !said.contains("cannot record"), "{said}");
    let version = registry(folder.path()).resolve("tried", "v1").await.unwrap();
    assert_eq!(version.attestations.iter().map(|one| one.holds).collect::<Vec<_>>(), [false, false]);
    let dataset = registry(folder.path()).dataset("tried").await.unwrap();
    assert_eq!((dataset.versions.len(), dataset.latest()), (1, None));
}
