// SPDX-License-Identifier: Apache-2.0
//! The hook's command line.

use std::ffi::OsString;
use std::path::PathBuf;

use varmor_node_state::Layout;

use super::log::DEFAULT_LOG;

/// How the hook is used; the last word.
pub const USAGE: &str = "usage: varmor-oci-hook [OPTION VALUE]... COMMAND

  createRuntime   OCI hook: OCI state on standard input; exits 0 when the container may start, else 1 with a sentence
  poststop        OCI hook: removes the container's binding and marker
  base-spec       reads a whole OCI specification (`ctr oci spec`) and prints it with the hook in it, for containerd's
                  base_runtime_spec; done twice, it changes nothing more

  --run-dir DIR     /run/varmor-nri
  --state-dir DIR   /var/lib/varmor-nri
  --bpf-dir DIR     /sys/fs/bpf/varmor
  --log FILE        /var/log/varmor/hook.log: what was refused, and what started unprotected
  --hook PATH       base-spec: where the hook will be (default: this program)
";

/// What the hook is called for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// Before the container starts.
    CreateRuntime,
    /// After it is gone.
    Poststop,
    /// Not as a hook: adds the hook to a specification.
    BaseSpec,
    /// Prints [`USAGE`].
    Help,
    /// Prints the version.
    Version,
}

/// The whole command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// What to do.
    pub command: Command,
    /// The daemon's files.
    pub layout: Layout,
    /// Where the BPF maps are pinned.
    pub bpf_dir: PathBuf,
    /// The hook's own log.
    pub log: PathBuf,
    /// Where the hook will be.
    pub hook: Option<PathBuf>,
    /// The options that the hook itself needs again when it is put into a specification.
    pub for_hook: Vec<String>,
}

impl Options {
    /// Parses the arguments that follow the program's name.
    ///
    /// # Errors
    /// A sentence about the first wrong word.
    pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Self, String> {
        let mut options = Self {
            command: Command::Help,
            layout: Layout::default(),
            bpf_dir: varmor_bpf_abi::pins::DIR.into(),
            log: DEFAULT_LOG.into(),
            hook: None,
            for_hook: Vec::new(),
        };
        let mut command = None;
        let mut arguments = arguments.into_iter();
        while let Some(argument) = arguments.next() {
            let word = argument
                .to_str()
                .ok_or_else(|| format!("{argument:?} is not text"))?;
            let found = match word {
                "createRuntime" => Command::CreateRuntime,
                "poststop" => Command::Poststop,
                "base-spec" => Command::BaseSpec,
                "help" | "--help" | "-h" => Command::Help,
                "--version" | "-V" => Command::Version,
                _ => {
                    options.set(word, &mut arguments)?;
                    continue;
                }
            };
            if command.replace(found).is_some() {
                return Err(format!("{word:?} is a second command"));
            }
        }
        options.command = command.ok_or("no command")?;
        Ok(options)
    }

    fn set(
        &mut self,
        word: &str,
        arguments: &mut impl Iterator<Item = OsString>,
    ) -> Result<(), String> {
        let slot = match word {
            "--run-dir" => &mut self.layout.run,
            "--state-dir" => &mut self.layout.state,
            "--bpf-dir" => &mut self.bpf_dir,
            "--log" => &mut self.log,
            "--hook" => self.hook.insert(PathBuf::new()),
            _ => return Err(format!("{word:?} is not known")),
        };
        let value = arguments
            .next()
            .ok_or_else(|| format!("{word} has no value"))?;
        *slot = PathBuf::from(&value);
        if !slot.is_absolute() {
            return Err(format!("{word} must be an absolute path, not {value:?}"));
        }
        if word != "--hook" {
            let value = value
                .into_string()
                .map_err(|value| format!("{word} {value:?} is not text"))?;
            self.for_hook.extend([word.to_owned(), value]);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Result<Options, String> {
        Options::parse(words.iter().map(OsString::from))
    }

    #[test]
    fn the_defaults_are_the_documented_places() {
        let options = parse(&["createRuntime"]).unwrap();
        assert_eq!(options.command, Command::CreateRuntime);
        assert_eq!(options.layout, Layout::default());
        for place in [
            &options.layout.run,
            &options.layout.state,
            &options.bpf_dir,
            &options.log,
        ] {
            assert!(USAGE.contains(place.to_str().unwrap()), "{place:?}");
        }
        assert!(options.for_hook.is_empty());
    }

    #[test]
    fn places_are_overridden_and_handed_on() {
        let options = parse(&[
            "--run-dir",
            "/r",
            "--bpf-dir",
            "/b",
            "poststop",
            "--hook",
            "/h",
        ])
        .unwrap();
        assert_eq!(options.command, Command::Poststop);
        assert_eq!(
            (options.layout.run.to_str(), options.bpf_dir.to_str()),
            (Some("/r"), Some("/b"))
        );
        assert_eq!(options.hook, Some("/h".into()));
        assert_eq!(options.for_hook, ["--run-dir", "/r", "--bpf-dir", "/b"]);
    }

    #[test]
    fn wrong_words_are_errors() {
        for (words, part) in [
            (&[][..], "no command"),
            (&["createruntime"], "not known"),
            (&["--run-dir"], "has no value"),
            (&["--run-dir", "r", "poststop"], "absolute"),
            (&["poststop", "createRuntime"], "second command"),
        ] {
            let error = parse(words).unwrap_err();
            assert!(error.contains(part), "{words:?}: {error}");
        }
    }
}
