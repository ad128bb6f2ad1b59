/* SPDX-License-Identifier: Apache-2.0
 * telemetry.c - counters and their text (telemetry.h). */
#include "web/telemetry.h"

#include "web/routes.h"

static const int64_t bound_us[TELEMETRY_BUCKETS] = {1000,   5000,    10000,   25000,   100000,
                                                    250000, 1000000, 2500000, 10000000};

void telemetry_count(struct telemetry *t, int route, int status, int64_t us, uint64_t bytes)
{
    int row = route < 0 || route >= TELEMETRY_MAX_ROUTES ? TELEMETRY_MAX_ROUTES : route, k = 0;
    atomic_fetch_add(&t->requests[row][status / 100 % 6], 1);
    while (k < TELEMETRY_BUCKETS && us > bound_us[k])
        k++;
    atomic_fetch_add(&t->bucket[k], 1);
    atomic_fetch_add(&t->duration_us, (unsigned long long)us);
    atomic_fetch_add(&t->bytes, bytes);
}

void telemetry_write(struct telemetry *t, FILE *out)
{
    int n;
    const struct route *table = routes_table(&n);
    unsigned long long sum = 0;
    fputs("# HELP aftermap_requests_total Requests answered.\n# TYPE aftermap_requests_total counter\n", out);
    for (int i = 0; i <= TELEMETRY_MAX_ROUTES; i++)
        for (int k = 1; k < 6; k++) {
            unsigned long long v = atomic_load(&t->requests[i][k]);
            if (v && (i < n || i == TELEMETRY_MAX_ROUTES))
                fprintf(out, "aftermap_requests_total{route=\"%s\",code=\"%dxx\"} %llu\n",
                        i < n ? table[i].id : "none", k, v);
        }
    fputs("# HELP aftermap_request_seconds Time from the whole request to the answer's first byte.\n"
          "# TYPE aftermap_request_seconds histogram\n",
          out);
    for (int k = 0; k < TELEMETRY_BUCKETS; k++) {
        sum += atomic_load(&t->bucket[k]);
        fprintf(out, "aftermap_request_seconds_bucket{le=\"%g\"} %llu\n", (double)bound_us[k] * 1e-6, sum);
    }
    sum += atomic_load(&t->bucket[TELEMETRY_BUCKETS]);
    fprintf(out,
            "aftermap_request_seconds_bucket{le=\"+Inf\"} %llu\naftermap_request_seconds_sum %.6f\n"
            "aftermap_request_seconds_count %llu\n",
            sum, (double)atomic_load(&t->duration_us) * 1e-6, sum);
    fprintf(
        out,
        "# HELP aftermap_sent_bytes_total Bytes of bodies sent.\n# TYPE aftermap_sent_bytes_total counter\n"
        "aftermap_sent_bytes_total %llu\n"
        "# HELP aftermap_limited_total Requests refused for their rate.\n# TYPE aftermap_limited_total "
        "counter\n"
        "aftermap_limited_total %llu\n"
        "# HELP aftermap_active_requests Requests under way.\n# TYPE aftermap_active_requests gauge\n"
        "aftermap_active_requests %lld\n",
        atomic_load(&t->bytes), atomic_load(&t->limited), atomic_load(&t->active));
}
