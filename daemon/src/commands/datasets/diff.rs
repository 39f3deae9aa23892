//! `dpg datasets diff`: what changed between two versions, in words.

use dpg_registry::Diff;

/// Rows, rewards, metrics and spec.
pub(super) fn text(diff: &Diff) -> String {
    let Diff { from, to, rows_added, rows_removed, rows_kept, .. } = diff;
    let mut text = format!(
        "{from} -> {to}\nrows      {rows_added} added, {rows_removed} removed, {rows_kept} kept\n\
         rewards   {:>12} {:>12}\n",
        from.rsplit('@').next().unwrap_or_default(),
        to.rsplit('@').next().unwrap_or_default(),
    );
    let (old, new) = (&diff.rewards_from, &diff.rewards_to);
    for (name, old, new) in [
        ("mean", old.mean, new.mean),
        ("std", old.std, new.std),
        ("min", old.min, new.min),
        ("median", old.median, new.median),
        ("max", old.max, new.max),
        ("above 0", old.positive, new.positive),
    ] {
        text += &format!("  {name:7} {old:>12.4e} {new:>12.4e}\n");
    }
    text += "metrics\n";
    let value = |value: Option<f64>| value.map_or("not measured".into(), |value| format!("{value:.6}"));
    for change in &diff.metrics {
        text += &format!("  {}: {} -> {}\n", change.name, value(change.from), value(change.to));
    }
    text += if diff.spec.is_empty() { "spec      the same" } else { "spec" };
    let setting = |value: &Option<String>| value.clone().unwrap_or_else(|| "not set".into());
    for change in &diff.spec {
        text += &format!("\n  {}: {} -> {}", change.key, setting(&change.from), setting(&change.to));
    }
    text
}
