/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Walking an automaton over a path: forward from the root's '/', or backward from the leaf's last byte. Both stop at
 * the dead state, so a path that no rule is about is hardly read.
 *
 * One component is one call of a global function, which the verifier checks once per program however many walks the
 * program has. Global functions of kernel 5.10 take numbers only, so a step finds the automaton by its key again.
 */
#pragma once
#include "scratch.h"

#define NO_STATE 0xffffffffU
#define FORWARD 0
#define BACKWARD 1
#define COMPONENT_MAX 256

/* Low to high: deny, audit, allow, ancestors. All ones: the automaton is missing. */
#define NO_VERDICT (~0ULL)

#define DEFINE_AUTOMATON(class, transitions)                                                                           \
	static __always_inline struct automaton_##class *find_##class(u64 key)                                        \
	{                                                                                                              \
		u32 zero = 0;                                                                                          \
		void *inner = bpf_map_lookup_elem(&automata_##class, &key);                                            \
		return inner ? bpf_map_lookup_elem(inner, &zero) : NULL;                                               \
	}                                                                                                              \
                                                                                                                       \
	/* The state after `length` bytes of chunks from `start` on, or downwards from its end. */                     \
	__noinline u32 step_##class(u64 key, u32 slot, u32 state, u32 start, u32 length_and_direction)                \
	{                                                                                                              \
		struct scratch *s = scratch_of(slot);                                                                  \
		struct automaton_##class *a = find_##class(key);                                                       \
		if (!s || !a)                                                                                          \
			return NO_STATE;                                                                               \
		u64 length = length_and_direction >> 1;                                                                \
		u64 back = length_and_direction & 1;                                                                   \
		u64 shift = a->head.shift & 15;                                                                        \
		u64 at = start, move = 1, now = state;                                                                 \
		if (back) {                                                                                            \
			at += length - 1;                                                                              \
			move = -1ULL;                                                                                  \
		}                                                                                                      \
		for (u32 i = 0; i < COMPONENT_MAX; i++) {                                                              \
			if (i >= length)                                                                               \
				break;                                                                                 \
			u64 k = at;                                                                                    \
			OPAQUE(k);                                                                                     \
			k &= PATH_BYTES - 1;                                                                           \
			u64 next = (now << shift) | a->head.classes[s->chunks[k]];                                     \
			OPAQUE(next);                                                                                  \
			next &= (transitions)-1;                                                                       \
			now = a->next[next];                                                                           \
			if (!now)                                                                                      \
				break;                                                                                 \
			at += move;                                                                                    \
		}                                                                                                      \
		return now;                                                                                            \
	}                                                                                                              \
                                                                                                                       \
	__noinline u32 start_##class(u64 key)                                                                          \
	{                                                                                                              \
		struct automaton_##class *a = find_##class(key);                                                       \
		return a ? a->head.start : NO_STATE;                                                                   \
	}                                                                                                              \
                                                                                                                       \
	__noinline u64 verdict_##class(u64 key, u32 state)                                                             \
	{                                                                                                              \
		struct automaton_##class *a = find_##class(key);                                                       \
		if (!a)                                                                                                \
			return NO_VERDICT;                                                                             \
		u64 row = state;                                                                                       \
		OPAQUE(row);                                                                                           \
		row &= STATES(transitions) - 1;                                                                        \
		u64 index = a->accept[row];                                                                            \
		OPAQUE(index);                                                                                         \
		index &= VERDICTS(transitions) - 1;                                                                    \
		struct verdict *v = &a->verdicts[index];                                                               \
		return (u64)v->deny | (u64)v->audit << 16 | (u64)v->allow << 32 | (u64)v->ancestors << 48;             \
	}
DEFINE_AUTOMATON(s, TRANSITIONS_S)
DEFINE_AUTOMATON(m, TRANSITIONS_M)
DEFINE_AUTOMATON(l, TRANSITIONS_L)
DEFINE_AUTOMATON(xl, TRANSITIONS_XL)

/* A function of its own: inlined in a loop, the verifier would follow the loop once for each class it may be in. */
__noinline u32 start_state(u64 key, u32 class)
{
	if (class == AUTOMATON_S)
		return start_s(key);
	if (class == AUTOMATON_M)
		return start_m(key);
	if (class == AUTOMATON_L)
		return start_l(key);
	return start_xl(key);
}

/* What to do in a step, in one argument, since a function has five at most. */
#define SHAPE(length, class, direction) ((length) << 8 | (class) << 1 | (direction))

__noinline u32 step(u64 key, u32 slot, u32 state, u32 start, u32 shape)
{
	u32 class = shape >> 1 & 127;
	u32 length_and_direction = shape >> 8 << 1 | (shape & 1);
	if (class == AUTOMATON_S)
		return step_s(key, slot, state, start, length_and_direction);
	if (class == AUTOMATON_M)
		return step_m(key, slot, state, start, length_and_direction);
	if (class == AUTOMATON_L)
		return step_l(key, slot, state, start, length_and_direction);
	return step_xl(key, slot, state, start, length_and_direction);
}

__noinline u64 verdict_at(u64 key, u32 class, u32 state)
{
	if (class == AUTOMATON_S)
		return verdict_s(key, state);
	if (class == AUTOMATON_M)
		return verdict_m(key, state);
	if (class == AUTOMATON_L)
		return verdict_l(key, state);
	return verdict_xl(key, state);
}

/* What the rules of one automaton say of the path in `slot`. */
__noinline u64 match_path(u64 key, u32 class, u32 slot, u32 direction)
{
	struct scratch *s = scratch_of(slot);
	if (!s)
		return NO_VERDICT;
	u32 state = start_state(key, class);
	u64 components = s->count;
	for (u32 i = 0; i < COMPONENTS; i++) {
		if (i >= components || !state || state == NO_STATE)
			break;
		u64 c = direction == FORWARD ? components - 1 - i : i;
		OPAQUE(c);
		c &= COMPONENTS - 1;
		state = step(key, slot, state, s->start[c], SHAPE((u32)s->length[c], class, direction));
	}
	if (state == NO_STATE) {
		count(COUNTER_NO_AUTOMATON);
		return NO_VERDICT;
	}
	return state ? verdict_at(key, class, state) : 0;
}

#define TEXT_PARTS 18 /* of COMPONENT_MAX bytes: a path and what comes before it */

/* As match_path, for `length` bytes at the start of chunks, forward. */
__noinline u64 match_text(u64 key, u32 class, u32 slot, u32 length)
{
	u32 state = start_state(key, class);
	for (u32 i = 0; i < TEXT_PARTS; i++) {
		u32 at = i * COMPONENT_MAX;
		if (at >= length || !state || state == NO_STATE)
			break;
		u32 part = length - at;
		if (part > COMPONENT_MAX)
			part = COMPONENT_MAX;
		state = step(key, slot, state, at, SHAPE(part, class, FORWARD));
	}
	if (state == NO_STATE) {
		count(COUNTER_NO_AUTOMATON);
		return NO_VERDICT;
	}
	return state ? verdict_at(key, class, state) : 0;
}
