// SPDX-License-Identifier: GPL-2.0
/*
 * Threads on processors of their own that run BPF programs and change maps at the same time. A shared library: descriptors are the
 * caller's.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/bpf.h>
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/* A frame to run, and what became of it: the return value and the beginning of the frame that came out. */
struct frame {
	uint32_t length;
	uint32_t retval;
	uint8_t bytes[248];
};

/* One change to a map. `flags` are those of an update. */
struct change {
	uint32_t command;
	uint32_t map;
	uint64_t flags;
	uint8_t key[16];
	uint8_t value[64];
};

struct thread {
	pthread_t id;
	int cpu, program;
	struct frame *frames;
	const struct change *changes;
	uint32_t count;
	uint32_t *arrived, *running;
	uint32_t all;
	long failed;
};

static long bpf(int command, union bpf_attr *attr)
{
	return syscall(SYS_bpf, command, attr, sizeof(*attr));
}

static int run_frame(int program, struct frame *f)
{
	uint8_t out[2048];
	union bpf_attr attr = { 0 };

	attr.test.prog_fd = (uint32_t)program;
	attr.test.data_in = (uintptr_t)f->bytes;
	attr.test.data_size_in = f->length;
	attr.test.data_out = (uintptr_t)out;
	attr.test.data_size_out = sizeof(out);
	attr.test.repeat = 1;
	if (bpf(BPF_PROG_TEST_RUN, &attr))
		return errno;
	f->retval = attr.test.retval;
	f->length = attr.test.data_size_out;
	memcpy(f->bytes, out, f->length < sizeof(f->bytes) ? f->length : sizeof(f->bytes));
	return 0;
}

static int make_change(const struct change *c)
{
	union bpf_attr attr = { 0 };

	attr.map_fd = c->map;
	attr.key = (uintptr_t)c->key;
	attr.value = c->command == BPF_MAP_DELETE_ELEM ? 0 : (uintptr_t)c->value;
	attr.flags = c->flags;
	return bpf((int)c->command, &attr) ? errno : 0;
}

/* How many steps threads take before they wait for each other. */
#define STRIDE 32

static void *work(void *arg)
{
	struct thread *t = arg;
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(t->cpu, &set);
	sched_setaffinity(0, sizeof(set), &set);
	for (uint32_t i = 0; i < t->count && !t->failed; i++) {
		if (i % STRIDE == 0) {
			uint32_t goal = t->all * (i / STRIDE + 1);

			__atomic_add_fetch(t->arrived, 1, __ATOMIC_ACQ_REL);
			/* Signed: a thread that has ended stands for all that it would have done. */
			while ((int32_t)(goal - __atomic_load_n(t->arrived, __ATOMIC_ACQUIRE)) > 0 &&
			       __atomic_load_n(t->running, __ATOMIC_ACQUIRE) == t->all)
				sched_yield();
		}
		t->failed = t->frames ? run_frame(t->program, t->frames + i) : make_change(t->changes + i);
	}
	__atomic_sub_fetch(t->running, 1, __ATOMIC_ACQ_REL);
	return NULL;
}

/*
 * Runs `count` frames through the program in each of `threads` threads (frames[thread * count + i]) while another one, if there are
 * changes, makes those. Gives 0, or an errno.
 */
int race(int program, struct frame *frames, uint32_t threads, uint32_t count, const struct change *changes, uint32_t change_count)
{
	struct thread t[8] = { 0 };
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);
	uint32_t arrived = 0, all = threads + (change_count > 0), running = all;
	int failed = 0;

	if (all > 8)
		return EINVAL;
	for (uint32_t i = 0; i < all; i++) {
		t[i].cpu = (int)(i % (uint32_t)cpus);
		t[i].program = program;
		t[i].frames = i < threads ? frames + i * count : NULL;
		t[i].changes = changes;
		t[i].count = i < threads ? count : change_count;
		t[i].arrived = &arrived;
		t[i].running = &running;
		t[i].all = all;
	}
	for (uint32_t i = 0; i < all; i++)
		if (pthread_create(&t[i].id, NULL, work, &t[i]))
			return EAGAIN;
	for (uint32_t i = 0; i < all; i++) {
		pthread_join(t[i].id, NULL);
		if (t[i].failed && !failed)
			failed = (int)t[i].failed;
	}
	return failed;
}
