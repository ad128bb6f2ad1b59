/* SPDX-License-Identifier: Apache-2.0
 * lab_lag_enhance.c - `aftermap lab lag enhance`: versions of an image, or of an event's chips, with made-up detail
 * (geo/enhance.h), and a list of what was made how. */
#include "app/console.h"
#include "app/lab_lag.h"
#include "geo/enhance.h"
#include "geo/synthetic.h"
#include "models/base/file.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct enhancing {
    const struct lab_lag *c;
    const struct common *common;
    const struct progress *progress;
    struct lag_model model;
    double gsd_m; /* of the small images it was taught with; 0: plain images */
    cJSON *items;
    size_t n_done;
};

/* Says once that a model of 2 m pixels is not one of 10 m pixels. */
static void compare_gsd(const struct enhancing *s, double gsd_m)
{
    char text[256];
    if (s->n_done > 0 || !(s->gsd_m > 0) || !(gsd_m > 0) || fabs(gsd_m / s->gsd_m - 1) < 0.25)
        return;
    snprintf(text, sizeof text,
             "%s has pixels of %.3g m; the model was taught to enlarge pixels of %.3g m, so its detail has "
             "the wrong "
             "size here",
             s->c->data, gsd_m, s->gsd_m);
    progress_warn(s->progress, text);
}

static bool enhance_one(struct enhancing *s, const struct enhance_image *im, const char *stem, struct err *e)
{
    struct enhance_report r;
    compare_gsd(s, im->gsd_m);
    if (!enhance_write(im, &s->model, s->c->out, stem, s->c->n_count, s->common->seed, s->progress, &r, e))
        return false;
    s->n_done++;
    cJSON *j = cJSON_CreateObject();
    cJSON_AddStringToObject(j, "name", stem);
    cJSON_AddBoolToObject(j, "synthetic", true);
    cJSON_AddNumberToObject(j, "width", im->width);
    cJSON_AddNumberToObject(j, "height", im->height);
    cJSON_AddNumberToObject(j, "off", r.off);
    cJSON_AddNumberToObject(j, "sd", r.sd);
    cJSON_AddItemToArray(s->items, j);
    return true;
}

/* Letters, digits and - of a name. */
static void make_stem(const char *name, char *stem, size_t size)
{
    size_t n = 0;
    const size_t length = strcspn(name, ".");
    for (size_t i = 0; i < length && n + 1 < size; i++)
        stem[n++] = isalnum((unsigned char)name[i]) || name[i] == '-' ? name[i] : '_';
    stem[n] = '\0';
    if (n == 0)
        snprintf(stem, size, "image");
}

static bool enhance_raster(struct enhancing *s, struct err *e)
{
    struct enhance_image im;
    char stem[100];
    make_stem(file_base(s->c->data), stem, sizeof stem);
    if (!enhance_open(&im, s->c->data, s->model.config.net.n_colors, s->gsd_m > 0, e))
        return false;
    bool ok = true;
    if (s->common->dry_run)
        console_say("dry run: %d x %d pixels, %d versions; nothing was made", im.width, im.height,
                    s->c->n_count);
    else
        ok = enhance_one(s, &im, stem, e);
    enhance_close(&im);
    return ok;
}

/* Whether id is in the list "a,b,c" (NULL: every one is). */
static bool is_listed(const char *list, const char *id)
{
    const size_t n = strlen(id);
    for (const char *at = list; at; at = strchr(at, ',') ? strchr(at, ',') + 1 : NULL)
        if (strncmp(at, id, n) == 0 && (at[n] == ',' || !at[n]))
            return true;
    return !list;
}

static bool enhance_event(struct enhancing *s, struct err *e)
{
    static const char *const date_name[] = {"pre", "post"};
    struct event *ev = event_open(s->c->data, e);
    size_t n = 0;
    bool ok = ev;
    if (ok && ev->layout.n_bands != s->model.config.net.n_colors)
        ok = err_set(e, ERR_INPUT, "%s: enlarges images of %d bands, %s has %d", s->c->model,
                     s->model.config.net.n_colors, s->c->data, ev->layout.n_bands);
    for (size_t i = 0; ok && i < ev->n; i++)
        n += ev->building[i].page >= 0 && is_listed(s->c->buildings, ev->building[i].bldg_id);
    if (ok && n == 0)
        ok = err_set(e, ERR_INPUT, "%s: %s", s->c->data,
                     s->c->buildings ? "none of the buildings named has a chip" : "no building has a chip");
    if (ok && s->common->dry_run) {
        console_say("dry run: %zu chips of two dates, %d versions each; nothing was made", n, s->c->n_count);
        n = 0;
    }
    for (size_t i = 0, done = 0; ok && done < n; i++) {
        if (ev->building[i].page < 0 || !is_listed(s->c->buildings, ev->building[i].bldg_id))
            continue;
        for (int date = 0; ok && date < ev->layout.n_dates; date++) {
            struct enhance_image im;
            char id[80], stem[100];
            make_stem(ev->building[i].bldg_id, id, sizeof id);
            snprintf(stem, sizeof stem, "%s-%lld-%s", id, (long long)ev->building[i].fid, date_name[date]);
            ok = enhance_open_chip(&im, ev, i, date, e) && enhance_one(s, &im, stem, e);
            enhance_close(&im);
        }
        done++;
        if (ok && progress_stopped(s->progress))
            ok = err_set(e, ERR_INTERRUPTED, "stopped after %zu of %zu buildings", done, n);
    }
    event_close(ev);
    return ok;
}

static bool finish(struct enhancing *s, const char *list, struct err *e)
{
    cJSON *j = cJSON_CreateObject();
    char seed[24];
    snprintf(seed, sizeof seed, "%llu", (unsigned long long)s->common->seed);
    cJSON_AddBoolToObject(j, "synthetic", true);
    cJSON_AddStringToObject(j, "algorithm", "lag");
    cJSON_AddStringToObject(j, "model", s->c->model);
    cJSON_AddStringToObject(j, "model_digest", checkpoint_digest(s->model.file));
    cJSON_AddStringToObject(j, "input", s->c->data);
    cJSON_AddStringToObject(j, "seed", seed);
    cJSON_AddNumberToObject(j, "scale", 1 << s->model.config.net.n_stages);
    cJSON_AddNumberToObject(j, "versions", s->c->n_count);
    cJSON_AddItemReferenceToObject(j, "images", s->items);
    char *text = cJSON_Print(j);
    bool ok = text ? file_write_text(list, text, e) : err_set(e, ERR_RESOURCE, "out of memory for %s", list);
    cJSON_free(text);
    if (ok && s->common->json)
        return print_json(j, e);
    cJSON_Delete(j);
    if (ok) {
        puts(s->c->out);
        ok = flush_stdout(e);
    }
    return ok;
}

bool lag_run_enhance(const struct lab_lag *c, const struct common *common, const struct progress *progress,
                     struct err *e)
{
    struct enhancing s = {.c = c, .common = common, .progress = progress};
    char list[4096];
    const bool is_event = file_is_dir(c->data);
    if (c->buildings && !is_event)
        return err_set(e, ERR_USAGE, "--building chooses from an event; %s is no event folder", c->data);
    bool ok = file_join(list, sizeof list, c->out, SYNTHETIC_LIST, e);
    if (ok && !common->overwrite && !common->dry_run && file_exists(list))
        ok = err_set(e, ERR_USAGE, "%s exists already; add --overwrite to replace what it lists", list);
    ok = ok && lag_model_open(&s.model, c->model, e) && (common->dry_run || file_make_dirs(c->out, e));
    if (ok) {
        const char *gsd = checkpoint_meta_get(s.model.file, "gsd_m");
        s.gsd_m = gsd ? strtod(gsd, NULL) * (1 << s.model.config.net.n_stages) : 0;
        s.items = cJSON_CreateArray();
        ok = is_event ? enhance_event(&s, e) : enhance_raster(&s, e);
    }
    if (ok && !common->dry_run) {
        console_say(
            "%zu images, %d versions and a centre each, %d times finer: invented detail, marked as such",
            s.n_done, c->n_count, 1 << s.model.config.net.n_stages);
        ok = finish(&s, list, e);
    }
    cJSON_Delete(s.items);
    lag_model_close(&s.model);
    return ok;
}
