/* SPDX-License-Identifier: Apache-2.0
 *
 * imageset_read.c - opens the plain benchmark formats declared in imageset.h.
 *
 *   CIFAR-10 binary   records of 1 label byte and 3072 sample bytes: 32 x 32 red, then green, then blue
 * (Krizhevsky 2009) IDX               LeCun's format: 0, 0, type, number of dimensions, then big-endian
 * 32-bit sizes, then the samples. Images have 3 dimensions [n,h,w] or 4 [n,h,w,c], labels 1 [n]; type 8
 * (unsigned byte) alone is read. Plain or gzip; zlib reads both through one call.
 *
 * A header is hostile until proven: sizes are capped, and compared with what the file could hold at deflate's
 * best ratio (1032:1), before anything is allocated for them. Ownership: a set is filled wholly or not at
 * all. */
#include "models/base/file.h"
#include "models/base/mem.h"
#include "models/data/imageset.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <zlib.h>

enum { CIFAR_SIDE = 32, CIFAR_RECORD = 1 + 3 * 32 * 32, READ_CHUNK = 1 << 20 };
enum { IDX_MAX_ITEMS = 50000000, IDX_BEST_RATIO = 1032, IDX_SLACK = 4096 };

static bool has_prefix(const char *s, const char *prefix)
{
    return strncmp(s, prefix, strlen(prefix)) == 0;
}

bool imageset_is_spec(const char *spec)
{
    return has_prefix(spec, "cifar10:") || has_prefix(spec, "idx:") || has_prefix(spec, "folder:");
}

/* Size of a regular file; a pipe or a folder is refused because its size cannot bound what a header claims.
 */
static bool regular_size(const char *path, uint64_t *bytes, struct err *e)
{
    struct stat st;
    if (stat(path, &st) != 0)
        return err_errno(e, ERR_INPUT, errno, "%s: cannot be opened", path);
    if (!S_ISREG(st.st_mode))
        return err_set(e, ERR_INPUT, "%s: is not a regular file; name the data file itself", path);
    *bytes = (uint64_t)st.st_size;
    return true;
}

static bool cifar_open(struct imageset *set, const char *path, struct err *e)
{
    static const char *const names[10] = {"airplane", "automobile", "bird",  "cat",  "deer",
                                          "dog",      "frog",       "horse", "ship", "truck"};
    const struct imageset_layout layout = {.size = CIFAR_SIDE, .n_dates = 1, .n_bands = 3};
    const size_t plane = (size_t)CIFAR_SIDE * CIFAR_SIDE;
    uint8_t record[CIFAR_RECORD];
    uint64_t bytes;
    FILE *f = NULL;
    bool ok = false;
    if (!regular_size(path, &bytes, e))
        return false;
    if (bytes == 0 || bytes % CIFAR_RECORD != 0)
        return err_set(e, ERR_INPUT,
                       "%s: %llu bytes are not a whole number of CIFAR-10 records of %d bytes; the file is "
                       "truncated or of another format",
                       path, (unsigned long long)bytes, CIFAR_RECORD);
    if (bytes / CIFAR_RECORD > IDX_MAX_ITEMS)
        return err_set(e, ERR_INPUT, "%s: holds more than %d images; cut it into smaller files", path,
                       IDX_MAX_ITEMS);
    f = fopen(path, "rb");
    if (!f)
        return err_errno(e, ERR_INPUT, errno, "%s: cannot be opened", path);
    if (!imageset_alloc(set, (size_t)(bytes / CIFAR_RECORD), &layout, e))
        goto end;
    for (size_t i = 0; i < set->n; i++) {
        uint8_t *px = set->px + i * plane * 3;
        if (fread(record, 1, sizeof record, f) != sizeof record) {
            err_set(e, ERR_INPUT, "%s: ends inside image %zu; the file changed or cannot be read whole", path,
                    i);
            goto end;
        }
        if (record[0] > 9) {
            err_set(
                e, ERR_INPUT,
                "%s: image %zu has label %u but CIFAR-10 labels are 0 to 9; the file is of another format",
                path, i, record[0]);
            goto end;
        }
        set->label[i] = record[0];
        for (size_t p = 0; p < plane; p++)
            for (size_t c = 0; c < 3; c++)
                px[p * 3 + c] = record[1 + c * plane + p];
    }
    set->n_classes = 10;
    for (int c = 0; c < 10; c++)
        snprintf(set->class_name[c], sizeof set->class_name[c], "%s", names[c]);
    ok = file_sha256(path, set->digest, e);
end:
    fclose(f);
    if (!ok)
        imageset_free(set);
    return ok;
}

/* An IDX file opened past its header. */
struct idx {
    const char *path;
    gzFile gz;
    int n_dims;
    uint32_t dim[4];
    uint64_t n_bytes; /* of samples, as claimed and believed */
};

/* zlib puts the path before its reason; we already say it. */
static bool idx_damaged(struct idx *f, struct err *e)
{
    int code;
    const char *why = gzerror(f->gz, &code);
    size_t n = strlen(f->path);
    if (strncmp(why, f->path, n) == 0 && strncmp(why + n, ": ", 2) == 0)
        why += n + 2;
    return err_set(e, ERR_INPUT, "%s: is damaged (%s); fetch the file again", f->path, why);
}

static bool idx_read(struct idx *f, void *out, size_t size, struct err *e)
{
    uint8_t *p = out;
    while (size) {
        unsigned want = size > READ_CHUNK ? READ_CHUNK : (unsigned)size;
        int got = gzread(f->gz, p, want);
        if (got < 0)
            return idx_damaged(f, e);
        if (got == 0)
            return err_set(e, ERR_INPUT,
                           "%s: ends before the samples its header promises; the file is truncated", f->path);
        p += got;
        size -= (size_t)got;
    }
    return true;
}

/* Nothing may follow the samples; reading past the end also makes zlib check the gzip trailer. */
static bool idx_at_end(struct idx *f, struct err *e)
{
    uint8_t extra;
    int code = Z_OK, got = gzread(f->gz, &extra, 1);
    gzerror(f->gz, &code);
    if (got > 0)
        return err_set(e, ERR_INPUT,
                       "%s: goes on after the samples its header promises; the header does not belong to it",
                       f->path);
    if (got < 0 || code != Z_OK)
        return idx_damaged(f, e);
    return true;
}

static bool idx_header(struct idx *f, uint64_t file_bytes, struct err *e)
{
    uint8_t head[4], raw[4];
    uint64_t n_bytes = 1;
    if (!idx_read(f, head, sizeof head, e))
        return false;
    if (head[0] || head[1])
        return err_set(e, ERR_INPUT, "%s: is no IDX file (it does not start with two zero bytes)", f->path);
    if (head[2] != 8)
        return err_set(e, ERR_INPUT, "%s: holds IDX type 0x%02x; only unsigned bytes (0x08) can be read",
                       f->path, head[2]);
    if (head[3] < 1 || head[3] > 4)
        return err_set(e, ERR_INPUT, "%s: has %u dimensions; labels have 1, images 3 or 4", f->path, head[3]);
    f->n_dims = head[3];
    for (int d = 0; d < f->n_dims; d++) {
        if (!idx_read(f, raw, sizeof raw, e))
            return false;
        f->dim[d] = (uint32_t)raw[0] << 24 | (uint32_t)raw[1] << 16 | (uint32_t)raw[2] << 8 | raw[3];
        if (f->dim[d] == 0)
            return err_set(e, ERR_INPUT, "%s: dimension %d is empty", f->path, d + 1);
        if (__builtin_mul_overflow(n_bytes, (uint64_t)f->dim[d], &n_bytes))
            n_bytes = UINT64_MAX;
    }
    if (f->dim[0] > IDX_MAX_ITEMS || n_bytes > file_bytes * IDX_BEST_RATIO + IDX_SLACK)
        return err_set(
            e, ERR_INPUT,
            "%s: its header promises more samples (%u items) than %llu bytes can hold; the header is "
            "corrupt",
            f->path, f->dim[0], (unsigned long long)file_bytes);
    f->n_bytes = n_bytes;
    return true;
}

static bool idx_open(struct idx *f, const char *path, struct err *e)
{
    uint64_t file_bytes;
    *f = (struct idx){.path = path};
    if (!regular_size(path, &file_bytes, e))
        return false;
    f->gz = gzopen(path, "rb");
    if (!f->gz)
        return err_errno(e, ERR_INPUT, errno, "%s: cannot be opened", path);
    gzbuffer(f->gz, 1 << 17);
    return idx_header(f, file_bytes, e);
}

static void idx_close(struct idx *f)
{
    if (f->gz)
        gzclose_r(f->gz);
    f->gz = NULL;
}

static bool idx_images(struct imageset *set, struct idx *f, struct err *e)
{
    const int side = (int)f->dim[1], bands = f->n_dims == 4 ? (int)f->dim[3] : 1;
    const int size = (side + 3) / 4 * 4, before = (size - side) / 2;
    const struct imageset_layout layout = {.size = size, .n_dates = 1, .n_bands = bands};
    const size_t image = (size_t)side * side * bands;
    uint8_t *raw;
    bool ok = false;
    if (!imageset_alloc(set, f->dim[0], &layout, e))
        return false;
    raw = mem_array(image, 1, "one image", e);
    for (size_t i = 0; raw && i < set->n; i++) {
        uint8_t *px = set->px + i * (size_t)size * size * bands;
        if (!idx_read(f, raw, image, e))
            goto end;
        for (int y = 0; y < size; y++)
            for (int x = 0; x < size; x++) {
                int sy = y - before, sx = x - before;
                sy = sy < 0 ? 0 : sy >= side ? side - 1 : sy;
                sx = sx < 0 ? 0 : sx >= side ? side - 1 : sx;
                memcpy(px + ((size_t)y * size + x) * bands, raw + ((size_t)sy * side + sx) * bands,
                       (size_t)bands);
            }
    }
    ok = raw && idx_at_end(f, e);
end:
    free(raw);
    return ok;
}

static bool idx_labels(struct imageset *set, struct idx *f, struct err *e)
{
    uint8_t *raw = mem_array(f->dim[0], 1, "the labels", e);
    bool ok = raw && idx_read(f, raw, f->dim[0], e) && idx_at_end(f, e);
    for (size_t i = 0; ok && i < set->n; i++) {
        set->label[i] = raw[i];
        if (raw[i] >= set->n_classes)
            set->n_classes = raw[i] + 1;
    }
    for (int c = 0; ok && c < set->n_classes && c < 64; c++)
        snprintf(set->class_name[c], sizeof set->class_name[c], "%d", c);
    free(raw);
    return ok;
}

static bool idx_shapes(const struct idx *images, const struct idx *labels, struct err *e)
{
    if (images->n_dims < 3)
        return err_set(e, ERR_INPUT,
                       "%s: has %d dimensions; images have 3 or 4 (give IMAGES,LABELS in this order)",
                       images->path, images->n_dims);
    if (images->dim[1] != images->dim[2] || images->dim[1] > IMAGESET_MAX_SIZE)
        return err_set(e, ERR_INPUT,
                       "%s: images of %u x %u pixels cannot be used; they must be square, at most %d a side",
                       images->path, images->dim[2], images->dim[1], IMAGESET_MAX_SIZE);
    if (images->n_dims == 4 && images->dim[3] > IMAGESET_MAX_BANDS)
        return err_set(e, ERR_INPUT, "%s: images of %u bands cannot be used; %d is the most", images->path,
                       images->dim[3], IMAGESET_MAX_BANDS);
    if (labels->n_dims != 1)
        return err_set(e, ERR_INPUT,
                       "%s: has %d dimensions; labels have 1 (give IMAGES,LABELS in this order)",
                       labels->path, labels->n_dims);
    if (images->dim[0] != labels->dim[0])
        return err_set(e, ERR_INPUT,
                       "%s holds %u images but %s holds %u labels; the files do not belong together",
                       images->path, images->dim[0], labels->path, labels->dim[0]);
    return true;
}

static bool idx_pair_open(struct imageset *set, const char *paths, struct err *e)
{
    const char *comma = strrchr(paths, ',');
    struct idx images = {.gz = NULL}, labels = {.gz = NULL};
    char *image_path = NULL, hex[2][65], both[129];
    bool ok = false;
    if (!comma || comma == paths || !comma[1])
        return err_set(e, ERR_USAGE, "idx:%s: needs two files, idx:IMAGES,LABELS", paths);
    image_path = mem_strdup(paths, e);
    if (!image_path)
        return false;
    image_path[comma - paths] = '\0';
    if (!idx_open(&images, image_path, e) || !idx_open(&labels, comma + 1, e) ||
        !idx_shapes(&images, &labels, e))
        goto end;
    if (!idx_images(set, &images, e) || !idx_labels(set, &labels, e))
        goto end;
    if (!file_sha256(image_path, hex[0], e) || !file_sha256(comma + 1, hex[1], e))
        goto end;
    snprintf(both, sizeof both, "%s%s", hex[0], hex[1]);
    file_sha256_buffer(both, strlen(both), set->digest);
    ok = true;
end:
    idx_close(&images);
    idx_close(&labels);
    free(image_path);
    if (!ok)
        imageset_free(set);
    return ok;
}

bool imageset_open(struct imageset *set, const char *spec, double test_share, uint64_t seed, struct err *e)
{
    bool ok;
    memset(set, 0, sizeof *set);
    char *path = mem_strdup(spec, e);
    if (!path)
        return false;
    path[imageset_spec_length(spec)] = '\0';
    if (has_prefix(path, "cifar10:"))
        ok = cifar_open(set, path + strlen("cifar10:"), e);
    else if (has_prefix(path, "idx:"))
        ok = idx_pair_open(set, path + strlen("idx:"), e);
    else
        ok = err_set(e, ERR_USAGE, "%s: is neither cifar10:FILE nor idx:IMAGES,LABELS", spec);
    free(path);
    if (!ok)
        return false;
    snprintf(set->source, sizeof set->source, "%s", spec);
    for (size_t i = 0; i < set->n; i++)
        set->id[i] = (int64_t)i;
    if (imageset_shape(set, spec, e) && imageset_split_random(set, test_share, seed, e))
        return true;
    imageset_free(set);
    return false;
}
