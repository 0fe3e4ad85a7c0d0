/* SPDX-License-Identifier: Apache-2.0 */
#include "mask.h"

#include <ctype.h>
#include <errno.h>

#include "admin-text.h"

#define MASK "***"

/* A private key whose end does not come is over after so many lines. */
#define PEM_LINES_MAX 200

/* journal-tail.h's lines, in a reason. */
#define QUOTED_LINES_BREAK " | "

#define PEM_BEGIN      "-----BEGIN"
#define PEM_END        "-----END"
#define PEM_TITLE_SIZE 48

/* AWS's secret keys have 40 characters; keys and tokens of others have more. */
#define RANDOM_SIZE_MIN 40

#define TOKEN_SIZE_MIN 16

/* -- names */

static bool contains(const char *name, size_t size, const char *part)
{
        size_t n = strlen(part);

        for (size_t i = 0; i + n <= size; i++)
                if (strncasecmp(name + i, part, n) == 0)
                        return true;
        return false;
}

/* A key alone is that of a table, or one that everybody may know. */
static bool ends_with(const char *name, size_t size, const char *end)
{
        size_t n = strlen(end);

        return size >= n && strncasecmp(name + size - n, end, n) == 0 &&
               (size > n || !streq(end, "key"));
}

static bool is_secret_name(const char *name, size_t size)
{
        static const char *const parts[] = { "secret",      "token",      "passw",
                                             "passphrase",  "pwd",        "authoriz",
                                             "credential",  "signature",  "cookie",
                                             "sessionid",   "session_id", "api_key",
                                             "api-key",     "apikey",     "access_key",
                                             "access-key",  "accesskey",  "private_key",
                                             "private-key", "privatekey", "bearer" };
        /* DB_PASS, _auth, RAILS_MASTER_KEY, AccountKey */
        static const char *const ends[] = { "pass", "pw", "auth", "key" };

        /* Which source of them there is, says slipwayd. */
        if (size == STRLEN("credentials") && strncasecmp(name, "credentials", size) == 0)
                return false;
        for (size_t i = 0; i < ELEMENTSOF(parts); i++)
                if (contains(name, size, parts[i]))
                        return true;
        for (size_t i = 0; i < ELEMENTSOF(ends); i++)
                if (ends_with(name, size, ends[i]))
                        return true;
        return false;
}

static bool is_name_char(char c)
{
        return isalnum((unsigned char) c) || c == '_' || c == '-';
}

/* "the metadata service gives no token: it can't be reached": no secret follows. */
static bool is_denied(const char *line, const char *name)
{
        return name - line >= 3 && strncasecmp(name - 3, "no ", 3) == 0 &&
               (name - line == 3 || !is_name_char(name[-4]));
}

static bool is_quote(char c)
{
        return c == '"' || c == '\'';
}

static const char *skip_quotes(const char *p)
{
        while (*p == '\\' || is_quote(*p))
                p++;
        return p;
}

/* At a comma behind a name in quotes, the value is what comes next in quotes: ['--password', 'x'],
 * {"name": "PASSWORD", "value": "x"}. */
static const char *find_next(const char *p)
{
        const char *next = p + 1 + strspn(p + 1, " "), *text = skip_quotes(next);

        if (text == next)
                return NULL;
        if (strncasecmp(text, "value", STRLEN("value")) == 0) {
                p = skip_quotes(text + STRLEN("value"));
                p += strspn(p, " ");
                if (*p == ':' || *p == '=')
                        return p + 1 + strspn(p + 1, " ");
        }
        return next;
}

/* A blank is enough behind these: --password x; Bearer x. */
static bool needs_no_sign(const char *name)
{
        return name[0] == '-' || strncasecmp(name, "bearer ", STRLEN("bearer ")) == 0;
}

/* Behind the name: its value begins there; NULL: none does. */
static const char *find_value(const char *name, const char *p)
{
        const char *behind = skip_quotes(p);

        if (*behind == ',' && behind > p)
                return find_next(behind);
        p = behind + strspn(behind, " ");
        /* ">": XML */
        if (*p == '=' || *p == ':' || *p == '>')
                p++;
        else if (p == behind || !needs_no_sign(name))
                return NULL;
        return p + strspn(p, " ");
}

/* The next quote that no backslash takes away, or the end. */
static const char *find_quote(const char *p, char quote)
{
        for (; *p && *p != quote; p++)
                if (*p == '\\' && p[1])
                        p++;
        return p;
}

/* Whether p is within double quotes. Single ones are apostrophes as well. */
static bool is_quoted(const char *line, const char *p)
{
        const char *quote = find_quote(line, '"');
        bool open = false;

        for (; quote < p; quote = find_quote(quote + 1, '"'))
                open = !open;
        return open;
}

/* The end of the line, or of one of those that slipwayd quotes in one. */
static const char *find_line_end(const char *p)
{
        const char *end = strstr(p, QUOTED_LINES_BREAK);

        return end ? end : p + strlen(p);
}

/* Where what is secret ends: the value is at p, its name at `name`. */
static const char *find_end(const char *line, const char *name, size_t name_size, const char *p)
{
        bool of_its_own = name > line && is_quote(name[-1]) && name[name_size] == name[-1];

        if (!of_its_own && is_quoted(line, name)) {
                const char *quote = find_quote(p, '"'), *end = find_line_end(p);

                /* A quote that closes nothing may open the value. */
                return *p == '"' ? p + strlen(p) : quote < end ? quote : end;
        }
        if (!is_quote(*p))
                return find_line_end(p);
        p = find_quote(p + 1, *p);
        p += *p != '\0';
        /* "ab"cd, as shells take it */
        return p + strcspn(p, " ,;)]}");
}

/* -- forms */

static bool is_base64_char(char c)
{
        return isalnum((unsigned char) c) || c == '+' || c == '/';
}

/* A word of these characters, at p. */
static size_t random_size(const char *p, bool (*is_part)(char c))
{
        size_t n = 0, n_upper = 0, n_lower = 0, n_digits = 0;

        for (; is_part(p[n]); n++) {
                n_upper += isupper((unsigned char) p[n]) != 0;
                n_lower += islower((unsigned char) p[n]) != 0;
                n_digits += isdigit((unsigned char) p[n]) != 0;
        }
        if (n < RANDOM_SIZE_MIN || n_upper < 4 || n_lower < 4 || n_digits < 1)
                return 0;
        return n + strspn(p + n, "=");
}

/* Of AWS, GitHub, GitLab, Slack, Stripe, Vault, Google; a JSON Web Token. */
static size_t token_size(const char *p)
{
        static const char *const prefixes[] = { "AKIA", "ASIA",        "ghp_",   "gho_",  "ghs_",
                                                "ghu_", "github_pat_", "glpat-", "xoxb-", "xoxp-",
                                                "eyJ",  "sk_live_",    "hvs.",   "AIza" };

        for (size_t i = 0; i < ELEMENTSOF(prefixes); i++) {
                size_t n = strlen(prefixes[i]), more = 0;

                if (strncmp(p, prefixes[i], n) != 0)
                        continue;
                while (is_name_char(p[n + more]) || p[n + more] == '.')
                        more++;
                if (more >= TOKEN_SIZE_MIN)
                        return n + more;
        }
        return 0;
}

/* What ends a word. */
#define BLANKS " \n\"'<>\\"

static bool is_word_char(char c)
{
        return c && !strchr(BLANKS, c);
}

static size_t word_size(const char *p)
{
        return strcspn(p, BLANKS);
}

/* user:password@, of a URL or without its beginning, where a word begins. */
static const char *mask_user(const char *line, const char *p, FILE *f)
{
        const char *at, *scheme, *colon;
        size_t size;

        if (p > line && is_word_char(p[-1]))
                return NULL;
        size = word_size(p);
        at = memrchr(p, '@', size);
        scheme = memmem(p, size, "://", 3);
        colon = memchr(p, ':', size);
        if (!at || !colon || (scheme && at < scheme) || colon > at)
                return NULL;
        if (scheme)
                fwrite(p, 1, scheme + 3 - p, f);
        fputs(MASK, f);
        return at;
}

/* What stands behind the question mark of a URL. */
static const char *mask_query(const char *line, const char *p, FILE *f)
{
        const char *word = p;

        if (*p != '?')
                return NULL;
        while (word > line && is_word_char(word[-1]) && word[-1] != '?')
                word--;
        if (!memmem(word, p - word, "://", 3))
                return NULL;
        fputs("?" MASK, f);
        return p + word_size(p);
}

/* -- lines */

void mask_cut(char *text, size_t size)
{
        size_t end = size;

        if (strnlen(text, size + 1) <= size)
                return;
        if (is_word_char(text[size]))
                while (end > 0 && is_word_char(text[end - 1]))
                        end--;
        text[end] = '\0';
}

/* Masks what begins at p, where a word may begin; NULL: it is nothing secret. */
static const char *mask_at(const char *line, const char *p, FILE *f)
{
        bool begins = p == line || !is_name_char(p[-1]);
        size_t n;

        if (!begins)
                return NULL;
        n = token_size(p);
        if (n == 0 && (p == line || !is_base64_char(p[-1])))
                n = random_size(p, is_base64_char);
        if (n == 0)
                n = random_size(p, is_name_char); /* base64url */
        if (n == 0)
                return NULL;
        fputs(MASK, f);
        return p + n;
}

/* A name at p, with its value behind it. */
static const char *mask_named(const char *line, const char *p, FILE *f)
{
        const char *value;
        size_t n = 0;

        if (p > line && is_name_char(p[-1]))
                return NULL;
        while (is_name_char(p[n]))
                n++;
        if (n == 0 || !is_secret_name(p, n) || is_denied(line, p))
                return NULL;
        value = find_value(p, p + n);
        if (!value || !*value)
                return NULL;
        fwrite(p, 1, value - p, f);
        fputs(MASK, f);
        return find_end(line, p, n, value);
}

static void mask_line(const char *line, FILE *f)
{
        const char *p = line;

        while (*p) {
                const char *next = mask_named(line, p, f);

                if (!next)
                        next = mask_user(line, p, f);
                if (!next)
                        next = mask_query(line, p, f);
                if (!next)
                        next = mask_at(line, p, f);
                if (next)
                        p = next;
                else
                        fputc(*p++, f);
        }
}

/* Colours: " [36mpassword [0m=x" is what utf8_clean() makes of "\033[36mpassword\033[0m=x". */
static void drop_colours(char *line)
{
        char *to = line;

        for (const char *from = line; *from;) {
                size_t n = strncmp(from, " [", 2) == 0 ? 2 + strspn(from + 2, "0123456789;") : 0;

                *to++ = *from;
                from += n > 0 && from[n] == 'm' ? n + 1 : 1;
        }
        *to = '\0';
}

static void make_plain(char *line)
{
        mask_cut(line, MASK_LINE_MAX);
        for (char *c = line; *c; c++)
                if (*c == '\t')
                        *c = ' ';
        text_clean(line);
        drop_colours(line);
}

/* Where a private key begins, or ends; NULL: nowhere. */
static char *find_key(char *line, const char *mark)
{
        char *p = line;

        while ((p = strstr(p, mark))) {
                if (memmem(p, strnlen(p, PEM_TITLE_SIZE), "PRIVATE KEY", STRLEN("PRIVATE KEY")))
                        return p;
                p++;
        }
        return NULL;
}

/* Takes private keys out. True: the end of one is not in this line. */
static bool cut_keys(char *line)
{
        char *key;

        while ((key = find_key(line, PEM_BEGIN))) {
                char *end = strstr(key + 1, PEM_END), *rest = NULL;

                if (end)
                        rest = strstr(end + STRLEN(PEM_END), "-----");
                key = stpcpy(key, MASK);
                if (!rest)
                        return !end;
                rest += STRLEN("-----");
                memmove(key, rest, strlen(rest) + 1);
        }
        /* Its beginning was left out where the line was made. */
        key = find_key(line, PEM_END);
        if (key && key >= line + STRLEN(MASK)) {
                memcpy(line, MASK, STRLEN(MASK));
                memmove(line + STRLEN(MASK), key, strlen(key) + 1);
        }
        return false;
}

void mask_text(char *text, FILE *f)
{
        size_t n_pem = 0; /* lines of a private key that are still to be left out */

        for (char *line = text, *next; line && *line; line = next) {
                next = strchr(line, '\n');
                if (next)
                        *next++ = '\0';
                if (n_pem > 0) {
                        n_pem = strstr(line, PEM_END) ? 0 : n_pem - 1;
                        continue;
                }
                make_plain(line);
                n_pem = cut_keys(line) ? PEM_LINES_MAX : 0;
                mask_line(line, f);
                fputc('\n', f);
        }
}

/* -- JSON */

static int replace(cJSON *v)
{
        char *mask = strdup(MASK);

        if (!mask)
                return -ENOMEM;
        cJSON_Delete(v->child);
        cJSON_free(v->valuestring);
        v->child = NULL;
        v->valuestring = mask;
        v->type = cJSON_String | (v->type & (cJSON_IsReference | cJSON_StringIsConst));
        return 0;
}

static int replace_from(cJSON *v)
{
        int r = 0;

        for (; r >= 0 && v; v = v->next)
                r = replace(v);
        return r;
}

/* NOLINTNEXTLINE(misc-no-recursion): at most JSON_DEPTH_MAX levels */
int mask_json(cJSON *tree)
{
        int r = 0;

        for (cJSON *v = tree->child; r >= 0 && v; v = v->next) {
                if (v->string && is_secret_name(v->string, strlen(v->string)))
                        r = replace(v);
                else if (streq_ptr(v->string, "variables"))
                        r = replace_from(v->child);
                else if (streq_ptr(v->string, "command") && cJSON_IsArray(v) && v->child)
                        r = replace_from(v->child->next);
                else
                        r = mask_json(v);
        }
        return r;
}

static bool is_known(const char *name, const char *const *known)
{
        for (; *known; known++)
                if (streq(name, *known))
                        return true;
        return false;
}

/* NOLINTNEXTLINE(misc-no-recursion): at most JSON_DEPTH_MAX levels */
int mask_json_unknown(cJSON *tree, const char *const *known, const char *open)
{
        int r = 0;

        for (cJSON *v = tree->child; r >= 0 && v; v = v->next) {
                if (v->string && !is_known(v->string, known))
                        r = replace(v);
                else if (!streq_ptr(v->string, open))
                        r = mask_json_unknown(v, known, open);
        }
        return r;
}
