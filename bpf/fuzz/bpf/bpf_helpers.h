/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The kernel's part, for the programs in a host program: maps, packets and the helpers that the programs call, as the kernel's
 * own documentation and code have them. One packet at a time, on one CPU, at one instant. A map's value is a block of memory of its own, so
 * that a sanitizer sees a step beyond it.
 */
#ifndef VS_FUZZ_HELPERS_H
#define VS_FUZZ_HELPERS_H

#include <errno.h>
#include <linux/bpf.h>
#include <stdlib.h>
#include <string.h>

#define SEC(name)
#define __uint(name, value) int (*name)[value]
/* Only sizes count here: a type is declared as its size. */
#define __type(name, value) int (*name##_size)[sizeof(value)]
#define HOST_NUMBER(map, field) ((unsigned)(sizeof(*(map)->field) / sizeof(int)))

struct host_entry {
	struct host_entry *next;
	void *value;
	void *kept; /* the value at the snapshot, or NULL for an entry that is younger */
	unsigned char key[32];
};

struct host_map {
	const void *id;
	struct host_entry *first;
	unsigned kind, key_size, value_size, max_entries, used;
	unsigned forgets; /* scratch memory is whatever it is */
};

#define HOST_MAPS 64
#define HOST_NOW (1ull << 40)
static struct host_map host_maps[HOST_MAPS];

static struct host_map *host_map(const void *id, unsigned kind, unsigned key_size, unsigned value_size, unsigned max_entries)
{
	struct host_map *map = host_maps;

	while (map < host_maps + HOST_MAPS && map->id && map->id != id)
		map++;
	if (map == host_maps + HOST_MAPS)
		abort();
	*map = (struct host_map){ id, map->first, kind, key_size, value_size, max_entries, map->used, value_size > 8192 };
	return map;
}

#define HOST_MAP(map)                                                                                                       \
	host_map(map, HOST_NUMBER(map, type), HOST_NUMBER(map, key_size), HOST_NUMBER(map, value_size), HOST_NUMBER(map, max_entries))
#define HOST_QUEUE(map) host_map(map, HOST_NUMBER(map, type), 0, HOST_NUMBER(map, value_size), HOST_NUMBER(map, max_entries))

static struct host_entry *host_add(struct host_map *map, const void *key)
{
	struct host_entry *e = calloc(1, sizeof(*e));

	memcpy(e->key, key, map->key_size);
	e->value = calloc(1, map->value_size);
	e->next = map->first;
	map->first = e;
	map->used++;
	return e;
}

static struct host_entry *host_find(struct host_map *map, const void *key)
{
	for (struct host_entry *e = map->first; e; e = e->next)
		if (!memcmp(e->key, key, map->key_size))
			return e;
	/* Arrays have all their entries. */
	if ((map->kind == BPF_MAP_TYPE_ARRAY || map->kind == BPF_MAP_TYPE_PERCPU_ARRAY) && *(const unsigned *)key < map->max_entries)
		return host_add(map, key);
	return NULL;
}

static void *host_lookup(struct host_map *map, const void *key)
{
	struct host_entry *e = host_find(map, key);

	return e ? e->value : NULL;
}

static long host_update(struct host_map *map, const void *key, const void *value, unsigned long long flags)
{
	struct host_entry *e = host_find(map, key);

	if (e && flags == BPF_NOEXIST)
		return -EEXIST;
	if (!e && map->used >= map->max_entries)
		return -E2BIG;
	if (!e)
		e = host_add(map, key);
	memcpy(e->value, value, map->value_size);
	return 0;
}

static void host_free(struct host_map *map, struct host_entry **at)
{
	struct host_entry *e = *at;

	*at = e->next;
	free(e->value);
	free(e->kept);
	free(e);
	map->used--;
}

static long host_delete(struct host_map *map, const void *key)
{
	for (struct host_entry **at = &map->first; *at; at = &(*at)->next)
		if (!memcmp((*at)->key, key, map->key_size)) {
			host_free(map, at);
			return 0;
		}
	return -ENOENT;
}

/* A queue: new ones go to the front of the list and leave from its end. */
static long host_push(struct host_map *map, const void *value)
{
	if (map->used >= map->max_entries)
		return -E2BIG;
	memcpy(host_add(map, "")->value, value, map->value_size);
	return 0;
}

static long host_pop(struct host_map *map, void *value)
{
	struct host_entry **at = &map->first;

	if (!*at)
		return -ENOENT;
	while ((*at)->next)
		at = &(*at)->next;
	memcpy(value, (*at)->value, map->value_size);
	host_free(map, at);
	return 0;
}

#define bpf_map_lookup_elem(map, key) host_lookup(HOST_MAP(map), key)
#define bpf_map_update_elem(map, key, value, flags) host_update(HOST_MAP(map), key, value, flags)
#define bpf_map_delete_elem(map, key) host_delete(HOST_MAP(map), key)
#define bpf_map_push_elem(map, value, flags) host_push(HOST_QUEUE(map), value)
#define bpf_map_pop_elem(map, value) host_pop(HOST_QUEUE(map), value)

/* Makes what all maps hold now what they hold again after host_reset. */
static void host_snapshot(void)
{
	for (struct host_map *map = host_maps; map < host_maps + HOST_MAPS && map->id; map++)
		for (struct host_entry *e = map->first; e; e = e->next) {
			e->kept = e->kept ? e->kept : malloc(map->value_size);
			memcpy(e->kept, e->value, map->value_size);
		}
}

/* The programs never delete what user space has put there, but for flows: those must not be part of a snapshot. */
static void host_reset(void)
{
	for (struct host_map *map = host_maps; map < host_maps + HOST_MAPS && map->id; map++) {
		struct host_entry **at = &map->first;

		while (*at && !map->forgets)
			if ((*at)->kept) {
				memcpy((*at)->value, (*at)->kept, map->value_size);
				at = &(*at)->next;
			} else {
				host_free(map, at);
			}
	}
}

#define bpf_ktime_get_boot_ns() HOST_NOW
#define bpf_spin_lock(lock) ((void)(lock))
#define bpf_spin_unlock(lock) ((void)(lock))

/* A packet, whole in one piece. */
#define HOST_ROOM 65536
#define HOST_ETH 14
struct host_skb {
	struct __sk_buff skb; /* first: the programs see this */
	unsigned char data[HOST_ROOM];
};

static unsigned char *host_data(struct __sk_buff *skb)
{
	return ((struct host_skb *)(void *)skb)->data;
}

static long bpf_skb_load_bytes(struct __sk_buff *skb, unsigned at, void *to, unsigned len)
{
	if (len == 0 || at > skb->len || len > skb->len - at) {
		memset(to, 0, len);
		return -EFAULT;
	}
	memcpy(to, host_data(skb) + at, len);
	return 0;
}

static long bpf_skb_store_bytes(struct __sk_buff *skb, unsigned at, const void *from, unsigned len, unsigned long long flags)
{
	(void)flags;
	if (at > skb->len || len > skb->len - at)
		return -EFAULT;
	memcpy(host_data(skb) + at, from, len);
	return 0;
}

/* Makes the next cut fail: the kernel cuts no packet before its transport header, wherever that is. */
static int host_refuses_cut;
/* It has. */
static int host_refused_cut;

/* The packet has a driver's checksum over all its bytes. Only changing the tail makes the kernel forget it. */
static int host_summed;

static long bpf_csum_update(struct __sk_buff *skb, unsigned sum)
{
	(void)skb;
	(void)sum;
	return host_summed ? 0 : -ENOTSUP;
}

static long bpf_skb_change_tail(struct __sk_buff *skb, unsigned len, unsigned long long flags)
{
	if (flags || len < HOST_ETH || len > HOST_ROOM - 256)
		return -EINVAL;
	if (len < skb->len && host_refuses_cut) {
		host_refuses_cut = 0;
		host_refused_cut = 1;
		return -EINVAL;
	}
	if (len > skb->len)
		memset(host_data(skb) + skb->len, 0, len - skb->len);
	skb->len = len;
	host_summed = 0;
	return 0;
}

/* Takes or gives bytes behind the Ethernet header. */
static void host_shift(struct __sk_buff *skb, int more)
{
	unsigned char *behind = host_data(skb) + HOST_ETH;
	unsigned rest = skb->len - HOST_ETH;

	if (more < 0) {
		memmove(behind, behind - more, rest + more);
	} else {
		memmove(behind + more, behind, rest);
		memset(behind, 0, more);
	}
	skb->len += more;
}

static long bpf_skb_change_proto(struct __sk_buff *skb, unsigned short proto, unsigned long long flags)
{
	int to6 = proto == __builtin_bswap16(0x86dd);

	if (flags || skb->protocol == proto)
		return -EINVAL;
	host_shift(skb, to6 ? 20 : -20);
	skb->protocol = proto;
	return 0;
}

static long bpf_skb_adjust_room(struct __sk_buff *skb, int more, unsigned mode, unsigned long long flags)
{
	unsigned least = skb->protocol == __builtin_bswap16(0x86dd) ? 40 : 20, rest = skb->len - HOST_ETH;

	(void)mode;
	if (flags || (more < 0 && ((unsigned)-more >= rest || rest + more < least)))
		return -ENOTSUP;
	host_shift(skb, more);
	return 0;
}

#define bpf_redirect(ifindex, flags) ((void)(ifindex), 7)
#define bpf_redirect_neigh(ifindex, params, size, flags) ((void)(ifindex), 7)

#endif
