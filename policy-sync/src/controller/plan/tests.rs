// SPDX-License-Identifier: Apache-2.0
mod addresses;

use super::*;

fn policy(name: &str, generation: i64, target: &str, egress: &str) -> Kept {
    let enhance = json!({"bpfRawRules": {"network": {"egress": serde_json::from_str::<Value>(egress).unwrap()}}});
    kept(json!({
        "apiVersion": "crd.varmor.org/v1beta1", "kind": "VarmorPolicy",
        "metadata": {"name": name, "namespace": "demo", "uid": name, "generation": generation,
            "resourceVersion": generation.to_string()},
        "spec": {"target": {"kind": "Deployment", "name": target},
            "policy": {"enforcer": "BPF", "mode": "EnhanceProtect", "enhanceProtect": enhance}},
    }))
}

fn kept(object: Value) -> Kept {
    let object: DynamicObject = serde_json::from_value(object).unwrap();
    object.into()
}

const PODS: &str = r#"{"toPods": [{"qualifiers": ["deny"], "podSelector": {}}]}"#;
const PLAIN: &str = r#"{"toDestinations": [{"qualifiers": ["deny"], "ip": "1.1.1.1"}]}"#;

fn key(name: &str) -> PolicyKey {
    ("VarmorPolicy".into(), "demo".into(), name.into())
}

fn planner() -> Planner {
    Planner::new(Settings::default(), "varmor")
}

/// Does what a plan says, as the API server would.
fn carry_out(world: &mut World, mut actions: Vec<Action>) -> Vec<String> {
    let mut done = Vec::new();
    actions.sort_by_key(Action::stage);
    for action in actions {
        done.push(action.subject());
        match action {
            Action::Apply { profile, object } => {
                world.profiles.insert(profile, kept(object));
            }
            Action::ApplySlice { slice, object, .. } => {
                let object = serde_json::from_value(object).unwrap();
                world.address_slices.insert(slice, object);
            }
            Action::DeleteSlice(slice) => drop(world.address_slices.remove(&slice)),
            Action::Mark { profile, policy } => {
                let profile = world.profiles.get_mut(&profile).unwrap();
                profile.metadata.annotations =
                    Some(BTreeMap::from([(kinds::POLICY_GONE.into(), policy)]));
            }
            Action::Delete(profile) => {
                let time = json!("2026-01-31T09:00:00Z");
                let profile = world.profiles.get_mut(&profile).unwrap();
                profile.metadata.deletion_timestamp = serde_json::from_value(time).unwrap();
            }
            Action::Release(profile) => drop(world.profiles.remove(&profile)),
            Action::Restart(_) => {}
            Action::PolicyStatus { policy, status, .. } => {
                world.policies.get_mut(&policy).unwrap().status = status;
            }
            Action::ProfileStatus {
                profile, status, ..
            } => {
                world.profiles.get_mut(&profile).unwrap().status = status;
            }
        }
    }
    done
}

/// A world of the policy `p` with its profile.
fn with_profile() -> (World, Planner) {
    let (mut world, mut planner) = (World::default(), planner());
    world
        .policies
        .insert(key("p"), policy("p", 1, "web", PLAIN));
    let actions = planner.plan(&world, false);
    carry_out(&mut world, actions);
    (world, planner)
}

#[test]
fn a_policy_becomes_a_profile_and_both_go() {
    let (mut world, mut planner) = (World::default(), planner());
    world
        .policies
        .insert(key("p"), policy("p", 1, "web", PLAIN));
    let actions = planner.plan(&world, false);
    assert!(
        planner.plan(&world, false).is_empty(),
        "the watch is only behind"
    );
    planner.forget(&actions);
    assert_eq!(planner.plan(&world, false), actions, "it failed");
    assert_eq!(
        carry_out(&mut world, actions),
        ["profile demo/varmor-demo-p"]
    );
    let statuses = planner.plan(&world, true);
    assert_eq!(
        carry_out(&mut world, statuses),
        [
            "status VarmorPolicy demo/p",
            "profile status demo/varmor-demo-p"
        ]
    );
    assert!(
        planner.plan(&world, true).is_empty(),
        "{:?}",
        planner.plan(&world, true)
    );
    world.policies.clear();
    for expected in ["mark", "delete", "release"] {
        let actions = planner.plan(&world, true);
        let expected = format!("{expected} demo/varmor-demo-p");
        assert_eq!(carry_out(&mut world, actions), [expected]);
    }
    assert!(world.profiles.is_empty());
}

#[test]
fn only_a_profile_without_its_policy_is_marked() {
    let (mut world, mut planner) = with_profile();
    // Somebody deletes the profile: it is made anew, and nodes keep what they have.
    let name = ("demo".to_owned(), "varmor-demo-p".to_owned());
    carry_out(&mut world, vec![Action::Delete(name.clone())]);
    for expected in ["release", "profile"] {
        let actions = planner.plan(&world, false);
        let expected = format!("{expected} demo/varmor-demo-p");
        assert_eq!(carry_out(&mut world, actions), [expected]);
    }
    // A mark for the policy that was there before does not count for the next one of its name.
    world.policies.clear();
    let actions = planner.plan(&world, false);
    carry_out(&mut world, actions);
    assert!(kinds::policy_is_gone(&world.profiles[&name].metadata));
    let mut anew = policy("p", 1, "web", PLAIN);
    anew.metadata.uid = Some("another".into());
    world.policies.insert(key("p"), anew);
    let actions = planner.plan(&world, false);
    let [Action::Apply { object, .. }] = &actions[..] else {
        panic!("{actions:?}")
    };
    let mut metadata = world.profiles[&name].metadata.clone();
    metadata.owner_references =
        serde_json::from_value(object["metadata"]["ownerReferences"].clone()).unwrap();
    assert!(!kinds::policy_is_gone(&metadata));
}

#[test]
fn a_refused_change_leaves_the_profile_and_is_told() {
    let (mut world, mut planner) = (World::default(), planner());
    world
        .policies
        .insert(key("p"), policy("p", 1, "web", PLAIN));
    let actions = planner.plan(&world, true);
    carry_out(&mut world, actions);
    let before = world.profiles.clone();
    world.policies.insert(key("p"), policy("p", 2, "db", PLAIN));
    let actions = planner.plan(&world, true);
    let Some(Action::PolicyStatus {
        status,
        event: Some((reason, note)),
        ..
    }) = actions.first()
    else {
        panic!("{actions:?}")
    };
    assert_eq!(
        (&status["phase"], reason.as_str()),
        (&json!("Error"), "Forbidden")
    );
    assert!(note.contains("spec.target"), "{note}");
    carry_out(&mut world, actions);
    let specs = |profiles: &BTreeMap<Name, Kept>| -> Vec<Value> {
        profiles.values().map(Kept::spec).collect()
    };
    assert_eq!(specs(&world.profiles), specs(&before));
    // The policy of the same name that is made anew is no change of the old one.
    let mut anew = policy("p", 1, "db", PLAIN);
    anew.metadata.uid = Some("another".into());
    world.policies.insert(key("p"), anew);
    let actions = planner.plan(&world, false);
    assert!(
        matches!(&actions[..], [Action::Apply { .. }]),
        "{actions:?}"
    );
}

#[test]
fn a_change_does_not_wait_for_all_statuses() {
    let mut world = World::default();
    for index in 0..250 {
        let name = format!("p{index:03}");
        world
            .policies
            .insert(key(&name), policy(&name, 1, "web", PLAIN));
    }
    let mut planner = planner();
    for (expected, more) in [(AT_A_TIME, true), (AT_A_TIME, true), (50, false)] {
        let actions = planner.plan(&world, true);
        let applied = actions
            .iter()
            .filter(|action| matches!(action, Action::Apply { .. }))
            .count();
        assert_eq!(applied, expected, "profiles first");
        assert_eq!(actions.len().max(AT_A_TIME), AT_A_TIME);
        // 250 statuses of policies are left after the last profile.
        assert!(planner.has_more() || !more);
        carry_out(&mut world, actions);
    }
}

#[test]
fn what_others_write_into_a_profile_is_no_version_of_its_policy() {
    let (mut world, mut first) = with_profile();
    let name = ("demo".to_owned(), "varmor-demo-p".to_owned());
    let good = world.profiles[&name].spec();
    let tamper = |world: &mut World, generation: i64| {
        let profile = world.profiles.get_mut(&name).unwrap();
        profile.metadata.resource_version = Some(format!("tampered-{generation}"));
        profile.edit(|spec| {
            spec["policy"]["spec"]["target"]["containers"] = json!(["other"]);
            spec["addresses"] = json!(["nothing"]);
            spec["generation"] = json!(generation);
        });
    };
    let repaired = |world: &World, planner: &mut Planner| {
        let actions = planner.plan(world, true);
        let applied = actions.iter().find_map(|action| match action {
            Action::Apply { object, .. } => Some(object["spec"].clone()),
            _ => None,
        });
        let refused = actions.iter().any(|action| {
            matches!(action, Action::PolicyStatus { status, .. } if status["phase"] == "Error")
        });
        (applied, refused)
    };
    for generation in [1, 7] {
        tamper(&mut world, generation);
        assert_eq!(
            repaired(&world, &mut first),
            (Some(good.clone()), false),
            "generation {generation}"
        );
    }
    // After a restart, too.
    tamper(&mut world, 1);
    assert_eq!(
        repaired(&world, &mut planner()),
        (Some(good.clone()), false)
    );
    // And while the policy's next version is refused.
    world.policies.insert(key("p"), policy("p", 2, "db", PLAIN));
    assert_eq!(repaired(&world, &mut first), (Some(good), true));
}

/// A world of so many policies with their profiles and statuses, and so many nodes where all is in force.
fn settled(policies: usize, nodes: usize) -> (World, Planner) {
    let (mut world, mut planner) = (World::default(), planner());
    for index in 0..policies {
        let name = format!("p{index:03}");
        let policy = policy(&name, 1, "web", PLAIN);
        world.policies.insert(key(&name), policy);
    }
    join(&mut world, 0..nodes);
    for _ in 0..100 {
        let actions = planner.plan(&world, true);
        if actions.is_empty() {
            break;
        }
        // Each goes without waiting for its turn.
        planner.numbers = Tempo::new(0, u32::MAX);
        planner.profiles_sent = Tempo::new(0, u32::MAX);
        carry_out(&mut world, actions);
    }
    (world, planner)
}

fn join(world: &mut World, nodes: std::ops::Range<usize>) {
    let marks = world.policies.keys().map(|key| crate::marks::mark(key, 1));
    let report = json!({"inForce": crate::marks::text(marks)});
    for node in nodes {
        world.reports.put(&format!("n{node}"), &report);
    }
}

fn count(done: &[String], what: &str) -> usize {
    done.iter().filter(|one| one.starts_with(what)).count()
}

#[test]
fn a_node_that_joins_does_not_send_every_profile_to_every_node() {
    let (mut world, mut planner) = settled(90, 1000);
    assert_eq!(planner.plan(&world, true), []);
    join(&mut world, 1000..1001);
    planner.numbers = Tempo::new(0, 30);
    planner.profiles_sent = Tempo::new(0, 10_000);
    let mut done = Vec::new();
    for _ in 0..5 {
        let actions = planner.plan(&world, true);
        done.extend(carry_out(&mut world, actions));
    }
    assert_eq!((count(&done, "profile"), count(&done, "status")), (9, 30));
    assert!(planner.has_numbers());
    // The next ones are those that did not have their turn, also when there is a node more.
    join(&mut world, 1001..1002);
    planner.numbers = Tempo::new(0, 60);
    planner.profiles_sent = Tempo::new(0, 82_000);
    let actions = planner.plan(&world, true);
    let others = carry_out(&mut world, actions);
    assert_eq!(
        (count(&others, "profile"), count(&others, "status")),
        (40, 60)
    );
    assert!(!others.iter().any(|one| done.contains(one)), "{others:?}");
}

#[test]
fn what_is_new_waits_for_no_turn() {
    let (mut world, mut planner) = settled(5, 3);
    planner.numbers = Tempo::new(0, 0);
    planner.profiles_sent = Tempo::new(0, 3);
    // A node more, where one policy fails.
    let marks = world.policies.keys().skip(1);
    let marks = crate::marks::text(marks.map(|key| crate::marks::mark(key, 1)));
    let entry = json!({"kind": "VarmorPolicy", "namespace": "demo", "name": "p000", "generation": 1,
        "state": "Failed", "message": "no BPF LSM"});
    let report = json!({"inForce": marks, "policies": [entry]});
    world.reports.put("bad", &report);
    let actions = planner.plan(&world, true);
    let [Action::PolicyStatus { policy, status, .. }, ..] = &actions[..] else {
        panic!("{actions:?}")
    };
    assert_eq!(*policy, key("p000"));
    let text = status.to_string();
    assert!(
        text.contains("1 of 4 nodes fail, such as bad: no BPF LSM"),
        "{text}"
    );
    assert_eq!(status["ready"], false);
    // A changed policy, of which every node says that it has it.
    world
        .policies
        .get_mut(&key("p001"))
        .unwrap()
        .metadata
        .generation = Some(2);
    let actions = planner.plan(&world, true);
    let done = carry_out(&mut world, actions);
    assert!(
        done.contains(&"profile demo/varmor-demo-p001".to_owned()),
        "{done:?}"
    );
    let not_ready = &world.policies[&key("p001")].status;
    assert_eq!(
        (&not_ready["ready"], &not_ready["observedGeneration"]),
        (&json!(false), &json!(2))
    );
}
