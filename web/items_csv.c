/* SPDX-License-Identifier: Apache-2.0
 * items_csv.c - CSV out of the properties that assessment.c wrote (items_csv.h): an object of strings, numbers and
 * nulls, in the order of the columns. */
#include "web/items_csv.h"

#include <stdlib.h>
#include <string.h>

static void write_text(FILE *out, const char *s)
{
    if (!s[strcspn(s, ",\"\r\n")]) {
        fputs(s, out);
        return;
    }
    fputc('"', out);
    for (; *s; s++) {
        if (*s == '"')
            fputc('"', out);
        fputc(*s, out);
    }
    fputc('"', out);
}

static void write_row(FILE *out, const cJSON *properties, int n_fields)
{
    const cJSON *value;
    int i = 0;
    cJSON_ArrayForEach(value, properties)
    {
        if (i++)
            fputc(',', out);
        if (cJSON_IsString(value))
            write_text(out, value->valuestring);
        else if (cJSON_IsNumber(value))
            geojson_number(out, value->valuedouble, 3);
    }
    for (; i < n_fields; i++)
        fputc(',', out);
}

static void write_place(FILE *out, OGRGeometryH g, const struct crs *c, OGRCoordinateTransformationH t)
{
    OGRGeometryH centre = OGR_G_CreateGeometry(wkbPoint);
    int decimals = c->is_degrees ? 7 : 3;
    bool ok = g && OGR_G_Centroid(g, centre) == OGRERR_NONE && !OGR_G_IsEmpty(centre) &&
              (!t || OGR_G_Transform(centre, t) == OGRERR_NONE);
    fputc(',', out);
    if (ok)
        geojson_number(out, OGR_G_GetX(centre, 0), decimals);
    fputc(',', out);
    if (ok)
        geojson_number(out, OGR_G_GetY(centre, 0), decimals);
    OGR_G_DestroyGeometry(centre);
}

void items_csv_write(FILE *out, const struct assessment *as, const struct building *const *row, size_t n,
                     const struct crs *c, OGRCoordinateTransformationH t)
{
    for (int i = 0; i < as->n_fields; i++) {
        write_text(out, as->field[i].name);
        fputc(',', out);
    }
    fputs(c->is_degrees ? "lon,lat\r\n" : "x,y\r\n", out);
    for (size_t i = 0; i < n; i++) {
        const struct building *b = row[i];
        /* Its last byte closes the feature. */
        cJSON *p =
            cJSON_ParseWithLength(as->text + b->properties, b->text + b->text_size - b->properties - 1);
        write_row(out, p, as->n_fields);
        cJSON_Delete(p);
        write_place(out, b->geometry, c, t);
        fputs("\r\n", out);
    }
}
