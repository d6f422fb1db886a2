//! ONNX Runtime itself: found, loaded once per process, and asked who it is.
//!
//! Every call into `ort` needs a [`Library`], which only a library that was loaded here gives. So
//! `ort` never looks for one by itself, which would panic where there is none.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use ort::LoadDynamicError;
use ort::environment::Environment;
use ort::logging::LogLevel;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::search::{self, Surroundings};

/// Settings: `[onnx]`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LibrarySpec {
    /// The path of `libonnxruntime.so`; empty searches.
    pub library: PathBuf,
}

/// The loaded library. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Library {
    environment: Environment,
    path: Arc<Path>,
    version: Arc<str>,
}

/// There is no ONNX Runtime that can be used.
#[derive(Clone, Debug, thiserror::Error)]
#[error(
    "unavailable: {reason}, do `bash scripts/setup-onnxruntime.sh`, or set onnx.library to a \
     libonnxruntime.so of version {OLDEST} or newer"
)]
pub struct Unavailable {
    reason: String,
}

/// The oldest version that has what is asked of it.
const OLDEST: &str = "1.24";

/// What this process has loaded. Never dropped: ONNX Runtime does not take well to being unloaded.
static LOADED: Mutex<Option<Library>> = Mutex::new(None);

impl Library {
    /// The library of this process; loads it if nobody has. A failure is not remembered: what is
    /// installed later is found later.
    ///
    /// # Errors
    /// If there is none, with every file that was tried and why it would not do; or if `spec` names
    /// another than the one that is loaded.
    pub fn load(spec: &LibrarySpec) -> Result<Self, Unavailable> {
        let mut loaded = LOADED.lock();
        let here = surroundings(spec);
        if let Some(library) = &*loaded {
            return library.fits(here.setting.as_deref());
        }
        let library = first_of(&here, &open)?;
        tracing::info!(
            path = %library.path.display(), version = %library.version, "ONNX Runtime is loaded"
        );
        *loaded = Some(library.clone());
        Ok(library)
    }

    fn fits(&self, setting: Option<&Path>) -> Result<Self, Unavailable> {
        match setting {
            Some(path) if !is_same(path, &self.path) => {
                let (wanted, loaded) = (path.display(), self.path.display());
                let reason = format!(
                    "onnx.library is {wanted}, and this process has loaded {loaded} already; it can \
                     load one only"
                );
                Err(Unavailable { reason })
            }
            _ => Ok(self.clone()),
        }
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its version, such as `1.31.1-6af1a93`; of a file with an unusual name, the commit alone.
    pub fn version(&self) -> &str {
        &self.version
    }

    pub(super) fn environment(&self) -> &Environment {
        &self.environment
    }
}

fn is_same(a: &Path, b: &Path) -> bool {
    let real = |path: &Path| fs_err::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    real(a) == real(b)
}

/// The first candidate that opens.
fn first_of<T>(
    here: &Surroundings,
    open: &dyn Fn(&Path) -> Result<T, String>,
) -> Result<T, Unavailable> {
    let mut tried = Vec::new();
    for candidate in search::candidates(here, &list) {
        match open(&candidate.path) {
            Ok(library) => return Ok(library),
            Err(why) => {
                tried.push(format!("{} ({}): {why}", candidate.path.display(), candidate.found_by))
            }
        }
    }
    let reason = if tried.is_empty() {
        format!("ONNX Runtime is in none of these places: {}", search::PLACES)
    } else {
        format!("no ONNX Runtime that was found can be used: {}", tried.join("; "))
    };
    Err(Unavailable { reason })
}

/// Loads one file.
fn open(path: &Path) -> Result<Library, String> {
    if !path.is_file() {
        return Err("there is no such file".into());
    }
    let builder = ort::init_from(path).map_err(|error| explain(&error))?;
    let built = builder
        .with_name("roadcrew")
        .with_telemetry(false)
        .with_logger(Arc::new(|level, _category, _id, place, message| relay(level, place, message)))
        .build();
    let environment = built.map_err(|error| error.message().to_owned())?;
    environment.set_log_level(LogLevel::Warning);
    let real = fs_err::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    Ok(Library { environment, path: path.into(), version: version(&real, ort::info()).into() })
}

fn explain(error: &LoadDynamicError) -> String {
    match error {
        LoadDynamicError::Dlopen { error, .. } => {
            let cause =
                std::error::Error::source(error).map_or(error.to_string(), ToString::to_string);
            format!("it cannot be loaded: {cause}")
        }
        LoadDynamicError::MissingApi { .. } => "it is a library, but not ONNX Runtime".into(),
        LoadDynamicError::InvalidVersionString => "it does not tell its version".into(),
        LoadDynamicError::BadVersion { version_str, .. } => {
            format!("it is version {version_str}, older than {OLDEST}")
        }
    }
}

/// What ONNX Runtime logs. Its errors come back as results too, which are logged where they matter.
fn relay(level: LogLevel, place: &str, message: &str) {
    let message = message.trim();
    match level {
        LogLevel::Fatal => tracing::error!(target: "onnxruntime", place, "{message}"),
        LogLevel::Error | LogLevel::Warning => {
            tracing::debug!(target: "onnxruntime", place, "{message}");
        }
        LogLevel::Info | LogLevel::Verbose => {
            tracing::trace!(target: "onnxruntime", place, "{message}");
        }
    }
}

/// The version and the commit: the one stands in the file's name, if that is as usual, the other in the
/// build information, `… git-commit-id=6af1a93, …`. There is no safe way to ask for the version.
fn version(path: &Path, info: &str) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let numbers = name.rsplit_once(".so.").map(|(_, numbers)| numbers);
    let commit = info.split([',', ' ']).find_map(|part| part.strip_prefix("git-commit-id="));
    let parts = [numbers, commit].into_iter().flatten().collect::<Vec<_>>();
    if parts.is_empty() { "of an unknown version".into() } else { parts.join("-") }
}

/// This process's surroundings.
fn surroundings(spec: &LibrarySpec) -> Surroundings {
    let path = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let folders = |name| -> Vec<PathBuf> {
        std::env::var_os(name).iter().flat_map(std::env::split_paths).collect()
    };
    let program = std::env::current_exe().ok();
    let triple = format!("{}-linux-gnu", std::env::consts::ARCH);
    let mut system = folders("LD_LIBRARY_PATH");
    system.extend(["/usr/local/lib", "/usr/lib64", "/usr/lib"].map(PathBuf::from));
    system.extend([Path::new("/usr/lib").join(triple), "/opt/onnxruntime/lib".into()]);
    Surroundings {
        setting: Some(spec.library.clone()).filter(|path| !path.as_os_str().is_empty()),
        variable: path("ORT_DYLIB_PATH"),
        working: std::env::current_dir().unwrap_or_default(),
        program: program.and_then(|path| path.parent().map(Path::to_owned)),
        virtual_env: path("VIRTUAL_ENV"),
        home: path("HOME"),
        path: folders("PATH"),
        system,
    }
}

fn list(folder: &Path) -> Vec<String> {
    let entries = fs_err::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx::testing;

    fn alone(path: PathBuf) -> Surroundings {
        Surroundings { setting: Some(path), ..Surroundings::default() }
    }

    fn refused(path: PathBuf) -> String {
        first_of(&alone(path), &open).unwrap_err().to_string()
    }

    #[test]
    fn what_is_no_library_is_named_with_the_reason_and_the_remedy() {
        let name = "what_is_no_library_is_named_with_the_reason_and_the_remedy";
        testing::alone(module_path!(), name, what_is_no_library);
    }

    fn what_is_no_library() {
        let dir = tempfile::tempdir().unwrap();
        let text = dir.path().join("libonnxruntime.so");
        fs_err::write(&text, "not a library").unwrap();
        let error = refused(text.clone());
        for part in [
            "unavailable: ",
            &text.display().to_string(),
            "(onnx.library)",
            "cannot be loaded",
            "scripts/setup-onnxruntime.sh",
            "1.24 or newer",
        ] {
            assert!(error.contains(part), "{error}");
        }
        assert!(refused(dir.path().join("none.so")).contains("no such file"));
        assert!(refused(dir.path().to_owned()).contains("no such file"));
    }

    #[test]
    fn a_library_of_another_kind_is_told_apart() {
        testing::alone(module_path!(), "a_library_of_another_kind_is_told_apart", another_kind);
    }

    fn another_kind() {
        // The C library is there wherever this test runs.
        let maps = fs_err::read_to_string("/proc/self/maps").unwrap();
        let libc = maps.split_whitespace().find(|word| word.contains("libc.so")).unwrap();
        assert!(refused(libc.into()).contains("not ONNX Runtime"));
    }

    #[test]
    fn every_file_that_was_tried_is_told_and_the_first_that_opens_is_taken() {
        let dir = tempfile::tempdir().unwrap();
        let vendor = dir.path().join("vendor/onnxruntime");
        fs_err::create_dir_all(&vendor).unwrap();
        fs_err::write(vendor.join("libonnxruntime.so"), "").unwrap();
        let here = Surroundings {
            variable: Some("/nowhere/x.so".into()),
            working: dir.path().into(),
            ..Surroundings::default()
        };
        let error = first_of::<()>(&here, &|_| Err("no".into())).unwrap_err().to_string();
        assert!(error.contains("/nowhere/x.so (ORT_DYLIB_PATH): no; "), "{error}");
        assert!(error.contains("libonnxruntime.so (vendor/onnxruntime): no"), "{error}");
        let taken = first_of(&here, &|path| {
            path.is_file().then(|| path.to_owned()).ok_or_else(|| "no file".to_owned())
        });
        assert_eq!(taken.unwrap(), vendor.join("libonnxruntime.so"));
    }

    #[test]
    fn a_library_is_loaded_once_and_another_is_refused() {
        let Some(library) = testing::library() else { return };
        assert!(library.version().contains('-'), "{}", library.version());
        let same = LibrarySpec { library: library.path().to_owned() };
        assert_eq!(Library::load(&same).unwrap().path(), library.path());
        assert_eq!(Library::load(&LibrarySpec::default()).unwrap().path(), library.path());
        let other = LibrarySpec { library: "/nowhere/libonnxruntime.so".into() };
        let error = Library::load(&other).unwrap_err().to_string();
        assert!(error.contains("/nowhere") && error.contains("has loaded"), "{error}");
    }

    #[test]
    fn an_empty_search_says_where_it_looked() {
        let dir = tempfile::tempdir().unwrap();
        let here = Surroundings { working: dir.path().into(), ..Surroundings::default() };
        let error = first_of(&here, &open).unwrap_err().to_string();
        assert!(error.contains("in none of these places: ORT_DYLIB_PATH, vendor"), "{error}");
    }

    #[test]
    fn the_version_is_that_of_the_file_and_the_commit() {
        let info = "ORT Build Info: git-branch=HEAD, git-commit-id=6af1a93, build type=Release";
        for (name, info, expected) in [
            ("a/libonnxruntime.so.1.31.1", info, "1.31.1-6af1a93"),
            ("a/libonnxruntime.so", info, "6af1a93"),
            ("a/libonnxruntime.so.1.31.1", "a build of my own", "1.31.1"),
            ("a/mine.so", "", "of an unknown version"),
        ] {
            assert_eq!(version(Path::new(name), info), expected);
        }
    }
}
