/* SPDX-License-Identifier: Apache-2.0
 *
 * store.c - the data root and the assessments in it. Declared in store.h.
 *
 * An assessment comes into being with one rename: its folder is made complete under a hidden name first, so that a
 * folder with a store.gpkg is always a whole assessment. With a database the row is committed before the folder is
 * renamed; a row without a folder (the machine went down in between) shows as an assessment without an event. */
#include "geo/store.h"

#include "geo/store_parts.h"
#include "models/base/file.h"
#include "models/base/mem.h"

#include <cpl_string.h>
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* ---- names and times
 * ------------------------------------------------------------------------------------------------------ */

bool store_is_aid(const char *text)
{
    size_t n = strlen(text);
    if (n < 1 || n > STORE_AID_MAX || !isalnum((unsigned char)text[0]))
        return false;
    return strspn(text, "abcdefghijklmnopqrstuvwxyz0123456789_-") == n;
}

void store_time_now(char out[STORE_TIME_SIZE])
{
    struct timespec t;
    struct tm tm;
    char seconds[20];
    clock_gettime(CLOCK_REALTIME, &t);
    gmtime_r(&t.tv_sec, &tm);
    if (!strftime(seconds, sizeof seconds, "%Y-%m-%dT%H:%M:%S", &tm))
        seconds[0] = 0; /* a year of five digits */
    snprintf(out, STORE_TIME_SIZE, "%s.%03uZ", seconds, (unsigned)(t.tv_nsec / 1000000) % 1000u);
}

const char *store_root(const struct store *s)
{
    return s->root;
}

bool store_path(const struct store *s, const char *aid, const char *part, char *out, size_t out_size,
                struct err *e)
{
    if (!store_is_aid(aid))
        return err_set(
            e, ERR_INPUT,
            "'%.60s' is no id of an assessment; use 1 to %d small letters, digits, - and _, a letter or "
            "digit first",
            aid, STORE_AID_MAX);
    int n = snprintf(out, out_size, "%s/%s%s%s", s->root, aid, part ? "/" : "", part ? part : "");
    return (n > 0 && (size_t)n < out_size) || err_set(e, ERR_INPUT, "%s: the path is too long", s->root);
}

bool store_check_text(const char *text, size_t max, const char *what, struct err *e)
{
    size_t n = strnlen(text, max + 1);
    if (n > max)
        return err_set(e, ERR_INPUT, "%s is longer than %zu bytes", what, max);
    return CPLIsUTF8(text, (int)n) || err_set(e, ERR_INPUT, "%s is not UTF-8", what);
}

bool store_writable(const struct store *s, struct err *e)
{
    return s->mode == STORE_SERVE || err_set(e, ERR_USAGE, "the store was opened for reading");
}

/* ---- opening
 * ------------------------------------------------------------------------------------------------------------- */

/* One server a root. The lock goes away with the process, whatever ends it. */
static bool lock_root(struct store *s, struct err *e)
{
    char path[PATH_MAX];
    if (!file_join(path, sizeof path, s->root, ".lock", e))
        return false;
    s->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (s->lock_fd < 0)
        return err_errno(e, ERR_INPUT, errno, "%s cannot be written", path);
    if (flock(s->lock_fd, LOCK_EX | LOCK_NB) != 0)
        return err_set(e, ERR_SERVE, "%s is served by another aftermap already", s->root);
    return true;
}

/* Half-made assessments of a server that went down. */
static void remove_leftovers(const struct store *s)
{
    DIR *dir = opendir(s->root);
    for (struct dirent *d; dir && (d = readdir(dir));) {
        static const char *const parts[] = {"store.gpkg", "store.gpkg-wal", "store.gpkg-shm",
                                            "store.gpkg-journal"};
        char path[PATH_MAX], file[PATH_MAX + 32];
        if (strncmp(d->d_name, ".new-", 5) != 0 || !file_join(path, sizeof path, s->root, d->d_name, NULL))
            continue;
        for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
            snprintf(file, sizeof file, "%s/%s", path, parts[i]);
            unlink(file);
        }
        rmdir(path);
    }
    if (dir)
        closedir(dir);
}

struct store *store_open(const char *root, const char *spec, enum store_mode mode, struct err *e)
{
    struct store *s = mem_array(1, sizeof *s, "the store", e);
    if (!s)
        return NULL;
    s->mode = mode;
    s->lock_fd = -1;
    pthread_mutex_init(&s->lock, NULL);
    bool ok = true;
    if (!file_is_dir(root))
        ok = err_set(e, ERR_NOT_FOUND, "%s: there is no such folder; make it, it will hold the assessments",
                     root);
    else if (!(s->root = realpath(root, NULL)))
        ok = err_errno(e, ERR_INPUT, errno, "%s", root);
    if (ok && spec) {
        int n = -1;
        if (strncmp(spec, "postgresql://", 13) == 0)
            n = asprintf(&s->connection, "%s", spec);
        else if (strncmp(spec, "postgresql:", 11) == 0)
            n = asprintf(&s->connection, "PG:%s", spec + 11);
        else
            ok = err_set(e, ERR_USAGE, "'%.60s' is no store; write postgresql:CONNINFO or postgresql://...",
                         spec);
        if (ok && n < 0) {
            s->connection = NULL;
            ok = err_set(e, ERR_RESOURCE, "not enough memory for the store");
        }
    }
    if (ok && mode == STORE_SERVE && (ok = lock_root(s, e)))
        remove_leftovers(s);
    if (ok && store_db_start(s, e))
        return s;
    store_close(s);
    return NULL;
}

void store_close(struct store *s)
{
    if (!s)
        return;
    store_db_stop(s);
    if (s->lock_fd >= 0)
        close(s->lock_fd);
    pthread_mutex_destroy(&s->lock);
    free(s->connection);
    free(s->root);
    free(s);
}

/* ---- reading assessments
 * ------------------------------------------------------------------------------------------------- */

void store_assessment_free(struct store_assessment *a)
{
    char *const text[] = {a->title, a->event_type, a->event_date, a->scale, a->inputs};
    for (size_t i = 0; i < sizeof text / sizeof *text; i++)
        free(text[i]);
    *a = (struct store_assessment){0};
}

static bool read_assessment(struct store_db *db, const char *aid, struct store_assessment *a, struct err *e)
{
    struct sql q;
    OGRLayerH rows = NULL;
    *a = (struct store_assessment){0};
    if (!sql_begin(&q, e))
        return false;
    fputs("SELECT title, event_type, event_date, scale, cut, inputs, sample_seed, version, seq, created, "
          "updated FROM "
          "assessment WHERE aid = ",
          q.out);
    sql_text(&q, aid);
    if (!sql_query(db, &q, &rows, e))
        return false;
    OGRFeatureH row = OGR_L_GetNextFeature(rows);
    bool ok = row || err_set(e, ERR_NOT_FOUND, "there is no assessment '%s'", aid);
    snprintf(a->aid, sizeof a->aid, "%s", aid);
    ok = ok && (a->title = store_column_text(row, 0, e)) && (a->event_type = store_column_text(row, 1, e)) &&
         (a->event_date = store_column_text(row, 2, e)) && (a->scale = store_column_text(row, 3, e)) &&
         (a->inputs = store_column_text(row, 5, e));
    if (ok) {
        a->cut = OGR_F_GetFieldAsInteger(row, 4);
        a->sample_seed = OGR_F_GetFieldAsInteger64(row, 6);
        a->version = OGR_F_GetFieldAsInteger64(row, 7);
        a->seq = OGR_F_GetFieldAsInteger64(row, 8);
        store_column_time(row, 9, a->created);
        store_column_time(row, 10, a->updated);
    } else {
        store_assessment_free(a);
    }
    OGR_F_Destroy(row);
    sql_release(db, rows);
    return ok;
}

bool store_assessment_get(struct store *s, const char *aid, struct store_assessment *a, struct err *e)
{
    *a = (struct store_assessment){0};
    struct store_db *db = store_db_take(s, aid, e);
    if (!db)
        return false;
    bool ok = read_assessment(db, aid, a, e);
    store_db_give(s, db);
    return ok;
}

struct id_list {
    char (*id)[STORE_AID_MAX + 1];
    size_t n;
};

static bool add_id(struct id_list *l, const char *aid, struct err *e)
{
    if (!store_is_aid(aid))
        return true;
    if (!mem_grow(&l->id, l->n + 1, sizeof *l->id, "the assessments", e))
        return false;
    snprintf(l->id[l->n++], sizeof *l->id, "%s", aid);
    return true;
}

static bool list_folders(struct store *s, struct id_list *l, struct err *e)
{
    DIR *dir = opendir(s->root);
    bool ok = dir || err_errno(e, ERR_RUNTIME, errno, "%s", s->root);
    for (struct dirent *d; ok && (d = readdir(dir));) {
        char path[PATH_MAX];
        if (store_is_aid(d->d_name) && store_path(s, d->d_name, "store.gpkg", path, sizeof path, NULL) &&
            file_exists(path))
            ok = add_id(l, d->d_name, e);
    }
    if (dir)
        closedir(dir);
    return ok;
}

static bool list_rows(struct store *s, struct id_list *l, struct err *e)
{
    struct store_db *db = store_db_take(s, NULL, e);
    struct sql q;
    OGRLayerH rows = NULL;
    bool ok = db && sql_begin(&q, e);
    if (ok) {
        fputs("SELECT aid FROM assessment", q.out);
        ok = sql_query(db, &q, &rows, e);
    }
    for (OGRFeatureH row; ok && (row = OGR_L_GetNextFeature(rows)); OGR_F_Destroy(row))
        ok = add_id(l, OGR_F_GetFieldAsString(row, 0), e);
    if (db) {
        sql_release(db, rows);
        store_db_give(s, db);
    }
    return ok;
}

static int compare_ids(const void *a, const void *b)
{
    return strcmp(a, b);
}

bool store_assessment_list(struct store *s, char (**ids)[STORE_AID_MAX + 1], size_t *n, struct err *e)
{
    struct id_list l = {0};
    *ids = NULL;
    *n = 0;
    if (!(s->connection ? list_rows(s, &l, e) : list_folders(s, &l, e))) {
        free(l.id);
        return false;
    }
    if (l.n)
        qsort(l.id, l.n, sizeof *l.id, compare_ids);
    *ids = l.id;
    *n = l.n;
    return true;
}

/* ---- making, editing, removing
 * ------------------------------------------------------------------------------------------- */

static bool check_settings(const struct store_assessment *a, struct err *e)
{
    struct {
        const char *text, *what;
        size_t max;
    } list[] = {{a->title, "the title", STORE_TITLE_MAX},
                {a->event_type, "the event's type", STORE_BY_MAX},
                {a->event_date, "the event's date", 10},
                {a->scale, "the scale", STORE_BY_MAX},
                {a->inputs, "the inputs", STORE_JSON_MAX}};
    for (size_t i = 0; i < sizeof list / sizeof *list; i++)
        if (list[i].text && !store_check_text(list[i].text, list[i].max, list[i].what, e))
            return false;
    return (a->cut >= 0 && a->cut <= 3) ||
           err_set(e, ERR_INPUT, "a cut of %d is no level from which damage counts; choose 1, 2 or 3",
                   a->cut);
}

static bool insert_assessment(struct store_db *db, const struct store_assessment *a, struct err *e)
{
    char now[STORE_TIME_SIZE];
    uint32_t seed = 0;
    struct sql q;
    if (getrandom(&seed, sizeof seed, 0) != (ssize_t)sizeof seed)
        return err_errno(e, ERR_RUNTIME, errno, "no random numbers");
    if (!sql_begin(&q, e))
        return false;
    store_time_now(now);
    const char *const text[] = {a->aid, a->title, a->event_type, a->event_date, a->scale};
    fputs("INSERT INTO assessment (aid, title, event_type, event_date, scale, cut, inputs, sample_seed, "
          "version, seq, "
          "created, updated) VALUES (",
          q.out);
    for (size_t i = 0; i < sizeof text / sizeof *text; i++) {
        sql_text(&q, text[i] ? text[i] : i == 4 ? "jds" : "");
        fputc(',', q.out);
    }
    fprintf(q.out, "%d,", a->cut ? a->cut : 2);
    sql_text(&q, a->inputs ? a->inputs : "{}");
    fprintf(q.out, ",%ld,1,0,'%s','%s')", (long)(seed >> 1), now, now);
    return sql_run(db, &q, e);
}

static bool insert_row(struct store *s, const struct store_assessment *a, struct err *e)
{
    struct store_db *db = store_db_take(s, NULL, e);
    struct sql q;
    int64_t there = 0;
    bool ok = db && sql_begin(&q, e);
    if (ok) {
        fputs("SELECT COUNT(*) FROM assessment WHERE aid = ", q.out);
        sql_text(&q, a->aid);
        ok = sql_integer(db, &q, 0, &there, e);
    }
    if (ok && there)
        ok = err_set(e, ERR_CONFLICT, "there is an assessment '%s' already", a->aid);
    ok = ok && insert_assessment(db, a, e);
    if (db)
        store_db_give(s, db);
    return ok;
}

bool store_assessment_create(struct store *s, const struct store_assessment *a, struct err *e)
{
    char path[PATH_MAX], fresh[PATH_MAX], file[PATH_MAX + 16];
    if (!store_writable(s, e) || !store_path(s, a->aid, NULL, path, sizeof path, e) || !check_settings(a, e))
        return false;
    int n = snprintf(fresh, sizeof fresh, "%s/.new-%s-%ld", s->root, a->aid, (long)getpid());
    if (n < 0 || (size_t)n >= sizeof fresh)
        return err_set(e, ERR_INPUT, "%s: the path is too long", s->root);
    if (file_exists(path))
        return err_set(e, ERR_CONFLICT, "there is an assessment or a folder '%s' already", a->aid);
    if (mkdir(fresh, 0777) != 0)
        return errno == EEXIST ? err_set(e, ERR_CONFLICT, "assessment '%s' is being made already", a->aid)
                               : err_errno(e, ERR_RUNTIME, errno, "%s cannot be made", fresh);
    snprintf(file, sizeof file, "%s/store.gpkg", fresh);
    bool ok = true;
    if (s->connection) {
        ok = insert_row(s, a, e);
    } else {
        struct store_db db = {0};
        snprintf(db.aid, sizeof db.aid, "%s", a->aid);
        ok = store_db_create(file, &db, e) && insert_assessment(&db, a, e);
        store_db_close(&db); /* the last connection carries the log into the file */
    }
    if (ok && renameat2(AT_FDCWD, fresh, AT_FDCWD, path, RENAME_NOREPLACE) != 0)
        ok = errno == EEXIST
                 ? err_set(e, ERR_CONFLICT, "there is an assessment or a folder '%s' already", a->aid)
                 : err_errno(e, ERR_RUNTIME, errno, "%s cannot be made", path);
    if (ok) {
        int fd = open(s->root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0 || fsync(fd) != 0)
            ok = err_errno(e, ERR_RUNTIME, errno, "%s cannot be brought to the disk", s->root);
        if (fd >= 0)
            close(fd);
    } else {
        unlink(file);
        rmdir(fresh);
    }
    return ok;
}

bool store_lock_assessment(struct store_db *db, const char *aid, int64_t *seq, struct err *e)
{
    struct sql q;
    if (!sql_transaction(db, e) || !sql_begin(&q, e))
        return false;
    fputs("UPDATE assessment SET seq = seq WHERE aid = ", q.out);
    sql_text(&q, aid);
    if (!sql_run(db, &q, e) || !sql_begin(&q, e))
        return false;
    fputs("SELECT seq FROM assessment WHERE aid = ", q.out);
    sql_text(&q, aid);
    if (!sql_integer(db, &q, -1, seq, e))
        return false;
    return *seq >= 0 || err_set(e, ERR_NOT_FOUND, "there is no assessment '%s'", aid);
}

static bool same_version(struct store_db *db, const char *aid, int64_t expect, int64_t *version,
                         struct err *e)
{
    struct sql q;
    if (!sql_begin(&q, e))
        return false;
    fputs("SELECT version FROM assessment WHERE aid = ", q.out);
    sql_text(&q, aid);
    return sql_integer(db, &q, 0, version, e) &&
           (!expect || *version == expect ||
            err_set(e, ERR_CONFLICT, "assessment '%s' was changed by somebody else in the meantime", aid));
}

bool store_assessment_edit(struct store *s, const char *aid, const struct store_assessment *a, int64_t expect,
                           int64_t *version, struct err *e)
{
    const char *const name[] = {"title", "event_type", "event_date", "scale", "inputs"};
    const char *const text[] = {a->title, a->event_type, a->event_date, a->scale, a->inputs};
    char now[STORE_TIME_SIZE];
    int64_t seq, seen = 0;
    struct sql q;
    if (!store_writable(s, e) || !check_settings(a, e))
        return false;
    struct store_db *db = store_db_take(s, aid, e);
    if (!db)
        return false;
    store_time_now(now);
    bool ok = store_lock_assessment(db, aid, &seq, e) && same_version(db, aid, expect, &seen, e) &&
              sql_begin(&q, e);
    if (ok) {
        fprintf(q.out, "UPDATE assessment SET version = %lld, updated = '%s'", (long long)seen + 1, now);
        for (size_t i = 0; i < sizeof text / sizeof *text; i++)
            if (text[i]) {
                fprintf(q.out, ", %s = ", name[i]);
                sql_text(&q, text[i]);
            }
        if (a->cut)
            fprintf(q.out, ", cut = %d", a->cut);
        fputs(" WHERE aid = ", q.out);
        sql_text(&q, aid);
        ok = sql_run(db, &q, e) && sql_commit(db, e);
    }
    if (ok && version)
        *version = seen + 1;
    store_db_give(s, db);
    return ok;
}

static bool no_active_jobs(struct store_db *db, const char *aid, struct err *e)
{
    struct sql q;
    int64_t n = 0;
    if (!sql_begin(&q, e))
        return false;
    fputs("SELECT COUNT(*) FROM jobs WHERE status IN ('accepted', 'running') AND aid = ", q.out);
    sql_text(&q, aid);
    return sql_integer(db, &q, 0, &n, e) &&
           (n == 0 || err_set(e, ERR_CONFLICT, "assessment '%s' has jobs under way; cancel them first", aid));
}

static bool rename_rows(struct store_db *db, const char *aid, const char *name, struct err *e)
{
    static const char *const table[] = {"assessment", "labels", "sample", "jobs"};
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        struct sql q;
        if (!sql_begin(&q, e))
            return false;
        fprintf(q.out, "UPDATE %s SET aid = ", table[i]);
        sql_text(&q, name);
        fputs(" WHERE aid = ", q.out);
        sql_text(&q, aid);
        if (!sql_run(db, &q, e))
            return false;
    }
    return true;
}

bool store_assessment_remove(struct store *s, const char *aid, int64_t expect, struct err *e)
{
    char path[PATH_MAX], trash[PATH_MAX], target[PATH_MAX], name[STORE_AID_MAX + STORE_TIME_SIZE + 8];
    char now[STORE_TIME_SIZE];
    int64_t seq, version;
    if (!store_writable(s, e) || !file_join(trash, sizeof trash, s->root, ".trash", e))
        return false;
    struct store_db *db = store_db_take(s, aid, e);
    if (!db)
        return false;
    store_time_now(now);
    snprintf(name, sizeof name, "%s-%s", aid, now); /* capitals and colons: no id, so never listed */
    bool ok = store_path(s, aid, NULL, path, sizeof path, e) &&
              file_join(target, sizeof target, trash, name, e) && store_lock_assessment(db, aid, &seq, e) &&
              same_version(db, aid, expect, &version, e) && no_active_jobs(db, aid, e);
    if (ok && !s->connection) {
        sql_rollback(db); /* this process is the only writer, and it holds the handle */
        store_db_close(db);
    } else {
        ok = ok && rename_rows(db, aid, name, e) && sql_commit(db, e);
    }
    if (ok && (!file_make_dirs(trash, e) || (file_exists(path) && !file_rename(path, target, e))))
        ok = false;
    pthread_mutex_lock(&s->lock);
    db->is_gone = ok && !s->connection;
    pthread_mutex_unlock(&s->lock);
    store_db_give(s, db);
    return ok;
}

bool store_ping(struct store *s, struct err *e)
{
    char(*ids)[STORE_AID_MAX + 1] = NULL;
    size_t n = 0;
    int64_t seq;
    if (!store_assessment_list(s, &ids, &n, e))
        return false;
    bool ok = true;
    if (n) { /* an update that changes nothing still needs the log, so a full or read-only disk shows */
        struct store_db *db = store_db_take(s, ids[0], e);
        ok = db && store_lock_assessment(db, ids[0], &seq, e) && sql_commit(db, e);
        if (db)
            store_db_give(s, db);
    }
    free(ids);
    return ok;
}
