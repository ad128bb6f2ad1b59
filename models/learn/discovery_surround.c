/* SPDX-License-Identifier: Apache-2.0
 *
 * discovery_surround.c - a second view of a building that shares no weight and no roof with the classifier: plain
 * statistics of the ground around it. Floods, fire scars, clouds and building sites show there; and a learner that sees
 * only this cannot repeat a cut that a network made through the roofs of one class.
 *
 * Columns, over valid pixels outside the footprint (over all valid pixels where there is no footprint): per date and
 * band the mean, the standard deviation and the mean absolute step to the right and lower neighbour; with two dates
 * per band the mean absolute change as well. */
#include "models/learn/discovery.h"

#include "models/base/mem.h"

#include <math.h>
#include <stdlib.h>

static int columns_of(const struct imageset_layout *l)
{
    return 3 * l->n_dates * l->n_bands + (l->n_dates == 2 ? l->n_bands : 0);
}

static bool is_ground(const struct imageset_layout *l, const uint8_t *at, int date)
{
    const uint8_t *masks = at + l->n_dates * l->n_bands;
    return !l->has_masks || ((masks[0] >> date & 1) && !masks[1]);
}

struct sums {
    double n, sum, square, n_steps, steps;
};

static void add_pixel(const struct imageset_layout *l, const uint8_t *px, int date, int band, int x, int y,
                      struct sums *s)
{
    const size_t stored = (size_t)imageset_stored_channels(l), row = (size_t)l->size * stored;
    const uint8_t *at = px + (size_t)y * row + (size_t)x * stored;
    const size_t c = (size_t)(date * l->n_bands + band);
    if (!is_ground(l, at, date))
        return;
    const double v = at[c];
    s->n++;
    s->sum += v;
    s->square += v * v;
    for (int k = 0; k < 2; k++) {
        const uint8_t *next = k ? at + row : at + stored;
        if ((k ? y : x) + 1 == l->size || !is_ground(l, next, date))
            continue;
        s->n_steps++;
        s->steps += fabs(v - next[c]);
    }
}

static double change_of(const struct imageset_layout *l, const uint8_t *px, int band)
{
    const size_t stored = (size_t)imageset_stored_channels(l), n = (size_t)l->size * (size_t)l->size;
    double sum = 0, count = 0;
    for (size_t i = 0; i < n; i++) {
        const uint8_t *at = px + i * stored;
        if (!is_ground(l, at, 0) || !is_ground(l, at, 1))
            continue;
        sum += fabs((double)at[l->n_bands + band] - (double)at[band]);
        count++;
    }
    return count > 0 ? sum / count : 0;
}

static void describe(const struct imageset_layout *l, const uint8_t *px, float *out)
{
    for (int date = 0; date < l->n_dates; date++)
        for (int band = 0; band < l->n_bands; band++) {
            struct sums s = {0};
            for (int y = 0; y < l->size; y++)
                for (int x = 0; x < l->size; x++)
                    add_pixel(l, px, date, band, x, y, &s);
            const double mean = s.n > 0 ? s.sum / s.n : 0;
            *out++ = (float)mean;
            *out++ = (float)(s.n > 0 ? sqrt(fmax(0, s.square / s.n - mean * mean)) : 0);
            *out++ = (float)(s.n_steps > 0 ? s.steps / s.n_steps : 0);
        }
    for (int band = 0; l->n_dates == 2 && band < l->n_bands; band++)
        *out++ = (float)change_of(l, px, band);
}

float *discovery_surroundings(const struct imageset *set, int *d, struct err *e)
{
    const struct imageset_layout *l = &set->layout;
    const size_t image = (size_t)l->size * (size_t)l->size * (size_t)imageset_stored_channels(l);
    const size_t columns = (size_t)columns_of(l);
    float *x = mem_array(set->n * columns, sizeof *x, "the surroundings", e);
    *d = (int)columns;
#pragma omp parallel for schedule(static) if (x)
    for (size_t i = 0; i < (x ? set->n : 0); i++)
        describe(l, set->px + i * image, x + i * columns);
    return x;
}
