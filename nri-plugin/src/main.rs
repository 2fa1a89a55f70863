//! `varmor-nri`: the node daemon.

mod config;
mod enforcers;
mod policies_dir;
mod sd_notify;
mod spec_update;
mod violations;

fn main() {}
