// SPDX-License-Identifier: Apache-2.0
use super::parse;

#[test]
fn rules_are_written_anew() {
    let cases = [
        ("/etc/passwd r,", "/etc/passwd r"),
        ("  deny   /etc/** wl , ", "deny /etc/** wl"),
        (
            "audit deny owner @{HOME}/.ssh/** rw,",
            "audit deny owner @{HOME}/.ssh/** rw",
        ),
        ("# why\n/a r, # after\n", "/a r"),
        ("file,", "file"),
        ("file /a rw,", "file /a rw"),
        ("rw /a,", "rw /a"),
        ("/bin/sh ix,", "/bin/sh ix"),
        ("deny /bin/sh x,", "deny /bin/sh x"),
        ("/proc/{sys,net}/**{,/} r,", "/proc/{sys,net}/**{,/} r"),
        ("/a[^b-c] r,", "/a[^b-c] r"),
        ("\"/with blank, {x,y}/a\" r,", "\"/with blank, {x,y}/a\" r"),
        (
            "capability net_admin sys_admin,",
            "capability net_admin sys_admin",
        ),
        ("deny network inet6 dgram,", "deny network inet6 dgram"),
        ("network,", "network"),
        (
            "mount fstype=proc -> /proc/,",
            "mount fstype=proc -> /proc/",
        ),
        (
            "deny mount options=(ro, bind) /a -> /b,",
            "deny mount options=(ro, bind) /a -> /b",
        ),
        (
            "mount options in (ro,nosuid) tmpfs,",
            "mount options in (ro, nosuid) tmpfs",
        ),
        ("umount /mnt/**,", "umount /mnt/**"),
        (
            "pivot_root oldroot=/old/ /new/,",
            "pivot_root oldroot=/old/ /new/",
        ),
        (
            "ptrace (trace, read) peer=@{profile_name},",
            "ptrace (trace, read) peer=@{profile_name}",
        ),
        (
            "signal (send) set=(term kill) peer=unconfined,",
            "signal (send) set=(term, kill) peer=unconfined",
        ),
        (
            "unix (connect) type=stream peer=(label=unconfined),",
            "unix (connect) type=stream peer=(label=unconfined)",
        ),
        ("link /a -> /b,", "link /a -> /b"),
        ("set rlimit nofile <= 1024,", "set rlimit nofile <= 1024"),
        ("userns create,", "userns create"),
        ("/straße/é r,", "/straße/é r"),
    ];
    for (text, expected) in cases {
        assert_eq!(
            parse(text).unwrap_or_else(|e| panic!("{text}: {e}")),
            [expected],
            "{text}"
        );
    }
    assert_eq!(
        parse("/a r,/b w,\n\n/c k,").expect("three rules"),
        ["/a r", "/b w", "/c k"]
    );
}

#[test]
fn hostile_text_is_refused() {
    let cases = [
        // Ending the profile, beginning another.
        "/a r, } profile evil { file, ",
        "/a r, }",
        "/a r,\n}\nprofile evil flags=(unconfined) {\n file,\n",
        "profile evil { file, }",
        "profile evil /bin/evil { file, },",
        "/bin/evil { file, },",
        "/bin/evil flags=(complain) { file, },",
        "hat evil { file, }",
        "^evil { file, }",
        "^evil,",
        "{ file, }",
        "{/a,/b} r,",
        "/a{b r,",
        "/a} r,",
        "/a{b /c}d r,",
        "/a[b c] r,",
        // Including.
        "include <abstractions/base>",
        "include <abstractions/base>,",
        "include if exists <local/x>,",
        "#include <abstractions/base>",
        "#include \"/etc/passwd\"",
        "# include <abstractions/base>",
        "#\tInClUdE <abstractions/base>",
        "/a r, #include <x>",
        "/a r, # harmless include <x>",
        "include\n<abstractions/base>,",
        "\"include\" <x>,",
        // Preamble.
        "abi <abi/4.0>,",
        "alias /a -> /b,",
        "@{PROC}=/evil/,",
        "@{PROC} = /evil/,",
        "@{PROC}+=/evil/,",
        "@{EVIL} r,",
        "@{evil}/a r,",
        "/a/@{evil}/b r,",
        "\"/a/@{evil}/b\" r,",
        "@{PROC r,",
        "${x} = true,",
        "$x=true,",
        "if $x { file, },",
        "if defined $x,",
        // Leaving the profile.
        "change_profile,",
        "change_profile -> evil,",
        "/bin/sh px,",
        "/bin/sh Px,",
        "/bin/sh ux,",
        "/bin/sh Ux,",
        "/bin/sh cx,",
        "/bin/sh Cx -> evil,",
        "/bin/sh pix,",
        "/bin/sh cux,",
        "/bin/sh rix -> evil,",
        "/bin/sh x,",
        // No text of AppArmor's parser either.
        "deny file,",
        "audit deny owner file,",
        "deny /bin/sh ix,",
        "px /bin/sh,",
        "pivot_root -> evil,",
        "file /bin/sh Ux,",
        "owner /bin/sh ux,",
        // Comments and control characters.
        "/a #b r,",
        "/a#b r,",
        "/a r # , \n /b w,",
        "/a r\0,",
        "/a\r r,",
        "/a\u{b}r,",
        "/a\u{202e} r,",
        "/a\u{a0}r,",
        "/a\u{2028}r,",
        "\u{feff}/a r,",
        // Quotes, ends and rubbish.
        "\"/a r,",
        "\"/a\nb\" r,",
        "\"/a\\\" r,\" r,",
        "/a\"b\" r,",
        "/a\\",
        "/a\\ b r,",
        r#"/a\"b r,"#,
        r"/a\,b r,",
        r"/a\@b r,",
        "/a[@{EVIL}]b r,",
        "/a r",
        "",
        "   # only a comment\n",
        ",",
        "/a r,,",
        "deny,",
        "deny allow /a r,",
        "audit audit /a r,",
        "owner capability chown,",
        "/a rr,",
        "/a wa,",
        "/a z,",
        "/a,",
        "a r,",
        "/a r w,",
        "/a -> /b,",
        "quux,",
        "all,",
        "priority=10 /a r,",
        "allow priority=10 /a r,",
        "network { },",
        "network;",
        "capability (chown),",
        "capability sys_admn,",
        "capability CHOWN,",
        "network inet7,",
        "network stream inet,",
        "network unix tcp,",
        "network inet stream tcp,",
        "mount options=,",
        "mount evil=1,",
        "mount /a ->,",
        "signal peer=\"a,",
        "signal peer=(a,",
        "signal peer=a) ,",
        "signal (send) peer=x{y,",
        "unix addr=\"@x,",
        "ptrace -> x,",
        "set rlimit nofile = 10,",
        "set rlimit evil <= 10,",
        "set x,",
        "dbus send bus=system path=/a;b,",
    ];
    for text in cases {
        assert!(parse(text).is_err(), "{text:?} became {:?}", parse(text));
    }
    assert!(parse(&"/a r,\n".repeat(20_000)).is_err());
}

#[test]
fn errors_name_the_line() {
    assert_eq!(parse("/a r,\n\n/b z,").expect_err("refused").line, 3);
    assert_eq!(parse("/a r,\n# include <x>").expect_err("refused").line, 2);
}
