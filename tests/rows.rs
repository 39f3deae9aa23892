//! Which rows `dpg run` publishes: of the lengths that a spec asks for, past its gates, and the best of them.

#[path = "../crates/generator/tests/generators/teacher.rs"]
#[allow(dead_code, reason = "the generator's own tests use all of it")]
mod teacher;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};
use teacher::{Reply, Server, answer, asked};

/// A teacher whose answers depend on what it is asked and on the seed that it is sent.
fn teacher(said: impl Fn(&str, usize) -> String + Send + Sync + 'static) -> Server {
    Server::start(move |_, body| {
        let seed = body["seed"].as_u64().unwrap() as usize;
        Reply::Good(answer(&[&said(&asked(body), seed)]))
    })
}

/// So many words, other ones for each seed.
fn words(count: usize, seed: usize) -> String {
    const WORDS: [&str; 7] = ["apple", "river", "stone", "cloud", "house", "green", "music"];
    let word = |at: usize| WORDS[(seed / 7_usize.pow(at as u32 % 5) + at * at) % 7];
    format!("{seed} {}", (1..count).map(word).collect::<Vec<_>>().join(" "))
}

/// A spec without training whose rows the teacher writes, with these keys of the sections below.
fn spec(generator: &str, output: &str) -> String {
    format!(
        "name = 'rows'\n[target]\nmodel = 'embedded:target'\n[target.sft]\n\
         optimizer = {{ kind = 'adamw', learning_rate = 1e-4, eps_root = 1e-4 }}\nsequence_length = 64\nbatch_size = 64\n\
         [metric]\nkind = 'held_out_loss'\ndata = {{ path = 'embedded:held-out/es.jsonl', column = 'text', limit = 8 }}\n\
         [generator]\nkind = 'api'\nteacher = 'fake'\nmodel = 'm'\nmax_completion_tokens = 64\nsend_seed = true\n{generator}\n\
         [policy]\nsteps = 0\nprompts_per_step = 8\ngroup_size = 2\nvalidation_examples = 4\n\
         [output]\ngroup_size = 1\n{output}\n"
    )
}

/// A folder with a spec, and a data folder that knows the teacher.
fn folder(spec: &str, server: &Server) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("spec.toml"), spec).unwrap();
    fs::create_dir(folder.path().join("data")).unwrap();
    let settings = format!("[teachers.fake]\nbase_url = '{}'\ninside = true\nconcurrency = 8\n", server.url);
    fs::write(folder.path().join("data/dpg.toml"), settings).unwrap();
    folder
}

fn run(folder: &Path) -> Output {
    dpg(folder, &["run", "spec.toml", "--json"])
}

fn dpg(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dpg"));
    for name in ["DPG_CONFIG", "DPG_STORE", "DPG_DATABASE"] {
        command.env_remove(name);
    }
    command.current_dir(folder).args(arguments).args(["--data-dir", "data"]).output().unwrap()
}

fn made(folder: &Path) -> Value {
    let output = run(folder);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
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

/// A column of texts of the published tables in `data` or `rewards`.
fn column(folder: &Path, table: &str, name: &str) -> Vec<String> {
    use arrow::array::AsArray;
    let shards = files(&folder.join("data/registry"));
    let shard = |path: &&PathBuf| {
        path.extension().is_some_and(|extension| extension == "parquet")
            && path.parent().is_some_and(|parent| parent.ends_with(table))
    };
    let mut values = vec![];
    for shard in shards.iter().filter(shard) {
        let file = fs::File::open(shard).unwrap();
        let reader = parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder::try_new(file).unwrap();
        for batch in reader.build().unwrap() {
            let batch = batch.unwrap();
            let column =
                arrow::compute::cast(batch.column_by_name(name).unwrap(), &arrow::datatypes::DataType::Utf8);
            values.extend(
                column.unwrap().as_string::<i32>().iter().map(|value| value.unwrap_or("").to_owned()),
            );
        }
    }
    values
}

fn card(folder: &Path) -> String {
    let found = files(&folder.join("data/registry")).into_iter().find(|path| path.ends_with("README.md"));
    fs::read_to_string(found.unwrap()).unwrap()
}

/// The classes of lengths have the shares that they should have, to so many points of a hundred.
fn assert_reached(made: &Value, points: f64) {
    let classes = made["quality"]["lengths"]["classes"].as_array().unwrap();
    assert!(classes.len() > 1, "{made:#}");
    for class in classes {
        let [wanted, share] = ["wanted", "share"].map(|name| class[name].as_f64().unwrap());
        assert!((wanted - share).abs() <= points / 100.0, "{made:#}");
    }
}

/// Three classes, in the tokens of the target: about 2 for each of the words.
fn mix(templates: bool, more: &str) -> String {
    let class = |name: &str, bounds: &str, share: f64| {
        let template = if templates { format!(", template = '{{text}} [{name}]'") } else { String::new() };
        format!("{{ name = '{name}', {bounds}, share = {share}{template} }}")
    };
    format!(
        "examples = 100\n[output.length]\nmix = [{}, {}, {}]\n{more}",
        class("short", "max = 25", 0.5),
        class("medium", "min = 26, max = 60", 0.3),
        class("long", "min = 61", 0.2)
    )
}

#[test]
fn quotas_alone_reach_a_mix_in_rows_and_in_tokens() {
    let server = teacher(|_, seed| words(1 + seed % 40, seed));
    for of in ["rows", "tokens"] {
        let output =
            mix(false, &format!("of = '{of}'")).replacen("examples = 100", "examples = 100\ndraws = 12", 1);
        let place = folder(&spec("", &output), &server);
        let made = made(place.path());
        assert_eq!(made["rows"], 100);
        assert_reached(&made, 2.0);
        let refused = &made["quality"]["refused"];
        assert!(refused["reasons"]["over the share of its class of `output.length`"].as_u64().unwrap() > 10);
        let card = card(place.path());
        for part in
            ["## Lengths", "| short | 0.500 | 0.", "Tokens of what was written", "drawn rows were refused:"]
        {
            assert!(card.contains(part), "`{part}` is not in {card}");
        }
    }
}

#[test]
fn a_teacher_that_is_told_reaches_a_mix_without_quotas() {
    let server = teacher(|asked, seed| {
        let count = if asked.contains("[short]") {
            4
        } else if asked.contains("[medium]") {
            16
        } else {
            34
        };
        words(count + seed % 3, seed)
    });
    let prompts = "prompts = { path = 'embedded:prompts/articles.jsonl' }\ntemplate = 'Write: {text}'";
    let output = mix(true, "quotas = false").replacen(
        "examples = 100",
        "examples = 100\nformat = 'prompt_completion'",
        1,
    );
    let place = folder(&spec(prompts, &output), &server);
    let made = made(place.path());
    assert_reached(&made, 2.0);
    // each row says which class it was asked for, and its prompt is what the teacher read
    let mut arms = BTreeMap::<String, usize>::new();
    for (arm, prompt) in
        column(place.path(), "rewards", "arm").into_iter().zip(column(place.path(), "data", "prompt"))
    {
        assert!(prompt.starts_with("Write: ") && prompt.ends_with(&format!(" [{arm}]")), "{prompt}");
        *arms.entry(arm).or_default() += 1;
    }
    assert_eq!(arms.len(), 3);
    assert!(arms["short"].abs_diff(50) <= 2, "{arms:?}");
}

/// A local generator of single letters that is trained towards the mix, with no quotas and nothing that it is told.
/// Its learning rate falls to a hundredth, so that the last steps do not shake what it has reached. Untrained it is off by
/// 38 points; seeds, and roundings of one, end up to 3 points off.
#[test]
#[ignore = "trains a generator for a minute; .ci/run runs it"]
fn an_advantage_alone_reaches_a_mix() {
    let spec = "name = 'trained'\n[target]\nmodel = 'embedded:letters-target'\n[target.sft]\nbatch_size = 128\nsequence_length = 40\n\
                optimizer = { kind = 'adamw', learning_rate = 2e-3, eps_root = 1e-4, weight_decay = 1e-4 }\n\
                [metric]\nkind = 'token_probability'\nprompts = ['th', 'in th', 'of th']\nanswers = ['z']\n\
                [generator]\nmodel = 'embedded:letters'\ntemplate = ''\nmax_new_tokens = 40\n\
                [policy]\nsteps = 60\nprompts_per_step = 128\ngroup_size = 4\nadvantage = 'global'\nlearning_rate = 3e-5\n\
                minibatch_prompts = 64\nvalidate_every = 0\nvalidation_examples = 8\n\
                [schedule]\n'policy.learning_rate' = 3e-3\n\
                [output]\nexamples = 3000\n[output.length]\nquotas = false\nadvantage = 30.0\n\
                mix = [{ name = 'short', max = 12, share = 0.4 }, { name = 'medium', min = 13, max = 30, share = 0.35 }, \
                { name = 'long', min = 31, share = 0.25 }]\n";
    let place = folder(spec, &teacher(|_, _| String::new()));
    assert_reached(&made(place.path()), 4.0);
}

/// A model of this machine that is told one class of lengths: what `dpg generate` draws is told it too.
#[test]
fn a_published_generator_is_told_lengths_still() {
    let place = tempfile::tempdir().unwrap();
    let local = "model = 'embedded:generator'\nmax_new_tokens = 24\nprompts = { path = 'prompts.jsonl' }";
    let mix = "[output.length]\nquotas = false\nmix = [{ name = 'a', share = 1, template = 'la {text}' }]";
    let output = format!("examples = 4\nformat = 'prompt_completion'\nexport_generator = true\n{mix}");
    let teachers =
        "kind = 'api'\nteacher = 'fake'\nmodel = 'm'\nmax_completion_tokens = 64\nsend_seed = true\n";
    fs::write(place.path().join("spec.toml"), spec(local, &output).replace(teachers, "")).unwrap();
    prompts(place.path(), &[("casa", "")]);
    made(place.path());
    let drawn = dpg(place.path(), &["generate", "rows", "--examples", "3"]);
    let drawn = String::from_utf8(drawn.stdout).unwrap();
    assert_eq!(drawn.lines().count(), 3, "{drawn}");
    for line in drawn.lines() {
        let row: Value = serde_json::from_str(line).unwrap();
        assert!(row["prompt"].as_str().unwrap().starts_with("la casa"), "{row}");
    }
}

/// Texts of the embedded files, those apart that the metric reads.
fn texts(language: &str) -> Vec<String> {
    let file =
        Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../config/embedded/held-out/{language}.jsonl"));
    let lines = fs::read_to_string(file).unwrap();
    let text = |line: &str| serde_json::from_str::<Value>(line).unwrap()["text"].as_str().unwrap().to_owned();
    lines.lines().skip(8).map(text).collect()
}

#[test]
fn the_best_class_of_lengths_is_found_and_the_curve_is_published() {
    let (english, spanish) = (texts("en"), texts("es"));
    // the metric is a loss on Spanish, which alone the medium class is
    let server = teacher(move |asked, seed| {
        let some = |texts: &[String], count: usize| {
            (0..count).map(|at| texts[(seed + at) % texts.len()].clone()).collect::<Vec<_>>().join(" ")
        };
        if asked.contains("[short]") {
            words(1, seed)
        } else if asked.contains("[medium]") {
            some(&spanish, 1)
        } else {
            some(&english, 3)
        }
    });
    let classes = "mix = [{ name = 'short', max = 12, template = '{text} [short]' }, \
                   { name = 'medium', min = 13, max = 45, template = '{text} [medium]' }, \
                   { name = 'long', min = 46, template = '{text} [long]' }]\nlearn = true";
    let trained = spec("", &format!("examples = 48\n[output.length]\n{classes}\nquotas = false")).replace(
        "steps = 0\nprompts_per_step = 8",
        "steps = 5\nprompts_per_step = 16\nadvantage = 'global'\nlearning_rate = 0.7",
    );
    let place = folder(&trained, &server);
    let made = made(place.path());
    let classes = made["quality"]["lengths"]["classes"].as_array().unwrap();
    let wanted: Vec<f64> = classes.iter().map(|class| class["wanted"].as_f64().unwrap()).collect();
    assert!(wanted[1] > 0.6, "{made:#}");
    let card = card(place.path());
    assert!(card.contains("![lengths](pictures/lengths.png)") && card.contains("| medium | 0."), "{card}");
    assert!(
        files(&place.path().join("data/registry")).iter().any(|path| path.ends_with("pictures/lengths.png"))
    );
}

/// A file of prompts with the columns `text`, `topic` and `answer`: so many about each topic.
fn prompts(folder: &Path, topics: &[(&str, &str)]) {
    let row = |(topic, answer): &(&str, &str), number: usize| json!({ "text": format!("{topic} {number}"), "topic": topic, "answer": format!("{answer} {number}") });
    let rows = topics.iter().flat_map(|topic| (0..6).map(move |number| row(topic, number)));
    let lines: String = rows.map(|row| format!("{row}\n")).collect();
    fs::write(folder.join("prompts.jsonl"), lines).unwrap();
}

#[test]
fn the_best_class_of_prompts_is_found() {
    let (english, spanish) = (texts("en"), texts("es"));
    let server = teacher(move |asked, seed| {
        let texts = if asked.contains("spain") { &spanish } else { &english };
        texts[seed % texts.len()].clone()
    });
    let classes = "[generator.prompts]\npath = 'prompts.jsonl'\nvalidation_share = 0.2\n\
                   classes = { column = 'topic', learn = true, learning_rate = 0.7 }";
    let trained = spec(classes, "examples = 32").replace(
        "steps = 0\nprompts_per_step = 8",
        "steps = 4\nprompts_per_step = 16\nadvantage = 'global'\nlearning_rate = 1e-3",
    );
    let place = folder(&trained, &server);
    prompts(place.path(), &[("england", ""), ("spain", ""), ("the moon", "")]);
    let made = made(place.path());
    let told: BTreeMap<_, _> = made["teacher"]["arms"]
        .as_array()
        .unwrap()
        .iter()
        .map(|arm| (arm["name"].as_str().unwrap(), arm["probability"].as_f64().unwrap()))
        .collect();
    assert!(told["spain"] > 0.6 && told.values().sum::<f64>() > 0.999, "{made:#}");
    let (asked, arms) = (column(place.path(), "rewards", "prompt"), column(place.path(), "rewards", "arm"));
    assert!(
        asked.iter().zip(&arms).all(|(prompt, arm)| prompt.starts_with(arm.as_str())),
        "{asked:?} {arms:?}"
    );
    assert!(arms.iter().filter(|arm| *arm == "spain").count() > 16, "{arms:?}");
    assert!(card(place.path()).contains("| spain | 0.333 | 0."), "{}", card(place.path()));
}

/// The target was trained on English: it is sure of that, and not of Spanish.
#[test]
fn classes_by_the_targets_loss_have_lengths_of_their_own() {
    let (english, spanish) = (texts("en").remove(0), texts("es").remove(0));
    let server = teacher(|asked, seed| words(if asked.contains("[long]") { 20 } else { 2 }, seed));
    let classes = "[generator.prompts]\npath = 'prompts.jsonl'\nvalidation_share = 0.2\n\
                   classes = { reference = 'answer', bins = 2 }";
    let mix = "[output.length]\nmix = [{ name = 'short', max = 12, share = 1, prompts = 'loss 1', template = '{text} [short]' }, \
               { name = 'long', min = 13, share = 1, prompts = 'loss 2', template = '{text} [long]' }]";
    let place = folder(&spec(classes, &format!("examples = 16\n{mix}")), &server);
    prompts(place.path(), &[("spain", &spanish), ("england", &english)]);
    let made = made(place.path());
    assert_reached(&made, 2.0);
    let (asked, arms) = (column(place.path(), "rewards", "prompt"), column(place.path(), "rewards", "arm"));
    for (prompt, arm) in asked.iter().zip(&arms) {
        assert_eq!(prompt.starts_with("spain"), arm == "long", "{prompt} {arm}");
    }
    let verified = dpg(place.path(), &["verify", "rows", "--json"]);
    let verified: Value = serde_json::from_slice(&verified.stdout).unwrap();
    assert!(verified.to_string().contains("untrained_generator"), "{verified:#}");
    let unknown = fs::read_to_string(place.path().join("spec.toml")).unwrap().replace("'loss 2'", "'loss 3'");
    fs::write(place.path().join("spec.toml"), unknown).unwrap();
    let output = run(place.path());
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(told.contains("no class of lengths for the prompts of the class `loss 2`"), "{told}");
}

#[test]
fn long_rows_get_short_siblings_with_the_same_answer() {
    let server = teacher(|asked, seed| match asked.strip_prefix("Shorten: ") {
        // of some rows the answer is lost, and some do not become shorter
        Some(long) => {
            let answer = long.rsplit("Answer: ").next().unwrap();
            match answer.parse::<usize>().unwrap() % 4 {
                0 => "Answer: 1000000".into(),
                1 => format!("{long} indeed, Answer: {answer}"),
                _ => format!("Answer: {answer}"),
            }
        }
        None => format!("{} Answer: {}", words(12, seed), seed % 1000),
    });
    let output = "examples = 40\n[output.length.siblings]\nover = 10\ntemplate = 'Shorten: {answer}'\nanswer = 'Answer: ([0-9]+)'";
    let place = folder(&spec("", output), &server);
    let made = made(place.path());
    let texts = column(place.path(), "data", "text");
    let groups = column(place.path(), "rewards", "group_id");
    let siblings: Vec<usize> = (0..texts.len()).filter(|row| texts[*row].starts_with("Answer: ")).collect();
    assert!(siblings.len() > 5, "{texts:?}");
    for &row in &siblings {
        assert!(
            texts[row - 1].ends_with(&texts[row]) && !texts[row - 1].starts_with("Answer: "),
            "{texts:?}"
        );
        assert_eq!(groups[row], groups[row - 1]);
    }
    assert_eq!(texts.len() - siblings.len(), 20);
    assert_eq!(made["quality"]["lengths"]["siblings"], siblings.len());
    assert_eq!(made["quality"]["refused"]["drawn"], 40);
    let reasons = &made["quality"]["refused"]["reasons"];
    let refused = ["no shorter sibling", "a sibling with another answer"]
        .map(|reason| reasons[reason].as_u64().unwrap());
    assert_eq!(refused.iter().sum::<u64>() as usize, 20 - siblings.len(), "{reasons}");

    // and of prompts whose classes are learnt
    let classes = "[generator.prompts]\npath = 'prompts.jsonl'\nvalidation_share = 0.2\n\
                   classes = { column = 'topic', learn = true }";
    let trained = spec(classes, output).replace("steps = 0", "steps = 1\nadvantage = 'global'");
    let place = folder(&trained, &server);
    prompts(place.path(), &[("rivers", ""), ("stones", "")]);
    let made = self::made(place.path());
    assert!(made["quality"]["lengths"]["siblings"].as_u64().unwrap() > 5, "{made:#}");
}

#[test]
fn gates_refuse_and_others_are_drawn_and_too_few_rows_are_told() {
    let spanish = texts("es");
    let held_out = fs::read_to_string(
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../config/embedded/held-out/es.jsonl"),
    )
    .unwrap();
    let copied: Value = serde_json::from_str(held_out.lines().next().unwrap()).unwrap();
    let copied = copied["text"].as_str().unwrap().to_owned();
    let server = teacher(move |_, seed| match seed % 4 {
        0 => "Siempre lo mismo, y nada más que lo mismo.".into(),
        1 => format!("{seed} {copied}"),
        2 => words(8, seed),
        _ => format!("{seed} {}", spanish[seed % spanish.len()]),
    });
    let duplicates = "[[output.gates]]\nkind = 'duplicates'\n";
    let others = "[[output.gates]]\nkind = 'language'\nlanguages = ['spa']\n\
                 [[output.gates]]\nkind = 'held_out_overlap'\nwords = 5\n";
    let place = folder(&spec("", &format!("examples = 24\ndraws = 8\n{duplicates}{others}")), &server);
    let made_of_all = made(place.path());
    assert_eq!(made_of_all["rows"], 24);
    let reasons = &made_of_all["quality"]["refused"]["reasons"];
    let count = |reason: &str| reasons[reason].as_u64().unwrap_or_default();
    let counts =
        ["the same as an earlier row", "not in `spa`", "a copy of what the metric holds out"].map(count);
    assert!(counts.iter().all(|count| *count > 2), "{made_of_all:#}");
    let texts = column(place.path(), "data", "text");
    assert_eq!(texts.iter().filter(|text| text.starts_with("Siempre")).count(), 1);

    // with one draw there are fewer rows; without the gate copies are told
    let place = folder(&spec("", &format!("examples = 24\ndraws = 1\n{duplicates}")), &server);
    let made_of_few = made(place.path());
    let warnings = made_of_few["quality"]["warnings"].to_string();
    assert!(
        warnings.contains("of 24 rows passed the gates")
            && warnings.contains("copy what the metric holds out")
    );

    let none = "examples = 8\n[[output.gates]]\nkind = 'regex'\npattern = 'never'\n";
    let place = folder(&spec("", none), &server);
    let failed = run(place.path());
    let said = String::from_utf8_lossy(&failed.stderr).into_owned();
    assert!(!failed.status.success() && said.contains("0 of 32 drawn rows may be published"), "{said}");
    assert!(said.contains("32 without `never`"), "{said}");
}

#[test]
fn the_best_rows_of_each_prompt_are_kept() {
    let server = teacher(|asked, seed| format!("{asked} {}", words(6, seed)));
    let prompts = "prompts = { path = 'embedded:prompts/articles.jsonl' }\ntemplate = '{text}'";
    let output = "group_size = 4\nexamples = 32\nselect = { top_fraction = 0.5 }\nselect_within = 'prompt'";
    let place = folder(&spec(prompts, output).replace("group_size = 1\n", ""), &server);
    assert_eq!(made(place.path())["rows"], 16);
    let mut groups = BTreeMap::<String, usize>::new();
    for group in column(place.path(), "rewards", "group_id") {
        *groups.entry(group).or_default() += 1;
    }
    assert!(groups.len() == 8 && groups.values().all(|rows| *rows == 2), "{groups:?}");
}

/// The teacher's answers help where the instruction begins with one of a few letters, which the writer learns to write.
#[test]
fn a_writer_learns_to_instruct_a_teacher() {
    let (english, spanish) = (texts("en"), texts("es"));
    let server = teacher(move |asked, seed| {
        let instruction = asked.strip_prefix("Do: ").unwrap();
        let helps = instruction.starts_with(|letter: char| ('a'..='h').contains(&letter));
        let texts = if helps { &spanish } else { &english };
        texts[seed % texts.len()].clone()
    });
    let rubric = spec("", "examples = 64").replace(
        "kind = 'api'\nteacher = 'fake'\nmodel = 'm'\nmax_completion_tokens = 64\nsend_seed = true\n",
        "kind = 'rubric'\ntemplate = 'Do: {rubric}'\n\
         writer = { model = 'embedded:letters', template = '', min_new_tokens = 1, max_new_tokens = 1 }\n\
         teacher = { kind = 'api', teacher = 'fake', model = 'm', max_completion_tokens = 64, send_seed = true }\n",
    );
    let rubric = rubric.replace(
        "steps = 0\nprompts_per_step = 8\ngroup_size = 2",
        "steps = 10\nprompts_per_step = 16\ngroup_size = 4\nadvantage = 'global'\nlearning_rate = 3e-3\nvalidate_every = 0",
    );
    let place = folder(&rubric, &server);
    let made = made(place.path());
    let phi =
        made["validation"].as_array().unwrap().iter().find(|figure| figure["name"] == "Phi").unwrap().clone();
    assert!(phi["after"].as_f64() > phi["before"].as_f64(), "{phi}");
    let texts = column(place.path(), "data", "text");
    let spanish = texts_in(&texts);
    assert!(spanish > 0.75, "{spanish} of {texts:?}");
    // tokens of the teacher's answers, and log-probabilities of instructions of one letter
    assert!(column(place.path(), "rewards", "n_tokens").iter().all(|tokens| tokens == "3"));
    assert!(card(place.path()).contains("instructed by"), "{}", card(place.path()));
}

/// The share of texts that are among the Spanish ones.
fn texts_in(found: &[String]) -> f64 {
    let spanish = texts("es");
    found.iter().filter(|text| spanish.contains(text)).count() as f64 / found.len() as f64
}
