"""Downloading: what arrives is what was published, whatever the server, the link, the disk or the user does."""

from __future__ import annotations

import fcntl
import gzip
import hashlib
import http.server
import io
import itertools
import json
import os
import pty
import random
import re
import signal
import struct
import subprocess
import sys
import tarfile
import termios
import threading
import time
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

import dlrm_lib.download
from dlrm_lib.__main__ import main
from dlrm_lib.columns import CRITEO_ON_THE_HUB
from dlrm_lib.download import Patience, download, parse_days, sources
from dlrm_lib.download.archive import ArchiveMember
from dlrm_lib.download.parquet import ParquetDay
from dlrm_lib.download.sources import Published, Target
from dlrm_lib.download.transfer import RemoteFile
from dlrm_lib.errors import InputError

HASTE = Patience(attempts=3, first_wait=0.01, stall=0.4)


class Site(http.server.ThreadingHTTPServer):
    """A web site that does as told: each entry of ``orders[path]`` is for one request, the rest are served well.

    Orders: a status; ``drop N`` and ``stall N`` (after N bytes of the body); ``whole`` (no answer to a range);
    ``shift`` (answers a range one byte late); ``force`` (answers a range though the file changed); ``short`` (half the
    file, and says that this is all).
    """

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.orders: dict[str, list[str | int]] = {}
        self.versions: dict[str, str | None] = {}  # the ETag of a file; None: none
        self.asked: list[tuple[str, str | None]] = []
        self.sent = 0  # bytes of bodies
        self.over = threading.Event()

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}{path}"

    def handle_error(self, request, client_address):  # A client that hangs up is no error of the site.
        pass


class Handler(http.server.BaseHTTPRequestHandler):
    server: Site

    def do_GET(self):
        wanted, path = self.headers.get("Range"), self.path
        self.server.asked.append((path, wanted))
        order, _, amount = str(next(iter(self.server.orders.get(path, [])), "")).partition(" ")
        if order:
            self.server.orders[path].pop(0)
        if path not in self.server.files or order.isdecimal():
            return self.send_error(int(order or 404))
        body, etag = self.server.files[path], self.server.versions.get(path, '"one"')
        first = 0
        same = self.headers.get("If-Range", etag) == etag or order == "force"
        if wanted and same and order != "whole":
            first = int(re.fullmatch(r"bytes=(\d+)-", wanted)[1]) + (order == "shift")
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {first}-{len(body) - 1}/{len(body)}")
        else:
            self.send_response(200)
        if order == "short":
            body = body[: len(body) // 2]
        if etag:
            self.send_header("ETag", etag)
        self.send_header("Content-Length", str(len(body) - first))
        self.end_headers()
        stop = first + int(amount) if order in ("drop", "stall") else len(body)
        self.server.sent += len(body[first:stop])
        self.wfile.write(body[first:stop])
        if order == "stall":
            self.server.over.wait(30)

    def log_message(self, *_):
        pass


@pytest.fixture
def site(monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with Site() as site:
        thread = threading.Thread(target=site.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield site
        site.over.set()
        site.shutdown()
        thread.join()


def md5(content: bytes) -> str:
    return hashlib.md5(content).hexdigest()


def lines(seed: int, rows: int = 3000) -> bytes:
    """Raw rows that hardly compress, made without the project."""
    draw = random.Random(seed)
    integers = ["", *(str(draw.randrange(-3, 10**6)) for _ in range(50))]
    tokens = ["", *(f"{draw.getrandbits(32):08x}" for _ in range(500))]
    rows_ = (
        [str(draw.getrandbits(1)), *draw.choices(integers, k=13), *draw.choices(tokens, k=26)] for _ in range(rows)
    )
    return b"".join("\t".join(row).encode() + b"\n" for row in rows_)


TEXT = lines(1)
PACKED = gzip.compress(TEXT, mtime=0)
SIZE = len(PACKED)


def day(site: Site, *paths: str, packed: bytes = PACKED, number: int = 0, **published) -> Target:
    """Day files at these paths, published with the checksum of the good one."""
    facts = {"size": len(packed), "checksum": f"md5:{md5(packed)}"} | published
    for path in paths:
        site.files.setdefault(path, packed)
    files = tuple(RemoteFile(url=site.url(path), provenance="a test", **facts) for path in paths)
    text = gzip.decompress(packed)
    return Target(name=f"day_{number}.gz", needs=0, sources=files, md5=md5(packed), text_md5=md5(text))


def logs(*targets: Target) -> Published:
    return Published(name="terabyte", title="Test logs", page="http://example.invalid", targets=targets)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_day_arrives_as_published_with_a_record_beside(site, tmp_path, capsys):
    download(logs(day(site, "/a")), tmp_path / "raw", patience=HASTE)
    assert names(tmp_path / "raw") == ["day_0.gz", "terabyte.json"]
    assert (tmp_path / "raw" / "day_0.gz").read_bytes() == PACKED
    entry = json.loads((tmp_path / "raw" / "terabyte.json").read_text())["files"]["day_0.gz"]
    assert entry["sha256"] == hashlib.sha256(PACKED).hexdigest()
    assert (entry["bytes"], entry["source"]) == (SIZE, site.url("/a"))
    printed = capsys.readouterr()
    assert f"MD5 {md5(PACKED)} as published" in printed.out
    assert printed.err == ""  # No bar where nobody watches.


@pytest.mark.parametrize(
    ("orders", "ranges"),
    [
        (["drop 40000"], [None, "bytes=40000-"]),
        (["drop 40000", "drop 30000", "drop 0"], [None, "bytes=40000-", "bytes=70000-", "bytes=70000-"]),
        (["stall 50000"], [None, "bytes=50000-"]),
        ([503, "drop 1", 500], [None, None, "bytes=1-", "bytes=1-"]),
        ([429], [None, None]),
    ],
)
def test_a_bad_connection_is_taken_up_where_it_broke(orders, ranges, site, tmp_path, capsys):
    site.orders["/a"] = list(orders)
    download(logs(day(site, "/a")), tmp_path, patience=HASTE)
    assert (tmp_path / "day_0.gz").read_bytes() == PACKED
    assert [wanted for _, wanted in site.asked] == ranges
    assert site.sent == SIZE
    assert "Trying again in 0.01 s" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("orders", "ranges"),
    [
        (["drop 40000", "whole"], [None, "bytes=40000-"]),
        (["drop 40000", "shift"], [None, "bytes=40000-", None]),
        (["drop 40000", 416], [None, "bytes=40000-", None]),
    ],
)
def test_a_server_that_cannot_resume_sends_it_again(orders, ranges, site, tmp_path):
    site.orders["/a"] = list(orders)
    target = day(site, "/a", size=None, checksum=None)  # Nothing published would tell a wrong mixture.
    download(logs(target), tmp_path, patience=HASTE)
    assert (tmp_path / "day_0.gz").read_bytes() == PACKED
    assert [wanted for _, wanted in site.asked] == ranges


def test_without_proof_that_the_file_is_the_same_it_starts_again(site, tmp_path):
    site.versions["/a"], site.orders["/a"] = None, ["drop 40000"]
    download(logs(day(site, "/a")), tmp_path, patience=HASTE)
    assert [wanted for _, wanted in site.asked] == [None, None]
    assert (tmp_path / "day_0.gz").read_bytes() == PACKED


@pytest.mark.parametrize(("order", "asked"), [([], 1), (["force"], 2)])
def test_a_file_that_changed_between_two_runs_is_not_mixed(order, asked, site, tmp_path):
    changed = gzip.compress(lines(2), mtime=0)
    site.orders["/a"] = ["drop 40000", *[503] * 3]
    with pytest.raises(InputError):
        download(logs(day(site, "/a")), tmp_path, patience=HASTE)
    site.files["/a"], site.versions["/a"], site.orders["/a"] = changed, '"two"', list(order)
    site.asked.clear()
    target = day(site, "/a", packed=changed, size=None, checksum=None)
    download(logs(target), tmp_path, patience=HASTE)
    assert (tmp_path / "day_0.gz").read_bytes() == changed
    assert site.asked == [("/a", "bytes=40000-"), ("/a", None)][:asked]


def test_a_part_spoiled_on_the_disk_is_noticed_and_fetched_anew(site, tmp_path, capsys):
    site.orders["/a"] = ["drop 40000", *[503] * 3]
    with pytest.raises(InputError):
        download(logs(day(site, "/a")), tmp_path, patience=HASTE)
    part = tmp_path / "day_0.gz.download" / "day_0.gz.part"
    part.write_bytes(b"x" * part.stat().st_size)
    download(logs(day(site, "/a")), tmp_path, patience=HASTE)
    assert (tmp_path / "day_0.gz").read_bytes() == PACKED
    assert "Starting again from the first byte" in capsys.readouterr().out


def test_a_server_that_cannot_resume_and_always_breaks_is_given_up(site, tmp_path):
    site.orders["/a"] = ["drop 40000"] * 9
    site.versions["/a"] = None
    with pytest.raises(InputError, match=r"3 times in a row"):
        download(logs(day(site, "/a")), tmp_path, patience=HASTE)
    assert len(site.asked) == 3


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        ({"orders": [404]}, "answered HTTP 404 Not Found"),
        ({"orders": [403]}, "answered HTTP 403 Forbidden"),
        ({"orders": [503] * 3}, r"answered HTTP 503 Service Unavailable \(3 times in a row\)"),
        ({"orders": ["stall 0"] * 3}, "the server went silent"),
        ({"orders": ["short"]}, rf"offers {SIZE // 2:,} bytes, published are {SIZE:,}: another file"),
        ({"content": PACKED[:-9] + b"x" * 9}, r"has MD5 [0-9a-f]{32}, published is [0-9a-f]{32}"),
    ],
)
def test_a_bad_source_is_named_and_the_next_one_tried(spoil, sentence, site, tmp_path, capsys):
    site.orders["/bad"] = spoil.get("orders", [])
    site.files["/bad"] = spoil.get("content", PACKED)
    download(logs(day(site, "/bad", "/good")), tmp_path, patience=HASTE)
    assert (tmp_path / "day_0.gz").read_bytes() == PACKED
    printed = capsys.readouterr().out
    assert re.search(rf"day_0.gz: .*/bad.*{sentence}|day_0.gz: .*{sentence}.*\(3 times", printed), printed
    assert site.asked[0][0] == "/bad"
    assert site.asked[-1][0] == "/good"


def test_gzip_that_is_broken_is_refused_where_no_checksum_is_published(site, tmp_path):
    site.files["/cut"] = PACKED[: SIZE // 2]  # As Criteo's own day files were from 2025 to 2026.
    target = day(site, "/cut", "/good", size=None, checksum=None)
    download(logs(target), tmp_path, patience=HASTE)
    assert (tmp_path / "day_0.gz").read_bytes() == PACKED


def test_when_nothing_works_the_error_names_every_source_and_keeps_what_came(site, tmp_path):
    site.orders = {"/a": ["drop 40000", *[500] * 9], "/b": [404]}
    with pytest.raises(InputError) as raised:
        download(logs(day(site, "/a", "/b")), tmp_path, patience=HASTE)
    what, found, remedy = str(raised.value).splitlines()
    assert what == "No source gives day_0.gz."
    assert re.search(r"/a: .*HTTP 500.*; .*/b answered HTTP 404", found)
    assert site.asked[-1] == ("/b", None)  # Another source's bytes are not offered to it.
    assert "Run the same command again" in remedy
    assert (tmp_path / "day_0.gz.download" / "day_0.gz.part").read_bytes() == PACKED[:40000]
    assert not (tmp_path / "day_0.gz").exists()
    site.orders = {}
    download(logs(day(site, "/a", "/b")), tmp_path, patience=HASTE)
    assert site.asked[-1] == ("/a", "bytes=40000-")


def test_a_source_that_failed_comes_last_for_the_next_day(site, tmp_path):
    site.orders["/bad0"] = [404]
    days = [day(site, f"/bad{n}", f"/good{n}", packed=gzip.compress(lines(n, 5)), number=n) for n in range(3)]
    download(logs(*days), tmp_path, patience=HASTE)
    assert [path for path, _ in site.asked] == ["/bad0", "/good0", "/good1", "/good2"]


def test_what_is_there_is_checked_and_what_is_damaged_comes_again(site, tmp_path, capsys):
    days = [day(site, f"/{n}", packed=gzip.compress(lines(n, 50)), number=n) for n in range(3)]
    download(logs(*days), tmp_path, patience=HASTE)
    good = (tmp_path / "day_1.gz").read_bytes()
    (tmp_path / "day_1.gz").write_bytes(good[:30] + bytes([good[30] ^ 1]) + good[31:])
    site.asked.clear()
    capsys.readouterr()
    download(logs(*days), tmp_path, patience=HASTE)
    assert [path for path, _ in site.asked] == ["/1"]
    assert (tmp_path / "day_1.gz").read_bytes() == good
    printed = capsys.readouterr().out
    assert re.search(r"day_1\.gz is damaged: SHA-256 \w{64}, recorded was \w{64}\. Fetching it again", printed)
    assert printed.count("there already, SHA-256 as recorded") == 2


@pytest.mark.parametrize("name", ["day_0.gz", "day_0"])
def test_a_copy_from_elsewhere_is_recognised_by_what_is_published(name, site, tmp_path, capsys):
    (tmp_path / name).write_bytes(PACKED if name.endswith("gz") else TEXT)
    download(logs(day(site, "/a")), tmp_path, patience=HASTE)
    assert site.asked == []
    assert "MD5 as published" in capsys.readouterr().out


def test_the_same_day_packed_otherwise_is_recognised_by_its_text(site, tmp_path):
    (tmp_path / "day_0.gz").write_bytes(gzip.compress(TEXT, 1))
    download(logs(day(site, "/a")), tmp_path, patience=HASTE)
    assert site.asked == []


def test_a_copy_from_elsewhere_that_is_cut_off_comes_again(site, tmp_path, capsys):
    (tmp_path / "day_0.gz").write_bytes(PACKED[:5000])
    download(logs(day(site, "/a")), tmp_path, patience=HASTE)
    assert (tmp_path / "day_0.gz").read_bytes() == PACKED
    assert "day_0.gz is damaged: Compressed file ended" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["day_0", "day_0.gz"])
def test_other_rows_of_that_name_are_left_alone(name, site, tmp_path):
    mine = TEXT[:100] if name == "day_0" else gzip.compress(TEXT[:100])
    (tmp_path / name).write_bytes(mine)
    with pytest.raises(InputError, match=rf"{name} is there and is not the file that Criteo published"):
        download(logs(day(site, "/a")), tmp_path, patience=HASTE)
    assert (tmp_path / name).read_bytes() == mine
    assert site.asked == []


# Kaggle's archive


def tar_gz(**members: bytes) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(f"./{name}.txt")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return out.getvalue()


ARCHIVE = tar_gz(readme=b"terms", test=b"no labels", train=TEXT)


def rows_of_kaggle(site: Site, *paths: str, **published) -> Published:
    facts = {"size": len(ARCHIVE), "checksum": f"md5:{md5(ARCHIVE)}"} | published
    files = [RemoteFile(url=site.url(path), provenance="a test", **facts) for path in paths]
    members = tuple(ArchiveMember(archive=file, member="train.txt", md5=md5(TEXT)) for file in files)
    target = Target(name="train.txt", needs=0, sources=members, md5=md5(TEXT))
    return Published(name="kaggle", title="Test rows", page="http://example.invalid", targets=(target,))


def test_the_command_leaves_train_txt_and_nothing_of_the_archive(site, tmp_path, monkeypatch, capsys):
    site.files["/k"], site.orders["/k"] = ARCHIVE, ["drop 60000"]
    monkeypatch.setattr(dlrm_lib.download, "kaggle", lambda: rows_of_kaggle(site, "/k"))
    monkeypatch.setattr(dlrm_lib.download.transfer.time, "sleep", lambda _: None)
    assert main(["download", "kaggle", "--accept_licence", "--output", str(tmp_path / "raw")]) == 0
    assert names(tmp_path / "raw") == ["kaggle.json", "train.txt"]
    assert (tmp_path / "raw" / "train.txt").read_bytes() == TEXT
    printed = capsys.readouterr().out
    assert "CC BY-NC-SA 4.0" in printed
    assert printed.endswith(f"next: python -m dlrm_lib preprocess --input {tmp_path / 'raw' / 'train.txt'}\n")
    site.asked.clear()
    assert main(["download", "kaggle", "--accept_licence", "--output", str(tmp_path / "raw")]) == 0
    assert site.asked == []


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (ARCHIVE[: len(ARCHIVE) // 2], "the archive is damaged or another one"),
        (ARCHIVE[:-400] + b"\0" * 400, "train.txt in it has MD5"),
        (b"<html>Sign in</html>", "the archive is damaged or another one: not a gzip file"),
        (tar_gz(readme=b"terms"), "it has no train.txt"),
        (tar_gz(train=TEXT[:-1]), "train.txt in it has MD5"),
    ],
)
def test_a_bad_archive_leaves_nothing_and_the_next_source_is_tried(content, sentence, site, tmp_path, capsys):
    site.files |= {"/bad": content, "/good": ARCHIVE}
    download(rows_of_kaggle(site, "/bad", "/good", size=None, checksum=None), tmp_path, patience=HASTE)
    assert (tmp_path / "train.txt").read_bytes() == TEXT
    assert sentence in capsys.readouterr().out
    assert names(tmp_path) == ["kaggle.json", "train.txt"]


def test_an_archive_that_was_whole_when_the_run_was_killed_is_not_fetched_again(site, tmp_path):
    work = tmp_path / "train.txt.download"
    work.mkdir()
    (work / "train.txt.archive.tar.gz").write_bytes(ARCHIVE)
    (work / "train.txt.part").write_bytes(TEXT[:100])
    download(rows_of_kaggle(site, "/k"), tmp_path, patience=HASTE)
    assert site.asked == []
    assert (tmp_path / "train.txt").read_bytes() == TEXT


# Criteo's days as the hub has them: Parquet files


def parquet_file(text: bytes) -> bytes:
    rows = [line.split("\t") for line in text.decode().splitlines()]
    types = [pa.int32()] * 14 + [pa.string()] * 26
    columns = [
        pa.array([(int(v) if pa.types.is_integer(kind) else v) if v else None for v in values], kind)
        for values, kind in zip(zip(*rows, strict=True), types, strict=True)
    ]
    out = io.BytesIO()
    parquet.write_table(pa.table(columns, names=CRITEO_ON_THE_HUB.names), out, row_group_size=100)
    return out.getvalue()


def hub_day(site: Site, texts: list[bytes], text_md5: str | None = None) -> Target:
    entries = [{"type": "directory", "oid": "0", "size": 0, "path": "data/day=2015-02-15"}]
    for number, text in enumerate(texts):
        path, content = f"data/day=2015-02-15/part-{number:05}.snappy.parquet", parquet_file(text)
        site.files[f"/datasets/o/n/resolve/main/{path.replace('=', '%3D')}"] = content
        lfs = {"oid": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 135}
        entries.append({"type": "file", "oid": "1", "size": len(content), "lfs": lfs, "path": path})
    entries[1:] = entries[:0:-1]  # The hub need not sort.
    site.files["/api/datasets/o/n/tree/main/data/day%3D2015-02-15?recursive=true"] = json.dumps(entries).encode()
    source = ParquetDay(repository=site.url("/datasets/o/n"), folder="data/day=2015-02-15", provenance="a test")
    return Target(name="day_0.gz", needs=0, sources=(source,), text_md5=text_md5 or md5(b"".join(texts)))


@pytest.fixture
def pieces():
    return [lines(seed, rows) for seed, rows in ((3, 300), (4, 1), (5, 250), (6, 120), (7, 90))]


def test_parquet_files_become_the_lines_that_they_were_made_of(site, pieces, tmp_path, capsys):
    target = hub_day(site, pieces)
    download(logs(target), tmp_path, patience=HASTE)
    assert names(tmp_path) == ["day_0.gz", "terabyte.json"]
    assert gzip.decompress((tmp_path / "day_0.gz").read_bytes()) == b"".join(pieces)
    assert "its text has MD5" in capsys.readouterr().out


def test_preprocessing_reads_such_a_day(site, pieces, tmp_path):
    from dlrm_lib.raw_rows import read_raw

    download(logs(hub_day(site, pieces)), tmp_path, patience=HASTE)
    table = read_raw(tmp_path, 10_000)
    expected = [line.split("\t") for line in b"".join(pieces).decode().splitlines()]
    assert table["C26"].tolist() == [row[-1] for row in expected]
    assert table["label"].tolist() == [row[0] == "1" for row in expected]


def test_a_day_that_is_not_the_original_says_so(site, pieces, tmp_path, capsys):
    original = md5(b"".join(reversed(pieces)))
    download(logs(hub_day(site, pieces, original)), tmp_path, patience=HASTE)
    assert re.search(rf"that of the original day is {original}: rows, or their order, differ", capsys.readouterr().out)
    download(logs(hub_day(site, pieces, original)), tmp_path, patience=HASTE)  # Recorded, so it is known again.
    assert "there already, SHA-256 as recorded" in capsys.readouterr().out


def test_a_broken_day_goes_on_with_the_next_parquet_file(site, pieces, tmp_path, capsys):
    target = hub_day(site, pieces)
    parts = sorted(path for path in site.files if path.endswith("parquet"))
    site.orders[parts[3]] = [500] * 3
    with pytest.raises(InputError, match="HTTP 500"):
        download(logs(target), tmp_path, patience=HASTE)
    work = tmp_path / "day_0.gz.download"
    with (work / "day_0.gz.part").open("ab") as part:
        part.write(b"half a member")  # As a kill while it is written leaves it.
    done = len(json.loads((work / "day_0.gz.part.json").read_text())["ends"])
    assert done == 3
    site.asked.clear()
    download(logs(target), tmp_path, patience=HASTE)
    assert [path for path, _ in site.asked if path in parts] == parts[done:]
    assert f"{done} of 5 Parquet files are here already" in capsys.readouterr().out
    assert gzip.decompress((tmp_path / "day_0.gz").read_bytes()) == b"".join(pieces)


def test_a_day_that_changed_on_the_hub_starts_again(site, pieces, tmp_path):
    target = hub_day(site, pieces)
    parts = sorted(path for path in site.files if path.endswith("parquet"))
    site.orders[parts[4]] = [500] * 3
    with pytest.raises(InputError):
        download(logs(target), tmp_path, patience=HASTE)
    other = [lines(9, 80), *pieces[1:]]
    download(logs(hub_day(site, other)), tmp_path, patience=HASTE)
    assert gzip.decompress((tmp_path / "day_0.gz").read_bytes()) == b"".join(other)


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda site, listing, part: site.files.update({part: site.files[part][:-1] + b"x"}), "has SHA256 "),
        (lambda site, listing, part: site.files.update({listing: b"<html>"}), "is no listing of files"),
        (lambda site, listing, part: site.files.update({listing: b"[]"}), "lists 0 entries"),
        (
            lambda site, listing, part: site.files.update(
                {listing: json.dumps(json.loads(site.files[listing]) + [{"path": "more"}] * 994).encode()}
            ),
            "lists 1000 entries, of them 5 Parquet files",
        ),
        (lambda site, listing, part: site.orders.update({listing: [401]}), "answered HTTP 401"),
    ],
)
def test_a_hub_that_sends_something_else_is_refused(spoil, sentence, site, pieces, tmp_path):
    target = hub_day(site, pieces)
    listing = next(path for path in site.files if "/api/" in path)
    spoil(site, listing, next(path for path in site.files if path.endswith("00002.snappy.parquet")))
    with pytest.raises(InputError, match=sentence):
        download(logs(target), tmp_path, patience=HASTE)
    assert not (tmp_path / "day_0.gz").exists()


def test_parquet_files_with_other_columns_are_refused(site, tmp_path):
    target = hub_day(site, [lines(1, 5)])
    table, out = pa.table({"label": [1]}), io.BytesIO()
    parquet.write_table(table, out)
    part, listing = sorted(site.files, key=lambda path: "/api/" in path)
    site.files[part] = out.getvalue()
    entry = {"path": part.rpartition("main/")[2].replace("%3D", "="), "size": len(out.getvalue())}
    entry["lfs"] = {"oid": hashlib.sha256(out.getvalue()).hexdigest()}
    site.files[listing] = json.dumps([entry]).encode()
    with pytest.raises(InputError, match="does not hold Criteo's rows"):
        download(logs(target), tmp_path, patience=HASTE)


# The command, killed and in the way of itself


RUN = """
import sys, dlrm_lib.download as module
from dlrm_lib.__main__ import main
from dlrm_lib.columns import CRITEO_ON_THE_HUB
sys.path.insert(0, sys.argv[1])
import test_download as t
if sys.argv[4] == "full":
    import resource
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
class There:
    files, url = {}, staticmethod(lambda path: sys.argv[2] + path)
module.terabyte = lambda days: t.logs(t.day(There, "/a"))
sys.exit(main(["download", "terabyte", "--accept_licence", "--days", "0", "--output", sys.argv[3]]))
"""


def run(site: Site, output: Path, how: str = "plain", stderr: int = subprocess.PIPE) -> subprocess.Popen:
    command = [sys.executable, "-c", RUN, str(Path(__file__).parent), site.url(""), str(output), how]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, text=True)


def wait_for_part(output: Path, size: int) -> None:
    part = output / "day_0.gz.download" / "day_0.gz.part"
    for _ in range(1000):
        if part.exists() and part.stat().st_size >= size:
            return
        time.sleep(0.02)
    raise AssertionError("no part arrived")


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_run_that_is_stopped_is_resumed(how, site, tmp_path):
    site.files["/a"], site.orders["/a"] = PACKED, ["stall 70000"]
    process = run(site, tmp_path)
    wait_for_part(tmp_path, 70000)
    if how == signal.SIGKILL:
        with pytest.raises(InputError, match=rf"Another run is writing to [\s\S]*process {process.pid}"):
            download(logs(day(site, "/a")), tmp_path, patience=HASTE)
    process.send_signal(how)
    printed, error = process.communicate(timeout=20)
    assert process.returncode == (130 if how == signal.SIGINT else -signal.SIGKILL)
    if how == signal.SIGINT:
        assert error == "Interrupted.\n"
        assert "the same command goes on from there" in printed
    assert not (tmp_path / "day_0.gz").exists()
    site.asked.clear()
    download(logs(day(site, "/a")), tmp_path, patience=HASTE)
    assert site.asked == [("/a", "bytes=70000-")]
    assert (tmp_path / "day_0.gz").read_bytes() == PACKED


def test_who_watches_a_terminal_sees_a_bar(site, tmp_path):
    site.files["/a"] = PACKED
    watcher, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    process = run(site, tmp_path, stderr=terminal)
    process.communicate(timeout=20)
    os.write(terminal, b"end")
    shown = os.read(watcher, 100_000).decode()
    os.close(terminal)
    os.close(watcher)
    assert process.returncode == 0
    assert re.search(rf"day_0\.gz: +0%.*/{SIZE / 1000:.0f}k", shown), shown
    assert "checking day_0.gz.part" in shown


def test_a_run_killed_between_the_last_byte_and_the_check_asks_for_one_byte(site, tmp_path):
    site.orders["/a"] = ["drop 40000", *[503] * 3]
    with pytest.raises(InputError):
        download(logs(day(site, "/a")), tmp_path, patience=HASTE)
    (tmp_path / "day_0.gz.download" / "day_0.gz.part").write_bytes(PACKED)
    download(logs(day(site, "/a")), tmp_path, patience=HASTE)
    assert site.asked[-1] == ("/a", f"bytes={SIZE - 1}-")
    assert (tmp_path / "day_0.gz").read_bytes() == PACKED


def test_a_run_killed_between_the_record_and_the_move_has_lost_nothing(site, tmp_path):
    download(logs(day(site, "/a")), tmp_path, patience=HASTE)
    (tmp_path / "day_0.gz.download").mkdir()
    (tmp_path / "day_0.gz").rename(tmp_path / "day_0.gz.download" / "day_0.gz")
    site.asked.clear()
    download(logs(day(site, "/a")), tmp_path, patience=HASTE)
    assert site.asked == []
    assert (tmp_path / "day_0.gz").read_bytes() == PACKED


def test_parquet_files_without_pyarrow_name_the_remedy(site, pieces, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(InputError, match="which need pyarrow: pip install pyarrow"):
        download(logs(hub_day(site, pieces)), tmp_path, patience=HASTE)


def test_a_disk_that_fills_up_is_one_sentence_and_the_part_stays(site, tmp_path):
    site.files["/a"] = PACKED
    process = run(site, tmp_path, "full")
    _, error = process.communicate(timeout=20)
    assert process.returncode == 2
    assert re.fullmatch(r".* cannot be written\.\n  found: File too large\n  remedy: Run the same .*\n", error), error
    download(logs(day(site, "/a")), tmp_path, patience=HASTE)
    assert site.asked[-1] == ("/a", "bytes=50000-")


# Before the first byte


def test_too_little_room_is_said_before_the_first_byte(site, tmp_path):
    target = day(site, "/a")
    large = Target(name="day_0.gz", needs=10**18, sources=target.sources)
    with pytest.raises(InputError, match=r"too little room for day_0.gz[\s\S]*1000000000\.0 GB needed[\s\S]*--days"):
        download(logs(large), tmp_path, patience=HASTE)
    assert site.asked == []


def test_what_is_here_already_counts_as_room(site, tmp_path, monkeypatch):
    site.orders["/a"] = ["drop 40000", *[503] * 3]
    target = day(site, "/a")
    with pytest.raises(InputError):
        download(logs(target), tmp_path, patience=HASTE)
    usage = type("Usage", (), {"free": SIZE - 40000})
    monkeypatch.setattr(dlrm_lib.download.shutil, "disk_usage", lambda _: usage)
    tight = Target(name="day_0.gz", needs=SIZE, sources=target.sources, md5=target.md5)
    download(logs(tight), tmp_path, patience=HASTE)
    assert (tmp_path / "day_0.gz").read_bytes() == PACKED


@pytest.mark.parametrize("answer", ["no", "", None])
def test_no_download_without_a_yes_to_the_terms(answer, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdin", type("Stdin", (), {"isatty": staticmethod(lambda: answer is not None)}))
    monkeypatch.setattr("builtins.input", lambda _: answer)
    monkeypatch.setattr(dlrm_lib.download, "download", lambda *_: pytest.fail("downloaded"))
    assert main(["download", "terabyte", "--output", str(tmp_path / "raw")]) == 2
    printed = capsys.readouterr()
    assert re.search(r"the terms are not accepted", printed.err)
    assert "https://creativecommons.org/licenses/by-nc-sa/4.0/" in printed.out
    assert not (tmp_path / "raw").exists()


def test_a_typed_yes_is_enough(tmp_path, monkeypatch):
    started = []
    monkeypatch.setattr(sys, "stdin", type("Stdin", (), {"isatty": staticmethod(lambda: True)}))
    monkeypatch.setattr("builtins.input", lambda _: " Yes ")
    monkeypatch.setattr(dlrm_lib.download, "download", lambda published, output: started.append((published, output)))
    assert main(["download", "terabyte", "--days=3,0-1", "--output", str(tmp_path)]) == 0
    ((published, output),) = started
    assert [target.name for target in published.targets] == ["day_0.gz", "day_1.gz", "day_3.gz"]
    assert output == tmp_path


def test_a_folder_that_cannot_be_written_is_one_sentence(site, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"file/raw cannot be written[\s\S]*Not a directory"):
        download(logs(day(site, "/a")), tmp_path / "file" / "raw", patience=HASTE)

    def refused(path, *_, **__):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "mkdir", refused)  # Tests may run as root, to whom every folder is open.
    with pytest.raises(InputError, match=r"raw cannot be written[\s\S]*Permission denied"):
        download(logs(day(site, "/a")), tmp_path / "raw", patience=HASTE)
    assert site.asked == []


def test_a_record_that_is_none_is_named(site, tmp_path):
    (tmp_path / "terabyte.json").write_text("[]")
    with pytest.raises(InputError, match=r"terabyte\.json is no record of a download[\s\S]*Delete it"):
        download(logs(day(site, "/a")), tmp_path, patience=HASTE)


@pytest.mark.parametrize(
    ("text", "days"),
    [("0-23", range(24)), ("0-3,7", (0, 1, 2, 3, 7)), ("5", (5,)), ("7,0 - 1,1", (0, 1, 7)), ("23-23", (23,))],
)
def test_days(text, days):
    assert parse_days(text) == tuple(days)


@pytest.mark.parametrize("text", ["", "24", "0-24", "3-1", "-1", "0-", "a", "1;2", "0-1-2", "1,,2", "100", "1.5", "٣"])
def test_days_that_are_none(text):
    with pytest.raises(InputError, match=r"--days names days from 0 to 23\.\n  found: .*\n  remedy: Write them as"):
        parse_days(text)


def test_kaggle_has_no_days(capsys):
    assert main(["download", "kaggle", "--days", "0"]) == 2
    assert "--days is for terabyte." in capsys.readouterr().err


def test_the_published_facts_are_whole():
    targets = sources.terabyte().targets
    assert [target.name for target in targets] == [f"day_{n}.gz" for n in range(24)]
    checksums = [digest for target in targets for digest in (target.md5, target.text_md5)]
    assert len(set(checksums)) == 48
    assert all(re.fullmatch(r"[0-9a-f]{32}", digest) for digest in checksums)
    folders = [target.sources[0].folder for target in targets]
    assert (folders[0], folders[14], folders[23]) == (
        "data/day=2015-02-15",
        "data/day=2015-03-01",
        "data/day=2015-03-10",
    )
    packed = sum(target.sources[1].size for target in targets)
    assert packed / 2**30 == pytest.approx(343, abs=1)  # The README that lists them says about 343 GB in all.
    every = itertools.chain(targets, sources.kaggle().targets)
    assert all(s.url.startswith("https://") and s.provenance for target in every for s in target.sources)


def test_every_link_is_in_the_readme(checkout):
    text = (checkout / "data" / "README.md").read_text(encoding="utf-8")
    for published in (sources.kaggle(), sources.terabyte([0])):
        for source in published.targets[0].sources:
            link = source.repository if isinstance(source, ParquetDay) else source.url.replace("day_0.gz", "")
            assert link in text
        assert published.licence_text in text


def test_the_module_needs_no_heavy_import():
    code = "import sys, dlrm_lib.download; print([m for m in ('torch', 'pyspark', 'pyarrow') if m in sys.modules])"
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.stdout == "[]\n"
