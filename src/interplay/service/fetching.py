"""Pictures from addresses: of listed hosts alone, never from a private network, within limits of size and time."""

from __future__ import annotations

import http.client
import ipaddress
import socket
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import SplitResult, urljoin, urlsplit

from interplay.service.faults import Unusable
from interplay.service.settings import ServiceSettings

_REDIRECTS = 3
_PORTS = {"http": 80, "https": 443}
_CHUNK = 65_536


def is_public(address: str) -> bool:
    """Whether an IP address is one of the open internet, also where IPv6 only wraps one of IPv4."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(found, ipaddress.IPv6Address):
        wrapped = found.ipv4_mapped or found.sixtofour or (found.teredo and found.teredo[1])
        if not wrapped and found in ipaddress.ip_network("64:ff9b::/96"):
            wrapped = ipaddress.IPv4Address(int(found) & 0xFFFFFFFF)
        if wrapped and not is_public(str(wrapped)):
            return False
    return found.is_global and not found.is_multicast


@dataclass(frozen=True)
class Fetcher:
    """Fetches pictures by HTTP.

    The name is looked up once, every address that it has must be public, and the connection goes to one that was
    looked at: an answer that changes between the check and the connection changes nothing.

    Attributes:
        settings: hosts and limits.
        public: whether an address may be asked.
    """

    settings: ServiceSettings
    public: Callable[[str], bool] = is_public

    def __call__(self, address: str, where: str) -> bytes:
        """What is behind an address.

        Raises:
            Unusable: fetching is off, the host is not listed or not public, too large, too slow, or no answer.
        """
        if not self.settings.fetch_hosts:
            raise Unusable(f"{where}: addresses are not fetched here; send the picture as a data URI.", where)
        deadline = time.monotonic() + self.settings.fetch_seconds
        try:
            for _ in range(_REDIRECTS + 1):
                found = self._get(self._parts(address, where), deadline, where)
                if isinstance(found, bytes):
                    return found
                address = urljoin(address, found)
        except (OSError, http.client.HTTPException, ValueError) as problem:
            raise Unusable(f"{where} could not be fetched ({type(problem).__name__}).", where) from None
        raise Unusable(f"{where} was redirected more than {_REDIRECTS} times.", where)

    def _parts(self, address: str, where: str) -> SplitResult:
        """An address that may be asked, in parts."""
        if not address.isascii() or not address.isprintable() or " " in address or "\\" in address:
            raise Unusable(f"{where} is no address that is fetched.", where)
        parts = urlsplit(address)
        host = parts.hostname or ""
        listed = {one.lower() for one in self.settings.fetch_hosts}
        if parts.scheme not in _PORTS or parts.username is not None or parts.password is not None:
            raise Unusable(f"{where}: only http and https addresses without a password are fetched.", where)
        usual = parts.port in (None, _PORTS[parts.scheme])
        if not ({host, f"{host}:{parts.port}"} if usual else {f"{host}:{parts.port}"}) & listed:
            raise Unusable(f"{where}: pictures are not fetched from '{host:.80}'.", where)
        return parts

    def _get(self, parts: SplitResult, deadline: float, where: str) -> bytes | str:
        """The body of an answer, or where it redirects to."""
        host, port = parts.hostname or "", parts.port or _PORTS[parts.scheme]
        addresses = [str(one[4][0]) for one in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
        if not addresses or not all(self.public(address) for address in addresses):
            raise Unusable(f"{where}: '{host:.80}' is not on the open internet.", where)
        connection = http.client.HTTPConnection(host, port, timeout=self._left(deadline))
        connection.auto_open = 0  # it never looks the name up by itself
        connection.sock = line = self._socket(parts.scheme, host, addresses[0], port, deadline)
        try:
            path = parts.path or "/"
            headers = {"Accept": "image/*", "Accept-Encoding": "identity", "User-Agent": "interplay"}
            connection.request("GET", f"{path}?{parts.query}" if parts.query else path, headers=headers)
            answer = connection.getresponse()
            if answer.status in (301, 302, 303, 307, 308):
                return answer.getheader("Location") or ""
            if answer.status != 200:
                raise Unusable(f"{where} could not be fetched (HTTP {answer.status}).", where)
            return self._body(answer, line, deadline, where)
        finally:
            connection.close()

    def _socket(self, scheme: str, host: str, address: str, port: int, deadline: float) -> socket.socket:
        plain = socket.create_connection((address, port), timeout=self._left(deadline))
        if scheme == "http":
            return plain
        try:
            return ssl.create_default_context().wrap_socket(plain, server_hostname=host)
        except BaseException:
            plain.close()
            raise

    def _body(
        self, answer: http.client.HTTPResponse, line: socket.socket, deadline: float, where: str
    ) -> bytes:
        most, body = self.settings.fetch_bytes, bytearray()
        with answer:
            while chunk := answer.read1(_CHUNK):
                body += chunk
                if len(body) > most:
                    raise Unusable(f"{where} is larger than {most:,} bytes.", where)
                line.settimeout(self._left(deadline))
        return bytes(body)

    @staticmethod
    def _left(deadline: float) -> float:
        """Seconds until a fetch is given up.

        Raises:
            TimeoutError: none are left.
        """
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("the time of a fetch is over")
        return left
