/* SPDX-License-Identifier: Apache-2.0
 * extraction_learn.c - copies learnt from answers, declared in extraction_learn.h. */
#include "models/learn/extraction_learn.h"

#include "models/base/mem.h"
#include "models/base/rng.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { BOX_BATCH = 64 };

static bool model_answer(void *ctx, const uint8_t *px, int n, float *probs, struct err *e)
{
    (void)e;
    predictor_run(ctx, px, n, probs, NULL);
    return true;
}

struct extraction_box *extraction_box_model(const struct model *m, int n_views, struct err *e)
{
    struct extraction_box *box = mem_array(1, sizeof *box, "the model", e);
    if (!box)
        return NULL;
    *box = (struct extraction_box){
        .n_classes = model_net(m)->n_classes, .batch = BOX_BATCH, .answer = model_answer};
    box->ctx = predictor_create(m, BOX_BATCH, n_views, e);
    if (box->ctx)
        return box;
    free(box);
    return NULL;
}

void extraction_box_free(struct extraction_box *box)
{
    if (!box)
        return;
    predictor_free(box->ctx);
    free(box);
}

bool extraction_box_ask(struct extraction_box *box, const struct imageset *set, const uint32_t *item,
                        size_t n, float *probs, const struct progress *progress, struct err *e)
{
    const size_t side = (size_t)set->layout.size,
                 image = side * side * (size_t)imageset_stored_channels(&set->layout);
    if (box->max_queries > 0 && (int64_t)n > box->max_queries - box->n_asked)
        return err_set(e, ERR_RESOURCE,
                       "the query budget is exhausted: %lld of %lld queries are left, %zu more are wanted",
                       (long long)(box->max_queries - box->n_asked), (long long)box->max_queries, n);
    uint8_t *px = mem_array((size_t)box->batch, image, "the queries", e);
    bool ok = px != NULL;
    for (size_t done = 0; ok && done < n; done += (size_t)box->batch) {
        const size_t left = n - done, m = left < (size_t)box->batch ? left : (size_t)box->batch;
        progress_report(progress, "ask", (double)done, (double)n, NULL);
        if (progress_stopped(progress))
            ok = err_set(e, ERR_INTERRUPTED, "stopped after %zu of %zu queries", done, n);
        for (size_t i = 0; i < m; i++)
            memcpy(px + i * image, set->px + (size_t)item[done + i] * image, image);
        ok = ok && box->answer(box->ctx, px, (int)m, probs + done * (size_t)box->n_classes, e);
        box->n_asked += ok ? (int64_t)m : 0;
    }
    free(px);
    return ok;
}

int extraction_label(const float *probs, int n_classes)
{
    int top = 0;
    for (int c = 1; c < n_classes; c++)
        top = probs[c] > probs[top] ? c : top;
    return top;
}

void extraction_expose(const struct extraction_exposure *x, float *probs, int n_classes)
{
    if (x->label_only) {
        const int top = extraction_label(probs, n_classes);
        for (int c = 0; c < n_classes; c++)
            probs[c] = c == top ? 1.0f : 0.0f;
        return;
    }
    if (x->decimals < 0)
        return;
    const double scale = pow(10, x->decimals);
    double sum = 0;
    for (int c = 0; c < n_classes; c++)
        sum += (double)(probs[c] = (float)(round((double)probs[c] * scale) / scale));
    for (int c = 0; c < n_classes; c++) /* all may have been rounded away */
        probs[c] = sum > 0 ? (float)((double)probs[c] / sum) : 1.0f / (float)n_classes;
}

/* Images to ask about: n of the training split by seed, or all of it. */
static uint32_t *choose(const struct imageset *pool, size_t n_wanted, uint64_t seed, size_t *n, struct err *e)
{
    uint32_t *item = mem_array(pool->n, sizeof *item, "the queries", e), *order = NULL, n_train = 0;
    struct rng r;
    if (!item)
        return NULL;
    for (size_t i = 0; i < pool->n; i++)
        if (pool->split[i] == IMAGESET_TRAIN)
            item[n_train++] = (uint32_t)i;
    *n = n_wanted > 0 ? n_wanted : n_train;
    if (*n > n_train || n_train == 0) {
        err_set(e, ERR_INPUT,
                "%s: %zu queries are wanted, but its training split has %u images; ask for fewer",
                pool->source, *n, n_train);
        goto fail;
    }
    if (*n == n_train)
        return item;
    order = mem_array(n_train, sizeof *order, "the queries", e);
    if (!order)
        goto fail;
    rng_init(&r, seed, RNG_QUERY, 0);
    rng_permutation(&r, order, n_train);
    for (size_t i = 0; i < *n; i++)
        order[i] = item[order[i]];
    memcpy(item, order, *n * sizeof *item);
    free(order);
    return item;
fail:
    free(item);
    return NULL;
}

bool extraction_learn(const struct imageset *pool, struct extraction_box *box,
                      const struct extraction_learn_options *o, const char *path,
                      const struct checkpoint_meta *extra, int n_extra, const struct progress *progress,
                      struct train_report *report, struct err *e)
{
    const size_t k = (size_t)pool->n_classes;
    struct imageset view = *pool; /* its images; labels and answers of its own */
    struct train_config config = o->config;
    size_t n = 0;
    float *answers = NULL;
    uint32_t *item = choose(pool, o->n_queries, config.seed, &n, e);
    bool ok = false;
    view.label = NULL;
    view.soft = NULL;
    view.taught = (uint8_t *)o->taught; /* only read */
    if (!item)
        goto out;
    view.label = mem_array(pool->n, sizeof *view.label, "the answers", e);
    view.soft = view.label ? mem_array(pool->n, k * sizeof *view.soft, "the answers", e) : NULL;
    answers = view.soft ? mem_array(n, k * sizeof *answers, "the answers", e) : NULL;
    if (!answers || !extraction_box_ask(box, pool, item, n, answers, progress, e))
        goto out;
    for (size_t i = 0; i < pool->n; i++)
        view.label[i] = IMAGESET_NO_LABEL;
    for (size_t i = 0; i < n; i++) {
        float *q = view.soft + (size_t)item[i] * k;
        memcpy(q, answers + i * k, k * sizeof *q);
        extraction_expose(&o->exposure, q, (int)k);
        view.label[item[i]] = (int16_t)extraction_label(q, (int)k);
    }
    config.labels_per_class = 0;
    config.calibrate_share = 0; /* answers are calibrated as far as the victim is */
    config.still_share = 0;
    ok = train_run(&view, &config, path, o->resume, extra, n_extra, progress, report, e);
out:
    free(item);
    free(answers);
    free(view.label);
    free(view.soft);
    return ok;
}

struct extraction_score extraction_score(const float *copy, const float *victim, const int16_t *truth,
                                         size_t n, int n_classes)
{
    struct extraction_score s = {.n = n};
    size_t same = 0, right = 0;
    for (size_t i = 0; i < n; i++) {
        const int label = extraction_label(copy + i * (size_t)n_classes, n_classes);
        same += label == extraction_label(victim + i * (size_t)n_classes, n_classes);
        s.n_known += truth[i] != IMAGESET_NO_LABEL;
        right += truth[i] != IMAGESET_NO_LABEL && truth[i] == label;
    }
    s.fidelity = n > 0 ? (double)same / (double)n : NAN;
    s.accuracy = s.n_known > 0 ? (double)right / (double)s.n_known : NAN;
    return s;
}
