/* SPDX-License-Identifier: Apache-2.0
 *
 * train_checkpoint.c - one file = one resumable point, and at the same time the model: what predict.h needs
 * and what the next step needs. predict.h lists the metadata keys; tensors are
 *
 *   net.NAME           weights as trained, raw running statistics                  [shape of the net's table]
 *   ema.NAME           averaged weights with population statistics                 [same]
 *   opt.slot0, slot1   momentum, or Adam's two moments, in table order             [trainable numbers]
 *   state.labeled_ids  ids of all labelled items, the held-out ones included       [n] i64
 *   state.METHOD.NAME  what the method keeps; cta_rates when it learns its augmentation
 *   trivial.mean/scale/weights  the colour baseline (trivial.h)                    f64
 *
 * The averaged weights' own running statistics are not stored: unless the average covers them they are the
 * raw ones, and that is what a resumed run puts back (with ema_running_stats they come from opt.ema_stats).
 */
#include "models/learn/trainer.h"

#include "models/base/file.h"
#include "models/base/mem.h"
#include "models/kernels/kernels.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { NAME_SIZE = 80, MAX_META = 64, MAX_STATE_TENSORS = 12, FIXED_TENSORS = 8 };

struct list {
    struct checkpoint_tensor *tensors;
    char (*names)[NAME_SIZE];
    int n;
};

static void add(struct list *l, enum checkpoint_dtype dtype, int n_dims, const int64_t *dims,
                const void *data, const char *prefix, const char *name)
{
    snprintf(l->names[l->n], NAME_SIZE, "%s%s", prefix, name);
    struct checkpoint_tensor *t = &l->tensors[l->n];
    *t = (struct checkpoint_tensor){.name = l->names[l->n], .dtype = dtype, .n_dims = n_dims, .data = data};
    for (int d = 0; d < n_dims; d++)
        t->dims[d] = dims[d];
    l->n++;
}

static void add_net(struct list *l, const struct trainer *t)
{
    int n;
    const struct net_tensor *tensors = net_tensors(t->net, &n);
    for (int pass = 0; pass < 2; pass++)
        for (int i = 0; i < n; i++) {
            int64_t dims[4];
            for (int d = 0; d < tensors[i].n_dims; d++)
                dims[d] = tensors[i].dims[d];
            const float *data =
                pass == 0 ? tensors[i].value : t->ema_stat + (tensors[i].value - tensors[0].value);
            add(l, CHECKPOINT_F32, tensors[i].n_dims, dims, data, pass == 0 ? "net." : "ema.",
                tensors[i].name);
        }
}

static void state_name(const struct trainer *t, const char *name, char out[NAME_SIZE])
{
    snprintf(out, NAME_SIZE, "state.%s.%s", t->method->name, name);
}

/* What the method keeps, and CTAugment's rates. */
static int all_state(struct trainer *t, struct method_state_tensor out[MAX_STATE_TENSORS])
{
    int n = t->state ? t->method->state_tensors(t->state, out) : 0;
    if (t->batches.cta)
        out[n++] = (struct method_state_tensor){"cta_rates", t->batches.cta->n_rates, t->batches.cta->rate};
    assert(n <= MAX_STATE_TENSORS);
    return n;
}

static void add_rest(struct list *l, struct trainer *t, const int64_t *labeled_ids, int64_t n_ids)
{
    static const char *const slots[] = {"slot0", "slot1"};
    struct method_state_tensor state[MAX_STATE_TENSORS];
    char name[NAME_SIZE];
    int64_t n_floats = (int64_t)optim_state_count(t->optim);
    const struct trivial *v = &t->trivial;
    const int64_t n_features = v->n_features, weights[2] = {v->n_classes, v->n_features + 1};
    for (int s = 0; s < optim_slots(t->optim); s++)
        add(l, CHECKPOINT_F32, 1, &n_floats, optim_slot(t->optim, s), "opt.", slots[s]);
    if (t->config->optim.ema_running_stats) {
        int n;
        const struct net_tensor *last = net_tensors(t->net, &n);
        int64_t n_running = (last[n - 1].value + last[n - 1].count) - last[0].value - n_floats;
        add(l, CHECKPOINT_F32, 1, &n_running, optim_ema(t->optim) + n_floats, "opt.", "ema_stats");
    }
    add(l, CHECKPOINT_I64, 1, &n_ids, labeled_ids, "state.", "labeled_ids");
    add(l, CHECKPOINT_F64, 1, &n_features, v->mean, "trivial.", "mean");
    add(l, CHECKPOINT_F64, 1, &n_features, v->scale, "trivial.", "scale");
    add(l, CHECKPOINT_F64, 2, weights, v->weights, "trivial.", "weights");
    int n_state = all_state(t, state);
    for (int i = 0; i < n_state; i++) {
        int64_t count = (int64_t)state[i].count;
        state_name(t, state[i].name, name);
        add(l, CHECKPOINT_F32, 1, &count, state[i].data, "", name);
    }
}

/* Metadata: a value that the caller gave replaces ours of the same name (its source is nearer to the user's
 * files). */
struct meta {
    struct checkpoint_meta pair[MAX_META];
    char text[MAX_META][64];
    int n;
};

static void meta_add(struct meta *m, const char *key, const char *value)
{
    for (int i = 0; i < m->n; i++)
        if (strcmp(m->pair[i].key, key) == 0)
            return;
    assert(m->n < MAX_META);
    m->pair[m->n++] = (struct checkpoint_meta){key, value};
}

static void meta_number(struct meta *m, const char *key, double value)
{
    char *text = m->text[m->n];
    snprintf(text, sizeof m->text[0], "%.17g", value);
    meta_add(m, key, text);
}

static void meta_fill(struct meta *m, const struct trainer *t, const char *classes)
{
    const struct net_config *c = &t->net_config;
    const struct imageset_layout *l = &t->set->layout;
    meta_add(m, "aftermap.version", AM_VERSION);
    meta_add(m, "net.preset", t->config->preset);
    meta_number(m, "net.size", c->size);
    meta_number(m, "net.c_in", c->c_in);
    meta_number(m, "net.n_classes", c->n_classes);
    meta_number(m, "net.scales", c->scales);
    meta_number(m, "net.filters", c->filters);
    meta_number(m, "net.repeats", c->repeats);
    meta_number(m, "net.bn_eps", (double)c->bn_eps);
    meta_number(m, "layout.n_dates", l->n_dates);
    meta_number(m, "layout.n_bands", l->n_bands);
    meta_number(m, "layout.has_masks", l->has_masks);
    meta_number(m, "layout.use_footprint", l->use_footprint);
    meta_number(m, "layout.use_match", l->use_match);
    meta_add(m, "classes", classes);
    meta_add(m, "train.config", t->config_text);
    meta_add(m, "train.data", t->pools.digest);
    meta_number(m, "train.step", (double)t->step);
    meta_number(m, "train.steps", (double)t->n_steps);
    meta_number(m, "train.budget_s", t->config->budget_s);
    meta_number(m, "train.loss", t->loss);
    snprintf(m->text[m->n], sizeof m->text[0], "%llu", (unsigned long long)t->config->seed);
    meta_add(m, "seed", m->text[m->n]);
    meta_add(m, "source", t->set->source);
    meta_add(m, "source.digest", t->set->digest);
    snprintf(m->text[m->n], sizeof m->text[0], "%s %s", kernels_rung(), kernels_conv_name());
    meta_add(m, "kernels", m->text[m->n]);
    meta_number(m, "temperature", t->temperature);
    meta_number(m, "calibrated", t->calibrated);
    meta_number(m, "n_labeled", (double)t->pools.n_labeled);
    meta_number(m, "n_calibration", (double)t->pools.n_calibration);
    if (t->pools.n_source > 0)
        meta_number(m, "n_source", (double)t->pools.n_source);
    meta_number(m, "n_unlabeled", (double)t->pools.n_unlabeled);
    time_t now = time(NULL);
    struct tm utc;
    gmtime_r(&now, &utc);
    strftime(m->text[m->n], sizeof m->text[0], "%Y-%m-%dT%H:%M:%SZ", &utc);
    meta_add(m, "created", m->text[m->n]);
}

/* "none,minor,major"; a comma inside a name becomes a space. Caller frees. */
static char *class_list(const struct imageset *set, struct err *e)
{
    enum { NAMED = 64, WIDTH = 32 };
    char *text = mem_array(NAMED, WIDTH + 1, "the class names", e);
    size_t used = 0;
    for (int c = 0; text && c < set->n_classes && c < NAMED; c++) {
        if (c > 0)
            text[used++] = ',';
        for (int i = 0; i < WIDTH && set->class_name[c][i]; i++)
            text[used++] = set->class_name[c][i] == ',' ? ' ' : set->class_name[c][i];
    }
    return text;
}

bool trainer_save(struct trainer *t, const char *path, const struct checkpoint_meta *extra, int n_extra,
                  struct err *e)
{
    bool ok = false;
    int n_tensors;
    int64_t n_ids = 0;
    net_tensors(t->net, &n_tensors);
    size_t room = 2 * (size_t)n_tensors + FIXED_TENSORS + MAX_STATE_TENSORS;
    struct list l = {0};
    struct meta *m = mem_array(1, sizeof *m, "the model's description", e);
    char *classes = class_list(t->set, e);
    int64_t *ids = mem_array(t->pools.n_labeled, sizeof *ids, "the model's description", e);
    l.tensors = mem_array(room, sizeof *l.tensors, "the model's description", e);
    l.names = mem_array(room, sizeof *l.names, "the model's description", e);
    if (!m || !classes || !ids || !l.tensors || !l.names)
        goto out;
    if (n_extra > MAX_META / 4) {
        err_set(e, ERR_INPUT, "%d further facts about a model are too many; %d fit", n_extra, MAX_META / 4);
        goto out;
    }
    for (size_t i = 0; i < t->pools.n_labeled;
         i++) /* labels that people gave, also those that taught a teacher */
        if (!t->set->taught || t->set->taught[t->pools.labeled[i]])
            ids[n_ids++] = t->set->id[t->pools.labeled[i]];
    trainer_population_statistics(t);
    t->temperature = 1;
    t->calibrated = false;
    if (t->step == t->n_steps && !trainer_calibrate(t, e))
        goto out;
    add_net(&l, t);
    add_rest(&l, t, ids, n_ids);
    assert((size_t)l.n <= room);
    for (int i = 0; i < n_extra; i++)
        meta_add(m, extra[i].key, extra[i].value);
    meta_fill(m, t, classes);
    ok = checkpoint_write(path, l.tensors, l.n, m->pair, m->n, e);
out:
    free(m);
    free(classes);
    free(ids);
    free(l.tensors);
    free(l.names);
    return ok;
}

static bool same(const struct checkpoint *c, const char *path, const char *key, const char *ours,
                 const char *what, struct err *e)
{
    const char *theirs = checkpoint_meta_get(c, key);
    if (theirs && strcmp(theirs, ours) == 0)
        return true;
    return err_set(
        e, ERR_MODEL,
        "%s: was trained with other %s (%.200s, not %.200s); go on with the same ones or write another file",
        path, what, theirs ? theirs : "none stored", ours);
}

static bool stored_count(const struct checkpoint *c, const char *path, const char *key, int64_t *out,
                         struct err *e)
{
    const char *text = checkpoint_meta_get(c, key);
    char *end = NULL;
    double v = text ? strtod(text, &end) : NAN;
    if (!text || end == text || *end || !(v >= 0 && v <= 1e9) || v != floor(v))
        return err_set(e, ERR_MODEL, "%s: says no valid %s; train it anew", path, key);
    *out = (int64_t)v;
    return true;
}

static bool check_same_run(struct trainer *t, const struct checkpoint *c, const char *path, struct err *e)
{
    if (!same(c, path, "train.config", t->config_text, "settings", e) ||
        !same(c, path, "train.data", t->pools.digest, "data", e) ||
        !stored_count(c, path, "train.step", &t->step, e) ||
        !stored_count(c, path, "train.steps", &t->n_steps, e))
        return false;
    if (t->n_steps < 1 || t->step > t->n_steps)
        return err_set(e, ERR_MODEL, "%s: says step %lld of %lld; train it anew", path, (long long)t->step,
                       (long long)t->n_steps);
    if (t->config->steps > 0 && t->config->steps != t->n_steps)
        return err_set(e, ERR_MODEL,
                       "%s: is a run of %lld steps, whose schedule cannot become one of %lld; resume it with "
                       "its own number or "
                       "write another file",
                       path, (long long)t->n_steps, (long long)t->config->steps);
    return true;
}

static bool restore_net(struct trainer *t, const struct checkpoint *c, struct err *e)
{
    int n;
    char name[NAME_SIZE];
    const struct net_tensor *tensors = net_tensors(t->net, &n);
    for (int i = 0; i < n; i++) {
        snprintf(name, sizeof name, "net.%s", tensors[i].name);
        if (!checkpoint_copy(c, name, CHECKPOINT_F32, tensors[i].count, tensors[i].value, e))
            return false;
    }
    net_weights_changed(t->net);
    t->optim =
        optim_create(t->net, &t->config->optim, e); /* copies the raw running statistics into its average */
    if (!t->optim)
        return false;
    float *ema = optim_ema_writable(t->optim);
    for (int i = 0; i < n; i++) {
        if (tensors[i].role == NET_RUNNING_MEAN || tensors[i].role == NET_RUNNING_VAR)
            continue;
        snprintf(name, sizeof name, "ema.%s", tensors[i].name);
        if (!checkpoint_copy(c, name, CHECKPOINT_F32, tensors[i].count,
                             ema + (tensors[i].value - tensors[0].value), e))
            return false;
    }
    if (t->config->optim.ema_running_stats) {
        size_t n_floats = optim_state_count(t->optim);
        size_t n_running =
            (size_t)(tensors[n - 1].value - tensors[0].value) + tensors[n - 1].count - n_floats;
        if (!checkpoint_copy(c, "opt.ema_stats", CHECKPOINT_F32, n_running, ema + n_floats, e))
            return false;
    }
    for (int s = 0; s < optim_slots(t->optim); s++) {
        snprintf(name, sizeof name, "opt.slot%d", s);
        if (!checkpoint_copy(c, name, CHECKPOINT_F32, optim_state_count(t->optim), optim_slot(t->optim, s),
                             e))
            return false;
    }
    optim_set_steps_taken(t->optim, (uint64_t)t->step);
    return true;
}

static bool restore_state(struct trainer *t, const struct checkpoint *c, struct err *e)
{
    struct method_state_tensor state[MAX_STATE_TENSORS];
    char name[NAME_SIZE];
    int n = all_state(t, state);
    for (int i = 0; i < n; i++) {
        state_name(t, state[i].name, name);
        if (!checkpoint_copy(c, name, CHECKPOINT_F32, state[i].count, state[i].data, e))
            return false;
    }
    return true;
}

bool trainer_restore(struct trainer *t, const char *path, struct err *e)
{
    struct checkpoint *c = checkpoint_open(path, e);
    if (!c)
        return false;
    bool ok = check_same_run(t, c, path, e) && restore_net(t, c, e) && restore_state(t, c, e);
    if (ok) {
        const char *kernels = checkpoint_meta_get(c, "kernels");
        const char *loss = checkpoint_meta_get(c, "train.loss");
        char now[64];
        t->loss = loss ? strtod(loss, NULL) : 0; /* what a finished run that is resumed reports */
        snprintf(now, sizeof now, "%s %s", kernels_rung(), kernels_conv_name());
        if (!kernels || strcmp(kernels, now) != 0)
            progress_warn(
                t->progress,
                "the run was begun with other kernels than this processor uses; it goes on, but its "
                "last bits will differ from an unbroken run");
    }
    checkpoint_close(c);
    return ok;
}
