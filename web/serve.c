/* SPDX-License-Identifier: Apache-2.0
 * serve.c - putting the running server together and taking it apart (serve.h): socket, tokens, certificates, maps,
 * libmicrohttpd's threads. What happens to a request is exchange.c's. Signals are blocked in all threads made here, so
 * the caller's thread takes them. */
#include "web/serve.h"

#include "models/base/file.h"
#include "models/base/mem.h"
#include "web/exchange.h"
#include "web/listen.h"
#include "web/tables.h"
#include "web/workflow.h"
#include <assert.h>
#include <cpl_conv.h>
#include <gdal_frmts.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

/* Exported; declared in no header for C. */
void CPL_DLL RegisterOGRMEM(void);
void CPL_DLL RegisterOGRXLSX(void);

enum {
    SERVE_THREADS = 8, /* below TILES_MAX_OPEN, which tile_render.c counts on */
    SERVE_MAX_CONNECTIONS = 512,
    SERVE_MAX_PER_ADDRESS = 64, /* off loopback; on it a proxy may stand for everybody */
    SERVE_IDLE_SECONDS = 30,
    SERVE_STOP_SECONDS = 10,
    SERVE_RATE = 200,
    CONNECTION_MEMORY_BYTES = 32 << 10, /* more header lines than that are a 431 */
    PEM_MAX_BYTES = 1 << 20
};

struct serve {
    struct server server;
    uint16_t port;
    char *cert, *key; /* PEM */
};

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
    enum table_kind kind;
    const struct assessment *of = tables_parse(s, id, &kind);
    if (of)
        return tables_borrow(s, q, of, kind, a);
    http_problem(q, a, 404, NULL, "there is no collection '%.60s'; /collections lists them", id);
    return NULL;
}

/* Under the writing side of the lock no handler runs that could still draw from the old one. */
static int take_out(struct service *s, const char *id, struct assessment **old)
{
    int i = 0;
    while (i < s->n && strcmp(s->assessment[i]->id, id) != 0)
        i++;
    *old = i < s->n ? s->assessment[i] : NULL;
    if (*old)
        tile_store_forget(s->tiles, *old);
    return i;
}

bool service_show(struct service *s, struct assessment *as, struct err *e)
{
    struct assessment *old;
    pthread_rwlock_wrlock(&s->maps_lock);
    bool ok = mem_grow(&s->assessment, (size_t)s->n + 1, sizeof(struct assessment *), "the maps", e);
    int i = ok ? take_out(s, as->id, &old) : 0;
    if (ok) {
        s->assessment[i] = as;
        s->n += !old;
    }
    pthread_rwlock_unlock(&s->maps_lock);
    assessment_close(ok ? old : as);
    return ok;
}

void service_hide(struct service *s, const char *id)
{
    struct assessment *old;
    pthread_rwlock_wrlock(&s->maps_lock);
    int i = take_out(s, id, &old);
    if (old)
        s->assessment[i] = s->assessment[--s->n];
    pthread_rwlock_unlock(&s->maps_lock);
    assessment_close(old);
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
    if (o->n_dirs < 1 && !o->data_root)
        return err_set(e, ERR_USAGE, "there is nothing to serve; give a folder that 'aftermap assess' made");
    s->assessment = mem_array((size_t)o->n_dirs + 1, sizeof *s->assessment, "the maps", e);
    s->tiles = s->assessment ? tile_store_create(e) : NULL;
    s->tables = s->tiles ? tables_create(e) : NULL;
    if (!s->tables)
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

/* Drivers the server itself writes with or reads by; registering one twice is harmless. What it may open is
 * listed where it opens, so drivers that others registered are not reached. */
static void prepare_gdal(void)
{
    GDALRegister_GTiff();
    GDALRegister_MEM();
    GDALRegister_PNG();
    RegisterOGRMEM();
    RegisterOGRXLSX(); /* to write with; nothing opens by it */
    CPLSetConfigOption("GDAL_PAM_ENABLED", "NO");
    CPLSetConfigOption("GDAL_DISABLE_READDIR_ON_OPEN", "EMPTY_DIR");
    CPLSetConfigOption("OGR_GEOJSON_MAX_OBJ_SIZE",
                       "32"); /* MB a feature, or one polygon takes half a gigabyte */
}

/* A server that others can reach has tokens, unless told otherwise in so many words. */
static bool check_bind(const struct serve_options *o, const char *bind, struct err *e)
{
    bool is_loopback;
    if (!listen_is_loopback(bind, &is_loopback, e))
        return false;
    if (!is_loopback && !o->token_file && !o->is_insecure)
        return err_set(
            e, ERR_USAGE,
            "'%s' can be reached from other machines, and everybody there could read and change everything; "
            "give --token-file (and --tls-cert), or bind to 127.0.0.1 and forward the port with ssh -L",
            bind);
    return true;
}

static bool read_pem(const char *path, char **text, struct err *e)
{
    size_t size;
    *text = path ? file_read(path, PEM_MAX_BYTES, &size, e) : NULL;
    return !path || *text;
}

static bool prepare(struct serve *s, const struct serve_options *o, bool is_loopback, struct err *e)
{
    struct server *v = &s->server;
    double rate = o->rate >= 0 ? o->rate : is_loopback ? 0 : SERVE_RATE;
    if (!o->tls_cert != !o->tls_key)
        return err_set(e, ERR_USAGE, "--tls-cert and --tls-key belong together");
    if (o->tls_cert && MHD_is_feature_supported(MHD_FEATURE_TLS) != MHD_YES)
        return err_set(e, ERR_USAGE, "this system's libmicrohttpd was built without TLS");
    if (!guard_init(&v->guard, o->base_url, o->origins, o->n_origins, rate, e))
        return false;
    v->is_tls = v->service.is_tls = o->tls_cert != NULL;
    v->guard.scheme = v->is_tls ? "https" : "http";
    if (o->token_file && !(v->auth = auth_open(o->token_file, e)))
        return false;
    v->service.auth = v->auth;
    return read_pem(o->tls_cert, &s->cert, e) && read_pem(o->tls_key, &s->key, e);
}

static void on_tick(void *ctx)
{
    exchange_wake_streams(ctx, false);
}

static bool start_daemon(struct serve *s, const struct listen_socket *l, struct err *e)
{
    struct server *v = &s->server;
    unsigned flags = MHD_USE_EPOLL_INTERNAL_THREAD | MHD_USE_ITC | MHD_ALLOW_SUSPEND_RESUME |
                     (v->is_tls ? MHD_USE_TLS : 0);
    struct MHD_OptionItem tls[] = {{MHD_OPTION_HTTPS_MEM_CERT, 0, s->cert},
                                   {MHD_OPTION_HTTPS_MEM_KEY, 0, s->key},
                                   {MHD_OPTION_END, 0, NULL}};
    struct MHD_OptionItem none[] = {{MHD_OPTION_END, 0, NULL}};
    v->daemon = MHD_start_daemon(
        flags, 0, NULL, NULL, exchange_request, v, MHD_OPTION_LISTEN_SOCKET, l->fd,
        MHD_OPTION_THREAD_POOL_SIZE, (unsigned)SERVE_THREADS, MHD_OPTION_CONNECTION_LIMIT,
        (unsigned)SERVE_MAX_CONNECTIONS, MHD_OPTION_PER_IP_CONNECTION_LIMIT,
        (unsigned)(l->is_loopback ? 0 : SERVE_MAX_PER_ADDRESS), MHD_OPTION_CONNECTION_TIMEOUT,
        (unsigned)SERVE_IDLE_SECONDS, MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)CONNECTION_MEMORY_BYTES,
        MHD_OPTION_STRICT_FOR_CLIENT, 1, MHD_OPTION_URI_LOG_CALLBACK, exchange_target, v,
        MHD_OPTION_UNESCAPE_CALLBACK, exchange_keep_escapes, NULL, MHD_OPTION_NOTIFY_COMPLETED, exchange_end,
        v, MHD_OPTION_NOTIFY_CONNECTION, exchange_connection, v, MHD_OPTION_ARRAY, v->is_tls ? tls : none,
        MHD_OPTION_END);
    if (v->daemon)
        return true;
    return err_set(e, ERR_SERVE,
                   v->is_tls
                       ? "the server's threads cannot be started; are certificate and key PEM files that fit?"
                       : "the server's threads cannot be started");
}

struct serve *serve_start(const struct serve_options *o, struct err *e)
{
    struct serve *s = mem_array(1, sizeof *s, "the server", e);
    struct listen_socket l = {.fd = -1};
    const char *bind_to = o->bind ? o->bind : "127.0.0.1";
    sigset_t all, old;
    bool ok = false, is_loopback;
    if (!s)
        return NULL;
    struct server *v = &s->server;
    pthread_rwlockattr_t attr;
    pthread_rwlockattr_init(&attr);
    /* A map that waits to be shown goes before further readers, or a busy server would never show it. */
    pthread_rwlockattr_setkind_np(&attr, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
    pthread_rwlock_init(&v->service.maps_lock, &attr);
    pthread_rwlockattr_destroy(&attr);
    pthread_mutex_init(&v->stream_lock, NULL);
    pthread_mutex_init(&v->guard.lock, NULL);
    prepare_gdal();
    if (getrandom(&v->boot, sizeof v->boot, 0) != sizeof v->boot)
        v->boot = (uint64_t)time(NULL);
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &old);
    if (!check_bind(o, bind_to, e) || !listen_is_loopback(bind_to, &is_loopback, e) ||
        !prepare(s, o, is_loopback, e) || !listen_open(&l, bind_to, o->port, e))
        goto out;
    s->port = l.port;
    snprintf(v->guard.bound, sizeof v->guard.bound, "%s", l.bound);
    v->watch = v->service.watch = watch_start(on_tick, v, e);
    if (!v->watch || !open_maps(&v->service, o, e))
        goto out;
    if (o->data_root) {
        const struct workflow_options w = {o->data_root, o->store_spec, o->max_upload_bytes, o->has_command};
        v->service.workflow = workflow_open(&w, &v->service, e);
        if (!v->service.workflow)
            goto out;
    }
    ok = start_daemon(s, &l, e);
out:
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (!ok) {
        if (l.fd >= 0)
            close(l.fd);
        serve_stop(s);
        s = NULL;
    }
    return s;
}

uint16_t serve_port(const struct serve *s)
{
    return s->port;
}

/* No new connections; requests under way get some time to end, event streams are told to. */
static void stop_daemon(struct server *v)
{
    int fd = MHD_quiesce_daemon(v->daemon);
    exchange_wake_streams(v, true);
    for (int i = 0; i < SERVE_STOP_SECONDS * 100 && atomic_load(&v->service.telemetry.active) > 0; i++)
        nanosleep(&(struct timespec){.tv_nsec = 10 * 1000 * 1000}, NULL);
    MHD_stop_daemon(v->daemon);
    if (fd >= 0)
        close(fd);
}

void serve_stop(struct serve *s)
{
    if (!s)
        return;
    struct server *v = &s->server;
    if (v->daemon)
        stop_daemon(v);
    workflow_close(v->service.workflow);
    watch_stop(v->watch);
    for (int i = 0; i < v->service.n; i++)
        assessment_close(v->service.assessment[i]);
    free(v->service.assessment);
    tables_free(v->service.tables);
    tile_store_free(v->service.tiles);
    auth_free(v->auth);
    guard_close(&v->guard);
    pthread_mutex_destroy(&v->stream_lock);
    pthread_rwlock_destroy(&v->service.maps_lock);
    free(s->cert);
    if (s->key)
        explicit_bzero(s->key, strlen(s->key));
    free(s->key);
    free(s);
}
