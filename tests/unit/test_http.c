/* SPDX-License-Identifier: Apache-2.0
 * test_http.c - targets, negotiation, ranges and routes of web/http.h and web/routes.h, against the texts of
 * RFC 3986 and RFC 9110 and against hostile spellings. */
#include "web/encode.h"
#include "web/http.h"
#include "web/label_import.h"
#include "web/routes.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static bool parse(struct http_request *q, const char *target)
{
    struct err e = {0};
    *q = (struct http_request){0};
    bool ok = http_request_parse(q, target, &e);
    assert_true(ok || (e.code == ERR_INPUT && *e.msg));
    return ok;
}

static void targets_are_cut_before_decoding(void **state)
{
    struct http_request q;
    (void)state;
    assert_true(parse(&q, "/a%2Fb/c%20d/?x=1%202&y=+&z&k=a%3Db"));
    assert_int_equal(q.n_parts, 2);
    assert_string_equal(q.part[0], "a/b");
    assert_string_equal(q.part[1], "c d");
    assert_string_equal(http_param(&q, "x"), "1 2");
    assert_string_equal(http_param(&q, "y"), " ");
    assert_string_equal(http_param(&q, "z"), "");
    assert_string_equal(http_param(&q, "k"), "a=b");
    assert_null(http_param(&q, "a"));
    http_request_free(&q);
    assert_true(parse(&q, "/%E2%82%AC"));
    assert_string_equal(q.part[0], "\xe2\x82\xac");
    http_request_free(&q);
}

static void hostile_targets_are_refused(void **state)
{
    static const char *const bad[] = {"",
                                      "a",
                                      "*",
                                      "//",
                                      "/a//b",
                                      "/..",
                                      "/a/../b",
                                      "/%2e%2e/x",
                                      "/%2E",
                                      "/.",
                                      "/a%00b",
                                      "/a%0ab",
                                      "/a%",
                                      "/a%4",
                                      "/a%zz",
                                      "/%ff",
                                      "/%c0%af",
                                      "/%ed%a0%80",
                                      "/%c3",
                                      "/x?a=%00",
                                      "/x?a=%c3(",
                                      "/x?a=1&a=2",
                                      "/x?%00=1",
                                      "/1/2/3/4/5/6/7/8/9",
                                      "/x?a=%f8%88%80%80%80",
                                      "/x?a=%f4%90%80%80"};
    struct http_request q;
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        if (parse(&q, bad[i]))
            fail_msg("'%s' was accepted", bad[i]);
        http_request_free(&q);
    }
    char many[400] = "/x?";
    for (int i = 0; i <= HTTP_MAX_PARAMS; i++)
        snprintf(many + strlen(many), sizeof many - strlen(many), "a%d=1&", i);
    assert_false(parse(&q, many));
    http_request_free(&q);
}

static void ranges_follow_rfc_9110(void **state)
{
    static const struct {
        const char *value;
        uint64_t size;
        enum http_range kind;
        uint64_t first, length;
    } cases[] = {
        {NULL, 100, HTTP_RANGE_WHOLE, 0, 100},
        {"bytes=0-499", 10000, HTTP_RANGE_PART, 0, 500}, /* the RFC's own examples, 14.1.2 */
        {"bytes=500-999", 10000, HTTP_RANGE_PART, 500, 500},
        {"bytes=-500", 10000, HTTP_RANGE_PART, 9500, 500},
        {"bytes=9500-", 10000, HTTP_RANGE_PART, 9500, 500},
        {"bytes=0-0", 10000, HTTP_RANGE_PART, 0, 1},
        {"bytes=-1", 10000, HTTP_RANGE_PART, 9999, 1},
        {"bytes=0-0,-1", 10000, HTTP_RANGE_WHOLE, 0, 10000},
        {"bytes=0-10000", 10000, HTTP_RANGE_PART, 0, 10000},
        {"bytes=10000-", 10000, HTTP_RANGE_UNSATISFIABLE, 0, 10000},
        {"bytes=-0", 10000, HTTP_RANGE_UNSATISFIABLE, 0, 10000},
        {"bytes=-20000", 10000, HTTP_RANGE_PART, 0, 10000},
        {"bytes=0-", 0, HTTP_RANGE_UNSATISFIABLE, 0, 0},
        {"bytes=9-5", 10, HTTP_RANGE_WHOLE, 0, 10},
        {"bytes=5", 10, HTTP_RANGE_WHOLE, 0, 10},
        {"bytes=", 10, HTTP_RANGE_WHOLE, 0, 10},
        {"bytes= 1-2", 10, HTTP_RANGE_WHOLE, 0, 10},
        {"seconds=1-2", 10, HTTP_RANGE_WHOLE, 0, 10},
        {"bytes=1-99999999999999999999999", 10, HTTP_RANGE_WHOLE, 0, 10},
        {"bytes=1-18446744073709551609", 10, HTTP_RANGE_PART, 1, 9},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint64_t first = 77, length = 77;
        enum http_range kind = http_range_parse(cases[i].value, cases[i].size, &first, &length);
        if (kind != cases[i].kind || first != cases[i].first || length != cases[i].length)
            fail_msg("%s: kind %d, first %llu, length %llu", cases[i].value ? cases[i].value : "(none)",
                     (int)kind, (unsigned long long)first, (unsigned long long)length);
    }
}

static const char *accept_header(const void *ctx, const char *name)
{
    return strcmp(name, "Accept") == 0 ? ctx : NULL;
}

static void accept_chooses_by_quality_then_order(void **state)
{
    static const char *const types[] = {"application/geo+json", "application/json",
                                        "text/html; charset=utf-8"};
    static const char *const names[] = {"geojson", "json", "html"};
    static const struct {
        const char *accept;
        int wanted;
    } cases[] = {
        {NULL, 0},
        {"*/*", 0},
        {"application/json", 1},
        {"application/*", 0},
        {"text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", 2},
        {"application/geo+json;q=0.2, application/json;q=0.9", 1},
        {"application/geo+json;q=0, */*;q=0.5", 1}, /* the narrower range wins, 12.5.1 */
        {"TEXT/HTML", 2},
        {"text/html;level=1", 2},
        {"text/plain", -1},
        {"application/json;q=0", -1},
        {"nonsense", -1},
        {",,;q=,", -1},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct http_request q = {.header = accept_header, .header_ctx = cases[i].accept};
        struct http_reply a;
        http_reply_init(&a);
        int got = http_negotiate(&q, types, names, 3, &a);
        if (got != cases[i].wanted)
            fail_msg("%s: %d", cases[i].accept, got);
        if (got < 0)
            assert_int_equal(a.status, 406);
        http_reply_free(&a);
    }
}

static void etags_compare_weakly(void **state)
{
    (void)state;
    assert_true(http_etag_matches("\"a\"", "\"a\""));
    assert_true(http_etag_matches("\"b\", W/\"a\" ,\"c\"", "\"a\""));
    assert_true(http_etag_matches("*", "\"a\""));
    assert_false(http_etag_matches(NULL, "\"a\""));
    assert_false(http_etag_matches("\"ab\"", "\"a\""));
    assert_false(http_etag_matches("a", "\"a\""));
}

static const struct route *match(const char *method, const char *target, const char *arg[ROUTE_MAX_ARGS],
                                 int *status, struct http_request *q)
{
    struct http_reply a;
    http_reply_init(&a);
    assert_true(parse(q, target));
    const struct route *r = routes_match(method, q, false, arg, &a);
    if (r && !routes_check_params(r, q, &a))
        r = NULL;
    *status = r ? 200 : a.status;
    http_reply_free(&a);
    return r;
}

static void routes_match_patterns(void **state)
{
    const char *arg[ROUTE_MAX_ARGS];
    struct http_request q;
    int status;
    (void)state;
    const struct route *r = match("GET", "/tiles/a/pre/12/34/56.png?rev=x", arg, &status, &q);
    assert_non_null(r);
    assert_string_equal(r->id, "getTile");
    assert_string_equal(arg[0], "a");
    assert_string_equal(arg[1], "pre");
    assert_string_equal(arg[4], "56");
    http_request_free(&q);
    r = match("GET", "/collections/a.buildings/items/7", arg, &status, &q);
    assert_string_equal(r->id, "getItem");
    assert_string_equal(arg[1], "7");
    http_request_free(&q);
    static const struct {
        const char *method, *target;
        int status;
    } refused[] = {{"GET", "/tiles/a/pre/12/34/.png", 404},
                   {"GET", "/tiles/a/pre/12/34/56.jpg", 404},
                   {"GET", "/collections%2Fa", 404},
                   {"GET", "/Collections", 404},
                   {"POST", "/collections", 405},
                   {"PUT", "/tiles/a/pre/1/0/0.png", 405},
                   {"GET", "/collections?x=1", 400},
                   {"GET", "/tiles/a/pre/1/0/0.png?scale=2", 400},
                   {"GET", "/assessments/a/exports/x/y", 404}};
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        assert_null(match(refused[i].method, refused[i].target, arg, &status, &q));
        if (status != refused[i].status)
            fail_msg("%s %s: %d", refused[i].method, refused[i].target, status);
        http_request_free(&q);
    }
}

/* Each variable of each pattern is described, each schema is JSON, and the ids are unique. */
static void the_table_describes_itself(void **state)
{
    int n;
    const struct route *table = routes_table(&n);
    (void)state;
    for (int i = 0; i < n; i++) {
        for (const char *p = table[i].pattern; (p = strchr(p, '{')) != NULL; p++) {
            char name[40];
            snprintf(name, sizeof name, "%.*s", (int)strcspn(p + 1, "}"), p + 1);
            const struct route_param *v = routes_variable(name);
            assert_non_null(v);
            cJSON *schema = cJSON_Parse(v->schema);
            assert_non_null(schema);
            cJSON_Delete(schema);
        }
        if (table[i].body && table[i].body->schema) {
            cJSON *schema = cJSON_Parse(table[i].body->schema);
            assert_non_null(schema);
            cJSON_Delete(schema);
        }
        for (int k = 0; table[i].params && table[i].params[k]; k++) {
            cJSON *schema = cJSON_Parse(table[i].params[k]->schema);
            assert_non_null(schema);
            cJSON_Delete(schema);
        }
        for (int k = 0; k < i; k++)
            assert_string_not_equal(table[i].id, table[k].id);
    }
}

static void gzip_is_taken_as_rfc_9110_says(void **state)
{
    static const struct {
        const char *value;
        bool wanted;
    } cases[] = {{NULL, false},       {"", false},           {"gzip", true},         {"br, GZIP;q=0.5", true},
                 {"gzip;q=0", false}, {"*", true},           {"*;q=0", false},       {"gzip;q=0, *", false},
                 {"identity", false}, {"gzip;q=0.0", false}, {"deflate, br", false}, {"x-gzip", false}};
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        if (encode_is_wanted(cases[i].value) != cases[i].wanted)
            fail_msg("%s", cases[i].value ? cases[i].value : "(none)");
    /* The tag of the compressed form stands for the same state of the resource, and for no other. */
    assert_true(http_etag_matches("\"a-gz\"", "\"a\""));
    assert_false(http_etag_matches("\"ab-gz\"", "\"a\""));
    assert_false(http_etag_matches("\"a-gz\"x", "\"a\""));
}

/* A cookie holds for its time and its bytes; changing any one character of it must end it. */
static void cookies_die_with_time_and_change(void **state)
{
    char path[] = "/tmp/test_http_tokens_XXXXXX", cookie[AUTH_COOKIE_SIZE], none[AUTH_COOKIE_SIZE],
         header[AUTH_COOKIE_SIZE + 40];
    static const char tokens[] = "# who\neditor ana 0123456789abcdef\nreader bo fedcba9876543210\n";
    struct auth_user u;
    struct err e = {0};
    const int64_t now = 1700000000;
    (void)state;
    int fd = mkstemp(path); /* mode 0600 */
    assert_int_equal(write(fd, tokens, sizeof tokens - 1), sizeof tokens - 1);
    close(fd);
    struct auth *a = auth_open(path, &e);
    assert_non_null(a);
    assert_true(auth_make_cookie(a, "0123456789abcdef", now, cookie));
    assert_false(auth_make_cookie(a, "0123456789abcdeF", now, none));
    snprintf(header, sizeof header, "other=1; " AUTH_COOKIE "=%s; more=2", cookie);
    auth_by_headers(a, NULL, header, now + AUTH_SESSION_SECONDS - 1, &u);
    assert_int_equal(u.role, AUTH_EDITOR);
    assert_string_equal(u.name, "ana");
    auth_by_headers(a, NULL, header, now + AUTH_SESSION_SECONDS, &u);
    assert_int_equal(u.role, AUTH_NOBODY);
    for (size_t i = 0; cookie[i]; i++) {
        char forged[sizeof header];
        snprintf(forged, sizeof forged, AUTH_COOKIE "=%s", cookie);
        char *at = forged + sizeof AUTH_COOKIE + i;
        *at = *at == 'b' ? 'c' : 'b';
        auth_by_headers(a, NULL, forged, now, &u);
        if (u.role != AUTH_NOBODY)
            fail_msg("%s was accepted", forged);
    }
    auth_by_headers(a, "Bearer fedcba9876543210", header, now, &u); /* the header wins */
    assert_string_equal(u.name, "bo");
    auth_by_headers(a, "Bearer nonsense", header, now, &u);
    assert_int_equal(u.role, AUTH_NOBODY);
    auth_free(a);
    unlink(path);
}

static void labels_come_as_tables(void **state)
{
    static const char csv[] =
        "\xef\xbb\xbf"
        "Grade,bldg_id,note,draw,purpose\r\n"
        "minor,b1,\"a \"\"b\"\", c\",3,validate\r\n\r\n3,\"b,2\",,,\n-1,b3,x,,train\nbad,b4,,,";
    struct label_rows r;
    struct err e = {0};
    (void)state;
    assert_true(label_import_csv(csv, sizeof csv - 1, &r, &e));
    assert_int_equal(r.n, 4);
    assert_int_equal(r.item[0].level, 1);
    assert_string_equal(r.item[0].note, "a \"b\", c");
    assert_int_equal(r.item[0].draw, 3);
    assert_int_equal(r.item[0].purpose, STORE_VALIDATE);
    assert_string_equal(r.item[1].bldg_id, "b,2");
    assert_int_equal(r.item[1].level, 3);
    assert_int_equal(r.item[2].level, -1);
    assert_string_equal(r.item[2].reason, "unclear");
    assert_string_equal(r.item[3].pointer, "/dmg_class");
    label_rows_free(&r);
    static const char *const bad[] = {"", "bldg_id\nb1\n", "bldg_id,grade\n\"b1,none\n",
                                      "bldg_id,grade\n\"b1\"x,none\n"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        if (label_import_csv(bad[i], strlen(bad[i]), &r, &e))
            fail_msg("'%s' was accepted", bad[i]);
        assert_int_equal(r.n, 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(targets_are_cut_before_decoding),
        cmocka_unit_test(hostile_targets_are_refused),
        cmocka_unit_test(ranges_follow_rfc_9110),
        cmocka_unit_test(accept_chooses_by_quality_then_order),
        cmocka_unit_test(etags_compare_weakly),
        cmocka_unit_test(routes_match_patterns),
        cmocka_unit_test(the_table_describes_itself),
        cmocka_unit_test(gzip_is_taken_as_rfc_9110_says),
        cmocka_unit_test(cookies_die_with_time_and_change),
        cmocka_unit_test(labels_come_as_tables),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
