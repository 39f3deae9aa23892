//! Random identifiers and random lines.

use rand::{Rng, RngExt};

/// A random UUID, version 4, in lower case.
pub(crate) fn random_uuid(rng: &mut impl Rng) -> String {
    let mut bytes: [u8; 16] = rng.random();
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

/// A line of `length` characters, each drawn evenly from `alphabet`.
pub(crate) fn random_line(rng: &mut impl Rng, alphabet: &[char], length: usize) -> String {
    (0..length).map(|_| alphabet[rng.random_range(0..alphabet.len())]).collect()
}
