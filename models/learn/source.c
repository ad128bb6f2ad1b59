/* SPDX-License-Identifier: Apache-2.0
 *
 * source.c - labelled items of another place beside the target's (train.h, train_add_source). One array of
 * images holds both, so that everything behind it - order, views, digests - works as for one place. */
#include "models/base/mem.h"
#include "models/learn/train.h"

#include <string.h>

static const char *masks(const struct imageset_layout *l)
{
    return !l->has_masks ? "no masks" : l->use_footprint ? "masks with outlines shown" : "masks";
}

static bool same_layout(const struct imageset *set, const struct imageset *source, struct err *e)
{
    const struct imageset_layout *a = &set->layout, *b = &source->layout;
    if (a->size == b->size && a->n_dates == b->n_dates && a->n_bands == b->n_bands &&
        a->has_masks == b->has_masks && a->use_footprint == b->use_footprint && a->use_match == b->use_match)
        return true;
    return err_set(
        e, ERR_INPUT,
        "%s: a source must be cut like the target: its images have %d px, %d date(s) of %d band(s) "
        "and %s, those of %s %d px, %d date(s) of %d band(s) and %s; make it anew likewise",
        source->source, b->size, b->n_dates, b->n_bands, masks(b), set->source, a->size, a->n_dates,
        a->n_bands, masks(a));
}

static bool same_classes(const struct imageset *set, const struct imageset *source, struct err *e)
{
    bool same = set->n_classes == source->n_classes;
    for (int c = 0; same && c < set->n_classes && c < 64; c++)
        same = strcmp(set->class_name[c], source->class_name[c]) == 0;
    if (same)
        return true;
    return err_set(e, ERR_INPUT,
                   "%s: has other classes than %s (%d and %d); a source must tell the same ones apart",
                   source->source, set->source, source->n_classes, set->n_classes);
}

static bool teaches(const struct imageset *source, size_t i)
{
    return source->split[i] == IMAGESET_TRAIN && source->label[i] != IMAGESET_NO_LABEL;
}

bool train_add_source(struct imageset *set, const struct imageset *source, struct err *e)
{
    const char *what = "the source's images";
    size_t side = (size_t)set->layout.size, n = set->n, more = 0;
    if (!same_layout(set, source, e) || !same_classes(set, source, e))
        return false;
    for (size_t i = 0; i < source->n; i++)
        more += teaches(source, i);
    if (more == 0)
        return err_set(e, ERR_INPUT, "%s: none of its training items has a label; a source is there to teach",
                       source->source);
    size_t image = side * side * (size_t)imageset_stored_channels(&set->layout), total = n + more;
    if (!mem_grow(&set->px, total, image, what, e) ||
        !mem_grow(&set->label, total, sizeof *set->label, what, e) ||
        !mem_grow(&set->id, total, sizeof *set->id, what, e) ||
        !mem_grow(&set->block, total, sizeof *set->block, what, e) ||
        !mem_grow(&set->split, total, sizeof *set->split, what, e))
        return false;
    for (size_t i = 0, at = n; i < source->n; i++) {
        if (!teaches(source, i))
            continue;
        memcpy(set->px + at * image, source->px + i * image, image);
        set->label[at] = source->label[i];
        set->id[at] = source->id[i];
        set->block[at] = source->block[i];
        set->split[at++] = IMAGESET_SOURCE;
    }
    set->n = total;
    return true;
}
