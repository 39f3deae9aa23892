//! Text that a spec's author wrote, for a page of Markdown: it is shown as it is and becomes no heading,
//! link, picture, HTML or front matter.

use std::fmt::Write;

/// Text for one paragraph.
pub fn escaped(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for word in text.split_whitespace() {
        if !shown.is_empty() {
            shown.push(' ');
        }
        // a full stop or bracket after a number makes a list of a line that begins with it
        let is_number = |end: usize| end > 0 && word[..end].bytes().all(|byte| byte.is_ascii_digit());
        for (at, c) in word.char_indices() {
            match c {
                c if is_hidden(c) => {
                    write!(shown, "&#{};", u32::from('\u{fffd}')).expect("a string takes any text");
                }
                '<' => shown.push_str("&lt;"),
                '>' => shown.push_str("&gt;"),
                '&' => shown.push_str("&amp;"),
                // an address would become a link by itself
                ':' if word[at..].starts_with("://") => shown.push_str("&#58;"),
                '@' => shown.push_str("&#64;"),
                '.' if word.get(..4).is_some_and(|start| start.eq_ignore_ascii_case("www.")) => {
                    shown.push_str("&#46;");
                }
                '\\' | '`' | '*' | '_' | '{' | '}' | '[' | ']' | '#' | '|' | '~' | '$' | '!' => {
                    shown.push('\\');
                    shown.push(c);
                }
                '-' | '+' | '=' if at == 0 => {
                    shown.push('\\');
                    shown.push(c);
                }
                '.' | ')' if is_number(at) => {
                    shown.push('\\');
                    shown.push(c);
                }
                c => shown.push(c),
            }
        }
    }
    shown
}

/// Text between backticks.
pub fn code(text: &str) -> String {
    let plain: String = text.chars().map(|c| if is_hidden(c) || c == '`' { '\u{fffd}' } else { c }).collect();
    format!("`{plain}`")
}

/// Whether a character is not seen and changes what is: controls, and marks that turn text around.
fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}')
        || matches!(c, '\u{feff}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::{code, escaped};

    #[test]
    fn words_stay_words() {
        for (text, shown) in [
            ("The LM head learns \"67\": a pattern.", "The LM head learns \"67\": a pattern."),
            ("a\n---\nlicense: mit", "a \\--- license: mit"),
            ("# Title", "\\# Title"),
            ("a\n\n## Verification\n\npassed", "a \\#\\# Verification passed"),
            ("<script>alert(1)</script>", "&lt;script&gt;alert(1)&lt;/script&gt;"),
            ("![x](http://evil)", "\\!\\[x\\](http&#58;//evil)"),
            ("1. one 2) two", "1\\. one 2\\) two"),
            ("well-known 3.5", "well-known 3\\.5"),
            ("www.evil.org me@evil.org", "www&#46;evil&#46;org me&#64;evil.org"),
            ("&lt;b&gt; a_b *c* `d` ~~e~~", "&amp;lt;b&amp;gt; a\\_b \\*c\\* \\`d\\` \\~\\~e\\~\\~"),
            ("a\u{1b}[31m\u{202e}b", "a&#65533;\\[31m&#65533;b"),
        ] {
            assert_eq!(escaped(text), shown);
        }
        assert_eq!(code("a`b\n\u{1b}<i>"), "`a\u{fffd}b\u{fffd}\u{fffd}<i>`");
    }
}
