/* SPDX-License-Identifier: GPL-2.0 */
/* Sockets: their creation by family, type and protocol; IPv4 and IPv6 destinations; Unix sockets by path. */
#pragma once
#include "judge.h"

#define AF_UNSPEC 0
#define AF_INET 2
#define AF_INET6 10
#define SOCK_STREAM 1
#define SOCK_DGRAM 2
#define IPPROTO_TCP 6
#define IPPROTO_UDP 17
#define IPPROTO_MPTCP 262
#define IPPROTO_SMC 256 /* kernel 6.11 */

/* The protocol that a socket gets: 0 asks for the default one of its type, and MPTCP and SMC are carried by TCP. */
static __always_inline u32 effective_protocol(int family, int type, int protocol)
{
	if (protocol == IPPROTO_MPTCP || protocol == IPPROTO_SMC)
		return IPPROTO_TCP;
	if (protocol || (family != AF_INET && family != AF_INET6))
		return protocol;
	if (type == SOCK_STREAM)
		return IPPROTO_TCP;
	if (type == SOCK_DGRAM)
		return IPPROTO_UDP;
	return 0;
}

__noinline int judge_socket(u64 container_key, u64 domain, u32 family, u32 type, u32 protocol)
{
	struct profile *p = NULL;
	int confined = profile_of(container_key, domain, &p);
	if (confined == UNCONFINED)
		return 0;
	if (confined == BROKEN || !p)
		return -EACCES;
	if (!(p->flags & (PROFILE_SOCKETS | PROFILE_COMPLAIN)))
		return 0;
	u64 f = family;
	OPAQUE(f);
	if (f >= ADDRESS_FAMILIES)
		return 0;
	struct socket_rule *rule = &p->sockets[f];
	type &= 15;
	bool deny = rule->deny_types >> type & 1, audit = rule->audit_types >> type & 1;
	if (protocol < 64) {
		deny |= rule->deny_protocols >> (protocol & 63) & 1;
		audit |= rule->audit_protocols >> (protocol & 63) & 1;
	}
	u8 action = action_of(p, deny, audit);
	if (action) {
		struct report *r = begin_report(slot_of_current(), container_key, p, EVENT_NETWORK, NETWORK_SOCKET, action);
		if (r) {
			r->violation.family = family;
			r->violation.socket_type = type;
			r->violation.protocol = protocol;
			send_report(r);
		}
	}
	return refuses(p, deny) ? -EPERM : 0;
}

SEC("lsm/socket_create")
int BPF_PROG(socket_create, int family, int type, int protocol, int kern)
{
	if (kern)
		return 0;
	struct mark *mark = current_mark();
	if (!mark)
		return 0;
	if (judge_socket(mark->container, mark->domain, family, type & 15, effective_protocol(family, type & 15, protocol)))
		return -EPERM;
	return 0;
}

/* What the rules for the ports of one address say of `port`. */
static __always_inline void match_port(struct profile *p, u32 table, u16 port, bool *deny, bool *audit)
{
	struct prefix_key key = {
		.length = PREFIX_BITS_BEFORE_DATA + 16,
		.table = table,
		.generation = p->generation,
		.data = { port >> 8, port & 255 },
	};
	struct prefix_value *found = bpf_map_lookup_elem(&prefixes, &key);
	if (found) {
		*deny |= found->deny;
		*audit |= found->audit;
	}
}

#define IPV4_MAPPED 0xffff0000 /* lower half of the second word of ::ffff:a.b.c.d */

/* Whether some prefix covers the address, as far as its first byte tells: most look-ups end here. */
static __always_inline bool may_be_covered(struct profile *p, u64 first, u64 second)
{
	u64 bit = first & 255, half = EGRESS_FIRST / 2;
	if (!first && (u32)second == IPV4_MAPPED) {
		bit = second >> 32 & 255;
		half = 0;
	}
	u64 word = half + (bit >> 6);
	OPAQUE(word);
	return p->egress_first[word & (EGRESS_FIRST - 1)] >> (bit & 63) & 1;
}

struct destination {
	u64 address[2]; /* network byte order, IPv4 mapped into IPv6 */
	u16 family;
	u16 port; /* host byte order */
};

/* What else is asked about a destination, in one argument, since a function has five at most. */
#define CONTACT(op, family, port) ((u64)(op) << 32 | (u32)(family) << 16 | (port))

__noinline int judge_destination(u64 container_key, u64 domain, u64 first, u64 second, u64 contact)
{
	struct profile *p = NULL;
	int confined = profile_of(container_key, domain, &p);
	if (confined == UNCONFINED)
		return 0;
	if (confined == BROKEN || !p)
		return -EACCES;
	if (!(p->flags & (PROFILE_EGRESS | PROFILE_COMPLAIN)))
		return 0;
	u64 address[2] = { first, second };
	u16 port = contact;
	bool deny = false, audit = false;

	if (may_be_covered(p, first, second)) {
		struct prefix_key key = {
			.length = PREFIX_BITS_BEFORE_DATA + 128,
			.table = TABLE_ADDRESSES,
			.generation = p->generation,
		};
		__builtin_memcpy(key.data, address, sizeof(key.data));
		struct prefix_value *found = bpf_map_lookup_elem(&prefixes, &key);
		if (found) {
			deny = found->deny;
			audit = found->audit;
			if (!found->all_ports)
				match_port(p, found->port_set, port, &deny, &audit);
		}
	}
	if (p->pod_self) {
		struct container *container = bpf_map_lookup_elem(&containers, &container_key);
		for (u32 i = 0; container && i < POD_ADDRESSES; i++) {
			u64 *own = (u64 *)container->address[i];
			if (i < container->addresses && own[0] == first && own[1] == second) {
				match_port(p, p->pod_self, port, &deny, &audit);
				break;
			}
		}
	}
	u8 action = action_of(p, deny, audit);
	if (action) {
		struct report *r = begin_report(slot_of_current(), container_key, p, EVENT_NETWORK, contact >> 32, action);
		if (r) {
			__builtin_memcpy(r->violation.address, address, sizeof(address));
			r->violation.port = port;
			r->violation.family = contact >> 16;
			send_report(r);
		}
	}
	return refuses(p, deny) ? -EPERM : 0;
}

/*
 * Reads an IPv4 or IPv6 address of `length` bytes at `from`, kernel memory. False: neither. UDP takes AF_UNSPEC on an
 * IPv4 socket for AF_INET when it sends.
 */
static __always_inline bool read_address(struct destination *to, u64 from, int length, u16 socket_family, bool sends)
{
	u16 family = 0;
	if (length < 8 || bpf_probe_read_kernel(&family, sizeof(family), (void *)from))
		return false;
	if (family == AF_UNSPEC && socket_family == AF_INET && sends)
		family = AF_INET;
	if (family == AF_INET) {
		struct ipv4_address a;
		if (bpf_probe_read_kernel(&a, sizeof(a), (void *)from))
			return false;
		to->address[0] = 0;
		to->address[1] = (u64)a.address << 32 | IPV4_MAPPED;
		to->port = __builtin_bswap16(a.port);
	} else if (family == AF_INET6 && length >= 24) {
		struct ipv6_address a;
		if (bpf_probe_read_kernel(&a, sizeof(a), (void *)from))
			return false;
		to->address[0] = a.address[0];
		to->address[1] = a.address[1];
		to->port = __builtin_bswap16(a.port);
	} else {
		return false;
	}
	to->family = family;
	return true;
}

static __always_inline int judge_address(struct mark *mark, u64 from, int length, u16 socket_family, u32 op)
{
	struct destination to;
	if (!read_address(&to, from, length, socket_family, op == NETWORK_SEND))
		return 0;
	if (judge_destination(mark->container, mark->domain, to.address[0], to.address[1], CONTACT(op, to.family, to.port)))
		return -EPERM;
	return 0;
}

/* IPv4 through the hook's own pointer, without helpers; the rest, and what is malformed, as judge_address does. */
SEC("lsm/socket_connect")
int BPF_PROG(socket_connect, struct socket *sock, struct sockaddr *address, int length)
{
	struct mark *mark = current_mark();
	if (!mark)
		return 0;
	if (length < (int)sizeof(struct ipv4_address) || address->sa_family != AF_INET)
		return judge_address(mark, (u64)address, length, 0, NETWORK_CONNECT);
	/* The layout of addresses is part of the kernel's ABI and needs no relocation. */
	struct ipv4_address *a = (void *)address;
	u64 contact = CONTACT(NETWORK_CONNECT, AF_INET, __builtin_bswap16(a->port));
	if (judge_destination(mark->container, mark->domain, 0, (u64)a->address << 32 | IPV4_MAPPED, contact))
		return -EPERM;
	return 0;
}

/* Sends that name a destination: unconnected UDP and raw sockets, TCP fast open. */
SEC("lsm/socket_sendmsg")
int BPF_PROG(socket_sendmsg, struct socket *sock, struct msghdr *message)
{
	struct mark *mark = current_mark();
	if (!mark)
		return 0;
	void *name = message->msg_name;
	if (!name)
		return 0;
	struct sock *sk = sock->sk;
	if (!sk)
		return 0;
	u16 family = sk->__sk_common.skc_family;
	return judge_address(mark, (u64)name, message->msg_namelen, family, NETWORK_SEND);
}

/* Where the peer's socket is now, not what it was bound as: a renamed socket is at its new path. Abstract ones have none. */
static __always_inline int judge_unix(struct mark *mark, struct sock *peer)
{
	struct unix_sock *u = (void *)peer;
	struct dentry *dentry = BPF_CORE_READ(u, path.dentry);
	if (!dentry)
		return 0;
	return judge_path_at(mark, dentry, BPF_CORE_READ(u, path.mnt), PERM_WRITE, OP_UNIX);
}

SEC("lsm/unix_stream_connect")
int BPF_PROG(unix_stream_connect, struct sock *sock, struct sock *other)
{
	struct mark *mark = current_mark();
	if (!mark)
		return 0;
	return judge_unix(mark, other);
}

SEC("lsm/unix_may_send")
int BPF_PROG(unix_may_send, struct socket *sock, struct socket *other)
{
	struct mark *mark = current_mark();
	if (!mark)
		return 0;
	return judge_unix(mark, BPF_CORE_READ(other, sk));
}
