// SPDX-License-Identifier: GPL-2.0
/*
 * The LSM programs. One object for kernels 5.10 to 7.x, in two builds: with task storage, and for 5.10 with
 * SUBJECTS_BY_POINTER. The loader leaves out a program whose hook the kernel lacks and says so.
 */
#include "exec.h"
#include "file.h"
#include "mount.h"
#include "net.h"
#include "privilege.h"
#include "ptrace.h"
#include "task.h"

char LICENSE[] SEC("license") = "GPL";
