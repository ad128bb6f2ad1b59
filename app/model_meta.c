/* SPDX-License-Identifier: Apache-2.0
 * model_meta.c - an event's part of a model's description, declared in model_meta.h. */
#include "app/model_meta.h"

#include "models/base/file.h"

#include <cJSON.h>
#include <stdio.h>
#include <string.h>

bool model_meta_fill(struct model_meta *m, const struct event *ev, int cut, struct err *e)
{
    cJSON *dates = cJSON_CreateArray();
    memset(m, 0, sizeof *m);
    for (int d = 0; d < ev->layout.n_dates; d++) {
        cJSON *bands = cJSON_CreateArray();
        for (int b = 0; b < ev->layout.n_bands; b++) {
            double range[2] = {ev->scale_lo[d][b], ev->scale_hi[d][b]};
            cJSON_AddItemToArray(bands, cJSON_CreateDoubleArray(range, 2));
        }
        cJSON_AddItemToArray(dates, bands);
    }
    m->scaling = cJSON_PrintUnformatted(dates);
    cJSON_Delete(dates);
    if (!m->scaling)
        return err_set(e, ERR_RESOURCE, "not enough memory for the model's description");
    snprintf(m->cut, sizeof m->cut, "%d", cut);
    snprintf(m->gsd, sizeof m->gsd, "%.10g", ev->grid.gsd_m);
    snprintf(m->size, sizeof m->size, "%.10g", ev->size_m);
    const struct checkpoint_meta pairs[] = {{"cut", m->cut},
                                            {"gsd_m", m->gsd},
                                            {"size_m", m->size},
                                            {"scaling", m->scaling},
                                            {"source", file_base(ev->dir)},
                                            {"source.digest", ev->digest}};
    m->n = (int)(sizeof pairs / sizeof *pairs);
    memcpy(m->pair, pairs, sizeof pairs);
    return true;
}

void model_meta_free(struct model_meta *m)
{
    cJSON_free(m->scaling);
    m->scaling = NULL;
}
