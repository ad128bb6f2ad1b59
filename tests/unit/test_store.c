/* SPDX-License-Identifier: Apache-2.0
 *
 * test_store.c - the store (geo/store.h) against its promises, on GeoPackages and, where PostgreSQL is installed, on
 * a database that this test starts for itself. What was written is looked at from outside as well: with SQLite's own
 * library through GDAL's SQLite driver, never with the code under test. Killed writers are children of this program,
 * started with an argument. */
#include "geo/store.h"
#include "models/base/file.h"

#include <cpl_string.h>
#include <cpl_vsi.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/unit/must.h"

static char root[64], database[160]; /* database: empty for GeoPackages */
static struct store *store;

static void open_store(void)
{
    MUST(store = store_open(root, *database ? database : NULL, STORE_SERVE, e));
}

static int make_root(void **state)
{
    (void)state;
    snprintf(root, sizeof root, "/tmp/aftermap-store-XXXXXX");
    return mkdtemp(root) ? 0 : 1;
}

static int setup(void **state)
{
    if (make_root(state))
        return 1;
    open_store();
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    store_close(store);
    store = NULL;
    return VSIRmdirRecursive(root);
}

static void create(const char *aid)
{
    struct store_assessment a = {.title = (char *)"Joplin's tornado",
                                 .event_type = (char *)"wind",
                                 .event_date = (char *)"2011-05-22",
                                 .inputs = (char *)"{\"pre\":[\"a.tif\"]}"};
    snprintf(a.aid, sizeof a.aid, "%s", aid);
    MUST(store_assessment_create(store, &a, e));
}

static struct store_write label(const char *bldg_id, int level, const char *by, int64_t expect)
{
    return (struct store_write){.bldg_id = bldg_id,
                                .level = level,
                                .reason = level < 0 ? "cloud" : NULL,
                                .by = by,
                                .is_sure = true,
                                .expect = expect};
}

static int64_t put(const char *aid, struct store_write w)
{
    MUST(store_label_write(store, aid, &w, e));
    return w.seq;
}

/* What SQLite says about a file, read by itself. */
static int64_t look(const char *aid, const char *sql)
{
    static const char *const drivers[] = {"GPKG", NULL};
    char path[256];
    snprintf(path, sizeof path, "%s/%s/store.gpkg", root, aid);
    GDALDatasetH ds = GDALOpenEx(path, GDAL_OF_VECTOR | GDAL_OF_READONLY, drivers, NULL, NULL);
    assert_non_null(ds);
    OGRLayerH rows = GDALDatasetExecuteSQL(ds, sql, NULL, NULL);
    assert_non_null(rows);
    OGRFeatureH row = OGR_L_GetNextFeature(rows);
    int64_t value = row ? OGR_F_GetFieldAsInteger64(row, 0) : -999;
    OGR_F_Destroy(row);
    GDALDatasetReleaseResultSet(ds, rows);
    GDALClose(ds);
    return value;
}

/* ---- assessments ---- */

static void test_assessment(void **state)
{
    (void)state;
    struct store_assessment a, edit = {.title = (char *)"It's \"another\" \\ one; DROP TABLE labels --"};
    char(*ids)[STORE_AID_MAX + 1];
    char path[256];
    size_t n;
    int64_t version = 0;
    create("joplin-2011");
    create("b");
    MUST_FAIL(store_assessment_create(store, &(struct store_assessment){.aid = "b"}, e), ERR_CONFLICT);
    MUST_FAIL(store_assessment_create(store, &(struct store_assessment){.aid = "../b"}, e), ERR_INPUT);
    MUST_FAIL(store_assessment_create(store, &(struct store_assessment){.aid = "B"}, e), ERR_INPUT);
    MUST_FAIL(
        store_assessment_create(store, &(struct store_assessment){.aid = "c", .title = (char *)"\xff"}, e),
        ERR_INPUT);
    MUST(store_assessment_get(store, "joplin-2011", &a, e));
    assert_string_equal(a.title, "Joplin's tornado");
    assert_string_equal(a.event_date, "2011-05-22");
    assert_string_equal(a.scale, "jds");
    assert_string_equal(a.inputs, "{\"pre\":[\"a.tif\"]}");
    assert_int_equal(a.cut, 2);
    assert_int_equal(a.version, 1);
    assert_int_equal(a.seq, 0);
    assert_int_equal(strlen(a.created), STORE_TIME_SIZE - 1);
    store_assessment_free(&a);
    MUST_FAIL(store_assessment_edit(store, "joplin-2011", &edit, 2, NULL, e), ERR_CONFLICT);
    MUST(store_assessment_edit(store, "joplin-2011", &edit, 1, &version, e));
    assert_int_equal(version, 2);
    MUST_FAIL(store_assessment_edit(store, "joplin-2011", &edit, 1, NULL, e), ERR_CONFLICT);
    MUST(store_assessment_get(store, "joplin-2011", &a, e));
    assert_string_equal(a.title, edit.title);
    assert_string_equal(a.event_type, "wind");
    store_assessment_free(&a);
    MUST(store_assessment_list(store, &ids, &n, e));
    assert_int_equal(n, 2);
    assert_string_equal(ids[0], "b");
    assert_string_equal(ids[1], "joplin-2011");
    free(ids);
    MUST_FAIL(store_assessment_get(store, "nowhere", &a, e), ERR_NOT_FOUND);
    MUST_FAIL(store_assessment_get(store, "../etc", &a, e), ERR_NOT_FOUND);
    MUST_FAIL(store_assessment_remove(store, "b", 9, e), ERR_CONFLICT);
    MUST(store_assessment_remove(store, "b", 1, e));
    MUST_FAIL(store_assessment_get(store, "b", &a, e), ERR_NOT_FOUND);
    snprintf(path, sizeof path, "%s/b", root);
    assert_false(file_exists(path));
    create("b"); /* the name is free again, and nothing of the old one shows */
    MUST(store_assessment_get(store, "b", &a, e));
    assert_int_equal(a.version, 1);
    store_assessment_free(&a);
    MUST(store_ping(store, e));
}

static void test_one_server(void **state)
{
    (void)state;
    MUST_FAIL(store_open(root, NULL, STORE_SERVE, e), ERR_SERVE);
    if (!*database)
        return;
    char other[64] = "/tmp/aftermap-store-XXXXXX"; /* another folder, the same database */
    assert_non_null(mkdtemp(other));
    MUST_FAIL(store_open(other, database, STORE_SERVE, e), ERR_SERVE);
    VSIRmdirRecursive(other);
}

/* ---- labels ---- */

static void test_history(void **state)
{
    (void)state;
    struct store_labels l;
    struct store_counts c;
    create("h");
    assert_int_equal(put("h", label("B1", 3, "ana", 0)), 1);
    assert_int_equal(put("h", label("B'2", 0, "ana", 0)), 2);
    assert_int_equal(put("h", label("B1", -1, "ben", 1)), 3);
    struct store_write w = {.bldg_id = "B'2", .is_clear = true, .by = "ben", .expect = 2};
    assert_int_equal(put("h", w), 4);
    struct store_write shifted = label("\xc3\xa9t\xc3\xa9 3", 1, "ana", STORE_EXPECT_NONE);
    shifted.has_shift = true;
    shifted.shift_x = 0.1;
    shifted.shift_y = -2.7;
    shifted.note = "roof; \"half\" gone,\nsee 'post'";
    assert_int_equal(put("h", shifted), 5);

    MUST(store_labels_read(store, "h", STORE_ANY_PURPOSE, NULL, NULL, &l, e));
    assert_int_equal(l.n, 2);
    assert_int_equal(l.seq, 5);
    assert_string_equal(l.item[0].bldg_id, "B1");
    assert_int_equal(l.item[0].level, -1);
    assert_string_equal(l.item[0].reason, "cloud");
    assert_string_equal(l.item[0].by, "ben");
    assert_int_equal(l.item[0].previous, 1);
    assert_string_equal(l.item[1].bldg_id, "\xc3\xa9t\xc3\xa9 3");
    assert_true(l.item[1].has_shift && l.item[1].shift_x == 0.1 && l.item[1].shift_y == -2.7);
    assert_string_equal(l.item[1].note, shifted.note);
    store_labels_free(&l);

    MUST(store_labels_history(store, "h", 0, NULL, 0, &l, e));
    assert_int_equal(l.n, 5);
    for (size_t i = 0; i < 5; i++)
        assert_int_equal(l.item[i].seq, i + 1);
    assert_int_equal(l.item[0].level, 3);
    assert_true(l.item[3].is_clear);
    assert_int_equal(l.item[3].previous, 2);
    store_labels_free(&l);
    MUST(store_labels_history(store, "h", 1, "B1", 1, &l, e));
    assert_int_equal(l.n, 1);
    assert_int_equal(l.item[0].seq, 3);
    store_labels_free(&l);
    MUST(store_labels_read(store, "h", STORE_ANY_PURPOSE, NULL, "ana", &l, e));
    assert_int_equal(l.n, 1);
    store_labels_free(&l);

    MUST(store_labels_count(store, "h", &c, e));
    assert_int_equal(c.n_train, 2);
    assert_int_equal(c.n[STORE_TRAIN][0], 1);
    assert_int_equal(c.n[STORE_TRAIN][2], 1);
    assert_int_equal(c.n_validate, 0);
    if (!*database)
        assert_int_equal(look("h", "SELECT COUNT(*) FROM labels"), 5);
}

static void test_conflict(void **state)
{
    (void)state;
    create("c");
    struct store_write w = label("B1", 3, "ana", STORE_EXPECT_NONE);
    MUST(store_label_write(store, "c", &w, e));
    assert_int_equal(w.outcome, STORE_CREATED);
    MUST(store_label_write(store, "c", &w, e)); /* said twice: a lost answer */
    assert_int_equal(w.outcome, STORE_UNCHANGED);
    assert_int_equal(w.seq, 1);
    w.level = 2;
    MUST_FAIL(store_label_write(store, "c", &w, e), ERR_CONFLICT);
    assert_int_equal(w.seq, 1);
    w.expect = 1;
    MUST(store_label_write(store, "c", &w, e));
    assert_int_equal(w.outcome, STORE_CHANGED);
    assert_int_equal(w.seq, 2);
    w.level = 0;
    MUST_FAIL(store_label_write(store, "c", &w, e), ERR_CONFLICT); /* saw row 1, row 2 is current */
    struct store_write clear = {.bldg_id = "B1", .is_clear = true, .expect = 1};
    MUST_FAIL(store_label_write(store, "c", &clear, e), ERR_CONFLICT);
    clear.expect = 2;
    MUST(store_label_write(store, "c", &clear, e));
    MUST_FAIL(store_label_write(store, "c", &clear, e), ERR_NOT_FOUND);
    w.expect = 3; /* the row of the clearing is no label that could have been seen */
    MUST_FAIL(store_label_write(store, "c", &w, e), ERR_CONFLICT);
    w.expect = STORE_EXPECT_NONE;
    MUST(store_label_write(store, "c", &w, e));
    assert_int_equal(w.seq, 4);

    struct store_write rows[] = {label("B1", 1, "ben", STORE_EXPECT_NOT_OTHERS),
                                 label("B2", 1, "ben", STORE_EXPECT_NOT_OTHERS),
                                 label("B1", 0, "ana", STORE_EXPECT_NOT_OTHERS)};
    rows[2].level = 1;
    MUST(store_labels_write(store, "c", rows, 3, e));
    assert_int_equal(rows[0].outcome, STORE_CONFLICTED);
    assert_int_equal(rows[1].outcome, STORE_CREATED);
    assert_int_equal(rows[2].outcome, STORE_CHANGED);
    assert_int_equal(rows[2].seq, 6);

    struct store_write bad[] = {label("B3", 1, "ben", 0), label("B4", 7, "ben", 0)};
    MUST_FAIL(store_labels_write(store, "c", bad, 2, e), ERR_INPUT);
    bad[1] = label("B4", -1, "ben", 0);
    bad[1].reason = "because";
    MUST_FAIL(store_labels_write(store, "c", bad, 2, e), ERR_INPUT);
    bad[1] = label("B4", 1, "ben", 0);
    bad[1].has_shift = true;
    bad[1].shift_x = strtod("nan", NULL);
    MUST_FAIL(store_labels_write(store, "c", bad, 2, e), ERR_INPUT);
    struct store_labels l;
    MUST(store_labels_read(store, "c", STORE_ANY_PURPOSE, "B3", NULL, &l, e));
    assert_int_equal(l.n, 0);
    store_labels_free(&l);
    MUST_FAIL(store_label_write(store, "nowhere", &w, e), ERR_NOT_FOUND);
}

/* Many people at one building: of all who saw the same row exactly one gets through, and nothing is lost. */
enum { PEOPLE = 8, ROUNDS = 12 };
static int n_won[PEOPLE];

static void *person(void *arg)
{
    int me = (int)(intptr_t)arg;
    char name[16];
    snprintf(name, sizeof name, "p%d", me);
    for (int k = 0; k < ROUNDS; k++) {
        struct store_labels l;
        struct err e = {0};
        if (!store_labels_read(store, "p", STORE_ANY_PURPOSE, "B1", NULL, &l, &e))
            return NULL;
        struct store_write w = label("B1", k % 4, name, l.n ? l.item[0].seq : 0);
        w.note = k % 2 ? "odd" : "even";
        store_labels_free(&l);
        if (store_label_write(store, "p", &w, &e) && w.outcome != STORE_UNCHANGED)
            n_won[me]++;
    }
    return NULL;
}

static void test_people(void **state)
{
    (void)state;
    pthread_t thread[PEOPLE];
    struct store_labels l;
    size_t won = 0;
    memset(n_won, 0, sizeof n_won);
    create("p");
    for (int i = 0; i < PEOPLE; i++)
        assert_int_equal(pthread_create(&thread[i], NULL, person, (void *)(intptr_t)i), 0);
    for (int i = 0; i < PEOPLE; i++)
        pthread_join(thread[i], NULL);
    for (int i = 0; i < PEOPLE; i++)
        won += (size_t)n_won[i];
    MUST(store_labels_history(store, "p", 0, NULL, 0, &l, e));
    assert_int_equal(l.n, won);
    for (size_t i = 0; i < l.n; i++) {
        assert_int_equal(l.item[i].seq, i + 1);
        assert_int_equal(l.item[i].previous, i); /* each saw the one before: none was overwritten unseen */
    }
    store_labels_free(&l);
}

/* Promise 4 of store.h. */
static void test_validation(void **state)
{
    (void)state;
    struct store_drawn drawn[] = {{.bldg_id = (char *)"V1", .draw = 1, .seed = 7},
                                  {.bldg_id = (char *)"V2", .draw = 2, .seed = 7}};
    struct store_labels l;
    struct store_sample s;
    struct store_counts c;
    create("v");
    put("v", label("T1", 3, "ana", 0));
    put("v", label("V1", 3, "ana", 0)); /* before the draw */
    MUST(store_sample_add(store, "v", drawn, 2, e));
    MUST(store_labels_read(store, "v", STORE_TRAIN, NULL, NULL, &l, e));
    assert_int_equal(l.n, 1);
    assert_string_equal(l.item[0].bldg_id, "T1");
    store_labels_free(&l);

    struct store_write w = label("V2", 2, "ana", 0); /* asks for training */
    MUST(store_label_write(store, "v", &w, e));
    assert_int_equal(w.stored, STORE_VALIDATE);
    w = label("X3", 1, "ana",
              0); /* never drawn, graded for validation, taken back, then given for training */
    w.purpose = STORE_VALIDATE;
    MUST(store_label_write(store, "v", &w, e));
    struct store_write clear = {.bldg_id = "X3", .is_clear = true, .expect = w.seq};
    MUST(store_label_write(store, "v", &clear, e));
    w.purpose = STORE_TRAIN;
    w.expect = 0;
    MUST(store_label_write(store, "v", &w, e));
    assert_int_equal(w.stored, STORE_VALIDATE);

    MUST(store_labels_read(store, "v", STORE_TRAIN, NULL, NULL, &l, e));
    assert_int_equal(l.n, 1);
    store_labels_free(&l);
    MUST(store_labels_read(store, "v", STORE_VALIDATE, NULL, NULL, &l, e));
    assert_int_equal(l.n, 2);
    assert_string_equal(l.item[0].bldg_id, "V2");
    assert_int_equal(l.item[0].draw, 2); /* its place in the draw, though the label did not say it */
    assert_string_equal(l.item[1].bldg_id, "X3");
    store_labels_free(&l);
    MUST(store_labels_count(store, "v", &c, e));
    assert_int_equal(c.n_train, 1);
    assert_int_equal(c.n_validate, 2);

    drawn[0].draw = 9; /* the first row stays */
    struct store_drawn late = {.bldg_id = (char *)"X3", .draw = 5, .seed = 7};
    MUST(store_sample_add(store, "v", drawn, 1, e));
    MUST(store_sample_add(store, "v", &late, 1, e));
    MUST(store_sample_read(store, "v", &s, e));
    assert_int_equal(s.n, 3);
    assert_string_equal(s.item[0].bldg_id, "V1");
    assert_int_equal(s.item[0].draw, 1);
    assert_int_equal(s.item[2].draw, 5);
    assert_int_equal(s.item[2].seed, 7);
    store_sample_free(&s);
}

static void test_handing_on(void **state)
{
    (void)state;
    struct store_labels l;
    struct event_building b[] = {
        {.bldg_id = "0007", .level = 2}, {.bldg_id = "C", .level = 1}, {.bldg_id = "D", .level = 3}};
    struct event ev = {.building = b, .n = 3};
    char path[128];
    size_t n;
    create("o");
    put("o", label("0007", 3, "an,a \"x\"", 0));
    put("o", label("C", -1, "ana", 0));
    put("o", label("not there", 1, "ana", 0));
    MUST(store_labels_read(store, "o", STORE_TRAIN, NULL, NULL, &l, e));
    MUST(store_labels_overlay(&l, &ev, &n, e));
    assert_int_equal(n, 1);
    assert_int_equal(b[0].level, 3);
    assert_int_equal(b[1].level, -1);
    assert_int_equal(b[2].level, -1);
    snprintf(path, sizeof path, "%s/labels.csv", root);
    MUST(store_labels_csv(&l, path, e));
    store_labels_free(&l);
    GDALDatasetH ds = GDALOpenEx(path, GDAL_OF_VECTOR, NULL, NULL, NULL);
    OGRLayerH layer = GDALDatasetGetLayer(ds, 0);
    assert_int_equal(OGR_L_GetFeatureCount(layer, TRUE), 3);
    OGRFeatureH row = OGR_L_GetNextFeature(layer);
    assert_string_equal(OGR_F_GetFieldAsString(row, 0), "0007");
    assert_string_equal(OGR_F_GetFieldAsString(row, 1), "destroyed");
    assert_string_equal(OGR_F_GetFieldAsString(row, OGR_F_GetFieldIndex(row, "by")), "an,a \"x\"");
    OGR_F_Destroy(row);
    GDALClose(ds);
}

/* ---- jobs ---- */

static void test_jobs(void **state)
{
    (void)state;
    struct store_job a, b, gone;
    struct store_jobs l;
    create("j");
    create("k");
    MUST(store_job_create(store, "j", "train", "{\"budget_s\":60}", &a, e));
    MUST(store_job_create(store, "k", "predict", "{}", &b, e));
    assert_string_equal(a.jid, "j.1");
    assert_string_equal(b.jid, "k.1");
    MUST_FAIL(store_job_create(store, "nowhere", "train", "{}", &gone, e), ERR_NOT_FOUND);
    MUST_FAIL(store_assessment_remove(store, "j", 0, e), ERR_CONFLICT);
    a.status = JOB_FAILED;
    a.progress = 40;
    free(a.message);
    a.message = strdup("it's \"gone\"");
    store_time_now(a.finished);
    MUST(store_job_update(store, &a, e));
    store_job_free(&a);
    store_job_free(&b);
    store_close(store);
    open_store();
    MUST(store_jobs_read(store, NULL, &l, e));
    assert_int_equal(l.n, 2);
    assert_string_equal(l.item[0].jid, "j.1");
    assert_int_equal(l.item[0].status, JOB_FAILED);
    assert_int_equal(l.item[0].progress, 40);
    assert_string_equal(l.item[0].message, "it's \"gone\"");
    assert_string_equal(l.item[0].inputs, "{\"budget_s\":60}");
    assert_int_equal(l.item[1].status, JOB_ACCEPTED);
    store_jobs_free(&l);
    MUST(store_assessment_remove(store, "j", 0, e));
}

/* ---- durability ---- */

/* The writer that gets killed: label after label, and each number is told only once the write has returned. */
static int write_burst(const char *folder, const char *spec)
{
    geo_init(false);
    struct err e = {0};
    snprintf(root, sizeof root, "%s", folder);
    if (!(store = store_open(folder, *spec ? spec : NULL, STORE_SERVE, &e)))
        return 1;
    for (int64_t k = 0;; k++) {
        struct store_labels l;
        if (!store_labels_read(store, "d", STORE_ANY_PURPOSE, NULL, NULL, &l, &e))
            return 1;
        int64_t seq = l.seq;
        store_labels_free(&l);
        char id[2][24];
        struct store_write w[2];
        for (int i = 0; i < 2; i++) { /* two rows that belong together */
            snprintf(id[i], sizeof id[i], "B%lld", (long long)seq + i);
            w[i] = label(id[i], (int)((seq + i) % 4), "burst", STORE_EXPECT_ANY);
        }
        if (!store_labels_write(store, "d", w, 2, &e))
            return 1;
        dprintf(1, "%lld\n", (long long)w[1].seq);
    }
}

static void test_killed(void **state)
{
    (void)state;
    int64_t acknowledged = 0;
    create("d");
    store_close(store);
    store = NULL;
    for (int round = 0; round < 6; round++) {
        int out[2];
        assert_int_equal(pipe(out), 0);
        pid_t pid = fork();
        if (pid == 0) {
            dup2(out[1], 1);
            close(out[0]);
            execl("/proc/self/exe", "test_store", "--burst", root, database, (char *)NULL);
            _exit(127);
        }
        close(out[1]);
        FILE *in = fdopen(out[0], "r");
        char line[64];
        int told = 0, until = 5 + 7 * round; /* in the middle of whatever it does then */
        while (fgets(line, sizeof line, in)) {
            acknowledged = strtoll(line, NULL, 10);
            if (++told == until)
                kill(pid, SIGKILL);
        }
        fclose(in);
        int status;
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
        assert_true(told >= until);

        open_store();
        struct store_labels l;
        MUST(store_labels_history(store, "d", 0, NULL, 0, &l, e));
        assert_true((int64_t)l.n >= acknowledged);
        assert_true((int64_t)l.n <= acknowledged + 2); /* at most the one write nobody heard of, whole */
        assert_int_equal(l.n % 2, 0);
        assert_int_equal(l.seq, l.n);
        for (size_t i = 0; i < l.n; i++) {
            char id[24];
            snprintf(id, sizeof id, "B%zu", i);
            assert_string_equal(l.item[i].bldg_id, id);
            assert_int_equal(l.item[i].level, i % 4);
            assert_int_equal(l.item[i].seq, i + 1);
        }
        acknowledged = (int64_t)l.n;
        store_labels_free(&l);
        store_close(store);
        store = NULL;
    }
    if (!*database) {
        assert_int_equal(look("d", "SELECT COUNT(*) FROM labels"), acknowledged);
        char path[128];
        snprintf(path, sizeof path, "%s/d/store.gpkg", root);
        GDALDatasetH ds = GDALOpenEx(path, GDAL_OF_VECTOR | GDAL_OF_READONLY, NULL, NULL, NULL);
        OGRLayerH rows = GDALDatasetExecuteSQL(ds, "PRAGMA integrity_check", NULL, NULL);
        OGRFeatureH row = OGR_L_GetNextFeature(rows);
        assert_string_equal(OGR_F_GetFieldAsString(row, 0), "ok");
        OGR_F_Destroy(row);
        GDALDatasetReleaseResultSet(ds, rows);
        GDALClose(ds);
    }
    open_store();
}

/* ---- PostgreSQL ---- */

static char pg_dir[64];

static const char *pg_bin(void)
{
    static const char *const places[] = {"/usr/lib/postgresql/15/bin", "/usr/lib/postgresql/16/bin",
                                         "/usr/lib/postgresql/17/bin"};
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        char path[128];
        snprintf(path, sizeof path, "%s/initdb", places[i]);
        if (access(path, X_OK) == 0)
            return places[i];
    }
    return NULL;
}

/* A cluster of its own in a temporary folder, reached through a socket in there and nothing else. PostgreSQL refuses
 * to run as root, who becomes nobody for it. */
static int start_database(void **state)
{
    (void)state;
    const char *bin = pg_bin();
    char command[1024];
    const char *as = getuid() ? "" : "setpriv --reuid=65534 --regid=65534 --clear-groups ";
    if (!bin)
        return 0;
    geo_init(false);
    snprintf(pg_dir, sizeof pg_dir, "/tmp/aftermap-pg-XXXXXX");
    if (!mkdtemp(pg_dir) || (getuid() == 0 && chown(pg_dir, 65534, 65534) != 0))
        return 1;
    snprintf(
        command, sizeof command,
        "cd %s && %s%s/initdb -D %s/data -A trust -U aftermap -E UTF8 --locale=C -N >/dev/null 2>&1 && "
        "%s%s/pg_ctl "
        "-D %s/data -w -t 60 -l %s/log -o \"-c listen_addresses='' -k %s -c fsync=on\" start >/dev/null 2>&1",
        pg_dir, as, bin, pg_dir, as, bin, pg_dir, pg_dir, pg_dir);
    if (system(command) != 0) {
        fprintf(stderr, "PostgreSQL does not start here; see %s\n", pg_dir);
        return 1;
    }
    snprintf(database, sizeof database, "postgresql:host=%s user=aftermap dbname=postgres", pg_dir);
    return 0;
}

static int stop_database(void **state)
{
    (void)state;
    char command[512];
    if (!*database)
        return 0;
    *database = '\0';
    snprintf(command, sizeof command, "cd %s && %s%s/pg_ctl -D %s/data -m fast -w stop >/dev/null 2>&1",
             pg_dir, getuid() ? "" : "setpriv --reuid=65534 --regid=65534 --clear-groups ", pg_bin(), pg_dir);
    int status = system(command);
    VSIRmdirRecursive(pg_dir);
    return status;
}

static int setup_database(void **state)
{
    if (!*database)
        return 0;
    char command[512];
    snprintf(command, sizeof command,
             "%s/psql -q -h %s -U aftermap -d postgres -c 'DROP SCHEMA IF EXISTS aftermap CASCADE' "
             ">/dev/null 2>&1",
             pg_bin(), pg_dir);
    return system(command) != 0 || setup(state) ? 1 : 0;
}

static int teardown_database(void **state)
{
    return *database ? teardown(state) : 0;
}

#define ON_DATABASE(test)                                                                                    \
    static void test##_database(void **state)                                                                \
    {                                                                                                        \
        if (!*database)                                                                                      \
            skip();                                                                                          \
        test(state);                                                                                         \
    }
ON_DATABASE(test_assessment)
ON_DATABASE(test_one_server)
ON_DATABASE(test_history)
ON_DATABASE(test_conflict)
ON_DATABASE(test_people)
ON_DATABASE(test_validation)
ON_DATABASE(test_jobs)
ON_DATABASE(test_killed)

int main(int argc, char **argv)
{
    if (argc == 4 && strcmp(argv[1], "--burst") == 0)
        return write_burst(argv[2], argv[3]);
#define TEST(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
    const struct CMUnitTest files[] = {TEST(test_assessment), TEST(test_one_server), TEST(test_history),
                                       TEST(test_conflict),   TEST(test_people),     TEST(test_validation),
                                       TEST(test_handing_on), TEST(test_jobs),       TEST(test_killed)};
#undef TEST
#define TEST(test) cmocka_unit_test_setup_teardown(test##_database, setup_database, teardown_database)
    const struct CMUnitTest tables[] = {TEST(test_assessment), TEST(test_one_server), TEST(test_history),
                                        TEST(test_conflict),   TEST(test_people),     TEST(test_validation),
                                        TEST(test_jobs),       TEST(test_killed)};
    geo_init(false);
    int failed = cmocka_run_group_tests_name("GeoPackage", files, NULL, NULL);
    return failed + cmocka_run_group_tests_name("PostgreSQL", tables, start_database, stop_database);
}
