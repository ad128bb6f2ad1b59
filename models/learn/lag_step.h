/* SPDX-License-Identifier: Apache-2.0
 *
 * lag_step.h - the losses of the Latent Adversarial Generator on one batch, and their gradients by the raw weights
 * of both networks (Berthelot, Milanfar, Goodfellow 2020, arXiv 2003.02365; formulas as its official code has
 * them). P is the critic's features times fixed signs, - on even channels, + on odd; r is part of the critic
 * (lagnet.h).
 *
 *   L_D = -mean P(x) + mean P(G(y,z)) + 10 mean_batch (|grad| - 1)^2
 *   L_G = -mean P(G(y,z)) + 10 mean (P(x) - P(G(y,0)))^2
 *   grad by the full-size pixels of x~ = x + u (G(y,z) - x), of sum over positions, mean over channels, of P(x~),
 *        through the image and through the residual; |grad| = sqrt(mean grad^2 + 1e-8)
 *
 * At a stage below the last the critic sees x~ shrunk by n, so a full-size pixel's derivative is 1/n^2 of a shrunk
 * one's. L_D is multiplied by `ttur`, as in the code; Adam does not notice (it is scale-free).
 *
 * The penalty's gradient takes two passes more (lagnet_tangent): with c = 10 d(|grad|-1)^2/dgrad held, the derivative
 * of c.grad by the weights is that of the critic's tangent along c.
 *
 * Written in unet_real, so that a test builds it in double and holds it against finite differences. A step is one
 * user's at a time; nothing is allocated after lag_step_open. */
#ifndef AM_LAG_STEP_H
#define AM_LAG_STEP_H

#include "models/net/lagnet.h"

#define LAG_PENALTY 10.0
#define LAG_LATENT 10.0

struct lag_step {
    struct lagnet_config net;
    int stage, batch;
    struct lagnet *g, *d;
    size_t image, small, latent, features; /* numbers of an image, of y, of z, of P */
    unet_real *input;                      /* [2 batch] of y and z: z drawn, then 0 */
    unet_real *made;                       /* [2 batch] images: G(y,z), G(y,0) */
    unet_real *seen, *told, *seed;         /* [2 batch] of a critic's pass */
    unet_real *real;                       /* [batch] features of x */
    unet_real *dx, *dmade;                 /* [2 batch] images */
    unet_real *spare;                      /* gradients of the critic that are added or dropped */
    size_t n_spare;
};

struct lag_losses {
    double real, fake; /* mean P(x), mean P(G(y,z)) */
    double norm;       /* mean |grad| */
    double penalty;    /* mean (|grad| - 1)^2 */
    double latent;     /* mean (P(x) - P(G(y,0)))^2 */
};

bool lag_step_open(struct lag_step *s, const struct lagnet_config *net, int stage, int batch, struct err *e);
void lag_step_close(struct lag_step *s); /* accepts a zeroed record */
size_t lag_step_bytes(const struct lag_step *s);

/* x [batch] images of the stage, y [batch,size,size,n_colors], z [batch,size,size,n_noise], u [batch] -> gradients of
 * L_G and ttur L_D by the front parts of the weights that belong to the stage. */
void lag_step_run(struct lag_step *s, const unet_real *g_values, const unet_real *d_values,
                  const unet_real *x, const unet_real *y, const unet_real *z, const unet_real *u,
                  double alpha, double ttur, unet_real *g_grads, unet_real *d_grads,
                  struct lag_losses *losses);

/* -1 on even channels, +1 on odd. */
static inline double lag_sign(size_t channel)
{
    return channel & 1 ? 1 : -1;
}

/* x [size,size,c], size even -> means of 2x2 pixels [size/2,size/2,c]; y may be x. */
void lag_halve(const unet_real *x, int size, int c, unet_real *y);
/* In place: x becomes (its halves enlarged) + alpha (x - them), what a network fades in. work: a quarter of x. */
void lag_fade(unet_real *x, int size, int c, double alpha, unet_real *work);

#endif
