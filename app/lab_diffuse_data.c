/* SPDX-License-Identifier: Apache-2.0
 * lab_diffuse_data.c - what `aftermap lab diffuse` learns from: chips of an event's training blocks or a plain
 * image set's training share, both dates' bands, shrunk by whole factors, with their grades or classes. */
#include "app/lab_diffuse.h"
#include "app/train_synthetic.h"
#include "geo/event.h"
#include "models/base/mem.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_UNLABELLED = 20000, SIZE_DEFAULT = 32 };

static bool load_set(struct imageset *set, const char *data, uint64_t seed, const struct progress *progress,
                     struct err *e)
{
    const double test_share = 0.2; /* what train and evaluate hold out by default */
    if (strncmp(data, "folder:", 7) == 0)
        return event_load_folder(set, data + 7, test_share, seed, progress, e);
    if (imageset_is_spec(data))
        return imageset_open(set, data, test_share, seed, e);
    struct event *ev = event_open(data, e);
    const bool ok = ev && train_synthetic_refuse(ev, e) &&
                    event_load_imageset(ev, 0, MAX_UNLABELLED, seed, set, progress, e);
    event_close(ev);
    return ok;
}

static int default_size(int size)
{
    int s = size < SIZE_DEFAULT ? size : SIZE_DEFAULT;
    while (size % s)
        s--;
    return s;
}

/* Mean over factor x factor pixels of what a network would see, back to bytes. */
static void shrink(const float *x, int size, int factor, int c, uint8_t *px)
{
    const int small = size / factor;
    for (int r = 0; r < small; r++)
        for (int s = 0; s < small; s++)
            for (int b = 0; b < c; b++) {
                double sum = 0;
                for (int i = 0; i < factor; i++)
                    for (int j = 0; j < factor; j++)
                        sum += (double)x[((size_t)(r * factor + i) * size + s * factor + j) * c + b];
                px[((size_t)r * small + s) * c + b] = (uint8_t)lround((sum / (factor * factor) + 1) * 127.5);
            }
}

static bool take_images(struct diffuse_images *d, const struct imageset *set, int split, struct err *e)
{
    struct imageset_layout layout = set->layout;
    layout.use_footprint = layout.use_match = false;
    d->n_channels = imageset_input_channels(&layout);
    d->n_dates = layout.n_dates;
    for (size_t i = 0; i < set->n; i++)
        d->n += set->split[i] == split;
    const size_t stored = (size_t)layout.size * layout.size * imageset_stored_channels(&layout);
    const size_t own = (size_t)d->size * d->size * d->n_channels;
    float *x = mem_array((size_t)layout.size * layout.size * d->n_channels, sizeof *x, "an image", e);
    bool any = false;
    if (!x || !(d->px = mem_array(d->n, own, "the images", e)) ||
        !(d->label = mem_array(d->n, sizeof *d->label, "the labels", e))) {
        free(x);
        return false;
    }
    for (size_t i = 0, k = 0; i < set->n; i++)
        if (set->split[i] == split) {
            imageset_to_input(&layout, set->px + i * stored, x);
            shrink(x, layout.size, layout.size / d->size, d->n_channels, d->px + k * own);
            d->label[k] = set->label[i] == IMAGESET_NO_LABEL ? -1 : set->label[i];
            any = any || d->label[k] >= 0;
            k++;
        }
    free(x);
    d->n_classes = any && set->n_classes <= DIFFUSE_MAX_CLASSES ? set->n_classes : 0;
    return true;
}

bool diffuse_images_load(struct diffuse_images *d, const struct lab_diffuse *c, int size, uint64_t seed,
                         const struct progress *progress, struct err *e)
{
    struct imageset set = {0};
    *d = (struct diffuse_images){.mirror = !c->no_mirror};
    bool ok = load_set(&set, c->data, seed, progress, e);
    if (ok) {
        d->size = size > 0 ? size : default_size(set.layout.size);
        if (set.layout.size % d->size || d->size < 4)
            ok = err_set(
                e, ERR_USAGE,
                "%s: images of %d pixels a side cannot be shrunk to %d by a whole factor; give --size a "
                "divisor of %d, 4 or more, or a plain set @size=N",
                c->data, set.layout.size, d->size, set.layout.size);
    }
    ok = ok && take_images(d, &set, c->held_out ? IMAGESET_TEST : IMAGESET_TRAIN, e);
    if (ok && d->n < 2)
        ok = err_set(e, ERR_INPUT, "%s: has %zu images in its %s split; that is nothing to learn from",
                     c->data, d->n, c->held_out ? "test" : "training");
    for (int i = 0, at = 0; ok && i < d->n_classes; i++) {
        for (const char *p = set.class_name[i]; *p; p++) /* a comma is the list's own */
            d->classes[at++] = *p == ',' ? ' ' : *p;
        d->classes[at++] = i + 1 < d->n_classes ? ',' : '\0';
    }
    snprintf(d->source, sizeof d->source, "%s", set.source);
    snprintf(d->digest, sizeof d->digest, "%s", set.digest);
    if (imageset_is_spec(c->data))
        snprintf(d->split, sizeof d->split, "%llu", (unsigned long long)seed);
    else
        snprintf(d->split, sizeof d->split, "event");
    imageset_free(&set);
    return ok;
}

void diffuse_images_free(struct diffuse_images *d)
{
    free(d->px);
    free(d->label);
    d->px = NULL;
    d->label = NULL;
}

bool diffuse_images_match(const struct diffuse_images *d, const struct tract_model *m,
                          const struct lab_diffuse *c, struct err *e)
{
    const struct unet_config *n = &m->config.net;
    const char *classes = checkpoint_meta_get(m->file, "classes");
    if (n->c_in != d->n_channels)
        return err_set(e, ERR_INPUT, "%s: draws images of %d bands, those of %s have %d", c->model, n->c_in,
                       c->data, d->n_channels);
    if (n->n_classes != d->n_classes || !classes || strcmp(classes, d->classes) != 0)
        return err_set(e, ERR_INPUT, "%s: knows the classes \"%s\", %s has \"%s\"", c->model,
                       classes ? classes : "", c->data, d->classes);
    return true;
}

int diffuse_images_meta(struct diffuse_images *d, const struct tract_model *teacher,
                        struct checkpoint_meta meta[DIFFUSE_META])
{
    int n = 0;
    if (teacher) {
        const char *digest = checkpoint_meta_get(teacher->file, "source.digest"),
                   *split = checkpoint_meta_get(teacher->file, "source.split");
        if (!digest || !split || strcmp(digest, d->digest) != 0 || strcmp(split, d->split) != 0)
            snprintf(d->split, sizeof d->split, "several");
    }
    snprintf(d->text[0], sizeof d->text[0], "%d", d->n_dates);
    snprintf(d->text[1], sizeof d->text[1], "%zu", d->n);
    meta[n++] = (struct checkpoint_meta){"classes", d->classes};
    meta[n++] = (struct checkpoint_meta){"layout.n_dates", d->text[0]};
    meta[n++] = (struct checkpoint_meta){"n_images", d->text[1]};
    meta[n++] = (struct checkpoint_meta){"source", d->source};
    meta[n++] = (struct checkpoint_meta){"source.digest", d->digest};
    meta[n++] = (struct checkpoint_meta){"source.mirror", d->mirror ? "1" : "0"};
    meta[n++] = (struct checkpoint_meta){"source.split", d->split};
    if (teacher)
        meta[n++] = (struct checkpoint_meta){"diffuse.teacher", checkpoint_digest(teacher->file)};
    return n;
}

void diffuse_images_draw(void *ctx, uint64_t seed, uint64_t index, float *x, int *label)
{
    const struct diffuse_images *d = ctx;
    struct rng r;
    rng_init(&r, seed, RNG_SHUFFLE, index);
    const size_t row = (size_t)d->size * d->n_channels, i = rng_below(&r, (uint32_t)d->n);
    const bool flip = d->mirror && rng_below(&r, 2);
    const uint8_t *px = d->px + i * row * d->size;
    *label = d->n_classes > 0 ? d->label[i] : -1;
    for (int y = 0; y < d->size; y++)
        for (int s = 0; s < d->size; s++)
            for (int b = 0; b < d->n_channels; b++)
                x[y * row + (size_t)s * d->n_channels + b] =
                    (float)px[y * row + (size_t)(flip ? d->size - 1 - s : s) * d->n_channels + b] / 127.5f -
                    1;
}
