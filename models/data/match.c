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

/* LANES neighbours at once, each lane in the order of the plain sum, so that the bits are its bits. */
enum { LANES = 4 };
typedef float lanes __attribute__((vector_size(4 * LANES)));
typedef float lanes_unaligned __attribute__((vector_size(4 * LANES), aligned(4), may_alias));

/* Sums over windows of 2 RADIUS + 1 cells, cut off at the border. in and out may be the same. */
static void box_sum(const float *in, int side, float *out)
{
    float across[MAX_CELLS];
    for (int y = 0; y < side; y++) {
        float padded[MAX_SIDE + 2 * RADIUS] = {0.0f};
        int x = 0;
        memcpy(padded + RADIUS, in + y * side, (size_t)side * sizeof *in);
        for (; x + LANES <= side; x += LANES) {
            lanes sum = {0};
            for (int k = 0; k <= 2 * RADIUS; k++)
                sum += *(const lanes_unaligned *)(padded + x + k);
            *(lanes_unaligned *)(across + y * side + x) = sum;
        }
        for (; x < side; x++) {
            float sum = 0.0f;
            for (int k = 0; k <= 2 * RADIUS; k++)
                sum += padded[x + k];
            across[y * side + x] = sum;
        }
    }
    for (int y = 0; y < side; y++) {
        const int from = y < RADIUS ? 0 : y - RADIUS, to = y + RADIUS < side ? y + RADIUS + 1 : side;
        int x = 0;
        for (; x + LANES <= side; x += LANES) {
            lanes sum = {0};
            for (int k = from; k < to; k++)
                sum += *(const lanes_unaligned *)(across + k * side + x);
            *(lanes_unaligned *)(out + y * side + x) = sum;
        }
        for (; x < side; x++) {
            float sum = 0.0f;
            for (int k = from; k < to; k++)
                sum += across[k * side + x];
            out[y * side + x] = sum;
        }
    }
}

/* Sum of a date's bands over the pixels of a cell; *empty where all are zero. */
static inline float cell_sum(const float *p, size_t row, size_t cin, int factor, int n_bands, bool *empty)
{
    float sum = 0.0f;
    int n_zero = 0;
    for (int y = 0; y < factor; y++, p += row) {
        const float *q = p;
        for (int x = 0; x < factor; x++, q += cin)
            for (int b = 0; b < n_bands; b++) {
                sum += q[b];
                n_zero += q[b] == 0.0f;
            }
    }
    *empty = n_zero == n_bands * factor * factor;
    return sum;
}

static void cells_fill(const struct imageset_layout *l, const float *x, int factor, int side,
                       struct date d[2])
{
    const int nb = l->n_bands;
    const size_t cin = (size_t)imageset_input_channels(l), row = (size_t)l->size * cin;
    const float unit = 1.0f / (float)(nb * factor * factor);
    for (int cy = 0; cy < side; cy++)
        for (int cx = 0; cx < side; cx++) {
            const float *p = x + (size_t)(cy * factor) * row + (size_t)(cx * factor) * cin;
            float sum[2];
            bool empty[2];
            for (int k = 0; k < 2; k++)
                sum[k] = factor == 2 && nb == 3 ? cell_sum(p + 3 * k, row, cin, 2, 3, &empty[k])
                                                : cell_sum(p + k * nb, row, cin, factor, nb, &empty[k]);
            for (int k = 0; k < 2; k++)
                d[k].v[cy * side + cx] = empty[0] || empty[1] ? 0.0f : sum[k] * unit;
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

/* r of every cell with the later date's cell (x + dx, y + dy), 0 where that lies outside. */
static void correlate(const struct date d[2], const float *inverse_count, int side, int dx, int dy, float *r)
{
    const int x0 = dx < 0 ? -dx : 0, x1 = dx > 0 ? side - dx : side, y0 = dy < 0 ? -dy : 0,
              y1 = dy > 0 ? side - dy : side;
    const size_t bytes = (size_t)(side * side) * sizeof *r;
    float product[MAX_CELLS];
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
}

enum { SHIFTS = (2 * REACH + 1) * (2 * REACH + 1), TOGETHER = 5 };
_Static_assert(SHIFTS % TOGETHER == 0, "shifts come in whole groups");

/* r at the best shift. Sums are made of several shifts at once: each has its order, and none waits for itself. */
static void best_fill(const struct date d[2], const float *inverse_count, int side, float *best)
{
    const int margin = side / 8;
    int shift[SHIFTS][2], n = 0;
    float r[TOGETHER][MAX_CELLS], most = -INFINITY;
    for (int away = 0; away <= 2 * REACH * REACH; away++)
        for (int dy = -REACH; dy <= REACH; dy++)
            for (int dx = -REACH; dx <= REACH; dx++)
                if (dx * dx + dy * dy == away) {
                    shift[n][0] = dx;
                    shift[n++][1] = dy;
                }
    for (int i = 0; i < SHIFTS; i += TOGETHER) {
        float sum[TOGETHER] = {0.0f};
        for (int k = 0; k < TOGETHER; k++)
            correlate(d, inverse_count, side, shift[i + k][0], shift[i + k][1], r[k]);
        for (int y = margin; y < side - margin; y++)
            for (int x = margin; x < side - margin; x++)
                for (int k = 0; k < TOGETHER; k++)
                    sum[k] += r[k][y * side + x];
        for (int k = 0; k < TOGETHER; k++)
            if (sum[k] > most) {
                most = sum[k];
                memcpy(best, r[k], (size_t)(side * side) * sizeof *best);
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
    for (int y = 0; y < l->size; y++) {
        /* pixels beyond the last whole cell belong to it */
        const float *cell = best + (y / factor < side ? y / factor : side - 1) * side;
        for (int px = 0, within = 0, left = side - 1; px < l->size; px++, x += cin) {
            x[cin - 1] = gated && x[cin - 2] < 0.0f ? 0.0f : (float)MATCH_GAIN * *cell;
            if (++within == factor && left > 0) {
                within = 0;
                left--;
                cell++;
            }
        }
    }
}
