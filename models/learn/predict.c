/* SPDX-License-Identifier: Apache-2.0
 *
 * predict.c - models as predict.h declares them.
 *
 * A model file is untrusted. checkpoint_open() has checked its form and digest; model_load() then takes, in
 * this order: no other kind of model (aftermap.kind); the network's sizes within net_config_check()'s limits; the layout, which must give the network
 * its size and channels; the class names; a weight count equal to the architecture's before anything of that
 * size is allocated; every ema.* tensor with its exact shape and finite values; the colour baseline; the
 * temperature; and no tensor that it does not know. net.* and opt.* may be absent (a model made small for
 * release), but not misshapen.
 *
 * Ownership: a model holds copies, the file is closed again. Threads: a model is immutable and shared; each
 * thread has its own predictor, which holds its own network. */
#include "models/learn/predict.h"

#include "models/base/mem.h"
#include "models/data/augment.h"
#include "models/kernels/int8.h"
#include "models/learn/method.h"
#include "models/learn/trivial.h"
#include "models/net/checkpoint.h"
#include "models/net/net_quant.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    NAMED_CLASSES = 64,
    NAME_SIZE = 80,
    SYMMETRIES = 8,
    SLICE = 32 /* images at once: their inputs stay in the cache between conversion, turning and network */
};

struct model {
    char *path;
    struct net_config net;
    struct imageset_layout layout;
    char class_name[NAMED_CLASSES][32];
    float *values; /* averaged weights and population statistics in table order */
    size_t n_values;
    struct trivial trivial;
    int64_t *labeled_ids;
    size_t n_labeled;
    double temperature;
    char digest[65];
    struct checkpoint_meta *meta; /* copies */
    int n_meta;
};

static bool number(const struct checkpoint *c, const char *path, const char *key, double low, double high,
                   double *out, struct err *e)
{
    const char *text = checkpoint_meta_get(c, key);
    char *end = NULL;
    double v = text ? strtod(text, &end) : NAN;
    if (!text)
        return err_set(e, ERR_MODEL, "%s: is no aftermap model: it lacks \"%s\"", path, key);
    if (end == text || *end || !(v >= low && v <= high))
        return err_set(e, ERR_MODEL,
                       "%s: its \"%s\" is \"%.60s\", which is not a number between %g and %g; train it anew",
                       path, key, text, low, high);
    *out = v;
    return true;
}

static bool whole(const struct checkpoint *c, const char *path, const char *key, int low, int high, int *out,
                  struct err *e)
{
    double v;
    if (!number(c, path, key, low, high, &v, e))
        return false;
    if (v != floor(v))
        return err_set(e, ERR_MODEL, "%s: its \"%s\" is %g where a whole number belongs; train it anew", path,
                       key, v);
    *out = (int)v;
    return true;
}

static bool read_sizes(struct model *m, const struct checkpoint *c, struct err *e)
{
    struct net_config *n = &m->net;
    struct imageset_layout *l = &m->layout;
    double eps;
    int has_masks, use_footprint, use_match;
    if (!whole(c, m->path, "net.size", 1, 1024, &n->size, e) ||
        !whole(c, m->path, "net.c_in", 1, 64, &n->c_in, e) ||
        !whole(c, m->path, "net.n_classes", 2, METHOD_MAX_CLASSES, &n->n_classes, e) ||
        !whole(c, m->path, "net.scales", 1, 6, &n->scales, e) ||
        !whole(c, m->path, "net.filters", 1, 512, &n->filters, e) ||
        !whole(c, m->path, "net.repeats", 1, 16, &n->repeats, e) ||
        !number(c, m->path, "net.bn_eps", 1e-12, 0.1, &eps, e) ||
        !whole(c, m->path, "layout.n_dates", 1, 2, &l->n_dates, e) ||
        !whole(c, m->path, "layout.n_bands", 1, 30, &l->n_bands, e) ||
        !whole(c, m->path, "layout.has_masks", 0, 1, &has_masks, e) ||
        !whole(c, m->path, "layout.use_footprint", 0, 1, &use_footprint, e) ||
        !whole(c, m->path, "layout.use_match", 0, 1, &use_match, e))
        return false;
    n->bn_eps = (float)eps;
    n->bn_momentum = 0.999f;
    l->size = n->size;
    l->has_masks = has_masks;
    l->use_footprint = use_footprint;
    l->use_match = use_match;
    if (use_footprint && !has_masks)
        return err_set(e, ERR_MODEL, "%s: wants footprints but no masks, which cannot be; train it anew",
                       m->path);
    if (use_match && l->n_dates != 2)
        return err_set(e, ERR_MODEL, "%s: compares dates but has one, which cannot be; train it anew",
                       m->path);
    if (imageset_input_channels(l) != n->c_in)
        return err_set(e, ERR_MODEL, "%s: its network takes %d channels, its images have %d; train it anew",
                       m->path, n->c_in, imageset_input_channels(l));
    if (!net_config_check(n, e)) {
        e->code = ERR_MODEL;
        return err_prefix(e, "%s", m->path);
    }
    return number(c, m->path, "temperature", 1e-3, 1e3, &m->temperature, e);
}

static bool read_classes(struct model *m, const struct checkpoint *c, struct err *e)
{
    const char *s = checkpoint_meta_get(c, "classes");
    int want = m->net.n_classes < NAMED_CLASSES ? m->net.n_classes : NAMED_CLASSES, k = 0;
    for (; s && k < want; k++) {
        size_t length = strcspn(s, ",");
        if (length >= sizeof m->class_name[k])
            break;
        memcpy(m->class_name[k], s, length);
        s = s[length] ? s + length + 1 : NULL;
    }
    if (k != want || s)
        return err_set(e, ERR_MODEL, "%s: its list of class names does not hold %d names; train it anew",
                       m->path, want);
    return true;
}

static bool has_shape(const struct checkpoint_tensor *t, enum checkpoint_dtype dtype, int n_dims,
                      const int *dims)
{
    bool same = t && t->dtype == dtype && t->n_dims == n_dims;
    for (int d = 0; same && d < n_dims; d++)
        same = t->dims[d] == dims[d];
    return same;
}

/* Numbers under ema.*, so that a file of a few bytes cannot ask for a network of gigabytes. */
static bool check_count(const struct model *m, const struct checkpoint *c, struct err *e)
{
    size_t stored = 0, want = net_count_params(&m->net);
    for (int i = 0; i < checkpoint_count(c); i++) {
        const struct checkpoint_tensor *t = checkpoint_at(c, i);
        size_t n = 1;
        if (strncmp(t->name, "ema.", 4) != 0 || strstr(t->name, "running_"))
            continue;
        for (int d = 0; d < t->n_dims; d++)
            n *= (size_t)t->dims[d];
        stored += n;
    }
    if (stored == want)
        return true;
    return err_set(e, ERR_MODEL,
                   "%s: holds %zu weights where its network has %zu; it is damaged, train it anew", m->path,
                   stored, want);
}

static bool is_known(const struct net_tensor *tensors, int n, const char *name)
{
    static const char *const exact[] = {"opt.slot0",         "opt.slot1",    "opt.ema_stats",
                                        "state.labeled_ids", "trivial.mean", "trivial.scale",
                                        "trivial.weights"};
    for (size_t i = 0; i < sizeof exact / sizeof *exact; i++)
        if (strcmp(name, exact[i]) == 0)
            return true;
    if (strncmp(name, "net.", 4) == 0 || strncmp(name, "ema.", 4) == 0) {
        for (int i = 0; i < n; i++)
            if (strcmp(name + 4, tensors[i].name) == 0)
                return true;
        return false;
    }
    int n_methods;
    const struct method *const *methods = method_list(&n_methods);
    for (int i = 0; i < n_methods; i++) {
        size_t length = strlen(methods[i]->name);
        if (strncmp(name, "state.", 6) == 0 && strncmp(name + 6, methods[i]->name, length) == 0 &&
            name[6 + length] == '.')
            return true;
    }
    return false;
}

static bool read_weights(struct model *m, const struct checkpoint *c, const struct net_tensor *tensors, int n,
                         struct err *e)
{
    char name[NAME_SIZE];
    m->n_values = (size_t)(tensors[n - 1].value - tensors[0].value) + tensors[n - 1].count;
    m->values = mem_array(m->n_values, sizeof *m->values, "the model", e);
    if (!m->values)
        return false;
    for (int i = 0; i < n; i++) {
        const struct net_tensor *t = &tensors[i];
        float *to = m->values + (t->value - tensors[0].value);
        snprintf(name, sizeof name, "net.%s", t->name);
        const struct checkpoint_tensor *raw = checkpoint_find(c, name);
        snprintf(name, sizeof name, "ema.%s", t->name);
        const struct checkpoint_tensor *average = checkpoint_find(c, name);
        if (!has_shape(average, CHECKPOINT_F32, t->n_dims, t->dims) ||
            (raw && !has_shape(raw, CHECKPOINT_F32, t->n_dims, t->dims)))
            return err_set(e, ERR_MODEL,
                           "%s: its tensor %s is missing or has another shape; it is damaged, train it anew",
                           m->path, name);
        memcpy(to, average->data, t->count * sizeof *to);
        for (size_t j = 0; j < t->count; j++)
            if (!isfinite(to[j]) || (t->role == NET_RUNNING_VAR && to[j] < 0))
                return err_set(e, ERR_MODEL,
                               "%s: its tensor %s holds values no training makes; train it anew", m->path,
                               name);
    }
    for (int i = 0; i < checkpoint_count(c); i++)
        if (!is_known(tensors, n, checkpoint_at(c, i)->name))
            return err_set(
                e, ERR_MODEL,
                "%s: holds a tensor %.60s that this version does not know; use the version that made it",
                m->path, checkpoint_at(c, i)->name);
    return true;
}

static bool read_trivial(struct model *m, const struct checkpoint *c, struct err *e)
{
    int d = trivial_feature_count(&m->layout), shape[2] = {m->net.n_classes, d + 1};
    const struct checkpoint_tensor *weights = checkpoint_find(c, "trivial.weights");
    struct trivial *t = &m->trivial;
    if (!has_shape(weights, CHECKPOINT_F64, 2, shape))
        return err_set(e, ERR_MODEL, "%s: its colour baseline is missing or has another shape; train it anew",
                       m->path);
    size_t n = (size_t)d, n_weights = (size_t)shape[0] * (size_t)shape[1];
    if (!trivial_alloc(t, d, m->net.n_classes, e) ||
        !checkpoint_copy(c, "trivial.mean", CHECKPOINT_F64, n, t->mean, e) ||
        !checkpoint_copy(c, "trivial.scale", CHECKPOINT_F64, n, t->scale, e) ||
        !checkpoint_copy(c, "trivial.weights", CHECKPOINT_F64, n_weights, t->weights, e))
        return false;
    bool sane = true;
    for (size_t i = 0; i < n; i++)
        sane = sane && isfinite(t->mean[i]) && isfinite(t->scale[i]) && t->scale[i] > 0;
    for (size_t i = 0; i < n_weights; i++)
        sane = sane && isfinite(t->weights[i]);
    if (!sane)
        return err_set(e, ERR_MODEL, "%s: its colour baseline holds values no fit makes; train it anew",
                       m->path);
    return true;
}

static bool read_ids(struct model *m, const struct checkpoint *c, struct err *e)
{
    const struct checkpoint_tensor *t = checkpoint_find(c, "state.labeled_ids");
    if (!t || t->dtype != CHECKPOINT_I64 || t->n_dims != 1)
        return err_set(e, ERR_MODEL, "%s: does not say which items it was taught with; train it anew",
                       m->path);
    m->n_labeled = (size_t)t->dims[0];
    m->labeled_ids = mem_array(m->n_labeled, sizeof *m->labeled_ids, "the model", e);
    if (!m->labeled_ids)
        return false;
    memcpy(m->labeled_ids, t->data, m->n_labeled * sizeof *m->labeled_ids);
    return true;
}

static bool read_meta(struct model *m, const struct checkpoint *c, struct err *e)
{
    int n = checkpoint_meta_count(c);
    m->meta = mem_array((size_t)n, sizeof *m->meta, "the model's description", e);
    for (int i = 0; m->meta && i < n; i++) {
        struct checkpoint_meta pair = checkpoint_meta_at(c, i);
        m->meta[i].key = mem_strdup(pair.key, e);
        m->meta[i].value = m->meta[i].key ? mem_strdup(pair.value, e) : NULL;
        m->n_meta = i + 1;
        if (!m->meta[i].value)
            return false;
    }
    snprintf(m->digest, sizeof m->digest, "%s", checkpoint_digest(c));
    return m->meta;
}

/* Files of other kinds of networks say which they are; a classifier says nothing. */
static bool check_kind(const struct checkpoint *c, const char *path, struct err *e)
{
    const char *kind = checkpoint_meta_get(c, "aftermap.kind");
    return !kind || err_set(e, ERR_MODEL,
                            "%s: is a %.32s model, which makes images up and tells no damage; name one that "
                            "aftermap train wrote",
                            path, kind);
}

struct model *model_load(const char *path, struct err *e)
{
    bool ok = false;
    struct net *net = NULL;
    struct checkpoint *c = checkpoint_open(path, e);
    struct model *m = c ? mem_array(1, sizeof *m, "the model", e) : NULL;
    if (!m)
        goto out;
    m->path = mem_strdup(path, e);
    if (!m->path || !check_kind(c, path, e) || !read_sizes(m, c, e) || !read_classes(m, c, e) ||
        !check_count(m, c, e))
        goto out;
    net = net_create(&m->net, 1, NET_INFER, e); /* for its table of names and shapes */
    if (!net)
        goto out;
    int n;
    const struct net_tensor *tensors = net_tensors(net, &n);
    ok =
        read_weights(m, c, tensors, n, e) && read_trivial(m, c, e) && read_ids(m, c, e) && read_meta(m, c, e);
out:
    net_free(net);
    checkpoint_close(c);
    if (!ok) {
        model_free(m);
        m = NULL;
    }
    return m;
}

void model_free(struct model *m)
{
    if (!m)
        return;
    for (int i = 0; i < m->n_meta; i++) {
        free((char *)m->meta[i].key);
        free((char *)m->meta[i].value);
    }
    free(m->meta);
    free(m->path);
    free(m->values);
    free(m->labeled_ids);
    trivial_free(&m->trivial);
    free(m);
}

const struct net_config *model_net(const struct model *m)
{
    return &m->net;
}

const struct imageset_layout *model_layout(const struct model *m)
{
    return &m->layout;
}

const char *model_meta(const struct model *m, const char *key)
{
    for (int i = 0; i < m->n_meta; i++)
        if (strcmp(m->meta[i].key, key) == 0)
            return m->meta[i].value;
    return NULL;
}

const char *model_digest(const struct model *m)
{
    return m->digest;
}

const char *model_class(const struct model *m, int i)
{
    assert(i >= 0 && i < m->net.n_classes);
    return i < NAMED_CLASSES ? m->class_name[i] : "";
}

const int64_t *model_labeled_ids(const struct model *m, size_t *n)
{
    *n = m->n_labeled;
    return m->labeled_ids;
}

double model_temperature(const struct model *m)
{
    return m->temperature;
}

void model_trivial(const struct model *m, const uint8_t *px, float *probs)
{
    trivial_predict(&m->trivial, &m->layout, px, probs);
}

struct predictor {
    const struct model *model;
    struct net *net;
    struct net_quant *quant; /* NULL: fp32 */
    int max_batch, n_views, slice;
    float *x, *turned; /* [slice, input]; turned only with several views */
    size_t row_floats, image_bytes;
};

struct predictor *predictor_create(const struct model *m, int max_batch, int n_views, struct err *e)
{
    assert(n_views == 1 || n_views == SYMMETRIES);
    struct predictor *p = mem_array(1, sizeof *p, "the prediction", e);
    if (!p)
        return NULL;
    size_t pixels = (size_t)m->layout.size * (size_t)m->layout.size;
    p->model = m;
    p->max_batch = max_batch;
    p->slice = max_batch < SLICE ? max_batch : SLICE;
    p->n_views = n_views;
    p->row_floats = pixels * (size_t)imageset_input_channels(&m->layout);
    p->image_bytes = pixels * (size_t)imageset_stored_channels(&m->layout);
    p->net = net_create(&m->net, p->slice, NET_INFER, e);
    p->x = p->net ? mem_array((size_t)p->slice, p->row_floats * sizeof(float), "the prediction", e) : NULL;
    if (p->x && n_views > 1)
        p->turned = mem_array((size_t)p->slice, p->row_floats * sizeof(float), "the prediction", e);
    if (!p->x || (n_views > 1 && !p->turned)) {
        predictor_free(p);
        return NULL;
    }
    memcpy(net_tensors(p->net, NULL)[0].value, m->values, m->n_values * sizeof *m->values);
    net_weights_changed(p->net);
    return p;
}

void predictor_free(struct predictor *p)
{
    if (!p)
        return;
    net_quant_free(p->quant);
    net_free(p->net);
    free(p->x);
    free(p->turned);
    free(p);
}

static void convert(const struct predictor *p, const uint8_t *px, int n)
{
#pragma omp parallel for schedule(static)
    for (int i = 0; i < n; i++)
        imageset_to_input(&p->model->layout, px + (size_t)i * p->image_bytes,
                          p->x + (size_t)i * p->row_floats);
}

bool predictor_quantize(struct predictor *p, const uint8_t *px, int n, struct err *e)
{
    assert(n > 0 && !p->quant);
    if (!int8_is_fast() && strcmp(kernels_rung(), "plain") != 0)
        return err_set(
            e, ERR_USAGE,
            "8-bit inference needs a CPU with VNNI (and AFTERMAP_KERNELS not below avx2); use fp32");
    struct net_quant *q = net_quant_create(p->net, e);
    if (!q)
        return false;
    for (int done = 0; done < n; done += p->slice) {
        int here = n - done < p->slice ? n - done : p->slice;
        convert(p, px + (size_t)done * p->image_bytes, here);
        net_quant_observe(q, p->x, here);
    }
    net_quant_freeze(q);
    p->quant = q;
    return true;
}

const char *predictor_precision(const struct predictor *p)
{
    return p->quant ? "int8" : "fp32";
}

/* One pass over p's network: share times its class probabilities and embedding are added. */
static void add_pass(struct predictor *p, const float *x, int n, float share, float *probs, float *embedding)
{
    const int n_classes = p->model->net.n_classes;
    const size_t n_embedding = (size_t)n * (size_t)net_embedding_size(&p->model->net);
    const float sharpness = (float)(1.0 / p->model->temperature);
    const float *logits =
        p->quant ? net_quant_forward(p->quant, x, n) : net_forward(p->net, x, n, NET_BN_RUNNING);
    for (int i = 0; i < n; i++) {
        float z[METHOD_MAX_CLASSES], q[METHOD_MAX_CLASSES];
        for (int c = 0; c < n_classes; c++)
            z[c] = logits[(size_t)i * (size_t)n_classes + (size_t)c] * sharpness;
        semi_softmax(z, n_classes, q);
        for (int c = 0; c < n_classes; c++)
            probs[(size_t)i * (size_t)n_classes + (size_t)c] += share * q[c];
    }
    const float *seen = net_embedding(p->net);
    for (size_t i = 0; embedding && i < n_embedding; i++)
        embedding[i] += share * seen[i];
}

static void clear_outputs(const struct predictor *p, int n, float *probs, float *embedding)
{
    memset(probs, 0, (size_t)n * (size_t)p->model->net.n_classes * sizeof *probs);
    if (embedding)
        memset(embedding, 0, (size_t)n * (size_t)net_embedding_size(&p->model->net) * sizeof *embedding);
}

void predictor_run(struct predictor *p, const uint8_t *px, int n, float *probs, float *embedding)
{
    const size_t k = (size_t)p->model->net.n_classes, d = (size_t)net_embedding_size(&p->model->net);
    const float share = 1.0f / (float)p->n_views;
    assert(n > 0 && n <= p->max_batch);
    clear_outputs(p, n, probs, embedding);
    for (int at = 0; at < n; at += p->slice) {
        const int here = n - at < p->slice ? n - at : p->slice;
        convert(p, px + (size_t)at * p->image_bytes, here);
        for (int g = 0; g < p->n_views; g++) {
            if (p->n_views > 1) {
#pragma omp parallel for schedule(static)
                for (int i = 0; i < here; i++)
                    augment_d4(&p->model->layout, p->x + (size_t)i * p->row_floats, g,
                               p->turned + (size_t)i * p->row_floats);
            }
            add_pass(p, p->n_views > 1 ? p->turned : p->x, here, share, probs + (size_t)at * k,
                     embedding ? embedding + (size_t)at * d : NULL);
        }
    }
}

void predictor_run_inputs(struct predictor *p, const float *x, int n, float *probs, float *embedding)
{
    const size_t k = (size_t)p->model->net.n_classes, d = (size_t)net_embedding_size(&p->model->net);
    assert(n > 0 && n <= p->max_batch);
    clear_outputs(p, n, probs, embedding);
    for (int at = 0; at < n; at += p->slice) {
        const int here = n - at < p->slice ? n - at : p->slice;
        add_pass(p, x + (size_t)at * p->row_floats, here, 1.0f, probs + (size_t)at * k,
                 embedding ? embedding + (size_t)at * d : NULL);
    }
}
