/* SPDX-License-Identifier: Apache-2.0
 *
 * encode.h - gzip on the way out, for bodies of text that a client takes compressed (RFC 9110, 8.4 and 12.5.3). Files
 * are never compressed: byte ranges count the bytes of the file. */
#ifndef AM_ENCODE_H
#define AM_ENCODE_H

#include "web/http.h"

/* True when the Accept-Encoding value allows gzip; NULL does not. */
bool encode_is_wanted(const char *accept_encoding);

/* Compresses the body where that is wanted and pays; the entity tag gets "-gz" at its end then, because the bytes are
 * others. Leaves the reply as it is when memory is short. */
void encode_reply(const struct http_request *q, struct http_reply *a);

#endif
