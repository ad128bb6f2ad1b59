/* SPDX-License-Identifier: Apache-2.0
 *
 * mapping_parts.h - what the files of mapping share: the finished verdicts (struct mapping_map) and the
 * writers that turn them into files. mapping.c fills a map; mapping_raster.c, mapping_vector.c and
 * mapping_style.c only read it.
 *
 * Every writer creates PATH itself (the caller hands a temporary place), never keeps a partial file open, and
 * fails with one sentence. Memory: the rasters are made block by block (512 x 512), the tables row by row;
 * nothing grows with the grid. */
#ifndef AM_MAPPING_PARTS_H
#define AM_MAPPING_PARTS_H

#include "geo/event.h"
#include "models/learn/predict.h"
#include <cJSON.h>

enum { MAPPING_MAX_CLASSES = 4, MAPPING_UNKNOWN = 254, MAPPING_NODATA = 255 };

enum mapping_status { MAPPING_OK, MAPPING_ABSTAIN, MAPPING_NO_CHIP };

/* The verdict on one building, same index as event.building. */
struct mapping_item {
    enum mapping_status status;
    const char *reason;           /* "" unless status is MAPPING_NO_CHIP */
    int level;                    /* 0..3; -1 without a chip */
    bool trained;                 /* the model was trained on this building's label */
    float p[MAPPING_MAX_CLASSES]; /* class probabilities as predicted; prob.tif keeps them */
    double shown[MAPPING_MAX_CLASSES], p_dmg, entropy; /* rounded to three decimals */
};

struct mapping_map {
    const struct event *ev;
    const struct mapping_item *item; /* [ev->n] */
    int n_classes;                   /* 2 or 4 */
    int cut;                         /* 1..3 */
    char model_digest[65], model_id[13], run_id[40];
    char created[32]; /* 2026-11-24T06:08:00Z */
    uint64_t seed;
    const cJSON *settings; /* as run.json has them */
};

/* Names, colours and pixel codes of the scale (contract g); level -1 is unknown. */
const char *mapping_class_name(const struct mapping_map *m, int level); /* binary: undamaged, damaged */
const char *mapping_level_color(int level);                             /* "#rrggbb" */
uint8_t mapping_pixel(int level);

/* Provenance every output carries: n pairs of key ("AFTERMAP_VERSION") and value; free with cJSON_Delete. */
cJSON *mapping_provenance(const struct mapping_map *m, struct err *e);

bool mapping_write_rasters(const struct mapping_map *m, const char *damage_path, const char *prob_path,
                           const struct progress *p, struct err *e);
bool mapping_write_gpkg(const struct mapping_map *m, const char *path, const struct progress *p,
                        struct err *e);
bool mapping_write_geojson(const struct mapping_map *m, const char *path, const struct progress *p,
                           struct err *e);
bool mapping_write_csv(const struct mapping_map *m, const char *path, const struct progress *p,
                       struct err *e);

/* QML text of the default style of layer "buildings"; caller frees. points: marker instead of fill symbols.
 */
char *mapping_style_qml(const struct mapping_map *m, bool points, struct err *e);

/* Whether the model can read the event's chips; ERR_MODEL names the difference and the mend. *cut: the level
 * from which damaged counts for this model (binary: its own, four grades: 2). path names the model in
 * messages. */
bool mapping_model_fits(const struct model *model, const char *path, const struct event *ev, int *cut,
                        struct err *e);

/* p(damaged) of class probabilities [n_classes], n_classes 2 or 4. */
double mapping_p_damaged(const float *p, int n_classes, int cut);

/* From it->p: the rounded figures, level and status (mapping.h says how). */
void mapping_decide(struct mapping_item *it, int n_classes, int cut, double operating_point, double abstain);

/* Turns GDAL's last message into a sentence about `path`: ERR_RESOURCE when the disk is full, else
 * ERR_RUNTIME. */
bool mapping_gdal_failed(const char *path, struct err *e);

#endif
