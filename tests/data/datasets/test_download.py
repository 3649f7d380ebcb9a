"""Against a server on loopback that behaves as badly as real ones."""

import base64
import bz2
import gzip
import hashlib
import io
import lzma
import tarfile
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import numpy as np
import pytest
from omegaconf import OmegaConf

from ssd.config.compose import compose
from ssd.config.credentials import KEPT, take
from ssd.data.datasets import download
from ssd.data.datasets.build import make_dataset
from ssd.data.datasets.download import Archive, fetch, fetch_all, unpack
from ssd.utils.errors import UserError

BIG = np.random.default_rng(0).bytes(1_000_000)


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        behavior = self.server.behavior  # type: ignore[attr-defined]
        wanted = self.headers.get("Range")
        behavior.asked.append((self.path, wanted))
        behavior.credentials.append(self.headers.get("Authorization"))
        data = behavior.files.get(self.path)
        if behavior.status or data is None:
            self.send_error(behavior.status or 404)
            return
        start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted and behavior.ranges else 0
        if start >= len(data) and start:
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(data)}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if behavior.redirect:
            self.send_response(302)
            self.send_header("Location", behavior.redirect)
            self.end_headers()
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        if behavior.length:
            self.send_header("Content-Length", str(len(data) - start))
        self.end_headers()
        self.wfile.write(data[start : start + behavior.cut])

    def log_message(self, *_) -> None:
        pass


@pytest.fixture
def server(monkeypatch):
    """url, and: files; cut, bytes after which it hangs up; ranges, whether it knows them; status; asked, and with which
    credentials; redirect, to where; length, whether it says how many bytes there are."""
    monkeypatch.setattr(download, "PAUSE", 0.01)
    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.behavior = SimpleNamespace(
        files={}, cut=1 << 40, ranges=True, status=None, asked=[], credentials=[], redirect=None, length=True
    )
    thread = threading.Thread(target=http.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    http.behavior.url = f"http://127.0.0.1:{http.server_port}"
    yield http.behavior
    http.shutdown()
    http.server_close()


def archive(server, data: bytes = BIG, **keys) -> Archive:
    server.files["/deep/x.bin"] = data
    known = hashlib.md5(BIG).hexdigest()
    return Archive(**{"name": "x", "url": f"{server.url}/deep/x.bin", "holds": "x", "md5": known, **keys})


def test_a_file_comes_whole(server, tmp_path):
    assert fetch(archive(server), tmp_path) == tmp_path / "x.bin"
    assert (tmp_path / "x.bin").read_bytes() == BIG
    fetch(archive(server), tmp_path)
    assert server.asked == [("/deep/x.bin", None)]
    assert [path.name for path in tmp_path.iterdir()] == ["x.bin"]


def test_a_mirror_with_a_password(server, tmp_path, monkeypatch):
    monkeypatch.setenv(KEPT, "{}")
    mirror = take(server.url.replace("http://", "http://bob:pw-s3cr3t@") + "/deep")
    assert mirror == f"{server.url}/deep"
    found = archive(server)
    found = Archive.from_config("x", {"url": "http://elsewhere/x.bin", "holds": "x", "md5": found.md5}, mirror)
    fetch(found, tmp_path)
    assert server.credentials == ["Basic " + base64.b64encode(b"bob:pw-s3cr3t").decode()]
    server.status = 403
    with pytest.raises(UserError, match="403") as error:
        fetch(found, tmp_path / "again")
    assert "s3cr3t" not in str(error.value)


def test_a_connection_that_breaks_is_gone_on_with(server, tmp_path):
    server.cut = 300_000
    assert fetch(archive(server), tmp_path).read_bytes() == BIG
    assert [wanted for _, wanted in server.asked] == [None, "bytes=300000-", "bytes=600000-", "bytes=900000-"]


def test_a_server_without_ranges_sends_it_again(server, tmp_path):
    server.ranges = False
    (tmp_path / ".x.bin.part").write_bytes(b"12345")
    assert fetch(archive(server), tmp_path).read_bytes() == BIG


def test_what_an_earlier_run_left_is_used(server, tmp_path):
    (tmp_path / ".x.bin.part").write_bytes(BIG[:999_990])
    assert fetch(archive(server), tmp_path).read_bytes() == BIG
    assert server.asked == [("/deep/x.bin", "bytes=999990-")]


@pytest.mark.parametrize("left", [BIG, BIG + b"more"])
def test_an_earlier_run_left_all_of_it_or_too_much(server, tmp_path, left):
    (tmp_path / ".x.bin.part").write_bytes(left)
    assert fetch(archive(server), tmp_path).read_bytes() == BIG


def test_a_server_that_always_hangs_up(server, tmp_path):
    server.cut = 0
    (tmp_path / ".x.bin.part").write_bytes(BIG[:500_000])
    with pytest.raises(UserError, match=r"broke off 6 times .* what came \(0.5 MB\) is kept, start again") as error:
        fetch(archive(server), tmp_path)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "x.bin").exists()
    server.cut = 1 << 40
    assert fetch(archive(server), tmp_path).read_bytes() == BIG


def test_a_corrupted_file_is_refused(server, tmp_path):
    with pytest.raises(UserError, match="x.bin: its checksum is not md5 .*, it came damaged") as error:
        fetch(archive(server, BIG[:-1] + b"?"), tmp_path)
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []
    # So is one that lies there already.
    (tmp_path / "x.bin").write_bytes(b"old")
    assert fetch(archive(server), tmp_path).read_bytes() == BIG


def test_a_wrong_part_is_not_taken_on_trust(server, tmp_path):
    (tmp_path / ".x.bin.part").write_bytes(b"?" * 1000)
    with pytest.raises(UserError, match="its checksum is not"):
        fetch(archive(server), tmp_path)
    assert fetch(archive(server), tmp_path).read_bytes() == BIG


@pytest.mark.parametrize(("status", "message"), [(404, "404 Client Error.*dataset.mirror"), (503, "503 Server Error")])
def test_what_the_server_says(server, tmp_path, status, message):
    server.status = status
    with pytest.raises(UserError, match=message) as error:
        fetch(archive(server), tmp_path)
    assert "\n" not in str(error.value)
    assert len(server.asked) == (1 if status == 404 else 6)


def test_nobody_there(tmp_path, monkeypatch):
    monkeypatch.setattr(download, "PAUSE", 0.01)
    with pytest.raises(UserError, match="broke off 6 times") as error:
        fetch(Archive("x", "http://127.0.0.1:9/x.tar", "x", "0" * 32), tmp_path)
    assert "\n" not in str(error.value)


def tar(entries: dict[str, bytes | tarfile.TarInfo]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as file:
        for name, data in entries.items():
            info = data if isinstance(data, tarfile.TarInfo) else tarfile.TarInfo(name)
            info.size = len(data) if isinstance(data, bytes) else 0
            file.addfile(info, io.BytesIO(data if isinstance(data, bytes) else b""))
    return buffer.getvalue()


def zipped(entries: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as file:
        for name, data in entries.items():
            file.writestr(name, data)
    return buffer.getvalue()


@pytest.mark.parametrize("make", [tar, zipped])
def test_unpacking(tmp_path, make):
    (tmp_path / "x").write_bytes(make({"top/a.txt": b"1", "top/deep/b.txt": b"2", "c.txt": b"3"}))
    unpack(tmp_path / "x", tmp_path / "out", 0)
    assert (tmp_path / "out/top/deep/b.txt").read_bytes() == b"2"
    unpack(tmp_path / "x", tmp_path / "stripped", 1)
    assert sorted(path.name for path in (tmp_path / "stripped").iterdir()) == ["a.txt", "deep"]


@pytest.mark.parametrize("make", [tar, zipped])
@pytest.mark.parametrize("name", ["../evil", "a/../../evil", "/tmp/evil", "a\\..\\evil", "C:/evil"])
def test_names_that_lead_out_are_refused(tmp_path, make, name):
    (tmp_path / "x").write_bytes(make({name: b"1"}))
    with pytest.raises(UserError, match="would be written outside"):
        unpack(tmp_path / "x", tmp_path / "out", 0)
    assert not (tmp_path / "evil").exists()
    assert not list(tmp_path.glob("out/*"))


def test_links_are_left_out(tmp_path):
    link = tarfile.TarInfo("here")
    link.type, link.linkname = tarfile.SYMTYPE, str(tmp_path)
    (tmp_path / "x").write_bytes(tar({"here": link, "here/evil": b"1", "a": b"2"}))
    unpack(tmp_path / "x", tmp_path / "out", 0)
    assert not (tmp_path / "evil").exists()
    assert (tmp_path / "out/here/evil").read_bytes() == b"1"


@pytest.mark.parametrize("data", [b"", b"no archive", zipped({"a": b"1" * 1000})[:-60], tar({"a": b"1" * 5000})[:3000]])
def test_archives_that_cannot_be_unpacked(tmp_path, data):
    (tmp_path / "x").write_bytes(data)
    with pytest.raises(UserError, match="x: cannot be unpacked"):
        unpack(tmp_path / "x", tmp_path / "out", 0)


def voc_tar(voc) -> bytes:
    files = [path for path in voc.root.rglob("*") if path.is_file()]
    return tar({f"VOCdevkit/VOC2007/{path.relative_to(voc.root)}": path.read_bytes() for path in files})


def test_a_dataset_is_downloaded_by_configuration(server, voc, tmp_path):
    voc.sets(trainval=["a", "b", "c"], test=["c"])
    data = voc_tar(voc)
    server.files["/VOCtrainval_06-Nov-2007.tar"] = server.files["/VOCtest_06-Nov-2007.tar"] = data
    server.cut = len(data) // 3
    cfg = compose(["dataset=voc07", f"dataset.root={tmp_path}/new/VOCdevkit", "dataset.download=true",
                   f"dataset.mirror={server.url}/"])  # fmt: skip
    OmegaConf.set_struct(cfg, False)
    for name in ("trainval07", "test07"):
        cfg.dataset.archives[name].md5 = hashlib.md5(data).hexdigest()
    assert [sample.id for sample in make_dataset(cfg.dataset).split("train")] == ["a", "b", "c"]
    # Both archives hold the same here, so the second was there already.
    assert {path for path, _ in server.asked} == {"/VOCtrainval_06-Nov-2007.tar"}
    assert [path.name for path in (tmp_path / "new/VOCdevkit").iterdir()] == ["VOC2007"]
    asked = len(server.asked)
    make_dataset(cfg.dataset)
    assert len(server.asked) == asked


def test_half_unpacked_is_unpacked_again(server, tmp_path):
    data = zipped({"val/a": b"1"})
    item = archive(server, data, holds="val", md5=hashlib.md5(data).hexdigest())
    (tmp_path / "val").mkdir()
    (tmp_path / ".x.bin.unpacking").touch()
    fetch_all([item], tmp_path)
    assert (tmp_path / "val/a").read_bytes() == b"1"
    assert [path.name for path in tmp_path.iterdir()] == ["val"]


def test_the_wrong_archive(server, tmp_path):
    data = zipped({"other": b"1"})
    with pytest.raises(UserError, match="it brought no val; is it the right archive"):
        fetch_all([archive(server, data, holds="val", md5=hashlib.md5(data).hexdigest())], tmp_path)


def test_wrong_entries():
    with pytest.raises(UserError, match="dataset.archives.a: .*'sha'"):
        Archive.from_config("a", {"url": "x", "holds": "y", "sha": "z"}, None)


def test_presets_name_what_they_need():
    found = {name: compose([f"dataset={name}"]).dataset.archives for name in ("voc07", "voc12", "voc0712", "coco2017")}
    present = {name: [key for key, entry in archives.items() if entry] for name, archives in found.items()}
    assert present == {
        "voc07": ["trainval07", "test07"],
        "voc12": ["trainval12"],
        "voc0712": ["trainval07", "test07", "trainval12"],
        "coco2017": ["train", "val", "annotations"],
    }
    for archives in found.values():
        for name, entry in archives.items():
            if entry:
                item = Archive.from_config(name, entry, "http://mirror/base/")
                assert item.url == f"http://mirror/base/{item.file}"
                assert len(item.md5 or "") == 32


@pytest.mark.parametrize("make", [tar, zipped])
def test_bombs(tmp_path, make, monkeypatch):
    path = tmp_path / "a"
    monkeypatch.setattr(download, "SMALL", 500_000)
    entries = {"first": b"1", "large": bytes(1_000_000)}
    path.write_bytes(gzip.compress(tar(entries)) if make is tar else zipped(entries, zipfile.ZIP_DEFLATED))
    with pytest.raises(UserError, match="a: unpacks to more than 100 times its size"):
        unpack(path, tmp_path / "out", 0)
    assert (tmp_path / "out" / "first").read_bytes() == b"1"
    monkeypatch.setattr(download, "SMALL", 1_000_001)
    unpack(path, tmp_path / "out", 0)
    monkeypatch.setattr(download, "MAX_MEMBERS", 1)
    with pytest.raises(UserError, match="more than 1 files"):
        unpack(path, tmp_path / "out", 0)


@pytest.mark.parametrize("place", ["file:///etc/hostname", "ftp://127.0.0.1/x", "gopher://x"])
def test_other_places_than_the_web_are_refused_at_once(server, tmp_path, place):
    server.redirect = place
    with pytest.raises(UserError, match="cannot be downloaded .* expected an address of http or https") as error:
        fetch(archive(server), tmp_path)
    assert "\n" not in str(error.value)
    assert len(server.asked) == 1
    with pytest.raises(UserError, match=f"dataset.archives.x.url={place}: expected an address of http or https"):
        fetch(archive(server, url=place), tmp_path)
    assert not list(tmp_path.iterdir())


def test_redirects_in_a_circle(server, tmp_path):
    server.redirect = f"{server.url}/deep/x.bin"
    with pytest.raises(UserError, match="cannot be downloaded .*30 redirects"):
        fetch(archive(server), tmp_path)


def test_without_a_checksum_the_measured_one_is_named(server, tmp_path, caplog):
    fetch(archive(server, md5=None), tmp_path)
    known = hashlib.sha256(BIG).hexdigest()
    assert f"dataset.archives.x.sha256={known}" in caplog.text
    caplog.clear()
    fetch(archive(server, md5=None, sha256=known), tmp_path)
    assert not caplog.text
    with pytest.raises(UserError, match="its checksum is not sha256 00"):
        fetch(archive(server, md5=None, sha256="0" * 64), tmp_path)


def test_a_server_that_sends_without_end(server, tmp_path, monkeypatch):
    server.length = False
    monkeypatch.setattr(download, "MAX_DOWNLOAD", 500_000)
    with pytest.raises(UserError, match="x.bin: sends more than 500000 bytes"):
        fetch(archive(server), tmp_path)
    assert len(server.asked) == 1
    assert not list(tmp_path.iterdir())


def test_a_disk_without_room_is_told_before_anything_comes(server, tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=1000))
    with pytest.raises(UserError, match="the rest of http.*/deep/x.bin need at least 1 MB"):
        fetch(archive(server), tmp_path)


def packed(*pieces: bytes) -> bytes:
    """A .tar.gz of raw blocks."""
    return gzip.compress(b"".join(piece + bytes(-len(piece) % 512) for piece in pieces) + bytes(1024))


def header(kind: bytes, size: int, name: str = "a") -> bytes:
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, size
    return info.tobuf(tarfile.GNU_FORMAT)


@pytest.mark.parametrize("kind", [tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XHDTYPE, tarfile.XGLTYPE])
def test_headers_that_fill_the_memory(tmp_path, kind):
    (tmp_path / "x").write_bytes(packed(header(kind, 4_000_000_000), bytes(5_000_000)))
    with pytest.raises(UserError, match=r"cannot be unpacked \(a header of 4000000000 bytes\)"):
        unpack(tmp_path / "x", tmp_path / "out", 0)


def test_long_names_are_read(tmp_path):
    name = "/".join(["n" * 200] * 3)
    for form in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        (tmp_path / "x").write_bytes(gzip.compress(tarfile.TarInfo(name).tobuf(form) + bytes(1024)))
        unpack(tmp_path / "x", tmp_path / f"out{form}", 0)
        assert (tmp_path / f"out{form}" / name).is_file()


@pytest.mark.parametrize("skipped", ["a device with contents", "members without end", "a size in a pax header"])
def test_what_is_left_out_counts_too(tmp_path, skipped, monkeypatch):
    monkeypatch.setattr(download, "SMALL", 100_000)
    match skipped:
        case "a device with contents":
            data = packed(header(b"Z", 3_000_000), bytes(3_000_000))
        case "members without end":
            data = packed(*[header(tarfile.DIRTYPE, 0)] * 10_000)
        case _:
            attributes = b"21 size=100000000000\n"
            data = packed(header(tarfile.XHDTYPE, len(attributes)), attributes, header(b"Z", 0), bytes(3_000_000))
    (tmp_path / "x").write_bytes(data)
    with pytest.raises(UserError, match="x: unpacks to more than 100 times its size"):
        unpack(tmp_path / "x", tmp_path / "out", 0)


def test_sparse_files_are_refused(tmp_path):
    (tmp_path / "x").write_bytes(packed(header(tarfile.GNUTYPE_SPARSE, 0)))
    with pytest.raises(UserError, match="it holds sparse files"):
        unpack(tmp_path / "x", tmp_path / "out", 0)


def test_members_of_a_zip_that_share_their_bytes(tmp_path):
    data = zipped({"a": bytes(50_000), "b": bytes(50_000)}, zipfile.ZIP_DEFLATED)
    central = data.rindex(b"PK\1\2")  # the second entry; 42 bytes on is where its member begins
    (tmp_path / "x").write_bytes(data[: central + 42] + bytes(4) + data[central + 46 :])
    with pytest.raises(UserError, match="x: cannot be unpacked"):
        unpack(tmp_path / "x", tmp_path / "out", 0)


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress, bytes])
def test_every_compression_of_tar(tmp_path, pack):
    (tmp_path / "x").write_bytes(pack(tar({"a": b"1" * 700, "b/c": b"2"})))
    unpack(tmp_path / "x", tmp_path / "out", 0)
    assert (tmp_path / "out/a").read_bytes() == b"1" * 700
    assert (tmp_path / "out/b/c").read_bytes() == b"2"
    (tmp_path / "x").write_bytes(pack(tar({"a": b"1" * 700, "b": BIG[:9000]}))[:4000])
    with pytest.raises(UserError, match="x: cannot be unpacked"):
        unpack(tmp_path / "x", tmp_path / "out2", 0)
