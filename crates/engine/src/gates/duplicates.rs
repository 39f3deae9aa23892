//! Rows that say what an earlier one says, exactly or nearly.
//!
//! Near ones are found by MinHash (Broder, 1997): of all runs of five characters of a text, hashed in [`HASHES`] ways, the
//! least of each way is kept. Two texts agree in as large a share of these as the Jaccard similarity of their runs, give or
//! take 0.04. Only such as agree in all hashes of one of several bands are compared, whose size is chosen so that hardly a
//! pair of the wanted similarity is missed.

use std::collections::{HashMap, HashSet};

use dpg_spec::Duplicates;

use super::{Around, Candidate, Gate};
use crate::Error;

const HASHES: usize = 128;
/// Characters of a run.
const RUN: usize = 5;
/// Chance that a pair of just the wanted similarity is found.
const FOUND: f64 = 0.999;

/// The least hashes of a text.
type Signature = Vec<u32>;

pub(super) struct Rows {
    similarity: f64,
    /// Hashes of a band.
    band: usize,
    contents: HashSet<String>,
    signatures: Vec<Signature>,
    /// The kept rows by a band's number and its hashes.
    bands: HashMap<(usize, Signature), Vec<usize>>,
    /// Of the row that was looked at last.
    last: (String, Option<Signature>),
}

#[expect(clippy::unnecessary_wraps, reason = "other gates may fail to open")]
pub(super) fn open(settings: &Duplicates, _: Around) -> Result<Rows, Error> {
    Ok(Rows {
        similarity: settings.similarity,
        band: band(settings.similarity),
        contents: HashSet::new(),
        signatures: vec![],
        bands: HashMap::new(),
        last: Default::default(),
    })
}

/// The most hashes of a band with which a pair of this similarity is found.
fn band(similarity: f64) -> usize {
    let found = |band: usize| {
        let missed = 1.0 - similarity.powi(band as i32);
        1.0 - missed.powi((HASHES / band) as i32)
    };
    [16, 8, 4, 2].into_iter().find(|band| found(*band) >= FOUND).unwrap_or(1)
}

impl Rows {
    fn is_near(&self, signature: &Signature) -> bool {
        let candidates = signature.chunks(self.band).enumerate();
        let mut candidates =
            candidates.filter_map(|(number, band)| self.bands.get(&(number, band.to_vec()))).flatten();
        candidates.any(|row| {
            let same = self.signatures[*row].iter().zip(signature).filter(|(a, b)| a == b).count();
            same as f64 / HASHES as f64 >= self.similarity
        })
    }
}

impl Gate for Rows {
    fn passes(&mut self, row: &Candidate) -> Result<bool, Error> {
        let near = self.similarity < 1.0;
        self.last = (row.example.content_sha256(), near.then(|| signature(row.text)));
        let (content, signature) = &self.last;
        Ok(!self.contents.contains(content)
            && !signature.as_ref().is_some_and(|signature| self.is_near(signature)))
    }

    fn keep(&mut self, _: &Candidate) {
        let (content, signature) = std::mem::take(&mut self.last);
        self.contents.insert(content);
        if let Some(signature) = signature {
            for (number, band) in signature.chunks(self.band).enumerate() {
                self.bands.entry((number, band.to_vec())).or_default().push(self.signatures.len());
            }
            self.signatures.push(signature);
        }
    }
}

/// The least hash of a text's runs in each way.
fn signature(text: &str) -> Signature {
    let text = text.to_lowercase().split_whitespace().collect::<Vec<_>>().join(" ");
    let characters: Vec<char> = text.chars().collect();
    let mut least = vec![u32::MAX; HASHES];
    for run in characters.windows(RUN.min(characters.len().max(1))) {
        // FNV-1a over the characters
        let hash = run.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, character| {
            (hash ^ u64::from(u32::from(*character))).wrapping_mul(0x0100_0000_01b3)
        });
        for (way, least) in (1..).zip(&mut least) {
            *least = (*least).min((mixed(hash ^ mixed(way)) >> 32) as u32);
        }
    }
    least
}

/// The finaliser of `SplitMix64`.
fn mixed(mut value: u64) -> u64 {
    value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}
