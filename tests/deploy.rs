//! What is in `deploy/` agrees with the program: flags, settings, ports, times and metric names. And
//! `dpg doctor`, which tells whether a place is fit to run in.

mod skip;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde::Deserialize;
use serde_json::Value;

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

fn read(path: &str) -> String {
    fs::read_to_string(repository().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The documents of a YAML file.
fn yaml(path: &str) -> Vec<Value> {
    let documents = serde_yaml_ng::Deserializer::from_str(&read(path)).map(Value::deserialize).collect();
    let documents: Result<Vec<_>, _> = documents;
    documents.unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// All Kubernetes objects, by kind and name.
fn kubernetes() -> BTreeMap<(String, String), Value> {
    let mut objects = BTreeMap::new();
    for entry in fs::read_dir(repository().join("deploy/k8s")).unwrap() {
        let path = format!("deploy/k8s/{}", entry.unwrap().file_name().to_str().unwrap());
        for object in yaml(&path) {
            let text =
                |value: &Value| value.as_str().unwrap_or_else(|| panic!("{path}: {object}")).to_owned();
            assert!(!text(&object["apiVersion"]).is_empty());
            let key = (text(&object["kind"]), text(&object["metadata"]["name"]));
            assert!(objects.insert(key, object).is_none(), "{path} has an object twice");
        }
    }
    objects
}

fn object<'a>(objects: &'a BTreeMap<(String, String), Value>, kind: &str, name: &Value) -> &'a Value {
    let key = (kind.to_owned(), name.as_str().unwrap_or_default().to_owned());
    objects.get(&key).unwrap_or_else(|| panic!("there is no {kind} {name}"))
}

fn words(list: &Value) -> Vec<String> {
    list.as_array().unwrap().iter().map(|word| word.as_str().unwrap().to_owned()).collect()
}

fn dpg(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dpg"));
    for name in ["DPG_CONFIG", "DPG_LISTEN", "DPG_DATABASE", "DPG_STORE", "DPG_DEVICE"] {
        command.env_remove(name);
    }
    command.env("DPG_DATA_DIR", folder.join("data")).args(arguments).output().unwrap()
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Every flag of a command line is one the program has: it gets as far as `--help`.
fn assert_command(arguments: &[String]) {
    let folder = tempfile::tempdir().unwrap();
    let mut arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    arguments.push("--help");
    let output = dpg(folder.path(), &arguments);
    assert!(output.status.success(), "{arguments:?}: {}", said(&output));
}

/// The settings in a text, with those flags, as the program understands them.
fn settings(toml: &str, flags: &[&str]) -> Value {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("dpg.toml");
    fs::write(&file, toml).unwrap();
    let file = file.to_str().unwrap();
    let output = dpg(folder.path(), &[&["config", "show", "--json", "--config", file], flags].concat());
    assert!(output.status.success(), "{}", said(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The environment variables that `dpg serve` reads.
fn variables() -> BTreeSet<String> {
    let folder = tempfile::tempdir().unwrap();
    let help = said(&dpg(folder.path(), &["serve", "--help"]));
    let names = help.split("[env: ").skip(1).map(|rest| rest.split(['=', ']']).next().unwrap().to_owned());
    names.collect()
}

fn assert_variables<'a>(names: impl Iterator<Item = &'a String>) {
    let known = variables();
    assert!(known.contains("DPG_DATABASE"), "{known:?}");
    for name in names.filter(|name| name.starts_with("DPG_")) {
        assert!(known.contains(name), "{name} is none of {known:?}");
    }
}

fn seconds(text: &str) -> u64 {
    text.trim_end_matches('s').parse().unwrap()
}

#[test]
fn compose_agrees_with_the_program() {
    let compose = &yaml("deploy/compose.yaml")[0];
    let services = compose["services"].as_object().unwrap();
    let daemon = &services["daemon"];
    let command = words(&daemon["command"]);
    assert_command(&command);
    assert_variables(daemon["environment"].as_object().unwrap().keys());
    let flags: Vec<&str> = command[3..].iter().map(String::as_str).collect();
    assert_eq!((&*command[0], &*command[1]), ("serve", "--config"));
    assert_eq!(daemon["configs"][0]["target"], command[2].as_str());
    let settings = settings(compose["configs"]["settings"]["content"].as_str().unwrap(), &flags);
    let grace = seconds(daemon["stop_grace_period"].as_str().unwrap());
    assert!(grace > settings["worker"]["shutdown_seconds"].as_u64().unwrap());
    // reached from this machine alone, on the port it listens on
    let port = settings["listen"].as_str().unwrap().rsplit_once(':').unwrap().1.to_owned();
    assert_eq!(words(&daemon["ports"]), [format!("127.0.0.1:{port}:{port}")]);

    for (name, service) in services {
        for needed in service["depends_on"].as_object().into_iter().flatten() {
            assert!(services.contains_key(needed.0), "{name} needs {needed:?}");
        }
        for volume in service["volumes"].as_array().into_iter().flatten() {
            let volume = volume.as_str().unwrap().split(':').next().unwrap();
            assert!(compose["volumes"].as_object().unwrap().contains_key(volume), "{name}: {volume}");
        }
        // every secret comes from the file that is kept out of version control
        for (variable, value) in service["environment"].as_object().into_iter().flatten() {
            if variable.contains("PASSWORD") || variable.contains("SECRET") {
                assert!(value.as_str().unwrap().starts_with("${"), "{name}: {variable}");
            }
        }
    }
    let example = read("deploy/.env.example");
    for used in read("deploy/compose.yaml").split("${").skip(1) {
        let (name, rest) = used.split_once(':').unwrap();
        let known = example.lines().any(|line| line.split('=').next() == Some(name));
        assert!(known || rest.starts_with('-'), "{name} is not in .env.example");
    }
}

#[test]
fn kubernetes_agrees_with_the_program_and_itself() {
    let objects = kubernetes();
    let deployment = object(&objects, "Deployment", &"dpg".into());
    let pod = &deployment["spec"]["template"];
    let container = &pod["spec"]["containers"][0];
    assert_command(&words(&container["args"]));

    // what it refers to is there
    let labels = &pod["metadata"]["labels"];
    let service = object(&objects, "Service", &"dpg".into());
    let budget = object(&objects, "PodDisruptionBudget", &"dpg".into());
    assert_eq!(&deployment["spec"]["selector"]["matchLabels"], labels);
    assert_eq!(&budget["spec"]["selector"]["matchLabels"], labels);
    assert_eq!(&service["spec"]["selector"], labels);
    let secret = object(&objects, "Secret", &container["envFrom"][0]["secretRef"]["name"]);
    assert_variables(secret["stringData"].as_object().unwrap().keys());
    let mut volumes = BTreeSet::new();
    for volume in pod["spec"]["volumes"].as_array().unwrap() {
        volumes.insert(volume["name"].as_str().unwrap());
        if !volume["configMap"].is_null() {
            object(&objects, "ConfigMap", &volume["configMap"]["name"]);
        }
        if !volume["secret"].is_null() {
            object(&objects, "Secret", &volume["secret"]["secretName"]);
        }
    }
    for mount in container["volumeMounts"].as_array().unwrap() {
        assert!(volumes.contains(mount["name"].as_str().unwrap()), "{mount}");
    }
    let scaled = object(&objects, "ScaledObject", &"dpg".into());
    object(&objects, "Deployment", &scaled["spec"]["scaleTargetRef"]["name"]);
    assert!(
        deployment["spec"]["replicas"].is_null(),
        "KEDA and the Deployment would fight over the replicas"
    );

    // ports and times are those of the settings
    let config = object(&objects, "ConfigMap", &"dpg".into());
    let settings = settings(config["data"]["dpg.toml"].as_str().unwrap(), &[]);
    let port = &container["ports"][0];
    assert!(settings["listen"].as_str().unwrap().ends_with(&format!(":{}", port["containerPort"])));
    assert_eq!(service["spec"]["ports"][0]["targetPort"], port["name"]);
    let annotations = &pod["metadata"]["annotations"];
    assert_eq!(annotations["prometheus.io/port"], port["containerPort"].to_string());
    let grace = pod["spec"]["terminationGracePeriodSeconds"].as_u64().unwrap();
    assert!(grace > settings["worker"]["shutdown_seconds"].as_u64().unwrap());
    assert_eq!(
        scaled["spec"]["triggers"][0]["metadata"]["threshold"],
        settings["worker"]["slots"].to_string()
    );
    for probe in ["startupProbe", "livenessProbe", "readinessProbe"] {
        assert_eq!(container[probe]["httpGet"]["port"], port["name"]);
    }
    assert_eq!(pod["spec"]["securityContext"]["runAsNonRoot"], true);
    assert_eq!(container["securityContext"]["readOnlyRootFilesystem"], true);
}

#[test]
fn batch_systems_start_one_job() {
    let objects = kubernetes();
    let deployment = object(&objects, "Deployment", &"dpg".into());
    let job = object(&objects, "Job", &"dpg-once".into());
    let (daemon, pod) = (&deployment["spec"]["template"]["spec"], &job["spec"]["template"]["spec"]);
    let (served, container) = (&daemon["containers"][0], &pod["containers"][0]);
    assert_command(&words(&container["args"]));
    assert_eq!(container["resources"]["limits"]["nvidia.com/gpu"], 1);
    // the settings, keys and rights are the daemons'
    for key in ["envFrom", "securityContext", "volumeMounts"] {
        assert_eq!(container[key], served[key], "{key}");
    }
    for key in ["securityContext", "terminationGracePeriodSeconds", "volumes"] {
        assert_eq!(pod[key], daemon[key], "{key}");
    }

    let script = read("deploy/slurm.sh");
    let command = script.lines().find_map(|line| line.strip_prefix("srun dpg ")).unwrap();
    assert_command(&command.split_whitespace().map(str::to_owned).collect::<Vec<_>>());
    assert!(
        Command::new("sh").arg("-n").arg(repository().join("deploy/slurm.sh")).status().unwrap().success()
    );
}

#[test]
fn the_container_file_agrees_with_the_program() {
    let file = read("deploy/Dockerfile");
    let stages: Vec<&str> = file.split("\nFROM ").skip(1).collect();
    let manifest: toml::Table = toml::from_str(&read("Cargo.toml")).unwrap();
    let rust = manifest["workspace"]["package"]["rust-version"].as_str().unwrap().to_owned();
    assert!(stages[0].starts_with(&format!("rust:{rust}-")), "{}", stages[0]);
    let last = stages.last().unwrap();
    for line in ["USER nonroot:nonroot", "EXPOSE 7117", r#"ENTRYPOINT ["/usr/bin/dpg"]"#, r#"CMD ["serve"]"#]
    {
        assert!(last.lines().any(|found| found == line), "{line} is not in\n{last}");
    }
    assert!(!last.contains("\nRUN "), "the image has no shell");
    assert!(settings("", &[])["listen"].as_str().unwrap().ends_with(":7117"));
    let environment = last.lines().find_map(|line| line.strip_prefix("ENV ")).unwrap();
    let names: Vec<_> =
        environment.split(' ').map(|pair| pair.split('=').next().unwrap().to_owned()).collect();
    assert_variables(names.iter());
}

#[test]
fn the_unit_agrees_with_the_program_and_with_systemd() {
    let unit = read("deploy/dpg.service");
    let setting = |name: &str| {
        let line = unit.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        line.unwrap_or_else(|| panic!("no {name}=")).to_owned()
    };
    let command: Vec<_> = setting("ExecStart").split(' ').map(str::to_owned).collect();
    assert_command(&command[1..]);
    let environment = setting("Environment");
    let names: Vec<_> =
        environment.split(' ').map(|pair| pair.split('=').next().unwrap().to_owned()).collect();
    assert_variables(names.iter());
    let shutdown = settings("", &[])["worker"]["shutdown_seconds"].as_u64().unwrap();
    assert!(seconds(&setting("TimeoutStopSec")) > shutdown);

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("dpg.service");
    fs::write(&file, unit.replace("/usr/bin/dpg ", &format!("{} ", env!("CARGO_BIN_EXE_dpg")))).unwrap();
    let analyze = |arguments: &[&str]| Command::new("systemd-analyze").args(arguments).arg(&file).output();
    let Ok(verified) = analyze(&["verify", "--man=no"]) else {
        skip::skip("there is no `systemd-analyze` to verify the unit with");
        return;
    };
    assert!(verified.status.success() && verified.stderr.is_empty(), "{}", said(&verified));
    let security = analyze(&["security", "--offline=true", "--no-pager", "--threshold=20"]).unwrap();
    assert!(security.status.success(), "{}", said(&security));
}

/// The names in `gauge!("...")` and its like in the daemon's sources, with their kinds, and all
/// strings there, among which are the labels.
fn metrics() -> (BTreeMap<String, &'static str>, BTreeSet<String>) {
    fn walk(folder: &Path, text: &mut String) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, text);
            } else {
                text.push_str(&fs::read_to_string(path).unwrap());
            }
        }
    }
    let mut text = String::new();
    walk(&repository().join("daemon/src"), &mut text);
    let mut found = BTreeMap::new();
    for kind in ["gauge", "counter", "histogram"] {
        for rest in text.split(&format!("{kind}!(")).skip(1) {
            if let Some(name) = rest.trim_start().strip_prefix('"').and_then(|rest| rest.split('"').next()) {
                found.insert(name.to_owned(), kind);
            }
        }
    }
    (found, text.split('"').map(str::to_owned).collect())
}

/// Every name and label of a query exists in the program.
fn assert_query(query: &str, metrics: &(BTreeMap<String, &'static str>, BTreeSet<String>)) {
    let is_word = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    let mut names = 0;
    for word in query.split(|letter| !is_word(letter)).filter(|word| word.starts_with("dpg_")) {
        names += 1;
        let kind = metrics.0.get(word.strip_suffix("_bucket").unwrap_or(word));
        let kind = kind.unwrap_or_else(|| panic!("`{word}` of `{query}` is none of {:?}", metrics.0));
        assert_eq!(word.ends_with("_bucket"), *kind == "histogram", "{word} in {query}");
        assert_eq!(word.ends_with("_total"), *kind == "counter", "{word} in {query}");
    }
    assert!(names > 0, "{query}");
    let grouped = query.split("by (").skip(1).filter_map(|rest| rest.split(')').next());
    let matched = query.split('{').skip(1).filter_map(|rest| rest.split(['=', '!']).next());
    for label in grouped.flat_map(|list| list.split(", ")).chain(matched).filter(|label| *label != "le") {
        assert!(metrics.1.contains(label), "no label `{label}`: {query}");
    }
    let count = |bracket| query.matches(bracket).count();
    assert_eq!((count('('), count('{'), count('[')), (count(')'), count('}'), count(']')), "{query}");
}

#[test]
fn dashboard_and_scaling_ask_for_metrics_that_exist() {
    let metrics = metrics();
    let dashboard: Value = serde_json::from_str(&read("deploy/grafana.json")).unwrap();
    let mut ids = BTreeSet::new();
    let mut asked = String::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{panel}");
        for target in panel["targets"].as_array().unwrap() {
            let query = target["expr"].as_str().unwrap();
            assert_query(query, &metrics);
            asked += query;
        }
    }
    for name in metrics.0.keys() {
        assert!(asked.contains(name), "the dashboard does not show `{name}`");
    }
    let scaled = object(&kubernetes(), "ScaledObject", &"dpg".into()).clone();
    assert_query(scaled["spec"]["triggers"][0]["metadata"]["query"].as_str().unwrap(), &metrics);
}

/// What `dpg doctor` found, by check, and whether it ended well.
fn doctor(folder: &Path, arguments: &[&str]) -> (BTreeMap<String, Value>, bool) {
    let output = dpg(folder, &[&["doctor", "--json", "--listen", "127.0.0.1:0"], arguments].concat());
    let found: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", said(&output)));
    let checks = found["checks"].as_array().unwrap().clone();
    let checks = checks.into_iter().map(|check| (check["check"].as_str().unwrap().to_owned(), check));
    assert_eq!(found["ok"], output.status.success());
    (checks.collect(), output.status.success())
}

#[test]
#[ignore = "tries a new folder with a run; .ci/run runs it"]
fn the_doctor_passes_a_new_folder_and_names_what_fails() {
    let folder = tempfile::tempdir().unwrap();
    let (checks, well) = doctor(folder.path(), &[]);
    assert!(well, "{checks:?}");
    for check in [
        "settings",
        "data folder",
        "disk",
        "queue",
        "clock",
        "store",
        "models",
        "device",
        "hf cache",
        "listen",
    ] {
        assert!(checks.contains_key(check), "{check} is none of {checks:?}");
    }

    let file = folder.path().join("file");
    fs::write(&file, "no certificate").unwrap();
    let file = file.to_str().unwrap();
    let toml = folder.path().join("dpg.toml");
    fs::write(
        &toml,
        format!(
            "[tls]\ncertificate = '{file}'\nkey = '{file}'\n[allow]\nwebhook_hosts = ['a.example']\n\
             [[webhooks]]\nurl = 'https://b.example/x'\nsecret_file = '{file}'\n"
        ),
    )
    .unwrap();
    let unreachable = "postgres://dpg:topsecret@127.0.0.1:1/dpg";
    let arguments = ["--config", toml.to_str().unwrap(), "--database", unreachable, "--store", file];
    let (checks, well) = doctor(folder.path(), &arguments);
    assert!(!well);
    let failed: BTreeSet<_> = checks
        .iter()
        .filter(|(_, check)| check["status"] == "failed")
        .map(|(name, check)| {
            assert!(!check["remedy"].as_str().unwrap().is_empty());
            name.as_str()
        })
        .collect();
    assert_eq!(failed, ["queue", "store", "tls", "webhook"].into());
    assert!(!format!("{checks:?}").contains("topsecret"));
}

#[test]
fn completions_and_the_manual_know_every_command() {
    let folder = tempfile::tempdir().unwrap();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = said(&dpg(folder.path(), &["completions", shell]));
        assert!(script.contains("doctor") && script.contains("verify-signature"), "{shell}: {script}");
    }
    let pages = folder.path().join("man");
    assert!(dpg(folder.path(), &["man", pages.to_str().unwrap()]).status.success());
    for page in ["dpg.1", "dpg-serve.1", "dpg-datasets-diff.1"] {
        assert!(fs::read_to_string(pages.join(page)).unwrap().contains(".TH"), "{page}");
    }
    assert!(said(&dpg(folder.path(), &["man"])).contains(".TH dpg 1"));
    assert!(!folder.path().join("data").exists(), "neither needs a data folder");
}
