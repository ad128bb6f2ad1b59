/* SPDX-License-Identifier: Apache-2.0
 *
 * page.h - the browser page's files, embedded gzip-compressed when the program is built with AM_UI. */
#ifndef AM_PAGE_H
#define AM_PAGE_H

#include <stddef.h>

struct page_file {
    const char *name, *type;
    const unsigned char *gzip, *end; /* first byte and the one after the last, static */
};

/* NULL: no such file, or a program built without the page. */
const struct page_file *page_find(const char *name);

/* Uncompressed copy for clients that refuse gzip; heap, NULL when memory is short. */
char *page_inflate(const struct page_file *file, size_t *size);

#endif
