//! The metric `external`: what a program does wrong is told, and no program outlives what it was started for.

#[expect(dead_code, reason = "derivatives are measured elsewhere")]
mod subject;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use burn::tensor::Tensor;
use dpg_metagrad::{Context, Error, Metric, ProgramFailure, Score, metrics};
use dpg_models::{StoredType, weights};
use dpg_spec as spec;
use subject::{Subject, context};
use tempfile::TempDir;

/// A program that says hello to what it is told first.
const HELLO: &str = "read -r greeting; echo '{\"dpg\": 1, \"version\": \"a shell\"}';";

/// A program of the shell that measures `model`, and a folder for its files.
struct Setup {
    subject: Subject,
    metric: Arc<dyn Metric>,
    folder: TempDir,
}

impl Setup {
    /// `$FOLDER` of the command is the folder.
    fn new(command: &str, timeout_seconds: u64) -> Self {
        let (subject, folder) = (Subject::new("gpt2"), tempfile::tempdir().unwrap());
        let command = format!("FOLDER='{}'; {command}", folder.path().display());
        let settings = format!(
            r#"{{"kind":"external","program":"shell","timeout_seconds":{timeout_seconds},"parameters":{{"x":0.5}}}}"#
        );
        let mut settings: spec::Metric = serde_json::from_str(&settings).unwrap();
        for program in settings.programs_below("") {
            *program.command = Some(command.clone());
        }
        let metric =
            metrics::from_spec::<Error>(&settings, &subject.lm, &subject.theta, 2, &subject).unwrap();
        fs::create_dir(folder.path().join("scratch")).unwrap();
        Self { subject, metric, folder }
    }

    fn scratch(&self) -> PathBuf {
        self.folder.path().join("scratch")
    }

    fn gradient(&self, stop: &(dyn Fn() -> bool + Sync)) -> Result<(Score, Tensor<1>), Error> {
        let scratch = self.scratch();
        self.metric.score_and_gradient(&self.subject.theta, Context { scratch: &scratch, stop })
    }

    fn score(&self) -> Result<Score, Error> {
        let scratch = self.scratch();
        self.metric.score(&self.subject.theta, Context { scratch: &scratch, ..context() })
    }

    /// The processes whose numbers the program wrote to a file.
    fn processes(&self) -> Vec<String> {
        let text = fs::read_to_string(self.folder.path().join("processes")).unwrap();
        text.split_whitespace().map(str::to_owned).collect()
    }
}

/// Whether a process is there and has not ended.
fn runs(process: &str) -> bool {
    let state = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    state.rsplit(") ").next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with('Z'))
}

fn assert_gone(processes: &[String]) {
    assert!(processes.len() >= 2, "{processes:?}");
    let since = Instant::now();
    while let Some(process) = processes.iter().find(|process| runs(process)) {
        assert!(since.elapsed() < Duration::from_secs(20), "{process} of {processes:?} still runs");
        thread::sleep(Duration::from_millis(10));
    }
}

/// Writes its number and that of a child, and answers nothing more.
fn hanging() -> String {
    format!(
        "{HELLO} sleep 1000 & echo $$ $! > $FOLDER/.processes; mv $FOLDER/.processes $FOLDER/processes; wait"
    )
}

#[test]
fn what_a_program_does_wrong_is_told() {
    let asked = |answer: &str| format!("{HELLO} read -r asked; {answer}");
    let answers = |answer: &str| asked(&format!("echo '{answer}'; sleep 100"));
    for (command, expected, transient) in [
        ("exec /no/such/program".to_owned(), "exit status: 127", false),
        (
            "echo nonsense >&2; exit 3".into(),
            "exit status: 3, without an answer; last on its standard error:\n    nonsense",
            false,
        ),
        (asked("kill -KILL $$"), "signal: 9", true),
        (asked("sh -c 'kill -SEGV $$'; exit $?"), "exit status: 139", true),
        (
            asked("sleep 100"),
            "did not answer within 2 seconds and was ended; raise the metric's `timeout_seconds`",
            true,
        ),
        ("sleep 100".into(), "did not answer within 2 seconds", true),
        (
            "read -r greeting; echo '{\"dpg\": 2}'; sleep 100".into(),
            "version 2 of the protocol; expected 1",
            false,
        ),
        (
            "read -r greeting; echo hello; sleep 100".into(),
            "it answered `hello`, which is not an answer",
            false,
        ),
        (answers(r#"{"id": 1, "value": NaN}"#), "a number that is not finite", false),
        (answers(r#"{"id": 1, "value": 1e999}"#), "which is not an answer", false),
        (answers(r#"{"id": 2, "value": 1}"#), "question 2 where 1 was asked", false),
        (answers(r#"{"id": 1}"#), "neither `value` nor `error`", false),
        (
            asked(r#"echo trace >&2; echo '{"id": 1, "error": "a mess"}'; sleep 100"#),
            "it says: a mess; last on its standard error:\n    trace",
            false,
        ),
        (answers(r#"{"id": 1, "value": 1, "proxies": {"a b": 1}}"#), "a proxy `a b`; expected", false),
        (answers(r#"{"id": 1, "value": 1, "proxies": {"a": "b"}}"#), "`\"b\"`; expected a number", false),
        (answers(r#"{"id": 1, "value": 1}"#), "its gradient is not one: cannot access", false),
    ] {
        let setup = Setup::new(&command, 2);
        let error = setup.gradient(&|| false).unwrap_err();
        let Error::Program { program, source } = error else { panic!("{command}: {error:?}") };
        let text = source.to_string();
        assert!(program == "shell" && text.contains(expected), "{command}: {text}");
        assert_eq!(source.is_transient(), Some(transient), "{command}: {text}");
        assert_eq!(setup.scratch().read_dir().unwrap().count(), 0, "{command}: files are left behind");
    }
}

/// Twenty lines of standard error, the last ones, each as long as it may be.
#[test]
fn the_last_lines_of_standard_error_are_told() {
    let lines = "seq 1 1000 >&2; head -c 5000 /dev/zero | tr '\\0' x >&2; exit 1";
    let setup = Setup::new(lines, 20);
    let Err(Error::Program { source: ProgramFailure::Ended { said, .. }, .. }) = setup.score() else {
        panic!()
    };
    assert_eq!(said.len(), 20);
    assert_eq!((said[16].as_str(), said[17].len(), said[19].len()), ("1000", 2000, 1000));
}

/// A file of tensors in the place of the gradient.
#[test]
fn a_gradient_is_of_the_models_parameters_and_finite() {
    let command = format!(
        "{HELLO} while read -r asked; do
             cp \"$FOLDER/gradient\" \"$(printf %s \"$asked\" | sed 's/.*\"gradient\":\"\\([^\"]*\\)\".*/\\1/')\"
             id=$(printf %s \"$asked\" | sed 's/.*\"id\":\\([0-9]*\\).*/\\1/')
             echo \"{{\\\"id\\\": $id, \\\"value\\\": 1}}\"
         done"
    );
    let setup = Setup::new(&command, 100);
    let put = |name: &str, shape: &[usize], numbers: &[f64]| {
        let mut layout = dpg_models::Layout::default();
        layout.push(name, shape, false);
        weights::save(setup.folder.path(), &layout, numbers, StoredType::F64).unwrap();
        fs::rename(setup.folder.path().join("model.safetensors"), setup.folder.path().join("gradient"))
            .unwrap();
    };
    let layout = setup.subject.lm.layout();
    let param = layout.find("transformer.ln_f.weight").unwrap();
    let size = param.len();
    let numbers: Vec<f64> = (0..size).map(|number| number as f64).collect();
    put("transformer.ln_f.weight", &[size], &numbers);
    let (score, gradient) = setup.gradient(&|| false).unwrap();
    assert_eq!(score, Score { value: 1.0, proxies: vec![] });
    let gradient: Vec<f64> = gradient.to_data().iter().collect();
    assert_eq!(gradient[param.range()], numbers);
    assert_eq!(gradient.iter().sum::<f64>(), numbers.iter().sum::<f64>());
    for (name, shape, number, expected) in [
        (
            "transformer.ln_g.weight",
            &[size] as &[usize],
            1.0,
            "no parameter `transformer.ln_g.weight`; it has `transformer.wte",
        ),
        ("transformer.ln_f.weight", &[size, 1], 1.0, "has shape"),
        ("transformer.ln_f.weight", &[size], f64::NAN, "tensor `transformer.ln_f.weight` contains NaN"),
    ] {
        put(name, shape, &vec![number; size]);
        let error = setup.gradient(&|| false).unwrap_err();
        let Error::Program { source, .. } = error else { panic!("{error:?}") };
        assert!(source.to_string().contains(expected), "{source}");
        assert_eq!(source.is_transient(), Some(false));
    }
    fs::write(setup.folder.path().join("gradient"), "not one").unwrap();
    let Err(Error::Program { source, .. }) = setup.gradient(&|| false) else { panic!() };
    assert!(source.to_string().contains("not a whole safetensors file"), "{source}");
}

#[test]
fn a_program_that_is_stopped_is_gone_with_its_children() {
    let setup = Setup::new(&hanging(), 100);
    let file = setup.folder.path().join("processes");
    let stopped = setup.gradient(&|| file.exists());
    assert!(matches!(stopped, Err(Error::Cancelled)));
    assert_gone(&setup.processes());
    assert_eq!(setup.scratch().read_dir().unwrap().count(), 0);
}

#[test]
fn a_program_that_is_too_slow_is_gone_with_its_children() {
    let setup = Setup::new(&hanging(), 1);
    assert!(matches!(
        setup.gradient(&|| false),
        Err(Error::Program { source: ProgramFailure::Silent { seconds: 1, .. }, .. })
    ));
    assert_gone(&setup.processes());
}

/// It is started when it is first asked, answers all that follows, and is gone when the metric is.
#[test]
fn a_program_is_started_once_and_gone_in_the_end() {
    let command = format!(
        "sleep 1000 & echo $$ $! >> $FOLDER/processes; {HELLO}
         for id in 1 2 3; do read -r asked; echo \"{{\\\"id\\\": $id, \\\"value\\\": $id, \\\"proxies\\\": {{\\\"b\\\": 2, \\\"a\\\": 1}}}}\"; done"
    );
    let setup = Setup::new(&command, 100);
    assert!(!setup.folder.path().join("processes").exists());
    assert_eq!(setup.metric.programs(), []);
    let same = setup.metric.with_numbers(&spec::Metric::examples()[0]);
    for value in [1.0, 2.0, 3.0] {
        let scratch = setup.scratch();
        let metric = if value == 2.0 { &same } else { &setup.metric };
        let score = metric.score(&setup.subject.theta, Context { scratch: &scratch, ..context() }).unwrap();
        assert_eq!(score, Score { value, proxies: vec![("b".into(), 2.0), ("a".into(), 1.0)] });
    }
    assert_eq!(setup.metric.programs(), [("shell".to_owned(), "a shell".to_owned())]);
    let processes = setup.processes();
    assert_eq!(processes.len(), 2, "it was started more than once");
    assert!(runs(&processes[1]));
    let scratch = setup.scratch();
    assert_eq!(scratch.read_dir().unwrap().count(), 1);
    drop(same);
    let Setup { metric, folder: _folder, .. } = setup;
    drop(metric);
    assert_gone(&processes);
    assert_eq!(scratch.read_dir().unwrap().count(), 0);
}

/// What the program has on its side: a folder that transformers could read, in the type of the weights.
#[test]
fn a_program_gets_the_model_and_what_it_was_told() {
    let command = "read -r greeting; echo \"$greeting\" > $FOLDER/greeting; echo '{\"dpg\": 1}'; read -r asked;
         echo \"$asked\" > $FOLDER/asked; cp -r $FOLDER/scratch/external-* $FOLDER/model; echo '{\"id\": 1, \"value\": 1}'";
    let setup = Setup::new(command, 100);
    setup.score().unwrap();
    let read = |file: &str| -> serde_json::Value {
        serde_json::from_slice(&fs::read(setup.folder.path().join(file)).unwrap()).unwrap()
    };
    let (greeting, asked) = (read("greeting"), read("asked"));
    assert_eq!((&greeting["dpg"], &greeting["dtype"]), (&1.into(), &"float64".into()));
    let folder = Path::new(greeting["folder"].as_str().unwrap());
    assert!(folder.starts_with(setup.scratch()), "{greeting}");
    assert_eq!(Path::new(asked["weights"].as_str().unwrap()), folder.join("model.safetensors"));
    assert_eq!((&asked["gradient"], &asked["parameters"]["x"]), (&serde_json::Value::Null, &0.5.into()));
    let model = setup.folder.path().join("model");
    assert_eq!(read("model/config.json")["dtype"], "float64");
    assert!(model.join("tokenizer.json").exists());
    let theta = weights::load::<f64>(&model, setup.subject.lm.layout()).unwrap();
    assert!(setup.subject.theta.to_data().iter::<f64>().eq(theta));
}

#[test]
fn parameters_change_with_the_schedule() {
    let command = format!(
        "{HELLO} while read -r asked; do
             id=$(printf %s \"$asked\" | sed 's/.*\"id\":\\([0-9]*\\).*/\\1/')
             echo \"{{\\\"id\\\": $id, \\\"value\\\": $(printf %s \"$asked\" | sed 's/.*\"x\":\\([0-9.]*\\).*/\\1/')}}\"
         done"
    );
    let setup = Setup::new(&command, 100);
    assert_eq!(setup.score().unwrap().value, 0.5);
    let settings = r#"{"kind":"external","program":"shell","parameters":{"x":0.75}}"#;
    let later = setup.metric.with_numbers(&serde_json::from_str(settings).unwrap());
    let scratch = setup.scratch();
    let context = Context { scratch: &scratch, ..context() };
    assert_eq!(later.score(&setup.subject.theta, context).unwrap().value, 0.75);
    assert_eq!(setup.score().unwrap().value, 0.5);
}
