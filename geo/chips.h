/* SPDX-License-Identifier: Apache-2.0
 *
 * chips.h - the chip store: a multi-page BigTIFF, one page a chip, written in order and read at random. */
#ifndef AM_CHIPS_H
#define AM_CHIPS_H

#include "models/data/imageset.h"

struct chips_writer;
struct chips_writer *chips_create(const char *path, const struct imageset_layout *l, struct err *e);
/* px [size,size,stored channels] becomes the next page. */
bool chips_append(struct chips_writer *w, const uint8_t *px, struct err *e);
/* Completes the file and syncs it to disk; frees w whatever the outcome. */
bool chips_finish(struct chips_writer *w, struct err *e);
void chips_abort(struct chips_writer *w); /* closes and frees; the caller removes the file; accepts NULL */

struct chips;
/* Checks the header and walks the chain of pages: exactly n_pages must be there. One read per page: 20,000
 * pages open in some tens of milliseconds. */
struct chips *chips_open(const char *path, const struct imageset_layout *l, size_t n_pages, struct err *e);
void chips_close(struct chips *c); /* accepts NULL */

/* Decodes pages (each < n_pages) into px [n,size,size,stored channels], on several threads when there are
 * many. One call at a time on one handle. */
bool chips_read(struct chips *c, const int64_t *pages, size_t n, uint8_t *px, struct err *e);

#endif
