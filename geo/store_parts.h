/* SPDX-License-Identifier: Apache-2.0
 *
 * store_parts.h - what the files of the store share: a database handle and SQL that SQLite and PostgreSQL both take.
 *
 * A handle (struct store_db) is one GDAL dataset behind one lock: ROOT/AID/store.gpkg, or the one database. Between
 * store_db_take() and store_db_give() the caller has it alone. OGR's ExecuteSQL knows no parameters, so text goes
 * into a statement only through sql_text(), which quotes it. No column is ever NULL. */
#ifndef AM_STORE_PARTS_H
#define AM_STORE_PARTS_H

#include "geo/store.h"
#include <pthread.h>
#include <stdio.h>

struct store_db {
    struct store_db *next;
    char aid[STORE_AID_MAX + 1]; /* "" for the database of all */
    pthread_mutex_t lock;
    GDALDatasetH ds;
    int n_users;     /* guarded by the store's lock, as next and used */
    uint64_t used;   /* a clock of uses: the handle longest unused is closed first */
    bool is_gone;    /* the assessment was removed while somebody waited; guarded by the store's lock, too */
    bool is_suspect; /* the last statement failed: a database may have gone away */
    bool in_transaction;
};

struct store {
    char *root, *connection; /* connection: OGR's name of the database; NULL: GeoPackages */
    enum store_mode mode;
    int lock_fd;
    pthread_mutex_t lock;
    struct store_db *db;
    uint64_t clock;
};

/* Opens the database (NULL connection: does nothing) and takes its lock; for store_open(). */
bool store_db_start(struct store *s, struct err *e);
void store_db_stop(struct store *s);
/* Makes a new GeoPackage with the store's tables at path, open in *db. */
bool store_db_create(const char *path, struct store_db *db, struct err *e);
void store_db_close(struct store_db *db); /* the dataset only */

/* The handle for an assessment (NULL: the database of all), locked. ERR_NOT_FOUND when there is none. */
struct store_db *store_db_take(struct store *s, const char *aid, struct err *e);
void store_db_give(struct store *s, struct store_db *db);

/* A statement under construction. */
struct sql {
    FILE *out;
    char *text;
    size_t size;
};
bool sql_begin(struct sql *q, struct err *e);
void sql_text(struct sql *q, const char *text); /* quoted */
void sql_real(struct sql *q, double v);
/* Runs it and frees it, whatever happens. */
bool sql_run(struct store_db *db, struct sql *q, struct err *e);
/* The same for a query; *rows is to be given to sql_release(). */
bool sql_query(struct store_db *db, struct sql *q, OGRLayerH *rows, struct err *e);
void sql_release(struct store_db *db, OGRLayerH rows);
bool sql_run_text(struct store_db *db, const char *statement, struct err *e);
/* The integer in the only row of a query; fallback without a row. */
bool sql_integer(struct store_db *db, struct sql *q, int64_t fallback, int64_t *value, struct err *e);

bool sql_transaction(struct store_db *db, struct err *e);
bool sql_commit(struct store_db *db, struct err *e);
void sql_rollback(
    struct store_db *db); /* harmless when there is none; keeps GDAL's last message out of the way */

/* Starts a transaction and takes the assessment's row for this writer alone: others wait until it ends. *seq receives
 * its last label row. */
bool store_lock_assessment(struct store_db *db, const char *aid, int64_t *seq, struct err *e);
/* UTF-8 of at most max bytes; what: "the note". */
bool store_check_text(const char *text, size_t max, const char *what, struct err *e);
bool store_writable(const struct store *s, struct err *e);

/* Text of a column as a heap copy; NULL when memory ran out. */
char *store_column_text(OGRFeatureH row, int column, struct err *e);
void store_column_time(OGRFeatureH row, int column, char out[STORE_TIME_SIZE]);

/* Inside a transaction that holds the assessment: a building that was not drawn for validation now was. */
bool store_sample_put(struct store_db *db, const char *aid, const char *bldg_id, int64_t draw, int64_t seed,
                      struct err *e);

#endif
