/* SPDX-License-Identifier: Apache-2.0
 *
 * bench_kernels.c - how fast the convolutions run, layer by layer, for a network's own shapes.
 *
 *   bench_kernels [NET] [BATCH]      NET: lite, lite3, wrn-28-2, wrn-37-2, wrn-10-2; one JSON object on
 * stdout
 *
 * Rates count the flops of the direct sum (a multiply-add is two), so Winograd may pass 100 % of the peak;
 * `share` is rate over the FMA peak measured just before with all threads. Each number is the median of
 * repetitions that together last at least 0.15 s. Layers get what training gives them: the first convolution
 * of a block has no residual and a plain gradient, the second adds the residual and passes the sum of
 * gradients on. "step_ms" adds all layers of the network. */
#include "models/base/mem.h"
#include "models/kernels/kernels.h"

#include <cjson/cJSON.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { MAX_LAYERS = 128, REPEATS = 64 };

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* ---- the peak: independent multiply-adds in registers, at the width of the level in use */

#define PEAK(name, lanes, attribute)                                                                         \
    attribute __attribute__((noinline)) static float name(int n)                                             \
    {                                                                                                        \
        typedef float v __attribute__((vector_size(lanes * 4)));                                             \
        v a = {0}, b = a + 11, c = a + 2, d = a + 3, e = a + 4, f = a + 5, g = a + 6, h = a + 7, i = a + 8,  \
          j = a + 9;                                                                                         \
        v x = a + 0.999f, y = a + 1e-3f;                                                                     \
        for (; n > 0; n--) {                                                                                 \
            a = a * x + y, b = b * x + y, c = c * x + y, d = d * x + y, e = e * x + y;                       \
            f = f * x + y, g = g * x + y, h = h * x + y, i = i * x + y, j = j * x + y;                       \
        }                                                                                                    \
        a += b + c + d + e + f + g + h + i + j;                                                              \
        return a[0];                                                                                         \
    }                                                                                                        \
    enum { name##_flops = 20 * lanes }; /* of one turn */

PEAK(peak_4, 4, )
#ifdef __x86_64__
PEAK(peak_8, 8, __attribute__((target("avx2,fma"))))
PEAK(peak_16, 16, __attribute__((target("avx512f"))))
#endif

/* The best of some goes: the first also starts the threads. */
static double peak_of(float (*turns)(int n), double flops)
{
    enum { TURNS = 4000000, GOES = 20 };
    double best = 0;
    for (int go = 0; go < GOES; go++) {
        int threads = 0;
        float seen = 0;
        double start = now();
#pragma omp parallel reduction(+ : threads, seen)
        {
            seen += turns(TURNS);
            threads++;
        }
        double rate = threads * flops * TURNS / (now() - start) / 1e9;
        best = seen > 0 && rate > best ? rate : best;
    }
    return best;
}

static double peak(void)
{
#ifdef __x86_64__
    if (strcmp(kernels_rung(), "avx512") == 0)
        return peak_of(peak_16, peak_16_flops);
    if (strcmp(kernels_rung(), "avx2") == 0)
        return peak_of(peak_8, peak_8_flops);
#endif
    return peak_of(peak_4, peak_4_flops);
}

/* ---- the layers of a network (models/net/net.h draws the same picture) */

static const struct {
    const char *name;
    int size, c_in, scales, filters, repeats, batch;
} nets[] = {
    {"lite", 64, 7, 4, 16, 2, 112},    {"lite3", 64, 7, 3, 16, 2, 112},   {"wrn-28-2", 32, 3, 3, 32, 4, 64},
    {"wrn-37-2", 64, 6, 4, 32, 4, 64}, {"wrn-10-2", 64, 6, 3, 32, 1, 32},
};

struct layer {
    struct conv_shape s;
    bool is_second; /* of its block */
    int count;      /* equal ones in the network */
    double forward_s, backward_s;
};

static void layer_add(struct layer *layers, int *n, struct conv_shape s, bool is_second)
{
    for (int i = 0; i < *n; i++)
        if (memcmp(&layers[i].s, &s, sizeof s) == 0 && layers[i].is_second == is_second) {
            layers[i].count++;
            return;
        }
    if (*n < MAX_LAYERS)
        layers[(*n)++] = (struct layer){.s = s, .is_second = is_second, .count = 1};
}

static int layers_make(int net, int batch, struct layer *layers)
{
    int n = 0, size = nets[net].size, c = 16;
    layer_add(layers, &n, (struct conv_shape){batch, size, size, nets[net].c_in, c, 3, 1}, false);
    for (int scale = 0; scale < nets[net].scales; scale++)
        for (int block = 0; block < nets[net].repeats; block++) {
            int k = nets[net].filters << scale, stride = scale > 0 && block == 0 ? 2 : 1;
            if (c != k)
                layer_add(layers, &n, (struct conv_shape){batch, size, size, c, k, 1, stride}, false);
            layer_add(layers, &n, (struct conv_shape){batch, size, size, c, k, 3, stride}, false);
            size /= stride;
            c = k;
            layer_add(layers, &n, (struct conv_shape){batch, size, size, c, k, 3, 1}, true);
        }
    return n;
}

/* ---- timing */

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Pieces of an arena, as the network's tensors are: huge pages count. */
static float *filled(struct arena *a, size_t n)
{
    float *p = arena_take(a, n, sizeof *p);
    unsigned state = 12345;
    for (size_t i = 0; p && i < n; i++) {
        state = state * 1664525u + 1013904223u;
        p[i] = (float)(state >> 8) / 8388608.0f - 1.0f;
    }
    return p;
}

struct tensors {
    float *x, *y, *residual, *dz, *dx, *store, *w, *dw, *prepared, *coef;
    double sums[2048];
    struct conv_scratch *scratch;
};

/* The stem and the shortcuts take their input as it is. */
static struct conv_act layer_act(const struct layer *l, const struct tensors *t)
{
    if (l->s.c < 16 || l->s.ksize == 1)
        return (struct conv_act){NULL, NULL};
    return (struct conv_act){t->coef, t->coef + 512};
}

static void run_forward(const struct layer *l, struct tensors *t)
{
    conv_prepare(&l->s, t->w, t->prepared);
    conv_forward(&l->s, t->x, layer_act(l, t), t->prepared, t->coef, l->is_second ? t->residual : NULL, t->y,
                 t->sums, t->scratch);
}

static void run_backward(const struct layer *l, struct tensors *t)
{
    struct conv_grad g = {.dz = t->dz, .raw = t->y, .a = t->coef, .b = t->coef + 512, .c0 = t->coef + 1024};
    if (l->s.ksize == 1)
        g = (struct conv_grad){.add = t->dz};
    if (l->is_second) {
        g.add = t->store;
        g.store = t->store;
    }
    conv_backward(&l->s, &g, t->x, layer_act(l, t), t->w, t->dw, t->coef + 2048, false,
                  l->s.c < 16 ? NULL : t->dx, NULL, t->sums, t->scratch);
}

static double median_time(void (*run)(const struct layer *, struct tensors *), const struct layer *l,
                          struct tensors *t)
{
    double times[REPEATS], total = 0;
    int n = 0;
    run(l, t);
    while (n < 5 || (n < REPEATS && total < 0.15)) {
        double start = now();
        run(l, t);
        times[n] = now() - start;
        total += times[n++];
    }
    qsort(times, n, sizeof *times, compare);
    return times[n / 2];
}

static void tensors_take(const struct conv_shape *s, struct arena *a, struct tensors *t)
{
    size_t in = (size_t)s->n * s->h * s->w * s->c, w = (size_t)s->ksize * s->ksize * s->c * s->k;
    size_t out = (size_t)s->n * (s->h / s->stride) * (s->w / s->stride) * s->k;
    t->x = filled(a, in);
    t->y = filled(a, out);
    t->residual = filled(a, out);
    t->dz = arena_take(a, out,
                       sizeof *t->dz); /* zero: the sum passed on must not run away over the repetitions */
    t->dx = filled(a, in);
    t->store = arena_take(a, out, sizeof *t->store);
    t->w = filled(a, w);
    t->dw = filled(a, w);
    t->prepared = filled(a, conv_prepared_size(s));
    t->coef = filled(a, 4096);
}

static bool layer_time(struct layer *l, struct err *e)
{
    struct arena plan = {0}, arena = {0};
    struct tensors t = {0};
    tensors_take(&l->s, &plan, &t);
    bool ok = arena_open(&arena, plan.used_bytes, e);
    if (ok) {
        tensors_take(&l->s, &arena, &t);
        t.scratch = conv_scratch_create(&l->s, 1, true, e);
        ok = t.scratch;
    }
    if (ok) {
        l->forward_s = median_time(run_forward, l, &t);
        l->backward_s = median_time(run_backward, l, &t);
    }
    conv_scratch_free(t.scratch);
    arena_close(&arena);
    return ok;
}

static void layer_report(const struct layer *l, double peak_gflops, cJSON *list)
{
    const struct conv_shape *s = &l->s;
    double flops = 2.0 * s->n * (s->h / s->stride) * (s->w / s->stride) * s->k * s->c * s->ksize * s->ksize;
    double forward = flops / l->forward_s / 1e9, backward = (s->c < 16 ? 1 : 2) * flops / l->backward_s / 1e9;
    char name[96];
    snprintf(name, sizeof name, "%dx%d/%d %d->%d @%d%s", s->ksize, s->ksize, s->stride, s->c, s->k, s->h,
             l->is_second ? " +res" : "");
    cJSON *o = cJSON_CreateObject();
    cJSON_AddStringToObject(o, "layer", name);
    cJSON_AddNumberToObject(o, "count", l->count);
    cJSON_AddNumberToObject(o, "forward_ms", l->forward_s * 1e3);
    cJSON_AddNumberToObject(o, "forward_gflops", forward);
    cJSON_AddNumberToObject(o, "forward_share", forward / peak_gflops);
    cJSON_AddNumberToObject(o, "backward_ms", l->backward_s * 1e3);
    cJSON_AddNumberToObject(o, "backward_gflops", backward);
    cJSON_AddNumberToObject(o, "backward_share", backward / peak_gflops);
    cJSON_AddItemToArray(list, o);
    fprintf(stderr,
            "%-26s x%d  forward %7.2f ms %6.0f GF/s (%3.0f %%)   backward %7.2f ms %6.0f GF/s (%3.0f %%)\n",
            name, l->count, l->forward_s * 1e3, forward, 100 * forward / peak_gflops, l->backward_s * 1e3,
            backward, 100 * backward / peak_gflops);
}

int main(int argc, char **argv)
{
    struct err e = {ERR_OK, ""};
    const char *want = argc > 1 ? argv[1] : "lite";
    int net = 0, n_nets = sizeof nets / sizeof *nets;
    while (net < n_nets && strcmp(nets[net].name, want) != 0)
        net++;
    if (net == n_nets || !kernels_init(&e)) {
        fprintf(stderr, "bench_kernels: %s\n", net == n_nets ? "unknown network" : e.msg);
        return 2;
    }
    int batch = argc > 2 ? (int)strtol(argv[2], NULL, 10) : nets[net].batch;
    if (batch < 1)
        batch = 1;
    struct layer layers[MAX_LAYERS];
    int n = layers_make(net, batch, layers);
    double top = peak(), forward = 0, backward = 0;
    fprintf(stderr, "%s %s %dx%dx%d batch %d: %s, %s, %d threads, FMA peak %.0f GF/s\n", argv[0], want,
            nets[net].size, nets[net].size, nets[net].c_in, batch, kernels_rung(), kernels_conv_name(),
            omp_get_max_threads(), top);
    cJSON *root = cJSON_CreateObject(), *list = cJSON_CreateArray();
    for (int i = 0; i < n; i++) {
        if (!layer_time(&layers[i], &e)) {
            fprintf(stderr, "bench_kernels: %s\n", e.msg[0] ? e.msg : "out of memory");
            return 5;
        }
        layer_report(&layers[i], top, list);
        forward += layers[i].count * layers[i].forward_s;
        backward += layers[i].count * layers[i].backward_s;
    }
    cJSON_AddStringToObject(root, "network", want);
    cJSON_AddNumberToObject(root, "batch", batch);
    cJSON_AddStringToObject(root, "level", kernels_rung());
    cJSON_AddStringToObject(root, "convolution", kernels_conv_name());
    cJSON_AddNumberToObject(root, "threads", omp_get_max_threads());
    cJSON_AddNumberToObject(root, "peak_gflops", top);
    cJSON_AddNumberToObject(root, "forward_ms", forward * 1e3);
    cJSON_AddNumberToObject(root, "step_ms", (forward + backward) * 1e3);
    cJSON_AddNumberToObject(root, "images_per_s", batch / (forward + backward));
    cJSON_AddItemToObject(root, "layers", list);
    fprintf(stderr, "all convolutions: forward %.1f ms (%.0f images/s), step %.1f ms (%.0f images/s)\n",
            forward * 1e3, batch / forward, (forward + backward) * 1e3, batch / (forward + backward));
    char *text = cJSON_Print(root);
    if (text)
        puts(text);
    free(text);
    cJSON_Delete(root);
    return text ? 0 : 5;
}
