/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The kernel's structures, as far as the programs read them. Field offsets are relocated when the programs are loaded
 * (CO-RE), so only names and types matter here. Read leaf fields only: a whole structure grows between kernels.
 */
#pragma once
#include "types.h"

typedef u8 __u8;
typedef u16 __u16;
typedef u32 __u32;
typedef u64 __u64;
typedef signed char __s8;
typedef short __s16;
typedef s32 __s32;
typedef s64 __s64;
typedef u16 __be16;
typedef u32 __be32;
typedef u64 __be64;
typedef u16 __sum16;
typedef u32 __wsum;
typedef _Bool bool;
#define true 1
#define false 0
#define NULL ((void *)0)

/* The helpers' declarations name these. */
enum bpf_map_type {
	BPF_MAP_TYPE_HASH = 1,
	BPF_MAP_TYPE_ARRAY = 2,
	BPF_MAP_TYPE_PERCPU_ARRAY = 6,
	BPF_MAP_TYPE_LPM_TRIE = 11,
	BPF_MAP_TYPE_HASH_OF_MAPS = 13,
	BPF_MAP_TYPE_RINGBUF = 27,
	BPF_MAP_TYPE_TASK_STORAGE = 29,
};
#define BPF_ANY 0
#define BPF_F_NO_PREALLOC 1
#define BPF_LOCAL_STORAGE_GET_F_CREATE 1

struct pt_regs;
#define __bpf_x86 1
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include <bpf/bpf_core_read.h>

#define CORE __attribute__((preserve_access_index))

struct qstr {
	union {
		struct {
			u32 hash;
			u32 len;
		};
		u64 hash_len;
	};
	const unsigned char *name;
} CORE;
struct file_system_type {
	const char *name;
	int fs_flags;
} CORE;
struct dentry;
struct block_device;
struct super_block {
	unsigned long s_flags;
	unsigned long s_magic;
	struct dentry *s_root;
	struct file_system_type *s_type;
	struct block_device *s_bdev;
	char s_id[32];
} CORE;
struct inode {
	u16 i_mode;
	struct super_block *i_sb;
} CORE;
struct dentry {
	struct dentry *d_parent;
	struct qstr d_name;
	struct inode *d_inode;
	struct super_block *d_sb;
} CORE;
struct vfsmount {
	struct dentry *mnt_root;
	struct super_block *mnt_sb;
} CORE;
struct list_head {
	struct list_head *next;
} CORE;
struct mnt_namespace;
struct mount {
	struct mount *mnt_parent;
	struct dentry *mnt_mountpoint;
	struct vfsmount mnt;
	struct list_head mnt_mounts; /* children: their mnt_child */
	struct list_head mnt_child;
	struct mnt_namespace *mnt_ns;
} CORE;
struct path {
	struct vfsmount *mnt;
	struct dentry *dentry;
} CORE;
struct file {
	u32 f_flags;
	u32 f_mode;
	struct inode *f_inode;
	struct path f_path;
} CORE;
struct backing_file {
	struct path user_path;
} CORE;
struct ns_common {
	u32 inum;
} CORE;
/* Kernel 6.18 and later: the namespace's identity moved here from mnt_namespace.seq. */
struct ns_common___id {
	u64 ns_id;
} CORE;
struct mnt_namespace {
	struct ns_common ns;
	struct mount *root;
} CORE;
struct mnt_namespace___seq {
	u64 seq;
} CORE;
struct nsproxy {
	struct mnt_namespace *mnt_ns;
} CORE;
typedef struct {
	u32 cap[2];
} kernel_cap_t;
struct cred {
	kernel_cap_t cap_effective;
} CORE;
struct fs_struct {
	struct path root;
	struct path pwd;
} CORE;
struct task_struct {
	struct nsproxy *nsproxy;
	struct task_struct *real_parent;
	const struct cred *cred;
	const struct cred *real_cred;
	struct fs_struct *fs;
	struct bpf_local_storage *bpf_storage; /* kernel 5.11 and later */
	u64 self_exec_id;
	unsigned long nvcsw;
	unsigned long nivcsw;
	int pid;
	int tgid;
} CORE;
struct linux_binprm {
	struct file *file;
	const char *filename;
	const char *interp; /* the same string as filename, until a script or the like puts its interpreter here */
} CORE;
struct vm_area_struct {
	struct file *vm_file;
	unsigned long vm_flags;
} CORE;
struct sock_common {
	u16 skc_family;
} CORE;
struct sock {
	struct sock_common __sk_common;
	u16 sk_type;
	u16 sk_protocol;
} CORE;
struct socket {
	struct sock *sk;
} CORE;
struct unix_sock {
	struct sock sk;
	struct path path;
} CORE;
struct msghdr {
	void *msg_name;
	int msg_namelen;
} CORE;
struct sockaddr {
	u16 sa_family;
} CORE;
struct iattr {
	unsigned int ia_valid;
} CORE;
struct bpf_iter__task {
	struct task_struct *task;
} CORE;
struct user_namespace;
struct bpf_map;

/* Filled by the user of an address; the kernel's own layout is part of its ABI. */
struct ipv4_address {
	u16 family;
	u16 port;
	u32 address;
};
struct ipv6_address {
	u16 family;
	u16 port;
	u32 flow;
	u64 address[2];
};

#define EPERM 1
#define EAGAIN 11
#define ENOMEM 12
#define EACCES 13

#define S_IFMT 0170000
#define S_IFDIR 0040000
#define S_IFBLK 0060000
/* include/linux/fs.h: the super block has no place in the tree of mounts (pipes, sockets, memfd, namespaces). */
#define SB_NOUSER (1UL << 31)
/* The kernel itself mounted it first (memfd's file system). */
#define SB_KERNMOUNT (1UL << 22)
#define FS_REQUIRES_DEV 1

/* Hides from the compiler what it knows of a value, so that the check before it stays where the verifier sees it. */
#define OPAQUE(v) asm volatile("" : "+r"(v))
