/* SPDX-License-Identifier: Apache-2.0
 *
 * checkpoint.h - safetensors, used strictly: 8-byte little-endian header length, JSON header padded with
 * spaces so that the data starts on 64 bytes, row-major contiguous tensors. Python's safetensors opens it.
 * All metadata values are strings.
 *
 * The reader trusts nothing, in this order: size >= 8; header <= 1 MiB and inside the file; valid JSON object
 * of depth <= 4 without duplicate keys; known dtypes; shape products without overflow; offsets sorted,
 * contiguous, ending exactly at the file's end; aftermap.format known; aftermap.sha256 equals the digest of
 * the data section. Every refusal is ERR_MODEL with one sentence naming the file. The writer is atomic
 * (file.h). */
#ifndef AM_CHECKPOINT_H
#define AM_CHECKPOINT_H

#include "models/base/err.h"
#include <stddef.h>
#include <stdint.h>

enum checkpoint_dtype { CHECKPOINT_F32, CHECKPOINT_F64, CHECKPOINT_I64, CHECKPOINT_I32, CHECKPOINT_U8 };

struct checkpoint_tensor {
    const char *name; /* "ema.dense.kernel" */
    enum checkpoint_dtype dtype;
    int n_dims;
    int64_t dims[4];
    const void *data;
};

struct checkpoint_meta {
    const char *key, *value;
};

bool checkpoint_write(const char *path, const struct checkpoint_tensor *tensors, int n_tensors,
                      const struct checkpoint_meta *meta, int n_meta, struct err *e);

struct checkpoint;
struct checkpoint *checkpoint_open(const char *path, struct err *e); /* NULL on refusal */
void checkpoint_close(struct checkpoint *c);                         /* accepts NULL */
int checkpoint_count(const struct checkpoint *c);
const struct checkpoint_tensor *checkpoint_at(const struct checkpoint *c, int i);
const struct checkpoint_tensor *checkpoint_find(const struct checkpoint *c,
                                                const char *name); /* NULL when absent */
/* Copies a tensor that must exist with this dtype and element count; ERR_MODEL otherwise. */
bool checkpoint_copy(const struct checkpoint *c, const char *name, enum checkpoint_dtype dtype, size_t count,
                     void *dst, struct err *e);
const char *checkpoint_meta_get(const struct checkpoint *c, const char *key); /* NULL when absent */
int checkpoint_meta_count(const struct checkpoint *c);
struct checkpoint_meta checkpoint_meta_at(const struct checkpoint *c, int i);
const char *checkpoint_digest(const struct checkpoint *c); /* the data section's SHA-256, 64 hex digits */

#endif
