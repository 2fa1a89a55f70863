/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Working memory of one check: the directory entries of the path, and the report being written.
 *
 * It is per CPU, but a program can be preempted by another task's on the same CPU. Four slots, chosen by the thread's
 * id, make a clash rare. Whoever was not switched out between the start of the check and the end had the slot for
 * itself; whoever was, does the check again (judge.h). Nothing that is kept in the slot could tell that: the other task's
 * check may have begun first, and goes on writing after this one has looked.
 */
#pragma once
#include "subject.h"

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

/* A name that a hook collected itself, as it does of its first CLIMBED entries. */
struct copied_name {
	u64 slash; /* its last byte is '/' */
	u64 words[SHORT_NAME / 8];
	u32 length; /* of '/' and the name; 0: it is not here, and must be read */
	u8 pad[20];
};
#define CLIMBED 32
#define CLIMBED_BYTES sizeof(struct copied_name)
#define CLIMBED_SLASH 7

/* Behind them one component: its entry as it was read; a name longer than the entry's own room follows the '/' too. */
#define COMPONENT_AT (CLIMBED * CLIMBED_BYTES)
#define NAMES_BYTES 4096

/* Text that is no path of directory entries: a mount's file system type and source. */
#define CHUNK_BYTES 8192

struct scratch {
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
	u32 at_entry;	/* index in entry[], or of the piece of text; beyond them: at the end */
	u32 entry_step; /* from one to the next: 1 or -1 */
	u32 at_byte;	/* of the entry */
	u32 at;		/* the next byte, in names[] */
	u32 stop;	/* what comes after the entry's last one */
	u32 length;	/* how many they are */
	u32 climbed;	/* how many entries the hook has collected itself; 0 from the walk on that can't use them */
	u64 verdict;
	u64 climbed_from; /* where they begin; 0: this check's hook has collected none */
	u64 climbed_to;	  /* what comes after them */
	u64 text_length;
	u64 first_root;	 /* of the last walk: root of the mount that the file lives in, */
	u64 first_super; /* its super block, */
	u64 root_super;	 /* and that of the container's root mount */
	u64 first_top;	 /* and the root of the file's file system, where the hook has told it, else 0 */
	u64 entry[COMPONENTS]; /* directory entry of component i, the leaf first */
	union {
		struct copied_name copied[CLIMBED];
		u8 names[NAMES_BYTES];
	};
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

/* How often a task was switched out; both counts, since a lock may put it to sleep on a kernel for real time. */
static __always_inline u64 switches_of(struct task_struct *task)
{
	return TASK_READ(task, nvcsw) + TASK_READ(task, nivcsw);
}

/* Starts a check in a slot. */
static __always_inline u64 begin(struct scratch *s, u64 dentry, u64 mount)
{
	u64 since = switches_of(current_task());
	*(volatile u64 *)&s->climbed_from = 0;
	s->first_top = 0;
	*(volatile u64 *)&s->dentry = dentry;
	*(volatile u64 *)&s->mount = mount;
	return since;
}

/* Whether others may have used the slot since the check began. */
static __always_inline bool disturbed(u64 since)
{
	return switches_of(current_task()) != since;
}

/* A pointer as a plain number: global functions take no other, and what a helper has copied is nothing else. */
static __always_inline u64 number_of(const void *pointer)
{
	u64 number = 0;
	bpf_probe_read_kernel(&number, sizeof(number), &pointer);
	return number;
}

static __always_inline struct report *report_of(u32 slot)
{
	return bpf_map_lookup_elem(&report, &slot);
}
