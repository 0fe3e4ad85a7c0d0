/* SPDX-License-Identifier: Apache-2.0 */
#include "fetch-socket.h"

#include <stdio.h>

void fetch_socket_send(FetchSocket *s, const Message *m, int fd)
{
        int r = message_send(s->fd, m, fd);

        if (r < 0 && s->error == 0)
                s->error = r;
}

void fetch_socket_answer(FetchSocket *s, MessageType type, uint64_t id, int result,
                         const char *text)
{
        Message m = { .type = type, .id = id, .result = result };

        if (text)
                (void) stpncpy(m.text, text, MESSAGE_TEXT_MAX);
        fetch_socket_send(s, &m, -1);
}
