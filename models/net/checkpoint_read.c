/* SPDX-License-Identifier: Apache-2.0
 *
 * checkpoint_read.c - reads safetensors files that anybody may have written. Each check has its number here
 * and a file that must fail in tests/unit/test_checkpoint.c; a later check may rely on the earlier ones:
 *
 *    1 a regular file of at least 8 bytes
 *    2 header at most 1 MiB and inside the file
 *    3 UTF-8, starts with '{'
 *    4 depth at most 4, no control characters in strings
 *    5 JSON, followed by nothing but spaces
 *    6 no key twice in one object
 *    7 entries: known dtype, at most 4 whole dimensions, two whole offsets
 *    8 shape times width does not overflow and equals the offsets' distance
 *    9 tensors without hole or overlap, each aligned to its width
 *   10 the last one ends exactly at the file's end; at most 4 GiB of data
 *   11 metadata are strings; aftermap.format known; aftermap.sha256 is the digest of the data
 *
 * Memory for the data is taken after check 10; the digest needs the data, so it comes last. The data are
 * copied, not mapped: a file cut short by another program later would end this one.
 *
 * The JSON tree is kept as long as the handle: names and metadata point into it. An open checkpoint is
 * immutable and may be read by many threads. */
#include "models/net/checkpoint_format.h"

#include "models/base/file.h"
#include "models/base/mem.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAX_DATA_BYTES ((uint64_t)4 << 30)
#define MAX_WHOLE 9007199254740992.0 /* 2^53: a JSON number beyond it is no longer exact */

struct entry {
    struct checkpoint_tensor tensor;
    uint64_t from, to;
};

struct checkpoint {
    cJSON *root;
    struct entry *entries; /* by offset */
    const struct entry **by_name;
    struct checkpoint_meta *meta;
    int n_tensors, n_meta;
    char *data;
    size_t data_bytes;
    char digest[65];
    char *path;
};

static bool damaged(struct err *e, const char *path, const char *what)
{
    return err_set(e, ERR_MODEL,
                   "%s is no model of this program, or damaged: %s; train it again or copy it anew", path,
                   what);
}

/* Checks 3 and 4, on the raw bytes: the parser recurses, so it must not meet depth, and it takes a NUL for an
 * end. */
static const char *scan(const char *text, size_t size)
{
    int depth = 0;
    bool in_string = false;
    if (size == 0 || text[0] != '{')
        return "its header does not start with {";
    for (size_t i = 0; i < size;) {
        const unsigned char *s = (const unsigned char *)text + i;
        size_t length = checkpoint_utf8_length(s, size - i);
        if (length == 0)
            return "its header is not UTF-8";
        if (*s < 0x20 && (in_string || !(*s == '\t' || *s == '\n' || *s == '\r')))
            return "its header holds control characters";
        if (in_string && *s == '\\') {
            if (size - i >= 6 && memcmp(s, "\\u0000", 6) == 0)
                return "its header holds control characters";
            length = 2; /* the next one is escaped, whatever it is */
        } else if (*s == '"') {
            in_string = !in_string;
        } else if (!in_string && (*s == '{' || *s == '[')) {
            if (++depth > CHECKPOINT_MAX_DEPTH)
                return "its header is nested too deeply";
        } else if (!in_string && (*s == '}' || *s == ']')) {
            depth--;
        }
        i += length;
    }
    return NULL;
}

static bool whole(const cJSON *item, int64_t *out)
{
    if (!cJSON_IsNumber(item) || !(item->valuedouble >= 0 && item->valuedouble <= MAX_WHOLE))
        return false;
    *out = (int64_t)item->valuedouble;
    return (double)*out == item->valuedouble;
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Check 6 for one object. */
static bool keys_unique(const cJSON *object, bool *unique, struct err *e)
{
    int n = cJSON_GetArraySize(object), at = 0;
    const char **keys = mem_array((size_t)n, sizeof *keys, "a model file's keys", e);
    if (!keys)
        return false;
    for (const cJSON *item = object->child; item; item = item->next)
        keys[at++] = item->string;
    qsort(keys, (size_t)n, sizeof *keys, by_text);
    *unique = true;
    for (int i = 1; i < n; i++)
        if (strcmp(keys[i - 1], keys[i]) == 0)
            *unique = false;
    free(keys);
    return true;
}

/* Checks 7 and 8 for one tensor. */
static const char *read_entry(const cJSON *item, struct entry *out)
{
    const cJSON *dtype = cJSON_GetObjectItemCaseSensitive(item, "dtype");
    const cJSON *shape = cJSON_GetObjectItemCaseSensitive(item, "shape");
    const cJSON *offsets = cJSON_GetObjectItemCaseSensitive(item, "data_offsets");
    struct checkpoint_tensor *t = &out->tensor;
    int d = 0;
    if (!cJSON_IsObject(item) || cJSON_GetArraySize(item) != 3 || !cJSON_IsString(dtype) ||
        !cJSON_IsArray(shape) || !cJSON_IsArray(offsets))
        return "an entry is not made of dtype, shape and data_offsets";
    while (d < CHECKPOINT_N_DTYPES &&
           strcmp(checkpoint_dtype_name((enum checkpoint_dtype)d), dtype->valuestring) != 0)
        d++;
    if (d == CHECKPOINT_N_DTYPES)
        return "a tensor has an unknown dtype";
    t->name = item->string;
    t->dtype = (enum checkpoint_dtype)d;
    uint64_t bytes = checkpoint_dtype_size(t->dtype);
    for (const cJSON *dim = shape->child; dim; dim = dim->next) {
        if (t->n_dims == 4 || !whole(dim, &t->dims[t->n_dims]))
            return "a shape is not made of at most four whole numbers";
        if (__builtin_mul_overflow(bytes, (uint64_t)t->dims[t->n_dims++], &bytes))
            return "a shape overflows";
    }
    int64_t from, to;
    if (cJSON_GetArraySize(offsets) != 2 || !whole(offsets->child, &from) ||
        !whole(offsets->child->next, &to))
        return "offsets are not two whole numbers";
    if (to < from || (uint64_t)(to - from) != bytes)
        return "a shape does not fit its offsets";
    out->from = (uint64_t)from;
    out->to = (uint64_t)to;
    return NULL;
}

static int by_offset(const void *pa, const void *pb)
{
    const struct entry *a = pa, *b = pb;
    if (a->from != b->from)
        return a->from < b->from ? -1 : 1;
    if (a->to != b->to)
        return a->to < b->to ? -1 : 1;
    return strcmp(a->tensor.name, b->tensor.name); /* empty tensors share an offset */
}

static int by_name(const void *pa, const void *pb)
{
    const struct entry *const *a = pa, *const *b = pb;
    return strcmp((*a)->tensor.name, (*b)->tensor.name);
}

/* Checks 9 and 10; the entries are sorted. */
static const char *check_cover(const struct checkpoint *c, uint64_t data_bytes)
{
    uint64_t at = 0;
    for (int i = 0; i < c->n_tensors; i++) {
        const struct entry *t = &c->entries[i];
        if (t->from > at)
            return "there is a hole between its tensors";
        if (t->from < at)
            return "its tensors overlap";
        if (t->from % checkpoint_dtype_size(t->tensor.dtype) != 0)
            return "a tensor is not aligned to its width";
        at = t->to;
    }
    if (at > data_bytes)
        return "the file is shorter than its header says";
    return at < data_bytes ? "the file is longer than its header says" : NULL;
}

/* Checks 6 to 8 over the whole tree. False with the error set. */
static bool read_tree(struct checkpoint *c, struct err *e)
{
    const char *why = NULL;
    bool unique = true;
    int n = cJSON_GetArraySize(c->root);
    const cJSON *meta = NULL;
    c->entries = mem_array((size_t)n, sizeof *c->entries, "a model file's table", e);
    c->by_name = mem_array((size_t)n, sizeof *c->by_name, "a model file's table", e);
    if (!c->entries || !c->by_name || !keys_unique(c->root, &unique, e))
        return false;
    if (!unique)
        return damaged(e, c->path, "its header names a tensor twice");
    for (const cJSON *item = c->root->child; item && !why; item = item->next) {
        if (cJSON_IsObject(item) && !keys_unique(item, &unique, e))
            return false;
        if (!unique)
            why = "its header holds a key twice";
        else if (strcmp(item->string, "__metadata__") == 0)
            meta = item;
        else
            why = read_entry(item, &c->entries[c->n_tensors++]);
    }
    if (!why && !cJSON_IsObject(meta))
        why = "it has no metadata";
    if (why)
        return damaged(e, c->path, why);
    c->meta = mem_array((size_t)cJSON_GetArraySize(meta), sizeof *c->meta, "a model file's metadata", e);
    if (!c->meta)
        return false;
    for (const cJSON *item = meta->child; item; item = item->next) {
        if (!cJSON_IsString(item))
            return damaged(e, c->path, "its metadata are not all strings");
        c->meta[c->n_meta++] = (struct checkpoint_meta){item->string, item->valuestring};
    }
    qsort(c->entries, (size_t)c->n_tensors, sizeof *c->entries, by_offset);
    for (int i = 0; i < c->n_tensors; i++)
        c->by_name[i] = &c->entries[i];
    qsort(c->by_name, (size_t)c->n_tensors, sizeof *c->by_name, by_name);
    return true;
}

/* Checks 3 to 5. */
static bool parse(struct checkpoint *c, const char *text, size_t size, struct err *e)
{
    const char *why = scan(text, size), *end = NULL;
    if (why)
        return damaged(e, c->path, why);
    c->root = cJSON_ParseWithLengthOpts(text, size, &end, 0);
    if (!cJSON_IsObject(c->root))
        return damaged(e, c->path, "its header is not JSON");
    for (; end < text + size; end++)
        if (*end != ' ')
            return damaged(e, c->path, "something follows its header");
    return true;
}

static bool read_all(FILE *f, const char *path, void *out, size_t size, struct err *e)
{
    if (fread(out, 1, size, f) == size)
        return true;
    if (ferror(f))
        return err_errno(e, ERR_MODEL, errno, "%s cannot be read", path);
    return damaged(e, path, "it ends early");
}

/* Checks 1 and 2; leaves the stream at the data. */
static bool read_header(struct checkpoint *c, FILE *f, uint64_t file_bytes, struct err *e)
{
    unsigned char raw[8];
    uint64_t size = 0;
    if (file_bytes < sizeof raw)
        return damaged(e, c->path, "it is shorter than 8 bytes");
    if (!read_all(f, c->path, raw, sizeof raw, e))
        return false;
    for (int i = 7; i >= 0; i--)
        size = size << 8 | raw[i];
    if (size > CHECKPOINT_MAX_HEADER)
        return damaged(e, c->path, "its header is larger than 1 MiB");
    if (size > file_bytes - sizeof raw)
        return damaged(e, c->path, "its header reaches beyond its end");
    char *text = mem_array((size_t)size + 1, 1, "a model file's header", e);
    bool ok = text && read_all(f, c->path, text, (size_t)size, e) && parse(c, text, (size_t)size, e) &&
              read_tree(c, e);
    free(text);
    if (!ok)
        return false;
    uint64_t data_bytes = file_bytes - sizeof raw - size;
    const char *why = check_cover(c, data_bytes);
    if (why)
        return damaged(e, c->path, why);
    if (data_bytes > MAX_DATA_BYTES)
        return damaged(e, c->path, "it holds more than 4 GiB");
    c->data_bytes = (size_t)data_bytes;
    return true;
}

/* Check 11. */
static bool read_data(struct checkpoint *c, FILE *f, struct err *e)
{
    const char *format = checkpoint_meta_get(c, CHECKPOINT_KEY_FORMAT),
               *digest = checkpoint_meta_get(c, CHECKPOINT_KEY_DIGEST);
    if (!format)
        return damaged(e, c->path, "it does not say " CHECKPOINT_KEY_FORMAT);
    if (strcmp(format, CHECKPOINT_FORMAT) != 0)
        return err_set(e, ERR_MODEL,
                       "%s has model format \"%.32s\", this program reads " CHECKPOINT_FORMAT
                       "; update the program",
                       c->path, format);
    if (!digest)
        return damaged(e, c->path, "it does not say " CHECKPOINT_KEY_DIGEST);
    c->data = mem_array(c->data_bytes, 1, "a model", e);
    if (!c->data || !read_all(f, c->path, c->data, c->data_bytes, e))
        return false;
    file_sha256_buffer(c->data, c->data_bytes, c->digest);
    if (strcmp(c->digest, digest) != 0)
        return damaged(e, c->path, "its data do not match their digest");
    for (int i = 0; i < c->n_tensors; i++)
        c->entries[i].tensor.data = c->data + c->entries[i].from;
    return true;
}

struct checkpoint *checkpoint_open(const char *path, struct err *e)
{
    FILE *f = NULL;
    struct stat st;
    bool ok = false;
    int fd = -1;
    struct checkpoint *c = mem_array(1, sizeof *c, "a model file", e);
    if (!c)
        goto out;
    c->path = mem_strdup(path, e);
    if (!c->path)
        goto out;
    fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a pipe of that name must not block */
    if (fd < 0 || fstat(fd, &st) != 0) {
        err_errno(e, ERR_MODEL, errno, "%s cannot be opened", path);
        goto out;
    }
    if (!S_ISREG(st.st_mode)) {
        err_set(e, ERR_MODEL, "%s is not a file; name a model file", path);
        goto out;
    }
    f = fdopen(fd, "rb");
    if (!f) {
        err_errno(e, ERR_MODEL, errno, "%s cannot be opened", path);
        goto out;
    }
    ok = read_header(c, f, (uint64_t)st.st_size, e) && read_data(c, f, e);
out:
    if (f)
        fclose(f);
    else if (fd >= 0)
        close(fd);
    if (ok)
        return c;
    checkpoint_close(c);
    return NULL;
}

void checkpoint_close(struct checkpoint *c)
{
    if (!c)
        return;
    cJSON_Delete(c->root);
    free(c->entries);
    free(c->by_name);
    free(c->meta);
    free(c->data);
    free(c->path);
    free(c);
}

int checkpoint_count(const struct checkpoint *c)
{
    return c->n_tensors;
}

const struct checkpoint_tensor *checkpoint_at(const struct checkpoint *c, int i)
{
    return &c->entries[i].tensor;
}

const struct checkpoint_tensor *checkpoint_find(const struct checkpoint *c, const char *name)
{
    int low = 0, high = c->n_tensors;
    while (low < high) {
        int middle = low + (high - low) / 2, order = strcmp(c->by_name[middle]->tensor.name, name);
        if (order == 0)
            return &c->by_name[middle]->tensor;
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return NULL;
}

bool checkpoint_copy(const struct checkpoint *c, const char *name, enum checkpoint_dtype dtype, size_t count,
                     void *dst, struct err *e)
{
    const struct checkpoint_tensor *t = checkpoint_find(c, name);
    if (!t)
        return err_set(e, ERR_MODEL, "%s has no tensor %s; it holds another kind of model", c->path, name);
    uint64_t has = 1;
    for (int i = 0; i < t->n_dims; i++)
        has *= (uint64_t)t->dims[i];
    if (t->dtype != dtype || has != count)
        return err_set(e, ERR_MODEL,
                       "%s: tensor %s holds %llu %s, this model needs %zu %s; it holds another kind of model",
                       c->path, name, (unsigned long long)has, checkpoint_dtype_name(t->dtype), count,
                       checkpoint_dtype_name(dtype));
    if (count)
        memcpy(dst, t->data, count * checkpoint_dtype_size(dtype));
    return true;
}

const char *checkpoint_meta_get(const struct checkpoint *c, const char *key)
{
    for (int i = 0; i < c->n_meta; i++)
        if (strcmp(c->meta[i].key, key) == 0)
            return c->meta[i].value;
    return NULL;
}

int checkpoint_meta_count(const struct checkpoint *c)
{
    return c->n_meta;
}

struct checkpoint_meta checkpoint_meta_at(const struct checkpoint *c, int i)
{
    return c->meta[i];
}

const char *checkpoint_digest(const struct checkpoint *c)
{
    return c->digest;
}
