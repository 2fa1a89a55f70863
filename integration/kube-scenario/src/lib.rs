// SPDX-License-Identifier: Apache-2.0
//! The Kubernetes test bed, for programs that use it.

pub mod bed;
