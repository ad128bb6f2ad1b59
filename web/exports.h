/* SPDX-License-Identifier: Apache-2.0
 * exports.h - what other documents take from exports.c and process_routes.c. */
#ifndef AM_EXPORTS_H
#define AM_EXPORTS_H

#include "web/jobs.h"
#include "web/service.h"

/* Buildings, layers, box, revision and links of what is shown of an assessment; as NULL: nothing yet. */
void exports_describe(cJSON *doc, const struct service *s, const struct http_request *q,
                      const struct assessment *as, const char *id);
/* A job as statusInfo of OGC API - Processes. */
cJSON *exports_job(const struct http_request *q, const struct jobs_info *j);

/* Answers with a file, whole or by byte range, to be saved under a name; 404 where there is none. `type` is
 * static text. */
void exports_send(const struct http_request *q, struct http_reply *a, const char *path, const char *type,
                  const char *name);

#endif
