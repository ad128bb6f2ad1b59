/* SPDX-License-Identifier: Apache-2.0
 *
 * event_cache.h - event folders kept open for requests. An event is opened when first asked for and again when its
 * event.json has changed (align and import make it anew); a few stay open, the longest unused goes.
 *
 * Ownership: event_cache_take() lends; event_cache_give() ends the loan. A folder that changed meanwhile stays as it
 * was for those who hold it. Threads: everything in a lent event may be read by many; chips only through
 * event_cache_chip(). */
#ifndef AM_EVENT_CACHE_H
#define AM_EVENT_CACHE_H

#include "geo/event.h"

struct event_cache;
struct event_loan; /* one holder's claim */

struct event_cache *event_cache_create(struct err *e);
void event_cache_free(struct event_cache *c); /* nothing is lent any more; accepts NULL */

/* dir: the event folder. NULL: ERR_NOT_FOUND when there is none yet, or what event_open says. */
struct event_loan *event_cache_take(struct event_cache *c, const char *dir, struct err *e);
void event_cache_give(struct event_cache *c, struct event_loan *l); /* accepts NULL */

const struct event *event_loan_event(const struct event_loan *l);
/* Index of the building with this id, event.n when there is none. */
size_t event_loan_find(const struct event_loan *l, const char *bldg_id);
/* One chip, [size,size,stored channels] on the heap; NULL on error. */
uint8_t *event_loan_chip(struct event_loan *l, int64_t page, struct err *e);
/* The building's post-event chip as the image has it, without its shift: px [size,size,bands], valid [size,size]. */
bool event_loan_unshifted(struct event_loan *l, size_t building, uint8_t *px, uint8_t *valid, struct err *e);

#endif
