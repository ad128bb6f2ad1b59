/* SPDX-License-Identifier: Apache-2.0
 *
 * err.h - the one error record, and the one table that says what an error code means to a shell and to an
 * HTTP client.
 *
 * A function that can fail returns false (or NULL) and fills the caller's record. Each level may prefix where
 * it was, so the message reads from the outside in: "assess: post.tif: has no coordinate system; assign one
 * with gdal_edit.py". A message names the file and the mend. Broken promises of our own are asserts, never
 * errors.
 *
 * Ownership: the record is plain storage of the caller; nothing in it needs freeing. Threads: one record per
 * thread. */
#ifndef AM_ERR_H
#define AM_ERR_H

#include <stdbool.h>

/* X(name, text, exit status, HTTP status). Exit statuses are documented in the man page. */
#define ERR_TABLE(X)                                                                                         \
    X(OK, "no error", 0, 200)                                                                                \
    X(RUNTIME, "runtime failure", 1, 500)                                                                    \
    X(USAGE, "wrong use of the command", 2, 400)                                                             \
    X(INPUT, "input rejected", 3, 422)                                                                       \
    X(NOT_FOUND, "not found", 3, 404)                                                                        \
    X(CONFLICT, "changed by somebody else in the meantime", 3, 409)                                          \
    X(STRICT, "finished with warnings under --strict", 4, 200)                                               \
    X(RESOURCE, "out of memory, disk or time", 5, 507)                                                       \
    X(MODEL, "incompatible or corrupt model", 6, 422)                                                        \
    X(SERVE, "cannot bind or serve", 7, 503)                                                                 \
    X(INTERRUPTED, "interrupted", 130, 503)

enum err_code {
#define ERR_ENUM(name, text, exit_status, http_status) ERR_##name,
    ERR_TABLE(ERR_ENUM)
#undef ERR_ENUM
        ERR_CODE_COUNT
};

struct err {
    enum err_code code;
    char msg[768];
};

/* Sets code and message (printf style; cut with an ellipsis when too long). Returns false so that callers can
 * write `return err_set(...)`. `e` may be NULL when the caller does not care. */
bool err_set(struct err *e, enum err_code code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* Puts "PREFIX: " before the message. Returns false. */
bool err_prefix(struct err *e, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Appends strerror(saved_errno) in words and picks RESOURCE for ENOSPC, EDQUOT, ENOMEM, EMFILE, NOT_FOUND for
 * ENOENT, otherwise `code`. Returns false. */
bool err_errno(struct err *e, enum err_code code, int saved_errno, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

void err_clear(struct err *e);
const char *err_name(enum err_code code); /* "INPUT" */
const char *err_text(enum err_code code);
int err_exit_status(enum err_code code);
int err_http_status(enum err_code code);

#endif
