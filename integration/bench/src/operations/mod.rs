// SPDX-License-Identifier: Apache-2.0
//! What whole operations cost under a real kernel, in instructions of the guest.

pub mod guest;
mod measure;
mod smallest_program;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::figures::{Figure, Section, Unit};
use crate::rules::Likeness;
use measure::Counts;

/// What a process says that waits to be bound.
pub const READY: &str = "ready";
/// Processes that count the same. What the kernel happens to have at hand for one (how its structures lie, in which order
/// its processors' lists are) adds the same to all of its counts, up to 500 for an open: the lowest has least of that.
const PROCESSES: usize = 3;
/// In emulation, with every instruction counted, and on a busy machine.
const TIMEOUT_SECONDS: u32 = 900;

/// Whom the operations are counted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Subject {
    /// A kernel without the programs.
    NothingLoaded,
    /// With the programs, a process that is no subject.
    Outside,
    /// A subject with so many rules.
    Rules(Likeness, usize),
    /// A subject with rules about so many single addresses, and none about paths.
    Destinations(usize),
}

impl Subject {
    const CONFINED: [Self; 12] = [
        Self::Rules(Likeness::Elsewhere, 0),
        Self::Rules(Likeness::Elsewhere, 1),
        Self::Rules(Likeness::Elsewhere, 10),
        Self::Rules(Likeness::Elsewhere, 50),
        Self::Rules(Likeness::Elsewhere, 200),
        Self::Rules(Likeness::Elsewhere, 1000),
        Self::Rules(Likeness::SharedPrefix, 50),
        Self::Rules(Likeness::SharedPrefix, 1000),
        Self::Rules(Likeness::AllButEqual, 50),
        Self::Rules(Likeness::AllButEqual, 1000),
        Self::Destinations(10),
        Self::Destinations(10_000),
    ];

    fn name(self) -> String {
        match self {
            Self::NothingLoaded => "nothing loaded".to_owned(),
            Self::Outside => "outside any policy".to_owned(),
            Self::Rules(_, 0) => "no path rules".to_owned(),
            Self::Destinations(count) => format!("{count} addresses"),
            Self::Rules(likeness, count) => format!("{count} rules, {}", likeness.name()),
        }
    }
}

/// Boots the VM of the `project` and counts.
///
/// # Errors
///
/// Fails when the VM does not boot or a measurement in it fails.
pub fn measure(project: &Path, kernel: &str) -> Result<Section> {
    let share = tempfile::tempdir().context("making a directory to share with the VM")?;
    std::fs::copy(std::env::current_exe()?, share.path().join("varmor-bench"))
        .context("copying this program")?;
    let output = Command::new(project.join("integration/vm/run"))
        .args([
            "--kernel",
            kernel,
            "--icount",
            "--timeout",
            &TIMEOUT_SECONDS.to_string(),
        ])
        // audit adds to every system call whatever is loaded; without fast string instructions (which the emulator
        // counts as one, whatever their length) copying counts by its length.
        .args(["--append", "audit=0 clearcpuid=erms"])
        .arg("--share")
        .arg(share.path())
        .args(["--", "./varmor-bench", "guest"])
        .stderr(Stdio::inherit())
        .output()
        .context("running integration/vm/run")?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(
        output.status.success(),
        "the measurement in the VM ended with {}:\n{text}",
        output.status
    );
    let mut notes = vec![format!(
        "kernel {kernel} in the VM, QEMU -icount, medians of 5 batches, the lowest of {PROCESSES} processes, as numbers added"
    )];
    notes.extend(
        text.lines()
            .filter_map(|line| line.strip_prefix("note "))
            .map(str::to_owned),
    );
    let counts: BTreeMap<String, Counts> = text
        .lines()
        .filter_map(|line| line.split_once(" = "))
        .filter_map(|(name, counts)| Some((name.to_owned(), Counts::from_line(counts)?)))
        .collect();
    section(&counts, notes)
}

/// Largest numbers that may be added, and what to aim for.
struct Limits {
    outside: Option<(f64, Option<f64>)>,
    subject: Option<(f64, Option<f64>)>,
}

fn section(counts: &BTreeMap<String, Counts>, mut notes: Vec<String>) -> Result<Section> {
    let get = |subject: Subject| {
        let name = subject.name();
        counts
            .get(&name)
            .copied()
            .with_context(|| format!("the VM did not measure: {name}"))
    };
    let nothing = get(Subject::NothingLoaded)?;
    notes.push(format!(
        "nothing loaded: open+close {}, exec {}, UDP connect {}, TCP connect {}",
        nothing.open, nothing.exec, nothing.udp, nothing.tcp
    ));
    let mut figures = Vec::new();
    let mut operation = |name: &str, count: fn(Counts) -> u64, limits: Limits| {
        let mut add = |subject: Subject, limit: Option<(f64, Option<f64>)>| {
            let added = count(get(subject)?) as f64 - count(nothing) as f64;
            let mut figure = Figure::new(
                format!("{name}, {}", subject.name()),
                added,
                Unit::Instructions,
            );
            figure.target = limit.map(|(target, _)| target);
            figure.aim = limit.and_then(|(_, aim)| aim);
            figures.push(figure);
            anyhow::Ok(())
        };
        add(Subject::Outside, limits.outside)?;
        Subject::CONFINED
            .into_iter()
            .try_for_each(|subject| add(subject, limits.subject))
    };
    let outside = Some((560.0, Some(300.0)));
    operation(
        "open+close",
        |counts| counts.open,
        Limits {
            outside,
            subject: Some((5500.0, Some(2900.0))),
        },
    )?;
    operation(
        "vfork+exec+wait",
        |counts| counts.exec,
        Limits {
            outside: None,
            subject: Some((4500.0, None)),
        },
    )?;
    operation(
        "UDP connect",
        |counts| counts.udp,
        Limits {
            outside,
            subject: Some((700.0, None)),
        },
    )?;
    operation(
        "TCP socket+connect+close",
        |counts| counts.tcp,
        Limits {
            outside: None,
            subject: None,
        },
    )?;
    Ok(Section {
        title:
            "Whole operations, in guest instructions: open of a path of 57 bytes, nothing matching"
                .to_owned(),
        notes,
        figures,
    })
}
