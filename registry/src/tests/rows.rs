//! Rows of a version, a few at a time.

use std::sync::Arc;

use dpg_dataset::Split;
use dpg_spec::Format;

use super::{Place, snapshot};
use crate::{Order, Rows, StoredRow, Wanted};

async fn list(rows: &Arc<Rows>, search: &str, order: Order, offset: usize) -> (Vec<StoredRow>, usize) {
    let wanted = Wanted { search: search.into(), order, offset, limit: 5 };
    Arc::clone(rows).list(wanted).await.unwrap()
}

fn places(rows: &[StoredRow]) -> Vec<usize> {
    rows.iter().map(|row| row.row).collect()
}

#[tokio::test]
async fn rows_of_every_format_are_found_and_sorted() {
    for format in [Format::Text, Format::PromptCompletion, Format::Messages] {
        let place = Place::local();
        let work = place.folder.path().join("work");
        let version = place.registry.publish(&snapshot(&work, "sixseven", "a", 1, format)).await.unwrap();
        let rows = Arc::new(place.registry.rows(&version, Split::Train).await.unwrap());
        assert_eq!((rows.rewards().len(), rows.lengths().len()), (300, 300));
        let (first, matching) = list(&rows, "", Order::Row, 295).await;
        assert_eq!((places(&first), matching), ((295..300).collect(), 300));
        let text = serde_json::to_string(&first[0].columns).unwrap();
        assert!(text.contains("a, example 295: ¿qué?"), "{text}");
        let record = first[0].record.as_ref().unwrap();
        assert_eq!((&record["prompt"], &record["n_tokens"]), (&"prompt 73".into(), &(1 + 295 % 9).into()));

        let reward = |row: &StoredRow| row.columns["reward"].as_f64().unwrap();
        let (best, _) = list(&rows, "", Order::RewardDown, 0).await;
        let (worst, _) = list(&rows, "", Order::Reward, 0).await;
        assert!(best.is_sorted_by(|one, other| reward(one) >= reward(other)));
        let largest = rows.rewards().iter().copied().fold(f64::MIN, f64::max);
        assert!(reward(&best[0]) == largest && reward(&worst[0]) < reward(&worst[1]));
        let (short, _) = list(&rows, "", Order::Length, 0).await;
        assert_eq!(places(&short), [0, 9, 18, 27, 36]);

        // 20, and 200 to 209
        let (found, matching) = list(&rows, "EXAMPLE 20", Order::Row, 1).await;
        assert_eq!((places(&found), matching), ((200..205).collect(), 11));
        assert_eq!(list(&rows, "not there", Order::RewardDown, 0).await, (vec![], 0));
        let picked = Arc::clone(&rows).of(vec![299, 3, 3, 150]).await.unwrap();
        assert_eq!(places(&picked), [299, 3, 3, 150]);
        assert_eq!(picked[1], picked[2]);
        let aside = place.registry.rows(&version, Split::Validation).await.unwrap();
        assert_eq!(aside.rewards().len(), 30);
    }
}
