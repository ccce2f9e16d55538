"""``make links``: dead and changed addresses are told, against a local server."""

import http.server
import threading
from urllib.parse import urlsplit

import pytest
from test_download import source_at

from course_lib.data import links

CONTENT = b"an archive"


class Handler(http.server.BaseHTTPRequestHandler):
    """/good has the archive; every other path is one way in which an address may answer."""

    def do_HEAD(self):
        self.answer(head=True)

    def do_GET(self):
        self.answer(head=False)

    def answer(self, head):
        kind = self.path.split("/")[1]
        if kind == "missing" or (kind == "no-head" and head):
            return self.send_error(404 if kind == "missing" else 405)
        if kind == "hanging":
            return threading.Event().wait(0.7)
        if kind == "moved":
            self.send_response(302)
            self.send_header("Location", "/good/tiny-set.zip")
            return self.end_headers()

        self.send_response(200)
        if kind != "silent":
            length = len(CONTENT) + (kind == "changed")
            self.send_header("Content-Length", str(length))
        self.end_headers()

    def log_message(self, *args):
        pass


@pytest.fixture(scope="module")
def server():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,)).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize(
    "kind, said",
    [
        ("good", "there"),
        ("moved", "there"),
        ("no-head", "there"),
        ("silent", "there"),
        ("missing", "DEAD (Not Found)"),
        ("changed", "CHANGED (11 bytes)"),
        ("hanging", "DEAD (timed out)"),
    ],
)
def test_each_address_is_asked_and_what_is_wrong_is_told(server, monkeypatch, capsys, kind, said):
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(links, "TIMEOUT", 0.5)
    source = source_at(f"{server}/{kind}/tiny-set.zip", content=CONTENT)

    assert links.main([source]) == (0 if said == "there" else 1)
    assert f"  {said} " in capsys.readouterr().out


def test_one_dead_address_of_two_is_a_failure(server, monkeypatch, capsys):
    monkeypatch.setenv("no_proxy", "*")
    urls = [f"{server}/{kind}/tiny-set.zip" for kind in ("missing", "good")]
    assert links.main([source_at(*urls, content=CONTENT)]) == 1
    said = capsys.readouterr().out
    assert all(url in said for url in urls)


def test_a_host_that_is_gone_is_dead(capsys):
    assert links.main([source_at("http://127.0.0.1:1/tiny-set.zip")]) == 1
    assert "DEAD" in capsys.readouterr().out


def test_every_archive_has_two_addresses_under_one_checksum():
    assert len(links.SOURCES) == 8
    for source in links.SOURCES:
        assert len(set(source.urls)) >= 2, source.name
        assert {urlsplit(url).path.rpartition("/")[2] for url in source.urls} == {source.archive}
        assert len(source.sha256) == 64


@pytest.mark.parametrize("source", links.SOURCES, ids=lambda source: source.folder)
def test_every_archive_has_addresses_at_two_hosts(source):
    """Imagenette's and Imagewoof's lie in one bucket that has two names."""
    hosts = {urlsplit(url).hostname for url in source.urls}
    assert len(hosts) >= 2
