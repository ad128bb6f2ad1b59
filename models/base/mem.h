/* SPDX-License-Identifier: Apache-2.0
 *
 * mem.h - overflow-checked allocation, and the arena that a run plans before it starts.
 *
 * Three lifetimes exist: run (an arena), step (parts of the arena reused each step) and handle (heap). The
 * steady training step allocates nothing; mem_count() lets a test prove it. */
#ifndef AM_MEM_H
#define AM_MEM_H

#include "models/base/err.h"
#include <stddef.h>
#include <stdint.h>

/* Zeroed array of n items of `size` bytes. NULL with ERR_RESOURCE when n*size overflows or memory is short;
 * the message says `what` was wanted and how large it would have been. Free with free(). n == 0 gives a valid
 * pointer. */
void *mem_array(size_t n, size_t size, const char *what, struct err *e);

/* Grows *p (as realloc) to hold n items; the new part is not zeroed. On failure *p stays valid. */
bool mem_grow(void *p_ptr, size_t n, size_t size, const char *what, struct err *e);

/* Heap copy of a string; NULL and ERR_RESOURCE on failure. */
char *mem_strdup(const char *s, struct err *e);

/* Number of allocations made through this file by the whole process so far. */
uint64_t mem_count(void);

/* One zeroed block, cut into 64-byte aligned pieces, huge pages where the system grants them. Plan by calling
 * arena_take() on an arena whose base is NULL: it only counts. Then arena_open() and take the same pieces
 * again. Each piece is followed by a 64-byte gap, so that a power-of-two stride does not fight for one L1
 * set. */
struct arena {
    char *base;
    size_t used_bytes, size_bytes, map_bytes;
};

bool arena_open(struct arena *a, size_t size_bytes, struct err *e);
void *arena_take(struct arena *a, size_t n, size_t size); /* NULL while planning; asserts on overrun */
void arena_close(struct arena *a);

#endif
