/* SPDX-License-Identifier: Apache-2.0
 *
 * jobs.c - the queue and its worker thread. Declared in jobs.h.
 *
 * All jobs that are listed are in memory (struct entry), in the order in which they run. One lock guards them; it is
 * never held while the store is written or a child is waited for. The worker alone moves a job to running and from
 * there to its end; cancelling an accepted job is the one change of status that others make, and it is made under the
 * lock before the worker can take the job.
 *
 * Order of truth: accepted is written to the store before it is shown; an end is written before it is shown, too, so
 * what a client has seen is there after a restart. If the store does not take an end (a full disk), the job shows as
 * failed with that reason, and the next start finds it running and resumes it or says that it failed. */
#include "web/jobs.h"

#include "models/base/mem.h"
#include "web/jobs_parts.h"

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

enum { MAX_WAITING = 64 };

struct entry {
    struct jobs_info info;
    bool is_resumed;
    int64_t labels_seq; /* of what a training job was given; 0 unknown */
    struct timespec begin;
};

struct jobs {
    struct jobs_options o;
    pthread_mutex_t
        submit; /* held from the look at what waits until the new job is there; taken before lock */
    pthread_mutex_t lock;
    pthread_cond_t change;
    struct entry **entry; /* [n]; pointers stay valid until forgotten or pruned, never while running */
    size_t n;
    struct entry *running;
    bool is_stopping, has_thread;
    int n_waiting; /* threads in jobs_wait() */
    atomic_uint_fast64_t seq;
    pthread_t thread;
    int lock_fd, wake_fd;
    struct jobs_process_info *process; /* [n_processes] */
    size_t n_processes;
};

/* ---- copies
 * --------------------------------------------------------------------------------------------------------------- */

void jobs_info_free(struct jobs_info *i)
{
    store_job_free(&i->job);
    *i = (struct jobs_info){0};
}

void jobs_list_free(struct jobs_list *l)
{
    for (size_t i = 0; i < l->n; i++)
        jobs_info_free(&l->item[i]);
    free(l->item);
    *l = (struct jobs_list){0};
}

static void free_entry(struct entry *t)
{
    if (t)
        jobs_info_free(&t->info);
    free(t);
}

static bool is_over(const struct entry *t)
{
    return t->info.job.status != JOB_ACCEPTED && t->info.job.status != JOB_RUNNING;
}

/* The lock is held. */
static bool copy_info(const struct jobs *j, const struct entry *t, struct jobs_info *out, struct err *e)
{
    struct jobs_info copy = t->info;
    if (!store_job_copy(&copy.job, &t->info.job, e))
        return false;
    for (size_t i = 0; t->info.job.status == JOB_ACCEPTED && i < j->n && j->entry[i] != t; i++)
        copy.queue_position += !is_over(j->entry[i]);
    *out = copy;
    return true;
}

static bool set_text(char **to, const char *text)
{
    char *copy = mem_strdup(text, NULL);
    if (!copy)
        return false;
    free(*to);
    *to = copy;
    return true;
}

/* The lock is held; the caller tells o.changed once it is not. */
static void mark(struct jobs *j, struct entry *t)
{
    t->info.seq = atomic_fetch_add(&j->seq, 1) + 1;
    store_time_now(t->info.updated);
    pthread_cond_broadcast(&j->change);
}

static void tell(struct jobs *j)
{
    if (j->o.changed)
        j->o.changed(j->o.ctx, jobs_seq(j));
}

static void wake(struct jobs *j)
{
    uint64_t one = 1;
    while (write(j->wake_fd, &one, sizeof one) < 0 && errno == EINTR)
        ;
}

static struct entry *find(const struct jobs *j, const char *jid)
{
    for (size_t i = 0; i < j->n; i++)
        if (strcmp(j->entry[i]->info.job.jid, jid) == 0)
            return j->entry[i];
    return NULL;
}

static void drop(struct jobs *j, size_t i)
{
    free_entry(j->entry[i]);
    memmove(&j->entry[i], &j->entry[i + 1], (j->n - i - 1) * sizeof(struct entry *));
    j->n--;
}

/* Keeps the last `keep` jobs of an assessment that are over. The lock is held. */
static void prune(struct jobs *j, const char *aid)
{
    size_t seen = 0;
    for (size_t i = j->n; i-- > 0;)
        if (strcmp(j->entry[i]->info.job.aid, aid) == 0 && is_over(j->entry[i]) && ++seen > j->o.keep)
            drop(j, i);
}

/* ---- running one
 * --------------------------------------------------------------------------------------------------------- */

struct run {
    struct jobs *j;
    struct entry *t;
    const struct jobs_process *process;
};

static bool must_stop(void *ctx)
{
    struct run *r = ctx;
    pthread_mutex_lock(&r->j->lock);
    bool stop = r->j->is_stopping || r->t->info.is_cancelled;
    pthread_mutex_unlock(&r->j->lock);
    return stop;
}

static bool is_stopping(struct jobs *j)
{
    pthread_mutex_lock(&j->lock);
    bool stop = j->is_stopping;
    pthread_mutex_unlock(&j->lock);
    return stop;
}

static double seconds_since(const struct timespec *t)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)(now.tv_sec - t->tv_sec) + 1e-9 * (double)(now.tv_nsec - t->tv_nsec);
}

/* A line of the child's progress. Percent never falls; the time left is the stage's own while that stage is most of
 * the work, else what the share done so far suggests. */
static void on_progress(void *ctx, const char *stage, double done, double total, double eta_s,
                        const char *note)
{
    struct run *r = ctx;
    char message[256];
    const struct jobs_stage *at = NULL;
    for (int k = 0; k < JOBS_MAX_STAGES && r->process->stage[k].name; k++)
        if (strcmp(r->process->stage[k].name, stage) == 0)
            at = &r->process->stage[k];
    double share = total > 0 ? done / total : 0;
    share = share < 0 ? 0 : share > 1 ? 1 : share;
    snprintf(message, sizeof message, "%.40s%s%.200s", stage, note && *note ? ": " : "", note ? note : "");
    pthread_mutex_lock(&r->j->lock);
    struct jobs_info *i = &r->t->info;
    if (at) {
        int percent = (int)(at->from + share * (at->to - at->from));
        i->job.progress = percent > i->job.progress ? percent : i->job.progress;
    }
    if (at && at->to - at->from >= 50 && eta_s >= 0)
        i->eta_s = eta_s;
    else if (i->job.progress >= 5)
        i->eta_s = seconds_since(&r->t->begin) * (100 - i->job.progress) / i->job.progress;
    set_text(&i->job.message, message);
    mark(r->j, r->t);
    pthread_mutex_unlock(&r->j->lock);
    tell(r->j);
}

/* What is kept of a run: the command's JSON, and what it was given. */
static char *make_result(const struct jobs_end *end, const struct jobs_context *c)
{
    cJSON *o = end && end->output ? cJSON_Parse(end->output) : NULL;
    if (!cJSON_IsObject(o)) {
        cJSON_Delete(o);
        o = cJSON_CreateObject();
    }
    if (o && c->labels_seq >= 0) {
        cJSON_AddNumberToObject(o, "labels_seq", (double)c->labels_seq);
        cJSON_AddNumberToObject(o, "n_labels", (double)c->n_labels);
    }
    char *text = cJSON_PrintUnformatted(o);
    cJSON_Delete(o);
    return text;
}

static int64_t result_seq(const char *result)
{
    cJSON *o = cJSON_Parse(result);
    const cJSON *v = cJSON_GetObjectItemCaseSensitive(o, "labels_seq");
    int64_t seq = cJSON_IsNumber(v) ? (int64_t)v->valuedouble : 0;
    cJSON_Delete(o);
    return seq;
}

/* Changes status, message and result, in the store first. NULL: as it is. */
static bool change(struct jobs *j, struct entry *t, enum store_job_status status, const char *message,
                   const char *result, struct err *e)
{
    struct store_job row = {0};
    pthread_mutex_lock(&j->lock);
    bool ok = store_job_copy(&row, &t->info.job, e);
    pthread_mutex_unlock(&j->lock);
    if (!ok)
        return false;
    row.status = status;
    if (message && !set_text(&row.message, message))
        ok = err_set(e, ERR_RESOURCE, "not enough memory for a job");
    if (result && !set_text(&row.result, result))
        ok = err_set(e, ERR_RESOURCE, "not enough memory for a job");
    if (status == JOB_RUNNING && !*row.started)
        store_time_now(row.started);
    if (status == JOB_SUCCESSFUL)
        row.progress = 100;
    if (status != JOB_RUNNING && status != JOB_ACCEPTED)
        store_time_now(row.finished);
    ok = ok && store_job_update(j->o.store, &row, e);
    if (!ok) {
        store_job_free(&row);
        return false;
    }
    pthread_mutex_lock(&j->lock);
    store_job_free(&t->info.job);
    t->info.job = row;
    t->info.eta_s = -1;
    mark(j, t);
    pthread_mutex_unlock(&j->lock);
    tell(j);
    return true;
}

/* The end of a job, which has to be told even when the store does not take it. */
static void finish(struct jobs *j, struct entry *t, enum store_job_status status, const char *message,
                   const char *result)
{
    struct err e = {0};
    if (change(j, t, status, message, result, &e))
        return;
    pthread_mutex_lock(&j->lock);
    t->info.job.status = JOB_FAILED;
    t->info.eta_s = -1;
    set_text(&t->info.job.message, e.msg);
    store_time_now(t->info.job.finished);
    mark(j, t);
    pthread_mutex_unlock(&j->lock);
    tell(j);
}

static void conclude(struct run *r, const struct jobs_end *end, const struct jobs_context *c)
{
    char message[640], *result = make_result(end, c);
    pthread_mutex_lock(&r->j->lock);
    bool is_cancelled = r->t->info.is_cancelled, is_stopping = r->j->is_stopping;
    pthread_mutex_unlock(&r->j->lock);
    if (end->exit_status == 0)
        finish(r->j, r->t, JOB_SUCCESSFUL, "done", result);
    else if (is_cancelled)
        finish(r->j, r->t, JOB_DISMISSED, "cancelled", result);
    else if (!is_stopping) { /* else it stays running in the store, for the next start */
        if (end->exit_status < 0)
            snprintf(message, sizeof message, "the command was ended by signal %d (%s)%s", end->signal,
                     strsignal(end->signal), end->signal == SIGKILL ? "; perhaps memory ran out" : "");
        else
            snprintf(message, sizeof message, "%.500s",
                     *end->last ? end->last : "the command failed and gave no reason");
        finish(r->j, r->t, JOB_FAILED, message, result);
    }
    cJSON_free(result);
}

/* The words of the command, with everything they need written. */
static bool prepare(struct run *r, struct jobs_context *c, struct store_assessment *a, cJSON **inputs,
                    cJSON **settings, struct jobs_words *words, struct err *e)
{
    struct jobs *j = r->j;
    if (!store_assessment_get(j->o.store, r->t->info.job.aid, a, e))
        return false;
    *inputs = cJSON_Parse(r->t->info.job.inputs);
    *settings = cJSON_Parse(a->inputs);
    *c = (struct jobs_context){.store = j->o.store,
                               .job = &r->t->info.job,
                               .assessment = a,
                               .inputs = *inputs,
                               .settings = *settings,
                               .is_resumed = r->t->is_resumed,
                               .labels_seq = -1};
    return jobs_process_check(r->process, j->o.store, a->aid, *inputs, e) &&
           jobs_process_words(r->process, c, words, e);
}

/* Runs the child; *again: a checkpoint does not fit what it should go on with, so it has to start over. */
static bool run_child(struct run *r, bool *again, struct err *e)
{
    struct jobs *j = r->j;
    struct store_assessment a = {0};
    struct jobs_context c = {0};
    struct jobs_words words = {0};
    struct jobs_end end = {0};
    cJSON *inputs = NULL, *settings = NULL;
    char folder[PATH_MAX];
    *again = false;
    bool ok = prepare(r, &c, &a, &inputs, &settings, &words, e) &&
              store_path(j->o.store, r->t->info.job.aid, NULL, folder, sizeof folder, e);
    char *given = ok ? make_result(NULL, &c) : NULL;
    ok = ok && change(j, r->t, JOB_RUNNING, r->t->is_resumed ? "going on" : "starting", given, e);
    cJSON_free(given);
    if (ok && c.labels_seq >= 0) {
        pthread_mutex_lock(&j->lock);
        r->t->labels_seq = c.labels_seq;
        pthread_mutex_unlock(&j->lock);
    }
    ok = ok && jobs_child_run(j->o.program ? j->o.program : "/proc/self/exe", &words, folder, j->o.nice,
                              j->lock_fd, j->wake_fd, must_stop, on_progress, r, &end, e);
    if (ok && r->t->is_resumed && end.exit_status == err_exit_status(ERR_MODEL))
        *again = true;
    else if (ok)
        conclude(r, &end, &c);
    free(end.output);
    jobs_words_free(&words);
    cJSON_Delete(inputs);
    cJSON_Delete(settings);
    store_assessment_free(&a);
    return ok;
}

static void run_job(struct jobs *j, struct entry *t)
{
    struct run r = {j, t, jobs_process_find(t->info.job.process)};
    struct err e = {0};
    bool again = false, ok;
    clock_gettime(CLOCK_MONOTONIC, &t->begin);
    if (!r.process || !j->o.has_command(r.process->command)) {
        finish(j, t, JOB_FAILED, "this version of aftermap does not have that process", NULL);
        return;
    }
    do {
        ok = run_child(&r, &again, &e);
        if (again)
            t->is_resumed = false;
    } while (ok && again && !must_stop(&r));
    if (!ok)
        finish(j, t, JOB_FAILED, e.msg, NULL);
    else if (again && !is_stopping(j)) /* cancelled between two attempts */
        finish(j, t, JOB_DISMISSED, "cancelled", NULL);
}

static void *work(void *ctx)
{
    struct jobs *j = ctx;
    char aid[STORE_AID_MAX + 1];
    pthread_mutex_lock(&j->lock);
    while (!j->is_stopping) {
        struct entry *next = NULL;
        for (size_t i = 0; i < j->n && !next; i++)
            if (j->entry[i]->info.job.status == JOB_ACCEPTED)
                next = j->entry[i];
        if (!next) {
            pthread_cond_wait(&j->change, &j->lock);
            continue;
        }
        j->running = next;
        next->info.job.status = JOB_RUNNING; /* from here on nobody else ends it */
        pthread_mutex_unlock(&j->lock);
        run_job(j, next);
        pthread_mutex_lock(&j->lock);
        j->running = NULL;
        snprintf(aid, sizeof aid, "%s", next->info.job.aid);
        prune(j, aid);
    }
    pthread_mutex_unlock(&j->lock);
    return NULL;
}

/* ---- starting and stopping
 * ----------------------------------------------------------------------------------------------- */

void jobs_defaults(struct jobs_options *o)
{
    *o = (struct jobs_options){.nice = 10, .keep = 200};
}

static bool list_processes(struct jobs *j, struct err *e)
{
    size_t n = 0;
    while (jobs_process_table[n].id)
        n++;
    if (!(j->process = mem_array(n, sizeof *j->process, "the processes", e)))
        return false;
    for (size_t i = 0; i < n; i++) {
        const struct jobs_process *p = &jobs_process_table[i];
        if (!j->o.has_command(p->command))
            continue;
        char *schema = jobs_process_schema(p);
        if (!schema)
            return err_set(e, ERR_RESOURCE, "not enough memory for the processes");
        j->process[j->n_processes++] = (struct jobs_process_info){.id = p->id,
                                                                  .title = p->title,
                                                                  .description = p->description,
                                                                  .inputs_schema = schema,
                                                                  .is_resumable = p->is_resumable,
                                                                  .needs_event = p->needs_event};
    }
    return true;
}

static struct entry *add_entry(struct jobs *j, size_t at, struct store_job *job, struct err *e)
{
    if (!mem_grow(&j->entry, j->n + 1, sizeof *j->entry, "the jobs", e))
        return NULL;
    struct entry *t = mem_array(1, sizeof *t, "a job", e);
    if (!t)
        return NULL;
    t->info.job = *job;
    t->info.eta_s = -1;
    t->labels_seq = result_seq(job->result);
    snprintf(t->info.updated, sizeof t->info.updated, "%s",
             *job->finished  ? job->finished
             : *job->started ? job->started
                             : job->created);
    *job = (struct store_job){0};
    memmove(&j->entry[at + 1], &j->entry[at], (j->n - at) * sizeof(struct entry *));
    j->entry[at] = t;
    j->n++;
    return t;
}

/* What the last server left: its running job goes on before all that wait, or has failed. */
static bool recover(struct jobs *j, struct err *e)
{
    struct store_jobs rows = {0};
    size_t n_front = 0;
    if (!store_jobs_read(j->o.store, NULL, &rows, e))
        return false;
    bool ok = true;
    for (size_t i = 0; ok && i < rows.n; i++) {
        struct store_job *row = &rows.item[i];
        const bool was_running = row->status == JOB_RUNNING;
        const struct jobs_process *p = jobs_process_find(row->process);
        if (was_running && p && p->is_resumable) {
            row->status = JOB_ACCEPTED;
            ok = set_text(&row->message, "waits to go on after a restart of the server");
        } else if (was_running) {
            row->status = JOB_FAILED;
            store_time_now(row->finished);
            ok = set_text(&row->message, "the server was restarted while this ran; start it again");
        }
        if (!ok)
            ok = err_set(e, ERR_RESOURCE, "not enough memory for the jobs");
        if (ok && was_running && row->status == JOB_FAILED)
            ok = store_job_update(j->o.store, row, e);
        const bool is_front = was_running && row->status == JOB_ACCEPTED;
        struct entry *t = ok ? add_entry(j, is_front ? n_front : j->n, row, e) : NULL;
        ok = t;
        if (t) {
            t->is_resumed = is_front;
            n_front += is_front;
        }
    }
    for (size_t i = 0; ok && i < rows.n; i++) /* moved into entries: the texts are theirs */
        rows.item[i] = (struct store_job){0};
    store_jobs_free(&rows);
    for (size_t i = 0; ok && i < j->n; i++)
        j->entry[i]->info.seq = atomic_fetch_add(&j->seq, 1) + 1;
    for (size_t i = j->n; ok && i-- > 0;)
        if (i < j->n)
            prune(j, j->entry[i]->info.job.aid);
    return ok;
}

struct jobs *jobs_start(const struct jobs_options *o, struct err *e)
{
    struct jobs *j = mem_array(1, sizeof *j, "the jobs", e);
    pthread_condattr_t attr;
    if (!j)
        return NULL;
    j->o = *o;
    j->lock_fd = j->wake_fd = -1;
    atomic_init(&j->seq, 1); /* 0 means "from the beginning" in jobs_list() */
    pthread_mutex_init(&j->lock, NULL);
    pthread_mutex_init(&j->submit, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&j->change, &attr);
    pthread_condattr_destroy(&attr);
    bool ok = (j->lock_fd = jobs_child_lock(store_root(o->store), e)) >= 0;
    if (ok && (j->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) < 0)
        ok = err_errno(e, ERR_RESOURCE, errno, "the worker cannot be started");
    ok = ok && list_processes(j, e) && recover(j, e);
    if (ok) {
        int failed = pthread_create(&j->thread, NULL, work, j);
        j->has_thread = !failed;
        ok = !failed || err_errno(e, ERR_RESOURCE, failed, "the worker cannot be started");
    }
    if (ok)
        return j;
    jobs_stop(j);
    return NULL;
}

void jobs_stop(struct jobs *j)
{
    if (!j)
        return;
    pthread_mutex_lock(&j->lock);
    j->is_stopping = true;
    pthread_cond_broadcast(&j->change);
    pthread_mutex_unlock(&j->lock);
    if (j->has_thread) {
        wake(j);
        pthread_join(j->thread, NULL);
    }
    pthread_mutex_lock(&j->lock);
    while (j->n_waiting)
        pthread_cond_wait(&j->change, &j->lock);
    pthread_mutex_unlock(&j->lock);
    for (size_t i = 0; i < j->n; i++)
        free_entry(j->entry[i]);
    for (size_t i = 0; i < j->n_processes; i++)
        cJSON_free((char *)j->process[i].inputs_schema);
    free(j->entry);
    free(j->process);
    if (j->lock_fd >= 0)
        close(j->lock_fd);
    if (j->wake_fd >= 0)
        close(j->wake_fd);
    pthread_cond_destroy(&j->change);
    pthread_mutex_destroy(&j->lock);
    pthread_mutex_destroy(&j->submit);
    free(j);
}

const struct jobs_process_info *jobs_processes(const struct jobs *j, size_t *n)
{
    *n = j->n_processes;
    return j->process;
}

/* ---- what callers do
 * ------------------------------------------------------------------------------------------------------ */

/* The lock is held. */
static bool may_wait(const struct jobs *j, const char *aid, const char *process, struct err *e)
{
    size_t n = 0;
    for (size_t i = 0; i < j->n; i++) {
        const struct store_job *job = &j->entry[i]->info.job;
        if (job->status != JOB_ACCEPTED)
            continue;
        if (strcmp(job->aid, aid) == 0 && strcmp(job->process, process) == 0)
            return err_set(e, ERR_CONFLICT, "%s of '%s' waits already, as job %s", process, aid, job->jid);
        n++;
    }
    return n < MAX_WAITING || err_set(e, ERR_RESOURCE, "%zu jobs wait already; try again later", n);
}

/* `submit` is held. */
static bool submit_one(struct jobs *j, const char *aid, const char *process, const cJSON *inputs,
                       struct jobs_info *out, struct err *e)
{
    const struct jobs_process *p = jobs_process_find(process);
    struct store_assessment a = {0};
    struct store_job row = {0};
    if (out)
        *out = (struct jobs_info){0};
    if (!p || !j->o.has_command(p->command))
        return err_set(e, ERR_NOT_FOUND, "there is no process '%.60s'", process);
    if (!store_assessment_get(j->o.store, aid, &a, e))
        return false;
    store_assessment_free(&a);
    if (!jobs_process_check(p, j->o.store, aid, inputs, e))
        return false;
    pthread_mutex_lock(&j->lock);
    bool ok = may_wait(j, aid, process, e);
    pthread_mutex_unlock(&j->lock);
    char *text = ok ? (inputs ? cJSON_PrintUnformatted(inputs) : mem_strdup("{}", e)) : NULL;
    if (ok && !text)
        ok = err_set(e, ERR_RESOURCE, "not enough memory for a job");
    ok = ok && store_job_create(j->o.store, aid, process, text, &row, e);
    free(text);
    if (!ok)
        return false;
    pthread_mutex_lock(&j->lock);
    struct entry *t = add_entry(j, j->n, &row, e);
    if (t) {
        mark(j, t);
        ok = !out || copy_info(j, t, out, e);
    }
    pthread_mutex_unlock(&j->lock);
    store_job_free(&row);
    return t && ok;
}

bool jobs_submit(struct jobs *j, const char *aid, const char *process, const cJSON *inputs,
                 struct jobs_info *out, struct err *e)
{
    pthread_mutex_lock(&j->submit);
    bool ok = submit_one(j, aid, process, inputs, out, e);
    pthread_mutex_unlock(&j->submit);
    if (ok)
        tell(j);
    return ok;
}

bool jobs_cancel(struct jobs *j, const char *jid, struct jobs_info *out, struct err *e)
{
    struct store_job row = {0};
    bool ok = true, is_waiting = false;
    if (out)
        *out = (struct jobs_info){0};
    pthread_mutex_lock(&j->lock);
    struct entry *t = find(j, jid);
    if (!t)
        ok = err_set(e, ERR_NOT_FOUND, "there is no job '%.60s'", jid);
    else if (t->info.job.status == JOB_ACCEPTED) {
        is_waiting = true;
        if ((ok = store_job_copy(&row, &t->info.job, e))) {
            t->info.job.status = row.status = JOB_DISMISSED; /* the worker will not take it any more */
            store_time_now(row.finished);
            memcpy(t->info.job.finished, row.finished, sizeof row.finished);
            set_text(&row.message, "cancelled");
            set_text(&t->info.job.message, "cancelled");
            mark(j, t);
        }
    } else if (t->info.job.status == JOB_RUNNING) {
        t->info.is_cancelled = true;
        mark(j, t);
        wake(j);
    } else {
        ok = err_set(e, ERR_CONFLICT, "job %s is over: %s", jid, store_job_status_name(t->info.job.status));
    }
    if (t && out && !copy_info(j, t, out, NULL))
        *out = (struct jobs_info){0};
    pthread_mutex_unlock(&j->lock);
    if (ok && is_waiting)
        ok = store_job_update(j->o.store, &row, e);
    store_job_free(&row);
    tell(j);
    return ok;
}

bool jobs_get(struct jobs *j, const char *jid, struct jobs_info *out, struct err *e)
{
    *out = (struct jobs_info){0};
    pthread_mutex_lock(&j->lock);
    const struct entry *t = find(j, jid);
    bool ok = t ? copy_info(j, t, out, e) : err_set(e, ERR_NOT_FOUND, "there is no job '%.60s'", jid);
    pthread_mutex_unlock(&j->lock);
    return ok;
}

static int by_change(const void *a, const void *b)
{
    uint64_t x = ((const struct jobs_info *)a)->seq, y = ((const struct jobs_info *)b)->seq;
    return (x > y) - (x < y);
}

static int newest_first(const void *a_, const void *b_)
{
    const struct jobs_info *a = a_, *b = b_;
    int by_time = strcmp(b->job.created, a->job.created);
    return by_time ? by_time : (a->job.number < b->job.number) - (a->job.number > b->job.number);
}

bool jobs_list(struct jobs *j, const char *aid, uint64_t after, struct jobs_list *out, struct err *e)
{
    bool ok = true;
    *out = (struct jobs_list){0};
    pthread_mutex_lock(&j->lock);
    out->seq = jobs_seq(j);
    for (size_t i = 0; ok && i < j->n; i++) {
        const struct entry *t = j->entry[i];
        if ((aid && strcmp(t->info.job.aid, aid) != 0) || (after && t->info.seq <= after))
            continue;
        ok = mem_grow(&out->item, out->n + 1, sizeof *out->item, "the jobs", e) &&
             copy_info(j, t, &out->item[out->n], e);
        out->n += ok;
    }
    pthread_mutex_unlock(&j->lock);
    if (!ok)
        jobs_list_free(out);
    else if (out->n)
        qsort(out->item, out->n, sizeof *out->item, after ? by_change : newest_first);
    return ok;
}

size_t jobs_active(struct jobs *j, const char *aid)
{
    size_t n = 0;
    pthread_mutex_lock(&j->lock);
    for (size_t i = 0; i < j->n; i++)
        n += !is_over(j->entry[i]) && (!aid || strcmp(j->entry[i]->info.job.aid, aid) == 0);
    pthread_mutex_unlock(&j->lock);
    return n;
}

void jobs_forget(struct jobs *j, const char *aid)
{
    pthread_mutex_lock(&j->lock);
    for (size_t i = j->n; i-- > 0;)
        if (strcmp(j->entry[i]->info.job.aid, aid) == 0 && j->entry[i] != j->running)
            drop(j, i);
    pthread_mutex_unlock(&j->lock);
}

uint64_t jobs_seq(const struct jobs *j)
{
    return atomic_load(&j->seq);
}

uint64_t jobs_wait(struct jobs *j, uint64_t after, int timeout_ms)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += timeout_ms / 1000;
    until.tv_nsec += (long)(timeout_ms % 1000) * 1000000;
    if (until.tv_nsec >= 1000000000) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000;
    }
    pthread_mutex_lock(&j->lock);
    j->n_waiting++;
    while (!j->is_stopping && jobs_seq(j) <= after)
        if (pthread_cond_timedwait(&j->change, &j->lock, &until) == ETIMEDOUT)
            break;
    uint64_t seq = j->is_stopping ? after : jobs_seq(j);
    if (--j->n_waiting == 0 && j->is_stopping)
        pthread_cond_broadcast(&j->change);
    pthread_mutex_unlock(&j->lock);
    return seq;
}

/* ---- training by itself
 * --------------------------------------------------------------------------------------------------- */

/* Labels newer than `since`, and whether there are any on both sides of the cut. */
static bool is_worth_it(struct jobs *j, const char *aid, int64_t since, int every)
{
    struct store_assessment a = {0};
    struct store_labels l = {0};
    size_t n_new = 0, side[2] = {0};
    bool ok = store_assessment_get(j->o.store, aid, &a, NULL) && a.seq - since >= every &&
              store_labels_read(j->o.store, aid, STORE_TRAIN, NULL, NULL, &l, NULL);
    for (size_t i = 0; ok && i < l.n; i++) {
        n_new += l.item[i].seq > since;
        if (l.item[i].level >= 0)
            side[l.item[i].level >= a.cut]++;
    }
    ok = ok && n_new >= (size_t)every && side[0] && side[1];
    store_labels_free(&l);
    store_assessment_free(&a);
    return ok;
}

bool jobs_labels_changed(struct jobs *j, const char *aid, int every)
{
    int64_t since = 0;
    bool is_busy = false;
    pthread_mutex_lock(&j->submit);
    pthread_mutex_lock(&j->lock);
    for (size_t i = 0; i < j->n; i++) {
        const struct entry *t = j->entry[i];
        if (strcmp(t->info.job.aid, aid) != 0 || strcmp(t->info.job.process, "train") != 0)
            continue;
        is_busy = is_busy || !is_over(t);
        since = t->labels_seq > since ? t->labels_seq : since;
    }
    pthread_mutex_unlock(&j->lock);
    bool ok = !is_busy && is_worth_it(j, aid, since, every) && submit_one(j, aid, "train", NULL, NULL, NULL);
    pthread_mutex_unlock(&j->submit);
    if (ok)
        tell(j);
    return ok;
}
