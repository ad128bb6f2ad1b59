/* SPDX-License-Identifier: Apache-2.0
 *
 * scene_sensor.c - photographs a canvas: cloud, haze, point spread, response curve, noise, quantisation.
 *
 * 8-bit products hold 1 + 254 * value, 16-bit ones 1 + 2046 * value (an 11-bit sensor); 0 is nodata in both.
 */
#include "samples/scene/scene_sensor.h"
#include "models/base/mem.h"

#include <stdlib.h>
#include <string.h>

enum { SIDE = CANVAS_SIDE, TILE = CANVAS_TILE, RIM = CANVAS_MARGIN };

struct sensor {
    px4 *row; /* [SIDE][TILE] horizontally blurred */
};

struct sensor *sensor_open(struct err *e)
{
    struct sensor *q = mem_array(1, sizeof *q, "sensor", e);
    if (q && !(q->row = aligned_alloc(64, SIDE * TILE * sizeof(px4)))) {
        err_set(e, ERR_RESOURCE, "out of memory for the sensor's scratch");
        free(q);
        return NULL;
    }
    return q;
}

void sensor_close(struct sensor *q)
{
    if (!q)
        return;
    free(q->row);
    free(q);
}

static void add_weather(struct canvas *c)
{
    const struct scene *s = c->s;
    bool near_cloud = false;
    float mx = 0.5f * (c->reach_x[0] + c->reach_x[1]), my = 0.5f * (c->reach_y[0] + c->reach_y[1]);
    float reach = 0.5f * hypotf(c->reach_x[1] - c->reach_x[0], c->reach_y[1] - c->reach_y[0]) + 80;
    float sx = mx - 105 * c->d->shadow[0], sy = my - 105 * c->d->shadow[1];
    for (int k = 0; k < s->n_clouds && !near_cloud; k++)
        near_cloud = hypotf(s->cloud[k].x - mx, s->cloud[k].y - my) < reach ||
                     hypotf(s->cloud[k].x - sx, s->cloud[k].y - sy) < reach;
    px4 white = px4_of(0.93f, 0.94f, 0.96f, 0.9f), veil = px4_of(0.66f, 0.70f, 0.76f, 0.62f);
    for (int k = 0; k < SIDE * SIDE; k++) {
        float x = c->ix[k], y = c->iy[k];
        float slow = 0.7f * noise_value(x / 240, y / 240, s->salt[SALT_HAZE] + (uint32_t)c->date) +
                     0.3f * noise_value(x / 80, y / 80, s->salt[SALT_HAZE] + 2 + (uint32_t)c->date);
        float haze = (c->date == POST ? 0.38f : 0.20f) * noise_step(0.48f, 0.85f, slow);
        if (near_cloud) {
            float shade, cover = scene_cloud(s, c->date, x, y, &shade);
            c->color[k] *= 1 - 0.55f * shade;
            c->color[k] = px4_mix(c->color[k], white, cover);
        }
        c->color[k] = px4_mix(c->color[k], veil, haze);
    }
}

/* Separable Gaussian of the tile's inner pixels, in place on c->color's inner part. */
static void blur(struct sensor *q, struct canvas *c)
{
    float w[RIM + 1], sum = 0;
    for (int k = 0; k <= RIM; k++) {
        float t = (float)k / c->d->blur_px;
        w[k] = expf(-0.5f * t * t);
        sum += k ? 2 * w[k] : w[k];
    }
    for (int y = 0; y < SIDE; y++)
        for (int x = 0; x < TILE; x++) {
            const px4 *p = c->color + y * SIDE + x + RIM;
            px4 v = p[0] * w[0];
            for (int k = 1; k < RIM; k++)
                v += (p[k] + p[-k]) * w[k];
            q->row[y * TILE + x] = v / sum;
        }
    for (int y = 0; y < TILE; y++)
        for (int x = 0; x < TILE; x++) {
            const px4 *p = q->row + (y + RIM) * TILE + x;
            px4 v = p[0] * w[0];
            for (int k = 1; k < RIM; k++)
                v += (p[k * TILE] + p[-k * TILE]) * w[k];
            c->color[(y + RIM) * SIDE + x + RIM] = v / sum;
        }
}

static px4 response(const struct canvas *c, px4 v, int px, int py)
{
    const struct scene_date *d = c->d;
    uint32_t h = noise_hash(px, py, c->s->salt[SALT_NOISE] + (uint32_t)c->date * 3u), h2 = noise_mix(h + 1);
    float gray = 0.30f * v[0] + 0.55f * v[1] + 0.15f * v[2];
    /* sums of bytes: near enough to normal, sd of one byte sum of four = 147.8 */
    float common =
        ((float)(h & 255) + (float)(h >> 8 & 255) + (float)(h >> 16 & 255) + (float)(h >> 24) - 510) / 148.0f;
    for (int k = 0; k < 4; k++) {
        float t = k < 3 ? gray + (v[k] - gray) * d->saturation : v[k];
        t = powf(fmaxf(t, 0.001f), d->gamma);
        float own = ((float)(h2 >> (8 * k) & 255) - 127.5f) / 73.9f;
        v[k] = d->veil[k] + d->gain[k] * t + d->noise_sd * (0.8f * common + 0.6f * own) * (0.6f + 0.8f * t);
    }
    return v;
}

void sensor_take(struct sensor *q, struct canvas *c, int cols, int rows, void *out, size_t pitch)
{
    const struct scene *s = c->s;
    int bands = s->o.bands;
    float scale = s->o.bits == 8 ? 254.0f : 2046.0f;
    add_weather(c);
    blur(q, c);
    for (int y = 0; y < rows; y++)
        for (int x = 0; x < cols; x++) {
            int k = (y + RIM) * SIDE + x + RIM;
            bool blank = scene_blank(s, c->date, c->ix[k], c->iy[k]);
            px4 v = response(c, c->color[k], c->px0 + x + RIM, c->py0 + y + RIM);
            for (int b = 0; b < bands; b++) {
                float t = 1.0f + scale * noise_clamp(v[b]);
                unsigned sample = blank ? 0 : (unsigned)(t + 0.5f);
                size_t at = (size_t)y * pitch + (size_t)x * bands + b;
                if (s->o.bits == 8)
                    ((uint8_t *)out)[at] = (uint8_t)(sample > 255 ? 255 : sample);
                else
                    ((uint16_t *)out)[at] = (uint16_t)sample;
            }
        }
}
