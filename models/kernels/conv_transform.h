/* SPDX-License-Identifier: Apache-2.0
 *
 * conv_transform.h - the small matrices of Winograd's F(4x4,3x3) on vectors of channels. Private to kernels/.
 *
 * Source: A. Lavin, S. Gray, "Fast algorithms for convolutional neural networks", CVPR 2016, section 4.3,
 * with the points 0, 1, -1, 2, -2 and infinity. With B [6x6], G [6x3], A [6x4]:
 *
 * - output: y = A' [ (G g G') . (B' d B) ] A, with d [6x6] the input tile and y [4x4];
 * - weight gradient: dg = G' [ (A dy A') . (B' d B) ] G, the transpose of the same bilinear form;
 * - data gradient: the forward form with the kernel turned by 180 degrees and its channels exchanged.
 *
 * Each matrix acts on the columns, then on the rows; a function below is one such step and writes its results
 * `step` vectors apart. */
#ifndef AM_CONV_TRANSFORM_H
#define AM_CONV_TRANSFORM_H

#include "models/kernels/vec.h"

/* B' d: 6 -> 6 */
INLINE void wino_b(const vf d[6], vf *o, const int step)
{
    vf p = d[4] - 4.0f * d[2], q = d[3] - 4.0f * d[1], r = d[4] - d[2], s = 2.0f * (d[3] - d[1]);
    o[0] = 4.0f * d[0] - 5.0f * d[2] + d[4];
    o[step] = p + q;
    o[2 * step] = p - q;
    o[3 * step] = r + s;
    o[4 * step] = r - s;
    o[5 * step] = 4.0f * d[1] - 5.0f * d[3] + d[5];
}

/* A' m: 6 -> 4 */
INLINE void wino_at(const vf m[6], vf *o, const int step)
{
    vf p = m[1] + m[2], q = m[1] - m[2], r = m[3] + m[4], s = m[3] - m[4];
    o[0] = m[0] + p + r;
    o[step] = q + 2.0f * s;
    o[2 * step] = p + 4.0f * r;
    o[3 * step] = q + 8.0f * s + m[5];
}

/* A y: 4 -> 6 */
INLINE void wino_a(const vf y[4], vf *o, const int step)
{
    vf p = y[0] + y[2], q = y[1] + y[3], r = y[0] + 4.0f * y[2], s = 2.0f * y[1] + 8.0f * y[3];
    o[0] = y[0];
    o[step] = p + q;
    o[2 * step] = p - q;
    o[3 * step] = r + s;
    o[4 * step] = r - s;
    o[5 * step] = y[3];
}

/* G g: 3 -> 6 */
INLINE void wino_g(const vf g[3], vf *o, const int step)
{
    vf even = (1.0f / 24) * g[0] + (1.0f / 6) * g[2], sum = (-1.0f / 6) * (g[0] + g[2]);
    o[0] = 0.25f * g[0];
    o[step] = sum - (1.0f / 6) * g[1];
    o[2 * step] = sum + (1.0f / 6) * g[1];
    o[3 * step] = even + (1.0f / 12) * g[1];
    o[4 * step] = even - (1.0f / 12) * g[1];
    o[5 * step] = g[2];
}

/* G' u: 6 -> 3 */
INLINE void wino_gt(const vf u[6], vf *o, const int step)
{
    vf p = u[1] + u[2], r = u[3] + u[4];
    o[0] = 0.25f * u[0] - (1.0f / 6) * p + (1.0f / 24) * r;
    o[step] = (1.0f / 6) * (u[2] - u[1]) + (1.0f / 12) * (u[3] - u[4]);
    o[2 * step] = (1.0f / 6) * (r - p) + u[5];
}

#endif
