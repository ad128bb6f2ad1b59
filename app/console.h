/* SPDX-License-Identifier: Apache-2.0
 *
 * console.h - what the user sees on stderr while work runs: a bar with an ETA on a terminal, plain lines
 * elsewhere, JSON lines on request; and the stop flag that SIGINT and SIGTERM raise. A signal two seconds
 * after the first ends the process at once. */
#ifndef AM_CONSOLE_H
#define AM_CONSOLE_H

#include "app/command.h"

struct console;
/* Installs the signal handlers. `common` must stay valid. */
const struct progress *console_open(const struct common *common);
void console_close(void);   /* ends an open bar with a newline */
int console_warnings(void); /* sentences given to warn() so far */
int console_signal(void);   /* the signal that raised the stop flag, or 0 */
void console_say(const char *fmt, ...)
    __attribute__((format(printf, 1, 2))); /* one line on stderr unless --quiet */
void console_error(const struct err *e);

#endif
