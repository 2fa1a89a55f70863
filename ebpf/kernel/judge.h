/* SPDX-License-Identifier: GPL-2.0 */
/* Whether a subject may do something to a path. Every file hook ends here. */
#pragma once
#include "report.h"

#define PERM_READ 1
#define PERM_WRITE 2
#define PERM_APPEND 4
#define PERM_EXEC 8
#define PERM_ALL (PERM_READ | PERM_WRITE | PERM_APPEND | PERM_EXEC)

/*
 * Opened by the kernel below a file that was judged already: the layer's file under one of overlayfs. Set on these
 * alone, in every kernel from 5.10 to 7.2.
 */
#define FMODE_NOACCOUNT 0x20000000

#define DENY(v) ((u16)(v))
#define AUDIT(v) ((u16)((v) >> 16))
#define ANCESTORS(v) ((u16)((v) >> 48))

/* Two paths in one operation, such as a rename, need the directory's protected subtrees compared. */
#define WANT_ANCESTORS 0x8000

static __always_inline u64 match_one(struct automaton_ref *ref, u32 slot, u32 wanted, u32 direction)
{
	if (ref->class == AUTOMATON_NONE || !(ref->permissions & wanted))
		return 0;
	return match_path(ref->key, ref->class, slot, direction);
}

static __always_inline void report_path(u32 slot, u64 container, struct profile *p, u8 type, u8 op, u8 action, u32 permissions)
{
	struct report *r = begin_report(slot, container, p, type, op, action);
	if (!r)
		return;
	r->violation.permissions = permissions;
	write_path(slot);
	send_report(r);
}

static __always_inline int conclude(u32 slot, u64 container, struct profile *p, u64 verdict, u32 wanted, u8 op)
{
	u32 denied = DENY(verdict) & wanted;
	u32 audited = AUDIT(verdict) & wanted;
	u8 action = action_of(p, denied, audited);
	if (action)
		report_path(slot, container, p, op == OP_EXEC ? EVENT_EXEC : EVENT_FILE, op, action,
			    denied && action == ACTION_DENIED ? denied : action == ACTION_AUDIT ? audited : wanted);
	return refuses(p, denied) ? -EPERM : 0;
}

/* A path that can't be told is refused, whatever the rules: it may be a protected one under another name. */
static __always_inline int refuse_unknown(u32 slot, u64 container, struct profile *p, u32 wanted)
{
	count(COUNTER_PATH_REFUSED);
	if (p->flags & PROFILE_COMPLAIN)
		return 0;
	report_path(slot, container, p, EVENT_FILE, OP_PATH, ACTION_DENIED, wanted);
	return -EACCES;
}

/* The task was switched out meanwhile: what was judged may be another one's path. */
#define DISTURBED 1

/* Each lasts a few microseconds: a task that is switched out in all of them is held up by somebody, and refused. */
#define ATTEMPTS 4

/* Every attempt was disturbed. */
static __always_inline int held_up(void)
{
	count(COUNTER_HELD_UP);
	return -EPERM;
}

/* A 0 of its own: the compiler would return a result that was compared with 0, of which kernel 6.12 does not know that. */
static __always_inline int allowed(void)
{
	int zero = 0;
	OPAQUE(zero);
	return zero;
}

static __always_inline u64 match_both(struct profile *p, u32 slot, u32 wanted)
{
	return match_one(&p->forward, slot, wanted, FORWARD) | match_one(&p->backward, slot, wanted, BACKWARD);
}

/* What is asked, in one argument, since a function has five at most: permissions, and the operation for the report. */
#define QUESTION(wanted, op) ((wanted) | (u32)(op) << 16)
#define WANTED(question) ((question) & 0xffff)
#define OPERATION(question) ((question) >> 16 & 0xff)
#define FIND_TARGET (1U << 24) /* also put the domain that executing the file leads to into scratch, 0 for none */

/* Matches the path in scratch against rules and targets; the domain found stays in scratch. */
static __always_inline u64 match_all(struct scratch *s, struct profile *p, u32 slot, u32 question)
{
	u64 verdict = match_both(p, slot, WANTED(question));
	if (question & FIND_TARGET && p->targets.class != AUTOMATON_NONE && !*(volatile u64 *)&s->target) {
		u64 target = match_path(p->targets.key, p->targets.class, slot, FORWARD);
		if (target == NO_VERDICT)
			return NO_VERDICT;
		s->target = target;
	}
	return verdict;
}

/* May a subject do what is asked to the path that scratch names (dentry, mount)? 0, a negative errno, or DISTURBED. */
__noinline int judge(u64 container, u64 domain, u32 slot, u32 question, u64 since)
{
	struct profile *p = NULL;
	struct scratch *s = scratch_of(slot);
	u32 wanted = WANTED(question), op = OPERATION(question);
	int confined = profile_of(container, domain, &p);
	if (!s)
		return -EACCES;
	s->target = 0;
	if (confined == UNCONFINED)
		return 0;
	if (confined == BROKEN || !p)
		return -EACCES;
	if (!((p->forward.permissions | p->backward.permissions) & wanted) &&
	    !(question & FIND_TARGET && p->targets.class != AUTOMATON_NONE))
		return 0;
	u64 dentry = *(volatile u64 *)&s->dentry;
	int found = walk(slot, dentry, *(volatile u64 *)&s->mount);
	u64 verdict = found == PATH_OK ? match_all(s, p, slot, question) : 0;
	bool has_other_name = found == PATH_OK && is_bind_of_root(s);
	if (disturbed(since))
		return DISTURBED;
	if (found == PATH_NOWHERE)
		return 0;
	if (found == PATH_UNKNOWN)
		return refuse_unknown(slot, container, p, wanted);
	int result = conclude(slot, container, p, verdict, wanted, op);
	if (result || !has_other_name)
		return result;
	if (walk_in_super(slot, dentry) != PATH_OK)
		return refuse_unknown(slot, container, p, wanted);
	verdict = match_all(s, p, slot, question);
	if (disturbed(since))
		return DISTURBED;
	return conclude(slot, container, p, verdict, wanted, op);
}

/* Judges one path from a hook. A check that was disturbed is done again. */
static __always_inline int judge_one(u64 container, u64 domain, u64 dentry, u64 mount, u32 question,
				     struct dentry *typed_dentry, struct vfsmount *typed_mount, u64 *target)
{
	u32 slot = slot_of_current();
	struct scratch *s = scratch_of(slot);
	if (!s)
		return -EACCES;
	for (u32 attempt = 0; attempt < ATTEMPTS; attempt++) {
		u64 since = begin(s, dentry, mount);
		/* Further attempts are rare: walk() does without, and the verifier follows the climb once. */
		if (typed_dentry && !attempt)
			climb(s, typed_dentry, typed_mount);
		int result = judge(container, domain, slot, question, since);
		if (target) {
			*target = *(volatile u64 *)&s->target;
			if (disturbed(since))
				result = DISTURBED;
		}
		if (result == 0)
			return allowed();
		if (result != DISTURBED)
			return -EPERM;
	}
	return held_up();
}

/* For pointers that the verifier follows: a hook's arguments and what is read through them. */
static __always_inline int judge_path(struct mark *mark, struct dentry *dentry, struct vfsmount *mount, u32 wanted, u32 op)
{
	return judge_one(mark->container, mark->domain, (u64)dentry, (u64)mount, QUESTION(wanted, op), dentry, mount,
			 NULL);
}

/* As judge_path, whether the file may be executed, and the domain to which that leads. */
static __always_inline int judge_exec(struct mark *mark, struct dentry *dentry, struct vfsmount *mount, u64 *domain)
{
	return judge_one(mark->container, mark->domain, (u64)dentry, (u64)mount, QUESTION(PERM_EXEC, OP_EXEC) | FIND_TARGET,
			 dentry, mount, domain);
}

/* For pointers that are numbers to the verifier. */
static __always_inline int judge_at(u64 container, u64 domain, u64 dentry, u64 mount, u32 question)
{
	return judge_one(container, domain, dentry, mount, question, NULL, NULL, NULL);
}

static __always_inline int judge_path_at(struct mark *mark, struct dentry *dentry, struct vfsmount *mount, u32 wanted, u32 op)
{
	return judge_at(mark->container, mark->domain, (u64)dentry, (u64)mount, QUESTION(wanted, op));
}
