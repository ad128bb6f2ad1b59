/* SPDX-License-Identifier: Apache-2.0
 *
 * test_tract.c - the algebra of diffusion and of its distillation against numbers worked out elsewhere, then
 * distillation itself: of a Gaussian, where the answer is known to nine digits, and of a ring of eight
 * Gaussians through networks, training, saving and taking up again. */
#include "models/learn/tract.h"
#include "samples/experiments/tract_ring.h"

#include <math.h>
#include <omp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static void test_schedule_vectors(void **state)
{
    (void)state;
    const struct tract_schedule s = tract_schedule_make(1024);
    assert_true(fabs(s.b - 4.539992973e-5) < 1e-14);
    assert_true(fabs(s.a - 1.570705526935) < 1e-12);
    assert_true(fabs((1 - tract_gamma(&s, 0)) - 2.0611536e-9) < 1e-15);
    assert_true(fabs(tract_log_snr(&s, 256) - 1.7626187666) < 1e-9);
    assert_true(fabs(tract_gamma(&s, 256) - 0.8535373389) < 1e-9);
    assert_true(fabs(tract_log_snr(&s, 0) - 20) < 1e-9 && fabs(tract_log_snr(&s, 1024) + 20) < 1e-6);
    /* weights: about 4.0e5 at t = 1, 4.1e2 at t = 32, never below 1 */
    assert_true(fabs(tract_weight(&s, 1, 0) / 4.0e5 - 1) < 0.02);
    assert_true(fabs(tract_weight(&s, 32, 0) / 4.1e2 - 1) < 0.02);
    assert_true(tract_weight(&s, 1, 1000) == 1000 && tract_weight(&s, 1024, 0) == 1);
}

/* Angles are another way to write the published gamma formulas; T undoes a step; steps with one prediction are
 * a semigroup. */
static void test_step_identities(void **state)
{
    (void)state;
    const struct tract_schedule s = tract_schedule_make(1024);
    struct rng r;
    rng_init(&r, 1, RNG_METHOD, 0);
    double worst_inverse = 0, worst_form = 0, worst_group = 0;
    for (int i = 0; i < 200000; i++) {
        const int t = i < 1024 ? i + 1 : 1 + (int)rng_below(&r, 1024), to = (int)rng_below(&r, (uint32_t)t);
        const double hat = 2 * rng_uniform(&r) - 1, x = rng_normal(&r);
        double there, back, mid;
        tract_step(&s, t, to, &hat, &x, 1, &there);
        tract_invert(&s, t, to, &x, &there, 1, &back);
        worst_inverse = fmax(worst_inverse, fabs(back - hat));
        if (t > 20) { /* where 1 - gamma has not lost its digits */
            const double g = tract_gamma(&s, t), h = tract_gamma(&s, to);
            const double form = sqrt(h) * hat + sqrt(1 - h) * (x - sqrt(g) * hat) / sqrt(1 - g);
            worst_form = fmax(worst_form, to > 20 ? fabs(form - there) : 0);
        }
        if (t - to > 1) {
            const int between = to + 1 + (int)rng_below(&r, (uint32_t)(t - to - 1));
            tract_step(&s, t, between, &hat, &x, 1, &mid);
            tract_step(&s, between, to, &hat, &mid, 1, &mid);
            worst_group = fmax(worst_group, fabs(mid - there));
        }
    }
    print_message("inverse %.2g, gamma form %.2g, semigroup %.2g\n", worst_inverse, worst_form, worst_group);
    assert_true(worst_inverse < 1e-11);
    assert_true(worst_form < 1e-12);
    assert_true(worst_group < 1e-13);
}

static void test_average_vector(void **state)
{
    (void)state;
    struct tract_average a = {.momentum = 0.5};
    const float v[3] = {1, 2, 3}, want[3] = {1, 1.666667f, 2.428571f};
    float e = NAN; /* the first update copies, whatever was there */
    for (int i = 0; i < 3; i++) {
        tract_average_update(&a, &e, &v[i], 1);
        assert_true(fabsf(e - want[i]) < 1e-6f);
    }
    /* 0.99996 for 196,608 steps a phase and a residual of 1e-3 */
    assert_true(fabs(tract_momentum(1e-3, 196608) - 0.99996) < 6e-6);
    assert_true(fabs(pow(tract_momentum(1e-3, 500), 500) - 1e-3) < 1e-12);
}

static void test_places(void **state)
{
    (void)state;
    const struct tract_schedule s = tract_schedule_make(64);
    const struct tract_phase p = {.step = 2, .group = 16};
    int seen[65] = {0};
    struct rng r;
    rng_init(&r, 3, RNG_METHOD, 1);
    for (int i = 0; i < 100000; i++) {
        const struct tract_place at = tract_place_draw(&s, &p, &r);
        assert_true(at.t >= 1 && at.t <= 64 && at.mid == at.t - 2 && at.mid >= at.bottom && at.bottom >= 0);
        assert_true(at.bottom % 16 == 0 && at.t - at.bottom <= 16 && at.t > at.bottom);
        seen[at.t]++;
    }
    for (int t = 2; t <= 64; t += 2) /* 32 places, each as often */
        assert_true(seen[t] > 2700 && seen[t] < 3550);
    const struct tract_phase tops = {.step = 8, .group = 16, .tops_only = true};
    for (int i = 0; i < 1000; i++)
        assert_int_equal(tract_place_draw(&s, &tops, &r).t % 16, 0);
}

/* ---- data N(0, 1/4): the best prediction is linear, c(phi) x_t ---- */

struct linear {
    const struct tract_schedule *s;
    double factor[1025];
};

static void linear_predict(void *ctx, const double *x, const int *t, const int *label, int n, double *x_hat)
{
    const struct linear *l = ctx;
    (void)label;
    for (int i = 0; i < n; i++) {
        assert_true(t[i] >= 1);
        x_hat[i] = l->factor[t[i]] * x[i];
    }
}

static void linear_exact(struct linear *l, const struct tract_schedule *s)
{
    l->s = s;
    for (int t = 0; t <= s->n_steps; t++) {
        const double c = cos(tract_angle(s, t)), d = sin(tract_angle(s, t));
        l->factor[t] = 0.25 * c / (0.25 * c * c + d * d);
    }
}

static double sample_one(const struct tract_schedule *s, struct linear *l, int n_steps)
{
    const struct tract_predictor p = {linear_predict, l};
    double x = 1, work;
    tract_sample(s, &p, n_steps, &x, NULL, 1, 1, false, &work);
    return x;
}

/* Multipliers from T to 0 by the number of teacher steps. */
static const struct {
    int n;
    double multiplier;
} table[] = {{8, 0.4113882163}, {64, 0.4880957955}, {1024, 0.4992476944}};

static void test_sampler_table(void **state)
{
    (void)state;
    const struct tract_schedule s = tract_schedule_make(1024);
    struct linear exact;
    linear_exact(&exact, &s);
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        assert_true(fabs(sample_one(&s, &exact, table[i].n) - table[i].multiplier) < 1e-9);
}

/* A student of one number per time: at each place it is set to what its target asks for; the self-teacher is
 * its average. `plan`: number of steps after each phase. */
static double distil_linear(int teacher_steps, const int *plan, int n_phases)
{
    const struct tract_schedule s = tract_schedule_make(1024);
    static struct linear teacher, student, self;
    linear_exact(&teacher, &s);
    student = self = teacher;
    int step = 1024 / teacher_steps;
    for (int p = 0; p < n_phases; p++) {
        const int group = 1024 / plan[p];
        struct tract_average share = {.momentum = 0.5};
        const struct tract_predictor by_teacher = {linear_predict, &teacher},
                                     by_self = {linear_predict, &self};
        struct tract_place place[1024];
        double x[1024], target[1024], *work = calloc(tract_target_work(1024, 1), sizeof *work);
        int n = 0;
        for (int bottom = 0; bottom < 1024; bottom += group)
            for (int t = bottom + step; t <= bottom + group; t += step) {
                place[n] = (struct tract_place){t, t - step, bottom};
                x[n++] = 1 + 0.1 * (t % 3);
            }
        for (int sweep = 0; sweep < 3 * (group / step) + 100; sweep++) {
            tract_targets(&s, place, &by_teacher, &by_self, x, NULL, n, 1, false, work, target);
            const double d = tract_average_share(&share);
            for (int i = 0; i < n; i++) {
                student.factor[place[i].t] = target[i] / x[i];
                self.factor[place[i].t] += d * (student.factor[place[i].t] - self.factor[place[i].t]);
            }
        }
        free(work);
        teacher = self; /* what the evaluation average has converged to */
        step = group;
    }
    return sample_one(&s, &teacher, plan[n_phases - 1]);
}

static void test_distil_gaussian(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        const double one = distil_linear(table[i].n, (int[]){1}, 1);
        print_message("%d steps in one: %.10f\n", table[i].n, one);
        assert_true(fabs(one - table[i].multiplier) < 1e-6);
    }
    assert_true(fabs(distil_linear(1024, (int[]){32, 1}, 2) - table[2].multiplier) < 1e-6);
}

/* Nothing is left to learn when teacher and self-teacher are the exact composition: one group whose teacher's
 * step is the group. And at the last place of a group the target is the teacher's clipped prediction. */
static void test_anchor(void **state)
{
    (void)state;
    const struct tract_schedule s = tract_schedule_make(1024);
    static struct linear exact;
    linear_exact(&exact, &s);
    const struct tract_predictor p = {linear_predict, &exact};
    enum { N = 64 };
    struct tract_place place[N];
    double x[N], target[N], *work = calloc(tract_target_work(N, 1), sizeof *work);
    for (int i = 0; i < N; i++) {
        const int bottom = 16 * i;
        place[i] = (struct tract_place){bottom + 4, bottom, bottom};
        x[i] = 3 * sin(1.0 + i);
    }
    tract_targets(&s, place, &p, &p, x, NULL, N, 1, true, work, target);
    for (int i = 0; i < N; i++) {
        const double want = fmax(-1, fmin(1, exact.factor[place[i].t] * x[i]));
        assert_true(fabs(target[i] - want) < 1e-11);
    }
    free(work);
}

/* BTD written out on its own: both steps by the teacher, from the top of a group of two. */
static void test_btd_is_a_case(void **state)
{
    (void)state;
    const struct tract_schedule s = tract_schedule_make(64);
    static struct linear l;
    linear_exact(&l, &s);
    const struct tract_predictor p = {linear_predict, &l};
    const struct tract_phase phase = {.step = 4, .group = 8, .tops_only = true};
    enum { N = 200 };
    struct tract_place place[N];
    struct rng r;
    double x[N], target[N], *work = calloc(tract_target_work(N, 1), sizeof *work);
    rng_init(&r, 5, RNG_METHOD, 0);
    for (int i = 0; i < N; i++) {
        place[i] = tract_place_draw(&s, &phase, &r);
        x[i] = rng_normal(&r);
    }
    tract_targets(&s, place, &p, &p, x, NULL, N, 1, true, work, target);
    for (int i = 0; i < N; i++) {
        const int t = place[i].t, half = t - 4, low = t - 8;
        double hat = fmax(-1, fmin(1, l.factor[t] * x[i])), mid, end, want;
        tract_step(&s, t, half, &hat, &x[i], 1, &mid);
        hat = fmax(-1, fmin(1, l.factor[half] * mid));
        tract_step(&s, half, low, &hat, &mid, 1, &end);
        tract_invert(&s, t, low, &x[i], &end, 1, &want);
        assert_memory_equal(&want, &target[i], sizeof want);
    }
    free(work);
}

/* ---- networks: a ring of Gaussians, small enough to be learnt in seconds ---- */

/* The document's acceptance: one jump lands within 0.05 of the teacher's 64 steps, two phases are well ahead of
 * one, and the points are not much further from fresh data than the teacher's. */
static void test_distil_ring(void **state)
{
    (void)state;
    const struct ring ring = {.hidden = 64,
                              .batch = 128,
                              .n_judged = 1024,
                              .lr = 2e-3,
                              .teacher_updates = 1000,
                              .distil_updates = 1000};
    const int threads = omp_get_max_threads();
    omp_set_num_threads(1); /* too little work to share */
    float *teacher = ring_train(&ring, TRACT_TEACHER, NULL, NULL);
    float *two = ring_train(&ring, TRACT_DISTILL, "64,8,1", teacher);
    float *single = ring_train(&ring, TRACT_DISTILL, "64,1", teacher);
    double *many = ring_points(&ring, teacher, 64), *none = ring_points(&ring, teacher, 1);
    double *x = ring_points(&ring, two, 1), *y = ring_points(&ring, single, 1), *fresh = ring_data(&ring, 0);
    const double undistilled = ring_rmse(&ring, none, many), rmse = ring_rmse(&ring, x, many),
                 rmse_one = ring_rmse(&ring, y, many), swd = ring_swd(&ring, x, fresh),
                 swd_teacher = ring_swd(&ring, many, fresh);
    print_message("undistilled %.3f, two phases %.3f, one phase %.3f; SWD %.3f, teacher's %.3f\n",
                  undistilled, rmse, rmse_one, swd, swd_teacher);
    omp_set_num_threads(threads);
    assert_true(undistilled > 0.25);
    assert_true(rmse <= 0.05 && rmse <= 0.7 * rmse_one);
    assert_true(swd <= 1.3 * swd_teacher && swd_teacher < 0.25);
    free(teacher);
    free(two);
    free(single);
    free(many);
    free(none);
    free(x);
    free(y);
    free(fresh);
}

/* ---- runs: files, threads ---- */

enum { SIDE = 4, IMAGE = SIDE * SIDE * 3 };

static void draw_image(void *ctx, uint64_t seed, uint64_t index, float *x, int *label)
{
    (void)ctx;
    struct rng r;
    rng_init(&r, seed, RNG_SHUFFLE, index);
    *label = (int)rng_below(&r, 3);
    for (int i = 0; i < IMAGE; i++)
        x[i] = (float)(0.5 * (*label - 1) + 0.2 * rng_normal(&r));
}

static const struct tract_data images = {draw_image, NULL};

static struct tract_config image_config(enum tract_method method)
{
    struct tract_config c;
    struct err e = {0};
    tract_config_defaults(&c, method);
    c.net = (struct unet_config){.kind = UNET_IMAGE,
                                 .size = SIDE,
                                 .c_in = 3,
                                 .c_out = 3,
                                 .n_classes = 3,
                                 .base = 8,
                                 .embed = 16,
                                 .n_levels = 2,
                                 .multiplier = {1, 2},
                                 .n_blocks = 1,
                                 .attention = 2,
                                 .groups = 4};
    c.n_steps = 16;
    c.batch = 6;
    c.n_updates = 12;
    c.seed = 9;
    if (method != TRACT_TEACHER)
        assert_true(tract_plan_parse(&c, method == TRACT_BTD ? "16,8,4" : "16,4,1", &e));
    return c;
}

static float *some_teacher(const struct tract_config *c)
{
    struct err e = {0};
    struct unet *u = unet_create(&c->net, 1, false, &e);
    float *w = calloc(unet_count(&c->net), sizeof *w);
    assert_true(u && w);
    unet_init(u, 77, w);
    unet_free(u);
    return w;
}

static char *slurp(const char *path, size_t *size)
{
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    char *text = calloc(1, 1 << 22);
    *size = fread(text, 1, 1 << 22, f);
    fclose(f);
    return text;
}

/* Runs c for `first` updates, through a file, and on; writes the end to path. */
static void run_to(const struct tract_config *c, uint64_t first, int threads, const char *path)
{
    struct err e = {0};
    float *teacher = c->method == TRACT_TEACHER ? NULL : some_teacher(c);
    const int before = omp_get_max_threads();
    omp_set_num_threads(threads);
    struct tract_run *r = tract_create(c, teacher, &e);
    assert_non_null(r);
    if (first > 0) {
        assert_true(tract_train(r, &images, first, NULL, &e));
        assert_int_equal(tract_updates_done(r), first);
        assert_true(tract_save(r, path, NULL, 0, &e));
        tract_free(r);
        r = tract_resume(path, c, &e);
        if (!r)
            fail_msg("%s", e.msg);
    }
    assert_true(tract_train(r, &images, 0, NULL, &e));
    assert_true(tract_save(r, path, NULL, 0, &e));
    tract_free(r);
    omp_set_num_threads(before);
    free(teacher);
}

/* Unbroken, stopped in each phase and resumed, on one thread and on three: one and the same file. */
static void test_resume_same_bits(void **state)
{
    (void)state;
    for (int method = TRACT_TEACHER; method <= TRACT_BTD; method++) {
        const struct tract_config c = image_config(method);
        size_t n, m;
        run_to(&c, 0, 1, "tract_a.safetensors");
        char *want = slurp("tract_a.safetensors", &n);
        for (int k = 0; k < 3; k++) {
            run_to(&c, (uint64_t[]){0, 4, 9}[k], k == 1 ? 2 : 3, "tract_b.safetensors");
            char *got = slurp("tract_b.safetensors", &m);
            assert_int_equal(n, m);
            assert_memory_equal(want, got, n);
            free(got);
        }
        free(want);
    }
    unlink("tract_a.safetensors");
    unlink("tract_b.safetensors");
}

/* Updates change the student by what its loss asks for: a teacher of three kinds of image learns to tell them. */
static void test_teacher_learns_classes(void **state)
{
    (void)state;
    struct err e = {0};
    struct tract_config c = image_config(TRACT_TEACHER);
    c.n_updates = 250;
    c.batch = 32;
    c.lr = 3e-3;
    c.cap = 100;
    struct tract_run *r = tract_create(&c, NULL, &e);
    assert_true(r && tract_train(r, &images, 0, NULL, &e));
    struct tract_denoiser d;
    assert_true(tract_denoiser_open(&d, &c.net, c.n_steps, 8, tract_average_weights(r), &e));
    double x[12 * IMAGE];
    int label[12];
    for (int i = 0; i < 12; i++)
        label[i] = i % 3;
    assert_true(tract_generate(&d, 16, true, 5, 0, 12, label, x, NULL, &e));
    double mean[3] = {0};
    for (int i = 0; i < 12; i++)
        for (int k = 0; k < IMAGE; k++)
            mean[label[i]] += x[i * IMAGE + k] / (4.0 * IMAGE);
    print_message("means of samples of three classes: %.2f %.2f %.2f\n", mean[0], mean[1], mean[2]);
    for (int i = 0; i < 3; i++)
        assert_true(fabs(mean[i] - 0.5 * (i - 1)) < 0.15);
    /* a sample depends on its own number alone */
    double again[IMAGE];
    assert_true(tract_generate(&d, 16, true, 5, 7, 1, label + 7, again, NULL, &e));
    for (int k = 0; k < IMAGE; k++)
        assert_true(fabs(again[k] - x[7 * IMAGE + k]) < 1e-4);
    tract_denoiser_close(&d);
    tract_free(r);
}

static void test_refusals(void **state)
{
    (void)state;
    struct err e = {0};
    struct tract_config c = image_config(TRACT_DISTILL);
    assert_false(tract_plan_parse(&c, "16,x", &e));
    assert_false(tract_plan_parse(&c, "", &e));
    assert_true(tract_plan_parse(&c, "16,5,1", &e));
    assert_false(tract_config_check(&c, &e));
    assert_int_equal(e.code, ERR_USAGE);
    assert_true(tract_plan_parse(&c, "32,1", &e)); /* the teacher has 16 */
    assert_false(tract_config_check(&c, &e));
    c = image_config(TRACT_BTD);
    assert_true(tract_plan_parse(&c, "16,4", &e));
    assert_false(tract_config_check(&c, &e));
    assert_non_null(strstr(e.msg, "halves"));

    c = image_config(TRACT_TEACHER);
    run_to(&c, 0, 1, "tract_c.safetensors");
    struct tract_config other = c;
    other.lr = 1e-3;
    assert_null(tract_resume("tract_c.safetensors", &other, &e));
    assert_int_equal(e.code, ERR_MODEL);
    assert_non_null(strstr(e.msg, "other settings"));
    const float weight = 1;
    const struct checkpoint_tensor t = {"net.x", CHECKPOINT_F32, 1, {1}, &weight};
    const struct checkpoint_meta meta[] = {{"aftermap.kind", "diffusion"},
                                           {"diffuse.config", "{\"method\":9}"}};
    struct tract_model m;
    for (int n = 0; n <= 2; n += 2) { /* some other model; settings that make no sense */
        assert_true(checkpoint_write("tract_c.safetensors", &t, 1, meta, n, &e));
        assert_false(tract_model_open(&m, "tract_c.safetensors", &e));
        assert_int_equal(e.code, ERR_MODEL);
        assert_non_null(strstr(e.msg, "tract_c.safetensors"));
    }
    unlink("tract_c.safetensors");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_schedule_vectors),
        cmocka_unit_test(test_step_identities),
        cmocka_unit_test(test_average_vector),
        cmocka_unit_test(test_places),
        cmocka_unit_test(test_sampler_table),
        cmocka_unit_test(test_distil_gaussian),
        cmocka_unit_test(test_anchor),
        cmocka_unit_test(test_btd_is_a_case),
        cmocka_unit_test(test_distil_ring),
        cmocka_unit_test(test_resume_same_bits),
        cmocka_unit_test(test_teacher_learns_classes),
        cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
