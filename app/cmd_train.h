/* SPDX-License-Identifier: Apache-2.0
 *
 * cmd_train.h - the `train` command for another command that trains (experiments): the same options, checks,
 * data and sources, without a word on stdout. */
#ifndef AM_CMD_TRAIN_H
#define AM_CMD_TRAIN_H

#include "app/command.h"
#include "models/learn/train.h"

/* options: those of command_train, parsed (command_parse). watch: NULL or who looks at the last checkpoints. */
bool train_command_run(void *options, const struct common *common, const struct train_watch *watch,
                       const struct progress *progress, struct train_report *r, struct err *e);

#endif
