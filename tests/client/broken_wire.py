"""A wire that can break: it stands between the client and a real service."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import httpx

#: What happens to a request before the service sees it; None = nothing, it goes through.
Fault = Callable[[httpx.Request], httpx.Response | None]


class FaultyWire(httpx.BaseTransport):
    """Applies one fault per request, in order; when none are left, everything goes through."""

    def __init__(self, *faults: Fault) -> None:
        self._faults = list(faults)
        self._real = httpx.HTTPTransport()
        self.requests: list[httpx.Request] = []

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        fault = self._faults.pop(0) if self._faults else passes
        answer = fault(request)
        return self._real.handle_request(request) if answer is None else answer

    def answer_lost(self, request: httpx.Request) -> httpx.Response | None:
        """The service gets the request, and its answer never arrives."""
        self._real.handle_request(request).read()
        raise httpx.ReadError("lost", request=request)

    def breaks_after(self, size: int) -> Fault:
        """The answer's body breaks off after that many bytes."""

        def fault(request: httpx.Request) -> httpx.Response:
            answer = self._real.handle_request(request)
            return httpx.Response(
                answer.status_code, headers=answer.headers, stream=Breaking(answer, size)
            )

        return fault

    def close(self) -> None:
        self._real.close()


class Breaking(httpx.SyncByteStream):
    """The first bytes of an answer, then an error."""

    def __init__(self, answer: httpx.Response, size: int) -> None:
        self._answer = answer
        self._size = size

    def __iter__(self) -> Iterator[bytes]:
        left = self._size
        for chunk in self._answer.iter_raw():
            yield chunk[:left]
            left -= len(chunk)
            if left <= 0:
                raise httpx.ReadError("broken")

    def close(self) -> None:
        self._answer.close()


def passes(_request: httpx.Request) -> httpx.Response | None:
    return None


def refused(request: httpx.Request) -> httpx.Response | None:
    raise httpx.ConnectError("refused", request=request)


def unavailable(_request: httpx.Request) -> httpx.Response:
    return httpx.Response(503, text="<html>the proxy has nobody behind it</html>")
