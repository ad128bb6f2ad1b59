/* SPDX-License-Identifier: Apache-2.0
 *
 * scene_people.c - what stands in the blocks: a house on each lot, shops on their parking grounds, trees,
 * cars.
 *
 * Every lot is drawn from its own random stream, so its house does not depend on which others were kept.
 * Exactly the number of buildings asked for is kept, those with the lowest lot rank. Some differ between the
 * dates without any disaster: re-roofed, new, already gone, under construction; they teach a learner that
 * change is not damage. */
#include "models/base/mem.h"
#include "samples/scene/scene.h"
#include "samples/scene/scene_noise.h"

#include <stdlib.h>

enum { LOTS_A_BLOCK = 64, TREES_A_LOT = 13 };

struct lot {
    uint32_t rank, block;
    uint8_t k, side;
};

static px4 tint(struct rng *r, px4 c, float spread)
{
    float all = 1.0f + spread * (float)rng_normal(r);
    px4 t = c * fmaxf(0.55f, fminf(1.5f, all));
    for (int k = 0; k < 3; k++)
        t[k] *= 1.0f + 0.25f * spread * (float)rng_normal(r);
    return t;
}

static px4 roof_color(struct rng *r, uint8_t *cover, bool big)
{
    static const struct {
        float weight;
        uint8_t cover;
        px4 color;
    } roofs[] = {
        {22, COVER_SHINGLE, {0.40f, 0.40f, 0.41f, 0.36f}}, {14, COVER_SHINGLE, {0.27f, 0.27f, 0.29f, 0.27f}},
        {15, COVER_SHINGLE, {0.40f, 0.32f, 0.27f, 0.37f}}, {11, COVER_SHINGLE, {0.57f, 0.48f, 0.39f, 0.50f}},
        {8, COVER_SHINGLE, {0.62f, 0.60f, 0.56f, 0.55f}},  {7, COVER_SHINGLE, {0.41f, 0.27f, 0.23f, 0.38f}},
        {7, COVER_TILE, {0.53f, 0.37f, 0.29f, 0.50f}},     {5, COVER_TILE, {0.60f, 0.49f, 0.39f, 0.54f}},
        {7, COVER_METAL, {0.80f, 0.81f, 0.81f, 0.75f}},    {2, COVER_METAL, {0.27f, 0.40f, 0.46f, 0.35f}},
        {2, COVER_METAL, {0.31f, 0.42f, 0.35f, 0.35f}},
    };
    if (big) {
        *cover = rng_below(r, 3) ? COVER_GRAVEL : COVER_METAL;
        static const px4 flat[] = {
            {0.78f, 0.78f, 0.76f, 0.70f}, {0.60f, 0.58f, 0.54f, 0.55f}, {0.42f, 0.41f, 0.41f, 0.40f}};
        return tint(r, flat[rng_below(r, 3)], 0.12f);
    }
    float at = 100.0f * (float)rng_uniform(r);
    size_t k = 0;
    while (k + 1 < sizeof roofs / sizeof *roofs && at >= roofs[k].weight)
        at -= roofs[k++].weight;
    *cover = roofs[k].cover;
    return tint(r, roofs[k].color, 0.13f);
}

/* Ground plan: a main part and mostly a wing, which makes L and T shapes. */
static void plan_house(struct rng *r, struct house *h, float room)
{
    float hw = 6.0f + 3.4f * (float)rng_uniform(r), hd = 4.2f + 2.0f * (float)rng_uniform(r);
    hw = fminf(hw, room);
    uint8_t shape = rng_below(r, 20) < 10 ? ROOF_GABLE : rng_below(r, 10) < 9 ? ROOF_HIP : ROOF_FLAT;
    float rise = shape == ROOF_FLAT ? 0.0f : 0.28f + 0.3f * (float)rng_uniform(r);
    h->eave = 2.7f + (rng_below(r, 4) == 0 ? 2.6f : 0.5f * (float)rng_uniform(r));
    h->part[0] = (struct part){0, 0, hw, hd, rise, shape, true};
    h->n_parts = 1;
    uint32_t wing = rng_below(r, 10);
    if (wing < 7) {
        float ww = 2.7f + 1.2f * (float)rng_uniform(r), out = 1.8f + 2.6f * (float)rng_uniform(r);
        float side = rng_below(r, 2) ? 1.0f : -1.0f, front = rng_below(r, 3) ? -1.0f : 1.0f;
        ww = fminf(ww, hw - 1.5f);
        float cx = side * (hw - ww) * (wing < 5 ? 1.0f : 0.4f);
        h->part[h->n_parts++] = (struct part){
            cx, front * (0.5f * (hd + out) - 0.5f), ww, 0.5f * (hd + out) + 0.5f, rise, shape, false};
    }
    if (wing < 2) /* a porch or annex behind */
        h->part[h->n_parts++] = (struct part){-0.3f * hw, hd + 0.8f, 2.2f, 1.6f, 0.06f, ROOF_FLAT, true};
}

static void plan_yard(struct rng *r, struct house *h, float setback)
{
    struct part *p = &h->part[h->n_parts > 1 ? 1 : 0];
    float side = rng_below(r, 2) ? 1.0f : -1.0f;
    h->drive_x = h->n_parts > 1 ? p->cx : side * (p->hw - 2.0f);
    h->drive_hw = 1.5f + 1.3f * (float)rng_uniform(r);
    h->drive_y = -h->part[0].hd - setback - 2.5f;
    float back = h->part[0].hd;
    if (rng_below(r, 100) < 8) {
        h->pool[0] = -side * 4.0f;
        h->pool[1] = back + 7.0f;
        h->pool[2] = 2.2f + 1.8f * (float)rng_uniform(r);
        h->pool[3] = 1.8f + 0.8f * (float)rng_uniform(r);
    }
    if (rng_below(r, 100) < 40) {
        h->shed[0] = side * (4.0f + 3.5f * (float)rng_uniform(r));
        h->shed[1] = back + 6.0f + 5.0f * (float)rng_uniform(r);
    }
    for (int d = 0; d < 2; d++)
        if (rng_below(r, 100) < 28)
            h->junk[d] = (uint8_t)(8 + rng_below(r, 70));
}

static void plan_change(struct rng *r, struct house *h)
{
    uint32_t fate = rng_below(r, 1000);
    h->present[PRE] = h->present[POST] = 1;
    h->roof[PRE] = roof_color(r, &h->cover[PRE], h->big);
    h->roof[POST] = h->roof[PRE];
    h->cover[POST] = h->cover[PRE];
    h->note = NOTE_STANDING;
    if (fate < 110) {
        h->note = NOTE_REROOFED;
        h->roof[POST] = roof_color(r, &h->cover[POST], h->big);
    } else if (fate < 128 && !h->big) {
        h->note = NOTE_NEW;
        h->present[PRE] = 0;
    } else if (fate < 142 && !h->big) {
        h->note = NOTE_GONE;
        h->present[PRE] = h->present[POST] = 0;
    } else if (fate < 165 && !h->big) { /* bare decking after, nothing or finished before */
        h->note = NOTE_SITE;
        h->present[PRE] = (uint8_t)rng_below(r, 2);
        h->cover[POST] = COVER_BARE;
        h->roof[POST] = tint(r, px4_of(0.70f, 0.58f, 0.43f, 0.60f), 0.06f);
    }
}

static void set_radius(struct house *h)
{
    h->radius = 0;
    for (int k = 0; k < h->n_parts; k++)
        h->radius = fmaxf(h->radius,
                          hypotf(fabsf(h->part[k].cx) + h->part[k].hw, fabsf(h->part[k].cy) + h->part[k].hd));
}

/* Puts the house frame at (u, v); side 1 looks the other way. */
static void place(const struct scene *s, struct house *h, float u, float v, int side)
{
    float x1, y1;
    town_to_ground(s, u, v, &h->x, &h->y);
    town_to_ground(s, u + 2.0f, v, &x1, &y1);
    float len = hypotf(x1 - h->x, y1 - h->y), flip = side ? -1.0f : 1.0f;
    h->cs = flip * (x1 - h->x) / len;
    h->sn = flip * (y1 - h->y) / len;
}

/* The building of lot k on one side of a block. */
static void make_house(const struct scene *s, uint32_t block, int k, int side, struct house *h)
{
    const struct town *t = &s->town;
    const struct block *b = &t->block[block];
    int i = (int)(block % (uint32_t)(t->n_u - 1)), j = (int)(block / (uint32_t)(t->n_u - 1));
    struct rng r;
    rng_init(&r, s->o.seed, STREAM_HOUSES,
             ((uint64_t)block * 2 + (uint64_t)side) * LOTS_A_BLOCK + (uint64_t)k);
    *h = (struct house){.hash = rng_u32(&r), .big = b->kind == BLOCK_SHOPS};
    float u0 = t->u[i] + t->half_u[i] + 3, u1 = t->u[i + 1] - t->half_u[i + 1] - 3;
    float v0 = t->v[j] + t->half_v[j], v1 = t->v[j + 1] - t->half_v[j + 1];
    if (h->big) {
        float room = (u1 - u0) / 6, depth = (v1 - v0) / 4;
        struct part p = {0,
                         0,
                         fminf(room - 3, 9 + 12 * (float)rng_uniform(&r)),
                         fminf(depth - 4, 8 + 8 * (float)rng_uniform(&r)),
                         rng_below(&r, 4) ? 0.0f : 0.09f,
                         ROOF_FLAT,
                         true};
        p.shape = p.rise > 0 ? ROOF_GABLE : ROOF_FLAT;
        h->part[0] = p;
        h->n_parts = 1;
        h->eave = 4.5f + 4.0f * (float)rng_uniform(&r);
        place(s, h, u0 + room * (float)(2 * k + 1), side ? v1 - depth : v0 + depth, side);
    } else {
        float lot = (u1 - u0) / b->n_lots, setback = 5.5f + 5.0f * (float)rng_uniform(&r);
        plan_house(&r, h, 0.5f * lot - 1.4f);
        plan_yard(&r, h, setback);
        float front = h->part[0].hd + setback;
        for (int q = 1; q < h->n_parts; q++) /* a wing towards the street keeps off it */
            front = fmaxf(front, 2.5f - (h->part[q].cy - h->part[q].hd));
        float slack = fmaxf(0.0f, 0.5f * lot - h->part[0].hw - 1.2f) * 0.8f;
        float u = u0 + lot * ((float)k + 0.5f) + slack * (2.0f * (float)rng_uniform(&r) - 1.0f);
        place(s, h, u, side ? v1 - front : v0 + front, side);
        float skew = 0.03f * (float)rng_normal(&r), cs = h->cs;
        h->cs = cs - h->sn * skew;
        h->sn = h->sn + cs * skew;
        float len = hypotf(h->cs, h->sn);
        h->cs /= len;
        h->sn /= len;
    }
    plan_change(&r, h);
    h->wall = tint(&r, px4_of(0.60f, 0.55f, 0.49f, 0.5f), 0.2f);
    set_radius(h);
}

static int by_lot_rank(const void *a, const void *b)
{
    const struct lot *x = a, *y = b;
    if (x->rank != y->rank)
        return x->rank < y->rank ? -1 : 1;
    if (x->block != y->block)
        return x->block < y->block ? -1 : 1;
    return (x->side * LOTS_A_BLOCK + x->k) - (y->side * LOTS_A_BLOCK + y->k);
}

static int by_lot_place(const void *a, const void *b)
{
    const struct lot *x = a, *y = b;
    if (x->block != y->block)
        return x->block < y->block ? -1 : 1;
    return (x->side * LOTS_A_BLOCK + x->k) - (y->side * LOTS_A_BLOCK + y->k);
}

/* All lots whose building would lie inside the scene. Caller frees *out. */
static bool list_lots(const struct scene *s, struct lot **out, size_t *n_out, struct err *e)
{
    const struct town *t = &s->town;
    size_t n_blocks = (size_t)(t->n_u - 1) * (t->n_v - 1), n = 0, cap = 0;
    struct lot *lots = NULL;
    for (uint32_t q = 0; q < n_blocks; q++) {
        const struct block *b = &t->block[q];
        int count = b->kind == BLOCK_HOMES ? b->n_lots : b->kind == BLOCK_SHOPS ? 3 : 0;
        for (int k = 0; k < 2 * count; k++) {
            struct house h;
            make_house(s, q, k / 2, k % 2, &h);
            if (h.x < 22 || h.y < 22 || h.x > s->o.size_m[0] - 22 || h.y > s->o.size_m[1] - 22)
                continue;
            if (n == cap) {
                cap = cap ? 2 * cap : 1024;
                if (!mem_grow(&lots, cap, sizeof *lots, "lots", e)) {
                    free(lots);
                    return false;
                }
            }
            lots[n++] = (struct lot){noise_mix(h.hash), q, (uint8_t)(k / 2), (uint8_t)(k % 2)};
        }
    }
    *out = lots;
    *n_out = n;
    return true;
}

static bool build_houses(struct scene *s, struct err *e)
{
    struct lot *lots = NULL;
    size_t n = 0;
    if (!list_lots(s, &lots, &n, e))
        return false;
    bool ok = n >= (size_t)s->o.n_buildings;
    if (!ok) {
        err_set(e, ERR_INPUT,
                "this ground has room for %zu buildings, not %d; enlarge --size-px or lower --buildings", n,
                s->o.n_buildings);
        goto done;
    }
    qsort(lots, n, sizeof *lots, by_lot_rank);
    n = (size_t)s->o.n_buildings;
    qsort(lots, n, sizeof *lots, by_lot_place);
    if (!(s->house = mem_array(n, sizeof *s->house, "buildings", e))) {
        ok = false;
        goto done;
    }
    for (size_t k = 0; k < n; k++) {
        make_house(s, lots[k].block, lots[k].k, lots[k].side, &s->house[k]);
        damage_house(s, &s->house[k], k);
    }
    s->n_houses = n;
done:
    free(lots);
    return ok;
}

static bool add_tree(struct scene *s, size_t *cap, struct tree t, struct err *e)
{
    if (s->n_trees == *cap) {
        *cap = *cap ? 2 * *cap : 8192;
        if (!mem_grow(&s->tree, *cap, sizeof *s->tree, "trees", e))
            return false;
    }
    t.state[PRE] = TREE_LEAFY;
    uint32_t cut = noise_mix(t.hash + 7) % 100;
    if (!t.conifer && noise_unit(noise_mix(t.hash + 1)) < s->date[PRE].leaf_off)
        t.state[PRE] = TREE_BARE;
    t.state[POST] = damage_tree(s, &t);
    if (cut < 3) /* felled or planted by someone's wish */
        t.state[cut % 2] = TREE_ABSENT;
    s->tree[s->n_trees++] = t;
    return true;
}

/* Trees of the gardens; woods grow by themselves while painting (scene_plants.c). */
static bool build_trees(struct scene *s, struct err *e)
{
    size_t cap = 0;
    for (size_t k = 0; k < s->n_houses; k++) {
        const struct house *h = &s->house[k];
        struct rng r;
        rng_init(&r, s->o.seed, STREAM_TREES, k);
        float green = noise_step(0.2f, 0.8f, noise_octaves(h->x / 110, h->y / 110, 2, s->salt[SALT_TREE]));
        int n = (int)rng_below(&r, 3) + (int)(TREES_A_LOT * green);
        for (int q = 0; q < n; q++) {
            struct tree t = {.hash = rng_u32(&r)};
            float lx = 13.0f * (2 * (float)rng_uniform(&r) - 1), ly = -14 + 34 * (float)rng_uniform(&r);
            float size = (float)rng_uniform(&r);
            t.r = 1.3f + 4.2f * size * size + 0.8f * (float)rng_uniform(&r);
            t.conifer = rng_below(&r, 10) < 3;
            t.height = t.conifer ? 3.2f * t.r : 3.0f + 1.7f * t.r;
            bool clear = true;
            for (int p = 0; p < h->n_parts; p++) {
                float dx = fabsf(lx - h->part[p].cx) - h->part[p].hw,
                      dy = fabsf(ly - h->part[p].cy) - h->part[p].hd;
                clear &= fmaxf(dx, dy) > 0.8f * t.r;
            }
            clear &= fabsf(lx - h->drive_x) > h->drive_hw + 0.6f || ly > 0;
            t.x = h->x + lx * h->cs - ly * h->sn;
            t.y = h->y + lx * h->sn + ly * h->cs;
            if (clear && !add_tree(s, &cap, t, e))
                return false;
        }
    }
    return true;
}

static bool add_car(struct scene *s, size_t *cap, struct car c, struct err *e)
{
    if (s->n_cars == *cap) {
        *cap = *cap ? 2 * *cap : 4096;
        if (!mem_grow(&s->car, *cap, sizeof *s->car, "cars", e))
            return false;
    }
    s->car[s->n_cars++] = c;
    return true;
}

/* Cars along a street: every 14 m a chance on each side. */
static bool park_along(struct scene *s, size_t *cap, float u0, float v0, float u1, float v1, float half,
                       uint64_t index, struct err *e)
{
    struct rng r;
    rng_init(&r, s->o.seed, STREAM_CARS, index);
    float len = hypotf(u1 - u0, v1 - v0), du = (u1 - u0) / len, dv = (v1 - v0) / len;
    for (float at = 12; at < len - 12; at += 14) {
        if (rng_below(&r, 100) >= 22)
            continue;
        float side = (rng_below(&r, 2) ? 1.0f : -1.0f) * (half - 1.3f);
        struct car c = {.hash = rng_u32(&r)};
        float x1, y1;
        town_to_ground(s, u0 + du * at - dv * side, v0 + dv * at + du * side, &c.x, &c.y);
        town_to_ground(s, u0 + du * (at + 1) - dv * side, v0 + dv * (at + 1) + du * side, &x1, &y1);
        float step = hypotf(x1 - c.x, y1 - c.y);
        c.cs = (x1 - c.x) / step;
        c.sn = (y1 - c.y) / step;
        c.dates = (uint8_t)(1 + rng_below(&r, 3));
        if (!add_car(s, cap, c, e))
            return false;
    }
    return true;
}

static bool build_cars(struct scene *s, struct err *e)
{
    const struct town *t = &s->town;
    size_t cap = 0;
    int nu = t->n_u - 1;
    for (int j = 0; j < t->n_v - 1; j++)
        for (int i = 0; i < nu; i++) {
            const struct block *b = &t->block[(size_t)j * nu + i];
            uint64_t index = ((uint64_t)j * nu + i) * 2 + ((uint64_t)1 << 40);
            if (b->kind != BLOCK_HOMES && b->kind != BLOCK_SHOPS)
                continue;
            if (b->street_top &&
                !park_along(s, &cap, t->u[i], t->v[j], t->u[i + 1], t->v[j], t->half_v[j], index, e))
                return false;
            if (b->street_left &&
                !park_along(s, &cap, t->u[i], t->v[j], t->u[i], t->v[j + 1], t->half_u[i], index + 1, e))
                return false;
        }
    for (size_t k = 0; k < s->n_houses; k++) {
        const struct house *h = &s->house[k];
        struct rng r;
        rng_init(&r, s->o.seed, STREAM_CARS, k);
        int n = h->big ? (int)rng_below(&r, 14) : (int)rng_below(&r, 3);
        for (int q = 0; q < n; q++) {
            float lx = h->drive_x + (n > 1 && h->drive_hw > 2.3f ? (q ? 1.3f : -1.3f) : 0),
                  ly = -h->part[0].hd - 4.5f - 5.5f * (h->drive_hw > 2.3f ? 0 : (float)q);
            if (h->big) {
                lx = -h->part[0].hw + 2.7f * (float)rng_below(&r, (uint32_t)(h->part[0].hw * 2 / 2.7f) + 1);
                ly = (rng_below(&r, 2) ? 1.0f : -1.0f) * (h->part[0].hd + 4.0f);
            }
            struct car c = {
                h->x + lx * h->cs - ly * h->sn, h->y + lx * h->sn + ly * h->cs, -h->sn, h->cs, rng_u32(&r),
                (uint8_t)(1 + rng_below(&r, 3))};
            if (!add_car(s, &cap, c, e))
                return false;
        }
    }
    return true;
}

bool town_populate(struct scene *s, struct err *e)
{
    return build_houses(s, e) && build_trees(s, e) && build_cars(s, e);
}
