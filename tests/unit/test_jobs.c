/* SPDX-License-Identifier: Apache-2.0
 *
 * test_jobs.c - the worker (web/jobs.h): with small shell scripts in the place of the program where a child has to
 * behave in a certain way (crash, talk nonsense, hang, ignore a request), and with the program itself on a small scene
 * from two rasters to a map, a killed server in between. What a model learnt from is read out of its file. */
#include "geo_fixture.h"
#include "models/net/checkpoint.h"
#include "must.h"
#include "web/jobs.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

static struct store *store;
static struct jobs *jobs;
static char script[128];

static bool every_command(const char *name)
{
    return strcmp(name, "report") != 0; /* one that this program does not have */
}

static void open_jobs(const char *root, const char *program)
{
    struct jobs_options o;
    MUST(store = store_open(root, NULL, STORE_SERVE, e));
    jobs_defaults(&o);
    o.store = store;
    o.has_command = every_command;
    o.program = program;
    MUST(jobs = jobs_start(&o, e));
}

static void close_jobs(void)
{
    jobs_stop(jobs);
    store_close(store);
    jobs = NULL;
    store = NULL;
}

static int teardown(void **state)
{
    close_jobs();
    return fx_teardown(state);
}

static void create(const char *aid, const char *inputs)
{
    struct store_assessment a = {.title = (char *)"test", .inputs = (char *)inputs};
    snprintf(a.aid, sizeof a.aid, "%s", aid);
    MUST(store_assessment_create(store, &a, e));
}

static struct jobs_info submit(const char *aid, const char *process, const char *inputs)
{
    struct jobs_info info;
    cJSON *o = cJSON_Parse(inputs);
    MUST(jobs_submit(jobs, aid, process, o, &info, e));
    cJSON_Delete(o);
    return info;
}

static bool is_over(const struct jobs_info *i)
{
    return i->job.status != JOB_ACCEPTED && i->job.status != JOB_RUNNING;
}

/* Waits until the job is over (stage NULL) or in a stage of its progress; frees *i and fills it again. */
static void wait_for(struct jobs_info *i, const char *stage)
{
    char jid[STORE_JOB_ID_SIZE];
    snprintf(jid, sizeof jid, "%s", i->job.jid);
    for (int k = 0; k < 4000; k++) {
        uint64_t seq = jobs_seq(jobs);
        jobs_info_free(i);
        MUST(jobs_get(jobs, jid, i, e));
        if (is_over(i) || (stage && strncmp(i->job.message, stage, strlen(stage)) == 0))
            return;
        jobs_wait(jobs, seq, 100);
    }
    fail_msg("job %s does not end", jid);
}

static void write_script(const char *text)
{
    snprintf(script, sizeof script, "%s", fx_path("program"));
    fx_text("program", text);
    assert_int_equal(chmod(script, 0755), 0);
}

/* ---- with scripts ---- */

static int setup_script(void **state)
{
    if (fx_setup(state))
        return 1;
    write_script("#!/bin/sh\nexit 0\n");
    open_jobs(fx_dir, script);
    create("a", "{}");
    MUST(file_make_dirs(fx_path("a/event"), e));
    fx_text("a/event/event.json", "{}");
    fx_text("a/models.tmp", "");
    MUST(file_make_dirs(fx_path("a/models"), e));
    fx_text("a/models/m-1.safetensors", "");
    return 0;
}

static void test_inputs(void **state)
{
    (void)state;
    static const struct {
        const char *process, *inputs;
        enum err_code code;
    } bad[] = {{"nothing", "{}", ERR_NOT_FOUND},
               {"report", "{}", ERR_NOT_FOUND},
               {"train", "{\"stpes\":3}", ERR_INPUT},
               {"train", "{\"steps\":0}", ERR_INPUT},
               {"train", "{\"steps\":1.5}", ERR_INPUT},
               {"train", "{\"steps\":\"3\"}", ERR_INPUT},
               {"train", "{\"steps\":3,\"budget_s\":4}", ERR_INPUT},
               {"train", "{\"method\":\"fix\"}", ERR_INPUT},
               {"train", "{\"method\":\"fixmatch,vat\"}", ERR_INPUT},
               {"predict", "{\"model\":\"../../../etc/passwd\"}", ERR_INPUT},
               {"predict", "{\"model\":\"m-1.safetensors\"}", ERR_INPUT},
               {"predict", "[]", ERR_INPUT},
               {"estimate", "{}", ERR_INPUT}};
    size_t n;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        cJSON *o = cJSON_Parse(bad[i].inputs);
        assert_non_null(o);
        MUST_FAIL(jobs_submit(jobs, "a", bad[i].process, o, NULL, e), bad[i].code);
        cJSON_Delete(o);
    }
    MUST_FAIL(jobs_submit(jobs, "b", "train", NULL, NULL, e), ERR_NOT_FOUND);
    create("b", "{}");
    MUST_FAIL(jobs_submit(jobs, "b", "train", NULL, NULL, e), ERR_INPUT); /* no event */
    MUST_FAIL(jobs_cancel(jobs, "a.77", NULL, e), ERR_NOT_FOUND);
    const struct jobs_process_info *p = jobs_processes(jobs, &n);
    assert_true(n >= 6);
    for (size_t i = 0; i < n; i++) {
        assert_string_not_equal(p[i].id, "report");
        cJSON *o = cJSON_Parse(p[i].inputs_schema);
        assert_true(cJSON_IsObject(o));
        cJSON_Delete(o);
    }
}

/* What a child finds around it: no descriptor but three and the lock, its folder, a lower priority, the drivers. */
static void test_surroundings(void **state)
{
    (void)state;
    write_script(
        "#!/bin/sh\nls /proc/$$/fd > ../fds\nfds=$(grep -v '^1[01]$' ../fds | tr '\\n' ' ')\n" /* 10, 11: the shell's */
        "printf "
        "'{\"fds\":\"%s\",\"cwd\":\"%s\",\"nice\":%s,\"drivers\":\"%s\",\"words\":\"%s\",\"group\":%s}' "
        "\"$fds\" "
        "\"$PWD\" \"$(nice)\" \"$AFTERMAP_DRIVERS\" \"$*\" \"$(($(cut -d' ' -f5 /proc/$$/stat) == $$))\"\n");
    int null = open("/dev/null", O_RDONLY),
        leak = fcntl(null, F_DUPFD, 50); /* without O_CLOEXEC, on purpose */
    struct jobs_info i = submit("a", "predict", "{\"model\":\"m-1\",\"tta\":\"1\"}");
    wait_for(&i, NULL);
    close(null);
    close(leak);
    if (i.job.status != JOB_SUCCESSFUL)
        fail_msg("%s", i.job.message);
    assert_int_equal(i.job.progress, 100);
    cJSON *o = cJSON_Parse(i.job.result);
    const char *fds = cJSON_GetStringValue(cJSON_GetObjectItem(o, "fds"));
    const char *words = cJSON_GetStringValue(cJSON_GetObjectItem(o, "words"));
    assert_non_null(fds);
    assert_string_equal(fds, "0 1 2 3 ");
    assert_string_equal(cJSON_GetStringValue(cJSON_GetObjectItem(o, "cwd")), fx_path("a"));
    assert_true(cJSON_GetObjectItem(o, "nice")->valueint >= 10);
    assert_int_equal(cJSON_GetObjectItem(o, "group")->valueint, 1);
    assert_string_equal(cJSON_GetStringValue(cJSON_GetObjectItem(o, "drivers")), "few");
    assert_string_equal(words, "assess event --model=models/m-1.safetensors --output=map --overwrite --tta=1 "
                               "--progress=json --json");
    cJSON_Delete(o);
    jobs_info_free(&i);
}

static void test_ends(void **state)
{
    (void)state;
    static const struct {
        const char *script;
        enum store_job_status status;
        const char *message;
    } end[] = {
        {"kill -SEGV $$\n", JOB_FAILED, "signal 11"},
        {"echo 'aftermap: post.tif: has no coordinate system' >&2\nexit 3\n", JOB_FAILED,
         "post.tif: has no coordinate system"},
        {"exit 1\n", JOB_FAILED, "gave no reason"},
        {"echo 'not json'\n", JOB_SUCCESSFUL, "done"},
        {"head -c 3000000 /dev/zero | tr '\\0' 'x'\nhead -c 100000 /dev/zero | tr '\\0' 'y' >&2\necho "
         "'{\"stage\":7}{{' >&2\n",
         JOB_SUCCESSFUL, "done"},
        {"echo '{\"stage\":\"predict\",\"done\":1e999,\"total\":-1,\"eta_s\":\"x\"}' >&2\nprintf "
         "'{\"a\":1}'\n",
         JOB_SUCCESSFUL, "done"},
    };
    for (size_t k = 0; k < sizeof end / sizeof *end; k++) {
        char text[600];
        snprintf(text, sizeof text, "#!/bin/sh\n%s", end[k].script);
        write_script(text);
        struct jobs_info i = submit("a", "predict", "{}");
        wait_for(&i, NULL);
        if (i.job.status != end[k].status || !strstr(i.job.message, end[k].message))
            fail_msg("script %zu: %s, '%s'", k, store_job_status_name(i.job.status), i.job.message);
        cJSON *o = cJSON_Parse(i.job.result);
        assert_true(end[k].status == JOB_FAILED || cJSON_IsObject(o));
        cJSON_Delete(o);
        jobs_info_free(&i);
    }
}

static void test_progress_and_cancel(void **state)
{
    (void)state;
    struct jobs_list l;
    write_script(
        "#!/bin/sh\ntrap 'exit 130' INT\n"
        "echo '{\"stage\":\"read\",\"done\":1,\"total\":1,\"eta_s\":0}' >&2\n"
        "echo '{\"stage\":\"predict\",\"done\":50,\"total\":100,\"eta_s\":40,\"note\":\"half\"}' >&2\n"
        "while :; do sleep 0.05; done\n");
    uint64_t before = jobs_seq(jobs);
    struct jobs_info i = submit("a", "predict", "{}");
    wait_for(&i, "predict: half");
    assert_int_equal(i.job.status, JOB_RUNNING);
    assert_int_equal(i.job.progress, 2 + 83 / 2);
    assert_true(i.eta_s == 40);
    assert_true(*i.job.started && !*i.job.finished);

    struct jobs_info waiting = submit("a", "evaluate", "{}");
    assert_int_equal(waiting.job.status, JOB_ACCEPTED);
    assert_int_equal(waiting.queue_position, 1);
    MUST_FAIL(jobs_submit(jobs, "a", "evaluate", NULL, NULL, e), ERR_CONFLICT); /* waits already */
    assert_int_equal(jobs_active(jobs, "a"), 2);
    assert_int_equal(jobs_active(jobs, "elsewhere"), 0);
    MUST(jobs_list(jobs, "a", before, &l, e));
    assert_int_equal(l.n, 2);
    assert_true(l.item[0].seq < l.item[1].seq && l.seq >= l.item[1].seq);
    jobs_list_free(&l);
    jobs_info_free(&waiting);
    MUST(jobs_cancel(jobs, "a.2", &waiting, e));
    assert_int_equal(waiting.job.status, JOB_DISMISSED);
    MUST_FAIL(jobs_cancel(jobs, "a.2", NULL, e), ERR_CONFLICT);
    jobs_info_free(&waiting);

    uint64_t seq = jobs_seq(jobs);
    assert_true(jobs_wait(jobs, seq, 30) == seq); /* nothing changes */
    MUST(jobs_cancel(jobs, i.job.jid, NULL, e));
    wait_for(&i, NULL);
    assert_int_equal(i.job.status, JOB_DISMISSED);
    assert_true(jobs_seq(jobs) > seq);
    jobs_info_free(&i);
    MUST(jobs_list(jobs, NULL, 0, &l, e));
    assert_int_equal(l.n, 2);
    assert_string_equal(l.item[0].job.jid, "a.2"); /* newest first */
    jobs_list_free(&l);
    struct store_jobs rows;
    MUST(store_jobs_read(store, NULL, &rows, e));
    assert_int_equal(rows.n, 2);
    assert_int_equal(rows.item[0].status, JOB_DISMISSED);
    assert_int_equal(rows.item[1].status, JOB_DISMISSED);
    store_jobs_free(&rows);
}

/* What a server that was stopped or went down leaves is dealt with by the next. */
static void test_recovery(void **state)
{
    (void)state;
    write_script("#!/bin/sh\ntrap 'exit 130' INT\nprintf '%s\\n' \"$*\" >> ../seen\n"
                 "echo '{\"stage\":\"train\",\"done\":1,\"total\":2,\"eta_s\":1}' >&2\n"
                 "case \"$*\" in *--resume*) printf '{}'; exit 0;; esac\nwhile :; do sleep 0.05; done\n");
    struct jobs_info i = submit("a", "train", "{\"steps\":7}");
    wait_for(&i, "train");
    struct jobs_info waiting = submit("a", "predict", "{\"model\":\"m-1\"}");
    jobs_info_free(&waiting);
    struct store_job lost;
    MUST(store_job_create(store, "a", "predict", "{}", &lost,
                          e)); /* as if it had been running when all went dark */
    lost.status = JOB_RUNNING;
    MUST(store_job_update(store, &lost, e));
    store_job_free(&lost);
    close_jobs();
    write_script("#!/bin/sh\nprintf '%s\\n' \"$*\" >> ../seen\nprintf '{}'\n");
    open_jobs(fx_dir, script);
    wait_for(&i, NULL);
    assert_int_equal(i.job.status, JOB_SUCCESSFUL);
    jobs_info_free(&i);
    MUST(jobs_get(jobs, "a.3", &i, e));
    assert_int_equal(i.job.status, JOB_FAILED);
    assert_non_null(strstr(i.job.message, "restarted"));
    jobs_info_free(&i);
    MUST(jobs_get(jobs, "a.2", &i, e));
    wait_for(&i, NULL);
    assert_int_equal(i.job.status, JOB_SUCCESSFUL);
    jobs_info_free(&i);
    char *seen = file_read(fx_path("seen"), 10000, NULL, NULL);
    assert_non_null(seen);
    const char *first = strstr(seen, "--overwrite --steps=7"), *again = strstr(seen, "--resume --steps=7"),
               *last = strstr(seen, "assess");
    assert_true(first && again && last && first < again &&
                again < last); /* the broken one before those that wait */
    free(seen);
}

/* A checkpoint that does not fit any more (status 6) is started over, once. */
static void test_starting_over(void **state)
{
    (void)state;
    struct store_job row;
    MUST(store_job_create(store, "a", "train", "{}", &row, e));
    row.status = JOB_RUNNING;
    MUST(store_job_update(store, &row, e));
    store_job_free(&row);
    close_jobs();
    write_script("#!/bin/sh\ncase \"$*\" in *--resume*) exit 6;; esac\nprintf '{\"over\":1}'\n");
    open_jobs(fx_dir, script);
    struct jobs_info i;
    MUST(jobs_get(jobs, "a.1", &i, e));
    wait_for(&i, NULL);
    assert_int_equal(i.job.status, JOB_SUCCESSFUL);
    assert_non_null(strstr(i.job.result, "\"over\":1"));
    jobs_info_free(&i);
}

static struct store_write label(const char *bldg_id, int level, enum store_purpose purpose)
{
    return (struct store_write){.bldg_id = bldg_id,
                                .level = level,
                                .by = "ana",
                                .is_sure = true,
                                .purpose = purpose,
                                .expect = STORE_EXPECT_ANY};
}

static void test_by_itself(void **state)
{
    (void)state;
    write_script("#!/bin/sh\nprintf '{}'\n");
    for (int k = 0; k < 6; k++) {
        char id[16];
        snprintf(id, sizeof id, "B%d", k);
        struct store_write w = label(id, k < 5 ? 3 : 0, STORE_TRAIN);
        assert_false(jobs_labels_changed(jobs, "a", 4)); /* too few, then only one side of the cut */
        MUST(store_label_write(store, "a", &w, e));
    }
    assert_true(jobs_labels_changed(jobs, "a", 4));
    struct jobs_info i;
    MUST(jobs_get(jobs, "a.1", &i, e));
    wait_for(&i, NULL);
    assert_int_equal(i.job.status, JOB_SUCCESSFUL);
    cJSON *o = cJSON_Parse(i.job.result);
    assert_int_equal(cJSON_GetObjectItem(o, "labels_seq")->valueint, 6);
    assert_int_equal(cJSON_GetObjectItem(o, "n_labels")->valueint, 6);
    cJSON_Delete(o);
    jobs_info_free(&i);
    assert_false(jobs_labels_changed(jobs, "a", 4)); /* it saw them all */
    struct store_write w[] = {label("V1", 3, STORE_VALIDATE), label("V2", 3, STORE_VALIDATE),
                              label("V3", 0, STORE_VALIDATE), label("V4", 0, STORE_VALIDATE),
                              label("B6", 0, STORE_TRAIN)};
    MUST(store_labels_write(store, "a", w, 5, e));
    assert_false(jobs_labels_changed(jobs, "a", 4)); /* one of them is for training */
}

/* ---- with the program ---- */

static double before_event(int band, double x, double y)
{
    return 60 + 20 * band + 30 * sin(x * 0.9) * sin(y * 0.7);
}

/* The western half of the ground is rubble. */
static double after_event(int band, double x, double y)
{
    return before_event(band, x, y) + (x < east0 + 200 ? 70 * sin(x * 3.1) * cos(y * 2.7) + 40 : 0);
}

static const char *program(void)
{
    const char *path = getenv("TEST_PROGRAM");
    return path && access(path, X_OK) == 0 ? path : NULL;
}

static int setup_scene(void **state)
{
    static struct fx_features f;
    if (fx_setup(state) || mkdir(fx_path("scenes"), 0755) != 0)
        return 1;
    for (int d = 0; d < 2; d++) {
        struct fx_image im = fx_utm(d ? "scenes/post.tif" : "scenes/pre.tif", 400, 400, 1, 0, 0);
        im.type = GDT_Byte;
        im.value = d ? after_event : before_event;
        fx_write(im);
    }
    fx_begin(&f);
    for (int k = 0; k < 400; k++) {
        char id[40];
        snprintf(id, sizeof id, "\"id\":\"B%03d\"", k);
        fx_building(&f, id, 15 + 19.5 * (k % 20), 15 + 19.5 * (k / 20), 8);
    }
    fx_end(&f, "scenes/footprints.geojson");
    return 0;
}

static const char scene_inputs[] =
    "{\"pre\":[\"scenes/pre.tif\"],\"post\":[\"scenes/post.tif\"],\"footprints\":"
    "\"scenes/footprints.geojson\",\"gsd_m\":1,\"size_m\":16}";

static void import_scene(void)
{
    create("town", scene_inputs);
    struct jobs_info i = submit("town", "import", "{}");
    wait_for(&i, NULL);
    if (i.job.status != JOB_SUCCESSFUL)
        fail_msg("import: %s", i.job.message);
    jobs_info_free(&i);
}

/* Labels of both classes in the training blocks; every fourth one is drawn for validation. */
static size_t label_scene(void)
{
    struct event *ev;
    size_t n = 0, n_train = 0;
    MUST(ev = event_open(fx_path("town/event"), e));
    for (size_t k = 0; k < ev->n && n < 40; k++) {
        const struct event_building *b = &ev->building[k];
        if (b->page < 0 || b->split != IMAGESET_TRAIN || k % 3)
            continue;
        struct store_write w = label(b->bldg_id, b->x_m < east0 + 200 ? 3 : 0, STORE_TRAIN);
        MUST(store_label_write(store, "town", &w, e)); /* labelled for training first ... */
        if (n++ % 4 == 0) {
            struct store_drawn d = {.bldg_id = (char *)b->bldg_id, .draw = (int64_t)n, .seed = 1};
            MUST(store_sample_add(store, "town", &d, 1, e)); /* ... and then drawn */
            w.purpose =
                n % 8 == 1 ? STORE_VALIDATE : STORE_TRAIN; /* asked for training, the store knows better */
            w.note = "blind";
            MUST(store_label_write(store, "town", &w, e));
            assert_int_equal(w.stored, STORE_VALIDATE);
        } else {
            n_train++;
        }
    }
    event_close(ev);
    assert_true(n_train > 12);
    return n_train;
}

/* state.labeled_ids of a model: all are buildings with a training label, none was drawn. */
static void check_model(const char *path, size_t n_train)
{
    struct event *ev;
    struct store_labels train, validate;
    struct checkpoint *file;
    MUST(ev = event_open(fx_path("town/event"), e));
    MUST(store_labels_read(store, "town", STORE_TRAIN, NULL, NULL, &train, e));
    MUST(store_labels_read(store, "town", STORE_VALIDATE, NULL, NULL, &validate, e));
    MUST(file = checkpoint_open(path, e));
    const struct checkpoint_tensor *ids = checkpoint_find(file, "state.labeled_ids");
    assert_non_null(ids);
    assert_int_equal(train.n, n_train);
    assert_true(validate.n > 4);
    size_t n = (size_t)ids->dims[0];
    assert_int_equal(n, n_train);
    for (size_t i = 0; i < n; i++) {
        int64_t fid;
        memcpy(&fid, (const char *)ids->data + i * sizeof fid, sizeof fid);
        const char *bldg_id = ev->building[fid - 1].bldg_id;
        bool found = false;
        for (size_t k = 0; k < train.n; k++)
            found = found || strcmp(train.item[k].bldg_id, bldg_id) == 0;
        for (size_t k = 0; k < validate.n; k++)
            assert_string_not_equal(validate.item[k].bldg_id, bldg_id);
        assert_true(found);
    }
    checkpoint_close(file);
    store_labels_free(&train);
    store_labels_free(&validate);
    event_close(ev);
}

static void test_scene(void **state)
{
    (void)state;
    if (!program())
        skip();
    open_jobs(fx_dir, program());
    import_scene();
    size_t n_train = label_scene();
    struct jobs_info i = submit("town", "train", "{\"steps\":6,\"preset\":\"lite3\",\"batch\":4}");
    wait_for(&i, NULL);
    if (i.job.status != JOB_SUCCESSFUL)
        fail_msg("train: %s", i.job.message);
    jobs_info_free(&i);
    check_model(fx_path("town/models/m-2.safetensors"), n_train);
    static const char *const later[] = {"predict", "evaluate"};
    for (size_t k = 0; k < 2; k++) {
        i = submit("town", later[k], "{}");
        wait_for(&i, NULL);
        if (i.job.status != JOB_SUCCESSFUL)
            fail_msg("%s: %s", later[k], i.job.message);
        cJSON *o = cJSON_Parse(i.job.result);
        assert_true(cJSON_GetArraySize(o) > 3);
        cJSON_Delete(o);
        jobs_info_free(&i);
    }
    assert_true(file_exists(fx_path("town/map/run.json")));

    /* what is no image, and what lies elsewhere, is not read */
    fx_text("scenes/x.tif",
            "<VRTDataset rasterXSize=\"400\" rasterYSize=\"400\"><VRTRasterBand dataType=\"Byte\" band=\"1\">"
            "<SimpleSource><SourceFilename>/etc/hostname</SourceFilename></SimpleSource></VRTRasterBand></"
            "VRTDataset>");
    static const char *const bad[] = {"scenes/x.tif", "/etc/hostname", "/vsizip/scenes/x.zip",
                                      "../../etc/hostname"};
    for (size_t k = 0; k < 4; k++) {
        char aid[8], inputs[300];
        snprintf(aid, sizeof aid, "bad%zu", k);
        snprintf(
            inputs, sizeof inputs,
            "{\"pre\":[\"%s\"],\"post\":[\"scenes/post.tif\"],\"footprints\":\"scenes/footprints.geojson\"}",
            bad[k]);
        create(aid, inputs);
        i = submit(aid, "import", "{}");
        wait_for(&i, NULL);
        assert_int_equal(i.job.status, JOB_FAILED);
        assert_true(strlen(i.job.message) > 10);
        jobs_info_free(&i);
    }
}

/* A server of its own process, to be killed. */
static int serve_until_killed(const char *root, const char *binary)
{
    geo_init(false);
    open_jobs(root, binary);
    struct jobs_info i = submit("town", "train", "{\"steps\":250,\"preset\":\"lite3\",\"batch\":4}");
    for (;;) {
        uint64_t seq = jobs_seq(jobs);
        jobs_info_free(&i);
        MUST(jobs_get(jobs, "town.2", &i, e));
        if (is_over(&i))
            return 1;
        dprintf(1, "%d\n", i.job.progress);
        jobs_wait(jobs, seq, 1000);
    }
}

static void test_killed_server(void **state)
{
    (void)state;
    if (!program())
        skip();
    open_jobs(fx_dir, program());
    import_scene();
    size_t n_train = label_scene();
    close_jobs();

    int out[2], status, reached = 0;
    assert_int_equal(pipe(out), 0);
    pid_t pid = fork();
    if (pid == 0) {
        dup2(out[1], 1);
        close(out[0]);
        execl("/proc/self/exe", "test_jobs", "--serve", fx_dir, program(), (char *)NULL);
        _exit(127);
    }
    close(out[1]);
    FILE *in = fdopen(out[0], "r");
    for (char line[32]; fgets(line, sizeof line, in);)
        if ((reached = (int)strtol(line, NULL, 10)) >= 15)
            kill(pid, SIGKILL);
    fclose(in);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status) && reached >= 15);

    open_jobs(fx_dir, program());
    struct jobs_info i;
    MUST(jobs_get(jobs, "town.2", &i, e));
    assert_true(i.job.status == JOB_ACCEPTED || i.job.status == JOB_RUNNING);
    wait_for(&i, "train");
    assert_true(i.job.progress >= 10); /* it goes on, from the checkpoint that the dying child wrote */
    wait_for(&i, NULL);
    if (i.job.status != JOB_SUCCESSFUL)
        fail_msg("resumed: %s", i.job.message);
    jobs_info_free(&i);
    check_model(fx_path("town/models/m-2.safetensors"), n_train);
}

int main(int argc, char **argv)
{
    if (argc == 4 && strcmp(argv[1], "--serve") == 0)
        return serve_until_killed(argv[2], argv[3]);
#define TEST(test) cmocka_unit_test_setup_teardown(test, setup_script, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_inputs),
        TEST(test_surroundings),
        TEST(test_ends),
        TEST(test_progress_and_cancel),
        TEST(test_recovery),
        TEST(test_starting_over),
        TEST(test_by_itself),
        cmocka_unit_test_setup_teardown(test_scene, setup_scene, teardown),
        cmocka_unit_test_setup_teardown(test_killed_server, setup_scene, teardown)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
