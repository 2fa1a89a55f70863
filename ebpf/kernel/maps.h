/* SPDX-License-Identifier: GPL-2.0 */
/* The maps; abi.h describes their contents. All but scratch, report and visits are pinned. */
#pragma once
#include "abi.h"
#include "kernel_types.h"

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, MAX_CONTAINERS);
	__type(key, u64);
	__type(value, struct container);
} containers SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, MAX_CONTAINERS);
	__type(key, u64);
	__type(value, struct container_state);
} states SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, MAX_CONTAINERS);
	__type(key, u32);
	__type(value, u64);
} namespaces SEC(".maps");

/* Inner maps are declared by sizes: with types, kernel 6.1 answers EINVAL when one is inserted. */
#define MAP_OF_ONE(name, key_type, entries, value)                                                                     \
	struct name##_inner {                                                                                          \
		__uint(type, BPF_MAP_TYPE_ARRAY);                                                                      \
		__uint(max_entries, 1);                                                                                \
		__uint(key_size, sizeof(u32));                                                                         \
		__uint(value_size, sizeof(value));                                                                     \
	};                                                                                                             \
	struct {                                                                                                       \
		__uint(type, BPF_MAP_TYPE_HASH_OF_MAPS);                                                               \
		__uint(map_flags, BPF_F_NO_PREALLOC);                                                                  \
		__uint(max_entries, entries);                                                                          \
		__type(key, key_type);                                                                                 \
		__array(values, struct name##_inner);                                                                  \
	} name SEC(".maps")
MAP_OF_ONE(profiles, u64, MAX_PROFILES, struct profile);
MAP_OF_ONE(children, struct child_key, MAX_CHILDREN, struct profile);
MAP_OF_ONE(automata_s, u64, MAX_AUTOMATA, struct automaton_s);
MAP_OF_ONE(automata_m, u64, MAX_AUTOMATA, struct automaton_m);
MAP_OF_ONE(automata_l, u64, MAX_AUTOMATA, struct automaton_l);
MAP_OF_ONE(automata_xl, u64, MAX_AUTOMATA, struct automaton_xl);

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, MAX_PREFIXES);
	__type(key, struct prefix_key);
	__type(value, struct prefix_value);
} prefixes SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4 << 20);
} violations SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, COUNTERS);
	__type(key, u32);
	__type(value, u64);
} counters SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct settings);
} settings SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct mark_request);
} mark_request SEC(".maps");

static __always_inline void count(u32 what)
{
	u64 *n = bpf_map_lookup_elem(&counters, &what);
	if (n)
		*n += 1;
}
