/* SPDX-License-Identifier: Apache-2.0 */
#include "http.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <inttypes.h>
#include <limits.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <time.h>

#include <curl/curl.h>

#include "build-config.h"
#include "clock.h"
#include "err.h"
#include "fd.h"
#include "http-chunks.h"
#include "http-internal.h"
#include "secret.h"

#define ERROR_BODY_MAX    65536
#define REFUSED_BODY_MAX  (1024 * 1024)
#define HEADERS_MAX       65536
#define ALL_HEADERS_MAX   (4 * HEADERS_MAX) /* with those of interim answers */
#define LOW_SPEED_BYTES   64L
#define CONNECTIONS_MAX   32L
#define CONNECTIONS_KEPT  16L /* of those that libcurl counts, in use or not */
#define LIFETIME_SEC      3600L
#define DNS_CACHE_SEC     30L
#define LARGE_BODY        (1024 * 1024)
#define LARGE_BUFFER_SIZE 131072L
#define GUEST_FDS_MAX     16
#define GUEST_LOOK_USEC   UINT64_C(100000)

struct HttpResponse {
        unsigned status;
        char *headers; /* the lines as they came, each NUL-terminated instead of CRLF */
        size_t headers_size;
        bool has_headers; /* all of them */
        char *error_body;
        size_t error_body_size;
        bool resent, unresolved;
};

struct HttpTransfer {
        HttpEasy base; /* the first member */
        Http *http;
        CURL *easy;
        struct curl_slist *headers;
        char *host; /* for messages */
        char *etag;
        HttpUpload upload;
        bool waits; /* until due_usec; libcurl does not have it yet */
        uint64_t due_usec;
        uint64_t n_sent, n_received;
        uint64_t range_offset, range_size, size_max;
        unsigned stall_sec;
        HttpResponse response;
        size_t all_headers_size; /* also of answers that came before it */
        bool chunked;
        HttpChunks chunks;
        http_body_t on_body;
        void (*on_sent)(uint64_t size, void *userdata);
        http_done_t done;
        void *userdata;
        int error; /* why one of the callbacks below ended the transfer */
        char *err;
        char curl_err[CURL_ERROR_SIZE];
        LIST_ENTRY(HttpTransfer) entry;
};

struct Http {
        CURLM *multi;
        char *ca_file;
        CURL *spare; /* a handle to use again: making one costs more than resetting it */
        bool just_started;
        bool has_head; /* one came whose body may be missing yet */
        size_t n_running;
        LIST_HEAD(, HttpTransfer) transfers;
        LIST_HEAD(, Http) guests; /* what http_step() does besides */
        LIST_HEAD(, HttpWatch) watches;
        uint64_t round; /* of http_step() */
        Http *host;     /* whose guest it is */
        LIST_ENTRY(Http) guest_entry;
};

int http_new(const char *ca_file, Http **ret)
{
        _cleanup_(http_freep) Http *h = NULL;

        if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
                return -ENOMEM;
        h = calloc(1, sizeof(Http));
        if (!h) {
                curl_global_cleanup();
                return -ENOMEM;
        }
        LIST_INIT(&h->transfers);
        LIST_INIT(&h->guests);
        LIST_INIT(&h->watches);
        h->multi = curl_multi_init();
        if (!h->multi)
                return -ENOMEM;
        if (ca_file) {
                h->ca_file = strdup(ca_file);
                if (!h->ca_file)
                        return -ENOMEM;
        }
        if (curl_multi_setopt(h->multi, CURLMOPT_MAX_TOTAL_CONNECTIONS, CONNECTIONS_MAX) ||
            curl_multi_setopt(h->multi, CURLMOPT_MAXCONNECTS, CONNECTIONS_KEPT) ||
            curl_multi_setopt(h->multi, CURLMOPT_PIPELINING, (long) CURLPIPE_NOTHING))
                return -EINVAL;
        *ret = TAKE_PTR(h);
        return 0;
}

static void detach(Http *guest)
{
        if (guest->host)
                LIST_REMOVE(guest, guest_entry);
        guest->host = NULL;
}

void http_attach(Http *h, Http *guest)
{
        if (guest->host == h)
                return;
        detach(guest);
        guest->host = h;
        LIST_INSERT_HEAD(&h->guests, guest, guest_entry);
}

Http *http_free(Http *h)
{
        if (!h)
                return NULL;
        detach(h);
        while (!LIST_EMPTY(&h->guests))
                detach(LIST_FIRST(&h->guests));
        while (!LIST_EMPTY(&h->transfers))
                (void) http_cancel(LIST_FIRST(&h->transfers));
        while (!LIST_EMPTY(&h->watches))
                LIST_FIRST(&h->watches)->end(LIST_FIRST(&h->watches));
        curl_easy_cleanup(h->spare);
        if (h->multi)
                (void) curl_multi_cleanup(h->multi);
        free(h->ca_file);
        free(h);
        curl_global_cleanup();
        return NULL;
}

static void transfer_free(HttpTransfer *t)
{
        if (t->easy && !t->http->spare) {
                curl_easy_reset(t->easy);
                t->http->spare = TAKE_PTR(t->easy);
        }
        curl_easy_cleanup(t->easy);
        /* Tokens may be among them. */
        for (struct curl_slist *h = t->headers; h; h = h->next)
                explicit_bzero(h->data, strlen(h->data));
        curl_slist_free_all(t->headers);
        free(t->host);
        free(t->etag);
        free(t->err);
        free(t->response.headers);
        free(t->response.error_body);
        free(t);
}
DEFINE_CLEANUP_FUNC(HttpTransfer *, transfer_free);

HttpTransfer *http_cancel(HttpTransfer *t)
{
        if (!t)
                return NULL;
        LIST_REMOVE(t, entry);
        if (!t->waits)
                http_remove_easy(t->http, &t->base, t->easy);
        transfer_free(t);
        return NULL;
}

unsigned http_response_status(const HttpResponse *r)
{
        return r->status;
}

const char *http_response_header(const HttpResponse *r, const char *name)
{
        size_t n = strlen(name);

        for (size_t at = 0; at < r->headers_size; at += strlen(r->headers + at) + 1) {
                const char *line = r->headers + at;
                if (strncasecmp(line, name, n) == 0 && line[n] == ':')
                        return line + n + 1 + strspn(line + n + 1, " \t");
        }
        return NULL;
}

const char *http_response_error_body(const HttpResponse *r, size_t *ret_size)
{
        if (ret_size)
                *ret_size = r->error_body_size;
        return strempty(r->error_body);
}

bool http_response_resent(const HttpResponse *r)
{
        return r->resent;
}

bool http_response_unresolved(const HttpResponse *r)
{
        return r->unresolved;
}

time_t http_response_date(const HttpResponse *r)
{
        const char *date = http_response_header(r, "Date");

        return date ? curl_getdate(date, NULL) : -1;
}

uint64_t http_response_retry_after_sec(const HttpResponse *r)
{
        const char *text = http_response_header(r, "Retry-After");
        const time_t date = http_response_date(r);
        size_t n;

        if (!text)
                return 0;
        n = strspn(text, "0123456789");
        if (n > 0 && text[n + strspn(text + n, " \t")] == '\0')
                return strtoull(text, NULL, 10); /* of too many digits: the largest number */
        const time_t then = curl_getdate(text, NULL), now = date == -1 ? time(NULL) : date;
        return then > now ? (uint64_t) (then - now) : 0;
}

static int append(char **data, size_t *size, const void *more, size_t more_size)
{
        char *larger = realloc(*data, *size + more_size + 1);

        if (!larger)
                return -ENOMEM;
        memcpy(larger + *size, more, more_size);
        *size += more_size;
        larger[*size] = '\0';
        *data = larger;
        return 0;
}

/* Ends the transfer from within one of libcurl's callbacks. */
static size_t give_up(HttpTransfer *t, int error)
{
        t->error = error;
        return 0;
}

static int parse_number(const char **p, uint64_t *ret)
{
        char *end;

        if (!isdigit((unsigned char) **p))
                return -EBADMSG;
        errno = 0;
        *ret = strtoull(*p, &end, 10);
        if (errno > 0)
                return -errno;
        *p = end;
        return 0;
}

/* RFC 9110, 14.4: "bytes 0-99/1000", or "*" for an unknown total, which is UINT64_MAX here. */
static int parse_content_range(const char *value, uint64_t *ret_first, uint64_t *ret_last,
                               uint64_t *ret_total)
{
        if (!value || strncasecmp(value, "bytes ", 6) != 0)
                return -EBADMSG;
        value += 6;
        if (parse_number(&value, ret_first) < 0 || *value++ != '-' ||
            parse_number(&value, ret_last) < 0 || *value++ != '/')
                return -EBADMSG;
        *ret_total = UINT64_MAX;
        return streq(value, "*") ? 0 : parse_number(&value, ret_total);
}

static int judge_content_range(HttpTransfer *t)
{
        const char *range = http_response_header(&t->response, "Content-Range");
        uint64_t end = t->range_offset + t->range_size, first, last, total;
        int r = parse_content_range(range, &first, &last, &total);

        if (r >= 0 && first == t->range_offset && last == end - 1)
                return 0;
        if (r >= 0 && total < end)
                return fail(&t->err, -EPROTO,
                            "the object at %s has %" PRIu64 " bytes, at least %" PRIu64
                            " are expected",
                            t->host, total, end);
        return fail(&t->err, -EPROTO,
                    "%s answered with another part of the object ('%s') than was asked for",
                    t->host, range ? range : "no Content-Range");
}

/* Called when the headers of a 2xx answer are complete, before its body. */
static int judge_headers(HttpTransfer *t)
{
        const char *etag = http_response_header(&t->response, "ETag");

        if (t->etag && etag && !streq(etag, t->etag))
                return fail(&t->err, -ESTALE,
                            "the object at %s was changed: its ETag is %s, not %s", t->host, etag,
                            t->etag);
        if (t->range_size == 0)
                return t->response.status != 206
                               ? 0
                               : fail(&t->err, -EPROTO,
                                      "%s answered with a part of the object, which was not asked "
                                      "for",
                                      t->host);
        if (t->response.status != 206)
                return fail(&t->err, -EPROTO,
                            "%s answered with status %u instead of the part of the object that was "
                            "asked for",
                            t->host, t->response.status);
        return judge_content_range(t);
}

static bool is_success(const HttpTransfer *t)
{
        return t->response.status >= 200 && t->response.status < 300;
}

/* Transfer-Encoding, of which libcurl understands more than what we ask for: none, or chunks; old
 * servers say of none that it is "identity". */
static int judge_coding(const HttpResponse *r, bool *ret_chunked)
{
        const size_t n_name = STRLEN("Transfer-Encoding:");

        *ret_chunked = false;
        for (size_t at = 0; at < r->headers_size; at += strlen(r->headers + at) + 1) {
                const char *coding = r->headers + at + n_name;
                if (strncasecmp(r->headers + at, "Transfer-Encoding:", n_name) != 0)
                        continue;
                coding += strspn(coding, " \t");
                size_t n = strcspn(coding, " \t");
                if (coding[n + strspn(coding + n, " \t")])
                        return -EPROTO;
                if (n == STRLEN("chunked") && strncasecmp(coding, "chunked", n) == 0)
                        *ret_chunked = true;
                else if (n != STRLEN("identity") || strncasecmp(coding, "identity", n) != 0)
                        return -EPROTO;
        }
        return 0;
}

/* RFC 9110, 5.5: they may be sent back as headers of ours. */
static void blank_controls(char *line)
{
        for (; *line; line++)
                if (iscntrl((unsigned char) *line))
                        *line = ' ';
}

static int fail_malformed(HttpTransfer *t)
{
        return fail(&t->err, -EPROTO, "%s sent headers that are too long or malformed", t->host);
}

/* RFC 9112, 4. libcurl takes any line that begins with "HTTP/", as one with status 200. */
static bool is_status_line(const char *line, size_t size)
{
        static const char form[] = "HTTP/1.d ddd";

        if (size < sizeof(form) - 1)
                return false;
        for (size_t i = 0; form[i]; i++)
                if (form[i] == 'd' ? !isdigit((unsigned char) line[i]) : line[i] != form[i])
                        return false;
        return true;
}

/* Only the last answer counts: 100 Continue and the like come first, or 417, after which libcurl
 * asks once more by itself, without expecting anything. */
static int begin_answer(HttpTransfer *t, const char *line, size_t size)
{
        long status = 0;

        if (!is_status_line(line, size))
                return fail_malformed(t);
        (void) curl_easy_getinfo(t->easy, CURLINFO_RESPONSE_CODE, &status);
        t->response.status = (unsigned) status;
        t->response.headers_size = t->response.error_body_size = 0;
        t->response.has_headers = false;
        t->n_received = 0;
        return 0;
}

/* RFC 9112, 6.3, as far as it needs no more than the status. */
static bool has_body(const HttpResponse *r)
{
        return r->status >= 200 && r->status != 204 && r->status != 304;
}

static int end_headers(HttpTransfer *t)
{
        if (judge_coding(&t->response, &t->chunked) < 0)
                return fail(&t->err, -EPROTO,
                            "%s sent its answer in a transfer coding that was not "
                            "asked for",
                            t->host);
        t->chunks = (HttpChunks){};
        t->response.has_headers = t->response.status >= 200;
        t->http->has_head |= has_body(&t->response);
        return is_success(t) ? judge_headers(t) : 0;
}

static int take_header(HttpTransfer *t, const char *line, size_t size)
{
        t->all_headers_size += size;
        if (t->all_headers_size > ALL_HEADERS_MAX)
                return fail(&t->err, -EPROTO, "%s does not come to an end with its headers",
                            t->host);
        if (size > 5 && memcmp(line, "HTTP/", 5) == 0)
                return begin_answer(t, line, size);
        while (size > 0 && (line[size - 1] == '\r' || line[size - 1] == '\n'))
                size--;
        if (size == 0)
                return end_headers(t);
        if (size + t->response.headers_size >= HEADERS_MAX || memchr(line, '\0', size))
                return fail_malformed(t);
        int r = append(&t->response.headers, &t->response.headers_size, line, size);
        if (r < 0)
                return r;
        blank_controls(t->response.headers + t->response.headers_size - size);
        t->response.headers_size++; /* the NUL */
        return 0;
}

static size_t on_header(char *data, size_t one, size_t size, void *userdata)
{
        HttpTransfer *t = userdata;
        int r = take_header(t, data, one * size);

        return r < 0 ? give_up(t, r) : one * size;
}

static int take_error_body(HttpTransfer *t, const void *data, size_t size)
{
        if (t->n_received > REFUSED_BODY_MAX)
                return fail(&t->err, -EPROTO, "%s does not end its answer with status %u", t->host,
                            t->response.status);
        size_t room = ERROR_BODY_MAX - t->response.error_body_size;
        return append(&t->response.error_body, &t->response.error_body_size, data, MIN(size, room));
}

static int take_body(HttpTransfer *t, const void *data, size_t size)
{
        t->n_received += size;
        if (!is_success(t))
                return take_error_body(t, data, size);
        if (t->range_size > 0 && t->n_received > t->range_size)
                return fail(&t->err, -EPROTO, "%s sent more than the part that was asked for",
                            t->host);
        if (t->n_received > t->size_max)
                return fail(&t->err, -EFBIG, "%s sent more than the limit of %" PRIu64 " bytes",
                            t->host, t->size_max);
        return t->on_body ? t->on_body(data, size, t->userdata) : 0;
}

static int take_chunks(HttpTransfer *t, const char *data, size_t size)
{
        const char *content;
        size_t content_size;
        int r;

        while ((r = http_chunks_next(&t->chunks, &data, &size, &content, &content_size)) > 0) {
                r = take_body(t, content, content_size);
                if (r < 0)
                        return r;
        }
        return r < 0 ? fail(&t->err, -EPROTO, "%s sent %s", t->host,
                            r == -EFBIG ? "more around the chunks of its answer than in them"
                                        : "chunks that are none")
                     : 0;
}

static size_t on_write(char *data, size_t one, size_t size, void *userdata)
{
        HttpTransfer *t = userdata;
        int r;

        size *= one;
        /* For libcurl a line that begins with a CR ends the headers, whatever follows in it. */
        r = !t->response.has_headers ? fail_malformed(t)
            : t->chunked             ? take_chunks(t, data, size)
                                     : take_body(t, data, size);
        return r < 0 ? give_up(t, r) : size;
}

static size_t on_read(char *buffer, size_t one, size_t size, void *userdata)
{
        HttpTransfer *t = userdata;
        const HttpUpload *u = &t->upload;

        size = MIN(size * one, u->size - t->n_sent);
        if (u->data)
                memcpy(buffer, (const char *) u->data + u->offset + t->n_sent, size);
        else {
                int r = fd_pread_exactly(u->fd, buffer, size, u->offset + t->n_sent);
                if (r < 0) {
                        t->error = fail_errno(&t->err, r, "can't read what is to be sent to %s",
                                              t->host);
                        return CURL_READFUNC_ABORT;
                }
        }
        t->n_sent += size;
        if (t->on_sent)
                t->on_sent(t->n_sent, t->userdata);
        return size;
}

/* libcurl rewinds when it has to send a body again, on another connection. */
static int on_seek(void *userdata, curl_off_t offset, int origin)
{
        HttpTransfer *t = userdata;

        if (origin != SEEK_SET || offset < 0 || (uint64_t) offset > t->upload.size)
                return CURL_SEEKFUNC_FAIL;
        if ((uint64_t) offset < t->n_sent)
                t->response.resent = true;
        t->n_sent = offset;
        return CURL_SEEKFUNC_OK;
}

/* libcurl never asks for the addresses of "localhost" (since 7.78), but may for names below it. */
static bool host_is_local(const char *host)
{
        return streq(host, "127.0.0.1") || streq(host, "[::1]") ||
               strcasecmp(host, "localhost") == 0;
}

static bool host_is_loopback(const char *host)
{
        struct in_addr v4;

        return host_is_local(host) ||
               (inet_pton(AF_INET, host, &v4) == 1 && ntohl(v4.s_addr) >> 24 == 127);
}

static bool host_is_nearby(const char *host)
{
        _cleanup_free_ char *literal = NULL;
        struct in_addr v4;
        struct in6_addr v6;
        size_t n = strlen(host);

        if (inet_pton(AF_INET, host, &v4) == 1) {
                uint32_t a = ntohl(v4.s_addr);
                return a >> 16 == 0xa9fe || a >> 24 == 10 || a >> 20 == 0xac1 || a >> 16 == 0xc0a8;
        }
        if (n < 2 || host[0] != '[' || host[n - 1] != ']')
                return false;
        literal = strndup(host + 1, n - 2);
        return literal && inet_pton(AF_INET6, literal, &v6) == 1 &&
               (IN6_IS_ADDR_LINKLOCAL(&v6) || (v6.s6_addr[0] & 0xfe) == 0xfc);
}

static void url_cleanup(CURLU **u)
{
        curl_url_cleanup(*u);
}

/* *ret_direct: http is allowed to it, and no proxy. */
static int check_url(const char *url, bool nearby, char **ret_host, bool *ret_direct, char **reterr)
{
        _cleanup_(url_cleanup) CURLU *u = curl_url();
        char *part = NULL;

        if (!u)
                return -ENOMEM;
        if (curl_url_set(u, CURLUPART_URL, url, CURLU_PATH_AS_IS) != CURLUE_OK ||
            curl_url_get(u, CURLUPART_HOST, &part, 0) != CURLUE_OK)
                return fail(reterr, -EINVAL, "'%s' is not an URL", url);
        *ret_host = strdup(part);
        curl_free(part);
        if (!*ret_host)
                return -ENOMEM;
        *ret_direct = host_is_loopback(*ret_host) || (nearby && host_is_nearby(*ret_host));
        if (strncasecmp(url, "https://", 8) == 0)
                return 0;
        if (strncasecmp(url, "http://", 7) == 0 && *ret_direct)
                return 0;
        return fail(reterr, -EINVAL, "'%s' is not allowed: use https (http only %s)", url,
                    nearby ? "to a loopback, link-local or private address" : "on this host");
}

int http_url_check(const char *url, char **reterr)
{
        _cleanup_free_ char *host = NULL;
        bool direct;

        return check_url(url, false, &host, &direct, reterr);
}

int http_url_check_nearby(const char *url, char **reterr)
{
        _cleanup_free_ char *host = NULL;
        bool direct;

        return check_url(url, true, &host, &direct, reterr);
}

static int add_line(HttpTransfer *t, const char *line)
{
        struct curl_slist *longer = curl_slist_append(t->headers, line);

        if (!longer)
                return -ENOMEM;
        t->headers = longer;
        return 0;
}

static int add_header(HttpTransfer *t, const char *name, const char *value)
{
        _cleanup_(secret_freep) char *line = NULL; /* it may be a token's */

        /* "Name;" is how libcurl sends a header without a value. */
        if (asprintf(&line, *value ? "%s: %s" : "%s;", name, value) < 0)
                return line = NULL, -ENOMEM;
        return add_line(t, line);
}

static int add_headers(HttpTransfer *t, const HttpRequest *request)
{
        char range[64];
        int r = 0;

        for (size_t i = 0; r >= 0 && i < request->n_headers; i++)
                r = add_header(t, request->headers[i].name, request->headers[i].value);
        /* libcurl would ask first whether the body is welcome, and wait a second for an answer that
         * not every server gives: that pays for large bodies only. */
        if (r >= 0 && request->upload && request->upload->size < LARGE_BODY)
                r = add_line(t, "Expect:");
        if (r >= 0 && request->range_size > 0) {
                (void) snprintf(range, sizeof(range), "bytes=%" PRIu64 "-%" PRIu64,
                                request->range_offset,
                                request->range_offset + request->range_size - 1);
                r = add_header(t, "Range", range);
        }
        return r;
}

/* Options can fail for lack of memory or for an option that this libcurl was built without; both
 * end the request. */
#define SET_EASY(easy, option, value) (curl_easy_setopt(easy, option, value) != CURLE_OK)
#define SET(t, option, value)         SET_EASY((t)->easy, option, value)

/* What holds for each connection. `direct`: as check_url() says. */
static int set_connection(const Http *h, CURL *easy, const char *url, bool direct,
                          unsigned connect_sec)
{
        bool bad = SET_EASY(easy, CURLOPT_URL, url) || SET_EASY(easy, CURLOPT_NOSIGNAL, 1L) ||
                   SET_EASY(easy, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L) ||
                   SET_EASY(easy, CURLOPT_HTTP_VERSION, (long) CURL_HTTP_VERSION_1_1) ||
                   SET_EASY(easy, CURLOPT_TCP_KEEPALIVE, 1L) ||
                   SET_EASY(easy, CURLOPT_CONNECTTIMEOUT, (long) connect_sec);

        if (direct)
                bad = bad || SET_EASY(easy, CURLOPT_NOPROXY, "*");
#if LIBCURL_VERSION_NUM >= 0x075500
        bad = bad || SET_EASY(easy, CURLOPT_PROTOCOLS_STR, direct ? "http,https" : "https");
#else
        bad = bad ||
              SET_EASY(easy, CURLOPT_PROTOCOLS,
                       direct ? (long) (CURLPROTO_HTTP | CURLPROTO_HTTPS) : (long) CURLPROTO_HTTPS);
#endif
        /* With a directory set besides, libcurl would read all of it for every connection. */
        bad = bad || SET_EASY(easy, CURLOPT_CAPATH, NULL);
        if (h->ca_file)
                bad = bad || SET_EASY(easy, CURLOPT_CAINFO, h->ca_file) ||
                      SET_EASY(easy, CURLOPT_PROXY_CAINFO, h->ca_file);
        return bad ? -EINVAL : 0;
}

static int fail_option(char **reterr, int error)
{
        return fail(reterr, error, "libcurl %s does not take an option that is needed",
                    LIBCURL_VERSION);
}

int http_set_connection(const Http *h, CURL *easy, const char *url, unsigned connect_sec,
                        char **ret_host, char **reterr)
{
        _cleanup_free_ char *host = NULL;
        bool direct;
        int r = check_url(url, false, &host, &direct, reterr);

        if (r < 0)
                return r;
        r = set_connection(h, easy, url, direct, connect_sec);
        if (r < 0)
                return fail_option(reterr, r);
        *ret_host = TAKE_PTR(host);
        return 0;
}

static int set_url(HttpTransfer *t, const HttpRequest *request, bool direct)
{
        int r = set_connection(t->http, t->easy, request->url, direct, request->connect_sec);
        bool bad = r < 0 || SET(t, CURLOPT_PATH_AS_IS, 1L) || SET(t, CURLOPT_FOLLOWLOCATION, 0L);

        if (request->local)
                bad = bad || SET(t, CURLOPT_SSL_VERIFYPEER, 0L) ||
                      SET(t, CURLOPT_SSL_VERIFYHOST, 0L);
        return bad ? -EINVAL : 0;
}

static int set_limits(HttpTransfer *t, const HttpRequest *request)
{
        /* Chunks are taken apart here: see http-chunks.h. */
        bool bad = SET(t, CURLOPT_HTTP_TRANSFER_DECODING, 0L) ||
                   SET(t, CURLOPT_TIMEOUT_MS, (long) request->deadline_msec) ||
                   SET(t, CURLOPT_MAXLIFETIME_CONN, LIFETIME_SEC) ||
                   SET(t, CURLOPT_DNS_CACHE_TIMEOUT, request->fresh ? 0L : DNS_CACHE_SEC);

        if (request->stall_sec > 0)
                bad = bad || SET(t, CURLOPT_LOW_SPEED_LIMIT, LOW_SPEED_BYTES) ||
                      SET(t, CURLOPT_LOW_SPEED_TIME, (long) request->stall_sec);
        if (request->fresh)
                bad = bad || SET(t, CURLOPT_FRESH_CONNECT, 1L);
        if (request->range_size >= LARGE_BODY)
                bad = bad || SET(t, CURLOPT_BUFFERSIZE, LARGE_BUFFER_SIZE);
        return bad ? -EINVAL : 0;
}

static int set_method(HttpTransfer *t, const HttpRequest *request)
{
        bool bad;

        if (request->upload)
                bad = SET(t, CURLOPT_UPLOAD, 1L) ||
                      SET(t, CURLOPT_INFILESIZE_LARGE, (curl_off_t) request->upload->size) ||
                      SET(t, CURLOPT_READFUNCTION, on_read) || SET(t, CURLOPT_READDATA, t) ||
                      SET(t, CURLOPT_SEEKFUNCTION, on_seek) || SET(t, CURLOPT_SEEKDATA, t) ||
                      SET(t, CURLOPT_CUSTOMREQUEST, request->method);
        else if (streq(request->method, "HEAD"))
                bad = SET(t, CURLOPT_NOBODY, 1L);
        else
                bad = SET(t, CURLOPT_HTTPGET, 1L) || SET(t, CURLOPT_CUSTOMREQUEST, request->method);
        return bad ? -EINVAL : 0;
}

static int set_callbacks(HttpTransfer *t)
{
        bool bad = SET(t, CURLOPT_HTTPHEADER, t->headers) || SET(t, CURLOPT_HEADERDATA, t) ||
                   SET(t, CURLOPT_HEADERFUNCTION, on_header) || SET(t, CURLOPT_WRITEDATA, t) ||
                   SET(t, CURLOPT_WRITEFUNCTION, on_write) ||
                   SET(t, CURLOPT_ERRORBUFFER, t->curl_err) || SET(t, CURLOPT_PRIVATE, &t->base) ||
                   SET(t, CURLOPT_USERAGENT, "slipway/" SLIPWAY_VERSION);

        return bad ? -EINVAL : 0;
}

static void transfer_finished(HttpEasy *e, CURLcode code);

static int transfer_new(Http *h, const HttpRequest *request, HttpTransfer **ret)
{
        _cleanup_(transfer_freep) HttpTransfer *t = calloc(1, sizeof(HttpTransfer));
        int r;

        if (!t)
                return -ENOMEM;
        *t = (HttpTransfer){
                .base.finished = transfer_finished,
                .http = h,
                .range_offset = request->range_offset,
                .range_size = request->range_size,
                .size_max = request->size_max,
                .stall_sec = request->stall_sec,
                .on_body = request->on_body,
                .on_sent = request->on_sent,
                .done = request->done,
                .userdata = request->userdata,
        };
        if (request->upload)
                t->upload = *request->upload;
        if (request->etag) {
                t->etag = strdup(request->etag);
                if (!t->etag)
                        return -ENOMEM;
        }
        r = add_headers(t, request);
        if (r < 0)
                return r;
        t->easy = h->spare ? TAKE_PTR(h->spare) : curl_easy_init();
        if (!t->easy)
                return -ENOMEM;
        *ret = TAKE_PTR(t);
        return 0;
}

static void stop_running(Http *h, HttpEasy *e)
{
        if (e->running)
                h->n_running--;
        e->running = false;
}

int http_add_easy(Http *h, HttpEasy *e, CURL *easy)
{
        if (curl_multi_add_handle(h->multi, easy) != CURLM_OK)
                return -ENOMEM;
        h->just_started = e->running = true;
        h->n_running++;
        return 0;
}

void http_remove_easy(Http *h, HttpEasy *e, CURL *easy)
{
        stop_running(h, e);
        (void) curl_multi_remove_handle(h->multi, easy);
}

static int begin(HttpTransfer *t)
{
        int r = http_add_easy(t->http, &t->base, t->easy);

        if (r >= 0)
                t->waits = false;
        return r;
}

int http_start(Http *h, const HttpRequest *request, HttpTransfer **ret, char **reterr)
{
        _cleanup_(transfer_freep) HttpTransfer *t = NULL;
        bool direct;
        int r = transfer_new(h, request, &t);

        if (r < 0)
                return r;
        r = check_url(request->url, request->nearby, &t->host, &direct, reterr);
        if (r < 0)
                return r;
        if (request->local && !host_is_local(t->host))
                return fail(reterr, -EINVAL, "'%s' is not an URL of this host", request->url);
        r = set_url(t, request, direct);
        if (r >= 0)
                r = set_limits(t, request);
        if (r >= 0)
                r = set_method(t, request);
        if (r >= 0)
                r = set_callbacks(t);
        if (r < 0)
                return fail_option(reterr, r);
        if (request->delay_msec > 0) {
                t->waits = true;
                t->due_usec = clock_usec(CLOCK_MONOTONIC) + (uint64_t) request->delay_msec * 1000;
        } else if (begin(t) < 0)
                return -ENOMEM;
        LIST_INSERT_HEAD(&h->transfers, t, entry);
        if (ret)
                *ret = t;
        t = NULL;
        return 0;
}

/* "Failed to connect to host port 443 after 3 ms: ...": the same failure should have the same words
 * each time, so that it is told once. */
static void drop_duration(char *text)
{
        static const char *const units[] = { " milliseconds", " ms" };
        char *from = strstr(text, " after "), *end;

        if (!from)
                return;
        end = from + STRLEN(" after ");
        end += strspn(end, "0123456789");
        for (size_t i = 0; i < ELEMENTSOF(units); i++)
                if (strncmp(end, units[i], strlen(units[i])) == 0) {
                        end += strlen(units[i]);
                        memmove(from, end, strlen(end) + 1);
                        return;
                }
}

int http_judge(CURLcode code, const char *host, char *text, char **reterr)
{
        drop_duration(text);
        switch (code) {
        case CURLE_OK:
                return 0;
        case CURLE_OPERATION_TIMEDOUT:
                return fail(reterr, -ETIMEDOUT, "%s does not answer in time: %s", host, text);
        case CURLE_OUT_OF_MEMORY:
                return -ENOMEM;
        case CURLE_PEER_FAILED_VERIFICATION:
                return fail(reterr, -EKEYREJECTED,
                            "the certificate of %s is not trusted: %s (if it should be, set "
                            "AWS_CA_BUNDLE to a file with its authority)",
                            host, text);
        case CURLE_SSL_CACERT_BADFILE:
                return fail(reterr, -EINVAL, "the bundle of authorities can't be used: %s", text);
        default:
                return fail(reterr, -EHOSTDOWN, "no answer from %s: %s", host,
                            *text ? text : curl_easy_strerror(code));
        }
}

/* What libcurl's result means to a caller. */
static int judge(HttpTransfer *t, CURLcode code)
{
        int r = t->error < 0 ? t->error : http_judge(code, t->host, t->curl_err, &t->err);

        t->response.unresolved = code == CURLE_COULDNT_RESOLVE_HOST;
        if (r < 0)
                return r;
        if (!t->response.has_headers)
                return fail_malformed(t);
        if (is_success(t) && t->n_received < t->range_size)
                return fail(&t->err, -EPROTO, "%s sent only %" PRIu64 " of %" PRIu64 " bytes",
                            t->host, t->n_received, t->range_size);
        return 0;
}

static void tell_done(HttpTransfer *t, int result)
{
        LIST_REMOVE(t, entry);
        t->done(result, &t->response, result < 0 ? err_text(result, t->err) : NULL, t->userdata);
        transfer_free(t);
}

static void transfer_finished(HttpEasy *e, CURLcode code)
{
        HttpTransfer *t = (HttpTransfer *) e;

        http_remove_easy(t->http, &t->base, t->easy);
        tell_done(t, judge(t, code));
}

static void finish(Http *h, CURL *easy, CURLcode code)
{
        HttpEasy *e = NULL;

        (void) curl_easy_getinfo(easy, CURLINFO_PRIVATE, (char **) &e);
        stop_running(h, e);
        e->finished(e, code);
}

/* Some servers send head and body apart, and by Nagle's algorithm the body only when the head is
 * acknowledged, which a receiver may put off: for 40 ms on Linux (RFC 9293, 3.7.4 and 3.8.6.3;
 * tcp(7), TCP_QUICKACK). libcurl does not tell whose socket is which during a transfer. One that
 * needs none may be acknowledged, too. */
static void acknowledge_heads(Http *h)
{
        const int one = 1;
        fd_set in, out, err;
        int max = -1;

        FD_ZERO(&in);
        FD_ZERO(&out);
        FD_ZERO(&err);
        (void) curl_multi_fdset(h->multi, &in, &out, &err, &max);
        for (int fd = 0; fd <= max; fd++)
                if (FD_ISSET(fd, &in))
                        (void) setsockopt(fd, IPPROTO_TCP, TCP_QUICKACK, &one, sizeof(one));
        h->has_head = false;
}

static int perform(Http *h)
{
        int n;

        if (h->n_running == 0)
                return 0;
        if (curl_multi_perform(h->multi, &n) != CURLM_OK)
                return -EIO;
        for (;;) {
                CURLMsg *message = curl_multi_info_read(h->multi, &n);
                if (!message)
                        break;
                if (message->msg == CURLMSG_DONE)
                        finish(h, message->easy_handle, message->data.result);
        }
        if (h->has_head)
                acknowledge_heads(h);
        return 0;
}

/* The wait until the first of those that wait, at most `timeout_usec`. */
static uint64_t until_due(Http *h, uint64_t timeout_usec)
{
        uint64_t now = 0;
        HttpTransfer *t;

        LIST_FOREACH(t, &h->transfers, entry)
        if (t->waits) {
                now = now > 0 ? now : clock_usec(CLOCK_MONOTONIC);
                timeout_usec = MIN(timeout_usec, t->due_usec > now ? t->due_usec - now : 0);
        }
        return timeout_usec;
}

/* Ending one calls back, which may change the list. */
static void begin_due(Http *h)
{
        HttpTransfer *t;

again:
        LIST_FOREACH(t, &h->transfers, entry)
        if (t->waits && t->due_usec <= clock_usec(CLOCK_MONOTONIC) && begin(t) < 0) {
                tell_done(t, -ENOMEM);
                goto again;
        }
}

/* What one step waits for; the first is extra_fd, if there is one. */
struct HttpWaits {
        struct curl_waitfd fds[1 + GUEST_FDS_MAX];
        unsigned n;
        uint64_t timeout_usec;
        bool looked; /* it is known which of them are over */
};

static bool is_idle(const Http *h)
{
        const HttpTransfer *t;

        LIST_FOREACH(t, &h->transfers, entry)
        if (!t->waits)
                return false;
        return true;
}

void http_wait_at_most(HttpWaits *w, uint64_t usec)
{
        w->timeout_usec = MIN(w->timeout_usec, usec);
}

/* With too many for us, there is another look soon. */
int http_wait_for_fd(HttpWaits *w, int fd, short events)
{
        if (w->n == ELEMENTSOF(w->fds)) {
                http_wait_at_most(w, GUEST_LOOK_USEC);
                return -1;
        }
        w->fds[w->n] = (struct curl_waitfd){ .fd = fd, .events = events };
        return (int) w->n++;
}

bool http_wait_is_over(const HttpWaits *w, int number)
{
        return !w->looked || number < 0 || w->fds[number].revents != 0;
}

/* libcurl tells the sockets of another handle only by select()'s sets (until 8.8); without any, as
 * while it looks up a name, there is another look soon. */
void http_wait_for_all(HttpWaits *w, Http *h)
{
        fd_set in, out, err;
        int max = -1, n = 0;
        long msec = -1;

        FD_ZERO(&in);
        FD_ZERO(&out);
        FD_ZERO(&err);
        (void) curl_multi_fdset(h->multi, &in, &out, &err, &max);
        for (int fd = 0; fd <= max; fd++) {
                int events = (FD_ISSET(fd, &in) ? CURL_WAIT_POLLIN : 0) |
                             (FD_ISSET(fd, &out) ? CURL_WAIT_POLLOUT : 0);
                n += events != 0;
                if (events)
                        http_wait_for_fd(w, fd, (short) events);
        }
        if (n == 0)
                http_wait_at_most(w, GUEST_LOOK_USEC);
        (void) curl_multi_timeout(h->multi, &msec);
        if (msec >= 0)
                http_wait_at_most(w, (uint64_t) msec * 1000);
}

static void wait_for_watches(HttpWaits *w, Http *h)
{
        HttpWatch *watch;

        LIST_FOREACH(watch, &h->watches, entry)
        watch->wait(watch, w);
}

/* NOLINTNEXTLINE(misc-no-recursion): as deep as guests of guests */
static void wait_for_guests(HttpWaits *w, Http *h)
{
        Http *guest;

        wait_for_watches(w, h);
        LIST_FOREACH(guest, &h->guests, guest_entry)
        {
                w->timeout_usec = guest->just_started ? 0 : until_due(guest, w->timeout_usec);
                guest->just_started = false;
                if (!is_idle(guest))
                        http_wait_for_all(w, guest);
                wait_for_guests(w, guest);
        }
}

void http_add_watch(Http *h, HttpWatch *w)
{
        w->round = h->round;
        LIST_INSERT_HEAD(&h->watches, w, entry);
}

void http_remove_watch(HttpWatch *w)
{
        LIST_REMOVE(w, entry);
}

/* Acting calls back, which may change the list. */
static void act_on_watches(Http *h, const HttpWaits *waits)
{
        HttpWatch *w;

        h->round++;
again:
        LIST_FOREACH(w, &h->watches, entry)
        if (w->round != h->round) {
                w->round = h->round;
                w->act(w, waits);
                goto again;
        }
}

/* Callbacks may attach further guests, but free none. */
/* NOLINTNEXTLINE(misc-no-recursion): as deep as guests of guests */
static int perform_all(Http *h, const HttpWaits *waits)
{
        Http *guest;
        int r;

        begin_due(h);
        r = perform(h);
        act_on_watches(h, waits);
        LIST_FOREACH(guest, &h->guests, guest_entry)
        if (r >= 0)
                r = perform_all(guest, waits);
        return r;
}

/* libcurl says of errors alone that they are, not on which socket. */
static int n_over(const HttpWaits *w)
{
        int n = 0;

        for (unsigned i = 0; i < w->n; i++)
                n += w->fds[i].revents != 0;
        return n;
}

_Static_assert(CURL_WAIT_POLLIN == POLLIN && CURL_WAIT_POLLOUT == POLLOUT, "not as in poll(2)");

/* *ret_n: on how many sockets something happened. Without work for libcurl, poll() does the same
 * with less. */
static int wait_for_sockets(Http *h, HttpWaits *w, int timeout_msec, int *ret_n)
{
        struct pollfd fds[ELEMENTSOF(w->fds)];

        if (h->n_running > 0)
                return curl_multi_poll(h->multi, w->fds, w->n, timeout_msec, ret_n) == CURLM_OK
                               ? 0
                               : -EIO;
        for (unsigned i = 0; i < w->n; i++)
                fds[i] = (struct pollfd){ .fd = w->fds[i].fd, .events = w->fds[i].events };
        *ret_n = poll(fds, w->n, timeout_msec);
        for (unsigned i = 0; i<w->n && * ret_n> 0; i++)
                w->fds[i].revents = fds[i].revents;
        return *ret_n < 0 && errno != EINTR ? -errno : 0;
}

int http_step(Http *h, int extra_fd, uint64_t timeout_usec)
{
        HttpWaits w = { .timeout_usec = until_due(h, timeout_usec) };
        int n, r = 0;

        if (extra_fd >= 0)
                w.fds[w.n++] = (struct curl_waitfd){ .fd = extra_fd, .events = CURL_WAIT_POLLIN };
        wait_for_guests(&w, h);
        int timeout_msec =
                (int) MIN(w.timeout_usec / 1000 + (w.timeout_usec % 1000 > 0), (uint64_t) INT_MAX);
        /* A transfer that was just started has something to do: no need to ask the kernel. */
        if (h->just_started)
                h->just_started = false;
        else {
                r = wait_for_sockets(h, &w, timeout_msec, &n);
                w.looked = r >= 0 && n <= n_over(&w);
        }
        if (r >= 0)
                r = perform_all(h, &w);
        return r < 0 ? r : extra_fd >= 0 && w.fds[0].revents != 0;
}
