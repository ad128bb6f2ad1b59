/* SPDX-License-Identifier: Apache-2.0
 *
 * lag.h - the Latent Adversarial Generator: many plausible large images of one small image (Berthelot, Milanfar,
 * Goodfellow: "Creating High Resolution Images with a Latent Adversarial Generator", 2020, arXiv 2003.02365).
 * x = G(y,z): y the small image, z ~ N(0,1) the variety, z = 0 the centre. No loss looks at pixels; closeness to y
 * is what the critic's features say (lag_step.h).
 *
 * A run grows its networks (lagnet.h): for s = 1..L-1 a phase at stage s and one that fades stage s+1 in, then one at
 * L; all of one length but the last, which has `last` lengths (1 in the paper). Images are shrunk by 2x2 means to the
 * stage, faded as the networks are, and y is made from them.
 *
 * Adam has beta1 = 0, beta2 = 0.99, and counts and moments of its own for the tensors of each stage, so that fresh
 * layers inherit none. The generator is judged by an average of its weights, momentum 0.999, with the bias of its
 * start corrected (the code does not: after its millions of images nothing is left of it; after our thousands there
 * would be). Departure beside it: residual branches are divided by their number, which is the code's 8 at its depth.
 *
 * Ownership and threads: plain records; a run belongs to one thread, with OpenMP inside; what it computes depends on
 * configuration, data and seed alone. */
#ifndef AM_LAG_H
#define AM_LAG_H

#include "models/base/progress.h"
#include "models/learn/lag_step.h"
#include "models/net/checkpoint.h"

/* Where images come from: item `index` of the endless stream of `seed` -> x [size << n_stages, same, n_colors] in
 * about [-1,1]. Called by several threads at once. */
struct lag_data {
    void (*draw)(void *ctx, uint64_t seed, uint64_t index, float *x);
    void *ctx;
};

struct lag_config {
    struct lagnet_config net;
    uint64_t n_updates; /* of the whole run */
    int batch;          /* 16 */
    int last;           /* length of the last phase in those of the others: 1 */
    double lr;          /* 1e-3 */
    double ttur;        /* multiplies the critic's loss: 4 */
    double momentum;    /* of the average: 0.999 */
    uint64_t seed;
};

void lag_config_defaults(
    struct lag_config *c); /* published values; net.size, n_stages, n_colors, n_updates 0 */
bool lag_config_check(const struct lag_config *c, struct err *e); /* ERR_USAGE */

/* Where a run stands after `done` updates: alpha is 1 but while a stage is faded in. */
struct lag_place {
    int stage;
    double alpha;
};
struct lag_place lag_place_at(const struct lag_config *c, uint64_t done);

struct lag_run;
struct lag_run *lag_create(const struct lag_config *c, struct err *e); /* NULL on ERR_USAGE, ERR_RESOURCE */
void lag_free(struct lag_run *r);                                      /* accepts NULL */
const struct lag_config *lag_get_config(const struct lag_run *r);
uint64_t lag_updates_done(const struct lag_run *r);
const struct lag_losses *lag_losses_of(const struct lag_run *r); /* means over the last updates */
size_t lag_weights(const struct lag_run *r);                     /* of both networks */

/* Goes on until n_updates are done, or for at most `at_most` of them (0: no limit). false: ERR_INTERRUPTED,
 * ERR_RESOURCE when a stage's networks do not fit, or ERR_RUNTIME when a loss is no number any more. The run is whole
 * and may be saved after the first two. */
bool lag_train(struct lag_run *r, const struct lag_data *data, uint64_t at_most,
               const struct progress *progress, struct err *e);

/* One file = one resumable point: net.g.*, net.d.*, ema.g.*, opt.g.*, opt.d.*. extra: metadata of the caller. */
bool lag_save(const struct lag_run *r, const char *path, const struct checkpoint_meta *extra, int n_extra,
              struct err *e);
/* Takes up a run where its file left it. NULL with ERR_MODEL when the file is none or of other settings. */
struct lag_run *lag_resume(const char *path, const struct lag_config *expected, struct err *e);

/* ---- a finished model (lag_file.c) ---- */

struct lag_model {
    struct lag_config config;
    float *weights[2];       /* the generator's average, the critic; owned */
    struct checkpoint *file; /* for the caller's own metadata; owned */
};
/* ERR_MODEL also for a run that is not finished: its last layers are raw. */
bool lag_model_open(struct lag_model *m, const char *path, struct err *e);
void lag_model_close(struct lag_model *m); /* accepts a zeroed record */

/* Images of one model, at most max_batch at a time. Borrows the model. */
struct lag_maker {
    const struct lag_model *model;
    struct lagnet *g, *d; /* d: NULL unless features are wanted */
    float *input;
    int max_batch;
};
bool lag_maker_open(struct lag_maker *k, const struct lag_model *m, int max_batch, bool features,
                    struct err *e);
void lag_maker_close(struct lag_maker *k); /* accepts a zeroed record */
/* y [n,size,size,n_colors], z [n,size,size,n_noise] or NULL (0: the centre) -> images, the maker's until its next
 * call. n <= max_batch. */
const float *lag_make(struct lag_maker *k, const float *y, const float *z, int n);
/* Their features P [n,size,size,width], likewise (signs left out: distances do not see them). */
const float *lag_features(struct lag_maker *k, const float *x, const float *y, int n);
/* The noise at a place of an image, a pure function of all arguments: z [n_noise]. row and column below 2^24. */
void lag_noise(uint64_t seed, uint32_t version, uint32_t row, uint32_t column, int n_noise, float *z);

/* ---- what the paper claims, measured (lag_measure.c) ---- */

/* Means over images; grey levels of 255. m = mean of the draws of one y. */
struct lag_measures {
    size_t n_images;
    int n_draws;
    double off_centre, off_draws; /* rms of y - down(G) at z = 0, and over draws */
    double sd;                    /* of a pixel over z */
    double rho;        /* |P(G(y,0)) - m| over the draws' rms distance to m, in the critic's features */
    double rho_pixels; /* the same of pixels */
    double nearest, nearest_pixels; /* share of images whose centre is nearer to m than each of the draws */
    double error_centre, error_draws,
        error_plain; /* rms to the true image: centre, draws, y's pixels enlarged */
};
/* x [n] true images -> measures; draws of seed. Works through them by the maker's batch, which must hold n_draws
 * images (asserted) and have features. */
bool lag_measure(struct lag_maker *k, const float *x, size_t n, int n_draws, uint64_t seed,
                 struct lag_measures *m, const struct progress *progress, struct err *e);

#endif
