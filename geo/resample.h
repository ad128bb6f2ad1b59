/* SPDX-License-Identifier: Apache-2.0
 *
 * resample.h - values between the pixels of an image patch in memory: the arithmetic of warp.c, without GDAL handles.
 *
 * The rules are those of GDAL's warper with bilinear sampling, so that a window read either way is the same: pixel
 * (c, r) has its centre at (c + 0.5, r + 0.5); the kernel is a triangle one pixel wide each side, or as much wider as
 * the source is finer than the grid; blank pixels and those beyond the image have no weight and the others are
 * scaled up to one; a place has data when the pixel it falls into has (alpha at least one half). */
#ifndef AM_RESAMPLE_H
#define AM_RESAMPLE_H

#include <gdal.h>
#include <stdbool.h>
#include <stdint.h>

enum { RESAMPLE_BLANK = 0, RESAMPLE_FAINT = 1, RESAMPLE_DATA = 2, RESAMPLE_MAX_TAPS = 256 };

/* Pixels [x, x+w) x [y, y+h) of an image of width x height. */
struct resample_patch {
    int x, y, w, h;
    int width, height;
    int n_bands;
    GDALDataType type;    /* Byte, UInt16, Int16 or Float32 */
    const void *px;       /* [bands,h,w] */
    const uint8_t *state; /* [h,w] blank; faint: weighs, but has no data at its place; data. NULL: all data */
};

/* The triangle's reach in source pixels along each axis, at least 1; RESAMPLE_MAX_TAPS / 2 at most. */
struct resample_kernel {
    double reach_x, reach_y;
};

/* n places (x + i dx, y + i dy) in pixels of the image. The patch must hold every pixel of the image within reach of
 * them. out [bands,n], 0 where there is no data; has [n] 1 where there is and all values are numbers. */
void resample_run(const struct resample_patch *p, const struct resample_kernel *k, double x, double dx,
                  double y, double dy, int n, float *out, uint8_t *has);

/* state [n] of n pixels: blank where every band [bands][stride] equals its nodata value (NaN: is no number); untouched
 * elsewhere. Returns whether any was. */
bool resample_mark_blank(const void *px, GDALDataType type, int n_bands, size_t stride, size_t n,
                         const double *nodata, uint8_t *state);

#endif
