/* SPDX-License-Identifier: Apache-2.0
 * cmd_lab.c - `aftermap lab`: the group of studies over whole runs, each a command of its own with the options
 * of its method. A new one = one file + one row here. */
#include "app/command.h"

static const struct command *const members[] = {&command_lab_pate, &command_lab_extract, &command_lab_diffuse,
                                                &command_lab_lag, NULL};

const struct command command_lab = {
    .name = "lab",
    .args_doc = "NAME ...",
    .summary = "Studies beyond one training: private teachers, extraction, diffusion, made-up detail",
    .doc = "Studies that take many trainings, each after its papers:",
    .subcommands = members,
};
