/* SPDX-License-Identifier: Apache-2.0
 *
 * trainer.h - what the files of the training loop share, and nobody else includes: train.c drives,
 * train_config.c settles and describes settings, train_pools.c chooses items, train_finish.c makes the
 * averaged weights fit for use, train_checkpoint.c saves and restores. */
#ifndef AM_TRAINER_H
#define AM_TRAINER_H

#include "models/learn/batches.h"
#include "models/learn/train.h"
#include "models/learn/trivial.h"

struct trainer_pools {
    uint32_t *unlabeled;   /* all training-split items */
    uint32_t *labeled;     /* all chosen labels, the held-out ones included */
    uint32_t *fit;         /* labels that training sees */
    uint32_t *calibration; /* labels held out for the temperature */
    uint32_t *source;      /* labelled items of other places */
    uint32_t *taught;      /* labeled, then source */
    uint32_t *fit_all;     /* fit, then source */
    size_t n_unlabeled, n_labeled, n_fit, n_calibration, n_source, n_taught, n_fit_all;
    char digest[65]; /* of ids, labels and splits of the whole set */
};

struct trainer {
    const struct imageset *set;
    struct train_config own_config; /* the caller's, and what the data say */
    const struct train_config *config;
    const struct method *method;
    const struct progress *progress;
    struct net_config net_config;
    char *config_text;
    struct trainer_pools pools;
    struct trivial trivial;

    struct batches batches;
    struct net *net;      /* trains */
    struct net *eval_net; /* INFER, batch-norm momentum 0; holds the averaged weights when they are used */
    struct optim *optim;
    void *state; /* the method's */
    struct method_pass pass[METHOD_MAX_PASSES];
    int n_passes, max_pass_rows, update_pass; /* the one that moves the running statistics */
    float *target;                            /* [n_rows,n_classes] */
    float *dlogits;                           /* [max_pass_rows,n_classes] */
    uint32_t *order;                          /* [2*n_rows] a method's scratch */
    float *share;                             /* [n_rows] likewise */
    float *ema_stat; /* the averaged weights with population statistics, in the order of net_tensors() */

    double *class_share; /* [n_classes] */
    double *stat_sums;   /* [running statistics] sums while they are made */

    int64_t step, n_steps;
    double loss; /* of the last step */
    struct method_scalars scalars;
    double temperature;
    bool calibrated;
};

/* train.c: what hooks see of step `step`. */
struct method_step trainer_step(struct trainer *t, int64_t step);

/* train_config.c */
bool trainer_check_config(const struct train_config *c, struct err *e);
char *trainer_config_text(const struct train_config *c, struct err *e); /* JSON, caller frees */

/* train_pools.c */
bool trainer_pools_choose(struct trainer_pools *p, const struct imageset *set, const struct train_config *c,
                          const struct progress *progress, struct err *e);
void trainer_pools_free(struct trainer_pools *p); /* accepts a zeroed record */

/* train_finish.c: fills t->ema_stat; allocates nothing. */
void trainer_population_statistics(struct trainer *t);
/* Fills t->temperature and t->calibrated from the held-out labels; t->ema_stat must be current. */
bool trainer_calibrate(struct trainer *t, struct err *e);

/* train_checkpoint.c */
bool trainer_save(struct trainer *t, const char *path, const struct checkpoint_meta *extra, int n_extra,
                  struct err *e);
/* Restores step, n_steps, weights, moving average, optimiser and method state. t->optim is created here, as
 * it must be after the weights are known. */
bool trainer_restore(struct trainer *t, const char *path, struct err *e);

#endif
