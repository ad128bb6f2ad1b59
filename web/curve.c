/* SPDX-License-Identifier: Apache-2.0
 * curve.c - figures of every model (curve.h). Damaged means p(damaged) of one half or more, as in the map's own figures;
 * intervals resample the event's spatial blocks (models/learn/metrics.h). Figures are kept by everything they depend on -
 * the two files of scores, the blind labels, the cut, the event - so that a page that asks every second costs nothing. */
#include "web/curve.h"

#include "models/base/mem.h"
#include "models/learn/metrics.h"
#include "web/scores.h"

#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { N_RESAMPLES = 1000, CALM_ROUNDS = 3 };
static const double calm_share = 0.01;

struct figures {
    struct metric f1;
    double ap, auroc, changed_share; /* NAN: cannot be told */
    size_t n_judged;
};

static uint64_t mix(uint64_t h, const void *data, size_t size)
{
    const unsigned char *c = data;
    for (size_t i = 0; i < size; i++)
        h = (h ^ c[i]) * 1099511628211u;
    return h;
}

static bool is_blind(const struct store_label *v)
{
    return v->purpose == STORE_VALIDATE && v->level >= 0;
}

/* Of the blind labels, the cut and the event. */
static uint64_t key_of_truth(const struct buildings *b, const char *aid, int cut)
{
    uint64_t h = mix(mix(14695981039346656037u, aid, strlen(aid) + 1), b->ev->digest, sizeof b->ev->digest);
    h = mix(h, &cut, sizeof cut);
    for (size_t i = 0; i < b->labels.n; i++)
        if (is_blind(&b->labels.item[i])) {
            h = mix(h, b->labels.item[i].bldg_id, strlen(b->labels.item[i].bldg_id) + 1);
            h = mix(h, &b->labels.item[i].level, sizeof b->labels.item[i].level);
        }
    return h;
}

/* A file of scores as it is now: false when there is none. */
static bool key_of_scores(const struct service *s, const char *aid, const char *model, char path[PATH_MAX],
                          uint64_t *key)
{
    char part[64];
    struct stat st;
    snprintf(part, sizeof part, "models/%.40s.scores", model);
    if (!store_path(s->workflow->store, aid, part, path, PATH_MAX, NULL) || stat(path, &st) != 0)
        return false;
    const int64_t is[4] = {st.st_mtim.tv_sec, st.st_mtim.tv_nsec, st.st_size, (int64_t)st.st_ino};
    *key = mix(mix(14695981039346656037u, path, strlen(path)), is, sizeof is);
    return true;
}

/* ---- judging one model
 * -------------------------------------------------------------------------------------------- */

static bool judge(const struct buildings *b, const struct event_loan *l, int cut, const struct scores *own,
                  struct figures *f, struct err *e)
{
    const size_t n_labels = b->labels.n;
    const struct metrics_options o = {
        .operating_point = 0.5, .fixed_recall = 0.8, .level = 0.95, .n_bootstrap = N_RESAMPLES};
    struct metrics m;
    float *probs = mem_array(n_labels, 2 * sizeof *probs, "the sample", e),
          *score = mem_array(n_labels, sizeof *score, "the sample", e);
    int16_t *truth = mem_array(n_labels, sizeof *truth, "the sample", e);
    uint8_t *positive = mem_array(n_labels, sizeof *positive, "the sample", e);
    int32_t *block = mem_array(n_labels, sizeof *block, "the sample", e);
    bool ok = probs && score && truth && positive && block;
    size_t n = 0;
    for (size_t i = 0; ok && i < n_labels; i++) {
        const struct store_label *v = &b->labels.item[i];
        size_t at = is_blind(v) ? event_loan_find(l, v->bldg_id) : b->ev->n;
        if (at == b->ev->n || !isfinite(own->p[at]))
            continue;
        score[n] = own->p[at];
        probs[2 * n] = 1 - own->p[at];
        probs[2 * n + 1] = own->p[at];
        truth[n] = positive[n] = v->level >= cut;
        block[n++] = b->ev->building[at].block;
    }
    f->n_judged = n;
    if (ok && n && (ok = metrics_compute(probs, 2, truth, positive, score, block, n, &o, &m, e))) {
        f->f1 = m.f1;
        f->ap = m.auprc.value;
        f->auroc = m.auroc.value;
    }
    free(block);
    free(positive);
    free(truth);
    free(score);
    free(probs);
    return ok;
}

/* Of the buildings that both predicted. */
static double changed(const struct scores *a, const struct scores *b, size_t n)
{
    size_t n_both = 0, n_changed = 0;
    for (size_t i = 0; i < n; i++)
        if (isfinite(a->p[i]) && isfinite(b->p[i])) {
            n_both++;
            n_changed += a->level[i] != b->level[i];
        }
    return n_both ? (double)n_changed / (double)n_both : NAN;
}

/* path, before: files of scores, before "" for the first. */
static bool measure(const struct buildings *b, const struct event_loan *l, int cut, const char *path,
                    const char *before, struct figures *f, struct err *e)
{
    struct scores own = {0}, last = {0};
    *f = (struct figures){{NAN, NAN, NAN}, NAN, NAN, NAN, 0};
    bool ok = scores_read(path, l, &own, e) && judge(b, l, cut, &own, f, e);
    if (ok && *before && scores_read(before, l, &last, e))
        f->changed_share = changed(&own, &last, b->ev->n);
    scores_free(&own);
    scores_free(&last);
    return ok;
}

/* The same from memory, where nothing has changed. */
static bool recall(struct workflow *w, uint64_t key, struct figures *f)
{
    pthread_mutex_lock(&w->figures_lock);
    const struct workflow_figures *k = &w->figures[key % WORKFLOW_FIGURES];
    bool is_there = k->key == key;
    *f = (struct figures){{k->f1, k->f1_low, k->f1_high}, k->ap, k->auroc, k->changed_share, k->n_judged};
    pthread_mutex_unlock(&w->figures_lock);
    return is_there;
}

static void keep(struct workflow *w, uint64_t key, const struct figures *f)
{
    pthread_mutex_lock(&w->figures_lock);
    w->figures[key % WORKFLOW_FIGURES] = (struct workflow_figures){.key = key,
                                                                   .n_judged = f->n_judged,
                                                                   .f1 = f->f1.value,
                                                                   .f1_low = f->f1.low,
                                                                   .f1_high = f->f1.high,
                                                                   .ap = f->ap,
                                                                   .auroc = f->auroc,
                                                                   .changed_share = f->changed_share};
    pthread_mutex_unlock(&w->figures_lock);
}

/* ---- the curve
 * ---------------------------------------------------------------------------------------------------- */

static void add_number(cJSON *doc, const char *name, double v)
{
    cJSON_AddItemToObject(doc, name,
                          isfinite(v) ? cJSON_CreateNumber(round(v * 1e4) / 1e4) : cJSON_CreateNull());
}

/* The newest rounds, as long as each changed less than the share that counts as calm. */
static void add_advice(const cJSON *curve, cJSON *doc)
{
    int n_rounds = 0, n_calm = 0;
    double most = 0;
    char why[160];
    for (int i = cJSON_GetArraySize(curve) - 1; i >= 0 && n_rounds < CALM_ROUNDS; i--) {
        const cJSON *v = cJSON_GetObjectItemCaseSensitive(cJSON_GetArrayItem(curve, i), "changed_share");
        if (!cJSON_IsNumber(v))
            continue; /* never predicted with, or the first */
        n_rounds++;
        n_calm += v->valuedouble < calm_share;
        most = fmax(most, v->valuedouble);
    }
    if (n_calm == CALM_ROUNDS)
        snprintf(why, sizeof why,
                 "fewer than 1 %% of the buildings changed class in each of the last %d rounds", CALM_ROUNDS);
    else if (n_rounds < CALM_ROUNDS)
        snprintf(why, sizeof why, "%d of the %d rounds that it takes to tell can be compared", n_rounds,
                 CALM_ROUNDS);
    else
        snprintf(why, sizeof why, "up to %.1f %% of the buildings changed class in a round of the last %d",
                 100 * most, CALM_ROUNDS);
    cJSON_AddBoolToObject(doc, "stop_suggested", n_calm == CALM_ROUNDS);
    cJSON_AddStringToObject(doc, "stop_reason", why);
}

void curve_judge(const struct service *s, const char *aid, int cut, const struct buildings *b,
                 const struct event_loan *l, cJSON *curve, cJSON *doc)
{
    const uint64_t truth = key_of_truth(b, aid, cut);
    char path[PATH_MAX], before[PATH_MAX] = "";
    uint64_t last = 0;
    cJSON *item;
    cJSON_ArrayForEach(item, curve)
    {
        const char *model = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(item, "model"));
        struct figures f = {{NAN, NAN, NAN}, NAN, NAN, NAN, 0};
        struct err e = {0};
        uint64_t own;
        if (model && key_of_scores(s, aid, model, path, &own)) {
            const uint64_t parts[3] = {truth, own, last}, key = mix(truth, parts, sizeof parts);
            if (!recall(s->workflow, key, &f)) {
                bool ok = measure(b, l, cut, path, before, &f, &e);
                if (ok)
                    keep(s->workflow, key, &f);
                else
                    cJSON_AddStringToObject(item, "problem", e.msg);
            }
            memcpy(before, path, sizeof before);
            last = own;
        }
        cJSON_AddNumberToObject(item, "n_judged", (double)f.n_judged);
        add_number(item, "f1", f.f1.value);
        add_number(item, "f1_low", f.f1.low);
        add_number(item, "f1_high", f.f1.high);
        add_number(item, "ap", f.ap);
        add_number(item, "auroc", f.auroc);
        add_number(item, "changed_share", f.changed_share);
    }
    add_advice(curve, doc);
}
