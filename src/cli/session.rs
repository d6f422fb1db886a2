//! What every command has: the parts, the common options, and where data and talk go.

use std::io::Write;
use std::path::Path;

use indicatif::{ProgressBar, ProgressStyle};

use super::Common;
use super::failure::Failure;
use crate::app::{App, Exit, Parts};
use crate::config::{self, Origin, Resolved, Sources};
use crate::logging;

/// One run of the program.
pub(super) struct Session<'a> {
    pub(super) parts: Parts,
    pub(super) common: Common,
    pub(super) out: &'a mut dyn Write,
}

/// How much a command logs unless told otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Usually {
    /// What `log.filter` says.
    AsConfigured,
    /// Warnings; what `log.filter` says only if somebody has set it.
    Quiet,
}

impl Session<'_> {
    /// What this run reads its settings from.
    fn sources(&self) -> Sources {
        let sources = Sources {
            program: self.parts.settings.clone(),
            files: self.common.config.clone(),
            sets: self.common.set.clone(),
            ..Sources::default()
        };
        sources.with_process_env()
    }

    /// The configuration of this run; its warnings are told.
    pub(super) fn resolve(&self) -> Result<Resolved, Failure> {
        self.resolved(&self.sources())
    }

    /// The app of this run with one settings file more, which wins over the other files.
    pub(super) fn app_with(&self, file: &Path) -> Result<App, Failure> {
        let mut sources = self.sources();
        sources.files.push(file.to_owned());
        let resolved = self.resolved(&sources);
        let resolved = resolved.map_err(|failure| failure.context(&file.display().to_string()))?;
        Ok(App::from_sources(sources, resolved, self.parts.clone()))
    }

    fn resolved(&self, sources: &Sources) -> Result<Resolved, Failure> {
        let resolved = config::resolve(sources, &self.parts.names())?;
        for warning in &resolved.warnings {
            tell(&format!("warning: {warning}"));
        }
        Ok(resolved)
    }

    /// The app of this run, with logging started.
    pub(super) fn app(&self, usually: Usually) -> Result<App, Failure> {
        let resolved = self.resolve()?;
        let mut log = resolved.config.log.clone();
        log.filter = self.filter(&resolved, usually);
        logging::start(&log).map_err(|message| Failure::Error {
            error: anyhow::anyhow!("--log {}: {message}", log.filter),
            next: "name a level, such as debug, or directives, such as info,actix=debug".into(),
            exit: Exit::Usage,
        })?;
        Ok(App::from_sources(self.sources(), resolved, self.parts.clone()))
    }

    /// `--log`, or what is usual, made louder by `-v`.
    fn filter(&self, resolved: &Resolved, usually: Usually) -> String {
        if let Some(filter) = &self.common.log {
            return filter.clone();
        }
        let leaf = resolved.tree.get(&["log", "filter"].into());
        let is_chosen = leaf.is_some_and(|leaf| leaf.origin != Origin::Default);
        let configured = resolved.config.log.filter.clone();
        let usual = if is_chosen || usually == Usually::AsConfigured {
            configured
        } else {
            "warn".to_owned()
        };
        let levels = ["error", "warn", "info", "debug", "trace"];
        let louder = usize::from(self.common.verbose);
        match levels.iter().position(|level| *level == usual) {
            Some(level) => levels[(level + louder).min(levels.len() - 1)].to_owned(),
            None => usual,
        }
    }
}

/// Says something to the user, on standard error.
#[expect(clippy::print_stderr, reason = "the one place that talks")]
pub(super) fn tell(text: &str) {
    eprintln!("{}", text.trim_end());
}

/// A bar on standard error, if that is a terminal.
pub(super) fn progress(length: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{msg} {wide_bar} {pos}/{len} {eta}");
    ProgressBar::new(length).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}
