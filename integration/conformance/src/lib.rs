// SPDX-License-Identifier: Apache-2.0
//! The conformance matrix: for every built-in rule and every feature of custom rules, actions that must be refused, neighbours
//! that must not be, and what is reported, on each enforcer that claims the rule.
//!
//! Cases are data (`cases/*.yaml`); an action is written once and holds for every enforcer. Where one of them does otherwise, the
//! case says so and why, and docs/conformance.md repeats it.

pub mod case;
pub mod enforcer;
pub mod guest;
pub mod host;
pub mod kept;
pub mod outcome;
pub mod report;
