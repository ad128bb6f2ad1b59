/* SPDX-License-Identifier: Apache-2.0
 *
 * mapping_style.c - how damage is named and drawn: class names, colours, pixel codes and the QGIS style (QML)
 * that the GeoPackage carries. One table for all outputs.
 *
 * Dark is worse, so the map survives greyscale; each grade also has its own fill pattern (empty, dots, hatch,
 * solid), so it survives a photocopier and colour blindness. Unknown is a grey outline without fill: it must
 * not look like "undamaged". */
#include "geo/mapping_parts.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    const char *color, *pattern, *letter; /* pattern: a Qt brush style drawn over the colour, or NULL */
} looks[] = {
    {"#9e9e9e", NULL, "?"},         {"#f7f7f7", NULL, "N"}, {"#fdcc8a", "dense7", "m"},
    {"#e34a33", "f_diagonal", "M"}, {"#7a0000", NULL, "D"},
};

const char *mapping_level_color(int level)
{
    assert(level >= -1 && level <= 3);
    return looks[level + 1].color;
}

uint8_t mapping_pixel(int level)
{
    assert(level >= -1 && level <= 3);
    return level < 0 ? MAPPING_UNKNOWN : (uint8_t)(level + 1);
}

const char *mapping_class_name(const struct mapping_map *m, int level)
{
    if (level < 0 || m->n_classes != 2)
        return event_level_name(level);
    return level >= m->cut ? "damaged" : "undamaged";
}

/* "#rrggbb" -> "r,g,b,alpha" as QML writes colours. */
static const char *rgba(const char *hex, int alpha, char out[24])
{
    unsigned v = (unsigned)strtoul(hex + 1, NULL, 16);
    snprintf(out, 24, "%u,%u,%u,%d", v >> 16, v >> 8 & 255, v & 255, alpha);
    return out;
}

static void option(FILE *f, const char *name, const char *value)
{
    fprintf(f, "<Option name=\"%s\" type=\"QString\" value=\"%s\"/>", name, value);
}

/* QGIS before 3.26 reads <prop>, later versions <Option>: both are written, as QGIS 3.22 itself does. */
static void property(FILE *f, bool old, const char *name, const char *value)
{
    if (old)
        fprintf(f, "<prop k=\"%s\" v=\"%s\"/>", name, value);
    else
        option(f, name, value);
}

static void fill_layer(FILE *f, const char *color, const char *style, const char *outline,
                       const char *outline_style)
{
    fputs("<layer class=\"SimpleFill\" enabled=\"1\" locked=\"0\" pass=\"0\">", f);
    for (int old = 0; old < 2; old++) {
        fputs(old ? "" : "<Option type=\"Map\">", f);
        property(f, old, "color", color);
        property(f, old, "joinstyle", "miter");
        property(f, old, "outline_color", outline);
        property(f, old, "outline_style", outline_style);
        property(f, old, "outline_width", "0.2");
        property(f, old, "outline_width_unit", "MM");
        property(f, old, "style", style);
        fputs(old ? "" : "</Option>", f);
    }
    fputs("</layer>", f);
}

static void marker_layer(FILE *f, const char *color, const char *outline)
{
    fputs("<layer class=\"SimpleMarker\" enabled=\"1\" locked=\"0\" pass=\"0\">", f);
    for (int old = 0; old < 2; old++) {
        fputs(old ? "" : "<Option type=\"Map\">", f);
        property(f, old, "color", color);
        property(f, old, "name", "circle");
        property(f, old, "outline_color", outline);
        property(f, old, "outline_style", "solid");
        property(f, old, "outline_width", "0.2");
        property(f, old, "outline_width_unit", "MM");
        property(f, old, "size", "2.4");
        property(f, old, "size_unit", "MM");
        fputs(old ? "" : "</Option>", f);
    }
    fputs("</layer>", f);
}

static void symbol(FILE *f, int index, int level, bool points)
{
    char color[24], outline[24], ink[24];
    const char *hex = looks[level + 1].color, *pattern = looks[level + 1].pattern;
    fprintf(f, "<symbol alpha=\"1\" clip_to_extent=\"1\" force_rhr=\"0\" name=\"%d\" type=\"%s\">", index,
            points ? "marker" : "fill");
    rgba(level < 0 ? "#757575" : "#232323", 255, outline);
    rgba(hex, level < 0 ? 0 : 255, color);
    if (points)
        marker_layer(f, color, outline);
    else
        fill_layer(f, color, level < 0 ? "no" : "solid", outline, "solid");
    if (pattern && !points)
        fill_layer(f, rgba("#232323", 255, ink), pattern, outline, "no");
    fputs("</symbol>", f);
}

char *mapping_style_qml(const struct mapping_map *m, bool points, struct err *e)
{
    char *text = NULL;
    size_t size = 0;
    int level[5], n = 0;
    FILE *f = open_memstream(&text, &size);
    if (!f) {
        err_set(e, ERR_RESOURCE, "not enough memory for the layer's style");
        return NULL;
    }
    if (m->n_classes == 2) {
        level[n++] = 0;
        level[n++] = m->cut;
    } else
        for (int k = 0; k < 4; k++)
            level[n++] = k;
    level[n++] = -1;
    fputs("<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>\n"
          "<qgis styleCategories=\"Symbology\" version=\"3.22.0\">\n"
          "<renderer-v2 attr=\"dmg_class\" enableorderby=\"0\" forceraster=\"0\" symbollevels=\"0\" "
          "type=\"categorizedSymbol\">\n<categories>\n",
          f);
    for (int k = 0; k < n; k++) {
        const char *name = mapping_class_name(m, level[k]);
        fprintf(f, "<category label=\"%s %s\" render=\"true\" symbol=\"%d\" type=\"string\" value=\"%s\"/>\n",
                looks[level[k] + 1].letter, name, k, name);
    }
    fputs("</categories>\n<symbols>\n", f);
    for (int k = 0; k < n; k++) {
        symbol(f, k, level[k], points);
        fputc('\n', f);
    }
    fprintf(f, "</symbols>\n</renderer-v2>\n<layerGeometryType>%d</layerGeometryType>\n</qgis>\n",
            points ? 0 : 2);
    bool failed = ferror(f) != 0;
    if (fclose(f) != 0 || failed) {
        free(text);
        err_set(e, ERR_RESOURCE, "not enough memory for the layer's style");
        return NULL;
    }
    return text;
}
