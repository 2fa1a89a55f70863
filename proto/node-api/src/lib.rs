// SPDX-License-Identifier: Apache-2.0
//! The node API of varmor-nri: policies in, status and violations out, over ttrpc on a Unix socket of root's.
//!
//! The daemon implements [`Service`] and serves it with [`NodeSocket`]; everybody else uses [`Client`].
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use varmor_node_api::{Client, DEFAULT_SOCKET, api::ApplyRequest};
//!
//! let client = Client::connect(DEFAULT_SOCKET).await?;
//! let request = ApplyRequest {
//!     objects: std::fs::read_to_string("policy.yaml")?,
//!     source: "example".into(),
//!     wait_ms: 5000,
//!     ..Default::default()
//! };
//! for result in client.apply(request).await?.results {
//!     println!("{}: {:?} {}", result.policy.name, result.outcome, result.message);
//! }
//! # Ok(())
//! # }
//! ```

pub mod api;
mod client;
mod error;
mod server;
mod socket;

pub use client::{Client, Violations};
pub use error::{ApiError, ClientError, Kind};
pub use server::{SUBSCRIBER_BUFFER, Service};
pub use socket::{BindError, NodeSocket};

/// Where the daemon listens unless configured otherwise.
pub const DEFAULT_SOCKET: &str = "/run/varmor-nri/node.sock";
