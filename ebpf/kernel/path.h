/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A file's absolute path: from its directory entry up through the mounts to the root mount of a mount namespace, so
 * that neither chroot nor /proc/self/root changes what a path is called.
 *
 * Nothing is copied together: each component stays where one read of its directory entry put it, and the automata run
 * over the components in either order.
 */
#pragma once
#include "scratch.h"
#include "subject.h"

enum {
	PATH_OK = 0,
	PATH_NOWHERE = 1,  /* in no tree of mounts: a pipe, a socket, a memfd, a namespace */
	PATH_UNKNOWN = 2,  /* too long, too deep, or cut off from every namespace's tree */
};

/* d_parent to d_iname of struct dentry, which are neighbours in every kernel from 5.10 to 7.2. */
struct dentry_chunk {
	u64 parent;
	u32 hash;
	u32 length;
	u64 name;
	u64 inode; /* its last byte becomes the '/' before the name */
	u8 short_name[40];
};
#define NAME_OFFSET 32
#define NAME_MAX 255
/* struct mount: mnt_parent, mnt_mountpoint, then struct vfsmount: mnt_root, mnt_sb. */
struct mount_chunk {
	u64 parent;
	u64 mountpoint;
	u64 root;
	u64 super;
};

#define OFFSET(type, field) __builtin_preserve_field_info(((type *)0)->field, 0)

static __always_inline bool layout_is_known(void)
{
	return OFFSET(struct dentry, d_name) == OFFSET(struct dentry, d_parent) + 8 &&
	       OFFSET(struct dentry, d_inode) == OFFSET(struct dentry, d_parent) + 24 &&
	       OFFSET(struct mount, mnt_mountpoint) == OFFSET(struct mount, mnt_parent) + 8 &&
	       OFFSET(struct mount, mnt) == OFFSET(struct mount, mnt_parent) + 16 &&
	       OFFSET(struct vfsmount, mnt_sb) == OFFSET(struct vfsmount, mnt_root) + 8;
}

static __always_inline int read_mount(struct mount_chunk *into, u64 mount)
{
	return bpf_probe_read_kernel(into, sizeof(*into), (void *)(mount + OFFSET(struct mount, mnt_parent)));
}

/* Appends the component of `dentry` and tells its parent; 0 when there is no room or the read failed. */
static __always_inline u64 add_component(struct scratch *s, u64 dentry)
{
	u64 at = *(volatile u32 *)&s->used;
	u64 n = *(volatile u32 *)&s->count;
	if (at > PATH_BYTES - sizeof(struct dentry_chunk) - NAME_MAX || n >= COMPONENTS)
		return 0;
	OPAQUE(at);
	at &= PATH_BYTES - 1;
	if (at > PATH_BYTES - sizeof(struct dentry_chunk) - NAME_MAX)
		return 0;
	struct dentry_chunk *chunk = (void *)&s->chunks[at];
	u64 from = dentry + OFFSET(struct dentry, d_parent);
	if (bpf_probe_read_kernel(chunk, sizeof(*chunk), (void *)from))
		return 0;
	u64 parent = *(volatile u64 *)&chunk->parent;
	u64 name = *(volatile u64 *)&chunk->name;
	u64 length = *(volatile u32 *)&chunk->length;
	if (parent == dentry)
		return parent; /* a root: it has no name */
	u64 taken = sizeof(*chunk);
	if (name != from + NAME_OFFSET || length > sizeof(chunk->short_name)) {
		OPAQUE(length);
		length &= 255;
		if (bpf_probe_read_kernel(&s->chunks[at + NAME_OFFSET], length, (void *)name))
			return 0;
		if (length > sizeof(chunk->short_name))
			taken = NAME_OFFSET + length;
	}
	s->chunks[at + NAME_OFFSET - 1] = '/';
	OPAQUE(n);
	n &= COMPONENTS - 1;
	s->start[n] = at + NAME_OFFSET - 1;
	s->length[n] = length + 1;
	s->count = n + 1;
	s->used = at + taken;
	return parent;
}

/* The path of a tree's root itself is "/". */
static __always_inline void root_if_empty(struct scratch *s)
{
	if (s->count)
		return;
	s->chunks[0] = '/';
	s->start[0] = 0;
	s->length[0] = 1;
	s->count = 1;
}

/* Whether `mount`, which has no parent, is the root of a mount namespace and not of a detached tree. */
static __always_inline bool is_namespace_root(u64 mount)
{
#ifdef SUBJECTS_BY_POINTER
	struct mnt_namespace *own = mount_namespace_of(current_task());
	if ((u64)BPF_CORE_READ(own, root) == mount)
		return true;
#else
	if ((u64)current_task()->nsproxy->mnt_ns->root == mount)
		return true;
#endif
	/* A descriptor kept over setns: the tree of another namespace. Those of open_tree are anonymous. */
	struct mount *m = (void *)mount;
	struct mnt_namespace *ns = BPF_CORE_READ(m, mnt_ns);
	if (!ns || (u64)BPF_CORE_READ(ns, root) != mount)
		return false;
	u32 inum = BPF_CORE_READ(ns, ns.inum);
	return identity_of(ns) != 0 && inum != 0 && inum != 0xEFFFFFF7 /* MNT_NS_ANON_INO, 6.18 */;
}

#define MNT_NS_INTERNAL ((u64)-22) /* ERR_PTR(-EINVAL), from 5.8 on */

/*
 * A mount of the kernel's own, which no process can look up a path on: those of pipes, memfds and namespaces, and the
 * layers of overlayfs, whose directories it opens for the caller after the caller's own open was judged.
 */
static __always_inline bool has_no_place(u64 mount, u64 super)
{
	struct mount *m = (void *)mount;
	struct super_block *sb = (void *)super;
	if ((u64)BPF_CORE_READ(m, mnt_ns) == MNT_NS_INTERNAL)
		return true;
	return BPF_CORE_READ(sb, s_flags) & SB_NOUSER;
}

/* Reads the path of `dentry` on the struct vfsmount `vfsmount` into the slot's scratch. */
__noinline int walk(u32 slot, u64 dentry, u64 vfsmount)
{
	struct scratch *s = scratch_of(slot);
	struct mount_chunk m;
	if (!s || !layout_is_known())
		return PATH_UNKNOWN;
	u64 mount = vfsmount - OFFSET(struct mount, mnt);
	s->count = 0;
	s->used = 0;
	s->root_super = 0;
	if (read_mount(&m, mount))
		return PATH_UNKNOWN;
	s->first_root = m.root;
	s->first_super = m.super;
	for (u32 i = 0; i < COMPONENTS + 64; i++) {
		if (dentry == m.root) {
			if (m.parent == mount) {
				if (!is_namespace_root(mount))
					return has_no_place(mount, m.super) ? PATH_NOWHERE : PATH_UNKNOWN;
				if (!s->root_super)
					s->root_super = m.super;
				root_if_empty(s);
				return PATH_OK;
			}
			s->root_super = m.super;
			dentry = m.mountpoint;
			mount = m.parent;
			if (read_mount(&m, mount))
				return PATH_UNKNOWN;
			continue;
		}
		u64 parent = add_component(s, dentry);
		if (!parent)
			return PATH_UNKNOWN;
		if (parent == dentry)
			return has_no_place(mount, m.super) ? PATH_NOWHERE : PATH_UNKNOWN;
		dentry = parent;
	}
	return PATH_UNKNOWN;
}

/*
 * A bind mount of a part of the container's root file system gives its files a second name. Tells whether the path
 * just read goes through one; then walk_in_super reads the name that the file has without it.
 */
static __always_inline bool is_bind_of_root(struct scratch *s)
{
	if (s->first_super != s->root_super)
		return false;
	struct super_block *sb = (void *)s->first_super;
	return (u64)BPF_CORE_READ(sb, s_root) != s->first_root;
}

/* Reads the path of `dentry` from the root of its file system into the slot's scratch. */
__noinline int walk_in_super(u32 slot, u64 dentry)
{
	struct scratch *s = scratch_of(slot);
	if (!s || !layout_is_known())
		return PATH_UNKNOWN;
	s->count = 0;
	s->used = 0;
	for (u32 i = 0; i < COMPONENTS + 1; i++) {
		u64 parent = add_component(s, dentry);
		if (!parent)
			return PATH_UNKNOWN;
		if (parent == dentry) {
			root_if_empty(s);
			return PATH_OK;
		}
		dentry = parent;
	}
	return PATH_UNKNOWN;
}
