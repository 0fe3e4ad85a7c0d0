/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "fd.h"
#include "macro.h"
#include "message.h"

/*
 * A child for tests: plays the part that its argument names, or, when it is started as
 * slipway-fetch, the store. Started as slipway-unpack it has none, and sweeps.
 */

static int say(const char *text)
{
        return message_reply(MESSAGE_FD, MESSAGE_POLLED, 0, 0, text);
}

/* Slipwayd's end is non-blocking, ours is not: give up when the buffer is full. */
static int say_much(void)
{
        Message m = { .type = MESSAGE_POLLED };

        while (send(MESSAGE_FD, &m, offsetof(Message, text), MSG_DONTWAIT) > 0)
                ;
        return 0;
}

static int say_without_end(void)
{
        while (say("more") >= 0)
                ;
        return EXIT_FAILURE;
}

static int say_environment(char *environment[])
{
        for (; *environment; environment++)
                if (say(*environment) < 0)
                        return EXIT_FAILURE;
        return EXIT_SUCCESS;
}

/* Gives every POLL answers to other requests before its own. */
static int chatter(void)
{
        Message m;
        int fd;

        while (message_receive(MESSAGE_FD, &m, &fd) == 1)
                if (message_reply(MESSAGE_FD, MESSAGE_AVAILABLE, m.id, 0, NULL) < 0 ||
                    message_reply(MESSAGE_FD, MESSAGE_GOT, m.id, 0, NULL) < 0 ||
                    message_reply(MESSAGE_FD, MESSAGE_PROBED, m.id, 200, NULL) < 0 ||
                    message_reply(MESSAGE_FD, MESSAGE_POLLED, m.id + 1, 0, NULL) < 0 ||
                    message_reply(MESSAGE_FD, MESSAGE_POLLED, m.id, 0, "polled") < 0)
                        return EXIT_FAILURE;
        return EXIT_SUCCESS;
}

/* Lets a byte of each object trickle in, after an answer that nobody asked for, and then only
 * answers what is asked again. */
static int trickle(void)
{
        Message m, available = { .type = MESSAGE_AVAILABLE, .size = 1 };
        int fd, r = 0;

        while (r >= 0 && message_receive(MESSAGE_FD, &m, &fd) == 1) {
                available.id = m.id;
                if (m.type == MESSAGE_GET || m.type == MESSAGE_GET_AGAIN)
                        r = message_reply(MESSAGE_FD, MESSAGE_GOT_AGAIN, m.id, 0, NULL);
                if (r >= 0 && m.type == MESSAGE_GET)
                        r = message_send(MESSAGE_FD, &available, -1);
        }
        return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}

/* Finds nothing new at every poll, and says how it was asked; a watch is answered at once, which is
 * out of turn, or never. */
static int find_nothing(bool answers_watches)
{
        Message m;
        int fd;

        while (message_receive(MESSAGE_FD, &m, &fd) == 1) {
                const char *how = m.type == MESSAGE_WATCH ? "watch"
                                  : m.size > 0            ? "poll again"
                                                          : "poll";
                if ((m.type == MESSAGE_POLL || (m.type == MESSAGE_WATCH && answers_watches)) &&
                    message_reply(MESSAGE_FD, MESSAGE_POLLED, m.id, POLL_UNCHANGED, how) < 0)
                        return EXIT_FAILURE;
        }
        return EXIT_SUCCESS;
}

/* Orders of somebody far away, and others that nobody asked for; each piece of news about the first
 * is given back as trouble. Ends when nobody listens any more. */
static int give_orders(void)
{
        Message m, order = { .type = MESSAGE_ORDER, .offset = 1 };
        char words[64] = {};
        int fd;

        while (message_receive(MESSAGE_FD, &m, &fd) == 1 && m.type != MESSAGE_CANCEL) {
                order.id = m.id;
                if (m.type == MESSAGE_LISTEN &&
                    (message_reply(MESSAGE_FD, MESSAGE_LISTENING, m.id, 0, NULL) < 0 ||
                     message_send(MESSAGE_FD, &order, -1) < 0 ||
                     message_reply(MESSAGE_FD, MESSAGE_POLLED, m.id, 0, NULL) < 0 ||
                     message_reply(MESSAGE_FD, MESSAGE_ORDER_CANCEL, m.id, 0, NULL) < 0))
                        return EXIT_FAILURE;
                if (m.type == MESSAGE_ORDER_NEWS &&
                    (m.offset != 1 || pread(fd, words, sizeof(words) - 1, 0) < 0 ||
                     message_reply(MESSAGE_FD, MESSAGE_LISTENING, m.id, m.result, words) < 0))
                        return EXIT_FAILURE;
                /* To nobody but a LISTEN. */
                if (m.type == MESSAGE_POLL &&
                    (message_send(MESSAGE_FD, &order, -1) < 0 ||
                     message_reply(MESSAGE_FD, MESSAGE_LISTENING, m.id, 0, NULL) < 0 ||
                     message_reply(MESSAGE_FD, MESSAGE_POLLED, m.id, 0, NULL) < 0))
                        return EXIT_FAILURE;
                if (fd >= 0)
                        (void) close(fd);
        }
        return EXIT_SUCCESS;
}

/* Answers every poll with the last of its arguments. */
static int tell_argument(const char *argument)
{
        Message m;
        int fd;

        while (message_receive(MESSAGE_FD, &m, &fd) == 1)
                if (message_reply(MESSAGE_FD, MESSAGE_POLLED, m.id, POLL_UNCHANGED, argument) < 0)
                        return EXIT_FAILURE;
        return EXIT_SUCCESS;
}

/* Appends what it hears of orders to the file "news": "NUMBER RESULT WORDS", their lines' ends as
 * '|'; and "listen TEXT", "cancel". */
static int note_news(const Message *m, int fd)
{
        _cleanup_free_ char *words = NULL;
        size_t size = 0;
        FILE *f = fopen("news", "a");

        if (!f)
                return -errno;
        if (m->type == MESSAGE_LISTEN)
                fprintf(f, "listen %s\n", m->text);
        else if (m->type == MESSAGE_CANCEL)
                fprintf(f, "cancel\n");
        else if (fd_read_all(fd, 65536, &words, &size) >= 0) {
                for (char *s = words; *s; s++)
                        *s = *s == '\n' ? '|' : *s;
                fprintf(f, "%llu %d %s\n", (unsigned long long) m->offset, m->result, words);
        }
        return fclose(f) == 0 ? 0 : -errno;
}

/* What is asked next of the channel is answered when the script says so. */
static bool holds_back;
static Message held_back;
static int held_back_fd = -EBADF;

static int let_go(void)
{
        int r = message_send(MESSAGE_FD, &held_back, held_back_fd);

        held_back_fd = fd_close(held_back_fd);
        return r;
}

static int hold_back(const Message *answer, int fd)
{
        FILE *f = fopen("news", "a");

        holds_back = false;
        held_back = *answer;
        held_back_fd = fd;
        return f && fputs("held back\n", f) >= 0 && fclose(f) == 0 ? 0 : -EIO;
}

/* The channel's manifest is in the file "manifest", packed; without it there is none. */
static int answer_store(const Message *m)
{
        Message answer = { .type = MESSAGE_POLLED, .id = m->id };
        int fd, r;

        if (m->type == MESSAGE_BRAKE)
                return message_reply(MESSAGE_FD, MESSAGE_BRAKED, m->id, 0, NULL);
        if (m->type != MESSAGE_POLL)
                return 0;
        fd = open("manifest", O_RDONLY | O_CLOEXEC);
        answer.result = fd < 0 ? POLL_ABSENT : 0;
        if (holds_back)
                return hold_back(&answer, fd);
        r = message_send(MESSAGE_FD, &answer, fd);
        fd_close(fd);
        return r;
}

/* What a slipway-fetch that was taken over may send: messages of all kinds to who listens, with any
 * numbers and words, and every other one with a descriptor. */
static int play_havoc(uint64_t listen_id)
{
        static const char *const texts[] = {
                "",
                "-",
                "      ",
                "%s%s%n%n",
                "\x01\xff\xfe",
                "00000000-0000-4000-8000-000000000077 deploy web ../../evil - -",
                "00000000-0000-4000-8000-000000000077 deploy web r9",
                "00000000-0000-4000-8000-000000000077 explode web r9 - -",
                "00000000-0000-4000-8000-000000000077 hold - - 2h \n",
                "$(reboot) poll web - - -",
        };
        static const int32_t results[] = { 0, 1, -1, INT32_MIN, INT32_MAX };
        static const uint64_t numbers[] = { 0, 1, 2, UINT64_MAX, UINT64_C(1) << 63 };
        _cleanup_close_ int fd = open("havoc", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
        int r = fd < 0 ? -errno : 0;

        for (unsigned n = 0; n < 5000 && r >= 0; n++) {
                Message m = { .type = 1 + n % (_MESSAGE_TYPE_MAX - 1),
                              .id = listen_id,
                              .result = results[n % ELEMENTSOF(results)],
                              .offset = numbers[n / 3 % ELEMENTSOF(numbers)],
                              .size = numbers[n / 5 % ELEMENTSOF(numbers)] };
                const bool with_fd =
                        n % 2 && m.type != MESSAGE_RELEASES && m.type != MESSAGE_REMOVE;
                (void) stpncpy(m.text, texts[n / 7 % ELEMENTSOF(texts)], MESSAGE_TEXT_MAX);
                if (n % 11 == 0)
                        memset(m.text, 'x', MESSAGE_TEXT_MAX);
                r = message_send(MESSAGE_FD, &m, with_fd ? fd : -1);
        }
        return r;
}

/* A line of the script: "NUMBER ORDER", "again NUMBER ORDER", "cancel NUMBER", "trouble WORDS",
 * "opening", "works", "hold back", "let go", "havoc" or "die". */
static int play_line(const char *line, uint64_t listen_id)
{
        Message m = { .type = MESSAGE_ORDER, .id = listen_id };
        char *end;

        if (strcmp(line, "die") == 0)
                return -ECANCELED;
        if (strcmp(line, "hold back") == 0)
                return holds_back = true, 0;
        if (strcmp(line, "let go") == 0)
                return let_go();
        if (strcmp(line, "opening") == 0)
                return message_reply(MESSAGE_FD, MESSAGE_LISTENING, listen_id, -EINPROGRESS,
                                     "soon");
        if (strcmp(line, "works") == 0)
                return message_reply(MESSAGE_FD, MESSAGE_LISTENING, listen_id, 0, NULL);
        if (strcmp(line, "havoc") == 0)
                return play_havoc(listen_id);
        if (strncmp(line, "trouble ", 8) == 0)
                return message_reply(MESSAGE_FD, MESSAGE_LISTENING, listen_id, -EACCES, line + 8);
        if (strncmp(line, "again ", 6) == 0) {
                m.size = 1;
                line += 6;
        } else if (strncmp(line, "cancel ", 7) == 0) {
                m.type = MESSAGE_ORDER_CANCEL;
                line += 7;
        }
        m.offset = strtoull(line, &end, 10);
        (void) snprintf(m.text, sizeof(m.text), "%s", *end ? end + 1 : "");
        return message_send(MESSAGE_FD, &m, -1);
}

/* In a directory with a fifo "script", which says what comes from far away. */
static int play_afar(const char *directory)
{
        struct pollfd fds[2] = {
                {.fd = MESSAGE_FD, .events = POLLIN },
                { .events = POLLIN              }
        };
        char line[4096];
        uint64_t listen_id = 0;
        FILE *script;

        if (chdir(directory) < 0 || !(script = fopen("script", "r+")))
                return EXIT_FAILURE;
        setvbuf(script, NULL, _IONBF, 0);
        fds[1].fd = fileno(script);
        while (poll(fds, 2, -1) > 0) {
                Message m;
                int fd = -EBADF, r = 0;

                if (fds[0].revents) {
                        if (message_receive(MESSAGE_FD, &m, &fd) != 1)
                                return EXIT_SUCCESS;
                        if (m.type == MESSAGE_LISTEN) {
                                Message answer = { .type = MESSAGE_LISTENING,
                                                   .id = m.id,
                                                   .size = 1 };
                                listen_id = m.id;
                                r = message_send(MESSAGE_FD, &answer, -1);
                        }
                        if (r >= 0)
                                r = m.type == MESSAGE_LISTEN || m.type == MESSAGE_ORDER_NEWS ||
                                                    m.type == MESSAGE_CANCEL
                                            ? note_news(&m, fd)
                                            : answer_store(&m);
                        fd_close(fd);
                } else if (listen_id > 0 && fgets(line, sizeof(line), script)) {
                        line[strcspn(line, "\n")] = '\0';
                        r = play_line(line, listen_id);
                }
                if (r < 0)
                        return EXIT_FAILURE;
        }
        return EXIT_FAILURE;
}

/* A store with trust roots, packed, in the files that are named as there. An empty one is refused;
 * what it was asked for is appended to the file "asked". */
static int hand_out_roots(const char *directory)
{
        Message m;
        int fd;

        if (chdir(directory) < 0)
                return EXIT_FAILURE;
        while (message_receive(MESSAGE_FD, &m, &fd) == 1) {
                Message answer = { .type = MESSAGE_POLLED, .id = m.id };
                FILE *f = fopen("asked", "a");
                _cleanup_close_ int file_fd = open(m.text, O_RDONLY | O_CLOEXEC);
                if (m.type != MESSAGE_POLL || m.offset != POLL_ROOT || !f ||
                    fprintf(f, "%s\n", m.text) < 0 || fclose(f) != 0)
                        return EXIT_FAILURE;
                answer.result = file_fd < 0                       ? POLL_ABSENT
                                : lseek(file_fd, 0, SEEK_END) > 0 ? 0
                                                                  : POLL_UNKNOWN;
                if (answer.result == POLL_UNKNOWN)
                        (void) stpcpy(answer.text, "not for you");
                if (message_send(MESSAGE_FD, &answer, answer.result == 0 ? file_fd : -1) < 0)
                        return EXIT_FAILURE;
        }
        return EXIT_SUCCESS;
}

/* Ends when it is started for the first time in this directory, then never reads a message. */
static int fail_then_be_deaf(const char *directory)
{
        if (chdir(directory) < 0 || symlink("x", "started") == 0)
                return EXIT_FAILURE;
        (void) pause();
        return EXIT_SUCCESS;
}

/* Answers probes as the last part of their URL says, a word a probe, the last one from then on:
 * a status, "die" or "hang". */
static int answer_probes(void)
{
        Message m;
        int fd;

        for (size_t n = 0; message_receive(MESSAGE_FD, &m, &fd) == 1;) {
                if (m.type != MESSAGE_PROBE)
                        continue;
                const char *word = strrchr(m.text, '/') + 1;
                for (size_t i = 0; i < n && strchr(word, ','); i++)
                        word = strchr(word, ',') + 1;
                n++;
                if (strncmp(word, "die", 3) == 0)
                        return EXIT_FAILURE;
                if (strncmp(word, "hang", 4) != 0 &&
                    message_reply(MESSAGE_FD, MESSAGE_PROBED, m.id, atoi(word), NULL) < 0)
                        return EXIT_FAILURE;
        }
        return EXIT_SUCCESS;
}

/* Removes nothing: the names of the trees say what to do. */
static int sweep(void)
{
        Message m;
        int fd, r;

        while ((r = message_receive(MESSAGE_FD, &m, &fd)) == 1) {
                if (m.type != MESSAGE_REMOVE || fd < 0 || streq(m.text, "die"))
                        return EXIT_FAILURE;
                if (streq(m.text, "hang"))
                        (void) pause();
                if (message_reply(MESSAGE_FD, MESSAGE_REMOVED, 0,
                                  streq(m.text, "fail") ? -EACCES : 0, "no permission") < 0)
                        return EXIT_FAILURE;
                (void) close(fd);
        }
        return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}

int main(int argc, char *argv[], char *environment[])
{
        if (argc < 2)
                return sweep();
        const char *part = argv[argc > 2 ? 2 : 1];
        int r = EXIT_SUCCESS;

        if (streq(part, "environment"))
                return say_environment(environment);
        if (streq(part, "break"))
                r = say("good") < 0 || send(MESSAGE_FD, "bad", 3, 0) < 0 ||
                    send(MESSAGE_FD, "bad", 3, 0) < 0 || say("late") < 0;
        if (streq(part, "much"))
                return say_much();
        if (streq(part, "without-end"))
                return say_without_end();
        if (streq(part, "chatter"))
                return chatter();
        if (streq(part, "trickle"))
                return trickle();
        if (streq(part, "hasty"))
                return find_nothing(true);
        if (streq(part, "patient"))
                return find_nothing(false);
        if (streq(part, "arguments"))
                return tell_argument(argv[argc - 1]);
        if (streq(part, "orders"))
                return give_orders();
        if (streq(part, "file:///afar"))
                return play_afar(argv[4]);
        if (streq(part, "--probe"))
                return answer_probes();
        if (streq(part, "roots"))
                return hand_out_roots(argv[4]);
        if (streq(part, "fail-then-deaf"))
                return fail_then_be_deaf(argv[4]);
        if (streq(part, "kill"))
                (void) raise(SIGKILL);
        if (streq(part, "break-and-stay")) {
                r = send(MESSAGE_FD, "bad", 3, 0) < 0;
                (void) pause();
        }
        if (streq(part, "close-writing")) {
                r = shutdown(MESSAGE_FD, SHUT_WR) < 0;
                (void) pause();
        }
        if (streq(part, "close-reading")) {
                r = shutdown(MESSAGE_FD, SHUT_RD) < 0 || say("deaf") < 0;
                (void) pause();
        }
        if (streq(part, "stay")) {
                r = say("here") < 0;
                (void) pause();
        }
        return r;
}
