//! Readers of what a store's writer may have put there: any bytes, and true files with some changed.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::Place;
use crate::layout::MANIFEST;
use crate::{Manifest, sign_report};

fn envelope(place: &Place) -> Vec<u8> {
    sign_report(&place.registry.key_file, "six@v1", &"0".repeat(64), true, &json!({})).unwrap().into_bytes()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_no_record(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
        let place = Place::memory();
        prop_assert!(place.registry.believe(&bytes).is_err());
        prop_assert!(Manifest::check(&bytes, "six@v1", &"0".repeat(64)).is_err());
    }

    /// Whatever is changed in an envelope, what is believed is what was signed.
    #[test]
    fn a_changed_record_is_not_believed(changes in proptest::collection::vec((any::<u16>(), any::<u8>()), 1..6)) {
        let place = Place::memory();
        let good = envelope(&place);
        let (signed, _) = place.registry.believe(&good).unwrap();
        let mut changed = good.clone();
        for (at, byte) in changes {
            let at = usize::from(at) % changed.len();
            changed[at] = byte;
        }
        if let Ok((statement, _)) = place.registry.believe(&changed) {
            // the key's id, white space and the like are not signed and not believed in
            prop_assert_eq!(statement, signed);
        }
    }

    /// Paths of a manifest stay inside the dataset's folder.
    #[test]
    fn no_path_of_a_manifest_leads_out(path in "[./a\\\\%:\u{0}\n ]{0,12}") {
        let place = tempfile::tempdir().unwrap();
        let file = json!({ "path": path, "size": 1, "sha256": "0".repeat(64) });
        let manifest = json!({ "format": 1, "dataset": "six", "job": "a", "fence": 1, "files": [file] });
        let json = manifest.to_string();
        let sha256 = hex::encode(<sha2::Sha256 as sha2::Digest>::digest(&json));
        if let Ok(manifest) = Manifest::check(json.as_bytes(), "six@v1", &sha256) {
            let local = place.path().join(&manifest.files[0].path);
            let stays = local.components().all(|part| part != std::path::Component::ParentDir);
            prop_assert!(local.starts_with(place.path()) && stays && local != place.path(), "{local:?}");
            prop_assert!(manifest.files[0].path != MANIFEST);
        }
    }
}

#[test]
fn deep_json_is_refused_without_a_crash() {
    let place = Place::memory();
    for open in ["[", "{\"a\":", "{\"payloadType\":["] {
        let deep = open.repeat(100_000);
        assert!(place.registry.believe(deep.as_bytes()).is_err());
        assert!(serde_json::from_str::<Value>(&deep).is_err());
    }
}
