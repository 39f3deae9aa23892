//! What a run tells, as a file of events for TensorBoard: `tensorboard --logdir DATA/tensorboard`.
//!
//! A file is a row of records, each its length, a checksum of that, the bytes, a checksum of those; the bytes are an
//! `Event` of TensorFlow in protobuf. A run that goes on writes another file into the same folder, which TensorBoard
//! reads as one.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crc_fast::CrcAlgorithm;
use dpg_engine::{Event, StepRecord, ValidationRecord};
use tracing::warn;

use crate::pipeline::protobuf::{Field, encode};

/// A run's listener that hears all that `tell` hears. It writes to `folder`, which is made; where that fails, the run
/// goes on without.
pub(crate) fn writing(
    folder: &Path,
    mut tell: impl FnMut(&Event) + Send + 'static,
) -> impl FnMut(&Event) + Send + 'static {
    let failed = |error: &io::Error| warn!("cannot write events for TensorBoard: {error}");
    let mut board = Board::make(folder).inspect_err(failed).ok();
    move |event| {
        board =
            board.take().and_then(|mut board| board.write(event).inspect_err(failed).ok().map(|()| board));
        tell(event);
    }
}

/// Removes the events of runs that nobody wrote to for as long as `age`. `folder` has a folder for each dataset, and
/// that one for each run.
pub(crate) fn sweep(folder: &Path, age: Duration) -> io::Result<()> {
    if !folder.exists() {
        return Ok(());
    }
    for dataset in fs::read_dir(folder)? {
        let dataset = dataset?.path();
        for run in fs::read_dir(&dataset)? {
            let run = run?.path();
            let mut written =
                fs::read_dir(&run)?.filter_map(|file| file.ok()?.metadata().ok()?.modified().ok());
            let is_old = |time: SystemTime| time.elapsed().is_ok_and(|passed| passed > age);
            if written.all(is_old) {
                fs::remove_dir_all(&run)?;
            }
        }
        // one that holds a run stays
        let _ = fs::remove_dir(&dataset);
    }
    Ok(())
}

/// An open file of events.
struct Board {
    file: File,
}

impl Board {
    fn make(folder: &Path) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let name = format!(
            "events.out.tfevents.{:010}.dpg.{}.{}",
            now.as_secs(),
            std::process::id(),
            now.subsec_nanos()
        );
        let mut board = Self { file: File::create_new(folder.join(name))? };
        board.record(&message(&[(3, Field::Bytes(b"brain.Event:2".to_vec()))], None))?;
        Ok(board)
    }

    fn write(&mut self, event: &Event) -> io::Result<()> {
        match scalars(event) {
            Some((step, scalars)) => self.summary(step, &scalars),
            None => Ok(()),
        }
    }

    fn summary(&mut self, step: usize, scalars: &[(String, f64)]) -> io::Result<()> {
        let value = |(tag, value): &(String, f64)| {
            let fields = [(1, Field::Bytes(tag.clone().into_bytes())), (2, Field::Float(*value as f32))];
            (1, Field::Bytes(encode(&fields)))
        };
        let summary = encode(&scalars.iter().map(value).collect::<Vec<_>>());
        self.record(&message(&[(5, Field::Bytes(summary))], Some(step as u64)))
    }

    fn record(&mut self, bytes: &[u8]) -> io::Result<()> {
        let length = (bytes.len() as u64).to_le_bytes();
        let parts = [&length[..], &masked(&length).to_le_bytes(), bytes, &masked(bytes).to_le_bytes()];
        // at once, for whoever reads meanwhile
        self.file.write_all(&parts.concat())
    }
}

/// What is logged of an event: the steps done, and figures by their names.
pub(crate) fn scalars(event: &Event) -> Option<(usize, Vec<(String, f64)>)> {
    match event {
        Event::Step(record) => Some((record.step + 1, of_step(record))),
        Event::Validation(record) => Some((record.step, of_validation(record))),
        _ => None,
    }
}

fn of_step(record: &StepRecord) -> Vec<(String, f64)> {
    let update = &record.update;
    let mut scalars = vec![
        ("train/phi", record.score.value),
        ("train/reward_mean", record.reward_mean),
        ("train/reward_std", record.reward_std),
        ("policy/entropy", update.entropy),
        ("policy/kl", update.kl),
        ("policy/clip_fraction", update.clip_fraction),
    ];
    scalars.extend(record.length.map(|length| ("train/length", length)));
    if let Some(total) = &record.total {
        scalars.push(("teacher/requests", total.requests as f64));
        scalars.extend(total.money.map(|money| ("teacher/money", money)));
    }
    let arms = record.arms.iter().map(|arm| (format!("arms/{}", arm.name), arm.probability));
    scalars.into_iter().map(|(tag, value)| (tag.to_owned(), value)).chain(arms).collect()
}

fn of_validation(record: &ValidationRecord) -> Vec<(String, f64)> {
    let figures = record.figures().into_iter();
    figures.map(|(name, value)| (format!("validation/{name}"), value)).collect()
}

/// An `Event`: the time, the step, and what it holds.
fn message(holds: &[(u32, Field)], step: Option<u64>) -> Vec<u8> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut head = vec![(1, Field::Double(now.as_secs_f64()))];
    head.extend(step.map(|step| (2, Field::Varint(step))));
    [encode(&head), encode(holds)].concat()
}

/// The checksum of a record: CRC-32C, turned and moved, so that a checksum of checksums tells something.
fn masked(bytes: &[u8]) -> u32 {
    let crc = crc32c(bytes);
    crc.rotate_right(15).wrapping_add(0xa282_ead8)
}

/// CRC-32C (RFC 3720).
fn crc32c(bytes: &[u8]) -> u32 {
    crc_fast::checksum(CrcAlgorithm::Crc32Iscsi, bytes) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_those_of_their_standard() {
        // RFC 3720, appendix B.4
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(&(0..32).collect::<Vec<u8>>()), 0x46dd_794e);
    }

    #[test]
    fn old_events_are_removed() {
        let folder = tempfile::tempdir().unwrap();
        let run = folder.path().join("name/run");
        drop(Board::make(&run).unwrap());
        sweep(folder.path(), Duration::from_hours(1)).unwrap();
        assert!(run.exists());
        std::thread::sleep(Duration::from_millis(20));
        sweep(folder.path(), Duration::from_millis(1)).unwrap();
        assert!(!folder.path().join("name").exists());
        sweep(&folder.path().join("none"), Duration::ZERO).unwrap();
    }
}
