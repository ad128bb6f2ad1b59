/* SPDX-License-Identifier: Apache-2.0
 * picture.c - PNG through GDAL's driver, which is registered anyway (picture.h). */
#include "web/picture.h"

#include "models/base/mem.h"
#include <cpl_vsi.h>
#include <gdal.h>
#include <math.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool picture_png(const uint8_t *px, int width, int height, int channels, char **png, size_t *size,
                 struct err *e)
{
    static atomic_ullong count;
    char name[80], *options[] = {(char[]){"ZLEVEL=1"}, NULL};
    vsi_l_offset n = 0;
    GDALDatasetH copy = NULL;
    *png = NULL;
    *size = 0;
    snprintf(name, sizeof name, "/vsimem/aftermap-picture-%llu.png", atomic_fetch_add(&count, 1));
    GDALDatasetH mem = GDALCreate(GDALGetDriverByName("MEM"), "", width, height, channels, GDT_Byte, NULL);
    if (mem && GDALDatasetRasterIO(mem, GF_Write, 0, 0, width, height, (void *)(uintptr_t)px, width, height,
                                   GDT_Byte, channels, NULL, channels, width * channels, 1) == CE_None)
        copy = GDALCreateCopy(GDALGetDriverByName("PNG"), name, mem, FALSE, options, NULL, NULL);
    if (copy)
        GDALClose(copy);
    if (mem)
        GDALClose(mem);
    GByte *bytes = copy ? VSIGetMemFileBuffer(name, &n, TRUE) : NULL;
    *png = bytes && n ? malloc((size_t)n) : NULL;
    if (*png) {
        memcpy(*png, bytes, (size_t)n);
        *size = (size_t)n;
    } else {
        err_set(e, ERR_RESOURCE, "a picture cannot be written as PNG");
    }
    VSIFree(bytes);
    return *png != NULL;
}

/* ---- enlarging and shrinking
 * ------------------------------------------------------------------------------------------- */

/* One of the places that a pixel is the mean of: between the samples lo and hi, `weight` of it from hi. */
struct place {
    int lo, hi;
    float weight;
};

static int clamp(int v, int most)
{
    return v < 0 ? 0 : v > most ? most : v;
}

/* place [px,taps]: where each output pixel along one axis reads. */
static void find_places(struct place *place, int px, int taps, double from, double step, int size)
{
    for (int i = 0; i < px * taps; i++) {
        double at = from + (i / taps + (i % taps + 0.5) / taps) * step - 0.5;
        int lo = (int)floor(at);
        place[i] = (struct place){clamp(lo, size - 1), clamp(lo + 1, size - 1), (float)(at - lo)};
    }
}

/* to [size,channels] = the mean of the rows that an output row covers. */
static void mix_rows(const uint8_t *src, size_t row, const struct place *place, int taps, float *to)
{
    memset(to, 0, row * sizeof *to);
    for (int t = 0; t < taps; t++) {
        const uint8_t *lo = src + (size_t)place[t].lo * row, *hi = src + (size_t)place[t].hi * row;
        const float b = place[t].weight / (float)taps, a = 1 / (float)taps - b;
        for (size_t k = 0; k < row; k++)
            to[k] += a * lo[k] + b * hi[k];
    }
}

/* Rows first, then columns: the weights of both axes multiply, so each is found once and not per pixel. */
bool picture_resize(const uint8_t *src, int size, int channels, double x0, double y0, double side,
                    uint8_t *out, int px, struct err *e)
{
    const double step = side / px;
    const int taps = step > 1 ? (int)ceil(step) : 1; /* places averaged a pixel and axis */
    const size_t row = (size_t)size * (size_t)channels, n = (size_t)px * (size_t)taps;
    struct place *place = mem_array(2 * n, sizeof *place, "a picture", e);
    float *mixed = place ? mem_array(row, sizeof *mixed, "a picture", e) : NULL;
    if (mixed) {
        find_places(place, px, taps, x0, step, size);
        find_places(place + n, px, taps, y0, step, size);
    }
    for (int i = 0; mixed && i < px; i++) {
        mix_rows(src, row, place + n + (size_t)i * (size_t)taps, taps, mixed);
        for (int j = 0; j < px; j++) {
            float sum[4] = {0.5f, 0.5f, 0.5f, 0.5f};
            for (int t = 0; t < taps; t++) {
                const struct place *p = &place[j * taps + t];
                const float *lo = mixed + (ptrdiff_t)p->lo * channels;
                const float *hi = mixed + (ptrdiff_t)p->hi * channels;
                const float b = p->weight / (float)taps, a = 1 / (float)taps - b;
                for (int c = 0; c < channels; c++)
                    sum[c] += a * lo[c] + b * hi[c];
            }
            for (int c = 0; c < channels; c++)
                *out++ = (uint8_t)sum[c];
        }
    }
    bool ok = mixed != NULL;
    free(mixed);
    free(place);
    return ok;
}
