/* SPDX-License-Identifier: Apache-2.0
 * model_set.c - a model and images that it reads, declared in model_set.h. */
#include "app/model_set.h"

#include "geo/mapping_parts.h"
#include "models/base/mem.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static double now_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static double number_of(const struct model *m, const char *key, double otherwise)
{
    const char *text = model_meta(m, key);
    char *end;
    const double v = text ? strtod(text, &end) : otherwise;
    return text && (end == text || *end) ? otherwise : v;
}

static bool fits(const struct model_set *m, const char *model, const char *data, struct err *e)
{
    const struct imageset_layout *a = model_layout(m->model), *b = &m->set.layout;
    if (a->size != b->size || a->n_dates != b->n_dates || a->n_bands != b->n_bands ||
        a->has_masks != b->has_masks)
        return err_set(e, ERR_MODEL,
                       "%s was trained on images of %d x %d with %d channels, %s has %d x %d with %d", model,
                       a->size, a->size, imageset_stored_channels(a), data, b->size, b->size,
                       imageset_stored_channels(b));
    if (m->set.n_classes != model_net(m->model)->n_classes)
        return err_set(e, ERR_MODEL, "%s knows %d classes, %s has %d", model, model_net(m->model)->n_classes,
                       data, m->set.n_classes);
    return true;
}

static bool load(struct model_set *m, const char *model, const char *data, size_t max_items, uint64_t seed,
                 const struct progress *progress, struct err *e)
{
    if (imageset_is_spec(data)) {
        const double share = number_of(m->model, "test_share", 0.2);
        const uint64_t split_seed = (uint64_t)number_of(m->model, "seed", (double)seed);
        snprintf(m->test_share, sizeof m->test_share, "%.17g", share);
        return (strncmp(data, "folder:", 7) == 0
                    ? event_load_folder(&m->set, data + 7, share, split_seed, progress, e)
                    : imageset_open(&m->set, data, share, split_seed, e)) &&
               fits(m, model, data, e);
    }
    m->ev = event_open(data, e);
    if (!m->ev || !mapping_model_fits(m->model, model, m->ev, &m->cut, e))
        return false;
    const int cut = m->cut, grades = model_net(m->model)->n_classes == 2 ? cut : 0;
    return event_load_imageset(m->ev, grades, max_items, seed, &m->set, progress, e) &&
           model_meta_fill(&m->meta, m->ev, grades, e) && fits(m, model, data, e);
}

bool model_set_open(struct model_set *m, const char *model, const char *data, size_t max_items, uint64_t seed,
                    const struct progress *progress, struct err *e)
{
    memset(m, 0, sizeof *m);
    m->model = model_load(model, e);
    if (!m->model || !load(m, model, data, max_items, seed, progress, e))
        return false;
    m->set.layout.use_footprint = model_layout(m->model)->use_footprint;
    m->set.layout.use_match = model_layout(m->model)->use_match;
    m->test = mem_array(m->set.n, sizeof *m->test, "the test items", e);
    m->truth = m->test ? mem_array(m->set.n, sizeof *m->truth, "the test items", e) : NULL;
    if (!m->truth)
        return false;
    for (size_t i = 0; i < m->set.n; i++)
        if (m->set.split[i] == IMAGESET_TEST) {
            m->truth[m->n_test] = m->set.label[i];
            m->test[m->n_test++] = (uint32_t)i;
        }
    if (m->n_test == 0)
        return err_set(e, ERR_INPUT,
                       "%s: has no item in its test split, so a copy cannot be compared; split it again",
                       data);
    return true;
}

void model_set_close(struct model_set *m)
{
    model_free(m->model);
    model_meta_free(&m->meta);
    event_close(m->ev);
    imageset_free(&m->set);
    free(m->test);
    free(m->truth);
    memset(m, 0, sizeof *m);
}

int model_set_facts(const struct model_set *m, struct checkpoint_meta *out)
{
    if (!m->ev) {
        out[0] = (struct checkpoint_meta){"test_share", m->test_share};
        return 1;
    }
    memcpy(out, m->meta.pair, (size_t)m->meta.n * sizeof *out);
    return m->meta.n;
}

bool model_set_predict(const struct model_set *m, const char *path, int n_views, float *probs,
                       double *ms_per_image, const struct progress *progress, struct err *e)
{
    struct model *other = model_load(path, e);
    struct extraction_box *box = other ? extraction_box_model(other, n_views, e) : NULL;
    const double begun = now_s();
    bool ok = box && extraction_box_ask(box, &m->set, m->test, m->n_test, probs, progress, e);
    *ms_per_image = 1e3 * (now_s() - begun) / (double)m->n_test;
    extraction_box_free(box);
    model_free(other);
    return ok;
}

bool model_set_auroc(const struct model_set *m, const float *probs, struct metric *out, struct err *e)
{
    const size_t k = (size_t)m->set.n_classes;
    const struct metrics_options o = {
        .operating_point = 0.5, .fixed_recall = 0.8, .level = 0.95, .n_bootstrap = 500, .seed = 1};
    float *known = mem_array(m->n_test, (k + 1) * sizeof *known, "the figures", e);
    int16_t *truth = known ? mem_array(m->n_test, sizeof *truth, "the figures", e) : NULL;
    int32_t *block = truth ? mem_array(m->n_test, sizeof *block, "the figures", e) : NULL;
    uint8_t *positive = block ? mem_array(m->n_test, 1, "the figures", e) : NULL;
    struct metrics *figures = positive ? mem_array(1, sizeof *figures, "the figures", e) : NULL;
    float *score = known ? known + m->n_test * k : NULL;
    bool ok = figures != NULL;
    size_t n = 0;
    *out = (struct metric){NAN, NAN, NAN};
    for (size_t i = 0; ok && i < m->n_test; i++) {
        if (m->truth[i] == IMAGESET_NO_LABEL)
            continue;
        memcpy(known + n * k, probs + i * k, k * sizeof *known);
        truth[n] = m->truth[i];
        block[n] = m->set.block[m->test[i]];
        positive[n] = k == 2 ? truth[n] == 1 : truth[n] >= m->cut;
        score[n] = m->ev ? (float)mapping_p_damaged(probs + i * k, (int)k, m->cut) : 0;
        n++;
    }
    if (ok && n > 0 && k <= METRICS_MAX_CLASSES) {
        ok = metrics_compute(known, (int)k, truth, m->ev ? positive : NULL, m->ev ? score : NULL, block, n,
                             &o, figures, e);
        *out = ok ? figures->auroc : *out;
    }
    free(known);
    free(truth);
    free(block);
    free(positive);
    free(figures);
    return ok;
}
