"""A worker puts the Secrets that its spec names in place, from the files of its Pod."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ofevents.api.resolved import ResolvedSource
from ofevents.api.secretref import marker, markers, only, replace
from ofevents.errors import ConfigError
from ofevents.local.single import read

PEM = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"


def write(folder: Path, **own: object) -> Path:
    spec = ResolvedSource(namespace="shop", name="orders", source="kafka", entry="in", spec=own)
    path = folder / "spec.json"
    path.write_text(json.dumps(spec.model_dump(mode="json")))
    return path


def test_a_marker_becomes_what_the_file_holds(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        saslPassword=marker("kafka", "password"),
        tls={"ca": marker("kafka", "ca.crt")},
        literal="$(secret:kafka/password)",
    )
    (tmp_path / "secrets/kafka").mkdir(parents=True)
    (tmp_path / "secrets/kafka/password").write_text("hün\nter2\n")
    (tmp_path / "secrets/kafka/ca.crt").write_text(PEM)
    spec = read(path, "EventSource", tmp_path / "secrets")
    assert isinstance(spec, ResolvedSource)
    assert spec.spec == {
        "saslPassword": "hün\nter2\n",
        "tls": {"ca": PEM},
        "literal": "$(secret:kafka/password)",
    }


def test_the_environment_says_where_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path, token=marker("kafka", "token"))
    (tmp_path / "kafka").mkdir()
    (tmp_path / "kafka/token").write_text("t")
    monkeypatch.setenv("OFEVENTS_SECRETS", str(tmp_path))
    spec = read(path, "EventSource")
    assert isinstance(spec, ResolvedSource) and spec.spec == {"token": "t"}


@pytest.mark.parametrize("name", ["kafka", ".."])
def test_one_that_is_not_there_is_named(tmp_path: Path, name: str) -> None:
    path = write(tmp_path, token=marker(name, "token"))
    with pytest.raises(ConfigError, match="token"):
        read(path, "EventSource", tmp_path)


@given(st.text(st.characters(exclude_characters="\0")))
def test_no_text_of_people_is_a_marker(text: str) -> None:
    assert not markers({"a": [text]})
    assert replace(text, lambda name, key: "x") == text


def test_what_a_marker_names_is_found() -> None:
    value = {"a": [f"Bearer {marker('n', 'k')}", marker("m", "k.1")], "b": 1}
    assert markers(value) == {("n", "k"), ("m", "k.1")}
    assert only(marker("n", "k")) == ("n", "k")
    assert only(f"Bearer {marker('n', 'k')}") is None
