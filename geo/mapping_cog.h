/* SPDX-License-Identifier: Apache-2.0
 *
 * mapping_cog.h - a cloud-optimised GeoTIFF, made from tiles that are compressed already. */
#ifndef AM_MAPPING_COG_H
#define AM_MAPPING_COG_H

#include "models/base/err.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { COG_TILE_PX = 512, COG_LEVELS_MAX = 24 };

struct cog;

/* Level 0 is width x height; each further one half of that, rounded up, until one tile holds all. */
int cog_count_levels(int width, int height);
int cog_level_side(int side, int level); /* of the full side */

/* Creates path with all its directories. like: a small GeoTIFF of the same bands that GDAL made, from which place,
 * colours, nodata value and metadata are taken (its size and pixels do not matter). */
struct cog *cog_create(const char *path, const char *like, int width, int height, struct err *e);
/* The next tiles belong to this level. Levels are written from the smallest (the highest number) to 0. */
bool cog_begin_level(struct cog *c, int level, struct err *e);
/* A tile [COG_TILE_PX,COG_TILE_PX,bands] as a zlib stream, at its column and row; tiles not written read as nodata. */
bool cog_write_tile(struct cog *c, int column, int row, const uint8_t *stream, size_t n, struct err *e);
bool cog_finish(struct cog *c, struct err *e); /* completes and frees, whatever the outcome */
void cog_abort(struct cog *c);                 /* frees; the caller removes the file; accepts NULL */

#endif
