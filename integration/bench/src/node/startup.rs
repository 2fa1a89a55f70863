//! What plugin and hook add to CRI create and start of a container.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};

use super::containerd::Containerd;
use super::daemon::Daemon;
use super::pods::{self, Pod, Took};
use super::{Programs, hook, is_attached, runtime};
use crate::figures::{Figure, Section, Unit, median};

/// Starts that don't count: they fill containerd's caches.
const WARM_UP: usize = 3;

/// Starts containers in one containerd with the plugin and in one without, by turns, `count` times. Both keep their
/// state below `place`.
///
/// # Errors
///
/// Fails when a part does not come up or a container is refused.
pub fn measure(programs: &Programs, count: usize, place: &Path) -> Result<Section> {
    let directory = tempfile::tempdir_in(place).context("making a directory")?;
    let at = |name: &str| directory.path().join(name);
    let start =
        |name, nri| Containerd::start(&programs.containerd, &at(name), &programs.images, nri);
    let plain = start("without", false)?;
    let plugged = start("with", true)?;
    let daemon = Daemon::start(programs, &plugged, &at("daemon"), &pods::policy("Seccomp"))?;
    let attached = is_attached();
    pods::prefer_pods();
    let pairs = runtime()?.block_on(by_turns(&plain, &plugged, count));
    pods::remove_control_groups();
    let pairs = pairs.with_context(|| format!("the daemon says:\n{}", daemon.log()))?;
    drop(daemon);
    let binding = hook::binding_cost(programs)?;
    Ok(section(&pairs, place, attached, binding))
}

/// One start without plugin and hook and one with them.
struct Pair {
    without: Took,
    with: Took,
}

async fn by_turns(plain: &Containerd, plugged: &Containerd, count: usize) -> Result<Vec<Pair>> {
    let mut without = Pod::start(&plain.socket(), "without").await?;
    let mut with = Pod::start(&plugged.socket(), "with").await?;
    let mut pairs = Vec::new();
    for number in 0..WARM_UP + count {
        // Who is first has the colder machine.
        let pair = if number % 2 == 0 {
            let without = without.add_container().await?;
            Pair {
                without,
                with: with.add_container().await?,
            }
        } else {
            let with = with.add_container().await?;
            Pair {
                without: without.add_container().await?,
                with,
            }
        };
        if number >= WARM_UP {
            pairs.push(pair);
        }
    }
    without.remove().await?;
    with.remove().await?;
    Ok(pairs)
}

fn section(pairs: &[Pair], place: &Path, attached: bool, binding: f64) -> Section {
    let of = |value: fn(&Pair) -> f64| pairs.iter().map(value).collect::<Vec<f64>>();
    let added = of(|pair| milliseconds(pair.with.total()) - milliseconds(pair.without.total()));
    let (low, high) = quartiles(&added);
    let refusal = if attached {
        "the LSM programs are attached"
    } else {
        "this kernel refuses to attach LSM programs, so that no container here has BPF rules"
    };
    let notes = vec![
        format!("containerd 2.1 and runc on this machine, in {}, {} pairs by turns", place.display(), pairs.len()),
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
            median(of(|pair| milliseconds(pair.without.total()))),
        ),
        row(
            "with plugin and hook, median",
            median(of(|pair| milliseconds(pair.with.total()))),
        ),
        row(
            "added to create, median",
            median(of(|pair| {
                milliseconds(pair.with.create) - milliseconds(pair.without.create)
            })),
        ),
        row(
            "added to start, median",
            median(of(|pair| {
                milliseconds(pair.with.start) - milliseconds(pair.without.start)
            })),
        ),
        row(
            "added to create, fastest tenths compared",
            fastest_tenth(of(|pair| milliseconds(pair.with.create)))
                - fastest_tenth(of(|pair| milliseconds(pair.without.create))),
        ),
        row(
            "added to start, fastest tenths compared",
            fastest_tenth(of(|pair| milliseconds(pair.with.start)))
                - fastest_tenth(of(|pair| milliseconds(pair.without.start))),
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
