/* SPDX-License-Identifier: Apache-2.0
 *
 * tract.h - diffusion models that sample in one or two network calls: a many-step teacher, and its distillation
 * by TRACT (Berthelot, Autef, Lin, Yap, Zhai, Hu, Zheng, Talbott, Gu: "TRACT: Denoising Diffusion Models with
 * Transitive Closure Time-Distillation", 2023, arXiv 2303.04248) or by binary time distillation (BTD;
 * progressive distillation of Salimans & Ho, ICLR 2022).
 *
 * Steps are whole numbers t in 0..T. Noise levels are angles, phi(t) = a t/T + b: x_t = cos(phi) x_0 +
 * sin(phi) noise, log-SNR -2 ln tan(phi) from +20 at t = 0 to -20 at t = T. In angles each formula of DDIM is a
 * rotation, and nothing cancels near t = 0:
 *
 *   step    delta(x^; x_t, t, s) = x_t sin(phi_s)/sin(phi_t) + x^ sin(phi_t - phi_s)/sin(phi_t)
 *   target  T(x_t, x_s; t, s)    = (x_s sin(phi_t) - x_t sin(phi_s)) / sin(phi_t - phi_s)
 *
 * T undoes the step: it is the prediction that carries x_t to x_s at once. TRACT learns, from any t inside a
 * group that ends at s, T of one step of the teacher followed by one jump to s of the student's own average
 * (the self-teacher). Where the teacher's step ends at s the target is the teacher's own prediction; by
 * induction along the group the fixed point is all of the teacher's steps in one. BTD is the case of groups of
 * two steps, trained at their tops only, whose second step is the teacher's as well.
 *
 * All of this algebra is in double; only networks compute in float. Predictions are clipped to [-1,1] inside a
 * step, the student's output and the target are not. One departure: the official BTD code clips nothing while
 * it trains and takes the teacher's half-way prediction as target in the group that ends at 0; here BTD is the
 * special case of the same formulas.
 *
 * Ownership and threads: plain records; functions keep nothing. A run (tract_create) belongs to one thread,
 * with OpenMP inside; what it computes depends on configuration, data and seed alone. */
#ifndef AM_TRACT_H
#define AM_TRACT_H

#include "models/base/progress.h"
#include "models/base/rng.h"
#include "models/net/checkpoint.h"
#include "models/net/unet.h"

/* ---- the schedule and its algebra (tract.c) ---- */

enum { TRACT_MAX_STEPS = 1 << 16, TRACT_MAX_PHASES = 16 };

struct tract_schedule {
    int n_steps; /* T */
    double a, b; /* the angle of t is a t/T + b */
};

struct tract_schedule tract_schedule_make(int n_steps);
double tract_angle(const struct tract_schedule *s, int t);
double tract_gamma(const struct tract_schedule *s, int t);   /* the signal's share cos^2 */
double tract_log_snr(const struct tract_schedule *s, int t); /* -2 ln tan */
/* Weight of an example in the loss: max(gamma/(1-gamma), 1), at most cap (0: no cap). */
double tract_weight(const struct tract_schedule *s, int t, double cap);

/* x_t of n numbers -> x_s; from x_hat as it is. x_s may be x_t or x_hat. */
void tract_step(const struct tract_schedule *s, int t, int to, const double *x_hat, const double *x_t,
                size_t n, double *x_s);
/* The prediction that carries x_t to x_s. y may be either. s < t. */
void tract_invert(const struct tract_schedule *s, int t, int to, const double *x_t, const double *x_s,
                  size_t n, double *y);

/* Who predicts x_0: x [n,d], t [n] in 1..T, label [n] or NULL -> x_hat [n,d] (not x). */
struct tract_predictor {
    void (*predict)(void *ctx, const double *x, const int *t, const int *label, int n, double *x_hat);
    void *ctx;
};

/* One phase: the teacher takes steps of `step`, the student learns jumps of `group`, a multiple of it. */
struct tract_phase {
    int step, group;
    bool tops_only; /* BTD: from the top of a group alone, and both steps by the teacher */
};

/* Where one example starts, where the teacher's step ends, where the group ends: t > mid >= bottom >= 0. */
struct tract_place {
    int t, mid, bottom;
};

struct tract_place tract_place_draw(const struct tract_schedule *s, const struct tract_phase *p,
                                    struct rng *r);

/* Targets of n examples x_t [n,d] at place [n]. self: the self-teacher, or for BTD the teacher. work holds
 * tract_target_work(n, d) doubles. */
size_t tract_target_work(int n, size_t d);
void tract_targets(const struct tract_schedule *s, const struct tract_place *place,
                   const struct tract_predictor *teacher, const struct tract_predictor *self,
                   const double *x_t, const int *label, int n, size_t d, bool clip, double *work,
                   double *target);

/* Noise x [n,d] at T -> samples, in place, in n_steps equal steps (a divisor of T). work: [n,d]. */
void tract_sample(const struct tract_schedule *s, const struct tract_predictor *p, int n_steps, double *x,
                  const int *label, int n, size_t d, bool clip, double *work);

/* Average e of values v with bias correction: the first update copies v. Returns the share (1-m)/(1-m^i) by
 * which e goes towards v at update i, and counts it. */
struct tract_average {
    double momentum;
    uint64_t n; /* updates so far */
};
double tract_average_share(struct tract_average *a);
void tract_average_update(struct tract_average *a, float *e, const float *v, size_t n);
/* Momentum that leaves `residual` of the start after n_steps. */
double tract_momentum(double residual, uint64_t n_steps);

/* ---- a run (tract_train.c, tract_file.c) ---- */

enum tract_method { TRACT_TEACHER, TRACT_DISTILL, TRACT_BTD };

/* Where images come from: item `index` of the endless stream of `seed` -> x [d] in about [-1,1], label. Called
 * by several threads at once. */
struct tract_data {
    void (*draw)(void *ctx, uint64_t seed, uint64_t index, float *x, int *label);
    void *ctx;
};

struct tract_config {
    enum tract_method method;
    struct unet_config net;
    int n_steps; /* T */
    int n_plan,
        plan[TRACT_MAX_PHASES + 1]; /* distilling: T = plan[0] > plan[1] > ...; each divides the last */
    uint64_t n_updates;             /* of the whole run, all phases */
    int batch;
    double lr, clip_norm; /* 1; 0: no clipping of the gradient */
    double cap;           /* of the weight; 0: none */
    double self_momentum; /* 0.5 */
    double residual;      /* 1e-3: what the evaluation average keeps of a phase's start */
    bool restart_average; /* at each phase the evaluation average starts to count anew */
    bool no_clip;         /* predictions are not clipped to [-1,1] */
    uint64_t seed;
};

/* Published values where there are any; net is left to the caller. */
void tract_config_defaults(struct tract_config *c, enum tract_method method);
bool tract_config_check(const struct tract_config *c, struct err *e); /* ERR_USAGE */
/* "1024,32,1" -> plan; ERR_USAGE says what a plan looks like. */
bool tract_plan_parse(struct tract_config *c, const char *text, struct err *e);
const char *tract_method_name(enum tract_method m); /* "teacher", "tract", "btd" */

struct tract_run;
/* A new run. Distilling starts from `teacher`: weights [unet_count(net)]. NULL on ERR_USAGE, ERR_RESOURCE. */
struct tract_run *tract_create(const struct tract_config *c, const float *teacher, struct err *e);
void tract_free(struct tract_run *r); /* accepts NULL */
const struct tract_config *tract_get_config(const struct tract_run *r);
uint64_t tract_updates_done(const struct tract_run *r);
const float *tract_average_weights(const struct tract_run *r); /* the evaluation average */
double tract_loss(const struct tract_run *r); /* mean over the last updates, per number of an image */

/* Goes on until n_updates are done, or for at most `at_most` of them (0: no limit). false: ERR_INTERRUPTED, or
 * ERR_RUNTIME when the loss is no number any more. Either way the run is whole and may be saved. */
bool tract_train(struct tract_run *r, const struct tract_data *data, uint64_t at_most,
                 const struct progress *progress, struct err *e);

/* One file = one resumable point: net.* student, ema.* evaluation average, opt.*, and when distilling teacher.*
 * and self.*. extra: metadata of the caller. */
bool tract_save(const struct tract_run *r, const char *path, const struct checkpoint_meta *extra, int n_extra,
                struct err *e);
/* Takes up a run where its file left it. NULL with ERR_MODEL when the file is none or of other settings. */
struct tract_run *tract_resume(const char *path, const struct tract_config *expected, struct err *e);

/* ---- a finished model (tract_file.c) ---- */

struct tract_model {
    struct tract_config config;
    float *weights;          /* [unet_count(config.net)]: the evaluation average; owned */
    int phase;               /* that its run was in */
    struct checkpoint *file; /* for the caller's own metadata; owned */
};
bool tract_model_open(struct tract_model *m, const char *path, struct err *e);
void tract_model_close(struct tract_model *m); /* accepts a zeroed record */
/* Number of network calls a sample takes by default: what the file's phase teaches; of a teacher the largest
 * divisor of T up to 64. */
int tract_model_calls(const struct tract_model *m);

/* A network as a predictor; borrows weights. */
struct tract_denoiser {
    struct unet *net;
    const float *weights;
    struct tract_schedule schedule;
    float *x;      /* [max_batch,d] */
    double *angle; /* [max_batch] */
    int max_batch;
};
bool tract_denoiser_open(struct tract_denoiser *d, const struct unet_config *net, int n_steps, int max_batch,
                         const float *weights, struct err *e);
void tract_denoiser_close(struct tract_denoiser *d); /* accepts a zeroed record */
struct tract_predictor tract_denoiser_predictor(struct tract_denoiser *d);
/* Samples number first..first+n-1 of `seed` in n_calls calls: a sample depends on its number alone.
 * x [n, size*size*c]; label [n] or NULL. */
bool tract_generate(struct tract_denoiser *d, int n_calls, bool clip, uint64_t seed, uint64_t first, int n,
                    const int *label, double *x, const struct progress *progress, struct err *e);

#endif
