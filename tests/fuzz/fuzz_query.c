/* SPDX-License-Identifier: Apache-2.0
 *
 * fuzz_query.c - libFuzzer target over what a request's first lines hold: target, query, Accept, Range and entity tags.
 * Build: cmake -DCMAKE_C_COMPILER=clang -DAM_FUZZ=ON -DAM_SANITIZE=address,undefined; run: fuzz_query tests/fuzz/query.
 * The input is a target; after the first newline a header value. Beside crashes, it looks for decoded text that the
 * rules of http.h do not allow, and for ranges outside the file. */
#include "web/encode.h"
#include "web/http.h"
#include "web/routes.h"

#include <stdlib.h>
#include <string.h>

static const char *header(const void *ctx, const char *name)
{
    (void)name;
    return ctx;
}

static void check_text(const char *s)
{
    if (strcmp(s, ".") == 0 || strcmp(s, "..") == 0)
        abort();
    for (; *s; s++)
        if ((unsigned char)*s < 0x20 || *s == 0x7f)
            abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const methods[] = {"GET", "PUT", "POST", "DELETE", "PATCH"};
    const char *arg[ROUTE_MAX_ARGS];
    struct err e = {0};
    struct http_reply a;
    uint64_t first, length;
    char *text = malloc(size + 1);
    if (!text)
        return 0;
    memcpy(text, data, size);
    text[size] = '\0';
    char *value = strchr(text, '\n');
    if (value)
        *value++ = '\0';
    struct http_request q = {.header = header, .header_ctx = value};
    http_reply_init(&a);
    if (http_request_parse(&q, text, &e)) {
        for (int i = 0; i < q.n_parts; i++)
            check_text(q.part[i]);
        const struct route *r = routes_match(methods[size % 5], &q, size & 1, arg, &a);
        if (r && routes_check_params(r, &q, &a))
            routes_negotiate(r, &q, &a);
    }
    if (value) {
        if (http_range_parse(value, 1000, &first, &length) == HTTP_RANGE_PART &&
            (first >= 1000 || length > 1000 - first))
            abort();
        http_etag_matches(value, "\"a\"");
        encode_is_wanted(value);
    }
    http_reply_free(&a);
    http_request_free(&q);
    free(text);
    return 0;
}
