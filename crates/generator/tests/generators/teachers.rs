//! A teacher behind an API that fails in every way a server can: nothing is lost, nothing is paid twice, and its key is told
//! to nobody.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use crate::teacher::{Reply, Server, answer, asked};
use dpg_generator::{Api, Choice, Completion, Error, Generator, Prompt};
use dpg_spec::{ApiGenerator, Budget, Connection, Price, Teacher};
use serde_json::json;

/// The variable that stands for a key: every process has it.
const KEY: &str = "PATH";

/// What is logged by all tests.
fn log() -> &'static Arc<Mutex<Vec<u8>>> {
    struct Log(Arc<Mutex<Vec<u8>>>);
    impl io::Write for Log {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    static LOG: OnceLock<Arc<Mutex<Vec<u8>>>> = OnceLock::new();
    LOG.get_or_init(|| {
        let log = Arc::new(Mutex::new(vec![]));
        let to = Arc::clone(&log);
        tracing_subscriber::fmt()
            .with_max_level(tracing::Level::TRACE)
            .with_writer(move || Log(Arc::clone(&to)))
            .init();
        let _ = rustls::crypto::ring::default_provider().install_default();
        log
    })
}

pub(crate) fn key() -> String {
    std::env::var(KEY).unwrap()
}

pub(crate) fn settings(server: &str, folder: Option<&Path>) -> ApiGenerator {
    log();
    let arms = [("plain", "Say: {text}"), ("loud", "Shout: {text}")];
    let mut settings: ApiGenerator = serde_json::from_value(json!({
        "kind": "api",
        "teacher": "fake",
        "model": "m",
        "max_completion_tokens": 16,
        "parameters": { "reasoning_effort": "low" },
        "arms": arms.map(|(name, template)| json!({ "name": name, "template": template })),
    }))
    .unwrap();
    let price = Price { prompt: 1.0, cached_prompt: Some(0.5), completion: 2.0 };
    let teacher = Teacher {
        base_url: server.into(),
        api_key_env: Some(KEY.into()),
        inside: true,
        max_tokens: false,
        batches: false,
        concurrency: 4,
        requests_per_minute: 0,
        timeout_seconds: 5,
        budget: Budget::default(),
        prices: BTreeMap::from([("m".to_owned(), price)]),
    };
    settings.connection = Some(Connection { teacher, answers: folder.map(Into::into) });
    settings
}

fn draw(api: &Api, rows: usize) -> Result<Vec<Completion>, Error> {
    let prompts: Vec<Prompt> = (0..rows).map(|row| api.prompt(format!("row {row}")).unwrap()).collect();
    api.draw(&prompts, Choice::Random { seed: 1, draw: 0 }, &|| false)
}

pub(crate) fn drawn(settings: ApiGenerator, rows: usize) -> Vec<Completion> {
    draw(&Api::new(settings).unwrap(), rows).unwrap()
}

fn failure(settings: ApiGenerator) -> Error {
    Api::new(settings).and_then(|api| draw(&api, 1)).unwrap_err()
}

/// What a faultless server has answered.
pub(crate) fn echo() -> Server {
    Server::start(|_, body| Reply::Good(answer(&[&format!("[{}]", asked(body))])))
}

/// What a server does wrong the first times that it is asked.
type Fault = fn(usize) -> Option<Reply>;
/// What a server does whenever it is asked.
type Refusal = fn() -> Reply;

#[test]
#[ignore = "waits as long as servers ask for; .ci/run runs it"]
fn what_passes_is_asked_again_and_nothing_is_lost() {
    let right = drawn(settings(&echo().url, None), 12);
    let faults: [(&str, Fault); 7] = [
        ("429", |_| {
            let says = format!("too many for {}", key());
            Some(Reply::Refused(429, vec![("retry-after", "1".into())], says))
        }),
        ("500", |_| {
            Some(Reply::Refused(500, vec![], format!("{{\"error\":{{\"message\":\"{}\"}}}}", key())))
        }),
        ("half an answer", |_| Some(Reply::Half(answer(&["half"])))),
        ("no JSON", |_| Some(Reply::Refused(200, vec![], format!("<html>{}</html>", key())))),
        ("no choice", |_| Some(Reply::Good(json!({ "choices": [], "usage": {} })))),
        ("a choice without a message", |_| Some(Reply::Good(json!({ "choices": [{ "index": 0 }] })))),
        ("an answer without an end", |_| Some(Reply::Slow)),
    ];
    for (name, fault) in faults {
        let server = Server::start(move |number, body| {
            // the second and the third request
            let wrong = if (1..3).contains(&number) { fault(number) } else { None };
            wrong.unwrap_or_else(|| Reply::Good(answer(&[&format!("[{}]", asked(body))])))
        });
        let api = Api::new(settings(&server.url, None)).unwrap();
        assert_eq!(draw(&api, 12).unwrap(), right, "{name}");
        let (seen, account) = (server.seen(), api.account(None).unwrap());
        assert_eq!(seen.len(), 14, "{name}");
        assert!(seen.iter().all(|request| request.key == Some(format!("Bearer {}", key()))), "{name}");
        assert_eq!((account.requests, account.completion_tokens), (12, 60), "{name}");
    }
    let log = String::from_utf8(log().lock().unwrap().clone()).unwrap();
    assert!(log.contains("asking again") && log.contains("***"), "{log}");
    assert!(!log.contains(&key()), "the key is in the log");
}

#[test]
fn what_does_not_pass_is_told_without_the_key() {
    let redirect = || {
        let to = vec![("location", "http://169.254.169.254/latest/meta-data".to_owned())];
        Reply::Refused(307, to, String::new())
    };
    let wrong_key =
        || Reply::Refused(401, vec![], format!("{{\"error\":{{\"message\":\"wrong key {}\"}}}}", key()));
    let cases: [(Refusal, &str); 2] =
        [(redirect, "a redirect, which is not followed"), (wrong_key, "wrong key ***")];
    for (reply, part) in cases {
        let server = Server::start(move |_, _| reply());
        let error = failure(settings(&server.url, None));
        let text = error.to_string();
        assert!(text.starts_with("the teacher `fake` answered") && text.contains(part), "{text}");
        assert!(
            !text.contains(&key()) && !format!("{error:?}").contains(&key()) && !error.is_transient(),
            "{error:?}"
        );
        assert_eq!(server.seen().len(), 1);
    }
}

#[test]
fn what_lies_inside_is_asked_only_if_the_operator_says_so() {
    let server = echo();
    let at = |url: &str| {
        let mut settings = settings(url, None);
        settings.connection.as_mut().unwrap().teacher.inside = false;
        failure(settings).to_string()
    };
    let plain = at(&server.url);
    assert!(plain.contains("`teachers.fake.base_url`") && plain.contains("not encrypted"), "{plain}");
    for host in ["127.0.0.1", "localhost", "169.254.169.254", "[::1]"] {
        let text = at(&format!("https://{host}:1/v1"));
        assert!(text.contains("inside"), "{text}");
    }
    assert!(at("file:///etc/passwd").contains("expected one like"));
    let mut keyless = settings(&server.url, None);
    keyless.connection.as_mut().unwrap().teacher.api_key_env = Some("DPG_TEST_NO_SUCH_KEY".into());
    assert!(failure(keyless).to_string().contains("`DPG_TEST_NO_SUCH_KEY`, which has no key"));
    let unknown = ApiGenerator { connection: None, ..settings(&server.url, None) };
    assert!(failure(unknown).to_string().contains("under `teachers` in `dpg.toml`"));
    assert_eq!(server.seen().len(), 0);
}

#[test]
fn each_answer_stands_in_its_row_whichever_comes_first() {
    let right = drawn(settings(&echo().url, None), 8);
    let late = Server::start(|number, body| {
        let wait = Duration::from_millis(if number % 2 == 0 { 120 } else { 0 });
        Reply::Late(wait, answer(&[&format!("[{}]", asked(body))]))
    });
    assert_eq!(drawn(settings(&late.url, None), 8), right);
    let said = |row: usize| {
        let asked = right[row].asked.as_ref().unwrap();
        assert_eq!(right[row].text, format!("[{}]", asked.prompt));
        assert!(asked.prompt.ends_with(&format!(": row {row}")), "{asked:?}");
        assert_eq!((right[row].length(), right[row].stopped), (Some(3), true));
        asked.name.clone().unwrap()
    };
    let arms: Vec<_> = (0..8).map(said).collect();
    assert!(arms.contains(&"plain".to_owned()) && arms.contains(&"loud".to_owned()), "{arms:?}");
}

#[test]
fn a_run_that_goes_on_asks_for_nothing_twice() {
    let folder = tempfile::tempdir().unwrap();
    let server = echo();
    let first = Api::new(settings(&server.url, Some(folder.path()))).unwrap();
    let before = draw(&first, 6).unwrap();
    let account = first.account(None);
    drop(first);
    let second = Api::new(settings(&server.url, Some(folder.path()))).unwrap();
    assert_eq!(second.account(None), account);
    assert_eq!(draw(&second, 6).unwrap(), before);
    assert_eq!(server.seen().len(), 6);
    // the next rows are new, and so is another draw
    assert_eq!(draw(&second, 8).unwrap()[..6], before);
    assert_eq!(server.seen().len(), 8);
    let prompt = second.prompt("row 0".into()).unwrap();
    second.draw(&[prompt], Choice::Random { seed: 1, draw: 1 }, &|| false).unwrap();
    let accounts = [Some(0), Some(1), None].map(|draw| second.account(draw).unwrap());
    assert_eq!(accounts.map(|account| account.requests), [8, 1, 9]);
    // 6 fresh and 4 cached tokens of each prompt, 5 of each answer
    let money = accounts[1].money.unwrap();
    assert!((money - (6.0 + 4.0 * 0.5 + 5.0 * 2.0) / 1e6).abs() < 1e-15, "{money}");
    let kept = std::fs::read_to_string(folder.path().join("answers.jsonl")).unwrap();
    assert!(kept.lines().count() == 9 && !kept.contains(&key()));
}

#[test]
fn a_stop_keeps_what_is_under_way_and_the_budget_ends_it() {
    let folder = tempfile::tempdir().unwrap();
    let server = echo();
    let api = Api::new(settings(&server.url, Some(folder.path()))).unwrap();
    let prompts: Vec<_> = (0..20).map(|row| api.prompt(format!("row {row}")).unwrap()).collect();
    let asked = AtomicUsize::new(0);
    let stop = || asked.fetch_add(1, Ordering::Relaxed) >= 5;
    let choice = Choice::Random { seed: 1, draw: 0 };
    assert!(api.draw(&prompts, choice, &stop).unwrap_err().is_cancelled());
    let answered = api.account(None).unwrap().requests as usize;
    assert!(answered < 20 && answered == server.seen().len(), "{answered}");
    drop(api);

    let mut bounded = settings(&server.url, Some(folder.path()));
    bounded.budget = Budget { tokens: Some(150), ..Budget::default() };
    let api = Api::new(bounded.clone()).unwrap();
    let error = api.draw(&prompts, choice, &|| false).unwrap_err();
    assert!(matches!(&error, Error::Budget { spent } if spent.contains("of 150 tokens")), "{error}");
    assert!(!error.is_transient() && !api.affords(1));
    assert!(
        (10..14).contains(&server.seen().len()),
        "what is under way is answered: {}",
        server.seen().len()
    );
    drop(api);
    bounded.budget = Budget { tokens: Some(100_000), ..Budget::default() };
    let api = Api::new(bounded).unwrap();
    assert!(api.affords(100) && !api.affords(1_000_000));
    assert_eq!(api.draw(&prompts, choice, &|| false).unwrap().len(), 20);
    assert_eq!(server.seen().len(), 20);

    let mut unpriced = settings(&server.url, None);
    unpriced.budget = Budget { money: Some(1.0), ..Budget::default() };
    unpriced.connection.as_mut().unwrap().teacher.prices.clear();
    assert!(failure(unpriced).to_string().contains("has no price for `m`"));
}

#[test]
fn reasoning_is_dropped_or_kept() {
    let server = echo();
    let reasoning = |keep: bool| {
        let folder = tempfile::tempdir().unwrap();
        let settings = ApiGenerator { keep_reasoning: keep, ..settings(&server.url, Some(folder.path())) };
        let first = drawn(settings.clone(), 2);
        // what is kept knows it as well
        assert_eq!(drawn(settings, 2), first);
        first[0].reasoning.clone()
    };
    assert_eq!((reasoning(false), reasoning(true)), (None, Some("hm".to_owned())));
}

#[test]
fn requests_say_what_was_asked_for_and_nothing_else() {
    let server = Server::start(|_, body| {
        let count = body["n"].as_u64().unwrap_or(1) as usize;
        let texts: Vec<_> = (0..count).map(|choice| format!("choice {choice}")).collect();
        Reply::Good(answer(&texts.iter().map(String::as_str).collect::<Vec<_>>()))
    });
    drawn(settings(&server.url, None), 1);
    let body = server.seen()[0].body.clone();
    let keys: Vec<_> = body.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(keys, ["reasoning_effort", "model", "messages", "max_completion_tokens"]);

    let mut several = settings(&server.url, None);
    several.arms.clear();
    (several.choices, several.send_seed, several.temperature, several.top_p) =
        (4, true, Some(0.7), Some(0.9));
    (several.system, several.template) = (Some("Be brief.".into()), "Say.".into());
    several.connection.as_mut().unwrap().teacher.max_tokens = true;
    let api = Api::new(several).unwrap();
    let prompts = vec![api.prompt(String::new()).unwrap(); 6];
    let completions = api.draw(&prompts, Choice::Random { seed: 0, draw: 0 }, &|| false).unwrap();
    let texts: Vec<_> = completions.iter().map(|completion| completion.text.as_str()).collect();
    assert_eq!(texts, ["choice 0", "choice 1", "choice 2", "choice 3", "choice 0", "choice 1"]);
    // of several choices nobody knows the tokens of each
    assert!(completions.iter().all(|completion| completion.length().is_none()));
    let account = api.account(Some(0)).unwrap();
    assert_eq!((account.requests, account.answers, account.prompt_tokens), (2, 6, 20));
    let mut bodies: Vec<_> = server.seen()[1..].iter().map(|request| request.body.clone()).collect();
    bodies.sort_by_key(|body| body["n"].as_u64());
    assert_eq!((&bodies[0]["n"], &bodies[1]["n"]), (&json!(2), &json!(4)));
    assert_eq!((&bodies[0]["temperature"], &bodies[0]["top_p"]), (&json!(0.7), &json!(0.9)));
    assert_eq!((&bodies[0]["max_tokens"], &bodies[0]["messages"][0]["role"]), (&json!(16), &json!("system")));
    assert!(bodies[0]["seed"].is_u64() && bodies[0]["seed"] != bodies[1]["seed"]);
}
