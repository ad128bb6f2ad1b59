/* SPDX-License-Identifier: Apache-2.0
 *
 * vector.h - footprints and their labels, from any OGR source, in longitude/latitude and on the working grid.
 */
#ifndef AM_VECTOR_H
#define AM_VECTOR_H

#include "geo/event.h"

struct vector_footprint {
    char *bldg_id;         /* the source's id as text, unique in the set */
    OGRGeometryH geometry; /* EPSG:4326, x = longitude; Polygon or MultiPolygon, valid */
    int16_t level;         /* 0..3, -1 unknown or not labelled */
    double lon, lat;       /* centroid */
    double x_m, y_m;       /* centroid in the working CRS */
    double area_m2;        /* geodesic, WGS 84 */
};

struct vector_set {
    struct vector_footprint *item;
    size_t n;
    char **path; /* sources read, absolute */
    int n_paths;
    bool labeled;      /* a label field was read */
    size_t n_repaired; /* geometries made valid */
    size_t n_dropped;  /* rows without usable geometry, left out */
    size_t n_renamed;  /* duplicate ids that got a suffix */
    size_t n_points;   /* points that became squares */
};

struct vector_options {
    const char *path, *layer, *id_field, *label_field, *label_map; /* as in tile.h */
    double point_m; /* side of the square that stands for a point */
};

bool vector_read(struct vector_set *s, const struct vector_options *o, const char *grid_wkt,
                 const struct progress *p, struct err *e);

/* Square cells of side_m over `overlap` (working CRS): those whose centre lies in it. Ids are "rROW-cCOLUMN"
 * from the north-west corner. */
bool vector_cells(struct vector_set *s, OGRGeometryH overlap, const char *grid_wkt, double side_m,
                  const struct progress *p, struct err *e);
void vector_set_free(struct vector_set *s); /* accepts a zeroed set */

/* Geodesic area of a polygon or multipolygon in longitude/latitude, m2, holes taken out. */
double vector_area_m2(OGRGeometryH g);

/* "value=level,..." where a level is a name of the scale or its number. */
struct label_map {
    char **value;
    int *level;
    int n;
};
bool label_map_parse(struct label_map *m, const char *text, struct err *e);
void label_map_free(struct label_map *m);
/* A mapped value; or a name of the scale; or, without a map, 0..3 and -1. False when the value is none of
 * these. */
bool label_map_find(const struct label_map *m, const char *value, int *level);

#endif
