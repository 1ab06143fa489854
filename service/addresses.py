"""Where a webhook may lead: to public addresses by https, and nowhere else.

Names prove nothing, for whoever owns one decides where it leads, and may decide anew between two
looks. So what counts is the address that is about to be connected to; ``service.outbound`` asks
here for exactly that one.
"""

from __future__ import annotations

import ipaddress
import socket
from typing import Final
from urllib.parse import urlsplit

from api_schemas.problems import FieldProblem
from service.errors import InvalidRequest

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

#: All global unicast of IPv6 is in here, and nothing that wraps an IPv4 address except 6to4.
_UNICAST_V6: Final = ipaddress.ip_network("2000::/3")
_SIX_TO_FOUR: Final = ipaddress.ip_network("2002::/16")
_NOT_HTTPS: Final = "Use an https address."
_NOT_PUBLIC: Final = "Use a public address; private and reserved ones are never called."


def plain(text: str) -> Address:
    """The address; one of IPv4 that is written as IPv6 is taken for what it is."""
    address = ipaddress.ip_address(text)
    mapped = getattr(address, "ipv4_mapped", None)
    return address if mapped is None else mapped


def is_public(address: Address) -> bool:
    """Whether anybody on the internet is meant to be reached there."""
    if address.is_multicast or not address.is_global:
        return False
    if isinstance(address, ipaddress.IPv4Address):
        return True
    return address in _UNICAST_V6 and address not in _SIX_TO_FOUR


def may_reach(address: Address, scheme: str, *, allow_private: bool) -> bool:
    """Whether a message may be sent there.

    ``allow_private`` adds private addresses by https, and the loopback by http too; link-local
    ones (a cloud's metadata) and what is no single machine's stay closed.
    """
    if scheme == "https" and is_public(address):
        return True
    if not allow_private:
        return False
    if scheme == "http":
        return address.is_loopback
    unusable = address.is_link_local or address.is_multicast or address.is_unspecified
    return address.is_loopback or (address.is_private and not unusable and not address.is_reserved)


def check_url(url: str, *, allow_private: bool) -> None:
    """Pass unless the address alone shows that nothing may be sent there.

    No name is looked up: that is for the moment of sending. Raises ``InvalidRequest``.
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    if parts.scheme != "https" and not allow_private:
        raise InvalidRequest([FieldProblem(pointer="/url", code="not_https", detail=_NOT_HTTPS)])
    address = _literal(host)
    if address is None and parts.scheme != "https" and host != "localhost":
        raise InvalidRequest([FieldProblem(pointer="/url", code="not_https", detail=_NOT_HTTPS)])
    if address is None:
        return
    if not may_reach(address, parts.scheme, allow_private=allow_private):
        raise InvalidRequest(
            [FieldProblem(pointer="/url", code="address_refused", detail=_NOT_PUBLIC)]
        )


def _literal(host: str) -> Address | None:
    """The address that the host is, in any of the forms that a resolver takes for one."""
    try:
        return plain(host)
    except ValueError:
        pass
    try:
        # 2130706433, 0x7f.1 and 127.1 are 127.0.0.1 to it, as to the resolver.
        return ipaddress.IPv4Address(socket.inet_aton(host))
    except (OSError, UnicodeError):
        return None
