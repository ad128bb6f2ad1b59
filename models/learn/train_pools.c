/* SPDX-License-Identifier: Apache-2.0
 *
 * train_pools.c - which items a run learns from: training split only (transductive: the images of the others,
 * too, never their labels), the labelled subset chosen by seed,
 * and, when there are labels to spare, a stratified share held out for the temperature. Refuses sets that
 * cannot teach two classes. */
#include "models/learn/trainer.h"

#include "models/base/file.h"
#include "models/base/mem.h"
#include "models/learn/calibrate.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *class_name(const struct imageset *set, int c, char out[16])
{
    if (c < 64 && set->class_name[c][0])
        return set->class_name[c];
    snprintf(out, 16, "%d", c);
    return out;
}

/* Training items, and those of them with a label. */
static bool collect(struct trainer_pools *p, const struct imageset *set, const struct train_config *c,
                    uint32_t **candidates, size_t *n_candidates, struct err *e)
{
    size_t n = 0, m = 0;
    p->unlabeled = mem_array(set->n, sizeof *p->unlabeled, "the training items", e);
    p->source = mem_array(set->n, sizeof *p->source, "the source's items", e);
    if (!p->source)
        return false;
    *candidates = p->unlabeled ? mem_array(set->n, sizeof **candidates, "the training items", e) : NULL;
    if (!*candidates)
        return false;
    for (size_t i = 0; i < set->n; i++) {
        if (set->split[i] == IMAGESET_SOURCE && set->label[i] != IMAGESET_NO_LABEL)
            p->source[p->n_source++] = (uint32_t)i;
        bool is_train = set->split[i] == IMAGESET_TRAIN;
        if (!is_train && !(c->transductive && set->split[i] != IMAGESET_SOURCE))
            continue;
        p->unlabeled[n++] = (uint32_t)i;
        if (is_train && set->label[i] != IMAGESET_NO_LABEL)
            (*candidates)[m++] = (uint32_t)i;
    }
    p->n_unlabeled = n;
    *n_candidates = m;
    if (n == 0)
        return err_set(e, ERR_INPUT,
                       "%s: no item belongs to the training split; split it again with a smaller test share",
                       set->source);
    if (m == 0 && p->n_source == 0)
        return err_set(
            e, ERR_INPUT,
            "%s: none of the %zu training items has a label; import labels or grade some items first",
            set->source, n);
    return true;
}

static bool check_classes(const struct trainer_pools *p, const struct imageset *set,
                          const struct progress *progress, struct err *e)
{
    size_t count[METHOD_MAX_CLASSES] = {0};
    char number[16], sentence[256];
    int present = 0, one = 0;
    for (size_t i = 0; i < p->n_taught; i++)
        count[set->label[p->taught[i]]]++;
    for (int c = 0; c < set->n_classes; c++)
        if (count[c] > 0) {
            present++;
            one = c;
        }
    if (present < 2)
        return err_set(
            e, ERR_INPUT,
            "%s: all %zu labelled training items are \"%s\"; a model needs labels of at least two classes: "
            "label some of another one or choose another cut",
            set->source, p->n_taught, class_name(set, one, number));
    for (int c = 0; c < set->n_classes; c++)
        if (count[c] == 0) {
            snprintf(sentence, sizeof sentence,
                     "no labelled training item is \"%s\"; the model cannot learn to tell that class",
                     class_name(set, c, number));
            progress_warn(progress, sentence);
        }
    return true;
}

/* A share of every class leaves for calibration, but never its last item. Too few in all: none leaves. */
static bool hold_out(struct trainer_pools *p, const struct imageset *set, const struct train_config *c,
                     struct err *e)
{
    size_t count[METHOD_MAX_CLASSES] = {0}, take[METHOD_MAX_CLASSES] = {0}, total = 0;
    uint32_t *perm = mem_array(p->n_labeled, sizeof *perm, "the labelled items", e);
    p->fit = perm ? mem_array(p->n_labeled, sizeof *p->fit, "the labelled items", e) : NULL;
    p->calibration = p->fit ? mem_array(p->n_labeled, sizeof *p->calibration, "the labelled items", e) : NULL;
    if (!p->calibration) {
        free(perm);
        return false;
    }
    if (p->n_labeled == 0) {
        free(perm);
        return true;
    }
    for (size_t i = 0; i < p->n_labeled; i++)
        count[set->label[p->labeled[i]]]++;
    for (int k = 0; k < set->n_classes; k++) {
        take[k] = count[k] > 0 ? (size_t)(c->calibrate_share * (double)count[k]) : 0;
        total += take[k];
    }
    if (p->n_labeled < CALIBRATE_MIN_LABELS || total < CALIBRATE_MIN_ITEMS)
        memset(take, 0, sizeof take);
    struct rng r;
    rng_init(&r, c->seed, RNG_LABELS,
             UINT64_C(1) << 62); /* apart from the draws of imageset_choose_labels() */
    rng_permutation(&r, perm, (uint32_t)p->n_labeled);
    for (size_t i = 0; i < p->n_labeled; i++) {
        uint32_t item = p->labeled[perm[i]];
        size_t *left = &take[set->label[item]];
        if (*left > 0) {
            --*left;
            p->calibration[p->n_calibration++] = item;
        } else {
            p->fit[p->n_fit++] = item;
        }
    }
    free(perm);
    return true;
}

/* The order in which hold_out() leaves labels, for any number of them. */
static bool shuffle_source(struct trainer_pools *p, const struct train_config *c, struct err *e)
{
    struct rng r;
    uint32_t *perm = mem_array(p->n_source, sizeof *perm, "the source's items", e);
    uint32_t *items = perm ? mem_array(p->n_source, sizeof *items, "the source's items", e) : NULL;
    if (!items) {
        free(perm);
        return false;
    }
    if (p->n_source > 0) {
        rng_init(&r, c->seed, RNG_LABELS, UINT64_C(1) << 62);
        rng_permutation(&r, perm, (uint32_t)p->n_source);
    }
    for (size_t i = 0; i < p->n_source; i++)
        items[i] = p->source[perm[i]];
    free(perm);
    free(p->source);
    p->source = items;
    return true;
}

/* Labels of the target and of the source; what a method that does not tell them apart trains on. */
static bool join(struct trainer_pools *p, struct err *e)
{
    p->taught = mem_array(p->n_labeled + p->n_source, sizeof *p->taught, "the labelled items", e);
    p->fit_all =
        p->taught ? mem_array(p->n_fit + p->n_source, sizeof *p->fit_all, "the labelled items", e) : NULL;
    if (!p->fit_all)
        return false;
    memcpy(p->taught, p->labeled, p->n_labeled * sizeof *p->taught);
    memcpy(p->taught + p->n_labeled, p->source, p->n_source * sizeof *p->taught);
    memcpy(p->fit_all, p->fit, p->n_fit * sizeof *p->fit_all);
    memcpy(p->fit_all + p->n_fit, p->source, p->n_source * sizeof *p->fit_all);
    p->n_taught = p->n_labeled + p->n_source;
    p->n_fit_all = p->n_fit + p->n_source;
    return true;
}

/* What a resumed run must find unchanged. */
static bool describe(struct trainer_pools *p, const struct imageset *set, struct err *e)
{
    size_t ids = set->n * sizeof *set->id, labels = set->n * sizeof *set->label, rest = ids + labels + set->n;
    size_t soft = set->soft ? set->n * (size_t)set->n_classes * sizeof *set->soft : 0;
    char *all = mem_array(rest + soft, 1, "the training items", e);
    if (!all)
        return false;
    memcpy(all, set->id, ids);
    memcpy(all + ids, set->label, labels);
    memcpy(all + ids + labels, set->split, set->n);
    if (soft > 0)
        memcpy(all + rest, set->soft, soft);
    file_sha256_buffer(all, rest + soft, p->digest);
    free(all);
    return true;
}

static int by_index(const void *pa, const void *pb)
{
    uint32_t a = *(const uint32_t *)pa, b = *(const uint32_t *)pb;
    return (a > b) - (a < b);
}

bool trainer_pools_choose(struct trainer_pools *p, const struct imageset *set, const struct train_config *c,
                          const struct progress *progress, struct err *e)
{
    bool ok = false;
    uint32_t *candidates = NULL;
    size_t n_candidates = 0;
    memset(p, 0, sizeof *p);
    if (set->n == 0)
        return err_set(e, ERR_INPUT, "%s: holds no image; nothing can be learnt from it", set->source);
    if (set->n_classes < 2 || set->n_classes > METHOD_MAX_CLASSES)
        return err_set(e, ERR_INPUT, "%s: has %d classes; 2 to %d can be learnt", set->source, set->n_classes,
                       METHOD_MAX_CLASSES);
    if (!collect(p, set, c, &candidates, &n_candidates, e))
        goto out;
    if (c->labels_per_class < 0 && p->n_source == 0) {
        err_set(e, ERR_USAGE, "%s: no label may be used and there is no source; give one of them",
                set->source);
        goto out;
    }
    if (c->labels_per_class < 0) {
        n_candidates = 0;
    } else if (n_candidates == 0 && c->labels_per_class > 0) {
        err_set(e, ERR_INPUT,
                "%s: none of its training items has a label, so none of each class can be drawn; "
                "let the source teach alone",
                set->source);
        goto out;
    }
    if (c->labels_per_class > 0) {
        if (!imageset_choose_labels(set, candidates, n_candidates, c->labels_per_class, c->seed, &p->labeled,
                                    &p->n_labeled, e))
            goto out;
        qsort(p->labeled, p->n_labeled, sizeof *p->labeled, by_index);
    } else {
        p->labeled = candidates;
        p->n_labeled = n_candidates;
        candidates = NULL;
    }
    ok = hold_out(p, set, c, e) && shuffle_source(p, c, e) && join(p, e) &&
         check_classes(p, set, progress, e) && describe(p, set, e);
out:
    free(candidates);
    if (!ok)
        trainer_pools_free(p);
    return ok;
}

void trainer_pools_free(struct trainer_pools *p)
{
    free(p->unlabeled);
    free(p->labeled);
    free(p->fit);
    free(p->calibration);
    free(p->source);
    free(p->taught);
    free(p->fit_all);
    memset(p, 0, sizeof *p);
}
