"""Every parser of ours answers any input by a value or by an error of its own, in time."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from fade.adapters.adapter_file import read_adapter
from fade.adapters.layers import check_shapes, lora_shapes
from fade.config import MeshConfig, Params
from fade.data.dvcfile import DvcFile, parse_listing, read_dvc_file
from fade.data.manifest import COLUMNS, read_manifest
from fade.data.vocabulary import Concept, Vocabulary
from fade.errors import FadeError
from fade.governance.requests import load_requests
from fade.models.safetensors_file import canonical_safetensors
from fade.provenance.lineage import Lineage
from fade.run.resolve_params import load_params, resolve
from tests.support import tiny_model, tiny_unet
from tests.unit.fuzz.strategies import SCALARS, TEXTS, TOKENS, TREES, changed, files

SECONDS, CHARACTERS = 10.0, 20_000
REPO = Path(__file__).resolve().parents[3]
PARAMS = (REPO / "params.yaml").read_bytes()
DEFAULTS: dict[str, Any] = Params().model_dump(mode="json", by_alias=True)
VOCABULARY = Vocabulary((Concept("panda", ""), Concept("koala", "")))
REQUEST = {
    "id": "p1",
    "concept": "panda",
    "reason": "r",
    "requested_by": "ann",
    "date": "2026-01-02",
    "due": "2026-02-03",
    "replacement": "",
    "method": "nullspace",
    "set": ["train.steps=5"],
    "thresholds": {"erased": 90},
}
ROW = ("noto/panda.png", "panda", "bears", "noto", "noto-emoji", "1.0", "MIT", "0" * 64, "64", "64", "train")
MANIFEST = "\n".join(",".join(line) for line in (COLUMNS, ROW, ROW)).encode()
DVC = (
    b"outs:\n- md5: ddb5b6eddb537a6243ba19681faacea9.dir\n  size: 1\n  nfiles: 2\n  hash: md5\n  path: data\n"
)
LISTING = [{"md5": "0" * 32, "relpath": "noto/panda.png"}, {"md5": "1" * 32, "relpath": "noto/koala.png"}]
LINEAGE = {
    "schema": 1,
    "inputs": {"before": {}, "after": None},
    "code": {"commit": None},
    "seeds": {"train": 0},
}


def answered(work: Callable[[], object]) -> None:
    """The property: a value, or a FadeError of bounded length, in time. Memory is bounded by the fixture."""
    start, message = time.monotonic(), "a value"
    try:
        work()
    except FadeError as error:
        message = str(error)
    assert 0 < len(message) < CHARACTERS
    message.encode("utf-8", "surrogateescape")
    assert time.monotonic() - start < SECONDS


def written(path: Path, body: bytes) -> Path:
    path.write_bytes(body)
    return path


def as_yaml(value: Any) -> bytes:
    return yaml.safe_dump(value, allow_unicode=True).encode("utf-8", "replace")


def as_json(value: Any) -> bytes:
    return json.dumps(value).encode()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


SECTIONS = st.sampled_from(sorted(DEFAULTS)).flatmap(
    lambda name: st.builds(lambda value: {name: value}, st.one_of(changed(DEFAULTS[name]), TREES))
)


@given(files(as_yaml, SECTIONS, PARAMS, b"train: &a {steps: 5}\nmesh: {<<: *a}\n"))
def test_params_yaml(folder: Path, body: bytes) -> None:
    path = written(folder / "params.yaml", body)
    answered(lambda: load_params(path))


KEYS = sorted(
    {f"{name}.{key}" for name, section in DEFAULTS.items() if isinstance(section, dict) for key in section}
)
OVERRIDES = st.one_of(
    TEXTS,
    st.builds("{}={}".format, st.sampled_from(KEYS), TEXTS),
    st.builds(
        "{}={}".format,
        st.sampled_from(KEYS),
        TREES.map(lambda tree: yaml.safe_dump(tree, default_flow_style=True)),
    ),
    st.builds("{}{}={}".format, st.sampled_from(KEYS), TEXTS, TEXTS),
)


@given(st.lists(OVERRIDES, min_size=1, max_size=3))
@example(["settings." + "a." * 9999 + "a=1"])
@example(["train.steps=\udc80"])
def test_overrides(items: list[str]) -> None:
    answered(lambda: resolve(REPO / "params.yaml", items))


REQUESTS = st.builds(
    lambda some: {"requests": some}, st.lists(st.one_of(changed(REQUEST), TREES), max_size=3)
)


@given(files(as_yaml, st.one_of(REQUESTS, TREES), as_yaml({"requests": [REQUEST, {**REQUEST, "id": "p2"}]})))
def test_requests_yaml(folder: Path, body: bytes) -> None:
    path = written(folder / "requests.yaml", body)

    def read() -> None:
        found = load_requests(path, VOCABULARY, lambda items: resolve(REPO / "params.yaml", items))
        for request in found.requests:
            request.fingerprint()
            request.gate(Params().gate)
        found.validated()

    answered(read)


ROWS = st.lists(st.lists(TEXTS, min_size=len(ROW), max_size=len(ROW)), max_size=3)


def as_csv(rows: list[list[str]]) -> bytes:
    return "\n".join([",".join(COLUMNS), *(",".join(row) for row in rows)]).encode("utf-8", "replace")


@given(files(as_csv, ROWS, MANIFEST))
def test_manifest_csv(folder: Path, body: bytes) -> None:
    path = written(folder / "manifest.csv", body)
    answered(lambda: read_manifest(path))
    answered(lambda: Vocabulary.from_file(path))


@given(files(lambda text: text.encode("utf-8", "replace"), TEXTS, b"panda,bears\n# a comment\nkoala,bears\n"))
def test_a_vocabulary(folder: Path, body: bytes) -> None:
    path = written(folder / "vocabulary.txt", body)
    answered(lambda: Vocabulary.from_file(path))


DVC_FILES = st.builds(
    lambda out, more: {"outs": [out], **more},
    changed(yaml.safe_load(DVC)["outs"][0]),
    st.dictionaries(TEXTS, TREES, max_size=1),
)


@given(files(as_yaml, st.one_of(DVC_FILES, TREES), DVC))
def test_a_dvc_file(folder: Path, body: bytes) -> None:
    path = written(folder / "data.dvc", body)
    answered(lambda: read_dvc_file(path))


@given(files(as_json, st.one_of(st.lists(changed(LISTING[0]), max_size=3), TREES), as_json(LISTING)))
def test_a_listing(folder: Path, body: bytes) -> None:
    md5 = hashlib.md5(body, usedforsecurity=False).hexdigest()
    dvcfile = DvcFile(folder / "data.dvc", Path("data"), f"{md5}.dir")

    def read() -> None:
        for name in parse_listing(body, dvcfile, "a remote"):
            assert (folder / "data" / name).resolve().is_relative_to((folder / "data").resolve())

    answered(read)


@given(files(as_json, st.one_of(changed(LINEAGE), TREES), as_json(LINEAGE)))
def test_lineage_json(folder: Path, body: bytes) -> None:
    path = written(folder / "lineage.json", body)
    answered(lambda: Lineage.load(path).sha256())


@pytest.fixture(scope="module")
def model() -> Any:
    return tiny_model(tiny_unet())


@pytest.fixture(scope="module")
def adapter(model: Any) -> bytes:
    """As `LoraAdapter.save` writes it."""
    facts = {"concept": "panda", "base_sha256": "b" * 64, "neighbours": '["koala"]', "seed": "0"}
    facts |= {"rank": "2", "alpha": "2.0", "targets": '["attn2.to_k"]'}
    state = {name: torch.ones(shape) for name, shape in lora_shapes(model, ("attn2.to_k",), 2).items()}
    return canonical_safetensors(state, {f"fade.{key}": value for key, value in facts.items()})


def entries(valid: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    """The header of a safetensors file with some of its facts and of its tensors' entries changed."""
    facts = valid["__metadata__"]
    texts = st.one_of(TEXTS, SCALARS.map(str), TREES.map(json.dumps))
    new = st.fixed_dictionaries({}, optional=dict.fromkeys(facts, texts))
    tensors = {name: changed(entry) for name, entry in valid.items() if name != "__metadata__"}
    some = st.fixed_dictionaries({}, optional={name: st.one_of(one, TREES) for name, one in tensors.items()})
    return st.builds(lambda new, some: {**valid, **some, "__metadata__": {**facts, **new}}, new, some)


@given(data=st.data())
def test_an_adapter_file(folder: Path, adapter: bytes, model: Any, data: st.DataObject) -> None:
    length = int.from_bytes(adapter[:8], "little")
    head = json.loads(adapter[8 : 8 + length])

    def framed(content: Any) -> bytes:
        text = json.dumps(content).encode()
        return len(text).to_bytes(8, "little") + text + adapter[8 + length :]

    body = data.draw(files(framed, st.one_of(entries(head), TREES), adapter))
    path = written(folder / "a.safetensors", body)

    def read() -> None:
        facts, state = read_adapter(path)
        mesh = MeshConfig(rank=int(facts["rank"]), alpha=1.0, targets=tuple(json.loads(facts["targets"])))
        check_shapes(lora_shapes(model, mesh.targets, mesh.rank), state)

    answered(read)


def test_control_the_valid_files_are_read(folder: Path, adapter: bytes) -> None:
    """The files that are changed above; and the property can fail."""
    shipped = load_params(written(folder / "params.yaml", PARAMS))
    default = Params.model_validate({"data": {"second_judge": shipped.data.second_judge}})
    assert shipped.model_copy(update={"worlds": {}}) == default and shipped.worlds
    valid = written(folder / "requests.yaml", as_yaml({"requests": [REQUEST]}))
    assert load_requests(valid, VOCABULARY).validated().requests
    assert len(read_manifest(written(folder / "manifest.csv", MANIFEST))) == 2
    assert read_dvc_file(written(folder / "data.dvc", DVC)).output == Path("data")
    assert Lineage.load(written(folder / "lineage.json", as_json(LINEAGE))).content == LINEAGE
    assert read_adapter(written(folder / "a.safetensors", adapter))[0]["concept"] == "panda"
    assert len(TOKENS) > 60
    with pytest.raises(KeyError):
        answered(lambda: {}["x"])
