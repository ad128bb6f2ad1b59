/* SPDX-License-Identifier: Apache-2.0
 *
 * raster_parts.h - what warp.c shows to its tests. */
#ifndef AM_RASTER_PARTS_H
#define AM_RASTER_PARTS_H

#include "geo/raster.h"

/* From here on everything goes through GDAL's own warper: what the rest of warp.c is held to. */
void raster_reader_only_warper(struct raster_reader *r);

#endif
