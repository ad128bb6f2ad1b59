/* SPDX-License-Identifier: Apache-2.0
 *
 * test_int8.c - 8-bit inference: the plain body against a convolution in double written from int8.h's text,
 * the fast bodies against the plain one to the last bit (odd widths, half panels, canaries), and a whole
 * network against its own fp32: close logits, fp32's bits for an image on the line between two classes, the
 * same bits on any number of threads, a sentence where it cannot be. */
#include "models/base/rng.h"
#include "models/kernels/int8.h"
#include "models/net/net_quant.h"

#include <math.h>
#include <omp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { CANARY = 64 };

static const struct int8_shape shapes[] = {
    {8, 8, 16, 32, 3, 1},   {5, 11, 16, 16, 3, 1}, {7, 9, 32, 48, 3, 1}, {6, 10, 64, 32, 3, 2},
    {16, 16, 16, 32, 3, 2}, {9, 17, 4, 16, 3, 1},  {4, 3, 20, 64, 1, 1}, {3, 33, 32, 16, 1, 1},
    {2, 2, 128, 32, 3, 2},  {8, 8, 256, 32, 3, 1},
};

static const struct epilogue_case {
    bool residual, out, scale, q;
} epilogues[] = {
    {false, false, false, true}, {true, true, true, true},  {false, true, false, false},
    {true, true, false, false},  {false, true, true, true},
};

struct data {
    struct int8_shape s;
    int oh, ow;
    size_t n_x, n_w, n_y, n_q;
    uint8_t *x;
    int8_t *w, *packed;
    float *mul, *add, *scale, *shift, *residual;
};

static float *floats(size_t n, struct rng *r, double mean, double spread)
{
    float *p = malloc(n * sizeof *p);
    for (size_t i = 0; i < n; i++)
        p[i] = (float)(mean + spread * (rng_uniform(r) - 0.5));
    return p;
}

static void data_make(struct data *d, struct int8_shape s, uint64_t seed)
{
    struct rng r;
    size_t k = (size_t)s.k;
    rng_init(&r, seed, RNG_METHOD, 0);
    *d = (struct data){.s = s, .oh = s.h / s.stride, .ow = s.w / s.stride};
    d->n_x = (size_t)(s.h + 2) * (s.w + 2) * s.c;
    d->n_w = (size_t)s.ksize * s.ksize * s.c * k;
    d->n_y = (size_t)d->oh * d->ow * k;
    d->n_q = (size_t)(d->oh + 2) * (d->ow + 2) * k;
    d->x = malloc(d->n_x);
    d->w = malloc(d->n_w);
    d->packed = malloc(d->n_w);
    for (size_t i = 0; i < d->n_x; i++)
        d->x[i] = (uint8_t)rng_below(&r, 256);
    for (size_t i = 0; i < d->n_w; i++)
        d->w[i] = (int8_t)((int)rng_below(&r, 255) - 127);
    d->mul = floats(k, &r, 0.003, 0.004);
    d->add = floats(k, &r, 0, 90);
    d->scale = floats(k, &r, 0.7, 1);
    d->shift = floats(k, &r, 0, 50);
    d->residual = floats(d->n_y, &r, 0, 100);
    int8_pack(&d->s, d->w, d->packed);
}

static void data_free(struct data *d)
{
    free(d->x);
    free(d->w);
    free(d->packed);
    free(d->mul);
    free(d->add);
    free(d->scale);
    free(d->shift);
    free(d->residual);
}

static struct int8_epilogue epilogue_of(const struct data *d, const struct epilogue_case *c, float *out,
                                        uint8_t *q)
{
    return (struct int8_epilogue){.mul = d->mul,
                                  .add = d->add,
                                  .residual = c->residual ? d->residual : NULL,
                                  .out = c->out ? out : NULL,
                                  .scale = c->scale ? d->scale : NULL,
                                  .shift = c->scale ? d->shift : NULL,
                                  .zero = 23,
                                  .q = c->q ? q : NULL};
}

/* The sum at one output, from the unpacked weights; strided kernels begin at the image's first pixel ("SAME"
 * on even sizes), others one before it. */
static long sum_at(const struct data *d, int i, int j, int k)
{
    const struct int8_shape *s = &d->s;
    int before = s->ksize == 3 && s->stride == 1 ? 1 : 0;
    long sum = 0;
    for (int y = 0; y < s->ksize; y++)
        for (int x = 0; x < s->ksize; x++)
            for (int c = 0; c < s->c; c++) {
                int row = i * s->stride - before + y + 1, column = j * s->stride - before + x + 1;
                sum += (long)d->x[((size_t)row * (s->w + 2) + column) * s->c + c] *
                       d->w[((size_t)(y * s->ksize + x) * s->c + c) * s->k + k];
            }
    return sum;
}

static void test_plain(void **state)
{
    (void)state;
    for (size_t t = 0; t < sizeof shapes / sizeof *shapes; t++) {
        struct data d;
        data_make(&d, shapes[t], t);
        float *out = malloc(d.n_y * sizeof *out);
        uint8_t *q = malloc(d.n_q);
        struct int8_epilogue e = epilogue_of(&d, &epilogues[1], out, q);
        int8_plain.conv(&d.s, d.x, d.packed, &e);
        for (int i = -1; i <= d.oh; i++)
            for (int j = -1; j <= d.ow; j++)
                for (int k = 0; k < d.s.k; k++) {
                    int got = q[((size_t)(i + 1) * (d.ow + 2) + j + 1) * d.s.k + k];
                    if (i < 0 || j < 0 || i == d.oh || j == d.ow) {
                        assert_int_equal(got, 23);
                        continue;
                    }
                    size_t at = ((size_t)i * d.ow + j) * d.s.k + k;
                    double y = (double)sum_at(&d, i, j, k) * d.mul[k] + d.add[k] + d.residual[at];
                    double z = y * d.scale[k] + d.shift[k];
                    double want = (z < 0 ? 0.1 * z : z) + 23;
                    want = want < 0 ? 0 : want > 255 ? 255 : want;
                    if (fabs(out[at] - y) > 1e-3 || fabs(got - want) > 0.501)
                        fail_msg("shape %zu at %d,%d,%d: %g for %g, byte %d for %g", t, i, j, k, out[at], y,
                                 got, want);
                }
        free(out);
        free(q);
        data_free(&d);
    }
}

/* The body in use now against the plain one: bits, and nothing written beyond. */
static void check_body(void)
{
    for (size_t t = 0; t < sizeof shapes / sizeof *shapes; t++)
        for (size_t c = 0; c < sizeof epilogues / sizeof *epilogues; c++) {
            struct data d;
            data_make(&d, shapes[t], 100 + t);
            size_t bytes[2] = {d.n_y * sizeof(float) + CANARY, d.n_q + CANARY};
            char *mine[2], *theirs[2];
            for (int b = 0; b < 2; b++) {
                mine[b] = malloc(bytes[b]);
                theirs[b] = malloc(bytes[b]);
                memset(mine[b], 0x5a, bytes[b]);
                memset(theirs[b], 0x5a, bytes[b]);
            }
            struct int8_epilogue e = epilogue_of(&d, &epilogues[c], (float *)mine[0], (uint8_t *)mine[1]);
            struct int8_epilogue p = epilogue_of(&d, &epilogues[c], (float *)theirs[0], (uint8_t *)theirs[1]);
            int8_conv(&d.s, d.x, d.packed, &e);
            int8_plain.conv(&d.s, d.x, d.packed, &p);
            for (int b = 0; b < 2; b++) {
                if (memcmp(mine[b], theirs[b], bytes[b]) != 0)
                    fail_msg("%s: shape %zu, epilogue %zu: %s differ", int8_name(), t, c,
                             b ? "bytes" : "floats");
                free(mine[b]);
                free(theirs[b]);
            }
            data_free(&d);
        }
}

static void check_quantize(void)
{
    static const int sizes[][4] = {
        {8, 8, 16, 1}, {6, 10, 32, 2}, {5, 3, 12, 1}, {4, 4, 40, 2}}; /* h w c pick */
    for (size_t t = 0; t < sizeof sizes / sizeof *sizes; t++)
        for (int leaky = 0; leaky < 2; leaky++) {
            int h = sizes[t][0], w = sizes[t][1], c = sizes[t][2], pick = sizes[t][3];
            size_t bytes = (size_t)(h / pick + 2) * (w / pick + 2) * c + CANARY;
            struct rng r;
            rng_init(&r, t, RNG_METHOD, 1);
            float *x = floats((size_t)h * w * c, &r, 0, 4), *scale = floats((size_t)c, &r, 60, 50),
                  *shift = floats((size_t)c, &r, 0, 40);
            uint8_t *mine = malloc(bytes), *theirs = malloc(bytes);
            memset(mine, 0x5a, bytes);
            memset(theirs, 0x5a, bytes);
            int8_quantize(x, h, w, c, pick, scale, shift, leaky, 100, mine);
            int8_plain.quantize(x, h, w, c, pick, scale, shift, leaky, 100, theirs);
            assert_memory_equal(mine, theirs, bytes);
            double z = (double)x[0] * scale[0] + shift[0], want = (leaky && z < 0 ? 0.1 * z : z) + 100;
            int got = mine[(size_t)(w / pick + 3) * c];
            assert_true(fabs(got - fmin(255, fmax(0, want))) < 0.501);
            free(x);
            free(scale);
            free(shift);
            free(mine);
            free(theirs);
        }
}

static void test_fast(void **state)
{
    (void)state;
    static const char *const levels[] = {"avx512", "avx2"};
    struct err e;
    int n = 0;
    for (size_t i = 0; i < sizeof levels / sizeof *levels; i++) {
        setenv("AFTERMAP_KERNELS", levels[i], 1);
        if (!kernels_init(&e) || !int8_is_fast())
            continue;
        n++;
        check_body();
        check_quantize();
    }
    unsetenv("AFTERMAP_KERNELS");
    assert_true(kernels_init(&e));
    if (n == 0)
        skip();
}

/* A network whose running statistics fit its weights, as training leaves them: those of one batch. */
static struct net *make_net(struct net_config c, const float *x, int n)
{
    struct err e = {0};
    float momentum = c.bn_momentum;
    c.bn_momentum = 0;
    struct net *trained = net_create(&c, n, NET_TRAIN, &e);
    c.bn_momentum = momentum;
    struct net *net = net_create(&c, n, NET_INFER, &e);
    assert_true(trained && net);
    net_init(trained, 5);
    int count;
    const struct net_tensor *from = net_tensors(trained, &count), *to = net_tensors(net, NULL);
    struct rng r;
    rng_init(&r, 6, RNG_METHOD, 0);
    for (int i = 0; i < count; i++)
        for (size_t k = 0; k < from[i].count; k++)
            if (from[i].role == NET_GAMMA)
                from[i].value[k] = (float)(0.5 + rng_uniform(&r));
            else if (from[i].role == NET_BETA || from[i].role == NET_BIAS)
                from[i].value[k] = (float)(0.6 * rng_uniform(&r) - 0.3);
    net_weights_changed(trained);
    net_forward(trained, x, n, NET_BN_BATCH_UPDATE);
    for (int i = 0; i < count; i++)
        memcpy(to[i].value, from[i].value, from[i].count * sizeof *from[i].value);
    net_weights_changed(net);
    net_free(trained);
    return net;
}

/* Moves the last layer's bias so that the first image's two best classes come out level. */
static void tie(struct net *net, const float *logits)
{
    int n, n_classes = net_get_config(net)->n_classes, best = 0, next = -1;
    const struct net_tensor *t = net_tensors(net, &n);
    for (int k = 1; k < n_classes; k++)
        best = logits[k] > logits[best] ? k : best;
    for (int k = 0; k < n_classes; k++)
        if (k != best && (next < 0 || logits[k] > logits[next]))
            next = k;
    float gap = logits[best] - logits[next];
    while (strcmp(t->name, "dense.bias") != 0)
        t++;
    t->value[next] += gap;
    net_weights_changed(net);
}

static void check_net(struct net_config c, int n)
{
    struct err e = {0};
    struct rng r;
    size_t count = (size_t)n * c.size * c.size * c.c_in, n_logits = (size_t)n * c.n_classes;
    rng_init(&r, 7, RNG_METHOD, 2);
    float *x = floats(count, &r, 0, 2), *exact = malloc(n_logits * sizeof *exact),
          *first = malloc(n_logits * sizeof *first);
    for (size_t i = 0; i < count; i++) /* images unlike noise: slow waves of different strength */
        x[i] = 0.3f * x[i] + (float)sin(0.02 * (double)(i % 4000) * (1 + (double)(i / 4000 % 7)));
    struct net *net = make_net(c, x, n);
    tie(net, net_forward(net, x, n, NET_BN_RUNNING));
    struct net_quant *q = net_quant_create(net, &e);
    assert_non_null(q);
    memcpy(exact, net_forward(net, x, n, NET_BN_RUNNING), n_logits * sizeof *exact);
    net_quant_observe(q, x, n);
    net_quant_freeze(q);
    int threads = omp_get_max_threads();
    for (int t = 1; t <= 5; t += t == 1 ? 1 : 3) {
        omp_set_num_threads(t);
        const float *got = net_quant_forward(q, x, n);
        if (t == 1)
            memcpy(first, got, n_logits * sizeof *first);
        assert_memory_equal(first, got, n_logits * sizeof *first);
    }
    omp_set_num_threads(threads);
    double error = 0, power = 0, mean = 0;
    for (size_t i = 0; i < n_logits; i++)
        mean += exact[i] / (double)n_logits;
    for (size_t i = 0; i < n_logits; i++) {
        error += pow(first[i] - exact[i], 2);
        power += pow(exact[i] - mean, 2);
    }
    if (!(error < 0.03 * 0.03 * power) || error == 0)
        fail_msg("size %d: logits differ by %.4f of their spread", c.size, sqrt(error / power));
    /* fp32's own bits where 8 bits cannot decide; above, error == 0 would say that they never do */
    assert_memory_equal(first, exact, sizeof(float) * c.n_classes);
    for (int i = 1; i < n; i++) { /* an image's result does not depend on its place in the batch */
        const float *alone = net_quant_forward(q, x + (size_t)i * (count / n), 1);
        assert_memory_equal(alone, first + (size_t)i * c.n_classes, sizeof(float) * c.n_classes);
    }
    net_quant_free(q);
    net_free(net);
    free(x);
    free(exact);
    free(first);
}

static void test_net(void **state)
{
    (void)state;
    check_net((struct net_config){16, 3, 3, 3, 16, 2, 1e-3f, 0.999f}, 19); /* block 0 without 1x1 shortcut */
    check_net((struct net_config){8, 7, 2, 2, 32, 1, 1e-3f, 0.999f}, 20);  /* block 0 with one */
}

static void test_refusal(void **state)
{
    (void)state;
    struct err e = {0};
    const struct net_config c = {16, 3, 3, 2, 8, 1, 1e-3f, 0.999f};
    struct net *net = net_create(&c, 2, NET_INFER, &e);
    assert_non_null(net);
    assert_null(net_quant_create(net, &e));
    assert_int_equal(e.code, ERR_USAGE);
    assert_non_null(strstr(e.msg, "multiples of 16"));
    net_free(net);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plain),
        cmocka_unit_test(test_fast),
        cmocka_unit_test(test_net),
        cmocka_unit_test(test_refusal),
    };
    struct err e;
    if (!kernels_init(&e))
        return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
