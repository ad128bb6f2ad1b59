/* SPDX-License-Identifier: Apache-2.0
 *
 * contactsheet.c - the pages of contactsheet.h, painted in memory [3,h,w] and written by GDAL's PNG driver. A tile is
 * the enlarged image of each date and a gap; the outline is where the footprint byte changes, drawn in yellow at the
 * chip's own resolution. */
#include "geo/contactsheet.h"

#include "geo/raster.h"
#include "models/base/mem.h"
#include <assert.h>
#include <cpl_error.h>
#include <gdal.h>
#include <stdlib.h>
#include <string.h>

enum { LEAST_PX = 64, GAP_PX = 4, DATE_GAP_PX = 1 };

static int scale_of(const struct imageset_layout *l)
{
    return (LEAST_PX + l->size - 1) / l->size;
}

static int tile_width(const struct imageset_layout *l)
{
    return l->n_dates * l->size * scale_of(l) + (l->n_dates - 1) * DATE_GAP_PX;
}

void contactsheet_size(const struct imageset_layout *l, int n, int columns, int *width, int *height)
{
    const int across = n < columns ? n : columns, rows = (n + columns - 1) / columns;
    *width = across * (tile_width(l) + GAP_PX) + GAP_PX;
    *height = rows * (l->size * scale_of(l) + GAP_PX) + GAP_PX;
}

/* Inside the footprint, with a neighbour outside. */
static bool is_outline(const struct imageset_layout *l, const uint8_t *px, int x, int y)
{
    const int stored = imageset_stored_channels(l), size = l->size;
    const uint8_t *mask = px + stored - 1;
    if (!l->has_masks || !mask[(size_t)(y * size + x) * (size_t)stored])
        return false;
    for (int k = 0; k < 4; k++) {
        const int u = x + (k == 0) - (k == 1), v = y + (k == 2) - (k == 3);
        if (u >= 0 && v >= 0 && u < size && v < size && !mask[(size_t)(v * size + u) * (size_t)stored])
            return true;
    }
    return false;
}

static void color_of(const struct imageset_layout *l, const uint8_t *px, int date, int x, int y,
                     uint8_t rgb[3])
{
    const int stored = imageset_stored_channels(l);
    const uint8_t *at = px + (size_t)(y * l->size + x) * (size_t)stored;
    static const uint8_t yellow[3] = {255, 220, 0}, blank[3] = {128, 128, 128};
    if (is_outline(l, px, x, y))
        memcpy(rgb, yellow, 3);
    else if (l->has_masks && !(at[stored - 2] >> date & 1))
        memcpy(rgb, blank, 3);
    else
        for (int b = 0; b < 3; b++)
            rgb[b] = at[date * l->n_bands + (l->n_bands >= 3 ? b : 0)];
}

static void paint_tile(const struct imageset_layout *l, const uint8_t *px, uint8_t *page, int width,
                       int height, int x0, int y0)
{
    const int scale = scale_of(l), side = l->size * scale;
    for (int date = 0; date < l->n_dates; date++)
        for (int y = 0; y < side; y++)
            for (int x = 0; x < side; x++) {
                uint8_t rgb[3];
                color_of(l, px, date, x / scale, y / scale, rgb);
                const size_t at =
                    (size_t)(y0 + y) * (size_t)width + (size_t)(x0 + date * (side + DATE_GAP_PX) + x);
                for (size_t b = 0; b < 3; b++)
                    page[b * (size_t)width * (size_t)height + at] = rgb[b];
            }
}

static bool encode(const char *path, uint8_t *page, int width, int height, const char *title, struct err *e)
{
    GDALDriverH memory = GDALGetDriverByName("MEM"), png = GDALGetDriverByName("PNG");
    char why[300];
    CPLErrorReset();
    if (!memory || !png)
        return err_set(e, ERR_RUNTIME, "%s: GDAL has no PNG driver; install a complete GDAL", path);
    GDALDatasetH from = GDALCreate(memory, "", width, height, 3, GDT_Byte, NULL), to = NULL;
    bool ok = from && GDALDatasetRasterIO(from, GF_Write, 0, 0, width, height, page, width, height, GDT_Byte,
                                          3, NULL, 0, 0, 0) == CE_None;
    if (ok) {
        static const GDALColorInterp color[] = {GCI_RedBand, GCI_GreenBand, GCI_BlueBand};
        for (int b = 0; b < 3; b++)
            GDALSetRasterColorInterpretation(GDALGetRasterBand(from, b + 1), color[b]);
        GDALSetMetadataItem(from, "Title", title, NULL);
        /* the title goes into the file itself, not into one beside it */
        char options[] = "WRITE_METADATA_AS_TEXT=YES", *list[] = {options, NULL};
        to = GDALCreateCopy(png, path, from, FALSE, list, NULL, NULL);
    }
    if (to)
        GDALClose(to);
    if (from)
        GDALClose(from);
    ok = ok && to && CPLGetLastErrorType() < CE_Failure;
    return ok ? true
              : err_set(e, ERR_RUNTIME, "%s cannot be written: %s", path, geo_message(why, sizeof why));
}

bool contactsheet_write(const char *path, const struct imageset *set, const uint32_t *item, int n,
                        int columns, const char *title, struct err *e)
{
    const struct imageset_layout *l = &set->layout;
    const size_t image = (size_t)l->size * (size_t)l->size * (size_t)imageset_stored_channels(l);
    int width, height;
    assert(n >= 1 && n <= CONTACTSHEET_MAX_TILES && columns >= 1);
    contactsheet_size(l, n, columns, &width, &height);
    uint8_t *page = mem_array((size_t)width * (size_t)height, 3, "the contact sheet", e);
    if (!page)
        return false;
    memset(page, 255, 3 * (size_t)width * (size_t)height);
    for (int k = 0; k < n; k++)
        paint_tile(l, set->px + item[k] * image, page, width, height,
                   GAP_PX + k % columns * (tile_width(l) + GAP_PX),
                   GAP_PX + k / columns * (l->size * scale_of(l) + GAP_PX));
    const bool ok = encode(path, page, width, height, title, e);
    free(page);
    return ok;
}
