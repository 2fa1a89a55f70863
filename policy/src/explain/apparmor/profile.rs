// SPDX-License-Identifier: Apache-2.0
//! The text of a profile, taken apart again: profiles and their rules.

use crate::compile::apparmor::raw::Word;
use crate::compile::apparmor::rule::Rule;

/// A profile of a text.
#[derive(Debug, Default)]
pub(super) struct Profile {
    /// Its full name, `parent//child` for a child.
    pub(super) name: String,
    pub(super) rules: Vec<Rule>,
    /// Executables that go on in a child, and which.
    pub(super) transitions: Vec<(String, String)>,
}

/// What abstractions/base allows of the actions that are asked about and no start of a profile does: it is all `file`, else.
const BASE: [&str; 2] = ["ptrace (readby),", "ptrace (tracedby),"];

/// The profiles of a generated text: the container's first, then its children.
pub(super) fn parse(text: &str) -> Vec<Profile> {
    let mut done = Vec::new();
    let mut open: Vec<Profile> = Vec::new();
    for line in text.lines().map(str::trim) {
        if let Some(rest) = line.strip_prefix("profile ") {
            let name = rest.split_whitespace().next().unwrap_or_default();
            let name = match open.last() {
                Some(parent) => format!("{}//{name}", parent.name),
                None => name.to_owned(),
            };
            open.push(Profile {
                name,
                ..Profile::default()
            });
        } else if line == "}" {
            done.extend(open.pop());
        } else if let (Some(profile), "include <abstractions/base>") = (open.last_mut(), line) {
            profile
                .rules
                .extend(BASE.iter().filter_map(|line| rule(line)));
        } else if let (Some(profile), Some(rule)) = (open.last_mut(), rule(line)) {
            match &rule.words[..] {
                [
                    Word::Plain(path),
                    Word::Plain(how),
                    Word::Arrow,
                    Word::Plain(child),
                ] if how == "cx" => {
                    let child = format!("{}//{child}", profile.name);
                    profile.transitions.push((path.clone(), child));
                }
                _ => {}
            }
            profile.rules.push(rule);
        }
    }
    // A parent ends after its children.
    done.reverse();
    done
}

/// A line that is a rule; includes, and what is outside profiles, are none.
fn rule(line: &str) -> Option<Rule> {
    Rule::parse(line.strip_suffix(',')?)
}
