# SPDX-License-Identifier: Apache-2.0
"""Real TCP connections of known kinds, and the books of what was made.

Everything happens in one thread: both ends are sockets of this process, each in its own host, so that a test knows
exactly what each end saw. What the agent must say is added to `Books` by the rules of docs/metrics.md, from what the
sockets reported, never from what the agent reported.
"""
import collections
import errno
import itertools
import socket
import struct
import threading

from netlab import wait_for

FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}
TCP_USER_TIMEOUT = 18
TCP_CLOSE = 7  # include/net/tcp_states.h

OUTCOME_OF_ERRNO = {
    errno.ECONNREFUSED: "refused",
    errno.ETIMEDOUT: "timed_out",
    errno.EHOSTUNREACH: "host_unreachable",
    errno.ENETUNREACH: "net_unreachable",
}


class Books:
    """What must be counted, by (peer, role) and by (peer, role, outcome)."""

    def __init__(self):
        self.outcomes = collections.Counter()
        self.sent = collections.Counter()
        self.received = collections.Counter()
        self.attempts = 0
        self.kinds = collections.Counter()


class Side:
    """One end of a link as the agent will name it when it is the peer."""

    def __init__(self, end, peer=None):
        self.end = end
        self.host = end.host
        self.peer = peer

    def name(self, family):
        return self.peer or self.end.address(family)


def listen(side, family):
    with side.host:
        return socket.create_server((side.end.address(family), 0), family=FAMILIES[family], backlog=1024)


def receive_exactly(sock, length):
    left = length
    while left:
        chunk = sock.recv(min(left, 65536))
        assert chunk, f"ended {left} bytes early"
        left -= len(chunk)


class Pair:
    """One established connection with both of its sockets."""

    def __init__(self, books, client_side, server_side, family, listener):
        self.books = books
        self.to_server = (server_side.name(family), "client")
        self.to_client = (client_side.name(family), "server")
        with client_side.host:
            self.client = socket.create_connection(listener.getsockname()[:2], timeout=10)
        self.server, _ = listener.accept()
        self.server.settimeout(10)
        books.attempts += 1
        books.outcomes[(*self.to_server, "established")] += 1
        books.outcomes[(*self.to_client, "established")] += 1

    def exchange(self, request, response):
        """request bytes one way, then response bytes the other way, both read to the last byte."""
        for sender, receiver, length, out, into in ((self.client, self.server, request, self.to_server, self.to_client),
                                                    (self.server, self.client, response, self.to_client,
                                                     self.to_server)):
            left = length
            while left:
                piece = min(left, 16384)
                sender.sendall(b"n" * piece)
                receive_exactly(receiver, piece)
                left -= piece
            self.books.sent[out] += length
            self.books.received[into] += length

    def close(self):
        """An orderly end, the client first."""
        self.client.close()
        assert self.server.recv(1) == b""
        self.server.close()

    def reset_by_server(self):
        """The server aborts (SO_LINGER 0), the client gets the reset."""
        self.server.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.server.close()
        try:
            self.client.recv(1)
            raise AssertionError("no reset came")
        except ConnectionResetError:
            pass
        self.client.close()
        self.books.outcomes[(*self.to_server, "reset")] += 1

    def reset_by_client(self):
        self.client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.client.close()
        try:
            self.server.recv(1)
            raise AssertionError("no reset came")
        except ConnectionResetError:
            pass
        self.server.close()
        self.books.outcomes[(*self.to_client, "reset")] += 1

    def abandon(self, milliseconds):
        """The client sends into a link that has died and gives up after TCP_USER_TIMEOUT; the server hears nothing.

        Returns the server's socket, still open. The byte was sent, though nobody got it.
        """
        self.client.setsockopt(socket.IPPROTO_TCP, TCP_USER_TIMEOUT, milliseconds)
        self.client.sendall(b"n")
        self.books.sent[self.to_server] += 1
        try:
            self.client.recv(1)
            raise AssertionError("something came back through a dead link")
        except TimeoutError as error:
            assert error.errno == errno.ETIMEDOUT, error
        self.client.close()
        self.books.outcomes[(*self.to_server, "timed_out")] += 1
        return self.server


def fail(books, client_side, server_side, family, port, count, expected, seconds=20):
    """`count` attempts at once, each of which must fail with `expected` (an outcome), as the sockets themselves say.

    Asks for the state and not by poll(2): after an ICMP error that is not final, poll and SO_ERROR over IPv4 say that the
    attempt failed while the kernel still tries.
    """
    pending = []
    for _ in range(count):
        with client_side.host:
            sock = socket.socket(FAMILIES[family], socket.SOCK_STREAM)
            sock.setblocking(False)
            books.attempts += 1
            error = sock.connect_ex((server_side.end.address(family), port))
        if error == errno.EINPROGRESS:
            pending.append(sock)
        else:
            _failed(books, sock, server_side, family, error, expected)

    def all_ended():
        for sock in list(pending):
            if sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == TCP_CLOSE:
                pending.remove(sock)
                _failed(books, sock, server_side, family, sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR), expected)
        return not pending

    wait_for(all_ended, seconds, lambda: f"{len(pending)} attempts ended")


def _failed(books, sock, server_side, family, error, expected):
    outcome = OUTCOME_OF_ERRNO.get(error, "established" if error == 0 else "other")
    assert outcome == expected, f"the kernel said {errno.errorcode.get(error, error)}, the test wanted {expected}"
    books.outcomes[(server_side.name(family), "client", outcome)] += 1
    sock.close()


def give_up(books, client_side, server_side, family, port, count):
    """The application closes the socket while the SYN is unanswered."""
    for _ in range(count):
        with client_side.host:
            sock = socket.socket(FAMILIES[family], socket.SOCK_STREAM)
        sock.setblocking(False)
        books.attempts += 1
        with client_side.host:
            assert sock.connect_ex((server_side.end.address(family), port)) == errno.EINPROGRESS
        sock.close()
        books.outcomes[(server_side.name(family), "client", "other")] += 1


def free_port(side, family):
    """A port of the host that refuses connections."""
    listener = listen(side, family)
    port = listener.getsockname()[1]
    listener.close()
    return port


def drain(sock, length, seconds):
    """Reads `length` bytes from a socket that may be slow."""
    sock.settimeout(seconds)
    receive_exactly(sock, length)


def wait_acknowledged(sock, seconds):
    """Until the peer's kernel has acknowledged all that was sent (SIOCOUTQ)."""
    import fcntl
    import termios

    def outstanding():
        return struct.unpack("i", fcntl.ioctl(sock, termios.TIOCOUTQ, b"\0\0\0\0"))[0] == 0

    wait_for(outstanding, seconds, "everything acknowledged")


class LoopbackTraffic:
    """Background traffic over the loopback of a host, until told to stop: every tenth of a second a request with an
    answer over a new connection to each of `addresses`, one over a connection that stays, and every second an attempt
    that is refused."""

    def __init__(self, host, addresses=("127.0.0.1",)):
        self.host = host
        with host:
            self.listeners = [socket.create_server((address, 0)) for address in addresses]
            self.refusing = socket.socket()
        self.refusing.bind(("127.0.0.1", 0))  # bound, never listening: nobody else gets the port
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self._work, daemon=True)
        self.thread.start()

    def _connect(self, listener):
        with self.host:
            client = socket.create_connection(listener.getsockname())
        return client, listener.accept()[0]

    @staticmethod
    def _talk(client, server):
        client.sendall(b"n" * 1000)
        receive_exactly(server, 1000)
        server.sendall(b"n" * 20000)
        receive_exactly(client, 20000)

    def _work(self):
        kept = self._connect(self.listeners[0])
        for number in itertools.count():
            if self.stopping.wait(0.1):
                break
            self._talk(*kept)
            for listener in self.listeners:
                fresh = self._connect(listener)
                self._talk(*fresh)
                for sock in fresh:
                    sock.close()
            if number % 10 == 0:
                with self.host, socket.socket() as refused:
                    assert refused.connect_ex(self.refusing.getsockname()) == errno.ECONNREFUSED
        for sock in kept:
            sock.close()

    def stop(self):
        self.stopping.set()
        self.thread.join()
        for sock in (*self.listeners, self.refusing):
            sock.close()
