/* SPDX-License-Identifier: Apache-2.0 */
#include <stddef.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "macro.h"
#include "message.h"

/* A child for test-child: plays the part that its argument names. */

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

static int say_environment(char *environment[])
{
        for (; *environment; environment++)
                if (say(*environment) < 0)
                        return EXIT_FAILURE;
        return EXIT_SUCCESS;
}

int main(int argc, char *argv[], char *environment[])
{
        const char *part = argc > 1 ? argv[1] : "";
        int r = EXIT_SUCCESS;

        if (streq(part, "environment"))
                return say_environment(environment);
        if (streq(part, "break"))
                r = say("good") < 0 || send(MESSAGE_FD, "bad", 3, 0) < 0 ||
                    send(MESSAGE_FD, "bad", 3, 0) < 0 || say("late") < 0;
        if (streq(part, "much"))
                return say_much();
        if (streq(part, "break-and-stay")) {
                r = send(MESSAGE_FD, "bad", 3, 0) < 0;
                (void) pause();
        }
        if (streq(part, "stay")) {
                r = say("here") < 0;
                (void) pause();
        }
        return r;
}
