/* SPDX-License-Identifier: Apache-2.0
 * geojson.c - GeoJSON text (geojson.h). */
#include "web/geojson.h"

#include <cpl_conv.h>
#include <cpl_string.h>
#include <math.h>
#include <string.h>

void geojson_number(FILE *f, double v, int decimals)
{
    char s[400]; /* DBL_MAX has 309 digits */
    if (!isfinite(v)) {
        fputs("null", f);
        return;
    }
    int n = snprintf(s, sizeof s, "%.*f", decimals, v);
    while (n > 1 && s[n - 1] == '0')
        n--;
    if (s[n - 1] == '.')
        n--;
    if (n == 2 && s[0] == '-' && s[1] == '0')
        fputs("0", f);
    else
        fwrite(s, 1, (size_t)n, f);
}

void geojson_string(FILE *f, const char *s)
{
    char *clean = CPLIsUTF8(s, -1) ? NULL : CPLForceToASCII(s, -1, '?');
    fputc('"', f);
    for (const char *p = clean ? clean : s; *p; p++) {
        if (*p == '"' || *p == '\\')
            fputc('\\', f);
        if ((unsigned char)*p < 0x20)
            fprintf(f, "\\u%04x", (unsigned)*p);
        else
            fputc(*p, f);
    }
    fputc('"', f);
    CPLFree(clean);
}

static void write_point(FILE *f, OGRGeometryH g, int i, const struct geojson_style *style)
{
    double x = OGR_G_GetX(g, i), y = OGR_G_GetY(g, i);
    fputc('[', f);
    geojson_number(f, style->is_swapped ? y : x, style->decimals);
    fputc(',', f);
    geojson_number(f, style->is_swapped ? x : y, style->decimals);
    fputc(']', f);
}

/* One ring, turned when its winding is not the wanted one (RFC 7946, 3.1.6: exterior counter-clockwise). */
static void write_ring(FILE *f, OGRGeometryH ring, bool counter_clockwise, const struct geojson_style *style)
{
    int n = OGR_G_GetPointCount(ring);
    double area = 0, x0 = n ? OGR_G_GetX(ring, 0) : 0, y0 = n ? OGR_G_GetY(ring, 0) : 0;
    for (int i = 0; i + 1 < n; i++)
        area += (OGR_G_GetX(ring, i) - x0) * (OGR_G_GetY(ring, i + 1) - y0) -
                (OGR_G_GetX(ring, i + 1) - x0) * (OGR_G_GetY(ring, i) - y0);
    bool turn = (area > 0) != counter_clockwise;
    fputc('[', f);
    for (int i = 0; i < n; i++) {
        if (i)
            fputc(',', f);
        write_point(f, ring, turn ? n - 1 - i : i, style);
    }
    fputc(']', f);
}

static void write_polygon(FILE *f, OGRGeometryH g, const struct geojson_style *style)
{
    fputc('[', f);
    for (int i = 0; i < OGR_G_GetGeometryCount(g); i++) {
        if (i)
            fputc(',', f);
        write_ring(f, OGR_G_GetGeometryRef(g, i), i == 0, style);
    }
    fputc(']', f);
}

void geojson_geometry(FILE *f, OGRGeometryH g, const struct geojson_style *style)
{
    if (!g || OGR_G_IsEmpty(g)) {
        fputs("null", f);
        return;
    }
    switch (OGR_GT_Flatten(OGR_G_GetGeometryType(g))) {
    case wkbPoint:
        fputs("{\"type\":\"Point\",\"coordinates\":", f);
        write_point(f, g, 0, style);
        fputc('}', f);
        return;
    case wkbPolygon:
        fputs("{\"type\":\"Polygon\",\"coordinates\":", f);
        write_polygon(f, g, style);
        fputc('}', f);
        return;
    case wkbMultiPolygon:
        fputs("{\"type\":\"MultiPolygon\",\"coordinates\":[", f);
        for (int i = 0; i < OGR_G_GetGeometryCount(g); i++) {
            if (i)
                fputc(',', f);
            write_polygon(f, OGR_G_GetGeometryRef(g, i), style);
        }
        fputs("]}", f);
        return;
    default: { /* lines and collections: rare, so GDAL's own writer will do */
        char precision[40], *options[] = {precision, NULL};
        snprintf(precision, sizeof precision, "COORDINATE_PRECISION=%d", style->decimals);
        OGRGeometryH copy = style->is_swapped ? OGR_G_Clone(g) : NULL;
        if (copy)
            OGR_G_SwapXY(copy);
        char *text = OGR_G_ExportToJsonEx(copy ? copy : g, options);
        fputs(text ? text : "null", f);
        CPLFree(text);
        OGR_G_DestroyGeometry(copy);
    }
    }
}
