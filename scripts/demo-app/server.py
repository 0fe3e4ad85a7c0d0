#!/usr/bin/python3
"""The demo's web service: serves public/ of its own release, and tells systemd when it answers."""

import functools
import http.server
import os
import pathlib
import socket

RELEASE = pathlib.Path(__file__).resolve().parent


class Handler(http.server.SimpleHTTPRequestHandler):
    """Static files, and which release they are from."""

    def end_headers(self):
        self.send_header("X-Release", RELEASE.name)
        super().end_headers()


def tell_systemd(text):
    """sd_notify(3)"""
    address = os.environ.get("NOTIFY_SOCKET")
    if address:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
            s.sendto(text.encode(), "\0" + address[1:] if address[0] == "@" else address)


def main():
    handler = functools.partial(Handler, directory=RELEASE / "public")
    with http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), handler) as server:
        tell_systemd("READY=1")
        server.serve_forever()


if __name__ == "__main__":
    main()
