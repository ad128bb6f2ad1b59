/* SPDX-License-Identifier: Apache-2.0
 *
 * test_kernels.c - every convolution body on every instruction-set level this CPU has, against the defining
 * sums written out in double below; untouched padding around the outputs; equal bits for 1, 2 and 5 threads;
 * finite differences through a whole batch norm + activation + convolution + batch norm. Prints the relative
 * rms error of each level. */
#include "models/base/rng.h"
#include "models/kernels/kernels.h"

#include <math.h>
#include <omp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { GUARD = 40, N_OUT = 7 };
static const float CANARY = -12345.5f;

/* ---- the definition, in double */

static int out_size(int in, int stride)
{
    return (in + stride - 1) / stride;
}

/* "SAME" of TensorFlow: total = max((out-1)*stride + kernel - in, 0), the smaller half before. */
static int pad_before(int in, int ksize, int stride)
{
    int total = (out_size(in, stride) - 1) * stride + ksize - in;
    return total > 0 ? total / 2 : 0;
}

static size_t n_in(const struct conv_shape *s)
{
    return (size_t)s->n * s->h * s->w * s->c;
}

static size_t n_out(const struct conv_shape *s)
{
    return (size_t)s->n * out_size(s->h, s->stride) * out_size(s->w, s->stride) * s->k;
}

static size_t n_weight(const struct conv_shape *s)
{
    return (size_t)s->ksize * s->ksize * s->c * s->k;
}

/* Calls visit(output pixel, input pixel, tap) for every product of pixels that the convolution contains. */
static void each_tap(const struct conv_shape *s, void (*visit)(void *ctx, size_t out, size_t in, int tap),
                     void *ctx)
{
    int oh = out_size(s->h, s->stride), ow = out_size(s->w, s->stride);
    int top = pad_before(s->h, s->ksize, s->stride), left = pad_before(s->w, s->ksize, s->stride);
    for (int n = 0; n < s->n; n++)
        for (int i = 0; i < oh; i++)
            for (int j = 0; j < ow; j++)
                for (int t = 0; t < s->ksize * s->ksize; t++) {
                    int y = i * s->stride + t / s->ksize - top, x = j * s->stride + t % s->ksize - left;
                    if (y >= 0 && y < s->h && x >= 0 && x < s->w)
                        visit(ctx, ((size_t)n * oh + i) * ow + j, ((size_t)n * s->h + y) * s->w + x, t);
                }
}

struct sums_ctx {
    const struct conv_shape *s;
    const double *act, *w, *g;
    double *y, *dact, *dw;
};

static void add_forward(void *p, size_t out, size_t in, int tap)
{
    struct sums_ctx *q = p;
    int n_c = q->s->c, n_k = q->s->k;
    for (int c = 0; c < n_c; c++)
        for (int k = 0; k < n_k; k++)
            q->y[out * n_k + k] += q->act[in * n_c + c] * q->w[((size_t)tap * n_c + c) * n_k + k];
}

static void add_backward(void *p, size_t out, size_t in, int tap)
{
    struct sums_ctx *q = p;
    int n_c = q->s->c, n_k = q->s->k;
    for (int c = 0; c < n_c; c++)
        for (int k = 0; k < n_k; k++) {
            size_t at = ((size_t)tap * n_c + c) * n_k + k;
            q->dact[in * n_c + c] += q->g[out * n_k + k] * q->w[at];
            q->dw[at] += q->g[out * n_k + k] * q->act[in * n_c + c];
        }
}

/* ---- one case: inputs, what should come out, what came out */

enum {
    F_ACT = 1,
    F_RESIDUAL = 2,
    F_DZ = 4,
    F_ADD = 8,
    F_STORE = 16,
    F_EXTRA = 32,
    F_ACCUMULATE = 64,
    F_DX = 128,
    F_SUMS = 256
};

struct job {
    struct conv_shape s;
    int flags;
    float *x, *scale, *shift, *w, *bias, *residual, *dz, *raw, *a, *b, *c0, *add, *extra, *dw0, *db0;
    double *y, *y_sums, *g, *dw, *db, *dx, *dx_sums;
    /* outputs of the kernels, each with GUARD canaries on both sides */
    float *out_y, *out_g, *out_dw, *out_db, *out_dx;
    double out_y_sums[1024], out_dx_sums[1024];
};

static void *need(void *p)
{
    assert_non_null(p);
    return p;
}

static float *random_floats(struct rng *r, size_t n, double mean, double sd)
{
    float *p = need(malloc((n + 1) * sizeof *p));
    for (size_t i = 0; i < n; i++)
        p[i] = (float)(mean + sd * rng_normal(r));
    return p;
}

static double *widen(const float *p, size_t n)
{
    double *d = need(malloc((n + 1) * sizeof *d));
    for (size_t i = 0; i < n; i++)
        d[i] = p[i];
    return d;
}

static double *zeros(size_t n)
{
    return need(calloc(n + 1, sizeof(double)));
}

static float *guarded(size_t n)
{
    float *p = need(malloc((n + 2 * GUARD) * sizeof *p));
    for (size_t i = 0; i < n + 2 * GUARD; i++)
        p[i] = CANARY;
    return p + GUARD;
}

static void check_guard(const float *p, size_t n)
{
    for (int i = 1; i <= GUARD; i++)
        assert_true(p[-i] == CANARY && p[n + i - 1] == CANARY);
}

static double *activate(const struct job *j, size_t n)
{
    double *act = widen(j->x, n);
    for (size_t i = 0; i < n && j->flags & F_ACT; i++) {
        double z = (double)j->scale[i % j->s.c] * j->x[i] + j->shift[i % j->s.c];
        act[i] = z > 0 ? z : z * (double)CONV_LRELU_SLOPE;
    }
    return act;
}

static void define_forward(struct job *j, double *act, double *w)
{
    const struct conv_shape *s = &j->s;
    j->y = zeros(n_out(s));
    j->y_sums = zeros(2 * s->k);
    struct sums_ctx ctx = {.s = s, .act = act, .w = w, .y = j->y};
    for (size_t i = 0; i < n_out(s); i++)
        j->y[i] = (double)j->bias[i % s->k] + (j->flags & F_RESIDUAL ? j->residual[i] : 0);
    each_tap(s, add_forward, &ctx);
    for (size_t i = 0; i < n_out(s); i++) {
        j->y_sums[i % s->k] += j->y[i];
        j->y_sums[s->k + i % s->k] += j->y[i] * j->y[i];
    }
}

static void define_backward(struct job *j, double *act, double *w)
{
    const struct conv_shape *s = &j->s;
    j->g = zeros(n_out(s));
    j->dw = zeros(n_weight(s));
    j->db = zeros(s->k);
    j->dx = zeros(n_in(s));
    j->dx_sums = zeros(2 * s->c);
    for (size_t i = 0; i < n_out(s); i++) {
        size_t k = i % s->k;
        if (j->flags & F_DZ)
            j->g[i] = (double)j->a[k] * j->dz[i] + (double)j->b[k] * j->raw[i] + j->c0[k];
        if (j->flags & F_ADD)
            j->g[i] += j->add[i];
        j->db[k] += j->g[i];
    }
    struct sums_ctx ctx = {.s = s, .act = act, .w = w, .g = j->g, .dact = j->dx, .dw = j->dw};
    each_tap(s, add_backward, &ctx);
    for (size_t i = 0; i < n_in(s); i++) {
        size_t c = i % s->c;
        if (j->flags & F_EXTRA)
            j->dx[i] += j->extra[i];
        if (j->flags & F_ACT && !((double)j->scale[c] * j->x[i] + j->shift[c] > 0))
            j->dx[i] *= (double)CONV_LRELU_SLOPE;
        j->dx_sums[c] += j->dx[i];
        j->dx_sums[s->c + c] += j->dx[i] * j->x[i];
    }
    for (size_t i = 0; i < n_weight(s) && j->flags & F_ACCUMULATE; i++)
        j->dw[i] += j->dw0[i];
    for (int k = 0; k < s->k && j->flags & F_ACCUMULATE; k++)
        j->db[k] += j->db0[k];
}

static struct job job_make(struct conv_shape s, int flags)
{
    struct job j = {.s = s, .flags = flags};
    struct rng r;
    rng_init(&r, 7, RNG_INIT, (uint64_t)(s.c * 1000 + s.k));
    j.x = random_floats(&r, n_in(&s), 0.2, 1);
    j.scale = random_floats(&r, s.c, 1, 0.3);
    j.shift = random_floats(&r, s.c, 0, 0.5);
    j.w = random_floats(&r, n_weight(&s), 0, 1 / sqrt(s.ksize * s.ksize * s.c));
    j.bias = random_floats(&r, s.k, 0, 0.5);
    j.residual = random_floats(&r, n_out(&s), 0, 1);
    j.dz = random_floats(&r, n_out(&s), 0, 1);
    j.raw = random_floats(&r, n_out(&s), 0, 1);
    j.a = random_floats(&r, s.k, 1, 0.2);
    j.b = random_floats(&r, s.k, 0, 0.2);
    j.c0 = random_floats(&r, s.k, 0, 0.1);
    j.add = random_floats(&r, n_out(&s), 0, 1);
    j.extra = random_floats(&r, n_in(&s), 0, 1);
    j.dw0 = random_floats(&r, n_weight(&s), 0, 1);
    j.db0 = random_floats(&r, s.k, 0, 1);
    double *act = activate(&j, n_in(&s)), *w = widen(j.w, n_weight(&s));
    define_forward(&j, act, w);
    define_backward(&j, act, w);
    free(act);
    free(w);
    j.out_y = guarded(n_out(&s));
    j.out_g = guarded(n_out(&s));
    j.out_dw = guarded(n_weight(&s));
    j.out_db = guarded(s.k);
    j.out_dx = guarded(n_in(&s));
    return j;
}

static void job_free(struct job *j)
{
    void *all[] = {j->x,      j->scale, j->shift, j->w,   j->bias,  j->residual, j->dz,  j->raw,
                   j->a,      j->b,     j->c0,    j->add, j->extra, j->dw0,      j->db0, j->y,
                   j->y_sums, j->g,     j->dw,    j->db,  j->dx,    j->dx_sums};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        free(all[i]);
    float *guards[] = {j->out_y, j->out_g, j->out_dw, j->out_db, j->out_dx};
    for (size_t i = 0; i < sizeof guards / sizeof *guards; i++)
        free(guards[i] - GUARD);
}

/* Runs forward and backward with a scratch planned for a larger batch, as a network does with its last batch.
 */
static void job_run(struct job *j)
{
    const struct conv_shape *s = &j->s;
    struct conv_shape planned = *s;
    planned.n += 3;
    struct err e;
    struct conv_scratch *scratch = need(conv_scratch_create(&planned, 1, true, &e));
    float *prepared = need(aligned_alloc(64, (conv_prepared_size(s) * sizeof(float) + 63) / 64 * 64));
    struct conv_act act = {j->flags & F_ACT ? j->scale : NULL, j->flags & F_ACT ? j->shift : NULL};
    conv_prepare(s, j->w, prepared);

    /* Half the time in place: residual is y, add is store, extra is dx. */
    const bool in_place = s->n % 2 == 0;
    float *residual = in_place ? j->out_y : j->residual,
          *add = in_place && j->flags & F_STORE ? j->out_g : j->add;
    float *extra = in_place ? j->out_dx : j->extra;
    memcpy(j->out_y, j->residual, n_out(s) * sizeof(float));
    memcpy(j->out_g, j->add, n_out(s) * sizeof(float));
    memcpy(j->out_dx, j->extra, n_in(s) * sizeof(float));
    memcpy(j->out_dw, j->dw0, n_weight(s) * sizeof(float));
    memcpy(j->out_db, j->db0, s->k * sizeof(float));
    conv_forward(s, j->x, act, prepared, j->bias, j->flags & F_RESIDUAL ? residual : NULL, j->out_y,
                 j->flags & F_SUMS ? j->out_y_sums : NULL, scratch);
    struct conv_grad g = {.add = j->flags & F_ADD ? add : NULL,
                          .store = j->flags & F_STORE ? j->out_g : NULL};
    if (j->flags & F_DZ) {
        g.dz = j->dz;
        g.raw = j->raw;
        g.a = j->a;
        g.b = j->b;
        g.c0 = j->c0;
    }
    conv_backward(s, &g, j->x, act, j->w, j->out_dw, j->out_db, j->flags & F_ACCUMULATE,
                  j->flags & F_DX ? j->out_dx : NULL, j->flags & F_EXTRA ? extra : NULL, j->out_dx_sums,
                  scratch);
    free(prepared);
    conv_scratch_free(scratch);
}

static double rms(const float *got, const double *want, size_t n)
{
    double diff = 0, size = 0;
    for (size_t i = 0; i < n; i++) {
        diff += (got[i] - want[i]) * (got[i] - want[i]);
        size += want[i] * want[i];
    }
    return sqrt(diff / size);
}

static double rms_double(const double *got, const double *want, size_t n)
{
    double diff = 0, size = 0;
    for (size_t i = 0; i < n; i++) {
        diff += (got[i] - want[i]) * (got[i] - want[i]);
        size += want[i] * want[i];
    }
    return sqrt(diff / size);
}

static const char *const outputs[N_OUT] = {"y", "g", "dw", "dbias", "dx", "sums of y", "sums of dx"};

static void job_check(struct job *j, double worst[N_OUT])
{
    const struct conv_shape *s = &j->s;
    check_guard(j->out_y, n_out(s));
    check_guard(j->out_g, n_out(s));
    check_guard(j->out_dw, n_weight(s));
    check_guard(j->out_db, s->k);
    check_guard(j->out_dx, n_in(s));
    double e[N_OUT] = {0};
    e[0] = rms(j->out_y, j->y, n_out(s));
    if (j->flags & F_STORE)
        e[1] = rms(j->out_g, j->g, n_out(s));
    e[2] = rms(j->out_dw, j->dw, n_weight(s));
    e[3] = rms(j->out_db, j->db, s->k);
    if (j->flags & F_DX)
        e[4] = rms(j->out_dx, j->dx, n_in(s));
    if (j->flags & F_SUMS)
        e[5] = rms_double(j->out_y_sums, j->y_sums, 2 * s->k);
    if (j->flags & F_DX && j->flags & F_ACT)
        e[6] = rms_double(j->out_dx_sums, j->dx_sums, 2 * s->c);
    for (int i = 0; i < N_OUT; i++) {
        if (!(e[i] < (i < 5 ? 6e-6 : 1e-5))) /* sums of dx nearly cancel */
            fail_msg("%s %s: %s is off by %.2e: n %d h %d w %d c %d k %d ksize %d stride %d flags %x",
                     kernels_rung(), kernels_conv_name(), outputs[i], e[i], s->n, s->h, s->w, s->c, s->k,
                     s->ksize, s->stride, j->flags);
        worst[i] = e[i] > worst[i] ? e[i] : worst[i];
    }
}

/* ---- the levels */

static const char *const rung_names[] = {"plain", "baseline", "avx2", "avx512"};
enum { N_RUNGS = sizeof rung_names / sizeof *rung_names };

/* False where this CPU or build lacks the level. */
static bool use_rung(int i, const char *conv)
{
    struct err e;
    setenv("AFTERMAP_KERNELS", rung_names[i], 1);
    setenv("AFTERMAP_CONV", conv, 1);
    return kernels_init(&e);
}

/* Flag sets that between them take every branch of gathers and epilogues. */
static const int flag_sets[] = {
    F_ACT | F_DZ | F_DX | F_SUMS,
    F_ACT | F_RESIDUAL | F_DZ | F_STORE | F_DX | F_SUMS | F_ACCUMULATE,
    F_ACT | F_RESIDUAL | F_DZ | F_ADD | F_STORE | F_EXTRA | F_DX,
    F_ADD | F_DX | F_EXTRA,
    F_ADD | F_STORE | F_ACT | F_EXTRA | F_DX | F_ACCUMULATE,
    F_DZ | F_ADD | F_DX | F_SUMS,
    F_DZ,
};
enum { N_FLAG_SETS = sizeof flag_sets / sizeof *flag_sets };

/* Sizes: Winograd's own, longer than one segment of columns, odd, tiny; channels: one and two vectors, odd
 * numbers of blocks, fewer than a block, no multiple of a block, and enough for the team's way. */
static const struct conv_shape shapes[] = {
    {3, 8, 8, 16, 16, 3, 1},   {2, 16, 12, 16, 32, 3, 1}, {1, 8, 72, 16, 16, 3, 1},  {18, 4, 4, 32, 32, 3, 1},
    {2, 8, 4, 64, 48, 3, 1},   {5, 4, 8, 48, 64, 3, 1},   {3, 12, 8, 32, 48, 3, 1},  {2, 7, 9, 16, 32, 3, 1},
    {3, 5, 6, 32, 16, 3, 1},   {2, 9, 18, 3, 16, 3, 1},   {1, 16, 16, 7, 16, 3, 1},  {2, 6, 5, 20, 32, 3, 1},
    {2, 5, 5, 5, 7, 3, 1},     {2, 8, 8, 16, 32, 3, 2},   {3, 7, 9, 32, 16, 3, 2},   {2, 6, 34, 48, 64, 3, 2},
    {2, 9, 8, 7, 16, 3, 2},    {1, 5, 4, 3, 5, 3, 2},     {2, 8, 6, 16, 32, 1, 1},   {3, 5, 9, 32, 16, 1, 1},
    {2, 16, 16, 16, 32, 1, 2}, {3, 7, 5, 32, 64, 1, 2},   {2, 4, 5, 6, 3, 1, 2},     {1, 3, 3, 9, 16, 1, 1},
    {1, 1, 1, 16, 16, 3, 1},   {1, 1, 2, 16, 16, 3, 2},   {2, 4, 4, 128, 128, 3, 1}, {17, 4, 8, 16, 80, 3, 1},
    {3, 8, 16, 32, 48, 3, 2},  {2, 24, 8, 16, 64, 3, 2},  {5, 16, 40, 48, 32, 3, 2}, {2, 8, 16, 64, 80, 3, 2},
};

static void test_against_definition(void **state)
{
    (void)state;
    double worst[N_RUNGS][2][N_OUT] = {0};
    int n_tried = 0;
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        for (size_t f = 0; f < 4;
             f++) { /* four of the sets each, so that every set meets every kind of shape */
            struct job j = job_make(shapes[i], flag_sets[(i + 2 * f) % N_FLAG_SETS]);
            for (int r = 0; r < N_RUNGS; r++)
                for (int direct = 0; direct < 2; direct++)
                    if (!(r == 0 && direct) && use_rung(r, direct ? "direct" : "winograd")) {
                        job_run(&j);
                        job_check(&j, worst[r][direct]);
                        n_tried++;
                    }
            job_free(&j);
        }
    assert_true(n_tried > 0);
    for (int r = 0; r < N_RUNGS; r++)
        for (int direct = 0; direct < (r ? 2 : 1); direct++)
            print_message("%-8s %-8s worst relative rms: y %.1e g %.1e dw %.1e dbias %.1e dx %.1e\n",
                          rung_names[r], direct ? "direct" : "winograd", worst[r][direct][0],
                          worst[r][direct][1], worst[r][direct][2], worst[r][direct][3], worst[r][direct][4]);
}

/* All outputs of a run in one block. */
static char *job_outputs(const struct job *j, size_t *bytes)
{
    const struct conv_shape *s = &j->s;
    const struct {
        const void *p;
        size_t n;
    } parts[N_OUT] = {{j->out_y, n_out(s) * sizeof(float)},       {j->out_g, n_out(s) * sizeof(float)},
                      {j->out_dw, n_weight(s) * sizeof(float)},   {j->out_db, s->k * sizeof(float)},
                      {j->out_dx, n_in(s) * sizeof(float)},       {j->out_y_sums, 2 * s->k * sizeof(double)},
                      {j->out_dx_sums, 2 * s->c * sizeof(double)}};
    *bytes = 0;
    for (int i = 0; i < N_OUT; i++)
        *bytes += parts[i].n;
    char *all = need(malloc(*bytes)), *at = all;
    for (int i = 0; i < N_OUT; at += parts[i++].n)
        memcpy(at, parts[i].p, parts[i].n);
    return all;
}

static void test_same_bits_for_any_thread_count(void **state)
{
    (void)state;
    /* Solo with many and few shards, team in two passes, direct with and without stride, the stem. */
    static const struct conv_shape cases[] = {{37, 8, 8, 16, 32, 3, 1},  {21, 4, 8, 64, 64, 3, 1},
                                              {17, 8, 8, 16, 272, 3, 1}, {19, 8, 8, 32, 64, 3, 2},
                                              {18, 8, 8, 7, 16, 3, 1},   {17, 8, 8, 16, 32, 1, 2},
                                              {18, 16, 8, 64, 64, 3, 2}};
    const int flags = F_ACT | F_RESIDUAL | F_DZ | F_ADD | F_STORE | F_EXTRA | F_DX | F_SUMS | F_ACCUMULATE;
    const int before = omp_get_max_threads();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct job j = job_make(cases[i], flags);
        for (int r = 0; r < N_RUNGS; r++) {
            double worst[N_OUT] = {0};
            size_t bytes, bytes_more;
            if (!use_rung(r, "winograd"))
                continue;
            omp_set_num_threads(1);
            job_run(&j);
            job_check(&j, worst);
            char *one = job_outputs(&j, &bytes);
            for (int threads = 2; threads <= 5; threads += 3) {
                omp_set_num_threads(threads);
                job_run(&j);
                char *more = job_outputs(&j, &bytes_more);
                assert_memory_equal(one, more, bytes);
                free(more);
            }
            free(one);
        }
        job_free(&j);
    }
    omp_set_num_threads(before);
}

/* ---- the gradient of a strided 1x1 kernel, whole and at the pixels it reads: the same numbers, left by its own
 * backward pass and taken up by the one below */

/* Spreads thin [n,ceil(h/2),ceil(w/2),c] over whole [n,h,w,c]. */
static void spread(const struct conv_shape *s, int c, const float *thin, float *whole)
{
    const int th = (s->h + 1) / 2, tw = (s->w + 1) / 2;
    memset(whole, 0, (size_t)s->n * s->h * s->w * c * sizeof *whole);
    for (int i = 0; i < s->n * th; i++)
        for (int j = 0; j < tw; j++)
            memcpy(whole + (((size_t)(i / th) * s->h + i % th * 2) * s->w + 2 * j) * c,
                   thin + ((size_t)i * tw + j) * c, c * sizeof *whole);
}

static void run_thin(const struct job *j, struct conv_grad g, bool with_act, float *dw, float *dx,
                     double *sums)
{
    struct err e;
    struct conv_scratch *scratch = need(conv_scratch_create(&j->s, 1, true, &e));
    const struct conv_act act = {with_act ? j->scale : NULL, with_act ? j->shift : NULL};
    float db[256];
    conv_backward(&j->s, &g, j->x, act, j->w, dw, db, false, dx, NULL, sums, scratch);
    conv_scratch_free(scratch);
}

static void test_thin_gradients(void **state)
{
    static const struct conv_shape strided[] = {
        {3, 8, 8, 16, 32, 1, 2}, {2, 7, 5, 32, 16, 1, 2}, {2, 4, 5, 6, 3, 1, 2}};
    static const struct conv_shape below[] = {
        {3, 8, 40, 16, 32, 3, 1}, {18, 4, 4, 64, 128, 3, 1}, {3, 7, 5, 16, 32, 3, 1}, {2, 5, 8, 5, 7, 3, 1}};
    double sums[2 * 256], more[2 * 256];
    (void)state;
    for (int r = 0; r < N_RUNGS; r++) {
        if (!use_rung(r, "winograd"))
            continue;
        for (size_t i = 0; i < sizeof strided / sizeof *strided; i++) {
            struct job j = job_make(strided[i], 0);
            const struct conv_shape *s = &j.s;
            size_t thin_floats = (size_t)s->n * ((s->h + 1) / 2) * ((s->w + 1) / 2) * s->c;
            float *thin = guarded(thin_floats), *dw = need(malloc(n_weight(s) * sizeof *dw));
            run_thin(&j, (struct conv_grad){.add = j.add}, false, j.out_dw, j.out_dx, NULL);
            run_thin(&j, (struct conv_grad){.add = j.add, .is_thin = true}, false, dw, thin, NULL);
            check_guard(thin, thin_floats);
            spread(s, s->c, thin, j.extra);
            for (size_t k = 0; k < n_in(s); k++)
                assert_true(j.extra[k] == j.out_dx[k]);
            assert_memory_equal(dw, j.out_dw, n_weight(s) * sizeof *dw);
            free(thin - GUARD);
            free(dw);
            job_free(&j);
        }
        for (size_t i = 0; i < sizeof below / sizeof *below; i++) {
            struct job j = job_make(below[i], 0);
            const struct conv_shape *s = &j.s;
            float *whole = need(malloc(n_out(s) * sizeof *whole)),
                  *dw = need(malloc(n_weight(s) * sizeof *dw));
            float *dx = need(malloc(n_in(s) * sizeof *dx));
            struct conv_grad g = {
                .dz = j.dz, .raw = j.raw, .a = j.a, .b = j.b, .c0 = j.c0, .add = whole, .store = whole};
            spread(s, s->k, j.add, whole);
            run_thin(&j, g, true, dw, dx, sums);
            g.add = NULL;
            g.thin = j.add;
            g.store = j.out_g;
            run_thin(&j, g, true, j.out_dw, j.out_dx, more);
            assert_memory_equal(whole, j.out_g, n_out(s) * sizeof *dw);
            assert_memory_equal(dw, j.out_dw, n_weight(s) * sizeof *dw);
            assert_memory_equal(dx, j.out_dx, n_in(s) * sizeof *dx);
            assert_memory_equal(sums, more, 2 * s->c * sizeof *sums);
            check_guard(j.out_g, n_out(s));
            free(whole);
            free(dw);
            free(dx);
            job_free(&j);
        }
    }
}

/* ---- finite differences. L = sum of r * BN(conv(lrelu(scale*x + shift)) + bias), BN with the batch's own
 * statistics. */

struct chain {
    struct conv_shape s;
    double *x, *w, *bias, *r, *gamma;
    const float *scale, *shift;
};

/* The loss; y, when given, receives the raw outputs, mean and inv the statistics. */
static double chain_loss(const struct chain *p, double *y_out, double *mean, double *inv)
{
    const struct conv_shape *s = &p->s;
    double *act = zeros(n_in(s)), *y = zeros(n_out(s)), loss = 0, m = (double)(n_out(s) / s->k);
    for (size_t i = 0; i < n_in(s); i++) {
        double z = p->scale[i % s->c] * p->x[i] + p->shift[i % s->c];
        act[i] = z > 0 ? z : 0.1 * z;
    }
    for (size_t i = 0; i < n_out(s); i++)
        y[i] = p->bias[i % s->k];
    struct sums_ctx ctx = {.s = s, .act = act, .w = p->w, .y = y};
    each_tap(s, add_forward, &ctx);
    for (int k = 0; k < s->k; k++) {
        double sum = 0, square = 0;
        for (size_t i = k; i < n_out(s); i += s->k)
            sum += y[i];
        for (size_t i = k; i < n_out(s); i += s->k)
            square += (y[i] - sum / m) * (y[i] - sum / m);
        double v = 1 / sqrt(square / m + 1e-3);
        for (size_t i = k; i < n_out(s); i += s->k)
            loss += p->r[i] * p->gamma[k] * (y[i] - sum / m) * v;
        if (mean)
            mean[k] = sum / m;
        if (inv)
            inv[k] = v;
    }
    if (y_out)
        memcpy(y_out, y, n_out(s) * sizeof *y);
    free(act);
    free(y);
    return loss;
}

static double slope(const struct chain *p, double *at)
{
    const double step = 1e-5, kept = *at;
    *at = kept + step;
    double up = chain_loss(p, NULL, NULL, NULL);
    *at = kept - step;
    double down = chain_loss(p, NULL, NULL, NULL);
    *at = kept;
    return (up - down) / (2 * step);
}

/* The kernel's gradient of L, with the coefficients of struct conv_grad as its comment derives them. */
static void chain_backward(const struct chain *p, const struct job *j, float *dw, float *db, float *dx)
{
    const struct conv_shape *s = &p->s;
    double *y = zeros(n_out(s)), *mean = zeros(s->k), *inv = zeros(s->k), m = (double)(n_out(s) / s->k);
    chain_loss(p, y, mean, inv);
    float *raw = need(malloc(n_out(s) * sizeof *raw));
    for (size_t i = 0; i < n_out(s); i++)
        raw[i] = (float)y[i];
    for (int k = 0; k < s->k; k++) {
        double s1 = 0, with_raw = 0;
        for (size_t i = k; i < n_out(s); i += s->k) {
            s1 += p->r[i];
            with_raw += p->r[i] * y[i];
        }
        double s2 = inv[k] * (with_raw - mean[k] * s1), a = p->gamma[k] * inv[k], b = -a * inv[k] * s2 / m;
        j->a[k] = (float)a;
        j->b[k] = (float)b;
        j->c0[k] = (float)(-a * s1 / m - b * mean[k]);
    }
    struct err e;
    struct conv_scratch *scratch = need(conv_scratch_create(s, 1, true, &e));
    struct conv_grad g = {.dz = j->dz, .raw = raw, .a = j->a, .b = j->b, .c0 = j->c0};
    double sums[256];
    conv_backward(s, &g, j->x, (struct conv_act){j->scale, j->shift}, j->w, dw, db, false, dx, NULL, sums,
                  scratch);
    conv_scratch_free(scratch);
    free(raw);
    free(y);
    free(mean);
    free(inv);
}

static void test_finite_differences(void **state)
{
    (void)state;
    static const struct conv_shape cases[] = {{2, 8, 8, 16, 16, 3, 1}, {2, 6, 6, 16, 16, 3, 2}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct job j = job_make(cases[i], 0);
        const struct conv_shape *s = &j.s;
        struct chain p = {
            .s = *s, .x = widen(j.x, n_in(s)), .w = widen(j.w, n_weight(s)), .bias = widen(j.bias, s->k)};
        p.r = widen(j.dz, n_out(s));
        p.gamma = widen(j.a, s->k);
        p.scale = j.scale;
        p.shift = j.shift;
        for (int r = 0; r < N_RUNGS; r++) {
            if (!use_rung(r, "winograd"))
                continue;
            chain_backward(&p, &j, j.out_dw, j.out_db, j.out_dx);
            for (size_t at = 1; at < n_weight(s); at += n_weight(s) / 11)
                assert_true(fabs(slope(&p, &p.w[at]) - j.out_dw[at]) < 2e-4);
            for (size_t at = 2; at < n_in(s); at += n_in(s) / 11) {
                double want = slope(&p, &p.x[at]); /* dx is the gradient before the affine map */
                assert_true(fabs(want - (double)j.scale[at % s->c] * j.out_dx[at]) < 1e-4);
            }
            for (int k = 0; k < s->k; k++) /* a bias below a batch norm moves nothing */
                assert_true(fabs(j.out_db[k]) < 2e-4);
        }
        free(p.x);
        free(p.w);
        free(p.bias);
        free(p.r);
        free(p.gamma);
        job_free(&j);
    }
}

static void test_environment(void **state)
{
    (void)state;
    struct err e;
    setenv("AFTERMAP_CONV", "winograd", 1);
    setenv("AFTERMAP_KERNELS", "sse9", 1);
    assert_false(kernels_init(&e));
    assert_int_equal(e.code, ERR_USAGE);
    assert_non_null(strstr(e.msg, "sse9"));
    setenv("AFTERMAP_KERNELS", "plain", 1);
    assert_true(kernels_init(&e));
    assert_string_equal(kernels_rung(), "plain");
    setenv("AFTERMAP_CONV", "magic", 1);
    assert_false(kernels_init(&e));
    setenv("AFTERMAP_CONV", "direct", 1);
    unsetenv("AFTERMAP_KERNELS");
    assert_true(kernels_init(&e));
    assert_string_equal(kernels_conv_name(), "direct");
    unsetenv("AFTERMAP_CONV");
    assert_true(kernels_init(&e));
#ifdef __x86_64__
    assert_string_not_equal(kernels_rung(), "plain");
    assert_string_equal(kernels_conv_name(), "winograd");
#endif
    const char *advice = kernels_blas_advice();
    print_message("level %s; BLAS: %s\n", kernels_rung(), advice ? advice : "well chosen");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_against_definition), cmocka_unit_test(test_same_bits_for_any_thread_count),
        cmocka_unit_test(test_thin_gradients),     cmocka_unit_test(test_finite_differences),
        cmocka_unit_test(test_environment),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
