/* SPDX-License-Identifier: Apache-2.0
 * file.c - atomic outputs, digests and small path helpers declared in file.h. SHA-256 is nettle's. */
#include "models/base/file.h"

#include "models/base/mem.h"
#include <errno.h>
#include <fcntl.h>
#include <nettle/sha2.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct file_out {
    FILE *stream;
    char *path, *temp;
};

const char *file_base(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

bool file_temp_name(const char *path, char *out, size_t out_size, struct err *e)
{
    const char *dot = strrchr(file_base(path), '.');
    if (!dot || dot == file_base(path))
        dot = path + strlen(path);
    int n = snprintf(out, out_size, "%.*s.tmp-%ld%s", (int)(dot - path), path, (long)getpid(), dot);
    if (n < 0 || (size_t)n >= out_size)
        return err_set(e, ERR_INPUT, "%s: the path is too long", path);
    return true;
}

static bool sync_parent(const char *path, struct err *e)
{
    char dir[4096];
    const char *base = file_base(path);
    int n = base == path ? snprintf(dir, sizeof dir, ".")
                         : snprintf(dir, sizeof dir, "%.*s", (int)(base - path), path);
    if (n < 0 || (size_t)n >= sizeof dir)
        return err_set(e, ERR_INPUT, "%s: the path is too long", path);
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return err_errno(e, ERR_RUNTIME, errno, "%s", dir);
    int failed = fsync(fd) != 0 && errno != EINVAL && errno != EROFS ? errno : 0;
    close(fd);
    return failed ? err_errno(e, ERR_RUNTIME, failed, "%s", dir) : true;
}

struct file_out *file_out_open(const char *path, struct err *e)
{
    char temp[4096];
    if (!file_temp_name(path, temp, sizeof temp, e))
        return NULL;
    struct file_out *f = mem_array(1, sizeof *f, "an output file", e);
    if (!f)
        return NULL;
    f->path = mem_strdup(path, e);
    f->temp = mem_strdup(temp, e);
    if (f->path && f->temp) {
        f->stream = fopen(temp, "wbe");
        if (f->stream)
            return f;
        err_errno(e, ERR_RUNTIME, errno, "%s cannot be written", path);
    }
    free(f->path);
    free(f->temp);
    free(f);
    return NULL;
}

FILE *file_out_stream(struct file_out *f)
{
    return f->stream;
}

const char *file_out_temp(const struct file_out *f)
{
    return f->temp;
}

bool file_out_commit(struct file_out *f, struct err *e)
{
    bool ok = true;
    if (ferror(f->stream) || fflush(f->stream) != 0 || fsync(fileno(f->stream)) != 0)
        ok = err_errno(e, ERR_RUNTIME, errno, "%s cannot be written", f->path);
    if (fclose(f->stream) != 0 && ok)
        ok = err_errno(e, ERR_RUNTIME, errno, "%s cannot be written", f->path);
    f->stream = NULL;
    if (ok && rename(f->temp, f->path) != 0)
        ok = err_errno(e, ERR_RUNTIME, errno, "%s cannot be replaced", f->path);
    if (ok)
        ok = sync_parent(f->path, e);
    else
        unlink(f->temp);
    free(f->path);
    free(f->temp);
    free(f);
    return ok;
}

void file_out_abort(struct file_out *f)
{
    if (!f)
        return;
    if (f->stream)
        fclose(f->stream);
    unlink(f->temp);
    free(f->path);
    free(f->temp);
    free(f);
}

bool file_rename(const char *from, const char *to, struct err *e)
{
    int fd = open(from, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return err_errno(e, ERR_RUNTIME, errno, "%s", from);
    int failed = fsync(fd) != 0 && errno != EINVAL ? errno : 0;
    close(fd);
    if (failed)
        return err_errno(e, ERR_RUNTIME, failed, "%s cannot be written", to);
    if (rename(from, to) != 0)
        return err_errno(e, ERR_RUNTIME, errno, "%s cannot be replaced", to);
    return sync_parent(to, e);
}

bool file_write_text(const char *path, const char *text, struct err *e)
{
    struct file_out *f = file_out_open(path, e);
    if (!f)
        return false;
    fputs(text, f->stream); /* a short write shows in ferror() at commit */
    return file_out_commit(f, e);
}

char *file_read(const char *path, size_t max_bytes, size_t *size, struct err *e)
{
    char *data = NULL;
    FILE *f = fopen(path, "rbe");
    struct stat st;
    if (!f || fstat(fileno(f), &st) != 0) {
        err_errno(e, ERR_INPUT, errno, "%s cannot be read", path);
        goto out;
    }
    if (!S_ISREG(st.st_mode)) {
        err_set(e, ERR_INPUT, "%s is not a file", path);
        goto out;
    }
    if ((uintmax_t)st.st_size > max_bytes) {
        err_set(e, ERR_INPUT, "%s is larger than the %zu bytes allowed here", path, max_bytes);
        goto out;
    }
    data = mem_array((size_t)st.st_size + 1, 1, path, e);
    if (data && fread(data, 1, (size_t)st.st_size, f) != (size_t)st.st_size) {
        err_set(e, ERR_INPUT, "%s cannot be read to its end", path);
        free(data);
        data = NULL;
    }
    if (data && size)
        *size = (size_t)st.st_size;
out:
    if (f)
        fclose(f);
    return data;
}

static void hex_of(const uint8_t digest[SHA256_DIGEST_SIZE], char hex[65])
{
    static const char digits[] = "0123456789abcdef";
    for (int i = 0; i < SHA256_DIGEST_SIZE; i++) {
        hex[2 * i] = digits[digest[i] >> 4];
        hex[2 * i + 1] = digits[digest[i] & 15];
    }
    hex[64] = '\0';
}

bool file_sha256(const char *path, char hex[65], struct err *e)
{
    struct sha256_ctx ctx;
    uint8_t digest[SHA256_DIGEST_SIZE];
    static const size_t chunk = 1 << 20;
    hex[0] = '\0';
    if (file_is_dir(path) || strncmp(path, "/vsi", 4) == 0)
        return err_set(e, ERR_INPUT, "%s is not a plain file", path);
    FILE *f = fopen(path, "rbe");
    if (!f)
        return err_errno(e, ERR_INPUT, errno, "%s cannot be read", path);
    uint8_t *buf = mem_array(chunk, 1, "a read buffer", e);
    bool ok = buf != NULL;
    sha256_init(&ctx);
    for (size_t n; ok && (n = fread(buf, 1, chunk, f)) > 0;)
        sha256_update(&ctx, n, buf);
    if (ok && ferror(f))
        ok = err_set(e, ERR_INPUT, "%s cannot be read to its end", path);
    fclose(f);
    free(buf);
    if (!ok)
        return false;
    sha256_digest(&ctx, sizeof digest, digest);
    hex_of(digest, hex);
    return true;
}

void file_sha256_buffer(const void *data, size_t size, char hex[65])
{
    struct sha256_ctx ctx;
    uint8_t digest[SHA256_DIGEST_SIZE];
    sha256_init(&ctx);
    sha256_update(&ctx, size, data);
    sha256_digest(&ctx, sizeof digest, digest);
    hex_of(digest, hex);
}

bool file_exists(const char *path)
{
    return access(path, F_OK) == 0;
}

bool file_is_dir(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

bool file_make_dirs(const char *path, struct err *e)
{
    char part[4096];
    size_t n = strlen(path);
    if (n == 0 || n >= sizeof part)
        return err_set(e, ERR_INPUT, "'%s' is not a usable folder name", path);
    memcpy(part, path, n + 1);
    for (size_t i = 1; i <= n; i++) {
        if (part[i] != '/' && part[i] != '\0')
            continue;
        char c = part[i];
        part[i] = '\0';
        if (mkdir(part, 0777) != 0 && !(errno == EEXIST && file_is_dir(part)))
            return err_errno(e, ERR_RUNTIME, errno, "folder %s cannot be made", part);
        part[i] = c;
    }
    return true;
}

bool file_join(char *out, size_t out_size, const char *dir, const char *name, struct err *e)
{
    size_t n = strlen(dir);
    int k = snprintf(out, out_size, "%s%s%s", dir, n && dir[n - 1] == '/' ? "" : "/", name);
    if (k < 0 || (size_t)k >= out_size)
        return err_set(e, ERR_INPUT, "%s/%s: the path is too long", dir, name);
    return true;
}
