/* SPDX-License-Identifier: Apache-2.0
 *
 * test_unet.c - the denoiser. Its own files are built here a second time in double, under other names, and held
 * against central differences of their forward pass: every tensor, relative 1e-6. The program's float build,
 * which goes through the fast kernels, is then held against the double build. Sizes are the published ones. */
#include "tests/unit/unet_double.h"

#undef unet_count
#undef unet_create
#undef unet_free
#undef unet_init
#undef unet_forward
#undef unet_backward

/* The library's build, in float. */
size_t unet_count(const struct unet_config *c);
struct unet *unet_create(const struct unet_config *c, int max_batch, bool train, struct err *e);
void unet_free(struct unet *u);
void unet_init(const struct unet *u, uint64_t seed, float *values);
const float *unet_forward(struct unet *u, const float *values, const float *x, const double *angle,
                          const int *label, int n);
void unet_backward(struct unet *u, const float *values, const float *dy, float *grads, float *dx);

#include <omp.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static const struct unet_config small = {.kind = UNET_IMAGE,
                                         .size = 4,
                                         .c_in = 3,
                                         .c_out = 2,
                                         .n_classes = 3,
                                         .base = 4,
                                         .embed = 6,
                                         .n_levels = 2,
                                         .multiplier = {1, 2},
                                         .n_blocks = 1,
                                         .attention = 2,
                                         .groups = 2,
                                         .head_width = 4};
static const struct unet_config points = {
    .kind = UNET_POINTS, .size = 1, .c_in = 2, .c_out = 2, .n_classes = 3, .base = 8, .n_blocks = 2};

enum { N = 3 };
static const double angle[N] = {0.11, 0.7, 1.5};
static const int label[N] = {2, -1, 0};

struct problem {
    struct unet *u;
    double *values, *x, *weight, *grads, *dx;
    size_t n_values, n_in, n_out;
};

static double *numbers(size_t n, uint64_t seed)
{
    double *v = calloc(n, sizeof *v);
    struct rng r;
    assert_non_null(v);
    rng_init(&r, seed, RNG_METHOD, 0);
    for (size_t i = 0; i < n; i++)
        v[i] = 0.6 * rng_normal(&r);
    return v;
}

static struct problem problem_new(const struct unet_config *c)
{
    struct err e = {0};
    struct problem p = {.u = unet64_create(c, N, true, &e), .n_values = unet64_count(c)};
    const size_t pixels = (size_t)N * c->size * c->size;
    assert_non_null(p.u);
    p.n_in = pixels * c->c_in;
    p.n_out = pixels * c->c_out;
    p.values = numbers(p.n_values, 1); /* all branches loud, biases not zero */
    p.x = numbers(p.n_in, 2);
    p.weight = numbers(p.n_out, 3);
    p.grads = numbers(p.n_values, 4); /* rubbish that backward must overwrite */
    p.dx = numbers(p.n_in, 5);
    return p;
}

static void problem_free(struct problem *p)
{
    unet64_free(p->u);
    free(p->values);
    free(p->x);
    free(p->weight);
    free(p->grads);
    free(p->dx);
}

static double loss(struct problem *p)
{
    const double *y = unet64_forward(p->u, p->values, p->x, angle, label, N);
    double s = 0;
    for (size_t i = 0; i < p->n_out; i++)
        s += p->weight[i] * y[i] + 0.5 * y[i] * y[i];
    return s;
}

static void gradients(struct problem *p)
{
    const double *y = unet64_forward(p->u, p->values, p->x, angle, label, N);
    double *dy = calloc(p->n_out, sizeof *dy);
    assert_non_null(dy);
    for (size_t i = 0; i < p->n_out; i++)
        dy[i] = p->weight[i] + y[i];
    unet64_backward(p->u, p->values, dy, p->grads, p->dx);
    free(dy);
}

static double loss_at(struct problem *p, double *v, const double *way, size_t n, double step)
{
    for (size_t i = 0; i < n; i++)
        v[i] += step * way[i];
    const double there = loss(p);
    for (size_t i = 0; i < n; i++)
        v[i] -= step * way[i];
    return there;
}

/* Fourth-order difference along the direction `way` at v[0..n) against the inner product with the gradient. */
static double check_way(struct problem *p, double *v, const double *gradient, const double *way, size_t n)
{
    const double h = 3e-4;
    double told = 0, size = 0;
    for (size_t i = 0; i < n; i++) {
        told += gradient[i] * way[i];
        size += gradient[i] * gradient[i] * way[i] * way[i];
    }
    const double near = loss_at(p, v, way, n, h) - loss_at(p, v, way, n, -h);
    const double far = loss_at(p, v, way, n, 2 * h) - loss_at(p, v, way, n, -2 * h);
    return fabs((8 * near - far) / (12 * h) - told) / (sqrt(size) + 1e-3);
}

static void check_gradients(const struct unet_config *c)
{
    struct problem p = problem_new(c);
    int n_tensors;
    const struct unet_tensor *t = unet64_tensors(p.u, &n_tensors);
    gradients(&p);
    for (int i = 0; i < n_tensors; i++) {
        double *way = numbers(t[i].count, 100 + (uint64_t)i);
        for (int one = 0; one < 2; one++) { /* all numbers at once, then a single one */
            for (size_t k = 0; one && k < t[i].count; k++)
                way[k] = k == t[i].count / 2;
            const double off = check_way(&p, p.values + t[i].start, p.grads + t[i].start, way, t[i].count);
            if (off > 1e-6)
                fail_msg("%s: gradient off by %g", t[i].name, off);
        }
        free(way);
    }
    double *way = numbers(p.n_in, 99);
    assert_true(check_way(&p, p.x, p.dx, way, p.n_in) < 1e-6);
    free(way);
    problem_free(&p);
}

static void test_gradients_image(void **state)
{
    (void)state;
    check_gradients(&small);
    struct unet_config c = small;
    c.n_classes = 0;
    c.head_width = 0;
    c.n_levels = 1;
    c.attention = 1;
    c.n_blocks = 2;
    check_gradients(&c);
}

static void test_gradients_points(void **state)
{
    (void)state;
    check_gradients(&points);
}

/* Parameters of the published networks, as recomputed from the official code: 60.004 M and 295.9 M. */
static void test_published_sizes(void **state)
{
    (void)state;
    const struct unet_config cifar = {.kind = UNET_IMAGE,
                                      .size = 32,
                                      .c_in = 3,
                                      .c_out = 3,
                                      .base = 256,
                                      .embed = 1024,
                                      .n_levels = 3,
                                      .multiplier = {1, 1, 1},
                                      .n_blocks = 3,
                                      .attention = 6,
                                      .groups = 32};
    const struct unet_config imagenet = {.kind = UNET_IMAGE,
                                         .size = 64,
                                         .c_in = 3,
                                         .c_out = 6,
                                         .n_classes = 1000,
                                         .base = 192,
                                         .embed = 768,
                                         .n_levels = 4,
                                         .multiplier = {1, 2, 3, 4},
                                         .n_blocks = 3,
                                         .attention = 14,
                                         .groups = 32,
                                         .head_width = 64};
    const struct unet_config patches = {.kind = UNET_IMAGE,
                                        .size = 16,
                                        .c_in = 3,
                                        .c_out = 3,
                                        .base = 16,
                                        .embed = 64,
                                        .n_levels = 2,
                                        .multiplier = {1, 2},
                                        .n_blocks = 1,
                                        .attention = 2,
                                        .groups = 8};
    assert_int_equal((unet_count(&patches) + 5000) / 10000, 21); /* 0.21 M, of the CPU-sized study */
    print_message("cifar %zu, imagenet %zu\n", unet_count(&cifar), unet_count(&imagenet));
    assert_int_equal((unet_count(&cifar) + 500) / 1000, 60004);
    assert_int_equal((unet_count(&imagenet) + 50000) / 100000, 2959);
}

static double worst_of(const float *got, const double *want, size_t n)
{
    double worst = 0, size = 0;
    for (size_t i = 0; i < n; i++) {
        worst = fmax(worst, fabs(got[i] - want[i]));
        size = fmax(size, fabs(want[i]));
    }
    return worst / (size + 1e-6);
}

static float *narrow(const double *v, size_t n)
{
    float *f = calloc(n, sizeof *f);
    assert_non_null(f);
    for (size_t i = 0; i < n; i++)
        f[i] = (float)v[i];
    return f;
}

/* The fast build does what the double one does, forward and backward, on channel counts of both its bodies. */
static void check_float(const struct unet_config *c)
{
    struct err e = {0};
    struct problem p = problem_new(c);
    for (size_t i = 0; i < p.n_values; i++)
        p.values[i] = (float)(0.3 * p.values[i]);
    for (size_t i = 0; i < p.n_in; i++)
        p.x[i] = (float)p.x[i];
    struct unet *u = unet_create(c, N, true, &e);
    assert_non_null(u);
    float *values = narrow(p.values, p.n_values), *x = narrow(p.x, p.n_in), *dx = narrow(p.dx, p.n_in);
    float *grads = narrow(p.grads, p.n_values), *dy = calloc(p.n_out, sizeof *dy);
    gradients(&p);
    const double *want = unet64_forward(p.u, p.values, p.x, angle, label, N);
    const float *got = unet_forward(u, values, x, angle, label, N);
    assert_true(worst_of(got, want, p.n_out) < 1e-4);
    for (size_t i = 0; i < p.n_out; i++)
        dy[i] = (float)p.weight[i] + got[i];
    unet_backward(u, values, dy, grads, dx);
    assert_true(worst_of(dx, p.dx, p.n_in) < 1e-3);
    int n_tensors;
    const struct unet_tensor *t = unet64_tensors(p.u, &n_tensors);
    double all = 0;
    for (size_t i = 0; i < p.n_values; i++)
        all = fmax(all, fabs(p.grads[i]));
    for (int i = 0; i < n_tensors; i++)
        for (size_t k = t[i].start; k < t[i].start + t[i].count; k++)
            if (fabs(grads[k] - p.grads[k]) > 1e-4 * all)
                fail_msg("%s[%zu]: %g, not %g", t[i].name, k - t[i].start, (double)grads[k], p.grads[k]);
    unet_free(u);
    free(values);
    free(x);
    free(dx);
    free(grads);
    free(dy);
    problem_free(&p);
}

static void test_float_is_double(void **state)
{
    (void)state;
    struct unet_config wide = small;
    wide.base = 16;
    wide.embed = 16;
    wide.size = 8;
    wide.groups = 4;
    wide.head_width = 16;
    check_float(&small);
    check_float(&wide);
    check_float(&points);
}

/* Results depend neither on the number of threads nor on what an image is batched with. */
static void test_threads_and_batches(void **state)
{
    (void)state;
    struct err e = {0};
    const struct unet_config c = {.kind = UNET_IMAGE,
                                  .size = 8,
                                  .c_in = 3,
                                  .c_out = 3,
                                  .n_classes = 4,
                                  .base = 16,
                                  .embed = 32,
                                  .n_levels = 2,
                                  .multiplier = {1, 2},
                                  .n_blocks = 1,
                                  .attention = 2,
                                  .groups = 8};
    enum { MANY = 19 };
    const size_t n_values = unet_count(&c), n_x = (size_t)MANY * 8 * 8 * 3;
    double *wide = numbers(n_x, 7), *weights = numbers(n_values, 8), at[MANY];
    float *x = narrow(wide, n_x), *values = narrow(weights, n_values), *grads[2], *y[2];
    int labels[MANY];
    for (int i = 0; i < MANY; i++) {
        at[i] = 0.05 + 0.08 * i;
        labels[i] = i % 4;
    }
    for (size_t i = 0; i < n_values; i++)
        values[i] *= 0.3f;
    const int threads = omp_get_max_threads();
    for (int k = 0; k < 2; k++) {
        omp_set_num_threads(k ? 3 : 1);
        struct unet *u = unet_create(&c, MANY, true, &e);
        grads[k] = calloc(n_values, sizeof **grads);
        y[k] = calloc(n_x, sizeof **y);
        memcpy(y[k], unet_forward(u, values, x, at, labels, MANY), n_x * sizeof **y);
        unet_backward(u, values, y[k], grads[k], NULL);
        const float *alone = unet_forward(u, values, x + 5 * 192, at + 5, labels + 5, 1);
        for (int i = 0; i < 192; i++)
            assert_true(fabsf(alone[i] - y[k][5 * 192 + i]) < 1e-5f);
        unet_free(u);
    }
    omp_set_num_threads(threads);
    assert_memory_equal(y[0], y[1], n_x * sizeof **y);
    assert_memory_equal(grads[0], grads[1], n_values * sizeof **grads);
    for (int k = 0; k < 2; k++) {
        free(grads[k]);
        free(y[k]);
    }
    free(wide);
    free(weights);
    free(x);
    free(values);
}

/* A new network's branches are silent: what comes out is (almost) nothing, and the draw is the seed's. */
static void test_init(void **state)
{
    (void)state;
    struct err e = {0};
    struct unet *u = unet_create(&small, N, false, &e);
    const size_t n = unet_count(&small);
    float *a = calloc(n, sizeof *a), *b = calloc(n, sizeof *b);
    double *wide = numbers((size_t)N * 16 * 3, 2);
    float *x = narrow(wide, (size_t)N * 16 * 3);
    unet_init(u, 1, a);
    unet_init(u, 1, b);
    assert_memory_equal(a, b, n * sizeof *a);
    const float *y = unet_forward(u, a, x, angle, label, N);
    for (int i = 0; i < N * 16 * 2; i++)
        assert_true(fabsf(y[i]) < 1e-3f);
    unet_init(u, 2, b);
    assert_memory_not_equal(a, b, n * sizeof *a);
    unet_free(u);
    free(a);
    free(b);
    free(x);
    free(wide);
}

static void test_refusals(void **state)
{
    (void)state;
    struct err e = {0};
    struct unet_config c = small;
    c.size = 5;
    assert_null(unet_create(&c, 1, false, &e));
    assert_int_equal(e.code, ERR_USAGE);
    assert_non_null(strstr(e.msg, "multiples of 2"));
    c = small;
    c.groups = 3;
    assert_null(unet_create(&c, 1, false, &e));
    c = small;
    c.c_in = 0;
    assert_null(unet_create(&c, 1, false, &e));
    c = points;
    c.size = 8;
    assert_null(unet_create(&c, 1, false, &e));
    assert_int_equal(unet_count(&c), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gradients_image),
        cmocka_unit_test(test_gradients_points),
        cmocka_unit_test(test_published_sizes),
        cmocka_unit_test(test_float_is_double),
        cmocka_unit_test(test_threads_and_batches),
        cmocka_unit_test(test_init),
        cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
