/* SPDX-License-Identifier: Apache-2.0
 *
 * scene_ground.c - everything flat: grass, soil and crops, streets, driveways, pools, cars.
 *
 * paint_ground() is the only painter that visits each pixel, so it looks up its block once and spends few
 * noise calls. */
#include "samples/scene/scene_canvas.h"

enum { SIDE = CANVAS_SIDE, AREA = CANVAS_SIDE * CANVAS_SIDE };

static px4 grass(const struct scene_date *d, float vigor)
{
    px4 lush = px4_of(0.235f, 0.315f, 0.185f, 0.56f), dry = px4_of(0.445f, 0.415f, 0.295f, 0.42f);
    return px4_mix(lush, dry, noise_clamp(d->dryness + 0.9f * (0.5f - vigor)));
}

static const px4 SOIL = {0.53f, 0.44f, 0.33f, 0.46f};
static const px4 CONCRETE = {0.60f, 0.585f, 0.55f, 0.54f};

/* Crop rows: a crop, a stubble or bare soil, another one on each date. */
static px4 crop_color(const struct canvas *c, const struct block *b, float x, float y, float grain)
{
    uint32_t h = noise_mix(b->hash + (uint32_t)c->date * 77u);
    static const px4 kinds[] = {{0.22f, 0.33f, 0.16f, 0.60f},
                                {0.33f, 0.39f, 0.20f, 0.52f},
                                {0.58f, 0.51f, 0.33f, 0.46f},
                                {0.47f, 0.38f, 0.28f, 0.42f},
                                {0.38f, 0.30f, 0.23f, 0.36f}};
    px4 k = kinds[(c->date == PRE ? b->hash : h) % 5];
    float row = x * cosf(b->angle) + y * sinf(b->angle);
    float stripe = noise_value(row / 1.4f, row * 0.01f, b->hash) - 0.5f;
    float wet = noise_octaves(x / 60, y / 60, 2, b->hash + 9) - 0.5f;
    return k * (1 + 0.16f * stripe + 0.30f * wet + 0.15f * grain);
}

struct spot { /* what the ground painter knows about a pixel */
    float x, y, u, v, fine, mid, slow;
};

static px4 open_land(const struct canvas *c, const struct block *b, const struct spot *q)
{
    const struct scene_date *d = c->d;
    float vigor = 0.55f * q->slow + 0.45f * q->mid;
    px4 g = grass(d, vigor) * (0.86f + 0.28f * q->fine);
    if (!b)
        return g;
    switch (b->kind) {
    case BLOCK_CROP:
        return crop_color(c, b, q->x, q->y, q->fine - 0.5f);
    case BLOCK_WOOD:
        return px4_mix(g, SOIL * 0.6f, 0.55f);
    case BLOCK_SITE: { /* graded soil; finished lawn or still soil on the second date */
        float rut = noise_step(0.35f, 0.75f, q->mid + 0.25f * (q->fine - 0.5f));
        px4 soil = SOIL * (0.95f + 0.4f * q->fine + 0.15f * (q->slow - 0.5f));
        return px4_mix(soil, g, c->date == POST && b->hash % 2 ? 0.3f + 0.6f * rut : 0.35f * rut);
    }
    case BLOCK_SHOPS: { /* asphalt, with bays marked near the buildings' rows */
        px4 a = px4_of(0.37f, 0.37f, 0.375f, 0.36f) * (0.9f + 0.18f * q->fine + 0.2f * (q->slow - 0.5f));
        float bay = q->u - 2.7f * floorf(q->u / 2.7f);
        bool row = fmodf(fabsf(q->v), 19.0f) < 5.0f;
        return row ? px4_mix(a, px4_of(0.8f, 0.8f, 0.78f, 0.7f),
                             0.6f * noise_clamp(0.5f - (fabsf(bay - 1.35f) - 0.08f) / c->gsd) * 0.5f)
                   : a;
    }
    default:
        return g;
    }
}

/* Gardens: each lot has its own grass; fences between lots behind the houses. */
static px4 garden(const struct canvas *c, const struct block *b, const struct town *t, int i, int j,
                  const struct spot *q)
{
    float u0 = t->u[i] + t->half_u[i] + 3, u1 = t->u[i + 1] - t->half_u[i + 1] - 3;
    float lot = (u1 - u0) / b->n_lots, at = (q->u - u0) / lot;
    int k = (int)floorf(at), side = q->v > 0.5f * (t->v[j] + t->v[j + 1]);
    uint32_t h = noise_hash(k, side + 2 * c->date, b->hash), steady = noise_hash(k, side, b->hash);
    float care = 0.5f * noise_unit(steady) + 0.5f * noise_unit(h);
    float vigor = 0.35f * q->slow + 0.3f * q->mid + 0.9f * (care - 0.3f);
    px4 g = grass(c->d, vigor) * (0.85f + 0.30f * q->fine);
    float bare = noise_step(0.66f, 0.8f,
                            q->mid + 0.18f * (q->fine - 0.5f) + 0.16f * (noise_unit(noise_mix(h)) - 0.6f));
    g = px4_mix(g, SOIL * (0.85f + 0.3f * q->fine), 0.75f * bare);
    float mid_v = 0.5f * (t->v[j] + t->v[j + 1]), back = fabsf(q->v - mid_v);
    float edge = fminf(at - floorf(at), 1 - (at - floorf(at))) * lot;
    if (steady % 10 < 6 && back < 15) { /* a fence and its thin shadow */
        float f = fmaxf(0.0f, 1 - fminf(edge, back) / (0.7f * c->gsd));
        g = px4_mix(g, px4_of(0.24f, 0.21f, 0.18f, 0.25f), 0.6f * f);
    }
    return g;
}

/* Distance to the nearest built street's edge (negative on it) and its half width; out: sideways position for
 * markings. */
static float street_edge(const struct town *t, const struct block *b, int i, int j, float u, float v,
                         float *half, uint32_t *line)
{
    size_t nu = (size_t)t->n_u - 1;
    const struct block *right = i + 2 < t->n_u ? b + 1 : b, *below = j + 2 < t->n_v ? b + nu : b;
    float d[4] = {b->street_left ? u - t->u[i] : 1e9f, right->street_left ? t->u[i + 1] - u : 1e9f,
                  b->street_top ? v - t->v[j] : 1e9f, below->street_top ? t->v[j + 1] - v : 1e9f};
    float w[4] = {t->half_u[i], t->half_u[i + 1], t->half_v[j], t->half_v[j + 1]};
    int best = 0;
    for (int k = 1; k < 4; k++)
        if (d[k] - w[k] < d[best] - w[best])
            best = k;
    *half = w[best];
    *line = best < 2 ? (uint32_t)(i + best) * 2 : (uint32_t)(j + best - 2) * 2 + 1;
    /* rounded corners where two streets meet */
    float a = fminf(d[0] - w[0], d[1] - w[1]), q = fminf(d[2] - w[2], d[3] - w[3]);
    float round = 5.0f;
    if (a > 0 && q > 0 && a < round && q < round)
        return round - hypotf(round - a, round - q);
    return d[best] - w[best];
}

static px4 street(const struct canvas *c, px4 ground, float edge, float half, uint32_t line, bool homes,
                  const struct spot *q)
{
    uint32_t h = noise_mix(line * 977u + c->s->salt[SALT_ROAD]);
    float worn = c->date == POST && h % 7 == 0 ? 0.3f : 0.0f; /* resurfaced meanwhile */
    float tone = 0.33f + 0.17f * noise_unit(h) - worn * 0.3f;
    px4 asphalt =
        px4_of(tone, tone * 0.99f, tone * 0.98f, tone) * (0.94f + 0.1f * q->fine + 0.14f * (q->mid - 0.5f));
    float side = edge + half; /* distance from the middle */
    if (half > 6.0f) {
        float dash = fmodf(fabsf(q->u + q->v), 9.0f) < 4.0f ? 1.0f : 0.0f;
        float mark = noise_clamp(0.5f - (fabsf(side - 0.25f) - 0.10f) / c->gsd) +
                     0.8f * dash * noise_clamp(0.5f - (fabsf(side - 3.3f) - 0.07f) / c->gsd);
        asphalt = px4_mix(asphalt, px4_of(0.72f, 0.62f, 0.36f, 0.6f), 0.35f * noise_clamp(mark));
    }
    if (homes && h % 3) { /* a verge, then a pavement */
        float walk = canvas_cover(c, fabsf(edge - 2.2f) - 0.6f);
        ground = px4_mix(ground, CONCRETE * (0.95f + 0.1f * q->fine), 0.85f * walk);
    }
    if (half > 6.0f || h % 2)
        ground = px4_mix(ground, CONCRETE, 0.8f * canvas_cover(c, fabsf(edge) - 0.2f));
    return px4_mix(ground, asphalt, canvas_cover(c, edge));
}

/* What the disaster leaves on the ground itself: scoured and littered, or burnt. */
static px4 scar(const struct canvas *c, px4 ground, const struct spot *q, float strewn, float fire)
{
    if (fire > 0) {
        px4 ash = px4_mix(px4_of(0.25f, 0.235f, 0.22f, 0.24f), px4_of(0.40f, 0.34f, 0.28f, 0.32f), q->slow) *
                  (0.75f + 0.4f * q->fine + 0.5f * (q->mid - 0.4f));
        ground = px4_mix(ground, ash, fire * noise_step(0.10f, 0.5f, q->slow * 0.5f + q->mid * 0.6f));
    }
    if (strewn > 0) {
        px4 mud = px4_of(0.39f, 0.345f, 0.28f, 0.34f) * (0.8f + 0.4f * q->fine);
        ground = px4_mix(ground, mud, 0.35f * strewn * noise_step(0.25f, 0.7f, q->mid));
        uint32_t h = noise_hash((int32_t)floorf(q->x / 0.55f), (int32_t)floorf(q->y / 0.55f),
                                c->s->salt[SALT_STREWN] + 3);
        float clump = noise_octaves(q->x / 7, q->y / 7, 2, c->s->salt[SALT_STREWN] + 37);
        if (noise_unit(h) < 0.30f * strewn * noise_step(0.40f, 0.7f, clump))
            ground = px4_mix(ground, wreck_piece_color(noise_mix(h), false), 0.65f);
    }
    return ground;
}

bool ground_is_street(const struct scene *s, float x, float y)
{
    float u, v, half;
    uint32_t line;
    int i, j;
    town_to_streets(s, x, y, &u, &v);
    const struct block *b = town_block(s, u, v, &i, &j);
    return b && street_edge(&s->town, b, i, j, u, v, &half, &line) < 0;
}

void paint_ground(struct canvas *c)
{
    const struct scene *s = c->s;
    const struct town *t = &s->town;
    enum { CELL = 8, CELLS = CANVAS_SIDE / CELL + 1 };
    static _Thread_local float strewn[CELLS][CELLS], fire[CELLS][CELLS]; /* slow fields, at one pixel in 64 */
    for (int j = 0; j < CELLS; j++)
        for (int i = 0; i < CELLS; i++) {
            int k = (j * CELL < SIDE ? j * CELL : SIDE - 1) * SIDE + (i * CELL < SIDE ? i * CELL : SIDE - 1);
            strewn[j][i] = c->date == POST ? damage_strewn(s, c->gx[k], c->gy[k]) : 0;
            fire[j][i] = c->date == POST ? damage_fire(s, c->gx[k], c->gy[k]) : 0;
        }
    for (int k = 0; k < AREA; k++) {
        struct spot q = {.x = c->gx[k], .y = c->gy[k], .u = c->su[k], .v = c->sv[k]};
        q.fine = 0.6f * noise_value(q.x / 0.8f, q.y / 0.8f, s->salt[SALT_GRAIN]) +
                 0.4f * noise_value(q.x / 2.1f, q.y / 2.1f, s->salt[SALT_GRAIN] + 1);
        q.mid = 0.65f * noise_value(q.x / 9, q.y / 9, s->salt[SALT_GROUND]) +
                0.35f * noise_value(q.x / 4, q.y / 4, s->salt[SALT_GROUND] + 1);
        q.slow = noise_value(q.x / 70, q.y / 70, s->salt[SALT_GROUND] + 2);
        int i, j;
        const struct block *b = town_block(s, q.u, q.v, &i, &j);
        bool homes = b && b->kind == BLOCK_HOMES;
        float swept = 1;
        px4 g = homes ? garden(c, b, t, i, j, &q) : open_land(c, b, &q);
        if (b) {
            float half;
            uint32_t line;
            float edge = street_edge(t, b, i, j, q.u, q.v, &half, &line);
            swept = edge < 0 ? 0.2f : 1.0f; /* streets are cleared first */
            if (edge < 4)
                g = street(c, g, edge, half, line, homes || b->kind == BLOCK_SHOPS, &q);
        }
        if (c->date == POST) {
            int x = k % SIDE, y = k / SIDE, cx = x / CELL, cy = y / CELL;
            float tx = (float)(x % CELL) / CELL, ty = (float)(y % CELL) / CELL;
            float a = px4_mix(px4_of(strewn[cy][cx], fire[cy][cx], 0, 0),
                              px4_of(strewn[cy][cx + 1], fire[cy][cx + 1], 0, 0), tx)[0];
            px4 top = px4_mix(px4_of(a, fire[cy][cx] + (fire[cy][cx + 1] - fire[cy][cx]) * tx, 0, 0),
                              px4_of(strewn[cy + 1][cx] + (strewn[cy + 1][cx + 1] - strewn[cy + 1][cx]) * tx,
                                     fire[cy + 1][cx] + (fire[cy + 1][cx + 1] - fire[cy + 1][cx]) * tx, 0, 0),
                              ty);
            g = scar(c, g, &q, swept * top[0], swept * top[1]);
        }
        c->color[k] = g;
    }
}

static void house_point(const struct house *h, float lx, float ly, float at[2])
{
    at[0] = h->x + lx * h->cs - ly * h->sn;
    at[1] = h->y + lx * h->sn + ly * h->cs;
}

static void yard(struct canvas *c, uint32_t item)
{
    const struct house *h = &c->s->house[item];
    float at[2];
    if (h->big)
        return;
    px4 drive = px4_mix(CONCRETE, px4_of(0.38f, 0.38f, 0.38f, 0.37f),
                        h->hash % 5 == 0 ? 0.9f : 0.25f * noise_unit(h->hash));
    house_point(h, h->drive_x, 0.5f * h->drive_y, at);
    canvas_fill_rect(c, at[0], at[1], h->cs, h->sn, h->drive_hw, 0.5f * fabsf(h->drive_y), drive, 0.93f);
    house_point(h, 0.3f * h->part[0].hw, h->part[0].hd + 1.0f, at);
    if (h->hash % 3 == 0)
        canvas_fill_rect(c, at[0], at[1], h->cs, h->sn, 2.6f, 2.2f, CONCRETE * 1.02f, 0.9f);
    if (h->pool[2] > 0) {
        house_point(h, h->pool[0], h->pool[1], at);
        canvas_fill_rect(c, at[0], at[1], h->cs, h->sn, h->pool[2] + 1.2f, h->pool[3] + 1.2f,
                         CONCRETE * 1.08f, 0.9f);
        bool foul = c->date == POST && h->hit > 0.45f;
        px4 water = foul ? px4_of(0.22f, 0.27f, 0.23f, 0.12f) : px4_of(0.27f, 0.62f, 0.70f, 0.06f);
        canvas_fill_rect(c, at[0], at[1], h->cs, h->sn, h->pool[2], h->pool[3], water, 0.95f);
    }
    /* clutter of a lived-in yard, on either date: not damage */
    for (int k = 0; k < h->junk[c->date]; k++) {
        uint32_t q = noise_hash(k, c->date, h->hash), q2 = noise_mix(q);
        float lx = (noise_unit(q) - 0.5f) * 16, ly = h->part[0].hd + 1.5f + noise_unit(q2) * 9;
        float turn = noise_unit(noise_mix(q2)) * 3.14f;
        house_point(h, lx, ly, at);
        canvas_fill_rect(c, at[0], at[1], cosf(turn), sinf(turn), 0.3f + 0.9f * noise_unit(q2 + 5),
                         0.25f + 0.4f * noise_unit(q + 9), wreck_piece_color(noise_mix(q2 + 1), false), 0.9f);
    }
}

void paint_yards(struct canvas *c)
{
    canvas_each(c, &c->s->houses, 36, yard);
}

static void car(struct canvas *c, uint32_t item)
{
    const struct car *k = &c->s->car[item];
    if (!(k->dates & (1 << c->date)))
        return;
    static const px4 paints[] = {{0.88f, 0.88f, 0.88f, 0.8f},  {0.88f, 0.88f, 0.88f, 0.8f},
                                 {0.62f, 0.63f, 0.65f, 0.6f},  {0.14f, 0.14f, 0.15f, 0.16f},
                                 {0.14f, 0.14f, 0.15f, 0.16f}, {0.45f, 0.12f, 0.12f, 0.4f},
                                 {0.14f, 0.20f, 0.38f, 0.3f},  {0.35f, 0.36f, 0.37f, 0.35f}};
    px4 paint = paints[k->hash % 8];
    const float *sh = c->d->shadow;
    canvas_fill_rect(c, k->x + 0.9f * sh[0], k->y + 0.9f * sh[1], k->cs, k->sn, 2.2f, 0.9f,
                     px4_of(0.12f, 0.12f, 0.13f, 0.12f), 0.7f);
    canvas_fill_rect(c, k->x, k->y, k->cs, k->sn, 2.25f, 0.92f, paint, 1);
    canvas_fill_rect(c, k->x + 0.7f * k->cs, k->y + 0.7f * k->sn, k->cs, k->sn, 0.35f, 0.75f,
                     px4_of(0.12f, 0.14f, 0.16f, 0.12f), 0.85f);
    canvas_fill_rect(c, k->x - 1.3f * k->cs, k->y - 1.3f * k->sn, k->cs, k->sn, 0.25f, 0.7f,
                     px4_of(0.14f, 0.16f, 0.18f, 0.12f), 0.7f);
}

void paint_cars(struct canvas *c)
{
    canvas_each(c, &c->s->cars, 8, car);
}
