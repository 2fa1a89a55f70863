// SPDX-License-Identifier: Apache-2.0
//! The real programs, on real BPF maps. Needs root, as they do.

mod hook;
mod support;
mod wrapper;
mod wrapper_pods;
