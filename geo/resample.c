/* SPDX-License-Identifier: Apache-2.0
 *
 * resample.c - values between the pixels of a patch. Declared in resample.h.
 *
 * GDAL's warper spends 55-95 ns on a pixel of three bands because it asks a transformer, a mask and a kernel anew for
 * each; along a row of the grid the place in the source moves in equal steps, so that here a pixel is two truncations,
 * four reads and three multiplications a band. Each body exists once and is compiled for each sample type.
 *
 * Places are computed in double, values in float. One thread; no state. */
#include "geo/resample.h"

#include <assert.h>
#include <float.h>
#include <math.h>

/* Two places that differ by rounding alone must fall into the same pixel; GDAL's own allowance. */
static const double nudge = 1e-10;

#define INLINE static inline __attribute__((always_inline))

INLINE float load(const void *px, GDALDataType type, size_t i)
{
    return type == GDT_Byte     ? (float)((const uint8_t *)px)[i]
           : type == GDT_UInt16 ? (float)((const uint16_t *)px)[i]
           : type == GDT_Int16  ? (float)((const int16_t *)px)[i]
                                : ((const float *)px)[i];
}

/* floor() of what is above -4; the library's is a call on a CPU of the baseline. */
INLINE int floor_int(double v)
{
    return (int)(v + 4) - 4;
}

/* Whether the pixel that (x, y) falls into has data. */
INLINE bool is_seen(const struct resample_patch *p, double x, double y)
{
    if (!(x >= 0 && y >= 0 && x + nudge <= p->width && y + nudge <= p->height))
        return false;
    if (!p->state)
        return true;
    int c = floor_int(x + nudge), r = floor_int(y + nudge);
    c = (c < p->width ? c : p->width - 1) - p->x;
    r = (r < p->height ? r : p->height - 1) - p->y;
    assert(c >= 0 && r >= 0 && c < p->w && r < p->h);
    return p->state[(size_t)r * (size_t)p->w + (size_t)c] == RESAMPLE_DATA;
}

/* The triangle's weights of the pixels first .. first + taps - 1 for a place at v; 0 outside the patch, which is to say
 * outside the image. */
INLINE int weigh(double v, double reach, int low, int size, int *first, float *weight)
{
    int taps = 2 * (int)ceil(reach), start = floor_int(v - 0.5) - taps / 2 + 1;
    *first = start - low;
    for (int i = 0; i < taps; i++) {
        double w = 1 - fabs(start + i + 0.5 - v) / reach;
        weight[i] = w > 0 && start + i >= low && start + i < low + size ? (float)w : 0;
    }
    return taps;
}

/* Any kernel, blank pixels, the image's edge. False when nothing weighs. */
INLINE bool weighted(const struct resample_patch *p, const struct resample_kernel *k, GDALDataType type,
                     double x, double y, int n, float *out)
{
    float wx[RESAMPLE_MAX_TAPS], wy[RESAMPLE_MAX_TAPS], total = 0, sum[32] = {0};
    const size_t plane = (size_t)p->w * (size_t)p->h;
    int c0, r0, nx = weigh(x, k->reach_x, p->x, p->w, &c0, wx),
                ny = weigh(y, k->reach_y, p->y, p->h, &r0, wy);
    for (int r = 0; r < ny; r++) {
        if (!(wy[r] > 0))
            continue;
        const size_t row = (size_t)(r0 + r) * (size_t)p->w;
        for (int c = 0; c < nx; c++) {
            if (!(wx[c] > 0))
                continue;
            const size_t at = row + (size_t)(c0 + c);
            if (p->state && p->state[at] == RESAMPLE_BLANK)
                continue;
            const float w = wx[c] * wy[r];
            total += w;
            for (int b = 0; b < p->n_bands; b++)
                sum[b] += w * load(p->px, type, (size_t)b * plane + at);
        }
    }
    if (!(total > 1e-5F))
        return false;
    for (int b = 0; b < p->n_bands; b++)
        out[(size_t)b * (size_t)n] = sum[b] / total;
    return true;
}

INLINE void run(const struct resample_patch *p, const struct resample_kernel *k, GDALDataType type, double x0,
                double dx, double y0, double dy, int n, float *out, uint8_t *has)
{
    const size_t plane = (size_t)p->w * (size_t)p->h, w = (size_t)p->w;
    const bool narrow = k->reach_x == 1 && k->reach_y == 1;
    const int n_bands = p->n_bands;
    for (int i = 0; i < n; i++) {
        const double x = x0 + i * dx, y = y0 + i * dy;
        has[i] = is_seen(p, x, y);
        if (has[i]) {
            const int c = floor_int(x - 0.5) - p->x, r = floor_int(y - 0.5) - p->y;
            const size_t at = (size_t)r * w + (size_t)c; /* used only where c and r are inside */
            bool whole = narrow && c >= 0 && r >= 0 && c + 1 < p->w && r + 1 < p->h;
            if (whole && p->state)
                whole = p->state[at] && p->state[at + 1] && p->state[at + w] && p->state[at + w + 1];
            if (whole) {
                const float fx = (float)(x - 0.5 - (c + p->x)), fy = (float)(y - 0.5 - (r + p->y));
                for (int b = 0; b < n_bands; b++) {
                    const size_t j = (size_t)b * plane + at;
                    const float a = load(p->px, type, j), a1 = load(p->px, type, j + 1);
                    const float d = load(p->px, type, j + w), d1 = load(p->px, type, j + w + 1);
                    const float top = a + fx * (a1 - a), low = d + fx * (d1 - d);
                    out[(size_t)b * (size_t)n + (size_t)i] = top + fy * (low - top);
                }
            } else {
                has[i] = weighted(p, k, type, x, y, n, out + i);
            }
        }
        for (int b = 0; type == GDT_Float32 && b < n_bands && has[i]; b++)
            has[i] = isfinite(out[(size_t)b * (size_t)n + (size_t)i]) != 0;
        for (int b = 0; !has[i] && b < n_bands; b++)
            out[(size_t)b * (size_t)n + (size_t)i] = 0;
    }
}

void resample_run(const struct resample_patch *p, const struct resample_kernel *k, double x, double dx,
                  double y, double dy, int n, float *out, uint8_t *has)
{
    assert(p->n_bands <= 32 && k->reach_x >= 1 && k->reach_y >= 1);
    assert(k->reach_x <= RESAMPLE_MAX_TAPS / 2 && k->reach_y <= RESAMPLE_MAX_TAPS / 2);
    switch (p->type) {
    case GDT_Byte:
        run(p, k, GDT_Byte, x, dx, y, dy, n, out, has);
        break;
    case GDT_UInt16:
        run(p, k, GDT_UInt16, x, dx, y, dy, n, out, has);
        break;
    case GDT_Int16:
        run(p, k, GDT_Int16, x, dx, y, dy, n, out, has);
        break;
    default:
        assert(p->type == GDT_Float32);
        run(p, k, GDT_Float32, x, dx, y, dy, n, out, has);
    }
}

/* Equal as GDAL sees it: to two units in the last place, as a nodata value written in decimals may be off by that. */
INLINE bool is_nodata(float v, float nodata, GDALDataType type)
{
    if (type != GDT_Float32)
        return v == nodata;
    return isnan(nodata) ? isnan(v) : v == nodata || fabsf(v - nodata) < FLT_EPSILON * fabsf(v + nodata) * 2;
}

INLINE bool mark(const void *px, GDALDataType type, int n_bands, size_t stride, size_t n,
                 const double *nodata, uint8_t *state)
{
    const float first = (float)nodata[0];
    bool any = false;
    for (size_t i = 0; i < n; i++) {
        if (!is_nodata(load(px, type, i), first, type))
            continue;
        bool blank = true;
        for (int b = 1; blank && b < n_bands; b++)
            blank = is_nodata(load(px, type, (size_t)b * stride + i), (float)nodata[b], type);
        if (blank) {
            state[i] = RESAMPLE_BLANK;
            any = true;
        }
    }
    return any;
}

bool resample_mark_blank(const void *px, GDALDataType type, int n_bands, size_t stride, size_t n,
                         const double *nodata, uint8_t *state)
{
    switch (type) {
    case GDT_Byte:
        return mark(px, GDT_Byte, n_bands, stride, n, nodata, state);
    case GDT_UInt16:
        return mark(px, GDT_UInt16, n_bands, stride, n, nodata, state);
    case GDT_Int16:
        return mark(px, GDT_Int16, n_bands, stride, n, nodata, state);
    default:
        assert(type == GDT_Float32);
        return mark(px, GDT_Float32, n_bands, stride, n, nodata, state);
    }
}
