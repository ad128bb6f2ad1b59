/* SPDX-License-Identifier: Apache-2.0
 *
 * test_active.c - queries: scores by hand, quotas, clusters a blind man sees, density of both signs,
 * distances between picks, uniform random draws by chi-square, no item twice, same picks for same seeds on
 * any number of threads, and .aug changing what it must change. */
#include "models/learn/active.h"
#include "models/learn/train.h"

#include <math.h>
#include <omp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define assert_near(got, want, tolerance) check_near((double)(got), (double)(want), tolerance, #got, __LINE__)

static void check_near(double got, double want, double tolerance, const char *what, int line)
{
    if (!(fabs(got - want) <= tolerance))
        fail_msg("line %d: %s is %.9g, wanted %.9g within %g", line, what, got, want, tolerance);
}

static struct active_strategy strategy(const char *text)
{
    struct active_strategy s;
    struct err e = {0};
    if (!active_parse(text, &s, &e))
        fail_msg("%s", e.msg);
    return s;
}

/* ---- names and scores ---- */

static void test_names(void **state)
{
    static const char *const good[] = {"max",     "diff2.aug+kmeans", "entropy+density", "max.aug+outlier",
                                       "std.aug", "random",           "std+kmeans"};
    static const char *const bad[] = {"",
                                      "maximum",
                                      "max.augment",
                                      "diff2+kmean",
                                      "random.aug",
                                      "random+kmeans",
                                      "std+density",
                                      "max+",
                                      "max.aug+direct+kmeans",
                                      "+kmeans"};
    struct active_strategy s;
    struct err e;
    char text[ACTIVE_TEXT_SIZE];
    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        s = strategy(good[i]);
        active_text(&s, text);
        assert_string_equal(text, good[i]);
    }
    s = strategy("diff2.aug+kmeans");
    assert_true(s.score == ACTIVE_DIFF2 && s.augmented && s.selection == ACTIVE_KMEANS);
    s = strategy("entropy+direct");
    assert_true(s.score == ACTIVE_ENTROPY && !s.augmented && s.selection == ACTIVE_DIRECT);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        e = (struct err){0};
        if (active_parse(bad[i], &s, &e))
            fail_msg("'%s' was taken for a strategy", bad[i]);
        assert_int_equal(e.code, ERR_USAGE);
    }
}

static void test_scores_by_hand(void **state)
{
    const float p[3] = {0.6f, 0.3f, 0.1f}, q[3] = {0.1f, 0.3f, 0.6f}, sure[2] = {0, 1},
                even[2] = {0.5f, 0.5f};
    (void)state;
    assert_near(active_confidence(ACTIVE_MAX, p, 3), 0.6, 1e-6);
    assert_near(active_confidence(ACTIVE_DIFF2, p, 3), 0.3, 1e-6);
    assert_near(active_confidence(ACTIVE_ENTROPY, p, 3), -0.89795, 1e-5);
    assert_near(active_confidence(ACTIVE_STD, p, 3), 0.20548, 1e-5);
    for (int s = ACTIVE_MAX; s <= ACTIVE_STD; s++) /* order of classes is nothing to them */
        assert_near(active_confidence((enum active_score)s, q, 3),
                    active_confidence((enum active_score)s, p, 3), 1e-7);
    assert_near(active_confidence(ACTIVE_ENTROPY, sure, 2), 0, 0);
    assert_near(active_confidence(ACTIVE_ENTROPY, even, 2), -M_LN2, 1e-7);
    assert_near(active_confidence(ACTIVE_DIFF2, sure, 2), 1, 0);
    assert_near(active_confidence(ACTIVE_STD, even, 2), 0, 0);
}

/* ---- quotas and clusters ---- */

static void test_quotas(void **state)
{
    size_t size[20], quota[20];
    struct rng r;
    (void)state;
    rng_init(&r, 1, RNG_QUERY, 0);
    active_quotas((size_t[]){50, 30, 20}, 3, 10, &r, quota);
    assert_memory_equal(quota, ((size_t[]){5, 3, 2}), sizeof(size_t) * 3);
    active_quotas((size_t[]){5, 5, 5, 1}, 4, 2, &r, quota); /* rounds to 1, 1, 1, 0: one too many */
    assert_int_equal(quota[0] + quota[1] + quota[2], 2);
    assert_int_equal(quota[3], 0);
    active_quotas((size_t[]){1, 1, 1, 1, 1, 1}, 6, 2, &r, quota); /* rounds to all 0: two too few */
    size_t sum = 0;
    for (int c = 0; c < 6; c++) {
        assert_true(quota[c] <= 1);
        sum += quota[c];
    }
    assert_int_equal(sum, 2);
    for (int k = 0; k < 500; k++) {
        const int n_clusters = 1 + (int)rng_below(&r, 20);
        size_t total = 0, taken = 0;
        for (int c = 0; c < n_clusters; c++)
            total += size[c] = rng_below(&r, 4) ? rng_below(&r, 60) : 0;
        const size_t n = rng_below(&r, (uint32_t)total + 1);
        active_quotas(size, n_clusters, n, &r, quota);
        for (int c = 0; c < n_clusters; c++) {
            assert_true(quota[c] <= size[c]);
            assert_true(fabs((double)quota[c] - (double)n * (double)size[c] / (total ? (double)total : 1)) <
                        12);
            taken += quota[c];
        }
        assert_int_equal(taken, n);
    }
}

/* Three clouds far apart come out whole; their names are free. */
static void test_kmeans_finds_clouds(void **state)
{
    enum { N = 300 };
    static float x[N * 2];
    int cluster[N];
    struct err e = {0};
    struct rng r;
    (void)state;
    rng_init(&r, 2, RNG_METHOD, 0);
    for (int i = 0; i < N; i++) {
        x[2 * i] = (float)(10 * (i % 3) + 0.5 * rng_normal(&r));
        x[2 * i + 1] = (float)(i % 3 == 1 ? 15 : 0) + (float)(0.5 * rng_normal(&r));
    }
    for (uint64_t seed = 0; seed < 20; seed++) {
        int name[3];
        assert_true(active_kmeans(x, N, 2, 3, seed, 0, cluster, &e));
        for (int k = 0; k < 3; k++)
            name[k] = cluster[k];
        assert_true(name[0] != name[1] && name[1] != name[2] && name[0] != name[2]);
        for (int i = 0; i < N; i++)
            assert_int_equal(cluster[i], name[i % 3]);
    }
    /* as many clusters as items, and nothing but equal items */
    assert_true(active_kmeans(x, 5, 2, 5, 1, 0, cluster, &e));
    for (int i = 0; i < 5; i++)
        for (int j = 0; j < i; j++)
            assert_true(cluster[i] != cluster[j]);
    memset(x, 0, sizeof x);
    assert_true(active_kmeans(x, N, 2, 4, 1, 0, cluster, &e));
    for (int i = 0; i < N; i++)
        assert_in_range(cluster[i], 0, 3);
}

/* ---- choosing ---- */

enum { POOL = 200 };
static double confidence[POOL], place_x[POOL], place_y[POOL];
static float embedding[POOL * 4];

static struct active_pool make_pool(void)
{
    struct rng r;
    rng_init(&r, 6, RNG_METHOD, 0);
    for (int i = 0; i < POOL; i++) {
        confidence[i] = rng_uniform(&r);
        place_x[i] = 1000 * rng_uniform(&r);
        place_y[i] = 1000 * rng_uniform(&r);
        for (int k = 0; k < 4; k++)
            embedding[4 * i + k] = (float)((i % 4 == k ? 5 : 0) + 0.2 * rng_normal(&r));
    }
    return (struct active_pool){POOL, confidence, embedding, 4, place_x, place_y};
}

static size_t choose(const struct active_pool *pool, const struct active_options *o,
                     struct active_pick *picks)
{
    struct err e = {0};
    size_t n;
    bool seen[POOL] = {0};
    if (!active_choose(pool, o, picks, &n, NULL, &e))
        fail_msg("%s", e.msg);
    for (size_t i = 0; i < n; i++) {
        assert_true(picks[i].index < pool->n);
        assert_false(seen[picks[i].index]); /* nobody is asked twice */
        seen[picks[i].index] = true;
    }
    return n;
}

static void test_direct_takes_the_lowest(void **state)
{
    const struct active_pool pool = make_pool();
    struct active_options o = {.strategy = strategy("max"), .n = 20, .seed = 3};
    struct active_pick picks[POOL];
    (void)state;
    assert_int_equal(choose(&pool, &o, picks), 20);
    for (int i = 0; i < POOL; i++) {
        bool picked = false;
        int lower = 0;
        for (int k = 0; k < 20; k++)
            picked |= picks[k].index == (size_t)i;
        for (int j = 0; j < POOL; j++)
            lower += confidence[j] < confidence[i];
        assert_int_equal(picked, lower < 20);
    }
    for (int k = 1; k < 20; k++)
        assert_true(picks[k].score >= picks[k - 1].score);
    o.n = 10 * POOL; /* a pool smaller than the wish */
    assert_int_equal(choose(&pool, &o, picks), POOL);
    o.n = 0;
    assert_int_equal(choose(&pool, &o, picks), 0);
}

static void test_validate_share(void **state)
{
    const struct active_pool pool = make_pool();
    struct active_options o = {.strategy = strategy("max"), .n = 50, .validate_share = 0.2};
    struct active_pick picks[POOL];
    int count[POOL] = {0};
    double chi2 = 0, low = 0;
    (void)state;
    for (uint64_t seed = 0; seed < 400; seed++) {
        int n_validate = 0;
        o.seed = seed;
        assert_int_equal(choose(&pool, &o, picks), 50);
        for (int k = 0; k < 50; k++) {
            if (!picks[k].validate)
                continue;
            n_validate++;
            count[picks[k].index]++;
            low += confidence[picks[k].index] / (400 * 10);
        }
        assert_int_equal(n_validate, 10);
        for (int k = 0; k < 50; k += 5) { /* a fifth of every part of the list */
            int here = 0;
            for (int j = k; j < k + 5; j++)
                here += picks[j].validate;
            assert_int_equal(here, 1);
        }
    }
    for (int i = 0; i < POOL; i++)
        chi2 += (count[i] - 20.0) * (count[i] - 20.0) / 20.0;
    assert_true(chi2 <
                267); /* 199 degrees of freedom, p = 0.001: they are drawn from all, not from what is left */
    double mean = 0;
    for (int i = 0; i < POOL; i++)
        mean += confidence[i] / POOL;
    assert_near(low, mean, 0.02);
}

static void test_random_is_uniform(void **state)
{
    const struct active_pool pool = make_pool();
    struct active_options o = {
        .strategy = strategy("random"), .n = 20, .validate_share = 0.2, .buffer_m = 300};
    struct active_pick picks[POOL];
    int count[POOL] = {0};
    double chi2 = 0;
    (void)state;
    for (uint64_t round = 0; round < 500; round++) {
        o.round = round;
        assert_int_equal(choose(&pool, &o, picks), 20);
        for (int k = 0; k < 20; k++)
            count[picks[k].index]++;
    }
    for (int i = 0; i < POOL; i++)
        chi2 += (count[i] - 50.0) * (count[i] - 50.0) / 50.0;
    assert_true(chi2 < 267); /* sampling without replacement only makes it smaller */
    assert_true(chi2 > 100);
}

static void test_distance(void **state)
{
    const struct active_pool pool = make_pool();
    struct active_options o = {.strategy = strategy("diff2"), .n = 40, .validate_share = 0.2, .buffer_m = 60};
    struct active_pick picks[POOL];
    struct err e = {0};
    double kept;
    size_t n;
    (void)state;
    for (int crowded = 0; crowded < 2; crowded++) {
        o.buffer_m = crowded ? 400 : 60;
        assert_true(active_choose(&pool, &o, picks, &n, &kept, &e));
        assert_int_equal(n, 40);
        assert_true(crowded ? kept < 400 && kept >= 400 / 64.0 : kept >= 60);
        for (size_t i = 0; i < n; i++)
            for (size_t j = 0; j < i; j++) {
                const size_t a = picks[i].index, b = picks[j].index;
                if (!(picks[i].validate && picks[j].validate)) /* those are drawn blindly */
                    assert_true(hypot(place_x[a] - place_x[b], place_y[a] - place_y[b]) >= kept);
            }
    }
    /* everything in one place: still as many as were asked for */
    memset(place_x, 0, sizeof place_x);
    memset(place_y, 0, sizeof place_y);
    assert_int_equal(choose(&pool, &o, picks), 40);
}

/* Four clouds of 50: a quarter each, and in each the lowest confidences. */
static void test_kmeans_spreads(void **state)
{
    const struct active_pool pool = make_pool();
    struct active_options o = {.strategy = strategy("max+kmeans"), .n = 40, .seed = 5};
    struct active_pick picks[POOL];
    int of_cloud[4] = {0}, of_cluster[ACTIVE_CLUSTERS] = {0};
    (void)state;
    for (int i = 0; i < POOL; i++)
        if (i % 4 != 2)
            confidence[i] += 1; /* direct would take cloud 2 alone */
    assert_int_equal(choose(&pool, &o, picks), 40);
    for (int k = 0; k < 40; k++) {
        of_cloud[picks[k].index % 4]++;
        assert_in_range(picks[k].cluster, 0, ACTIVE_CLUSTERS - 1);
        assert_false(picks[k].filled);
        of_cluster[picks[k].cluster]++;
    }
    for (int c = 0; c < 4; c++)
        assert_in_range(of_cloud[c], 7, 13);
    for (int c = 0; c < ACTIVE_CLUSTERS; c++)
        assert_in_range(of_cluster[c], 0, 12);
    o.strategy = strategy("max");
    choose(&pool, &o, picks);
    for (int k = 0; k < 40; k++)
        assert_int_equal(picks[k].index % 4, 2);
}

/* 180 items point one way, 20 another; all equally unsure: density takes the many, outlier the few. With
 * unequal certainty both still ask the unsure first. The numbers are u . mean(u) by hand. */
static void test_density_signs(void **state)
{
    const struct active_pool pool = make_pool();
    struct active_options o = {.strategy = strategy("max+density"), .n = 10};
    struct active_pick picks[POOL];
    (void)state;
    for (int i = 0; i < POOL; i++) {
        confidence[i] = i % 2 ? 0.5 : 0.6;
        for (int k = 0; k < 4; k++)
            embedding[4 * i + k] = k == (i < 180 ? 0 : 1) ? 2.0f + (float)(i % 3) : 0; /* length is nothing */
    }
    choose(&pool, &o, picks);
    for (int k = 0; k < 10; k++) {
        assert_true(picks[k].index < 180 && picks[k].index % 2 == 1);
        assert_near(picks[k].score, 0.5 * 0.9, 1e-6);
    }
    o.strategy = strategy("max+outlier");
    choose(&pool, &o, picks);
    for (int k = 0; k < 10; k++) {
        assert_true(picks[k].index >= 180 && picks[k].index % 2 == 1);
        assert_near(picks[k].score, 0.5 * 0.9, 1e-6); /* distance 1 - 0.1 */
    }
    for (int i = 0; i < POOL; i++)
        confidence[i] = i % 2 ? -M_LN2 : -0.2;
    o.strategy = strategy("entropy+density");
    choose(&pool, &o, picks);
    assert_near(picks[0].score, M_LN2 * 0.9, 1e-6);
}

static void test_same_seed_same_picks(void **state)
{
    static const char *const names[] = {"max", "diff2+kmeans", "entropy+density", "max+outlier", "random"};
    const struct active_pool pool = make_pool();
    struct active_pick a[POOL], b[POOL];
    (void)state;
    for (size_t k = 0; k < sizeof names / sizeof *names; k++) {
        struct active_options o = {
            .strategy = strategy(names[k]), .n = 30, .validate_share = 0.2, .buffer_m = 30, .seed = 9};
        memset(a, 0, sizeof a);
        memset(b, 0, sizeof b);
        omp_set_num_threads(1);
        choose(&pool, &o, a);
        omp_set_num_threads(3);
        choose(&pool, &o, b);
        for (int i = 0; i < 30; i++)
            assert_true(a[i].index == b[i].index && a[i].validate == b[i].validate &&
                        a[i].score == b[i].score);
        o.round = 1;
        choose(&pool, &o, b);
        int same = 0;
        for (int i = 0; i < 30; i++)
            same += a[i].index == b[i].index;
        assert_true(same < 30); /* another round draws other validate picks */
    }
}

static void test_spread(void **state)
{
    const struct active_pool pool = make_pool();
    uint32_t out[POOL];
    struct err e = {0};
    double least = INFINITY;
    (void)state;
    assert_true(active_spread(pool.x, pool.y, POOL, 12, 4, out, &e));
    for (int i = 0; i < 12; i++)
        for (int j = 0; j < i; j++)
            least = fmin(least, hypot(place_x[out[i]] - place_x[out[j]], place_y[out[i]] - place_y[out[j]]));
    assert_true(least > 200); /* 12 random points of a square kilometre come as near as 50 m */
    assert_true(active_spread(NULL, NULL, POOL, POOL, 4, out, &e)); /* a permutation */
    bool seen[POOL] = {0};
    for (int i = 0; i < POOL; i++) {
        assert_false(seen[out[i]]);
        seen[out[i]] = true;
    }
}

/* ---- with a model ---- */

enum { SIDE = 12, N = 60 };

/* Bright spots on the left or on the right: a view's crop and noise change what the network sees. */
static void fill(struct imageset *set)
{
    const struct imageset_layout l = {.size = SIDE, .n_dates = 1, .n_bands = 3};
    struct err e = {0};
    assert_true(imageset_alloc(set, N, &l, &e));
    set->n_classes = 2;
    snprintf(set->source, sizeof set->source, "spots");
    for (int i = 0; i < N; i++) {
        struct rng r;
        rng_init(&r, 3, RNG_METHOD, (uint64_t)i);
        set->label[i] = (int16_t)(i % 2);
        set->id[i] = i;
        set->split[i] = i < 40 ? IMAGESET_TRAIN : IMAGESET_TEST;
        for (int p = 0; p < SIDE * SIDE; p++)
            for (int c = 0; c < 3; c++)
                set->px[(i * SIDE * SIDE + p) * 3 + c] =
                    (uint8_t)(60 + rng_below(&r, 90) + (p % SIDE / (SIDE / 2) == i % 2 ? 40 : 0));
    }
}

static void test_augmented_predictions(void **state)
{
    struct imageset set = {0};
    struct train_config c;
    struct train_report report;
    struct err e = {0};
    char path[64];
    uint32_t items[20];
    float plain[40], again[40], views[40], other[40];
    (void)state;
    omp_set_num_threads(1);
    snprintf(path, sizeof path, "test_active_%ld.safetensors", (long)getpid());
    fill(&set);
    assert_true(train_defaults(&c, "supervised", true, &e));
    c.preset = "lite3";
    c.batch = 8;
    c.steps = 10;
    c.budget_s = 0;
    c.mirror = false;
    if (!train_run(&set, &c, path, false, NULL, 0, NULL, &report, &e))
        fail_msg("%s", e.msg);
    struct model *m = model_load(path, &e);
    assert_non_null(m);
    const int d = net_embedding_size(model_net(m));
    float *v = malloc(20 * (size_t)d * sizeof *v);
    assert_non_null(v);
    for (uint32_t i = 0; i < 20; i++)
        items[i] = 40 + i;
    assert_true(active_predict(m, &set, items, 20, false, 1, 0, plain, v, NULL, &e));
    struct predictor *p = predictor_create(m, 20, 1, &e);
    assert_non_null(p);
    predictor_run(p, set.px + 40 * SIDE * SIDE * 3, 20, again, NULL);
    for (int i = 0; i < 40; i++)
        assert_near(plain[i], again[i], 1e-6);

    assert_true(active_predict(m, &set, items, 20, true, 1, 0, views, v, NULL, &e));
    double changed = 0;
    for (int i = 0; i < 40; i++)
        changed = fmax(changed, fabs((double)views[i] - (double)plain[i]));
    assert_true(changed > 1e-3); /* .aug must do something */
    assert_true(active_predict(m, &set, items + 5, 15, true, 1, 0, other, v, NULL, &e));
    for (int i = 0; i < 30; i++)
        assert_near(other[i], views[10 + i],
                    1e-6); /* views belong to items, not to their place in the list */
    assert_true(active_predict(m, &set, items, 20, true, 1, 1, other, v, NULL, &e));
    assert_true(memcmp(other, views, sizeof views) != 0); /* another round, other views */

    /* The mean over the views, made here by hand for one item. */
    const struct augment_config augment = {.layout = set.layout};
    double mean = 0;
    for (int k = 0; k < ACTIVE_VIEWS; k++) {
        struct rng r;
        float x[SIDE * SIDE * 3], q[2];
        rng_init(&r, 1, RNG_WEAK, (uint64_t)(items[3] * ACTIVE_VIEWS + (uint32_t)k) << 24);
        augment_view(&augment, AUGMENT_WEAK, set.px + items[3] * SIDE * SIDE * 3, &r, x, NULL);
        predictor_run_inputs(p, x, 1, q, NULL);
        mean += (double)q[1] / ACTIVE_VIEWS;
    }
    assert_near(views[2 * 3 + 1], mean, 1e-5);

    struct active_options o = {.strategy = strategy("max"), .n = 6, .seed = 1};
    struct active_pick a[6], b[6];
    size_t n;
    int same = 0;
    assert_true(active_query(m, &set, items, 20, NULL, NULL, &o, a, &n, NULL, NULL, &e));
    assert_int_equal(n, 6);
    for (int k = 0; k < 6; k++)
        assert_near(a[k].score, fmax(plain[2 * a[k].index], plain[2 * a[k].index + 1]), 1e-6);
    o.strategy = strategy("max.aug");
    assert_true(active_query(m, &set, items, 20, NULL, NULL, &o, b, &n, NULL, NULL, &e));
    for (int k = 0; k < 6; k++) {
        assert_near(b[k].score, fmax(views[2 * b[k].index], views[2 * b[k].index + 1]), 1e-6);
        same += a[k].score == b[k].score;
    }
    assert_true(same < 6);
    o.strategy = strategy("diff2.aug+kmeans");
    assert_true(active_query(m, &set, items, 20, NULL, NULL, &o, b, &n, NULL, NULL, &e));
    predictor_free(p);
    model_free(m);
    free(v);
    imageset_free(&set);
    unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_scores_by_hand),
        cmocka_unit_test(test_quotas),
        cmocka_unit_test(test_kmeans_finds_clouds),
        cmocka_unit_test(test_direct_takes_the_lowest),
        cmocka_unit_test(test_validate_share),
        cmocka_unit_test(test_random_is_uniform),
        cmocka_unit_test(test_distance),
        cmocka_unit_test(test_kmeans_spreads),
        cmocka_unit_test(test_density_signs),
        cmocka_unit_test(test_same_seed_same_picks),
        cmocka_unit_test(test_spread),
        cmocka_unit_test(test_augmented_predictions),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
