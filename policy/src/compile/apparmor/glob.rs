// SPDX-License-Identifier: Apache-2.0
//! AppArmor's patterns (apparmor.d(5), "Globbing"), as its parser reads them.

/// Most ways through the braces of one pattern.
const MAX_ALTERNATIVES: usize = 4096;

/// AppArmor's variables with the values of its tunables, as patterns.
const VARIABLES: [(&str, &str); 16] = [
    ("@{PROC}", "/proc/"),
    ("@{HOME}", "{/home/*/,/root/}"),
    ("@{HOMEDIRS}", "/home/"),
    ("@{etc_ro}", "{/etc/,/usr/etc/}"),
    ("@{etc_rw}", "/etc/"),
    ("@{run}", "{/run/,/var/run/}"),
    ("@{sys}", "/sys/"),
    ("@{securityfs}", "/sys/kernel/security/"),
    ("@{apparmorfs}", "/sys/kernel/security/apparmor/"),
    ("@{multiarch}", "*-linux-gnu*"),
    ("@{pid}", "[1-9]{,[0-9],[0-9][0-9],[0-9][0-9][0-9]*}"),
    ("@{pids}", "[1-9]{,[0-9],[0-9][0-9],[0-9][0-9][0-9]*}"),
    ("@{tid}", "[1-9]{,[0-9],[0-9][0-9],[0-9][0-9][0-9]*}"),
    ("@{uid}", "[0-9]{,[0-9],[0-9][0-9],[0-9][0-9][0-9]*}"),
    ("@{uids}", "[0-9]{,[0-9],[0-9][0-9],[0-9][0-9][0-9]*}"),
    (
        "@{share}",
        "{/usr/share,/usr/local/share,/home/*/.local/share,/root/.local/share}",
    ),
];

/// A part of a pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Byte(u8),
    /// One byte of these, or outside them; never `/`.
    Set(Vec<(u8, u8)>, bool),
    /// Any bytes but `/`.
    Star,
    /// Any bytes.
    DoubleStar,
}

/// A pattern: one sequence of tokens for each way through its braces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Glob(Vec<Vec<Token>>);

impl Glob {
    /// Reads a pattern; `None` when it is not understood here (an unknown variable, too many alternatives).
    pub(crate) fn parse(text: &str, profile: &str) -> Option<Self> {
        let mut expanded = text.replace("@{profile_name}", profile);
        for (name, value) in VARIABLES {
            expanded = expanded.replace(name, value);
        }
        // Variables end in `/`, and what follows them begins with one.
        while expanded.contains("//") {
            expanded = expanded.replace("//", "/");
        }
        expanded = expanded.replace("/}/", "}/").replace("/,/", ",/");
        if expanded.contains("@{") {
            return None;
        }
        let mut parser = Parser {
            text: expanded.as_bytes(),
            at: 0,
        };
        let alternatives = parser.sequence(false)?;
        (parser.at == expanded.len()).then_some(Self(alternatives))
    }

    /// Whether the whole text matches.
    pub(crate) fn matches(&self, text: &str) -> bool {
        self.0.iter().any(|tokens| matches(tokens, text.as_bytes()))
    }
}

struct Parser<'a> {
    text: &'a [u8],
    at: usize,
}

impl Parser<'_> {
    fn sequence(&mut self, in_braces: bool) -> Option<Vec<Vec<Token>>> {
        let mut sequences = vec![Vec::new()];
        while let Some(&byte) = self.text.get(self.at) {
            let tokens = match byte {
                b'}' | b',' if in_braces => break,
                b'{' => {
                    sequences = product(&sequences, &self.braces()?)?;
                    continue;
                }
                b'[' => vec![self.set()?],
                b'?' => {
                    self.at += 1;
                    vec![Token::Set(Vec::new(), true)]
                }
                b'*' => self.stars(),
                b'\\' => {
                    self.at += 2;
                    vec![Token::Byte(*self.text.get(self.at - 1)?)]
                }
                byte => {
                    self.at += 1;
                    vec![Token::Byte(byte)]
                }
            };
            for sequence in &mut sequences {
                sequence.extend_from_slice(&tokens);
            }
        }
        Some(sequences)
    }

    fn braces(&mut self) -> Option<Vec<Vec<Token>>> {
        let mut all = Vec::new();
        loop {
            self.at += 1;
            all.extend(self.sequence(true)?);
            match self.text.get(self.at)? {
                b',' => {}
                _ => break,
            }
        }
        self.at += 1;
        (all.len() <= MAX_ALTERNATIVES).then_some(all)
    }

    /// Stars for a whole component match no empty one.
    fn stars(&mut self) -> Vec<Token> {
        let starts_component = self.at > 0 && self.text[self.at - 1] == b'/';
        let start = self.at;
        while self.text.get(self.at) == Some(&b'*') {
            self.at += 1;
        }
        let ends_component = matches!(self.text.get(self.at), None | Some(b'/'));
        let star = if self.at - start > 1 {
            Token::DoubleStar
        } else {
            Token::Star
        };
        if starts_component && ends_component {
            vec![Token::Set(Vec::new(), true), star]
        } else {
            vec![star]
        }
    }

    fn set(&mut self) -> Option<Token> {
        self.at += 1;
        let negated = self.text.get(self.at) == Some(&b'^');
        self.at += usize::from(negated);
        let mut ranges = Vec::new();
        loop {
            let first = *self.text.get(self.at)?;
            self.at += 1;
            match first {
                b']' if !ranges.is_empty() => return Some(Token::Set(ranges, negated)),
                first => {
                    let last = match self.text[self.at..] {
                        [b'-', last, ..] if last != b']' => {
                            self.at += 2;
                            last
                        }
                        _ => first,
                    };
                    ranges.push((first, last));
                }
            }
        }
    }
}

fn product(left: &[Vec<Token>], right: &[Vec<Token>]) -> Option<Vec<Vec<Token>>> {
    let pairs = left
        .iter()
        .flat_map(|l| right.iter().map(|r| [&l[..], &r[..]].concat()));
    (left.len() * right.len() <= MAX_ALTERNATIVES).then(|| pairs.collect())
}

/// Which tokens may come next, byte by byte.
fn matches(tokens: &[Token], text: &[u8]) -> bool {
    let mut at = vec![false; tokens.len() + 1];
    at[0] = true;
    skip_stars(tokens, &mut at);
    for &byte in text {
        let mut next = vec![false; tokens.len() + 1];
        for (position, token) in tokens
            .iter()
            .enumerate()
            .filter(|(position, _)| at[*position])
        {
            match token {
                Token::Byte(other) => next[position + 1] |= *other == byte,
                Token::Set(ranges, negated) => {
                    let within = ranges
                        .iter()
                        .any(|(first, last)| (*first..=*last).contains(&byte));
                    next[position + 1] |= byte != b'/' && within != *negated;
                }
                Token::Star => next[position] |= byte != b'/',
                Token::DoubleStar => next[position] = true,
            }
        }
        at = next;
        skip_stars(tokens, &mut at);
    }
    at[tokens.len()]
}

/// Stars may match nothing.
fn skip_stars(tokens: &[Token], at: &mut [bool]) {
    for (position, token) in tokens.iter().enumerate() {
        if at[position] && matches!(token, Token::Star | Token::DoubleStar) {
            at[position + 1] = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_patterns_match() {
        for (pattern, yes, no) in [
            (
                "/etc/shadow",
                &["/etc/shadow"][..],
                &["/etc/shadow-", "/etc"][..],
            ),
            ("/etc/**", &["/etc/a", "/etc/a/b"], &["/etc/", "/etc"]),
            ("/etc/*", &["/etc/a"], &["/etc/", "/etc/a/b"]),
            ("/a/*/b", &["/a/x/b"], &["/a//b", "/a/b", "/a/x/y/b"]),
            ("/a/**/b", &["/a/x/b", "/a/x/y/b"], &["/a/b"]),
            ("/**/sh", &["/bin/sh", "/usr/bin/sh"], &["/sh", "/bin/bash"]),
            ("/a*", &["/a", "/ab"], &["/a/b"]),
            ("/a**", &["/a", "/ab/c"], &["/b"]),
            ("/a?", &["/ab"], &["/a", "/a/"]),
            ("/a[^b-c]", &["/ad"], &["/ab", "/ac", "/a/"]),
            ("/{a,b/c}/d", &["/a/d", "/b/c/d"], &["/b/d"]),
            (
                "/proc{,/,/**}",
                &["/proc", "/proc/", "/proc/1"],
                &["/procs"],
            ),
            (
                "@{PROC}/*",
                &["/proc/kcore"],
                &["/proc//kcore", "/proc/1/mem"],
            ),
            (
                "@{PROC}/sys/[^k]**",
                &["/proc/sys/vm/x"],
                &["/proc/sys/kernel"],
            ),
            (
                "@{HOME}/.ssh/**",
                &["/root/.ssh/id", "/home/me/.ssh/id"],
                &["/home/.ssh/id"],
            ),
            ("@{run}/a", &["/run/a", "/var/run/a"], &["/run//a"]),
            ("/a\\*", &["/a*"], &["/ab"]),
            ("", &[""], &["/"]),
        ] {
            let glob = Glob::parse(pattern, "p").expect(pattern);
            for text in yes {
                assert!(glob.matches(text), "{pattern} must match {text}");
            }
            for text in no {
                assert!(!glob.matches(text), "{pattern} must not match {text}");
            }
        }
        for pattern in ["/@{unknown}/a", "/{a", "/[a"] {
            assert_eq!(Glob::parse(pattern, "p"), None, "{pattern}");
        }
    }
}
