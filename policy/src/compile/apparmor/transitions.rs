//! What the container's rules say of executables that have rules of their own.
//!
//! Such an executable goes on in a child (`cx`). A rule that lets it go on in the profile (`ix`) and names it as exactly
//! would clash with that, and the whole profile would not load. A pattern gives way to a name, so a name is made a pattern.
//! What such a rule reports is reported of the way into the child.

use super::glob::Glob;
use super::rule::{FileRule, Rule, path_of};
use std::collections::BTreeSet;

/// Behind a name it makes a pattern of it that matches nothing more: there is nothing below a file that is executed. A star it
/// must be: to apparmor_parser 4.1 a set of characters is as exact as a name (to 3.0 it is not).
const NOTHING_MORE: &str = "{,/*}";

/// The ways into children that are reported.
#[derive(Default)]
pub(super) struct Reported(BTreeSet<(String, bool)>);

impl Reported {
    /// Qualifiers of the reports of one executable.
    pub(super) fn of(&self, target: &str) -> impl Iterator<Item = &'static str> {
        [(false, "audit"), (true, "audit owner")]
            .into_iter()
            .filter(|(owner, _)| self.0.contains(&(target.to_owned(), *owner)))
            .map(|(_, qualifiers)| qualifiers)
    }
}

/// A rule of the container, without its comma, as it can stand beside the ways into children.
pub(super) fn beside(
    line: &str,
    targets: &[&str],
    profile: &str,
    reported: &mut Reported,
) -> String {
    let unchanged = || line.to_owned();
    let Some(rule) = Rule::parse(line).filter(|rule| !rule.deny) else {
        return unchanged();
    };
    let (pattern, letters) = match rule.file() {
        Some(FileRule::Path(word, letters)) => (path_of(word), letters),
        Some(FileRule::Everything) => (None, "ix"),
        None => return unchanged(),
    };
    if !letters.contains('x') {
        return unchanged();
    }
    // What is not understood may match each of them.
    let glob = pattern.and_then(|pattern| Glob::parse(pattern, profile));
    let matches = |target: &&&str| glob.as_ref().is_none_or(|glob| glob.matches(target));
    let matched: Vec<_> = targets.iter().filter(matches).collect();
    if rule.audit {
        let reports = matched
            .iter()
            .map(|target| ((**target).to_owned(), rule.owner));
        reported.0.extend(reports);
    }
    match pattern {
        Some(pattern) if !matched.is_empty() => {
            line.replacen(pattern, &format!("{pattern}{NOTHING_MORE}"), 1)
        }
        _ => unchanged(),
    }
}
