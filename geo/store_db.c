/* SPDX-License-Identifier: Apache-2.0
 *
 * store_db.c - the store's databases: opening, tables, statements, transactions. Declared in store_parts.h.
 *
 * GeoPackage: SQLite in WAL mode with synchronous FULL, so that a commit is an fsync of the log. A handle stays open
 * while it is used now and then; at most HANDLES_MAX are.
 *
 * PostgreSQL: one connection; tables in a schema of their own, which may exist already (then nothing but its use has
 * to be granted). A connection that broke is opened again by the next caller. synchronous_commit is set, in case the
 * server's default is weaker.
 *
 * Where the two differ is said in make_tables(): the type of a key that counts by itself, and the GeoPackage's list of
 * contents. */
#include "geo/raster.h"
#include "geo/store_parts.h"
#include "models/base/file.h"
#include "models/base/mem.h"

#include <cpl_conv.h>
#include <cpl_string.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* Exported by libgdal; its own header for them is C++ only. */
CPL_C_START
void CPL_DLL RegisterOGRPG(void);
CPL_C_END

enum { HANDLES_MAX = 64 };
static const long long advisory_key = 0x6166746572; /* any number that is ours */

/* Tables. %s: the key's type. The order of columns is nobody's business: every statement names them. */
static const struct {
    const char *name, *columns, *unique, *index; /* index: NULL none */
} tables[] = {
    {"assessment",
     "aid TEXT NOT NULL, title TEXT NOT NULL, event_type TEXT NOT NULL, event_date TEXT NOT NULL, scale TEXT "
     "NOT "
     "NULL, cut INTEGER NOT NULL, inputs TEXT NOT NULL, sample_seed BIGINT NOT NULL, version BIGINT NOT "
     "NULL, seq "
     "BIGINT NOT NULL, created TEXT NOT NULL, updated TEXT NOT NULL",
     "aid", NULL},
    {"labels",
     "aid TEXT NOT NULL, seq BIGINT NOT NULL, previous BIGINT NOT NULL, bldg_id TEXT NOT NULL, is_clear "
     "INTEGER NOT "
     "NULL, dmg_level INTEGER NOT NULL, dmg_class TEXT NOT NULL, reason TEXT NOT NULL, is_sure INTEGER NOT "
     "NULL, note "
     "TEXT NOT NULL, has_shift INTEGER NOT NULL, shift_x DOUBLE PRECISION NOT NULL, shift_y DOUBLE PRECISION "
     "NOT NULL, "
     "by_whom TEXT NOT NULL, purpose TEXT NOT NULL, draw BIGINT NOT NULL, written TEXT NOT NULL",
     "aid, seq", "aid, bldg_id, seq"},
    {"sample",
     "aid TEXT NOT NULL, bldg_id TEXT NOT NULL, draw BIGINT NOT NULL, seed BIGINT NOT NULL, written TEXT NOT "
     "NULL",
     "aid, bldg_id", NULL},
    {"jobs",
     "aid TEXT NOT NULL, number BIGINT NOT NULL, process TEXT NOT NULL, inputs TEXT NOT NULL, status TEXT "
     "NOT NULL, "
     "progress INTEGER NOT NULL, message TEXT NOT NULL, result TEXT NOT NULL, created TEXT NOT NULL, started "
     "TEXT NOT "
     "NULL, finished TEXT NOT NULL",
     "aid, number", NULL},
};

/* ---- statements
 * ---------------------------------------------------------------------------------------------------------- */

bool sql_begin(struct sql *q, struct err *e)
{
    *q = (struct sql){0};
    q->out = open_memstream(&q->text, &q->size);
    return q->out || err_set(e, ERR_RESOURCE, "not enough memory for a statement");
}

void sql_text(struct sql *q, const char *text)
{
    fputc('\'', q->out);
    for (; *text; text++) {
        if (*text == '\'')
            fputc('\'', q->out);
        fputc(*text, q->out);
    }
    fputc('\'', q->out);
}

void sql_real(struct sql *q, double v)
{
    char text[40];
    CPLsnprintf(text, sizeof text, "%.17g", v); /* a point in every locale */
    fputs(text, q->out);
}

static bool fault(struct store_db *db, struct err *e)
{
    char why[300];
    geo_message(why, sizeof why);
    db->is_suspect = true;
    if (!*db->aid)
        return err_set(e, ERR_SERVE, "the database of the store does not answer as it should: %s", why);
    enum err_code code =
        strstr(why, "full") || strstr(why, "disk I/O") || strstr(why, "memory") ? ERR_RESOURCE : ERR_RUNTIME;
    return err_set(e, code, "the store of assessment %s does not take it: %s", db->aid, why);
}

bool sql_run_text(struct store_db *db, const char *statement, struct err *e)
{
    CPLErrorReset();
    OGRLayerH none = GDALDatasetExecuteSQL(db->ds, statement, NULL, NULL);
    if (none)
        GDALDatasetReleaseResultSet(db->ds, none);
    return CPLGetLastErrorType() < CE_Failure || fault(db, e);
}

/* Ends the text; false and freed when memory ran out while it was written. */
static bool finish(struct sql *q, struct err *e)
{
    bool ok = q->out && !ferror(q->out);
    if (q->out)
        ok = fclose(q->out) == 0 && ok;
    q->out = NULL;
    if (ok)
        return true;
    free(q->text);
    q->text = NULL;
    return err_set(e, ERR_RESOURCE, "not enough memory for a statement");
}

bool sql_run(struct store_db *db, struct sql *q, struct err *e)
{
    bool ok = finish(q, e) && sql_run_text(db, q->text, e);
    free(q->text);
    *q = (struct sql){0};
    return ok;
}

bool sql_query(struct store_db *db, struct sql *q, OGRLayerH *rows, struct err *e)
{
    *rows = NULL;
    if (!finish(q, e))
        return false;
    CPLErrorReset();
    *rows = GDALDatasetExecuteSQL(db->ds, q->text, NULL, NULL);
    free(q->text);
    *q = (struct sql){0};
    if (*rows && CPLGetLastErrorType() < CE_Failure)
        return true;
    if (*rows)
        GDALDatasetReleaseResultSet(db->ds, *rows);
    *rows = NULL;
    return fault(db, e);
}

void sql_release(struct store_db *db, OGRLayerH rows)
{
    if (rows)
        GDALDatasetReleaseResultSet(db->ds, rows);
}

bool sql_integer(struct store_db *db, struct sql *q, int64_t fallback, int64_t *value, struct err *e)
{
    OGRLayerH rows = NULL;
    if (!sql_query(db, q, &rows, e))
        return false;
    OGRFeatureH row = OGR_L_GetNextFeature(rows);
    *value = row && OGR_F_IsFieldSetAndNotNull(row, 0) ? OGR_F_GetFieldAsInteger64(row, 0) : fallback;
    OGR_F_Destroy(row);
    bool ok = CPLGetLastErrorType() < CE_Failure || fault(db, e);
    sql_release(db, rows);
    return ok;
}

bool sql_transaction(struct store_db *db, struct err *e)
{
    CPLErrorReset();
    if (GDALDatasetStartTransaction(db->ds, FALSE) != OGRERR_NONE)
        return fault(db, e);
    db->in_transaction = true;
    return true;
}

bool sql_commit(struct store_db *db, struct err *e)
{
    CPLErrorReset();
    if (GDALDatasetCommitTransaction(db->ds) != OGRERR_NONE || CPLGetLastErrorType() >= CE_Failure)
        return fault(db, e);
    db->in_transaction = false;
    return true;
}

void sql_rollback(struct store_db *db)
{
    if (db->in_transaction)
        GDALDatasetRollbackTransaction(db->ds);
    db->in_transaction = false;
}

char *store_column_text(OGRFeatureH row, int column, struct err *e)
{
    return mem_strdup(OGR_F_GetFieldAsString(row, column), e);
}

void store_column_time(OGRFeatureH row, int column, char out[STORE_TIME_SIZE])
{
    snprintf(out, STORE_TIME_SIZE, "%s", OGR_F_GetFieldAsString(row, column));
}

/* ---- opening
 * ------------------------------------------------------------------------------------------------------------- */

static bool make_tables(struct store_db *db, bool is_gpkg, struct err *e)
{
    const char *key = is_gpkg ? "INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL"
                              : "BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY";
    for (size_t i = 0; i < sizeof tables / sizeof *tables; i++) {
        struct sql q;
        if (!sql_begin(&q, e))
            return false;
        fprintf(q.out, "CREATE TABLE IF NOT EXISTS %s (fid %s, %s, UNIQUE (%s))", tables[i].name, key,
                tables[i].columns, tables[i].unique);
        if (!sql_run(db, &q, e))
            return false;
        if (tables[i].index) {
            if (!sql_begin(&q, e))
                return false;
            fprintf(q.out, "CREATE INDEX IF NOT EXISTS %s_by_building ON %s (%s)", tables[i].name,
                    tables[i].name, tables[i].index);
            if (!sql_run(db, &q, e))
                return false;
        }
        if (is_gpkg) {
            if (!sql_begin(&q, e))
                return false;
            fprintf(
                q.out,
                "INSERT INTO gpkg_contents (table_name, data_type, identifier) VALUES ('%s', 'attributes', "
                "'%s') ON CONFLICT DO NOTHING",
                tables[i].name, tables[i].name);
            if (!sql_run(db, &q, e))
                return false;
        }
    }
    return true;
}

/* The result of a PRAGMA is what holds now, not what was asked for. */
static bool set_pragma(struct store_db *db, const char *statement, const char *want, const char *path,
                       struct err *e)
{
    CPLErrorReset();
    OGRLayerH rows = GDALDatasetExecuteSQL(db->ds, statement, NULL, NULL);
    OGRFeatureH row = rows ? OGR_L_GetNextFeature(rows) : NULL;
    bool ok = row && strcmp(OGR_F_GetFieldAsString(row, 0), want) == 0;
    OGR_F_Destroy(row);
    sql_release(db, rows);
    return ok ||
           err_set(e, ERR_RUNTIME, "%s: '%s' has no effect; is the disk one that SQLite's log works on?",
                   path, statement);
}

static bool settle_gpkg(struct store_db *db, const char *path, bool is_update, struct err *e)
{
    return sql_run_text(db, "PRAGMA busy_timeout = 10000", e) &&
           (!is_update || (set_pragma(db, "PRAGMA journal_mode = WAL", "wal", path, e) &&
                           sql_run_text(db, "PRAGMA synchronous = FULL", e) &&
                           set_pragma(db, "PRAGMA synchronous", "2", path, e)));
}

bool store_db_create(const char *path, struct store_db *db, struct err *e)
{
    char why[300];
    CPLErrorReset();
    db->ds = GDALCreate(GDALGetDriverByName("GPKG"), path, 0, 0, 0, GDT_Unknown, NULL);
    if (!db->ds)
        return err_set(e, ERR_RESOURCE, "%s: cannot be created: %s", path, geo_message(why, sizeof why));
    return settle_gpkg(db, path, true, e) && make_tables(db, true, e);
}

void store_db_close(struct store_db *db)
{
    if (db->ds)
        GDALClose(db->ds);
    db->ds = NULL;
    db->in_transaction = false;
}

static bool open_gpkg(const struct store *s, struct store_db *db, struct err *e)
{
    static const char *const drivers[] = {"GPKG", NULL};
    char path[4096], why[300];
    const bool is_update = s->mode == STORE_SERVE;
    if (!store_path(s, db->aid, "store.gpkg", path, sizeof path, e))
        return false;
    if (!file_exists(path))
        return err_set(e, ERR_NOT_FOUND, "there is no assessment '%s'", db->aid);
    CPLErrorReset();
    db->ds = GDALOpenEx(path,
                        GDAL_OF_VECTOR | GDAL_OF_VERBOSE_ERROR |
                            (unsigned)(is_update ? GDAL_OF_UPDATE : GDAL_OF_READONLY),
                        drivers, NULL, NULL);
    if (!db->ds)
        return err_set(e, ERR_RUNTIME, "%s: cannot be opened: %s", path, geo_message(why, sizeof why));
    if (settle_gpkg(db, path, is_update, e) && (!is_update || make_tables(db, true, e)))
        return true;
    store_db_close(db);
    return false;
}

/* The lock ends with the connection, which the database may notice a moment after its client was killed. */
static bool lock_postgres(struct store_db *db, struct err *e)
{
    for (int k = 0; k < 20; k++) {
        struct timespec pause = {.tv_nsec = 100000000};
        int64_t got = 0;
        struct sql q;
        if (!sql_begin(&q, e))
            return false;
        /* the driver reads a SELECT without FROM into a driver that is not registered here */
        fprintf(q.out,
                "SELECT CASE WHEN pg_try_advisory_lock(%lld) THEN 1 ELSE 0 END AS got FROM (SELECT 1) one",
                advisory_key);
        if (!sql_integer(db, &q, 0, &got, e))
            return false;
        if (got)
            return true;
        nanosleep(&pause, NULL);
    }
    return err_set(
        e, ERR_SERVE,
        "the database is served by another aftermap already; stop that one or give this one a database of "
        "its own");
}

static bool open_postgres(const struct store *s, struct store_db *db, struct err *e)
{
    static const char *const drivers[] = {"PostgreSQL", NULL};
    static const char *const settings[] = {
        "SET standard_conforming_strings = on", "SET synchronous_commit = on", "SET client_encoding = 'UTF8'",
        "SET client_min_messages = warning",    "SET search_path TO aftermap", "SET lock_timeout = '10s'"};
    char why[300];
    char **options = CSLAddString(NULL, "LIST_ALL_TABLES=NO");
    int64_t value = 0;
    struct sql q;
    CPLErrorReset();
    db->ds = GDALOpenEx(s->connection, GDAL_OF_VECTOR | GDAL_OF_UPDATE | GDAL_OF_VERBOSE_ERROR, drivers,
                        (const char *const *)options, NULL);
    CSLDestroy(options);
    if (!db->ds) /* the connection's words may hold a password: they are not repeated */
        return err_set(e, ERR_SERVE, "the database of the store cannot be reached: %s",
                       geo_message(why, sizeof why));
    bool ok = sql_begin(&q, e);
    if (ok)
        fputs("SELECT COUNT(*) FROM pg_namespace WHERE nspname = 'aftermap'", q.out);
    ok = ok && sql_integer(db, &q, 0, &value, e) && (value || sql_run_text(db, "CREATE SCHEMA aftermap", e));
    for (size_t i = 0; ok && i < sizeof settings / sizeof *settings; i++)
        ok = sql_run_text(db, settings[i], e);
    ok = ok && (s->mode == STORE_READ || make_tables(db, false, e));
    ok = ok && (s->mode == STORE_READ || lock_postgres(db, e));
    if (!ok)
        store_db_close(db);
    db->is_suspect = false;
    return ok;
}

bool store_db_start(struct store *s, struct err *e)
{
    if (!s->connection)
        return true;
    if (!GDALGetDriverByName("PostgreSQL"))
        RegisterOGRPG();
    if (!GDALGetDriverByName("PostgreSQL"))
        return err_set(e, ERR_USAGE, "this GDAL was built without PostgreSQL; leave --store out");
    struct store_db *db = mem_array(1, sizeof *db, "the store", e);
    if (!db)
        return false;
    pthread_mutex_init(&db->lock, NULL);
    s->db = db;
    return open_postgres(s, db, e);
}

void store_db_stop(struct store *s)
{
    for (struct store_db *db = s->db, *next; db; db = next) {
        next = db->next;
        store_db_close(db);
        pthread_mutex_destroy(&db->lock);
        free(db);
    }
    s->db = NULL;
}

/* ---- handles
 * ------------------------------------------------------------------------------------------------------------- */

/* Closes the handle that was unused longest when there are too many. The store's lock is held. */
static void close_oldest(struct store *s)
{
    struct store_db **oldest = NULL;
    int n = 0;
    for (struct store_db **at = &s->db; *at; at = &(*at)->next) {
        n++;
        if (!(*at)->n_users && (!oldest || (*at)->used < (*oldest)->used))
            oldest = at;
    }
    if (n <= HANDLES_MAX || !oldest)
        return;
    struct store_db *db = *oldest;
    *oldest = db->next;
    store_db_close(db);
    pthread_mutex_destroy(&db->lock);
    free(db);
}

/* The entry for aid, made when missing (closed as yet), with one more user. */
static struct store_db *enter(struct store *s, const char *aid, struct err *e)
{
    pthread_mutex_lock(&s->lock);
    struct store_db *db = s->db;
    while (db && !s->connection && (strcmp(db->aid, aid) != 0 || db->is_gone))
        db = db->next;
    if (!db && (db = mem_array(1, sizeof *db, "the store", e))) {
        snprintf(db->aid, sizeof db->aid, "%s", aid);
        pthread_mutex_init(&db->lock, NULL);
        db->next = s->db;
        s->db = db;
    }
    if (db) {
        db->n_users++;
        db->used = ++s->clock;
    }
    pthread_mutex_unlock(&s->lock);
    return db;
}

struct store_db *store_db_take(struct store *s, const char *aid, struct err *e)
{
    if (aid && !store_is_aid(aid)) {
        err_set(e, ERR_NOT_FOUND, "there is no assessment '%.40s'", aid);
        return NULL;
    }
    struct store_db *db = enter(s, aid ? aid : "", e);
    if (!db)
        return NULL;
    pthread_mutex_lock(&db->lock);
    bool ok = true;
    if (db->is_gone)
        ok = err_set(e, ERR_NOT_FOUND, "there is no assessment '%s'", aid);
    if (ok && db->ds && db->is_suspect && s->connection && !sql_run_text(db, "SELECT 1", NULL))
        store_db_close(db);
    db->is_suspect = false;
    if (ok && !db->ds)
        ok = s->connection ? open_postgres(s, db, e) : open_gpkg(s, db, e);
    if (ok)
        return db;
    store_db_give(s, db);
    return NULL;
}

void store_db_give(struct store *s, struct store_db *db)
{
    sql_rollback(db);
    pthread_mutex_unlock(&db->lock);
    pthread_mutex_lock(&s->lock);
    db->n_users--;
    if (db->n_users == 0 && (db->is_gone || !db->ds) &&
        !s->connection) /* nothing to keep: an id that is not there */
        for (struct store_db **at = &s->db; *at; at = &(*at)->next)
            if (*at == db) {
                *at = db->next;
                store_db_close(db);
                pthread_mutex_destroy(&db->lock);
                free(db);
                break;
            }
    close_oldest(s);
    pthread_mutex_unlock(&s->lock);
}
