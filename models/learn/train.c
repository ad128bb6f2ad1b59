/* SPDX-License-Identifier: Apache-2.0
 *
 * train.c - the training loop of train.h. One step:
 *
 *   views (batches.c) -> method's prepare and mix -> for each of its passes: forward with batch statistics,
 * loss, backward, gradients added up -> optimiser, decay, moving average (optim.c) -> warm-up of the average
 * (below)
 *
 * Warm-up of the average. The optimiser has just made e = d a + (1-d) w. The wanted decay at step t is d_t =
 * min(d, (1+t)/(10+t)) (the rule of TensorFlow's ExponentialMovingAverage with a step count), and d_t a +
 * (1-d_t) w = e + (1 - d_t/d) (w - e): one more pass, only while d_t < d, without a second copy of the
 * average.
 *
 * Views are made by all threads before the step instead of by a helper beside it: the step's kernels keep
 * every processor busy, so overlapping the two would only move the same work. Memory: everything is allocated
 * before the first step; the steady step allocates nothing. Threads: call from one thread; OpenMP inside. */
#include "models/learn/train.h"

#include "models/base/file.h"
#include "models/base/mem.h"
#include "models/learn/trainer.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static double now_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static bool open_net(struct trainer *t, struct err *e)
{
    const struct imageset_layout *l = &t->set->layout;
    struct net_config *n = &t->net_config;
    if (!net_config_preset(n, t->config->preset, e))
        return false;
    n->size = l->size;
    n->c_in = imageset_input_channels(l);
    n->n_classes = t->set->n_classes;
    struct net_config frozen = *n;
    frozen.bn_momentum = 0; /* see train_finish.c */
    t->net = net_create(n, t->max_pass_rows, NET_TRAIN, e);
    t->eval_net = t->net ? net_create(&frozen, t->max_pass_rows, NET_INFER, e) : NULL;
    return t->eval_net;
}

static bool open_buffers(struct trainer *t, struct err *e)
{
    size_t n_rows = (size_t)t->batches.n_rows, n_classes = (size_t)t->set->n_classes;
    int n;
    const struct net_tensor *last = net_tensors(t->net, &n);
    size_t n_values = (size_t)(last[n - 1].value - last[0].value) + last[n - 1].count;
    if (t->method->mix) {
        t->order = mem_array(2 * n_rows, sizeof *t->order, "the mixing", e);
        t->share = t->order ? mem_array(n_rows, sizeof *t->share, "the mixing", e) : NULL;
        if (!t->share)
            return false;
    }
    t->class_share = mem_array(n_classes, sizeof *t->class_share, "the class shares", e);
    if (!t->class_share)
        return false;
    for (size_t i = 0; i < t->pools.n_labeled; i++)
        t->class_share[t->set->label[t->pools.labeled[i]]]++;
    for (size_t c = 0; c < n_classes; c++)
        t->class_share[c] = (t->class_share[c] + 1) / (double)(t->pools.n_labeled + n_classes);
    t->target = mem_array(n_rows, n_classes * sizeof *t->target, "the targets", e);
    t->dlogits = t->target
                     ? mem_array((size_t)t->max_pass_rows, n_classes * sizeof *t->dlogits, "the gradient", e)
                     : NULL;
    t->ema_stat = t->dlogits ? mem_array(n_values, sizeof *t->ema_stat, "the averaged weights", e) : NULL;
    t->stat_sums = t->ema_stat ? mem_array(n_values - net_trainable_count(t->net), sizeof *t->stat_sums,
                                           "the statistics", e)
                               : NULL;
    return t->stat_sums;
}

struct method_step trainer_step(struct trainer *t, int64_t step)
{
    struct batches *b = &t->batches;
    struct method_step s = {.config = t->config,
                            .step = step,
                            .n_updates = step,
                            .n_steps = t->n_steps,
                            .n_classes = t->set->n_classes,
                            .n_rows = b->n_rows,
                            .x = b->x,
                            .x_stride = b->row_floats,
                            .target = t->target,
                            .order = t->order,
                            .share = t->share,
                            .net = t->net,
                            .ema_net = t->eval_net,
                            .ema = t->optim ? optim_ema(t->optim) : NULL,
                            .max_pass_rows = t->max_pass_rows,
                            .state = t->state,
                            .class_share = t->class_share,
                            .soft = t->set->soft,
                            .seed = t->config->seed};
    for (int i = 0; i < b->n_streams; i++) {
        s.offset[i] = b->offset[i];
        s.items[i] = b->items[i];
        s.label[i] = b->label[i];
        s.item[i] = b->item[i];
    }
    return s;
}

static void plan_passes(struct trainer *t)
{
    struct method_step s = trainer_step(t, 0);
    int n_updating = 0;
    t->n_passes = 1;
    t->pass[0] = (struct method_pass){.first = 0, .n = s.n_rows, .update = true};
    if (t->method->passes)
        t->n_passes = t->method->passes(&s, t->pass);
    assert(t->n_passes >= 1 && t->n_passes <= METHOD_MAX_PASSES);
    for (int p = 0; p < t->n_passes; p++) {
        const struct method_pass *pass = &t->pass[p];
        assert(pass->n > 0 && pass->first >= 0 && pass->first + pass->n <= s.n_rows);
        if (pass->n > t->max_pass_rows)
            t->max_pass_rows = pass->n;
        if (pass->update) {
            t->update_pass = p;
            n_updating++;
        }
    }
    assert(n_updating == 1);
    (void)n_updating;
}

/* Everything that does not depend on whether the run is new. */
static bool trainer_open(struct trainer *t, const struct imageset *set, const struct train_config *c,
                         const struct progress *progress, struct err *e)
{
    memset(t, 0, sizeof *t);
    t->set = set;
    t->own_config = *c;
    t->config = &t->own_config;
    t->progress = progress;
    t->temperature = 1;
    if (!trainer_check_config(c, e))
        return false;
    if (c->n_class_tau > 0 && c->n_class_tau != set->n_classes)
        return err_set(e, ERR_USAGE, "%s has %d classes, but thresholds are given for %d", set->source,
                       set->n_classes, c->n_class_tau);
    t->method = method_find(c->method, e);
    if (set->soft && !t->method->takes_soft)
        return err_set(
            e, ERR_USAGE,
            "%s learns from labels, not from another model's answers; supervised, mixmatch and fixmatch do",
            c->method);
    assert(!set->soft || c->still_share == 0); /* a pair of one date has no answer */
    if (!trainer_pools_choose(&t->pools, set, c, progress, e))
        return false;
    struct trainer_pools *p = &t->pools;
    bool apart = t->method->separates_source;
    t->own_config.has_source = p->n_source > 0;
    t->own_config.has_labels = p->n_labeled > 0;
    t->config_text = trainer_config_text(t->config, e);
    if (!t->config_text)
        return false;
    const struct batches_pools pools = {.labeled = apart ? p->fit : p->fit_all,
                                        .unlabeled = p->unlabeled,
                                        .source = p->source,
                                        .n_labeled = apart ? p->n_fit : p->n_fit_all,
                                        .n_unlabeled = p->n_unlabeled,
                                        .n_source = p->n_source};
    if (!batches_create(&t->batches, set, t->config, t->method, &pools, e))
        return false;
    plan_passes(t);
    return open_net(t, e) && open_buffers(t, e) &&
           trivial_fit(&t->trivial, set, t->pools.taught, t->pools.n_taught, e);
}

static void drop_state(struct trainer *t)
{
    if (t->state)
        t->method->state_free(t->state);
    t->state = NULL;
}

static void trainer_close(struct trainer *t)
{
    drop_state(t);
    optim_free(t->optim);
    net_free(t->net);
    net_free(t->eval_net);
    batches_free(&t->batches);
    trainer_pools_free(&t->pools);
    trivial_free(&t->trivial);
    free(t->config_text);
    free(t->target);
    free(t->dlogits);
    free(t->order);
    free(t->share);
    free(t->class_share);
    free(t->ema_stat);
    free(t->stat_sums);
}

static bool create_state(struct trainer *t, struct err *e)
{
    drop_state(t);
    if (!t->method->state_create)
        return true;
    struct method_step shape = trainer_step(t, 0);
    t->state = t->method->state_create(&shape, e);
    return t->state;
}

/* The first step's state; also takes the net back to it after the speed was measured. */
static bool trainer_start(struct trainer *t, struct err *e)
{
    net_init(t->net, t->config->seed);
    optim_free(t->optim);
    t->optim = optim_create(t->net, &t->config->optim, e);
    t->step = 0;
    batches_reset(&t->batches);
    return t->optim && create_state(t, e);
}

static void warm_average(struct trainer *t)
{
    double d = (double)t->config->optim.ema_decay, step = (double)t->step, wanted = (1 + step) / (10 + step);
    if (wanted >= d)
        return;
    float share = (float)(1 - wanted / d), *ema = optim_ema_writable(t->optim);
    int n;
    const struct net_tensor *tensors = net_tensors(t->net, &n);
    size_t count = net_trainable_count(t->net);
    if (t->config->optim.ema_running_stats)
        count = (size_t)(tensors[n - 1].value - tensors[0].value) + tensors[n - 1].count;
    const float *w = tensors[0].value;
    for (size_t i = 0; i < count; i++)
        ema[i] += share * (w[i] - ema[i]);
}

/* Forward, loss and backward of every pass; the gradients add up. */
static bool run_passes(struct trainer *t, struct method_step *s, struct err *e)
{
    t->loss = 0;
    t->scalars.n = 0;
    for (s->pass = 0; s->pass < t->n_passes; s->pass++) {
        const struct method_pass *p = &t->pass[s->pass];
        const float *x = s->x + (size_t)p->first * s->x_stride;
        enum net_bn bn = p->update ? NET_BN_BATCH_UPDATE : NET_BN_BATCH;
        const float *logits = net_forward(t->net, x, p->n, bn);
        s->dembedding = NULL;
        memset(t->dlogits, 0, (size_t)p->n * (size_t)s->n_classes * sizeof *t->dlogits);
        t->loss += t->method->loss(s, logits, t->dlogits, &t->scalars);
        if (!isfinite(t->loss))
            return err_set(e, ERR_RUNTIME,
                           "training diverged: the loss is not a number at step %lld of %lld; take a lower "
                           "learning rate",
                           (long long)t->step + 1, (long long)t->n_steps);
        net_backward_extra(t->net, x, t->dlogits, p->n, bn, s->pass > 0,
                           &(struct net_extra){.dembedding = s->dembedding});
    }
    return true;
}

/* CTAugment: what the averaged model says about the probes moves the rates, in row order. */
static void learn_rates(struct trainer *t, const struct method_step *s)
{
    struct batches *b = &t->batches;
    const int n_classes = s->n_classes;
    float p[METHOD_MAX_CLASSES];
    for (int stream = b->n_streams; stream < b->n_all_streams; stream++)
        for (int from = 0; from < b->items[stream]; from += t->max_pass_rows) {
            const int left = b->items[stream] - from, m = left < t->max_pass_rows ? left : t->max_pass_rows;
            const int row = b->offset[stream] + from;
            const float *x = b->x + (size_t)row * b->row_floats;
            const float *logits = semi_ema_forward(s, x, m, NET_BN_RUNNING);
            for (int i = 0; i < m; i++) {
                semi_softmax(logits + (size_t)i * (size_t)n_classes, n_classes, p);
                cta_update(b->cta, &b->policy[row - b->n_rows + i], p, n_classes, b->label[stream][from + i]);
            }
        }
}

static bool take_step(struct trainer *t, struct err *e)
{
    struct method_step s = trainer_step(t, t->step);
    batches_make(&t->batches, t->step);
    if (t->method->prepare)
        t->method->prepare(&s);
    if (t->method->mix)
        t->method->mix(&s);
    if (!run_passes(t, &s, e))
        return false;
    s.n_updates++;
    optim_step(t->optim, optim_lr(&t->config->optim, (double)t->step / (double)t->n_steps));
    warm_average(t);
    if (t->batches.cta)
        learn_rates(t, &s);
    t->step++;
    return true;
}

enum { PROBE_WARM_STEPS = 2, PROBE_STEPS = 10 };

/* Steps that fit in the budget after what the start, the closing statistics and the file will take. */
static bool fix_steps(struct trainer *t, double begun_s, struct err *e)
{
    double budget = t->config->budget_s, probe_limit = 0.05 * budget, spent = 0, fastest = INFINITY,
           total = 0;
    int timed = 0;
    t->n_steps = t->config->steps;
    if (t->n_steps > 0)
        return true;
    t->n_steps = 1000; /* any schedule will do: these steps are thrown away */
    for (int i = 0; i < PROBE_WARM_STEPS + PROBE_STEPS && (timed == 0 || spent < probe_limit); i++) {
        if (progress_stopped(t->progress))
            return err_set(e, ERR_INTERRUPTED, "stopped before the first step; nothing was written");
        double before = now_s();
        if (!take_step(t, e))
            return false;
        double took = now_s() - before;
        spent += took;
        if (i >= PROBE_WARM_STEPS || spent >= probe_limit) {
            total += took;
            timed++;
            fastest = took < fastest ? took : fastest;
        }
    }
    /* Between mean and best: a disturbed probe must not halve the run, a lucky one must not overrun it. */
    double per_step = 0.5 * (total / timed + fastest);
    double closing = 0.4 * per_step * fmin(64, fmax(4, 1024.0 / t->pass[t->update_pass].n));
    double left = 0.95 * budget - (now_s() - begun_s) - closing;
    t->n_steps = left > per_step ? (int64_t)(left / per_step) : 1;
    if (t->n_steps < 100) {
        char sentence[160];
        snprintf(sentence, sizeof sentence,
                 "the budget of %.0f s allows only %lld steps of %.2f s; expect little of the model", budget,
                 (long long)t->n_steps, per_step);
        progress_warn(t->progress, sentence);
    }
    return trainer_start(t, e);
}

static void report_step(const struct trainer *t, double mean_loss)
{
    char note[160];
    int used = snprintf(note, sizeof note, "loss %.4f, rate %.4f", mean_loss,
                        optim_lr(&t->config->optim, (double)(t->step - 1) / (double)t->n_steps));
    for (int i = 0; i < t->scalars.n && used > 0 && (size_t)used < sizeof note; i++)
        used += snprintf(note + used, sizeof note - (size_t)used, ", %s %.3f", t->scalars.name[i],
                         t->scalars.value[i]);
    progress_report(t->progress, "train", (double)t->step, (double)t->n_steps, note);
}

static bool interrupted(struct trainer *t, const char *path, const struct checkpoint_meta *extra, int n_extra,
                        struct err *e)
{
    if (!trainer_save(t, path, extra, n_extra, e))
        return false;
    return err_set(e, ERR_INTERRUPTED, "stopped after step %lld of %lld; %s holds the run and can be resumed",
                   (long long)t->step, (long long)t->n_steps, path);
}

/* Whether the watcher wants to see the model after this step (train.h). */
static bool is_watched(const struct trainer *t)
{
    const struct train_watch *w = t->config->watch;
    for (int k = 1; w && k < w->n; k++)
        if (t->step == t->n_steps - llround((double)k * w->share * (double)t->n_steps / w->n))
            return t->step < t->n_steps;
    return false;
}

static bool run_steps(struct trainer *t, const char *path, const struct checkpoint_meta *extra, int n_extra,
                      struct err *e)
{
    double saved_s = now_s(), shown_s = 0, sum = 0;
    int since = 0;
    while (t->step < t->n_steps) {
        if (progress_stopped(t->progress))
            return interrupted(t, path, extra, n_extra, e);
        if (!take_step(t, e))
            return false;
        sum += t->loss;
        since++;
        double now = now_s();
        if (now - shown_s >= 0.2 || t->step == t->n_steps) {
            report_step(t, sum / since);
            shown_s = now;
            sum = since = 0;
        }
        if (is_watched(t)) {
            const struct train_watch *w = t->config->watch;
            if (!trainer_save(t, path, extra, n_extra, e) || !w->seen(w->ctx, path, t->step, e))
                return false;
            saved_s = now_s();
        } else if (t->step < t->n_steps && t->config->checkpoint_every_s > 0 &&
                   now - saved_s >= t->config->checkpoint_every_s) {
            if (!trainer_save(t, path, extra, n_extra, e))
                return false;
            saved_s = now_s();
        }
    }
    return trainer_save(t, path, extra, n_extra, e);
}

bool train_run(const struct imageset *set, const struct train_config *c, const char *out_path, bool resume,
               const struct checkpoint_meta *extra_meta, int n_extra, const struct progress *progress,
               struct train_report *report, struct err *e)
{
    struct trainer t;
    double begun_s = now_s();
    bool ok = trainer_open(&t, set, c, progress, e);
    if (ok && resume && file_exists(out_path))
        ok = create_state(&t, e) && trainer_restore(&t, out_path, e);
    else
        ok = ok && trainer_start(&t, e) && fix_steps(&t, begun_s, e);
    ok = ok && run_steps(&t, out_path, extra_meta, n_extra, e);
    if (report)
        *report = (struct train_report){.steps = t.step,
                                        .n_labeled = t.pools.n_labeled,
                                        .n_unlabeled = t.pools.n_unlabeled,
                                        .n_source = t.pools.n_source,
                                        .n_calibration = t.pools.n_calibration,
                                        .seconds = now_s() - begun_s,
                                        .final_loss = t.loss,
                                        .temperature = t.temperature,
                                        .calibrated = t.calibrated};
    trainer_close(&t);
    return ok;
}
