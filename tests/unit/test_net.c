/* SPDX-License-Identifier: Apache-2.0
 *
 * test_net.c - what net.h promises beside gradients: published parameter counts, the table of tensors,
 * initial weights, padding, batch-norm bookkeeping, accumulation, equal bits on any thread count, inference
 * equal to training's evaluation mode. */
#include "models/base/mem.h"
#include "models/base/rng.h"
#include "models/net/net.h"
#include "models/net/optim.h"

#include <math.h>
#include <omp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct net_config config(int size, int c_in, int n_classes, int scales, int filters, int repeats)
{
    return (struct net_config){size, c_in, n_classes, scales, filters, repeats, 1e-3f, 0.999f};
}

static struct net *open_net(struct net_config c, int batch, enum net_mode mode, uint64_t seed)
{
    struct err e = {0};
    struct net *net = net_create(&c, batch, mode, &e);
    if (!net)
        fail_msg("%s", e.msg);
    net_init(net, seed);
    return net;
}

static const struct net_tensor *find(const struct net *net, const char *name)
{
    int n;
    const struct net_tensor *t = net_tensors(net, &n);
    for (int i = 0; i < n; i++)
        if (strcmp(t[i].name, name) == 0)
            return &t[i];
    fail_msg("no tensor %s", name);
    return NULL;
}

static size_t count_values(const struct net *net)
{
    int n;
    size_t total = 0;
    const struct net_tensor *t = net_tensors(net, &n);
    for (int i = 0; i < n; i++)
        total += t[i].count;
    return total;
}

static float *noise(size_t n, uint64_t seed)
{
    float *x = calloc(n, sizeof *x);
    struct rng r;
    assert_non_null(x);
    rng_init(&r, seed, RNG_SCENE, 0);
    for (size_t i = 0; i < n; i++)
        x[i] = (float)rng_normal(&r);
    return x;
}

/* Section 1.3's table, from the released code's own counts. */
static void test_counts(void **state)
{
    static const struct {
        int c_in, n_classes, scales, filters, repeats;
        size_t count;
    } known[] = {{3, 10, 3, 32, 4, 1469642},   {3, 10, 4, 32, 4, 5933770}, {6, 2, 4, 32, 4, 5932146},
                 {6, 2, 4, 16, 2, 701618},     {6, 2, 3, 16, 2, 175538},   {3, 100, 3, 128, 4, 23409092},
                 {3, 100, 3, 135, 4, 26033980}};
    (void)state;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        struct net_config c = config(64, known[i].c_in, known[i].n_classes, known[i].scales, known[i].filters,
                                     known[i].repeats);
        assert_int_equal(net_count_params(&c), known[i].count);
    }
    struct net_config c = config(32, 3, 10, 3, 32, 4);
    struct net *net = open_net(c, 1, NET_INFER, 1);
    assert_int_equal(net_trainable_count(net), 1469642);
    assert_int_equal(net_embedding_size(&c), 128);
    assert_true(net_arena_bytes(net) > 2 * 1469642 * sizeof(float));
    net_free(net);
}

static void test_presets(void **state)
{
    static const struct {
        const char *name;
        size_t count;
    } known[] = {{"wrn-28-2", 1469642}, {"wrn-37-2", 5933770}};
    struct net_config c = config(64, 3, 10, 0, 0, 0);
    struct err e = {0};
    (void)state;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        assert_true(net_config_preset(&c, known[i].name, &e));
        assert_int_equal(net_count_params(&c), known[i].count);
        assert_true(c.bn_eps == 1e-3f && c.bn_momentum == 0.999f);
    }
    c.c_in = 6;
    c.n_classes = 2;
    assert_true(net_config_preset(&c, "lite", &e) && net_count_params(&c) == 701618);
    assert_true(net_config_preset(&c, "lite3", &e) && net_count_params(&c) == 175538);
    assert_true(net_config_preset(&c, "wrn-10-2", &e) && c.repeats == 1);
    assert_false(net_config_preset(&c, "wrn-99", &e));
    assert_int_equal(e.code, ERR_USAGE);
    assert_non_null(strstr(e.msg, "wrn-28-2"));
}

static void test_config_refused(void **state)
{
    const struct net_config bad[] = {
        config(63, 3, 2, 4, 16, 2),  config(0, 3, 2, 1, 16, 2),     config(64, 0, 2, 4, 16, 2),
        config(64, 3, 1, 4, 16, 2),  config(64, 3, 2, 0, 16, 2),    config(64, 3, 2, 4, 0, 2),
        config(64, 3, 2, 4, 16, 0),  config(64, 3, 1001, 4, 16, 2), config(64, 3, 2, 7, 16, 2),
        config(64, 3, 2, 6, 512, 2), config(-64, 3, 2, 4, 16, 2),
    };
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct err e = {0};
        assert_false(net_config_check(&bad[i], &e));
        assert_int_equal(e.code, ERR_INPUT);
        assert_null(net_create(&bad[i], 1, NET_TRAIN, &e));
    }
    struct net_config good = config(64, 3, 2, 4, 16, 2);
    struct err e = {0};
    assert_null(net_create(&good, 0, NET_TRAIN, &e));
    assert_null(net_create(&good, 0x7fffffff, NET_TRAIN, &e)); /* planned, found too large, said so */
    assert_int_equal(e.code, ERR_RESOURCE);
}

static void test_table(void **state)
{
    struct net *net = open_net(config(16, 3, 5, 2, 16, 2), 2, NET_TRAIN, 3);
    int n;
    size_t at = 0;
    const struct net_tensor *t = net_tensors(net, &n);
    (void)state;
    for (int i = 0; i < n; i++) {
        bool trainable = t[i].role != NET_RUNNING_MEAN && t[i].role != NET_RUNNING_VAR;
        size_t count = 1;
        for (int d = 0; d < t[i].n_dims; d++)
            count *= (size_t)t[i].dims[d];
        assert_int_equal(t[i].count, count);
        assert_ptr_equal(t[i].value, t[0].value + at);
        assert_int_equal(trainable, at < net_trainable_count(net));
        if (trainable)
            assert_ptr_equal(t[i].grad, t[0].grad + at);
        else
            assert_null(t[i].grad);
        for (int j = 0; j < i; j++)
            assert_string_not_equal(t[i].name, t[j].name);
        at += count;
    }
    const struct net_tensor *k = find(net, "scale1.block0.conv1.kernel");
    assert_true(k->n_dims == 4 && k->dims[0] == 3 && k->dims[1] == 3 && k->dims[2] == 16 && k->dims[3] == 32);
    k = find(net, "scale1.block0.shortcut.kernel");
    assert_true(k->n_dims == 4 && k->dims[0] == 1 && k->dims[2] == 16 && k->dims[3] == 32);
    k = find(net, "dense.kernel");
    assert_true(k->n_dims == 2 && k->dims[0] == 32 && k->dims[1] == 5);
    net_free(net);
    net = open_net(config(16, 3, 5, 2, 16, 2), 2, NET_INFER, 3);
    assert_null(net_tensors(net, &n)[0].grad);
    net_free(net);
}

static void test_init(void **state)
{
    struct net *a = open_net(config(16, 6, 200, 3, 32, 1), 1, NET_INFER, 42);
    struct net *b = open_net(config(16, 6, 200, 3, 32, 1), 1, NET_TRAIN, 42);
    size_t bytes = count_values(a) * sizeof(float);
    int n;
    const struct net_tensor *t = net_tensors(a, &n);
    (void)state;
    for (int i = 0; i < n; i++) {
        double mean = 0, var = 0, largest = 0, sd = 0;
        for (size_t j = 0; j < t[i].count; j++) {
            double v = (double)t[i].value[j];
            mean += v / (double)t[i].count;
            var += v * v / (double)t[i].count;
            largest = fmax(largest, fabs(v));
        }
        if (t[i].role == NET_KERNEL) {
            bool dense = t[i].n_dims == 2;
            sd = dense ? sqrt(2.0 / (t[i].dims[0] + t[i].dims[1]))
                       : sqrt(2.0 / (t[i].dims[0] * t[i].dims[1] * t[i].dims[3]));
            double slack = 6 / sqrt((double)t[i].count); /* some five standard errors */
            assert_true(fabs(mean) < sd * slack && fabs(sqrt(var) / sd - 1) < slack);
            if (dense)
                assert_true(largest <= 2 / 0.8796256610342398 * sd * 1.000001 && largest > 2 * sd);
            else if (t[i].count > 10000)
                assert_true(largest > 3 * sd);
        } else {
            bool one = t[i].role == NET_GAMMA || t[i].role == NET_RUNNING_VAR;
            assert_true(mean == (one ? 1 : 0) && var == (one ? 1 : 0));
        }
    }
    assert_memory_equal(t[0].value, net_tensors(b, &n)[0].value, bytes);
    net_init(b, 43);
    assert_memory_not_equal(t[0].value, net_tensors(b, &n)[0].value, bytes);
    net_init(b, 42);
    assert_memory_equal(t[0].value, net_tensors(b, &n)[0].value, bytes);
    net_free(a);
    net_free(b);
}

/* Kernels zero, so that every block passes its shortcut; batch norms that change nothing. */
static void make_transparent(struct net *net)
{
    int n;
    const struct net_tensor *t = net_tensors(net, &n);
    for (int i = 0; i < n; i++)
        for (size_t j = 0; j < t[i].count; j++)
            t[i].value[j] = t[i].role == NET_GAMMA         ? 1.0f
                            : t[i].role == NET_RUNNING_VAR ? 1.0f - 1e-3f
                                                           : 0.0f;
}

static void set_tap(struct net *net, const char *name, int tap)
{
    const struct net_tensor *t = find(net, name);
    memset(t->value, 0, t->count * sizeof *t->value);
    t->value[(size_t)tap * t->dims[2] * t->dims[3]] = 1.0f; /* channel 0 to channel 0 */
}

/* TensorFlow pads a strided 3x3 on an even size with nothing before and one pixel after: tap (ky,kx) reads
 * pixel (2y+ky, 2x+kx), which lies outside only at the bottom and right. The embedding is the mean of what
 * the tap read. */
static void test_same_padding(void **state)
{
    struct net *net = open_net(config(8, 1, 2, 2, 16, 1), 1, NET_INFER, 1);
    float x[64];
    (void)state;
    for (int i = 0; i < 64; i++)
        x[i] = (float)(1 + i * i % 37);
    for (int tap = 0; tap < 9; tap++) {
        double want = 0;
        make_transparent(net);
        set_tap(net, "stem.kernel", 4);
        set_tap(net, "scale1.block0.conv1.kernel", tap);
        set_tap(net, "scale1.block0.conv2.kernel", 4);
        net_weights_changed(net);
        net_forward(net, x, 1, NET_BN_RUNNING);
        for (int y = 0; y < 4; y++)
            for (int i = 0; i < 4; i++) {
                int row = 2 * y + tap / 3, column = 2 * i + tap % 3;
                want += row < 8 && column < 8 ? (double)x[row * 8 + column] / 16 : 0;
            }
        assert_true(fabs((double)net_embedding(net)[0] - want) < 1e-4 * want);
    }
    net_free(net);
}

/* The stem copies the image into channel 0, whose statistics are then known. */
static void test_bn_bookkeeping(void **state)
{
    enum { N = 3, SIZE = 8, PIXELS = N * SIZE * SIZE };
    struct net *net = open_net(config(SIZE, 1, 2, 2, 16, 1), N, NET_TRAIN, 1);
    float *x = noise(PIXELS, 9);
    size_t n_trainable = net_trainable_count(net), n_running = count_values(net) - n_trainable;
    int n;
    float *running = net_tensors(net, &n)[0].value + n_trainable, *before = calloc(n_running, sizeof *before);
    double mean = 0, var = 0;
    (void)state;
    assert_non_null(before);
    for (int i = 0; i < PIXELS; i++)
        mean += (double)(x[i] += 0.5f) / PIXELS;
    for (int i = 0; i < PIXELS; i++)
        var += ((double)x[i] - mean) * ((double)x[i] - mean) / PIXELS; /* biased */
    set_tap(net, "stem.kernel", 4);
    net_weights_changed(net);
    memcpy(before, running, n_running * sizeof *before);

    net_forward(net, x, N, NET_BN_BATCH);
    assert_memory_equal(before, running, n_running * sizeof *before);
    net_forward(net, x, N, NET_BN_RUNNING);
    assert_memory_equal(before, running, n_running * sizeof *before);

    const float *rm = find(net, "scale0.block0.bn1.running_mean")->value;
    const float *rv = find(net, "scale0.block0.bn1.running_var")->value;
    double want_mean = 0, want_var = 1;
    for (int step = 0; step < 3; step++) {
        net_forward(net, x, N, NET_BN_BATCH_UPDATE);
        want_mean = 0.999 * want_mean + 0.001 * mean;
        want_var = 0.999 * want_var + 0.001 * var;
        assert_true(fabs((double)rm[0] - want_mean) < 1e-6 && fabs((double)rv[0] - want_var) < 1e-6);
    }
    int moved = 0;
    const struct net_tensor *t = net_tensors(net, &n);
    for (int i = 0; i < n; i++)
        if (t[i].role == NET_RUNNING_VAR)
            moved += t[i].value[0] != 1.0f;
    assert_int_equal(moved, 5); /* two blocks of two and the last one: all of them */
    net_free(net);
    free(before);
    free(x);
}

static void test_accumulate(void **state)
{
    enum { N = 3 };
    struct net *net = open_net(config(8, 3, 4, 2, 32, 1), N, NET_TRAIN, 5);
    size_t count = net_trainable_count(net);
    int n;
    float *grad = net_tensors(net, &n)[0].grad, *once = calloc(count, sizeof *once);
    float *x = noise(N * 8 * 8 * 3, 1), *d = noise(N * 4, 2);
    double worst = 0;
    (void)state;
    assert_non_null(once);
    net_forward(net, x, N, NET_BN_BATCH);
    net_backward(net, x, d, N, NET_BN_BATCH, false);
    memcpy(once, grad, count * sizeof *once);
    net_backward(net, x, d, N, NET_BN_BATCH, true);
    for (size_t i = 0; i < count; i++)
        worst = fmax(worst, fabs((double)grad[i] - 2 * (double)once[i]) / (1e-3 + fabs((double)once[i])));
    assert_true(worst < 1e-5);
    net_backward(net, x, d, N, NET_BN_BATCH, false);
    assert_memory_equal(once, grad, count * sizeof *once);
    net_free(net);
    free(once);
    free(x);
    free(d);
}

static const struct optim_config sgd = {.kind = OPTIM_SGD,
                                        .nesterov = true,
                                        .lr = 0.03f,
                                        .momentum = 0.9f,
                                        .weight_decay = 5e-4f,
                                        .ema_decay = 0.99f};

/* Three steps; returns values, gradients, moving average and logits in one heap block. */
static float *trajectory(int threads, struct net_config c, int batch, size_t *count)
{
    omp_set_num_threads(threads);
    struct net *net = open_net(c, batch, NET_TRAIN, 11);
    struct optim *o = optim_create(net, &sgd, NULL);
    size_t n_values = count_values(net), n_train = net_trainable_count(net),
           n_logits = (size_t)batch * c.n_classes;
    float *x = noise((size_t)batch * c.size * c.size * c.c_in, 4), *d = noise(n_logits, 6);
    int n;
    const struct net_tensor *t = net_tensors(net, &n);
    assert_non_null(o);
    *count = 2 * n_values + n_train + n_logits;
    float *out = calloc(*count, sizeof *out);
    assert_non_null(out);
    for (int step = 0; step < 3; step++) {
        const float *z = net_forward(net, x, batch, NET_BN_BATCH_UPDATE);
        memcpy(out, z, n_logits * sizeof *z);
        net_backward(net, x, d, batch, NET_BN_BATCH_UPDATE, false);
        optim_step(o, 0.01);
    }
    memcpy(out + n_logits, t[0].value, n_values * sizeof *out);
    memcpy(out + n_logits + n_values, t[0].grad, n_train * sizeof *out);
    memcpy(out + n_logits + n_values + n_train, optim_ema(o), n_values * sizeof *out);
    optim_free(o);
    net_free(net);
    free(x);
    free(d);
    return out;
}

static void test_same_bits(void **state)
{
    const struct net_config c[2] = {config(8, 3, 10, 2, 32, 1), config(8, 7, 2, 2, 16, 1)};
    const int batch[2] = {18, 5};
    int threads = omp_get_max_threads();
    (void)state;
    for (int i = 0; i < 2; i++) {
        size_t count;
        float *one = trajectory(1, c[i], batch[i], &count), *two = trajectory(2, c[i], batch[i], &count);
        float *five = trajectory(5, c[i], batch[i], &count);
        for (size_t j = 0; j < count; j++)
            assert_true(isfinite(one[j]));
        assert_memory_equal(one, two, count * sizeof *one);
        assert_memory_equal(one, five, count * sizeof *one);
        free(one);
        free(two);
        free(five);
    }
    omp_set_num_threads(threads);
}

static void test_infer_equals_train(void **state)
{
    const struct net_config configs[3] = {config(8, 6, 2, 2, 32, 2), config(8, 7, 5, 4, 16, 1),
                                          config(9, 2, 3, 1, 8, 3)};
    (void)state;
    for (int i = 0; i < 3; i++) {
        struct net_config c = configs[i];
        struct net *train = open_net(c, 4, NET_TRAIN, 21), *infer = open_net(c, 6, NET_INFER, 1);
        size_t pixels = (size_t)c.size * c.size * c.c_in;
        float *x = noise(4 * pixels, 3), logits[20], embedding[4 * 128];
        int n, width = net_embedding_size(&c);
        for (int step = 0; step < 6; step++) /* running statistics that are not the initial ones */
            net_forward(train, x, 4, NET_BN_BATCH_UPDATE);
        const float *z = net_forward(train, x, 4, NET_BN_RUNNING);
        memcpy(logits, z, (size_t)(4 * c.n_classes) * sizeof *z);
        memcpy(embedding, net_embedding(train), (size_t)(4 * width) * sizeof *z);
        memcpy(net_tensors(infer, &n)[0].value, net_tensors(train, &n)[0].value,
               count_values(train) * sizeof *z);
        net_weights_changed(infer);
        z = net_forward(infer, x, 4, NET_BN_RUNNING);
        assert_memory_equal(logits, z, (size_t)(4 * c.n_classes) * sizeof *z);
        assert_memory_equal(embedding, net_embedding(infer), (size_t)(4 * width) * sizeof *z);
        /* Evaluated alone, an image gets the same answer; its batch mates do not matter. */
        z = net_forward(infer, x + 2 * pixels, 1, NET_BN_RUNNING);
        for (int k = 0; k < c.n_classes; k++)
            assert_true(fabsf(z[k] - logits[2 * c.n_classes + k]) < 1e-4f * (1 + fabsf(z[k])));
        /* Inference networks also take batch statistics (a guess of labels needs no gradient). */
        z = net_forward(train, x, 4, NET_BN_BATCH);
        memcpy(logits, z, (size_t)(4 * c.n_classes) * sizeof *z);
        z = net_forward(infer, x, 4, NET_BN_BATCH);
        assert_memory_equal(logits, z, (size_t)(4 * c.n_classes) * sizeof *z);
        net_free(train);
        net_free(infer);
        free(x);
    }
}

/* However many images come at once, and whichever threads take them, each gets the bits it gets alone. */
static void test_infer_alone(void **state)
{
    enum { N = 45 };
    const struct net_config configs[2] = {config(16, 6, 3, 2, 32, 1), config(24, 3, 2, 3, 16, 2)};
    int threads = omp_get_max_threads();
    (void)state;
    for (int i = 0; i < 2; i++) {
        const struct net_config c = configs[i];
        const size_t pixels = (size_t)c.size * c.size * c.c_in, width = net_embedding_size(&c);
        float *x = noise(N * pixels, 5), *logits = noise(N * 3, 6), *embedding = noise(N * width, 7);
        for (int t = 1; t <= 3; t++) {
            omp_set_num_threads(t);
            struct net *net = open_net(c, N, NET_INFER, 8);
            for (int j = 0; t == 1 && j < N; j++) {
                const float *z = net_forward(net, x + j * pixels, 1, NET_BN_RUNNING);
                memcpy(logits + j * c.n_classes, z, c.n_classes * sizeof *z);
                memcpy(embedding + j * width, net_embedding(net), width * sizeof *z);
            }
            for (int n = N; n > 1; n /= 2) {
                const float *z = net_forward(net, x, n, NET_BN_RUNNING);
                assert_memory_equal(z, logits, (size_t)n * c.n_classes * sizeof *z);
                assert_memory_equal(net_embedding(net), embedding, n * width * sizeof *z);
            }
            net_free(net);
        }
        free(x);
        free(logits);
        free(embedding);
    }
    omp_set_num_threads(threads);
}

/* New weights count only once they are announced, and optim_step announces them. */
static void test_weights_changed(void **state)
{
    struct net *net = open_net(config(8, 3, 2, 1, 32, 1), 2, NET_INFER, 1);
    float *x = noise(2 * 8 * 8 * 3, 3), before = net_forward(net, x, 2, NET_BN_RUNNING)[0];
    (void)state;
    const struct net_tensor *t = find(net, "scale0.block0.conv2.kernel");
    for (size_t i = 0; i < t->count; i++)
        t->value[i] *= 2;
    net_weights_changed(net);
    assert_true(net_forward(net, x, 2, NET_BN_RUNNING)[0] != before);
    net_free(net);
    free(x);
}

static void test_step_allocates_nothing(void **state)
{
    struct net *net = open_net(config(16, 3, 2, 2, 32, 1), 4, NET_TRAIN, 1);
    struct optim *o = optim_create(net, &sgd, NULL);
    float *x = noise(4 * 16 * 16 * 3, 3), d[8] = {0.1f, -0.1f};
    (void)state;
    assert_non_null(o);
    uint64_t count = mem_count();
    for (int step = 0; step < 3; step++) {
        net_forward(net, x, 4, NET_BN_BATCH_UPDATE);
        net_backward(net, x, d, 4, NET_BN_BATCH_UPDATE, step > 0);
        optim_step(o, 0.01);
        optim_l2(o);
    }
    assert_true(mem_count() == count);
    optim_free(o);
    net_free(net);
    free(x);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_counts),
        cmocka_unit_test(test_presets),
        cmocka_unit_test(test_config_refused),
        cmocka_unit_test(test_table),
        cmocka_unit_test(test_init),
        cmocka_unit_test(test_same_padding),
        cmocka_unit_test(test_bn_bookkeeping),
        cmocka_unit_test(test_accumulate),
        cmocka_unit_test(test_same_bits),
        cmocka_unit_test(test_infer_equals_train),
        cmocka_unit_test(test_infer_alone),
        cmocka_unit_test(test_weights_changed),
        cmocka_unit_test(test_step_allocates_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
