"""The key that task 0 of a Slurm job leaves for the others."""

import os
import re
from pathlib import Path

import pytest

from ssd.launch.secret import Secret
from ssd.utils.errors import UserError


@pytest.fixture
def secret(tmp_path: Path) -> Secret:
    return Secret(None, tmp_path / "shared" / ".cluster-1.0-0.key")


def file_of(secret: Secret) -> Path:
    assert secret.file
    return secret.file


def test_a_file_for_this_user_alone_that_goes_with_its_run(secret: Secret) -> None:
    with pytest.raises(FileNotFoundError):
        secret.current()
    key = secret.publish()
    assert re.fullmatch("[0-9a-f]{64}", key)
    assert file_of(secret).stat().st_mode & 0o777 == 0o600
    assert secret.current() == key == Secret.read(secret.facts).current()
    secret.withdraw(key)
    assert list(file_of(secret).parent.iterdir()) == []


def test_the_file_of_an_earlier_start_is_replaced_and_the_one_of_a_later_start_stays(secret: Secret) -> None:
    earlier = secret.publish()
    later = secret.publish()
    assert earlier != later == secret.current()
    secret.withdraw(earlier)
    assert secret.current() == later


def test_a_key_that_is_handed_over_needs_no_file() -> None:
    secret = Secret.read(Secret("known").facts)
    assert secret.publish() == secret.current() == "known"
    secret.withdraw("known")


def test_a_file_that_is_being_written_is_not_there_yet(secret: Secret) -> None:
    key = secret.publish()
    for part in ("", key[:-1], key):
        file_of(secret).write_text(part)
        with pytest.raises(FileNotFoundError):
            secret.current()


def _open(file: Path) -> None:
    file.chmod(0o640)


def _link(file: Path) -> None:
    file.rename(file.with_suffix(".real"))
    file.symlink_to(file.with_suffix(".real"))


def _second_name(file: Path) -> None:
    os.link(file, file.with_suffix(".other"))


def _pipe(file: Path) -> None:
    file.unlink()
    os.mkfifo(file, 0o600)


@pytest.mark.parametrize(
    ("change", "part"),
    [(_open, "has mode 640"), (_link, "is a link"), (_second_name, "is no plain file"), (_pipe, "is no plain file")],
)
def test_files_that_are_not_trusted(secret: Secret, change, part: str) -> None:
    secret.publish()
    change(file_of(secret))
    with pytest.raises(UserError, match=part):
        secret.current()


def test_a_file_of_another_user_is_not_trusted(secret: Secret, monkeypatch: pytest.MonkeyPatch) -> None:
    secret.publish()
    monkeypatch.setattr("ssd.launch.secret.os.geteuid", lambda: os.getuid() + 1)
    with pytest.raises(UserError, match=r"belongs to user \d+, so user \d+ does not trust it"):
        secret.current()


def test_a_link_in_its_place_is_not_written_through(secret: Secret, tmp_path: Path) -> None:
    file_of(secret).parent.mkdir()
    (tmp_path / "precious").write_text("mine")
    file_of(secret).symlink_to(tmp_path / "precious")
    secret.publish()
    assert (tmp_path / "precious").read_text() == "mine"
    assert not file_of(secret).is_symlink()


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be left there .*SSD_CLUSTER_KEY"):
        Secret(None, tmp_path / "file" / "x.key").publish()
