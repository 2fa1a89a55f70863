/* SPDX-License-Identifier: GPL-2.0 */
/* Opening, changing, removing and mapping files. */
#pragma once
#include "pair.h"

#define FMODE_READ 1
#define FMODE_WRITE 2
#define O_TRUNC 01000
#define O_APPEND 02000
#define FMODE_EXEC 0x20 /* kernel-internal, in f_flags: opened by execve, or as the interpreter of what it executes */

/*
 * Opened by the kernel below a file that was judged already: the layer's file under one of overlayfs. Set on these
 * alone, in every kernel from 5.10 to 7.2.
 */
#define FMODE_NOACCOUNT 0x20000000

/* An exec needs EXEC on what it executes, judged in exec.h and mmap_file, and not READ. */
SEC("lsm/file_open")
int BPF_PROG(file_open, struct file *file)
{
	u64 mark = current_mark();
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
	if (!wanted)
		return 0;
	return judge_path(mark, file->f_path.dentry, file->f_path.mnt, wanted, OP_OPEN);
}

/* Operations on one directory entry or file that all need WRITE on its path. */
#define CHANGES(dentry, mount, op)                                                                                     \
	u64 mark = current_mark();                                                                                     \
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

#define ATTR_UID (1 << 1)
#define ATTR_GID (1 << 2)

/*
 * Stands in for path_chown on 5.10, whose verifier does not know kuid_t arguments. The hook does not tell the mount:
 * a file of the root file system is judged on the task's root mount, others can't be.
 */
SEC("lsm/inode_setattr")
int BPF_PROG(inode_setattr, struct dentry *dentry, struct iattr *attr)
{
	if (!(attr->ia_valid & (ATTR_UID | ATTR_GID)))
		return 0;
	u64 mark = current_mark();
	if (!mark)
		return 0;
	struct task_struct *task = current_task();
	struct vfsmount *root = BPF_CORE_READ(task, fs, root.mnt);
	if (BPF_CORE_READ(root, mnt_sb) != BPF_CORE_READ(dentry, d_sb))
		return 0;
	return judge_path_at(mark, dentry, root, PERM_WRITE, OP_CHOWN);
}

SEC("lsm/path_link")
int BPF_PROG(path_link, struct dentry *old_dentry, const struct path *new_dir, struct dentry *new_dentry)
{
	u64 mark = current_mark();
	if (!mark)
		return 0;
	return judge_two(mark, old_dentry, new_dentry, new_dir->mnt, new_dir->mnt, PAIR_LINK);
}

#define RENAME_EXCHANGE 2

SEC("lsm/path_rename")
int BPF_PROG(path_rename, const struct path *old_dir, struct dentry *old_dentry, const struct path *new_dir,
	     struct dentry *new_dentry, unsigned int flags)
{
	u64 mark = current_mark();
	if (!mark)
		return 0;
	/* Kernel 5.10 has no flags argument (it reads 0) and calls the hook twice for an exchange, with the sides swapped. */
	return judge_two(mark, old_dentry, new_dentry, old_dir->mnt, new_dir->mnt,
			 flags & RENAME_EXCHANGE ? PAIR_EXCHANGE : PAIR_RENAME);
}

#define PROT_EXEC 4

/* An executable mapping runs a file's code as execve does: the dynamic loader called as a program, dlopen. */
SEC("lsm/mmap_file")
int BPF_PROG(mmap_file, struct file *file, unsigned long reqprot, unsigned long prot)
{
	if (!file || !(prot & PROT_EXEC))
		return 0;
	u64 mark = current_mark();
	if (!mark)
		return 0;
	return judge_path(mark, file->f_path.dentry, file->f_path.mnt, PERM_EXEC, OP_MMAP);
}

SEC("lsm/file_mprotect")
int BPF_PROG(file_mprotect, struct vm_area_struct *area, unsigned long reqprot, unsigned long prot)
{
	if (!(prot & PROT_EXEC))
		return 0;
	u64 mark = current_mark();
	if (!mark)
		return 0;
	struct file *file = BPF_CORE_READ(area, vm_file);
	if (!file)
		return 0;
	/* A mapping of overlayfs is one of the layer's file, which from kernel 6.8 on tells the path it was opened by. */
	struct backing_file *backing = (void *)file;
	if (BPF_CORE_READ(file, f_mode) & FMODE_NOACCOUNT && bpf_core_field_exists(backing->user_path))
		return judge_path_at(mark, BPF_CORE_READ(backing, user_path.dentry), BPF_CORE_READ(backing, user_path.mnt),
				  PERM_EXEC, OP_MMAP);
	return judge_path_at(mark, BPF_CORE_READ(file, f_path.dentry), BPF_CORE_READ(file, f_path.mnt), PERM_EXEC, OP_MMAP);
}
