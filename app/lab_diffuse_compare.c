/* SPDX-License-Identifier: Apache-2.0
 * lab_diffuse_compare.c - `aftermap lab diffuse compare`: folders of samples beside real images, by the distances of
 * models/learn/distance.h. Real images are shrunk and enlarged as samples are, so that sharpness alone tells nothing;
 * each class has as many real as made-up ones; what two halves of real images differ by is the floor. */
#include "app/console.h"
#include "app/lab_diffuse.h"
#include "app/model_set.h"
#include "geo/synthetic_images.h"
#include "models/base/file.h"
#include "models/base/mem.h"
#include "models/base/rng.h"
#include "models/learn/distance.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_CLASSES = 64, BATCH = 32, LEAST = 8 };

/* n images: as they are [n,side,side,bands], the same as numbers, and what the classifier makes of them [n,d]. */
struct gallery {
    size_t n;
    int side, bands, d;
    uint8_t *px;
    float *pixel, *feature;
};

struct figures {
    double frechet, limit, patches, precision, recall, memory;
    struct distance_kernel kernel;
};

static void gallery_free(struct gallery *g)
{
    free(g->px);
    free(g->pixel);
    free(g->feature);
    *g = (struct gallery){0};
}

static size_t image_size(const struct gallery *g)
{
    return (size_t)g->side * (size_t)g->side * (size_t)g->bands;
}

/* The items of `from` listed: a set of their own, px and label alone. */
static bool pick(struct imageset *out, const struct imageset *from, const uint32_t *item, size_t n,
                 struct err *e)
{
    const size_t image = (size_t)from->layout.size * (size_t)from->layout.size * (size_t)from->layout.n_bands;
    *out = (struct imageset){.layout = from->layout, .n = n};
    if (!(out->px = mem_array(n, image, "the images", e)) ||
        !(out->label = mem_array(n, sizeof *out->label, "the images", e))) {
        imageset_free(out);
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        memcpy(out->px + i * image, from->px + item[i] * image, image);
        out->label[i] = from->label[item[i]];
    }
    return true;
}

/* A real item at the samples' size: means of factor x factor pixels, grey where a date has no data. */
static void shrink(const struct imageset *set, size_t item, int side, uint8_t *out)
{
    const struct imageset_layout *l = &set->layout;
    const int factor = l->size / side, bands = l->n_dates * l->n_bands, stored = imageset_stored_channels(l);
    const uint8_t *px = set->px + item * (size_t)l->size * (size_t)l->size * (size_t)stored;
    for (int y = 0; y < side; y++)
        for (int x = 0; x < side; x++)
            for (int b = 0; b < bands; b++) {
                double sum = 0;
                for (int i = 0; i < factor * factor; i++) {
                    const uint8_t *at = px + ((size_t)(y * factor + i / factor) * (size_t)l->size +
                                              (size_t)(x * factor + i % factor)) *
                                                 (size_t)stored;
                    const bool has = !l->has_masks || at[bands] >> (b / l->n_bands) & 1;
                    sum += has ? at[b] : 127.5;
                }
                out[((size_t)y * (size_t)side + (size_t)x) * (size_t)bands + (size_t)b] =
                    (uint8_t)lround(sum / (factor * factor));
            }
}

/* Every labelled real item of a split, shrunk. */
static bool shrink_all(struct imageset *out, const struct imageset *set, int split, int side, struct err *e)
{
    const int bands = set->layout.n_dates * set->layout.n_bands;
    const size_t image = (size_t)side * (size_t)side * (size_t)bands;
    size_t n = 0;
    for (size_t i = 0; i < set->n; i++)
        n += set->split[i] == split && set->label[i] >= 0;
    *out = (struct imageset){.layout = {.size = side, .n_dates = 1, .n_bands = bands}};
    if (!(out->px = mem_array(n, image, "the images", e)) ||
        !(out->label = mem_array(n, sizeof *out->label, "the images", e)))
        return false;
    for (size_t i = 0; i < set->n; i++)
        if (set->split[i] == split && set->label[i] >= 0) {
            shrink(set, i, side, out->px + out->n * image);
            out->label[out->n++] = set->label[i];
        }
    return true;
}

/* Takes small's images; small is enlarged on the way and is good for imageset_free() alone. */
static bool hang(struct gallery *g, struct imageset *small, const struct model_set *m, uint64_t seed,
                 struct err *e)
{
    struct imageset full = {0};
    struct predictor *p = NULL;
    *g = (struct gallery){.n = small->n,
                          .side = small->layout.size,
                          .bands = small->layout.n_bands,
                          .d = net_embedding_size(model_net(m->model))};
    const size_t all = g->n * image_size(g), d = (size_t)g->d;
    float *probs = mem_array(BATCH * (size_t)m->set.n_classes, sizeof *probs, "the features", e);
    bool ok = probs && (g->px = mem_array(all, 1, "the images", e)) &&
              (g->pixel = mem_array(all, sizeof *g->pixel, "the images", e)) &&
              (g->feature = mem_array(g->n, d * sizeof *g->feature, "the features", e));
    if (ok)
        memcpy(g->px, small->px, all);
    for (size_t i = 0; ok && i < all; i++)
        g->pixel[i] = (float)g->px[i];
    ok = ok && synthetic_images_fit(&full, small, &m->set, seed, e) &&
         (p = predictor_create(m->model, BATCH, 1, e));
    const size_t stored = (size_t)full.layout.size * (size_t)full.layout.size *
                          (size_t)(ok ? imageset_stored_channels(&full.layout) : 0);
    for (size_t at = 0; ok && at < g->n; at += BATCH) {
        const int n = g->n - at < BATCH ? (int)(g->n - at) : BATCH;
        predictor_run(p, full.px + at * stored, n, probs, g->feature + at * d);
    }
    predictor_free(p);
    imageset_free(&full);
    free(probs);
    return ok;
}

/* want[k] items of each class, drawn by seed, from number skip[k] of the class on (NULL: the first). */
static uint32_t *draw(const struct imageset *from, const size_t *want, const size_t *skip, uint64_t seed,
                      size_t *n, struct err *e)
{
    size_t seen[MAX_CLASSES] = {0};
    struct rng r;
    uint32_t *order = mem_array(2 * from->n, sizeof *order, "the choice of images", e);
    *n = 0;
    if (!order)
        return NULL;
    uint32_t *out = order + from->n;
    rng_init(&r, seed, RNG_SHUFFLE, 0);
    rng_permutation(&r, order, (uint32_t)from->n);
    for (size_t i = 0; i < from->n; i++) {
        const int k = from->label[order[i]];
        const size_t number = seen[k]++, first = skip ? skip[k] : 0;
        if (number >= first && number < first + want[k])
            out[(*n)++] = order[i];
    }
    memmove(order, out, *n * sizeof *order);
    return order;
}

static bool hang_some(struct gallery *g, const struct imageset *from, const size_t *want, const size_t *skip,
                      const struct model_set *m, uint64_t seed, struct err *e)
{
    struct imageset some = {0};
    size_t n;
    uint32_t *item = draw(from, want, skip, seed, &n, e);
    const bool ok = item && pick(&some, from, item, n, e) && hang(g, &some, m, seed, e);
    imageset_free(&some);
    free(item);
    return ok;
}

/* real and made of as many images; learnt and held likewise. */
static bool measure(const struct gallery *real, const struct gallery *made, const struct gallery *learnt,
                    const struct gallery *held, uint64_t seed, struct figures *f, struct err *e)
{
    const size_t n = made->n;
    return distance_frechet(real->feature, n, made->feature, n, made->d, &f->frechet, e) &&
           distance_frechet_limit(real->feature, made->feature, n, made->d, seed, &f->limit, e) &&
           distance_kernel(real->feature, n, made->feature, n, made->d, seed, &f->kernel, e) &&
           distance_patches(real->px, made->px, n, made->side, made->bands, seed, &f->patches, e) &&
           distance_manifold(real->feature, n, made->feature, n, made->d, &f->precision, &f->recall, e) &&
           distance_memory(made->pixel, n, learnt->pixel, held->pixel, held->n, (int)image_size(made),
                           &f->memory, e);
}

static cJSON *row_json(const char *name, size_t n, const struct figures *f)
{
    cJSON *o = cJSON_CreateObject();
    cJSON_AddStringToObject(o, "images", name);
    cJSON_AddNumberToObject(o, "n", (double)n);
    cJSON_AddNumberToObject(o, "fcd", f->frechet);
    cJSON_AddNumberToObject(o, "fcd_limit", f->limit);
    cJSON_AddNumberToObject(o, "kcd", f->kernel.mean);
    cJSON_AddNumberToObject(o, "kcd_deviation", f->kernel.deviation);
    cJSON_AddNumberToObject(o, "swd", f->patches);
    cJSON_AddNumberToObject(o, "precision", f->precision);
    cJSON_AddNumberToObject(o, "recall", f->recall);
    if (isfinite(f->memory))
        cJSON_AddNumberToObject(o, "memory", f->memory);
    return o;
}

static void print_row(const char *name, size_t n, const struct figures *f)
{
    printf("%-32s %5zu %8.3f %8.3f %9.4f %8.4f %7.4f %9.3f %6.3f", name, n, f->frechet, f->limit,
           f->kernel.mean, f->kernel.deviation, f->patches, f->precision, f->recall);
    if (isfinite(f->memory))
        printf(" %6.3f", f->memory);
    putchar('\n');
}

struct comparison {
    struct model_set m;
    struct imageset train, test; /* real images, shrunk */
    struct imageset *made;       /* [n] */
    int n, cut;
    size_t want[MAX_CLASSES];
    struct gallery real, other, learnt, held;
};

static bool read_all(struct comparison *k, const struct lab_diffuse *c, const struct common *common,
                     const struct progress *p, struct err *e)
{
    struct synthetic_facts facts;
    if (!model_set_open(&k->m, c->classifier, c->data, 1, common->seed, p, e))
        return false;
    k->cut = k->m.ev ? (k->m.set.n_classes == 2 ? k->m.cut : 0) : -1;
    for (; k->n < c->made.n; k->n++)
        if (!synthetic_images_read(&k->made[k->n], c->made.item[k->n], &k->m.set, k->cut, &facts, p, e))
            return false;
    const int side = k->made[0].layout.size;
    for (int i = 1; i < k->n; i++)
        if (k->made[i].layout.size != side)
            return err_set(e, ERR_INPUT, "%s has samples of %d pixels, %s of %d; compare those of one size",
                           c->made.item[0], side, c->made.item[i], k->made[i].layout.size);
    if (k->m.set.layout.size % side || k->m.set.n_classes > MAX_CLASSES || side < 7)
        return err_set(
            e, ERR_INPUT,
            "%s: samples of %d pixels; 7 or more are compared, and images of %d pixels must shrink to them "
            "by a whole factor",
            c->made.item[0], side, k->m.set.layout.size);
    return shrink_all(&k->train, &k->m.set, IMAGESET_TRAIN, side, e) &&
           shrink_all(&k->test, &k->m.set, IMAGESET_TEST, side, e);
}

/* As many of each class as every folder has, and as leave a second half of the real ones. */
static bool settle(struct comparison *k, const char *data, struct err *e)
{
    size_t n = 0;
    for (int c = 0; c < k->m.set.n_classes; c++) {
        size_t least = 0;
        for (size_t i = 0; i < k->train.n; i++)
            least += k->train.label[i] == c;
        least /= 2;
        for (int f = 0; f < k->n; f++) {
            size_t have = 0;
            for (size_t i = 0; i < k->made[f].n; i++)
                have += k->made[f].label[i] == c;
            least = have < least ? have : least;
        }
        k->want[c] = least;
        n += least;
    }
    if (n < LEAST)
        return err_set(
            e, ERR_INPUT,
            "%s: only %zu images of a class can be compared on each side; make more samples of every class",
            data, n);
    const int d = net_embedding_size(model_net(k->m.model));
    if (n < 10 * (size_t)d)
        console_say("%zu images for %d features: FCD is biased upwards; go by FCD* and by the floor", n, d);
    return true;
}

/* As many images that were learnt from as held-out ones, for the memory. */
static bool hang_memory(struct comparison *k, uint64_t seed, struct err *e)
{
    size_t want[MAX_CLASSES] = {0};
    for (int c = 0; c < k->m.set.n_classes; c++) {
        size_t a = 0, b = 0;
        for (size_t i = 0; i < k->train.n; i++)
            a += k->train.label[i] == c;
        for (size_t i = 0; i < k->test.n; i++)
            b += k->test.label[i] == c;
        want[c] = a < b ? a : b;
    }
    return hang_some(&k->learnt, &k->train, want, NULL, &k->m, seed, e) &&
           hang_some(&k->held, &k->test, want, NULL, &k->m, seed, e) &&
           (k->held.n > 0 || err_set(e, ERR_INPUT, "no class has both training and held-out images"));
}

static bool compare_all(struct comparison *k, const struct lab_diffuse *c, const struct common *common,
                        cJSON *rows, const struct progress *p, struct err *e)
{
    struct figures f;
    const uint64_t seed = common->seed;
    bool ok = settle(k, c->data, e) && hang_memory(k, seed, e) &&
              hang_some(&k->real, &k->train, k->want, NULL, &k->m, seed, e) &&
              hang_some(&k->other, &k->train, k->want, k->want, &k->m, seed, e) &&
              measure(&k->real, &k->other, &k->learnt, &k->held, seed, &f, e);
    f.memory = ok ? NAN : 0; /* real images are among those learnt from */
    if (ok && !common->json)
        printf("%-32s %5s %8s %8s %9s %8s %7s %9s %6s %6s\n", "", "n", "FCD", "FCD*", "KCD", "+-", "SWD",
               "precision", "recall", "memory");
    for (int i = -1; ok && i < k->n; i++) {
        struct gallery made = {0};
        const char *name = i < 0 ? "real against real" : c->made.item[i];
        if (progress_stopped(p))
            ok = err_set(e, ERR_INTERRUPTED, "interrupted");
        if (ok && i >= 0)
            ok = hang_some(&made, &k->made[i], k->want, NULL, &k->m, seed, e) &&
                 measure(&k->real, &made, &k->learnt, &k->held, seed, &f, e);
        if (ok && common->json)
            cJSON_AddItemToArray(rows, row_json(name, k->real.n, &f));
        else if (ok)
            print_row(name, k->real.n, &f);
        gallery_free(&made);
        progress_report(p, "compare", i + 2, k->n + 1, name);
    }
    return ok;
}

bool diffuse_compare(const struct lab_diffuse *c, const struct common *common,
                     const struct progress *progress, struct err *e)
{
    struct comparison *k = mem_array(1, sizeof *k, "the comparison", e);
    cJSON *j = cJSON_CreateObject(), *rows = cJSON_AddArrayToObject(j, "rows");
    bool ok = k && (k->made = mem_array((size_t)c->made.n, sizeof *k->made, "the comparison", e));
    if (ok && common->dry_run)
        ok = err_set(e, ERR_USAGE, "compare writes no files, so --dry-run has no meaning here");
    ok = ok && read_all(k, c, common, progress, e) && compare_all(k, c, common, rows, progress, e);
    if (ok) {
        cJSON_AddStringToObject(j, "classifier_digest", model_digest(k->m.model));
        cJSON_AddNumberToObject(j, "features", k->real.d);
        if (!common->json)
            printf("features: %d of the classifier %.16s\n", k->real.d, model_digest(k->m.model));
    }
    if (ok && common->json) {
        ok = print_json(j, e);
        j = NULL;
    }
    cJSON_Delete(j);
    if (k) {
        for (int i = 0; k->made && i < k->n; i++)
            imageset_free(&k->made[i]);
        free(k->made);
        imageset_free(&k->train);
        imageset_free(&k->test);
        gallery_free(&k->real);
        gallery_free(&k->other);
        gallery_free(&k->learnt);
        gallery_free(&k->held);
        model_set_close(&k->m);
    }
    free(k);
    return ok && (common->json || flush_stdout(e));
}
