/* SPDX-License-Identifier: Apache-2.0
 *
 * train_fixture.h - what the tests of the methods share: a small set of drawn images, short runs on one
 * thread, the digest of what a run wrote, runs broken after every step, and central differences of a loss.
 * Functions are inline so that a test may leave some unused. */
#ifndef AM_TRAIN_FIXTURE_H
#define AM_TRAIN_FIXTURE_H

#include "models/base/file.h"
#include "models/base/rng.h"
#include "models/learn/train.h"

#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

enum { TX_SIDE = 16 };

static inline void tx_near(double got, double want, double tolerance)
{
    if (!(fabs(got - want) <= tolerance))
        fail_msg("got %.12g, want %.12g within %g", got, want, tolerance);
}

/* Stripes whose direction is the class (of up to 4), in random colours and phase, under noise. The last
 * n_test of n images are the test split. pair: two dates with masks, stripes on the second only. */
static inline void tx_set(struct imageset *set, size_t n, size_t n_test, int n_classes, bool pair)
{
    const struct imageset_layout l = {
        .size = TX_SIDE, .n_dates = pair ? 2 : 1, .n_bands = 3, .has_masks = pair, .use_footprint = pair};
    struct err e;
    memset(set, 0, sizeof *set);
    assert_true(imageset_alloc(set, n, &l, &e));
    set->n_classes = n_classes;
    snprintf(set->source, sizeof set->source, "stripes");
    uint8_t *px = set->px;
    for (size_t i = 0; i < n; i++) {
        struct rng g;
        rng_init(&g, 99, RNG_METHOD, i);
        int k = (int)(i % (size_t)n_classes);
        set->label[i] = (int16_t)k;
        set->id[i] = (int64_t)(500 + i);
        set->block[i] = (int32_t)i;
        set->split[i] = i >= n - n_test ? IMAGESET_TEST : IMAGESET_TRAIN;
        double phase = 6 * rng_uniform(&g), base = 90 + 60 * rng_uniform(&g);
        for (int y = 0; y < TX_SIDE; y++)
            for (int x = 0; x < TX_SIDE; x++) {
                int along = k == 0 ? x : k == 1 ? y : k == 2 ? x + y : x - y;
                for (int d = 0; d < l.n_dates; d++)
                    for (int b = 0; b < 3; b++) {
                        double wave = d == l.n_dates - 1 ? 60 * sin(1.6 * along + phase) : 0;
                        double v = base + wave + 12 * rng_normal(&g);
                        *px++ = (uint8_t)(v < 0 ? 0 : v > 255 ? 255 : v);
                    }
                if (pair) {
                    *px++ = 3;
                    *px++ = x >= 5 && x < 11 && y >= 5 && y < 11 ? 255 : 0;
                }
            }
    }
}

static inline struct train_config tx_config(const char *method, bool plain)
{
    struct train_config c;
    struct err e;
    if (!train_defaults(&c, method, plain, &e))
        fail_msg("%s", e.msg);
    c.preset = "lite3";
    c.labels_per_class = 4;
    c.batch = 4;
    c.steps = 4;
    c.budget_s = 0;
    c.seed = 3;
    return c;
}

static inline void tx_path(char out[64], const char *name)
{
    snprintf(out, 64, "test_method_%ld_%s.safetensors", (long)getpid(), name);
}

/* Trains and leaves nothing but the digest of the tensors. */
static inline struct train_report tx_run(const struct imageset *set, const struct train_config *c,
                                         char digest[65])
{
    struct train_report r = {0};
    struct err e = {0};
    char path[64];
    tx_path(path, "run");
    if (!train_run(set, c, path, false, NULL, 0, NULL, &r, &e))
        fail_msg("%s", e.msg);
    struct checkpoint *file = checkpoint_open(path, &e);
    if (!file)
        fail_msg("%s", e.msg);
    snprintf(digest, 65, "%s", checkpoint_digest(file));
    checkpoint_close(file);
    unlink(path);
    return r;
}

/* Every reported step asks the run to stop; the first step of a run is always reported. */
static volatile sig_atomic_t tx_stop;

static inline void tx_stop_at_once(void *ctx, const char *stage, double done, double total, const char *note)
{
    (void)ctx, (void)stage, (void)done, (void)total, (void)note;
    tx_stop = 1;
}

/* A run stopped and resumed after every step ends in the bits of an unbroken one. */
static inline void tx_check_resume(const struct imageset *set, const struct train_config *c)
{
    char path[64], want[65];
    struct train_report r;
    struct err e = {0};
    const struct progress p = {.report = tx_stop_at_once, .stop = &tx_stop};
    tx_run(set, c, want);
    tx_path(path, "broken");
    for (int64_t done = 1; done <= c->steps; done++) {
        tx_stop = 0;
        bool ok = train_run(set, c, path, done > 1, NULL, 0, &p, &r, &e);
        if (ok != (done == c->steps))
            fail_msg("%s", e.msg);
        assert_int_equal(r.steps, done);
    }
    struct checkpoint *file = checkpoint_open(path, &e);
    assert_non_null(file);
    assert_string_equal(checkpoint_digest(file), want);
    checkpoint_close(file);
    unlink(path);
}

/* A step for calls of hooks without a loop: one labelled stream of n_l items, one unlabelled one of n_u items
 * with `views` views, random logits. */
struct tx_step {
    struct train_config config;
    struct method_step s;
    int16_t label[64], unknown[512];
    float target[4096], logits[4096], dlogits[4096];
    struct method_scalars scalars;
};

static inline void tx_step_set(struct tx_step *f, const char *method, bool plain, int n_classes, int n_l,
                               int n_u, int views, uint64_t seed)
{
    struct rng r;
    struct err e;
    memset(f, 0, sizeof *f);
    if (!train_defaults(&f->config, method, plain, &e))
        fail_msg("%s", e.msg);
    f->s = (struct method_step){.config = &f->config,
                                .step = 10,
                                .n_steps = 20,
                                .n_classes = n_classes,
                                .n_rows = n_l + n_u * views,
                                .target = f->target,
                                .seed = seed};
    f->s.items[0] = n_l;
    f->s.offset[1] = n_l;
    f->s.items[1] = n_u;
    f->s.label[0] = f->label;
    f->s.label[1] = f->unknown;
    assert_true(f->s.n_rows * n_classes <= 4096 && n_l <= 64 && n_u <= 512);
    rng_init(&r, seed, RNG_METHOD, 1);
    for (int i = 0; i < n_l; i++)
        f->label[i] = (int16_t)(i % n_classes);
    for (int i = 0; i < n_u; i++)
        f->unknown[i] = IMAGESET_NO_LABEL;
    for (int i = 0; i < 4096; i++)
        f->logits[i] = (float)(1.5 * rng_normal(&r));
    for (int i = 0; i < f->s.n_rows; i++) { /* soft targets that sum to 1 */
        double sum = 0;
        for (int c = 0; c < n_classes; c++)
            sum += (double)(f->target[i * n_classes + c] = (float)(0.05 + rng_uniform(&r)));
        for (int c = 0; c < n_classes; c++)
            f->target[i * n_classes + c] /= (float)sum;
    }
}

static inline double tx_loss(struct tx_step *f, const char *name, int pass)
{
    struct err e;
    const struct method *m = method_find(name, &e);
    assert_non_null(m);
    memset(f->dlogits, 0, sizeof f->dlogits);
    f->scalars.n = 0;
    f->s.pass = pass;
    return m->loss(&f->s, f->logits, f->dlogits, &f->scalars);
}

/* dlogits of rows first..last-1 of a pass against central differences of the returned loss. */
static inline void tx_check_gradient(struct tx_step *f, const char *name, int pass, int first, int last)
{
    int n_classes = f->s.n_classes;
    float d[4096];
    tx_loss(f, name, pass);
    memcpy(d, f->dlogits, sizeof d);
    bool moves = false;
    for (int i = first * n_classes; i < last * n_classes; i++) {
        float keep = f->logits[i];
        volatile float up = keep + 1e-3f, down = keep - 1e-3f;
        f->logits[i] = up;
        double plus = tx_loss(f, name, pass);
        f->logits[i] = down;
        double minus = tx_loss(f, name, pass);
        f->logits[i] = keep;
        tx_near((double)d[i], (plus - minus) / ((double)up - (double)down), 3e-6 + 1e-4 * fabs((double)d[i]));
        moves = moves || fabs((double)d[i]) > 1e-4;
    }
    assert_true(moves);
}

#endif
