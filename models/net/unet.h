/* SPDX-License-Identifier: Apache-2.0
 *
 * unet.h - a denoiser: noisy image and time in, an image of the same size out. Two bodies:
 *
 *   UNET_IMAGE   the U-Net of TRACT's official code (Berthelot et al. 2023, arXiv 2303.04248): residual blocks
 *                with group norm, swish and a time-dependent scale and shift, attention at chosen levels, 2x2
 *                mean down, nearest neighbour up, every output of the way down handed to the way up. Its
 *                published sizes are 60.004 M parameters for CIFAR-10 and 295.9 M for ImageNet-64.
 *   UNET_POINTS  a plain multi-layer perceptron for data of a few numbers: n_blocks layers of base units with
 *                swish, on (x, sine and cosine of 8 octaves of the angle, class).
 *
 * Time enters as the angle phi of the noise level (signal cos phi, noise sin phi, phi in (0, pi/2)), which is
 * atan(exp(-log-SNR/2)); the U-Net embeds 1000 phi/(pi/2) in sines and cosines.
 *
 * Weights are not the network's own: forward and backward take them as one block of unet_count() numbers, so
 * that one set of activations serves a student, its averages and its teacher in turn. A block holds the
 * tensors of unet_tensors() one after the other. Layout of images [n,h,w,c]; convolution kernels [kh,kw,c,k].
 *
 * The bodies are written in `unet_real`, float in the program; a test builds the very same files in double
 * (UNET_DOUBLE) and holds them against finite differences.
 *
 * Sizes are planned and allocated by unet_create; no later call allocates. Threads: one user at a time, OpenMP
 * inside; sums are formed per image and added in their order, so results do not depend on the thread count. */
#ifndef AM_UNET_H
#define AM_UNET_H

#include "models/base/err.h"
#include <stddef.h>
#include <stdint.h>

#ifdef UNET_DOUBLE
typedef double unet_real;
#else
typedef float unet_real;
#endif

enum { UNET_MAX_LEVELS = 6, UNET_MAX_SIZE = 256 };
enum unet_kind { UNET_IMAGE, UNET_POINTS };

struct unet_config {
    enum unet_kind kind;
    int size;                        /* pixels a side, a multiple of 2^(n_levels-1); UNET_POINTS: 1 */
    int c_in, c_out;                 /* channels; UNET_POINTS: numbers */
    int n_classes;                   /* 0: not told what it shows */
    int base;                        /* channels of level 0, even; UNET_POINTS: hidden units */
    int embed;                       /* width of the time embedding */
    int n_levels;                    /* 1..UNET_MAX_LEVELS */
    int multiplier[UNET_MAX_LEVELS]; /* channels of level l = base * multiplier[l] */
    int n_blocks;                    /* residual blocks a level; UNET_POINTS: hidden layers */
    unsigned attention;              /* bit l: blocks of level l attend */
    int groups;                      /* of the group norm; divides all channel counts */
    int head_width;                  /* channels an attention head; 0: one head */
};

/* ERR_USAGE says which field is impossible. */
bool unet_config_check(const struct unet_config *c, struct err *e);
/* Numbers of all tensors; 0 for a configuration that unet_config_check() refuses. */
size_t unet_count(const struct unet_config *c);

struct unet_tensor {
    char name[48]; /* "down0.block1.conv2.kernel" */
    int n_dims, dims[4];
    size_t start, count; /* in the block of weights */
    double limit;        /* starts uniform in +-limit, or as `fill` when 0 */
    double fill;
};

struct unet;
/* train: room for gradients as well. NULL with ERR_USAGE or ERR_RESOURCE. */
struct unet *unet_create(const struct unet_config *c, int max_batch, bool train, struct err *e);
void unet_free(struct unet *u); /* accepts NULL */
const struct unet_config *unet_get_config(const struct unet *u);
size_t unet_bytes(const struct unet *u);
const struct unet_tensor *unet_tensors(const struct unet *u, int *n);

/* Variance-scaling uniform, fan average, scale 1; 1e-10 where a branch starts silent; biases 0. A pure function
 * of the seed. values [unet_count]. */
void unet_init(const struct unet *u, uint64_t seed, unet_real *values);

/* x [n,size,size,c_in], angle [n], label [n] (NULL or -1: no class) -> [n,size,size,c_out], the network's own
 * until the next call. n <= max_batch. */
const unet_real *unet_forward(struct unet *u, const unet_real *values, const unet_real *x,
                              const double *angle, const int *label, int n);
/* Gradient by the output of the last forward (same values, same n) -> grads [unet_count], overwritten. dx: NULL
 * or [n,size,size,c_in]. Needs `train`. */
void unet_backward(struct unet *u, const unet_real *values, const unet_real *dy, unet_real *grads,
                   unet_real *dx);

#endif
