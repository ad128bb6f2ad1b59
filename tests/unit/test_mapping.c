/* SPDX-License-Identifier: Apache-2.0
 *
 * test_mapping.c - the map writers on an event built by hand: six buildings whose pixels were counted on
 * paper. What they wrote is read back through GDAL, libtiff (order of the parts of a COG), SQL and a JSON
 * parser, not through our own code. */
#include "geo/mapping_parts.h"
#include "geo/raster.h"
#include "models/base/file.h"

#include <cpl_conv.h>
#include <cpl_minixml.h>
#include <math.h>
#include <ogr_srs_api.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <tiffio.h>
#include <unistd.h>

#include <cmocka.h>

enum { WIDTH = 1200, HEIGHT = 700, N = 6 };
static const double grid_gt[6] = {360000, 0.5, 0, 4105000, 0, -0.5};
static const char *const file_names[] = {"damage.tif", "prob.tif",           "damage.gpkg", "damage.geojson",
                                         "damage.csv", "damage.tif.aux.xml", "pre.tif",     "post.tif"};
enum { DAMAGE, PROB, GPKG, GEOJSON, CSV, AUX, PRE, POST, N_FILES };

struct fixture {
    char dir[64], path[N_FILES][128];
    struct event ev;
    struct event_building building[N];
    struct mapping_item item[N];
    struct mapping_map map;
    cJSON *settings;
    char *sources[2][1];
};

/* A source image of w x h pixels from the grid's corner: only its header matters here. */
static void make_source(const char *path, const char *wkt, int w, int h)
{
    GDALDatasetH ds = GDALCreate(GDALGetDriverByName("GTiff"), path, w, h, 1, GDT_Byte, NULL);
    assert_non_null(ds);
    GDALSetProjection(ds, wkt);
    GDALSetGeoTransform(ds, (double *)(uintptr_t)grid_gt);
    GDALClose(ds);
}

/* Pixels x0..x1-1, y0..y1-1 of the grid as a clockwise ring in longitude / latitude, a quarter pixel off the
 * lattice, so that no pixel centre lies on an edge. */
static OGRGeometryH rectangle(OGRCoordinateTransformationH t, const int r[4])
{
    const double px[5][2] = {{r[0], r[1]}, {r[2], r[1]}, {r[2], r[3]}, {r[0], r[3]}, {r[0], r[1]}};
    OGRGeometryH ring = OGR_G_CreateGeometry(wkbLinearRing), polygon = OGR_G_CreateGeometry(wkbPolygon);
    for (int k = 0; k < 5; k++) {
        double x = grid_gt[0] + (px[k][0] + 0.25) * 0.5, y = grid_gt[3] - (px[k][1] + 0.25) * 0.5;
        assert_true(OCTTransform(t, 1, &x, &y, NULL));
        OGR_G_AddPoint_2D(ring, x, y);
    }
    OGR_G_AddGeometryDirectly(polygon, ring);
    return polygon;
}

static void put(struct fixture *f, int i, OGRGeometryH g, const char *id, int page, const char *reason,
                const float p[4])
{
    OGREnvelope env;
    OGR_G_GetEnvelope(g, &env);
    f->building[i] = (struct event_building){.fid = i + 1,
                                             .bldg_id = id,
                                             .page = page,
                                             .status = page < 0 ? "excluded" : "ok",
                                             .reason = reason,
                                             .level = -1,
                                             .block = 10 + i,
                                             .split = (uint8_t)(i % 3),
                                             .lon = (env.MinX + env.MaxX) / 2,
                                             .lat = (env.MinY + env.MaxY) / 2,
                                             .area_m2 = 49.96,
                                             .geometry = g};
    f->item[i].level = -1;
    f->item[i].status = MAPPING_NO_CHIP;
    f->item[i].reason = reason;
    if (page < 0)
        return;
    memcpy(f->item[i].p, p, sizeof f->item[i].p);
    mapping_decide(&f->item[i], f->map.n_classes, 2, 0.5, 0.1);
}

static struct fixture *fixture_make(bool binary)
{
    static const int r[7][4] = {{100, 100, 120, 110},  {110, 105, 130, 115}, {500, 300, 530, 320},
                                {700, 600, 720, 620},  {800, 100, 810, 110}, {820, 100, 830, 110},
                                {1100, 500, 1110, 510}};
    static const float four[4][4] = {
        {.7f, .2f, .06f, .04f}, {.1f, .1f, .1f, .7f}, {.2f, .26f, .3f, .24f}, {.3f, .4f, .2f, .1f}};
    static const float two[4][4] = {{.9f, .1f}, {.12345f, .87655f}, {.46f, .54f}, {.7f, .3f}};
    const float(*p)[4] = binary ? two : four;
    struct fixture *f = test_calloc(1, sizeof *f);
    struct err e;
    snprintf(f->dir, sizeof f->dir, "/tmp/test_mapping.XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    for (int k = 0; k < N_FILES; k++)
        snprintf(f->path[k], sizeof f->path[k], "%s/%s", f->dir, file_names[k]);
    OGRSpatialReferenceH utm = geo_srs("EPSG:32615", &e);
    OSRExportToWkt(utm, &f->ev.grid.wkt);
    OSRDestroySpatialReference(utm);
    memcpy(f->ev.grid.geotransform, grid_gt, sizeof grid_gt);
    f->ev.grid.width = WIDTH;
    f->ev.grid.height = HEIGHT;
    f->ev.grid.gsd_m = 0.5;
    snprintf(f->ev.digest, sizeof f->ev.digest, "%064d", 7);
    f->ev.n = N;
    f->ev.building = f->building;
    make_source(f->path[PRE], f->ev.grid.wkt, 1000, 700);
    make_source(f->path[POST], f->ev.grid.wkt, 1200, 650);
    for (int d = 0; d < 2; d++) {
        f->sources[d][0] = f->path[PRE + d];
        f->ev.path[d] = f->sources[d];
        f->ev.n_path[d] = 1;
    }
    f->settings = cJSON_CreateObject();
    cJSON_AddNumberToObject(f->settings, "n_views", 8);
    f->map = (struct mapping_map){.ev = &f->ev,
                                  .item = f->item,
                                  .n_classes = binary ? 2 : 4,
                                  .cut = 2,
                                  .seed = 9,
                                  .settings = f->settings};
    snprintf(f->map.model_digest, sizeof f->map.model_digest, "%064d", 3);
    snprintf(f->map.model_id, sizeof f->map.model_id, "%012d", 3);
    snprintf(f->map.run_id, sizeof f->map.run_id, "20261124T060800Z-0badcafe");
    snprintf(f->map.created, sizeof f->map.created, "2026-11-24T06:08:00Z");
    OGRCoordinateTransformationH t = geo_transform(f->ev.grid.wkt, "EPSG:4326", &e);
    put(f, 0, rectangle(t, r[0]), "a 1", 0, "", p[0]);
    put(f, 1, rectangle(t, r[1]), "a,2", 1, "", p[1]);
    f->building[0].shift_x = 0.35, f->building[0].shift_y = -1.2, f->building[0].shift_q = 0.813;
    f->building[0].shift_by = "measured";
    put(f, 2, rectangle(t, r[2]), "\"a3\"", 2, "", p[2]);
    f->building[2].shift_q = 0.04, f->building[2].shift_by = "skipped"; /* the others were never aligned */
    put(f, 3, rectangle(t, r[3]), "004", -1, "nodata", NULL);
    OGRGeometryH two_parts = OGR_G_CreateGeometry(wkbMultiPolygon);
    OGR_G_AddGeometryDirectly(two_parts, rectangle(t, r[4]));
    OGR_G_AddGeometryDirectly(two_parts, rectangle(t, r[5]));
    put(f, 4, two_parts, "a5", 3, "", p[3]);
    put(f, 5, rectangle(t, r[6]), "a6", -1, "misreg", NULL);
    f->item[0].trained = true;
    OCTDestroyCoordinateTransformation(t);
    return f;
}

static void fixture_free(struct fixture *f)
{
    for (int k = 0; k < N_FILES; k++)
        unlink(f->path[k]);
    for (int i = 0; i < N; i++)
        OGR_G_DestroyGeometry(f->building[i].geometry);
    assert_int_equal(rmdir(f->dir), 0); /* the writers leave nothing else behind */
    CPLFree(f->ev.grid.wkt);
    cJSON_Delete(f->settings);
    test_free(f);
}

static void must(bool ok, const struct err *e)
{
    if (!ok)
        fail_msg("%s", e->msg);
}

/* ---- verdicts */

static void test_verdicts(void **state)
{
    (void)state;
    const double ln2 = 0.69314718;
    struct mapping_item it = {.p = {0.5f, 0.5f}};
    mapping_decide(&it, 2, 3, 0.5, 0.1);
    assert_int_equal(it.level, 3); /* at the operating point: damaged, of the model's cut */
    assert_int_equal(it.status, MAPPING_ABSTAIN);
    assert_true(fabs(it.entropy - 0.693) < 1e-12 && fabs(ln2 - it.entropy) < 5e-4);

    it = (struct mapping_item){.p = {0.4f, 0.6f}}; /* on the edge of the band: no longer in it */
    mapping_decide(&it, 2, 2, 0.5, 0.1);
    assert_int_equal(it.status, MAPPING_OK);
    it = (struct mapping_item){.p = {0.401f, 0.599f}};
    mapping_decide(&it, 2, 2, 0.5, 0.1);
    assert_int_equal(it.status, MAPPING_ABSTAIN);
    mapping_decide(&it, 2, 2, 0.5, 0);
    assert_int_equal(it.status, MAPPING_OK);

    /* 0.4997 is shown as 0.5, so it counts as 0.5 */
    it = (struct mapping_item){.p = {0.5003f, 0.4997f}};
    mapping_decide(&it, 2, 2, 0.5, 0.1);
    assert_int_equal(it.level, 2);
    assert_true(it.p_dmg == 0.5);

    /* The most likely grade overall is none, but damage as a whole is likelier: the grade comes from that
     * side. */
    it = (struct mapping_item){.p = {0.4f, 0.05f, 0.25f, 0.3f}};
    mapping_decide(&it, 4, 2, 0.5, 0.02);
    assert_int_equal(it.level, 3);
    assert_true(fabs(it.p_dmg - 0.55) < 1e-12);
    assert_int_equal(it.status, MAPPING_OK);
    mapping_decide(&it, 4, 2, 0.6, 0.01);
    assert_int_equal(it.level, 0);
    assert_true(fabs(it.entropy - 1.224) <
                1e-12); /* -(.4 ln .4 + .05 ln .05 + .25 ln .25 + .3 ln .3) = 1.22409 */
}

/* ---- rasters */

static uint64_t first_tile(TIFF *t, int directory)
{
    uint64_t *offset = NULL, first = UINT64_MAX;
    assert_true(TIFFSetDirectory(t, (tdir_t)directory));
    assert_true(TIFFGetField(t, TIFFTAG_TILEOFFSETS, &offset));
    for (uint32_t k = 0; k < TIFFNumberOfTiles(t); k++)
        if (offset[k] && offset[k] < first)
            first = offset[k];
    return first;
}

/* The order a COG must have: directories from full size down, then the pixels from the smallest overview up.
 */
static void check_layout(const char *path, int n_bands)
{
    TIFF *t = TIFFOpen(path, "r");
    assert_non_null(t);
    int n = TIFFNumberOfDirectories(t);
    assert_int_equal(n, 3); /* 1200 -> 600 -> 300 */
    uint64_t directory = 0, pixels = UINT64_MAX;
    for (int d = 0; d < n; d++) {
        uint32_t width = 0, tile = 0;
        uint64_t first = first_tile(t, d);
        TIFFGetField(t, TIFFTAG_IMAGEWIDTH, &width);
        TIFFGetField(t, TIFFTAG_TILEWIDTH, &tile);
        assert_int_equal(width, WIDTH >> d);
        assert_int_equal(tile, 512);
        assert_true(TIFFCurrentDirOffset(t) > directory && first < pixels);
        directory = TIFFCurrentDirOffset(t);
        pixels = first;
    }
    assert_true(pixels > directory || n == 1);
    TIFFClose(t);
    GDALDatasetH ds = GDALOpen(path, GA_ReadOnly);
    assert_non_null(ds);
    assert_string_equal(GDALGetMetadataItem(ds, "LAYOUT", "IMAGE_STRUCTURE"), "COG");
    assert_int_equal(GDALGetRasterCount(ds), n_bands);
    assert_string_equal(GDALGetMetadataItem(ds, "AFTERMAP_VERSION", NULL), AM_VERSION);
    assert_string_equal(GDALGetMetadataItem(ds, "AFTERMAP_CUT", NULL), "2");
    assert_string_equal(GDALGetMetadataItem(ds, "AFTERMAP_SEED", NULL), "9");
    assert_int_equal(strlen(GDALGetMetadataItem(ds, "AFTERMAP_MODEL", NULL)), 64);
    assert_int_equal(strlen(GDALGetMetadataItem(ds, "AFTERMAP_EVENT", NULL)), 64);
    assert_string_equal(GDALGetMetadataItem(ds, "AFTERMAP_CREATED", NULL), "2026-11-24T06:08:00Z");
    assert_string_equal(GDALGetMetadataItem(ds, "AFTERMAP_SETTINGS", NULL), "{\"n_views\":8}");
    GDALClose(ds);
}

static void check_color(GDALColorTableH table, int value, int r, int g, int b)
{
    const GDALColorEntry *c = GDALGetColorEntry(table, value);
    assert_int_equal(c->c1, r);
    assert_int_equal(c->c2, g);
    assert_int_equal(c->c3, b);
}

static void check_classes(GDALRasterBandH band, const char *const names[4])
{
    char **category = GDALGetRasterCategoryNames(band);
    assert_non_null(category);
    assert_string_equal(category[0], "no building");
    for (int k = 0; k < 4; k++)
        assert_string_equal(category[k + 1], names[k]);
    assert_string_equal(category[254], "unknown");
    assert_string_equal(category[255], "no imagery");
    GDALRasterAttributeTableH rat = GDALGetDefaultRAT(band);
    assert_non_null(rat);
    assert_int_equal(GDALRATGetRowOfValue(rat, 254), GDALRATGetRowCount(rat) - 2);
    assert_string_equal(GDALRATGetValueAsString(rat, GDALRATGetRowOfValue(rat, 4), 1), names[3]);
    GDALColorTableH table = GDALGetRasterColorTable(band);
    assert_non_null(table);
    check_color(table, 1, 0xf7, 0xf7, 0xf7);
    check_color(table, 2, 0xfd, 0xcc, 0x8a);
    check_color(table, 3, 0xe3, 0x4a, 0x33);
    check_color(table, 4, 0x7a, 0x00, 0x00);
}

static void count_pixels(GDALRasterBandH band, int w, int h, size_t count[256], uint8_t **out)
{
    uint8_t *px = test_malloc((size_t)w * h);
    assert_int_equal(GDALRasterIO(band, GF_Read, 0, 0, w, h, px, w, h, GDT_Byte, 0, 0), CE_None);
    memset(count, 0, 256 * sizeof *count);
    for (int i = 0; i < w * h; i++)
        count[px[i]]++;
    if (out)
        *out = px;
    else
        test_free(px);
}

static void test_rasters(void **state)
{
    (void)state;
    static const char *const names[4] = {"none", "minor", "major", "destroyed"};
    struct fixture *f = fixture_make(false);
    struct err e;
    size_t count[256];
    uint8_t *px;
    must(mapping_write_rasters(&f->map, f->path[DAMAGE], f->path[PROB], NULL, &e), &e);
    check_layout(f->path[DAMAGE], 1);
    check_layout(f->path[PROB], 5);

    GDALDatasetH ds = GDALOpen(f->path[DAMAGE], GA_ReadOnly);
    GDALRasterBandH band = GDALGetRasterBand(ds, 1);
    int has;
    assert_true(GDALGetRasterNoDataValue(band, &has) == 255 && has);
    check_classes(band, names);
    count_pixels(band, WIDTH, HEIGHT, count, &px);
    assert_int_equal(count[1], 200 - 50); /* the destroyed neighbour overlaps 10 x 5 of it and wins */
    assert_int_equal(count[4], 200);
    assert_int_equal(count[3], 600);
    assert_int_equal(count[2], 200);
    assert_int_equal(count[254], 400 + 100);
    assert_int_equal(count[255], WIDTH * HEIGHT - 1000 * 650 - 100);
    assert_int_equal(count[0], 1000 * 650 - 150 - 200 - 600 - 200 - 400);
    assert_int_equal(px[105 * WIDTH + 110], 4);
    assert_int_equal(px[100 * WIDTH + 100], 1);
    assert_int_equal(px[300 * WIDTH + 511], 3); /* on both sides of the block edge */
    assert_int_equal(px[300 * WIDTH + 512], 3);
    assert_int_equal(px[505 * WIDTH + 1105], 254);
    assert_int_equal(px[505 * WIDTH + 1111], 255);
    assert_int_equal(px[649 * WIDTH + 999], 0);
    assert_int_equal(px[649 * WIDTH + 1000], 255);
    assert_int_equal(px[650 * WIDTH + 999], 255);
    /* nearest neighbour: an overview holds no code the map has not */
    size_t small[256];
    count_pixels(GDALGetOverview(band, 0), WIDTH / 2, HEIGHT / 2, small, NULL);
    for (int v = 0; v < 256; v++)
        assert_true(count[v] || !small[v]);
    assert_true(small[3] > 100 && small[3] < 200);
    test_free(px);
    GDALClose(ds);

    ds = GDALOpen(f->path[PROB], GA_ReadOnly);
    static const char *const bands[5] = {"p_dmg", "none", "minor", "major", "destroyed"};
    static const float want[5] = {0.1f, 0.7f, 0.2f, 0.06f, 0.04f};
    for (int b = 0; b < 5; b++) {
        float v[2];
        band = GDALGetRasterBand(ds, b + 1);
        assert_string_equal(GDALGetDescription(band), bands[b]);
        assert_true(isnan(GDALGetRasterNoDataValue(band, &has)) && has);
        assert_int_equal(GDALRasterIO(band, GF_Read, 99, 100, 2, 1, v, 2, 1, GDT_Float32, 0, 0), CE_None);
        assert_true(isnan(v[0]));
        assert_true(fabsf(v[1] - want[b]) < 1e-6f);
        assert_int_equal(GDALRasterIO(band, GF_Read, 710, 610, 1, 1, v, 1, 1, GDT_Float32, 0, 0), CE_None);
        assert_true(isnan(v[0])); /* no chip, no probability */
    }
    GDALClose(ds);
    fixture_free(f);
}

/* When a source is gone, its date counts as present everywhere and a warning says so. */
static void count_warning(void *ctx, const char *sentence)
{
    assert_non_null(strstr(sentence, "pre.tif"));
    ++*(int *)ctx;
}

static void test_rasters_without_source(void **state)
{
    (void)state;
    struct fixture *f = fixture_make(true);
    struct err e;
    size_t count[256];
    int n_warnings = 0;
    struct progress p = {.warn = count_warning, .ctx = &n_warnings};
    unlink(f->path[PRE]);
    must(mapping_write_rasters(&f->map, f->path[DAMAGE], f->path[PROB], &p, &e), &e);
    assert_int_equal(n_warnings, 1);
    GDALDatasetH ds = GDALOpen(f->path[DAMAGE], GA_ReadOnly);
    /* GDAL 3.6 reads the side file at the first question about the band's description, not at this one. */
    assert_string_equal(GDALGetMetadataItem(ds, "AFTERMAP_CUT", NULL), "2");
    char **category = GDALGetRasterCategoryNames(GDALGetRasterBand(ds, 1));
    assert_non_null(category);
    assert_string_equal(category[3], "damaged");
    assert_string_equal(category[2], ""); /* a class this model does not know */
    count_pixels(GDALGetRasterBand(ds, 1), WIDTH, HEIGHT, count, NULL);
    assert_int_equal(count[255], WIDTH * 50);
    assert_int_equal(count[3], 200 + 600); /* binary, cut 2: damaged is drawn as level 2 */
    assert_int_equal(count[1], 150 + 200);
    assert_int_equal(count[2] + count[4], 0);
    GDALClose(ds);
    ds = GDALOpen(f->path[PROB], GA_ReadOnly);
    assert_int_equal(GDALGetRasterCount(ds), 3);
    assert_string_equal(GDALGetDescription(GDALGetRasterBand(ds, 3)), "damaged");
    GDALClose(ds);
    fixture_free(f);
}

/* ---- tables */

static const char *const columns[] = {"bldg_id",  "dmg_class", "dmg_level", "p_none",  "p_minor", "p_major",
                                      "p_destr",  "p_dmg",     "entropy",   "status",  "reason",  "lbl_src",
                                      "shift_x",  "shift_y",   "shift_q",   "area_m2", "split",   "block",
                                      "model_id", "run_id",    "updated"};
enum { N_COLUMNS = sizeof columns / sizeof *columns };

/* The row as text, values joined by |, empty for null. */
static void row_text(OGRFeatureH f, char *out, size_t size)
{
    size_t k = 0;
    for (int c = 0; c < N_COLUMNS; c++) {
        bool set = OGR_F_IsFieldSetAndNotNull(f, c);
        k += (size_t)snprintf(out + k, size - k, "%s%s", c ? "|" : "",
                              set ? OGR_F_GetFieldAsString(f, c) : "");
        assert_true(k < size);
    }
}

static void check_table(const char *path, const char *layer_name, bool typed, const char *const rows[N])
{
    GDALDatasetH ds = GDALOpenEx(path, GDAL_OF_VECTOR, NULL, NULL, NULL);
    assert_non_null(ds);
    OGRLayerH layer = GDALDatasetGetLayerByName(ds, layer_name);
    assert_non_null(layer);
    assert_int_equal(OGR_L_GetFeatureCount(layer, TRUE), N);
    OGRFeatureDefnH defn = OGR_L_GetLayerDefn(layer);
    for (int c = 0; c < N_COLUMNS; c++) {
        OGRFieldDefnH d = OGR_FD_GetFieldDefn(defn, c);
        assert_string_equal(OGR_Fld_GetNameRef(d), columns[c]);
        assert_true(strlen(columns[c]) <= 10);
        OGRFieldType want = c == 2 || c == 17                            ? OFTInteger
                            : (c >= 3 && c <= 8) || (c >= 12 && c <= 15) ? OFTReal
                            : c == 20                                    ? OFTDate
                                                                         : OFTString;
        assert_int_equal(OGR_Fld_GetType(d), typed ? want : OFTString);
    }
    OGR_L_ResetReading(layer);
    for (int i = 0; i < N; i++) {
        char text[512];
        OGRFeatureH f = OGR_L_GetNextFeature(layer);
        assert_non_null(f);
        if (typed)
            assert_int_equal(OGR_F_GetFID(f), i + 1);
        row_text(f, text, sizeof text);
        for (char *c = strstr(text, "2026/11/24"); c; c = NULL)
            c[4] = c[7] = '-'; /* how OGR prints a date */
        assert_string_equal(text, rows[i]);
        OGR_F_Destroy(f);
    }
    GDALClose(ds);
}

#define TAIL "|000000000003|20261124T060800Z-0badcafe|2026-11-24"
static const char *const four_rows[N] = {
    "a 1|none|0|0.7|0.2|0.06|0.04|0.1|0.869|ok||train|0.35|-1.2|0.813|50|train|10" TAIL,
    "a,2|destroyed|3|0.1|0.1|0.1|0.7|0.8|0.94|ok||model||||50|test|11" TAIL,
    "\"a3\"|major|2|0.2|0.26|0.3|0.24|0.54|1.376|abstain||model|0|0|0.04|50|buffer|12" TAIL,
    "004|unknown||||||||unknown|nodata|||||50|train|13" TAIL,
    "a5|minor|1|0.3|0.4|0.2|0.1|0.3|1.28|ok||model||||50|test|14" TAIL,
    "a6|unknown||||||||unknown|misreg|||||50|buffer|15" TAIL,
};
static const char *const two_rows[N] = {
    "a 1|undamaged|0|||||0.1|0.325|ok||train|0.35|-1.2|0.813|50|train|10" TAIL,
    "a,2|damaged|2|||||0.877|0.374|ok||model||||50|test|11" TAIL,
    "\"a3\"|damaged|2|||||0.54|0.69|abstain||model|0|0|0.04|50|buffer|12" TAIL,
    "004|unknown||||||||unknown|nodata|||||50|train|13" TAIL,
    "a5|undamaged|0|||||0.3|0.611|ok||model||||50|test|14" TAIL,
    "a6|unknown||||||||unknown|misreg|||||50|buffer|15" TAIL,
};

static void test_tables(void **state)
{
    (void)state;
    for (int binary = 0; binary < 2; binary++) {
        struct fixture *f = fixture_make(binary);
        const char *const *rows = binary ? two_rows : four_rows;
        struct err e;
        must(mapping_write_gpkg(&f->map, f->path[GPKG], NULL, &e), &e);
        must(mapping_write_geojson(&f->map, f->path[GEOJSON], NULL, &e), &e);
        must(mapping_write_csv(&f->map, f->path[CSV], NULL, &e), &e);
        check_table(f->path[GPKG], "buildings", true, rows);
        check_table(f->path[CSV], "damage", false, rows);
        if (!binary) /* a column that is null throughout has no type in GeoJSON */
            check_table(f->path[GEOJSON], "buildings", true, rows);
        GDALDatasetH ds = GDALOpenEx(f->path[CSV], GDAL_OF_VECTOR, NULL, NULL, NULL);
        OGRFeatureH row = OGR_L_GetFeature(GDALDatasetGetLayer(ds, 0), 1);
        assert_true(fabs(OGR_F_GetFieldAsDouble(row, N_COLUMNS) - f->building[0].lon) < 6e-8);
        assert_true(fabs(OGR_F_GetFieldAsDouble(row, N_COLUMNS + 1) - f->building[0].lat) < 6e-8);
        OGR_F_Destroy(row);
        GDALClose(ds);
        fixture_free(f);
    }
}

static double ring_area(const cJSON *ring)
{
    double twice = 0;
    for (const cJSON *p = ring->child; p && p->next; p = p->next) {
        double x0 = cJSON_GetArrayItem(p, 0)->valuedouble, y0 = cJSON_GetArrayItem(p, 1)->valuedouble;
        double x1 = cJSON_GetArrayItem(p->next, 0)->valuedouble,
               y1 = cJSON_GetArrayItem(p->next, 1)->valuedouble;
        twice += (x0 + 94.57) * (y1 - 37.07) - (x1 + 94.57) * (y0 - 37.07);
    }
    return twice / 2;
}

static void test_geojson(void **state)
{
    (void)state;
    struct fixture *f = fixture_make(false);
    struct err e;
    must(mapping_write_geojson(&f->map, f->path[GEOJSON], NULL, &e), &e);
    char *text = file_read(f->path[GEOJSON], 1 << 20, NULL, &e);
    assert_non_null(text);
    cJSON *root = cJSON_Parse(text);
    assert_non_null(root);
    assert_string_equal(cJSON_GetStringValue(cJSON_GetObjectItem(root, "type")), "FeatureCollection");
    assert_null(cJSON_GetObjectItem(root, "crs")); /* RFC 7946, section 4 */
    assert_int_equal(cJSON_GetArraySize(cJSON_GetObjectItem(root, "bbox")), 4);
    const cJSON *ours = cJSON_GetObjectItem(root, "aftermap");
    assert_string_equal(cJSON_GetStringValue(cJSON_GetObjectItem(ours, "version")), AM_VERSION);
    assert_string_equal(cJSON_GetStringValue(cJSON_GetObjectItem(ours, "model")), f->map.model_digest);
    assert_string_equal(cJSON_GetStringValue(cJSON_GetObjectItem(ours, "event")), f->ev.digest);
    assert_true(cJSON_GetNumberValue(cJSON_GetObjectItem(ours, "cut")) == 2);
    assert_true(cJSON_GetNumberValue(cJSON_GetObjectItem(ours, "seed")) == 9);
    assert_true(cJSON_GetNumberValue(cJSON_GetObjectItem(cJSON_GetObjectItem(ours, "settings"), "n_views")) ==
                8);
    int fid = 1;
    const cJSON *feature;
    cJSON_ArrayForEach(feature, cJSON_GetObjectItem(root, "features"))
    {
        assert_true(cJSON_GetNumberValue(cJSON_GetObjectItem(feature, "id")) == fid++);
        const cJSON *g = cJSON_GetObjectItem(feature, "geometry"), *polygon;
        bool multi = strcmp(cJSON_GetStringValue(cJSON_GetObjectItem(g, "type")), "MultiPolygon") == 0;
        assert_true(multi == (fid - 1 == 5)); /* GDAL writes a part of one as what it is */
        const cJSON *rings = cJSON_GetObjectItem(g, "coordinates");
        for (polygon = multi ? rings->child : rings; polygon; polygon = multi ? polygon->next : NULL)
            /* 3.1.6: exterior rings are counterclockwise; ours went in clockwise */
            assert_true(ring_area(cJSON_GetArrayItem(polygon, 0)) > 1e-11);
    }
    assert_int_equal(fid, N + 1);
    for (const char *c = text; (c = strchr(c, '.')); c++) /* seven decimals at most, anywhere */
        assert_true(strspn(c + 1, "0123456789") <= 7);
    cJSON_Delete(root);
    free(text);
    fixture_free(f);
}

static int count_nodes(const CPLXMLNode *n, const char *element, const char *attribute, const char *value)
{
    int count = 0;
    for (; n; n = n->psNext) {
        if (n->eType == CXT_Element && strcmp(n->pszValue, element) == 0 &&
            (!attribute || strcmp(CPLGetXMLValue(n, attribute, ""), value) == 0))
            count++;
        count += count_nodes(n->psChild, element, attribute, value);
    }
    return count;
}

static void test_style(void **state)
{
    (void)state;
    static const char *const want[2][6] = {{"none", "minor", "major", "destroyed", "unknown", NULL},
                                           {"undamaged", "damaged", "unknown", NULL}};
    for (int binary = 0; binary < 2; binary++) {
        struct fixture *f = fixture_make(binary);
        struct err e;
        must(mapping_write_gpkg(&f->map, f->path[GPKG], NULL, &e), &e);
        GDALDatasetH ds = GDALOpenEx(f->path[GPKG], GDAL_OF_VECTOR, NULL, NULL, NULL);
        OGRLayerH r = GDALDatasetExecuteSQL(
            ds,
            "SELECT f_table_name, f_geometry_column, useAsDefault, styleQML, "
            "(SELECT geometry_type_name FROM gpkg_geometry_columns), "
            "(SELECT data_type FROM gpkg_contents WHERE table_name = 'layer_styles'), "
            "(SELECT count(*) FROM gpkg_metadata WHERE metadata LIKE '%AFTERMAP_MODEL%') "
            "FROM layer_styles",
            NULL, "SQLite");
        assert_non_null(r);
        assert_int_equal(OGR_L_GetFeatureCount(r, TRUE), 1);
        OGRFeatureH row = OGR_L_GetNextFeature(r);
        assert_string_equal(OGR_F_GetFieldAsString(row, 0), "buildings");
        assert_string_equal(OGR_F_GetFieldAsString(row, 1), "geom");
        assert_int_equal(OGR_F_GetFieldAsInteger(row, 2), 1);
        assert_string_equal(OGR_F_GetFieldAsString(row, 4), "MULTIPOLYGON");
        assert_string_equal(OGR_F_GetFieldAsString(row, 5), "attributes");
        assert_int_equal(OGR_F_GetFieldAsInteger(row, 6), 1);
        CPLXMLNode *xml = CPLParseXMLString(OGR_F_GetFieldAsString(row, 3));
        assert_non_null(xml);
        assert_int_equal(count_nodes(xml, "renderer-v2", "attr", "dmg_class"), 1);
        int n = 0;
        for (; want[binary][n]; n++)
            assert_int_equal(count_nodes(xml, "category", "value", want[binary][n]), 1);
        assert_int_equal(count_nodes(xml, "category", NULL, NULL), n);
        assert_int_equal(count_nodes(xml, "symbol", NULL, NULL), n);
        assert_int_equal(count_nodes(xml, "prop", "v", "227,74,51,255"), 1); /* #e34a33 */
        CPLDestroyXMLNode(xml);
        OGR_F_Destroy(row);
        GDALDatasetReleaseResultSet(ds, r);
        GDALClose(ds);
        fixture_free(f);
    }
}

/* Equal maps make equal files, byte by byte. */
static void test_same_bytes(void **state)
{
    (void)state;
    char digest[2][5][65];
    for (int k = 0; k < 2; k++) {
        struct fixture *f = fixture_make(false);
        struct err e;
        must(mapping_write_rasters(&f->map, f->path[DAMAGE], f->path[PROB], NULL, &e), &e);
        must(mapping_write_gpkg(&f->map, f->path[GPKG], NULL, &e), &e);
        must(mapping_write_geojson(&f->map, f->path[GEOJSON], NULL, &e), &e);
        must(mapping_write_csv(&f->map, f->path[CSV], NULL, &e), &e);
        for (int j = 0; j < 5; j++)
            must(file_sha256(f->path[j], digest[k][j], &e), &e);
        fixture_free(f);
        if (k == 0)
            sleep(1); /* a clock that crept into a file would show */
    }
    for (int j = 0; j < 5; j++)
        assert_string_equal(digest[0][j], digest[1][j]);
}

static void test_unwritable(void **state)
{
    (void)state;
    struct fixture *f = fixture_make(false);
    struct err e;
    err_clear(&e);
    assert_false(
        mapping_write_rasters(&f->map, "/nonexistent/damage.tif", "/nonexistent/prob.tif", NULL, &e));
    assert_true(e.code == ERR_RUNTIME && strstr(e.msg, "damage.tif"));
    assert_false(mapping_write_gpkg(&f->map, "/nonexistent/damage.gpkg", NULL, &e));
    assert_non_null(strstr(e.msg, "damage.gpkg"));
    assert_false(mapping_write_geojson(&f->map, "/nonexistent/damage.geojson", NULL, &e));
    assert_non_null(strstr(e.msg, "damage.geojson"));
    assert_false(mapping_write_csv(&f->map, "/nonexistent/damage.csv", NULL, &e));
    assert_non_null(strstr(e.msg, "damage.csv"));
    fixture_free(f);
}

int main(void)
{
    geo_init(true);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_verdicts),
        cmocka_unit_test(test_rasters),
        cmocka_unit_test(test_rasters_without_source),
        cmocka_unit_test(test_tables),
        cmocka_unit_test(test_geojson),
        cmocka_unit_test(test_style),
        cmocka_unit_test(test_same_bytes),
        cmocka_unit_test(test_unwritable),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
