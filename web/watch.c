/* SPDX-License-Identifier: Apache-2.0
 * watch.c - deadlines of connections (watch.h). */
#include "web/watch.h"

#include "models/base/mem.h"
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>

struct watch {
    pthread_t thread;
    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t stop;
    struct watch_connection *first;
    long n_open, n_slow;
    bool is_stopping;
    void (*tick)(void *ctx);
    void *ctx;
};

int64_t watch_now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static bool is_too_slow(const struct watch_connection *c, int64_t now)
{
    int64_t ms = now - atomic_load(&c->since_ms);
    switch (atomic_load(&c->phase)) {
    case WATCH_HEADERS:
        return ms > WATCH_HEADER_SECONDS * 1000;
    case WATCH_BODY:
        return ms > WATCH_BODY_GRACE_SECONDS * 1000 &&
               atomic_load(&c->body_bytes) * 1000 <
                   (ms - WATCH_BODY_GRACE_SECONDS * 1000) * WATCH_BODY_BYTES_PER_SECOND;
    default:
        return false; /* an answer under way is the server's own business; silence ends it */
    }
}

static void look(struct watch *w)
{
    int64_t now = watch_now_ms();
    for (struct watch_connection *c = w->first; c; c = c->next) {
        if (!is_too_slow(c, now))
            continue;
        shutdown(c->fd, SHUT_RDWR);
        w->n_slow++;
        watch_enter_phase(c, WATCH_ANSWER); /* once is enough */
    }
}

static void *run(void *ctx)
{
    struct watch *w = ctx;
    pthread_mutex_lock(&w->lock);
    while (!w->is_stopping) {
        struct timespec until;
        clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_nsec += WATCH_TICK_MS * 1000000L;
        until.tv_sec += until.tv_nsec / 1000000000;
        until.tv_nsec %= 1000000000;
        while (!w->is_stopping && pthread_cond_timedwait(&w->stop, &w->lock, &until) == 0)
            ;
        look(w);
        pthread_mutex_unlock(&w->lock);
        w->tick(w->ctx);
        pthread_mutex_lock(&w->lock);
    }
    pthread_mutex_unlock(&w->lock);
    return NULL;
}

struct watch *watch_start(void (*tick)(void *ctx), void *ctx, struct err *e)
{
    pthread_condattr_t attr;
    struct watch *w = mem_array(1, sizeof *w, "the watch", e);
    if (!w)
        return NULL;
    w->tick = tick;
    w->ctx = ctx;
    pthread_mutex_init(&w->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&w->stop, &attr);
    pthread_condattr_destroy(&attr);
    int failed = pthread_create(&w->thread, NULL, run, w);
    if (failed) {
        err_errno(e, ERR_RESOURCE, failed, "the watching thread cannot be started");
        free(w);
        return NULL;
    }
    return w;
}

void watch_stop(struct watch *w)
{
    if (!w)
        return;
    pthread_mutex_lock(&w->lock);
    w->is_stopping = true;
    pthread_cond_signal(&w->stop);
    pthread_mutex_unlock(&w->lock);
    pthread_join(w->thread, NULL);
    pthread_cond_destroy(&w->stop);
    pthread_mutex_destroy(&w->lock);
    free(w);
}

struct watch_connection *watch_enter(struct watch *w, int fd)
{
    struct watch_connection *c = calloc(1, sizeof *c);
    if (!c)
        return NULL;
    c->fd = fd;
    watch_enter_phase(c, WATCH_HEADERS);
    pthread_mutex_lock(&w->lock);
    c->next = w->first;
    if (w->first)
        w->first->previous = c;
    w->first = c;
    w->n_open++;
    pthread_mutex_unlock(&w->lock);
    return c;
}

void watch_leave(struct watch *w, struct watch_connection *c)
{
    pthread_mutex_lock(&w->lock);
    if (c->next)
        c->next->previous = c->previous;
    if (c->previous)
        c->previous->next = c->next;
    else
        w->first = c->next;
    w->n_open--;
    pthread_mutex_unlock(&w->lock);
    free(c);
}

void watch_enter_phase(struct watch_connection *c, enum watch_phase phase)
{
    atomic_store(&c->body_bytes, 0);
    atomic_store(&c->since_ms, watch_now_ms());
    atomic_store(&c->phase, (int)phase);
}

void watch_counts(struct watch *w, long *n_open, long *n_slow)
{
    pthread_mutex_lock(&w->lock);
    *n_open = w->n_open;
    *n_slow = w->n_slow;
    pthread_mutex_unlock(&w->lock);
}
