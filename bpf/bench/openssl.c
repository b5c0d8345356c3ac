/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What OpenSSL's ChaCha20-Poly1305 takes for the same work: one packet is a nonce, 12 bytes of associated data, a text and its
 * tag. Reads "SIZE COUNT" lines; answers each with two medians in ns: of COUNT packets, each timed alone as ours are, minus the
 * clock; and of the same number of updates of one endless message, which is what `openssl speed` measures.
 * OPENSSL_ia32cap in the environment chooses the code. Declared here what is used of libcrypto: no headers are needed.
 */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

typedef struct evp_cipher_ctx_st EVP_CIPHER_CTX;
typedef struct evp_cipher_st EVP_CIPHER;
EVP_CIPHER_CTX *EVP_CIPHER_CTX_new(void);
const EVP_CIPHER *EVP_chacha20_poly1305(void);
int EVP_EncryptInit_ex(EVP_CIPHER_CTX *, const EVP_CIPHER *, void *, const unsigned char *, const unsigned char *);
int EVP_EncryptUpdate(EVP_CIPHER_CTX *, unsigned char *, int *, const unsigned char *, int);
int EVP_EncryptFinal_ex(EVP_CIPHER_CTX *, unsigned char *, int *);
int EVP_CIPHER_CTX_ctrl(EVP_CIPHER_CTX *, int, int, void *);
const char *OpenSSL_version(int);
#define AEAD_GET_TAG 16

static unsigned char text[65536], tag[16], key[32] = { 1, 2, 3 }, nonce[12], associated[12];
static long samples[100000];

static long now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000L + t.tv_nsec;
}

static int compare(const void *a, const void *b)
{
	long x = *(const long *)a, y = *(const long *)b;

	return x < y ? -1 : x > y;
}

static long median(int count)
{
	qsort(samples, (size_t)count, sizeof(samples[0]), compare);
	return samples[count / 2];
}

static void packet(EVP_CIPHER_CTX *c, int size)
{
	int len;

	nonce[11]++;
	if (EVP_EncryptInit_ex(c, NULL, NULL, NULL, nonce) != 1 || EVP_EncryptUpdate(c, NULL, &len, associated, 12) != 1 ||
	    EVP_EncryptUpdate(c, text, &len, text, size) != 1 || EVP_EncryptFinal_ex(c, text + size, &len) != 1 ||
	    EVP_CIPHER_CTX_ctrl(c, AEAD_GET_TAG, 16, tag) != 1)
		exit(2);
}

int main(void)
{
	EVP_CIPHER_CTX *c = EVP_CIPHER_CTX_new();
	int size, count, len;

	if (!c || EVP_EncryptInit_ex(c, EVP_chacha20_poly1305(), NULL, key, nonce) != 1)
		return 2;
	printf("%s\n", OpenSSL_version(0));
	fflush(stdout);
	while (scanf("%d %d", &size, &count) == 2) {
		long clock_ns, whole, endless;

		if (size < 1 || size > 60000 || count < 1 || count > 100000)
			return 2;
		for (int i = 0; i < count; i++) {
			long from = now();

			samples[i] = now() - from;
		}
		clock_ns = median(count);
		for (int i = 0; i < count; i++) {
			long from = now();

			packet(c, size);
			samples[i] = now() - from;
		}
		whole = median(count) - clock_ns;
		if (EVP_EncryptInit_ex(c, NULL, NULL, NULL, nonce) != 1)
			return 2;
		for (int i = 0; i < count; i++) {
			long from = now();

			if (EVP_EncryptUpdate(c, text, &len, text, size) != 1)
				return 2;
			samples[i] = now() - from;
		}
		endless = median(count) - clock_ns;
		printf("%ld %ld\n", whole, endless);
		fflush(stdout);
	}
	return 0;
}
