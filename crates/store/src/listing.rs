//! Listings of a bucket that is not ours alone.

use object_store::path::Path;

/// Why a listing cannot be used.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Unusable {
    /// It is not a listing.
    Foreign,
    /// It says that there is more, and not how to ask for it.
    CutOff,
}

/// The XML of a page of a listing without what no path can name: keys with an empty part, as
/// `a//b`, markers of folders, which end in `/`, and keys with control characters. `object_store`
/// fails on the whole listing for one such key.
pub(crate) fn readable(xml: &str) -> Result<String, Unusable> {
    if !xml.contains("<ListBucketResult") {
        return Err(Unusable::Foreign);
    }
    let is_cut = element(xml, "IsTruncated").is_some_and(|flag| flag.trim() == "true");
    if is_cut && element(xml, "NextContinuationToken").is_none_or(str::is_empty) {
        return Err(Unusable::CutOff);
    }
    let is_object = |key: &str| Path::parse(key).is_ok_and(|path| path.as_ref() == key);
    let is_folder = |prefix: &str| prefix.strip_suffix('/').is_some_and(is_object);
    let objects = keep(xml, "Contents", "Key", is_object);
    Ok(keep(&objects, "CommonPrefixes", "Prefix", is_folder))
}

/// The XML with those elements of a name alone whose inner element has a text that is wanted.
fn keep(xml: &str, outer: &str, inner: &str, wanted: impl Fn(&str) -> bool) -> String {
    let (open, close) = (format!("<{outer}>"), format!("</{outer}>"));
    let mut kept = String::with_capacity(xml.len());
    let mut rest = xml;
    while let Some(start) = rest.find(&open) {
        let Some(length) = rest[start..].find(&close) else { break };
        let end = start + length + close.len();
        let text = element(&rest[start..end], inner).map(unescaped);
        let is_wanted = text.is_some_and(|text| !text.contains(char::is_control) && wanted(&text));
        kept.push_str(&rest[..if is_wanted { end } else { start }]);
        rest = &rest[end..];
    }
    kept + rest
}

/// The text of the first element of a name, as it stands there.
pub(crate) fn element<'a>(xml: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = xml.split_once(&format!("<{name}>"))?;
    Some(rest.split_once(&format!("</{name}>"))?.0)
}

/// The text that escaped XML stands for. References to characters by number stay, but for those of
/// control characters, which become one.
pub(crate) fn unescaped(text: &str) -> String {
    let controls =
        (0..32).flat_map(|code| [format!("&#{code};"), format!("&#x{code:x};"), format!("&#x{code:X};")]);
    let text = controls.fold(text.to_owned(), |text, reference| text.replace(&reference, "\u{1}"));
    let named =
        [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&apos;", "'"), ("&#39;", "'"), ("&amp;", "&")];
    named.into_iter().fold(text, |text, (reference, character)| text.replace(reference, character))
}

#[cfg(test)]
mod tests {
    use super::{Unusable, readable};

    fn page(keys: &[&str], prefixes: &[&str], end: &str) -> String {
        let keys = keys.iter().map(|key| format!("<Contents><Key>{key}</Key><Size>1</Size></Contents>"));
        let prefixes = prefixes
            .iter()
            .map(|prefix| format!("<CommonPrefixes><Prefix>{prefix}</Prefix></CommonPrefixes>"));
        let inner: String = keys.chain(prefixes).collect();
        format!(
            "<?xml version=\"1.0\"?><ListBucketResult xmlns=\"x\"><Prefix>a//</Prefix>{inner}{end}</ListBucketResult>"
        )
    }

    #[test]
    fn what_no_path_can_name_is_left_out() {
        let listed = page(
            &["a/b", "a//b", "/a", "a/", "a/./b", "a/&#x1;", "a &amp; b/&lt;", "a/\u{7f}"],
            &["a/", "a//", "../"],
            "",
        );
        assert_eq!(readable(&listed).unwrap(), page(&["a/b", "a &amp; b/&lt;"], &["a/"], ""));
        let whole = page(&["a/b"], &["a/"], "<IsTruncated>false</IsTruncated>");
        assert_eq!(readable(&whole).unwrap(), whole);
    }

    #[test]
    fn what_would_be_taken_for_the_whole_and_is_not_is_refused() {
        assert_eq!(readable("<html>").unwrap_err(), Unusable::Foreign);
        let cut = page(&["a"], &[], "<IsTruncated>true</IsTruncated><NextMarker>a</NextMarker>");
        assert_eq!(readable(&cut).unwrap_err(), Unusable::CutOff);
        let more = "<IsTruncated>true</IsTruncated><NextContinuationToken>t</NextContinuationToken>";
        assert!(readable(&page(&["a"], &[], more)).is_ok());
    }
}
