/* SPDX-License-Identifier: Apache-2.0
 *
 * mapping.c - the run behind `aftermap assess`: checks that model and event fit, predicts every chip in page
 * order, decides class and status, has the files written (mapping_raster.c, mapping_vector.c) and records all
 * of it in run.json.
 *
 * Invariants
 *   1. Chips are streamed in batches of at most 128; what grows with the event is one struct mapping_item per
 * building.
 *   2. Everything is written into OUT/.map.tmp-PID and renamed at the end, run.json last; a failure or an
 * interrupt removes that folder and leaves the earlier map as it was. Folders of runs that were killed are
 * removed by the next run.
 *   3. run.json holds the SHA-256 of every other output: a reader can tell files of two runs apart.
 *
 * The time of the run is taken once; SOURCE_DATE_EPOCH (reproducible-builds.org) fixes it. One thread, apart
 * from the predictor's own. */
#include "geo/mapping.h"

#include "geo/mapping_parts.h"
#include "geo/raster.h"
#include "geo/synthetic.h"
#include "models/base/file.h"
#include "models/base/mem.h"
#include <cpl_error.h>
#include <dirent.h>
#include <errno.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

enum { BATCH = 128, PATH_SIZE = 4096, SCALING_CHIPS = 256 };

/* In the order in which they are renamed into place. */
static const char *const outputs[] = {"damage.tif",     "damage.tif.aux.xml", "prob.tif", "damage.gpkg",
                                      "damage.geojson", "damage.csv",         "run.json"};
enum { N_OUTPUTS = sizeof outputs / sizeof *outputs, RUN_JSON = N_OUTPUTS - 1 };

/* What the colour-statistics baseline said, for run.json. */
struct baseline {
    size_t n_damaged, n_agree;
};

static const char *const synthetic_warning =
    "the event was cut from images that a model made up: this map shows no damage that anybody has seen";

struct mapping_run {
    const struct mapping_options *o;
    struct event *ev;
    struct model *model;
    struct mapping_item *item; /* [ev->n] */
    struct mapping_map map;
    struct baseline baseline;
    cJSON *settings, *timings;
    char stage_dir[PATH_SIZE];
    bool made_out_dir, made_stage_dir;
};

void mapping_defaults(struct mapping_options *o)
{
    *o = (struct mapping_options){.n_views = 8, .abstain = 0.1, .operating_point = 0.5, .seed = 1};
}

static double now_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

bool mapping_gdal_failed(const char *path, struct err *e)
{
    char dir[PATH_SIZE], why[400];
    struct statvfs fs;
    int n = (int)(file_base(path) - path);
    snprintf(dir, sizeof dir, "%.*s", n ? n : 1, n ? path : ".");
    if (statvfs(dir, &fs) == 0 && (double)fs.f_bavail * (double)fs.f_frsize < 1048576.0)
        return err_set(e, ERR_RESOURCE,
                       "%s cannot be written: the disk is full; free some space and run again",
                       file_base(path));
    return err_set(e, ERR_RUNTIME, "%s cannot be written: %s", file_base(path), geo_message(why, sizeof why));
}

/* ---- do model and event fit */

/* A metadata number; NAN when absent or no number. */
static double meta_number(const struct model *m, const char *key)
{
    const char *text = model_meta(m, key);
    char *end;
    double v = text ? strtod(text, &end) : NAN;
    return text && end != text && *end == '\0' ? v : NAN;
}

bool mapping_model_fits(const struct model *model, const char *path, const struct event *ev, int *cut,
                        struct err *e)
{
    const struct imageset_layout *m = model_layout(model), *c = &ev->layout;
    int n_classes = model_net(model)->n_classes;
    double model_cut = meta_number(model, "cut"), gsd = meta_number(model, "gsd_m");
    if (!isfinite(model_cut) || m->n_dates != 2 || !m->has_masks)
        return err_set(e, ERR_MODEL,
                       "%s was not trained on an event, so it cannot read chips of %s; train one with "
                       "'aftermap train EVENT'",
                       path, ev->dir);
    *cut = (int)model_cut == 0 ? 2 : (int)model_cut;
    if (*cut < 1 || *cut > 3 || n_classes != ((int)model_cut == 0 ? 4 : 2))
        return err_set(e, ERR_MODEL,
                       "%s says cut %s with %d classes, which no training of this version makes", path,
                       model_meta(model, "cut"), n_classes);
    if (m->n_bands != c->n_bands)
        return err_set(e, ERR_MODEL,
                       "%s was trained on %d bands, %s has %d; tile the event again with %d bands (--bands)",
                       path, m->n_bands, ev->dir, c->n_bands, m->n_bands);
    if (isfinite(gsd) && fabs(gsd - ev->grid.gsd_m) > 0.01 * gsd)
        return err_set(
            e, ERR_MODEL,
            "%s was trained at %.3g m per pixel, %s has %.3g; tile the event again with --gsd %.3g", path,
            gsd, ev->dir, ev->grid.gsd_m, gsd);
    if (m->size != c->size || m->n_dates != c->n_dates || m->has_masks != c->has_masks)
        return err_set(
            e, ERR_MODEL,
            "%s was trained on chips of %d pixels, %s has %d; tile the event again with --size-m %.4g", path,
            m->size, ev->dir, c->size, m->size * ev->grid.gsd_m);
    return true;
}

double mapping_p_damaged(const float *p, int n_classes, int cut)
{
    double sum = 0;
    for (int k = n_classes == 2 ? 1 : cut; k < n_classes; k++)
        sum += (double)p[k];
    return sum;
}

/* ---- verdicts */

static double round3(double v)
{
    return round(v * 1000) / 1000;
}

/* Half a rounding step of a double beside thousandths: 0.5 must equal 0.5. */
static const double eps = 1e-9;

void mapping_decide(struct mapping_item *it, int n_classes, int cut, double operating_point, double abstain)
{
    double entropy = 0;
    for (int k = 0; k < n_classes; k++) {
        double p = (double)it->p[k];
        it->shown[k] = round3(p);
        entropy -= p > 0 ? p * log(p) : 0;
    }
    it->entropy = fabs(round3(entropy));
    it->p_dmg = round3(mapping_p_damaged(it->p, n_classes, cut));
    bool damaged = it->p_dmg >= operating_point - eps;
    it->level = damaged ? cut : 0;
    if (n_classes == 4)
        for (int k = it->level + 1; k < (damaged ? 4 : cut); k++)
            if (it->p[k] > it->p[it->level])
                it->level = k;
    bool near = fabs(it->p_dmg - operating_point) < abstain - eps;
    it->status = near ? MAPPING_ABSTAIN : MAPPING_OK;
    it->reason = "";
}

struct chip {
    int64_t page;
    size_t building;
};

static int by_page(const void *a, const void *b)
{
    const struct chip *x = a, *y = b;
    return x->page < y->page ? -1 : x->page > y->page;
}

/* The buildings that have a chip, in page order, so that the chip store is read from front to back. */
static struct chip *list_chips(const struct event *ev, size_t *n, struct err *e)
{
    struct chip *chip = mem_array(ev->n, sizeof *chip, "the list of chips", e);
    *n = 0;
    for (size_t i = 0; chip && i < ev->n; i++)
        if (ev->building[i].page >= 0)
            chip[(*n)++] = (struct chip){ev->building[i].page, i};
    if (chip)
        qsort(chip, *n, sizeof *chip, by_page);
    return chip;
}

static bool predict_batch(struct mapping_run *r, struct predictor *predictor, const struct chip *chip, int n,
                          uint8_t *px, struct err *e)
{
    int64_t page[BATCH];
    float probs[BATCH * MAPPING_MAX_CLASSES], trivial[BATCH * MAPPING_MAX_CLASSES];
    const struct imageset_layout *l = &r->ev->layout;
    size_t image = (size_t)l->size * (size_t)l->size * (size_t)imageset_stored_channels(l);
    int k_classes = r->map.n_classes;
    for (int i = 0; i < n; i++)
        page[i] = chip[i].page;
    if (!event_read_chips(r->ev, page, (size_t)n, px, e))
        return false;
    predictor_run(predictor, px, n, probs, NULL);
#pragma omp parallel for schedule(static)
    for (int i = 0; i < n; i++)
        model_trivial(r->model, px + (size_t)i * image, trivial + i * k_classes);
    for (int i = 0; i < n; i++) {
        struct mapping_item *it = &r->item[chip[i].building];
        for (int k = 0; k < k_classes; k++) {
            it->p[k] = probs[i * k_classes + k];
            if (!(it->p[k] >= 0 && it->p[k] <= 1.0f + 1e-5f))
                return err_set(e, ERR_MODEL, "%s gives no usable probability for building %s; train it again",
                               r->o->model_path, r->ev->building[chip[i].building].bldg_id);
        }
        mapping_decide(it, k_classes, r->map.cut, r->o->operating_point, r->o->abstain);
        bool damaged =
            mapping_p_damaged(trivial + i * k_classes, k_classes, r->map.cut) >= r->o->operating_point;
        r->baseline.n_damaged += damaged;
        r->baseline.n_agree += damaged == (it->level >= r->map.cut);
    }
    return true;
}

/* Scales 8-bit inference on chips taken evenly from the event: what the network makes of these pixels is what
 * its integers must hold, whatever it was taught with. The same event gives the same chips. */
static bool quantize(struct mapping_run *r, struct predictor *predictor, const struct chip *chip, size_t n,
                     struct err *e)
{
    int64_t page[SCALING_CHIPS];
    const struct imageset_layout *l = &r->ev->layout;
    size_t image = (size_t)l->size * (size_t)l->size * (size_t)imageset_stored_channels(l);
    size_t taken = n < SCALING_CHIPS ? n : SCALING_CHIPS;
    uint8_t *px = taken ? mem_array(taken, image, "chips to scale 8-bit inference", e) : NULL;
    for (size_t i = 0; i < taken; i++)
        page[i] = chip[i * n / taken].page;
    bool ok = taken == 0 || (px && event_read_chips(r->ev, page, taken, px, e) &&
                             predictor_quantize(predictor, px, (int)taken, e));
    free(px);
    return ok;
}

static bool predict(struct mapping_run *r, const struct progress *p, struct mapping_report *report,
                    struct err *e)
{
    const struct imageset_layout *l = &r->ev->layout;
    size_t image = (size_t)l->size * (size_t)l->size * (size_t)imageset_stored_channels(l), n = 0;
    struct chip *chip = list_chips(r->ev, &n, e);
    uint8_t *px = chip ? mem_array(BATCH, image, "a batch of chips", e) : NULL;
    struct predictor *predictor = px ? predictor_create(r->model, BATCH, r->o->n_views, e) : NULL;
    bool ok = predictor != NULL && (!r->o->is_int8 || quantize(r, predictor, chip, n, e));
    for (size_t i = 0; i < r->ev->n; i++) {
        const struct event_building *b = &r->ev->building[i];
        r->item[i].status = MAPPING_NO_CHIP;
        r->item[i].level = -1;
        r->item[i].reason = b->reason && *b->reason ? b->reason : "unclear";
    }
    for (size_t done = 0; ok && done < n; done += BATCH) {
        progress_report(p, "predict", (double)done, (double)n, NULL);
        if (progress_stopped(p))
            ok = err_set(e, ERR_INTERRUPTED, "interrupted after %zu of %zu buildings; nothing was changed",
                         done, n);
        else
            ok = predict_batch(r, predictor, chip + done, n - done < BATCH ? (int)(n - done) : BATCH, px, e);
    }
    if (ok)
        progress_report(p, "predict", (double)n, (double)n, NULL);
    predictor_free(predictor);
    free(px);
    free(chip);
    for (size_t i = 0; ok && i < r->ev->n; i++) {
        const struct mapping_item *it = &r->item[i];
        report->n_predicted += it->status != MAPPING_NO_CHIP;
        report->n_abstain += it->status == MAPPING_ABSTAIN;
        report->n_unknown += it->status == MAPPING_NO_CHIP;
        report->n_damaged += it->level >= r->map.cut;
    }
    return ok;
}

/* Labels the model learnt from, when it learnt from this very event: there ids are fids. */
static void mark_trained(struct mapping_run *r, const struct progress *p)
{
    size_t n;
    const int64_t *id = model_labeled_ids(r->model, &n);
    const char *source = model_meta(r->model, "source.digest");
    if (!source || strcmp(source, r->ev->digest) != 0) {
        progress_warn(
            p, "the model was trained on another event: its probabilities are not calibrated for this one");
        return;
    }
    for (size_t i = 0; i < n; i++)
        if (id[i] >= 1 && (uint64_t)id[i] <= r->ev->n)
            r->item[id[i] - 1].trained = true;
}

/* ---- who, when, with what */

static bool stamp_time(char created[32], struct err *e)
{
    const char *epoch = getenv("SOURCE_DATE_EPOCH");
    time_t t = time(NULL);
    struct tm tm;
    if (epoch && *epoch) {
        char *end;
        errno = 0;
        long long v = strtoll(epoch, &end, 10);
        if (*end || errno || v < 0 || v > 253402300799LL)
            return err_set(e, ERR_USAGE, "SOURCE_DATE_EPOCH must be seconds since 1970, not '%s'", epoch);
        t = (time_t)v;
    }
    gmtime_r(&t, &tm);
    strftime(created, 32, "%Y-%m-%dT%H:%M:%SZ", &tm);
    return true;
}

static bool describe(struct mapping_run *r, struct err *e)
{
    struct mapping_map *m = &r->map;
    const struct mapping_options *o = r->o;
    char compact[24], digest[65];
    cJSON *s = r->settings = cJSON_CreateObject();
    if (!stamp_time(m->created, e))
        return false;
    m->ev = r->ev;
    m->n_classes = model_net(r->model)->n_classes;
    m->seed = o->seed;
    snprintf(m->model_digest, sizeof m->model_digest, "%s", model_digest(r->model));
    snprintf(m->model_id, sizeof m->model_id, "%.12s", m->model_digest);
    cJSON_AddNumberToObject(s, "n_views", o->n_views);
    cJSON_AddNumberToObject(s, "operating_point", o->operating_point);
    cJSON_AddNumberToObject(s, "abstain", o->abstain);
    cJSON_AddStringToObject(s, "precision", o->is_int8 ? "int8" : "fp32");
    if (synthetic_event_marked(r->ev))
        cJSON_AddTrueToObject(s, "synthetic_input");
    m->settings = s;
    char *settings = cJSON_PrintUnformatted(s), *key = NULL;
    int n = settings ? asprintf(&key, "%s %s %s %llu", r->ev->digest, m->model_digest, settings,
                                (unsigned long long)o->seed)
                     : -1;
    cJSON_free(settings);
    if (n < 0)
        return err_set(e, ERR_RESOURCE, "not enough memory for the run's description");
    file_sha256_buffer(key, (size_t)n, digest);
    free(key);
    int k = 0;
    for (const char *c = m->created; *c && k < 20; c++)
        if (*c != '-' && *c != ':')
            compact[k++] = *c;
    compact[k] = '\0';
    snprintf(m->run_id, sizeof m->run_id, "%s-%.8s", compact, digest);
    return true;
}

cJSON *mapping_provenance(const struct mapping_map *m, struct err *e)
{
    cJSON *j = cJSON_CreateObject();
    char number[32], *settings = cJSON_PrintUnformatted(m->settings);
    bool ok = j && settings && cJSON_AddStringToObject(j, "AFTERMAP_VERSION", AM_VERSION) &&
              cJSON_AddStringToObject(j, "AFTERMAP_RUN_ID", m->run_id) &&
              cJSON_AddStringToObject(j, "AFTERMAP_CREATED", m->created) &&
              cJSON_AddStringToObject(j, "AFTERMAP_MODEL", m->model_digest) &&
              cJSON_AddStringToObject(j, "AFTERMAP_EVENT", m->ev->digest);
    snprintf(number, sizeof number, "%d", m->cut);
    ok = ok && cJSON_AddStringToObject(j, "AFTERMAP_CUT", number);
    snprintf(number, sizeof number, "%llu", (unsigned long long)m->seed);
    ok = ok && cJSON_AddStringToObject(j, "AFTERMAP_SEED", number) &&
         cJSON_AddStringToObject(j, "AFTERMAP_SETTINGS", settings);
    cJSON_free(settings);
    if (ok)
        return j;
    cJSON_Delete(j);
    err_set(e, ERR_RESOURCE, "not enough memory for the map's description");
    return NULL;
}

/* ---- run.json */

static void add_absolute(cJSON *j, const char *key, const char *path)
{
    char *absolute = realpath(path, NULL);
    cJSON_AddStringToObject(j, key, absolute ? absolute : path);
    free(absolute);
}

/* The source rasters, which the server shows. */
static cJSON *inputs_json(const struct event *ev)
{
    cJSON *j = cJSON_CreateObject();
    for (int d = 0; d < 2; d++) {
        cJSON *list = cJSON_AddArrayToObject(j, d == EVENT_PRE ? "pre" : "post");
        for (int i = 0; i < ev->n_path[d]; i++)
            cJSON_AddItemToArray(list, cJSON_CreateString(ev->path[d][i]));
    }
    return j;
}

static cJSON *event_json(const struct mapping_run *r)
{
    const struct event *ev = r->ev;
    const struct event_grid *g = &ev->grid;
    cJSON *j = cJSON_CreateObject(), *manifest = cJSON_Parse(ev->manifest), *grid;
    add_absolute(j, "path", ev->dir);
    cJSON_AddStringToObject(j, "digest", ev->digest);
    cJSON *inputs = cJSON_GetObjectItemCaseSensitive(manifest, "inputs");
    if (inputs)
        cJSON_AddItemToObject(j, "inputs", cJSON_Duplicate(inputs, true));
    grid = cJSON_AddObjectToObject(j, "grid");
    cJSON_AddStringToObject(grid, "wkt", g->wkt);
    cJSON_AddItemToObject(grid, "geotransform", cJSON_CreateDoubleArray(g->geotransform, 6));
    cJSON_AddNumberToObject(grid, "width", g->width);
    cJSON_AddNumberToObject(grid, "height", g->height);
    cJSON_AddNumberToObject(grid, "gsd_m", g->gsd_m);
    double box[4] = {180, 90, -180, -90};
    for (size_t i = 0; i < ev->n; i++) {
        OGREnvelope env = {ev->building[i].lon, ev->building[i].lon, ev->building[i].lat,
                           ev->building[i].lat};
        if (ev->building[i].geometry)
            OGR_G_GetEnvelope(ev->building[i].geometry, &env);
        box[0] = fmin(box[0], env.MinX);
        box[1] = fmin(box[1], env.MinY);
        box[2] = fmax(box[2], env.MaxX);
        box[3] = fmax(box[3], env.MaxY);
    }
    if (ev->n)
        cJSON_AddItemToObject(j, "bbox", cJSON_CreateDoubleArray(box, 4));
    cJSON_Delete(manifest);
    return j;
}

static cJSON *model_json(const struct mapping_run *r)
{
    static const char *const copied[] = {"aftermap.version", "net.preset", "size_m", "gsd_m",
                                         "train.step",       "seed",       "source", "source.digest",
                                         "created"};
    cJSON *j = cJSON_CreateObject();
    const char *config = model_meta(r->model, "train.config"),
               *calibrated = model_meta(r->model, "calibrated");
    size_t n_labeled;
    model_labeled_ids(r->model, &n_labeled);
    add_absolute(j, "path", r->o->model_path);
    cJSON_AddStringToObject(j, "digest", r->map.model_digest);
    cJSON_AddStringToObject(j, "id", r->map.model_id);
    cJSON_AddNumberToObject(j, "n_labeled", (double)n_labeled);
    cJSON_AddNumberToObject(j, "temperature", model_temperature(r->model));
    cJSON_AddBoolToObject(j, "calibrated",
                          calibrated && (strcmp(calibrated, "1") == 0 || strcmp(calibrated, "true") == 0));
    for (size_t k = 0; k < sizeof copied / sizeof *copied; k++)
        if (model_meta(r->model, copied[k]))
            cJSON_AddStringToObject(j, copied[k], model_meta(r->model, copied[k]));
    cJSON *train = config ? cJSON_Parse(config) : NULL;
    if (train)
        cJSON_AddItemToObject(j, "train", train);
    return j;
}

static cJSON *classes_json(const struct mapping_run *r)
{
    cJSON *list = cJSON_CreateArray();
    for (int level = -1; level <= 3; level++) {
        size_t n = 0;
        if (r->map.n_classes == 2 && level > 0 && level != r->map.cut)
            continue;
        for (size_t i = 0; i < r->ev->n; i++)
            n += r->item[i].level == level;
        cJSON *c = cJSON_CreateObject();
        cJSON_AddStringToObject(c, "name", mapping_class_name(&r->map, level));
        if (level >= 0)
            cJSON_AddNumberToObject(c, "level", level);
        else
            cJSON_AddNullToObject(c, "level");
        cJSON_AddNumberToObject(c, "pixel", mapping_pixel(level));
        cJSON_AddStringToObject(c, "color", mapping_level_color(level));
        cJSON_AddNumberToObject(c, "count", (double)n);
        cJSON_AddItemToArray(list, c);
    }
    return list;
}

static bool outputs_json(struct mapping_run *r, cJSON *run, struct err *e)
{
    cJSON *list = cJSON_AddArrayToObject(run, "outputs");
    for (int k = 0; k < RUN_JSON; k++) {
        char path[PATH_SIZE], digest[65];
        struct stat st;
        if (!file_join(path, sizeof path, r->stage_dir, outputs[k], e) || !file_sha256(path, digest, e))
            return false;
        if (stat(path, &st) != 0)
            return err_errno(e, ERR_RUNTIME, errno, "%s", outputs[k]);
        cJSON *o = cJSON_CreateObject();
        cJSON_AddStringToObject(o, "name", outputs[k]);
        cJSON_AddNumberToObject(o, "bytes", (double)st.st_size);
        cJSON_AddStringToObject(o, "sha256", digest);
        cJSON_AddItemToArray(list, o);
    }
    return true;
}

static bool write_run_json(struct mapping_run *r, const struct mapping_report *report, struct err *e)
{
    char path[PATH_SIZE], seed[32];
    double t = now_s();
    cJSON *run = cJSON_CreateObject();
    cJSON_AddStringToObject(run, "kind", "damage map");
    cJSON_AddNumberToObject(run, "format", 1);
    cJSON_AddStringToObject(run, "version", AM_VERSION);
    cJSON_AddStringToObject(run, "run_id", r->map.run_id);
    cJSON_AddStringToObject(run, "created", r->map.created);
    snprintf(seed, sizeof seed, "%llu", (unsigned long long)r->map.seed);
    cJSON_AddRawToObject(run, "seed", seed); /* all 64 bits, which a double would round */
    cJSON_AddNumberToObject(run, "cut", r->map.cut);
    cJSON_AddBoolToObject(run, "binary", r->map.n_classes == 2);
    cJSON_AddItemToObject(run, "settings", cJSON_Duplicate(r->settings, true));
    if (synthetic_event_marked(r->ev)) {
        cJSON_AddTrueToObject(run, "synthetic");
        cJSON *warnings = cJSON_AddArrayToObject(run, "warnings");
        cJSON_AddItemToArray(warnings, cJSON_CreateString(synthetic_warning));
    }
    cJSON_AddItemToObject(run, "inputs", inputs_json(r->ev));
    cJSON_AddItemToObject(run, "event", event_json(r));
    cJSON_AddItemToObject(run, "model", model_json(r));
    cJSON *counts = cJSON_AddObjectToObject(run, "counts");
    cJSON_AddNumberToObject(counts, "buildings", (double)report->n_buildings);
    cJSON_AddNumberToObject(counts, "predicted", (double)report->n_predicted);
    cJSON_AddNumberToObject(counts, "damaged", (double)report->n_damaged);
    cJSON_AddNumberToObject(counts, "abstain", (double)report->n_abstain);
    cJSON_AddNumberToObject(counts, "unknown", (double)report->n_unknown);
    cJSON_AddItemToObject(run, "classes", classes_json(r));
    cJSON *trivial = cJSON_AddObjectToObject(run, "trivial");
    cJSON_AddStringToObject(trivial, "what", "colour statistics alone, fitted on the model's labels");
    cJSON_AddNumberToObject(trivial, "damaged", (double)r->baseline.n_damaged);
    cJSON_AddNumberToObject(trivial, "agrees", (double)r->baseline.n_agree);
    bool ok = outputs_json(r, run, e);
    cJSON_AddNumberToObject(r->timings, "digests_s", now_s() - t);
    cJSON_AddItemToObject(run, "timings", cJSON_Duplicate(r->timings, true));
    char *text = ok ? cJSON_Print(run) : NULL;
    cJSON_Delete(run);
    if (ok && !text)
        ok = err_set(e, ERR_RESOURCE, "not enough memory for run.json");
    ok = ok && file_join(path, sizeof path, r->stage_dir, outputs[RUN_JSON], e) &&
         file_write_text(path, text, e);
    cJSON_free(text);
    return ok;
}

/* ---- the folder */

static void remove_stage(const char *dir)
{
    DIR *d = opendir(dir);
    for (struct dirent *f; d && (f = readdir(d));)
        unlinkat(dirfd(d), f->d_name, 0);
    if (d)
        closedir(d);
    rmdir(dir);
}

/* Stages of runs whose process is gone. */
static void remove_leftovers(const char *out_dir)
{
    DIR *d = opendir(out_dir);
    for (struct dirent *f; d && (f = readdir(d));) {
        char *end, dir[PATH_SIZE];
        struct err ignored;
        if (strncmp(f->d_name, ".map.tmp-", 9) != 0)
            continue;
        long pid = strtol(f->d_name + 9, &end, 10);
        if (pid > 0 && *end == '\0' && kill((pid_t)pid, 0) != 0 && errno == ESRCH &&
            file_join(dir, sizeof dir, out_dir, f->d_name, &ignored))
            remove_stage(dir);
    }
    if (d)
        closedir(d);
}

static bool check_out_dir(const struct mapping_options *o, struct err *e)
{
    char path[PATH_SIZE];
    if (file_exists(o->out_dir) && !file_is_dir(o->out_dir))
        return err_set(e, ERR_USAGE, "%s is a file; name a folder for the map", o->out_dir);
    for (int k = 0; k < N_OUTPUTS; k++) {
        if (!file_join(path, sizeof path, o->out_dir, outputs[k], e))
            return false;
        if (file_exists(path) && !o->overwrite)
            return err_set(e, ERR_USAGE,
                           "a map exists already in %s; choose another folder or add --overwrite",
                           o->out_dir);
    }
    return true;
}

static bool open_stage(struct mapping_run *r, struct err *e)
{
    char name[64];
    r->made_out_dir = !file_exists(r->o->out_dir);
    if (!file_make_dirs(r->o->out_dir, e))
        return false;
    remove_leftovers(r->o->out_dir);
    snprintf(name, sizeof name, ".map.tmp-%ld", (long)getpid());
    if (!file_join(r->stage_dir, sizeof r->stage_dir, r->o->out_dir, name, e))
        return false;
    if (mkdir(r->stage_dir, 0777) != 0)
        return err_errno(e, ERR_RUNTIME, errno, "%s cannot be written", r->o->out_dir);
    r->made_stage_dir = true;
    return true;
}

static bool commit(struct mapping_run *r, struct err *e)
{
    char from[PATH_SIZE], to[PATH_SIZE];
    for (int k = 0; k < N_OUTPUTS; k++)
        if (!file_join(from, sizeof from, r->stage_dir, outputs[k], e) ||
            !file_join(to, sizeof to, r->o->out_dir, outputs[k], e) || !file_rename(from, to, e))
            return false;
    return true;
}

static bool write_outputs(struct mapping_run *r, const struct mapping_report *report,
                          const struct progress *p, struct err *e)
{
    char path[N_OUTPUTS][PATH_SIZE];
    for (int k = 0; k < N_OUTPUTS; k++)
        if (!file_join(path[k], PATH_SIZE, r->stage_dir, outputs[k], e))
            return false;
    double t[5] = {now_s()};
    if (!mapping_write_rasters(&r->map, path[0], path[2], p, e))
        return false;
    t[1] = now_s();
    if (!mapping_write_gpkg(&r->map, path[3], p, e))
        return false;
    t[2] = now_s();
    if (!mapping_write_geojson(&r->map, path[4], p, e))
        return false;
    t[3] = now_s();
    if (!mapping_write_csv(&r->map, path[5], p, e))
        return false;
    t[4] = now_s();
    cJSON_AddNumberToObject(r->timings, "rasters_s", t[1] - t[0]);
    cJSON_AddNumberToObject(r->timings, "gpkg_s", t[2] - t[1]);
    cJSON_AddNumberToObject(r->timings, "geojson_s", t[3] - t[2]);
    cJSON_AddNumberToObject(r->timings, "csv_s", t[4] - t[3]);
    return write_run_json(r, report, e) && commit(r, e);
}

static bool check_observed(const struct mapping_run *r, const struct progress *p, struct err *e)
{
    if (!synthetic_event_marked(r->ev))
        return true;
    if (!r->o->allow_synthetic)
        return err_set(
            e, ERR_INPUT,
            "%s was cut from images that a model made up, so it cannot show damage; assess an event of "
            "observed images, or add --allow-synthetic for a trial that says so in all it makes",
            r->ev->dir);
    progress_warn(p, synthetic_warning);
    return true;
}

bool mapping_run(const struct mapping_options *o, const struct progress *p, struct mapping_report *report,
                 struct err *e)
{
    struct mapping_run r = {.o = o};
    bool ok = false;
    double t0 = now_s(), t1, t2;
    *report = (struct mapping_report){0};
    if (o->n_views != 1 && o->n_views != 8)
        return err_set(e, ERR_USAGE, "views per chip are 1 or 8, not %d", o->n_views);
    if (!(o->operating_point > 0 && o->operating_point < 1) || !(o->abstain >= 0 && o->abstain <= 0.5))
        return err_set(e, ERR_USAGE,
                       "the operating point lies between 0 and 1, the abstain band between 0 and 0.5");
    if (!check_out_dir(o, e))
        return false;
    r.timings = cJSON_CreateObject();
    if (!r.timings || !(r.model = model_load(o->model_path, e)) || !(r.ev = event_open(o->event_dir, e)) ||
        !mapping_model_fits(r.model, o->model_path, r.ev, &r.map.cut, e) || !check_observed(&r, p, e) ||
        !describe(&r, e) || !(r.item = mem_array(r.ev->n, sizeof *r.item, "the verdicts", e)))
        goto out;
    r.map.item = r.item;
    report->n_buildings = r.ev->n;
    if (o->dry_run) {
        ok = true;
        goto out;
    }
    t1 = now_s();
    if (!open_stage(&r, e) || !predict(&r, p, report, e))
        goto out;
    mark_trained(&r, p);
    t2 = now_s();
    cJSON_AddNumberToObject(r.timings, "open_s", t1 - t0);
    cJSON_AddNumberToObject(r.timings, "predict_s", t2 - t1);
    report->seconds_predict = t2 - t1;
    ok = write_outputs(&r, report, p, e);
    report->seconds_write = now_s() - t2;
out:
    if (r.made_stage_dir)
        remove_stage(r.stage_dir);
    if (!ok && r.made_out_dir)
        rmdir(o->out_dir); /* only when empty: then we made it */
    cJSON_Delete(r.settings);
    cJSON_Delete(r.timings);
    free(r.item);
    event_close(r.ev);
    model_free(r.model);
    return ok;
}

cJSON *mapping_run_read(const char *dir, struct err *e)
{
    enum { RUN_JSON_MAX = 64 << 20 };
    char path[PATH_SIZE];
    if (!file_join(path, sizeof path, dir, "run.json", e))
        return NULL;
    char *text = file_read(path, RUN_JSON_MAX, NULL, e);
    if (!text) {
        err_prefix(e, "%s is no damage map", dir);
        return NULL;
    }
    cJSON *run = cJSON_Parse(text);
    free(text);
    const char *kind = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(run, "kind"));
    const double cut = cJSON_GetNumberValue(cJSON_GetObjectItemCaseSensitive(run, "cut")),
                 point = cJSON_GetNumberValue(cJSON_GetObjectItemCaseSensitive(
                     cJSON_GetObjectItemCaseSensitive(run, "settings"), "operating_point"));
    if (kind && strcmp(kind, "damage map") == 0 && cut >= 1 && cut <= 3 && point > 0 && point < 1 &&
        cJSON_IsBool(cJSON_GetObjectItemCaseSensitive(run, "binary")))
        return run;
    cJSON_Delete(run);
    err_set(e, ERR_INPUT, "%s is not a run.json that 'aftermap assess' wrote; assess the event again", path);
    return NULL;
}
