/* SPDX-License-Identifier: Apache-2.0
 *
 * test_predict.c - a model file as its users see it: what it says of itself, predictions against the network
 * run by hand, and every kind of damaged or foreign file refused with a sentence that names it. Damaged files
 * are made by writing a good one again with one thing changed, digest included, so that the loader's own
 * checks are what refuses them. */
#include "models/base/file.h"
#include "models/base/rng.h"
#include "models/data/augment.h"
#include "models/learn/predict.h"
#include "models/learn/train.h"
#include "models/learn/trivial.h"

#include <math.h>
#include <omp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

enum {
    SIDE = 16,
    N = 48,
    STORED = 2 * 3 + 2,
    CLASSES = 3,
    IMAGE = SIDE * SIDE * STORED,
    LABELED = 8 * CLASSES
};

static struct imageset set;
static char good[64], changed[64];

static void assert_near(double got, double want, double tolerance)
{
    if (!(fabs(got - want) <= tolerance))
        fail_msg("got %.9g, want %.9g within %g", got, want, tolerance);
}

/* Pairs with masks: the post date darkens with the class; a corner of some has no post data. */
static int set_up(void **state)
{
    (void)state;
    const struct imageset_layout l = {
        .size = SIDE, .n_dates = 2, .n_bands = 3, .has_masks = true, .use_footprint = true};
    struct err e = {0};
    struct train_config c;
    struct train_report report;
    omp_set_num_threads(1);
    snprintf(good, sizeof good, "test_predict_%ld.safetensors", (long)getpid());
    snprintf(changed, sizeof changed, "test_predict_%ld_changed.safetensors", (long)getpid());
    assert_true(imageset_alloc(&set, N, &l, &e));
    set.n_classes = CLASSES;
    snprintf(set.class_name[0], 32, "none");
    snprintf(set.class_name[1], 32, "minor, or so");
    snprintf(set.class_name[2], 32, "destroyed");
    for (size_t i = 0; i < N; i++) {
        struct rng r;
        rng_init(&r, 8, RNG_METHOD, i);
        set.label[i] = (int16_t)(i % CLASSES);
        set.id[i] = (int64_t)(7000 + i);
        set.split[i] = i < 36 ? IMAGESET_TRAIN : IMAGESET_TEST;
        for (int p = 0; p < SIDE * SIDE; p++) {
            uint8_t *q = set.px + i * IMAGE + (size_t)p * STORED;
            for (int s = 0; s < 6; s++)
                q[s] = (uint8_t)(140 + rng_below(&r, 60) - (s >= 3 ? 50 * (unsigned)set.label[i] : 0));
            q[6] = i % 4 == 0 && p < 40 ? 1 : 3;
            q[7] = p % SIDE > 4 && p % SIDE < 11 ? 255 : 0;
        }
    }
    assert_true(train_defaults(&c, "supervised", false, &e));
    c.preset = "lite3";
    c.labels_per_class = LABELED / CLASSES;
    c.batch = 8;
    c.steps = 12;
    c.budget_s = 0;
    const struct checkpoint_meta extra[] = {{"cut", "2"}, {"source", "the event"}};
    if (!train_run(&set, &c, good, false, extra, 2, NULL, &report, &e))
        fail_msg("%s", e.msg);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    unlink(good);
    unlink(changed);
    imageset_free(&set);
    return 0;
}

static struct model *load(const char *path)
{
    struct err e = {0};
    struct model *m = model_load(path, &e);
    if (!m)
        fail_msg("%s", e.msg);
    return m;
}

static void test_description(void **state)
{
    (void)state;
    static const char *const keys[] = {"aftermap.format",
                                       "aftermap.sha256",
                                       "aftermap.version",
                                       "net.preset",
                                       "net.size",
                                       "net.c_in",
                                       "net.n_classes",
                                       "net.scales",
                                       "net.filters",
                                       "net.repeats",
                                       "net.bn_eps",
                                       "layout.n_dates",
                                       "layout.n_bands",
                                       "layout.has_masks",
                                       "layout.use_footprint",
                                       "classes",
                                       "cut",
                                       "train.config",
                                       "train.data",
                                       "train.step",
                                       "train.steps",
                                       "seed",
                                       "source",
                                       "source.digest",
                                       "kernels",
                                       "temperature",
                                       "calibrated",
                                       "n_labeled",
                                       "created"};
    struct model *m = load(good);
    size_t n;
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        if (!model_meta(m, keys[i]))
            fail_msg("no metadata \"%s\"", keys[i]);
    assert_null(model_meta(m, "gsd_m"));
    assert_string_equal(model_meta(m, "source"), "the event"); /* the caller's word counts */
    assert_string_equal(model_meta(m, "train.step"), "12");
    assert_string_equal(model_meta(m, "net.c_in"), "7"); /* 2 x 3 bands and the footprint */
    assert_int_equal(model_net(m)->c_in, 7);
    assert_int_equal(model_layout(m)->n_dates, 2);
    assert_true(model_layout(m)->has_masks && model_layout(m)->use_footprint);
    assert_string_equal(model_class(m, 0), "none");
    assert_string_equal(model_class(m, 1), "minor  or so");
    assert_string_equal(model_class(m, 2), "destroyed");
    assert_int_equal(strlen(model_digest(m)), 64);
    assert_true(model_temperature(m) == 1);
    const int64_t *ids = model_labeled_ids(m, &n);
    assert_int_equal(n, LABELED);
    int of_class[CLASSES] = {0};
    for (size_t i = 0; i < n; i++) {
        assert_in_range(ids[i], 7000, 7035);
        of_class[(ids[i] - 7000) % CLASSES]++;
    }
    for (int c = 0; c < CLASSES; c++)
        assert_int_equal(of_class[c], LABELED / CLASSES);
    model_free(m);
}

/* The file's ema.* tensors in a network of our own; temperature T; mean over the given symmetries. */
static void predict_by_hand(const char *path, double temperature, int n_views, float *probs, float *embedding)
{
    struct err e = {0};
    struct net_config c = {.size = SIDE, .c_in = 7, .n_classes = CLASSES};
    int n_tensors, n_embedding;
    char name[80];
    struct checkpoint *file = checkpoint_open(path, &e);
    assert_non_null(file);
    assert_true(net_config_preset(&c, "lite3", &e));
    struct net *net = net_create(&c, N, NET_INFER, &e);
    assert_non_null(net);
    const struct net_tensor *t = net_tensors(net, &n_tensors);
    for (int i = 0; i < n_tensors; i++) {
        snprintf(name, sizeof name, "ema.%s", t[i].name);
        assert_true(checkpoint_copy(file, name, CHECKPOINT_F32, t[i].count, t[i].value, &e));
    }
    net_weights_changed(net);
    n_embedding = net_embedding_size(&c);
    float *x = malloc(sizeof *x * N * SIDE * SIDE * 7), *turned = malloc(sizeof *x * N * SIDE * SIDE * 7);
    double sum[N * CLASSES] = {0}, *sum_e = calloc((size_t)(N * n_embedding), sizeof *sum_e);
    for (int i = 0; i < N; i++)
        imageset_to_input(&set.layout, set.px + i * IMAGE, x + i * SIDE * SIDE * 7);
    for (int g = 0; g < n_views; g++) {
        for (int i = 0; i < N; i++)
            augment_d4(&set.layout, x + i * SIDE * SIDE * 7, g, turned + i * SIDE * SIDE * 7);
        const float *z = net_forward(net, n_views == 1 ? x : turned, N, NET_BN_RUNNING);
        for (int i = 0; i < N; i++) {
            double total = 0;
            for (int k = 0; k < CLASSES; k++)
                total += exp(z[i * CLASSES + k] / temperature);
            for (int k = 0; k < CLASSES; k++)
                sum[i * CLASSES + k] += exp(z[i * CLASSES + k] / temperature) / total / n_views;
        }
        for (int i = 0; i < N * n_embedding; i++)
            sum_e[i] += (double)net_embedding(net)[i] / n_views;
    }
    for (int i = 0; i < N * CLASSES; i++)
        probs[i] = (float)sum[i];
    for (int i = 0; i < N * n_embedding; i++)
        embedding[i] = (float)sum_e[i];
    free(x);
    free(turned);
    free(sum_e);
    net_free(net);
    checkpoint_close(file);
}

static void check_prediction(const char *path, double temperature, int n_views)
{
    struct err e = {0};
    struct model *m = load(path);
    int n_embedding = net_embedding_size(model_net(m));
    float want[N * CLASSES], got[N * CLASSES];
    float *want_e = malloc(sizeof *want_e * (size_t)(N * n_embedding)),
          *got_e = malloc(sizeof *got_e * (size_t)(N * n_embedding));
    predict_by_hand(path, temperature, n_views, want, want_e);
    struct predictor *p = predictor_create(m, 20, n_views, &e);
    assert_non_null(p);
    for (int from = 0; from < N; from += 20) { /* 20, 20, 8: the cut into batches must not matter */
        int n = N - from < 20 ? N - from : 20;
        predictor_run(p, set.px + from * IMAGE, n, got + from * CLASSES, got_e + from * n_embedding);
    }
    for (int i = 0; i < N * CLASSES; i++)
        assert_near(got[i], want[i], 1e-5);
    for (int i = 0; i < N * n_embedding; i++)
        assert_near(got_e[i], want_e[i], 1e-4);
    predictor_free(p);
    model_free(m);
    free(want_e);
    free(got_e);
}

static void test_prediction(void **state)
{
    (void)state;
    check_prediction(good, 1, 1);
    check_prediction(good, 1, 8);
}

/* Two precisions of one model: near, not equal, and told apart. */
static void test_quantized(void **state)
{
    (void)state;
    struct err e = {0};
    struct model *m = load(good);
    float exact[N * CLASSES], got[N * CLASSES], again[N * CLASSES];
    int n_moved = 0;
    struct predictor *p = predictor_create(m, N, 8, &e);
    assert_non_null(p);
    predictor_run(p, set.px, N, exact, NULL);
    assert_string_equal(predictor_precision(p), "fp32");
    if (!predictor_quantize(p, set.px, N,
                            &e)) { /* this CPU cannot: said in a sentence, and nothing changed */
        assert_int_equal(e.code, ERR_USAGE);
        assert_non_null(strstr(e.msg, "VNNI"));
        predictor_run(p, set.px, N, got, NULL);
        assert_memory_equal(got, exact, sizeof got);
    } else {
        assert_string_equal(predictor_precision(p), "int8");
        predictor_run(p, set.px, N, got, NULL);
        for (int from = 0; from < N; from += 7)
            predictor_run(p, set.px + from * IMAGE, N - from < 7 ? N - from : 7, again + from * CLASSES,
                          NULL);
        for (int i = 0; i < N * CLASSES; i++) {
            assert_near(got[i], exact[i], 0.02);
            assert_near(again[i], got[i], 1e-6); /* the stem's sums, not the 8-bit part, may see the batch */
            n_moved += got[i] != exact[i];
        }
        assert_true(n_moved > 0);
    }
    predictor_free(p);
    model_free(m);
}

static void test_trivial_beside_it(void **state)
{
    (void)state;
    struct err e;
    struct trivial t;
    struct model *m = load(good);
    size_t n;
    const int64_t *ids = model_labeled_ids(m, &n);
    uint32_t items[LABELED];
    float want[CLASSES], got[CLASSES];
    for (size_t i = 0; i < n; i++)
        items[i] = (uint32_t)(ids[i] - 7000);
    assert_true(trivial_fit(&t, &set, items, n, &e));
    for (size_t i = 36; i < N; i++) {
        trivial_predict(&t, &set.layout, set.px + i * IMAGE, want);
        model_trivial(m, set.px + i * IMAGE, got);
        assert_memory_equal(got, want, sizeof want);
        if (set.label[i] != 1) /* darkness alone tells the ends of the scale apart here */
            assert_true(got[set.label[i]] > got[2 - set.label[i]]);
    }
    trivial_free(&t);
    model_free(m);
}

/* One change to the good file. */
struct change {
    const char *drop_prefix; /* tensors to leave out */
    const char *tensor;      /* whose first number becomes `value`, */
    double value;
    bool flat;              /* or which loses its shape, */
    const char *rename;     /* or gets this name */
    const char *key, *text; /* metadata to replace; text NULL: to leave out */
};

static void write_changed(const struct change *h)
{
    enum { MAX = 512 };
    struct err e = {0};
    struct checkpoint *c = checkpoint_open(good, &e);
    struct checkpoint_tensor *t = calloc(MAX, sizeof *t);
    struct checkpoint_meta *m = calloc(MAX, sizeof *m);
    void *copy = NULL;
    int n = 0, n_meta = 0, n_hits = 0;
    assert_non_null(c);
    for (int i = 0; i < checkpoint_count(c); i++) {
        t[n] = *checkpoint_at(c, i);
        if (h->drop_prefix && strncmp(t[n].name, h->drop_prefix, strlen(h->drop_prefix)) == 0) {
            n_hits++;
            continue;
        }
        if (h->tensor && strcmp(t[n].name, h->tensor) == 0) {
            n_hits++;
            size_t count = 1, size = t[n].dtype == CHECKPOINT_F64 || t[n].dtype == CHECKPOINT_I64 ? 8 : 4;
            for (int d = 0; d < t[n].n_dims; d++)
                count *= (size_t)t[n].dims[d];
            if (h->flat) {
                t[n].n_dims = 1;
                t[n].dims[0] = (int64_t)count;
            } else if (h->rename) {
                t[n].name = h->rename;
            } else {
                float value = (float)h->value;
                copy = malloc(count * size);
                memcpy(copy, t[n].data, count * size);
                memcpy(copy, size == 4 ? (const void *)&value : (const void *)&h->value, size);
                t[n].data = copy;
            }
        }
        n++;
        assert_true(n < MAX);
    }
    for (int i = 0; i < checkpoint_meta_count(c); i++) {
        struct checkpoint_meta pair = checkpoint_meta_at(c, i);
        bool replaced = h->key && strcmp(pair.key, h->key) == 0;
        n_hits += replaced;
        if (strncmp(pair.key, "aftermap.format", 15) == 0 || strncmp(pair.key, "aftermap.sha256", 15) == 0 ||
            (replaced && !h->text))
            continue;
        m[n_meta++] = (struct checkpoint_meta){pair.key, replaced ? h->text : pair.value};
    }
    assert_true(n_hits > 0); /* the change must have found its place */
    if (!checkpoint_write(changed, t, n, m, n_meta, &e))
        fail_msg("%s", e.msg);
    checkpoint_close(c);
    free(copy);
    free(t);
    free(m);
}

static void test_stripped_and_tempered(void **state)
{
    (void)state;
    struct change h = {.drop_prefix = "net."};
    write_changed(&h); /* a model made small for release predicts the same */
    check_prediction(changed, 1, 1);
    h = (struct change){.drop_prefix = "opt.", .key = "temperature", .text = "2.5"};
    write_changed(&h);
    check_prediction(changed, 2.5, 1);
    check_prediction(changed, 2.5, 8);
}

static void test_refuses_damaged_models(void **state)
{
    (void)state;
    static const struct change damage[] = {
        {.drop_prefix = "ema.dense"},
        {.drop_prefix = "trivial.mean"},
        {.drop_prefix = "trivial."},
        {.drop_prefix = "state.labeled_ids"},
        {.tensor = "ema.scale0.block0.conv1.kernel", .flat = true},
        {.tensor = "net.scale0.block0.conv1.kernel", .flat = true},
        {.tensor = "trivial.weights", .flat = true},
        {.tensor = "net.dense.bias", .rename = "net.dense.wings"},
        {.tensor = "opt.slot0", .rename = "opt.slot7"},
        {.tensor = "opt.slot0", .rename = "state.mixmaster.queue"},
        {.tensor = "ema.dense.kernel", .value = NAN},
        {.tensor = "ema.dense.bias", .value = INFINITY},
        {.tensor = "ema.scale0.block0.bn1.running_var", .value = -1},
        {.tensor = "trivial.scale", .value = 0},
        {.tensor = "trivial.weights", .value = NAN},
        {.key = "net.size", .text = NULL},
        {.key = "net.size", .text = "18"},
        {.key = "net.size", .text = "16.5"},
        {.key = "net.size", .text = "16 px"},
        {.key = "net.size", .text = "-16"},
        {.key = "net.c_in", .text = "6"},
        {.key = "net.n_classes", .text = "4"},
        {.key = "net.n_classes", .text = "1"},
        {.key = "net.filters", .text = "512"},
        {.key = "net.scales", .text = "nan"},
        {.key = "net.repeats", .text = "16"},
        {.key = "net.bn_eps", .text = "0"},
        {.key = "layout.n_dates", .text = "3"},
        {.key = "layout.has_masks", .text = "0"},
        {.key = "classes", .text = "none,minor"},
        {.key = "classes", .text = "none,minor,major,destroyed"},
        {.key = "classes", .text = NULL},
        {.key = "temperature", .text = "0"},
        {.key = "temperature", .text = "warm"},
    };
    for (size_t i = 0; i < sizeof damage / sizeof *damage; i++) {
        struct err e = {0};
        write_changed(&damage[i]);
        struct model *m = model_load(changed, &e);
        if (m)
            fail_msg("damage %zu was not noticed", i);
        if (e.code != ERR_MODEL || !strstr(e.msg, changed))
            fail_msg("damage %zu: %s: %s", i, err_name(e.code), e.msg);
    }
}

static void test_refuses_other_files(void **state)
{
    (void)state;
    struct err e = {0};
    size_t size;
    assert_null(model_load("no-such-model.safetensors", &e));
    assert_int_equal(e.code, ERR_NOT_FOUND);
    assert_true(file_write_text(changed, "This is a letter, not a model.", &e));
    assert_null(model_load(changed, &e));
    assert_int_equal(e.code, ERR_MODEL);
    char *all = file_read(good, (size_t)1 << 28, &size, &e);
    assert_non_null(all);
    for (int k = 0; k < 2; k++) { /* truncated; one bit of a weight changed */
        FILE *f = fopen(changed, "wb");
        assert_non_null(f);
        all[size - 100] ^= (char)k;
        assert_int_equal(fwrite(all, 1, k ? size : size - 1, f), k ? size : size - 1);
        fclose(f);
        assert_null(model_load(changed, &e));
        assert_int_equal(e.code, ERR_MODEL);
    }
    free(all);
    const float one = 1;
    const struct checkpoint_tensor foreign = {"w", CHECKPOINT_F32, 1, {1}, &one};
    assert_true(checkpoint_write(changed, &foreign, 1, NULL, 0, &e)); /* sound, but of something else */
    assert_null(model_load(changed, &e));
    assert_int_equal(e.code, ERR_MODEL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_description),
        cmocka_unit_test(test_prediction),
        cmocka_unit_test(test_quantized),
        cmocka_unit_test(test_trivial_beside_it),
        cmocka_unit_test(test_stripped_and_tempered),
        cmocka_unit_test(test_refuses_damaged_models),
        cmocka_unit_test(test_refuses_other_files),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
