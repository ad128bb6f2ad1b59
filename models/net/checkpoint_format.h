/* SPDX-License-Identifier: Apache-2.0
 *
 * checkpoint_format.h - what the writer (checkpoint.c) and the reader (checkpoint_read.c) agree upon; private
 * to them. */
#ifndef AM_CHECKPOINT_FORMAT_H
#define AM_CHECKPOINT_FORMAT_H

#include "models/net/checkpoint.h"

#define CHECKPOINT_KEY_FORMAT "aftermap.format"
#define CHECKPOINT_KEY_DIGEST "aftermap.sha256"
#define CHECKPOINT_FORMAT                                                                                    \
    "1" /* rises only when structure or meaning changes; new metadata keys do not raise it */

enum { CHECKPOINT_N_DTYPES = CHECKPOINT_U8 + 1, CHECKPOINT_MAX_HEADER = 1 << 20, CHECKPOINT_MAX_DEPTH = 4 };

const char *checkpoint_dtype_name(enum checkpoint_dtype dtype);
size_t checkpoint_dtype_size(enum checkpoint_dtype dtype);
bool checkpoint_is_own_key(const char *key);
/* Length of the UTF-8 sequence at s[0..n), n > 0; 0 when it is malformed (overlong, surrogate, beyond
 * U+10FFFF, cut). */
size_t checkpoint_utf8_length(const unsigned char *s, size_t n);

#endif
