/* SPDX-License-Identifier: Apache-2.0
 *
 * train_finish.c - makes the moving-average weights fit for use: population statistics for their batch norms,
 * and the temperature.
 *
 * Population statistics (Wu & Johnson 2021, "Rethinking Batch in BatchNorm", section 3: PreciseBN). The
 * averaged weights were never run, so no running mean or variance belongs to them; momentum 0.999 would need
 * thousands of steps besides. K batches composed exactly as the method's training batches pass through them
 * with batch statistics; with m_k, v_k those of batch k,
 *
 *   mean = (1/K) sum m_k,    var = (1/K) sum (v_k + m_k^2) - mean^2
 *
 * Of a method with several passes only the one that moves the running statistics counts, mixed as in
 * training. K = ceil(1024 / its rows), 4 to 64. The batches are those of the steps after the last one, whose
 * random numbers are a function of the step alone, so the result depends on nothing that a checkpoint does
 * not hold. Same composition, not clean images: the network was trained to work on activations normalised by
 * mixed views. */
#include "models/learn/trainer.h"

#include "models/base/mem.h"
#include "models/learn/calibrate.h"

#include <assert.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

enum { STATISTICS_IMAGES = 1024, MIN_BATCHES = 4, MAX_BATCHES = 64 };

static size_t total_count(const struct net_tensor *tensors, int n)
{
    size_t total = 0;
    for (int i = 0; i < n; i++)
        total += tensors[i].count;
    return total;
}

/* The averaged weights, in table order, become the evaluation net's. */
static void load_eval_net(struct trainer *t, const float *values)
{
    int n;
    const struct net_tensor *tensors = net_tensors(t->eval_net, &n);
    memcpy(tensors[0].value, values, total_count(tensors, n) * sizeof(float));
    net_weights_changed(t->eval_net);
}

/* Adds m and v + m^2 of the batch that just passed to sums [2, count]; momentum 0 leaves exactly m and v
 * behind. */
static void add_moments(const struct net_tensor *mean, double *sums)
{
    const struct net_tensor *var = mean + 1;
    assert(var->role == NET_RUNNING_VAR && var->count == mean->count &&
           var->value == mean->value + mean->count);
    for (size_t j = 0; j < mean->count; j++) {
        double m = mean->value[j];
        sums[j] += m;
        sums[mean->count + j] += var->value[j] + m * m;
    }
}

void trainer_population_statistics(struct trainer *t)
{
    const struct method_pass *pass = &t->pass[t->update_pass];
    int n, n_batches = (STATISTICS_IMAGES + pass->n - 1) / pass->n;
    n_batches = n_batches < MIN_BATCHES ? MIN_BATCHES : n_batches > MAX_BATCHES ? MAX_BATCHES : n_batches;
    const struct net_tensor *tensors = net_tensors(t->eval_net, &n);
    const float *ema = optim_ema(t->optim);
    ptrdiff_t total = (ptrdiff_t)total_count(tensors, n),
              trainable = (ptrdiff_t)net_trainable_count(t->eval_net);
    memcpy(t->ema_stat, ema, (size_t)total * sizeof *ema);
    load_eval_net(t, t->ema_stat);
    /* Running statistics follow the trainable tensors, the variance of a norm after its mean; stat_sums
     * mirrors them. */
    memset(t->stat_sums, 0, (size_t)(total - trainable) * sizeof *t->stat_sums);
    for (int k = 0; k < n_batches; k++) {
        struct method_step s = trainer_step(t, t->n_steps + k);
        batches_make(&t->batches, t->n_steps + k);
        if (t->method->mix)
            t->method->mix(&s);
        net_forward(t->eval_net, s.x + (size_t)pass->first * s.x_stride, pass->n, NET_BN_BATCH_UPDATE);
        for (int i = 0; i < n; i++)
            if (tensors[i].role == NET_RUNNING_MEAN)
                add_moments(&tensors[i], t->stat_sums + (tensors[i].value - tensors[0].value - trainable));
    }
    for (int i = 0; i < n; i++) {
        if (tensors[i].role != NET_RUNNING_MEAN)
            continue;
        ptrdiff_t at = tensors[i].value - tensors[0].value, count = (ptrdiff_t)tensors[i].count;
        const double *sums = t->stat_sums + (at - trainable);
        for (ptrdiff_t j = 0; j < count; j++) {
            double mean = sums[j] / n_batches, var = sums[count + j] / n_batches - mean * mean;
            t->ema_stat[at + j] = (float)mean;
            t->ema_stat[at + count + j] = (float)(var > 0 ? var : 0);
        }
    }
}

bool trainer_calibrate(struct trainer *t, struct err *e)
{
    const struct trainer_pools *p = &t->pools;
    int n_classes = t->set->n_classes, batch = t->max_pass_rows;
    t->temperature = 1;
    t->calibrated = false;
    if (p->n_calibration == 0)
        return true;
    float *logits = mem_array(p->n_calibration, (size_t)n_classes * sizeof *logits, "the calibration", e);
    int16_t *label = logits ? mem_array(p->n_calibration, sizeof *label, "the calibration", e) : NULL;
    if (label) {
        load_eval_net(t, t->ema_stat);
        for (size_t from = 0; from < p->n_calibration; from += (size_t)batch) {
            size_t left = p->n_calibration - from;
            int m = left < (size_t)batch ? (int)left : batch;
            for (int i = 0; i < m; i++) {
                uint32_t item = p->calibration[from + (size_t)i];
                label[from + (size_t)i] = t->set->label[item];
                imageset_to_input(&t->set->layout, t->set->px + item * t->batches.image_bytes,
                                  t->batches.x + (size_t)i * t->batches.row_floats);
            }
            memcpy(logits + from * (size_t)n_classes,
                   net_forward(t->eval_net, t->batches.x, m, NET_BN_RUNNING),
                   (size_t)m * (size_t)n_classes * sizeof *logits);
        }
        t->temperature = calibrate_temperature(logits, label, p->n_calibration, n_classes);
        t->calibrated = true;
    }
    free(logits);
    free(label);
    return t->calibrated;
}
