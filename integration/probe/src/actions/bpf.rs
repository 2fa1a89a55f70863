// SPDX-License-Identifier: Apache-2.0
//! Pinned BPF maps, as the node's root can change them.

use std::os::fd::{FromRawFd, OwnedFd};

use crate::chain::{Action, Failure, Preparation, State, number, string};
use crate::sys::sys;

/// See the module.
pub const ACTIONS: &[Action] = &[Action {
    name: "bpf-map-flip",
    arguments: "PIN INDEX OFFSET",
    run: bpf_map_flip,
}];

const BPF_MAP_LOOKUP_ELEM: i32 = 1;
const BPF_MAP_UPDATE_ELEM: i32 = 2;
const BPF_OBJ_GET: i32 = 7;
/// Values are shorter than this.
const VALUE_MAX: usize = 4096;

/// Inverts the bits of one byte of an array map's value.
fn bpf_map_flip(_: &mut State, words: &[String]) -> Result<(), Failure> {
    let path = string(&words[0])?;
    let index = u32::try_from(number(&words[1])?)
        .map_err(|_| Failure::Usage(format!("{} is no index", words[1])))?;
    let offset = number(&words[2])? as usize;
    let get = [path.as_ptr() as u64, 0];
    let fd = sys!(SYS_bpf, BPF_OBJ_GET, &get[..], 16_u32).prepared()?;
    // SAFETY: the call above made the descriptor, and nobody else has it.
    let _map = unsafe { OwnedFd::from_raw_fd(fd as i32) };
    let key = index.to_ne_bytes();
    let mut value = [0_u8; VALUE_MAX];
    let element = [fd as u64, key.as_ptr() as u64, value.as_mut_ptr() as u64, 0];
    sys!(SYS_bpf, BPF_MAP_LOOKUP_ELEM, &element[..], 32_u32).prepared()?;
    let byte = value
        .get_mut(offset)
        .ok_or_else(|| Failure::Usage(format!("values are shorter than {offset}")))?;
    *byte = !*byte;
    sys!(SYS_bpf, BPF_MAP_UPDATE_ELEM, &element[..], 32_u32)?;
    Ok(())
}
