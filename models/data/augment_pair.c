/* SPDX-License-Identifier: Apache-2.0
 *
 * augment_pair.c - strong views of pre/post pairs, as augment.h promises: one geometry for both dates and the
 * masks, other photometry for each date, a little misregistration, a small cutout. The policy is two tables
 * in augment_ops.h.
 *
 * How it is fast: all geometry, jitter included, is one bilinear resample. A date's samples are held as float
 * vectors of four lanes a pixel, bands first and validity in the last lane (two or three vectors for more
 * than three bands), already multiplied by validity. So one weighted sum interpolates all bands, and dividing
 * it by its own last lane is the nodata-aware average: pixels without data, and the ring of zeros around the
 * patch that stands for "outside", carry no weight and never darken a neighbour. A pixel less than half
 * covered has no data. Blur and loss of resolution are banded matrices applied to columns, then rows, in the
 * same way.
 *
 * Invariants: 1. the last lane is 0 or 1 between operations, and bands are 0 where it is 0; 2. a view is a
 * function of (layout, px, draw) alone; 3. nothing is written outside x and scratch. Units: samples in [0,1]
 * (u8/255) until they are written as 2 v - 1; positions in pixels from the centre. Threads: none inside, any
 * number outside. */
#include "models/data/augment_ops.h"
#include "models/data/match.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline))

typedef float v4 __attribute__((vector_size(16), may_alias));
typedef int32_t v4i __attribute__((vector_size(16), may_alias));
typedef uint32_t v4u __attribute__((vector_size(16), may_alias));

enum {
    MAX_VECTORS = (IMAGESET_MAX_BANDS + 1 + 3) / 4,
    MAX_TAPS = 7,
    FRAME_TRIES = 4,
    BOX_TRIES = 8,
    NOISE_SD = 148
};
/* FixMatch's RandAugment also applies an operation it has drawn with probability one half. Without it colour,
 * which is the evidence of a fire, was taught away: held-out AUROC on a real wildfire 0.71 without, 0.79 with
 * it; on a tornado 0.886 and 0.892 (ten labels per class, 300 steps). */
static const double PHOTO_CHANCE = 0.5;
static const double GEOMETRY_CHANCE = 0.5, JITTER_SD_PX = 1.0, JITTER_MAX_PX = 3.0;
static const double HIDDEN_SHARE = 0.30;

/* One date of one view under work. */
struct plane {
    int size, n_px, n_bands, nv; /* nv vectors a pixel */
    v4 *v, *other;        /* [size,size,nv] samples, and room for the first half of a separable operation */
    v4 band[MAX_VECTORS]; /* 1 in band lanes */
    v4 last[MAX_VECTORS]; /* 1 in the validity lane */
};

INLINE v4 splat(float f)
{
    return (v4){f, f, f, f};
}

/* ---- draw ---- */

static double uniform_between(struct rng *r, double lo, double hi)
{
    return lo + (hi - lo) * rng_uniform(r);
}

static void draw_geometry(int size, struct rng *r, struct augment_pair *d)
{
    enum {
#define ROW(name, lo, hi) name,
        AUGMENT_GEOMETRY_TABLE(ROW)
#undef ROW
            N_GEOMETRY
    };
    static const double range[N_GEOMETRY][2] = {
#define ROW(name, lo, hi) {lo, hi},
        AUGMENT_GEOMETRY_TABLE(ROW)
#undef ROW
    };
    const int g = (int)rng_below(r, 8);
    double m[N_GEOMETRY];
    for (int k = 0; k < N_GEOMETRY; k++) {
        bool on = rng_uniform(r) < GEOMETRY_CHANCE;
        double v = uniform_between(r, range[k][0], range[k][1]);
        m[k] = on ? v : (k == ZOOM ? 1.0 : 0.0);
    }
    const double c = cos(m[ROTATE] * (M_PI / 180.0)), s = sin(m[ROTATE] * (M_PI / 180.0)), z = 1.0 / m[ZOOM];
    /* rotation times shear, then the symmetry (mirrors and exchange of axes) on the left */
    const double row[2][2] = {{z * (c - s * m[SKEW_Y]), z * (c * m[SKEW_X] - s)},
                              {z * (s + c * m[SKEW_Y]), z * (s * m[SKEW_X] + c)}};
    for (int k = 0; k < 2; k++) {
        d->a[0][k] = (float)(g & 1 ? -row[g & 4 ? 1 : 0][k] : row[g & 4 ? 1 : 0][k]);
        d->a[1][k] = (float)(g & 2 ? -row[g & 4 ? 0 : 1][k] : row[g & 4 ? 0 : 1][k]);
    }
    d->t[0] = (float)(m[SHIFT_X] * size);
    d->t[1] = (float)(m[SHIFT_Y] * size);
}

/* Share of the footprint (every second pixel each way) that stays in frame; 1 without a footprint. */
double augment_pair_in_frame(const struct imageset_layout *l, const uint8_t *px, const struct augment_pair *d)
{
    const int stored = imageset_stored_channels(l), size = l->size;
    const float half = (float)size / 2.0f, centre = (float)(size - 1) / 2.0f;
    const float det = d->a[0][0] * d->a[1][1] - d->a[0][1] * d->a[1][0];
    const float b00 = d->a[1][1] / det, b01 = -d->a[0][1] / det, b10 = -d->a[1][0] / det,
                b11 = d->a[0][0] / det;
    int n = 0, kept = 0;
    if (!l->has_masks)
        return 1.0;
    for (int y = 0; y < size; y += 2) {
        const uint8_t *fp = px + (size_t)y * size * stored + stored - 1;
        for (int x = 0; x < size; x += 2) {
            if (fp[(size_t)x * stored] < 128)
                continue;
            float sx = (float)x - centre - d->t[0], sy = (float)y - centre - d->t[1];
            n++;
            kept += fabsf(b00 * sx + b01 * sy) <= half && fabsf(b10 * sx + b11 * sy) <= half;
        }
    }
    return n ? (double)kept / n : 1.0;
}

static void draw_photo(struct rng *r, struct augment_photo *p)
{
    static const double range[AUGMENT_PHOTO_COUNT][2] = {
#define ROW(name, function, lo, hi) {lo, hi},
        AUGMENT_PHOTO_TABLE(ROW)
#undef ROW
    };
    p->op = (enum augment_photo_op)rng_below(r, AUGMENT_PHOTO_COUNT);
    if (rng_uniform(r) >= PHOTO_CHANCE)
        p->op = AUGMENT_PHOTO_NOTHING;
    p->m = (float)uniform_between(r, range[p->op][0], range[p->op][1]);
    for (int k = 0; k < IMAGESET_MAX_BANDS; k++)
        p->u[k] = (float)rng_uniform(r);
    p->seed = rng_u32(r);
}

void augment_pair_draw(const struct imageset_layout *l, const uint8_t *px, struct rng *r,
                       struct augment_pair *d)
{
    memset(d, 0, sizeof *d);
    for (int k = 0; k < FRAME_TRIES; k++) {
        draw_geometry(l->size, r, d);
        if (augment_pair_in_frame(l, px, d) >= AUGMENT_FRAME_SHARE)
            break;
        if (k == FRAME_TRIES -
                     1) { /* a building too large or too far out to play with: only mirrored or as it is */
            memset(d->a, 0, sizeof d->a);
            memset(d->t, 0, sizeof d->t);
            d->a[0][0] = rng_below(r, 2) ? 1.0f : -1.0f;
            d->a[1][1] = rng_below(r, 2) ? 1.0f : -1.0f;
        }
    }
    for (int k = 0; k < 2 && l->n_dates > 1; k++)
        d->jitter[k] = (float)fmax(-JITTER_MAX_PX, fmin(JITTER_MAX_PX, JITTER_SD_PX * rng_normal(r)));
    for (int date = 0; date < l->n_dates; date++)
        for (int k = 0; k < AUGMENT_PAIR_OPS; k++)
            draw_photo(r, &d->photo[date][k]);
}

/* ---- geometry ---- */

/* Nearest sample of the footprint, 255 or 0; outside the patch is outside the building. */
static void view_footprint(const struct imageset_layout *l, const uint8_t *px, const struct augment_pair *d,
                           uint8_t *fp)
{
    const int stored = imageset_stored_channels(l), size = l->size;
    const float centre = (float)(size - 1) / 2.0f, hi = (float)size;
    if (!l->has_masks) {
        memset(fp, 0, (size_t)size * size);
        return;
    }
    px += stored - 1;
    for (int y = 0; y < size; y++) {
        const float oy = (float)y - centre;
        const float bx = d->a[0][1] * oy + d->t[0] + centre + 0.5f,
                    by = d->a[1][1] * oy + d->t[1] + centre + 0.5f;
        for (int x = 0; x < size; x++) {
            const float ox = (float)x - centre, sx = d->a[0][0] * ox + bx, sy = d->a[1][0] * ox + by;
            bool in = sx >= 0.0f && sx < hi && sy >= 0.0f && sy < hi;
            fp[y * size + x] = in && px[((size_t)(int)sy * size + (size_t)(int)sx) * stored] >= 128 ? 255 : 0;
        }
    }
}

/* The date's samples as vectors, in a frame of zeros: [size+3,size+3,nv], the image at (1,1). */
static void pad_date(const struct imageset_layout *l, const uint8_t *px, int date, const struct plane *p,
                     v4 *pad)
{
    const int size = l->size, width = size + 3, nv = p->nv, nb = l->n_bands,
              stored = imageset_stored_channels(l);
    const size_t row = (size_t)width * nv;
    const uint8_t *in = px + date * nb, *valid = px + stored - 2;
    float unit[256];
    for (int v = 0; v < 256; v++)
        unit[v] = (float)v / 255.0f;
    memset(pad, 0, row * sizeof *pad);
    memset(pad + (size_t)(size + 1) * row, 0, 2 * row * sizeof *pad);
    for (int y = 0; y < size; y++) {
        v4 *out = pad + (size_t)(y + 1) * row;
        memset(out, 0, (size_t)nv * sizeof *out);
        out += nv;
        for (int x = 0; x < size; x++, in += stored, valid += stored, out += nv) {
            float *lane = (float *)out;
            if (l->has_masks && !(*valid >> date & 1)) {
                memset(out, 0, (size_t)nv * sizeof *out);
                continue;
            }
            if (nv == 1 && nb == 3) {
                *out = (v4){unit[in[0]], unit[in[1]], unit[in[2]], 1.0f};
                continue;
            }
            memset(out, 0, (size_t)nv * sizeof *out);
            for (int b = 0; b < nb; b++)
                lane[b] = unit[in[b]];
            lane[4 * nv - 1] = 1.0f;
        }
        memset(out, 0, 2 * (size_t)nv * sizeof *out);
    }
}

INLINE float clamp(float v, float lo, float hi)
{
    v = v > lo ? v : lo;
    return v < hi ? v : hi;
}

INLINE void resample_body(const struct plane *p, const v4 *pad, const struct augment_pair *d, float jx,
                          float jy, const int nv)
{
    const int size = p->size, width = size + 3;
    const float centre = (float)(size - 1) / 2.0f, hi = (float)(size + 1);
    v4 *out = p->v;
    for (int y = 0; y < size; y++) {
        const float oy = (float)y - centre;
        const float bx = d->a[0][1] * oy + d->t[0] + jx + centre + 1.0f;
        const float by = d->a[1][1] * oy + d->t[1] + jy + centre + 1.0f;
        for (int x = 0; x < size; x++, out += nv) {
            const float ox = (float)x - centre;
            const float qx = clamp(d->a[0][0] * ox + bx, 0.0f, hi),
                        qy = clamp(d->a[1][0] * ox + by, 0.0f, hi);
            const int ix = (int)qx, iy = (int)qy;
            const float fx = qx - (float)ix, fy = qy - (float)iy;
            const v4 *n = pad + ((size_t)iy * width + (size_t)ix) * nv, *s = n + (size_t)width * nv;
            const v4 w11 = splat(fx * fy), w01 = splat(fx) - w11, w10 = splat(fy) - w11,
                     w00 = splat(1.0f - fx) - w10;
            v4 sum[MAX_VECTORS];
            for (int k = 0; k < nv; k++)
                sum[k] = w00 * n[k] + w01 * n[nv + k] + w10 * s[k] + w11 * s[nv + k];
            /* No branch: at the edges of a hole it would be mispredicted every other pixel. */
            const v4 weight = splat(sum[nv - 1][3]), one = splat(1.0f);
            const v4i some = weight >= splat(0.5f);
            const v4 valid = (v4)((v4i)one & some);
            const v4 scale = valid / (v4)(((v4i)weight & some) | ((v4i)one & ~some));
            for (int k = 0; k < nv; k++)
                out[k] = sum[k] * scale * p->band[k] + p->last[k] * valid;
        }
    }
}

static void resample(const struct plane *p, const v4 *pad, const struct augment_pair *d, float jx, float jy)
{
    if (p->nv == 1)
        resample_body(p, pad, d, jx, jy, 1);
    else if (p->nv == 2)
        resample_body(p, pad, d, jx, jy, 2);
    else
        resample_body(p, pad, d, jx, jy, 3);
}

/* ---- photometry ---- */

/* v * mul + add in band lanes where there is data. */
static void affine_bands(struct plane *p, const v4 *mul, const v4 *add)
{
    v4 k[MAX_VECTORS], b[MAX_VECTORS];
    for (int i = 0; i < p->nv; i++) {
        k[i] = mul[i] * p->band[i] + p->last[i];
        b[i] = add[i] * p->band[i];
    }
    if (p->nv == 1) {
        for (v4 *v = p->v, *end = v + p->n_px; v < end; v++)
            *v = *v * k[0] + b[0] * splat((*v)[3]);
        return;
    }
    for (v4 *v = p->v, *end = v + (size_t)p->n_px * p->nv; v < end; v += p->nv) {
        const v4 valid = splat(v[p->nv - 1][3]);
        for (int i = 0; i < p->nv; i++)
            v[i] = v[i] * k[i] + b[i] * valid;
    }
}

static void affine_same(struct plane *p, float mul, float add)
{
    v4 k[MAX_VECTORS], b[MAX_VECTORS];
    for (int i = 0; i < p->nv; i++) {
        k[i] = splat(mul);
        b[i] = splat(add);
    }
    affine_bands(p, k, b);
}

/* Mean of each band over pixels with data, in the same lanes; the validity lane gets their share of the
 * patch. */
static void band_means(const struct plane *p, v4 *mean)
{
    for (int i = 0; i < p->nv; i++) {
        v4 sum = splat(0.0f);
        for (int n = 0; n < p->n_px; n++)
            sum += p->v[(size_t)n * p->nv + i];
        mean[i] = sum;
    }
    const float n_valid = mean[p->nv - 1][3];
    for (int i = 0; i < p->nv; i++)
        mean[i] = mean[i] * splat(1.0f / (n_valid > 0.0f ? n_valid : 1.0f)) * p->band[i] +
                  p->last[i] * splat(n_valid / (float)p->n_px);
}

static void nothing(struct plane *p, const struct augment_photo *o)
{
    (void)p;
    (void)o;
}

static void gain(struct plane *p, const struct augment_photo *o)
{
    affine_same(p, o->m, 0.0f);
}

static void offset(struct plane *p, const struct augment_photo *o)
{
    affine_same(p, 1.0f, o->m);
}

static void spread(struct plane *p, const struct augment_photo *o)
{
    v4 mean[MAX_VECTORS];
    float grey = 0.0f;
    band_means(p, mean);
    for (int b = 0; b < p->n_bands; b++)
        grey += mean[b / 4][b % 4] / (float)p->n_bands;
    affine_same(p, o->m, (1.0f - o->m) * grey);
}

static void band_gain(struct plane *p, const struct augment_photo *o)
{
    v4 k[MAX_VECTORS], zero[MAX_VECTORS];
    for (int i = 0; i < p->nv; i++)
        k[i] = zero[i] = splat(0.0f);
    for (int b = 0; b < p->n_bands; b++)
        k[b / 4][b % 4] = 1.0f + o->m * (2.0f * o->u[b] - 1.0f);
    affine_bands(p, k, zero);
}

/* Through a table of 256 steps with linear interpolation: the samples had 256 values to begin with. */
static void gamma_curve(struct plane *p, const struct augment_photo *o)
{
    float knot[258];
    for (int i = 0; i < 258; i++)
        knot[i] = powf((float)i / 256.0f, o->m);
    for (int n = 0; n < p->n_px; n++) {
        float *lane = (float *)(p->v + (size_t)n * p->nv);
        for (int b = 0; b < p->n_bands; b++) {
            float at = clamp(lane[b], 0.0f, 1.0f) * 256.0f;
            int i = (int)at;
            lane[b] = knot[i] + (at - (float)i) * (knot[i + 1] - knot[i]);
        }
    }
}

/* The veil is bilinear between four corners; airlight is nearly white. */
static void haze(struct plane *p, const struct augment_photo *o)
{
    const float light = 0.8f + 0.2f * o->u[4], step = 1.0f / (float)(p->size - 1);
    for (int y = 0; y < p->size; y++) {
        const float fy = (float)y * step;
        const float left = o->m * (o->u[0] + fy * (o->u[2] - o->u[0])),
                    right = o->m * (o->u[1] + fy * (o->u[3] - o->u[1]));
        v4 *v = p->v + (size_t)y * p->size * p->nv;
        for (int x = 0; x < p->size; x++, v += p->nv) {
            const v4 veil = splat(left + (float)x * step * (right - left)),
                     white = splat(light * v[p->nv - 1][3]);
            for (int i = 0; i < p->nv; i++)
                v[i] += (white - v[i]) * veil * p->band[i];
        }
    }
}

/* The sum of a mixed counter's four bytes is near enough to normal, with sd 147.8. (Mixer: Wellons'
 * lowbias32.) */
static void noise(struct plane *p, const struct augment_photo *o)
{
    const v4 scale = splat(o->m / (float)NOISE_SD);
    v4u at = {0, 1, 2, 3};
    for (int n = 0; n < p->n_px; n++) {
        v4 *v = p->v + (size_t)n * p->nv;
        const v4 valid = splat(v[p->nv - 1][3]) * scale;
        for (int i = 0; i < p->nv; i++, at += 4) {
            v4u h = at ^ o->seed;
            h ^= h >> 16;
            h *= 0x7feb352du;
            h ^= h >> 15;
            h *= 0x846ca68bu;
            h ^= h >> 16;
            v4i sum = (v4i)((h & 255u) + (h >> 8 & 255u) + (h >> 16 & 255u) + (h >> 24)) - 510;
            v[i] += __builtin_convertvector(sum, v4) * valid * p->band[i];
        }
    }
}

/* A banded matrix: output i is the sum over k of w[i][k] times input start[i] + k. Rows sum to 1. */
struct banded {
    int taps;
    int start[IMAGESET_MAX_SIZE];
    float w[IMAGESET_MAX_SIZE][MAX_TAPS];
};

static void banded_clear(struct banded *m, int size)
{
    m->taps = size < MAX_TAPS ? size : MAX_TAPS;
    memset(m->w, 0, (size_t)size * sizeof m->w[0]);
}

static void banded_normalise(struct banded *m, int size)
{
    for (int i = 0; i < size; i++) {
        float sum = 0.0f;
        for (int k = 0; k < m->taps; k++)
            sum += m->w[i][k];
        for (int k = 0; k < m->taps; k++)
            m->w[i][k] /= sum;
    }
}

INLINE v4 dot_taps(const v4 *in, size_t stride, const float *w, int taps)
{
    v4 sum = splat(w[0]) * in[0];
    for (int k = 1; k < taps; k++)
        sum += splat(w[k]) * in[(size_t)k * stride];
    return sum;
}

INLINE void separable_body(struct plane *p, const struct banded *m, const int nv, const int taps)
{
    const int size = p->size;
    const size_t row = (size_t)size * nv;
    for (int y = 0; y < size; y++) {
        const v4 *in = p->v + (size_t)m->start[y] * row;
        v4 *out = p->other + (size_t)y * row;
        for (size_t x = 0; x < row; x++)
            out[x] = dot_taps(in + x, row, m->w[y], taps);
    }
    for (int y = 0; y < size; y++) {
        const v4 *in = p->other + (size_t)y * row;
        v4 *out = p->v + (size_t)y * row;
        for (int x = 0; x < size; x++, out += nv) {
            v4 sum[MAX_VECTORS];
            for (int i = 0; i < nv; i++)
                sum[i] = dot_taps(in + (size_t)m->start[x] * nv + i, (size_t)nv, m->w[x], taps);
            /* Where there is data its own tap has weight, so the divisor is positive. */
            const float weight = sum[nv - 1][3], valid = out[nv - 1][3];
            const v4 scale = splat(valid != 0.0f && weight > 0.0f ? 1.0f / weight : 0.0f);
            for (int i = 0; i < nv; i++)
                out[i] = sum[i] * scale * p->band[i] + p->last[i] * splat(valid);
        }
    }
}

static void separable(struct plane *p, const struct banded *m)
{
    if (p->nv == 1 && m->taps == 7)
        separable_body(p, m, 1, 7);
    else if (p->nv == 1 && m->taps == 5)
        separable_body(p, m, 1, 5);
    else
        separable_body(p, m, p->nv, m->taps);
}

static void blur(struct plane *p, const struct augment_photo *o)
{
    const int size = p->size, radius = MAX_TAPS / 2;
    float bell[MAX_TAPS];
    struct banded m;
    for (int k = -radius; k <= radius; k++)
        bell[k + radius] = expf(-0.5f * (float)(k * k) / (o->m * o->m));
    banded_clear(&m, size);
    for (int i = 0; i < size; i++) {
        int start = i - radius > size - m.taps ? size - m.taps : i - radius;
        m.start[i] = start < 0 ? 0 : start;
        for (int k = 0; k < m.taps; k++) {
            int at = m.start[i] + k - i + radius;
            m.w[i][k] = at >= 0 && at < MAX_TAPS ? bell[at] : 0.0f;
        }
    }
    banded_normalise(&m, size);
    separable(p, &m);
}

/* Interpolation between box averages of m pixels: an output reaches over two boxes, at most ceil(2 m) + 1 <=
 * 4 taps. */
static void resolution(struct plane *p, const struct augment_photo *o)
{
    const int size = p->size, n_low = (int)ceilf((float)size / o->m);
    struct banded m;
    banded_clear(&m, size);
    m.taps = m.taps > 5 ? 5 : m.taps;
    for (int i = 0; i < size; i++) {
        const float at = clamp(((float)i + 0.5f) / o->m - 0.5f, 0.0f, (float)(n_low - 1));
        const int j = (int)at;
        int start = (int)((float)j * o->m);
        start = start > size - m.taps ? size - m.taps : start;
        m.start[i] = start;
        for (int box = 0; box < 2 && j + box < n_low; box++) {
            const float lo = (float)(j + box) * o->m, end = fminf(lo + o->m, (float)size);
            const float share = box ? at - (float)j : 1.0f - (at - (float)j);
            for (int k = 0; k < m.taps; k++) {
                const float pixel = (float)(start + k);
                const float overlap = fminf(pixel + 1.0f, end) - fmaxf(pixel, lo);
                if (overlap > 0.0f && end > lo)
                    m.w[i][k] += share * overlap / (end - lo);
            }
        }
    }
    banded_normalise(&m, size);
    separable(p, &m);
}

static void photo_apply(struct plane *p, const struct augment_photo *o)
{
    static void (*const run[AUGMENT_PHOTO_COUNT])(struct plane *, const struct augment_photo *) = {
#define ROW(name, function, lo, hi) function,
        AUGMENT_PHOTO_TABLE(ROW)
#undef ROW
    };
    assert(o->op < AUGMENT_PHOTO_COUNT);
    run[o->op](p, o);
}

/* ---- cutout and output ---- */

static void draw_box(int size, const uint8_t *fp, struct rng *r, struct augment_pair *d)
{
    const int most = size / 4, least = size / 8 > 0 ? size / 8 : 1;
    int total = 0;
    for (int i = 0; i < size * size; i++)
        total += fp[i] & 1;
    for (int k = 0; k < BOX_TRIES; k++) {
        const int side = least + (int)rng_below(r, (uint32_t)(most - least + 1));
        const int x0 = (int)rng_below(r, (uint32_t)(size - side + 1)),
                  y0 = (int)rng_below(r, (uint32_t)(size - side + 1));
        int hidden = 0;
        for (int y = y0; y < y0 + side; y++)
            for (int x = x0; x < x0 + side; x++)
                hidden += fp[y * size + x] & 1;
        if (hidden > HIDDEN_SHARE * total)
            continue;
        d->box[0] = x0;
        d->box[1] = y0;
        d->box[2] = x0 + side;
        d->box[3] = y0 + side;
        return;
    }
}

static void fill_box(struct plane *p, const int box[4])
{
    v4 mean[MAX_VECTORS];
    if (box[2] <= box[0])
        return;
    band_means(p, mean);
    for (int y = box[1]; y < box[3]; y++)
        for (int x = box[0]; x < box[2]; x++) {
            v4 *v = p->v + ((size_t)y * p->size + (size_t)x) * p->nv;
            const v4 valid = splat(v[p->nv - 1][3]);
            for (int i = 0; i < p->nv; i++)
                v[i] = (mean[i] * p->band[i] + p->last[i]) * valid;
        }
}

INLINE v4 to_signed(v4 v)
{
    const v4 one = splat(1.0f);
    v = v + v - one;
    v4i over = v > one, under = v < -one;
    return (v4)(((v4i)v & ~over & ~under) | ((v4i)one & over) | ((v4i)-one & under));
}

static void write_date(const struct plane *p, int cin, float *x)
{
    const int nb = p->n_bands;
    for (int n = 0; n < p->n_px; n++, x += cin) {
        const v4 *v = p->v + (size_t)n * p->nv;
        const v4 valid = splat(v[p->nv - 1][3]);
        if (nb == 3) {
            const v4 s = to_signed(v[0]) * valid;
            x[0] = s[0];
            x[1] = s[1];
            x[2] = s[2];
            continue;
        }
        for (int b = 0; b < nb; b++)
            x[b] = clamp(2.0f * v[b / 4][b % 4] - 1.0f, -1.0f, 1.0f) * valid[0];
    }
}

static int vectors_per_pixel(const struct imageset_layout *l)
{
    return (l->n_bands + 1 + 3) / 4;
}

size_t augment_pair_scratch_bytes(const struct imageset_layout *l)
{
    const size_t size = (size_t)l->size, vector = (size_t)vectors_per_pixel(l) * sizeof(v4);
    return 64 + ((size + 3) * (size + 3) + 2 * size * size) * vector + size * size;
}

struct pieces {
    v4 *pad, *v, *other;
    uint8_t *fp;
};

static struct pieces cut_scratch(const struct imageset_layout *l, void *scratch)
{
    const size_t size = (size_t)l->size, nv = (size_t)vectors_per_pixel(l);
    struct pieces s;
    s.pad = (v4 *)(((uintptr_t)scratch + 63) & ~(uintptr_t)63);
    s.v = s.pad + (size + 3) * (size + 3) * nv;
    s.other = s.v + size * size * nv;
    s.fp = (uint8_t *)(s.other + size * size * nv);
    return s;
}

static void render(const struct imageset_layout *l, const uint8_t *px, const struct augment_pair *d,
                   const struct pieces *s, float *x)
{
    const int cin = imageset_input_channels(l);
    struct plane p = {.size = l->size,
                      .n_px = l->size * l->size,
                      .n_bands = l->n_bands,
                      .nv = vectors_per_pixel(l),
                      .v = s->v,
                      .other = s->other};
    for (int b = 0; b < l->n_bands; b++)
        p.band[b / 4][b % 4] = 1.0f;
    p.last[p.nv - 1][3] = 1.0f;
    for (int date = 0; date < l->n_dates; date++) {
        pad_date(l, px, date, &p, s->pad);
        resample(&p, s->pad, d, date ? d->jitter[0] : 0.0f, date ? d->jitter[1] : 0.0f);
        for (int k = 0; k < AUGMENT_PAIR_OPS; k++)
            photo_apply(&p, &d->photo[date][k]);
        fill_box(&p, d->box);
        write_date(&p, cin, x + date * l->n_bands);
    }
    if (l->has_masks && l->use_footprint)
        for (int n = 0; n < p.n_px; n++)
            x[(size_t)n * cin + l->n_dates * l->n_bands] = s->fp[n] ? 1.0f : -1.0f;
    if (l->use_match)
        match_fill(l, x);
}

void augment_pair_render(const struct imageset_layout *l, const uint8_t *px, const struct augment_pair *d,
                         float *x, void *scratch)
{
    struct pieces s = cut_scratch(l, scratch);
    view_footprint(l, px, d, s.fp);
    render(l, px, d, &s, x);
}

void augment_pair_finish(const struct imageset_layout *l, bool cutout, const uint8_t *px,
                         struct augment_pair *d, struct rng *r, float *x, void *scratch)
{
    struct pieces s = cut_scratch(l, scratch);
    view_footprint(l, px, d, s.fp);
    if (cutout)
        draw_box(l->size, s.fp, r, d);
    render(l, px, d, &s, x);
}

void augment_pair_view(const struct imageset_layout *l, bool cutout, const uint8_t *px, struct rng *r,
                       float *x, void *scratch, struct augment_pair *used)
{
    struct augment_pair d;
    augment_pair_draw(l, px, r, &d);
    augment_pair_finish(l, cutout, px, &d, r, x, scratch);
    if (used)
        *used = d;
}
