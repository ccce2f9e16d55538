"""Finding, verifying and fetching a data set, against a local server that fails on purpose."""

import errno
import hashlib
import http.client
import http.server
import io
import re
import shutil
import socket
import ssl
import threading
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from unittest.mock import DEFAULT, Mock
from urllib.error import URLError

import pytest
from filelock import FileLock

from course_lib import files
from course_lib.data import download
from course_lib.data.download import Source
from course_lib.files import DataError

FILES = {"names.txt": b"cat dog"} | {
    f"train/{name}/images/{i}.JPEG": bytes([i]) * 50_000
    for name in ("cat", "dog")
    for i in range(3)
}
HALF = dict(list(FILES.items())[:5])  # as an interrupted extraction leaves it: 4 of 6 pictures
FULL = OSError(errno.ENOSPC, "No space left on device")
WRONG = "wrong size or checksum"


def make_zip(files=FILES, folder="tiny-set") -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            archive.writestr(f"{folder}/{name}", content)
    return buffer.getvalue()


GOOD = make_zip()
# inside a picture: the archive's directory is whole
FLIPPED = GOOD[:100_000] + b"x" + GOOD[100_001:]


def source_at(*urls, content=GOOD) -> Source:
    return Source(
        "Tiny Set",
        "tiny-set",
        urls,
        hashlib.sha256(content).hexdigest(),
        len(content),
        {"train/*/images/*.JPEG": 6},
        ("names.txt", "train/"),
    )


TINY_SET = source_at("http://127.0.0.1:1/tiny-set.zip")


def lay_out(folder, files=FILES):
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def contents(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def lying_in(home):
    return sorted(path.name for path in home.iterdir() if path.suffix != ".lock")


def make_read_only(monkeypatch, *mounts):
    """As a read-only mount does: a new file is refused, whatever the permission bits say."""
    create = Path.touch

    def touch(self, *how):
        if any(self.is_relative_to(mount) for mount in mounts):
            raise OSError(errno.EROFS, "Read-only file system")
        create(self, *how)

    monkeypatch.setattr(Path, "touch", touch)


@pytest.fixture(autouse=True)
def data(tmp_path, monkeypatch):
    """The repository's data folder, in a world where every other root lies in tmp_path too."""
    monkeypatch.delenv("COURSE_DATA", raising=False)
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(files, "REPO", tmp_path / "repo")
    monkeypatch.setattr(files, "KAGGLE_INPUT", tmp_path / "kaggle")
    monkeypatch.setattr(download, "TIMEOUT", 0.5)
    (tmp_path / "repo/data").mkdir(parents=True)
    (tmp_path / "repo/pyproject.toml").touch()
    return tmp_path / "repo/data"


class Handler(http.server.BaseHTTPRequestHandler):
    """/good serves the archive; every other path is one way in which mirrors fail."""

    def do_GET(self):
        self.server.asked.append(self.path)
        kind = self.path.split("/")[1]

        if kind == "hanging":
            return time.sleep(0.7)
        if kind == "missing":
            return self.send_error(404)

        body = {"truncated": GOOD[:-999], "changed": FLIPPED, "dying": GOOD[:999]}.get(kind, GOOD)
        self.send_response(200)
        self.send_header("Content-Length", str(len(GOOD if kind == "dying" else body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


@pytest.fixture
def mirrors():
    """``mirrors("missing", "good")`` is a source with these two mirrors; ``asked`` the requests."""

    def build(*kinds):
        root = f"http://127.0.0.1:{server.server_port}"
        return source_at(*(f"{root}/{kind}/tiny-set.zip" for kind in kinds))

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.asked = build.asked = []
        threading.Thread(target=server.serve_forever, args=(0.01,)).start()
        yield build
        server.shutdown()


def test_course_data_is_searched_before_the_repository(tmp_path, data, monkeypatch):
    near, far = lay_out(data / "tiny-set"), lay_out(tmp_path / "sets/tiny-set")
    assert download.locate(TINY_SET, download=False) == near
    monkeypatch.setenv("COURSE_DATA", str(tmp_path / "sets"))
    assert download.locate(TINY_SET, download=False) == far


@pytest.mark.parametrize(
    ("root", "place"),
    [
        ("sets", ""),
        ("sets", "my pictures"),
        ("sets", "tiny-set/tiny-set"),
        ("copy [1] of them", ""),
        ("kaggle", "slug"),
        ("kaggle", "slug/tiny-set/tiny-set"),
        ("kaggle", "datasets/owner/slug"),
        ("kaggle", "datasets/owner/slug/tiny-set/tiny-set"),
    ],
)
def test_the_set_is_found_by_its_layout(tmp_path, monkeypatch, root, place):
    lay_out(tmp_path / "kaggle/another/train", {"cat/1.JPEG": b""})
    folder = lay_out(tmp_path / root / place)
    if root != "kaggle":
        monkeypatch.setenv("COURSE_DATA", str(tmp_path / root))
    assert download.locate(TINY_SET, download=False) == folder


def test_a_larger_set_with_the_same_folders_is_another_one_and_left_alone(tmp_path, monkeypatch):
    """As ImageNet has those of Imagenette: nobody shall be told to delete it."""
    monkeypatch.setenv("COURSE_DATA", str(tmp_path / "sets"))
    more = {f"train/dog/images/{i}.JPEG": b"" for i in (7, 8)}
    lay_out(tmp_path / "sets/larger", FILES | more)
    assert download.locate(TINY_SET, download=False) is None


def test_a_folder_is_no_file_of_the_same_name(tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_DATA", str(tmp_path / "sets"))
    others = {name: content for name, content in FILES.items() if name != "names.txt"}
    folder = lay_out(tmp_path / "sets/another", others)
    (folder / "names.txt").mkdir()
    assert download.find(TINY_SET) is None


def test_an_unreadable_folder_is_passed_over(tmp_path, monkeypatch):
    folder = lay_out(tmp_path / "kaggle/open/tiny-set")
    (tmp_path / "kaggle/locked").mkdir()
    scandir = download.os.scandir

    def guarded(path):
        if Path(path).name == "locked":
            raise PermissionError(errno.EACCES, "No")
        return scandir(path)

    monkeypatch.setattr(download.os, "scandir", guarded)
    assert download.find(TINY_SET) == folder


@pytest.mark.parametrize("call", [files.search_roots, files.data_home])
def test_a_course_data_that_is_no_folder_is_named_with_a_cure(tmp_path, monkeypatch, call):
    for wrong in (tmp_path / "missing", tmp_path / "repo/pyproject.toml"):
        monkeypatch.setenv("COURSE_DATA", str(wrong))
        with pytest.raises(DataError, match=f"COURSE_DATA.*{wrong.name}.*Create it.*unset it"):
            call()


@pytest.mark.parametrize(
    ("lost", "fault"),
    [
        ("train/dog/images/1", "train/*/images/*.JPEG: 5 of 6"),
        ("names", "names.txt: missing"),
        ("train", "train/*/images/*.JPEG: 0 of 6"),
    ],
)
def test_a_half_extracted_set_is_an_error_with_counts_and_cure(data, lost, fault):
    lay_out(data / "tiny-set", {name: FILES[name] for name in FILES if not name.startswith(lost)})
    for wanted in (True, False):
        with pytest.raises(DataError) as caught:
            download.locate(TINY_SET, wanted)
        for part in (str(data / "tiny-set"), fault, "move this folder elsewhere and run again"):
            assert part in str(caught.value)
        assert "elete" not in str(caught.value), "it may hold work of the learner's"


def test_the_cures_of_a_half_extracted_set_work(tmp_path, data, mirrors):
    lay_out(data / "tiny-set", HALF)
    with pytest.raises(DataError, match="Put back .* or move this folder elsewhere"):
        download.locate(mirrors("good"), download=True)

    (data / "tiny-set").rename(tmp_path / "elsewhere")
    folder = download.locate(mirrors("good"), download=True)
    assert contents(folder) == FILES

    shutil.rmtree(data / "tiny-set")
    lay_out(data / "tiny-set", HALF)
    lay_out(data / "tiny-set")
    assert download.locate(TINY_SET, download=False) == data / "tiny-set"


def test_a_broken_set_on_a_read_only_mount_asks_for_another_copy(tmp_path, monkeypatch):
    lay_out(tmp_path / "kaggle/tiny-set", HALF)
    make_read_only(monkeypatch, tmp_path / "kaggle")
    with pytest.raises(DataError, match="4 of 6(.|\n)*read-only: attach another copy"):
        download.locate(TINY_SET, download=False)


@pytest.mark.parametrize("cure", ["another copy", "COURSE_DATA"])
def test_the_cures_of_a_broken_set_on_a_read_only_mount_work(tmp_path, monkeypatch, cure):
    lay_out(tmp_path / "kaggle/broken/tiny-set", HALF)
    make_read_only(monkeypatch, tmp_path / "kaggle")

    whole = tmp_path / ("kaggle/whole/set" if cure == "another copy" else "mine")
    lay_out(whole)
    if cure == "COURSE_DATA":
        monkeypatch.setenv("COURSE_DATA", str(whole))
    assert download.locate(TINY_SET, download=False) == whole


@pytest.mark.parametrize(
    ("broken", "whole"),
    [
        ("repo/data/tiny-set", "sets/TinySet"),
        ("sets/tiny-set", "sets/TinySet"),
        ("sets/tiny-set", "repo/data/TinySet"),
        ("sets/a copy", "sets/the set"),
        ("sets/__MACOSX/tiny-set", "sets/the set"),
    ],
)
def test_a_broken_copy_hides_no_whole_one(tmp_path, monkeypatch, broken, whole):
    lay_out(tmp_path / broken, HALF)
    lay_out(tmp_path / whole)
    monkeypatch.setenv("COURSE_DATA", str(tmp_path / "sets"))
    (tmp_path / "sets").mkdir(exist_ok=True)
    assert download.locate(TINY_SET, download=False) == tmp_path / whole


def test_of_two_whole_copies_the_one_that_course_data_names_is_read(tmp_path, data, monkeypatch):
    """Its folder may have any name."""
    lay_out(data / "tiny-set")
    mine = lay_out(tmp_path / "sets/TinySet")
    monkeypatch.setenv("COURSE_DATA", str(tmp_path / "sets"))
    assert download.locate(TINY_SET, download=False) == mine


def test_what_a_mac_packs_beside_a_folder_is_no_set(tmp_path, data):
    lay_out(data / "__MACOSX/tiny-set", {f"{name}._": b"" for name in FILES} | HALF)
    assert download.locate(TINY_SET, download=False) is None


@pytest.mark.parametrize("inside", ["train", "val", "train/cat", "train/cat/images"])
def test_a_course_data_inside_a_data_set_is_named_and_nothing_lands_in_it(
    tmp_path, monkeypatch, inside
):
    folder = lay_out(tmp_path / "sets/tiny-set", FILES | {"val/1.JPEG": b""})
    monkeypatch.setenv("COURSE_DATA", str(folder / inside))
    with pytest.raises(DataError, match=f"inside a data set: set it to {folder}, or"):
        download.locate(TINY_SET, download=True)

    monkeypatch.setenv("COURSE_DATA", str(folder))
    assert download.locate(TINY_SET, download=False) == folder


def test_a_folder_called_train_may_hold_data_sets(tmp_path, monkeypatch):
    folder = lay_out(tmp_path / "train/tiny-set")
    monkeypatch.setenv("COURSE_DATA", str(tmp_path / "train"))
    assert download.locate(TINY_SET, download=False) == folder


def test_a_set_that_lies_deeper_than_two_folders_is_not_looked_for(tmp_path, monkeypatch):
    """As data/README.md says."""
    page = (Path(download.__file__).parents[2] / "data" / "README.md").read_text()
    assert "looks two folders deep" in page and download.DEPTH == 2
    assert "looks five deep" in page.replace("\n", " ") and download.KAGGLE_DEPTH == 5

    lay_out(tmp_path / "one/two/three")
    for named, found in (("one", True), ("", False)):
        monkeypatch.setenv("COURSE_DATA", str(tmp_path / named))
        assert (download.find(TINY_SET) is not None) == found


def test_where_was_looked_is_said_in_words(tmp_path, data, monkeypatch):
    assert str(data) in download.looked_in() and "COURSE_DATA" not in download.looked_in()
    monkeypatch.setenv("COURSE_DATA", str(tmp_path))
    assert download.looked_in().startswith(f"{tmp_path} (COURSE_DATA), {data}")
    assert download.looked_in().endswith("2 folders deep below")

    (tmp_path / "kaggle").mkdir()
    assert download.looked_in().endswith(f"2 folders deep below ({tmp_path / 'kaggle'}: 5)")


def test_a_link_to_nothing_in_the_place_of_the_set_is_named_before_anything_is_fetched(
    tmp_path, data, mirrors
):
    (data / "tiny-set").symlink_to(tmp_path / "not connected")
    with pytest.raises(DataError, match="tiny-set is a link to .*not connected.*remove the link"):
        download.locate(mirrors("good"), download=True)
    assert mirrors.asked == []

    (data / "tiny-set").unlink()
    assert download.locate(mirrors("good"), download=True) == data / "tiny-set"


def test_a_read_only_home_gives_way_to_the_next_one(tmp_path, data, monkeypatch):
    mine, spare = tmp_path / "mine", tmp_path / "tmp/course_data"
    mine.mkdir()
    monkeypatch.setenv("COURSE_DATA", str(mine))
    monkeypatch.setattr(files, "SPARE", spare)
    for mounts, home in [((), mine), ((mine,), data), ((mine, data), spare)]:
        with monkeypatch.context() as context:
            make_read_only(context, *mounts)
            assert files.data_home() == home
    assert lying_in(mine) == lying_in(data) == lying_in(spare) == []
    make_read_only(monkeypatch, tmp_path)
    with pytest.raises(DataError, match="Set COURSE_DATA"):
        files.data_home()


@pytest.fixture
def output(tmp_path, monkeypatch):
    """The folder that Kaggle packs when the notebook is saved, with a clone of the course in it."""
    output = lay_out(tmp_path / "working", {"course/pyproject.toml": b""})
    monkeypatch.setattr(files, "KAGGLE_OUTPUT", output)
    monkeypatch.setattr(files, "REPO", output / "course")
    monkeypatch.setattr(files, "SPARE", tmp_path / "tmp/course_data")
    return output


def test_on_kaggle_data_lands_outside_of_the_output_and_runs_stay_in_it(tmp_path, output, mirrors):
    for wanted in (True, False):
        assert download.locate(mirrors("good"), wanted) == tmp_path / "tmp/course_data/tiny-set"
    assert contents(output) == {"course/pyproject.toml": b""}
    assert files.runs_home() == output / "course/data/runs"


def test_on_kaggle_runs_stay_though_the_course_and_its_data_are_attached(
    tmp_path, output, monkeypatch
):
    """Read-only, both of them; and a disk that can be written is gone with the session."""
    attached = lay_out(tmp_path / "kaggle/course", {"pyproject.toml": b""})
    monkeypatch.setattr(files, "REPO", attached)
    make_read_only(monkeypatch, tmp_path / "kaggle")
    assert files.runs_home() == output / "runs"

    mine = tmp_path / "scratch"
    mine.mkdir()
    monkeypatch.setenv("COURSE_DATA", str(mine))
    assert files.data_home() == mine and files.runs_home() == output / "runs"


def test_course_data_decides_on_kaggle_too(tmp_path, output, monkeypatch):
    mine = output / "mine"
    mine.mkdir()
    monkeypatch.setenv("COURSE_DATA", str(mine))
    assert files.data_home() == mine and files.runs_home() == mine / "runs"
    make_read_only(monkeypatch, mine, tmp_path / "tmp")
    assert files.data_home() == output / "course/data", "packed is better than not at all"


def test_elsewhere_runs_lie_beside_the_data(data):
    assert files.runs_home() == data / "runs" == files.data_home() / "runs"


def test_without_the_repository_data_lands_in_the_working_folder(tmp_path, monkeypatch):
    (tmp_path / "repo/pyproject.toml").unlink()
    monkeypatch.chdir(tmp_path)
    assert files.data_home() == tmp_path / "data"


def test_a_good_mirror_gives_the_verified_set_once(data, mirrors):
    for _ in range(2):
        assert download.locate(mirrors("good"), download=True) == data / "tiny-set"
    assert contents(data / "tiny-set") == FILES
    assert lying_in(data) == ["tiny-set", "tiny-set.zip"] and len(mirrors.asked) == 1


@pytest.mark.parametrize(
    ("kind", "cause"),
    [
        ("missing", "404"),
        ("truncated", WRONG),
        ("changed", WRONG),
        ("dying", f"{WRONG}|IncompleteRead"),
        ("hanging", "timed out"),
    ],
)
def test_a_bad_mirror_is_rejected_by_name_and_the_next_serves(data, mirrors, capsys, kind, cause):
    source = mirrors(kind, "good")
    assert contents(download.fetch(source, data)) == FILES
    (said,) = re.findall(r"^mirror rejected: (.*)", capsys.readouterr().out, re.MULTILINE)
    assert said.startswith(source.urls[0]) and re.search(cause, said)


def test_if_all_mirrors_fail_each_is_listed_and_nothing_is_left(data, mirrors):
    source, before = mirrors("missing", "truncated", "dying", "hanging"), socket.getdefaulttimeout()
    with pytest.raises(DataError) as caught:
        download.locate(source, download=True)
    for part in (*source.urls, "HTTPS_PROXY", "SSL", f"by hand to {data / 'tiny-set.zip'}"):
        assert part in str(caught.value)
    assert lying_in(data) == [] and socket.getdefaulttimeout() == before


def test_without_a_network_locate_says_so_with_what_may_help_and_gives_none(data, capsys):
    assert download.locate(TINY_SET, download=True) is None
    said = capsys.readouterr().out
    assert said.count("no network") == 1 and "refused" in said
    assert "HTTPS_PROXY" in said and "Internet" not in said
    assert f"{TINY_SET.urls[0]} by hand to {data / 'tiny-set.zip'}" in said
    assert lying_in(data) == []


def test_on_kaggle_a_missing_network_has_a_switch(data, monkeypatch, capsys):
    monkeypatch.setenv("KAGGLE_KERNEL_RUN_TYPE", "Interactive")
    assert download.locate(TINY_SET, download=True) is None
    said = capsys.readouterr().out
    assert "'Session options', switch 'Internet' on" in said and "PROXY" not in said


def test_a_certificate_that_is_not_believed_is_an_error_and_no_missing_network(data, monkeypatch):
    """Else an hour would go into toy shapes, on a machine that has a network."""
    refused = URLError(ssl.SSLCertVerificationError(1, "certificate verify failed"))
    monkeypatch.setattr(download, "download_url_to_file", Mock(side_effect=refused))
    with pytest.raises(DataError, match="certificate verify failed(.|\n)*SSL_CERT_FILE") as caught:
        download.locate(TINY_SET, download=True)
    assert not isinstance(caught.value, download.Unreachable)


@pytest.mark.parametrize(("content", "requests"), [(GOOD, 0), (GOOD[:-999], 1)])
def test_an_archive_put_there_by_hand_is_used_if_it_is_whole(
    data, mirrors, capsys, content, requests
):
    (data / "tiny-set.zip").write_bytes(content)
    assert contents(download.fetch(mirrors("good"), data)) == FILES
    assert len(mirrors.asked) == requests
    assert ("tiny-set.zip is not the published file" in capsys.readouterr().out) == requests


@pytest.mark.parametrize("place", ["sets", "repo/data", "kaggle/slug", "sets/zips"])
def test_an_archive_put_by_hand_into_any_place_that_is_searched_is_used(
    tmp_path, data, monkeypatch, place
):
    """The first that can be written is where the set lands, which may be another one."""
    (tmp_path / "sets").mkdir()
    (tmp_path / place).mkdir(parents=True, exist_ok=True)
    (tmp_path / place / "tiny-set.zip").write_bytes(GOOD)
    monkeypatch.setenv("COURSE_DATA", str(tmp_path / "sets"))
    make_read_only(monkeypatch, tmp_path / "sets")

    assert download.locate(TINY_SET, download=True) == data / "tiny-set"
    assert contents(data / "tiny-set") == FILES


def refused(*args, **kwargs):
    raise PermissionError(errno.EACCES, "Permission denied", "the file")


REFUSALS = {
    "another user's lock": lambda m, data: m.setattr(files, "FileLock", refused),
    "another user's partial file": lambda m, data: (
        (data / "tiny-set.zip.0123abcd.partial").touch(),
        m.setattr(Path, "unlink", refused),
    ),
    "a folder named like the archive": lambda m, data: (data / "tiny-set.zip").mkdir(),
    "a folder that cannot be written": lambda m, data: m.setattr(Path, "mkdir", refused),
    "a rename": lambda m, data: m.setattr(download, "move_into_place", refused),
    "an archive that cannot be read": lambda m, data: (
        (data / "tiny-set.zip").touch(),
        m.setattr(download.hashlib, "file_digest", refused),
    ),
}


@pytest.mark.parametrize("refusal", REFUSALS)
def test_whatever_the_system_refuses_is_told_in_words_with_the_file(
    data, mirrors, monkeypatch, refusal
):
    with monkeypatch.context() as context:
        REFUSALS[refusal](context, data)
        with pytest.raises(DataError, match="Tiny Set cannot be put into .*COURSE_DATA") as caught:
            download.fetch(mirrors("good"), data)
    named = "tiny-set.zip" if refusal.startswith("a folder named") else "denied: the file"
    assert named in str(caught.value)


def test_what_a_killed_process_left_is_no_set_and_is_removed(data, mirrors):
    lay_out(data / ".tiny-set.zip.extracting/tiny-set", FILES | {"train/cat/images/9.JPEG": b""})
    (data / "tiny-set.zip.0123abcd.partial").write_bytes(GOOD[:99])
    assert download.find(TINY_SET) is None
    download.fetch(mirrors("good"), data)
    assert lying_in(data) == ["tiny-set", "tiny-set.zip"]


def test_of_two_that_start_at_once_one_downloads_and_the_other_waits(data, mirrors):
    with ThreadPoolExecutor(2) as pool:
        folders = pool.map(download.fetch, [mirrors("good")] * 2, [data] * 2)
    assert set(folders) == {data / "tiny-set"}
    assert contents(data / "tiny-set") == FILES and len(mirrors.asked) == 1


def test_whoever_waits_is_told_for_what(tmp_path, capsys):
    def wait():
        with files.one_at_a_time(tmp_path / "lock"):
            return True

    with ThreadPoolExecutor(1) as pool:
        with FileLock(tmp_path / "lock"):
            waiting = pool.submit(wait)
            time.sleep(1.5)
            assert not waiting.done()
        assert waiting.result(timeout=10)

    said = capsys.readouterr().out
    assert f"another process is at it and holds {tmp_path / 'lock'}: waiting" in said


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        (FLIPPED, "CRC"),
        (GOOD[:-999], "not a zip file"),
        (b"<html>", "not a zip file"),
        (make_zip(HALF), "4 of 6"),
        (make_zip(folder="other"), "0 of 6"),
    ],
)
def test_a_bad_archive_is_named_with_its_cure_and_nothing_is_left(data, content, cause):
    (data / "tiny-set.zip").write_bytes(content)
    with pytest.raises(DataError, match=cause) as caught:
        download.fetch(source_at("http://127.0.0.1:1/tiny-set.zip", content=content), data)
    assert f"Delete {data / 'tiny-set.zip'} and run again" in str(caught.value)
    assert lying_in(data) == ["tiny-set.zip"]


@pytest.mark.parametrize(
    ("error", "seen", "message"),
    [
        (FULL, DataError, "disk is full.* 640 MB in .*COURSE_DATA"),
        (KeyboardInterrupt(), KeyboardInterrupt, None),
    ],
)
def test_a_full_disk_or_ctrl_c_while_extracting_leaves_nothing_half_done(
    data, mirrors, monkeypatch, error, seen, message
):
    copy = Mock(side_effect=[DEFAULT, DEFAULT, error], wraps=shutil.copyfileobj)
    monkeypatch.setattr(shutil, "copyfileobj", copy)
    with pytest.raises(seen, match=message):
        download.fetch(replace(mirrors("good"), bytes=200_000_000), data)
    assert lying_in(data) == ["tiny-set.zip"]


def test_a_disk_full_while_downloading_leaves_nothing_and_tries_no_other_mirror(
    data, mirrors, monkeypatch
):
    class OnFullDisk(io.FileIO):
        def write(self, content):
            raise FULL

        def close(self):  # a buffered file flushes first, and fails a second time
            if not self.closed:
                super().close()
                raise FULL

    monkeypatch.setattr("torch.hub.open", OnFullDisk, raising=False)
    with pytest.raises(DataError, match="disk is full"):
        download.fetch(mirrors("good", "good"), data)
    assert lying_in(data) == [] and len(mirrors.asked) == 1


def test_ctrl_c_while_downloading_leaves_nothing(data, mirrors, monkeypatch):
    ctrl_c = Mock(side_effect=KeyboardInterrupt)
    monkeypatch.setattr(http.client.HTTPResponse, "read", ctrl_c)
    with pytest.raises(KeyboardInterrupt):
        download.fetch(mirrors("good"), data)
    assert lying_in(data) == []
