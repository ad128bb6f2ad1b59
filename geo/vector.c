/* SPDX-License-Identifier: Apache-2.0
 *
 * vector.c - reading footprints. Declared in vector.h.
 *
 * Every row ends as a valid polygon or multipolygon in longitude/latitude: curves are cut to lines, heights
 * dropped, invalid rings repaired by GEOS's MakeValid (and counted), of collections only the areas are kept,
 * points become squares on the working grid. Rows in which nothing of that is left are no footprints: they
 * are left out, counted and reported, as are ids that occur twice (they get a suffix: joins by id must stay
 * one to one). So is an outline of more than MAX_POINTS: no building has that many, and the repair and the tests of
 * validity take minutes over a million. Areas are geodesic (Karney 2013, PROJ's geodesic.h), because a square degree is no unit of
 * area.
 *
 * Labels outside the scale and the map are collected over the whole source and reported together. */
#include "geo/vector.h"

#include "geo/raster.h"
#include "models/base/file.h"
#include "models/base/mem.h"
#include <cpl_conv.h>
#include <cpl_string.h>
#include <cpl_vsi.h>
#include <geodesic.h>
#include <math.h>
#include <ogr_srs_api.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { BAD_LABELS_SHOWN = 10, CELLS_MAX = 2000000 };

struct reading {
    struct vector_set *set;
    const struct vector_options *o;
    const char *grid_wkt;
    struct label_map map;
    OGRCoordinateTransformationH to_grid, to_lonlat; /* lon/lat <-> working grid */
    char bad[BAD_LABELS_SHOWN][64];
    int n_bad; /* distinct values, the first ones of them in bad */
    size_t room;
};

void vector_set_free(struct vector_set *s)
{
    for (size_t i = 0; i < s->n; i++) {
        free(s->item[i].bldg_id);
        OGR_G_DestroyGeometry(s->item[i].geometry);
    }
    for (int i = 0; i < s->n_paths; i++)
        free(s->path[i]);
    free(s->item);
    free(s->path);
    *s = (struct vector_set){0};
}

/* ---- geometry
 * ---------------------------------------------------------------------------------------------------------
 */

enum { MAX_POINTS = 50000 };

static double ring_area(OGRGeometryH ring)
{
    struct geod_geodesic g;
    struct geod_polygon poly;
    double area = 0;
    geod_init(&g, 6378137, 1 / 298.257223563);
    geod_polygon_init(&poly, 0);
    int n = OGR_G_GetPointCount(ring);
    for (int i = 0; i + 1 < n; i++) /* the last point repeats the first */
        geod_polygon_addpoint(&g, &poly, OGR_G_GetY(ring, i), OGR_G_GetX(ring, i));
    geod_polygon_compute(&g, &poly, 0, 1, &area, NULL);
    return fabs(area);
}

double vector_area_m2(OGRGeometryH g)
{
    double area = 0;
    int n = OGR_G_GetGeometryCount(g);
    bool polygon = wkbFlatten(OGR_G_GetGeometryType(g)) == wkbPolygon;
    for (int i = 0; i < n; i++) {
        OGRGeometryH part = OGR_G_GetGeometryRef(g, i);
        double a = polygon ? ring_area(part) : vector_area_m2(part);
        area += polygon && i > 0 ? -a : a;
    }
    return area;
}

/* Moves copies of all polygons inside g to the multipolygon `to`. */
static void collect_areas(OGRGeometryH g, OGRGeometryH to)
{
    OGRwkbGeometryType type = wkbFlatten(OGR_G_GetGeometryType(g));
    if (type == wkbPolygon && !OGR_G_IsEmpty(g))
        OGR_G_AddGeometry(to, g);
    else if (type == wkbMultiPolygon || type == wkbGeometryCollection)
        for (int i = 0; i < OGR_G_GetGeometryCount(g); i++)
            collect_areas(OGR_G_GetGeometryRef(g, i), to);
}

static OGRGeometryH square(double x, double y, double side)
{
    OGRGeometryH polygon = OGR_G_CreateGeometry(wkbPolygon), ring = OGR_G_CreateGeometry(wkbLinearRing);
    double h = side / 2;
    OGR_G_AddPoint_2D(ring, x - h, y - h);
    OGR_G_AddPoint_2D(ring, x + h, y - h);
    OGR_G_AddPoint_2D(ring, x + h, y + h);
    OGR_G_AddPoint_2D(ring, x - h, y + h);
    OGR_G_CloseRings(ring);
    OGR_G_AddGeometryDirectly(polygon, ring);
    return polygon;
}

static bool all_finite(OGRGeometryH g)
{
    OGREnvelope v;
    OGR_G_GetEnvelope(g, &v);
    return isfinite(v.MinX) && isfinite(v.MaxX) && isfinite(v.MinY) && isfinite(v.MaxY);
}

/* The areas of a valid copy of g; NULL when there are none. *repaired tells that it was invalid. */
static OGRGeometryH clean_areas(OGRGeometryH g, bool *repaired)
{
    OGRGeometryH linear = OGR_G_GetLinearGeometry(g, 0, NULL), valid = NULL;
    if (!linear)
        return NULL;
    OGR_G_FlattenTo2D(linear);
    OGR_G_SetMeasured(linear, FALSE);
    if (OGR_G_IsValid(linear)) {
        valid = linear;
    } else {
        *repaired = true;
        valid = OGR_G_MakeValid(linear);
        OGR_G_DestroyGeometry(linear);
    }
    OGRGeometryH areas = OGR_G_CreateGeometry(wkbMultiPolygon);
    if (valid)
        collect_areas(valid, areas);
    OGR_G_DestroyGeometry(valid);
    int n = OGR_G_GetGeometryCount(areas);
    OGRGeometryH out = n == 1  ? OGR_G_Clone(OGR_G_GetGeometryRef(areas, 0))
                       : n > 1 ? OGR_G_Clone(areas)
                               : NULL;
    OGR_G_DestroyGeometry(areas);
    return out;
}

/* By its well-known binary: a point is two doubles at least. */
static bool has_too_many_points(OGRGeometryH g)
{
    return OGR_G_WkbSizeEx(g) / (2 * sizeof(double)) > MAX_POINTS;
}

/* The footprint in lon/lat from a source geometry; NULL when nothing usable is in it. */
static OGRGeometryH footprint_of(struct reading *r, OGRGeometryH source,
                                 OGRCoordinateTransformationH to_lonlat)
{
    if (!source || OGR_G_IsEmpty(source) || !all_finite(source) || has_too_many_points(source))
        return NULL;
    OGRwkbGeometryType type = wkbFlatten(OGR_G_GetGeometryType(source));
    bool repaired = false,
         point = type == wkbPoint || (type == wkbMultiPoint && OGR_G_GetGeometryCount(source) == 1);
    OGRGeometryH g = NULL;
    if (point) {
        OGRGeometryH at = type == wkbPoint ? source : OGR_G_GetGeometryRef(source, 0);
        double x = OGR_G_GetX(at, 0), y = OGR_G_GetY(at, 0);
        if (!OCTTransform(to_lonlat, 1, &x, &y, NULL) || !OCTTransform(r->to_grid, 1, &x, &y, NULL) ||
            !isfinite(x) || !isfinite(y))
            return NULL;
        g = square(x, y, r->o->point_m);
        to_lonlat = r->to_lonlat;
    } else {
        g = clean_areas(source, &repaired);
    }
    if (g && (OGR_G_Transform(g, to_lonlat) != OGRERR_NONE || !all_finite(g))) {
        OGR_G_DestroyGeometry(g);
        g = NULL;
    }
    if (g) {
        r->set->n_repaired += repaired;
        r->set->n_points += point;
        OGR_G_AssignSpatialReference(g, NULL);
    }
    return g;
}

/* Centroid and area. False when the footprint cannot be placed on the working grid or has no area. */
static bool place(struct vector_footprint *f, OGRCoordinateTransformationH to_grid,
                  OGRCoordinateTransformationH to_lonlat)
{
    OGRGeometryH on_grid = OGR_G_Clone(f->geometry), centre = OGR_G_CreateGeometry(wkbPoint);
    bool ok = OGR_G_Transform(on_grid, to_grid) == OGRERR_NONE && all_finite(on_grid) &&
              OGR_G_Centroid(on_grid, centre) == OGRERR_NONE && !OGR_G_IsEmpty(centre);
    if (ok) {
        f->x_m = f->lon = OGR_G_GetX(centre, 0);
        f->y_m = f->lat = OGR_G_GetY(centre, 0);
        ok = OCTTransform(to_lonlat, 1, &f->lon, &f->lat, NULL) && isfinite(f->lon) && isfinite(f->lat);
        f->area_m2 = vector_area_m2(f->geometry);
    }
    OGR_G_DestroyGeometry(on_grid);
    OGR_G_DestroyGeometry(centre);
    return ok && isfinite(f->area_m2) && f->area_m2 > 0;
}

static struct vector_footprint *next_item(struct vector_set *s, size_t *room, struct err *e)
{
    if (s->n == *room) {
        size_t more = *room ? *room * 2 : 1024;
        if (!mem_grow(&s->item, more, sizeof *s->item, "the footprints", e))
            return NULL;
        *room = more;
    }
    s->item[s->n] = (struct vector_footprint){.level = -1};
    return &s->item[s->n];
}

/* ---- attributes
 * ------------------------------------------------------------------------------------------------------- */

static void note_bad_label(struct reading *r, const char *value)
{
    for (int i = 0; i < r->n_bad && i < BAD_LABELS_SHOWN; i++)
        if (strncmp(r->bad[i], value, sizeof r->bad[i] - 1) == 0)
            return;
    if (r->n_bad < BAD_LABELS_SHOWN)
        snprintf(r->bad[r->n_bad], sizeof r->bad[0], "%s", value);
    r->n_bad++;
}

static int16_t read_label(struct reading *r, OGRFeatureH feature, int field)
{
    int level = -1;
    if (field < 0 || !OGR_F_IsFieldSetAndNotNull(feature, field))
        return -1;
    const char *value = OGR_F_GetFieldAsString(feature, field);
    if (*value && !label_map_find(&r->map, value, &level))
        note_bad_label(r, value);
    return (int16_t)level;
}

static bool report_bad_labels(const struct reading *r, struct err *e)
{
    char list[BAD_LABELS_SHOWN * 70] = "";
    size_t used = 0;
    if (r->n_bad == 0)
        return true;
    for (int i = 0; i < r->n_bad && i < BAD_LABELS_SHOWN; i++)
        used += (size_t)snprintf(list + used, sizeof list - used, "%s'%s'", i ? ", " : "", r->bad[i]);
    return err_set(e, ERR_INPUT,
                   "%s: field %s has values that are not on the damage scale: %s%s; map each with "
                   "--label-map 'VALUE=none|minor|major|destroyed|unknown,...'",
                   r->o->path, r->o->label_field, list, r->n_bad > BAD_LABELS_SHOWN ? " and more" : "");
}

/* Field for ids: the one named, or the first of the usual names; -1 stands for the feature id. */
static bool find_id_field(const struct vector_options *o, OGRFeatureDefnH defn, const char *path, int *field,
                          struct err *e)
{
    static const char *const usual[] = {"bldg_id", "id", "uid", "fid"};
    if (o->id_field) {
        *field = OGR_FD_GetFieldIndex(defn, o->id_field);
        return *field >= 0 || strcasecmp(o->id_field, "fid") == 0
                   ? true
                   : err_set(e, ERR_INPUT, "%s has no field '%s' to take ids from", path, o->id_field);
    }
    *field = -1;
    for (size_t i = 0; i < sizeof usual / sizeof *usual && *field < 0; i++)
        *field = OGR_FD_GetFieldIndex(defn, usual[i]);
    return true;
}

static char *read_id(OGRFeatureH feature, int field, struct err *e)
{
    char number[32];
    if (field >= 0 && OGR_F_IsFieldSetAndNotNull(feature, field)) {
        const char *text = OGR_F_GetFieldAsString(feature, field);
        if (*text)
            return mem_strdup(text, e);
    }
    snprintf(number, sizeof number, CPL_FRMT_GIB, OGR_F_GetFID(feature));
    return mem_strdup(number, e);
}

/* ---- unique ids
 * ------------------------------------------------------------------------------------------------------- */

static uint64_t hash_text(const char *s)
{
    uint64_t h = 1469598103934665603ULL; /* FNV-1a */
    for (; *s; s++)
        h = (h ^ (uint8_t)*s) * 1099511628211ULL;
    return h;
}

/* The slot that holds `id`, or the empty one where it belongs. slot [mask+1]: index + 1, 0 empty. */
static size_t find_slot(const struct vector_set *s, const uint32_t *slot, size_t mask, const char *id)
{
    size_t k = (size_t)hash_text(id) & mask;
    while (slot[k] && strcmp(s->item[slot[k] - 1].bldg_id, id) != 0)
        k = (k + 1) & mask;
    return k;
}

static bool make_ids_unique(struct vector_set *s, struct err *e)
{
    size_t room = 16;
    while (room < s->n * 2)
        room *= 2;
    uint32_t *slot = mem_array(room, sizeof *slot, "the index of ids", e);
    if (!slot)
        return false;
    bool ok = true;
    /* First all ids as they are, so that a suffixed one never takes a name that a later row has. */
    for (size_t i = 0; i < s->n; i++) {
        size_t k = find_slot(s, slot, room - 1, s->item[i].bldg_id);
        if (slot[k] == 0)
            slot[k] = (uint32_t)i + 1;
    }
    for (size_t i = 0; ok && i < s->n; i++) {
        char *old = s->item[i].bldg_id;
        if (slot[find_slot(s, slot, room - 1, old)] == i + 1)
            continue;
        size_t size = strlen(old) + 24, k = 0;
        char *fresh = mem_array(size, 1, "an id", e);
        ok = fresh != NULL;
        for (unsigned long suffix = 2; ok; suffix++) {
            snprintf(fresh, size, "%s-%lu", old, suffix);
            k = find_slot(s, slot, room - 1, fresh);
            if (slot[k] == 0)
                break;
        }
        if (ok) {
            free(old);
            s->item[i].bldg_id = fresh;
            slot[k] = (uint32_t)i + 1;
            s->n_renamed++;
        }
    }
    free(slot);
    return ok;
}

/* ---- sources
 * ----------------------------------------------------------------------------------------------------------
 */

static OGRLayerH choose_layer(GDALDatasetH ds, const char *path, const char *name, const struct progress *p,
                              struct err *e)
{
    char note[400];
    int n = GDALDatasetGetLayerCount(ds), n_with_geometry = 0;
    OGRLayerH first = NULL;
    if (name) {
        OGRLayerH layer = GDALDatasetGetLayerByName(ds, name);
        if (!layer)
            err_set(e, ERR_INPUT, "%s has no layer '%s'; ogrinfo lists its layers", path, name);
        return layer;
    }
    for (int i = 0; i < n; i++) {
        OGRLayerH layer = GDALDatasetGetLayer(ds, i);
        if (OGR_L_GetGeomType(layer) == wkbNone)
            continue;
        first = first ? first : layer;
        n_with_geometry++;
    }
    if (!first)
        err_set(e, ERR_INPUT, "%s holds no layer with geometries, so there are no footprints in it", path);
    else if (n_with_geometry > 1) {
        snprintf(note, sizeof note, "%s has %d layers; the first one, %s, is used (choose with --layer)",
                 path, n_with_geometry, OGR_L_GetName(first));
        progress_warn(p, note);
    }
    return first;
}

/* Lon/lat from the layer's CRS. A CSV has none; its lon and lat columns can only be WGS 84. */
static OGRCoordinateTransformationH layer_to_lonlat(OGRLayerH layer, const char *path, bool csv,
                                                    struct err *e)
{
    OGRSpatialReferenceH srs = OGR_L_GetSpatialRef(layer);
    if (!srs && !csv) {
        err_set(e, ERR_INPUT, "%s has no coordinate system; assign it with ogr2ogr -a_srs EPSG:CODE", path);
        return NULL;
    }
    OGRSpatialReferenceH from = srs ? OSRClone(srs) : geo_srs("EPSG:4326", e), to = geo_srs("EPSG:4326", e);
    OGRCoordinateTransformationH t = NULL;
    char why[200];
    if (from && to) {
        OSRSetAxisMappingStrategy(from, OAMS_TRADITIONAL_GIS_ORDER);
        CPLErrorReset();
        t = OCTNewCoordinateTransformation(from, to);
        if (!t)
            err_set(e, ERR_INPUT,
                    "%s: its coordinate system cannot be turned into longitude and latitude (%s)", path,
                    geo_message(why, sizeof why));
    }
    OSRDestroySpatialReference(from);
    OSRDestroySpatialReference(to);
    return t;
}

static bool read_features(struct reading *r, OGRLayerH layer, const char *path,
                          OGRCoordinateTransformationH to_lonlat, const struct progress *p, struct err *e)
{
    OGRFeatureDefnH defn = OGR_L_GetLayerDefn(layer);
    OGRFeatureH feature;
    int id_field, label_field = -1;
    bool ok = find_id_field(r->o, defn, path, &id_field, e);
    char why[200];
    if (ok && r->o->label_field) {
        label_field = OGR_FD_GetFieldIndex(defn, r->o->label_field);
        if (label_field < 0)
            ok = err_set(e, ERR_INPUT,
                         "%s has no field '%s' to take labels from; ogrinfo -so lists its fields", path,
                         r->o->label_field);
    }
    CPLErrorReset();
    OGR_L_ResetReading(layer);
    while (ok && (feature = OGR_L_GetNextFeature(layer))) {
        struct vector_footprint *f = next_item(r->set, &r->room, e);
        ok = f != NULL;
        if (ok && (f->geometry = footprint_of(r, OGR_F_GetGeometryRef(feature), to_lonlat)) &&
            place(f, r->to_grid, r->to_lonlat)) {
            f->level = read_label(r, feature, label_field);
            f->bldg_id = read_id(feature, id_field, e);
            ok = f->bldg_id != NULL;
            r->set->n++;
        } else if (ok) {
            OGR_G_DestroyGeometry(f->geometry);
            r->set->n_dropped++;
        }
        OGR_F_Destroy(feature);
        if (ok && r->set->n % 4096 == 0 && progress_stopped(p))
            ok = err_set(e, ERR_INTERRUPTED, "interrupted");
        CPLErrorReset(); /* GEOS tells about every invalid ring; only an error of the reader itself counts
                            below */
    }
    if (ok && CPLGetLastErrorType() == CE_Failure)
        ok = err_set(e, ERR_INPUT, "%s cannot be read to its end (%s)", path, geo_message(why, sizeof why));
    return ok;
}

static bool read_source(struct reading *r, const char *path, const struct progress *p, struct err *e)
{
    static const char *const csv_options[] = {"X_POSSIBLE_NAMES=lon,longitude,x,long",
                                              "Y_POSSIBLE_NAMES=lat,latitude,y",
                                              "GEOM_POSSIBLE_NAMES=wkt,geometry,geom,the_geom", NULL};
    char why[200];
    size_t n = strlen(path);
    bool csv = n > 4 && strcasecmp(path + n - 4, ".csv") == 0, ok = false;
    if (strncmp(path, "/vsi", 4) != 0 && path[0] == '/' && !file_exists(path))
        return err_set(e, ERR_NOT_FOUND, "%s: there is no such file", path);
    CPLErrorReset();
    GDALDatasetH ds = GDALOpenEx(path, GDAL_OF_VECTOR | GDAL_OF_READONLY | GDAL_OF_VERBOSE_ERROR, NULL,
                                 csv ? csv_options : NULL, NULL);
    if (!ds) {
        geo_message(why, sizeof why);
        if (strncmp(path, "/vsi", 4) != 0 && !file_exists(path))
            return err_set(e, ERR_NOT_FOUND, "%s: there is no such file", path);
        return err_set(e, ERR_INPUT,
                       "%s cannot be opened as footprints (%s); give a GeoPackage, GeoJSON, Shapefile, "
                       "FlatGeobuf or CSV",
                       path, why);
    }
    OGRLayerH layer = choose_layer(ds, path, r->o->layer, p, e);
    OGRCoordinateTransformationH t = layer ? layer_to_lonlat(layer, path, csv, e) : NULL;
    if (t)
        ok = read_features(r, layer, path, t, p, e);
    OCTDestroyCoordinateTransformation(t);
    GDALClose(ds);
    return ok;
}

static bool add_path(struct vector_set *s, const char *path, struct err *e)
{
    if (!mem_grow(&s->path, (size_t)s->n_paths + 1, sizeof *s->path, "the list of footprint files", e))
        return false;
    char *full = strncmp(path, "/vsi", 4) == 0 ? NULL : realpath(path, NULL);
    s->path[s->n_paths] = full ? full : mem_strdup(path, e);
    return s->path[s->n_paths] ? (s->n_paths++, true) : false;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static bool is_side_file(const char *name)
{
    static const char *const ends[] = {".dbf", ".shx", ".prj", ".cpg", ".qpj", ".sbn", ".sbx",
                                       ".xml", ".qmd", ".txt", ".md",  ".wal", ".shm", ".lyrx"};
    const char *dot = strrchr(name, '.');
    for (size_t i = 0; dot && i < sizeof ends / sizeof *ends; i++)
        if (strcasecmp(dot, ends[i]) == 0)
            return true;
    return name[0] == '.';
}

/* A folder stands for the sources in it, by name, unless it is a source itself (a file geodatabase). */
static bool list_sources(struct vector_set *s, const char *path, struct err *e)
{
    VSIStatBufL st;
    size_t n = strlen(path);
    if (VSIStatL(path, &st) != 0 || !VSI_ISDIR(st.st_mode) ||
        (n > 4 && strcasecmp(path + n - 4, ".gdb") == 0))
        return add_path(s, path, e);
    char file[4096], **entries = VSIReadDir(path);
    bool ok = true;
    for (int i = 0; ok && entries && entries[i]; i++) {
        if (is_side_file(entries[i]))
            continue;
        ok = file_join(file, sizeof file, path, entries[i], e);
        if (ok && VSIStatL(file, &st) == 0 && !VSI_ISDIR(st.st_mode) &&
            GDALIdentifyDriverEx(file, GDAL_OF_VECTOR, NULL, NULL))
            ok = add_path(s, file, e);
    }
    CSLDestroy(entries);
    if (ok && s->n_paths == 0)
        return err_set(e, ERR_INPUT, "%s: the folder holds no footprint file that OGR can open", path);
    if (ok)
        qsort(s->path, (size_t)s->n_paths, sizeof *s->path, by_name);
    return ok;
}

static void tell(const struct vector_set *s, const char *path, const struct progress *p)
{
    char note[600];
    const char *base = file_base(path);
    if (s->n_repaired) {
        snprintf(note, sizeof note, "%s: %zu invalid outlines were repaired", base, s->n_repaired);
        progress_warn(p, note);
    }
    if (s->n_dropped) {
        snprintf(note, sizeof note, "%s: %zu rows have no usable outline and are left out", base,
                 s->n_dropped);
        progress_warn(p, note);
    }
    if (s->n_renamed) {
        snprintf(note, sizeof note,
                 "%s: %zu ids occur more than once; the later ones got a suffix (-2, -3, ...)", base,
                 s->n_renamed);
        progress_warn(p, note);
    }
}

bool vector_read(struct vector_set *s, const struct vector_options *o, const char *grid_wkt,
                 const struct progress *p, struct err *e)
{
    *s = (struct vector_set){.labeled = o->label_field != NULL};
    struct reading r = {.set = s, .o = o, .grid_wkt = grid_wkt};
    bool ok = label_map_parse(&r.map, o->label_map, e) && list_sources(s, o->path, e) &&
              (r.to_grid = geo_transform("EPSG:4326", grid_wkt, e)) &&
              (r.to_lonlat = geo_transform(grid_wkt, "EPSG:4326", e));
    for (int i = 0; ok && i < s->n_paths; i++) {
        progress_report(p, "footprints", i, s->n_paths, file_base(s->path[i]));
        ok = read_source(&r, s->path[i], p, e);
    }
    if (ok && s->n == 0)
        ok = s->n_dropped
                 ? err_set(e, ERR_INPUT, "%s: none of its %zu rows has a usable outline", o->path,
                           s->n_dropped)
                 : err_set(e, ERR_INPUT,
                           "%s holds no footprints; give one with buildings, or use --grid METRES", o->path);
    if (ok && s->n > INT32_MAX / 2)
        ok = err_set(e, ERR_INPUT,
                     "%s holds more footprints than can be handled at once; cut it to the scene", o->path);
    ok = ok && report_bad_labels(&r, e) && make_ids_unique(s, e);
    OCTDestroyCoordinateTransformation(r.to_grid);
    OCTDestroyCoordinateTransformation(r.to_lonlat);
    label_map_free(&r.map);
    if (ok)
        tell(s, o->path, p);
    else
        vector_set_free(s);
    return ok;
}

/* ---- cells
 * ------------------------------------------------------------------------------------------------------------
 */

static bool add_cell(struct vector_set *s, size_t *room, double x, double y, double side, long row,
                     long column, OGRCoordinateTransformationH to_grid,
                     OGRCoordinateTransformationH to_lonlat, struct err *e)
{
    char id[64];
    struct vector_footprint *f = next_item(s, room, e);
    if (!f)
        return false;
    f->geometry = square(x, y, side);
    if (OGR_G_Transform(f->geometry, to_lonlat) != OGRERR_NONE || !place(f, to_grid, to_lonlat)) {
        OGR_G_DestroyGeometry(f->geometry);
        return err_set(e, ERR_RUNTIME, "a grid cell cannot be placed on Earth");
    }
    OGR_G_AssignSpatialReference(f->geometry, NULL);
    snprintf(id, sizeof id, "r%ld-c%ld", row, column);
    s->n++;
    return (f->bldg_id = mem_strdup(id, e)) != NULL;
}

bool vector_cells(struct vector_set *s, OGRGeometryH overlap, const char *grid_wkt, double side_m,
                  const struct progress *p, struct err *e)
{
    OGREnvelope v;
    size_t room = 0;
    *s = (struct vector_set){0};
    OGR_G_GetEnvelope(overlap, &v);
    double x0 = floor(v.MinX / side_m) * side_m, y1 = ceil(v.MaxY / side_m) * side_m;
    double n_x = ceil((v.MaxX - x0) / side_m), n_y = ceil((y1 - v.MinY) / side_m);
    if (n_x * n_y > CELLS_MAX)
        return err_set(e, ERR_INPUT,
                       "cells of %g m would be %.0f, more than the %d allowed; make them larger", side_m,
                       n_x * n_y, CELLS_MAX);
    OGRCoordinateTransformationH to_grid = geo_transform("EPSG:4326", grid_wkt, e);
    OGRCoordinateTransformationH to_lonlat = geo_transform(grid_wkt, "EPSG:4326", e);
    OGRPreparedGeometryH prepared = OGRCreatePreparedGeometry(overlap);
    OGRGeometryH centre = OGR_G_CreateGeometry(wkbPoint);
    bool ok = to_grid && to_lonlat;
    for (long row = 0; ok && row < (long)n_y; row++) {
        progress_report(p, "footprints", (double)row, n_y, NULL);
        if (progress_stopped(p))
            ok = err_set(e, ERR_INTERRUPTED, "interrupted");
        for (long column = 0; ok && column < (long)n_x; column++) {
            double x = x0 + ((double)column + 0.5) * side_m, y = y1 - ((double)row + 0.5) * side_m;
            OGR_G_SetPoint_2D(centre, 0, x, y);
            if (OGRPreparedGeometryIntersects(prepared, centre))
                ok = add_cell(s, &room, x, y, side_m, row, column, to_grid, to_lonlat, e);
        }
    }
    if (ok && s->n == 0)
        ok = err_set(e, ERR_INPUT,
                     "no cell of %g m has its centre in the ground that both dates show; make them smaller",
                     side_m);
    OGR_G_DestroyGeometry(centre);
    OGRDestroyPreparedGeometry(prepared);
    OCTDestroyCoordinateTransformation(to_grid);
    OCTDestroyCoordinateTransformation(to_lonlat);
    if (!ok)
        vector_set_free(s);
    return ok;
}
