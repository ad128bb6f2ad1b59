/* SPDX-License-Identifier: Apache-2.0
 * pate_account.c - the accountant of pate_account.h. */
#include "models/learn/pate_account.h"

#include <assert.h>
#include <math.h>

int pate_orders(double out[PATE_MAX_ORDERS])
{
    int n = 0;
    for (int k = 5; k < 8; k++)
        out[n++] = 0.25 * k;
    for (int k = 4; k < 202; k++)
        out[n++] = 0.5 * k;
    for (int k = 0; k < 100; k++)
        out[n++] = 100 * pow(5, k / 99.0);
    assert(n <= PATE_MAX_ORDERS);
    return n;
}

/* Beyond 10 deviations by the asymptotic series of Mills' ratio, whose terms shrink up to the x^2/2-th. */
double pate_log_tail(double x)
{
    if (x < 0)
        return log1p(-0.5 * erfc(-x * M_SQRT1_2));
    if (x < 10)
        return log(0.5 * erfc(x * M_SQRT1_2));
    double sum = 0, term = 1;
    for (int k = 1; k <= 40 && fabs(term) > 1e-18; k++) {
        term *= -(2 * k - 1) / (x * x);
        sum += term;
    }
    return -0.5 * x * x - log(x) - 0.5 * log(2 * M_PI) + log1p(sum);
}

static double log_add(double a, double b)
{
    const double most = fmax(a, b);
    return most == -INFINITY ? most : most + log1p(exp(fmin(a, b) - most));
}

/* ln(1 - e^x), x <= 0 (Maechler 2012). */
static double log1m_exp(double x)
{
    return x > -M_LN2 ? log(-expm1(x)) : log1p(-exp(x));
}

double pate_rdp_gnmax(double sigma, double order)
{
    return order / (sigma * sigma);
}

double pate_rdp_threshold(double sigma, double order)
{
    return order / (2 * sigma * sigma);
}

/* Mironov 2017, proposition 6, once for each of the two counts. */
double pate_rdp_lnmax(double scale, double order)
{
    const double a = order, t = 1 / scale;
    const double rdp =
        log_add(log(a / (2 * a - 1)) + (a - 1) * t, log((a - 1) / (2 * a - 1)) - a * t) / (a - 1);
    return fmin(2 * fmax(rdp, 0), 2 * t);
}

double pate_log_q_gnmax(const int *votes, int n_classes, double sigma)
{
    assert(n_classes > 1 && sigma > 0);
    int top = 0;
    double log_q = -INFINITY;
    for (int c = 1; c < n_classes; c++)
        if (votes[c] > votes[top])
            top = c;
    for (int c = 0; c < n_classes; c++)
        if (c != top)
            log_q = log_add(log_q, pate_log_tail((votes[top] - votes[c]) / (sigma * M_SQRT2)));
    return fmin(log_q, log1p(-1.0 / n_classes));
}

double pate_log_answered(int most_votes, double threshold, double sigma)
{
    return pate_log_tail((threshold - most_votes) / sigma);
}

double pate_log_q_threshold(int most_votes, double threshold, double sigma)
{
    const double x = (threshold - most_votes) / sigma;
    return fmin(pate_log_tail(x), pate_log_tail(-x));
}

/* Papernot et al. 2018, theorem 6, with the orders mu1 and mu2 that minimise it for Gaussian noise (appendix A). */
double pate_rdp_data(double log_q, double sigma, double order)
{
    const double anyway = pate_rdp_gnmax(sigma, order), variance = sigma * sigma;
    assert(log_q <= 0 && order > 1);
    const double mu2 = sigma * sqrt(-log_q), mu1 = mu2 + 1, e1 = mu1 / variance, e2 = mu2 / variance;
    if (!(mu1 > order && mu2 > 1 && -log_q > e2) ||
        log_q > (mu2 - 1) * e2 - mu2 * (log(mu1 / (mu1 - 1)) + log(mu2 / (mu2 - 1))))
        return anyway;
    const double log_stays = log1m_exp(log_q);
    const double log_a = log_stays - log1m_exp((log_q + e2) * (mu2 - 1) / mu2);
    const double log_b = e1 - log_q / (mu1 - 1);
    const double rdp = log_add(log_stays + (order - 1) * log_a, log_q + (order - 1) * log_b) / (order - 1);
    return fmin(fmax(rdp, 0), anyway);
}

double pate_rdp_sampled_gaussian(double rate, double sigma, int order)
{
    assert(order > 1 && rate >= 0 && rate <= 1);
    if (rate <= 0)
        return 0;
    if (rate >= 1)
        return pate_rdp_threshold(sigma, order);
    double log_sum = -INFINITY;
    for (int i = 0; i <= order; i++) {
        const double log_choose = lgamma(order + 1) - lgamma(i + 1) - lgamma(order - i + 1);
        log_sum = log_add(log_sum, log_choose + (order - i) * log1p(-rate) + i * log(rate) +
                                       ((double)i * i - i) / (2 * sigma * sigma));
    }
    return fmax(log_sum, 0) / (order - 1);
}

struct pate_epsilon pate_epsilon(const double *orders, const double *rdp, int n, double delta, int tight)
{
    struct pate_epsilon best = {INFINITY, NAN};
    assert(delta > 0 && delta < 1);
    for (int i = 0; i < n; i++) {
        const double a = orders[i];
        if (tight && a <= 1.01)
            continue;
        const double epsilon =
            rdp[i] + (tight ? log1p(-1 / a) - (log(delta) + log(a)) / (a - 1) : -log(delta) / (a - 1));
        if (epsilon < best.epsilon)
            best = (struct pate_epsilon){epsilon, a};
    }
    best.epsilon = fmax(best.epsilon, 0);
    return best;
}
