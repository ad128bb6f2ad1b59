/* SPDX-License-Identifier: Apache-2.0
 * test_geo_init.c - the server's set of drivers: what it needs opens, what could read other files does not. A
 * process of its own, since drivers are registered once for a whole process. */
#include "tests/unit/geo_fixture.h"

static int setup(void **state)
{
    (void)state;
    geo_init(false);
    snprintf(fx_dir, sizeof fx_dir, "/tmp/aftermap-geo-XXXXXX");
    return mkdtemp(fx_dir) ? 0 : 1;
}

static bool opens(const char *name, unsigned kind)
{
    GDALDatasetH ds = GDALOpenEx(name, kind | GDAL_OF_READONLY, NULL, NULL, NULL);
    if (ds)
        GDALClose(ds);
    return ds != NULL;
}

static void test_needed_drivers(void **state)
{
    (void)state;
    static const char *const needed[] = {"GTiff", "COG",     "MEM",        "PNG", "JPEG",
                                         "GPKG",  "GeoJSON", "FlatGeobuf", "CSV", "ESRI Shapefile"};
    for (size_t i = 0; i < sizeof needed / sizeof *needed; i++)
        if (!GDALGetDriverByName(needed[i]))
            fail_msg("driver %s is missing", needed[i]);
    assert_true(opens(fx_write(fx_utm("a.tif", 10, 10, 1, 0, 0)), GDAL_OF_RASTER));
    struct fx_features f;
    fx_begin(&f);
    fx_building(&f, "\"id\":1", 0, 0, 10);
    fx_end(&f, "f.geojson");
    assert_true(opens(fx_path("f.geojson"), GDAL_OF_VECTOR));
}

/* A VRT that calls itself a TIFF would hand out any file's bytes as pixels. */
static void test_disguised_vrt(void **state)
{
    (void)state;
    fx_text("secret.txt", "a password and sixteen");
    char vrt[1200];
    snprintf(vrt, sizeof vrt,
             "<VRTDataset rasterXSize=\"4\" rasterYSize=\"4\"><VRTRasterBand dataType=\"Byte\" band=\"1\" "
             "subClass=\"VRTRawRasterBand\"><SourceFilename>%s</SourceFilename><ImageOffset>0</ImageOffset>"
             "<PixelOffset>1</PixelOffset><LineOffset>4</LineOffset></VRTRasterBand></VRTDataset>",
             fx_path("secret.txt"));
    fx_text("x.tif", vrt);
    assert_false(opens(fx_path("x.tif"), GDAL_OF_RASTER));
    assert_false(opens(vrt, GDAL_OF_RASTER));
    assert_null(GDALGetDriverByName("VRT"));
    assert_null(GDALGetDriverByName("HDF4"));
    assert_null(GDALGetDriverByName("OAPIF"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_needed_drivers),
        cmocka_unit_test(test_disguised_vrt),
    };
    return cmocka_run_group_tests(tests, setup, fx_teardown);
}
