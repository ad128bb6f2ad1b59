/* SPDX-License-Identifier: Apache-2.0
 *
 * folder.c - an image folder as a training set: one sub-folder a class, any image GDAL reads. Declared in
 * event.h.
 *
 * Classes and files come in name order (byte order), so ids are stable. All images have one size and one
 * number of bands; a side that is no multiple of 4 is padded by repeating the last pixels, as imageset.h does
 * for other plain sets. */
#include "geo/event.h"

#include "geo/raster.h"
#include "geo/synthetic.h"
#include "models/base/file.h"
#include "models/base/mem.h"
#include <cpl_string.h>
#include <cpl_vsi.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

enum { SIDE_MAX = 512, CLASSES_MAX = 10000 };

struct images {
    char **path;
    int16_t *label;
    size_t n, room;
};

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Sorted names in a folder, without hidden ones. CSLDestroy. */
static char **sorted_names(const char *dir)
{
    char **all = VSIReadDir(dir), **out = NULL;
    for (int i = 0; all && all[i]; i++)
        if (all[i][0] != '.')
            out = CSLAddString(out, all[i]);
    CSLDestroy(all);
    if (out)
        qsort(out, (size_t)CSLCount(out), sizeof *out, by_name);
    return out;
}

static bool add_class(struct images *l, const char *dir, int label, struct err *e)
{
    char path[4096], **names = sorted_names(dir);
    size_t before = l->n;
    bool ok = true;
    for (int i = 0; ok && names && names[i]; i++) {
        ok = file_join(path, sizeof path, dir, names[i], e);
        if (!ok || file_is_dir(path) || !GDALIdentifyDriverEx(path, GDAL_OF_RASTER, NULL, NULL))
            continue;
        if (l->n == l->room) {
            l->room = l->room ? 2 * l->room : 1024;
            ok = mem_grow(&l->path, l->room, sizeof *l->path, "the list of images", e) &&
                 mem_grow(&l->label, l->room, sizeof *l->label, "the list of images", e);
        }
        if (ok && (l->path[l->n] = mem_strdup(path, e)))
            l->label[l->n++] = (int16_t)label;
        else
            ok = false;
    }
    CSLDestroy(names);
    return ok && l->n == before ? err_set(e, ERR_INPUT, "%s: the class folder holds no image", dir) : ok;
}

static bool list_images(struct images *l, struct imageset *set, const char *dir, struct err *e)
{
    char path[4096], **names = sorted_names(dir);
    bool ok = true;
    for (int i = 0; ok && names && names[i]; i++) {
        ok = file_join(path, sizeof path, dir, names[i], e);
        if (!ok || !file_is_dir(path))
            continue;
        if (set->n_classes == CLASSES_MAX)
            ok = err_set(e, ERR_INPUT, "%s has more than %d class folders", dir, CLASSES_MAX);
        if (ok && set->n_classes < 64)
            snprintf(set->class_name[set->n_classes], sizeof set->class_name[0], "%s", names[i]);
        ok = ok && add_class(l, path, set->n_classes++, e);
    }
    CSLDestroy(names);
    if (ok && set->n_classes < 2)
        ok = err_set(e, ERR_INPUT, "%s needs at least two sub-folders of images, one a class", dir);
    return ok;
}

static GDALDatasetH open_image(const char *path, int *w, int *h, int *n_bands, struct err *e)
{
    char why[200];
    CPLErrorReset();
    GDALDatasetH ds =
        GDALOpenEx(path, GDAL_OF_RASTER | GDAL_OF_READONLY | GDAL_OF_VERBOSE_ERROR, NULL, NULL, NULL);
    if (!ds) {
        err_set(e, ERR_INPUT, "%s cannot be opened as an image (%s)", path, geo_message(why, sizeof why));
        return NULL;
    }
    int n = GDALGetRasterCount(ds);
    *w = GDALGetRasterXSize(ds);
    *h = GDALGetRasterYSize(ds);
    *n_bands = n - (n > 1 && GDALGetRasterColorInterpretation(GDALGetRasterBand(ds, n)) == GCI_AlphaBand);
    bool ok = n >= 1 || err_set(e, ERR_INPUT, "%s holds no image bands", path);
    if (ok && synthetic_dataset_marked(ds))
        ok = err_set(
            e, ERR_INPUT,
            "%s was made up by a model; it is no observation to learn from or to test on (train --synthetic "
            "lets such images teach beside observed ones)",
            path);
    if (ok && GDALGetRasterColorTable(GDALGetRasterBand(ds, 1)))
        ok = err_set(e, ERR_INPUT, "%s is a colour-table image; expand it with gdal_translate -expand rgb",
                     path);
    if (ok && GDALGetRasterDataType(GDALGetRasterBand(ds, 1)) != GDT_Byte)
        ok = err_set(e, ERR_INPUT, "%s is not an 8-bit image; convert it with gdal_translate -ot Byte -scale",
                     path);
    if (ok)
        return ds;
    GDALClose(ds);
    return NULL;
}

/* One image into out [size,size,bands]; side is its own, size the padded one. */
static bool read_image(const char *path, const struct imageset_layout *l, int side, uint8_t *out,
                       struct err *e)
{
    int w, h, n_bands;
    char why[200];
    GDALDatasetH ds = open_image(path, &w, &h, &n_bands, e);
    if (!ds)
        return false;
    bool ok = true;
    if (w != side || h != side || n_bands != l->n_bands)
        ok =
            err_set(e, ERR_INPUT,
                    "%s has %d x %d pixels and %d bands where the first image has %d x %d and %d; all images "
                    "of a set are alike",
                    path, w, h, n_bands, side, side, l->n_bands);
    const int c = l->n_bands, row = l->size * c;
    CPLErrorReset();
    if (ok && GDALDatasetRasterIO(ds, GF_Read, 0, 0, side, side, out, side, side, GDT_Byte, c, NULL, c, row,
                                  1) != CE_None)
        ok = err_set(e, ERR_INPUT, "%s cannot be read (%s)", path, geo_message(why, sizeof why));
    GDALClose(ds);
    for (int y = 0; ok && y < l->size; y++) {
        uint8_t *line = out + (size_t)y * (size_t)row;
        if (y >= side) {
            memcpy(line, line - row, (size_t)row);
            continue;
        }
        for (int x = side; x < l->size; x++)
            memcpy(line + (size_t)x * (size_t)c, line + (size_t)(x - 1) * (size_t)c, (size_t)c);
    }
    return ok;
}

/* Digest over all pixels, then all labels: two SHA-256 in one. */
static void set_digest(struct imageset *set)
{
    char both[129];
    const struct imageset_layout *l = &set->layout;
    size_t bytes = set->n * (size_t)l->size * (size_t)l->size * (size_t)imageset_stored_channels(l);
    file_sha256_buffer(set->px, bytes, both);
    file_sha256_buffer(set->label, set->n * sizeof *set->label, both + 64);
    file_sha256_buffer(both, 128, set->digest);
}

static bool load(struct imageset *set, const struct images *l, const char *dir, const struct progress *p,
                 struct err *e)
{
    int w, h, n_bands;
    struct imageset names = *set; /* imageset_alloc zeroes the set */
    GDALDatasetH first = open_image(l->path[0], &w, &h, &n_bands, e);
    if (!first)
        return false;
    GDALClose(first);
    if (w != h || w > SIDE_MAX || n_bands > EVENT_MAX_BANDS)
        return err_set(
            e, ERR_INPUT,
            "%s has %d x %d pixels and %d bands; images must be square, at most %d pixels a side and "
            "%d bands",
            l->path[0], w, h, n_bands, SIDE_MAX, EVENT_MAX_BANDS);
    struct imageset_layout layout = {.size = (w + 3) / 4 * 4, .n_dates = 1, .n_bands = n_bands};
    if (!imageset_alloc(set, l->n, &layout, e))
        return false;
    set->n_classes = names.n_classes;
    memcpy(set->class_name, names.class_name, sizeof set->class_name);
    snprintf(set->source, sizeof set->source, "folder:%s", dir);
    const size_t bytes = (size_t)layout.size * (size_t)layout.size * (size_t)n_bands;
    for (size_t i = 0; i < l->n; i++) {
        if (i % 256 == 0) {
            progress_report(p, "read", (double)i, (double)l->n, NULL);
            if (progress_stopped(p))
                return err_set(e, ERR_INTERRUPTED, "interrupted");
        }
        if (!read_image(l->path[i], &layout, w, set->px + i * bytes, e))
            return false;
        set->id[i] = (int64_t)i;
        set->label[i] = l->label[i];
    }
    set_digest(set);
    return true;
}

bool event_load_folder(struct imageset *set, const char *spec, double test_share, uint64_t seed,
                       const struct progress *p, struct err *e)
{
    struct images l = {0};
    *set = (struct imageset){0};
    if (strncmp(spec, "folder:", 7) == 0)
        spec += 7;
    char *dir = mem_strdup(spec, e);
    if (!dir)
        return false;
    dir[imageset_spec_length(spec)] = '\0';
    bool ok = file_is_dir(dir) || err_set(e, ERR_NOT_FOUND, "%s: there is no such image folder", dir);
    ok = ok && list_images(&l, set, dir, e) && load(set, &l, dir, p, e);
    if (ok)
        snprintf(set->source, sizeof set->source, "folder:%s", spec);
    ok = ok && imageset_shape(set, spec, e) && imageset_split_random(set, test_share, seed, e);
    for (size_t i = 0; i < l.n; i++)
        free(l.path[i]);
    free(l.path);
    free(l.label);
    free(dir);
    if (!ok)
        imageset_free(set);
    return ok;
}
