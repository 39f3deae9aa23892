//! What a teacher thought before it answered, in the turns of a published dataset.

use dpg_dataset::{Columns, Example, Message, REASONING, Row, Split, message, read_examples, write_split};
use dpg_spec::Format;
use serde_json::Value;

fn turn(role: &str, content: &str, reasoning: Value) -> Message {
    let mut turn = message(role, content);
    turn.insert(REASONING.into(), reasoning);
    turn
}

#[test]
fn reasoning_is_published_in_the_assistants_turn_and_read_back() {
    let example = |number: usize| {
        let turns = vec![
            turn("user", &format!("what is {number}?"), Value::Null),
            turn("assistant", "a number", if number == 0 { "" } else { "well, .." }.into()),
        ];
        Example::Messages(turns.into())
    };
    let row = |number: usize| Row {
        example: example(number),
        reward: number as f64,
        group_id: 0,
        step: 1,
        advantage: 0.0,
        logprob: None,
        n_tokens: Some(2),
        arm: None,
        prompt: "what?".into(),
        seed: 0,
    };
    let folder = tempfile::tempdir().unwrap();
    let shards = write_split(folder.path(), Split::Train, Format::Messages, (0..3).map(row)).unwrap();
    let columns = Columns::Messages("messages".into());
    let read = read_examples(&folder.path().join(&shards[0].path), &columns, None).unwrap();
    assert_eq!(read, (0..3).map(example).collect::<Vec<_>>());
}
