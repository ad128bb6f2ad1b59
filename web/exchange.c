/* SPDX-License-Identifier: Apache-2.0
 * exchange.c - the course of one request (exchange.h). */
#include "web/exchange.h"

#include "models/base/mem.h"
#include "web/encode.h"
#include "web/routes.h"
#include <assert.h>
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct exchange {
    struct server *s;
    char *target; /* as sent */
    bool is_begun, is_replied;
    int64_t begun_ms;
    struct watch_connection *watch;
    const struct route *route; /* NULL: the reply is complete */
    struct http_request q;
    struct http_reply a;
    const char *arg[ROUTE_MAX_ARGS];
    char *body; /* [body_size] of body_room, a NUL after it */
    size_t body_size, body_room;
};

/* ---- event streams
 * ------------------------------------------------------------------------------------------------ */

/* A suspended connection and what feeds it. It leaves the list before it is freed, under the lock, so that the watch
 * never wakes a connection that has gone. */
struct exchange_stream {
    struct server *s;
    struct MHD_Connection *connection;
    struct http_stream source;
    struct exchange_stream *next;
    bool is_suspended;
};

static ssize_t stream_read(void *ctx, uint64_t position, char *out, size_t size)
{
    struct exchange_stream *t = ctx;
    (void)position;
    pthread_mutex_lock(&t->s->stream_lock);
    bool is_stopping = t->s->is_stopping;
    pthread_mutex_unlock(&t->s->stream_lock);
    int64_t n = is_stopping ? -1 : t->source.read(t->source.ctx, out, size);
    if (n < 0)
        return MHD_CONTENT_READER_END_OF_STREAM;
    if (n == 0) {
        pthread_mutex_lock(&t->s->stream_lock);
        if (!t->s->is_stopping) {
            t->is_suspended = true;
            MHD_suspend_connection(t->connection);
        }
        pthread_mutex_unlock(&t->s->stream_lock);
    }
    return (ssize_t)n;
}

static void stream_free(void *ctx)
{
    struct exchange_stream *t = ctx, **at = &t->s->stream;
    pthread_mutex_lock(&t->s->stream_lock);
    while (*at != t)
        at = &(*at)->next;
    *at = t->next;
    t->s->n_streams--;
    pthread_mutex_unlock(&t->s->stream_lock);
    t->source.close(t->source.ctx);
    free(t);
}

void exchange_wake_streams(struct server *s, bool end)
{
    pthread_mutex_lock(&s->stream_lock);
    s->is_stopping |= end;
    for (struct exchange_stream *t = s->stream; t; t = t->next) {
        if (t->is_suspended) {
            t->is_suspended = false;
            MHD_resume_connection(t->connection);
        }
    }
    pthread_mutex_unlock(&s->stream_lock);
}

static struct MHD_Response *stream_response(struct server *s, struct MHD_Connection *c, struct http_reply *a)
{
    struct exchange_stream *t = calloc(1, sizeof *t);
    if (!t)
        return NULL;
    *t = (struct exchange_stream){.s = s, .connection = c, .source = a->stream};
    pthread_mutex_lock(&s->stream_lock);
    t->next = s->stream;
    s->stream = t;
    s->n_streams++;
    pthread_mutex_unlock(&s->stream_lock);
    a->stream = (struct http_stream){0};
    struct MHD_Response *r =
        MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, 4096, stream_read, t, stream_free);
    if (!r)
        stream_free(t);
    return r;
}

/* ---- replies into libmicrohttpd
 * ---------------------------------------------------------------------------------- */

static void add_headers(struct MHD_Response *r, const struct server *s, const struct http_request *q,
                        const struct http_reply *a)
{
    static const char *const always[][2] = {
        {"X-Content-Type-Options", "nosniff"},
        {"Content-Security-Policy", "default-src 'self'; img-src 'self' data: blob:; object-src 'none'; "
                                    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"},
        {"X-Frame-Options", "DENY"},
        {"Referrer-Policy", "no-referrer"},
        {"Permissions-Policy", "geolocation=(), camera=(), microphone=()"},
    };
    const char *origin = guard_cors(&s->guard, q);
    if (a->type)
        MHD_add_response_header(r, "Content-Type", a->type);
    for (int i = 0; i < a->n_headers; i++)
        MHD_add_response_header(r, a->header[i].name, a->header[i].value);
    MHD_add_response_header(r, "X-Request-Id", q->id);
    /* A reply's own comes in the place of the general one: of two policies a browser obeys both. */
    for (size_t i = 0; i < sizeof always / sizeof *always; i++)
        if (!MHD_get_response_header(r, always[i][0]))
            MHD_add_response_header(r, always[i][0], always[i][1]);
    MHD_add_response_header(r, "Cross-Origin-Resource-Policy", origin ? "cross-origin" : "same-origin");
    if (origin) {
        MHD_add_response_header(r, "Access-Control-Allow-Origin", origin);
        MHD_add_response_header(r, "Access-Control-Expose-Headers",
                                "ETag, Location, Content-Crs, Content-Range, Link, X-Request-Id");
    }
    if (s->guard.n_origins)
        MHD_add_response_header(r, "Vary", "Origin");
    if (s->is_tls)
        MHD_add_response_header(r, "Strict-Transport-Security", "max-age=31536000");
}

static enum MHD_Result send_reply(struct exchange *x, struct MHD_Connection *c)
{
    struct http_reply *a = &x->a;
    struct MHD_Response *r;
    uint64_t size = a->size;
    encode_reply(&x->q, a);
    size = a->size;
    if (a->stream.read) {
        r = stream_response(x->s, c, a);
    } else if (a->fd >= 0) {
        size = a->length;
        r = MHD_create_response_from_fd_at_offset64(a->length, a->fd, a->offset);
        if (r)
            a->fd = -1; /* closed with the response */
    } else if (a->body) {
        r = MHD_create_response_from_buffer(a->size, a->body, MHD_RESPMEM_MUST_FREE);
        if (r)
            a->body = NULL;
    } else {
        r = MHD_create_response_from_buffer(a->size, (void *)(uintptr_t)a->fixed, MHD_RESPMEM_PERSISTENT);
    }
    x->is_replied = true;
    if (!r)
        return MHD_NO;
    add_headers(r, x->s, &x->q, a);
    int n_routes;
    const struct route *table = routes_table(&n_routes);
    telemetry_count(&x->s->service.telemetry, x->route ? (int)(x->route - table) : -1, a->status,
                    (watch_now_ms() - x->begun_ms) * 1000, x->q.is_head ? 0 : size);
    watch_enter_phase(x->watch, WATCH_ANSWER);
    enum MHD_Result ok = MHD_queue_response(c, (unsigned)a->status, r);
    MHD_destroy_response(r);
    return ok;
}

/* ---- the guards in front of a handler
 * ------------------------------------------------------------------------- */

static const char *connection_header(const void *ctx, const char *name)
{
    return MHD_lookup_connection_value((struct MHD_Connection *)(uintptr_t)ctx, MHD_HEADER_KIND, name);
}

/* A client's own id is kept when it is harmless, so that its log and ours can be joined. */
static void choose_id(struct server *s, struct http_request *q)
{
    const char *sent = http_header(q, "X-Request-Id");
    size_t n = sent ? strlen(sent) : 0, i = 0;
    while (i < n && (isalnum((unsigned char)sent[i]) || strchr("._-", sent[i])))
        i++;
    if (n >= 1 && n < sizeof q->id && i == n)
        memcpy(q->id, sent, n + 1);
    else
        snprintf(q->id, sizeof q->id, "%016llx-%llx", (unsigned long long)s->boot,
                 (unsigned long long)atomic_fetch_add(&s->n_requests, 1));
}

/* The rate of an address; a wrong token costs as much as a second's worth of requests. False: a 429. */
static bool check_rate(struct exchange *x, struct MHD_Connection *c, double cost)
{
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(c, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
    int wait = guard_rate(&x->s->guard, info ? info->client_addr : NULL, cost, watch_now_ms());
    if (wait == 0)
        return true;
    atomic_fetch_add(&x->s->service.telemetry.limited, 1);
    http_problem(&x->q, &x->a, 429, NULL, "too many requests from this address; go on in %d s", wait);
    http_reply_header(&x->a, "Retry-After", "%d", wait);
    return false;
}

static bool check_user(struct exchange *x, const struct route *r)
{
    struct http_request *q = &x->q;
    if (r->role <= q->user.role)
        return true;
    if (q->user.role == AUTH_NOBODY) {
        http_problem(q, &x->a, 401, NULL,
                     "this needs a token: send it as Authorization: Bearer, or sign in on the page");
        http_reply_header(&x->a, "WWW-Authenticate", "Bearer realm=\"aftermap\"");
    } else {
        http_problem(q, &x->a, 403, NULL, "'%s' is a %s, and this needs the role %s", q->user.name,
                     auth_role_name(q->user.role), auth_role_name(r->role));
        http_reply_header(&x->a, "WWW-Authenticate",
                          "Bearer realm=\"aftermap\", error=\"insufficient_scope\"");
    }
    return false;
}

static bool check_body(struct exchange *x, const struct route *r)
{
    const char *length = http_header(&x->q, "Content-Length");
    size_t limit = r->body ? r->body->max_bytes : ROUTE_NO_BODY_BYTES;
    char *end;
    unsigned long long n = length ? strtoull(length, &end, 10) : 0;
    if (n <= limit)
        return true;
    http_problem(&x->q, &x->a, 413, NULL, "the body has %llu bytes; %zu are allowed here", n, limit);
    return false;
}

/* A page of an allowed origin asks whether it may (Fetch standard, CORS preflight). */
static bool answer_preflight(struct exchange *x, const char *method)
{
    if (strcmp(method, "OPTIONS") != 0 || !guard_cors(&x->s->guard, &x->q) ||
        !http_header(&x->q, "Access-Control-Request-Method"))
        return false;
    x->a.status = 204;
    http_reply_header(&x->a, "Access-Control-Allow-Methods", "GET, HEAD, POST, PUT, PATCH, DELETE");
    http_reply_header(
        &x->a, "Access-Control-Allow-Headers",
        "Authorization, Content-Type, Content-Range, If-Match, If-None-Match, Prefer, X-Request-Id");
    http_reply_header(&x->a, "Access-Control-Max-Age", "600");
    return true;
}

/* All that can be said before the body. Leaves x->route NULL when the reply is complete. */
static void begin(struct exchange *x, struct MHD_Connection *c, const char *method)
{
    struct http_request *q = &x->q;
    struct server *s = x->s;
    struct err e = {0};
    bool is_read = strcmp(method, "GET") == 0 || strcmp(method, "HEAD") == 0;
    q->header = connection_header;
    q->header_ctx = c;
    q->is_head = strcmp(method, "HEAD") == 0;
    q->method = q->is_head ? "GET" : method;
    choose_id(s, q);
    if (!x->target || strlen(x->target) > HTTP_MAX_TARGET) {
        snprintf(q->base, sizeof q->base, "%s://%s", s->guard.scheme, s->guard.bound);
        http_problem(q, &x->a, 414, NULL, "the target is longer than %d bytes", HTTP_MAX_TARGET);
        return;
    }
    if (!guard_host(&s->guard, q, &x->a) || !check_rate(x, c, 1))
        return;
    /* A proxy may go by the one and we by the other, and take the rest for a request (RFC 9112, 6.1). The connection
     * closes. */
    if (http_header(q, "Transfer-Encoding") && http_header(q, "Content-Length")) {
        http_problem(q, &x->a, 400, NULL, "a body has either a Content-Length or a Transfer-Encoding");
        return;
    }
    if (!http_request_parse(q, x->target, &e)) {
        http_problem(q, &x->a, e.code == ERR_INPUT ? 400 : err_http_status(e.code), NULL, "%s", e.msg);
        return;
    }
    if (answer_preflight(x, method))
        return;
    const struct route *r = routes_match(q->method, q, s->service.workflow != NULL, x->arg, &x->a);
    if (!r)
        return;
    auth_by_headers(s->auth, http_header(q, "Authorization"), http_header(q, "Cookie"), time(NULL), &q->user);
    if (s->auth && q->user.role == AUTH_NOBODY && http_header(q, "Authorization") &&
        !check_rate(x, c, s->guard.rate + 10))
        return;
    if (check_user(x, r) && (is_read || guard_origin(&s->guard, q, &x->a)) &&
        routes_check_params(r, q, &x->a) && check_body(x, r) && routes_negotiate(r, q, &x->a))
        x->route = r;
}

/* ---- the body
 * ----------------------------------------------------------------------------------------------------- */

static bool take_bytes(struct exchange *x, const char *data, size_t n)
{
    size_t limit = x->route && x->route->body ? x->route->body->max_bytes : ROUTE_NO_BODY_BYTES;
    atomic_fetch_add(&x->watch->body_bytes, (long long)n);
    if (x->body_size + n > limit) /* a chunked body that never said its length */
        return false;
    if (!x->route || !x->route->body) {
        x->body_size += n;
        return true;
    }
    if (x->body_size + n >= x->body_room) {
        size_t room = 2 * (x->body_size + n) + 256;
        room = room > limit + 1 ? limit + 1 : room;
        long long more = (long long)room - (long long)x->body_room;
        if (atomic_fetch_add(&x->s->body_bytes, more) + more > EXCHANGE_BODIES_MAX_BYTES ||
            !mem_grow(&x->body, room, 1, "a body", NULL)) {
            atomic_fetch_sub(&x->s->body_bytes, more);
            return false;
        }
        x->body_room = room;
    }
    memcpy(x->body + x->body_size, data, n);
    x->body_size += n;
    x->body[x->body_size] = '\0';
    return true;
}

static void run_handler(struct exchange *x)
{
    struct service *service = &x->s->service;
    x->q.body = x->body;
    x->q.body_size = x->body ? x->body_size : 0;
    bool is_stream = x->route->flags & ROUTE_STREAM;
    if (is_stream) {
        pthread_mutex_lock(&x->s->stream_lock);
        int n = x->s->n_streams;
        pthread_mutex_unlock(&x->s->stream_lock);
        if (n >= EXCHANGE_MAX_STREAMS) {
            http_problem(&x->q, &x->a, 503, NULL, "%d event streams are open already", n);
            http_reply_header(&x->a, "Retry-After", "30");
            return;
        }
    }
    /* Maps are replaced under the writing side of this lock; routes of the workflow look after themselves. */
    bool is_locked = !(x->route->flags & ROUTE_WORKFLOW);
    if (is_locked)
        pthread_rwlock_rdlock(&service->maps_lock);
    x->route->handler(service, &x->q, x->arg, &x->a);
    if (is_locked)
        pthread_rwlock_unlock(&service->maps_lock);
}

enum MHD_Result exchange_request(void *ctx, struct MHD_Connection *c, const char *url, const char *method,
                                 const char *version, const char *upload, size_t *upload_size, void **state)
{
    struct exchange *x = *state;
    (void)ctx;
    (void)url;
    (void)version;
    if (!x)
        return MHD_NO; /* no memory for it: the connection closes */
    if (!x->is_begun) {
        const union MHD_ConnectionInfo *info = MHD_get_connection_info(c, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
        x->watch = info ? info->socket_context : NULL;
        if (!x->watch)
            return MHD_NO;
        x->is_begun = true;
        x->begun_ms = watch_now_ms();
        atomic_fetch_add(&x->s->service.telemetry.active, 1);
        watch_enter_phase(x->watch, WATCH_BODY);
        begin(x, c, method);
        const char *length = http_header(&x->q, "Content-Length");
        bool has_body = http_header(&x->q, "Transfer-Encoding") || (length && strcmp(length, "0") != 0);
        /* A refusal need not wait for a body that nobody reads; the connection closes after it. */
        return !x->route && has_body ? send_reply(x, c) : MHD_YES;
    }
    if (*upload_size) {
        bool ok = take_bytes(x, upload, *upload_size);
        *upload_size = 0;
        return ok ? MHD_YES : MHD_NO;
    }
    if (x->is_replied)
        return MHD_YES;
    watch_enter_phase(x->watch, WATCH_ANSWER); /* from here on it is ours to be quick */
    if (x->route)
        run_handler(x);
    if (x->route && x->a.status == 401) /* a guess at a token costs more than a request */
        check_rate(x, c, x->s->guard.rate + 10);
    return send_reply(x, c);
}

/* ---- begin and end
 * ------------------------------------------------------------------------------------------------ */

void *exchange_target(void *ctx, const char *target, struct MHD_Connection *c)
{
    struct exchange *x = calloc(1, sizeof *x);
    (void)c;
    if (!x)
        return NULL;
    x->s = ctx;
    x->target = strdup(target);
    http_reply_init(&x->a);
    return x;
}

void exchange_end(void *ctx, struct MHD_Connection *c, void **state, enum MHD_RequestTerminationCode why)
{
    struct exchange *x = *state;
    (void)ctx;
    (void)c;
    (void)why;
    if (!x)
        return;
    if (x->is_begun) {
        atomic_fetch_sub(&x->s->service.telemetry.active, 1);
        watch_enter_phase(x->watch, WATCH_HEADERS); /* of the next request on this connection */
    }
    atomic_fetch_sub(&x->s->body_bytes, (long long)x->body_room);
    http_reply_free(&x->a);
    http_request_free(&x->q);
    free(x->body);
    free(x->target);
    free(x);
    *state = NULL;
}

void exchange_connection(void *ctx, struct MHD_Connection *c, void **context,
                         enum MHD_ConnectionNotificationCode code)
{
    struct server *s = ctx;
    if (code == MHD_CONNECTION_NOTIFY_STARTED) {
        const union MHD_ConnectionInfo *info = MHD_get_connection_info(c, MHD_CONNECTION_INFO_CONNECTION_FD);
        *context = info ? watch_enter(s->watch, info->connect_fd) : NULL;
    } else if (*context) {
        watch_leave(s->watch, *context);
        *context = NULL;
    }
}

/* libmicrohttpd would decode the path in place, where an encoded NUL or slash could no longer be told; http.c does
 * it. */
size_t exchange_keep_escapes(void *ctx, struct MHD_Connection *c, char *s)
{
    (void)ctx;
    (void)c;
    return strlen(s);
}
