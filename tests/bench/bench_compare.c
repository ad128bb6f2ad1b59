/* SPDX-License-Identifier: Apache-2.0
 *
 * bench_compare.c - the side of compare.py that runs this program's engine: it reads one request a line and
 * answers each with one line of JSON, so that the two programs can take turns in one run.
 *
 *   times WORK... SECONDS CALLS   {"s":[...]}: seconds of single calls, at least CALLS and at least SECONDS
 *   facts WORK...                 {"parameters":N,"mib_per_image":M}: of a network
 *   about                         {"kernels":...,"int8":...,"threads":N}
 *
 * WORK: train NET SIZE CHANNELS CLASSES BATCH       forward with batch statistics, backward, SGD, average
 *       infer|int8 NET SIZE CHANNELS CLASSES BATCH  forward with running statistics
 *       forward|backward H C K KSIZE STRIDE BATCH   one convolution, channel sums included; prepared weights
 *       fixmatch NET BATCH MU                       whole steps of the training loop on 64x64 pairs, views
 * and all: mean seconds of runs of CALLS steps (SECONDS is unused)
 *
 * A work is made ready at its first request and stays ready; nothing runs between requests. */
#include "models/base/rng.h"
#include "models/kernels/int8.h"
#include "models/kernels/kernels.h"
#include "models/learn/train.h"
#include "models/net/net_quant.h"
#include "models/net/optim.h"

#include <cjson/cJSON.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { MAX_WORKS = 64, MAX_WORDS = 12, MAX_CALLS = 4000, SET_SIZE = 512 };

struct work {
    char name[160];
    bool is_ready;
    void (*call)(struct work *w);
    struct net *net;
    struct optim *optim;
    struct net_quant *quant;
    struct conv_shape shape;
    struct conv_scratch *scratch;
    float *x, *y, *w, *dw, *prepared, *coef, *dx;
    double sums[2 * 1024];
    int batch;
    struct imageset set;
    struct train_config train;
};

static double now_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int number(const char *word)
{
    long v = word ? strtol(word, NULL, 10) : 0;
    return v < 0 || v > 1 << 20 ? 0 : (int)v;
}

static float *normals(size_t n)
{
    float *p = aligned_alloc(64, (n * sizeof *p + 63) / 64 * 64);
    struct rng r;
    rng_init(&r, 1, RNG_SCENE, n);
    for (size_t i = 0; p && i < n; i++)
        p[i] = (float)rng_normal(&r);
    return p;
}

/* ---- networks */

static bool read_net(char **word, struct net_config *c, int *batch, struct err *e)
{
    if (!word[4])
        return err_set(e, ERR_USAGE, "NET SIZE CHANNELS CLASSES BATCH are wanted");
    c->size = number(word[1]);
    c->c_in = number(word[2]);
    c->n_classes = number(word[3]);
    *batch = number(word[4]);
    return net_config_preset(c, word[0], e) && net_config_check(c, e);
}

static void call_train(struct work *w)
{
    net_forward(w->net, w->x, w->batch, NET_BN_BATCH_UPDATE);
    net_backward(w->net, w->x, w->y, w->batch, NET_BN_BATCH_UPDATE, false);
    optim_step(w->optim, 1e-4);
}

static bool open_net(struct work *w, char **word, enum net_mode mode, struct err *e)
{
    struct net_config c = {0};
    if (!read_net(word, &c, &w->batch, e) || !(w->net = net_create(&c, w->batch, mode, e)))
        return false;
    net_init(w->net, 1);
    w->x = normals((size_t)w->batch * (size_t)c.size * (size_t)c.size * (size_t)c.c_in);
    w->y = normals((size_t)w->batch * (size_t)c.n_classes);
    for (int i = 0; w->y && i < w->batch * c.n_classes; i++)
        w->y[i] /= (float)w->batch;
    return (w->x && w->y) || err_set(e, ERR_RESOURCE, "not enough memory");
}

static bool open_train(struct work *w, char **word, struct err *e)
{
    static const struct optim_config sgd = {.kind = OPTIM_SGD,
                                            .nesterov = true,
                                            .lr = 0.03f,
                                            .momentum = 0.9f,
                                            .weight_decay = 5e-4f,
                                            .ema_decay = 0.999f};
    return open_net(w, word, NET_TRAIN, e) && (w->optim = optim_create(w->net, &sgd, e));
}

static void call_infer(struct work *w)
{
    net_forward(w->net, w->x, w->batch, NET_BN_RUNNING);
}

static bool open_infer(struct work *w, char **word, struct err *e)
{
    return open_net(w, word, NET_INFER, e);
}

static void call_int8(struct work *w)
{
    net_quant_forward(w->quant, w->x, w->batch);
}

static bool open_int8(struct work *w, char **word, struct err *e)
{
    if (!open_net(w, word, NET_INFER, e) || !(w->quant = net_quant_create(w->net, e)))
        return false;
    net_quant_observe(w->quant, w->x, w->batch);
    net_quant_freeze(w->quant);
    return true;
}

/* ---- single layers */

static void call_forward(struct work *w)
{
    conv_forward(&w->shape, w->x, (struct conv_act){w->coef, w->coef + 1024}, w->prepared, w->coef, NULL,
                 w->y, w->sums, w->scratch);
}

static void call_backward(struct work *w)
{
    const struct conv_grad g = {.add = w->y};
    conv_backward(&w->shape, &g, w->x, (struct conv_act){NULL, NULL}, w->w, w->dw, w->coef + 2048, false,
                  w->dx, NULL, w->sums, w->scratch);
}

static bool open_layer(struct work *w, char **word, struct err *e)
{
    if (!word[5])
        return err_set(e, ERR_USAGE, "H C K KSIZE STRIDE BATCH are wanted");
    int size = number(word[0]), stride = number(word[4]);
    struct conv_shape s = {.n = number(word[5]),
                           .h = size,
                           .w = size,
                           .c = number(word[1]),
                           .k = number(word[2]),
                           .ksize = number(word[3]),
                           .stride = stride};
    if (s.n < 1 || size < 1 || s.c < 1 || s.c > 1024 || s.k < 1 || s.k > 1024 ||
        (s.ksize != 1 && s.ksize != 3) || (stride != 1 && stride != 2))
        return err_set(e, ERR_USAGE, "no such layer");
    size_t in = (size_t)s.n * size * size * s.c, weights = (size_t)s.ksize * s.ksize * s.c * s.k;
    w->shape = s;
    w->x = normals(in);
    w->dx = normals(in);
    w->y = normals((size_t)s.n * (size / stride) * (size / stride) * s.k);
    w->w = normals(weights);
    w->dw = normals(weights);
    w->prepared = normals(conv_prepared_size(&s));
    w->coef = normals(4096);
    if (!w->x || !w->dx || !w->y || !w->w || !w->dw || !w->prepared || !w->coef)
        return err_set(e, ERR_RESOURCE, "not enough memory");
    conv_prepare(&s, w->w, w->prepared);
    return (w->scratch = conv_scratch_create(&s, 1, true, e));
}

/* ---- FixMatch through the program's own loop */

static bool open_fixmatch(struct work *w, char **word, struct err *e)
{
    const struct imageset_layout l = {
        .size = 64, .n_dates = 2, .n_bands = 3, .has_masks = true, .use_footprint = true};
    const size_t pixels = 64 * 64, stored = (size_t)imageset_stored_channels(&l);
    struct rng r;
    if (!word[2] || !imageset_alloc(&w->set, SET_SIZE, &l, e) ||
        !train_defaults(&w->train, "fixmatch", false, e))
        return false;
    w->train.preset = strdup(word[0]);
    w->train.batch = number(word[1]);
    w->train.mu = number(word[2]);
    w->train.budget_s = 0;
    w->train.checkpoint_every_s = 0;
    w->set.n_classes = 2;
    rng_init(&r, 2, RNG_SCENE, 0);
    for (size_t i = 0; i < SET_SIZE; i++) {
        uint8_t *px = w->set.px + i * pixels * stored;
        for (size_t p = 0; p < pixels; p++, px += stored) {
            for (size_t b = 0; b < 6; b++)
                px[b] = (uint8_t)rng_below(&r, 256);
            px[6] = 3;
            px[7] = p % 64 > 20 && p % 64 < 44 && p / 64 > 20 && p / 64 < 44 ? 255 : 0;
        }
        w->set.label[i] = (int16_t)(i % 2);
        w->set.id[i] = (int64_t)i;
        w->set.block[i] = (int32_t)i;
        w->set.split[i] = IMAGESET_TRAIN;
    }
    return true;
}

struct marks { /* what the loop reported: the first time after its first steps, and the last */
    double first_s, first_step, last_s, last_step;
};

static void mark(void *ctx, const char *stage, double done, double total, const char *note)
{
    struct marks *m = ctx;
    (void)total;
    (void)note;
    if (strcmp(stage, "train") != 0 || done < 1)
        return;
    if (m->first_step == 0) {
        m->first_step = done;
        m->first_s = now_s();
    }
    m->last_step = done;
    m->last_s = now_s();
}

static bool time_fixmatch(struct work *w, int calls, double *seconds, struct err *e)
{
    char path[] = "/tmp/bench_compare_XXXXXX";
    struct marks m = {0};
    const struct progress p = {.report = mark, .ctx = &m};
    int fd = mkstemp(path);
    if (fd < 0)
        return err_set(e, ERR_RUNTIME, "/tmp: cannot make a file; make room there");
    close(fd);
    w->train.steps = calls < 3 ? 3 : calls;
    bool ok = train_run(&w->set, &w->train, path, false, NULL, 0, &p, NULL, e);
    unlink(path);
    if (ok && m.last_step <= m.first_step)
        return err_set(e, ERR_RUNTIME, "the loop reported too little; ask for more steps");
    *seconds = ok ? (m.last_s - m.first_s) / (m.last_step - m.first_step) : 0;
    return ok;
}

/* ---- requests */

static const struct kind {
    const char *name;
    bool (*open)(struct work *w, char **word, struct err *e);
    void (*call)(struct work *w);
} kinds[] = {
    {"train", open_train, call_train},       {"infer", open_infer, call_infer},
    {"int8", open_int8, call_int8},          {"forward", open_layer, call_forward},
    {"backward", open_layer, call_backward}, {"fixmatch", open_fixmatch, NULL},
};

/* word: kind and its parameters, n of them. */
static struct work *find(char **word, int n, struct err *e)
{
    static struct work *works[MAX_WORKS];
    static int n_works;
    char name[sizeof works[0]->name] = "";
    size_t used = 0;
    for (int i = 0; i < n; i++)
        used += (size_t)snprintf(name + used, sizeof name - used, "%.20s ", word[i]);
    for (int i = 0; i < n_works; i++)
        if (strcmp(works[i]->name, name) == 0 && works[i]->is_ready)
            return works[i];
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
        if (n < 1 || strcmp(kinds[k].name, word[0]) != 0)
            continue;
        struct work *w = n_works < MAX_WORKS ? calloc(1, sizeof *w) : NULL;
        if (!w) {
            err_set(e, ERR_RESOURCE, "too many works");
            return NULL;
        }
        works[n_works++] = w;
        snprintf(w->name, sizeof w->name, "%s", name);
        w->call = kinds[k].call;
        if (!kinds[k].open(w, word + 1, e))
            return NULL;
        w->is_ready = true;
        for (int i = 0; w->call && i < 2; i++)
            w->call(w);
        return w;
    }
    err_set(e, ERR_USAGE, "no such work");
    return NULL;
}

static cJSON *times(char **word, int n, struct err *e)
{
    static double s[MAX_CALLS];
    int calls = n > 3 ? number(word[n - 1]) : 0, done = 0;
    double seconds = n > 3 ? strtod(word[n - 2], NULL) : 0;
    struct work *w = n > 3 ? find(word, n - 2, e) : NULL;
    if (!w)
        return NULL;
    if (!w->call) {
        if (!time_fixmatch(w, calls, s, e))
            return NULL;
        done = 1;
    } else
        for (double start = now_s(); done < MAX_CALLS && (done < calls || now_s() - start < seconds);
             done++) {
            double before = now_s();
            w->call(w);
            s[done] = now_s() - before;
        }
    cJSON *o = cJSON_CreateObject();
    cJSON_AddItemToObject(o, "s", cJSON_CreateDoubleArray(s, done));
    return o;
}

static cJSON *facts(char **word, int n, struct err *e)
{
    struct work *w = find(word, n, e);
    if (!w || !w->net)
        return NULL;
    cJSON *o = cJSON_CreateObject();
    cJSON_AddNumberToObject(o, "parameters", (double)net_trainable_count(w->net));
    cJSON_AddNumberToObject(o, "mib_per_image", (double)net_arena_bytes(w->net) / 1048576 / w->batch);
    return o;
}

static cJSON *about(void)
{
    cJSON *o = cJSON_CreateObject();
    cJSON_AddStringToObject(o, "version", AM_VERSION);
    cJSON_AddStringToObject(o, "kernels", kernels_rung());
    cJSON_AddStringToObject(o, "convolution", kernels_conv_name());
    cJSON_AddStringToObject(o, "int8", int8_name());
    cJSON_AddNumberToObject(o, "threads", omp_get_max_threads());
    return o;
}

int main(void)
{
    struct err e = {0};
    char line[512];
    if (!kernels_init(&e)) {
        fprintf(stderr, "bench_compare: %s\n", e.msg);
        return 2;
    }
    while (fgets(line, sizeof line, stdin)) {
        char *word[MAX_WORDS + 1] = {NULL}, *rest = line;
        int n = 0;
        for (char *w; n < MAX_WORDS && (w = strsep(&rest, " \n"));)
            if (*w)
                word[n++] = w;
        cJSON *answer = NULL;
        err_set(&e, ERR_USAGE, "times, facts or about");
        if (n && strcmp(word[0], "times") == 0)
            answer = times(word + 1, n - 1, &e);
        else if (n && strcmp(word[0], "facts") == 0)
            answer = facts(word + 1, n - 1, &e);
        else if (n && strcmp(word[0], "about") == 0)
            answer = about();
        if (!answer) {
            answer = cJSON_CreateObject();
            cJSON_AddStringToObject(answer, "error", e.msg);
        }
        char *text = cJSON_PrintUnformatted(answer);
        cJSON_Delete(answer);
        if (!text || puts(text) < 0 || fflush(stdout) != 0)
            return 1;
        cJSON_free(text);
    }
    return 0;
}
