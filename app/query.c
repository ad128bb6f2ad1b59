/* SPDX-License-Identifier: Apache-2.0
 * query.c - an event opened for questions, declared in query.h. */
#include "app/query.h"

#include "app/train_synthetic.h"
#include "geo/answers.h"
#include "models/base/mem.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool query_open(struct query_data *q, const char *event_dir, const char *answers, int cut, size_t max_items,
                uint64_t seed, const struct progress *p, struct err *e)
{
    size_t n_matched;
    memset(q, 0, sizeof *q);
    q->ev = event_open(event_dir, e);
    if (!q->ev || !train_synthetic_refuse(q->ev, e) ||
        (strcmp(answers, "labels") != 0 && !answers_apply(q->ev, answers, &n_matched, e)) ||
        !event_load_imageset(q->ev, cut, max_items, seed, &q->set, p, e) ||
        !(q->x = mem_array(q->set.n, sizeof *q->x, "the places", e)) ||
        !(q->y = mem_array(q->set.n, sizeof *q->y, "the places", e))) {
        query_close(q);
        return false;
    }
    for (size_t i = 0; i < q->set.n; i++) {
        q->x[i] = query_building(q, i)->x_m;
        q->y[i] = query_building(q, i)->y_m;
    }
    return true;
}

void query_close(struct query_data *q)
{
    event_close(q->ev);
    imageset_free(&q->set);
    free(q->x);
    free(q->y);
    memset(q, 0, sizeof *q);
}

const struct event_building *query_building(const struct query_data *q, size_t item)
{
    return &q->ev->building[q->set.id[item] - 1];
}

void query_why(const struct active_options *o, const struct active_pick *pick, char out[64])
{
    if (pick->validate)
        snprintf(out, 64, "drawn blindly");
    else if (o->strategy.score == ACTIVE_RANDOM)
        snprintf(out, 64, "random");
    else if (o->strategy.selection == ACTIVE_DENSITY)
        snprintf(out, 64, "unsure and typical");
    else if (o->strategy.selection == ACTIVE_OUTLIER)
        snprintf(out, 64, "unsure and unlike the rest");
    else if (pick->cluster >= 0 && !pick->filled)
        snprintf(out, 64, "least sure of cluster %d", pick->cluster + 1);
    else
        snprintf(out, 64, "least sure");
}

void query_csv_field(FILE *f, const char *s)
{
    if (!strpbrk(s, ",\"\r\n")) {
        fputs(s, f);
        return;
    }
    putc('"', f);
    for (; *s; s++) {
        if (*s == '"')
            putc('"', f);
        putc(*s, f);
    }
    putc('"', f);
}
