// SPDX-License-Identifier: Apache-2.0
//! The messages of NRI and the ttrpc services, generated from `proto/nri.proto`.

#[allow(missing_docs, clippy::all, unreachable_pub)]
mod generated {
    include!(concat!(env!("OUT_DIR"), "/modules.rs"));
}

pub use generated::nri::*;
pub use generated::nri_ttrpc as service;
