/* SPDX-License-Identifier: Apache-2.0
 *
 * synthetic_images.c - made-up images as training items (synthetic_images.h). Class and maker are read from each
 * image's own description, so that a folder may be thinned out by hand; what the maker had learnt from stands in the
 * list beside it. */
#include "geo/synthetic_images.h"

#include "geo/event.h"
#include "geo/raster.h"
#include "geo/synthetic.h"
#include "models/base/file.h"
#include "models/base/mem.h"
#include "models/base/rng.h"

#include <cJSON.h>
#include <cpl_conv.h>
#include <cpl_string.h>
#include <cpl_vsi.h>
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LIST_MAX = 256 << 20, DONOR_STREAM = 0x73796e74 };

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static bool is_sample(const char *name)
{
    const size_t n = strlen(name);
    return strncmp(name, SYNTHETIC_PREFIX, strlen(SYNTHETIC_PREFIX)) == 0 && n > 4 &&
           strcmp(name + n - 4, ".tif") == 0;
}

/* Full names of the samples, in name order; CSLDestroy. dir: where the list of them may lie. */
static char **list_samples(const char *path, char dir[4096], struct err *e)
{
    char one[4096], **out = NULL;
    if (!file_is_dir(path)) {
        snprintf(dir, 4096, "%.*s", (int)(file_base(path) - path), path);
        if (file_exists(path))
            return CSLAddString(NULL, path);
        err_set(e, ERR_NOT_FOUND, "%s: there is no such folder or file of made-up images", path);
        return NULL;
    }
    snprintf(dir, 4096, "%s", path);
    char **names = VSIReadDir(path);
    bool ok = true;
    for (int i = 0; ok && names && names[i]; i++)
        if (is_sample(names[i]) && (ok = file_join(one, sizeof one, path, names[i], e)))
            out = CSLAddString(out, one);
    CSLDestroy(names);
    if (ok && !out)
        ok = err_set(e, ERR_INPUT,
                     "%s: holds no " SYNTHETIC_PREFIX "*.tif; make some with aftermap lab diffuse sample",
                     path);
    if (ok) {
        qsort(out, (size_t)CSLCount(out), sizeof *out, by_name);
        return out;
    }
    CSLDestroy(out);
    return NULL;
}

/* Class names as the sampler writes them: letters and digits, everything else an underscore. */
static bool same_name(const char *class_name, const char *said)
{
    size_t i = 0;
    for (; class_name[i] && said[i]; i++)
        if (said[i] != (isalnum((unsigned char)class_name[i]) ? class_name[i] : '_'))
            return false;
    return !class_name[i] && !said[i];
}

/* The class of `like` that an image was asked to show, or -1. */
static int class_of(const struct imageset *like, int cut, const char *said)
{
    int level;
    if (cut > 0)
        return event_level_parse(said, &level) && level >= 0 ? level >= cut : -1;
    for (int k = 0; k < like->n_classes && k < 64; k++)
        if (same_name(like->class_name[k], said))
            return k;
    return -1;
}

static void add_maker(struct synthetic_facts *f, const char *maker, size_t length)
{
    char one[64];
    const size_t used = strlen(f->models);
    snprintf(one, sizeof one, "%.*s", (int)length, maker);
    if (strstr(f->models, one) || used + strlen(one) + 2 > sizeof f->models)
        return;
    snprintf(f->models + used, sizeof f->models - used, "%s%s", used ? "," : "", one);
}

/* "SYNTHETIC (aftermap diffusion DIGEST seed N) asked to show: CLASS" */
static bool read_mark(GDALDatasetH ds, const char *path, const struct imageset *like, int cut,
                      struct synthetic_facts *f, int *label, struct err *e)
{
    static const char begin[] = "SYNTHETIC (aftermap ", show[] = " asked to show: ";
    const char *text = GDALGetMetadataItem(ds, "TIFFTAG_IMAGEDESCRIPTION", NULL), *end, *said;
    if (!text || !synthetic_dataset_marked(ds) || strncmp(text, begin, strlen(begin)) != 0 ||
        !(end = strstr(text, " seed ")))
        return err_set(e, ERR_INPUT,
                       "%s: does not say that a model made it up; --synthetic takes images of aftermap lab "
                       "diffuse sample, observed ones are tiled or sources",
                       path);
    add_maker(f, text + strlen(begin), (size_t)(end - text) - strlen(begin));
    if (!(said = strstr(end, show)))
        return err_set(e, ERR_INPUT,
                       "%s: was asked to show nothing in particular, so it can teach no class; train the "
                       "diffusion model on graded chips",
                       path);
    said += strlen(show);
    *label = class_of(like, cut, said);
    return *label >= 0 ||
           err_set(e, ERR_INPUT, "%s: shows \"%.40s\", which is no class of %s", path, said, like->source);
}

/* Bands of both dates side by side and any side, which are no layout of a training set. */
static bool alloc_samples(struct imageset *small, size_t n, int side, int bands, struct err *e)
{
    small->layout = (struct imageset_layout){.size = side, .n_dates = 1, .n_bands = bands};
    small->n = n;
    return (small->px = mem_array(n, (size_t)side * (size_t)side * (size_t)bands, "the made-up images", e)) &&
           (small->label = mem_array(n, sizeof *small->label, "the made-up images", e));
}

/* Samples of one size into small: [n, side, side, bands], labels, facts. */
static bool read_samples(struct imageset *small, char **names, const struct imageset *like, int cut,
                         struct synthetic_facts *f, const struct progress *p, struct err *e)
{
    const int bands = like->layout.n_dates * like->layout.n_bands;
    const size_t n = (size_t)CSLCount(names);
    char why[256];
    bool ok = true;
    for (size_t i = 0; ok && i < n; i++) {
        int label = -1;
        CPLErrorReset();
        GDALDatasetH ds = GDALOpenEx(names[i], GDAL_OF_RASTER | GDAL_OF_READONLY, NULL, NULL, NULL);
        if (!ds)
            return err_set(e, ERR_INPUT, "%s: cannot be opened as an image (%s)", names[i],
                           geo_message(why, sizeof why));
        const int side = GDALGetRasterXSize(ds);
        ok = read_mark(ds, names[i], like, cut, f, &label, e);
        if (ok && GDALGetRasterCount(ds) != bands + 1)
            ok = err_set(e, ERR_INPUT, "%s: has %d bands of image, the images of %s %d (%d date(s) of %d)",
                         names[i], GDALGetRasterCount(ds) - 1, like->source, bands, like->layout.n_dates,
                         like->layout.n_bands);
        if (ok && (side != GDALGetRasterYSize(ds) || side > IMAGESET_MAX_SIZE ||
                   (i > 0 && side != small->layout.size)))
            ok = err_set(e, ERR_INPUT, "%s: has %d x %d pixels; made-up images are squares of one size",
                         names[i], side, GDALGetRasterYSize(ds));
        ok = ok && (i > 0 || alloc_samples(small, n, side, bands, e));
        if (ok && GDALDatasetRasterIO(ds, GF_Read, 0, 0, side, side,
                                      small->px + i * (size_t)side * (size_t)side * (size_t)bands, side, side,
                                      GDT_Byte, bands, NULL, bands, side * bands, 1) != CE_None)
            ok = err_set(e, ERR_INPUT, "%s: cannot be read (%s)", names[i], geo_message(why, sizeof why));
        GDALClose(ds);
        if (ok && progress_stopped(p))
            ok = err_set(e, ERR_INTERRUPTED, "interrupted");
        if (!ok)
            return false;
        small->label[i] = (int16_t)label;
        f->of_class[label]++;
    }
    f->n = n;
    return true;
}

/* A negative id that follows from an image's content, so that other images are other data to a resumed run. */
static int64_t id_of(const uint8_t *px, size_t bytes)
{
    char hex[65];
    file_sha256_buffer(px, bytes, hex);
    hex[15] = '\0';
    return -1 - (int64_t)strtoull(hex, NULL, 16);
}

static void read_list(const char *dir, struct synthetic_facts *f)
{
    char path[4096];
    struct err ignored;
    char *text = file_join(path, sizeof path, dir, SYNTHETIC_LIST, &ignored) && file_exists(path)
                     ? file_read(path, LIST_MAX, NULL, &ignored)
                     : NULL;
    cJSON *j = text ? cJSON_Parse(text) : NULL;
    const cJSON *from = cJSON_GetObjectItemCaseSensitive(j, "learnt_from");
    const char *name = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(from, "source")),
               *digest = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(from, "digest")),
               *split = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(from, "split"));
    if (name && digest && split) {
        snprintf(f->learnt_from, sizeof f->learnt_from, "%s", name);
        snprintf(f->learnt_digest, sizeof f->learnt_digest, "%s", digest);
        snprintf(f->learnt_split, sizeof f->learnt_split, "%s", split);
    }
    cJSON_Delete(j);
    free(text);
}

/* The item of `like` whose outline sample i takes: an observed training item of its class, else any. */
static size_t donor_of(const struct imageset *like, int label, uint64_t seed, size_t i)
{
    struct rng r;
    size_t same = 0, any = 0;
    rng_init(&r, seed, RNG_METHOD, (uint64_t)DONOR_STREAM << 32 | i);
    for (size_t k = 0; k < like->n; k++) {
        any += like->split[k] == IMAGESET_TRAIN;
        same += like->split[k] == IMAGESET_TRAIN && like->label[k] == label;
    }
    if (any == 0)
        return 0;
    size_t left = rng_below(&r, (uint32_t)(same ? same : any));
    for (size_t k = 0; k < like->n; k++)
        if (like->split[k] == IMAGESET_TRAIN && (same == 0 || like->label[k] == label) && left-- == 0)
            return k;
    return 0;
}

/* Enlarged samples into the layout of `like`. */
static bool fill(struct imageset *set, const struct imageset *small, const struct imageset *like,
                 uint64_t seed, struct err *e)
{
    const struct imageset_layout *l = &like->layout;
    const size_t pixels = (size_t)l->size * (size_t)l->size, bands = (size_t)(l->n_dates * l->n_bands),
                 stored = (size_t)imageset_stored_channels(l);
    if (!imageset_alloc(set, small->n, l, e))
        return false;
    for (size_t i = 0; i < small->n; i++) {
        const uint8_t *in = small->px + i * pixels * bands;
        const uint8_t *mask = like->px + donor_of(like, small->label[i], seed, i) * pixels * stored + bands;
        uint8_t *out = set->px + i * pixels * stored;
        for (size_t q = 0; q < pixels; q++) {
            memcpy(out + q * stored, in + q * bands, bands);
            if (l->has_masks) {
                out[q * stored + bands] = (uint8_t)((1 << l->n_dates) - 1);
                out[q * stored + bands + 1] = mask[q * stored + 1];
            }
        }
        set->label[i] = small->label[i];
        set->id[i] = id_of(in, pixels * bands);
        set->block[i] = 0;
        set->split[i] = IMAGESET_TRAIN;
    }
    set->n_classes = like->n_classes;
    memcpy(set->class_name, like->class_name, sizeof set->class_name);
    return true;
}

bool synthetic_images_read(struct imageset *small, const char *path, const struct imageset *like, int cut,
                           struct synthetic_facts *facts, const struct progress *p, struct err *e)
{
    char dir[4096], digests[129], **names = list_samples(path, dir, e);
    *small = (struct imageset){0};
    *facts = (struct synthetic_facts){0};
    const bool ok = names && read_samples(small, names, like, cut, facts, p, e);
    CSLDestroy(names);
    if (!ok) {
        imageset_free(small);
        return false;
    }
    const size_t side = (size_t)small->layout.size;
    file_sha256_buffer(small->px, small->n * side * side * (size_t)small->layout.n_bands, digests);
    file_sha256_buffer(small->label, small->n * sizeof *small->label, digests + 64);
    file_sha256_buffer(digests, 128, facts->digest);
    read_list(dir, facts);
    return true;
}

bool synthetic_images_fit(struct imageset *set, struct imageset *small, const struct imageset *like,
                          uint64_t seed, struct err *e)
{
    char size[32];
    snprintf(size, sizeof size, "samples@size=%d", like->layout.size);
    *set = (struct imageset){0};
    if (imageset_shape(small, size, e) && fill(set, small, like, seed, e))
        return true;
    imageset_free(set);
    return false;
}

bool synthetic_images_load(struct imageset *set, const char *path, const struct imageset *like, int cut,
                           uint64_t seed, struct synthetic_facts *facts, const struct progress *p,
                           struct err *e)
{
    struct imageset small;
    *set = (struct imageset){0};
    const bool ok = synthetic_images_read(&small, path, like, cut, facts, p, e) &&
                    synthetic_images_fit(set, &small, like, seed, e);
    if (ok) {
        snprintf(set->source, sizeof set->source, "%s", path);
        memcpy(set->digest, facts->digest, sizeof set->digest);
    }
    imageset_free(&small);
    return ok;
}
