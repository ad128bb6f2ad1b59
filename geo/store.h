/* SPDX-License-Identifier: Apache-2.0
 *
 * store.h - what people and the server write down about assessments: settings, labels, the validation sample,
 * jobs. The event folder stays as `aftermap tile` made it; everything that changes lives here.
 *
 *   ROOT/AID/            one folder per assessment
 *   ROOT/AID/store.gpkg  its tables (GeoPackage, SQLite in WAL mode) unless the store is a PostgreSQL database
 *   ROOT/AID/event/      made by tile        ROOT/AID/models/    one file per training run
 *   ROOT/AID/map/        made by assess      ROOT/AID/jobs/      what jobs were given
 *   ROOT/.trash/         assessments that were removed; never erased by the program
 *
 * With spec "postgresql:CONNINFO" the tables lie in one database for all assessments, reached through OGR's
 * PostgreSQL driver; the folders stay. The SQL is common to both and every row carries its assessment's id.
 *
 * Promises
 *   1. A write that returned true is on the disk (synchronous FULL, one transaction a call): a killed process or
 *      a cut of power loses nothing that was acknowledged and leaves nothing half.
 *   2. Labels are an append-only history; taking a label back is a row, too. The current label of a building is
 *      its last row. `seq` numbers the rows of an assessment without gaps, from 1, in the order of writing.
 *   3. A write names the row it saw (`expect`); when another one is current, nothing is written.
 *   4. A building that was drawn for validation, or has ever had a label for validation, never gets a label for
 *      training again (its labels are stored with the purpose validate whatever was asked for) and is never
 *      among store_labels(STORE_TRAIN): the sample stays one that nobody trained on.
 *   5. One process serves a store at a time (a lock on ROOT, an advisory lock in the database); readers of other
 *      processes are welcome.
 *
 * Text is UTF-8; longer than the limits below or not UTF-8 is ERR_INPUT. Times are ISO 8601, UTC, milliseconds.
 * Errors: ERR_NOT_FOUND (no such assessment, job), ERR_CONFLICT, ERR_INPUT, ERR_RESOURCE (disk), ERR_SERVE (the
 * database cannot be reached now), ERR_RUNTIME.
 * Threads: any thread may call anything at any time; calls on one assessment wait for each other. */
#ifndef AM_STORE_H
#define AM_STORE_H

#include "geo/event.h"
#include "models/base/err.h"

enum {
    STORE_AID_MAX = 40,    /* bytes, [a-z0-9][a-z0-9_-]* */
    STORE_ID_MAX = 1024,   /* of a building's id */
    STORE_TITLE_MAX = 200, /* bytes */
    STORE_BY_MAX = 80,
    STORE_NOTE_MAX = 2000,
    STORE_JSON_MAX = 1 << 20,
    STORE_TIME_SIZE = 25, /* "2026-11-24T10:00:00.000Z" and NUL */
    STORE_JOB_ID_SIZE = 64
};

/* ---- the store ---- */

struct store;

enum store_mode { STORE_SERVE, STORE_READ }; /* STORE_READ: no lock, no writes */

/* root: the data root, an existing folder. spec: NULL for a GeoPackage in each folder, or "postgresql:CONNINFO"
 * (libpq's keywords or URI; tables are made when missing). NULL on error: ERR_SERVE when another process serves
 * it or the database cannot be reached. Call before threads start (it may register a driver). */
struct store *store_open(const char *root, const char *spec, enum store_mode mode, struct err *e);
void store_close(struct store *s);             /* accepts NULL; no call may be under way */
const char *store_root(const struct store *s); /* absolute */
/* ROOT/AID[/part] into out; part NULL: the folder. ERR_INPUT when aid is no id. Does not look at the disk. */
bool store_path(const struct store *s, const char *aid, const char *part, char *out, size_t out_size,
                struct err *e);
bool store_is_aid(const char *text); /* may be an assessment's id */

/* The store still takes writes: for /readyz. A transaction that changes nothing on one assessment or database. */
bool store_ping(struct store *s, struct err *e);

/* ---- assessments ---- */

struct store_assessment {
    char aid[STORE_AID_MAX + 1];
    char *title, *event_type, *event_date; /* "" unknown; date as YYYY-MM-DD */
    char *scale;                           /* "jds" */
    int cut;                               /* damaged means this level or worse: 1..3 */
    char *inputs;        /* JSON object: how it is made. pre, post: arrays of paths; footprints: path
                                              (absolute, or relative to ROOT), as jobs' import takes them; whatever else
                                              the caller wants to keep */
    int64_t sample_seed; /* of the validation draw, chosen at random at creation */
    int64_t version;     /* of these settings, from 1: changes with each edit */
    int64_t seq;         /* of the last label row, 0: none */
    char created[STORE_TIME_SIZE], updated[STORE_TIME_SIZE]; /* updated: the last edit or label */
};

/* Makes ROOT/AID and its tables. Only aid, title, event_type, event_date, scale, cut and inputs are read (NULL:
 * ""; inputs NULL: "{}"). ERR_CONFLICT when the id or a folder of that name is there. */
bool store_assessment_create(struct store *s, const struct store_assessment *a, struct err *e);
/* Fills *a (store_assessment_free() afterwards). */
bool store_assessment_get(struct store *s, const char *aid, struct store_assessment *a, struct err *e);
/* Title, event_type, event_date, scale, cut and inputs become those of *a; NULL members and a cut of 0 stay as
 * they are. expect: the version seen (ERR_CONFLICT otherwise), 0: any. *version receives the new one. */
bool store_assessment_edit(struct store *s, const char *aid, const struct store_assessment *a, int64_t expect,
                           int64_t *version, struct err *e);
/* Moves the folder to ROOT/.trash/AID-TIME; with a database its rows stay under that name. ERR_CONFLICT when the
 * version differs (expect 0: any) or a job of it is accepted or running. */
bool store_assessment_remove(struct store *s, const char *aid, int64_t expect, struct err *e);
void store_assessment_free(struct store_assessment *a); /* members only; accepts a zeroed one */

/* All ids in alphabetical order, [*n] of STORE_AID_MAX + 1 bytes; caller frees *ids. */
bool store_assessment_list(struct store *s, char (**ids)[STORE_AID_MAX + 1], size_t *n, struct err *e);

/* ---- labels ---- */

enum store_purpose { STORE_TRAIN, STORE_VALIDATE, STORE_ANY_PURPOSE };
const char *store_purpose_name(enum store_purpose p); /* "train", "validate" */
bool store_purpose_parse(const char *text, enum store_purpose *p);

/* One row of the history. */
struct store_label {
    int64_t seq;
    int64_t previous; /* row it replaced; 0: there was no label */
    char *bldg_id;
    bool is_clear;      /* the label was taken back: level is -1, reason "" */
    int level;          /* 0..3; -1: looked at, cannot tell */
    const char *reason; /* contract g, static text; "" when level >= 0 */
    bool is_sure;
    char *note, *by;
    bool has_shift; /* shift of the post image at this building set by hand, metres (alignment.h's sign) */
    double shift_x, shift_y;
    enum store_purpose purpose;
    int64_t draw; /* 1-based place in the validation draw; 0: none */
    char time[STORE_TIME_SIZE];
};

struct store_labels {
    struct store_label *item; /* [n] */
    size_t n;
    int64_t seq; /* of the assessment when it was read: every row up to it was seen */
};
void store_labels_free(struct store_labels *l); /* accepts a zeroed one */

/* Current labels in the order of bldg_id (bytes), cleared ones left out. purpose STORE_TRAIN: only those that may
 * be trained on (promise 4). bldg_id NULL: all; by NULL: anybody's. An empty result is no error. */
bool store_labels_read(struct store *s, const char *aid, enum store_purpose purpose, const char *bldg_id,
                       const char *by, struct store_labels *out, struct err *e);

/* History rows with seq > after, rising, at most limit (0: all); bldg_id NULL: of all buildings. */
bool store_labels_history(struct store *s, const char *aid, int64_t after, const char *bldg_id, size_t limit,
                          struct store_labels *out, struct err *e);

/* Number of current labels: n[purpose][level + 1], where level -1 is "cannot tell". Rows that may not be trained
 * on count as neither when their purpose is train. */
struct store_counts {
    size_t n[2][5];
    size_t n_train, n_validate; /* sums */
    int64_t seq;
};
bool store_labels_count(struct store *s, const char *aid, struct store_counts *out, struct err *e);

/* What `expect` may be besides a seq. */
enum {
    STORE_EXPECT_NONE = 0,       /* there is no label now */
    STORE_EXPECT_ANY = -1,       /* whatever is there */
    STORE_EXPECT_NOT_OTHERS = -2 /* no label now, or one by the same person */
};

enum store_outcome {
    STORE_CREATED,
    STORE_CHANGED,
    STORE_UNCHANGED, /* exactly this was there already: nothing was written, whatever was expected */
    STORE_CLEARED,
    STORE_CONFLICTED /* not written */
};

/* A label to write. */
struct store_write {
    const char *bldg_id;            /* the caller knows that the event has it */
    bool is_clear;                  /* take the label back; only bldg_id, by, note and expect are read */
    int level;                      /* 0..3, or -1 with a reason */
    const char *reason, *note, *by; /* NULL: "" */
    bool is_sure;
    bool has_shift;
    double shift_x, shift_y;
    enum store_purpose purpose; /* see promise 4: `stored` may differ */
    int64_t draw;
    int64_t expect; /* seq of the row seen, or STORE_EXPECT_... */
    /* results */
    enum store_outcome outcome;
    int64_t seq; /* of the row that is current now (also when conflicted); 0: none */
    enum store_purpose stored;
};

/* One label. ERR_CONFLICT: another row is current (w->seq; read it with store_labels_read). Clearing where
 * nothing is: ERR_NOT_FOUND. ERR_INPUT: level, reason, text or shift that cannot be. */
bool store_label_write(struct store *s, const char *aid, struct store_write *w, struct err *e);
/* Many in one transaction, which conflicting rows do not break: look at each outcome. A row that cannot be
 * (ERR_INPUT, message names it) leaves everything unwritten. One building twice: the later row sees the first. */
bool store_labels_write(struct store *s, const char *aid, struct store_write *w, size_t n, struct err *e);

/* Puts the labels over an open event in memory: a building's level becomes that of its label; buildings without
 * one become unknown (-1). Nothing on disk changes. *n_matched: buildings that got a level from 0 to 3. */
bool store_labels_overlay(const struct store_labels *l, struct event *ev, size_t *n_matched, struct err *e);

/* The labels as CSV (atomically): bldg_id,dmg_class,dmg_level,reason,sure,note,shift_x,shift_y,by,purpose,draw,seq,
 * updated. `FILE:dmg_class` is what train --labels and answers.h take. */
bool store_labels_csv(const struct store_labels *l, const char *path, struct err *e);

/* ---- the validation sample ---- */

/* Buildings handed out for validation. `draw` is the place in the blind draw (geo/sampling.h), 0 for one that got a
 * label for validation without having been drawn. */
struct store_drawn {
    char *bldg_id;
    int64_t draw, seed;
    char time[STORE_TIME_SIZE];
};
struct store_sample {
    struct store_drawn *item; /* [n] rising draw, then bldg_id */
    size_t n;
};
/* Records that these were drawn (draw, seed and bldg_id are read); durable before anybody is shown one. Those that
 * are there keep their first row, only a draw of 0 is replaced. */
bool store_sample_add(struct store *s, const char *aid, const struct store_drawn *d, size_t n, struct err *e);
bool store_sample_read(struct store *s, const char *aid, struct store_sample *out, struct err *e);
void store_sample_free(struct store_sample *l); /* accepts a zeroed one */

/* ---- jobs (web/jobs.h runs them) ---- */

enum store_job_status {
    JOB_ACCEPTED,
    JOB_RUNNING,
    JOB_SUCCESSFUL,
    JOB_FAILED,
    JOB_DISMISSED,
    JOB_STATUS_COUNT
};
const char *store_job_status_name(enum store_job_status s); /* OGC: "accepted" .. "dismissed" */
bool store_job_status_parse(const char *text, enum store_job_status *s);

struct store_job {
    char jid[STORE_JOB_ID_SIZE]; /* "AID.NUMBER" */
    char aid[STORE_AID_MAX + 1];
    int64_t number; /* in its assessment, from 1 */
    char *process;  /* "train" */
    char *inputs;   /* JSON object as it was accepted */
    enum store_job_status status;
    int progress;                                                                       /* 0..100 */
    char *message;                                                                      /* fit to show */
    char *result;                                                                       /* JSON, "" none */
    char created[STORE_TIME_SIZE], started[STORE_TIME_SIZE], finished[STORE_TIME_SIZE]; /* "" not yet */
};
struct store_jobs {
    struct store_job *item; /* [n] by created, then jid */
    size_t n;
};

/* Accepts a job; jid, number and created of *j are filled in. process, inputs, aid are read. */
bool store_job_create(struct store *s, const char *aid, const char *process, const char *inputs,
                      struct store_job *j, struct err *e);
/* Writes status, progress, message, result, started and finished of the row j->jid. */
bool store_job_update(struct store *s, const struct store_job *j, struct err *e);
/* Of one assessment, or of all (aid NULL). */
bool store_jobs_read(struct store *s, const char *aid, struct store_jobs *out, struct err *e);
bool store_job_copy(struct store_job *to, const struct store_job *from, struct err *e);
void store_job_free(struct store_job *j);   /* members only; accepts a zeroed one */
void store_jobs_free(struct store_jobs *l); /* accepts a zeroed one */

/* Now, as the store writes times. */
void store_time_now(char out[STORE_TIME_SIZE]);

#endif
