"""A server of many connections, with TLS or without, which all end with it."""

import socket
import socketserver
import threading
import traceback

HANDSHAKE_TIMEOUT_SEC = 10


class Listener(socketserver.ThreadingTCPServer):
    """Listens from the start and serves while in `with`; tls is an ssl.SSLContext. A handler that waits looks at `closing`. What
    goes wrong in a handler is raised at the end, so that no test passes by it."""

    allow_reuse_address = True
    daemon_threads = False
    # closing is told to every connection, so that no thread outlives the server
    block_on_close = True
    request_queue_size = 128

    def __init__(self, address, handler, *, tls=None):
        super().__init__(address, handler)
        self.closing = threading.Event()
        self._tls = tls
        self._errors = []
        self._connections = set()
        self._connections_lock = threading.Lock()
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, name=type(self).__name__)

    @property
    def url(self):
        address, port = self.server_address
        return f"{'https' if self._tls else 'http'}://{address}:{port}"

    def process_request_thread(self, request, client_address):
        with self._connections_lock:
            self._connections.add(request)
        try:
            if self._tls is not None:
                request.settimeout(HANDSHAKE_TIMEOUT_SEC)
                with self._connections_lock:
                    self._connections.discard(request)
                    request = self._tls.wrap_socket(request, server_side=True, do_handshake_on_connect=False)
                    self._connections.add(request)
                request.do_handshake()
                request.settimeout(None)
            super().process_request_thread(request, client_address)
        except OSError:
            # a TLS handshake that the client broke off is the client's affair
            self.shutdown_request(request)
        finally:
            with self._connections_lock:
                self._connections.discard(request)

    def handle_error(self, request, client_address):
        self._errors.append(traceback.format_exc())

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, kind, *_):
        self.closing.set()
        self.shutdown()
        self._thread.join()
        with self._connections_lock:
            for connection in self._connections:
                try:
                    connection.shutdown(socket.SHUT_RDWR)
                except OSError:
                    # gone already
                    pass
        self.server_close()
        if self._errors and kind is None:
            raise AssertionError(f"{type(self).__name__} itself failed:\n" + "\n".join(self._errors))
