// SPDX-License-Identifier: Apache-2.0
//! What is judged without a path or by another one than the caller's: block devices, extended attributes, owners, and
//! where mounts come from.

use std::fs;
use std::process::Command;

use varmor_ebpf::{Enforcer, Event, FileOperation, ViolationReader};
use varmor_policy::automata::compile_mounts;
use varmor_policy::pattern::Pattern;
use varmor_policy::plan::automaton::PERM_WRITE;
use varmor_policy::plan::bpf::{BpfProfile, MountSet};

use crate::container::Container;
use crate::rules::{both, probe, refused};
use crate::{PROFILE, Result, check, profile, reports};

const MS_REMOUNT: u32 = 32;
const MS_BIND: u32 = 4096;

fn rules() -> Result<BpfProfile> {
    let set = MountSet {
        deny_flags: MS_BIND | MS_REMOUNT,
        ..MountSet::default()
    };
    let source = Pattern::mount_source("/tmp/smoke/held**")?;
    Ok(BpfProfile {
        block_open: both(true),
        block_mount: both(true),
        mounts: compile_mounts(&[(None, source, set)])?,
        ..profile(&[
            ("/tmp/smoke/held/**", PERM_WRITE),
            ("/tmp/smoke/layers/merged/held", PERM_WRITE),
        ])?
    })
}

/// Runs a line outside of any container.
fn host(line: &str) -> Result<()> {
    let status = Command::new("sh").args(["-ec", line]).status()?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("{line}: {status}").into())
    }
}

pub fn hold(enforcer: &mut Enforcer, reader: &mut ViolationReader) -> Result<()> {
    // The disk that the VM's root file system is on, which is mounted for reading and writing.
    let disk = "vda";
    let numbers = fs::read_to_string(format!("/sys/class/block/{disk}/dev"))?;
    let (major, minor) = numbers.trim().split_once(':').ok_or("no device number")?;
    // Files on another file system than the root's, and a volume's second name.
    let probe = probe()?;
    let probe = probe.display();
    host(&format!(
        "mkdir -p /tmp/smoke/held/dir /tmp/smoke/free /tmp/smoke/volume /tmp/smoke/layers /tmp/smoke/mnt
         touch /tmp/smoke/held/a /tmp/smoke/free/a
         mount -t tmpfs smoke /tmp/smoke/volume
         mkdir /tmp/smoke/volume/held /tmp/smoke/volume/free
         touch /tmp/smoke/volume/held/a /tmp/smoke/volume/free/a
         mount --bind /tmp/smoke/volume/held /tmp/smoke/held/dir
         mkdir /tmp/smoke/volume/lower /tmp/smoke/volume/upper /tmp/smoke/volume/work /tmp/smoke/layers/merged
         touch /tmp/smoke/volume/lower/held /tmp/smoke/volume/lower/free
         {probe} setxattr /tmp/smoke/volume/lower/free trusted.smoke 1
         mount -t overlay -o lowerdir=/tmp/smoke/volume/lower,upperdir=/tmp/smoke/volume/upper,workdir=/tmp/smoke/volume/work overlay /tmp/smoke/layers/merged",
    ))?;
    enforcer.set_profile(PROFILE, &rules()?)?;
    let mut container = Container::create("devices")?;
    enforcer.bind(&container.binding()?)?;
    container.send("go")?;
    reports(reader)?;

    for (call, expected) in [
        (format!("open r /dev/{disk}"), true),
        (format!("open rw /dev/{disk}"), true),
        (format!("mknod blk /tmp/smoke/node {major} {minor}"), false),
        ("open r /tmp/smoke/node".to_owned(), true),
        ("open path /tmp/smoke/node".to_owned(), false),
        ("open r /dev/null".to_owned(), false),
        (format!("mount /dev/{disk} /tmp/smoke/mnt ext4 -"), true),
        (
            format!("fsopen ext4 then fsconfig @ source /dev/{disk} then fsconfig-create @"),
            true,
        ),
        ("mount none /tmp/smoke/mnt tmpfs -".to_owned(), false),
        ("umount /tmp/smoke/mnt".to_owned(), false),
        ("setxattr /tmp/smoke/held/a trusted.x 1".to_owned(), true),
        ("setxattr /tmp/smoke/free/a trusted.x 1".to_owned(), false),
        ("removexattr /tmp/smoke/free/a trusted.x".to_owned(), false),
        ("removexattr /tmp/smoke/held/a trusted.x".to_owned(), true),
        // One file of the tmpfs has two paths, of which one is held; another has one that is not.
        (
            "setxattr /tmp/smoke/held/dir/a trusted.x 1".to_owned(),
            true,
        ),
        (
            "setxattr /tmp/smoke/volume/held/a trusted.x 1".to_owned(),
            true,
        ),
        (
            "setxattr /tmp/smoke/volume/free/a trusted.x 1".to_owned(),
            false,
        ),
        ("chown 1 1 /tmp/smoke/held/dir/a".to_owned(), true),
        ("chown 1 1 /tmp/smoke/volume/free/a".to_owned(), false),
        (
            "setxattr /tmp/smoke/layers/merged/held trusted.x 1".to_owned(),
            true,
        ),
        // Copies the file up, with its attributes.
        (
            "setxattr /tmp/smoke/layers/merged/free trusted.x 1".to_owned(),
            false,
        ),
        ("open w /tmp/smoke/layers/merged/free".to_owned(), false),
        (
            "mount /tmp/smoke/held /tmp/smoke/mnt - bind".to_owned(),
            true,
        ),
        (
            "mount /tmp/smoke/free /tmp/smoke/mnt - bind".to_owned(),
            false,
        ),
        ("umount /tmp/smoke/mnt".to_owned(), false),
        (
            "mount /tmp/./smoke/held /tmp/smoke/mnt - bind".to_owned(),
            true,
        ),
        (
            "mount /tmp//smoke/held /tmp/smoke/mnt - bind".to_owned(),
            true,
        ),
        (
            "mount /tmp/x/../smoke/held /tmp/smoke/mnt - bind".to_owned(),
            true,
        ),
        (
            "chdir /tmp/smoke then mount held /tmp/smoke/mnt - bind".to_owned(),
            true,
        ),
        (
            "mount none /tmp/smoke/held/dir - remount,bind,ro".to_owned(),
            true,
        ),
        (
            "mount none /tmp/smoke/volume - remount,bind,ro".to_owned(),
            false,
        ),
        (
            "mount none /tmp/smoke/volume - remount,bind".to_owned(),
            false,
        ),
        // The same file system by another call: one of its paths is held.
        (
            "fspick /tmp/smoke/volume then fsconfig-reconfigure @".to_owned(),
            true,
        ),
        (
            "open-tree /tmp/smoke/held clone then move-mount @ /tmp/smoke/mnt".to_owned(),
            true,
        ),
        (
            "open-tree /tmp/smoke/free clone then move-mount @ /tmp/smoke/mnt".to_owned(),
            false,
        ),
        ("umount /tmp/smoke/mnt".to_owned(), false),
        (
            "fsopen tmpfs then fsconfig-create @ then fsmount @ then move-mount @ /tmp/smoke/mnt"
                .to_owned(),
            false,
        ),
        ("umount /tmp/smoke/mnt".to_owned(), false),
    ] {
        check(
            refused(&mut container, &call)? == expected,
            &format!("{call}: {}", if expected { "refused" } else { "allowed" }),
        )?;
    }
    let found = reports(reader)?;
    let has = |what: &str, test: &dyn Fn(&Event) -> bool| {
        check(found.iter().any(|report| test(&report.event)), what)
    };
    has(
        "the block device is reported by its path",
        &|event| matches!(event, Event::File { operation: FileOperation::Open, path, .. } if path == "/tmp/smoke/node"),
    )?;
    has(
        "the mount of the disk is reported",
        &|event| matches!(event, Event::Mount { fstype, source, .. } if fstype == "ext4" && source == disk),
    )?;
    has(
        "the attribute is reported with its file",
        &|event| matches!(event, Event::File { operation: FileOperation::Xattr, path, .. } if path == "/tmp/smoke/held/a"),
    )?;
    enforcer.unbind(container.id)?;
    host("umount /tmp/smoke/layers/merged /tmp/smoke/held/dir /tmp/smoke/volume")?;
    Ok(())
}
