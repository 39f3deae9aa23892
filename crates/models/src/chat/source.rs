//! Where a model folder keeps its chat templates.

use std::path::{Path, PathBuf};

use dpg_files::TEMPLATE_BYTES;
use serde_json::Value;

use crate::{Error, files, tokenizer::json};

const FILE: &str = "chat_template.jinja";
const FOLDER: &str = "additional_chat_templates";
const CONFIG: &str = "tokenizer_config.json";

/// The templates of a folder.
pub(super) struct Templates {
    /// The file that holds them.
    pub(super) path: PathBuf,
    /// The one for conversations.
    pub(super) default: String,
    /// The one for conversations with tools, where it is another.
    pub(super) tool_use: Option<String>,
}

/// Reads them as transformers does: files stand before the configuration.
pub(super) fn read(folder: &Path) -> Result<Templates, Error> {
    let path = folder.join(FILE);
    if path.exists() {
        let text = |path: &Path| files::read_text(path, TEMPLATE_BYTES);
        let more = folder.join(FOLDER).join("tool_use.jinja");
        let tool_use = if more.exists() { Some(text(&more)?) } else { None };
        return Ok(Templates { default: text(&path)?, tool_use, path });
    }
    let path = folder.join(CONFIG);
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let (default, tool_use) = match &json(folder, CONFIG)?["chat_template"] {
        Value::Null => {
            return Err(Error::MissingFile {
                folder: folder.into(),
                file: FILE.into(),
                hint: "this is not a chat model; give it plain text instead of messages".into(),
            });
        }
        Value::Array(named) => {
            let find = |name| named.iter().find(|entry| entry["name"] == name);
            let find = |name| find(name).and_then(|entry| text(&entry["template"]));
            (find("default").ok_or("no template is named `default`"), find("tool_use"))
        }
        value => (text(value).ok_or("`chat_template` must be a text or a list of named texts"), None),
    };
    match default {
        Ok(default) => Ok(Templates { path, default, tool_use }),
        Err(reason) => Err(Error::malformed(&path, reason)),
    }
}
