/* SPDX-License-Identifier: Apache-2.0
 *
 * tract_train.c - a run: a teacher that learns to predict x_0 at every noise level, or a student that learns
 * the teacher's jumps (algorithm of section 3 of the TRACT paper, settings of its official code): Adam without
 * decay, gradients clipped to norm 1, loss a sum over pixels and a mean over the batch, two bias-corrected
 * averages of the student (the self-teacher, and the one that is judged, sampled from and handed on). A phase
 * is one part of equally long ones; on entering a new one the judged average becomes the teacher, everything
 * else carries on. */
#include "models/learn/tract_parts.h"

#include "models/base/mem.h"
#include "models/net/optim.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PIECE = 8192, N_PIECES_PER_ROW = 64 };

void tract_config_defaults(struct tract_config *c, enum tract_method method)
{
    *c = (struct tract_config){.method = method,
                               .n_steps = 1024,
                               .batch = 64,
                               .lr = 2e-4,
                               .clip_norm = 1,
                               .self_momentum = 0.5,
                               .residual = 1e-3,
                               .n_updates = 1000};
    if (method == TRACT_DISTILL) {
        c->n_plan = 3;
        memcpy(c->plan, (int[3]){1024, 32, 1}, 3 * sizeof *c->plan);
    } else if (method == TRACT_BTD) {
        for (int n = 1024; n >= 1; n /= 2)
            c->plan[c->n_plan++] = n;
    }
}

const char *tract_method_name(enum tract_method m)
{
    return m == TRACT_DISTILL ? "tract" : m == TRACT_BTD ? "btd" : "teacher";
}

bool tract_plan_parse(struct tract_config *c, const char *text, struct err *e)
{
    const char *at = text;
    c->n_plan = 0;
    for (;;) {
        char *end;
        const long n = strtol(at, &end, 10);
        if (end == at || n < 1 || n > TRACT_MAX_STEPS || c->n_plan > TRACT_MAX_PHASES ||
            (*end && *end != ','))
            return err_set(e, ERR_USAGE,
                           "'%s' is no plan of steps; it is a list such as 1024,32,1 of at most %d numbers",
                           text, TRACT_MAX_PHASES + 1);
        c->plan[c->n_plan++] = (int)n;
        if (!*end)
            return true;
        at = end + 1;
    }
}

static bool check_plan(const struct tract_config *c, struct err *e)
{
    if (c->method == TRACT_TEACHER)
        return true;
    if (c->n_plan < 2 || c->n_plan > TRACT_MAX_PHASES + 1 || c->plan[0] < 1 || c->n_steps % c->plan[0])
        return err_set(e, ERR_USAGE,
                       "a plan of steps begins with a divisor of the teacher's %d and has 2..%d numbers",
                       c->n_steps, TRACT_MAX_PHASES + 1);
    for (int i = 1; i < c->n_plan; i++)
        if (c->plan[i] < 1 || c->plan[i] >= c->plan[i - 1] || c->plan[i - 1] % c->plan[i])
            return err_set(e, ERR_USAGE,
                           "in a plan of steps each number divides the one before: %d after %d does not",
                           c->plan[i], c->plan[i - 1]);
        else if (c->method == TRACT_BTD && c->plan[i - 1] != 2 * c->plan[i])
            return err_set(e, ERR_USAGE, "btd halves the steps in each phase: %d cannot follow %d",
                           c->plan[i], c->plan[i - 1]);
    if (c->n_updates < (uint64_t)c->n_plan - 1)
        return err_set(e, ERR_USAGE, "%llu updates do not suffice for %d phases",
                       (unsigned long long)c->n_updates, c->n_plan - 1);
    return true;
}

bool tract_config_check(const struct tract_config *c, struct err *e)
{
    if (!unet_config_check(&c->net, e))
        return false;
    if (c->net.c_in != c->net.c_out)
        return err_set(e, ERR_USAGE, "a denoiser returns as many channels as it takes, not %d for %d",
                       c->net.c_out, c->net.c_in);
    if (c->n_steps < 2 || c->n_steps > TRACT_MAX_STEPS)
        return err_set(e, ERR_USAGE, "a diffusion has 2..%d steps, not %d", TRACT_MAX_STEPS, c->n_steps);
    if (c->batch < 1 || c->batch > 4096 || c->n_updates < 1 || c->n_updates > (uint64_t)1 << 40)
        return err_set(e, ERR_USAGE, "a batch has 1..4096 images and a run at least one update");
    if (!(c->lr > 0) || !(c->lr < 1) || !(c->clip_norm >= 0) || !isfinite(c->clip_norm) || !(c->cap >= 0) ||
        !isfinite(c->cap))
        return err_set(e, ERR_USAGE, "the learning rate lies in (0,1); norm and cap are 0 or more");
    if (!(c->self_momentum >= 0 && c->self_momentum < 1) || !(c->residual > 0 && c->residual < 1))
        return err_set(e, ERR_USAGE, "the self-teacher's momentum lies in [0,1), the residual in (0,1)");
    return check_plan(c, e);
}

static int n_phases(const struct tract_config *c)
{
    return c->method == TRACT_TEACHER ? 1 : c->n_plan - 1;
}

int tract_blocks(const struct tract_run *r, struct unet_file_block block[TRACT_MAX_BLOCKS])
{
    int n = 0, n_own;
    const struct unet_tensor *own = unet_tensors(r->net, &n_own);
    block[n++] = (struct unet_file_block){"net.", own, n_own, r->student};
    block[n++] = (struct unet_file_block){"ema.", own, n_own, r->ema};
    block[n++] = (struct unet_file_block){"opt.m.", own, n_own, r->slot[0]};
    block[n++] = (struct unet_file_block){"opt.v.", own, n_own, r->slot[1]};
    if (r->teacher) {
        block[n++] = (struct unet_file_block){"teacher.", own, n_own, r->teacher};
        block[n++] = (struct unet_file_block){"self.", own, n_own, r->self};
    }
    return n;
}

static bool allocate(struct tract_run *r, struct err *e)
{
    const size_t batch = (size_t)r->config.batch, all = batch * r->d;
    const bool two = r->config.method != TRACT_TEACHER;
    return (r->student = mem_array(r->n_values, sizeof *r->student, "the student", e)) &&
           (r->ema = mem_array(r->n_values, sizeof *r->ema, "the averaged weights", e)) &&
           (!two || ((r->teacher = mem_array(r->n_values, sizeof *r->teacher, "the teacher", e)) &&
                     (r->self = mem_array(r->n_values, sizeof *r->self, "the self-teacher", e)))) &&
           (r->grads = mem_array(r->n_values, sizeof *r->grads, "the gradients", e)) &&
           (r->slot[0] = mem_array(r->n_values, sizeof *r->grads, "Adam's means", e)) &&
           (r->slot[1] = mem_array(r->n_values, sizeof *r->grads, "Adam's squares", e)) &&
           (r->place = mem_array(batch, sizeof *r->place, "a batch", e)) &&
           (r->label = mem_array(batch, sizeof *r->label, "a batch", e)) &&
           (r->time = mem_array(batch, sizeof *r->time, "a batch", e)) &&
           (r->angle = mem_array(batch, sizeof *r->angle, "a batch", e)) &&
           (r->x_t = mem_array(all, sizeof *r->x_t, "a batch", e)) &&
           (r->target = mem_array(all, sizeof *r->target, "a batch", e)) &&
           (r->work = mem_array(tract_target_work(r->config.batch, r->d), sizeof *r->work, "a batch", e)) &&
           (r->x = mem_array(all, sizeof *r->x, "a batch", e)) &&
           (r->dy = mem_array(all, sizeof *r->dy, "a batch", e));
}

struct tract_run *tract_create(const struct tract_config *c, const float *teacher, struct err *e)
{
    assert((c->method == TRACT_TEACHER) == !teacher);
    if (!tract_config_check(c, e))
        return NULL;
    struct tract_run *r = mem_array(1, sizeof *r, "a diffusion run", e);
    if (!r)
        return NULL;
    r->config = *c;
    r->schedule = tract_schedule_make(c->n_steps);
    r->n_values = unet_count(&c->net);
    r->d = (size_t)c->net.size * c->net.size * c->net.c_in;
    r->average.momentum = tract_momentum(c->residual, (c->n_updates + n_phases(c) - 1) / n_phases(c));
    r->self_average.momentum = c->self_momentum;
    r->net = unet_create(&c->net, c->batch, true, e);
    if (!r->net || !allocate(r, e)) {
        tract_free(r);
        return NULL;
    }
    if (teacher)
        memcpy(r->student, teacher, r->n_values * sizeof *teacher);
    else
        unet_init(r->net, c->seed, r->student);
    memcpy(r->ema, r->student, r->n_values * sizeof *r->ema);
    if (teacher) {
        memcpy(r->teacher, teacher, r->n_values * sizeof *teacher);
        memcpy(r->self, teacher, r->n_values * sizeof *teacher);
    }
    return r;
}

void tract_free(struct tract_run *r)
{
    if (!r)
        return;
    unet_free(r->net);
    float *const floats[] = {r->student, r->ema,     r->teacher, r->self, r->grads,
                             r->slot[0], r->slot[1], r->x,       r->dy};
    for (size_t i = 0; i < sizeof floats / sizeof *floats; i++)
        free(floats[i]);
    double *const doubles[] = {r->x_t, r->target, r->work, r->angle};
    for (size_t i = 0; i < sizeof doubles / sizeof *doubles; i++)
        free(doubles[i]);
    free(r->place);
    free(r->label);
    free(r->time);
    free(r);
}

const struct tract_config *tract_get_config(const struct tract_run *r)
{
    return &r->config;
}

uint64_t tract_updates_done(const struct tract_run *r)
{
    return r->done;
}

const float *tract_average_weights(const struct tract_run *r)
{
    return r->ema;
}

double tract_loss(const struct tract_run *r)
{
    return r->loss;
}

/* ---- one update ---- */

struct run_weights { /* a predictor: the run's network under other weights */
    struct tract_run *run;
    const float *weights;
};

static void run_forward(struct tract_run *r, const float *weights, const double *x, const int *t,
                        const int *label, int n, const float **y)
{
    for (size_t i = 0; i < (size_t)n * r->d; i++)
        r->x[i] = (float)x[i];
    for (int i = 0; i < n; i++)
        r->angle[i] = tract_angle(&r->schedule, t[i]);
    *y = unet_forward(r->net, weights, r->x, r->angle, label, n);
}

static void run_predict(void *ctx, const double *x, const int *t, const int *label, int n, double *x_hat)
{
    const struct run_weights *w = ctx;
    const float *y;
    run_forward(w->run, w->weights, x, t, label, n, &y);
    for (size_t i = 0; i < (size_t)n * w->run->d; i++)
        x_hat[i] = (double)y[i];
}

static struct tract_phase phase_of(const struct tract_run *r)
{
    const struct tract_config *c = &r->config;
    if (c->method == TRACT_TEACHER)
        return (struct tract_phase){1, 1, false};
    return (struct tract_phase){c->n_steps / c->plan[r->phase], c->n_steps / c->plan[r->phase + 1],
                                c->method == TRACT_BTD};
}

/* Images, places and noise of the batch; a teacher's targets are the images themselves. */
static void draw_batch(struct tract_run *r, const struct tract_data *data)
{
    const struct tract_phase phase = phase_of(r);
#pragma omp parallel for schedule(static)
    for (int i = 0; i < r->config.batch; i++) {
        const uint64_t index = r->done * (uint64_t)r->config.batch + (uint64_t)i;
        struct rng rng;
        float *x = r->x + i * r->d;
        data->draw(data->ctx, r->config.seed, index, x, &r->label[i]);
        rng_init(&rng, r->config.seed, RNG_METHOD, index);
        r->place[i] = tract_place_draw(&r->schedule, &phase, &rng);
        r->time[i] = r->place[i].t;
        const double angle = tract_angle(&r->schedule, r->time[i]), signal = cos(angle), noise = sin(angle);
        for (size_t k = 0; k < r->d; k++) {
            r->target[i * r->d + k] = (double)x[k];
            r->x_t[i * r->d + k] = signal * (double)x[k] + noise * rng_normal(&rng);
        }
    }
}

/* The gradient of sum over pixels, mean over the batch of w (y - target)^2; returns that loss. */
static double loss_gradient(struct tract_run *r, const float *y)
{
    double loss = 0;
    for (int i = 0; i < r->config.batch; i++) {
        const double w = tract_weight(&r->schedule, r->time[i], r->config.cap) / r->config.batch;
        for (size_t k = i * r->d; k < (i + 1) * r->d; k++) {
            const double off = (double)y[k] - r->target[k];
            loss += w * off * off;
            r->dy[k] = (float)(2 * w * off);
        }
    }
    return loss;
}

/* Sum of squares in pieces whose number depends on n alone, so that threads cannot change it. */
static double square_sum(const float *v, size_t n)
{
    double part[N_PIECES_PER_ROW] = {0}, sum = 0;
#pragma omp parallel for schedule(static)
    for (int p = 0; p < N_PIECES_PER_ROW; p++)
        for (size_t i = n * p / N_PIECES_PER_ROW; i < n * (p + 1) / N_PIECES_PER_ROW; i++)
            part[p] += (double)v[i] * (double)v[i];
    for (int p = 0; p < N_PIECES_PER_ROW; p++)
        sum += part[p];
    return sum;
}

static void learn(struct tract_run *r)
{
    const struct optim_config adam = {
        .kind = OPTIM_ADAM, .lr = (float)r->config.lr, .beta1 = 0.9f, .beta2 = 0.999f, .epsilon = 1e-8f};
    const double norm = sqrt(square_sum(r->grads, r->n_values)), most = r->config.clip_norm;
    const float scale = most > 0 && norm > most ? (float)(most / norm) : 1.0f;
#pragma omp parallel for schedule(static)
    for (size_t at = 0; at < r->n_values; at += PIECE) {
        const size_t n = r->n_values - at < PIECE ? r->n_values - at : PIECE;
        for (size_t i = at; i < at + n; i++)
            r->grads[i] *= scale;
        optim_apply(&adam, r->done + 1, r->config.lr, false, n, r->grads + at, r->student + at,
                    r->slot[0] + at, r->slot[1] + at);
    }
    if (r->self)
        tract_average_update(&r->self_average, r->self, r->student, r->n_values);
    tract_average_update(&r->average, r->ema, r->student, r->n_values);
}

static void enter_phase(struct tract_run *r)
{
    const int phase = (int)(r->done * (uint64_t)n_phases(&r->config) / r->config.n_updates);
    if (phase == r->phase)
        return;
    memcpy(r->teacher, r->ema, r->n_values * sizeof *r->ema);
    r->phase = phase;
    if (r->config.restart_average)
        r->average.n = 0;
}

static bool update(struct tract_run *r, const struct tract_data *data, struct err *e)
{
    const float *y;
    enter_phase(r);
    draw_batch(r, data);
    if (r->teacher) {
        struct run_weights by_teacher = {r, r->teacher},
                           by_self = {r, r->config.method == TRACT_BTD ? r->teacher : r->self};
        const struct tract_predictor teacher = {run_predict, &by_teacher}, self = {run_predict, &by_self};
        tract_targets(&r->schedule, r->place, &teacher, &self, r->x_t, r->label, r->config.batch, r->d,
                      !r->config.no_clip, r->work, r->target);
    }
    run_forward(r, r->student, r->x_t, r->time, r->label, r->config.batch, &y);
    const double loss = loss_gradient(r, y) / (double)r->d;
    if (!isfinite(loss))
        return err_set(e, ERR_RUNTIME,
                       "the loss is no number any more after %llu updates; take a lower learning rate",
                       (unsigned long long)r->done);
    unet_backward(r->net, r->student, r->dy, r->grads, NULL);
    learn(r);
    const double share = r->done < 100 ? 1.0 / ((double)r->done + 1) : 0.01;
    r->loss += share * (loss - r->loss);
    r->done++;
    return true;
}

bool tract_train(struct tract_run *r, const struct tract_data *data, uint64_t at_most,
                 const struct progress *progress, struct err *e)
{
    char note[64];
    const uint64_t end =
        at_most > 0 && r->config.n_updates - r->done > at_most ? r->done + at_most : r->config.n_updates;
    while (r->done < end) {
        if (progress_stopped(progress))
            return err_set(e, ERR_INTERRUPTED, "stopped after %llu of %llu updates",
                           (unsigned long long)r->done, (unsigned long long)r->config.n_updates);
        if (!update(r, data, e))
            return false;
        snprintf(note, sizeof note, "phase %d of %d, loss %.4g", r->phase + 1, n_phases(&r->config), r->loss);
        progress_report(progress, "train", (double)r->done, (double)r->config.n_updates, note);
    }
    return true;
}
