//! Conversations that are more than roles and texts, as columns: a turn is JSON text of the Arrow type
//! `arrow.json`, which datasets gives back as the object that it was.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, ListBuilder, StringArray, StringBuilder};
use arrow::datatypes::{DataType, Field, Schema};
use serde_json::Value;

use crate::source::{JSON_TYPE, TOOLS, TYPE_NAME, VARIABLES};
use crate::{Conversation, Message};

/// The columns that hold the conversations of a file.
pub(super) fn fields(conversations: &[&Conversation]) -> Vec<Field> {
    let has = |holds: fn(&Conversation) -> bool| conversations.iter().filter(|c| holds(c)).count();
    let turns = |name: &str| Field::new(name, DataType::List(Arc::new(json("element", false))), false);
    let mut fields = match has(|conversation: &Conversation| conversation.prompt.is_some()) {
        0 => vec![turns("messages")],
        _ => vec![turns("prompt"), turns("completion")],
    };
    // TRL reads tools from plain text as well
    let tools = |name: &str, nullable| Field::new(name, DataType::Utf8, nullable);
    let beside: [(usize, &str, fn(&str, bool) -> Field); 2] = [
        (has(|conversation: &Conversation| conversation.tools.is_some()), TOOLS, tools),
        (has(|conversation: &Conversation| !conversation.variables.is_empty()), VARIABLES, json),
    ];
    for (count, name, field) in beside {
        if count > 0 {
            fields.push(field(name, count < conversations.len()));
        }
    }
    fields
}

fn json(name: &str, nullable: bool) -> Field {
    let kind = [(TYPE_NAME, JSON_TYPE), ("ARROW:extension:metadata", "")];
    let kind = kind.map(|(key, value)| (key.to_owned(), value.to_owned()));
    Field::new(name, DataType::Utf8, nullable).with_metadata(HashMap::from(kind))
}

/// Those columns of rows, given by name.
pub(super) fn columns(schema: &Schema, rows: &[Message]) -> Vec<ArrayRef> {
    let fields = schema.fields().iter().take_while(|field| field.name() != "example_id");
    let column = |field: &Arc<Field>| -> ArrayRef {
        let values = rows.iter().map(|row| row.get(field.name()));
        match field.data_type() {
            DataType::List(element) => {
                let mut lists = ListBuilder::new(StringBuilder::new()).with_field(element.clone());
                for turns in values {
                    for turn in turns.and_then(Value::as_array).into_iter().flatten() {
                        lists.values().append_value(turn.to_string());
                    }
                    lists.append(true);
                }
                Arc::new(lists.finish())
            }
            _ => Arc::new(values.map(|value| value.map(ToString::to_string)).collect::<StringArray>()),
        }
    };
    fields.map(column).collect()
}
