// SPDX-License-Identifier: Apache-2.0
//! Records of the BPF programs.

use varmor_bpf_abi::layout::{Plain, ViolationHeader};
use varmor_ebpf::Event;
use varmor_ebpf::violation::decode;

/// A record that is decoded has all of its text in the event, and its head survives a round trip.
pub fn take(data: &[u8]) -> bool {
    if let Some((head, _)) = data.split_at_checked(ViolationHeader::SIZE) {
        let read = ViolationHeader::from_bytes(head).expect("exactly its bytes");
        let again = ViolationHeader::from_bytes(&read.to_bytes());
        assert_eq!(again.map(|again| again.to_bytes()), Some(read.to_bytes()));
    }
    let Ok(violation) = decode(data) else {
        return false;
    };
    let text = data.len() - ViolationHeader::SIZE;
    match violation.event {
        Event::File { path, .. } | Event::Exec { path, .. } => assert_eq!(path.len(), text),
        // And the NUL between them.
        Event::Mount { fstype, source, .. } => assert_eq!(fstype.len() + source.len() + 1, text),
        _ => {}
    }
    assert!(!violation.comm.as_encoded_bytes().contains(&0));
    true
}
