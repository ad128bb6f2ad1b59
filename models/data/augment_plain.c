/* SPDX-License-Identifier: Apache-2.0
 *
 * augment_plain.c - the 14 operations of RandAugment as FixMatch runs them and the 19 of CTAugment, with
 * Pillow's arithmetic to the last bit, so that published recipes mean here what they meant there.
 * tests/golden/pillow_ops.bin.gz and pillow_cta.bin.gz hold Pillow's own answers.
 *
 * Pillow's habits that matter: blends compute in single precision and truncate; factors 0 and 1 copy; look-up
 * tables are truncated double precision; affine maps sample the nearest pixel in 16.16 fixed point, fill
 * black, and shear about the top-left corner (plain shifts and scalings accumulate in double precision
 * instead); grey is (19595 R + 38470 G + 7471 B + 32768) / 65536; SMOOTH
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

static void autocontrast_table(const struct augment_image *im, uint8_t table[3][256])
{
    uint32_t h[3][256];
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
}

static void autocontrast(struct augment_image *im, double argument, uint8_t *scratch)
{
    uint8_t table[3][256];
    (void)argument;
    (void)scratch;
    autocontrast_table(im, table);
    apply_table(im, table);
    forget_cover(im);
}

static void equalize_table(const struct augment_image *im, uint8_t table[3][256])
{
    uint32_t h[3][256];
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
}

static void equalize(struct augment_image *im, double argument, uint8_t *scratch)
{
    uint8_t table[3][256];
    (void)argument;
    (void)scratch;
    equalize_table(im, table);
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
 * the same way. The border stays. from_smooth: from the smooth towards the image (sharpness), else from the
 * image towards the smooth. */
static void blend_smooth(struct augment_image *im, float f, bool from_smooth, uint8_t *scratch)
{
    const int b = im->n_bands, row = im->size * b;
    memcpy(scratch, im->px, n_samples(im));
    for (int y = 1; y < im->size - 1; y++) {
        const uint8_t *in = scratch + (size_t)y * row;
        uint8_t *out = im->px + (size_t)y * row;
        for (int i = b; i < row - b; i++) {
            int sum = in[i - row - b] + in[i - row] + in[i - row + b] + in[i - b] + 5 * in[i] + in[i + b] +
                      in[i + row - b] + in[i + row] + in[i + row + b];
            int soft = (2 * sum + 13) / 26;
            out[i] = from_smooth ? blend(soft, in[i], f) : blend(in[i], soft, f);
        }
    }
}

static void sharpness(struct augment_image *im, double f, uint8_t *scratch)
{
    if ((float)f != 1.0f)
        blend_smooth(im, (float)f, true, scratch);
}

/* Towards the mean of the 16 pixels two away (Pillow's BLUR); two pixels of border stay. */
static void blend_blur(struct augment_image *im, float f, uint8_t *scratch)
{
    const int b = im->n_bands, row = im->size * b;
    memcpy(scratch, im->px, n_samples(im));
    for (int y = 2; y < im->size - 2; y++) {
        const uint8_t *in = scratch + (size_t)y * row;
        uint8_t *out = im->px + (size_t)y * row;
        for (int i = 2 * b; i < row - 2 * b; i++) {
            int sum = 8; /* half of the divisor */
            for (int k = -2; k <= 2; k++)
                sum += in[i - 2 * row + k * b] + in[i + 2 * row + k * b];
            for (int k = -1; k <= 1; k++)
                sum += in[i + k * row - 2 * b] + in[i + k * row + 2 * b];
            out[i] = blend(in[i], sum / 16, f);
        }
    }
}

/* ---- geometry ---- */

static void take_pixel(struct augment_image *im, size_t to, size_t from, const uint8_t *px,
                       const uint8_t *cover)
{
    const size_t b = (size_t)im->n_bands;
    for (size_t c = 0; c < b; c++)
        im->px[to * b + c] = px[from * b + c];
    im->cover[to] = cover[from];
}

/* Shifts and scalings of an axis: sums in double precision, truncated. */
static void scale_affine(struct augment_image *im, const double m[6], const uint8_t *px, const uint8_t *cover)
{
    const int size = im->size;
    double yy = m[5] + m[4] * 0.5;
    for (int y = 0; y < size; y++, yy += m[4]) {
        double xx = m[2] + m[0] * 0.5;
        for (int x = 0; x < size; x++, xx += m[0])
            if (xx >= 0.0 && xx < size && yy >= 0.0 && yy < size)
                take_pixel(im, (size_t)y * size + x, (size_t)(int)yy * size + (size_t)(int)xx, px, cover);
    }
}

/* Output (x,y) takes input (m0 x + m1 y + m2, m3 x + m4 y + m5), measured at pixel centres, in 16.16 fixed
 * point. */
static void affine(struct augment_image *im, const double m[6], uint8_t *scratch)
{
    const int size = im->size;
    int64_t fix[6];
    uint8_t *px = scratch, *cover = scratch + n_samples(im);
    memcpy(px, im->px, n_samples(im));
    memcpy(cover, im->cover, n_pixels(im));
    memset(im->px, 0, n_samples(im));
    memset(im->cover, 0, n_pixels(im));
    if (m[1] == 0.0 && m[3] == 0.0) {
        scale_affine(im, m, px, cover);
        return;
    }
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
            take_pixel(im, (size_t)y * size + x, (size_t)sy * size + (size_t)sx, px, cover);
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

/* ---- CTAugment's set ---- */

static void blend_table(struct augment_image *im, uint8_t table[3][256], float f)
{
    for (int c = 0; c < im->n_bands; c++)
        for (int v = 0; v < 256; v++)
            table[c][v] = blend(v, table[c][v], f);
    apply_table(im, table);
}

/* A box of side 1 + int(0.499 v size), halved and cut off at the border, of the published grey. */
static void grey_box(struct augment_image *im, double v, const double centre[2])
{
    const int size = im->size, half = (1 + (int)(v * size * 0.499)) / 2;
    const int cx = (int)(centre[0] * size), cy = (int)(centre[1] * size), b = im->n_bands;
    const int x0 = cx > half ? cx - half : 0, x1 = cx + half < size ? cx + half : size;
    for (int y = cy > half ? cy - half : 0; y < cy + half && y < size && x1 > x0; y++)
        memset(im->px + (y * size + x0) * b, AUGMENT_CTA_GREY, (size_t)((x1 - x0) * b));
}

/* The middle of the image, a share s of its side cut off at each edge, brought back to full size. */
static void rescale(struct augment_image *im, double s, enum augment_filter filter, uint8_t *scratch)
{
    const int at = (int)nearbyint(s * im->size), end = (int)nearbyint(im->size * (1.0 - s));
    augment_resize(im, at, end - at, filter, scratch);
}

void augment_cta_apply(enum augment_cta_op op, const double v[2], const struct augment_cta_extra *extra,
                       struct augment_image *im, uint8_t *scratch)
{
    static const enum augment_filter filters[] = {AUGMENT_LANCZOS, AUGMENT_BICUBIC, AUGMENT_BILINEAR,
                                                  AUGMENT_BOX,     AUGMENT_HAMMING, AUGMENT_NEAREST};
    const double way = 2.0 * v[0] - 1.0, factor = 0.1 + 1.9 * v[0];
    uint8_t table[3][256];
    assert(v[0] >= 0.0 && v[0] <= 1.0 && v[1] >= 0.0 && v[1] <= 1.0);
    assert(im->n_bands == 1 || im->n_bands == 3);
    switch (op) {
    case AUGMENT_CTA_AUTOCONTRAST:
        autocontrast_table(im, table);
        blend_table(im, table, (float)v[0]);
        break;
    case AUGMENT_CTA_BLUR:
        blend_blur(im, (float)v[0], scratch);
        break;
    case AUGMENT_CTA_BRIGHTNESS:
        brightness(im, factor, scratch);
        break;
    case AUGMENT_CTA_COLOR:
        color(im, factor, scratch);
        break;
    case AUGMENT_CTA_CONTRAST:
        contrast(im, factor, scratch);
        break;
    case AUGMENT_CTA_CUTOUT:
        grey_box(im, v[0], extra->centre);
        break;
    case AUGMENT_CTA_EQUALIZE:
        equalize_table(im, table);
        blend_table(im, table, (float)v[0]);
        break;
    case AUGMENT_CTA_INVERT:
        for (int c = 0; c < 3; c++)
            for (int i = 0; i < 256; i++)
                table[c][i] = (uint8_t)(255 - i);
        blend_table(im, table, (float)v[0]);
        break;
    case AUGMENT_CTA_POSTERIZE:
        posterize(im, 1 + (int)(v[0] * 7.999), scratch);
        break;
    case AUGMENT_CTA_RESCALE:
        rescale(im, v[0] * 0.25, filters[(int)(v[1] * 5.99)], scratch);
        break;
    case AUGMENT_CTA_ROTATE:
        rotate(im, nearbyint(way * 45.0), scratch);
        break;
    case AUGMENT_CTA_SHARPNESS:
        sharpness(im, factor, scratch);
        break;
    case AUGMENT_CTA_SHEAR_X:
        shear_x(im, way * 0.3, scratch);
        break;
    case AUGMENT_CTA_SHEAR_Y:
        shear_y(im, way * 0.3, scratch);
        break;
    case AUGMENT_CTA_SMOOTH:
        blend_smooth(im, (float)v[0], false, scratch);
        break;
    case AUGMENT_CTA_SOLARIZE:
        solarize(im, (int)(v[0] * 255.999), scratch);
        break;
    case AUGMENT_CTA_TRANSLATE_X:
        translate_x(im, way * extra->translate_px, scratch);
        break;
    case AUGMENT_CTA_TRANSLATE_Y:
        translate_y(im, way * extra->translate_px, scratch);
        break;
    case AUGMENT_CTA_IDENTITY:
    case AUGMENT_CTA_COUNT:
        break;
    }
}

size_t augment_cta_scratch_bytes(int size, int n_bands)
{
    const size_t n_px = (size_t)size * (size_t)size, bands = (size_t)n_bands;
    return n_px * (bands + 1) + augment_resize_scratch_bytes(size);
}

/* name, number of bins of the first and of the second parameter */
static const struct {
    const char *name;
    int bins[2];
} cta_rows[AUGMENT_CTA_COUNT] = {
#define ROW(upper, name, bins, more) {#name, {bins, more}},
    AUGMENT_CTA_TABLE(ROW)
#undef ROW
};

const char *augment_cta_name(enum augment_cta_op op)
{
    assert(op < AUGMENT_CTA_COUNT);
    return cta_rows[op].name;
}

int augment_cta_bins(enum augment_cta_op op, int param)
{
    assert(op < AUGMENT_CTA_COUNT && (param == 0 || param == 1));
    return cta_rows[op].bins[param];
}
