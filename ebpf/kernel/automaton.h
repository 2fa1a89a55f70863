/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Walking an automaton over a path: forward from the root's '/', or backward from the leaf's last byte. Both stop at
 * the dead state, so of a path that no rule is about hardly a name is read.
 *
 * One call of a global function takes the walk RUN_BYTES further, which is as far as most paths need: the verifier
 * checks it once per program, however many walks the program has. Global functions of kernel 5.10 take numbers only, so
 * a call finds the automaton by its key, and where it left off is in scratch.
 */
#pragma once
#include "path.h"

#define NO_STATE 0xffffffffU
#define FORWARD 0
#define BACKWARD 1
#define TEXT 2 /* forward, over pieces of the slot's text */
#define TEXT_PIECE 128
#define RUN_BYTES 96

/* How a run ended. */
enum { RUN_DEAD = 1, RUN_OVER, RUN_FURTHER, RUN_FAILED };

/* Low to high: deny, audit, allow, ancestors. All ones: the automaton is missing, or a name could not be read. */
#define NO_VERDICT (~0ULL)

/*
 * Finds the bytes that the entry at which the walk is stands for. 0, or how the run ends. Position and
 * number of the bytes to be read are left in scratch: read from there they are plain numbers to the verifier, so that
 * all rounds of the loop over them are alike.
 */
__noinline u32 load_entry(u32 slot, u32 direction)
{
	struct scratch *s = scratch_of(slot);
	if (!s)
		return RUN_FAILED;
	u64 n = *(volatile u32 *)&s->at_entry, count = *(volatile u32 *)&s->count;
	u32 length, slash = COMPONENT_AT + NAME_OFFSET - 1;
	if (n >= count)
		return RUN_OVER;
	if (direction == TEXT) {
		u64 from = n * TEXT_PIECE;
		OPAQUE(from);
		if (from > CHUNK_BYTES - TEXT_PIECE)
			return RUN_FAILED;
		u64 left = *(volatile u32 *)&s->text_length - from;
		if (left > TEXT_PIECE)
			left = TEXT_PIECE;
		OPAQUE(left);
		left &= 255;
		if (bpf_probe_read_kernel(component_of(s) + NAME_OFFSET - 1, left, &s->text[from]))
			return RUN_FAILED;
		length = left;
	} else {
		u64 k = direction == FORWARD ? count - 1 - n : n;
		OPAQUE(k);
		k &= COMPONENTS - 1;
		length = 0;
		if (k < *(volatile u32 *)&s->climbed && k < CLIMBED) {
			length = *(volatile u32 *)&s->names[k * CLIMBED_BYTES + CLIMBED_LENGTH];
			slash = k * CLIMBED_BYTES + CLIMBED_SLASH;
		}
		if (!length) {
			length = read_component(s, s->entry[k]);
			slash = COMPONENT_AT + NAME_OFFSET - 1;
		}
	}
	u32 done = *(volatile u32 *)&s->at_byte;
	if (done >= length)
		return RUN_FAILED;
	s->left = length - done;
	s->move = direction == BACKWARD ? -1 : 1;
	s->at = direction == BACKWARD ? slash + length - 1 - done : slash + done;
	return 0;
}

#define DEFINE_AUTOMATON(class, transitions)										\
	static __always_inline struct automaton_##class *find_##class(u64 key)						\
	{														\
		u32 zero = 0;												\
		void *inner = bpf_map_lookup_elem(&automata_##class, &key);						\
		return inner ? bpf_map_lookup_elem(inner, &zero) : NULL;						\
	}														\
															\
	__noinline u32 run_##class(u64 key, u32 slot, u32 direction)							\
	{														\
		struct scratch *s = scratch_of(slot);									\
		struct automaton_##class *a = find_##class(key);							\
		if (!s || !a)												\
			return RUN_FAILED;										\
		u64 shift = a->head.shift & 15;										\
		u64 now = *(volatile u32 *)&s->state;									\
		if (now == NO_STATE)											\
			now = a->head.start;										\
		u32 ends = load_entry(slot, direction);									\
		if (ends)												\
			goto over;											\
		u64 at = *(volatile u32 *)&s->at, left = *(volatile u32 *)&s->left;					\
		u64 move = *(volatile s32 *)&s->move;									\
		at &= NAMES_BYTES - 1;										\
		for (u32 i = 0; i < RUN_BYTES; i++) {									\
			u64 next = (now << shift) | a->head.classes[s->names[at]];					\
			OPAQUE(next);											\
			next &= (transitions)-1;									\
			now = a->next[next];										\
			if (!now)											\
				return RUN_DEAD;									\
			at += move;											\
			left--;												\
			if (!left) {											\
				s->at_byte = 0;										\
				s->at_entry += 1;									\
				ends = load_entry(slot, direction);							\
				if (ends)										\
					goto over;									\
				at = *(volatile u32 *)&s->at;								\
				left = *(volatile u32 *)&s->left;							\
			}												\
			/* The same range on both ways here: else the verifier would follow each of them to the end. */\
			OPAQUE(at);											\
			at &= NAMES_BYTES - 1;									\
		}													\
		s->state = now;												\
		s->at_byte += *(volatile u32 *)&s->left - left;								\
		return RUN_FURTHER;											\
	over:;														\
		u64 row = now;												\
		OPAQUE(row);												\
		row &= STATES(transitions) - 1;										\
		u64 index = a->accept[row];										\
		OPAQUE(index);												\
		index &= VERDICTS(transitions) - 1;									\
		s->verdict = *(volatile u64 *)&a->verdicts[index];							\
		return ends;												\
	}
DEFINE_AUTOMATON(s, TRANSITIONS_S)
DEFINE_AUTOMATON(m, TRANSITIONS_M)
DEFINE_AUTOMATON(l, TRANSITIONS_L)
DEFINE_AUTOMATON(xl, TRANSITIONS_XL)

/* A function of its own: inlined in a loop, the verifier would follow the loop once for each class it may be in. */
__noinline u32 run(u64 key, u32 class, u32 slot, u32 direction)
{
	if (class == AUTOMATON_S)
		return run_s(key, slot, direction);
	if (class == AUTOMATON_M)
		return run_m(key, slot, direction);
	if (class == AUTOMATON_L)
		return run_l(key, slot, direction);
	return run_xl(key, slot, direction);
}

/* As many as the longest path needs: COMPONENTS of COMPONENT_MAX bytes. */
#define RUNS (COMPONENTS * COMPONENT_MAX / RUN_BYTES + 1)

/* What the rules of one automaton say of the path, or text, in the slot. */
__noinline u64 match_path(u64 key, u32 class, u32 slot, u32 direction)
{
	struct scratch *s = scratch_of(slot);
	if (!s)
		return NO_VERDICT;
	*(volatile u32 *)&s->state = NO_STATE;
	*(volatile u32 *)&s->at_entry = 0;
	*(volatile u32 *)&s->at_byte = 0;
	for (u32 i = 0; i < RUNS; i++) {
		u32 ended = run(key, class, slot, direction);
		if (ended == RUN_FURTHER)
			continue;
		if (ended == RUN_DEAD)
			return 0;
		if (ended == RUN_OVER)
			return *(volatile u64 *)&s->verdict;
		break;
	}
	count(COUNTER_NO_AUTOMATON);
	return NO_VERDICT;
}

/* As match_path, for the first `length` bytes of the slot's text. */
static __always_inline u64 match_text(u64 key, u32 class, u32 slot, u32 length)
{
	struct scratch *s = scratch_of(slot);
	if (!s)
		return NO_VERDICT;
	s->text_length = length;
	s->count = (length + TEXT_PIECE - 1) / TEXT_PIECE;
	return match_path(key, class, slot, TEXT);
}
