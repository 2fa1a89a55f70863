// SPDX-License-Identifier: Apache-2.0
//! Which kernel mechanisms a policy uses.

use crate::error::suggestion;
use std::fmt;

/// A mechanism that enforces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Enforcer {
    /// The AppArmor LSM.
    AppArmor,
    /// BPF programs on LSM hooks.
    Bpf,
    /// The seccomp filter of the container.
    Seccomp,
    /// A proxy beside the container.
    NetworkProxy,
}

impl Enforcer {
    /// All of them, in the order in which they are written.
    pub const ALL: [Self; 4] = [Self::AppArmor, Self::Bpf, Self::Seccomp, Self::NetworkProxy];

    /// The name in a policy.
    pub fn name(self) -> &'static str {
        match self {
            Self::AppArmor => "AppArmor",
            Self::Bpf => "BPF",
            Self::Seccomp => "Seccomp",
            Self::NetworkProxy => "NetworkProxy",
        }
    }
}

/// A set of enforcers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Enforcers(u8);

impl Enforcers {
    /// Those that a node has.
    pub const NODE: Self = Self(
        1 << Enforcer::AppArmor as u8 | 1 << Enforcer::Bpf as u8 | 1 << Enforcer::Seccomp as u8,
    );

    /// Reads `spec.policy.enforcer`: names in any case and any order, written together.
    ///
    /// # Errors
    /// A sentence that says what is left over. vArmor takes any text that contains a name; here the whole text must
    /// be names, so that `AppAmorBPF` does not quietly become BPF alone.
    pub fn parse(text: &str) -> Result<Self, String> {
        let lower = text.to_ascii_lowercase();
        let mut rest = lower.as_str();
        let mut set = Self::default();
        'names: while !rest.is_empty() {
            for enforcer in Enforcer::ALL {
                if let Some(after) =
                    rest.strip_prefix(enforcer.name().to_ascii_lowercase().as_str())
                {
                    if set.contains(enforcer) {
                        return Err(format!(
                            "`{text}` names {} twice; write it once",
                            enforcer.name()
                        ));
                    }
                    set.insert(enforcer);
                    rest = after;
                    continue 'names;
                }
            }
            let names = Enforcer::ALL.map(Enforcer::name);
            return Err(format!(
                "`{text}`: `{rest}` is no enforcer{}; write AppArmor, BPF and Seccomp together, such as `AppArmorBPF`",
                suggestion(rest, names)
            ));
        }
        if set.is_empty() {
            return Err("no enforcer is named; write AppArmor, BPF and Seccomp together, such as `AppArmorBPF`".into());
        }
        Ok(set)
    }

    /// Whether an enforcer is in the set.
    pub fn contains(self, enforcer: Enforcer) -> bool {
        self.0 & (1 << enforcer as u8) != 0
    }

    /// Adds an enforcer.
    pub fn insert(&mut self, enforcer: Enforcer) {
        self.0 |= 1 << enforcer as u8;
    }

    /// Takes an enforcer out.
    pub fn remove(&mut self, enforcer: Enforcer) {
        self.0 &= !(1 << enforcer as u8);
    }

    /// Whether no enforcer is left.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The enforcers, in the order of [`Enforcer::ALL`].
    pub fn iter(self) -> impl Iterator<Item = Enforcer> {
        Enforcer::ALL.into_iter().filter(move |e| self.contains(*e))
    }
}

impl FromIterator<Enforcer> for Enforcers {
    fn from_iter<I: IntoIterator<Item = Enforcer>>(iter: I) -> Self {
        let mut set = Self::default();
        for enforcer in iter {
            set.insert(enforcer);
        }
        set
    }
}

/// The names written together, as [`Enforcers::parse`] reads them.
impl fmt::Display for Enforcers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.iter().try_for_each(|e| f.write_str(e.name()))
    }
}

impl serde::Serialize for Enforcers {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Enforcers {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <String as serde::Deserialize>::deserialize(deserializer)?;
        if text.is_empty() {
            Ok(Self::default())
        } else {
            Self::parse(&text).map_err(serde::de::Error::custom)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Enforcer::{AppArmor, Bpf, NetworkProxy, Seccomp};

    #[test]
    fn names_are_read_in_any_order_and_case() {
        let cases: [(&str, &[Enforcer]); 5] = [
            ("AppArmor", &[AppArmor]),
            ("apparmorbpfseccomp", &[AppArmor, Bpf, Seccomp]),
            ("SeccompBPF", &[Bpf, Seccomp]),
            ("NetworkProxyBPFSeccomp", &[Bpf, Seccomp, NetworkProxy]),
            ("BPF", &[Bpf]),
        ];
        for (text, expected) in cases {
            let set = Enforcers::parse(text).expect(text);
            assert_eq!(set.iter().collect::<Vec<_>>(), expected, "{text}");
            assert_eq!(Enforcers::parse(&set.to_string()), Ok(set));
        }
    }

    #[test]
    fn rubbish_is_refused() {
        for text in [
            "",
            "AppAmorBPF",
            "xBPF",
            "BPF Seccomp",
            "BPF,Seccomp",
            "BPFBPF",
            "SELinux",
        ] {
            assert!(Enforcers::parse(text).is_err(), "{text}");
        }
        assert!(
            Enforcers::parse("Secomp")
                .expect_err("refused")
                .contains("did you mean `Seccomp`")
        );
    }
}
