/* SPDX-License-Identifier: Apache-2.0
 *
 * checkpoint.c - writes safetensors files (the format's README at huggingface/safetensors, section "Format"):
 *
 *   8 bytes   N, little-endian: length of the header
 *   N bytes   {"__metadata__":{"key":"value"},"name":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]}},
 *             padded with spaces so that the data starts on a multiple of 64 bytes
 *   the rest  tensors, row-major, little-endian, without gaps; offsets count from here
 *
 * Wider numbers come first, so that every tensor lies aligned to its own size whatever the caller's order;
 * among equals the caller's order stays. "aftermap.format" and "aftermap.sha256" are written here, whatever
 * the caller has under these keys. */
#include "models/net/checkpoint_format.h"

#include "models/base/file.h"
#include "models/base/mem.h"

#include <assert.h>
#include <cjson/cJSON.h>
#include <errno.h>
#include <nettle/sha2.h>
#include <stdlib.h>
#include <string.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "tensors are stored as they lie in memory");

static const struct {
    const char *name;
    size_t size;
} dtypes[CHECKPOINT_N_DTYPES] = {
    [CHECKPOINT_F32] = {"F32", 4}, [CHECKPOINT_F64] = {"F64", 8}, [CHECKPOINT_I64] = {"I64", 8},
    [CHECKPOINT_I32] = {"I32", 4}, [CHECKPOINT_U8] = {"U8", 1},
};

const char *checkpoint_dtype_name(enum checkpoint_dtype dtype)
{
    return dtypes[dtype].name;
}

size_t checkpoint_dtype_size(enum checkpoint_dtype dtype)
{
    return dtypes[dtype].size;
}

bool checkpoint_is_own_key(const char *key)
{
    return strcmp(key, CHECKPOINT_KEY_FORMAT) == 0 || strcmp(key, CHECKPOINT_KEY_DIGEST) == 0;
}

size_t checkpoint_utf8_length(const unsigned char *s, size_t n)
{
    size_t length = s[0] < 0x80   ? 1
                    : s[0] < 0xC2 ? 0
                    : s[0] < 0xE0 ? 2
                    : s[0] < 0xF0 ? 3
                    : s[0] < 0xF5 ? 4
                                  : 0;
    if (length == 0 || length > n)
        return 0;
    for (size_t i = 1; i < length; i++)
        if ((s[i] & 0xC0) != 0x80)
            return 0;
    if ((s[0] == 0xE0 && s[1] < 0xA0) || (s[0] == 0xED && s[1] > 0x9F) || (s[0] == 0xF0 && s[1] < 0x90) ||
        (s[0] == 0xF4 && s[1] > 0x8F))
        return 0;
    return length;
}

static size_t tensor_bytes(const struct checkpoint_tensor *t)
{
    size_t bytes = dtypes[t->dtype].size;
    assert(t->n_dims >= 0 && t->n_dims <= 4);
    for (int i = 0; i < t->n_dims; i++) {
        assert(t->dims[i] >= 0);
        bytes *= (size_t)t->dims[i];
    }
    return bytes;
}

/* The order in the file; stable, because the positions break ties. */
struct place {
    const struct checkpoint_tensor *tensor;
    int position;
};

static int by_width(const void *pa, const void *pb)
{
    const struct place *a = pa, *b = pb;
    size_t wa = dtypes[a->tensor->dtype].size, wb = dtypes[b->tensor->dtype].size;
    if (wa != wb)
        return wa > wb ? -1 : 1;
    return a->position - b->position;
}

static void digest_hex(const struct place *places, int n, char hex[65])
{
    struct sha256_ctx ctx;
    uint8_t digest[SHA256_DIGEST_SIZE];
    sha256_init(&ctx);
    for (int i = 0; i < n; i++)
        sha256_update(&ctx, tensor_bytes(places[i].tensor), places[i].tensor->data);
    sha256_digest(&ctx, sizeof digest, digest);
    for (int i = 0; i < SHA256_DIGEST_SIZE; i++) {
        hex[2 * i] = "0123456789abcdef"[digest[i] >> 4];
        hex[2 * i + 1] = "0123456789abcdef"[digest[i] & 15];
    }
    hex[64] = '\0';
}

/* The format wants UTF-8, yet a path may hold any bytes: what is not UTF-8 becomes U+FFFD. */
static bool add_text(cJSON *object, const char *key, const char *value)
{
    size_t n = strlen(value), at = 0;
    char *clean = mem_array(3 * n + 1, 1, "a setting", NULL);
    if (!clean)
        return false;
    for (size_t i = 0; i < n;) {
        size_t length = checkpoint_utf8_length((const unsigned char *)value + i, n - i);
        memcpy(clean + at, length ? value + i : "\xEF\xBF\xBD", length ? length : 3);
        at += length ? length : 3;
        i += length ? length : 1;
    }
    bool ok = cJSON_AddStringToObject(object, key, clean) != NULL;
    free(clean);
    return ok;
}

static bool add_meta(cJSON *root, const struct checkpoint_meta *meta, int n_meta, const char *digest)
{
    cJSON *o = cJSON_AddObjectToObject(root, "__metadata__");
    bool ok = o && cJSON_AddStringToObject(o, CHECKPOINT_KEY_FORMAT, CHECKPOINT_FORMAT) &&
              cJSON_AddStringToObject(o, CHECKPOINT_KEY_DIGEST, digest);
    for (int i = 0; ok && i < n_meta; i++) {
        if (checkpoint_is_own_key(meta[i].key))
            continue;
        assert(!cJSON_GetObjectItemCaseSensitive(o, meta[i].key)); /* one value a key */
        ok = add_text(o, meta[i].key, meta[i].value);
    }
    return ok;
}

static bool add_tensor(cJSON *root, const struct checkpoint_tensor *t, size_t *offset)
{
    assert(strcmp(t->name, "__metadata__") != 0);
    cJSON *o = cJSON_AddObjectToObject(root, t->name);
    bool ok = o && cJSON_AddStringToObject(o, "dtype", dtypes[t->dtype].name);
    cJSON *shape = ok ? cJSON_AddArrayToObject(o, "shape") : NULL;
    ok = shape != NULL;
    for (int i = 0; ok && i < t->n_dims; i++)
        ok = cJSON_AddItemToArray(shape, cJSON_CreateNumber((double)t->dims[i]));
    cJSON *offsets = ok ? cJSON_AddArrayToObject(o, "data_offsets") : NULL;
    ok = offsets && cJSON_AddItemToArray(offsets, cJSON_CreateNumber((double)*offset));
    *offset += tensor_bytes(t);
    return ok && cJSON_AddItemToArray(offsets, cJSON_CreateNumber((double)*offset));
}

/* The JSON header as text, which the caller frees with cJSON_free. */
static char *header_text(const struct place *places, int n, const struct checkpoint_meta *meta, int n_meta,
                         struct err *e)
{
    char digest[65], *text = NULL;
    size_t offset = 0;
    cJSON *root = cJSON_CreateObject();
    digest_hex(places, n, digest);
    bool ok = root && add_meta(root, meta, n_meta, digest);
    for (int i = 0; ok && i < n; i++)
        ok = add_tensor(root, places[i].tensor, &offset);
    if (ok)
        text = cJSON_PrintUnformatted(root);
    if (!text)
        err_set(e, ERR_RESOURCE, "not enough memory for a model file's header");
    cJSON_Delete(root);
    return text;
}

static bool put(FILE *f, const char *path, const void *data, size_t size, struct err *e)
{
    if (size && fwrite(data, 1, size, f) != size)
        return err_errno(e, ERR_RUNTIME, errno, "%s cannot be written", path);
    return true;
}

bool checkpoint_write(const char *path, const struct checkpoint_tensor *tensors, int n_tensors,
                      const struct checkpoint_meta *meta, int n_meta, struct err *e)
{
    static const char spaces[64] = "                                                                ";
    struct file_out *f = NULL;
    char *text = NULL;
    bool ok = false;
    struct place *places = mem_array((size_t)n_tensors, sizeof *places, "a model file's table", e);
    if (!places)
        return false;
    for (int i = 0; i < n_tensors; i++)
        places[i] = (struct place){&tensors[i], i};
    qsort(places, (size_t)n_tensors, sizeof *places, by_width);
    text = header_text(places, n_tensors, meta, n_meta, e);
    if (!text)
        goto out;
    size_t length = strlen(text), pad = (64 - (8 + length) % 64) % 64;
    if (length + pad > CHECKPOINT_MAX_HEADER) {
        err_set(e, ERR_MODEL,
                "%s: the description of the model is larger than 1 MiB; shorten the names and settings",
                path);
        goto out;
    }
    uint64_t header_size = length + pad;
    f = file_out_open(path, e);
    if (!f)
        goto out;
    FILE *stream = file_out_stream(f);
    ok = put(stream, path, &header_size, sizeof header_size, e) && put(stream, path, text, length, e) &&
         put(stream, path, spaces, pad, e);
    for (int i = 0; ok && i < n_tensors; i++)
        ok = put(stream, path, places[i].tensor->data, tensor_bytes(places[i].tensor), e);
    if (ok)
        ok = file_out_commit(f, e);
    else
        file_out_abort(f);
out:
    cJSON_free(text);
    free(places);
    return ok;
}
