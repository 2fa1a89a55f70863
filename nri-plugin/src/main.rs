//! `varmor-nri`: the node daemon.

mod config;
mod containers;
mod enforcers;
mod node;
mod nri;
mod policies_dir;
mod sd_notify;
mod spec_update;
mod store;
mod violations;

fn main() {}
