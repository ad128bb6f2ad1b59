/* SPDX-License-Identifier: Apache-2.0
 *
 * picture.h - small pictures made for the page: PNG bytes out of interleaved samples, and enlarging. */
#ifndef AM_PICTURE_H
#define AM_PICTURE_H

#include "models/base/err.h"
#include <stddef.h>
#include <stdint.h>

/* px [height,width,channels], channels 1 (grey), 3 or 4 (with alpha). PNG on the heap. */
bool picture_png(const uint8_t *px, int width, int height, int channels, char **png, size_t *size,
                 struct err *e);

/* The square [y0, y0+side) x [x0, x0+side) of src [size,size,channels] as out [px,px,channels]; bilinear when it grows,
 * the mean of what a pixel covers when it shrinks. The square may be fractional and must lie within the source. */
bool picture_resize(const uint8_t *src, int size, int channels, double x0, double y0, double side,
                    uint8_t *out, int px, struct err *e);

#endif
