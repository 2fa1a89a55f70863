// SPDX-License-Identifier: Apache-2.0
//! The messages, generated from `proto/node.proto`.

#[allow(missing_docs, clippy::all, unreachable_pub)]
mod generated {
    include!(concat!(env!("OUT_DIR"), "/modules.rs"));
}

pub use generated::node::*;
pub(crate) use generated::node_ttrpc as service;
pub use object_result::Outcome;

impl PolicyRef {
    /// Kind, namespace (empty for a cluster policy) and name.
    pub fn of(
        kind: impl Into<String>,
        namespace: impl Into<String>,
        name: impl Into<String>,
    ) -> Self {
        let mut policy = Self::new();
        policy.kind = kind.into();
        policy.namespace = namespace.into();
        policy.name = name.into();
        policy
    }

    /// "VarmorPolicy demo/name", for messages.
    pub fn title(&self) -> String {
        match self.namespace.as_str() {
            "" => format!("{} {}", self.kind, self.name),
            namespace => format!("{} {namespace}/{}", self.kind, self.name),
        }
    }
}

impl ObjectResult {
    /// The result of the object at `index`.
    pub fn of(
        index: usize,
        policy: PolicyRef,
        outcome: Outcome,
        message: impl Into<String>,
    ) -> Self {
        let mut result = Self::new();
        result.index = u32::try_from(index).unwrap_or(u32::MAX);
        result.policy = protobuf::MessageField::some(policy);
        result.outcome = outcome.into();
        result.message = message.into();
        result
    }
}
