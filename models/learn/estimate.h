/* SPDX-License-Identifier: Apache-2.0
 *
 * estimate.h - how many of N buildings are damaged, from a random sample of them: intervals that hold at the
 * edges. Whole numbers of buildings in, whole numbers out; no floating population.
 *
 * A population of N buildings holds K hits. Of n drawn without replacement x are hits, so x is hypergeometric.
 *
 * exact      All K that the sample does not reject, each side tested at (1 - level) / 2 with full tails:
 *            Clopper & Pearson (Biometrika 26, 1934) carried over to the finite population (Buonaccorsi,
 *            "A note on confidence intervals for proportions in finite populations", The American
 *            Statistician 41, 1987). Covers at least `level` for every N, K and n, hence mostly more. Several
 *            strata: the sum of the strata's bounds, each side at the Sidak level 1 - (1 - a/2)^(1/strata),
 *            which keeps the guarantee and widens with the number of strata.
 *
 * assisted   The model-assisted (difference, prediction-powered) estimate: the model's groups of alike
 *            buildings predict, the sample corrects each group,
 *                total = sum_g N_g f_g + sum_g N_g mean_g(y - f) = sum_g N_g mean_g(y),
 *            (Sarndal, Swensson & Wretman, "Model Assisted Survey Sampling", 1992, 6.3 and 7.6; Angelopoulos
 *            et al., "Prediction-powered inference", Science 382, 2023, with the correction made per stratum
 *            as in Fisch et al., "Stratified prediction-powered inference", 2024). f cancels because it is
 *            constant within a group, so a badly calibrated model costs width, never truth. The interval
 *            inverts a test of each total T: with the shares that make the sample likeliest among those that
 *            sum to T, T stays in when the estimate's mid-p tail (Lancaster, JASA 56, 1961) is above
 *            (1 - level) / 2 on both sides; the tails come from the convolved hypergeometric distributions of
 *            the groups, not from a normal curve. Covers `level` on average, not for every K.
 *
 * Both lie within what the sample leaves possible: at least the hits seen, at most N less the misses seen; and
 * they are 0 to 0 (or N to N) only when every building was graded. */
#ifndef AM_ESTIMATE_H
#define AM_ESTIMATE_H

#include "models/base/err.h"
#include <stddef.h>
#include <stdint.h>

struct estimate {
    double total;     /* buildings; not always whole */
    double low, high; /* whole numbers, low <= total <= high */
};

/* A part of the population in which the sample is a simple random one (a stratum or a group of one). */
struct estimate_cell {
    uint32_t n_population, n_sample, n_hit; /* n_hit <= n_sample <= n_population, n_sample > 0 */
};

enum { ESTIMATE_MAX_CELLS = 512, ESTIMATE_BINS = 200, ESTIMATE_MAX_GROUPS = 5 };

/* P(X <= x) and P(X >= x) for X hypergeometric: n drawn of N with K hits. */
double estimate_lower_tail(uint32_t N, uint32_t K, uint32_t n, uint32_t x);
double estimate_upper_tail(uint32_t N, uint32_t K, uint32_t n, uint32_t x);

/* Clopper-Pearson for a share of an unlimited population: x of n, 0 < n. */
void estimate_binomial(uint32_t n, uint32_t x, double level, double *low, double *high);

/* cell [n_cells], 1..ESTIMATE_MAX_CELLS of them; level in (0, 1). */
void estimate_exact(const struct estimate_cell *cell, int n_cells, double level, struct estimate *out);
bool estimate_assisted(const struct estimate_cell *cell, int n_cells, double level, struct estimate *out,
                       struct err *e);

/* Cuts the score axis into groups of alike buildings: population and sample [ESTIMATE_BINS] count buildings by
 * p(damaged), bin b holding b / ESTIMATE_BINS to (b + 1) / ESTIMATE_BINS. Of all cuts that leave each group at
 * least min_sample graded buildings and its fair share of as many, the one under which the model expects the
 * smallest variance; a further group must take 3 % off it. first_bin [ESTIMATE_MAX_GROUPS]; returns the number
 * of groups, 1 at least. */
int estimate_groups(const uint32_t *population, const uint32_t *sample, uint32_t min_sample, int *first_bin);

/* The first n of a random order of 0..n_population-1 that depends on seed and stratum alone, so that a longer
 * draw of the same seed begins with the shorter one. out [n]. */
bool estimate_draw(uint64_t seed, uint32_t stratum, uint32_t n_population, uint32_t n, uint32_t *out,
                   struct err *e);

/* Smallest sample whose interval is expected to be at most 2 half_width buildings wide: exact, when `share` of
 * the population are hits; assisted, when group g holds share[g] of them (what the model predicts). */
uint32_t estimate_size_exact(uint32_t n_population, double share, double half_width, double level);
bool estimate_size_assisted(const uint32_t *n_population, const double *share, int n_groups,
                            double half_width, double level, uint32_t *n, struct err *e);

#endif
