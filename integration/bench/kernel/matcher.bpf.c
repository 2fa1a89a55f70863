// SPDX-License-Identifier: GPL-2.0
/*
 * The check of a path as the LSM programs do it, from the same headers, in programs that BPF_PROG_TEST_RUN can run:
 * also a kernel that refuses LSM programs runs these. The path is that of the caller's working directory.
 */
#include "kernel_types.h"
/* Programs of this type may not call it before kernel 6.18. Only reports need it, and nothing here is reported. */
#define bpf_get_current_comm(buffer, size) (0)
#include "judge.h"
#include "linear.h"

char LICENSE[] SEC("license") = "GPL";

struct request {
	u64 container; /* whose rules are looked up */
	u32 set;       /* of linear rules */
	u32 count;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct request);
} request SEC(".maps");

static __always_inline struct request *the_request(void)
{
	u32 zero = 0;
	return bpf_map_lookup_elem(&request, &zero);
}

static __always_inline struct fs_struct *own_fs(void)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	return BPF_CORE_READ(task, fs);
}

/* The cost of running anything at all. */
SEC("classifier")
int nothing(void *skb)
{
	struct request *r = the_request();
	struct fs_struct *fs = own_fs();
	if (!r || !BPF_CORE_READ(fs, pwd.dentry) || !BPF_CORE_READ(fs, pwd.mnt))
		return -1;
	return 0;
}

/* 0: allowed; anything else: refused, also when the path could not be told. */
SEC("classifier")
int automata(void *skb)
{
	struct request *r = the_request();
	if (!r)
		return -1;
	/* Pointers that the verifier follows, as those that a hook is given. */
	struct fs_struct *fs = bpf_get_current_task_btf()->fs;
	struct mark mark = { .container = r->container };
	if (judge_path(&mark, fs->pwd.dentry, fs->pwd.mnt, PERM_READ, OP_OPEN))
		return 1;
	return 0;
}

/* As above, over the list. */
SEC("classifier")
int linear(void *skb)
{
	struct request *r = the_request();
	struct fs_struct *fs = own_fs();
	if (!r)
		return -1;
	u64 dentry = (u64)BPF_CORE_READ(fs, pwd.dentry);
	u64 mount = (u64)BPF_CORE_READ(fs, pwd.mnt);
	return linear_scan(r->set, r->count, dentry, mount);
}
