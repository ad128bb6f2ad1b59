/* SPDX-License-Identifier: Apache-2.0
 *
 * test_adamatch.c - AdaMatch by hand and by central differences, through both of its passes; threshold,
 * weight and rate against worked numbers; which pass moves the running statistics; SSL as UDA fed the same
 * lists; sources: what joins, what is refused, what stays unseen; resumed runs of all three problems. */
#include "models/learn/batches.h"
#include "models/learn/predict.h"
#include "tests/unit/train_fixture.h"

#include <omp.h>

enum { B = 4, MU = 2, U = MU * B, C = 3, SIDE = 8, X = SIDE * SIDE * 3, MAX_ROWS = 4 * B + 2 * U };

struct fixture {
    struct train_config config;
    struct method_step s;
    const struct method *m;
    struct net *net;
    int16_t label[2][B], unknown[U];
    float x[MAX_ROWS * X], target[MAX_ROWS * C], logits[MAX_ROWS * C], dlogits[MAX_ROWS * C];
    float alone[4 * B * C]; /* Z'' by a forward pass of our own */
    struct method_scalars scalars;
    int n_labeled;
};

static void fixture_open(struct fixture *f, bool ssda, int n_classes)
{
    const struct net_config net = {.size = SIDE,
                                   .c_in = 3,
                                   .n_classes = n_classes,
                                   .scales = 2,
                                   .filters = 16,
                                   .repeats = 1,
                                   .bn_eps = 1e-3f,
                                   .bn_momentum = 0.9f};
    struct err e;
    struct rng r;
    memset(f, 0, sizeof *f);
    assert_true(train_defaults(&f->config, "adamatch", true, &e));
    f->config.has_source = ssda;
    f->config.has_labels = true;
    f->config.tau = 0.95;
    f->m = method_find("adamatch", &e);
    f->net = net_create(&net, MAX_ROWS, NET_TRAIN, &e);
    assert_true(f->m && f->net);
    net_init(f->net, 4);
    f->n_labeled = ssda ? 4 * B : 2 * B;
    f->s = (struct method_step){.config = &f->config,
                                .step = 15,
                                .n_steps = 20,
                                .n_classes = n_classes,
                                .n_rows = f->n_labeled + 2 * U,
                                .x = f->x,
                                .x_stride = X,
                                .target = f->target,
                                .net = f->net,
                                .seed = 9};
    int streams = ssda ? 3 : 2;
    for (int i = 0; i < streams; i++) {
        f->s.offset[i] = 2 * B * i;
        f->s.items[i] = i == streams - 1 ? U : B;
        f->s.label[i] = i == streams - 1 ? f->unknown : f->label[i];
    }
    rng_init(&r, 11, RNG_SCENE, 0);
    for (int i = 0; i < 2 * B; i++)
        f->label[i / B][i % B] = (int16_t)rng_below(&r, (uint32_t)n_classes);
    for (int i = 0; i < f->s.n_rows * X; i++)
        f->x[i] = (float)rng_normal(&r);
    for (int i = 0; i < f->s.n_rows * n_classes; i++)
        f->logits[i] = (float)(2 * rng_normal(&r));
}

/* A step from fresh marginals; dlogits of the pass over all rows, then of the labelled pass into `last`. */
static double fixture_run(struct fixture *f, float *last)
{
    struct err e;
    size_t bytes = (size_t)(f->n_labeled * f->s.n_classes) * sizeof(float);
    f->s.state = f->m->state_create(&f->s, &e);
    assert_non_null(f->s.state);
    f->m->prepare(&f->s);
    memcpy(f->alone, net_forward(f->net, f->x, f->n_labeled, NET_BN_BATCH), bytes);
    memset(f->dlogits, 0, sizeof f->dlogits);
    f->scalars.n = 0;
    f->s.pass = 0;
    double loss = f->m->loss(&f->s, f->logits, f->dlogits, &f->scalars);
    if (last) {
        f->s.pass = 1;
        memset(last, 0, bytes);
        assert_true(f->m->loss(&f->s, f->alone, last, &f->scalars) == 0);
    }
    f->m->state_free(f->s.state);
    f->s.state = NULL;
    return loss;
}

static double scalar(const struct fixture *f, const char *name)
{
    for (int i = 0; i < f->scalars.n; i++)
        if (strcmp(f->scalars.name[i], name) == 0)
            return f->scalars.value[i];
    fail_msg("no scalar %s", name);
    return NAN;
}

static void softmax(const float *z, double *p)
{
    double sum = 0;
    for (int c = 0; c < C; c++)
        sum += p[c] = exp((double)z[c]);
    for (int c = 0; c < C; c++)
        p[c] /= sum;
}

/* The whole definition, from logits to loss, in doubles. */
static double by_hand(const struct fixture *f, double *c_tau_out, double *mask_out)
{
    struct rng r;
    float zs[4 * B * C];
    double p[C], confidence = 0, ps[C] = {0}, pt[C] = {0}, loss = 0, kept = 0;
    rng_init(&r, f->s.seed, RNG_METHOD, (uint64_t)f->s.step);
    for (int i = 0; i < f->n_labeled * C; i++)
        zs[i] = f->logits[i] + (float)rng_uniform(&r) * (f->alone[i] - f->logits[i]);
    for (int i = 0; i < f->n_labeled; i++) { /* stream, view, item */
        softmax(zs + i * C, p);
        loss -= 0.5 / B * log(p[f->label[i / (2 * B)][i % B]]);
        for (int c = 0; i < B && c < C; c++) /* source, weak */
            ps[c] += p[c] / B;
        if (i < B)
            confidence += fmax(p[0], fmax(p[1], p[2])) / B;
    }
    const float *weak = f->logits + f->n_labeled * C, *strong = weak + U * C;
    for (int i = 0; i < U; i++) {
        softmax(weak + i * C, p);
        for (int c = 0; c < C; c++)
            pt[c] += p[c] / U;
    }
    for (int c = 0; c < C; c++) { /* one step after the uniform start of both */
        ps[c] = 0.999 / C + 0.001 * ps[c];
        pt[c] = (127.0 / C + pt[c]) / 128;
    }
    double c_tau = f->config.tau * confidence;
    for (int i = 0; i < U; i++) {
        double q[C], sum = 0;
        int h = 0;
        softmax(weak + i * C, p);
        for (int c = 0; c < C; c++)
            sum += q[c] = p[c] * (1e-6 + ps[c]) / (1e-6 + pt[c]);
        for (int c = 1; c < C; c++)
            h = q[c] > q[h] ? c : h;
        if (q[h] / sum < c_tau)
            continue;
        kept += 1.0 / U;
        softmax(strong + i * C, p);
        loss -= log(p[h]) / U; /* step 15 of 20: the weight has risen to 1 */
    }
    *c_tau_out = c_tau;
    *mask_out = kept;
    return loss;
}

static void test_by_hand(void **state)
{
    (void)state;
    struct fixture f;
    for (int ssda = 0; ssda < 2; ssda++) {
        double c_tau, mask;
        fixture_open(&f, ssda, C);
        double got = fixture_run(&f, NULL);
        tx_near(got, by_hand(&f, &c_tau, &mask), 1e-5);
        tx_near(scalar(&f, "c_tau"), c_tau, 1e-6);
        tx_near(scalar(&f, "mask"), mask, 1e-9);
        assert_true(mask > 0.2 && mask < 0.95);
        assert_true(c_tau >= f.config.tau / C && c_tau <= f.config.tau);
        tx_near(scalar(&f, "kept.0") + scalar(&f, "kept.1") + scalar(&f, "kept.2"), mask, 1e-9);
        net_free(f.net);
    }
}

/* By every logit of the pass over all rows; then by Z'', moved as a whole through the dense layer's bias. */
static void test_gradients(void **state)
{
    (void)state;
    struct fixture f;
    float d[MAX_ROWS * C], last[4 * B * C];
    for (int ssda = 0; ssda < 2; ssda++) {
        fixture_open(&f, ssda, C);
        fixture_run(&f, last);
        memcpy(d, f.dlogits, sizeof d);
        int weak = f.n_labeled, strong = weak + U;
        for (int i = 0; i < f.s.n_rows * C; i++) {
            if (i / C >= weak && i / C < strong) {
                assert_true(d[i] == 0); /* nothing through the guesses */
                continue;
            }
            float keep = f.logits[i];
            volatile float up = keep + 1e-3f, down = keep - 1e-3f;
            f.logits[i] = up;
            double plus = fixture_run(&f, NULL);
            f.logits[i] = down;
            double minus = fixture_run(&f, NULL);
            f.logits[i] = keep;
            tx_near((double)d[i], (plus - minus) / ((double)up - (double)down), 5e-5);
        }
        int n;
        const struct net_tensor *t = net_tensors(f.net, &n), *bias = NULL;
        for (int i = 0; i < n; i++)
            bias = strcmp(t[i].name, "dense.bias") == 0 ? &t[i] : bias;
        assert_non_null(bias);
        for (int c = 0; c < C; c++) {
            double want = 0, loss[2], at[2];
            for (int i = 0; i < f.n_labeled; i++)
                want += (double)last[i * C + c];
            for (int side = 0; side < 2; side++) {
                float keep = bias->value[c];
                bias->value[c] += side ? 2e-3f : -2e-3f;
                at[side] = (double)bias->value[c];
                net_weights_changed(f.net);
                loss[side] = fixture_run(&f, NULL);
                bias->value[c] = keep;
                net_weights_changed(f.net);
            }
            tx_near(want, (loss[1] - loss[0]) / (at[1] - at[0]), 3e-4);
            assert_true(fabs(want) > 1e-3);
        }
        net_free(f.net);
    }
}

/* Z' = Z'': nothing to interpolate. Without interpolation the gradient stays whole. */
static void test_interpolation(void **state)
{
    (void)state;
    struct fixture f;
    float last[4 * B * C], whole[MAX_ROWS * C];
    fixture_open(&f, false, C);
    fixture_run(&f, NULL);
    memcpy(f.logits, f.alone, 2 * B * C * sizeof(float));
    double loss = fixture_run(&f, last);
    assert_memory_equal(f.target, f.alone, 2 * B * C * sizeof(float));
    memcpy(whole, f.dlogits, sizeof whole);
    f.config.interpolate = 0;
    tx_near(fixture_run(&f, NULL), loss, 1e-12);
    int differ = 0;
    for (int i = 0; i < 2 * B * C; i++) {
        tx_near((double)(whole[i] + last[i]), (double)f.dlogits[i], 1e-7);
        differ += fabsf(last[i]) > 1e-4f && fabsf(whole[i]) > 1e-4f;
    }
    assert_true(differ > B * C);
    struct method_pass pass[METHOD_MAX_PASSES];
    assert_int_equal(f.m->passes(&f.s, pass), 1);
    f.config.interpolate = 1;
    assert_int_equal(f.m->passes(&f.s, pass), 2);
    assert_true(pass[0].update && !pass[1].update);
    assert_int_equal(pass[0].n, 2 * B + 2 * U);
    assert_int_equal(pass[1].n, 2 * B);
    net_free(f.net);
}

static void test_weight(void **state)
{
    (void)state;
    static const struct {
        int64_t step;
        double weight;
    } known[] = {{0, 0}, {5, 0.5}, {10, 1}, {20, 1}};
    struct fixture f;
    struct err e;
    fixture_open(&f, false, C);
    f.config.interpolate = 0;
    f.s.step = 10;
    fixture_run(&f, NULL);
    double full = scalar(&f, "loss_u");
    assert_true(full > 0.1);
    for (int k = 0; k < 4; k++) {
        f.s.step = known[k].step;
        fixture_run(&f, NULL);
        tx_near(scalar(&f, "loss_u"), full * known[k].weight, 1e-9);
    }
    net_free(f.net);
    struct train_config c;
    assert_true(train_defaults(&c, "adamatch", true, &e));
    tx_near(optim_lr(&c.optim, 0.25), 0.03 * 0.946195, 1e-7);
    tx_near(optim_lr(&c.optim, 0.5), 0.03 * 0.790569, 1e-7);
    tx_near(optim_lr(&c.optim, 0.75), 0.03 * 0.549871, 1e-7);
    tx_near(optim_lr(&c.optim, 1), 0.03 * 0.25, 1e-8);
    assert_false(c.optim.nesterov);
    assert_int_equal(c.mu, 3);
    tx_near(c.tau, 0.9, 0);
    tx_near((double)c.optim.weight_decay, 0.001, 1e-9);
    assert_int_equal(c.align, METHOD_ALIGN_LABELS);
    assert_true(train_defaults(&c, "adamatch", false, &e));
    assert_int_equal(c.align, METHOD_ALIGN_OFF);
}

/* Two classes, undecided labelled logits: half of 0.9 would keep everything. */
static void test_binary_clamp(void **state)
{
    (void)state;
    struct fixture f;
    fixture_open(&f, false, 2);
    f.config.tau = 0.9;
    f.config.interpolate = 0;
    memset(f.logits, 0, 2 * B * 2 * sizeof(float));
    fixture_run(&f, NULL);
    tx_near(scalar(&f, "c_tau"), 0.6, 0);
    for (int i = 0; i < 2 * B; i++)
        f.logits[2 * i] = 20;
    fixture_run(&f, NULL);
    tx_near(scalar(&f, "c_tau"), 0.9, 1e-6);
    f.config.relative_tau = 0;
    f.config.tau = 0.95;
    fixture_run(&f, NULL);
    tx_near(scalar(&f, "c_tau"), 0.95, 0);
    net_free(f.net);
}

static struct train_config quick(bool plain)
{
    struct train_config c = tx_config("adamatch", plain);
    c.mu = 2;
    c.steps = 3;
    return c;
}

/* Target of n items beside the same number of source items of another seed of noise. */
static void two_places(struct imageset *set, bool pair, bool target_labels)
{
    struct imageset source;
    struct err e = {0};
    tx_set(set, 40, 8, 2, pair);
    tx_set(&source, 60, 12, 2, pair);
    for (size_t i = 0; i < set->n && !target_labels; i++)
        set->label[i] = IMAGESET_NO_LABEL;
    if (!train_add_source(set, &source, &e))
        fail_msg("%s", e.msg);
    assert_int_equal(set->n, 40 + 48); /* the source's test items stay out */
    imageset_free(&source);
}

static void test_resume(void **state)
{
    (void)state;
    struct imageset set;
    char one[65], other[65];
    for (int k = 0; k < 4; k++) { /* UDA, SSDA, SSL, UDA on pairs */
        struct train_config c = quick(k < 3);
        if (k == 2)
            tx_set(&set, 40, 8, 2, false);
        else
            two_places(&set, k == 3, k == 1);
        c.labels_per_class = k == 0 || k == 3 ? 0 : 4;
        tx_check_resume(&set, &c);
        tx_run(&set, &c, one);
        omp_set_num_threads(3);
        struct train_report r = tx_run(&set, &c, other);
        omp_set_num_threads(1);
        assert_string_equal(one, other);
        assert_int_equal(r.n_source, k == 2 ? 0 : 48);
        assert_int_equal(r.n_labeled, k == 0 || k == 3 ? 0 : 8);
        assert_int_equal(r.n_unlabeled, 32);
        imageset_free(&set);
    }
}

static float *tensor_of(const struct imageset *set, const struct train_config *c, const char *name, size_t *n)
{
    struct err e = {0};
    struct train_report r;
    char path[64];
    tx_path(path, "tensor");
    if (!train_run(set, c, path, false, NULL, 0, NULL, &r, &e))
        fail_msg("%s", e.msg);
    struct checkpoint *file = checkpoint_open(path, &e);
    assert_non_null(file);
    const struct checkpoint_tensor *t = checkpoint_find(file, name);
    assert_non_null(t);
    *n = 1;
    for (int d = 0; d < t->n_dims; d++)
        *n *= (size_t)t->dims[d];
    float *copy = malloc(*n * sizeof *copy);
    assert_non_null(copy);
    memcpy(copy, t->data, *n * sizeof *copy);
    checkpoint_close(file);
    unlink(path);
    return copy;
}

static void same_tensor(const struct imageset *a, const struct train_config *ca, const struct imageset *b,
                        const struct train_config *cb, const char *name, bool same)
{
    size_t na, nb;
    float *va = tensor_of(a, ca, name, &na), *vb = tensor_of(b, cb, name, &nb);
    assert_int_equal(na, nb);
    assert_int_equal(memcmp(va, vb, na * sizeof *va) == 0, same);
    free(va);
    free(vb);
}

/* One step: the statistics of the combined batch alone, whether or not the labelled rows went alone before.
 */
static void test_running_statistics(void **state)
{
    (void)state;
    struct imageset set;
    two_places(&set, false, false);
    struct train_config c = quick(true), other;
    c.labels_per_class = 0;
    c.steps = 1;
    other = c;
    other.interpolate = 0;
    same_tensor(&set, &c, &set, &other, "net.bn.running_mean", true);
    same_tensor(&set, &c, &set, &other, "net.bn.running_var", true);
    same_tensor(&set, &c, &set, &other, "net.stem.kernel", false);
    imageset_free(&set);
}

/* SSL is UDA whose source holds the labelled images of the target. */
static void test_ssl_is_uda(void **state)
{
    (void)state;
    struct imageset ssl, uda, source;
    struct err e;
    struct train_config c = quick(true);
    c.labels_per_class = 0;
    tx_set(&ssl, 30, 0, 2, false);
    tx_set(&uda, 30, 0, 2, false);
    tx_set(&source, 30, 0, 2, false);
    for (size_t i = 0; i < 30; i++)
        uda.label[i] = IMAGESET_NO_LABEL;
    assert_true(train_add_source(&uda, &source, &e));
    same_tensor(&ssl, &c, &uda, &c, "ema.dense.kernel", true);
    same_tensor(&ssl, &c, &uda, &c, "state.adamatch.p_target", true);
    imageset_free(&ssl);
    imageset_free(&uda);
    imageset_free(&source);
}

/* CTAugment's probes: of labelled items, in SSDA of the source and as many of the target. */
static void test_probes(void **state)
{
    (void)state;
    struct imageset set;
    struct err e;
    two_places(&set, false, true);
    uint32_t items[2][100];
    size_t n[2] = {0};
    for (size_t i = 0; i < set.n; i++)
        if (set.split[i] == IMAGESET_TRAIN || set.split[i] == IMAGESET_SOURCE) {
            const int where = set.split[i] == IMAGESET_SOURCE;
            items[where][n[where]++] = (uint32_t)i;
        }
    for (int target_labels = 0; target_labels < 2; target_labels++) {
        struct train_config c = quick(true);
        struct batches b;
        const struct batches_pools pools = {.labeled = items[0],
                                            .unlabeled = items[0],
                                            .source = items[1],
                                            .n_labeled = target_labels ? n[0] : 0,
                                            .n_unlabeled = n[0],
                                            .n_source = n[1]};
        c.has_source = true;
        c.has_labels = target_labels;
        assert_true(c.cta);
        assert_true(batches_create(&b, &set, &c, method_find("adamatch", &e), &pools, &e));
        batches_make(&b, 3);
        assert_int_equal(b.n_all_streams - b.n_streams, 1 + target_labels);
        assert_int_equal(b.n_all_rows - b.n_rows, (1 + target_labels) * c.batch);
        for (int s = b.n_streams; s < b.n_all_streams; s++)
            for (int i = 0; i < b.items[s]; i++) {
                const uint32_t item = b.item[s][i];
                assert_int_equal(set.split[item], s == b.n_streams ? IMAGESET_SOURCE : IMAGESET_TRAIN);
                assert_int_equal(b.label[s][i], set.label[item]);
            }
        batches_free(&b);
    }
    imageset_free(&set);
}

static void test_ablations(void **state)
{
    (void)state;
    struct imageset set;
    char digest[4][65];
    two_places(&set, false, false);
    for (int k = 0; k < 4; k++) {
        struct train_config c = quick(true);
        c.labels_per_class = 0;
        c.tau = 0.75;
        c.interpolate = k != 1;
        c.relative_tau = k != 2;
        c.align = k == 3 ? METHOD_ALIGN_OFF : METHOD_ALIGN_LABELS;
        tx_run(&set, &c, digest[k]);
    }
    assert_string_not_equal(digest[0], digest[1]);
    assert_string_not_equal(digest[0], digest[2]);
    imageset_free(&set);
}

static void test_sources(void **state)
{
    (void)state;
    struct imageset set, other;
    struct err e;
    struct train_report r;
    char path[64];
    tx_path(path, "sources");
    tx_set(&set, 40, 8, 2, false);
    tx_set(&other, 40, 8, 2, true);
    assert_false(train_add_source(&set, &other, &e));
    assert_int_equal(e.code, ERR_INPUT);
    assert_non_null(strstr(e.msg, "2 date(s)"));
    imageset_free(&other);
    tx_set(&other, 40, 8, 3, false);
    assert_false(train_add_source(&set, &other, &e));
    assert_non_null(strstr(e.msg, "classes"));
    imageset_free(&other);
    tx_set(&other, 40, 8, 2, false);
    for (size_t i = 0; i < other.n; i++)
        other.label[i] = IMAGESET_NO_LABEL;
    assert_false(train_add_source(&set, &other, &e));
    assert_non_null(strstr(e.msg, "label"));
    imageset_free(&other);
    struct train_config c = quick(true);
    c.labels_per_class = -1; /* no label and no source */
    assert_false(train_run(&set, &c, path, false, NULL, 0, NULL, &r, &e));
    assert_int_equal(e.code, ERR_USAGE);
    imageset_free(&set);

    /* A target whose labels may not be used, and one that has none, train alike but for nothing. */
    two_places(&set, false, true);
    two_places(&other, false, false);
    struct train_config all = c;
    all.labels_per_class = 0;
    same_tensor(&set, &c, &other, &all, "ema.dense.kernel", true);
    c.method = "supervised"; /* source only, and the model loads although it knows no label of its place */
    assert_true(train_defaults(&c, "supervised", true, &e));
    c.preset = "lite3";
    c.batch = 4;
    c.steps = 2;
    c.budget_s = 0;
    c.labels_per_class = -1;
    assert_true(train_run(&set, &c, path, false, NULL, 0, NULL, &r, &e));
    assert_int_equal(r.n_labeled, 0);
    assert_int_equal(r.n_source, 48);
    struct model *m = model_load(path, &e);
    if (!m)
        fail_msg("%s", e.msg);
    size_t n = 1;
    model_labeled_ids(m, &n);
    assert_int_equal(n, 0);
    model_free(m);
    c.method = "adamatch";
    c = quick(true);
    c.labels_per_class = -1;
    c.align = METHOD_ALIGN_SAMPLE;
    assert_false(train_run(&set, &c, path, false, NULL, 0, NULL, &r, &e));
    assert_non_null(strstr(e.msg, "prior"));
    unlink(path);
    imageset_free(&set);
    imageset_free(&other);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_by_hand),
        cmocka_unit_test(test_gradients),
        cmocka_unit_test(test_interpolation),
        cmocka_unit_test(test_weight),
        cmocka_unit_test(test_binary_clamp),
        cmocka_unit_test(test_resume),
        cmocka_unit_test(test_running_statistics),
        cmocka_unit_test(test_ssl_is_uda),
        cmocka_unit_test(test_probes),
        cmocka_unit_test(test_ablations),
        cmocka_unit_test(test_sources),
    };
    omp_set_num_threads(1);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
