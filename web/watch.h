/* SPDX-License-Identifier: Apache-2.0
 *
 * watch.h - connections that take too long. libmicrohttpd ends a silent connection by itself; one that sends a
 * byte now and then (slow loris) would stay for ever, so each has a deadline: the header lines must be there
 * WATCH_HEADER_SECONDS after the connection opened or the last answer ended, and a body must keep up
 * WATCH_BODY_BYTES_PER_SECOND after a grace period. Whoever does not is shut down, which libmicrohttpd sees as the
 * client going away.
 *
 * The thread that looks does so every WATCH_TICK_MS, and calls `tick` then, which is what wakes event streams.
 * Threads: connections are entered and left by their own thread, under a lock that the looking thread takes: a
 * descriptor is never shut down after its connection was closed. */
#ifndef AM_WATCH_H
#define AM_WATCH_H

#include "models/base/err.h"
#include <stdatomic.h>
#include <stdint.h>

enum {
    WATCH_HEADER_SECONDS = 20,
    WATCH_BODY_GRACE_SECONDS = 10,
    WATCH_BODY_BYTES_PER_SECOND = 1024,
    WATCH_TICK_MS = 250
};

enum watch_phase { WATCH_HEADERS, WATCH_BODY, WATCH_ANSWER };

struct watch_connection {
    struct watch_connection *previous, *next; /* guarded by the watch's lock */
    int fd;
    atomic_int phase;
    atomic_llong since_ms, body_bytes;
};

struct watch;
struct watch *watch_start(void (*tick)(void *ctx), void *ctx, struct err *e);
void watch_stop(struct watch *w); /* accepts NULL; the connections are gone by then */

struct watch_connection *watch_enter(struct watch *w, int fd); /* NULL: memory ran out */
void watch_leave(struct watch *w, struct watch_connection *c);
void watch_enter_phase(struct watch_connection *c, enum watch_phase phase);

/* Connections now open, and those shut down so far. */
void watch_counts(struct watch *w, long *n_open, long *n_slow);
int64_t watch_now_ms(void); /* a clock that never jumps */

#endif
