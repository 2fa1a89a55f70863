// SPDX-License-Identifier: Apache-2.0
//! What a filter does with a call, ordered by strictness.

/// EPERM: what SCMP_ACT_ERRNO returns when nothing is said.
const EPERM: u32 = 1;

/// An action with the number that it returns or reports. The order is the kernel's: of several filters' actions the
/// greatest one is taken (seccomp(2)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Action {
    pub(super) kind: Kind,
    /// errno of ERRNO, message of TRACE; 0 for the others.
    pub(super) data: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Allow,
    Log,
    Trace,
    Notify,
    Errno,
    Trap,
    KillThread,
    KillProcess,
}

impl Action {
    pub(super) fn parse(name: &str, data: Option<u32>) -> Option<Self> {
        let kind = match name {
            "SCMP_ACT_ALLOW" => Kind::Allow,
            "SCMP_ACT_LOG" => Kind::Log,
            "SCMP_ACT_TRACE" => Kind::Trace,
            "SCMP_ACT_NOTIFY" => Kind::Notify,
            "SCMP_ACT_ERRNO" => Kind::Errno,
            "SCMP_ACT_TRAP" => Kind::Trap,
            "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => Kind::KillThread,
            "SCMP_ACT_KILL_PROCESS" => Kind::KillProcess,
            _ => return None,
        };
        let data = match kind {
            Kind::Errno | Kind::Trace => data.unwrap_or(EPERM),
            _ => 0,
        };
        Some(Self { kind, data })
    }

    pub(super) fn name(self) -> &'static str {
        match self.kind {
            Kind::Allow => "SCMP_ACT_ALLOW",
            Kind::Log => "SCMP_ACT_LOG",
            Kind::Trace => "SCMP_ACT_TRACE",
            Kind::Notify => "SCMP_ACT_NOTIFY",
            Kind::Errno => "SCMP_ACT_ERRNO",
            Kind::Trap => "SCMP_ACT_TRAP",
            Kind::KillThread => "SCMP_ACT_KILL_THREAD",
            Kind::KillProcess => "SCMP_ACT_KILL_PROCESS",
        }
    }

    /// What must be written beside the name.
    pub(super) fn data(self) -> Option<u32> {
        matches!(self.kind, Kind::Errno | Kind::Trace).then_some(self.data)
    }
}
