/* SPDX-License-Identifier: Apache-2.0
 *
 * test_remixmatch.c - ReMixMatch: alignment against worked numbers and its fixed points, rotations by corner,
 * the rotation head and the losses by central differences, MixMatch with a cross-entropy as its degenerate
 * case, CTAugment in the loop, resumed runs. */
#include "models/learn/align.h"
#include "models/learn/remixmatch.h"
#include "tests/unit/train_fixture.h"

#include <omp.h>

static struct method_step with(const struct train_config *c, int n_classes)
{
    return (struct method_step){.config = c, .n_classes = n_classes};
}

static void test_alignment(void **state)
{
    (void)state;
    struct align a;
    struct err e;
    struct train_config c = {.align = METHOD_ALIGN_LABELS};
    struct method_step s = with(&c, 3);
    double ratio[3];
    const double recent[3] = {0.5, 0.3, 0.2};
    float q[3] = {0.6f, 0.3f, 0.1f};
    assert_true(align_create(&a, &s, &e));
    align_ratio(&a, &s, ratio); /* both uniform: the identity */
    for (int k = 0; k < 3; k++)
        tx_near(ratio[k], 1, 1e-6);
    for (int64_t i = 1000; i < 1000 + ALIGN_RING; i++) /* as many pushes as it holds leave nothing else */
        align_push(&a, i, recent);
    align_ratio(&a, &s, ratio);
    for (int k = 0; k < 3; k++)
        tx_near(ratio[k], (1e-6 + 1.0 / 3) / (1e-6 + recent[k]), 1e-6);
    align_apply(ratio, 3, q);
    tx_near((double)q[0], 0.44444, 1e-5);
    tx_near((double)q[1], 0.37037, 1e-5);
    tx_near((double)q[2], 0.18519, 1e-5);
    semi_sharpen(q, 3, 0.5);
    tx_near((double)q[0], 0.53532, 1e-5);
    tx_near((double)q[1], 0.37175, 1e-5);
    tx_near((double)q[2], 0.09294, 1e-5);
    align_push(&a, 0, (const double[3]){1, 0, 0}); /* one of 128 */
    align_ratio(&a, &s, ratio);
    tx_near(ratio[0], (1e-6 + 1.0 / 3) / (1e-6 + (127 * 0.5 + 1) / 128), 1e-6);
    c.align = METHOD_ALIGN_OFF;
    align_ratio(&a, &s, ratio);
    assert_true(ratio[0] == 1 && ratio[1] == 1 && ratio[2] == 1);
    c.align = METHOD_ALIGN_SAMPLE;
    const double share[3] = {0.7, 0.2, 0.1};
    s.class_share = share;
    align_ratio(&a, &s, ratio);
    tx_near(ratio[1], (1e-6 + 0.2) / (1e-6 + 127 * 0.3 / 128), 1e-6);
    align_average(&a, (const double[3]){1, 0, 0});
    tx_near((double)a.want[0], 0.999 / 3 + 0.001, 1e-7);
    align_free(&a);
    c.align = METHOD_ALIGN_PRIOR;
    c.prior = 0.02;
    assert_false(align_create(&a, &s, &e)); /* three classes */
    s.n_classes = 2;
    assert_true(align_create(&a, &s, &e));
    align_ratio(&a, &s, ratio);
    tx_near(ratio[0], (1e-6 + 0.98) / (1e-6 + 0.5), 1e-6);
    tx_near(ratio[1], (1e-6 + 0.02) / (1e-6 + 0.5), 1e-6);
    align_free(&a);
}

/* On a fixed set of guesses, aligned to the marginal of what comes out, the mean moves to what is wanted. */
static void test_alignment_converges(void **state)
{
    (void)state;
    enum { N = 200 };
    struct align a;
    struct err e;
    struct rng r;
    struct train_config c = {.align = METHOD_ALIGN_PRIOR, .prior = 0.1};
    struct method_step s = with(&c, 2);
    float q[N][2];
    double ratio[2], off[2] = {0};
    assert_true(align_create(&a, &s, &e));
    rng_init(&r, 2, RNG_METHOD, 0);
    for (int i = 0; i < N; i++) {
        q[i][1] = (float)rng_uniform(&r);
        q[i][0] = 1 - q[i][1];
    }
    for (int round = 0; round < 30; round++) {
        double mean[2] = {0};
        for (int i = 0; i < N; i++)
            for (int k = 0; k < 2; k++)
                mean[k] += (double)q[i][k] / N;
        off[round > 0] = fabs(mean[1] - 0.1);
        for (int64_t i = 0; i < ALIGN_RING; i++)
            align_push(&a, i, mean);
        align_ratio(&a, &s, ratio);
        for (int i = 0; i < N; i++) {
            align_apply(ratio, 2, q[i]);
            tx_near((double)(q[i][0] + q[i][1]), 1, 1e-6);
        }
    }
    assert_true(off[0] > 0.3 && off[1] < 1e-3);
    align_free(&a);
}

static void test_turns(void **state)
{
    (void)state;
    enum { S = 5, CH = 3 };
    float x[S * S * CH] = {0}, y[S * S * CH], z[S * S * CH];
    /* Top-right corner and the pixel left of it, so that a mirror image would be noticed. */
    x[(S - 1) * CH] = 1;
    x[(S - 2) * CH + 1] = 2;
    remixmatch_turn(x, S, CH, 2, y); /* counter-clockwise: to the top left, its neighbour below it */
    assert_true(y[0] == 1 && y[S * CH + 1] == 2);
    remixmatch_turn(x, S, CH, 3, y); /* clockwise: to the bottom right, its neighbour above it */
    assert_true(y[(S * S - 1) * CH] == 1 && y[((S - 2) * S + S - 1) * CH + 1] == 2);
    remixmatch_turn(x, S, CH, 1, y);
    assert_true(y[(S - 1) * S * CH] == 1 && y[((S - 1) * S + 1) * CH + 1] == 2);
    remixmatch_turn(x, S, CH, 0, y);
    assert_memory_equal(x, y, sizeof x);
    remixmatch_turn(x, S, CH, 2, y);
    remixmatch_turn(y, S, CH, 3, z);
    assert_memory_equal(x, z, sizeof x);
}

static void test_rotation_head(void **state)
{
    (void)state;
    enum { N = 8, E = 5, T = REMIXMATCH_TURNS, W = (E + 1) * T };
    float e[N * E], w[W], dw[W], de[N * E], other[W], unused[N * E];
    struct rng r;
    double by_hand = 0;
    rng_init(&r, 3, RNG_METHOD, 0);
    for (int i = 0; i < N * E; i++)
        e[i] = (float)rng_normal(&r);
    for (int i = 0; i < W; i++)
        w[i] = (float)rng_normal(&r);
    double loss = remixmatch_rotation(e, N, E, w, 0.7, dw, de);
    for (int i = 0; i < N; i++) {
        double z[T], sum = 0;
        for (int k = 0; k < T; k++) {
            z[k] = (double)w[E * T + k];
            for (int j = 0; j < E; j++)
                z[k] += (double)(e[i * E + j] * w[j * T + k]);
            sum += exp(z[k]);
        }
        by_hand -= 0.7 / N * log(exp(z[i / 2]) / sum); /* quarters of eight are pairs */
    }
    tx_near(loss, by_hand, 1e-5);
    for (int i = 0; i < W + N * E; i++) {
        float *at = i < W ? &w[i] : &e[i - W], keep = *at;
        volatile float up = keep + 1e-2f, down = keep - 1e-2f;
        *at = up;
        double plus = remixmatch_rotation(e, N, E, w, 0.7, other, unused);
        *at = down;
        double minus = remixmatch_rotation(e, N, E, w, 0.7, other, unused);
        *at = keep;
        tx_near(i < W ? (double)dw[i] : (double)de[i - W], (plus - minus) / ((double)up - (double)down),
                2e-4);
    }
}

enum { B = 6, C = 3 };

static void test_loss(void **state)
{
    (void)state;
    struct tx_step f;
    tx_step_set(&f, "remixmatch", true, C, B, B, 4, 3); /* K = 2: weak, two strong, one unmixed */
    f.config.n_guesses = 2;
    f.config.lambda_rotation = 0;
    f.config.ramp = 1; /* step 10 of 20: half */
    for (int pass = 0; pass < 5; pass++)
        tx_check_gradient(&f, "remixmatch", pass, 0, B);
    double total = 0, want = 0;
    static const int group[] = {0, 1, 2, 4, 6}; /* six rows in four groups: 1, 1, 2, 2 */
    for (int pass = 0; pass < 5; pass++) {
        total += tx_loss(&f, "remixmatch", pass);
        for (int i = 0; i < B; i++) {
            double sum = 0, ce = 0;
            for (int c = 0; c < C; c++)
                sum += exp((double)f.logits[i * C + c]);
            for (int c = 0; c < C; c++)
                ce -= (double)f.target[(pass * B + i) * C + c] * log(exp((double)f.logits[i * C + c]) / sum);
            bool first = pass < 4 && i >= group[pass] && i < group[pass + 1];
            want += first ? ce / B : pass == 4 ? 0.5 * 0.5 * ce / B : 0.5 * 1.5 * ce / (3 * B);
        }
    }
    tx_near(total, want, 1e-5);
    f.s.step = 0; /* before the ramp only the labelled part is left */
    assert_true(tx_loss(&f, "remixmatch", 4) == 0);
}

static void test_defaults(void **state)
{
    (void)state;
    struct train_config c;
    struct method_stream s[METHOD_MAX_STREAMS];
    struct err e;
    assert_true(train_defaults(&c, "remixmatch", true, &e));
    assert_int_equal(c.n_guesses, 8);
    assert_int_equal(c.align, METHOD_ALIGN_LABELS);
    assert_true(c.cta && !c.cutout);
    tx_near(c.lambda_u, 1.5, 0);
    tx_near(c.lambda_strong, 0.5, 0);
    tx_near(c.lambda_rotation, 0.5, 0);
    tx_near(c.ramp, 1.0 / 64, 0);
    assert_int_equal(method_find("remixmatch", &e)->streams(&c, s), 2);
    assert_int_equal(s[0].view[0], AUGMENT_STRONG); /* labelled images too */
    assert_int_equal(s[1].view[0], AUGMENT_WEAK);
    assert_int_equal(s[1].n_views, 1 + 8 + 2);
    assert_true(train_defaults(&c, "remixmatch", false, &e));
    assert_int_equal(c.align, METHOD_ALIGN_OFF);
    assert_true(!c.cta);
    tx_near(c.lambda_rotation, 0, 0);
}

static struct train_config quick(bool plain)
{
    struct train_config c = tx_config("remixmatch", plain);
    c.n_guesses = 2;
    c.steps = 3;
    return c;
}

static void test_resume(void **state)
{
    (void)state;
    struct imageset set;
    char one[65], other[65];
    for (int pair = 0; pair < 2; pair++) {
        tx_set(&set, 40, 8, 2, pair);
        struct train_config c = quick(!pair);
        if (pair) {
            c.align = METHOD_ALIGN_PRIOR;
            c.prior = 0.2;
        }
        tx_check_resume(&set, &c);
        tx_run(&set, &c, one);
        omp_set_num_threads(3);
        tx_run(&set, &c, other);
        omp_set_num_threads(1);
        assert_string_equal(one, other);
        c.align = METHOD_ALIGN_OFF;
        c.prior = 0;
        tx_run(&set, &c, other);
        assert_string_not_equal(one, other);
        imageset_free(&set);
    }
}

/* CTAugment in the loop, with the method that leaves least room for anything else: rates move, are saved, and
 * change the run; a resumed FixMatch run ends in the same bits. */
static void test_learnt_augmentation(void **state)
{
    (void)state;
    struct imageset set;
    struct err e = {0};
    char path[64];
    for (int pair = 0; pair < 2; pair++) {
        tx_set(&set, 40, 8, 2, pair);
        struct train_config c = tx_config("fixmatch", !pair);
        c.mu = 2;
        c.tau = 0.4;
        c.cta = 1;
        tx_check_resume(&set, &c);
        tx_path(path, "rates");
        struct train_report r;
        assert_true(train_run(&set, &c, path, false, NULL, 0, NULL, &r, &e));
        struct checkpoint *file = checkpoint_open(path, &e);
        assert_non_null(file);
        const struct checkpoint_tensor *t = checkpoint_find(file, "state.fixmatch.cta_rates");
        assert_non_null(t);
        const float *rate = t->data;
        int moved = 0;
        for (int64_t i = 0; i < t->dims[0]; i++) {
            assert_true(rate[i] >= 0 && rate[i] <= 1);
            moved += rate[i] < 1;
        }
        assert_in_range(moved, 8, 4 * 4 * 8); /* 4 probes a step, at most 4 choices of 2 parameters each */
        checkpoint_close(file);
        unlink(path);
        imageset_free(&set);
    }
}

/* FixMatch's variants in the loop: each is a run of its own, and resumes. */
static void test_fixmatch_variants(void **state)
{
    (void)state;
    struct imageset set;
    char digest[5][65];
    tx_set(&set, 40, 8, 2, false);
    for (int k = 0; k < 5; k++) {
        struct train_config c = tx_config("fixmatch", true);
        c.mu = 2;
        c.tau = 0.52;
        c.steps = 3;
        c.teacher = k == 1 ? METHOD_TEACHER_EMA : k == 2 ? METHOD_TEACHER_EMA_EVAL : METHOD_TEACHER_SELF;
        c.align = k == 3 ? METHOD_ALIGN_LABELS : METHOD_ALIGN_OFF;
        c.weak_only = k == 4;
        tx_check_resume(&set, &c);
        tx_run(&set, &c, digest[k]);
        for (int other = 0; other < k; other++)
            assert_string_not_equal(digest[k], digest[other]);
    }
    imageset_free(&set);
}

static void test_refusals(void **state)
{
    (void)state;
    struct imageset set;
    struct train_report r;
    struct err e;
    tx_set(&set, 40, 8, 2, false);
    static const char *const word[] = {"mu", "strong view", "share of damage", "prior", "takes no"};
    for (int k = 0; k < 5; k++) {
        struct train_config c = quick(true);
        if (k == 0)
            c.mu = 4;
        if (k == 1)
            c.n_guesses = 0;
        if (k == 2)
            c.align = METHOD_ALIGN_PRIOR;
        if (k == 3)
            c.prior = 0.3;
        if (k == 4)
            c.vat_radius = 1;
        assert_false(train_run(&set, &c, "never.safetensors", false, NULL, 0, NULL, &r, &e));
        assert_int_equal(e.code, ERR_USAGE);
        if (!strstr(e.msg, word[k]))
            fail_msg("\"%s\" does not say \"%s\"", e.msg, word[k]);
    }
    imageset_free(&set);
}

static void test_learns(void **state)
{
    (void)state;
    struct imageset set;
    char digest[65];
    tx_set(&set, 64, 0, 2, false);
    struct train_config c = quick(true);
    c.labels_per_class = 16;
    c.batch = 16;
    c.steps = 40;
    c.lambda_u = 0.1;
    c.lambda_strong = 0;
    c.lambda_rotation = 0;
    c.mixup = 0;
    struct train_report r = tx_run(&set, &c, digest);
    assert_true(r.final_loss < 0.5);
    imageset_free(&set);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_alignment),
        cmocka_unit_test(test_alignment_converges),
        cmocka_unit_test(test_turns),
        cmocka_unit_test(test_rotation_head),
        cmocka_unit_test(test_loss),
        cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_resume),
        cmocka_unit_test(test_learnt_augmentation),
        cmocka_unit_test(test_fixmatch_variants),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_learns),
    };
    omp_set_num_threads(1);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
