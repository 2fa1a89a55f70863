/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Working memory of one check: the path's components as they were read, and the report being written.
 *
 * It is per CPU, but a program can be preempted by another task's on the same CPU. Four slots, chosen by the thread's
 * id, make a clash rare; the owner's token, written at the start and compared at the end, makes it visible, and the
 * check is then done again (judge.h).
 */
#pragma once
#include "maps.h"

#define SLOTS 4
#define PATH_BYTES 16384
#define COMPONENTS 128

struct scratch {
	u64 owner;
	/* What a hook was given. Pointers written here and read back are plain numbers to the verifier, which then need
	 * not be followed through the walk: less than half the verified instructions from kernel 6.12 on. */
	u64 dentry;
	u64 mount;
	u64 other_dentry;
	u64 other_mount;
	u32 count; /* components */
	u32 used;  /* bytes of chunks */
	u64 first_root;	 /* of the last walk: root of the mount that the file lives in, */
	u64 first_super; /* its super block, */
	u64 root_super;	 /* and that of the container's root mount */
	u16 start[COMPONENTS]; /* component i, the leaf first: where its '/' is in chunks; the name follows */
	u16 length[COMPONENTS]; /* of '/' and name */
	u8 chunks[PATH_BYTES];
};

struct report {
	struct violation violation;
	u8 text[TEXT_MAX + 256]; /* room for the last name, which is copied whole before the text is cut */
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, SLOTS);
	__type(key, u32);
	__type(value, struct scratch);
} scratch SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, SLOTS);
	__type(key, u32);
	__type(value, struct report);
} report SEC(".maps");

static __always_inline u32 slot_of_current(void)
{
	return (u32)bpf_get_current_pid_tgid() & (SLOTS - 1);
}

static __always_inline struct scratch *scratch_of(u32 slot)
{
	return bpf_map_lookup_elem(&scratch, &slot);
}

static __always_inline struct report *report_of(u32 slot)
{
	return bpf_map_lookup_elem(&report, &slot);
}
