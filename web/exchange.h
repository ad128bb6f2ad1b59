/* SPDX-License-Identifier: Apache-2.0
 *
 * exchange.h - one request from its first line to its last byte, as libmicrohttpd's callbacks.
 *
 * A request passes, in this order: length of the target (414), Host (421), rate (429), method and route (404, 405),
 * who asks (401, 403), Origin of a write (403), parameters (400), size of the body (413), negotiation (406) - all
 * before a byte of the body is read - and then the body and the handler. serve.c and exchange.c are the only files
 * that know libmicrohttpd.
 *
 * Threads: each worker of libmicrohttpd polls its own connections and runs handlers; everything a handler sees is
 * immutable or locks itself. Event streams occupy no worker: they are suspended until the watch's clock ticks. */
#ifndef AM_EXCHANGE_H
#define AM_EXCHANGE_H

#include "web/guard.h"
#include "web/service.h"
#include "web/watch.h"
#include <microhttpd.h>

enum { EXCHANGE_BODIES_MAX_BYTES = 256 << 20, EXCHANGE_MAX_STREAMS = 64 };

struct server {
    struct service service;
    struct guard guard;
    struct auth *auth; /* NULL: no tokens */
    struct watch *watch;
    struct MHD_Daemon *daemon;
    bool is_tls;
    uint64_t boot; /* random part of request ids */
    atomic_ullong n_requests;
    atomic_llong body_bytes;     /* of all bodies in memory */
    pthread_mutex_t stream_lock; /* guards the list */
    struct exchange_stream *stream;
    int n_streams;
    bool is_stopping;
};

enum MHD_Result exchange_request(void *ctx, struct MHD_Connection *c, const char *url, const char *method,
                                 const char *version, const char *upload, size_t *upload_size, void **state);
void *exchange_target(void *ctx, const char *target, struct MHD_Connection *c);
void exchange_end(void *ctx, struct MHD_Connection *c, void **state, enum MHD_RequestTerminationCode why);
void exchange_connection(void *ctx, struct MHD_Connection *c, void **context,
                         enum MHD_ConnectionNotificationCode code);
size_t exchange_keep_escapes(void *ctx, struct MHD_Connection *c, char *s);

/* Wakes all event streams; with `end`, they end. */
void exchange_wake_streams(struct server *s, bool end);

#endif
