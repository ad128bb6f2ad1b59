/* SPDX-License-Identifier: Apache-2.0
 *
 * extraction.h - how much of a model an outsider can rebuild from its answers (Jagielski, Carlini, Berthelot,
 * Kurakin, Papernot: "High Accuracy and High Fidelity Extraction of Neural Networks", USENIX Security 2020).
 * Two attacks, for auditing one's own models:
 *
 *   direct    a two-layer ReLU network O(x) = A1 relu(A0 x + b0) + b1 is recovered from the corners of its
 *             answers, to the precision of double arithmetic (section 5 of the paper; the critical points as in
 *             Carlini, Jagielski, Mironov: "Cryptanalytic Extraction of Neural Network Models", CRYPTO 2020)
 *   learning  a copy of any classifier is trained on answers to a limited number of queries (extraction_learn.h)
 *
 * Direct extraction.
 *   1. Corners. O is linear between the hyperplanes a_i x + b_i = 0. On random lines, intervals are cut until
 *      both end slopes meet in a point that the answers confirm.
 *   2. Jumps. Across a corner the Jacobian jumps by +-alpha_i a_i^T: its first singular pair gives the row (up
 *      to sign and scale) and the unit's weights above. Three more points of the plane must confirm it.
 *   3. Least squares on [relu(z_i), x, 1]: this skip form equals O whatever the signs of rows, for relu(-z) =
 *      relu(z) - z.
 *   4. Signs. A unit of the wrong sign adds -alpha_i a_i^T to the linear part: one more least-squares system,
 *      whose solutions must be 0 or 1. Where they are not, the skip form stays.
 * Every run is bounded in queries and in time, and says so when it ends for that reason.
 *
 * Arrays are row-major: a0 [h,d], a1 [k,h]. Threads: a run belongs to one thread. */
#ifndef AM_EXTRACTION_H
#define AM_EXTRACTION_H

#include "models/base/err.h"
#include "models/base/progress.h"
#include <stdint.h>

/* Whatever answers: x [d] -> y [k]. The same x must give the same bits. */
struct extraction_oracle {
    int d, k;
    bool (*answer)(void *ctx, const double *x, double *y, struct err *e);
    void *ctx;
};

struct extraction_options {
    int h; /* units that are known to be there; 0: unknown, ends after 15 lines without a new one */
    int64_t max_queries; /* > 0 */
    double max_seconds;  /* > 0 */
    /* Answers differ from the exact ones by up to quantum * max(floor, largest answer). 0: double precision. */
    double quantum, floor;
    uint64_t seed;
};

/* What was recovered: O(x) = top relu(row x + bias) + linear x + constant. */
struct extraction_copy {
    int d, k, m;                                  /* m units */
    double *row, *bias, *top, *linear, *constant; /* [m,d] of length 1, [m], [k,m], [k,d], [k] */
    bool is_signed;                  /* true: linear is zero, the copy is a two-layer network itself */
    double residual;                 /* largest miss at the answers of the last solve */
    int64_t n_queries;               /* that were asked, also when the run failed */
    int n_lines, n_found, n_refused; /* lines searched, units found, corners that did not prove to be one */
    double seconds;
};

/* False: ERR_RESOURCE when queries or time ran out, ERR_INPUT when the answers are not those of a two-layer
 * ReLU network, ERR_INTERRUPTED. The counters of `copy` are filled in any case; free it in any case. */
bool extraction_run(const struct extraction_oracle *oracle, const struct extraction_options *o,
                    struct extraction_copy *copy, const struct progress *progress, struct err *e);
void extraction_copy_free(struct extraction_copy *copy); /* accepts a zeroed record */
void extraction_copy_answer(const struct extraction_copy *copy, const double *x, double *y);
/* The copy as JSON, atomically: {"kind", "activation", "a0", "b0", "a1", "b1", "linear"?}. */
bool extraction_copy_write(const struct extraction_copy *copy, const char *path, struct err *e);

/* ---- victims of one's own ---- */

/* A two-layer network. */
struct extraction_net {
    int d, h, k;
    double *a0, *b0, *a1, *b1;
};

/* Weights N(0, 1/inputs of the layer), biases N(0, 1/4). */
bool extraction_net_random(struct extraction_net *net, int d, int h, int k, uint64_t seed, struct err *e);
/* {"activation": "relu", "a0": [[..]], "b0": [..], "a1": [[..]], "b1": [..]}. ERR_INPUT where the file says another
 * activation or shapes do not fit. */
bool extraction_net_read(struct extraction_net *net, const char *path, struct err *e);
void extraction_net_free(struct extraction_net *net); /* accepts a zeroed record */
void extraction_net_logits(const struct extraction_net *net, const double *x, double *y);

/* How a service passes a network's outputs on. */
struct extraction_service {
    const struct extraction_net *net;
    bool probabilities; /* softmax; the outsider then works with ln p_i - ln p_k, k-1 outputs */
    bool single;        /* float32 */
    int decimals;       /* rounds to so many; < 0: does not round */
    int64_t n_answered; /* by its own count */
    double *scratch;    /* [k] */
};

bool extraction_service_open(struct extraction_service *s, const struct extraction_net *net,
                             bool probabilities, bool single, int decimals, struct err *e);
void extraction_service_close(struct extraction_service *s);
struct extraction_oracle extraction_service_oracle(struct extraction_service *s);
/* Sets what the attack has to reckon with: quantum and floor. */
void extraction_service_precision(const struct extraction_service *s, struct extraction_options *o);

struct extraction_likeness {
    double max, median; /* largest difference of a logit: over points, and the median of points */
    double agreement;   /* share of points with the same label */
    int n;
};

/* Compares on n fresh points N(0, I). A copy with one output less than the network is one of differences to the
 * last logit. */
bool extraction_compare(const struct extraction_net *net, const struct extraction_copy *copy, int n,
                        uint64_t seed, struct extraction_likeness *out, struct err *e);

#endif
