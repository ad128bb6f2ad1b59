/* SPDX-License-Identifier: Apache-2.0
 * event_cache.c - open events with a count of their holders (event_cache.h). */
#include "web/event_cache.h"

#include "geo/alignment.h"
#include "models/base/file.h"
#include "models/base/mem.h"
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { CACHE_EVENTS = 4 };

struct event_loan {
    char *dir;
    struct timespec modified;
    ino_t inode;
    struct event *ev;
    uint32_t *by_id; /* [n] indices in the order of bldg_id */
    pthread_mutex_t chips_lock;
    struct alignment_cutter *cutter; /* guarded by chips_lock; NULL: not yet wanted */
    int n_holders;                   /* guarded by the cache's lock, as is the rest */
    bool is_current;
    uint64_t last_used;
};

struct event_cache {
    pthread_mutex_t lock;
    struct event_loan *slot[CACHE_EVENTS];
    uint64_t clock;
};

struct event_cache *event_cache_create(struct err *e)
{
    struct event_cache *c = mem_array(1, sizeof *c, "the open events", e);
    if (c)
        pthread_mutex_init(&c->lock, NULL);
    return c;
}

static void close_loan(struct event_loan *l)
{
    if (!l)
        return;
    alignment_cutter_close(l->cutter);
    event_close(l->ev);
    pthread_mutex_destroy(&l->chips_lock);
    free(l->by_id);
    free(l->dir);
    free(l);
}

void event_cache_free(struct event_cache *c)
{
    if (!c)
        return;
    for (int i = 0; i < CACHE_EVENTS; i++)
        close_loan(c->slot[i]);
    pthread_mutex_destroy(&c->lock);
    free(c);
}

static int compare_ids(const void *x, const void *y, void *ctx)
{
    const struct event *ev = ctx;
    return strcmp(ev->building[*(const uint32_t *)x].bldg_id, ev->building[*(const uint32_t *)y].bldg_id);
}

static struct event_loan *open_loan(const char *dir, const struct stat *st, struct err *e)
{
    struct event_loan *l = mem_array(1, sizeof *l, "an event", e);
    if (!l)
        return NULL;
    pthread_mutex_init(&l->chips_lock, NULL);
    l->modified = st->st_mtim;
    l->inode = st->st_ino;
    l->is_current = true;
    l->dir = mem_strdup(dir, e);
    l->ev = l->dir ? event_open(dir, e) : NULL;
    l->by_id = l->ev ? mem_array(l->ev->n, sizeof *l->by_id, "the buildings' ids", e) : NULL;
    if (!l->by_id) {
        close_loan(l);
        return NULL;
    }
    for (size_t i = 0; i < l->ev->n; i++)
        l->by_id[i] = (uint32_t)i;
    qsort_r(l->by_id, l->ev->n, sizeof *l->by_id, compare_ids, l->ev);
    return l;
}

/* Takes l off the list; whoever still holds it keeps it. Returns it when nobody does. */
static struct event_loan *retire(struct event_cache *c, int i)
{
    struct event_loan *l = c->slot[i];
    c->slot[i] = NULL;
    if (!l)
        return NULL;
    l->is_current = false;
    return l->n_holders == 0 ? l : NULL;
}

static bool is_same(const struct event_loan *l, const struct stat *st)
{
    return l->inode == st->st_ino && l->modified.tv_sec == st->st_mtim.tv_sec &&
           l->modified.tv_nsec == st->st_mtim.tv_nsec;
}

static struct event_loan *find(struct event_cache *c, const char *dir, const struct stat *st,
                               struct event_loan **old)
{
    for (int i = 0; i < CACHE_EVENTS; i++) {
        struct event_loan *l = c->slot[i];
        if (!l || strcmp(l->dir, dir) != 0)
            continue;
        if (is_same(l, st)) {
            l->n_holders++;
            l->last_used = ++c->clock;
            return l;
        }
        *old = retire(c, i);
    }
    return NULL;
}

struct event_loan *event_cache_take(struct event_cache *c, const char *dir, struct err *e)
{
    char path[4096];
    struct stat st;
    struct event_loan *old = NULL, *found, *mine;
    if (!file_join(path, sizeof path, dir, "event.json", e))
        return NULL;
    if (stat(path, &st) != 0) {
        err_set(e, ERR_NOT_FOUND, "the footprints and images of this assessment are not read yet");
        return NULL;
    }
    pthread_mutex_lock(&c->lock);
    found = find(c, dir, &st, &old);
    pthread_mutex_unlock(&c->lock);
    close_loan(old);
    if (found)
        return found;
    mine = open_loan(dir, &st, e);
    if (!mine)
        return NULL;
    old = NULL;
    pthread_mutex_lock(&c->lock);
    found = find(c, dir, &st, &old); /* another request may have been faster */
    if (!found) {
        int victim = 0;
        for (int i = 0; i < CACHE_EVENTS; i++) {
            if (!c->slot[i]) {
                victim = i;
                break;
            }
            if (c->slot[i]->last_used < c->slot[victim]->last_used)
                victim = i;
        }
        if (!old)
            old = retire(c, victim);
        if (!c->slot[victim]) {
            c->slot[victim] = mine;
            mine->last_used = ++c->clock;
        }
        mine->is_current = c->slot[victim] == mine;
        mine->n_holders = 1;
        found = mine;
        mine = NULL;
    }
    pthread_mutex_unlock(&c->lock);
    close_loan(old);
    close_loan(mine);
    return found;
}

void event_cache_give(struct event_cache *c, struct event_loan *l)
{
    if (!l)
        return;
    pthread_mutex_lock(&c->lock);
    bool is_last = --l->n_holders == 0 && !l->is_current;
    pthread_mutex_unlock(&c->lock);
    if (is_last)
        close_loan(l);
}

const struct event *event_loan_event(const struct event_loan *l)
{
    return l->ev;
}

size_t event_loan_find(const struct event_loan *l, const char *bldg_id)
{
    size_t lo = 0, hi = l->ev->n;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        int order = strcmp(l->ev->building[l->by_id[mid]].bldg_id, bldg_id);
        if (order == 0)
            return l->by_id[mid];
        if (order < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    return l->ev->n;
}

uint8_t *event_loan_chip(struct event_loan *l, int64_t page, struct err *e)
{
    const struct imageset_layout *y = &l->ev->layout;
    uint8_t *px =
        mem_array((size_t)y->size * (size_t)y->size, (size_t)imageset_stored_channels(y), "a chip", e);
    if (!px)
        return NULL;
    pthread_mutex_lock(&l->chips_lock);
    bool ok = event_read_chips(l->ev, &page, 1, px, e);
    pthread_mutex_unlock(&l->chips_lock);
    if (!ok) {
        free(px);
        px = NULL;
    }
    return px;
}

bool event_loan_unshifted(struct event_loan *l, size_t building, uint8_t *px, uint8_t *valid, struct err *e)
{
    pthread_mutex_lock(&l->chips_lock);
    if (!l->cutter)
        l->cutter = alignment_cutter_open(l->ev, e);
    bool ok = l->cutter && alignment_cutter_read(l->cutter, building, 0, 0, px, valid, e);
    pthread_mutex_unlock(&l->chips_lock);
    return ok;
}
