/* SPDX-License-Identifier: Apache-2.0
 *
 * cta.c - CTAugment as cta.h declares it: the two tables of operations, policies drawn from rates, views, and
 * the update.
 *
 * Sampling a training policy (FixMatch's and AdaMatch's form): for each parameter with m bins of rates r,
 *   q = r + (1 - rho);  q /= max q;  q < threshold -> 0;  bin ~ q / sum q;  v = (bin + U) / m
 * Sampling a probe: v uniform in [0,1). Update: i = int(v m 0.999), r[i] = rho r[i] + (1 - rho) w. The 0.999
 * now and then credits the lower neighbour of a bin; it is the published rule and is kept. (ReMixMatch's own
 * repository draws segments between neighbouring bins instead; papers do not say, and both later repositories
 * draw bins.)
 *
 * Departures: 1. translations of plain images reach 0.3 of the side, as the papers say; the released programs
 * pass the share as pixels, which moves nothing (an option brings that back); likewise rescale, which
 * ReMixMatch's repository loses the same way. 2. Views are made before their step, so that rates never lag
 * behind. 3. Pairs: rotation, shear, rescale and shift are one affine map of both dates, rendered by
 * augment_pair.c without a pixel that is not there (its "resolution" stands for smoothing, which would not
 * know no data); a policy that would push a quarter of the building out of the patch is drawn anew, up to
 * four times, then left out. */
#include "models/data/cta.h"

#include "models/data/augment_ops.h"

#include <assert.h>
#include <math.h>
#include <string.h>

enum { FRAME_TRIES = 4, PAIR_BINS = 17, PAIR_SHIFT_PX = 4 };
static const double PAIR_JITTER_MAX_PX = 3.0;

/* ---- operations of pairs ---- */

/* X(NAME, name): geometry, once for both dates. */
#define PAIR_GEOMETRY(X)                                                                                     \
    X(IDENTITY, identity)                                                                                    \
    X(ROTATE, rotate)           /* +-30 degrees */                                                           \
    X(SHEAR_X, shear_x)         /* +-0.15 */                                                                 \
    X(SHEAR_Y, shear_y)         /* +-0.15 */                                                                 \
    X(RESCALE, rescale)         /* 0.8 .. 1.2 */                                                             \
    X(TRANSLATE_X, translate_x) /* +-0.12 of the side */                                                     \
    X(TRANSLATE_Y, translate_y) /* +-0.12 of the side */                                                     \
    X(JITTER, jitter)           /* two parameters: post against pre by +-3 px in x and y */

/* X(NAME, name, operation of augment_pair.c, magnitude at v = 0, at v = 1): photometry, once a date. */
#define PAIR_PHOTOMETRY(X)                                                                                   \
    X(BRIGHTNESS, brightness, GAIN, 0.7, 1.3)                                                                \
    X(OFFSET, offset, OFFSET, -0.1, 0.1)                                                                     \
    X(CONTRAST, contrast, SPREAD, 0.7, 1.3)                                                                  \
    X(GAMMA, gamma, GAMMA, 0.7, 1.4)                                                                         \
    X(BAND_GAIN, band_gain, BAND_GAIN, 0.0, 0.05)                                                            \
    X(HAZE, haze, HAZE, 0.0, 0.3)                                                                            \
    X(BLUR, blur, BLUR, 0.3, 1.0)                                                                            \
    X(RESOLUTION, resolution, RESOLUTION, 1.0, 1.5)                                                          \
    X(NOISE, noise, NOISE, 0.0, 0.03)

enum pair_op {
#define ROW(upper, name) PAIR_##upper,
    PAIR_GEOMETRY(ROW)
#undef ROW
#define ROW(upper, name, photo, lo, hi) PAIR_##upper,
        PAIR_PHOTOMETRY(ROW)
#undef ROW
            PAIR_COUNT
};

enum { PAIR_FIRST_PHOTO = PAIR_JITTER + 1, PAIR_N_PHOTO = PAIR_COUNT - PAIR_FIRST_PHOTO };

static const char *const pair_names[PAIR_COUNT] = {
#define ROW(upper, name) #name,
    PAIR_GEOMETRY(ROW)
#undef ROW
#define ROW(upper, name, photo, lo, hi) #name,
        PAIR_PHOTOMETRY(ROW)
#undef ROW
};

static const struct {
    enum augment_photo_op op;
    double lo, hi;
} pair_photos[PAIR_N_PHOTO] = {
#define ROW(upper, name, photo, lo, hi) {AUGMENT_PHOTO_##photo, lo, hi},
    PAIR_PHOTOMETRY(ROW)
#undef ROW
};

static bool is_photo(const struct cta *c, int op)
{
    return c->pair && op >= PAIR_FIRST_PHOTO;
}

/* ---- state ---- */

void cta_defaults(struct cta_options *o)
{
    *o = (struct cta_options){.decay = 0.99, .threshold = 0.80, .translate = 0.3};
}

int cta_op_count(const struct cta *c)
{
    return c->n_ops;
}

const char *cta_op_name(const struct cta *c, int op)
{
    assert(op >= 0 && op < c->n_ops);
    return c->pair ? pair_names[op] : augment_cta_name((enum augment_cta_op)op);
}

int cta_op_bins(const struct cta *c, int op, int param)
{
    assert(op >= 0 && op < c->n_ops && param >= 0 && param < CTA_MAX_PARAMS);
    if (!c->pair)
        return augment_cta_bins((enum augment_cta_op)op, param);
    return op == PAIR_IDENTITY || (param == 1 && op != PAIR_JITTER) ? 0 : PAIR_BINS;
}

void cta_init(struct cta *c, const struct augment_config *augment, const struct cta_options *options)
{
    memset(c, 0, sizeof *c);
    c->augment = *augment;
    cta_defaults(&c->options);
    if (options)
        c->options = *options;
    assert(c->options.decay >= 0 && c->options.decay <= 1);
    assert(c->options.threshold >= 0 && c->options.threshold <= 1 && c->options.translate >= 0);
    c->pair = !augment_is_plain(&augment->layout);
    c->n_ops = c->pair ? (int)PAIR_COUNT : (int)AUGMENT_CTA_COUNT;
    assert(c->n_ops <= CTA_MAX_OPS);
    int n = 0;
    for (int op = 0; op < c->n_ops; op++)
        for (int date = 0; date < IMAGESET_MAX_DATES; date++) {
            if (date > 0 && !(c->options.per_date && is_photo(c, op))) {
                c->first[op][date] = c->first[op][0];
                continue;
            }
            c->first[op][date] = n;
            n += cta_op_bins(c, op, 0) + cta_op_bins(c, op, 1);
        }
    assert(n <= CTA_MAX_RATES);
    c->n_rates = (size_t)n;
    for (int i = 0; i < n; i++)
        c->rate[i] = 1.0f;
}

/* ---- policies ---- */

static double draw_magnitude(const struct cta *c, const float *rate, int m, struct rng *r)
{
    double q[32], top = 0, sum = 0;
    assert(m <= (int)(sizeof q / sizeof *q));
    for (int i = 0; i < m; i++) {
        q[i] = (double)rate[i] + (1.0 - c->options.decay);
        top = q[i] > top ? q[i] : top;
    }
    for (int i = 0; i < m; i++) {
        q[i] = top > 0 ? q[i] / top : 1.0; /* decay 1 and all rates 0: any bin */
        q[i] = q[i] < c->options.threshold ? 0.0 : q[i];
        sum += q[i];
    }
    double at = rng_uniform(r) * sum;
    int bin = 0, last = 0;
    for (int i = 0; i < m; i++)
        if (q[i] > 0)
            last = i;
    while (bin < last && at >= q[bin])
        at -= q[bin++];
    return (bin + rng_uniform(r)) / m;
}

static void choose(const struct cta *c, int op, int date, bool probe, struct rng *r, struct cta_policy *p)
{
    assert(p->n < CTA_MAX_CHOICES);
    struct cta_choice *k = &p->choice[p->n++];
    int at = c->first[op][date];
    *k = (struct cta_choice){.op = op, .date = date};
    for (int param = 0; param < CTA_MAX_PARAMS; param++) {
        int m = cta_op_bins(c, op, param);
        if (m > 0)
            k->v[param] = probe ? rng_uniform(r) : draw_magnitude(c, c->rate + at, m, r);
        at += m;
    }
}

static void sample(const struct cta *c, bool probe, struct rng *r, struct cta_policy *p)
{
    p->n = 0;
    for (int step = 0; step < CTA_DEPTH; step++) {
        int op = (int)rng_below(r, (uint32_t)c->n_ops);
        choose(c, op, 0, probe, r, p);
        for (int date = 1; date < c->augment.layout.n_dates && is_photo(c, op); date++)
            choose(c, PAIR_FIRST_PHOTO + (int)rng_below(r, PAIR_N_PHOTO), date, probe, r, p);
    }
}

void cta_sample(const struct cta *c, struct rng *r, struct cta_policy *p)
{
    sample(c, false, r, p);
}

void cta_sample_probe(const struct cta *c, struct rng *r, struct cta_policy *p)
{
    sample(c, true, r, p);
}

void cta_update(struct cta *c, const struct cta_policy *probe, const float *p, int n_classes, int label)
{
    double distance = 0;
    assert(label >= 0 && label < n_classes);
    for (int k = 0; k < n_classes; k++)
        distance += fabs((double)p[k] - (k == label));
    const double w = 1.0 - 0.5 * distance, rho = c->options.decay;
    for (int k = 0; k < probe->n; k++) {
        const struct cta_choice *o = &probe->choice[k];
        float *rate = c->rate + c->first[o->op][o->date];
        for (int param = 0; param < CTA_MAX_PARAMS; param++) {
            int m = cta_op_bins(c, o->op, param);
            if (m == 0)
                continue;
            int i = (int)(o->v[param] * m * 0.999);
            rate[i] = (float)(rho * (double)rate[i] + (1.0 - rho) * w);
            rate += m;
        }
    }
}

/* ---- views of plain images ---- */

static void plain_step(const struct cta *c, const struct cta_choice *k, struct rng *r,
                       struct augment_image *im, uint8_t *work)
{
    const struct cta_options *o = &c->options;
    struct augment_cta_extra extra = {.translate_px =
                                          o->translate_px ? o->translate : o->translate * im->size};
    if (k->op == AUGMENT_CTA_CUTOUT) {
        extra.centre[0] = rng_uniform(r);
        extra.centre[1] = rng_uniform(r);
    }
    augment_cta_apply((enum augment_cta_op)k->op, k->v, &extra, im, work);
}

/* Weak view, back to 8 bits (exactly what it was made of), the policy, and cutout's largest box. */
static void view_plain(const struct cta *c, const struct cta_policy *p, bool cutout, const uint8_t *px,
                       struct rng *r, float *x, uint8_t *scratch)
{
    const struct imageset_layout *l = &c->augment.layout;
    const int n_px = l->size * l->size, n = n_px * l->n_bands;
    struct augment_image im = {.size = l->size, .n_bands = l->n_bands, .px = scratch, .cover = scratch + n};
    uint8_t *work = im.cover + n_px;
    augment_view(&c->augment, AUGMENT_WEAK, px, r, x, NULL);
    for (int i = 0; i < n; i++)
        im.px[i] = (uint8_t)lrintf(127.5f * (1.0f + x[i]));
    memset(im.cover, 255, (size_t)n_px); /* unused by these operations, but kept sound */
    for (int k = 0; k < p->n; k++)
        plain_step(c, &p->choice[k], r, &im, work);
    if (cutout) {
        const struct cta_choice whole = {.op = AUGMENT_CTA_CUTOUT, .v = {1.0}};
        plain_step(c, &whole, r, &im, work);
    }
    for (int i = 0; i < n; i++)
        x[i] = (float)im.px[i] / 127.5f - 1.0f;
}

/* ---- views of pairs ---- */

/* Puts map m (o -> m o + t) before what d maps already: first the new operation's output is looked up, then
 * the older ones'. */
static void compose(struct augment_pair *d, const double m[2][2], const double t[2])
{
    for (int i = 0; i < 2; i++) {
        const double a0 = (double)d->a[i][0], a1 = (double)d->a[i][1];
        for (int k = 0; k < 2; k++)
            d->a[i][k] = (float)(a0 * m[0][k] + a1 * m[1][k]);
        d->t[i] = (float)((double)d->t[i] + a0 * t[0] + a1 * t[1]);
    }
}

static void pair_geometry(struct augment_pair *d, const struct cta_choice *k, int size)
{
    const double way = 2.0 * k->v[0] - 1.0;
    double m[2][2] = {{1, 0}, {0, 1}}, t[2] = {0, 0};
    switch ((enum pair_op)k->op) {
    case PAIR_ROTATE:
        m[0][0] = m[1][1] = cos(way * M_PI / 6);
        m[1][0] = sin(way * M_PI / 6);
        m[0][1] = -m[1][0];
        break;
    case PAIR_SHEAR_X:
        m[0][1] = 0.15 * way;
        break;
    case PAIR_SHEAR_Y:
        m[1][0] = 0.15 * way;
        break;
    case PAIR_RESCALE:
        m[0][0] = m[1][1] = 1.0 / (1.0 + 0.2 * way);
        break;
    case PAIR_TRANSLATE_X:
        t[0] = 0.12 * way * size;
        break;
    case PAIR_TRANSLATE_Y:
        t[1] = 0.12 * way * size;
        break;
    case PAIR_JITTER:
        for (int i = 0; i < 2; i++)
            d->jitter[i] = (float)fmax(
                -PAIR_JITTER_MAX_PX,
                fmin(PAIR_JITTER_MAX_PX, (double)d->jitter[i] + PAIR_JITTER_MAX_PX * (2.0 * k->v[i] - 1.0)));
        return;
    default:
        return;
    }
    compose(d, m, t);
}

static void pair_photo(struct augment_pair *d, const struct cta_choice *k, int slot, struct rng *r)
{
    struct augment_photo *o = &d->photo[k->date][slot];
    const int row = k->op - PAIR_FIRST_PHOTO;
    o->op = pair_photos[row].op;
    o->m = (float)(pair_photos[row].lo + k->v[0] * (pair_photos[row].hi - pair_photos[row].lo));
    for (int i = 0; i < IMAGESET_MAX_BANDS; i++)
        o->u[i] = (float)rng_uniform(r);
    o->seed = rng_u32(r);
}

/* The weak part: an element of the square's group and a shift. */
static void pair_weak(const struct imageset_layout *l, struct rng *r, struct augment_pair *d)
{
    const int most = l->size / 8 < PAIR_SHIFT_PX ? l->size / 8 : PAIR_SHIFT_PX, g = (int)rng_below(r, 8);
    memset(d, 0, sizeof *d); /* photometry: nothing */
    d->a[0][g & 4 ? 1 : 0] = g & 1 ? -1.0f : 1.0f;
    d->a[1][g & 4 ? 0 : 1] = g & 2 ? -1.0f : 1.0f;
    for (int i = 0; i < 2; i++)
        d->t[i] = (float)((int)rng_below(r, (uint32_t)(2 * most + 1)) - most);
}

static void pair_draw(const struct cta *c, const struct cta_policy *p, struct rng *r, struct augment_pair *d)
{
    int slot[IMAGESET_MAX_DATES] = {0};
    pair_weak(&c->augment.layout, r, d);
    for (int k = 0; k < p->n; k++) {
        const struct cta_choice *o = &p->choice[k];
        if (is_photo(c, o->op))
            pair_photo(d, o, slot[o->date]++, r);
        else
            pair_geometry(d, o, c->augment.layout.size);
    }
}

static void view_pair(const struct cta *c, bool probe, const uint8_t *px, struct rng *r, float *x,
                      void *scratch, struct cta_policy *p)
{
    const struct imageset_layout *l = &c->augment.layout;
    struct augment_pair d;
    for (int k = 0;; k++) {
        sample(c, probe, r, p);
        if (k == FRAME_TRIES) {
            p->n = 0;
            pair_draw(c, p, r, &d);
            d.t[0] = d.t[1] = 0;
            break;
        }
        pair_draw(c, p, r, &d);
        if (augment_pair_in_frame(l, px, &d) >= AUGMENT_FRAME_SHARE)
            break;
    }
    augment_pair_finish(l, !probe && c->augment.cutout, px, &d, r, x, scratch);
    if (!probe)
        augment_hide(&c->augment, AUGMENT_STRONG, r, x);
}

/* ---- */

size_t cta_scratch_bytes(const struct augment_config *augment)
{
    const struct imageset_layout *l = &augment->layout;
    const size_t n_px = (size_t)l->size * (size_t)l->size;
    if (!augment_is_plain(l))
        return augment_pair_scratch_bytes(l);
    return n_px * ((size_t)l->n_bands + 1) + augment_cta_scratch_bytes(l->size, l->n_bands);
}

static void view(const struct cta *c, bool probe, const uint8_t *px, struct rng *r, float *x, void *scratch,
                 struct cta_policy *used)
{
    struct cta_policy own, *p = used ? used : &own;
    if (c->pair) {
        view_pair(c, probe, px, r, x, scratch, p);
        return;
    }
    sample(c, probe, r, p);
    view_plain(c, p, !probe && c->augment.cutout, px, r, x, scratch);
}

void cta_strong_view(const struct cta *c, const uint8_t *px, struct rng *r, float *x, void *scratch,
                     struct cta_policy *used)
{
    view(c, false, px, r, x, scratch, used);
}

void cta_probe_view(const struct cta *c, const uint8_t *px, struct rng *r, float *x, void *scratch,
                    struct cta_policy *used)
{
    assert(used);
    view(c, true, px, r, x, scratch, used);
}
