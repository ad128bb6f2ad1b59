/* SPDX-License-Identifier: Apache-2.0
 *
 * augment_ops.h - the parts that augment.c and cta.c put together, apart so that tests can check each one:
 * the 14 operations of RandAugment and the 19 of CTAugment on 8-bit images, and a strong view of a pair as a
 * draw (numbers only) and its rendering (no randomness). Nothing outside models/data and its tests includes
 * this.
 */
#ifndef AM_AUGMENT_OPS_H
#define AM_AUGMENT_OPS_H

#include "models/data/augment.h"

/* Plain layouts get the published recipes, others those for pairs. */
static inline bool augment_is_plain(const struct imageset_layout *l)
{
    return l->n_dates == 1 && !l->has_masks && (l->n_bands == 1 || l->n_bands == 3);
}

/* ---- one geometry for weak views and test-time averaging: the square's symmetry group ---- */

/* Element g of the group: bit 0 mirrors columns, bit 1 mirrors rows, bit 2 exchanges both first. Source
 * (column, row) of output (x, y) in a square of `size`. */
static inline void augment_d4_source(int g, int size, int x, int y, int *sx, int *sy)
{
    int c = g & 4 ? y : x, r = g & 4 ? x : y;
    *sx = g & 1 ? size - 1 - c : c;
    *sy = g & 2 ? size - 1 - r : r;
}

/* The last act of a view: zeroes its bands by chance when c says so. r goes on behind the view's own draws. */
void augment_hide(const struct augment_config *c, enum augment_kind kind, struct rng *r, float *x);

/* ---- plain images: Pillow's operations (augment_plain.c) ---- */

/* An 8-bit image with its coverage: 255 where a pixel comes from the image, 0 where geometry uncovered
 * nothing. Pillow carries it as alpha; operations that FixMatch runs on a copy without alpha set it to 255.
 */
struct augment_image {
    int size, n_bands; /* n_bands 1 or 3 */
    uint8_t *px;       /* [size,size,n_bands] */
    uint8_t *cover;    /* [size,size] */
};

/* X(name, function, argument at level L) in FixMatch's order. Levels run from 1 to 9. */
#define AUGMENT_PLAIN_TABLE(X)                                                                               \
    X(AUTOCONTRAST, autocontrast, 0.0)                                                                       \
    X(BRIGHTNESS, brightness, 1.8 * level / 10.0 + 0.1)                                                      \
    X(COLOR, color, 1.8 * level / 10.0 + 0.1)                                                                \
    X(CONTRAST, contrast, 1.8 * level / 10.0 + 0.1)                                                          \
    X(EQUALIZE, equalize, 0.0)                                                                               \
    X(IDENTITY, identity, 0.0)                                                                               \
    X(POSTERIZE, posterize, 4 - (int)(4.0 * level / 10.0))                                                   \
    X(ROTATE, rotate, sign *(int)(30.0 * level / 10.0))                                                      \
    X(SHARPNESS, sharpness, 1.8 * level / 10.0 + 0.1)                                                        \
    X(SHEAR_X, shear_x, sign * 0.3 * level / 10.0)                                                           \
    X(SHEAR_Y, shear_y, sign * 0.3 * level / 10.0)                                                           \
    X(SOLARIZE, solarize, 256 - (int)(256.0 * level / 10.0))                                                 \
    X(TRANSLATE_X, translate_x, sign *level)                                                                 \
    X(TRANSLATE_Y, translate_y, sign *level)

enum augment_plain_op {
#define AUGMENT_PLAIN_ENUM(name, function, argument) AUGMENT_##name,
    AUGMENT_PLAIN_TABLE(AUGMENT_PLAIN_ENUM)
#undef AUGMENT_PLAIN_ENUM
        AUGMENT_PLAIN_COUNT
};

/* The argument that the table gives op at level 1..9; sign -1 or +1 matters to the geometric ones. */
double augment_plain_argument(enum augment_plain_op op, int level, int sign);
/* Applies op with its argument in place. scratch [size*size*(n_bands+1)] bytes. */
void augment_plain_apply(enum augment_plain_op op, double argument, struct augment_image *im,
                         uint8_t *scratch);
const char *augment_plain_name(enum augment_plain_op op);

/* X(NAME, name, bins of the first parameter, of the second): CTAugment's operations on plain images, each a
 * function of magnitudes v in [0,1] (augment_plain.c has the published maps from v). */
#define AUGMENT_CTA_TABLE(X)                                                                                 \
    X(AUTOCONTRAST, autocontrast, 17, 0)                                                                     \
    X(BLUR, blur, 17, 0)                                                                                     \
    X(BRIGHTNESS, brightness, 17, 0)                                                                         \
    X(COLOR, color, 17, 0)                                                                                   \
    X(CONTRAST, contrast, 17, 0)                                                                             \
    X(CUTOUT, cutout, 17, 0)                                                                                 \
    X(EQUALIZE, equalize, 17, 0)                                                                             \
    X(INVERT, invert, 17, 0)                                                                                 \
    X(IDENTITY, identity, 0, 0)                                                                              \
    X(POSTERIZE, posterize, 8, 0)                                                                            \
    X(RESCALE, rescale, 17, 6)                                                                               \
    X(ROTATE, rotate, 17, 0)                                                                                 \
    X(SHARPNESS, sharpness, 17, 0)                                                                           \
    X(SHEAR_X, shear_x, 17, 0)                                                                               \
    X(SHEAR_Y, shear_y, 17, 0)                                                                               \
    X(SMOOTH, smooth, 17, 0)                                                                                 \
    X(SOLARIZE, solarize, 17, 0)                                                                             \
    X(TRANSLATE_X, translate_x, 17, 0)                                                                       \
    X(TRANSLATE_Y, translate_y, 17, 0)

enum augment_cta_op {
#define AUGMENT_CTA_ENUM(upper, name, bins, more) AUGMENT_CTA_##upper,
    AUGMENT_CTA_TABLE(AUGMENT_CTA_ENUM)
#undef AUGMENT_CTA_ENUM
        AUGMENT_CTA_COUNT
};

enum { AUGMENT_CTA_GREY = 127 }; /* what cutout leaves */

struct augment_cta_extra {
    double centre[2];    /* of cutout's box, x then y, uniform in [0,1) */
    double translate_px; /* the translation at v = 1 */
};

/* These images have no coverage to keep: what geometry uncovers is black, as in the published code. scratch:
 * augment_cta_scratch_bytes(). */
void augment_cta_apply(enum augment_cta_op op, const double v[2], const struct augment_cta_extra *extra,
                       struct augment_image *im, uint8_t *scratch);
size_t augment_cta_scratch_bytes(int size, int n_bands);
const char *augment_cta_name(enum augment_cta_op op);
int augment_cta_bins(enum augment_cta_op op, int param);

/* Pillow's filters for enlarging (augment_resize.c). */
enum augment_filter {
    AUGMENT_NEAREST,
    AUGMENT_BOX,
    AUGMENT_BILINEAR,
    AUGMENT_HAMMING,
    AUGMENT_BICUBIC,
    AUGMENT_LANCZOS
};
/* The square of side n > 0 at (at, at) enlarged to the whole image. scratch: size*size*n_bands bytes and
 * augment_resize_scratch_bytes(). */
void augment_resize(struct augment_image *im, int at, int n, enum augment_filter filter, uint8_t *scratch);
size_t augment_resize_scratch_bytes(int size);

/* ---- pairs: draw, then render (augment_pair.c) ---- */

enum { AUGMENT_PAIR_OPS = 2 }; /* photometric operations a date */

/* Geometry of a strong view: X(name, lowest, highest), each drawn with probability one half, else neutral.
 * Shifts are shares of the side. */
#define AUGMENT_GEOMETRY_TABLE(X)                                                                            \
    X(ROTATE, -30.0, 30.0) /* degrees */                                                                     \
    X(SKEW_X, -0.15, 0.15)                                                                                   \
    X(SKEW_Y, -0.15, 0.15)                                                                                   \
    X(ZOOM, 0.8, 1.2)                                                                                        \
    X(SHIFT_X, -0.12, 0.12)                                                                                  \
    X(SHIFT_Y, -0.12, 0.12)

/* X(name, function, lowest, highest magnitude); v is a sample scaled to [0,1]. */
#define AUGMENT_PHOTO_TABLE(X)                                                                               \
    X(NOTHING, nothing, 0.0, 0.0)                                                                            \
    X(GAIN, gain, 0.7, 1.3)             /* v m */                                                            \
    X(OFFSET, offset, -0.1, 0.1)        /* v + m */                                                          \
    X(SPREAD, spread, 0.7, 1.3)         /* mean + m (v - mean) */                                            \
    X(GAMMA, gamma_curve, 0.7, 1.4)     /* v^m */                                                            \
    X(BAND_GAIN, band_gain, 0.05, 0.05) /* each band times its own of [1-m, 1+m] */                          \
    X(HAZE, haze, 0.05, 0.3)            /* towards airlight by a veil of 0..m that varies over the patch */  \
    X(BLUR, blur, 0.3, 1.0)             /* Gaussian, sd m px */                                              \
    X(NOISE, noise, 0.005, 0.03)        /* about normal, sd m */                                             \
    X(RESOLUTION, resolution, 1.1, 1.5) /* averaged to 1/m of the pixels a side and interpolated back */

enum augment_photo_op {
#define AUGMENT_PHOTO_ENUM(name, function, lowest, highest) AUGMENT_PHOTO_##name,
    AUGMENT_PHOTO_TABLE(AUGMENT_PHOTO_ENUM)
#undef AUGMENT_PHOTO_ENUM
        AUGMENT_PHOTO_COUNT
};

struct augment_photo {
    enum augment_photo_op op;
    float m;                     /* magnitude */
    float u[IMAGESET_MAX_BANDS]; /* further uniform numbers in [0,1) an operation may want */
    uint32_t seed;               /* of the noise field */
};

/* Everything random about one strong view of a pair. Source position of output pixel o (both measured from
 * the patch's centre, in pixels, columns then rows):  s = a o + t, and s + jitter for the post date. */
struct augment_pair {
    float a[2][2], t[2], jitter[2];
    int box[4]; /* cutout x0, y0, x1, y1 (exclusive); empty when x1 <= x0 */
    struct augment_photo photo[IMAGESET_MAX_DATES][AUGMENT_PAIR_OPS];
};

/* The strong view: draws, places the cutout box where it hides at most 30 % of the footprint (none when eight
 * places fail), renders. *used receives the draw; it may be NULL. */
void augment_pair_view(const struct imageset_layout *l, bool cutout, const uint8_t *px, struct rng *r,
                       float *x, void *scratch, struct augment_pair *used);
/* The end of such a view, from a finished draw: places the box when cutout is set, renders. */
void augment_pair_finish(const struct imageset_layout *l, bool cutout, const uint8_t *px,
                         struct augment_pair *d, struct rng *r, float *x, void *scratch);
/* Share of the footprint that a draw keeps inside the patch (1 without a footprint), and the least that is
 * acceptable. */
double augment_pair_in_frame(const struct imageset_layout *l, const uint8_t *px,
                             const struct augment_pair *d);
#define AUGMENT_FRAME_SHARE 0.75
/* All of a draw but its box. px decides whether the building stays in frame. */
void augment_pair_draw(const struct imageset_layout *l, const uint8_t *px, struct rng *r,
                       struct augment_pair *d);
void augment_pair_render(const struct imageset_layout *l, const uint8_t *px, const struct augment_pair *d,
                         float *x, void *scratch);
size_t augment_pair_scratch_bytes(const struct imageset_layout *l);

#endif
