//! JSON text taken apart without reading it: the members of an object and the elements of an array
//! as pieces of text. A column that nobody reads may then hold what JSON has no word for (`NaN`,
//! numbers of any size, half a surrogate pair), as Python writes it.

/// A cursor over JSON text.
pub(super) struct Scan<'t> {
    text: &'t [u8],
    at: usize,
}

/// What was found instead of JSON.
pub(super) type Failed = String;

impl<'t> Scan<'t> {
    pub(super) fn new(text: &'t [u8]) -> Self {
        Self { text, at: 0 }
    }

    /// The first character of what comes next.
    pub(super) fn peek(&mut self) -> Option<u8> {
        while self.text.get(self.at).is_some_and(u8::is_ascii_whitespace) {
            self.at += 1;
        }
        self.text.get(self.at).copied()
    }

    /// The members of an object: keys and values as text.
    pub(super) fn members(&mut self) -> Result<Vec<(String, &'t [u8])>, Failed> {
        let mut members = vec![];
        self.list(b'{', b'}', |scan| {
            let key = scan.value()?;
            if key.first() != Some(&b'"') {
                return Err(format!("a key is {}", described(key)));
            }
            // a key with half a surrogate pair is none that anybody asks for
            let name =
                serde_json::from_slice(key).unwrap_or_else(|_| String::from_utf8_lossy(key).into_owned());
            scan.expect(b':')?;
            members.push((name, scan.value()?));
            Ok(())
        })?;
        Ok(members)
    }

    /// The elements of an array as text.
    pub(super) fn elements(&mut self) -> Result<Vec<&'t [u8]>, Failed> {
        let mut elements = vec![];
        self.list(b'[', b']', |scan| {
            elements.push(scan.value()?);
            Ok(())
        })?;
        Ok(elements)
    }

    /// Fails unless nothing is left.
    pub(super) fn end(&mut self) -> Result<(), Failed> {
        match self.peek() {
            None => Ok(()),
            Some(_) => Err(format!("then comes {}", described(&self.text[self.at..]))),
        }
    }

    fn list(
        &mut self,
        open: u8,
        close: u8,
        mut item: impl FnMut(&mut Self) -> Result<(), Failed>,
    ) -> Result<(), Failed> {
        self.expect(open)?;
        if self.peek() == Some(close) {
            self.at += 1;
            return Ok(());
        }
        loop {
            item(self)?;
            match self.peek() {
                Some(b',') => self.at += 1,
                _ => return self.expect(close),
            }
        }
    }

    fn expect(&mut self, character: u8) -> Result<(), Failed> {
        if self.peek() == Some(character) {
            self.at += 1;
            return Ok(());
        }
        let found = described(&self.text[self.at..]);
        Err(format!("expected `{}` and found {found}", char::from(character)))
    }

    /// The text of one value.
    fn value(&mut self) -> Result<&'t [u8], Failed> {
        let first = self.peek();
        let start = self.at;
        match first {
            Some(b'"') => self.string()?,
            Some(b'{' | b'[') => self.nested()?,
            _ => {
                let word = |c: &u8| c.is_ascii_alphanumeric() || matches!(c, b'+' | b'-' | b'.');
                let length = self.text[start..].iter().take_while(|c| word(c)).count();
                if length == 0 {
                    return Err(format!("expected a value and found {}", described(&self.text[start..])));
                }
                self.at += length;
            }
        }
        Ok(&self.text[start..self.at])
    }

    fn string(&mut self) -> Result<(), Failed> {
        self.at += 1;
        loop {
            match self.text.get(self.at) {
                Some(b'"') => break self.at += 1,
                Some(b'\\') => self.at += 2,
                Some(_) => self.at += 1,
                None => return Err("a string does not end".into()),
            }
        }
        Ok(())
    }

    fn nested(&mut self) -> Result<(), Failed> {
        let mut depth = 0;
        loop {
            match self.text.get(self.at) {
                Some(b'"') => {
                    self.string()?;
                    continue;
                }
                Some(b'{' | b'[') => depth += 1,
                Some(b'}' | b']') => depth -= 1,
                Some(_) => {}
                None => return Err("a list or object does not end".into()),
            }
            self.at += 1;
            if depth == 0 {
                return Ok(());
            }
        }
    }
}

/// What a text begins with, in words.
pub(super) fn described(text: &[u8]) -> String {
    const SHOWN: usize = 20;
    match text.first() {
        None => "the end".into(),
        Some(b'"') => "a string".into(),
        Some(b'[') => "an array".into(),
        Some(b'{') => "an object".into(),
        Some(b'0'..=b'9' | b'-') => "a number".into(),
        Some(_) => {
            let text = String::from_utf8_lossy(text);
            let line = text.lines().next().unwrap_or_default();
            format!("`{}`", line.chars().take(SHOWN).collect::<String>())
        }
    }
}

/// Whether a JSON text has a whole number of more than 64 bits, which would be rounded when read.
pub(super) fn has_wide_integer(text: &[u8]) -> bool {
    let mut scan = Scan::new(text);
    while let Some(first) = scan.peek() {
        if first == b'"' {
            if scan.string().is_err() {
                return false;
            }
        } else if first.is_ascii_digit() || first == b'-' {
            let start = scan.at;
            let number = |c: &u8| c.is_ascii_digit() || matches!(c, b'+' | b'-' | b'.' | b'e' | b'E');
            scan.at += text[start..].iter().take_while(|c| number(c)).count();
            let number = String::from_utf8_lossy(&text[start..scan.at]);
            let whole = !number.contains(['.', 'e', 'E']);
            if whole && number.parse::<i64>().is_err() && number.parse::<u64>().is_err() {
                return true;
            }
        } else {
            scan.at += 1;
        }
    }
    false
}
