/* SPDX-License-Identifier: Apache-2.0
 * assess_routes.h - an assessment of the store as its JSON document. */
#ifndef AM_ASSESS_ROUTES_H
#define AM_ASSESS_ROUTES_H

#include "web/workflow.h"

/* The caller holds the reading side of the maps' lock. */
cJSON *assess_document(const struct service *s, const struct http_request *q,
                       const struct store_assessment *a);
/* All of them, with what else GET /assessments says. */
void assess_reply_list(const struct service *s, const struct http_request *q, struct http_reply *a);
/* One, with its entity tag; false when the store has none of this id. */
bool assess_reply_one(const struct service *s, const struct http_request *q, const char *aid,
                      struct http_reply *a);

#endif
