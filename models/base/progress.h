/* SPDX-License-Identifier: Apache-2.0
 *
 * progress.h - how long work tells its caller where it stands, and learns that it should stop. The engine
 * never prints: app/ draws a bar or lines, web/ fills a job record. A NULL pointer means nobody listens. */
#ifndef AM_PROGRESS_H
#define AM_PROGRESS_H

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>

struct progress {
    /* stage: a short stable name ("read", "train"); done of total in any unit; note: one short clause or
     * NULL. */
    void (*report)(void *ctx, const char *stage, double done, double total, const char *note);
    /* One sentence the user should read (a fact about the data, a fallback taken). Not an error. */
    void (*warn)(void *ctx, const char *sentence);
    void *ctx;
    const volatile sig_atomic_t *stop; /* non-zero: finish cleanly with ERR_INTERRUPTED */
};

static inline void progress_report(const struct progress *p, const char *stage, double done, double total,
                                   const char *note)
{
    if (p && p->report)
        p->report(p->ctx, stage, done, total, note);
}

static inline void progress_warn(const struct progress *p, const char *sentence)
{
    if (p && p->warn)
        p->warn(p->ctx, sentence);
}

static inline bool progress_stopped(const struct progress *p)
{
    return p && p->stop && *p->stop;
}

#endif
