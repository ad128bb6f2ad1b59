/* SPDX-License-Identifier: Apache-2.0
 *
 * kernels.c - which body runs: the ladder of instruction-set levels, the choice made once at start, and the
 * scratch that all bodies share. The contract is in kernels.h, the bodies' side of it in conv.h.
 *
 * The ladder, lowest first. "baseline" is what every x86-64 (SSE2) or arm64 (NEON) has; "avx2" is Haswell
 * 2013 and Zen 2017 (AVX2 + FMA); "avx512" is Skylake-X 2017 and Zen 4 2022 (F, BW, DQ, VL). A rung's own
 * list of bodies is asked in order and ends in the plain one.
 *
 * Threads: kernels_init() writes the choice; call it before other threads use the kernels. */
#include "models/kernels/kernels.h"
#include "models/kernels/conv.h"
#include "models/kernels/int8.h"

#include <assert.h>
#include <cblas.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

static const struct conv_body *const bodies_plain[] = {&conv_plain, NULL};

static bool cpu_any(void)
{
    return true;
}

#ifdef AM_KERNELS_X86
static bool cpu_avx2(void)
{
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}

static bool cpu_avx512(void)
{
    return cpu_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}
#endif

static const struct rung {
    const char *name;
    bool (*supported)(void);
    const struct conv_body *const *bodies;
} rungs[] = {
    {"plain", cpu_any, bodies_plain},
#ifdef AM_KERNELS_FAST
    {"baseline", cpu_any, conv_bodies_baseline},
#endif
#ifdef AM_KERNELS_X86
    {"avx2", cpu_avx2, conv_bodies_avx2},
    {"avx512", cpu_avx512, conv_bodies_avx512},
#endif
};

enum { N_RUNGS = sizeof rungs / sizeof *rungs };

static const struct rung *chosen = &rungs[0];
static bool use_direct;

static bool choose_rung(struct err *e)
{
    const char *want = getenv("AFTERMAP_KERNELS");
    if (want && *want) {
        for (int i = 0; i < N_RUNGS; i++)
            if (strcmp(want, rungs[i].name) == 0) {
                if (!rungs[i].supported())
                    return err_set(e, ERR_USAGE,
                                   "AFTERMAP_KERNELS=%s: this CPU lacks that level; unset the variable",
                                   want);
                chosen = &rungs[i];
                return true;
            }
        return err_set(
            e, ERR_USAGE,
            "AFTERMAP_KERNELS=%s: this build has no such level; use plain, baseline, avx2 or avx512", want);
    }
    for (int i = 0; i < N_RUNGS; i++)
        if (rungs[i].supported())
            chosen = &rungs[i];
    return true;
}

bool kernels_init(struct err *e)
{
#ifdef AM_KERNELS_X86
    __builtin_cpu_init();
#endif
    const char *conv = getenv("AFTERMAP_CONV");
    if (conv && *conv && strcmp(conv, "winograd") != 0 && strcmp(conv, "direct") != 0)
        return err_set(e, ERR_USAGE, "AFTERMAP_CONV=%s: use winograd or direct", conv);
    use_direct = conv && strcmp(conv, "direct") == 0;
    if (!choose_rung(e))
        return false;
    int8_init();
    return true;
}

const char *kernels_rung(void)
{
    return chosen->name;
}

const char *kernels_conv_name(void)
{
    return use_direct || chosen->bodies == bodies_plain ? "direct" : "winograd";
}

const char *kernels_blas_advice(void)
{
#ifdef AM_KERNELS_X86
    const char *core = openblas_get_corename();
    bool old = strcasecmp(core, "Prescott") == 0 || strcasecmp(core, "Core2") == 0 ||
               strcasecmp(core, "Generic") == 0;
    if (old && cpu_avx512())
        return "OpenBLAS took this CPU for one of 2004 and runs far below its speed; set "
               "OPENBLAS_CORETYPE=SkylakeX";
    if (old && cpu_avx2())
        return "OpenBLAS took this CPU for one of 2004 and runs far below its speed; set "
               "OPENBLAS_CORETYPE=Haswell";
#endif
    return NULL;
}

static const struct conv_body *body_for(const struct conv_shape *s)
{
    assert(s->n > 0 && s->h > 0 && s->w > 0 && s->c > 0 && s->k > 0);
    assert(s->c <= CONV_MAX_CHANNELS && s->k <= CONV_MAX_CHANNELS);
    assert((s->ksize == 1 || s->ksize == 3) && (s->stride == 1 || s->stride == 2));
    const struct conv_body *const *b = chosen->bodies;
    while (b[1] && !(b[0]->takes(s) && (!use_direct || strcmp(b[0]->name, "direct") == 0)))
        b++;
    return *b;
}

struct conv_scratch *conv_scratch_create(const struct conv_shape *shapes, int n_shapes, bool backward,
                                         struct err *e)
{
    struct conv_scratch *s = mem_array(1, sizeof *s, "the convolution scratch", e);
    if (!s)
        return NULL;
    s->n_threads = omp_get_max_threads();
    for (int i = 0; i < n_shapes; i++) {
        const struct conv_shape *p = &shapes[i];
        struct conv_need need = body_for(p)->need(p, backward);
        if (need.thread_floats > s->thread_floats)
            s->thread_floats = need.thread_floats;
        if (need.shared_floats > s->shared_floats)
            s->shared_floats = need.shared_floats;
        if ((size_t)p->c > s->channels)
            s->channels = p->c;
        if ((size_t)p->k > s->channels)
            s->channels = p->k;
    }
    s->thread_floats =
        (s->thread_floats + 15) / 16 * 16 + 16; /* whole cache lines, and no power of two between threads */
    struct arena plan = {0};
    for (int pass = 0; pass < 2; pass++) {
        struct arena *a = pass ? &s->arena : &plan;
        if (pass && !arena_open(a, plan.used_bytes, e)) {
            err_prefix(e, "convolution scratch");
            free(s);
            return NULL;
        }
        s->threads = arena_take(a, (size_t)s->n_threads * s->thread_floats, sizeof *s->threads);
        s->shared = arena_take(a, s->shared_floats, sizeof *s->shared);
        s->sums = arena_take(a, CONV_SHARDS * 3 * s->channels, sizeof *s->sums);
        s->lanes = backward ? NULL : arena_take(a, (size_t)s->n_threads, sizeof *s->lanes);
        for (int i = 0; !backward && i < s->n_threads; i++) {
            struct conv_scratch lane = {
                .n_threads = 1, .thread_floats = s->thread_floats, .channels = s->channels};
            lane.sums = arena_take(a, CONV_SHARDS * 3 * s->channels, sizeof *s->sums);
            if (pass) {
                lane.threads = conv_thread_buffer(s, i);
                s->lanes[i] = lane;
            }
        }
    }
    return s;
}

int conv_scratch_lanes(const struct conv_scratch *s)
{
    return s->lanes ? s->n_threads : 0;
}

struct conv_scratch *conv_scratch_lane(const struct conv_scratch *s, int t)
{
    assert(s->lanes && t >= 0 && t < s->n_threads);
    return &s->lanes[t];
}

void conv_scratch_free(struct conv_scratch *s)
{
    if (s)
        arena_close(&s->arena);
    free(s);
}

size_t conv_scratch_bytes(const struct conv_scratch *s)
{
    return s->arena.size_bytes;
}

int conv_threads(const struct conv_scratch *s)
{
    int n = omp_get_max_threads();
    return n < s->n_threads ? n : s->n_threads;
}

void conv_add_shards(float *out, const float *part, size_t stride, size_t n, int n_shards, bool add_to)
{
#pragma omp parallel for schedule(static)
    for (size_t i = 0; i < n; i++) {
        float v = 0;
        for (int s = 0; s < n_shards; s++)
            v += part[s * stride + i];
        out[i] = add_to ? out[i] + v : v;
    }
}

void conv_add_sums(double *out, const struct conv_scratch *s, int row, int n, int n_shards)
{
    for (int c = 0; c < n; c++) {
        double v = 0;
        for (int i = 0; i < n_shards; i++)
            v += conv_shard_sums(s, i)[row * s->channels + c];
        out[c] = v;
    }
}

void conv_add_bias(float *dbias, const struct conv_scratch *s, int k, int n_shards, bool add_to)
{
    for (int c = 0; c < k; c++) {
        double v = 0;
        for (int i = 0; i < n_shards; i++)
            v += conv_shard_sums(s, i)[2 * s->channels + c];
        dbias[c] = add_to ? dbias[c] + (float)v : (float)v;
    }
}

size_t conv_prepared_size(const struct conv_shape *s)
{
    return body_for(s)->prepared_size(s);
}

void conv_prepare(const struct conv_shape *s, const float *w, float *prepared)
{
    body_for(s)->prepare(s, w, prepared);
}

void conv_forward(const struct conv_shape *s, const float *x, struct conv_act act, const float *prepared,
                  const float *bias, const float *residual, float *y, double *sums,
                  struct conv_scratch *scratch)
{
    assert(!act.scale == !act.shift);
    struct conv_forward_args a = {x, act, prepared, bias, residual, y, sums};
    body_for(s)->forward(s, &a, scratch);
}

void conv_backward(const struct conv_shape *s, const struct conv_grad *g, const float *x, struct conv_act act,
                   const float *w, float *dw, float *dbias, bool accumulate, float *dx, const float *extra,
                   double *sums, struct conv_scratch *scratch)
{
    assert(!act.scale == !act.shift && (g->dz || g->add));
    assert(!g->thin || (g->dz && g->store && !g->add && s->stride == 1 && s->ksize == 3));
    assert(!g->is_thin || (s->ksize == 1 && s->stride == 2 && !act.scale));
    struct conv_backward_args a = {g, x, act, w, dw, dbias, accumulate, dx, extra, sums};
    body_for(s)->backward(s, &a, scratch);
}
