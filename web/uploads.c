/* SPDX-License-Identifier: Apache-2.0
 * uploads.c - /uploads: files sent in pieces, which may be broken off and gone on with.
 *
 *   ROOT/.uploads/ID.part   what has come; its size is the offset
 *   ROOT/.uploads/ID.json   the name and the size that the client said
 *   ROOT/.uploads/ID.tif    complete and looked at (or .gpkg, .geojson, by what the bytes are, never by the name)
 *
 * Ids are 128 random bits: names are ours, the client's own is only shown. A piece is appended and synced before it is
 * acknowledged, so that an offset that was told survives a cut of power. */
#include "models/base/file.h"
#include "models/base/mem.h"
#include "web/refs.h"
#include "web/routes.h"
#include "web/workflow.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

enum { CHUNK_BYTES = 8 << 20, NAME_MAX_BYTES = 200, SIDECAR_MAX_BYTES = 4096, MAX_UPLOADS = 1000 };

struct upload {
    char id[REFS_UPLOAD_ID_SIZE];
    char name[NAME_MAX_BYTES + 1];
    uint64_t bytes, offset;
    bool is_complete;
};

static const char *root_of(const struct service *s)
{
    return store_root(s->workflow->store);
}

static bool part_path(const char *root, const char *id, const char *ending, char path[REFS_PATH_SIZE],
                      struct err *e)
{
    char name[64];
    snprintf(name, sizeof name, "%s.%s", id, ending);
    return refs_upload_path(root, name, path, e);
}

static bool read_upload(const char *root, const char *id, struct upload *u, struct err *e)
{
    char path[REFS_PATH_SIZE];
    struct stat st;
    size_t size;
    struct err none = {0};
    *u = (struct upload){0};
    snprintf(u->id, sizeof u->id, "%s", id);
    char *text = refs_is_upload(id) && part_path(root, id, "json", path, e)
                     ? file_read(path, SIDECAR_MAX_BYTES, &size, &none)
                     : NULL;
    cJSON *doc = text ? cJSON_Parse(text) : NULL;
    free(text);
    if (!doc)
        return err_set(e, ERR_NOT_FOUND, "there is no upload '%.60s'", id);
    const char *name = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(doc, "name"));
    snprintf(u->name, sizeof u->name, "%s", name ? name : "");
    double bytes = cJSON_GetNumberValue(cJSON_GetObjectItemCaseSensitive(doc, "bytes"));
    u->bytes = bytes > 0 ? (uint64_t)bytes : 0;
    cJSON_Delete(doc);
    if (refs_resolve(root, id, path, &none)) {
        u->is_complete = true;
        u->offset = u->bytes;
    } else if (part_path(root, id, "part", path, e) && stat(path, &st) == 0) {
        u->offset = (uint64_t)st.st_size;
    }
    return true;
}

static cJSON *upload_document(const struct upload *u)
{
    cJSON *doc = cJSON_CreateObject();
    cJSON_AddStringToObject(doc, "id", u->id);
    cJSON_AddStringToObject(doc, "name", u->name);
    cJSON_AddNumberToObject(doc, "bytes", (double)u->bytes);
    cJSON_AddNumberToObject(doc, "offset", (double)u->offset);
    cJSON_AddNumberToObject(doc, "chunk_bytes", CHUNK_BYTES);
    cJSON_AddBoolToObject(doc, "complete", u->is_complete);
    if (u->is_complete)
        cJSON_AddStringToObject(doc, "ref", u->id);
    else
        cJSON_AddNullToObject(doc, "ref");
    cJSON_AddNullToObject(doc, "problem");
    return doc;
}

static void remove_upload(const char *root, const char *id)
{
    static const char *const endings[] = {"part", "tif", "gpkg", "geojson", "json"};
    char path[REFS_PATH_SIZE];
    for (size_t i = 0; i < sizeof endings / sizeof *endings; i++)
        if (part_path(root, id, endings[i], path, NULL))
            unlink(path);
}

void uploads_get(const struct service *s, const struct http_request *q, const char *const *arg,
                 struct http_reply *a)
{
    char path[REFS_PATH_SIZE];
    const struct dirent *d;
    (void)q;
    (void)arg;
    cJSON *doc = cJSON_CreateObject(), *list = cJSON_AddArrayToObject(doc, "uploads");
    DIR *dir = refs_upload_path(root_of(s), NULL, path, NULL) ? opendir(path) : NULL;
    while (dir && (d = readdir(dir)) != NULL) {
        struct upload u;
        char id[REFS_UPLOAD_ID_SIZE];
        size_t n = strlen(d->d_name);
        if (n != 39 || strcmp(d->d_name + 34, ".json") != 0)
            continue;
        snprintf(id, sizeof id, "%.34s", d->d_name);
        if (read_upload(root_of(s), id, &u, NULL))
            cJSON_AddItemToArray(list, upload_document(&u));
    }
    if (dir)
        closedir(dir);
    http_reply_json(a, HTTP_JSON, doc);
    http_reply_header(a, "Cache-Control", "no-store");
}

/* False when the disk would not hold it; some room is left for the labels. */
static bool has_room(const char *root, uint64_t bytes)
{
    struct statvfs v;
    const uint64_t spare = (uint64_t)256 << 20;
    return statvfs(root, &v) != 0 || (uint64_t)v.f_bavail * v.f_frsize > bytes + spare;
}

static bool write_sidecar(const char *root, const struct upload *u, struct err *e)
{
    char path[REFS_PATH_SIZE];
    cJSON *doc = cJSON_CreateObject();
    cJSON_AddStringToObject(doc, "name", u->name);
    cJSON_AddNumberToObject(doc, "bytes", (double)u->bytes);
    char *text = cJSON_PrintUnformatted(doc);
    bool ok = text && refs_upload_path(root, NULL, path, e) && file_make_dirs(path, e) &&
              part_path(root, u->id, "json", path, e) && file_write_text(path, text, e);
    free(text);
    cJSON_Delete(doc);
    return ok;
}

void upload_post(const struct service *s, const struct http_request *q, const char *const *arg,
                 struct http_reply *a)
{
    struct upload u = {0};
    struct err e = {0};
    uint8_t random[16];
    (void)arg;
    cJSON *doc = http_body_json(q, a);
    if (!doc)
        return;
    const char *name = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(doc, "name"));
    double bytes = cJSON_GetNumberValue(cJSON_GetObjectItemCaseSensitive(doc, "bytes"));
    if (!name || !*name || strlen(name) > NAME_MAX_BYTES) {
        http_problem(q, a, 422, "/name", "name must be a text of 1 to %d bytes", NAME_MAX_BYTES);
    } else if (!(bytes >= 1 && bytes < 9e15)) {
        http_problem(q, a, 422, "/bytes", "bytes must be the file's size");
    } else if (bytes > (double)s->workflow->max_upload_bytes) {
        http_problem(q, a, 413, "/bytes", "at most %" PRIu64 " bytes are taken; see --max-upload",
                     s->workflow->max_upload_bytes);
    } else if (!has_room(root_of(s), (uint64_t)bytes)) {
        http_problem(q, a, 507, "/bytes", "the disk has no room for it");
    } else if (getrandom(random, sizeof random, 0) != sizeof random) {
        http_problem(q, a, 503, NULL, "the system gives no random numbers");
    } else {
        snprintf(u.id, sizeof u.id, "u-");
        for (int i = 0; i < 16; i++)
            snprintf(u.id + 2 + 2 * i, 3, "%02x", random[i]);
        snprintf(u.name, sizeof u.name, "%s", name);
        u.bytes = (uint64_t)bytes;
        if (write_sidecar(root_of(s), &u, &e)) {
            http_reply_json(a, HTTP_JSON, upload_document(&u));
            a->status = a->status == 200 ? 201 : a->status;
            http_reply_header(a, "Location", "%s/uploads/%s", q->base, u.id);
        } else {
            http_problem_err(q, a, 500, &e);
        }
    }
    cJSON_Delete(doc);
}

void upload_get(const struct service *s, const struct http_request *q, const char *const *arg,
                struct http_reply *a)
{
    struct upload u;
    struct err e = {0};
    if (!read_upload(root_of(s), arg[0], &u, &e)) {
        http_problem_err(q, a, 404, &e);
        return;
    }
    http_reply_json(a, HTTP_JSON, upload_document(&u));
    http_reply_header(a, "Upload-Offset", "%" PRIu64, u.offset);
    http_reply_header(a, "Cache-Control", "no-store");
}

void upload_delete(const struct service *s, const struct http_request *q, const char *const *arg,
                   struct http_reply *a)
{
    struct upload u;
    struct err e = {0};
    pthread_mutex_lock(&s->workflow->upload_lock);
    bool ok = read_upload(root_of(s), arg[0], &u, &e);
    if (ok)
        remove_upload(root_of(s), u.id);
    pthread_mutex_unlock(&s->workflow->upload_lock);
    if (ok)
        a->status = 204;
    else
        http_problem_err(q, a, 404, &e);
}

/* What the first bytes are, as the ending of the name that the file gets; NULL: nothing that is taken. TIFF and
 * BigTIFF in both byte orders; GeoPackage is SQLite with its own application id (OGC 12-128r19, 1.1.1.1.1); GeoJSON is
 * an object. VRT, archives and everything else are refused, whatever the name. */
static const char *kind_of(const char *path)
{
    unsigned char head[512] = {0};
    FILE *f = fopen(path, "rb");
    size_t n = f ? fread(head, 1, sizeof head - 1, f) : 0, i = 0;
    if (f)
        fclose(f);
    if (n > 8 && ((head[0] == 'I' && head[1] == 'I' && (head[2] == 42 || head[2] == 43) && head[3] == 0) ||
                  (head[0] == 'M' && head[1] == 'M' && head[2] == 0 && (head[3] == 42 || head[3] == 43))))
        return "tif";
    if (n > 100 && memcmp(head, "SQLite format 3", 16) == 0)
        return memcmp(head + 68, "GPKG", 4) == 0 || memcmp(head + 68, "GP1", 3) == 0 ? "gpkg" : NULL;
    if (n > 3 && memcmp(head, "\xef\xbb\xbf", 3) == 0)
        i = 3;
    i += strspn((const char *)head + i, " \t\r\n");
    return head[i] == '{' && strstr((const char *)head, "\"type\"") ? "geojson" : NULL;
}

/* "bytes A-B/TOTAL" */
static bool parse_content_range(const char *s, uint64_t *from, uint64_t *to, uint64_t *total)
{
    int used = 0;
    return s && strlen(s) < 100 &&
           sscanf(s, "bytes %19" SCNu64 "-%19" SCNu64 "/%19" SCNu64 "%n", from, to, total, &used) == 3 &&
           s[used] == '\0' && *from <= *to && *to < *total;
}

static bool append(const char *path, const struct http_request *q, uint64_t at, struct err *e)
{
    size_t done = 0;
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    bool ok = fd >= 0;
    while (ok && done < q->body_size) {
        ssize_t n = pwrite(fd, q->body + done, q->body_size - done, (off_t)(at + done));
        ok = n > 0;
        done += ok ? (size_t)n : 0;
    }
    ok = ok && fsync(fd) == 0;
    int failed = errno;
    if (!ok && fd >= 0 && ftruncate(fd, (off_t)at) != 0) /* what was acknowledged stays, the rest goes */
        failed = errno;
    if (fd >= 0)
        close(fd);
    return ok || err_errno(e, ERR_RUNTIME, failed, "the piece cannot be kept");
}

/* The whole file is there: it gets its name, or it goes. */
static bool finish(const struct service *s, const struct http_request *q, const struct upload *u,
                   struct http_reply *a)
{
    char part[REFS_PATH_SIZE], path[REFS_PATH_SIZE];
    struct err e = {0};
    const char *kind = part_path(root_of(s), u->id, "part", part, &e) ? kind_of(part) : NULL;
    if (!kind) {
        remove_upload(root_of(s), u->id);
        http_problem(q, a, 415, NULL, "'%.100s' is neither GeoTIFF nor GeoPackage nor GeoJSON", u->name);
        return false;
    }
    if (!part_path(root_of(s), u->id, kind, path, &e) || !file_rename(part, path, &e)) {
        http_problem_err(q, a, 500, &e);
        return false;
    }
    return true;
}

static void take_chunk(const struct service *s, const struct http_request *q, const char *id,
                       struct http_reply *a)
{
    struct upload u;
    struct err e = {0};
    char path[REFS_PATH_SIZE];
    uint64_t from, to, total;
    if (!read_upload(root_of(s), id, &u, &e)) {
        http_problem_err(q, a, 404, &e);
        return;
    }
    if (!parse_content_range(http_header(q, "Content-Range"), &from, &to, &total) ||
        to - from + 1 != q->body_size || total != u.bytes) {
        http_problem(q, a, 400, NULL, "Content-Range must be 'bytes A-B/%" PRIu64 "' and fit the body",
                     u.bytes);
    } else if (u.is_complete || from != u.offset) {
        http_problem(q, a, 409, NULL, "the next piece begins at byte %" PRIu64, u.offset);
    } else if (!has_room(root_of(s), q->body_size)) {
        http_problem(q, a, 507, NULL, "the disk has no room for it; the upload can go on later");
    } else if (!part_path(root_of(s), u.id, "part", path, &e) || !append(path, q, from, &e)) {
        http_problem_err(q, a, 500, &e);
    } else {
        u.offset = to + 1;
        if (u.offset == u.bytes && !finish(s, q, &u, a))
            return;
        a->status = 204;
    }
    http_reply_header(a, "Upload-Offset", "%" PRIu64, u.offset);
}

void upload_patch(const struct service *s, const struct http_request *q, const char *const *arg,
                  struct http_reply *a)
{
    pthread_mutex_lock(&s->workflow->upload_lock);
    take_chunk(s, q, arg[0], a);
    pthread_mutex_unlock(&s->workflow->upload_lock);
}
