/* SPDX-License-Identifier: GPL-2.0 */
/* Telling user space what was refused or is to be reported. A full ring buffer loses the event and counts it. */
#pragma once
#include "automaton.h"

/* Fills what every event has; the caller fills the rest and sends it. */
static __always_inline struct report *begin_report(u32 slot, u64 container, struct profile *profile, u8 type, u8 op, u8 action)
{
	struct report *r = report_of(slot);
	if (!r) {
		count(COUNTER_EVENTS_LOST);
		return NULL;
	}
	struct violation *v = &r->violation;
	u64 id = bpf_get_current_pid_tgid();
	v->time = bpf_ktime_get_boot_ns();
	v->container = container;
	v->profile = profile->key;
	v->tgid = id >> 32;
	v->tid = id;
	v->mntns = BPF_CORE_READ(mount_namespace_of(current_task()), ns.inum);
	v->action = action;
	v->type = type;
	v->op = op;
	v->external = 0;
	v->permissions = 0;
	v->text_length = 0;
	v->family = 0;
	v->port = 0;
	v->protocol = 0;
	v->socket_type = 0;
	v->pad = 0;
	__builtin_memset(v->address, 0, sizeof(v->address));
	bpf_get_current_comm(v->comm, sizeof(v->comm));
	return r;
}

static __always_inline void send_report(struct report *r)
{
	u64 length = *(volatile u32 *)&r->violation.text_length;
	OPAQUE(length);
	if (length > TEXT_MAX)
		length = TEXT_MAX;
	if (bpf_ringbuf_output(&violations, r, sizeof(struct violation) + length, 0))
		count(COUNTER_EVENTS_LOST);
}

/* Puts the path whose entries are in scratch into the report, the root first. */
__noinline int write_path(u32 slot)
{
	struct scratch *s = scratch_of(slot);
	struct report *r = report_of(slot);
	if (!s || !r)
		return -1;
	u64 to = 0;
	begin_at(s, *(volatile u32 *)&s->count - 1, -1);
	for (u32 i = 0; i < COMPONENTS; i++) {
		if (to > TEXT_MAX - 1 || load_entry(slot, FORWARD))
			break;
		next_entry(s);
		u64 length = *(volatile u32 *)&s->length;
		OPAQUE(length);
		if (!length || length > COMPONENT_MAX)
			break;
		u64 at = to, from = *(volatile u32 *)&s->at;
		OPAQUE(at);
		at &= TEXT_MAX - 1;
		OPAQUE(from);
		if (from > NAMES_BYTES - COMPONENT_MAX)
			break;
		if (bpf_probe_read_kernel(&r->text[at], length, &s->names[from]))
			break;
		to += length;
	}
	r->violation.text_length = to > TEXT_MAX ? TEXT_MAX : to;
	return 0;
}

/*
 * What a verdict's masks say of what is wanted. Refusing and reporting are independent: rules that only audit, only
 * deny, or both may hold for one path.
 */
static __always_inline u8 action_of(struct profile *profile, bool deny, bool audit)
{
	if (profile->flags & PROFILE_COMPLAIN)
		return ACTION_ALLOWED;
	if (deny)
		return audit ? ACTION_DENIED : 0;
	return audit ? ACTION_AUDIT : 0;
}

static __always_inline bool refuses(struct profile *profile, bool deny)
{
	return deny && !(profile->flags & PROFILE_COMPLAIN);
}
