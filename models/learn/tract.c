/* SPDX-License-Identifier: Apache-2.0
 *
 * tract.c - the schedule, DDIM's step and its inverse, targets, sampling and averages (tract.h has formulas and
 * sources). Nothing here knows a network. */
#include "models/learn/tract.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#define LAST_LOG_SNR 20.0

struct tract_schedule tract_schedule_make(int n_steps)
{
    assert(n_steps > 0 && n_steps <= TRACT_MAX_STEPS);
    const double b = atan(exp(-LAST_LOG_SNR / 2));
    return (struct tract_schedule){n_steps, atan(exp(LAST_LOG_SNR / 2)) - b, b};
}

double tract_angle(const struct tract_schedule *s, int t)
{
    assert(t >= 0 && t <= s->n_steps);
    return s->a * t / s->n_steps + s->b;
}

double tract_gamma(const struct tract_schedule *s, int t)
{
    const double c = cos(tract_angle(s, t));
    return c * c;
}

double tract_log_snr(const struct tract_schedule *s, int t)
{
    return -2 * log(tan(tract_angle(s, t)));
}

double tract_weight(const struct tract_schedule *s, int t, double cap)
{
    const double cotangent = 1 / tan(tract_angle(s, t)), snr = cotangent * cotangent;
    const double w = snr > 1 ? snr : 1;
    return cap > 0 && w > cap ? cap : w;
}

/* sin(phi_t - phi_s), without the difference of two angles. */
static double sine_between(const struct tract_schedule *s, int t, int to)
{
    return sin(s->a * (t - to) / s->n_steps);
}

void tract_step(const struct tract_schedule *s, int t, int to, const double *x_hat, const double *x_t,
                size_t n, double *x_s)
{
    assert(t > to);
    const double sine = sin(tract_angle(s, t)), keep = sin(tract_angle(s, to)) / sine;
    const double take = sine_between(s, t, to) / sine;
    for (size_t i = 0; i < n; i++)
        x_s[i] = x_t[i] * keep + x_hat[i] * take;
}

void tract_invert(const struct tract_schedule *s, int t, int to, const double *x_t, const double *x_s,
                  size_t n, double *y)
{
    assert(t > to);
    const double top = sin(tract_angle(s, t)), low = sin(tract_angle(s, to)),
                 between = sine_between(s, t, to);
    for (size_t i = 0; i < n; i++)
        y[i] = (x_s[i] * top - x_t[i] * low) / between;
}

struct tract_place tract_place_draw(const struct tract_schedule *s, const struct tract_phase *p,
                                    struct rng *r)
{
    assert(p->step > 0 && p->group % p->step == 0 && s->n_steps % p->group == 0);
    const int top = p->group * (1 + (int)rng_below(r, (uint32_t)(s->n_steps / p->group)));
    const int offset = p->tops_only ? 0 : p->step * (int)rng_below(r, (uint32_t)(p->group / p->step));
    return (struct tract_place){top - offset, top - offset - p->step, top - p->group};
}

static void clip_all(double *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        x[i] = x[i] < -1 ? -1 : x[i] > 1 ? 1 : x[i];
}

size_t tract_target_work(int n, size_t d)
{
    return 3 * (size_t)n * d + 2 * (size_t)n; /* steps, predictions, the rows that go on; times and labels */
}

void tract_targets(const struct tract_schedule *s, const struct tract_place *place,
                   const struct tract_predictor *teacher, const struct tract_predictor *self,
                   const double *x_t, const int *label, int n, size_t d, bool clip, double *work,
                   double *target)
{
    double *reached = work, *hat = reached + (size_t)n * d, *rows = hat + (size_t)n * d;
    int *time = (int *)(rows + (size_t)n * d), *class = time + n, m = 0;
    for (int i = 0; i < n; i++)
        time[i] = place[i].t;
    teacher->predict(teacher->ctx, x_t, time, label, n, hat);
    if (clip)
        clip_all(hat, (size_t)n * d);
    for (int i = 0; i < n; i++)
        tract_step(s, place[i].t, place[i].mid, hat + i * d, x_t + i * d, d, reached + i * d);
    for (int i = 0; i < n; i++) /* those not at the end of their group yet */
        if (place[i].mid > place[i].bottom) {
            memcpy(rows + (size_t)m * d, reached + i * d, d * sizeof *rows);
            time[m] = place[i].mid;
            class[m++] = label ? label[i] : -1;
        }
    if (m > 0)
        self->predict(self->ctx, rows, time, label ? class : NULL, m, hat);
    if (clip)
        clip_all(hat, (size_t)m * d);
    for (int i = 0, k = 0; i < n; i++) {
        if (place[i].mid > place[i].bottom) {
            tract_step(s, place[i].mid, place[i].bottom, hat + (size_t)k * d, reached + i * d, d,
                       reached + i * d);
            k++;
        }
        tract_invert(s, place[i].t, place[i].bottom, x_t + i * d, reached + i * d, d, target + i * d);
    }
}

void tract_sample(const struct tract_schedule *s, const struct tract_predictor *p, int n_steps, double *x,
                  const int *label, int n, size_t d, bool clip, double *work)
{
    enum { ROWS = 256 };
    assert(n_steps > 0 && s->n_steps % n_steps == 0);
    const int stride = s->n_steps / n_steps;
    int time[ROWS];
    for (int from = 0; from < n; from += ROWS) {
        const int m = n - from < ROWS ? n - from : ROWS;
        double *row = x + (size_t)from * d;
        for (int t = s->n_steps; t > 0; t -= stride) {
            for (int i = 0; i < m; i++)
                time[i] = t;
            p->predict(p->ctx, row, time, label ? label + from : NULL, m, work);
            if (clip)
                clip_all(work, (size_t)m * d);
            tract_step(s, t, t - stride, work, row, (size_t)m * d, row);
        }
    }
}

double tract_average_share(struct tract_average *a)
{
    a->n++;
    /* 1 - m^n by expm1, exact for momenta near 1 as well */
    return a->momentum > 0 ? (1 - a->momentum) / -expm1((double)a->n * log(a->momentum)) : 1;
}

void tract_average_update(struct tract_average *a, float *e, const float *v, size_t n)
{
    const double share = tract_average_share(a);
    const float d = (float)share;
    if (a->n == 1) {
        memcpy(e, v, n * sizeof *e);
        return;
    }
#pragma omp parallel for simd schedule(static)
    for (size_t i = 0; i < n; i++)
        e[i] += d * (v[i] - e[i]);
}

double tract_momentum(double residual, uint64_t n_steps)
{
    assert(residual > 0 && residual < 1 && n_steps > 0);
    return exp(log(residual) / (double)n_steps);
}
