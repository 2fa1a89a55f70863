/* SPDX-License-Identifier: GPL-2.0 */
/* Opening, changing, removing and mapping files. */
#pragma once
#include "pair.h"
#include "places.h"

#define FMODE_READ 1
#define FMODE_WRITE 2
#define O_TRUNC 01000
#define O_APPEND 02000
#define FMODE_EXEC 0x20 /* kernel-internal, in f_flags: opened by execve, or as the interpreter of what it executes */

/*
 * May a subject open the block device whose special file scratch names? Whatever the file is called: the device is what
 * counts. 0, a negative errno, or DISTURBED.
 */
__noinline int judge_block_open(u64 container, u64 domain, u32 slot, u32 wanted, u64 since)
{
	struct profile *p = NULL;
	struct scratch *s = scratch_of(slot);
	int confined = profile_of(container, domain, &p);
	if (confined == UNCONFINED)
		return 0;
	if (confined == BROKEN || !p || !s)
		return -EACCES;
	bool deny = p->flags & PROFILE_BLOCK_OPEN_DENY, audit = p->flags & PROFILE_BLOCK_OPEN_AUDIT;
	if (!deny && !audit)
		return 0;
	u8 action = action_of(p, deny, audit);
	if (action) {
		if (walk(slot, *(volatile u64 *)&s->dentry, *(volatile u64 *)&s->mount) != PATH_OK)
			s->count = 0;
		if (disturbed(since))
			return DISTURBED;
		report_path(slot, container, p, EVENT_FILE, OP_OPEN, action, wanted);
	}
	return refuses(p, deny) ? -EPERM : 0;
}

static __always_inline int judge_block_device(struct mark *mark, const struct dentry *dentry, const struct vfsmount *mount,
					      u32 wanted)
{
	u32 slot = slot_of_current();
	struct scratch *s = scratch_of(slot);
	if (!s)
		return -EACCES;
	for (u32 attempt = 0; attempt < ATTEMPTS; attempt++) {
		u64 since = begin(s, (u64)dentry, (u64)mount);
		int result = judge_block_open(mark->container, mark->domain, slot, wanted, since);
		if (result == 0)
			return allowed();
		if (result != DISTURBED)
			break;
	}
	return -EPERM;
}

/* An exec needs EXEC on what it executes, judged in exec.h and mmap_file, and not READ. */
SEC("lsm/file_open")
int BPF_PROG(file_open, struct file *file)
{
	struct mark *mark = current_mark();
	if (!mark)
		return 0;
	u32 flags = file->f_flags, mode = file->f_mode, wanted = 0;
	if (flags & FMODE_EXEC || mode & FMODE_NOACCOUNT)
		return 0;
	if (mode & FMODE_READ)
		wanted |= PERM_READ;
	if (mode & FMODE_WRITE)
		wanted |= flags & O_APPEND ? PERM_APPEND : PERM_WRITE;
	if (flags & O_TRUNC)
		wanted |= PERM_WRITE;
	/* Also what is opened neither for reading nor for writing (O_ACCMODE): ioctl works on it. */
	if ((file->f_inode->i_mode & S_IFMT) == S_IFBLK &&
	    judge_block_device(mark, file->f_path.dentry, file->f_path.mnt, wanted))
		return -EPERM;
	if (!wanted)
		return 0;
	return judge_path(mark, file->f_path.dentry, file->f_path.mnt, wanted, OP_OPEN);
}

/* Operations on one directory entry or file that all need WRITE on its path. */
#define CHANGES(dentry, mount, op)                                                                                     \
	struct mark *mark = current_mark();                                                                                     \
	if (!mark)                                                                                                     \
		return 0;                                                                                              \
	return judge_path(mark, dentry, mount, PERM_WRITE, op)

SEC("lsm/path_unlink")
int BPF_PROG(path_unlink, const struct path *dir, struct dentry *dentry)
{
	CHANGES(dentry, dir->mnt, OP_UNLINK);
}

SEC("lsm/path_rmdir")
int BPF_PROG(path_rmdir, const struct path *dir, struct dentry *dentry)
{
	CHANGES(dentry, dir->mnt, OP_RMDIR);
}

SEC("lsm/path_mkdir")
int BPF_PROG(path_mkdir, const struct path *dir, struct dentry *dentry)
{
	CHANGES(dentry, dir->mnt, OP_MKDIR);
}

/* Also files made by open(O_CREAT) and sockets made by bind. */
SEC("lsm/path_mknod")
int BPF_PROG(path_mknod, const struct path *dir, struct dentry *dentry)
{
	CHANGES(dentry, dir->mnt, OP_MKNOD);
}

SEC("lsm/path_symlink")
int BPF_PROG(path_symlink, const struct path *dir, struct dentry *dentry)
{
	CHANGES(dentry, dir->mnt, OP_SYMLINK);
}

SEC("lsm/path_truncate")
int BPF_PROG(path_truncate, const struct path *path)
{
	CHANGES(path->dentry, path->mnt, OP_TRUNCATE);
}

/* ftruncate, from kernel 6.2 on; before, path_truncate sees it. */
SEC("lsm/file_truncate")
int BPF_PROG(file_truncate, struct file *file)
{
	CHANGES(file->f_path.dentry, file->f_path.mnt, OP_TRUNCATE);
}

SEC("lsm/path_chmod")
int BPF_PROG(path_chmod, const struct path *path)
{
	CHANGES(path->dentry, path->mnt, OP_CHMOD);
}

SEC("lsm/path_chown")
int BPF_PROG(path_chown, const struct path *path)
{
	CHANGES(path->dentry, path->mnt, OP_CHOWN);
}

/*
 * Hooks that tell a file without the mount it was reached by, and what the kernel does itself in the layers of overlayfs.
 * The file is judged by each path that it has in the task's mount namespace.
 */
static __always_inline int change_anywhere(struct dentry *dentry, u32 op)
{
	struct task_struct *task = current_task();
	struct mark *mark = mark_of_current(task);
	if (!mark || acts_for_the_kernel(task))
		return 0;
	if (judge_places(mark->container, mark->domain, number_of(dentry), QUESTION(PERM_WRITE, op)))
		return -EPERM;
	return 0;
}

#define ATTR_UID (1 << 1)
#define ATTR_GID (1 << 2)

/* Stands in for path_chown on 5.10, whose verifier does not know kuid_t arguments. */
SEC("lsm/inode_setattr")
int BPF_PROG(inode_setattr, struct dentry *dentry, struct iattr *attr)
{
	if (!(attr->ia_valid & (ATTR_UID | ATTR_GID)))
		return 0;
	return change_anywhere(dentry, OP_CHOWN);
}

/* From kernel 5.12 on the mount's user namespace, later its mapping of ids, comes before the file. */
#ifdef SUBJECTS_BY_POINTER
#define XATTR_PROG(name) BPF_PROG(name, struct dentry *dentry)
#else
#define XATTR_PROG(name) BPF_PROG(name, void *mapping, struct dentry *dentry)
#endif

SEC("lsm/inode_setxattr")
int XATTR_PROG(inode_setxattr)
{
	return change_anywhere(dentry, OP_XATTR);
}

SEC("lsm/inode_removexattr")
int XATTR_PROG(inode_removexattr)
{
	return change_anywhere(dentry, OP_XATTR);
}

/* Access control lists, from kernel 6.2 on; before, they are attributes like others. */
SEC("lsm/inode_set_acl")
int XATTR_PROG(inode_set_acl)
{
	return change_anywhere(dentry, OP_XATTR);
}

SEC("lsm/inode_remove_acl")
int XATTR_PROG(inode_remove_acl)
{
	return change_anywhere(dentry, OP_XATTR);
}

SEC("lsm/path_link")
int BPF_PROG(path_link, struct dentry *old_dentry, const struct path *new_dir, struct dentry *new_dentry)
{
	struct mark *mark = current_mark();
	if (!mark)
		return 0;
	return judge_two(mark, old_dentry, new_dentry, new_dir->mnt, new_dir->mnt, PAIR_LINK);
}

#define RENAME_EXCHANGE 2

SEC("lsm/path_rename")
int BPF_PROG(path_rename, const struct path *old_dir, struct dentry *old_dentry, const struct path *new_dir,
	     struct dentry *new_dentry, unsigned int flags)
{
	struct mark *mark = current_mark();
	if (!mark)
		return 0;
	/* Kernel 5.10 has no flags argument (it reads 0) and calls the hook twice for an exchange, with the sides swapped. */
	return judge_two(mark, old_dentry, new_dentry, old_dir->mnt, new_dir->mnt,
			 flags & RENAME_EXCHANGE ? PAIR_EXCHANGE : PAIR_RENAME);
}
