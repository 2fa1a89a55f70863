// SPDX-License-Identifier: Apache-2.0
//! The scenario runner's parts: the file format, the host's side, the guest's side, and the CRI client and pods that the
//! demo uses as well.

pub mod format;
pub mod guest;
pub mod host;
pub mod vm;
