/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Who is confined: tasks that carry a mark, the key of the container they belong to. The mark is set at exec (exec.h)
 * or by the task iterator, inherited at fork (task.h), and never taken away.
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
	__type(value, u64);
} subjects SEC(".maps");

static __always_inline u64 mark_of(struct task_struct *task)
{
	u64 key = (u64)task;
	u64 *mark = bpf_map_lookup_elem(&subjects, &key);
	return mark ? *mark : 0;
}

static __always_inline bool set_mark(struct task_struct *task, u64 container)
{
	u64 key = (u64)task;
	return bpf_map_update_elem(&subjects, &key, &container, BPF_ANY) == 0;
}

static __always_inline struct task_struct *current_task(void)
{
	return (struct task_struct *)bpf_get_current_task();
}

/* The pointer above is a number to the verifier, so its fields are read through the helper. */
#define TASK_READ(task, field...) BPF_CORE_READ(task, field)
#else
struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, u64);
} subjects SEC(".maps");

static __always_inline u64 mark_of(struct task_struct *task)
{
	u64 *mark = bpf_task_storage_get(&subjects, task, 0, 0);
	return mark ? *mark : 0;
}

static __always_inline bool set_mark(struct task_struct *task, u64 container)
{
	u64 *mark = bpf_task_storage_get(&subjects, task, 0, BPF_LOCAL_STORAGE_GET_F_CREATE);
	if (!mark)
		return false;
	*mark = container;
	return true;
}

static __always_inline struct task_struct *current_task(void)
{
	return bpf_get_current_task_btf();
}
#endif

static __always_inline u64 current_mark(void)
{
	return mark_of(current_task());
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

/* A subject's profile, or why there is none. */
enum { UNCONFINED = 0, CONFINED = 1, BROKEN = 2 };

/*
 * Broken: the container names a profile that is not there. User space never lets that happen in its own order of
 * updates, so it refuses whatever is asked.
 */
static __always_inline int profile_of(u64 mark, struct profile **profile)
{
	struct container *container = bpf_map_lookup_elem(&containers, &mark);
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
	*profile = found;
	return CONFINED;
}
