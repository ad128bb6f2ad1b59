/* SPDX-License-Identifier: Apache-2.0
 * rng.c - Philox 4x32-10 and the distributions declared in rng.h. */
#include "models/base/rng.h"

#include <assert.h>
#include <math.h>

void rng_philox(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4])
{
    uint32_t c0 = counter[0], c1 = counter[1], c2 = counter[2], c3 = counter[3];
    uint32_t k0 = key[0], k1 = key[1];
    for (int round = 0; round < 10; round++) {
        uint64_t p0 = (uint64_t)0xD2511F53u * c0, p1 = (uint64_t)0xCD9E8D57u * c2;
        uint32_t n0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0, n2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c1 = (uint32_t)p1;
        c3 = (uint32_t)p0;
        c0 = n0;
        c2 = n2;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    out[0] = c0;
    out[1] = c1;
    out[2] = c2;
    out[3] = c3;
}

void rng_init(struct rng *r, uint64_t seed, uint32_t stream, uint64_t index)
{
    r->key[0] = (uint32_t)seed;
    r->key[1] = (uint32_t)(seed >> 32);
    r->counter[0] = 0;
    r->counter[1] = stream;
    r->counter[2] = (uint32_t)index;
    r->counter[3] = (uint32_t)(index >> 32);
    r->next = 4;
}

uint32_t rng_u32(struct rng *r)
{
    if (r->next == 4) {
        rng_philox(r->counter, r->key, r->block);
        r->counter[0]++;
        r->next = 0;
    }
    return r->block[r->next++];
}

double rng_uniform(struct rng *r)
{
    return rng_u32(r) * 0x1p-32;
}

uint32_t rng_below(struct rng *r, uint32_t n)
{
    assert(n > 0);
    uint32_t reject = (uint32_t)(-n) % n; /* 2^32 mod n */
    for (;;) {
        uint64_t m = (uint64_t)rng_u32(r) * n;
        if ((uint32_t)m >= reject)
            return (uint32_t)(m >> 32);
    }
}

double rng_normal(struct rng *r)
{
    double u = 1.0 - rng_uniform(r), v = rng_uniform(r); /* u in (0,1] */
    return sqrt(-2.0 * log(u)) * cos(6.283185307179586 * v);
}

/* ln of a Gamma(shape) variate; shapes below 1 go through Gamma(shape+1) * U^(1/shape), which underflows
 * outside logs. */
static double log_gamma_variate(struct rng *r, double shape)
{
    double boost = 0.0;
    assert(shape > 0.0);
    if (shape < 1.0) {
        boost = log(1.0 - rng_uniform(r)) / shape;
        shape += 1.0;
    }
    double d = shape - 1.0 / 3.0, c = 1.0 / sqrt(9.0 * d);
    for (;;) {
        double x = rng_normal(r), v = 1.0 + c * x;
        if (v <= 0.0)
            continue;
        v = v * v * v;
        double u = 1.0 - rng_uniform(r);
        if (log(u) < 0.5 * x * x + d - d * v + d * log(v))
            return log(d * v) + boost;
    }
}

double rng_gamma(struct rng *r, double shape)
{
    return exp(log_gamma_variate(r, shape));
}

double rng_beta(struct rng *r, double a, double b)
{
    double la = log_gamma_variate(r, a), lb = log_gamma_variate(r, b);
    return 1.0 / (1.0 + exp(lb - la));
}

void rng_permutation(struct rng *r, uint32_t *out, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        out[i] = i;
    for (uint32_t i = n; i > 1; i--) {
        uint32_t j = rng_below(r, i), t = out[i - 1];
        out[i - 1] = out[j];
        out[j] = t;
    }
}
