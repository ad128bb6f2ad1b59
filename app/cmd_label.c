/* SPDX-License-Identifier: Apache-2.0
 * cmd_label.c - `aftermap label next`: which buildings of an event to grade next (models/learn/active.h). */
#include "app/command.h"
#include "app/console.h"
#include "app/query.h"
#include "geo/mapping_parts.h"
#include "models/base/mem.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { KEY_MODEL = 1, KEY_N, KEY_STRATEGY, KEY_PURPOSE, KEY_SHARE, KEY_BUFFER, KEY_KNOWN, KEY_MAX_ITEMS };

static const struct argp_option options[] = {
    {"model", KEY_MODEL, "MODEL", 0,
     "Model whose doubts decide; without one the first buildings to grade are spread over the scene", 1},
    {"n", KEY_N, "N", 0, "Number of buildings (default 50)", 1},
    {"strategy", KEY_STRATEGY, "S", 0,
     "SCORE[.aug][+SELECTION]: a score of max, diff2, entropy, std or random, .aug to average over several "
     "views, a "
     "selection of direct, kmeans, density or outlier (default diff2.aug+kmeans)",
     1},
    {"purpose", KEY_PURPOSE, "WHAT", 0,
     "both, train or validate: buildings that teach, blindly drawn ones that only judge, or a share of each "
     "(default "
     "both)",
     1},
    {"validate-share", KEY_SHARE, "SHARE", 0,
     "Share of blindly drawn buildings with --purpose both (default 0.2)", 1},
    {"buffer-m", KEY_BUFFER, "METRES", 0, "Distance between picks; less where there is no room (default 25)",
     1},
    {"known", KEY_KNOWN, NULL, 0, "Ask about buildings that the event has a grade of, too", 1},
    {"max-items", KEY_MAX_ITEMS, "N", 0, "Hold at most N ungraded chips in memory (default 20000)", 1},
    {0}};

struct label_cmd {
    const char *verb, *event, *model, *strategy, *purpose;
    struct active_options active;
    size_t max_items;
    bool known;
};

static void label_defaults(void *options_)
{
    struct label_cmd *c = options_;
    active_defaults(&c->active);
    c->purpose = "both";
    c->max_items = 20000;
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
    struct label_cmd *c = ((struct invocation *)state->input)->options;
    switch (key) {
    case ARGP_KEY_ARG:
        if (!c->verb) {
            if (strcmp(arg, "next") != 0)
                argp_error(state, "label knows 'next', not '%s'", arg);
            c->verb = arg;
        } else if (c->event)
            argp_error(state, "one event at a time: '%s' is a second one", arg);
        else
            c->event = arg;
        break;
    case ARGP_KEY_END:
        if (!c->event)
            argp_error(state, "say what to do and where: label next EVENT");
        break;
    case KEY_MODEL:
        c->model = arg;
        break;
    case KEY_N:
        c->active.n = (size_t)parse_int(state, "--n", arg, 1, 1000000);
        break;
    case KEY_STRATEGY:
        c->strategy = arg;
        break;
    case KEY_PURPOSE:
        if (strcmp(arg, "both") && strcmp(arg, "train") && strcmp(arg, "validate"))
            argp_error(state, "--purpose takes both, train or validate, not '%s'", arg);
        c->purpose = arg;
        break;
    case KEY_SHARE:
        c->active.validate_share = parse_real(state, "--validate-share", arg, 0, 1);
        break;
    case KEY_BUFFER:
        c->active.buffer_m = parse_real(state, "--buffer-m", arg, 0, 100000);
        break;
    case KEY_KNOWN:
        c->known = true;
        break;
    case KEY_MAX_ITEMS:
        c->max_items = (size_t)parse_int(state, "--max-items", arg, 1, 100000000);
        break;
    default:
        return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

static int compare_ids(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

/* Training-split chips that nobody has graded (or, with --known, that this model has not learnt from). */
static uint32_t *candidates(const struct label_cmd *c, const struct query_data *q, const struct model *m,
                            size_t *n, struct err *e)
{
    const char *source = m ? model_meta(m, "source.digest") : NULL;
    size_t n_trained = 0;
    const int64_t *trained = m ? model_labeled_ids(m, &n_trained) : NULL;
    if (!source || strcmp(source, q->ev->digest) != 0)
        n_trained = 0; /* another event's numbers */
    int64_t *sorted = mem_array(n_trained, sizeof *sorted, "the candidates", e);
    uint32_t *out = sorted ? mem_array(q->set.n, sizeof *out, "the candidates", e) : NULL;
    *n = 0;
    if (out) {
        if (n_trained)
            memcpy(sorted, trained, n_trained * sizeof *sorted);
        qsort(sorted, n_trained, sizeof *sorted, compare_ids);
        for (size_t i = 0; i < q->set.n; i++) {
            if (q->set.split[i] != IMAGESET_TRAIN || (q->set.label[i] != IMAGESET_NO_LABEL && !c->known) ||
                bsearch(&q->set.id[i], sorted, n_trained, sizeof *sorted, compare_ids))
                continue;
            out[(*n)++] = (uint32_t)i;
        }
        if (*n == 0) {
            err_set(e, ERR_INPUT, "%s: there is no building left to ask about in its training split%s",
                    c->event, c->known ? "" : "; --known asks about graded ones, too");
            free(out);
            out = NULL;
        }
    }
    free(sorted);
    return out;
}

/* The first labels, before there is a model: as far from each other as can be, the judging ones blindly. */
static bool first_picks(const struct active_options *o, const struct query_data *q, const uint32_t *item,
                        size_t n, struct active_pick *picks, size_t *n_picks, struct err *e)
{
    const size_t want = o->n < n ? o->n : n;
    struct active_options blind = *o;
    double *xy = mem_array(2 * n, sizeof *xy, "the places", e);
    uint32_t *order = xy ? mem_array(n, sizeof *order, "the places", e) : NULL;
    bool ok = order;
    for (size_t i = 0; ok && i < n; i++) {
        xy[i] = q->x[item[i]];
        xy[n + i] = q->y[item[i]];
    }
    /* random with the wanted share: the validate picks of this draw stay, the others are replaced */
    const struct active_pool pool = {.n = n, .x = xy, .y = xy ? xy + n : NULL};
    blind.strategy = (struct active_strategy){.score = ACTIVE_RANDOM};
    ok = ok && active_choose(&pool, &blind, picks, n_picks, NULL, e) &&
         active_spread(xy, xy + n, n, n < 2 * want ? n : 2 * want, o->seed, order, e);
    for (size_t k = 0, at = 0; ok && k < *n_picks; k++) {
        bool taken = !picks[k].validate;
        while (taken) {
            taken = false;
            for (size_t j = 0; j < *n_picks && !taken; j++)
                taken = picks[j].validate && picks[j].index == order[at];
            picks[k].index = order[at++];
        }
    }
    free(xy);
    free(order);
    return ok;
}

static const char *purpose_of(const struct active_pick *p)
{
    return p->validate ? "validate" : "train";
}

static bool has_score(const struct label_cmd *c, const struct active_pick *p)
{
    return c->model && !p->validate && c->active.strategy.score != ACTIVE_RANDOM;
}

static void why_of(const struct label_cmd *c, const struct active_pick *p, char out[64])
{
    if (!c->model && !p->validate && !c->strategy)
        snprintf(out, 64, "far from the others");
    else
        query_why(&c->active, p, out);
}

static bool print_picks(const struct label_cmd *c, const struct query_data *q, const uint32_t *item,
                        const struct active_pick *picks, size_t n, bool json, struct err *e)
{
    char why[64];
    cJSON *list = json ? cJSON_CreateArray() : NULL;
    if (!json)
        puts("bldg_id,fid,score,why,purpose,lon,lat");
    for (size_t i = 0; i < n; i++) {
        const struct event_building *b = query_building(q, item[picks[i].index]);
        const char *id = b->bldg_id ? b->bldg_id : "";
        why_of(c, &picks[i], why);
        if (json) {
            cJSON *o = cJSON_CreateObject();
            cJSON_AddStringToObject(o, "bldg_id", id);
            cJSON_AddNumberToObject(o, "fid", (double)b->fid);
            if (has_score(c, &picks[i]))
                cJSON_AddNumberToObject(o, "score", picks[i].score);
            else
                cJSON_AddNullToObject(o, "score");
            cJSON_AddStringToObject(o, "why", why);
            cJSON_AddStringToObject(o, "purpose", purpose_of(&picks[i]));
            cJSON_AddNumberToObject(o, "lon", b->lon);
            cJSON_AddNumberToObject(o, "lat", b->lat);
            cJSON_AddItemToArray(list, o);
            continue;
        }
        query_csv_field(stdout, id);
        printf(",%lld,", (long long)b->fid);
        if (has_score(c, &picks[i]))
            printf("%.6f", picks[i].score);
        printf(",%s,%s,%.7f,%.7f\n", why, purpose_of(&picks[i]), b->lon, b->lat);
    }
    return json ? print_json(list, e) : flush_stdout(e);
}

static bool settle(struct label_cmd *c, const struct common *common, struct err *e)
{
    if (common->dry_run)
        return err_set(e, ERR_USAGE, "label next writes no files, so --dry-run has no meaning here");
    c->active.seed = common->seed;
    if (c->strategy && !active_parse(c->strategy, &c->active.strategy, e))
        return false;
    if (!c->model && c->strategy && c->active.strategy.score != ACTIVE_RANDOM)
        return err_set(e, ERR_USAGE,
                       "the strategy '%s' asks a model; name one with --model, or leave the strategy out",
                       c->strategy);
    if (strcmp(c->purpose, "both") != 0)
        c->active.validate_share = *c->purpose == 'v' ? 1 : 0;
    return true;
}

static bool run(void *options_, const struct common *common, const struct progress *progress, struct err *e)
{
    struct label_cmd *c = options_;
    struct query_data q = {0};
    struct model *m = NULL;
    uint32_t *item = NULL;
    struct active_pick *picks = NULL;
    size_t n = 0, n_picks = 0;
    int cut = 2;
    double kept = c->active.buffer_m;
    bool ok = false;
    if (!settle(c, common, e) || (c->model && !(m = model_load(c->model, e))) ||
        !query_open(&q, c->event, "labels", 2, c->max_items, common->seed, progress, e) ||
        (m && !mapping_model_fits(m, c->model, q.ev, &cut, e)) || !(item = candidates(c, &q, m, &n, e)) ||
        !(picks = mem_array(c->active.n, sizeof *picks, "the picks", e)))
        goto out;
    size_t n_trained = 0;
    if (m)
        model_labeled_ids(m, &n_trained);
    c->active.round = n_trained; /* a model that has learnt more is asked with new random numbers */
    if (m || c->strategy)
        ok = m ? active_query(m, &q.set, item, n, q.x, q.y, &c->active, picks, &n_picks, &kept, progress, e)
               : active_choose(&(struct active_pool){.n = n}, &c->active, picks, &n_picks, &kept, e);
    else
        ok = first_picks(&c->active, &q, item, n, picks, &n_picks, e);
    if (ok && n_picks < c->active.n)
        console_say("only %zu building%s left to ask about", n_picks, n_picks == 1 ? " is" : "s are");
    if (ok && m && kept < c->active.buffer_m && c->active.strategy.score != ACTIVE_RANDOM)
        console_say("the pool is crowded: picks are at least %.3g m apart, not %.3g", kept,
                    c->active.buffer_m);
    ok = ok && print_picks(c, &q, item, picks, n_picks, common->json, e);
out:
    free(item);
    free(picks);
    model_free(m);
    query_close(&q);
    return ok;
}

const struct command command_label = {
    .name = "label",
    .args_doc = "next EVENT",
    .summary = "Say which buildings to grade next",
    .doc = "Prints the buildings of an event's training blocks whose grades would help most, one a line of "
           "CSV, in the "
           "order in which to grade them: bldg_id, fid, score, why, purpose, lon, lat.\v"
           "A score is how sure the model is (low is asked first), or with density and outlier how unsure it "
           "is times "
           "how typical or untypical the building looks (high first). With two classes max, diff2, entropy "
           "and std rank "
           "alike; .aug and the selection are what differs.\n\n"
           "Buildings with the purpose 'validate' are drawn blindly. Their grades tell how much damage there "
           "is and how "
           "well a model does, as long as no model is trained on them.\n\n"
           "Example: aftermap label next event --model model.safetensors --n 25 > ask.csv",
    .options = options,
    .parse = parse,
    .options_size = sizeof(struct label_cmd),
    .defaults = label_defaults,
    .run = run,
};
