/* SPDX-License-Identifier: Apache-2.0
 *
 * scene_plants.c - trees and their shadows: leafy crowns, bare ones, conifers, felled and burnt ones.
 *
 * Trees of gardens are stored; those of woods, parks and meadows grow on a 6 m lattice from hashes while a
 * tile is painted, since a county's woods would hold millions. */
#include "samples/scene/scene_canvas.h"

enum { SIDE = CANVAS_SIDE, WOOD_CELL_M = 6 };

/* The tree of one lattice cell; false when none grows there. */
static bool wood_tree(const struct canvas *c, int ix, int iy, struct tree *t)
{
    const struct scene *s = c->s;
    uint32_t h = noise_hash(ix, iy, s->salt[SALT_TREE] + 11), h2 = noise_mix(h + 1), h3 = noise_mix(h + 2);
    t->x = ((float)ix + noise_unit(h2)) * WOOD_CELL_M;
    t->y = ((float)iy + noise_unit(h3)) * WOOD_CELL_M;
    float clump = noise_octaves(t->x / 38, t->y / 38, 2, s->salt[SALT_TREE] + 12);
    float u, v;
    int i, j;
    town_to_streets(s, t->x, t->y, &u, &v);
    const struct block *b = town_block(s, u, v, &i, &j);
    if (!b)
        return false;
    float chance = b->kind == BLOCK_WOOD     ? 0.95f * noise_step(0.25f, 0.42f, clump)
                   : b->kind == BLOCK_PARK   ? 0.35f * noise_step(0.45f, 0.6f, clump)
                   : b->kind == BLOCK_MEADOW ? 0.5f * noise_step(0.58f, 0.7f, clump)
                                             : 0.0f;
    const struct town *n = &s->town;
    float to_edge = fminf(fminf(u - n->u[i] - n->half_u[i], n->u[i + 1] - u - n->half_u[i + 1]),
                          fminf(v - n->v[j] - n->half_v[j], n->v[j + 1] - v - n->half_v[j + 1]));
    if (b->kind == BLOCK_CROP && to_edge < 4 && b->hash % 3) /* hedgerows */
        chance = 0.6f * noise_step(0.4f, 0.55f, clump);
    if (noise_unit(h) >= chance || to_edge < 2.5f)
        return false;
    t->hash = noise_mix(h3 + 5);
    t->conifer = noise_unit(noise_mix(h3 + 6)) < (b->hash % 4 == 0 ? 0.8f : 0.15f);
    t->r = 2.0f + 2.6f * noise_unit(noise_mix(h3 + 7));
    t->height = t->conifer ? 3.2f * t->r : 3.0f + 1.8f * t->r;
    t->state[PRE] =
        !t->conifer && noise_unit(noise_mix(t->hash + 1)) < s->date[PRE].leaf_off ? TREE_BARE : TREE_LEAFY;
    t->state[POST] = c->date == POST ? damage_tree(s, t) : TREE_LEAFY;
    return true;
}

static void each_wood_tree(struct canvas *c, void (*paint)(struct canvas *, const struct tree *))
{
    enum { REACH = 26 };
    int x0 = (int)floorf((c->reach_x[0] - REACH) / WOOD_CELL_M),
        x1 = (int)floorf((c->reach_x[1] + REACH) / WOOD_CELL_M);
    int y0 = (int)floorf((c->reach_y[0] - REACH) / WOOD_CELL_M),
        y1 = (int)floorf((c->reach_y[1] + REACH) / WOOD_CELL_M);
    for (int y = y0; y <= y1; y++)
        for (int x = x0; x <= x1; x++) {
            struct tree t;
            if (wood_tree(c, x, y, &t))
                paint(c, &t);
        }
}

static void tree_shadow(struct canvas *c, const struct tree *t)
{
    uint8_t state = t->state[c->date];
    if (state == TREE_ABSENT || state == TREE_FELLED)
        return;
    const float *sh = c->d->shadow;
    float p[12][2], alpha = state == TREE_BARE || state == TREE_BURNT ? 0.38f : 0.92f;
    float crown = t->conifer ? 0.25f * t->height : t->height - t->r; /* height of the crown's widest level */
    float top = t->height, r = t->r * (t->conifer ? 0.9f : 1.0f);
    for (int k = 0; k < 8; k++) {
        float a = (float)k * 0.785f;
        p[k][0] = t->x + crown * sh[0] + r * cosf(a);
        p[k][1] = t->y + crown * sh[1] + r * sinf(a);
    }
    float tip = t->conifer ? 0.2f : 0.55f * r; /* a cone ends in a point, a crown in a dome */
    for (int k = 0; k < 4; k++) {
        float a = (float)k * 1.571f;
        p[8 + k][0] = t->x + (top - (t->conifer ? 0 : 0.35f * r)) * sh[0] + tip * cosf(a);
        p[8 + k][1] = t->y + (top - (t->conifer ? 0 : 0.35f * r)) * sh[1] + tip * sinf(a);
    }
    canvas_shade_hull(c, p, 12, alpha, true);
}

static px4 crown_color(const struct scene_date *d, const struct tree *t, uint8_t state)
{
    float own = noise_unit(noise_mix(t->hash + 9));
    px4 leaf = px4_mix(px4_of(0.20f, 0.275f, 0.145f, 0.55f), px4_of(0.31f, 0.35f, 0.20f, 0.55f), own);
    leaf = px4_mix(leaf, px4_of(0.39f, 0.34f, 0.20f, 0.48f), 0.55f * noise_clamp(d->dryness - 0.25f) * own);
    if (t->conifer)
        leaf = px4_of(0.145f, 0.205f, 0.135f, 0.42f) * (0.85f + 0.4f * own);
    if (state == TREE_BARE)
        return px4_of(0.40f, 0.36f, 0.32f, 0.36f);
    if (state == TREE_BROWN)
        return px4_of(0.43f, 0.33f, 0.22f, 0.38f) * (0.8f + 0.3f * own);
    return state == TREE_BURNT ? px4_of(0.17f, 0.15f, 0.14f, 0.15f) : leaf;
}

static void felled_tree(struct canvas *c, const struct tree *t)
{
    float turn = 6.28f * noise_unit(noise_mix(t->hash + 21)), len = 0.5f * t->height, cs = cosf(turn),
          sn = sinf(turn);
    float x = t->x + len * cs, y = t->y + len * sn;
    canvas_fill_disc(c, t->x, t->y, 0.8f, px4_of(0.34f, 0.26f, 0.19f, 0.3f), 0.8f);
    canvas_fill_rect(c, x, y, cs, sn, len, 0.28f, px4_of(0.36f, 0.29f, 0.23f, 0.33f), 0.9f);
    for (int k = 0; k < 9; k++) { /* the crown, flat on the ground */
        uint32_t h = noise_hash(k, 3, t->hash);
        float a = turn + 1.1f * (noise_unit(h) - 0.5f), q = len * (1.0f + 0.8f * noise_unit(noise_mix(h))),
              b = a + 1.2f * (noise_unit(h + 77) - 0.5f);
        px4 twig = h % 3 ? px4_of(0.32f, 0.28f, 0.22f, 0.32f) : px4_of(0.27f, 0.31f, 0.18f, 0.45f);
        canvas_fill_rect(c, t->x + q * cosf(a), t->y + q * sinf(a), cosf(b), sinf(b), 0.35f * t->r, 0.3f,
                         twig, 0.7f);
    }
}

static void tree_crown(struct canvas *c, const struct tree *t)
{
    uint8_t state = t->state[c->date];
    if (state == TREE_ABSENT)
        return;
    if (state == TREE_FELLED) {
        felled_tree(c, t);
        return;
    }
    const struct scene_date *d = c->d;
    bool bare = state == TREE_BARE || state == TREE_BURNT;
    float lift = t->conifer ? 0.4f * t->height : t->height - 0.8f * t->r;
    float x = t->x + lift * d->lean[0], y = t->y + lift * d->lean[1], r = t->r;
    px4 base = crown_color(d, t, state);
    struct canvas_box b;
    if (!canvas_bounds(c, x, y, 1.35f * r, &b))
        return;
    for (int j = b.y0; j < b.y1; j++)
        for (int i = b.x0; i < b.x1; i++) {
            int k = j * SIDE + i;
            float dx = (c->gx[k] - x) / r, dy = (c->gy[k] - y) / r, q = hypotf(dx, dy);
            if (q > 1.35f)
                continue;
            float a = atan2f(dy, dx);
            float lobes = noise_value(2.2f * cosf(a) + 7, 2.2f * sinf(a), t->hash);
            float tuft = noise_value(c->gx[k] / 0.9f, c->gy[k] / 0.9f, t->hash + 5);
            float rim = (t->conifer ? 0.72f : 0.70f) + 0.55f * (lobes - 0.5f) + 0.25f * tuft;
            float alpha = canvas_cover(c, (q - rim) * r);
            if (bare) { /* twigs: branches run outwards, ground shows between */
                float branch = noise_value(5.0f * a, 2.0f * q, t->hash + 8);
                alpha *= 0.20f + 0.65f * noise_step(0.4f, 0.75f, branch) * (1 - 0.5f * q);
            }
            if (alpha <= 0)
                continue;
            float dome = sqrtf(fmaxf(0.05f, 1 - 0.8f * q * q)), steep = t->conifer ? 1.0f : 0.75f;
            float light = fmaxf(0, (dx * d->sun[0] + dy * d->sun[1]) * steep + dome * d->sun[2]);
            float shade = d->ambient + (1 - d->ambient) * light / d->sun[2];
            shade *= bare ? 1.0f : 0.55f + 0.85f * tuft;
            c->color[k] = px4_mix(c->color[k], base * fminf(1.5f, shade), alpha);
        }
}

static void stored_shadow(struct canvas *c, uint32_t item)
{
    tree_shadow(c, &c->s->tree[item]);
}

static void stored_crown(struct canvas *c, uint32_t item)
{
    tree_crown(c, &c->s->tree[item]);
}

void paint_tree_shadows(struct canvas *c)
{
    canvas_each(c, &c->s->trees, 30, stored_shadow);
    each_wood_tree(c, tree_shadow);
}

void paint_trees(struct canvas *c)
{
    canvas_each(c, &c->s->trees, 16, stored_crown);
    each_wood_tree(c, tree_crown);
}
