/* SPDX-License-Identifier: Apache-2.0
 * test_tile.c - whole runs of the tiling pipeline on images painted by formula: what chips hold, which are
 * kept, that results depend on neither windows nor threads, and that nothing is left behind or lost when a
 * run fails. */
#include "tests/unit/geo_fixture.h"

#include <errno.h>
#include <omp.h>
#include <signal.h>
#include <sys/resource.h>

static struct err err;
static struct tile_report report;
static struct fx_features features;
static char pre[256], post[256], footprints[256], out[256];
static const char *pre_list[1] = {pre}, *post_list[1] = {post};

static double post_ramp(int band, double x, double y)
{
    return 40 + 0.2 * (x - east0) + 0.1 * (north0 - y) + 20 * band;
}

/* The pre image covers 0..400 m, the post image, in another CRS, some 20 m less at the west. */
static void write_scene(void)
{
    struct fx_image im = fx_utm("pre.tif", 800, 600, 0.5, 0, 0);
    snprintf(pre, sizeof pre, "%s", fx_write(im));
    im.name = "post.tif";
    im.srs = "EPSG:26915"; /* the same metres on another datum: same numbers, other CRS */
    im.value = post_ramp;
    memcpy(im.gt, (double[]){east0 + 20, 0.4, 0, north0, 0, -0.4}, sizeof im.gt);
    im.w = 950;
    im.h = 750;
    snprintf(post, sizeof post, "%s", fx_write(im));
    snprintf(footprints, sizeof footprints, "%s", fx_path("town.geojson"));
    snprintf(out, sizeof out, "%s", fx_path("event"));
    char properties[80];
    fx_begin(&features);
    for (int i = 0; i < 20; i++) { /* four clusters of five, 100 m apart */
        snprintf(properties, sizeof properties, "\"id\":\"b%d\",\"damage\":\"%s\"", i,
                 i % 5 == 4 ? "unknown" : event_level_name(i % 4));
        fx_building(&features, properties, 60.2 + 130 * (i / 10) + 11 * (i % 5), 60.3 + 140 * (i / 5 % 2),
                    10);
    }
    fx_building(&features, "\"id\":\"edge\",\"damage\":\"none\"", 24.5, 150.5,
                8); /* half its chip lacks post */
    fx_building(&features, "\"id\":\"far\",\"damage\":\"minor\"", 2000, 2000, 8);
    fx_end(&features, "town.geojson");
}

static struct tile_options usual(void)
{
    struct tile_options o;
    tile_defaults(&o);
    o.pre = pre_list;
    o.post = post_list;
    o.n_pre = o.n_post = 1;
    o.footprints = footprints;
    o.label_field = "damage";
    o.out = out;
    return o;
}

static int setup(void **state)
{
    signal(SIGXFSZ, SIG_IGN);
    if (fx_setup(state) != 0)
        return 1;
    write_scene();
    return 0;
}

static bool run(struct tile_options o)
{
    fx_warnings[0] = '\0';
    err = (struct err){0};
    report = (struct tile_report){0};
    return tile_run(&o, &fx_progress, &report, &err);
}

static void must_run(struct tile_options o)
{
    if (!run(o))
        fail_msg("%s", err.msg);
}

/* Names in the test folder that a run may have left. */
static int count_leftovers(void)
{
    int n = 0;
    char **names = VSIReadDir(fx_dir);
    for (int i = 0; names && names[i]; i++)
        n += strstr(names[i], ".tmp-") != NULL || strstr(names[i], ".old-") != NULL;
    CSLDestroy(names);
    return n;
}

static void remove_event_folder(void)
{
    VSIRmdirRecursive(out);
}

static const struct event_building *find(const struct event *ev, const char *id)
{
    for (size_t i = 0; i < ev->n; i++)
        if (strcmp(ev->building[i].bldg_id, id) == 0)
            return &ev->building[i];
    fail_msg("no building %s", id);
    return NULL;
}

/* ---- what a run makes
 * ------------------------------------------------------------------------------------------------- */

/* Chip pixels against the ramps, through the grid and the scaling that the event states. */
static void check_chip(struct event *ev, const struct event_building *b)
{
    const int size = ev->layout.size, c = imageset_stored_channels(&ev->layout);
    uint8_t *px = malloc((size_t)size * (size_t)size * (size_t)c);
    assert_true(event_read_chips(ev, &b->page, 1, px, &err));
    /* The chip is the square of size pixels on the grid that is centred best on the building. */
    double col = floor((b->x_m - ev->grid.geotransform[0]) / ev->grid.gsd_m - size / 2.0 + 0.5);
    double row = floor((ev->grid.geotransform[3] - b->y_m) / ev->grid.gsd_m - size / 2.0 + 0.5);
    int inside = 0;
    for (int y = 0; y < size; y++)
        for (int x = 0; x < size; x++) {
            const uint8_t *p = px + (y * size + x) * c;
            double e = ev->grid.geotransform[0] + (col + x + 0.5) * ev->grid.gsd_m;
            double n = ev->grid.geotransform[3] - (row + y + 0.5) * ev->grid.gsd_m;
            for (int d = 0; d < 2; d++)
                for (int k = 0; k < 3; k++) {
                    double v = d ? post_ramp(k, e, n) : fx_ramp(k, e, n);
                    double want =
                        32 + 191 * (v - ev->scale_lo[d][k]) / (ev->scale_hi[d][k] - ev->scale_lo[d][k]);
                    want = fmin(fmax(want, 0), 255);
                    /* NAD83 and WGS 84 differ by nothing in PROJ's null transformation */
                    if (fabs(p[d * 3 + k] - want) > 0.52)
                        fail_msg("date %d band %d at %d,%d: %d instead of %.2f", d, k, x, y, p[d * 3 + k],
                                 want);
                }
            assert_int_equal(p[6], 3); /* both dates have data */
            bool in = fabs(e - b->x_m) < 5 && fabs(n - b->y_m) < 5;
            if (fabs(fabs(e - b->x_m) - 5) > 0.01 && fabs(fabs(n - b->y_m) - 5) > 0.01)
                assert_int_equal(p[7], in ? 255 : 0);
            inside += p[7] == 255;
        }
    assert_in_range(inside, 380, 420); /* 100 m2 of 0.25 m2 pixels */
    free(px);
}

static void test_event_holds_what_was_painted(void **state)
{
    (void)state;
    remove_event_folder();
    must_run(usual());
    assert_int_equal(report.n_footprints, 22);
    assert_int_equal(report.n_chips, 20);
    assert_int_equal(report.n_excluded, 2);
    assert_int_equal(report.n_labeled, 16);
    assert_int_equal(report.n_level[0] + report.n_level[1] + report.n_level[2] + report.n_level[3], 16);
    struct event *ev = event_open(out, &err);
    if (!ev)
        fail_msg("%s", err.msg);
    assert_int_equal(ev->n, 22);
    assert_int_equal(ev->n_chips, 20);
    assert_int_equal(ev->layout.size, 64);
    OGRSpatialReferenceH srs = geo_srs(ev->grid.wkt, &err), utm = geo_srs(UTM, &err);
    assert_true(OSRIsSame(srs, utm)); /* the images share no CRS, so the zone is chosen */
    OSRDestroySpatialReference(srs);
    OSRDestroySpatialReference(utm);
    for (int i = 0; i < 2; i++) /* snapped */
        assert_true(fabs(remainder(ev->grid.geotransform[3 * i], 0.5)) < 1e-6);
    for (size_t i = 0; i < 20; i++)
        check_chip(ev, &ev->building[i]);
    const struct event_building *edge = find(ev, "edge"), *far = find(ev, "far");
    /* Its chip spans 8.5 to 40.5 m; post begins at 20 m: 11.5 of 32 m are blank. */
    assert_float_equal(edge->blank, 11.5 / 32, 0.02);
    assert_string_equal(edge->status, "excluded");
    assert_string_equal(edge->reason, "nodata");
    assert_int_equal(edge->page, -1);
    assert_true(far->blank == 1 && far->page == -1);
    assert_int_equal(find(ev, "b3")->level, 3);
    assert_int_equal(find(ev, "b4")->level, -1);
    assert_float_equal(find(ev, "b0")->area_m2, 100, 0.2);
    /* The split shares no ground: no training chip's square meets a test chip's. */
    for (size_t i = 0; i < ev->n; i++)
        for (size_t j = 0; j < ev->n; j++) {
            const struct event_building *a = &ev->building[i], *b = &ev->building[j];
            if (a->page >= 0 && b->page >= 0 && a->split == IMAGESET_TRAIN && b->split == IMAGESET_TEST)
                assert_true(fabs(a->x_m - b->x_m) >= 32 || fabs(a->y_m - b->y_m) >= 32);
        }
    event_close(ev);
}

static void test_more_blank_may_be_allowed(void **state)
{
    (void)state;
    remove_event_folder();
    struct tile_options o = usual();
    o.max_blank = 0.5;
    must_run(o);
    assert_int_equal(report.n_chips, 21);
    struct event *ev = event_open(out, &err);
    const struct event_building *edge = find(ev, "edge");
    uint8_t px[64 * 64 * 8];
    assert_true(event_read_chips(ev, &edge->page, 1, px, &err));
    assert_int_equal(px[6], 1);                                       /* pre only, at the west */
    assert_true(px[3] == 0 && px[4] == 0 && px[5] == 0 && px[0] > 0); /* and no post values there */
    assert_int_equal(px[63 * 8 + 6], 3);
    event_close(ev);
}

static void test_points_and_cells(void **state)
{
    (void)state;
    remove_event_folder();
    struct tile_options o = usual();
    o.footprints = o.label_field = NULL;
    o.grid_m = 40;
    must_run(o);
    assert_true(report.n_chips > 40 && report.n_labeled == 0);
    remove_event_folder();
    char g[100];
    fx_begin(&features);
    for (int i = 0; i < 2; i++) {
        snprintf(g, sizeof g, "{\"type\":\"Point\",\"coordinates\":[%f,%f]}", east0 + 100 + 10 * i,
                 north0 - 100);
        fx_feature(&features, "\"id\":1", g);
    }
    fx_end(&features, "points.geojson");
    o.grid_m = 0;
    o.footprints = fx_path("points.geojson");
    must_run(o); /* two neighbours cannot be split: said, not refused */
    assert_int_equal(report.n_chips, 2);
    assert_int_equal(report.n_train, 2);
    assert_non_null(strstr(fx_warnings, "no test set could be set apart"));
}

/* The chip of each building and the index do not depend on the window's size; nothing depends on the number
 * of threads. */
static void test_windows_and_threads(void **state)
{
    (void)state;
    struct tile_options o = usual();
    static uint8_t px[3][22][64 * 64 * 8];
    char digest[3][65];
    const int window[3] = {1024, 1024, 70}, threads[3] = {1, 3, 2};
    int before = omp_get_max_threads();
    for (int k = 0; k < 3; k++) {
        remove_event_folder();
        omp_set_num_threads(threads[k]);
        if (!tile_run_window(&o, window[k], NULL, &report, &err))
            fail_msg("%s", err.msg);
        struct event *ev = event_open(out, &err);
        assert_non_null(ev);
        memcpy(digest[k], ev->digest, 65);
        for (size_t i = 0; i < ev->n; i++)
            if (ev->building[i].page >= 0)
                assert_true(event_read_chips(ev, &ev->building[i].page, 1, px[k][i], &err));
        event_close(ev);
    }
    omp_set_num_threads(before);
    assert_string_equal(digest[0], digest[1]); /* the manifest holds the digests of both other files */
    assert_memory_equal(px[0], px[1], sizeof px[0]);
    const uint8_t *a = &px[0][0][0], *b = &px[2][0][0];
    for (size_t i = 0; i < sizeof px[0]; i++)
        if (a[i] - b[i] > 1 || b[i] - a[i] > 1) /* a last bit may round a sample the other way */
            fail_msg("byte %zu: %d and %d", i, a[i], b[i]);
}

/* ---- what a run must not do
 * ------------------------------------------------------------------------------------------- */

static void test_dry_run_writes_nothing(void **state)
{
    (void)state;
    remove_event_folder();
    struct tile_options o = usual();
    o.dry_run = true;
    must_run(o);
    assert_int_equal(report.n_chips, 20);
    assert_false(file_exists(out));
    assert_int_equal(count_leftovers(), 0);
}

static void test_overwrite(void **state)
{
    (void)state;
    remove_event_folder();
    must_run(usual());
    char first[65], again[65];
    assert_true(file_sha256(fx_path("event/event.json"), first, &err));
    struct tile_options o = usual();
    assert_false(run(o));
    fx_assert_err(&err, ERR_USAGE, "exists already", "--overwrite", NULL);
    o.overwrite = true;
    o.size_m = 16;
    must_run(o);
    assert_true(file_sha256(fx_path("event/event.json"), again, &err));
    assert_string_not_equal(first, again);
    assert_int_equal(count_leftovers(), 0);
    /* A folder with anything else in it is never replaced. */
    fx_text("event/model.safetensors", "precious");
    assert_false(run(o));
    fx_assert_err(&err, ERR_INPUT, "model.safetensors", "choose another", NULL);
    assert_true(file_exists(fx_path("event/model.safetensors")) && file_exists(fx_path("event/chips.tif")));
    o.out = fx_path("town.geojson");
    assert_false(run(o));
    fx_assert_err(&err, ERR_INPUT, "not a folder", NULL);
}

/* Any failure leaves the older event as it was and nothing beside it. */
static void assert_unharmed(const char *before)
{
    char now[65];
    assert_true(file_sha256(fx_path("event/event.json"), now, &(struct err){0}));
    assert_string_equal(before, now);
    struct event *ev = event_open(out, &(struct err){0});
    assert_non_null(ev);
    event_close(ev);
    assert_int_equal(count_leftovers(), 0);
}

static volatile sig_atomic_t stop;
static const char *stop_stage;
static void stop_at(void *ctx, const char *stage, double done, double total, const char *note)
{
    (void)ctx;
    (void)done;
    (void)total;
    (void)note;
    stop = stop || strcmp(stage, stop_stage) == 0;
}

static void test_failures_leave_the_old_event(void **state)
{
    (void)state;
    char before[65];
    remove_event_folder();
    must_run(usual());
    assert_true(file_sha256(fx_path("event/event.json"), before, &err));
    struct tile_options o = usual();
    o.overwrite = true;
    static const char *const stage[] = {"scale", "chips", "digest"};
    for (int i = 0; i < 3; i++) {
        stop_stage = stage[i];
        stop = 0;
        assert_false(tile_run(&o, &(struct progress){.report = stop_at, .stop = &stop}, &report, &err));
        assert_int_equal(err.code, ERR_INTERRUPTED);
        assert_unharmed(before);
    }
    /* A file that cannot grow: first the chips do not fit, then only the index does not. */
    struct rlimit old, small;
    getrlimit(RLIMIT_FSIZE, &old);
    for (rlim_t limit = 20000; limit <= 80000; limit += 60000) {
        small = old;
        small.rlim_cur = limit;
        setrlimit(RLIMIT_FSIZE, &small);
        bool ok = run(o);
        setrlimit(RLIMIT_FSIZE, &old);
        assert_false(ok);
        fx_assert_err(&err, err.code, "cannot be written", NULL);
        assert_unharmed(before);
    }
    o.out = fx_path("no/such/folder");
    assert_false(run(o));
    fx_assert_err(&err, ERR_NOT_FOUND, "cannot be made", NULL);
}

/* ---- refusals
 * ---------------------------------------------------------------------------------------------------------
 */

static void assert_refused(struct tile_options o, enum err_code code, const char *word, const char *mend)
{
    o.out = fx_path("refused");
    assert_false(run(o));
    fx_assert_err(&err, code, word, mend, NULL);
    assert_false(file_exists(fx_path("refused")));
    assert_int_equal(count_leftovers(), 0);
}

static void test_refused(void **state)
{
    (void)state;
    struct tile_options o = usual();
    o.out = NULL;
    assert_false(run(o));
    fx_assert_err(&err, ERR_USAGE, "output folder", "-o", NULL);
    o = usual();
    o.n_post = 0;
    assert_refused(o, ERR_USAGE, "no post image", "--post");
    o = usual();
    o.footprints = NULL;
    assert_refused(o, ERR_USAGE, "--footprints", "--grid");
    o = usual();
    o.size_m = 31;
    assert_refused(o, ERR_USAGE, "62 pixels", "multiple of 4");
    o = usual();
    o.gsd_m = 0;
    assert_refused(o, ERR_USAGE, "--gsd", "");
    o = usual();
    o.label_field = NULL;
    o.label_map = "a=none";
    assert_refused(o, ERR_USAGE, "--label-field", "");
    o = usual();
    o.post = pre_list;
    assert_refused(o, ERR_INPUT, "both as pre and as post", "pre.tif");
    o = usual();
    fx_begin(&features);
    fx_building(&features, "\"id\":1", 3000, 0, 10);
    fx_end(&features, "outside.geojson");
    o.label_field = NULL;
    o.footprints = fx_path("outside.geojson");
    assert_refused(o, ERR_INPUT, "outside the ground", "-94.4");
    fx_begin(&features);
    fx_building(&features, "\"id\":1", 5, 100, 8); /* in pre, only just touching post's ground */
    fx_end(&features, "blank.geojson");
    o.footprints = fx_path("blank.geojson");
    assert_refused(o, ERR_INPUT, "25 % blank", "");
}

static void test_no_overlap_and_dates(void **state)
{
    (void)state;
    struct fx_image im = fx_utm("elsewhere.tif", 100, 100, 0.5, 5000, 0);
    const char *list[1] = {fx_write(im)};
    struct tile_options o = usual();
    o.post = list;
    assert_refused(o, ERR_INPUT, "no ground in common", "elsewhere.tif");
    /* Sizes of the two dates swapped, or any others, are no fault. */
    o = usual();
    o.pre = post_list;
    o.post = pre_list;
    remove_event_folder();
    must_run(o);
    assert_int_equal(report.n_chips, 20);
    /* Blank on all common ground. */
    im = fx_utm("void.tif", 800, 600, 0.5, 0, 0);
    im.value = fx_flat;
    im.nodata = "50";
    im.bands = 3;
    list[0] = fx_write(im);
    GDALDatasetH ds = GDALOpen(list[0], GA_Update);
    for (int b = 1; b <= 3; b++)
        GDALFillRaster(GDALGetRasterBand(ds, b), 50, 0);
    GDALSetMetadataItem(ds, "TIFFTAG_DATETIME", "2011:05:24 10:00:00", NULL);
    GDALClose(ds);
    o = usual();
    o.post = list;
    assert_refused(o, ERR_INPUT, "nodata or transparent", "");
    ds = GDALOpen(pre, GA_Update);
    GDALSetMetadataItem(ds, "TIFFTAG_DATETIME", "2012:01:01 10:00:00", NULL);
    GDALClose(ds);
    o.overwrite = true;
    assert_false(run(o));
    assert_non_null(strstr(fx_warnings, "are they swapped?"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_event_holds_what_was_painted),
        cmocka_unit_test(test_more_blank_may_be_allowed),
        cmocka_unit_test(test_points_and_cells),
        cmocka_unit_test(test_windows_and_threads),
        cmocka_unit_test(test_dry_run_writes_nothing),
        cmocka_unit_test(test_overwrite),
        cmocka_unit_test(test_failures_leave_the_old_event),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_no_overlap_and_dates),
    };
    return cmocka_run_group_tests(tests, setup, fx_teardown);
}
