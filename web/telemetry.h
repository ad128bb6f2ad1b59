/* SPDX-License-Identifier: Apache-2.0
 *
 * telemetry.h - what /metrics says (Prometheus text format 0.0.4): requests by route and class of status, their
 * durations as a histogram, bytes sent, requests refused for their rate. Threads: atomics only. */
#ifndef AM_TELEMETRY_H
#define AM_TELEMETRY_H

#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>

enum { TELEMETRY_MAX_ROUTES = 80, TELEMETRY_BUCKETS = 9 };

struct telemetry {
    atomic_ullong requests[TELEMETRY_MAX_ROUTES + 1][6]; /* [route][status / 100]; the last row: no route */
    atomic_ullong bucket[TELEMETRY_BUCKETS + 1];         /* the last: slower than all bounds */
    atomic_ullong duration_us, bytes, limited;
    atomic_llong active;
};

void telemetry_count(struct telemetry *t, int route, int status, int64_t us, uint64_t bytes);
void telemetry_write(struct telemetry *t, FILE *out); /* all but what the caller adds */

#endif
