/* SPDX-License-Identifier: Apache-2.0
 * http.c - parsing, negotiation, ranges and replies declared in http.h. Sources: RFC 3986 (targets), RFC 9110
 * (negotiation, ranges, entity tags), RFC 9457 (problem documents). */
#include "web/http.h"

#include "models/base/file.h"
#include "models/base/mem.h"
#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

/* ---- targets
 * ---------------------------------------------------------------------------------------------------- */

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

/* Well-formed UTF-8 without control characters; overlong forms and surrogates are refused. */
static bool is_clean_text(const char *s)
{
    const uint8_t *p = (const uint8_t *)s;
    while (*p) {
        if (*p < 0x20 || *p == 0x7f)
            return false;
        int n = *p < 0x80             ? 0
                : (*p & 0xe0) == 0xc0 ? 1
                : (*p & 0xf0) == 0xe0 ? 2
                : (*p & 0xf8) == 0xf0 ? 3
                                      : -1;
        if (n < 0)
            return false;
        uint32_t code = n == 0 ? *p : *p & (0x3fu >> n);
        p++;
        for (int i = 0; i < n; i++, p++) {
            if ((*p & 0xc0) != 0x80)
                return false;
            code = code << 6 | (*p & 0x3f);
        }
        static const uint32_t least[4] = {0, 0x80, 0x800, 0x10000};
        if (code < least[n] || code > 0x10ffff || (code >= 0xd800 && code < 0xe000))
            return false;
    }
    return true;
}

/* Decodes in place; an encoded NUL would cut the text short, so it is an error like every other control
 * character. */
static bool decode(char *s, bool is_query)
{
    char *out = s;
    for (; *s; s++) {
        if (*s == '%') {
            int hi = hex_digit(s[1]), lo = hi < 0 ? -1 : hex_digit(s[2]);
            if (lo < 0 || (hi == 0 && lo == 0))
                return false;
            *out++ = (char)(hi << 4 | lo);
            s += 2;
        } else {
            *out++ = is_query && *s == '+' ? ' ' : *s;
        }
    }
    *out = '\0';
    return true;
}

static bool parse_path(struct http_request *q, char *path, struct err *e)
{
    char *save = NULL;
    if (strstr(path, "//"))
        return err_set(e, ERR_INPUT, "the path has an empty segment");
    for (char *s = strtok_r(path, "/", &save); s; s = strtok_r(NULL, "/", &save)) {
        if (q->n_parts == HTTP_MAX_PARTS)
            return err_set(e, ERR_INPUT, "the path has more than %d segments", HTTP_MAX_PARTS);
        if (!decode(s, false) || !is_clean_text(s))
            return err_set(e, ERR_INPUT, "the path is not valid percent-encoded UTF-8 text");
        if (strcmp(s, ".") == 0 || strcmp(s, "..") == 0)
            return err_set(e, ERR_INPUT, "the path may not hold '.' or '..' segments");
        q->part[q->n_parts++] = s;
    }
    return true;
}

static bool parse_query(struct http_request *q, char *query, struct err *e)
{
    char *save = NULL;
    for (char *s = strtok_r(query, "&", &save); s; s = strtok_r(NULL, "&", &save)) {
        if (q->n_params == HTTP_MAX_PARAMS)
            return err_set(e, ERR_INPUT, "the query has more than %d parameters", HTTP_MAX_PARAMS);
        char *value = strchr(s, '=');
        if (value)
            *value++ = '\0';
        if (!decode(s, true) || !is_clean_text(s) ||
            (value && (!decode(value, true) || !is_clean_text(value))))
            return err_set(e, ERR_INPUT, "the query is not valid percent-encoded UTF-8 text");
        for (int i = 0; i < q->n_params; i++)
            if (strcmp(q->param[i].name, s) == 0)
                return err_set(e, ERR_INPUT, "parameter '%.60s' is given twice", s);
        q->param[q->n_params++] = (struct http_param){s, value ? value : ""};
    }
    return true;
}

bool http_request_parse(struct http_request *q, const char *target, struct err *e)
{
    q->n_parts = q->n_params = 0;
    q->text = mem_strdup(target, e);
    if (!q->text)
        return false;
    if (q->text[0] != '/')
        return err_set(e, ERR_INPUT, "the target must be a path");
    char *query = strchr(q->text, '?');
    if (query)
        *query++ = '\0';
    return parse_path(q, q->text, e) && (!query || parse_query(q, query, e));
}

void http_request_free(struct http_request *q)
{
    if (q->give_back)
        q->give_back(q->lent);
    q->give_back = NULL;
    free(q->text);
    q->text = NULL;
}

const char *http_header(const struct http_request *q, const char *name)
{
    return q->header ? q->header(q->header_ctx, name) : NULL;
}

const char *http_param(const struct http_request *q, const char *name)
{
    for (int i = 0; i < q->n_params; i++)
        if (strcmp(q->param[i].name, name) == 0)
            return q->param[i].value;
    return NULL;
}

void http_encode(const char *s, char *out, size_t out_size)
{
    static const char digits[] = "0123456789ABCDEF";
    size_t k = 0;
    for (; *s && k + 4 <= out_size; s++) {
        uint8_t c = (uint8_t)*s;
        if (isalnum(c) || strchr("-._~,:", c)) {
            out[k++] = (char)c;
        } else {
            out[k++] = '%';
            out[k++] = digits[c >> 4];
            out[k++] = digits[c & 15];
        }
    }
    out[k] = '\0';
}

/* ---- negotiation
 * ------------------------------------------------------------------------------------------------ */

/* How well one element of Accept ("text/html;q=0.5") fits a type: its q in thousandths, and how narrow the
 * range is. */
static int range_quality(const char *item, size_t n, const char *type, int *narrow)
{
    size_t name = strcspn(item, ";,"), plain = strcspn(type, ";");
    if (name > n)
        name = n;
    while (name && isspace((unsigned char)item[name - 1]))
        name--;
    const char *slash = memchr(type, '/', plain);
    size_t major = (size_t)(slash - type) + 1;
    if (name == 3 && memcmp(item, "*/*", 3) == 0)
        *narrow = 1;
    else if (name == major + 1 && strncasecmp(item, type, major) == 0 && item[major] == '*')
        *narrow = 2;
    else if (name == plain && strncasecmp(item, type, plain) == 0)
        *narrow = 3;
    else
        return -1;
    for (const char *p = item; (p = memchr(p, ';', n - (size_t)(p - item))) != NULL;) {
        p++;
        while (*p == ' ')
            p++;
        if ((*p == 'q' || *p == 'Q') && p[1] == '=')
            return (int)(strtod(p + 2, NULL) * 1000.0);
    }
    return 1000;
}

static int accept_quality(const char *accept, const char *type)
{
    int best = 0, best_narrow = 0;
    for (const char *p = accept; *p;) {
        while (*p == ' ' || *p == ',' || *p == '\t')
            p++;
        size_t n = strcspn(p, ",");
        int narrow = 0;
        int quality = n ? range_quality(p, n, type, &narrow) : -1;
        if (quality >= 0 && narrow > best_narrow) {
            best = quality;
            best_narrow = narrow;
        }
        p += n;
    }
    return best;
}

int http_negotiate(const struct http_request *q, const char *const *types, const char *const *names, int n,
                   struct http_reply *a)
{
    const char *format = http_param(q, "f"), *accept = http_header(q, "Accept");
    char list[160];
    size_t used = 0;
    for (int i = 0; i < n; i++)
        used += (size_t)snprintf(list + used, sizeof list - used, "%s%s", i ? ", " : "",
                                 format ? names[i] : types[i]);
    assert(used < sizeof list);
    if (format) {
        for (int i = 0; i < n; i++)
            if (strcmp(format, names[i]) == 0)
                return i;
        http_problem(q, a, 400, "f", "f=%.40s is not offered here; one of: %s", format, list);
        return -1;
    }
    if (!accept || !*accept)
        return 0;
    int best = -1, best_quality = 0;
    for (int i = 0; i < n; i++) {
        int quality = accept_quality(accept, types[i]);
        if (quality > best_quality) {
            best = i;
            best_quality = quality;
        }
    }
    if (best < 0)
        http_problem(q, a, 406, NULL, "nothing that the Accept header allows is offered here; one of: %s",
                     list);
    return best;
}

/* ---- ranges and entity tags
 * ------------------------------------------------------------------------------------- */

static bool parse_position(const char **p, uint64_t *v)
{
    if (!isdigit((unsigned char)**p))
        return false;
    *v = 0;
    for (; isdigit((unsigned char)**p); (*p)++) {
        if (*v > (UINT64_MAX - 9) / 10)
            return false;
        *v = *v * 10 + (uint64_t)(**p - '0');
    }
    return true;
}

enum http_range http_range_parse(const char *value, uint64_t size, uint64_t *first, uint64_t *length)
{
    *first = 0;
    *length = size;
    if (!value || strncasecmp(value, "bytes=", 6) != 0)
        return HTTP_RANGE_WHOLE;
    const char *p = value + 6;
    uint64_t from, to;
    if (*p == '-') { /* the last n bytes */
        p++;
        if (!parse_position(&p, &to) || *p)
            return HTTP_RANGE_WHOLE;
        if (to == 0 || size == 0)
            return HTTP_RANGE_UNSATISFIABLE;
        *length = to < size ? to : size;
        *first = size - *length;
        return HTTP_RANGE_PART;
    }
    if (!parse_position(&p, &from) || *p != '-')
        return HTTP_RANGE_WHOLE;
    p++;
    to = UINT64_MAX;
    if (*p && (!parse_position(&p, &to) || *p || to < from))
        return HTTP_RANGE_WHOLE;
    if (from >= size)
        return HTTP_RANGE_UNSATISFIABLE;
    *first = from;
    *length = (to < size ? to + 1 : size) - from;
    return HTTP_RANGE_PART;
}

static bool is_tag(const char *tag, size_t n, const char *etag)
{
    static const char gz[] = "-gz\""; /* how encode.c marks the tag of a compressed answer */
    size_t whole = strlen(etag);
    if (n == whole && memcmp(tag, etag, n) == 0)
        return true;
    return n == whole + 3 && memcmp(tag, etag, whole - 1) == 0 && memcmp(tag + whole - 1, gz, 4) == 0;
}

bool http_etag_matches(const char *header, const char *etag)
{
    if (!header)
        return false;
    for (const char *p = header; *p;) {
        while (*p == ' ' || *p == ',')
            p++;
        size_t n = strcspn(p, ",");
        size_t item = n;
        while (item && p[item - 1] == ' ')
            item--;
        const char *tag = p;
        if (item > 2 && strncmp(tag, "W/", 2) == 0) {
            tag += 2;
            item -= 2;
        }
        if ((item == 1 && *tag == '*') || is_tag(tag, item, etag))
            return true;
        p += n;
    }
    return false;
}

/* ---- replies
 * ---------------------------------------------------------------------------------------------------- */

void http_reply_init(struct http_reply *a)
{
    *a = (struct http_reply){.status = 500, .fd = -1};
}

void http_reply_free(struct http_reply *a)
{
    free(a->body);
    if (a->fd >= 0)
        close(a->fd);
    if (a->stream.read)
        a->stream.close(a->stream.ctx);
    a->stream = (struct http_stream){0};
    a->body = NULL;
    a->fd = -1;
}

void http_reply_header(struct http_reply *a, const char *name, const char *fmt, ...)
{
    va_list ap;
    assert(a->n_headers < HTTP_MAX_HEADERS);
    va_start(ap, fmt);
    a->header[a->n_headers].name = name;
    vsnprintf(a->header[a->n_headers].value, sizeof a->header[0].value, fmt, ap);
    va_end(ap);
    a->n_headers++;
}

void http_reply_body(struct http_reply *a, int status, const char *type, char *body, size_t size)
{
    static const char no_memory[] =
        "{\"type\":\"about:blank\",\"title\":\"Insufficient Storage\",\"status\":507,"
        "\"detail\":\"memory ran out while the answer was made\"}";
    free(a->body);
    a->body = body;
    a->fixed = NULL;
    a->size = size;
    a->status = status;
    a->type = type;
    if (!body) {
        a->fixed = no_memory;
        a->size = sizeof no_memory - 1;
        a->status = 507;
        a->type = HTTP_PROBLEM;
    }
}

void http_reply_json(struct http_reply *a, const char *type, cJSON *doc)
{
    char *text = doc ? cJSON_PrintUnformatted(doc) : NULL;
    http_reply_body(a, 200, type, text, text ? strlen(text) : 0);
    cJSON_Delete(doc);
}

bool http_reply_tagged(const struct http_request *q, struct http_reply *a, const char *etag)
{
    http_reply_header(a, "ETag", "%s", etag);
    if (!http_etag_matches(http_header(q, "If-None-Match"), etag))
        return false;
    http_reply_free(a);
    a->status = 304;
    a->type = NULL;
    a->fixed = NULL;
    a->size = 0;
    return true;
}

void http_reply_validate(const struct http_request *q, struct http_reply *a)
{
    char hex[65], etag[40];
    if (a->status != 200)
        return;
    file_sha256_buffer(a->body ? a->body : a->fixed, a->size, hex);
    snprintf(etag, sizeof etag, "\"%.32s\"", hex);
    http_reply_header(a, "Cache-Control", "no-cache");
    http_reply_tagged(q, a, etag);
}

const char *http_status_text(int status)
{
    static const struct {
        int status;
        const char *text;
    } table[] = {{400, "Bad Request"},
                 {401, "Unauthorized"},
                 {403, "Forbidden"},
                 {404, "Not Found"},
                 {405, "Method Not Allowed"},
                 {406, "Not Acceptable"},
                 {409, "Conflict"},
                 {411, "Length Required"},
                 {412, "Precondition Failed"},
                 {413, "Content Too Large"},
                 {414, "URI Too Long"},
                 {415, "Unsupported Media Type"},
                 {416, "Range Not Satisfiable"},
                 {421, "Misdirected Request"},
                 {422, "Unprocessable Content"},
                 {428, "Precondition Required"},
                 {429, "Too Many Requests"},
                 {500, "Internal Server Error"},
                 {503, "Service Unavailable"},
                 {507, "Insufficient Storage"}};
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        if (table[i].status == status)
            return table[i].text;
    return "Error";
}

void http_problem(const struct http_request *q, struct http_reply *a, int status, const char *parameter,
                  const char *fmt, ...)
{
    char detail[768];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(detail, sizeof detail, fmt, ap);
    va_end(ap);
    cJSON *doc = cJSON_CreateObject();
    cJSON_AddStringToObject(doc, "type", "about:blank");
    cJSON_AddStringToObject(doc, "title", http_status_text(status));
    cJSON_AddNumberToObject(doc, "status", status);
    cJSON_AddStringToObject(doc, "detail", detail);
    cJSON_AddStringToObject(doc, "instance", q->id);
    if (parameter) {
        cJSON *item = cJSON_CreateObject();
        cJSON_AddStringToObject(item, *parameter == '/' ? "pointer" : "parameter", parameter);
        cJSON_AddStringToObject(item, "detail", detail);
        cJSON_AddItemToArray(cJSON_AddArrayToObject(doc, "errors"), item);
    }
    if (a->fd >= 0)
        close(a->fd);
    a->fd = -1;
    http_reply_json(a, HTTP_PROBLEM, doc);
    if (a->status == 200)
        a->status = status;
}

void http_problem_err(const struct http_request *q, struct http_reply *a, int input_status,
                      const struct err *e)
{
    bool is_input = e->code == ERR_INPUT || e->code == ERR_USAGE;
    http_problem(q, a, is_input ? input_status : err_http_status(e->code), NULL, "%s", e->msg);
}

void http_problem_member(struct http_reply *a, const char *name, cJSON *item)
{
    int status = a->status;
    cJSON *doc = a->body ? cJSON_ParseWithLength(a->body, a->size) : NULL;
    if (!doc || !item) {
        cJSON_Delete(doc);
        cJSON_Delete(item);
        return;
    }
    cJSON_AddItemToObject(doc, name, item);
    http_reply_json(a, HTTP_PROBLEM, doc);
    if (a->status == 200)
        a->status = status;
}

/* ---- what a request brings
 * ------------------------------------------------------------------------------------------- */

bool http_body_is(const struct http_request *q, const char *type)
{
    const char *sent = http_header(q, "Content-Type");
    size_t n = sent ? strcspn(sent, "; \t") : 0;
    return n == strlen(type) && strncasecmp(sent, type, n) == 0;
}

cJSON *http_body_json(const struct http_request *q, struct http_reply *a)
{
    if (!http_body_is(q, HTTP_JSON)) {
        http_problem(q, a, 415, NULL, "the body must be JSON, and its Content-Type " HTTP_JSON);
        return NULL;
    }
    /* A NUL would end the text early, and what comes after it would go unread. */
    bool is_text = q->body && !memchr(q->body, 0, q->body_size);
    cJSON *doc = is_text ? cJSON_ParseWithOpts(q->body, NULL, true) : NULL;
    if (!cJSON_IsObject(doc)) {
        http_problem(q, a, 400, NULL, "the body is no JSON object");
        cJSON_Delete(doc);
        return NULL;
    }
    return doc;
}

bool http_param_int(const struct http_request *q, struct http_reply *a, const char *name, long low, long high,
                    long *value)
{
    const char *s = http_param(q, name);
    char *end;
    if (!s)
        return true;
    errno = 0;
    long v = strtol(s, &end, 10);
    if (!isdigit((unsigned char)s[*s == '-']) || *end || errno || v < low || v > high) {
        http_problem(q, a, 400, name, "%s must be a whole number from %ld to %ld", name, low, high);
        return false;
    }
    *value = v;
    return true;
}

int http_precondition(const struct http_request *q, struct http_reply *a, const char *etag, bool is_needed)
{
    const char *match = http_header(q, "If-Match"), *none = http_header(q, "If-None-Match");
    int status = 0;
    if (match && (!etag || !http_etag_matches(match, etag)))
        status = 412;
    if (none && etag && http_etag_matches(none, etag))
        status = 412;
    if (!match && !none && is_needed)
        status = 428;
    if (status == 412)
        http_problem(q, a, 412, NULL,
                     etag ? "it was changed since: read it again and decide anew"
                          : "it is not there (any more)");
    else if (status)
        http_problem(q, a, 428, NULL,
                     "send If-Match with the tag of what you have read, so that nobody's change is lost");
    if (status && etag)
        http_reply_header(a, "ETag", "%s", etag);
    return status;
}

void http_link(cJSON *links, const struct http_request *q, const char *rel, const char *type,
               const char *title, const char *fmt, ...)
{
    char path[4 * HTTP_MAX_TARGET], href[sizeof q->base + sizeof path];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(path, sizeof path, fmt, ap);
    va_end(ap);
    snprintf(href, sizeof href, "%s%s", q->base, path);
    cJSON *link = cJSON_CreateObject();
    cJSON_AddStringToObject(link, "rel", rel);
    cJSON_AddStringToObject(link, "type", type);
    cJSON_AddStringToObject(link, "title", title);
    cJSON_AddStringToObject(link, "href", href);
    cJSON_AddItemToArray(links, link);
}
