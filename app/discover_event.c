/* SPDX-License-Identifier: Apache-2.0
 * discover_event.c - `aftermap discover EVENT --model M`: groups among the buildings that a model rejects, as contact
 * sheets, tables and a map layer for an analyst to look at and name (models/learn/discovery.h). Nothing here becomes a
 * grade, and no accuracy is shown: without the truth there is none.
 *
 * Graded buildings say what is known: those the model learnt from teach, those it has not seen set the threshold.
 * View A, which rejects and groups, is the model's embedding; view B another model's, or the ground around the
 * building. A model of damage is blind to what it learnt to ignore: with --reject-by ground the two change places.
 *
 * Groups that go along with something that is not damage - a corner of the scene, one of several images, blank
 * ground, brightness, a poor alignment - are flagged: such groups are easy to learn, too. */
#include "app/discover.h"

#include "app/console.h"
#include "app/query.h"
#include "geo/mapping_parts.h"
#include "geo/proposals.h"
#include "models/base/file.h"
#include "models/base/mem.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { CELLS = 4, BINS = 4, N_CAUSES = 6 };
static const double flag_from = 0.5;

struct field {
    const struct discover_cmd *c;
    const struct common *common;
    const struct progress *progress;
    struct model *model, *second;
    struct discovery_options o;
    struct query_data q;
    struct discovery_result r;
    uint8_t *role;      /* [n] */
    double *confidence; /* [n] */
    float *probs;       /* [n,n_classes] */
    float *x[2];        /* views until the loop takes them */
    int d[2];
    uint32_t *item; /* [n] identity: rows are the set's items */
    char created[32];
    char flag[DISCOVERY_MAX_GROUPS][48];
};

/* ---- what is known ---- */

static int by_id(const void *a, const void *b)
{
    const int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

/* Roles of all buildings with a chip. */
static bool settle_roles(struct field *f, struct err *e)
{
    const struct imageset *s = &f->q.set;
    const char *source = model_meta(f->model, "source.digest");
    size_t n_trained = 0, n_known = 0, n_fresh = 0, of_class[MAPPING_MAX_CLASSES] = {0};
    const int64_t *trained = model_labeled_ids(f->model, &n_trained);
    if (!source || strcmp(source, f->q.ev->digest) != 0)
        n_trained = 0; /* another event's numbers */
    int64_t *sorted = mem_array(n_trained, sizeof *sorted, "the grades", e);
    if (!sorted || !(f->role = mem_array(s->n, 1, "the grades", e))) {
        free(sorted);
        return false;
    }
    if (n_trained)
        memcpy(sorted, trained, n_trained * sizeof *sorted);
    qsort(sorted, n_trained, sizeof *sorted, by_id);
    for (size_t i = 0; i < s->n; i++) {
        f->role[i] = DISCOVERY_POOL;
        if (s->label[i] < 0)
            continue;
        const bool fresh = n_trained && !bsearch(&s->id[i], sorted, n_trained, sizeof *sorted, by_id);
        f->role[i] = fresh ? DISCOVERY_VALIDATE : DISCOVERY_TEACH;
        n_fresh += fresh;
        n_known++;
        of_class[s->label[i]]++;
    }
    free(sorted);
    for (int k = 0; k < s->n_classes; k++)
        if (!of_class[k])
            return err_set(
                e, ERR_INPUT,
                "%s has no graded building of class '%s', which the model knows: without some of each class "
                "nothing can be called unlike them; grade some, or name grades with --labels FILE:FIELD",
                f->c->data, s->class_name[k]);
    if (n_known < 2 * DISCOVERY_MIN_KNOWN)
        return err_set(e, ERR_INPUT, "%s has %zu graded buildings; %d are needed to tell what is unlike them",
                       f->c->data, n_known, 2 * DISCOVERY_MIN_KNOWN);
    if (n_known == s->n)
        return err_set(e, ERR_INPUT, "every building of %s is graded, so there is none left to group",
                       f->c->data);
    if (n_fresh < DISCOVERY_MIN_KNOWN || n_known - n_fresh < DISCOVERY_MIN_KNOWN) {
        for (size_t i = 0; i < s->n; i++)
            f->role[i] = s->label[i] < 0 ? DISCOVERY_POOL : DISCOVERY_TEACH;
        discovery_keep_aside(s->label, f->role, s->n, 0.3, f->common->seed);
        if (n_trained)
            progress_warn(f->progress,
                          "too few graded buildings are new to the model: the threshold comes from ones it "
                          "has learnt from, so that more than one in twenty known ones may be rejected");
    }
    return true;
}

/* ---- views ---- */

static bool embed(struct field *f, struct model *m, float **x, int *d, float *probs, struct err *e)
{
    const size_t n = f->q.set.n;
    *d = net_embedding_size(model_net(m));
    float *own = NULL,
          *p = probs ? probs
                     : (own = mem_array(n * (size_t)model_net(m)->n_classes, sizeof *own, "the views", e));
    const bool ok =
        p && (*x = mem_array(n * (size_t)*d, sizeof **x, "the views", e)) &&
        active_predict(m, &f->q.set, f->item, n, false, f->common->seed, 0, p, *x, f->progress, e);
    free(own);
    return ok;
}

static bool describe_buildings(struct field *f, struct err *e)
{
    const size_t n = f->q.set.n, k = (size_t)f->q.set.n_classes;
    if (!(f->item = mem_array(n, sizeof *f->item, "the views", e)) ||
        !(f->probs = mem_array(n * k, sizeof *f->probs, "the views", e)) ||
        !(f->confidence = mem_array(n, sizeof *f->confidence, "the views", e)))
        return false;
    for (size_t i = 0; i < n; i++)
        f->item[i] = (uint32_t)i;
    if (!embed(f, f->model, &f->x[0], &f->d[0], f->probs, e))
        return false;
    for (size_t i = 0; i < n; i++)
        f->confidence[i] = active_confidence(ACTIVE_MAX, f->probs + i * k, (int)k);
    if (f->second)
        return embed(f, f->second, &f->x[1], &f->d[1], NULL, e);
    return (f->x[1] = discovery_surroundings(&f->q.set, &f->d[1], e));
}

static bool views(void *ctx, const struct discovery_state *s, float *x[2], int d[2], bool *is_same,
                  struct err *e)
{
    struct field *f = ctx;
    (void)e;
    if (s->round > 0) {
        *is_same = true;
        return true;
    }
    for (int v = 0; v < 2; v++) {
        const int from = f->c->is_by_ground ? 1 - v : v;
        x[v] = f->x[from];
        d[v] = f->d[from];
        f->x[from] = NULL;
    }
    return true;
}

/* ---- what a group goes along with ---- */

static const char *const cause_names[N_CAUSES] = {"part of the scene", "blank ground",
                                                  "brightness after",  "contrast after",
                                                  "alignment quality", "edge of the scene"};

/* Number of the quarter that each value lies in; values that are not finite go into one more. */
static void quarters(const double *v, size_t n, double *scratch, int *bin)
{
    double border[BINS - 1];
    size_t m = 0;
    for (size_t i = 0; i < n; i++)
        if (isfinite(v[i]))
            scratch[m++] = v[i];
    for (int k = 0; k < BINS - 1 && m; k++)
        border[k] = discovery_quantile(scratch, m, (k + 1.0) / BINS);
    for (size_t i = 0; i < n; i++) {
        bin[i] = BINS;
        if (isfinite(v[i]))
            for (bin[i] = 0; bin[i] < BINS - 1 && v[i] > border[bin[i]];)
                bin[i]++;
    }
}

/* Mean and deviation of the image after the event, all bands. */
static void light_of(const struct imageset *s, size_t i, double *mean, double *deviation)
{
    const struct imageset_layout *l = &s->layout;
    const size_t stored = (size_t)imageset_stored_channels(l), pixels = (size_t)l->size * (size_t)l->size;
    const uint8_t *px = s->px + i * pixels * stored;
    double sum = 0, square = 0, n = 0;
    for (size_t p = 0; p < pixels; p++) {
        if (!(px[p * stored + stored - 2] >> EVENT_POST & 1))
            continue;
        for (int b = 0; b < l->n_bands; b++) {
            const double v = px[p * stored + (size_t)(l->n_bands + b)];
            sum += v;
            square += v * v;
            n++;
        }
    }
    *mean = n > 0 ? sum / n : NAN;
    *deviation = n > 0 ? sqrt(fmax(0, square / n - *mean * *mean)) : NAN;
}

/* bin [N_CAUSES][n]. */
static bool causes(struct field *f, int *bin, struct err *e)
{
    const size_t n = f->q.set.n;
    const struct event_grid *g = &f->q.ev->grid;
    double *v = mem_array(4 * n, sizeof *v, "the groups", e);
    if (!v)
        return false;
    for (size_t i = 0; i < n; i++) {
        const struct event_building *b = query_building(&f->q, i);
        const double u = (b->x_m - g->geotransform[0]) / g->geotransform[1] / g->width;
        const double w = (b->y_m - g->geotransform[3]) / g->geotransform[5] / g->height;
        const int column = (int)fmin(fmax(u * CELLS, 0), CELLS - 1),
                  row = (int)fmin(fmax(w * CELLS, 0), CELLS - 1);
        bin[i] = row * CELLS + column;
        bin[n + i] = b->blank > 0;
        light_of(&f->q.set, i, &v[i], &v[n + i]);
        v[2 * n + i] = b->shift_by && *b->shift_by ? b->shift_q : NAN;
        bin[5 * n + i] = fmin(fmin(u, 1 - u), fmin(w, 1 - w)) < 0.02;
    }
    for (size_t k = 0; k < 3; k++)
        quarters(v + k * n, n, v + 3 * n, bin + (k + 2) * n);
    free(v);
    return true;
}

/* Cramer's V over the pool, of belonging to the group with each cause; fills the group's flag. */
static void associate(struct field *f, const int *bin, int g, int *scratch, double v[N_CAUSES])
{
    const size_t n = f->q.set.n;
    static const int n_bins[N_CAUSES] = {CELLS * CELLS, 2, BINS + 1, BINS + 1, BINS + 1, 2};
    f->flag[g][0] = '\0';
    for (int k = 0; k < N_CAUSES; k++) {
        int *in = scratch, *of = scratch + n;
        size_t m = 0;
        for (size_t i = 0; i < n; i++)
            if (f->role[i] == DISCOVERY_POOL) {
                in[m] = f->r.member[i] == g;
                of[m++] = bin[(size_t)k * n + i];
            }
        v[k] = discovery_cramers_v(in, 2, of, n_bins[k], m);
        if (v[k] > flag_from && !f->flag[g][0])
            snprintf(f->flag[g], sizeof f->flag[g], "goes along with %s", cause_names[k]);
    }
}

/* ---- what is told ---- */

static const char *called(const struct field *f, size_t i)
{
    const size_t k = (size_t)f->q.set.n_classes;
    size_t best = 0;
    for (size_t c = 1; c < k; c++)
        best = f->probs[i * k + c] > f->probs[i * k + best] ? c : best;
    return f->q.set.class_name[best];
}

static void add_members(const struct field *f, int g, const uint32_t *shown, int n_shown, cJSON *o)
{
    cJSON *list = cJSON_AddArrayToObject(o, "exemplars"),
          *by = cJSON_AddObjectToObject(o, "model_calls_them"), *box;
    double w = INFINITY, s = INFINITY, east = -INFINITY, north = -INFINITY;
    for (int k = 0; k < n_shown; k++)
        cJSON_AddItemToArray(list, cJSON_CreateString(query_building(&f->q, shown[k])->bldg_id));
    for (int k = 0; k < f->q.set.n_classes; k++) {
        size_t n = 0;
        for (size_t i = 0; i < f->q.set.n; i++)
            n += f->r.member[i] == g && strcmp(called(f, i), f->q.set.class_name[k]) == 0;
        cJSON_AddNumberToObject(by, f->q.set.class_name[k], (double)n);
    }
    for (size_t i = 0; i < f->q.set.n; i++)
        if (f->r.member[i] == g) {
            const struct event_building *b = query_building(&f->q, i);
            w = fmin(w, b->lon);
            east = fmax(east, b->lon);
            s = fmin(s, b->lat);
            north = fmax(north, b->lat);
        }
    if (isfinite(w) && (box = cJSON_AddArrayToObject(o, "bbox"))) {
        const double corner[4] = {w, s, east, north};
        for (int k = 0; k < 4; k++)
            cJSON_AddItemToArray(box, cJSON_CreateNumber(round(corner[k] * 1e7) / 1e7));
    }
}

static cJSON *group_json(struct field *f, int g, const double v[N_CAUSES], const uint32_t *shown, int n_shown)
{
    cJSON *o = discover_group_json(&f->r.group[g], g + 1), *with = cJSON_AddObjectToObject(o, "cramers_v");
    char sheet[40];
    for (int k = 0; k < N_CAUSES; k++)
        if (isfinite(v[k]))
            cJSON_AddNumberToObject(with, cause_names[k], round(v[k] * 1000) / 1000);
        else
            cJSON_AddNullToObject(with, cause_names[k]);
    cJSON_AddStringToObject(o, "flag", f->flag[g]);
    snprintf(sheet, sizeof sheet, "group-%02d.png", g + 1);
    if (n_shown)
        cJSON_AddStringToObject(o, "sheet", sheet);
    add_members(f, g, shown, n_shown, o);
    return o;
}

static cJSON *describe(const struct field *f)
{
    cJSON *o = cJSON_CreateObject();
    size_t n[4] = {0};
    for (size_t i = 0; i < f->q.set.n; i++)
        n[f->role[i]]++;
    cJSON_AddStringToObject(o, "version", AM_VERSION);
    cJSON_AddStringToObject(o, "created", f->created);
    cJSON_AddStringToObject(
        o, "note",
        "proposals for a person to look at and name, not grades; after Nixon, Liu and Berthelot "
        "2020, the definitions are our own");
    cJSON_AddStringToObject(o, "event", f->q.ev->digest);
    cJSON_AddStringToObject(o, "model", model_digest(f->model));
    cJSON_AddStringToObject(o, "rejected_by", f->c->is_by_ground ? "ground" : "model");
    cJSON_AddStringToObject(o, "second_view",
                            f->c->is_by_ground ? "model"
                            : f->second        ? model_digest(f->second)
                                               : "the ground around the building");
    cJSON_AddItemToObject(o, "settings", discover_settings(&f->o));
    cJSON_AddNumberToObject(o, "n_known", (double)(n[DISCOVERY_TEACH] + n[DISCOVERY_VALIDATE]));
    cJSON_AddNumberToObject(o, "n_ungraded", (double)n[DISCOVERY_POOL]);
    cJSON_AddNumberToObject(o, "n_rejected", (double)f->r.n_rejected);
    cJSON_AddNumberToObject(o, "n_rejected_for_confidence_alone", (double)f->r.n_unsure);
    cJSON_AddNumberToObject(o, "n_rounds", f->r.n_rounds);
    cJSON_AddNumberToObject(o, "null_f1", round(f->r.null_f1 * 1000) / 1000);
    return o;
}

static bool write_csv(const struct field *f, const char *path, struct err *e)
{
    struct file_out *out = file_out_open(path, e);
    if (!out)
        return false;
    FILE *s = file_out_stream(out);
    fputs("group_no,group_name,learnable,n,f1,f1_needed,change_of_known,flag,sheet\n", s);
    for (int g = 0; g < f->r.n_groups; g++) {
        const struct discovery_group *o = &f->r.group[g];
        char name[32];
        discover_group_name(g + 1, name);
        fprintf(s, "%d,%s,%s,%zu,%.3f,%.3f,%.4f,%s,", g + 1, name, o->class_index >= 0 ? "yes" : "no",
                o->n_members, o->f1, o->tau, o->change, f->flag[g]);
        if (f->c->sheet_tiles)
            fprintf(s, "group-%02d.png", g + 1);
        putc('\n', s);
    }
    return file_out_commit(out, e);
}

struct ranked {
    float far;
    uint32_t row;
};

static int by_distance(const void *a, const void *b)
{
    const struct ranked *x = a, *y = b;
    return x->far != y->far ? (x->far < y->far ? -1 : 1) : (x->row > y->row) - (x->row < y->row);
}

/* Every rejected building and every member of a group. */
static bool write_layer(const struct field *f, const char *path, struct err *e)
{
    const size_t n = f->q.set.n;
    char names[DISCOVERY_MAX_GROUPS][32], seed[32];
    struct proposal *p = mem_array(n, sizeof *p, "the layer", e);
    struct ranked *order = p ? mem_array(n, sizeof *order, "the layer", e) : NULL;
    int *rank = order ? mem_array(n, sizeof *rank, "the layer", e) : NULL;
    size_t m = 0;
    for (int g = 0; rank && g < f->r.n_groups; g++) {
        size_t k = 0;
        discover_group_name(g + 1, names[g]);
        for (size_t i = 0; i < n; i++)
            if (f->r.member[i] == g)
                order[k++] = (struct ranked){f->r.to_centre[i], (uint32_t)i};
        qsort(order, k, sizeof *order, by_distance);
        for (size_t i = 0; i < k; i++)
            rank[order[i].row] = (int)i + 1;
    }
    for (size_t i = 0; rank && i < n; i++) {
        const int g = f->r.member[i];
        if (g < 0 && !(f->role[i] == DISCOVERY_POOL && f->r.was_rejected[i]))
            continue;
        p[m++] = (struct proposal){.building = (size_t)f->q.set.id[i] - 1,
                                   .group = g + 1,
                                   .group_name = g < 0 ? "" : names[g],
                                   .called = called(f, i),
                                   .flag = g < 0 ? "" : f->flag[g],
                                   .is_accepted = g >= 0 && f->r.group[g].class_index >= 0,
                                   .rank = g < 0 ? 0 : rank[i],
                                   .f1 = g < 0 ? NAN : f->r.group[g].f1,
                                   .confidence = f->confidence[i],
                                   .distance = (double)f->r.distance[i]};
    }
    snprintf(seed, sizeof seed, "%llu", (unsigned long long)f->common->seed);
    const char *const metadata[][2] = {{"AFTERMAP_VERSION", AM_VERSION},
                                       {"AFTERMAP_CREATED", f->created},
                                       {"AFTERMAP_MODEL", model_digest(f->model)},
                                       {"AFTERMAP_EVENT", f->q.ev->digest},
                                       {"AFTERMAP_SEED", seed},
                                       {"AFTERMAP_NOTE", "unreviewed proposals, not grades"}};
    const bool ok = rank && proposals_write(path, f->q.ev, p, m, metadata, 6, f->created, e);
    free(p);
    free(order);
    free(rank);
    return ok;
}

static bool write_results(struct field *f, cJSON *json, struct err *e)
{
    const size_t n = f->q.set.n;
    struct discover_stage stage = {0};
    char path[DISCOVER_PATH], *text = NULL;
    cJSON *list = cJSON_AddArrayToObject(json, "groups");
    uint32_t *order = mem_array((size_t)f->c->sheet_tiles, sizeof *order, "the contact sheets", e);
    int *bin = order ? mem_array((N_CAUSES + 2) * n, sizeof *bin, "the groups", e) : NULL;
    bool ok = bin && causes(f, bin, e) && discover_stage_open(&stage, f->c->out, e);
    for (int g = 0; ok && g < f->r.n_groups; g++) {
        double v[N_CAUSES];
        int shown = 0;
        progress_report(f->progress, "sheets", g, f->r.n_groups, NULL);
        if (progress_stopped(f->progress))
            ok = err_set(e, ERR_INTERRUPTED, "interrupted; nothing was written");
        associate(f, bin, g, bin + N_CAUSES * n, v);
        if (ok && f->c->sheet_tiles)
            ok = (shown =
                      discover_sheet(&stage, &f->q.set, &f->r, g, f->item, f->c->sheet_tiles, order, e)) >= 0;
        cJSON_AddItemToArray(list, group_json(f, g, v, order, shown < 0 ? 0 : shown));
    }
    ok = ok && ((text = cJSON_Print(json)) || err_set(e, ERR_RESOURCE, "not enough memory for the result")) &&
         discover_stage_path(&stage, "groups.csv", path, e) && write_csv(f, path, e) &&
         discover_stage_path(&stage, "candidates.gpkg", path, e) && write_layer(f, path, e) &&
         discover_stage_path(&stage, "discover.json", path, e) && file_write_text(path, text, e) &&
         discover_stage_commit(&stage, e);
    discover_stage_close(&stage);
    cJSON_free(text);
    free(order);
    free(bin);
    return ok;
}

static void print_groups(const struct field *f)
{
    size_t n_pool = 0;
    for (size_t i = 0; i < f->q.set.n; i++)
        n_pool += f->role[i] == DISCOVERY_POOL;
    printf("%zu of %zu ungraded buildings rejected, %d groups proposed, %d learnable\n\n", f->r.n_rejected,
           n_pool, f->r.n_groups, f->r.n_found);
    printf("%-22s %9s %6s %6s %10s  %s\n", "", "buildings", "F1", "needs", "learnable", "note");
    for (int g = 0; g < f->r.n_groups; g++) {
        const struct discovery_group *o = &f->r.group[g];
        char name[32];
        discover_group_name(g + 1, name);
        printf("%-22s %9zu %6.3f %6.3f %10s  %s\n", name, o->n_members, o->f1, o->tau,
               o->class_index >= 0 ? "yes" : "no", f->flag[g]);
    }
    printf("\nLook at %s/group-*.png and name them in %s/candidates.gpkg; these are no grades.\n", f->c->out,
           f->c->out);
}

/* ---- the run ---- */

static void now(char out[32])
{
    const char *fixed = getenv("SOURCE_DATE_EPOCH"); /* reproducible-builds.org */
    time_t t = fixed ? (time_t)strtoll(fixed, NULL, 10) : time(NULL);
    struct tm day;
    gmtime_r(&t, &day);
    strftime(out, 32, "%Y-%m-%dT%H:%M:%SZ", &day);
}

static bool open_all(struct field *f, struct err *e)
{
    const struct discover_cmd *c = f->c;
    int cut = 2, other_cut;
    if (!(f->model = model_load(c->model, e)) || (c->second && !(f->second = model_load(c->second, e))))
        return false;
    const char *text = model_meta(f->model, "cut");
    const long model_cut =
        text ? strtol(text, NULL, 10) : 2; /* without one the model does not fit, which is said */
    if (c->second && strcmp(model_digest(f->model), model_digest(f->second)) == 0)
        return err_set(e, ERR_USAGE, "%s and %s are one model: a second view must see something else",
                       c->model, c->second);
    if (!query_open(&f->q, c->data, c->answers ? c->answers : "labels",
                    model_cut >= 0 && model_cut <= 3 ? (int)model_cut : 2, c->max_items, f->common->seed,
                    f->progress, e))
        return false;
    return mapping_model_fits(f->model, c->model, f->q.ev, &cut, e) &&
           (!f->second || mapping_model_fits(f->second, c->second, f->q.ev, &other_cut, e));
}

bool discover_event(const struct discover_cmd *c, const struct common *common, const struct progress *p,
                    struct err *e)
{
    struct field f = {.c = c, .common = common, .progress = p, .o = c->loop};
    cJSON *json = NULL;
    bool ok = false;
    f.o.seed = common->seed;
    f.o.min_confidence = c->min_confidence < 0 ? 0.6 : c->min_confidence;
    now(f.created);
    if (!open_all(&f, e) || !settle_roles(&f, e))
        goto out;
    if (common->dry_run) {
        ok = true;
        goto out;
    }
    if (!describe_buildings(&f, e))
        goto out;
    const struct discovery_data data = {.n = f.q.set.n,
                                        .n_known = f.q.set.n_classes,
                                        .label = f.q.set.label,
                                        .role = f.role,
                                        .confidence = f.confidence,
                                        .views = views,
                                        .ctx = &f};
    if (!discovery_run(&data, &f.o, &f.r, p, e)) {
        if (e->code == ERR_INPUT)
            err_prefix(e, "%s", c->data);
        goto out;
    }
    if (!(json = describe(&f)) || !write_results(&f, json, e))
        goto out;
    if (common->json) {
        ok = print_json(json, e);
        json = NULL;
    } else {
        print_groups(&f);
        ok = flush_stdout(e);
    }
out:
    cJSON_Delete(json);
    discovery_free(&f.r);
    query_close(&f.q);
    model_free(f.model);
    model_free(f.second);
    free(f.role);
    free(f.confidence);
    free(f.probs);
    free(f.x[0]);
    free(f.x[1]);
    free(f.item);
    return ok;
}
