/* SPDX-License-Identifier: Apache-2.0
 *
 * totals_sample.c - reads the graded sample and refuses what is none. Declared in totals_parts.h.
 *
 * What makes rows a random sample: the draw column of `aftermap sample`, rows of the purpose "validate" where
 * there is that column, a caller that answers for it. Then the map is asked whether it can be one: if the
 * sampled buildings held so many (or so few) of the training blocks, of those the map calls damaged, of those
 * without a chip or of those the model learnt from that a blind draw does so less than once in ten thousand
 * times (hypergeometric tails, by stratum), it was not one. */
#include "geo/totals_parts.h"

#include "geo/raster.h"
#include "geo/vector.h"
#include "models/base/file.h"
#include "models/base/mem.h"
#include "models/learn/estimate.h"
#include <cpl_error.h>
#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

static const double too_unlikely = 1e-4;

bool totals_note(struct totals_report *r, struct err *e, const char *fmt, ...)
{
    char *text = NULL;
    va_list args;
    va_start(args, fmt);
    const int n = vasprintf(&text, fmt, args);
    va_end(args);
    if (n < 0)
        return err_set(e, ERR_RESOURCE, "not enough memory for the notes");
    if (!mem_grow(&r->note, (size_t)r->n_notes + 1, sizeof *r->note, "the notes", e)) {
        free(text);
        return false;
    }
    r->note[r->n_notes++] = text;
    return true;
}

void totals_sample_free(struct totals_sample *s)
{
    for (size_t i = 0; i < s->n; i++) {
        free(s->row[i].bldg_id);
        free(s->row[i].stratum);
    }
    free(s->row);
    free(s->strata_field);
    *s = (struct totals_sample){0};
}

/* ---- reading */

struct columns {
    int id, grade, draw, purpose, stratum, n_stratum;
};

static bool whole_number(OGRFeatureH f, int field, uint32_t *out)
{
    char *end;
    *out = 0;
    if (field < 0 || !OGR_F_IsFieldSetAndNotNull(f, field) || !*OGR_F_GetFieldAsString(f, field))
        return true;
    errno = 0;
    const char *text = OGR_F_GetFieldAsString(f, field);
    const unsigned long long v = strtoull(text, &end, 10);
    if (end == text || *end || errno || v > UINT32_MAX)
        return false;
    *out = (uint32_t)v;
    return true;
}

static bool read_row(struct totals_sample *s, size_t *room, OGRFeatureH f, const struct columns *c,
                     const char *path, struct err *e)
{
    const struct label_map scale = {0};
    struct totals_row row = {.level = -1};
    const char *id = OGR_F_IsFieldSetAndNotNull(f, c->id) ? OGR_F_GetFieldAsString(f, c->id) : "";
    if (!*id)
        return true;
    if (!whole_number(f, c->draw, &row.draw) || !whole_number(f, c->n_stratum, &row.n_stratum))
        return err_set(e, ERR_INPUT, "%s: the draw or n_stratum of building %.60s is no whole number", path,
                       id);
    if (c->grade >= 0 && OGR_F_IsFieldSetAndNotNull(f, c->grade) && *OGR_F_GetFieldAsString(f, c->grade)) {
        row.graded = true;
        if (!label_map_find(&scale, OGR_F_GetFieldAsString(f, c->grade), &row.level))
            return err_set(
                e, ERR_INPUT,
                "%s: '%.60s' of building %.60s is no grade; write none, minor, major, destroyed or "
                "unknown, or 0 to 3",
                path, OGR_F_GetFieldAsString(f, c->grade), id);
    }
    if (s->n == *room) {
        *room = *room ? *room * 2 : 256;
        if (!mem_grow(&s->row, *room, sizeof *s->row, "the sample", e))
            return false;
    }
    const char *stratum = c->stratum >= 0 ? OGR_F_GetFieldAsString(f, c->stratum) : "";
    if (!(row.bldg_id = mem_strdup(id, e)) || !(row.stratum = mem_strdup(stratum, e))) {
        free(row.bldg_id);
        return false;
    }
    s->row[s->n++] = row;
    return true;
}

static bool no_random(const char *path, size_t n_rows, bool has_purpose, struct err *e)
{
    if (has_purpose)
        return err_set(
            e, ERR_INPUT,
            "%s holds no random sample: none of its %zu rows has the purpose 'validate', and buildings "
            "picked to teach a model say nothing about the rest; draw a sample with 'aftermap sample'",
            path, n_rows);
    return err_set(
        e, ERR_INPUT,
        "%s does not say how its buildings were chosen (no column draw or purpose), and totals hold only "
        "from a random sample; draw one with 'aftermap sample' and name it with --sample, or add "
        "--assume-random if this is a blind draw",
        path);
}

/* Rows of a table; field NULL: no grades in it. */
static bool read_table(struct totals_sample *s, const char *path, const char *field, bool need_design,
                       struct err *e)
{
    char why[300];
    size_t room = 0, n_rows = 0;
    CPLErrorReset();
    GDALDatasetH ds = GDALOpenEx(path, GDAL_OF_VECTOR | GDAL_OF_READONLY, NULL, NULL, NULL);
    OGRLayerH layer = ds ? GDALDatasetGetLayer(ds, 0) : NULL;
    OGRFeatureDefnH d = layer ? OGR_L_GetLayerDefn(layer) : NULL;
    bool ok =
        d || err_set(e, ERR_INPUT, "%s is no table that can be read: %s", path, geo_message(why, sizeof why));
    struct columns c = {-1, -1, -1, -1, -1, -1};
    if (ok) {
        c = (struct columns){.id = OGR_FD_GetFieldIndex(d, "bldg_id"),
                             .grade = field ? OGR_FD_GetFieldIndex(d, field) : -1,
                             .draw = OGR_FD_GetFieldIndex(d, "draw"),
                             .purpose = OGR_FD_GetFieldIndex(d, "purpose"),
                             .stratum = OGR_FD_GetFieldIndex(d, "stratum"),
                             .n_stratum = OGR_FD_GetFieldIndex(d, "n_stratum")};
        if (c.id < 0 || (field && c.grade < 0))
            ok = err_set(e, ERR_INPUT, "%s: has no column %s", path, c.id < 0 ? "bldg_id" : field);
    }
    if (ok && need_design && c.draw < 0 && c.purpose < 0)
        ok = no_random(path, 0, false, e);
    if (ok)
        OGR_L_ResetReading(layer);
    for (OGRFeatureH f; ok && (f = OGR_L_GetNextFeature(layer)); OGR_F_Destroy(f)) {
        n_rows++;
        if (need_design && c.purpose >= 0 && strcmp(OGR_F_GetFieldAsString(f, c.purpose), "validate") != 0)
            continue;
        ok = read_row(s, &room, f, &c, path, e);
    }
    if (ds)
        GDALClose(ds);
    s->has_draw = c.draw >= 0;
    if (ok && need_design && s->n == 0 && n_rows > 0 && c.purpose >= 0)
        ok = no_random(path, n_rows, true, e);
    if (ok && s->n == 0)
        ok = err_set(e, ERR_INPUT, "%s holds no building", path);
    return ok;
}

static bool split_spec(const char *spec, char *path, size_t size, const char **field, struct err *e)
{
    const char *colon = strrchr(spec, ':');
    if (!colon || colon == spec || !colon[1] || (size_t)(colon - spec) >= size)
        return err_set(e, ERR_USAGE,
                       "'%s' is neither an event folder nor a table of grades; write FILE:FIELD, such as "
                       "sample.csv:grade",
                       spec);
    memcpy(path, spec, (size_t)(colon - spec));
    path[colon - spec] = '\0';
    *field = colon + 1;
    return true;
}

static int by_row_id(const void *a, const void *b)
{
    return strcmp(((const struct totals_row *)a)->bldg_id, ((const struct totals_row *)b)->bldg_id);
}

/* Puts the grades of one table into the rows of another. */
static bool join_grades(struct totals_sample *s, const char *spec, struct err *e)
{
    char path[4096];
    const char *field;
    struct totals_sample grades = {0};
    bool ok = split_spec(spec, path, sizeof path, &field, e) && read_table(&grades, path, field, false, e);
    if (ok)
        qsort(grades.row, grades.n, sizeof *grades.row, by_row_id);
    for (size_t i = 1; ok && i < grades.n; i++) {
        const struct totals_row *a = &grades.row[i - 1], *b = &grades.row[i];
        if (strcmp(a->bldg_id, b->bldg_id) == 0 && a->graded && b->graded && a->level != b->level)
            ok = err_set(e, ERR_INPUT, "%s: grades building %.60s twice and differently; keep one of them",
                         path, a->bldg_id);
    }
    for (size_t i = 0; ok && i < s->n; i++) {
        const struct totals_row *at =
            bsearch(&s->row[i], grades.row, grades.n, sizeof *grades.row, by_row_id);
        s->row[i].graded = at && at->graded;
        s->row[i].level = at ? at->level : -1;
    }
    totals_sample_free(&grades);
    return ok;
}

/* The labels of an event as grades; without a sample file all labelled ones are rows. */
static bool event_grades(struct totals_sample *s, const char *dir, bool all, struct err *e)
{
    struct event *ev = event_open(dir, e);
    struct totals_sample grades = {0};
    bool ok = ev && (grades.row = mem_array(ev->n, sizeof *grades.row, "the grades", e));
    for (size_t i = 0; ok && i < ev->n; i++) {
        const struct event_building *b = &ev->building[i];
        if (all && b->level < 0)
            continue; /* an event keeps no word on whether somebody looked */
        struct totals_row *row = &grades.row[grades.n];
        *row = (struct totals_row){.graded = true, .level = b->level};
        row->bldg_id = mem_strdup(b->bldg_id ? b->bldg_id : "", e);
        row->stratum = row->bldg_id ? mem_strdup("", e) : NULL;
        grades.n++;
        ok = row->stratum != NULL;
    }
    event_close(ev);
    if (ok && all) {
        *s = grades;
        return s->n > 0 || err_set(e, ERR_INPUT, "%s has no labels; tile it with --label-field", dir);
    }
    if (ok)
        qsort(grades.row, grades.n, sizeof *grades.row, by_row_id);
    for (size_t i = 0; ok && i < s->n; i++) {
        const struct totals_row *at =
            bsearch(&s->row[i], grades.row, grades.n, sizeof *grades.row, by_row_id);
        s->row[i].graded = at != NULL;
        s->row[i].level = at ? at->level : -1;
    }
    totals_sample_free(&grades);
    return ok;
}

static bool copy_grades(struct totals_sample *s, const struct totals_options *o, struct err *e)
{
    if (!(s->row = mem_array(o->n_grades, sizeof *s->row, "the sample", e)))
        return false;
    for (; s->n < o->n_grades; s->n++) {
        const struct totals_grade *g = &o->grade[s->n];
        struct totals_row *row = &s->row[s->n];
        *row = (struct totals_row){.draw = g->draw, .graded = g->graded, .level = g->level};
        s->has_draw |= g->draw > 0;
        if (!(row->bldg_id = mem_strdup(g->bldg_id, e)))
            return false;
        if (!(row->stratum = mem_strdup("", e))) {
            free(row->bldg_id);
            return false;
        }
    }
    return s->n > 0 || err_set(e, ERR_INPUT,
                               "there is no random sample yet: nothing was graded for validation; "
                               "grade some buildings of a blind draw first");
}

bool totals_sample_read(struct totals_sample *s, const struct totals_options *o, struct err *e)
{
    char path[4096];
    const char *field;
    bool ok = true;
    *s = (struct totals_sample){0};
    if (!o->truth)
        ok = copy_grades(s, o, e);
    else if (o->sample)
        ok = read_table(s, o->sample, NULL, !o->assume_random, e) &&
             (file_is_dir(o->truth) ? event_grades(s, o->truth, false, e) : join_grades(s, o->truth, e));
    else if (file_is_dir(o->truth))
        ok = o->assume_random
                 ? event_grades(s, o->truth, true, e)
                 : err_set(e, ERR_INPUT,
                           "the labels of %s do not say how their buildings were chosen, and totals hold "
                           "only from a "
                           "random sample; draw one with 'aftermap sample' and name it with --sample",
                           o->truth);
    else
        ok = split_spec(o->truth, path, sizeof path, &field, e) &&
             read_table(s, path, field, !o->assume_random, e);
    for (size_t i = 0; ok && i < s->n; i++) {
        const char *stratum = s->row[i].stratum, *equals = strchr(stratum, '=');
        const size_t n = equals ? (size_t)(equals - stratum) : 0;
        if (!*stratum && !s->strata_field)
            continue;
        if (!equals ||
            (s->strata_field && (strlen(s->strata_field) != n || strncmp(s->strata_field, stratum, n))))
            ok = err_set(e, ERR_INPUT, "the sample's strata are not all of one kind (FIELD=VALUE): '%.60s'",
                         stratum);
        else if (!s->strata_field) {
            if (i > 0)
                ok = err_set(e, ERR_INPUT, "building %.60s of the sample has no stratum", s->row[0].bldg_id);
            else if (!(s->strata_field = mem_array(n + 1, 1, "the sample", e)))
                ok = false;
            else
                memcpy(s->strata_field, stratum, n);
        }
    }
    if (!ok)
        totals_sample_free(s);
    return ok;
}

/* ---- laying it over the map */

static bool lay(const struct totals_sample *s, struct totals_map *m, struct err *e)
{
    for (size_t i = 0; i < s->n; i++) {
        const struct totals_row *row = &s->row[i];
        struct totals_building *b = totals_map_find(m, row->bldg_id);
        if (!b)
            return err_set(
                e, ERR_INPUT,
                "building %.60s of the sample is not in %s: the sample was drawn from other buildings",
                row->bldg_id, m->dir);
        if (b->state != TOTALS_NOT_DRAWN)
            return err_set(e, ERR_INPUT, "building %.60s is in the sample twice; keep one of its rows",
                           row->bldg_id);
        b->state = row->graded ? TOTALS_GRADED : TOTALS_DRAWN;
        b->truth = row->level < 0 ? TOTALS_UNKNOWN : (uint8_t)row->level;
        b->draw = row->draw;
        if (!s->strata_field)
            continue;
        const int k = totals_map_stratum(m, row->stratum);
        if (k < 0 || k != b->stratum || (row->n_stratum && row->n_stratum != m->stratum_size[k]))
            return err_set(
                e, ERR_INPUT,
                "the strata of the sample (%s) are not those of %s, which was made since the sample was "
                "drawn; use the map it was drawn from, or draw a simple random sample",
                s->strata_field, m->dir);
    }
    return true;
}

/* Grading in the order of the draw may stop anywhere; skipping some of them may not, whether their rows are here or
 * not: what gets skipped is what is hard. Of the last IN_HAND draws some may still be with somebody. */
static bool has_no_gaps(const struct totals_sample *s, const struct totals_map *m, struct totals_report *r,
                        struct err *e)
{
    enum { IN_HAND = 5 };
    uint32_t last = 0, first = 0, skipped = 0, in_hand = 0;
    bool ok = true;
    if (!s->has_draw)
        return true;
    const struct totals_building **at = mem_array(m->n + 1, sizeof *at, "the order of the draw", e);
    if (!at)
        return false;
    for (size_t i = 0; ok && i < m->n; i++) {
        const struct totals_building *b = &m->building[i];
        if (b->state == TOTALS_NOT_DRAWN)
            continue;
        if (b->draw == 0 || b->draw > m->n || at[b->draw])
            ok = err_set(
                e, ERR_INPUT,
                "building %.60s has draw %u, which %s; the sample is not as 'aftermap sample' wrote it",
                b->bldg_id, b->draw,
                b->draw == 0     ? "is no number from 1"
                : b->draw > m->n ? "no draw of the map has"
                                 : "another has");
        else {
            at[b->draw] = b;
            last = b->state == TOTALS_GRADED && b->draw > last ? b->draw : last;
        }
    }
    for (uint32_t d = 1; ok && d < last; d++) {
        if (at[d] && at[d]->state == TOTALS_GRADED)
            continue;
        in_hand += d + IN_HAND > last;
        skipped += d + IN_HAND <= last;
        first = !first && d + IN_HAND <= last ? d : first;
    }
    if (ok && skipped)
        ok = err_set(e, ERR_INPUT,
                     "%u drawn buildings were skipped (the first is draw %u%s%.60s) while later ones are "
                     "graded, which "
                     "makes the rest no random sample; grade them, as 'unknown' where it cannot be told",
                     skipped, first, at[first] ? ", building " : "", at[first] ? at[first]->bldg_id : "");
    if (ok && in_hand)
        ok = totals_note(r, e, "%u of the last draws %s not graded yet while a later one is", in_hand,
                         in_hand == 1 ? "is" : "are");
    free(at);
    return ok;
}

struct trait {
    const char *what;
    bool upper_only;
    bool (*has)(const struct totals_building *b, const struct totals_map *m);
};

static bool in_train_split(const struct totals_building *b, const struct totals_map *m)
{
    (void)m;
    return b->in_train_split;
}

static bool called_damaged(const struct totals_building *b, const struct totals_map *m)
{
    return b->level >= m->cut;
}

static bool without_chip(const struct totals_building *b, const struct totals_map *m)
{
    (void)m;
    return !isfinite(b->p_dmg);
}

static bool learnt_from(const struct totals_building *b, const struct totals_map *m)
{
    (void)m;
    return b->trained;
}

static bool looks_random(const struct totals_map *m, const struct totals_options *o, struct err *e)
{
    static const struct trait traits[] = {{"lie in training blocks", false, in_train_split},
                                          {"are damaged by the map", false, called_damaged},
                                          {"have no usable image", false, without_chip},
                                          {"were learnt from by the map's model", true, learnt_from}};
    for (size_t t = 0; t < sizeof traits / sizeof *traits; t++)
        for (int k = 0; k < m->n_strata; k++) {
            uint32_t N = 0, K = 0, n = 0, x = 0;
            for (size_t i = 0; i < m->n; i++) {
                const struct totals_building *b = &m->building[i];
                const bool has = traits[t].has(b, m);
                if (b->stratum != k)
                    continue;
                N++;
                K += has;
                n += b->state == TOTALS_GRADED;
                x += b->state == TOTALS_GRADED && has;
            }
            if (n == 0)
                continue;
            double tail = estimate_upper_tail(N, K, n, x);
            if (!traits[t].upper_only)
                tail = 2 * fmin(tail, estimate_lower_tail(N, K, n, x));
            if (tail >= too_unlikely)
                continue;
            if (traits[t].upper_only)
                return o->method == TOTALS_EXACT || err_set(e, ERR_INPUT,
                                                            "the map's model was trained on %u of the %u "
                                                            "graded buildings, so its mistakes on them "
                                                            "are not its mistakes on the others; map with a "
                                                            "model that has not seen the sample, or "
                                                            "use --method exact",
                                                            x, n);
            return err_set(
                e, ERR_INPUT,
                "the graded buildings are no random sample of %s: %.0f %% of them %s, of all buildings "
                "%.0f %%, which a blind draw gives less than once in 10000 times; draw one with "
                "'aftermap sample'",
                m->dir, 100.0 * x / n, traits[t].what, 100.0 * K / N);
        }
    return true;
}

bool totals_sample_apply(const struct totals_sample *s, const struct totals_options *o, struct totals_map *m,
                         struct totals_report *r, struct err *e)
{
    if (!lay(s, m, e))
        return false;
    r->has_sample = true;
    for (size_t i = 0; i < m->n; i++) {
        const struct totals_building *b = &m->building[i];
        r->n_drawn += b->state != TOTALS_NOT_DRAWN;
        r->n_graded += b->state == TOTALS_GRADED;
        r->n_unknown += b->state == TOTALS_GRADED && b->truth == TOTALS_UNKNOWN;
    }
    if (r->n_graded == 0)
        return err_set(e, ERR_INPUT,
                       "none of the %u drawn buildings is graded yet; grade them in the order of the draw",
                       r->n_drawn);
    if (!has_no_gaps(s, m, r, e) || !looks_random(m, o, e))
        return false;
    if (r->n_graded < r->n_drawn && !totals_note(r, e, "%u of the %u drawn buildings are not graded yet",
                                                 r->n_drawn - r->n_graded, r->n_drawn))
        return false;
    if (!s->has_draw && r->n_graded < m->n && !s->strata_field)
        return totals_note(
            r, e,
            "the sample does not say in which order it was drawn, so skipped buildings would go "
            "unnoticed");
    return true;
}
