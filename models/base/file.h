/* SPDX-License-Identifier: Apache-2.0
 *
 * file.h - whole outputs or none. An output is written under a temporary sibling name and renamed when
 * complete, so an error, a full disk or Ctrl-C leaves what was there before. */
#ifndef AM_FILE_H
#define AM_FILE_H

#include "models/base/err.h"
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

struct file_out; /* a pending output */

/* Opens a temporary sibling of `path` for writing. NULL on error (directory missing or not writable). */
struct file_out *file_out_open(const char *path, struct err *e);
FILE *file_out_stream(struct file_out *f);
const char *
file_out_temp(const struct file_out *f); /* the temporary's path, for libraries that open by name */
/* Flushes, fsyncs, renames over `path`, fsyncs the directory and frees f. On failure the temporary is
 * removed, the old file stays, f is freed all the same. */
bool file_out_commit(struct file_out *f, struct err *e);
void file_out_abort(struct file_out *f); /* removes the temporary, frees f; accepts NULL */

/* For libraries that create files or folders by name: a temporary sibling name in `out` (PATH + ".tmp-PID" +
 * the extension of PATH, so that drivers still recognise it), and the rename that ends it. */
bool file_temp_name(const char *path, char *out, size_t out_size, struct err *e);
bool file_rename(const char *from, const char *to, struct err *e); /* fsync file, rename, fsync directory */

bool file_write_text(const char *path, const char *text, struct err *e); /* atomic */

/* Whole file into a NUL-terminated heap buffer (caller frees); refuses more than max_bytes. */
char *file_read(const char *path, size_t max_bytes, size_t *size, struct err *e);

/* SHA-256 of a file's bytes, as 64 hex digits and NUL. Directories and /vsi names give ERR_INPUT. */
bool file_sha256(const char *path, char hex[65], struct err *e);
void file_sha256_buffer(const void *data, size_t size, char hex[65]);

bool file_exists(const char *path);
bool file_is_dir(const char *path);
bool file_make_dirs(const char *path, struct err *e); /* like mkdir -p */
bool file_join(char *out, size_t out_size, const char *dir, const char *name, struct err *e);
const char *file_base(const char *path); /* the part after the last slash */

#endif
