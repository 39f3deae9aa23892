//! What every generator has to do, for each kind there is.

mod batches;
mod teacher;
mod teachers;

use std::path::Path;
use std::sync::OnceLock;

use burn::tensor::Device;
use dpg_generator::{
    ByClass, Choice, Classes, Completion, Error, Generator, Lesson, Local, Prompt, Rollout, Saved, from_spec,
};
use dpg_spec::{Budget, Connection, Teacher};
use serde_json::json;
use teacher::{Reply, Server, answer, asked};

/// Completions that a share is counted in.
const MANY: usize = 256;

/// A kind of generator: its settings, with the folder that it is loaded from for `MODEL`. It answers with few
/// enough texts that some come again among [`MANY`], and its prompts are the rows `a` and `b`.
struct Kind {
    settings: &'static str,
    model: &'static str,
    /// At which a step can be seen in [`MANY`] completions.
    learning_rate: f64,
    exports: Exports,
    /// The classes of lengths that it is told, as TOML; none if it is empty.
    length: &'static str,
    /// The rows are of a class each, and which to ask is learnt.
    by_class: bool,
}

/// What it exports.
#[derive(PartialEq)]
enum Exports {
    Nothing,
    /// All that it draws with.
    Itself,
    /// A part that draws other things by itself.
    Part,
}

/// A teacher with two arms.
const ARMED: &str = r#"{ "kind": "api", "teacher": "fake", "model": "m", "max_completion_tokens": 4, "send_seed": true,
                       "arms": [{ "name": "x", "template": "x{text}" }, { "name": "y", "template": "y{text}" }] }"#;
/// A model that is surer of what it writes.
const SURE: &str = r#"{ "model": "MODEL", "template": "{text}", "temperature": 0.5, "min_new_tokens": 1,
                       "max_new_tokens": 1 }"#;

/// All of them: a kind that is not here is not held to anything.
const KINDS: [Kind; 10] = [
    Kind {
        settings: r#"{ "model": "MODEL", "template": "{text}", "min_new_tokens": 1, "max_new_tokens": 1 }"#,
        model: "letters",
        learning_rate: 1e-3,
        exports: Exports::Itself,
        length: "",
        by_class: false,
    },
    Kind {
        settings: r#"{ "model": "MODEL", "template": "{text}", "min_new_tokens": 1, "max_new_tokens": 1,
            "lora": { "rank": 4, "alpha": 128.0, "targets": "all-linear" } }"#,
        model: "letters",
        learning_rate: 1e-3,
        exports: Exports::Itself,
        length: "",
        by_class: false,
    },
    Kind {
        settings: ARMED,
        model: "",
        learning_rate: 0.5,
        exports: Exports::Nothing,
        length: "",
        by_class: false,
    },
    Kind {
        settings: r#"{ "kind": "rubric", "template": "r{rubric}",
                       "writer": { "model": "MODEL", "template": "{text}", "temperature": 0.5, "min_new_tokens": 1,
                                   "max_new_tokens": 1 },
                       "teacher": { "kind": "api", "teacher": "fake", "model": "m", "max_completion_tokens": 4,
                                    "send_seed": true } }"#,
        model: "letters",
        learning_rate: 1e-3,
        exports: Exports::Part,
        length: "",
        by_class: false,
    },
    Kind {
        settings: r#"{ "kind": "mix", "learn": true, "learning_rate": 0.5, "members": [
                       { "name": "here", "generator": { "model": "MODEL", "template": "{text}", "temperature": 0.5,
                                                        "min_new_tokens": 1, "max_new_tokens": 1 } },
                       { "name": "there", "generator": { "kind": "api", "teacher": "fake", "model": "m",
                                                         "max_completion_tokens": 4, "send_seed": true } }] }"#,
        model: "letters",
        learning_rate: 1e-3,
        exports: Exports::Part,
        length: "",
        by_class: false,
    },
    Kind {
        settings: r#"{ "kind": "mix", "members": [
                       { "name": "one", "share": 0.75,
                         "generator": { "kind": "api", "teacher": "fake", "model": "m", "max_completion_tokens": 4,
                                        "send_seed": true, "arms": [{ "name": "x", "template": "x{text}" },
                                                                    { "name": "y", "template": "y{text}" }] } },
                       { "name": "two", "share": 0.25,
                         "generator": { "kind": "api", "teacher": "other", "model": "m", "max_completion_tokens": 4,
                                        "send_seed": true } }] }"#,
        model: "",
        learning_rate: 0.5,
        exports: Exports::Nothing,
        length: "",
        by_class: false,
    },
    Kind {
        settings: SURE,
        model: "letters",
        learning_rate: 3e-3,
        exports: Exports::Part,
        length: "learn = true\nmix = [{ name = 'x', max = 1, template = 'x{text}' }, \
                 { name = 'y', min = 2, template = 'y{text}' }]",
        by_class: false,
    },
    Kind {
        settings: r#"{ "kind": "api", "teacher": "fake", "model": "m", "max_completion_tokens": 4, "send_seed": true }"#,
        model: "",
        learning_rate: 0.5,
        exports: Exports::Nothing,
        length: "learn = true\nmix = [{ name = 'x', max = 1, template = 'x{text}' }, \
                 { name = 'y', min = 2, template = 'y{text}' }]",
        by_class: false,
    },
    Kind {
        settings: SURE,
        model: "letters",
        learning_rate: 1e-3,
        exports: Exports::Itself,
        length: "",
        by_class: true,
    },
    Kind {
        settings: ARMED,
        model: "",
        learning_rate: 0.5,
        exports: Exports::Nothing,
        length: "",
        by_class: true,
    },
];

/// A server whose answers depend on what it is asked and on the seed.
fn teacher() -> Connection {
    static SERVER: OnceLock<Server> = OnceLock::new();
    let server = SERVER.get_or_init(|| {
        let _ = rustls::crypto::ring::default_provider().install_default();
        Server::start(|_, body| {
            let seed = body["seed"].as_u64().unwrap() % 2;
            Reply::Good(answer(&[&format!("{}{seed}", asked(body))]))
        })
    });
    let teacher = Teacher {
        base_url: server.url.clone(),
        api_key_env: None,
        inside: true,
        max_tokens: false,
        batches: false,
        concurrency: 8,
        requests_per_minute: 0,
        timeout_seconds: 60,
        budget: Budget::default(),
        prices: [].into(),
    };
    Connection { teacher, answers: None }
}

impl Kind {
    fn settings(&self) -> dpg_spec::Generator {
        let embedded = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../config/embedded");
        let settings = self.settings.replace("MODEL", &embedded.join(self.model).to_string_lossy());
        let mut settings = serde_json::from_str(&settings).unwrap();
        for (_, api) in dpg_spec::Generator::teachers_below(&mut settings, "generator") {
            api.connection = Some(teacher());
        }
        settings
    }

    fn load(&self) -> Box<dyn Generator> {
        let generator = from_spec(&self.settings(), &[Device::flex()]).unwrap();
        if self.by_class {
            let learnt = serde_json::from_value(json!({ "column": "class", "learn": true })).unwrap();
            return Box::new(ByClass::new(generator, &learnt, ["a", "b"].map(str::to_owned).into()));
        }
        if self.length.is_empty() {
            return generator;
        }
        Box::new(Classes::new(generator, &toml::from_str(self.length).unwrap()))
    }

    fn load_exported(&self, folder: &Path) -> Box<dyn Generator> {
        let settings = self.settings().local().unwrap().clone();
        Box::new(Local::load_exported(settings, folder, &[Device::flex()]).unwrap())
    }
}

fn prompts(generator: &dyn Generator, count: usize) -> Vec<Prompt> {
    let rows = ["a", "b"].into_iter().cycle().take(count);
    let prompt = |row: &str| {
        let prompt = generator.prompt(generator.render(row).unwrap()).unwrap();
        Prompt { class: Some(row.into()), ..prompt }
    };
    rows.map(prompt).collect()
}

fn draw(generator: &dyn Generator, prompts: &[Prompt], draw: u64) -> Vec<Completion> {
    generator.draw(prompts, Choice::Random { seed: 1, draw }, &|| false).unwrap()
}

/// A step on the completions of a draw: those that say what the first one says are good, others are bad.
fn learn(kind: &Kind, generator: &mut dyn Generator, number: u64) -> String {
    let prompts = prompts(generator, MANY);
    let completions = draw(generator, &prompts, number);
    let good = completions[0].text.clone();
    let rollout = |(prompt, completion): (Prompt, Completion)| {
        let advantage = if completion.text == good { 1.0 } else { -0.1 };
        Rollout { prompt, completion, advantage }
    };
    let rollouts: Vec<_> = prompts.iter().cloned().zip(completions).map(rollout).collect();
    let policy = dpg_spec::Policy { learning_rate: kind.learning_rate, ..dpg_spec::Policy::default() };
    generator.learn(&Lesson { rollouts: &rollouts, prompts: &prompts, policy: &policy }).unwrap();
    good
}

fn share(generator: &dyn Generator, text: &str) -> f64 {
    let drawn = draw(generator, &prompts(generator, MANY), 9);
    drawn.iter().filter(|completion| completion.text == text).count() as f64 / MANY as f64
}

#[test]
fn one_key_draws_one_thing_and_the_likeliest_is_not_left_to_chance() {
    for kind in KINDS {
        let generator = kind.load();
        let prompts = prompts(generator.as_ref(), 64);
        let first = draw(generator.as_ref(), &prompts, 3);
        assert_eq!(first.len(), prompts.len());
        assert_eq!(first, draw(generator.as_ref(), &prompts, 3));
        assert_eq!(first, draw(kind.load().as_ref(), &prompts, 3));
        assert_ne!(first, draw(generator.as_ref(), &prompts, 4));
        let other_seed = generator.draw(&prompts, Choice::Random { seed: 2, draw: 3 }, &|| false).unwrap();
        assert_ne!(first, other_seed);
        // what a row says does not depend on those after it
        assert_eq!(first[..5], draw(generator.as_ref(), &prompts[..5], 3));
        let likeliest = generator.draw(&prompts, Choice::Likeliest, &|| false).unwrap();
        assert!((2..prompts.len()).all(|row| likeliest[row].text == likeliest[row - 2].text));
        for completion in &first {
            let counts =
                [completion.tokens.as_ref().map(Vec::len), completion.log_probs.as_ref().map(Vec::len)];
            assert!(counts[1].is_none() || counts[0] == counts[1], "{completion:?}");
        }
    }
}

#[test]
fn a_draw_stops_when_it_is_told_to_and_asks_as_often_as_it_says() {
    use std::sync::atomic::{AtomicUsize, Ordering};

    for kind in KINDS {
        let generator = kind.load();
        let prompts = prompts(generator.as_ref(), 8);
        let choice = Choice::Random { seed: 0, draw: 0 };
        assert!(generator.draw(&prompts, choice, &|| true).unwrap_err().is_cancelled());
        let asked = AtomicUsize::new(0);
        let stop = || {
            asked.fetch_add(1, Ordering::Relaxed);
            false
        };
        generator.draw(&prompts, choice, &stop).unwrap();
        let asked = asked.into_inner();
        assert!((1..=generator.passes(prompts.len())).contains(&asked), "{asked}");
    }
}

#[test]
fn what_is_praised_comes_more_often() {
    for kind in KINDS {
        let mut generator = kind.load();
        let good = learn(&kind, generator.as_mut(), 0);
        let (before, after) = (share(kind.load().as_ref(), &good), share(generator.as_ref(), &good));
        assert!(after > before, "{}: {before} before, {after} after", generator.about().kind);
    }
}

#[test]
fn a_restored_one_goes_on_as_the_saved_one_would_have() {
    for kind in KINDS {
        let mut generator = kind.load();
        // before anything is learnt there is something to save as well
        let mut restored = kind.load();
        restored.restore(&generator.save()).unwrap();
        assert_eq!(restored.save(), generator.save());
        learn(&kind, generator.as_mut(), 0);
        let saved = generator.save();
        assert_ne!(saved, restored.save());
        restored.restore(&saved).unwrap();
        for number in 1..3 {
            assert_eq!(learn(&kind, generator.as_mut(), number), learn(&kind, restored.as_mut(), number));
        }
        let prompts = prompts(generator.as_ref(), 64);
        assert_eq!(draw(generator.as_ref(), &prompts, 5), draw(restored.as_ref(), &prompts, 5));
        assert_eq!(generator.save(), restored.save());
    }
}

#[test]
fn one_that_starts_from_another_writes_as_that_one_and_learns_anew() {
    for kind in KINDS {
        let (mut generator, mut warm) = (kind.load(), kind.load());
        learn(&kind, generator.as_mut(), 0);
        warm.start_from(&generator.save()).unwrap();
        let prompts = prompts(generator.as_ref(), 64);
        assert_eq!(draw(generator.as_ref(), &prompts, 5), draw(warm.as_ref(), &prompts, 5));
        // its optimizer has made no step yet
        assert_ne!(generator.save(), warm.save());
    }
}

#[test]
fn what_another_saved_is_refused_and_changes_nothing() {
    for kind in KINDS {
        let mut generator = kind.load();
        let before = generator.save();
        assert!(generator.restore(&Saved::default()).is_err());
        let mut short = before.clone();
        for (_, values) in &mut short.vectors {
            values.pop();
        }
        for damaged in [Saved::default(), short].iter().filter(|damaged| **damaged != before) {
            assert!(generator.restore(damaged).is_err());
            assert!(generator.start_from(damaged).is_err());
        }
        assert_eq!(generator.save(), before);
    }
}

#[test]
fn an_exported_one_loads_again_and_draws_the_same() {
    for kind in KINDS {
        let mut generator = kind.load();
        learn(&kind, generator.as_mut(), 0);
        let folder = tempfile::tempdir().unwrap();
        if kind.exports == Exports::Nothing {
            assert!(matches!(generator.export(folder.path()), Err(Error::NoExport)));
            continue;
        }
        generator.export(folder.path()).unwrap();
        let loaded = kind.load_exported(folder.path());
        if kind.exports == Exports::Part {
            continue;
        }
        let prompts = prompts(generator.as_ref(), 64);
        // how it was asked for is not exported
        let drawn = |generator: &dyn Generator| {
            let drawn = draw(generator, &prompts, 5).into_iter();
            drawn.map(|completion| Completion { asked: None, ..completion }).collect::<Vec<_>>()
        };
        assert_eq!(drawn(generator.as_ref()), drawn(loaded.as_ref()));
    }
}

/// What learns is the adapters alone: nothing else is saved, and the first step's KL is that to the model itself.
#[test]
fn adapters_are_all_that_a_generator_with_lora_saves() {
    let [whole, adapted, ..] = KINDS.map(|kind| kind.load());
    let size = |generator: &dyn Generator| generator.about().parameters.unwrap();
    assert!(3 * size(adapted.as_ref()) < size(whole.as_ref()));
    assert_eq!(adapted.save().vectors[0].1.len(), size(adapted.as_ref()));
    let prompts = prompts(whole.as_ref(), 64);
    assert_eq!(draw(whole.as_ref(), &prompts, 3), draw(adapted.as_ref(), &prompts, 3), "B is 0 at first");
}

/// Rows say which member wrote them and in which way; members have their shares, and each its own account.
#[test]
fn members_of_a_mix_write_their_shares() {
    let generator = KINDS[5].load();
    let names: Vec<_> = generator.about().arms.into_iter().map(|arm| (arm.name, arm.probability)).collect();
    let expected = [("one: x", 0.375), ("one: y", 0.375), ("two", 0.25)];
    assert_eq!(names, expected.map(|(name, probability)| (name.to_owned(), probability)));
    let before = generator.accounts();
    let drawn = draw(generator.as_ref(), &prompts(generator.as_ref(), 40), 77);
    let wrote = |name: &str| {
        let names =
            drawn.iter().map(|completion| completion.asked.as_ref().unwrap().name.as_deref().unwrap());
        names.filter(|asked| asked.starts_with(name)).count() as u64
    };
    assert!(wrote("one: x") > 0 && wrote("one: y") > 0 && wrote("one").abs_diff(30) <= 2, "{drawn:?}");
    for completion in &drawn {
        let asked = completion.asked.as_ref().unwrap();
        assert_eq!(asked.name.as_ref().unwrap(), expected[asked.arm].0);
        assert!(completion.text.starts_with(&asked.prompt), "{completion:?}");
    }
    for ((name, before), (_, after)) in before.into_iter().zip(generator.accounts()) {
        assert_eq!(after.requests - before.requests, wrote(&name), "{name}");
    }
    let all = generator.account(Some(77)).unwrap();
    assert_eq!((all.requests, all.completion_tokens), (40, 200));
}

/// Whatever rows come after, and in every draw, classes have their shares nearly to the row.
#[test]
fn classes_of_lengths_have_their_shares() {
    let settings = toml::from_str(
        "mix = [{ name = 'x', max = 1, share = 0.6, template = 'x{text}' }, \
         { name = 'y', min = 2, share = 0.3, template = 'y{text}' }, { name = 'z', min = 9, share = 0.1, template = '{text}z' }]",
    );
    let generator =
        Classes::new(from_spec(&KINDS[0].settings(), &[Device::flex()]).unwrap(), &settings.unwrap());
    let prompts = prompts(&generator, 100);
    for number in 0..4 {
        let drawn = draw(&generator, &prompts, number);
        let asked = |name: &str| {
            let asked = drawn.iter().map(|completion| completion.asked.as_ref().unwrap());
            asked.filter(|asked| asked.name.as_deref() == Some(name)).count()
        };
        let counts = ["x", "y", "z"].map(asked);
        assert!(
            counts.iter().zip([60, 30, 10]).all(|(found, wanted)| found.abs_diff(wanted) <= 2),
            "{counts:?}"
        );
        let asked = drawn[0].asked.as_ref().unwrap();
        assert!(["xa", "ya", "az"].contains(&asked.prompt.as_str()) && asked.tokens == Some(1), "{asked:?}");
    }
}
