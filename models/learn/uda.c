/* SPDX-License-Identifier: Apache-2.0
 *
 * uda.c - Unsupervised Data Augmentation (Xie, Dai, Hovy, Luong, Le, NeurIPS 2020) as the baseline of
 * FixMatch (google-research/fixmatch, `uda`).
 *
 *   one forward pass over a_w(x) [B], a_w(u) [mu B], a_s(u) [mu B], as in FixMatch
 *   q = softmax(z(a_w u)/T), no gradient
 *   L = (1/B) sum H(y, z(a_w x)) + lambda_u (1/(mu B)) sum 1[max softmax z(a_w u) >= tau] KL(q || p(a_s u))
 *       + lambda_entropy (1/(mu B)) sum H(p(a_w u))
 *
 * Confidence is taken before the temperature. Defaults are those of FixMatch's program: tau .95, T 1, mu 7,
 * no entropy term, no annealing of the training signal. With annealing a labelled item
 * teaches while p(its class) <= 1/C + a(r) (1 - 1/C), r = step/steps, a = r, exp(5(r-1)) or 1 - exp(-5r), and
 * the labelled mean is over those items. With T -> 0 the target is
 * one-hot, its KL the cross-entropy, and UDA is FixMatch. mu = 0 is supervised training bit for bit.
 *
 * Scalars: loss_s, loss_u, mask. */
#include "models/learn/method.h"

#include <math.h>

static int streams(const struct train_config *c, struct method_stream out[METHOD_MAX_STREAMS])
{
    int n = semi_two_streams(c, 2, out);
    out[1].view[1] = AUGMENT_STRONG;
    return n;
}

static double entropy_of(const float *q, int n_classes)
{
    double sum = 0;
    for (int c = 0; c < n_classes; c++)
        if (q[c] > 0)
            sum -= (double)q[c] * log((double)q[c]);
    return sum;
}

/* Confidence in the right class beyond which a label no longer teaches at this step. */
static double signal_limit(const struct method_step *s)
{
    const double r = (double)s->step / (double)s->n_steps, chance = 1.0 / s->n_classes;
    const double share = s->config->tsa == METHOD_TSA_LINEAR ? r
                         : s->config->tsa == METHOD_TSA_EXP  ? exp(5 * (r - 1))
                                                             : 1 - exp(-5 * r);
    return chance + share * (1 - chance);
}

/* Mean cross-entropy of the labelled items that still teach. */
static double annealed_loss(const struct method_step *s, const float *logits, float *dlogits)
{
    const double limit = signal_limit(s);
    const int n_classes = s->n_classes;
    float p[METHOD_MAX_CLASSES];
    double sum = 0;
    int n = 0;
    for (int pass = 0; pass < 2; pass++)
        for (int i = 0; i < s->items[0]; i++) {
            const size_t at = (size_t)(s->offset[0] + i) * (size_t)n_classes;
            semi_softmax(logits + at, n_classes, p);
            if ((double)p[s->label[0][i]] > limit)
                continue;
            if (pass == 0)
                n++;
            else
                sum += semi_cross_entropy(logits + at, n_classes, s->label[0][i], s->config->label_smoothing,
                                          1.0 / n, dlogits + at);
        }
    return sum;
}

static double loss(struct method_step *s, const float *logits, float *dlogits, struct method_scalars *out)
{
    const int n = s->items[1], n_classes = s->n_classes;
    const double lambda_u = s->config->lambda_u, lambda_e = s->config->lambda_entropy;
    double loss_s =
        s->config->tsa ? annealed_loss(s, logits, dlogits) : semi_labeled_loss(s, logits, dlogits);
    double loss_u = 0, loss_e = 0;
    float q[METHOD_MAX_CLASSES];
    int kept = 0;
    for (int i = 0; i < n; i++) {
        size_t weak = (size_t)(s->offset[1] + i) * (size_t)n_classes;
        size_t strong = (size_t)(s->offset[1] + n + i) * (size_t)n_classes;
        int h;
        if (lambda_e > 0)
            loss_e += semi_entropy(logits + weak, n_classes, lambda_e / n, dlogits + weak);
        const double confidence = semi_confidence(logits + weak, n_classes, &h);
        if (confidence < semi_tau(s->config, h))
            continue;
        kept++;
        semi_softmax(logits + weak, n_classes, q);
        semi_sharpen(q, n_classes, s->config->sharpen);
        loss_u += semi_soft_cross_entropy(logits + strong, n_classes, q, lambda_u / n, dlogits + strong) -
                  lambda_u / n * entropy_of(q, n_classes);
    }
    if (n > 0) {
        semi_scalar(out, "loss_s", loss_s);
        semi_scalar(out, "loss_u", loss_u + loss_e);
        semi_scalar(out, "mask", (double)kept / n);
    }
    return loss_s + loss_u + loss_e;
}

static void defaults(struct train_config *c, bool plain_images)
{
    c->batch = plain_images ? 64 : 16;
    c->mu = plain_images ? 7 : 3;
    c->tau = 0.95;
    c->sharpen = 1;
    c->lambda_u = 1;
    c->label_smoothing = 0;
}

static bool check(const struct train_config *c, struct err *e)
{
    if (!(c->sharpen > 0))
        return err_set(e, ERR_USAGE, "uda needs a temperature of guesses above 0");
    return true;
}

const struct method method_uda = {
    .name = "uda",
    .summary = "soft guesses of confident weak views teach the strong views",
    .source = "Xie et al. 2020, as a baseline of Sohn et al. 2020",
    .streams = streams,
    .loss = loss,
    .defaults = defaults,
    .check = check,
};
