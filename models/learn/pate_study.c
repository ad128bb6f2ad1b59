/* SPDX-License-Identifier: Apache-2.0
 *
 * pate_study.c - a whole study with PATE (pate.h), a caller of the training loop like any other.
 *
 *   private/teachers.json   what the teachers were taught with; another study does not fit into the folder
 *   private/teacher-K       a finished teacher: its averaged weights alone; .part while it learns
 *   private/votes           [teachers, queries] predicted classes of the first queries
 *   private/release.json    how answers are made, the longest prefix ever asked, the key of the noise
 *   private/ledger.json     with the data-dependent cost
 *
 * A release is one stream of answers under one key. Another mechanism on the same teachers is a second release
 * whose cost adds to the first, so it is refused until the caller insists (overwrite). Fewer queries than an
 * earlier call asked do not lower the folder's ledger. A teacher that saw one class has no file. */
#include "models/learn/pate.h"

#include "models/base/file.h"
#include "models/base/mem.h"
#include "models/learn/predict.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { BATCH = 128, FEW_TEACHERS = 50, JSON_MAX = 1 << 20 };

struct study {
    const struct imageset *private_set, *public_set;
    const struct pate_options *o;
    const struct progress *progress;
    struct pate_outcome *out;
    struct pate_shards shards;
    uint32_t *query; /* [n_public] public items in the order they are asked about */
    size_t n_public, n_asked;
    int32_t *vote; /* [n_teachers, n_asked] */
    int *count;    /* [n_asked, n_classes] */
    int16_t *answer;
    struct pate_noise noise;
    struct pate_ledger at[PATE_MAX_PREFIXES], all; /* after each prefix; after everything ever asked */
};

static bool path_of(const struct study *s, char out[4096], struct err *e, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

static bool path_of(const struct study *s, char out[4096], struct err *e, const char *fmt, ...)
{
    char name[256];
    va_list args;
    va_start(args, fmt);
    vsnprintf(name, sizeof name, fmt, args);
    va_end(args);
    return file_join(out, 4096, s->o->dir, name, e);
}

/* ---- what is asked for ---- */

static bool check_sets(const struct study *s, struct err *e)
{
    const struct imageset *a = s->private_set, *b = s->public_set;
    const struct imageset_layout *l = &a->layout, *m = &b->layout;
    if (l->size != m->size || l->n_dates != m->n_dates || l->n_bands != m->n_bands ||
        l->has_masks != m->has_masks || l->use_footprint != m->use_footprint || l->use_match != m->use_match)
        return err_set(
            e, ERR_INPUT,
            "%s: its images are %d px with %d x %d bands, those of %s %d px with %d x %d; teachers "
            "can only vote on what they have learnt to see: bring both to one layout",
            b->source, m->size, m->n_dates, m->n_bands, a->source, l->size, l->n_dates, l->n_bands);
    bool same = a->n_classes == b->n_classes;
    for (int c = 0; same && c < a->n_classes && c < 64; c++)
        same = strcmp(a->class_name[c], b->class_name[c]) == 0;
    return same || err_set(e, ERR_INPUT, "%s: has other classes than %s; give both the same ones", b->source,
                           a->source);
}

static bool check_options(const struct study *s, struct err *e)
{
    const struct pate_options *o = s->o;
    char sentence[256];
    assert(o->n_prefixes > 0 && o->n_prefixes <= PATE_MAX_PREFIXES && o->n_students <= PATE_MAX_STUDENTS);
    if (!(o->delta > 0 && o->delta < 1))
        return err_set(e, ERR_USAGE, "delta must lie between 0 and 1, both excluded, not %g", o->delta);
    if (s->private_set->n_classes > METHOD_MAX_CLASSES)
        return err_set(e, ERR_INPUT, "%s: has %d classes; %d can be learnt", s->private_set->source,
                       s->private_set->n_classes, METHOD_MAX_CLASSES);
    if (!pate_mechanism_check(&o->mechanism, o->n_teachers, s->private_set->n_classes, e))
        return false;
    for (int i = 0; i < o->n_prefixes; i++) {
        assert(i == 0 || o->prefix[i] > o->prefix[i - 1]);
        if (o->prefix[i] < 1 || o->prefix[i] > s->n_public)
            return err_set(e, ERR_INPUT,
                           "%s: has %zu public items for the student; %zu queries cannot be asked about them",
                           s->public_set->source, s->n_public, o->prefix[i]);
    }
    if (o->n_teachers < FEW_TEACHERS) {
        snprintf(
            sentence, sizeof sentence,
            "%d teachers are few: with less than some %d, either noise swamps the votes or epsilon grows "
            "beyond meaning",
            o->n_teachers, FEW_TEACHERS);
        progress_warn(s->progress, sentence);
    }
    if (o->delta * (double)s->shards.n_units > 1) {
        snprintf(
            sentence, sizeof sentence,
            "delta %g allows for publishing some of the %zu private units outright; take less than 1/%zu",
            o->delta, s->shards.n_units, s->shards.n_units);
        progress_warn(s->progress, sentence);
    }
    if (o->seeded_noise)
        progress_warn(s->progress, "the noise comes from the seed, so nothing is protected; leave "
                                   "that to tests and comparisons");
    return true;
}

/* Student items in the order of the stream: a function of the seed and of how many there are. */
static bool order_queries(struct study *s, struct err *e)
{
    const struct imageset *set = s->public_set;
    uint32_t *item = mem_array(set->n, sizeof *item, "the queries", e);
    uint32_t *place = item ? mem_array(set->n, sizeof *place, "the queries", e) : NULL;
    s->query = place ? mem_array(set->n, sizeof *s->query, "the queries", e) : NULL;
    for (size_t i = 0; s->query && i < set->n; i++)
        if (set->split[i] == IMAGESET_TRAIN)
            item[s->n_public++] = (uint32_t)i;
    if (s->query && s->n_public > 0) {
        struct rng r;
        rng_init(&r, s->o->seed, RNG_QUERY, 0);
        rng_permutation(&r, place, (uint32_t)s->n_public);
        for (size_t i = 0; i < s->n_public; i++)
            s->query[i] = item[place[i]];
    }
    free(item);
    free(place);
    return s->query;
}

/* ---- the folder's own records ---- */

static cJSON *read_json(const char *path, struct err *e)
{
    char *text = file_read(path, JSON_MAX, NULL, e);
    cJSON *j = text ? cJSON_Parse(text) : NULL;
    if (text && !j)
        err_set(e, ERR_INPUT, "%s: is no JSON; remove it, or take another folder", path);
    free(text);
    return j;
}

static bool write_json(const char *path, const cJSON *j, struct err *e)
{
    char *text = j ? cJSON_Print(j) : NULL;
    bool ok =
        text ? file_write_text(path, text, e) : err_set(e, ERR_RESOURCE, "not enough memory for %s", path);
    cJSON_free(text);
    return ok;
}

static bool same_json(const cJSON *a, const cJSON *b)
{
    return a && b && cJSON_Compare(a, b, true);
}

static cJSON *teachers_json(const struct study *s)
{
    const struct pate_options *o = s->o;
    const struct train_config *t = &o->teacher;
    char seed[32];
    cJSON *j = cJSON_CreateObject();
    cJSON_AddStringToObject(j, "private", s->private_set->digest);
    cJSON_AddNumberToObject(j, "private_items", (double)s->shards.n_items);
    cJSON_AddStringToObject(j, "public", s->public_set->digest);
    cJSON_AddNumberToObject(j, "public_items", (double)s->n_public);
    cJSON_AddNumberToObject(j, "classes", s->private_set->n_classes);
    cJSON_AddNumberToObject(j, "teachers", o->n_teachers);
    cJSON_AddStringToObject(j, "unit", o->unit == PATE_UNIT_BLOCK ? "block" : "item");
    snprintf(seed, sizeof seed, "%llu", (unsigned long long)o->seed);
    cJSON_AddStringToObject(j, "seed", seed); /* 64 bits do not fit a double */
    cJSON_AddStringToObject(j, "method", t->method);
    cJSON_AddStringToObject(j, "preset", t->preset);
    cJSON_AddNumberToObject(j, "steps", (double)t->steps);
    cJSON_AddNumberToObject(j, "batch", t->batch);
    cJSON_AddNumberToObject(j, "lr", (double)t->optim.lr);
    cJSON_AddBoolToObject(j, "mirror", t->mirror);
    return j;
}

/* Without the key and the counts. */
static cJSON *release_json(const struct study *s)
{
    const struct pate_mechanism *m = &s->o->mechanism;
    cJSON *j = cJSON_CreateObject();
    cJSON_AddStringToObject(j, "mechanism", pate_kind_name(m->kind));
    cJSON_AddNumberToObject(j, "threshold", m->threshold);
    cJSON_AddNumberToObject(j, "sigma_threshold", m->sigma_threshold);
    cJSON_AddNumberToObject(j, "sigma", m->sigma);
    cJSON_AddBoolToObject(j, "seeded_noise", s->o->seeded_noise);
    return j;
}

/* Removes what an earlier study left: files of the folder whose names begin so. */
static void remove_files(const struct study *s, const char *folder, const char *prefix)
{
    char dir[4096], path[4096];
    struct err ignored;
    DIR *d = path_of(s, dir, &ignored, "%s", folder) ? opendir(dir) : NULL;
    for (const struct dirent *f; d && (f = readdir(d));)
        if (strncmp(f->d_name, prefix, strlen(prefix)) == 0 &&
            file_join(path, sizeof path, dir, f->d_name, &ignored))
            unlink(path);
    if (d)
        closedir(d);
}

static bool claim_teachers(struct study *s, struct err *e)
{
    char path[4096];
    if (!path_of(s, path, e, "private/teachers.json"))
        return false;
    cJSON *ours = teachers_json(s), *theirs = NULL;
    bool ok = true;
    if (file_exists(path)) {
        theirs = read_json(path, e);
        ok = theirs;
        if (ok && !same_json(ours, theirs)) {
            ok = s->o->overwrite ||
                 err_set(e, ERR_USAGE,
                         "%s: its teachers were taught with other data or settings; take another folder, or "
                         "--overwrite to teach anew",
                         s->o->dir);
            if (ok) {
                remove_files(s, "private", "teacher-");
                remove_files(s, "private", "votes");
                remove_files(s, "private", "release");
                remove_files(s, "", "student-");
            }
        }
    }
    ok = ok && write_json(path, ours, e);
    cJSON_Delete(ours);
    cJSON_Delete(theirs);
    return ok;
}

static void key_to_hex(const struct pate_noise *noise, char hex[65])
{
    for (size_t i = 0; i < sizeof noise->key; i++)
        snprintf(hex + 2 * i, 3, "%02x", noise->key[i]);
}

static bool key_from_hex(struct pate_noise *noise, const char *hex)
{
    if (!hex || strlen(hex) != 64 || strspn(hex, "0123456789abcdef") != 64)
        return false;
    for (size_t i = 0; i < sizeof noise->key; i++) {
        unsigned byte = 0;
        sscanf(hex + 2 * i, "%2x", &byte);
        noise->key[i] = (unsigned char)byte;
    }
    return true;
}

static bool write_release(const struct study *s, size_t asked, struct err *e)
{
    char path[4096], hex[65];
    cJSON *j = cJSON_CreateObject();
    key_to_hex(&s->noise, hex);
    cJSON_AddItemToObject(j, "settings", release_json(s));
    cJSON_AddNumberToObject(j, "asked", (double)asked);
    cJSON_AddStringToObject(j, "key", hex);
    bool ok = path_of(s, path, e, "private/release.json") && write_json(path, j, e);
    cJSON_Delete(j);
    return ok;
}

/* Whether the release that the folder holds may be gone on with (*again) or replaced. */
static bool judge_release(const struct study *s, const cJSON *theirs, bool *again, struct err *e)
{
    cJSON *ours = release_json(s);
    *again = same_json(ours, cJSON_GetObjectItemCaseSensitive(theirs, "settings"));
    cJSON_Delete(ours);
    if (*again || !theirs)
        return true;
    if (!s->o->overwrite)
        return err_set(
            e, ERR_USAGE,
            "%s: holds answers of another mechanism or other noise, whose cost adds to that of new "
            "ones; take another folder, or --overwrite if nothing of them was ever published",
            s->o->dir);
    progress_warn(s->progress, "answers under other settings are replaced; if any was ever published, "
                               "its epsilon adds to this one's");
    remove_files(s, "", "student-");
    return true;
}

/* The key: that of the release begun earlier, or a new one, which is written before any answer is made. */
static bool claim_release(struct study *s, struct err *e)
{
    char path[4096];
    const size_t last = s->o->prefix[s->o->n_prefixes - 1];
    bool again = false;
    if (!path_of(s, path, e, "private/release.json"))
        return false;
    cJSON *theirs = file_exists(path) ? read_json(path, e) : NULL;
    bool ok = (theirs || !file_exists(path)) && judge_release(s, theirs, &again, e);
    s->n_asked = last;
    if (ok && again) {
        const double asked = cJSON_GetNumberValue(cJSON_GetObjectItemCaseSensitive(theirs, "asked"));
        s->n_asked = asked > (double)last && asked <= (double)s->n_public ? (size_t)asked : last;
        s->noise.secret = !s->o->seeded_noise;
        ok = key_from_hex(&s->noise, cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(theirs, "key"))) ||
             err_set(e, ERR_INPUT, "%s: holds no key of the noise; take another folder", path);
    } else if (ok) {
        if (s->o->seeded_noise)
            pate_noise_from_seed(&s->noise, s->o->seed);
        else
            ok = pate_noise_draw_key(&s->noise, e);
        ok = ok && write_release(s, 0, e);
    }
    cJSON_Delete(theirs);
    return ok;
}

/* ---- teachers ---- */

struct relay {
    const struct study *s;
    int teacher;
};

static void relay_report(void *ctx, const char *stage, double done, double total, const char *note)
{
    const struct relay *r = ctx;
    (void)note;
    if (strcmp(stage, "train") == 0 && total > 0)
        progress_report(r->s->progress, "teachers", r->teacher + done / total, r->s->o->n_teachers, NULL);
}

static bool copy_shard(const struct study *s, int k, struct imageset *set, struct err *e)
{
    const struct imageset *from = s->private_set;
    const struct imageset_layout *l = &from->layout;
    const size_t image = (size_t)l->size * (size_t)l->size * (size_t)imageset_stored_channels(l),
                 start = s->shards.start[k], n = s->shards.start[k + 1] - start;
    memset(set, 0, sizeof *set);
    if (!imageset_alloc(set, n, l, e))
        return false;
    set->n_classes = from->n_classes;
    memcpy(set->class_name, from->class_name, sizeof set->class_name);
    snprintf(set->source, sizeof set->source, "shard %d", k);
    for (size_t i = 0; i < n; i++) {
        const uint32_t item = s->shards.item[start + i];
        memcpy(set->px + i * image, from->px + item * image, image);
        set->label[i] = from->label[item];
        set->id[i] = from->id[item];
        set->block[i] = from->block[item];
        set->split[i] = IMAGESET_TRAIN;
    }
    return true;
}

/* The only class of a shard, or -1 when it has several. */
static int only_class(const struct study *s, int k)
{
    const uint32_t *item = s->shards.item;
    for (size_t i = s->shards.start[k] + 1; i < s->shards.start[k + 1]; i++)
        if (s->private_set->label[item[i]] != s->private_set->label[item[s->shards.start[k]]])
            return -1;
    return s->private_set->label[item[s->shards.start[k]]];
}

/* Averaged weights and what a model needs besides; nothing to go on training from. */
static bool keep_weights(const char *from, const char *to, struct err *e)
{
    struct checkpoint *c = checkpoint_open(from, e);
    if (!c)
        return false;
    const int n = checkpoint_count(c), n_meta = checkpoint_meta_count(c);
    struct checkpoint_tensor *t = mem_array((size_t)n, sizeof *t, "a teacher", e);
    struct checkpoint_meta *meta = t ? mem_array((size_t)n_meta, sizeof *meta, "a teacher", e) : NULL;
    bool ok = meta;
    int kept = 0, facts = 0;
    for (int i = 0; ok && i < n; i++) {
        const struct checkpoint_tensor *one = checkpoint_at(c, i);
        if (strncmp(one->name, "net.", 4) != 0 && strncmp(one->name, "opt.", 4) != 0)
            t[kept++] = *one;
    }
    for (int i = 0; ok && i < n_meta; i++) {
        const struct checkpoint_meta one = checkpoint_meta_at(c, i);
        if (strcmp(one.key, "aftermap.format") != 0 && strcmp(one.key, "aftermap.sha256") != 0)
            meta[facts++] = one;
    }
    ok = ok && checkpoint_write(to, t, kept, meta, facts, e);
    free(t);
    free(meta);
    checkpoint_close(c);
    return ok;
}

static bool teacher_path(const struct study *s, int k, char path[4096], char part[4096], struct err *e)
{
    return path_of(s, path, e, "private/teacher-%05d.safetensors", k) &&
           path_of(s, part, e, "private/teacher-%05d.part.safetensors", k);
}

static bool teach_one(struct study *s, int k, struct err *e)
{
    char path[4096], part[4096];
    struct imageset set = {0};
    struct train_config t = s->o->teacher;
    struct train_report r;
    struct relay relay = {s, k};
    const struct progress quiet = {
        .report = relay_report, .ctx = &relay, .stop = s->progress ? s->progress->stop : NULL};
    if (!teacher_path(s, k, path, part, e))
        return false;
    if (file_exists(path))
        return true;
    t.seed = s->o->seed + (uint64_t)k;
    t.labels_per_class = 0;
    t.calibrate_share = 0;
    bool ok = copy_shard(s, k, &set, e) && train_run(&set, &t, part, true, NULL, 0, &quiet, &r, e) &&
              keep_weights(part, path, e);
    imageset_free(&set);
    if (ok)
        unlink(part);
    return ok || err_prefix(e, "teacher %d of %d", k + 1, s->o->n_teachers);
}

static bool teach(struct study *s, struct err *e)
{
    for (int k = 0; k < s->o->n_teachers; k++) {
        progress_report(s->progress, "teachers", k, s->o->n_teachers, NULL);
        if (progress_stopped(s->progress))
            return err_set(e, ERR_INTERRUPTED,
                           "interrupted after %d of %d teachers; the same command goes on", k,
                           s->o->n_teachers);
        if (only_class(s, k) < 0 && !teach_one(s, k, e))
            return false;
    }
    progress_report(s->progress, "teachers", s->o->n_teachers, s->o->n_teachers, NULL);
    return true;
}

/* ---- votes ---- */

static bool vote_one(struct study *s, int k, uint8_t *px, float *probs, struct err *e)
{
    const struct imageset *set = s->public_set;
    const size_t n_classes = (size_t)set->n_classes, image = (size_t)set->layout.size *
                                                             (size_t)set->layout.size *
                                                             (size_t)imageset_stored_channels(&set->layout);
    int32_t *vote = s->vote + (size_t)k * s->n_asked;
    char path[4096], part[4096];
    const int only = only_class(s, k);
    if (only >= 0) {
        for (size_t i = 0; i < s->n_asked; i++)
            vote[i] = only;
        return true;
    }
    struct model *m = teacher_path(s, k, path, part, e) ? model_load(path, e) : NULL;
    struct predictor *p = m ? predictor_create(m, BATCH, 1, e) : NULL;
    for (size_t at = 0; p && at < s->n_asked; at += BATCH) {
        const size_t here = s->n_asked - at < BATCH ? s->n_asked - at : BATCH;
        for (size_t i = 0; i < here; i++)
            memcpy(px + i * image, set->px + s->query[at + i] * image, image);
        predictor_run(p, px, (int)here, probs, NULL);
        for (size_t i = 0; i < here; i++) {
            int top = 0;
            for (size_t c = 1; c < n_classes; c++)
                if (probs[i * n_classes + c] > probs[i * n_classes + (size_t)top])
                    top = (int)c;
            vote[at + i] = top;
        }
    }
    const bool ok = p;
    predictor_free(p);
    model_free(m);
    return ok;
}

/* Votes that an earlier call counted, if they reach as far as they must. */
static bool read_votes(struct study *s, const char *path)
{
    struct err ignored;
    struct checkpoint *c = file_exists(path) ? checkpoint_open(path, &ignored) : NULL;
    const struct checkpoint_tensor *t = c ? checkpoint_find(c, "votes") : NULL;
    bool ok = t && t->dtype == CHECKPOINT_I32 && t->n_dims == 2 && t->dims[0] == s->o->n_teachers &&
              t->dims[1] >= (int64_t)s->n_asked;
    for (int k = 0; ok && k < s->o->n_teachers; k++)
        memcpy(s->vote + (size_t)k * s->n_asked, (const int32_t *)t->data + k * t->dims[1],
               s->n_asked * sizeof *s->vote);
    for (size_t i = 0; ok && i < (size_t)s->o->n_teachers * s->n_asked; i++)
        ok = s->vote[i] >= 0 && s->vote[i] < s->private_set->n_classes;
    checkpoint_close(c);
    return ok;
}

static bool collect_votes(struct study *s, const char *path, struct err *e)
{
    const struct imageset_layout *l = &s->public_set->layout;
    uint8_t *px = mem_array(BATCH, (size_t)l->size * (size_t)l->size * (size_t)imageset_stored_channels(l),
                            "a batch of queries", e);
    float *probs =
        px ? mem_array(BATCH, (size_t)s->public_set->n_classes * sizeof *probs, "a batch of queries", e)
           : NULL;
    bool ok = probs;
    for (int k = 0; ok && k < s->o->n_teachers; k++) {
        progress_report(s->progress, "votes", k, s->o->n_teachers, NULL);
        ok = progress_stopped(s->progress)
                 ? err_set(e, ERR_INTERRUPTED, "interrupted during the vote; the same command goes on")
                 : vote_one(s, k, px, probs, e);
    }
    const struct checkpoint_tensor t = {.name = "votes",
                                        .dtype = CHECKPOINT_I32,
                                        .n_dims = 2,
                                        .dims = {s->o->n_teachers, (int64_t)s->n_asked},
                                        .data = s->vote};
    const struct checkpoint_meta meta = {"note", "votes of teachers on private data: never to be published"};
    ok = ok && checkpoint_write(path, &t, 1, &meta, 1, e);
    free(px);
    free(probs);
    return ok;
}

static bool vote(struct study *s, struct err *e)
{
    const size_t n_classes = (size_t)s->private_set->n_classes;
    size_t known = 0, right = 0;
    char path[4096];
    if (!(s->vote = mem_array((size_t)s->o->n_teachers * s->n_asked, sizeof *s->vote, "the votes", e)) ||
        !(s->count = mem_array(s->n_asked * n_classes, sizeof *s->count, "the votes", e)) ||
        !path_of(s, path, e, "private/votes.safetensors"))
        return false;
    if (!read_votes(s, path) && !(teach(s, e) && collect_votes(s, path, e)))
        return false;
    for (int k = 0; k < s->o->n_teachers; k++) {
        s->out->n_silent += only_class(s, k) >= 0;
        for (size_t i = 0; i < s->n_asked; i++) {
            const int v = s->vote[(size_t)k * s->n_asked + i], truth = s->public_set->label[s->query[i]];
            s->count[i * n_classes + (size_t)v]++;
            known += truth != IMAGESET_NO_LABEL;
            right += truth == v;
        }
    }
    s->out->vote_accuracy = known ? (double)right / (double)known : NAN;
    return true;
}

/* ---- answers ---- */

static bool release(struct study *s, struct err *e)
{
    const struct pate_options *o = s->o;
    const int n_classes = s->private_set->n_classes;
    const size_t last = o->prefix[o->n_prefixes - 1];
    s->answer = mem_array(s->n_asked, sizeof *s->answer, "the answers", e);
    pate_ledger_init(&s->all, &o->mechanism, o->n_teachers);
    for (size_t i = 0, p = 0; s->answer && i < s->n_asked; i++) {
        const int *count = s->count + i * (size_t)n_classes;
        if (o->max_epsilon > 0 && i < last &&
            pate_ledger_epsilon(&s->all, o->delta, true, true).epsilon > o->max_epsilon)
            return err_set(
                e, ERR_USAGE,
                "the query budget of epsilon %g is spent after %zu of %zu queries; ask at most %zu, "
                "allow more, or add noise",
                o->max_epsilon, i, last, i);
        s->answer[i] = (int16_t)pate_answer(&o->mechanism, &s->noise, i, count, n_classes);
        pate_ledger_pay(&s->all, count, n_classes, s->answer[i] != PATE_NO_ANSWER);
        if (p < (size_t)o->n_prefixes && i + 1 == o->prefix[p])
            s->at[p++] = s->all;
    }
    return s->answer;
}

static bool write_answers(const struct study *s, struct err *e)
{
    char path[4096];
    struct file_out *f = path_of(s, path, e, "answers.csv") ? file_out_open(path, e) : NULL;
    if (!f)
        return false;
    fprintf(file_out_stream(f), "query,id,answer,class\n");
    for (size_t i = 0; i < s->n_asked; i++) {
        const int a = s->answer[i];
        fprintf(file_out_stream(f), "%zu,%lld,%d,%s\n", i, (long long)s->public_set->id[s->query[i]], a,
                a < 0                                                  ? "unanswered"
                : a < 64 && !strchr(s->public_set->class_name[a], ',') ? s->public_set->class_name[a]
                                                                       : "");
    }
    return file_out_commit(f, e);
}

static struct pate_facts facts_of(const struct study *s, bool data_dependent)
{
    return (struct pate_facts){.delta = s->o->delta,
                               .unit = s->o->unit,
                               .secret_noise = s->noise.secret,
                               .data_dependent = data_dependent};
}

static bool write_ledgers(const struct study *s, struct err *e)
{
    static const char *const names[] = {"ledger.json", "private/ledger.json"};
    bool ok = true;
    for (int k = 0; ok && k < 2; k++) {
        char path[4096];
        const struct pate_facts f = facts_of(s, k == 1 || s->o->data_dependent);
        cJSON *j = pate_ledger_json(&s->all, &f, e);
        ok = j && path_of(s, path, e, "%s", names[k]) && write_json(path, j, e);
        cJSON_Delete(j);
    }
    return ok;
}

/* ---- students ---- */

static void tell_answers(const struct study *s, size_t asked, struct pate_result *r)
{
    r->asked = asked;
    for (size_t i = 0; i < asked; i++) {
        const int truth = s->public_set->label[s->query[i]];
        if (s->answer[i] == PATE_NO_ANSWER)
            continue;
        r->answered++;
        r->known += truth != IMAGESET_NO_LABEL;
        r->right += truth == s->answer[i];
    }
}

static bool train_student(const struct study *s, int prefix, const struct train_config *config,
                          const int16_t *label, struct pate_result *r, struct err *e)
{
    const struct pate_options *o = s->o;
    struct checkpoint_meta meta[16];
    struct imageset set = *s->public_set;
    struct train_config t = *config;
    const struct pate_facts f = facts_of(s, o->data_dependent);
    cJSON *j = pate_ledger_json(&s->at[prefix], &f, e);
    if (!j)
        return false;
    char *text = cJSON_PrintUnformatted(j);
    cJSON_Delete(j);
    if (!text)
        return err_set(e, ERR_RESOURCE, "not enough memory for the privacy ledger");
    assert(o->n_extra < (int)(sizeof meta / sizeof *meta));
    for (int i = 0; i < o->n_extra; i++)
        meta[i] = o->extra[i];
    meta[o->n_extra] = (struct checkpoint_meta){"privacy", text};
    set.label = (int16_t *)label; /* read only, like the rest of the borrowed set */
    t.labels_per_class = 0;
    t.calibrate_share = 0; /* answers are few and noisy: all of them teach */
    t.seed = o->seed;
    bool ok = path_of(s, r->path, e, "student-%s-q%05zu.safetensors", t.method, o->prefix[prefix]);
    if (ok && o->overwrite)
        unlink(r->path);
    ok = ok && train_run(&set, &t, r->path, true, meta, o->n_extra + 1, s->progress, &r->report, e);
    cJSON_free(text);
    r->trained = ok;
    if (!ok && e->code == ERR_INPUT) { /* too few answers, or all of one class; a longer prefix may do */
        snprintf(r->why, sizeof r->why, "%.255s", e->msg);
        err_clear(e);
        return true;
    }
    return ok || err_prefix(e, "student by %s after %zu queries", t.method, o->prefix[prefix]);
}

static bool train_students(struct study *s, struct err *e)
{
    const struct pate_options *o = s->o;
    int16_t *label = mem_array(s->public_set->n, sizeof *label, "the students' labels", e);
    bool ok = label, any = o->n_students == 0;
    for (size_t i = 0; ok && i < s->public_set->n; i++)
        label[i] = IMAGESET_NO_LABEL;
    for (int p = 0; ok && p < o->n_prefixes; p++) {
        for (size_t i = p ? o->prefix[p - 1] : 0; i < o->prefix[p]; i++)
            if (s->answer[i] != PATE_NO_ANSWER)
                label[s->query[i]] = s->answer[i];
        for (int k = 0; ok && k < o->n_students; k++) {
            struct pate_result *r = &s->out->result[s->out->n_results++];
            const struct pate_epsilon tight = pate_ledger_epsilon(&s->at[p], o->delta, true, false);
            *r = (struct pate_result){
                .method = o->student[k].method,
                .epsilon = tight.epsilon,
                .order = tight.order,
                .epsilon_classic = pate_ledger_epsilon(&s->at[p], o->delta, false, false).epsilon,
                .epsilon_data = pate_ledger_epsilon_data(&s->at[p], o->delta, true).epsilon};
            tell_answers(s, o->prefix[p], r);
            ok = train_student(s, p, &o->student[k], label, r, e);
            any |= r->trained;
        }
    }
    free(label);
    if (ok && !any)
        return err_set(
            e, ERR_INPUT,
            "no student could be trained on the answers of %zu queries (%.300s); ask more, lower the "
            "threshold or take less noise",
            o->prefix[o->n_prefixes - 1], s->out->result[s->out->n_results - 1].why);
    return ok;
}

/* ---- all of it ---- */

static bool make_folder(const struct study *s, struct err *e)
{
    char path[4096];
    if (!path_of(s, path, e, "private") || !file_make_dirs(path, e))
        return false;
    return chmod(path, 0700) == 0 || err_errno(e, ERR_RUNTIME, errno, "%s: cannot be closed to others", path);
}

bool pate_study_run(const struct imageset *private_set, const struct imageset *public_set,
                    const struct pate_options *o, const struct progress *progress, struct pate_outcome *out,
                    struct err *e)
{
    struct study *s = mem_array(1, sizeof *s, "the study", e);
    if (!s)
        return false;
    memset(out, 0, sizeof *out);
    s->private_set = private_set;
    s->public_set = public_set;
    s->o = o;
    s->progress = progress;
    s->out = out;
    bool ok = check_sets(s, e) && order_queries(s, e) &&
              (o->n_teachers >= 2 || pate_mechanism_check(&o->mechanism, o->n_teachers, 2, e)) &&
              pate_shards_make(&s->shards, private_set, o->n_teachers, o->unit, o->seed, e) &&
              check_options(s, e);
    out->n_public = s->n_public;
    out->n_units = s->shards.n_units;
    ok = ok && (o->dry_run || (make_folder(s, e) && claim_teachers(s, e) && claim_release(s, e) &&
                               vote(s, e) && release(s, e) && write_release(s, s->n_asked, e) &&
                               write_answers(s, e) && write_ledgers(s, e) && train_students(s, e)));
    pate_shards_free(&s->shards);
    free(s->query);
    free(s->vote);
    free(s->count);
    free(s->answer);
    free(s);
    return ok;
}
