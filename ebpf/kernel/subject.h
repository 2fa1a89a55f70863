/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Who is confined: tasks that carry a mark, which says the container they belong to, and the domain. The mark is set at
 * exec (exec.h) or by the task iterator, inherited at fork (task.h), and never taken away.
 */
#pragma once
#include "maps.h"

#ifdef SUBJECTS_BY_POINTER
/* Kernel 5.10 has no task storage: a hash by the task's address, emptied by task_free. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1 << 20);
	__type(key, u64);
	__type(value, struct mark);
} subjects SEC(".maps");

static __always_inline struct mark *mark_of(struct task_struct *task)
{
	u64 key = (u64)task;
	return bpf_map_lookup_elem(&subjects, &key);
}

static __always_inline struct mark *set_mark(struct task_struct *task, u64 container, u64 domain)
{
	u64 key = (u64)task;
	struct mark mark = { .container = container, .domain = domain };
	if (bpf_map_update_elem(&subjects, &key, &mark, BPF_ANY))
		return NULL;
	return bpf_map_lookup_elem(&subjects, &key);
}

static __always_inline struct task_struct *current_task(void)
{
	return (struct task_struct *)bpf_get_current_task();
}

/* The pointer above is a number to the verifier, so its fields are read through the helper. */
#define TASK_READ(task, field) BPF_CORE_READ(task, field)
#else
struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct mark);
} subjects SEC(".maps");

static __always_inline struct mark *mark_of(struct task_struct *task)
{
	/* Most tasks of a node have no storage at all: that is told here for a tenth of what the helper costs. */
	if (!task->bpf_storage)
		return NULL;
	return bpf_task_storage_get(&subjects, task, 0, 0);
}

static __always_inline struct mark *set_mark(struct task_struct *task, u64 container, u64 domain)
{
	struct mark mark = { .container = container, .domain = domain };
	return bpf_task_storage_get(&subjects, task, &mark, BPF_LOCAL_STORAGE_GET_F_CREATE);
}

static __always_inline struct task_struct *current_task(void)
{
	return bpf_get_current_task_btf();
}

#define TASK_READ(task, field) ((task)->field)
#endif

/*
 * The mark of the current task, which the caller has at hand. An execve that led to a domain has taken effect when the
 * kernel has counted it, which it does when the old program is gone. One that failed left `next` behind, which the next
 * one overwrites.
 */
static __always_inline struct mark *mark_of_current(struct task_struct *task)
{
	struct mark *mark = mark_of(task);
	if (mark && mark->next && mark->exec_id != TASK_READ(task, self_exec_id)) {
		mark->domain = mark->next;
		mark->next = 0;
	}
	return mark;
}

static __always_inline struct mark *current_mark(void)
{
	return mark_of_current(current_task());
}

static __always_inline struct mnt_namespace *mount_namespace_of(struct task_struct *task)
{
	return BPF_CORE_READ(task, nsproxy, mnt_ns);
}

/* The namespace's identity, which no later namespace gets again; its inode number is reused at once. */
static __always_inline u64 identity_of(struct mnt_namespace *ns)
{
	struct mnt_namespace___seq *numbered = (void *)ns;
	if (bpf_core_field_exists(numbered->seq))
		return BPF_CORE_READ(numbered, seq);
	struct ns_common___id *common = (void *)ns + __builtin_preserve_field_info(((struct mnt_namespace *)0)->ns, 0);
	if (bpf_core_field_exists(common->ns_id))
		return BPF_CORE_READ(common, ns_id);
	return 0;
}

/*
 * The kernel itself may act for the task with credentials of its own: overlayfs does with the mounter's, to copy a file
 * up and for whatever it does in its own layers. It shows as a task whose subjective credentials are not its objective
 * ones. User space can bring that about only with io_uring's personalities, which uring_override_creds stops.
 */
static __always_inline bool acts_for_the_kernel(struct task_struct *task)
{
	return BPF_CORE_READ(task, cred) != BPF_CORE_READ(task, real_cred);
}

/* A subject's profile, or why there is none. */
enum { UNCONFINED = 0, CONFINED = 1, BROKEN = 2 };

/*
 * The rules for a task of `domain`: those that the profile has for it, else the profile itself. They are looked up by
 * the profile's generation, so that a program sees a profile and its children of one version, whatever user space
 * replaces meanwhile.
 *
 * Broken: the container names a profile that is not there. User space never lets that happen in its own order of
 * updates, so it refuses whatever is asked.
 */
static __always_inline int profile_of(u64 container_key, u64 domain, struct profile **profile)
{
	struct container *container = bpf_map_lookup_elem(&containers, &container_key);
	if (!container || !container->profile)
		return UNCONFINED;
	u64 key = container->profile;
	void *inner = bpf_map_lookup_elem(&profiles, &key);
	u32 zero = 0;
	struct profile *found = inner ? bpf_map_lookup_elem(inner, &zero) : NULL;
	if (!found) {
		count(COUNTER_NO_PROFILE);
		return BROKEN;
	}
	if (domain) {
		struct child_key child = { .generation = found->generation, .domain = domain };
		void *of_domain = bpf_map_lookup_elem(&children, &child);
		struct profile *own = of_domain ? bpf_map_lookup_elem(of_domain, &zero) : NULL;
		if (own)
			found = own;
	}
	*profile = found;
	return CONFINED;
}
