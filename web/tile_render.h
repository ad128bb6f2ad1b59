/* SPDX-License-Identifier: Apache-2.0
 *
 * tile_render.h - one tile drawn from a layer's rasters, and the pool that keeps few of them open. */
#ifndef AM_TILE_RENDER_H
#define AM_TILE_RENDER_H

#include "web/tiles.h"
#include <stddef.h>

enum { TILE_PX = 256 };

struct tile_pool; /* which rasters are open, for all layers */

struct tile_pool *tile_pool_create(struct err *e);
void tile_pool_free(struct tile_pool *p);
/* Takes a layer's rasters off the list before they are closed; nothing of it is being drawn. */
void tile_pool_forget(struct tile_pool *p, const struct tile_layer *layer);

/* PNG bytes on the heap, or size 0 when nothing of the layer lies in the tile. */
bool tile_render(struct tile_pool *pool, const struct tile_layer *layer, uint32_t z, uint32_t x, uint32_t y,
                 char **png, size_t *size, struct err *e);

/* tile_arrows.c: draws a layer's arrows into a tile (EPSG:3857, four bands) that covers box; *is_drawn: any. */
bool tile_arrows_draw(const struct tile_layer *layer, const double box[4], GDALDatasetH tile, bool *is_drawn,
                      struct err *e);

/* Opens with the short list of drivers and checks the block size. Shared by the layers' first look and the
 * pool. */
GDALDatasetH tile_raster_open(const char *path, struct err *e);

#endif
