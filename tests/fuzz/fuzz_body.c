/* SPDX-License-Identifier: Apache-2.0
 *
 * fuzz_body.c - libFuzzer target over JSON bodies, in the handlers that read them: the first byte chooses the route, the rest is
 * the body. Build and run as fuzz_query.c says; corpus tests/fuzz/body. The handlers work on a data root in memory
 * (/dev/shm) with one assessment, which stays as it was made but for its title, event and zones. Beside crashes, it looks
 * for replies that are no JSON, and for a 500: nothing a client says may be the server's fault.
 *
 * No process is offered that would start without an event, so no child is ever run. */
#include "geo/event.h"
#include "web/routes.h"
#include "web/workflow.h"
#include "web/zone_setting.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerInitialize(int *argc, char ***argv);

static struct service service;
static char root[64];

static void write_file(const char *name, const char *text)
{
    char path[128];
    snprintf(path, sizeof path, "%s/%s", root, name);
    FILE *f = fopen(path, "wb");
    if (!f || fputs(text, f) < 0 || fclose(f) != 0)
        abort();
}

static void remove_root(void)
{
    char command[128];
    workflow_close(service.workflow);
    snprintf(command, sizeof command, "rm -rf '%s'", root); /* a name of ours */
    if (system(command) != 0)
        abort();
}

static bool needs_event(const char *command)
{
    return strcmp(command, "tile") != 0;
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    struct err e = {0};
    struct store_assessment a = {.aid = "a", .title = (char[]){"A"}, .cut = 2, .inputs = (char[]){"{}"}};
    (void)argc;
    (void)argv;
    geo_init(false);
    snprintf(root, sizeof root, "/dev/shm/aftermap-fuzz-XXXXXX");
    if (!mkdtemp(root))
        abort();
    struct workflow_options o = {.root = root, .max_upload_bytes = 1 << 20, .has_command = needs_event};
    pthread_rwlock_init(&service.maps_lock, NULL);
    service.workflow = workflow_open(&o, &service, &e);
    if (!service.workflow || !store_assessment_create(service.workflow->store, &a, &e)) {
        fprintf(stderr, "%s\n", e.msg);
        abort();
    }
    write_file("a.tif", "II*");
    write_file(
        "z.geojson",
        "{\"type\":\"FeatureCollection\",\"features\":[{\"type\":\"Feature\",\"properties\":{\"id\":\"z\"},"
        "\"geometry\":{\"type\":\"Polygon\",\"coordinates\":[[[1,1],[2,1],[2,2],[1,1]]]}}]}");
    atexit(remove_root);
    return 0;
}

static const char *header(const void *ctx, const char *name)
{
    (void)ctx;
    return strcmp(name, "Content-Type") == 0 ? HTTP_JSON : strcmp(name, "If-Match") == 0 ? "*" : NULL;
}

static void check_reply(const struct http_reply *a)
{
    if (a->status < 200 || a->status == 500 || a->status > 599)
        abort();
    if (!a->body || !a->type || !strstr(a->type, "json"))
        return;
    cJSON *doc = cJSON_ParseWithLength(a->body, a->size);
    const cJSON *id = cJSON_GetObjectItemCaseSensitive(doc, "id");
    if (!doc)
        abort();
    if (a->status == 201 && strncmp(cJSON_IsString(id) ? id->valuestring : "", "u-", 2) == 0) {
        struct http_reply gone; /* an upload was begun: away with it */
        struct http_request q = {.method = "DELETE", .header = header};
        http_reply_init(&gone);
        upload_delete(&service, &q, (const char *const[]){id->valuestring}, &gone);
        http_reply_free(&gone);
    }
    cJSON_Delete(doc);
}

/* An area of interest given in the body: what is taken must be readable again. */
static void check_area(const char *body, size_t size)
{
    struct err e = {0};
    cJSON *given = cJSON_ParseWithLength(body, size), *made = aoi_setting_make(given, NULL, &e);
    if (!made && e.code == ERR_OK)
        abort();
    if (made) {
        cJSON *settings = cJSON_CreateObject();
        cJSON_AddItemToObject(settings, "aoi", made);
        OGRGeometryH g = aoi_setting_read(settings);
        if (!g)
            abort();
        OGR_G_DestroyGeometry(g);
        cJSON_Delete(settings);
    }
    cJSON_Delete(given);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct {
        const char *method;
        route_handler *handler;
        const char *arg[2];
    } routes[] = {{"POST", session_post, {NULL}},       {"POST", upload_post, {NULL}},
                  {"POST", assessments_post, {NULL}},   {"PATCH", assessment_patch, {"a"}},
                  {"PUT", label_put, {"a", "b1"}},      {"POST", labels_post, {"a"}},
                  {"POST", execution_post, {"train"}},  {"POST", execution_post, {"align"}},
                  {"POST", execution_post, {"predict"}}};
    enum { N_ROUTES = sizeof routes / sizeof *routes };
    if (!size || size > 1 << 16)
        return 0;
    unsigned k = data[0] % (N_ROUTES + 1);
    char *body = malloc(size);
    if (!body)
        return 0;
    memcpy(body, data + 1, size - 1);
    body[size - 1] = '\0'; /* a body has a NUL after it */
    if (k == N_ROUTES) {
        check_area(body, size - 1);
    } else {
        struct http_request q = {
            .method = routes[k].method, .body = body, .body_size = size - 1, .header = header};
        struct http_reply a;
        snprintf(q.base, sizeof q.base, "http://127.0.0.1:1");
        http_reply_init(&a);
        routes[k].handler(&service, &q, routes[k].arg, &a);
        check_reply(&a);
        http_reply_free(&a);
    }
    free(body);
    return 0;
}
