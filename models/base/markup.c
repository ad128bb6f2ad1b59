/* SPDX-License-Identifier: Apache-2.0
 * markup.c - entities for text, declared in markup.h. */
#include "models/base/markup.h"

#include <string.h>

void markup_write(FILE *f, const char *s, size_t n)
{
    for (; n > 0; s++, n--)
        switch (*s) {
        case '<':
            fputs("&lt;", f);
            break;
        case '>':
            fputs("&gt;", f);
            break;
        case '&':
            fputs("&amp;", f);
            break;
        case '"':
            fputs("&quot;", f);
            break;
        case '\'':
            fputs("&#39;", f);
            break;
        default:
            putc((unsigned char)*s < 32 || *s == 127 ? ' ' : *s, f);
        }
}

void markup_write_text(FILE *f, const char *s)
{
    markup_write(f, s, strlen(s));
}
