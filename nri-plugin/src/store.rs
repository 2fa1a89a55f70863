// SPDX-License-Identifier: Apache-2.0
//! The policies that should be in force: from files and from the node API, each compiled once, and the profiles of those
//! that hold together.

mod profile;

pub use profile::{Profile, title};

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use varmor_policy::plan::{EnforcementPlan, PolicyRef};
use varmor_policy::{PolicyError, PolicyObject};

/// Turns a policy, or several that hold together, into what the enforcers load; under the usual name when none is given.
/// The errors are for the policies' authors.
pub type Compiler = dyn Fn(&[&PolicyObject], Option<&str>) -> Result<EnforcementPlan, Vec<PolicyError>>
    + Send
    + Sync;

/// A policy that was understood.
#[derive(Debug)]
pub struct Policy {
    /// Kind, namespace and name.
    pub reference: PolicyRef,
    /// The object.
    pub object: Arc<PolicyObject>,
    /// SHA-256 (hex) of the object: equal digests need no new work.
    pub digest: String,
    /// Its own profile, of it alone.
    pub profile: Arc<Profile>,
}

impl Policy {
    /// Compiles an object.
    pub fn new(object: PolicyObject, compiler: &Compiler) -> Result<Self, String> {
        let plan = compiler(&[&object], None).map_err(|errors| join(&errors))?;
        Self::compiled(object, plan)
    }

    fn compiled(object: PolicyObject, plan: EnforcementPlan) -> Result<Self, String> {
        let text = serde_json::to_vec(&object).map_err(|error| error.to_string())?;
        let digest = crate::policies_dir::digest(&text);
        let object = Arc::new(object);
        Ok(Self {
            reference: object.reference(),
            profile: Arc::new(Profile::of_policy(
                Arc::clone(&object),
                digest.clone(),
                plan,
            )),
            digest,
            object,
        })
    }
}

/// Reads the text of a policy file.
///
/// # Errors
/// Every error of every object, with their lines, in one text: a file is taken whole or not at all.
pub fn read(text: &str, compiler: &Compiler) -> Result<Vec<Arc<Policy>>, String> {
    varmor_policy::document::check(text, |object| compiler(&[object], None))
        .map_err(|errors| join(&errors))?
        .into_iter()
        .map(|(object, plan)| Policy::compiled(object, plan).map(Arc::new))
        .collect()
}

/// Errors as one sentence.
pub fn join<E: ToString>(errors: &[E]) -> String {
    errors
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join("; ")
}

/// The policies of all sources together.
#[derive(Debug, Default)]
pub struct Desired {
    /// Every policy once.
    pub policies: BTreeMap<PolicyRef, Arc<Policy>>,
    /// The objects alone, as matching wants them.
    pub objects: Vec<PolicyObject>,
    /// Where each comes from: the path of a file, or who brought it through the node API.
    pub sources: BTreeMap<PolicyRef, String>,
    /// What is wrong between sources: (source, what).
    pub conflicts: Vec<(String, String)>,
    /// Profiles of several policies that were asked for.
    composed: Mutex<BTreeMap<Vec<PolicyRef>, Arc<Profile>>>,
}

impl Desired {
    /// Joins sources (name and policies), the first of which wins where two have the same object or profile.
    pub fn new<'a>(sources: impl IntoIterator<Item = (&'a str, &'a [Arc<Policy>])>) -> Self {
        let mut desired = Self::default();
        let mut profiles: BTreeMap<&str, &PolicyRef> = BTreeMap::new();
        for (source, policies) in sources {
            for policy in policies {
                let reference = &policy.reference;
                let conflict = match (
                    desired.sources.get(reference),
                    profiles.get(&*policy.profile.name),
                ) {
                    (Some(first), _) => Some(format!(
                        "{reference} is also in {first}, which counts: remove one of them"
                    )),
                    (None, Some(other)) => Some(format!(
                        "{reference} and {other} have the same profile name {}, and the first of these is not in force: \
                         rename it",
                        policy.profile.name
                    )),
                    (None, None) => None,
                };
                if let Some(conflict) = conflict {
                    desired.conflicts.push((source.to_owned(), conflict));
                    continue;
                }
                profiles.insert(&policy.profile.name, reference);
                desired.sources.insert(reference.clone(), source.to_owned());
                desired.objects.push((*policy.object).clone());
                desired
                    .policies
                    .insert(reference.clone(), Arc::clone(policy));
            }
        }
        desired
    }

    /// The profile of policies that hold together, or of one; `None` when one of them is not there.
    pub fn profile_of(&self, policies: &[PolicyRef]) -> Option<Arc<Profile>> {
        if let [policy] = policies {
            return Some(Arc::clone(&self.policies.get(policy)?.profile));
        }
        let mut composed = self.composed.lock().expect("no panic while it was held");
        if let Some(known) = composed.get(policies) {
            return Some(Arc::clone(known));
        }
        let members = self.present(policies);
        if members.is_empty() || members.len() < policies.len() {
            return None;
        }
        let profile = Arc::new(Profile::composed(&members));
        composed.insert(policies.to_vec(), Arc::clone(&profile));
        Some(profile)
    }

    /// Those of some policies that are there.
    pub fn present(&self, policies: &[PolicyRef]) -> Vec<Arc<Policy>> {
        policies
            .iter()
            .filter_map(|policy| self.policies.get(policy).cloned())
            .collect()
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use varmor_policy::plan::Seccomp;
    use varmor_policy::plan::bpf::BpfProfile;

    /// A policy file with one policy per name, for every pod of namespace `demo`.
    pub fn text(names: &[(&str, &str)]) -> String {
        names
            .iter()
            .map(|(name, enforcer)| {
                format!(
                    "---\napiVersion: crd.varmor.org/v1beta1\nkind: VarmorPolicy\nmetadata: {{name: {name}, namespace: demo}}\n\
                     spec: {{target: {{kind: Pod, selector: {{}}}}, policy: {{enforcer: {enforcer}, mode: AlwaysAllow}}}}\n"
                )
            })
            .collect()
    }

    /// Compiles to what the enforcer field names. A policy called `broken` does not compile, and one called `poison` not
    /// together with others.
    pub fn compiler(
        objects: &[&PolicyObject],
        name: Option<&str>,
    ) -> Result<EnforcementPlan, Vec<PolicyError>> {
        let references: Vec<PolicyRef> = objects.iter().map(|object| object.reference()).collect();
        for policy in &references {
            if policy.name == "broken" || (policy.name == "poison" && objects.len() > 1) {
                return Err(vec![PolicyError {
                    object: policy.clone(),
                    field: "spec".to_owned(),
                    text_line: None,
                    message: "broken".to_owned(),
                }]);
            }
        }
        let policy = references[0].clone();
        let profile = match (name, &references[..]) {
            (Some(name), _) => name.to_owned(),
            (None, [policy]) => format!("varmor-{}-{}", policy.namespace, policy.name),
            (None, several) => varmor_policy::compile::composed_profile_name(several),
        };
        let having = |enforcer: &str| -> Vec<&str> {
            let with = objects
                .iter()
                .filter(|object| object.spec().policy.enforcer.contains(enforcer));
            with.map(|object| object.policy().metadata.name.as_str())
                .collect()
        };
        let apparmor = having("AppArmor");
        Ok(EnforcementPlan {
            apparmor: (!apparmor.is_empty())
                .then(|| format!("profile {profile} of {}", apparmor.join(" "))),
            seccomp: (!having("Seccomp").is_empty())
                .then(|| Seccomp::Rules(serde_json::json!({"defaultAction": "SCMP_ACT_ALLOW"}))),
            bpf: (!having("BPF").is_empty()).then(BpfProfile::default),
            policy,
            profile,
        })
    }

    #[test]
    fn a_file_is_taken_whole_or_not_at_all() {
        assert_eq!(
            read(&text(&[("a", "BPF"), ("b", "BPF")]), &compiler)
                .unwrap()
                .len(),
            2
        );
        let error = read(&text(&[("a", "BPF"), ("broken", "BPF")]), &compiler).unwrap_err();
        assert_eq!(
            error,
            "line 10, column 1: VarmorPolicy demo/broken: spec: broken"
        );
        assert!(read("kind: [", &compiler).is_err());
    }

    #[test]
    fn the_first_source_wins_and_the_second_is_told() {
        let one = read(&text(&[("a", "BPF")]), &compiler).unwrap();
        let two = read(&text(&[("a", "AppArmor"), ("b", "BPF")]), &compiler).unwrap();
        let desired = Desired::new([("1.yaml", one.as_slice()), ("2.yaml", two.as_slice())]);
        assert_eq!(desired.policies.len(), 2);
        assert_eq!(desired.objects.len(), 2);
        assert!(
            desired
                .policies
                .values()
                .all(|policy| policy.profile.has_bpf)
        );
        assert_eq!(desired.conflicts.len(), 1);
        assert_eq!(desired.conflicts[0].0, "2.yaml");
        assert!(
            desired.conflicts[0].1.contains("1.yaml"),
            "{:?}",
            desired.conflicts
        );
    }

    #[test]
    fn two_policies_never_share_a_profile() {
        let same = |objects: &[&PolicyObject], _: Option<&str>| compiler(objects, Some("varmor-x"));
        let policies = read(&text(&[("a", "BPF"), ("b", "BPF")]), &same).unwrap();
        let desired = Desired::new([("1.yaml", policies.as_slice())]);
        assert_eq!(desired.policies.len(), 1);
        assert!(
            desired.conflicts[0]
                .1
                .contains("same profile name varmor-x"),
            "{:?}",
            desired.conflicts
        );
    }

    #[test]
    fn a_plan_is_given_away_and_made_again() {
        let policy = &read(&text(&[("a", "AppArmorBPFSeccomp")]), &compiler).unwrap()[0];
        let profile = &policy.profile;
        let first = profile.take_plan(&compiler).unwrap();
        assert_eq!(first, profile.take_plan(&compiler).unwrap());
        assert!(profile.has_apparmor && profile.has_bpf && profile.seccomp_digest().is_some());
    }

    #[test]
    fn a_composition_is_told_by_its_members_and_their_versions() {
        let desired = |enforcer: &str| {
            let policies = read(&text(&[("a", enforcer), ("b", "BPFSeccomp")]), &compiler).unwrap();
            Desired::new([("1.yaml", policies.as_slice())])
        };
        let (one, other) = (desired("AppArmor"), desired("AppArmorBPF"));
        let names: Vec<PolicyRef> = one.policies.keys().cloned().collect();
        let profile = one.profile_of(&names).unwrap();
        assert!(profile.is_composed() && profile.has_apparmor && profile.has_bpf);
        assert_eq!(
            profile.title(),
            "VarmorPolicy demo/a merged with VarmorPolicy demo/b"
        );
        let plan = profile.take_plan(&compiler).unwrap();
        assert_eq!(plan.profile, profile.name);
        assert_eq!(plan.seccomp, profile.seccomp);
        assert_eq!(
            (plan.apparmor.is_some(), plan.bpf.is_some()),
            (profile.has_apparmor, profile.has_bpf)
        );
        assert!(
            Arc::ptr_eq(&profile, &one.profile_of(&names).unwrap()),
            "made once"
        );
        let edited = other.profile_of(&names).unwrap();
        assert_eq!(edited.name, profile.name);
        assert!(!edited.is_same(&profile));
        let left = Profile::remaining(&profile.name, &one.present(&names[1..]));
        assert_eq!((&left.name, left.has_apparmor), (&profile.name, false));
        assert!(!left.is_same(&profile) && !left.is_same(&one.policies[&names[1]].profile));
        // One alone is the policy's own profile; what is not there has none.
        assert!(!one.profile_of(&names[..1]).unwrap().is_composed());
        let mut unknown = names.clone();
        unknown[0].name = "c".into();
        assert!(one.profile_of(&unknown).is_none());
    }
}
