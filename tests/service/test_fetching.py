"""Addresses that are fetched, and those that are not."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from interplay.service.faults import Unusable
from interplay.service.fetching import Fetcher, is_public
from interplay.service.settings import ServiceSettings

PRIVATE = (
    "127.0.0.1",
    "127.9.9.9",
    "0.0.0.0",
    "10.1.2.3",
    "172.16.0.1",
    "192.168.1.1",
    "169.254.169.254",
    "100.64.0.1",
    "224.0.0.1",
    "255.255.255.255",
    "::1",
    "::",
    "fe80::1",
    "fe80::1%eth0",
    "fc00::1",
    "ff02::1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "64:ff9b::7f00:1",
    "2002:7f00:1::",
    "2001:0:4136:e378:8000:63bf:80ff:fffe",
    "no address",
)


@pytest.mark.parametrize("address", PRIVATE)
def test_private_addresses_are_not_public(address: str) -> None:
    assert not is_public(address)
    assert is_public("93.184.215.14")
    assert is_public("2606:4700::1111")


class Handler(BaseHTTPRequestHandler):
    """What a host of pictures may answer."""

    def do_GET(self) -> None:
        where = {
            "/away": "http://evil.example/x.png",
            "/inside": "http://127.0.0.1/x.png",
            "/loop": "/loop",
            "/file": "file:///etc/passwd",
            "/near": "/cat.png",
        }
        if self.path in where:
            self.send_response(302)
            self.send_header("Location", where[self.path])
            self.end_headers()
            return
        self.send_response(404 if self.path == "/gone" else 200)
        self.end_headers()
        self.wfile.write(b"x" * (5000 if self.path == "/large" else 10))
        if self.path == "/slow":
            for _ in range(100):
                self.wfile.write(b"x")
                self.wfile.flush()
                threading.Event().wait(0.05)

    def log_message(self, *words: Any) -> None:
        """Nothing."""

    def handle(self) -> None:
        try:
            super().handle()
        except ConnectionError:  # who asked has gone
            return


@pytest.fixture(scope="module")
def host() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"localhost:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


def fetcher(*hosts: str, public: bool = True) -> Fetcher:
    settings = ServiceSettings(fetch_hosts=hosts, fetch_bytes=1000, fetch_seconds=1.0)
    return Fetcher(settings, (lambda address: True) if public else is_public)


def test_a_listed_host_is_asked_and_may_redirect_to_itself(host: str) -> None:
    fetch = fetcher(host)
    assert fetch(f"http://{host}/cat.png?size=1", "image") == b"x" * 10
    assert fetch(f"http://{host}/near", "image") == b"x" * 10


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/away", "not fetched from 'evil.example'"),
        ("/inside", "not fetched from '127.0.0.1'"),
        ("/file", "only http and https"),
        ("/loop", "redirected more than"),
        ("/large", "larger than 1,000 bytes"),
        ("/slow", "could not be fetched"),
        ("/gone", "HTTP 404"),
    ],
)
def test_what_a_listed_host_cannot_make_the_service_do(host: str, path: str, words: str) -> None:
    with pytest.raises(Unusable, match=words):
        fetcher(host)(f"http://{host}{path}", "image")


@pytest.mark.parametrize(
    "address",
    [
        "http://other.example/cat.png",
        "http://{host}@other.example/",
        "http://other.example#{host}",
        "http://user:secret@{host}/",
        "http://other.example\\@{host}/",
        "http://{host}.other.example/",
        "//{host}/cat.png",
        "http://2130706433/",
        "http://0x7f000001/",
        "http://017700000001/",
        "http://127.1/",
        "http://[::ffff:127.0.0.1]/",
        "http://[::1]/",
        "http://localhost/",
        "http://localhost:1/",
        "https://{host}:99999/",
        "http://[/",
        "http://{host}/a b",
        "http://{host}/\r\nHost: evil",
        "http://ⓛocalhost/",
        "file://{host}/etc/passwd",
    ],
)
def test_no_other_host_is_asked(host: str, address: str) -> None:
    with pytest.raises(Unusable):
        fetcher(host)(address.replace("{host}", host), "image")


def test_a_listed_name_with_a_private_address_is_not_asked(host: str) -> None:
    with pytest.raises(Unusable, match="not on the open internet"):
        fetcher(host, public=False)(f"http://{host}/cat.png", "image")


def test_all_addresses_of_a_name_must_be_public_and_the_one_that_was_looked_at_is_asked(
    monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    port = int(host.partition(":")[2])
    kind = socket.AF_INET, socket.SOCK_STREAM, 6, ""
    answers = [
        [(*kind, ("93.184.215.14", port)), (*kind, ("127.0.0.1", port))],
        [(*kind, ("127.0.0.1", port))],
    ]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: answers[0])
    with pytest.raises(Unusable, match="not on the open internet"):
        fetcher(host, public=False)(f"http://{host}/cat.png", "image")
    asked = []
    monkeypatch.setattr(socket, "create_connection", lambda address, timeout: asked.append(address))
    with pytest.raises(Unusable):
        Fetcher(ServiceSettings(fetch_hosts=(host,)), lambda address: True)(f"http://{host}/cat.png", "image")
    assert asked == [("93.184.215.14", port)]  # an address, not the name again


def test_fetching_is_off_until_hosts_are_listed(host: str) -> None:
    with pytest.raises(Unusable, match="not fetched here"):
        Fetcher(ServiceSettings(), lambda address: True)(f"http://{host}/cat.png", "image")
