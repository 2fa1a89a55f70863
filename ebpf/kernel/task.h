/* SPDX-License-Identifier: GPL-2.0 */
/* Marks follow fork, and are given to the tasks of a container that was running before it was bound. */
#pragma once
#include "subject.h"

SEC("lsm/task_alloc")
int BPF_PROG(task_alloc, struct task_struct *task)
{
	struct mark *mark = current_mark();
	if (!mark)
		return 0;
	if (!set_mark(task, mark->container, mark->domain)) {
		count(COUNTER_MARK_FAILED);
		return -ENOMEM;
	}
	return 0;
}

#ifdef SUBJECTS_BY_POINTER
SEC("lsm/task_free")
int BPF_PROG(task_free, struct task_struct *task)
{
	u64 key = (u64)task;
	bpf_map_delete_elem(&subjects, &key);
	return 0;
}
#endif

/*
 * Which targets a running task came from can't be told any more: it gets no domain, as do those it starts until one of
 * them executes a target.
 *
 * Marks the tasks of the requested mount namespace and the children of marked tasks, wherever these have gone. Run
 * until a pass marks nothing: a task forked by an unmarked one during a pass is found by the next.
 */
SEC("iter/task")
int mark_tasks(struct bpf_iter__task *ctx)
{
	struct task_struct *task = ctx->task;
	u32 zero = 0;
	struct mark_request *request = bpf_map_lookup_elem(&mark_request, &zero);
	if (!task || !request)
		return 0;
	u64 container = request->container;
	if (mark_of(task))
		return 0;
	struct mnt_namespace *ns = BPF_CORE_READ(task, nsproxy, mnt_ns);
	bool member = ns && BPF_CORE_READ(ns, ns.inum) == request->mntns;
	if (!member) {
		struct task_struct *parent = task->real_parent;
		if (!parent)
			return 0;
		struct mark *mark = mark_of(parent);
		if (!mark || mark->container != container)
			return 0;
	} else {
		struct container_state *state = bpf_map_lookup_elem(&states, &container);
		if (state) {
			state->mntns_seq = identity_of(ns);
			state->state = CONTAINER_ACTIVE;
		}
	}
	if (set_mark(task, container, 0))
		request->marked += 1;
	else
		request->failed += 1;
	return 0;
}
