// SPDX-License-Identifier: Apache-2.0
//! Mounts: the old call in all its forms, the new ones one by one, and what undoes them.

use crate::chain::{Action, Failure, State, string};
use crate::flags;
use crate::sys::sys;

/// See the module.
pub const ACTIONS: &[Action] = &[
    Action {
        name: "mount",
        arguments: "SOURCE TARGET FSTYPE|- FLAGS [DATA]",
        run: mount,
    },
    Action {
        name: "umount",
        arguments: "TARGET [FLAGS]",
        run: umount,
    },
    Action {
        name: "pivot-root",
        arguments: "NEW OLD",
        run: pivot_root,
    },
    Action {
        name: "fsopen",
        arguments: "FSTYPE",
        run: fsopen,
    },
    Action {
        name: "fsconfig",
        arguments: "FD KEY VALUE",
        run: fsconfig,
    },
    Action {
        name: "fsconfig-create",
        arguments: "FD",
        run: fsconfig_create,
    },
    Action {
        name: "fsconfig-reconfigure",
        arguments: "FD",
        run: fsconfig_reconfigure,
    },
    Action {
        name: "fsmount",
        arguments: "FD",
        run: fsmount,
    },
    Action {
        name: "fspick",
        arguments: "PATH",
        run: fspick,
    },
    Action {
        name: "move-mount",
        arguments: "FROM TO",
        run: move_mount,
    },
    Action {
        name: "open-tree",
        arguments: "PATH FLAGS",
        run: open_tree,
    },
    Action {
        name: "mount-setattr",
        arguments: "PATH FLAGS",
        run: mount_setattr,
    },
];

fn mount(_: &mut State, words: &[String]) -> Result<(), Failure> {
    let fs_type = if words[2] == "-" { "" } else { &words[2] };
    let flags = flags::parse(flags::MOUNT, &words[3])?;
    let data = string(words.get(4).map_or("", String::as_str))?;
    sys!(
        SYS_mount,
        &string(&words[0])?,
        &string(&words[1])?,
        &string(fs_type)?,
        flags,
        &data
    )?;
    Ok(())
}

fn umount(_: &mut State, words: &[String]) -> Result<(), Failure> {
    let flags = flags::parse(flags::UMOUNT, words.get(1).map_or("", String::as_str))?;
    sys!(SYS_umount2, &string(&words[0])?, flags)?;
    Ok(())
}

fn pivot_root(_: &mut State, words: &[String]) -> Result<(), Failure> {
    sys!(SYS_pivot_root, &string(&words[0])?, &string(&words[1])?)?;
    Ok(())
}

fn fsopen(state: &mut State, words: &[String]) -> Result<(), Failure> {
    let fd = sys!(SYS_fsopen, &string(&words[0])?, 0)?;
    state.keep(fd);
    Ok(())
}

// Commands of fsconfig(2), from linux/mount.h.
const FSCONFIG_SET_STRING: u32 = 1;
const FSCONFIG_CMD_CREATE: u32 = 6;
const FSCONFIG_CMD_RECONFIGURE: u32 = 7;

fn fsconfig(state: &mut State, words: &[String]) -> Result<(), Failure> {
    let fd = state.descriptor(&words[0])?;
    sys!(
        SYS_fsconfig,
        fd,
        FSCONFIG_SET_STRING,
        &string(&words[1])?,
        &string(&words[2])?,
        0
    )?;
    Ok(())
}

fn fsconfig_create(state: &mut State, words: &[String]) -> Result<(), Failure> {
    fsconfig_command(state, words, FSCONFIG_CMD_CREATE)
}

fn fsconfig_reconfigure(state: &mut State, words: &[String]) -> Result<(), Failure> {
    fsconfig_command(state, words, FSCONFIG_CMD_RECONFIGURE)
}

fn fsconfig_command(state: &State, words: &[String], command: u32) -> Result<(), Failure> {
    sys!(SYS_fsconfig, state.descriptor(&words[0])?, command, 0, 0, 0)?;
    Ok(())
}

fn fsmount(state: &mut State, words: &[String]) -> Result<(), Failure> {
    let fd = sys!(SYS_fsmount, state.descriptor(&words[0])?, 0, 0)?;
    state.keep(fd);
    Ok(())
}

fn fspick(state: &mut State, words: &[String]) -> Result<(), Failure> {
    let at = state.at(&words[0])?;
    let fd = sys!(SYS_fspick, at.fd, &at.path, 0)?;
    state.keep(fd);
    Ok(())
}

// Flags of move_mount(2), from linux/mount.h.
const MOVE_MOUNT_F_EMPTY_PATH: u32 = 4;
const MOVE_MOUNT_T_EMPTY_PATH: u32 = 0x40;

fn move_mount(state: &mut State, words: &[String]) -> Result<(), Failure> {
    let (from, to) = (state.at(&words[0])?, state.at(&words[1])?);
    let mut flags = 0;
    if from.path.is_empty() {
        flags |= MOVE_MOUNT_F_EMPTY_PATH;
    }
    if to.path.is_empty() {
        flags |= MOVE_MOUNT_T_EMPTY_PATH;
    }
    sys!(SYS_move_mount, from.fd, &from.path, to.fd, &to.path, flags)?;
    Ok(())
}

fn open_tree(state: &mut State, words: &[String]) -> Result<(), Failure> {
    let at = state.at(&words[0])?;
    let flags = flags::parse(flags::OPEN_TREE, &words[1])? | at.empty_path() as u64;
    let fd = sys!(SYS_open_tree, at.fd, &at.path, flags)?;
    state.keep(fd);
    Ok(())
}

fn mount_setattr(state: &mut State, words: &[String]) -> Result<(), Failure> {
    let at = state.at(&words[0])?;
    let flags = flags::parse(flags::MOUNT_ATTRIBUTES, &words[1])?;
    let recursive = flags & flags::AT_RECURSIVE;
    // struct mount_attr: attr_set, attr_clr, propagation, userns_fd.
    let attributes = [flags & !flags::AT_RECURSIVE, 0, 0, 0];
    let size = size_of_val(&attributes);
    sys!(
        SYS_mount_setattr,
        at.fd,
        &at.path,
        recursive | at.empty_path() as u64,
        &attributes[..],
        size
    )?;
    Ok(())
}
