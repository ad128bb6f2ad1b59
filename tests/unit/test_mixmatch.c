/* SPDX-License-Identifier: Apache-2.0
 *
 * test_mixmatch.c - MixMatch and what it is made of: sharpening against worked numbers, MixUp's shares
 * against their known means and its rows against a mixing out of place, interleaving, the ramp, the losses by
 * central differences, supervised training as its degenerate case, resumed runs. */
#include "tests/unit/train_fixture.h"

#include <omp.h>

static void test_sharpen(void **state)
{
    (void)state;
    const float q[3] = {0.5f, 0.3f, 0.2f};
    float p[3];
    memcpy(p, q, sizeof p);
    semi_sharpen(p, 3, 0.5);
    tx_near((double)p[0], 0.657895, 1e-6);
    tx_near((double)p[1], 0.236842, 1e-6);
    tx_near((double)p[2], 0.105263, 1e-6);
    memcpy(p, q, sizeof p);
    semi_sharpen(p, 3, 0.1);
    tx_near((double)p[0], 0.993886, 1e-6);
    tx_near((double)p[1], 0.0060096, 1e-7);
    tx_near((double)p[2], 0.00010422, 1e-8);
    memcpy(p, q, sizeof p);
    semi_sharpen(p, 3, 1);
    for (int c = 0; c < 3; c++)
        tx_near((double)p[c], (double)q[c], 1e-7);
    semi_sharpen(p, 3, 1e-4); /* one-hot, and no 0/0 on the way */
    assert_true(p[0] == 1 && p[1] == 0 && p[2] == 0);
    float tie[3] = {0.4f, 0.4f, 0.2f};
    semi_sharpen(tie, 3, 1e-4);
    assert_true(tie[0] == 0.5f && tie[1] == 0.5f && tie[2] == 0);
}

struct rows {
    struct method_step s;
    float *before, *target_before;
};

static void rows_set(struct rows *f, int n, int stride, int n_classes)
{
    struct rng r;
    rng_init(&r, 8, RNG_METHOD, 0);
    *f = (struct rows){.s = {.n_rows = n, .n_classes = n_classes, .x_stride = (size_t)stride, .seed = 5}};
    f->s.x = calloc((size_t)n * (size_t)stride, sizeof(float));
    f->s.target = calloc((size_t)n * (size_t)n_classes, sizeof(float));
    f->s.order = calloc(2 * (size_t)n, sizeof(uint32_t));
    f->s.share = calloc((size_t)n, sizeof(float));
    f->before = calloc((size_t)n * (size_t)stride, sizeof(float));
    f->target_before = calloc((size_t)n * (size_t)n_classes, sizeof(float));
    assert_true(f->s.x && f->s.target && f->s.order && f->s.share && f->before && f->target_before);
    for (int i = 0; i < n * stride; i++)
        f->before[i] = f->s.x[i] = (float)rng_normal(&r);
    for (int i = 0; i < n * n_classes; i++)
        f->target_before[i] = f->s.target[i] = (float)rng_uniform(&r);
}

static void rows_free(struct rows *f)
{
    free(f->s.x);
    free(f->s.target);
    free(f->s.order);
    free(f->s.share);
    free(f->before);
    free(f->target_before);
}

/* E[max(l,1-l)] for l ~ Beta(a,a); three standard errors are below 0.001. */
static void test_share_means(void **state)
{
    (void)state;
    static const struct {
        double alpha, mean;
    } known[] = {{0.75, 0.778}, {0.5, 0.818}, {0.25, 0.881}, {1.0, 0.750}};
    enum { N = 300000 };
    struct rows f;
    rows_set(&f, N, 1, 1);
    for (int k = 0; k < 4; k++) {
        double sum = 0;
        mixup_rows(&f.s, 0, N, known[k].alpha);
        for (int i = 0; i < N; i++) {
            assert_true(f.s.share[i] >= 0.5f && f.s.share[i] <= 1.0f);
            sum += (double)f.s.share[i];
        }
        tx_near(sum / N, known[k].mean, 0.0015);
    }
    rows_free(&f);
}

/* Against the definition, out of place; rows outside the range keep their bits; any number of threads. */
static void test_mixing(void **state)
{
    (void)state;
    enum { N = 40, STRIDE = 2500, C = 3, FIRST = 3, MIXED = 33 };
    struct rows f, g;
    bool seen[MIXED] = {false};
    int own = 0;
    rows_set(&f, N, STRIDE, C);
    rows_set(&g, N, STRIDE, C);
    f.s.step = g.s.step = 7;
    mixup_rows(&f.s, FIRST, MIXED, 0.75);
    omp_set_num_threads(3);
    mixup_rows(&g.s, FIRST, MIXED, 0.75);
    omp_set_num_threads(1);
    assert_memory_equal(f.s.x, g.s.x, N * STRIDE * sizeof(float));
    for (int i = 0; i < MIXED; i++) {
        int partner = (int)f.s.order[i];
        assert_in_range(partner, 0, MIXED - 1);
        assert_false(seen[partner]); /* a permutation: every row is a partner once */
        seen[partner] = true;
        own += partner == i;
        float l = f.s.share[i];
        for (int j = 0; j < STRIDE; j++)
            tx_near((double)f.s.x[(FIRST + i) * STRIDE + j],
                    (double)(l * f.before[(FIRST + i) * STRIDE + j] +
                             (1 - l) * f.before[(FIRST + partner) * STRIDE + j]),
                    1e-5);
        for (int c = 0; c < C; c++)
            tx_near((double)f.s.target[(FIRST + i) * C + c],
                    (double)(l * f.target_before[(FIRST + i) * C + c] +
                             (1 - l) * f.target_before[(FIRST + partner) * C + c]),
                    1e-6);
    }
    assert_true(own < MIXED / 4);
    assert_memory_equal(f.s.x, f.before, FIRST * STRIDE * sizeof(float));
    assert_memory_equal(f.s.x + (FIRST + MIXED) * STRIDE, f.before + (FIRST + MIXED) * STRIDE,
                        (N - FIRST - MIXED) * STRIDE * sizeof(float));
    float l = f.s.share[0];
    f.s.step = 8; /* another step, other shares */
    mixup_rows(&f.s, FIRST, MIXED, 0.75);
    assert_true(f.s.share[0] != l);
    memcpy(f.s.x, f.before, N * STRIDE * sizeof(float));
    mixup_rows(&f.s, 0, N, 0); /* alpha 0: l' = 1 */
    assert_memory_equal(f.s.x, f.before, N * STRIDE * sizeof(float));
    rows_free(&f);
    rows_free(&g);
}

static void test_interleave(void **state)
{
    (void)state;
    enum { B = 64, K = 2, N = B * (K + 1), STRIDE = 5, C = 2 };
    static const int want[] = {21, 21, 22};
    struct rows f;
    rows_set(&f, N, STRIDE, C);
    for (int i = 0; i < N; i++) /* a row says where it came from */
        f.before[i * STRIDE] = f.s.x[i * STRIDE] = (float)i;
    mixup_interleave(&f.s, 0, K + 1, B);
    for (int p = 0; p <= K; p++) {
        int labeled = 0;
        for (int i = 0; i < B; i++) {
            bool first = f.s.x[(p * B + i) * STRIDE] < B;
            labeled += first;
            assert_int_equal(first, mixup_is_first(B, K + 1, p, i));
        }
        assert_int_equal(labeled, want[p]);
    }
    mixup_interleave(&f.s, 0, K + 1, B); /* an involution */
    assert_memory_equal(f.s.x, f.before, N * STRIDE * sizeof(float));
    assert_memory_equal(f.s.target, f.target_before, N * C * sizeof(float));
    for (int g = 0; g < 10; g++) /* 64 in ten: six of 6, then four of 7 */
        assert_int_equal(mixup_group(64, 10, g + 1) - mixup_group(64, 10, g), g < 6 ? 6 : 7);
    rows_free(&f);
}

static void test_ramp(void **state)
{
    (void)state;
    const int64_t run = 1 << 20, images = 64; /* the published run: 2^26 images of 64 a step */
    tx_near(semi_ramp(0, run, 1.0 / 64), 0, 0);
    tx_near(semi_ramp((1 << 19) / images, run, 1.0 / 64), 0.5, 1e-12);
    tx_near(semi_ramp((1 << 20) / images, run, 1.0 / 64), 1, 0);
    tx_near(semi_ramp(run - 1, run, 1.0 / 64), 1, 0);
    tx_near(semi_ramp(0, 10, 0), 1, 0);
}

static void test_squared_error(void **state)
{
    (void)state;
    const float z[2] = {20, -20}, far[2] = {0, 1}, right[2] = {1, 0};
    tx_near(semi_squared_error(z, 2, far, 0.5, NULL), 1.0, 1e-6); /* at most 2/C */
    tx_near(semi_squared_error(z, 2, right, 0.5, NULL), 0, 1e-12);
    /* softmax(0, ln 3) = (1/4, 3/4); q = (1/2, 1/2): 2/16; dz = 2 p_k ((p-q)_k - sum p (p-q)) */
    const float three[2] = {0, (float)log(3)}, half[2] = {0.5f, 0.5f};
    float d[2] = {0};
    tx_near(semi_squared_error(three, 2, half, 1, d), 0.125, 1e-7);
    tx_near((double)d[0], 2 * 0.25 * (-0.25 - 0.125), 1e-7);
    tx_near((double)d[1], 2 * 0.75 * (0.25 - 0.125), 1e-7);
}

static void test_loss(void **state)
{
    (void)state;
    enum { B = 5, K = 2, C = 3 };
    struct tx_step f;
    double total = 0, want = 0;
    for (uint64_t seed = 1; seed <= 2; seed++)
        for (int p = 0; p <= K; p++) {
            tx_step_set(&f, "mixmatch", true, C, B, B, K, seed);
            tx_check_gradient(&f, "mixmatch", p, 0, B);
        }
    /* By hand over all passes: 5 rows in 3 groups are 1, 2, 2; lambda is past its ramp at half the run. */
    for (int p = 0; p <= K; p++) {
        static const int group[] = {0, 1, 3, 5};
        total += tx_loss(&f, "mixmatch", p);
        for (int i = 0; i < B; i++) {
            double sum = 0, ce = 0, square = 0;
            for (int c = 0; c < C; c++)
                sum += exp((double)f.logits[i * C + c]);
            for (int c = 0; c < C; c++) {
                double prob = exp((double)f.logits[i * C + c]) / sum,
                       q = (double)f.target[(p * B + i) * C + c];
                ce -= q * log(prob);
                square += (q - prob) * (q - prob);
            }
            want += i >= group[p] && i < group[p + 1] ? ce / B : 75 * square / (C * K * B);
        }
    }
    tx_near(total, want, 1e-5);
}

/* lambda = 0 and one-hot targets: labelled rows carry the bits of supervised training, all others nothing. */
static void test_degenerate_is_supervised(void **state)
{
    (void)state;
    enum { B = 6, K = 2, C = 3 };
    struct tx_step f;
    float want[B * C];
    tx_step_set(&f, "supervised", true, C, B, B, K, 4);
    f.config.label_smoothing = 0;
    double loss = tx_loss(&f, "supervised", 0);
    memcpy(want, f.dlogits, sizeof want);
    tx_step_set(&f, "mixmatch", true, C, B, B, K, 4);
    f.config.lambda_u = 0;
    memset(f.target, 0, sizeof f.target);
    for (int i = 0; i < B; i++) /* item i of list 0 sits in pass i/2 */
        f.target[(i / 2 * B + i) * C + i % C] = 1;
    double sum = 0;
    for (int p = 0; p <= K; p++) {
        sum += tx_loss(&f, "mixmatch", p);
        for (int i = 0; i < B; i++)
            for (int c = 0; c < C; c++)
                assert_true(f.dlogits[i * C + c] == (i / 2 == p ? want[i * C + c] : 0));
    }
    tx_near(sum, loss, 1e-12);
}

static void test_defaults(void **state)
{
    (void)state;
    struct train_config c;
    struct err e;
    assert_true(train_defaults(&c, "mixmatch", true, &e));
    assert_int_equal(c.batch, 64);
    assert_int_equal(c.n_guesses, 2);
    tx_near(c.sharpen, 0.5, 0);
    tx_near(c.mixup, 0.75, 0);
    tx_near(c.lambda_u, 75, 0);
    assert_int_equal(c.optim.kind, OPTIM_ADAM);
    assert_int_equal(c.optim.decay, OPTIM_DECAY_DECOUPLED);
    tx_near(optim_lr(&c.optim, 1), 0.002, 1e-9);
    tx_near((double)(c.optim.weight_decay * c.optim.lr), 4e-5, 1e-10);
    struct imageset set;
    struct train_report r;
    tx_set(&set, 40, 8, 4, false);
    for (int k = 0; k < 3; k++) {
        c = tx_config("mixmatch", true);
        c.mu = k == 0 ? 3 : 1;
        c.n_guesses = k == 1 ? 0 : 2;
        c.sharpen = k == 2 ? 0 : 0.5;
        assert_false(train_run(&set, &c, "never.safetensors", false, NULL, 0, NULL, &r, &e));
        assert_int_equal(e.code, ERR_USAGE);
        assert_non_null(strstr(e.msg, "mixmatch"));
    }
    imageset_free(&set);
}

static void test_runs(void **state)
{
    (void)state;
    struct imageset set;
    char one[65], other[65];
    for (int pair = 0; pair < 2; pair++) {
        tx_set(&set, 40, 8, 4, pair);
        struct train_config c = tx_config("mixmatch", !pair);
        tx_check_resume(&set, &c);
        tx_run(&set, &c, one);
        omp_set_num_threads(2);
        tx_run(&set, &c, other);
        omp_set_num_threads(1);
        assert_string_equal(one, other);
        c.lambda_u = 5;
        tx_run(&set, &c, other);
        assert_string_not_equal(one, other);
        imageset_free(&set);
    }
}

/* It can learn: 8 labels of each of four classes, and the labelled loss falls far below ln 4. */
static void test_learns(void **state)
{
    (void)state;
    struct imageset set;
    char digest[65];
    tx_set(&set, 64, 0, 4, false);
    struct train_config c = tx_config("mixmatch", true);
    c.labels_per_class = 8;
    c.batch = 16;
    c.steps = 40;
    c.mixup = 0;
    c.lambda_u = 1;
    struct train_report r = tx_run(&set, &c, digest);
    assert_true(r.final_loss < 0.4);
    imageset_free(&set);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sharpen),  cmocka_unit_test(test_share_means),
        cmocka_unit_test(test_mixing),   cmocka_unit_test(test_interleave),
        cmocka_unit_test(test_ramp),     cmocka_unit_test(test_squared_error),
        cmocka_unit_test(test_loss),     cmocka_unit_test(test_degenerate_is_supervised),
        cmocka_unit_test(test_defaults), cmocka_unit_test(test_runs),
        cmocka_unit_test(test_learns),
    };
    omp_set_num_threads(1);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
