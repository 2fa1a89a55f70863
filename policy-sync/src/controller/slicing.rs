// SPDX-License-Identifier: Apache-2.0
//! Which address is in which slice: as EndpointSlices do it, an address stays where it is, so that one that comes or goes
//! changes one slice. Pure.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use crate::address_slice::{AddressSlice, Rule};

/// Most addresses of a slice.
pub const MOST: usize = varmor_policy::schema::MAX_SLICE_ADDRESSES;

/// Slices by number.
pub type Slices = BTreeMap<u32, AddressSlice>;
/// Addresses by what is to be done about them.
pub type Wanted = BTreeMap<Rule, BTreeSet<String>>;

/// The slices that hold exactly what is wanted, made of those of before. `taken` are numbers that new ones must not have.
pub fn assign(before: &Slices, wanted: &Wanted, taken: &BTreeSet<u32>) -> Slices {
    let mut missing = wanted.clone();
    let mut slices = Slices::new();
    // Those that are written anyway.
    let mut changed = BTreeSet::new();
    for (number, slice) in before {
        let Some(missing) = missing.get_mut(&slice.rule) else {
            continue;
        };
        // Somebody may have written one address into two slices, or more than fit.
        let kept: BTreeSet<String> = slice
            .addresses
            .iter()
            .filter(|address| missing.remove(*address))
            .take(MOST)
            .cloned()
            .collect();
        if kept.len() != slice.addresses.len() {
            changed.insert(*number);
        }
        let rule = slice.rule.clone();
        slices.insert(
            *number,
            AddressSlice {
                rule,
                addresses: kept,
            },
        );
    }
    let mut numbers =
        (0..).filter(|number| !before.contains_key(number) && !taken.contains(number));
    for (rule, missing) in missing {
        let mut missing = missing.into_iter().peekable();
        while missing.peek().is_some() {
            let with_room = slices
                .iter_mut()
                .filter(|(_, slice)| slice.rule == rule && slice.addresses.len() < MOST);
            let fullest = with_room.max_by_key(|(number, slice)| {
                let is_changed = changed.contains(*number);
                (is_changed, slice.addresses.len(), Reverse(**number))
            });
            let (number, slice) = match fullest {
                Some((number, slice)) => (*number, slice),
                None => {
                    let number = numbers.next().unwrap_or(u32::MAX);
                    let slice = slices.entry(number).or_default();
                    slice.rule = rule.clone();
                    (number, slice)
                }
            };
            let room = MOST - slice.addresses.len();
            slice.addresses.extend(missing.by_ref().take(room));
            changed.insert(number);
        }
    }
    slices.retain(|_, slice| !slice.addresses.is_empty());
    slices
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rule(index: usize) -> Rule {
        let port = (index > 0).then_some((80, None));
        Rule::new(port, ["deny"])
    }

    fn address(number: usize) -> String {
        format!("fd00::{number:04}")
    }

    fn wanted(numbers: impl IntoIterator<Item = usize>) -> Wanted {
        let addresses: BTreeSet<String> = numbers.into_iter().map(address).collect();
        Wanted::from([(rule(0), addresses)])
    }

    fn assigned(before: &Slices, wanted: &Wanted) -> Slices {
        assign(before, wanted, &BTreeSet::new())
    }

    fn sizes(slices: &Slices) -> Vec<(u32, usize)> {
        let sizes = slices.iter();
        sizes
            .map(|(number, slice)| (*number, slice.addresses.len()))
            .collect()
    }

    /// All that is in slices, with how often.
    fn content(slices: &Slices) -> BTreeMap<(Rule, String), usize> {
        let mut content = BTreeMap::new();
        for slice in slices.values() {
            for address in &slice.addresses {
                let key = (slice.rule.clone(), address.clone());
                *content.entry(key).or_default() += 1;
            }
        }
        content
    }

    fn once(wanted: &Wanted) -> BTreeMap<(Rule, String), usize> {
        let all = wanted.iter().flat_map(|(rule, addresses)| {
            let entry = |address: &String| ((rule.clone(), address.clone()), 1);
            addresses.iter().map(entry).collect::<Vec<_>>()
        });
        all.collect()
    }

    fn differing(a: &Slices, b: &Slices) -> usize {
        let numbers: BTreeSet<&u32> = a.keys().chain(b.keys()).collect();
        let differ = numbers.into_iter().filter(|one| a.get(one) != b.get(one));
        differ.count()
    }

    #[test]
    fn slices_fill_up_and_keep_what_they_have() {
        let full = assigned(&Slices::new(), &wanted(0..250));
        assert_eq!(sizes(&full), [(0, 100), (1, 100), (2, 50)]);
        // Of the first slice half goes, and of the second one address.
        let less = assigned(&full, &wanted((50..150).chain(151..250)));
        assert_eq!(sizes(&less), [(0, 50), (1, 99), (2, 50)]);
        // One more: into the fullest.
        let more = assigned(&less, &wanted((50..150).chain(151..251)));
        assert_eq!(sizes(&more), [(0, 50), (1, 100), (2, 50)]);
        // One goes and another comes: in the slice that changes anyway.
        let other = assigned(&more, &wanted((51..150).chain(151..252)));
        assert_eq!(sizes(&other), [(0, 50), (1, 100), (2, 50)]);
        assert_eq!(differing(&more, &other), 1);
        // An empty one is dropped, unless it is filled at once.
        let moved = assigned(&full, &wanted(100..251));
        assert_eq!(sizes(&moved), [(0, 1), (1, 100), (2, 50)]);
        assert_eq!(
            sizes(&assigned(&full, &wanted(100..250))),
            [(1, 100), (2, 50)]
        );
        assert!(assigned(&full, &wanted([])).is_empty());
        assert!(assigned(&full, &Wanted::new()).is_empty());
    }

    #[test]
    fn numbers_that_are_taken_are_not_given_again() {
        let slices = assign(&Slices::new(), &wanted(0..150), &BTreeSet::from([0, 2]));
        assert_eq!(sizes(&slices), [(1, 100), (3, 50)]);
    }

    /// Slices as anybody may have left them: too full, of other rules, one address twice.
    fn any_slices() -> impl Strategy<Value = Slices> {
        let slice = (0usize..3, prop::collection::btree_set(0usize..400, 0..150));
        prop::collection::btree_map(0u32..6, slice, 0..5).prop_map(|slices| {
            let slices = slices.into_iter();
            slices
                .map(|(number, (kind, numbers))| {
                    let addresses = numbers.into_iter().map(address).collect();
                    let rule = rule(kind);
                    (number, AddressSlice { rule, addresses })
                })
                .collect()
        })
    }

    /// Sets of addresses, one after the other; what has two rules is in both.
    fn changes() -> impl Strategy<Value = Vec<Wanted>> {
        let addresses = || prop::collection::btree_set(0usize..400, 0..350);
        let one = (addresses(), addresses()).prop_map(|sets| {
            let strings = |set: BTreeSet<usize>| set.into_iter().map(address).collect();
            Wanted::from([(rule(0), strings(sets.0)), (rule(1), strings(sets.1))])
        });
        prop::collection::vec(one, 1..5)
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn slices_hold_exactly_what_is_wanted(start in any_slices(), changes in changes()) {
            let mut slices = start;
            for wanted in changes {
                let next = assigned(&slices, &wanted);
                prop_assert_eq!(content(&next), once(&wanted));
                for slice in next.values() {
                    prop_assert!((1..=MOST).contains(&slice.addresses.len()));
                }
                prop_assert_eq!(&assigned(&next, &wanted), &next, "nothing changes, nothing is written");
                // What stays wanted stays where it is.
                for (number, slice) in &slices {
                    let is_sound = slice.addresses.len() <= MOST && content(&slices).values().all(|count| *count == 1);
                    let stays = wanted.get(&slice.rule).into_iter().flat_map(|set| set.intersection(&slice.addresses));
                    for address in stays.filter(|_| is_sound) {
                        prop_assert!(next[number].addresses.contains(address));
                    }
                }
                slices = next;
            }
        }

        #[test]
        fn one_address_is_one_slice(changes in changes(), comes in 400usize..500, goes in 0usize..400, both in any::<bool>()) {
            let mut slices = Slices::new();
            for wanted in &changes {
                slices = assigned(&slices, wanted);
            }
            let mut wanted = changes.last().cloned().unwrap_or_default();
            let set = wanted.get_mut(&rule(0)).unwrap();
            if both || comes % 2 == 0 {
                set.insert(address(comes));
            }
            if both || comes % 2 == 1 {
                set.remove(&address(goes));
            }
            prop_assert!(differing(&slices, &assigned(&slices, &wanted)) <= 1);
        }
    }
}
