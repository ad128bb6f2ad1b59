/* SPDX-License-Identifier: Apache-2.0
 *
 * test_evaluate.c - assess and evaluate from end to end on a small event: 8 x 8 buildings that training sees
 * for three steps only. How good the model is does not matter; that the figures are those of the files is
 * checked by counting pairs of buildings in damage.gpkg, and that what must not count does not. */
#include "geo_fixture.h"

#include "geo/evaluate.h"
#include "geo/mapping.h"
#include "models/learn/train.h"
#include <cJSON.h>
#include <dirent.h>
#include <signal.h>

enum { SIDE = 8, N = SIDE * SIDE };
static const double first_m = 20, step_m = 30;

static int level_at(int i, int j)
{
    return (3 * i + 5 * j + (i * j) % 3) % 5 - 1; /* -1 unknown, 0..3 */
}

/* The same roofs before and after, darker and ragged the worse they were hit. */
static double ground(double x, double y, bool after)
{
    double u = (x - east0 - first_m) / step_m, v = (north0 - y - first_m) / step_m;
    int i = (int)lround(u), j = (int)lround(v);
    bool roof =
        i >= 0 && i < SIDE && j >= 0 && j < SIDE && fabs(u - i) * step_m < 5 && fabs(v - j) * step_m < 5;
    double grass = 90 + 10 * sin(x * 0.7) * cos(y * 0.9);
    if (!roof)
        return grass;
    double whole = 180 + 5 * ((i + j) % 4), level = after ? fmax(0, level_at(i, j)) : 0;
    return whole - 30 * level + 15 * level * sin(x * 2.1) * sin(y * 2.7);
}

static double before(int band, double x, double y)
{
    return ground(x, y, false) + 8 * band;
}

static double after(int band, double x, double y)
{
    return ground(x, y, true) + 5 * band;
}

static void make_event(const char *name, uint64_t seed)
{
    static struct fx_features f;
    struct tile_options o;
    struct tile_report r;
    struct err e = {0};
    if (seed == 1) {
        struct fx_image image = fx_utm("pre.tif", 520, 520, 0.5, 0, 0);
        image.type = GDT_Byte;
        image.value = before;
        fx_write(image);
        image.name = "post.tif";
        image.value = after;
        fx_write(image);
        fx_begin(&f);
        for (int k = 0; k < N; k++) {
            char properties[80];
            snprintf(properties, sizeof properties, "\"bldg_id\":\"h%d\",\"damage\":\"%s\"", k,
                     event_level_name(level_at(k % SIDE, k / SIDE)));
            fx_building(&f, properties, first_m + step_m * (k % SIDE), first_m + step_m * (k / SIDE), 10);
        }
        fx_building(&f, "\"bldg_id\":\"outside\",\"damage\":\"destroyed\"", 258, 100,
                    10); /* half its chip is blank */
        fx_end(&f, "buildings.geojson");
    }
    const char *pre[] = {fx_path("pre.tif")}, *post[] = {fx_path("post.tif")};
    tile_defaults(&o);
    o.pre = pre;
    o.post = post;
    o.n_pre = o.n_post = 1;
    o.footprints = fx_path("buildings.geojson");
    o.label_field = "damage";
    o.size_m = 16;
    o.split.block_m = 60;
    o.split.seed = seed;
    o.out = fx_path(name);
    if (!tile_run(&o, NULL, &r, &e))
        fail_msg("%s", e.msg);
    assert_int_equal(r.n_footprints, N + 1);
    assert_int_equal(r.n_chips, N);
}

static void train_model(const char *event_name, const char *name, int cut, int labels_per_class)
{
    struct err e = {0};
    struct imageset set = {0};
    struct train_config c;
    struct train_report r;
    char cut_text[4];
    struct event *ev = event_open(fx_path(event_name), &e);
    if (!ev || !event_load_imageset(ev, cut, 0, 1, &set, NULL, &e) ||
        !train_defaults(&c, "supervised", false, &e))
        fail_msg("%s", e.msg);
    c.steps = 3;
    c.budget_s = 0;
    c.batch = 8;
    c.labels_per_class = labels_per_class;
    snprintf(cut_text, sizeof cut_text, "%d", cut);
    const struct checkpoint_meta meta[] = {{"cut", cut_text},
                                           {"gsd_m", "0.5"},
                                           {"size_m", "16"},
                                           {"source", "event"},
                                           {"source.digest", ev->digest}};
    if (!train_run(&set, &c, fx_path(name), false, meta, 5, NULL, &r, &e))
        fail_msg("%s", e.msg);
    imageset_free(&set);
    event_close(ev);
}

static int setup(void **state)
{
    if (fx_setup(state) != 0)
        return 1;
    make_event("event", 1);
    train_model("event", "binary.safetensors", 2, 4);
    train_model("event", "grades.safetensors", 0, 2);
    return 0;
}

static struct mapping_options options(const char *model, const char *out)
{
    struct mapping_options o;
    mapping_defaults(&o);
    o.event_dir = fx_path("event");
    o.model_path = fx_path(model);
    o.out_dir = fx_path(out);
    o.n_views = 1;
    return o;
}

static void assess(const char *model, const char *out)
{
    struct err e = {0};
    struct mapping_report r;
    struct mapping_options o = options(model, out);
    o.overwrite = true;
    if (!mapping_run(&o, NULL, &r, &e))
        fail_msg("%s", e.msg);
    assert_int_equal(r.n_buildings, N + 1);
    assert_int_equal(r.n_predicted, N);
    assert_int_equal(r.n_unknown, 1);
    assert_true(r.seconds_predict > 0 && r.seconds_write > 0);
}

static int n_files(const char *dir)
{
    int n = 0;
    DIR *d = opendir(dir);
    assert_non_null(d);
    for (struct dirent *f; (f = readdir(d));)
        n += strcmp(f->d_name, ".") != 0 && strcmp(f->d_name, "..") != 0;
    closedir(d);
    return n;
}

static cJSON *read_run(const char *dir)
{
    char path[300];
    struct err e;
    snprintf(path, sizeof path, "%s/run.json", dir);
    char *text = file_read(path, 1 << 22, NULL, &e);
    assert_non_null(text);
    cJSON *run = cJSON_Parse(text);
    assert_non_null(run);
    free(text);
    return run;
}

static const cJSON *at(const cJSON *j, const char *a, const char *b)
{
    const cJSON *o = cJSON_GetObjectItemCaseSensitive(j, a);
    return b ? cJSON_GetObjectItemCaseSensitive(o, b) : o;
}

static void test_run_json(void **state)
{
    (void)state;
    struct err e;
    char hex[65], path[300];
    assess("binary.safetensors", "map");
    cJSON *run = read_run(fx_path("map"));
    assert_string_equal(cJSON_GetStringValue(at(run, "version", NULL)), AM_VERSION);
    assert_true(cJSON_GetNumberValue(at(run, "cut", NULL)) == 2 && cJSON_IsTrue(at(run, "binary", NULL)));
    assert_true(cJSON_GetNumberValue(at(run, "settings", "abstain")) == 0.1);
    assert_true(cJSON_GetNumberValue(at(run, "settings", "n_views")) == 1);
    assert_string_equal(cJSON_GetStringValue(at(run, "settings", "precision")), "fp32");
    assert_true(cJSON_GetNumberValue(at(run, "model", "n_labeled")) == 8);
    assert_string_equal(cJSON_GetStringValue(cJSON_GetArrayItem(at(run, "inputs", "pre"), 0)),
                        fx_path("pre.tif"));
    assert_string_equal(cJSON_GetStringValue(cJSON_GetArrayItem(at(run, "inputs", "post"), 0)),
                        fx_path("post.tif"));
    assert_string_equal(cJSON_GetStringValue(at(run, "event", "path")), fx_path("event"));
    if (!file_sha256(fx_path("event/event.json"), hex, &e))
        fail_msg("%s", e.msg);
    assert_string_equal(cJSON_GetStringValue(at(run, "event", "digest")), hex);
    int n = 0;
    double classes = 0;
    const cJSON *o;
    cJSON_ArrayForEach(o, at(run, "outputs", NULL))
    {
        snprintf(path, sizeof path, "%s/%s", fx_path("map"), cJSON_GetStringValue(at(o, "name", NULL)));
        assert_true(file_sha256(path, hex, &e));
        assert_string_equal(cJSON_GetStringValue(at(o, "sha256", NULL)), hex);
        n++;
    }
    assert_int_equal(n, 6);
    assert_int_equal(n_files(fx_path("map")), 7);
    cJSON_ArrayForEach(o, at(run, "classes", NULL)) classes += cJSON_GetNumberValue(at(o, "count", NULL));
    assert_true(classes == N + 1);
    assert_true(cJSON_GetNumberValue(at(run, "trivial", "agrees")) <= N);
    static const char *const steps[] = {"open_s",    "predict_s", "rasters_s", "gpkg_s",
                                        "geojson_s", "csv_s",     "digests_s"};
    for (size_t k = 0; k < sizeof steps / sizeof *steps; k++)
        assert_true(cJSON_GetNumberValue(at(run, "timings", steps[k])) >= 0);
    cJSON_Delete(run);
}

/* ---- an earlier map survives */

struct stopper {
    const char *stage;
    volatile sig_atomic_t stop;
};

static void stop_at(void *ctx, const char *stage, double done, double total, const char *note)
{
    struct stopper *s = ctx;
    (void)done;
    (void)total;
    (void)note;
    if (strcmp(stage, s->stage) == 0)
        s->stop = 1;
}

static void digests_of(const char *dir, char hex[7][65])
{
    static const char *const names[] = {"damage.tif",     "damage.tif.aux.xml", "prob.tif", "damage.gpkg",
                                        "damage.geojson", "damage.csv",         "run.json"};
    struct err e;
    char path[300];
    for (int k = 0; k < 7; k++) {
        snprintf(path, sizeof path, "%s/%s", dir, names[k]);
        assert_true(file_sha256(path, hex[k], &e));
    }
}

static void test_interrupted(void **state)
{
    (void)state;
    static const char *const stages[] = {"predict", "raster", "gpkg", "geojson", "csv"};
    char old[7][65], now[7][65];
    assess("binary.safetensors", "kept");
    digests_of(fx_path("kept"), old);
    for (size_t k = 0; k < sizeof stages / sizeof *stages; k++)
        for (int fresh = 0; fresh < 2; fresh++) {
            struct err e = {0};
            struct mapping_report r;
            struct stopper s = {.stage = stages[k]};
            struct progress p = {.report = stop_at, .ctx = &s, .stop = &s.stop};
            struct mapping_options o = options("grades.safetensors", fresh ? "fresh" : "kept");
            o.overwrite = true;
            assert_false(mapping_run(&o, &p, &r, &e));
            fx_assert_err(&e, ERR_INTERRUPTED, "interrupted", NULL);
            if (fresh)
                assert_false(file_exists(o.out_dir));
        }
    digests_of(fx_path("kept"), now);
    assert_memory_equal(old, now, sizeof old);
    assert_int_equal(n_files(fx_path("kept")), 7);
}

/* Equal runs write equal files when the time is given; only run.json has timings. A killed run's folder is
 * cleared. */
static void test_repeatable(void **state)
{
    (void)state;
    char first[7][65], second[7][65], left[300];
    struct err e;
    setenv("SOURCE_DATE_EPOCH", "1700000000", 1);
    assess("grades.safetensors", "again");
    digests_of(fx_path("again"), first);
    snprintf(left, sizeof left, "%s/.map.tmp-%d", fx_path("again"), 0x3ffffff); /* beyond any process id */
    assert_true(file_make_dirs(left, &e));
    strncat(left, "/damage.tif", sizeof left - strlen(left) - 1);
    assert_true(file_write_text(left, "half", &e));
    assess("grades.safetensors", "again");
    unsetenv("SOURCE_DATE_EPOCH");
    digests_of(fx_path("again"), second);
    assert_memory_equal(first, second, 6 * sizeof *first);
    assert_int_equal(n_files(fx_path("again")), 7);
    cJSON *run = read_run(fx_path("again"));
    assert_string_equal(cJSON_GetStringValue(at(run, "created", NULL)), "2023-11-14T22:13:20Z");
    cJSON_Delete(run);
}

static void test_refused(void **state)
{
    (void)state;
    struct err e = {0};
    struct mapping_report r;
    assess("binary.safetensors", "map");
    struct mapping_options o = options("binary.safetensors", "map");
    assert_false(mapping_run(&o, NULL, &r, &e));
    fx_assert_err(&e, ERR_USAGE, "exists", "--overwrite", NULL);
    o.out_dir = fx_path("dry");
    o.dry_run = true;
    assert_true(mapping_run(&o, NULL, &r, &e));
    assert_false(file_exists(o.out_dir));
    o.dry_run = false;
    o.out_dir = fx_path("pre.tif");
    assert_false(mapping_run(&o, NULL, &r, &e));
    fx_assert_err(&e, ERR_USAGE, "pre.tif", "folder", NULL);
    o.out_dir = fx_path("new");
    o.model_path = fx_path("post.tif");
    assert_false(mapping_run(&o, NULL, &r, &e));
    fx_assert_err(&e, ERR_MODEL, "post.tif", NULL);

    /* an event of another grid */
    struct tile_options t;
    struct tile_report tr;
    const char *pre[] = {fx_path("pre.tif")}, *post[] = {fx_path("post.tif")};
    tile_defaults(&t);
    t.pre = pre;
    t.post = post;
    t.n_pre = t.n_post = 1;
    t.footprints = fx_path("buildings.geojson");
    t.gsd_m = 0.8;
    t.size_m = 25.6;
    t.out = fx_path("coarse");
    assert_true(tile_run(&t, NULL, &tr, &e));
    o = options("binary.safetensors", "new");
    o.event_dir = t.out;
    assert_false(mapping_run(&o, NULL, &r, &e));
    fx_assert_err(&e, ERR_MODEL, "0.5", "0.8", "--gsd", NULL);
    assert_false(file_exists(o.out_dir));
}

/* ---- scores */

static struct evaluate_options scoring(const char *subject, const char *split)
{
    struct evaluate_options o;
    evaluate_defaults(&o);
    o.subject = fx_path(subject);
    o.truth = fx_path("event");
    o.split = split;
    o.n_views = 1;
    o.metrics.n_bootstrap = 50;
    return o;
}

struct counted {
    int n, n_damaged, n_trained, hits; /* hits: damaged buildings at or above 0.5 */
    int called;
    double auroc;
};

/* Pairs of (damaged, undamaged) buildings of damage.gpkg that count, and in how many the damaged one has the
 * higher p. */
static struct counted count_pairs(const char *map, const char *split, int cut)
{
    struct counted c = {0};
    double p[N];
    int level[N], n = 0;
    struct err e;
    char path[300];
    struct event *ev = event_open(fx_path("event"), &e);
    snprintf(path, sizeof path, "%s/damage.gpkg", fx_path(map));
    GDALDatasetH ds = GDALOpenEx(path, GDAL_OF_VECTOR, NULL, NULL, NULL);
    char sql[300];
    snprintf(sql, sizeof sql,
             "SELECT bldg_id, p_dmg, lbl_src, fid FROM buildings WHERE p_dmg IS NOT NULL %s%s%s",
             strcmp(split, "all") ? "AND split = '" : "", strcmp(split, "all") ? split : "",
             strcmp(split, "all") ? "'" : "");
    OGRLayerH rows = GDALDatasetExecuteSQL(ds, sql, NULL, "SQLite");
    for (OGRFeatureH f; (f = OGR_L_GetNextFeature(rows)); OGR_F_Destroy(f)) {
        int k = (int)strtol(OGR_F_GetFieldAsString(f, 0) + 1, NULL, 10), l = level_at(k % SIDE, k / SIDE);
        assert_int_equal(ev->building[OGR_F_GetFieldAsInteger(f, 3) - 1].level, l);
        if (l < 0)
            continue;
        if (strcmp(OGR_F_GetFieldAsString(f, 2), "train") == 0) {
            c.n_trained++;
            continue;
        }
        p[n] = OGR_F_GetFieldAsDouble(f, 1);
        level[n] = l;
        c.n_damaged += l >= cut;
        c.called += p[n] >= 0.5;
        c.hits += l >= cut && p[n] >= 0.5;
        n++;
    }
    c.n = n;
    double won = 0, pairs = 0;
    for (int a = 0; a < n; a++)
        for (int b = 0; b < n; b++)
            if (level[a] >= cut && level[b] < cut) {
                pairs++;
                won += p[a] > p[b] ? 1 : p[a] == p[b] ? 0.5 : 0;
            }
    c.auroc = won / pairs;
    GDALDatasetReleaseResultSet(ds, rows);
    GDALClose(ds);
    event_close(ev);
    return c;
}

static void check_scores(const char *model, const char *map, const char *split, int n_labels)
{
    struct err e = {0};
    static struct evaluate_report of_map, of_model;
    assess(model, map);
    struct evaluate_options o = scoring(map, split);
    if (!evaluate_run(&o, NULL, &of_map, &e))
        fail_msg("%s", e.msg);
    struct counted c = count_pairs(map, split, 2);
    assert_int_equal(of_map.model.n, c.n);
    assert_int_equal(of_map.model.n_positive, c.n_damaged);
    assert_int_equal(of_map.n_left_out, c.n_trained);
    assert_int_equal(of_map.n_labeled, n_labels);
    assert_int_equal(of_map.cut, 2);
    assert_true(fabs(of_map.model.auroc.value - c.auroc) < 1e-6);
    if (c.n_damaged)
        assert_true(fabs(of_map.model.recall.value - (double)c.hits / c.n_damaged) < 1e-9);
    if (c.called)
        assert_true(fabs(of_map.model.precision.value - (double)c.hits / c.called) < 1e-9);
    assert_true(of_map.model.auroc.low <= of_map.model.auroc.value || isnan(of_map.model.auroc.low));

    /* The model itself on the same items: the same but for rounding; the baseline sees the same chips. */
    o = scoring(model, split);
    if (!evaluate_run(&o, NULL, &of_model, &e))
        fail_msg("%s", e.msg);
    assert_int_equal(of_model.model.n, c.n);
    assert_int_equal(of_model.n_left_out, c.n_trained);
    assert_true(fabs(of_model.model.auroc.value - c.auroc) < 0.03);
    assert_true(of_map.has_trivial && of_model.has_trivial);
    assert_true(of_map.trivial.auroc.value == of_model.trivial.auroc.value);
    assert_int_equal(of_map.trivial.n, c.n);
    assert_string_equal(of_map.model_digest, of_model.model_digest);
}

static void test_scores(void **state)
{
    (void)state;
    check_scores("binary.safetensors", "map", "test", 8);
    check_scores("binary.safetensors", "map", "train", 8);
    check_scores("grades.safetensors", "map4", "all", 8);
    struct counted c = count_pairs("map", "train", 2);
    assert_int_equal(c.n_trained, 8); /* all labels lie in the training blocks */
}

static void test_cut(void **state)
{
    (void)state;
    struct err e = {0};
    static struct evaluate_report r;
    struct evaluate_options o = scoring("binary.safetensors", "test");
    o.cut = 3;
    assert_false(evaluate_run(&o, NULL, &r, &e));
    fx_assert_err(&e, ERR_USAGE, "cut 3", "--cut", NULL);
    assess("grades.safetensors", "map4");
    size_t positive[4] = {0};
    for (int cut = 1; cut <= 3; cut++) {
        o = scoring("map4", "all");
        o.cut = cut;
        assert_true(evaluate_run(&o, NULL, &r, &e));
        assert_int_equal(r.cut, cut);
        assert_string_equal(r.class_name[3], "destroyed");
        positive[cut] = r.model.n_positive;
        assert_int_equal(r.model.n_positive, count_pairs("map4", "all", cut).n_damaged);
    }
    assert_true(positive[1] > positive[2] && positive[2] > positive[3]);
}

static void test_bad_subjects(void **state)
{
    (void)state;
    struct err e = {0};
    static struct evaluate_report r;
    assess("binary.safetensors", "map");
    make_event("other", 2); /* the same town, split otherwise: another event */
    struct evaluate_options o = scoring("map", "test");
    o.truth = fx_path("other");
    assert_false(evaluate_run(&o, NULL, &r, &e));
    fx_assert_err(&e, ERR_INPUT, "other", "digest", NULL);
    fx_warnings[0] = '\0';
    o = scoring("binary.safetensors", "test");
    o.truth = fx_path("other");
    assert_true(
        evaluate_run(&o, &fx_progress, &r, &e)); /* a model may be asked about any event, with a warning */
    assert_non_null(strstr(fx_warnings, "another event"));
    o = scoring("map", "test");
    o.truth = "cifar10:x";
    assert_false(evaluate_run(&o, NULL, &r, &e));
    fx_assert_err(&e, ERR_USAGE, "event folder", NULL);
    o = scoring("event", "test");
    assert_false(evaluate_run(&o, NULL, &r, &e));
    fx_assert_err(&e, ERR_NOT_FOUND, "run.json", NULL);

    /* the model file moved: the map is still scored, the baseline is not, and that is said */
    assert_int_equal(rename(fx_path("binary.safetensors"), fx_path("moved.safetensors")), 0);
    o = scoring("map", "test");
    fx_warnings[0] = '\0';
    bool ok = evaluate_run(&o, &fx_progress, &r, &e);
    assert_int_equal(rename(fx_path("moved.safetensors"), fx_path("binary.safetensors")), 0);
    assert_true(ok && !r.has_trivial && isnan(r.trivial.auroc.value) && isfinite(r.model.auroc.value));
    assert_non_null(strstr(fx_warnings, "baseline"));
}

/* A plain set: CIFAR records of noise, so only the counts can be right or wrong. */
static void test_plain_set(void **state)
{
    (void)state;
    enum { RECORDS = 60 };
    struct err e = {0};
    struct imageset set = {0};
    struct train_config c;
    struct train_report tr;
    static struct evaluate_report r;
    static uint8_t record[3073];
    char spec[300];
    FILE *f = fopen(fx_path("plain.bin"), "wb");
    assert_non_null(f);
    for (int k = 0; k < RECORDS; k++) {
        record[0] = (uint8_t)(k % 10);
        for (int i = 1; i < 3073; i++)
            record[i] = (uint8_t)(i * (k + 3) * 2654435761u >> 24);
        fwrite(record, 1, sizeof record, f);
    }
    fclose(f);
    snprintf(spec, sizeof spec, "cifar10:%s", fx_path("plain.bin"));
    if (!imageset_open(&set, spec, 0.2, 1, &e) || !train_defaults(&c, "supervised", true, &e))
        fail_msg("%s", e.msg);
    c.preset = "lite";
    c.steps = 1;
    c.budget_s = 0;
    c.batch = 4;
    c.labels_per_class = 2;
    if (!train_run(&set, &c, fx_path("plain.safetensors"), false, NULL, 0, NULL, &tr, &e))
        fail_msg("%s", e.msg);
    size_t n_test = 0;
    for (size_t i = 0; i < set.n; i++)
        n_test += set.split[i] == IMAGESET_TEST;
    struct evaluate_options o = scoring("plain.safetensors", "test");
    o.truth = spec;
    if (!evaluate_run(&o, NULL, &r, &e))
        fail_msg("%s", e.msg);
    assert_int_equal(r.model.n, n_test);
    assert_int_equal(r.n_left_out, 0);
    assert_int_equal(r.cut, 0);
    assert_int_equal(r.model.n_classes, 10);
    o.split = "all";
    assert_true(evaluate_run(&o, NULL, &r, &e));
    assert_int_equal(r.n_left_out, 20);
    assert_int_equal(r.model.n, RECORDS - 20);
    o.cut = 2;
    assert_false(evaluate_run(&o, NULL, &r, &e));
    fx_assert_err(&e, ERR_USAGE, "--cut", NULL);
    o = scoring("binary.safetensors", "test"); /* a model of an event on a plain set, and the reverse */
    o.truth = spec;
    assert_false(evaluate_run(&o, NULL, &r, &e));
    fx_assert_err(&e, ERR_MODEL, "binary.safetensors", NULL);
    o = scoring("plain.safetensors", "test");
    assert_false(evaluate_run(&o, NULL, &r, &e));
    fx_assert_err(&e, ERR_MODEL, "plain.safetensors", "event", NULL);
    imageset_free(&set);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_run_json),     cmocka_unit_test(test_interrupted),
        cmocka_unit_test(test_repeatable),   cmocka_unit_test(test_refused),
        cmocka_unit_test(test_scores),       cmocka_unit_test(test_cut),
        cmocka_unit_test(test_bad_subjects), cmocka_unit_test(test_plain_set),
    };
    return cmocka_run_group_tests(tests, setup, fx_teardown);
}
