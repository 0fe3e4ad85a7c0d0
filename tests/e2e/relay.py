"""TCP between a client and a server, as a test wants it: counted, cut off for a while, or through a proxy that is asked with
CONNECT. What is carried is not looked into, so TLS stays between the two ends."""

import contextlib
import socket
import threading

CHUNK_BYTES = 64 << 10
ACCEPT_POLL_SEC = 0.05
HEAD_MAX_BYTES = 16 << 10
OPEN_TIMEOUT_SEC = 10


class Relay:
    """Carries connections to `upstream`, an (address, port). Start it with `with`. n_up and n_down are the bytes so far from and
    to the clients; refuse() makes new connections fail at once and ends those that are, accept() takes them again."""

    def __init__(self, address, upstream):
        self.upstream = upstream
        self.n_up = self.n_down = self.n_connections = 0
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._threads = []
        self._sockets = set()
        self._address = (address, 0)
        self.accept()

    @property
    def address(self):
        return self._address

    def accept(self):
        listener = socket.create_server(self._address, backlog=128)
        listener.settimeout(ACCEPT_POLL_SEC)
        self._address = listener.getsockname()
        self._refusing = threading.Event()
        self._server = self._start(self._serve, listener, self._refusing)

    def refuse(self):
        self._refusing.set()
        self._server.join()
        self._end_connections()

    def _start(self, function, *args):
        thread = threading.Thread(target=function, args=args, name=f"{type(self).__name__} {function.__name__}")
        with self._lock:
            self._threads.append(thread)
        thread.start()
        return thread

    def _serve(self, listener, refusing):
        with listener:
            while not (refusing.is_set() or self._closing.is_set()):
                try:
                    client, _ = listener.accept()
                except TimeoutError:
                    continue
                client.settimeout(OPEN_TIMEOUT_SEC)
                self._start(self._connection, client)

    def _end_connections(self):
        with self._lock:
            for end in self._sockets:
                with contextlib.suppress(OSError):  # gone already
                    end.shutdown(socket.SHUT_RDWR)

    def _open(self, client):
        """Says where the client is to be led: its socket and the server's."""
        return client, socket.create_connection(self.upstream)

    def _connection(self, client):
        # a broken TLS handshake is an OSError as well
        with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
            stack.callback(client.close)
            self.n_connections += 1
            client, server = self._open(client)
            stack.callback(client.close)
            stack.callback(server.close)
            client.settimeout(None)
            with self._lock:
                self._sockets |= {client, server}
            stack.callback(self._forget, client, server)
            if self._closing.is_set() or self._refusing.is_set():
                return
            back = threading.Thread(target=self._carry, args=(server, client, "n_down"))
            back.start()
            self._carry(client, server, "n_up")
            back.join()

    def _forget(self, *ends):
        with self._lock:
            self._sockets -= set(ends)

    def _carry(self, source, target, counter):
        with contextlib.suppress(OSError):
            while data := source.recv(CHUNK_BYTES):
                with self._lock:
                    setattr(self, counter, getattr(self, counter) + len(data))
                target.sendall(data)
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._closing.set()
        self._end_connections()
        with self._lock:
            threads = list(self._threads)
        for thread in threads:
            thread.join()


class ConnectProxy(Relay):
    """An HTTP proxy for CONNECT alone, which leads every host to the one upstream and notes it in `targets`. With
    `authorization` it wants that value of Proxy-Authorization, with `tls` (an ssl.SSLContext) it is asked by TLS itself."""

    def __init__(self, address, upstream, *, authorization=None, tls=None):
        self.targets = []
        self.authorization = authorization
        self._tls = tls
        super().__init__(address, upstream)

    @property
    def url(self):
        address, port = self.address
        return f"{'https' if self._tls else 'http'}://{address}:{port}"

    def _read_head(self, client):
        head = b""
        while b"\r\n\r\n" not in head:
            data = client.recv(1)
            if not data or len(head) > HEAD_MAX_BYTES:
                raise ConnectionError("no request came")
            head += data
        return head.decode("latin-1").split("\r\n")

    def _open(self, client):
        if self._tls is not None:
            client = self._tls.wrap_socket(client, server_side=True)
        line, *headers = self._read_head(client)
        method, target, _ = line.split(" ")
        if self.authorization is not None and f"Proxy-Authorization: {self.authorization}" not in headers:
            client.sendall(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
            raise ConnectionError("the client may not use the proxy")
        if method != "CONNECT":
            client.sendall(b"HTTP/1.1 405 Method Not Allowed\r\nContent-Length: 0\r\n\r\n")
            raise ConnectionError(f"the client asked by {method}")
        self.targets.append(target)
        server = socket.create_connection(self.upstream)
        client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        return client, server
