// SPDX-License-Identifier: Apache-2.0
//! What plugin and hook add to CRI create and start of a container.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};

use super::containerd::{Containerd, Extra};
use super::daemon::Daemon;
use super::pods::{self, Pod, Took};
use super::{Programs, hook, is_attached, runtime};
use crate::figures::{Figure, Section, Unit, median};

/// Starts that don't count: they fill containerd's caches.
const WARM_UP: usize = 3;

/// Starts containers in a containerd without anything, in one whose containers have an empty hook, and in one with the
/// plugin, by turns, `count` times each. All keep their state below `place`.
///
/// # Errors
///
/// Fails when a part does not come up or a container is refused.
pub fn measure(programs: &Programs, count: usize, place: &Path) -> Result<Section> {
    let directory = tempfile::tempdir_in(place).context("making a directory")?;
    let at = |name: &str| directory.path().join(name);
    let start =
        |name, extra| Containerd::start(&programs.containerd, &at(name), &programs.images, extra);
    let plain = start("without", Extra::None)?;
    let hooked = start("empty-hook", Extra::EmptyHook)?;
    let plugged = start("with", Extra::Nri)?;
    let daemon = Daemon::start(programs, &plugged, &at("daemon"), &pods::policy("Seccomp"))?;
    let attached = is_attached();
    pods::prefer_pods();
    let turns = runtime()?.block_on(by_turns([&plain, &hooked, &plugged], count));
    pods::remove_control_groups();
    let turns = turns.with_context(|| format!("the daemon says:\n{}", daemon.log()))?;
    drop(daemon);
    let binding = hook::binding_cost(programs)?;
    Ok(section(&turns, place, attached, binding))
}

/// One start of each kind.
struct Turn {
    without: Took,
    empty_hook: Took,
    with: Took,
}

async fn by_turns(containerds: [&Containerd; 3], count: usize) -> Result<Vec<Turn>> {
    let [plain, hooked, plugged] = containerds;
    let mut pods = [
        Pod::start(&plain.socket(), "without").await?,
        Pod::start(&hooked.socket(), "empty-hook").await?,
        Pod::start(&plugged.socket(), "with").await?,
    ];
    let mut turns = Vec::new();
    for number in 0..WARM_UP + count {
        let mut took = [None; 3];
        // Who is first has the colder machine.
        for offset in 0..3 {
            let whose = (number + offset) % 3;
            took[whose] = Some(pods[whose].add_container().await?);
        }
        if let ([Some(without), Some(empty_hook), Some(with)], true) = (took, number >= WARM_UP) {
            turns.push(Turn {
                without,
                empty_hook,
                with,
            });
        }
    }
    for pod in pods {
        pod.remove().await?;
    }
    Ok(turns)
}

fn section(turns: &[Turn], place: &Path, attached: bool, binding: f64) -> Section {
    let of = |value: fn(&Turn) -> f64| turns.iter().map(value).collect::<Vec<f64>>();
    let added = of(|turn| milliseconds(turn.with.total()) - milliseconds(turn.without.total()));
    let (low, high) = quartiles(&added);
    let refusal = if attached {
        "the LSM programs are attached"
    } else {
        "this kernel refuses to attach LSM programs, so that no container here has BPF rules"
    };
    let notes = vec![
        format!("containerd 2.1 and runc on this machine, in {}, {} starts of each by turns", place.display(), turns.len()),
        "a policy with the enforcer Seccomp: the plugin changes the container's spec, the hook checks the filter".to_owned(),
        "all containers have the runtime's default filter, into which the policy's rules are merged".to_owned(),
        format!("half of the differences lie between {low:.1} and {high:.1} ms: that wide is the machine's noise"),
        refusal.to_owned(),
        "binding in the BPF maps (real ones), measured with the hook alone, is added".to_owned(),
    ];
    let row = |name: &str, value| Figure::new(name, value, Unit::Milliseconds);
    let figures = vec![
        row(
            "without plugin and hook, median",
            median(of(|turn| milliseconds(turn.without.total()))),
        ),
        row(
            "with plugin and hook, median",
            median(of(|turn| milliseconds(turn.with.total()))),
        ),
        row(
            "added to create, median",
            median(of(|turn| {
                milliseconds(turn.with.create) - milliseconds(turn.without.create)
            })),
        ),
        row(
            "added to start, median",
            median(of(|turn| {
                milliseconds(turn.with.start) - milliseconds(turn.without.start)
            })),
        ),
        row(
            "added to create, fastest tenths compared",
            fastest_tenth(of(|turn| milliseconds(turn.with.create)))
                - fastest_tenth(of(|turn| milliseconds(turn.without.create))),
        ),
        row(
            "added to start, fastest tenths compared",
            fastest_tenth(of(|turn| milliseconds(turn.with.start)))
                - fastest_tenth(of(|turn| milliseconds(turn.without.start))),
        ),
        row(
            "of that, runc's running of a hook that does nothing (/bin/true), median",
            median(of(|turn| {
                milliseconds(turn.empty_hook.total()) - milliseconds(turn.without.total())
            })),
        ),
        row("binding in the BPF maps", binding),
        row("added to create and start", median(added) + binding).target(5.0),
    ];
    Section {
        title: "Start of a container, natively".to_owned(),
        notes,
        figures,
    }
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
