// SPDX-License-Identifier: Apache-2.0
//! What the check of a path costs by itself, in nanoseconds on this machine.

mod programs;
mod tables;

use std::path::Path;

use anyhow::{Context, Result};

use crate::deep_path::DeepPath;
use crate::figures::{Figure, Section, Unit, median};
use crate::rules::{Kind, Likeness, path_rules};
use programs::{Program, Programs, Request};

const COUNTS: [usize; 5] = [1, 10, 50, 200, 1000];
/// Rules of the list that is compared with, and where as many are among [`COUNTS`].
const LISTED: usize = 50;
const LISTED_AT: usize = 2;

/// Runs the measurement: `rounds` times each variant by turns, so that a busy machine slows all of them, `repeat` runs at
/// a time. The working directory of this process changes.
///
/// # Errors
///
/// Fails where the kernel refuses the programs or a path is refused.
pub fn measure(rounds: usize, repeat: u32, object: Option<&Path>) -> Result<Section> {
    let deep = DeepPath::directory(Path::new("/tmp"))?;
    let mut programs = Programs::load(Path::new("/sys/fs/bpf/varmor-bench"), object)?;
    let mut subjects = vec![(Program::Nothing, Request::default())];
    for (set, likeness) in (0_u32..).zip(Likeness::ALL) {
        tables::insert_list(
            &programs,
            set,
            &path_rules(likeness, Kind::Both, LISTED, deep.path()),
        )?;
        for count in [0, LISTED] {
            subjects.push((
                Program::Linear,
                Request {
                    set,
                    count: count as u32,
                    ..Request::default()
                },
            ));
        }
        for (kind, count) in Kind::ALL
            .into_iter()
            .flat_map(|kind| COUNTS.map(|count| (kind, count)))
        {
            let container = subjects.len() as u64;
            tables::insert_container(
                &programs,
                container,
                &path_rules(likeness, kind, count, deep.path()),
            )
            .with_context(|| format!("{count} rules, {}, {}", kind.name(), likeness.name()))?;
            subjects.push((
                Program::Automata,
                Request {
                    container,
                    ..Request::default()
                },
            ));
        }
    }
    std::env::set_current_dir(deep.path()).context("entering the deep directory")?;
    let times = sample(&mut programs, &subjects, rounds, repeat);
    // The directory is removed with `deep`, and nobody must be left in it.
    std::env::set_current_dir("/").context("leaving the deep directory")?;
    let how = format!(
        "BPF_PROG_TEST_RUN on this machine, medians of {rounds} rounds of {repeat} runs by turns"
    );
    Ok(section(&times?, how))
}

/// The median of each subject, in nanoseconds.
fn sample(
    programs: &mut Programs,
    subjects: &[(Program, Request)],
    rounds: usize,
    repeat: u32,
) -> Result<Vec<f64>> {
    let mut times = vec![Vec::with_capacity(rounds); subjects.len()];
    for _ in 0..rounds {
        for ((program, request), times) in subjects.iter().zip(&mut times) {
            times.push(programs.run(*program, *request, repeat)?.as_nanos() as f64);
        }
    }
    Ok(times.into_iter().map(median).collect())
}

fn section(times: &[f64], how: String) -> Section {
    let mut notes = vec![
        how,
        "look-up of container and profile and reading of the path included, on both sides"
            .to_owned(),
        format!("a program that does nothing: {:.0} ns", times[0]),
    ];
    let mut figures = Vec::new();
    for (likeness, times) in Likeness::ALL
        .into_iter()
        .zip(times[1..].chunks(2 + Kind::ALL.len() * COUNTS.len()))
    {
        let name = likeness.name();
        let (linear, automata) = times.split_at(2);
        for (kind, times) in Kind::ALL.into_iter().zip(automata.chunks(COUNTS.len())) {
            let listed = times
                .iter()
                .map(|time| format!("{time:.0}"))
                .collect::<Vec<_>>()
                .join(" ");
            notes.push(format!(
                "{name}, {}: {listed} ns with {COUNTS:?} rules",
                kind.name()
            ));
            // One rule can't be of both kinds: with one automaton instead of two it costs less, as it should.
            let comparable = if kind == Kind::Both {
                &times[1..]
            } else {
                times
            };
            let lowest = comparable.iter().copied().fold(f64::INFINITY, f64::min);
            let highest = comparable.iter().copied().fold(0.0, f64::max);
            figures.push(
                Figure::new(
                    format!("{name}, {}: slowest over fastest", kind.name()),
                    (highest / lowest - 1.0) * 100.0,
                    Unit::Percent,
                )
                .target(10.0),
            );
            if kind == Kind::Both {
                figures.push(
                    Figure::new(
                        format!("{name}: {LISTED} rules over their linear scan"),
                        times[LISTED_AT] / linear[1],
                        Unit::Ratio,
                    )
                    .target(0.43)
                    .aim(0.25),
                );
            }
        }
        notes.push(format!(
            "{name}, linear scan: {:.0} {:.0} ns with [0, {LISTED}] rules",
            linear[0], linear[1]
        ));
    }
    Section {
        title: "Matcher: one look-up of a path of 57 bytes and 10 components that no rule matches"
            .to_owned(),
        notes,
        figures,
    }
}
