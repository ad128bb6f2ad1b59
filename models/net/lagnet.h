/* SPDX-License-Identifier: Apache-2.0
 *
 * lagnet.h - the two networks of the Latent Adversarial Generator (Berthelot, Milanfar, Goodfellow 2020, arXiv
 * 2003.02365; sizes and order as its official code has them), made of the layers of unet.h.
 *
 *   generator  a small image y and noise z, side by side, -> an image 2^s times as large at stage s
 *   critic     an image of stage s and y -> features P of y's size; what it sees of y is the residual
 *              |y - mean of the image over 2^s x 2^s pixels|, in steps of 4 grey levels
 *
 * Both grow: stage s has one block of layers more than stage s-1, faded in by alpha from 0 (the network before,
 * its image enlarged) to 1. Weights of all stages are one block of numbers whose front part is stage s's, so that
 * growing moves nothing. The convolutions are equalised: weights start as N(0,1) and are multiplied at run time by
 * sqrt(2 / ((1 + a^2) 9 c)), a the slope of what follows (0, 0.2, or 1 when nothing does); callers see raw weights
 * and the gradients by them.
 *
 * Both are piecewise linear (leaky ReLU, means, the residual's absolute value). So the second derivative that a
 * penalty on the critic's gradient asks for needs no engine of its own: lagnet_tangent() pushes a direction v
 * through the layers with the slopes of the last forward, and lagnet_backward() after it returns the derivative of
 * that tangent by the weights, which is the mixed second derivative along v. Biases have none.
 *
 * Images are [n,h,w,c] in about [-1,1]. A lagnet is one user's at a time; OpenMP inside; results do not depend on
 * the thread count. In a test the same files are built in double (unet.h). */
#ifndef AM_LAGNET_H
#define AM_LAGNET_H

#include "models/net/unet.h"

enum { LAGNET_MAX_STAGES = 5, LAGNET_MAX_TENSORS = 160 };
enum lagnet_kind { LAGNET_GENERATOR, LAGNET_CRITIC };

#define LAGNET_STEP (4 / 127.5) /* what the residual is rounded to: 4 grey levels */
#define LAGNET_SLOPE 0.2        /* of the leaky ReLU */

struct lagnet_config {
    int size;     /* of y, pixels a side */
    int n_stages; /* the largest image is size * 2^n_stages; 1..LAGNET_MAX_STAGES */
    int n_colors; /* channels of images */
    int n_noise;  /* of z: 64 in the paper */
    int width;    /* channels at y's resolution: 256 */
    int narrow;   /* and at least this many further up: max(narrow, width >> s); 64 */
    int n_blocks; /* residual blocks of the generator, last layers of the critic: 8 */
};

void lagnet_config_defaults(struct lagnet_config *c); /* the paper's widths; size, stages, colours 0 */
bool lagnet_config_check(const struct lagnet_config *c, struct err *e); /* ERR_USAGE */
int lagnet_width(const struct lagnet_config *c, int stage);             /* channels at stage 0..n_stages */

struct lagnet;
/* For images of `stage` (1..n_stages). NULL with ERR_USAGE or ERR_RESOURCE. */
struct lagnet *lagnet_create(const struct lagnet_config *c, enum lagnet_kind kind, int stage, int max_batch,
                             bool train, struct err *e);
void lagnet_free(struct lagnet *n); /* accepts NULL */
size_t lagnet_bytes(const struct lagnet *n);

/* The tensors of all stages up to `stage` and where they lie in the block of weights; first[g] is where those
 * begin that came with stage g (1..stage), first[stage + 1] their end. tensor: room for LAGNET_MAX_TENSORS.
 * Returns their number; 0 for a configuration that is refused. */
int lagnet_list(const struct lagnet_config *c, enum lagnet_kind kind, int stage, struct unet_tensor *tensor,
                size_t first[LAGNET_MAX_STAGES + 2]);
/* All stages' raw weights, N(0,1), biases 0: a pure function of the seed. values [first[n_stages + 1]]. */
bool lagnet_init(const struct lagnet_config *c, enum lagnet_kind kind, uint64_t seed, unet_real *values,
                 struct err *e);

/* Takes raw weights into use until the next call (a copy). */
void lagnet_load(struct lagnet *n, const unet_real *values);
/* The generator's input is [n,size,size,n_colors + n_noise], y's channels first, and `y` NULL; the critic's is the
 * image, and y [n,size,size,n_colors]. -> the image, or features [n,size,size,width], the network's own until the
 * next call. alpha: how far the last stage is faded in; of no meaning at stage 1. */
const unet_real *lagnet_forward(struct lagnet *n, const unet_real *x, const unet_real *y, double alpha,
                                int count);
/* Gradient by the output of the last forward or tangent -> gradients by the raw weights of its stage, overwritten.
 * dx: NULL or of the size of x. */
void lagnet_backward(struct lagnet *n, const unet_real *dy, unet_real *grads, unet_real *dx);
/* The tangent of the last forward's output along v, of the size of x; y is held. A backward after it is valid for
 * the weights' gradients; the next forward ends it. */
const unet_real *lagnet_tangent(struct lagnet *n, const unet_real *v);

#endif
