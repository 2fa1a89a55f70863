// SPDX-License-Identifier: Apache-2.0
//! Rules for single executables: who gets them, and that nothing takes them away.

use std::fs;

use varmor_bpf_abi::layout::{ChildKey, Mark};
use varmor_bpf_abi::pins;
use varmor_bpf_abi::sys::Map;
use varmor_ebpf::{Enforcer, ViolationReader, profile_key};
use varmor_policy::plan::automaton::{PERM_READ, PERM_WRITE};
use varmor_policy::plan::bpf::{BpfChild, BpfProfile};

use crate::container::Container;
use crate::{DIR, PROFILE, Result, check, profile, reports};

/// On the root file system, of which a bind mount is seen through.
const TARGETS: &str = "/usr/local/smoke";
const TARGET: &str = "/usr/local/smoke/target";
const SCRIPT: &str = "/tmp/smoke/script";

/// `open` may not be read by the target; by nobody may `secret` be.
fn with_targets(targets: &[&str]) -> Result<BpfProfile> {
    let everyone = ("/tmp/smoke/secret", PERM_READ);
    Ok(BpfProfile {
        children: vec![BpfChild {
            targets: targets.iter().map(|target| (*target).to_owned()).collect(),
            profile: profile(&[everyone, ("/tmp/smoke/open", PERM_READ)])?,
        }],
        ..profile(&[everyone])?
    })
}

pub fn hold(enforcer: &mut Enforcer, reader: &mut ViolationReader) -> Result<()> {
    fs::create_dir_all(format!("{TARGETS}/elsewhere"))?;
    fs::copy("/bin/sh", TARGET)?;
    fs::write(SCRIPT, "#!/bin/sh\n$*\n")?;
    let script = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(SCRIPT, script)?;
    enforcer.set_profile(PROFILE, &with_targets(&[TARGET, SCRIPT])?)?;
    let mut container = Container::create("targets")?;
    enforcer.bind(&container.binding()?)?;
    container.send("go")?;
    reports(reader)?;
    let mut expect = |line: &str, refused: bool, what: &str| -> Result<()> {
        let status = container.run(&format!("{line} >/dev/null 2>&1"))?;
        check((status != 0) == refused, what)
    };
    expect("cat /tmp/smoke/open", false, "who is no target may")?;
    expect(
        "cat /tmp/smoke/secret",
        true,
        "what is for all holds for all",
    )?;
    let target = format!("{TARGET} -c");
    expect(
        &format!("{target} 'read x < /tmp/smoke/open'"),
        true,
        "the target may not",
    )?;
    expect(
        &format!("{target} 'cat /tmp/smoke/open'"),
        true,
        "nor what it starts",
    )?;
    expect(
        &format!("{target} 'setsid -w sh -c \"true; cat /tmp/smoke/open\"'"),
        true,
        "nor what that starts",
    )?;
    expect(
        &format!("{target} 'unshare -m cat /tmp/smoke/open'"),
        true,
        "nor in a namespace of its own",
    )?;
    expect(
        &format!("{target} 'cat /tmp/smoke/later'"),
        false,
        "it may what nobody denies",
    )?;
    expect(
        &format!("{target} 'cat /tmp/smoke/secret'"),
        true,
        "it may not what is denied to all",
    )?;
    expect("cat /tmp/smoke/open", false, "who is no target still may")?;
    expect(
        &format!("{SCRIPT} cat /tmp/smoke/open"),
        true,
        "a script is a target by its own path",
    )?;
    expect(
        &format!("/bin/sh {SCRIPT} cat /tmp/smoke/open"),
        false,
        "and not when it is read as data",
    )?;
    expect(
        "cd /usr/local/smoke && ln -sf target link && ./link -c 'cat /tmp/smoke/open'",
        true,
        "a link leads to the target",
    )?;
    expect(
        &format!(
            "mount --bind {TARGETS} {TARGETS}/elsewhere && {TARGETS}/elsewhere/target -c 'cat {DIR}/open'"
        ),
        true,
        "so does a bind mount of it",
    )?;
    expect(
        "cp /usr/local/smoke/target /tmp/smoke/target2; /tmp/smoke/target2 -c 'cat /tmp/smoke/open'",
        false,
        "a copy is another program",
    )?;
    let found = reports(reader)?;
    check(
        found
            .iter()
            .all(|report| report.profile == profile_key(PROFILE)),
        "reports name the policy's profile",
    )?;

    // A target that runs while its rules change.
    container.send(&format!(
        "{TARGET} -c 'while [ ! -e {DIR}/next ]; do sleep 0.1; done; cat {DIR}/later' >/dev/null 2>&1"
    ))?;
    let everyone = ("/tmp/smoke/secret", PERM_READ);
    let changed = BpfProfile {
        children: vec![BpfChild {
            targets: vec![TARGET.to_owned()],
            profile: profile(&[everyone, ("/tmp/smoke/later", PERM_READ | PERM_WRITE)])?,
        }],
        ..profile(&[everyone])?
    };
    enforcer.set_profile(PROFILE, &changed)?;
    fs::write(format!("{DIR}/next"), "")?;
    check(
        container.answer()? != 0,
        "new rules hold for a target that runs",
    )?;
    let children = Map::open(&std::path::Path::new(pins::DIR).join(pins::CHILDREN))?;
    check(
        children.keys()?.len() == 1 && children.shape().key_size as usize == size_of::<ChildKey>(),
        "the old children are gone",
    )?;

    // Without children the profile's own rules hold for everyone.
    enforcer.set_profile(PROFILE, &profile(&[everyone])?)?;
    check(
        container.run(&format!(
            "{TARGET} -c 'cat {DIR}/open {DIR}/later' >/dev/null 2>&1"
        ))? == 0,
        "a target without rules has the container's",
    )?;
    check(children.keys()?.is_empty(), "and no child is left")?;
    enforcer.unbind(container.id)?;

    // The container's own entrypoint.
    enforcer.set_profile(
        PROFILE,
        &with_targets(&["/bin/sh", "/usr/bin/sh", "/usr/bin/dash", "/bin/dash"])?,
    )?;
    let mut container = Container::create("entrypoint")?;
    enforcer.bind(&container.binding()?)?;
    container.send("go")?;
    check(
        container.run("cat /tmp/smoke/open >/dev/null 2>&1")? != 0,
        "an entrypoint that is a target is held",
    )?;
    check(
        container.run("cat /tmp/smoke/later >/dev/null 2>&1")? == 0,
        "to the rules for it",
    )?;
    enforcer.unbind(container.id)?;
    let subjects = Map::open(&std::path::Path::new(pins::DIR).join(pins::SUBJECTS))?;
    check(
        subjects.shape().value_size as usize == size_of::<Mark>(),
        "marks have the shape that is written down",
    )?;
    Ok(())
}
