/* SPDX-License-Identifier: Apache-2.0
 * train_synthetic.c - made-up images beside observed ones, declared in train_synthetic.h. */
#include "app/train_synthetic.h"

#include "geo/synthetic.h"
#include "geo/synthetic_images.h"
#include "models/base/file.h"
#include "models/base/mem.h"
#include "models/learn/train.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const double maker_test_share = 0.2; /* what lab diffuse leaves out of a plain set */

enum { MAX_CLASSES = 64 };

/* Whether the maker may have seen what this run tests on: certain is an error, unknown a warning. */
static bool check_split(const struct imageset *set, const char *path, const struct synthetic_facts *f,
                        const struct train_synthetic_run *run, const struct progress *p, struct err *e)
{
    char sentence[512], seed[32];
    snprintf(seed, sizeof seed, "%llu", (unsigned long long)run->seed);
    if (strcmp(f->learnt_digest, set->digest) != 0) {
        snprintf(
            sentence, sizeof sentence,
            "%.100s: made by a model that learnt from %.120s, not from this set; where both show the same "
            "ground, held-out figures will look better than they are",
            path, *f->learnt_from ? f->learnt_from : "nobody knows what (its list is missing)");
        progress_warn(p, sentence);
        return true;
    }
    if (strcmp(f->learnt_split, "event") == 0 ||
        (strcmp(f->learnt_split, seed) == 0 && run->test_share <= maker_test_share))
        return true;
    return err_set(
        e, ERR_USAGE,
        "%s: made by a model that has seen images which this run holds out for testing (it left out a "
        "share of %g by --seed %s); train with that seed and share, or make them anew",
        path, maker_test_share, f->learnt_split);
}

/* Labels that people gave and this run learns from, by class. Returns their number. */
static size_t observed(const struct imageset *set, int labels_per_class, size_t of[MAX_CLASSES])
{
    size_t own[MAX_CLASSES] = {0}, all = 0;
    for (size_t i = 0; i < set->n; i++) {
        if (set->label[i] < 0 || set->label[i] >= MAX_CLASSES)
            continue;
        of[set->label[i]] += set->split[i] == IMAGESET_SOURCE;
        own[set->label[i]] += set->split[i] == IMAGESET_TRAIN;
    }
    for (int k = 0; k < MAX_CLASSES; k++) {
        if (labels_per_class < 0)
            own[k] = 0;
        else if (labels_per_class > 0 && own[k] > (size_t)labels_per_class)
            own[k] = (size_t)labels_per_class;
        of[k] += own[k];
        all += of[k];
    }
    return all;
}

static void warn_of_shares(const struct imageset *set, const size_t *real, const size_t *made,
                           const struct progress *p)
{
    char sentence[256];
    int with = 0, without = 0;
    for (int k = 0; k < set->n_classes && k < MAX_CLASSES; k++) {
        with += made[k] > 0;
        without += made[k] == 0;
        if (made[k] > real[k]) {
            snprintf(
                sentence, sizeof sentence,
                "%zu made-up images of \"%.32s\" beside %zu observed ones: from more than one to one on, a "
                "network learns what the maker believes",
                made[k], set->class_name[k], real[k]);
            progress_warn(p, sentence);
        }
    }
    if (with > 0 && without > 0)
        progress_warn(
            p,
            "some classes have made-up images and others none: a network may learn the look of the made-up "
            "for those classes; make some of every class");
}

static char *shares_json(const struct imageset *set, const size_t *real, const size_t *made, struct err *e)
{
    cJSON *j = cJSON_CreateObject();
    for (int k = 0; k < set->n_classes && k < MAX_CLASSES; k++) {
        cJSON *one = cJSON_AddObjectToObject(j, set->class_name[k]);
        cJSON_AddNumberToObject(one, "observed", (double)real[k]);
        cJSON_AddNumberToObject(one, "made_up", (double)made[k]);
    }
    char *text = cJSON_PrintUnformatted(j);
    cJSON_Delete(j);
    if (!text)
        err_set(e, ERR_RESOURCE, "not enough memory for the model's description");
    return text;
}

static bool add_one(struct imageset *set, const char *path, const struct train_synthetic_run *run,
                    size_t *made, char hex[64], struct train_synthetic *s, const struct progress *p,
                    struct err *e)
{
    struct imageset images = {0};
    struct synthetic_facts f;
    bool ok = synthetic_images_load(&images, path, set, run->cut, run->seed, &f, p, e) &&
              check_split(set, path, &f, run, p, e) && train_add_source(set, &images, e);
    if (ok) {
        const size_t used = strlen(s->models);
        memcpy(hex, f.digest, 64);
        s->n += f.n;
        for (int k = 0; k < MAX_CLASSES; k++)
            made[k] += f.of_class[k];
        if (!strstr(s->models, f.models))
            snprintf(s->models + used, sizeof s->models - used, "%s%s", used ? "," : "", f.models);
    }
    imageset_free(&images);
    return ok;
}

bool train_synthetic_add(struct imageset *set, const struct string_list *paths,
                         const struct train_synthetic_run *run, struct train_synthetic *s,
                         const struct progress *p, struct err *e)
{
    size_t real[MAX_CLASSES] = {0}, made[MAX_CLASSES] = {0}, length = 1;
    *s = (struct train_synthetic){0};
    if (paths->n == 0)
        return true;
    if (observed(set, run->labels_per_class, real) == 0)
        return err_set(e, ERR_INPUT,
                       "%s: has no observed label for made-up images to join; they can add to labels, not "
                       "replace them",
                       set->source);
    for (int i = 0; i < paths->n; i++)
        length += strlen(paths->item[i]) + 1;
    s->names = mem_array(length, 1, "the names of made-up images", e);
    char *hex = s->names ? mem_array((size_t)paths->n, 64, "the digests of made-up images", e) : NULL;
    bool ok = hex;
    for (int i = 0, at = 0; ok && i < paths->n; i++) {
        at += snprintf(s->names + at, length - (size_t)at, "%s%s", i ? "," : "", paths->item[i]);
        ok = add_one(set, paths->item[i], run, made, hex + (size_t)i * 64, s, p, e);
    }
    if (ok) {
        file_sha256_buffer(hex, (size_t)paths->n * 64, s->digest);
        snprintf(s->n_text, sizeof s->n_text, "%zu", s->n);
        warn_of_shares(set, real, made, p);
        ok = (s->of_class = shares_json(set, real, made, e));
    }
    free(hex);
    return ok;
}

void train_synthetic_free(struct train_synthetic *s)
{
    free(s->names);
    cJSON_free(s->of_class);
    s->names = s->of_class = NULL;
}

int train_synthetic_meta(const struct train_synthetic *s, struct checkpoint_meta pair[TRAIN_SYNTHETIC_META])
{
    const struct checkpoint_meta all[TRAIN_SYNTHETIC_META] = {{"synthetic", s->names},
                                                              {"synthetic.digest", s->digest},
                                                              {"synthetic.models", s->models},
                                                              {"synthetic.n", s->n_text},
                                                              {"synthetic.of_class", s->of_class}};
    if (s->n == 0)
        return 0;
    memcpy(pair, all, sizeof all);
    return TRAIN_SYNTHETIC_META;
}

bool train_synthetic_refuse(const struct event *ev, struct err *e)
{
    return !synthetic_event_marked(ev) ||
           err_set(
               e, ERR_INPUT,
               "%s: was cut from images that a model made up; nothing is learnt or labelled there as if it "
               "had been observed",
               ev->dir);
}
