// SPDX-License-Identifier: Apache-2.0
//! Services and pods in rules, and the addresses that they have now. Pure: [`super::watches`] fills the view.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use varmor_policy::PolicyObject;
use varmor_policy::enforcer::{Enforcer, Enforcers};
use varmor_policy::rules::{self, BpfPart};
use varmor_policy::types::{EnhanceProtect, LabelSelector, PodTarget, ServiceTarget};

use super::slicing::Wanted;
use crate::address_slice::{self, AddressSlice, Rule};

/// Namespace and name.
pub type Name = (String, String);
type Labels = BTreeMap<String, String>;

/// A service.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Service {
    /// Its labels.
    pub labels: Labels,
    /// Its cluster addresses.
    pub addresses: Vec<String>,
}

/// A part of a service's endpoints.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Slice {
    /// Its service.
    pub service: String,
    /// Its labels.
    pub labels: Labels,
    /// Its addresses.
    pub addresses: Vec<String>,
    /// Its ports.
    pub ports: Vec<u16>,
}

/// A pod.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Pod {
    /// Its labels.
    pub labels: Arc<Labels>,
    /// Its addresses; none once it has ended, since others get them then.
    pub addresses: Vec<String>,
}

/// The addresses of the cluster.
#[derive(Debug, Clone, Default)]
pub struct Addresses {
    /// Services.
    pub services: BTreeMap<Name, Service>,
    /// Endpoint slices.
    pub slices: BTreeMap<Name, Slice>,
    /// Pods.
    pub pods: BTreeMap<Name, Pod>,
    /// The labels of the pods.
    pub label_sets: LabelSets,
}

/// Sets of labels, each once: all pods of a workload have the same.
#[derive(Debug, Clone, Default)]
pub struct LabelSets {
    known: BTreeSet<Arc<Labels>>,
    /// How many were left when those that nobody has were thrown away.
    left: usize,
}

impl LabelSets {
    /// The set that is the same.
    pub fn share(&mut self, labels: Arc<Labels>) -> Arc<Labels> {
        if let Some(known) = self.known.get(&labels) {
            return Arc::clone(known);
        }
        if self.known.len() >= 2 * self.left + 100 {
            self.known.retain(|set| Arc::strong_count(set) > 1);
            self.left = self.known.len();
        }
        self.known.insert(Arc::clone(&labels));
        labels
    }
}

/// The number of a port of an endpoint slice.
pub fn port(value: &Value) -> Option<u16> {
    value.get("port")?.as_u64()?.try_into().ok()
}

/// The services and pods that a policy names.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Targets {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    services: Vec<ServiceTarget>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pods: Vec<PodTarget>,
}

impl Targets {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.services.is_empty() && self.pods.is_empty()
    }
}

/// Takes the rules about services and pods out of a policy; its addresses come in their place.
pub fn take(object: &mut PolicyObject) -> Targets {
    let (PolicyObject::Namespaced(policy) | PolicyObject::Cluster(policy)) = object;
    let body = &mut policy.spec.policy;
    let has_bpf =
        Enforcers::parse(&body.enforcer).is_ok_and(|enforcers| enforcers.contains(Enforcer::Bpf));
    let mut targets = Targets::default();
    let Some(enhance) = body.enhance_protect.as_mut().filter(|_| has_bpf) else {
        return targets;
    };
    let egress = enhance
        .bpf_raw_rules
        .as_mut()
        .and_then(|rules| rules.network.as_mut())
        .and_then(|network| network.egress.as_mut());
    if let Some(egress) = egress {
        targets.services = std::mem::take(&mut egress.to_services);
        targets.pods = std::mem::take(&mut egress.to_pods);
    }
    built_in(enhance, &mut targets.services);
    targets
}

/// The addresses that targets have now.
///
/// # Errors
/// A target that selects nothing, or in two ways.
pub fn find(targets: &Targets, addresses: &Addresses) -> Result<Wanted, String> {
    const FIELD: &str = "spec.policy.enhanceProtect.bpfRawRules.network.egress";
    let mut found = Wanted::new();
    for (index, target) in targets.services.iter().enumerate() {
        services(target, addresses, &mut found)
            .map_err(|error| format!("{FIELD}.toServices[{index}]: {error}"))?;
    }
    for target in &targets.pods {
        pods(target, addresses, &mut found);
    }
    Ok(found)
}

/// Puts them into the policy whose rules were taken: what a node will enforce.
pub fn put(object: &mut PolicyObject, wanted: &Wanted) {
    let (PolicyObject::Namespaced(policy) | PolicyObject::Cluster(policy)) = object;
    let slices: Vec<AddressSlice> = wanted
        .iter()
        .map(|(rule, addresses)| AddressSlice {
            rule: rule.clone(),
            addresses: addresses.clone(),
        })
        .collect();
    let found = address_slice::destinations(&slices);
    let enhance = policy.spec.policy.enhance_protect.as_mut();
    let Some(enhance) = enhance.filter(|_| !found.is_empty()) else {
        return;
    };
    let egress = enhance
        .bpf_raw_rules
        .get_or_insert_default()
        .network
        .get_or_insert_default()
        .egress
        .get_or_insert_default();
    egress.to_destinations.extend(found);
}

/// Built-in rules about services become rules about these services, with the same effect.
fn built_in(enhance: &mut EnhanceProtect, services: &mut Vec<ServiceTarget>) {
    let mut qualifiers = Vec::new();
    if !enhance.allow_violations {
        qualifiers.push("deny".to_owned());
    }
    if enhance.audit_violations {
        qualifiers.push("audit".to_owned());
    }
    let mut take = |name: &String| {
        let names: Vec<(&str, &str)> = rules::find(name)
            .into_iter()
            .flat_map(|rule| rule.bpf)
            .filter_map(|part| match part {
                BpfPart::Service { namespace, name } => Some((*namespace, *name)),
                _ => None,
            })
            .collect();
        for (namespace, name) in &names {
            if !qualifiers.is_empty() {
                services.push(ServiceTarget {
                    qualifiers: qualifiers.clone(),
                    namespace: Some((*namespace).to_owned()),
                    name: Some((*name).to_owned()),
                    service_selector: None,
                });
            }
        }
        names.is_empty()
    };
    for rule in &mut enhance.attack_protection_rules {
        if rule.targets.is_empty() {
            rule.rules.retain(&mut take);
        }
    }
    enhance
        .attack_protection_rules
        .retain(|rule| !rule.rules.is_empty());
    enhance.vul_mitigation_rules.retain(&mut take);
}

/// Every cluster address, on all ports, and every endpoint on its ports.
fn services(
    target: &ServiceTarget,
    addresses: &Addresses,
    found: &mut Wanted,
) -> Result<(), String> {
    let namespace = target.namespace.as_deref().unwrap_or_default();
    let in_namespace = |name: &Name| namespace.is_empty() || name.0 == namespace;
    let selector = match (&target.name, &target.service_selector) {
        (Some(_), None) if namespace.is_empty() => {
            return Err("a service's name needs its namespace; write both".to_owned());
        }
        (Some(name), None) => Select::Name(name),
        (None, Some(selector)) => Select::Labels(selector),
        (Some(_), Some(_)) => {
            return Err("name and serviceSelector exclude each other; remove one".to_owned());
        }
        (None, None) => {
            return Err("nothing is selected; write name and namespace, or serviceSelector".into());
        }
    };
    for (name, service) in &addresses.services {
        if in_namespace(name) && selector.holds(&name.1, &service.labels) {
            let rule = Rule::new([], &target.qualifiers);
            add(found, rule, &service.addresses);
        }
    }
    for (name, slice) in &addresses.slices {
        if in_namespace(name) && selector.holds(&slice.service, &slice.labels) {
            let ports = slice.ports.iter().map(|port| (*port, None));
            add(
                found,
                Rule::new(ports, &target.qualifiers),
                &slice.addresses,
            );
        }
    }
    Ok(())
}

enum Select<'a> {
    Name(&'a str),
    Labels(&'a LabelSelector),
}

impl Select<'_> {
    fn holds(&self, name: &str, labels: &Labels) -> bool {
        match self {
            Self::Name(wanted) => *wanted == name,
            Self::Labels(selector) => selector.matches(labels),
        }
    }
}

fn pods(target: &PodTarget, addresses: &Addresses, found: &mut Wanted) {
    let namespace = target.namespace.as_deref().unwrap_or_default();
    for (name, pod) in &addresses.pods {
        if (namespace.is_empty() || name.0 == namespace) && target.pod_selector.matches(&pod.labels)
        {
            let ports = target.ports.iter().map(|port| (port.port, port.end_port));
            add(found, Rule::new(ports, &target.qualifiers), &pod.addresses);
        }
    }
}

fn add(found: &mut Wanted, rule: Rule, addresses: &[String]) {
    if !addresses.is_empty() {
        let known = found.entry(rule).or_default();
        known.extend(addresses.iter().cloned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::slicing::{self, Slices};
    use std::collections::BTreeSet;

    fn labels(key: &str, value: &str) -> Labels {
        Labels::from([(key.to_owned(), value.to_owned())])
    }

    fn name(namespace: &str, name: &str) -> Name {
        (namespace.to_owned(), name.to_owned())
    }

    #[test]
    fn equal_sets_of_labels_are_one_and_go_with_their_pods() {
        let mut sets = LabelSets::default();
        let mut share = |value: &str| sets.share(labels("app", value).into());
        let (one, same, other) = (share("a"), share("a"), share("b"));
        assert!(Arc::ptr_eq(&one, &same) && !Arc::ptr_eq(&one, &other));
        for number in 0..1000 {
            share(&number.to_string());
        }
        assert!(sets.known.len() < 300, "{}", sets.known.len());
        assert!(sets.known.contains(&one));
    }

    fn addresses() -> Addresses {
        let service = |label: &str, address: &str| Service {
            labels: labels("app", label),
            addresses: vec![address.to_owned()],
        };
        let slice = |service: &str, label: &str, address: &str, port: u16| Slice {
            service: service.to_owned(),
            labels: labels("app", label),
            addresses: vec![address.to_owned()],
            ports: vec![port],
        };
        let pod = |label: &str, address: &str| Pod {
            labels: labels("app", label).into(),
            addresses: vec![address.to_owned()],
        };
        Addresses {
            services: BTreeMap::from([
                (name("demo", "db"), service("db", "10.96.0.5")),
                (name("other", "db"), service("db", "10.96.0.6")),
                (name("default", "kubernetes"), service("api", "10.96.0.1")),
            ]),
            slices: BTreeMap::from([
                (name("demo", "db-x"), slice("db", "db", "10.0.0.7", 5432)),
                (
                    name("default", "k-x"),
                    slice("kubernetes", "api", "192.0.2.1", 6443),
                ),
            ]),
            pods: BTreeMap::from([
                (name("demo", "a"), pod("web", "10.0.0.1")),
                (name("demo", "b"), pod("web", "fd00::1")),
                (name("other", "c"), pod("web", "10.0.0.3")),
                (name("demo", "d"), pod("db", "10.0.0.4")),
            ]),
            label_sets: LabelSets::default(),
        }
    }

    fn resolved(enhance: &str) -> Result<(Vec<String>, String), String> {
        let yaml = format!(
            "apiVersion: crd.varmor.org/v1beta1\nkind: VarmorPolicy\nmetadata: {{name: p, namespace: demo}}\n\
             spec: {{target: {{kind: Pod, name: a}}, policy: {{enforcer: BPF, mode: EnhanceProtect, enhanceProtect: {enhance}}}}}\n"
        );
        let mut object = varmor_policy::parse(&yaml).expect("valid").remove(0);
        let targets = take(&mut object);
        let wanted = find(&targets, &addresses())?;
        let mut composed = serde_json::to_value(&object).expect("JSON");
        put(&mut object, &wanted);
        let slices = slicing::assign(&Slices::new(), &wanted, &BTreeSet::new());
        address_slice::compose(&mut composed, slices.values()).expect("a policy");
        assert_eq!(
            serde_json::to_value(&object).expect("JSON"),
            composed,
            "what is checked is what a node makes of it"
        );
        varmor_policy::compile(&object, &Default::default()).expect("a node can enforce it");
        let enhance = object
            .spec()
            .policy
            .enhance_protect
            .as_ref()
            .expect("it is there");
        let egress = enhance.bpf_raw_rules.as_ref().and_then(|rules| {
            rules
                .network
                .as_ref()
                .and_then(|network| network.egress.as_ref())
        });
        let destinations = egress
            .map(|egress| &egress.to_destinations[..])
            .unwrap_or_default();
        let words = destinations.iter().map(|one| {
            let ports = one.ports.iter().map(|port| format!(":{}", port.port));
            let ports: String = ports.collect();
            format!(
                "{} {}{ports}",
                one.qualifiers.join(","),
                one.ip.as_deref().unwrap_or("any")
            )
        });
        let rules = enhance
            .attack_protection_rules
            .iter()
            .flat_map(|rule| &rule.rules);
        let rules: Vec<&str> = rules
            .chain(&enhance.vul_mitigation_rules)
            .map(String::as_str)
            .collect();
        Ok((words.collect(), rules.join(" ")))
    }

    fn egress(rule: &str) -> Result<Vec<String>, String> {
        resolved(&format!(
            "{{bpfRawRules: {{network: {{egress: {{{rule}}}}}}}}}"
        ))
        .map(|found| found.0)
    }

    #[test]
    fn services_are_their_cluster_addresses_and_endpoints() {
        assert_eq!(
            egress("toServices: [{qualifiers: [deny], namespace: demo, name: db}]"),
            Ok(vec!["deny 10.0.0.7:5432".into(), "deny 10.96.0.5".into()])
        );
        assert_eq!(
            egress(
                "toServices: [{qualifiers: [deny, audit], serviceSelector: {matchLabels: {app: db}}}]"
            ),
            Ok(vec![
                "deny,audit 10.0.0.7:5432".into(),
                "deny,audit 10.96.0.5".into(),
                "deny,audit 10.96.0.6".into(),
            ])
        );
        let error = egress("toServices: [{qualifiers: [deny], name: db}]").unwrap_err();
        assert!(
            error.contains("toServices[0]: a service's name needs its namespace"),
            "{error}"
        );
    }

    #[test]
    fn pods_are_their_addresses() {
        assert_eq!(
            egress(
                "toPods: [{qualifiers: [deny], namespace: demo, podSelector: {matchLabels: {app: web}}, ports: [{port: 80}]}], \
                    toDestinations: [{qualifiers: [audit], ip: 1.1.1.1}]"
            ),
            Ok(vec![
                "audit 1.1.1.1".into(),
                "deny 10.0.0.1:80".into(),
                "deny fd00::1:80".into()
            ])
        );
        assert_eq!(
            egress("toPods: [{qualifiers: [deny], podSelector: {matchLabels: {app: none}}}]"),
            Ok(vec![])
        );
    }

    #[test]
    fn built_in_rules_about_services_keep_their_effect() {
        let rules = "attackProtectionRules: [{rules: [block-access-to-kube-apiserver, disable-wget]}], \
                     vulMitigationRules: [ingress-nightmare-mitigation]";
        assert_eq!(
            resolved(&format!("{{{rules}, auditViolations: true}}")),
            Ok((
                vec![
                    "deny,audit 10.96.0.1".into(),
                    "deny,audit 192.0.2.1:6443".into()
                ],
                "disable-wget".into()
            ))
        );
        let lax = resolved(&format!("{{{rules}, allowViolations: true}}"));
        assert_eq!(lax, Ok((vec![], "disable-wget".into())));
    }
}
