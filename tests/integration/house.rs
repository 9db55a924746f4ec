//! The rules of the house, kept by machine: who may use whom, heads, sizes, declared tests,
//! documented codes.
//!
//! A small scanner turns a source file into words and signs, without comments and literals; the
//! rules are checked on that. It is no parser: it knows just enough of the language to count braces
//! and to find paths.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Who may use whom, from the bottom (`docs/architecture.md`). A room may always use itself.
const ROOMS: &[(&str, &[&str])] = &[
    ("id", &[]),
    ("clock", &[]),
    ("monitor", &[]),
    ("entropy", &[]),
    ("executor", &[]),
    ("budget", &["sync"]),
    ("buffer", &["sync"]),
    ("bytes", &[]),
    ("panics", &[]),
    ("sha256", &[]),
    ("sync", &[]),
    ("checked_json", &["id"]),
    ("layout", &["id"]),
    ("chunk", LEAF),
    ("codec", LEAF),
    (
        "crypto",
        &["id", "clock", "entropy", "monitor", "checked_json", "budget", "sha256"],
    ),
    ("storage", LEAF),
    ("error", &["storage", "id", "entropy"]),
    (
        "pack",
        &[
            "id", "layout", "storage", "buffer", "bytes", "crypto", "entropy", "sha256",
        ],
    ),
    (
        "parity",
        &[
            "id", "sync", "clock", "entropy", "layout", "storage", "crypto", "buffer", "bytes",
        ],
    ),
    (
        "index",
        &[
            "id", "sync", "clock", "entropy", "layout", "storage", "crypto", "bytes", "pack",
        ],
    ),
    (
        "snapshot",
        &[
            "id",
            "clock",
            "entropy",
            "layout",
            "storage",
            "crypto",
            "bytes",
            "checked_json",
        ],
    ),
    (
        "lock",
        &[
            "id",
            "clock",
            "entropy",
            "layout",
            "storage",
            "crypto",
            "bytes",
            "checked_json",
        ],
    ),
    ("tar", &["storage"]),
    ("members", &["bytes", "codec", "tar"]),
    ("base", BELOW_BASE),
    ("repo", BELOW_REPO),
    ("catalog", BELOW_CATALOG),
    ("ops", BELOW_OPS),
    (
        "binding",
        &[
            "ops", "repo", "monitor", "error", "members", "tar", "chunk", "codec", "crypto", "snapshot", "id", "clock",
            "executor", "panics", "sync",
        ],
    ),
];
const LEAF: &[&str] = &["id", "clock", "entropy", "monitor", "sync"];
const BELOW_BASE: &[&str] = &[
    "members",
    "tar",
    "pack",
    "index",
    "snapshot",
    "parity",
    "lock",
    "error",
    "layout",
    "chunk",
    "codec",
    "crypto",
    "storage",
    "id",
    "clock",
    "monitor",
    "entropy",
    "executor",
    "budget",
    "buffer",
    "panics",
    "sha256",
    "sync",
    "checked_json",
];
const BELOW_REPO: &[&str] = &{
    let mut rooms = ["base"; BELOW_BASE.len() + 1];
    rooms.split_at_mut(1).1.copy_from_slice(BELOW_BASE);
    rooms
};
const BELOW_CATALOG: &[&str] = &{
    let mut rooms = ["repo"; BELOW_REPO.len() + 1];
    rooms.split_at_mut(1).1.copy_from_slice(BELOW_REPO);
    rooms
};
const BELOW_OPS: &[&str] = &{
    let mut rooms = ["catalog"; BELOW_CATALOG.len() + 1];
    rooms.split_at_mut(1).1.copy_from_slice(BELOW_CATALOG);
    rooms
};

/// Most lines with code in a file, tests not counted.
const MAX_FILE_LINES: usize = 500;
/// Most lines of a function.
const MAX_FUNCTION_LINES: usize = 100;

#[test]
fn no_room_uses_one_that_it_should_not_know() {
    let mut found = Vec::new();
    for source in sources("src") {
        let Some(room) = source.room() else { continue };
        let allowed = ROOMS
            .iter()
            .find(|(name, _)| *name == room)
            .map(|(_, allowed)| *allowed);
        let Some(allowed) = allowed else {
            found.push(format!("{}: the room {room} is not in the table", source.name()));
            continue;
        };
        for (line, used) in source.uses() {
            if used != room && !allowed.contains(&used.as_str()) {
                found.push(format!("{}:{line}: {room} may not use {used}", source.name()));
            }
        }
    }
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

#[test]
fn every_source_file_opens_with_a_head_and_stays_small() {
    let mut found = Vec::new();
    for source in sources("src").into_iter().chain(sources("tests")) {
        if !source.text.starts_with("//! ") {
            found.push(format!("{}:1: no head (`//!`)", source.name()));
        }
        let lines = source.code_lines();
        if lines > MAX_FILE_LINES && !source.is_test() {
            found.push(format!("{}: {lines} lines of code; split it by job", source.name()));
        }
        for (line, name, lines) in source.functions() {
            if lines > MAX_FUNCTION_LINES {
                found.push(format!("{}:{line}: fn {name} has {lines} lines", source.name()));
            }
        }
    }
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

/// Widest line of a comment; code may be wider (`rustfmt.toml`).
const COMMENT_COLUMNS: usize = 100;
/// Words that the field has better ones for, in comments, texts and names. Spelt in two parts, so
/// that this list does not find itself.
const ODD_WORDS: &[[&str; 2]] = &[
    ["some", "body"],
    ["no", "body"],
    ["who", "ever"],
    ["a", "new"],
    ["for e", "ver"],
    ["made a", "gain"],
    ["make a", "gain"],
    ["made wh", "ole"],
    ["make wh", "ole"],
    ["comes to l", "ie"],
    ["puts up w", "ith"],
    ["of its own ac", "cord"],
];

#[test]
fn comments_keep_to_their_columns_and_words_to_those_of_the_field() {
    let odd: Vec<String> = ODD_WORDS.iter().map(|parts| parts.concat()).collect();
    let mut found = Vec::new();
    for source in ["src", "tests", "benches"].into_iter().flat_map(sources) {
        let mut is_formula = false;
        for (number, line) in (1..).zip(source.text.lines()) {
            let at = format!("{}:{number}", source.name());
            let is_comment = line.trim_start().starts_with("//");
            is_formula ^= is_comment && line.contains("```");
            if is_comment && !is_formula && line.chars().count() > COMMENT_COLUMNS {
                found.push(format!("{at}: a comment of {} columns", line.chars().count()));
            }
            let words: String = line
                .chars()
                .map(|sign| {
                    if sign.is_ascii_alphabetic() {
                        sign.to_ascii_lowercase()
                    } else {
                        ' '
                    }
                })
                .collect();
            let words = format!(" {} ", words.split_whitespace().collect::<Vec<_>>().join(" "));
            let used = odd.iter().filter(|odd| words.contains(&format!(" {odd} ")));
            found.extend(used.map(|odd| format!("{at}: {odd:?}: see the words in CONTRIBUTING.md")));
        }
    }
    assert!(found.is_empty(), "{} lines\n{}", found.len(), found.join("\n"));
}

#[test]
fn every_test_file_is_declared_and_tests_stand_behind_a_gate() {
    let tests = root().join("tests/integration");
    let declared = declared_modules(&Source::read(&tests.join("main.rs")));
    let mut found = Vec::new();
    for entry in std::fs::read_dir(&tests).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let module = path.is_dir() || path.extension().is_some_and(|end| end == "rs");
        if module && name != "main" && !declared.contains(&name) {
            found.push(format!("{name} is not declared in tests/integration/main.rs"));
        }
    }
    // in src, a file that no module declares is never compiled
    for source in sources("src") {
        let stem = source.path.file_stem().unwrap().to_str().unwrap();
        let parent = match stem {
            "lib" => continue,
            "mod" => source.path.parent().unwrap().parent().unwrap().to_owned(),
            _ => source.path.parent().unwrap().to_owned(),
        };
        let name = if stem == "mod" {
            source.path.parent().unwrap().file_name().unwrap().to_str().unwrap()
        } else {
            stem
        };
        let declares = |file: PathBuf| file.is_file() && declared_modules(&Source::read(&file)).contains(name);
        if !declares(parent.join("mod.rs"))
            && !declares(parent.join("lib.rs"))
            && !declares(parent.with_extension("rs"))
        {
            found.push(format!("{} is declared by no module", source.name()));
        }
    }
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

#[test]
fn every_code_is_documented_and_every_documented_code_exists() {
    let error = Source::read(&root().join("src/error/code.rs"));
    let codes: BTreeSet<String> = words_like(&error.text, &["ERR_", "ABORT_"]).collect();
    let warnings: BTreeSet<String> = sources("src")
        .iter()
        .filter(|source| !source.name().ends_with("monitor.rs"))
        .flat_map(|source| words_like(&source.text, &["WARN_"]).collect::<Vec<_>>())
        .collect();
    // what verify says of files, as problems and notes
    let verify: BTreeSet<String> = sources("src/ops/verify")
        .iter()
        .flat_map(|source| words_like(&source.text, &["ERR_", "NOTE_"]).collect::<Vec<_>>())
        .collect();
    // what the JavaScript side finds out by itself
    let face: BTreeSet<String> = ["js", "js/report"]
        .iter()
        .flat_map(|folder| std::fs::read_dir(root().join(folder)).unwrap())
        .map(|file| file.unwrap().path())
        .filter(|path| path.is_file())
        .flat_map(|path| {
            let text = std::fs::read_to_string(path).unwrap();
            words_like(&text, &["ERR_", "WARN_", "NOTE_"]).collect::<Vec<_>>()
        })
        .collect();
    let page = std::fs::read_to_string(root().join("docs/errors.md")).unwrap();
    let rows: BTreeSet<String> = page
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once('`'))
        .map(|(code, _)| code.to_owned())
        .collect();
    let known: BTreeSet<String> = [codes.clone(), warnings, verify, face].into_iter().flatten().collect();
    assert!(codes.len() > 30, "{codes:?}");
    let (missing, stale): (Vec<_>, Vec<_>) = (known.difference(&rows).collect(), rows.difference(&known).collect());
    assert!(missing.is_empty(), "not in docs/errors.md: {missing:?}");
    assert!(stale.is_empty(), "in docs/errors.md and nowhere else: {stale:?}");
}

#[test]
fn no_files_of_a_room_use_each_other_in_a_circle() {
    let sources: Vec<Source> = sources("src").into_iter().filter(|source| !source.is_test()).collect();
    let modules: BTreeSet<Vec<String>> = sources.iter().map(Source::module).collect();
    let is_module = |path: &[String]| modules.contains(path);
    // for each folder, which of its modules use which others
    let mut uses: BTreeMap<Vec<String>, BTreeMap<String, BTreeSet<String>>> = BTreeMap::new();
    for source in &sources {
        let own = source.module();
        for target in source.targets() {
            let shared = own.iter().zip(&target).take_while(|(a, b)| a == b).count();
            if shared > 0
                && let (Some(from), Some(to)) = (own.get(shared), target.get(shared))
                && is_module(&target[..=shared])
            {
                let folder = uses.entry(own[..shared].to_vec()).or_default();
                folder.entry(from.clone()).or_default().insert(to.clone());
            }
        }
    }
    assert!(uses.len() > 10, "{uses:?}");
    let circles: Vec<String> = uses
        .iter()
        .flat_map(|(folder, uses)| {
            uses.keys()
                .filter(|start| reaches(uses, start))
                .map(move |at| (folder, at))
        })
        .map(|(folder, at)| format!("{}/{at} uses itself through its neighbours", folder.join("/")))
        .collect();
    assert!(circles.is_empty(), "\n{}", circles.join("\n"));
}

/// Whether a module can be reached from itself.
fn reaches(uses: &BTreeMap<String, BTreeSet<String>>, start: &str) -> bool {
    let mut seen = BTreeSet::new();
    let mut open: Vec<&String> = uses.get(start).into_iter().flatten().collect();
    while let Some(next) = open.pop() {
        if next == start {
            return true;
        }
        if seen.insert(next) {
            open.extend(uses.get(next).into_iter().flatten());
        }
    }
    false
}

#[test]
fn the_scanner_finds_what_it_is_there_to_find() {
    let text = r##"//! Head.
use crate::{pack, index::{Segment, writer}, Error};
/* crate::comment /* nested */ crate::still */
const A: &str = "crate::string \" crate::string"; const B: &str = r#"crate::raw " "#;
const C: [char; 3] = ['"', '\'', '{'];
fn long<'a>(x: &'a [u8; 3]) -> u8 where u8: Copy {
    crate::storage::get(x) // crate::behind
}
fn declared();
#[cfg(test)]
mod tests {
    use super::super::lock;
    use crate::ops;
    fn f() {}
}
pub(crate) struct S; use crate::*;
"##;
    let source = Source::parse(PathBuf::from("src/repo/x.rs"), text.to_owned());
    let used: Vec<(usize, String)> = source.uses();
    let expected = [
        (2, "pack"),
        (2, "index"),
        (2, "error"),
        (7, "storage"),
        (13, "ops"),
        (16, "everything (`crate::*`)"),
    ];
    assert_eq!(used, expected.map(|(line, name)| (line, name.to_owned())));
    assert_eq!(source.functions(), [(6, "long".to_owned(), 3), (14, "f".to_owned(), 1)]);
    // lines 2, 4 to 9 and 16
    assert_eq!(source.code_lines(), 8);
    let folder = ["repo", "x"].map(str::to_owned).to_vec();
    assert_eq!(source.module(), folder);
    let targets: Vec<String> = source.targets().iter().map(|path| path.join("/")).collect();
    // what is behind the gate of a test counts for nothing
    assert_eq!(targets, ["pack", "index", "Error", "storage/get", "*"]);
    let inside = Source::parse(
        PathBuf::from("src/repo/x.rs"),
        "use super::{a::B, c}; use crate::repo::d::{E, F}; mod y { use super::super::g; }".to_owned(),
    );
    let targets: Vec<String> = inside.targets().iter().map(|path| path.join("/")).collect();
    assert_eq!(targets, ["repo/a", "repo/c", "repo/d/E", "repo/d/F", "repo/g"]);
    let shallow = Source::parse(PathBuf::from("src/chunk/mod.rs"), "use super::codec;".to_owned());
    assert_eq!(shallow.uses(), [(1, "codec".to_owned())]);
    let deep = Source::parse(PathBuf::from("src/chunk/x.rs"), "use super::codec;".to_owned());
    assert_eq!(deep.uses(), []);
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// All `.rs` files below a folder, sorted.
fn sources(folder: &str) -> Vec<Source> {
    let mut waiting = vec![root().join(folder)];
    let mut files = Vec::new();
    while let Some(folder) = waiting.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                waiting.push(path);
            } else if path.extension().is_some_and(|end| end == "rs") {
                files.push(path);
            }
        }
    }
    files.sort();
    files.iter().map(|path| Source::read(path)).collect()
}

/// Words of capitals that begin like one of `starts`.
fn words_like<'t>(text: &'t str, starts: &'t [&str]) -> impl Iterator<Item = String> + 't {
    text.split(|sign: char| !is_word_part(sign))
        .filter(|word| word.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_'))
        .filter(|word| {
            starts
                .iter()
                .any(|start| word.len() >= start.len() + 3 && word.starts_with(start))
        })
        .map(str::to_owned)
}

fn declared_modules(source: &Source) -> BTreeSet<String> {
    let tokens = &source.tokens;
    (0..tokens.len())
        .filter(|&at| source.is(at, "mod") && source.is(at + 2, ";"))
        .map(|at| tokens[at + 1].1.clone())
        .collect()
}

/// A source file and its words and signs, each with its line.
struct Source {
    path: PathBuf,
    text: String,
    tokens: Vec<(usize, String)>,
}

impl Source {
    fn read(path: &Path) -> Self {
        let short = path.strip_prefix(root()).unwrap().to_owned();
        Self {
            path: path.to_owned(),
            ..Self::parse(short, std::fs::read_to_string(path).unwrap())
        }
    }

    fn parse(path: PathBuf, text: String) -> Self {
        let tokens = scan(&text);
        Self { path, text, tokens }
    }

    /// The path from the project's folder, with `/`.
    fn name(&self) -> String {
        let short = self.path.strip_prefix(root()).unwrap_or(&self.path);
        short.to_str().unwrap().replace('\\', "/")
    }

    /// The room, or `None` for `lib.rs`.
    fn room(&self) -> Option<String> {
        let name = self.name();
        let first = name.strip_prefix("src/")?.split('/').next()?;
        let room = first.trim_end_matches(".rs");
        (room != "lib").then(|| room.to_owned())
    }

    fn is_test(&self) -> bool {
        let name = self.name();
        name.starts_with("tests/") || name.ends_with("/tests.rs") || name.contains("/tests/")
    }

    fn is(&self, at: usize, text: &str) -> bool {
        self.tokens.get(at).is_some_and(|(_, token)| token == text)
    }

    /// True when `::` stands at `at`.
    fn is_path(&self, at: usize) -> bool {
        self.is(at, ":") && self.is(at + 1, ":")
    }

    /// Position of the brace that closes the one at `open`.
    fn closing(&self, open: usize) -> usize {
        let mut depth = 0usize;
        for at in open..self.tokens.len() {
            match self.tokens[at].1.as_str() {
                "{" => depth += 1,
                "}" if depth == 1 => return at,
                "}" => depth -= 1,
                _ => {}
            }
        }
        panic!("{}: a brace is not closed", self.name());
    }

    /// Rooms that are named, with the line: by `crate::…`, or by more `super`s than the file is
    /// deep.
    fn uses(&self) -> Vec<(usize, String)> {
        let mut found = Vec::new();
        let inline = self.inline_modules();
        let file_depth = {
            let name = self.name();
            let parts = name.split('/').count() - 1;
            parts - usize::from(name.ends_with("/mod.rs"))
        };
        for at in 0..self.tokens.len() {
            if self.is(at, "crate") && self.is_path(at + 1) {
                self.named_at(at + 3, &mut found);
            }
            if self.is(at, "super") && !(at >= 3 && self.is(at - 3, "super")) {
                let mut after = at;
                let mut supers = 0;
                while self.is(after, "super") && self.is_path(after + 1) {
                    supers += 1;
                    after += 3;
                }
                let depth = file_depth + inline.iter().filter(|(from, to)| (from..to).contains(&&at)).count();
                if supers >= depth {
                    self.named_at(after, &mut found);
                }
            }
        }
        found
    }

    /// The module of this file, from the crate.
    fn module(&self) -> Vec<String> {
        let name = self.name();
        let path = name
            .trim_start_matches("src/")
            .trim_end_matches(".rs")
            .trim_end_matches("/mod");
        path.split('/').map(str::to_owned).collect()
    }

    /// The paths that are named with `crate::` or `super::`, from the crate; of a group each one,
    /// up to its first name. Tests within the file are left out.
    fn targets(&self) -> Vec<Vec<String>> {
        let mut found = Vec::new();
        let inline = self.inline_modules();
        let mut at = 0;
        while at < self.tokens.len() {
            if self.is_test_gate(at) {
                at = self.after_item(at);
                continue;
            }
            let mut path = match &self.tokens[at].1[..] {
                "crate" if self.is_path(at + 1) => Vec::new(),
                "super" if self.is_path(at + 1) => {
                    let mut path = self.module();
                    let nested = inline.iter().filter(|(from, to)| (from..to).contains(&&at)).count();
                    path.extend(std::iter::repeat_n("(inline)".to_owned(), nested));
                    path
                }
                _ => {
                    at += 1;
                    continue;
                }
            };
            let mut group = None;
            while self.is_path(at + 1) {
                if self.is(at, "super") {
                    path.pop();
                } else if !self.is(at, "crate") {
                    path.push(self.tokens[at].1.clone());
                }
                at += 3;
                if self.is(at, "{") {
                    group = Some(at);
                    break;
                }
            }
            let mut names = Vec::new();
            match group {
                Some(open) => {
                    self.named_at(open, &mut names);
                    at = self.closing(open);
                }
                None => names.push((0, self.tokens.get(at).map_or(String::new(), |(_, token)| token.clone()))),
            }
            for (_, name) in names {
                let name = if name == "error" { "Error".to_owned() } else { name };
                found.push([path.clone(), vec![name]].concat());
            }
            at += 1;
        }
        found
    }

    /// What stands behind `crate::`: one name, or a group of them.
    fn named_at(&self, at: usize, found: &mut Vec<(usize, String)>) {
        let mut note = |at: usize| {
            let (line, token) = &self.tokens[at];
            let name = match token.as_str() {
                "*" => "everything (`crate::*`)",
                "Error" | "Result" => "error",
                other => other,
            };
            found.push((*line, name.to_owned()));
        };
        if !self.is(at, "{") {
            note(at);
            return;
        }
        let mut depth = 0;
        let mut first = true;
        for inner in at + 1..self.closing(at) {
            match self.tokens[inner].1.as_str() {
                "{" => depth += 1,
                "}" => depth -= 1,
                "," if depth == 0 => first = true,
                _ if depth == 0 && first => {
                    note(inner);
                    first = false;
                }
                _ => {}
            }
        }
    }

    /// Lines with code, without what stands behind `#[cfg(test)]`.
    fn code_lines(&self) -> usize {
        let mut lines = BTreeSet::new();
        let mut at = 0;
        while at < self.tokens.len() {
            if self.is_test_gate(at) {
                at = self.after_item(at);
                continue;
            }
            lines.insert(self.tokens[at].0);
            at += 1;
        }
        lines.len()
    }

    /// The braces of the modules that are written within this file.
    fn inline_modules(&self) -> Vec<(usize, usize)> {
        (0..self.tokens.len())
            .filter(|&at| self.is(at, "mod") && self.is(at + 2, "{"))
            .map(|at| (at + 2, self.closing(at + 2)))
            .collect()
    }

    /// The position after the item that begins at `at`.
    fn after_item(&self, at: usize) -> usize {
        match (at..self.tokens.len()).find(|&at| self.is(at, "{") || self.is(at, ";")) {
            Some(open) if self.is(open, "{") => self.closing(open) + 1,
            Some(end) => end + 1,
            None => self.tokens.len(),
        }
    }

    /// `#[cfg(test)]`.
    fn is_test_gate(&self, at: usize) -> bool {
        let gate = ["#", "[", "cfg", "(", "test", ")", "]"];
        gate.iter().enumerate().all(|(after, token)| self.is(at + after, token))
    }

    /// Line, name and number of lines of each function with a body.
    fn functions(&self) -> Vec<(usize, String, usize)> {
        let mut found = Vec::new();
        for at in 0..self.tokens.len() {
            let named = self.tokens.get(at + 1).is_some_and(|(_, name)| is_word(name));
            if !self.is(at, "fn") || !named {
                continue;
            }
            let mut depth = 0;
            for open in at + 2..self.tokens.len() {
                match self.tokens[open].1.as_str() {
                    "(" | "[" => depth += 1,
                    ")" | "]" => depth -= 1,
                    ";" if depth == 0 => break,
                    "{" if depth == 0 => {
                        let (first, last) = (self.tokens[at].0, self.tokens[self.closing(open)].0);
                        found.push((first, self.tokens[at + 1].1.clone(), last - first + 1));
                        break;
                    }
                    _ => {}
                }
            }
        }
        found
    }
}

fn is_word(token: &str) -> bool {
    token.starts_with(|first: char| first.is_alphabetic() || first == '_')
}

/// Words and single signs, without white space, comments, strings, characters and lifetimes.
fn scan(text: &str) -> Vec<(usize, String)> {
    let chars: Vec<char> = text.chars().collect();
    let mut tokens = Vec::new();
    let (mut at, mut line) = (0, 1);
    while at < chars.len() {
        let end = token_end(&chars, at);
        let token: String = chars[at..end].iter().collect();
        let skipped = token.starts_with("//")
            || token.starts_with("/*")
            || token.ends_with(['"', '#']) && token.contains('"')
            || token.starts_with('\'')
            || token.trim().is_empty();
        let newlines = token.matches('\n').count();
        if !skipped {
            tokens.push((line, token));
        }
        line += newlines;
        at = end;
    }
    tokens
}

/// Where the token that begins at `at` ends.
fn token_end(chars: &[char], at: usize) -> usize {
    let peek = |after: usize| chars.get(at + after).copied().unwrap_or('\0');
    let until =
        |from: usize, end: &dyn Fn(usize) -> bool| (from..chars.len()).find(|&at| end(at)).unwrap_or(chars.len());
    match (peek(0), peek(1)) {
        ('/', '/') => until(at, &|at| chars[at] == '\n'),
        ('/', '*') => {
            let (mut depth, mut at) = (1, at + 2);
            while depth > 0 && at + 1 < chars.len() {
                match (chars[at], chars[at + 1]) {
                    ('/', '*') => (depth, at) = (depth + 1, at + 2),
                    ('*', '/') => (depth, at) = (depth - 1, at + 2),
                    _ => at += 1,
                }
            }
            at
        }
        ('"', _) => string_end(chars, at),
        ('b', '"') => string_end(chars, at + 1),
        ('b', '\'') => char_end(chars, at + 1).unwrap_or(at + 1),
        ('r', '"' | '#') | ('b', 'r') if raw_hashes(chars, at).is_some() => {
            let (quote, hashes) = raw_hashes(chars, at).unwrap_or_default();
            let closes = |at: usize| {
                chars[at] == '"' && (1..=hashes).all(|after| chars.get(at + after).is_some_and(|sign| *sign == '#'))
            };
            (until(quote + 1, &closes) + 1 + hashes).min(chars.len())
        }
        ('\'', _) => char_end(chars, at).unwrap_or_else(|| until(at + 1, &|at| !is_word_part(chars[at]))),
        (first, _) if is_word_part(first) => until(at, &|at| !is_word_part(chars[at])),
        (first, _) if first.is_whitespace() => until(at, &|at| !chars[at].is_whitespace()),
        _ => at + 1,
    }
}

fn is_word_part(sign: char) -> bool {
    sign.is_alphanumeric() || sign == '_'
}

/// Behind the string whose opening quote is at `quote`.
fn string_end(chars: &[char], quote: usize) -> usize {
    let mut at = quote + 1;
    while at < chars.len() && chars[at] != '"' {
        at += if chars[at] == '\\' { 2 } else { 1 };
    }
    (at + 1).min(chars.len())
}

/// Behind the character literal at `quote`, or `None` when it is a lifetime.
fn char_end(chars: &[char], quote: usize) -> Option<usize> {
    match chars.get(quote + 1)? {
        '\\' => {
            let end = (quote + 3..chars.len()).find(|&at| chars[at] == '\'')?;
            Some(end + 1)
        }
        _ => (chars.get(quote + 2) == Some(&'\'')).then_some(quote + 3),
    }
}

/// Position of the opening quote and number of `#` of a raw string that begins at `at`.
fn raw_hashes(chars: &[char], at: usize) -> Option<(usize, usize)> {
    let start = at + if chars.get(at) == Some(&'b') { 2 } else { 1 };
    let hashes = chars.get(start..)?.iter().take_while(|sign| **sign == '#').count();
    (chars.get(start + hashes) == Some(&'"')).then_some((start + hashes, hashes))
}

#[test]
fn the_table_of_rooms_has_no_circle() {
    let table: BTreeMap<&str, &[&str]> = ROOMS.iter().copied().collect();
    let mut below: BTreeSet<&str> = BTreeSet::new();
    while below.len() < table.len() {
        let next: Vec<&str> = table
            .iter()
            .filter(|(room, uses)| !below.contains(*room) && uses.iter().all(|used| below.contains(used)))
            .map(|(room, _)| *room)
            .collect();
        assert!(
            !next.is_empty(),
            "these rooms stand in a circle: {:?}",
            table.keys().filter(|room| !below.contains(*room))
        );
        below.extend(next);
    }
}
