/* SPDX-License-Identifier: Apache-2.0
 *
 * augment_resize.c - Pillow's enlargement of 8-bit images, to the last bit: the operation that CTAugment
 * calls rescale, in its six filters.
 *
 * Output o looks at the input's position c = (o + 1/2) n/size; the filter's values at the input pixels within
 * its support (enlarging never widens it), normalised to sum 1 in double precision, become integers of 22
 * bits after the point. Columns first, then rows, each pass rounded to 8 bits. Nearest has no weights: a sum
 * in double precision, truncated. Filters: box, triangle, Hamming-windowed sinc of one lobe, Keys' cubic with
 * a = -1/2, Lanczos of three lobes. Threads: no state, any number. */
#include "models/data/augment_ops.h"

#include <assert.h>
#include <math.h>
#include <string.h>

enum { PRECISION_BITS = 22, MAX_TAPS = 8 };

/* Weights of one output pixel. */
struct taps {
    int start, n;
    int32_t w[MAX_TAPS];
};

static double sinc(double x)
{
    return x == 0.0 ? 1.0 : sin(x * M_PI) / (x * M_PI);
}

static double filter_value(enum augment_filter filter, double x)
{
    const double a = -0.5, d = fabs(x);
    switch (filter) {
    case AUGMENT_BOX:
        return x > -0.5 && x <= 0.5 ? 1.0 : 0.0;
    case AUGMENT_BILINEAR:
        return d < 1.0 ? 1.0 - d : 0.0;
    case AUGMENT_HAMMING:
        return d >= 1.0 ? 0.0 : sinc(d) * (0.54 + 0.46 * cos(d * M_PI));
    case AUGMENT_BICUBIC:
        return d < 1.0   ? ((a + 2.0) * d - (a + 3.0)) * d * d + 1.0
               : d < 2.0 ? (((d - 5.0) * d + 8.0) * d - 4.0) * a
                         : 0.0;
    case AUGMENT_LANCZOS:
        return x >= -3.0 && x < 3.0 ? sinc(x) * sinc(x / 3.0) : 0.0;
    case AUGMENT_NEAREST:
        break;
    }
    return 0.0;
}

static double filter_support(enum augment_filter filter)
{
    return filter == AUGMENT_BOX       ? 0.5
           : filter == AUGMENT_BICUBIC ? 2.0
           : filter == AUGMENT_LANCZOS ? 3.0
                                       : 1.0;
}

static void taps_make(struct taps *t, int n_in, int n_out, enum augment_filter filter)
{
    const double scale = (double)n_in / n_out, support = filter_support(filter);
    for (int o = 0; o < n_out; o++) {
        const double centre = (o + 0.5) * scale;
        double w[MAX_TAPS], sum = 0.0;
        int start = (int)(centre - support + 0.5), end = (int)(centre + support + 0.5);
        start = start < 0 ? 0 : start;
        end = end > n_in ? n_in : end;
        assert(end - start <= MAX_TAPS);
        for (int k = 0; k < end - start; k++) {
            w[k] = filter_value(filter, k + start - centre + 0.5);
            sum += w[k];
        }
        t[o].start = start;
        t[o].n = end - start;
        for (int k = 0; k < end - start; k++) {
            double unit = (sum != 0.0 ? w[k] / sum : w[k]) * (1 << PRECISION_BITS);
            t[o].w[k] = (int32_t)(unit < 0.0 ? unit - 0.5 : unit + 0.5);
        }
    }
}

/* in: first sample; step: from one tap to the next. */
static uint8_t weigh(const struct taps *t, const uint8_t *in, size_t step)
{
    int32_t sum = 1 << (PRECISION_BITS - 1);
    for (int k = 0; k < t->n; k++)
        sum += in[(size_t)k * step] * t->w[k];
    sum >>= PRECISION_BITS;
    return sum < 0 ? 0 : sum > 255 ? 255 : (uint8_t)sum;
}

static void enlarge(struct augment_image *im, int at, int n, const struct taps *taps, uint8_t *middle)
{
    const size_t size = (size_t)im->size, b = (size_t)im->n_bands;
    for (int y = 0; y < n; y++)
        for (size_t x = 0; x < size; x++)
            for (size_t c = 0; c < b; c++)
                middle[((size_t)y * size + x) * b + c] = weigh(
                    &taps[x], im->px + (((size_t)(at + y) * size + (size_t)(at + taps[x].start)) * b + c), b);
    for (size_t y = 0; y < size; y++)
        for (size_t i = 0; i < size * b; i++)
            im->px[y * size * b + i] =
                weigh(&taps[y], middle + (size_t)taps[y].start * size * b + i, size * b);
}

static void enlarge_nearest(struct augment_image *im, int at, int n, uint8_t *copy)
{
    const int size = im->size;
    const size_t b = (size_t)im->n_bands;
    const double step = (double)n / size;
    double yy = 0.5 * step;
    memcpy(copy, im->px, (size_t)size * size * b);
    for (int y = 0; y < size; y++, yy += step) {
        double xx = 0.5 * step;
        for (int x = 0; x < size; x++, xx += step)
            memcpy(im->px + ((size_t)y * size + x) * b,
                   copy + ((size_t)(at + (int)yy) * size + (size_t)(at + (int)xx)) * b, b);
    }
}

size_t augment_resize_scratch_bytes(int size)
{
    return (size_t)size * sizeof(struct taps) + _Alignof(struct taps);
}

void augment_resize(struct augment_image *im, int at, int n, enum augment_filter filter, uint8_t *scratch)
{
    const size_t image = (size_t)im->size * im->size * (size_t)im->n_bands;
    assert(n > 0 && at >= 0 && at + n <= im->size);
    if (n == im->size)
        return;
    if (filter == AUGMENT_NEAREST) {
        enlarge_nearest(im, at, n, scratch);
        return;
    }
    const uintptr_t align = _Alignof(struct taps);
    struct taps *taps = (struct taps *)(((uintptr_t)(scratch + image) + align - 1) / align * align);
    taps_make(taps, n, im->size, filter);
    enlarge(im, at, n, taps, scratch);
}
