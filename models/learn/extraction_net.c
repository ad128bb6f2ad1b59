/* SPDX-License-Identifier: Apache-2.0
 *
 * extraction_net.c - two-layer networks of one's own as victims of direct extraction (extraction.h): made at random,
 * read from JSON, answered as services answer (logits or probabilities, float32, so many decimals), and compared with
 * the copy. */
#include "models/learn/extraction.h"

#include "models/base/file.h"
#include "models/base/mem.h"
#include "models/base/rng.h"

#include <cJSON.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { NET_JSON_MAX = 256 << 20, MAX_SIDE = 100000 };

static bool net_alloc(struct extraction_net *net, int d, int h, int k, struct err *e)
{
    const size_t sd = (size_t)d, sh = (size_t)h, sk = (size_t)k;
    *net = (struct extraction_net){.d = d, .h = h, .k = k};
    if (d < 1 || h < 1 || k < 1 || d > MAX_SIDE || h > MAX_SIDE || k > MAX_SIDE)
        return err_set(e, ERR_INPUT,
                       "a network has between 1 and %d inputs, units and outputs, not %d, %d and %d",
                       MAX_SIDE, d, h, k);
    net->a0 = mem_array(sh * sd + sh + sk * sh + sk, sizeof *net->a0, "the network", e);
    if (!net->a0)
        return false;
    net->b0 = net->a0 + sh * sd;
    net->a1 = net->b0 + sh;
    net->b1 = net->a1 + sk * sh;
    return true;
}

void extraction_net_free(struct extraction_net *net)
{
    free(net->a0);
    memset(net, 0, sizeof *net);
}

bool extraction_net_random(struct extraction_net *net, int d, int h, int k, uint64_t seed, struct err *e)
{
    struct rng r;
    if (!net_alloc(net, d, h, k, e))
        return false;
    rng_init(&r, seed, RNG_INIT, 0);
    for (int i = 0; i < h * d; i++)
        net->a0[i] = rng_normal(&r) / sqrt(d);
    for (int i = 0; i < h; i++)
        net->b0[i] = 0.5 * rng_normal(&r);
    for (int i = 0; i < k * h; i++)
        net->a1[i] = rng_normal(&r) / sqrt(h);
    for (int i = 0; i < k; i++)
        net->b1[i] = 0.5 * rng_normal(&r);
    return true;
}

static bool take_row(const cJSON *j, int n, double *out)
{
    int i = 0;
    if (!cJSON_IsArray(j))
        return false;
    for (const cJSON *v = j->child; v; v = v->next, i++) {
        if (i == n || !cJSON_IsNumber(v) || !isfinite(v->valuedouble))
            return false;
        out[i] = v->valuedouble;
    }
    return i == n;
}

static bool take_matrix(const cJSON *j, int rows, int columns, double *out)
{
    int i = 0;
    if (!cJSON_IsArray(j))
        return false;
    for (const cJSON *v = j->child; v; v = v->next, i++)
        if (i == rows || !take_row(v, columns, out + (size_t)i * (size_t)columns))
            return false;
    return i == rows;
}

static bool take_net(struct extraction_net *net, const cJSON *j, const char *path, struct err *e)
{
    const cJSON *a0 = cJSON_GetObjectItemCaseSensitive(j, "a0"),
                *a1 = cJSON_GetObjectItemCaseSensitive(j, "a1");
    const char *kind = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(j, "activation"));
    const int h = cJSON_GetArraySize(a0), k = cJSON_GetArraySize(a1),
              d = h > 0 ? cJSON_GetArraySize(a0->child) : 0;
    if (!kind || strcmp(kind, "relu") != 0)
        return err_set(
            e, ERR_INPUT,
            "%s: its \"activation\" is \"%.40s\": only networks with one layer of \"relu\" units can be "
            "extracted directly",
            path, kind ? kind : "not given");
    if (h < 1 || k < 1 || d < 1 || !net_alloc(net, d, h, k, e) || !take_matrix(a0, h, d, net->a0) ||
        !take_row(cJSON_GetObjectItemCaseSensitive(j, "b0"), h, net->b0) || !take_matrix(a1, k, h, net->a1) ||
        !take_row(cJSON_GetObjectItemCaseSensitive(j, "b1"), k, net->b1))
        return err_set(
            e, ERR_INPUT,
            "%s: wants a0 [units][inputs], b0 [units], a1 [outputs][units] and b1 [outputs], all finite "
            "numbers",
            path);
    return true;
}

bool extraction_net_read(struct extraction_net *net, const char *path, struct err *e)
{
    *net = (struct extraction_net){0};
    char *text = file_read(path, NET_JSON_MAX, NULL, e);
    if (!text)
        return false;
    cJSON *j = cJSON_Parse(text);
    free(text);
    bool ok = j ? take_net(net, j, path, e) : err_set(e, ERR_INPUT, "%s: is no JSON", path);
    cJSON_Delete(j);
    if (!ok)
        extraction_net_free(net);
    return ok;
}

static cJSON *matrix_json(const double *a, int rows, int columns)
{
    cJSON *j = cJSON_CreateArray();
    for (int i = 0; i < rows; i++)
        cJSON_AddItemToArray(j, cJSON_CreateDoubleArray(a + (size_t)i * (size_t)columns, columns));
    return j;
}

bool extraction_copy_write(const struct extraction_copy *c, const char *path, struct err *e)
{
    cJSON *j = cJSON_CreateObject();
    cJSON_AddStringToObject(j, "kind", "extracted network");
    cJSON_AddStringToObject(j, "activation", "relu");
    cJSON_AddItemToObject(j, "a0", matrix_json(c->row, c->m, c->d));
    cJSON_AddItemToObject(j, "b0", cJSON_CreateDoubleArray(c->bias, c->m));
    cJSON_AddItemToObject(j, "a1", matrix_json(c->top, c->k, c->m));
    cJSON_AddItemToObject(j, "b1", cJSON_CreateDoubleArray(c->constant, c->k));
    if (!c->is_signed)
        cJSON_AddItemToObject(j, "linear", matrix_json(c->linear, c->k, c->d));
    char *text = cJSON_PrintUnformatted(j);
    bool ok =
        text ? file_write_text(path, text, e) : err_set(e, ERR_RESOURCE, "not enough memory for %s", path);
    cJSON_free(text);
    cJSON_Delete(j);
    return ok;
}

void extraction_net_logits(const struct extraction_net *net, const double *x, double *y)
{
    memcpy(y, net->b1, (size_t)net->k * sizeof *y);
    for (int i = 0; i < net->h; i++) {
        const double *row = net->a0 + (size_t)i * (size_t)net->d;
        double z = net->b0[i];
        for (int j = 0; j < net->d; j++)
            z += row[j] * x[j];
        for (int o = 0; z > 0 && o < net->k; o++)
            y[o] += net->a1[(size_t)o * (size_t)net->h + (size_t)i] * z;
    }
}

/* ---- services ---- */

bool extraction_service_open(struct extraction_service *s, const struct extraction_net *net,
                             bool probabilities, bool single, int decimals, struct err *e)
{
    *s = (struct extraction_service){
        .net = net, .probabilities = probabilities, .single = single, .decimals = decimals};
    if (probabilities && net->k < 2)
        return err_set(e, ERR_USAGE, "a network of one output has no probabilities; take logits");
    s->scratch = mem_array((size_t)net->k, sizeof *s->scratch, "the service", e);
    return s->scratch;
}

void extraction_service_close(struct extraction_service *s)
{
    free(s->scratch);
    memset(s, 0, sizeof *s);
}

static double passed_on(const struct extraction_service *s, double v)
{
    if (s->single)
        v = (double)(float)v;
    if (s->decimals >= 0) {
        const double scale = pow(10, s->decimals);
        v = round(v * scale) / scale;
    }
    return v;
}

static bool answer(void *ctx, const double *x, double *y, struct err *e)
{
    struct extraction_service *s = ctx;
    const int k = s->net->k;
    double *z = s->scratch, top = -INFINITY, sum = 0;
    (void)e;
    s->n_answered++;
    extraction_net_logits(s->net, x, z);
    if (!s->probabilities) {
        for (int o = 0; o < k; o++)
            y[o] = passed_on(s, z[o]);
        return true;
    }
    for (int o = 0; o < k; o++)
        top = fmax(top, z[o]);
    for (int o = 0; o < k; o++)
        sum += z[o] = exp(z[o] - top);
    /* A probability of 0 stands for less than the service can say. */
    const double least = s->decimals >= 0 ? 0.5 * pow(10, -s->decimals) : s->single ? 0x1p-150 : 0x1p-1074;
    for (int o = 0; o < k; o++)
        z[o] = log(fmax(passed_on(s, z[o] / sum), least));
    for (int o = 0; o < k - 1; o++)
        y[o] = z[o] - z[k - 1];
    return true;
}

struct extraction_oracle extraction_service_oracle(struct extraction_service *s)
{
    return (struct extraction_oracle){
        .d = s->net->d, .k = s->probabilities ? s->net->k - 1 : s->net->k, .answer = answer, .ctx = s};
}

void extraction_service_precision(const struct extraction_service *s, struct extraction_options *o)
{
    o->quantum = s->decimals >= 0 ? pow(10, -s->decimals) : s->single ? 10 * 0x1p-24 : 0;
    o->floor = s->probabilities || s->decimals >= 0 || s->single ? 1 : 1e-3;
}

/* ---- comparison ---- */

static int by_value(const void *pa, const void *pb)
{
    const double a = *(const double *)pa, b = *(const double *)pb;
    return (a > b) - (a < b);
}

static int label_of(const double *y, int k)
{
    int top = 0;
    for (int o = 1; o < k; o++)
        top = y[o] > y[top] ? o : top;
    return k == 1 ? y[0] > 0 : top;
}

bool extraction_compare(const struct extraction_net *net, const struct extraction_copy *copy, int n,
                        uint64_t seed, struct extraction_likeness *out, struct err *e)
{
    const int d = net->d, k = net->k;
    double *x = mem_array((size_t)d + 2 * (size_t)k, sizeof *x, "the comparison", e), *y = x ? x + d : NULL,
           *z = y ? y + k : NULL;
    double *off = x ? mem_array((size_t)n, sizeof *off, "the comparison", e) : NULL;
    bool ok = off != NULL;
    int same = 0;
    struct rng r;
    rng_init(&r, seed, RNG_VALIDATE, 0);
    *out = (struct extraction_likeness){.n = n};
    for (int i = 0; ok && i < n; i++) {
        for (int j = 0; j < d; j++)
            x[j] = rng_normal(&r);
        extraction_net_logits(net, x, y);
        memset(z, 0, (size_t)k * sizeof *z);
        extraction_copy_answer(copy, x, z);
        const double base = copy->k == k ? 0 : y[k - 1];
        for (int o = 0; o < k; o++)
            off[i] = fmax(off[i], fabs(y[o] - base - z[o]));
        same += label_of(y, k) == label_of(z, k);
        out->max = fmax(out->max, off[i]);
    }
    if (ok) {
        qsort(off, (size_t)n, sizeof *off, by_value);
        out->median = n % 2 ? off[n / 2] : 0.5 * (off[n / 2 - 1] + off[n / 2]);
        out->agreement = (double)same / n;
    }
    free(off);
    free(x);
    return ok;
}
