/* SPDX-License-Identifier: Apache-2.0
 *
 * semi.c - the numerics that the methods share. Logits and gradients are float32 as the network has them;
 * sums are double, so that a loss can be checked by finite differences. Formulae: cross-entropy from logits,
 * logsumexp(z) - sum q_c z_c, and label smoothing q = (1 - eps) onehot + eps/C (Szegedy et al. 2016). */
#include "models/learn/method.h"

#include <assert.h>
#include <math.h>
#include <string.h>

static double top_logit(const float *logits, int n_classes)
{
    double top = logits[0];
    for (int c = 1; c < n_classes; c++)
        if (logits[c] > top)
            top = logits[c];
    return top;
}

void semi_softmax(const float *logits, int n_classes, float *p)
{
    double top = top_logit(logits, n_classes), sum = 0;
    for (int c = 0; c < n_classes; c++)
        sum += exp(logits[c] - top);
    for (int c = 0; c < n_classes; c++)
        p[c] = (float)(exp(logits[c] - top) / sum);
}

double semi_confidence(const float *logits, int n_classes, int *top_class)
{
    double sum = 0;
    int top = 0;
    for (int c = 1; c < n_classes; c++)
        if (logits[c] > logits[top])
            top = c;
    for (int c = 0; c < n_classes; c++)
        sum += exp((double)logits[c] - logits[top]);
    *top_class = top;
    return 1.0 / sum;
}

double semi_cross_entropy(const float *logits, int n_classes, int label, double smoothing, double weight,
                          float *dlogits)
{
    assert(label >= 0 && label < n_classes);
    double top = top_logit(logits, n_classes), sum = 0, loss = 0;
    for (int c = 0; c < n_classes; c++)
        sum += exp(logits[c] - top);
    double log_sum = log(sum) + top;
    for (int c = 0; c < n_classes; c++) {
        double q = (c == label ? 1.0 - smoothing : 0.0) + smoothing / n_classes;
        loss += q * (log_sum - logits[c]);
        if (dlogits)
            dlogits[c] += (float)(weight * (exp(logits[c] - log_sum) - q));
    }
    return weight * loss;
}

double semi_tau(const struct train_config *c, int guess)
{
    return guess < c->n_class_tau ? c->class_tau[guess] : c->tau;
}

double semi_labeled_loss(const struct method_step *s, const float *logits, float *dlogits)
{
    double sum = 0, weight = 1.0 / s->items[0];
    for (int i = 0; i < s->items[0]; i++) {
        size_t row = (size_t)(s->offset[0] + i) * (size_t)s->n_classes;
        if (s->soft) {
            const float *q = s->soft + (size_t)s->item[0][i] * (size_t)s->n_classes;
            sum += semi_soft_cross_entropy(logits + row, s->n_classes, q, weight, dlogits + row);
            continue;
        }
        sum += semi_cross_entropy(logits + row, s->n_classes, s->label[0][i], s->config->label_smoothing,
                                  weight, dlogits + row);
    }
    return sum;
}

void semi_scalar(struct method_scalars *out, const char *name, double value)
{
    assert(out->n < METHOD_MAX_SCALARS);
    out->name[out->n] = name;
    out->value[out->n++] = value;
}

void semi_scalar_add(struct method_scalars *out, const char *name, double value)
{
    for (int i = 0; i < out->n; i++)
        if (strcmp(out->name[i], name) == 0) {
            out->value[i] += value;
            return;
        }
    semi_scalar(out, name, value);
}

/* As softmax(ln q / T), with the largest taken out, so that small T cannot underflow all of them. */
void semi_sharpen(float *q, int n_classes, double temperature)
{
    double top = 0, sum = 0;
    for (int c = 0; c < n_classes; c++)
        top = fmax(top, (double)q[c]);
    top = log(fmax(top, 1e-12));
    for (int c = 0; c < n_classes; c++)
        sum += exp((log(fmax((double)q[c], 1e-12)) - top) / temperature);
    for (int c = 0; c < n_classes; c++)
        q[c] = (float)(exp((log(fmax((double)q[c], 1e-12)) - top) / temperature) / sum);
}

static double log_sum_exp(const float *logits, int n_classes)
{
    double top = top_logit(logits, n_classes), sum = 0;
    for (int c = 0; c < n_classes; c++)
        sum += exp(logits[c] - top);
    return log(sum) + top;
}

double semi_soft_cross_entropy(const float *logits, int n_classes, const float *q, double weight,
                               float *dlogits)
{
    double log_sum = log_sum_exp(logits, n_classes), loss = 0, mass = 0;
    for (int c = 0; c < n_classes; c++)
        mass += (double)q[c]; /* 1 but for rounding; kept so that the gradient belongs to the loss */
    for (int c = 0; c < n_classes; c++) {
        loss += (double)q[c] * (log_sum - logits[c]);
        if (dlogits)
            dlogits[c] += (float)(weight * (mass * exp(logits[c] - log_sum) - (double)q[c]));
    }
    return weight * loss;
}

/* Adds weight * p_k (g_k - sum_j p_j g_j), the gradient of a loss whose derivative by p is g; g_c comes from
 * `slope`. */
static void through_softmax(const float *logits, int n_classes, double weight, float *dlogits,
                            double (*slope)(double p, double log_p, double q), const float *q)
{
    double log_sum = log_sum_exp(logits, n_classes), mean = 0;
    for (int c = 0; c < n_classes; c++) {
        double log_p = logits[c] - log_sum, p = exp(log_p);
        mean += p * slope(p, log_p, q ? (double)q[c] : 0);
    }
    for (int c = 0; c < n_classes; c++) {
        double log_p = logits[c] - log_sum, p = exp(log_p);
        dlogits[c] += (float)(weight * p * (slope(p, log_p, q ? (double)q[c] : 0) - mean));
    }
}

static double slope_square(double p, double log_p, double q)
{
    (void)log_p;
    return 2 * (p - q);
}

static double slope_entropy(double p, double log_p, double q)
{
    (void)p, (void)q;
    return -log_p; /* and -1, the same for all classes, which falls out */
}

static double slope_kl(double p, double log_p, double q)
{
    (void)p;
    return log_p - log(fmax(q, 1e-12));
}

double semi_squared_error(const float *logits, int n_classes, const float *q, double weight, float *dlogits)
{
    double log_sum = log_sum_exp(logits, n_classes), loss = 0;
    for (int c = 0; c < n_classes; c++) {
        double off = exp(logits[c] - log_sum) - (double)q[c];
        loss += off * off;
    }
    if (dlogits)
        through_softmax(logits, n_classes, weight, dlogits, slope_square, q);
    return weight * loss;
}

double semi_entropy(const float *logits, int n_classes, double weight, float *dlogits)
{
    double log_sum = log_sum_exp(logits, n_classes), loss = 0;
    for (int c = 0; c < n_classes; c++)
        loss -= exp(logits[c] - log_sum) * (logits[c] - log_sum);
    if (dlogits)
        through_softmax(logits, n_classes, weight, dlogits, slope_entropy, NULL);
    return weight * loss;
}

double semi_reverse_kl(const float *logits, int n_classes, const float *q, double weight, float *dlogits)
{
    double log_sum = log_sum_exp(logits, n_classes), loss = 0;
    for (int c = 0; c < n_classes; c++)
        loss += exp(logits[c] - log_sum) * (logits[c] - log_sum - log(fmax((double)q[c], 1e-12)));
    if (dlogits)
        through_softmax(logits, n_classes, weight, dlogits, slope_kl, q);
    return weight * loss;
}

double semi_ramp(int64_t step, int64_t n_steps, double share)
{
    double rising = share * (double)n_steps;
    return rising > 0 ? fmin((double)step / rising, 1.0) : 1.0;
}

/* Running statistics start at mean 0 and variance 1 and forget that start by momentum^updates only, which in
 * a short run is most of them. What they would be without it is known exactly. */
static void debias(const struct method_step *s, const struct net_tensor *t, int n_tensors)
{
    double left = pow((double)net_get_config(s->net)->bn_momentum, (double)s->n_updates);
    if (s->n_updates == 0)
        return;
    for (int i = 0; i < n_tensors; i++) {
        if (t[i].role != NET_RUNNING_MEAN && t[i].role != NET_RUNNING_VAR)
            continue;
        double start = t[i].role == NET_RUNNING_VAR ? left : 0;
        for (size_t j = 0; j < t[i].count; j++)
            t[i].value[j] = (float)fmax((t[i].value[j] - start) / (1 - left),
                                        t[i].role == NET_RUNNING_VAR ? 0 : -INFINITY);
    }
}

const float *semi_ema_forward(const struct method_step *s, const float *x, int n, enum net_bn bn)
{
    int n_tensors;
    const struct net_tensor *t = net_tensors(s->ema_net, &n_tensors), *last = &t[n_tensors - 1];
    memcpy(t[0].value, s->ema, ((size_t)(last->value - t[0].value) + last->count) * sizeof *s->ema);
    if (bn == NET_BN_RUNNING)
        debias(s, t, n_tensors);
    net_weights_changed(s->ema_net);
    return net_forward(s->ema_net, x, n, bn);
}

void semi_normalise(float *d, size_t n, double length)
{
    double top = 0, sum = 0;
    for (size_t i = 0; i < n; i++)
        top = fmax(top, fabs((double)d[i]));
    top += 1e-12;
    for (size_t i = 0; i < n; i++)
        sum += (double)d[i] / top * ((double)d[i] / top);
    double scale = length / (top * sqrt(1e-6 + sum));
    for (size_t i = 0; i < n; i++)
        d[i] = (float)(scale * (double)d[i]);
}

int semi_two_streams(const struct train_config *c, int n_views, struct method_stream out[METHOD_MAX_STREAMS])
{
    out[0] =
        (struct method_stream){.pool = METHOD_LABELED, .per_batch = 1, .n_views = 1, .view = {AUGMENT_WEAK}};
    if (c->mu == 0)
        return 1;
    out[1] = (struct method_stream){.pool = METHOD_UNLABELED, .per_batch = c->mu, .n_views = n_views};
    for (int v = 0; v < n_views; v++)
        out[1].view[v] = AUGMENT_WEAK;
    return 2;
}

int semi_two_passes(const struct method_step *s, struct method_pass out[METHOD_MAX_PASSES])
{
    out[0] = (struct method_pass){.first = 0, .n = s->items[0], .update = true};
    out[1] = (struct method_pass){.first = s->n_rows - s->items[1], .n = s->items[1]};
    return s->items[1] > 0 ? 2 : 1;
}

void semi_baseline_defaults(struct train_config *c, bool plain_images)
{
    c->batch = plain_images ? 64 : 16;
    c->mu = 1;
    c->label_smoothing = 0;
    c->ramp = 0.4;
}

const float *semi_guess(struct method_step *s, const float *logits, int n)
{
    float *q = s->target + (size_t)s->offset[1] * (size_t)s->n_classes;
    for (int i = 0; i < n; i++) {
        size_t at = (size_t)i * (size_t)s->n_classes;
        semi_softmax(logits + at, s->n_classes, q + at);
    }
    return q;
}

double semi_supervised_pass(struct method_step *s, const float *logits, float *dlogits,
                            struct method_scalars *out)
{
    double loss = semi_labeled_loss(s, logits, dlogits);
    if (s->items[1] > 0)
        semi_scalar(out, "loss_s", loss);
    return loss;
}

double semi_consistency_loss(struct method_step *s, const float *logits, float *dlogits,
                             struct method_scalars *out)
{
    if (s->pass == 0)
        return semi_supervised_pass(s, logits, dlogits, out);
    const int n = s->items[1], n_classes = s->n_classes;
    const float *q = s->target + (size_t)s->offset[1] * (size_t)n_classes;
    const double weight = s->config->lambda_u * semi_ramp(s->step, s->n_steps, s->config->ramp);
    double sum = 0;
    for (int i = 0; i < n; i++) {
        size_t at = (size_t)i * (size_t)n_classes;
        sum += semi_squared_error(logits + at, n_classes, q + at, weight / ((double)n * n_classes),
                                  dlogits + at);
    }
    semi_scalar(out, "loss_u", sum);
    return sum;
}
