/* SPDX-License-Identifier: Apache-2.0
 * tiles.c - /tiles: the tile store, PNG tiles and TileJSON over what tile_layers.c opens and tile_render.c
 * draws. */
#include "web/http.h"
#include "web/routes.h"
#include "web/service.h"
#include "web/tile_render.h"
#include "web/tiles_reply.h"

#include "models/base/file.h"
#include "models/base/mem.h"
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* One slot for each hash: a newcomer replaces what it collides with. When all tiles together would pass the limit, slots
 * are emptied in turn. A tile takes some milliseconds to draw and none to find: many people over the same map live
 * on what is kept here. */
enum { STORE_SLOTS = 16384, STORE_MAX_BYTES = 64 << 20 };

struct tile_store {
    struct tile_pool *pool;
    pthread_mutex_t lock; /* guards the rest */
    size_t bytes;         /* of all tiles */
    unsigned hand;        /* the next slot to be emptied */
    struct {
        char etag[48]; /* "": nothing is kept here */
        char *png;     /* NULL with size 0: an empty tile */
        size_t size;
    } slot[STORE_SLOTS];
};

struct tile_store *tile_store_create(struct err *e)
{
    struct tile_store *t = mem_array(1, sizeof *t, "the tile store", e);
    if (!t)
        return NULL;
    t->pool = tile_pool_create(e);
    if (!t->pool) {
        free(t);
        return NULL;
    }
    pthread_mutex_init(&t->lock, NULL);
    return t;
}

void tile_store_free(struct tile_store *t)
{
    if (!t)
        return;
    for (int i = 0; i < STORE_SLOTS; i++)
        free(t->slot[i].png);
    tile_pool_free(t->pool);
    pthread_mutex_destroy(&t->lock);
    free(t);
}

void tile_store_forget(struct tile_store *t, const struct assessment *as)
{
    for (int i = 0; i < TILE_LAYERS; i++)
        tile_pool_forget(t->pool, &as->layer[i]);
}

static unsigned slot_of(const char *etag)
{
    unsigned h = 2166136261u;
    for (; *etag; etag++)
        h = (h ^ (unsigned char)*etag) * 16777619u;
    return h % STORE_SLOTS;
}

/* True when the tile is there; *png is then a copy of the caller's (NULL: empty tile, or no memory for the
 * copy). */
static bool store_get(struct tile_store *t, const char *etag, char **png, size_t *size)
{
    unsigned i = slot_of(etag);
    bool found;
    pthread_mutex_lock(&t->lock);
    found = strcmp(t->slot[i].etag, etag) == 0;
    *size = found ? t->slot[i].size : 0;
    *png = *size ? malloc(*size) : NULL;
    if (*png)
        memcpy(*png, t->slot[i].png, *size);
    else if (*size)
        found = false;
    pthread_mutex_unlock(&t->lock);
    return found;
}

static void empty_slot(struct tile_store *t, unsigned i)
{
    free(t->slot[i].png);
    t->bytes -= t->slot[i].size;
    t->slot[i].etag[0] = '\0';
    t->slot[i].png = NULL;
    t->slot[i].size = 0;
}

static void store_put(struct tile_store *t, const char *etag, const char *png, size_t size)
{
    char *copy = size && size < STORE_MAX_BYTES ? malloc(size) : NULL;
    if (size && !copy)
        return;
    if (copy)
        memcpy(copy, png, size);
    unsigned i = slot_of(etag);
    pthread_mutex_lock(&t->lock);
    empty_slot(t, i);
    while (t->bytes + size > STORE_MAX_BYTES)
        empty_slot(t, t->hand++ % STORE_SLOTS);
    snprintf(t->slot[i].etag, sizeof t->slot[i].etag, "%s", etag);
    t->slot[i].png = copy;
    t->slot[i].size = size;
    t->bytes += size;
    pthread_mutex_unlock(&t->lock);
}

static const struct tile_layer *find_layer(const struct http_request *q, const struct assessment *as,
                                           const char *name, int *index, struct http_reply *a)
{
    for (int i = 0; i < TILE_LAYERS; i++) {
        if (strcmp(tile_layer_names[i], name) != 0)
            continue;
        *index = i;
        if (tile_layer_is_there(&as->layer[i]))
            return &as->layer[i];
        http_problem(q, a, 404, NULL, "layer %s of %s cannot be shown: %s", name, as->id, as->layer[i].why);
        return NULL;
    }
    http_problem(q, a, 404, NULL,
                 "there is no layer '%.40s'; one of: pre, post, damage, prob, uncertainty, shift", name);
    return NULL;
}

/* Digits only: strtol would take signs and spaces, and give one tile several names. */
static bool parse_index(const char *s, uint32_t *v)
{
    *v = 0;
    if (!*s || strlen(s) > 9 || strspn(s, "0123456789") != strlen(s) || (s[0] == '0' && s[1]))
        return false;
    for (; *s; s++)
        *v = *v * 10 + (uint32_t)(*s - '0');
    return true;
}

void tiles_reply(const struct service *s, const struct http_request *q, const struct assessment *as,
                 const char *layer_name, const char *z_text, const char *x_text, const char *y_text,
                 struct http_reply *a)
{
    char key[256], hex[65], etag[48], *png = NULL;
    uint32_t z, x, y;
    int index = 0;
    size_t size = 0;
    struct err e;
    const struct tile_layer *layer = find_layer(q, as, layer_name, &index, a);
    if (!layer)
        return;
    if (!parse_index(z_text, &z) || z > TILES_MAX_ZOOM || !parse_index(x_text, &x) ||
        !parse_index(y_text, &y) || x >> z || y >> z) {
        http_problem(q, a, 404, NULL,
                     "no tile of zoom %.12s, column %.12s, row %.12s: zoom runs to %d, the others below 2 to "
                     "its power",
                     z_text, x_text, y_text, TILES_MAX_ZOOM);
        return;
    }
    int n = snprintf(key, sizeof key, "%s %d %u/%u/%u", as->revision, index, z, x, y);
    file_sha256_buffer(key, (size_t)n, hex);
    snprintf(etag, sizeof etag, "\"%.32s\"", hex);
    http_reply_header(a, "Cache-Control", "%s",
                      http_param(q, "rev") ? "public, max-age=31536000, immutable" : "no-cache");
    if (http_reply_tagged(q, a, etag))
        return;
    if (!store_get(s->tiles, etag, &png, &size)) {
        if (!tile_render(s->tiles->pool, layer, z, x, y, &png, &size, &e)) {
            a->n_headers = 0; /* a failure has no tag and is not kept */
            http_problem(q, a, err_http_status(e.code), NULL, "%s", e.msg);
            return;
        }
        store_put(s->tiles, etag, png, size);
    }
    if (size) {
        http_reply_body(a, 200, "image/png", png, size);
    } else {
        free(png);
        a->status = 204;
    }
}

void tile_get(const struct service *s, const struct http_request *q, const char *const *arg,
              struct http_reply *a)
{
    const struct assessment *as = service_assessment(s, q, arg[0], a);
    if (as)
        tiles_reply(s, q, as, arg[1], arg[2], arg[3], arg[4], a);
}

void tilejson_get(const struct service *s, const struct http_request *q, const char *const *arg,
                  struct http_reply *a)
{
    static const char *const about[TILE_LAYERS] = {
        [TILE_PRE] = "",
        [TILE_POST] = "",
        [TILE_DAMAGE] = "Damage classes of the buildings.",
        [TILE_PROB] = "Probability of damage: pale 0, orange 0.5, dark red 1.",
        [TILE_UNCERTAINTY] = "How undecided the model is between damaged and not: pale decided, dark violet "
                             "undecided (binary entropy).",
        [TILE_SHIFT] = "Shift of the later image against the earlier one, four times as long as on the "
                       "ground; dark where it is well measured."};
    char url[1024];
    int index = 0;
    const struct assessment *as = service_assessment(s, q, arg[0], a);
    const struct tile_layer *layer = as ? find_layer(q, as, arg[1], &index, a) : NULL;
    if (!layer)
        return;
    snprintf(url, sizeof url, "%s/tiles/%s/%s/{z}/{x}/{y}.png", q->base, as->id, arg[1]);
    cJSON *doc = cJSON_CreateObject();
    cJSON_AddStringToObject(doc, "tilejson", "3.0.0");
    cJSON_AddStringToObject(doc, "name", arg[1]);
    cJSON_AddStringToObject(doc, "scheme", "xyz");
    cJSON_AddItemToArray(cJSON_AddArrayToObject(doc, "tiles"), cJSON_CreateString(url));
    cJSON_AddNumberToObject(doc, "minzoom", layer->min_zoom);
    cJSON_AddNumberToObject(doc, "maxzoom", layer->max_zoom);
    cJSON_AddItemToObject(doc, "bounds", cJSON_CreateDoubleArray(layer->bounds, 4));
    if (*layer->date)
        cJSON_AddStringToObject(doc, "date", layer->date);
    if (*about[index])
        cJSON_AddStringToObject(doc, "description", about[index]);
    http_reply_json(a, HTTP_JSON, doc);
    http_reply_validate(q, a);
}
