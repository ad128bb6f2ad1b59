/* SPDX-License-Identifier: Apache-2.0
 *
 * test_extraction.c - direct extraction: its parts against functions whose corners and jumps are known by hand, whole
 * runs against the networks they attack, on fresh inputs, and the ways in which a run must end. */
#include "models/learn/extraction_parts.h"

#include "models/base/file.h"

#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static void near(double got, double want, double tolerance)
{
    if (!(fabs(got - want) <= tolerance))
        fail_msg("got %.17g, want %.17g within %g", got, want, tolerance);
}

/* A piecewise linear function of one variable: slope 0.7 and a corner of +1 at each place. */
struct bends {
    int n;
    double at[4];
    int64_t asked;
};

static bool bends_answer(void *ctx, const double *x, double *y, struct err *e)
{
    struct bends *b = ctx;
    (void)e;
    b->asked++;
    y[0] = 0.7 * x[0] + 0.3;
    for (int i = 0; i < b->n; i++)
        y[0] += fmax(0, x[0] - b->at[i]);
    return true;
}

static bool tanh_answer(void *ctx, const double *x, double *y, struct err *e)
{
    (void)ctx, (void)e;
    y[0] = tanh(x[0]) + 0.5 * tanh(x[1] - 0.3);
    return true;
}

static int by_value(const void *pa, const void *pb)
{
    const double a = *(const double *)pa, b = *(const double *)pb;
    return (a > b) - (a < b);
}

/* Corners found on [low, high], ascending. */
static int corners_of(struct bends *b, double low, double high, double *out)
{
    const struct extraction_oracle oracle = {.d = 1, .k = 1, .answer = bends_answer, .ctx = b};
    const struct extraction_options o = {.max_queries = 100000, .max_seconds = 60, .floor = 1e-3, .seed = 1};
    struct extraction_copy copy = {0};
    struct extraction_state *s = calloc(1, sizeof *s);
    const double u = 0, v = 1;
    struct err e = {0};
    int n = 0;
    assert_non_null(s);
    s->oracle = &oracle;
    s->o = &o;
    s->copy = &copy;
    assert_true(extraction_state_open(s, &e));
    assert_true(extraction_corners(s, &u, &v, low, high, &n, &e));
    assert_int_equal(copy.n_queries, b->asked);
    memcpy(out, s->corner, (size_t)n * sizeof *out);
    qsort(out, (size_t)n, sizeof *out, by_value);
    extraction_state_close(s);
    free(s);
    return n;
}

static void test_corner(void **state)
{
    (void)state;
    double t[EXTRACTION_MAX_CORNERS];
    struct bends one = {.n = 1, .at = {0.1}};
    assert_int_equal(corners_of(&one, -1, 1, t), 1);
    near(t[0], 0.1, 1e-14);
    assert_true(one.asked <= 7); /* two ends, three inner points, the corner: no cut was needed */
}

/* A corner inside an end quarter makes the end lines meet at the quarter point. That is no corner. */
static void test_false_quarter(void **state)
{
    (void)state;
    double t[EXTRACTION_MAX_CORNERS];
    struct bends early = {.n = 1, .at = {-0.8}};
    assert_int_equal(corners_of(&early, -1, 1, t), 1);
    near(t[0], -0.8, 1e-13);
    struct bends late = {.n = 1, .at = {0.93}};
    assert_int_equal(corners_of(&late, -1, 1, t), 1);
    near(t[0], 0.93, 1e-13);
}

static void test_two_near_corners(void **state)
{
    (void)state;
    double t[EXTRACTION_MAX_CORNERS];
    struct bends two = {.n = 2, .at = {3.2, 3.201}};
    assert_int_equal(corners_of(&two, -30, 30, t), 2);
    near(t[0], 3.2, 1e-10);
    near(t[1], 3.201, 1e-10);
    struct bends none = {.n = 0};
    assert_int_equal(corners_of(&none, -30, 30, t), 0);
    assert_int_equal(none.asked, 5);
}

/* The jump at a unit's corner is its row and its weights above, whatever side the line comes from. */
static void test_jump(void **state)
{
    (void)state;
    enum { D = 6, H = 5, K = 3 };
    struct extraction_net net;
    struct extraction_service service;
    struct err e = {0};
    assert_true(extraction_net_random(&net, D, H, K, 4, &e));
    assert_true(extraction_service_open(&service, &net, false, false, -1, &e));
    const struct extraction_oracle oracle = extraction_service_oracle(&service);
    const struct extraction_options o = {.max_queries = 100000, .max_seconds = 60, .floor = 1e-3, .seed = 1};
    struct extraction_copy copy = {0};
    struct extraction_state *s = calloc(1, sizeof *s);
    assert_non_null(s);
    s->oracle = &oracle;
    s->o = &o;
    s->copy = &copy;
    assert_true(extraction_state_open(s, &e));
    double row[D], at[D], jump[K], u[D] = {0.3, -0.2, 0.5, 0.1, -0.7, 0.4};
    struct extraction_unit unit = {.row = row, .at = at, .jump = jump};
    for (int i = 0; i < H; i++)
        for (int side = -1; side <= 1; side += 2) {
            const double *a = net.a0 + i * D;
            double length = 0, v[D], along = 0, off = net.b0[i];
            bool found;
            for (int j = 0; j < D; j++)
                length += a[j] * a[j];
            length = sqrt(length);
            for (int j = 0; j < D; j++) {
                v[j] = side * a[j] / length;
                along += a[j] * v[j];
                off += a[j] * u[j];
            }
            assert_true(extraction_measure(s, u, v, -off / along, &unit, &found, &e));
            assert_true(found);
            double sign = 0;
            for (int j = 0; j < D; j++)
                sign += row[j] * a[j];
            sign = sign < 0 ? -1 : 1;
            for (int j = 0; j < D; j++)
                near(row[j], sign * a[j] / length, 1e-10);
            near(unit.bias, sign * net.b0[i] / length, 1e-10);
            for (int c = 0; c < K; c++) /* relu bends upwards by alpha whatever the sign of its row */
                near(jump[c], net.a1[c * H + i] * length, 1e-10);
        }
    extraction_state_close(s);
    free(s);
    extraction_service_close(&service);
    extraction_net_free(&net);
}

/* relu(-z) = relu(z) - z: any pattern of wrong signs shows in the linear part, and is found. */
static void test_signs(void **state)
{
    (void)state;
    enum { D = 3, K = 2, M = 4 };
    struct rng r;
    rng_init(&r, 8, RNG_METHOD, 0);
    for (int pattern = 0; pattern < 1 << M; pattern++) {
        double row[M * D], top[K * M], linear[K * D] = {0};
        int flip[M];
        for (int i = 0; i < M * D; i++)
            row[i] = rng_normal(&r);
        for (int i = 0; i < K * M; i++)
            top[i] = rng_normal(&r);
        for (int u = 0; u < M; u++)
            for (int o = 0; (pattern >> u & 1) && o < K; o++)
                for (int j = 0; j < D; j++)
                    linear[o * D + j] -= top[o * M + u] * row[u * D + j];
        assert_true(extraction_signs(row, top, linear, D, K, M, 1e-6, flip));
        for (int u = 0; u < M; u++)
            assert_int_equal(flip[u], pattern >> u & 1);
        linear[1] += 0.3; /* a linear part of another origin is no pattern of signs */
        assert_false(extraction_signs(row, top, linear, D, K, M, 1e-6, flip));
    }
    int flip[K * D + 1];
    double zero[(K * D + 1) * D] = {0};
    assert_false(
        extraction_signs(zero, zero, zero, D, K, K * D + 1, 1e-6, flip)); /* more units than equations */
}

struct outcome {
    struct extraction_likeness like;
    bool ok, is_signed;
    int m;
    int64_t queries;
    struct err e;
};

static struct outcome attack(const struct extraction_net *net, int h, bool probabilities, bool single,
                             int decimals, uint64_t seed, int64_t max_queries)
{
    struct outcome r = {0};
    struct extraction_service service;
    struct extraction_copy copy;
    struct extraction_options o = {.h = h, .max_queries = max_queries, .max_seconds = 120, .seed = seed};
    assert_true(extraction_service_open(&service, net, probabilities, single, decimals, &r.e));
    extraction_service_precision(&service, &o);
    const struct extraction_oracle oracle = extraction_service_oracle(&service);
    r.ok = extraction_run(&oracle, &o, &copy, NULL, &r.e);
    assert_int_equal(copy.n_queries, service.n_answered);
    assert_true(copy.n_queries <= max_queries);
    r.m = copy.n_found;
    r.queries = copy.n_queries;
    r.is_signed = copy.is_signed;
    if (r.ok)
        assert_true(extraction_compare(net, &copy, 2000, 77, &r.like, &r.e));
    extraction_copy_free(&copy);
    extraction_service_close(&service);
    return r;
}

/* The rows that the procedure was accepted by: all units, 1e-6, so many queries a parameter. */
static void accept(int d, int h, int k, int n_seeds, int queries_each)
{
    const int n_parameters = d * h + h + h * k + k;
    for (int seed = 1; seed <= n_seeds; seed++) {
        struct extraction_net net;
        struct err e = {0};
        assert_true(extraction_net_random(&net, d, h, k, (uint64_t)seed, &e));
        struct outcome r = attack(&net, h, false, false, -1, (uint64_t)seed, 1000000);
        if (!r.ok)
            fail_msg("%d-%d-%d, seed %d: %s", d, h, k, seed, r.e.msg);
        assert_int_equal(r.m, h);
        near(r.like.max, 0, 1e-6);
        near(r.like.agreement, 1, 0);
        if (r.queries > (int64_t)queries_each * n_parameters)
            fail_msg("%d-%d-%d, seed %d: %lld queries", d, h, k, seed, (long long)r.queries);
        assert_true(r.is_signed);
        extraction_net_free(&net);
    }
}

static void test_acceptance(void **state)
{
    (void)state;
    accept(10, 8, 1, 20, 30);
    accept(32, 16, 4, 20, 8);
    accept(64, 64, 4, 4, 10);
}

/* The same function written with other units' order and scale, and units of the width unknown. */
static void test_invariance(void **state)
{
    (void)state;
    enum { D = 12, H = 10, K = 3 };
    struct extraction_net net, other;
    struct err e = {0};
    assert_true(extraction_net_random(&net, D, H, K, 6, &e));
    assert_true(extraction_net_random(&other, D, H, K, 7, &e));
    memcpy(other.b1, net.b1, sizeof(double) * K);
    for (int i = 0; i < H; i++) {
        const int from = (3 * i + 1) % H;
        const double scale = 0.2 + i;
        for (int j = 0; j < D; j++)
            other.a0[i * D + j] = scale * net.a0[from * D + j];
        other.b0[i] = scale * net.b0[from];
        for (int o = 0; o < K; o++)
            other.a1[o * H + i] = net.a1[o * H + from] / scale;
    }
    struct outcome a = attack(&net, 0, false, false, -1, 1, 200000),
                   b = attack(&other, 0, false, false, -1, 1, 200000);
    assert_true(a.ok && b.ok && a.is_signed && b.is_signed);
    assert_int_equal(a.m, H);
    assert_int_equal(b.m, H);
    near(a.like.max, 0, 1e-7);
    near(b.like.max, 0, 1e-7);
    extraction_net_free(&net);
    extraction_net_free(&other);
}

/* More units than the linear part can tell signs of: the skip form is right, and says that it is one. */
static void test_skip_form(void **state)
{
    (void)state;
    struct extraction_net net;
    struct err e = {0};
    assert_true(extraction_net_random(&net, 4, 16, 2, 2, &e));
    struct outcome r = attack(&net, 16, false, false, -1, 3, 100000);
    if (!r.ok)
        fail_msg("%s", r.e.msg);
    assert_false(r.is_signed);
    near(r.like.max, 0, 1e-6);
    extraction_net_free(&net);
}

/* What rounding does: within a factor of ten of what the procedure's authors' table shows. */
static void test_precision(void **state)
{
    (void)state;
    struct extraction_net net;
    struct err e = {0};
    assert_true(extraction_net_random(&net, 32, 16, 4, 1, &e));
    struct outcome exact = attack(&net, 16, true, false, -1, 1, 100000);
    assert_true(exact.ok);
    near(exact.like.max, 0, 4e-8);
    struct outcome nine = attack(&net, 16, false, false, 9, 1, 100000);
    if (!nine.ok)
        fail_msg("nine decimals: %s", nine.e.msg);
    assert_true(nine.like.max > 1e-9 && nine.like.max < 2e-5);
    struct outcome single = attack(&net, 16, false, true, -1, 1, 100000);
    if (!single.ok)
        fail_msg("float32: %s", single.e.msg);
    assert_true(single.like.max > 1e-6 && single.like.max < 2e-2 && single.like.agreement > 0.99);
    struct outcome three = attack(&net, 16, true, false, 3, 1, 30000);
    assert_true(!three.ok || three.like.agreement < 0.95); /* three decimals of probabilities stop it */
    extraction_net_free(&net);
}

static volatile sig_atomic_t stop;

static void test_ends(void **state)
{
    (void)state;
    struct extraction_net net;
    struct extraction_copy copy;
    struct err e = {0};
    assert_true(extraction_net_random(&net, 10, 8, 2, 1, &e));
    struct outcome r = attack(&net, 8, false, false, -1, 1, 100);
    assert_false(r.ok);
    assert_int_equal(r.e.code, ERR_RESOURCE);
    assert_non_null(strstr(r.e.msg, "budget of 100 queries"));
    r = attack(&net, 9, false, false, -1, 1, 20000); /* a unit that is not there is not searched for ever */
    assert_false(r.ok);
    assert_int_equal(r.e.code, ERR_RESOURCE);
    assert_int_equal(r.m, 8);
    memset(net.a0, 0, sizeof *net.a0 * 10); /* one unit that never switches, one output that nothing moves */
    r = attack(&net, 0, false, false, -1, 1, 20000);
    assert_true(r.ok);
    assert_int_equal(r.m, 7);
    near(r.like.max, 0, 1e-7);

    const struct extraction_oracle smooth = {.d = 2, .k = 1, .answer = tanh_answer};
    struct extraction_options o = {
        .h = 2, .max_queries = 1000000, .max_seconds = 60, .floor = 1e-3, .seed = 1};
    assert_false(extraction_run(&smooth, &o, &copy, NULL, &e));
    assert_int_equal(e.code, ERR_INPUT);
    assert_non_null(strstr(e.msg, "ReLU"));
    assert_true(copy.n_queries < 300000);
    extraction_copy_free(&copy);

    o.max_seconds = 1e-9;
    assert_false(extraction_run(&smooth, &o, &copy, NULL, &e));
    assert_int_equal(e.code, ERR_RESOURCE);
    extraction_copy_free(&copy);
    o.max_seconds = 60;
    stop = 1;
    const struct progress p = {.stop = &stop};
    assert_false(extraction_run(&smooth, &o, &copy, &p, &e));
    assert_int_equal(e.code, ERR_INTERRUPTED);
    extraction_copy_free(&copy);
    extraction_net_free(&net);
}

static void test_files(void **state)
{
    (void)state;
    char path[64];
    struct extraction_net net;
    struct err e = {0};
    double y[2];
    const double x[2] = {1, -2};
    snprintf(path, sizeof path, "test_extraction_%ld.json", (long)getpid());
    assert_true(file_write_text(path,
                                "{\"activation\":\"relu\",\"a0\":[[1,2],[3,-1],[0,1]],\"b0\":[4,0.5,0],"
                                "\"a1\":[[1,2,3],[-1,1,7]],\"b1\":[0.25,-1]}",
                                &e));
    assert_true(extraction_net_read(&net, path, &e));
    extraction_net_logits(&net, x, y); /* z = 1, 5.5, -2 */
    near(y[0], 1 + 11 + 0.25, 1e-15);
    near(y[1], -1 + 5.5 - 1, 1e-15);
    extraction_net_free(&net);
    assert_true(file_write_text(
        path, "{\"activation\":\"tanh\",\"a0\":[[1]],\"b0\":[4],\"a1\":[[1]],\"b1\":[0]}", &e));
    assert_false(extraction_net_read(&net, path, &e));
    assert_int_equal(e.code, ERR_INPUT);
    assert_non_null(strstr(e.msg, "tanh"));
    assert_true(file_write_text(
        path, "{\"activation\":\"relu\",\"a0\":[[1,2]],\"b0\":[4,4],\"a1\":[[1]],\"b1\":[0]}", &e));
    assert_false(extraction_net_read(&net, path, &e));
    assert_non_null(strstr(e.msg, "b0 [units]"));
    unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_corner),
        cmocka_unit_test(test_false_quarter),
        cmocka_unit_test(test_two_near_corners),
        cmocka_unit_test(test_jump),
        cmocka_unit_test(test_signs),
        cmocka_unit_test(test_acceptance),
        cmocka_unit_test(test_invariance),
        cmocka_unit_test(test_skip_form),
        cmocka_unit_test(test_precision),
        cmocka_unit_test(test_ends),
        cmocka_unit_test(test_files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
