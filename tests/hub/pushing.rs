//! Versions as datasets of the Hugging Face Hub: pushed, read there by Python, and pulled again.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use axum::http::StatusCode;

use super::published;
use super::python::python;
use super::their_hub::{Server, TOKEN};
use super::tree::files_of;

/// `dpg` in a folder, with a Hub.
async fn dpg(folder: &Path, server: &Server, arguments: &[&str]) -> (bool, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dpg"));
    command.current_dir(folder).args(["--data-dir", "data"]).args(arguments);
    for name in ["DPG_URL", "DPG_STORE", "HF_HUB_CACHE", "HF_HUB_OFFLINE"] {
        command.env_remove(name);
    }
    command.env("HF_ENDPOINT", &server.endpoint).env("HF_TOKEN", TOKEN).env("HF_HOME", folder.join("hf"));
    ended(command).await
}

/// The server answers on the test's runtime.
async fn ended(mut command: Command) -> (bool, String) {
    let Output { status, stdout, stderr } =
        tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    (status.success(), String::from_utf8(stdout).unwrap() + &String::from_utf8(stderr).unwrap())
}

async fn succeed(folder: &Path, server: &Server, arguments: &[&str]) -> String {
    let (success, said) = dpg(folder, server, arguments).await;
    assert!(success, "{arguments:?}: {said}");
    said
}

async fn fail(folder: &Path, server: &Server, arguments: &[&str]) -> String {
    let (success, said) = dpg(folder, server, arguments).await;
    assert!(!success, "{arguments:?}: {said}");
    said
}

/// What a repository has at its branch, but for git's own file.
fn pushed(server: &Server, name: &str) -> BTreeMap<PathBuf, Vec<u8>> {
    let files = server.hub().repositories[name].files().clone().into_iter();
    files
        .map(|(path, bytes)| (path.into(), bytes))
        .filter(|(path, _)| path != Path::new(".gitattributes"))
        .collect()
}

fn uploads(server: &Server) -> usize {
    std::mem::take(&mut server.hub().log).iter().filter(|line| line.starts_with("PUT storage/")).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_is_pushed_and_pulled_again() {
    let ((folder, _), server) = (published().await, Server::start().await);
    let folder = folder.path();
    succeed(folder, &server, &["fetch", "six@v1", "one"]).await;
    succeed(folder, &server, &["fetch", "six@v2", "two"]).await;

    let said = succeed(folder, &server, &["datasets", "push", "six@v1", "hf:org/six", "--private"]).await;
    assert!(said.contains("six@v1 is at ") && said.contains("/datasets/org/six"), "{said}");
    assert!(said.contains("datasets.load_dataset(\"org/six\", revision=\"v1\")"), "{said}");
    assert_eq!(pushed(&server, "org/six"), files_of(&folder.join("one")));
    assert!(server.hub().repositories["org/six"].private);
    let parquet = files_of(&folder.join("one"))
        .keys()
        .filter(|path| path.extension().is_some_and(|kind| kind == "parquet"))
        .count();
    assert_eq!(uploads(&server), parquet);
    assert!(!folder.join("data/pushes").read_dir().unwrap().any(|_| true), "the copy is gone");

    // once more, and there is nothing to do
    let said = succeed(folder, &server, &["datasets", "push", "six@v1", "hf:org/six"]).await;
    assert!(said.contains("0 files sent"), "{said}");
    assert_eq!((uploads(&server), server.hub().repositories["org/six"].commits.len()), (0, 2));

    // another version is not put over it unless that is asked for
    let said = fail(folder, &server, &["datasets", "push", "six@v2", "hf:org/six"]).await;
    assert!(said.contains("has files that are not those of this version: `manifest.json`, "), "{said}");
    assert!(said.contains("--overwrite") && uploads(&server) == 0, "{said}");
    server
        .hub()
        .repositories
        .get_mut("org/six")
        .unwrap()
        .commits
        .last_mut()
        .unwrap()
        .1
        .insert("mine.txt".into(), vec![]);
    let said = succeed(folder, &server, &["datasets", "push", "six@v2", "hf:org/six", "--overwrite"]).await;
    assert!(said.contains("1 removed"), "{said}");
    assert_eq!(pushed(&server, "org/six"), files_of(&folder.join("two")));

    // each is found by its tag, or by its branch
    for (revision, fetched) in [("@v1", "one"), ("@v2", "two"), ("", "two")] {
        let pulled = format!("pulled{revision}");
        let said =
            succeed(folder, &server, &["datasets", "pull", &format!("hf:org/six{revision}"), &pulled]).await;
        assert!(said.contains("six of hf:org/six@"), "{said}");
        assert_eq!(files_of(&folder.join(&pulled)), files_of(&folder.join(fetched)));
    }
    // into the store of a machine that believes the key, and of one that does not
    let key = succeed(folder, &server, &["datasets", "public-key"]).await;
    let there = ["datasets", "pull", "hf:org/six@v2", "--store", "there"];
    let stranger = folder.join("stranger");
    fs::create_dir(&stranger).unwrap();
    let said = fail(&stranger, &server, &there).await;
    assert!(said.contains("signed by unknown key") && said.contains("[trust.keys]"), "{said}");
    fs::create_dir_all(stranger.join("data")).unwrap();
    let trusted = format!("[trust.keys]\npusher = \"\"\"{key}\"\"\"\n");
    fs::write(stranger.join("data/dpg.toml"), trusted).unwrap();
    for _ in 0..2 {
        let said = succeed(&stranger, &server, &there).await;
        assert!(said.contains("hf:org/six@v2 is six@v1 ("), "{said}");
    }
    succeed(&stranger, &server, &["fetch", "six", "mine", "--store", "there"]).await;
    assert_eq!(files_of(&stranger.join("mine")), files_of(&folder.join("two")));
    // what was changed is kept
    fs::write(folder.join("pulled/README.md"), "mine").unwrap();
    let said = fail(folder, &server, &["datasets", "pull", "hf:org/six@v1", "pulled"]).await;
    assert!(said.contains("was changed since it was fetched"), "{said}");
    succeed(folder, &server, &["datasets", "pull", "hf:org/six@v1", "pulled", "--overwrite"]).await;
    let said = fail(folder, &server, &["datasets", "pull", "hf:org/six@v9", "nine"]).await;
    assert!(said.contains("has no such revision"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_that_was_cut_off_sends_nothing_twice() {
    let ((folder, registry), server) = (published().await, Server::start().await);
    let folder = folder.path();
    let push = ["datasets", "push", "six@v3", "hf:org/six"];
    server.hub().chunk = Some(1000);
    server.hub().faults.push(("/commit/", StatusCode::FORBIDDEN));
    let said = fail(folder, &server, &push).await;
    assert!(said.contains("403") && said.contains("asked for by the test"), "{said}");
    assert!(said.contains("`HF_TOKEN`"), "{said}");
    assert!(uploads(&server) > 3, "in parts");
    assert!(folder.join("data/pushes/six-v3").exists());

    // a storage that is busy is asked again, and nothing that it has is sent again
    server.hub().faults.push(("objects/batch", StatusCode::SERVICE_UNAVAILABLE));
    server.hub().race = true;
    let said = fail(folder, &server, &push).await;
    assert!(said.contains("has got another commit meanwhile"), "{said}");
    assert_eq!(uploads(&server), 0);
    succeed(folder, &server, &push).await;
    assert_eq!(uploads(&server), 0);
    succeed(folder, &server, &["fetch", "six@v3", "three"]).await;
    assert_eq!(pushed(&server, "org/six"), files_of(&folder.join("three")));

    registry.yank("six", 1, "a mistake").await.unwrap();
    let said = fail(folder, &server, &["datasets", "push", "six@v1", "hf:org/other"]).await;
    assert!(
        said.contains("six@v1 was withdrawn and is not pushed: ") && said.contains("a mistake"),
        "{said}"
    );
    let said = fail(folder, &server, &["datasets", "push", "six@v2", "s3://bucket/six"]).await;
    assert!(said.contains("expected `hf:org/name`"), "{said}");
    assert!(!server.hub().repositories.contains_key("org/other"));
}

/// Python's own client pushes and reads at the same server, so that this is held to it.
#[tokio::test(flavor = "multi_thread")]
async fn python_reads_what_was_pushed_and_pushes_what_is_pulled() {
    const SCRIPT: &str = "
import datasets, huggingface_hub, sys
api = huggingface_hub.HfApi()
rows = datasets.load_dataset('org/six', revision='v1', split='train')
print(len(rows), rows[0]['text'])
api.create_repo('org/again', repo_type='dataset', private=True)
api.upload_folder(repo_id='org/again', folder_path='one', repo_type='dataset', commit_message='from Python')
api.create_tag('org/again', tag='v1', repo_type='dataset')
assert sorted(api.list_repo_files('org/again', repo_type='dataset')) == sorted(api.list_repo_files('org/six', repo_type='dataset'))
huggingface_hub.snapshot_download('org/six', repo_type='dataset', revision='v1', local_dir='snapshot')
";
    let Some(python) = python("datasets, huggingface_hub") else { return };
    let ((folder, _), server) = (published().await, Server::start().await);
    let folder = folder.path();
    succeed(folder, &server, &["fetch", "six@v1", "one"]).await;
    succeed(folder, &server, &["datasets", "push", "six@v1", "hf:org/six"]).await;
    for chunk in [None, Some(2000)] {
        server.hub().chunk = chunk;
        server.hub().storage.clear();
        server.hub().repositories.remove("org/again");
        uploads(&server);
        let mut command = Command::new(&python);
        command.current_dir(folder).args(["-c", SCRIPT]);
        command
            .env("HF_ENDPOINT", &server.endpoint)
            .env("HF_TOKEN", TOKEN)
            .env("HF_HOME", folder.join("python"));
        command.env("HF_HUB_DISABLE_XET", "1").env_remove("HF_HUB_OFFLINE");
        let (success, said) = ended(command).await;
        assert!(success && said.contains("300 version 1, example 0: ¿qué?"), "{said}");
        assert_eq!(pushed(&server, "org/again"), files_of(&folder.join("one")));
        assert!(uploads(&server) > 0);
    }
    succeed(folder, &server, &["datasets", "pull", "hf:org/again@v1", "again"]).await;
    assert_eq!(files_of(&folder.join("again")), files_of(&folder.join("one")));
}
