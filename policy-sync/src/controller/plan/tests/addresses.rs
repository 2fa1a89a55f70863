// SPDX-License-Identifier: Apache-2.0
use super::*;
use crate::address_slice::AddressSlice;
use crate::controller::resolve::Pod;

const AUDITED: &str = r#"{"toPods": [{"qualifiers": ["audit"], "podSelector": {}}]}"#;

fn put_pod(world: &mut World, number: usize, address: &str) {
    let pod = Pod {
        addresses: vec![address.to_owned()],
        ..Pod::default()
    };
    let name = ("demo".to_owned(), format!("pod-{number}"));
    world.addresses.pods.insert(name, pod);
    world.addresses_version += 1;
}

fn remove_pod(world: &mut World, number: usize) {
    let name = ("demo".to_owned(), format!("pod-{number}"));
    world.addresses.pods.remove(&name);
    world.addresses_version += 1;
}

/// A policy about so many pods, and what was made of it.
fn with_pods(count: usize) -> (World, Planner) {
    let (mut world, mut planner) = (World::default(), planner());
    world.policies.insert(key("p"), policy("p", 1, "web", PODS));
    for number in 0..count {
        put_pod(&mut world, number, &format!("fd00::{number:04}"));
    }
    settle(&mut world, &mut planner);
    (world, planner)
}

/// Plans and does until there is nothing to do.
fn settle(world: &mut World, planner: &mut Planner) -> Vec<String> {
    let mut done = Vec::new();
    for _ in 0..10 {
        let actions = planner.plan(world, false);
        if actions.is_empty() {
            return done;
        }
        let carried_out = carry_out(world, actions);
        let short = carried_out.iter().map(|one| short(one));
        done.extend(short);
    }
    panic!("it never ends: {done:?}");
}

/// Without the names, but for the number of a slice.
fn short(subject: &str) -> String {
    let what = subject.split("demo/").next().unwrap_or_default().trim();
    match subject.rsplit_once('-') {
        Some((_, number)) if what.contains("slice") => format!("{what} {number}"),
        _ => what.to_owned(),
    }
}

/// The addresses in the slices that the profile names; all of them must be there.
fn named(world: &World) -> Vec<String> {
    let profile = &world.profiles[&("demo".into(), "varmor-demo-p".into())];
    let slices = profile.slices().into_iter().map(|name| {
        let object = &world.address_slices[&("demo".into(), name)];
        AddressSlice::read(object).unwrap()
    });
    slices.flat_map(|slice| slice.addresses).collect()
}

#[test]
fn a_change_of_one_address_is_one_slice() {
    let (mut world, mut planner) = with_pods(1000);
    assert_eq!(
        (world.address_slices.len(), named(&world).len()),
        (10, 1000)
    );
    let profile = &world.profiles[&("demo".into(), "varmor-demo-p".into())];
    let spec = profile.spec_text();
    assert!(!spec.contains("fd00::"), "{spec}");
    put_pod(&mut world, 7, "fd00::7777");
    assert_eq!(settle(&mut world, &mut planner), ["slice 0"]);
    assert!(named(&world).contains(&"fd00::7777".to_owned()));
    remove_pod(&mut world, 7);
    assert_eq!(settle(&mut world, &mut planner), ["slice 0"]);
    assert_eq!(named(&world).len(), 999);
}

#[test]
fn slices_come_before_their_profile_and_go_after_it() {
    let (mut world, mut planner) = with_pods(100);
    assert_eq!(
        planner
            .plan(&world, true)
            .iter()
            .filter(|one| one.stage() != 1)
            .count(),
        0
    );
    put_pod(&mut world, 100, "fd00::0100");
    assert_eq!(settle(&mut world, &mut planner), ["slice 1", "profile"]);
    remove_pod(&mut world, 100);
    assert_eq!(
        settle(&mut world, &mut planner),
        ["profile", "delete slice 1"]
    );
    // Other rules: other slices, so that no node mixes the versions.
    world
        .policies
        .insert(key("p"), policy("p", 2, "web", AUDITED));
    assert_eq!(
        settle(&mut world, &mut planner),
        ["slice 0", "profile", "delete slice 0"]
    );
    // The same rules: the same slices.
    let mut other = policy("p", 3, "web", AUDITED);
    other.edit(|spec| spec["policy"]["enhanceProtect"]["auditViolations"] = json!(true));
    world.policies.insert(key("p"), other);
    assert_eq!(settle(&mut world, &mut planner), ["profile"]);
}

#[test]
fn a_slice_stays_while_a_profile_may_name_it() {
    let (mut world, mut planner) = with_pods(1);
    let before = world.profiles.clone();
    world
        .policies
        .insert(key("p"), policy("p", 2, "web", AUDITED));
    let actions = planner.plan(&world, false);
    carry_out(&mut world, actions);
    // The watch of profiles is behind, and the next version of the policy is refused.
    let after = std::mem::replace(&mut world.profiles, before);
    world
        .policies
        .insert(key("p"), policy("p", 3, "db", AUDITED));
    assert_eq!(world.address_slices.len(), 2);
    assert_eq!(planner.plan(&world, false), []);
    world.profiles = after;
    assert_eq!(settle(&mut world, &mut planner), ["delete slice 0"]);
    assert_eq!(named(&world).len(), 1, "the version before it holds");
}

#[test]
fn addresses_of_the_version_in_force_follow_while_the_next_one_is_refused() {
    let (mut world, mut planner) = with_pods(1);
    let name = ("demo".to_owned(), "varmor-demo-p".to_owned());
    let profile = world.profiles.get_mut(&name).unwrap();
    profile.metadata.resource_version = Some("7".into());
    world.policies.insert(key("p"), policy("p", 2, "db", PODS));
    assert!(planner.plan(&world, false).is_empty());
    put_pod(&mut world, 0, "fd00::a");
    assert_eq!(settle(&mut world, &mut planner), ["slice 0"]);
    assert_eq!(named(&world), ["fd00::a"]);
    // A new slice: the profile is still of the version before, and is only written over the one that was read.
    for number in 1..102 {
        put_pod(&mut world, number, &format!("fd00::{number:04}"));
    }
    let mut anew = super::planner();
    let actions = anew.plan(&world, false);
    let written = actions.iter().find_map(|action| match action {
        Action::Apply { object, .. } => Some(object),
        _ => None,
    });
    let written = written.unwrap();
    assert_eq!(written["metadata"]["resourceVersion"], "7");
    assert_eq!(written["spec"]["generation"], 1);
    assert_eq!(written["spec"]["policy"]["spec"]["target"]["name"], "web");
    carry_out(&mut world, actions);
    assert_eq!(named(&world).len(), 102);
    // It is accepted in the end.
    let accepted = policy("p", 3, "web", AUDITED);
    world.policies.insert(key("p"), accepted);
    assert_eq!(
        settle(&mut world, &mut anew),
        [
            "slice 0",
            "slice 1",
            "profile",
            "delete slice 0",
            "delete slice 1"
        ]
    );
}

#[test]
fn a_new_leader_writes_nothing_that_is_there() {
    let (mut world, mut first) = with_pods(250);
    // What only time and changes lead to.
    for number in (0..250).step_by(3) {
        remove_pod(&mut world, number);
    }
    put_pod(&mut world, 1, "fd00::a");
    settle(&mut world, &mut first);
    assert_eq!(planner().plan(&world, false), []);
}

#[test]
fn what_others_do_to_slices_is_mended() {
    let (mut world, mut planner) = with_pods(150);
    let names: Vec<Name> = world.address_slices.keys().cloned().collect();
    world.address_slices.remove(&names[0]);
    let other = world.address_slices.get_mut(&names[1]).unwrap();
    other.data["spec"]["addresses"] = json!(["fd00::0149", "192.0.2.1"]);
    assert_eq!(settle(&mut world, &mut planner), ["slice 0", "slice 1"]);
    assert_eq!(named(&world).len(), 150);
    // Also while there is no leader.
    let other = world.address_slices.get_mut(&names[1]).unwrap();
    other.data["spec"]["addresses"] = json!(["fd00::0149", "fd00::0000"]);
    settle(&mut world, &mut super::planner());
    assert_eq!(named(&world).len(), 150);
    // What is not ours stays.
    let mut foreign = world.address_slices[&names[0]].clone();
    foreign.metadata.labels = None;
    let name = ("demo".to_owned(), "foreign".to_owned());
    world.address_slices.insert(name, foreign);
    assert!(planner.plan(&world, false).is_empty());
}

#[test]
fn slices_go_when_their_policy_does() {
    let (mut world, mut planner) = with_pods(1);
    world.policies.clear();
    assert_eq!(
        settle(&mut world, &mut planner),
        ["mark", "delete", "release", "delete slice 0"]
    );
    assert!(world.address_slices.is_empty());
}

#[test]
fn a_policy_made_anew_takes_no_slice_that_goes_with_the_one_before() {
    let (mut world, _) = with_pods(1);
    let mut anew = policy("p", 1, "web", PODS);
    anew.metadata.uid = Some("another".into());
    world.policies.insert(key("p"), anew);
    assert_eq!(
        settle(&mut world, &mut planner()),
        ["slice 1", "profile", "delete slice 0"]
    );
}

#[test]
fn profiles_with_addresses_of_their_own_are_written_anew() {
    let (mut world, _) = with_pods(2);
    world.address_slices.clear();
    let name = ("demo".to_owned(), "varmor-demo-p".to_owned());
    world.profiles.get_mut(&name).unwrap().edit(|spec| {
        spec.as_object_mut().unwrap().remove("addresses");
        spec["policy"]["spec"]["policy"]["enhanceProtect"]["bpfRawRules"]["network"]["egress"] =
            json!({"toDestinations": [{"qualifiers": ["deny"], "ip": "fd00::0000"}]});
    });
    assert_eq!(settle(&mut world, &mut planner()), ["slice 0", "profile"]);
    assert_eq!(named(&world), ["fd00::0000", "fd00::0001"]);
}
