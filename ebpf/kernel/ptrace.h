/* SPDX-License-Identifier: GPL-2.0 */
/* Tracing and reading other processes: the caller's rules, then the target's. */
#pragma once
#include "judge.h"

#define PTRACE_MODE_READ 1
#define PTRACE_MODE_ATTACH 2
/* policy::plan::bpf */
#define PTRACE_TRACE 1
#define PTRACE_READ 2
#define PTRACE_TRACEBY 4
#define PTRACE_READBY 8

static __always_inline int judge_ptrace_side(u64 container, u64 domain, bool external, u8 wanted)
{
	struct profile *p = NULL;
	int confined = profile_of(container, domain, &p);
	if (confined == UNCONFINED)
		return 0;
	if (confined == BROKEN || !p)
		return -EACCES;
	if (!(p->flags & (PROFILE_PTRACE | PROFILE_COMPLAIN)))
		return 0;
	bool deny = (external ? p->ptrace_external_deny : p->ptrace_internal_deny) & wanted;
	bool audit = (external ? p->ptrace_external_audit : p->ptrace_internal_audit) & wanted;
	u8 action = action_of(p, deny, audit);
	if (action) {
		struct report *r = begin_report(slot_of_current(), container, p, EVENT_PTRACE, 0, action);
		if (r) {
			r->violation.permissions = wanted;
			r->violation.external = external;
			send_report(r);
		}
	}
	return refuses(p, deny) ? -EPERM : 0;
}

#define FROM_HOST (1U << 31)

/*
 * A task in a domain reaches the tasks of its domain only: those of its container outside of it could else do for it
 * what it may not. Container 0 is no subject.
 */
__noinline int judge_ptrace(u64 caller, u64 caller_domain, u64 target, u64 target_domain, u32 mode)
{
	bool external = caller != target || (caller_domain && caller_domain != target_domain);
	bool attach = mode & PTRACE_MODE_ATTACH;
	if (caller && judge_ptrace_side(caller, caller_domain, external, attach ? PTRACE_TRACE : PTRACE_READ))
		return -EPERM;
	if (target && !(mode & FROM_HOST) &&
	    judge_ptrace_side(target, target_domain, external, attach ? PTRACE_TRACEBY : PTRACE_READBY))
		return -EPERM;
	return 0;
}

SEC("lsm/ptrace_access_check")
int BPF_PROG(ptrace_access_check, struct task_struct *child, unsigned int mode)
{
	struct task_struct *task = current_task();
	u64 container = 0, domain = 0, target_container = 0, target_domain = 0;
	struct mark *caller = mark_of_current(task);
	if (caller) {
		container = caller->container;
		domain = caller->domain;
	}
	struct mark *target = mark_of(child);
	if (target) {
		target_container = target->container;
		target_domain = target->domain;
	}
	if (!container && !target_container)
		return 0;
	mode &= ~FROM_HOST;
	/* Only a process that is no subject can be the host's: one that was keeps its mark in whatever namespace it is. */
	u32 zero = 0;
	struct settings *set = bpf_map_lookup_elem(&settings, &zero);
	if (!container && set && BPF_CORE_READ(mount_namespace_of(task), ns.inum) == set->host_mntns)
		mode |= FROM_HOST;
	if (judge_ptrace(container, domain, target_container, target_domain, mode))
		return -EPERM;
	return 0;
}
