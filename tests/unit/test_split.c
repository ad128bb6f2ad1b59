/* SPDX-License-Identifier: Apache-2.0
 *
 * test_split.c - the spatial split by brute force: components against a plain flood fill, the buffer against
 * all pairs, shares against counts, and the refusals. */
#include "models/base/rng.h"
#include "models/data/imageset.h"
#include "models/data/split.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

enum { MAX_N = 20000 };

static const struct split_options usual = {
    .link_m = 77, .block_m = 100, .buffer_m = 45, .test_share = 0.3, .random = false, .seed = 1};

static struct scene {
    size_t n;
    double x[MAX_N], y[MAX_N];
    int16_t level[MAX_N];
    int32_t block[MAX_N];
    uint8_t split[MAX_N];
} scene;

static void add(double x, double y, int level)
{
    assert_true(scene.n < MAX_N);
    scene.x[scene.n] = x;
    scene.y[scene.n] = y;
    scene.level[scene.n++] = (int16_t)level;
}

/* A town of n buildings over side metres, damage along a diagonal track as a tornado leaves it. */
static void make_town(size_t n, double side, uint64_t seed)
{
    struct rng r;
    rng_init(&r, seed, RNG_METHOD, 0);
    scene.n = 0;
    for (size_t i = 0; i < n; i++) {
        double x = side * rng_uniform(&r), y = side * rng_uniform(&r);
        double from_track = fabs(x - y) / side + 0.05 * rng_normal(&r);
        add(x, y,
            from_track < 0.15   ? 3
            : from_track < 0.25 ? 2
            : from_track < 0.35 ? 1
            : rng_below(&r, 50) ? 0
                                : -1);
    }
}

/* Villages of random size, well apart from each other. */
static void make_villages(int n_villages, uint64_t seed)
{
    struct rng r;
    rng_init(&r, seed, RNG_METHOD, 1);
    scene.n = 0;
    for (int v = 0; v < n_villages; v++) {
        int n = 1 + (int)rng_below(&r, 30), hit = (int)rng_below(&r, 4);
        double x = v % 6 * 1000.0, y = v / 6 * 1000.0;
        for (int i = 0; i < n; i++)
            add(x + 60 * rng_normal(&r), y + 60 * rng_normal(&r), rng_below(&r, 4) ? hit : 0);
    }
}

static double distance(size_t i, size_t j)
{
    return hypot(scene.x[i] - scene.x[j], scene.y[i] - scene.y[j]);
}

static bool run(const struct split_options *o, struct split_report *report, struct err *e)
{
    memset(scene.block, 0xEE, sizeof scene.block);
    memset(scene.split, 0xEE, sizeof scene.split);
    return split_blocks(scene.x, scene.y, scene.level, scene.n, o, scene.block, scene.split, report, e);
}

static void must_run(const struct split_options *o, struct split_report *report)
{
    struct err e = {0};
    if (!run(o, report, &e))
        fail_msg("split failed: %s", e.msg);
}

static void check_counts(const struct split_report *r)
{
    size_t n[3] = {0};
    int32_t highest = -1;
    for (size_t i = 0; i < scene.n; i++) {
        assert_in_range(scene.split[i], 0, 2);
        n[scene.split[i]]++;
        assert_true(scene.block[i] >= 0 && scene.block[i] <= highest + 1); /* numbered by first item */
        highest = scene.block[i] > highest ? scene.block[i] : highest;
    }
    assert_int_equal(n[IMAGESET_TRAIN], r->n_train);
    assert_int_equal(n[IMAGESET_TEST], r->n_test);
    assert_int_equal(n[IMAGESET_BUFFER], r->n_buffer);
    assert_int_equal(highest + 1, r->n_blocks);
}

/* Invariant 2, and its reverse: what was dropped had to be. */
static void check_buffer(double buffer_m)
{
    for (size_t i = 0; i < scene.n; i++) {
        bool near_test = false;
        for (size_t j = 0; j < scene.n && scene.split[i] != IMAGESET_TEST; j++)
            near_test |= scene.split[j] == IMAGESET_TEST && distance(i, j) <= buffer_m;
        if (scene.split[i] != IMAGESET_TEST)
            assert_int_equal(scene.split[i], near_test ? IMAGESET_BUFFER : IMAGESET_TRAIN);
    }
}

static void check_whole_blocks(void)
{
    static uint8_t test[MAX_N], other[MAX_N];
    memset(test, 0, sizeof test);
    memset(other, 0, sizeof other);
    for (size_t i = 0; i < scene.n; i++)
        (scene.split[i] == IMAGESET_TEST ? test : other)[scene.block[i]] = 1;
    for (size_t b = 0; b < scene.n; b++)
        assert_false(test[b] && other[b]);
}

/* Flood fill over all pairs. */
static void check_components(double link_m)
{
    static int32_t own[MAX_N];
    static size_t stack[MAX_N];
    int32_t n = 0;
    memset(own, 0xFF, sizeof own);
    for (size_t s = 0; s < scene.n; s++) {
        size_t top = 0;
        if (own[s] >= 0)
            continue;
        own[s] = n;
        stack[top++] = s;
        while (top) {
            size_t i = stack[--top];
            for (size_t j = 0; j < scene.n; j++)
                if (own[j] < 0 && distance(i, j) <= link_m) {
                    own[j] = n;
                    stack[top++] = j;
                }
        }
        n++;
    }
    for (size_t i = 0; i < scene.n; i++)
        assert_int_equal(scene.block[i], own[i]);
}

static void test_components(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 12; seed++) {
        struct split_options o = usual;
        struct split_report r;
        o.seed = seed;
        o.buffer_m = seed % 2 ? 45 : 150; /* wider than the link: components alone do not keep it */
        make_villages(30, seed);
        must_run(&o, &r);
        assert_true(r.components);
        check_counts(&r);
        check_components(o.link_m);
        check_whole_blocks();
        check_buffer(o.buffer_m);
        assert_in_range(r.n_test * 100 / scene.n, 25, 35);
    }
}

/* Few quarters and many farms, as a fire's tiles have them: every size of component must come to the test about
 * as often as the share says, or the test set would show nothing but farms. */
static void test_large_components_are_tested_too(void **state)
{
    static const int size[] = {120, 80, 60, 40, 30};
    enum { N_QUARTERS = 5, N_FARMS = 90, N_SEEDS = 200 };
    int in_test[N_QUARTERS] = {0}, farms = 0;
    (void)state;
    scene.n = 0;
    for (int q = 0; q < N_QUARTERS; q++)
        for (int i = 0; i < size[q]; i++)
            add(40.0 * (i % 10), 5000.0 * q + 40.0 * (i / 10), i % 4 ? 0 : 3);
    for (int f = 0; f < N_FARMS; f++)
        add(5000.0 + 500.0 * (f % 10), 500.0 * (f / 10), f % 3 ? 0 : 3);
    for (int seed = 1; seed <= N_SEEDS; seed++) {
        struct split_options o = usual;
        struct split_report r;
        o.seed = (uint64_t)seed;
        must_run(&o, &r);
        assert_true(r.components);
        assert_in_range(r.n_test * 100 / scene.n, 25, 35);
        for (size_t i = 0, q = 0; q < N_QUARTERS; i += (size_t)size[q++])
            in_test[q] += scene.split[i] == IMAGESET_TEST;
        for (size_t i = scene.n - N_FARMS; i < scene.n; i++)
            farms += scene.split[i] == IMAGESET_TEST;
    }
    for (int q = 0; q < N_QUARTERS; q++) {
        print_message("quarter of %d: in the test under %d of %d seeds\n", size[q], in_test[q], N_SEEDS);
        assert_in_range(in_test[q] * 100 / N_SEEDS, 15, 55);
    }
    assert_in_range(farms * 100 / (N_FARMS * N_SEEDS), 20, 40);
}

/* Sparse points whose component structure is intricate. */
static void test_components_on_random_points(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 10; seed++) {
        struct split_options o = usual;
        struct split_report r;
        make_town(600, 1900, seed);
        must_run(&o, &r);
        if (r.components)
            check_components(o.link_m);
        make_town(600, 2400, seed);
        must_run(&o, &r);
        assert_true(r.components);
        check_components(o.link_m);
        check_buffer(o.buffer_m);
    }
}

static void test_link_distance_is_closed(void **state)
{
    struct split_options o = usual;
    struct split_report r;
    (void)state;
    scene.n = 0;
    for (int i = 0; i < 20; i++) { /* pairs exactly 77 m apart along one axis, or a little more */
        add(1000.0 * i, 0, i % 2);
        add(1000.0 * i, i < 10 ? 77.0 : 77.001, i % 2);
    }
    must_run(&o, &r);
    assert_true(r.components);
    assert_int_equal(r.n_blocks, 10 + 20);
}

static void test_contiguous_town(void **state)
{
    double dropped = 0, worst_share = 0, level_gap = 0;
    (void)state;
    for (uint64_t seed = 0; seed < 10; seed++) {
        struct split_options o = usual;
        struct split_report r;
        size_t have[4] = {0}, test[4] = {0};
        o.seed = seed;
        make_town(1500, 1200, seed / 2);
        must_run(&o, &r);
        assert_false(r.components);
        check_counts(&r);
        check_whole_blocks();
        check_buffer(o.buffer_m);
        for (size_t i = 0; i < scene.n; i++) /* cells are block_m wide at most */
            for (size_t j = 0; j < i; j += 7)
                if (scene.block[i] == scene.block[j])
                    assert_true(fabs(scene.x[i] - scene.x[j]) <= 100 && fabs(scene.y[i] - scene.y[j]) <= 100);
        for (size_t i = 0; i < scene.n; i++)
            if (scene.level[i] >= 0) {
                have[scene.level[i]]++;
                test[scene.level[i]] += scene.split[i] == IMAGESET_TEST;
            }
        for (int c = 0; c < 4; c++)
            level_gap = fmax(level_gap, fabs((double)test[c] / (double)have[c] - 0.3));
        worst_share = fmax(worst_share, fabs((double)r.n_test / (double)scene.n - 0.3));
        dropped += (double)r.n_buffer / (double)scene.n / 10;
    }
    print_message("contiguous town: test share off by %.3f at worst, of a level %.3f, dropped %.3f\n",
                  worst_share, level_gap, dropped);
    assert_true(worst_share < 0.04);
    assert_true(level_gap < 0.12);
    assert_true(dropped < 0.08); /* cells chosen without regard to the buffer lose several times that */
}

/* A town beside many hamlets: components there are, but one of them is most of the scene. */
static void test_one_large_component(void **state)
{
    struct split_report r;
    (void)state;
    for (int n_town = 15; n_town <= 25; n_town += 10) {
        scene.n = 0;
        for (int i = 0; i < n_town; i++)
            add(50.0 * i, 0, i % 2);
        for (int i = 0; i < 20; i++)
            add(5000.0 + 500.0 * i, 0, i % 2);
        must_run(&usual, &r);
        assert_int_equal(r.components, n_town < 20);
    }
    scene.n = 0; /* seven components are too few */
    for (int i = 0; i < 70; i++)
        add(500.0 * (i % 7) + 10.0 * (i / 7.0), 0, i % 2);
    must_run(&usual, &r);
    assert_false(r.components);
}

static void test_random_when_asked(void **state)
{
    struct split_options o = usual;
    struct split_report r;
    size_t have[5] = {0}, test[5] = {0};
    (void)state;
    o.random = true;
    make_town(1000, 900, 3);
    must_run(&o, &r);
    check_counts(&r);
    assert_int_equal(r.n_buffer, 0);
    for (size_t i = 0; i < scene.n; i++) {
        have[scene.level[i] + 1]++;
        test[scene.level[i] + 1] += scene.split[i] == IMAGESET_TEST;
    }
    for (int c = 0; c < 5; c++)
        assert_true(fabs((double)test[c] - 0.3 * (double)have[c]) <= 0.5);
}

static void test_seed_decides(void **state)
{
    static uint8_t first[MAX_N];
    struct split_options o = usual;
    struct split_report r;
    (void)state;
    make_town(1500, 1200, 0);
    must_run(&o, &r);
    memcpy(first, scene.split, sizeof first);
    must_run(&o, &r);
    assert_memory_equal(first, scene.split, scene.n);
    o.seed = 2;
    must_run(&o, &r);
    assert_true(memcmp(first, scene.split, scene.n) != 0);
}

static void test_small_and_odd(void **state)
{
    struct split_options o = usual;
    struct split_report r;
    (void)state;
    scene.n = 0;
    add(0, 0, 0);
    add(500, 0, 1);
    must_run(&o, &r);
    assert_int_equal(r.n_test, 1);
    assert_int_equal(r.n_train, 1);

    scene.n = 0; /* many at one spot, and some elsewhere */
    for (int i = 0; i < 3000; i++)
        add(i % 3 * 400.0, 0, i % 7 - 1);
    must_run(&o, &r);
    check_counts(&r);
    check_buffer(o.buffer_m);

    o.buffer_m = 0;
    make_town(300, 600, 4);
    must_run(&o, &r);
    assert_int_equal(r.n_buffer, 0);

    scene.n = 0; /* far from the origin, in UTM coordinates, with negative ones beside */
    for (int i = 0; i < 200; i++)
        add(-500.0 + i % 20 * 90.0, 4100000.0 + i / 20 * 90.0, i % 2);
    o.buffer_m = 45;
    must_run(&o, &r);
    check_buffer(45);
}

static void refuses(const struct split_options *o, enum err_code code, const char *word)
{
    struct split_report r;
    struct err e = {0};
    assert_false(run(o, &r, &e));
    assert_int_equal(e.code, code);
    assert_non_null(strstr(e.msg, word));
}

static void test_refusals(void **state)
{
    struct split_options o = usual;
    (void)state;
    scene.n = 0;
    refuses(&o, ERR_INPUT, "at least two");
    add(1, 1, 0);
    refuses(&o, ERR_INPUT, "at least two");
    add(2, 2, 0);
    refuses(&o, ERR_INPUT, "one block");
    make_town(200, 150, 1);
    o.buffer_m = 400;
    refuses(&o, ERR_INPUT, "smaller buffer");
    o = usual;
    scene.x[7] = NAN;
    refuses(&o, ERR_INPUT, "building 8");
    scene.x[7] = 1e12;
    refuses(&o, ERR_INPUT, "building 8");
    make_town(200, 800, 1);
    o.test_share = 1.0;
    refuses(&o, ERR_USAGE, "test share");
    o = usual;
    o.link_m = 0;
    refuses(&o, ERR_USAGE, "positive");
    o = usual;
    o.link_m = 1e-9;
    refuses(&o, ERR_USAGE, "too small");
}

static void test_scale(void **state)
{
    static const double sides[] = {3000, 12000, 300};
    (void)state;
    for (size_t k = 0; k < sizeof sides / sizeof *sides; k++) {
        struct split_options o = usual;
        struct split_report r;
        clock_t t = clock();
        make_town(MAX_N, sides[k], 5);
        must_run(&o, &r);
        check_counts(&r);
        double s = (double)(clock() - t) / CLOCKS_PER_SEC;
        print_message("%d buildings over %.0f m: %d blocks (%s), %zu test, %zu dropped, %.3f s\n", MAX_N,
                      sides[k], r.n_blocks, r.components ? "components" : "cells", r.n_test, r.n_buffer, s);
        assert_true(s < 20.0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_components),
        cmocka_unit_test(test_large_components_are_tested_too),
        cmocka_unit_test(test_components_on_random_points),
        cmocka_unit_test(test_link_distance_is_closed),
        cmocka_unit_test(test_contiguous_town),
        cmocka_unit_test(test_one_large_component),
        cmocka_unit_test(test_random_when_asked),
        cmocka_unit_test(test_seed_decides),
        cmocka_unit_test(test_small_and_odd),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_scale),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
