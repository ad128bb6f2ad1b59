/* SPDX-License-Identifier: Apache-2.0
 *
 * test_train.c - the training loop: it can overfit; a resumed run and runs on 1, 2 and 5 threads end in the
 * same bits; the steady step allocates nothing; FixMatch without its unlabelled part is supervised training
 * bit for bit, and with it beats supervised training on few labels; bad data is refused in a sentence.
 *
 * The images are drawn here: a disc, a ring, a cross or a pair of bars in random colours, place and size
 * under noise, so that neither colour nor position tells the class. Most tests run on one thread: on a busy
 * machine the barriers of several cost more than such small work. */
#include "models/base/file.h"
#include "models/base/mem.h"
#include "models/base/rng.h"
#include "models/learn/batches.h"
#include "models/learn/predict.h"
#include "models/learn/train.h"

#include <math.h>
#include <omp.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

enum { SIDE = 16, SHAPES = 4 };

static bool is_inside(int shape, double x, double y, double r)
{
    double d = hypot(x, y);
    switch (shape) {
    case 0:
        return d < r;
    case 1:
        return d < r && d > 0.55 * r;
    case 2:
        return (fabs(x) < 0.3 * r && fabs(y) < r) || (fabs(y) < 0.3 * r && fabs(x) < r);
    default:
        return fabs(y) < r && fabs(x) < r && fabs(fabs(x) - 0.65 * r) < 0.35 * r;
    }
}

static void draw_shape(uint8_t *px, int shape, struct rng *g)
{
    double back[3], front[3];
    for (int c = 0; c < 3; c++) {
        back[c] = 30 + 70 * rng_uniform(g);
        front[c] = 150 + 75 * rng_uniform(g);
    }
    double cx = 7.5 + 4 * (rng_uniform(g) - 0.5), cy = 7.5 + 4 * (rng_uniform(g) - 0.5),
           r = 4 + 2 * rng_uniform(g);
    for (int y = 0; y < SIDE; y++)
        for (int x = 0; x < SIDE; x++) {
            bool inside = is_inside(shape, x - cx, y - cy, r);
            for (int c = 0; c < 3; c++) {
                double v = (inside ? front[c] : back[c]) + 15 * rng_normal(g);
                *px++ = (uint8_t)(v < 0 ? 0 : v > 255 ? 255 : v);
            }
        }
}

/* The last n_test of n images are the test split. */
static void make_set(struct imageset *set, size_t n, size_t n_test, int n_classes)
{
    const struct imageset_layout l = {.size = SIDE, .n_dates = 1, .n_bands = 3};
    struct err e;
    memset(set, 0, sizeof *set);
    assert_true(imageset_alloc(set, n, &l, &e));
    set->n_classes = n_classes;
    snprintf(set->source, sizeof set->source, "shapes");
    for (int c = 0; c < n_classes; c++)
        snprintf(set->class_name[c], sizeof set->class_name[c], "shape%d", c);
    for (size_t i = 0; i < n; i++) {
        struct rng g;
        rng_init(&g, 4711, RNG_METHOD, i);
        set->label[i] = (int16_t)(i % (size_t)n_classes);
        set->id[i] = (int64_t)(1000 + i);
        set->block[i] = (int32_t)i;
        set->split[i] = i >= n - n_test ? IMAGESET_TEST : IMAGESET_TRAIN;
        draw_shape(set->px + i * SIDE * SIDE * 3, set->label[i], &g);
    }
}

static struct train_config quick_config(const char *method)
{
    struct train_config c;
    struct err e;
    assert_true(train_defaults(&c, method, true, &e));
    c.preset = "lite3";
    c.labels_per_class = 4;
    c.batch = 4;
    c.mu = 2;
    c.steps = 6;
    c.budget_s = 0;
    c.seed = 3;
    return c;
}

static void temp_path(char out[64], const char *name)
{
    snprintf(out, 64, "test_train_%ld_%s.safetensors", (long)getpid(), name);
}

static struct train_report train(const struct imageset *set, const struct train_config *c, const char *path,
                                 bool resume)
{
    struct train_report r = {0};
    struct err e = {0};
    if (!train_run(set, c, path, resume, NULL, 0, NULL, &r, &e))
        fail_msg("%s", e.msg);
    return r;
}

static void digest_of(const char *path, char out[65])
{
    struct err e = {0};
    struct checkpoint *c = checkpoint_open(path, &e);
    if (!c)
        fail_msg("%s", e.msg);
    snprintf(out, 65, "%s", checkpoint_digest(c));
    checkpoint_close(c);
}

static double test_accuracy(const struct imageset *set, const char *path)
{
    struct err e = {0};
    struct model *m = model_load(path, &e);
    if (!m)
        fail_msg("%s", e.msg);
    struct predictor *p = predictor_create(m, 50, 1, &e);
    assert_non_null(p);
    size_t right = 0, total = 0, image = SIDE * SIDE * 3;
    float probs[64];
    for (size_t i = 0; i < set->n; i++) {
        if (set->split[i] != IMAGESET_TEST)
            continue;
        int top = 0;
        predictor_run(p, set->px + i * image, 1, probs, NULL);
        for (int c = 1; c < set->n_classes; c++)
            top = probs[c] > probs[top] ? c : top;
        right += top == set->label[i];
        total++;
    }
    predictor_free(p);
    model_free(m);
    return (double)right / (double)total;
}

/* Every reported step asks the run to stop; the first step of a run is always reported. */
static volatile sig_atomic_t stop;

static void stop_at_once(void *ctx, const char *stage, double done, double total, const char *note)
{
    (void)ctx, (void)stage, (void)done, (void)total;
    assert_non_null(strstr(note, "loss"));
    stop = 1;
}

static void test_overfits(void **state)
{
    (void)state;
    struct imageset set;
    char path[64];
    make_set(&set, 64, 32, SHAPES);
    temp_path(path, "overfit");
    struct train_config c = quick_config("supervised");
    c.labels_per_class = 8;
    c.label_smoothing = 0;
    c.batch = 32;
    c.steps = 60;
    struct train_report r = train(&set, &c, path, false);
    assert_int_equal(r.n_labeled, 32);
    assert_int_equal(r.n_unlabeled, 32);
    assert_true(r.final_loss < 0.05);
    for (size_t i = 0; i < 32; i++) /* the same images, now as the model's users see them */
        set.split[i] = IMAGESET_TEST;
    for (size_t i = 32; i < 64; i++)
        set.split[i] = IMAGESET_TRAIN;
    assert_true(test_accuracy(&set, path) == 1.0);
    unlink(path);
    imageset_free(&set);
}

static void test_fixmatch_beats_supervised(void **state)
{
    (void)state;
    struct imageset set;
    char path[64];
    double accuracy[2];
    make_set(&set, 720, 200, SHAPES);
    temp_path(path, "race");
    for (int k = 0; k < 2; k++) {
        struct train_config c = quick_config(k ? "fixmatch" : "supervised");
        c.batch = 8;
        c.mu = 5;
        c.steps = 150;
        c.seed = 1;
        struct train_report r = train(&set, &c, path, false);
        accuracy[k] = test_accuracy(&set, path);
        print_message("%s, 4 labels a class: accuracy %.3f, %.1f s\n", c.method, accuracy[k], r.seconds);
    }
    assert_true(accuracy[1] > accuracy[0] + 0.08);
    unlink(path);
    imageset_free(&set);
}

static void check_resume(const struct train_config *c, const struct imageset *set)
{
    char whole[64], broken[64], want[65], got[65];
    struct train_report r;
    struct err e;
    const struct progress p = {.report = stop_at_once, .stop = &stop};
    temp_path(whole, "whole");
    temp_path(broken, "broken");
    train(set, c, whole, false);
    digest_of(whole, want);
    for (int64_t done = 1; done <= c->steps; done++) {
        stop = 0;
        bool ok = train_run(set, c, broken, done > 1, NULL, 0, &p, &r, &e);
        assert_int_equal(r.steps, done);
        assert_int_equal(ok, done == c->steps);
        if (!ok) {
            assert_int_equal(e.code, ERR_INTERRUPTED);
            assert_non_null(strstr(e.msg, broken));
        }
    }
    digest_of(broken, got);
    assert_string_equal(got, want);
    train(set, c, broken, true); /* a finished run has nothing left to do */
    digest_of(broken, got);
    assert_string_equal(got, want);
    unlink(whole);
    unlink(broken);
}

static void test_resume_equals_unbroken(void **state)
{
    (void)state;
    struct imageset set;
    make_set(&set, 60, 12, SHAPES);
    struct train_config c = quick_config("fixmatch");
    c.tau = 0.4; /* so that pseudo-labels take part */
    check_resume(&c, &set);
    c = quick_config("supervised");
    c.steps = 3;
    c.optim.kind = OPTIM_ADAM;
    c.optim.decay = OPTIM_DECAY_DECOUPLED;
    c.optim.lr = 0.002f;
    c.optim.ema_running_stats = true;
    check_resume(&c, &set);
    imageset_free(&set);
}

/* Transductive: the test items' images join the unlabelled pool, their labels have no say; without it neither
 * has. */
static void test_transductive(void **state)
{
    (void)state;
    struct imageset set;
    char path[64], plain[65], with[65], other_labels[65], other_images[65];
    make_set(&set, 60, 12, SHAPES);
    temp_path(path, "transductive");
    struct train_config c = quick_config("fixmatch");
    c.tau = 0.4;
    c.steps = 3;
    assert_int_equal(train(&set, &c, path, false).n_unlabeled, 48);
    digest_of(path, plain);
    c.transductive = true;
    assert_int_equal(train(&set, &c, path, false).n_unlabeled, 60);
    digest_of(path, with);
    for (size_t i = 48; i < 60; i++)
        set.label[i] = (int16_t)((set.label[i] + 1) % SHAPES);
    train(&set, &c, path, false);
    digest_of(path, other_labels);
    memset(set.px + 48 * SIDE * SIDE * 3, 77, 12 * SIDE * SIDE * 3);
    train(&set, &c, path, false);
    digest_of(path, other_images);
    assert_string_not_equal(plain, with);
    assert_string_equal(with, other_labels);
    assert_string_not_equal(with, other_images);
    c.transductive = false;
    train(&set, &c, path, false);
    digest_of(path, other_images);
    assert_string_equal(plain, other_images);
    unlink(path);
    imageset_free(&set);
}

static void test_resume_refuses_another_run(void **state)
{
    (void)state;
    struct imageset set;
    struct train_report r;
    struct err e;
    char path[64], before[65], after[65];
    make_set(&set, 60, 12, SHAPES);
    temp_path(path, "other");
    struct train_config c = quick_config("supervised");
    c.steps = 2;
    train(&set, &c, path, false);
    digest_of(path, before);
    struct train_config other = c;
    other.optim.lr *= 2;
    assert_false(train_run(&set, &other, path, true, NULL, 0, NULL, &r, &e));
    assert_int_equal(e.code, ERR_MODEL);
    other = c;
    other.steps = 4;
    assert_false(train_run(&set, &other, path, true, NULL, 0, NULL, &r, &e));
    assert_int_equal(e.code, ERR_MODEL);
    set.split[0] = IMAGESET_BUFFER;
    assert_false(train_run(&set, &c, path, true, NULL, 0, NULL, &r, &e));
    assert_int_equal(e.code, ERR_MODEL);
    assert_non_null(strstr(e.msg, path));
    digest_of(path, after);
    assert_string_equal(before, after);
    unlink(path);
    imageset_free(&set);
}

static void test_threads_give_the_same_bits(void **state)
{
    (void)state;
    static const int threads[] = {1, 2, 5};
    struct imageset set;
    char path[64], digest[3][65];
    make_set(&set, 60, 12, SHAPES);
    temp_path(path, "threads");
    struct train_config c = quick_config("fixmatch");
    c.tau = 0.4;
    c.steps = 4;
    for (int k = 0; k < 3; k++) {
        omp_set_num_threads(threads[k]);
        train(&set, &c, path, false);
        digest_of(path, digest[k]);
    }
    omp_set_num_threads(1);
    assert_string_equal(digest[0], digest[1]);
    assert_string_equal(digest[0], digest[2]);
    c.seed++;
    train(&set, &c, path, false);
    digest_of(path, digest[1]);
    assert_string_not_equal(digest[0], digest[1]);
    unlink(path);
    imageset_free(&set);
}

static void test_degenerate_fixmatch_is_supervised(void **state)
{
    (void)state;
    struct imageset set;
    char path[64], one[65], other[65];
    make_set(&set, 60, 12, SHAPES);
    temp_path(path, "degenerate");
    struct train_config c = quick_config("supervised");
    c.label_smoothing = 0;
    train(&set, &c, path, false);
    digest_of(path, one);
    c.method = "fixmatch";
    c.mu = 0; /* no unlabelled stream: the same batches */
    train(&set, &c, path, false);
    digest_of(path, other);
    assert_string_equal(one, other);
    c.mu = 2; /* now the unlabelled rows share the batch statistics; two ways of giving them no loss */
    c.tau = 1.01;
    train(&set, &c, path, false);
    digest_of(path, one);
    assert_string_not_equal(one, other);
    c.tau = 0.3;
    c.lambda_u = 0;
    train(&set, &c, path, false);
    digest_of(path, other);
    assert_string_equal(one, other);
    unlink(path);
    imageset_free(&set);
}

static void test_steady_step_allocates_nothing(void **state)
{
    (void)state;
    struct imageset set;
    char path[64];
    uint64_t used[2];
    make_set(&set, 60, 12, SHAPES);
    temp_path(path, "memory");
    for (int k = 0; k < 2; k++) {
        struct train_config c = quick_config("fixmatch");
        c.checkpoint_every_s = 0;
        c.steps = k ? 9 : 2;
        uint64_t before = mem_count();
        train(&set, &c, path, false);
        used[k] = mem_count() - before;
    }
    assert_int_equal(used[0], used[1]);
    unlink(path);
    imageset_free(&set);
}

static void test_budget_is_a_number_of_steps(void **state)
{
    (void)state;
    struct imageset set;
    char path[64], one[65], other[65];
    make_set(&set, 60, 12, SHAPES);
    temp_path(path, "budget");
    struct train_config c = quick_config("supervised");
    c.steps = 0;
    c.budget_s = 0.7;
    struct train_report r = train(&set, &c, path, false);
    assert_true(r.steps >= 1);
    digest_of(path, one);
    c.steps = r.steps;
    c.budget_s = 0;
    train(&set, &c, path, false);
    digest_of(path, other);
    assert_string_equal(one, other);
    c.steps = 0;
    c.budget_s = 9; /* a resumed run keeps its number */
    struct train_report again = train(&set, &c, path, true);
    assert_int_equal(again.steps, r.steps);
    unlink(path);
    imageset_free(&set);
}

static void test_calibration_set(void **state)
{
    (void)state;
    struct imageset set;
    char path[64];
    make_set(&set, 220, 20, 2);
    temp_path(path, "calibration");
    struct train_config c = quick_config("supervised");
    c.labels_per_class = 0;
    struct train_report r = train(&set, &c, path, false);
    assert_int_equal(r.n_labeled, 200);
    assert_int_equal(r.n_calibration, 40);
    assert_true(r.calibrated && r.temperature > 0.2 && r.temperature < 17);
    c.labels_per_class = 30; /* 2 * 6 held out would be fewer than 20 */
    r = train(&set, &c, path, false);
    assert_int_equal(r.n_calibration, 0);
    assert_false(r.calibrated);
    assert_true(r.temperature == 1);
    unlink(path);
    imageset_free(&set);
}

static void refused(const struct imageset *set, const struct train_config *c, enum err_code code,
                    const char *word)
{
    struct train_report r;
    struct err e = {0};
    char path[64];
    temp_path(path, "refused");
    assert_false(train_run(set, c, path, false, NULL, 0, NULL, &r, &e));
    assert_int_equal(e.code, code);
    if (!strstr(e.msg, word))
        fail_msg("\"%s\" does not say \"%s\"", e.msg, word);
    assert_false(file_exists(path));
}

static void test_refusals(void **state)
{
    (void)state;
    struct imageset set;
    make_set(&set, 40, 8, SHAPES);
    struct train_config good = quick_config("fixmatch"), c = good;
    c.labels_per_class = 9; /* a class has 8 training items */
    refused(&set, &c, ERR_INPUT, "shape");
    c = good;
    c.budget_s = 5;
    refused(&set, &c, ERR_USAGE, "one of them");
    c = good;
    c.steps = 0;
    refused(&set, &c, ERR_USAGE, "steps");
    c = good;
    c.preset = "vgg";
    refused(&set, &c, ERR_USAGE, "lite");
    c = good;
    c.method = "guessing";
    refused(&set, &c, ERR_USAGE, "fixmatch");
    c = good;
    c.batch = 0;
    refused(&set, &c, ERR_USAGE, "batch");
    c = good;
    c.optim.lr = NAN;
    refused(&set, &c, ERR_USAGE, "rate");
    c = good;
    c.labels_per_class = 0;
    for (size_t i = 0; i < set.n; i++)
        set.label[i] = 2;
    refused(&set, &c, ERR_INPUT, "shape2");
    for (size_t i = 0; i < set.n; i++)
        set.label[i] = IMAGESET_NO_LABEL;
    refused(&set, &c, ERR_INPUT, "label");
    for (size_t i = 0; i < set.n; i++)
        set.split[i] = IMAGESET_TEST;
    refused(&set, &c, ERR_INPUT, "training split");
    imageset_free(&set);
    refused(&set, &c, ERR_INPUT, "no image");
}

static void test_unwritable(void **state)
{
    (void)state;
    struct imageset set;
    struct train_report r;
    struct err e;
    make_set(&set, 40, 8, SHAPES);
    struct train_config c = quick_config("supervised");
    c.steps = 1;
    assert_false(train_run(&set, &c, "no-such-directory/model.safetensors", false, NULL, 0, NULL, &r, &e));
    assert_non_null(strstr(e.msg, "no-such-directory"));
    imageset_free(&set);
}

/* Batches: balanced labels, whole epochs, one item behind the weak and the strong row, no label on unlabelled
 * rows. */
static void test_batches(void **state)
{
    (void)state;
    enum { POOL = 30 };
    struct imageset set;
    struct batches b;
    struct err e;
    uint32_t labeled[POOL], unlabeled[POOL];
    int seen[64] = {0}, of_class[2] = {0};
    make_set(&set, 40, 10, 2);
    for (uint32_t i = 0; i < POOL; i++) {
        labeled[i] = unlabeled[i] = i;
        set.label[i] = i % 10 == 0; /* 3 of 30 */
    }
    struct train_config c = quick_config("fixmatch");
    c.balance = true;
    c.batch = 5;
    c.mu = 3;
    const struct batches_pools pools = {
        .labeled = labeled, .unlabeled = unlabeled, .n_labeled = POOL, .n_unlabeled = POOL};
    assert_true(batches_create(&b, &set, &c, method_find("fixmatch", &e), &pools, &e));
    assert_int_equal(b.n_rows, 5 + 2 * 15);
    assert_int_equal(b.offset[1], 5);
    for (int64_t step = 0; step < 4; step++) { /* two epochs of the unlabelled pool */
        batches_make(&b, step);
        for (int i = 0; i < b.items[0]; i++) {
            of_class[b.label[0][i]]++;
            assert_int_equal(b.label[0][i], set.label[b.item[0][i]]);
        }
        for (int i = 0; i < b.items[1]; i++) {
            seen[b.item[1][i]]++;
            assert_int_equal(b.label[1][i], IMAGESET_NO_LABEL);
        }
    }
    assert_int_equal(of_class[0], 10);
    assert_int_equal(of_class[1], 10);
    for (int i = 0; i < 40; i++)
        assert_int_equal(seen[i], i < POOL ? 2 : 0);
    /* A view is a function of (item, kind, key): made again by hand. */
    float *x = malloc(b.row_floats * sizeof *x);
    void *scratch = malloc(augment_scratch_bytes(&b.augment) + 64);
    const int row = 5 + 15 + 7;
    struct rng r;
    rng_init(&r, c.seed, RNG_STRONG, (uint64_t)(3 * b.n_rows + row));
    augment_view(&b.augment, AUGMENT_STRONG, set.px + b.item[1][7] * SIDE * SIDE * 3, &r, x, scratch);
    assert_memory_equal(x, b.x + (size_t)row * b.row_floats, b.row_floats * sizeof *x);
    float first = b.x[0];
    uint32_t item = b.item[1][2];
    batches_make(&b, 1000);
    batches_make(&b, 3); /* any order of steps gives the same */
    assert_true(b.x[0] == first && b.item[1][2] == item);
    free(x);
    free(scratch);
    batches_free(&b);
    imageset_free(&set);
}

/* Still pairs: half of the undamaged draws, never a damaged one, show one date of any item in both places. */
static void test_still_pairs(void **state)
{
    (void)state;
    enum { N = 24, PIXELS = SIDE * SIDE, STORED = 8 };
    const struct imageset_layout l = {.size = SIDE,
                                      .n_dates = 2,
                                      .n_bands = 3,
                                      .has_masks = true,
                                      .use_footprint = true,
                                      .use_match = true};
    struct imageset set = {0};
    struct batches b;
    struct err e;
    uint32_t labeled[4] = {0, 1, 2, 3}, unlabeled[N];
    int n_still = 0, n_undamaged = 0, n_date[3] = {0}, others = 0;
    assert_true(imageset_alloc(&set, N, &l, &e));
    set.n_classes = 2;
    for (uint32_t i = 0; i < N; i++) {
        unlabeled[i] = i;
        set.label[i] = i % 2;
        for (int p = 0; p < PIXELS; p++) {
            uint8_t *q = set.px + ((size_t)i * PIXELS + (size_t)p) * STORED;
            for (int c = 0; c < 6; c++)
                q[c] = (uint8_t)(i + 100u * (c >= 3) + (uint32_t)p % 7u);
            q[6] = p == 5 ? 1 : p == 6 ? 2 : 3;
            q[7] = 255;
        }
    }
    struct train_config c = quick_config("supervised");
    c.balance = true;
    c.batch = 8;
    c.still_share = 0.5;
    const struct batches_pools pools = {
        .labeled = labeled, .unlabeled = unlabeled, .n_labeled = 4, .n_unlabeled = N};
    assert_true(batches_create(&b, &set, &c, method_find("supervised", &e), &pools, &e));
    float *x = malloc(b.row_floats * sizeof *x);
    void *scratch = malloc(augment_scratch_bytes(&b.augment));
    uint8_t px[PIXELS * STORED];
    for (int64_t step = 0; step < 100; step++) {
        batches_make(&b, step);
        for (int i = 0; i < b.items[0]; i++) {
            n_undamaged += b.label[0][i] == 0;
            if (!b.still[i])
                continue;
            assert_int_equal(b.label[0][i], 0);
            n_still++;
            n_date[b.still[i]]++;
            others += b.item[0][i] >= 4;
            const int date = b.still[i] - 1;
            memcpy(px, set.px + (size_t)b.item[0][i] * sizeof px, sizeof px);
            for (int p = 0; p < PIXELS; p++) {
                for (int k = 0; k < 6; k++)
                    px[p * STORED + k] =
                        set.px[(size_t)b.item[0][i] * sizeof px + (size_t)(p * STORED + 3 * date + k % 3)];
                px[p * STORED + 6] = p == 5 + !date ? 0 : 3;
            }
            struct rng r;
            rng_init(&r, c.seed, RNG_STRONG, (uint64_t)(step * b.n_all_rows + i));
            augment_view(&b.augment, AUGMENT_STRONG, px, &r, x, scratch);
            assert_memory_equal(x, b.x + (size_t)i * b.row_floats, b.row_floats * sizeof *x);
        }
    }
    assert_int_equal(n_undamaged, 400);
    assert_in_range(n_still, 160, 240);
    assert_in_range(n_date[1], n_still / 3, n_still * 2 / 3);
    assert_in_range(others, n_still * 2 / 3, n_still); /* 20 of 24 items have no label of this run */
    free(x);
    free(scratch);
    batches_free(&b);
    imageset_free(&set);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_batches),
        cmocka_unit_test(test_still_pairs),
        cmocka_unit_test(test_overfits),
        cmocka_unit_test(test_fixmatch_beats_supervised),
        cmocka_unit_test(test_transductive),
        cmocka_unit_test(test_resume_equals_unbroken),
        cmocka_unit_test(test_resume_refuses_another_run),
        cmocka_unit_test(test_threads_give_the_same_bits),
        cmocka_unit_test(test_degenerate_fixmatch_is_supervised),
        cmocka_unit_test(test_steady_step_allocates_nothing),
        cmocka_unit_test(test_budget_is_a_number_of_steps),
        cmocka_unit_test(test_calibration_set),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_unwritable),
    };
    omp_set_num_threads(1);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
