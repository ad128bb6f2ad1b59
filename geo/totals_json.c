/* SPDX-License-Identifier: Apache-2.0
 * totals_json.c - the report of totals.h as JSON, the one shape the command line, the service and the printable
 * report share. */
#include "geo/totals.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* Rounded to `step`; JSON has no NaN. */
static void add_number(cJSON *j, const char *name, double v, double step)
{
    if (isfinite(v))
        cJSON_AddNumberToObject(j, name, round(v / step) * step);
    else
        cJSON_AddNullToObject(j, name);
}

/* Four decimals, as the shortest text that reads back so. */
static void add_share(cJSON *j, const char *name, double v)
{
    char text[32];
    if (!isfinite(v)) {
        cJSON_AddNullToObject(j, name);
        return;
    }
    snprintf(text, sizeof text, "%.4f", v);
    cJSON_AddRawToObject(j, name, text);
}

/* Fine enough that whoever rounds it to a whole building gets what the printed report says. */
static void add_thousandths(cJSON *j, const char *name, double v)
{
    char text[32];
    if (!isfinite(v)) {
        cJSON_AddNullToObject(j, name);
        return;
    }
    snprintf(text, sizeof text, "%.3f", v);
    cJSON_AddRawToObject(j, name, text);
}

static void add_text(cJSON *j, const char *name, const char *text)
{
    if (text && *text)
        cJSON_AddStringToObject(j, name, text);
    else
        cJSON_AddNullToObject(j, name);
}

static void fill_total(cJSON *j, const struct totals_total *t, uint32_t n_buildings)
{
    cJSON_AddNumberToObject(j, "n_sampled", t->n_sampled);
    add_thousandths(j, "estimate", t->estimate);
    add_number(j, "low", t->low, 1);
    add_number(j, "high", t->high, 1);
    add_share(j, "share", t->estimate / n_buildings);
    add_share(j, "share_low", t->low / n_buildings);
    add_share(j, "share_high", t->high / n_buildings);
}

static cJSON *area_json(const struct totals_area *a)
{
    cJSON *j = cJSON_CreateObject();
    add_text(j, "zone_id", a->zone_id);
    add_text(j, "zone_name", a->zone_name);
    if (a->outside)
        cJSON_AddTrueToObject(j, "outside");
    cJSON_AddNumberToObject(j, "n_buildings", a->n_buildings);
    cJSON_AddNumberToObject(j, "n_sampled", a->n_sampled);
    add_number(j, "n_predicted", a->n_predicted, 1);
    add_text(j, "refused", a->refused);
    if (*a->refused || !isfinite(a->damaged.estimate)) {
        cJSON_AddNullToObject(j, "damaged");
        cJSON_AddNullToObject(j, "classes");
        return j;
    }
    fill_total(cJSON_AddObjectToObject(j, "damaged"), &a->damaged, a->n_buildings);
    cJSON *list = cJSON_AddArrayToObject(j, "classes");
    for (int k = 0; k < TOTALS_CLASSES; k++) {
        cJSON *c = cJSON_CreateObject();
        cJSON_AddStringToObject(c, "class", totals_class_name(k));
        add_number(c, "level", k < TOTALS_UNKNOWN ? (double)k : (double)NAN, 1);
        fill_total(c, &a->of_class[k], a->n_buildings);
        cJSON_AddItemToArray(list, c);
    }
    return j;
}

static void fill_share(cJSON *j, const char *name, const struct totals_share *s)
{
    if (!isfinite(s->value)) {
        cJSON_AddNullToObject(j, name);
        return;
    }
    cJSON *o = cJSON_AddObjectToObject(j, name);
    add_share(o, "value", s->value);
    add_share(o, "low", s->low);
    add_share(o, "high", s->high);
}

cJSON *totals_json(const struct totals_report *r)
{
    cJSON *j = cJSON_CreateObject(), *map;
    cJSON_AddStringToObject(j, "kind", "damage estimate");
    cJSON_AddNumberToObject(j, "format", 1);
    cJSON_AddStringToObject(j, "version", AM_VERSION);
    map = cJSON_AddObjectToObject(j, "map");
    add_text(map, "path", r->map_path);
    add_text(map, "run_id", r->run_id);
    add_text(map, "created", r->created);
    add_text(map, "model", r->model_digest);
    add_text(map, "event", r->event_digest);
    cJSON_AddNumberToObject(j, "cut", r->cut);
    if (isfinite(r->operating_point))
        cJSON_AddNumberToObject(j, "operating_point", r->operating_point);
    else
        cJSON_AddNullToObject(j, "operating_point");
    cJSON_AddStringToObject(j, "scale", "joint damage scale");
    cJSON_AddStringToObject(j, "method", totals_method_name(r->method));
    cJSON_AddNumberToObject(j, "level", r->level);
    if (r->has_sample) {
        cJSON *s = cJSON_AddObjectToObject(j, "sample");
        add_text(s, "source", r->source);
        cJSON_AddStringToObject(s, "design", r->stratified_by ? "stratified" : "simple random");
        add_text(s, "stratified_by", r->stratified_by);
        cJSON_AddNumberToObject(s, "n_drawn", r->n_drawn);
        cJSON_AddNumberToObject(s, "n_graded", r->n_graded);
        cJSON_AddNumberToObject(s, "n_unknown", r->n_unknown);
    } else
        cJSON_AddNullToObject(j, "sample");
    cJSON_AddItemToObject(j, "whole", area_json(&r->whole));
    cJSON *zones = cJSON_AddArrayToObject(j, "zones");
    for (int i = 0; i < r->n_zones; i++)
        cJSON_AddItemToArray(zones, area_json(&r->zone[i]));
    if (r->has_sample) {
        cJSON *a = cJSON_AddObjectToObject(j, "accuracy");
        cJSON_AddNumberToObject(a, "n", r->n_scored);
        fill_share(a, "precision", &r->precision);
        fill_share(a, "recall", &r->recall);
    } else
        cJSON_AddNullToObject(j, "accuracy");
    if (isfinite(r->half_width)) {
        cJSON *s = cJSON_AddObjectToObject(j, "sample_size");
        add_thousandths(s, "half_width", r->half_width);
        add_share(s, "planned_share", r->planned_share);
        cJSON_AddNumberToObject(s, "n_exact", r->size_exact);
        cJSON_AddNumberToObject(s, "n_assisted", r->size_assisted);
        cJSON_AddNumberToObject(s, "n_exact_worst", r->size_worst);
    }
    cJSON *notes = cJSON_AddArrayToObject(j, "notes");
    for (int i = 0; i < r->n_notes; i++)
        cJSON_AddItemToArray(notes, cJSON_CreateString(r->note[i]));
    return j;
}
