/* SPDX-License-Identifier: Apache-2.0
 *
 * scene_town.c - the street plan: a grid of streets turned and bent by smooth noise, and what each block
 * between them is.
 *
 * Streets along u are some 85 m apart (two rows of lots back to back), those along v some 170 m. Homes gather
 * where a slow noise field is high, as towns do; a block without homes is a park, a crop field, a meadow, a
 * wood or a building site, and a minor street that serves no homes is not built. So the same plan serves a
 * dense square kilometre and a county. */
#include "models/base/mem.h"
#include "samples/scene/scene.h"
#include "samples/scene/scene_noise.h"

#include <stdlib.h>

enum { BEND_M = 300, MARGIN_M = 260 };

static float bend(const struct scene *s, int axis, float x, float y)
{
    return s->town.bend *
           (2.0f * noise_value(x / BEND_M, y / BEND_M, s->salt[axis ? SALT_WARP_V : SALT_WARP_U]) - 1.0f);
}

void town_to_streets(const struct scene *s, float x, float y, float *u, float *v)
{
    const struct town *t = &s->town;
    x -= t->center[0];
    y -= t->center[1];
    float a = x * t->turn_cos + y * t->turn_sin, b = y * t->turn_cos - x * t->turn_sin;
    *u = a + bend(s, 0, a, b);
    *v = b + bend(s, 1, a, b);
}

void town_to_ground(const struct scene *s, float u, float v, float *x, float *y)
{
    const struct town *t = &s->town;
    float a = u, b = v;
    for (int i = 0; i < 16; i++) { /* fixed point: the bend's slope stays below 0.45 */
        float na = u - bend(s, 0, a, b), nb = v - bend(s, 1, a, b);
        a = na;
        b = nb;
    }
    *x = a * t->turn_cos - b * t->turn_sin + t->center[0];
    *y = a * t->turn_sin + b * t->turn_cos + t->center[1];
}

static int find_line(const float *line, int n, float at)
{
    int lo = 0, hi = n - 1;
    if (at < line[0] || at >= line[hi])
        return -1;
    while (hi - lo > 1) {
        int mid = (lo + hi) / 2;
        if (line[mid] <= at)
            lo = mid;
        else
            hi = mid;
    }
    return lo;
}

const struct block *town_block(const struct scene *s, float u, float v, int *i, int *j)
{
    const struct town *t = &s->town;
    *i = find_line(t->u, t->n_u, u);
    *j = find_line(t->v, t->n_v, v);
    return *i < 0 || *j < 0 ? NULL : &t->block[(size_t)*j * (t->n_u - 1) + *i];
}

/* Street lines over [-reach, reach]; every fifth or so is a main road. */
static bool place_lines(struct scene *s, int axis, float reach, float gap, float spread, struct err *e)
{
    struct town *t = &s->town;
    int cap = (int)(2.0f * reach / (gap - spread)) + 3, n = 0;
    float *line = mem_array((size_t)cap, sizeof *line, "street lines", e);
    float *half = mem_array((size_t)cap, sizeof *half, "street widths", e);
    if (!line || !half) {
        free(line);
        free(half);
        return false;
    }
    struct rng r;
    rng_init(&r, s->o.seed, STREAM_STREETS, (uint64_t)axis + 1);
    int main_road = (int)rng_below(&r, 4);
    for (float at = -reach; n < cap; n++) {
        line[n] = at;
        bool wide = n % 5 == main_road;
        half[n] = wide ? 6.5f + (float)rng_uniform(&r) : 3.9f + 0.9f * (float)rng_uniform(&r);
        if (at > reach) {
            n++;
            break;
        }
        at += gap + spread * (2.0f * (float)rng_uniform(&r) - 1.0f);
    }
    if (axis) {
        t->v = line;
        t->half_v = half;
        t->n_v = n;
    } else {
        t->u = line;
        t->half_u = half;
        t->n_u = n;
    }
    return true;
}

struct ranked {
    float rank;
    uint32_t block;
};

static int by_rank(const void *a, const void *b)
{
    const struct ranked *x = a, *y = b;
    if (x->rank != y->rank)
        return x->rank < y->rank ? 1 : -1;
    return x->block < y->block ? -1 : 1;
}

/* Which share of a block's centre lies in the scene decides whether it may hold homes. */
static bool block_inside(const struct scene *s, int i, int j)
{
    const struct town *t = &s->town;
    float x, y;
    town_to_ground(s, 0.5f * (t->u[i] + t->u[i + 1]), 0.5f * (t->v[j] + t->v[j + 1]), &x, &y);
    return x > -40 && y > -40 && x < s->o.size_m[0] + 40 && y < s->o.size_m[1] + 40;
}

static float block_inside_share(const struct scene *s, int i, int j)
{
    const struct town *t = &s->town;
    int in = 0;
    for (int b = 0; b < 4; b++)
        for (int a = 0; a < 8; a++) {
            float x, y;
            town_to_ground(s, t->u[i] + (t->u[i + 1] - t->u[i]) * ((float)a + 0.5f) / 8,
                           t->v[j] + (t->v[j + 1] - t->v[j]) * ((float)b + 0.5f) / 4, &x, &y);
            in += x > 20 && y > 20 && x < s->o.size_m[0] - 20 && y < s->o.size_m[1] - 20;
        }
    return (float)in / 32;
}

static void choose_open_land(struct rng *r, struct block *b, bool dense)
{
    static const uint8_t kinds[16] = {BLOCK_CROP,   BLOCK_CROP,   BLOCK_CROP,   BLOCK_CROP,
                                      BLOCK_CROP,   BLOCK_MEADOW, BLOCK_MEADOW, BLOCK_MEADOW,
                                      BLOCK_MEADOW, BLOCK_WOOD,   BLOCK_WOOD,   BLOCK_WOOD,
                                      BLOCK_PARK,   BLOCK_MEADOW, BLOCK_CROP,   BLOCK_WOOD};
    b->kind = kinds[rng_below(r, 16)];
    if (dense && b->kind == BLOCK_CROP) /* within a town open land is rarely ploughed */
        b->kind = b->hash % 5 < 2   ? BLOCK_MEADOW
                  : b->hash % 5 < 3 ? BLOCK_WOOD
                  : b->hash % 5 < 4 ? BLOCK_PARK
                                    : BLOCK_CROP;
}

/* Gives homes to the most urban blocks until they hold enough lots; the rest is open land. */
static bool settle_blocks(struct scene *s, struct err *e)
{
    struct town *t = &s->town;
    size_t n = (size_t)(t->n_u - 1) * (t->n_v - 1);
    struct ranked *ranked = mem_array(n, sizeof *ranked, "blocks", e);
    if (!ranked)
        return false;
    for (size_t k = 0; k < n; k++) {
        int i = (int)(k % (size_t)(t->n_u - 1)), j = (int)(k / (size_t)(t->n_u - 1));
        struct rng r;
        rng_init(&r, s->o.seed, STREAM_BLOCKS, k);
        struct block *b = &t->block[k];
        b->hash = rng_u32(&r);
        b->angle = (float)(rng_uniform(&r) * 3.1416);
        float lot = 16.5f + 5.0f * (float)rng_uniform(&r);
        b->n_lots = (uint8_t)fminf(24, fmaxf(2, floorf((t->u[i + 1] - t->u[i] - 16.0f) / lot)));
        choose_open_land(&r, b, s->o.n_buildings > 300e-6 * s->o.size_m[0] * s->o.size_m[1]);
        float urban = noise_octaves((float)i / 7.0f, (float)j / 12.0f, 3, s->salt[SALT_URBAN]);
        ranked[k] = (struct ranked){block_inside(s, i, j) ? urban + 0.16f * (float)rng_uniform(&r) : -1.0f,
                                    (uint32_t)k};
    }
    qsort(ranked, n, sizeof *ranked, by_rank);
    double want = 1.10 * s->o.n_buildings + 4, have = 0;
    for (size_t q = 0; q < n && have < want && ranked[q].rank >= 0; q++) {
        struct block *b = &t->block[ranked[q].block];
        float inside = block_inside_share(s, (int)(ranked[q].block % (uint32_t)(t->n_u - 1)),
                                          (int)(ranked[q].block / (uint32_t)(t->n_u - 1)));
        uint32_t lucky = b->hash % 100;
        if (lucky < 5) {
            b->kind = lucky < 3 ? BLOCK_PARK : BLOCK_SITE;
            continue;
        }
        b->kind = lucky < 13 ? BLOCK_SHOPS : BLOCK_HOMES;
        have += (b->kind == BLOCK_HOMES ? 2.0 * b->n_lots : 5.0) * inside;
    }
    free(ranked);
    return true;
}

static bool built(uint8_t kind)
{
    return kind == BLOCK_HOMES || kind == BLOCK_SHOPS || kind == BLOCK_SITE;
}

static void build_streets(struct scene *s)
{
    struct town *t = &s->town;
    int nu = t->n_u - 1, nv = t->n_v - 1;
    for (int j = 0; j < nv; j++)
        for (int i = 0; i < nu; i++) {
            struct block *b = &t->block[(size_t)j * nu + i];
            bool above = j > 0 && built(t->block[(size_t)(j - 1) * nu + i].kind);
            bool before = i > 0 && built(t->block[(size_t)j * nu + i - 1].kind);
            b->street_top = built(b->kind) || above || t->half_v[j] > 6.0f;
            b->street_left = built(b->kind) || before || t->half_u[i] > 6.0f;
            /* some side streets were never cut through between two rows of homes */
            if (t->half_u[i] < 6.0f && built(b->kind) && before && b->hash / 100 % 4 == 0)
                b->street_left = 0;
        }
}

bool town_build(struct scene *s, struct err *e)
{
    struct town *t = &s->town;
    struct rng r;
    rng_init(&r, s->o.seed, STREAM_STREETS, 0);
    double turn = (rng_uniform(&r) - 0.5) * 0.5;
    t->turn_cos = (float)cos(turn);
    t->turn_sin = (float)sin(turn);
    t->center[0] = (float)(0.5 * s->o.size_m[0]);
    t->center[1] = (float)(0.5 * s->o.size_m[1]);
    t->bend = 45.0f;
    float reach = 0.5f * hypotf((float)s->o.size_m[0], (float)s->o.size_m[1]) + MARGIN_M;
    if (!place_lines(s, 0, reach, 165.0f, 38.0f, e) || !place_lines(s, 1, reach, 78.0f, 7.0f, e))
        return false;
    t->block = mem_array((size_t)(t->n_u - 1) * (t->n_v - 1), sizeof *t->block, "blocks", e);
    if (!t->block || !settle_blocks(s, e))
        return false;
    build_streets(s);
    return true;
}
