// SPDX-License-Identifier: Apache-2.0
//! Flags of mount(2) (include/uapi/linux/mount.h), which the new mount API's operations are expressed in as well.

/// MS_REMOUNT.
pub const REMOUNT: u32 = 1 << 5;
/// MS_BIND.
pub const BIND: u32 = 1 << 12;
/// MS_MOVE.
pub const MOVE: u32 = 1 << 13;
/// MS_REC.
pub const REC: u32 = 1 << 14;
/// MS_UNBINDABLE.
pub const UNBINDABLE: u32 = 1 << 17;
/// MS_PRIVATE.
pub const PRIVATE: u32 = 1 << 18;
/// MS_SLAVE.
pub const SLAVE: u32 = 1 << 19;
/// MS_SHARED.
pub const SHARED: u32 = 1 << 20;

/// Whether mount(2) with these flags changes a mount that is there, and mounts nothing.
pub const fn change_a_mount(flags: u32) -> bool {
    flags & REMOUNT != 0
        || (flags & (UNBINDABLE | PRIVATE | SLAVE | SHARED) != 0 && flags & BIND == 0)
}
