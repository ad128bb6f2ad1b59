/* SPDX-License-Identifier: Apache-2.0
 *
 * store_jobs.c - the rows of jobs. Declared in store.h; web/jobs.h runs them.
 *
 * A job's id is its assessment's with its number behind it, so it is found without an index over all assessments and
 * goes wherever the assessment's folder goes. */
#include "geo/store_parts.h"
#include "models/base/mem.h"

#include <stdlib.h>
#include <string.h>

static const char *const status_name[JOB_STATUS_COUNT] = {"accepted", "running", "successful", "failed",
                                                          "dismissed"};

const char *store_job_status_name(enum store_job_status s)
{
    return status_name[s];
}

bool store_job_status_parse(const char *text, enum store_job_status *s)
{
    for (int k = 0; k < JOB_STATUS_COUNT; k++)
        if (strcmp(text, status_name[k]) == 0) {
            *s = k;
            return true;
        }
    return false;
}

void store_job_free(struct store_job *j)
{
    free(j->process);
    free(j->inputs);
    free(j->message);
    free(j->result);
    *j = (struct store_job){0};
}

void store_jobs_free(struct store_jobs *l)
{
    for (size_t i = 0; i < l->n; i++)
        store_job_free(&l->item[i]);
    free(l->item);
    *l = (struct store_jobs){0};
}

bool store_job_copy(struct store_job *to, const struct store_job *from, struct err *e)
{
    *to = *from;
    to->process = to->inputs = to->message = to->result = NULL;
    if ((to->process = mem_strdup(from->process, e)) && (to->inputs = mem_strdup(from->inputs, e)) &&
        (to->message = mem_strdup(from->message, e)) && (to->result = mem_strdup(from->result, e)))
        return true;
    store_job_free(to);
    return false;
}

static bool number_job(struct store_db *db, const char *aid, int64_t *number, struct err *e)
{
    struct sql q;
    if (!sql_begin(&q, e))
        return false;
    fputs("SELECT COALESCE(MAX(number), 0) + 1 AS n FROM jobs WHERE aid = ", q.out);
    sql_text(&q, aid);
    return sql_integer(db, &q, 1, number, e);
}

bool store_job_create(struct store *s, const char *aid, const char *process, const char *inputs,
                      struct store_job *j, struct err *e)
{
    struct sql q;
    int64_t seq;
    *j = (struct store_job){.status = JOB_ACCEPTED};
    if (!store_writable(s, e) || !store_check_text(process, STORE_BY_MAX, "the process", e) ||
        !store_check_text(inputs, STORE_JSON_MAX, "the inputs", e))
        return false;
    struct store_db *db = store_db_take(s, aid, e);
    if (!db)
        return false;
    bool ok = (j->process = mem_strdup(process, e)) && (j->inputs = mem_strdup(inputs, e)) &&
              (j->message = mem_strdup("", e)) && (j->result = mem_strdup("", e));
    ok = ok && store_lock_assessment(db, aid, &seq, e) && number_job(db, aid, &j->number, e) &&
         sql_begin(&q, e);
    if (ok) {
        store_time_now(j->created);
        snprintf(j->aid, sizeof j->aid, "%s", aid);
        snprintf(j->jid, sizeof j->jid, "%s.%lld", aid, (long long)j->number);
        fputs("INSERT INTO jobs (aid, number, process, inputs, status, progress, message, result, created, "
              "started, "
              "finished) VALUES (",
              q.out);
        sql_text(&q, aid);
        fprintf(q.out, ",%lld,", (long long)j->number);
        sql_text(&q, process);
        fputc(',', q.out);
        sql_text(&q, inputs);
        fprintf(q.out, ",'accepted',0,'','','%s','','')", j->created);
        ok = sql_run(db, &q, e) && sql_commit(db, e);
    }
    store_db_give(s, db);
    if (!ok)
        store_job_free(j);
    return ok;
}

bool store_job_update(struct store *s, const struct store_job *j, struct err *e)
{
    struct sql q;
    int64_t seq;
    if (!store_writable(s, e))
        return false;
    struct store_db *db = store_db_take(s, j->aid, e);
    if (!db)
        return false;
    bool ok = store_lock_assessment(db, j->aid, &seq, e) && sql_begin(&q, e);
    if (ok) {
        fprintf(q.out, "UPDATE jobs SET status = '%s', progress = %d, message = ", status_name[j->status],
                j->progress);
        sql_text(&q, j->message);
        fputs(", result = ", q.out);
        sql_text(&q, j->result);
        fputs(", started = ", q.out);
        sql_text(&q, j->started);
        fputs(", finished = ", q.out);
        sql_text(&q, j->finished);
        fprintf(q.out, " WHERE number = %lld AND aid = ", (long long)j->number);
        sql_text(&q, j->aid);
        ok = sql_run(db, &q, e) && sql_commit(db, e);
    }
    store_db_give(s, db);
    return ok;
}

static bool read_job(OGRFeatureH row, struct store_job *j, struct err *e)
{
    *j = (struct store_job){.number = OGR_F_GetFieldAsInteger64(row, 1),
                            .progress = OGR_F_GetFieldAsInteger(row, 5)};
    snprintf(j->aid, sizeof j->aid, "%s", OGR_F_GetFieldAsString(row, 0));
    snprintf(j->jid, sizeof j->jid, "%s.%lld", j->aid, (long long)j->number);
    store_column_time(row, 8, j->created);
    store_column_time(row, 9, j->started);
    store_column_time(row, 10, j->finished);
    bool ok = (j->process = store_column_text(row, 2, e)) && (j->inputs = store_column_text(row, 3, e)) &&
              (j->message = store_column_text(row, 6, e)) && (j->result = store_column_text(row, 7, e));
    if (ok && !store_job_status_parse(OGR_F_GetFieldAsString(row, 4), &j->status))
        ok = err_set(e, ERR_RUNTIME, "job %s has no status that aftermap writes", j->jid);
    if (!ok)
        store_job_free(j);
    return ok;
}

static bool read_jobs(struct store *s, const char *aid, struct store_jobs *out, struct err *e)
{
    struct sql q;
    OGRLayerH rows = NULL;
    struct store_db *db = store_db_take(s, aid, e);
    bool ok = db && sql_begin(&q, e);
    if (ok) {
        fputs("SELECT aid, number, process, inputs, status, progress, message, result, created, started, "
              "finished FROM "
              "jobs WHERE aid = ",
              q.out);
        sql_text(&q, aid);
        fputs(" ORDER BY number", q.out);
        ok = sql_query(db, &q, &rows, e);
    }
    for (OGRFeatureH row; ok && (row = OGR_L_GetNextFeature(rows)); OGR_F_Destroy(row)) {
        ok = mem_grow(&out->item, out->n + 1, sizeof *out->item, "the jobs", e) &&
             read_job(row, &out->item[out->n], e);
        out->n += ok;
    }
    if (db) {
        sql_release(db, rows);
        store_db_give(s, db);
    }
    return ok;
}

static int compare_jobs(const void *a_, const void *b_)
{
    const struct store_job *a = a_, *b = b_;
    int by_time = strcmp(a->created, b->created), by_aid = strcmp(a->aid, b->aid);
    return by_time ? by_time : by_aid ? by_aid : (a->number > b->number) - (a->number < b->number);
}

bool store_jobs_read(struct store *s, const char *aid, struct store_jobs *out, struct err *e)
{
    char(*ids)[STORE_AID_MAX + 1] = NULL;
    size_t n = 0;
    *out = (struct store_jobs){0};
    bool ok = aid ? read_jobs(s, aid, out, e) : store_assessment_list(s, &ids, &n, e);
    for (size_t i = 0; ok && i < n; i++)
        ok = read_jobs(s, ids[i], out, e);
    free(ids);
    if (ok && out->n)
        qsort(out->item, out->n, sizeof *out->item, compare_jobs);
    if (!ok)
        store_jobs_free(out);
    return ok;
}
