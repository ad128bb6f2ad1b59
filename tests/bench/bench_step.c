/* SPDX-License-Identifier: Apache-2.0
 *
 * bench_step.c - images a second of a whole training step (forward with batch statistics, backward, SGD with
 * moving average) and of inference, for the three networks that matter; JSON on stdout.
 *
 *   bench_step [--seconds S] [CASE...]
 *
 * S: time spent on each figure, 3 by default; CASE: wrn-28-2, wrn-10-2, lite. Each figure is the median over
 * single calls, at least five, after a warm-up; min and max stand beside it. On a busy machine only cpu_ms
 * with OMP_NUM_THREADS=1 means something: threads that wait for a partner without a CPU count as busy.
 * gflops counts the multiplications and additions of the direct algorithm (Winograd does fewer), a training
 * step as three forward passes less the stem's data gradient. */
#include "models/base/rng.h"
#include "models/kernels/kernels.h"
#include "models/net/net.h"
#include "models/net/optim.h"

#include <cjson/cJSON.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { MAX_CALLS = 2000 };

static const struct bench_case {
    const char *preset;
    int size, c_in, n_classes, batch;
} cases[] = {{"wrn-28-2", 32, 3, 10, 64}, {"wrn-10-2", 64, 6, 2, 32}, {"lite", 64, 7, 2, 112}};

static double now_s(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Multiply-adds of one image's forward pass; *stem receives the first convolution's share. */
static double forward_macs(const struct net_config *c, double *stem)
{
    double pixels = (double)c->size * c->size, total = pixels * 9 * c->c_in * 16;
    *stem = total;
    int in = 16;
    for (int s = 0; s < c->scales; s++)
        for (int r = 0; r < c->repeats; r++) {
            int out = c->filters << s;
            if (s > 0 && r == 0)
                pixels /= 4;
            total += pixels * 9 * ((double)in * out + (double)out * out);
            if (in != out)
                total += pixels * in * out;
            in = out;
        }
    return total + (double)in * c->n_classes;
}

struct times { /* of single calls, in seconds; cpu counts all threads */
    double wall[MAX_CALLS], cpu[MAX_CALLS];
    int n;
};

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static void report(cJSON *out, const char *what, struct times *t, int batch, double flops)
{
    cJSON *o = cJSON_AddObjectToObject(out, what);
    int n = t->n;
    qsort(t->wall, (size_t)n, sizeof *t->wall, by_value);
    qsort(t->cpu, (size_t)n, sizeof *t->cpu, by_value);
    double median = t->wall[n / 2];
    cJSON_AddNumberToObject(o, "images_per_s", batch / median);
    cJSON_AddNumberToObject(o, "ms", 1e3 * median);
    cJSON_AddNumberToObject(o, "ms_min", 1e3 * t->wall[0]);
    cJSON_AddNumberToObject(o, "ms_max", 1e3 * t->wall[n - 1]);
    cJSON_AddNumberToObject(o, "cpu_ms", 1e3 * t->cpu[n / 2]);
    cJSON_AddNumberToObject(o, "gflops", flops * batch / median * 1e-9);
    cJSON_AddNumberToObject(o, "calls", n);
}

struct work {
    struct net *train, *infer;
    struct optim *optim;
    float *x, *dlogits;
    int batch;
};

static void step_train(struct work *w)
{
    net_forward(w->train, w->x, w->batch, NET_BN_BATCH_UPDATE);
    net_backward(w->train, w->x, w->dlogits, w->batch, NET_BN_BATCH_UPDATE, false);
    optim_step(w->optim, 1e-4);
}

static void step_infer(struct work *w)
{
    net_forward(w->infer, w->x, w->batch, NET_BN_RUNNING);
}

static void measure(void (*call)(struct work *), struct work *w, double seconds, struct times *t)
{
    int n = 0;
    call(w);
    call(w);
    for (double start = now_s(CLOCK_MONOTONIC);
         n < MAX_CALLS && (n < 5 || now_s(CLOCK_MONOTONIC) - start < seconds); n++) {
        double wall = now_s(CLOCK_MONOTONIC), cpu = now_s(CLOCK_PROCESS_CPUTIME_ID);
        call(w);
        t->wall[n] = now_s(CLOCK_MONOTONIC) - wall;
        t->cpu[n] = now_s(CLOCK_PROCESS_CPUTIME_ID) - cpu;
    }
    t->n = n;
}

static bool run_case(const struct bench_case *b, double seconds, cJSON *list, struct err *e)
{
    static const struct optim_config sgd = {.kind = OPTIM_SGD,
                                            .nesterov = true,
                                            .lr = 0.03f,
                                            .momentum = 0.9f,
                                            .weight_decay = 5e-4f,
                                            .ema_decay = 0.999f};
    static struct times times;
    struct net_config c = {.size = b->size, .c_in = b->c_in, .n_classes = b->n_classes};
    struct work w = {.batch = b->batch};
    size_t floats = (size_t)b->batch * b->size * b->size * b->c_in;
    double stem, macs;
    bool ok = net_config_preset(&c, b->preset, e);
    w.x = malloc(floats * sizeof *w.x);
    w.dlogits = malloc((size_t)b->batch * b->n_classes * sizeof *w.dlogits);
    if (ok && w.x && w.dlogits)
        w.train = net_create(&c, b->batch, NET_TRAIN, e);
    if (w.train)
        w.infer = net_create(&c, b->batch, NET_INFER, e);
    if (w.infer)
        w.optim = optim_create(w.train, &sgd, e);
    ok = w.optim != NULL;
    if (ok) {
        struct rng r;
        rng_init(&r, 1, RNG_SCENE, 0);
        for (size_t i = 0; i < floats; i++)
            w.x[i] = (float)rng_normal(&r);
        for (int i = 0; i < b->batch * b->n_classes; i++)
            w.dlogits[i] = (float)rng_normal(&r) / (float)b->batch;
        net_init(w.infer, 1);
        net_init(w.train, 1);
        macs = forward_macs(&c, &stem);
        cJSON *o = cJSON_CreateObject();
        cJSON_AddItemToArray(list, o);
        cJSON_AddStringToObject(o, "net", b->preset);
        cJSON_AddNumberToObject(o, "size", b->size);
        cJSON_AddNumberToObject(o, "channels", b->c_in);
        cJSON_AddNumberToObject(o, "batch", b->batch);
        cJSON_AddNumberToObject(o, "parameters", (double)net_count_params(&c));
        cJSON_AddNumberToObject(o, "forward_mmac", macs * 1e-6);
        cJSON_AddNumberToObject(o, "train_mib_per_image",
                                (double)net_arena_bytes(w.train) / 1048576 / b->batch);
        cJSON_AddNumberToObject(o, "infer_mib_per_image",
                                (double)net_arena_bytes(w.infer) / 1048576 / b->batch);
        measure(step_train, &w, seconds, &times);
        report(o, "train", &times, b->batch, 2 * (3 * macs - stem));
        measure(step_infer, &w, seconds, &times);
        report(o, "infer", &times, b->batch, 2 * macs);
    }
    optim_free(w.optim);
    net_free(w.infer);
    net_free(w.train);
    free(w.x);
    free(w.dlogits);
    return ok;
}

static bool wanted(const char *name, int argc, char **argv, int from)
{
    for (int i = from; i < argc; i++)
        if (strcmp(argv[i], name) == 0)
            return true;
    return from >= argc;
}

int main(int argc, char **argv)
{
    double seconds = 3;
    int from = 1;
    struct err e = {0};
    if (argc > 2 && strcmp(argv[1], "--seconds") == 0) {
        char *end;
        seconds = strtod(argv[2], &end);
        if (*end || !(seconds >= 0 && seconds <= 3600)) {
            fprintf(stderr, "bench_step: --seconds takes a number from 0 to 3600\n");
            return 2;
        }
        from = 3;
    }
    bool ok = kernels_init(&e);
    cJSON *root = cJSON_CreateObject(), *list = NULL;
    cJSON_AddStringToObject(root, "kernels", kernels_rung());
    cJSON_AddStringToObject(root, "convolution", kernels_conv_name());
    cJSON_AddNumberToObject(root, "threads", omp_get_max_threads());
    list = cJSON_AddArrayToObject(root, "cases");
    for (size_t i = 0; ok && i < sizeof cases / sizeof *cases; i++)
        if (wanted(cases[i].preset, argc, argv, from))
            ok = run_case(&cases[i], seconds, list, &e);
    char *text = cJSON_Print(root);
    if (ok && text)
        puts(text);
    else
        fprintf(stderr, "bench_step: %s\n", ok ? "not enough memory" : e.msg);
    cJSON_free(text);
    cJSON_Delete(root);
    return ok && text ? 0 : 1;
}
