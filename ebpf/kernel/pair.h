/* SPDX-License-Identifier: GPL-2.0 */
/* Operations on two paths: rename and hard link. */
#pragma once
#include "judge.h"

#define PAIR_LINK 0
#define PAIR_RENAME 1
#define PAIR_EXCHANGE 2

/* What each automaton says of one path. */
struct pair_side {
	u64 forward;
	u64 backward;
};

static __always_inline int match_side(u32 slot, struct profile *p, u64 dentry, u64 mount, struct pair_side *side)
{
	int found = walk(slot, dentry, mount);
	side->forward = side->backward = 0;
	if (found != PATH_OK)
		return found;
	if (p->forward.class != AUTOMATON_NONE)
		side->forward = match_path(p->forward.key, p->forward.class, slot, FORWARD);
	if (p->backward.class != AUTOMATON_NONE)
		side->backward = match_path(p->backward.key, p->backward.class, slot, BACKWARD);
	return PATH_OK;
}

static __always_inline bool is_directory(u64 dentry)
{
	struct dentry *d = (void *)dentry;
	return (BPF_CORE_READ(d, d_inode, i_mode) & S_IFMT) == S_IFDIR;
}

/*
 * A directory that moves takes what is below it to other paths. That is refused when rules protect something below
 * the old or the new path, unless the same rules hold below both.
 */
static __always_inline bool moves_protected(struct pair_side *from, struct pair_side *to)
{
	return ANCESTORS(from->forward) != ANCESTORS(to->forward) || ANCESTORS(from->backward) != ANCESTORS(to->backward);
}

/* May the current task give the first path in scratch the second one's name? 0, a negative errno, or DISTURBED. */
__noinline int judge_pair(u64 container, u64 domain, u32 slot, u32 kind, u64 since)
{
	struct profile *p = NULL;
	struct scratch *s = scratch_of(slot);
	struct pair_side from, to;
	int confined = profile_of(container, domain, &p);
	if (confined == UNCONFINED)
		return 0;
	if (confined == BROKEN || !p || !s)
		return -EACCES;
	if (p->forward.class == AUTOMATON_NONE && p->backward.class == AUTOMATON_NONE)
		return 0;
	u64 old_dentry = *(volatile u64 *)&s->dentry, old_mount = *(volatile u64 *)&s->mount;
	u64 new_dentry = *(volatile u64 *)&s->other_dentry, new_mount = *(volatile u64 *)&s->other_mount;

	/* The new path first, so that the old one is in scratch for the report. */
	int found_new = match_side(slot, p, new_dentry, new_mount, &to);
	int found_old = match_side(slot, p, old_dentry, old_mount, &from);
	if (disturbed(since))
		return DISTURBED;
	if (found_old == PATH_UNKNOWN || found_new == PATH_UNKNOWN)
		return refuse_unknown(slot, container, p, PERM_WRITE);

	u64 old = from.forward | from.backward, new = to.forward | to.backward;
	u32 old_wanted = PERM_ALL, new_wanted = kind == PAIR_EXCHANGE ? PERM_ALL : PERM_WRITE;
	u8 op = kind == PAIR_LINK ? OP_LINK : OP_RENAME;
	if (kind != PAIR_LINK && (is_directory(old_dentry) || (kind == PAIR_EXCHANGE && is_directory(new_dentry))) &&
	    moves_protected(&from, &to)) {
		report_path(slot, container, p, EVENT_FILE, op, p->flags & PROFILE_COMPLAIN ? ACTION_ALLOWED : ACTION_DENIED,
			    PERM_WRITE);
		return p->flags & PROFILE_COMPLAIN ? 0 : -EPERM;
	}
	int result = conclude(slot, container, p, old, old_wanted, op);
	if (result)
		return result;
	if (!((DENY(new) | AUDIT(new)) & new_wanted))
		return 0;
	if (walk(slot, new_dentry, new_mount) != PATH_OK)
		return refuse_unknown(slot, container, p, PERM_WRITE);
	return conclude(slot, container, p, new, new_wanted, op);
}

static __always_inline int judge_two(struct mark *mark, const struct dentry *from, const struct dentry *to,
				     const struct vfsmount *from_mount, const struct vfsmount *to_mount, u32 kind)
{
	u32 slot = slot_of_current();
	struct scratch *s = scratch_of(slot);
	if (!s)
		return -EACCES;
	for (u32 attempt = 0; attempt < ATTEMPTS; attempt++) {
		u64 since = begin(s, (u64)from, (u64)from_mount);
		*(volatile u64 *)&s->other_dentry = (u64)to;
		*(volatile u64 *)&s->other_mount = (u64)to_mount;
		int result = judge_pair(mark->container, mark->domain, slot, kind, since);
		if (result == 0)
			return allowed();
		if (result != DISTURBED)
			break;
	}
	return -EPERM;
}
