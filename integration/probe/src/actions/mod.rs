//! Every action, by subject.

mod bpf;
mod capabilities;
mod exec;
mod files;
mod mounts;
mod processes;
mod sockets;
mod uring;

use crate::chain::Action;

/// All actions, in the order of the usage text.
pub fn all() -> impl Iterator<Item = &'static Action> {
    [
        files::ACTIONS,
        exec::ACTIONS,
        mounts::ACTIONS,
        sockets::ACTIONS,
        processes::ACTIONS,
        capabilities::ACTIONS,
        uring::ACTIONS,
        bpf::ACTIONS,
    ]
    .into_iter()
    .flatten()
}
