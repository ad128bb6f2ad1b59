/* SPDX-License-Identifier: Apache-2.0
 *
 * totals.c - from the map's buildings with the graded sample laid over them (totals_parts.h) to the totals of
 * totals.h: cuts every area into cells in which the sample is a simple random one (its stratum, and with the
 * model-assisted method the groups of like p_dmg), counts, and asks models/learn/estimate.h. All classes of an
 * area share one set of cells, so that their totals add up to its buildings.
 *
 * Conditional on how many graded buildings a zone happens to hold, they are a simple random sample of that zone,
 * so zones need no sample of their own. */
#include "geo/totals_parts.h"

#include "models/base/mem.h"
#include "models/learn/estimate.h"
#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MIN_GROUP = 8, FEW_STRATA = 12, DAMAGED = TOTALS_CLASSES, N_COUNTS = TOTALS_CLASSES + 1 };

/* An area's buildings are those whose zone passes. */
enum { ALL_ZONES = -2, OUTSIDE = -1 };

struct cells {
    int n;
    struct estimate_cell cell[ESTIMATE_MAX_CELLS]; /* n_hit unused */
    uint32_t hit[N_COUNTS][ESTIMATE_MAX_CELLS];
};

struct estimation {
    const struct totals_options *o;
    const struct totals_map *m;
    struct totals_report *r;
    struct err *e;
};

void totals_defaults(struct totals_options *o)
{
    *o = (struct totals_options){.method = TOTALS_ASSISTED, .level = 0.95, .half_width = NAN};
}

const char *totals_method_name(enum totals_method m)
{
    return m == TOTALS_EXACT ? "exact" : "model-assisted";
}

const char *totals_class_name(int index)
{
    static const char *const name[TOTALS_CLASSES] = {"none", "minor", "major", "destroyed", "unknown"};
    assert(index >= 0 && index < TOTALS_CLASSES);
    return name[index];
}

static void area_free(struct totals_area *a)
{
    free(a->zone_id);
    free(a->zone_name);
}

void totals_free(struct totals_report *r)
{
    free(r->map_path);
    free(r->run_id);
    free(r->created);
    free(r->model_digest);
    free(r->event_digest);
    free(r->event_path);
    free(r->source);
    free(r->stratified_by);
    area_free(&r->whole);
    for (int i = 0; i < r->n_zones; i++)
        area_free(&r->zone[i]);
    free(r->zone);
    for (int i = 0; i < r->n_notes; i++)
        free(r->note[i]);
    free(r->note);
    *r = (struct totals_report){0};
}

static bool is_damaged(const struct estimation *v, const struct totals_building *b)
{
    return b->truth < TOTALS_UNKNOWN && b->truth >= v->r->cut;
}

static bool in_area(const struct totals_building *b, int zone)
{
    return zone == ALL_ZONES || b->zone == zone;
}

static int bin_of(const struct totals_building *b)
{
    return isfinite(b->p_dmg) ? (int)fmin(fmax(b->p_dmg, 0) * ESTIMATE_BINS, ESTIMATE_BINS - 1) : 0;
}

/* ---- cells */

static void count_into(const struct estimation *v, struct cells *c, int k, const struct totals_building *b)
{
    c->cell[k].n_population++;
    if (b->state != TOTALS_GRADED)
        return;
    c->cell[k].n_sample++;
    c->hit[b->truth][k]++;
    c->hit[DAMAGED][k] += is_damaged(v, b);
}

/* The cells of one stratum within an area, put behind those there are. Buildings without a chip are a group of
 * their own when enough of them are graded, else they go with the least likely damaged. */
static void cut_stratum(const struct estimation *v, int zone, int stratum, bool grouped, struct cells *c)
{
    uint32_t bins[2][ESTIMATE_BINS] = {{0}}, blind = 0;
    int first[ESTIMATE_MAX_GROUPS] = {0}, groups = 1;
    const struct totals_map *m = v->m;
    for (size_t i = 0; i < m->n; i++) {
        const struct totals_building *b = &m->building[i];
        if (b->stratum == stratum && in_area(b, zone))
            blind += !isfinite(b->p_dmg) && b->state == TOTALS_GRADED;
    }
    const bool apart = grouped && blind >= MIN_GROUP;
    uint32_t n_rest = 0;
    for (size_t i = 0; i < m->n; i++) {
        const struct totals_building *b = &m->building[i];
        if (b->stratum != stratum || !in_area(b, zone) || (apart && !isfinite(b->p_dmg)))
            continue;
        bins[0][bin_of(b)]++;
        bins[1][bin_of(b)] += b->state == TOTALS_GRADED;
        n_rest += b->state == TOTALS_GRADED;
    }
    /* without a graded building among the others they cannot stand alone */
    const bool split = apart && n_rest >= MIN_GROUP;
    if (grouped && (split || !apart))
        groups = estimate_groups(bins[0], bins[1], MIN_GROUP, first);
    for (size_t i = 0; i < m->n; i++) {
        const struct totals_building *b = &m->building[i];
        if (b->stratum != stratum || !in_area(b, zone))
            continue;
        int g = groups - 1;
        while (g > 0 && bin_of(b) < first[g])
            g--;
        count_into(v, c, c->n + (split && !isfinite(b->p_dmg) ? groups : g), b);
    }
    c->n += groups + split;
}

/* Fills the cells of an area; says in `refused` when some stratum of it has no graded building. */
static void cut_area(const struct estimation *v, int zone, struct cells *c, char *refused, size_t size)
{
    const bool grouped = v->o->method == TOTALS_ASSISTED && v->m->n_strata <= FEW_STRATA;
    *c = (struct cells){0};
    for (int k = 0; k < v->m->n_strata; k++) {
        const int before = c->n;
        cut_stratum(v, zone, k, grouped && (ESTIMATE_MAX_CELLS - before) > ESTIMATE_MAX_GROUPS, c);
        if (c->n == before + 1 && c->cell[before].n_population == 0) {
            c->n = before; /* nothing of this stratum here */
            c->cell[before] = (struct estimate_cell){0};
            continue;
        }
        for (int i = before; i < c->n; i++)
            if (c->cell[i].n_sample == 0 && !*refused)
                snprintf(refused, size, "none of its %u buildings of the stratum %.60s is graded",
                         c->cell[i].n_population, v->m->stratum[k]);
    }
}

/* ---- totals of an area */

static bool estimate_one(const struct estimation *v, struct cells *c, int which, struct totals_total *t)
{
    struct estimate out;
    t->n_sampled = 0;
    for (int k = 0; k < c->n; k++) {
        c->cell[k].n_hit = c->hit[which][k];
        t->n_sampled += c->hit[which][k];
    }
    if (v->o->method == TOTALS_EXACT)
        estimate_exact(c->cell, c->n, v->o->level, &out);
    else if (!estimate_assisted(c->cell, c->n, v->o->level, &out, v->e))
        return false;
    t->estimate = out.total;
    t->low = out.low;
    t->high = out.high;
    return true;
}

static void count_area(const struct estimation *v, int zone, struct totals_area *a)
{
    const bool told = !v->m->is_event && (!v->m->binary || v->r->cut == v->m->cut);
    uint32_t damaged = 0;
    for (size_t i = 0; i < v->m->n; i++) {
        const struct totals_building *b = &v->m->building[i];
        if (!in_area(b, zone))
            continue;
        a->n_buildings++;
        a->n_sampled += b->state == TOTALS_GRADED;
        damaged += b->level >= v->r->cut;
    }
    a->n_predicted = told ? (double)damaged : (double)NAN;
}

static bool estimate_area(const struct estimation *v, int zone, struct totals_area *a)
{
    const struct totals_total none = {0, NAN, NAN, NAN};
    count_area(v, zone, a);
    a->damaged = none;
    for (int k = 0; k < TOTALS_CLASSES; k++)
        a->of_class[k] = none;
    if (a->n_buildings == 0)
        return true;
    const uint32_t least = a->n_buildings < TOTALS_MIN_SAMPLE ? a->n_buildings : TOTALS_MIN_SAMPLE;
    if (a->n_sampled < least) {
        snprintf(a->refused, sizeof a->refused, "%u of its %u buildings %s graded; %u are needed",
                 a->n_sampled, a->n_buildings, a->n_sampled == 1 ? "is" : "are", least);
        return true;
    }
    struct cells *c = mem_array(1, sizeof *c, "the estimate", v->e);
    bool ok = c != NULL;
    if (ok)
        cut_area(v, zone, c, a->refused, sizeof a->refused);
    if (ok && !*a->refused) {
        ok = estimate_one(v, c, DAMAGED, &a->damaged);
        for (int k = 0; ok && k < TOTALS_CLASSES; k++)
            ok = estimate_one(v, c, k, &a->of_class[k]);
    }
    free(c);
    return ok;
}

static bool estimate_zones(struct estimation *v, struct zones *z, const struct progress *p)
{
    struct totals_report *r = v->r;
    uint32_t outside = 0;
    const int n = zones_count(z);
    for (size_t i = 0; i < v->m->n; i++)
        outside += v->m->building[i].zone < 0;
    if (outside == v->m->n)
        return err_set(v->e, ERR_INPUT, "no building of %s lies in a zone of %s; are they of the same place?",
                       v->o->map_dir, v->o->zones);
    if (!(r->zone = mem_array((size_t)n + 1, sizeof *r->zone, "the zones", v->e)))
        return false;
    for (int i = 0; i < n + (outside > 0); i++) {
        struct totals_area *a = &r->zone[r->n_zones];
        progress_report(p, "zones", i, n, NULL);
        if (progress_stopped(p))
            return err_set(v->e, ERR_INTERRUPTED, "interrupted; nothing was changed");
        if (i < n && (!(a->zone_id = mem_strdup(zones_id(z, i), v->e)) ||
                      !(a->zone_name = mem_strdup(zones_name(z, i), v->e)))) {
            area_free(a);
            return false;
        }
        r->n_zones++;
        a->outside = i == n;
        if (!estimate_area(v, i < n ? i : OUTSIDE, a))
            return false;
        if (a->n_buildings == 0) { /* a zone elsewhere */
            area_free(a);
            *a = (struct totals_area){0};
            r->n_zones--;
        }
    }
    return true;
}

/* ---- precision and recall */

/* Of a simple random sample Clopper-Pearson on the buildings that count; with strata the ratio of the bounds of
 * the two totals, each at half the level's risk. */
static void share_of(const struct estimation *v, const struct estimate_cell *part,
                     const struct estimate_cell *rest, int n, struct totals_share *s)
{
    struct estimate a, b;
    uint32_t hit = 0, miss = 0;
    *s = (struct totals_share){NAN, NAN, NAN};
    for (int k = 0; k < n; k++) {
        hit += part[k].n_hit;
        miss += rest[k].n_hit;
    }
    if (hit + miss == 0)
        return;
    if (n == 1) {
        s->value = (double)hit / (hit + miss);
        estimate_binomial(hit + miss, hit, v->o->level, &s->low, &s->high);
        return;
    }
    estimate_exact(part, n, (1 + v->o->level) / 2, &a);
    estimate_exact(rest, n, (1 + v->o->level) / 2, &b);
    s->value = a.total / (a.total + b.total);
    s->low = a.low + b.high > 0 ? a.low / (a.low + b.high) : 0;
    s->high = a.high + b.low > 0 ? a.high / (a.high + b.low) : 1;
}

static void score_map(const struct estimation *v)
{
    struct estimate_cell hit[ESTIMATE_MAX_CELLS] = {{0}}, false_alarm[ESTIMATE_MAX_CELLS] = {{0}},
                         missed[ESTIMATE_MAX_CELLS] = {{0}};
    struct totals_report *r = v->r;
    const struct totals_map *m = v->m;
    r->precision = r->recall = (struct totals_share){NAN, NAN, NAN};
    if (!isfinite(r->whole.n_predicted) || m->n_strata > ESTIMATE_MAX_CELLS)
        return;
    for (int k = 0; k < m->n_strata; k++)
        hit[k].n_population = false_alarm[k].n_population = missed[k].n_population = m->stratum_size[k];
    for (size_t i = 0; i < m->n; i++) {
        const struct totals_building *b = &m->building[i];
        const int k = b->stratum;
        if (b->state != TOTALS_GRADED)
            continue;
        hit[k].n_sample++;
        false_alarm[k].n_sample++;
        missed[k].n_sample++;
        if (b->truth == TOTALS_UNKNOWN)
            continue;
        const bool called = b->level >= r->cut, is = is_damaged(v, b);
        r->n_scored++;
        hit[k].n_hit += called && is;
        false_alarm[k].n_hit += called && !is;
        missed[k].n_hit += !called && is;
    }
    share_of(v, hit, false_alarm, m->n_strata, &r->precision);
    share_of(v, hit, missed, m->n_strata, &r->recall);
}

/* ---- sample sizes */

static bool find_sizes(const struct estimation *v)
{
    struct totals_report *r = v->r;
    const struct totals_map *m = v->m;
    uint32_t bins[ESTIMATE_BINS] = {0}, size[ESTIMATE_MAX_GROUPS] = {0};
    double share[ESTIMATE_MAX_GROUPS] = {0};
    int first[ESTIMATE_MAX_GROUPS];
    const uint32_t N = (uint32_t)m->n;
    r->half_width = v->o->half_width < 1 ? v->o->half_width * N : v->o->half_width;
    /* a share read off the map alone may be far off: near the edges it would promise too much */
    r->planned_share = r->has_sample                    ? r->whole.damaged.estimate / N
                       : isfinite(r->whole.n_predicted) ? fmin(fmax(r->whole.n_predicted / N, 0.1), 0.9)
                                                        : 0.5;
    r->size_exact = estimate_size_exact(N, r->planned_share, r->half_width, v->o->level);
    r->size_worst = estimate_size_exact(N, 0.5, r->half_width, v->o->level);
    r->size_worst =
        r->size_worst < r->size_exact ? r->size_exact : r->size_worst; /* whole hits jump a little */
    r->size_assisted = r->size_exact;
    if (m->is_event || r->cut != m->cut)
        return true; /* no prediction to be helped by */
    for (size_t i = 0; i < m->n; i++)
        bins[bin_of(&m->building[i])]++;
    const int groups = estimate_groups(bins, bins, N / 20 + 1, first);
    for (size_t i = 0; i < m->n; i++) {
        const struct totals_building *b = &m->building[i];
        int g = groups - 1;
        while (g > 0 && bin_of(b) < first[g])
            g--;
        size[g]++;
        share[g] += isfinite(b->p_dmg) ? b->p_dmg : 0;
    }
    for (int g = 0; g < groups; g++)
        share[g] = size[g] ? fmin(share[g] / size[g], 1) : 0;
    return estimate_size_assisted(size, share, groups, r->half_width, v->o->level, &r->size_assisted, v->e);
}

/* ---- the run */

static bool describe(const struct totals_map *m, const struct totals_options *o,
                     const struct totals_sample *s, struct totals_report *r, struct err *e)
{
    const char *source = o->truth ? (o->sample ? o->sample : o->truth) : o->n_grades ? "labels" : "";
    r->cut = o->cut > 0 ? o->cut : m->cut > 0 ? m->cut : 2;
    r->operating_point = m->is_event ? NAN : m->operating_point;
    r->method = o->method;
    r->level = o->level;
    r->half_width = r->planned_share = NAN;
    return (r->map_path = mem_strdup(m->dir, e)) && (r->run_id = mem_strdup(m->run_id ? m->run_id : "", e)) &&
           (r->created = mem_strdup(m->created ? m->created : "", e)) &&
           (r->model_digest = mem_strdup(m->model_digest ? m->model_digest : "", e)) &&
           (r->event_digest = mem_strdup(m->event_digest ? m->event_digest : "", e)) &&
           (r->event_path = mem_strdup(m->event_path ? m->event_path : "", e)) &&
           (r->source = mem_strdup(source, e)) &&
           (!s->strata_field || (r->stratified_by = mem_strdup(s->strata_field, e)));
}

static bool estimate_all(struct estimation *v, struct zones *zones, const struct progress *p)
{
    struct totals_report *r = v->r;
    if (!estimate_area(v, ALL_ZONES, &r->whole))
        return false;
    if (*r->whole.refused)
        return err_set(v->e, ERR_INPUT, "the sample is too small for %s: %s", v->o->map_dir,
                       r->whole.refused);
    score_map(v);
    if (zones && !estimate_zones(v, zones, p))
        return false;
    if (v->m->n_strata > 1 && v->o->method == TOTALS_EXACT &&
        !totals_note(r, v->e,
                     "with strata the exact intervals are wider than need be: each stratum pays for the "
                     "others; the model-assisted ones are not"))
        return false;
    if (v->o->method == TOTALS_ASSISTED)
        return totals_note(r, v->e,
                           "the model only narrows the intervals: the totals rest on the graded buildings "
                           "alone");
    return true;
}

bool totals_run(const struct totals_options *o, const struct progress *p, struct totals_report *r,
                struct err *e)
{
    struct totals_map m = {0};
    struct totals_sample s = {0};
    struct zones *zones = NULL;
    struct estimation v = {o, &m, r, e};
    bool ok = false;
    const bool wants_totals = o->truth || o->grade;
    *r = (struct totals_report){0};
    if (!(o->level > 0.5 && o->level < 1) || o->cut < 0 || o->cut > 3)
        return err_set(e, ERR_USAGE, "the level lies between 0.5 and 1, the cut is 1, 2 or 3");
    if (!wants_totals && !isfinite(o->half_width))
        return err_set(e, ERR_INPUT,
                       "there is no random sample yet: totals need buildings drawn blindly and graded; "
                       "draw some with 'aftermap sample'");
    if (o->zones && !o->zone_id)
        return err_set(e, ERR_USAGE, "say which field of %s names the zones with --zone-id", o->zones);
    if ((o->zones && !(zones = zones_open(o->zones, o->zones_layer, o->zone_id, o->zone_name, e))) ||
        (wants_totals && !totals_sample_read(&s, o, e)) ||
        !totals_map_open(&m, o->map_dir, zones, s.strata_field, p, e) || !describe(&m, o, &s, r, e))
        goto out;
    if (m.is_event && o->method == TOTALS_ASSISTED && wants_totals) {
        err_set(e, ERR_USAGE,
                "%s is an event without predictions, which the model-assisted method needs; name the map "
                "made of it, or use --method exact",
                o->map_dir);
        goto out;
    }
    if (wants_totals)
        ok = totals_sample_apply(&s, o, &m, r, e) && estimate_all(&v, zones, p);
    else {
        count_area(&v, ALL_ZONES, &r->whole);
        ok = true;
    }
    if (ok && isfinite(o->half_width))
        ok = find_sizes(&v);
out:
    totals_sample_free(&s);
    totals_map_close(&m);
    zones_close(zones);
    if (!ok)
        totals_free(r);
    return ok;
}
