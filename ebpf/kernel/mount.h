/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Mount operations. What the rules see of one is its flags (of mount(2), with UMOUNT and NEW added) and the text
 * "fstype NUL source", which an automaton turns into the set of rules that apply.
 */
#pragma once
#include "judge.h"

#define MS_REMOUNT 32
#define MS_BIND 4096
#define MS_MOVE 8192
#define MS_UNBINDABLE (1 << 17)
#define MS_PRIVATE (1 << 18)
#define MS_SLAVE (1 << 19)
#define MS_SHARED (1 << 20)
#define MS_OPERATIONS (MS_REMOUNT | MS_BIND | MS_MOVE | MS_UNBINDABLE | MS_PRIVATE | MS_SLAVE | MS_SHARED)
#define MOUNT_UMOUNT 0x200
#define MOUNT_NEW 0x80000000U
#define FSTYPE_MAX 64

/* The text is at the start of the slot's text, `length` bytes of it. */
__noinline int judge_mount(u64 mark, u32 slot, u32 flags, u32 length, u64 owner)
{
	struct profile *p = NULL;
	struct scratch *s = scratch_of(slot);
	int confined = profile_of(mark, &p);
	if (confined == UNCONFINED)
		return 0;
	if (confined == BROKEN || !p || !s)
		return -EACCES;
	bool complain = p->flags & PROFILE_COMPLAIN;
	if (p->mount.class == AUTOMATON_NONE && !complain)
		return 0;
	bool deny = false, audit = false;
	if (p->mount.class != AUTOMATON_NONE) {
		u64 set = match_text(p->mount.key, p->mount.class, slot, length);
		if (set == NO_VERDICT || disturbed(s, owner))
			return -EACCES;
		set = ANCESTORS(set);
		OPAQUE(set);
		if (set >= MOUNT_SETS)
			return -EACCES;
		struct mount_set *m = &p->mounts[set];
		/* What is unmounted or moved has no mount flags that could be clear. */
		u32 clear = flags & (MOUNT_UMOUNT | MS_MOVE) ? 0 : ~flags;
		deny = (flags & m->deny_flags) || (clear & m->deny_clear);
		audit = (flags & m->audit_flags) || (clear & m->audit_clear);
	}
	u8 action = action_of(p, deny, audit);
	if (action) {
		struct report *r = begin_report(slot, mark, p, EVENT_MOUNT, 0, action);
		if (r) {
			u64 n = length;
			OPAQUE(n);
			if (n > TEXT_MAX)
				n = TEXT_MAX;
			r->violation.permissions = flags;
			if (!bpf_probe_read_kernel(r->text, n, s->text))
				r->violation.text_length = n;
			send_report(r);
		}
	}
	return refuses(p, deny) ? -EPERM : 0;
}

/* Puts "fstype NUL source" into the slot's text; the strings are kernel memory, or 0 for "none" and nothing. */
__noinline int mount_text(u32 slot, u64 fstype, u64 source, u64 owner)
{
	struct scratch *s = scratch_of(slot);
	if (!s)
		return 0;
	*(volatile u64 *)&s->owner = owner;
	long n = 0;
	if (fstype)
		n = bpf_probe_read_kernel_str(s->text, FSTYPE_MAX, (void *)fstype);
	if (n <= 0) {
		__builtin_memcpy(s->text, "none", 5);
		n = 5;
	}
	u64 at = n;
	OPAQUE(at);
	if (at > FSTYPE_MAX)
		return 0;
	long m = source ? bpf_probe_read_kernel_str(&s->text[at], 4096, (void *)source) : 1;
	if (m <= 0)
		m = 1;
	return at + m - 1; /* without the source's NUL */
}

static __always_inline int judge_mount_strings(u64 mark, u64 fstype, u64 source, u32 flags)
{
	u32 slot = slot_of_current();
	u64 owner = new_owner();
	int length = mount_text(slot, fstype, source, owner);
	if (!length || judge_mount(mark, slot, flags, length, owner))
		return -EPERM;
	return 0;
}

/*
 * Puts "none NUL path" into the slot's text, of the path that scratch names. An operation on a tree that has no path
 * in the namespace has an empty source.
 */
__noinline int mount_path(u32 slot)
{
	struct scratch *s = scratch_of(slot);
	struct report *r = report_of(slot);
	if (!s || !r)
		return 0;
	u64 n = 0;
	if (walk(slot, *(volatile u64 *)&s->dentry, *(volatile u64 *)&s->mount) == PATH_OK && write_path(slot) == 0)
		n = *(volatile u32 *)&r->violation.text_length;
	__builtin_memcpy(s->text, "none", 5);
	OPAQUE(n);
	if (n > TEXT_MAX)
		return 0;
	if (bpf_probe_read_kernel(&s->text[5], n, r->text))
		return 0;
	return 5 + n;
}

static __always_inline int judge_mount_path(u64 mark, struct dentry *dentry, struct vfsmount *mount, u32 flags)
{
	u32 slot = slot_of_current();
	struct scratch *s = scratch_of(slot);
	if (!s)
		return -EACCES;
	u64 owner = new_owner();
	*(volatile u64 *)&s->owner = owner;
	*(volatile u64 *)&s->dentry = (u64)dentry;
	*(volatile u64 *)&s->mount = (u64)mount;
	int length = mount_path(slot);
	if (!length || judge_mount(mark, slot, flags, length, owner))
		return -EPERM;
	return 0;
}

SEC("lsm/sb_mount")
int BPF_PROG(sb_mount, const char *source, const struct path *path, const char *type, unsigned long flags)
{
	u64 mark = current_mark();
	if (!mark)
		return 0;
	if (flags & MS_OPERATIONS)
		return judge_mount_strings(mark, 0, (u64)source, flags);
	return judge_mount_strings(mark, (u64)type, (u64)source, (u32)flags | MOUNT_NEW);
}

SEC("lsm/sb_umount")
int BPF_PROG(sb_umount, struct vfsmount *mount, int flags)
{
	u64 mark = current_mark();
	if (!mark)
		return 0;
	return judge_mount_path(mark, BPF_CORE_READ(mount, mnt_root), mount, MOUNT_UMOUNT);
}

/* fsconfig's reconfiguration; mount(2)'s came through sb_mount already. */
SEC("lsm/sb_remount")
int BPF_PROG(sb_remount, struct super_block *sb)
{
	u64 mark = current_mark();
	if (!mark)
		return 0;
	return judge_mount_strings(mark, 0, 0, MS_REMOUNT);
}

/*
 * The new mount API ends here: what fsmount made is a new mount of its file system; what open_tree cloned is a bind;
 * both are detached and can't be told apart, so both kinds of rules hold. An attached mount is moved.
 */
SEC("lsm/move_mount")
int BPF_PROG(move_mount, const struct path *from, const struct path *to)
{
	u64 mark = current_mark();
	if (!mark)
		return 0;
	u32 slot = slot_of_current();
	struct scratch *s = scratch_of(slot);
	if (!s)
		return -EACCES;
	struct dentry *dentry = from->dentry;
	struct vfsmount *mount = from->mnt;
	*(volatile u64 *)&s->dentry = (u64)dentry;
	*(volatile u64 *)&s->mount = (u64)mount;
	if (walk(slot, *(volatile u64 *)&s->dentry, *(volatile u64 *)&s->mount) == PATH_OK)
		return judge_mount_path(mark, dentry, mount, MS_MOVE);
	struct super_block *sb = BPF_CORE_READ(mount, mnt_sb);
	const char *type = BPF_CORE_READ(sb, s_type, name);
	if (judge_mount_strings(mark, (u64)type, 0, MOUNT_NEW))
		return -EPERM;
	return judge_mount_strings(mark, 0, 0, MS_BIND | MS_MOVE);
}

/* The root of the namespace is moved: paths below it would be called otherwise. */
SEC("lsm/sb_pivotroot")
int BPF_PROG(sb_pivotroot, const struct path *old_path, const struct path *new_path)
{
	u64 mark = current_mark();
	if (!mark)
		return 0;
	return judge_mount_path(mark, new_path->dentry, new_path->mnt, MS_MOVE);
}
