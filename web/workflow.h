/* SPDX-License-Identifier: Apache-2.0
 *
 * workflow.h - the editing side of the server: a store, its jobs, the uploads and the open events under one data root.
 * A thread of its own waits for jobs to end and then shows what they made: the event's footprints and images after an
 * import, the map after a prediction. Opening a large map takes seconds, which no request has to wait for. */
#ifndef AM_WORKFLOW_H
#define AM_WORKFLOW_H

#include "geo/store.h"
#include "web/event_cache.h"
#include "web/jobs.h"
#include "web/service.h"
#include "web/watch.h"

struct workflow_options {
    const char *root, *store_spec; /* the data root; NULL or "postgresql:..." (store.h) */
    uint64_t max_upload_bytes;
    bool (*has_command)(const char *name);
};

enum { WORKFLOW_RETRAIN_EVERY = 25, WORKFLOW_HANDOUTS = 4096, WORKFLOW_FIGURES = 1024 };

/* A building that somebody was given to look at, found by its hash; a newcomer replaces what it collides with. */
struct workflow_handout {
    uint64_t key, user;
    int64_t at_ms;
};

/* What a model was worth (curve.h), found by the hash of all it depends on; a newcomer replaces what it collides with. */
struct workflow_figures {
    uint64_t key;
    size_t n_judged;
    double f1, f1_low, f1_high, ap, auroc, changed_share;
};

struct workflow {
    struct store *store;
    struct jobs *jobs;
    struct event_cache *events;
    struct service *service;
    uint64_t max_upload_bytes;
    pthread_mutex_t upload_lock;  /* one chunk of one upload at a time */
    pthread_mutex_t handout_lock; /* guards handout */
    struct workflow_handout handout[WORKFLOW_HANDOUTS];
    pthread_mutex_t figures_lock; /* guards figures */
    struct workflow_figures figures[WORKFLOW_FIGURES];
    pthread_t thread;
    bool has_thread;
    atomic_bool is_stopping;
};

/* Opens everything and shows what is there. NULL on error (store_open, jobs_start). */
struct workflow *workflow_open(const struct workflow_options *o, struct service *s, struct err *e);
void workflow_close(struct workflow *w); /* accepts NULL */

/* The assessment's settings; false: the reply is a 404 (or what the store says). */
bool workflow_assessment(const struct service *s, const struct http_request *q, const char *aid,
                         struct store_assessment *a, struct http_reply *reply);
/* Its event folder, open; give it back. NULL: the reply is complete, a 409 when it has not been made yet. */
struct event_loan *workflow_event(const struct service *s, const struct http_request *q, const char *aid,
                                  struct http_reply *reply);
/* A building of it; false: the reply is a 404. */
bool workflow_building(const struct http_request *q, const struct event_loan *l, const char *bldg_id,
                       size_t *index, struct http_reply *reply);

#endif
