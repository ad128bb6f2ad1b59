/* SPDX-License-Identifier: Apache-2.0
 *
 * semi.c - the numerics that the methods share. Logits and gradients are float32 as the network has them;
 * sums are double, so that a loss can be checked by finite differences. Formulae: cross-entropy from logits,
 * logsumexp(z) - sum q_c z_c, and label smoothing q = (1 - eps) onehot + eps/C (Szegedy et al. 2016). */
#include "models/learn/method.h"

#include <assert.h>
#include <math.h>

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

double semi_labeled_loss(const struct method_step *s, const float *logits, float *dlogits)
{
    double sum = 0, weight = 1.0 / s->items[0];
    for (int i = 0; i < s->items[0]; i++) {
        size_t row = (size_t)(s->offset[0] + i) * (size_t)s->n_classes;
        sum += semi_cross_entropy(logits + row, s->n_classes, s->label[0][i], s->config->label_smoothing,
                                  weight, dlogits + row);
    }
    return sum;
}
