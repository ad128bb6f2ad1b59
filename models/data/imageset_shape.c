/* SPDX-License-Identifier: Apache-2.0
 *
 * imageset_shape.c - brings plain sets of different make to one layout, as imageset.h declares: digits of 28
 * grey pixels beside coloured ones of 32, say. Steps stand behind the set's name, each @NAME=N, and are taken
 * from left to right.
 *
 *   items   N of the images, each class in proportion, the same ones every time (imageset_choose_labels)
 *   crop    the central N x N pixels
 *   pad     N x N, zeros round the image
 *   size    N x N by a triangle filter, widened when shrinking so that every pixel counts (as Pillow's
 *           bilinear resize does); columns first, both passes in floating point, one rounding
 *   bands   3 from 1: the grey three times; 1 from 3: (299 R + 587 G + 114 B)/1000
 *
 * A side that is a multiple of 4 in the end is what networks need. Ids stay those of the source's rows.
 * Ownership: the set's. Threads: none. */
#include "models/data/imageset.h"

#include "models/base/mem.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const names[] = {"items", "crop", "pad", "size", "bands"};
enum step_kind { STEP_ITEMS, STEP_CROP, STEP_PAD, STEP_SIZE, STEP_BANDS, N_KINDS, MAX_STEPS = 16 };

struct step {
    enum step_kind kind;
    int n;
};

/* "@NAME=N" to the end of the text. */
static bool read_step(const char *at, size_t length, struct step *out)
{
    for (int k = 0; k < N_KINDS; k++) {
        size_t name = strlen(names[k]);
        if (length < name + 3 || strncmp(at + 1, names[k], name) != 0 || at[1 + name] != '=')
            continue;
        const char *digits = at + name + 2;
        char *end;
        if (*digits < '0' || *digits > '9')
            return false;
        long v = strtol(digits, &end, 10);
        if (end != at + length || v < 1 || v > 100000000)
            return false;
        *out = (struct step){(enum step_kind)k, (int)v};
        return true;
    }
    return false;
}

/* Steps at the end of a spec, in order. Returns the length of what stands before them. */
static size_t read_steps(const char *spec, struct step out[MAX_STEPS], int *n)
{
    size_t length = strlen(spec);
    struct step found[MAX_STEPS];
    *n = 0;
    while (*n < MAX_STEPS) {
        size_t at = length ? length - 1 : 0;
        while (at > 0 && spec[at] != '@')
            at--;
        if (at == 0 || !read_step(spec + at, length - at, &found[*n]))
            break;
        length = at;
        ++*n;
    }
    for (int i = 0; i < *n; i++)
        out[i] = found[*n - 1 - i];
    return length;
}

size_t imageset_spec_length(const char *spec)
{
    struct step steps[MAX_STEPS];
    int n;
    return read_steps(spec, steps, &n);
}

static bool keep_items(struct imageset *set, int want, struct err *e)
{
    if ((size_t)want >= set->n)
        return true;
    size_t side = (size_t)set->layout.size,
           image = side * side * (size_t)imageset_stored_channels(&set->layout), n = 0;
    uint32_t *all = mem_array(set->n, sizeof *all, "the choice of images", e), *item = NULL;
    for (size_t i = 0; all && i < set->n; i++)
        all[i] = (uint32_t)i;
    bool ok = all && imageset_choose_labels(set, all, set->n, -want, 0, &item, &n, e);
    for (size_t i = 0; ok && i < n; i++) { /* ascending: nothing is overwritten before it is moved */
        memmove(set->px + i * image, set->px + item[i] * image, image);
        set->label[i] = set->label[item[i]];
        set->id[i] = set->id[item[i]];
    }
    set->n = ok ? n : set->n;
    free(all);
    free(item);
    return ok;
}

/* ---- one image ---- */

struct shape {
    int side, bands;
};

/* Central crop, or zeros round it. */
static void place(const uint8_t *in, struct shape a, uint8_t *out, struct shape b)
{
    const int common = a.side < b.side ? a.side : b.side, from = (a.side - common) / 2,
              to = (b.side - common) / 2;
    for (int y = 0; y < common; y++)
        memcpy(out + ((size_t)(to + y) * (size_t)b.side + (size_t)to) * (size_t)b.bands,
               in + ((size_t)(from + y) * (size_t)a.side + (size_t)from) * (size_t)a.bands,
               (size_t)common * (size_t)a.bands);
}

/* Weights of the input pixels for each output pixel, [b][a]; few pixels, so no need to be sparse. */
static void weights(int a, int b, float *w)
{
    const double scale = (double)a / b, reach = scale > 1 ? scale : 1;
    for (int o = 0; o < b; o++) {
        const double at = (o + 0.5) * scale - 0.5;
        double sum = 0;
        for (int i = 0; i < a; i++)
            sum += fmax(0, 1 - fabs(i - at) / reach);
        for (int i = 0; i < a; i++)
            w[(size_t)o * (size_t)a + (size_t)i] = (float)(fmax(0, 1 - fabs(i - at) / reach) / sum);
    }
}

/* middle [b.side rows of the output, a.side, bands] */
static void resize(const uint8_t *in, struct shape a, uint8_t *out, struct shape b, const float *w,
                   float *middle)
{
    const size_t line = (size_t)a.side * (size_t)a.bands;
    for (int y = 0; y < b.side; y++)
        for (size_t x = 0; x < line; x++) {
            float sum = 0;
            for (int i = 0; i < a.side; i++)
                sum += w[y * a.side + i] * (float)in[(size_t)i * line + x];
            middle[(size_t)y * line + x] = sum;
        }
    for (int y = 0; y < b.side; y++)
        for (int x = 0; x < b.side; x++)
            for (int c = 0; c < a.bands; c++) {
                float sum = 0;
                for (int i = 0; i < a.side; i++)
                    sum += w[x * a.side + i] *
                           middle[(size_t)y * line + (size_t)i * (size_t)a.bands + (size_t)c];
                out[((size_t)y * (size_t)b.side + (size_t)x) * (size_t)b.bands + (size_t)c] =
                    (uint8_t)lrintf(fminf(255, fmaxf(0, sum)));
            }
}

static void change_bands(const uint8_t *in, uint8_t *out, int side, int bands)
{
    const size_t n = (size_t)side * (size_t)side;
    for (size_t i = 0; i < n; i++)
        if (bands == 3)
            memset(out + 3 * i, in[i], 3);
        else
            out[i] = (uint8_t)((299 * in[3 * i] + 587 * in[3 * i + 1] + 114 * in[3 * i + 2] + 500) / 1000);
}

/* ---- the set ---- */

static bool check_step(const struct imageset *set, const struct step *s, const char *spec, struct err *e)
{
    const int side = set->layout.size, bands = set->layout.n_bands;
    if (s->kind == STEP_CROP && s->n > side)
        return err_set(e, ERR_USAGE, "%s: @crop=%d is larger than its images of %d pixels; @pad enlarges",
                       spec, s->n, side);
    if (s->kind == STEP_PAD && s->n < side)
        return err_set(e, ERR_USAGE, "%s: @pad=%d is smaller than its images of %d pixels; @crop cuts", spec,
                       s->n, side);
    if (s->kind == STEP_BANDS && s->n != bands && !((bands == 1 && s->n == 3) || (bands == 3 && s->n == 1)))
        return err_set(e, ERR_USAGE, "%s: @bands=%d cannot be made of %d; 3 of 1 and 1 of 3 can", spec, s->n,
                       bands);
    if (s->kind != STEP_BANDS && s->n > IMAGESET_MAX_SIZE)
        return err_set(e, ERR_USAGE, "%s: @%s=%d is too large; %d pixels are the most", spec, names[s->kind],
                       s->n, IMAGESET_MAX_SIZE);
    return true;
}

static bool take_step(struct imageset *set, const struct step *s, const char *spec, struct err *e)
{
    if (s->kind == STEP_ITEMS)
        return keep_items(set, s->n, e);
    if (!check_step(set, s, spec, e))
        return false;
    const struct shape a = {set->layout.size, set->layout.n_bands};
    struct shape b = a;
    if (s->kind == STEP_BANDS)
        b.bands = s->n;
    else
        b.side = s->n;
    const size_t before = (size_t)a.side * (size_t)a.side * (size_t)a.bands,
                 after = (size_t)b.side * (size_t)b.side * (size_t)b.bands;
    if (a.side == b.side && a.bands == b.bands)
        return true;
    uint8_t *px = mem_array(set->n, after, "the images", e);
    float *w = px ? mem_array((size_t)a.side * (size_t)b.side, (1 + (size_t)a.bands) * sizeof *w,
                              "the images' new size", e)
                  : NULL;
    if (!w) {
        free(px);
        return false;
    }
    weights(a.side, b.side, w);
    for (size_t i = 0; i < set->n; i++) {
        const uint8_t *in = set->px + i * before;
        uint8_t *out = px + i * after;
        if (s->kind == STEP_BANDS)
            change_bands(in, out, a.side, b.bands);
        else if (s->kind == STEP_SIZE)
            resize(in, a, out, b, w, w + (size_t)a.side * (size_t)b.side);
        else
            place(in, a, out, b);
    }
    free(w);
    free(set->px);
    set->px = px;
    set->layout.size = b.side;
    set->layout.n_bands = b.bands;
    return true;
}

bool imageset_shape(struct imageset *set, const char *spec, struct err *e)
{
    struct step steps[MAX_STEPS];
    int n;
    read_steps(spec, steps, &n);
    for (int i = 0; i < n; i++)
        if (!take_step(set, &steps[i], spec, e))
            return false;
    if (set->layout.size % 4 || set->layout.size < 4)
        return err_set(e, ERR_USAGE,
                       "%s: its images would have %d pixels a side; networks need a multiple of 4, so end "
                       "with @pad= or @size=",
                       spec, set->layout.size);
    return true;
}
