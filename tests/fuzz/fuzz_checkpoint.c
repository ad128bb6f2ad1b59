/* SPDX-License-Identifier: Apache-2.0
 *
 * fuzz_checkpoint.c - libFuzzer target for the reader of model files: any bytes must give a handle or an
 * error, never a crash, a leak or unbounded memory. What is accepted must hold what its table says, so every
 * byte of every tensor is read.
 *
 * The reader opens by name, so the bytes go through a file in memory that is reached by its descriptor's
 * name. Since random bytes never match a digest, the right digest is put in place where the input has the
 * word @DIGEST@. */
#include "models/base/file.h"
#include "models/net/checkpoint.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A copy of the input with its length field made true half of the time and its digest filled in; caller
 * frees. */
static uint8_t *repair(const uint8_t *data, size_t size, size_t *out_size)
{
    static const char mark[] = "@DIGEST@";
    uint8_t *out = malloc(size + 64 + 8);
    if (!out)
        return NULL;
    memcpy(out, data, size);
    *out_size = size;
    if (size < 8 || data[7] != 0xFF) /* 0xFF asks for help; such a length is refused anyway */
        return out;
    uint64_t header = size - 8;
    for (size_t i = 8; i < size; i++)
        if (data[i] == '\n') { /* the first line break ends the header */
            header = i - 8;
            break;
        }
    char hex[65];
    file_sha256_buffer(data + 8 + header, size - 8 - header, hex);
    uint8_t *at = header ? memmem(out + 8, header, mark, sizeof mark - 1) : NULL;
    if (at) {
        memmove(at + 64, at + sizeof mark - 1, size - (size_t)(at - out) - (sizeof mark - 1));
        memcpy(at, hex, 64);
        header += 64 - (sizeof mark - 1);
        *out_size += 64 - (sizeof mark - 1);
    }
    memcpy(out, &header, 8);
    return out;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char path[64];
    size_t n = 0;
    struct err e = {0};
    uint8_t *bytes = repair(data, size, &n);
    int fd = memfd_create("model", MFD_CLOEXEC);
    if (!bytes || fd < 0 || write(fd, bytes, n) != (ssize_t)n)
        abort();
    free(bytes);
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    struct checkpoint *c = checkpoint_open(path, &e);
    if (!c && (e.code == ERR_OK || !e.msg[0]))
        abort(); /* a refusal must say why */
    volatile unsigned sum = 0;
    for (int i = 0; c && i < checkpoint_count(c); i++) {
        static const size_t width[] = {4, 8, 8, 4, 1};
        const struct checkpoint_tensor *t = checkpoint_at(c, i);
        size_t count = width[t->dtype];
        for (int d = 0; d < t->n_dims; d++)
            count *= (size_t)t->dims[d];
        for (size_t j = 0; j < count; j++)
            sum += ((const uint8_t *)t->data)[j];
        if (checkpoint_find(c, t->name) != t)
            abort();
    }
    for (int i = 0; c && i < checkpoint_meta_count(c); i++)
        sum += (unsigned)strlen(checkpoint_meta_at(c, i).value);
    checkpoint_close(c);
    (void)sum;
    close(fd);
    return 0;
}
