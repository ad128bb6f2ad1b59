/* SPDX-License-Identifier: Apache-2.0
 *
 * pate_account.h - what released answers cost in privacy: Renyi differential privacy (RDP) of the noisy votes
 * of PATE, its composition, and its conversion to (epsilon, delta).
 *
 * Sources: Mironov, "Renyi differential privacy" (CSF 2017), for RDP, its composition, the Laplace mechanism
 * and the first conversion; Papernot, Song, Mironov, Raghunathan, Talwar, Erlingsson, "Scalable private
 * learning with PATE" (ICLR 2018), for the data-dependent bound (theorem 6, corollary 11, propositions 8 and
 * 10); Canonne, Kamath, Steinke 2020 (proposition 12) for the tighter conversion; Mironov, Talwar, Zhang 2019
 * (section 3.3) for the sampled Gaussian.
 *
 * Units: epsilon and RDP in nats, sigma and scale in votes, an order is alpha > 1. All probabilities are kept
 * as logarithms: a tail ten deviations out is no zero here. Pure functions, no state, any thread. */
#ifndef AM_PATE_ACCOUNT_H
#define AM_PATE_ACCOUNT_H

enum { PATE_MAX_ORDERS = 320 };

/* The orders that epsilon is minimised over: 1.25, 1.5, 1.75, then those of the published plots: 2 to 100 by
 * halves and 100 more up to 500, evenly spaced in their logarithm. Returns how many. */
int pate_orders(double out[PATE_MAX_ORDERS]);

/* ln of the normal distribution's upper tail Q(x), for any finite x. */
double pate_log_tail(double x);

/* RDP at one order whatever the data: of the noisy argmax (two counts move by 1), of the noisy maximum that a
 * threshold is held against (one count moves by 1), and of the argmax under Laplace noise, which never
 * exceeds its pure 2/scale. */
double pate_rdp_gnmax(double sigma, double order);
double pate_rdp_threshold(double sigma, double order);
double pate_rdp_lnmax(double scale, double order);

/* ln q, q an upper bound of the probability that the noisy argmax is not the class with most votes: the sum
 * of ln Q((n_max - n_j) / (sigma sqrt 2)), no more than 1 - 1/C. votes [n_classes], n_classes > 1. */
double pate_log_q_gnmax(const int *votes, int n_classes, double sigma);
/* ln P(max + N(0, sigma^2) >= threshold). */
double pate_log_answered(int most_votes, double threshold, double sigma);
/* ln of the less likely outcome of that test. */
double pate_log_q_threshold(int most_votes, double threshold, double sigma);

/* RDP at one order of a mechanism whose data-independent RDP is order/sigma^2 and whose likeliest outcome
 * fails with probability exp(log_q) at most; never above order/sigma^2. The threshold test enters with
 * sqrt(2) times its sigma. The value depends on private votes, and so is itself private. */
double pate_rdp_data(double log_q, double sigma, double order);

/* RDP of one step of the Gaussian mechanism (sensitivity 1) on a Poisson sample of the data: what a network
 * trained by DP-SGD costs, to be compared with. Whole orders of 2 and more. */
double pate_rdp_sampled_gaussian(double rate, double sigma, int order);

struct pate_epsilon {
    double epsilon, order; /* the order that the minimum was found at */
};
/* min over orders of rdp + ln(1/delta)/(order-1): the one that PATE's tables use; or, with `tight`, of rdp +
 * ln(1-1/order) - ln(delta order)/(order-1). Both hold; 0 <= epsilon. rdp [n], infinite where unknown. */
struct pate_epsilon pate_epsilon(const double *orders, const double *rdp, int n, double delta, int tight);

#endif
