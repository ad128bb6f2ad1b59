/* SPDX-License-Identifier: Apache-2.0
 *
 * pate_ledger.c - the running account of a stream of queries (pate.h) and its written form, which a student's
 * file carries under the key "privacy".
 *
 * Every query pays for the threshold test, if there is one, and an answered one for the vote as well; costs
 * are Renyi curves and add up order by order. The data-independent curve is a function of the two counts,
 * which are released anyway, so it may be published; the data-dependent one is a function of the votes and may
 * not, short of a smooth-sensitivity release (Papernot et al. 2018, appendix B), which is not offered here. */
#include "models/learn/pate.h"

#include <math.h>
#include <string.h>

void pate_ledger_init(struct pate_ledger *l, const struct pate_mechanism *m, int n_teachers)
{
    memset(l, 0, sizeof *l);
    l->mechanism = *m;
    l->n_teachers = n_teachers;
    l->n_orders = pate_orders(l->order);
}

static double rdp_test(const struct pate_mechanism *m, double order)
{
    return m->kind == PATE_CONFIDENT ? pate_rdp_threshold(m->sigma_threshold, order) : 0;
}

static double rdp_vote(const struct pate_mechanism *m, double order)
{
    return m->kind == PATE_LNMAX ? pate_rdp_lnmax(m->sigma, order) : pate_rdp_gnmax(m->sigma, order);
}

void pate_ledger_pay(struct pate_ledger *l, const int *votes, int n_classes, bool answered)
{
    const struct pate_mechanism *m = &l->mechanism;
    int most = votes[0];
    for (int c = 1; c < n_classes; c++)
        most = votes[c] > most ? votes[c] : most;
    const double log_test =
        m->kind == PATE_CONFIDENT ? pate_log_q_threshold(most, m->threshold, m->sigma_threshold) : 0;
    const double log_vote = m->kind == PATE_LNMAX ? 0 : pate_log_q_gnmax(votes, n_classes, m->sigma);
    l->asked++;
    l->answered += answered;
    for (int i = 0; i < l->n_orders; i++) {
        const double a = l->order[i];
        if (m->kind == PATE_CONFIDENT)
            l->data[i] += pate_rdp_data(log_test, M_SQRT2 * m->sigma_threshold, a);
        if (answered)
            l->data[i] += m->kind == PATE_LNMAX ? rdp_vote(m, a) : pate_rdp_data(log_vote, m->sigma, a);
    }
}

double pate_ledger_rdp(const struct pate_ledger *l, int i, int64_t asked, int64_t answered)
{
    return (double)asked * rdp_test(&l->mechanism, l->order[i]) +
           (double)answered * rdp_vote(&l->mechanism, l->order[i]);
}

struct pate_epsilon pate_ledger_epsilon(const struct pate_ledger *l, double delta, bool tight, bool ahead)
{
    double rdp[PATE_MAX_ORDERS];
    for (int i = 0; i < l->n_orders; i++)
        rdp[i] = pate_ledger_rdp(l, i, l->asked + ahead, l->answered + ahead);
    struct pate_epsilon best = pate_epsilon(l->order, rdp, l->n_orders, delta, tight);
    /* Laplace noise has a pure epsilon, which adds up as it is and needs no delta. */
    const double pure = 2 / l->mechanism.sigma * (double)(l->answered + ahead);
    if (l->mechanism.kind == PATE_LNMAX && pure < best.epsilon)
        best = (struct pate_epsilon){pure, INFINITY};
    return best;
}

struct pate_epsilon pate_ledger_epsilon_data(const struct pate_ledger *l, double delta, bool tight)
{
    struct pate_epsilon best = pate_epsilon(l->order, l->data, l->n_orders, delta, tight),
                        anyway = pate_ledger_epsilon(l, delta, tight, false);
    return anyway.epsilon < best.epsilon ? anyway : best;
}

static void add_order(cJSON *j, double order)
{
    if (isfinite(order))
        cJSON_AddNumberToObject(j, "order", order);
    else
        cJSON_AddStringToObject(j, "order", "infinity");
}

static void add_epsilon(cJSON *j, const char *name, struct pate_epsilon p, const char *conversion)
{
    cJSON *o = cJSON_AddObjectToObject(j, name);
    cJSON_AddNumberToObject(o, "epsilon", p.epsilon);
    add_order(o, p.order);
    cJSON_AddStringToObject(o, "conversion", conversion);
}

static void add_mechanism(cJSON *j, const struct pate_ledger *l)
{
    const struct pate_mechanism *m = &l->mechanism;
    cJSON_AddStringToObject(j, "mechanism", pate_kind_name(m->kind));
    if (m->kind == PATE_CONFIDENT) {
        cJSON_AddNumberToObject(j, "threshold_votes", m->threshold);
        cJSON_AddNumberToObject(j, "sigma_threshold_votes", m->sigma_threshold);
    }
    cJSON_AddNumberToObject(j, m->kind == PATE_LNMAX ? "scale_votes" : "sigma_votes", m->sigma);
    cJSON_AddNumberToObject(j, "teachers", l->n_teachers);
}

cJSON *pate_ledger_json(const struct pate_ledger *l, const struct pate_facts *f, struct err *e)
{
    const struct pate_epsilon eps = pate_ledger_epsilon(l, f->delta, true, false);
    cJSON *j = cJSON_CreateObject();
    cJSON_AddNumberToObject(j, "epsilon", eps.epsilon);
    cJSON_AddNumberToObject(j, "delta", f->delta);
    cJSON_AddStringToObject(j, "kind", "data-independent");
    add_order(j, eps.order);
    cJSON_AddStringToObject(j, "protects",
                            f->unit == PATE_UNIT_BLOCK ? "one block of private items, exchanged"
                                                       : "one private item, exchanged");
    cJSON_AddStringToObject(j, "noise",
                            f->secret_noise ? "secret key of the system's random source"
                                            : "from the seed: whoever knows it can take the noise away, so "
                                              "nothing is protected");
    add_mechanism(j, l);
    cJSON_AddNumberToObject(j, "queries_asked", (double)l->asked);
    cJSON_AddNumberToObject(j, "queries_answered", (double)l->answered);
    cJSON_AddStringToObject(
        j, "covers",
        "the first queries of one stream; models made from longer or shorter prefixes of it "
        "cost together what the longest one costs");
    add_epsilon(j, "classic", pate_ledger_epsilon(l, f->delta, false, false),
                "rdp + ln(1/delta)/(order-1), as PATE's tables");
    if (f->data_dependent) {
        cJSON *o = cJSON_AddObjectToObject(j, "data_dependent");
        const struct pate_epsilon tight = pate_ledger_epsilon_data(l, f->delta, true),
                                  classic = pate_ledger_epsilon_data(l, f->delta, false);
        cJSON_AddNumberToObject(o, "epsilon", tight.epsilon);
        add_order(o, tight.order);
        cJSON_AddNumberToObject(o, "classic_epsilon", classic.epsilon);
        cJSON_AddStringToObject(o, "note",
                                "computed from the private votes and itself private: publishing it "
                                "is not covered by any epsilon here");
    }
    cJSON *orders = cJSON_AddArrayToObject(j, "orders"), *rdp = cJSON_AddArrayToObject(j, "rdp");
    for (int i = 0; i < l->n_orders; i++) {
        cJSON_AddItemToArray(orders, cJSON_CreateNumber(l->order[i]));
        cJSON_AddItemToArray(rdp, cJSON_CreateNumber(pate_ledger_rdp(l, i, l->asked, l->answered)));
    }
    if (!rdp || cJSON_GetArraySize(rdp) != l->n_orders) {
        cJSON_Delete(j);
        err_set(e, ERR_RESOURCE, "not enough memory for the privacy ledger");
        return NULL;
    }
    return j;
}
