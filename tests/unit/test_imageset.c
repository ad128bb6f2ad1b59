/* SPDX-License-Identifier: Apache-2.0
 *
 * test_imageset.c - readers on small files made here by hand from the formats' definitions, hostile headers,
 * label subsets against the published rule, and inputs against the formula. */
#include "models/base/file.h"
#include "models/base/rng.h"
#include "models/data/imageset.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

#include <cmocka.h>

static char dir[64];

static int make_dir(void **state)
{
    (void)state;
    snprintf(dir, sizeof dir, "/tmp/test_imageset_XXXXXX");
    return mkdtemp(dir) ? 0 : -1;
}

static int remove_dir(void **state)
{
    static const char *const names[] = {"a", "b", "c", "images", "labels"};
    char path[128];
    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        snprintf(path, sizeof path, "%s/%s", dir, names[i]);
        unlink(path);
    }
    return rmdir(dir);
}

static void put(const char *name, const void *data, size_t size, bool gzip)
{
    char path[128];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    if (gzip) {
        gzFile f = gzopen(path, "wb");
        assert_non_null(f);
        assert_int_equal(gzwrite(f, data, (unsigned)size), size);
        assert_int_equal(gzclose_w(f), Z_OK);
        return;
    }
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, size, f), size);
    assert_int_equal(fclose(f), 0);
}

/* An IDX header; returns its length. */
static size_t idx_header(uint8_t *out, int type, int n_dims, const uint32_t *dims)
{
    out[0] = out[1] = 0;
    out[2] = (uint8_t)type;
    out[3] = (uint8_t)n_dims;
    for (int d = 0; d < n_dims; d++)
        for (int b = 0; b < 4; b++)
            out[4 + 4 * d + b] = (uint8_t)(dims[d] >> (24 - 8 * b));
    return 4 + 4 * (size_t)n_dims;
}

static bool open_idx(struct imageset *set, struct err *e)
{
    char spec[256];
    snprintf(spec, sizeof spec, "idx:%s/images,%s/labels", dir, dir);
    memset(e, 0, sizeof *e);
    return imageset_open(set, spec, 0.25, 1, e);
}

/* n images of side x side x bands with sample value (i*7 + y*5 + x*3 + c), labels i % 3. */
static uint8_t sample(int i, int y, int x, int c)
{
    return (uint8_t)(i * 7 + y * 5 + x * 3 + c);
}

static size_t build_images(uint8_t *out, int n, int side, int bands)
{
    const uint32_t dims[4] = {(uint32_t)n, (uint32_t)side, (uint32_t)side, (uint32_t)bands};
    size_t at = idx_header(out, 8, bands > 1 ? 4 : 3, dims);
    for (int i = 0; i < n; i++)
        for (int y = 0; y < side; y++)
            for (int x = 0; x < side; x++)
                for (int c = 0; c < bands; c++)
                    out[at++] = sample(i, y, x, c);
    return at;
}

static size_t build_labels(uint8_t *out, int n)
{
    size_t at = idx_header(out, 8, 1, (uint32_t[]){(uint32_t)n});
    for (int i = 0; i < n; i++)
        out[at++] = (uint8_t)(i % 3);
    return at;
}

static void test_idx(void **state)
{
    static const struct {
        int side, bands, size, before;
        bool gzip;
    } cases[] = {{8, 1, 8, 0, false}, {8, 1, 8, 0, true}, {8, 3, 8, 0, true},
                 {5, 1, 8, 1, false}, {6, 3, 8, 1, true}, {7, 1, 8, 0, true}};
    static uint8_t bytes[1 << 16];
    (void)state;
    for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
        const int side = cases[k].side, bands = cases[k].bands, size = cases[k].size;
        struct imageset set;
        struct err e;
        put("images", bytes, build_images(bytes, 12, side, bands), cases[k].gzip);
        put("labels", bytes, build_labels(bytes, 12), cases[k].gzip && bands == 1);
        if (!open_idx(&set, &e))
            fail_msg("%s", e.msg);
        assert_int_equal(set.n, 12);
        assert_int_equal(set.n_classes, 3);
        assert_string_equal(set.class_name[2], "2");
        assert_int_equal(set.layout.size, size);
        assert_int_equal(set.layout.n_bands, bands);
        assert_int_equal(set.layout.n_dates, 1);
        assert_int_equal(strlen(set.digest), 64);
        int n_test = 0;
        for (int i = 0; i < 12; i++) {
            assert_int_equal(set.label[i], i % 3);
            assert_int_equal(set.id[i], i);
            n_test += set.split[i] == IMAGESET_TEST;
            for (int y = 0; y < size; y++)
                for (int x = 0; x < size; x++) {
                    int sy = y - cases[k].before, sx = x - cases[k].before;
                    sy = sy < 0 ? 0 : sy >= side ? side - 1 : sy;
                    sx = sx < 0 ? 0 : sx >= side ? side - 1 : sx;
                    for (int c = 0; c < bands; c++)
                        assert_int_equal(set.px[((i * size + y) * size + x) * bands + c],
                                         sample(i, sy, sx, c));
                }
        }
        assert_int_equal(n_test, 3); /* one of each class */
        imageset_free(&set);
    }
}

static void refuse_idx(const char *word)
{
    struct imageset set;
    struct err e;
    assert_false(open_idx(&set, &e));
    if (!strstr(e.msg, word))
        fail_msg("expected \"%s\" in: %s", word, e.msg);
    assert_null(set.px);
    assert_int_equal(set.n, 0);
}

static void refuse_images(const void *bytes, size_t size, bool gzip, const char *word)
{
    put("images", bytes, size, gzip);
    refuse_idx(word);
}

static void test_hostile_idx(void **state)
{
    static uint8_t bytes[1 << 16];
    uint8_t labels[64];
    (void)state;
    put("labels", labels, build_labels(labels, 12), false);
    size_t n = build_images(bytes, 12, 8, 1);

    refuse_images(bytes, 0, false, "truncated");
    refuse_images(bytes, 3, false, "truncated");
    refuse_images(bytes, 9, false, "truncated");
    refuse_images(bytes, n - 1, false, "truncated");
    refuse_images(bytes, n - 1, true, "truncated");
    refuse_images(bytes, n + 1, false, "goes on");
    refuse_images(bytes, n + 1, true, "goes on");
    bytes[0] = 1;
    refuse_images(bytes, n, false, "no IDX");
    bytes[0] = 0;
    bytes[2] = 0x0D;
    refuse_images(bytes, n, false, "0x0d");
    bytes[2] = 8;
    bytes[3] = 200;
    refuse_images(bytes, n, false, "dimensions");
    bytes[3] = 0;
    refuse_images(bytes, n, false, "dimensions");
    bytes[3] = 1;
    refuse_images(bytes, n, false, "dimensions");
    bytes[3] = 3;

    /* sizes no file of this length can hold, also where the product overflows 64 bits */
    idx_header(bytes, 8, 3, (uint32_t[]){0xFFFFFFFF, 0xFFFFFFFF, 0xFFFFFFFF});
    refuse_images(bytes, n, false, "promises more");
    idx_header(bytes, 8, 4, (uint32_t[]){0x10000, 0x10000, 0x10000, 0x10000});
    refuse_images(bytes, n, false, "promises more");
    idx_header(bytes, 8, 3, (uint32_t[]){40000, 1000, 1000});
    refuse_images(bytes, n, true, "promises more");
    idx_header(bytes, 8, 3, (uint32_t[]){12, 8, 0});
    refuse_images(bytes, n, false, "empty");
    idx_header(bytes, 8, 3, (uint32_t[]){12, 8, 9});
    refuse_images(bytes, n, false, "square");
    idx_header(bytes, 8, 4, (uint32_t[]){12, 2, 2, 16});
    refuse_images(bytes, n, false, "bands");
    n = build_images(bytes, 11, 8, 1);
    refuse_images(bytes, n, false, "do not belong");

    /* a gzip stream whose content was altered: the checksum tells */
    char path[128];
    n = build_images(bytes, 12, 8, 1);
    put("images", bytes, n, true);
    snprintf(path, sizeof path, "%s/images", dir);
    size_t size;
    struct err e;
    char *raw = file_read(path, 1 << 20, &size, &e);
    assert_non_null(raw);
    raw[size - 6] = (char)(raw[size - 6] ^ 1);
    refuse_images(raw, size, false, "damaged");
    refuse_images(raw, size - 20, false, "");
    free(raw);

    /* labels: wrong shape, and a missing file */
    put("images", bytes, n, false);
    put("labels", bytes, n, false);
    refuse_idx("labels have 1");
    snprintf(path, sizeof path, "%s/labels", dir);
    unlink(path);
    refuse_idx("cannot be opened");
}

static void test_bad_specs(void **state)
{
    static const struct {
        const char *spec;
        enum err_code code;
    } bad[] = {{"idx:only-one", ERR_USAGE}, {"idx:,b", ERR_USAGE},
               {"idx:a,", ERR_USAGE},       {"cifar10:/nonexistent/file", ERR_NOT_FOUND},
               {"cifar10:/tmp", ERR_INPUT}, {"whatever", ERR_USAGE},
               {"folder:/tmp", ERR_USAGE},  {"idx:/tmp,/tmp", ERR_INPUT},
               {"cifar10:", ERR_NOT_FOUND}};
    (void)state;
    for (size_t k = 0; k < sizeof bad / sizeof *bad; k++) {
        struct imageset set;
        struct err e = {0};
        assert_false(imageset_open(&set, bad[k].spec, 0.2, 1, &e));
        assert_int_equal(e.code, bad[k].code);
        assert_true(strlen(e.msg) > 10);
    }
    assert_true(imageset_is_spec("cifar10:x") && imageset_is_spec("idx:a,b") && imageset_is_spec("folder:d"));
    assert_false(imageset_is_spec("cifar") || imageset_is_spec("EVENT") || imageset_is_spec(""));
}

static void test_cifar(void **state)
{
    static uint8_t bytes[20 * 3073];
    char spec[128];
    struct imageset set;
    struct err e = {0};
    (void)state;
    for (int i = 0; i < 20; i++) {
        uint8_t *r = bytes + i * 3073;
        r[0] = (uint8_t)(i % 10);
        for (int c = 0; c < 3; c++)
            for (int p = 0; p < 1024; p++)
                r[1 + c * 1024 + p] = (uint8_t)(i + 11 * c + p * 3);
    }
    put("a", bytes, sizeof bytes, false);
    snprintf(spec, sizeof spec, "cifar10:%s/a", dir);
    if (!imageset_open(&set, spec, 0.5, 1, &e))
        fail_msg("%s", e.msg);
    assert_int_equal(set.n, 20);
    assert_int_equal(set.n_classes, 10);
    assert_string_equal(set.class_name[3], "cat");
    assert_string_equal(set.source, spec);
    char hex[65];
    file_sha256_buffer(bytes, sizeof bytes, hex);
    assert_string_equal(set.digest, hex);
    for (int i = 0; i < 20; i++)
        for (int p = 0; p < 1024; p++)
            for (int c = 0; c < 3; c++)
                assert_int_equal(set.px[(i * 1024 + p) * 3 + c], (uint8_t)(i + 11 * c + p * 3));
    imageset_free(&set);
    imageset_free(&set); /* twice does no harm */

    put("a", bytes, sizeof bytes - 1, false);
    assert_false(imageset_open(&set, spec, 0.5, 1, &e));
    assert_non_null(strstr(e.msg, "whole number"));
    bytes[3 * 3073] = 10;
    put("a", bytes, sizeof bytes, false);
    assert_false(imageset_open(&set, spec, 0.5, 1, &e));
    assert_non_null(strstr(e.msg, "image 3"));
    assert_null(set.px);
}

/* ---- labels ---- */

static void make_labels(struct imageset *set, const int *per_class, int n_classes, int unlabelled)
{
    const struct imageset_layout l = {4, 1, 1, false, false, false};
    struct err e;
    size_t n = (size_t)unlabelled, at = 0;
    for (int c = 0; c < n_classes; c++)
        n += (size_t)per_class[c];
    assert_true(imageset_alloc(set, n, &l, &e));
    set->n_classes = n_classes;
    /* interleaved, so that position says nothing about class */
    for (int round = 0; at < n; round++)
        for (int c = -1; c < n_classes; c++)
            if (round < (c < 0 ? unlabelled : per_class[c]))
                set->label[at++] = (int16_t)c;
}

static uint32_t *all_items(const struct imageset *set)
{
    uint32_t *v = calloc(set->n ? set->n : 1, sizeof *v);
    assert_non_null(v);
    for (size_t i = 0; i < set->n; i++)
        v[i] = (uint32_t)i;
    return v;
}

static void count(const struct imageset *set, const uint32_t *chosen, size_t n, int *out)
{
    memset(out, 0, (size_t)set->n_classes * sizeof *out);
    for (size_t i = 0; i < n; i++) {
        assert_true(i == 0 || chosen[i] > chosen[i - 1]); /* ascending, no repeats */
        assert_true(set->label[chosen[i]] >= 0);
        out[set->label[chosen[i]]]++;
    }
}

static void test_choose_per_class(void **state)
{
    struct imageset set;
    struct err e = {0};
    uint32_t *out, *again, *more, *items;
    size_t n, n_again, n_more;
    int got[3], differs = 0;
    (void)state;
    make_labels(&set, (int[]){50, 20, 7}, 3, 30);
    snprintf(set.class_name[2], sizeof set.class_name[2], "destroyed");
    items = all_items(&set);
    assert_true(imageset_choose_labels(&set, items, set.n, 5, 1, &out, &n, &e));
    assert_int_equal(n, 15);
    count(&set, out, n, got);
    assert_true(got[0] == 5 && got[1] == 5 && got[2] == 5);
    assert_true(imageset_choose_labels(&set, items, set.n, 5, 1, &again, &n_again, &e));
    assert_memory_equal(out, again, n * sizeof *out);
    free(again);
    assert_true(imageset_choose_labels(&set, items, set.n, 5, 2, &again, &n_again, &e));
    differs = memcmp(out, again, n * sizeof *out);
    assert_true(differs != 0);
    free(again);
    assert_true(imageset_choose_labels(&set, items, set.n, 7, 1, &more, &n_more, &e)); /* nested */
    for (size_t i = 0, j = 0; i < n; i++) {
        while (j < n_more && more[j] < out[i])
            j++;
        assert_true(j < n_more && more[j] == out[i]);
    }
    free(more);
    free(out);
    assert_true(imageset_choose_labels(&set, items, set.n, 0, 1, &out, &n, &e));
    assert_int_equal(n, 77);
    free(out);
    assert_false(imageset_choose_labels(&set, items, set.n, 8, 1, &out, &n, &e));
    assert_int_equal(e.code, ERR_INPUT);
    assert_non_null(strstr(e.msg, "destroyed"));
    assert_null(out);
    assert_true(imageset_choose_labels(&set, items, 9, 2, 1, &out, &n, &e)); /* candidates only */
    for (size_t i = 0; i < n; i++)
        assert_true(out[i] < 9);
    free(out);
    assert_false(imageset_choose_labels(&set, items, 0, 0, 1, &out, &n, &e));
    free(items);
    imageset_free(&set);
}

/* The published rule, worked by hand for class counts 6, 3, 1 (shares 1, .5, .1667). Lacks share -
 * n/max(most,1): 1: (1, .5, .1667)      -> 0     n = 1 0 0      2: (0, .5, .1667)      -> 1     n = 1 1 0 3:
 * (0, -.5, .1667)     -> 2     n = 1 1 1      4: (0, -.5, exhausted) -> 0     n = 2 1 1 5: (0, 0, -) -> 0 n =
 * 3 1 1      6: (0, .1667, -)       -> 1     n = 3 2 1 7: (0, -.1667, -)      -> 0     n = 4 2 1 */
static void test_choose_proportional(void **state)
{
    static const int want[7][3] = {{1, 0, 0}, {1, 1, 0}, {1, 1, 1}, {2, 1, 1},
                                   {3, 1, 1}, {3, 2, 1}, {4, 2, 1}};
    struct imageset set;
    struct err e = {0};
    uint32_t *out, *items;
    size_t n;
    int got[10];
    (void)state;
    make_labels(&set, (int[]){6, 3, 1}, 3, 4);
    items = all_items(&set);
    for (int k = 1; k <= 7; k++) {
        assert_true(imageset_choose_labels(&set, items, set.n, -k, 1, &out, &n, &e));
        assert_int_equal(n, k);
        count(&set, out, n, got);
        assert_memory_equal(got, want[k - 1], sizeof want[0]);
        free(out);
    }
    assert_true(imageset_choose_labels(&set, items, set.n, -10, 1, &out, &n, &e));
    assert_int_equal(n, 10);
    free(out);
    assert_false(imageset_choose_labels(&set, items, set.n, -11, 1, &out, &n, &e));
    assert_non_null(strstr(e.msg, "11 labels"));
    assert_false(imageset_choose_labels(&set, items, set.n, INT32_MIN, 1, &out, &n, &e));
    free(items);
    imageset_free(&set);

    make_labels(&set, (int[]){90, 90, 90, 90, 90, 90, 90, 90, 90, 90}, 10, 0); /* balanced stays balanced */
    items = all_items(&set);
    assert_true(imageset_choose_labels(&set, items, set.n, -250, 1, &out, &n, &e));
    count(&set, out, n, got);
    for (int c = 0; c < 10; c++)
        assert_int_equal(got[c], 25);
    free(out);
    free(items);
    imageset_free(&set);
}

/* Every item of a class is as likely as any other: 2 of 8, 4000 seeds. */
static void test_choice_is_fair(void **state)
{
    struct imageset set;
    struct err e;
    int hits[16] = {0};
    (void)state;
    make_labels(&set, (int[]){8, 8}, 2, 0);
    uint32_t *items = all_items(&set);
    for (uint64_t seed = 0; seed < 4000; seed++) {
        uint32_t *out;
        size_t n;
        assert_true(imageset_choose_labels(&set, items, set.n, 2, seed, &out, &n, &e));
        for (size_t i = 0; i < n; i++)
            hits[out[i]]++;
        free(out);
    }
    for (int i = 0; i < 16; i++)
        assert_in_range(hits[i], 1000 - 137, 1000 + 137); /* five standard deviations */
    free(items);
    imageset_free(&set);
}

static void test_split_random(void **state)
{
    struct imageset set;
    struct err e = {0};
    int n_test[5] = {0};
    (void)state;
    make_labels(&set, (int[]){100, 33, 2, 1}, 4, 10);
    assert_true(imageset_split_random(&set, 0.2, 7, &e));
    for (size_t i = 0; i < set.n; i++) {
        assert_true(set.split[i] == IMAGESET_TEST || set.split[i] == IMAGESET_TRAIN);
        assert_int_equal(set.block[i], i);
        n_test[set.label[i] + 1] += set.split[i] == IMAGESET_TEST;
    }
    assert_int_equal(n_test[0], 2);
    assert_int_equal(n_test[1], 20);
    assert_int_equal(n_test[2], 7);
    assert_int_equal(n_test[3], 1); /* two items: one on each side */
    assert_int_equal(n_test[4], 0);
    for (int all = 0; all <= 1; all++) {
        assert_true(imageset_split_random(&set, all, 7, &e));
        for (size_t i = 0; i < set.n; i++)
            assert_int_equal(set.split[i], all ? IMAGESET_TEST : IMAGESET_TRAIN);
    }
    assert_false(imageset_split_random(&set, 1.5, 7, &e));
    assert_int_equal(e.code, ERR_USAGE);
    assert_false(imageset_split_random(&set, NAN, 7, &e));
    imageset_free(&set);
}

static void test_to_input(void **state)
{
    (void)state;
    for (int masks = 0; masks <= 2; masks++)
        for (int dates = 1; dates <= 2; dates++)
            for (int bands = 1; bands <= IMAGESET_MAX_BANDS; bands++) {
                const struct imageset_layout l = {8, dates, bands, masks > 0, masks == 2, false};
                const int stored = dates * bands + (masks ? 2 : 0), cin = dates * bands + (masks == 2);
                uint8_t px[64 * 18];
                float x[64 * 17 + 1];
                struct rng r;
                assert_int_equal(imageset_stored_channels(&l), stored);
                assert_int_equal(imageset_input_channels(&l), cin);
                rng_init(&r, 1, RNG_METHOD, (uint64_t)bands);
                for (int i = 0; i < 64 * stored; i++)
                    px[i] = (uint8_t)rng_below(&r, 256);
                x[64 * cin] = 123.0f;
                imageset_to_input(&l, px, x);
                for (int p = 0; p < 64; p++) {
                    const uint8_t *in = px + p * stored;
                    for (int c = 0; c < dates * bands; c++) {
                        const bool valid = !masks || (in[dates * bands] >> (c / bands) & 1);
                        assert_true(fabs(x[p * cin + c] - (valid ? in[c] / 127.5 - 1.0 : 0.0)) < 1e-6);
                    }
                    if (masks == 2)
                        assert_true(fabs(x[p * cin + cin - 1] - (in[stored - 1] / 127.5 - 1.0)) < 1e-6);
                }
                assert_true(x[64 * cin] == 123.0f);
            }
}

static void test_alloc_refuses(void **state)
{
    struct imageset set;
    struct err e = {0};
    (void)state;
    assert_false(imageset_alloc(&set, 1, &(struct imageset_layout){6, 1, 3, false, false, false}, &e));
    assert_false(imageset_alloc(&set, 1, &(struct imageset_layout){8, 3, 3, false, false, false}, &e));
    assert_false(imageset_alloc(&set, 1, &(struct imageset_layout){8, 1, 99, false, false, false}, &e));
    assert_int_equal(e.code, ERR_INPUT);
    assert_false(
        imageset_alloc(&set, SIZE_MAX / 64, &(struct imageset_layout){8, 1, 3, false, false, false}, &e));
    assert_int_equal(e.code, ERR_RESOURCE);
    assert_null(set.px);
    assert_true(imageset_alloc(&set, 0, &(struct imageset_layout){8, 1, 3, false, false, false}, &e));
    imageset_free(&set);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_idx),
        cmocka_unit_test(test_hostile_idx),
        cmocka_unit_test(test_bad_specs),
        cmocka_unit_test(test_cifar),
        cmocka_unit_test(test_choose_per_class),
        cmocka_unit_test(test_choose_proportional),
        cmocka_unit_test(test_choice_is_fair),
        cmocka_unit_test(test_split_random),
        cmocka_unit_test(test_to_input),
        cmocka_unit_test(test_alloc_refuses),
    };
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
