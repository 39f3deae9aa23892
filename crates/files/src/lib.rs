//! Reading files that somebody else wrote: regular files alone, and no more of one than is expected.
//!
//! A model folder may hold a FIFO, which blocks whoever opens it, a device, which never ends, or a file
//! that is larger than memory. Each is an error here that names what was found, and the limit.

use std::fs::{self, File};
use std::io::{self, BufRead, ErrorKind, Read};
use std::path::Path;

/// Most bytes of a JSON file of a model folder, its tokenizer apart.
pub const JSON_BYTES: u64 = 16 << 20;
/// Most bytes of a tokenizer.json. Those of vocabularies of 256,000 tokens have about 35 MB.
pub const TOKENIZER_BYTES: u64 = 256 << 20;
/// Most bytes of a chat template.
pub const TEMPLATE_BYTES: u64 = 1 << 20;

/// Opens a regular file. Links are followed.
///
/// # Errors
/// Those of [`File::open`]; [`ErrorKind::InvalidInput`] for whatever is not a regular file, without
/// opening it.
pub fn open(path: &Path) -> io::Result<File> {
    let kind = fs::metadata(path)?.file_type();
    if kind.is_file() {
        return File::open(path);
    }
    let found = if kind.is_dir() { "a folder" } else { "a pipe, a socket or a device" };
    Err(io::Error::new(ErrorKind::InvalidInput, format!("it is {found}, and a regular file is expected")))
}

/// The bytes of a regular file that has at most `limit` of them.
///
/// # Errors
/// Those of [`open`]; [`ErrorKind::InvalidData`] for a larger file.
pub fn read(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let mut file = open(path)?;
    let length = file.metadata()?.len();
    if length > limit {
        return Err(too_large(length, limit));
    }
    let mut bytes = Vec::with_capacity(length as usize);
    // it may grow meanwhile
    (&mut file).take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit { Err(too_large(bytes.len() as u64, limit)) } else { Ok(bytes) }
}

/// The text of a regular file that has at most `limit` bytes.
///
/// # Errors
/// Those of [`read`]; [`ErrorKind::InvalidData`] for what is not UTF-8.
pub fn read_to_string(path: &Path, limit: u64) -> io::Result<String> {
    String::from_utf8(read(path, limit)?)
        .map_err(|_| io::Error::new(ErrorKind::InvalidData, "it is not UTF-8 text"))
}

/// The next line, without its end and of at most `limit` bytes; `None` after the last.
///
/// # Errors
/// Those of the reader; [`ErrorKind::InvalidData`] for a longer line.
pub fn line(reader: &mut impl BufRead, limit: u64) -> io::Result<Option<Vec<u8>>> {
    let mut line = vec![];
    reader.take(limit.saturating_add(1)).read_until(b'\n', &mut line)?;
    if line.is_empty() {
        return Ok(None);
    }
    if line.last() == Some(&b'\n') {
        line.pop();
    } else if line.len() as u64 > limit {
        let reason = format!("a line has more than {limit} bytes, which is the limit");
        return Err(io::Error::new(ErrorKind::InvalidData, reason));
    }
    Ok(Some(line))
}

fn too_large(length: u64, limit: u64) -> io::Error {
    let reason = format!("it has {length} bytes, more than the limit of {limit}");
    io::Error::new(ErrorKind::InvalidData, reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_regular_files_of_the_size_expected_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let (file, fifo) = (folder.path().join("file"), folder.path().join("fifo"));
        fs::write(&file, "abc").unwrap();
        assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
        assert_eq!(read_to_string(&file, 3).unwrap(), "abc");
        for (path, limit, expected) in [
            (file.as_path(), 2, "3 bytes, more than the limit of 2"),
            (&fifo, 3, "a pipe"),
            (folder.path(), 3, "a folder"),
            (Path::new("/dev/zero"), 3, "a device"),
        ] {
            let error = read(path, limit).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
        assert_eq!(open(Path::new("/nowhere")).unwrap_err().kind(), ErrorKind::NotFound);
    }

    #[test]
    fn lines_end_where_they_end_or_are_refused() {
        let lines = |text: &str, limit| {
            let mut reader = text.as_bytes();
            std::iter::from_fn(|| line(&mut reader, limit).transpose()).collect::<io::Result<Vec<_>>>()
        };
        assert_eq!(lines("ab\n\ncd", 2).unwrap(), [b"ab".to_vec(), vec![], b"cd".to_vec()]);
        assert_eq!(lines("ab\n", 2).unwrap(), [b"ab"]);
        assert!(lines("abc\n", 2).unwrap_err().to_string().contains("2 bytes"));
    }
}
