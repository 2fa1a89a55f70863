/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Mount operations. What the rules see of one is its flags (of mount(2), with UMOUNT and NEW added) and the text
 * "fstype NUL source", which an automaton turns into the set of rules that apply.
 */
#pragma once
#include "places.h"

#define MS_REMOUNT 32
#define MS_BIND 4096
#define MS_MOVE 8192
#define MS_UNBINDABLE (1 << 17)
#define MS_PRIVATE (1 << 18)
#define MS_SLAVE (1 << 19)
#define MS_SHARED (1 << 20)
#define MS_REC 16384
#define MS_PROPAGATION (MS_UNBINDABLE | MS_PRIVATE | MS_SLAVE | MS_SHARED)
#define MS_OPERATIONS (MS_REMOUNT | MS_BIND | MS_MOVE | MS_PROPAGATION)
#define MOUNT_UMOUNT 0x200
#define MOUNT_NEW 0x80000000U
#define FSTYPE_MAX 64

#define NO_FSTYPE "none"
#define SOURCE_AT sizeof(NO_FSTYPE) /* in the text of an operation that has no file system type */

/* The longest source that is looked at; of a longer one rules can't be sure. */
#define SOURCE_MAX 1024

/*
 * What the component of a path has so far, and what a byte makes of that: a table without branches, each of which would
 * double what the verifier has to follow in every round of the loop.
 */
enum { SEEN_NOTHING, SEEN_DOT, SEEN_DOT_DOT, SEEN_NAME, SEEN_NO_NAME };
enum { BYTE_DOT, BYTE_SLASH, BYTE_OTHER, BYTE_KINDS };
#define BY(seen, kind, then) ((u64)(then) << 3 * ((seen) * BYTE_KINDS + (kind)))
#define SEEN_THEN                                                                                                      \
	(BY(SEEN_NOTHING, BYTE_DOT, SEEN_DOT) | BY(SEEN_NOTHING, BYTE_SLASH, SEEN_NO_NAME) |                           \
	 BY(SEEN_NOTHING, BYTE_OTHER, SEEN_NAME) | BY(SEEN_DOT, BYTE_DOT, SEEN_DOT_DOT) |                              \
	 BY(SEEN_DOT, BYTE_SLASH, SEEN_NO_NAME) | BY(SEEN_DOT, BYTE_OTHER, SEEN_NAME) |                                \
	 BY(SEEN_DOT_DOT, BYTE_DOT, SEEN_NAME) | BY(SEEN_DOT_DOT, BYTE_SLASH, SEEN_NO_NAME) |                          \
	 BY(SEEN_DOT_DOT, BYTE_OTHER, SEEN_NAME) | BY(SEEN_NAME, BYTE_DOT, SEEN_NAME) |                                \
	 BY(SEEN_NAME, BYTE_SLASH, SEEN_NOTHING) | BY(SEEN_NAME, BYTE_OTHER, SEEN_NAME) |                              \
	 BY(SEEN_NO_NAME, BYTE_DOT, SEEN_NO_NAME) | BY(SEEN_NO_NAME, BYTE_SLASH, SEEN_NO_NAME) |                       \
	 BY(SEEN_NO_NAME, BYTE_OTHER, SEEN_NO_NAME))

static __always_inline u64 kind_of(u8 byte)
{
	/* '/' is the byte after '.'. */
	u64 distance = (u8)(byte - '.'), is_other = ((distance >> 1) + 127) >> 7;
	OPAQUE(is_other);
	return (distance & 1 & ~is_other) | is_other << 1;
}

/* Whether the source in the slot's text is an absolute path without empty, `.` and `..` components. */
__noinline u32 is_plain_path(u32 slot, u32 from, u32 to)
{
	struct scratch *s = scratch_of(slot);
	u64 at = from;
	if (!s || at > FSTYPE_MAX || from >= to || s->text[at] != '/')
		return 0;
	u64 seen = SEEN_NOTHING;
	for (u32 i = 1; i < SOURCE_MAX; i++) {
		u64 k = from + i;
		if (k >= to)
			return seen == SEEN_NAME || i == 1;
		OPAQUE(k);
		seen = SEEN_THEN >> 3 * (seen * BYTE_KINDS + kind_of(s->text[k & (CHUNK_BYTES - 1)])) & 7;
		OPAQUE(seen);
	}
	return 0;
}

/* What is asked, in one argument: flags, the length of the text, and whether the source is the caller's own words. */
#define REQUEST(flags, length) ((u64)(length) << 32 | (u32)(flags))
#define IN_WORDS (1ULL << 63)

static __always_inline void apply(struct mount_set *set, u32 flags, bool *deny, bool *audit)
{
	/* What is unmounted or moved has no mount flags that could be clear. */
	u32 clear = flags & (MOUNT_UMOUNT | MS_MOVE) ? 0 : ~flags;
	*deny |= (flags & set->deny_flags) || (clear & set->deny_clear);
	*audit |= (flags & set->audit_flags) || (clear & set->audit_clear);
}

/* Reports the text at the start of the slot's text, `length` bytes of it. */
static __always_inline void report_mount(u32 slot, u64 container, struct profile *p, struct scratch *s, u32 flags, u32 length,
					 u8 action)
{
	struct report *r = begin_report(slot, container, p, EVENT_MOUNT, 0, action);
	if (!r)
		return;
	u64 n = length;
	OPAQUE(n);
	if (n > TEXT_MAX)
		n = TEXT_MAX;
	r->violation.permissions = flags;
	if (!bpf_probe_read_kernel(r->text, n, s->text))
		r->violation.text_length = n;
	send_report(r);
}

/* The text is at the start of the slot's text. */
__noinline int judge_mount(u64 container, u64 domain, u32 slot, u64 request, u64 since)
{
	struct profile *p = NULL;
	struct scratch *s = scratch_of(slot);
	u32 flags = request, length = request >> 32 & 0xffff;
	int confined = profile_of(container, domain, &p);
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
		/* Words that only the kernel can resolve may mean any path that rules name. */
		bool any_source = request & IN_WORDS && !is_plain_path(slot, SOURCE_AT, length);
		if (disturbed(since))
			return DISTURBED;
		if (set == NO_VERDICT)
			return -EACCES;
		set = ANCESTORS(set);
		OPAQUE(set);
		if (set >= MOUNT_SETS)
			return -EACCES;
		apply(&p->mounts[set], flags, &deny, &audit);
		if (any_source)
			apply(&p->any_source, flags, &deny, &audit);
	}
	u8 action = action_of(p, deny, audit);
	if (action)
		report_mount(slot, container, p, s, flags, length, action);
	return refuses(p, deny) ? -EPERM : 0;
}

/* Puts "fstype NUL source" into the slot's text; the strings are kernel memory, or 0 for "none" and nothing. */
__noinline int mount_text(u32 slot, u64 fstype, u64 source)
{
	struct scratch *s = scratch_of(slot);
	if (!s)
		return 0;
	long n = 0;
	if (fstype)
		n = bpf_probe_read_kernel_str(s->text, FSTYPE_MAX, (void *)fstype);
	if (n <= 0) {
		__builtin_memcpy(s->text, NO_FSTYPE, SOURCE_AT);
		n = SOURCE_AT;
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

static __always_inline int judge_mount_text(u64 container, u64 domain, u64 fstype, u64 source, u64 flags)
{
	u32 slot = slot_of_current();
	for (u32 attempt = 0; attempt < ATTEMPTS; attempt++) {
		u64 since = switches_of(current_task());
		int length = mount_text(slot, fstype, source);
		if (!length)
			return -EPERM;
		int result = judge_mount(container, domain, slot, REQUEST(flags, length) | (flags & IN_WORDS), since);
		if (result == 0)
			return allowed();
		if (result != DISTURBED)
			return -EPERM;
	}
	return held_up();
}

static __always_inline int judge_mount_strings(struct mark *mark, u64 fstype, u64 source, u64 flags)
{
	return judge_mount_text(mark->container, mark->domain, fstype, source, flags);
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
	__builtin_memcpy(s->text, NO_FSTYPE, SOURCE_AT);
	OPAQUE(n);
	if (n > TEXT_MAX)
		return 0;
	if (bpf_probe_read_kernel(&s->text[SOURCE_AT], n, r->text))
		return 0;
	return SOURCE_AT + n;
}

static __always_inline int judge_mount_at(u64 container, u64 domain, u64 dentry, u64 mount, u32 flags)
{
	u32 slot = slot_of_current();
	struct scratch *s = scratch_of(slot);
	if (!s)
		return -EACCES;
	for (u32 attempt = 0; attempt < ATTEMPTS; attempt++) {
		u64 since = begin(s, dentry, mount);
		int length = mount_path(slot);
		if (!length)
			return -EPERM;
		int result = judge_mount(container, domain, slot, REQUEST(flags, length), since);
		if (result == 0)
			return allowed();
		if (result != DISTURBED)
			return -EPERM;
	}
	return held_up();
}

static __always_inline int judge_mount_path(struct mark *mark, struct dentry *dentry, struct vfsmount *mount, u32 flags)
{
	return judge_mount_at(mark->container, mark->domain, (u64)dentry, (u64)mount, flags);
}

/*
 * Judges an operation on `dentry` of the file system `super`, or on the whole of that (0), by each path that the task's
 * namespace has for it. A tree that has none is a new one, and rules about sources that are named don't hold for it; a
 * file system that has none has paths elsewhere, and may be any.
 */
__noinline int judge_mount_places(u64 container, u64 domain, u64 dentry, u64 super, u32 flags)
{
	u64 mount = 0, words = IN_WORDS;
	for (u32 i = 0; i < PLACES; i++) {
		mount = next_place(dentry, super, mount);
		if (mount == NO_PLACE && i)
			return 0;
		if (mount == NO_PLACE && dentry)
			words = 0;
		if (mount == NO_PLACE || mount == LOST)
			break;
		u64 shown = dentry;
		if (!shown)
			shown = read_pointer(mount + OFFSET(struct mount, mnt) + OFFSET(struct vfsmount, mnt_root));
		if (judge_mount_at(container, domain, shown, mount + OFFSET(struct mount, mnt), flags))
			return -EPERM;
	}
	return judge_mount_text(container, domain, 0, 0, flags | words);
}

/*
 * mount(2). Only a bind and a move look for their source, in the caller's words; what changes a mount is judged by that
 * mount's path.
 */
SEC("lsm/sb_mount")
int BPF_PROG(sb_mount, const char *source, const struct path *path, const char *type, unsigned long flags)
{
	struct mark *mark = current_mark();
	if (!mark)
		return 0;
	if (!(flags & MS_OPERATIONS))
		return judge_mount_strings(mark, (u64)type, (u64)source, (u32)flags | MOUNT_NEW);
	/* The kernel looks for these in this order. */
	if (flags & MS_REMOUNT || (flags & MS_PROPAGATION && !(flags & MS_BIND)))
		return judge_mount_path(mark, path->dentry, path->mnt, flags & ~(MS_BIND | MS_REC));
	return judge_mount_strings(mark, 0, (u64)source, (u32)flags | IN_WORDS);
}

SEC("lsm/sb_umount")
int BPF_PROG(sb_umount, struct vfsmount *mount, int flags)
{
	struct mark *mark = current_mark();
	if (!mark)
		return 0;
	return judge_mount_path(mark, BPF_CORE_READ(mount, mnt_root), mount, MOUNT_UMOUNT);
}

/* fsconfig's reconfiguration, which does not tell by which mount; also mount(2)'s, after sb_mount. */
SEC("lsm/sb_remount")
int BPF_PROG(sb_remount, struct super_block *sb)
{
	struct mark *mark = current_mark();
	if (!mark)
		return 0;
	if (judge_mount_places(mark->container, mark->domain, 0, number_of(sb), MS_REMOUNT))
		return -EPERM;
	return 0;
}

/* The text is at the start of the slot's text, `length` bytes of it. */
__noinline int judge_block_mount(u64 container, u64 domain, u32 slot, u32 length, u64 since)
{
	struct profile *p = NULL;
	struct scratch *s = scratch_of(slot);
	int confined = profile_of(container, domain, &p);
	if (confined == UNCONFINED)
		return 0;
	if (confined == BROKEN || !p || !s)
		return -EACCES;
	bool deny = p->flags & PROFILE_BLOCK_MOUNT_DENY, audit = p->flags & PROFILE_BLOCK_MOUNT_AUDIT;
	if (!deny && !audit)
		return 0;
	u8 action = action_of(p, deny, audit);
	if (action) {
		if (disturbed(since))
			return DISTURBED;
		report_mount(slot, container, p, s, MOUNT_NEW, length, action);
	}
	return refuses(p, deny) ? -EPERM : 0;
}

/*
 * A file system is about to be there for the caller, by mount(2) or by fsconfig: before it could be looked into, even
 * without being attached anywhere. One that lives on a block device names it, or is of a type that needs one (btrfs
 * keeps its devices to itself).
 */
SEC("lsm/sb_set_mnt_opts")
int BPF_PROG(sb_set_mnt_opts, struct super_block *sb)
{
	struct mark *mark = current_mark();
	if (!mark)
		return 0;
	if (!BPF_CORE_READ(sb, s_bdev) && !(BPF_CORE_READ(sb, s_type, fs_flags) & FS_REQUIRES_DEV))
		return 0;
	u32 slot = slot_of_current();
	u64 device = number_of(sb) + OFFSET(struct super_block, s_id);
	u64 type = (u64)BPF_CORE_READ(sb, s_type, name);
	for (u32 attempt = 0; attempt < ATTEMPTS; attempt++) {
		u64 since = switches_of(current_task());
		int length = mount_text(slot, type, device);
		if (!length)
			return -EPERM;
		int result = judge_block_mount(mark->container, mark->domain, slot, length, since);
		if (result == 0)
			return allowed();
		if (result != DISTURBED)
			return -EPERM;
	}
	return held_up();
}

/*
 * The new mount API ends here. A detached tree that fsmount made is a new mount of its file system; one that open_tree
 * cloned is a bind of the paths that show its root. Which it is can't be told for sure, so both kinds of rules hold. An
 * attached mount is moved.
 */
SEC("lsm/move_mount")
int BPF_PROG(move_mount, const struct path *from, const struct path *to)
{
	struct mark *mark = current_mark();
	if (!mark)
		return 0;
	u32 slot = slot_of_current();
	struct scratch *s = scratch_of(slot);
	if (!s)
		return -EACCES;
	struct dentry *dentry = from->dentry;
	struct vfsmount *mount = from->mnt;
	bool undisturbed = false;
	int found = PATH_UNKNOWN;
	for (u32 attempt = 0; attempt < ATTEMPTS && !undisturbed; attempt++) {
		u64 since = begin(s, (u64)dentry, (u64)mount);
		found = walk(slot, *(volatile u64 *)&s->dentry, *(volatile u64 *)&s->mount);
		undisturbed = !disturbed(since);
	}
	if (!undisturbed)
		return held_up();
	if (found == PATH_OK)
		return judge_mount_path(mark, dentry, mount, MS_MOVE);
	struct super_block *sb = BPF_CORE_READ(mount, mnt_sb);
	const char *type = BPF_CORE_READ(sb, s_type, name);
	if (judge_mount_strings(mark, (u64)type, 0, MOUNT_NEW))
		return -EPERM;
	if (judge_mount_places(mark->container, mark->domain, number_of(dentry), (u64)sb, MS_BIND | MS_MOVE))
		return -EPERM;
	return 0;
}

/* The root of the namespace is moved: paths below it would be called otherwise. */
SEC("lsm/sb_pivotroot")
int BPF_PROG(sb_pivotroot, const struct path *old_path, const struct path *new_path)
{
	struct mark *mark = current_mark();
	if (!mark)
		return 0;
	return judge_mount_path(mark, new_path->dentry, new_path->mnt, MS_MOVE);
}
