"""One POST to somebody else's server, which may be hostile, slow or not theirs at all.

The name is looked up once, every address it has must be allowed, and the connection goes to one
of those very addresses: there is no moment in which the name could be changed after the check.
TLS is checked against the name. No redirect is followed, no proxy is asked, nothing of the
answer's body is read, and all of it has a deadline that a dripping server cannot stretch.
"""

from __future__ import annotations

import functools
import socket
import ssl
import time
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

from api_schemas.webhooks import DeliveryFailure
from registry.deliveries import Result
from service.addresses import may_reach, plain

if TYPE_CHECKING:
    import httpcore

#: For connecting, TLS, sending and the answer's head together; looking up the name comes on top.
DEADLINE_SECONDS: Final = 10.0
CONNECT_SECONDS: Final = 5.0

#: From a host and a port to its addresses, as text.
Resolve = Callable[[str, int], list[str]]


class _Refused(Exception):
    """The name leads to an address that nothing is sent to."""


class _Untrusted(Exception):
    """The server cannot show that it is who the address names."""


class _Unresolved(Exception):
    """The name has no address."""


def look_up(host: str, port: int) -> list[str]:
    """Every address that the system's resolver knows. Raises ``OSError``, ``UnicodeError``."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


class Sender:
    """Sends; shared by threads. ``tls`` makes the context that servers are checked with."""

    def __init__(
        self,
        *,
        allow_private: bool = False,
        resolve: Resolve = look_up,
        tls: Callable[[], ssl.SSLContext] | None = None,
    ) -> None:
        self._allow_private = allow_private
        self._resolve = resolve
        # Made when it is first needed: reading every root certificate takes its time.
        self._tls = functools.cache(tls or _default_tls)

    def post(self, url: str, headers: Mapping[str, str], body: bytes) -> Result:
        """What the server said, or why it said nothing; never raises for what a server does."""
        import httpcore

        scheme = url.partition(":")[0]
        until = time.monotonic() + DEADLINE_SECONDS
        backend = _backend(self._addresses(scheme), until)
        try:
            with httpcore.ConnectionPool(
                ssl_context=self._tls() if scheme == "https" else None, network_backend=backend
            ) as pool:
                limits = dict.fromkeys(("read", "write", "pool"), DEADLINE_SECONDS)
                timeout = limits | {"connect": CONNECT_SECONDS}
                with pool.stream(
                    "POST",
                    url,
                    headers=list(headers.items()),
                    content=body,
                    extensions={"timeout": timeout},
                ) as answer:
                    return Result(status_code=answer.status)
        except _Refused:
            return Result(failure=DeliveryFailure.ADDRESS_REFUSED)
        except _Unresolved:
            return Result(failure=DeliveryFailure.NAME_UNRESOLVED)
        except _Untrusted:
            return Result(failure=DeliveryFailure.TLS_FAILED)
        except (httpcore.TimeoutException, httpcore.NetworkError, httpcore.ProtocolError) as exc:
            return Result(failure=_failure(exc))

    def _addresses(self, scheme: str) -> Resolve:
        def checked(host: str, port: int) -> list[str]:
            try:
                found = [plain(text) for text in self._resolve(host, port)]
            except (OSError, UnicodeError):
                raise _Unresolved from None
            if not found:
                raise _Unresolved
            if not all(may_reach(one, scheme, allow_private=self._allow_private) for one in found):
                raise _Refused
            return [str(address) for address in found]

        return checked


def _default_tls() -> ssl.SSLContext:
    import httpx

    return httpx.create_ssl_context()


def _failure(exc: Exception) -> DeliveryFailure:
    import httpcore

    if isinstance(exc, httpcore.TimeoutException):
        return DeliveryFailure.TIMED_OUT
    if isinstance(exc, httpcore.ConnectError):
        return DeliveryFailure.UNREACHABLE
    return DeliveryFailure.BROKEN_ANSWER


def _backend(addresses: Resolve, until: float) -> httpcore.NetworkBackend:
    """Connects only to what ``addresses`` gives for the name, and only until then."""
    import httpcore

    def left(timeout: float | None, kind: type[Exception]) -> float:
        seconds = until - time.monotonic()
        if seconds <= 0:
            raise kind
        return seconds if timeout is None else min(timeout, seconds)

    class Stream(httpcore.NetworkStream):
        def __init__(self, inner: httpcore.NetworkStream) -> None:
            self._inner = inner

        def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
            return self._inner.read(max_bytes, left(timeout, httpcore.ReadTimeout))

        def write(self, buffer: bytes, timeout: float | None = None) -> None:
            self._inner.write(buffer, left(timeout, httpcore.WriteTimeout))

        def close(self) -> None:
            self._inner.close()

        def start_tls(
            self,
            ssl_context: ssl.SSLContext,
            server_hostname: str | None = None,
            timeout: float | None = None,
        ) -> httpcore.NetworkStream:
            limit = left(timeout, httpcore.ConnectTimeout)
            try:
                return Stream(self._inner.start_tls(ssl_context, server_hostname, limit))
            except httpcore.ConnectError as exc:
                # Told apart here, because the pool forgets the cause.
                if isinstance(exc.__cause__, ssl.SSLError):
                    raise _Untrusted from None
                raise

        def get_extra_info(self, info: str) -> Any:
            return self._inner.get_extra_info(info)

    class Backend(httpcore.NetworkBackend):
        def connect_tcp(
            self,
            host: str,
            port: int,
            timeout: float | None = None,
            local_address: str | None = None,
            socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
        ) -> httpcore.NetworkStream:
            inner = httpcore.SyncBackend()
            failed: Exception = httpcore.ConnectError()
            for address in addresses(host, port):
                limit = left(timeout, httpcore.ConnectTimeout)
                try:
                    # An address, not a name: nothing is looked up again.
                    return Stream(inner.connect_tcp(address, port, limit, None, socket_options))
                except (httpcore.ConnectError, httpcore.ConnectTimeout) as exc:
                    failed = exc
            raise failed

    return Backend()
