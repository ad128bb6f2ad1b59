/* SPDX-License-Identifier: Apache-2.0
 *
 * chips.c - the chip store declared in chips.h, through libtiff.
 *
 * A page is one strip of 8-bit interleaved samples, horizontally differenced and compressed with Zstandard at
 * its fastest level where this libtiff has it, else Deflate. The first sample is the grey channel as TIFF
 * sees it, the others are tagged as extra samples, so any TIFF tool opens a page.
 *
 * A TIFF's pages form a linked list, and libtiff walks it to reach page i. The reader walks it once by itself
 * when the store is opened, keeps the offsets, and then jumps (TIFFSetSubDirectory). The walk trusts nothing:
 * the header, each offset and the number of pages are checked, and it ends after n_pages however the list may
 * loop.
 *
 *   header  "II" or "MM", 43, 8, 0, offset of page 0 (8 bytes)
 *   page    number of entries (8), entries (20 each), offset of the next page (8; 0 ends)
 *
 * Threads: each decoding thread has its own TIFF handle, opened at first use and kept. */
#include "geo/chips.h"

#include "geo/tiff_quiet.h"
#include "models/base/mem.h"
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { READ_THREADS_MAX = 16, READ_SHARD = 32, ENTRIES_MAX = 64 };

struct chips_writer {
    TIFF *tif;
    char *path;
    struct imageset_layout layout;
    uint8_t *row_copy; /* libtiff differences in place */
    char why[TIFF_WHY_SIZE];
};

struct chips {
    char *path;
    struct imageset_layout layout;
    size_t n_pages;
    uint64_t *offset; /* [n_pages] */
    TIFF *tif[READ_THREADS_MAX];
    char why[READ_THREADS_MAX][TIFF_WHY_SIZE];
};

static size_t page_bytes(const struct imageset_layout *l)
{
    return (size_t)l->size * (size_t)l->size * (size_t)imageset_stored_channels(l);
}

/* ---- writing
 * ----------------------------------------------------------------------------------------------------------
 */

struct chips_writer *chips_create(const char *path, const struct imageset_layout *l, struct err *e)
{
    struct chips_writer *w = mem_array(1, sizeof *w, "the chip store", e);
    if (!w)
        return NULL;
    w->layout = *l;
    w->path = mem_strdup(path, e);
    w->row_copy = mem_array(page_bytes(l), 1, "a chip", e);
    if (w->path && w->row_copy) {
        errno = 0;
        w->tif = tiff_open_quiet(path, "w8", w->why, 0);
        if (w->tif)
            return w;
        if (errno)
            err_errno(e, ERR_RUNTIME, errno, "%s cannot be written", path);
        else
            err_set(e, ERR_RUNTIME, "%s cannot be written: %s", path, w->why);
    }
    chips_abort(w);
    return NULL;
}

void chips_abort(struct chips_writer *w)
{
    if (!w)
        return;
    if (w->tif)
        TIFFClose(w->tif);
    free(w->path);
    free(w->row_copy);
    free(w);
}

static bool write_failed(struct chips_writer *w, struct err *e)
{
    if (errno)
        return err_errno(e, ERR_RUNTIME, errno, "%s cannot be written", w->path);
    return err_set(e, ERR_RUNTIME, "%s cannot be written: %s", w->path, w->why);
}

bool chips_append(struct chips_writer *w, const uint8_t *px, struct err *e)
{
    const struct imageset_layout *l = &w->layout;
    int channels = imageset_stored_channels(l);
    uint16_t extra[64] = {EXTRASAMPLE_UNSPECIFIED};
    assert(channels >= 1 && channels <= 64);
    bool zstd = TIFFIsCODECConfigured(COMPRESSION_ZSTD) == 1;
    errno = 0;
    bool ok =
        TIFFSetField(w->tif, TIFFTAG_SUBFILETYPE, FILETYPE_PAGE) &&
        TIFFSetField(w->tif, TIFFTAG_IMAGEWIDTH, (uint32_t)l->size) &&
        TIFFSetField(w->tif, TIFFTAG_IMAGELENGTH, (uint32_t)l->size) &&
        TIFFSetField(w->tif, TIFFTAG_BITSPERSAMPLE, 8) &&
        TIFFSetField(w->tif, TIFFTAG_SAMPLESPERPIXEL, channels) &&
        TIFFSetField(w->tif, TIFFTAG_PLANARCONFIG, PLANARCONFIG_CONTIG) &&
        TIFFSetField(w->tif, TIFFTAG_PHOTOMETRIC, PHOTOMETRIC_MINISBLACK) &&
        (channels == 1 || TIFFSetField(w->tif, TIFFTAG_EXTRASAMPLES, channels - 1, extra)) &&
        TIFFSetField(w->tif, TIFFTAG_COMPRESSION, zstd ? COMPRESSION_ZSTD : COMPRESSION_ADOBE_DEFLATE) &&
        TIFFSetField(w->tif, zstd ? TIFFTAG_ZSTD_LEVEL : TIFFTAG_ZIPQUALITY, 1) &&
        TIFFSetField(w->tif, TIFFTAG_PREDICTOR, PREDICTOR_HORIZONTAL) &&
        TIFFSetField(w->tif, TIFFTAG_ROWSPERSTRIP, (uint32_t)l->size);
    memcpy(w->row_copy, px, page_bytes(l));
    ok = ok &&
         TIFFWriteEncodedStrip(w->tif, 0, w->row_copy, (tmsize_t)page_bytes(l)) == (tmsize_t)page_bytes(l) &&
         TIFFWriteDirectory(w->tif);
    return ok ? true : write_failed(w, e);
}

bool chips_finish(struct chips_writer *w, struct err *e)
{
    bool ok = true;
    errno = 0;
    if (!TIFFFlush(w->tif) || fsync(TIFFFileno(w->tif)) != 0)
        ok = write_failed(w, e);
    chips_abort(w);
    return ok;
}

/* ---- reading
 * ----------------------------------------------------------------------------------------------------------
 */

static bool pread_all(int fd, void *buf, size_t n, uint64_t at)
{
    return at <= INT64_MAX && pread(fd, buf, n, (off_t)at) == (ssize_t)n;
}

static uint64_t u64_of(const uint8_t *b, bool little)
{
    uint64_t v = 0;
    for (int i = 0; i < 8; i++)
        v = v << 8 | b[little ? 7 - i : i];
    return v;
}

static bool walk(struct chips *c, int fd, struct err *e)
{
    uint8_t b[16];
    if (!pread_all(fd, b, 16, 0) ||
        (memcmp(b, "II\x2b\0\x08\0\0\0", 8) != 0 && memcmp(b, "MM\0\x2b\0\x08\0\0", 8) != 0))
        return err_set(e, ERR_INPUT,
                       "%s is no chip store (not a BigTIFF); make the event again with aftermap tile",
                       c->path);
    bool little = b[0] == 'I';
    uint64_t at = u64_of(b + 8, little);
    for (size_t i = 0; i < c->n_pages; i++) {
        c->offset[i] = at;
        uint64_t n = 0;
        bool ok = at >= 16 && pread_all(fd, b, 8, at);
        if (ok) {
            n = u64_of(b, little);
            ok = n >= 1 && n <= ENTRIES_MAX && pread_all(fd, b, 8, at + 8 + 20 * n);
        }
        if (!ok)
            return err_set(e, ERR_INPUT,
                           "%s is truncated or corrupt: page %zu of %zu is missing; make the event again "
                           "with aftermap tile",
                           c->path, i, c->n_pages);
        at = u64_of(b, little);
    }
    return at == 0 ? true
                   : err_set(e, ERR_INPUT,
                             "%s holds more than the %zu pages its event lists; make the event again with "
                             "aftermap tile",
                             c->path, c->n_pages);
}

struct chips *chips_open(const char *path, const struct imageset_layout *l, size_t n_pages, struct err *e)
{
    struct stat st;
    struct chips *c = mem_array(1, sizeof *c, "the chip store", e);
    int fd = -1;
    if (!c)
        return NULL;
    c->layout = *l;
    c->n_pages = n_pages;
    c->path = mem_strdup(path, e);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    bool ok = c->path != NULL;
    if (ok && (fd < 0 || fstat(fd, &st) != 0))
        ok = err_errno(e, ERR_INPUT, errno, "%s cannot be read", path);
    if (ok && (!S_ISREG(st.st_mode) ||
               (uint64_t)st.st_size / 36 < n_pages)) /* 36 bytes: the smallest page there is */
        ok = err_set(e, ERR_INPUT,
                     "%s is too small for the %zu chips its event lists; make the event again with "
                     "aftermap tile",
                     path, n_pages);
    ok = ok && (c->offset = mem_array(n_pages, sizeof *c->offset, "the index of chips", e)) && walk(c, fd, e);
    if (fd >= 0)
        close(fd);
    if (ok)
        return c;
    chips_close(c);
    return NULL;
}

void chips_close(struct chips *c)
{
    if (!c)
        return;
    for (int i = 0; i < READ_THREADS_MAX; i++)
        if (c->tif[i])
            TIFFClose(c->tif[i]);
    free(c->offset);
    free(c->path);
    free(c);
}

/* One page by one handle. False leaves the reason in c->why[t] ("" when the page's shape is not the event's).
 */
static bool read_page(struct chips *c, int t, int64_t page, uint8_t *px)
{
    uint32_t w = 0, h = 0;
    uint16_t bits = 0, samples = 0, planar = 0;
    tmsize_t n = (tmsize_t)page_bytes(&c->layout);
    if (!c->tif[t]) /* m: not mapped into memory, where a handle of each thread would hold the whole file */
        c->tif[t] = tiff_open_quiet(c->path, "rm", c->why[t], (size_t)64 << 20);
    c->why[t][0] = '\0';
    TIFF *tif = c->tif[t];
    if (!tif || !TIFFSetSubDirectory(tif, c->offset[page]))
        return false;
    TIFFGetField(tif, TIFFTAG_IMAGEWIDTH, &w);
    TIFFGetField(tif, TIFFTAG_IMAGELENGTH, &h);
    TIFFGetFieldDefaulted(tif, TIFFTAG_BITSPERSAMPLE, &bits);
    TIFFGetFieldDefaulted(tif, TIFFTAG_SAMPLESPERPIXEL, &samples);
    TIFFGetFieldDefaulted(tif, TIFFTAG_PLANARCONFIG, &planar);
    if (w != (uint32_t)c->layout.size || h != w || bits != 8 ||
        samples != imageset_stored_channels(&c->layout) || planar != PLANARCONFIG_CONTIG ||
        TIFFIsTiled(tif) || TIFFNumberOfStrips(tif) != 1)
        return false;
    return TIFFReadEncodedStrip(tif, 0, px, n) == n;
}

bool chips_read(struct chips *c, const int64_t *pages, size_t n, uint8_t *px, struct err *e)
{
    const size_t bytes = page_bytes(&c->layout);
    const size_t n_shards = (n + READ_SHARD - 1) / READ_SHARD;
    int n_threads = omp_get_max_threads();
    n_threads = n_threads > READ_THREADS_MAX ? READ_THREADS_MAX : n_threads;
    if ((size_t)n_threads > n_shards)
        n_threads = n_shards ? (int)n_shards : 1;
    size_t bad = SIZE_MAX; /* the first page that failed, so that the message depends on no thread */
    char why[TIFF_WHY_SIZE] = "";
#pragma omp parallel for num_threads(n_threads) schedule(static)
    for (size_t s = 0; s < n_shards; s++)
        for (size_t i = s * READ_SHARD; i < n && i < (s + 1) * READ_SHARD; i++) {
            int t = omp_get_thread_num();
            assert(pages[i] >= 0 && (size_t)pages[i] < c->n_pages);
            if (read_page(c, t, pages[i], px + i * bytes))
                continue;
#pragma omp critical(chips_read)
            if (i < bad) {
                bad = i;
                memcpy(why, c->why[t], sizeof why);
            }
        }
    if (bad == SIZE_MAX)
        return true;
    return err_set(e, ERR_INPUT, "%s: chip %lld cannot be read (%s); make the event again with aftermap tile",
                   c->path, (long long)pages[bad], *why ? why : "its size is not what the event says");
}
