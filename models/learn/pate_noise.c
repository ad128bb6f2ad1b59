/* SPDX-License-Identifier: Apache-2.0
 *
 * pate_noise.c - the noise of released votes (pate.h): one block of ChaCha20's key stream a value, addressed by
 * query and purpose (the nonce) and index (the block counter). A cipher and not models/base/rng.h: who could
 * guess the generator's state from other numbers of a run would know the noise, and with it the votes. */
#include "models/learn/pate.h"

#include "models/base/file.h"

#include <assert.h>
#include <errno.h>
#include <math.h>
#include <nettle/chacha.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

bool pate_noise_draw_key(struct pate_noise *noise, struct err *e)
{
    const ssize_t n = getrandom(noise->key, sizeof noise->key, 0);
    noise->secret = true;
    return n == (ssize_t)sizeof noise->key ||
           err_errno(e, ERR_RUNTIME, errno, "the system gives no random numbers for the noise");
}

void pate_noise_from_seed(struct pate_noise *noise, uint64_t seed)
{
    char text[64], hex[65];
    snprintf(text, sizeof text, "aftermap pate noise %llu", (unsigned long long)seed);
    file_sha256_buffer(text, strlen(text), hex);
    for (size_t i = 0; i < sizeof noise->key; i++) {
        unsigned byte;
        sscanf(hex + 2 * i, "%2x", &byte);
        noise->key[i] = (unsigned char)byte;
    }
    noise->secret = false;
}

/* Two numbers strictly between 0 and 1, of 52 bits each. */
static void uniform_pair(const struct pate_noise *noise, uint64_t query, enum pate_purpose purpose, int index,
                         double u[2])
{
    struct chacha_ctx chacha;
    uint8_t nonce[CHACHA_NONCE96_SIZE], counter[CHACHA_COUNTER32_SIZE], block[16] = {0};
    assert(index >= 0);
    for (int i = 0; i < 8; i++)
        nonce[i] = (uint8_t)(query >> 8 * i);
    for (int i = 0; i < 4; i++) {
        nonce[8 + i] = (uint8_t)((uint32_t)purpose >> 8 * i);
        counter[i] = (uint8_t)((uint32_t)index >> 8 * i);
    }
    chacha_set_key(&chacha, noise->key);
    chacha_set_nonce96(&chacha, nonce);
    chacha_set_counter32(&chacha, counter);
    chacha_crypt32(&chacha, sizeof block, block, block);
    for (int k = 0; k < 2; k++) {
        uint64_t bits = 0;
        for (int i = 0; i < 8; i++)
            bits |= (uint64_t)block[8 * k + i] << 8 * i;
        u[k] = ((double)(bits >> 12) + 0.5) * 0x1p-52;
    }
}

double pate_noise_normal(const struct pate_noise *noise, uint64_t query, enum pate_purpose purpose, int index)
{
    double u[2];
    uniform_pair(noise, query, purpose, index, u);
    return sqrt(-2 * log(u[0])) * cos(2 * M_PI * u[1]);
}

/* Scale 1: variance 2. The difference of two exponentials. */
double pate_noise_laplace(const struct pate_noise *noise, uint64_t query, enum pate_purpose purpose,
                          int index)
{
    double u[2];
    uniform_pair(noise, query, purpose, index, u);
    return log(u[0]) - log(u[1]);
}
