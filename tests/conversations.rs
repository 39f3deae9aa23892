//! `dpg score` on conversations: what a template writes changes the rewards, what it cannot write
//! is refused with the file and the row, and rows that are alike are scored.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};
use tempfile::TempDir;

const TEMPLATE: &str = "{% if tools %}{{ tools | tojson }}\n{% endif %}\
    {% for m in messages %}[{{ m.role }}]{% if m.thinking %}<think>{{ m.thinking }}</think>{% endif %}{{ m.content }}\
    {% for call in m.tool_calls or [] %}{{ call.function | tojson }}{% endfor %}<|end|>{% endfor %}\
    {% if add_generation_prompt %}[assistant]{% endif %}";
/// The same, but only the last answer shows its thought.
const LAST_THOUGHT: &str = "{% for m in messages %}[{{ m.role }}]\
    {% if loop.last and m.role == 'assistant' %}<think></think>{% endif %}{{ m.content }}<|end|>{% endfor %}\
    {% if add_generation_prompt %}[assistant]{% endif %}";
const ALTERNATING: &str = "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}\
    {{ raise_exception('turns must alternate') }}{% endif %}{{ m.content }}{% endfor %}";

/// A folder with the small target under a chat template, and a spec for it.
struct Bench(TempDir);

impl Bench {
    fn new(template: &str, loss_on: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("../config/embedded/target");
        let model = folder.path().join("model");
        fs::create_dir(&model).unwrap();
        for file in fs::read_dir(target).unwrap() {
            let file = file.unwrap();
            fs::copy(file.path(), model.join(file.file_name())).unwrap();
        }
        fs::write(model.join("chat_template.jinja"), template).unwrap();
        let spec = format!(
            "name = \"chat\"\n[target]\nmodel = \"model\"\n[target.sft]\n\
             optimizer = {{ kind = \"sgd\", learning_rate = 0.1 }}\nsequence_length = 96\nbatch_size = 4\n\
             loss_on = \"{loss_on}\"\n[metric]\nkind = \"weight_norm\"\n"
        );
        fs::write(folder.path().join("spec.toml"), spec).unwrap();
        Self(folder)
    }

    fn data(&self, rows: &[Value]) -> PathBuf {
        let path = self.0.path().join("rows.jsonl");
        fs::write(&path, rows.iter().map(|row| format!("{row}\n")).collect::<String>()).unwrap();
        path
    }

    fn score(&self, rows: &[Value]) -> Output {
        self.data(rows);
        Command::new(env!("CARGO_BIN_EXE_dpg"))
            .current_dir(self.0.path())
            .args(["score", "spec.toml", "--data", "rows.jsonl", "--out", "out.parquet", "--json"])
            .args(["--dtype", "f64", "--data-dir", "data"])
            .output()
            .unwrap()
    }

    /// Phi after training on the rows.
    fn phi(&self, rows: &[Value]) -> f64 {
        let output = self.score(rows);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let printed: Value = serde_json::from_slice(&output.stdout).unwrap();
        printed["phi"].as_f64().unwrap()
    }

    fn refusal(&self, rows: &[Value]) -> String {
        let output = self.score(rows);
        assert!(!output.status.success());
        String::from_utf8(output.stderr).unwrap()
    }
}

fn user(text: &str) -> Value {
    json!({ "role": "user", "content": text })
}

fn assistant(text: &str) -> Value {
    json!({ "role": "assistant", "content": text })
}

#[test]
fn what_the_template_writes_of_a_turn_is_trained_on() {
    let bench = Bench::new(TEMPLATE, "all");
    let call = json!([{ "function": { "name": "weather", "arguments": { "city": "Lima" } } }]);
    let bare = json!({ "messages": [user("Lima?"), assistant("")] });
    let mut called = bare.clone();
    called["messages"][1]["tool_calls"] = call;
    let mut thought = bare.clone();
    thought["messages"][1]["reasoning_content"] = "two and two".into();
    let mut tools = bare.clone();
    tools["tools"] = json!([{ "name": "weather" }]);
    let phis = [&bare, &called, &thought, &tools].map(|row| bench.phi(std::slice::from_ref(row)));
    for (index, phi) in phis.iter().enumerate() {
        assert!(phis[index + 1..].iter().all(|other| other != phi), "{phis:?}");
    }

    // parts of text are what they say, and null stands for nothing
    let parts =
        json!({ "messages": [user("Lima?"), { "role": "assistant", "content": null, "name": null }] });
    assert_eq!(bench.phi(&[parts]), phis[0]);
}

#[test]
fn a_completion_of_turns_is_the_assistants_turn() {
    let bench = Bench::new(TEMPLATE, "completion");
    let together = json!({ "messages": [user("2+2?"), assistant("4")] });
    let apart = json!({ "prompt": [user("2+2?")], "completion": [assistant("4")] });
    let phi = bench.phi(std::slice::from_ref(&together));
    assert_eq!(bench.phi(&[apart]), phi);
    // so is what a template marks
    let marked = "{% for m in messages %}[{{ m.role }}]{% if m.role == 'assistant' %}\
        {% generation %}{{ m.content }}<|end|>{% endgeneration %}{% else %}{{ m.content }}<|end|>{% endif %}{% endfor %}";
    assert_eq!(Bench::new(marked, "completion").phi(&[together]), phi);
}

#[test]
fn all_tokens_need_no_boundaries() {
    let rows = [json!({ "messages": [user("2+2?"), assistant("4"), user("3+3?"), assistant("6")] })];
    Bench::new(LAST_THOUGHT, "all").phi(&rows);
    let error = Bench::new(LAST_THOUGHT, "completion").refusal(&rows);
    for part in ["rows.jsonl", "row 1", "turn 2 is not where it was", "loss_on = \"all\""] {
        assert!(error.contains(part), "`{part}` is not in: {error}");
    }
}

#[test]
fn a_templates_refusal_names_the_row() {
    let good = json!({ "messages": [user("a"), assistant("b")] });
    let bad = json!({ "messages": [assistant("b")] });
    let error = Bench::new(ALTERNATING, "all").refusal(&[good, bad]);
    for part in ["rows.jsonl", "row 2", "turns must alternate"] {
        assert!(error.contains(part), "`{part}` is not in: {error}");
    }
}

#[test]
fn rows_that_are_alike_are_scored_with_a_warning() {
    let bench = Bench::new(TEMPLATE, "all");
    let output = bench.score(&vec![json!({ "text": "La pintora." }); 3]);
    let warnings = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{warnings}");
    assert!(warnings.contains("warning: all 3 rewards equal"), "{warnings}");
    assert!(bench.0.path().join("out.parquet").exists());
}
