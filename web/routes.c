/* SPDX-License-Identifier: Apache-2.0
 * routes.c - the matching of requests against the route table (routes.h, routes_table.c). */
#include "web/routes.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

/* Compares one pattern segment ("items", "{z}", "{y}.png") with a decoded path segment; for a variable, sets
 * the length of the part it stands for. */
static bool segment_fits(const char *pattern, size_t n, const char *part, size_t *captured)
{
    size_t part_size = strlen(part);
    *captured = 0;
    if (*pattern != '{')
        return part_size == n && memcmp(pattern, part, n) == 0;
    const char *end = memchr(pattern, '}', n);
    assert(end);
    size_t suffix = n - (size_t)(end + 1 - pattern);
    if (part_size <= suffix || memcmp(part + part_size - suffix, end + 1, suffix) != 0)
        return false;
    *captured = part_size - suffix;
    return true;
}

static bool pattern_fits(const char *pattern, const struct http_request *q, size_t captured[HTTP_MAX_PARTS])
{
    int i = 0;
    for (const char *p = pattern + 1; *p; i++) {
        size_t n = strcspn(p, "/");
        if (i == q->n_parts || !segment_fits(p, n, q->part[i], &captured[i]))
            return false;
        p += n + (p[n] == '/');
    }
    return i == q->n_parts;
}

static bool knows_param(const struct route *r, const char *name)
{
    if (r->types && strcmp(name, "f") == 0)
        return true;
    for (int i = 0; r->params && r->params[i]; i++)
        if (strcmp(r->params[i]->name, name) == 0)
            return true;
    return false;
}

bool routes_check_params(const struct route *r, const struct http_request *q, struct http_reply *a)
{
    for (int i = 0; i < q->n_params; i++) {
        if (!knows_param(r, q->param[i].name)) {
            http_problem(q, a, 400, q->param[i].name,
                         "'%.60s' is not a parameter of this resource; /api lists them", q->param[i].name);
            return false;
        }
    }
    return true;
}

const struct route *routes_match(const char *method, struct http_request *q, bool has_workflow,
                                 const char *arg[ROUTE_MAX_ARGS], struct http_reply *a)
{
    size_t captured[HTTP_MAX_PARTS], kept[HTTP_MAX_PARTS] = {0};
    const struct route *found = NULL;
    char allow[64] = "";
    bool is_workflow = false;
    int n_rows;
    const struct route *table = routes_table(&n_rows);
    for (int i = 0; i < n_rows && !found; i++) {
        if (!pattern_fits(table[i].pattern, q, captured))
            continue;
        if (table[i].flags & ROUTE_WORKFLOW && !has_workflow) {
            is_workflow = true;
            continue;
        }
        if (strcmp(method, table[i].method) == 0) {
            found = &table[i];
            memcpy(kept, captured, sizeof kept);
        }
        size_t used = strlen(allow);
        snprintf(allow + used, sizeof allow - used, "%s%s%s", used ? ", " : "", table[i].method,
                 strcmp(table[i].method, "GET") == 0 ? ", HEAD" : "");
    }
    if (!found && *allow) {
        http_problem(q, a, 405, NULL, "this resource answers only to %s", allow);
        http_reply_header(a, "Allow", "%s", allow);
        return NULL;
    }
    if (!found) {
        http_problem(q, a, 404, NULL,
                     is_workflow ? "this server only shows maps; start it with --data-root to label and train"
                                 : "nothing is here; /api lists what is");
        return NULL;
    }
    for (int i = 0, n = 0; i < q->n_parts; i++) {
        if (kept[i]) {
            assert(n < ROUTE_MAX_ARGS);
            q->part[i][kept[i]] = '\0';
            arg[n++] = q->part[i];
        }
    }
    return found;
}

bool routes_negotiate(const struct route *r, struct http_request *q, struct http_reply *a)
{
    int n = 0;
    while (r->types && n < ROUTE_MAX_TYPES && r->types->type[n])
        n++;
    int best = n ? http_negotiate(q, r->types->type, r->types->format, n, a) : -1;
    q->type = best < 0 ? NULL : r->types->type[best];
    return n == 0 || best >= 0;
}
