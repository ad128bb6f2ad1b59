/* SPDX-License-Identifier: Apache-2.0
 *
 * test_checkpoint.c - the writer against Python's own reading of the format (json and struct, no library of
 * ours), the reader against one file for each of its checks that must be refused, and the promise that a
 * failed write leaves the old file.
 *
 * Bad files are made here from a header text and data bytes; DIGEST in the text stands for the right digest
 * of the data, so that each file is wrong in one point only. */
#include "models/base/file.h"
#include "models/base/mem.h"
#include "models/net/checkpoint.h"

#include <dirent.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static char dir[] = "checkpoint-XXXXXX";
static char path[64];

static int group_open(void **state)
{
    (void)state;
    if (!mkdtemp(dir))
        return -1;
    snprintf(path, sizeof path, "%s/m.safetensors", dir);
    return 0;
}

static int group_close(void **state)
{
    (void)state;
    unlink(path);
    return rmdir(dir); /* fails when a test left something behind */
}

static void put_file(const void *data, size_t size)
{
    unlink(path); /* ext4 flushes a file that is overwritten in place, which costs seconds over all cases */
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, size, f), size);
    assert_int_equal(fclose(f), 0);
}

/* A file from its parts; length < 0 takes the header's true length. */
static void put_parts(const char *header, const void *data, size_t data_size, int64_t length)
{
    char digest[65], text[4096], file[8192];
    const char *mark = strstr(header, "DIGEST");
    file_sha256_buffer(data, data_size, digest);
    if (mark)
        snprintf(text, sizeof text, "%.*s%s%s", (int)(mark - header), header, digest, mark + 6);
    else
        snprintf(text, sizeof text, "%s", header);
    size_t n = strlen(text);
    uint64_t size = length < 0 ? n : (uint64_t)length;
    memcpy(file, &size, 8);
    memcpy(file + 8, text, n);
    if (data_size)
        memcpy(file + 8 + n, data, data_size);
    put_file(file, 8 + n + data_size);
}

static void expect_refusal(const char *words)
{
    struct err e = {0};
    struct checkpoint *c = checkpoint_open(path, &e);
    if (c)
        fail_msg("accepted, but: %s", words);
    assert_int_equal(e.code, ERR_MODEL);
    assert_ptr_equal(strstr(e.msg, path), e.msg); /* the sentence begins with the file */
    if (!strstr(e.msg, words))
        fail_msg("\"%s\" does not say \"%s\"", e.msg, words);
}

#define META "\"__metadata__\":{\"aftermap.format\":\"1\",\"aftermap.sha256\":\"DIGEST\"}"
#define TENSOR(name, dtype, shape, offsets)                                                                  \
    "\"" name "\":{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":" offsets "}"

static const float eight[8] = {1, 2, 3, 4, 5, 6, 7, 8};

static void test_minimal_accepted(void **state)
{
    struct err e = {0};
    float out[4];
    (void)state;
    /* Header order is free; only the offsets count. Whitespace and unknown metadata are allowed. */
    put_parts("{" TENSOR("b", "F32", "[4]", "[16,32]") ",\n " TENSOR(
                  "a", "F32", "[2,2]", "[0,16]") ","
                                                 "\"__metadata__\":{\"x\":\"\\u00e9\\\"{[\",\"aftermap."
                                                 "format\":\"1\",\"aftermap.sha256\":\"DIGEST\"}}   ",
              eight, 32, -1);
    struct checkpoint *c = checkpoint_open(path, &e);
    if (!c)
        fail_msg("%s", e.msg);
    assert_int_equal(checkpoint_count(c), 2);
    assert_string_equal(checkpoint_at(c, 0)->name, "a");
    assert_string_equal(checkpoint_meta_get(c, "x"), "\xC3\xA9\"{[");
    assert_true(checkpoint_copy(c, "b", CHECKPOINT_F32, 4, out, &e));
    assert_memory_equal(out, eight + 4, 16);
    checkpoint_close(c);
    put_parts("{" META "}", NULL, 0, -1); /* no tensors at all */
    c = checkpoint_open(path, &e);
    assert_non_null(c);
    checkpoint_close(c);
    put_parts("{" TENSOR("none", "F32", "[0,5]", "[0,0]") "," TENSOR("a", "F32", "[]", "[0,4]") "," META "}",
              eight, 4, -1);
    c = checkpoint_open(path, &e); /* an empty tensor and a scalar */
    assert_non_null(c);
    assert_true(checkpoint_copy(c, "none", CHECKPOINT_F32, 0, NULL, &e) &&
                checkpoint_find(c, "a")->n_dims == 0);
    checkpoint_close(c);
}

/* One line a check: what is wrong, what the sentence must say. 16 bytes of data unless data_bytes says
 * otherwise. */
static const struct {
    const char *header, *words;
    int data_bytes;
    int64_t length;
} refused[] = {
    {"{" TENSOR("a", "F32", "[4]", "[0,16]") "," META "}", "larger than 1 MiB", 16, (1 << 20) + 1},
    {"{" TENSOR("a", "F32", "[4]", "[0,16]") "," META "}", "larger than 1 MiB", 16, INT64_MAX},
    {"{" TENSOR("a", "F32", "[4]", "[0,16]") "," META "}", "beyond its end", 16, 900},
    {"[" META "]", "start with {", 0, -1},
    {"", "start with {", 0, -1},
    {" {" META "}", "start with {", 0, -1},
    {"{\"a\xff\":1," META "}", "UTF-8", 0, -1},
    {"{\"a\xc0\x80\":1," META "}", "UTF-8", 0, -1},
    {"{\"a\xed\xa0\x80\":1," META "}", "UTF-8", 0, -1},
    {"{\"a\x01\":1," META "}", "control characters", 0, -1},
    {"{\"a\\u0000b\":1," META "}", "control characters", 0, -1},
    {"{\"a\":{\"b\":{\"c\":{\"d\":{\"e\":1}}}}," META "}", "nested too deeply", 0, -1},
    {"{\"a\":[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]," META "}", "nested too deeply", 0, -1},
    {"{" META "", "not JSON", 0, -1},
    {"{" META ",}", "not JSON", 0, -1},
    {"{" META "} x", "something follows", 0, -1},
    {"{" META "}{}", "something follows", 0, -1},
    {"{" TENSOR("a", "F32", "[2]", "[0,8]") "," TENSOR("a", "F32", "[2]", "[8,16]") "," META "}",
     "tensor twice", 16, -1},
    {"{" TENSOR("a", "F32", "[2]", "[0,8]") "," TENSOR("\\u0061", "F32", "[2]", "[8,16]") "," META "}",
     "tensor twice", 16, -1},
    {"{" META "," META "}", "tensor twice", 0, -1},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[4],\"shape\":[4],\"data_offsets\":[0,16]}," META "}", "key twice",
     16, -1},
    {"{\"__metadata__\":{\"aftermap.format\":\"1\",\"aftermap.sha256\":\"DIGEST\",\"k\":\"1\",\"k\":\"2\"}}",
     "key twice", 0, -1},
    {"{" TENSOR("a", "F16", "[8]", "[0,16]") "," META "}", "unknown dtype", 16, -1},
    {"{" TENSOR("a", "f32", "[4]", "[0,16]") "," META "}", "unknown dtype", 16, -1},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[4]}," META "}", "dtype, shape and data_offsets", 16, -1},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[0,16],\"extra\":1}," META "}", "dtype, shape",
     16, -1},
    {"{\"a\":{\"Dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[0,16]}," META "}", "dtype, shape", 16, -1},
    {"{\"a\":[1,2,3]," META "}", "dtype, shape", 16, -1},
    {"{\"a\":\"F32\"," META "}", "dtype, shape", 16, -1},
    {"{" TENSOR("a", "F32", "[1,1,1,2,2]", "[0,16]") "," META "}", "four whole numbers", 16, -1},
    {"{" TENSOR("a", "F32", "[4.5]", "[0,16]") "," META "}", "four whole numbers", 16, -1},
    {"{" TENSOR("a", "F32", "[-4]", "[0,16]") "," META "}", "four whole numbers", 16, -1},
    {"{" TENSOR("a", "F32", "[1e300]", "[0,16]") "," META "}", "four whole numbers", 16, -1},
    {"{" TENSOR("a", "F32", "[\"4\"]", "[0,16]") "," META "}", "four whole numbers", 16, -1},
    {"{" TENSOR("a", "F32", "[4294967296,4294967296]", "[0,0]") "," META "}", "overflows", 0, -1},
    {"{" TENSOR("a", "F32", "[4611686018427387904]", "[0,0]") "," META "}", "four whole numbers", 0, -1},
    {"{" TENSOR("a", "F64", "[2147483648,1073741824]", "[0,0]") "," META "}", "overflows", 0, -1},
    {"{" TENSOR("a", "F32", "[4]", "[0,16,0]") "," META "}", "two whole numbers", 16, -1},
    {"{" TENSOR("a", "F32", "[4]", "[16]") "," META "}", "two whole numbers", 16, -1},
    {"{" TENSOR("a", "F32", "[4]", "[-16,0]") "," META "}", "two whole numbers", 16, -1},
    {"{" TENSOR("a", "F32", "[4]", "[0,12]") "," META "}", "does not fit its offsets", 16, -1},
    {"{" TENSOR("a", "F32", "[4]", "[16,0]") "," META "}", "does not fit its offsets", 16, -1},
    {"{" TENSOR("a", "F32", "[2]", "[0,8]") "," TENSOR("b", "F32", "[1]", "[12,16]") "," META "}", "hole", 16,
     -1},
    {"{" TENSOR("a", "F32", "[3]", "[4,16]") "," META "}", "hole", 16, -1},
    {"{" TENSOR("a", "F32", "[3]", "[0,12]") "," TENSOR("b", "F32", "[2]", "[8,16]") "," META "}", "overlap",
     16, -1},
    {"{" TENSOR("a", "F32", "[4]", "[0,16]") "," TENSOR("b", "F32", "[4]", "[0,16]") "," META "}", "overlap",
     16, -1},
    {"{" TENSOR("a", "U8", "[1]", "[0,1]") "," TENSOR("b", "F32", "[3]", "[1,13]") "," META "}",
     "not aligned", 13, -1},
    {"{" TENSOR("a", "F32", "[5]", "[0,20]") "," META "}", "shorter than its header says", 16, -1},
    {"{" TENSOR("a", "F32", "[1099511627776]", "[0,4398046511104]") "," META "}",
     "shorter than its header says", 16, -1},
    {"{" TENSOR("a", "F32", "[3]", "[0,12]") "," META "}", "longer than its header says", 16, -1},
    {"{" TENSOR("a", "F32", "[4]", "[0,16]") "}", "no metadata", 16, -1},
    {"{" TENSOR("a", "F32", "[4]", "[0,16]") ",\"__metadata__\":[]}", "no metadata", 16, -1},
    {"{\"__metadata__\":{\"aftermap.format\":1,\"aftermap.sha256\":\"DIGEST\"}}", "not all strings", 0, -1},
    {"{\"__metadata__\":{\"aftermap.sha256\":\"DIGEST\"}}", "aftermap.format", 0, -1},
    {"{\"__metadata__\":{\"aftermap.format\":\"2\",\"aftermap.sha256\":\"DIGEST\"}}", "format \"2\"", 0, -1},
    {"{\"__metadata__\":{\"aftermap.format\":\"1\"}}", "aftermap.sha256", 0, -1},
    {"{\"__metadata__\":{\"aftermap.format\":\"1\",\"aftermap.sha256\":\"00\"}}", "digest", 0, -1},
};

static void test_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        put_parts(refused[i].header, eight, (size_t)refused[i].data_bytes, refused[i].length);
        expect_refusal(refused[i].words);
    }
}

/* 4 GiB of data in a file with holes: refused before memory is taken. */
static void test_too_large(void **state)
{
    struct stat st;
    (void)state;
    put_parts("{" TENSOR("a", "U8", "[4294967297]", "[0,4294967297]") "," META "}", eight, 0, -1);
    assert_int_equal(stat(path, &st), 0);
    if (truncate(path, st.st_size + 4294967297) != 0)
        skip();
    expect_refusal("more than 4 GiB");
}

static struct checkpoint_tensor tensor(const char *name, enum checkpoint_dtype dtype, int n_dims, int64_t d0,
                                       int64_t d1, const void *data)
{
    return (struct checkpoint_tensor){name, dtype, n_dims, {d0, d1}, data};
}

static const float weights[6] = {1.5f, -2.25f, 3e-30f, 4e30f, -0.0f, 6};
static const double moments[2] = {1.0 / 3.0, -1e300};
static const int64_t ids[3] = {9007199254740993, -5, 0};
static const int32_t counts[2] = {-2147483647, 7};
static const uint8_t bytes[5] = {0, 1, 127, 128, 255};
static const struct checkpoint_meta meta[] = {
    {"net.preset", "lite"},
    {"source", "a \"quoted\"\n\\name\x01"},
    {"place", "J\xC3\xB6plin"},
    {"raw", "bad\xff\xfe!"},
};

static bool write_mixed(struct err *e)
{
    const struct checkpoint_tensor tensors[] = {
        tensor("state.flags", CHECKPOINT_U8, 1, 5, 0, bytes),
        tensor("ema.w", CHECKPOINT_F32, 2, 2, 3, weights),
        tensor("state.ids", CHECKPOINT_I64, 1, 3, 0, ids),
        tensor("state.none", CHECKPOINT_F32, 1, 0, 0, weights),
        tensor("state.counts", CHECKPOINT_I32, 1, 2, 0, counts),
        tensor("opt.moments", CHECKPOINT_F64, 1, 2, 0, moments),
        tensor("state.scalar", CHECKPOINT_F32, 0, 0, 0, weights),
    };
    return checkpoint_write(path, tensors, 7, meta, 4, e);
}

static void test_round_trip(void **state)
{
    struct err e = {0};
    float w[6];
    (void)state;
    if (!write_mixed(&e))
        fail_msg("%s", e.msg);
    struct checkpoint *c = checkpoint_open(path, &e);
    if (!c)
        fail_msg("%s", e.msg);
    assert_int_equal(checkpoint_count(c), 7);
    assert_true(checkpoint_copy(c, "ema.w", CHECKPOINT_F32, 6, w, &e));
    assert_memory_equal(w, weights, sizeof w);
    const struct checkpoint_tensor *t = checkpoint_find(c, "state.ids");
    assert_true(t && t->dtype == CHECKPOINT_I64 && t->n_dims == 1 && t->dims[0] == 3);
    assert_memory_equal(t->data, ids, sizeof ids);
    assert_memory_equal(checkpoint_find(c, "opt.moments")->data, moments, sizeof moments);
    assert_memory_equal(checkpoint_find(c, "state.counts")->data, counts, sizeof counts);
    assert_memory_equal(checkpoint_find(c, "state.flags")->data, bytes, sizeof bytes);
    assert_null(checkpoint_find(c, "ema.x"));
    for (int i = 0; i < checkpoint_count(c); i++)
        assert_ptr_equal(checkpoint_find(c, checkpoint_at(c, i)->name), checkpoint_at(c, i));
    assert_int_equal(checkpoint_meta_count(c), 6);
    assert_string_equal(checkpoint_meta_get(c, "source"), meta[1].value);
    assert_string_equal(checkpoint_meta_get(c, "place"), meta[2].value);
    assert_string_equal(checkpoint_meta_get(c, "raw"),
                        "bad\xEF\xBF\xBD\xEF\xBF\xBD!"); /* not UTF-8: replaced */
    assert_string_equal(checkpoint_meta_get(c, "aftermap.sha256"), checkpoint_digest(c));
    assert_null(checkpoint_meta_get(c, "absent"));

    assert_false(checkpoint_copy(c, "ema.x", CHECKPOINT_F32, 6, w, &e));
    assert_true(e.code == ERR_MODEL && strstr(e.msg, "ema.x") && strstr(e.msg, path));
    assert_false(checkpoint_copy(c, "ema.w", CHECKPOINT_F32, 5, w, &e));
    assert_false(checkpoint_copy(c, "ema.w", CHECKPOINT_I32, 6, w, &e));
    assert_true(e.code == ERR_MODEL && strstr(e.msg, "ema.w"));

    /* Written again with what was read, keys of the writer's own included: the same file. */
    char first[65], second[65];
    struct checkpoint_tensor copies[7];
    struct checkpoint_meta metas[6];
    for (int i = 0; i < 7; i++)
        copies[i] = *checkpoint_at(c, i);
    for (int i = 0; i < 6; i++)
        metas[i] = checkpoint_meta_at(c, i);
    assert_true(file_sha256(path, first, &e) && checkpoint_write(path, copies, 7, metas, 6, &e));
    assert_true(file_sha256(path, second, &e));
    assert_string_equal(first, second);
    checkpoint_close(c);
}

/* Any byte changed or cut off must be noticed, whichever it is. */
static void test_tampered(void **state)
{
    struct err e = {0};
    size_t size;
    (void)state;
    assert_true(write_mixed(&e));
    char *good = file_read(path, 1 << 16, &size, &e), *bad = malloc(size + 1);
    assert_true(good && bad);
    for (size_t cut = 0; cut < size; cut++) {
        put_file(good, cut);
        expect_refusal("");
    }
    memcpy(bad, good, size);
    bad[size] = 0;
    put_file(bad, size + 1);
    expect_refusal("longer than its header says");
    uint64_t header;
    memcpy(&header, good, 8);
    assert_int_equal((8 + header) % 64, 0);
    for (size_t i = 8 + header; i < size; i++) {
        memcpy(bad, good, size);
        bad[i] = (char)(bad[i] ^ 1);
        put_file(bad, size);
        expect_refusal("digest");
    }
    for (size_t i = 0; i < 8 + header;
         i++) { /* in the header a change may be harmless (a metadata value), never a crash */
        memcpy(bad, good, size);
        bad[i] = (char)(bad[i] ^ 0x10);
        put_file(bad, size);
        checkpoint_close(checkpoint_open(path, &e));
    }
    free(good);
    free(bad);
}

static const char python[] =
    "import json,struct,hashlib,sys\n"
    "b=open(sys.argv[1],'rb').read()\n"
    "n=struct.unpack('<Q',b[:8])[0]\n"
    "assert (8+n)%64==0 and b[8:9]==b'{'\n"
    "h=json.loads(b[8:8+n].decode('utf-8'))\n"
    "m=h.pop('__metadata__'); d=b[8+n:]\n"
    "assert all(isinstance(v,str) for v in m.values())\n"
    "assert m['aftermap.format']=='1' and m['aftermap.sha256']==hashlib.sha256(d).hexdigest()\n"
    "assert m['place']=='J\\u00f6plin' and m['net.preset']=='lite'\n"
    "w={'F32':'f','F64':'d','I64':'q','I32':'i','U8':'B'}; at=0; t={}\n"
    "for k,v in sorted(h.items(),key=lambda p:p[1]['data_offsets']):\n"
    "    a,z=v['data_offsets']; c=1\n"
    "    for s in v['shape']: c*=s\n"
    "    f='<%d%s'%(c,w[v['dtype']])\n"
    "    assert a==at and z-a==struct.calcsize(f) and a%struct.calcsize(w[v['dtype']])==0\n"
    "    t[k]=(v['shape'],struct.unpack(f,d[a:z])); at=z\n"
    "assert at==len(d) and len(t)==7\n"
    "assert t['ema.w'][0]==[2,3] and t['ema.w'][1][:2]==(1.5,-2.25)\n"
    "assert t['state.ids'][1]==(9007199254740993,-5,0) and t['state.counts'][1]==(-2147483647,7)\n"
    "assert t['state.flags'][1]==(0,1,127,128,255) and t['opt.moments'][1]==(1/3,-1e300)\n"
    "assert t['state.scalar']==([],(1.5,)) and t['state.none']==([0],())\n";

static void test_python_reads(void **state)
{
    struct err e = {0};
    char script[96], command[256];
    (void)state;
    if (system("python3 -c pass >/dev/null 2>&1") != 0)
        skip();
    assert_true(write_mixed(&e));
    snprintf(script, sizeof script, "%s/read.py", dir);
    assert_true(file_write_text(script, python, &e));
    snprintf(command, sizeof command, "python3 %s %s", script, path);
    int status = system(command);
    unlink(script);
    assert_int_equal(status, 0);
}

static int count_files(void)
{
    int n = 0;
    DIR *d = opendir(dir);
    assert_non_null(d);
    for (struct dirent *entry; (entry = readdir(d));)
        n += entry->d_name[0] != '.';
    closedir(d);
    return n;
}

/* A write that meets a full disk half way (here: a file size limit) leaves the old file and nothing else. */
static void test_failed_write(void **state)
{
    struct err e = {0};
    struct rlimit old, tight;
    size_t n = 100000;
    float *large = calloc(n, sizeof *large);
    struct checkpoint_tensor t = tensor("net.w", CHECKPOINT_F32, 1, (int64_t)n, 0, large);
    char before[65], after[65];
    (void)state;
    assert_non_null(large);
    assert_true(write_mixed(&e) && file_sha256(path, before, &e));
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    tight = old;
    tight.rlim_cur = 65536;
    void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &tight), 0);
    bool written = checkpoint_write(path, &t, 1, NULL, 0, &e);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
    signal(SIGXFSZ, handler);
    assert_false(written);
    assert_non_null(strstr(e.msg, path));
    assert_true(file_sha256(path, after, &e));
    assert_string_equal(before, after);
    assert_int_equal(count_files(), 1);
    assert_false(checkpoint_write("no-such-directory/m.safetensors", &t, 1, NULL, 0, &e));
    free(large);
}

static void test_header_too_large(void **state)
{
    struct err e = {0};
    struct checkpoint_meta m = {"settings", NULL};
    char *value = calloc(1, (1 << 20) + 1), before[65], after[65];
    (void)state;
    assert_non_null(value);
    m.value = memset(value, 'x', 1 << 20);
    assert_true(write_mixed(&e) && file_sha256(path, before, &e));
    assert_false(checkpoint_write(path, NULL, 0, &m, 1, &e));
    assert_int_equal(e.code, ERR_MODEL);
    assert_true(file_sha256(path, after, &e));
    assert_string_equal(before, after);
    free(value);
}

static void test_not_a_file(void **state)
{
    struct err e = {0};
    char pipe[64];
    (void)state;
    assert_null(checkpoint_open("no-such-file.safetensors", &e));
    assert_int_equal(e.code, ERR_NOT_FOUND);
    assert_null(checkpoint_open(dir, &e));
    assert_int_equal(e.code, ERR_MODEL);
    snprintf(pipe, sizeof pipe, "%s/pipe", dir);
    assert_int_equal(mkfifo(pipe, 0600), 0);
    assert_null(checkpoint_open(pipe, &e)); /* and does not wait for a writer */
    assert_int_equal(e.code, ERR_MODEL);
    unlink(pipe);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_minimal_accepted), cmocka_unit_test(test_refused),
        cmocka_unit_test(test_too_large),        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_tampered),         cmocka_unit_test(test_python_reads),
        cmocka_unit_test(test_failed_write),     cmocka_unit_test(test_header_too_large),
        cmocka_unit_test(test_not_a_file),
    };
    return cmocka_run_group_tests(tests, group_open, group_close);
}
