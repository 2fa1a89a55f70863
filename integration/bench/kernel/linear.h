/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the automata are compared with: the path copied together into one buffer, and then a list of rules, each with a
 * prefix and a suffix of at most 63 bytes, looked up by number in a hash and compared byte by byte.
 */
#pragma once
#include "path.h"

#define LINEAR_BYTES 64
#define LINEAR_RULES 64 /* of one set */
#define LINEAR_SETS 4
#define LINEAR_PREFIX 4
#define LINEAR_SUFFIX 8
#define LINEAR_BUFFER 4096

struct linear_rule {
	u32 mode;
	u32 permissions;
	u32 flags; /* LINEAR_PREFIX, LINEAR_SUFFIX */
	u8 prefix[LINEAR_BYTES];
	u8 suffix[LINEAR_BYTES]; /* last byte first */
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, LINEAR_RULES * LINEAR_SETS);
	__type(key, u32);
	__type(value, struct linear_rule);
} linear_rules SEC(".maps");

struct linear_path {
	u8 bytes[LINEAR_BUFFER * 2]; /* the second half is never used: room for a whole name at any masked offset */
	u32 at;
	u32 pad;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct linear_path);
} linear_path SEC(".maps");

static __always_inline struct linear_path *linear_buffer(void)
{
	u32 zero = 0;
	return bpf_map_lookup_elem(&linear_path, &zero);
}

/* Copies the path to the end of the buffer, last component first; tells where it begins, or LINEAR_BUFFER. */
__noinline u32 linear_build(u64 dentry_address, u64 vfsmount)
{
	struct linear_path *path = linear_buffer();
	if (!path)
		return LINEAR_BUFFER;
	struct dentry *dentry = (void *)dentry_address;
	struct mount *mount = (void *)(vfsmount - OFFSET(struct mount, mnt));
	struct dentry *root = BPF_CORE_READ(mount, mnt.mnt_root);
	path->at = LINEAR_BUFFER;
	for (u32 i = 0; i < 128; i++) {
		if (dentry == root) {
			struct mount *parent = BPF_CORE_READ(mount, mnt_parent);
			if (parent == mount)
				return path->at;
			dentry = BPF_CORE_READ(mount, mnt_mountpoint);
			mount = parent;
			root = BPF_CORE_READ(mount, mnt.mnt_root);
			continue;
		}
		struct dentry *parent = BPF_CORE_READ(dentry, d_parent);
		if (parent == dentry)
			return LINEAR_BUFFER;
		u64 length = BPF_CORE_READ(dentry, d_name.len);
		const u8 *name = BPF_CORE_READ(dentry, d_name.name);
		OPAQUE(length);
		length &= 255;
		u64 at = *(volatile u32 *)&path->at;
		if (at < length + 1)
			return LINEAR_BUFFER;
		at -= length + 1;
		*(volatile u32 *)&path->at = at;
		u64 to = at;
		OPAQUE(to);
		to &= LINEAR_BUFFER - 1;
		path->bytes[to] = '/';
		if (bpf_probe_read_kernel(&path->bytes[to + 1], length, name))
			return LINEAR_BUFFER;
		dentry = parent;
	}
	return LINEAR_BUFFER;
}

/* Whether rule `number` matches the path that begins at `at`. */
__noinline u32 linear_match(u32 number, u32 at)
{
	struct linear_path *path = linear_buffer();
	struct linear_rule *rule = bpf_map_lookup_elem(&linear_rules, &number);
	if (!path || !rule)
		return 0;
	if (rule->flags & LINEAR_PREFIX) {
		u64 from = at;
		for (u32 i = 0; i < LINEAR_BYTES; i++) {
			u8 wanted = rule->prefix[i];
			if (!wanted)
				break;
			u64 k = from + i;
			OPAQUE(k);
			k &= LINEAR_BUFFER - 1;
			if (path->bytes[k] != wanted)
				return 0;
		}
	}
	if (rule->flags & LINEAR_SUFFIX) {
		u64 last = LINEAR_BUFFER - 1;
		for (u32 i = 0; i < LINEAR_BYTES; i++) {
			u8 wanted = rule->suffix[i];
			if (!wanted)
				break;
			u64 k = last - i;
			OPAQUE(k);
			k &= LINEAR_BUFFER - 1;
			if (path->bytes[k] != wanted)
				return 0;
		}
	}
	return 1;
}

/* Whether any of `count` rules of a set matches; 2 when the path could not be built. */
static __always_inline u32 linear_scan(u32 set, u32 count, u64 dentry, u64 vfsmount)
{
	u32 at = linear_build(dentry, vfsmount);
	if (at >= LINEAR_BUFFER)
		return 2;
	for (u32 i = 0; i < LINEAR_RULES; i++) {
		if (i >= count)
			break;
		if (linear_match(set * LINEAR_RULES + i, at))
			return 1;
	}
	return 0;
}
