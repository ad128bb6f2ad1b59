/* SPDX-License-Identifier: Apache-2.0
 * assessment.c - reading a map folder into memory (assessment.h). */
#include "web/assessment.h"
#include "web/geojson.h"

#include "geo/event_files.h"
#include "models/base/file.h"
#include "models/base/mem.h"
#include <assert.h>
#include <cJSON.h>
#include <cpl_conv.h>
#include <cpl_error.h>
#include <cpl_string.h>
#include <ctype.h>
#include <math.h>
#include <ogr_srs_api.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

const char *const assessment_equal_names[EQUAL_COUNT] = {"bldg_id", "dmg_class", "dmg_level", "status",
                                                         "reason",  "zone_id",   "lbl_src"};

enum { RUN_JSON_MAX_BYTES = 16 << 20 };

/* What the reading of one layer carries along. */
struct reader {
    struct assessment *as;
    FILE *text, *names; /* growing as->text and as->names */
    size_t text_size, names_size;
    int equal_field[EQUAL_COUNT], p_field, entropy_field, updated_field; /* -1: absent */
    uint32_t known[ASSESSMENT_MAX_FIELDS][ASSESSMENT_MAX_VALUES]; /* offsets of the field's distinct values */
    char *known_text[ASSESSMENT_MAX_FIELDS][ASSESSMENT_MAX_VALUES];
    int n_known[ASSESSMENT_MAX_FIELDS]; /* -1: too many to list */
    int n_columns;                      /* of the layer; the fields after them are the images' dates */
};

/* Columns of every building that no file carries: when its images were taken. */
static const struct {
    const char *name;
    int layer;
} date_columns[] = {{"pre_date", TILE_PRE}, {"post_date", TILE_POST}};
enum { N_DATE_COLUMNS = sizeof date_columns / sizeof *date_columns };

/* The date that all images of a layer have; "": they say none, or several. */
static const char *common_date(const struct tile_layer *layer)
{
    for (int i = 1; i < layer->n; i++)
        if (strcmp(layer->source[i].date, layer->date) != 0)
            return "";
    return layer->date;
}

static void write_property(FILE *f, OGRFeatureH feature, int i, const struct assessment_field *field)
{
    geojson_string(f, field->name);
    fputc(':', f);
    if (!OGR_F_IsFieldSetAndNotNull(feature, i)) {
        fputs("null", f);
        return;
    }
    switch (field->type) {
    case OFTInteger:
    case OFTInteger64:
        fprintf(f, "%lld", (long long)OGR_F_GetFieldAsInteger64(feature, i));
        return;
    case OFTReal:
        geojson_number(f, OGR_F_GetFieldAsDouble(feature, i), 3);
        return;
    case OFTDate:
    case OFTDateTime: {
        int y, mo, d, h, mi, zone;
        float s;
        if (OGR_F_GetFieldAsDateTimeEx(feature, i, &y, &mo, &d, &h, &mi, &s, &zone)) {
            if (field->type == OFTDate)
                fprintf(f, "\"%04d-%02d-%02d\"", y, mo, d);
            else
                fprintf(f, "\"%04d-%02d-%02dT%02d:%02d:%02dZ\"", y, mo, d, h, mi, (int)s);
            return;
        }
        fputs("null", f);
        return;
    }
    default:
        geojson_string(f, OGR_F_GetFieldAsString(feature, i));
    }
}

/* ---- rows
 * ------------------------------------------------------------------------------------------------------- */

/* Stores a value once for fields with few distinct ones, again and again for the others. */
static uint32_t keep_value(struct reader *r, int field, const char *value)
{
    for (int i = 0; i < r->n_known[field]; i++)
        if (strcmp(r->known_text[field][i], value) == 0)
            return r->known[field][i];
    uint32_t at = (uint32_t)ftello(r->names);
    fputs(value, r->names);
    fputc('\0', r->names);
    if (r->n_known[field] == ASSESSMENT_MAX_VALUES) {
        for (int i = 0; i < ASSESSMENT_MAX_VALUES; i++)
            free(r->known_text[field][i]);
        r->n_known[field] = -1;
    }
    if (r->n_known[field] >= 0) {
        char *copy = strdup(value);
        if (copy) {
            r->known_text[field][r->n_known[field]] = copy;
            r->known[field][r->n_known[field]++] = at;
        }
    }
    return at;
}

static time_t feature_time(OGRFeatureH feature, int field)
{
    int y, mo, d, h, mi, zone;
    float s;
    if (field < 0 || !OGR_F_IsFieldSetAndNotNull(feature, field))
        return (time_t)-1;
    if (OGR_F_GetFieldAsDateTimeEx(feature, field, &y, &mo, &d, &h, &mi, &s, &zone) && y > 0) {
        struct tm tm = {.tm_year = y - 1900,
                        .tm_mon = mo - 1,
                        .tm_mday = d,
                        .tm_hour = h,
                        .tm_min = mi,
                        .tm_sec = (int)s};
        return timegm(&tm);
    }
    struct tm tm = {0};
    return strptime(OGR_F_GetFieldAsString(feature, field), "%Y-%m-%dT%H:%M:%S", &tm) ? timegm(&tm)
                                                                                      : (time_t)-1;
}

static int16_t thousandths(OGRFeatureH feature, int field, double most)
{
    double v = field >= 0 && OGR_F_IsFieldSetAndNotNull(feature, field)
                   ? OGR_F_GetFieldAsDouble(feature, field)
                   : -1;
    return v >= 0 && v <= most ? (int16_t)lround(v * 1000) : ASSESSMENT_NO_P;
}

/* A building on the 180th meridian has longitudes near both of its ends; RFC 7946, 3.1.9 wants it in two parts. Takes
 * the geometry. */
static OGRGeometryH split_at_dateline(OGRGeometryH g)
{
    OGREnvelope box;
    OGR_G_GetEnvelope(g, &box);
    if (OGR_G_IsEmpty(g) || !(box.MaxX - box.MinX > 180))
        return g;
    OGRGeomTransformerH t = OGR_GeomTransformer_Create(NULL, (char *[]){(char[]){"WRAPDATELINE=YES"}, NULL});
    OGRGeometryH split = t ? OGR_GeomTransformer_Transform(t, g) : NULL;
    OGR_GeomTransformer_Destroy(t);
    if (!split)
        return g;
    OGR_G_DestroyGeometry(g);
    return split;
}

static bool read_feature(struct reader *r, OGRFeatureH feature, OGRCoordinateTransformationH to_lonlat,
                         struct building *b, struct err *e)
{
    const struct assessment *as = r->as;
    OGRGeometryH g = OGR_F_StealGeometry(feature);
    b->geometry = g;
    b->fid = OGR_F_GetFID(feature);
    if (g && to_lonlat && OGR_G_Transform(g, to_lonlat) != OGRERR_NONE)
        return err_set(e, ERR_INPUT, "building %lld cannot be put into degrees", (long long)b->fid);
    OGREnvelope box = {1, 0, 1, 0}; /* fits no query */
    if (g && !OGR_G_IsEmpty(g)) {
        OGR_G_FlattenTo2D(g);
        b->geometry = g = split_at_dateline(g);
        OGR_G_GetEnvelope(g, &box);
    }
    if (!isfinite(box.MinX + box.MinY + box.MaxX +
                  box.MaxY)) { /* no place on Earth: the row stays, without one */
        OGR_G_DestroyGeometry(g);
        b->geometry = NULL;
        box = (OGREnvelope){1, 0, 1, 0};
    }
    memcpy(b->box, (double[4]){box.MinX, box.MinY, box.MaxX, box.MaxY}, sizeof b->box);
    b->p_mille = thousandths(feature, r->p_field, 1);
    b->entropy_mille = thousandths(feature, r->entropy_field, 32);
    b->updated = feature_time(feature, r->updated_field);
    for (int k = 0; k < EQUAL_COUNT; k++) {
        int i = r->equal_field[k];
        if (i >= 0 && OGR_F_IsFieldSetAndNotNull(feature, i))
            b->equal[k] = keep_value(r, i, OGR_F_GetFieldAsString(feature, i));
    }
    b->text = (size_t)ftello(r->text);
    fprintf(r->text, "{\"type\":\"Feature\",\"id\":%lld,\"geometry\":", (long long)b->fid);
    geojson_geometry(r->text, b->geometry, &(struct geojson_style){.decimals = 7});
    fputs(",\"properties\":", r->text);
    b->properties = (size_t)ftello(r->text);
    fputc('{', r->text);
    for (int i = 0; i < r->n_columns; i++) {
        if (i)
            fputc(',', r->text);
        write_property(r->text, feature, i, &as->field[i]);
    }
    for (int i = r->n_columns; i < as->n_fields; i++) {
        const char *date = common_date(&as->layer[date_columns[i - r->n_columns].layer]);
        const char *quote = *date ? "\"" : "";
        fprintf(r->text, ",\"%s\":%s%s%s", as->field[i].name, quote, *date ? date : "null", quote);
    }
    fputs("}}", r->text);
    b->text_size = (size_t)ftello(r->text) - b->text;
    return true;
}

static void read_fields(struct reader *r, OGRLayerH layer)
{
    struct assessment *as = r->as;
    OGRFeatureDefnH defn = OGR_L_GetLayerDefn(layer);
    for (int k = 0; k < EQUAL_COUNT; k++)
        r->equal_field[k] = -1;
    r->p_field = r->entropy_field = r->updated_field = -1;
    for (int i = 0; i < OGR_FD_GetFieldCount(defn) && i < ASSESSMENT_MAX_FIELDS; i++) {
        OGRFieldDefnH fd = OGR_FD_GetFieldDefn(defn, i);
        struct assessment_field *field = &as->field[as->n_fields++];
        snprintf(field->name, sizeof field->name, "%s", OGR_Fld_GetNameRef(fd));
        field->type = OGR_Fld_GetType(fd);
        for (int k = 0; k < EQUAL_COUNT; k++)
            if (strcmp(field->name, assessment_equal_names[k]) == 0)
                r->equal_field[k] = i;
        if (strcmp(field->name, "p_dmg") == 0)
            r->p_field = i;
        if (strcmp(field->name, "entropy") == 0)
            r->entropy_field = i;
        if (strcmp(field->name, "updated") == 0)
            r->updated_field = i;
        if (strcmp(field->name, "updated") == 0 && field->type == OFTDate)
            as->updated_seconds = 86399;
    }
    r->n_columns = as->n_fields;
    bool has_room = r->n_columns > 0 && r->n_columns + N_DATE_COLUMNS <= ASSESSMENT_MAX_FIELDS &&
                    OGR_FD_GetFieldIndex(defn, "pre_date") < 0 && OGR_FD_GetFieldIndex(defn, "post_date") < 0;
    for (int i = 0; i < N_DATE_COLUMNS && has_room && as->kind != ASSESSMENT_TABLE; i++) {
        struct assessment_field *field = &as->field[as->n_fields++];
        snprintf(field->name, sizeof field->name, "%s", date_columns[i].name);
        field->type = OFTDate;
    }
}

/* A transformation to longitude and latitude, or NULL when the layer has them already (or says nothing). */
static OGRCoordinateTransformationH lonlat_transform(OGRLayerH layer)
{
    OGRSpatialReferenceH from = OGR_L_GetSpatialRef(layer), to = OSRNewSpatialReference(NULL);
    OGRCoordinateTransformationH t = NULL;
    OSRImportFromEPSG(to, 4326);
    OSRSetAxisMappingStrategy(to, OAMS_TRADITIONAL_GIS_ORDER);
    if (from) {
        OSRSetAxisMappingStrategy(from, OAMS_TRADITIONAL_GIS_ORDER);
        if (!OSRIsSame(from, to))
            t = OCTNewCoordinateTransformation(from, to);
    }
    OSRDestroySpatialReference(to);
    return t;
}

static int compare_fid(const void *a, const void *b)
{
    int64_t x = ((const struct building *)a)->fid, y = ((const struct building *)b)->fid;
    return x < y ? -1 : x > y;
}

static bool read_rows(struct reader *r, OGRLayerH layer, OGRCoordinateTransformationH to_lonlat,
                      struct err *e)
{
    struct assessment *as = r->as;
    size_t room = 0;
    OGRFeatureH feature;
    OGR_L_ResetReading(layer);
    CPLErrorReset();
    while ((feature = OGR_L_GetNextFeature(layer)) != NULL) {
        bool ok = true;
        if (as->n == room) {
            room = room ? 2 * room : 1024;
            ok = mem_grow(&as->building, room, sizeof *as->building, "the buildings", e);
        }
        if (ok) {
            as->building[as->n] = (struct building){0};
            ok = read_feature(r, feature, to_lonlat, &as->building[as->n++], e);
        }
        OGR_F_Destroy(feature);
        if (!ok)
            return false;
    }
    if (CPLGetLastErrorType() == CE_Failure)
        return err_set(e, ERR_INPUT, "reading stopped: %s; make the map anew with 'aftermap assess'",
                       CPLGetLastErrorMsg());
    if (as->n)
        qsort(as->building, as->n, sizeof *as->building, compare_fid);
    return true;
}

/* The layer's rows into as->building, text and names. `name` stands in messages. */
static bool read_layer(struct assessment *as, OGRLayerH layer, const char *name, struct err *e)
{
    bool ok = false;
    OGRCoordinateTransformationH to_lonlat = NULL;
    struct reader r = {.as = as};
    r.text = open_memstream(&as->text, &r.text_size);
    r.names = open_memstream(&as->names, &r.names_size);
    if (!r.text || !r.names) {
        err_set(e, ERR_RESOURCE, "%s: memory ran out", name);
        goto out;
    }
    fputc('\0', r.names);
    read_fields(&r, layer);
    to_lonlat = lonlat_transform(layer);
    ok = read_rows(&r, layer, to_lonlat, e) || err_prefix(e, "%s", name);
    bool is_short = ferror(r.text) || ferror(r.names) || ftello(r.names) > (off_t)UINT32_MAX;
    if (ok && is_short)
        ok = err_set(e, ERR_RESOURCE, "%s: memory ran out after %zu features", name, as->n);
out:
    if (r.text && fclose(r.text) != 0 && ok)
        ok = err_set(e, ERR_RESOURCE, "%s: memory ran out", name);
    if (r.names && fclose(r.names) != 0 && ok)
        ok = err_set(e, ERR_RESOURCE, "%s: memory ran out", name);
    for (int i = 0; i < as->n_fields; i++) {
        for (int k = 0; k < r.n_known[i]; k++) {
            if (ok && as->field[i].type == OFTString)
                as->field[i].value[as->field[i].n_values++] = as->names + r.known[i][k];
            free(r.known_text[i][k]);
        }
    }
    if (to_lonlat)
        OCTDestroyCoordinateTransformation(to_lonlat);
    return ok;
}

/* Buildings of damage.gpkg or chips.gpkg. */
static bool read_buildings(struct assessment *as, const char *path, struct err *e)
{
    static const char *const drivers[] = {"GPKG", NULL};
    GDALDatasetH ds = GDALOpenEx(path, GDAL_OF_VECTOR | GDAL_OF_READONLY, drivers, NULL, NULL);
    OGRLayerH layer = ds ? GDALDatasetGetLayerByName(ds, "buildings") : NULL;
    bool ok =
        layer ? read_layer(as, layer, path, e)
              : err_set(e, ERR_INPUT,
                        "%s is no GeoPackage with a layer 'buildings'; make it with 'aftermap assess'", path);
    if (ds)
        GDALClose(ds);
    return ok;
}

size_t assessment_find(const struct assessment *as, int64_t fid)
{
    size_t lo = 0, hi = as->n;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (as->building[mid].fid < fid)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

/* ---- the folder
 * ------------------------------------------------------------------------------------------------- */

/* The folder's name as an id: letters, digits, '-' and '_' stay. */
static bool name_ids(struct assessment *as, const char *id, struct err *e)
{
    as->id = mem_strdup(id ? id : file_base(as->dir), e);
    if (!as->id)
        return false;
    for (char *p = as->id; *p; p++)
        if (!isalnum((unsigned char)*p) && *p != '-' && *p != '_')
            *p = '-';
    if (!*as->id) {
        free(as->id);
        as->id = mem_strdup("map", e);
    }
    if (!as->id || asprintf(&as->collection_id, "%s.buildings", as->id) < 0) {
        as->collection_id = NULL;
        return err_set(e, ERR_RESOURCE, "memory ran out");
    }
    return true;
}

static void add_revision(FILE *f, const char *path)
{
    struct stat st;
    if (stat(path, &st) == 0)
        fprintf(f, "%s %lld %lld.%09ld\n", path, (long long)st.st_size, (long long)st.st_mtim.tv_sec,
                st.st_mtim.tv_nsec);
}

static const char *text_of(const cJSON *o, const char *name)
{
    const char *s = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(o, name));
    return s ? s : "";
}

static void open_layer(struct assessment *as, int i, const cJSON *inputs, FILE *revision)
{
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(inputs, tile_layer_names[i]), *item;
    int n = cJSON_GetArraySize(list), k = 0;
    const char **path =
        n > 0 && n <= TILES_MAX_SOURCES ? mem_array((size_t)n, sizeof *path, "paths", NULL) : NULL;
    if (path)
        cJSON_ArrayForEach(item, list)
        {
            /* run.json names files, event.json describes them */
            const char *name = cJSON_IsString(item) ? item->valuestring : text_of(item, "path");
            if (*name)
                path[k++] = name;
        }
    for (int j = 0; j < k; j++)
        add_revision(revision, path[j]);
    tile_layer_open(&as->layer[i], path, k, TILE_STYLE_IMAGE);
    free(path);
}

/* The layers that a prediction makes; an event says why it has none. */
static bool open_results(struct assessment *as, const char *damage, struct err *e)
{
    char prob[4096];
    int n = as->kind == ASSESSMENT_MAP;
    if (!file_join(prob, sizeof prob, as->dir, "prob.tif", e))
        return false;
    tile_layer_open(&as->layer[TILE_DAMAGE], (const char *const[]){damage}, n, TILE_STYLE_CLASSES);
    tile_layer_open(&as->layer[TILE_PROB], (const char *const[]){prob}, n, TILE_STYLE_PROBABILITY);
    tile_layer_open(&as->layer[TILE_UNCERTAINTY], (const char *const[]){prob}, n, TILE_STYLE_UNCERTAINTY);
    for (int i = TILE_DAMAGE; !n && i <= TILE_UNCERTAINTY; i++)
        snprintf(as->layer[i].why, sizeof as->layer[i].why, "nothing was predicted yet");
    snprintf(as->layer[TILE_SHIFT].why, sizeof as->layer[TILE_SHIFT].why,
             "shifts are kept with the event, and only its map is shown");
    return true;
}

/* The working grid's EPSG code, from its number or out of its definition; 0 when it has none. */
static int grid_epsg(const cJSON *run)
{
    const cJSON *grid = cJSON_GetObjectItemCaseSensitive(run, "grid");
    if (!grid)
        grid = cJSON_GetObjectItemCaseSensitive(cJSON_GetObjectItemCaseSensitive(run, "event"), "grid");
    const cJSON *number = cJSON_GetObjectItemCaseSensitive(grid, "epsg");
    int epsg = cJSON_IsNumber(number) ? number->valueint : 0;
    OGRSpatialReferenceH srs = OSRNewSpatialReference(text_of(grid, "wkt"));
    const char *code = srs && *text_of(grid, "wkt") && OSRAutoIdentifyEPSG(srs) == OGRERR_NONE
                           ? OSRGetAuthorityCode(srs, NULL)
                           : NULL;
    if (!epsg && code)
        epsg = (int)strtol(code, NULL, 10);
    OSRDestroySpatialReference(srs);
    return epsg > 1024 && epsg < 100000 ? epsg : 0;
}

static const struct {
    const char *manifest, *vector, *raster;
} folder_files[] = {{"run.json", "damage.gpkg", "damage.tif"}, {"event.json", "chips.gpkg", "chips.tif"}};

static bool read_run(struct assessment *as, struct err *e)
{
    char run_path[4096], raster_path[4096], gpkg_path[4096], hex[65];
    char *text = NULL, *revision = NULL;
    size_t size = 0, revision_size = 0;
    cJSON *run = NULL;
    bool ok = false, is_map = as->kind == ASSESSMENT_MAP;
    if (!file_join(run_path, sizeof run_path, as->dir, folder_files[as->kind].manifest, e) ||
        !file_join(raster_path, sizeof raster_path, as->dir, folder_files[as->kind].raster, e) ||
        !file_join(gpkg_path, sizeof gpkg_path, as->dir, folder_files[as->kind].vector, e))
        return false;
    if (!is_map && !event_files_finish(as->dir, e))
        return false;
    text = file_read(run_path, RUN_JSON_MAX_BYTES, &size, e);
    run = text ? cJSON_ParseWithLength(text, size) : NULL;
    FILE *f = run ? open_memstream(&revision, &revision_size) : NULL;
    if (!text)
        goto out;
    if (!cJSON_IsObject(run)) {
        err_set(e, ERR_INPUT, "%s is no JSON object; make the folder anew", run_path);
        goto out;
    }
    if (!f) {
        err_set(e, ERR_RESOURCE, "memory ran out");
        goto out;
    }
    const cJSON *inputs = cJSON_GetObjectItemCaseSensitive(run, "inputs");
    open_layer(as, TILE_PRE, inputs, f);
    open_layer(as, TILE_POST, inputs, f);
    if (!open_results(as, raster_path, e))
        goto out;
    add_revision(f, run_path);
    add_revision(f, raster_path);
    add_revision(f, gpkg_path);
    snprintf(as->version, sizeof as->version, "%s", text_of(run, is_map ? "version" : "program"));
    as->epsg = grid_epsg(run);
    if (!as->title)
        as->title = mem_strdup(*text_of(run, "title") ? text_of(run, "title") : file_base(as->dir), e);
    ok = as->title != NULL;
out:
    if (f && fclose(f) != 0)
        ok = err_set(e, ERR_RESOURCE, "memory ran out");
    if (ok) {
        file_sha256_buffer(revision, revision_size, hex);
        snprintf(as->revision, sizeof as->revision, "%.32s", hex);
    }
    free(revision);
    free(text);
    cJSON_Delete(run);
    return ok;
}

static void bound_buildings(struct assessment *as)
{
    double box[4] = {HUGE_VAL, HUGE_VAL, -HUGE_VAL, -HUGE_VAL};
    for (size_t i = 0; i < as->n; i++) {
        const double *b = as->building[i].box;
        if (b[0] > b[2])
            continue;
        box[0] = fmin(box[0], b[0]);
        box[1] = fmin(box[1], b[1]);
        box[2] = fmax(box[2], b[2]);
        box[3] = fmax(box[3], b[3]);
    }
    if (box[0] > box[2])
        memcpy(box, (double[4]){-180, -90, 180, 90}, sizeof box);
    memcpy(as->box, box, sizeof box);
}

struct assessment *assessment_open(const char *dir, struct err *e)
{
    return assessment_open_as(dir, ASSESSMENT_MAP, NULL, NULL, e);
}

struct assessment *assessment_open_as(const char *dir, enum assessment_kind kind, const char *id,
                                      const char *title, struct err *e)
{
    const char *const needed[] = {folder_files[kind].manifest, folder_files[kind].raster,
                                  folder_files[kind].vector};
    const char *maker = kind == ASSESSMENT_MAP ? "assess" : "tile";
    char path[4096];
    struct assessment *as = mem_array(1, sizeof *as, "a map", e);
    if (!as)
        return NULL;
    as->kind = kind;
    as->dir = realpath(dir, NULL);
    if (!as->dir || !file_is_dir(as->dir)) {
        err_set(e, ERR_INPUT, "%s is no folder; give one that 'aftermap %s' made", dir, maker);
        goto fail;
    }
    for (size_t i = 0; i < sizeof needed / sizeof *needed; i++) {
        if (!file_join(path, sizeof path, as->dir, needed[i], e))
            goto fail;
        if (!file_exists(path)) {
            err_set(e, ERR_INPUT, "%s holds no %s; give a folder that 'aftermap %s' made", dir, needed[i],
                    maker);
            goto fail;
        }
    }
    if (title && !(as->title = mem_strdup(title, e)))
        goto fail;
    /* The images first: buildings tell their dates. */
    if (!name_ids(as, id, e) || !read_run(as, e) || !read_buildings(as, path, e))
        goto fail;
    bound_buildings(as);
    return as;
fail:
    assessment_close(as);
    return NULL;
}

struct assessment *assessment_open_layer(OGRLayerH layer, const struct assessment *of,
                                         const char *collection_id, const char *title, struct err *e)
{
    struct assessment *as = mem_array(1, sizeof *as, "a collection", e);
    if (!as)
        return NULL;
    as->kind = ASSESSMENT_TABLE;
    as->epsg = of->epsg;
    as->id = mem_strdup(of->id, e);
    as->collection_id = as->id ? mem_strdup(collection_id, e) : NULL;
    as->title = as->collection_id ? mem_strdup(title, e) : NULL;
    if (!as->title || !read_layer(as, layer, collection_id, e)) {
        assessment_close(as);
        return NULL;
    }
    bound_buildings(as);
    return as;
}

void assessment_close(struct assessment *as)
{
    if (!as)
        return;
    for (size_t i = 0; i < as->n; i++)
        OGR_G_DestroyGeometry(as->building[i].geometry);
    for (int i = 0; i < TILE_LAYERS; i++)
        tile_layer_close(&as->layer[i]);
    free(as->building);
    free(as->text);
    free(as->names);
    free(as->dir);
    free(as->id);
    free(as->collection_id);
    free(as->title);
    free(as);
}
