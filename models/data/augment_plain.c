/* SPDX-License-Identifier: Apache-2.0
 *
 * augment_plain.c - the 14 operations of RandAugment as FixMatch runs them, with Pillow's arithmetic to the
 * last bit, so that published recipes mean here what they meant there. tests/golden/pillow_ops.bin.gz holds
 * Pillow's own answers.
 *
 * Pillow's habits that matter: blends compute in single precision and truncate; factors 0 and 1 copy; look-up
 * tables are truncated double precision; affine maps sample the nearest pixel in 16.16 fixed point, fill
 * black, and shear about the top-left corner; grey is (19595 R + 38470 G + 7471 B + 32768) / 65536; SMOOTH
 * leaves the border alone. Single-precision steps are written as double operations rounded once by a cast,
 * which a compiler may not fuse, so the bytes are the same on machines with and without fused multiply-add.
 *
 * Layout: interleaved 8-bit bands and one coverage byte a pixel. No allocation, no state: any thread may
 * call. */
#include "models/data/augment_ops.h"

#include <assert.h>
#include <math.h>
#include <string.h>

static size_t n_pixels(const struct augment_image *im)
{
    return (size_t)im->size * (size_t)im->size;
}

static size_t n_samples(const struct augment_image *im)
{
    return n_pixels(im) * (size_t)im->n_bands;
}

/* ---- point operations through tables ---- */

static void apply_table(struct augment_image *im, uint8_t table[3][256])
{
    const size_t n = n_pixels(im);
    if (im->n_bands == 1) {
        for (size_t i = 0; i < n; i++)
            im->px[i] = table[0][im->px[i]];
        return;
    }
    for (uint8_t *p = im->px, *end = p + 3 * n; p < end; p += 3) {
        p[0] = table[0][p[0]];
        p[1] = table[1][p[1]];
        p[2] = table[2][p[2]];
    }
}

/* These run on a copy without alpha and so end the knowledge of what was uncovered. */
static void forget_cover(struct augment_image *im)
{
    memset(im->cover, 255, n_pixels(im));
}

static void histogram(const struct augment_image *im, uint32_t h[3][256])
{
    memset(h, 0, 3 * sizeof h[0]);
    const int b = im->n_bands;
    for (size_t i = 0, n = n_pixels(im); i < n; i++)
        for (int c = 0; c < b; c++)
            h[c][im->px[i * (size_t)b + (size_t)c]]++;
}

static void autocontrast(struct augment_image *im, double argument, uint8_t *scratch)
{
    uint32_t h[3][256];
    uint8_t table[3][256];
    (void)argument;
    (void)scratch;
    histogram(im, h);
    for (int c = 0; c < im->n_bands; c++) {
        int lo = 0, hi = 255;
        while (lo < 255 && !h[c][lo])
            lo++;
        while (hi > 0 && !h[c][hi])
            hi--;
        double scale = hi > lo ? 255.0 / (hi - lo) : 1.0;
        for (int v = 0; v < 256; v++) {
            volatile double product = v * scale, offset = -lo * scale; /* two roundings, as in Python */
            double out = hi > lo ? product + offset : v;
            table[c][v] = out <= 0.0 ? 0 : out >= 255.0 ? 255 : (uint8_t)out;
        }
    }
    apply_table(im, table);
    forget_cover(im);
}

static void equalize(struct augment_image *im, double argument, uint8_t *scratch)
{
    uint32_t h[3][256];
    uint8_t table[3][256];
    (void)argument;
    (void)scratch;
    histogram(im, h);
    for (int c = 0; c < im->n_bands; c++) {
        int last = 255;
        while (last > 0 && !h[c][last])
            last--;
        uint32_t step = ((uint32_t)n_pixels(im) - h[c][last]) / 255, sum = step / 2;
        for (int v = 0; v < 256; v++) {
            uint32_t out = step ? sum / step : (uint32_t)v;
            table[c][v] = out > 255 ? 255 : (uint8_t)out;
            sum += h[c][v];
        }
    }
    apply_table(im, table);
    forget_cover(im);
}

static void posterize(struct augment_image *im, double bits, uint8_t *scratch)
{
    const uint8_t mask = (uint8_t) ~((1u << (8 - (int)bits)) - 1u);
    (void)scratch;
    for (size_t i = 0, n = n_samples(im); i < n; i++)
        im->px[i] &= mask;
    forget_cover(im);
}

static void solarize(struct augment_image *im, double threshold, uint8_t *scratch)
{
    const int th = (int)threshold;
    (void)scratch;
    for (size_t i = 0, n = n_samples(im); i < n; i++)
        im->px[i] = im->px[i] < th ? im->px[i] : (uint8_t)(255 - im->px[i]);
    forget_cover(im);
}

static void identity(struct augment_image *im, double argument, uint8_t *scratch)
{
    (void)im;
    (void)argument;
    (void)scratch;
}

/* ---- blends ---- */

/* from + f (to - from) in Pillow's single precision: truncated between 0 and 1, clipped and truncated beyond.
 */
static inline uint8_t blend(int from, int to, float f)
{
    float product = (float)((double)f * (to - from));
    float v = (float)((double)from + (double)product);
    return v <= 0.0f ? 0 : v >= 255.0f ? 255 : (uint8_t)v;
}

static inline uint8_t grey(const uint8_t *p)
{
    return (uint8_t)((p[0] * 19595u + p[1] * 38470u + p[2] * 7471u + 0x8000u) >> 16);
}

static void blend_constant(struct augment_image *im, int from, float f)
{
    uint8_t table[3][256];
    for (int v = 0; v < 256; v++)
        table[0][v] = table[1][v] = table[2][v] = blend(from, v, f);
    apply_table(im, table);
}

static void brightness(struct augment_image *im, double f, uint8_t *scratch)
{
    (void)scratch;
    if ((float)f != 1.0f)
        blend_constant(im, 0, (float)f);
}

static void contrast(struct augment_image *im, double f, uint8_t *scratch)
{
    const size_t n = n_pixels(im);
    uint64_t sum = 0;
    (void)scratch;
    if ((float)f == 1.0f)
        return;
    for (size_t i = 0; i < n; i++)
        sum += im->n_bands == 3 ? grey(im->px + 3 * i) : im->px[i];
    blend_constant(im, (int)((double)sum / (double)n + 0.5), (float)f);
}

static void color(struct augment_image *im, double f, uint8_t *scratch)
{
    (void)scratch;
    if ((float)f == 1.0f || im->n_bands == 1)
        return;
    for (uint8_t *p = im->px, *end = p + n_samples(im); p < end; p += 3) {
        int g = grey(p);
        for (int c = 0; c < 3; c++)
            p[c] = blend(g, p[c], (float)f);
    }
}

/* The smooth is (sum of the eight neighbours + 5 times the pixel)/13, rounded; 13 is odd, so integers round
 * the same way. */
static void sharpness(struct augment_image *im, double f, uint8_t *scratch)
{
    const int b = im->n_bands, row = im->size * b;
    if ((float)f == 1.0f)
        return;
    memcpy(scratch, im->px, n_samples(im));
    for (int y = 1; y < im->size - 1; y++) {
        const uint8_t *in = scratch + (size_t)y * row;
        uint8_t *out = im->px + (size_t)y * row;
        for (int i = b; i < row - b; i++) {
            int sum = in[i - row - b] + in[i - row] + in[i - row + b] + in[i - b] + 5 * in[i] + in[i + b] +
                      in[i + row - b] + in[i + row] + in[i + row + b];
            out[i] = blend((2 * sum + 13) / 26, in[i], (float)f);
        }
    }
}

/* ---- geometry ---- */

/* Output (x,y) takes input (m0 x + m1 y + m2, m3 x + m4 y + m5), measured at pixel centres, in 16.16 fixed
 * point. */
static void affine(struct augment_image *im, const double m[6], uint8_t *scratch)
{
    const int size = im->size, b = im->n_bands;
    int64_t fix[6];
    uint8_t *px = scratch, *cover = scratch + n_samples(im);
    memcpy(px, im->px, n_samples(im));
    memcpy(cover, im->cover, n_pixels(im));
    memset(im->px, 0, n_samples(im));
    memset(im->cover, 0, n_pixels(im));
    for (int k = 0; k < 6; k++) {
        double v = k == 2 ? m[2] + m[0] * 0.5 + m[1] * 0.5 : k == 5 ? m[5] + m[3] * 0.5 + m[4] * 0.5 : m[k];
        fix[k] = (int64_t)floor(v * 65536.0 + 0.5);
    }
    for (int y = 0; y < size; y++) {
        int64_t xx = fix[2] + fix[1] * y, yy = fix[5] + fix[4] * y;
        for (int x = 0; x < size; x++, xx += fix[0], yy += fix[3]) {
            int64_t sx = xx >> 16, sy = yy >> 16;
            if (sx < 0 || sx >= size || sy < 0 || sy >= size)
                continue;
            size_t to = (size_t)y * size + x, from = (size_t)sy * size + (size_t)sx;
            for (int c = 0; c < b; c++)
                im->px[to * b + c] = px[from * b + c];
            im->cover[to] = cover[from];
        }
    }
}

static double round15(double v)
{
    return nearbyint(v * 1e15) / 1e15;
}

static void rotate(struct augment_image *im, double degrees, uint8_t *scratch)
{
    const double angle = -degrees * (M_PI / 180.0), half = im->size / 2.0;
    const double c = round15(cos(angle)), s = round15(sin(angle));
    double m[6] = {c, s, c * -half + s * -half + half, -s, c, s * half + c * -half + half};
    if (degrees != 0.0)
        affine(im, m, scratch);
}

static void shear_x(struct augment_image *im, double shear, uint8_t *scratch)
{
    affine(im, (double[6]){1, shear, 0, 0, 1, 0}, scratch);
}

static void shear_y(struct augment_image *im, double shear, uint8_t *scratch)
{
    affine(im, (double[6]){1, 0, 0, shear, 1, 0}, scratch);
}

static void translate_x(struct augment_image *im, double px, uint8_t *scratch)
{
    affine(im, (double[6]){1, 0, px, 0, 1, 0}, scratch);
}

static void translate_y(struct augment_image *im, double px, uint8_t *scratch)
{
    affine(im, (double[6]){1, 0, 0, 0, 1, px}, scratch);
}

/* ---- the table ---- */

double augment_plain_argument(enum augment_plain_op op, int level, int sign)
{
    assert(op < AUGMENT_PLAIN_COUNT);
    switch (op) {
#define ROW(name, function, argument)                                                                        \
    case AUGMENT_##name:                                                                                     \
        return argument;
        AUGMENT_PLAIN_TABLE(ROW)
#undef ROW
    case AUGMENT_PLAIN_COUNT:
        break;
    }
    return 0.0;
}

void augment_plain_apply(enum augment_plain_op op, double argument, struct augment_image *im,
                         uint8_t *scratch)
{
    static void (*const run[AUGMENT_PLAIN_COUNT])(struct augment_image *, double, uint8_t *) = {
#define ROW(name, function, argument) function,
        AUGMENT_PLAIN_TABLE(ROW)
#undef ROW
    };
    assert(op < AUGMENT_PLAIN_COUNT && (im->n_bands == 1 || im->n_bands == 3));
    run[op](im, argument, scratch);
}

const char *augment_plain_name(enum augment_plain_op op)
{
    static const char *const names[AUGMENT_PLAIN_COUNT] = {
#define ROW(name, function, argument) #function,
        AUGMENT_PLAIN_TABLE(ROW)
#undef ROW
    };
    assert(op < AUGMENT_PLAIN_COUNT);
    return names[op];
}
