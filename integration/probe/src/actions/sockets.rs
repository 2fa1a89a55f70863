// SPDX-License-Identifier: Apache-2.0
//! Sockets: making them, reaching out with them, and listening so that there is somebody to reach.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV6};

use crate::chain::{Action, Failure, Preparation, State};
use crate::errno::Errno;
use crate::flags;
use crate::sys::sys;

/// See the module.
pub const ACTIONS: &[Action] = &[
    Action {
        name: "socket",
        arguments: "DOMAIN TYPE PROTOCOL",
        run: socket,
    },
    Action {
        name: "socketpair",
        arguments: "DOMAIN TYPE PROTOCOL",
        run: socketpair,
    },
    Action {
        name: "connect",
        arguments: "FD ADDRESS",
        run: connect,
    },
    Action {
        name: "tcp-connect",
        arguments: "ADDRESS",
        run: tcp_connect,
    },
    Action {
        name: "tcp-fastopen",
        arguments: "ADDRESS",
        run: tcp_fastopen,
    },
    Action {
        name: "tcp-listen",
        arguments: "ADDRESS",
        run: tcp_listen,
    },
    Action {
        name: "udp-connect",
        arguments: "ADDRESS",
        run: udp_connect,
    },
    Action {
        name: "udp-send",
        arguments: "FD",
        run: udp_send,
    },
    Action {
        name: "udp-sendto",
        arguments: "ADDRESS",
        run: udp_sendto,
    },
    Action {
        name: "udp-sendto-unspec",
        arguments: "ADDRESS",
        run: udp_sendto_unspec,
    },
    Action {
        name: "udp-sendto-v4-on-v6",
        arguments: "ADDRESS",
        run: udp_sendto_v4_on_v6,
    },
    Action {
        name: "udp-sendmmsg",
        arguments: "ADDRESS [ADDRESS...]",
        run: udp_sendmmsg,
    },
    Action {
        name: "udp-bind",
        arguments: "ADDRESS",
        run: udp_bind,
    },
    Action {
        name: "unix-connect",
        arguments: "PATH|abstract:NAME",
        run: unix_connect,
    },
    Action {
        name: "unix-connect-seqpacket",
        arguments: "PATH|abstract:NAME",
        run: unix_connect_seqpacket,
    },
    Action {
        name: "unix-sendto",
        arguments: "PATH|abstract:NAME",
        run: unix_sendto,
    },
    Action {
        name: "unix-connect-dgram",
        arguments: "PATH|abstract:NAME",
        run: unix_connect_dgram,
    },
    Action {
        name: "unix-listen",
        arguments: "PATH|abstract:NAME",
        run: unix_listen,
    },
    Action {
        name: "unix-listen-seqpacket",
        arguments: "PATH|abstract:NAME",
        run: unix_listen_seqpacket,
    },
    Action {
        name: "unix-bind-dgram",
        arguments: "PATH|abstract:NAME",
        run: unix_bind_dgram,
    },
];

fn kind(words: &[String]) -> Result<(u64, u64, u64), Failure> {
    let word = |index: usize, table| match words[index].parse::<u64>() {
        Ok(number) => Ok(number),
        Err(_) => flags::parse(table, &words[index]),
    };
    Ok((
        word(0, flags::DOMAIN)?,
        word(1, flags::SOCKET_TYPE)?,
        word(2, flags::PROTOCOL)?,
    ))
}

fn socket(state: &mut State, words: &[String]) -> Result<(), Failure> {
    let (domain, kind, protocol) = kind(words)?;
    let fd = sys!(SYS_socket, domain, kind, protocol)?;
    state.keep(fd);
    Ok(())
}

fn socketpair(_: &mut State, words: &[String]) -> Result<(), Failure> {
    let (domain, kind, protocol) = kind(words)?;
    let mut pair = [0u8; 8];
    sys!(SYS_socketpair, domain, kind, protocol, &mut pair[..])?;
    Ok(())
}

fn address(word: &str) -> Result<SocketAddr, Failure> {
    // 9 is the discard port: nobody listens, and nothing more specific is meant.
    let bare = |address: IpAddr| SocketAddr::new(address, 9);
    word.parse::<SocketAddr>()
        .or_else(|_| word.parse::<IpAddr>().map(bare))
        .map_err(|_| {
            Failure::Usage(format!(
                "{word:?} is no address; write 192.0.2.1:53 or [2001:db8::1]:53"
            ))
        })
}

fn family(address: &SocketAddr) -> i32 {
    if address.is_ipv4() {
        libc::AF_INET
    } else {
        libc::AF_INET6
    }
}

/// struct sockaddr_in or sockaddr_in6, with another family than the address's own where a test wants that.
fn encode(address: &SocketAddr, family: i32) -> Vec<u8> {
    let mut bytes = (family as u16).to_ne_bytes().to_vec();
    bytes.extend(address.port().to_be_bytes());
    match address {
        SocketAddr::V4(v4) => {
            bytes.extend(v4.ip().octets());
            bytes.extend([0; 8]);
        }
        SocketAddr::V6(v6) => {
            bytes.extend(v6.flowinfo().to_be_bytes());
            bytes.extend(v6.ip().octets());
            bytes.extend(v6.scope_id().to_ne_bytes());
        }
    }
    bytes
}

/// struct sockaddr_un.
fn encode_unix(word: &str) -> Vec<u8> {
    let mut bytes = (libc::AF_UNIX as u16).to_ne_bytes().to_vec();
    match word.strip_prefix("abstract:") {
        Some(name) => {
            bytes.push(0);
            bytes.extend(name.as_bytes());
        }
        None => {
            bytes.extend(word.as_bytes());
            bytes.push(0);
        }
    }
    bytes
}

fn made(domain: i32, kind: i32) -> Result<i32, Failure> {
    Ok(sys!(SYS_socket, domain, kind, 0).prepared()? as i32)
}

/// A stream socket that does not wait: EINPROGRESS means that the kernel let the attempt out.
fn let_out(result: Result<i64, Errno>) -> Result<(), Failure> {
    match result {
        Err(Errno(libc::EINPROGRESS)) | Ok(_) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

fn connect(state: &mut State, words: &[String]) -> Result<(), Failure> {
    let to = address(&words[1])?;
    let encoded = encode(&to, family(&to));
    let_out(sys!(
        SYS_connect,
        state.descriptor(&words[0])?,
        &encoded[..],
        encoded.len()
    ))
}

fn tcp_connect(state: &mut State, words: &[String]) -> Result<(), Failure> {
    let to = address(&words[0])?;
    let fd = made(family(&to), libc::SOCK_STREAM | libc::SOCK_NONBLOCK)?;
    state.keep(fd.into());
    let encoded = encode(&to, family(&to));
    let_out(sys!(SYS_connect, fd, &encoded[..], encoded.len()))
}

fn tcp_fastopen(_: &mut State, words: &[String]) -> Result<(), Failure> {
    let to = address(&words[0])?;
    let fd = made(family(&to), libc::SOCK_STREAM | libc::SOCK_NONBLOCK)?;
    let encoded = encode(&to, family(&to));
    let_out(sys!(
        SYS_sendto,
        fd,
        &b"x"[..],
        1,
        libc::MSG_FASTOPEN,
        &encoded[..],
        encoded.len()
    ))
}

fn tcp_listen(state: &mut State, words: &[String]) -> Result<(), Failure> {
    let at = address(&words[0])?;
    let fd = made(family(&at), libc::SOCK_STREAM)?;
    let one = 1i32.to_ne_bytes();
    sys!(
        SYS_setsockopt,
        fd,
        libc::SOL_SOCKET,
        libc::SO_REUSEADDR,
        &one[..],
        one.len()
    )
    .prepared()?;
    let encoded = encode(&at, family(&at));
    sys!(SYS_bind, fd, &encoded[..], encoded.len())?;
    sys!(SYS_listen, fd, 16)?;
    state.keep(fd.into());
    Ok(())
}

fn udp_connect(state: &mut State, words: &[String]) -> Result<(), Failure> {
    let to = address(&words[0])?;
    let fd = made(family(&to), libc::SOCK_DGRAM)?;
    state.keep(fd.into());
    let encoded = encode(&to, family(&to));
    sys!(SYS_connect, fd, &encoded[..], encoded.len())?;
    Ok(())
}

fn udp_send(state: &mut State, words: &[String]) -> Result<(), Failure> {
    sys!(
        SYS_sendto,
        state.descriptor(&words[0])?,
        &b"x"[..],
        1,
        0,
        0,
        0
    )?;
    Ok(())
}

fn send_to(domain: i32, encoded: &[u8]) -> Result<(), Failure> {
    let fd = made(domain, libc::SOCK_DGRAM)?;
    sys!(SYS_sendto, fd, &b"x"[..], 1, 0, encoded, encoded.len())?;
    Ok(())
}

fn udp_sendto(_: &mut State, words: &[String]) -> Result<(), Failure> {
    let to = address(&words[0])?;
    send_to(family(&to), &encode(&to, family(&to)))
}

/// An address of family AF_UNSPEC, which IPv4 takes for its own.
fn udp_sendto_unspec(_: &mut State, words: &[String]) -> Result<(), Failure> {
    let to = address(&words[0])?;
    send_to(family(&to), &encode(&to, libc::AF_UNSPEC))
}

/// A plain IPv4 address given to an IPv6 socket, which sends it as IPv4.
fn udp_sendto_v4_on_v6(_: &mut State, words: &[String]) -> Result<(), Failure> {
    let to = address(&words[0])?;
    if !to.is_ipv4() {
        return Err(Failure::Usage("the address must be an IPv4 one".into()));
    }
    send_to(libc::AF_INET6, &encode(&to, libc::AF_INET))
}

/// One sendmmsg with a message for each address. The kernel reports how many it sent and keeps the error of the next one to
/// itself, so that one is sent again alone.
fn udp_sendmmsg(_: &mut State, words: &[String]) -> Result<(), Failure> {
    let addresses = words
        .iter()
        .map(|word| address(word))
        .collect::<Result<Vec<_>, _>>()?;
    let v6 = addresses.iter().any(SocketAddr::is_ipv6);
    let mut names: Vec<Vec<u8>> = addresses
        .iter()
        .map(|to| match to.ip() {
            // One socket serves all: with an IPv6 address among them the others are written as mapped ones.
            IpAddr::V4(ip) if v6 => mapped(ip, to.port()),
            _ => *to,
        })
        .map(|to| encode(&to, family(&to)))
        .collect();
    let fd = made(
        if v6 { libc::AF_INET6 } else { libc::AF_INET },
        libc::SOCK_DGRAM,
    )?;
    let mut payload = *b"x";
    let mut part = libc::iovec {
        iov_base: payload.as_mut_ptr().cast(),
        iov_len: 1,
    };
    let mut messages: Vec<libc::mmsghdr> = names
        .iter_mut()
        .map(|name| {
            // SAFETY: all-zero bytes are a valid msghdr: null pointers and no lengths.
            let mut message: libc::mmsghdr = unsafe { std::mem::zeroed() };
            message.msg_hdr.msg_name = name.as_mut_ptr().cast();
            message.msg_hdr.msg_namelen = name.len() as u32;
            message.msg_hdr.msg_iov = &raw mut part;
            message.msg_hdr.msg_iovlen = 1;
            message
        })
        .collect();
    let mut sent = 0;
    while sent < messages.len() {
        let rest = &mut messages[sent..];
        // SAFETY: `rest` points at live messages whose name and payload outlive this call.
        let result = unsafe { libc::sendmmsg(fd, rest.as_mut_ptr(), rest.len() as u32, 0) };
        if result < 0 {
            return Err(Errno::last().into());
        }
        sent += result as usize;
    }
    Ok(())
}

fn mapped(ip: Ipv4Addr, port: u16) -> SocketAddr {
    SocketAddr::V6(SocketAddrV6::new(ip.to_ipv6_mapped(), port, 0, 0))
}

fn udp_bind(state: &mut State, words: &[String]) -> Result<(), Failure> {
    let at = address(&words[0])?;
    let fd = made(family(&at), libc::SOCK_DGRAM)?;
    let encoded = encode(&at, family(&at));
    sys!(SYS_bind, fd, &encoded[..], encoded.len())?;
    state.keep(fd.into());
    Ok(())
}

fn unix_connect_with(word: &str, kind: i32) -> Result<(), Failure> {
    let fd = made(libc::AF_UNIX, kind)?;
    let encoded = encode_unix(word);
    sys!(SYS_connect, fd, &encoded[..], encoded.len())?;
    Ok(())
}

fn unix_connect(_: &mut State, words: &[String]) -> Result<(), Failure> {
    unix_connect_with(&words[0], libc::SOCK_STREAM)
}

fn unix_connect_seqpacket(_: &mut State, words: &[String]) -> Result<(), Failure> {
    unix_connect_with(&words[0], libc::SOCK_SEQPACKET)
}

fn unix_connect_dgram(_: &mut State, words: &[String]) -> Result<(), Failure> {
    unix_connect_with(&words[0], libc::SOCK_DGRAM)
}

fn unix_sendto(_: &mut State, words: &[String]) -> Result<(), Failure> {
    send_to(libc::AF_UNIX, &encode_unix(&words[0]))
}

fn unix_bind(state: &mut State, word: &str, kind: i32) -> Result<i32, Failure> {
    let fd = made(libc::AF_UNIX, kind)?;
    let encoded = encode_unix(word);
    sys!(SYS_bind, fd, &encoded[..], encoded.len())?;
    state.keep(fd.into());
    Ok(fd)
}

fn unix_listen(state: &mut State, words: &[String]) -> Result<(), Failure> {
    let fd = unix_bind(state, &words[0], libc::SOCK_STREAM)?;
    sys!(SYS_listen, fd, 16)?;
    Ok(())
}

fn unix_listen_seqpacket(state: &mut State, words: &[String]) -> Result<(), Failure> {
    let fd = unix_bind(state, &words[0], libc::SOCK_SEQPACKET)?;
    sys!(SYS_listen, fd, 16)?;
    Ok(())
}

fn unix_bind_dgram(state: &mut State, words: &[String]) -> Result<(), Failure> {
    unix_bind(state, &words[0], libc::SOCK_DGRAM).map(drop)
}

#[cfg(test)]
mod tests {
    use crate::chain::{Chain, Verdict};

    fn run(line: &str) -> Verdict {
        Chain::parse(
            &line
                .split_whitespace()
                .map(str::to_string)
                .collect::<Vec<_>>(),
        )
        .unwrap()
        .run()
    }

    #[test]
    fn loopback_is_reached_every_way() {
        for line in [
            "tcp-listen 127.0.0.1:34871 then tcp-connect 127.0.0.1:34871",
            "tcp-listen 127.0.0.1:34872 then tcp-fastopen 127.0.0.1:34872",
            "udp-connect 127.0.0.1:9 then udp-send @",
            "udp-sendto 127.0.0.1:9",
            "udp-sendto-unspec 127.0.0.1:9",
            "udp-bind 127.0.0.1:34873 then udp-sendmmsg 127.0.0.1:34873 127.0.0.1:34873",
            "socket inet dgram udp then connect @ 127.0.0.1:9 then attach-filter @",
            "unix-listen abstract:varmor-probe-s then unix-connect abstract:varmor-probe-s",
            "unix-bind-dgram abstract:varmor-probe-d then unix-sendto abstract:varmor-probe-d",
        ] {
            assert_eq!(run(line), Verdict::Success, "{line}");
        }
        assert!(matches!(run("tcp-connect localhost:80"), Verdict::Usage(_)));
    }

    #[test]
    fn a_socket_in_a_folder_is_reached_by_path() {
        let folder = tempfile::tempdir().unwrap();
        let d = folder.path().display();
        assert_eq!(
            run(&format!("unix-listen {d}/s then unix-connect {d}/s")),
            Verdict::Success
        );
        assert_eq!(
            run(&format!("unix-bind-dgram {d}/d then unix-sendto {d}/d")),
            Verdict::Success
        );
        assert!(matches!(
            run(&format!("unix-connect {d}/none")),
            Verdict::Refused { .. }
        ));
    }
}
