/* SPDX-License-Identifier: Apache-2.0
 *
 * mapping_cog.c - the file declared in mapping_cog.h, through libtiff.
 *
 *   header, GDAL's note on the layout, directories from full size down, their tables of tiles,
 *   tiles of the smallest overview, ..., tiles of the full size, each between its size and its last 4 bytes
 *
 * GDAL's COG driver can only copy a finished raster, all of whose pixels it decodes, looks at and encodes: for a
 * county that is minutes for gigabytes of nothing. Here directories are laid out first (TIFFDeferStrileArrayWriting),
 * with room for the tables, and tiles are appended as they are made. What GDAL knows best, the keys of the coordinate
 * system and its own metadata, it writes into a small file beside, whose tags are copied. One thread at a time. */
#include "geo/mapping_cog.h"

#include "geo/tiff_quiet.h"
#include "models/base/file.h"
#include "models/base/mem.h"
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Tags that libtiff does not know by itself (GeoTIFF 1.1 section 7; GDAL's GTiff driver). */
static const TIFFFieldInfo fields[] = {
    {33550, -1, -1, TIFF_DOUBLE, FIELD_CUSTOM, 1, 1, (char *)"GeoPixelScale"},
    {33922, -1, -1, TIFF_DOUBLE, FIELD_CUSTOM, 1, 1, (char *)"GeoTiePoints"},
    {34264, -1, -1, TIFF_DOUBLE, FIELD_CUSTOM, 1, 1, (char *)"GeoTransformationMatrix"},
    {34735, -1, -1, TIFF_SHORT, FIELD_CUSTOM, 1, 1, (char *)"GeoKeyDirectory"},
    {34736, -1, -1, TIFF_DOUBLE, FIELD_CUSTOM, 1, 1, (char *)"GeoDoubleParams"},
    {34737, -1, -1, TIFF_ASCII, FIELD_CUSTOM, 1, 0, (char *)"GeoASCIIParams"},
    {42112, -1, -1, TIFF_ASCII, FIELD_CUSTOM, 1, 0, (char *)"GDALMetadata"},
    {42113, -1, -1, TIFF_ASCII, FIELD_CUSTOM, 1, 0, (char *)"GDALNoDataValue"},
};
enum { N_FIELDS = sizeof fields / sizeof *fields, NODATA_TAG = 42113 };

struct cog {
    TIFF *tif;
    char *path;
    int width, height, n_levels, level;
    bool has_tiles; /* of this level */
    char why[TIFF_WHY_SIZE];
};

int cog_level_side(int side, int level)
{
    for (; level > 0; level--)
        side = (side + 1) / 2;
    return side;
}

int cog_count_levels(int width, int height)
{
    int n = 1;
    while (cog_level_side(width, n - 1) > COG_TILE_PX || cog_level_side(height, n - 1) > COG_TILE_PX)
        n++;
    return n;
}

static bool failed(struct cog *c, struct err *e)
{
    if (errno)
        return err_errno(e, ERR_RUNTIME, errno, "%s cannot be written", file_base(c->path));
    return err_set(e, ERR_RUNTIME, "%s cannot be written: %s", file_base(c->path), c->why);
}

/* Copies one tag where it is set; how its values are passed depends on who taught libtiff the tag. */
static bool copy_tag(TIFF *in, TIFF *out, uint32_t tag)
{
    const TIFFField *from = TIFFFindField(in, tag, TIFF_ANY), *to = TIFFFindField(out, tag, TIFF_ANY);
    void *data = NULL;
    uint32_t n = 0;
    uint16_t n_short = 0;
    int got;
    if (!from || !to)
        return to || !from;
    if (!TIFFFieldPassCount(from))
        got = TIFFGetField(in, tag, &data);
    else if (TIFFFieldReadCount(from) == TIFF_VARIABLE2)
        got = TIFFGetField(in, tag, &n, &data);
    else
        got = TIFFGetField(in, tag, &n_short, &data);
    n = n ? n : n_short;
    if (!got || !data)
        return true;
    if (!TIFFFieldPassCount(to))
        return TIFFSetField(out, tag, data);
    return TIFFFieldWriteCount(to) == TIFF_VARIABLE2 ? TIFFSetField(out, tag, n, data)
                                                     : TIFFSetField(out, tag, (int)n, data);
}

/* What every directory says of its pixels. */
static bool copy_form(TIFF *in, TIFF *out)
{
    static const uint32_t shorts[] = {TIFFTAG_BITSPERSAMPLE, TIFFTAG_SAMPLESPERPIXEL, TIFFTAG_SAMPLEFORMAT,
                                      TIFFTAG_PHOTOMETRIC};
    uint16_t v, n, *extra, *color[3];
    bool ok = true;
    for (size_t i = 0; ok && i < sizeof shorts / sizeof *shorts; i++)
        ok = !TIFFGetField(in, shorts[i], &v) || TIFFSetField(out, shorts[i], (int)v);
    if (ok && TIFFGetField(in, TIFFTAG_EXTRASAMPLES, &n, &extra) && n)
        ok = TIFFSetField(out, TIFFTAG_EXTRASAMPLES, (int)n, extra);
    if (ok && TIFFGetField(in, TIFFTAG_COLORMAP, &color[0], &color[1], &color[2]))
        ok = TIFFSetField(out, TIFFTAG_COLORMAP, color[0], color[1], color[2]);
    return ok && copy_tag(in, out, NODATA_TAG);
}

static bool write_directory(struct cog *c, TIFF *in, int level)
{
    TIFF *out = c->tif;
    bool ok = (level == 0 || TIFFSetField(out, TIFFTAG_SUBFILETYPE, FILETYPE_REDUCEDIMAGE)) &&
              TIFFSetField(out, TIFFTAG_IMAGEWIDTH, (uint32_t)cog_level_side(c->width, level)) &&
              TIFFSetField(out, TIFFTAG_IMAGELENGTH, (uint32_t)cog_level_side(c->height, level)) &&
              copy_form(in, out) && TIFFSetField(out, TIFFTAG_PLANARCONFIG, PLANARCONFIG_CONTIG) &&
              TIFFSetField(out, TIFFTAG_COMPRESSION, COMPRESSION_ADOBE_DEFLATE) &&
              TIFFSetField(out, TIFFTAG_TILEWIDTH, (uint32_t)COG_TILE_PX) &&
              TIFFSetField(out, TIFFTAG_TILELENGTH, (uint32_t)COG_TILE_PX);
    for (int i = 0; ok && level == 0 && i < N_FIELDS; i++)
        ok = copy_tag(in, out, fields[i].field_tag);
    if (ok && level == 0)
        ok = copy_tag(in, out, TIFFTAG_IMAGEDESCRIPTION) && copy_tag(in, out, TIFFTAG_SOFTWARE);
    return ok && TIFFDeferStrileArrayWriting(out) && TIFFWriteCheck(out, 1, "cog") && TIFFWriteDirectory(out);
}

/* The note by which GDAL knows the layout and may fetch a tile in one request: its size stands before it, its last
 * bytes are repeated behind it. The note's last byte is room for turning NO into YES. */
static bool write_note(struct cog *c, bool is_big)
{
    static const char body[] = "LAYOUT=IFDS_BEFORE_DATA\nBLOCK_ORDER=ROW_MAJOR\nBLOCK_LEADER=SIZE_AS_UINT4\n"
                               "BLOCK_TRAILER=LAST_4_BYTES_REPEATED\nKNOWN_INCOMPATIBLE_EDITION=NO\n ";
    char note[256];
    int n = snprintf(note, sizeof note, "GDAL_STRUCTURAL_METADATA_SIZE=%06d bytes\n%s", (int)sizeof body - 1,
                     body);
    return pwrite(TIFFFileno(c->tif), note, (size_t)n, is_big ? 16 : 8) == n;
}

/* Sizes above which 32-bit offsets might not do, as GDAL judges it: by the pixels before compression. */
static bool wants_big(const struct cog *c, TIFF *in)
{
    uint16_t bits = 8, samples = 1;
    TIFFGetFieldDefaulted(in, TIFFTAG_BITSPERSAMPLE, &bits);
    TIFFGetFieldDefaulted(in, TIFFTAG_SAMPLESPERPIXEL, &samples);
    return (double)c->width * c->height * samples * (bits / 8.0) > 2e9;
}

static bool lay_out(struct cog *c, TIFF *in)
{
    const bool is_big = wants_big(c, in);
    bool ok = (c->tif = tiff_open_quiet(c->path, is_big ? "w8" : "w", c->why, 0)) && write_note(c, is_big) &&
              TIFFMergeFieldInfo(c->tif, fields, N_FIELDS) == 0;
    for (int level = 0; ok && level < c->n_levels; level++)
        ok = write_directory(c, in, level);
    if (c->tif)
        TIFFClose(c->tif);
    c->tif = ok ? tiff_open_quiet(c->path, "r+", c->why, 0) : NULL;
    for (int level = 0; c->tif && ok && level < c->n_levels; level++)
        ok = TIFFSetDirectory(c->tif, (tdir_t)level) && TIFFForceStrileArrayWriting(c->tif);
    return ok && c->tif;
}

struct cog *cog_create(const char *path, const char *like, int width, int height, struct err *e)
{
    struct cog *c = mem_array(1, sizeof *c, "a raster", e);
    if (!c)
        return NULL;
    *c = (struct cog){
        .width = width, .height = height, .n_levels = cog_count_levels(width, height), .level = -1};
    assert(c->n_levels <= COG_LEVELS_MAX);
    if (!(c->path = mem_strdup(path, e))) {
        cog_abort(c);
        return NULL;
    }
    errno = 0;
    char why[TIFF_WHY_SIZE];
    TIFF *in = tiff_open_quiet(like, "r", why, 0);
    bool ok = in && lay_out(c, in);
    if (!in)
        snprintf(c->why, sizeof c->why, "%s", why);
    if (in)
        TIFFClose(in);
    if (ok)
        return c;
    failed(c, e);
    cog_abort(c);
    return NULL;
}

void cog_abort(struct cog *c)
{
    if (!c)
        return;
    if (c->tif)
        TIFFClose(c->tif);
    free(c->path);
    free(c);
}

/* Puts the level's table of tiles in its place. */
static bool end_level(struct cog *c)
{
    bool ok = !c->has_tiles || TIFFForceStrileArrayWriting(c->tif);
    c->has_tiles = false;
    return ok;
}

bool cog_begin_level(struct cog *c, int level, struct err *e)
{
    assert(level >= 0 && level < c->n_levels && (c->level < 0 || level < c->level));
    errno = 0;
    c->level = level;
    return end_level(c) && TIFFSetDirectory(c->tif, (tdir_t)level) ? true : failed(c, e);
}

static bool append(struct cog *c, const uint8_t bytes[4])
{
    const int fd = TIFFFileno(c->tif);
    off_t end = lseek(fd, 0, SEEK_END);
    return end >= 0 && pwrite(fd, bytes, 4, end) == 4;
}

/* libtiff appends a new tile at the end of the file, wherever that is. */
bool cog_write_tile(struct cog *c, int column, int row, const uint8_t *stream, size_t n, struct err *e)
{
    const uint32_t columns = (uint32_t)((cog_level_side(c->width, c->level) + COG_TILE_PX - 1) / COG_TILE_PX);
    const uint8_t leader[4] = {(uint8_t)n, (uint8_t)(n >> 8), (uint8_t)(n >> 16), (uint8_t)(n >> 24)};
    assert(n >= 4 && n < UINT32_MAX);
    errno = 0;
    c->has_tiles = true;
    bool ok = append(c, leader) &&
              TIFFWriteRawTile(c->tif, (uint32_t)row * columns + (uint32_t)column, (void *)(uintptr_t)stream,
                               (tmsize_t)n) == (tmsize_t)n &&
              append(c, stream + n - 4);
    return ok ? true : failed(c, e);
}

bool cog_finish(struct cog *c, struct err *e)
{
    errno = 0;
    bool ok = end_level(c) ? true : failed(c, e);
    cog_abort(c);
    return ok;
}
