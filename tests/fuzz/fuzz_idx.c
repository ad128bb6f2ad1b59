/* SPDX-License-Identifier: Apache-2.0
 *
 * fuzz_idx.c - libFuzzer target for the image set readers (models/data/imageset_read.c): whatever the bytes,
 * imageset_open either fills a whole, consistent set or fails with a sentence and an empty set.
 *
 * Input: byte 0 odd = one CIFAR-10 file of the rest; even = IDX: bytes 1-2 (big-endian) the length of the
 * images file, then that file, then the labels file. The files live in memory (memfd), so nothing is written
 * to disk. Build with -fsanitize=fuzzer,address,undefined. */
#include "models/data/imageset.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int memory_file(const uint8_t *data, size_t size)
{
    int fd = memfd_create("fuzz", MFD_CLOEXEC);
    if (fd < 0 || write(fd, data, size) != (ssize_t)size)
        abort();
    return fd;
}

static void check(bool ok, const struct imageset *set, const struct err *e)
{
    if (!ok) {
        if (set->px || set->label || set->n || e->code == ERR_OK || !e->msg[0])
            abort();
        return;
    }
    const size_t n_samples = set->n * (size_t)set->layout.size * (size_t)set->layout.size *
                             (size_t)imageset_stored_channels(&set->layout);
    unsigned sum = 0;
    for (size_t i = 0; i < n_samples; i++)
        sum += set->px[i];
    if (set->n == 0 || set->n_classes < 1 || sum > 255u * n_samples)
        abort();
    for (size_t i = 0; i < set->n; i++)
        if (set->label[i] < 0 || set->label[i] >= set->n_classes || set->split[i] > IMAGESET_TEST)
            abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct imageset set;
    struct err e = {.code = ERR_OK};
    char spec[128];
    int fd[2] = {-1, -1};
    if (size < 3 || size > 1 << 16)
        return 0;
    if (data[0] & 1) {
        fd[0] = memory_file(data + 1, size - 1);
        snprintf(spec, sizeof spec, "cifar10:/proc/self/fd/%d", fd[0]);
    } else {
        size_t n = (size_t)data[1] << 8 | data[2], rest = size - 3;
        n = n > rest ? rest : n;
        fd[0] = memory_file(data + 3, n);
        fd[1] = memory_file(data + 3 + n, rest - n);
        snprintf(spec, sizeof spec, "idx:/proc/self/fd/%d,/proc/self/fd/%d", fd[0], fd[1]);
    }
    bool ok = imageset_open(&set, spec, 0.3, 1, &e);
    check(ok, &set, &e);
    imageset_free(&set);
    for (int k = 0; k < 2; k++)
        if (fd[k] >= 0)
            close(fd[k]);
    return 0;
}
