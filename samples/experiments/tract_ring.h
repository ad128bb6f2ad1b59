/* SPDX-License-Identifier: Apache-2.0
 *
 * tract_ring.h - a ring of eight Gaussians as data for diffusion (radius 0.75, deviation 0.04), learnt by a
 * perceptron of three layers; how far one jump of a student lands from where the teacher's many steps end, from
 * the same noise; and how far its points lie from fresh data (sliced Wasserstein distance, 200 directions).
 * Shared by the experiment tract_ring.c and by a quick test. Any error ends the program with its sentence. */
#ifndef AM_TRACT_RING_H
#define AM_TRACT_RING_H

#include "models/learn/tract.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { RING_MODES = 8, RING_DIRECTIONS = 200 };

struct ring {
    int hidden, batch, n_judged; /* units a layer; points that figures are taken from */
    uint64_t teacher_updates, distil_updates, seed;
    double lr;
};

static void ring_stop(const struct err *e)
{
    fprintf(stderr, "%s\n", e->msg);
    exit(1);
}

static void ring_draw(void *ctx, uint64_t seed, uint64_t index, float *x, int *label)
{
    (void)ctx;
    struct rng r;
    rng_init(&r, seed, RNG_SHUFFLE, index);
    const double turn = 2 * 3.14159265358979323846 * rng_below(&r, RING_MODES) / RING_MODES;
    x[0] = (float)(0.75 * cos(turn) + 0.04 * rng_normal(&r));
    x[1] = (float)(0.75 * sin(turn) + 0.04 * rng_normal(&r));
    *label = -1;
}

static struct tract_config ring_config(const struct ring *ring, enum tract_method method)
{
    struct tract_config c;
    tract_config_defaults(&c, method);
    c.net = (struct unet_config){
        .kind = UNET_POINTS, .size = 1, .c_in = 2, .c_out = 2, .base = ring->hidden, .n_blocks = 3};
    c.n_steps = 64;
    c.batch = ring->batch;
    c.lr = ring->lr;
    c.cap = 1000;
    c.seed = ring->seed;
    c.n_updates = method == TRACT_TEACHER ? ring->teacher_updates : ring->distil_updates;
    return c;
}

/* Trains to the end; the evaluation average, freed by the caller. teacher NULL: a teacher. */
static float *ring_train(const struct ring *ring, enum tract_method method, const char *plan,
                         const float *teacher)
{
    struct err e = {0};
    struct tract_config c = ring_config(ring, method);
    const struct tract_data data = {ring_draw, NULL};
    if (plan && !tract_plan_parse(&c, plan, &e))
        ring_stop(&e);
    struct tract_run *r = tract_create(&c, teacher, &e);
    if (!r || !tract_train(r, &data, 0, NULL, &e))
        ring_stop(&e);
    const size_t size = unet_count(&c.net) * sizeof(float);
    float *w = malloc(size);
    memcpy(w, tract_average_weights(r), size);
    tract_free(r);
    return w;
}

/* n_judged points [n,2] in n_calls calls, always from the same noise. Caller frees. */
static double *ring_points(const struct ring *ring, const float *weights, int n_calls)
{
    struct err e = {0};
    struct tract_denoiser d;
    const struct tract_config c = ring_config(ring, TRACT_TEACHER);
    double *x = malloc((size_t)ring->n_judged * 2 * sizeof *x);
    if (!tract_denoiser_open(&d, &c.net, c.n_steps, 256, weights, &e) ||
        !tract_generate(&d, n_calls, true, 4711 + ring->seed, 0, ring->n_judged, NULL, x, NULL, &e))
        ring_stop(&e);
    tract_denoiser_close(&d);
    return x;
}

static double *ring_data(const struct ring *ring, uint64_t first)
{
    double *x = malloc((size_t)ring->n_judged * 2 * sizeof *x);
    for (int i = 0; i < ring->n_judged; i++) {
        float p[2];
        int label;
        ring_draw(NULL, 1000003 + ring->seed, first + (uint64_t)i, p, &label);
        x[2 * i] = (double)p[0];
        x[2 * i + 1] = (double)p[1];
    }
    return x;
}

static double ring_rmse(const struct ring *ring, const double *a, const double *b)
{
    double s = 0;
    for (int i = 0; i < 2 * ring->n_judged; i++)
        s += (a[i] - b[i]) * (a[i] - b[i]);
    return sqrt(s / (2.0 * ring->n_judged));
}

static int ring_order(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double ring_swd(const struct ring *ring, const double *a, const double *b)
{
    const int n = ring->n_judged;
    double *u = malloc((size_t)n * sizeof *u), *v = malloc((size_t)n * sizeof *v), sum = 0;
    struct rng r;
    rng_init(&r, 99, RNG_METHOD, 0);
    for (int k = 0; k < RING_DIRECTIONS; k++) {
        const double turn = 2 * 3.14159265358979323846 * rng_uniform(&r);
        for (int i = 0; i < n; i++) {
            u[i] = cos(turn) * a[2 * i] + sin(turn) * a[2 * i + 1];
            v[i] = cos(turn) * b[2 * i] + sin(turn) * b[2 * i + 1];
        }
        qsort(u, (size_t)n, sizeof *u, ring_order);
        qsort(v, (size_t)n, sizeof *v, ring_order);
        for (int i = 0; i < n; i++)
            sum += (u[i] - v[i]) * (u[i] - v[i]) / n;
    }
    free(u);
    free(v);
    return sqrt(sum / RING_DIRECTIONS);
}

#endif
