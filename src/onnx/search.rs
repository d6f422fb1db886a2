//! Where ONNX Runtime's library may be. Pure: looks at a description of the surroundings, and at
//! folders through what it is given; runs nothing.

use std::path::{Path, PathBuf};

/// What the search depends on.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Surroundings {
    /// `onnx.library`, if it is set. Then it alone counts.
    pub setting: Option<PathBuf>,
    /// `ORT_DYLIB_PATH`, if it is set.
    pub variable: Option<PathBuf>,
    /// The working directory.
    pub working: PathBuf,
    /// The folder of the program.
    pub program: Option<PathBuf>,
    /// `VIRTUAL_ENV`, if it is set.
    pub virtual_env: Option<PathBuf>,
    /// The user's home.
    pub home: Option<PathBuf>,
    /// The folders of `PATH`.
    pub path: Vec<PathBuf>,
    /// The folders of the system's libraries.
    pub system: Vec<PathBuf>,
}

/// A file to try, and by which way it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The file.
    pub path: PathBuf,
    /// For messages.
    pub found_by: &'static str,
}

/// Where the search looks, in order, for messages.
pub const PLACES: &str = "ORT_DYLIB_PATH, vendor/onnxruntime in the working directory and beside \
                          the program, the Python package onnxruntime, the system's libraries";

/// Below a folder, where `scripts/setup-onnxruntime.sh` puts the library.
const VENDOR: &str = "vendor/onnxruntime";

/// The files to try, best first. `list` gives the names in a folder, in any order, and nothing for one
/// that cannot be read.
pub fn candidates(here: &Surroundings, list: &dyn Fn(&Path) -> Vec<String>) -> Vec<Candidate> {
    let mut found = Vec::new();
    let mut add = |path: PathBuf, found_by| {
        if !found.iter().any(|known: &Candidate| known.path == path) {
            found.push(Candidate { path, found_by });
        }
    };
    if let Some(path) = &here.setting {
        add(here.working.join(path), "onnx.library");
        return found;
    }
    if let Some(path) = &here.variable {
        add(here.working.join(path), "ORT_DYLIB_PATH");
    }
    for folder in [Some(&here.working), here.program.as_ref()].into_iter().flatten() {
        libraries(&folder.join(VENDOR), list).for_each(|path| add(path, VENDOR));
    }
    for folder in python_folders(here, list) {
        libraries(&folder, list).for_each(|path| add(path, "the Python package"));
    }
    for folder in &here.system {
        libraries(folder, list).for_each(|path| add(path, "the system"));
    }
    found
}

/// The libraries in a folder; the plain name before one with a version, a newer before an older one.
fn libraries(folder: &Path, list: &dyn Fn(&Path) -> Vec<String>) -> impl Iterator<Item = PathBuf> {
    const NAME: &str = "libonnxruntime.so";
    let version = |name: &str| -> Option<Vec<u32>> {
        let rest = name.strip_prefix(NAME)?;
        if rest.is_empty() {
            return Some(vec![u32::MAX]);
        }
        rest.strip_prefix('.')?.split('.').map(|part| part.parse().ok()).collect()
    };
    let mut names: Vec<_> =
        list(folder).into_iter().filter_map(|name| Some((version(&name)?, name))).collect();
    names.sort();
    let folder = folder.to_owned();
    names.into_iter().rev().map(move |(_, name)| folder.join(name))
}

/// Where `pip install onnxruntime` puts the library, for every python3 in reach.
fn python_folders(here: &Surroundings, list: &dyn Fn(&Path) -> Vec<String>) -> Vec<PathBuf> {
    let is_bin = |folder: &&PathBuf| list(folder).iter().any(|name| name == "python3");
    let of_path = here.path.iter().filter(is_bin).filter_map(|folder| folder.parent());
    let roots = here.virtual_env.as_deref().into_iter().chain(of_path);
    let below = |root: &Path| [root.join("lib"), root.join("local/lib")];
    let mut folders: Vec<PathBuf> = roots.flat_map(below).collect();
    folders.extend(here.home.iter().map(|home| home.join(".local/lib")));
    let mut packages = Vec::new();
    for folder in folders {
        let mut versions: Vec<_> =
            list(&folder).into_iter().filter(|name| name.starts_with("python3")).collect();
        versions.sort();
        for version in versions.iter().rev() {
            for site in ["site-packages", "dist-packages"] {
                packages.push(folder.join(version).join(site).join("onnxruntime/capi"));
            }
        }
    }
    packages
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// A machine with these files, its folders known by them.
    fn machine(files: &[&str]) -> impl Fn(&Path) -> Vec<String> {
        let mut folders: BTreeMap<PathBuf, Vec<String>> = BTreeMap::new();
        for file in files {
            let mut path = Path::new(file);
            while let (Some(folder), Some(name)) = (path.parent(), path.file_name()) {
                let names = folders.entry(folder.to_owned()).or_default();
                let name = name.to_string_lossy().into_owned();
                if !names.contains(&name) {
                    names.push(name);
                }
                path = folder;
            }
        }
        move |folder| folders.get(folder).cloned().unwrap_or_default()
    }

    fn here() -> Surroundings {
        Surroundings {
            working: "/srv".into(),
            program: Some("/opt/bin".into()),
            home: Some("/home/u".into()),
            path: vec!["/venv/bin".into(), "/usr/bin".into(), "/nothing".into()],
            system: vec!["/usr/lib".into(), "/usr/lib/x86_64-linux-gnu".into()],
            ..Surroundings::default()
        }
    }

    fn paths(here: &Surroundings, files: &[&str]) -> Vec<String> {
        let found = candidates(here, &machine(files));
        found.into_iter().map(|it| it.path.display().to_string()).collect()
    }

    const EVERYWHERE: [&str; 9] = [
        "/usr/lib/libonnxruntime.so.1.28.0",
        "/usr/bin/python3",
        "/usr/lib/python3/dist-packages/onnxruntime/capi/libonnxruntime.so.1.30.0",
        "/venv/bin/python3",
        "/venv/lib/python3.11/site-packages/onnxruntime/capi/libonnxruntime.so.1.31.1",
        "/venv/lib/python3.11/site-packages/onnxruntime/capi/libonnxruntime_providers_shared.so",
        "/opt/bin/vendor/onnxruntime/libonnxruntime.so",
        "/srv/vendor/onnxruntime/libonnxruntime.so.1.9.0",
        "/srv/vendor/onnxruntime/libonnxruntime.so.1.31.0",
    ];

    #[test]
    fn the_order_is_variable_vendor_python_system() {
        let surroundings = Surroundings { variable: Some("lib/x.so".into()), ..here() };
        let expected = [
            "/srv/lib/x.so",
            "/srv/vendor/onnxruntime/libonnxruntime.so.1.31.0",
            "/srv/vendor/onnxruntime/libonnxruntime.so.1.9.0",
            "/opt/bin/vendor/onnxruntime/libonnxruntime.so",
            "/venv/lib/python3.11/site-packages/onnxruntime/capi/libonnxruntime.so.1.31.1",
            "/usr/lib/python3/dist-packages/onnxruntime/capi/libonnxruntime.so.1.30.0",
            "/usr/lib/libonnxruntime.so.1.28.0",
        ];
        assert_eq!(paths(&surroundings, &EVERYWHERE), expected);
    }

    #[test]
    fn a_setting_stands_alone() {
        let surroundings = Surroundings {
            setting: Some("/x/libonnxruntime.so".into()),
            variable: Some("/y.so".into()),
            ..here()
        };
        assert_eq!(paths(&surroundings, &EVERYWHERE), ["/x/libonnxruntime.so"]);
    }

    #[test]
    fn a_virtual_environment_comes_before_the_path_and_nothing_comes_twice() {
        let virtual_env = Some("/venv".into());
        let surroundings =
            Surroundings { virtual_env, program: Some("/srv".into()), system: vec![], ..here() };
        let files = [
            "/srv/vendor/onnxruntime/libonnxruntime.so",
            "/venv/bin/python3",
            "/venv/lib/python3.9/site-packages/onnxruntime/capi/libonnxruntime.so.1.2.3",
            "/home/u/.local/lib/python3.12/site-packages/onnxruntime/capi/libonnxruntime.so.2.0.0",
            "/usr/local/lib/python3.11/dist-packages/onnxruntime/capi/libonnxruntime.so.1.0.0",
        ];
        // /usr/bin has no python3 here.
        assert_eq!(paths(&surroundings, &files), [files[0], files[2], files[3]]);
    }

    #[test]
    fn an_empty_machine_has_none() {
        assert_eq!(candidates(&here(), &machine(&[])), []);
    }
}
