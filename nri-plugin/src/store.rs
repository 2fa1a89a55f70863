//! The policies that should be in force: from files and from the node API, each compiled once.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use varmor_policy::PolicyObject;
use varmor_policy::plan::{EnforcementPlan, PolicyRef, Seccomp};

/// Turns a policy into what the enforcers load. The error is for the policy's author.
pub type Compiler = dyn Fn(&PolicyObject) -> Result<EnforcementPlan, String> + Send + Sync;

/// A policy that was understood.
#[derive(Debug)]
pub struct Policy {
    /// Kind, namespace and name.
    pub reference: PolicyRef,
    /// The object.
    pub object: PolicyObject,
    /// SHA-256 (hex) of the object: equal digests need no new work.
    pub digest: String,
    /// Name of its profile in every enforcer.
    pub profile: String,
    /// Whether it has an AppArmor part.
    pub has_apparmor: bool,
    /// Whether it has a BPF part.
    pub has_bpf: bool,
    /// Its seccomp part.
    pub seccomp: Option<Seccomp>,
    /// The tables are large and needed once: taken when they are loaded, compiled again if that must be repeated.
    plan: Mutex<Option<EnforcementPlan>>,
}

impl Policy {
    /// Compiles an object.
    pub fn new(object: PolicyObject, compiler: &Compiler) -> Result<Self, String> {
        let plan = compiler(&object)?;
        let text = serde_json::to_vec(&object).map_err(|error| error.to_string())?;
        Ok(Self {
            reference: object.reference(),
            digest: crate::policies_dir::digest(&text),
            profile: plan.profile.clone(),
            has_apparmor: plan.apparmor.is_some(),
            has_bpf: plan.bpf.is_some(),
            seccomp: plan.seccomp.clone(),
            plan: Mutex::new(Some(plan)),
            object,
        })
    }

    /// The plan, which is given away or made anew.
    pub fn take_plan(&self, compiler: &Compiler) -> Result<EnforcementPlan, String> {
        let kept = self.plan.lock().expect("no panic while it was held").take();
        match kept {
            Some(plan) => Ok(plan),
            None => compiler(&self.object),
        }
    }

    /// SHA-256 (hex) of the seccomp part, to tell whether a container's filter is made of this one.
    pub fn seccomp_digest(&self) -> Option<String> {
        let text = match self.seccomp.as_ref()? {
            Seccomp::RuntimeDefault => "RuntimeDefault".to_owned(),
            Seccomp::Rules(rules) => rules.to_string(),
        };
        Some(crate::policies_dir::digest(text.as_bytes()))
    }
}

/// Reads the text of a policy file.
///
/// # Errors
/// Every error of every object, in one text: a file is taken whole or not at all.
pub fn read(text: &str, compiler: &Compiler) -> Result<Vec<Arc<Policy>>, String> {
    let objects = varmor_policy::parse(text).map_err(|errors| join(&errors))?;
    let mut policies = Vec::new();
    let mut errors = Vec::new();
    for object in objects {
        match Policy::new(object, compiler) {
            Ok(policy) => policies.push(Arc::new(policy)),
            Err(error) => errors.push(error),
        }
    }
    if errors.is_empty() {
        Ok(policies)
    } else {
        Err(errors.join("; "))
    }
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
#[derive(Debug, Default, Clone)]
pub struct Desired {
    /// Every policy once.
    pub policies: BTreeMap<PolicyRef, Arc<Policy>>,
    /// The objects alone, as matching wants them.
    pub objects: Vec<PolicyObject>,
    /// Where each comes from: the path of a file, or who brought it through the node API.
    pub sources: BTreeMap<PolicyRef, String>,
    /// What is wrong between sources: (source, what).
    pub conflicts: Vec<(String, String)>,
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
                    profiles.get(&*policy.profile),
                ) {
                    (Some(first), _) => Some(format!(
                        "{reference} is also in {first}, which counts: remove one of them"
                    )),
                    (None, Some(other)) => Some(format!(
                        "{reference} and {other} have the same profile name {}, and the first of these is not in force: \
                         rename it",
                        policy.profile
                    )),
                    (None, None) => None,
                };
                if let Some(conflict) = conflict {
                    desired.conflicts.push((source.to_owned(), conflict));
                    continue;
                }
                profiles.insert(&policy.profile, reference);
                desired.sources.insert(reference.clone(), source.to_owned());
                desired.objects.push(policy.object.clone());
                desired
                    .policies
                    .insert(reference.clone(), Arc::clone(policy));
            }
        }
        desired
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;
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

    /// Compiles to what the enforcer field names; a policy called `broken` does not compile.
    pub fn compiler(object: &PolicyObject) -> Result<EnforcementPlan, String> {
        let policy = object.reference();
        if policy.name == "broken" {
            return Err(format!("{policy}: spec: broken"));
        }
        let enforcer = &object.spec().policy.enforcer;
        let profile = format!("varmor-{}-{}", policy.namespace, policy.name);
        Ok(EnforcementPlan {
            apparmor: enforcer
                .contains("AppArmor")
                .then(|| format!("profile {profile} {enforcer}")),
            seccomp: enforcer
                .contains("Seccomp")
                .then(|| Seccomp::Rules(serde_json::json!({"defaultAction": "SCMP_ACT_ALLOW"}))),
            bpf: enforcer.contains("BPF").then(BpfProfile::default),
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
        assert_eq!(error, "VarmorPolicy demo/broken: spec: broken");
        assert!(read("kind: [", &compiler).is_err());
    }

    #[test]
    fn the_first_source_wins_and_the_second_is_told() {
        let one = read(&text(&[("a", "BPF")]), &compiler).unwrap();
        let two = read(&text(&[("a", "AppArmor"), ("b", "BPF")]), &compiler).unwrap();
        let desired = Desired::new([("1.yaml", one.as_slice()), ("2.yaml", two.as_slice())]);
        assert_eq!(desired.policies.len(), 2);
        assert_eq!(desired.objects.len(), 2);
        assert!(desired.policies.values().all(|policy| policy.has_bpf));
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
        let same = |object: &PolicyObject| {
            compiler(object).map(|plan| EnforcementPlan {
                profile: "varmor-x".into(),
                ..plan
            })
        };
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
        let first = policy.take_plan(&compiler).unwrap();
        assert_eq!(first, policy.take_plan(&compiler).unwrap());
        assert!(policy.has_apparmor && policy.has_bpf && policy.seccomp_digest().is_some());
    }
}
