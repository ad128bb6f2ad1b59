/* SPDX-License-Identifier: Apache-2.0
 * test_align.c - alignment against what is known without it: correlations computed term by term, shifts of
 * analytic images, chips that must show what a formula says, and runs that must change nothing they should
 * not. */
#include "geo/alignment_parts.h"
#include "models/base/rng.h"
#include "tests/unit/geo_fixture.h"

#include <cpl_conv.h>
#include <fcntl.h>
#include <omp.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

static struct err err;

/* Takes the C library's place: the process ends instead of renaming once so many renames are done. */
static int renames_left = -1; /* -1: it just renames */
__attribute__((visibility("default"))) int rename(const char *from, const char *to)
{
    if (renames_left >= 0 && renames_left-- == 0)
        _exit(77);
    return renameat(AT_FDCWD, from, AT_FDCWD, to);
}

/* ---- a texture that is known everywhere: waves of 3 to 11 m in all directions */

enum { N_WAVES = 14 };
static double texture(double x, double y, double phase)
{
    double sum = 0;
    for (int k = 0; k < N_WAVES; k++) {
        double angle = 2.399963 * k, length = 3 + 8.0 * ((k * 5) % N_WAVES) / N_WAVES;
        sum += sin(2 * 3.14159265358979 / length * (cos(angle) * x + sin(angle) * y) + 1.7 * k * k +
                   phase * (k + 1));
    }
    return 128 + 24 * sum;
}

/* ---- correlation and peaks */

/* The definition, term by term in double. */
static double plain_correlation(const float *px, const float *py, const uint8_t *w, int size, const float *qx,
                                const float *qy, int stride, int u, int v)
{
    double pq = 0, pp = 0, qq = 0;
    for (int y = 0; y < size; y++)
        for (int x = 0; x < size; x++) {
            int i = y * size + x, j = (y + v) * stride + x + u;
            if (!w[i])
                continue;
            pq += (double)px[i] * qx[j] + (double)py[i] * qy[j];
            pp += (double)px[i] * px[i] + (double)py[i] * py[i];
            qq += (double)qx[j] * qx[j] + (double)qy[j] * qy[j];
        }
    return pq / sqrt(pp * qq);
}

static void test_correlation_is_its_definition(void **state)
{
    (void)state;
    enum { SIZE = 21, REACH = 5, SIDE = 2 * REACH + 1, STRIDE = SIZE + 2 * REACH + 3 };
    static float px[SIZE * SIZE], py[SIZE * SIZE], q[3][STRIDE * (SIZE + 2 * REACH)],
        sums[2 * SIDE * (SIDE + 8)], surface[SIDE * SIDE];
    static uint8_t w[SIZE * SIZE];
    struct rng r;
    rng_init(&r, 7, RNG_METHOD, 0);
    for (int i = 0; i < SIZE * SIZE; i++) {
        px[i] = (float)rng_normal(&r);
        py[i] = (float)rng_normal(&r);
        w[i] = rng_below(&r, 3) > 0;
    }
    for (size_t i = 0; i < sizeof q[0] / sizeof q[0][0]; i++) {
        q[0][i] = (float)rng_normal(&r);
        q[1][i] = (float)rng_normal(&r);
        q[2][i] = q[0][i] * q[0][i] + q[1][i] * q[1][i];
    }
    assert_true(alignment_correlate(px, py, w, SIZE, q[0], q[1], q[2], STRIDE, REACH, sums, surface));
    for (int v = 0; v < SIDE; v++)
        for (int u = 0; u < SIDE; u++)
            assert_true(fabs(surface[v * SIDE + u] -
                             plain_correlation(px, py, w, SIZE, q[0], q[1], STRIDE, u, v)) < 2e-6);
    memset(w, 0, sizeof w);
    assert_false(alignment_correlate(px, py, w, SIZE, q[0], q[1], q[2], STRIDE, REACH, sums, surface));
    memset(w, 1, sizeof w);
    memset(px, 0, sizeof px);
    memset(py, 0, sizeof py); /* a flat roof says nothing */
    assert_false(alignment_correlate(px, py, w, SIZE, q[0], q[1], q[2], STRIDE, REACH, sums, surface));
}

static void test_peaks(void **state)
{
    (void)state;
    float s[49] = {0};
    /* 0.9 - 0.1 (x - 1.25)^2 - 0.2 (y + 0.5)^2 around the top; another top of 0.5 far from it */
    for (int y = -2; y <= 0; y++)
        for (int x = 0; x <= 2; x++)
            s[(y + 3) * 7 + x + 3] =
                (float)(0.9 - 0.1 * (x - 1.25) * (x - 1.25) - 0.2 * (y + 0.75) * (y + 0.75));
    s[6 * 7 + 0] = 0.5F;
    struct alignment_peak p = alignment_find_peak(s, 7, 3);
    assert_true(fabs(p.x - 1.25) < 1e-5);
    assert_true(fabs(p.y + 0.75) < 1e-5);
    assert_true(fabs(p.margin - (0.9 - 0.1 * 0.0625 - 0.2 * 0.0625 - 0.5)) < 1e-5);
    s[6 * 7 + 0] = 2; /* the highest lies on the rim: nobody knows what is beyond it */
    p = alignment_find_peak(s, 7, 3);
    assert_true(p.margin == 0 && p.x == -3 && p.y == 3);
}

/* Pre and post sampled from one analytic texture, moved by fractions of a pixel. */
static void test_fractions_of_a_pixel(void **state)
{
    (void)state;
    enum { SIZE = 40, REACH = 8, SIDE = 2 * REACH + 1, WIDE = SIZE + 2 * REACH };
    static float grey[WIDE * WIDE], scratch[WIDE * WIDE], px[SIZE * SIZE], py[SIZE * SIZE], q[3][WIDE * WIDE],
        sums[2 * SIDE * (SIDE + 8)], surface[SIDE * SIDE];
    static uint8_t w[SIZE * SIZE], valid[WIDE * WIDE];
    static const double shift[][2] = {{0, 0}, {3, -2}, {0.5, 0.5}, {-1.25, 2.3}, {4.4, 0.15}, {-6.7, -5.55}};
    memset(valid, 1, sizeof valid);
    for (int y = 0; y < SIZE; y++)
        for (int x = 0; x < SIZE; x++) {
            grey[y * SIZE + x] = (float)texture(x * 0.5, y * 0.5, 0);
            w[y * SIZE + x] = x >= 10 && x < 30 && y >= 12 && y < 28;
        }
    alignment_gradient(grey, valid, SIZE, SIZE, px, py, scratch);
    double worst = 0;
    for (size_t k = 0; k < sizeof shift / sizeof *shift; k++) {
        for (int y = 0; y < WIDE; y++)
            for (int x = 0; x < WIDE; x++)
                grey[y * WIDE + x] = (float)(20 + 0.7 * texture((x - REACH - shift[k][0]) * 0.5,
                                                                (y - REACH - shift[k][1]) * 0.5, 0));
        alignment_gradient(grey, valid, WIDE, WIDE, q[0], q[1], scratch);
        for (int i = 0; i < WIDE * WIDE; i++)
            q[2][i] = q[0][i] * q[0][i] + q[1][i] * q[1][i];
        assert_true(alignment_correlate(px, py, w, SIZE, q[0], q[1], q[2], WIDE, REACH, sums, surface));
        struct alignment_peak p = alignment_find_peak(surface, SIDE, 3);
        worst = fmax(worst, fmax(fabs(p.x - shift[k][0]), fabs(p.y - shift[k][1])));
        assert_true(p.margin > 0.2);
    }
    if (worst > 0.1)
        fail_msg("off by %.3f px", worst);
}

static void test_gradients_keep_off_blank_ground(void **state)
{
    (void)state;
    enum { W = 24 };
    float grey[W * W], gx[W * W], gy[W * W], scratch[W * W];
    uint8_t valid[W * W];
    for (int i = 0; i < W * W; i++) {
        valid[i] = i % W < 12;
        grey[i] = valid[i] ? (float)(2 * (i % W) + 3 * (i / W)) : 0;
    }
    alignment_gradient(grey, valid, W, W, gx, gy, scratch);
    for (int i = 0; i < W * W; i++) {
        int x = i % W, y = i / W;
        bool inside = x >= 3 && x < 9 && y >= 3 && y < W - 3;
        assert_float_equal(gx[i], inside ? 2 : 0, 1e-4); /* slopes of the plane, in grey levels a pixel */
        assert_float_equal(gy[i], inside ? 3 : 0, 1e-4);
    }
}

/* ---- whole runs. Houses stand every 22 m; the post image is the texture moved by a field that varies, at
 * another pixel size, darker, and with other ground where houses were swept away. The last house stands alone
 * on changed ground. */

enum { COLUMNS = 8, ROWS = 5, LONE = COLUMNS * ROWS, N = LONE + 2 };
static char pre[256], post[256], footprints[256], town[256];

static void field(double x, double y, double s[2])
{
    s[0] = 0.8 + 0.006 * (x - east0 - 100);
    s[1] = -1.1 + 0.005 * (north0 - y - 60);
}

static void place(int i, double *x, double *y) /* metres east and south of the corner */
{
    *x = i < LONE ? 30.2 + 22 * (i % COLUMNS) : i == LONE ? 345 : -500;
    *y = i < LONE ? 28.4 + 22 * (i / COLUMNS) : 60;
}

static bool is_swept(int i)
{
    return i == 10 || i == 13 || i == 19 || i == 28 || i == LONE;
}

static double pre_value(int band, double x, double y)
{
    (void)band;
    return texture(x - east0, north0 - y, 0);
}

static double post_value(int band, double x, double y)
{
    double s[2], hx, hy;
    (void)band;
    for (int i = 0; i < LONE + 1; i++) {
        place(i, &hx, &hy);
        if (is_swept(i) && fabs(x - east0 - hx) < 11 && fabs(north0 - y - hy) < 11)
            return 30 + 0.6 * texture(x - east0, north0 - y, 2);
    }
    field(x, y, s);
    return 30 + 0.6 * texture(x - s[0] - east0, north0 - (y - s[1]), 0);
}

static int setup(void **state)
{
    if (fx_setup(state) != 0)
        return 1;
    struct fx_features f;
    struct fx_image im = fx_utm("pre.tif", 800, 300, 0.5, 0, 0);
    im.bands = 1;
    im.value = pre_value;
    snprintf(pre, sizeof pre, "%s", fx_write(im));
    im.name = "post.tif";
    im.value = post_value;
    im.w = 1000;
    im.h = 375;
    memcpy(im.gt, (double[]){east0, 0.4, 0, north0, 0, -0.4}, sizeof im.gt);
    snprintf(post, sizeof post, "%s", fx_write(im));
    snprintf(footprints, sizeof footprints, "%s", fx_path("town.geojson"));
    snprintf(town, sizeof town, "%s", fx_path("town"));
    fx_begin(&f);
    for (int i = 0; i < N; i++) {
        char properties[60];
        double x, y;
        place(i, &x, &y);
        snprintf(properties, sizeof properties, "\"id\":\"h%d\",\"damage\":\"%s\"", i,
                 i % 3 ? "none" : "destroyed");
        fx_building(&f, properties, x, y, 11);
    }
    fx_end(&f, "town.geojson");
    return 0;
}

static void make_event(const char *dir, const struct alignment_options *align)
{
    const char *a[1] = {pre}, *b[1] = {post};
    struct tile_options o;
    tile_defaults(&o);
    o.pre = a;
    o.post = b;
    o.n_pre = o.n_post = 1;
    o.footprints = footprints;
    o.label_field = "damage";
    o.bands = "1";
    o.out = dir;
    o.overwrite = true;
    o.align = align;
    if (!tile_run(&o, NULL, NULL, &err))
        fail_msg("%s", err.msg);
}

static struct alignment_options usual(void)
{
    struct alignment_options o;
    alignment_defaults(&o);
    o.smooth_m = 12; /* the lone house has nobody within 2.5 * 4 * 12 m */
    return o;
}

static struct event *must_open(const char *dir)
{
    struct event *ev = event_open(dir, &err);
    if (!ev)
        fail_msg("%s", err.msg);
    return ev;
}

static void must_align(const char *dir, struct alignment_options o, struct alignment_report *r)
{
    if (!alignment_run(dir, &o, NULL, r, NULL, &err))
        fail_msg("%s", err.msg);
}

static void digest_of(const char *dir, char hex[65])
{
    struct event *ev = must_open(dir);
    memcpy(hex, ev->digest, 65);
    event_close(ev);
}

static size_t leftovers(void)
{
    size_t n = 0;
    char **names = VSIReadDirRecursive(fx_dir);
    for (int i = 0; names && names[i]; i++)
        n += strstr(names[i], ".tmp-") != NULL || strstr(names[i], ".old-") != NULL ||
             strstr(names[i], ".next.") != NULL;
    CSLDestroy(names);
    return n;
}

/* Mean distance of the post half of a chip from what the formula shows at the pre place, in grey levels. */
static double post_distance(struct event *ev, const struct event_building *b)
{
    const int size = ev->layout.size, c = imageset_stored_channels(&ev->layout);
    static uint8_t px[64 * 64 * 4];
    double sum = 0, n = 0;
    int x0, y0;
    assert_int_equal(c, 4);
    assert_true(event_read_chips(ev, &b->page, 1, px, &err));
    alignment_corner(ev, (size_t)b->fid - 1, &x0, &y0);
    for (int y = 20; y < 44; y++)
        for (int x = 20; x < 44; x++) {
            double e = ev->grid.geotransform[0] + (x0 + x + 0.5) * ev->grid.gsd_m;
            double north = ev->grid.geotransform[3] - (y0 + y + 0.5) * ev->grid.gsd_m;
            double v = 30 + 0.6 * pre_value(0, e, north);
            double want = 32 + 191 * (v - ev->scale_lo[1][0]) / (ev->scale_hi[1][0] - ev->scale_lo[1][0]);
            sum += fabs(px[(y * size + x) * c + 1] - fmin(fmax(want, 0), 255));
            n++;
            assert_int_equal(px[(y * size + x) * c + 2], 3);
        }
    return sum / n;
}

static void test_a_town(void **state)
{
    (void)state;
    struct alignment_report r;
    make_event(town, NULL);
    struct event *before = must_open(town);
    assert_string_equal(before->building[0].shift_by, "");
    assert_true(isnan(before->building[0].shift_x));
    cJSON *none = alignment_summary(before, 5);
    assert_true(cJSON_IsFalse(cJSON_GetObjectItem(none, "aligned")));
    cJSON_Delete(none);
    static uint8_t chip[2][N][64 * 64 * 4];
    for (int i = 0; i < LONE + 1; i++)
        assert_true(event_read_chips(before, &before->building[i].page, 1, chip[0][i], &err));
    must_align(town, usual(), &r);
    struct event *ev = must_open(town);
    assert_string_not_equal(before->digest, ev->digest);
    assert_int_equal(r.n_chips, LONE + 1);
    assert_int_equal(r.n_skipped, 1);
    assert_int_equal(r.n_measured + r.n_neighbours, LONE);
    double worst = 0, worst_swept = 0;
    for (int i = 0; i < LONE; i++) {
        const struct event_building *b = &ev->building[i], *was = &before->building[i];
        double s[2], length = 0;
        field(b->x_m, b->y_m, s);
        length = hypot(b->shift_x - s[0], b->shift_y - s[1]);
        assert_true(b->page == was->page && b->split == was->split && b->block == was->block &&
                    b->level == was->level && b->fid == was->fid);
        assert_true(b->shift_q >= 0.5 && fabs(b->shift_x * 100 - round(b->shift_x * 100)) < 1e-9);
        if (is_swept(i)) {
            worst_swept = fmax(worst_swept, length);
            assert_string_equal(b->shift_by, "neighbours");
            continue;
        }
        worst = fmax(worst, length);
        assert_string_equal(b->shift_by, "measured");
        assert_true(post_distance(before, was) > 20); /* the dates lay apart ... */
        assert_true(post_distance(ev, b) < 6);        /* ... and do no longer */
        assert_true(event_read_chips(ev, &b->page, 1, chip[1][i], &err));
        for (size_t p = 0; p < 64 * 64 * 4; p += 4) /* pre and footprint are untouched */
            assert_true(chip[0][i][p] == chip[1][i][p] && chip[0][i][p + 3] == chip[1][i][p + 3]);
    }
    if (worst > 0.2 || worst_swept > 0.6) /* metres, of pixels of 0.5 */
        fail_msg("standing houses are off by %.3f m, swept ones by %.3f m", worst, worst_swept);
    const struct event_building *lone = &ev->building[LONE], *outside = &ev->building[LONE + 1];
    assert_string_equal(lone->shift_by, "skipped");
    assert_true(lone->shift_x == 0 && lone->shift_y == 0 && lone->shift_q < 0.5);
    assert_true(event_read_chips(ev, &lone->page, 1, chip[1][LONE], &err));
    assert_memory_equal(chip[0][LONE], chip[1][LONE], sizeof chip[0][LONE]);
    assert_true(*outside->shift_by == '\0' && isnan(outside->shift_q) && outside->page < 0);
    event_close(before);
    event_close(ev);
    assert_int_equal(leftovers(), 0);
}

static void test_summary(void **state)
{
    (void)state;
    struct event *ev = must_open(town);
    cJSON *j = alignment_summary(ev, 3);
    assert_non_null(j);
    assert_int_equal(cJSON_GetObjectItem(j, "skipped")->valueint, 1);
    assert_int_equal(cJSON_GetObjectItem(j, "neighbours")->valueint, 4);
    assert_int_equal(cJSON_GetObjectItem(j, "measured")->valueint, LONE - 4);
    assert_string_equal(cJSON_GetStringValue(cJSON_GetObjectItem(j, "verdict")), "pass");
    const cJSON *bins = cJSON_GetObjectItem(cJSON_GetObjectItem(j, "histogram"), "count"), *bin, *a;
    int sum = 0, of_arrows = 0;
    cJSON_ArrayForEach(bin, bins) sum += bin->valueint;
    assert_int_equal(sum, LONE); /* the skipped one has no length */
    cJSON_ArrayForEach(a, cJSON_GetObjectItem(j, "arrows")) of_arrows +=
        cJSON_GetObjectItem(a, "n")->valueint;
    assert_int_equal(of_arrows, LONE);
    const cJSON *worst = cJSON_GetObjectItem(j, "worst");
    assert_int_equal(cJSON_GetArraySize(worst), 3);
    assert_string_equal(cJSON_GetStringValue(cJSON_GetObjectItem(cJSON_GetArrayItem(worst, 0), "bldg_id")),
                        "h40");
    cJSON_Delete(j);
    event_close(ev);
}

/* Measuring again, with other threads, or in one go with tiling: the same bytes; taken away: the old ones. */
static void test_same_bytes(void **state)
{
    (void)state;
    char first[65], again[65], original[65], path[256];
    struct alignment_options o = usual();
    int threads = omp_get_max_threads();
    digest_of(town, first);
    assert_false(alignment_run(town, &o, NULL, NULL, NULL, &err));
    fx_assert_err(&err, ERR_USAGE, "aligned already", "--overwrite", NULL);
    o.overwrite = true;
    for (int n = 1; n <= 5; n += 2) {
        omp_set_num_threads(n);
        must_align(town, o, NULL);
        digest_of(town, again);
        assert_string_equal(first, again);
    }
    omp_set_num_threads(threads);
    o.overwrite = false;
    snprintf(path, sizeof path, "%s", fx_path("town2"));
    make_event(path, &o);
    digest_of(path, again);
    assert_string_equal(first, again);
    make_event(path, NULL);
    struct event *ev = must_open(path);
    assert_true(file_sha256(fx_path("town2/chips.tif"), original, &err));
    event_close(ev);
    o.reset = true;
    must_align(town, o, NULL);
    assert_true(file_sha256(fx_path("town/chips.tif"), again, &err));
    assert_string_equal(original, again);
    ev = must_open(town);
    assert_true(isnan(ev->building[0].shift_x) && !strstr(ev->manifest, "\"align\""));
    event_close(ev);
    must_align(town, usual(), NULL);
}

static void test_by_hand(void **state)
{
    (void)state;
    struct alignment_hand *hand = NULL;
    size_t n = 0;
    struct alignment_options o = usual();
    struct event *ev = must_open(town);
    double kept = ev->building[4].shift_x;
    fx_text("hand.csv", "bldg_id,shift_x,shift_y\nh3,1.5,-2.25\nh40,0,0.5\n");
    assert_true(alignment_read_hand(ev, fx_path("hand.csv"), &hand, &n, &err));
    assert_int_equal(n, 2);
    static const char *const bad[][3] = {{"bldg_id,shift_x,shift_y\nh99,0,0\n", "h99", "no building"},
                                         {"bldg_id,shift_x,shift_y\nh1,0,0\nh1,1,0\n", "h1", "twice"},
                                         {"bldg_id,shift_x,shift_y\nh1,nan,0\n", "h1", "no pair"},
                                         {"bldg_id,shift_x,shift_y\nh1,500,0\n", "h1", "no pair"},
                                         {"bldg_id,shift_x\nh1,0\n", "shift_y", "no column"}};
    for (size_t k = 0; k < sizeof bad / sizeof *bad; k++) {
        struct alignment_hand *none;
        size_t m;
        fx_text("bad.csv", bad[k][0]);
        assert_false(alignment_read_hand(ev, fx_path("bad.csv"), &none, &m, &err));
        fx_assert_err(&err, ERR_INPUT, bad[k][1], bad[k][2], NULL);
    }
    event_close(ev);
    o.hand = hand;
    o.n_hand = n;
    must_align(town, o, NULL); /* nothing is measured, so no --overwrite */
    ev = must_open(town);
    assert_true(ev->building[3].shift_x == 1.5 && ev->building[3].shift_y == -2.25 &&
                ev->building[3].shift_q == 1);
    assert_string_equal(ev->building[3].shift_by, "hand");
    assert_true(ev->building[LONE].shift_y == 0.5 && ev->building[4].shift_x == kept);
    /* The chip is what the images show there. */
    struct alignment_cutter *c = alignment_cutter_open(ev, &err);
    assert_non_null(c);
    static uint8_t chip[64 * 64 * 4], px[64 * 64], valid[64 * 64];
    for (int i = 3; i <= LONE; i += LONE - 3) {
        assert_true(event_read_chips(ev, &ev->building[i].page, 1, chip, &err));
        assert_true(alignment_cutter_read(c, (size_t)i, ev->building[i].shift_x, ev->building[i].shift_y, px,
                                          valid, &err));
        for (int p = 0; p < 64 * 64; p++)
            assert_true(px[p] == chip[4 * p + 1] && valid[p] == chip[4 * p + 2] >> 1);
    }
    alignment_cutter_close(c);
    event_close(ev);
    struct alignment_options anew = usual();
    anew.overwrite = true;
    must_align(town, anew, NULL); /* an analyst's work survives a new measurement */
    ev = must_open(town);
    assert_string_equal(ev->building[3].shift_by, "hand");
    assert_true(ev->building[3].shift_x == 1.5 && ev->building[4].shift_x == kept);
    event_close(ev);
    hand[0].fid = N; /* outside the images: no chip */
    assert_false(alignment_run(town, &o, NULL, NULL, NULL, &err));
    fx_assert_err(&err, ERR_INPUT, "h41", "no chip", NULL);
    hand[0].fid = 1000;
    assert_false(alignment_run(town, &o, NULL, NULL, NULL, &err));
    fx_assert_err(&err, ERR_INPUT, "no building", NULL);
    free(hand);
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

static void test_failures_change_nothing(void **state)
{
    (void)state;
    static const char *const stages[] = {"check", "measure", "chips", "index"};
    char before[65], after[65], aside[256];
    struct alignment_options o = usual();
    digest_of(town, before);
    o.overwrite = true;
    for (int k = 0; k < 4; k++) {
        struct progress p = {.report = stop_at, .stop = &stop};
        stop = 0;
        stop_stage = stages[k];
        assert_false(alignment_run(town, &o, &p, NULL, NULL, &err));
        assert_int_equal(err.code, ERR_INTERRUPTED);
        digest_of(town, after);
        assert_string_equal(before, after);
        assert_int_equal(leftovers(), 0);
    }
    o.dry_run = true;
    o.smooth_m = 30;
    must_align(town, o, NULL);
    digest_of(town, after);
    assert_string_equal(before, after);
    o = usual();
    o.overwrite = true;
    snprintf(aside, sizeof aside, "%s", fx_path("aside.tif"));
    assert_int_equal(rename(post, aside), 0);
    assert_false(alignment_run(town, &o, NULL, NULL, NULL, &err));
    fx_assert_err(&err, ERR_INPUT, "post.tif", "not there", NULL);
    FILE *f = fopen(post, "wb"); /* another file under the same name */
    fputs("something else", f);
    fclose(f);
    assert_false(alignment_run(town, &o, NULL, NULL, NULL, &err));
    fx_assert_err(&err, ERR_INPUT, "post.tif", "digest differs", NULL);
    assert_int_equal(rename(aside, post), 0);
    o.search_m = 0;
    assert_false(alignment_run(town, &o, NULL, NULL, NULL, &err));
    fx_assert_err(&err, ERR_USAGE, "--search-m", NULL);
    o = usual();
    assert_false(alignment_run(fx_path("nowhere"), &o, NULL, NULL, NULL, &err));
    fx_assert_err(&err, ERR_NOT_FOUND, "nowhere", NULL);
    digest_of(town, after);
    assert_string_equal(before, after);
    assert_int_equal(leftovers(), 0);
}

/* An alignment that ends, as by a kill, before its rename number `renames`; whether it got as far as that. */
static bool align_until(const char *dir, int renames)
{
    int status;
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        struct alignment_options o = usual();
        o.overwrite = true;
        o.smooth_m = 30;
        omp_set_num_threads(1); /* the threads of before the fork are not here */
        renames_left = renames;
        _exit(alignment_run(dir, &o, NULL, NULL, NULL, &err) ? 0 : 1);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status) && (WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == 77));
    return WEXITSTATUS(status) == 77;
}

/* Whatever rename the process is killed before, the event opens, as it was or as it was to become. */
static void test_killed_between_renames(void **state)
{
    (void)state;
    static const char *const name[] = {"chips.tif", "chips.gpkg", "event.json"};
    char dir[256], from[512], to[512], old[65], new[65], is[65];
    int n_old = 0, n_new = 0;
    bool was_killed = true;
    snprintf(dir, sizeof dir, "%s", fx_path("killed"));
    assert_int_equal(VSIMkdir(dir, 0777), 0);
    digest_of(town, old);
    for (int k = -1; was_killed || k == 0; k++) { /* the first time it is let through: what is to become */
        for (int i = 0; i < 3; i++) {
            snprintf(from, sizeof from, "%s/%s", town, name[i]);
            snprintf(to, sizeof to, "%s/%s", dir, name[i]);
            assert_int_equal(CPLCopyFile(to, from), 0);
        }
        was_killed = align_until(dir, k);
        digest_of(dir, is);
        if (k < 0) {
            memcpy(new, is, sizeof is);
            assert_string_not_equal(old, new);
            continue;
        }
        n_old += strcmp(is, old) == 0;
        n_new += was_killed && strcmp(is, new) == 0;
        assert_int_equal(n_old + n_new, k + was_killed); /* one of the two; and once new, always new */
        assert_true(n_new == 0 || strcmp(is, new) == 0);
    }
    assert_true(n_old >= 3 && n_new == 3); /* each of the last three renames is behind the decision */
    digest_of(dir, is);
    assert_string_equal(is, new);
    make_event(dir, NULL); /* what the killed ones left does not stand in the way of a new event */
    assert_int_equal(leftovers(), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_correlation_is_its_definition),
        cmocka_unit_test(test_peaks),
        cmocka_unit_test(test_fractions_of_a_pixel),
        cmocka_unit_test(test_gradients_keep_off_blank_ground),
        cmocka_unit_test(test_a_town),
        cmocka_unit_test(test_summary),
        cmocka_unit_test(test_same_bytes),
        cmocka_unit_test(test_by_hand),
        cmocka_unit_test(test_failures_change_nothing),
        cmocka_unit_test(test_killed_between_renames),
    };
    return cmocka_run_group_tests(tests, setup, fx_teardown);
}
