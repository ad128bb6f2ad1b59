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

static int clamp(int v, int most)
{
    return v < 0 ? 0 : v > most ? most : v;
}

void picture_resize(const uint8_t *src, int size, int channels, double x0, double y0, double side,
                    uint8_t *out, int px)
{
    const double step = side / px;
    const int taps = step > 1 ? (int)ceil(step) : 1; /* places averaged a pixel and axis */
    for (int i = 0; i < px; i++) {
        for (int j = 0; j < px; j++) {
            double sum[4] = {0};
            for (int t = 0; t < taps * taps; t++) {
                double y = y0 + (i + (t / taps + 0.5) / taps) * step - 0.5;
                double x = x0 + (j + (t % taps + 0.5) / taps) * step - 0.5;
                int yi = (int)floor(y), xi = (int)floor(x);
                double fy = y - yi, fx = x - xi;
                for (int k = 0; k < 4; k++) {
                    const uint8_t *p = src + ((size_t)clamp(yi + k / 2, size - 1) * (size_t)size +
                                              (size_t)clamp(xi + k % 2, size - 1)) *
                                                 (size_t)channels;
                    double w = (k / 2 ? fy : 1 - fy) * (k % 2 ? fx : 1 - fx);
                    for (int c = 0; c < channels; c++)
                        sum[c] += w * p[c];
                }
            }
            for (int c = 0; c < channels; c++)
                out[((size_t)i * (size_t)px + (size_t)j) * (size_t)channels + (size_t)c] =
                    (uint8_t)lround(sum[c] / (taps * taps));
        }
    }
}
