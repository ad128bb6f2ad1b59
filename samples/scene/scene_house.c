/* SPDX-License-Identifier: Apache-2.0
 *
 * scene_house.c - standing buildings: their shadows, the walls an oblique look shows, their roofs, and the
 * damage of the two middle grades as an analyst knows it. Minor: missing patches that show felt or decking,
 * blue tarpaulins, scorched eaves. Major: part of the roof gone, rafters along the tear, rooms open to the
 * sky.
 *
 * A roof is the highest of its parts' planes at each point, which gives L and T shapes their valleys for
 * nothing. The whole roof is displaced by the date's look at its mean height (relief displacement). */
#include "samples/scene/scene_canvas.h"

enum { SIDE = CANVAS_SIDE };

struct roof_point {
    float sd, up;       /* distance outside the outline, height above the eaves */
    float fx, fy, rise; /* downhill direction in the house frame, slope */
    float across;       /* distance up the slope, for courses and ribs */
    float ridge;        /* distance from the ridge or hip line */
};

static void roof_part(const struct part *p, float lx, float ly, struct roof_point *r)
{
    float px = lx - p->cx, py = ly - p->cy, ax = p->hw - fabsf(px), ay = p->hd - fabsf(py);
    bool on_y = p->shape == ROOF_HIP ? ay < ax : p->along_x; /* the plane that falls towards +-y */
    float in = on_y ? ay : ax;
    r->up = p->rise * in;
    r->rise = p->rise;
    r->fx = on_y ? 0 : px < 0 ? -1.0f : 1.0f;
    r->fy = !on_y ? 0 : py < 0 ? -1.0f : 1.0f;
    r->across = in;
    r->ridge = p->shape == ROOF_FLAT ? 1e9f : on_y ? fabsf(py) : fabsf(px);
    if (p->shape == ROOF_HIP)
        r->ridge = fminf(r->ridge, 0.7f * fabsf(ax - ay));
}

static struct roof_point roof_at(const struct house *h, float lx, float ly)
{
    struct roof_point best = {.sd = 1e9f, .up = -1e9f};
    for (int k = 0; k < h->n_parts; k++) {
        const struct part *p = &h->part[k];
        struct roof_point r;
        float sd = canvas_rect(lx - p->cx, ly - p->cy, p->hw, p->hd), outline = fminf(best.sd, sd);
        roof_part(p, lx, ly, &r);
        if (sd < 0.4f && r.up > best.up)
            best = r;
        best.sd = outline;
    }
    return best;
}

/* Light on a plane relative to level ground in the sun. */
static float plane_light(const struct scene_date *d, const struct house *h, float fx, float fy, float rise)
{
    float wx = fx * h->cs - fy * h->sn, wy = fx * h->sn + fy * h->cs;
    float n = (rise * (wx * d->sun[0] + wy * d->sun[1]) + d->sun[2]) / sqrtf(1 + rise * rise);
    return d->ambient + (1 - d->ambient) * fmaxf(0, n) / d->sun[2];
}

/* Roofing with its own grain. */
static px4 roofing(const struct canvas *c, const struct house *h, float lx, float ly,
                   const struct roof_point *r)
{
    uint8_t cover = h->cover[c->date];
    uint32_t salt = h->hash + (uint32_t)c->date * (h->note == NOTE_REROOFED);
    float mottle = noise_octaves(lx / 2.5f, ly / 2.5f, 2, salt) - 0.5f,
          fine = noise_value(lx / 0.55f, ly / 0.55f, salt + 3) - 0.5f;
    px4 k = h->roof[c->date];
    switch (cover) {
    case COVER_SHINGLE:
        k *= 1 + 0.14f * mottle + 0.08f * fine;
        break;
    case COVER_TILE:
        k *= 1 + 0.14f * mottle + 0.08f * fine + 0.07f * sinf(r->across * 7.5f);
        break;
    case COVER_METAL: {
        float along = r->fy != 0 ? lx : ly;
        k *= 1 + 0.10f * mottle - 0.12f * noise_step(0.7f, 0.95f, cosf(along * 6.0f));
        break;
    }
    case COVER_BARE: { /* sheets of plywood */
        float u = lx / 2.44f, v = ly / 1.22f,
              joint = fminf(fabsf(u - roundf(u)) * 2.44f, fabsf(v - roundf(v)) * 1.22f);
        k *= 1 + 0.10f * mottle +
             0.14f * (noise_unit(noise_hash((int)floorf(u + 0.5f), (int)floorf(v + 0.5f), salt)) - 0.5f);
        k *= joint < 0.12f ? 0.82f : 1.0f;
        break;
    }
    default:
        k *= 1 + 0.28f * mottle + 0.10f * fine;
        if (r->sd > -0.6f) /* parapet */
            k = k * 1.12f;
    }
    return k;
}

/* Things on the roof: air conditioners on flat ones, chimneys, solar panels. */
static px4 fittings(const struct canvas *c, const struct house *h, float lx, float ly,
                    const struct roof_point *r, px4 k)
{
    const struct part *p = &h->part[0];
    const float *sh = c->d->shadow;
    float sx = sh[0] * h->cs + sh[1] * h->sn,
          sy = sh[1] * h->cs - sh[0] * h->sn; /* shadow in the house frame */
    int n = h->big ? 7 : p->shape == ROOF_FLAT ? 1 : h->hash % 3 != 0;
    for (int q = 0; q < n; q++) {
        uint32_t a = noise_hash(q, 5, h->hash);
        float bx = (noise_unit(a) - 0.5f) * 1.5f * p->hw,
              by = (noise_unit(noise_mix(a)) - 0.5f) * 1.4f * p->hd;
        float size = h->big ? 0.8f + 0.8f * noise_unit(a + 3) : 0.42f, tall = h->big ? 1.1f : 0.9f;
        float shade = canvas_rect(lx - bx - 0.5f * tall * sx, ly - by - 0.5f * tall * sy, size, size);
        k = px4_mix(k, k * 0.45f, canvas_cover(c, shade));
        k = px4_mix(k, h->big ? px4_of(0.82f, 0.82f, 0.80f, 0.7f) : px4_of(0.48f, 0.36f, 0.31f, 0.42f),
                    canvas_cover(c, canvas_rect(lx - bx, ly - by, size, size)));
    }
    if (h->hash / 7 % 28 == 0 && !h->big && r->fy != 0) {
        float at = r->fy * (ly - p->cy), sd = canvas_rect(lx, at - 0.5f * p->hd, 0.5f * p->hw, 0.28f * p->hd);
        float seam = fabsf(lx - roundf(lx)) < 0.08f ? 1.25f : 1.0f;
        k = px4_mix(k, px4_of(0.10f, 0.12f, 0.19f, 0.1f) * seam, canvas_cover(c, sd));
    }
    return k;
}

/* Rooms seen from above: floors by room, walls between them, things lying about. Also used for wrecks on the
 * ground. */
px4 house_interior(const struct house *h, float lx, float ly, float walls, float clutter, bool burnt)
{
    float jx = 3.4f + (float)(h->hash % 5) * 0.3f, u = lx / jx + 0.37f, v = ly / 3.1f + 0.61f;
    int iu = (int)floorf(u), iv = (int)floorf(v);
    uint32_t room = noise_hash(iu, iv, h->hash + 41);
    static const px4 floors[] = {{0.60f, 0.55f, 0.48f, 0.5f},
                                 {0.52f, 0.39f, 0.28f, 0.45f},
                                 {0.66f, 0.64f, 0.60f, 0.6f},
                                 {0.45f, 0.43f, 0.42f, 0.42f},
                                 {0.56f, 0.46f, 0.40f, 0.48f}};
    px4 k = floors[room % 5] * (0.85f + 0.3f * noise_value(lx / 0.8f, ly / 0.8f, h->hash + 43));
    float fu = u - (float)iu, fv = v - (float)iv;
    float to_wall = fminf(fminf(fu, 1 - fu) * jx, fminf(fv, 1 - fv) * 3.1f);
    bool stands = noise_unit(noise_hash(iu * 2 + (fu > 0.5f), iv * 2 + (fv > 0.5f), h->hash + 47)) < walls;
    if (stands && to_wall < 0.9f && to_wall > 0.28f) /* a wall's shade */
        k *= 0.45f;
    if (stands && to_wall <= 0.28f)
        k = px4_of(0.78f, 0.74f, 0.68f, 0.66f);
    float mess = noise_octaves(lx / 0.9f, ly / 0.9f, 2, h->hash + 53);
    uint32_t piece = noise_hash((int)floorf(lx / 0.7f), (int)floorf(ly / 0.6f), h->hash + 59);
    if (noise_unit(piece) < clutter * mess * 1.4f)
        k = px4_mix(k, wreck_piece_color(noise_mix(piece), burnt), 0.85f);
    if (burnt) {
        px4 ash = px4_of(0.60f, 0.57f, 0.53f, 0.5f) * (0.6f + 0.75f * mess);
        k = px4_mix(k, ash, stands && to_wall <= 0.28f ? 0.35f : 0.8f);
    }
    return k;
}

/* Missing patches and tarpaulins. */
static px4 minor_damage(const struct canvas *c, const struct house *h, float lx, float ly,
                        const struct roof_point *r, px4 k)
{
    const struct part *p = &h->part[0];
    float wx = h->wind[0] * h->cs + h->wind[1] * h->sn, wy = h->wind[1] * h->cs - h->wind[0] * h->sn;
    float lee = -(wx * lx / p->hw + wy * ly / p->hd);
    if (h->fire) { /* scorched along one side */
        float scorch = noise_step(
            0.25f, 0.85f, 0.75f * lee + 0.5f * (noise_octaves(lx / 1.6f, ly / 1.6f, 2, h->hash + 61) - 0.3f));
        return px4_mix(k, px4_of(0.11f, 0.10f, 0.10f, 0.1f), 0.85f * scorch);
    }
    float torn =
        noise_octaves(lx / 2.3f, ly / 1.7f, 3, h->hash + 61) + 0.10f * lee + (r->ridge < 0.8f ? 0.06f : 0.0f);
    float bare = noise_step(0.645f, 0.665f, torn);
    float board = noise_step(0.675f, 0.695f, torn);
    k = px4_mix(k, px4_of(0.23f, 0.22f, 0.22f, 0.22f), 0.9f * bare);
    float grainy = 0.9f + 0.2f * noise_value(lx * 3, ly * 0.6f, h->hash + 67);
    k = px4_mix(k, px4_of(0.66f, 0.53f, 0.39f, 0.55f) * grainy, (h->hash % 4 ? 1.0f : 0.0f) * board);
    (void)c;
    return k;
}

static px4 tarpaulins(const struct canvas *c, const struct house *h, float lx, float ly, px4 k)
{
    const struct part *p = &h->part[0];
    for (int q = 0; q < h->tarps; q++) {
        uint32_t a = noise_hash(q, 7, h->hash), b = noise_mix(a);
        float side = a % 2 ? 1.0f : -1.0f, hw = 1.4f + 2.6f * noise_unit(b),
              hd = fminf(0.5f * p->hd, 1.1f + 1.2f * noise_unit(b + 1));
        float tx = (noise_unit(a + 2) - 0.5f) * 2 * fmaxf(0, p->hw - hw),
              ty = side * (p->hd - hd - 0.2f - 0.5f * noise_unit(b + 2));
        float crease = 0.85f + 0.35f * noise_value(lx / 0.8f, ly / 2.0f, a);
        float sd = canvas_rect(lx - tx, ly - ty, hw, hd);
        k = px4_mix(k, px4_of(0.16f, 0.34f, 0.66f, 0.35f) * crease, canvas_cover(c, sd));
    }
    return k;
}

/* Part of the roof gone. */
static px4 major_damage(const struct house *h, float lx, float ly, const struct roof_point *r, px4 k)
{
    const struct part *p = &h->part[0];
    float turn = 6.28f * noise_unit(noise_mix(h->hash + 71)),
          extent = 0.17f + 0.22f * noise_unit(noise_mix(h->hash + 73));
    float lee = (cosf(turn) * lx / p->hw + sinf(turn) * ly / p->hd) * 0.33f;
    float torn = noise_octaves(lx / 3.2f, ly / 3.2f, 3, h->hash + 75) - 0.5f + lee + extent - 0.08f;
    float deck = noise_step(-0.10f, -0.09f, torn), open = noise_step(0.0f, 0.012f, torn);
    px4 board = h->fire ? px4_of(0.13f, 0.12f, 0.12f, 0.12f) : px4_of(0.66f, 0.53f, 0.39f, 0.55f);
    board *= 0.85f + 0.3f * noise_value(lx * 2.5f, ly * 0.7f, h->hash + 77);
    k = px4_mix(k, board, deck * (noise_value(lx / 1.2f, ly / 1.2f, h->hash + 79) > 0.35f ? 1.0f : 0.15f));
    px4 inside = house_interior(h, lx, ly, 0.9f, h->fire ? 0.3f : 0.55f, h->fire) * 0.82f;
    float beam = (r->fy != 0 ? lx : ly) / 0.85f;
    if (torn < 0.09f && fabsf(beam - roundf(beam)) < 0.2f) /* rafters reach out over the hole */
        inside = board * 1.05f;
    return px4_mix(k, inside, open);
}

static void walls(struct canvas *c, const struct house *h)
{
    const float *lean = c->d->lean;
    float top = h->eave;
    for (int q = 0; q < h->n_parts; q++) {
        const struct part *p = &h->part[q];
        float pts[8][2];
        for (int k = 0; k < 4; k++) {
            float lx = p->cx + (k & 1 ? p->hw : -p->hw) * 0.97f,
                  ly = p->cy + (k & 2 ? p->hd : -p->hd) * 0.97f;
            pts[k][0] = h->x + lx * h->cs - ly * h->sn;
            pts[k][1] = h->y + lx * h->sn + ly * h->cs;
            pts[4 + k][0] = pts[k][0] + top * lean[0];
            pts[4 + k][1] = pts[k][1] + top * lean[1];
        }
        /* the visible facade faces against the lean: lit when that is where the sun stands */
        float lit = -(lean[0] * c->d->sun[0] + lean[1] * c->d->sun[1]) > 0 ? 0.95f : 0.45f;
        canvas_fill_hull(c, pts, 8, h->wall * lit, 0.95f);
    }
}

static bool standing(const struct canvas *c, const struct house *h)
{
    return h->present[c->date] && !(c->date == POST && h->level == LEVEL_DESTROYED);
}

static void house(struct canvas *c, uint32_t item)
{
    const struct house *h = &c->s->house[item];
    if (!standing(c, h))
        return;
    const struct scene_date *d = c->d;
    float z = house_top(h), x = h->x + z * d->lean[0], y = h->y + z * d->lean[1];
    uint8_t level = c->date == POST ? h->level : LEVEL_NONE;
    struct canvas_box b;
    walls(c, h);
    if (!canvas_bounds(c, x, y, h->radius + 0.5f, &b))
        return;
    px4 night = d->ambient * px4_of(0.92f, 1.0f, 1.18f, 0.8f);
    for (int j = b.y0; j < b.y1; j++)
        for (int i = b.x0; i < b.x1; i++) {
            int k = j * SIDE + i;
            float dx = c->gx[k] - x, dy = c->gy[k] - y, lx = dx * h->cs + dy * h->sn,
                  ly = dy * h->cs - dx * h->sn;
            struct roof_point r = roof_at(h, lx, ly);
            float a = canvas_cover(c, r.sd);
            if (a <= 0)
                continue;
            px4 color = roofing(c, h, lx, ly, &r);
            color *= plane_light(d, h, r.fx, r.fy, r.rise);
            if (h->cover[c->date] != COVER_BARE)
                color = fittings(c, h, lx, ly, &r, color);
            if (r.ridge < 0.3f)
                color *= 1.07f;
            if (level == LEVEL_MINOR)
                color = minor_damage(c, h, lx, ly, &r, color);
            if (level == LEVEL_MAJOR)
                color = major_damage(h, lx, ly, &r, color);
            if (c->date == POST && h->tarps)
                color = tarpaulins(c, h, lx, ly, color);
            /* shade of taller trees: their ground shadow, where it would meet the roof */
            color *= px4_mix(px4_of(1, 1, 1, 1), night, 0.8f * c->dark_tree[k]);
            c->color[k] = px4_mix(c->color[k], color, a);
        }
}

static void shed(struct canvas *c, const struct house *h, bool shadow)
{
    if (h->shed[0] == 0 || (c->date == POST && h->hit > 0.5f))
        return;
    float x = h->x + h->shed[0] * h->cs - h->shed[1] * h->sn,
          y = h->y + h->shed[0] * h->sn + h->shed[1] * h->cs;
    float hw = 1.3f + noise_unit(h->hash + 3), hd = 1.2f + 0.6f * noise_unit(h->hash + 4);
    const float *sh = c->d->shadow;
    if (shadow) {
        float p[8][2];
        for (int k = 0; k < 4; k++) {
            float lx = k & 1 ? hw : -hw, ly = k & 2 ? hd : -hd;
            p[k][0] = x + lx * h->cs - ly * h->sn;
            p[k][1] = y + lx * h->sn + ly * h->cs;
            p[4 + k][0] = p[k][0] + 2.3f * sh[0];
            p[4 + k][1] = p[k][1] + 2.3f * sh[1];
        }
        canvas_shade_hull(c, p, 8, 1, false);
        return;
    }
    px4 k = h->hash % 2 ? px4_of(0.75f, 0.75f, 0.73f, 0.7f) : px4_of(0.45f, 0.37f, 0.31f, 0.42f);
    x += 2.3f * c->d->lean[0];
    y += 2.3f * c->d->lean[1];
    for (int q = 0; q < 2; q++) {
        float off = q ? 0.5f * hd : -0.5f * hd, light = plane_light(c->d, h, 0, q ? 1.0f : -1.0f, 0.35f);
        canvas_fill_rect(c, x - off * h->sn, y + off * h->cs, h->cs, h->sn, hw, 0.5f * hd, k * light, 1);
    }
}

static float plan_distance(const struct house *h, float gx, float gy)
{
    float dx = gx - h->x, dy = gy - h->y, lx = dx * h->cs + dy * h->sn, ly = dy * h->cs - dx * h->sn,
          sd = 1e9f;
    for (int q = 0; q < h->n_parts; q++)
        sd = fminf(sd, canvas_rect(lx - h->part[q].cx, ly - h->part[q].cy, h->part[q].hw, h->part[q].hd));
    return sd;
}

/* Rubble and stumps of walls cast a short, ragged shadow beside them; their own parts are shaded where they
 * are drawn. */
static void heap_shadow(struct canvas *c, const struct house *h)
{
    const float *sh = c->d->shadow;
    float tall = h->style == WRECK_ASH ? 0.7f : 1.2f + 1.4f * noise_unit(h->hash + 9);
    struct canvas_box b;
    if (!canvas_bounds(c, h->x, h->y, h->radius + tall * hypotf(sh[0], sh[1]), &b))
        return;
    for (int j = b.y0; j < b.y1; j++)
        for (int i = b.x0; i < b.x1; i++) {
            int k = j * SIDE + i;
            float gx = c->gx[k], gy = c->gy[k];
            if (plan_distance(h, gx, gy) < 0)
                continue;
            float z = tall * (0.4f + 1.1f * noise_value(gx / 1.6f, gy / 1.6f, h->hash + 11)), sd = 1e9f;
            for (int t = 1; t <= 3; t++)
                sd =
                    fminf(sd, plan_distance(h, gx - z * sh[0] * (float)t / 3, gy - z * sh[1] * (float)t / 3));
            c->dark[k] = fmaxf(c->dark[k], 0.9f * canvas_cover(c, sd));
        }
}

static void house_shadow(struct canvas *c, uint32_t item)
{
    const struct house *h = &c->s->house[item];
    const float *sh = c->d->shadow;
    shed(c, h, true);
    if (c->date == POST && h->present[POST] && h->level == LEVEL_DESTROYED && h->style != WRECK_SLAB)
        heap_shadow(c, h);
    if (!standing(c, h))
        return;
    float keep =
        c->date == POST && h->level == LEVEL_MAJOR ? 0.8f : 1.0f; /* a torn roof casts a ragged shadow */
    for (int q = 0; q < h->n_parts; q++) {
        const struct part *p = &h->part[q];
        float pts[16][2];
        int n = 0;
        for (int k = 0; k < 4; k++) {
            float lx = p->cx + (k & 1 ? p->hw : -p->hw), ly = p->cy + (k & 2 ? p->hd : -p->hd);
            float gx = h->x + lx * h->cs - ly * h->sn, gy = h->y + lx * h->sn + ly * h->cs;
            pts[n][0] = gx;
            pts[n++][1] = gy;
            pts[n][0] = gx + h->eave * sh[0] * keep;
            pts[n++][1] = gy + h->eave * sh[1] * keep;
        }
        bool along_x = p->shape == ROOF_HIP ? p->hw > p->hd : p->along_x;
        float in = along_x ? p->hd : p->hw, top = (h->eave + p->rise * in) * keep,
              len = along_x ? p->hw : p->hd;
        len = p->shape == ROOF_HIP ? fmaxf(0, len - in) : len;
        for (int k = -1; k <= 1 && p->shape != ROOF_FLAT; k += 2) {
            float lx = p->cx + (along_x ? (float)k * len : 0), ly = p->cy + (along_x ? 0 : (float)k * len);
            pts[n][0] = h->x + lx * h->cs - ly * h->sn + top * sh[0];
            pts[n++][1] = h->y + lx * h->sn + ly * h->cs + top * sh[1];
        }
        canvas_shade_hull(c, pts, n, 1, false);
    }
}

static void shed_roof(struct canvas *c, uint32_t item)
{
    shed(c, &c->s->house[item], false);
}

void paint_house_shadows(struct canvas *c)
{
    canvas_each(c, &c->s->houses, 60, house_shadow);
}

void paint_houses(struct canvas *c)
{
    canvas_each(c, &c->s->houses, 40, shed_roof);
    canvas_each(c, &c->s->houses, 40, house);
}
