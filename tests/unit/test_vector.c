/* SPDX-License-Identifier: Apache-2.0
 * test_vector.c - footprints from files the test writes: ids, labels, repairs, places and geodesic areas
 * against published or hand-worked values. */
#include "tests/unit/geo_fixture.h"

static struct vector_set set;
static struct err err;
static struct fx_features features;

static bool read_with(struct vector_options o)
{
    fx_warnings[0] = '\0';
    o.point_m = 12;
    err = (struct err){0};
    return vector_read(&set, &o, UTM, &fx_progress, &err);
}

static void must_read(struct vector_options o)
{
    if (!read_with(o))
        fail_msg("%s", err.msg);
}

/* ---- areas
 * ------------------------------------------------------------------------------------------------------------
 */

static double area_of(const char *wkt)
{
    OGRGeometryH g = NULL;
    char text[512], *at = text;
    snprintf(text, sizeof text, "%s", wkt);
    assert_int_equal(OGR_G_CreateFromWkt(&at, NULL, &g), OGRERR_NONE);
    double a = vector_area_m2(g);
    OGR_G_DestroyGeometry(g);
    return a;
}

static void test_area(void **state)
{
    (void)state;
    /* An octant is an eighth of the WGS 84 ellipsoid's surface, 510,065,621.724 km2. */
    const double octant = 510065621.724e6 / 8;
    double a = area_of("POLYGON((0 0,90 0,90 90,0 0))");
    assert_true(fabs(a / octant - 1) < 1e-9);
    assert_true(fabs(area_of("POLYGON((0 0,90 90,90 0,0 0))") / octant - 1) < 1e-9); /* either direction */
    /* 1 degree by 1 degree on the equator: 12308.8 km2 on the ellipsoid, not the sphere's 12364. */
    assert_true(fabs(area_of("POLYGON((0 0,1 0,1 1,0 1,0 0))") / 12308.778e6 - 1) < 1e-5);
    /* Holes are taken out, parts added. */
    double whole = area_of("POLYGON((0 0,1 0,1 1,0 1,0 0))"),
           hole = area_of("POLYGON((.4 .4,.6 .4,.6 .6,.4 .6,.4 .4))");
    double ring = area_of("POLYGON((0 0,1 0,1 1,0 1,0 0),(.4 .4,.6 .4,.6 .6,.4 .6,.4 .4))");
    assert_true(fabs(ring - (whole - hole)) < 1);
    double two = area_of("MULTIPOLYGON(((0 0,1 0,1 1,0 1,0 0),(.4 .4,.6 .4,.6 .6,.4 .6,.4 .4)),"
                         "((.4 .4,.6 .4,.6 .6,.4 .6,.4 .4)))");
    assert_true(fabs(two - whole) < 1);
}

/* ---- reading
 * ----------------------------------------------------------------------------------------------------------
 */

static void test_place_id_level(void **state)
{
    (void)state;
    fx_begin(&features);
    fx_building(&features, "\"BLDG_ID\":17,\"damage\":\"major\",\"uid\":\"zz\"", 100, 50, 20);
    fx_building(&features, "\"BLDG_ID\":\"a/b\",\"damage\":\"Unknown\"", 200, 80, 10);
    fx_building(&features, "\"BLDG_ID\":null,\"damage\":null", 250, 80, 10);
    fx_end(&features, "b.geojson");
    must_read((struct vector_options){.path = fx_path("b.geojson"), .label_field = "damage"});
    assert_int_equal(set.n, 3);
    assert_string_equal(set.item[0].bldg_id, "17");
    assert_string_equal(set.item[1].bldg_id, "a/b");
    assert_string_equal(set.item[2].bldg_id, "2"); /* no id: the feature's own number */
    assert_int_equal(set.item[0].level, 2);
    assert_int_equal(set.item[1].level, -1);
    assert_int_equal(set.item[2].level, -1);
    assert_float_equal(set.item[0].x_m, east0 + 100, 1e-3);
    assert_float_equal(set.item[0].y_m, north0 - 50, 1e-3);
    /* UTM shrinks lengths by its scale factor, here 0.9996 (1 + d^2 / 2R^2) with d = 133 km from the central
     * meridian. */
    double d = 500000 - (east0 + 100), k = 0.9996 * (1 + d * d / 2 / 6.3781e6 / 6.3781e6);
    assert_true(fabs(set.item[0].area_m2 / (400 / k / k) - 1) < 2e-4);
    OGRCoordinateTransformationH t = geo_transform("EPSG:4326", UTM, &err);
    double x = set.item[0].lon, y = set.item[0].lat;
    assert_true(x < -94 && y > 37); /* x is the longitude */
    OCTTransform(t, 1, &x, &y, NULL);
    assert_float_equal(x, east0 + 100, 1e-3);
    OCTDestroyCoordinateTransformation(t);
    vector_set_free(&set);
    /* Another field may name the building. */
    must_read((struct vector_options){.path = fx_path("b.geojson"), .id_field = "uid"});
    assert_string_equal(set.item[0].bldg_id, "zz");
    assert_false(set.labeled);
    vector_set_free(&set);
}

static void test_duplicate_ids(void **state)
{
    (void)state;
    const char *const ids[] = {"7", "7", "7-2", "8", "7"}, *const want[] = {"7", "7-3", "7-2", "8", "7-4"};
    char properties[64];
    fx_begin(&features);
    for (int i = 0; i < 5; i++) {
        snprintf(properties, sizeof properties, "\"id\":\"%s\"", ids[i]);
        fx_building(&features, properties, 50 + 30 * i, 50, 10);
    }
    fx_end(&features, "dup.geojson");
    must_read((struct vector_options){.path = fx_path("dup.geojson")});
    for (int i = 0; i < 5; i++)
        assert_string_equal(set.item[i].bldg_id, want[i]);
    assert_int_equal(set.n_renamed, 2);
    assert_non_null(strstr(fx_warnings, "2 ids occur more than once"));
    vector_set_free(&set);
}

static void test_repair_and_drop(void **state)
{
    (void)state;
    char g[300];
    fx_begin(&features);
    fx_building(&features, "\"id\":1", 50, 50, 10);
    /* A bow tie: two triangles of 25 m2. */
    snprintf(g, sizeof g,
             "{\"type\":\"Polygon\",\"coordinates\":[[[%f,%f],[%f,%f],[%f,%f],[%f,%f],[%f,%f]]]}",
             east0 + 100, north0 - 100, east0 + 110, north0 - 90, east0 + 110, north0 - 100, east0 + 100,
             north0 - 90, east0 + 100, north0 - 100);
    fx_feature(&features, "\"id\":2", g);
    fx_feature(&features, "\"id\":3", "null");
    snprintf(g, sizeof g, "{\"type\":\"LineString\",\"coordinates\":[[%f,%f],[%f,%f]]}", east0, north0,
             east0 + 9, north0);
    fx_feature(&features, "\"id\":4", g);
    snprintf(g, sizeof g, "{\"type\":\"Point\",\"coordinates\":[%f,%f]}", east0 + 150, north0 - 60);
    fx_feature(&features, "\"id\":5", g);
    fx_end(&features, "mixed.geojson");
    must_read((struct vector_options){.path = fx_path("mixed.geojson")});
    assert_int_equal(set.n, 3);
    assert_int_equal(set.n_repaired, 1);
    assert_int_equal(set.n_dropped, 2);
    assert_int_equal(set.n_points, 1);
    assert_true(OGR_G_IsValid(set.item[1].geometry));
    assert_float_equal(set.item[1].area_m2, 50, 0.1);
    assert_string_equal(set.item[2].bldg_id, "5");
    assert_float_equal(set.item[2].area_m2, 144, 0.2); /* a square of 12 m on the working grid */
    assert_float_equal(set.item[2].x_m, east0 + 150, 1e-2);
    assert_non_null(strstr(fx_warnings, "1 invalid outlines"));
    assert_non_null(strstr(fx_warnings, "2 rows have no usable outline"));
    vector_set_free(&set);
}

/* A star of a million points keeps GEOS busy for minutes; it is no building. */
static void test_too_many_points(void **state)
{
    (void)state;
    enum { N_POINTS = 60000, ROOM = 40 * N_POINTS };
    const double turn = 2 * acos(-1) / N_POINTS;
    char *text = malloc(ROOM);
    assert_non_null(text);
    fx_begin(&features);
    fx_building(&features, "\"id\":1", 50, 50, 10);
    int at = snprintf(text, ROOM,
                      "%s,{\"type\":\"Feature\",\"properties\":{\"id\":2},\"geometry\":{\"type\":\"Polygon\","
                      "\"coordinates\":[[",
                      features.text);
    for (int i = 0; i <= N_POINTS; i++) {
        double r = i % 2 ? 20 : 19.9, angle = turn * (i % N_POINTS);
        at += snprintf(text + at, (size_t)(ROOM - at), "%s[%.3f,%.3f]", i ? "," : "",
                       east0 + 60 + r * cos(angle), north0 - 60 + r * sin(angle));
    }
    at += snprintf(text + at, (size_t)(ROOM - at), "]]}}]}");
    assert_true(at < ROOM);
    fx_text("star.geojson", text);
    free(text);
    must_read((struct vector_options){.path = fx_path("star.geojson")});
    assert_int_equal(set.n, 1);
    assert_int_equal(set.n_dropped, 1);
    vector_set_free(&set);
}

static void test_folder_csv_gpkg(void **state)
{
    (void)state;
    VSIMkdir(fx_path("many"), 0777);
    fx_begin(&features);
    fx_building(&features, "\"id\":1", 50, 50, 10);
    fx_end(&features, "many/b.geojson");
    fx_text("many/a.csv", "id,lon,lat,damage\nq,-94.4970,37.0720,3\n");
    fx_text("many/readme.txt", "nothing");
    must_read((struct vector_options){.path = fx_path("many")});
    assert_int_equal(set.n_paths, 2);
    assert_int_equal(set.n, 2);
    assert_string_equal(set.item[0].bldg_id, "q"); /* a.csv comes first */
    assert_float_equal(set.item[0].lon, -94.4970, 1e-6);
    vector_set_free(&set);
    /* A file with two layers: the first is used and said so; --layer chooses. */
    const char *path = fx_path("two.gpkg");
    GDALDatasetH ds = GDALCreate(GDALGetDriverByName("GPKG"), path, 0, 0, 0, GDT_Unknown, NULL);
    OGRSpatialReferenceH srs = geo_srs(UTM, NULL);
    for (int i = 0; i < 2; i++) {
        OGRLayerH layer = GDALDatasetCreateLayer(ds, i ? "roofs" : "plots", srs, wkbPolygon, NULL);
        for (int k = 0; k <= i; k++) {
            OGRGeometryH box = NULL;
            char wkt[200], *at = wkt;
            double x = east0 + 40 * (k + 1), y = north0 - 40;
            snprintf(wkt, sizeof wkt, "POLYGON((%f %f,%f %f,%f %f,%f %f))", x, y, x + 9, y, x + 9, y + 9, x,
                     y);
            OGR_G_CreateFromWkt(&at, NULL, &box);
            OGRFeatureH f = OGR_F_Create(OGR_L_GetLayerDefn(layer));
            OGR_F_SetGeometryDirectly(f, box);
            assert_int_equal(OGR_L_CreateFeature(layer, f), OGRERR_NONE);
            OGR_F_Destroy(f);
        }
    }
    OSRDestroySpatialReference(srs);
    GDALClose(ds);
    must_read((struct vector_options){.path = path});
    assert_int_equal(set.n, 1);
    assert_non_null(strstr(fx_warnings, "2 layers"));
    vector_set_free(&set);
    must_read((struct vector_options){.path = path, .layer = "roofs"});
    assert_int_equal(set.n, 2);
    vector_set_free(&set);
    assert_false(read_with((struct vector_options){.path = path, .layer = "barns"}));
    fx_assert_err(&err, ERR_INPUT, "no layer 'barns'", "ogrinfo", NULL);
}

/* ---- labels
 * -----------------------------------------------------------------------------------------------------------
 */

static void write_labels(const char *const *value, int n)
{
    char properties[64];
    fx_begin(&features);
    for (int i = 0; i < n; i++) {
        snprintf(properties, sizeof properties, "\"id\":%d,\"d\":%s", i, value[i]);
        fx_building(&features, properties, 50 + 15 * i, 50, 10);
    }
    fx_end(&features, "labels.geojson");
}

static void test_labels(void **state)
{
    (void)state;
    const char *path = fx_path("labels.geojson");
    char keep[256];
    snprintf(keep, sizeof keep, "%s", path);
    struct vector_options o = {.path = keep, .label_field = "d"};
    write_labels((const char *[]){"0", "3", "-1", "2"}, 4);
    must_read(o); /* levels need no map */
    assert_int_equal(set.item[1].level, 3);
    assert_int_equal(set.item[2].level, -1);
    vector_set_free(&set);
    write_labels((const char *[]){"\"no-damage\"", "\"collapsed\"", "\"destroyed\"", "\"a=b\""}, 4);
    o.label_map = "no-damage=none, collapsed = destroyed,a=b=1";
    must_read(o);
    const int want[] = {0, 3, 3, 1};
    for (int i = 0; i < 4; i++)
        assert_int_equal(set.item[i].level, want[i]);
    vector_set_free(&set);
    o.label_map = "no-damage=none";
    assert_false(read_with(o));
    fx_assert_err(&err, ERR_INPUT, "field d", "'collapsed', 'a=b'", "--label-map", NULL);
    assert_null(strstr(err.msg, "destroyed'")); /* a name of the scale needs no map */
    const char *many[14];
    char text[14][32];
    for (int i = 0; i < 14; i++) {
        snprintf(text[i], sizeof text[i], "\"odd%02d\"", i / 2 * 2);
        many[i] = text[i];
    }
    write_labels(many, 14);
    o.label_map = NULL;
    assert_false(read_with(o)); /* each value once */
    assert_null(strstr(err.msg, "and more"));
    fx_assert_err(&err, ERR_INPUT, "'odd00', 'odd02'", "'odd12'", NULL);
    for (int i = 0; i < 14; i++)
        snprintf(text[i], sizeof text[i], "\"odd%02d\"", i);
    write_labels(many, 14);
    assert_false(read_with(o));
    fx_assert_err(&err, ERR_INPUT, "'odd09' and more", NULL);
    assert_null(strstr(err.msg, "odd10"));
    o.label_field = "grade";
    assert_false(read_with(o));
    fx_assert_err(&err, ERR_INPUT, "no field 'grade'", NULL);
    o = (struct vector_options){.path = keep, .id_field = "name"};
    assert_false(read_with(o));
    fx_assert_err(&err, ERR_INPUT, "no field 'name'", NULL);
}

static void test_label_map(void **state)
{
    (void)state;
    struct label_map m;
    int level;
    err = (struct err){0};
    assert_false(label_map_parse(&m, "a=none,b", &err));
    fx_assert_err(&err, ERR_USAGE, "'b'", NULL);
    assert_false(label_map_parse(&m, "a=bad", &err));
    fx_assert_err(&err, ERR_USAGE, "'bad'", "destroyed", NULL);
    assert_false(label_map_parse(&m, "a=none,a=minor", &err));
    fx_assert_err(&err, ERR_USAGE, "twice", NULL);
    assert_true(label_map_parse(&m, "0=destroyed,-1=unknown", &err));
    assert_true(label_map_find(&m, "0", &level) && level == 3); /* the map goes before the plain number */
    assert_true(label_map_find(&m, "-1", &level) && level == -1);
    assert_false(label_map_find(&m, "1", &level)); /* with a map, numbers outside it are not guessed at */
    assert_true(label_map_find(&m, "minor", &level) && level == 1);
    label_map_free(&m);
    assert_true(event_level_parse("none", &level) && level == 0);
    assert_false(event_level_parse("nones", &level));
    assert_string_equal(event_level_name(-1), "unknown");
    assert_true(event_reason_known("off_nadir"));
    assert_false(event_reason_known("") || event_reason_known("because"));
}

/* ---- refusals and cells
 * ----------------------------------------------------------------------------------------------- */

static void test_refused(void **state)
{
    (void)state;
    assert_false(read_with((struct vector_options){.path = fx_path("none.gpkg")}));
    fx_assert_err(&err, ERR_NOT_FOUND, "none.gpkg", "no such file", NULL);
    fx_text("bad.geojson", "{ this is not GeoJSON");
    assert_false(read_with((struct vector_options){.path = fx_path("bad.geojson")}));
    fx_assert_err(&err, ERR_INPUT, "bad.geojson", "cannot be opened", NULL);
    fx_begin(&features);
    fx_end(&features, "empty.geojson");
    assert_false(read_with((struct vector_options){.path = fx_path("empty.geojson")}));
    fx_assert_err(&err, ERR_INPUT, "empty.geojson", "no footprints", "--grid", NULL);
    fx_begin(&features);
    fx_feature(&features, "\"id\":1", "null");
    fx_feature(&features, "\"id\":2", "null");
    fx_end(&features, "hollow.geojson");
    assert_false(read_with((struct vector_options){.path = fx_path("hollow.geojson")}));
    fx_assert_err(&err, ERR_INPUT, "none of its 2 rows", NULL);
    VSIMkdir(fx_path("nothing"), 0777);
    assert_false(read_with((struct vector_options){.path = fx_path("nothing")}));
    fx_assert_err(&err, ERR_INPUT, "holds no footprint file", NULL);
    const char *path = fx_path("nocrs.shp");
    GDALDatasetH ds = GDALCreate(GDALGetDriverByName("ESRI Shapefile"), path, 0, 0, 0, GDT_Unknown, NULL);
    assert_non_null(GDALDatasetCreateLayer(ds, "nocrs", NULL, wkbPolygon, NULL));
    GDALClose(ds);
    assert_false(read_with((struct vector_options){.path = path}));
    fx_assert_err(&err, ERR_INPUT, "no coordinate system", "ogr2ogr -a_srs", NULL);
}

static void test_cells(void **state)
{
    (void)state;
    OGRGeometryH overlap = NULL;
    char wkt[300], *at = wkt;
    /* 100 x 60 m from a multiple of 20: 5 x 3 cells. */
    snprintf(wkt, sizeof wkt, "POLYGON((%f %f,%f %f,%f %f,%f %f,%f %f))", east0, north0, east0 + 100, north0,
             east0 + 100, north0 - 60, east0, north0 - 60, east0, north0);
    OGR_G_CreateFromWkt(&at, NULL, &overlap);
    assert_true(vector_cells(&set, overlap, UTM, 20, NULL, &err));
    assert_int_equal(set.n, 15);
    assert_string_equal(set.item[0].bldg_id, "r0-c0");
    assert_string_equal(set.item[14].bldg_id, "r2-c4");
    assert_float_equal(set.item[0].x_m, east0 + 10, 1e-3);
    assert_float_equal(set.item[14].y_m, north0 - 50, 1e-3);
    vector_set_free(&set);
    assert_false(vector_cells(&set, overlap, UTM, 0.01, NULL, &err));
    fx_assert_err(&err, ERR_INPUT, "make them larger", NULL);
    assert_false(vector_cells(&set, overlap, UTM, 7000, NULL, &err));
    fx_assert_err(&err, ERR_INPUT, "make them smaller", NULL);
    OGR_G_DestroyGeometry(overlap);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_area),
        cmocka_unit_test(test_place_id_level),
        cmocka_unit_test(test_duplicate_ids),
        cmocka_unit_test(test_repair_and_drop),
        cmocka_unit_test(test_too_many_points),
        cmocka_unit_test(test_folder_csv_gpkg),
        cmocka_unit_test(test_labels),
        cmocka_unit_test(test_label_map),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_cells),
    };
    return cmocka_run_group_tests(tests, fx_setup, fx_teardown);
}
