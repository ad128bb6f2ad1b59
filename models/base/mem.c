/* SPDX-License-Identifier: Apache-2.0
 * mem.c - checked allocation and the planned arena declared in mem.h. */
#include "models/base/mem.h"

#include <assert.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

static atomic_uint_fast64_t n_allocations;

static bool refuse(struct err *e, const char *what, size_t n, size_t size)
{
    return err_set(e, ERR_RESOURCE,
                   "not enough memory for %s (%.1f MiB); free some or work on a smaller area", what,
                   (double)n * (double)size / 1048576.0);
}

void *mem_array(size_t n, size_t size, const char *what, struct err *e)
{
    size_t bytes;
    void *p = NULL;
    if (!__builtin_mul_overflow(n, size, &bytes))
        p = calloc(1, bytes ? bytes : 1);
    atomic_fetch_add_explicit(&n_allocations, 1, memory_order_relaxed);
    if (!p)
        refuse(e, what, n, size);
    return p;
}

bool mem_grow(void *p_ptr, size_t n, size_t size, const char *what, struct err *e)
{
    void *old, *p = NULL;
    size_t bytes;
    memcpy(&old, p_ptr, sizeof old);
    if (!__builtin_mul_overflow(n, size, &bytes))
        p = realloc(old, bytes ? bytes : 1);
    atomic_fetch_add_explicit(&n_allocations, 1, memory_order_relaxed);
    if (!p)
        return refuse(e, what, n, size);
    memcpy(p_ptr, &p, sizeof p);
    return true;
}

char *mem_strdup(const char *s, struct err *e)
{
    size_t n = strlen(s) + 1;
    char *p = mem_array(n, 1, "a string", e);
    if (p)
        memcpy(p, s, n);
    return p;
}

uint64_t mem_count(void)
{
    return atomic_load(&n_allocations);
}

enum { PIECE_ALIGN = 64, HUGE_PAGE = 2 << 20 };

bool arena_open(struct arena *a, size_t size_bytes, struct err *e)
{
    memset(a, 0, sizeof *a);
    size_t map = (size_bytes + 2 * HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE + HUGE_PAGE;
    char *p = MAP_FAILED;
    if (map > size_bytes)
        p = mmap(NULL, map, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    atomic_fetch_add_explicit(&n_allocations, 1, memory_order_relaxed);
    if (p == MAP_FAILED)
        return refuse(e, "the working buffers", size_bytes, 1);
    size_t lead = (HUGE_PAGE - (uintptr_t)p % HUGE_PAGE) % HUGE_PAGE;
    if (lead)
        munmap(p, lead);
    a->base = p + lead;
    a->map_bytes = map - lead;
    a->size_bytes = size_bytes;
#ifdef MADV_HUGEPAGE
    madvise(a->base, a->map_bytes, MADV_HUGEPAGE); /* a hint; refusal costs speed only */
#endif
    return true;
}

void *arena_take(struct arena *a, size_t n, size_t size)
{
    size_t bytes, end;
    bool overflow = __builtin_mul_overflow(n, size, &bytes);
    overflow |= __builtin_add_overflow(bytes, (size_t)(2 * PIECE_ALIGN - 1), &bytes);
    bytes &= ~(size_t)(PIECE_ALIGN - 1);
    overflow |= __builtin_add_overflow(a->used_bytes, bytes, &end);
    if (overflow) { /* remembered: arena_open() will refuse such a size */
        a->used_bytes = SIZE_MAX / 2;
        return NULL;
    }
    void *p = a->base ? a->base + a->used_bytes : NULL;
    assert(!a->base || end <= a->size_bytes);
    a->used_bytes = end;
    return p;
}

void arena_close(struct arena *a)
{
    if (a->base)
        munmap(a->base, a->map_bytes);
    memset(a, 0, sizeof *a);
}
