/* SPDX-License-Identifier: Apache-2.0
 *
 * mapping_raster.c - the verdicts as two cloud-optimised GeoTIFFs on the event's working grid.
 *
 * Buildings are burnt block by block (512 x 512): each block rasterises the index of the buildings that touch
 * it into one small in-memory band, and both rasters look their values up through that index. A pixel belongs
 * to a building when its centre lies inside the outline; where outlines overlap the worse verdict wins, as on
 * paper.
 *
 * The blocks go into a sparse tiled GeoTIFF first, because a COG must have its overviews before its pixels
 * and GDAL's COG driver can therefore only copy; blocks without content are never written. Overviews are made
 * by nearest neighbour: codes are classes, which must not be averaged, and the mode would let small buildings
 * drown in the ground between them.
 *
 * Nodata (255) in damage.tif means outside the extent of the rasters of at least one date; the extents come
 * from the source files' headers. Blank collars inside a source raster are only known around buildings (the
 * chips' masks), where they show as 254 with a reason in the tables. When a source can no longer be opened, a
 * warning says so and its date counts as present.
 *
 * Memory: one block of each raster, the footprints in grid coordinates and GDAL's block cache. One thread. */
#include "geo/mapping_parts.h"

#include "geo/raster.h"
#include "models/base/mem.h"
#include <cpl_conv.h>
#include <cpl_error.h>
#include <cpl_string.h>
#include <gdal_alg.h>
#include <math.h>
#include <ogr_srs_api.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCK = 512, EDGE_POINTS = 21 };

/* Outlines in grid coordinates, and which of them touch which block: item[start[b] .. start[b+1]-1]. */
struct outlines {
    size_t n;
    OGRGeometryH *shape; /* [n], owned; NULL where the source has none */
    uint32_t *start, *item;
};

struct canvas {
    const struct mapping_map *m;
    int columns, rows;        /* blocks */
    struct outlines shapes;   /* index as event.building */
    struct outlines cover[2]; /* extents of the rasters of each date */
    bool cover_known[2];
    OGRGeometryH *list;
    double *burn;
    GDALDatasetH index_ds, cover_ds;
    int32_t *index; /* [BLOCK*BLOCK] building index + 1, 0 none */
    uint8_t *covered[2], *codes;
    float *probs; /* [BLOCK*BLOCK] */
};

/* ---- geometry into the grid */

static bool outlines_alloc(struct outlines *o, size_t n, struct err *e)
{
    o->n = n;
    o->shape = mem_array(n, sizeof(OGRGeometryH), "the outlines", e);
    return o->shape != NULL;
}

static void outlines_free(struct outlines *o)
{
    for (size_t i = 0; o->shape && i < o->n; i++)
        OGR_G_DestroyGeometry(o->shape[i]);
    free(o->shape);
    free(o->start);
    free(o->item);
}

static bool footprints_to_grid(struct canvas *c, struct err *e)
{
    const struct event *ev = c->m->ev;
    OGRCoordinateTransformationH t = geo_transform("EPSG:4326", ev->grid.wkt, e);
    bool ok = t && outlines_alloc(&c->shapes, ev->n, e);
    for (size_t i = 0; ok && i < ev->n; i++) {
        if (!ev->building[i].geometry)
            continue;
        OGRGeometryH g = OGR_G_Clone(ev->building[i].geometry);
        if (g && OGR_G_Transform(g, t) == OGRERR_NONE)
            c->shapes.shape[i] = g;
        else {
            OGR_G_DestroyGeometry(g);
            ok = err_set(e, ERR_INPUT, "building %s cannot be placed on the working grid: %s",
                         ev->building[i].bldg_id, CPLGetLastErrorMsg());
        }
    }
    OCTDestroyCoordinateTransformation(t);
    return ok;
}

/* The outline of one source raster in grid coordinates, its edges sampled because they may bend between the
 * two systems. */
static OGRGeometryH raster_outline(const char *path, const char *grid_wkt, struct err *e)
{
    double gt[6], x[4 * (EDGE_POINTS - 1)], y[4 * (EDGE_POINTS - 1)];
    int n = 0, good[4 * (EDGE_POINTS - 1)];
    OGRGeometryH polygon = NULL;
    OGRCoordinateTransformationH t = NULL;
    GDALDatasetH ds = GDALOpenEx(path, GDAL_OF_RASTER | GDAL_OF_READONLY, NULL, NULL, NULL);
    if (!ds || GDALGetGeoTransform(ds, gt) != CE_None)
        goto out;
    t = geo_transform(GDALGetProjectionRef(ds), grid_wkt, e);
    if (!t)
        goto out;
    double w = GDALGetRasterXSize(ds), h = GDALGetRasterYSize(ds);
    const double corner[5][2] = {{0, 0}, {w, 0}, {w, h}, {0, h}, {0, 0}};
    for (int k = 0; k < 4; k++)
        for (int i = 0; i < EDGE_POINTS - 1; i++, n++) {
            double s = (double)i / (EDGE_POINTS - 1);
            double px = corner[k][0] + s * (corner[k + 1][0] - corner[k][0]);
            double py = corner[k][1] + s * (corner[k + 1][1] - corner[k][1]);
            x[n] = gt[0] + px * gt[1] + py * gt[2];
            y[n] = gt[3] + px * gt[4] + py * gt[5];
        }
    if (!OCTTransformEx(t, n, x, y, NULL, good))
        goto out;
    OGRGeometryH ring = OGR_G_CreateGeometry(wkbLinearRing);
    for (int i = 0; i <= n; i++)
        OGR_G_AddPoint_2D(ring, x[i % n], y[i % n]);
    polygon = OGR_G_CreateGeometry(wkbPolygon);
    OGR_G_AddGeometryDirectly(polygon, ring);
out:
    OCTDestroyCoordinateTransformation(t);
    if (ds)
        GDALClose(ds);
    return polygon;
}

static bool imagery_extents(struct canvas *c, const struct progress *p, struct err *e)
{
    const struct event *ev = c->m->ev;
    for (int d = 0; d < 2; d++) {
        if (!outlines_alloc(&c->cover[d], (size_t)ev->n_path[d], e))
            return false;
        c->cover_known[d] = ev->n_path[d] > 0;
        for (int i = 0; i < ev->n_path[d]; i++) {
            struct err why;
            c->cover[d].shape[i] = raster_outline(ev->path[d][i], ev->grid.wkt, &why);
            if (c->cover[d].shape[i])
                continue;
            char sentence[512];
            c->cover_known[d] = false;
            snprintf(sentence, sizeof sentence,
                     "%s cannot be opened any more, so damage.tif cannot mark where the %s imagery ends",
                     ev->path[d][i], d == EVENT_PRE ? "earlier" : "later");
            progress_warn(p, sentence);
            break;
        }
    }
    return true;
}

/* ---- which outline touches which block: a counting sort over block numbers */

static bool block_range(const struct canvas *c, OGRGeometryH g, int r[4])
{
    const double *gt = c->m->ev->grid.geotransform;
    OGREnvelope env;
    if (!g || OGR_G_IsEmpty(g))
        return false;
    OGR_G_GetEnvelope(g, &env);
    double x0 = floor((env.MinX - gt[0]) / gt[1]) / BLOCK, x1 = floor((env.MaxX - gt[0]) / gt[1]) / BLOCK;
    double y0 = floor((env.MaxY - gt[3]) / gt[5]) / BLOCK, y1 = floor((env.MinY - gt[3]) / gt[5]) / BLOCK;
    if (!(x1 >= 0 && y1 >= 0 && x0 < c->columns && y0 < c->rows))
        return false;
    r[0] = x0 > 0 ? (int)x0 : 0;
    r[1] = y0 > 0 ? (int)y0 : 0;
    r[2] = x1 < c->columns ? (int)x1 : c->columns - 1;
    r[3] = y1 < c->rows ? (int)y1 : c->rows - 1;
    return true;
}

static bool outlines_sort(struct canvas *c, struct outlines *o, struct err *e)
{
    size_t n_blocks = (size_t)c->columns * (size_t)c->rows, total = 0;
    int r[4];
    o->start = mem_array(n_blocks + 2, sizeof *o->start, "the block index", e);
    if (!o->start)
        return false;
    for (size_t i = 0; i < o->n; i++)
        if (block_range(c, o->shape[i], r))
            for (int y = r[1]; y <= r[3]; y++)
                for (int x = r[0]; x <= r[2]; x++, total++)
                    o->start[(size_t)y * c->columns + x + 2]++;
    if (total > UINT32_MAX)
        return err_set(e, ERR_INPUT, "the footprints touch too many blocks of the grid; use a coarser --gsd");
    for (size_t b = 2; b < n_blocks + 2; b++)
        o->start[b] += o->start[b - 1];
    o->item = mem_array(total, sizeof *o->item, "the block index", e);
    if (!o->item)
        return false;
    for (size_t i = 0; i < o->n; i++)
        if (block_range(c, o->shape[i], r))
            for (int y = r[1]; y <= r[3]; y++)
                for (int x = r[0]; x <= r[2]; x++)
                    o->item[o->start[(size_t)y * c->columns + x + 1]++] = (uint32_t)i;
    return true; /* the second pass moved start[b+1] to where block b ends and b+1 begins */
}

static size_t longest_list(const struct canvas *c, const struct outlines *o)
{
    size_t longest = 1, n_blocks = (size_t)c->columns * (size_t)c->rows;
    for (size_t b = 0; o->start && b < n_blocks; b++)
        if (o->start[b + 1] - o->start[b] > longest)
            longest = o->start[b + 1] - o->start[b];
    return longest;
}

/* ---- burning one block */

struct window {
    const double *gt;
    int x, y, w, h;
};

/* GDALTransformerFunc: grid coordinates -> pixels of the window. */
static int to_window(void *arg, int inverse, int n, double *x, double *y, double *z, int *success)
{
    const struct window *win = arg;
    (void)z;
    for (int i = 0; i < n; i++) {
        if (inverse) {
            x[i] = win->gt[0] + (x[i] + win->x) * win->gt[1];
            y[i] = win->gt[3] + (y[i] + win->y) * win->gt[5];
        } else {
            x[i] = (x[i] - win->gt[0]) / win->gt[1] - win->x;
            y[i] = (y[i] - win->gt[3]) / win->gt[5] - win->y;
        }
        success[i] = TRUE;
    }
    return TRUE;
}

static int badness(const struct mapping_item *it)
{
    return it->status == MAPPING_NO_CHIP ? -1 : it->level;
}

static bool burn(GDALDatasetH ds, struct window *win, size_t n, OGRGeometryH *shapes, const double *values,
                 void *out, GDALDataType type, struct err *e)
{
    int band = 1;
    GDALFillRaster(GDALGetRasterBand(ds, 1), 0, 0);
    if (n && GDALRasterizeGeometries(ds, 1, &band, (int)n, shapes, to_window, win, values, NULL, NULL,
                                     NULL) != CE_None)
        return err_set(e, ERR_RUNTIME, "the footprints cannot be drawn: %s", CPLGetLastErrorMsg());
    if (GDALRasterIO(GDALGetRasterBand(ds, 1), GF_Read, 0, 0, win->w, win->h, out, win->w, win->h, type, 0,
                     0) != CE_None)
        return err_set(e, ERR_RUNTIME, "the footprints cannot be drawn: %s", CPLGetLastErrorMsg());
    return true;
}

/* Fills c->index; *any tells whether a building lies in the window. */
static bool burn_buildings(struct canvas *c, size_t block, struct window *win, bool *any, struct err *e)
{
    const struct outlines *o = &c->shapes;
    size_t n = 0;
    for (int bad = -1; bad <= 3; bad++) /* worst last; ties by fid, as the block's list is in fid order */
        for (uint32_t k = o->start[block]; k < o->start[block + 1]; k++) {
            uint32_t i = o->item[k];
            if (badness(&c->m->item[i]) != bad)
                continue;
            c->list[n] = o->shape[i];
            c->burn[n++] = (double)i + 1.0;
        }
    *any = n > 0;
    return burn(c->index_ds, win, n, c->list, c->burn, c->index, GDT_Int32, e);
}

/* Fills c->covered[d]; *state: 0 no pixel, 1 some, 2 all (then nothing was filled). */
static bool burn_cover(struct canvas *c, int d, size_t block, struct window *win, int *state, struct err *e)
{
    const struct outlines *o = &c->cover[d];
    *state = 2;
    if (!c->cover_known[d])
        return true;
    size_t n = o->start[block + 1] - o->start[block];
    for (size_t k = 0; k < n; k++) {
        c->list[k] = o->shape[o->item[o->start[block] + k]];
        c->burn[k] = 1.0;
    }
    *state = n > 0;
    return n == 0 || burn(c->cover_ds, win, n, c->list, c->burn, c->covered[d], GDT_Byte, e);
}

static bool write_block(GDALDatasetH ds, int band, const struct window *win, void *px, GDALDataType type,
                        struct err *e)
{
    if (GDALRasterIO(GDALGetRasterBand(ds, band), GF_Write, win->x, win->y, win->w, win->h, px, win->w,
                     win->h, type, 0, 0) != CE_None)
        return mapping_gdal_failed(GDALGetDescription(ds), e);
    return true;
}

static bool draw_block(struct canvas *c, int column, int row, GDALDatasetH damage, GDALDatasetH prob,
                       struct err *e)
{
    const struct event_grid *g = &c->m->ev->grid;
    struct window win = {.gt = g->geotransform, .x = column * BLOCK, .y = row * BLOCK};
    win.w = g->width - win.x < BLOCK ? g->width - win.x : BLOCK;
    win.h = g->height - win.y < BLOCK ? g->height - win.y : BLOCK;
    size_t block = (size_t)row * c->columns + column, n = (size_t)win.w * win.h;
    bool any_building, any_code = false, any_prob = false;
    int state[2];
    if (!burn_buildings(c, block, &win, &any_building, e) || !burn_cover(c, 0, block, &win, &state[0], e) ||
        !burn_cover(c, 1, block, &win, &state[1], e))
        return false;
    for (size_t k = 0; k < n; k++) {
        bool seen = true;
        for (int d = 0; d < 2; d++)
            seen = seen && (state[d] == 2 || (state[d] == 1 && c->covered[d][k]));
        const struct mapping_item *it = c->index[k] ? &c->m->item[c->index[k] - 1] : NULL;
        c->codes[k] = !it ? (seen ? 0 : MAPPING_NODATA) : mapping_pixel(it->level);
        any_code = any_code || c->codes[k] != MAPPING_NODATA;
        any_prob = any_prob || (it && it->status != MAPPING_NO_CHIP);
    }
    if (any_code && !write_block(damage, 1, &win, c->codes, GDT_Byte, e))
        return false;
    for (int b = 0; any_prob && b <= c->m->n_classes; b++) {
        for (size_t k = 0; k < n; k++) {
            const struct mapping_item *it = c->index[k] ? &c->m->item[c->index[k] - 1] : NULL;
            float v = NAN;
            if (it && it->status != MAPPING_NO_CHIP && b > 0)
                v = it->p[b - 1];
            else if (it && it->status != MAPPING_NO_CHIP) {
                v = 0;
                for (int j = c->m->n_classes == 2 ? 1 : c->m->cut; j < c->m->n_classes; j++)
                    v += it->p[j];
            }
            c->probs[k] = v;
        }
        if (!write_block(prob, b + 1, &win, c->probs, GDT_Float32, e))
            return false;
    }
    return true;
}

static bool canvas_open(struct canvas *c, const struct mapping_map *m, const struct progress *p,
                        struct err *e)
{
    const struct event_grid *g = &m->ev->grid;
    size_t px = (size_t)BLOCK * BLOCK;
    c->m = m;
    c->columns = (g->width + BLOCK - 1) / BLOCK;
    c->rows = (g->height + BLOCK - 1) / BLOCK;
    if (!footprints_to_grid(c, e) || !outlines_sort(c, &c->shapes, e) || !imagery_extents(c, p, e))
        return false;
    size_t longest = longest_list(c, &c->shapes);
    for (int d = 0; d < 2; d++) {
        if (!outlines_sort(c, &c->cover[d], e))
            return false;
        size_t l = longest_list(c, &c->cover[d]);
        longest = l > longest ? l : longest;
    }
    c->list = mem_array(longest, sizeof *c->list, "a block's outlines", e);
    c->burn = mem_array(longest, sizeof *c->burn, "a block's outlines", e);
    c->index = mem_array(px, sizeof *c->index, "a raster block", e);
    c->covered[0] = mem_array(px, 1, "a raster block", e);
    c->covered[1] = mem_array(px, 1, "a raster block", e);
    c->codes = mem_array(px, 1, "a raster block", e);
    c->probs = mem_array(px, sizeof *c->probs, "a raster block", e);
    if (!c->list || !c->burn || !c->index || !c->covered[0] || !c->covered[1] || !c->codes || !c->probs)
        return false;
    GDALDriverH mem = GDALGetDriverByName("MEM");
    if (mem) {
        c->index_ds = GDALCreate(mem, "", BLOCK, BLOCK, 1, GDT_Int32, NULL);
        c->cover_ds = GDALCreate(mem, "", BLOCK, BLOCK, 1, GDT_Byte, NULL);
    }
    if (!c->index_ds || !c->cover_ds)
        return err_set(e, ERR_RUNTIME, "GDAL has no in-memory raster driver; install a complete GDAL");
    return true;
}

static void canvas_close(struct canvas *c)
{
    if (c->index_ds)
        GDALClose(c->index_ds);
    if (c->cover_ds)
        GDALClose(c->cover_ds);
    outlines_free(&c->shapes);
    outlines_free(&c->cover[0]);
    outlines_free(&c->cover[1]);
    free(c->list);
    free(c->burn);
    free(c->index);
    free(c->covered[0]);
    free(c->covered[1]);
    free(c->codes);
    free(c->probs);
}

/* ---- the files */

static bool set_provenance(GDALDatasetH ds, const struct mapping_map *m, const char *what, struct err *e)
{
    cJSON *pairs = mapping_provenance(m, e);
    if (!pairs)
        return false;
    for (const cJSON *j = pairs->child; j; j = j->next)
        GDALSetMetadataItem(ds, j->string, j->valuestring, NULL);
    cJSON_Delete(pairs);
    GDALSetMetadataItem(ds, "TIFFTAG_SOFTWARE", "aftermap " AM_VERSION, NULL);
    GDALSetMetadataItem(ds, "TIFFTAG_IMAGEDESCRIPTION", what, NULL);
    return true;
}

static GDALColorEntry color_of(const char *hex)
{
    unsigned v = (unsigned)strtoul(hex + 1, NULL, 16);
    return (GDALColorEntry){(short)(v >> 16), (short)(v >> 8 & 255), (short)(v & 255), 255};
}

/* The options of both kinds of file; free with CSLDestroy(). Compression threads change speed, never the
 * bytes. */
static char **tiff_options(const char *first)
{
    char threads[16], **o = CSLAddString(NULL, first);
    snprintf(threads, sizeof threads, "%d", omp_get_max_threads());
    o = CSLSetNameValue(o, "NUM_THREADS", threads);
    o = CSLSetNameValue(o, "SPARSE_OK", "YES");
    return CSLSetNameValue(o, "BIGTIFF", "IF_SAFER");
}

static GDALDatasetH temp_open(const struct mapping_map *m, const char *path, int n_bands, GDALDataType type,
                              struct err *e)
{
    const struct event_grid *g = &m->ev->grid;
    GDALDatasetH ds = NULL;
    GDALDriverH gtiff = GDALGetDriverByName("GTiff");
    const char *known = gtiff ? GDALGetMetadataItem(gtiff, GDAL_DMD_CREATIONOPTIONLIST, NULL) : NULL;
    bool zstd = known && strstr(known, "ZSTD");
    char **o = tiff_options("TILED=YES");
    o = CSLSetNameValue(o, "BLOCKXSIZE", "512");
    o = CSLSetNameValue(o, "BLOCKYSIZE", "512");
    o = CSLSetNameValue(o, "INTERLEAVE", "BAND"); /* it is written band by band */
    o = CSLSetNameValue(o, "COMPRESS", zstd ? "ZSTD" : "DEFLATE");
    o = CSLSetNameValue(o, zstd ? "ZSTD_LEVEL" : "ZLEVEL", "1");
    CPLErrorReset();
    if (gtiff)
        ds = GDALCreate(gtiff, path, g->width, g->height, n_bands, type, o);
    CSLDestroy(o);
    if (!ds) {
        mapping_gdal_failed(path, e);
        return NULL;
    }
    GDALSetProjection(ds, g->wkt);
    GDALSetGeoTransform(ds, (double *)(uintptr_t)g->geotransform);
    return ds;
}

static void damage_describe(GDALDatasetH ds)
{
    GDALRasterBandH band = GDALGetRasterBand(ds, 1);
    GDALColorTableH table = GDALCreateColorTable(GPI_RGB);
    GDALColorEntry ground = color_of("#e0e0e0"), black = {0, 0, 0, 255};
    for (int v = 0; v < 256; v++)
        GDALSetColorEntry(table, v, &black);
    GDALSetColorEntry(table, 0, &ground);
    for (int level = -1; level <= 3; level++) {
        GDALColorEntry c = color_of(mapping_level_color(level));
        GDALSetColorEntry(table, mapping_pixel(level), &c);
    }
    GDALSetRasterColorTable(band, table);
    GDALDestroyColorTable(table);
    GDALSetRasterColorInterpretation(band, GCI_PaletteIndex);
    GDALSetRasterNoDataValue(band, MAPPING_NODATA);
    GDALSetDescription(band, "damage");
}

struct copy_watch {
    const struct progress *p;
    double from, share;
};

static int CPL_STDCALL copy_progress(double done, const char *message, void *arg)
{
    const struct copy_watch *w = arg;
    (void)message;
    progress_report(w->p, "raster", w->from + w->share * done, 1.0, NULL);
    return !progress_stopped(w->p);
}

static bool copy_to_cog(GDALDatasetH from, const char *path, struct copy_watch *watch, struct err *e)
{
    GDALDriverH cog = GDALGetDriverByName("COG");
    if (!cog)
        return err_set(e, ERR_RUNTIME, "%s: GDAL has no COG driver; install GDAL 3.1 or newer", path);
    GDALFlushCache(from);
    if (CPLGetLastErrorType() >= CE_Failure)
        return mapping_gdal_failed(path, e);
    char **o = tiff_options("COMPRESS=DEFLATE"); /* every reader knows it */
    o = CSLSetNameValue(o, "BLOCKSIZE", "512");
    o = CSLSetNameValue(o, "OVERVIEWS", "AUTO");
    o = CSLSetNameValue(o, "OVERVIEW_RESAMPLING", "NEAREST");
    CPLErrorReset();
    GDALDatasetH to = GDALCreateCopy(cog, path, from, FALSE, o, copy_progress, watch);
    CSLDestroy(o);
    if (to)
        GDALClose(to);
    if (progress_stopped(watch->p))
        return err_set(e, ERR_INTERRUPTED, "interrupted while writing the rasters; nothing was changed");
    if (!to || CPLGetLastErrorType() >= CE_Failure)
        return mapping_gdal_failed(path, e);
    return true;
}

/* Class names and attribute table; GDAL 3.6 keeps both beside the file, in PATH.aux.xml. */
static bool write_classes(const struct mapping_map *m, const char *path, struct err *e)
{
    char *names[257];
    CPLSetThreadLocalConfigOption("GDAL_PAM_ENABLED", "YES");
    CPLErrorReset();
    GDALDatasetH ds = GDALOpenEx(path, GDAL_OF_RASTER | GDAL_OF_READONLY, NULL, NULL, NULL);
    if (ds) {
        GDALRasterBandH band = GDALGetRasterBand(ds, 1);
        GDALRasterAttributeTableH rat = GDALCreateRasterAttributeTable();
        int row = 0;
        for (int v = 0; v < 256; v++)
            names[v] = (char *)(uintptr_t) "";
        names[256] = NULL;
        GDALRATCreateColumn(rat, "value", GFT_Integer, GFU_MinMax);
        GDALRATCreateColumn(rat, "class", GFT_String, GFU_Name);
        GDALRATCreateColumn(rat, "red", GFT_Integer, GFU_Red);
        GDALRATCreateColumn(rat, "green", GFT_Integer, GFU_Green);
        GDALRATCreateColumn(rat, "blue", GFT_Integer, GFU_Blue);
        for (int v = 0; v < 256; v++) {
            int level = v == MAPPING_UNKNOWN ? -1 : v - 1;
            const char *name = v == 0 ? "no building" : v == MAPPING_NODATA ? "no imagery" : NULL;
            bool grade = m->n_classes == 2 ? level == 0 || level == m->cut : level >= 0 && level <= 3;
            grade = grade || v == MAPPING_UNKNOWN;
            if (!name && grade)
                name = mapping_class_name(m, level);
            if (!name)
                continue;
            GDALColorEntry c = color_of(grade ? mapping_level_color(level) : v == 0 ? "#e0e0e0" : "#000000");
            names[v] = (char *)(uintptr_t)name;
            GDALRATSetValueAsInt(rat, row, 0, v);
            GDALRATSetValueAsString(rat, row, 1, name);
            GDALRATSetValueAsInt(rat, row, 2, c.c1);
            GDALRATSetValueAsInt(rat, row, 3, c.c2);
            GDALRATSetValueAsInt(rat, row++, 4, c.c3);
        }
        GDALSetRasterCategoryNames(band, names);
        GDALSetDefaultRAT(band, rat);
        GDALDestroyRasterAttributeTable(rat);
        GDALClose(ds);
    }
    CPLSetThreadLocalConfigOption("GDAL_PAM_ENABLED", NULL);
    return ds && CPLGetLastErrorType() < CE_Failure ? true : mapping_gdal_failed(path, e);
}

static bool draw(struct canvas *c, GDALDatasetH damage, GDALDatasetH prob, const struct progress *p,
                 struct err *e)
{
    for (int row = 0; row < c->rows; row++) {
        if (progress_stopped(p))
            return err_set(e, ERR_INTERRUPTED, "interrupted while drawing the rasters; nothing was changed");
        for (int column = 0; column < c->columns; column++)
            if (!draw_block(c, column, row, damage, prob, e))
                return false;
        progress_report(p, "raster", 0.3 * (row + 1) / c->rows, 1.0, NULL);
    }
    return true;
}

bool mapping_write_rasters(const struct mapping_map *m, const char *damage_path, const char *prob_path,
                           const struct progress *p, struct err *e)
{
    struct canvas c = {0};
    GDALDatasetH damage = NULL, prob = NULL;
    char temp[2][4096];
    bool ok = false;
    if (snprintf(temp[0], sizeof temp[0], "%s.blocks.tif", damage_path) >= (int)sizeof temp[0] ||
        snprintf(temp[1], sizeof temp[1], "%s.blocks.tif", prob_path) >= (int)sizeof temp[1])
        return err_set(e, ERR_INPUT, "%s: the path is too long", damage_path);
    if (!canvas_open(&c, m, p, e) || !(damage = temp_open(m, temp[0], 1, GDT_Byte, e)) ||
        !(prob = temp_open(m, temp[1], m->n_classes + 1, GDT_Float32, e)))
        goto out;
    damage_describe(damage);
    for (int b = 0; b <= m->n_classes; b++) {
        GDALRasterBandH band = GDALGetRasterBand(prob, b + 1);
        int level = m->n_classes == 2 ? (b == 2 ? m->cut : 0) : b - 1;
        GDALSetRasterNoDataValue(band, NAN);
        GDALSetDescription(band, b == 0 ? "p_dmg" : mapping_class_name(m, level));
    }
    if (!set_provenance(damage, m,
                        "Building damage: 0 no building, 1-4 damage level + 1, 254 unknown, 255 no imagery",
                        e) ||
        !set_provenance(prob, m, "Probability of damage per building, then of each class", e) ||
        !draw(&c, damage, prob, p, e))
        goto out;
    struct copy_watch first = {p, 0.3, 0.2}, second = {p, 0.5, 0.5};
    ok = copy_to_cog(damage, damage_path, &first, e) && write_classes(m, damage_path, e) &&
         copy_to_cog(prob, prob_path, &second, e);
out:
    if (damage)
        GDALClose(damage);
    if (prob)
        GDALClose(prob);
    VSIUnlink(temp[0]);
    VSIUnlink(temp[1]);
    canvas_close(&c);
    return ok;
}
