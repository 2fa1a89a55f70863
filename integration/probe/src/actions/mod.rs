// SPDX-License-Identifier: Apache-2.0
//! Every action, by subject.

mod attributes;
mod bpf;
mod capabilities;
mod exec;
mod files;
mod mounts;
mod privileges;
mod processes;
mod server;
mod socket_options;
mod sockets;
mod uring;

use crate::chain::Action;

/// All actions, in the order of the usage text.
pub fn all() -> impl Iterator<Item = &'static Action> {
    [
        files::ACTIONS,
        attributes::ACTIONS,
        exec::ACTIONS,
        mounts::ACTIONS,
        sockets::ACTIONS,
        socket_options::ACTIONS,
        server::ACTIONS,
        processes::ACTIONS,
        capabilities::ACTIONS,
        privileges::ACTIONS,
        uring::ACTIONS,
        bpf::ACTIONS,
    ]
    .into_iter()
    .flatten()
}
