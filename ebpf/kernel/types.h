/* SPDX-License-Identifier: GPL-2.0 */
/* Integer types; abi.h is also compiled for the host, by the test that compares it with ebpf/abi. */
#pragma once
typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef signed int s32;
typedef long long s64;
