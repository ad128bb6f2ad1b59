/* SPDX-License-Identifier: Apache-2.0
 * test_event.c - opening events that are sound, broken, truncated or hostile; reading chips; events and image
 * folders as training sets. The sound event is made by tile_run once; each case then spoils one thing in it
 * and mends it again. */
#include "tests/unit/geo_fixture.h"

#include <cJSON.h>
#include <tiffio.h>

static struct err err;
static char event_dir[256];
static char *sound_json;

static int setup(void **state)
{
    static struct fx_features features;
    static char pre[256], post[256], town[256];
    const char *pre_list[1] = {pre}, *post_list[1] = {post};
    if (fx_setup(state) != 0)
        return 1;
    struct fx_image im = fx_utm("pre.tif", 800, 600, 0.5, 0, 0);
    snprintf(pre, sizeof pre, "%s", fx_write(im));
    im.name = "post.tif";
    snprintf(post, sizeof post, "%s", fx_write(im));
    char properties[80];
    fx_begin(&features);
    for (int i = 0; i < 40; i++) {
        snprintf(properties, sizeof properties, "\"id\":%d,\"damage\":%d", 100 + i, i % 5 == 4 ? -1 : i % 5);
        fx_building(&features, properties, 40 + 35 * (i % 8), 40 + 50 * (i / 8), 10);
    }
    fx_building(&features, "\"id\":999,\"damage\":0", 3000, 3000, 10);
    fx_end(&features, "town.geojson");
    snprintf(town, sizeof town, "%s", fx_path("town.geojson"));
    snprintf(event_dir, sizeof event_dir, "%s", fx_path("event"));
    struct tile_options o;
    tile_defaults(&o);
    o.pre = pre_list;
    o.post = post_list;
    o.n_pre = o.n_post = 1;
    o.footprints = town;
    o.label_field = "damage";
    o.out = event_dir;
    struct tile_report r;
    if (!tile_run(&o, NULL, &r, &err)) {
        print_error("%s\n", err.msg);
        return 1;
    }
    sound_json = file_read(fx_path("event/event.json"), 1 << 20, NULL, &err);
    return sound_json ? 0 : 1;
}

static int teardown(void **state)
{
    free(sound_json);
    return fx_teardown(state);
}

static void assert_opens(bool yes, const char *word)
{
    err = (struct err){0};
    struct event *ev = event_open(event_dir, &err);
    if (yes && !ev)
        fail_msg("%s", err.msg);
    if (!yes && ev)
        fail_msg("a spoiled event was opened (%s)", word);
    event_close(ev);
    if (!yes)
        fx_assert_err(&err, ERR_INPUT, word, NULL);
}

/* ---- event.json
 * ------------------------------------------------------------------------------------------------------- */

/* The object at a path like "grid.width", and the last key. */
static cJSON *parent_of(cJSON *root, const char *path, char key[64])
{
    char part[64];
    for (;;) {
        size_t n = strcspn(path, ".");
        snprintf(part, sizeof part, "%.*s", (int)n, path);
        if (path[n] == '\0') {
            snprintf(key, 64, "%s", part);
            return root;
        }
        root = cJSON_GetObjectItem(root, part);
        assert_non_null(root);
        path += n + 1;
    }
}

/* Replaces one value of the manifest (JSON text; NULL deletes) and expects the event to be refused. */
static void spoil(const char *path, const char *value, const char *word)
{
    char key[64];
    cJSON *root = cJSON_Parse(sound_json);
    cJSON *at = parent_of(root, path, key);
    if (value)
        assert_true(cJSON_ReplaceItemInObject(at, key, cJSON_Parse(value)));
    else
        cJSON_DeleteItemFromObject(at, key);
    char *text = cJSON_Print(root);
    fx_text("event/event.json", text);
    cJSON_free(text);
    cJSON_Delete(root);
    assert_opens(false, word);
    fx_text("event/event.json", sound_json);
}

static void test_manifest(void **state)
{
    (void)state;
    assert_opens(true, "");
    spoil("kind", "\"something\"", "not an event's");
    spoil("kind", NULL, "not an event's");
    spoil("format", "2", "format");
    spoil("grid", NULL, "'grid' is missing");
    spoil("grid.width", "0", "'width'");
    spoil("grid.width", "1e300", "'width'");
    spoil("grid.width", "10.5", "whole number");
    spoil("grid.gsd_m", "\"x\"", "'gsd_m'");
    spoil("grid.gsd_m", "0.25", "north up");
    spoil("grid.wkt", "\"PROJCS[nonsense\"", "coordinate system");
    spoil("grid.wkt", "\"EPSG:4326\"", "not a projected one");
    spoil("grid.wkt", "7", "a text is expected");
    spoil("grid.geotransform", "[1,2,3]", "six numbers");
    spoil("grid.geotransform", "[1,0.5,1,1,0,-0.5]", "north up");
    spoil("layout.size", "1000000", "'size'");
    spoil("layout.size", "62", "form");
    spoil("layout.bands", "9", "'bands'");
    spoil("layout.dates", "1", "'dates'");
    spoil("scaling.pre", "[[1,2]]", "one pair a band");
    spoil("scaling.post", "[[1,2],[1,2],[2,2]]", "does not rise");
    spoil("scaling.post", "[[1,2],[1,2],[\"a\",2]]", "'scaling'");
    spoil("inputs.pre", "[]", "names no images");
    spoil("inputs.pre", "[3]", "'path'");
    spoil("chips.pages", "41", "has 41 in 41");
    spoil("chips.pages", "39", "not there");
    spoil("chips.pages", "1000", "more chips than buildings");
    spoil("index.rows", "40", "rows");
    spoil("chips.bytes", "12", "truncated");
    spoil("index.bytes", "12", "truncated");
    fx_text("event/event.json", "{\"kind\":");
    assert_opens(false, "not JSON");
    fx_text("event/event.json", "");
    assert_opens(false, "not JSON");
    char *deep = malloc(100001);
    memset(deep, '[', 100000);
    deep[100000] = '\0';
    fx_text("event/event.json", deep);
    free(deep);
    assert_opens(false, "not JSON");
    fx_text("event/event.json", sound_json);
    assert_opens(true, "");
}

static void test_missing_parts(void **state)
{
    (void)state;
    assert_null(event_open(fx_path("absent"), &err));
    fx_assert_err(&err, ERR_NOT_FOUND, "absent", "aftermap tile", NULL);
    assert_null(event_open(fx_dir, &err));
    fx_assert_err(&err, ERR_INPUT, "holds no event.json", NULL);
    assert_int_equal(rename(fx_path("event/chips.tif"), fx_path("aside")), 0);
    err = (struct err){0};
    assert_null(event_open(event_dir, &err));
    fx_assert_err(&err, ERR_NOT_FOUND, "chips.tif", NULL);
    assert_int_equal(rename(fx_path("aside"), fx_path("event/chips.tif")), 0);
    assert_opens(true, "");
}

/* ---- chips.tif and chips.gpkg
 * ------------------------------------------------------------------------------------------ */

/* Opens with the byte at `at` of the file set to `value`, then puts the old one back. */
static void spoil_byte(const char *name, long at, int value, const char *word)
{
    FILE *f = fopen(fx_path(name), "r+b");
    fseek(f, at, SEEK_SET);
    int old = fgetc(f);
    fseek(f, at, SEEK_SET);
    fputc(value, f);
    fclose(f);
    assert_opens(false, word);
    f = fopen(fx_path(name), "r+b");
    fseek(f, at, SEEK_SET);
    fputc(old, f);
    fclose(f);
}

static void test_chip_store(void **state)
{
    (void)state;
    spoil_byte("event/chips.tif", 2, 42, "BigTIFF");
    spoil_byte("event/chips.tif", 0, 'M', "BigTIFF");
    spoil_byte("event/chips.tif", 12, 0x7f, "page 0"); /* the first page far outside the file */
    assert_opens(true, "");
    /* Pages by themselves: written, read in any order, on many threads. */
    struct imageset_layout l = {.size = 16, .n_dates = 2, .n_bands = 3, .has_masks = true};
    enum { N = 300, BYTES = 16 * 16 * 8 };
    const char *path = fx_path("store.tif");
    static uint8_t px[N][BYTES], back[N][BYTES];
    static int64_t pages[N];
    struct chips_writer *w = chips_create(path, &l, &err);
    for (int i = 0; i < N; i++) {
        for (int k = 0; k < BYTES; k++)
            px[i][k] = (uint8_t)(i * 31 + k * k / 7);
        assert_true(chips_append(w, px[i], &err));
        pages[i] = (i * 7 + 3) % N;
    }
    assert_true(chips_finish(w, &err));
    struct chips *c = chips_open(path, &l, N, &err);
    assert_non_null(c);
    assert_true(chips_read(c, pages, N, back[0], &err));
    for (int i = 0; i < N; i++)
        assert_memory_equal(back[i], px[pages[i]], BYTES);
    chips_close(c);
    /* GDAL sees the same pixels: page 5 is the fifth subdataset after the first. */
    char name[300];
    snprintf(name, sizeof name, "GTIFF_DIR:6:%s", path);
    GDALDatasetH ds = GDALOpen(name, GA_ReadOnly);
    assert_non_null(ds);
    assert_int_equal(GDALGetRasterCount(ds), 8);
    uint8_t seen[BYTES];
    assert_int_equal(
        GDALDatasetRasterIO(ds, GF_Read, 0, 0, 16, 16, seen, 16, 16, GDT_Byte, 8, NULL, 8, 128, 1), CE_None);
    assert_memory_equal(seen, px[5], BYTES);
    GDALClose(ds);
    /* One page more or less than listed, another size, a cut file. */
    assert_null(chips_open(path, &l, N - 1, &err));
    fx_assert_err(&err, ERR_INPUT, "more than the 299 pages", NULL);
    assert_null(chips_open(path, &l, N + 1, &err));
    fx_assert_err(&err, ERR_INPUT, "page 300 of 301 is missing", NULL);
    struct imageset_layout other = l;
    other.size = 32;
    c = chips_open(path, &other, N, &err);
    uint8_t large[32 * 32 * 8];
    assert_false(chips_read(c, pages, 1, large, &err));
    fx_assert_err(&err, ERR_INPUT, "chip 3 cannot be read", NULL);
    chips_close(c);
    assert_int_equal(truncate(path, fx_size(path) * 2 / 3), 0);
    assert_null(chips_open(path, &l, N, &err));
    fx_assert_err(&err, ERR_INPUT, "store.tif", "truncated or corrupt", NULL);
}

/* A list of pages that runs in a circle must end, not hang. */
static void test_chip_loop(void **state)
{
    (void)state;
    struct imageset_layout l = {.size = 16, .n_dates = 1, .n_bands = 1};
    uint8_t px[256] = {1}, eight[8];
    const char *path = fx_path("loop.tif");
    struct chips_writer *w = chips_create(path, &l, &err);
    assert_true(chips_append(w, px, &err) && chips_finish(w, &err));
    FILE *f = fopen(path, "r+b");
    fseek(f, 8, SEEK_SET);
    assert_int_equal(fread(eight, 1, 8, f), 8);
    uint64_t at = 0, n = 0;
    for (int i = 7; i >= 0; i--)
        at = at << 8 | eight[i];
    fseek(f, (long)at, SEEK_SET);
    uint8_t count[8];
    assert_int_equal(fread(count, 1, 8, f), 8);
    for (int i = 7; i >= 0; i--)
        n = n << 8 | count[i];
    fseek(f, (long)(at + 8 + 20 * n), SEEK_SET);
    fwrite(eight, 1, 8, f); /* the next page is this one */
    fclose(f);
    assert_null(chips_open(path, &l, 1, &err));
    fx_assert_err(&err, ERR_INPUT, "more than the 1 pages", NULL);
}

/* Changes rows with SQL (the file keeps its size), expects a refusal, puts the old file back. */
static void spoil_index(const char *sql, const char *word)
{
    const char *path = fx_path("event/chips.gpkg");
    char copy[256];
    snprintf(copy, sizeof copy, "%s", fx_path("sound.gpkg"));
    assert_int_equal(CPLCopyFile(copy, path), 0);
    long size = fx_size(path);
    GDALDatasetH ds = GDALOpenEx(path, GDAL_OF_VECTOR | GDAL_OF_UPDATE, NULL, NULL, NULL);
    OGRLayerH result = GDALDatasetExecuteSQL(ds, sql, NULL, NULL);
    GDALDatasetReleaseResultSet(ds, result);
    GDALClose(ds);
    char text[64];
    snprintf(text, sizeof text, "%ld", fx_size(path));
    if (fx_size(path) == size)
        assert_opens(false, word);
    else
        spoil("index.bytes", text, word);
    assert_int_equal(CPLCopyFile(path, copy), 0);
}

static void test_index(void **state)
{
    (void)state;
    spoil_index("UPDATE buildings SET page = 5 WHERE fid = 3", "another's");
    spoil_index("UPDATE buildings SET page = 999 WHERE fid = 3", "not there");
    spoil_index("UPDATE buildings SET page = -1 WHERE fid = 3", "do not agree");
    spoil_index("UPDATE buildings SET page = -1, status = 'excluded' WHERE fid = 3", "lists 39 chips");
    spoil_index("UPDATE buildings SET status = 'maybe' WHERE fid = 3", "do not agree");
    spoil_index("UPDATE buildings SET reason = 'because' WHERE fid = 3", "do not agree");
    spoil_index("UPDATE buildings SET dmg_level = 4 WHERE fid = 3", "damage scale");
    spoil_index("UPDATE buildings SET dmg_level = NULL WHERE fid = 3", "damage scale");
    spoil_index("UPDATE buildings SET split = 'none' WHERE fid = 3", "no known set");
    spoil_index("UPDATE buildings SET block = -1 WHERE fid = 3", "no spatial block");
    spoil_index("UPDATE buildings SET lon = 1e999 WHERE fid = 3", "cannot be");
    spoil_index("UPDATE buildings SET area_m2 = NULL WHERE fid = 3", "cannot be");
    spoil_index("UPDATE buildings SET blank = 2 WHERE fid = 3", "cannot be");
    spoil_index("UPDATE buildings SET bldg_id = '' WHERE fid = 3", "no usable id");
    spoil_index("UPDATE buildings SET geom = NULL WHERE fid = 3", "no outline");
    spoil_index("UPDATE buildings SET fid = 77 WHERE fid = 3", "out of order");
    spoil_index("DELETE FROM buildings WHERE fid = 3", "rows");
    spoil_index("ALTER TABLE buildings RENAME COLUMN block TO blocks", "no column block");
    spoil_index("ALTER TABLE buildings RENAME TO houses", "chips.gpkg");
    assert_opens(true, "");
}

/* ---- as training sets
 * -------------------------------------------------------------------------------------------------- */

static void test_imageset(void **state)
{
    (void)state;
    struct imageset all, few, again;
    struct event *ev = event_open(event_dir, &err);
    assert_non_null(ev);
    assert_true(event_load_imageset(ev, 2, 0, 1, &all, NULL, &err));
    assert_int_equal(all.n, 40); /* the 41st building has no chip */
    assert_int_equal(all.n_classes, 2);
    assert_string_equal(all.class_name[1], "damaged");
    assert_string_equal(all.digest, ev->digest);
    const size_t bytes = 64 * 64 * 8;
    uint8_t px[64 * 64 * 8];
    for (size_t i = 0; i < all.n; i++) {
        const struct event_building *b = &ev->building[i];
        assert_int_equal(all.id[i], (int64_t)i + 1);
        int level = (int)i % 5;
        assert_int_equal(all.label[i], level == 4 ? -1 : level >= 2);
        assert_int_equal(all.block[i], b->block);
        assert_int_equal(all.split[i], b->split);
        assert_true(event_read_chips(ev, &b->page, 1, px, &err));
        assert_memory_equal(all.px + i * bytes, px, bytes);
    }
    imageset_free(&all);
    assert_true(event_load_imageset(ev, 0, 3, 1, &few, NULL, &err));
    assert_int_equal(few.n, 32 + 3); /* all labelled, three of the eight others */
    assert_int_equal(few.n_classes, 4);
    assert_string_equal(few.class_name[3], "destroyed");
    int n_open = 0;
    for (size_t i = 0; i < few.n; i++) {
        n_open += few.label[i] < 0;
        assert_true(few.label[i] < 0 || few.label[i] == (few.id[i] - 1) % 5);
    }
    assert_int_equal(n_open, 3);
    assert_true(event_load_imageset(ev, 0, 3, 1, &again, NULL, &err));
    assert_memory_equal(few.id, again.id, few.n * sizeof *few.id);
    imageset_free(&few);
    imageset_free(&again);
    assert_false(event_load_imageset(ev, 4, 0, 1, &all, NULL, &err));
    fx_assert_err(&err, ERR_USAGE, "1, 2 or 3", NULL);
    volatile sig_atomic_t stop = 1;
    assert_false(event_load_imageset(ev, 2, 0, 1, &all, &(struct progress){.stop = &stop}, &err));
    assert_int_equal(err.code, ERR_INTERRUPTED);
    event_close(ev);
}

static void write_png(const char *name, int side, int bands, int value)
{
    GDALDatasetH mem = GDALCreate(GDALGetDriverByName("MEM"), "", side, side, bands, GDT_Byte, NULL);
    for (int b = 1; b <= bands; b++)
        for (int i = 0; i < side * side; i++) {
            uint8_t v = (uint8_t)(value + b + i);
            CPLErr ok = GDALRasterIO(GDALGetRasterBand(mem, b), GF_Write, i % side, i / side, 1, 1, &v, 1, 1,
                                     GDT_Byte, 0, 0);
            assert_int_equal(ok, CE_None);
        }
    GDALClose(GDALCreateCopy(GDALGetDriverByName("PNG"), fx_path(name), mem, FALSE, NULL, NULL, NULL));
    GDALClose(mem);
}

static void test_folder(void **state)
{
    (void)state;
    struct imageset s;
    char spec[300], name[64];
    VSIMkdir(fx_path("set"), 0777);
    VSIMkdir(fx_path("set/water"), 0777);
    VSIMkdir(fx_path("set/field"), 0777);
    for (int i = 0; i < 10; i++) {
        snprintf(name, sizeof name, "set/%s/%d.png", i % 2 ? "water" : "field", i);
        write_png(name, 10, 3, 10 * i);
    }
    fx_text("set/index.csv", "a,b\n");
    snprintf(spec, sizeof spec, "folder:%s", fx_path("set"));
    if (!event_load_folder(&s, spec, 0.2, 1, NULL, &err))
        fail_msg("%s", err.msg);
    assert_int_equal(s.n, 10);
    assert_int_equal(s.n_classes, 2);
    assert_string_equal(s.class_name[0], "field");
    assert_int_equal(s.layout.size, 12); /* ten pixels, padded to a multiple of four by repetition */
    assert_true(s.layout.n_bands == 3 && s.layout.n_dates == 1 && !s.layout.has_masks);
    for (int i = 0; i < 10; i++) {
        int value = 10 * (i < 5 ? 2 * i : 2 * (i - 5) + 1);
        const uint8_t *px = s.px + (size_t)i * 12 * 12 * 3;
        assert_int_equal(s.label[i], i >= 5);
        for (int y = 0; y < 12; y++)
            for (int x = 0; x < 12; x++)
                for (int b = 0; b < 3; b++) {
                    int inner = (y < 10 ? y : 9) * 10 + (x < 10 ? x : 9);
                    assert_int_equal(px[(y * 12 + x) * 3 + b], (uint8_t)(value + b + 1 + inner));
                }
    }
    int n_test = 0;
    for (int i = 0; i < 10; i++)
        n_test += s.split[i] == IMAGESET_TEST;
    assert_int_equal(n_test, 2);
    imageset_free(&s);
    write_png("set/water/z.png", 12, 3, 0);
    assert_false(event_load_folder(&s, spec, 0.2, 1, NULL, &err));
    fx_assert_err(&err, ERR_INPUT, "z.png", "12 x 12", "10 x 10", NULL);
    write_png("set/water/z.png", 10, 1, 0);
    assert_false(event_load_folder(&s, spec, 0.2, 1, NULL, &err));
    fx_assert_err(&err, ERR_INPUT, "z.png", "1 bands", NULL);
    VSIUnlink(fx_path("set/water/z.png"));
    VSIMkdir(fx_path("set/zero"), 0777);
    assert_false(event_load_folder(&s, spec, 0.2, 1, NULL, &err));
    fx_assert_err(&err, ERR_INPUT, "zero", "holds no image", NULL);
    assert_false(event_load_folder(&s, fx_path("set/water"), 0.2, 1, NULL, &err));
    fx_assert_err(&err, ERR_INPUT, "two sub-folders", NULL);
    assert_false(event_load_folder(&s, "folder:/nowhere/at/all", 0.2, 1, NULL, &err));
    fx_assert_err(&err, ERR_NOT_FOUND, "/nowhere/at/all", NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_manifest),   cmocka_unit_test(test_missing_parts),
        cmocka_unit_test(test_chip_store), cmocka_unit_test(test_chip_loop),
        cmocka_unit_test(test_index),      cmocka_unit_test(test_imageset),
        cmocka_unit_test(test_folder),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
