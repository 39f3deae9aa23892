//! Rows of JSON files: one object a line, or one array of objects.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::room::{ARRAY_BYTES, LINE_BYTES};
use super::scan::{Scan, described, has_wide_integer};
use super::{Place, Record};
use crate::{Error, Result};

/// A row that is not read yet: its columns as text.
pub(super) struct Raw {
    place: Place,
    columns: Vec<(String, Vec<u8>)>,
}

impl Raw {
    fn new(path: &Path, place: Place, text: &[u8]) -> Result<Self> {
        let failed = |reason| Error::NotJson { path: path.into(), place, reason };
        let mut scan = Scan::new(text);
        if scan.peek() != Some(b'{') {
            return Err(failed(format!("it is {}", described(text.trim_ascii()))));
        }
        let columns = scan.members().map_err(failed)?;
        scan.end().map_err(failed)?;
        let columns = columns.into_iter().map(|(name, text)| (name, text.to_vec())).collect();
        Ok(Self { place, columns })
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &String> {
        self.columns.iter().map(|(name, _)| name)
    }

    /// The row with all its columns.
    pub(super) fn object(self) -> Map<String, Value> {
        let text = |text: Vec<u8>| String::from_utf8_lossy(&text).trim().to_owned().into();
        let value = |bytes: Vec<u8>| serde_json::from_slice(&bytes).unwrap_or_else(|_| text(bytes));
        self.columns.into_iter().map(|(name, bytes)| (name, value(bytes))).collect()
    }

    /// The row with the columns of `wanted` that it has.
    pub(super) fn read(self, path: &Path, wanted: &[&str]) -> Result<Record> {
        let place = self.place;
        let names: Arc<[String]> = self.names().cloned().collect();
        let mut record = Record { place, names, values: vec![] };
        for (name, text) in self.columns.into_iter().filter(|(name, _)| wanted.contains(&name.as_str())) {
            let failed =
                |reason: String| Error::Unreadable { path: path.into(), place, column: name.clone(), reason };
            if record.values.iter().any(|(known, _)| *known == name) {
                return Err(failed("stands there twice".into()));
            }
            if std::str::from_utf8(&text).is_err() {
                let reason = "is not UTF-8 text; if it is Latin-1, write it anew: `iconv -f LATIN1 -t UTF-8`";
                return Err(failed(reason.into()));
            }
            if has_wide_integer(&text) {
                return Err(failed("has a whole number of more than 64 bits; write it as a string".into()));
            }
            let value: Value = serde_json::from_slice(&text)
                .map_err(|error| failed(format!("is not JSON ({})", cause(&error))))?;
            record.values.push((name, value));
        }
        Ok(record)
    }
}

/// The rows of a file of lines; blank lines are passed over. `\n`, `\r\n` and `\r` end a line.
pub(super) fn lines(path: &Path, mut text: BufReader<File>) -> impl Iterator<Item = Result<Raw>> {
    let mut failed = false;
    let whole = std::iter::from_fn(move || {
        let line = if failed { None } else { dpg_files::line(&mut text, LINE_BYTES).transpose() };
        failed = line.as_ref().is_some_and(std::io::Result::is_err);
        line
    });
    // JSON has no bare `\r` inside of strings, and outside of them it is white space
    let parts = |line: std::io::Result<Vec<u8>>| -> Vec<std::io::Result<Vec<u8>>> {
        let Ok(mut line) = line else { return vec![line] };
        line.pop_if(|last| *last == b'\r');
        line.split(|&c| c == b'\r').map(|part| Ok(part.to_vec())).collect()
    };
    (1..)
        .zip(whole.flat_map(parts))
        .filter(|(_, line)| !line.as_ref().is_ok_and(|line| line.trim_ascii().is_empty()))
        .map(|(number, line)| {
            let line = line.map_err(|source| Error::Io { action: "read", path: path.into(), source })?;
            Raw::new(path, Place::Line(number), &line)
        })
}

/// The rows of a file that is one array.
pub(super) fn array(path: &Path, mut text: BufReader<File>) -> Result<Vec<Raw>> {
    let mut bytes = vec![];
    let read = text.by_ref().take(ARRAY_BYTES + 1).read_to_end(&mut bytes);
    read.map_err(|source| Error::Io { action: "read", path: path.into(), source })?;
    if bytes.len() as u64 > ARRAY_BYTES {
        return Err(Error::TooLarge { path: path.into(), what: "the array", limit: ARRAY_BYTES as usize });
    }
    let failed = |reason| Error::NotArray { path: path.into(), reason };
    let mut scan = Scan::new(&bytes);
    let elements = scan.elements().map_err(failed)?;
    scan.end().map_err(failed)?;
    (1..).zip(elements).map(|(row, element)| Raw::new(path, Place::Row(row), element)).collect()
}

/// serde_json's words without its place, which is one inside of the column.
fn cause(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.split(" at line ").next().unwrap_or_default().to_owned()
}
