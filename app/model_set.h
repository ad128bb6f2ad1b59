/* SPDX-License-Identifier: Apache-2.0
 *
 * model_set.h - a model and images that it reads, for commands that learn from its answers: an event with the model's
 * cut, or a plain set split as in the model's training. */
#ifndef AM_MODEL_SET_H
#define AM_MODEL_SET_H

#include "app/model_meta.h"
#include "models/learn/extraction_learn.h"
#include "models/learn/metrics.h"

struct model_set {
    struct model *model;
    struct imageset set;
    struct event *ev;       /* NULL: a plain set */
    struct model_meta meta; /* of an event */
    char test_share[32];    /* of a plain set */
    int cut;
    uint32_t *test; /* items of the test split */
    size_t n_test;
    int16_t *truth; /* [n_test], IMAGESET_NO_LABEL where unknown */
};

/* ERR_MODEL where model and images do not fit, ERR_INPUT without a test split. Close it whatever the outcome. */
bool model_set_open(struct model_set *m, const char *model, const char *data, size_t max_items, uint64_t seed,
                    const struct progress *progress, struct err *e);
void model_set_close(struct model_set *m);

/* Facts that a model trained on this set's images has to remember (cut, scaling, source, ...); pairs point into m. */
int model_set_facts(const struct model_set *m, struct checkpoint_meta *out);

/* Answers of a model file on the test items -> probs [n_test,n_classes]; *ms_per_image: how long one took. */
bool model_set_predict(const struct model_set *m, const char *path, int n_views, float *probs,
                       double *ms_per_image, const struct progress *progress, struct err *e);

/* AUROC over the test items whose truth is known: of damage for events, macro one-vs-rest otherwise. NAN where it cannot
 * be told. */
bool model_set_auroc(const struct model_set *m, const float *probs, struct metric *out, struct err *e);

#endif
