/* SPDX-License-Identifier: Apache-2.0
 *
 * method.c - the one list of methods. A new method adds its declaration and its line to METHODS here and
 * nowhere else. */
#include "models/learn/method.h"

#include <stdio.h>
#include <string.h>

#define METHODS(X)                                                                                           \
    X(supervised)                                                                                            \
    X(pseudolabel)                                                                                           \
    X(pimodel)                                                                                               \
    X(meanteacher)                                                                                           \
    X(vat)                                                                                                   \
    X(uda)                                                                                                   \
    X(mixmatch)                                                                                              \
    X(remixmatch)                                                                                            \
    X(fixmatch)                                                                                              \
    X(adamatch)

#define METHOD_DECLARE(name) extern const struct method method_##name;
METHODS(METHOD_DECLARE)
#undef METHOD_DECLARE

static const struct method *const list[] = {
#define METHOD_ROW(name) &method_##name,
    METHODS(METHOD_ROW)
#undef METHOD_ROW
};

enum { N_METHODS = sizeof list / sizeof list[0] };

const struct method *const *method_list(int *n)
{
    *n = N_METHODS;
    return list;
}

const struct method *method_find(const char *name, struct err *e)
{
    char names[256] = "";
    size_t used = 0;
    for (int i = 0; i < N_METHODS; i++) {
        if (strcmp(name, list[i]->name) == 0)
            return list[i];
        int k = snprintf(names + used, sizeof names - used, "%s%s", i ? ", " : "", list[i]->name);
        used += k > 0 ? (size_t)k : 0;
        if (used >= sizeof names)
            used = sizeof names - 1;
    }
    err_set(e, ERR_USAGE, "no method is called \"%s\"; choose one of: %s", name, names);
    return NULL;
}
