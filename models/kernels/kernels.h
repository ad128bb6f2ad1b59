/* SPDX-License-Identifier: Apache-2.0
 *
 * kernels.h - the tight loops: convolution forward and backward with batch norm, leaky ReLU, residual sum and
 * channel statistics fused into their gathers and epilogues. Everything else in the engine is cheap beside
 * these.
 *
 * Layout: activations are NHWC float32, [n][h][w][c]; weights are [kh][kw][c][k]. Padding is TensorFlow's
 * "SAME": with kernel 3 and stride 1 one zero pixel on each side; with stride 2 on an even size zero pixels
 * before and one after. A zero pad stands for a zero *activation*, i.e. it is applied after the fused affine
 * + leaky ReLU.
 *
 * Fusion. Batch norm followed by leaky ReLU (slope 0.1) is never stored: `struct conv_act` holds its
 * per-channel scale and shift, applied while the convolution gathers its input. Only raw convolution outputs
 * are kept for backward. In backward the gradient of a conv's output is formed on the fly from the batch norm
 * above it (`struct conv_grad`).
 *
 * Rungs: "plain" (portable C, the oracle), "baseline" (generic vectors), "avx2", "avx512"; chosen once by
 * kernels_init() from the CPU or AFTERMAP_KERNELS=plain|baseline|avx2|avx512. 3x3 stride 1 runs as Winograd
 * F(4x4,3x3) (Lavin & Gray, CVPR 2016) unless AFTERMAP_CONV=direct. Channel counts that are no multiple of
 * the vector width fall to a slower body, never to an error.
 *
 * Determinism: work is cut into shards whose number depends on the shape only; partial sums are added in
 * shard order. Same inputs, same bits, whatever OMP_NUM_THREADS says. Threads: the functions use OpenMP
 * inside; call from one thread. */
#ifndef AM_KERNELS_H
#define AM_KERNELS_H

#include "models/base/err.h"
#include <stddef.h>

#define CONV_LRELU_SLOPE 0.1f

struct conv_shape {
    int n, h, w; /* input images, height, width */
    int c, k;    /* input and output channels */
    int ksize;   /* 1 or 3 */
    int stride;  /* 1 or 2; output is ceil(h/stride) x ceil(w/stride) */
};

/* Input as the convolution sees it: lrelu(scale[c]*x + shift[c]); scale == NULL means x itself. */
struct conv_act {
    const float *scale, *shift; /* [c] */
};

/* Gradient with respect to a convolution's raw output, formed while gathered, kept in `store` if given:
 *
 *     g = (dz ? a[k]*dz + b[k]*raw + c0[k] : 0) + (add ? add : 0)
 *
 * dz is the gradient at the output of the batch norm that reads this conv's output `raw`; a, b, c0 are that
 * batch norm's backward coefficients. With v = 1/sqrt(var+eps), M = n*h*w, S1 = sum dz and
 * S2 = v*(sum dz*raw - mean*S1):
 *
 *     a = gamma*v,   b = -a*v*S2/M,   c0 = -a*S1/M - b*mean
 *
 * `add` may equal `store`. All arrays [n,oh,ow,k].
 *
 * A 1x1 kernel of stride 2 reads one pixel in four, and the gradient of all others is zero. With `is_thin` its dx
 * (and extra) hold only those it reads, [n,oh,ow,c], without act. The convolution whose output it read takes them
 * as `thin` [n,ceil(oh/2),ceil(ow/2),k]: added at even rows and columns; goes with dz and store, without add. */
struct conv_grad {
    const float *dz, *raw, *a, *b, *c0;
    const float *add, *thin;
    float *store;
    bool is_thin;
};

struct conv_scratch; /* per-thread and per-shard buffers, sized for the largest of a set of shapes */

/* Picks the rung; safe to call again. ERR_USAGE when the environment names a rung this CPU or build lacks. */
bool kernels_init(struct err *e);
const char *kernels_rung(void);      /* "avx512" */
const char *kernels_conv_name(void); /* "winograd" or "direct" */
/* One sentence when OpenBLAS chose kernels far below this CPU (its 0.3.21 takes recent Intel servers for
 * "Prescott"), naming the OPENBLAS_CORETYPE to set; NULL when all is well. */
const char *kernels_blas_advice(void);

/* Scratch for every shape of a network; `backward` adds what conv_backward needs. NULL on ERR_RESOURCE. */
struct conv_scratch *conv_scratch_create(const struct conv_shape *shapes, int n_shapes, bool backward,
                                         struct err *e);
void conv_scratch_free(struct conv_scratch *s);
size_t conv_scratch_bytes(const struct conv_scratch *s);

/* One thread's part of a scratch made without `backward`, as a scratch of its own: a caller whose own parallel
 * region runs several layers a thread gives lane t < conv_scratch_lanes() to one thread at a time, and each
 * conv_forward on it stays on that thread. Borrowed; the whole must not be in use meanwhile. */
int conv_scratch_lanes(const struct conv_scratch *s);
struct conv_scratch *conv_scratch_lane(const struct conv_scratch *s, int t);

/* Weights brought into the form the chosen body reads (Winograd domain or packed tiles); call after each
 * weight change. conv_prepared_size is a count of floats. prepared is 64-byte aligned. */
size_t conv_prepared_size(const struct conv_shape *s);
void conv_prepare(const struct conv_shape *s, const float *w, float *prepared);

/* y = conv(act(x), w) + bias (+ residual). y, residual: [n,oh,ow,k]; residual may be NULL or equal y; bias
 * [k]. sums: NULL, or [2*k]: on return sum over n,oh,ow of y, then of y*y, per channel (batch statistics of
 * the next layer). */
void conv_forward(const struct conv_shape *s, const float *x, struct conv_act act, const float *prepared,
                  const float *bias, const float *residual, float *y, double *sums,
                  struct conv_scratch *scratch);

/* Backward of the above. dw [kh,kw,c,k] and dbias [k] are overwritten, or added to when `accumulate`.
 * dx: NULL (first layer), or [n,h,w,c]:
 *
 * - act given: dx = (conv_transpose(g) + extra) * lrelu'(scale*x+shift), i.e. the gradient at the batch
 * norm's output before activation; sums [2*c] then holds sum dx and sum dx*x per channel;
 * - act absent: dx = conv_transpose(g) + extra; sums unused.
 *
 * extra: NULL or [n,h,w,c]; may equal dx. dx overlaps none of x and g's arrays. w is the unprepared weights.
 */
void conv_backward(const struct conv_shape *s, const struct conv_grad *g, const float *x, struct conv_act act,
                   const float *w, float *dw, float *dbias, bool accumulate, float *dx, const float *extra,
                   double *sums, struct conv_scratch *scratch);

#endif
