/* SPDX-License-Identifier: Apache-2.0
 * console.c - progress, warnings, errors and signals, declared in console.h. One console a process, used from
 * one thread at a time; the signal handler touches nothing but two flags. */
#include "app/console.h"

#include <cJSON.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum style { STYLE_NONE, STYLE_PLAIN, STYLE_BAR, STYLE_JSON };

static struct {
    const struct common *common;
    enum style style;
    bool bar_open;
    char stage[32];
    double stage_start_s, last_s;
    int n_warnings;
} con;

static volatile sig_atomic_t stop_flag, stop_signal;

static double now_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* The first signal asks for a clean end. timeout(1) and process groups deliver one request twice in a moment,
 * so only a signal that comes a while later means "at once". Everything here is async-signal-safe. */
static void on_signal(int number)
{
    static volatile sig_atomic_t first_s;
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    if (stop_flag && (sig_atomic_t)t.tv_sec - first_s >= 2) {
        signal(number, SIG_DFL);
        raise(number); /* taken when this handler returns */
        return;
    }
    if (!stop_flag)
        first_s = (sig_atomic_t)t.tv_sec;
    stop_signal = number;
    stop_flag = 1;
}

static void format_span(char *out, size_t size, double s)
{
    long t = s < 0 ? 0 : (long)(s + 0.5);
    if (t >= 3600)
        snprintf(out, size, "%ld:%02ld:%02ld", t / 3600, t / 60 % 60, t % 60);
    else
        snprintf(out, size, "%ld:%02ld", t / 60, t % 60);
}

static void draw_bar(const char *stage, double share, const char *eta, const char *note)
{
    char bar[31];
    int filled = (int)(share * 30.0);
    for (int i = 0; i < 30; i++)
        bar[i] = i < filled ? '#' : '.';
    bar[30] = '\0';
    fprintf(stderr, "\r\033[K%-9s [%s] %3.0f%%  %s left  %s", stage, bar, share * 100.0, eta,
            note ? note : "");
    fflush(stderr);
    con.bar_open = true;
}

static void draw_json(const char *stage, double done, double total, double eta_s, const char *note)
{
    cJSON *line = cJSON_CreateObject();
    cJSON_AddStringToObject(line, "stage", stage);
    cJSON_AddNumberToObject(line, "done", done);
    cJSON_AddNumberToObject(line, "total", total);
    cJSON_AddNumberToObject(line, "eta_s", eta_s);
    if (note)
        cJSON_AddStringToObject(line, "note", note);
    char *text = cJSON_PrintUnformatted(line);
    if (text)
        fprintf(stderr, "%s\n", text);
    cJSON_free(text);
    cJSON_Delete(line);
}

static void on_report(void *ctx, const char *stage, double done, double total, const char *note)
{
    (void)ctx;
    double t = now_s();
    bool fresh = strcmp(stage, con.stage) != 0, last = total > 0 && done >= total;
    if (fresh) {
        snprintf(con.stage, sizeof con.stage, "%s", stage);
        con.stage_start_s = t;
        con.last_s = 0;
        if (con.bar_open)
            fputc('\n', stderr);
        con.bar_open = false;
    }
    double interval = con.style == STYLE_BAR ? 0.1 : con.style == STYLE_JSON ? 0.5 : 10.0;
    if (con.style == STYLE_NONE || (!fresh && !last && t - con.last_s < interval))
        return;
    con.last_s = t;
    double share = total > 0 ? done / total : 0.0;
    share = share < 0 ? 0 : share > 1 ? 1 : share;
    double eta_s = share > 0 ? (t - con.stage_start_s) * (1.0 - share) / share : -1.0;
    char eta[32] = "?";
    if (eta_s >= 0)
        format_span(eta, sizeof eta, eta_s);
    if (con.style == STYLE_BAR)
        draw_bar(stage, share, eta, note);
    else if (con.style == STYLE_JSON)
        draw_json(stage, done, total, eta_s, note);
    else
        fprintf(stderr, "%s: %.0f%%, %s left%s%s\n", stage, share * 100.0, eta, note ? ", " : "",
                note ? note : "");
    if (last && con.bar_open) {
        fputc('\n', stderr);
        con.bar_open = false;
    }
}

static void end_bar(void)
{
    if (con.bar_open)
        fputc('\n', stderr);
    con.bar_open = false;
}

static void on_warn(void *ctx, const char *sentence)
{
    (void)ctx;
    con.n_warnings++;
    end_bar();
    if (!con.common->quiet)
        fprintf(stderr, "aftermap: note: %s\n", sentence);
}

const struct progress *console_open(const struct common *common)
{
    static const struct progress progress = {.report = on_report, .warn = on_warn, .stop = &stop_flag};
    con.common = common;
    const char *want = common->progress ? common->progress : "auto";
    if (strcmp(want, "none") == 0 || (common->quiet && strcmp(want, "auto") == 0))
        con.style = STYLE_NONE;
    else if (strcmp(want, "json") == 0)
        con.style = STYLE_JSON;
    else if (strcmp(want, "plain") == 0 || !isatty(STDERR_FILENO))
        con.style = STYLE_PLAIN;
    else
        con.style = STYLE_BAR;
    struct sigaction sa = {.sa_handler = on_signal};
    sigemptyset(&sa.sa_mask);
    sigaction(SIGINT, &sa, NULL);
    sigaction(SIGTERM, &sa, NULL);
    return &progress;
}

void console_close(void)
{
    end_bar();
}

int console_warnings(void)
{
    return con.n_warnings;
}

int console_signal(void)
{
    return stop_signal;
}

void console_say(const char *fmt, ...)
{
    if (con.common && con.common->quiet)
        return;
    end_bar();
    va_list ap;
    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fputc('\n', stderr);
}

void console_error(const struct err *e)
{
    end_bar();
    fprintf(stderr, "aftermap: %s\n", e->msg[0] ? e->msg : err_text(e->code));
}
