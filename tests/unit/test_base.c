/* SPDX-License-Identifier: Apache-2.0
 *
 * test_base.c - errors, allocation, random numbers and files. Philox against the known answers published with
 * Random123 (kat_vectors, philox4x32 10); gamma, beta and normal against their moments; SHA-256 against FIPS
 * 180-4's "abc". */
#include "models/base/err.h"
#include "models/base/file.h"
#include "models/base/mem.h"
#include "models/base/rng.h"

#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static void test_err(void **state)
{
    (void)state;
    struct err e;
    assert_false(err_set(&e, ERR_INPUT, "%s: has no bands", "a.tif"));
    assert_false(err_prefix(&e, "assess %d", 2));
    assert_string_equal(e.msg, "assess 2: a.tif: has no bands");
    assert_int_equal(e.code, ERR_INPUT);
    assert_int_equal(err_exit_status(e.code), 3);
    assert_int_equal(err_http_status(e.code), 422);
    assert_string_equal(err_name(ERR_NOT_FOUND), "NOT_FOUND");
    err_errno(&e, ERR_RUNTIME, ENOSPC, "out.tif");
    assert_int_equal(e.code, ERR_RESOURCE);
    err_errno(&e, ERR_RUNTIME, ENOENT, "in.tif");
    assert_int_equal(e.code, ERR_NOT_FOUND);
    err_errno(&e, ERR_RUNTIME, EACCES, "in.tif");
    assert_int_equal(e.code, ERR_RUNTIME);
    assert_non_null(strstr(e.msg, strerror(EACCES)));
    err_clear(&e);
    assert_int_equal(e.code, ERR_OK);
    assert_false(err_set(NULL, ERR_INPUT, "nobody listens"));
}

static void test_err_cuts_long_messages(void **state)
{
    (void)state;
    struct err e;
    char longer[2000];
    memset(longer, 'x', sizeof longer - 1);
    longer[sizeof longer - 1] = '\0';
    err_set(&e, ERR_INPUT, "%s", longer);
    assert_int_equal(strlen(e.msg), sizeof e.msg - 1);
    assert_string_equal(e.msg + strlen(e.msg) - 4, "x...");
    err_prefix(&e, "there");
    assert_memory_equal(e.msg, "there: xxx", 10);
    assert_string_equal(e.msg + strlen(e.msg) - 4, "x...");
}

static void test_mem(void **state)
{
    (void)state;
    struct err e;
    uint64_t before = mem_count();
    assert_null(mem_array(SIZE_MAX / 4, 8, "the sky", &e));
    assert_int_equal(e.code, ERR_RESOURCE);
    assert_non_null(strstr(e.msg, "the sky"));
    int *p = mem_array(4, sizeof *p, "numbers", &e);
    assert_non_null(p);
    for (int i = 0; i < 4; i++)
        assert_int_equal(p[i], 0);
    p[3] = 17;
    assert_true(mem_grow(&p, 1000, sizeof *p, "numbers", &e));
    assert_int_equal(p[3], 17);
    assert_false(mem_grow(&p, SIZE_MAX / 2, sizeof *p, "numbers", &e));
    assert_int_equal(p[3], 17); /* still valid */
    free(p);
    char *s = mem_strdup("text", &e);
    assert_string_equal(s, "text");
    free(s);
    assert_int_equal(mem_count() - before, 5);
}

static void test_arena(void **state)
{
    (void)state;
    struct err e;
    struct arena plan = {0}, a;
    assert_null(arena_take(&plan, 100, 4));
    assert_null(arena_take(&plan, 3, 8));
    assert_true(arena_open(&a, plan.used_bytes, &e));
    char *x = arena_take(&a, 100, 4), *y = arena_take(&a, 3, 8);
    assert_int_equal((uintptr_t)x % 64, 0);
    assert_int_equal((uintptr_t)y % 64, 0);
    assert_true(y >= x + 400 + 64); /* the gap */
    assert_int_equal(a.used_bytes, plan.used_bytes);
    for (int i = 0; i < 400; i++)
        assert_int_equal(x[i], 0);
    arena_close(&a);
    struct arena huge = {0};
    arena_take(&huge, SIZE_MAX / 2, 16);
    assert_false(arena_open(&a, huge.used_bytes, &e));
    assert_int_equal(e.code, ERR_RESOURCE);
}

static void test_philox_known_answers(void **state)
{
    (void)state;
    static const struct {
        uint32_t counter[4], key[2], want[4];
    } kat[] = {
        {{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
        {{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff},
         {0xffffffff, 0xffffffff},
         {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
    };
    for (size_t i = 0; i < sizeof kat / sizeof *kat; i++) {
        uint32_t out[4];
        rng_philox(kat[i].counter, kat[i].key, out);
        assert_memory_equal(out, kat[i].want, sizeof out);
    }
    struct rng r; /* the first draws of a zero generator are the first block */
    rng_init(&r, 0, 0, 0);
    for (int i = 0; i < 4; i++)
        assert_int_equal(rng_u32(&r), kat[0].want[i]);
}

static void test_streams_differ(void **state)
{
    (void)state;
    struct rng base, seed, stream, index, again;
    rng_init(&base, 1, RNG_WEAK, 5);
    rng_init(&again, 1, RNG_WEAK, 5);
    rng_init(&seed, 1ULL << 40 | 1, RNG_WEAK, 5);
    rng_init(&stream, 1, RNG_STRONG, 5);
    rng_init(&index, 1, RNG_WEAK, 1ULL << 40 | 5);
    uint32_t b = rng_u32(&base);
    assert_int_equal(b, rng_u32(&again));
    assert_int_not_equal(b, rng_u32(&seed));
    assert_int_not_equal(b, rng_u32(&stream));
    assert_int_not_equal(b, rng_u32(&index));
}

enum { DRAWS = 200000 };

struct moments {
    double mean, variance;
};

static struct moments moments_of(double (*draw)(struct rng *, double, double), double a, double b)
{
    struct rng r;
    rng_init(&r, 3, RNG_METHOD, (uint64_t)(a * 100 + b));
    double sum = 0, squares = 0;
    for (int i = 0; i < DRAWS; i++) {
        double x = draw(&r, a, b);
        sum += x;
        squares += x * x;
    }
    double mean = sum / DRAWS;
    return (struct moments){mean, squares / DRAWS - mean * mean};
}

static double draw_gamma(struct rng *r, double a, double b)
{
    (void)b;
    return rng_gamma(r, a);
}

static double draw_normal(struct rng *r, double a, double b)
{
    (void)a, (void)b;
    return rng_normal(r);
}

/* Five standard errors of a mean of DRAWS values. */
static double tolerance(double variance)
{
    return 5 * sqrt(variance / DRAWS);
}

static void test_moments(void **state)
{
    (void)state;
    static const double shapes[] = {0.05, 0.75, 1, 4.5};
    for (int i = 0; i < 4; i++) { /* Gamma(k): mean k, variance k, fourth central moment 3k^2 + 6k */
        double k = shapes[i];
        struct moments m = moments_of(draw_gamma, k, 0);
        assert_true(fabs(m.mean - k) < tolerance(k));
        assert_true(fabs(m.variance - k) < tolerance(2 * k * k + 6 * k));
    }
    static const double betas[][2] = {{0.75, 0.75}, {0.1, 0.1}, {2, 5}, {1e-3, 1e-3}};
    for (int i = 0; i < 4; i++) { /* Beta(a, b): mean a/(a+b), variance ab/((a+b)^2 (a+b+1)) */
        double a = betas[i][0], b = betas[i][1], variance = a * b / ((a + b) * (a + b) * (a + b + 1));
        struct moments m = moments_of(rng_beta, a, b);
        assert_true(fabs(m.mean - a / (a + b)) < tolerance(variance));
        assert_true(fabs(m.variance - variance) < tolerance(0.0625)); /* values in [0,1] */
    }
    struct moments n = moments_of(draw_normal, 0, 0);
    assert_true(fabs(n.mean) < tolerance(1));
    assert_true(fabs(n.variance - 1) < tolerance(2));
}

static void test_below_and_permutation(void **state)
{
    (void)state;
    struct rng r;
    rng_init(&r, 9, RNG_SHUFFLE, 0);
    int seen[7] = {0};
    for (int i = 0; i < 70000; i++)
        seen[rng_below(&r, 7)]++;
    double chi2 = 0;
    for (int i = 0; i < 7; i++)
        chi2 += (seen[i] - 10000.0) * (seen[i] - 10000.0) / 10000.0;
    assert_true(chi2 < 22.46); /* 6 degrees of freedom, p = 0.001 */
    for (int i = 0; i < 1000; i++)
        assert_true(rng_below(&r, 0x80000001u) <= 0x80000000u);
    uint32_t order[50], count[50] = {0};
    rng_permutation(&r, order, 50);
    bool moved = false;
    for (int i = 0; i < 50; i++) {
        count[order[i]]++;
        moved |= order[i] != (uint32_t)i;
    }
    for (int i = 0; i < 50; i++)
        assert_int_equal(count[i], 1);
    assert_true(moved);
}

static void test_file(void **state)
{
    (void)state;
    struct err e;
    char dir[] = "test_base.XXXXXX", path[256], deep[256], temp[256];
    assert_non_null(mkdtemp(dir));
    assert_true(file_join(path, sizeof path, dir, "out.json", &e));
    assert_false(file_exists(path));
    assert_true(file_write_text(path, "first", &e));

    struct file_out *f = file_out_open(path, &e); /* an output given up leaves what was there */
    assert_non_null(f);
    fputs("second", file_out_stream(f));
    snprintf(temp, sizeof temp, "%s", file_out_temp(f));
    assert_true(file_exists(temp));
    file_out_abort(f);
    assert_false(file_exists(temp));
    size_t size = 0;
    char *text = file_read(path, 100, &size, &e);
    assert_non_null(text);
    assert_string_equal(text, "first");
    assert_int_equal(size, 5);
    free(text);

    f = file_out_open(path, &e); /* a finished one replaces it */
    fputs("second", file_out_stream(f));
    assert_true(file_out_commit(f, &e));
    text = file_read(path, 100, NULL, &e);
    assert_string_equal(text, "second");
    free(text);
    assert_null(file_read(path, 5, NULL, &e)); /* too large */
    assert_int_equal(e.code, ERR_INPUT);
    assert_null(file_read(dir, 100, NULL, &e)); /* a folder */

    assert_true(file_temp_name(path, temp, sizeof temp, &e));
    assert_string_equal(temp + strlen(temp) - 5, ".json"); /* drivers go by it */
    assert_true(file_join(deep, sizeof deep, dir, "a/b/c", &e));
    assert_true(file_make_dirs(deep, &e));
    assert_true(file_is_dir(deep));
    assert_true(file_make_dirs(deep, &e)); /* again */
    assert_null(file_out_open("no/such/folder/x", &e));
    assert_int_equal(e.code, ERR_NOT_FOUND);
    assert_string_equal(file_base("a/b.tif"), "b.tif");

    unlink(path);
    rmdir(deep);
    *strrchr(deep, '/') = '\0';
    rmdir(deep);
    *strrchr(deep, '/') = '\0';
    rmdir(deep);
    assert_int_equal(rmdir(dir), 0); /* nothing temporary was left */
}

static void test_sha256(void **state)
{
    (void)state;
    static const char want[] = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    struct err e;
    char hex[65], path[] = "test_base_sha.XXXXXX";
    file_sha256_buffer("abc", 3, hex);
    assert_string_equal(hex, want);
    int fd = mkstemp(path);
    assert_true(fd >= 0 && write(fd, "abc", 3) == 3);
    close(fd);
    assert_true(file_sha256(path, hex, &e));
    assert_string_equal(hex, want);
    unlink(path);
    assert_false(file_sha256(".", hex, &e));
    assert_int_equal(e.code, ERR_INPUT);
    assert_false(file_sha256("/vsicurl/x", hex, &e));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_err),
        cmocka_unit_test(test_err_cuts_long_messages),
        cmocka_unit_test(test_mem),
        cmocka_unit_test(test_arena),
        cmocka_unit_test(test_philox_known_answers),
        cmocka_unit_test(test_streams_differ),
        cmocka_unit_test(test_moments),
        cmocka_unit_test(test_below_and_permutation),
        cmocka_unit_test(test_file),
        cmocka_unit_test(test_sha256),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
