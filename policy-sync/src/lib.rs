// SPDX-License-Identifier: Apache-2.0
//! Between the API server and the node daemons: what `policy-sync` is made of. A library too, so that a test bed can report
//! as a node does.

mod address_slice;
mod api_server;
pub mod controller;
mod events;
pub mod kinds;
mod marks;
pub mod node;

/// Ends when the process is told to stop.
async fn stopped() -> anyhow::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}
