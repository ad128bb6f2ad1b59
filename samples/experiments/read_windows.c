/* SPDX-License-Identifier: Apache-2.0
 *
 * read_windows.c - how long GDAL alone takes to read what `aftermap tile` has to read: for each footprint, in
 * file order, the window of SIZE metres around its centre from each raster, all bands, at the raster's own
 * resolution. The yardstick of big_scene.sh. Prints one JSON line. */
#include <cpl_conv.h>
#include <gdal.h>
#include <math.h>
#include <ogr_api.h>
#include <ogr_srs_api.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static int fail(const char *what)
{
    fprintf(stderr, "read-windows: %s: %s\n", what, CPLGetLastErrorMsg());
    return 1;
}

/* Reads one window; returns the bytes read, negative on error. buffer grows as needed. */
static double read_window(GDALDatasetH ds, const double inverse[6], double x, double y, double half_x,
                          double half_y, void **buffer, size_t *capacity)
{
    double c = inverse[0] + inverse[1] * x + inverse[2] * y, r = inverse[3] + inverse[4] * x + inverse[5] * y;
    int bands = GDALGetRasterCount(ds), width = GDALGetRasterXSize(ds), height = GDALGetRasterYSize(ds);
    int x0 = (int)fmax(0, floor(c - half_x)), y0 = (int)fmax(0, floor(r - half_y));
    int x1 = (int)fmin(width, ceil(c + half_x)), y1 = (int)fmin(height, ceil(r + half_y));
    if (x0 >= x1 || y0 >= y1)
        return 0;
    GDALDataType type = GDALGetRasterDataType(GDALGetRasterBand(ds, 1));
    size_t bytes =
        (size_t)(x1 - x0) * (size_t)(y1 - y0) * (size_t)bands * (size_t)GDALGetDataTypeSizeBytes(type);
    if (bytes > *capacity) {
        void *more = realloc(*buffer, bytes);
        if (!more)
            return -1;
        *buffer = more;
        *capacity = bytes;
    }
    CPLErr err = GDALDatasetRasterIO(ds, GF_Read, x0, y0, x1 - x0, y1 - y0, *buffer, x1 - x0, y1 - y0, type,
                                     bands, NULL, 0, 0, 0);
    return err == CE_None ? (double)bytes : -1;
}

int main(int argc, char **argv)
{
    if (argc != 5) {
        fprintf(stderr, "usage: aftermap-read-windows PRE POST FOOTPRINTS SIZE_M\n");
        return 2;
    }
    GDALAllRegister();
    double half_m = strtod(argv[4], NULL) / 2, bytes = 0;
    GDALDatasetH vector = GDALOpenEx(argv[3], GDAL_OF_VECTOR, NULL, NULL, NULL);
    OGRLayerH layer = vector ? GDALDatasetGetLayer(vector, 0) : NULL;
    if (!layer || half_m <= 0)
        return fail(argv[3]);
    GDALDatasetH ds[2];
    OGRCoordinateTransformationH to[2];
    double inverse[2][6], half[2][2];
    for (int d = 0; d < 2; d++) {
        double gt[6];
        if (!(ds[d] = GDALOpen(argv[1 + d], GA_ReadOnly)) || GDALGetGeoTransform(ds[d], gt) != CE_None ||
            !GDALInvGeoTransform(gt, inverse[d]))
            return fail(argv[1 + d]);
        OGRSpatialReferenceH crs = OSRClone(GDALGetSpatialRef(ds[d]));
        OSRSetAxisMappingStrategy(crs, OAMS_TRADITIONAL_GIS_ORDER);
        if (!(to[d] = OCTNewCoordinateTransformation(OGR_L_GetSpatialRef(layer), crs)))
            return fail(argv[1 + d]);
        /* degrees per metre where the grid is geographic */
        double unit_y = OSRIsGeographic(crs) ? 1 / 111195.0 : 1;
        double unit_x = OSRIsGeographic(crs) ? unit_y / cos(gt[3] * 0.017453292519943295) : 1;
        half[d][0] = half_m * unit_x / fabs(gt[1]);
        half[d][1] = half_m * unit_y / fabs(gt[5]);
        OSRDestroySpatialReference(crs);
    }
    struct timespec t0, t1;
    clock_gettime(CLOCK_MONOTONIC, &t0);
    void *buffer = NULL;
    size_t capacity = 0, windows = 0;
    OGRFeatureH f;
    while ((f = OGR_L_GetNextFeature(layer))) {
        OGREnvelope box;
        OGR_G_GetEnvelope(OGR_F_GetGeometryRef(f), &box);
        for (int d = 0; d < 2; d++) {
            double x = 0.5 * (box.MinX + box.MaxX), y = 0.5 * (box.MinY + box.MaxY);
            OCTTransform(to[d], 1, &x, &y, NULL);
            double got = read_window(ds[d], inverse[d], x, y, half[d][0], half[d][1], &buffer, &capacity);
            if (got < 0)
                return fail(argv[1 + d]);
            bytes += got;
            windows++;
        }
        OGR_F_Destroy(f);
    }
    clock_gettime(CLOCK_MONOTONIC, &t1);
    double seconds = (double)(t1.tv_sec - t0.tv_sec) + 1e-9 * (double)(t1.tv_nsec - t0.tv_nsec);
    printf("{\"windows\": %zu, \"megabytes\": %.1f, \"seconds\": %.2f}\n", windows, bytes / 1e6, seconds);
    free(buffer);
    for (int d = 0; d < 2; d++) {
        OCTDestroyCoordinateTransformation(to[d]);
        GDALClose(ds[d]);
    }
    GDALClose(vector);
    return 0;
}
