// SPDX-License-Identifier: Apache-2.0
//! What plugin and hook add to CRI create and start of a container.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};

use super::containerd::{Containerd, Extra};
use super::daemon::Daemon;
use super::grace_periods::GracePeriods;
use super::pods::{self, Pod, Took};
use super::{Programs, hook, is_attached, runtime};
use crate::figures::{Figure, Section, Unit, median};

/// Starts that don't count: they fill containerd's caches.
const WARM_UP: usize = 3;
/// After this many starts the pods are made anew: each container that runs makes the next start slower.
const BATCH: usize = 25;

/// What a policy needs, and so what is done for a container.
struct Need {
    name: &'static str,
    /// Label `app` of the pods.
    app: &'static str,
}

const NEEDS: [Need; 2] = [
    Need {
        name: "BPF alone",
        // No policy selects it: a kernel that refuses BPF would refuse it a policy with BPF.
        app: "opted-in",
    },
    Need {
        name: "the specification updated",
        app: "bench",
    },
];

/// Starts containers in four containerds by turns, `count` times each, and that for each need: in one without a plugin, in
/// one whose containers have an empty hook, in one with the plugin, and in one that has NRI switched off. All keep their
/// state below `place`.
///
/// # Errors
///
/// Fails when a part does not come up or a container is refused.
pub fn measure(programs: &Programs, count: usize, place: &Path) -> Result<Section> {
    let directory = tempfile::tempdir_in(place).context("making a directory")?;
    let at = |name: &str| directory.path().join(name);
    let start =
        |name, extra| Containerd::start(&programs.containerd, &at(name), &programs.images, extra);
    let plain = start("without", Extra::Nri)?;
    let hooked = start("empty-hook", Extra::EmptyHook)?;
    let plugged = start("with", Extra::Nri)?;
    let off = start("off", Extra::WithoutNri)?;
    let policy = pods::policy("Seccomp");
    let daemon = Daemon::start(programs, &plugged, &at("daemon"), &policy)?;
    let attached = is_attached();
    pods::prefer_pods();
    let expedited = GracePeriods::expedite();
    let runtime = runtime()?;
    let mut measured = Vec::new();
    for need in &NEEDS {
        let turns = runtime.block_on(by_turns([&plain, &hooked, &plugged, &off], need.app, count));
        let turns = turns.with_context(|| format!("the daemon says:\n{}", daemon.log()));
        let failed = turns.is_err();
        measured.push((need, turns));
        if failed {
            break;
        }
    }
    pods::remove_control_groups();
    drop(expedited);
    drop(daemon);
    let binding = hook::binding_cost(programs)?;
    let mut section = Section {
        title: "Start of a container, natively".to_owned(),
        notes: notes(place, count, attached),
        figures: vec![Figure::new(
            "binding in the BPF maps",
            binding,
            Unit::Milliseconds,
        )],
    };
    for (need, turns) in measured {
        add(&mut section, need, &turns?, binding);
    }
    Ok(section)
}

/// One start of each kind.
struct Turn {
    without: Took,
    empty_hook: Took,
    with: Took,
    off: Took,
}

async fn by_turns(containerds: [&Containerd; 4], app: &str, count: usize) -> Result<Vec<Turn>> {
    let mut turns = Vec::new();
    while turns.len() < count {
        let left = count - turns.len();
        turns.extend(batch(containerds, app, left.min(BATCH)).await?);
    }
    Ok(turns)
}

async fn batch(containerds: [&Containerd; 4], app: &str, count: usize) -> Result<Vec<Turn>> {
    let mut pods = Vec::new();
    for containerd in containerds {
        pods.push(Pod::start(&containerd.socket(), app, app).await?);
    }
    let mut turns = Vec::new();
    for number in 0..WARM_UP + count {
        let mut took = [None; 4];
        // Who is first has the colder machine.
        for offset in 0..4 {
            let whose = (number + offset) % 4;
            took[whose] = Some(pods[whose].add_container().await?);
        }
        let [Some(without), Some(empty_hook), Some(with), Some(off)] = took else {
            continue;
        };
        if number >= WARM_UP {
            turns.push(Turn {
                without,
                empty_hook,
                with,
                off,
            });
        }
    }
    for pod in pods {
        pod.remove().await?;
    }
    Ok(turns)
}

fn notes(place: &Path, count: usize, attached: bool) -> Vec<String> {
    let refusal = if attached {
        "the LSM programs are attached"
    } else {
        "this kernel refuses to attach LSM programs, so that no container here has BPF rules"
    };
    vec![
        format!("containerd 2.1 and runc on this machine, in {}, {count} starts of each by turns; medians", place.display()),
        "\"without\" is the containerd that every user of version 2 has: NRI switched on, no plugin".to_owned(),
        "all containers have the runtime's default filter".to_owned(),
        "\"BPF alone\": a container that has opted in gets marker and hook, and keeps its specification, as with a policy for \
         BPF alone; binding in the BPF maps (real ones), measured with the hook alone, is added to both needs".to_owned(),
        "\"the specification updated\": a policy with the enforcer Seccomp, whose filter NRI does not carry before \
         containerd 2.2 (and AppArmor's profile never); the hook checks the filter".to_owned(),
        refusal.to_owned(),
        "the kernel's grace periods are expedited meanwhile, where it lets itself be told: they are most of the noise".to_owned(),
    ]
}

/// Adds what was measured of one need.
fn add(section: &mut Section, need: &Need, turns: &[Turn], binding: f64) {
    let added = |kind: fn(&Turn) -> Took, part: fn(Took) -> Duration| -> Vec<f64> {
        let difference = |turn| milliseconds(part(kind(turn))) - milliseconds(part(turn.without));
        turns.iter().map(difference).collect()
    };
    let all = |kind: fn(&Turn) -> Took| -> Vec<f64> {
        let total = |turn| milliseconds(kind(turn).total());
        turns.iter().map(total).collect()
    };
    let name = need.name;
    let both = added(|turn| turn.with, Took::total);
    let (low, high) = quartiles(&both);
    section.notes.push(format!(
        "{name}: half of the differences lie between {low:.1} and {high:.1} ms: that wide is the machine's noise"
    ));
    let row = |what: &str, value| Figure::new(format!("{name}: {what}"), value, Unit::Milliseconds);
    section.figures.extend([
        row("without plugin and hook", median(all(|turn| turn.without))),
        row(
            "with NRI switched off, less by",
            -median(added(|turn| turn.off, Took::total)),
        ),
        row(
            "added by a hook that does nothing (/bin/true)",
            median(added(|turn| turn.empty_hook, Took::total)),
        ),
        row(
            "added to create",
            median(added(|turn| turn.with, |took| took.create)),
        ),
        row(
            "added to start",
            median(added(|turn| turn.with, |took| took.start)) + binding,
        ),
        row(
            "added to both, fastest tenths compared",
            fastest_tenth(all(|turn| turn.with)) - fastest_tenth(all(|turn| turn.without))
                + binding,
        ),
        row("added to create and start", median(both) + binding).target(5.0),
    ]);
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// What a tenth of the values is not above: on a busy machine, those that nothing disturbed.
fn fastest_tenth(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 10]
}

fn quartiles(values: &[f64]) -> (f64, f64) {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    (values[values.len() / 4], values[values.len() * 3 / 4])
}
