/* SPDX-License-Identifier: Apache-2.0
 *
 * scene_wreck.c - what lies on the ground: destroyed buildings and debris.
 *
 * A destroyed building is a heap of pieces over its plan (pile), a plan of walls without roof (walls), a
 * swept slab with the debris thrown downwind (slab), or, after fire, a pale ash rectangle with some walls and
 * a chimney (ash). Blown debris lies wherever the wind field put it, round intact houses as well. Pieces are
 * drawn from the house's own random stream, so that tiles agree about them. */
#include "samples/scene/scene_canvas.h"

enum { SIDE = CANVAS_SIDE, STREWN_CELL_M = 3 };

px4 wreck_piece_color(uint32_t h, bool fire)
{
    static const px4 blown[16] = {
        {0.70f, 0.57f, 0.44f, 0.58f}, {0.70f, 0.57f, 0.44f, 0.58f}, {0.62f, 0.48f, 0.37f, 0.52f},
        {0.78f, 0.70f, 0.60f, 0.66f}, {0.78f, 0.70f, 0.60f, 0.66f}, {0.90f, 0.89f, 0.87f, 0.80f},
        {0.90f, 0.89f, 0.87f, 0.80f}, {0.56f, 0.40f, 0.34f, 0.48f}, {0.50f, 0.30f, 0.25f, 0.42f},
        {0.45f, 0.44f, 0.43f, 0.42f}, {0.36f, 0.32f, 0.29f, 0.33f}, {0.20f, 0.19f, 0.19f, 0.2f},
        {0.76f, 0.66f, 0.48f, 0.60f}, {0.73f, 0.55f, 0.52f, 0.58f}, {0.30f, 0.24f, 0.19f, 0.27f},
        {0.25f, 0.38f, 0.60f, 0.35f}};
    static const px4 burnt[8] = {{0.70f, 0.68f, 0.64f, 0.6f},  {0.80f, 0.78f, 0.74f, 0.7f},
                                 {0.52f, 0.49f, 0.46f, 0.46f}, {0.17f, 0.16f, 0.15f, 0.15f},
                                 {0.25f, 0.23f, 0.21f, 0.22f}, {0.44f, 0.34f, 0.27f, 0.36f},
                                 {0.62f, 0.58f, 0.52f, 0.53f}, {0.36f, 0.33f, 0.31f, 0.32f}};
    px4 k = fire ? burnt[h % 8] : blown[h % 16];
    return k * (0.66f + 0.46f * noise_unit(noise_mix(h + 1)));
}

/* One board, sheet or beam, with the sliver of shade beside it. */
static void piece(struct canvas *c, float x, float y, uint32_t h, float scale, bool fire)
{
    uint32_t h2 = noise_mix(h + 11);
    float turn = 3.1416f * noise_unit(h2), cs = cosf(turn), sn = sinf(turn);
    float len = scale * (0.25f + 1.5f * noise_unit(noise_mix(h + 12)) * noise_unit(noise_mix(h + 13)));
    float wide =
        fminf(len, scale * (0.12f + 0.5f * noise_unit(noise_mix(h + 14)) * noise_unit(noise_mix(h + 15))));
    const float *sh = c->d->shadow;
    if (scale > 0.6f)
        canvas_fill_rect(c, x + 0.5f * sh[0], y + 0.5f * sh[1], cs, sn, len, wide,
                         px4_of(0.12f, 0.11f, 0.11f, 0.12f), 0.7f);
    canvas_fill_rect(c, x, y, cs, sn, len, wide, wreck_piece_color(h, fire), 0.95f);
}

/* n pieces round the house: spread metres wide, thrown downwind by up to `throw_m`. */
static void scatter(struct canvas *c, const struct house *h, int n, float spread, float throw_m, float scale,
                    uint64_t key)
{
    struct rng r;
    rng_init(&r, c->s->o.seed, STREAM_WRECK, (uint64_t)h->hash << 8 | key);
    for (int k = 0; k < n; k++) {
        float a = (float)rng_uniform(&r) + (float)rng_uniform(&r) + (float)rng_uniform(&r) - 1.5f;
        float b = (float)rng_uniform(&r) + (float)rng_uniform(&r) + (float)rng_uniform(&r) - 1.5f;
        float t = throw_m * (float)rng_uniform(&r) * (float)rng_uniform(&r);
        float lx = a * (h->part[0].hw + spread) * 1.15f, ly = b * (h->part[0].hd + spread) * 1.15f;
        uint32_t hash = rng_u32(&r);
        piece(c, h->x + lx * h->cs - ly * h->sn + t * h->wind[0],
              h->y + lx * h->sn + ly * h->cs + t * h->wind[1], hash, scale, h->fire);
    }
}

/* Fills the building's plan with `color` of each point. ragged: how far the edge wanders. */
static void fill_plan(struct canvas *c, const struct house *h, float ragged,
                      px4 (*color)(const struct house *, float, float))
{
    struct canvas_box b;
    if (!canvas_bounds(c, h->x, h->y, h->radius + ragged + 1, &b))
        return;
    for (int j = b.y0; j < b.y1; j++)
        for (int i = b.x0; i < b.x1; i++) {
            int k = j * SIDE + i;
            float dx = c->gx[k] - h->x, dy = c->gy[k] - h->y, lx = dx * h->cs + dy * h->sn,
                  ly = dy * h->cs - dx * h->sn;
            float sd = 1e9f;
            for (int q = 0; q < h->n_parts; q++)
                sd = fminf(sd, canvas_rect(lx - h->part[q].cx, ly - h->part[q].cy, h->part[q].hw - 0.3f,
                                           h->part[q].hd - 0.3f));
            if (ragged > 0)
                sd += ragged * 2 * (noise_octaves(lx / 2.6f, ly / 2.6f, 2, h->hash + 83) - 0.55f);
            float a = canvas_cover(c, sd);
            if (a > 0)
                c->color[k] = px4_mix(c->color[k], color(h, lx, ly), a);
        }
}

static px4 heap_color(const struct house *h, float lx, float ly)
{
    float clump = noise_octaves(lx / 3, ly / 3, 2, h->hash + 87);
    uint32_t q = noise_hash((int)floorf(lx / 0.6f), (int)floorf(ly / 0.6f), h->hash + 89);
    px4 base = px4_mix(px4_of(0.15f, 0.13f, 0.12f, 0.14f), px4_of(0.56f, 0.46f, 0.37f, 0.48f),
                       noise_step(0.25f, 0.75f, clump));
    return px4_mix(base, wreck_piece_color(q, false), 0.45f);
}

static px4 walls_color(const struct house *h, float lx, float ly)
{
    return house_interior(h, lx, ly, 0.75f, 0.75f, false);
}

static px4 slab_color(const struct house *h, float lx, float ly)
{
    px4 k = house_interior(h, lx, ly, 0.0f, 0.12f, false);
    return px4_mix(k,
                   px4_of(0.64f, 0.61f, 0.57f, 0.57f) *
                       (0.92f + 0.16f * noise_octaves(lx / 2, ly / 2, 2, h->hash + 91)),
                   0.6f);
}

static px4 ash_color(const struct house *h, float lx, float ly)
{
    px4 k = house_interior(h, lx, ly, 0.35f, 0.8f, true);
    float rim = 1e9f;
    for (int q = 0; q < h->n_parts; q++)
        rim = fminf(rim, canvas_rect(lx - h->part[q].cx, ly - h->part[q].cy, h->part[q].hw - 0.3f,
                                     h->part[q].hd - 0.3f));
    if (rim > -0.6f) /* foundation */
        k = px4_mix(k, px4_of(0.70f, 0.68f, 0.64f, 0.6f), 0.6f);
    float char_spot = noise_step(0.6f, 0.72f, noise_octaves(lx / 1.8f, ly / 1.8f, 2, h->hash + 93));
    return px4_mix(k, px4_of(0.20f, 0.18f, 0.17f, 0.18f), 0.7f * char_spot);
}

static px4 folded_color(const struct house *h, float lx, float ly)
{
    return px4_mix(heap_color(h, lx, ly), px4_of(0.20f, 0.17f, 0.15f, 0.19f), 0.45f);
}

/* The roof has come down in plates that keep its colour but not its planes or outline. */
static void fold_roof(struct canvas *c, const struct house *h)
{
    struct rng r;
    rng_init(&r, c->s->o.seed, STREAM_WRECK, (uint64_t)h->hash << 8 | 9);
    int n = 9 + (int)rng_below(&r, 6);
    for (int k = 0; k < n; k++) {
        const struct part *p = &h->part[(int)rng_below(&r, 3) ? 0 : h->n_parts - 1];
        float lx = p->cx + p->hw * (2 * (float)rng_uniform(&r) - 1),
              ly = p->cy + p->hd * (2 * (float)rng_uniform(&r) - 1);
        float turn = 0.5f * (float)rng_normal(&r), cs = cosf(turn), sn = sinf(turn),
              light = 0.6f + 0.6f * (float)rng_uniform(&r);
        float hw = 1.2f + 2.4f * (float)rng_uniform(&r), hd = 0.8f + 1.4f * (float)rng_uniform(&r);
        float x = h->x + lx * h->cs - ly * h->sn, y = h->y + lx * h->sn + ly * h->cs;
        float ca = h->cs * cs - h->sn * sn, sa = h->sn * cs + h->cs * sn;
        const float *sh = c->d->shadow;
        canvas_fill_rect(c, x + 0.7f * sh[0], y + 0.7f * sh[1], ca, sa, hw, hd,
                         px4_of(0.13f, 0.12f, 0.12f, 0.13f), 0.6f);
        canvas_fill_rect(c, x, y, ca, sa, hw, hd, h->roof[PRE] * light, 0.97f);
    }
}

static void chimney(struct canvas *c, const struct house *h)
{
    float lx = (noise_unit(h->hash + 95) - 0.5f) * 1.6f * h->part[0].hw,
          ly = (noise_unit(noise_mix(h->hash + 95)) - 0.5f) * h->part[0].hd;
    float x = h->x + lx * h->cs - ly * h->sn, y = h->y + lx * h->sn + ly * h->cs;
    const float *sh = c->d->shadow;
    float len = 1.8f * hypotf(sh[0], sh[1]);
    canvas_fill_rect(c, x + 1.8f * sh[0], y + 1.8f * sh[1], sh[0] * 1.8f / len, sh[1] * 1.8f / len, len, 0.5f,
                     px4_of(0.12f, 0.12f, 0.13f, 0.12f), 0.75f);
    canvas_fill_rect(c, x + c->d->lean[0] * 3, y + c->d->lean[1] * 3, h->cs, h->sn, 0.7f, 0.55f,
                     px4_of(0.58f, 0.42f, 0.36f, 0.48f), 1);
}

static void destroyed(struct canvas *c, const struct house *h)
{
    int size = (int)(h->part[0].hw * h->part[0].hd * (h->big ? 1.0f : 2.2f));
    switch (h->style) {
    case WRECK_PILE:
        fill_plan(c, h, 2.2f, heap_color);
        scatter(c, h, 2 * size + 30, 2.0f, 6, 1.0f, 1);
        scatter(c, h, size / 3 + 8, 1.0f, 3, 2.4f, 2); /* plates of roof and wall */
        break;
    case WRECK_WALLS:
        fill_plan(c, h, 0.5f, walls_color);
        scatter(c, h, size + 20, 1.6f, 8, 0.9f, 1);
        scatter(c, h, size / 8 + 4, 3.0f, 8, 2.0f, 2);
        break;
    case WRECK_FOLDED:
        fill_plan(c, h, 1.3f, folded_color);
        scatter(c, h, size / 2 + 10, 1.5f, 4, 0.9f, 1);
        fold_roof(c, h);
        break;
    case WRECK_SLAB:
        fill_plan(c, h, 0, slab_color);
        scatter(c, h, size / 3 + 12, 2.5f, 0, 0.8f, 1);
        scatter(c, h, size + 20, 4.0f, 34, 1.0f, 2);
        break;
    default:
        fill_plan(c, h, 0.4f, ash_color);
        scatter(c, h, size / 2 + 25, 1.5f, 2, 0.8f, 1);
        if (h->hash % 5 < 3)
            chimney(c, h);
    }
}

static void wreck(struct canvas *c, uint32_t item)
{
    const struct house *h = &c->s->house[item];
    if (h->note == NOTE_SITE && !h->present[c->date]) { /* dug ground round a new slab */
        canvas_fill_rect(c, h->x, h->y, h->cs, h->sn, h->part[0].hw + 3.5f, h->part[0].hd + 3.5f,
                         px4_of(0.56f, 0.46f, 0.34f, 0.48f), 0.85f);
        fill_plan(c, h, 0, slab_color);
        return;
    }
    if (c->date == PRE || !h->present[POST])
        return;
    if (h->level == LEVEL_DESTROYED) {
        destroyed(c, h);
    } else if (h->level == LEVEL_MAJOR) {
        scatter(c, h, h->fire ? 16 : 60, 5.0f, h->fire ? 0 : 9, 0.8f, 3);
        scatter(c, h, h->fire ? 2 : 8, 4.0f, 7, 1.8f, 4);
    } else if (h->level == LEVEL_MINOR && !h->fire) {
        scatter(c, h, 12, 5.0f, 6, 0.6f, 3);
    }
}

void paint_wrecks(struct canvas *c)
{
    canvas_each(c, &c->s->houses, 75, wreck);
}

/* Blown debris that belongs to no house in particular. */
void paint_ground_debris(struct canvas *c)
{
    const struct scene *s = c->s;
    if (c->date == PRE || !s->n_tracks)
        return;
    enum { REACH = 6 };
    int x0 = (int)floorf((c->reach_x[0] - REACH) / STREWN_CELL_M),
        x1 = (int)floorf((c->reach_x[1] + REACH) / STREWN_CELL_M);
    int y0 = (int)floorf((c->reach_y[0] - REACH) / STREWN_CELL_M),
        y1 = (int)floorf((c->reach_y[1] + REACH) / STREWN_CELL_M);
    for (int y = y0; y <= y1; y++)
        for (int x = x0; x <= x1; x++) {
            uint32_t h = noise_hash(x, y, s->salt[SALT_STREWN] + 31);
            float px = ((float)x + noise_unit(noise_mix(h))) * STREWN_CELL_M,
                  py = ((float)y + noise_unit(noise_mix(h + 1))) * STREWN_CELL_M;
            float strewn = damage_strewn(s, px, py);
            if (strewn <= 0.0f)
                continue;
            float clump = noise_octaves(px / 7, py / 7, 2, s->salt[SALT_STREWN] + 37);
            float chance = 1.1f * strewn * noise_step(0.42f, 0.7f, clump);
            if (noise_unit(h) < chance && (h % 5 == 0 || !ground_is_street(s, px, py)))
                piece(c, px, py, noise_mix(h + 2), h % 8 == 0 ? 1.6f : 0.75f, false);
        }
}
