// SPDX-License-Identifier: Apache-2.0
//! Several actions made by one process, one after the other, and what they hand to each other: descriptors.

use std::ffi::CString;

use crate::actions;
use crate::errno::Errno;

/// How an action can fail.
#[derive(Debug, PartialEq, Eq)]
pub enum Failure {
    /// The call that the action is named after.
    Call(Errno),
    /// A call that the action needs before its own.
    Setup(Errno),
    /// The arguments make no sense.
    Usage(String),
}

impl From<Errno> for Failure {
    fn from(errno: Errno) -> Self {
        Self::Call(errno)
    }
}

impl From<String> for Failure {
    fn from(text: String) -> Self {
        Self::Usage(text)
    }
}

/// Turns a failed preparation into [`Failure::Setup`].
pub trait Preparation<T> {
    /// See the trait.
    fn prepared(self) -> Result<T, Failure>;
}

impl<T> Preparation<T> for Result<T, Errno> {
    fn prepared(self) -> Result<T, Failure> {
        self.map_err(Failure::Setup)
    }
}

/// What became of a chain.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The last action succeeded.
    Success,
    /// The last action's own call failed.
    Refused {
        /// As it was written.
        action: String,
        /// What the kernel said.
        errno: Errno,
    },
    /// An earlier action, or a preparation, failed.
    Setup {
        /// As it was written.
        action: String,
        /// What the kernel said.
        errno: Errno,
    },
    /// Nothing, or not everything, was tried.
    Usage(String),
}

/// One kind of action.
pub struct Action {
    /// The first word.
    pub name: &'static str,
    /// The words after it, for the usage text; those in brackets may be left out, and `...` takes any number.
    pub arguments: &'static str,
    /// Does it.
    pub run: fn(&mut State, &[String]) -> Result<(), Failure>,
}

impl Action {
    fn accepts(&self, count: usize) -> bool {
        let words = self.arguments.split_whitespace();
        let needed = words.clone().filter(|word| !word.starts_with('[')).count();
        let most = if self.arguments.contains("...") {
            usize::MAX
        } else {
            words.count()
        };
        (needed..=most).contains(&count)
    }
}

/// What the actions of a chain share.
#[derive(Default)]
pub struct State {
    /// Descriptors that actions made, in order. They stay open until the process ends.
    descriptors: Vec<i32>,
    /// The process that `child` made last.
    child: Option<i32>,
    /// The shared memory that `shm-of` made last.
    shared_memory: Option<i32>,
}

/// A file as an `*at` call names it: a directory's descriptor and a path.
pub struct At {
    /// `AT_FDCWD` or one of the chain's descriptors.
    pub fd: i32,
    /// The path; empty for the descriptor itself.
    pub path: CString,
}

impl State {
    /// Remembers a descriptor that an action made.
    pub fn keep(&mut self, descriptor: i64) {
        self.descriptors.push(descriptor as i32);
    }

    /// Remembers a process that an action made and that goes on beside the chain.
    pub fn keep_child(&mut self, pid: i32) {
        self.child = Some(pid);
    }

    /// A process id, or `child` for the process that the chain made.
    pub fn pid(&self, word: &str) -> Result<u64, Failure> {
        if word != "child" {
            return number(word);
        }
        let child = self.child.ok_or_else(|| {
            Failure::Usage("child: no action before this one made a process".into())
        })?;
        Ok(child as u64)
    }

    /// A path as a C string; `/proc/child` is the process that the chain made.
    pub fn path(&self, word: &str) -> Result<CString, Failure> {
        match word.strip_prefix("/proc/child") {
            Some(rest) => string(&format!("/proc/{}{rest}", self.pid("child")?)),
            None => string(word),
        }
    }

    /// Remembers a segment of shared memory that an action made.
    pub fn keep_shared_memory(&mut self, id: i32) {
        self.shared_memory = Some(id);
    }

    /// The segment of shared memory that an action before made.
    pub fn shared_memory(&self) -> Result<i32, Failure> {
        self.shared_memory
            .ok_or_else(|| Failure::Usage("no action before this one made shared memory".into()))
    }

    /// `@` is the newest descriptor, `@0` the first that the chain made; a plain number is a descriptor of the process.
    pub fn descriptor(&self, word: &str) -> Result<i32, Failure> {
        let Some(number) = word.strip_prefix('@') else {
            return word.parse().map_err(|_| {
                Failure::Usage(format!("{word:?} is no descriptor: @, @0, @1 or a number"))
            });
        };
        let found = if number.is_empty() {
            self.descriptors.last()
        } else {
            number
                .parse()
                .ok()
                .and_then(|index: usize| self.descriptors.get(index))
        };
        found.copied().ok_or_else(|| {
            Failure::Usage(format!(
                "{word}: no action before this one made such a descriptor"
            ))
        })
    }

    /// A path, or `@/PATH` and `@N/PATH` relative to a descriptor, or `@` and `@N` for the descriptor's own file.
    pub fn at(&self, word: &str) -> Result<At, Failure> {
        if !word.starts_with('@') {
            return Ok(At {
                fd: libc::AT_FDCWD,
                path: self.path(word)?,
            });
        }
        let (descriptor, path) = word.split_once('/').unwrap_or((word, ""));
        Ok(At {
            fd: self.descriptor(descriptor)?,
            path: string(path)?,
        })
    }
}

impl At {
    /// `AT_EMPTY_PATH` when the file is the descriptor's own.
    pub fn empty_path(&self) -> i32 {
        if self.path.is_empty() {
            libc::AT_EMPTY_PATH
        } else {
            0
        }
    }
}

/// A word as a C string.
pub fn string(word: &str) -> Result<CString, Failure> {
    CString::new(word).map_err(|_| Failure::Usage(format!("{word:?} has a NUL byte")))
}

/// A word as a number: decimal, `0x` hexadecimal or `0` octal.
pub fn number(word: &str) -> Result<u64, Failure> {
    let parsed = match word {
        _ if word.starts_with("0x") => u64::from_str_radix(&word[2..], 16),
        _ if word.len() > 1 && word.starts_with('0') => u64::from_str_radix(&word[1..], 8),
        _ => word.parse(),
    };
    parsed.map_err(|_| Failure::Usage(format!("{word:?} is not a number")))
}

/// A chain of actions, checked before the first one is made.
pub struct Chain {
    actions: Vec<(&'static Action, Vec<String>)>,
}

impl Chain {
    /// Reads the words of the command line; `then` parts the actions.
    pub fn parse(words: &[String]) -> Result<Self, String> {
        let mut parsed = Vec::new();
        for part in words.split(|word| word == "then") {
            let Some((name, arguments)) = part.split_first() else {
                return Err("`then` stands between two actions".into());
            };
            let action = actions::all()
                .find(|action| action.name == name)
                .ok_or_else(|| format!("unknown action {name:?}; `probe help` lists them"))?;
            if !action.accepts(arguments.len()) {
                return Err(format!("usage: probe {} {}", action.name, action.arguments));
            }
            parsed.push((action, arguments.to_vec()));
        }
        Ok(Self { actions: parsed })
    }

    /// Makes the actions. When one of them is `fork`, `clone` or the like, only the child comes back from here with a verdict;
    /// the parent ends with the child's status.
    pub fn run(self) -> Verdict {
        run_from(&self.actions, &mut State::default())
    }
}

fn run_from(actions: &[(&'static Action, Vec<String>)], state: &mut State) -> Verdict {
    for (index, (action, arguments)) in actions.iter().enumerate() {
        if action.name == "thread" {
            return in_thread(&actions[index + 1..], state);
        }
        let Err(failure) = (action.run)(state, arguments) else {
            continue;
        };
        let text = || {
            format!("{} {}", action.name, arguments.join(" "))
                .trim_end()
                .to_string()
        };
        return match failure {
            Failure::Usage(reason) => Verdict::Usage(format!("{}: {reason}", action.name)),
            Failure::Call(errno) if index + 1 == actions.len() => Verdict::Refused {
                action: text(),
                errno,
            },
            Failure::Call(errno) | Failure::Setup(errno) => Verdict::Setup {
                action: text(),
                errno,
            },
        };
    }
    Verdict::Success
}

fn in_thread(rest: &[(&'static Action, Vec<String>)], state: &mut State) -> Verdict {
    std::thread::scope(|scope| match scope.spawn(|| run_from(rest, state)).join() {
        Ok(verdict) => verdict,
        Err(panic) => std::panic::resume_unwind(panic),
    })
}

/// The list of actions.
pub fn usage() -> String {
    let mut text = String::from(
        "usage: probe ACTION [ARGUMENT...] [then ACTION [ARGUMENT...]]...\n       \
         probe serve REQUESTS ANSWERS\n\n\
         A PATH may be @/PATH, relative to the newest descriptor of the chain (@0/PATH: to the first), or @ for its own file.\n\
         A PID may be `child`, the process that the chain made; /proc/child is its directory.\n\
         An ADDRESS is 192.0.2.1:53, [2001:db8::1]:53, or 192.0.2.1 (port 9). FLAGS are words with commas between; - is none.\n\
         Exit status: 0 OK, 1 the last action failed, 2 usage, 3 an earlier action failed.\n\n",
    );
    for action in actions::all() {
        text.push_str(&format!("  {} {}\n", action.name, action.arguments));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        line.split_whitespace().map(str::to_string).collect()
    }

    fn run(line: &str) -> Verdict {
        Chain::parse(&words(line)).unwrap().run()
    }

    #[test]
    fn names_and_counts_are_checked_before_anything_is_made() {
        assert!(Chain::parse(&words("open r /etc/hosts then")).is_err());
        assert!(Chain::parse(&words("opne r /etc/hosts")).is_err());
        assert!(Chain::parse(&words("open r")).is_err());
        assert!(Chain::parse(&words("open r /a /b")).is_err());
        assert!(Chain::parse(&words("exec /bin/true a b c d")).is_ok());
    }

    #[test]
    fn only_the_last_action_gives_a_refusal() {
        let missing = Errno(libc::ENOENT);
        assert_eq!(
            run("open r /nowhere/at/all"),
            Verdict::Refused {
                action: "open r /nowhere/at/all".into(),
                errno: missing
            }
        );
        assert_eq!(
            run("open r /nowhere/at/all then open r /etc/passwd"),
            Verdict::Setup {
                action: "open r /nowhere/at/all".into(),
                errno: missing
            }
        );
        assert_eq!(
            run("open r /etc/passwd then open r /etc/group"),
            Verdict::Success
        );
    }

    #[test]
    fn a_later_action_reaches_the_descriptors_of_earlier_ones() {
        assert_eq!(
            run("open path,directory /etc then open path /usr then open r @0/passwd then read @"),
            Verdict::Success
        );
        assert_eq!(
            run("open path,directory /etc then open r @/no-such"),
            Verdict::Refused {
                action: "open r @/no-such".into(),
                errno: Errno(libc::ENOENT)
            }
        );
        assert!(matches!(run("read @"), Verdict::Usage(_)));
    }

    #[test]
    fn a_thread_runs_the_rest() {
        assert_eq!(run("thread then open r /etc/passwd"), Verdict::Success);
        assert!(matches!(
            run("thread then open r /nowhere then open r /etc/passwd"),
            Verdict::Setup { .. }
        ));
    }
}
