/* SPDX-License-Identifier: Apache-2.0
 *
 * rng.h - counter-based random numbers: Philox 4x32-10 (Salmon, Moraes, Dror, Shaw: "Parallel random numbers:
 * as easy as 1, 2, 3", SC 2011). The value is a pure function of (seed, stream, index, draw), so any thread
 * may compute any item's numbers in any order and a run depends on its seed alone: nothing has to be saved
 * but the step number.
 *
 * `stream` names the purpose (enum rng_stream), `index` the item, e.g. step * batch + row. */
#ifndef AM_RNG_H
#define AM_RNG_H

#include <stdint.h>

enum rng_stream {
    RNG_INIT = 1,  /* weights */
    RNG_LABELS,    /* which items are labelled */
    RNG_SPLIT,     /* train / test */
    RNG_SHUFFLE,   /* order of items in a pool */
    RNG_WEAK,      /* weak augmentation */
    RNG_STRONG,    /* strong augmentation */
    RNG_MIXUP,     /* MixUp coefficients and partners */
    RNG_BOOTSTRAP, /* confidence intervals */
    RNG_QUERY,     /* active learning */
    RNG_METHOD,    /* whatever else a method draws */
    RNG_STILL,     /* which undamaged items become pairs of one date */
    RNG_VALIDATE,  /* the blind random sample that totals are estimated from */
    RNG_SCENE = 64 /* the scene maker; later numbers are its own */
};

struct rng {
    uint32_t key[2], counter[4], block[4];
    unsigned next; /* next unused word of block; 4 = empty */
};

void rng_init(struct rng *r, uint64_t seed, uint32_t stream, uint64_t index);
uint32_t rng_u32(struct rng *r);
double rng_uniform(struct rng *r);             /* [0,1), 32 bits of resolution */
uint32_t rng_below(struct rng *r, uint32_t n); /* uniform on 0..n-1, unbiased; n > 0 */
double rng_normal(struct rng *r);              /* mean 0, sd 1 (Box-Muller, one value per two uniforms) */
double rng_gamma(struct rng *r, double shape); /* scale 1 (Marsaglia-Tsang 2000); shape > 0 */
double rng_beta(struct rng *r, double a, double b); /* safe for small a, b: computed in logs */

/* Fisher-Yates permutation of 0..n-1 into out. */
void rng_permutation(struct rng *r, uint32_t *out, uint32_t n);

/* The raw block function, for the known-answer test of Random123 (kat_vectors, philox4x32 10). */
void rng_philox(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4]);

#endif
