/* SPDX-License-Identifier: Apache-2.0
 *
 * test_baselines.c - pseudo-labels, Pi-model, Mean Teacher, VAT and UDA: losses by hand and by central
 * differences, the settings in which each becomes another method bit for bit, VAT's direction, resumed runs.
 */
#include "tests/unit/train_fixture.h"

#include <omp.h>

static double prob(const float *z, int n_classes, int c)
{
    double sum = 0;
    for (int k = 0; k < n_classes; k++)
        sum += exp((double)z[k]);
    return exp((double)z[c]) / sum;
}

static double scalar(const struct tx_step *f, const char *name)
{
    for (int i = 0; i < f->scalars.n; i++)
        if (strcmp(f->scalars.name[i], name) == 0)
            return f->scalars.value[i];
    fail_msg("no scalar %s", name);
    return NAN;
}

enum { B = 4, U = 9, C = 3 };

static void test_pseudolabel(void **state)
{
    (void)state;
    struct tx_step f;
    double sum = 0, all = 0;
    int kept = 0;
    tx_step_set(&f, "pseudolabel", true, C, B, U, 1, 2);
    f.config.tau = 0.7;
    tx_check_gradient(&f, "pseudolabel", 0, 0, B);
    tx_check_gradient(&f, "pseudolabel", 1, 0, U);
    for (int i = 0; i < U; i++) {
        int h = 0;
        for (int c = 1; c < C; c++)
            h = f.logits[i * C + c] > f.logits[i * C + h] ? c : h;
        double p = prob(f.logits + i * C, C, h);
        all -= log(p) / U;
        if (p > 0.7) {
            sum -= log(p) / U;
            kept++;
        }
    }
    assert_in_range(kept, 2, U - 2);
    double loss = tx_loss(&f, "pseudolabel", 1);
    tx_near(loss, sum, 1e-9);
    tx_near(scalar(&f, "mask"), (double)kept / U, 1e-12);
    assert_true(fabs(loss - all * kept / U) > 1e-2); /* the published programs' broadcast would give this */
    f.config.tau = 1;                                /* strict: nothing can pass */
    assert_true(tx_loss(&f, "pseudolabel", 1) == 0);
    for (int i = 0; i < U * C; i++)
        assert_true(f.dlogits[i] == 0);
    f.config.tau = 0.7;
    f.s.step = 4; /* of 20: half of the ramp of 0.4 */
    tx_near(tx_loss(&f, "pseudolabel", 1), sum / 2, 1e-9);
}

static void test_consistency(void **state)
{
    (void)state;
    static const char *const names[] = {"pimodel", "meanteacher"};
    struct tx_step f;
    for (int k = 0; k < 2; k++) {
        tx_step_set(&f, names[k], true, C, B, U, 2, 3);
        tx_check_gradient(&f, names[k], 0, 0, B);
        tx_check_gradient(&f, names[k], 1, 0, U);
        double want = 0;
        for (int i = 0; i < U; i++)
            for (int c = 0; c < C; c++) {
                double off = prob(f.logits + i * C, C, c) - (double)f.target[(B + i) * C + c];
                want += off * off / (U * C);
            }
        tx_near(tx_loss(&f, names[k], 1), want * (k ? 50 : 10), 1e-7);
        for (int i = 0; i < U; i++) /* both views predicted alike */
            semi_softmax(f.logits + i * C, C, f.target + (B + i) * C);
        tx_near(tx_loss(&f, names[k], 1), 0, 1e-11);
    }
}

static void test_vat_loss(void **state)
{
    (void)state;
    struct tx_step f;
    double entropy = 0, kl = 0;
    tx_step_set(&f, "vat", true, C, B, U, 2, 4);
    for (int pass = 0; pass < 3; pass++) {
        f.config.lambda_entropy = 0.7;
        tx_check_gradient(&f, "vat", pass, 0, pass ? U : B);
    }
    for (int i = 0; i < U; i++)
        for (int c = 0; c < C; c++) {
            double p = prob(f.logits + i * C, C, c);
            entropy -= p * log(p) / U;
            kl += p * log(p / (double)f.target[(B + i) * C + c]) / U; /* student || teacher */
        }
    tx_near(tx_loss(&f, "vat", 1), 0.7 * entropy, 1e-9);
    tx_near(tx_loss(&f, "vat", 2), 0.3 * kl, 1e-7);
    f.s.step = 0; /* the entropy has no ramp */
    tx_near(tx_loss(&f, "vat", 1), 0.7 * entropy, 1e-9);
    tx_near(tx_loss(&f, "vat", 2), 0, 0);
}

static void test_normalise(void **state)
{
    (void)state;
    enum { N = 3072 };
    float d[N];
    struct rng r;
    double sum = 0;
    rng_init(&r, 6, RNG_METHOD, 0);
    for (int i = 0; i < N; i++)
        d[i] = (float)(1e-9 * rng_normal(&r));
    semi_normalise(d, N, 6);
    for (int i = 0; i < N; i++)
        sum += (double)d[i] * (double)d[i];
    tx_near(sqrt(sum), 6, 1e-5);
    float two[2] = {3e-20f, -4e-20f}; /* max is far below 1e-12: almost nothing, not 0/0 */
    semi_normalise(two, 2, 6);
    assert_true(fabsf(two[0]) < 1e-3f && two[0] > 0 && two[1] < 0);
    float zero[2] = {0, 0};
    semi_normalise(zero, 2, 6);
    assert_true(zero[0] == 0 && zero[1] == 0);
}

static double divergence(struct net *net, const float *x, int n, const float *q)
{
    const float *z = net_forward(net, x, n, NET_BN_BATCH);
    double sum = 0;
    for (int i = 0; i < n; i++)
        for (int c = 0; c < C; c++)
            sum += (double)q[i * C + c] * log((double)q[i * C + c] / prob(z + i * C, C, c)) / n;
    return sum;
}

/* The step found must raise the divergence far more than any of several random steps of its length. */
static void test_vat_direction(void **state)
{
    (void)state;
    enum { N = 6, SIDE = 8, X = SIDE * SIDE * 3 };
    struct tx_step f;
    struct err e;
    struct rng r;
    float x[(B + 2 * N) * X], other[N * X];
    struct net_config config = {.size = SIDE,
                                .c_in = 3,
                                .n_classes = C,
                                .scales = 2,
                                .filters = 16,
                                .repeats = 1,
                                .bn_eps = 1e-3f,
                                .bn_momentum = 0.9f};
    const struct method *m = method_find("vat", &e);
    struct net *net = net_create(&config, N, NET_TRAIN, &e);
    assert_true(net && m);
    net_init(net, 3);
    tx_step_set(&f, "vat", true, C, B, N, 2, 5);
    f.config.vat_radius = 0.2;
    f.s.net = net;
    f.s.x = x;
    f.s.x_stride = X;
    rng_init(&r, 1, RNG_METHOD, 9);
    for (int i = 0; i < (B + N) * X; i++)
        x[i] = (float)(0.5 * rng_normal(&r));
    f.s.state = m->state_create(&f.s, &e);
    assert_non_null(f.s.state);
    m->prepare(&f.s);
    const float *u = x + B * X, *moved = u + N * X, *q = f.target + B * C;
    for (int i = 0; i < N; i++) {
        double length = 0;
        for (int j = 0; j < X; j++) {
            double d = (double)(moved[i * X + j] - u[i * X + j]);
            length += d * d;
        }
        tx_near(sqrt(length), 0.2, 1e-4);
    }
    assert_true(fabs(divergence(net, u, N, q)) < 1e-6);
    double found = divergence(net, moved, N, q), best = 0;
    for (int k = 0; k < 10; k++) {
        for (int i = 0; i < N * X; i++)
            other[i] = (float)rng_normal(&r);
        for (int i = 0; i < N; i++)
            semi_normalise(other + i * X, X, 0.2);
        for (int i = 0; i < N * X; i++)
            other[i] += u[i];
        best = fmax(best, divergence(net, other, N, q));
    }
    assert_true(found > 5 * best);
    m->state_free(f.s.state);
    net_free(net);
}

/* Labels that are known well enough stop teaching; the mean is over those that go on. */
static void test_annealing(void **state)
{
    (void)state;
    struct tx_step f;
    const double share[3] = {0.5, exp(-2.5),
                             1 - exp(-2.5)}; /* of the way from chance to 1, at half the run */
    size_t kept_before = 0;
    tx_step_set(&f, "uda", true, C, B, U, 2, 6);
    f.config.lambda_u = 0;
    for (int i = 0; i < B; i++) { /* 0.25, 0.42, 0.58, 0.93 or so, whatever the class */
        for (int c = 0; c < C; c++)
            f.logits[i * C + c] = c == f.label[i] ? (float)(-0.4 + 1.15 * i) : 0.0f;
    }
    for (int how = METHOD_TSA_LINEAR; how <= METHOD_TSA_LOG; how++) {
        double limit = 1.0 / C + share[how - 1] * (1 - 1.0 / C), sum = 0;
        int n = 0;
        f.config.tsa = how;
        for (int i = 0; i < B; i++) {
            double p = prob(f.logits + i * C, C, f.label[i]);
            n += p <= limit;
            sum -= p <= limit ? log(p) : 0;
        }
        assert_in_range(n, 1, B);
        kept_before += (size_t)n;
        tx_near(tx_loss(&f, "uda", 0), sum / n, 1e-6);
        tx_check_gradient(&f, "uda", 0, 0, 1);
        for (int i = 0; i < B; i++)
            if (prob(f.logits + i * C, C, f.label[i]) > limit)
                for (int c = 0; c < C; c++)
                    assert_true(f.dlogits[i * C + c] == 0);
    }
    assert_in_range(kept_before, 4, 3 * B - 2); /* the three differ from all and from none */
    for (int i = 0; i < B * C; i++)             /* all known: no loss, no division by nothing */
        f.logits[i] = i % C == f.label[i / C] ? 40 : 0;
    assert_true(tx_loss(&f, "uda", 0) == 0);
    struct err e;
    struct imageset set;
    struct train_config c = tx_config("fixmatch", true);
    tx_set(&set, 20, 4, 2, false);
    c.tsa = METHOD_TSA_EXP;
    assert_false(train_run(&set, &c, "none.safetensors", false, NULL, 0, NULL, NULL, &e));
    assert_non_null(strstr(e.msg, "fixmatch takes no tsa"));
    imageset_free(&set);
}

/* A threshold a class: a guess is kept by the one of the class it guesses. */
static void test_class_thresholds(void **state)
{
    (void)state;
    static const double tau[C] = {0.5, 2, 0.7};
    static const char *const names[] = {"fixmatch", "uda"};
    for (int m = 0; m < 2; m++) {
        struct tx_step f;
        int kept = 0, of_one = 0, at_half = 0;
        tx_step_set(&f, names[m], true, C, B, 40, 2, 8);
        f.config.n_class_tau = C;
        memcpy(f.config.class_tau, tau, sizeof tau);
        for (int i = 0; i < 40; i++) {
            const float *z = f.logits + (B + i) * C;
            int h = 0;
            for (int c = 1; c < C; c++)
                h = z[c] > z[h] ? c : h;
            kept += prob(z, C, h) >= tau[h];
            at_half += prob(z, C, h) >= 0.5;
            of_one += h == 1;
        }
        tx_loss(&f, names[m], 0);
        tx_near(scalar(&f, "mask"), kept / 40.0, 1e-12);
        assert_true(of_one > 0 && kept > 0 && kept < at_half);
    }
    struct err e;
    struct imageset set;
    struct train_config c = tx_config("fixmatch", true);
    tx_set(&set, 20, 4, 2, false);
    c.n_class_tau = 3;
    assert_false(train_run(&set, &c, "none.safetensors", false, NULL, 0, NULL, NULL, &e));
    assert_non_null(strstr(e.msg, "2 classes"));
    c.n_class_tau = 2; /* both alike: bit for bit the one threshold, and the model says what it had */
    c.class_tau[0] = c.class_tau[1] = c.tau = 0.6;
    struct train_config one = c;
    one.n_class_tau = 0;
    char a[65], b[65];
    tx_run(&set, &c, a);
    tx_run(&set, &one, b);
    assert_string_equal(a, b);
    c.class_tau[1] = 0.1;
    tx_run(&set, &c, a);
    assert_string_not_equal(a, b);
    imageset_free(&set);
}

static void test_uda(void **state)
{
    (void)state;
    struct tx_step f;
    float want[4096];
    tx_step_set(&f, "uda", true, C, B, U, 2, 6);
    f.config.tau = 0.6;
    f.config.sharpen = 0.4;
    tx_check_gradient(&f, "uda", 0, 0, B);
    tx_check_gradient(&f, "uda", 0, B + U, B + 2 * U);
    tx_loss(&f, "uda", 0);
    for (int i = B * C; i < (B + U) * C; i++)
        assert_true(f.dlogits[i] == 0); /* nothing through the guess */
    double loss_s = 0, loss_u = 0;
    for (int i = 0; i < B; i++)
        loss_s -= log(prob(f.logits + i * C, C, f.label[i])) / B;
    for (int i = 0; i < U; i++) {
        const float *weak = f.logits + (B + i) * C, *strong = weak + U * C;
        double q[C], sum = 0, top = 0;
        for (int c = 0; c < C; c++) {
            top = fmax(top, prob(weak, C, c));
            sum += q[c] = exp((double)weak[c] / 0.4);
        }
        for (int c = 0; top >= 0.6 && c < C; c++)
            loss_u += q[c] / sum * log(q[c] / sum / prob(strong, C, c)) / U;
    }
    tx_near(tx_loss(&f, "uda", 0), loss_s + loss_u, 1e-6);
    f.config.lambda_entropy = 0.5; /* adds to weak rows alone */
    double before = loss_s + loss_u;
    for (int i = 0; i < U; i++)
        for (int c = 0; c < C; c++) {
            double p = prob(f.logits + (B + i) * C, C, c);
            before -= 0.5 * p * log(p) / U;
        }
    tx_near(tx_loss(&f, "uda", 0), before, 1e-6);
    f.config.lambda_entropy = 0;
    f.config.sharpen = 1e-4; /* T -> 0: FixMatch */
    double loss = tx_loss(&f, "uda", 0);
    memcpy(want, f.dlogits, sizeof want);
    tx_near(tx_loss(&f, "fixmatch", 0), loss, 1e-6);
    for (int i = 0; i < f.s.n_rows * C; i++)
        tx_near((double)f.dlogits[i], (double)want[i], 1e-7);
}

static const char *const all[] = {"pseudolabel", "pimodel", "meanteacher", "vat", "uda"};
enum { N_ALL = sizeof all / sizeof *all };

static void test_without_unlabelled_is_supervised(void **state)
{
    (void)state;
    struct imageset set;
    char want[65], got[65];
    tx_set(&set, 40, 8, 4, false);
    struct train_config base = tx_config("supervised", true);
    base.label_smoothing = 0;
    tx_run(&set, &base, want);
    for (int k = 0; k < N_ALL; k++) {
        struct train_config c = tx_config(all[k], true);
        c.mu = 0;
        c.optim = base.optim;
        tx_run(&set, &c, got);
        assert_string_equal(got, want);
    }
    imageset_free(&set);
}

/* The batches of these three are laid out alike, so that without weight all are one run. */
static void test_without_weight(void **state)
{
    (void)state;
    struct imageset set;
    char want[65], got[65];
    tx_set(&set, 40, 8, 4, false);
    struct train_config c = tx_config("pimodel", true);
    c.lambda_u = 0;
    tx_run(&set, &c, want);
    c.method = "meanteacher";
    tx_run(&set, &c, got);
    assert_string_equal(got, want);
    c.lambda_u = 50;
    c.optim.ema_decay = 0; /* the teacher is the student */
    tx_run(&set, &c, want);
    c.method = "pimodel";
    tx_run(&set, &c, got);
    assert_string_equal(got, want);
    c.method = "meanteacher";
    c.optim.ema_decay = 0.999f;
    tx_run(&set, &c, got);
    assert_string_not_equal(got, want);
    c = tx_config("pseudolabel", true);
    c.tau = 1;
    tx_run(&set, &c, want);
    c.tau = 0;
    c.lambda_u = 0;
    tx_run(&set, &c, got);
    assert_string_equal(got, want);
    imageset_free(&set);
}

static void test_resume(void **state)
{
    (void)state;
    struct imageset set;
    char one[65], other[65];
    for (int pair = 0; pair < 2; pair++) {
        tx_set(&set, 40, 8, 4, pair);
        for (int k = 0; k < N_ALL; k++) {
            struct train_config c = tx_config(all[k], !pair);
            c.mu = 2;
            c.tau = 0.3;
            tx_check_resume(&set, &c);
            if (pair)
                continue;
            tx_run(&set, &c, one);
            omp_set_num_threads(3);
            tx_run(&set, &c, other);
            omp_set_num_threads(1);
            assert_string_equal(one, other);
        }
        imageset_free(&set);
    }
}

static void test_defaults(void **state)
{
    (void)state;
    struct train_config c;
    struct err e;
    static const double weight[] = {1, 10, 50, 0.3, 1};
    for (int k = 0; k < N_ALL; k++) {
        assert_true(train_defaults(&c, all[k], true, &e));
        assert_int_equal(c.batch, 64);
        tx_near(c.lambda_u, weight[k], 0);
        tx_near(c.ramp, k < 4 ? 0.4 : 0, 0);
        assert_int_equal(c.mu, k < 4 ? 1 : 7);
    }
    assert_true(train_defaults(&c, "vat", true, &e));
    tx_near(c.vat_radius, 6, 0);
    tx_near(c.lambda_entropy, 0.06, 0);
    assert_int_equal(c.optim.kind, OPTIM_ADAM);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pseudolabel),
        cmocka_unit_test(test_consistency),
        cmocka_unit_test(test_vat_loss),
        cmocka_unit_test(test_normalise),
        cmocka_unit_test(test_vat_direction),
        cmocka_unit_test(test_uda),
        cmocka_unit_test(test_annealing),
        cmocka_unit_test(test_class_thresholds),
        cmocka_unit_test(test_without_unlabelled_is_supervised),
        cmocka_unit_test(test_without_weight),
        cmocka_unit_test(test_resume),
        cmocka_unit_test(test_defaults),
    };
    omp_set_num_threads(1);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
