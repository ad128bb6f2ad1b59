/* SPDX-License-Identifier: Apache-2.0
 *
 * http.h - one request and its reply, apart from any HTTP library: target decoding, query parameters, content
 * negotiation, byte ranges, and replies built from documents, bytes or files. serve.c is the only file that
 * knows libmicrohttpd.
 *
 * A target is cut at '/' before its parts are percent-decoded, so an encoded slash never changes the route; a
 * decoded part may not hold control characters, be "." or "..", or be invalid UTF-8. Names and values of the
 * query obey the same rules.
 *
 * Ownership: a request owns what its pointers show; a reply owns its body and descriptor until serve.c takes
 * them. Threads: a request and its reply belong to one thread. */
#ifndef AM_HTTP_H
#define AM_HTTP_H

#include "models/base/err.h"
#include "web/auth.h"
#include <cJSON.h>
#include <stddef.h>
#include <stdint.h>

enum {
    HTTP_MAX_TARGET = 4096, /* bytes of path and query; longer ones get 414 */
    HTTP_MAX_PARTS = 8,     /* path segments */
    HTTP_MAX_PARAMS = 32,
    HTTP_MAX_HEADERS = 20
};

#define HTTP_JSON "application/json"
#define HTTP_GEOJSON "application/geo+json"
#define HTTP_OPENAPI "application/vnd.oai.openapi+json;version=3.0"
#define HTTP_SCHEMA "application/schema+json"
#define HTTP_PROBLEM "application/problem+json"
#define HTTP_HTML "text/html; charset=utf-8"
#define HTTP_CSV "text/csv; charset=utf-8"

struct http_param {
    const char *name, *value;
};

struct http_request {
    char id[40];    /* X-Request-Id */
    char base[320]; /* scheme, host and port of absolute links, no slash at the end */
    bool is_head;
    const char *method;    /* GET for HEAD */
    struct auth_user user; /* who asks */
    const char *body;      /* [body_size] and a NUL after it; NULL: none was sent */
    size_t body_size;
    const char *type;           /* negotiated media type; NULL when the route has just its own */
    char *part[HTTP_MAX_PARTS]; /* decoded path segments; a slash at the end adds none */
    int n_parts;
    struct http_param param[HTTP_MAX_PARAMS];
    int n_params;
    char *text;                                               /* storage of part[] and param[] */
    const char *(*header)(const void *ctx, const char *name); /* NULL: not sent */
    const void *header_ctx;
    void *lent;                    /* what the handler borrowed for as long as the request lasts, */
    void (*give_back)(void *lent); /* and how it goes back; NULL: nothing */
};

/* An answer that grows: events. */
struct http_stream {
    /* Fills up to `size` bytes: their number, 0 when there is nothing now (it is asked again when the watch's clock
     * ticks), -1 at the end. Must not wait. */
    int64_t (*read)(void *ctx, char *out, size_t size);
    void (*close)(void *ctx);
    void *ctx;
};

struct http_reply {
    int status;
    const char *type;  /* static text; NULL: no body */
    char *body;        /* heap, [size] */
    const void *fixed; /* or bytes that outlive the server's answer, [size] */
    size_t size;
    int fd; /* or a file, sent from offset; -1: none */
    uint64_t offset, length;
    struct http_stream stream; /* or one that grows; read NULL: none */
    struct {
        const char *name;
        char value[360];
    } header[HTTP_MAX_HEADERS];
    int n_headers;
};

/* Decodes a raw target ("/a/b%20c?x=1"). False with ERR_INPUT: the message says what is wrong with it. */
bool http_request_parse(struct http_request *q, const char *target, struct err *e);
void http_request_free(struct http_request *q);
const char *http_header(const struct http_request *q, const char *name);
const char *http_param(const struct http_request *q, const char *name); /* NULL: not given */

/* Picks among the offered media types by f= (`names`, such as "json") or else by Accept; the first offer wins
 * ties. -1: none is acceptable, and the reply already says so (406, or 400 for an unknown f). */
int http_negotiate(const struct http_request *q, const char *const *types, const char *const *names, int n,
                   struct http_reply *a);

enum http_range { HTTP_RANGE_WHOLE, HTTP_RANGE_PART, HTTP_RANGE_UNSATISFIABLE };
/* One byte range of RFC 9110; several ranges, other units or nonsense mean the whole file, as the RFC allows.
 */
enum http_range http_range_parse(const char *value, uint64_t size, uint64_t *first, uint64_t *length);

/* True when an If-None-Match value holds the tag (weak comparison) or is "*". */
bool http_etag_matches(const char *header, const char *etag);

void http_reply_init(struct http_reply *a);
void http_reply_free(struct http_reply *a);
void http_reply_header(struct http_reply *a, const char *name, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* Takes the body, which may be NULL when memory ran out: then the reply becomes a 507. */
void http_reply_body(struct http_reply *a, int status, const char *type, char *body, size_t size);
/* Prints and frees the document. */
void http_reply_json(struct http_reply *a, const char *type, cJSON *doc);
/* Adds an ETag made of the body's digest and answers 304 where the client has it already. */
void http_reply_validate(const struct http_request *q, struct http_reply *a);
/* The same with a tag known beforehand; true when the reply is now a complete 304. */
bool http_reply_tagged(const struct http_request *q, struct http_reply *a, const char *etag);

/* RFC 9457 problem documents. `parameter` (NULL: none) names the query parameter at fault, or, when it begins with
 * a slash, the place in the body (a JSON pointer). Replaces what the reply held, but not its header lines. */
void http_problem(const struct http_request *q, struct http_reply *a, int status, const char *parameter,
                  const char *fmt, ...) __attribute__((format(printf, 5, 6)));
const char *http_status_text(int status);
/* A problem out of an error record: its own HTTP status, or `input_status` for ERR_INPUT and ERR_USAGE. */
void http_problem_err(const struct http_request *q, struct http_reply *a, int input_status,
                      const struct err *e);
/* Adds a member to the problem document that the reply holds; takes the item. */
void http_problem_member(struct http_reply *a, const char *name, cJSON *item);

/* The body as a JSON object (the caller's to delete). NULL: the reply is a 400, or a 415 where the request does not
 * say that it sends JSON. */
cJSON *http_body_json(const struct http_request *q, struct http_reply *a);
/* True when Content-Type names this type, whatever its parameters. */
bool http_body_is(const struct http_request *q, const char *type);

/* A whole number of the query within [low, high]; `value` stays where it is not given. False: the reply is a 400. */
bool http_param_int(const struct http_request *q, struct http_reply *a, const char *name, long low, long high,
                    long *value);

/* A precondition of RFC 9110, 13, on a resource whose tag is `etag` (NULL: it does not exist yet): 0 when the request
 * may go on; 412; or, when it has none and one is needed, 428. The reply is then complete and shows the tag. */
int http_precondition(const struct http_request *q, struct http_reply *a, const char *etag, bool is_needed);

/* A link object {rel, type, title, href} added to an array; href is base + the printed path. */
void http_link(cJSON *links, const struct http_request *q, const char *rel, const char *type,
               const char *title, const char *fmt, ...) __attribute__((format(printf, 6, 7)));

/* Percent-encodes into out (cut when too small; sized 3 n + 1 it never is). */
void http_encode(const char *s, char *out, size_t out_size);

#endif
