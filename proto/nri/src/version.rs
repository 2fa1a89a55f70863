// SPDX-License-Identifier: Apache-2.0
//! Which runtime is at the other end, and what it can do.
//!
//! NRI 0.12 tells its version in `Configure`. Before that only the runtime's own version is known, in the spelling of
//! whoever built it, and the NRI version follows from the table in [`nri_of_containerd`].

use std::fmt;

use crate::event::EventMask;

/// Release number of a version string, such as 2.1.9 of "v2.1.9+unknown".
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Release {
    /// First number.
    pub major: u32,
    /// Second number.
    pub minor: u32,
    /// Third number, 0 when absent.
    pub patch: u32,
    /// False for an alpha, beta, release candidate or development version, which comes before the release.
    pub released: bool,
}

impl Release {
    /// Reads "1.7.24~ds1", "2.1.9+unknown", "v2.2.0", "2.2.0-rc.1", "0.12.0", "2.3". A Debian suffix such as `~ds1` or
    /// `-1` is not a pre-release. `None` when it does not begin with two numbers.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let text = text.strip_prefix(['v', 'V']).unwrap_or(text);
        let end = text
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(text.len());
        let (numbers, suffix) = text.split_at(end);
        let mut parts = numbers.trim_end_matches('.').split('.');
        let major = parts.next()?.parse().ok()?;
        let minor = parts.next()?.parse().ok()?;
        let patch = match parts.next() {
            Some(patch) => patch.parse().ok()?,
            None => 0,
        };
        let suffix = suffix
            .split('+')
            .next()
            .unwrap_or_default()
            .to_ascii_lowercase();
        let released = !["alpha", "beta", "rc", "dev", "pre"].iter().any(|word| suffix.contains(word))
            // A Go pseudo-version (v0.12.1-0.20260101000000-abcdef) names a state before that release.
            && !suffix.starts_with("-0.");
        Some(Self {
            major,
            minor,
            patch,
            released,
        })
    }

    /// A release with these numbers.
    pub const fn new(major: u32, minor: u32, patch: u32) -> Self {
        Self {
            major,
            minor,
            patch,
            released: true,
        }
    }
}

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)?;
        if !self.released {
            f.write_str(" (pre-release)")?;
        }
        Ok(())
    }
}

/// The runtime at the other end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuntimeVersion {
    /// Its name: "containerd", "cri-o".
    pub runtime: String,
    /// Its version as it told it.
    pub version: String,
    /// NRI version that it speaks: told, or else inferred from the version of containerd. `None` for another runtime
    /// or an unreadable version; nothing beyond NRI 0.3 is then assumed.
    pub nri: Option<Release>,
}

impl RuntimeVersion {
    /// From the fields of `ConfigureRequest`; `nri` is empty before NRI 0.12.
    pub fn new(runtime: &str, version: &str, nri: &str) -> Self {
        let told = Release::parse(nri);
        let inferred = || match (runtime, Release::parse(version)) {
            ("containerd", Some(release)) => nri_of_containerd(release),
            _ => None,
        };
        Self {
            runtime: runtime.to_owned(),
            version: version.to_owned(),
            nri: told.or_else(inferred),
        }
    }

    fn speaks(&self, minor: u32) -> bool {
        self.nri.is_some_and(|nri| nri >= Release::new(0, minor, 0))
    }

    /// Whether a `seccomp_policy` in an adjustment has an effect (NRI 0.10). An older runtime drops it silently.
    pub fn can_adjust_seccomp(&self) -> bool {
        self.speaks(10)
    }

    /// Whether the runtime asks plugins to validate adjustments (NRI 0.10).
    pub fn has_validators(&self) -> bool {
        self.speaks(10)
    }

    /// Events that the runtime knows. It refuses a plugin that subscribes to any other.
    pub fn known_events(&self) -> EventMask {
        if self.speaks(10) {
            EventMask::ALL
        } else {
            EventMask::BASE
        }
    }
}

impl fmt::Display for RuntimeVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.runtime, self.version)?;
        match &self.nri {
            Some(nri) => write!(f, " (NRI {nri})"),
            None => f.write_str(" (NRI version unknown)"),
        }
    }
}

/// The NRI version built into a release of containerd; `None` before 1.7, which had another NRI.
pub fn nri_of_containerd(release: Release) -> Option<Release> {
    let at_least = |major, minor, patch| release >= Release::new(major, minor, patch);
    if at_least(2, 3, 0) {
        Some(Release::new(0, 12, 0))
    } else if at_least(2, 2, 1) {
        Some(Release::new(0, 11, 0))
    } else if at_least(2, 2, 0) {
        Some(Release::new(0, 10, 0))
    } else if at_least(1, 7, 26) {
        Some(Release::new(0, 8, 0))
    } else if at_least(1, 7, 0) {
        // 0.3 in 1.7.0, 0.6.1 in 1.7.25; nothing that this crate uses came between them.
        Some(Release::new(0, 3, 0))
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings() {
        for (text, want) in [
            ("1.7.24~ds1", Release::new(1, 7, 24)),
            ("2.1.9+unknown", Release::new(2, 1, 9)),
            ("v2.2.0", Release::new(2, 2, 0)),
            ("2.3", Release::new(2, 3, 0)),
            ("v0.12.0", Release::new(0, 12, 0)),
            ("2.2.0-1~deb13u1", Release::new(2, 2, 0)),
            ("1.7.20.m", Release::new(1, 7, 20)),
        ] {
            assert_eq!(Release::parse(text), Some(want), "{text}");
        }
        for text in [
            "2.2.0-rc.1",
            "2.2.0~rc1",
            "v2.2.0-beta.0",
            "v0.10.0-0.20250101000000-0123456789ab",
        ] {
            assert!(!Release::parse(text).unwrap().released, "{text}");
        }
        for text in ["", "unknown", "(devel)", "v", "2", "2.x", "99999999999.1"] {
            assert_eq!(Release::parse(text), None, "{text}");
        }
    }

    #[test]
    fn seccomp_needs_nri_0_10() {
        for (version, nri, want) in [
            ("1.7.24~ds1", "", false),
            ("1.7.26", "", false),
            ("2.1.9+unknown", "", false),
            ("2.2.0-rc.1", "", false),
            ("v2.2.0", "", true),
            ("v2.2.1", "", true),
            ("2.3.4", "", true),
            ("2.3.4", "v0.12.0", true),
            // What the runtime tells goes before what its version suggests.
            ("2.3.4", "0.9.0", false),
            ("1.7.24", "0.12.0", true),
            ("2.3.4", "(devel)", true),
            ("unknown", "", false),
        ] {
            let runtime = RuntimeVersion::new("containerd", version, nri);
            assert_eq!(
                runtime.can_adjust_seccomp(),
                want,
                "{version} {nri}: {runtime}"
            );
        }
        assert!(!RuntimeVersion::new("cri-o", "2.3.4", "").can_adjust_seccomp());
        assert!(RuntimeVersion::new("cri-o", "1.36.0", "v0.12.0").can_adjust_seccomp());
    }

    #[test]
    fn events_by_version() {
        let known = |version| RuntimeVersion::new("containerd", version, "").known_events();
        assert_eq!(known("1.7.24~ds1").bits(), (1 << 11) - 1);
        assert_eq!(known("2.1.9+unknown").bits(), (1 << 11) - 1);
        assert_eq!(known("2.2.0").bits(), (1 << 14) - 1);
        assert_eq!(known("2.3.0").bits(), (1 << 14) - 1);
    }
}
