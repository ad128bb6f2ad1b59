/* SPDX-License-Identifier: Apache-2.0
 *
 * fuzz_labels.c - libFuzzer target over labels as they come in: the first byte chooses JSON, GeoJSON or CSV, the rest is
 * the body. Build and run as fuzz_query.c says; corpus tests/fuzz/labels. Rows without a problem must be labels that the
 * scale knows. */
#include "web/label_import.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct label_rows r = {0};
    struct err e = {0};
    if (!size)
        return 0;
    char *text = malloc(size);
    if (!text)
        return 0;
    memcpy(text, data + 1, size - 1);
    text[size - 1] = '\0'; /* a body has a NUL after it */
    bool ok = data[0] == 'j'   ? label_import_json(text, size - 1, &r, &e)
              : data[0] == 'g' ? label_import_geojson(text, size - 1, &r, &e)
                               : label_import_csv(text, size - 1, &r, &e);
    if (!ok && (e.code == ERR_OK || r.n))
        abort();
    for (size_t i = 0; i < r.n; i++) {
        const struct label_row *row = &r.item[i];
        if (!row->bldg_id || !row->note || !row->by || !row->reason || row->level < -1 || row->level > 3)
            abort();
        if (!*row->problem && (row->level < 0) != (*row->reason != '\0'))
            abort();
        if (row->has_shift && !isfinite(row->shift_x + row->shift_y))
            abort();
    }
    label_rows_free(&r);
    free(text);
    return 0;
}
