/* SPDX-License-Identifier: Apache-2.0
 *
 * augment.c - the views declared in augment.h: which recipe a layout gets, weak views, the plain strong
 * policy and test-time symmetries. Pillow's operations are augment_plain.c, strong views of pairs
 * augment_pair.c.
 *
 * Sources: weak views and RandAugment with cutout ("rac") as in FixMatch's released code (Sohn et al. 2020;
 * RandAugment: Cubuk et al. 2020); weak views of pairs as in SKAI's: mirrors, reflected shift, all channels
 * together. A weak view moves whole pixels only: a row table and a column table of source offsets describe
 * mirror, exchange of axes and reflection at once, and a table of 256 floats turns bytes into inputs.
 * Threads: no state, any number. */
#include "models/data/augment_ops.h"
#include "models/data/match.h"

#include <assert.h>
#include <string.h>

enum { PLAIN_OPS = 2, PLAIN_LEVELS = 9, PAIR_SHIFT_PX = 4 };
static const double PLAIN_CHANCE = 0.5, WEAK_GAIN = 0.05;
/* Measured on real events, FixMatch, ten labels per class, held-out AUROC without and with hiding: a wildfire
 * 0.722 and 0.904, a tornado's hardest draw 0.866 (with further samples) and 0.879. */
static const double HIDE_WEAK = 0.3, HIDE_STRONG = 0.5;

/* Where each output pixel of a whole-pixel view comes from: pixel row[y] + column[x] of the source. */
struct moves {
    int row[IMAGESET_MAX_SIZE], column[IMAGESET_MAX_SIZE];
};

/* Reflection that does not repeat the edge pixel. */
static int reflect(int i, int size)
{
    return i < 0 ? -i : i >= size ? 2 * size - 2 - i : i;
}

/* Symmetry g after a reflected shift of the window by (dx, dy). */
static void moves_make(struct moves *m, int size, int g, int dx, int dy)
{
    for (int i = 0; i < size; i++) {
        int sx, sy, at_x = reflect(i + dx, size), at_y = reflect(i + dy, size);
        augment_d4_source(g, size, at_x, 0, &sx, &sy);
        m->column[i] = g & 4 ? sy * size : sx;
        augment_d4_source(g, size, 0, at_y, &sx, &sy);
        m->row[i] = g & 4 ? sx : sy * size;
    }
}

static int draw_shift(struct rng *r, int most)
{
    return (int)rng_below(r, (uint32_t)(2 * most + 1)) - most;
}

static void draw_weak_plain(const struct augment_config *c, struct rng *r, struct moves *m)
{
    const int size = c->layout.size, dx = draw_shift(r, size / 8), dy = draw_shift(r, size / 8);
    const bool mirrored = c->mirror && rng_uniform(r) < 0.5;
    moves_make(m, size, mirrored ? 1 : 0, dx, dy);
}

/* tables: one of 256 inputs per date. */
static void move_to_input(const struct imageset_layout *l, const uint8_t *px, const struct moves *m,
                          float (*tables)[256], float *x)
{
    const int size = l->size, nb = l->n_bands, n = l->n_dates * nb;
    const int stored = imageset_stored_channels(l), cin = imageset_input_channels(l);
    const int all = (1 << l->n_dates) - 1;
    for (int oy = 0; oy < size; oy++)
        for (int ox = 0; ox < size; ox++, x += cin) {
            const uint8_t *in = px + (size_t)(m->row[oy] + m->column[ox]) * (size_t)stored;
            const int valid = l->has_masks ? in[n] & all : all;
            for (int date = 0; date < l->n_dates; date++) {
                const float *table = tables[date];
                for (int b = 0; b < nb; b++)
                    x[date * nb + b] = table[in[date * nb + b]];
            }
            if (l->has_masks && l->use_footprint)
                x[n] = (float)in[n + 1] / 127.5f - 1.0f;
            if (valid == all)
                continue;
            for (int date = 0; date < l->n_dates; date++)
                for (int b = 0; b < nb && !(valid >> date & 1); b++)
                    x[date * nb + b] = 0.0f;
        }
}

static void fill_table(float table[256], double gain)
{
    for (int v = 0; v < 256; v++) {
        float out = (float)gain * (float)v / 127.5f - 1.0f;
        table[v] = out > 1.0f ? 1.0f : out;
    }
}

static void view_weak(const struct augment_config *c, const uint8_t *px, struct rng *r, float *x)
{
    const struct imageset_layout *l = &c->layout;
    float tables[IMAGESET_MAX_DATES][256];
    struct moves m;
    if (augment_is_plain(l)) {
        draw_weak_plain(c, r, &m);
        fill_table(tables[0], 1.0);
    } else {
        const int most = l->size / 8 < PAIR_SHIFT_PX ? l->size / 8 : PAIR_SHIFT_PX, g = (int)rng_below(r, 8);
        const int dx = draw_shift(r, most), dy = draw_shift(r, most);
        moves_make(&m, l->size, g, dx, dy);
        for (int date = 0; date < l->n_dates; date++)
            fill_table(tables[date], 1.0 + WEAK_GAIN * (2.0 * rng_uniform(r) - 1.0));
    }
    move_to_input(l, px, &m, tables, x);
    if (l->use_match)
        match_fill(l, x);
}

static size_t plain_scratch_bytes(const struct imageset_layout *l)
{
    const size_t n_px = (size_t)l->size * l->size, bands = (size_t)l->n_bands;
    return n_px * bands + n_px + n_px * (bands + 1);
}

/* FixMatch's "rac": weak view, two operations drawn with replacement, each at a level of 1..9 and applied
 * half the time, then a cutout of half the side around any pixel, cut off at the border. What geometry
 * uncovered and cutout hides is 0. */
static void view_strong_plain(const struct augment_config *c, const uint8_t *px, struct rng *r, float *x,
                              void *scratch)
{
    const struct imageset_layout *l = &c->layout;
    const int size = l->size, nb = l->n_bands, n_px = size * size;
    struct augment_image im = {
        .size = size, .n_bands = nb, .px = scratch, .cover = (uint8_t *)scratch + (size_t)n_px * nb};
    uint8_t *work = im.cover + n_px;
    float table[256];
    struct moves m;
    draw_weak_plain(c, r, &m);
    for (int y = 0, p = 0; y < size; y++)
        for (int ox = 0; ox < size; ox++, p++)
            for (int b = 0; b < nb; b++)
                im.px[p * nb + b] = px[(m.row[y] + m.column[ox]) * nb + b];
    memset(im.cover, 255, (size_t)n_px);
    for (int k = 0; k < PLAIN_OPS; k++) {
        enum augment_plain_op op = (enum augment_plain_op)rng_below(r, AUGMENT_PLAIN_COUNT);
        int level = 1 + (int)rng_below(r, PLAIN_LEVELS), sign = rng_below(r, 2) ? 1 : -1;
        if (rng_uniform(r) < PLAIN_CHANCE)
            augment_plain_apply(op, augment_plain_argument(op, level, sign), &im, work);
    }
    if (c->cutout) {
        const int half = size / 4, cx = (int)rng_below(r, (uint32_t)size),
                  cy = (int)rng_below(r, (uint32_t)size);
        const int x0 = cx > half ? cx - half : 0, x1 = cx + half < size ? cx + half : size;
        for (int y = cy > half ? cy - half : 0; y < cy + half && y < size; y++)
            memset(im.cover + y * size + x0, 0, (size_t)(x1 - x0));
    }
    fill_table(table, 1.0);
    for (int p = 0; p < n_px; p++)
        for (int b = 0; b < nb; b++)
            x[p * nb + b] = im.cover[p] ? table[im.px[p * nb + b]] : 0.0f;
}

size_t augment_scratch_bytes(const struct augment_config *c)
{
    return augment_is_plain(&c->layout) ? plain_scratch_bytes(&c->layout)
                                        : augment_pair_scratch_bytes(&c->layout);
}

void augment_hide(const struct augment_config *c, enum augment_kind kind, struct rng *r, float *x)
{
    const struct imageset_layout *l = &c->layout;
    const size_t cin = (size_t)imageset_input_channels(l), bands = (size_t)(l->n_dates * l->n_bands);
    if (!c->hide_bands || !l->use_match || kind == AUGMENT_NONE ||
        rng_uniform(r) >= (kind == AUGMENT_WEAK ? HIDE_WEAK : HIDE_STRONG))
        return;
    for (float *end = x + (size_t)l->size * l->size * cin; x < end; x += cin)
        memset(x, 0, bands * sizeof *x);
}

void augment_view(const struct augment_config *c, enum augment_kind kind, const uint8_t *px, struct rng *r,
                  float *x, void *scratch)
{
    assert(c->layout.size >= 4 && c->layout.size <= IMAGESET_MAX_SIZE);
    assert(c->layout.n_bands >= 1 && c->layout.n_bands <= IMAGESET_MAX_BANDS);
    assert(c->layout.n_dates >= 1 && c->layout.n_dates <= IMAGESET_MAX_DATES);
    if (kind == AUGMENT_NONE)
        imageset_to_input(&c->layout, px, x);
    else if (kind == AUGMENT_WEAK)
        view_weak(c, px, r, x);
    else if (augment_is_plain(&c->layout))
        view_strong_plain(c, px, r, x, scratch);
    else
        augment_pair_view(&c->layout, c->cutout, px, r, x, scratch, NULL);
    augment_hide(c, kind, r, x);
}

void augment_d4(const struct imageset_layout *l, const float *x, int g, float *out)
{
    const int size = l->size;
    const size_t pixel = (size_t)imageset_input_channels(l);
    assert(g >= 0 && g < 8);
    for (int y = 0; y < size; y++)
        for (int ox = 0; ox < size; ox++, out += pixel) {
            int sx, sy;
            augment_d4_source(g, size, ox, y, &sx, &sy);
            memcpy(out, x + ((size_t)sy * size + (size_t)sx) * pixel, pixel * sizeof *out);
        }
}
