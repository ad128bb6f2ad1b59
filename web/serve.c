/* SPDX-License-Identifier: Apache-2.0
 * serve.c - the running server (serve.h): libmicrohttpd's threads, the guard in front of every request, and
 * dispatch through the route table. The only file that knows libmicrohttpd.
 *
 * A request passes, in this order: length of the target (414), Host (421: a page of another site whose name
 * was pointed at this machine must not read the map), method and route (404, 405), parameters (400),
 * negotiation (406), handler. Threads: SERVE_THREADS workers each poll their own connections and run
 * handlers; everything a handler sees is immutable or locks itself. Signals are blocked in the workers, so
 * the caller's thread takes them. */
#include "web/serve.h"

#include "models/base/file.h"
#include "models/base/mem.h"
#include "web/http.h"
#include "web/routes.h"
#include "web/service.h"
#include <arpa/inet.h>
#include <assert.h>
#include <cpl_conv.h>
#include <ctype.h>
#include <errno.h>
#include <gdal_frmts.h>
#include <microhttpd.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
    SERVE_THREADS = 8, /* below TILES_MAX_OPEN, which tile_render.c counts on */
    SERVE_MAX_CONNECTIONS = 256,
    SERVE_IDLE_SECONDS = 30,
    SERVE_STOP_SECONDS = 10,
    CONNECTION_MEMORY_BYTES = 32 << 10,
    BODY_MAX_BYTES = 64 << 10 /* nothing takes a body yet; small ones are read past to keep the connection */
};

struct serve {
    struct service service;
    struct MHD_Daemon *daemon;
    char base_url[256]; /* "" : follow the Host header */
    char bound[80];     /* "127.0.0.1:8080" */
    uint16_t port;
    uint64_t boot; /* random part of request ids */
    atomic_ullong n_requests;
    atomic_int n_active;
};

/* One request from its first line to its last byte. */
struct exchange {
    struct serve *s;
    char *target; /* as sent */
    size_t body_bytes;
    bool is_counted;
};

/* ---- replies into libmicrohttpd
 * ---------------------------------------------------------------------------------- */

static void add_header(struct MHD_Response *r, const char *name, const char *value)
{
    MHD_add_response_header(r, name, value);
}

static enum MHD_Result send_reply(struct MHD_Connection *c, const struct http_request *q,
                                  struct http_reply *a)
{
    struct MHD_Response *r;
    if (a->fd >= 0) {
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
    if (!r) {
        http_reply_free(a);
        return MHD_NO;
    }
    if (a->type)
        add_header(r, "Content-Type", a->type);
    for (int i = 0; i < a->n_headers; i++)
        add_header(r, a->header[i].name, a->header[i].value);
    add_header(r, "X-Request-Id", q->id);
    add_header(r, "X-Content-Type-Options", "nosniff");
    add_header(r, "Content-Security-Policy",
               "default-src 'self'; img-src 'self' data: blob:; object-src 'none'; base-uri 'none'; "
               "form-action 'none'; "
               "frame-ancestors 'none'");
    add_header(r, "Referrer-Policy", "no-referrer");
    add_header(r, "Cross-Origin-Resource-Policy", "same-origin");
    enum MHD_Result ok = MHD_queue_response(c, (unsigned)a->status, r);
    MHD_destroy_response(r);
    http_reply_free(a);
    return ok;
}

/* ---- the guard
 * ---------------------------------------------------------------------------------------------------- */

static const char *connection_header(const void *ctx, const char *name)
{
    return MHD_lookup_connection_value((struct MHD_Connection *)(uintptr_t)ctx, MHD_HEADER_KIND, name);
}

/* The host's length in "name:port" or "[::1]:port"; 0 when it is malformed. */
static size_t host_size(const char *host)
{
    size_t n = *host == '[' ? strcspn(host, "]") + (strchr(host, ']') != NULL) : strcspn(host, ":");
    const char *port = host + n;
    if (*port && (*port != ':' || strlen(port) < 2 || strlen(port) > 6 ||
                  strspn(port + 1, "0123456789") != strlen(port + 1)))
        return 0;
    return n;
}

static bool is_loopback_name(const char *host, size_t n)
{
    char text[64];
    struct in_addr v4;
    if (n == 9 && strncasecmp(host, "localhost", 9) == 0)
        return true;
    if (n == 5 && memcmp(host, "[::1]", 5) == 0)
        return true;
    if (n >= sizeof text)
        return false;
    memcpy(text, host, n);
    text[n] = '\0';
    return inet_pton(AF_INET, text, &v4) == 1 && ntohl(v4.s_addr) >> 24 == 127;
}

/* Checks Host and sets what absolute links start with. */
static bool choose_base(const struct serve *s, struct http_request *q, const char *host)
{
    const char *own = *s->base_url ? strstr(s->base_url, "://") : NULL;
    size_t n = host ? host_size(host) : 0;
    if (host && n == 0)
        return false;
    bool is_own =
        own && host && strncasecmp(own + 3, host, n) == 0 && strchr(":/", own[3 + n]); /* or at its end */
    if (host && !is_own && !is_loopback_name(host, n))
        return false;
    if (*s->base_url)
        snprintf(q->base, sizeof q->base, "%s", s->base_url);
    else
        snprintf(q->base, sizeof q->base, "http://%s", host ? host : s->bound);
    return true;
}

/* A client's own id is kept when it is harmless, so that its log and ours can be joined. */
static void choose_id(struct serve *s, struct http_request *q)
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

static void answer(struct serve *s, struct http_request *q, const char *method, const char *target,
                   struct http_reply *a)
{
    const char *arg[ROUTE_MAX_ARGS] = {NULL};
    struct err e = {0};
    if (!target || strlen(target) > HTTP_MAX_TARGET) {
        http_problem(q, a, 414, NULL, "the target is longer than %d bytes", HTTP_MAX_TARGET);
        return;
    }
    if (!choose_base(s, q, http_header(q, "Host"))) {
        http_problem(q, a, 421, NULL, "this server answers only to its own name on this machine");
        return;
    }
    if (!http_request_parse(q, target, &e)) {
        http_problem(q, a, e.code == ERR_INPUT ? 400 : err_http_status(e.code), NULL, "%s", e.msg);
        return;
    }
    const struct route *r = routes_match(method, q, arg, a);
    if (r && routes_negotiate(r, q, a))
        r->handler(&s->service, q, arg, a);
}

static enum MHD_Result on_request(void *ctx, struct MHD_Connection *c, const char *url, const char *method,
                                  const char *version, const char *upload, size_t *upload_size, void **state)
{
    struct serve *s = ctx;
    struct exchange *x = *state;
    (void)url;
    (void)version;
    (void)upload;
    if (!x)
        return MHD_NO; /* no memory for it: the connection closes */
    bool is_read = strcmp(method, "GET") == 0 || strcmp(method, "HEAD") == 0;
    if (!x->is_counted) {
        x->is_counted = true;
        atomic_fetch_add(&s->n_active, 1);
        if (is_read)
            return MHD_YES; /* comes again when the whole request is here */
    } else if (*upload_size) {
        x->body_bytes += *upload_size;
        *upload_size = 0;
        return x->body_bytes > BODY_MAX_BYTES ? MHD_NO : MHD_YES;
    }
    struct http_request q = {
        .header = connection_header, .header_ctx = c, .is_head = strcmp(method, "HEAD") == 0};
    struct http_reply a;
    http_reply_init(&a);
    choose_id(s, &q);
    answer(s, &q, q.is_head ? "GET" : method, x->target, &a);
    enum MHD_Result ok = send_reply(c, &q, &a);
    http_request_free(&q);
    return ok;
}

static void *on_target(void *ctx, const char *target, struct MHD_Connection *c)
{
    struct exchange *x = calloc(1, sizeof *x);
    (void)c;
    if (!x)
        return NULL;
    x->s = ctx;
    x->target = strdup(target);
    return x;
}

static void on_end(void *ctx, struct MHD_Connection *c, void **state, enum MHD_RequestTerminationCode why)
{
    struct exchange *x = *state;
    (void)ctx;
    (void)c;
    (void)why;
    if (!x)
        return;
    if (x->is_counted)
        atomic_fetch_sub(&x->s->n_active, 1);
    free(x->target);
    free(x);
    *state = NULL;
}

/* libmicrohttpd would decode the path in place, where an encoded NUL or slash could no longer be told; http.c
 * does it. */
static size_t keep_escapes(void *ctx, struct MHD_Connection *c, char *s)
{
    (void)ctx;
    (void)c;
    return strlen(s);
}

/* ---- lookups for handlers
 * ------------------------------------------------------------------------------------------ */

const struct assessment *service_assessment(const struct service *s, const struct http_request *q,
                                            const char *id, struct http_reply *a)
{
    for (int i = 0; i < s->n; i++)
        if (strcmp(s->assessment[i]->id, id) == 0)
            return s->assessment[i];
    http_problem(q, a, 404, NULL, "there is no map '%.60s'; /assessments lists them", id);
    return NULL;
}

const struct assessment *service_collection(const struct service *s, const struct http_request *q,
                                            const char *id, struct http_reply *a)
{
    for (int i = 0; i < s->n; i++)
        if (strcmp(s->assessment[i]->collection_id, id) == 0)
            return s->assessment[i];
    http_problem(q, a, 404, NULL, "there is no collection '%.60s'; /collections lists them", id);
    return NULL;
}

/* ---- start and stop
 * ------------------------------------------------------------------------------------------------ */

/* Two folders of one name would share an id: the later gets a number. */
static bool distinguish(struct service *s, int i, struct err *e)
{
    struct assessment *as = s->assessment[i];
    char *plain = as->id;
    for (int number = 2;; number++) {
        bool is_taken = false;
        for (int k = 0; k < i; k++)
            is_taken |= strcmp(s->assessment[k]->id, as->id) == 0;
        if (!is_taken)
            break;
        if (as->id != plain)
            free(as->id);
        free(as->collection_id);
        as->collection_id = NULL;
        if (asprintf(&as->id, "%s-%d", plain, number) < 0 ||
            asprintf(&as->collection_id, "%s.buildings", as->id) < 0) {
            as->id = plain;
            return err_set(e, ERR_RESOURCE, "memory ran out");
        }
    }
    if (as->id != plain)
        free(plain);
    return true;
}

static bool open_maps(struct service *s, const struct serve_options *o, struct err *e)
{
    if (o->n_dirs < 1)
        return err_set(e, ERR_USAGE, "there is nothing to serve; give a folder that 'aftermap assess' made");
    s->assessment = mem_array((size_t)o->n_dirs, sizeof *s->assessment, "the maps", e);
    s->tiles = s->assessment ? tile_store_create(e) : NULL;
    if (!s->tiles)
        return false;
    for (int i = 0; i < o->n_dirs; i++) {
        s->assessment[i] = assessment_open(o->dirs[i], e);
        if (!s->assessment[i])
            return false;
        s->n++;
        if (!distinguish(s, i, e))
            return false;
    }
    return true;
}

static bool parse_bind(const char *bind, uint16_t port, struct sockaddr_storage *sa, socklen_t *size,
                       struct err *e)
{
    struct sockaddr_in *v4 = (struct sockaddr_in *)sa;
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)sa;
    *sa = (struct sockaddr_storage){0};
    if (strcmp(bind, "localhost") == 0)
        bind = "127.0.0.1";
    if (inet_pton(AF_INET, bind, &v4->sin_addr) == 1) {
        v4->sin_family = AF_INET;
        v4->sin_port = htons(port);
        *size = sizeof *v4;
        if (ntohl(v4->sin_addr.s_addr) >> 24 == 127)
            return true;
    } else if (inet_pton(AF_INET6, bind, &v6->sin6_addr) == 1) {
        v6->sin6_family = AF_INET6;
        v6->sin6_port = htons(port);
        *size = sizeof *v6;
        if (IN6_IS_ADDR_LOOPBACK(&v6->sin6_addr))
            return true;
    } else {
        return err_set(e, ERR_USAGE, "'%s' is no address to bind to; use 127.0.0.1 or ::1", bind);
    }
    return err_set(
        e, ERR_USAGE,
        "'%s' can be reached from other machines, and the server has no accounts; bind to 127.0.0.1 and "
        "forward the port with ssh -L",
        bind);
}

static int open_socket(struct serve *s, const struct serve_options *o, struct err *e)
{
    struct sockaddr_storage sa;
    socklen_t size = 0;
    const int on = 1;
    const char *bind_to = o->bind ? o->bind : "127.0.0.1";
    if (!parse_bind(bind_to, o->port, &sa, &size, e))
        return -1;
    int fd = socket(sa.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0 ||
        bind(fd, (struct sockaddr *)&sa, size) != 0 || listen(fd, 128) != 0 ||
        getsockname(fd, (struct sockaddr *)&sa, &size) != 0) {
        int failed = errno;
        if (failed == EADDRINUSE)
            err_set(e, ERR_SERVE, "port %u of %s is in use; choose another with --port", o->port, bind_to);
        else
            err_errno(e, ERR_SERVE, failed, "port %u of %s cannot be bound", o->port, bind_to);
        if (fd >= 0)
            close(fd);
        return -1;
    }
    char text[INET6_ADDRSTRLEN];
    if (sa.ss_family == AF_INET6) {
        s->port = ntohs(((struct sockaddr_in6 *)&sa)->sin6_port);
        inet_ntop(AF_INET6, &((struct sockaddr_in6 *)&sa)->sin6_addr, text, sizeof text);
        snprintf(s->bound, sizeof s->bound, "[%s]:%u", text, s->port);
    } else {
        s->port = ntohs(((struct sockaddr_in *)&sa)->sin_port);
        inet_ntop(AF_INET, &((struct sockaddr_in *)&sa)->sin_addr, text, sizeof text);
        snprintf(s->bound, sizeof s->bound, "%s:%u", text, s->port);
    }
    return fd;
}

static bool take_base_url(struct serve *s, const char *url, struct err *e)
{
    if (!url)
        return true;
    size_t n = strlen(url);
    while (n && url[n - 1] == '/')
        n--;
    if ((strncmp(url, "http://", 7) != 0 && strncmp(url, "https://", 8) != 0) || n < 8 ||
        n >= sizeof s->base_url || strcspn(url, " \"<>\\?#\r\n") != strlen(url))
        return err_set(e, ERR_USAGE, "'%.100s' is no base URL; give one such as http://localhost:8080", url);
    snprintf(s->base_url, sizeof s->base_url, "%.*s", (int)n, url);
    return true;
}

/* Drivers the server itself writes with or reads by; registering one twice is harmless. What it may open is
 * listed where it opens, so drivers that others registered are not reached. */
static void prepare_gdal(void)
{
    GDALRegister_GTiff();
    GDALRegister_MEM();
    GDALRegister_PNG();
    CPLSetConfigOption("GDAL_PAM_ENABLED", "NO");
    CPLSetConfigOption("GDAL_DISABLE_READDIR_ON_OPEN", "EMPTY_DIR");
}

static bool start_daemon(struct serve *s, int fd, struct err *e)
{
    sigset_t all, old;
    unsigned flags = MHD_USE_EPOLL_INTERNAL_THREAD | MHD_USE_ITC;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &old);
    s->daemon = MHD_start_daemon(
        flags, 0, NULL, NULL, on_request, s, MHD_OPTION_LISTEN_SOCKET, fd, MHD_OPTION_THREAD_POOL_SIZE,
        (unsigned)SERVE_THREADS, MHD_OPTION_CONNECTION_LIMIT, (unsigned)SERVE_MAX_CONNECTIONS,
        MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)SERVE_IDLE_SECONDS, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
        (size_t)CONNECTION_MEMORY_BYTES, MHD_OPTION_STRICT_FOR_CLIENT, 1, MHD_OPTION_URI_LOG_CALLBACK,
        on_target, s, MHD_OPTION_UNESCAPE_CALLBACK, keep_escapes, NULL, MHD_OPTION_NOTIFY_COMPLETED, on_end,
        s, MHD_OPTION_END);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (s->daemon)
        return true;
    close(fd);
    return err_set(e, ERR_SERVE, "the server's threads cannot be started");
}

struct serve *serve_start(const struct serve_options *o, struct err *e)
{
    struct serve *s = mem_array(1, sizeof *s, "the server", e);
    int fd = -1;
    if (!s)
        return NULL;
    prepare_gdal();
    if (getrandom(&s->boot, sizeof s->boot, 0) != sizeof s->boot)
        s->boot = (uint64_t)time(NULL);
    if (!take_base_url(s, o->base_url, e) || (fd = open_socket(s, o, e)) < 0)
        goto fail;
    if (!open_maps(&s->service, o, e)) {
        close(fd);
        goto fail;
    }
    if (start_daemon(s, fd, e))
        return s;
fail:
    serve_stop(s);
    return NULL;
}

uint16_t serve_port(const struct serve *s)
{
    return s->port;
}

void serve_stop(struct serve *s)
{
    if (!s)
        return;
    if (s->daemon) {
        /* No new connections; requests under way get some time to end. */
        int fd = MHD_quiesce_daemon(s->daemon);
        for (int i = 0; i < SERVE_STOP_SECONDS * 100 && atomic_load(&s->n_active) > 0; i++)
            nanosleep(&(struct timespec){.tv_nsec = 10 * 1000 * 1000}, NULL);
        MHD_stop_daemon(s->daemon);
        if (fd >= 0)
            close(fd);
    }
    for (int i = 0; i < s->service.n; i++)
        assessment_close(s->service.assessment[i]);
    free(s->service.assessment);
    tile_store_free(s->service.tiles);
    free(s);
}
