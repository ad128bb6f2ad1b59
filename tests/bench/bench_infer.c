/* SPDX-License-Identifier: Apache-2.0
 *
 * bench_infer.c - images a second of inference, in fp32 and on 8-bit integers, for the networks that matter;
 * JSON on stdout.
 *
 *   bench_infer [--seconds S] [NET...]
 *
 * S: time spent on each figure, 1 by default; NET: wrn-28-2, wrn-10-2, lite. Each figure is the median over
 * single calls, at least five, after two to warm up. gflops counts the multiplications and additions of the
 * direct algorithm in both precisions; rms is what 8 bits do to the logits of random images, as a share of
 * their spread. */
#include "models/base/rng.h"
#include "models/kernels/int8.h"
#include "models/net/net_quant.h"

#include <cjson/cJSON.h>
#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { MAX_CALLS = 2000, MAX_BATCH = 256 };

static const struct bench_case {
    const char *preset;
    int size, c_in, n_classes;
    double flops; /* of one image: twice the multiply-adds of all convolutions and the dense layer */
} cases[] = {{"wrn-28-2", 32, 3, 10, 428.7e6}, {"wrn-10-2", 64, 6, 2, 359.4e6}, {"lite", 64, 7, 2, 281.8e6}};

static double now_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

struct work {
    struct net *net;
    struct net_quant *quant;
    float *x;
};

static const float *run(struct work *w, int batch, bool is_int8)
{
    return is_int8 ? net_quant_forward(w->quant, w->x, batch)
                   : net_forward(w->net, w->x, batch, NET_BN_RUNNING);
}

static void measure(struct work *w, const struct bench_case *c, int batch, bool is_int8, double seconds,
                    cJSON *list)
{
    static double s[MAX_CALLS];
    int n = 0;
    run(w, batch, is_int8);
    run(w, batch, is_int8);
    for (double start = now_s(); n < MAX_CALLS && (n < 5 || now_s() - start < seconds); n++) {
        double before = now_s();
        run(w, batch, is_int8);
        s[n] = now_s() - before;
    }
    qsort(s, (size_t)n, sizeof *s, by_value);
    cJSON *o = cJSON_CreateObject();
    cJSON_AddItemToArray(list, o);
    cJSON_AddStringToObject(o, "net", c->preset);
    cJSON_AddStringToObject(o, "precision", is_int8 ? "int8" : "fp32");
    cJSON_AddNumberToObject(o, "batch", batch);
    cJSON_AddNumberToObject(o, "images_per_s", batch / s[n / 2]);
    cJSON_AddNumberToObject(o, "ms", 1e3 * s[n / 2]);
    cJSON_AddNumberToObject(o, "ms_min", 1e3 * s[0]);
    cJSON_AddNumberToObject(o, "ms_max", 1e3 * s[n - 1]);
    cJSON_AddNumberToObject(o, "gflops", c->flops * batch / s[n / 2] * 1e-9);
    if (!is_int8)
        return;
    double error = 0, mean = 0, spread = 0;
    int n_logits = batch * c->n_classes;
    float *exact = malloc((size_t)n_logits * sizeof *exact);
    if (!exact)
        return;
    memcpy(exact, run(w, batch, false), (size_t)n_logits * sizeof *exact);
    const float *got = run(w, batch, true);
    for (int i = 0; i < n_logits; i++)
        mean += (double)exact[i] / n_logits;
    for (int i = 0; i < n_logits; i++) {
        error += pow((double)(got[i] - exact[i]), 2);
        spread += pow((double)exact[i] - mean, 2);
    }
    cJSON_AddNumberToObject(o, "rms", sqrt(error / spread));
    free(exact);
}

/* Random weights with the running statistics that one batch leaves. */
static bool fill(struct work *w, const struct net_config *c, struct err *e)
{
    struct net_config moved = *c;
    moved.bn_momentum = 0;
    struct net *trained = net_create(&moved, 32, NET_TRAIN, e);
    if (!trained)
        return false;
    int n;
    const struct net_tensor *from = net_tensors(trained, &n), *to = net_tensors(w->net, NULL);
    net_init(trained, 1);
    net_forward(trained, w->x, 32, NET_BN_BATCH_UPDATE);
    for (int i = 0; i < n; i++)
        memcpy(to[i].value, from[i].value, from[i].count * sizeof *from[i].value);
    net_weights_changed(w->net);
    net_free(trained);
    return true;
}

static bool run_case(const struct bench_case *b, double seconds, cJSON *list, struct err *e)
{
    struct net_config c = {.size = b->size, .c_in = b->c_in, .n_classes = b->n_classes};
    struct work w = {0};
    size_t floats = (size_t)MAX_BATCH * b->size * b->size * b->c_in;
    bool ok = net_config_preset(&c, b->preset, e) && (w.net = net_create(&c, MAX_BATCH, NET_INFER, e));
    w.x = malloc(floats * sizeof *w.x);
    if (ok && w.x) {
        struct rng r;
        rng_init(&r, 1, RNG_SCENE, 0);
        for (size_t i = 0; i < floats; i++)
            w.x[i] = (float)rng_normal(&r);
        ok = fill(&w, &c, e) && (w.quant = net_quant_create(w.net, e));
    } else if (ok)
        ok = err_set(e, ERR_RESOURCE, "not enough memory");
    if (ok) {
        net_quant_observe(w.quant, w.x, 64);
        net_quant_freeze(w.quant);
        for (int batch = 32; batch <= MAX_BATCH; batch *= 8) {
            measure(&w, b, batch, false, seconds, list);
            if (int8_is_fast())
                measure(&w, b, batch, true, seconds, list);
        }
    }
    net_quant_free(w.quant);
    net_free(w.net);
    free(w.x);
    return ok;
}

int main(int argc, char **argv)
{
    double seconds = 1;
    int from = 1;
    struct err e = {0};
    if (argc > 2 && strcmp(argv[1], "--seconds") == 0) {
        char *end;
        seconds = strtod(argv[2], &end);
        if (*end || !(seconds >= 0 && seconds <= 3600)) {
            fprintf(stderr, "bench_infer: --seconds takes a number from 0 to 3600\n");
            return 2;
        }
        from = 3;
    }
    bool ok = kernels_init(&e);
    cJSON *root = cJSON_CreateObject();
    cJSON_AddStringToObject(root, "kernels", kernels_rung());
    cJSON_AddStringToObject(root, "convolution", kernels_conv_name());
    cJSON_AddStringToObject(root, "int8", int8_name());
    cJSON_AddNumberToObject(root, "threads", omp_get_max_threads());
    cJSON *list = cJSON_AddArrayToObject(root, "cases");
    for (size_t i = 0; ok && i < sizeof cases / sizeof *cases; i++) {
        bool wanted = from >= argc;
        for (int k = from; k < argc; k++)
            wanted = wanted || strcmp(argv[k], cases[i].preset) == 0;
        if (wanted)
            ok = run_case(&cases[i], seconds, list, &e);
    }
    char *text = cJSON_Print(root);
    if (ok && text)
        puts(text);
    else
        fprintf(stderr, "bench_infer: %s\n", ok ? "not enough memory" : e.msg);
    cJSON_free(text);
    cJSON_Delete(root);
    return ok && text ? 0 : 1;
}
