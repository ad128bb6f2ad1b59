/* SPDX-License-Identifier: Apache-2.0
 *
 * match.c - the channel declared in match.h. It is computed on a grid of at most 63 cells a side (means of
 * f x f pixels, f = size / 32; 64 pixels of 0.5 m: cells of 1 m), where fine noise is averaged out and the
 * search is cheap:
 *
 *   1. grey value per cell and date; a cell without data in either date is empty in both
 *   2. mean and deviation of each date in the window of 2 RADIUS + 1 cells around each cell (box sums)
 *   3. for each shift of the later date by up to REACH cells each way
 *        r = (E[ab] - E[a] E[b]) / (sd_a sd_b),  sd^2 = variance + FLOOR
 *      the shift with the largest sum of r over the patch less its margin wins; of equals the smallest shift
 *   4. MATCH_GAIN r goes to the pixels of the cell. The gain makes the channel weigh about as much as the
 *      bands together in the first layer: measured on a real wildfire, supervised, ten labels per class,
 *      held-out AUROC 0.865 with the plain channel, 0.888 with gain 3 inside footprints only
 *
 * Invariants: 1. a gain or an offset of a date changes r only through FLOOR; 2. mirrors and turns of the other
 * channels turn this one with them, up to ties; 3. |r| <= 1. Units: samples in [-1,1], cells. */
#include "models/data/match.h"

#include <assert.h>
#include <math.h>
#include <string.h>

enum { MAX_SIDE = 63, RADIUS = 3, REACH = 2, MAX_CELLS = MAX_SIDE * MAX_SIDE };
/* The variance of two grey levels of 255: less is no contrast. */
static const float FLOOR = (2.0f / 127.5f) * (2.0f / 127.5f);

struct date {
    float v[MAX_CELLS], mean[MAX_CELLS], inverse_sd[MAX_CELLS];
};

/* Sums over windows of 2 RADIUS + 1 cells, cut off at the border. in and out may be the same. */
static void box_sum(const float *in, int side, float *out)
{
    float across[MAX_CELLS];
    for (int y = 0; y < side; y++) {
        float padded[MAX_SIDE + 2 * RADIUS] = {0.0f};
        memcpy(padded + RADIUS, in + y * side, (size_t)side * sizeof *in);
        for (int x = 0; x < side; x++) {
            float sum = 0.0f;
            for (int k = 0; k <= 2 * RADIUS; k++)
                sum += padded[x + k];
            across[y * side + x] = sum;
        }
    }
    for (int y = 0; y < side; y++) {
        float *o = out + y * side;
        memset(o, 0, (size_t)side * sizeof *o);
        for (int k = y < RADIUS ? 0 : y - RADIUS; k <= y + RADIUS && k < side; k++)
            for (int x = 0; x < side; x++)
                o[x] += across[k * side + x];
    }
}

static void cells_fill(const struct imageset_layout *l, const float *x, int factor, int side,
                       struct date d[2])
{
    const int nb = l->n_bands, cin = imageset_input_channels(l);
    const float unit = 1.0f / (float)(nb * factor * factor);
    for (int cy = 0; cy < side; cy++)
        for (int cx = 0; cx < side; cx++) {
            float sum[2] = {0.0f, 0.0f};
            bool has_data[2] = {false, false};
            for (int py = cy * factor; py < (cy + 1) * factor; py++)
                for (int px = cx * factor; px < (cx + 1) * factor; px++) {
                    const float *p = x + ((size_t)py * (size_t)l->size + (size_t)px) * (size_t)cin;
                    for (int k = 0; k < 2; k++)
                        for (int b = 0; b < nb; b++) {
                            sum[k] += p[k * nb + b];
                            has_data[k] |= p[k * nb + b] != 0.0f;
                        }
                }
            for (int k = 0; k < 2; k++)
                d[k].v[cy * side + cx] = has_data[0] && has_data[1] ? sum[k] * unit : 0.0f;
        }
}

static void moments_fill(struct date *d, const float *inverse_count, int side)
{
    float square[MAX_CELLS];
    for (int i = 0; i < side * side; i++)
        square[i] = d->v[i] * d->v[i];
    box_sum(d->v, side, d->mean);
    box_sum(square, side, square);
    for (int i = 0; i < side * side; i++) {
        d->mean[i] *= inverse_count[i];
        const float variance = square[i] * inverse_count[i] - d->mean[i] * d->mean[i];
        d->inverse_sd[i] = 1.0f / sqrtf((variance > 0.0f ? variance : 0.0f) + FLOOR);
    }
}

/* r of every cell with the later date's cell (x + dx, y + dy), 0 where that lies outside. Returns its sum
 * within the margin. */
static float correlate(const struct date d[2], const float *inverse_count, int side, int dx, int dy, float *r)
{
    const int x0 = dx < 0 ? -dx : 0, x1 = dx > 0 ? side - dx : side, y0 = dy < 0 ? -dy : 0,
              y1 = dy > 0 ? side - dy : side, margin = side / 8;
    const size_t bytes = (size_t)(side * side) * sizeof *r;
    float product[MAX_CELLS], sum = 0.0f;
    memset(product, 0, bytes);
    memset(r, 0, bytes);
    for (int y = y0; y < y1; y++) {
        const float *a = d[0].v + y * side, *b = d[1].v + (y + dy) * side + dx;
        for (int x = x0; x < x1; x++)
            product[y * side + x] = a[x] * b[x];
    }
    box_sum(product, side, product);
    for (int y = y0; y < y1; y++) {
        const int a = y * side, b = (y + dy) * side + dx;
        for (int x = x0; x < x1; x++) {
            float v = (product[a + x] * inverse_count[a + x] - d[0].mean[a + x] * d[1].mean[b + x]) *
                      d[0].inverse_sd[a + x] * d[1].inverse_sd[b + x];
            v = v > 1.0f ? 1.0f : v;
            r[a + x] = v < -1.0f ? -1.0f : v;
        }
    }
    for (int y = margin; y < side - margin; y++)
        for (int x = margin; x < side - margin; x++)
            sum += r[y * side + x];
    return sum;
}

/* r at the best shift. */
static void best_fill(const struct date d[2], const float *inverse_count, int side, float *best)
{
    float r[MAX_CELLS], most = -INFINITY;
    for (int away = 0; away <= 2 * REACH * REACH; away++)
        for (int dy = -REACH; dy <= REACH; dy++)
            for (int dx = -REACH; dx <= REACH; dx++) {
                if (dx * dx + dy * dy != away)
                    continue;
                const float sum = correlate(d, inverse_count, side, dx, dy, r);
                if (sum > most) {
                    most = sum;
                    memcpy(best, r, (size_t)(side * side) * sizeof *best);
                }
            }
}

void match_fill(const struct imageset_layout *l, float *x)
{
    const int cin = imageset_input_channels(l), factor = l->size / 32 > 1 ? l->size / 32 : 1,
              side = l->size / factor;
    const bool gated = l->has_masks && l->use_footprint;
    struct date d[2];
    float inverse_count[MAX_CELLS], best[MAX_CELLS];
    assert(l->n_dates == 2 && l->use_match && side >= 1 && side <= MAX_SIDE);
    for (int i = 0; i < side * side; i++)
        inverse_count[i] = 1.0f;
    box_sum(inverse_count, side, inverse_count);
    for (int i = 0; i < side * side; i++)
        inverse_count[i] = 1.0f / inverse_count[i];
    cells_fill(l, x, factor, side, d);
    for (int k = 0; k < 2; k++)
        moments_fill(&d[k], inverse_count, side);
    best_fill((const struct date *)d, inverse_count, side, best);
    for (int y = 0; y < l->size; y++)
        for (int px = 0; px < l->size; px++, x += cin) {
            /* pixels beyond the last whole cell belong to it */
            const int cy = y / factor < side ? y / factor : side - 1,
                      cx = px / factor < side ? px / factor : side - 1;
            x[cin - 1] = gated && x[cin - 2] < 0.0f ? 0.0f : (float)MATCH_GAIN * best[cy * side + cx];
        }
}
