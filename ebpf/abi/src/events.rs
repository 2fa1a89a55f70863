// SPDX-License-Identifier: Apache-2.0
//! Numbers in a violation's record, as `kernel/abi.h` defines them.

/// Refused.
pub const ACTION_DENIED: u8 = 1;
/// Allowed, and reported because a rule asks for it.
pub const ACTION_AUDIT: u8 = 2;
/// Reported by a profile that refuses nothing.
pub const ACTION_ALLOWED: u8 = 4;

/// A capability was used.
pub const EVENT_CAPABILITY: u8 = 1;
/// A file was opened or changed.
pub const EVENT_FILE: u8 = 2;
/// A file was executed.
pub const EVENT_EXEC: u8 = 4;
/// A socket was made, or data sent.
pub const EVENT_NETWORK: u8 = 8;
/// A process was traced or read.
pub const EVENT_PTRACE: u8 = 0x10;
/// Something was mounted or unmounted.
pub const EVENT_MOUNT: u8 = 0x20;
/// A user namespace was made.
pub const EVENT_USERNS: u8 = 0x40;

/// open.
pub const OP_OPEN: u8 = 0;
/// A file that open makes.
pub const OP_CREATE: u8 = 1;
/// unlink.
pub const OP_UNLINK: u8 = 2;
/// rmdir.
pub const OP_RMDIR: u8 = 3;
/// mkdir.
pub const OP_MKDIR: u8 = 4;
/// mknod.
pub const OP_MKNOD: u8 = 5;
/// symlink.
pub const OP_SYMLINK: u8 = 6;
/// link.
pub const OP_LINK: u8 = 7;
/// rename.
pub const OP_RENAME: u8 = 8;
/// truncate.
pub const OP_TRUNCATE: u8 = 9;
/// chmod.
pub const OP_CHMOD: u8 = 10;
/// chown.
pub const OP_CHOWN: u8 = 11;
/// An executable mapping.
pub const OP_MMAP: u8 = 12;
/// A Unix socket that has a path.
pub const OP_UNIX: u8 = 13;
/// execve.
pub const OP_EXEC: u8 = 14;
/// The path could not be told.
pub const OP_PATH: u8 = 15;
/// setxattr, removexattr and access control lists.
pub const OP_XATTR: u8 = 16;

/// socket.
pub const NETWORK_SOCKET: u8 = 1;
/// connect.
pub const NETWORK_CONNECT: u8 = 2;
/// A send with an address.
pub const NETWORK_SEND: u8 = 3;
