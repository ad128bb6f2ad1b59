/* SPDX-License-Identifier: Apache-2.0
 *
 * tile_arrows.c - shifts as arrows in a tile. The tile is divided into cells of CELL_PX; where more than one building
 * lies in a cell the arrow is their mean, so that a tile has a bounded number of arrows at every zoom and they never
 * become a carpet. An arrow is drawn MAGNIFY times as long as the shift is on the ground, at most LENGTH_MAX_PX; it is
 * dark where the measurement is good. Cells are counted from the tile's own corner, and tiles are a whole number of cells
 * wide, so neighbours agree; arrows that reach over from cells next door are drawn in both. */
#include "web/tile_render.h"

#include "models/base/mem.h"
#include <gdal_alg.h>
#include <math.h>
#include <ogr_api.h>
#include <stdlib.h>

enum { CELL_PX = 32, MARGIN_CELLS = 2, SIDE = TILE_PX / CELL_PX + 2 * MARGIN_CELLS, LENGTH_MAX_PX = 48 };
static const double MAGNIFY = 4, LEAST_M = 0.05; /* shorter shifts are dots */

struct cell {
    double x, y, dx, dy, quality;
    int n;
};

static void add_line(OGRGeometryH lines, const double *p, int n)
{
    OGRGeometryH line = OGR_G_CreateGeometry(wkbLineString);
    for (int i = 0; i < n; i++)
        OGR_G_AddPoint_2D(line, p[2 * i], p[2 * i + 1]);
    OGR_G_AddGeometryDirectly(lines, line);
}

/* x, y: where it begins; dx, dy: metres; px: metres of the map a pixel. scale: map metres a metre on the ground. */
static OGRGeometryH arrow(double x, double y, double dx, double dy, double px, double scale)
{
    OGRGeometryH lines = OGR_G_CreateGeometry(wkbMultiLineString);
    double length = hypot(dx, dy), most = LENGTH_MAX_PX * px;
    double shown = fmin(MAGNIFY * length * scale, most);
    if (length < LEAST_M || shown < 2 * px) { /* a small cross */
        add_line(lines, (double[]){x - 1.5 * px, y, x + 1.5 * px, y}, 2);
        add_line(lines, (double[]){x, y - 1.5 * px, x, y + 1.5 * px}, 2);
        return lines;
    }
    double ux = dx / length, uy = dy / length, head = fmin(5 * px, shown / 2);
    double tx = x + ux * shown, ty = y + uy * shown;
    add_line(lines, (double[]){x, y, tx, ty}, 2);
    add_line(lines,
             (double[]){tx - head * (ux + 0.6 * uy), ty - head * (uy - 0.6 * ux), tx, ty,
                        tx - head * (ux - 0.6 * uy), ty - head * (uy + 0.6 * ux)},
             3);
    return lines;
}

bool tile_arrows_draw(const struct tile_layer *layer, const double box[4], GDALDatasetH tile, bool *is_drawn,
                      struct err *e)
{
    static const double good[4] = {0x08, 0x45, 0x94, 255}, poor[4] = {0x9e, 0xca, 0xe1, 255};
    const double px = (box[2] - box[0]) / TILE_PX, side = CELL_PX * px;
    const double left = box[0] - MARGIN_CELLS * side, top = box[3] + MARGIN_CELLS * side;
    /* A Web Mercator metre at this latitude. */
    const double scale = cosh((box[1] + box[3]) / 2 / 6378137.0);
    int bands[4] = {1, 2, 3, 4};
    struct cell *cell = mem_array(SIDE * SIDE, sizeof *cell, "a tile's arrows", e);
    bool ok = cell != NULL;
    for (size_t i = 0; ok && i < layer->n_arrows; i++) {
        const struct tile_arrow *w = &layer->arrow[i];
        double cx = floor((w->x - left) / side), cy = floor((top - w->y) / side);
        if (!(cx >= 0 && cx < SIDE && cy >= 0 && cy < SIDE))
            continue;
        struct cell *c = &cell[(int)cy * SIDE + (int)cx];
        c->x += w->x;
        c->y += w->y;
        c->dx += (double)w->dx;
        c->dy += (double)w->dy;
        c->quality += (double)w->quality;
        c->n++;
    }
    for (int i = 0; ok && i < SIDE * SIDE; i++) {
        const struct cell *c = &cell[i];
        if (!c->n)
            continue;
        OGRGeometryH g = arrow(c->x / c->n, c->y / c->n, c->dx / c->n, c->dy / c->n, px, scale);
        const double *color = c->quality / c->n >= 0.5 ? good : poor;
        ok = GDALRasterizeGeometries(tile, 4, bands, 1, &g, NULL, NULL, (double *)(uintptr_t)color, NULL,
                                     NULL, NULL) == CE_None ||
             err_set(e, ERR_RUNTIME, "an arrow cannot be drawn");
        OGR_G_DestroyGeometry(g);
        *is_drawn = true;
    }
    free(cell);
    return ok;
}
