/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the programs and user space agree on: keys, values and records of the pinned maps.
 * ebpf/abi mirrors this file in Rust; a test there compiles it and compares sizes and offsets.
 * Every field is at its natural alignment and every structure's size is a multiple of 8: no hidden padding.
 */
#pragma once
#include "types.h"

/* Bumped with every change of a key's or value's shape. Pinned maps of another version are not adopted. */
#define VARMOR_ABI_VERSION 3

#define MAX_CONTAINERS 65536
#define MAX_PROFILES 16384
#define MAX_PREFIXES (1 << 22)
#define MAX_CHILDREN 65536
#define MAX_AUTOMATA 65536

/* ---- containers: container key (u64) -> struct container; only user space writes it ---- */
#define POD_ADDRESSES 16

struct container {
	u64 profile;   /* profile key; 0: followed without a profile */
	u32 mntns;     /* inode number of the mount namespace, reused by the kernel */
	u32 init_tgid; /* pid of init in the initial pid namespace */
	u32 addresses; /* entries of address[] in use */
	u32 pad;
	u8 address[POD_ADDRESSES][16]; /* the pod's own addresses, IPv4 mapped into IPv6 */
};

/*
 * ---- states: container key (u64) -> struct container_state ----
 * Inserted by user space as PENDING, changed in place by the programs only: a map of its own, so that user space can
 * replace a container's profile while its init calls execve, and neither overwrites what the other wrote.
 */
#define CONTAINER_PENDING 1 /* bound by the hook; init has not called execve yet */
#define CONTAINER_ACTIVE 2

struct container_state {
	u64 mntns_seq; /* identity of the mount namespace, never reused; 0 until ACTIVE */
	u32 state;     /* CONTAINER_* */
	u32 pad;
};

/* ---- namespaces: mount namespace inode number (u32) -> container key (u64) ---- */

/*
 * ---- subjects: task -> struct mark; only the programs write it ----
 * A domain is what a task entered by executing a target of its profile, the profile key of the target's path: it says
 * the same in every version of the policy. Set at most once, and inherited.
 */
struct mark {
	u64 container; /* container key */
	u64 domain;    /* 0: none */
	/* Only the task itself reads and writes these. */
	u64 next;	   /* domain that the execve in progress leads to, 0: none */
	u64 exec_id;	   /* number of execves that the process had done when the last one was judged */
	u64 judged_dentry; /* the file that it executes, until the kernel maps it; 0: none, or the rules change with it */
	u64 judged_mount;
};

/* ---- profiles: profile key (u64) -> array(1) of struct profile ---- */
#define PROFILE_COMPLAIN 1 /* report, refuse nothing */
#define PROFILE_EGRESS 2   /* has address prefixes */
#define PROFILE_SOCKETS 4  /* has socket rules */
#define PROFILE_PTRACE 8
#define PROFILE_USERNS_DENY 16
#define PROFILE_USERNS_AUDIT 32
#define PROFILE_BLOCK_OPEN_DENY 64 /* opening block devices */
#define PROFILE_BLOCK_OPEN_AUDIT 128
#define PROFILE_BLOCK_MOUNT_DENY 256 /* mounting what lives on one */
#define PROFILE_BLOCK_MOUNT_AUDIT 512

#define AUTOMATON_NONE 0
#define AUTOMATON_S 1
#define AUTOMATON_M 2
#define AUTOMATON_L 3
#define AUTOMATON_XL 4

/* Which automaton to walk; key is unique per generation of a profile. */
struct automaton_ref {
	u64 key;
	u32 class; /* AUTOMATON_* */
	u32 permissions; /* every PERM_* that some verdict of it denies, audits or allows: others need no walk */
};

struct socket_rule {
	u64 deny_protocols; /* a bit per protocol number below 64 */
	u64 audit_protocols;
	u32 deny_types; /* a bit per socket type */
	u32 audit_types;
};

struct mount_set {
	u32 deny_flags;
	u32 deny_clear;
	u32 audit_flags;
	u32 audit_clear;
};

#define ADDRESS_FAMILIES 64
#define EGRESS_FIRST 8
#define MOUNT_SETS 256

struct profile {
	u64 key;        /* its own key, for reports */
	u64 generation; /* key of its entries in prefixes and children */
	u64 capabilities_deny;
	u64 capabilities_audit;
	struct automaton_ref forward;
	struct automaton_ref backward;
	struct automaton_ref mount;
	struct automaton_ref targets; /* its verdict's 64 bits, deny the lowest: the domain of an executable */
	u32 flags;    /* PROFILE_* */
	u32 pod_self; /* port set for the pod's own addresses; 0: none */
	u8 ptrace_external_deny; /* PTRACE_* bits of policy::plan::bpf */
	u8 ptrace_external_audit;
	u8 ptrace_internal_deny;
	u8 ptrace_internal_audit;
	u8 pad[4];
	struct mount_set any_source; /* what some rule says of a bind or move from some source */
	/* A bit per first byte of an address that some prefix covers: of IPv4 addresses, then of IPv6 ones. */
	u64 egress_first[EGRESS_FIRST];
	struct socket_rule sockets[ADDRESS_FAMILIES];
	struct mount_set mounts[MOUNT_SETS];
};

/*
 * ---- children: struct child_key -> array(1) of struct profile ----
 * The rules for the tasks of one domain, in place of the profile's that has this generation. Its `key` is that
 * profile's, since reports name the policy.
 */
struct child_key {
	u64 generation;
	u64 domain;
};

/* ---- automata_{s,m,l,xl}: automaton key (u64) -> array(1) of one of these ---- */
#define TRANSITIONS_S (1 << 13)
#define TRANSITIONS_M (1 << 16)
#define TRANSITIONS_L (1 << 18)
#define TRANSITIONS_XL (1 << 20) /* kernel 5.10 refuses array values above 4 MiB */
/* A row has at least 8 entries, so a table of N transitions has at most N / 8 states. States are u16. */
#define STATES(transitions) ((transitions) / 8 > 65536 ? 65536 : (transitions) / 8)

/* Deny, audit, allow: bits of PERM_*. ancestors: policy::plan::automaton::PathVerdict. */
struct verdict {
	u16 deny;
	u16 audit;
	u16 allow;
	u16 ancestors;
};

#define VERDICTS(transitions) ((transitions) / 64 > 65536 ? 65536 : (transitions) / 64)

struct automaton_head {
	u32 start;
	u32 shift; /* log2 of the length of a row */
	u8 classes[256];
};

#define AUTOMATON(name, transitions)                                                                                   \
	struct name {                                                                                                  \
		struct automaton_head head;                                                                            \
		struct verdict verdicts[VERDICTS(transitions)];                                                        \
		u16 accept[STATES(transitions)]; /* by state: index into verdicts */                                   \
		u16 next[transitions];		 /* by (state << shift | class) */                                     \
	}
AUTOMATON(automaton_s, TRANSITIONS_S);
AUTOMATON(automaton_m, TRANSITIONS_M);
AUTOMATON(automaton_l, TRANSITIONS_L);
AUTOMATON(automaton_xl, TRANSITIONS_XL);

/* ---- prefixes: LPM trie ---- */
#define TABLE_ADDRESSES 0
/* Table n > 0 holds the ports of port set n, as prefixes of 16 bits in data[0..2], network byte order. */

struct prefix_key {
	u32 length; /* bits of everything after this field: 96 + prefix bits */
	u32 table;
	u64 generation;
	u8 data[16];
};
#define PREFIX_BITS_BEFORE_DATA 96

struct prefix_value {
	u32 port_set; /* TABLE_ADDRESSES: table of the ports */
	u8 deny;      /* tables of ports: refuse; TABLE_ADDRESSES: refuse whatever the port, without a second look-up */
	u8 audit;
	u8 all_ports; /* TABLE_ADDRESSES: deny and audit hold for every port; port_set is not read */
	u8 pad;
};

/* ---- meta: array(1), made by user space: what the pinned maps are; the programs don't read it ---- */
struct meta {
	u32 abi_version; /* VARMOR_ABI_VERSION */
	u32 pad;
	u8 build[32]; /* SHA-256 of the object whose links are pinned; 0 while they are being attached */
};

/* ---- counters: per-CPU array of u64 ---- */
#define COUNTER_EVENTS_LOST 0	 /* the ring buffer was full */
#define COUNTER_NO_AUTOMATON 1	 /* a profile named an automaton that is not there: refused */
#define COUNTER_NO_PROFILE 2	 /* a container named a profile that is not there: refused */
#define COUNTER_MARK_FAILED 3	 /* a task could not be marked: its fork or exec was refused */
#define COUNTER_PATH_REFUSED 4	 /* a path too long, too deep, or outside the namespace's tree: refused */
#define COUNTER_HELD_UP 5	 /* a task was switched out during each attempt at a check: refused */
#define COUNTERS 8

/* ---- settings: array(1), written by the loader ---- */
struct settings {
	u32 host_mntns; /* inode number of pid 1's mount namespace */
	u32 pad;
};

/* ---- mark_request: array(1), read and answered by the task iterator mark_tasks ---- */
struct mark_request {
	u64 container; /* container key to mark tasks with */
	u32 mntns;     /* mark the tasks of this mount namespace, and the children of marked tasks */
	u32 marked;    /* out: tasks newly marked in this pass */
	u32 failed;    /* out: tasks that could not be marked */
	u32 pad;
};

/* ---- violations: ring buffer ---- */
#define ACTION_DENIED 1
#define ACTION_AUDIT 2
#define ACTION_ALLOWED 4 /* complain mode */

#define EVENT_CAPABILITY 1
#define EVENT_FILE 2
#define EVENT_EXEC 4
#define EVENT_NETWORK 8
#define EVENT_PTRACE 0x10
#define EVENT_MOUNT 0x20
#define EVENT_USERNS 0x40

/* What a file event's operation was, beyond its permissions. */
#define OP_OPEN 0
#define OP_CREATE 1
#define OP_UNLINK 2
#define OP_RMDIR 3
#define OP_MKDIR 4
#define OP_MKNOD 5
#define OP_SYMLINK 6
#define OP_LINK 7
#define OP_RENAME 8
#define OP_TRUNCATE 9
#define OP_CHMOD 10
#define OP_CHOWN 11
#define OP_MMAP 12
#define OP_UNIX 13
#define OP_EXEC 14
#define OP_PATH 15 /* the path could not be told: refused without a rule */
#define OP_XATTR 16
#define NETWORK_SOCKET 1
#define NETWORK_CONNECT 2
#define NETWORK_SEND 3

struct violation {
	u64 time;      /* ns since boot, suspended time included where the kernel has that clock (5.8+) */
	u64 container; /* container key */
	u64 profile;   /* profile key */
	u32 tgid;      /* in the initial pid namespace */
	u32 tid;
	u32 mntns; /* inode number of the task's mount namespace */
	u8 action; /* ACTION_* */
	u8 type;   /* EVENT_* */
	u8 op;	   /* OP_* or NETWORK_* */
	u8 external; /* EVENT_PTRACE: the other side is outside the container, or of what the caller's domain may reach */
	u32 permissions; /* PERM_*, PTRACE_*, a capability's number, or mount flags */
	u32 text_length; /* bytes of text[] that follow the header */
	u16 family;	 /* EVENT_NETWORK: AF_* */
	u16 port;	 /* host byte order */
	u32 protocol;
	u32 socket_type;
	u32 pad;
	u8 address[16]; /* IPv4 mapped into IPv6 */
	char comm[16];
	/* then: the path; for EVENT_MOUNT the file system type, NUL, the source or path */
};
#define TEXT_MAX 4096
