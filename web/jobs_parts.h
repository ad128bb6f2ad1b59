/* SPDX-License-Identifier: Apache-2.0
 *
 * jobs_parts.h - what the files of the worker share: what a process is (jobs_process.c), a child that runs one
 * (jobs_child.c), and the queue (jobs.c). */
#ifndef AM_JOBS_PARTS_H
#define AM_JOBS_PARTS_H

#include "models/base/progress.h"
#include "web/jobs.h"

enum { JOBS_MAX_WORDS = 4096, JOBS_MAX_INPUTS = 12, JOBS_MAX_STAGES = 8 };

/* The words of a command line; owned. */
struct jobs_words {
    char **item; /* NULL-ended */
    size_t n;
};
bool jobs_words_add(struct jobs_words *w, struct err *e, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
void jobs_words_free(struct jobs_words *w);

/* What a builder may look at. Paths in words are relative to the assessment's folder, in which the child runs: what
 * it says about its files is then fit to show. */
struct jobs_context {
    struct store *store;
    const struct store_job *job;
    const struct store_assessment *assessment;
    const cJSON *inputs, *settings; /* of the job; of the assessment (store_assessment.inputs) */
    bool is_resumed;
    /* results of a builder */
    int64_t labels_seq; /* -1: the process takes no labels */
    size_t n_labels;
};

enum jobs_kind { JOBS_INTEGER, JOBS_NUMBER, JOBS_CHOICE, JOBS_MODEL };

struct jobs_input {
    const char *name, *title, *option; /* option: "--budget"; NULL: the builder looks at it */
    enum jobs_kind kind;
    double low, high;     /* integers and numbers */
    const char *choices;  /* "measure,reset" */
    const char *fallback; /* given when the client does not; NULL none */
    const char *unit;     /* behind the number on the command line: "s" */
};

/* A stage of the command's own progress, and the part of the whole that it fills, in percent. */
struct jobs_stage {
    const char *name;
    double from, to;
};

struct jobs_process {
    const char *id, *command, *title, *description;
    bool is_resumable, needs_event, needs_map;
    const struct jobs_input *inputs; /* ended by a NULL name */
    struct jobs_stage stage[JOBS_MAX_STAGES];
    /* Adds the words behind the command's name; options of `inputs` follow by themselves. */
    bool (*build)(struct jobs_context *c, struct jobs_words *w, struct err *e);
};
extern const struct jobs_process jobs_process_table[]; /* ended by a NULL id */

const struct jobs_process *jobs_process_find(const char *id);
/* ERR_INPUT names the input that cannot be. */
bool jobs_process_check(const struct jobs_process *p, const struct store *s, const char *aid,
                        const cJSON *inputs, struct err *e);
/* The inputs as OGC API - Processes describes them; caller frees with cJSON_free. */
char *jobs_process_schema(const struct jobs_process *p);
bool jobs_process_words(const struct jobs_process *p, struct jobs_context *c, struct jobs_words *w,
                        struct err *e);

/* ---- a child ---- */

struct jobs_child; /* one process under way */

/* What became of it. */
struct jobs_end {
    int exit_status; /* -1: ended by `signal` */
    int signal;
    char *output;   /* what it wrote on standard output, NUL-ended; caller frees */
    char last[512]; /* the last line it said that was no progress, "aftermap: " taken off */
};

/* Runs program with words in folder until it ends. report: each line of progress, as progress.h says it. wake_fd: an
 * eventfd that makes it look at *stop (1: SIGINT once, later SIGKILL). lock_fd: stays open in the child as descriptor 3.
 * False only when it could not be started. */
bool jobs_child_run(const char *program, const struct jobs_words *words, const char *folder, int nice,
                    int lock_fd, int wake_fd, bool (*stop)(void *ctx),
                    void (*report)(void *ctx, const char *stage, double done, double total, double eta_s,
                                   const char *note),
                    void *ctx, struct jobs_end *end, struct err *e);

/* The lock that a child of a killed server may still hold: waits for it, then ends that child. -1 on error. */
int jobs_child_lock(const char *root, struct err *e);

#endif
