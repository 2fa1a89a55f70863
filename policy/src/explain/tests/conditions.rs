// SPDX-License-Identifier: Apache-2.0
//! AppArmor's rules about what an action tells only when asked to: where a mount goes, and whose a file is; and what a profile
//! includes.

use super::{Action, ask, check, policy, question, said};
use crate::explain::Question;

#[test]
fn where_a_mount_goes() {
    check(
        &policy(
            "AppArmor",
            "EnhanceProtect",
            "{privileged: true, appArmorRawRules: [{rules: 'deny mount fstype=tmpfs -> /secret/**, \
              audit mount options=(bind) /data/ -> /mnt/, deny remount /srv/,'}]}",
        ),
        &[
            (
                "mount:tmpfs:tmpfs",
                "AppArmor allowed, perhaps not (appArmorRawRules[0])",
            ),
            (
                "mount:tmpfs:tmpfs:on=/secret/x",
                "AppArmor refused (appArmorRawRules[0])",
            ),
            ("mount:tmpfs:tmpfs:on=/secrets/x", "AppArmor allowed"),
            ("mount:proc:proc:on=/secret/x", "AppArmor allowed"),
            (
                "mount:none:/data:bind",
                "AppArmor allowed, perhaps reported (appArmorRawRules[0])",
            ),
            (
                "mount:none:/data:bind:on=/mnt",
                "AppArmor allowed, reported (appArmorRawRules[0])",
            ),
            ("mount:none:/data/x:bind:on=/mnt", "AppArmor allowed"),
            ("mount:none:/data:bind:on=/mnt/x", "AppArmor allowed"),
            (
                "mount:none:/srv:remount,ro",
                "AppArmor refused (appArmorRawRules[0])",
            ),
            ("mount:none:/srv/x:remount,ro", "AppArmor allowed"),
        ],
    );
}

#[test]
fn whose_a_file_is() {
    let object = policy(
        "AppArmor",
        "EnhanceProtect",
        "{privileged: true, appArmorRawRules: [{rules: 'deny owner /home/** w, audit owner /home/** r,'}]}",
    );
    for (action, owned, expected) in [
        (
            "open:/home/x:w",
            None,
            "AppArmor allowed, perhaps not (appArmorRawRules[0])",
        ),
        (
            "open:/home/x:w",
            Some(true),
            "AppArmor refused (appArmorRawRules[0])",
        ),
        ("open:/home/x:w", Some(false), "AppArmor allowed"),
        (
            "open:/home/x:r",
            None,
            "AppArmor allowed, perhaps reported (appArmorRawRules[0])",
        ),
        (
            "open:/home/x:r",
            Some(true),
            "AppArmor allowed, reported (appArmorRawRules[0])",
        ),
        ("open:/home/x:r", Some(false), "AppArmor allowed"),
    ] {
        let parsed: Action = action.parse().expect(action);
        let asked = Question {
            owned,
            ..question(&parsed)
        };
        assert_eq!(said(&ask(&object, &asked)), expected, "{action} {owned:?}");
    }
}

#[test]
fn what_every_profile_includes() {
    // Who traces is not ours to judge: abstractions/base lets a container be traced, and read, from outside.
    let default = policy("AppArmor", "RuntimeDefault", "{}");
    check(
        &default,
        &[
            ("ptrace:readby:external", "AppArmor allowed"),
            ("ptrace:traceby:external", "AppArmor allowed"),
            ("ptrace:trace:external", "AppArmor refused, reported (mode)"),
        ],
    );
    check(
        &policy(
            "AppArmor",
            "EnhanceProtect",
            "{appArmorRawRules: [{rules: 'deny ptrace (readby),'}]}",
        ),
        &[(
            "ptrace:readby:external",
            "AppArmor refused (appArmorRawRules[0])",
        )],
    );
}
