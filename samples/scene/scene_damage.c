/* SPDX-License-Identifier: Apache-2.0
 *
 * scene_damage.c - the disaster: where it passes, what it does to each building and tree, and how much it
 * strews about.
 *
 * A tornado is a bowed track whose strength falls off across it as exp(-(d / width)^2), torn into patches by
 * noise; a fire is the part of slow noise above a level. A building's grade comes from the strength plus its
 * own luck, so intact ones stand in the track and hurt ones outside, and blown debris reaches wider than
 * damage does: colour or texture of the surroundings alone do not tell a building's grade. */
#include "samples/scene/scene.h"
#include "samples/scene/scene_noise.h"

static void plan_tracks(struct scene *s, struct rng *r)
{
    float w = (float)s->o.size_m[0], h = (float)s->o.size_m[1], side = fminf(w, h);
    float width = fminf(330.0f, 0.24f * side);
    /* long scenes get several tracks side by side, some 3 km apart */
    s->n_tracks = (int)fminf(8.0f, fmaxf(1.0f, floorf(h / 2600.0f + 0.5f)));
    for (int k = 0; k < s->n_tracks; k++) {
        float y0 =
            h * ((float)k + 0.5f) / (float)s->n_tracks + 0.2f * h / (float)s->n_tracks * (float)rng_normal(r);
        float y1 =
            h * ((float)k + 0.5f) / (float)s->n_tracks + 0.2f * h / (float)s->n_tracks * (float)rng_normal(r);
        float len = hypotf(w, y1 - y0);
        s->track[k] = (struct track){0,
                                     y0,
                                     w / len,
                                     (y1 - y0) / len,
                                     len,
                                     0.1f * side * (float)rng_normal(r),
                                     width * (0.85f + 0.3f * (float)rng_uniform(r))};
    }
}

void damage_plan(struct scene *s)
{
    struct rng r;
    rng_init(&r, s->o.seed, STREAM_DISASTER, 0);
    s->n_tracks = 0;
    s->fire_level = 2.0f;
    s->fire_from[2] = 1.0f;
    if (s->o.event != SCENE_WILDFIRE)
        plan_tracks(s, &r);
    if (s->o.event != SCENE_TORNADO)
        s->fire_level = 0.53f;
    if (s->o.event == SCENE_MIXED) { /* fires in the south-east half, the track in the rest */
        s->fire_from[0] = 1.0f / (float)s->o.size_m[0];
        s->fire_from[1] = 1.0f / (float)s->o.size_m[1];
        s->fire_from[2] = -1.05f;
    }
}

float damage_wind(const struct scene *s, float x, float y)
{
    float strongest = 0;
    for (int k = 0; k < s->n_tracks; k++) {
        const struct track *t = &s->track[k];
        float along = (x - t->x0) * t->dx + (y - t->y0) * t->dy,
              across = (y - t->y0) * t->dx - (x - t->x0) * t->dy;
        float at = along / t->length;
        across += t->bow * 4 * at * (1 - at) * 0.5f;
        float d = across / (t->width * (0.8f + 0.4f * noise_value(along / 300, (float)k, s->salt[SALT_HIT])));
        strongest = fmaxf(strongest, expf(-d * d));
    }
    if (strongest < 0.01f)
        return 0;
    float patch = noise_octaves(x / 90, y / 90, 2, s->salt[SALT_HIT] + 1);
    return noise_clamp(strongest * (0.55f + 0.9f * patch));
}

float damage_strewn(const struct scene *s, float x, float y)
{
    if (!s->n_tracks)
        return 0;
    float patch = noise_octaves(x / 45, y / 45, 2, s->salt[SALT_STREWN]);
    float wind = damage_wind(s, x, y);
    float far =
        noise_step(0.52f, 0.66f,
                   noise_octaves(x / 130, y / 130, 2, s->salt[SALT_STREWN] + 1)); /* fallen out of the sky */
    wind = fmaxf(wind, 0.2f * far);
    return noise_clamp(noise_step(0.08f, 0.55f, wind) * (0.06f + 1.4f * noise_step(0.30f, 0.80f, patch)));
}

float damage_fire(const struct scene *s, float x, float y)
{
    if (s->fire_level > 1.0f || s->fire_from[0] * x + s->fire_from[1] * y + s->fire_from[2] <= 0)
        return 0;
    float slow = noise_octaves(x / 330, y / 330, 2, s->salt[SALT_FIRE]);
    float ragged = noise_octaves(x / 30, y / 30, 2, s->salt[SALT_FIRE] + 5);
    return noise_step(s->fire_level - 0.03f, s->fire_level + 0.05f, slow + 0.10f * (ragged - 0.5f));
}

static uint8_t grade_wind(struct rng *r, float wind)
{
    float luck = 0.20f * (float)rng_normal(r);
    if (rng_below(r, 100) < 10)
        return LEVEL_NONE; /* spared */
    if (rng_below(r, 1000) < 50)
        return (uint8_t)(1 + rng_below(r, 3)); /* a gust or a falling tree, anywhere */
    float at = wind + luck;
    return at < 0.38f ? LEVEL_NONE : at < 0.52f ? LEVEL_MINOR : at < 0.76f ? LEVEL_MAJOR : LEVEL_DESTROYED;
}

static uint8_t grade_fire(struct rng *r, float fire)
{
    uint32_t at = rng_below(r, 1000);
    if (fire > 0.5f)
        return at < 720 ? LEVEL_DESTROYED : at < 780 ? LEVEL_MAJOR : at < 860 ? LEVEL_MINOR : LEVEL_NONE;
    return at < 35   ? LEVEL_DESTROYED
           : at < 50 ? LEVEL_MAJOR
           : at < 80 ? LEVEL_MINOR
                     : LEVEL_NONE; /* embers */
}

void damage_house(struct scene *s, struct house *h, uint64_t index)
{
    struct rng r;
    rng_init(&r, s->o.seed, STREAM_DAMAGE, index);
    float wind = damage_wind(s, h->x, h->y), fire = damage_fire(s, h->x, h->y);
    bool burnable =
        s->fire_level <= 1.0f && s->fire_from[0] * h->x + s->fire_from[1] * h->y + s->fire_from[2] > 0;
    h->fire = burnable && fire >= wind;
    h->hit = h->fire ? fire : wind;
    h->level = h->fire ? grade_fire(&r, fire) : s->n_tracks ? grade_wind(&r, wind) : LEVEL_NONE;
    if (h->big && h->level == LEVEL_DESTROYED && !h->fire && rng_below(&r, 3))
        h->level = LEVEL_MAJOR; /* steel frames keep standing more often */
    if (h->note == NOTE_GONE || h->note == NOTE_SITE)
        h->level = LEVEL_NONE; /* nothing there to damage, or a site whose state no analyst could call */
    uint32_t style = rng_below(&r, 100);
    h->style = h->fire      ? WRECK_ASH
               : style < 36 ? WRECK_PILE
               : style < 68 ? WRECK_WALLS
               : style < 78 ? WRECK_SLAB
                            : WRECK_FOLDED;
    h->tarps =
        h->level == LEVEL_MINOR && !h->fire && rng_below(&r, 100) < 45 ? (uint8_t)(1 + rng_below(&r, 3)) : 0;
    if (h->level == LEVEL_MAJOR && !h->fire && rng_below(&r, 100) < 15)
        h->tarps = 1;
    float turn = 0.9f * (float)rng_normal(&r), dx = 1, dy = -0.4f;
    if (s->n_tracks) {
        dx = s->track[0].dx;
        dy = s->track[0].dy;
    }
    h->wind[0] = dx * cosf(turn) - dy * sinf(turn);
    h->wind[1] = dx * sinf(turn) + dy * cosf(turn);
}

uint8_t damage_tree(const struct scene *s, const struct tree *t)
{
    float luck = noise_unit(noise_mix(t->hash + 3));
    if (noise_unit(noise_mix(t->hash + 4)) < noise_step(0.25f, 0.8f, damage_wind(s, t->x, t->y)) * 0.6f)
        return luck < 0.45f ? TREE_FELLED : luck < 0.85f ? TREE_BARE : TREE_ABSENT;
    if (damage_fire(s, t->x, t->y) > 0.5f)
        return luck < 0.35f   ? TREE_BURNT
               : luck < 0.65f ? TREE_BROWN
               : luck < 0.78f ? TREE_ABSENT
                              : TREE_LEAFY;
    if (!t->conifer && noise_unit(noise_mix(t->hash + 1)) < s->date[POST].leaf_off)
        return TREE_BARE;
    return TREE_LEAFY;
}
