//! Any text as a configuration: it is refused with a message, or it is one that can be used.
//!
//! Lines that begin with `--set ` are that argument, lines that begin with `env ` an environment
//! variable, and the others a configuration file.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use roadcrew::app::Parts;
use roadcrew::config::{Names, Setting, Sources, resolve};

static NAMES: LazyLock<Names> = LazyLock::new(|| Parts::default().names());

fuzz_target!(|text: &str| {
    let mut sources = Sources::default();
    for line in text.lines() {
        if let Some(argument) = line.strip_prefix("--set ") {
            sources.sets.extend(argument.parse::<Setting>());
        } else if let Some((name, value)) =
            line.strip_prefix("env ").and_then(|pair| pair.split_once('='))
        {
            sources.env.push((name.to_owned(), value.to_owned()));
        } else {
            sources.program.push_str(line);
            sources.program.push('\n');
        }
    }
    match resolve(&sources, &NAMES) {
        Ok(resolved) => {
            // What was accepted says so of itself again.
            let program = resolved.tree.table().to_string();
            let again = resolve(&Sources { program, ..Sources::default() }, &NAMES);
            assert_eq!(again.expect("an accepted configuration").config, resolved.config);
        }
        Err(problems) => assert!(!problems.to_string().is_empty()),
    }
});
