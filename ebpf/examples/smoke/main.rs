// SPDX-License-Identifier: Apache-2.0
//! The whole way in a real kernel, as root in the test VM: load, adopt, bind, refuse, report, mark what runs, replace.
//!
//! `smoke [MISSING...]`: the hooks that may be reported as missing on this kernel; others end it with status 1.

mod container;
mod devices;
mod rules;
mod targets;

use std::collections::BTreeSet;
use std::error::Error;
use std::fs;
use std::path::Path;
use std::time::Instant;

use container::Container;
use varmor_bpf_abi::layout::{ABI_VERSION, CONTAINER_ACTIVE, Meta, Plain};
use varmor_bpf_abi::pins;
use varmor_bpf_abi::sys::{ANY, Map};
use varmor_ebpf::{
    Action, Enforcer, Event, FileOperation, LoadOptions, Violation, ViolationReader, container_key,
    profile_key,
};
use varmor_policy::automata::compile_paths;
use varmor_policy::pattern::Pattern;
use varmor_policy::plan::automaton::{PERM_EXEC, PERM_READ, PERM_WRITE, PathVerdict};
use varmor_policy::plan::bpf::BpfProfile;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const PROFILE: &str = "varmor-demo-smoke";
const DIR: &str = "/tmp/smoke";

/// A profile that denies and reports these permissions on these patterns.
fn profile(rules: &[(&str, u16)]) -> Result<BpfProfile> {
    let mut patterns = Vec::new();
    for (pattern, permissions) in rules {
        let verdict = PathVerdict {
            deny: *permissions,
            audit: *permissions,
            ..PathVerdict::default()
        };
        patterns.push((Pattern::path(pattern)?, verdict));
    }
    let automata = compile_paths(&patterns)?;
    Ok(BpfProfile {
        forward: automata.forward,
        backward: automata.backward,
        ..BpfProfile::default()
    })
}

fn check(holds: bool, what: &str) -> Result<()> {
    println!("{} {what}", if holds { "ok  " } else { "FAIL" });
    if holds { Ok(()) } else { Err(what.into()) }
}

fn reports(reader: &mut ViolationReader) -> Result<Vec<Violation>> {
    let mut all = Vec::new();
    while let Some(report) = reader.next_violation() {
        all.push(report?);
    }
    Ok(all)
}

fn load(
    pin_dir: &Path,
    may_miss: &BTreeSet<String>,
) -> Result<(Enforcer, varmor_ebpf::LoadReport)> {
    let start = Instant::now();
    let (enforcer, report) = Enforcer::load(&LoadOptions {
        pin_dir: pin_dir.to_owned(),
    })?;
    println!(
        "     {:?}: attached {}, adopted {}, removed {:?}, in {:?}",
        report.variant,
        report.attached.len(),
        report.adopted.len(),
        report.removed,
        start.elapsed()
    );
    for missing in &report.missing {
        println!("     {missing}");
    }
    let unexpected: Vec<_> = report
        .missing
        .iter()
        .filter(|missing| !may_miss.contains(missing.hook))
        .collect();
    check(
        unexpected.is_empty(),
        "every hook is in use that this kernel has",
    )?;
    Ok((enforcer, report))
}

fn main() -> Result<()> {
    let may_miss: BTreeSet<String> = std::env::args().skip(1).collect();
    let pin_dir = Path::new(pins::DIR);
    fs::create_dir_all(DIR)?;
    for file in ["secret", "open", "later"] {
        fs::write(format!("{DIR}/{file}"), file)?;
    }

    let (mut enforcer, first) = load(pin_dir, &may_miss)?;
    check(
        first.adopted.is_empty() && !first.attached.is_empty(),
        "the first load attaches",
    )?;
    let mut reader = enforcer.violations()?;

    let mut verified: Vec<_> = aya::programs::loaded_programs()
        .filter_map(std::result::Result::ok)
        .collect();
    verified.sort_by_key(|program| program.verified_instruction_count());
    for program in verified {
        let instructions = program.verified_instruction_count().unwrap_or_default();
        println!(
            "     {:>7} instructions verified: {}",
            instructions,
            program.name_as_str().unwrap_or("?")
        );
    }

    refused_from_the_first_execve(&mut enforcer, &mut reader)?;
    let missing: Vec<&str> = first.missing.iter().map(|missing| missing.hook).collect();
    rules::hold(&mut enforcer, &mut reader, &missing)?;
    targets::hold(&mut enforcer, &mut reader)?;
    devices::hold(&mut enforcer, &mut reader)?;
    let mut running = marked_while_it_runs(&mut enforcer)?;
    updated_live(&mut enforcer, &mut running)?;
    drop(enforcer);
    check(
        running.run("cat /tmp/smoke/later >/dev/null 2>&1")? != 0,
        "still refused without a loader",
    )?;

    let (enforcer, second) = load(pin_dir, &may_miss)?;
    let attached_again: Vec<_> = second
        .attached
        .iter()
        .filter(|name| first.attached.contains(name))
        .collect();
    check(attached_again.is_empty(), "the second load adopts")?;
    check(second.adopted == first.attached, "and adopts everything")?;
    drop(enforcer);

    replaced_without_a_gap(pin_dir, &mut running, &may_miss, first.attached.len())?;
    let enforcer = Enforcer::open(pin_dir)?;
    println!("     {:?}", enforcer.counters()?);
    check(
        enforcer.counters()?.no_profile == 0,
        "no container was without its profile",
    )?;
    Ok(())
}

fn refused_from_the_first_execve(
    enforcer: &mut Enforcer,
    reader: &mut ViolationReader,
) -> Result<()> {
    enforcer.set_profile(
        PROFILE,
        &profile(&[
            ("/tmp/smoke/secret", PERM_READ),
            ("/**/forbidden", PERM_EXEC),
        ])?,
    )?;
    let mut container = Container::create("bound")?;
    let binding = container.binding()?;
    enforcer.bind(&binding)?;
    container.send("go")?;
    check(
        container.run("cat /tmp/smoke/open >/dev/null")? == 0,
        "a file without a rule is readable",
    )?;
    let state = enforcer
        .bindings()
        .state(container_key(container.id))?
        .ok_or("no state")?;
    check(
        state.state == CONTAINER_ACTIVE && state.mntns_seq != 0,
        "the container became ACTIVE at its execve",
    )?;
    reports(reader)?;
    check(
        container.run("cat /tmp/smoke/secret >/dev/null 2>&1")? != 0,
        "a denied file is not",
    )?;
    let found = reports(reader)?;
    for report in &found {
        println!("     {report:?}");
    }
    let path = "/tmp/smoke/secret".into();
    let event = Event::File {
        operation: FileOperation::Open,
        permissions: u32::from(PERM_READ),
        path,
    };
    let expected = |report: &Violation| {
        (
            report.container,
            report.profile,
            report.mntns,
            report.action,
            report.comm.to_str(),
        ) == (
            container_key("bound"),
            profile_key(PROFILE),
            binding.mntns,
            Action::Denied,
            Some("cat"),
        ) && report.event == event
    };
    check(
        found.len() == 1 && expected(&found[0]),
        "and it is reported once, by its path",
    )?;
    let copied = "cp /bin/true /tmp/smoke/forbidden && /tmp/smoke/forbidden 2>/dev/null";
    check(
        container.run(copied)? == 126,
        "a denied program is not executed",
    )?;
    check(
        container.run("unshare -m cat /tmp/smoke/secret >/dev/null 2>&1")? != 0,
        "unshare does not help",
    )?;
    check(
        fs::read(format!("{DIR}/secret")).is_ok(),
        "the host may read the file",
    )?;
    enforcer.unbind(container.id)?;
    check(
        container.run("cat /tmp/smoke/secret >/dev/null")? == 0,
        "an unbound container may, too",
    )?;
    Ok(())
}

fn marked_while_it_runs(enforcer: &mut Enforcer) -> Result<Container> {
    enforcer.set_profile(PROFILE, &profile(&[("/tmp/smoke/secret", PERM_READ)])?)?;
    let mut container = Container::create("running")?;
    container.send("go")?;
    check(
        container.run("cat /tmp/smoke/secret >/dev/null")? == 0,
        "before it is bound, a container reads the file",
    )?;
    // A child in a namespace of its own is found as the child of a marked task.
    check(
        container.run("setsid sh -c 'unshare -m sleep 1000 & wait' & sleep 1")? == 0,
        "a child left the namespace",
    )?;
    let marked = enforcer.mark_running(&container.binding()?)?;
    println!("     {marked:?}");
    check(
        marked.tasks >= 2 && marked.passes >= 2,
        "its tasks were marked",
    )?;
    check(
        container.run("cat /tmp/smoke/secret >/dev/null 2>&1")? != 0,
        "marked, it does not",
    )?;
    let again = enforcer.mark_running(&container.binding()?)?;
    check(
        again.tasks == 0 && again.passes == 1,
        "a second time there is nothing to mark",
    )?;
    Ok(container)
}

fn updated_live(enforcer: &mut Enforcer, container: &mut Container) -> Result<()> {
    check(
        container.run("cat /tmp/smoke/later >/dev/null")? == 0,
        "a file without a rule is readable",
    )?;
    enforcer.set_profile(
        PROFILE,
        &profile(&[("/tmp/smoke/later", PERM_READ | PERM_WRITE)])?,
    )?;
    check(
        container.run("cat /tmp/smoke/later >/dev/null 2>&1")? != 0,
        "a new rule holds at once",
    )?;
    check(
        container.run("cat /tmp/smoke/secret >/dev/null")? == 0,
        "an old one does not",
    )?;
    enforcer.set_container_profile(container.id, 0)?;
    check(
        container.run("cat /tmp/smoke/later >/dev/null")? == 0,
        "without a profile it is readable",
    )?;
    enforcer.set_container_profile(container.id, profile_key(PROFILE))?;
    Ok(())
}

/// Loads as another build would, while the container tries without end.
fn replaced_without_a_gap(
    pin_dir: &Path,
    container: &mut Container,
    may_miss: &BTreeSet<String>,
    programs: usize,
) -> Result<()> {
    let meta = Map::open(&pin_dir.join(pins::META))?;
    let old = Meta {
        abi_version: ABI_VERSION,
        pad: 0,
        build: [7; 32],
    };
    meta.update(&0_u32.to_bytes(), &old.to_bytes(), ANY)?;
    let attempts = "while [ ! -e /tmp/smoke/stop ]; do read x < /tmp/smoke/later && echo x >> /tmp/smoke/gap; \
                    echo x >> /tmp/smoke/tries; done 2>/dev/null";
    container.send(&format!("renice -n 19 $$ >/dev/null; {attempts}"))?;
    let (_, report) = load(pin_dir, may_miss)?;
    check(
        report.attached.len() == programs && report.adopted.is_empty(),
        "another build replaces every program",
    )?;
    fs::write("/tmp/smoke/stop", "")?;
    container.answer()?;
    let tries = fs::read("/tmp/smoke/tries").map_or(0, |tries| tries.len() / 2);
    println!("     {tries} tries");
    check(
        tries > 0 && !Path::new("/tmp/smoke/gap").exists(),
        "no try in between was allowed",
    )?;
    Ok(())
}
