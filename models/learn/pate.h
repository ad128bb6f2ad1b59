/* SPDX-License-Identifier: Apache-2.0
 *
 * pate.h - private aggregation of teacher ensembles (PATE): private data teach many teachers, each on a shard
 * of its own; the teachers vote on public items; votes plus noise give a few labels; a student learns from
 * these and from the other public items without one. Only the student is ever shown to anybody.
 *
 * Sources: Papernot, Abadi, Erlingsson, Goodfellow, Talwar (ICLR 2017) for teachers and LNMax; Papernot, Song,
 * Mironov, Raghunathan, Talwar, Erlingsson (ICLR 2018) for GNMax, Confident-GNMax and their cost; Berthelot et
 * al. 2019 (MixMatch, section 4.3) for a student that needs few of the answers.
 *
 * What is promised. Protected is a unit: an item, or a block of items that lie together. Exchanging one unit
 * for another touches one shard, so one teacher, so one vote. This holds because
 *   1. shards are disjoint (asserted at every use), and which shard a unit falls into depends on the seed and
 *      on how many units there are, never on what any unit holds;
 *   2. a query that nobody answered is paid for like one that was;
 *   3. labels are a prefix of the stream of queries, whose order the seed alone decides; so the cost of the
 *      prefix is the cost of the labels;
 *   4. noise comes from a secret key of the system's random source, is never used twice, and stays in the
 *      private folder. Noise from a seed can be subtracted by whoever knows the seed: it is for tests and
 *      comparisons, and the ledger then says that nothing is protected;
 *   5. the student sees public images and released answers, nothing else; its file holds no digest of
 *      private bytes.
 * Not promised: noise is drawn in doubles, whose gaps an attacker who sees noisy counts could use (Mironov
 * 2012); no noisy count is ever shown here, only the largest one's class. Settings chosen by looking at private
 * labels are not accounted for.
 *
 * Folder: private/ (teachers, votes, the key of the noise, the data-dependent cost: never to be published),
 * beside it what may be published: student-*.safetensors, answers.csv, ledger.json. */
#ifndef AM_PATE_H
#define AM_PATE_H

#include "models/learn/pate_account.h"
#include "models/learn/train.h"

#include <cJSON.h>

/* ---- shards (pate.c) ---- */

enum pate_unit { PATE_UNIT_ITEM, PATE_UNIT_BLOCK };

struct pate_shards {
    int n_shards;
    size_t n_items, n_units;
    uint32_t *item; /* [n_items] indices into the set, shard by shard */
    size_t *start;  /* [n_shards+1] into item */
};

/* Labelled training-split items of the set, cut into n_shards shards whose numbers of units differ by one at
 * most. ERR_INPUT when there are fewer units than shards. */
bool pate_shards_make(struct pate_shards *s, const struct imageset *set, int n_shards, enum pate_unit unit,
                      uint64_t seed, struct err *e);
void pate_shards_free(struct pate_shards *s); /* accepts a zeroed record */
/* Whether no item, and no unit, is in two shards. */
bool pate_shards_disjoint(const struct pate_shards *s, const struct imageset *set, enum pate_unit unit);

/* ---- noise (pate_noise.c) ---- */

enum pate_purpose { PATE_NOISE_THRESHOLD, PATE_NOISE_VOTE };

/* ChaCha20 (RFC 8439) under a key; a value is a function of key, query, purpose and index alone, so an
 * interrupted release goes on with the very noise it began with. */
struct pate_noise {
    unsigned char key[32];
    bool secret; /* false: made from a seed, protects nothing */
};
bool pate_noise_draw_key(struct pate_noise *noise, struct err *e); /* from the system's random source */
void pate_noise_from_seed(struct pate_noise *noise, uint64_t seed);
double pate_noise_normal(const struct pate_noise *noise, uint64_t query, enum pate_purpose purpose,
                         int index);
double pate_noise_laplace(const struct pate_noise *noise, uint64_t query, enum pate_purpose purpose,
                          int index);

/* ---- answers (pate.c) ---- */

enum pate_kind { PATE_LNMAX, PATE_GNMAX, PATE_CONFIDENT };
struct pate_mechanism {
    enum pate_kind kind;
    double threshold, sigma_threshold; /* T, sigma_1 of PATE_CONFIDENT, votes */
    double sigma;                      /* sigma_2 of the Gaussians, the scale b of LNMax */
};
enum { PATE_NO_ANSWER = -1 };

const char *pate_kind_name(enum pate_kind kind); /* "lnmax", "gnmax", "confident-gnmax" */
/* The released class of query number `query`, or PATE_NO_ANSWER; votes [n_classes]. */
int pate_answer(const struct pate_mechanism *m, const struct pate_noise *noise, uint64_t query,
                const int *votes, int n_classes);

/* ERR_USAGE for settings that make no sense, and for noise that would drown even a unanimous vote of so many
 * teachers (too few teachers). */
bool pate_mechanism_check(const struct pate_mechanism *m, int n_teachers, int n_classes, struct err *e);

/* ---- the ledger (pate_ledger.c) ---- */

struct pate_ledger {
    struct pate_mechanism mechanism;
    int n_teachers, n_orders;
    int64_t asked, answered;
    double order[PATE_MAX_ORDERS];
    double data[PATE_MAX_ORDERS]; /* RDP so far, data-dependent: private */
};
void pate_ledger_init(struct pate_ledger *l, const struct pate_mechanism *m, int n_teachers);
/* Pays for one query with these votes. LNMax has no data-dependent cost: its data-independent one counts. */
void pate_ledger_pay(struct pate_ledger *l, const int *votes, int n_classes, bool answered);
/* Data-independent RDP at order number i of `asked` queries of which `answered` were. */
double pate_ledger_rdp(const struct pate_ledger *l, int i, int64_t asked, int64_t answered);
/* What is spent; ahead: and after one more query that is answered (data-independent only). */
struct pate_epsilon pate_ledger_epsilon(const struct pate_ledger *l, double delta, bool tight, bool ahead);
struct pate_epsilon pate_ledger_epsilon_data(const struct pate_ledger *l, double delta, bool tight);

struct pate_facts { /* what a reader of the ledger has to know beside it */
    double delta;
    enum pate_unit unit;
    bool secret_noise, data_dependent;
};
/* JSON object, caller deletes; the data-dependent cost only when asked for, and marked as private. NULL:
 * ERR_RESOURCE. */
cJSON *pate_ledger_json(const struct pate_ledger *l, const struct pate_facts *f, struct err *e);

/* ---- the whole study (pate_study.c) ---- */

enum { PATE_MAX_STUDENTS = 4, PATE_MAX_PREFIXES = 16, PATE_MAX_TEACHERS = 100000 };

struct pate_options {
    const char *dir;
    int n_teachers;
    enum pate_unit unit;
    struct pate_mechanism mechanism;
    double delta;
    double max_epsilon;               /* tighter conversion, data-independent; 0: no limit */
    size_t prefix[PATE_MAX_PREFIXES]; /* ascending: after how many queries a student is trained */
    int n_prefixes;
    struct train_config teacher;
    struct train_config student[PATE_MAX_STUDENTS]; /* method and settings; steps given, seed this one's */
    int n_students;
    uint64_t seed;
    bool seeded_noise; /* noise from the seed: protects nothing */
    bool data_dependent, overwrite;
    bool dry_run;                        /* checks sets and settings, writes nothing; out has the counts */
    const struct checkpoint_meta *extra; /* what a student's file says beside the ledger */
    int n_extra;
};

struct pate_result { /* of one student */
    const char *method;
    char path[4096];
    bool trained; /* false: its answers could not teach (too few, or of one class); why says so */
    char why[256];
    size_t asked, answered, right, known; /* right of known: answers whose public truth is known */
    double epsilon, order, epsilon_classic, epsilon_data;
    struct train_report report;
};

struct pate_outcome {
    size_t n_public, n_units, n_silent; /* student items, protected units, teachers of one class alone */
    double vote_accuracy;               /* of single teachers on known queries; private */
    struct pate_result result[PATE_MAX_STUDENTS * PATE_MAX_PREFIXES];
    int n_results;
};

/* Teaches the teachers (those that are in the folder already are not taught again), collects votes, releases
 * answers and trains students on them: prefix by prefix, method by method. public_set: training-split items
 * are for the student, in an order of the seed's, its labels never read but to say how many answers are right.
 * Interrupted, it leaves what the next call goes on from. Errors: ERR_INPUT for sets that do not fit or are
 * too small, ERR_USAGE for settings, and ERR_USAGE when max_epsilon is spent before the last prefix. */
bool pate_study_run(const struct imageset *private_set, const struct imageset *public_set,
                    const struct pate_options *o, const struct progress *progress, struct pate_outcome *out,
                    struct err *e);

#endif
