/* SPDX-License-Identifier: Apache-2.0
 *
 * discover.h - what the two halves of `aftermap discover` share: its options, the folder its results go to, and the
 * benchmark on sets whose truth is known. */
#ifndef AM_DISCOVER_H
#define AM_DISCOVER_H

#include "app/command.h"
#include "models/data/imageset.h"
#include "models/learn/discovery.h"

struct discover_cmd {
    const char *data, *out;
    struct discovery_options loop;
    double min_confidence; /* negative: the mode's own */
    /* an event */
    const char *model, *second, *answers;
    size_t max_items;
    int sheet_tiles;
    bool
        is_by_ground; /* the ground around a building rejects and groups, the model must be able to learn it */
    /* a benchmark */
    const char *hold_out, *method, *preset;
    int labels_per_class;
    long long steps;
    double test_share;
    bool retrain, no_mirror;
};

enum { DISCOVER_PATH = 4096 };

/* A folder inside `out` that results are written into and renamed from, all or none. */
struct discover_stage {
    const char *out;
    char dir[DISCOVER_PATH];
    bool made_out, made_dir;
};
/* ERR_USAGE when out holds a discovery already and overwrite is false. */
bool discover_check_out(const char *out, bool overwrite, struct err *e);
bool discover_stage_open(struct discover_stage *s, const char *out, struct err *e);
bool discover_stage_path(const struct discover_stage *s, const char *name, char path[DISCOVER_PATH],
                         struct err *e);
/* Moves all files into out, discover.json last, and removes contact sheets of an earlier run that this one has none
 * of. */
bool discover_stage_commit(struct discover_stage *s, struct err *e);
void discover_stage_close(struct discover_stage *s); /* removes what was not committed */

void discover_group_name(int number, char out[32]); /* "unreviewed group 1" */
/* The loop's settings and figures, as discover.json has them. */
cJSON *discover_settings(const struct discovery_options *o);
cJSON *discover_group_json(const struct discovery_group *g, int number);

/* Writes a contact sheet of the items of group g of r nearest to its centre into the stage: PNG, `tiles` at most.
 * order receives the items shown (caller's [tiles]). Returns how many (a group without members has no sheet), -1 on error. */
int discover_sheet(const struct discover_stage *s, const struct imageset *set,
                   const struct discovery_result *r, int g, const uint32_t *item_of_row, int tiles,
                   uint32_t *order, struct err *e);

bool discover_event(const struct discover_cmd *c, const struct common *common, const struct progress *p,
                    struct err *e);
bool discover_benchmark(const struct discover_cmd *c, const struct common *common, const struct progress *p,
                        struct err *e);

#endif
