/* SPDX-License-Identifier: Apache-2.0
 *
 * test_imageset_shape.c - the steps that bring plain sets to one layout, against images laid out by hand and
 * the triangle filter's weights worked out on paper; which part of a name is a step; what is refused. */
#include "models/data/imageset.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static void make(struct imageset *set, size_t n, int side, int bands)
{
    const struct imageset_layout l = {.size = side, .n_dates = 1, .n_bands = bands};
    struct err e;
    assert_true(imageset_alloc(set, n, &l, &e));
    set->n_classes = 2;
    for (size_t i = 0; i < n; i++) {
        set->id[i] = (int64_t)i;
        set->label[i] = (int16_t)(i % 4 == 0); /* one in four is of class 1 */
        for (size_t k = 0; k < (size_t)(side * side * bands); k++)
            set->px[i * (size_t)(side * side * bands) + k] = (uint8_t)(i + 7 * k);
    }
}

static void shape(struct imageset *set, const char *spec)
{
    struct err e = {0};
    if (!imageset_shape(set, spec, &e))
        fail_msg("%s", e.msg);
}

static void test_names(void **state)
{
    (void)state;
    assert_int_equal(imageset_spec_length("idx:a,b@crop=20@size=16@bands=3"), 7);
    assert_int_equal(imageset_spec_length("idx:a@home,b@c=3"),
                     16); /* no step of that name: part of the path */
    assert_int_equal(imageset_spec_length("cifar10:x@size=8x"), 17);
    assert_int_equal(imageset_spec_length("cifar10:x@size=-8@pad=32"), 17);
    assert_int_equal(imageset_spec_length("folder:d@items=10"), 8);
    assert_int_equal(imageset_spec_length(""), 0);
}

static void test_place(void **state)
{
    (void)state;
    struct imageset set = {0};
    make(&set, 2, 8, 3);
    shape(&set, "idx:a,b@crop=6@pad=12");
    assert_int_equal(set.layout.size, 12);
    for (int y = 0; y < 12; y++)
        for (int x = 0; x < 12; x++)
            for (int c = 0; c < 3; c++) {
                /* the middle six of eight rows and columns, in the middle of twelve */
                const int sy = y - 3 + 1, sx = x - 3 + 1;
                const bool in = sy >= 1 && sy < 7 && sx >= 1 && sx < 7;
                const uint8_t want = in ? (uint8_t)(1 + 7 * ((sy * 8 + sx) * 3 + c)) : 0;
                assert_int_equal(set.px[(size_t)(144 * 3 + (y * 12 + x) * 3 + c)], want);
            }
    imageset_free(&set);
}

/* 4 of 8: for output o the centre lies at 2 o + 1/2 and the filter
 * reaches 2 pixels: inputs at distances 3/2, 1/2, 1/2, 3/2 weigh 1, 3, 3, 1 (of 8), cut off at the border. */
static void test_shrink(void **state)
{
    (void)state;
    struct imageset set = {0};
    make(&set, 1, 8, 1);
    for (int y = 0; y < 8; y++)
        for (int x = 0; x < 8; x++)
            set.px[y * 8 + x] = (uint8_t)(x == 3 ? 200 : 0); /* one column */
    shape(&set, "idx:a,b@size=4");
    const double want[4] = {200.0 * 0 / 7, 200.0 * 3 / 8, 200.0 * 1 / 8, 0};
    assert_int_equal(set.layout.size, 4);
    for (int y = 0; y < 4; y++)
        for (int x = 0; x < 4; x++)
            assert_int_equal(set.px[y * 4 + x], (int)(want[x] + 0.5));
    imageset_free(&set);
}

/* 8 of 4: output o looks at o/2 - 1/4; between two pixels it weighs 3/4 and 1/4. */
static void test_enlarge(void **state)
{
    (void)state;
    struct imageset set = {0};
    make(&set, 1, 4, 1);
    for (int i = 0; i < 16; i++)
        set.px[i] = (uint8_t)(i / 4 * 40); /* rows of 0, 40, 80, 120 */
    shape(&set, "idx:a,b@size=8");
    const int want[8] = {0, 10, 30, 50, 70, 90, 110, 120};
    for (int y = 0; y < 8; y++)
        for (int x = 0; x < 8; x++)
            assert_int_equal(set.px[y * 8 + x], want[y]);
    imageset_free(&set);
}

static void test_bands(void **state)
{
    (void)state;
    struct imageset set = {0};
    make(&set, 3, 4, 1);
    shape(&set, "idx:a,b@bands=3");
    for (int i = 0; i < 3 * 16; i++)
        for (int c = 0; c < 3; c++)
            assert_int_equal(set.px[3 * i + c], (uint8_t)(i / 16 + 7 * (i % 16)));
    memcpy(set.px, (const uint8_t[3]){100, 50, 200}, 3);
    shape(&set, "idx:a,b@bands=1");
    assert_int_equal(set.px[0], 82); /* (29900 + 29350 + 22800)/1000, as Pillow has it */
    assert_int_equal(set.px[1], 7);
    imageset_free(&set);
}

/* Three of four are of class 0, so of 40 chosen 30 are; the same ones every time, whole and in order. */
static void test_items(void **state)
{
    (void)state;
    struct imageset set = {0}, again = {0};
    size_t of_one = 0;
    make(&set, 200, 4, 1);
    make(&again, 200, 4, 1);
    shape(&set, "idx:a,b@items=40");
    shape(&again, "idx:a,b@items=60@items=40@items=100");
    assert_int_equal(set.n, 40);
    assert_int_equal(again.n, 40);
    for (size_t i = 0; i < 40; i++) {
        const int64_t id = set.id[i];
        assert_true(i == 0 || id > set.id[i - 1]);
        assert_int_equal(set.label[i], id % 4 == 0);
        for (size_t k = 0; k < 16; k++)
            assert_int_equal(set.px[i * 16 + k], (uint8_t)(id + 7 * (int64_t)k));
        of_one += set.label[i] == 1;
    }
    assert_int_equal(of_one, 10);
    imageset_free(&set);
    imageset_free(&again);
}

static void test_refused(void **state)
{
    (void)state;
    static const char *const bad[][2] = {{"idx:a,b@crop=9", "larger"},
                                         {"idx:a,b@pad=6", "smaller"},
                                         {"idx:a,b@bands=2", "cannot be made"},
                                         {"idx:a,b@size=30", "multiple of 4"},
                                         {"idx:a,b@size=2000", "too large"}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct imageset set = {0};
        struct err e = {0};
        make(&set, 2, 8, 3);
        assert_false(imageset_shape(&set, bad[i][0], &e));
        assert_int_equal(e.code, ERR_USAGE);
        assert_non_null(strstr(e.msg, bad[i][1]));
        imageset_free(&set);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names),   cmocka_unit_test(test_place), cmocka_unit_test(test_shrink),
        cmocka_unit_test(test_enlarge), cmocka_unit_test(test_bands), cmocka_unit_test(test_items),
        cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
