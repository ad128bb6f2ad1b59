/* SPDX-License-Identifier: Apache-2.0
 *
 * contactsheet.h - many chips on one page, to be looked at: a PNG of tiles in reading order, each an image of a set, or
 * its two dates side by side (before, after), with the building's outline where the set has one. */
#ifndef AM_CONTACTSHEET_H
#define AM_CONTACTSHEET_H

#include "models/data/imageset.h"

enum { CONTACTSHEET_MAX_TILES = 400 };

/* Writes path (PNG, RGB, 8 bit) of items [n], n from 1 to CONTACTSHEET_MAX_TILES, `columns` a row. Three bands or more:
 * the first three; fewer: the first, grey. Small images are enlarged by a whole number to 64 pixels at least. Samples
 * are shown as they are stored; ground without data is grey. title becomes the PNG's text "Title". ERR_RUNTIME or
 * ERR_RESOURCE names the file. */
bool contactsheet_write(const char *path, const struct imageset *set, const uint32_t *item, int n,
                        int columns, const char *title, struct err *e);

/* Pixels a side of the page. */
void contactsheet_size(const struct imageset_layout *l, int n, int columns, int *width, int *height);

#endif
