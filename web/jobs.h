/* SPDX-License-Identifier: Apache-2.0
 *
 * jobs.h - long work on assessments, one at a time. One worker thread owns training and inference: it takes the
 * oldest accepted job and runs it as a child process of this same program (`aftermap train EVENT ...
 * --progress json --json`), so that a crash or a full memory in there never takes the server down, and with a
 * lower priority, so that requests stay quick meanwhile.
 *
 *        accepted ----> running ----> successful        cancel of an accepted job: dismissed at once
 *            |             |--------> failed            cancel of a running one: SIGINT; the child writes its
 *            |             |                            checkpoint and ends, then: dismissed
 *            '-----------> dismissed                    restart of the server: see jobs_start()
 *
 * What a process is (its command, how its arguments are made of the inputs, whether it can go on where it was
 * broken off) is a row of the table in jobs_process.c; a process whose command this program does not have is not
 * offered.
 *
 * The child sees only the drivers that the server would allow (AFTERMAP_DRIVERS=few), gets no file of the server's,
 * dies with the server (PR_SET_PDEATHSIG: SIGINT, so that it saves its checkpoint), and holds a lock, ROOT/.worker,
 * that the next server waits for, so that no two children ever write the same files.
 *
 * Rows of the store (geo/store.h) are written when a status changes; progress in between lives in memory.
 * Every change has a number (`seq`, rising over all jobs) that streams of events use as their id.
 *
 * Threads: any thread may call anything after jobs_start(); the calls return at once (jobs_wait excepted). */
#ifndef AM_JOBS_H
#define AM_JOBS_H

#include "geo/store.h"
#include <cJSON.h>

struct jobs;

struct jobs_options {
    struct store *store;                   /* open with STORE_SERVE; outlives the jobs */
    bool (*has_command)(const char *name); /* whether the program knows this command */
    const char *program;                   /* NULL: /proc/self/exe */
    int nice;                              /* added to the priority of children: 10 */
    size_t keep; /* finished jobs of an assessment that are listed: 200 (rows stay) */
    void (*changed)(void *ctx,
                    uint64_t seq); /* may be NULL. Called after each change by the worker or by the caller of
                                                jobs_submit/cancel, no lock held; must return quickly */
    void *ctx;
};
void jobs_defaults(struct jobs_options *o);

/* Starts the worker. First a child that a killed server left behind is waited for (30 s, then it is killed). Jobs
 * found running go back to accepted, before all others, and go on from their checkpoint, when their process can
 * resume; else they have failed, and the message says that the server was restarted. NULL on error. */
struct jobs *jobs_start(const struct jobs_options *o, struct err *e);
/* Stops the worker: a running child is asked to save and end (SIGINT, after 20 s SIGKILL); its job stays running in
 * the store, so that the next start resumes it. Ends every
 * jobs_wait(); threads that use the jobs otherwise must be gone. Accepts NULL. */
void jobs_stop(struct jobs *j);

/* ---- processes ---- */

struct jobs_process_info {
    const char *id, *title, *description;
    const char
        *inputs_schema; /* JSON object: name -> {"title","description","schema","minOccurs"} as OGC API -
                                  Processes describes inputs */
    bool is_resumable;
    bool needs_event; /* false: import, which makes it */
};
/* The processes on offer: [*n], valid as long as the jobs. */
const struct jobs_process_info *jobs_processes(const struct jobs *j, size_t *n);

/* ---- jobs ---- */

/* A job as clients see it; copied out, free with jobs_info_free(). */
struct jobs_info {
    struct store_job job; /* progress and message are of now */
    char updated[STORE_TIME_SIZE];
    double eta_s;          /* seconds left; negative: not known */
    bool is_cancelled;     /* asked to end, still running */
    size_t queue_position; /* accepted: jobs before it, the running one included */
    uint64_t seq;          /* of its last change */
};
struct jobs_list {
    struct jobs_info *item; /* [n] */
    size_t n;
    uint64_t seq; /* of the last change of any job at that time */
};
void jobs_info_free(struct jobs_info *i); /* members only; accepts a zeroed one */
void jobs_list_free(struct jobs_list *l);

/* Accepts a job: durable when this returns true. inputs: an object without the member "assessment", or NULL; what is
 * in it is checked here. ERR_NOT_FOUND: no such process or assessment; ERR_INPUT: an input is unknown or cannot be (the
 * message names it), or there is no event or model yet; ERR_CONFLICT: the same process of the same assessment waits
 * already; ERR_RESOURCE: too many jobs wait (64). *out may be NULL. */
bool jobs_submit(struct jobs *j, const char *aid, const char *process, const cJSON *inputs,
                 struct jobs_info *out, struct err *e);
/* ERR_NOT_FOUND; ERR_CONFLICT when it has ended already (*out is filled then, too). *out may be NULL. */
bool jobs_cancel(struct jobs *j, const char *jid, struct jobs_info *out, struct err *e);
/* ERR_NOT_FOUND. */
bool jobs_get(struct jobs *j, const char *jid, struct jobs_info *out, struct err *e);
/* aid NULL: all; after: only those changed since (0: all). Oldest change first when after > 0, else newest job first. */
bool jobs_list(struct jobs *j, const char *aid, uint64_t after, struct jobs_list *out, struct err *e);
/* Accepted and running jobs of an assessment (NULL: of all). */
size_t jobs_active(struct jobs *j, const char *aid);
/* Forgets the jobs of a removed assessment; call after store_assessment_remove(). */
void jobs_forget(struct jobs *j, const char *aid);

/* ---- changes ---- */

uint64_t jobs_seq(const struct jobs *j); /* of the last change; cheap, no lock */
/* Waits until there is a change after `after`, the time is over or the jobs stop; returns jobs_seq(), or
 * `after` when the jobs stop: there is nothing to look at any more. */
uint64_t jobs_wait(struct jobs *j, uint64_t after, int timeout_ms);

/* ---- training by itself ---- */

/* Call after labels were written. Accepts a training job when at least `every` current training labels were added or
 * changed since the snapshot of the last one, there are labels on both sides of the cut, and none waits or runs.
 * Returns whether one was accepted. A failure is no error of the label's: it is left to the next call. */
bool jobs_labels_changed(struct jobs *j, const char *aid, int every);

#endif
