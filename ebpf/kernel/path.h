/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A file's absolute path: from its directory entry up through the mounts to the root mount of a mount namespace, so
 * that neither chroot nor /proc/self/root changes what a path is called.
 *
 * The walk only collects the directory entries. Their names are read when somebody looks at them: the automata from
 * either end, which mostly are done after one or two.
 */
#pragma once
#include "scratch.h"
#include "subject.h"

enum {
	PATH_OK = 0,
	PATH_NOWHERE = 1,  /* in no tree of mounts: a pipe, a socket, a memfd, a namespace */
	PATH_UNKNOWN = 2,  /* too deep, or cut off from every namespace's tree */
};

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

static __always_inline u64 parent_of(u64 dentry)
{
	u64 parent = 0;
	bpf_probe_read_kernel(&parent, sizeof(parent), (void *)(dentry + OFFSET(struct dentry, d_parent)));
	return parent;
}

/* False: there is no room. */
static __always_inline bool add_entry(struct scratch *s, u64 dentry)
{
	u64 n = *(volatile u32 *)&s->count;
	if (n >= COMPONENTS)
		return false;
	OPAQUE(n);
	n &= COMPONENTS - 1;
	s->entry[n] = dentry;
	s->count = n + 1;
	return true;
}

/* The one entry of the path of a tree's root: "/". */
#define ROOT_ITSELF 0

static __always_inline u8 *component_of(struct scratch *s)
{
	return &s->names[COMPONENT_AT];
}

/*
 * Puts '/' and the name of a directory entry into the slot's component, from NAME_OFFSET - 1 on, and tells their length;
 * 0 when they can't be read.
 */
static __always_inline u32 read_component(struct scratch *s, u64 dentry)
{
	u8 *component = component_of(s);
	struct dentry_chunk *chunk = (void *)component;
	if (dentry == ROOT_ITSELF) {
		component[NAME_OFFSET - 1] = '/';
		return 1;
	}
	u64 from = dentry + OFFSET(struct dentry, d_parent);
	if (bpf_probe_read_kernel(chunk, sizeof(*chunk), (void *)from))
		return 0;
	u64 name = *(volatile u64 *)&chunk->name;
	u64 length = *(volatile u32 *)&chunk->length;
	if (length > NAME_MAX)
		return 0;
	if (name != from + NAME_OFFSET || length > sizeof(chunk->short_name)) {
		OPAQUE(length);
		length &= NAME_MAX;
		if (bpf_probe_read_kernel(&component[NAME_OFFSET], length, (void *)name))
			return 0;
	}
	component[NAME_OFFSET - 1] = '/';
	return length + 1;
}

/* A name elsewhere than in the entry can only be read by a helper: its length says 0. */
static __always_inline void copy_name(u8 *into, struct dentry *dentry)
{
	u64 *words = (void *)(into + CLIMBED_SLASH - 7);
	void *own = (void *)dentry + OFFSET(struct dentry, d_parent) + NAME_OFFSET;
	u32 length = dentry->d_name.len;
	words[0] = (u64)'/' << 56;
	/* Each load is checked by the machine code that the kernel makes of it: only as many as the name needs. */
	for (u32 i = 0; i < SHORT_NAME; i += 8) {
		if (length <= i)
			break;
		words[i / 8 + 1] = *(volatile u64 *)(own + i);
	}
	length++;
	if ((u64)dentry->d_name.name != (u64)own || length > SHORT_NAME + 1)
		length = 0;
	*(u32 *)(into + CLIMBED_LENGTH) = length;
}

/*
 * What a hook does before it asks about a path, where it has typed pointers: reading through these costs a tenth of what
 * a helper does. Collects the entries up to the root of the file's own mount, with the names that are in them.
 */
static __always_inline void climb(struct scratch *s, struct dentry *dentry, struct vfsmount *mount)
{
	struct dentry *top = dentry, *root = mount->mnt_root;
	u32 n = 0;
	for (; n < CLIMBED; n++) {
		struct dentry *parent = top->d_parent;
		if (top == root || top == parent)
			break;
		s->entry[n] = (u64)top;
		copy_name(&s->names[n * CLIMBED_BYTES], top);
		top = parent;
	}
	s->climbed = n;
	s->climbed_to = (u64)top;
	s->climbed_from = (u64)dentry;
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

/*
 * A mount was left upwards, or the path ends in it. The container's root mount is the last in which the path had a name:
 * what lies under it (the kernel's first root file systems, which were mounted over; two of them from 7.0 on) has none.
 */
static __always_inline void leave(struct scratch *s, struct mount_chunk *m, u32 *names)
{
	u32 now = *(volatile u32 *)&s->count;
	if (now == *names)
		return;
	*names = now;
	s->root_super = m->super;
}

/* Collects the entries of the path of `dentry` on the struct vfsmount `vfsmount` in the slot's scratch. */
__noinline int walk(u32 slot, u64 dentry, u64 vfsmount)
{
	struct scratch *s = scratch_of(slot);
	struct mount_chunk m;
	if (!s || !layout_is_known())
		return PATH_UNKNOWN;
	u64 mount = vfsmount - OFFSET(struct mount, mnt);
	s->count = 0;
	u32 names = ~0U;
	if (*(volatile u64 *)&s->climbed_from == dentry) {
		s->count = s->climbed;
		dentry = *(volatile u64 *)&s->climbed_to;
	} else {
		s->climbed = 0;
	}
	/* The next walk of this slot overwrites the entries. */
	s->climbed_from = 0;
	if (read_mount(&m, mount))
		return PATH_UNKNOWN;
	s->first_root = m.root;
	s->first_super = m.super;
	for (u32 i = 0; i < COMPONENTS + 64; i++) {
		/* One head for both ways around the loop: clang would make a second one, which kernel 6.1 takes for a recursion. */
		OPAQUE(dentry);
		if (dentry == m.root) {
			if (m.parent == mount) {
				if (!is_namespace_root(mount))
					return has_no_place(mount, m.super) ? PATH_NOWHERE : PATH_UNKNOWN;
				leave(s, &m, &names);
				if (!s->count)
					add_entry(s, ROOT_ITSELF);
				return PATH_OK;
			}
			leave(s, &m, &names);
			dentry = m.mountpoint;
			mount = m.parent;
			if (read_mount(&m, mount))
				return PATH_UNKNOWN;
			continue;
		}
		u64 parent = parent_of(dentry);
		if (parent == dentry)
			return has_no_place(mount, m.super) ? PATH_NOWHERE : PATH_UNKNOWN;
		if (!parent || !add_entry(s, dentry))
			return PATH_UNKNOWN;
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

/* Collects the entries of the path of `dentry` from the root of its file system in the slot's scratch. */
__noinline int walk_in_super(u32 slot, u64 dentry)
{
	struct scratch *s = scratch_of(slot);
	if (!s || !layout_is_known())
		return PATH_UNKNOWN;
	s->count = s->climbed = 0;
	for (u32 i = 0; i < COMPONENTS + 1; i++) {
		u64 parent = parent_of(dentry);
		if (parent == dentry) {
			if (!s->count)
				add_entry(s, ROOT_ITSELF);
			return PATH_OK;
		}
		if (!parent || !add_entry(s, dentry))
			return PATH_UNKNOWN;
		dentry = parent;
	}
	return PATH_UNKNOWN;
}
