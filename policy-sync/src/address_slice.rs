// SPDX-License-Identifier: Apache-2.0
//! Addresses beside a profile, in slices of which one is written when one address changes. What the controller writes
//! and the nodes read. Pure.

use std::collections::BTreeSet;

use kube::api::DynamicObject;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use varmor_policy::types::{Destination, Port};

/// Label of a slice: the name of its profile.
pub const LABEL_PROFILE: &str = "varmor.org/profile";
/// Where a policy has its destinations.
const EGRESS: [&str; 6] = [
    "spec",
    "policy",
    "enhanceProtect",
    "bpfRawRules",
    "network",
    "egress",
];

/// What is to be done about addresses.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rule {
    ports: Vec<(u16, Option<u16>)>,
    qualifiers: Vec<String>,
}

impl Rule {
    /// A rule about ports (none: all of them), with `deny`, `audit` or both. The order is of no account.
    pub fn new(
        ports: impl IntoIterator<Item = (u16, Option<u16>)>,
        qualifiers: impl IntoIterator<Item = impl AsRef<str>>,
    ) -> Self {
        let ports: BTreeSet<_> = ports.into_iter().collect();
        let qualifiers = qualifiers.into_iter();
        let qualifiers: BTreeSet<_> = qualifiers
            .map(|one| one.as_ref().to_ascii_lowercase())
            .collect();
        Self {
            ports: ports.into_iter().collect(),
            qualifiers: qualifiers.into_iter().rev().collect(),
        }
    }
}

/// Addresses that share a rule.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AddressSlice {
    /// The rule.
    pub rule: Rule,
    /// The addresses.
    pub addresses: BTreeSet<String>,
}

/// A slice as an object has it.
#[derive(Serialize, Deserialize)]
struct Spec {
    #[serde(default)]
    qualifiers: Vec<String>,
    #[serde(default)]
    ports: Vec<Port>,
    #[serde(default)]
    addresses: BTreeSet<String>,
}

impl AddressSlice {
    /// The slice of an ArmorAddressSlice.
    ///
    /// # Errors
    /// What is wrong with it, with the field.
    pub fn read(object: &DynamicObject) -> Result<Self, String> {
        let spec = object.data.get("spec").cloned().unwrap_or_default();
        let spec: Spec = serde_json::from_value(spec).map_err(|error| format!("spec: {error}"))?;
        let ports = spec.ports.iter().map(|port| (port.port, port.end_port));
        Ok(Self {
            rule: Rule::new(ports, &spec.qualifiers),
            addresses: spec.addresses,
        })
    }

    /// The `spec` of its ArmorAddressSlice.
    pub fn spec(&self) -> Value {
        json!(Spec {
            qualifiers: self.rule.qualifiers.clone(),
            ports: ports(&self.rule),
            addresses: self.addresses.clone(),
        })
    }
}

fn ports(rule: &Rule) -> Vec<Port> {
    let ports = rule.ports.iter();
    ports
        .map(|&(port, end_port)| Port { port, end_port })
        .collect()
}

/// The destinations of slices, each once, in an order that does not depend on what is in which slice.
pub fn destinations<'a>(slices: impl IntoIterator<Item = &'a AddressSlice>) -> Vec<Destination> {
    let all: BTreeSet<(&String, &Rule)> = slices
        .into_iter()
        .flat_map(|slice| {
            let rule = &slice.rule;
            slice.addresses.iter().map(move |address| (address, rule))
        })
        .collect();
    all.into_iter()
        .map(|(address, rule)| Destination {
            qualifiers: rule.qualifiers.clone(),
            ip: Some(address.clone()),
            cidr: None,
            ports: ports(rule),
        })
        .collect()
}

/// Puts the destinations of slices into a policy.
///
/// # Errors
/// A field of the policy that is not what it must be.
pub fn compose<'a>(
    policy: &mut Value,
    slices: impl IntoIterator<Item = &'a AddressSlice>,
) -> Result<(), String> {
    let found = destinations(slices);
    if found.is_empty() {
        return Ok(());
    }
    let mut place = policy;
    for (depth, field) in EGRESS.iter().enumerate() {
        let Some(fields) = place.as_object_mut() else {
            return Err(format!("{} is no object", EGRESS[..depth].join(".")));
        };
        place = fields.entry(*field).or_insert_with(|| json!({}));
    }
    let Some(egress) = place.as_object_mut() else {
        return Err(format!("{} is no object", EGRESS.join(".")));
    };
    let list = egress.entry("toDestinations").or_insert_with(|| json!([]));
    let Some(list) = list.as_array_mut() else {
        return Err(format!("{}.toDestinations is no list", EGRESS.join(".")));
    };
    list.extend(found.into_iter().map(|one| json!(one)));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slice(ports: &[(u16, Option<u16>)], addresses: &[&str]) -> AddressSlice {
        AddressSlice {
            rule: Rule::new(ports.iter().copied(), ["deny"]),
            addresses: addresses.iter().map(|&one| one.to_owned()).collect(),
        }
    }

    #[test]
    fn rules_of_one_meaning_are_equal() {
        let rule = Rule::new(
            [(90, Some(99)), (80, None), (80, None)],
            ["audit", "DENY", "audit"],
        );
        assert_eq!(
            rule,
            Rule::new([(80, None), (90, Some(99))], ["deny", "audit"])
        );
        assert_eq!(rule.qualifiers, ["deny", "audit"]);
    }

    #[test]
    fn what_is_written_is_read() {
        for slice in [
            slice(&[], &["10.0.0.1"]),
            slice(&[(80, None), (90, Some(99))], &["10.0.0.1", "fd00::1"]),
        ] {
            let object = json!({"apiVersion": "crd.varmor.org/v1beta1", "kind": "ArmorAddressSlice",
                "metadata": {"name": "a"}, "spec": slice.spec()});
            let object: DynamicObject = serde_json::from_value(object).unwrap();
            assert_eq!(AddressSlice::read(&object), Ok(slice));
        }
        let object = json!({"metadata": {"name": "a"}, "spec": {"addresses": "10.0.0.1"}});
        let object: DynamicObject = serde_json::from_value(object).unwrap();
        let error = AddressSlice::read(&object).unwrap_err();
        assert!(error.starts_with("spec: "), "{error}");
    }

    #[test]
    fn the_policy_does_not_depend_on_what_is_in_which_slice() {
        let empty = json!({"spec": {"policy": {"enhanceProtect": {}}}});
        let composed = |slices: &[AddressSlice]| {
            let mut policy = empty.clone();
            compose(&mut policy, slices).unwrap();
            policy
        };
        let one = composed(&[slice(&[], &["10.0.0.1", "10.0.0.2", "10.0.0.3"])]);
        let list = &one["spec"]["policy"]["enhanceProtect"]["bpfRawRules"]["network"]["egress"]["toDestinations"];
        assert_eq!(list.as_array().map(Vec::len), Some(3));
        assert_eq!(list[0], json!({"qualifiers": ["deny"], "ip": "10.0.0.1"}));
        let parts = [
            slice(&[], &["10.0.0.3", "10.0.0.1"]),
            slice(&[], &["10.0.0.2", "10.0.0.1"]),
        ];
        assert_eq!(composed(&parts), one);
        assert_eq!(composed(&[]), empty, "nothing is added for no address");
    }

    #[test]
    fn destinations_that_a_policy_has_come_first() {
        let mut policy = json!({"spec": {"policy": {"enhanceProtect": {"bpfRawRules": {"network": {"egress":
            {"toDestinations": [{"ip": "192.0.2.1"}]}}}}}}});
        compose(&mut policy, &[slice(&[], &["10.0.0.1"])]).unwrap();
        let pointer = "/spec/policy/enhanceProtect/bpfRawRules/network/egress/toDestinations";
        let list = policy.pointer(pointer).unwrap();
        assert_eq!(
            (&list[0]["ip"], &list[1]["ip"]),
            (&json!("192.0.2.1"), &json!("10.0.0.1"))
        );
    }

    #[test]
    fn a_policy_of_another_form_is_an_error() {
        let slices = [slice(&[], &["10.0.0.1"])];
        for (policy, part) in [
            (json!("x"), " is no object"),
            (json!({"spec": {"policy": 1}}), "spec.policy is no object"),
            (
                json!({"spec": {"policy": {"enhanceProtect": {"bpfRawRules": {"network": {"egress":
                    {"toDestinations": "x"}}}}}}}),
                "egress.toDestinations is no list",
            ),
        ] {
            let error = compose(&mut policy.clone(), &slices).unwrap_err();
            assert!(error.ends_with(part), "{error}");
        }
    }
}
