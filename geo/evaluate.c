/* SPDX-License-Identifier: Apache-2.0
 *
 * evaluate.c - gathers (prediction, truth, block) triples from whatever the subject is and hands them to
 * metrics.c, once for the subject and once for the colour-statistics baseline.
 *
 *   map folder x event   predictions from damage.gpkg, joined by fid; the map's run.json must carry the
 * event's digest, and every joined row the same bldg_id: a join by row order alone would shift silently model
 * x event        chips streamed through the model, 128 at a time model x plain set    the whole set, split as
 * training split it (same share and seed)
 *
 * What never counts: buildings without a label or without a chip, and items whose label the subject was
 * trained on (the model's stored ids when it was trained on this very data, lbl_src = "train" in a map).
 *
 * A binary model knows one cut, the one it was trained at; four grades are scored at any (2 by default). The
 * truth of a binary model is level >= cut. */
#include "geo/evaluate.h"

#include "geo/mapping.h"

#include "geo/answers.h"
#include "geo/mapping_parts.h"
#include "geo/raster.h"
#include "geo/synthetic.h"
#include "models/base/file.h"
#include "models/base/mem.h"
#include <assert.h>
#include <cpl_error.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BATCH = 128, PATH_SIZE = 4096 };

/* What is scored, item by item, in fid order. */
struct cases {
    size_t n, capacity;
    int n_classes;
    size_t *building;       /* index into the event, or into the plain set */
    float *probs, *trivial; /* [n,n_classes] */
    int16_t *truth;
    int32_t *block;
};

struct evaluation {
    const struct evaluate_options *o;
    const struct progress *p;
    struct evaluate_report *r;
    struct err *e;
    struct model *model; /* NULL: a map whose model file is gone */
    struct event *ev;
    int cut; /* of the subject; 0 for plain sets */
    struct metrics_options metrics;
    struct cases cases;
};

void evaluate_defaults(struct evaluate_options *o)
{
    *o = (struct evaluate_options){.split = "test", .n_views = 8, .test_share = NAN};
    o->metrics = (struct metrics_options){
        .operating_point = NAN, .fixed_recall = 0.8, .level = 0.95, .n_bootstrap = 1000, .seed = 1};
}

static bool cases_alloc(struct cases *c, size_t capacity, int n_classes, struct err *e)
{
    size_t k = (size_t)n_classes;
    c->capacity = capacity;
    c->n_classes = n_classes;
    return (c->building = mem_array(capacity, sizeof *c->building, "the items to score", e)) &&
           (c->probs = mem_array(capacity, k * sizeof *c->probs, "the items to score", e)) &&
           (c->trivial = mem_array(capacity, k * sizeof *c->trivial, "the items to score", e)) &&
           (c->truth = mem_array(capacity, sizeof *c->truth, "the items to score", e)) &&
           (c->block = mem_array(capacity, sizeof *c->block, "the items to score", e));
}

static void cases_free(struct cases *c)
{
    free(c->building);
    free(c->probs);
    free(c->trivial);
    free(c->truth);
    free(c->block);
}

static bool wanted_split(const char *name, uint8_t split)
{
    if (strcmp(name, "all") == 0)
        return true;
    return split == (strcmp(name, "train") == 0 ? IMAGESET_TRAIN : IMAGESET_TEST);
}

static int compare_ids(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return x < y ? -1 : x > y;
}

/* Sorted copy of the ids whose labels the model was trained on; none when it was trained on other data. */
static int64_t *trained_ids(const struct model *m, const char *digest, size_t *n, struct err *e)
{
    const char *source = model_meta(m, "source.digest");
    const int64_t *id = model_labeled_ids(m, n);
    if (!source || strcmp(source, digest) != 0)
        *n = 0;
    int64_t *sorted = mem_array(*n, sizeof *sorted, "the training labels' ids", e);
    if (sorted && *n) {
        memcpy(sorted, id, *n * sizeof *sorted);
        qsort(sorted, *n, sizeof *sorted, compare_ids);
    }
    return sorted;
}

/* The event with the labels to score against. */
static bool open_truth(struct evaluation *v)
{
    size_t n_matched;
    v->ev = event_open(v->o->truth, v->e);
    if (v->ev && synthetic_event_marked(v->ev))
        return err_set(v->e, ERR_INPUT,
                       "%s was cut from images that a model made up: nothing can be measured on it",
                       v->o->truth);
    return v->ev && (!v->o->labels || answers_apply(v->ev, v->o->labels, &n_matched, v->e));
}

/* ---- scoring */

static bool nothing_left(const struct evaluation *v)
{
    return err_set(v->e, ERR_INPUT,
                   "%s has no labelled item in its %s split that %s was not trained on%s; try --split all or "
                   "another truth",
                   v->o->truth, v->o->split, v->o->subject,
                   v->r->n_left_out ? " (all were training labels)" : "");
}

static bool score_one(struct evaluation *v, const float *probs, struct metrics *out)
{
    const struct cases *c = &v->cases;
    uint8_t *positive = NULL;
    float *score = NULL;
    bool ok = true;
    if (v->cut > 0) {
        positive = mem_array(c->n, 1, "the scores", v->e);
        score = positive ? mem_array(c->n, sizeof *score, "the scores", v->e) : NULL;
        ok = score != NULL;
        for (size_t i = 0; ok && i < c->n; i++) {
            positive[i] = c->n_classes == 2 ? c->truth[i] == 1 : c->truth[i] >= v->cut;
            score[i] = (float)mapping_p_damaged(probs + i * (size_t)c->n_classes, c->n_classes, v->cut);
        }
    }
    ok = ok && metrics_compute(probs, c->n_classes, c->truth, positive, score, c->block, c->n, &v->metrics,
                               out, v->e);
    free(positive);
    free(score);
    return ok;
}

/* Figures that cannot be told. */
static void no_figures(struct metrics *m, const struct metrics *like)
{
    const struct metric unknown = {NAN, NAN, NAN};
    *m = (struct metrics){.n = like->n, .n_positive = like->n_positive, .n_blocks = like->n_blocks};
    m->operating_point = like->operating_point;
    m->fixed_recall = like->fixed_recall;
    m->n_classes = like->n_classes;
    m->auroc = m->auprc = m->f1 = m->precision = m->recall = m->precision_at_recall = unknown;
    m->accuracy = m->balanced_accuracy = m->kappa = m->ece = unknown;
}

static bool score(struct evaluation *v)
{
    if (v->cases.n == 0)
        return nothing_left(v);
    progress_report(v->p, "score", 0, 1, NULL);
    if (!score_one(v, v->cases.probs, &v->r->model))
        return false;
    v->r->has_trivial = v->model != NULL;
    if (!v->model)
        no_figures(&v->r->trivial, &v->r->model);
    else if (!score_one(v, v->cases.trivial, &v->r->trivial))
        return false;
    progress_report(v->p, "score", 1, 1, NULL);
    return true;
}

/* The cut that counts: the subject's own, or another one when four grades allow it. */
static bool settle_cut(struct evaluation *v, int own, int n_classes)
{
    v->cut = v->o->cut > 0 ? v->o->cut : own;
    if (n_classes == 2 && v->cut != own)
        return err_set(v->e, ERR_USAGE,
                       "%s tells damage from level %d on and nothing finer, so it cannot be scored at cut "
                       "%d; train with "
                       "--cut %d or --cut 0",
                       v->o->subject, own, v->cut, v->cut);
    v->r->cut = v->cut;
    for (int k = 0; k < n_classes; k++)
        snprintf(v->r->class_name[k], sizeof v->r->class_name[k], "%s",
                 n_classes == 2 ? (k ? "damaged" : "undamaged") : event_level_name(k));
    return true;
}

static int16_t truth_of(const struct evaluation *v, const struct event_building *b)
{
    return v->cases.n_classes == 2 ? b->level >= v->cut : b->level;
}

/* Runs the model (when predict) and the baseline over the chips of the chosen buildings. */
static bool run_chips(struct evaluation *v, bool predict)
{
    struct cases *c = &v->cases;
    const struct imageset_layout *l = &v->ev->layout;
    size_t image = (size_t)l->size * (size_t)l->size * (size_t)imageset_stored_channels(l),
           k = (size_t)c->n_classes;
    uint8_t *px = mem_array(BATCH, image, "a batch of chips", v->e);
    struct predictor *predictor =
        px && predict ? predictor_create(v->model, BATCH, v->o->n_views, v->e) : NULL;
    bool ok = px && (!predict || predictor);
    for (size_t done = 0; ok && done < c->n; done += BATCH) {
        int64_t page[BATCH];
        size_t n = c->n - done < BATCH ? c->n - done : BATCH;
        progress_report(v->p, "predict", (double)done, (double)c->n, NULL);
        if (progress_stopped(v->p))
            ok = err_set(v->e, ERR_INTERRUPTED, "interrupted after %zu of %zu items", done, c->n);
        for (size_t i = 0; i < n; i++)
            page[i] = v->ev->building[c->building[done + i]].page;
        ok = ok && event_read_chips(v->ev, page, n, px, v->e);
        if (ok && predict)
            predictor_run(predictor, px, (int)n, c->probs + done * k, NULL);
        for (size_t i = 0; ok && i < n; i++)
            model_trivial(v->model, px + i * image, c->trivial + (done + i) * k);
    }
    predictor_free(predictor);
    free(px);
    return ok;
}

/* ---- a model on an event */

/* A model that saw the held-out blocks' images says nothing about ground it has not seen. */
static void say_if_transductive(const struct model *m, const struct progress *p)
{
    const char *config = m ? model_meta(m, "train.config") : NULL;
    if (config && strstr(config, "\"transductive\":true")) /* written by cJSON without spaces */
        progress_warn(
            p,
            "the model is transductive: it saw the images (not the labels) of the held-out blocks, so these "
            "figures hold for this event, not for new ground");
}

static bool model_on_event(struct evaluation *v)
{
    int own;
    size_t n_trained = 0;
    struct cases *c = &v->cases;
    if (!open_truth(v) || !mapping_model_fits(v->model, v->o->subject, v->ev, &own, v->e))
        return false;
    if (!settle_cut(v, own, model_net(v->model)->n_classes) ||
        !cases_alloc(c, v->ev->n, model_net(v->model)->n_classes, v->e))
        return false;
    say_if_transductive(v->model, v->p);
    const char *source = model_meta(v->model, "source.digest");
    if (!source || strcmp(source, v->ev->digest) != 0)
        progress_warn(
            v->p,
            "the model was trained on another event; if both show the same buildings, its training labels "
            "are counted here");
    int64_t *trained = trained_ids(v->model, v->ev->digest, &n_trained, v->e);
    if (!trained)
        return false;
    for (size_t i = 0; i < v->ev->n; i++) {
        const struct event_building *b = &v->ev->building[i];
        if (b->level < 0 || b->page < 0 || !wanted_split(v->o->split, b->split))
            continue;
        if (bsearch(&b->fid, trained, n_trained, sizeof *trained, compare_ids)) {
            v->r->n_left_out++;
            continue;
        }
        c->building[c->n] = i;
        c->truth[c->n] = truth_of(v, b);
        c->block[c->n++] = b->block;
    }
    free(trained);
    return c->n == 0 ? nothing_left(v) : run_chips(v, true) && score(v);
}

/* ---- a model on a plain set */

static double meta_number(const struct model *m, const char *key, double fallback)
{
    const char *text = model_meta(m, key);
    char *end;
    double x = text ? strtod(text, &end) : fallback;
    return text && (end == text || *end) ? fallback : x;
}

static bool plain_fits(struct evaluation *v, const struct imageset *set)
{
    const struct imageset_layout *a = model_layout(v->model), *b = &set->layout;
    int n_classes = model_net(v->model)->n_classes;
    if (a->size != b->size || a->n_dates != b->n_dates || a->n_bands != b->n_bands ||
        a->has_masks != b->has_masks)
        return err_set(v->e, ERR_MODEL,
                       "%s was trained on images of %d x %d with %d channels, %s has %d x %d with %d",
                       v->o->subject, a->size, a->size, imageset_stored_channels(a), v->o->truth, b->size,
                       b->size, imageset_stored_channels(b));
    if (set->n_classes != n_classes)
        return err_set(v->e, ERR_MODEL, "%s knows %d classes, %s has %d", v->o->subject, n_classes,
                       v->o->truth, set->n_classes);
    if (n_classes > METRICS_MAX_CLASSES)
        return err_set(v->e, ERR_INPUT, "%s has %d classes; at most %d can be scored", v->o->truth, n_classes,
                       METRICS_MAX_CLASSES);
    return true;
}

static bool plain_predict(struct evaluation *v, const struct imageset *set)
{
    struct cases *c = &v->cases;
    const struct imageset_layout *l = &set->layout;
    size_t image = (size_t)l->size * (size_t)l->size * (size_t)imageset_stored_channels(l),
           k = (size_t)c->n_classes;
    uint8_t *px = mem_array(BATCH, image, "a batch of images", v->e);
    struct predictor *predictor = px ? predictor_create(v->model, BATCH, v->o->n_views, v->e) : NULL;
    bool ok = predictor != NULL;
    for (size_t done = 0; ok && done < c->n; done += BATCH) {
        size_t n = c->n - done < BATCH ? c->n - done : BATCH;
        progress_report(v->p, "predict", (double)done, (double)c->n, NULL);
        if (progress_stopped(v->p))
            ok = err_set(v->e, ERR_INTERRUPTED, "interrupted after %zu of %zu items", done, c->n);
        for (size_t i = 0; ok && i < n; i++) {
            memcpy(px + i * image, set->px + c->building[done + i] * image, image);
            model_trivial(v->model, px + i * image, c->trivial + (done + i) * k);
        }
        if (ok)
            predictor_run(predictor, px, (int)n, c->probs + done * k, NULL);
    }
    predictor_free(predictor);
    free(px);
    return ok;
}

/* Collects the items to score. With the seed and share of training no training label lies in the test split;
 * one that does shows that the split was another one, and then unlabelled training images are in it as well.
 */
static bool plain_choose(struct evaluation *v, const struct imageset *set)
{
    size_t n_trained = 0;
    struct cases *c = &v->cases;
    int64_t *trained = trained_ids(v->model, set->digest, &n_trained, v->e);
    bool ok = trained && cases_alloc(c, set->n, set->n_classes, v->e);
    for (size_t i = 0; ok && i < set->n; i++) {
        if (set->label[i] == IMAGESET_NO_LABEL || !wanted_split(v->o->split, set->split[i]))
            continue;
        if (bsearch(&set->id[i], trained, n_trained, sizeof *trained, compare_ids)) {
            v->r->n_left_out++;
            continue;
        }
        c->building[c->n] = i;
        c->truth[c->n] = set->label[i];
        c->block[c->n++] = set->block[i];
    }
    free(trained);
    if (ok && v->r->n_left_out && strcmp(v->o->split, "test") == 0)
        progress_warn(
            v->p, "training labels lie in this test split, so the model was trained with another test share: "
                  "images it has seen unlabelled may count here");
    return ok;
}

static bool model_on_plain(struct evaluation *v)
{
    struct imageset set = {0};
    double share = isfinite(v->o->test_share) ? v->o->test_share : meta_number(v->model, "test_share", 0.2);
    uint64_t seed = (uint64_t)meta_number(v->model, "seed", (double)v->o->metrics.seed);
    if (v->o->cut > 0)
        return err_set(v->e, ERR_USAGE, "%s has classes, not damage levels, so --cut has no meaning for it",
                       v->o->truth);
    bool ok = strncmp(v->o->truth, "folder:", 7) == 0
                  ? event_load_folder(&set, v->o->truth + 7, share, seed, v->p, v->e)
                  : imageset_open(&set, v->o->truth, share, seed, v->e);
    if (ok && plain_fits(v, &set) && plain_choose(v, &set)) {
        for (int k = 0; k < set.n_classes; k++) {
            const char *name = model_class(v->model, k);
            snprintf(v->r->class_name[k], sizeof v->r->class_name[k], "%s", name ? name : "");
        }
        ok = v->cases.n == 0 ? nothing_left(v) : plain_predict(v, &set) && score(v);
    } else
        ok = false;
    imageset_free(&set);
    return ok;
}

/* ---- a map on an event */

static const char *text_at(const cJSON *j, const char *a, const char *b)
{
    const cJSON *o = cJSON_GetObjectItemCaseSensitive(j, a);
    const char *s = cJSON_GetStringValue(b ? cJSON_GetObjectItemCaseSensitive(o, b) : o);
    return s ? s : "";
}

static double number_at(const cJSON *j, const char *a, const char *b)
{
    const cJSON *o = cJSON_GetObjectItemCaseSensitive(j, a);
    return cJSON_GetNumberValue(b ? cJSON_GetObjectItemCaseSensitive(o, b) : o);
}

/* The model that made the map, for the baseline; NULL with a warning when its file is gone or has changed. */
static struct model *model_of_map(const cJSON *run, const struct progress *p)
{
    struct err why;
    const char *path = text_at(run, "model", "path");
    struct model *m = *path ? model_load(path, &why) : NULL;
    if (m && strcmp(model_digest(m), text_at(run, "model", "digest")) == 0)
        return m;
    model_free(m);
    progress_warn(p, "the model file of this map is gone or has changed, so the colour-statistics baseline "
                     "cannot be scored "
                     "beside it");
    return NULL;
}

/* One row of damage.gpkg as a case, unless it does not count. */
static bool take_row(struct evaluation *v, OGRFeatureH f, const int field[7])
{
    struct cases *c = &v->cases;
    GIntBig fid = OGR_F_GetFID(f);
    if (fid < 1 || (uint64_t)fid > v->ev->n || c->n >= c->capacity)
        return err_set(v->e, ERR_INPUT, "%s: damage.gpkg has a building that %s has not", v->o->subject,
                       v->o->truth);
    const struct event_building *b = &v->ev->building[fid - 1];
    if (strcmp(OGR_F_GetFieldAsString(f, field[0]), b->bldg_id ? b->bldg_id : "") != 0)
        return err_set(v->e, ERR_INPUT,
                       "%s: damage.gpkg calls building %lld '%s', %s calls it '%s'; assess the event again",
                       v->o->subject, (long long)fid, OGR_F_GetFieldAsString(f, field[0]), v->o->truth,
                       b->bldg_id);
    if (b->level < 0 || b->page < 0 || !wanted_split(v->o->split, b->split) ||
        !OGR_F_IsFieldSetAndNotNull(f, field[5]))
        return true;
    if (strcmp(OGR_F_GetFieldAsString(f, field[6]), "train") == 0) {
        v->r->n_left_out++;
        return true;
    }
    float *p = c->probs + c->n * (size_t)c->n_classes;
    if (c->n_classes == 2) {
        p[1] = (float)OGR_F_GetFieldAsDouble(f, field[5]);
        p[0] = 1.0f - p[1];
    } else
        for (int k = 0; k < 4; k++)
            p[k] = (float)OGR_F_GetFieldAsDouble(f, field[1 + k]);
    c->building[c->n] = (size_t)fid - 1;
    c->truth[c->n] = truth_of(v, b);
    c->block[c->n++] = b->block;
    return true;
}

static bool read_map(struct evaluation *v)
{
    static const char *const names[7] = {"bldg_id", "p_none", "p_minor", "p_major",
                                         "p_destr", "p_dmg",  "lbl_src"};
    static const char *const drivers[] = {"GPKG", NULL};
    char path[PATH_SIZE], why[300];
    int field[7];
    if (!file_join(path, sizeof path, v->o->subject, "damage.gpkg", v->e))
        return false;
    GDALDatasetH ds = GDALOpenEx(path, GDAL_OF_VECTOR | GDAL_OF_READONLY, drivers, NULL, NULL);
    OGRLayerH layer = ds ? GDALDatasetGetLayerByName(ds, "buildings") : NULL;
    bool ok = layer != NULL;
    for (int k = 0; ok && k < 7; k++)
        ok = (field[k] = OGR_FD_GetFieldIndex(OGR_L_GetLayerDefn(layer), names[k])) >= 0;
    if (!ok)
        err_set(v->e, ERR_INPUT, "%s is no GeoPackage of a damage map: %s", path,
                geo_message(why, sizeof why));
    if (ok)
        OGR_L_ResetReading(layer);
    for (OGRFeatureH f; ok && (f = OGR_L_GetNextFeature(layer));) {
        ok = take_row(v, f, field);
        OGR_F_Destroy(f);
    }
    if (ds)
        GDALClose(ds);
    return ok;
}

static bool map_on_event(struct evaluation *v)
{
    bool ok = false;
    cJSON *run = mapping_run_read(v->o->subject, v->e);
    if (!run || !open_truth(v))
        goto out;
    if (strcmp(text_at(run, "event", "digest"), v->ev->digest) != 0) {
        err_set(v->e, ERR_INPUT,
                "%s was made from another event than %s (its digest differs): assess that one, or score the "
                "model on it",
                v->o->subject, v->o->truth);
        goto out;
    }
    int n_classes = cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(run, "binary")) ? 2 : 4;
    snprintf(v->r->model_digest, sizeof v->r->model_digest, "%s", text_at(run, "model", "digest"));
    v->r->n_labeled = (size_t)fmax(0, number_at(run, "model", "n_labeled"));
    if (!isfinite(v->metrics.operating_point))
        v->metrics.operating_point = number_at(run, "settings", "operating_point");
    if (!settle_cut(v, (int)number_at(run, "cut", NULL), n_classes) ||
        !cases_alloc(&v->cases, v->ev->n, n_classes, v->e) || !read_map(v))
        goto out;
    v->model = model_of_map(run, v->p);
    say_if_transductive(v->model, v->p);
    ok = v->cases.n == 0 ? nothing_left(v) : (!v->model || run_chips(v, false)) && score(v);
out:
    cJSON_Delete(run);
    return ok;
}

bool evaluate_run(const struct evaluate_options *o, const struct progress *p, struct evaluate_report *r,
                  struct err *e)
{
    struct evaluation v = {.o = o, .p = p, .r = r, .e = e, .metrics = o->metrics};
    bool ok, map = file_is_dir(o->subject), plain = imageset_is_spec(o->truth);
    *r = (struct evaluate_report){0};
    if (strcmp(o->split, "test") != 0 && strcmp(o->split, "train") != 0 && strcmp(o->split, "all") != 0)
        return err_set(e, ERR_USAGE, "the split is test, train or all, not '%s'", o->split);
    if (o->cut < 0 || o->cut > 3 || (o->n_views != 1 && o->n_views != 8))
        return err_set(e, ERR_USAGE, "the cut is 1, 2 or 3, and views per chip are 1 or 8");
    if (map && plain)
        return err_set(e, ERR_USAGE, "%s is a damage map: score it against an event folder, not %s",
                       o->subject, o->truth);
    if (map) {
        ok = map_on_event(&v);
    } else {
        if (!isfinite(v.metrics.operating_point))
            v.metrics.operating_point = 0.5;
        v.model = model_load(o->subject, e);
        ok = v.model != NULL;
        if (ok) {
            snprintf(r->model_digest, sizeof r->model_digest, "%s", model_digest(v.model));
            model_labeled_ids(v.model, &r->n_labeled);
            ok = plain ? model_on_plain(&v) : model_on_event(&v);
        }
    }
    cases_free(&v.cases);
    event_close(v.ev);
    model_free(v.model);
    return ok;
}
