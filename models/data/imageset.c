/* SPDX-License-Identifier: Apache-2.0
 *
 * imageset.c - the arrays of an image set, the random split and the labelled subset declared in imageset.h.
 * Reading files is imageset_read.c.
 *
 * Labelled subset: the published splits of MixMatch, ReMixMatch and FixMatch take, n times over, the class
 * with the largest share_c - n_c / max(max_j n_j, 1),      share_c = (items of c) / (items of the largest
 * class), and that class's next item in a seeded shuffle of its own; the result is proportional to class
 * frequency. Each class's shuffle depends on (seed, class) alone, so subsets of one seed are nested.
 *
 * Ownership: the set owns its arrays. Threads: a set that nobody changes may be read by all. */
#include "models/data/imageset.h"
#include "models/base/mem.h"
#include "models/base/rng.h"
#include "models/data/match.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

int imageset_stored_channels(const struct imageset_layout *l)
{
    return l->n_dates * l->n_bands + (l->has_masks ? 2 : 0);
}

int imageset_input_channels(const struct imageset_layout *l)
{
    return l->n_dates * l->n_bands + (l->has_masks && l->use_footprint ? 1 : 0) + (l->use_match ? 1 : 0);
}

static bool layout_check(const struct imageset_layout *l, struct err *e)
{
    if (l->size < 4 || l->size > IMAGESET_MAX_SIZE || l->size % 4)
        return err_set(e, ERR_INPUT,
                       "images of %d pixels a side cannot be used; the side must be a multiple of 4, 4 to %d",
                       l->size, IMAGESET_MAX_SIZE);
    if (l->n_dates < 1 || l->n_dates > IMAGESET_MAX_DATES || l->n_bands < 1 ||
        l->n_bands > IMAGESET_MAX_BANDS)
        return err_set(e, ERR_INPUT,
                       "images of %d dates with %d bands cannot be used; 1 or 2 dates of 1 to %d bands can",
                       l->n_dates, l->n_bands, IMAGESET_MAX_BANDS);
    return true;
}

bool imageset_alloc(struct imageset *set, size_t n, const struct imageset_layout *l, struct err *e)
{
    memset(set, 0, sizeof *set);
    if (!layout_check(l, e))
        return false;
    set->layout = *l;
    set->n = n;
    if ((set->px = mem_array(n, (size_t)l->size * l->size * imageset_stored_channels(l), "the images", e)) &&
        (set->label = mem_array(n, sizeof *set->label, "the labels", e)) &&
        (set->id = mem_array(n, sizeof *set->id, "the item ids", e)) &&
        (set->block = mem_array(n, sizeof *set->block, "the blocks", e)) &&
        (set->split = mem_array(n, sizeof *set->split, "the split", e)))
        return true;
    imageset_free(set);
    return false;
}

void imageset_free(struct imageset *set)
{
    free(set->px);
    free(set->label);
    free(set->id);
    free(set->block);
    free(set->split);
    free(set->soft);
    free(set->taught);
    memset(set, 0, sizeof *set);
}

/* Items sorted by class with a counting sort: order[first[c] .. first[c+1]) are those of class c-1, so that
 * class 0 of the sort holds the unlabelled ones. `items` NULL means 0..n-1. */
struct by_class {
    uint32_t *order;
    size_t *first; /* [n_classes + 2] */
};

static void by_class_free(struct by_class *b)
{
    free(b->order);
    free(b->first);
}

static bool by_class_make(struct by_class *b, const struct imageset *set, const uint32_t *items, size_t n,
                          struct err *e)
{
    size_t n_keys = (size_t)set->n_classes + 1;
    *b = (struct by_class){mem_array(n, sizeof *b->order, "a list of items", e),
                           mem_array(n_keys + 1, sizeof *b->first, "class counts", e)};
    if (!b->order || !b->first) {
        by_class_free(b);
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        int label = set->label[items ? items[i] : i];
        assert(label >= IMAGESET_NO_LABEL && label < set->n_classes);
        b->first[label + 2]++;
    }
    for (size_t k = 1; k <= n_keys; k++)
        b->first[k] += b->first[k - 1];
    size_t *at = mem_array(n_keys, sizeof *at, "class counts", e);
    if (!at) {
        by_class_free(b);
        return false;
    }
    memcpy(at, b->first, n_keys * sizeof *at);
    for (size_t i = 0; i < n; i++) {
        uint32_t item = items ? items[i] : (uint32_t)i;
        b->order[at[set->label[item] + 1]++] = item;
    }
    free(at);
    return true;
}

static void shuffle(uint32_t *v, size_t n, struct rng *r)
{
    for (size_t i = n; i > 1; i--) {
        uint32_t j = rng_below(r, (uint32_t)i), t = v[i - 1];
        v[i - 1] = v[j];
        v[j] = t;
    }
}

bool imageset_split_random(struct imageset *set, double test_share, uint64_t seed, struct err *e)
{
    struct by_class by;
    if (!(test_share >= 0.0 && test_share <= 1.0))
        return err_set(e, ERR_USAGE, "a test share of %g makes no sense; give a number from 0 to 1",
                       test_share);
    if (set->n > UINT32_MAX)
        return err_set(e, ERR_INPUT, "%zu images are too many; %u is the most", set->n, UINT32_MAX);
    if (!by_class_make(&by, set, NULL, set->n, e))
        return false;
    for (int k = 0; k <= set->n_classes; k++) {
        struct rng r;
        size_t n = by.first[k + 1] - by.first[k], n_test = (size_t)llround(test_share * (double)n);
        /* Where both sides are wanted, a class of two or more shows up on both. */
        if (n >= 2 && test_share > 0.0 && test_share < 1.0)
            n_test = n_test < 1 ? 1 : n_test > n - 1 ? n - 1 : n_test;
        rng_init(&r, seed, RNG_SPLIT, (uint64_t)k);
        shuffle(by.order + by.first[k], n, &r);
        for (size_t i = 0; i < n; i++)
            set->split[by.order[by.first[k] + i]] = i < n_test ? IMAGESET_TEST : IMAGESET_TRAIN;
    }
    for (size_t i = 0; i < set->n; i++)
        set->block[i] = (int32_t)(i & INT32_MAX);
    by_class_free(&by);
    return true;
}

/* How many of each class make n_total by the published rule. taken [n_classes] arrives zeroed. */
static void take_proportional(const size_t *have, int n_classes, size_t n_total, size_t *taken)
{
    size_t largest = 1, most = 0;
    for (int c = 0; c < n_classes; c++)
        if (have[c] > largest)
            largest = have[c];
    for (size_t i = 0; i < n_total; i++) {
        int best = -1;
        double best_lack = 0.0;
        for (int c = 0; c < n_classes; c++) {
            double lack = (double)have[c] / (double)largest - (double)taken[c] / (double)(most ? most : 1);
            if (taken[c] < have[c] && (best < 0 || lack > best_lack)) {
                best = c;
                best_lack = lack;
            }
        }
        assert(best >= 0);
        if (++taken[best] > most)
            most = taken[best];
    }
}

static bool count_per_class(const struct imageset *set, const size_t *have, int per_class, size_t *taken,
                            struct err *e)
{
    size_t labelled = 0;
    for (int c = 0; c < set->n_classes; c++)
        labelled += have[c];
    if (labelled == 0)
        return err_set(e, ERR_INPUT, "none of the items to learn from has a label; add labels and try again");
    if (per_class < 0) {
        size_t n_total = (size_t)(-(int64_t)per_class);
        if (n_total > labelled)
            return err_set(e, ERR_INPUT,
                           "%zu labels are asked for but only %zu items have one; ask for fewer", n_total,
                           labelled);
        take_proportional(have, set->n_classes, n_total, taken);
        return true;
    }
    for (int c = 0; c < set->n_classes; c++) {
        taken[c] = per_class ? (size_t)per_class : have[c];
        if (taken[c] > have[c])
            return err_set(e, ERR_INPUT,
                           "class %d%s%s%s has only %zu labelled items to learn from and %d are asked for; "
                           "ask for fewer per class or label more",
                           c, c < 64 && set->class_name[c][0] ? " (" : "", c < 64 ? set->class_name[c] : "",
                           c < 64 && set->class_name[c][0] ? ")" : "", have[c], per_class);
    }
    return true;
}

static int compare_u32(const void *a, const void *b)
{
    uint32_t x, y;
    memcpy(&x, a, sizeof x);
    memcpy(&y, b, sizeof y);
    return x < y ? -1 : x > y;
}

bool imageset_choose_labels(const struct imageset *set, const uint32_t *candidates, size_t n_candidates,
                            int per_class, uint64_t seed, uint32_t **out, size_t *n_out, struct err *e)
{
    struct by_class by = {NULL, NULL};
    size_t *have = NULL, *taken = NULL, n = 0;
    bool ok = false;
    *out = NULL;
    *n_out = 0;
    if (!by_class_make(&by, set, candidates, n_candidates, e))
        return false;
    have = mem_array((size_t)set->n_classes, sizeof *have, "class counts", e);
    taken = mem_array((size_t)set->n_classes, sizeof *taken, "class counts", e);
    if (!have || !taken)
        goto end;
    for (int c = 0; c < set->n_classes; c++)
        have[c] = by.first[c + 2] - by.first[c + 1];
    if (!count_per_class(set, have, per_class, taken, e))
        goto end;
    for (int c = 0; c < set->n_classes; c++)
        n += taken[c];
    *out = mem_array(n, sizeof **out, "the labelled subset", e);
    if (!*out)
        goto end;
    for (int c = 0; c < set->n_classes; c++) {
        struct rng r;
        uint32_t *mine = by.order + by.first[c + 1];
        rng_init(&r, seed, RNG_LABELS, (uint64_t)c);
        shuffle(mine, have[c], &r);
        memcpy(*out + *n_out, mine, taken[c] * sizeof **out);
        *n_out += taken[c];
    }
    qsort(*out, n, sizeof **out, compare_u32);
    ok = true;
end:
    by_class_free(&by);
    free(have);
    free(taken);
    return ok;
}

/* A table of 256 entries beats arithmetic here: three instructions a sample on any CPU. */
/* All channels but the likeness. */
static void samples_to_input(const struct imageset_layout *l, const uint8_t *px, float *x)
{
    const int n_px = l->size * l->size, n = l->n_dates * l->n_bands;
    const int stored = imageset_stored_channels(l), cin = imageset_input_channels(l);
    const uint8_t all = (uint8_t)((1 << l->n_dates) - 1);
    float table[256];
    for (int v = 0; v < 256; v++)
        table[v] = (float)v / 127.5f - 1.0f;
    if (!l->has_masks && cin == n) {
        for (size_t i = 0; i < (size_t)n_px * n; i++)
            x[i] = table[px[i]];
        return;
    }
    for (int p = 0; p < n_px; p++, px += stored, x += cin) {
        for (int c = 0; c < n; c++)
            x[c] = table[px[c]];
        if (!l->has_masks)
            continue;
        if (l->use_footprint)
            x[n] = table[px[n + 1]];
        if ((px[n] & all) == all)
            continue;
        for (int d = 0; d < l->n_dates; d++)
            for (int b = 0; b < l->n_bands && !(px[n] >> d & 1); b++)
                x[d * l->n_bands + b] = 0.0f;
    }
}

void imageset_to_input(const struct imageset_layout *l, const uint8_t *px, float *x)
{
    samples_to_input(l, px, x);
    if (l->use_match)
        match_fill(l, x);
}
