// SPDX-License-Identifier: Apache-2.0
//! The command line of runc 1.0 to 1.4 and crun 1, as far as the wrapper must understand it: which subcommand, which bundle,
//! which container.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Options before the subcommand that take a value (`runc --help`, `crun --help`).
const GLOBAL_WITH_VALUE: &[&str] = &[
    "root",
    "log",
    "log-format",
    "log-level",
    "criu",
    "rootless",
    "cgroup-manager",
];
/// Options before the subcommand that stand alone.
const GLOBAL_ALONE: &[&str] = &["debug", "systemd-cgroup", "help", "h", "version", "v"];
/// Options of create and run that take a value.
const CREATE_WITH_VALUE: &[&str] = &[
    "bundle",
    "b",
    "console-socket",
    "pidfd-socket",
    "pid-file",
    "preserve-fds",
    "config",
    "f",
];
/// Options of exec that take a value.
const EXEC_WITH_VALUE: &[&str] = &[
    "process",
    "p",
    "console-socket",
    "pidfd-socket",
    "pid-file",
    "preserve-fds",
    "cwd",
    "env",
    "e",
    "user",
    "u",
    "additional-gids",
    "g",
    "process-label",
    "apparmor",
    "cap",
    "c",
    "cgroup",
];

/// What the arguments ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arguments {
    /// The runtime's state directory, when named: containerd ends it with its namespace.
    pub root: Option<PathBuf>,
    /// The file where the runtime's caller looks for the reason of a failure, when named.
    pub log: Option<PathBuf>,
    /// What the runtime is to do.
    pub subcommand: Subcommand,
}

/// The subcommands that the wrapper has a part in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subcommand {
    /// A container is made: `create` or `run`.
    Create {
        /// Its id.
        id: OsString,
        /// Its bundle; the working directory when the arguments name none.
        bundle: PathBuf,
    },
    /// A process described by a file joins a container.
    Exec {
        /// The container's id.
        id: OsString,
        /// The file, an OCI `process` object.
        process: PathBuf,
    },
    /// Anything else: none of the wrapper's business.
    Other,
}

/// The arguments can't be understood, and a process may be started by them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ArgumentError {
    /// An option before the subcommand whose shape is not known.
    #[error("the option {0:?} of the runtime is not known, so what follows it can't be understood")]
    UnknownOption(OsString),
    /// crun's option to read another file than the bundle's config.json.
    #[error(
        "the runtime is to read another configuration than the bundle's config.json, which can't be protected"
    )]
    OtherConfig,
    /// No container id.
    #[error("the runtime is to start a process without the id of a container")]
    NoId,
}

impl Arguments {
    /// Understands the arguments that follow the program's name.
    ///
    /// # Errors
    /// Only when a process may be started by them: everything else is handed on as it is, and the runtime complains.
    pub fn parse(arguments: &[OsString]) -> Result<Self, ArgumentError> {
        let mut parsed = Self {
            root: None,
            log: None,
            subcommand: Subcommand::Other,
        };
        let mut words = Words {
            arguments,
            with_value: GLOBAL_WITH_VALUE,
        };
        while let Some(word) = words.next() {
            match word {
                Word::Option {
                    name,
                    value: Some(value),
                } if name == "root" => parsed.root = Some(value.into()),
                Word::Option {
                    name,
                    value: Some(value),
                } if name == "log" => parsed.log = Some(value.into()),
                Word::Option { value: Some(_), .. } => {}
                Word::Option { name, value: None } => {
                    // It may take a value that looks like a subcommand.
                    let starts = |argument: &OsString| {
                        ["create", "run", "exec"]
                            .iter()
                            .any(|word| argument == word)
                    };
                    if !is_one_of(GLOBAL_ALONE, name) && words.arguments.iter().any(starts) {
                        return Err(ArgumentError::UnknownOption(name.to_owned()));
                    }
                }
                Word::Plain(subcommand) => {
                    parsed.subcommand = match subcommand.to_str() {
                        Some("create" | "run") => create(words.arguments)?,
                        Some("exec") => exec(words.arguments)?,
                        _ => Subcommand::Other,
                    };
                    break;
                }
            }
        }
        Ok(parsed)
    }
}

fn create(arguments: &[OsString]) -> Result<Subcommand, ArgumentError> {
    let mut bundle = PathBuf::from(".");
    let mut id = None;
    for word in (Words {
        arguments,
        with_value: CREATE_WITH_VALUE,
    }) {
        match word {
            Word::Option { name, .. } if name == "help" || name == "h" => {
                return Ok(Subcommand::Other);
            }
            Word::Option { name, .. } if name == "config" || name == "f" => {
                return Err(ArgumentError::OtherConfig);
            }
            Word::Option {
                name,
                value: Some(value),
            } if name == "bundle" || name == "b" => bundle = value.into(),
            Word::Option { .. } => {}
            Word::Plain(word) => _ = id.get_or_insert(word),
        }
    }
    let id = id.ok_or(ArgumentError::NoId)?.to_owned();
    Ok(Subcommand::Create { id, bundle })
}

fn exec(arguments: &[OsString]) -> Result<Subcommand, ArgumentError> {
    let mut file = None;
    for word in (Words {
        arguments,
        with_value: EXEC_WITH_VALUE,
    }) {
        match word {
            Word::Option { name, .. } if name == "help" || name == "h" => {
                return Ok(Subcommand::Other);
            }
            Word::Option {
                name,
                value: Some(value),
            } if name == "process" || name == "p" => file = Some(value),
            Word::Option { .. } => {}
            // What follows the id is the command line of the new process.
            Word::Plain(id) => {
                return Ok(match file {
                    Some(process) => Subcommand::Exec {
                        id: id.to_owned(),
                        process: process.into(),
                    },
                    // The runtime takes the process from the bundle's config.json, which carries the profile.
                    None => Subcommand::Other,
                });
            }
        }
    }
    Err(ArgumentError::NoId)
}

enum Word<'a> {
    Option {
        name: &'a OsStr,
        value: Option<&'a OsStr>,
    },
    Plain(&'a OsStr),
}

/// `--name`, `-name`, `--name=value` and plain words, as Go's flag packages read them.
struct Words<'a> {
    arguments: &'a [OsString],
    with_value: &'static [&'static str],
}

impl<'a> Words<'a> {
    fn take(&mut self) -> Option<&'a OsStr> {
        let (first, rest) = self.arguments.split_first()?;
        self.arguments = rest;
        Some(first)
    }
}

impl<'a> Iterator for Words<'a> {
    type Item = Word<'a>;

    fn next(&mut self) -> Option<Word<'a>> {
        let argument = self.take()?;
        let bytes = argument.as_bytes();
        if bytes == b"--" {
            return self.next();
        }
        let Some(option) = bytes
            .strip_prefix(b"--")
            .or_else(|| bytes.strip_prefix(b"-"))
            .filter(|name| !name.is_empty())
        else {
            return Some(Word::Plain(argument));
        };
        let (name, value) = match option.iter().position(|byte| *byte == b'=') {
            Some(at) => (&option[..at], Some(OsStr::from_bytes(&option[at + 1..]))),
            None => (option, None),
        };
        let name = OsStr::from_bytes(name);
        let value = value.or_else(|| {
            if is_one_of(self.with_value, name) {
                self.take()
            } else {
                None
            }
        });
        Some(Word::Option { name, value })
    }
}

fn is_one_of(list: &[&str], name: &OsStr) -> bool {
    list.iter().any(|known| name == *known)
}

/// containerd's namespace, which its shim appends to the runtime's state directory.
pub fn namespace_of(root: Option<&Path>) -> Option<&str> {
    root?.file_name()?.to_str()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<OsString> {
        line.split_whitespace().map(OsString::from).collect()
    }

    fn parse(line: &str) -> Result<Arguments, ArgumentError> {
        Arguments::parse(&words(line))
    }

    fn created(line: &str) -> Option<(String, String)> {
        match parse(line).unwrap().subcommand {
            Subcommand::Create { id, bundle } => Some((
                id.into_string().unwrap(),
                bundle.to_str().unwrap().to_owned(),
            )),
            _ => None,
        }
    }

    #[test]
    fn the_command_lines_of_containerd_are_understood() {
        let line = "--root /run/containerd/runc/k8s.io --log /b/log.json --log-format json --systemd-cgroup \
                    create --bundle /b --pid-file /b/init.pid --console-socket /tmp/pty.sock abc";
        let arguments = parse(line).unwrap();
        assert_eq!(created(line), Some(("abc".into(), "/b".into())));
        assert_eq!(arguments.log, Some("/b/log.json".into()));
        assert_eq!(namespace_of(arguments.root.as_deref()), Some("k8s.io"));
        let line = "--root /r --log /b/log.json --log-format json exec --process /tmp/p --console-socket /s --detach \
                    --pid-file /b/x.pid abc";
        let exec = Subcommand::Exec {
            id: "abc".into(),
            process: "/tmp/p".into(),
        };
        assert_eq!(parse(line).unwrap().subcommand, exec);
        for line in [
            "--root /r --log l --log-format json start abc",
            "--root /r exec --tty abc --process /p",
            "--root /r exec -u 0 abc sh",
            "--root /r exec --help",
            "--root /r kill --all abc 9",
            "--root /r delete --force abc",
            "--root create state abc",
            "--version",
            "create --help",
            "",
        ] {
            assert_eq!(parse(line).unwrap().subcommand, Subcommand::Other, "{line}");
        }
    }

    #[test]
    fn every_spelling_names_the_bundle() {
        for line in [
            "create --bundle /b abc",
            "create --bundle=/b abc",
            "create -b /b abc",
            "run -d -bundle /b --keep abc",
            "run abc -b=/b",
            "--debug create --pid-file /p --bundle /b --no-pivot abc",
            "--root=/r --rootless auto create --preserve-fds 2 --bundle /b abc",
            "--debug -- create --bundle /b -- abc",
        ] {
            assert_eq!(created(line), Some(("abc".into(), "/b".into())), "{line}");
        }
        assert_eq!(created("create abc"), Some(("abc".into(), ".".into())));
    }

    #[test]
    fn what_may_start_a_process_is_never_guessed() {
        for line in [
            "--new /x create abc",
            "--new exec --process /p abc",
            "--new run abc",
        ] {
            assert!(
                matches!(parse(line), Err(ArgumentError::UnknownOption(_))),
                "{line}"
            );
        }
        assert_eq!(
            parse("--new /x state abc").unwrap().subcommand,
            Subcommand::Other
        );
        assert_eq!(
            parse("create --config /c --bundle /b abc"),
            Err(ArgumentError::OtherConfig)
        );
        for line in [
            "create --bundle /b",
            "create --bundle",
            "exec --process /p",
            "exec",
        ] {
            assert_eq!(parse(line), Err(ArgumentError::NoId), "{line}");
        }
    }

    #[test]
    fn bytes_that_are_no_text_are_kept() {
        use std::os::unix::ffi::OsStringExt;
        let bundle = OsString::from_vec(b"/b\xff".to_vec());
        let arguments = [
            OsString::from("create"),
            "-b".into(),
            bundle.clone(),
            "abc".into(),
        ];
        let subcommand = Arguments::parse(&arguments).unwrap().subcommand;
        assert_eq!(
            subcommand,
            Subcommand::Create {
                id: "abc".into(),
                bundle: bundle.into()
            }
        );
    }
}
