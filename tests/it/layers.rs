//! The rules that a compiler cannot hold: who may use whom, which files are pure.
//! The rules themselves stand in ARCHITECTURE.md; this reads them there.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn architecture() -> String {
    fs_err::read_to_string(root().join("ARCHITECTURE.md")).unwrap()
}

fn quoted(text: &str) -> Vec<String> {
    text.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// Module → modules it may use, from the table under "The map".
fn allowed() -> BTreeMap<String, BTreeSet<String>> {
    let text = architecture();
    let map = text.split("## The map").nth(1).unwrap().split("\n## ").next().unwrap();
    let rows = map.lines().filter(|line| line.starts_with("| `"));
    rows.map(|row| {
        let cells: Vec<_> = row.trim_matches('|').split('|').collect();
        (quoted(cells[0]).remove(0), quoted(cells[2]).into_iter().collect())
    })
    .collect()
}

/// Every Rust file of the crate, with the top-level module it belongs to.
fn sources() -> Vec<(String, PathBuf)> {
    fn walk(dir: &Path, files: &mut Vec<PathBuf>) {
        for entry in fs_err::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, files);
            } else if path.extension().is_some_and(|e| e == "rs") {
                files.push(path);
            }
        }
    }
    let src = root().join("src");
    let mut files = Vec::new();
    walk(&src, &mut files);
    let module = |path: &Path| {
        let first = path.strip_prefix(&src).unwrap().components().next().unwrap();
        first.as_os_str().to_string_lossy().trim_end_matches(".rs").to_owned()
    };
    files.into_iter().map(|path| (module(&path), path)).collect()
}

/// The code of a file without its comments.
fn code(path: &Path) -> String {
    let text = fs_err::read_to_string(path).unwrap();
    text.lines().map(|line| line.split("//").next().unwrap()).collect::<Vec<_>>().join("\n")
}

/// The modules of this crate that a file names.
fn uses(code: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for after in code.split("crate::").skip(1) {
        if let Some(list) = after.strip_prefix('{') {
            let (mut depth, mut item) = (1, String::new());
            for c in list.chars() {
                match c {
                    '{' => depth += 1,
                    '}' => depth -= 1,
                    ',' if depth == 1 => found.extend(first_word(&std::mem::take(&mut item))),
                    _ if depth == 1 => item.push(c),
                    _ => {}
                }
                if depth == 0 {
                    break;
                }
            }
            found.extend(first_word(&item));
        } else {
            found.extend(first_word(after));
        }
    }
    found
}

fn first_word(text: &str) -> Option<String> {
    let word: String =
        text.trim().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    (!word.is_empty()).then_some(word)
}

#[test]
fn every_module_uses_only_what_the_map_allows() {
    let allowed = allowed();
    let mut wrong = Vec::new();
    for (module, path) in sources() {
        if module == "main" || module == "lib" || path.to_string_lossy().ends_with("tests.rs") {
            continue;
        }
        let Some(may) = allowed.get(&module) else {
            wrong.push(format!("{} belongs to `{module}`, which the map lacks", path.display()));
            continue;
        };
        let whole = code(&path);
        let body = whole.split("#[cfg(test)]").next().unwrap();
        for used in uses(body) {
            if used != module && allowed.contains_key(&used) && !may.contains(&used) {
                wrong.push(format!("{} uses `{used}`; `{module}` must not", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "see \"The map\" in ARCHITECTURE.md:\n{}", wrong.join("\n"));
}

#[test]
fn the_map_has_no_circles_and_names_only_what_exists() {
    let allowed = allowed();
    let exists: BTreeSet<_> = sources().into_iter().map(|(module, _)| module).collect();
    let mut above = BTreeSet::new();
    for module in rows_in_order() {
        assert!(exists.contains(&module), "the map names `{module}`, which does not exist");
        for used in &allowed[&module] {
            assert!(above.contains(used), "`{module}` may use `{used}`, which is not above it");
        }
        above.insert(module);
    }
}

fn rows_in_order() -> Vec<String> {
    let text = architecture();
    let map = text.split("## The map").nth(1).unwrap().split("\n## ").next().unwrap();
    map.lines().filter(|l| l.starts_with("| `")).map(|l| quoted(l).remove(0)).collect()
}

#[test]
fn pure_files_read_no_clock_and_do_no_io() {
    let text = architecture();
    let paragraph = text.split("Files that decide and nothing else.").nth(1).unwrap();
    let files = quoted(paragraph.split("\n\n").next().unwrap());
    assert!(files.len() >= 7);
    for file in files {
        let whole = code(&root().join(&file));
        let body = whole.split("#[cfg(test)]").next().unwrap();
        for word in ["clock::now", "Instant::now", "std::fs", "fs_err", "tokio", "actix", "tracing"]
        {
            assert!(!body.contains(word), "{file} is pure and must not use {word}");
        }
    }
}

#[test]
fn no_actix_below_the_actors() {
    let text = architecture();
    let line = text.lines().find(|line| line.starts_with("Modules without actix")).unwrap();
    let modules = quoted(line);
    assert!(modules.len() >= 5);
    for (module, path) in sources() {
        if modules.contains(&module) {
            let body = code(&path);
            let body = body.split("#[cfg(test)]").next().unwrap();
            assert!(!body.contains("actix"), "{} must not know actix", path.display());
        }
    }
}

#[test]
fn files_stay_small_enough_to_live_in() {
    for (module, path) in sources() {
        let limit = if module == "models" { 800 } else { 500 };
        let lines = fs_err::read_to_string(&path).unwrap().lines().count();
        assert!(lines <= limit, "{} has {lines} lines; split it", path.display());
    }
}
