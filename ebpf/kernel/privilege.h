/* SPDX-License-Identifier: GPL-2.0 */
/* Capabilities, user namespaces, and the ways around their checks. */
#pragma once
#include "judge.h"

#define CAP_OPT_NOAUDIT 2
#define CAP_SYS_RESOURCE 24
#define CAP_LAST_5_10 40 /* CAP_CHECKPOINT_RESTORE */

__noinline int judge_capability(u64 mark, u32 capability, u32 quiet)
{
	struct profile *p = NULL;
	int confined = profile_of(mark, &p);
	if (confined == UNCONFINED)
		return 0;
	if (confined == BROKEN || !p)
		return -EACCES;
	u32 bit = capability & 63;
	bool deny = p->capabilities_deny >> bit & 1, audit = p->capabilities_audit >> bit & 1;
	u8 action = quiet ? 0 : action_of(p, deny, audit);
	if (action) {
		struct report *r = begin_report(slot_of_current(), mark, p, EVENT_CAPABILITY, 0, action);
		if (r) {
			r->violation.permissions = capability;
			send_report(r);
		}
	}
	return refuses(p, deny) ? -EPERM : 0;
}

/*
 * The kernel itself may act for the task with credentials of its own: overlayfs does to copy a file up, with the
 * mounter's. It shows as a task whose subjective credentials are not its objective ones, and is not the task's use of
 * a capability. User space can bring that about only with io_uring's personalities, which uring_override_creds stops.
 *
 * Kernel 5.10 lacks that hook: there the credentials must also hold every capability but SYS_RESOURCE, as overlayfs'
 * do, and as no process of a container has that is not privileged.
 */
static __always_inline bool is_override_of_the_kernel(struct task_struct *task)
{
	const struct cred *subjective = BPF_CORE_READ(task, cred);
	if (subjective == BPF_CORE_READ(task, real_cred))
		return false;
#ifdef SUBJECTS_BY_POINTER
	u64 effective = 0;
	bpf_core_read(&effective, sizeof(effective), &subjective->cap_effective);
	return (effective | 1ULL << CAP_SYS_RESOURCE) == (1ULL << (CAP_LAST_5_10 + 1)) - 1;
#else
	return true;
#endif
}

SEC("lsm/capable")
int BPF_PROG(capable, const struct cred *cred, struct user_namespace *ns, int capability, unsigned int options)
{
	struct task_struct *task = current_task();
	u64 mark = mark_of(task);
	if (!mark)
		return 0;
	if (is_override_of_the_kernel(task))
		return 0;
	if (judge_capability(mark, capability, options & CAP_OPT_NOAUDIT))
		return -EPERM;
	return 0;
}

SEC("lsm/uring_override_creds")
int BPF_PROG(uring_override_creds, const struct cred *new)
{
	u64 mark = current_mark();
	if (!mark)
		return 0;
	struct profile *p = NULL;
	int confined = profile_of(mark, &p);
	if (confined == UNCONFINED)
		return 0;
	if (confined == BROKEN || !p)
		return -EPERM;
	if (p->capabilities_deny && !(p->flags & PROFILE_COMPLAIN))
		return -EPERM;
	return 0;
}

SEC("lsm/userns_create")
int BPF_PROG(userns_create, const struct cred *cred)
{
	u64 mark = current_mark();
	if (!mark)
		return 0;
	struct profile *p = NULL;
	int confined = profile_of(mark, &p);
	if (confined == UNCONFINED)
		return 0;
	if (confined == BROKEN || !p)
		return -EPERM;
	bool deny = p->flags & PROFILE_USERNS_DENY, audit = p->flags & PROFILE_USERNS_AUDIT;
	u8 action = action_of(p, deny, audit);
	if (action) {
		struct report *r = begin_report(slot_of_current(), mark, p, EVENT_USERNS, 0, action);
		if (r)
			send_report(r);
	}
	if (refuses(p, deny))
		return -EPERM;
	return 0;
}
