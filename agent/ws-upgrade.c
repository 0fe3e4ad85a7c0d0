/* SPDX-License-Identifier: Apache-2.0 */
#include "ws-upgrade.h"

#include <ctype.h>
#include <stdio.h>
#include <sys/random.h>

#include <curl/curl.h>
#include <openssl/evp.h>

#include "base64.h"
#include "build-config.h"
#include "err.h"
#include "secret.h"
#include "sink.h"

#define KEY_BYTES 16
#define GUID      "258EAFA5-E914-47DA-95CA-C5AB0DC85B11" /* RFC 6455, 1.3 */

struct WsAnswer {
        char *accept; /* what the server must say */
        Sink head;    /* later its lines, each NUL-terminated instead of CRLF */
        unsigned status;
        size_t body_left;
        Sink body;
};

static int make_key(char ret[static WS_KEY_SIZE])
{
        _cleanup_free_ char *text = NULL;
        uint8_t bytes[KEY_BYTES];
        int r;

        if (getrandom(bytes, sizeof(bytes), 0) < 0)
                return -errno;
        r = base64_encode(bytes, sizeof(bytes), &text);
        if (r >= 0)
                memcpy(ret, text, WS_KEY_SIZE);
        return r;
}

int ws_upgrade_write(const char *target, const NameValue *headers, size_t n_headers,
                     char ret_key[static WS_KEY_SIZE], char **ret)
{
        _cleanup_(secret_freep) char *text = NULL;
        size_t size;
        FILE *f;
        int r = make_key(ret_key);

        if (r < 0)
                return r;
        f = open_memstream(&text, &size);
        if (!f)
                return -ENOMEM;
        fprintf(f, "GET %s HTTP/1.1\r\n", target);
        for (size_t i = 0; i < n_headers; i++)
                fprintf(f, "%s: %s\r\n", headers[i].name, headers[i].value);
        fprintf(f,
                "User-Agent: slipway/" SLIPWAY_VERSION "\r\nConnection: Upgrade\r\n"
                "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %s\r\n\r\n",
                ret_key);
        if (fclose(f) != 0)
                return -ENOMEM;
        *ret = TAKE_PTR(text);
        return 0;
}

static int make_accept(const char *key, char **ret)
{
        _cleanup_free_ char *text = NULL;
        uint8_t digest[EVP_MAX_MD_SIZE];
        unsigned size;

        if (asprintf(&text, "%s" GUID, key) < 0)
                return text = NULL, -ENOMEM;
        if (EVP_Digest(text, strlen(text), digest, &size, EVP_sha1(), NULL) != 1)
                return -EIO;
        return base64_encode(digest, size, ret);
}

int ws_answer_new(const char *key, WsAnswer **ret)
{
        _cleanup_(ws_answer_freep) WsAnswer *a = calloc(1, sizeof(WsAnswer));
        int r;

        if (!a)
                return -ENOMEM;
        r = make_accept(key, &a->accept);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(a);
        return 0;
}

WsAnswer *ws_answer_free(WsAnswer *a)
{
        if (!a)
                return NULL;
        free(a->accept);
        sink_done(&a->head);
        sink_done(&a->body);
        free(a);
        return NULL;
}

/* The value of the first header of that name, or NULL. */
static const char *find_header(const WsAnswer *a, const char *name)
{
        const size_t n = strlen(name);

        for (size_t at = 0; at < a->head.size; at += strlen(a->head.data + at) + 1) {
                const char *line = a->head.data + at;
                if (strncasecmp(line, name, n) == 0 && line[n] == ':')
                        return line + n + 1 + strspn(line + n + 1, " \t");
        }
        return NULL;
}

/* Whether a list of words has this one, without regard to case. */
static bool has_word(const char *list, const char *word)
{
        const size_t n = strlen(word);

        for (const char *p = strempty(list); *p; p += strcspn(p, ", \t")) {
                p += strspn(p, ", \t");
                if (strncasecmp(p, word, n) == 0 && strchr(", \t", p[n]))
                        return true;
        }
        return false;
}

static int judge_upgrade(const WsAnswer *a, char **reterr)
{
        if (!has_word(find_header(a, "Upgrade"), "websocket") ||
            !has_word(find_header(a, "Connection"), "upgrade"))
                return fail(reterr, -EPROTO, "an answer that changes to something else");
        if (!streq(strempty(find_header(a, "Sec-WebSocket-Accept")), a->accept))
                return fail(reterr, -EPROTO, "an answer to another key (Sec-WebSocket-Accept)");
        if (find_header(a, "Sec-WebSocket-Extensions") || find_header(a, "Sec-WebSocket-Protocol"))
                return fail(reterr, -EPROTO,
                            "an answer with an extension or protocol that was not asked for");
        return 1;
}

/* Makes lines of the head, and finds the status in the first one. */
static int split_head(WsAnswer *a, char **reterr)
{
        const char *p = a->head.data;

        if (memchr(p, '\0', a->head.size))
                return fail(reterr, -EPROTO, "an answer that is not HTTP");
        for (char *end = a->head.data; (end = strstr(end, "\r\n")); end += 2)
                end[0] = end[1] = '\0';
        if (strncmp(p, "HTTP/1.1 ", 9) != 0 || !isdigit((unsigned char) p[9]) ||
            !isdigit((unsigned char) p[10]) || !isdigit((unsigned char) p[11]) ||
            (p[12] && p[12] != ' ') || p[9] == '0')
                return fail(reterr, -EPROTO, "an answer that is not HTTP");
        a->status = (unsigned) strtoul(p + 9, NULL, 10);
        return 0;
}

/* 1: nothing more belongs to the answer. */
static int end_head(WsAnswer *a, char **reterr)
{
        const char *length;
        int r = split_head(a, reterr);

        if (r < 0)
                return r;
        if (a->status == 101)
                return judge_upgrade(a, reterr);
        length = find_header(a, "Content-Length");
        a->body_left = length ? strtoul(length, NULL, 10) : SIZE_MAX;
        a->body_left = MIN(a->body_left, (size_t) WS_REFUSAL_SIZE_MAX);
        return a->body_left == 0;
}

/* Byte by byte: what follows the head is something else. */
static int take_head(WsAnswer *a, const uint8_t **data, size_t *size, char **reterr)
{
        int r = 0;

        while (r == 0 && a->status == 0 && *size > 0) {
                if (a->head.size == WS_ANSWER_SIZE_MAX)
                        return fail(reterr, -EPROTO, "an answer of more than the limit of %u bytes",
                                    WS_ANSWER_SIZE_MAX);
                r = sink_write(&a->head, *data, 1);
                (*data)++;
                (*size)--;
                if (r >= 0 && a->head.size >= 4 &&
                    memcmp(a->head.data + a->head.size - 4, "\r\n\r\n", 4) == 0)
                        r = end_head(a, reterr);
        }
        return r;
}

static int take_body(WsAnswer *a, const uint8_t **data, size_t *size)
{
        const size_t n = MIN(*size, a->body_left);
        int r = sink_write(&a->body, *data, n);

        *data += n;
        *size -= n;
        a->body_left -= n;
        return r < 0 ? r : a->body_left == 0;
}

int ws_answer_take(WsAnswer *a, const uint8_t **data, size_t *size, char **reterr)
{
        int r = take_head(a, data, size, reterr);

        return r == 0 && *size > 0 ? take_body(a, data, size) : r;
}

unsigned ws_answer_status(const WsAnswer *a)
{
        return a->status;
}

const char *ws_answer_body(const WsAnswer *a, size_t *ret_size)
{
        *ret_size = a->body.size;
        return strempty(a->body.data);
}

time_t ws_answer_date(const WsAnswer *a)
{
        const char *date = find_header(a, "Date");

        return date ? curl_getdate(date, NULL) : -1;
}
