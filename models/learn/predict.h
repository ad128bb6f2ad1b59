/* SPDX-License-Identifier: Apache-2.0
 *
 * predict.h - a trained model as its users see it: load, ask what it is, predict. Inference uses the
 * moving-average weights, their population statistics, the stored temperature, and averages over the square's
 * symmetries when asked.
 *
 * Metadata keys of a model file (all strings): aftermap.format "1", aftermap.sha256, aftermap.version,
 * net.preset, net.size, net.c_in, net.n_classes, net.scales, net.filters, net.repeats, net.bn_eps,
 * layout.n_dates, layout.n_bands, layout.has_masks, layout.use_footprint, layout.use_match, classes ("none,minor,...", the
 * first 64), cut ("2", "0" = all grades, absent for plain sets), gsd_m, size_m, scaling (JSON), train.config
 * (JSON of struct train_config), train.data (digest of ids, labels and splits), train.step, train.steps,
 * train.budget_s, train.loss, seed, source, source.digest, kernels, temperature, calibrated ("0" or "1"),
 * n_labeled, n_calibration, n_unlabeled, created, test_share (plain sets: the share held out); where made-up images
 * taught (train --synthetic): synthetic (their paths), synthetic.digest, .models (their makers), .n, .of_class (JSON:
 * observed and made up, by class). A file with aftermap.kind is another kind of model and no classifier. */
#ifndef AM_PREDICT_H
#define AM_PREDICT_H

#include "models/data/imageset.h"
#include "models/net/net.h"

struct model; /* loaded, immutable, may be shared by threads */
struct model *model_load(const char *path, struct err *e);
void model_free(struct model *m); /* accepts NULL */
const struct net_config *model_net(const struct model *m);
const struct imageset_layout *model_layout(const struct model *m);
const char *model_meta(const struct model *m, const char *key); /* NULL when absent */
const char *model_digest(const struct model *m);
const char *model_class(const struct model *m, int i);
const int64_t *model_labeled_ids(const struct model *m, size_t *n);
double model_temperature(const struct model *m);

/* The colour-statistics baseline fitted on the same labels: class probabilities from a stored image. Always
 * present. */
void model_trivial(const struct model *m, const uint8_t *px, float *probs);

struct predictor; /* buffers of one thread of use */
struct predictor *predictor_create(const struct model *m, int max_batch, int n_views,
                                   struct err *e); /* n_views 1 or 8 */
void predictor_free(struct predictor *p);
/* From here on on 8-bit integers (models/net/net_quant.h), scaled by what the network makes of px
 * [n,size,size,stored], n of any size: give it images like those to come; no labels are needed. Once only.
 * ERR_USAGE where the CPU or the network does not allow it; the predictor then stays as it was. */
bool predictor_quantize(struct predictor *p, const uint8_t *px, int n, struct err *e);
const char *predictor_precision(const struct predictor *p); /* "fp32" or "int8" */
/* The embedding is the mean over the views. px [n,size,size,stored] -> probs [n,n_classes], temperature
 * applied; n <= max_batch. embedding NULL or [n,embedding]. */
void predictor_run(struct predictor *p, const uint8_t *px, int n, float *probs, float *embedding);
/* The same on network inputs (views the caller made), each as it is: no symmetries. x [n,size,size,input
 * channels]. */
void predictor_run_inputs(struct predictor *p, const float *x, int n, float *probs, float *embedding);

#endif
