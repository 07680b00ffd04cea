"""`make servers` says what is there, and fails only when it is told to."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.servers import ServerMissing, fetch, kafka, octokit


def _missing() -> Path:
    raise ServerMissing("apt-get install it")


@pytest.fixture(autouse=True)
def items(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("OFEVENTS_SERVERS", str(tmp_path))
    monkeypatch.setattr(fetch, "install_commands", lambda commands: None)
    here = fetch.Item("here", lambda: tmp_path / "here")
    monkeypatch.setattr(fetch, "ITEMS", (here, fetch.Item("elsewhere", _missing)))


@pytest.mark.parametrize(("arguments", "code"), [([], 0), (["--require-servers"], 1)])
def test_the_table_ends_it(
    arguments: list[str], code: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fetch.main(arguments) == code
    assert capsys.readouterr().out.splitlines()[-2:] == [
        f"here       {tmp_path / 'here'}",
        "elsewhere  MISSING: apt-get install it",
    ]


@pytest.mark.parametrize(
    ("get", "package"), [(kafka.jars, "default-jre-headless"), (octokit.file, "npm")]
)
def test_a_missing_command_names_its_package(
    get: object, package: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert callable(get)
    with pytest.raises(ServerMissing, match=f"apt-get install {package}"):
        get()
