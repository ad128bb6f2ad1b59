/* SPDX-License-Identifier: Apache-2.0
 *
 * pate.c - shards and noisy votes of pate.h.
 *
 * Shards are not stratified by class on purpose: whoever balances labels lets one unit's label move the others
 * between shards, and the promise of pate.h is gone. A shard may therefore lack a class; its teacher then
 * never votes for it, and with a single class it always votes for that. */
#include "models/learn/pate.h"

#include "models/base/mem.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- shards ---- */

struct member {
    int64_t unit;
    uint32_t item;
};

static int by_unit(const void *pa, const void *pb)
{
    const struct member *a = pa, *b = pb;
    return a->unit != b->unit ? (a->unit > b->unit) - (a->unit < b->unit)
                              : (a->item > b->item) - (a->item < b->item);
}

/* Private items sorted by unit, units numbered from 0. */
static struct member *collect(const struct imageset *set, enum pate_unit unit, size_t *n, size_t *n_units,
                              struct err *e)
{
    struct member *m = mem_array(set->n, sizeof *m, "the shards", e);
    *n = *n_units = 0;
    if (!m)
        return NULL;
    for (size_t i = 0; i < set->n; i++)
        if (set->split[i] == IMAGESET_TRAIN && set->label[i] != IMAGESET_NO_LABEL)
            m[(*n)++] = (struct member){.unit = unit == PATE_UNIT_BLOCK ? set->block[i] : (int64_t)i,
                                        .item = (uint32_t)i};
    qsort(m, *n, sizeof *m, by_unit);
    int64_t last = 0;
    for (size_t k = 0; k < *n; k++) {
        *n_units += k == 0 || m[k].unit != last;
        last = m[k].unit;
        m[k].unit = (int64_t)*n_units - 1;
    }
    return m;
}

bool pate_shards_make(struct pate_shards *s, const struct imageset *set, int n_shards, enum pate_unit unit,
                      uint64_t seed, struct err *e)
{
    struct rng r;
    memset(s, 0, sizeof *s);
    assert(n_shards > 0);
    struct member *m = collect(set, unit, &s->n_items, &s->n_units, e);
    uint32_t *place = m ? mem_array(s->n_units, sizeof *place, "the shards", e) : NULL;
    bool ok = place;
    s->n_shards = n_shards;
    if (ok && s->n_units < (size_t)n_shards)
        ok = err_set(
            e, ERR_INPUT,
            "%s: holds %zu labelled private %s, fewer than the %d teachers, each of which needs one of "
            "its own; take fewer teachers or more data",
            set->source, s->n_units, unit == PATE_UNIT_BLOCK ? "blocks" : "items", n_shards);
    ok = ok && (s->item = mem_array(s->n_items, sizeof *s->item, "the shards", e)) &&
         (s->start = mem_array((size_t)n_shards + 1, sizeof *s->start, "the shards", e));
    if (ok) {
        rng_init(&r, seed, RNG_METHOD, 0);
        rng_permutation(&r, place, (uint32_t)s->n_units);
        for (size_t k = 0; k < s->n_items; k++)
            s->start[place[m[k].unit] % (uint32_t)n_shards + 1]++;
        for (int i = 0; i < n_shards; i++)
            s->start[i + 1] += s->start[i];
        for (size_t k = s->n_items; k-- > 0;) /* the ends serve as marks while shards fill from behind */
            s->item[--s->start[place[m[k].unit] % (uint32_t)n_shards + 1]] = m[k].item;
        for (int i = 0; i < n_shards; i++) /* and hold the starts afterwards */
            s->start[i] = s->start[i + 1];
        s->start[n_shards] = s->n_items;
        assert(pate_shards_disjoint(s, set, unit));
    } else
        pate_shards_free(s);
    free(place);
    free(m);
    return ok;
}

void pate_shards_free(struct pate_shards *s)
{
    free(s->item);
    free(s->start);
    memset(s, 0, sizeof *s);
}

struct place {
    int64_t unit;
    int shard;
};

static int by_place(const void *pa, const void *pb)
{
    const struct place *a = pa, *b = pb;
    return (a->unit > b->unit) - (a->unit < b->unit);
}

bool pate_shards_disjoint(const struct pate_shards *s, const struct imageset *set, enum pate_unit unit)
{
    struct err e;
    struct place *p = mem_array(s->n_items, sizeof *p, "the shards", &e);
    unsigned char *seen = mem_array(set->n, 1, "the shards", &e);
    bool ok = p && seen && s->start[0] == 0 && s->start[s->n_shards] == s->n_items;
    for (int i = 0; ok && i < s->n_shards; i++)
        for (size_t k = s->start[i]; ok && k < s->start[i + 1]; k++) {
            const uint32_t item = s->item[k];
            ok = item < set->n && !seen[item];
            if (ok) {
                seen[item] = 1;
                p[k] = (struct place){unit == PATE_UNIT_BLOCK ? set->block[item] : (int64_t)item, i};
            }
        }
    if (ok)
        qsort(p, s->n_items, sizeof *p, by_place);
    for (size_t k = 1; ok && k < s->n_items; k++)
        ok = p[k].unit != p[k - 1].unit || p[k].shard == p[k - 1].shard;
    free(p);
    free(seen);
    return ok;
}

/* ---- votes ---- */

const char *pate_kind_name(enum pate_kind kind)
{
    static const char *const names[] = {
        [PATE_LNMAX] = "lnmax", [PATE_GNMAX] = "gnmax", [PATE_CONFIDENT] = "confident-gnmax"};
    return names[kind];
}

int pate_answer(const struct pate_mechanism *m, const struct pate_noise *noise, uint64_t query,
                const int *votes, int n_classes)
{
    int top = 0, most = votes[0];
    double best = -INFINITY;
    for (int c = 1; c < n_classes; c++)
        most = votes[c] > most ? votes[c] : most;
    if (m->kind == PATE_CONFIDENT &&
        most + m->sigma_threshold * pate_noise_normal(noise, query, PATE_NOISE_THRESHOLD, 0) < m->threshold)
        return PATE_NO_ANSWER;
    for (int c = 0; c < n_classes; c++) {
        const double z = m->kind == PATE_LNMAX ? pate_noise_laplace(noise, query, PATE_NOISE_VOTE, c)
                                               : pate_noise_normal(noise, query, PATE_NOISE_VOTE, c);
        if (votes[c] + m->sigma * z > best) {
            best = votes[c] + m->sigma * z;
            top = c;
        }
    }
    return top;
}

/* Bound of the probability that all teachers agree and another class is released; for Laplace noise from
 * Papernot et al. 2017, lemma 4. */
static double drowned(const struct pate_mechanism *m, int n_teachers, int n_classes)
{
    const double t = n_teachers / m->sigma;
    if (m->kind == PATE_LNMAX)
        return fmin((n_classes - 1) * (2 + t) / (4 * exp(t)), 1 - 1.0 / n_classes);
    return fmin(exp(log(n_classes - 1) + pate_log_tail(t / M_SQRT2)), 1 - 1.0 / n_classes);
}

bool pate_mechanism_check(const struct pate_mechanism *m, int n_teachers, int n_classes, struct err *e)
{
    if (n_teachers < 2)
        return err_set(e, ERR_USAGE, "%d teachers hide nobody's vote; PATE wants some 50 or more",
                       n_teachers);
    if (!(m->sigma > 0) || (m->kind == PATE_CONFIDENT && !(m->sigma_threshold > 0)))
        return err_set(e, ERR_USAGE, "the noise must be above 0; votes without noise are not private");
    const double wrong = drowned(m, n_teachers, n_classes);
    if (wrong >= 0.4)
        return err_set(
            e, ERR_USAGE,
            "%d teachers are too few for noise of %g votes: even where all agree, another of the %d "
            "classes comes out in up to %.0f %% of the queries; take more teachers or, at a higher "
            "epsilon, less noise",
            n_teachers, m->sigma, n_classes, 100 * wrong);
    if (m->kind != PATE_CONFIDENT)
        return true;
    const double answered = exp(pate_log_answered(n_teachers, m->threshold, m->sigma_threshold));
    return answered >= 0.01 ||
           err_set(e, ERR_USAGE,
                   "the threshold of %g is out of reach of %d teachers: even where all agree, %.2g %% of the "
                   "queries are answered; lower it or take more teachers",
                   m->threshold, n_teachers, 100 * answered);
}
