/* SPDX-License-Identifier: Apache-2.0
 *
 * active.h - which buildings to label next: queries for active learning (MMA: Song, Berthelot, Rostamizadeh,
 * "Combining MixMatch and Active Learning for Better Accuracy with Fewer Labels", 2019; google-research/mma).
 *
 * A strategy is written SCORE[.aug][+SELECTION].
 *
 * Scores are confidences of a prediction, the lowest is asked first: max, diff2 (difference of the two
 * largest), entropy, std; or random. With two classes the first four give the same order.
 *
 * .aug takes the mean prediction over several weak views. (The released code drops this suffix before it
 * looks at it, so that it does nothing there.)
 *
 * Selections: direct (the default), the lowest confidences; kmeans, spread over at most 20 clusters of the
 * pooled embeddings in proportion to their sizes; density, uncertain and typical (mean cosine similarity to
 * the pool); outlier, uncertain and unlike the pool (mean cosine distance, the sign of the released code).
 *
 * A share of each query is drawn uniformly from the whole pool and tagged "validate": these labels keep the
 * estimate of the prior and the test sample unbiased and must never be trained on. Picks keep a distance from
 * each other and from the validate picks, so that one query does not buy the same street ten times; a pool
 * too crowded for it halves the distance until there are enough. Purely random picks know no distance.
 *
 * Same input and seed, same picks, on any thread count. No index is picked twice. */
#ifndef AM_ACTIVE_H
#define AM_ACTIVE_H

#include "models/base/progress.h"
#include "models/base/rng.h"
#include "models/learn/predict.h"

enum active_score { ACTIVE_MAX, ACTIVE_DIFF2, ACTIVE_ENTROPY, ACTIVE_STD, ACTIVE_RANDOM };
enum active_selection { ACTIVE_DIRECT, ACTIVE_KMEANS, ACTIVE_DENSITY, ACTIVE_OUTLIER };

struct active_strategy {
    enum active_score score;
    enum active_selection selection;
    bool augmented;
};

enum { ACTIVE_VIEWS = 4, ACTIVE_CLUSTERS = 20, ACTIVE_TEXT_SIZE = 32 };

/* ERR_USAGE names what can be written. */
bool active_parse(const char *text, struct active_strategy *s, struct err *e);
void active_text(const struct active_strategy *s, char out[ACTIVE_TEXT_SIZE]);

/* Confidence of a prediction p [n_classes]; entropy is the negative entropy in nats, std the population's.
 * ACTIVE_RANDOM has none: 0. */
double active_confidence(enum active_score score, const float *p, int n_classes);

/* Items a cluster gives: round(n size / total) each (half to even); when that makes too few, one more at
 * random among clusters with items left, when too many, one fewer of the largest quota. n <= total. */
void active_quotas(const size_t *size, int n_clusters, size_t n, struct rng *r, size_t *quota);

/* Lloyd's k-means from k-means++ seeds. x [n,d]; cluster [n] receives 0..k-1; k <= n. */
bool active_kmeans(const float *x, size_t n, int d, int k, uint64_t seed, uint64_t index, int *cluster,
                   struct err *e);

/* The pool that may be asked about. */
struct active_pool {
    size_t n;
    const double *confidence; /* [n]; not looked at for ACTIVE_RANDOM */
    const float *embedding;   /* [n,d]; for kmeans, density, outlier */
    int d;
    const double *x, *y; /* [n] metres in any local frame; NULL: no geography, no distances */
};

struct active_options {
    struct active_strategy strategy;
    size_t n;              /* picks wanted; a smaller pool gives fewer */
    double validate_share; /* 0.2; of n, rounded */
    double buffer_m;       /* distance between picks; 0: none */
    uint64_t seed, round;  /* a new round draws anew */
};

struct active_pick {
    size_t index;  /* in the pool */
    double score;  /* what it was ranked by: confidence, or density score; random: 0 */
    int cluster;   /* kmeans: its cluster, else -1 */
    bool validate; /* purely random: never train on it */
    bool filled;   /* kmeans: not of its cluster's quota, which distances had left unfilled */
};

void active_defaults(struct active_options *o);

/* picks [o->n], in an order in which every part of the list holds its share of validate picks. *n_picks =
 * min(n, pool). *buffer_m (may be NULL) receives the distance that was kept. */
bool active_choose(const struct active_pool *pool, const struct active_options *o, struct active_pick *picks,
                   size_t *n_picks, double *buffer_m, struct err *e);

/* Predictions of the averaged weights on items of a set. probs [n,n_classes]; embedding [n,d] or NULL (pooled
 * last features, d = net_embedding_size). augmented: means over ACTIVE_VIEWS weak views drawn by (seed,
 * round, item), else the plain image. */
bool active_predict(const struct model *m, const struct imageset *set, const uint32_t *items, size_t n,
                    bool augmented, uint64_t seed, uint64_t round, float *probs, float *embedding,
                    const struct progress *progress, struct err *e);

/* Both together: candidates are indices in the set; x, y [set->n] or NULL. Picks carry indices in candidates.
 */
bool active_query(const struct model *m, const struct imageset *set, const uint32_t *candidates,
                  size_t n_candidates, const double *x, const double *y, const struct active_options *o,
                  struct active_pick *picks, size_t *n_picks, double *buffer_m,
                  const struct progress *progress, struct err *e);

/* k points far from each other (farthest-point traversal from a random start: Gonzalez 1985), for a first set
 * of labels before there is a model. Without x, y a uniform draw. out [k], k <= n. */
bool active_spread(const double *x, const double *y, size_t n, size_t k, uint64_t seed, uint32_t *out,
                   struct err *e);

#endif
