// SPDX-License-Identifier: Apache-2.0
//! Names that AppArmor's parser knows (as of 3.0; checked against it). A profile with another one does not load.

use super::lexer::Word;
use crate::capability;
use crate::error::suggestion;

/// Address families.
const FAMILIES: [&str; 45] = [
    "unspec",
    "unix",
    "inet",
    "ax25",
    "ipx",
    "appletalk",
    "netrom",
    "bridge",
    "atmpvc",
    "x25",
    "inet6",
    "rose",
    "netbeui",
    "security",
    "key",
    "netlink",
    "packet",
    "ash",
    "econet",
    "atmsvc",
    "rds",
    "sna",
    "irda",
    "pppox",
    "wanpipe",
    "llc",
    "ib",
    "mpls",
    "can",
    "tipc",
    "bluetooth",
    "iucv",
    "rxrpc",
    "isdn",
    "phonet",
    "ieee802154",
    "caif",
    "alg",
    "nfc",
    "vsock",
    "kcm",
    "qipcrtr",
    "smc",
    "xdp",
    "mctp",
];
/// Socket types.
const TYPES: [&str; 6] = ["stream", "dgram", "seqpacket", "raw", "rdm", "packet"];
/// Protocols, of inet and inet6.
const PROTOCOLS: [&str; 3] = ["tcp", "udp", "icmp"];

/// Checks the capabilities of a rule.
pub(super) fn capabilities(words: &[Word]) -> Result<(), String> {
    for word in words {
        let name = plain(word)?;
        if !capability::NAMES.contains(&name) {
            return Err(format!(
                "there is no capability `{}`{}",
                shortened(name),
                suggestion(&name.to_ascii_lowercase(), capability::NAMES)
            ));
        }
    }
    Ok(())
}

/// Checks a network rule: a family, a type or protocol, or both.
pub(super) fn network(words: &[Word]) -> Result<(), String> {
    let words = words.iter().map(plain).collect::<Result<Vec<_>, _>>()?;
    for name in &words {
        let known = [&FAMILIES[..], &TYPES, &PROTOCOLS].concat();
        if !known.contains(name) {
            return Err(format!(
                "`{}` is no address family, socket type or protocol{}",
                shortened(name),
                suggestion(name, known)
            ));
        }
    }
    match words[..] {
        [] | [_] => Ok(()),
        [family, kind] if FAMILIES.contains(&family) && TYPES.contains(&kind) => Ok(()),
        ["inet" | "inet6", protocol] if PROTOCOLS.contains(&protocol) => Ok(()),
        _ => Err(
            "a network rule is `network`, a family, and then a type or (for inet and inet6) a protocol, such as \
             `network inet tcp`"
                .to_owned(),
        ),
    }
}

fn plain(word: &Word) -> Result<&str, String> {
    match word {
        Word::Plain(text) => Ok(text),
        other => Err(format!("`{}` is no name here", shortened(&other.text()))),
    }
}

fn shortened(text: &str) -> String {
    text.chars().take(64).collect()
}
