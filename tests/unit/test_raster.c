/* SPDX-License-Identifier: Apache-2.0
 * test_raster.c - reading windows of any image on the working grid, the checks of inputs, the scaling.
 * Expected values come from the formula that painted the image, taken at the place of the grid pixel. */
#include "geo/raster_parts.h"
#include "tests/unit/geo_fixture.h"

struct view {
    struct raster_set set;
    struct event_grid grid;
    struct raster_reader *reader;
    float *px;
    uint8_t *valid;
    int w, h;
};

/* Opens the images and reads the window of half-metre pixels from (dx, dy) metres off the ground's corner. */
static void view_open(struct view *v, const char *const *names, int n, double gsd, double dx, double dy,
                      int w, int h)
{
    struct err e = {0};
    struct raster_set twin;
    *v = (struct view){.w = w, .h = h, .grid = {.gsd_m = gsd}};
    bool ok = raster_set_open(&v->set, "pre", names, n, &e) && raster_set_open(&twin, "post", names, n, &e) &&
              raster_choose_bands(&v->set, &twin, NULL, &e);
    if (!ok)
        fail_msg("%s", e.msg);
    raster_set_free(&twin);
    OGRSpatialReferenceH srs = geo_srs(UTM, &e);
    char *wkt = NULL;
    OSRExportToWkt(srs, &wkt);
    v->grid.wkt = strdup(wkt);
    CPLFree(wkt);
    OSRDestroySpatialReference(srs);
    memcpy(v->grid.geotransform, (double[]){east0 + dx, gsd, 0, north0 - dy, 0, -gsd},
           sizeof v->grid.geotransform);
    OGRGeometryH outline = raster_locate(&v->set, v->grid.wkt, &e);
    assert_non_null(outline);
    OGR_G_DestroyGeometry(outline);
    v->reader = raster_reader_open(&v->set, &v->grid, &e);
    v->px = calloc((size_t)w * (size_t)h * 3, sizeof *v->px);
    v->valid = calloc((size_t)w * (size_t)h, 1);
    assert_non_null(v->reader);
}

static void view_close(struct view *v)
{
    raster_reader_close(v->reader);
    raster_set_free(&v->set);
    free(v->grid.wkt);
    free(v->px);
    free(v->valid);
}

static void view_read(struct view *v)
{
    struct err e = {0};
    if (!raster_read(v->reader, 0, 0, v->w, v->h, v->px, v->valid, &e))
        fail_msg("%s", e.msg);
}

static void centre(const struct view *v, int x, int y, double *east, double *north)
{
    GDALApplyGeoTransform((double *)v->grid.geotransform, x + 0.5, y + 0.5, east, north);
}

/* Every pixel must be valid and on the ramp. */
static void assert_ramp(const struct view *v, double tolerance)
{
    double x, y;
    for (int b = 0; b < 3; b++)
        for (int i = 0; i < v->w * v->h; i++) {
            centre(v, i % v->w, i / v->w, &x, &y);
            assert_int_equal(v->valid[i], 1);
            double got = v->px[(size_t)b * (size_t)(v->w * v->h) + (size_t)i];
            if (fabs(got - fx_ramp(b, x, y)) > tolerance)
                fail_msg("band %d at %d,%d: %.4f instead of %.4f", b, i % v->w, i / v->w, got,
                         fx_ramp(b, x, y));
        }
}

static void test_same_crs_other_pixels(void **state)
{
    (void)state;
    struct view v;
    const char *name = fx_write(fx_utm("plain.tif", 300, 300, 0.6, 0, 0));
    view_open(&v, &name, 1, 0.5, 10.2, 13.7, 150, 120);
    view_read(&v);
    assert_ramp(&v, 1e-3);
    view_close(&v);
}

static void test_rotated(void **state)
{
    (void)state;
    struct view v;
    struct fx_image im = fx_utm("rotated.tif", 400, 400, 0.5, 0, 0);
    double a = 0.3; /* radians: columns run 17 degrees south of east */
    memcpy(im.gt, (double[]){east0 + 40, 0.5 * cos(a), -0.5 * sin(a), north0, -0.5 * sin(a), -0.5 * cos(a)},
           sizeof im.gt);
    const char *name = fx_write(im);
    view_open(&v, &name, 1, 0.5, 60, 60, 90, 90);
    view_read(&v);
    assert_ramp(&v, 1e-3);
    view_close(&v);
}

static double lonlat_ramp(int band, double lon, double lat)
{
    return 100 + 20000 * (lon + 94.4965) + 15000 * (lat - 37.0725) + 5 * band;
}

static void test_geographic(void **state)
{
    (void)state;
    struct view v;
    struct err e = {0};
    OGRCoordinateTransformationH t = geo_transform(UTM, "EPSG:4326", &e);
    double lon = east0, lat = north0;
    OCTTransform(t, 1, &lon, &lat, NULL);
    struct fx_image im = fx_utm("lonlat.tif", 400, 400, 1, 0, 0);
    im.srs = "EPSG:4326";
    im.value = lonlat_ramp;
    memcpy(im.gt, (double[]){lon - 1e-4, 6e-6, 0, lat + 1e-4, 0, -6e-6}, sizeof im.gt);
    const char *name = fx_write(im);
    view_open(&v, &name, 1, 0.5, 7, 7, 200, 150);
    view_read(&v);
    for (int i = 0; i < v.w * v.h; i++) {
        double x, y;
        centre(&v, i % v.w, i / v.w, &x, &y);
        OCTTransform(t, 1, &x, &y, NULL);
        assert_int_equal(v.valid[i], 1);
        assert_float_equal(v.px[i], lonlat_ramp(0, x, y), 2e-3); /* a source pixel is 0.12 here */
    }
    OCTDestroyCoordinateTransformation(t);
    view_close(&v);
}

/* West of 50 m off the corner there is nothing. */
static double hole_value(int band, double x, double y)
{
    return x < east0 + 50 ? 7 : fx_flat(band, x, y);
}

static double hole_opacity(double x, double y)
{
    (void)y;
    return x < east0 + 50 ? 0 : 255;
}

static double hole_zero(int band, double x, double y)
{
    return x < east0 + 50 ? 0 : fx_flat(band, x, y);
}

static double hole_nan(int band, double x, double y)
{
    return x < east0 + 50 ? NAN : fx_flat(band, x, y);
}

/* One band equals nodata everywhere: no hole, since the other bands have data. */
static double one_band_zero(int band, double x, double y)
{
    return band == 0 ? 0 : fx_flat(band, x, y);
}

static void assert_hole(struct fx_image im, bool hole)
{
    struct view v;
    const char *name = fx_write(im);
    view_open(&v, &name, 1, 0.5, 30, 30, 80, 10); /* 30 m to 70 m: the edge is at column 40 */
    view_read(&v);
    for (int i = 0; i < v.w * v.h; i++) {
        int x = i % v.w;
        if (x != 39 && x != 40) /* half a kernel at the edge */
            assert_int_equal(v.valid[i], hole && x < 40 ? 0 : 1);
        if (!v.valid[i])
            assert_true(v.px[i] == 0);
        else if (x > 40 || !hole)
            assert_float_equal(v.px[(size_t)(v.w * v.h) + (size_t)i], 90, 1e-3);
    }
    view_close(&v);
}

static void test_blank_pixels(void **state)
{
    (void)state;
    struct fx_image im = fx_utm("hole.tif", 200, 200, 0.5, 0, 0);
    im.type = GDT_Byte;
    im.value = hole_value;
    im.nodata = "7";
    assert_hole(im, true);
    im.type = GDT_Int16;
    assert_hole(im, true);
    im.nodata = NULL;
    im.type = GDT_Byte;
    im.opacity = hole_opacity;
    im.alpha = true;
    assert_hole(im, true);
    im.alpha = false;
    im.mask = true;
    assert_hole(im, true);
    im.mask = false;
    im.value = hole_zero; /* nothing declared: zero in all bands is blank */
    im.type = GDT_UInt16;
    assert_hole(im, true);
    im.type = GDT_Float32;
    im.value = hole_nan;
    assert_hole(im, true);
    im.type = GDT_Byte;
    im.value = one_band_zero;
    im.nodata = "0";
    assert_hole(im, false);
}

/* Zero is nodata, but only where all bands have it: a zero in one band is a value like any other. Columns of
 * 0 and 60 seen half a pixel off are 30. */
static double zebra(int band, double x, double y)
{
    return band == 0 ? 60 * fmod(floor((x - east0) * 2), 2) : fx_flat(band, x, y);
}

static void test_zero_in_one_band(void **state)
{
    (void)state;
    struct view v;
    struct fx_image im = fx_utm("zebra.tif", 200, 100, 0.5, 0, 0);
    im.type = GDT_Byte;
    im.value = zebra;
    im.nodata = "0";
    const char *name = fx_write(im);
    view_open(&v, &name, 1, 0.5, 10.25, 10, 60, 20);
    view_read(&v);
    for (int i = 0; i < v.w * v.h; i++) {
        assert_int_equal(v.valid[i], 1);
        assert_float_equal(v.px[i], 30, 1e-3);
    }
    view_close(&v);
}

static double other_flat(int band, double x, double y)
{
    return fx_flat(band, x, y) + 100;
}

static void test_mosaic_first_wins(void **state)
{
    (void)state;
    struct view v;
    struct fx_image a = fx_utm("a.tif", 100, 200, 0.5, 0, 0), b = fx_utm("b.tif", 200, 200, 0.5, 20, 0);
    a.value = fx_flat;    /* 0 to 50 m */
    b.value = other_flat; /* 20 to 120 m */
    const char *names[2] = {fx_write(a), fx_write(b)};
    view_open(&v, names, 2, 0.5, 10, 10, 200, 8); /* 10 to 110 m */
    view_read(&v);
    for (int x = 0; x < v.w; x++) {
        assert_int_equal(v.valid[x], 1);
        assert_float_equal(v.px[x], x < 80 ? 50 : 150, 1e-3); /* a ends at 50 m = column 80 */
    }
    view_close(&v);
}

/* A window that reaches beyond the image on every side: exactly the image's own pixels are valid. */
static void test_window_beyond_the_image(void **state)
{
    (void)state;
    struct view v;
    const char *name = fx_write(fx_utm("island.tif", 40, 30, 0.5, 0, 0));
    view_open(&v, &name, 1, 0.5, -5, -5, 60, 50);
    view_read(&v);
    for (int i = 0; i < v.w * v.h; i++) {
        int x = i % v.w, y = i / v.w;
        assert_int_equal(v.valid[i], x >= 10 && x < 50 && y >= 10 && y < 40);
    }
    view_close(&v);
}

static double speckle(int band, double x, double y)
{
    unsigned k = (unsigned)floor(x * 2) * 2654435761u ^ (unsigned)floor(y * 2) * 40503u;
    return 1 + (k >> 7) % 200 + band;
}

/* A pixel's value must not depend on the window it is read in. */
static void test_window_independence(void **state)
{
    (void)state;
    struct view v;
    struct err e = {0};
    struct fx_image im = fx_utm("speckle.tif", 500, 500, 0.43, 0, 0);
    im.type = GDT_Byte;
    im.value = speckle;
    double a = 0.05;
    memcpy(im.gt, (double[]){east0, 0.43 * cos(a), 0.43 * sin(a), north0, 0.3 * sin(a), -0.43 * cos(a)},
           sizeof im.gt);
    const char *name = fx_write(im);
    view_open(&v, &name, 1, 0.5, 20, 20, 201, 187);
    view_read(&v);
    float part[3 * 64 * 64];
    uint8_t valid[64 * 64];
    for (int y = 0; y < v.h; y += 41)
        for (int x = 0; x < v.w; x += 53) {
            int w = v.w - x < 64 ? v.w - x : 64, h = v.h - y < 64 ? v.h - y : 64;
            assert_true(raster_read(v.reader, x, y, w, h, part, valid, &e));
            for (int i = 0; i < w * h; i++) {
                size_t at = (size_t)(y + i / w) * (size_t)v.w + (size_t)(x + i % w);
                assert_int_equal(valid[i], v.valid[at]);
                for (int b = 0; b < 3; b++)
                    assert_float_equal(part[b * w * h + i], v.px[(size_t)b * (size_t)(v.w * v.h) + at], 1e-4);
            }
        }
    view_close(&v);
}

/* Stripes of 10 cm, 100 and 200: at half a metre they must average out, not alias. */
static double stripes(int band, double x, double y)
{
    (void)band;
    (void)y;
    return (long)floor((x - east0) * 10) % 2 ? 200 : 100;
}

static void test_finer_source_is_averaged(void **state)
{
    (void)state;
    struct view v;
    struct fx_image im = fx_utm("fine.tif", 600, 300, 0.1, 0, 0);
    im.value = stripes;
    const char *name = fx_write(im);
    view_open(&v, &name, 1, 0.5, 10, 10, 60, 30);
    view_read(&v);
    for (int i = 0; i < v.w * v.h; i++)
        assert_float_equal(v.px[i], 150, 12);
    view_close(&v);
}

/* ---- inputs that are refused
 * ------------------------------------------------------------------------------------------ */

static void assert_refused(const char *name, const char *bands, enum err_code code, const char *word,
                           const char *mend)
{
    struct err e = {0};
    struct raster_set a = {0}, b = {0};
    bool ok = raster_set_open(&a, "pre", &name, 1, &e) && raster_set_open(&b, "post", &name, 1, &e) &&
              raster_choose_bands(&a, &b, bands, &e);
    raster_set_free(&a);
    raster_set_free(&b);
    if (ok)
        fail_msg("%s was accepted", name);
    fx_assert_err(&e, code, code == ERR_USAGE ? "" : "pre", word, mend, NULL);
}

static void test_refused_files(void **state)
{
    (void)state;
    struct fx_image good = fx_utm("x.tif", 20, 20, 0.5, 0, 0), im;
    assert_refused(fx_path("absent.tif"), NULL, ERR_NOT_FOUND, "no such file", "absent.tif");
    fx_text("corrupt.tif", "II*\001\002 this is not a picture \003");
    assert_refused(fx_path("corrupt.tif"), NULL, ERR_INPUT, "cannot be opened", "corrupt");
    im = good;
    im.srs = NULL;
    assert_refused(fx_write(im), NULL, ERR_INPUT, "no coordinate system", "gdal_edit.py -a_srs");
    im = good;
    im.srs = "LOCAL_CS[\"plan\",UNIT[\"metre\",1]]";
    assert_refused(fx_write(im), NULL, ERR_INPUT, "local coordinate system", "gdal_edit.py");
    im = good;
    memset(im.gt, 0, sizeof im.gt);
    assert_refused(fx_write(im), NULL, ERR_INPUT, "no geotransform", "georeference");
    im = good;
    im.bands = 1;
    assert_refused(fx_write(im), NULL, ERR_INPUT, "has 1 band ", "--bands");
    im = good;
    im.bands = 9;
    assert_refused(fx_write(im), NULL, ERR_INPUT, "has 9 bands", "--bands");
    im = good;
    im.type = GDT_Float64;
    assert_refused(fx_write(im), NULL, ERR_INPUT, "Float64", "gdal_translate -ot");
    im = good;
    im.gt[0] = 1e9; /* far outside what UTM can describe */
    assert_refused(fx_write(im), NULL, ERR_INPUT, "lies outside", "geotransform");
    const char *name = fx_write(good);
    assert_refused(name, "1,2,4", ERR_INPUT, "no band 4", "--bands");
    assert_refused(name, "1,2,2", ERR_USAGE, "twice", "");
    assert_refused(name, "1,x", ERR_USAGE, "1,2,3", "");
    assert_refused(name, "0", ERR_USAGE, "1,2,3", "");
}

static void test_refused_palette(void **state)
{
    (void)state;
    const char *path = fx_path("palette.tif");
    GDALDatasetH ds = GDALCreate(GDALGetDriverByName("GTiff"), path, 8, 8, 1, GDT_Byte, NULL);
    GDALColorTableH colors = GDALCreateColorTable(GPI_RGB);
    GDALSetColorEntry(colors, 1, &(GDALColorEntry){255, 0, 0, 255});
    GDALSetRasterColorTable(GDALGetRasterBand(ds, 1), colors);
    GDALDestroyColorTable(colors);
    GDALClose(ds);
    assert_refused(path, NULL, ERR_INPUT, "colour-table", "gdal_translate -expand rgb");
}

/* A download that broke off: the directory is there (as in a COG), the last strips are not. */
static void test_truncated(void **state)
{
    (void)state;
    struct fx_image im = fx_utm("whole.tif", 200, 200, 0.5, 0, 0);
    im.type = GDT_Byte;
    im.value = speckle;
    const char *whole = fx_write(im), *cut = fx_path("cut.tif");
    GDALDatasetH src = GDALOpen(whole, GA_ReadOnly);
    GDALDatasetH dst = GDALCreateCopy(GDALGetDriverByName("COG"), cut, src, FALSE, NULL, NULL, NULL);
    assert_non_null(dst);
    GDALClose(dst);
    GDALClose(src);
    assert_int_equal(truncate(cut, fx_size(cut) / 2), 0);
    assert_refused(cut, NULL, ERR_INPUT, "truncated", "fetch it again");
}

/* Damage in the middle of a file that opens well and has a sound end: the window that needs it fails; no
 * zeros come back. */
static void test_read_error_is_an_error(void **state)
{
    (void)state;
    struct view v;
    struct err e = {0};
    struct fx_image im = fx_utm("damaged.tif", 400, 400, 0.5, 0, 0);
    im.type = GDT_Byte;
    im.value = speckle;
    im.option = "COMPRESS=DEFLATE";
    const char *name = fx_write(im);
    const long third = fx_size(name) / 3;
    FILE *f = fopen(name, "r+b");
    fseek(f, third, SEEK_SET);
    for (long i = 0; i < third; i++)
        fputc(0x55, f);
    fclose(f);
    view_open(&v, &name, 1, 0.5, 0, 0, 400, 400);
    assert_false(raster_read(v.reader, 0, 0, v.w, v.h, v.px, v.valid, &e));
    fx_assert_err(&e, ERR_INPUT, "damaged.tif", "cannot be read", "fetch it again", NULL);
    view_close(&v);
}

static void test_mixed_files(void **state)
{
    (void)state;
    struct fx_image im = fx_utm("m/a.tif", 20, 20, 0.5, 0, 0);
    VSIMkdir(fx_path("m"), 0777);
    fx_write(im);
    im.name = "m/b.tif";
    im.bands = 4;
    fx_write(im);
    fx_text("m/readme.txt", "not an image");
    assert_refused(fx_path("m"), NULL, ERR_INPUT, "say which to use", "--bands");
    im.bands = 3;
    im.type = GDT_UInt16;
    fx_write(im);
    assert_refused(fx_path("m"), NULL, ERR_INPUT, "share one scaling", "gdal_translate -ot");
    VSIMkdir(fx_path("empty"), 0777);
    assert_refused(fx_path("empty"), NULL, ERR_INPUT, "holds no image", "empty");
}

static void test_folder_and_list(void **state)
{
    (void)state;
    struct err e = {0};
    struct raster_set s;
    VSIMkdir(fx_path("d"), 0777);
    struct fx_image im = fx_utm("d/b.tif", 20, 20, 0.5, 10, 0);
    fx_write(im);
    im.name = "d/a.tif";
    fx_write(im);
    fx_text("d/notes.md", "hello");
    const char *name = fx_path("d");
    assert_true(raster_set_open(&s, "pre", &name, 1, &e));
    assert_int_equal(s.n, 2);
    assert_string_equal(file_base(s.file[0].path), "a.tif"); /* by name */
    assert_float_equal(s.file[0].gsd_m, 0.5, 5e-4);          /* on the ground, UTM's own factor included */
    raster_set_free(&s);
    fx_text("d/list.txt", "# newest first\n  b.tif \n\na.tif\r\n");
    name = fx_path("d/list.txt");
    assert_true(raster_set_open(&s, "pre", &name, 1, &e));
    assert_int_equal(s.n, 2);
    assert_string_equal(file_base(s.file[0].path), "b.tif"); /* in the list's order */
    raster_set_free(&s);
    fx_text("d/list.txt", "b.tif\nmissing.tif\n");
    assert_refused(name, NULL, ERR_NOT_FOUND, "missing.tif", "list.txt");
}

/* ---- working CRS and scaling
 * ------------------------------------------------------------------------------------------ */

static void assert_crs(const char *srs_pre, const char *srs_post, double x, double y, double step,
                       const char *expect)
{
    struct err e = {0};
    struct raster_set a, b;
    struct fx_image im = fx_utm("crs_a.tif", 20, 20, 1, 0, 0);
    im.srs = srs_pre;
    im.value = fx_flat;
    memcpy(im.gt, (double[]){x, step, 0, y, 0, -step}, sizeof im.gt);
    const char *p = fx_write(im);
    im.name = "crs_b.tif";
    im.srs = srs_post;
    const char *q = fx_write(im);
    assert_true(raster_set_open(&a, "pre", &p, 1, &e) && raster_set_open(&b, "post", &q, 1, &e));
    char *wkt = raster_pick_crs(&a, &b, &e);
    assert_non_null(wkt);
    OGRSpatialReferenceH got = geo_srs(wkt, &e), want = geo_srs(expect, &e);
    if (!OSRIsSame(got, want))
        fail_msg("%s instead of %s", wkt, expect);
    OSRDestroySpatialReference(got);
    OSRDestroySpatialReference(want);
    free(wkt);
    raster_set_free(&a);
    raster_set_free(&b);
}

static void test_working_crs(void **state)
{
    (void)state;
    assert_crs("EPSG:26915", "EPSG:26915", east0, north0, 0.5, "EPSG:26915"); /* shared and metric: kept */
    assert_crs("EPSG:26915", UTM, east0, north0, 0.5, UTM);                   /* not shared */
    assert_crs("EPSG:3857", "EPSG:3857", -10519000, 4450000, 0.5, UTM);       /* its metre is 0.8 m here */
    assert_crs("EPSG:4326", "EPSG:4326", -122.7, 38.4, 5e-6, "EPSG:32610");
    assert_crs("EPSG:4326", "EPSG:4326", 151.2, -33.8, 5e-6, "EPSG:32756");
    assert_crs("EPSG:4326", "EPSG:4326", 179.99995, -18, 5e-6,
               "EPSG:32701"); /* its centre is past the date line */
    assert_crs("EPSG:2263", "EPSG:2263", 987000, 191000, 1.5, "EPSG:32618"); /* feet */
    assert_crs("EPSG:4326", "EPSG:4326", 20, 85, 5e-6, "EPSG:32661");
}

/* Rows of 1..1000 in equal shares. */
static double thousand(int band, double x, double y)
{
    (void)y;
    long k = (long)floor((x - east0) * 2) % 1000;
    return 1 + (double)k + 2000 * band;
}

static void test_scaling(void **state)
{
    (void)state;
    struct err e = {0};
    struct view pre, post;
    struct fx_image im = fx_utm("k.tif", 1000, 200, 0.5, 0, 0);
    im.type = GDT_UInt16;
    im.value = thousand;
    const char *name = fx_write(im);
    view_open(&pre, &name, 1, 0.5, 0, 0, 1, 1);
    view_open(&post, &name, 1, 0.5, 0, 0, 1, 1);
    OGRGeometryH overlap = raster_locate(&pre.set, pre.grid.wkt, &e);
    double lo[2][EVENT_MAX_BANDS], hi[2][EVENT_MAX_BANDS];
    assert_true(scale_measure(pre.reader, post.reader, overlap, &pre.grid, 3, lo, hi, NULL, &e));
    for (int d = 0; d < 2; d++)
        for (int b = 0; b < 3; b++) {
            assert_float_equal(lo[d][b], 21 + 2000.0F * (float)b, 12); /* a sample of 256 windows */
            assert_float_equal(hi[d][b], 980 + 2000.0F * (float)b, 12);
        }
    assert_int_equal(scale_apply((float)lo[0][1], lo[0][1], hi[0][1]), 32);
    assert_int_equal(scale_apply((float)hi[0][1], lo[0][1], hi[0][1]), 223);
    assert_int_equal(scale_apply(100, 0, 191), 132);
    assert_int_equal(scale_apply(-1e6F, 0, 191), 0);
    assert_int_equal(scale_apply(1e6F, 0, 191), 255);
    OGR_G_DestroyGeometry(overlap);
    view_close(&pre);
    view_close(&post);
}

/* ---- own resampling beside GDAL's warper */

/* Speckle with holes a few pixels wide, so that kernels are cut in every way. */
static double holed(int band, double x, double y)
{
    unsigned k = (unsigned)floor(x / 1.3) * 2246822519u ^ (unsigned)floor(y / 1.7) * 3266489917u;
    return (k >> 9) % 8 == 0 ? 0 : speckle(band, x, y);
}

static double holed_nan(int band, double x, double y)
{
    double v = holed(band, x, y);
    return v > 0 ? v * 17.3 - 900 : NAN;
}

static double veil(double x, double y)
{
    unsigned k = (unsigned)floor(x) * 2246822519u ^ (unsigned)floor(y / 1.7) * 3266489917u;
    return (k >> 9) % 3 * 90; /* none, faint, enough */
}

static double veil_mask(double x, double y)
{
    return veil(x, y) > 100 ? 255 : 0;
}

/* Reads the same window both ways. Values may differ by the rounding of floats (2e-6 of them), places with data by
 * nothing. */
static void assert_like_the_warper(struct fx_image im, double gsd)
{
    struct view v;
    struct err e = {0};
    const char *name = fx_write(im);
    view_open(&v, &name, 1, gsd, -4.1, -3.3, 190, 170); /* beyond the image's corner */
    view_read(&v);
    const size_t n = (size_t)v.w * (size_t)v.h;
    float *px = malloc(n * 3 * sizeof *px);
    uint8_t *valid = malloc(n);
    struct raster_reader *slow = raster_reader_twin(v.reader, &e);
    raster_reader_only_warper(slow);
    assert_true(raster_read(slow, 0, 0, v.w, v.h, px, valid, &e));
    size_t n_valid = 0;
    for (size_t i = 0; i < n; i++) {
        if (v.valid[i] != valid[i])
            fail_msg("%s: %d instead of %d at %zu,%zu", im.name, v.valid[i], valid[i], i % 190, i / 190);
        n_valid += valid[i];
        for (size_t b = 0; b < 3; b++)
            if (!(fabsf(v.px[b * n + i] - px[b * n + i]) <= 2e-6F * fmaxf(fabsf(px[b * n + i]), 256)))
                fail_msg("%s: %.7g instead of %.7g at %zu,%zu", im.name, (double)v.px[b * n + i],
                         (double)px[b * n + i], i % 190, i / 190);
    }
    assert_true(n_valid > n / 4);
    raster_reader_close(slow);
    free(px);
    free(valid);
    view_close(&v);
}

static void test_like_the_warper(void **state)
{
    (void)state;
    struct fx_image im = fx_utm("byte.tif", 170, 160, 0.6, 0, 0);
    im.value = holed; /* nothing declared: zero in all bands is blank */
    im.type = GDT_Byte;
    assert_like_the_warper(im, 0.5);
    im.name = "aligned.tif"; /* pixels meet the grid's exactly, or halfway */
    im.gt[1] = 0.5, im.gt[5] = -0.5;
    im.gt[0] = east0 - 4.1 + 2, im.gt[3] = north0 + 3.3 - 0.25;
    assert_like_the_warper(im, 0.5);
    im = fx_utm("wide.tif", 900, 800, 0.11, 0, 0); /* a kernel of 10 x 10 source pixels */
    im.value = holed;
    im.type = GDT_Int16;
    im.option = "TILED=YES";
    assert_like_the_warper(im, 0.5);
    im = fx_utm("oblong.tif", 300, 160, 0.3, 0, 0); /* wide along one axis only */
    im.gt[5] = -0.55;
    im.value = holed;
    im.type = GDT_UInt16;
    assert_like_the_warper(im, 0.5);
    im = fx_utm("turned.tif", 170, 160, 0.6, 0, 0);
    memcpy(im.gt, (double[]){east0, 0.6, 0.1, north0, 0.07, -0.6}, sizeof im.gt);
    im.value = holed_nan;
    assert_like_the_warper(im, 0.5);
    im = fx_utm("veiled.tif", 170, 160, 0.6, 0, 0);
    im.value = speckle;
    im.type = GDT_Byte;
    im.alpha = true;
    im.opacity = veil;
    assert_like_the_warper(im, 0.5);
    im.alpha = false;
    im.mask = true;
    im.opacity = veil_mask;
    im.name = "masked.tif";
    assert_like_the_warper(im, 0.5);
}

static void test_like_the_warper_in_degrees(void **state)
{
    (void)state;
    struct err e = {0};
    OGRCoordinateTransformationH t = geo_transform(UTM, "EPSG:4326", &e);
    double lon = east0, lat = north0;
    OCTTransform(t, 1, &lon, &lat, NULL);
    OCTDestroyCoordinateTransformation(t);
    struct fx_image im = fx_utm("degrees.tif", 300, 200, 1, 0, 0);
    im.srs = "EPSG:4326";
    im.type = GDT_UInt16;
    im.value = lonlat_ramp;
    memcpy(im.gt, (double[]){lon, 6e-6, 0, lat, 0, -6e-6}, sizeof im.gt);
    assert_like_the_warper(im, 0.5);
}

/* Of a file with a block that no decoder can read, the pixels under its other blocks are read as ever, and bytes are
 * what scale_apply says. */
static void test_only_needed_blocks(void **state)
{
    (void)state;
    struct view v;
    struct err e = {0};
    struct fx_image im = fx_utm("holed.tif", 512, 512, 0.5, 0, 0);
    im.type = GDT_Byte;
    im.value = speckle;
    im.option = "COMPRESS=DEFLATE"; /* and strips of 512 x 5 pixels or so */
    const char *name = fx_write(im);
    view_open(&v, &name, 1, 0.5, 0, 0, 400, 400);
    view_read(&v);
    raster_reader_close(v.reader);
    GDALDatasetH ds = GDALOpen(name, GA_ReadOnly);
    int bw, bh, bad = 200;
    GDALGetBlockSize(GDALGetRasterBand(ds, 1), &bw, &bh);
    char key[64];
    snprintf(key, sizeof key, "BLOCK_OFFSET_0_%d", bad / bh);
    long at = strtol(GDALGetMetadataItem(GDALGetRasterBand(ds, 1), key, "TIFF"), NULL, 10);
    GDALClose(ds);
    FILE *f = fopen(name, "r+b");
    assert_non_null(f);
    fseek(f, at, SEEK_SET);
    for (int i = 0; i < 64; i++)
        fputc(0xff, f);
    fclose(f);
    v.reader = raster_reader_open(&v.set, &v.grid, &e);
    const size_t n = (size_t)v.w * (size_t)v.h;
    uint8_t *need = calloc(n, 1), *px = malloc(n * 3), *valid = malloc(n);
    for (int y = 0; y < v.h; y++)
        for (int x = 0; x < v.w; x++)
            need[y * v.w + x] = (y < bad - 2 * bh || y > bad + 2 * bh) && (x / 50 + y / 50) % 2;
    memset(px, 77, n * 3);
    const double lo[3] = {10, 20, 30}, hi[3] = {190, 180, 170};
    if (!raster_read_bytes(v.reader, 0, 0, v.w, v.h, need, lo, hi, px, valid, &e))
        fail_msg("%s", e.msg);
    for (size_t i = 0; i < n * 3; i++)
        assert_int_equal(px[i], need[i % n] ? scale_apply(v.px[i], lo[i / n], hi[i / n]) : 77);
    for (size_t i = 0; i < n; i++)
        assert_int_equal(valid[i], need[i]);
    assert_false(raster_read_bytes(v.reader, 0, 0, v.w, v.h, NULL, lo, hi, px, valid, &e));
    fx_assert_err(&e, ERR_INPUT, "holed.tif", "truncated or corrupt", NULL);
    free(need);
    free(px);
    free(valid);
    view_close(&v);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same_crs_other_pixels),
        cmocka_unit_test(test_rotated),
        cmocka_unit_test(test_geographic),
        cmocka_unit_test(test_blank_pixels),
        cmocka_unit_test(test_zero_in_one_band),
        cmocka_unit_test(test_mosaic_first_wins),
        cmocka_unit_test(test_window_beyond_the_image),
        cmocka_unit_test(test_window_independence),
        cmocka_unit_test(test_like_the_warper),
        cmocka_unit_test(test_like_the_warper_in_degrees),
        cmocka_unit_test(test_only_needed_blocks),
        cmocka_unit_test(test_finer_source_is_averaged),
        cmocka_unit_test(test_refused_files),
        cmocka_unit_test(test_refused_palette),
        cmocka_unit_test(test_truncated),
        cmocka_unit_test(test_read_error_is_an_error),
        cmocka_unit_test(test_mixed_files),
        cmocka_unit_test(test_folder_and_list),
        cmocka_unit_test(test_working_crs),
        cmocka_unit_test(test_scaling),
    };
    return cmocka_run_group_tests(tests, fx_setup, fx_teardown);
}
