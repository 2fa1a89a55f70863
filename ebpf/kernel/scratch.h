/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Working memory of one check: the directory entries of the path, and the report being written.
 *
 * It is per CPU, but a program can be preempted by another task's on the same CPU. Four slots, chosen by the thread's
 * id, make a clash rare; the owner's token, written at the start and compared at the end, makes it visible, and the
 * check is then done again (judge.h).
 */
#pragma once
#include "maps.h"

#define SLOTS 4
#define COMPONENTS 128
#define NAME_MAX 255
#define COMPONENT_MAX 256 /* '/' and a name */

/* Room for a name in its directory entry that every kernel has; 6.12 has 40. */
#define SHORT_NAME 32

/* d_parent to d_iname of struct dentry, which are neighbours in every kernel from 5.10 to 7.2. */
struct dentry_chunk {
	u64 parent;
	u32 hash;
	u32 length;
	u64 name;
	u64 inode; /* its last byte becomes the '/' before the name */
	u8 short_name[SHORT_NAME];
};
#define NAME_OFFSET 32

/*
 * The names that a hook collected itself, of its first CLIMBED entries: '/' at CLIMBED_SLASH, the name, and at
 * CLIMBED_LENGTH the length of both (u32), 0 for a name that is not in the entry itself and must be read.
 */
#define CLIMBED 32
#define CLIMBED_BYTES 64
#define CLIMBED_SLASH 7
#define CLIMBED_LENGTH (CLIMBED_SLASH + 1 + SHORT_NAME)

/* Behind them one component: its entry as it was read; a name longer than the entry's own room follows the '/' too. */
#define COMPONENT_AT (CLIMBED * CLIMBED_BYTES)
#define NAMES_BYTES 4096

/* Text that is no path of directory entries: a mount's file system type and source. */
#define CHUNK_BYTES 8192

struct scratch {
	u64 owner;
	/* What a hook was given. Pointers written here and read back are plain numbers to the verifier, which then need
	 * not be followed through the walk: less than half the verified instructions from kernel 6.12 on. */
	u64 dentry;
	u64 mount;
	u64 other_dentry;
	u64 other_mount;
	u64 target; /* domain that executing the file leads to */
	u32 count; /* of entry[]: components, or pieces of text */
	/* Where a walk of an automaton is that is not over. */
	u32 state;
	u32 at_entry;
	u32 at_byte;
	u32 at;	  /* the next byte, in names[] */
	u32 left; /* of the entry's bytes */
	s32 move; /* to the byte after it */
	u32 pad;
	u64 verdict;
	u64 climbed_by;	  /* owner of the check whose hook has itself collected the first entries, */
	u64 climbed_from; /* where they begin */
	u64 climbed_to;	  /* and what comes after them */
	u32 climbed;	  /* how many they are; 0 from the walk on that can't use them */
	u32 text_length;
	u64 first_root;	 /* of the last walk: root of the mount that the file lives in, */
	u64 first_super; /* its super block, */
	u64 root_super;	 /* and that of the container's root mount */
	u64 entry[COMPONENTS]; /* directory entry of component i, the leaf first */
	u8 names[NAMES_BYTES];
	u8 text[CHUNK_BYTES];
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

/* A pointer as a plain number: global functions take no other. */
static __always_inline u64 number_of(struct scratch *s, const void *pointer)
{
	*(volatile u64 *)&s->dentry = (u64)pointer;
	return *(volatile u64 *)&s->dentry;
}

static __always_inline struct report *report_of(u32 slot)
{
	return bpf_map_lookup_elem(&report, &slot);
}
