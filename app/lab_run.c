/* SPDX-License-Identifier: Apache-2.0
 * lab_run.c - see lab_run.h. */
#include "app/lab_run.h"
#include "models/base/file.h"

#include <stdio.h>
#include <time.h>

enum { UPDATES_AT_ONCE = 20, SAVE_EVERY_S = 60 };

bool lab_run_may_write(const char *out, bool resume, const struct common *common, struct err *e)
{
    return resume || common->overwrite || common->dry_run || !file_exists(out) ||
           err_set(e, ERR_USAGE,
                   "%s exists already; add --resume to go on with it or --overwrite to replace it", out);
}

bool lab_run_through(const struct lab_run *r, const char *out, const struct checkpoint_meta *meta, int n_meta,
                     double *seconds, const struct progress *progress, struct err *e)
{
    struct timespec begun, saved, now;
    struct err second;
    bool ok = true;
    clock_gettime(CLOCK_MONOTONIC, &begun);
    saved = begun;
    while (ok && !r->finished(r->run)) {
        ok = r->train(r->run, r->data, UPDATES_AT_ONCE, progress, e);
        clock_gettime(CLOCK_MONOTONIC, &now);
        if (ok && now.tv_sec - saved.tv_sec >= SAVE_EVERY_S) {
            ok = r->save(r->run, out, meta, n_meta, e);
            saved = now;
        }
    }
    if (!ok && e->code != ERR_INTERRUPTED)
        return false;
    ok = r->save(r->run, out, meta, n_meta, ok ? e : &second) && ok;
    clock_gettime(CLOCK_MONOTONIC, &now);
    *seconds = (double)(now.tv_sec - begun.tv_sec);
    return ok;
}

bool lab_run_print(const struct common *common, const char *out, cJSON *j, struct err *e)
{
    if (common->json)
        return print_json(j, e);
    cJSON_Delete(j);
    puts(out);
    return flush_stdout(e);
}

void lab_run_refuse(const struct argp_state *state, const struct argp_option *options, unsigned given,
                    unsigned groups, const char *command, const char *verb)
{
    for (int key = 1; key < 32; key++)
        for (const struct argp_option *o = options; given & 1u << key && (o->name || o->doc); o++)
            if (o->name && o->key == key && !(groups >> o->group & 1))
                argp_error(state, "--%s is no option of `%s %s`", o->name, command, verb);
}
