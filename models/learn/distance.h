/* SPDX-License-Identifier: Apache-2.0
 *
 * distance.h - how far made-up images are from real ones. The usual measure needs a network trained elsewhere; these
 * take the activations of a classifier of our own, or pixels, and their numbers compare with none published.
 *
 *   frechet    of Gaussians fitted to both sets of features (FCD): |m1-m2|^2 + tr S1 + tr S2 - 2 tr (S1^1/2 S2
 *              S1^1/2)^1/2. Biased upwards with few rows; distance_frechet_limit takes most of that away
 *   kernel     unbiased squared maximum mean discrepancy, kernel (a.b/d + 1)^3 (KCD): near 0, or a little below, for
 *              equal laws at any number of rows
 *   sliced     root of the mean, over random directions, of the squared Wasserstein distance of projections (SWD)
 *   manifold   precision: share of the made-up inside the real, recall: of the real inside the made-up, where inside
 *              is within the distance that a member has to its third neighbour (Kynkaanniemi et al. 2019)
 *   memory     median, over the made-up, of the distance to the nearest item learnt from over that to the nearest one
 *              not learnt from, out of as many: below 0.9 the maker copies
 *
 * A classifier is blind to what it has learnt to ignore: never show a distance in its features without one of pixels.
 * Rows are [n,d] row-major; sums are double. Same input and seed, same bits, on any number of threads. */
#ifndef AM_DISTANCE_H
#define AM_DISTANCE_H

#include "models/base/err.h"
#include <stddef.h>
#include <stdint.h>

/* Of Gaussians: mean [d], covariance [d,d], symmetric. ERR_RUNTIME: LAPACK did not converge. */
bool distance_frechet_gauss(const double *mean_a, const double *cov_a, const double *mean_b,
                            const double *cov_b, int d, double *out, struct err *e);
/* Of two sets, at least 2 rows each. */
bool distance_frechet(const float *a, size_t n_a, const float *b, size_t n_b, int d, double *out,
                      struct err *e);
/* What the distance would be of endless sets: 2 F(n) - F(n/2), F(n/2) the median over 5 random halves of b. a and b
 * of n rows each. */
bool distance_frechet_limit(const float *a, const float *b, size_t n, int d, uint64_t seed, double *out,
                            struct err *e);

/* Mean and deviation over 20 random subsets of 500 rows (or all, where there are fewer). At least 2 rows each. */
struct distance_kernel {
    double mean, deviation;
};
bool distance_kernel(const float *a, size_t n_a, const float *b, size_t n_b, int d, uint64_t seed,
                     struct distance_kernel *out, struct err *e);

/* As many rows in both. */
bool distance_sliced(const float *a, const float *b, size_t n, int d, int n_directions, uint64_t seed,
                     double *out, struct err *e);
/* The same of images [n,size,size,c] of 8 bit: 7 x 7 patches, 8 an image, of each level of a Laplacian pyramid (2 x 2
 * means, enlarged by repeating), each channel in units of the deviation that it has in a; mean over the levels. */
bool distance_patches(const uint8_t *a, const uint8_t *b, size_t n, int size, int c, uint64_t seed,
                      double *out, struct err *e);

/* More than 3 rows each. */
bool distance_manifold(const float *real, size_t n_real, const float *made, size_t n_made, int d,
                       double *precision, double *recall, struct err *e);
/* n rows learnt from and n not. */
bool distance_memory(const float *made, size_t n_made, const float *learnt, const float *held, size_t n,
                     int d, double *out, struct err *e);

#endif
