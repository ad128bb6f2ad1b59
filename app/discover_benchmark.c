/* SPDX-License-Identifier: Apache-2.0
 * discover_benchmark.c - `aftermap discover SET --hold-out CLASSES`: classes of a labelled set are hidden, and what
 * discovery (models/learn/discovery.h) makes of the set is told as Dataset Reconstruction Accuracy beside baselines.
 *
 * Of each known class some labels are given, 70 % of them teach and 30 % are kept aside; all other training items are
 * the pool, their labels hidden; the test split judges a fresh learner of the reconstructed set.
 *
 * Two networks, their weights and augmentations drawn from different seeds, are the two views. They learn from the
 * known labels alone; with --retrain they learn again each round, semi-supervised, from what was found and the pool
 * without what was rejected. Networks are kept in OUT/networks: an interrupted run called again goes on with them. */
#include "app/discover.h"

#include "app/console.h"
#include "geo/event.h"
#include "models/base/file.h"
#include "models/base/mem.h"
#include "models/base/rng.h"
#include "models/learn/active.h"
#include "models/learn/train.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct bench {
    const struct discover_cmd *c;
    const struct common *common;
    const struct progress *progress;
    struct imageset all; /* as it was opened */
    int n_known, n_novel;
    int16_t to[64]; /* class of the set -> its number here, known ones first */
    int from[64];   /* and back */
    size_t n;
    uint32_t *item;         /* [n] row -> item of the set */
    int16_t *truth, *label; /* [n] */
    uint8_t *role;          /* [n] */
    double train_s;
};

static double clock_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* ---- the set ---- */

static bool open_set(struct bench *b, struct err *e)
{
    const struct discover_cmd *c = b->c;
    if (strncmp(c->data, "folder:", 7) == 0)
        return event_load_folder(&b->all, c->data + 7, c->test_share, b->common->seed, b->progress, e);
    if (imageset_is_spec(c->data))
        return imageset_open(&b->all, c->data, c->test_share, b->common->seed, e);
    struct event *ev = event_open(c->data, e);
    const bool ok = ev && event_load_imageset(ev, 0, 1, b->common->seed, &b->all, b->progress, e);
    event_close(ev);
    return ok;
}

static bool is_held_out(const char *list, const char *name, int index)
{
    char number[16];
    snprintf(number, sizeof number, "%d", index);
    for (const char *at = list; *at;) {
        const size_t n = strcspn(at, ",");
        if ((strlen(name) == n && strncmp(at, name, n) == 0) ||
            (strlen(number) == n && strncmp(at, number, n) == 0))
            return true;
        at += at[n] ? n + 1 : n;
    }
    return false;
}

static int count_names(const char *list)
{
    int n = *list != '\0';
    for (const char *s = list; *s; s++)
        n += *s == ',';
    return n;
}

/* Which classes are known and which are held out; both kinds must have items. */
static bool settle_classes(struct bench *b, struct err *e)
{
    const struct imageset *s = &b->all;
    size_t have[64] = {0};
    if (s->n_classes > 64)
        return err_set(e, ERR_INPUT, "%s has %d classes; discover takes at most 64", b->c->data,
                       s->n_classes);
    for (size_t i = 0; i < s->n; i++)
        if (s->label[i] >= 0)
            have[s->label[i]]++;
    for (int k = 0; k < s->n_classes; k++)
        if (!is_held_out(b->c->hold_out, s->class_name[k], k) && have[k]) {
            b->from[b->n_known] = k;
            b->to[k] = (int16_t)b->n_known++;
        } else
            b->to[k] = -1;
    for (int k = 0; k < s->n_classes; k++)
        if (is_held_out(b->c->hold_out, s->class_name[k], k)) {
            if (!have[k])
                return err_set(e, ERR_INPUT, "%s has no item of class '%s', so it cannot be held out",
                               b->c->data, s->class_name[k]);
            b->from[b->n_known + b->n_novel] = k;
            b->to[k] = (int16_t)(b->n_known + b->n_novel++);
        }
    if (b->n_novel != count_names(b->c->hold_out))
        return err_set(e, ERR_USAGE,
                       "--hold-out %s: %d of these are classes of %s, numbered 0 to %d (first '%s')",
                       b->c->hold_out, b->n_novel, b->c->data, s->n_classes - 1, s->class_name[0]);
    if (b->n_known < 2)
        return err_set(
            e, ERR_USAGE,
            "holding out %d of the classes of %s leaves %d to know; a classifier needs two at least",
            b->n_novel, b->c->data, b->n_known);
    return true;
}

/* Rows: labelled items of the training and test split, their roles, the labels that are given. */
static bool settle_rows(struct bench *b, struct err *e)
{
    const struct imageset *s = &b->all;
    size_t given[64] = {0};
    uint32_t *order = mem_array(s->n, sizeof *order, "the rows", e);
    struct rng r;
    if (!order || !(b->item = mem_array(s->n, sizeof *b->item, "the rows", e)) ||
        !(b->truth = mem_array(s->n, sizeof *b->truth, "the rows", e)) ||
        !(b->label = mem_array(s->n, sizeof *b->label, "the rows", e)) ||
        !(b->role = mem_array(s->n, 1, "the rows", e))) {
        free(order);
        return false;
    }
    for (size_t i = 0; i < s->n; i++) {
        if (s->label[i] < 0 || b->to[s->label[i]] < 0 || s->split[i] > IMAGESET_TEST)
            continue;
        b->item[b->n] = (uint32_t)i;
        b->truth[b->n] = b->to[s->label[i]];
        b->label[b->n] = -1;
        b->role[b->n] = s->split[i] == IMAGESET_TEST ? DISCOVERY_ASIDE : DISCOVERY_POOL;
        b->n++;
    }
    rng_init(&r, b->common->seed, RNG_LABELS, 0);
    rng_permutation(&r, order, (uint32_t)b->n);
    for (size_t k = 0; k < b->n; k++) {
        const uint32_t i = order[k];
        const int16_t t = b->truth[i];
        if (b->role[i] != DISCOVERY_POOL || t >= b->n_known || given[t] >= (size_t)b->c->labels_per_class)
            continue;
        given[t]++;
        b->label[i] = t;
        b->role[i] = DISCOVERY_TEACH;
    }
    free(order);
    for (int k = 0; k < b->n_known; k++)
        if (given[k] < 10)
            return err_set(e, ERR_INPUT,
                           "%s has only %zu training items of class '%s'; a known class needs 10 at least",
                           b->c->data, given[k], s->class_name[b->from[k]]);
    discovery_keep_aside(b->label, b->role, b->n, 0.3, b->common->seed);
    return true;
}

/* ---- the views ---- */

/* What a network learns from: rows whose label teaches, and unless `teach_only` the pool without what is gated. */
static bool subset(const struct bench *b, const struct discovery_state *s, bool teach_only,
                   struct imageset *out, struct err *e)
{
    const struct imageset *all = &b->all;
    const size_t image =
        (size_t)all->layout.size * (size_t)all->layout.size * (size_t)imageset_stored_channels(&all->layout);
    size_t n = 0;
    for (int pass = 0; pass < 2; pass++) {
        if (pass == 1) {
            if (!imageset_alloc(out, n, &all->layout, e))
                return false;
            n = 0;
        }
        for (size_t i = 0; i < b->n; i++) {
            if (s->label[i] < 0 && (teach_only || b->role[i] != DISCOVERY_POOL || s->is_gated[i]))
                continue;
            if (pass == 1) {
                memcpy(out->px + n * image, all->px + b->item[i] * image, image);
                out->label[n] = s->label[i] < 0 ? IMAGESET_NO_LABEL : s->label[i];
                out->id[n] = all->id[b->item[i]];
                out->block[n] = all->block[b->item[i]];
                out->split[n] = IMAGESET_TRAIN;
            }
            n++;
        }
    }
    out->n_classes = s->n_classes;
    for (int k = 0; k < s->n_classes; k++)
        if (k < b->n_known)
            memcpy(out->class_name[k], all->class_name[b->from[k]], sizeof out->class_name[k]);
        else
            snprintf(out->class_name[k], sizeof out->class_name[k], "group %d", k - b->n_known + 1);
    memcpy(out->source, all->source, sizeof out->source);
    memcpy(out->digest, all->digest, sizeof out->digest);
    return true;
}

static bool learn(const struct bench *b, const struct imageset *set, const char *method, int round, int view,
                  const char *path, struct err *e)
{
    struct train_config t;
    struct train_report report;
    if (!train_defaults(&t, method, set->layout.n_dates == 1, e))
        return false;
    t.seed = b->common->seed * 1000 + (uint64_t)(2 * round + view);
    t.steps = b->c->steps;
    t.budget_s = 0;
    t.preset = b->c->preset;
    t.balance = true; /* found classes may be small */
    if (b->c->no_mirror)
        t.mirror = false;
    return train_run(set, &t, path, true, NULL, 0, b->progress, &report, e);
}

static bool views(void *ctx, const struct discovery_state *s, float *x[2], int d[2], bool *is_same,
                  struct err *e)
{
    struct bench *b = ctx;
    struct imageset set = {0};
    const double begun = clock_s();
    bool ok = false;
    if (s->round > 0 && !b->c->retrain) {
        *is_same = true;
        return true;
    }
    if (!subset(b, s, s->round == 0, &set, e))
        return false;
    for (int v = 0; v < 2; v++) {
        char name[64], path[DISCOVER_PATH];
        struct model *m = NULL;
        float *probs = NULL;
        snprintf(name, sizeof name, "networks/round%d-%c.safetensors", s->round + 1, 'a' + v);
        ok = file_join(path, sizeof path, b->c->out, name, e) &&
             learn(b, &set, s->round ? b->c->method : "supervised", s->round, v, path, e) &&
             (m = model_load(path, e));
        if (ok) {
            d[v] = net_embedding_size(model_net(m));
            ok = (x[v] = mem_array(b->n * (size_t)d[v], sizeof **x, "the views", e)) &&
                 (probs = mem_array(b->n * (size_t)s->n_classes, sizeof *probs, "the views", e)) &&
                 active_predict(m, &b->all, b->item, b->n, true, b->common->seed, (uint64_t)v + 1, probs,
                                x[v], b->progress, e);
        }
        free(probs);
        model_free(m);
        if (!ok)
            break;
    }
    imageset_free(&set);
    b->train_s += clock_s() - begun;
    return ok;
}

/* ---- what is told ---- */

static void add_share(cJSON *o, const char *key, double v)
{
    if (isfinite(v))
        cJSON_AddNumberToObject(o, key, round(v * 1e5) / 1e5);
    else
        cJSON_AddNullToObject(o, key);
}

static cJSON *accuracy_json(const struct discovery_accuracy *a)
{
    cJSON *o = cJSON_CreateObject();
    add_share(o, "dra", a->dra);
    add_share(o, "dra_known", a->known);
    add_share(o, "dra_novel", a->novel);
    add_share(o, "dra_many_to_one", a->lenient);
    add_share(o, "rejected", a->rejected);
    cJSON_AddNumberToObject(o, "n_found", a->n_found);
    return o;
}

static cJSON *names_json(const struct bench *b, int from, int n)
{
    cJSON *list = cJSON_CreateArray();
    for (int k = from; k < from + n; k++)
        cJSON_AddItemToArray(list, cJSON_CreateString(b->all.class_name[b->from[k]]));
    return list;
}

/* Which true class each group is mostly of. */
static void add_truth(const struct bench *b, const struct discovery_result *r, int g, const int *match,
                      cJSON *o)
{
    size_t count[64] = {0}, all = 0;
    int most = 0;
    for (size_t i = 0; i < b->n; i++)
        if (r->member[i] == g) {
            count[b->truth[i]]++;
            all++;
        }
    for (int k = 1; k < b->n_known + b->n_novel; k++)
        most = count[k] > count[most] ? k : most;
    cJSON_AddStringToObject(o, "mostly", all ? b->all.class_name[b->from[most]] : "");
    add_share(o, "purity", all ? (double)count[most] / (double)all : NAN);
    if (g < r->n_found && match[g] >= 0)
        cJSON_AddStringToObject(o, "counts_as", b->all.class_name[b->from[match[g]]]);
    else
        cJSON_AddNullToObject(o, "counts_as");
}

static cJSON *describe(const struct bench *b, const struct discovery_result *r,
                       const struct discovery_baselines *v, double seconds)
{
    cJSON *o = cJSON_CreateObject(), *networks, *list, *base;
    size_t n[4] = {0};
    for (size_t i = 0; i < b->n; i++)
        n[b->role[i]]++;
    cJSON_AddStringToObject(o, "version", AM_VERSION);
    cJSON_AddStringToObject(o, "definitions",
                            "after Nixon, Liu and Berthelot 2020; the definitions are our own");
    cJSON_AddStringToObject(o, "set", b->all.source);
    cJSON_AddStringToObject(o, "set_digest", b->all.digest);
    cJSON_AddItemToObject(o, "known", names_json(b, 0, b->n_known));
    cJSON_AddItemToObject(o, "held_out", names_json(b, b->n_known, b->n_novel));
    cJSON_AddNumberToObject(o, "n_labels", (double)(n[DISCOVERY_TEACH] + n[DISCOVERY_VALIDATE]));
    cJSON_AddNumberToObject(o, "n_pool", (double)n[DISCOVERY_POOL]);
    cJSON_AddNumberToObject(o, "n_test", (double)n[DISCOVERY_ASIDE]);
    cJSON_AddItemToObject(o, "settings", discover_settings(&b->c->loop));
    networks = cJSON_AddObjectToObject(o, "networks");
    cJSON_AddStringToObject(networks, "preset", b->c->preset);
    cJSON_AddNumberToObject(networks, "steps", (double)b->c->steps);
    cJSON_AddStringToObject(networks, "later_rounds", b->c->retrain ? b->c->method : "as in the first");
    cJSON_AddNumberToObject(o, "n_rounds", r->n_rounds);
    cJSON_AddNumberToObject(o, "n_rejected_first", (double)r->n_rejected);
    add_share(o, "null_f1", r->null_f1);
    cJSON_AddItemToObject(o, "found", accuracy_json(&v->found));
    base = cJSON_AddObjectToObject(o, "baselines");
    cJSON_AddItemToObject(base, "nothing_discovered", accuracy_json(&v->none));
    cJSON_AddItemToObject(base, "kmeans_true_number", accuracy_json(&v->kmeans));
    add_share(base, "supervised", v->supervised);
    add_share(o, "test_accuracy_reconstructed", v->second);
    add_share(o, "test_accuracy_true_labels", v->second_supervised);
    list = cJSON_AddArrayToObject(o, "groups");
    for (int g = 0; g < r->n_groups; g++) {
        cJSON *one = discover_group_json(&r->group[g], g + 1);
        add_truth(b, r, g, v->found.match, one);
        cJSON_AddItemToArray(list, one);
    }
    cJSON_AddNumberToObject(o, "seconds_networks", round(b->train_s * 10) / 10);
    cJSON_AddNumberToObject(o, "seconds", round(seconds * 10) / 10);
    return o;
}

static void print_row(const char *name, const struct discovery_accuracy *a)
{
    printf("%-34s %6.3f %6.3f %6.3f %9.3f %8.3f %6d\n", name, a->dra, a->known, a->novel, a->lenient,
           a->rejected, a->n_found);
}

static void print_result(const struct bench *b, const struct discovery_result *r,
                         const struct discovery_baselines *v)
{
    printf("%d known classes, %d held out, %d groups proposed, %d accepted after %d round%s\n\n", b->n_known,
           b->n_novel, r->n_groups, r->n_found, r->n_rounds, r->n_rounds == 1 ? "" : "s");
    printf("%-34s %6s %6s %6s %9s %8s %6s\n", "", "DRA", "known", "novel", "many-to-1", "rejected", "found");
    print_row("discovered", &v->found);
    print_row("nothing discovered", &v->none);
    print_row("k-means with the true number", &v->kmeans);
    printf("%-34s %6.3f\n", "true labels of the held-out, too", v->supervised);
    if (isfinite(v->second))
        printf("\na fresh learner on the reconstructed set, on test items: %.3f (on true labels: %.3f)\n",
               v->second, v->second_supervised);
}

static bool write_results(const struct bench *b, const struct discovery_result *r,
                          const struct discovery_baselines *v, cJSON *json, struct err *e)
{
    struct discover_stage stage = {0};
    char path[DISCOVER_PATH], *text = cJSON_Print(json);
    uint32_t *order = mem_array((size_t)b->c->sheet_tiles, sizeof *order, "the contact sheet", e);
    bool ok = order && (text || err_set(e, ERR_RESOURCE, "not enough memory for the result")) &&
              discover_stage_open(&stage, b->c->out, e);
    (void)v;
    for (int g = 0; ok && g < r->n_groups && b->c->sheet_tiles; g++)
        ok = discover_sheet(&stage, &b->all, r, g, b->item, b->c->sheet_tiles, order, e) >= 0;
    ok = ok && discover_stage_path(&stage, "discover.json", path, e) && file_write_text(path, text, e) &&
         discover_stage_commit(&stage, e);
    discover_stage_close(&stage);
    cJSON_free(text);
    free(order);
    return ok;
}

bool discover_benchmark(const struct discover_cmd *c, const struct common *common, const struct progress *p,
                        struct err *e)
{
    struct bench b = {.c = c, .common = common, .progress = p};
    struct discovery_result r = {0};
    struct discovery_baselines v;
    struct discovery_options o = c->loop;
    char networks[DISCOVER_PATH];
    cJSON *json = NULL;
    const double begun = clock_s();
    bool ok = false;
    o.seed = common->seed;
    o.min_confidence = 0;
    if (!open_set(&b, e) || !settle_classes(&b, e) || !settle_rows(&b, e))
        goto out;
    if (common->dry_run) {
        ok = true;
        goto out;
    }
    const struct discovery_data data = {
        .n = b.n, .n_known = b.n_known, .label = b.label, .role = b.role, .views = views, .ctx = &b};
    if (!file_join(networks, sizeof networks, c->out, "networks", e) || !file_make_dirs(networks, e) ||
        !discovery_run(&data, &o, &r, p, e) ||
        !discovery_compare(&data, &r, b.truth, b.n_novel, common->seed, &v, e) ||
        !(json = describe(&b, &r, &v, clock_s() - begun)) || !write_results(&b, &r, &v, json, e))
        goto out;
    if (common->json) {
        ok = print_json(json, e);
        json = NULL;
    } else {
        print_result(&b, &r, &v);
        ok = flush_stdout(e);
    }
out:
    cJSON_Delete(json);
    discovery_free(&r);
    imageset_free(&b.all);
    free(b.item);
    free(b.truth);
    free(b.label);
    free(b.role);
    return ok;
}
