/* SPDX-License-Identifier: Apache-2.0
 *
 * test_extraction_learn.c - copies learnt from answers: what a service lets out, budgets, soft labels in the loss
 * against finite differences, and that a copy is made of answers alone, never of the pool's own labels. */
#include "models/learn/extraction_learn.h"

#include "tests/unit/train_fixture.h"

static void test_expose(void **state)
{
    (void)state;
    const struct extraction_exposure full = {.decimals = -1}, two = {.decimals = 2},
                                     label = {.label_only = true};
    float p[3] = {0.1234f, 0.5678f, 0.3088f};
    extraction_expose(&full, p, 3);
    tx_near((double)p[0], 0.1234, 1e-7);
    extraction_expose(&two, p, 3); /* 0.12 + 0.57 + 0.31 = 1 */
    tx_near((double)p[0], 0.12, 1e-7);
    tx_near((double)p[1], 0.57, 1e-7);
    tx_near((double)p[2], 0.31, 1e-7);
    float q[3] = {0.334f, 0.333f, 0.333f};
    const struct extraction_exposure one = {.decimals = 1};
    extraction_expose(&one, q, 3); /* 0.3 each, scaled to sum to 1 */
    tx_near((double)q[0], 1.0 / 3, 1e-7);
    float r[3] = {0.2f, 0.4f, 0.4f};
    extraction_expose(&label, r, 3);
    assert_true(r[0] == 0 && r[1] == 1 && r[2] == 0);
}

/* H(q, softmax z) of the item's own answer, not of its label. */
static void test_soft_labels(void **state)
{
    (void)state;
    enum { K = 3, N = 4 };
    struct tx_step f;
    const float soft[6 * K] = {0.2f, 0.5f, 0.3f, 1, 0, 0, 0.1f, 0.1f, 0.8f,
                               0.6f, 0.2f, 0.2f, 0, 0, 1, 0.3f, 0.3f, 0.4f};
    const uint32_t item[N] = {5, 0, 2, 3};
    tx_step_set(&f, "supervised", true, K, N, 0, 1, 7);
    f.s.soft = soft;
    f.s.item[0] = item;
    double want = 0;
    for (int i = 0; i < N; i++) {
        double sum = 0;
        for (int c = 0; c < K; c++)
            sum += exp((double)f.logits[i * K + c]);
        for (int c = 0; c < K; c++)
            want -= (double)soft[item[i] * K + c] * log(exp((double)f.logits[i * K + c]) / sum) / N;
    }
    tx_near(tx_loss(&f, "supervised", 0), want, 1e-6);
    tx_check_gradient(&f, "supervised", 0, 0, N);
}

struct oracle {
    const struct imageset *set;
    int64_t n;
};

/* The true class with probability 0.7: found again by its bytes. */
static bool true_answer(void *ctx, const uint8_t *px, int n, float *probs, struct err *e)
{
    struct oracle *o = ctx;
    const size_t image = (size_t)TX_SIDE * TX_SIDE * 3;
    (void)e;
    o->n += n;
    for (int i = 0; i < n; i++)
        for (size_t j = 0; j < o->set->n; j++)
            if (memcmp(px + (size_t)i * image, o->set->px + j * image, image) == 0) {
                for (int c = 0; c < o->set->n_classes; c++)
                    probs[i * o->set->n_classes + c] =
                        c == (int)(j % (size_t)o->set->n_classes) ? 0.7f : 0.3f;
                break;
            }
    return true;
}

static void settle(struct extraction_learn_options *o, const char *method, int64_t steps)
{
    struct err e;
    *o = (struct extraction_learn_options){.n_queries = 40, .exposure = {.decimals = -1}};
    assert_true(train_defaults(&o->config, method, true, &e));
    o->config.preset = "lite3";
    o->config.batch = 8;
    o->config.steps = steps;
    o->config.budget_s = 0;
    o->config.seed = 3;
}

static void test_copy(void **state)
{
    (void)state;
    struct imageset set;
    struct extraction_learn_options o;
    struct train_report r;
    struct err e = {0};
    char path[64], digest[2][65];
    float ours[24 * 2], theirs[24 * 2];
    uint32_t item[24];
    int16_t truth[24];
    tx_set(&set, 120, 24, 2, false);
    tx_path(path, "copy");
    settle(&o, "supervised", 60);
    for (int run = 0; run < 2; run++) { /* once with the pool's labels, once without */
        struct oracle oracle = {.set = &set};
        struct extraction_box box = {
            .n_classes = 2, .batch = 7, .answer = true_answer, .ctx = &oracle, .max_queries = 50};
        for (size_t i = 0; run == 1 && i < set.n; i++)
            set.label[i] = IMAGESET_NO_LABEL;
        if (!extraction_learn(&set, &box, &o, path, NULL, 0, NULL, &r, &e))
            fail_msg("%s", e.msg);
        assert_int_equal(oracle.n, 40);
        assert_int_equal(box.n_asked, 40);
        assert_int_equal(r.n_labeled, 40);
        assert_int_equal(r.n_unlabeled, 96);
        struct checkpoint *file = checkpoint_open(path, &e);
        assert_non_null(file);
        snprintf(digest[run], 65, "%s", checkpoint_digest(file));
        checkpoint_close(file);
        assert_false(extraction_learn(&set, &box, &o, path, NULL, 0, NULL, &r, &e)); /* 10 queries are left */
        assert_int_equal(e.code, ERR_RESOURCE);
        assert_non_null(strstr(e.msg, "10 of 50 queries are left"));
        assert_int_equal(oracle.n, 40);
    }
    assert_string_equal(digest[0], digest[1]);

    struct model *m = model_load(path, &e);
    assert_non_null(m);
    struct extraction_box *copy = extraction_box_model(m, 1, &e);
    struct oracle oracle = {.set = &set};
    struct extraction_box box = {.n_classes = 2, .batch = 24, .answer = true_answer, .ctx = &oracle};
    assert_non_null(copy);
    for (uint32_t i = 0; i < 24; i++) {
        item[i] = 96 + i;
        truth[i] = i < 4 ? IMAGESET_NO_LABEL : (int16_t)(i % 2);
    }
    assert_true(extraction_box_ask(copy, &set, item, 24, ours, NULL, &e));
    assert_true(extraction_box_ask(&box, &set, item, 24, theirs, NULL, &e));
    const struct extraction_score s = extraction_score(ours, theirs, truth, 24, 2);
    assert_int_equal(s.n_known, 20);
    assert_true(s.fidelity > 0.9);
    double confidence = 0; /* it learnt 0.7, not certainty */
    for (int i = 0; i < 24; i++)
        confidence += (double)ours[2 * i + extraction_label(ours + 2 * i, 2)] / 24;
    assert_true(confidence < 0.85);
    extraction_box_free(copy);
    model_free(m);
    unlink(path);
    imageset_free(&set);
}

static void test_refusals(void **state)
{
    (void)state;
    struct imageset set;
    struct extraction_learn_options o;
    struct train_report r;
    struct err e = {0};
    char path[64];
    tx_set(&set, 60, 20, 2, false);
    tx_path(path, "refused");
    struct oracle oracle = {.set = &set};
    struct extraction_box box = {.n_classes = 2, .batch = 8, .answer = true_answer, .ctx = &oracle};
    settle(&o, "supervised", 4);
    o.n_queries = 41;
    assert_false(extraction_learn(&set, &box, &o, path, NULL, 0, NULL, &r, &e));
    assert_int_equal(e.code, ERR_INPUT);
    assert_non_null(strstr(e.msg, "40 images"));
    settle(&o, "adamatch", 4);
    assert_false(extraction_learn(&set, &box, &o, path, NULL, 0, NULL, &r, &e));
    assert_int_equal(e.code, ERR_USAGE);
    assert_non_null(strstr(e.msg, "another model's answers"));
    settle(&o, "mixmatch", 3); /* the paper's */
    o.n_queries = 0;
    assert_true(extraction_learn(&set, &box, &o, path, NULL, 0, NULL, &r, &e));
    assert_int_equal(r.n_labeled, 40);
    unlink(path);
    imageset_free(&set);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_expose),
        cmocka_unit_test(test_soft_labels),
        cmocka_unit_test(test_copy),
        cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
