/* SPDX-License-Identifier: Apache-2.0
 *
 * test_methods.c - the losses of the methods: known values, gradients by central differences, and what
 * FixMatch's definition forbids or demands (algorithm reference, FixMatch tests: the mask falls with tau, tau
 * > 1 is supervised training, dividing by all mu B, no gradient through the pseudo-label). */
#include "models/base/rng.h"
#include "models/learn/method.h"
#include "models/learn/train.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void assert_near(double got, double want, double tolerance)
{
    if (!(fabs(got - want) <= tolerance))
        fail_msg("got %.12g, want %.12g within %g", got, want, tolerance);
}

enum { B = 3, MU = 4, U = B * MU, C = 3, ROWS = B + 2 * U };

struct fixture {
    struct train_config config;
    struct method_step step;
    float logits[ROWS * C], dlogits[ROWS * C];
    int16_t labels[B], unknown[U];
    struct method_scalars scalars;
};

/* Rows: labelled 0..B-1, weak B..B+U-1, strong after them. Half the weak rows are confident. */
static void set_up(struct fixture *f, uint64_t seed)
{
    struct rng r;
    struct err e;
    memset(f, 0, sizeof *f);
    assert_true(train_defaults(&f->config, "fixmatch", true, &e));
    f->config.tau = 0.8;
    f->config.lambda_u = 1.5;
    f->step = (struct method_step){.config = &f->config, .n_classes = C, .n_rows = ROWS};
    f->step.items[0] = B;
    f->step.offset[1] = B;
    f->step.items[1] = U;
    f->step.label[0] = f->labels;
    f->step.label[1] = f->unknown;
    rng_init(&r, seed, RNG_METHOD, 0);
    for (int i = 0; i < ROWS * C; i++)
        f->logits[i] = (float)rng_normal(&r);
    for (int i = 0; i < U; i += 2)
        f->logits[(B + i) * C + (i / 2) % C] += 6.0f;
    for (int i = 0; i < B; i++)
        f->labels[i] = (int16_t)(i % C);
    for (int i = 0; i < U; i++)
        f->unknown[i] = IMAGESET_NO_LABEL;
}

static double run(struct fixture *f, const char *name)
{
    struct err e;
    const struct method *m = method_find(name, &e);
    assert_non_null(m);
    memset(f->dlogits, 0, sizeof f->dlogits);
    return m->loss(&f->step, f->logits, f->dlogits, &f->scalars);
}

static double scalar(const struct fixture *f, const char *name)
{
    for (int i = 0; i < f->scalars.n; i++)
        if (strcmp(f->scalars.name[i], name) == 0)
            return f->scalars.value[i];
    fail_msg("no scalar %s", name);
    return NAN;
}

static double softmax_of(const float *z, int c)
{
    double sum = 0;
    for (int k = 0; k < C; k++)
        sum += exp(z[k]);
    return exp(z[c]) / sum;
}

static void test_list(void **state)
{
    (void)state;
    int n;
    struct err e;
    const struct method *const *list = method_list(&n);
    assert_true(n >= 2);
    for (int i = 0; i < n; i++) {
        struct train_config c;
        struct method_stream s[METHOD_MAX_STREAMS];
        assert_ptr_equal(method_find(list[i]->name, &e), list[i]);
        assert_true(strlen(list[i]->summary) > 0 && strlen(list[i]->source) > 0);
        assert_true(train_defaults(&c, list[i]->name, false, &e));
        int k = list[i]->streams(&c, s);
        assert_in_range(k, 1, METHOD_MAX_STREAMS);
    }
    assert_null(method_find("mixmaster", &e));
    assert_int_equal(e.code, ERR_USAGE);
    assert_non_null(strstr(e.msg, "fixmatch"));
    assert_non_null(strstr(e.msg, "supervised"));
}

static void test_defaults(void **state)
{
    (void)state;
    struct train_config c;
    struct method_stream s[METHOD_MAX_STREAMS];
    struct err e;
    assert_true(train_defaults(&c, "fixmatch", true, &e));
    assert_string_equal(c.preset, "wrn-28-2");
    assert_int_equal(c.batch, 64);
    assert_int_equal(c.mu, 7);
    assert_near(c.tau, 0.95, 0);
    assert_near(c.lambda_u, 1, 0);
    assert_near(optim_lr(&c.optim, 0), 0.03, 1e-8);
    assert_near(optim_lr(&c.optim, 0.5), 0.03 * 0.773010, 1e-7);
    assert_near(optim_lr(&c.optim, 1), 0.03 * 0.195090, 1e-7);
    assert_int_equal(method_find("fixmatch", &e)->streams(&c, s), 2);
    assert_int_equal(s[0].n_views, 1);
    assert_int_equal(s[0].view[0], AUGMENT_WEAK); /* labelled items stay weak */
    assert_int_equal(s[1].per_batch, 7);
    assert_int_equal(s[1].view[0], AUGMENT_WEAK);
    assert_int_equal(s[1].view[1], AUGMENT_STRONG);
    assert_true(train_defaults(&c, "fixmatch", false, &e));
    assert_string_equal(c.preset, "lite");
    assert_int_equal(c.batch, 16);
    assert_int_equal(c.mu, 3);
    c.mu = 0;
    assert_int_equal(method_find("fixmatch", &e)->streams(&c, s), 1);
    assert_false(train_defaults(&c, "nothing", false, &e));
}

static void test_cross_entropy(void **state)
{
    (void)state;
    const float z[] = {1, 2, 3}, far[] = {1000, 0, -1000};
    float d[3] = {0}, p[3];
    int top;
    /* ln(e^1 + e^2 + e^3) = 3.40760596444438; softmax 0.09003057, 0.24472847, 0.66524096 */
    assert_near(semi_cross_entropy(z, 3, 2, 0, 1, d), 0.40760596444438, 1e-12);
    assert_near(d[0], 0.09003057, 1e-7);
    assert_near(d[1], 0.24472847, 1e-7);
    assert_near(d[2], 0.66524096 - 1, 1e-7);
    assert_near(semi_cross_entropy(z, 3, 0, 0.3, 2, NULL),
                2 * (3.40760596444438 - (0.8 * 1 + 0.1 * 2 + 0.1 * 3)), 1e-12);
    semi_softmax(z, 3, p);
    assert_near(p[1], 0.24472847, 1e-7);
    assert_near(semi_confidence(z, 3, &top), 0.66524096, 1e-7);
    assert_int_equal(top, 2);
    semi_softmax(far, 3, p); /* no overflow */
    assert_near(p[0], 1, 0);
    assert_near(semi_cross_entropy(far, 3, 1, 0, 1, NULL), 1000, 1e-9);
    const float equal[] = {2, 2, 1};
    semi_confidence(equal, 3, &top);
    assert_int_equal(top, 0);
}

/* dlogits of every row against central differences of the returned loss. */
static void check_gradient(struct fixture *f, const char *name, int first, int last)
{
    float d[ROWS * C];
    run(f, name);
    memcpy(d, f->dlogits, sizeof d);
    for (int i = first * C; i < last * C; i++) {
        float keep = f->logits[i];
        volatile float up = keep + 1e-3f, down = keep - 1e-3f;
        f->logits[i] = up;
        double plus = run(f, name);
        f->logits[i] = down;
        double minus = run(f, name);
        f->logits[i] = keep;
        assert_near(d[i], (plus - minus) / ((double)up - (double)down), 2e-6);
    }
}

static void test_gradients(void **state)
{
    (void)state;
    struct fixture f;
    for (uint64_t seed = 1; seed <= 3; seed++) {
        set_up(&f, seed);
        f.config.label_smoothing = 0.1;
        check_gradient(&f, "supervised", 0, ROWS);
        check_gradient(&f, "fixmatch", 0, B);
        check_gradient(&f, "fixmatch", B + U, ROWS);
        run(&f, "fixmatch");
        for (int i = B * C; i < (B + U) * C; i++)
            assert_near(f.dlogits[i], 0, 0); /* nothing flows through the pseudo-labels */
    }
}

static void test_fixmatch_by_the_book(void **state)
{
    (void)state;
    struct fixture f;
    set_up(&f, 4);
    double loss_s = 0, loss_u = 0, kept = 0, kept_of[C] = {0};
    for (int i = 0; i < B; i++)
        loss_s -= log(softmax_of(f.logits + i * C, f.labels[i])) / B;
    for (int i = 0; i < U; i++) {
        const float *weak = f.logits + (B + i) * C, *strong = weak + U * C;
        int h = 0;
        for (int c = 1; c < C; c++)
            h = weak[c] > weak[h] ? c : h;
        if (softmax_of(weak, h) < f.config.tau)
            continue;
        kept += 1.0 / U;
        kept_of[h] += 1.0 / U;
        loss_u -= log(softmax_of(strong, h)) / U;
    }
    assert_true(kept > 0.3 && kept < 0.8);
    assert_near(run(&f, "fixmatch"), loss_s + f.config.lambda_u * loss_u, 1e-9);
    assert_near(scalar(&f, "mask"), kept, 1e-12);
    assert_near(scalar(&f, "kept.0"), kept_of[0], 1e-12);
    assert_near(scalar(&f, "kept.1"), kept_of[1], 1e-12);
    assert_near(scalar(&f, "kept.2"), kept_of[2], 1e-12);
    assert_near(scalar(&f, "loss_s"), loss_s, 1e-9);
}

static void test_mask(void **state)
{
    (void)state;
    struct fixture f;
    double before = 2;
    set_up(&f, 5);
    for (double tau = 0; tau <= 1.05; tau += 0.05) {
        f.config.tau = tau;
        run(&f, "fixmatch");
        double mask = scalar(&f, "mask");
        assert_true(mask <= before);
        if (tau <= 1.0 / C)
            assert_near(mask, 1, 0);
        before = mask;
    }
    assert_near(before, 0, 0);
    f.config.tau = 0.8;
    double loss = run(&f, "fixmatch"), mask = scalar(&f, "mask");
    for (int i = 0; i < ROWS; i++)
        for (int c = 0; c < C; c++)
            f.logits[i * C + c] += (float)(i % 7) * 0.5f;
    assert_near(run(&f, "fixmatch"), loss, 1e-5);
    assert_near(scalar(&f, "mask"), mask, 0);
}

/* Two classes: max softmax >= 0.95 means |z1 - z0| >= ln 19. */
static void test_binary_threshold(void **state)
{
    (void)state;
    struct fixture f;
    set_up(&f, 6);
    f.step.n_classes = 2;
    f.config.tau = 0.95;
    f.step.items[0] = 1;
    f.step.offset[1] = 1;
    f.step.items[1] = 4;
    const float gap[] = {2.9443f, 2.9446f, -2.9443f, -2.9446f};
    memset(f.logits, 0, sizeof f.logits);
    for (int i = 0; i < 4; i++)
        f.logits[2 * (1 + i) + 1] = gap[i];
    run(&f, "fixmatch");
    assert_near(scalar(&f, "mask"), 0.5, 0);
    assert_near(scalar(&f, "kept.0"), 0.25, 0);
    assert_near(scalar(&f, "kept.1"), 0.25, 0);
}

/* tau > 1 keeps nothing, lambda_u = 0 weighs it by nothing: labelled rows carry the bits of supervised
 * training. */
static void test_degenerate_is_supervised(void **state)
{
    (void)state;
    struct fixture f;
    float want[ROWS * C];
    set_up(&f, 7);
    double loss = run(&f, "supervised");
    memcpy(want, f.dlogits, sizeof want);
    f.config.tau = 1.01;
    assert_true(run(&f, "fixmatch") == loss);
    assert_memory_equal(f.dlogits, want, sizeof want);
    f.config.tau = 0.1;
    f.config.lambda_u = 0;
    assert_true(run(&f, "fixmatch") == loss);
    for (int i = 0; i < ROWS * C; i++)
        assert_true(f.dlogits[i] == want[i]);
}

/* Variants off the shelf: which views, whose guesses, how aligned. */
static void test_fixmatch_variants(void **state)
{
    (void)state;
    struct fixture f;
    struct method_stream streams[METHOD_MAX_STREAMS];
    struct err e;
    const struct method *m = method_find("fixmatch", &e);
    set_up(&f, 8);
    f.config.weak_only = 1;
    assert_int_equal(m->streams(&f.config, streams), 2);
    assert_int_equal(streams[1].view[1], AUGMENT_WEAK);
    f.config.weak_only = 0;

    float target[ROWS * C];
    f.step.target = target;
    double self = run(&f, "fixmatch"), mask = scalar(&f, "mask");
    /* A teacher who says what the student says, to float precision. */
    for (int i = 0; i < ROWS; i++)
        semi_softmax(f.logits + i * C, C, target + i * C);
    f.config.teacher = METHOD_TEACHER_EMA;
    assert_near(run(&f, "fixmatch"), self, 1e-9);
    assert_near(scalar(&f, "mask"), mask, 0);
    check_gradient(&f, "fixmatch", 0, ROWS); /* none through the guesses */
    /* One who is sure of class 2 everywhere. */
    for (int i = 0; i < ROWS * C; i++)
        target[i] = i % C == 2 ? 0.98f : 0.01f;
    run(&f, "fixmatch");
    assert_near(scalar(&f, "kept.2"), 1, 0);
    f.config.teacher = METHOD_TEACHER_SELF;

    /* Alignment from its uniform start is the identity; after 128 pushes of what it saw it is not. */
    f.config.align = METHOD_ALIGN_LABELS;
    f.step.state = m->state_create(&f.step, &e);
    assert_non_null(f.step.state);
    assert_near(run(&f, "fixmatch"), self, 1e-5);
    double q[C] = {0};
    for (int i = 0; i < U; i++)
        for (int c = 0; c < C; c++)
            q[c] += softmax_of(f.logits + (B + i) * C, c) / U;
    for (f.step.step = 1; f.step.step < 200; f.step.step++)
        run(&f, "fixmatch");
    /* Labels are one of each class: wanted stays uniform. */
    double kept = 0;
    for (int i = 0; i < U; i++) {
        double p[C], sum = 0, top = 0;
        for (int c = 0; c < C; c++)
            sum += p[c] = softmax_of(f.logits + (B + i) * C, c) * (1e-6 + 1.0 / C) / (1e-6 + q[c]);
        for (int c = 0; c < C; c++)
            top = fmax(top, p[c] / sum);
        kept += top >= f.config.tau;
    }
    run(&f, "fixmatch");
    assert_near(scalar(&f, "mask"), kept / U, 1e-9);
    struct method_state_tensor t[8];
    assert_int_equal(m->state_tensors(f.step.state, t), 2);
    m->state_free(f.step.state);
    f.config.align = METHOD_ALIGN_OFF;
    f.step.state = m->state_create(&f.step, &e);
    assert_int_equal(m->state_tensors(f.step.state, t), 0); /* a plain run's file stays as it was */
    m->state_free(f.step.state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_list),
        cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_cross_entropy),
        cmocka_unit_test(test_gradients),
        cmocka_unit_test(test_fixmatch_by_the_book),
        cmocka_unit_test(test_mask),
        cmocka_unit_test(test_binary_threshold),
        cmocka_unit_test(test_degenerate_is_supervised),
        cmocka_unit_test(test_fixmatch_variants),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
