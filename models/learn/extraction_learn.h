/* SPDX-License-Identifier: Apache-2.0
 *
 * extraction_learn.h - copies of a classifier, learnt from its answers (Jagielski et al. 2020, section 4: accuracy and
 * fidelity extraction). The images that were asked about are the labelled set, with the answers as soft labels; all
 * others of the pool are the unlabelled set of a semi-supervised method (MixMatch in the paper), or are left aside by
 * the supervised reference. With every image asked about, the same is distillation (Hinton, Vinyals, Dean 2015).
 *
 * A black box is anything that answers stored images with probabilities. What of an answer reaches the outsider is
 * the service's setting: all of it, so many decimals, or the label alone. */
#ifndef AM_EXTRACTION_LEARN_H
#define AM_EXTRACTION_LEARN_H

#include "models/learn/predict.h"
#include "models/learn/train.h"

/* px [n,size,size,stored], n <= batch -> probs [n,n_classes]. */
struct extraction_box {
    int n_classes, batch;
    bool (*answer)(void *ctx, const uint8_t *px, int n, float *probs, struct err *e);
    void *ctx;
    int64_t n_asked, max_queries; /* images; max_queries 0: no limit */
};

/* A model of one's own as a black box; n_views 1 or 8 (predict.h). NULL on failure. */
struct extraction_box *extraction_box_model(const struct model *m, int n_views, struct err *e);
void extraction_box_free(struct extraction_box *box); /* of extraction_box_model; accepts NULL */

/* Answers for items (indices in the set) -> probs [n,n_classes], counted. ERR_RESOURCE where the box's budget does not
 * reach: then nothing was asked. */
bool extraction_box_ask(struct extraction_box *box, const struct imageset *set, const uint32_t *item,
                        size_t n, float *probs, const struct progress *progress, struct err *e);

/* What a service lets out. */
struct extraction_exposure {
    int decimals;    /* probabilities are rounded to so many; < 0: as they are */
    bool label_only; /* the most likely class and nothing else */
};

/* What an outsider makes of one answer [n_classes]: rounded ones are scaled to sum to 1, a label is certain. In
 * place. */
void extraction_expose(const struct extraction_exposure *x, float *probs, int n_classes);

struct extraction_learn_options {
    size_t n_queries; /* images asked about, drawn by seed from the training split; 0: all of it */
    struct extraction_exposure exposure;
    struct train_config
        config; /* train_defaults() of a method that takes soft labels, with what the caller wants */
    const uint8_t *taught; /* NULL, or [n of the set]: imageset.h */
    bool resume;
};

/* Asks the box, trains a copy on the answers and writes it to path. The pool's own labels are not looked at, its split
 * is kept. ERR_INPUT where the training split has too few images or all answers are one class. */
bool extraction_learn(const struct imageset *pool, struct extraction_box *box,
                      const struct extraction_learn_options *o, const char *path,
                      const struct checkpoint_meta *extra, int n_extra, const struct progress *progress,
                      struct train_report *report, struct err *e);

/* How alike two models' answers are on n items, and how right: [n,n_classes] each; truth [n], IMAGESET_NO_LABEL where
 * unknown. */
struct extraction_score {
    size_t n, n_known;
    double fidelity, accuracy; /* same label as the victim; as the truth (NAN: none is known) */
};
struct extraction_score extraction_score(const float *copy, const float *victim, const int16_t *truth,
                                         size_t n, int n_classes);
int extraction_label(const float *probs, int n_classes); /* the lowest index of equals */

#endif
