/* SPDX-License-Identifier: Apache-2.0
 *
 * test_gradients.c - the whole network against an independent one: a literal forward pass in double precision
 * written here from the formulas of the published WRN (no fusion, no shared code), whose central differences
 * are the gradients that net_backward must give. Each trainable tensor is tried along one random direction
 * and at two single entries.
 *
 * Leaky ReLU has a kink: a pre-activation within float rounding of zero would make the two sides differ for a
 * good reason, so inputs are drawn until every pre-activation of the reference keeps a distance from it. */
#include "models/base/rng.h"
#include "models/net/net.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

struct map { /* double activations [n,h,w,c] */
    int n, h, w, c;
    double *v;
};

struct reference {
    struct net_config config;
    enum net_bn bn;
    int n, n_tensors;
    const struct net_tensor *tensors;
    double *values; /* in table order */
    const float *x;
    const int *label;
    double margin; /* smallest |pre-activation| of the last forward */
    double *logits;
};

static struct map map_new(int n, int h, int w, int c)
{
    struct map m = {n, h, w, c, calloc((size_t)n * h * w * c, sizeof(double))};
    assert_non_null(m.v);
    return m;
}

static double *ref_tensor(const struct reference *r, const char *prefix, const char *name)
{
    char full[96];
    size_t offset = 0;
    snprintf(full, sizeof full, "%s%s", prefix, name);
    for (int i = 0; i < r->n_tensors; i++) {
        if (strcmp(r->tensors[i].name, full) == 0)
            return r->values + offset;
        offset += r->tensors[i].count;
    }
    fail_msg("no tensor %s", full);
    return NULL;
}

/* TensorFlow "SAME": the total padding is split with the odd pixel after. */
static struct map ref_conv(const struct reference *r, struct map in, const char *prefix, const char *name,
                           int k, int ksize, int stride)
{
    char at[64];
    snprintf(at, sizeof at, "%s%s", prefix, name);
    const double *w = ref_tensor(r, at, ".kernel"), *bias = ref_tensor(r, at, ".bias");
    struct map out = map_new(in.n, (in.h + stride - 1) / stride, (in.w + stride - 1) / stride, k);
    int pad_y = (out.h - 1) * stride + ksize - in.h, pad_x = (out.w - 1) * stride + ksize - in.w;
    pad_y = pad_y > 0 ? pad_y / 2 : 0;
    pad_x = pad_x > 0 ? pad_x / 2 : 0;
    for (int n = 0; n < out.n; n++)
        for (int y = 0; y < out.h; y++)
            for (int x = 0; x < out.w; x++) {
                double *o = out.v + (((size_t)n * out.h + y) * out.w + x) * k;
                memcpy(o, bias, (size_t)k * sizeof *o);
                for (int dy = 0; dy < ksize; dy++)
                    for (int dx = 0; dx < ksize; dx++) {
                        int iy = y * stride + dy - pad_y, ix = x * stride + dx - pad_x;
                        if (iy < 0 || iy >= in.h || ix < 0 || ix >= in.w)
                            continue;
                        const double *p = in.v + (((size_t)n * in.h + iy) * in.w + ix) * in.c;
                        const double *q = w + (size_t)(dy * ksize + dx) * in.c * k;
                        for (int c = 0; c < in.c; c++)
                            for (int j = 0; j < k; j++)
                                o[j] += p[c] * q[(size_t)c * k + j];
                    }
            }
    return out;
}

static struct map ref_norm_act(struct reference *r, struct map in, const char *prefix, const char *name)
{
    char at[64];
    snprintf(at, sizeof at, "%s%s", prefix, name);
    const double *gamma = ref_tensor(r, at, ".gamma"), *beta = ref_tensor(r, at, ".beta");
    const double *rmean = ref_tensor(r, at, ".running_mean"), *rvar = ref_tensor(r, at, ".running_var");
    struct map out = map_new(in.n, in.h, in.w, in.c);
    size_t count = (size_t)in.n * in.h * in.w;
    for (int c = 0; c < in.c; c++) {
        double mean = rmean[c], var = rvar[c];
        if (r->bn != NET_BN_RUNNING) {
            mean = var = 0;
            for (size_t i = 0; i < count; i++)
                mean += in.v[i * in.c + c] / (double)count;
            for (size_t i = 0; i < count; i++)
                var += (in.v[i * in.c + c] - mean) * (in.v[i * in.c + c] - mean) / (double)count;
        }
        for (size_t i = 0; i < count; i++) {
            double u =
                gamma[c] * (in.v[i * in.c + c] - mean) / sqrt(var + (double)r->config.bn_eps) + beta[c];
            r->margin = fmin(r->margin, fabs(u));
            out.v[i * in.c + c] = u > 0 ? u : 0.1 * u;
        }
    }
    return out;
}

static struct map ref_block(struct reference *r, struct map x, const char *prefix, int filters, int stride,
                            bool activated)
{
    struct map h = ref_norm_act(r, x, prefix, "bn1"), shortcut = activated ? h : x;
    struct map a = ref_conv(r, h, prefix, "conv1", filters, 3, stride);
    struct map b = ref_norm_act(r, a, prefix, "bn2");
    struct map out = ref_conv(r, b, prefix, "conv2", filters, 3, 1), s = {0};
    if (shortcut.c != filters)
        s = shortcut = ref_conv(r, shortcut, prefix, "shortcut", filters, 1, stride);
    for (size_t i = 0; i < (size_t)out.n * out.h * out.w * out.c; i++)
        out.v[i] += shortcut.v[i];
    free(h.v);
    free(a.v);
    free(b.v);
    free(s.v);
    free(x.v);
    return out;
}

/* Mean cross-entropy of the batch; fills r->logits and r->margin. */
static double ref_loss(struct reference *r)
{
    const struct net_config *c = &r->config;
    struct map y = map_new(r->n, c->size, c->size, c->c_in);
    for (size_t i = 0; i < (size_t)r->n * c->size * c->size * c->c_in; i++)
        y.v[i] = (double)r->x[i];
    r->margin = 1e30;
    struct map stem = ref_conv(r, y, "", "stem", 16, 3, 1);
    free(y.v);
    y = stem;
    for (int s = 0; s < c->scales; s++)
        for (int b = 0; b < c->repeats; b++) {
            char prefix[64];
            snprintf(prefix, sizeof prefix, "scale%d.block%d.", s, b);
            y = ref_block(r, y, prefix, c->filters << s, s > 0 && b == 0 ? 2 : 1, s == 0 && b == 0);
        }
    struct map e = ref_norm_act(r, y, "", "bn");
    const double *w = ref_tensor(r, "", "dense.kernel"), *bias = ref_tensor(r, "", "dense.bias");
    double loss = 0;
    for (int n = 0; n < r->n; n++) {
        double *z = r->logits + (size_t)n * c->n_classes, sum = 0;
        memcpy(z, bias, (size_t)c->n_classes * sizeof *z);
        for (int p = 0; p < e.h * e.w; p++)
            for (int j = 0; j < e.c; j++)
                for (int k = 0; k < c->n_classes; k++)
                    z[k] +=
                        e.v[((size_t)n * e.h * e.w + p) * e.c + j] * w[j * c->n_classes + k] / (e.h * e.w);
        for (int k = 0; k < c->n_classes; k++)
            sum += exp(z[k]);
        loss += (log(sum) - z[r->label[n]]) / r->n;
    }
    free(e.v);
    free(y.v);
    return loss;
}

struct setup {
    struct net *net;
    struct reference ref;
    float *x, *dlogits;
    int label[8];
};

/* Every tensor away from its initial value, so that no term of a gradient vanishes by luck. */
static void disturb(struct net *net, uint64_t seed)
{
    int n;
    const struct net_tensor *t = net_tensors(net, &n);
    struct rng r;
    rng_init(&r, seed, RNG_SCENE, 0);
    for (int i = 0; i < n; i++)
        for (size_t j = 0; j < t[i].count; j++) {
            float u = (float)rng_uniform(&r);
            switch (t[i].role) {
            case NET_GAMMA:
            case NET_RUNNING_VAR:
                t[i].value[j] = 0.6f + 0.8f * u;
                break;
            case NET_BIAS:
            case NET_BETA:
            case NET_RUNNING_MEAN:
                t[i].value[j] = 0.6f * u - 0.3f;
                break;
            case NET_KERNEL:
                break;
            }
        }
    net_weights_changed(net);
}

static void copy_values(struct reference *r)
{
    size_t at = 0;
    for (int i = 0; i < r->n_tensors; i++)
        for (size_t j = 0; j < r->tensors[i].count; j++)
            r->values[at++] = (double)r->tensors[i].value[j];
}

static void setup_open(struct setup *s, struct net_config c, int n, enum net_bn bn)
{
    memset(s, 0, sizeof *s);
    struct err e = {0};
    size_t total = 0, floats = (size_t)n * c.size * c.size * c.c_in;
    c.bn_eps = 1e-3f;
    c.bn_momentum = 0.999f;
    s->net =
        net_create(&c, n + 1, NET_TRAIN, &e); /* one more than used: batches may be smaller than planned */
    if (!s->net)
        fail_msg("%s", e.msg);
    net_init(s->net, 7);
    disturb(s->net, 11);
    s->ref = (struct reference){.config = c, .bn = bn, .n = n};
    s->ref.tensors = net_tensors(s->net, &s->ref.n_tensors);
    for (int i = 0; i < s->ref.n_tensors; i++)
        total += s->ref.tensors[i].count;
    s->ref.values = calloc(total, sizeof(double));
    s->ref.logits = calloc((size_t)n * c.n_classes, sizeof(double));
    s->x = calloc(floats, sizeof(float));
    s->dlogits = calloc((size_t)n * c.n_classes, sizeof(float));
    assert_true(s->ref.values && s->ref.logits && s->x && s->dlogits && n <= 8);
    copy_values(&s->ref);
    for (int i = 0; i < n; i++)
        s->label[i] = i % c.n_classes;
    s->ref.x = s->x;
    for (uint64_t seed = 1;; seed++) {
        struct rng r;
        rng_init(&r, seed, RNG_SCENE, 1);
        for (size_t i = 0; i < floats; i++)
            s->x[i] = (float)rng_normal(&r);
        s->ref.label = s->label;
        ref_loss(&s->ref);
        if (s->ref.margin > 4e-6)
            break;
        assert_true(seed < 200);
    }
}

static void setup_close(struct setup *s)
{
    net_free(s->net);
    free(s->ref.values);
    free(s->ref.logits);
    free(s->x);
    free(s->dlogits);
}

/* Gradient of the mean cross-entropy with respect to the logits. */
static void fill_dlogits(struct setup *s)
{
    int k_all = s->ref.config.n_classes;
    for (int n = 0; n < s->ref.n; n++) {
        const double *z = s->ref.logits + (size_t)n * k_all;
        double sum = 0;
        for (int k = 0; k < k_all; k++)
            sum += exp(z[k]);
        for (int k = 0; k < k_all; k++)
            s->dlogits[n * k_all + k] = (float)((exp(z[k]) / sum - (k == s->label[n])) / s->ref.n);
    }
}

static double slope(struct reference *r, double *at, const double *direction, size_t count)
{
    const double step = 1e-6;
    double loss[2];
    for (int side = 0; side < 2; side++) {
        double h = side ? step : -step;
        for (size_t i = 0; i < count; i++)
            at[i] += h * direction[i];
        loss[side] = ref_loss(r);
        for (size_t i = 0; i < count; i++)
            at[i] -= h * direction[i];
    }
    return (loss[1] - loss[0]) / (2 * step);
}

static void check_tensor(struct setup *s, const struct net_tensor *t, double *at, double floor, struct rng *r)
{
    double *d = calloc(t->count, sizeof *d), norm = 0, g_norm = 0;
    assert_non_null(d);
    for (size_t i = 0; i < t->count; i++)
        g_norm += (double)t->grad[i] * (double)t->grad[i];
    for (int probe = 0; probe < 3; probe++) {
        double got = 0;
        memset(d, 0, t->count * sizeof *d);
        if (probe == 0) {
            norm = 0;
            for (size_t i = 0; i < t->count; i++) {
                d[i] = rng_normal(r);
                norm += d[i] * d[i];
            }
            for (size_t i = 0; i < t->count; i++)
                d[i] /= sqrt(norm);
        } else {
            d[rng_below(r, (uint32_t)t->count)] = 1;
        }
        for (size_t i = 0; i < t->count; i++)
            got += d[i] * (double)t->grad[i];
        double want = slope(&s->ref, at, d, t->count), tolerance = 1e-4 * sqrt(g_norm) + floor;
        if (!(fabs(got - want) <= tolerance))
            fail_msg("%s probe %d: gradient %.9g, differences say %.9g (tolerance %.2g)", t->name, probe, got,
                     want, tolerance);
    }
    free(d);
}

/* The gradient by the input, entry by entry along a stride; asking for it leaves the others as they are. */
static void check_input(struct setup *s, enum net_bn bn)
{
    const struct net_config *c = &s->ref.config;
    size_t floats = (size_t)s->ref.n * c->size * c->size * c->c_in, trainable = net_trainable_count(s->net);
    float *dx = calloc(floats, sizeof *dx), *grads = malloc(trainable * sizeof *grads);
    double norm = 0;
    assert_true(dx && grads);
    memcpy(grads, s->ref.tensors[0].grad, trainable * sizeof *grads);
    net_backward_extra(s->net, s->x, s->dlogits, s->ref.n, bn, false, &(struct net_extra){.dx = dx});
    for (size_t i = 0; i < trainable; i++) /* the stem's kernels may sum in another order */
        if (!(fabsf(grads[i] - s->ref.tensors[0].grad[i]) <= 1e-5f + 1e-4f * fabsf(grads[i])))
            fail_msg("weight %zu: gradient %.9g, with the input's %.9g", i, (double)grads[i],
                     (double)s->ref.tensors[0].grad[i]);
    for (size_t i = 0; i < floats; i++)
        norm += (double)dx[i] * (double)dx[i];
    assert_true(norm > 1e-8);
    for (size_t i = 1; i < floats; i += floats / 12) {
        float keep = s->x[i];
        volatile float up = keep + 1e-5f * fmaxf(1.0f, fabsf(keep)),
                       down = keep - 1e-5f * fmaxf(1.0f, fabsf(keep));
        s->x[i] = up;
        double plus = ref_loss(&s->ref);
        s->x[i] = down;
        double minus = ref_loss(&s->ref), want = (plus - minus) / ((double)up - (double)down);
        s->x[i] = keep;
        if (!(fabs((double)dx[i] - want) <= 2e-3 * sqrt(norm)))
            fail_msg("input %zu: gradient %.9g, differences say %.9g", i, (double)dx[i], want);
    }
    free(dx);
    free(grads);
}

/* A gradient that enters at the embedding: dlogits sent through the dense layer by hand. */
static void check_embedding(struct setup *s, enum net_bn bn)
{
    const struct net_tensor *t = s->ref.tensors, *dense = NULL;
    int k = s->ref.config.n_classes, c = net_embedding_size(&s->ref.config), n = s->ref.n;
    for (int i = 0; i < s->ref.n_tensors; i++)
        if (strcmp(t[i].name, "dense.kernel") == 0)
            dense = &t[i];
    assert_non_null(dense);
    float *de = calloc((size_t)n * c, sizeof *de), *zero = calloc((size_t)n * k, sizeof *zero),
          *want = malloc(t[0].count * sizeof *want);
    assert_true(de && zero && want);
    memcpy(want, t[0].grad, t[0].count * sizeof *want);
    for (int i = 0; i < n; i++)
        for (int j = 0; j < c; j++)
            for (int q = 0; q < k; q++)
                de[i * c + j] += s->dlogits[i * k + q] * dense->value[j * k + q];
    net_backward_extra(s->net, s->x, zero, n, bn, false, &(struct net_extra){.dembedding = de});
    for (size_t i = 0; i < t[0].count; i++)
        if (!(fabsf(want[i] - t[0].grad[i]) <= 1e-5f + 1e-4f * fabsf(want[i])))
            fail_msg("stem weight %zu: %.9g by the embedding, %.9g by the logits", i, (double)t[0].grad[i],
                     (double)want[i]);
    for (size_t i = 0; i < dense->count; i++)
        assert_true(dense->grad[i] == 0);
    free(de);
    free(zero);
    free(want);
}

static void check_net(struct net_config c, int n, enum net_bn bn)
{
    struct setup s;
    setup_open(&s, c, n, bn);
    const float *logits = net_forward(s.net, s.x, n, bn);
    double loss = ref_loss(&s.ref), largest = 0, got_loss = 0;
    for (int i = 0; i < n; i++) {
        double sum = 0;
        for (int k = 0; k < c.n_classes; k++)
            sum += exp((double)logits[i * c.n_classes + k]);
        got_loss += (log(sum) - (double)logits[i * c.n_classes + s.label[i]]) / n;
    }
    for (int i = 0; i < n * c.n_classes; i++)
        if (!(fabs((double)logits[i] - s.ref.logits[i]) <= 1e-4 * (1 + fabs(s.ref.logits[i]))))
            fail_msg("logit %d: %.8g, reference %.8g", i, (double)logits[i], s.ref.logits[i]);
    assert_true(fabs(got_loss - loss) <= 1e-4 * (1 + fabs(loss)));

    fill_dlogits(&s);
    net_backward(s.net, s.x, s.dlogits, n, bn, false);
    for (int i = 0; i < s.ref.n_tensors && s.ref.tensors[i].grad; i++) {
        double sum = 0;
        for (size_t j = 0; j < s.ref.tensors[i].count; j++)
            sum += (double)s.ref.tensors[i].grad[j] * (double)s.ref.tensors[i].grad[j];
        largest = fmax(largest, sqrt(sum));
    }
    assert_true(largest > 1e-3);
    size_t at = 0;
    struct rng r;
    rng_init(&r, 5, RNG_SCENE, 2);
    for (int i = 0; i < s.ref.n_tensors && s.ref.tensors[i].grad; i++) {
        /* The floor is for tensors whose true gradient is zero: a bias that a batch norm takes away again. */
        check_tensor(&s, &s.ref.tensors[i], s.ref.values + at, 3e-6 * largest, &r);
        at += s.ref.tensors[i].count;
    }
    assert_int_equal(at, net_trainable_count(s.net));
    check_input(&s, bn);
    check_embedding(&s, bn);
    setup_close(&s);
}

/* 16 -> 8 channels: a 1x1 shortcut behind the activation; then a strided one. Channel counts no vector width
 * divides. */
static const struct net_config projected = {
    .size = 8, .c_in = 3, .n_classes = 4, .scales = 2, .filters = 8, .repeats = 2};
/* 16 -> 16 channels: the first shortcut is the activation itself. */
static const struct net_config plain = {
    .size = 8, .c_in = 5, .n_classes = 2, .scales = 2, .filters = 16, .repeats = 1};
/* Widths of the published networks, which the fast kernels take. */
static const struct net_config wide = {
    .size = 8, .c_in = 6, .n_classes = 2, .scales = 2, .filters = 32, .repeats = 1};
/* An odd image without stride, and an odd image after one: 14 -> 7. */
static const struct net_config odd = {
    .size = 7, .c_in = 1, .n_classes = 3, .scales = 1, .filters = 12, .repeats = 2};
static const struct net_config odd_inside = {
    .size = 14, .c_in = 2, .n_classes = 3, .scales = 2, .filters = 4, .repeats = 1};

static void test_batch_projected(void **state)
{
    (void)state;
    check_net(projected, 3, NET_BN_BATCH);
}

static void test_batch_plain(void **state)
{
    (void)state;
    check_net(plain, 3, NET_BN_BATCH);
}

static void test_batch_wide(void **state)
{
    (void)state;
    check_net(wide, 2, NET_BN_BATCH);
}

static void test_batch_odd(void **state)
{
    (void)state;
    check_net(odd, 3, NET_BN_BATCH_UPDATE);
    check_net(odd_inside, 2, NET_BN_BATCH);
}

static void test_running(void **state)
{
    (void)state;
    check_net(projected, 2, NET_BN_RUNNING);
    check_net(plain, 2, NET_BN_RUNNING);
    check_net(wide, 1, NET_BN_RUNNING);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_batch_projected), cmocka_unit_test(test_batch_plain),
        cmocka_unit_test(test_batch_wide),      cmocka_unit_test(test_batch_odd),
        cmocka_unit_test(test_running),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
