/* SPDX-License-Identifier: Apache-2.0
 * page.c - the embedded files of web/ui (page.h). The assembler includes what web/ui/build.mjs wrote to
 * AM_UI_DIST, which costs no generated C and works with any GNU-style assembler; the build re-runs this file
 * when a product changes. */
#include "web/page.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#ifdef AM_UI_DIST

#define EMBED(symbol, file)                                                                                  \
    __asm__(".section .rodata\n"                                                                             \
            ".balign 16\n" #symbol ":\n.incbin \"" AM_UI_DIST "/" file "\"\n" #symbol                        \
            "_end:\n.byte 0\n.previous\n");                                                                  \
    extern const unsigned char symbol[], symbol##_end[] __attribute__((visibility("hidden")))

EMBED(page_index, "index.html.gz");
EMBED(page_script, "app.js.gz");
EMBED(page_style, "app.css.gz");

static const struct page_file files[] = {
    {"index.html", "text/html; charset=utf-8", page_index, page_index_end},
    {"app.js", "text/javascript; charset=utf-8", page_script, page_script_end},
    {"app.css", "text/css; charset=utf-8", page_style, page_style_end},
};

const struct page_file *page_find(const char *name)
{
    for (size_t i = 0; i < sizeof files / sizeof *files; i++)
        if (strcmp(files[i].name, name) == 0)
            return &files[i];
    return NULL;
}

#else

const struct page_file *page_find(const char *name)
{
    (void)name;
    return NULL;
}

#endif

char *page_inflate(const struct page_file *file, size_t *size)
{
    /* A gzip member ends with the size of its content, little-endian. */
    const unsigned char *tail = file->end - 4;
    size_t room = (size_t)tail[0] | (size_t)tail[1] << 8 | (size_t)tail[2] << 16 | (size_t)tail[3] << 24;
    char *out = malloc(room + 1);
    z_stream z = {.next_in = (Bytef *)(uintptr_t)file->gzip, .avail_in = (uInt)(file->end - file->gzip)};
    if (!out || inflateInit2(&z, 16 + MAX_WBITS) != Z_OK) {
        free(out);
        return NULL;
    }
    z.next_out = (Bytef *)out;
    z.avail_out = (uInt)room;
    int rc = inflate(&z, Z_FINISH);
    inflateEnd(&z);
    if (rc != Z_STREAM_END) {
        free(out);
        return NULL;
    }
    *size = room;
    return out;
}
