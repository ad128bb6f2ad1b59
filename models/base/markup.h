/* SPDX-License-Identifier: Apache-2.0
 *
 * markup.h - other people's text inside HTML, SVG or XML. */
#ifndef AM_MARKUP_H
#define AM_MARKUP_H

#include <stddef.h>
#include <stdio.h>

/* n bytes of UTF-8 as text or as the value of a quoted attribute: < > & " ' become entities, control characters
 * spaces. Errors stay in the stream (ferror). */
void markup_write(FILE *f, const char *s, size_t n);
void markup_write_text(FILE *f, const char *s); /* up to the terminating zero */

#endif
