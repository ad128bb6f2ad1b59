/* SPDX-License-Identifier: Apache-2.0
 *
 * test_pate.c - the accountant against published and independently computed values, and against what its bounds
 * promise on cases small enough to integrate; noise by its moments; shards; and a small study that is stopped,
 * gone on with, and looked through for anything private.
 *
 * Independent values: 40-digit arithmetic and quadrature (mpmath) of the definitions; votes of four histograms
 * by a second implementation in long doubles. */
#include "models/learn/pate.h"
#include "tests/unit/train_fixture.h"

#include "models/learn/predict.h"

#include <dirent.h>
#include <sys/stat.h>

static void close_to(double got, double want, double relative)
{
    if (!(fabs(got - want) <= relative * fabs(want)))
        fail_msg("got %.15g, want %.15g within a share of %g", got, want, relative);
}

/* ---- the accountant ---- */

static void test_tails(void **state)
{
    static const double known[][2] = {
        {-12, -1.776482112077679e-33}, {-3, -0.0013508099647481938}, {0, -0.693147180559945309},
        {0.5, -1.17591176159361861},   {5, -15.0649983939887257},    {9.99, -53.1303537456060132},
        {10.01, -53.3323156108807305}, {20, -203.917155371097264},   {38, -726.55721601882013},
        {100, -5005.52420869420509},   {1000, -500007.826694812184}};
    (void)state;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        close_to(pate_log_tail(known[i][0]), known[i][1], 1e-13);
}

/* Renyi divergence of order a between two densities, by the trapezoid rule in logarithms. */
static double divergence(double (*log_p)(double x, double scale, double at), double scale, double shift,
                         double a)
{
    const double from = -30 * scale - 2, to = 30 * scale + a * shift + 2, step = (to - from) / 400000;
    double sum = 0;
    for (int i = 0; i <= 400000; i++) {
        const double x = from + i * step;
        sum += (i == 0 || i == 400000 ? 0.5 : 1) *
               exp(a * log_p(x, scale, shift) + (1 - a) * log_p(x, scale, 0));
    }
    return log(sum * step) / (a - 1);
}

static double log_gauss(double x, double s, double at)
{
    return -(x - at) * (x - at) / (2 * s * s) - log(s) - 0.5 * log(2 * M_PI);
}

static double log_laplace(double x, double b, double at)
{
    return -fabs(x - at) / b - log(2 * b);
}

static void test_rdp_is_the_divergence(void **state)
{
    (void)state;
    for (int k = 0; k < 6; k++) {
        const double s = (double[]){1, 1, 2, 4, 3, 5}[k], a = (double[]){1.5, 4, 8, 16, 2, 3}[k];
        close_to(pate_rdp_threshold(s, a), divergence(log_gauss, s, 1, a), 1e-7);
        close_to(pate_rdp_gnmax(s, a), 2 * divergence(log_gauss, s, 1, a), 1e-7); /* two counts move */
        close_to(pate_rdp_lnmax(s, a), 2 * divergence(log_laplace, s, 1, a), 1e-6);
        assert_true(pate_rdp_lnmax(s, a) < 2 / s);
    }
    close_to(pate_rdp_gnmax(40, 8), 0.005, 1e-15);
    close_to(pate_rdp_threshold(200, 8), 1e-4, 1e-15);
    close_to(pate_rdp_lnmax(1, 2), 1.23824725999719, 1e-13);
    close_to(pate_rdp_lnmax(4, 8), 0.326217286032162, 1e-13);
    close_to(pate_rdp_lnmax(20, 16), 0.036009970364272, 1e-12);
    close_to(pate_rdp_lnmax(40, 64), 0.0295242315061104, 1e-12);
    close_to(pate_rdp_lnmax(20, 1e6), 0.1, 1e-3); /* the pure epsilon is the limit */
}

static void test_sampled_gaussian(void **state)
{
    static const struct {
        double rate, sigma;
        int order;
        double want;
    } known[] = {{0.01, 1.1, 2, 1.2851008e-4}, {0.01, 1.1, 4, 2.6671831e-4}, {0.01, 1.1, 8, 5.8407034e-4},
                 {0.01, 1.1, 16, 1.6998267},   {0.01, 1.1, 32, 8.4694164},   {0.1, 4, 2, 6.4473670e-4},
                 {0.1, 4, 8, 2.6744986e-3},    {0.1, 4, 32, 1.27202234e-2}};
    (void)state;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        close_to(pate_rdp_sampled_gaussian(known[i].rate, known[i].sigma, known[i].order), known[i].want,
                 1e-7);
    close_to(pate_rdp_sampled_gaussian(0.1, 4, 32), 0.0127202234469297, 1e-10); /* by quadrature */
    for (int k = 1; k < 5; k++)
        close_to(pate_rdp_sampled_gaussian(0.07 * k, k, 2), log1p(0.0049 * k * k * expm1(1.0 / (k * k))),
                 1e-10);
    close_to(pate_rdp_sampled_gaussian(1, 3, 7), 7 / 18.0, 1e-14);
    assert_true(pate_rdp_sampled_gaussian(0, 3, 7) == 0);
}

static double epsilon_of(double per_order, double delta, bool tight, double from, double step, int n)
{
    double order[4000], rdp[4000];
    for (int i = 0; i < n; i++) {
        order[i] = from + i * step;
        rdp[i] = per_order * order[i];
    }
    return pate_epsilon(order, rdp, n, delta, tight).epsilon;
}

static void test_conversions(void **state)
{
    static const double sigma[] = {1, 2, 4}, classic[] = {5.298526, 2.524263, 1.230881};
    (void)state;
    for (int k = 0; k < 3; k++) { /* a fine grid against the optimum over all orders, in closed form */
        const double per = 1 / (2 * sigma[k] * sigma[k]),
                     got = epsilon_of(per, 1e-5, false, 1.02, 0.02, 3000);
        close_to(per + sqrt(2 * log(1e5)) / sigma[k], classic[k], 1e-6);
        close_to(got, classic[k], 1e-5);
        assert_true(got >= classic[k] - 1e-6);
    }
    close_to(epsilon_of(0.5, 1e-5, true, 1.25, 0.25, 400), 4.728924, 2e-7);
    close_to(epsilon_of(0.125, 1e-5, true, 1.25, 0.25, 400), 2.165878, 2e-7);
    double order[PATE_MAX_ORDERS], rdp[PATE_MAX_ORDERS];
    const int n = pate_orders(order);
    for (int i = 1; i < n; i++)
        assert_true(order[i] > order[i - 1] || (order[i] == 100 && order[i - 1] <= 100.5));
    close_to(order[n - 1], 500, 1e-12);
    double before = INFINITY;
    for (int k = 1; k < 12; k++) { /* falls in delta; the tighter one is below; never negative */
        const double delta = pow(10, k - 12);
        for (int i = 0; i < n; i++)
            rdp[i] = 0.01 * order[i];
        const double loose = pate_epsilon(order, rdp, n, delta, false).epsilon,
                     tight = pate_epsilon(order, rdp, n, delta, true).epsilon;
        assert_true(loose < before && tight < loose && tight >= 0);
        before = loose;
    }
    for (int k = 2; k < 40; k++)
        assert_true(epsilon_of(0.5 / (k * k), 1e-5, false, 2, 0.5, 1000) <
                    epsilon_of(0.5 / ((k - 1) * (k - 1)), 1e-5, false, 2, 0.5, 1000));
}

static const int histogram[4][10] = {{250}, {240, 4, 2, 1, 1, 1, 1}, {200, 50}, {130, 120}};

static void test_known_votes(void **state)
{
    static const double log_q[] = {-10.0192283, -9.1245655, -5.1791523, -0.6615187};
    static const double order[] = {2, 8, 16, 32};
    static const double rdp[4][4] = {{1.5273573e-5, 2.0589133e-5, 3.6813507e-5, 2.0345499e-4},
                                     {3.5527431e-5, 4.7112495e-5, 8.1027636e-5, 3.9869209e-4},
                                     {.00125, 1.6548842e-3, 2.3502868e-3, 6.1754847e-3},
                                     {.00125, .005, .01, .02}};
    static const double answered[4][2] = {
        {.598706, .401294}, {.579260, .382088}, {.5, .308538}, {.363169, .197663}};
    (void)state;
    for (int h = 0; h < 4; h++) {
        const double q = pate_log_q_gnmax(histogram[h], 10, 40);
        tx_near(q, log_q[h], 6e-8);
        for (int k = 0; k < 4; k++) {
            close_to(pate_rdp_data(q, 40, order[k]), rdp[h][k], 4e-8);
            close_to(pate_rdp_data(pate_log_q_threshold(histogram[h][0], 200, 200), M_SQRT2 * 200, order[k]),
                     order[k] / 80000, 1e-12);
        }
        tx_near(exp(pate_log_answered(histogram[h][0], 200, 200)), answered[h][0], 6e-7);
        tx_near(exp(pate_log_answered(histogram[h][0], 300, 200)), answered[h][1], 6e-7);
    }
    static const int four[] = {180, 30, 20, 20}, three[] = {95, 3, 2}; /* other sizes, 40 digits */
    close_to(pate_log_q_gnmax(four, 4, 20), -16.4427061108, 1e-11);
    close_to(pate_rdp_data(pate_log_q_gnmax(four, 4, 20), 20, 5), 1.10214168356e-7, 1e-8);
    close_to(pate_rdp_data(pate_log_q_gnmax(three, 3, 10), 10, 3.5), 3.67151236525e-10, 1e-6);
}

static void test_data_dependent_cost(void **state)
{
    struct rng r;
    (void)state;
    rng_init(&r, 5, RNG_METHOD, 0);
    for (int trial = 0; trial < 2000; trial++) { /* never above the other one */
        int votes[10] = {0};
        for (int k = 0; k < 250; k++)
            votes[rng_uniform(&r) < 0.5 ? 0 : rng_below(&r, 10)]++;
        const double a = 1.1 + 60 * rng_uniform(&r), s = 2 + 60 * rng_uniform(&r);
        const double cost = pate_rdp_data(pate_log_q_gnmax(votes, 10, s), s, a);
        assert_true(cost >= 0 && cost <= pate_rdp_gnmax(s, a));
    }
    for (int k = 0; k < 30; k++) { /* falls with q below the switch, constant above */
        const double a = 2 + k, s = 10 + 2 * k;
        double before = -1;
        bool flat = false;
        for (double q = -200; q < -0.01; q += 0.01) {
            const double cost = pate_rdp_data(q, s, a);
            const bool is_flat = cost >= pate_rdp_gnmax(s, a) * (1 - 1e-12);
            assert_true(cost >= before * (1 - 1e-9) && (is_flat || !flat));
            before = cost;
            flat = is_flat;
        }
        assert_true(flat);
    }
    static const int tie[] = {125, 125, 0}, all[] = {250, 0, 0}, split[] = {180, 40, 30};
    for (double a = 1.5; a < 40; a += 0.5) {
        assert_true(pate_rdp_data(pate_log_q_gnmax(tie, 3, 40), 40, a) == pate_rdp_gnmax(40, a));
        assert_true(pate_rdp_data(pate_log_q_gnmax(all, 3, 40), 40, a) <
                    pate_rdp_data(pate_log_q_gnmax(split, 3, 40), 40, a));
    }
}

/* What the bound promises, on two classes, where outcomes' probabilities are one tail each: the divergence
 * between a histogram's answers and those of any neighbour stays below it, both ways. */
static double two_outcomes(double log_p0, double log_p1, double log_q0, double log_q1, double a)
{
    const double x = a * log_p0 + (1 - a) * log_q0, y = a * log_p1 + (1 - a) * log_q1, m = fmax(x, y);
    return (m + log(exp(x - m) + exp(y - m))) / (a - 1);
}

static void test_bound_holds(void **state)
{
    int n_used = 0;
    (void)state;
    for (int n = 20; n <= 260; n += 24)
        for (int most = n / 2; most <= n; most += 1 + n / 20)
            for (double s = 4; s < 60; s *= 1.7) {
                const int votes[] = {most, n - most};
                const double lost = pate_log_q_gnmax(votes, 2, s);
                for (double a = 1.5; a < 40; a *= 1.6) {
                    const double bound = pate_rdp_data(lost, s, a);
                    n_used += bound < pate_rdp_gnmax(s, a) * 0.999;
                    for (int move = -1; move <= 1; move += 2) {
                        if (most + move > n)
                            continue;
                        const double d = (2 * most - n) / (s * M_SQRT2),
                                     b = (2 * (most + move) - n) / (s * M_SQRT2);
                        const double p[] = {pate_log_tail(-d), pate_log_tail(d)},
                                     q[] = {pate_log_tail(-b), pate_log_tail(b)};
                        const double there = two_outcomes(p[0], p[1], q[0], q[1], a);
                        if (there > bound * (1 + 1e-6) + 1e-14)
                            fail_msg("%d of %d votes, sigma %g, order %g: %g above the bound %g", most, n, s,
                                     a, there, bound);
                    }
                    /* the threshold test at the same place */
                    const double t = 0.7 * n, x = (t - most) / s, y = (t - most + 1) / s;
                    const double test = pate_rdp_data(pate_log_q_threshold(most, t, s), M_SQRT2 * s, a);
                    const double there = two_outcomes(pate_log_tail(x), pate_log_tail(-x), pate_log_tail(y),
                                                      pate_log_tail(-y), a);
                    assert_true(there <= test * (1 + 1e-6) + 1e-14);
                }
            }
    assert_true(n_used > 500); /* and the bound is more than the data-independent one */
}

static void test_totals(void **state)
{
    const struct pate_mechanism m = {PATE_CONFIDENT, 200, 200, 40};
    struct pate_ledger *l = calloc(2, sizeof *l);
    (void)state;
    pate_ledger_init(l, &m, 250);
    for (int i = 0; i < 249; i++)
        pate_ledger_pay(l, histogram[i % 4], 10, i < 138);
    assert_int_equal(l->asked, 249);
    assert_int_equal(l->answered, 138);
    tx_near(pate_ledger_epsilon(l, 1e-5, false, false).epsilon, 2.118, 5e-4);
    tx_near(pate_ledger_epsilon(l, 1e-6, false, false).epsilon, 2.312, 5e-4);
    close_to(pate_ledger_epsilon(l, 1e-6, false, false).order, 13.5, 1e-12);
    assert_true(pate_ledger_epsilon(l, 1e-6, true, false).epsilon < 2.3116);
    assert_true(pate_ledger_epsilon_data(l, 1e-6, true).epsilon <
                pate_ledger_epsilon(l, 1e-6, true, false).epsilon);
    for (int i = 0; i < l->n_orders; i++) { /* curves add up, order by order */
        close_to(pate_ledger_rdp(l, i, 249, 138), l->order[i] * (249 / 80000.0 + 138 / 1600.0), 1e-12);
        assert_true(l->data[i] <= pate_ledger_rdp(l, i, 249, 138) * (1 + 1e-12));
    }
    /* one more, answered: what ahead promises */
    const double ahead = pate_ledger_epsilon(l, 1e-5, true, true).epsilon;
    pate_ledger_pay(l, histogram[3], 10, true);
    close_to(pate_ledger_epsilon(l, 1e-5, true, false).epsilon, ahead, 1e-12);
    /* a query without an answer costs, less than one with */
    const double all = ahead;
    pate_ledger_pay(l, histogram[3], 10, false);
    const double silent = pate_ledger_epsilon(l, 1e-5, true, false).epsilon;
    assert_true(silent > all && silent < pate_ledger_epsilon(l, 1e-5, true, true).epsilon);
    /* 249 unanimous queries at their expected cost */
    double rdp[PATE_MAX_ORDERS], p = exp(pate_log_answered(250, 200, 200));
    for (int i = 0; i < l->n_orders; i++)
        rdp[i] = 249 * (pate_rdp_data(pate_log_q_threshold(250, 200, 200), M_SQRT2 * 200, l->order[i]) +
                        p * pate_rdp_data(pate_log_q_gnmax(histogram[0], 10, 40), 40, l->order[i]));
    tx_near(249 * p, 149.08, 5e-3);
    tx_near(pate_epsilon(l->order, rdp, l->n_orders, 1e-5, false).epsilon, 0.491, 5e-4);
    tx_near(pate_epsilon(l->order, rdp, l->n_orders, 1e-6, false).epsilon, 0.556, 5e-4);
    /* Laplace noise: few queries are cheapest by the pure epsilon, many by the divergence */
    const struct pate_mechanism laplace = {.kind = PATE_LNMAX, .sigma = 20};
    pate_ledger_init(l + 1, &laplace, 250);
    pate_ledger_pay(l + 1, histogram[0], 10, true);
    close_to(pate_ledger_epsilon(l + 1, 1e-5, true, false).epsilon, 0.1, 1e-12);
    for (int i = 1; i < 1000; i++)
        pate_ledger_pay(l + 1, histogram[0], 10, true);
    assert_true(pate_ledger_epsilon(l + 1, 1e-5, true, false).epsilon < 0.3 * 1000 * 0.1);
    close_to(pate_ledger_epsilon_data(l + 1, 1e-5, true).epsilon,
             pate_ledger_epsilon(l + 1, 1e-5, true, false).epsilon, 1e-9);
    free(l);
}

/* ---- noise ---- */

enum { DRAWS = 60000 };

static void test_noise(void **state)
{
    struct pate_noise noise, other;
    struct err e;
    (void)state;
    pate_noise_from_seed(&noise, 7);
    assert_false(noise.secret);
    for (int laplace = 0; laplace < 2; laplace++) {
        double (*draw)(const struct pate_noise *, uint64_t, enum pate_purpose, int) =
            laplace ? pate_noise_laplace : pate_noise_normal;
        double sum = 0, square = 0, fourth = 0, size = 0, classes = 0, purposes = 0, queries = 0;
        int beyond = 0;
        for (uint64_t i = 0; i < DRAWS; i++) {
            const double x = draw(&noise, i, PATE_NOISE_VOTE, 0);
            sum += x;
            square += x * x;
            fourth += x * x * x * x;
            size += fabs(x);
            beyond += x > 2;
            classes += x * draw(&noise, i, PATE_NOISE_VOTE, 1);
            purposes += x * draw(&noise, i, PATE_NOISE_THRESHOLD, 0);
            queries += x * draw(&noise, i + 1, PATE_NOISE_VOTE, 0);
        }
        const double variance = laplace ? 2 : 1, sd = sqrt(DRAWS);
        tx_near(sum / DRAWS, 0, 4 * sqrt(variance) / sd);
        tx_near(square / DRAWS, variance, 4 * (laplace ? sqrt(20) : sqrt(2)) / sd);
        tx_near(fourth / DRAWS, laplace ? 24 : 3, 4 * (laplace ? sqrt(39744) : sqrt(96)) / sd);
        tx_near(size / DRAWS, laplace ? 1 : sqrt(2 / M_PI), 4 / sd);
        tx_near((double)beyond / DRAWS, laplace ? 0.5 * exp(-2) : exp(pate_log_tail(2)), 4 * 0.25 / sd);
        tx_near(classes / DRAWS, 0, 4 * variance / sd);
        tx_near(purposes / DRAWS, 0, 4 * variance / sd);
        tx_near(queries / DRAWS, 0, 4 * variance / sd);
        assert_true(draw(&noise, 5, PATE_NOISE_VOTE, 3) == draw(&noise, 5, PATE_NOISE_VOTE, 3));
    }
    assert_true(pate_noise_draw_key(&noise, &e) && pate_noise_draw_key(&other, &e) && noise.secret);
    assert_memory_not_equal(noise.key, other.key, sizeof noise.key);
}

static void test_answers(void **state)
{
    static const int votes[] = {40, 55, 5};
    const struct pate_mechanism gauss = {.kind = PATE_GNMAX, .sigma = 15},
                                laplace = {.kind = PATE_LNMAX, .sigma = 15},
                                confident = {PATE_CONFIDENT, 60, 10, 15};
    struct pate_noise noise;
    int won[2][3] = {{0}}, silent = 0, agreed = 0, asked = 20000;
    (void)state;
    pate_noise_from_seed(&noise, 11);
    for (int i = 0; i < asked; i++) {
        const int g = pate_answer(&gauss, &noise, (uint64_t)i, votes, 3),
                  c = pate_answer(&confident, &noise, (uint64_t)i, votes, 3);
        won[0][g]++;
        won[1][pate_answer(&laplace, &noise, (uint64_t)i, votes, 3)]++;
        silent += c == PATE_NO_ANSWER;
        agreed += c == g; /* the vote's noise is its own: an answer is what GNMax answers */
    }
    /* P(class 0 is above class 1) within what the third class can change, which is tiny */
    for (int k = 0; k < 2; k++)
        assert_true(won[k][2] < asked / 20 && won[k][1] > won[k][0]);
    const double lost = exp(pate_log_tail(15 / (15 * M_SQRT2)));
    tx_near((double)won[0][0] / (won[0][0] + won[0][1]), lost, 4 * 0.5 / sqrt(asked));
    const double tail = 0.25 * exp(-1.0) * (2 + 1); /* P(difference of two Laplace > 1 scale) */
    tx_near((double)won[1][0] / (won[1][0] + won[1][1]), tail, 4 * 0.5 / sqrt(asked) + 0.01);
    tx_near((double)silent / asked, 1 - exp(pate_log_answered(55, 60, 10)), 4 * 0.5 / sqrt(asked));
    assert_int_equal(silent + agreed, asked);
}

static void test_refusals(void **state)
{
    struct pate_mechanism m = {PATE_CONFIDENT, 200, 200, 40};
    struct err e;
    (void)state;
    assert_true(pate_mechanism_check(&m, 250, 10, &e));
    assert_false(pate_mechanism_check(&m, 1, 10, &e));
    assert_false(pate_mechanism_check(&m, 20, 10, &e)); /* noise of 40 drowns 20 votes */
    assert_int_equal(e.code, ERR_USAGE);
    assert_non_null(strstr(e.msg, "too few"));
    m.threshold = 900;
    assert_false(pate_mechanism_check(&m, 250, 10, &e));
    assert_non_null(strstr(e.msg, "out of reach"));
    m = (struct pate_mechanism){.kind = PATE_GNMAX, .sigma = 0};
    assert_false(pate_mechanism_check(&m, 250, 10, &e));
    m = (struct pate_mechanism){.kind = PATE_LNMAX, .sigma = 100};
    assert_false(pate_mechanism_check(&m, 20, 10, &e));
    m.sigma = 20;
    assert_true(pate_mechanism_check(&m, 250, 10, &e));
}

/* ---- shards ---- */

static void test_shards(void **state)
{
    struct imageset set;
    struct pate_shards s, t;
    struct err e;
    (void)state;
    tx_set(&set, 61, 10, 3, false);
    set.label[7] = IMAGESET_NO_LABEL; /* without a label it teaches nobody */
    assert_true(pate_shards_make(&s, &set, 7, PATE_UNIT_ITEM, 3, &e));
    assert_int_equal(s.n_items, 50);
    assert_int_equal(s.n_units, 50);
    assert_true(pate_shards_disjoint(&s, &set, PATE_UNIT_ITEM));
    for (int i = 0; i < 7; i++) {
        const size_t n = s.start[i + 1] - s.start[i];
        assert_true(n == 7 || n == 8);
        for (size_t k = s.start[i]; k < s.start[i + 1]; k++)
            assert_true(set.split[s.item[k]] == IMAGESET_TRAIN && s.item[k] != 7);
    }
    /* what units hold moves nobody */
    for (size_t i = 0; i < set.n; i++)
        if (set.label[i] != IMAGESET_NO_LABEL)
            set.label[i] = (int16_t)((set.label[i] + 1) % 3);
    assert_true(pate_shards_make(&t, &set, 7, PATE_UNIT_ITEM, 3, &e));
    assert_memory_equal(s.item, t.item, s.n_items * sizeof *s.item);
    pate_shards_free(&t);
    assert_true(pate_shards_make(&t, &set, 7, PATE_UNIT_ITEM, 4, &e));
    assert_memory_not_equal(s.item, t.item, s.n_items * sizeof *s.item);
    pate_shards_free(&t);
    /* an item that two teachers see is found */
    s.item[0] = s.item[s.start[3]];
    assert_false(pate_shards_disjoint(&s, &set, PATE_UNIT_ITEM));
    pate_shards_free(&s);
    /* blocks stay whole */
    for (size_t i = 0; i < set.n; i++)
        set.block[i] = (int32_t)(i % 11) * 3;
    assert_true(pate_shards_make(&s, &set, 4, PATE_UNIT_BLOCK, 3, &e));
    assert_int_equal(s.n_units, 11);
    assert_true(pate_shards_disjoint(&s, &set, PATE_UNIT_BLOCK));
    int home[31];
    memset(home, -1, sizeof home);
    for (int i = 0; i < 4; i++)
        for (size_t k = s.start[i]; k < s.start[i + 1]; k++) {
            int *h = &home[set.block[s.item[k]]];
            assert_true(*h < 0 || *h == i);
            *h = i;
        }
    pate_shards_free(&s);
    assert_false(pate_shards_make(&s, &set, 12, PATE_UNIT_BLOCK, 3, &e));
    assert_int_equal(e.code, ERR_INPUT);
    assert_non_null(strstr(e.msg, "fewer than the 12 teachers"));
    imageset_free(&set);
}

/* ---- a whole study ---- */

static struct imageset private_set, public_set;

static int open_sets(void **state)
{
    (void)state;
    tx_set(&private_set, 60, 0, 2, false);
    tx_set(&public_set, 50, 10, 2, false);
    for (size_t i = 0; i < private_set.n; i++)
        private_set.id[i] += 10000;
    snprintf(private_set.digest, sizeof private_set.digest, "%s",
             "5ec4e75ec4e75ec4e75ec4e75ec4e75ec4e75ec4e75ec4e75ec4e75ec4e75ec4");
    snprintf(public_set.digest, sizeof public_set.digest, "public");
    return 0;
}

static int close_sets(void **state)
{
    (void)state;
    imageset_free(&private_set);
    imageset_free(&public_set);
    return 0;
}

static void remove_study(const char *dir)
{
    static const char *const folders[] = {"/private", ""};
    char path[400], file[700];
    for (int k = 0; k < 2; k++) {
        snprintf(path, sizeof path, "%s%s", dir, folders[k]);
        DIR *d = opendir(path);
        for (const struct dirent *f; d && (f = readdir(d));)
            if (f->d_name[0] != '.') {
                snprintf(file, sizeof file, "%s/%s", path, f->d_name);
                unlink(file);
            }
        if (d)
            closedir(d);
        rmdir(path);
    }
}

static struct pate_options study_options(const char *dir)
{
    struct pate_options o = {.dir = dir,
                             .n_teachers = 5,
                             .mechanism = {PATE_CONFIDENT, 3.5, 1, 1},
                             .delta = 1e-3,
                             .prefix = {12, 30},
                             .n_prefixes = 2,
                             .n_students = 1,
                             .seed = 3,
                             .seeded_noise = true};
    o.teacher = tx_config("supervised", true);
    o.student[0] = tx_config("mixmatch", true);
    o.teacher.steps = 3;
    o.student[0].steps = 2;
    o.student[0].batch = 2;
    return o;
}

static void digest_of(const char *path, char digest[65])
{
    struct err e = {0};
    struct checkpoint *c = checkpoint_open(path, &e);
    if (!c)
        fail_msg("%s", e.msg);
    snprintf(digest, 65, "%s", checkpoint_digest(c));
    checkpoint_close(c);
}

static bool run_study(const struct pate_options *o, const struct progress *p, struct pate_outcome *out,
                      struct err *e)
{
    return pate_study_run(&private_set, &public_set, o, p, out, e);
}

static void look_at_ledger(const struct pate_options *o, const struct pate_result *r, bool with_data)
{
    struct err e = {0};
    struct checkpoint *c = checkpoint_open(r->path, &e);
    assert_non_null(c);
    cJSON *j = cJSON_Parse(checkpoint_meta_get(c, "privacy"));
    assert_non_null(j);
    assert_string_equal(cJSON_GetStringValue(cJSON_GetObjectItem(j, "kind")), "data-independent");
    assert_int_equal(cJSON_GetNumberValue(cJSON_GetObjectItem(j, "queries_asked")), r->asked);
    assert_int_equal(cJSON_GetNumberValue(cJSON_GetObjectItem(j, "queries_answered")), r->answered);
    close_to(cJSON_GetNumberValue(cJSON_GetObjectItem(j, "delta")), o->delta, 1e-12);
    assert_true((cJSON_GetObjectItem(j, "data_dependent") != NULL) == with_data);
    double order[PATE_MAX_ORDERS], rdp[PATE_MAX_ORDERS];
    const int n = pate_orders(order);
    const cJSON *stored = cJSON_GetObjectItem(j, "rdp");
    assert_int_equal(cJSON_GetArraySize(stored), n);
    for (int i = 0; i < n; i++) /* by hand: every query's test, every answer's vote, sigma 1 */
        rdp[i] = order[i] * ((double)r->asked / 2 + (double)r->answered);
    close_to(cJSON_GetArrayItem(stored, 40)->valuedouble, rdp[40], 1e-12);
    close_to(cJSON_GetNumberValue(cJSON_GetObjectItem(j, "epsilon")),
             pate_epsilon(order, rdp, n, o->delta, true).epsilon, 1e-12);
    cJSON_Delete(j);
    /* nothing private in the file: neither the private set's digest nor its ids */
    for (int i = 0; i < checkpoint_meta_count(c); i++)
        assert_null(strstr(checkpoint_meta_at(c, i).value, "5ec4e7"));
    const struct checkpoint_tensor *ids = checkpoint_find(c, "state.labeled_ids");
    assert_int_equal(ids->dims[0], r->answered); /* who was not answered is no label */
    for (int64_t i = 0; i < ids->dims[0]; i++)
        assert_true(((const int64_t *)ids->data)[i] < 10000);
    checkpoint_close(c);
}

static volatile sig_atomic_t stop_now;
static int reports, stop_at;

static void stop_at_report(void *ctx, const char *stage, double done, double total, const char *note)
{
    (void)ctx, (void)stage, (void)done, (void)total, (void)note;
    stop_now = ++reports >= stop_at;
}

static void test_study(void **state)
{
    struct pate_outcome *out = calloc(1, sizeof *out);
    struct err e = {0};
    char dir[64], broken[64], want[2][65], got[65];
    struct stat st;
    (void)state;
    snprintf(dir, sizeof dir, "test_pate_%ld", (long)getpid());
    snprintf(broken, sizeof broken, "test_pate_%ld_b", (long)getpid());
    struct pate_options o = study_options(dir);
    if (!run_study(&o, NULL, out, &e))
        fail_msg("%s", e.msg);
    assert_int_equal(out->n_results, 2);
    assert_int_equal(out->n_public, 40);
    assert_int_equal(out->n_units, 60);
    for (int k = 0; k < 2; k++) {
        assert_true(out->result[k].trained && out->result[k].answered > 0);
        assert_true(out->result[k].answered < out->result[k].asked);
        look_at_ledger(&o, &out->result[k], false);
        digest_of(out->result[k].path, want[k]);
    }
    assert_true(out->result[0].epsilon < out->result[1].epsilon);
    char path[200];
    snprintf(path, sizeof path, "%s/private", dir);
    assert_true(stat(path, &st) == 0 && (st.st_mode & 077) == 0); /* nobody else may look */

    /* stopped again and again, it ends in the same bits */
    o.dir = broken;
    const struct progress p = {.report = stop_at_report, .stop = &stop_now};
    int n_stops = 0;
    for (stop_at = 1; stop_now = 0, reports = 0, !run_study(&o, &p, out, &e); stop_at += 2, n_stops++)
        if (e.code != ERR_INTERRUPTED || n_stops > 60)
            fail_msg("%s", e.msg);
    assert_true(n_stops >= 3);
    for (int k = 0; k < 2; k++) {
        digest_of(out->result[k].path, got);
        assert_string_equal(got, want[k]);
    }
    remove_study(broken);

    /* called again with the data-dependent cost: the same answers, and both figures when asked for */
    o.dir = dir;
    o.data_dependent = o.overwrite = true;
    assert_true(run_study(&o, NULL, out, &e));
    look_at_ledger(&o, &out->result[1], true);
    digest_of(out->result[1].path, got);
    assert_string_equal(got, want[1]);
    assert_true(out->result[1].epsilon_data <= out->result[1].epsilon);
    o.overwrite = false;

    /* other settings on the same teachers are another release, other teachers another study */
    o.mechanism.sigma = 1.5;
    assert_false(run_study(&o, NULL, out, &e));
    assert_non_null(strstr(e.msg, "another mechanism"));
    o.mechanism.sigma = 1;
    o.n_teachers = 6;
    assert_false(run_study(&o, NULL, out, &e));
    assert_non_null(strstr(e.msg, "other data or settings"));
    o.n_teachers = 5;

    /* budgets and limits */
    o.max_epsilon = 8;
    assert_false(run_study(&o, NULL, out, &e));
    assert_non_null(strstr(e.msg, "query budget of epsilon 8 is spent after"));
    o.max_epsilon = 0;
    o.delta = 1;
    assert_false(run_study(&o, NULL, out, &e));
    assert_non_null(strstr(e.msg, "delta"));
    o.delta = 1e-3;
    o.prefix[1] = 41;
    assert_false(run_study(&o, NULL, out, &e));
    assert_non_null(strstr(e.msg, "40 public items"));
    o.prefix[1] = 30;
    public_set.n_classes = 3;
    assert_false(run_study(&o, NULL, out, &e));
    assert_non_null(strstr(e.msg, "other classes"));
    public_set.n_classes = 2;
    remove_study(dir);
    free(out);
}

/* Noise that is not a seed's: the key outlives the call, and a longer stream begins with the shorter one. */
static void test_stream(void **state)
{
    struct pate_outcome *out = calloc(1, sizeof *out);
    struct err e = {0};
    char dir[64], path[128];
    (void)state;
    snprintf(dir, sizeof dir, "test_pate_%ld_s", (long)getpid());
    snprintf(path, sizeof path, "%s/answers.csv", dir);
    struct pate_options o = study_options(dir);
    o.seeded_noise = false;
    o.n_students = 0;
    o.n_prefixes = 1;
    if (!run_study(&o, NULL, out, &e))
        fail_msg("%s", e.msg);
    char *first = file_read(path, 1 << 20, NULL, &e);
    o.prefix[0] = 35;
    assert_true(run_study(&o, NULL, out, &e));
    char *longer = file_read(path, 1 << 20, NULL, &e);
    assert_memory_equal(first, longer, strlen(first));
    assert_true(strlen(longer) > strlen(first));
    /* asking less later does not make it cheaper */
    o.prefix[0] = 2;
    assert_true(run_study(&o, NULL, out, &e));
    snprintf(path, sizeof path, "%s/ledger.json", dir);
    char *ledger = file_read(path, 1 << 20, NULL, &e);
    cJSON *j = cJSON_Parse(ledger);
    assert_int_equal(cJSON_GetNumberValue(cJSON_GetObjectItem(j, "queries_asked")), 35);
    assert_null(cJSON_GetObjectItem(j, "data_dependent"));
    cJSON_Delete(j);
    free(first);
    free(longer);
    free(ledger);
    free(out);
    remove_study(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tails),
        cmocka_unit_test(test_rdp_is_the_divergence),
        cmocka_unit_test(test_sampled_gaussian),
        cmocka_unit_test(test_conversions),
        cmocka_unit_test(test_known_votes),
        cmocka_unit_test(test_data_dependent_cost),
        cmocka_unit_test(test_bound_holds),
        cmocka_unit_test(test_totals),
        cmocka_unit_test(test_noise),
        cmocka_unit_test(test_answers),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_shards),
        cmocka_unit_test(test_study),
        cmocka_unit_test(test_stream),
    };
    return cmocka_run_group_tests_name("pate", tests, open_sets, close_sets);
}
