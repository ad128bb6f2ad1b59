/* SPDX-License-Identifier: Apache-2.0
 *
 * must.h - calls that have to succeed, or to fail in a certain way, with their own error record `e` in sight. */
#ifndef AM_MUST_H
#define AM_MUST_H

#include "models/base/err.h"

#define MUST(call)                                                                                           \
    do {                                                                                                     \
        struct err e_ = {0};                                                                                 \
        struct err *e = &e_;                                                                                 \
        if (!(call))                                                                                         \
            fail_msg("%s: %s", #call, e_.msg);                                                               \
    } while (0)
#define MUST_FAIL(call, want)                                                                                \
    do {                                                                                                     \
        struct err e_ = {0};                                                                                 \
        struct err *e = &e_;                                                                                 \
        if (call)                                                                                            \
            fail_msg("%s did not fail", #call);                                                              \
        if (e_.code != (want))                                                                               \
            fail_msg("%s: %s instead of %s: %s", #call, err_name(e_.code), err_name(want), e_.msg);          \
    } while (0)

#endif
