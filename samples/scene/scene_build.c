/* SPDX-License-Identifier: Apache-2.0
 *
 * scene_build.c - puts a scene together, and the slow fields over it: registration shift, clouds, blank
 * wedges.
 *
 * Each date gets its own sun, look angle, season, sensor response and noise, drawn in ranges seen between
 * real acquisitions of one place: sun 32 to 62 degrees high, off-nadir up to 22 degrees, and colour response
 * apart by some ten per cent. */
#include "models/base/mem.h"
#include "samples/scene/scene.h"
#include "samples/scene/scene_noise.h"

#include <stdlib.h>
#include <string.h>

enum { SHIFT_WAVE_M = 260, CELL_M = 48 };

static float between(struct rng *r, float lo, float hi)
{
    return lo + (hi - lo) * (float)rng_uniform(r);
}

static void plan_date(struct scene *s, int d)
{
    struct rng r;
    rng_init(&r, s->o.seed, STREAM_SENSOR, (uint64_t)d);
    struct scene_date *t = &s->date[d];
    /* azimuth clockwise from north, morning to early afternoon; y points south */
    float az = between(&r, 115, 215) * 0.0174533f, el = between(&r, 34, 60) * 0.0174533f;
    t->sun[0] = sinf(az) * cosf(el);
    t->sun[1] = -cosf(az) * cosf(el);
    t->sun[2] = sinf(el);
    t->shadow[0] = -t->sun[0] / t->sun[2];
    t->shadow[1] = -t->sun[1] / t->sun[2];
    float look = between(&r, 0, 6.2832f), tilt = tanf(between(&r, 3, 21) * 0.0174533f);
    t->lean[0] = cosf(look) * tilt;
    t->lean[1] = sinf(look) * tilt;
    t->ambient = between(&r, 0.27f, 0.40f);
    t->dryness = d == PRE ? between(&r, 0.05f, 0.45f) : between(&r, 0.2f, 0.75f);
    t->leaf_off = d == PRE ? between(&r, 0.05f, 0.5f) : between(&r, 0.0f, 0.3f);
    float gain = between(&r, 0.88f, 1.06f), veil = between(&r, 0.01f, 0.07f),
          cast = between(&r, -0.05f, 0.05f);
    for (int k = 0; k < 4; k++) {
        float tilt_k = (float)(k - 1) * cast;
        t->gain[k] = gain * (1 + tilt_k) * between(&r, 0.97f, 1.03f);
        t->veil[k] = veil * (k == 2 ? 1.5f : k == 1 ? 1.15f : 1.0f);
    }
    t->gamma = between(&r, 0.88f, 1.16f);
    t->blur_px = d == PRE ? between(&r, 0.45f, 0.65f) : between(&r, 0.5f, 0.75f);
    t->noise_sd = between(&r, 0.006f, 0.014f);
    t->saturation = between(&r, 0.75f, 1.1f);
    /* a wedge at one long side, at times a second over a corner */
    float w = (float)s->o.size_m[0], h = (float)s->o.size_m[1];
    float lean = between(&r, -0.03f, 0.03f), deep = between(&r, 0.012f, 0.03f) * w;
    if (d == PRE) { /* x < deep + lean * (y - h/2) */
        t->edge[0][0] = -1;
        t->edge[0][1] = lean;
        t->edge[0][2] = deep - lean * 0.5f * h;
    } else { /* x > w - deep + ... and the south-west corner */
        t->edge[0][0] = 1;
        t->edge[0][1] = lean;
        t->edge[0][2] = deep - w - lean * 0.5f * h;
    }
    float corner = between(&r, 0.06f, 0.14f) * fminf(w, h);
    t->edge[1][0] = d == PRE ? 1.0f : -1.0f; /* north-east before, south-west after */
    t->edge[1][1] = d == PRE ? -1.0f : 1.0f;
    t->edge[1][2] = corner - (d == PRE ? w : h);
}

static bool plan_clouds(struct scene *s, struct err *e)
{
    struct rng r;
    rng_init(&r, s->o.seed, STREAM_CLOUDS, 0);
    double km2 = s->o.size_m[0] * s->o.size_m[1] * 1e-6;
    s->n_clouds = (int)fmin(4000, 1 + 1.2 * km2);
    if (!(s->cloud = mem_array((size_t)s->n_clouds, sizeof *s->cloud, "clouds", e)))
        return false;
    for (int k = 0; k < s->n_clouds; k++)
        s->cloud[k] = (struct cloud){between(&r, 0, (float)s->o.size_m[0]),
                                     between(&r, 0, (float)s->o.size_m[1]), between(&r, 14, 34)};
    float look = between(&r, 0, 6.2832f), bias = between(&r, 0.3f, 1.0f);
    s->shift_bias[0] = bias * cosf(look);
    s->shift_bias[1] = bias * sinf(look);
    s->shift_range = (float)(4.0 * s->o.gsd[POST] - bias) * 0.8f;
    return true;
}

void scene_shift(const struct scene *s, float x, float y, float shift[2])
{
    float a = 2 * noise_value(x / SHIFT_WAVE_M, y / SHIFT_WAVE_M, s->salt[SALT_SHIFT_X]) - 1;
    float b = 2 * noise_value(x / SHIFT_WAVE_M, y / SHIFT_WAVE_M, s->salt[SALT_SHIFT_Y]) - 1;
    shift[0] = s->shift_bias[0] + s->shift_range * 0.7071f * a;
    shift[1] = s->shift_bias[1] + s->shift_range * 0.7071f * b;
}

void scene_seen_at(const struct scene *s, float x, float y, float at[2])
{
    float shift[2];
    at[0] = x;
    at[1] = y;
    for (int k = 0; k < 4; k++) { /* the field's slope is a few per cent: converges at once */
        scene_shift(s, at[0], at[1], shift);
        at[0] = x + shift[0];
        at[1] = y + shift[1];
    }
}

float scene_cloud(const struct scene *s, int date, float x, float y, float *shade)
{
    float cover = 0;
    *shade = 0;
    /* clouds 0 .. n-1 alternate: every fourth belongs to the pre date */
    float sx = x - 420 * s->date[date].shadow[0] * 0.25f, sy = y - 420 * s->date[date].shadow[1] * 0.25f;
    for (int k = 0; k < s->n_clouds; k++) {
        const struct cloud *c = &s->cloud[k];
        if ((k % 4 == 3) != (date == PRE))
            continue;
        float reach = 2.2f * c->r;
        if (fabsf(x - c->x) < reach && fabsf(y - c->y) < reach) {
            float puff = noise_octaves(x / 16, y / 16, 3, s->salt[SALT_CLOUD]);
            cover = fmaxf(cover,
                          noise_step(1.0f, 0.45f, hypotf(x - c->x, y - c->y) / c->r + 1.1f * (0.5f - puff)));
        }
        if (fabsf(sx - c->x) < reach && fabsf(sy - c->y) < reach) {
            float puff = noise_octaves(sx / 16, sy / 16, 2, s->salt[SALT_CLOUD]);
            *shade = fmaxf(
                *shade, noise_step(1.1f, 0.5f, hypotf(sx - c->x, sy - c->y) / c->r + 1.1f * (0.5f - puff)));
        }
    }
    return cover;
}

bool scene_blank(const struct scene *s, int date, float x, float y)
{
    const struct scene_date *d = &s->date[date];
    for (int k = 0; k < 2; k++)
        if (d->edge[k][0] * x + d->edge[k][1] * y + d->edge[k][2] > 0)
            return true;
    return x < 0 || y < 0 || x > s->o.size_m[0] || y > s->o.size_m[1];
}

float house_top(const struct house *h)
{
    const struct part *p = &h->part[0];
    return h->eave + 0.5f * p->rise * fminf(p->hw, p->hd);
}

/* position(k) of n items -> cells, by counting sort: items keep their order within a cell. */
static bool index_build(const struct scene *s, struct cell_index *index, size_t n, const float *xy,
                        size_t stride_bytes, struct err *e)
{
    index->cell_m = CELL_M;
    index->nx = (int)(s->o.size_m[0] / CELL_M) + 1;
    index->ny = (int)(s->o.size_m[1] / CELL_M) + 1;
    size_t cells = (size_t)index->nx * index->ny;
    index->start = mem_array(cells + 2, sizeof *index->start, "scene index", e);
    index->item = mem_array(n, sizeof *index->item, "scene index", e);
    if (!index->start || !index->item)
        return false;
    for (int pass = 0; pass < 2; pass++) {
        for (size_t k = 0; k < n; k++) {
            const float *p = (const float *)(const void *)((const char *)xy + k * stride_bytes);
            int cx = (int)(p[0] / CELL_M), cy = (int)(p[1] / CELL_M);
            cx = cx < 0 ? 0 : cx >= index->nx ? index->nx - 1 : cx;
            cy = cy < 0 ? 0 : cy >= index->ny ? index->ny - 1 : cy;
            size_t cell = (size_t)cy * index->nx + cx;
            if (pass)
                index->item[index->start[cell + 1]++] = (uint32_t)k;
            else
                index->start[cell + 2]++;
        }
        for (size_t c = 2; !pass && c < cells + 2; c++)
            index->start[c] += index->start[c - 1];
    }
    return true;
}

bool scene_build(struct scene *s, const struct scene_options *o, struct err *e)
{
    memset(s, 0, sizeof *s);
    s->o = *o;
    struct rng r;
    rng_init(&r, o->seed, STREAM_SALT, 0);
    for (int k = 0; k < SALT_COUNT; k++)
        s->salt[k] = rng_u32(&r);
    plan_date(s, PRE);
    plan_date(s, POST);
    damage_plan(s);
    return plan_clouds(s, e) && town_build(s, e) && town_populate(s, e) &&
           index_build(s, &s->houses, s->n_houses, &s->house->x, sizeof *s->house, e) &&
           index_build(s, &s->trees, s->n_trees, &s->tree->x, sizeof *s->tree, e) &&
           index_build(s, &s->cars, s->n_cars, &s->car->x, sizeof *s->car, e);
}

static void index_free(struct cell_index *index)
{
    free(index->start);
    free(index->item);
}

void scene_free(struct scene *s)
{
    free(s->town.u);
    free(s->town.v);
    free(s->town.half_u);
    free(s->town.half_v);
    free(s->town.block);
    free(s->house);
    free(s->tree);
    free(s->car);
    free(s->cloud);
    index_free(&s->houses);
    index_free(&s->trees);
    index_free(&s->cars);
    memset(s, 0, sizeof *s);
}
