/* SPDX-License-Identifier: Apache-2.0
 *
 * int8.h - convolutions on 8-bit integers, for inference only: unsigned activations times signed weights,
 * summed exactly in 32 bits, then one float epilogue per output (scale, bias, residual, batch norm + leaky
 * ReLU, rounding to the next layer's 8 bits). Fast bodies use the CPU's four-way dot product (vpdpbusd:
 * AVX512-VNNI or AVX-VNNI); the plain body is their oracle and gives the same bits, because sums of integers
 * have no order and every float operation of the epilogue is one correctly rounded step (products are added
 * by fma) in all bodies.
 *
 * Layout: one image at a time, [h+2][w+2][c] bytes with a border of one pixel on every side that holds the
 * tensor's zero point: a zero activation, as "SAME" padding wants. c a multiple of 4, k of 16.
 *
 * Rounding: q = trunc(clamp(v + zero + 0.5, 0, 255)).
 *
 * Threads: every call runs on the calling thread alone; images go to threads in the layer above. */
#ifndef AM_INT8_H
#define AM_INT8_H

#include "models/kernels/kernels.h"
#include <stdint.h>

struct int8_shape {
    int h, w; /* of the input, without border */
    int c, k;
    int ksize;  /* 1 or 3 */
    int stride; /* 1, or 2 on even sizes; 1x1 kernels take 1 (pick pixels while quantizing) */
};

/* What becomes of acc[k], the integer sum at one pixel:
 *
 *   y = fma(acc, mul[k], add[k]) (+ residual);   stored in `out` if given
 *   z = scale ? fma(y, scale[k], shift[k]) : y;  z = leaky ReLU(z)
 *   q = z in 8 bits with `zero` as zero point;   stored in `q` if given */
struct int8_epilogue {
    const float *mul, *add;     /* [k] */
    const float *residual;      /* NULL or [oh,ow,k], may equal out */
    float *out;                 /* NULL or [oh,ow,k] */
    const float *scale, *shift; /* NULL or [k] */
    float zero;                 /* 0..255, whole */
    uint8_t *q;                 /* NULL or [oh+2][ow+2][k]; the border is written too */
};

/* Whether this CPU has a fast body at the level that kernels_init() chose. */
bool int8_is_fast(void);
const char *int8_name(void); /* "avx512vnni", "avxvnni" or "plain" */

/* Weights [kh,kw,c,k] to panels of 32 (the last perhaps 16) output channels: [panel][tap][c/4][width][4]. */
void int8_pack(const struct int8_shape *s, const int8_t *w, int8_t *packed); /* kh*kw*c*k bytes, both */

void int8_conv(const struct int8_shape *s, const uint8_t *x, const int8_t *packed,
               const struct int8_epilogue *e);

/* x [h,w,c] float to [h/pick+2][w/pick+2][c] bytes: every pick-th pixel each way, fma(x, scale[c], shift[c]),
 * leaky ReLU when asked, rounding as above. */
void int8_quantize(const float *x, int h, int w, int c, int pick, const float *scale, const float *shift,
                   bool leaky, float zero, uint8_t *q);

/* Private to kernels/: kernels_init()'s choice of a body, and the bodies. */
void int8_init(void);

struct int8_body {
    void (*conv)(const struct int8_shape *s, const uint8_t *x, const int8_t *packed,
                 const struct int8_epilogue *e);
    void (*quantize)(const float *x, int h, int w, int c, int pick, const float *scale, const float *shift,
                     bool leaky, float zero, uint8_t *q);
};

extern const struct int8_body int8_plain, int8_avxvnni, int8_avx512vnni;

#endif
