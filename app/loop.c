/* SPDX-License-Identifier: Apache-2.0
 *
 * loop.c - plays the campaign of loop.h.
 *
 * Round 0 asks about `seeds` buildings as far from each other as can be (and about further ones until two
 * classes are among the answers: nothing can be learnt from one). Each later round asks about `per_round`
 * buildings that the last model chooses, trains anew on all answers but the blindly drawn ones, and scores
 * the new model on the event's held-out blocks. Training starts from the same weights each round, so that
 * what differs are the labels.
 *
 * The campaign stops when its rounds are played, when nobody is left to ask about, or when fewer than
 * stop_change of the predictions over the training blocks changed in each of three rounds running: the model
 * then no longer listens (stabilising predictions: Bloodgood & Vijay-Shanker 2009).
 *
 * Resuming: the questions of a round are a function of the model before it and the seed, and training resumes
 * from its own checkpoint, so an interrupted campaign ends in the same files as an unbroken one when steps
 * are given. */
#include "app/loop.h"

#include "app/console.h"
#include "app/model_meta.h"
#include "geo/mapping_parts.h"
#include "models/base/file.h"
#include "models/base/mem.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { BATCH = 128, QUIET_ROUNDS = 3 };

static double now_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static bool model_path(const struct loop *l, int round, char path[4096], struct err *e)
{
    char name[32];
    snprintf(name, sizeof name, "round-%02d.safetensors", round);
    return loop_path(l, name, path, e);
}

/* ---- opening ---- */

static bool choose_items(struct loop *l, struct err *e)
{
    const struct imageset *set = &l->data.set;
    size_t n_known = 0;
    if (!(l->train = mem_array(set->n, sizeof *l->train, "the campaign", e)) ||
        !(l->test = mem_array(set->n, sizeof *l->test, "the campaign", e)) ||
        !(l->asked = mem_array(set->n, sizeof *l->asked, "the campaign", e)) ||
        !(l->seen = mem_array(set->n, sizeof *l->seen, "the campaign", e)) ||
        !(l->before = mem_array(set->n, sizeof *l->before, "the campaign", e)))
        return false;
    for (size_t i = 0; i < set->n; i++) {
        const bool known = set->label[i] != IMAGESET_NO_LABEL;
        if (set->split[i] == IMAGESET_TRAIN) {
            l->train[l->n_train++] = (uint32_t)i;
            n_known += known;
        } else if (set->split[i] == IMAGESET_TEST && known)
            l->test[l->n_test++] = (uint32_t)i;
    }
    if (n_known < 2 || l->n_test == 0)
        return err_set(
            e, ERR_INPUT,
            "%s: the oracle '%s' grades %zu buildings of the training split and %zu of the test split; a "
            "rehearsal needs grades in both",
            l->o->event, l->o->oracle, n_known, l->n_test);
    return true;
}

static bool open_loop(struct loop *l, struct err *e)
{
    const struct loop_options *o = l->o;
    if (!query_open(&l->data, o->event, o->oracle, o->cut, o->max_items, l->common->seed, l->progress, e))
        return false;
    if (o->no_footprint)
        l->data.set.layout.use_footprint = false;
    l->masked = l->data.set;
    l->masked.label = mem_array(l->data.set.n, sizeof *l->masked.label, "the campaign", e);
    return l->masked.label && choose_items(l, e);
}

static void close_loop(struct loop *l)
{
    free(l->masked.label);
    query_close(&l->data);
    free(l->train);
    free(l->test);
    free(l->asked);
    free(l->seen);
    free(l->before);
    free(l->ask);
    free(l->round);
}

/* ---- asking ---- */

static bool add_ask(struct loop *l, const struct loop_ask *a, struct err *e)
{
    if (!mem_grow(&l->ask, l->n_ask + 1, sizeof *l->ask, "the questions", e))
        return false;
    l->ask[l->n_ask++] = *a;
    l->asked[a->item] = true;
    return true;
}

/* Training-split items with an answer that were not asked about yet. */
static uint32_t *open_items(const struct loop *l, size_t *n, struct err *e)
{
    uint32_t *out = mem_array(l->n_train, sizeof *out, "the candidates", e);
    *n = 0;
    for (size_t i = 0; out && i < l->n_train; i++)
        if (!l->asked[l->train[i]] && l->data.set.label[l->train[i]] != IMAGESET_NO_LABEL)
            out[(*n)++] = l->train[i];
    return out;
}

static bool ask_seeds(struct loop *l, struct err *e)
{
    size_t n, want = (size_t)(l->o->seeds ? l->o->seeds : l->o->per_round);
    uint32_t *item = open_items(l, &n, e);
    double *xy = item ? mem_array(2 * n, sizeof *xy, "the seeds", e) : NULL;
    uint32_t *order = xy ? mem_array(n, sizeof *order, "the seeds", e) : NULL;
    bool ok = order, two_classes = false;
    for (size_t i = 0; ok && i < n; i++) {
        xy[i] = l->data.x[item[i]];
        xy[n + i] = l->data.y[item[i]];
    }
    ok = ok && active_spread(xy, xy + n, n, n, l->common->seed, order, e);
    for (size_t k = 0; ok && k < n && (k < want || !two_classes); k++) {
        const struct loop_ask a = {.item = item[order[k]], .why = "far from the others"};
        two_classes |= l->data.set.label[a.item] != l->data.set.label[item[order[0]]];
        ok = add_ask(l, &a, e);
    }
    if (ok && !two_classes)
        ok = err_set(e, ERR_INPUT,
                     "%s: all grades of the training split are of one class at --cut %d; choose another cut",
                     l->o->event, l->o->cut);
    if (ok && l->n_ask > want)
        console_say("the first %zu answers were of one class; %zu were asked for", want, l->n_ask);
    free(item);
    free(xy);
    free(order);
    return ok;
}

static bool ask_model(struct loop *l, const struct model *m, int round, struct err *e)
{
    struct active_options o = l->o->active;
    size_t n, n_picks = 0;
    uint32_t *item = open_items(l, &n, e);
    struct active_pick *picks =
        item ? mem_array((size_t)l->o->per_round, sizeof *picks, "the questions", e) : NULL;
    o.n = (size_t)l->o->per_round;
    o.seed = l->common->seed;
    o.round = (uint64_t)round;
    bool ok = picks && active_query(m, &l->data.set, item, n, l->data.x, l->data.y, &o, picks, &n_picks, NULL,
                                    l->progress, e);
    for (size_t k = 0; ok && k < n_picks; k++) {
        struct loop_ask a = {.round = round,
                             .item = item[picks[k].index],
                             .score = picks[k].score,
                             .validate = picks[k].validate};
        query_why(&o, &picks[k], a.why);
        ok = add_ask(l, &a, e);
    }
    free(item);
    free(picks);
    return ok;
}

/* ---- training and scoring ---- */

static bool settle_config(const struct loop *l, struct train_config *t, struct err *e)
{
    const struct loop_options *o = l->o;
    if (!train_defaults(t, o->method, false, e))
        return false;
    t->seed = l->common->seed;
    t->labels_per_class = 0;
    t->steps = o->steps;
    t->budget_s = o->steps ? 0 : o->budget_s;
    t->preset = o->preset ? o->preset : t->preset;
    t->batch = o->batch ? o->batch : t->batch;
    t->mu = o->mu ? o->mu : t->mu;
    return true;
}

static bool train_round(struct loop *l, const char *path, struct loop_round *r, struct err *e)
{
    struct train_config t;
    struct train_report report = {0};
    struct model_meta meta = {0};
    if (!settle_config(l, &t, e) || !model_meta_fill(&meta, l->data.ev, l->o->cut, e))
        return false;
    for (size_t i = 0; i < l->masked.n; i++)
        l->masked.label[i] = IMAGESET_NO_LABEL;
    for (size_t k = 0; k < l->n_ask; k++)
        if (!l->ask[k].validate) {
            l->masked.label[l->ask[k].item] = l->data.set.label[l->ask[k].item];
            r->n_trained++;
        }
    /* A file that is there is this round's own, from before an interruption. */
    bool ok = train_run(&l->masked, &t, path, true, meta.pair, meta.n, l->progress, &report, e);
    r->steps = report.steps;
    model_meta_free(&meta);
    return ok;
}

static bool is_positive(const struct loop *l, size_t item)
{
    return l->data.set.label[item] >= (l->o->cut > 0 ? 1 : 2);
}

static double p_damaged(const struct loop *l, const float *p, int n_classes)
{
    return mapping_p_damaged(p, n_classes, l->o->cut > 0 ? l->o->cut : 2);
}

/* Class probabilities of items, the plain ones and those of the colour baseline (NULL: not wanted). */
static bool predict(const struct loop *l, const struct model *m, const uint32_t *item, size_t n, int n_views,
                    float *probs, float *trivial, struct err *e)
{
    const struct imageset_layout *lay = &l->data.set.layout;
    const size_t image = (size_t)lay->size * (size_t)lay->size * (size_t)imageset_stored_channels(lay),
                 k = (size_t)model_net(m)->n_classes;
    uint8_t *px = mem_array(BATCH, image, "a batch of chips", e);
    struct predictor *p = px ? predictor_create(m, BATCH, n_views, e) : NULL;
    bool ok = p;
    for (size_t at = 0; ok && at < n; at += BATCH) {
        const size_t here = n - at < BATCH ? n - at : BATCH;
        if (progress_stopped(l->progress)) {
            ok = err_set(e, ERR_INTERRUPTED, "interrupted while scoring; --resume goes on");
            break;
        }
        for (size_t i = 0; i < here; i++) {
            memcpy(px + i * image, l->data.set.px + item[at + i] * image, image);
            if (trivial)
                model_trivial(m, px + i * image, trivial + (at + i) * k);
        }
        predictor_run(p, px, (int)here, probs + at * k, NULL);
        progress_report(l->progress, "score", (double)(at + here), (double)n, NULL);
    }
    predictor_free(p);
    free(px);
    return ok;
}

static bool score_test(const struct loop *l, const struct model *m, struct loop_round *r, struct err *e)
{
    const size_t n = l->n_test, k = (size_t)model_net(m)->n_classes;
    const struct metrics_options mo = {.operating_point = 0.5,
                                       .fixed_recall = 0.8,
                                       .level = 0.95,
                                       .n_bootstrap = 1000,
                                       .seed = l->common->seed};
    float *probs = mem_array(2 * n, k * sizeof *probs, "the scores", e);
    float *score = probs ? mem_array(2 * n, sizeof *score, "the scores", e) : NULL;
    int16_t *truth = score ? mem_array(n, sizeof *truth, "the scores", e) : NULL;
    int32_t *block = truth ? mem_array(n, sizeof *block, "the scores", e) : NULL;
    uint8_t *positive = block ? mem_array(n, 1, "the scores", e) : NULL;
    struct metrics *both = positive ? mem_array(2, sizeof *both, "the scores", e) : NULL;
    bool ok = both && predict(l, m, l->test, n, l->o->n_views, probs, probs + n * k, e);
    for (size_t i = 0; ok && i < n; i++) {
        truth[i] = l->data.set.label[l->test[i]];
        block[i] = l->data.set.block[l->test[i]];
        positive[i] = is_positive(l, l->test[i]);
        for (size_t which = 0; which < 2; which++)
            score[which * n + i] = (float)p_damaged(l, probs + (which * n + i) * k, (int)k);
    }
    for (size_t which = 0; ok && which < 2; which++)
        ok = metrics_compute(probs + which * n * k, (int)k, truth, positive, score + which * n, block, n, &mo,
                             &both[which], e);
    if (ok) {
#define ROW(name) r->name = both[0].name;
        LOOP_FIGURES(ROW)
#undef ROW
        r->trivial_auroc = both[1].auroc;
    }
    free(probs);
    free(score);
    free(truth);
    free(block);
    free(positive);
    free(both);
    return ok;
}

/* Predicted classes over the training split into l->seen, and the model's AUROC on the blindly drawn answers.
 */
static bool look(struct loop *l, const struct model *m, struct loop_round *r, struct err *e)
{
    const size_t k = (size_t)model_net(m)->n_classes;
    float *probs = mem_array(l->n_train, k * sizeof *probs, "the predictions", e);
    float *score = probs ? mem_array(l->data.set.n, sizeof *score, "the predictions", e) : NULL;
    uint8_t *positive = score ? mem_array(l->n_ask, 1, "the predictions", e) : NULL;
    float *blind = positive ? mem_array(l->n_ask, sizeof *blind, "the predictions", e) : NULL;
    bool ok = blind && predict(l, m, l->train, l->n_train, 1, probs, NULL, e);
    for (size_t i = 0; ok && i < l->n_train; i++) {
        const float *p = probs + i * k;
        l->seen[i] = 0;
        for (size_t c = 1; c < k; c++)
            if (p[c] > p[l->seen[i]])
                l->seen[i] = (int)c;
        score[l->train[i]] = (float)p_damaged(l, p, (int)k);
    }
    for (size_t a = 0; ok && r && a < l->n_ask; a++) {
        if (!l->ask[a].validate)
            continue;
        blind[r->n_validate] = score[l->ask[a].item];
        positive[r->n_validate] = is_positive(l, l->ask[a].item);
        r->n_validate_positive += positive[r->n_validate];
        r->n_validate++;
    }
    if (ok && r)
        r->validate_auroc = r->n_validate ? metrics_auroc(blind, positive, r->n_validate) : NAN;
    free(probs);
    free(score);
    free(positive);
    free(blind);
    return ok;
}

/* ---- rounds ---- */

static void decide(struct loop *l)
{
    const int last = l->n_rounds - 1, quiet = QUIET_ROUNDS;
    size_t n_open = 0;
    bool settled = l->o->stop_change > 0 && last >= quiet;
    for (int k = last; settled && k > last - quiet; k--)
        settled = l->round[k].changed < l->o->stop_change;
    for (size_t i = 0; i < l->n_train; i++)
        n_open += !l->asked[l->train[i]] && l->data.set.label[l->train[i]] != IMAGESET_NO_LABEL;
    l->stopped[0] = '\0';
    if (settled)
        snprintf(l->stopped, sizeof l->stopped,
                 "round %d: fewer than %.3g %% of the predictions changed in each of the last %d rounds",
                 last, 100 * l->o->stop_change, quiet);
    else if (n_open == 0)
        snprintf(l->stopped, sizeof l->stopped, "round %d: there is no building left to ask about", last);
    else if (last >= l->o->rounds)
        snprintf(l->stopped, sizeof l->stopped, "round %d: all rounds are played", last);
}

static void say_round(const struct loop *l, int k)
{
    const struct loop_round *r = &l->round[k];
    char changed[64] = "";
    if (isfinite(r->changed))
        snprintf(changed, sizeof changed, "; %.1f %% of the predictions changed", 100 * r->changed);
    console_say("round %d: %zu answers, %zu of them blind; AUROC %.3f [%.3f, %.3f], colour statistics %.3f%s",
                k, r->n_asked, r->n_validate, r->auroc.value, r->auroc.low, r->auroc.high,
                r->trivial_auroc.value, changed);
}

/* *m: the model of the round before, replaced by this round's. */
static bool play_round(struct loop *l, struct model **m, struct err *e)
{
    const int k = l->n_rounds;
    const double begun = now_s();
    char path[4096];
    struct loop_round r = {.changed = NAN, .validate_auroc = NAN};
    if (!(k == 0 ? ask_seeds(l, e) : ask_model(l, *m, k, e)) || !model_path(l, k, path, e))
        return false;
    r.n_asked = l->n_ask;
    if (!train_round(l, path, &r, e))
        return err_prefix(e, "round %d", k);
    model_free(*m);
    *m = model_load(path, e);
    int *swap = l->before;
    l->before = l->seen;
    l->seen = swap;
    if (!*m || !look(l, *m, &r, e) || !score_test(l, *m, &r, e) ||
        !mem_grow(&l->round, (size_t)k + 1, sizeof *l->round, "the rounds", e))
        return false;
    size_t n_changed = 0;
    for (size_t i = 0; i < l->n_train; i++)
        n_changed += l->seen[i] != l->before[i];
    if (k > 0)
        r.changed = (double)n_changed / (double)l->n_train;
    r.seconds = now_s() - begun;
    l->round[l->n_rounds++] = r;
    decide(l);
    if (!loop_save(l, e))
        return false;
    say_round(l, k);
    if (k >= 2 && model_path(l, k - 2, path, e))
        unlink(path); /* an older model is of no more use; its figures are kept */
    return true;
}

static bool may_replace(const struct loop *l, const char *path, struct err *e)
{
    if (l->common->overwrite || !file_exists(path))
        return true;
    return err_set(e, ERR_USAGE,
                   "%s exists already; add --resume to go on with its campaign or --overwrite to replace it",
                   path);
}

/* A new campaign in a folder that may hold an older one. */
static bool clear_folder(const struct loop *l, struct err *e)
{
    static const char *const names[] = {"loop.json", "curve.csv", "questions.csv", "curve.svg"};
    char path[4096];
    if (!file_make_dirs(l->o->out, e))
        return false;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (!loop_path(l, names[i], path, e) || !may_replace(l, path, e))
            return false;
        if (unlink(path) != 0 && errno != ENOENT)
            return err_errno(e, ERR_RUNTIME, errno, "%s", path);
    }
    for (int k = 0; k < LOOP_MAX_ROUNDS; k++) {
        if (!model_path(l, k, path, e) || !may_replace(l, path, e))
            return false;
        if (unlink(path) != 0 && errno != ENOENT)
            return err_errno(e, ERR_RUNTIME, errno, "%s", path);
    }
    return true;
}

static bool begin(struct loop *l, struct model **m, struct err *e)
{
    char path[4096];
    if (!loop_path(l, "loop.json", path, e))
        return false;
    const bool exists = file_exists(path);
    if ((!l->o->resume && !may_replace(l, path, e)) || !open_loop(l, e))
        return false;
    if (l->common->dry_run)
        return true;
    if (!exists || !l->o->resume)
        return l->o->resume ? file_make_dirs(l->o->out, e) : clear_folder(l, e);
    if (!loop_load(l, e))
        return false;
    decide(l);
    if (l->n_rounds == 0 || l->stopped[0])
        return true;
    if (!model_path(l, l->n_rounds - 1, path, e) || !(*m = model_load(path, e)))
        return err_prefix(e, "the campaign cannot go on");
    return look(l, *m, NULL, e);
}

bool loop_run(const struct loop_options *o, const struct common *common, const struct progress *progress,
              struct err *e)
{
    struct loop l = {.o = o, .common = common, .progress = progress};
    struct model *m = NULL;
    char path[4096];
    bool ok;
    active_text(&o->active.strategy, l.strategy);
    ok = begin(&l, &m, e);
    if (ok && common->dry_run)
        console_say(
            "dry run: %zu buildings of the training split, %zu graded ones to score on; nothing was trained",
            l.n_train, l.n_test);
    else {
        while (ok && !l.stopped[0])
            ok = play_round(&l, &m, e);
        if (ok)
            console_say("stopped after %s", l.stopped);
        ok = ok && model_path(&l, l.n_rounds - 1, path, e) && (o->silent || loop_print(&l, path, e));
    }
    model_free(m);
    close_loop(&l);
    return ok;
}
