/* SPDX-License-Identifier: Apache-2.0
 *
 * refs.h - files that a client may name: an upload's id, or a path below the data root. Nothing else is ever opened:
 * no absolute path, no "..", no hidden name, nothing that starts "/vsi" or "<" or holds "://", and no link that leads out
 * of the root. */
#ifndef AM_REFS_H
#define AM_REFS_H

#include "models/base/err.h"
#include <stddef.h>

enum { REFS_PATH_SIZE = 4096, REFS_UPLOAD_ID_SIZE = 36 };

bool refs_is_upload(const char *ref); /* has the form of an upload's id */

/* The absolute path of the file that ref stands for. ERR_INPUT with a sentence otherwise. */
bool refs_resolve(const char *root, const char *ref, char path[REFS_PATH_SIZE], struct err *e);
/* The same for a folder; "" is the root. */
bool refs_resolve_folder(const char *root, const char *name, char path[REFS_PATH_SIZE], struct err *e);

/* ROOT/.uploads[/name] */
bool refs_upload_path(const char *root, const char *name, char path[REFS_PATH_SIZE], struct err *e);

#endif
