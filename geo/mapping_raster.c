/* SPDX-License-Identifier: Apache-2.0
 *
 * mapping_raster.c - the verdicts as two cloud-optimised GeoTIFFs on the event's working grid.
 *
 * Buildings are burnt tile by tile (512 x 512): each tile rasterises the index of the buildings that touch it, and both
 * rasters are packed from that index (mapping_pack.c) without ever being laid out as pixels. A pixel belongs to a
 * building when its centre lies inside the outline; where outlines overlap the worse verdict wins, as on paper. Tiles
 * without content are not written.
 *
 * Overviews are burnt like the full size, from the outlines, with their own coarser pixels: that is nearest neighbour
 * (codes are classes, which must not be averaged, and the mode would let small buildings drown in the ground between
 * them), and they can be written first, as a COG (mapping_cog.c) wants it.
 *
 * Nodata (255) in damage.tif means outside the extent of the rasters of at least one date; the extents come
 * from the source files' headers. Blank collars inside a source raster are only known around buildings (the
 * chips' masks), where they show as 254 with a reason in the tables. When a source can no longer be opened, a
 * warning says so and its date counts as present.
 *
 * Memory: one tile of each raster and thread, and the footprints in grid coordinates. Threads: a tile is one thread's
 * work; tiles are written in order. */
#include "geo/mapping_parts.h"

#include "geo/mapping_cog.h"
#include "geo/mapping_pack.h"
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

enum { BLOCK = COG_TILE_PX, EDGE_POINTS = 21, BRUSHES_MAX = 16 };

/* Outlines in grid coordinates. */
struct outlines {
    size_t n;
    OGRGeometryH *shape; /* [n], owned; NULL where the source has none */
};

/* Which outlines touch which tile of a level: item[start[b] .. start[b+1]-1]. */
struct touching {
    uint32_t *start, *item;
};

/* What is drawn; the same for all threads, and only read by them. */
struct canvas {
    const struct mapping_map *m;
    struct outlines shapes;   /* index as event.building */
    struct outlines cover[2]; /* extents of the rasters of each date */
    bool cover_known[2];
    uint8_t *records; /* [ev->n + 1][n_classes + 1] float32: what prob.tif shows of a building; 0: nothing */
    uint8_t codes[256];
};

/* One level of both rasters. */
struct level {
    int number, width, height; /* pixels */
    int columns, rows;         /* tiles */
    double pixel_x, pixel_y;   /* grid pixels per pixel of the level */
    struct touching shapes, cover[2];
    uint8_t *seen[2]; /* [rows,columns] of each date: no pixel, SOME, or ALL */
};

/* The tools of one thread. */
struct brush {
    OGRGeometryH *list;
    double *burn;
    size_t room;
    GDALDatasetH index_ds, cover_ds;
    int32_t *index;   /* [BLOCK*BLOCK] building index + 1, 0 none */
    int32_t *painted; /* the same of what a raster shows */
    uint8_t *covered[2];
    struct pack *damage, *prob;
    struct err err;
};

enum { NONE, SOME, ALL };

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

/* ---- which outline touches which tile: a counting sort over tile numbers */

static bool tile_range(const struct canvas *c, const struct level *l, OGRGeometryH g, int r[4])
{
    const double *gt = c->m->ev->grid.geotransform;
    OGREnvelope env;
    if (!g || OGR_G_IsEmpty(g))
        return false;
    OGR_G_GetEnvelope(g, &env);
    const double side_x = gt[1] * l->pixel_x * BLOCK, side_y = gt[5] * l->pixel_y * BLOCK;
    double x0 = floor((env.MinX - gt[0]) / side_x), x1 = floor((env.MaxX - gt[0]) / side_x);
    double y0 = floor((env.MaxY - gt[3]) / side_y), y1 = floor((env.MinY - gt[3]) / side_y);
    if (!(x1 >= 0 && y1 >= 0 && x0 < l->columns && y0 < l->rows))
        return false;
    r[0] = x0 > 0 ? (int)x0 : 0;
    r[1] = y0 > 0 ? (int)y0 : 0;
    r[2] = x1 < l->columns ? (int)x1 : l->columns - 1;
    r[3] = y1 < l->rows ? (int)y1 : l->rows - 1;
    return true;
}

static bool sort_outlines(const struct canvas *c, const struct level *l, const struct outlines *o,
                          struct touching *t, struct err *e)
{
    size_t n_tiles = (size_t)l->columns * (size_t)l->rows, total = 0;
    int r[4];
    t->start = mem_array(n_tiles + 2, sizeof *t->start, "the tile index", e);
    if (!t->start)
        return false;
    for (size_t i = 0; i < o->n; i++)
        if (tile_range(c, l, o->shape[i], r))
            for (int y = r[1]; y <= r[3]; y++)
                for (int x = r[0]; x <= r[2]; x++, total++)
                    t->start[(size_t)y * l->columns + x + 2]++;
    if (total > UINT32_MAX)
        return err_set(e, ERR_INPUT, "the footprints touch too many tiles of the grid; use a coarser --gsd");
    for (size_t b = 2; b < n_tiles + 2; b++)
        t->start[b] += t->start[b - 1];
    t->item = mem_array(total, sizeof *t->item, "the tile index", e);
    if (!t->item)
        return false;
    for (size_t i = 0; i < o->n; i++)
        if (tile_range(c, l, o->shape[i], r))
            for (int y = r[1]; y <= r[3]; y++)
                for (int x = r[0]; x <= r[2]; x++)
                    t->item[t->start[(size_t)y * l->columns + x + 1]++] = (uint32_t)i;
    return true; /* the second pass moved start[b+1] to where tile b ends and b+1 begins */
}

/* ---- a level */

static OGRGeometryH tile_square(const struct canvas *c, const struct level *l, int column, int row)
{
    const double *gt = c->m->ev->grid.geotransform;
    const double w = gt[1] * l->pixel_x * BLOCK, h = gt[5] * l->pixel_y * BLOCK;
    const double x = gt[0] + column * w, y = gt[3] + row * h;
    OGRGeometryH ring = OGR_G_CreateGeometry(wkbLinearRing), polygon = OGR_G_CreateGeometry(wkbPolygon);
    OGR_G_AddPoint_2D(ring, x, y);
    OGR_G_AddPoint_2D(ring, x + w, y);
    OGR_G_AddPoint_2D(ring, x + w, y + h);
    OGR_G_AddPoint_2D(ring, x, y + h);
    OGR_G_CloseRings(ring);
    OGR_G_AddGeometryDirectly(polygon, ring);
    return polygon;
}

/* Most tiles lie wholly inside one image and need no drawing of its outline. */
static bool look_at_cover(const struct canvas *c, struct level *l, int d, struct err *e)
{
    size_t n_tiles = (size_t)l->columns * (size_t)l->rows;
    l->seen[d] = mem_array(n_tiles, 1, "the tile index", e);
    if (!l->seen[d])
        return false;
    if (!c->cover_known[d]) {
        memset(l->seen[d], ALL, n_tiles);
        return true;
    }
    for (size_t b = 0; b < n_tiles; b++)
        l->seen[d][b] = l->cover[d].start[b + 1] > l->cover[d].start[b] ? SOME : NONE;
    for (size_t i = 0; i < c->cover[d].n; i++) {
        int r[4];
        if (!tile_range(c, l, c->cover[d].shape[i], r))
            continue;
        OGRPreparedGeometryH inside = OGRCreatePreparedGeometry(c->cover[d].shape[i]);
        for (int y = r[1]; inside && y <= r[3]; y++)
            for (int x = r[0]; x <= r[2]; x++) {
                OGRGeometryH square = tile_square(c, l, x, y);
                if (OGRPreparedGeometryContains(inside, square))
                    l->seen[d][(size_t)y * l->columns + x] = ALL;
                OGR_G_DestroyGeometry(square);
            }
        OGRDestroyPreparedGeometry(inside);
    }
    return true;
}

static bool level_open(struct level *l, const struct canvas *c, int number, struct err *e)
{
    const struct event_grid *g = &c->m->ev->grid;
    *l = (struct level){.number = number,
                        .width = cog_level_side(g->width, number),
                        .height = cog_level_side(g->height, number)};
    l->columns = (l->width + BLOCK - 1) / BLOCK;
    l->rows = (l->height + BLOCK - 1) / BLOCK;
    l->pixel_x = (double)g->width / l->width;
    l->pixel_y = (double)g->height / l->height;
    if (!sort_outlines(c, l, &c->shapes, &l->shapes, e))
        return false;
    for (int d = 0; d < 2; d++)
        if (!sort_outlines(c, l, &c->cover[d], &l->cover[d], e) || !look_at_cover(c, l, d, e))
            return false;
    return true;
}

static void level_close(struct level *l)
{
    free(l->shapes.start);
    free(l->shapes.item);
    for (int d = 0; d < 2; d++) {
        free(l->cover[d].start);
        free(l->cover[d].item);
        free(l->seen[d]);
    }
}

/* ---- burning one tile */

struct window {
    const double *gt;
    int x, y, w, h;          /* pixels of the level */
    double pixel_x, pixel_y; /* grid pixels each */
};

/* GDALTransformerFunc: grid coordinates -> pixels of the window. */
static int to_window(void *arg, int inverse, int n, double *x, double *y, double *z, int *success)
{
    const struct window *win = arg;
    const double side_x = win->gt[1] * win->pixel_x, side_y = win->gt[5] * win->pixel_y;
    (void)z;
    for (int i = 0; i < n; i++) {
        if (inverse) {
            x[i] = win->gt[0] + (x[i] + win->x) * side_x;
            y[i] = win->gt[3] + (y[i] + win->y) * side_y;
        } else {
            x[i] = (x[i] - win->gt[0]) / side_x - win->x;
            y[i] = (y[i] - win->gt[3]) / side_y - win->y;
        }
        success[i] = TRUE;
    }
    return TRUE;
}

static int badness(const struct mapping_item *it)
{
    return it->status == MAPPING_NO_CHIP ? -1 : it->level;
}

/* Draws into a square of BLOCK pixels. */
static bool burn(GDALDatasetH ds, struct window *win, size_t n, OGRGeometryH *shapes, const double *values,
                 void *out, GDALDataType type, struct err *e)
{
    int band = 1;
    char why[200];
    CPLErrorReset();
    if (GDALFillRaster(GDALGetRasterBand(ds, 1), 0, 0) != CE_None ||
        GDALRasterizeGeometries(ds, 1, &band, (int)n, shapes, to_window, win, values, NULL, NULL, NULL) !=
            CE_None ||
        GDALRasterIO(GDALGetRasterBand(ds, 1), GF_Read, 0, 0, BLOCK, BLOCK, out, BLOCK, BLOCK, type, 0, 0) !=
            CE_None)
        return err_set(e, ERR_RUNTIME, "the footprints cannot be drawn: %s", geo_message(why, sizeof why));
    return true;
}

static bool brush_reserve(struct brush *b, size_t n, struct err *e)
{
    if (n <= b->room)
        return true;
    if (!mem_grow(&b->list, n, sizeof *b->list, "a tile's outlines", e) ||
        !mem_grow(&b->burn, n, sizeof *b->burn, "a tile's outlines", e))
        return false;
    b->room = n;
    return true;
}

/* Fills b->index; *any tells whether a building may lie in the window. */
static bool burn_buildings(const struct canvas *c, const struct level *l, struct brush *b, size_t tile,
                           struct window *win, bool *any, struct err *e)
{
    const struct touching *t = &l->shapes;
    size_t n = 0;
    *any = t->start[tile + 1] > t->start[tile];
    if (!brush_reserve(b, t->start[tile + 1] - t->start[tile], e))
        return false;
    for (int bad = -1; *any && bad <= 3;
         bad++) /* worst last; ties by fid, as the tile's list is in fid order */
        for (uint32_t k = t->start[tile]; k < t->start[tile + 1]; k++) {
            uint32_t i = t->item[k];
            if (badness(&c->m->item[i]) != bad)
                continue;
            b->list[n] = c->shapes.shape[i];
            b->burn[n++] = (double)i + 1.0;
        }
    if (*any)
        return burn(b->index_ds, win, n, b->list, b->burn, b->index, GDT_Int32, e);
    memset(b->index, 0, (size_t)BLOCK * BLOCK * sizeof *b->index);
    return true;
}

/* Fills b->covered[d] where the date shows some of the window. */
static bool burn_cover(const struct canvas *c, const struct level *l, struct brush *b, int d, size_t tile,
                       struct window *win, struct err *e)
{
    const struct touching *t = &l->cover[d];
    if (l->seen[d][tile] != SOME)
        return true;
    size_t n = t->start[tile + 1] - t->start[tile];
    if (!brush_reserve(b, n, e))
        return false;
    for (size_t k = 0; k < n; k++) {
        b->list[k] = c->cover[d].shape[t->item[t->start[tile] + k]];
        b->burn[k] = 1.0;
    }
    return burn(b->cover_ds, win, n, b->list, b->burn, b->covered[d], GDT_Byte, e);
}

static bool is_empty(const int32_t row[BLOCK])
{
    int32_t any = 0;
    for (int x = 0; x < BLOCK; x++)
        any |= row[x];
    return any == 0;
}

/* Turns the index into codes of damage.tif; returns whether any is not nodata. */
static bool paint_codes(const struct canvas *c, const struct level *l, struct brush *b, size_t tile,
                        const struct window *win)
{
    const uint8_t state[2] = {l->seen[0][tile], l->seen[1][tile]};
    const bool all = state[0] == ALL && state[1] == ALL;
    int32_t least = MAPPING_NODATA;
    for (int y = 0; y < BLOCK; y++) {
        const size_t first = (size_t)y * BLOCK;
        const int32_t *index = b->index + first;
        int32_t *out = b->painted + first;
        const int w = y < win->h ? win->w : 0; /* beyond the image all is nodata */
        for (int x = 0; x < w; x++)
            out[x] = all ? 0 : MAPPING_NODATA;
        for (int x = w; x < BLOCK; x++)
            out[x] = MAPPING_NODATA;
        for (int x = 0; !all && state[0] && state[1] && x < w; x++)
            if ((state[0] == ALL || b->covered[0][first + (size_t)x]) &&
                (state[1] == ALL || b->covered[1][first + (size_t)x]))
                out[x] = 0;
        const int built = is_empty(index) ? 0 : w;
        for (int x = 0; x < built; x++)
            if (index[x])
                out[x] = mapping_pixel(c->m->item[index[x] - 1].level);
        for (int x = 0; least == MAPPING_NODATA && x < w; x++)
            least = out[x] < least ? out[x] : least;
    }
    return least != MAPPING_NODATA;
}

/* Turns the index into records of prob.tif; returns whether any is not nodata. */
static bool paint_records(const struct canvas *c, struct brush *b, const struct window *win)
{
    bool any = false;
    for (int y = 0; y < BLOCK; y++) {
        const int32_t *index = b->index + (size_t)y * BLOCK;
        int32_t *out = b->painted + (size_t)y * BLOCK;
        const int built = y >= win->h || is_empty(index) ? 0 : win->w;
        memset(out, 0, BLOCK * sizeof *out);
        for (int x = 0; x < built; x++)
            if (index[x] && c->m->item[index[x] - 1].status != MAPPING_NO_CHIP) {
                out[x] = index[x];
                any = true;
            }
    }
    return any;
}

/* A tile's two streams; NULL where nothing is to be written. */
struct streams {
    const uint8_t *damage, *prob;
    size_t n_damage, n_prob;
};

static bool draw_tile(const struct canvas *c, const struct level *l, struct brush *b, int column, int row,
                      struct streams *out, struct err *e)
{
    struct window win = {.gt = c->m->ev->grid.geotransform,
                         .x = column * BLOCK,
                         .y = row * BLOCK,
                         .pixel_x = l->pixel_x,
                         .pixel_y = l->pixel_y};
    win.w = l->width - win.x < BLOCK ? l->width - win.x : BLOCK;
    win.h = l->height - win.y < BLOCK ? l->height - win.y : BLOCK;
    const size_t tile = (size_t)row * l->columns + column;
    bool any;
    *out = (struct streams){0};
    if (!burn_buildings(c, l, b, tile, &win, &any, e) || !burn_cover(c, l, b, 0, tile, &win, e) ||
        !burn_cover(c, l, b, 1, tile, &win, e))
        return false;
    if ((any || (l->seen[0][tile] && l->seen[1][tile])) && paint_codes(c, l, b, tile, &win) &&
        !(out->damage = pack_tile(b->damage, b->painted, &out->n_damage, e)))
        return false;
    return !any || !paint_records(c, b, &win) ||
           (out->prob = pack_tile(b->prob, b->painted, &out->n_prob, e));
}

static bool brush_open(struct brush *b, const struct canvas *c, struct err *e)
{
    const size_t px = (size_t)BLOCK * BLOCK;
    const int record = (c->m->n_classes + 1) * (int)sizeof(float);
    if (!(b->index = mem_array(px, sizeof *b->index, "a raster tile", e)) ||
        !(b->painted = mem_array(px, sizeof *b->painted, "a raster tile", e)) ||
        !(b->covered[0] = mem_array(px, 1, "a raster tile", e)) ||
        !(b->covered[1] = mem_array(px, 1, "a raster tile", e)) ||
        !(b->damage = pack_create(BLOCK, BLOCK, c->codes, 1, e)) ||
        !(b->prob = pack_create(BLOCK, BLOCK, c->records, record, e)))
        return false;
    GDALDriverH mem = GDALGetDriverByName("MEM");
    if (mem) {
        b->index_ds = GDALCreate(mem, "", BLOCK, BLOCK, 1, GDT_Int32, NULL);
        b->cover_ds = GDALCreate(mem, "", BLOCK, BLOCK, 1, GDT_Byte, NULL);
    }
    if (!b->index_ds || !b->cover_ds)
        return err_set(e, ERR_RUNTIME, "GDAL has no in-memory raster driver; install a complete GDAL");
    return true;
}

static void brush_close(struct brush *b)
{
    if (b->index_ds)
        GDALClose(b->index_ds);
    if (b->cover_ds)
        GDALClose(b->cover_ds);
    free(b->list);
    free(b->burn);
    free(b->index);
    free(b->painted);
    free(b->covered[0]);
    free(b->covered[1]);
    pack_free(b->damage);
    pack_free(b->prob);
}

/* What prob.tif shows of each building: p(damaged), then each class. */
static bool make_records(struct canvas *c, struct err *e)
{
    const struct mapping_map *m = c->m;
    const size_t n_bands = (size_t)m->n_classes + 1;
    float v[MAPPING_MAX_CLASSES + 1];
    if (!(c->records = mem_array(m->ev->n + 1, n_bands * sizeof *v, "the map's values", e)))
        return false;
    for (size_t i = 0; i <= m->ev->n; i++) {
        const struct mapping_item *it = i ? &m->item[i - 1] : NULL;
        const bool known = it && it->status != MAPPING_NO_CHIP;
        v[0] = known ? 0 : NAN;
        for (int k = 0; k < m->n_classes; k++) {
            v[k + 1] = known ? it->p[k] : NAN;
            if (known && k >= (m->n_classes == 2 ? 1 : m->cut))
                v[0] += it->p[k];
        }
        memcpy(c->records + i * n_bands * sizeof *v, v, n_bands * sizeof *v);
    }
    return true;
}

static bool canvas_open(struct canvas *c, const struct mapping_map *m, const struct progress *p,
                        struct err *e)
{
    c->m = m;
    for (int v = 0; v < 256; v++)
        c->codes[v] = (uint8_t)v;
    if (m->ev->n >= INT32_MAX)
        return err_set(e, ERR_INPUT, "a map holds at most %d buildings", INT32_MAX - 1);
    return footprints_to_grid(c, e) && imagery_extents(c, p, e) && make_records(c, e);
}

static void canvas_close(struct canvas *c)
{
    outlines_free(&c->shapes);
    outlines_free(&c->cover[0]);
    outlines_free(&c->cover[1]);
    free(c->records);
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

/* A small file that says of the raster what GDAL can say: cog_create copies its tags. */
static GDALDatasetH like_open(const struct mapping_map *m, const char *path, int n_bands, GDALDataType type,
                              struct err *e)
{
    const struct event_grid *g = &m->ev->grid;
    GDALDriverH gtiff = GDALGetDriverByName("GTiff");
    CPLErrorReset();
    GDALDatasetH ds = gtiff ? GDALCreate(gtiff, path, 16, 16, n_bands, type, NULL) : NULL;
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

/* One level of both files. *done counts tiles of n over all levels. */
static bool draw_level(const struct canvas *c, const struct level *l, struct brush *brush, int n_brushes,
                       struct cog *damage, struct cog *prob, double *done, double n, const struct progress *p,
                       struct err *e)
{
    bool ok = cog_begin_level(damage, l->number, e) && cog_begin_level(prob, l->number, e);
    if (!ok)
        return false;
#pragma omp parallel for ordered num_threads(n_brushes) schedule(dynamic, 1)
    for (int tile = 0; tile < l->columns * l->rows; tile++) {
        struct brush *b = &brush[omp_get_thread_num()];
        const int column = tile % l->columns, row = tile / l->columns;
        struct streams s;
        bool go_on, drawn;
#pragma omp atomic read
        go_on = ok;
        drawn = go_on && draw_tile(c, l, b, column, row, &s, &b->err);
#pragma omp ordered
        if (ok) { /* only here is it written, in the tiles' order */
            drawn = drawn &&
                    (!s.damage || cog_write_tile(damage, column, row, s.damage, s.n_damage, &b->err)) &&
                    (!s.prob || cog_write_tile(prob, column, row, s.prob, s.n_prob, &b->err));
            if (drawn && progress_stopped(p))
                drawn = err_set(&b->err, ERR_INTERRUPTED,
                                "interrupted while drawing the rasters; nothing was changed");
            *done += 1;
            if (tile % l->columns == 0)
                progress_report(p, "raster", *done, n, NULL);
            if (!drawn) {
                if (e)
                    *e = b->err;
#pragma omp atomic write
                ok = false;
            }
        }
    }
    return ok;
}

/* All levels, from the smallest to the full size. */
static bool draw(const struct canvas *c, struct cog *damage, struct cog *prob, const struct progress *p,
                 struct err *e)
{
    const struct event_grid *g = &c->m->ev->grid;
    struct brush brush[BRUSHES_MAX] = {0};
    const int n_brushes = omp_get_max_threads() < BRUSHES_MAX ? omp_get_max_threads() : BRUSHES_MAX;
    const int n_levels = cog_count_levels(g->width, g->height);
    double done = 0, n = 0;
    bool ok = true;
    for (int i = 0; ok && i < n_brushes; i++)
        ok = brush_open(&brush[i], c, e);
    for (int i = 0; i < n_levels; i++)
        n += ceil((double)cog_level_side(g->width, i) / BLOCK) *
             ceil((double)cog_level_side(g->height, i) / BLOCK);
    for (int i = n_levels - 1; ok && i >= 0; i--) {
        struct level l = {0};
        ok = level_open(&l, c, i, e) && draw_level(c, &l, brush, n_brushes, damage, prob, &done, n, p, e);
        level_close(&l);
    }
    for (int i = 0; i < n_brushes; i++)
        brush_close(&brush[i]);
    if (ok)
        progress_report(p, "raster", n, n, NULL);
    return ok;
}

/* The two files that say what GDAL can say; closed when they are made. */
static bool make_likes(const struct mapping_map *m, const char *damage_path, const char *prob_path,
                       struct err *e)
{
    GDALDatasetH damage = like_open(m, damage_path, 1, GDT_Byte, e);
    GDALDatasetH prob = damage ? like_open(m, prob_path, m->n_classes + 1, GDT_Float32, e) : NULL;
    bool ok = prob != NULL;
    if (ok) {
        damage_describe(damage);
        for (int b = 0; b <= m->n_classes; b++) {
            GDALRasterBandH band = GDALGetRasterBand(prob, b + 1);
            int level = m->n_classes == 2 ? (b == 2 ? m->cut : 0) : b - 1;
            GDALSetRasterNoDataValue(band, NAN);
            GDALSetDescription(band, b == 0 ? "p_dmg" : mapping_class_name(m, level));
        }
        ok = set_provenance(
                 damage, m,
                 "Building damage: 0 no building, 1-4 damage level + 1, 254 unknown, 255 no imagery", e) &&
             set_provenance(prob, m, "Probability of damage per building, then of each class", e);
    }
    CPLErrorReset();
    if (damage)
        GDALClose(damage);
    if (prob)
        GDALClose(prob);
    return ok && CPLGetLastErrorType() >= CE_Failure ? mapping_gdal_failed(damage_path, e) : ok;
}

bool mapping_write_rasters(const struct mapping_map *m, const char *damage_path, const char *prob_path,
                           const struct progress *p, struct err *e)
{
    const struct event_grid *g = &m->ev->grid;
    struct canvas c = {0};
    struct cog *damage = NULL, *prob = NULL;
    char like[2][4096];
    bool ok = false;
    if (snprintf(like[0], sizeof like[0], "%s.like.tif", damage_path) >= (int)sizeof like[0] ||
        snprintf(like[1], sizeof like[1], "%s.like.tif", prob_path) >= (int)sizeof like[1])
        return err_set(e, ERR_INPUT, "%s: the path is too long", damage_path);
    if (!canvas_open(&c, m, p, e) || !make_likes(m, like[0], like[1], e) ||
        !(damage = cog_create(damage_path, like[0], g->width, g->height, e)) ||
        !(prob = cog_create(prob_path, like[1], g->width, g->height, e)) || !draw(&c, damage, prob, p, e))
        goto out;
    ok = cog_finish(damage, e);
    damage = NULL;
    ok = cog_finish(prob, ok ? e : NULL) && ok;
    prob = NULL;
    ok = ok && write_classes(m, damage_path, e);
out:
    cog_abort(damage);
    cog_abort(prob);
    VSIUnlink(like[0]);
    VSIUnlink(like[1]);
    canvas_close(&c);
    return ok;
}
