//! What the README files say to type can be typed, what they link to exists, and the specs in them parse.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use dpg_spec::{Spec, Syntax};

/// A page of the repository.
struct Page {
    path: PathBuf,
    text: String,
}

impl Page {
    /// All of them.
    fn all() -> Vec<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let (mut folders, mut pages) = (vec![root.to_path_buf()], vec![]);
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                let hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
                if path.is_dir() && !path.ends_with("target") && (!hidden || path.ends_with(".github")) {
                    folders.push(path);
                } else if path.extension().is_some_and(|extension| extension == "md") {
                    pages.push(Self { text: fs::read_to_string(&path).unwrap(), path });
                }
            }
        }
        assert!(pages.len() > 8, "{} pages", pages.len());
        pages
    }

    /// Fenced blocks with their language.
    fn blocks(&self) -> Vec<(&str, &str)> {
        let fenced = self.text.split("\n```").skip(1).step_by(2);
        fenced.map(|block| block.split_once('\n').unwrap_or((block, ""))).collect()
    }

    /// Commands of `program`: lines of blocks, and what stands between backticks.
    fn commands(&self, program: &str) -> Vec<String> {
        let lines = self.blocks().into_iter().flat_map(|(language, block)| {
            let joined = block.replace("\\\n", " ");
            let lines = joined.lines().map(String::from).collect::<Vec<_>>();
            lines.into_iter().filter(move |line| language == "sh" || line.starts_with("$ "))
        });
        let prose = self.text.split("\n```").step_by(2).collect::<String>();
        let spans =
            prose.split('`').skip(1).step_by(2).map(|span| span.replace('\n', " ")).collect::<Vec<_>>();
        let typed = lines.chain(spans).map(|line| line.trim_start_matches("$ ").to_owned());
        let typed = typed.filter_map(|line| Some(line.strip_prefix(&format!("{program} "))?.to_owned()));
        typed.map(|line| line.split(" #").next().unwrap_or("").to_owned()).collect()
    }
}

/// The words of a command line, quotes taken off.
fn words(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quote = None;
    for letter in line.chars() {
        match quote {
            Some(open) if letter == open => quote = None,
            None if letter == '"' || letter == '\'' => quote = Some(letter),
            None if letter == ' ' => words.push(String::new()),
            _ => words.last_mut().unwrap().push(letter),
        }
    }
    words.retain(|word| !word.is_empty() && word != "&");
    words
}

#[test]
fn commands_of_pages_are_commands() {
    let mut tried = 0;
    for page in Page::all() {
        for line in page.commands("dpg") {
            // what stands there is read up to the last word, and then help is given instead of doing it
            let output =
                Command::new(env!("CARGO_BIN_EXE_dpg")).args(words(&line)).arg("--help").output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{}: `dpg {line}`: {said}", page.path.display());
            tried += 1;
        }
    }
    assert!(tried > 30, "{tried} commands");
}

#[test]
fn links_of_pages_lead_somewhere() {
    let mut followed = 0;
    for page in Page::all() {
        let prose = page.text.split("\n```").step_by(2).collect::<String>();
        for link in prose.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            if link.contains("://") {
                continue;
            }
            let to = if file.is_empty() { page.path.clone() } else { page.path.parent().unwrap().join(file) };
            assert!(to.exists(), "{}: `{link}` does not exist", page.path.display());
            if !anchor.is_empty() && to.extension().is_some_and(|extension| extension == "md") {
                let target = fs::read_to_string(&to).unwrap();
                let titles = target.lines().filter(|line| line.starts_with('#'));
                let anchors =
                    titles.map(|line| line.trim_start_matches('#').trim().to_lowercase().replace(' ', "-"));
                assert!(anchors.into_iter().any(|one| one == anchor), "{}: `{link}`", page.path.display());
            }
            followed += 1;
        }
    }
    assert!(followed > 30, "{followed} links");
}

#[test]
fn specs_of_pages_parse() {
    let mut parsed = 0;
    for page in Page::all() {
        for (_, block) in page.blocks().into_iter().filter(|(language, _)| *language == "toml") {
            if block.starts_with("name = ") {
                let spec = Spec::parse(block, Syntax::Toml);
                assert!(spec.is_ok(), "{}: {}", page.path.display(), spec.unwrap_err());
                parsed += 1;
            }
        }
    }
    assert!(parsed >= 2, "{parsed} specs");
}
