//! What a data file is, by its first bytes.

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use crate::{Error, Result};

/// An opened data file.
pub(crate) enum Source {
    Parquet(File),
    /// One JSON object a line, after a byte order mark if there was one.
    Jsonl(BufReader<File>),
    /// One JSON array.
    Array(BufReader<File>),
}

const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// How other files begin, what they are, and what to do.
const OTHERS: [(&[u8], &str, &str); 11] = [
    (b"\xFF\xFE", "UTF-16 text", "write it as UTF-8 with `iconv -f UTF-16 -t UTF-8`"),
    (b"\xFE\xFF", "UTF-16 text", "write it as UTF-8 with `iconv -f UTF-16 -t UTF-8`"),
    (b"\x1F\x8B", "gzip-compressed", "unpack it with `gunzip`"),
    (b"\x28\xB5\x2F\xFD", "zstd-compressed", "unpack it with `unzstd`"),
    (b"\xFD7zXZ", "xz-compressed", "unpack it with `unxz`"),
    (b"BZh", "bzip2-compressed", "unpack it with `bunzip2`"),
    (b"PK\x03\x04", "a zip archive", "unpack it with `unzip`"),
    (b"ARROW1", "an Arrow file", "write it as Parquet, as `Dataset.to_parquet` of datasets does"),
    (b"PARE", "an encrypted Parquet file", "write it without encryption"),
    (
        b"version https://git-lfs",
        "a Git LFS pointer, not the file it stands for",
        "fetch that with `git lfs pull`",
    ),
    (b"<", "an HTML or XML page, not data", "download the file itself"),
];

pub(crate) fn open(path: &Path) -> Result<Source> {
    const LONGEST: u64 = 64;
    let read = || {
        let mut file = dpg_files::open(path)?;
        let mut start = Vec::new();
        (&mut file).take(LONGEST).read_to_end(&mut start)?;
        let text = start.strip_prefix(BYTE_ORDER_MARK).map_or(0, |_| BYTE_ORDER_MARK.len());
        file.seek(SeekFrom::Start(text as u64))?;
        Ok((file, start.split_off(text)))
    };
    let (file, start) = read().map_err(|source| Error::Io { action: "read", path: path.into(), source })?;
    if start.starts_with(b"PAR1") {
        return Ok(Source::Parquet(file));
    }
    let other = OTHERS.iter().find(|(magic, ..)| start.starts_with(magic));
    // UTF-16 without a mark has a zero in each pair of bytes
    let wide = start.len() > 1 && (start[0] == 0) != (start[1] == 0);
    if let Some((_, kind, remedy)) = other.or(OTHERS.first().filter(|_| wide)) {
        return Err(Error::OtherFile { path: path.into(), kind, remedy });
    }
    let reader = BufReader::new(file);
    Ok(if start.trim_ascii_start().starts_with(b"[") { Source::Array(reader) } else { Source::Jsonl(reader) })
}
