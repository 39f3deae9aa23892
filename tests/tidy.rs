//! The shape of the code: no circles of imports, few modules with few dependencies between them, and crates
//! that import only from those above them in `crates/README.md`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// A module's path below the crate's root, which is the empty one.
type Module = Vec<String>;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().into()
}

/// The source files of a crate by their modules, without comments and tests.
fn sources(folder: &Path, module: &Module, found: &mut BTreeMap<Module, String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let child = [module.as_slice(), std::slice::from_ref(&name)].concat();
        if path.is_dir() {
            sources(&path, &child, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            let code = text.split("#[cfg(test)]\nmod ").next().unwrap();
            let code =
                code.lines().map(|line| line.split("//").next().unwrap()).collect::<Vec<_>>().join(" ");
            let is_root = ["mod", "main", "lib"].contains(&name.as_str());
            found.insert(if is_root { module.clone() } else { child }, code);
        }
    }
}

/// The paths of a tree as `use` has it: `a::{b, c::d}` is `a::b` and `a::c::d`. Of other code, its first path.
fn paths(tree: &str) -> Vec<Module> {
    let end = tree.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':')).unwrap_or(tree.len());
    let (path, rest) = tree.split_at(end);
    let stem: Module = path.split("::").filter(|part| !part.is_empty()).map(str::to_owned).collect();
    let Some(group) = rest.strip_prefix('{').filter(|_| path.ends_with("::")) else { return vec![stem] };
    let (mut depth, mut start, mut found) = (0, 0, vec![]);
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            ',' | '}' if depth == 0 => {
                // nothing follows a last comma
                let branch = Some(group[start..at].trim()).filter(|branch| !branch.is_empty());
                let branches = branch.map(paths).unwrap_or_default();
                found.extend(branches.into_iter().map(|branch| [stem.as_slice(), &branch].concat()));
                start = at + 1;
                if c == '}' {
                    break;
                }
            }
            '}' => depth -= 1,
            _ => {}
        }
    }
    found
}

/// The modules that the code of `module` names by a path.
fn imports(module: &Module, code: &str, modules: &BTreeSet<Module>) -> BTreeSet<Module> {
    let mut found = BTreeSet::new();
    let words = code.match_indices("::").map(|(at, _)| {
        let before = &code[..at];
        before.len() - before.chars().rev().take_while(|c| c.is_alphanumeric() || *c == '_').count()
    });
    for start in words.filter(|start| !code[..*start].ends_with("::")) {
        for path in paths(&code[start..]) {
            let Some((first, rest)) = path.split_first() else { continue };
            let child = [module.as_slice(), std::slice::from_ref(first)].concat();
            let supers = path.iter().take_while(|part| *part == "super").count();
            let absolute = match first.as_str() {
                "crate" => rest.to_vec(),
                "self" => [module, rest].concat(),
                "super" => [&module[..module.len().saturating_sub(supers)], &path[supers..]].concat(),
                _ if modules.contains(&child) => [&child, rest].concat(),
                _ => continue,
            };
            let named = (1..=absolute.len()).rev().map(|end| absolute[..end].to_vec());
            found.extend(named.into_iter().find(|named| modules.contains(named) && named != module));
        }
    }
    found
}

/// Which modules of the crate in `folder` import which others.
fn graph(folder: &Path) -> BTreeMap<Module, BTreeSet<Module>> {
    let mut found = BTreeMap::new();
    sources(folder, &vec![], &mut found);
    let modules: BTreeSet<_> = found.keys().cloned().collect();
    found.iter().map(|(module, code)| (module.clone(), imports(module, code, &modules))).collect()
}

fn reached(from: &Module, graph: &BTreeMap<Module, BTreeSet<Module>>) -> BTreeSet<Module> {
    let (mut reached, mut open) = (BTreeSet::new(), vec![from.clone()]);
    while let Some(module) = open.pop() {
        open.extend(graph[&module].iter().filter(|next| reached.insert((*next).clone())).cloned());
    }
    reached
}

/// Every circle of more than `most` modules, each once.
fn circles(graph: &BTreeMap<Module, BTreeSet<Module>>, most: usize) -> BTreeSet<Vec<String>> {
    let reach: BTreeMap<_, _> = graph.keys().map(|module| (module, reached(module, graph))).collect();
    let circle = |module: &Module| {
        let back = |other: &&Module| reach[*other].contains(module);
        reach[module].iter().filter(back).map(|module| module.join("::")).collect::<Vec<_>>()
    };
    graph.keys().map(circle).filter(|circle| circle.len() > most).collect()
}

#[test]
fn paths_are_read_as_rust_has_them() {
    let module = |path: &str| path.split("::").map(str::to_owned).collect::<Module>();
    let modules: BTreeSet<_> = ["a", "a::b", "a::c", "a::c::d", "e", "f"].into_iter().map(module).collect();
    let code = "use crate::{e::{E, F}, a::b}; use super::c::{d::{D}}; use std::fs; use super::{b::B,}; fn x() { crate::f::f(); g::g() }";
    let expected = ["a::b", "a::c::d", "e", "f"].into_iter().map(module).collect();
    assert_eq!(imports(&module("a::x"), code, &modules), expected);
    assert_eq!(
        imports(&module("a"), "mod c; use c::d::D; super::Root", &modules),
        [module("a::c::d")].into()
    );
    let circle: BTreeMap<_, BTreeSet<_>> = [("a", "b"), ("b", "c"), ("c", "a"), ("d", "a")]
        .map(|(from, to)| (module(from), [module(to)].into()))
        .into();
    assert_eq!(circles(&circle, 2), [["a", "b", "c"].map(str::to_owned).to_vec()].into());
}

#[test]
fn no_files_of_the_daemon_import_each_other_in_a_circle() {
    let graph = graph(&root().join("daemon/src"));
    let circles = circles(&graph, 2);
    assert!(circles.is_empty(), "these import each other in a circle: {circles:#?}");
}

#[test]
fn the_daemon_has_few_modules_with_few_dependencies() {
    let graph = graph(&root().join("daemon/src"));
    let tops: BTreeSet<_> = graph.keys().filter_map(|module| module.first()).collect();
    assert!(tops.len() <= 12, "the daemon has {} modules at the top: {tops:?}", tops.len());
    let mut dependencies = BTreeSet::new();
    for (from, imported) in &graph {
        let tops = imported.iter().filter_map(|to| Some((from.first()?, to.first()?)));
        dependencies.extend(tops.filter(|(from, to)| from != to));
    }
    // a reader that misses imports would pass as well
    assert!(dependencies.contains(&(&"jobs".to_owned(), &"pipeline".to_owned())), "{dependencies:?}");
    assert!(dependencies.len() <= 30, "{} dependencies: {dependencies:#?}", dependencies.len());
}

/// The workspace's crates that a manifest names among its dependencies, those of tests apart.
fn dependencies(manifest: &Path) -> Vec<String> {
    let text = fs::read_to_string(manifest).unwrap();
    let section = text.split("\n[").find(|section| section.starts_with("dependencies]")).unwrap_or_default();
    let names = section.lines().filter_map(|line| line.split(['.', ' ', '=']).next());
    names.filter_map(|name| name.strip_prefix("dpg-")).map(str::to_owned).collect()
}

#[test]
fn crates_import_only_from_those_above_them() {
    let readme = fs::read_to_string(root().join("crates/README.md")).unwrap();
    let table = readme.split("| crate |").nth(1).unwrap().split("\n\n").next().unwrap();
    let rows = table.lines().filter_map(|line| line.strip_prefix("| ")?.split(" |").next());
    let order: Vec<_> =
        rows.filter(|row| row.contains('`')).filter_map(|row| row.split('`').nth(1)).collect();
    let mut listed: BTreeSet<_> = order.iter().map(|name| (*name).to_owned()).collect();
    for folder in fs::read_dir(root().join("crates")).unwrap() {
        let path = folder.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        assert!(!path.is_dir() || listed.remove(&name), "`{name}` is not in the table of crates/README.md");
    }
    assert_eq!(listed, ["daemon", "registry"].map(str::to_owned).into(), "these are not folders of crates/");
    for (place, name) in order.iter().enumerate() {
        let folder = if ["daemon", "registry"].contains(name) { root() } else { root().join("crates") };
        for dependency in dependencies(&folder.join(name).join("Cargo.toml")) {
            let above = order[..place].contains(&dependency.as_str());
            assert!(above, "`{name}` imports from `{dependency}`, which is not above it in crates/README.md");
        }
    }
}
