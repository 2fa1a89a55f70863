// SPDX-License-Identifier: Apache-2.0
//! `probe`: makes one exact system call and says what the kernel answered.
//!
//! A scenario's verdict must be a fact about the kernel, so there is no shell tool in between that tries something else when a
//! call fails. Escapes are chains, so several actions can be made by one process, parted by the word `then`; the verdict is the
//! last one's.
//!
//! Exit status: 0 the call succeeded; 1 it failed, with `ERRNO NAME: text` on stdout and the kernel's text on stderr; 2 usage;
//! 3 an action before the last one failed. For 3 the errno's text is left out, since a reader of stderr who looks for
//! "Permission denied" must not take a failed preparation for the refusal that he is after.

mod actions;
mod chain;
mod errno;
mod flags;
mod serve;
mod sys;

use std::process::ExitCode;

use chain::Verdict;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.is_empty() || matches!(arguments[0].as_str(), "help" | "--help" | "-h") {
        print!("{}", chain::usage());
        return if arguments.is_empty() {
            ExitCode::from(2)
        } else {
            ExitCode::SUCCESS
        };
    }
    if let [command, requests, answers] = &arguments[..]
        && command == "serve"
    {
        let error = serve::serve(requests.as_ref(), answers.as_ref());
        eprintln!("probe: serve: {error}");
        return ExitCode::from(2);
    }
    let outcome = trial(&arguments);
    print!("{}", outcome.output);
    eprint!("{}", outcome.error);
    ExitCode::from(outcome.status)
}

/// What a chain leaves behind.
struct Outcome {
    /// See the module.
    status: u8,
    output: String,
    error: String,
}

/// Makes a chain.
fn trial(words: &[String]) -> Outcome {
    let verdict = match chain::Chain::parse(words) {
        Ok(chain) => chain.run(),
        Err(text) => Verdict::Usage(text),
    };
    let (status, output, error) = match verdict {
        Verdict::Success => (0, "OK\n".into(), String::new()),
        Verdict::Refused { action, errno } => (
            1,
            format!("ERRNO {}: {}\n", errno.name(), errno.text()),
            format!("probe: {action}: {}\n", errno.text()),
        ),
        Verdict::Usage(text) => (2, String::new(), format!("probe: {text}\n")),
        Verdict::Setup { action, errno } => (
            3,
            format!("SETUP {}\n", errno.name()),
            format!("probe: preparation failed: {action}: {}\n", errno.name()),
        ),
    };
    Outcome {
        status,
        output,
        error,
    }
}
