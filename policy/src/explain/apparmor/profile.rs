//! The text of a profile, taken apart again: profiles and their rules.

use crate::compile::apparmor::raw::{self, Word};

/// A profile of a text.
#[derive(Debug, Default)]
pub(super) struct Profile {
    /// Its full name, `parent//child` for a child.
    pub(super) name: String,
    pub(super) rules: Vec<Rule>,
    /// Executables that go on in a child, and which.
    pub(super) transitions: Vec<(String, String)>,
}

/// A rule.
#[derive(Debug)]
pub(super) struct Rule {
    /// As it stands in the profile, without the comma.
    pub(super) text: String,
    pub(super) deny: bool,
    pub(super) audit: bool,
    /// Only for files that belong to the process' user.
    pub(super) owner: bool,
    /// The words after the qualifiers.
    pub(super) words: Vec<Word>,
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
    let text = line.strip_suffix(',')?;
    let mut words = raw::words(line)?;
    let qualifiers = words
        .iter()
        .take_while(|word| {
            matches!(word, Word::Plain(word) if ["audit", "deny", "allow", "owner"].contains(&word.as_str()))
        })
        .count();
    let has = |name: &str| words[..qualifiers].contains(&Word::Plain(name.to_owned()));
    let (deny, audit, owner) = (has("deny"), has("audit"), has("owner"));
    words.drain(..qualifiers);
    Some(Rule {
        text: text.to_owned(),
        deny,
        audit,
        owner,
        words,
    })
}
