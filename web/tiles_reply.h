/* SPDX-License-Identifier: Apache-2.0
 *
 * tiles_reply.h - one tile as the answer, whichever way the request names it: 200, 204 where the layer is empty, 304, 404
 * outside the pyramid. */
#ifndef AM_TILES_REPLY_H
#define AM_TILES_REPLY_H

#include "web/http.h"
#include "web/service.h"

void tiles_reply(const struct service *s, const struct http_request *q, const struct assessment *as,
                 const char *layer_name, const char *z_text, const char *x_text, const char *y_text,
                 struct http_reply *a);

#endif
