// SPDX-License-Identifier: Apache-2.0
//! Path patterns, as users write them in `bpfRawRules`.
//!
//! | pattern | matches |
//! |---|---|
//! | `/etc/shadow` | that path and no other (vArmor also matched longer paths that begin so, by accident) |
//! | `?` | one byte, not `/` |
//! | `*` | any bytes within one component |
//! | `**` | any bytes, `/` included |
//! | `[abc]`, `[a-z]`, `[^abc]` | one byte of the set, or outside it; never `/` |
//! | `{a,b/c}` | one of the alternatives; may be nested |
//! | `\*` | the byte after the backslash itself |
//! | `/a/**/b` | `/a/b` too |
//! | `/a/**` | everything below `/a`, not `/a` itself |
//! | `*.log`, `sh` with a glob and without `/` | files of that name in any directory |
//!
//! Patterns are bytes, and need not be UTF-8 once matched: `*` matches names in any encoding.

mod parse;
mod token;

pub use token::{ByteSet, Token, reversed};

use parse::Parser;

/// Longest pattern in bytes: a path is at most PATH_MAX (4096) with its NUL.
pub const MAX_PATTERN_BYTES: usize = 4095;
/// Most alternatives that the braces of one pattern may multiply to.
pub const MAX_ALTERNATIVES: usize = 256;
/// Most bytes and globs of all the alternatives of one pattern together.
pub const MAX_TOKENS: usize = 32_768;

/// Why a text is no pattern, and what to write instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// Nothing there.
    #[error("the pattern is empty; write a path such as `/etc/shadow`")]
    Empty,
    /// Longer than any path.
    #[error("the pattern has {0} bytes; a path has at most {MAX_PATTERN_BYTES}")]
    TooLong(usize),
    /// A NUL byte, which no path holds.
    #[error("the pattern holds a NUL byte; no path does: take it out")]
    Nul,
    /// A line break or another control character, which nobody means.
    #[error("the pattern holds the control character {0:#04x}; take it out")]
    Control(u8),
    /// Neither a path nor a file name.
    #[error(
        "`{0}` is neither a path nor a glob for a file name; begin it with `/`, or write `/**/{0}` for any directory"
    )]
    Relative(String),
    /// Components that no resolved path has.
    #[error("`{0}` holds `{1}`; resolved paths never do: write the path as the kernel resolves it")]
    NeverMatches(String, &'static str),
    /// `[` without `]`, or a set that is empty.
    #[error("the set that `[` at byte {0} opens {1}; write `\\[` for the character itself")]
    Set(usize, &'static str),
    /// `{` without `}`.
    #[error("`{{` at byte {0} is never closed; write `\\{{` for the character itself")]
    OpenBrace(usize),
    /// `}` without `{`.
    #[error("`}}` at byte {0} closes nothing; write `\\}}` for the character itself")]
    CloseBrace(usize),
    /// Braces nested deeper than anyone reads.
    #[error("`{{` at byte {0} is nested deeper than 8; write several rules")]
    Nesting(usize),
    /// A backslash at the end.
    #[error("the pattern ends in a lone backslash; write `\\\\` for the character itself")]
    Backslash,
    /// Three stars or more.
    #[error("`***` at byte {0}; write `*` (one component) or `**` (any depth)")]
    Stars(usize),
    /// The braces multiply beyond reason.
    #[error(
        "the braces make more than {MAX_ALTERNATIVES} alternatives or {MAX_TOKENS} bytes; write several rules"
    )]
    Alternatives,
}

/// A parsed pattern: one token sequence for each way through its braces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    alternatives: Vec<Vec<Token>>,
}

impl Pattern {
    /// Parses a pattern for absolute paths.
    ///
    /// # Errors
    /// [`PatternError`], whose text says what to write instead.
    pub fn path(text: &str) -> Result<Self, PatternError> {
        let alternatives = parse_alternatives(text)?;
        let file_name = !text.contains('/') && !text.contains("**");
        if file_name
            && matches!(&alternatives[..], [one] if one.iter().all(|t| matches!(t, Token::Byte(_))))
        {
            return Err(PatternError::Relative(text.to_owned()));
        }
        let alternatives = alternatives
            .into_iter()
            .map(|tokens| {
                if file_name {
                    Ok(in_any_directory(tokens))
                } else {
                    absolute(tokens, text)
                }
            })
            .collect::<Result<_, _>>()?;
        Ok(Self { alternatives })
    }

    /// Parses a pattern for the source of a mount, which is any text (`proc`, `/dev/sda1`), with the same globs.
    ///
    /// # Errors
    /// As [`Pattern::path`].
    pub fn mount_source(text: &str) -> Result<Self, PatternError> {
        Ok(Self {
            alternatives: parse_alternatives(text)?
                .into_iter()
                .map(|t| token::with_deep(&t))
                .collect(),
        })
    }

    /// How many bytes and globs its alternatives have together.
    pub fn size(&self) -> usize {
        self.alternatives.iter().map(Vec::len).sum()
    }

    /// The token sequences; the pattern matches what any of them matches.
    pub fn alternatives(&self) -> &[Vec<Token>] {
        &self.alternatives
    }
}

fn parse_alternatives(text: &str) -> Result<Vec<Vec<Token>>, PatternError> {
    if text.is_empty() {
        return Err(PatternError::Empty);
    }
    if text.len() > MAX_PATTERN_BYTES {
        return Err(PatternError::TooLong(text.len()));
    }
    if let Some(byte) = text.bytes().find(|b| b.is_ascii_control()) {
        return Err(if byte == 0 {
            PatternError::Nul
        } else {
            PatternError::Control(byte)
        });
    }
    Parser::new(text.as_bytes()).parse()
}

/// A pattern for file names holds at every depth.
fn in_any_directory(tokens: Vec<Token>) -> Vec<Token> {
    [vec![Token::Byte(b'/'), Token::Deep], tokens].concat()
}

/// A pattern for whole paths must begin with `/` or with `**`, and be one that a resolved path can match.
fn absolute(mut tokens: Vec<Token>, text: &str) -> Result<Vec<Token>, PatternError> {
    match tokens.first() {
        Some(Token::Byte(b'/')) => {}
        // Every path begins with `/`, so `**/x` and `/**/x` are one pattern.
        Some(Token::Any) => {
            if tokens.get(1) == Some(&Token::Byte(b'/')) {
                tokens.insert(0, Token::Byte(b'/'));
            }
        }
        _ => return Err(PatternError::Relative(text.to_owned())),
    }
    let literal = |range: &[Token]| range.iter().all(|token| matches!(token, Token::Byte(_)));
    let components: Vec<&[Token]> = tokens
        .split(|token| *token == Token::Byte(b'/'))
        .skip(1)
        .collect();
    for (index, component) in components.iter().enumerate() {
        let found = match component {
            [] if index + 1 == components.len() => Some("a `/` at the end"),
            [] => Some("`//`"),
            [Token::Byte(b'.')] => Some("`/./`"),
            [Token::Byte(b'.'), Token::Byte(b'.')] => Some("`/../`"),
            component if literal(component) && component.len() > 255 => {
                Some("a component of more than 255 bytes")
            }
            _ => None,
        };
        // `/` alone is the root directory.
        if let Some(found) = found {
            if tokens.len() > 1 {
                return Err(PatternError::NeverMatches(text.to_owned(), found));
            }
        }
    }
    Ok(token::below_root(token::with_deep(&tokens)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::automata::naive;

    #[test]
    fn what_patterns_match() {
        let cases: &[(&str, &[&str], &[&str])] = &[
            (
                "/etc/shadow",
                &["/etc/shadow"],
                &["/etc/shadow-", "/etc/shado", "/x/etc/shadow"],
            ),
            ("/", &["/"], &["/a"]),
            ("/*", &["/a"], &["/", "/a/b"]),
            ("/**", &["/a", "/a/b"], &["/"]),
            (
                "/tm**",
                &["/tm", "/tmp", "/tmp/a", "/tmx/b/c"],
                &["/t", "/a/tmp"],
            ),
            (
                "/tmp/**/33",
                &["/tmp/33", "/tmp/a/33", "/tmp/a/b/33"],
                &["/tmp/a33", "/tmp33", "/tmp/33/a"],
            ),
            (
                "/**/runc",
                &["/runc", "/usr/bin/runc"],
                &["/usr/bin/crunc", "/runc/a"],
            ),
            (
                "**/runc",
                &["/runc", "/usr/bin/runc"],
                &["/usr/bin/crunc", "/runc/a"],
            ),
            ("**runc", &["/runc", "/usr/bin/crunc"], &["/runc/a"]),
            ("**", &["/", "/a", "/a/b"], &[]),
            ("/data/**", &["/data/a", "/data/a/b"], &["/data", "/dataa"]),
            (
                "/**/.ssh/**",
                &["/.ssh/id", "/root/.ssh/a/b"],
                &["/root/.ssh", "/root/a.ssh/id"],
            ),
            (
                "*.log",
                &["/a.log", "/var/log/b.log", "/.log"],
                &["/a.log/b", "/a.logs"],
            ),
            ("fi*", &["/a/file", "/fi"], &["/file/a", "/a/afi"]),
            ("?sh", &["/bin/bsh", "/zsh"], &["/bin/sh", "/bin/bash"]),
            (
                "/proc/*/mem",
                &["/proc/1/mem", "/proc/self/mem"],
                &["/proc/1/task/1/mem", "/proc/mem"],
            ),
            (
                "/proc/**/mem",
                &["/proc/1/mem", "/proc/1/task/1/mem", "/proc/mem"],
                &["/proc/1/amem"],
            ),
            ("/a/**b/c", &["/a/b/c", "/a/x/yb/c"], &["/a/c", "/ab/c"]),
            (
                "/dev/sd[a-c]",
                &["/dev/sda", "/dev/sdc"],
                &["/dev/sdd", "/dev/sd", "/dev/sd/"],
            ),
            (
                "/dev/sd[^a-c]",
                &["/dev/sdd", "/dev/sd^"],
                &["/dev/sda", "/dev/sd/"],
            ),
            ("/dev/sd[!a]", &["/dev/sd!", "/dev/sda"], &["/dev/sdb"]),
            ("/x[]-]", &["/x]", "/x-"], &["/x"]),
            (
                "/{etc,usr/{lib,share}}/p",
                &["/etc/p", "/usr/lib/p", "/usr/share/p"],
                &["/usr/p", "/etc/usr/lib/p"],
            ),
            ("{/a,/b/c}/d", &["/a/d", "/b/c/d"], &["/d", "/b/d"]),
            ("{*.a,b?}", &["/x.a", "/d/bc"], &["/b"]),
            ("{sh,bash}", &["/sh", "/bin/bash"], &["/bin/dash"]),
            ("/a{,b}c", &["/ac", "/abc"], &["/abbc"]),
            (r"/a\*b\{\}\[\\", &[r"/a*b{}[\"], &["/axb{}[\\"]),
            (
                "/a/**/b/**/c",
                &["/a/b/c", "/a/x/b/y/c", "/a/b/b/c"],
                &["/a/c", "/a/b"],
            ),
            ("/é*", &["/é", "/éa"], &["/e"]),
        ];
        for (pattern, yes, no) in cases {
            let parsed = Pattern::path(pattern).unwrap_or_else(|e| panic!("{pattern}: {e}"));
            for path in *yes {
                assert!(
                    naive::matches(&parsed, path.as_bytes()),
                    "{pattern} must match {path}"
                );
            }
            for path in *no {
                assert!(
                    !naive::matches(&parsed, path.as_bytes()),
                    "{pattern} must not match {path}"
                );
            }
        }
    }

    #[test]
    fn globs_match_bytes_that_are_not_utf8() {
        let parsed = Pattern::path("/a/*.log").expect("valid");
        assert!(naive::matches(&parsed, b"/a/\xff\xfe.log"));
    }

    #[test]
    fn mount_sources_are_any_text() {
        for (pattern, source, expected) in [
            ("proc", "proc", true),
            ("/proc**", "/proc/sys", true),
            ("**", "", true),
            ("/dev/*", "/dev/sda", true),
            ("tmp*", "tmpfs", true),
            ("tmp*", "/tmpfs", false),
        ] {
            let parsed = Pattern::mount_source(pattern).expect(pattern);
            assert_eq!(
                naive::matches(&parsed, source.as_bytes()),
                expected,
                "{pattern} on {source}"
            );
        }
    }

    #[test]
    fn what_is_no_pattern_is_refused_with_its_fix() {
        let long = "/".to_owned() + &"a".repeat(5000);
        let many = "/{a,b}".repeat(9);
        let big = format!("/{{{}}}{}", ["a"; 250].join(","), "x".repeat(1000));
        let component = format!("/{}/a", "x".repeat(256));
        let cases = [
            ("", "empty"),
            (long.as_str(), "5001 bytes"),
            ("/a\0", "NUL"),
            ("/a\nb", "control character 0x0a"),
            ("etc/shadow", "begin it with `/`"),
            ("runc", "write `/**/runc`"),
            ("*/a", "begin it with `/`"),
            ("a**", "begin it with `/`"),
            ("{/a,b}", "begin it with `/`"),
            ("/a/", "a `/` at the end"),
            ("/a//b", "`//`"),
            ("/a/./b", "`/./`"),
            ("/a/../b", "`/../`"),
            ("/a/..", "`/../`"),
            (component.as_str(), "255 bytes"),
            ("/a[", "is never closed"),
            ("/a[b", "is never closed"),
            ("/a[]", "is never closed"),
            ("/a[z-a]", "runs backwards"),
            ("/a[b/c]", "holds `/`"),
            ("/{a", "`{` at byte 1"),
            ("/a}", "`}` at byte 2"),
            ("/a\\", "lone backslash"),
            ("/a***", "`***` at byte 2"),
            ("/{{{{{{{{{a}}}}}}}}}", "nested deeper"),
            (many.as_str(), "alternatives"),
            (big.as_str(), "alternatives"),
        ];
        for (pattern, expected) in cases {
            let error = Pattern::path(pattern).expect_err(pattern).to_string();
            assert!(error.contains(expected), "{pattern}: {error}");
        }
    }
}
