"""Fetching weights from a server on loopback that behaves as badly as real ones."""

import hashlib
import io
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from ssd.config.weights import Fetching, Weights
from ssd.utils.errors import UserError
from ssd.weights.cache import CHECKSUMS, addresses, fetch, find, place_of

DATA = np.random.default_rng(0).bytes(300_000)
SHA1, SHA256 = hashlib.sha1(DATA).hexdigest(), hashlib.sha256(DATA).hexdigest()
Register = Callable[..., Weights]


def zipped(files: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", compression) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return out.getvalue()


@pytest.fixture
def entry(server: SimpleNamespace, register: Register, cache: Path) -> Callable[..., Weights]:
    """entry(key=value…): one whose archive the server has."""
    server.files["/x.zip"] = zipped({"deep/x-1234.params": DATA, "README": b"text"})
    keys = {"backbones": ["small"], "format": "gluon", "url": [f"{server.url}/x.zip"], "member": "x-1234.params"}
    return lambda **changed: register("own/x", **{**keys, "sha1": SHA1, **changed})


def left(folder: Path) -> set[str]:
    """Files of an entry in the cache, but for the lock."""
    return {path.name for path in folder.iterdir()} - {".lock"} if folder.is_dir() else set()


def failure(entry: Weights, offline: bool = False) -> str:
    with pytest.raises(UserError) as caught:
        fetch(entry, Fetching(offline=offline))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_an_archive_is_fetched_once_and_verified_each_time(entry: Any, server: SimpleNamespace) -> None:
    one = entry()
    file = fetch(one, Fetching())
    assert file.read_bytes() == DATA
    assert file == place_of(one) / "x-1234.params"
    assert left(place_of(one)) == {"x-1234.params", CHECKSUMS}
    assert fetch(one, Fetching(offline=True)) == file
    assert len(server.asked) == 1
    file.write_bytes(DATA[:-1] + b"?")
    assert f"published is {SHA1}: it came damaged or was replaced; delete {file}" in failure(one)


def test_a_file_that_is_no_archive(entry: Any, server: SimpleNamespace) -> None:
    server.files["/y.safetensors"] = DATA
    one = entry(url=[f"{server.url}/y.safetensors"], member=None, sha1=None, sha256=SHA256)
    assert fetch(one, Fetching()).name == "y.safetensors"
    assert find(one) == place_of(one) / "y.safetensors"


def test_a_connection_that_breaks_is_resumed(entry: Any, server: SimpleNamespace) -> None:
    server.cut = 100_000
    assert fetch(entry(), Fetching()).read_bytes() == DATA
    assert [wanted for _, wanted in server.asked] == [None, "bytes=100000-", "bytes=200000-", "bytes=300000-"]


def test_a_connection_that_always_breaks(entry: Any, server: SimpleNamespace) -> None:
    server.cut = 0
    one = entry()
    text = failure(one)
    assert "the download broke off 6 times" in text
    assert f"or put x.zip, or the file x-1234.params out of it, into {place_of(one)}" in text
    assert left(place_of(one)) <= {".x.zip.part"}  # which the next try resumes
    assert find(one) is None


def test_nobody_there(entry: Any, server: SimpleNamespace) -> None:
    one = entry(url=["http://127.0.0.1:9/x.zip"])
    assert f"into {place_of(one)}" in failure(one)
    assert find(one) is None
    text = failure(one, offline=True)
    assert "not in the cache, and init.offline=true; put x.zip, or the file x-1234.params out of it, into" in text


def test_what_a_user_puts_there_counts(entry: Any, server: SimpleNamespace) -> None:
    one = entry()
    place_of(one).mkdir(parents=True)
    (place_of(one) / "x.zip").write_bytes(server.files["/x.zip"])
    assert fetch(one, Fetching(offline=True)).read_bytes() == DATA
    shutil.rmtree(place_of(one))
    place_of(one).mkdir()
    (place_of(one) / "x-1234.params").write_bytes(DATA)
    assert fetch(one, Fetching(offline=True)).read_bytes() == DATA
    assert not server.asked


def test_a_file_for_other_programs_names_how_it_is_made(entry: Any) -> None:
    one = entry(url=[], member=None, file="x.safetensors", made_by="save_file(…)")
    assert failure(one).endswith(f"put x.safetensors, made by save_file(…), into {place_of(one)}")


@pytest.mark.parametrize("digits", [SHA1[:8], SHA1])
def test_another_checksum(entry: Any, server: SimpleNamespace, digits: str) -> None:
    server.files["/x.zip"] = zipped({"x-1234.params": DATA[:-1] + b"?"})
    one = entry(sha1=digits)
    text = failure(one)
    assert f"published is {digits}: it came damaged or was replaced" in text
    assert f"into {place_of(one)}" in text
    assert left(place_of(one)) == set()


def test_a_second_address_helps(entry: Any, server: SimpleNamespace) -> None:
    server.files["/bad/x.zip"] = zipped({"x-1234.params": b"?"})
    one = entry(url=[f"{server.url}/none/x.zip", f"{server.url}/bad/x.zip", f"{server.url}/x.zip"])
    assert fetch(one, Fetching()).read_bytes() == DATA
    text = failure(entry(url=[f"{server.url}/none/x.zip", f"{server.url}/bad/x.zip"], member="other"))
    assert "(1 other addresses failed, too)" in text


def test_without_a_published_checksum_the_first_one_counts(
    entry: Any, server: SimpleNamespace, caplog: pytest.LogCaptureFixture
) -> None:
    one = entry(sha1=None)
    file = fetch(one, Fetching())
    (told,) = [line for line in caplog.messages if "no checksum" in line]
    assert SHA256 in told
    assert json.loads((place_of(one) / CHECKSUMS).read_text()) == {"x-1234.params": SHA256}
    file.unlink()  # what is fetched again must be the same
    server.files["/x.zip"] = zipped({"x-1234.params": b"replaced"})
    assert f"recorded in {place_of(one) / CHECKSUMS} is {SHA256}" in failure(one)
    assert find(one) is None


def test_the_first_digits_are_checked_and_then_all(entry: Any, server: SimpleNamespace) -> None:
    fetch(one := entry(sha1=SHA1[:8]), Fetching())
    assert json.loads((place_of(one) / CHECKSUMS).read_text()) == {"x-1234.params": SHA256}


@pytest.mark.parametrize(
    ("content", "part"),
    [
        (b"hello", "cannot be unpacked"),
        (zipped({"a": b"1", "b": b"2"}), "holds 0 files like x-1234.params, expected one (a, b)"),
        (zipped({"a/x-1234.params": b"1", "b/x-1234.params": b"2"}), "holds 2 files like x-1234.params"),
        (zipped({"x-1234.params": bytes(3_000_000)}, zipfile.ZIP_DEFLATED), "more than 2 MB, which no weights have"),
    ],
)
def test_archives_that_are_none(
    entry: Any, server: SimpleNamespace, content: bytes, part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ssd.weights.cache.MAX_BYTES", 2_000_000)
    server.files["/x.zip"] = content
    assert part in failure(one := entry())
    assert left(place_of(one)) == set()


def test_names_of_an_archive_do_not_lead_elsewhere(entry: Any, server: SimpleNamespace, cache: Path) -> None:
    server.files["/x.zip"] = zipped({"../../../evil.params": DATA})
    one = entry(member="*.params", sha1=None)
    assert fetch(one, Fetching()) == place_of(one) / "evil.params"
    assert not list(cache.parent.glob("*.params"))
    (place_of(one) / "evil.params").unlink()
    server.files["/x.zip"] = zipped({"a\\..\\b.params": DATA})
    assert "which is no name of a file of weights" in failure(one)


def test_the_graph_beside_is_checked_too(entry: Any, server: SimpleNamespace) -> None:
    server.files["/x.zip"] = zipped({"x-1234.params": DATA, "x-symbol.json": b"{}"})
    one = entry(graph="*.json")
    file = fetch(one, Fetching())
    assert left(place_of(one)) == {"x-1234.params", "x-symbol.json", CHECKSUMS}
    file.with_name("x-symbol.json").write_text("[]")
    assert "x-symbol.json: its sha256 is" in failure(one)


def test_more_than_was_published(entry: Any, server: SimpleNamespace) -> None:
    size = len(server.files["/x.zip"])
    assert "sends more than" in failure(entry(size=size - 1))
    assert f"{size} bytes came, expected {size + 1}" in failure(entry(size=size + 1))
    assert fetch(entry(size=size), Fetching()).read_bytes() == DATA


def test_a_full_disk(entry: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    one = entry()
    usage = shutil.disk_usage(".")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    assert "the disk has 0 MB free" in failure(one)
    assert left(place_of(one)) == set()


def test_a_disk_that_is_full_while_it_is_written(entry: Any, cache: Path) -> None:
    """A process that may not write files of more than 100 kB gets an error of the system in the middle."""
    one = entry()
    code = f"""
from pathlib import Path
from ssd.config import weights
weights.folders = lambda: [Path({str(one.path.parents[1])!r})]
from ssd.weights.cache import fetch
fetch(weights.read_entry("own/x"), weights.Fetching())
"""

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    command = [sys.executable, "-B", "-c", code]
    done = subprocess.run(
        command, capture_output=True, text=True, preexec_fn=limit, env=os.environ | {"SSD_CACHE": str(cache)}
    )
    assert f"weights own/x: cannot write {place_of(one)} (File too large); SSD_CACHE=DIRECTORY names another place" \
        in done.stderr  # fmt: skip
    assert left(place_of(one)) == set()


def test_a_cache_that_cannot_be_written(entry: Any, cache: Path) -> None:
    cache.write_text("a file")
    assert "SSD_CACHE=DIRECTORY names another place" in failure(entry())


def test_two_at_once_fetch_it_once(entry: Any, server: SimpleNamespace) -> None:
    one = entry()
    server.gate.clear()
    found: list[Path] = []
    threads = [threading.Thread(target=lambda: found.append(fetch(one, Fetching()))) for _ in range(2)]
    for thread in threads:
        thread.start()
    server.gate.set()
    for thread in threads:
        thread.join(60)
    assert [file.read_bytes() == DATA for file in found] == [True, True]
    assert len(server.asked) == 1
    assert left(place_of(one)) == {"x-1234.params", CHECKSUMS}


def test_mirrors(entry: Any, server: SimpleNamespace, register: Register, monkeypatch: pytest.MonkeyPatch) -> None:
    server.files["/mirror/x.zip"] = server.files.pop("/x.zip")
    assert "init.mirror names another source" in failure(one := entry())
    assert fetch(one, Fetching(mirror=f"{server.url}/mirror/")).read_bytes() == DATA
    zoo = register("gluon/resnet50_v2")
    assert addresses(zoo, None)[0].startswith("https://apache-mxnet.s3-accelerate")
    monkeypatch.setenv("MXNET_GLUON_REPO", "http://here/repo")
    assert addresses(zoo, None) == ["http://here/repo/gluon/models/resnet50_v2-ecdde353.zip"]
    assert addresses(one, None) == list(one.url)


def test_a_file_of_this_machine(entry: Any, tmp_path: Path) -> None:
    (tmp_path / "my weights.params").write_bytes(DATA)
    url = (tmp_path / "my weights.params").as_uri()
    one = entry(url=[url], member=None, file="x.params")
    assert fetch(one, Fetching()).read_bytes() == DATA
    assert "cannot be read" in failure(entry(url=[f"{url}.none"], member=None, file="y.params"))
