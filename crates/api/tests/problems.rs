//! The page of the API's problems in `deploy/` is made from their table.
//!
//! `DPG_BLESS=1 cargo test -p dpg-api --test problems` writes it anew.

use std::collections::HashSet;
use std::path::Path;

use dpg_api::Code;

const HEAD: &str = "\
# Problems of the API

<!-- made by crates/api/tests/problems.rs from crates/api/src/code.rs -->

Every refusal is a problem document ([RFC 9457](https://www.rfc-editor.org/rfc/rfc9457), `application/problem+json`).
Its `type` is `urn:dpg:problem:` and one of the codes here: programs decide by it. `detail` says what is wrong with this
request, `hint` what to do, and the daemon's log has the request under the id in `instance`.

| code | status | it means | what to do |
|---|---|---|---|
";

#[test]
fn the_page_is_that_of_the_table() {
    let row = |code: &Code| {
        let status = if *code == Code::Refused { "any other".into() } else { code.status().to_string() };
        format!("| `{code}` | {status} | {} | {} |\n", code.meaning(), code.remedy())
    };
    let page = HEAD.to_owned() + &Code::ALL.iter().map(row).collect::<String>();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/problems.md");
    if std::env::var_os("DPG_BLESS").is_some() {
        std::fs::write(&path, &page).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(found == page, "`{}` is not what the table says; run with DPG_BLESS=1", path.display());
}

#[test]
fn each_code_has_its_own_word_a_meaning_and_a_remedy() {
    let words: HashSet<_> = Code::ALL.iter().map(|code| code.as_str()).collect();
    assert_eq!(words.len(), Code::ALL.len());
    for code in Code::ALL {
        assert!((400..600).contains(&code.status()), "{code}");
        assert!(code.meaning().ends_with('.') && !code.remedy().is_empty(), "{code}");
    }
}
