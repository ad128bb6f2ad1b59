/* SPDX-License-Identifier: Apache-2.0
 *
 * discovery.h - classes that nobody has named yet, among what a classifier rejects. After Nixon, Liu and Berthelot,
 * "Semi-Supervised Class Discovery", 2020 (arXiv 2002.03480), whose names are kept - Dataset Reconstruction
 * Accuracy, class learnability - and whose definitions were not published: the definitions here are our own.
 *
 * A round
 *   1. Views: two descriptions A and B of every item that know as little of each other as can be had.
 *   2. Reject: distance = smallest class-conditional Mahalanobis distance in A, one shared covariance (Lee et al.
 *      2018); further than the 95th percentile of labelled items kept aside is rejected, as is whatever the
 *      classifier is unsure of.
 *   3. Over-cluster the rejected in A, in coordinates in which the known classes are round: k-means++ with
 *      k = 2 guess + 2, the best of 5 restarts.
 *   4. Merge what a learner in B cannot tell apart: while two candidates have confusion C_ij + C_ji >= 0.3 (rows
 *      normalised, on held-out halves), the worst pair becomes one.
 *   5. Learnability: a learner in B, taught half of a candidate beside the known classes, must find the other half:
 *      F1 >= tau; known classes may lose no more than 0.05 of their accuracy; 30 items at least. Best first, each
 *      beside those accepted before it.
 *   6. Accepted candidates teach with the 70 % nearest to their centre, everything else goes back to the pool.
 *   Until nothing is accepted, too few are rejected, or 5 rounds have passed.
 *
 * Why two views: a cluster is always learnable in the features it was cut from (a structureless blob: F1 0.98), so
 * only a learner that sees something else can tell a class from a cut. Why tau is measured: two views of one image
 * are never independent, so the same cut is made through every known class, which holds no new class, and tau is the
 * 95th percentile of the F1 that these reach, 0.6 at least. It errs towards finding nothing.
 *
 * Why 0.05: with 300 labels kept aside, 0.01 is three of them, and half of true digits was turned away for it (USPS, five
 * classes hidden, three seeds: reconstruction accuracy 0.60 at 0.01, 0.73 at 0.05, k-means 0.68).
 *
 * The learner is the linear discriminant with a shared, shrunk covariance: no steps, no seed, one factorisation.
 * Where networks are learnt anew each round, the caller's views() does that.
 *
 * Known classes are 0..n_known-1, discovered ones follow in the order in which they were accepted.
 * Same input and seed, same result, on any number of threads. Rows and columns: [n,d] row-major. */
#ifndef AM_DISCOVERY_H
#define AM_DISCOVERY_H

#include "models/base/err.h"
#include "models/base/progress.h"
#include "models/data/imageset.h"
#include <stddef.h>
#include <stdint.h>

enum {
    DISCOVERY_REJECT = -1,
    DISCOVERY_MAX_CLASSES = 256,
    DISCOVERY_MAX_GUESS = 40,
    DISCOVERY_MIN_KNOWN = 20
};

/* What an item is for. */
enum discovery_role {
    DISCOVERY_TEACH,    /* its label is given and teaches */
    DISCOVERY_VALIDATE, /* its label is given, judges, and never teaches */
    DISCOVERY_POOL,     /* its label is hidden: what is to be sorted */
    DISCOVERY_ASIDE     /* only described and sorted at the end: a test set */
};

struct discovery_options {
    int guess;             /* how many new classes there may be: 5 */
    double quantile;       /* of the validation distances, beyond which an item is rejected: 0.95 */
    double min_confidence; /* an item with less is rejected, too: 0 (none is) */
    double merge;          /* 0.3 */
    double min_f1;         /* tau is never below: 0.6 */
    double max_harm;       /* accuracy that known classes may lose: 0.05 */
    size_t min_items;      /* of a class: 30 */
    double core;           /* share of a class that teaches: 0.7 */
    int rounds, restarts;  /* 5, 5 */
    uint64_t seed;
};

/* Where the loop stands, for views(). */
struct discovery_state {
    int round, n_classes;    /* round from 0; classes known and found */
    const int16_t *label;    /* [n] what teaches now; -1: nothing */
    const uint8_t *is_gated; /* [n] 1: rejected last round, not to be learnt from without a label */
};

struct discovery_data {
    size_t n;
    int n_known;
    const int16_t *label;     /* [n] of DISCOVERY_TEACH and DISCOVERY_VALIDATE; not looked at elsewhere */
    const uint8_t *role;      /* [n] enum discovery_role */
    const double *confidence; /* [n] of the classifier, or NULL */
    /* Fills x[0] [n,d[0]] and x[1] [n,d[1]], which the loop frees; called once a round. *is_same: true when they are
     * those of the round before, and nothing was allocated. */
    bool (*views)(void *ctx, const struct discovery_state *s, float *x[2], int d[2], bool *is_same,
                  struct err *e);
    void *ctx;
};

/* A proposal. */
struct discovery_group {
    int round;       /* in which it was accepted, or the last */
    int class_index; /* n_known + j, or -1: not accepted */
    int n_clusters;  /* that were merged into it */
    size_t n;        /* items when it was scored; n_members: at the end */
    size_t n_members;
    double f1, change, tau; /* learnability, change of the known classes' accuracy, what f1 had to reach */
};

enum { DISCOVERY_MAX_GROUPS = DISCOVERY_MAX_CLASSES };

struct discovery_result {
    size_t n;
    int n_known, n_found, n_groups, n_rounds;
    struct discovery_group
        group[DISCOVERY_MAX_GROUPS]; /* accepted ones first, then the last round's others */
    int16_t *assigned;               /* [n] class, or DISCOVERY_REJECT */
    int16_t *closed;                 /* [n] the same of the first round, with nothing found */
    int16_t *member;                 /* [n] group, or -1 */
    float *distance;       /* [n] to the nearest known class in the first round, in units of the threshold */
    float *to_centre;      /* [n] to the centre of the item's group; INFINITY without one */
    uint8_t *was_rejected; /* [n] pool items of the first round */
    size_t n_rejected,
        n_unsure; /* pool items rejected in the first round; of these, for their confidence alone */
    double threshold, null_f1; /* first round: distance; the 95th percentile over the known classes */
    float *x[2];               /* [n,d] the last views, each column of mean 0 and deviation 1 */
    int d[2];
    float *first; /* [n,d_first] the first view A in the coordinates that were clustered */
    int d_first;
};

void discovery_defaults(struct discovery_options *o);

/* ERR_INPUT: fewer than DISCOVERY_MIN_KNOWN teaching or validating items, a class without any, or fewer rejected
 * than min_items; each says what to change. r is to be freed whatever the outcome. */
bool discovery_run(const struct discovery_data *data, const struct discovery_options *o,
                   struct discovery_result *r, const struct progress *p, struct err *e);
void discovery_free(struct discovery_result *r); /* accepts a zeroed record */

/* Roles of labelled items, where nobody decided: role[i] of each item with role DISCOVERY_TEACH becomes
 * DISCOVERY_VALIDATE for `share` of each class, drawn by seed. */
void discovery_keep_aside(const int16_t *label, uint8_t *role, size_t n, double share, uint64_t seed);

/* A view of each image without any network: statistics of the ground outside the footprint (discovery_surround.c).
 * Returns [set->n,*d], the caller's, or NULL. */
float *discovery_surroundings(const struct imageset *set, int *d, struct err *e);

/* ---- the learner (discovery_linear.c) ---- */

/* Linear discriminant: row x -> argmax_c w_c.x + b_c. */
struct discovery_linear {
    int d, n_classes;
    double *w; /* [n_classes,d]; b [n_classes] follows; -inf for a class without rows */
    double *b;
    double *mean; /* [n_classes,d] */
    double *root; /* [d,d] lower Cholesky factor of the shared covariance */
};

/* x [n,d]; label [n], rows of -1 are not looked at. The covariance is (1 - s) S + s tr(S)/d I with s = max(0.1, d / (d + rows)).
 * Natural priors. Freed by the caller whatever the outcome. */
bool discovery_linear_fit(struct discovery_linear *l, const float *x, size_t n, int d, const int16_t *label,
                          int n_classes, struct err *e);
void discovery_linear_free(struct discovery_linear *l); /* accepts a zeroed record */
/* score [n_classes]: log posterior up to a constant. Returns the best class. */
int discovery_linear_score(const struct discovery_linear *l, const float *x, double *score);
/* y [d] = root^-1 x: distances between such rows are Mahalanobis distances. */
void discovery_linear_whiten(const struct discovery_linear *l, const float *x, double *y);

/* F1 of class c of predictions against labels [n]. 0 when there is none. */
double discovery_f1(const int16_t *label, const int16_t *predicted, size_t n, int c);

/* ---- scores (discovery_score.c) ---- */

/* One-to-one partial map of rows to columns with the largest sum of count [rows,columns] >= 0 (Kuhn 1955, with
 * potentials: Jonker & Volgenant 1987). match [rows] receives a column or -1; rows beyond the number of columns stay
 * unmatched, and so do rows whose match would count nothing. */
bool discovery_match(const size_t *count, int n_rows, int n_columns, int *match, struct err *e);

/* Dataset Reconstruction Accuracy of assigned [n] against truth [n] (classes 0..n_known-1 are known, n_known.. novel;
 * rows with truth -1 are not looked at). A known class is itself; a discovered one counts as the novel class that
 * discovery_match gives it; what is rejected or unmatched is wrong. */
struct discovery_accuracy {
    double dra, known, novel; /* NAN where there are none */
    double lenient;  /* many to one: each discovered class counts as its commonest truth, also a known one */
    double rejected; /* share */
    int n_found, n_novel;
    size_t n;
    int match[DISCOVERY_MAX_CLASSES]; /* [n_found] novel class (n_known..) or -1 */
};
bool discovery_score(const int16_t *assigned, const int16_t *truth, size_t n, int n_known, int n_found,
                     int n_novel, struct discovery_accuracy *a, struct err *e);

/* Cramer's V of two columns of categories 0..; NAN where a column has fewer than two categories. 0 none, 1 full
 * association. */
double discovery_cramers_v(const int *a, int n_a, const int *b, int n_b, size_t n);

/* Linear interpolation between order statistics (type 7 of Hyndman & Fan 1996); sorts x [n], n >= 1. */
double discovery_quantile(double *x, size_t n, double q);

/* What a result is held against on a set whose truth is known. truth [n] as above, every item of it. */
struct discovery_baselines {
    struct discovery_accuracy found; /* the result itself, over the pool */
    struct discovery_accuracy none;  /* nothing discovered: all rejects stay rejects */
    struct discovery_accuracy
        kmeans;               /* the first rejects cut into the true number of novel classes by k-means */
    double supervised;        /* accuracy over the pool of the learner with true labels of as many novel
                                             items a class as a known class has on average; those are left out */
    double second;            /* a fresh learner on the reconstructed pool, on DISCOVERY_ASIDE items,
                                             through the match; NAN without such items */
    double second_supervised; /* the same learner on the pool's true labels */
};
bool discovery_compare(const struct discovery_data *data, const struct discovery_result *r,
                       const int16_t *truth, int n_novel, uint64_t seed, struct discovery_baselines *b,
                       struct err *e);

#endif
