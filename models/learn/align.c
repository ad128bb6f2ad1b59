/* SPDX-License-Identifier: Apache-2.0
 *
 * align.c - distribution alignment (Berthelot et al., "ReMixMatch", ICLR 2020, section 3.1; in AdaMatch's
 * form, Berthelot, Roelofs, Sohn, Carlini, Kurakin, ICLR 2022, section 3.2): guesses q are multiplied by how
 * much rarer each class is among recent guesses than it ought to be,
 *
 *   q <- Normalize( q (1e-6 + p_want) / (1e-6 + p_recent) ),  p_recent = mean of the last 128 batch means
 *
 * p_recent is the mean of a ring of 128 vectors that starts uniform; slot `step` mod 128 is written at each
 * step, so no head has to be saved. What is pushed are guesses before alignment, or the ratio would feed
 * itself. p_want is a running average with decay 0.999 that starts uniform, or a prior that the user gives.
 */
#include "models/learn/align.h"

#include "models/base/mem.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

static const double FLOOR = 1e-6;

bool align_create(struct align *a, const struct method_step *shape, struct err *e)
{
    int n_classes = shape->n_classes;
    size_t classes = (size_t)n_classes;
    if (shape->config->align == METHOD_ALIGN_PRIOR && n_classes != 2)
        return err_set(e, ERR_USAGE, "a prior is the share of the second of two classes; this set has %d",
                       n_classes);
    if (shape->config->align == METHOD_ALIGN_SAMPLE && !shape->config->has_labels)
        return err_set(e, ERR_USAGE,
                       "no label of the target is used, so none can say how frequent each class "
                       "is; give a prior or switch alignment off");
    *a = (struct align){.n_classes = n_classes};
    a->ring = mem_array(ALIGN_RING * classes, sizeof *a->ring, "the marginals", e);
    a->want = a->ring ? mem_array(classes, sizeof *a->want, "the marginals", e) : NULL;
    if (!a->want) {
        align_free(a);
        return false;
    }
    for (size_t i = 0; i < ALIGN_RING * classes; i++)
        a->ring[i] = 1.0f / (float)n_classes;
    for (size_t c = 0; c < classes; c++)
        a->want[c] = 1.0f / (float)n_classes;
    return true;
}

void align_free(struct align *a)
{
    free(a->ring);
    free(a->want);
    *a = (struct align){0};
}

void align_push(struct align *a, int64_t step, const double *mean)
{
    float *slot = a->ring + (size_t)(step % ALIGN_RING) * (size_t)a->n_classes;
    for (int c = 0; c < a->n_classes; c++)
        slot[c] = (float)mean[c];
}

void align_average(struct align *a, const double *mean)
{
    for (int c = 0; c < a->n_classes; c++)
        a->want[c] = (float)(0.999 * (double)a->want[c] + 0.001 * mean[c]);
}

/* Normalised. */
static void recent(const struct align *a, double *p)
{
    double sum = 0;
    for (int c = 0; c < a->n_classes; c++)
        p[c] = 0;
    for (size_t i = 0; i < ALIGN_RING; i++)
        for (int c = 0; c < a->n_classes; c++)
            p[c] += (double)a->ring[i * (size_t)a->n_classes + (size_t)c];
    for (int c = 0; c < a->n_classes; c++)
        sum += p[c];
    for (int c = 0; c < a->n_classes; c++)
        p[c] /= sum;
}

void align_ratio(const struct align *a, const struct method_step *s, double *ratio)
{
    double want[METHOD_MAX_CLASSES], sum = 0;
    const struct train_config *config = s->config;
    recent(a, ratio);
    for (int c = 0; c < a->n_classes; c++) {
        want[c] = (double)a->want[c];
        if (config->align == METHOD_ALIGN_SAMPLE)
            want[c] = s->class_share[c];
        if (config->align == METHOD_ALIGN_PRIOR)
            want[c] = c == 1 ? config->prior : 1 - config->prior;
        sum += want[c];
    }
    for (int c = 0; c < a->n_classes; c++)
        ratio[c] = config->align == METHOD_ALIGN_OFF ? 1.0 : (FLOOR + want[c] / sum) / (FLOOR + ratio[c]);
}

void align_apply(const double *ratio, int n_classes, float *q)
{
    double sum = 0;
    for (int c = 0; c < n_classes; c++)
        sum += (double)q[c] * ratio[c];
    for (int c = 0; c < n_classes; c++)
        q[c] = (float)((double)q[c] * ratio[c] / sum);
}

bool align_check(const struct train_config *c, struct err *e)
{
    if (c->align == METHOD_ALIGN_PRIOR && !(c->prior > 0 && c->prior < 1))
        return err_set(e, ERR_USAGE, "alignment to a prior needs a share of damage between 0 and 1, not %g",
                       c->prior);
    if (c->align != METHOD_ALIGN_PRIOR && c->prior != 0)
        return err_set(e, ERR_USAGE, "a prior is used by alignment to a prior alone; ask for that");
    return true;
}
