// SPDX-License-Identifier: Apache-2.0
//! Finding the real runtime.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// One line: the absolute path of the runtime to execute. containerd hands no options of ours to the wrapper, so a file it is.
pub const OPTION_FILE: &str = "/etc/varmor-nri/runtime";
/// As the file, for the environment of containerd; it goes first.
pub const VARIABLE: &str = "VARMOR_RUNTIME_PATH";
/// Where to look when nothing says otherwise and there is no PATH.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const NAME: &str = "runc";

/// No runtime to execute.
#[derive(Debug, thiserror::Error)]
pub enum FindError {
    /// The option file could not be read.
    #[error("cannot read {OPTION_FILE}: {0}")]
    OptionFile(io::Error),
    /// The setting is not the path of a program.
    #[error("{setting} names {path:?}, which is not an absolute path of a program")]
    Setting {
        /// The file or the variable.
        setting: &'static str,
        /// What it says.
        path: PathBuf,
    },
    /// The setting names the wrapper.
    #[error("{setting} names {path:?}, which is varmor-runtime itself")]
    Itself {
        /// The file or the variable.
        setting: &'static str,
        /// What it says.
        path: PathBuf,
    },
    /// PATH has none.
    #[error("no {NAME} in {path:?}; write the path of the real runtime to {OPTION_FILE}")]
    NotInPath {
        /// What was searched.
        path: String,
    },
}

/// The runtime to execute: what the variable says, else what the option file says, else the first `runc` in `path` that is
/// not this program (`own`).
pub fn find(
    own: &Path,
    option_file: &Path,
    variable: Option<&OsStr>,
    path: Option<&OsStr>,
) -> Result<PathBuf, FindError> {
    let own = identity(own);
    if let Some(variable) = variable.filter(|variable| !variable.is_empty()) {
        return named(VARIABLE, Path::new(variable), own);
    }
    match fs::read_to_string(option_file) {
        Ok(line) => return named(OPTION_FILE, Path::new(line.trim()), own),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(FindError::OptionFile(error)),
    }
    let path = path
        .filter(|path| !path.is_empty())
        .unwrap_or(OsStr::new(DEFAULT_PATH));
    std::env::split_paths(path)
        .map(|directory| directory.join(NAME))
        .find(|candidate| {
            candidate.is_absolute() && is_program(candidate) && identity(candidate) != own
        })
        .ok_or_else(|| FindError::NotInPath {
            path: path.to_string_lossy().into_owned(),
        })
}

fn named(
    setting: &'static str,
    path: &Path,
    own: Option<(u64, u64)>,
) -> Result<PathBuf, FindError> {
    let path = path.to_owned();
    if !path.is_absolute() || !is_program(&path) {
        Err(FindError::Setting { setting, path })
    } else if identity(&path) == own {
        Err(FindError::Itself { setting, path })
    } else {
        Ok(path)
    }
}

fn is_program(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
}

/// The file behind every link to it.
fn identity(path: &Path) -> Option<(u64, u64)> {
    fs::metadata(path).ok().map(|file| (file.dev(), file.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Place {
        directory: tempfile::TempDir,
    }

    impl Place {
        fn new() -> Self {
            Self {
                directory: tempfile::tempdir().unwrap(),
            }
        }

        fn program(&self, name: &str) -> PathBuf {
            let path = self.directory.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, "").unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
            path
        }

        fn find(
            &self,
            own: &Path,
            file: Option<&Path>,
            variable: Option<&Path>,
            path: &str,
        ) -> Result<PathBuf, FindError> {
            let option_file = self.directory.path().join("runtime");
            if let Some(file) = file {
                fs::write(&option_file, format!("{}\n", file.display())).unwrap();
            }
            let path = path.replace("@", self.directory.path().to_str().unwrap());
            find(
                own,
                &option_file,
                variable.map(Path::as_os_str),
                Some(OsStr::new(&path)),
            )
        }
    }

    #[test]
    fn the_first_runc_that_is_not_the_wrapper_is_taken() {
        let place = Place::new();
        let own = place.program("varmor-runtime");
        let real = place.program("b/runc");
        fs::create_dir(place.directory.path().join("a")).unwrap();
        std::os::unix::fs::symlink(&own, place.directory.path().join("a/runc")).unwrap();
        assert_eq!(
            place.find(&own, None, None, "@/none:@/a:@/b").unwrap(),
            real
        );
        assert!(matches!(
            place.find(&own, None, None, "@/a:b"),
            Err(FindError::NotInPath { .. })
        ));
        fs::set_permissions(&real, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(
            place.find(&own, None, None, "@/a:@/b"),
            Err(FindError::NotInPath { .. })
        ));
    }

    #[test]
    fn the_variable_beats_the_file_beats_the_path() {
        let place = Place::new();
        let own = place.program("varmor-runtime");
        let (one, two) = (place.program("one"), place.program("two"));
        place.program("b/runc");
        assert_eq!(place.find(&own, Some(&one), None, "@/b").unwrap(), one);
        assert_eq!(place.find(&own, None, Some(&two), "@/b").unwrap(), two);
        assert_eq!(
            place.find(&own, Some(&one), Some(&two), "@/b").unwrap(),
            two
        );
    }

    #[test]
    fn a_wrong_setting_is_an_error_and_not_passed_over() {
        let place = Place::new();
        let own = place.program("varmor-runtime");
        place.program("b/runc");
        assert!(matches!(
            place.find(&own, None, Some(&own), "@/b"),
            Err(FindError::Itself { .. })
        ));
        for wrong in ["runc", "/nonexistent/runc", "/"] {
            let found = place.find(&own, None, Some(Path::new(wrong)), "@/b");
            assert!(matches!(found, Err(FindError::Setting { .. })), "{wrong}");
        }
        assert!(matches!(
            place.find(&own, Some(Path::new("")), None, "@/b"),
            Err(FindError::Setting { .. })
        ));
    }
}
