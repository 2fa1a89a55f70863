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
#define BACKWARD 1 /* alone has an odd number */
#define TEXT 2 /* forward, over pieces of the slot's text */
#define TEXT_PIECE 128
#define RUN_BYTES 64

/* How a run ended. */
enum { RUN_DEAD = 1, RUN_OVER, RUN_FURTHER, RUN_FAILED };

/* Low to high: deny, audit, allow, ancestors. All ones: the automaton is missing, or a name could not be read. */
#define NO_VERDICT (~0ULL)

/* Where a walk begins, and the way from each entry to the next: the root's is the last in entry[]. */
static __always_inline void begin_at(struct scratch *s, u32 entry, s32 step)
{
	*(volatile u32 *)&s->at_entry = entry;
	*(volatile u32 *)&s->entry_step = step;
	*(volatile u32 *)&s->at_byte = 0;
}

/* The entry after one, or the piece of text. */
static __always_inline u32 next_entry(struct scratch *s)
{
	u32 k = *(volatile u32 *)&s->at_entry + *(volatile u32 *)&s->entry_step;
	s->at_entry = k;
	return k;
}

/* Where the '/' of an entry is whose name the hook has copied; 0: it has not. */
static __always_inline u32 find_copied(struct scratch *s, u64 k, u32 *length)
{
	if (k >= *(volatile u32 *)&s->climbed)
		return 0;
	OPAQUE(k);
	k &= CLIMBED - 1;
	*length = *(volatile u32 *)&s->copied[k].length;
	return *length ? k * CLIMBED_BYTES + CLIMBED_SLASH : 0;
}

/*
 * Finds the bytes that the entry at which the walk is stands for. 0, or how the run ends. The
 * position of the first byte to be read and the one after the last are left in scratch: read from there they are plain numbers to the verifier, so that
 * all rounds of the loop over them are alike.
 */
__noinline u32 load_entry(u32 slot, u32 direction)
{
	struct scratch *s = scratch_of(slot);
	if (!s)
		return RUN_FAILED;
	u64 k = *(volatile u32 *)&s->at_entry, count = *(volatile u32 *)&s->count;
	u32 length, slash;
	if (k >= count)
		return RUN_OVER;
	if (direction == TEXT) {
		u64 from = k * TEXT_PIECE;
		OPAQUE(from);
		if (from > CHUNK_BYTES - TEXT_PIECE)
			return RUN_FAILED;
		u64 left = *(volatile u64 *)&s->text_length - from;
		if (left > TEXT_PIECE)
			left = TEXT_PIECE;
		OPAQUE(left);
		left &= 255;
		if (bpf_probe_read_kernel(component_of(s) + NAME_OFFSET - 1, left, &s->text[from]))
			return RUN_FAILED;
		length = left;
		slash = COMPONENT_AT + NAME_OFFSET - 1;
	} else {
		slash = find_copied(s, k, &length);
		if (!slash) {
			OPAQUE(k);
			length = read_component(s, s->entry[k & (COMPONENTS - 1)]);
			slash = COMPONENT_AT + NAME_OFFSET - 1;
		}
	}
	u32 done = *(volatile u32 *)&s->at_byte;
	if (done >= length)
		return RUN_FAILED;
	s->at_byte = 0;
	s->length = length;
	s->at = direction == BACKWARD ? slash + length - 1 - done : slash + done;
	s->stop = direction == BACKWARD ? slash - 1 : slash + length;
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
		/*												\
		 * A number whose value the verifier does not know, in place of branches: it would follow the loop\
		 * once for each direction, and twice as often after each branch in it.				\
		 */												\
		u64 back = direction & 1;									\
		OPAQUE(back);											\
		u64 move = 1 - 2 * back;									\
		u64 at = *(volatile u32 *)&s->at, stop = *(volatile u32 *)&s->stop;				\
		at &= NAMES_BYTES - 1;										\
		_Pragma("clang loop unroll_count(2)")								\
		for (u32 i = 0; i < RUN_BYTES; i++) {								\
			u64 next = (now << shift) | a->head.classes[s->names[at]];				\
			OPAQUE(next);										\
			next &= (transitions)-1;								\
			now = a->next[next];									\
			if (!now)										\
				goto dead;									\
			at += move;										\
			if (at == stop) {									\
				u32 length, slash = find_copied(s, next_entry(s), &length);			\
				if (slash) {									\
					s->length = length;							\
					at = slash + back * (length - 1);					\
					stop = at + move * length;						\
				} else {									\
					ends = load_entry(slot, direction);					\
					if (ends)								\
						goto over;							\
					at = *(volatile u32 *)&s->at;						\
					stop = *(volatile u32 *)&s->stop;					\
				}										\
			}											\
			/* The same range on both ways here: else the verifier would follow each of them to the end. */\
			OPAQUE(at);										\
			at &= NAMES_BYTES - 1;									\
		}												\
		s->state = now;												\
		s->at_byte = *(volatile u32 *)&s->length - (stop - at) * move;					\
		return RUN_FURTHER;											\
	dead:;														\
		u32 dead = RUN_DEAD;											\
		/* A constant would be set in each round of the loop. */						\
		OPAQUE(dead);												\
		return dead;												\
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
	if (direction == FORWARD)
		begin_at(s, *(volatile u32 *)&s->count - 1, -1);
	else
		begin_at(s, 0, 1);
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
	s->climbed = 0;
	s->count = (length + TEXT_PIECE - 1) / TEXT_PIECE;
	return match_path(key, class, slot, TEXT);
}
