/* SPDX-License-Identifier: Apache-2.0
 *
 * mapping_pack.h - a raster tile, known as the number of what each pixel shows, as a zlib stream (RFC 1950, 1951). */
#ifndef AM_MAPPING_PACK_H
#define AM_MAPPING_PACK_H

#include "models/base/err.h"
#include <stddef.h>
#include <stdint.h>

struct pack; /* tables and buffers of one thread */

/* Tiles of width x height pixels whose pixel i reads records[i * size .. + size), size 1 to 64 bytes. Record 0 is the
 * ground: most pixels. records must outlive the pack. */
struct pack *pack_create(int width, int height, const uint8_t *records, int size, struct err *e);
void pack_free(struct pack *p); /* accepts NULL */

/* index [height,width] -> the stream, valid until the next call; its length in *n. NULL only with *e set. */
const uint8_t *pack_tile(struct pack *p, const int32_t *index, size_t *n, struct err *e);

#endif
