/* SPDX-License-Identifier: Apache-2.0
 *
 * test_optim.c - each update rule against its formula carried out in double on single numbers, the schedules
 * against vectors computed elsewhere, and which tensors decay. */
#include "models/base/rng.h"
#include "models/net/optim.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const struct optim_config base = {.kind = OPTIM_SGD,
                                         .lr = 0.03f,
                                         .momentum = 0.9f,
                                         .beta1 = 0.9f,
                                         .beta2 = 0.999f,
                                         .epsilon = 1e-8f,
                                         .ema_decay = 0.99f};

/* Wide enough that a kernel is cut into several pieces. */
static struct net *small_net(void)
{
    struct net_config c = {4, 2, 3, 1, 40, 1, 1e-3f, 0.999f};
    struct net *net = net_create(&c, 2, NET_TRAIN, NULL);
    assert_non_null(net);
    net_init(net, 3);
    return net;
}

static void set_grads(const struct net *net, uint64_t step)
{
    int n;
    const struct net_tensor *t = net_tensors(net, &n);
    struct rng r;
    rng_init(&r, 8, RNG_SCENE, step);
    for (size_t i = 0; i < net_trainable_count(net); i++)
        t[0].grad[i] = (float)rng_normal(&r);
}

struct twin { /* one weight's own history in double */
    double w, m, v, ema;
};

static void twin_step(struct twin *s, const struct optim_config *c, double g, double lr, int t, bool decays)
{
    double wd = decays ? (double)c->weight_decay : 0;
    if (c->decay == OPTIM_DECAY_L2)
        g += wd * s->w;
    if (c->kind == OPTIM_SGD) {
        double mu = (double)c->momentum;
        s->m = mu * s->m + g;
        s->w -= c->nesterov ? lr * (g + mu * s->m) : lr * s->m;
    } else {
        double b1 = (double)c->beta1, b2 = (double)c->beta2;
        s->m = b1 * s->m + (1 - b1) * g;
        s->v = b2 * s->v + (1 - b2) * g * g;
        s->w -= lr * (s->m / (1 - pow(b1, t))) / (sqrt(s->v / (1 - pow(b2, t))) + (double)c->epsilon);
    }
    if (c->decay == OPTIM_DECAY_DECOUPLED)
        s->w *= 1 - wd * lr;
    s->ema = (double)c->ema_decay * s->ema + (1 - (double)c->ema_decay) * s->w;
}

static void check_rule(struct optim_config c)
{
    struct net *net = small_net();
    struct err e = {0};
    struct optim *o = optim_create(net, &c, &e);
    int n;
    const struct net_tensor *t = net_tensors(net, &n);
    size_t count = net_trainable_count(net), at = 0;
    struct twin *twins = calloc(count, sizeof *twins);
    bool *decays = calloc(count, sizeof *decays);
    assert_true(o && twins && decays);
    for (int i = 0; i < n && t[i].grad; i++)
        for (size_t j = 0; j < t[i].count; j++, at++) {
            decays[at] = strstr(t[i].name, ".kernel") != NULL; /* never biases, gamma, beta */
            t[i].value[j] += 0.25f; /* so that a wrong decay shows in all of them */
            twins[at].w = (double)t[i].value[j];
        }
    optim_free(o); /* the average starts as a copy of the weights at creation */
    o = optim_create(net, &c, &e);
    assert_non_null(o);
    for (size_t i = 0; i < count; i++)
        twins[i].ema = twins[i].w;
    for (int step = 1; step <= 5; step++) {
        double lr = 0.02 / step;
        set_grads(net, (uint64_t)step);
        for (size_t i = 0; i < count; i++)
            twin_step(&twins[i], &c, (double)t[0].grad[i], lr, step, decays[i]);
        optim_step(o, lr);
        assert_int_equal(optim_steps_taken(o), step);
    }
    for (size_t i = 0; i < count; i++) {
        double w = (double)t[0].value[i], ema = (double)optim_ema(o)[i], m = (double)optim_slot(o, 0)[i];
        if (!(fabs(w - twins[i].w) < 2e-6 && fabs(ema - twins[i].ema) < 1e-6 && fabs(m - twins[i].m) < 5e-6))
            fail_msg("weight %zu: %.9g %.9g %.9g, by hand %.9g %.9g %.9g", i, w, m, ema, twins[i].w,
                     twins[i].m, twins[i].ema);
    }
    assert_int_equal(optim_slots(o), c.kind == OPTIM_ADAM ? 2 : 1);
    assert_int_equal(optim_state_count(o), count);
    optim_free(o);
    net_free(net);
    free(twins);
    free(decays);
}

static void test_sgd(void **state)
{
    struct optim_config c = base;
    (void)state;
    check_rule(c);
    c.weight_decay = 0.05f;
    check_rule(c);
    c.nesterov = true;
    check_rule(c);
    c.decay = OPTIM_DECAY_DECOUPLED;
    check_rule(c);
}

static void test_adam(void **state)
{
    struct optim_config c = base;
    (void)state;
    c.kind = OPTIM_ADAM;
    c.weight_decay = 0.5f;
    c.decay = OPTIM_DECAY_DECOUPLED;
    check_rule(c);
    c.decay = OPTIM_DECAY_L2;
    check_rule(c);
}

/* By hand: w 1, g 2, lr .1, mu .9. m = 2; Nesterov w = 1 - .1(2 + 1.8) = .62; then g 1: m = 2.8, w = .62 -
 * .1(1 + 2.52) = .268. Adam's first step is lr whatever the gradient: .9. Plain momentum: .8, then .8 - .28 =
 * .52. */
static void test_by_hand(void **state)
{
    const struct {
        enum optim_kind kind;
        bool nesterov;
        double first, second;
    } known[] = {{OPTIM_SGD, true, 0.62, 0.268}, {OPTIM_SGD, false, 0.8, 0.52}, {OPTIM_ADAM, false, 0.9, -1}};
    (void)state;
    for (int i = 0; i < 3; i++) {
        struct net *net = small_net();
        struct optim_config c = base;
        int n;
        const struct net_tensor *t = net_tensors(net, &n);
        c.kind = known[i].kind;
        c.nesterov = known[i].nesterov;
        struct optim *o = optim_create(net, &c, NULL);
        assert_non_null(o);
        t[0].value[0] = 1;
        t[0].grad[0] = 2;
        optim_step(o, 0.1);
        assert_true(fabs((double)t[0].value[0] - known[i].first) < 1e-6);
        t[0].grad[0] = 1;
        optim_step(o, 0.1);
        if (known[i].second > 0)
            assert_true(fabs((double)t[0].value[0] - known[i].second) < 1e-6);
        optim_free(o);
        net_free(net);
    }
}

static void test_schedules(void **state)
{
    static const double k[4] = {0.25, 0.5, 0.75, 1}, cos_7_16[4] = {.941544, .773010, .514103, .195090},
                        quarter[4] = {.946195, .790569, .549871, .25};
    struct optim_config c = base;
    (void)state;
    c.lr = 1;
    for (int i = 0; i < 4; i++) {
        c.schedule = OPTIM_COS_7_16;
        assert_true(fabs(optim_lr(&c, k[i]) - cos_7_16[i]) < 1e-6);
        c.schedule = OPTIM_COS_QUARTER;
        assert_true(fabs(optim_lr(&c, k[i]) - quarter[i]) < 1e-6);
        c.schedule = OPTIM_CONSTANT;
        assert_true(optim_lr(&c, k[i]) == 1);
    }
    c.schedule = OPTIM_COS_7_16;
    assert_true(optim_lr(&c, 0) == 1 && optim_lr(&c, 2) == optim_lr(&c, 1) && optim_lr(&c, -1) == 1);
}

/* The average of running statistics: raw ones go along, or are averaged (AdaMatch). */
static void test_running_stats(void **state)
{
    (void)state;
    for (int averaged = 0; averaged < 2; averaged++) {
        struct net *net = small_net();
        struct optim_config c = base;
        int n;
        const struct net_tensor *t = net_tensors(net, &n);
        size_t at = net_trainable_count(net);
        c.ema_running_stats = averaged;
        struct optim *o = optim_create(net, &c, NULL);
        assert_non_null(o);
        assert_true(t[n - 1].role == NET_RUNNING_VAR && optim_ema(o)[at] == 0);
        t[0].value[at] = 2; /* a running mean moved by a forward pass */
        set_grads(net, 1);
        optim_step(o, 0.01);
        assert_true(fabs((double)optim_ema(o)[at] - (averaged ? 0.02 : 2.0)) < 1e-6);
        optim_free(o);
        net_free(net);
    }
}

static void test_l2(void **state)
{
    struct net *net = small_net();
    struct optim *o = optim_create(net, &base, NULL);
    int n;
    const struct net_tensor *t = net_tensors(net, &n);
    double want = 0;
    (void)state;
    assert_non_null(o);
    for (int i = 0; i < n; i++)
        for (size_t j = 0; j < t[i].count && t[i].n_dims > 1; j++)
            want += 0.5 * (double)t[i].value[j] * (double)t[i].value[j];
    assert_true(want > 1 && fabs(optim_l2(o) - want) < 1e-9 * want);
    optim_free(o);
    net_free(net);
}

/* Slots, average and step number carried over into a new optimiser continue in the same bits. */
static void test_resume(void **state)
{
    (void)state;
    for (int kind = 0; kind < 2; kind++) {
        struct optim_config c = base;
        c.kind = kind ? OPTIM_ADAM : OPTIM_SGD;
        struct net *a = small_net(), *b = small_net();
        struct optim *oa = optim_create(a, &c, NULL);
        int n;
        float *va = net_tensors(a, &n)[0].value, *vb = net_tensors(b, &n)[0].value;
        size_t count = net_trainable_count(a);
        assert_non_null(oa);
        for (uint64_t step = 0; step < 3; step++) {
            set_grads(a, step);
            optim_step(oa, 0.01);
        }
        memcpy(vb, va, count * sizeof *vb);
        struct optim *ob = optim_create(b, &c, NULL);
        assert_non_null(ob);
        for (int s = 0; s < optim_slots(oa); s++)
            memcpy(optim_slot(ob, s), optim_slot(oa, s), count * sizeof *vb);
        memcpy(optim_ema_writable(ob), optim_ema(oa), count * sizeof *vb);
        optim_set_steps_taken(ob, optim_steps_taken(oa));
        for (uint64_t step = 3; step < 5; step++) {
            set_grads(a, step);
            set_grads(b, step);
            optim_step(oa, 0.01);
            optim_step(ob, 0.01);
        }
        assert_memory_equal(va, vb, count * sizeof *va);
        assert_memory_equal(optim_ema(oa), optim_ema(ob), count * sizeof *va);
        optim_free(oa);
        optim_free(ob);
        net_free(a);
        net_free(b);
    }
}

/* The kernels work on prepared copies of the weights: a step must make the next forward pass see the new
 * ones. */
static void test_step_is_seen(void **state)
{
    struct net *net = small_net();
    struct optim *o = optim_create(net, &base, NULL);
    float x[32], stepped[3];
    (void)state;
    assert_non_null(o);
    for (int i = 0; i < 32; i++)
        x[i] = (float)(i % 5) - 2;
    float before = net_forward(net, x, 1, NET_BN_RUNNING)[0];
    set_grads(net, 1);
    optim_step(o, 0.01);
    memcpy(stepped, net_forward(net, x, 1, NET_BN_RUNNING), sizeof stepped);
    net_weights_changed(net);
    assert_memory_equal(stepped, net_forward(net, x, 1, NET_BN_RUNNING), sizeof stepped);
    assert_true(stepped[0] != before);
    optim_free(o);
    net_free(net);
}

static void test_refused(void **state)
{
    struct net *net = small_net();
    (void)state;
    for (int i = 0; i < 5; i++) {
        struct optim_config c = base;
        struct err e = {0};
        if (i == 0)
            c.lr = 0;
        else if (i == 1)
            c.momentum = 1;
        else if (i == 2)
            c.weight_decay = -1;
        else if (i == 3)
            c.ema_decay = 1;
        else {
            c.kind = OPTIM_ADAM;
            c.epsilon = 0;
        }
        assert_null(optim_create(net, &c, &e));
        assert_int_equal(e.code, ERR_INPUT);
    }
    net_free(net);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sgd),           cmocka_unit_test(test_adam),
        cmocka_unit_test(test_by_hand),       cmocka_unit_test(test_schedules),
        cmocka_unit_test(test_running_stats), cmocka_unit_test(test_l2),
        cmocka_unit_test(test_resume),        cmocka_unit_test(test_step_is_seen),
        cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
