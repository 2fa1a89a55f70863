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
    let verdict = match chain::Chain::parse(&arguments) {
        Ok(chain) => chain.run(),
        Err(text) => Verdict::Usage(text),
    };
    match verdict {
        Verdict::Success => {
            println!("OK");
            ExitCode::SUCCESS
        }
        Verdict::Refused { action, errno } => {
            println!("ERRNO {}: {}", errno.name(), errno.text());
            eprintln!("probe: {action}: {}", errno.text());
            ExitCode::FAILURE
        }
        Verdict::Usage(text) => {
            eprintln!("probe: {text}");
            ExitCode::from(2)
        }
        Verdict::Setup { action, errno } => {
            println!("SETUP {}", errno.name());
            eprintln!("probe: preparation failed: {action}: {}", errno.name());
            ExitCode::from(3)
        }
    }
}
