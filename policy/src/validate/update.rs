// SPDX-License-Identifier: Apache-2.0
//! Which changes of a policy object are accepted.
//!
//! Running workloads were started for the old object: some of what it put in place stays until they are started anew,
//! so that the new one would not say what holds.

use crate::enforcer::{Enforcer, Enforcers};
use crate::error::{Findings, PolicyError};
use crate::types::PolicyObject;

/// The phase in which a policy gathers what its workloads do.
const PHASE_MODELING: &str = "Modeling";
const MODE_MODELING: &str = "BehaviorModeling";

/// Checks the change of an object from `old` to `new`, both of which are valid by themselves. Whether the old one is
/// still gathering behaviour is read from its `status.phase`.
///
/// # Errors
/// Every change that is not accepted: another target, an enforcer taken away that is not BPF, and while the old object
/// models behaviour, another mode or enforcer.
pub fn update(old: &PolicyObject, new: &PolicyObject) -> Result<(), Vec<PolicyError>> {
    let mut findings = Findings::new(new.reference());
    if old.reference() != new.reference() {
        findings.add(
            "metadata.name",
            format!(
                "{} is another object than {}; delete the one and create the other",
                new.reference(),
                old.reference()
            ),
        );
        return findings.finish(());
    }
    if old.spec().target != new.spec().target {
        findings.add(
            "spec.target",
            "whom a policy selects cannot change; create another policy, or delete this one first",
        );
    }
    let (before, after) = (&old.spec().policy, &new.spec().policy);
    let is_modeling = phase(old) == Some(PHASE_MODELING);
    if is_modeling && after.mode != MODE_MODELING {
        findings.add(
            "spec.policy.mode",
            "behaviour is being modelled; wait until status.phase is Completed, or delete the policy",
        );
    }
    // What is wrong with a text that names no enforcer is said where the object itself is checked.
    if let (Ok(before), Ok(after)) = (
        Enforcers::parse(&before.enforcer),
        Enforcers::parse(&after.enforcer),
    ) {
        enforcers(before, after, is_modeling, &mut findings);
    }
    findings.finish(())
}

fn enforcers(old: Enforcers, new: Enforcers, is_modeling: bool, findings: &mut Findings) {
    const FIELD: &str = "spec.policy.enforcer";
    if is_modeling && old != new {
        findings.add(
            FIELD,
            format!(
                "behaviour is being modelled with `{old}`; wait until status.phase is Completed"
            ),
        );
        return;
    }
    let mut without_bpf = old;
    without_bpf.remove(Enforcer::Bpf);
    let missing: Enforcers = old.iter().filter(|e| !new.contains(*e)).collect();
    if missing.is_empty() || new == without_bpf {
        return;
    }
    let only_bpf = missing.iter().eq([Enforcer::Bpf]);
    findings.add(
        FIELD,
        if only_bpf {
            format!("`{old}` cannot become `{new}` at once; remove BPF first and add the rest then")
        } else {
            format!(
                "`{new}` lacks what `{old}` has, and only BPF can be taken from running workloads; keep the others, \
                 or delete the policy and create it anew"
            )
        },
    );
}

fn phase(object: &PolicyObject) -> Option<&str> {
    object.policy().status.as_ref()?.get("phase")?.as_str()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(enforcer: &str, mode: &str, phase: &str) -> PolicyObject {
        named("p", "{kind: Pod, name: a}", enforcer, mode, phase)
    }

    fn named(name: &str, target: &str, enforcer: &str, mode: &str, phase: &str) -> PolicyObject {
        let yaml = format!(
            "apiVersion: crd.varmor.org/v1beta1\nkind: VarmorPolicy\nmetadata: {{name: {name}, namespace: demo}}\n\
             spec: {{target: {target}, policy: {{enforcer: {enforcer}, mode: {mode}}}}}\nstatus: {{phase: {phase}}}\n"
        );
        crate::parse(&yaml).expect("valid").remove(0)
    }

    fn refusals(old: &PolicyObject, new: &PolicyObject) -> Vec<String> {
        update(old, new)
            .err()
            .unwrap_or_default()
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    #[test]
    fn enforcers_are_added_and_only_bpf_is_taken_away() {
        for (old, new, expected) in [
            ("BPF", "BPF", None),
            ("BPF", "bpf", None),
            ("AppArmorBPF", "BPFAppArmor", None),
            ("BPF", "AppArmorBPF", None),
            ("AppArmor", "AppArmorBPFSeccomp", None),
            ("AppArmorBPF", "AppArmor", None),
            ("AppArmorBPFSeccomp", "AppArmorSeccomp", None),
            ("AppArmorBPF", "BPF", Some("lacks what `AppArmorBPF` has")),
            ("AppArmorSeccomp", "AppArmor", Some("lacks what")),
            ("AppArmorSeccomp", "Seccomp", Some("lacks what")),
            (
                "AppArmorBPFSeccomp",
                "AppArmor",
                Some("only BPF can be taken"),
            ),
            ("AppArmor", "BPF", Some("lacks what")),
            ("AppArmorBPF", "AppArmorSeccomp", Some("remove BPF first")),
            // Nothing would be left.
            ("BPF", "Seccomp", Some("remove BPF first")),
        ] {
            let found = refusals(
                &object(old, "AlwaysAllow", "Protecting"),
                &object(new, "AlwaysAllow", "Pending"),
            );
            match expected {
                None => assert!(found.is_empty(), "{old} -> {new}: {found:?}"),
                Some(text) => assert!(
                    found.len() == 1
                        && found[0].contains("spec.policy.enforcer: ")
                        && found[0].contains(text),
                    "{old} -> {new}: {found:?}"
                ),
            }
        }
    }

    #[test]
    fn modes_change_freely_but_not_while_behaviour_is_modelled() {
        const MODES: [&str; 5] = [
            "AlwaysAllow",
            "RuntimeDefault",
            "EnhanceProtect",
            "BehaviorModeling",
            "DefenseInDepth",
        ];
        for phase in [
            "Pending",
            "Protecting",
            "Modeling",
            "Completed",
            "Error",
            "7",
        ] {
            for old in MODES {
                for new in MODES {
                    let found = refusals(&object("BPF", old, phase), &object("BPF", new, phase));
                    let refused = phase == "Modeling" && new != "BehaviorModeling";
                    assert_eq!(
                        found.len(),
                        usize::from(refused),
                        "{phase}: {old} -> {new}: {found:?}"
                    );
                    assert!(found.iter().all(|e| e.contains("spec.policy.mode: ")));
                }
            }
        }
    }

    #[test]
    fn enforcers_stay_while_behaviour_is_modelled() {
        for (new, refused) in [
            ("AppArmorBPF", false),
            ("BPFAppArmor", false),
            ("AppArmor", true),
            ("AppArmorBPFSeccomp", true),
        ] {
            let mode = "BehaviorModeling";
            let found = refusals(
                &object("AppArmorBPF", mode, "Modeling"),
                &object(new, mode, "Modeling"),
            );
            assert_eq!(found.len(), usize::from(refused), "{new}: {found:?}");
        }
    }

    #[test]
    fn the_target_stays() {
        let with = |target: &str| named("p", target, "BPF", "AlwaysAllow", "Protecting");
        let old = with("{kind: Pod, name: a}");
        assert_eq!(
            update(&old, &with("{kind: Pod, name: a, containers: []}")),
            Ok(())
        );
        for target in [
            "{kind: Deployment, name: a}",
            "{kind: Pod, name: b}",
            "{kind: Pod, selector: {}}",
            "{kind: Pod, name: a, containers: [c]}",
        ] {
            let found = refusals(&old, &with(target));
            assert!(
                found.len() == 1 && found[0].contains("spec.target: "),
                "{target}: {found:?}"
            );
        }
        let other = named("q", "{kind: Pod, name: a}", "BPF", "AlwaysAllow", "");
        assert!(refusals(&old, &other)[0].contains("another object"));
    }
}
