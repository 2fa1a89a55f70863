/* SPDX-License-Identifier: GPL-2.0 */
/* Capabilities, user namespaces, and the ways around their checks. */
#pragma once
#include "judge.h"

#define CAP_OPT_NOAUDIT 2
#define CAP_SYS_RESOURCE 24
#define CAP_LAST_5_10 40 /* CAP_CHECKPOINT_RESTORE */

__noinline int judge_capability(u64 container, u64 domain, u32 capability, u32 quiet)
{
	struct profile *p = NULL;
	int confined = profile_of(container, domain, &p);
	if (confined == UNCONFINED)
		return 0;
	if (confined == BROKEN || !p)
		return -EACCES;
	u32 bit = capability & 63;
	bool deny = p->capabilities_deny >> bit & 1, audit = p->capabilities_audit >> bit & 1;
	u8 action = quiet ? 0 : action_of(p, deny, audit);
	if (action) {
		struct report *r = begin_report(slot_of_current(), container, p, EVENT_CAPABILITY, 0, action);
		if (r) {
			r->violation.permissions = capability;
			send_report(r);
		}
	}
	return refuses(p, deny) ? -EPERM : 0;
}

/*
 * What the kernel itself does for the task is not the task's use of a capability.
 *
 * Kernel 5.10 lacks uring_override_creds: there the credentials must also hold every capability but SYS_RESOURCE, as overlayfs'
 * do, and as no process of a container has that is not privileged.
 */
static __always_inline bool is_override_of_the_kernel(struct task_struct *task)
{
	if (!acts_for_the_kernel(task))
		return false;
#ifdef SUBJECTS_BY_POINTER
	const struct cred *subjective = BPF_CORE_READ(task, cred);
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
	struct mark *mark = mark_of_current(task);
	if (!mark)
		return 0;
	if (is_override_of_the_kernel(task))
		return 0;
	if (judge_capability(mark->container, mark->domain, capability, options & CAP_OPT_NOAUDIT))
		return -EPERM;
	return 0;
}

/*
 * With a personality the task looks as if the kernel acted for it, to the rules for capabilities and for extended
 * attributes.
 */
SEC("lsm/uring_override_creds")
int BPF_PROG(uring_override_creds, const struct cred *new)
{
	struct mark *mark = current_mark();
	if (!mark)
		return 0;
	struct profile *p = NULL;
	int confined = profile_of(mark->container, mark->domain, &p);
	if (confined == UNCONFINED)
		return 0;
	if (confined == BROKEN || !p)
		return -EPERM;
	bool passes_over = p->capabilities_deny || (p->forward.permissions | p->backward.permissions) & PERM_WRITE;
	if (passes_over && !(p->flags & PROFILE_COMPLAIN))
		return -EPERM;
	return 0;
}

SEC("lsm/userns_create")
int BPF_PROG(userns_create, const struct cred *cred)
{
	struct mark *mark = current_mark();
	if (!mark)
		return 0;
	struct profile *p = NULL;
	int confined = profile_of(mark->container, mark->domain, &p);
	if (confined == UNCONFINED)
		return 0;
	if (confined == BROKEN || !p)
		return -EPERM;
	bool deny = p->flags & PROFILE_USERNS_DENY, audit = p->flags & PROFILE_USERNS_AUDIT;
	u8 action = action_of(p, deny, audit);
	if (action) {
		struct report *r = begin_report(slot_of_current(), mark->container, p, EVENT_USERNS, 0, action);
		if (r)
			send_report(r);
	}
	if (refuses(p, deny))
		return -EPERM;
	return 0;
}
