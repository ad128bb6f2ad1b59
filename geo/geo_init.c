/* SPDX-License-Identifier: Apache-2.0
 *
 * geo_init.c - which GDAL and OGR drivers this process knows, and how GDAL behaves in it.
 *
 * The server registers a handful by name. A full registration would let a text file named x.tif that holds
 * VRT markup read any file of the machine, and would open the door to dozens of parsers nobody here needs.
 * Side files are neither read nor looked for there. The command line, where the user names the files,
 * registers everything.
 *
 * The block cache is fixed at 128 MiB (GDAL's default is a share of the machine's memory) so that peak memory
 * does not depend on where aftermap runs; GDAL_CACHEMAX overrides it. Call once, before any thread starts. */
#include "geo/raster.h"

#include <cpl_conv.h>
#include <gdal_frmts.h>
#include <ogr_srs_api.h>
#include <stdio.h>
#include <string.h>

/* Exported by libgdal; its own header for them is C++ only. */
CPL_C_START
void CPL_DLL RegisterOGRGeoPackage(void);
void CPL_DLL RegisterOGRGeoJSON(void);
void CPL_DLL RegisterOGRFlatGeobuf(void);
void CPL_DLL RegisterOGRCSV(void);
void CPL_DLL RegisterOGRShape(void);
CPL_C_END

/* Messages are fetched with geo_message() by whoever made the call; nothing below app/ writes to a stream. */
static void CPL_STDCALL quiet(CPLErr level, CPLErrorNum number, const char *text)
{
    (void)level;
    (void)number;
    (void)text;
}

void geo_init(bool all_drivers)
{
    CPLSetErrorHandler(quiet);
    /* A JPEG that ends early is only a warning by default: its missing part would come out grey. */
    CPLSetConfigOption("GDAL_ERROR_ON_LIBJPEG_WARNING", "YES");
    if (!CPLGetConfigOption("GDAL_CACHEMAX", NULL))
        GDALSetCacheMax64((GIntBig)128 << 20);
    if (all_drivers) {
        GDALAllRegister();
        return;
    }
    CPLSetConfigOption("GDAL_PAM_ENABLED", "NO");
    CPLSetConfigOption("GDAL_DISABLE_READDIR_ON_OPEN", "EMPTY_DIR");
    GDALRegister_GTiff();
    GDALRegister_COG();
    GDALRegister_MEM();
    GDALRegister_PNG();
    GDALRegister_JPEG();
    RegisterOGRGeoPackage();
    RegisterOGRGeoJSON();
    RegisterOGRFlatGeobuf();
    RegisterOGRCSV();
    RegisterOGRShape();
}

const char *geo_message(char *out, size_t size)
{
    const char *text = CPLGetLastErrorMsg();
    snprintf(out, size, "%s", *text ? text : "GDAL gives no reason");
    for (char *c = out; *c; c++)
        if (*c == '\n' || *c == '\r')
            *c = ' ';
    size_t n = strlen(out);
    while (n && (out[n - 1] == ' ' || out[n - 1] == '.'))
        out[--n] = '\0';
    return out;
}

OGRSpatialReferenceH geo_srs(const char *text, struct err *e)
{
    OGRSpatialReferenceH srs = OSRNewSpatialReference(NULL);
    char why[200];
    CPLErrorReset();
    if (!srs || OSRSetFromUserInput(srs, text) != OGRERR_NONE) {
        err_set(e, ERR_INPUT, "a coordinate system cannot be understood: %s", geo_message(why, sizeof why));
        OSRDestroySpatialReference(srs);
        return NULL;
    }
    OSRSetAxisMappingStrategy(srs, OAMS_TRADITIONAL_GIS_ORDER);
    return srs;
}

OGRCoordinateTransformationH geo_transform(const char *from, const char *to, struct err *e)
{
    OGRCoordinateTransformationH t = NULL;
    char why[200];
    OGRSpatialReferenceH a = geo_srs(from, e), b = a ? geo_srs(to, e) : NULL;
    if (a && b) {
        CPLErrorReset();
        t = OCTNewCoordinateTransformation(a, b);
        if (!t)
            err_set(e, ERR_INPUT, "there is no way from one coordinate system to the other: %s",
                    geo_message(why, sizeof why));
    }
    OSRDestroySpatialReference(a);
    OSRDestroySpatialReference(b);
    return t;
}
