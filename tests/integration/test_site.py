"""A site of a real registry: what it shows, that it is verified without the registry, and that every
change of it is refused by name."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fade.errors import (
    AuditError,
    FadeError,
    PromotionError,
    RegistryError,
    RequestError,
    SignatureError,
    UsageError,
)
from fade.utils.hashing import canonical
from flows.service.publish import published as site_after
from flows.site import make_site, verify_site
from tasks.registry.connection import connect
from tasks.registry.models import ensure_model
from tasks.registry.signing import make_keys
from tasks.release.site_folder import MANIFEST, SIGNATURE, write_manifest
from tests.published import Published, published

pytestmark = pytest.mark.usefixtures("alone")


@pytest.fixture(scope="module")
def team(tmp_path_factory: pytest.TempPathFactory) -> Published:
    """A registry with champions, a release, decisions, an audit and requests."""
    return published(tmp_path_factory.mktemp("team") / "project")


@pytest.fixture(scope="module")
def original(team: Published, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its site, signed; tests work on copies."""
    folder = tmp_path_factory.mktemp("site") / "public"
    make_site(team.project, folder)
    return folder


@pytest.fixture
def copy(original: Path, tmp_path: Path) -> Path:
    return shutil.copytree(original, tmp_path / "copy")


def content(folder: Path, name: str) -> Any:
    return json.loads((folder / name).read_text(encoding="utf-8"))


def edit(folder: Path, name: str, change: Callable[[Any], None]) -> None:
    """Edit a JSON file of the site."""
    value = content(folder, name)
    change(value)
    (folder / name).write_text(canonical(value) + "\n", encoding="utf-8")


def test_the_pages_show_requests_champions_releases_and_audits(team: Published, original: Path) -> None:
    data = content(original, "data.json")
    states = {one["id"]: (one["state"], one["overdue"]) for one in data["requests"]}
    assert states == {
        "panda-1": ("done", False),
        "koala-1": ("open", False),
        "tiger-1": ("open", True),
        "lion-1": ("failed", False),
    }
    versions = {f"{one['name']}/{one['number']}": one for one in data["versions"]}
    assert {label: one["state"] for label, one in versions.items()} == {
        "fade-koala/1": "champion",
        "fade-panda/1": "champion",
        "fade-panda/2": "rejected",
        "fade.release/1": "champion",
    }
    assert versions["fade.release/1"]["parts"] == ["fade-koala/1", "fade-panda/1"]
    assert [one["what"] for one in versions["fade-panda/1"]["audits"]] == ["evidence holds"]
    numbers = [(one["title"], one["original"], one["erased"]) for one in versions["fade-panda/2"]["numbers"]]
    assert numbers[0] == ("Target erased", 0.0, 100.0) and ("Held-out neighbours", 100.0, 61.0) in numbers
    assert data["problems"] == []
    page = (original / "versions" / "fade-panda-1.html").read_text(encoding="utf-8")
    tags = connect(team.project.runs).client.get_model_version("fade-panda", "1").tags
    for text in (tags["adapter_sha256"], "../requests/panda-1.html", "fade.release-1.html", "carl"):
        assert text in page
    picture = original / "pictures" / "fade-panda-1" / "before-after.png"
    assert picture.read_bytes().startswith(b"\x89PNG") and f"../{picture.relative_to(original)}" in page
    assert "&lt;b&gt;the licence" in (original / "requests.html").read_text(encoding="utf-8")


def test_the_evidence_holds_records_and_signatures_as_stored(team: Published, original: Path) -> None:
    client = connect(team.project.runs).client
    stored = client.get_model_version("fade-panda.decisions", "1").tags
    model = content(original, "evidence/models/fade-panda.decisions.json")
    assert model["versions"][0]["tags"] == stored and stored["signature"]
    assert model["tags"]["head"].startswith("2:")
    assert (original / "evidence" / "public_key.pem").read_bytes() == team.public_key.read_bytes()
    for folder in ("records", "signatures"):
        assert len(list((original / "evidence" / folder).iterdir())) == 4
    manifest = (original / MANIFEST).read_text(encoding="utf-8")
    assert manifest == canonical(json.loads(manifest)) + "\n"


def test_a_site_is_verified_with_and_without_the_key(team: Published, original: Path) -> None:
    rows = {row["what"]: row["found"] for row in verify_site(original, str(team.public_key))}
    assert list(rows) == ["manifest", "signature", "logs", "records", "pages"]
    assert "unbroken, " in rows["logs"] and "byte for byte" in rows["pages"]
    assert "by the key that was given" in rows["logs"]
    rows = {row["what"]: row["found"] for row in verify_site(original)}
    assert "not verified" in rows["signature"] and "not verified" in rows["logs"]


def test_the_command_line_makes_and_verifies(team: Published, tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from flows.cli import app

    place, out = team.project, tmp_path / "public"
    line = ["site", "--out", str(out), "--params", str(place.params_file), "--runs-dir", str(place.runs)]
    made = CliRunner().invoke(app, [*line, "--json"])
    assert made.exit_code == 0, made.output
    assert json.loads(made.stdout)["signed"] is True
    verify = ["site", "verify", str(out), "--public-key", str(team.public_key)]
    done = CliRunner().invoke(app, [*verify, "--json"])
    assert [row["what"] for row in json.loads(done.stdout)][-1] == "pages"
    (out / "index.html").write_text("<p>all is well")
    assert isinstance(CliRunner().invoke(app, verify).exception, AuditError)


def test_a_scheduled_run_that_failed_has_its_site_and_a_site_that_fails_fails_no_run(
    team: Published, tmp_path: Path
) -> None:
    with pytest.raises(RequestError, match="p1 fell short"), site_after(team.project, str(tmp_path / "site")):
        raise RequestError("p1 fell short.")
    assert (tmp_path / "site" / "index.html").is_file()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("mine")
    with site_after(team.project, str(tmp_path / "other")):
        pass
    assert [path.name for path in (tmp_path / "other").iterdir()] == ["thesis.txt"]
    with site_after(team.project, ""):
        pass


def test_the_same_registry_gives_the_same_bytes(team: Published, original: Path, tmp_path: Path) -> None:
    make_site(team.project, tmp_path / "second")
    shutil.copytree(original, tmp_path / "first")
    names = [path.relative_to(original) for path in original.rglob("*") if path.is_file()]
    different = [
        str(name)
        for name in names
        if (original / name).read_bytes() != (tmp_path / "second" / name).read_bytes()
    ]
    assert set(different) <= {"evidence/site.json", "index.html", MANIFEST, SIGNATURE}
    first, second = (content(tmp_path / one, "evidence/site.json") for one in ("first", "second"))
    assert {**first, "made_at": ""} == {**second, "made_at": ""}


def test_one_byte_of_any_file_is_refused_by_its_name(team: Published, copy: Path) -> None:
    for name in ("index.html", "versions/fade-panda-1.html", "evidence/records/fade-panda-1.json",
                 "assets/site.js", "pictures/fade-panda-1/before-after.png"):  # fmt: skip
        path = copy / name
        body = path.read_bytes()
        path.write_bytes(body[:-9] + bytes([body[-9] ^ 1]) + body[-8:])
        with pytest.raises(AuditError, match=f"{name} has other bytes"):
            verify_site(copy, str(team.public_key))
        path.write_bytes(body)
    verify_site(copy, str(team.public_key))


def test_files_that_are_missing_or_additional_are_refused_by_name(copy: Path, tmp_path: Path) -> None:
    (copy / "more.html").write_text("<p>trust me")
    with pytest.raises(AuditError, match=r"more\.html is not of the manifest"):
        verify_site(copy)
    (copy / "more.html").unlink()
    (copy / "more").symlink_to(tmp_path)
    with pytest.raises(AuditError, match="more is no regular file"):
        verify_site(copy)
    (copy / "more").unlink()
    (copy / "audits.html").unlink()
    with pytest.raises(AuditError, match=r"audits\.html is missing"):
        verify_site(copy)


def sparse(path: Path) -> None:
    with path.open("wb") as stream:
        stream.truncate(6 << 30)


@pytest.mark.parametrize("name", [MANIFEST, SIGNATURE, "evidence/requests.json"])
@pytest.mark.parametrize(
    "put",
    [os.mkfifo, sparse, lambda path: path.symlink_to("/dev/zero")],
    ids=["a pipe", "six gigabytes", "a link to a device"],
)
def test_a_file_that_would_never_end_is_refused(
    team: Published, copy: Path, name: str, put: Callable[[Path], None]
) -> None:
    (copy / name).unlink()
    put(copy / name)
    with pytest.raises((AuditError, SignatureError), match=name):
        verify_site(copy, str(team.public_key))


def drop(index: int) -> Callable[[Any], None]:
    return lambda model: model["versions"].pop(index)


def set_tag(index: int, key: str, value: str) -> Callable[[Any], None]:
    return lambda model: model["versions"][index]["tags"].update({key: value})


def reword(index: int, key: str) -> Callable[[Any], None]:
    def change(model: Any) -> None:
        tags = model["versions"][index]["tags"]
        tags[key] = tags[key].replace("ann", "eve")

    return change


@pytest.mark.parametrize(
    ("name", "change", "error", "sentence"),
    [
        ("models/fade-panda.decisions", drop(0), PromotionError, "decision 1 is missing"),
        ("models/fade-panda.decisions", drop(-1), PromotionError, "decision 2 was edited, or is"),
        ("models/fade-panda.decisions", reword(0, "decision"), PromotionError, "decision 1 was edited"),
        ("models/fade-panda.audits", drop(0), FadeError, "fade-panda"),
        ("models/fade.request.panda-1", drop(1), RegistryError, "fade.request.panda-1"),
        ("models/fade-panda", set_tag(0, "data_md5", "0" * 32), AuditError, "fade-panda/1: its tag data_md5"),
        ("models/fade-panda", set_tag(0, "target", "lemon"), AuditError, "does not show|target is lemon"),
        ("requests", lambda rows: rows["requests"].pop(), AuditError, "does not show what the evidence"),
    ],
    ids=[
        "deleted entry",
        "cut log",
        "edited entry",
        "cut audits",
        "deleted event",
        "tag",
        "concept",
        "request",
    ],
)
def test_evidence_that_was_changed_together_with_an_unsigned_manifest_is_refused(
    team: Published, copy: Path, name: str, change: Any, error: type[FadeError], sentence: str
) -> None:
    edit(copy, f"evidence/{name}.json", change)
    (copy / SIGNATURE).unlink()
    write_manifest(copy)
    with pytest.raises(error, match=sentence):
        verify_site(copy)
    with pytest.raises(SignatureError, match="is not signed"):
        verify_site(copy, str(team.public_key))


def test_a_record_page_or_data_file_changed_with_the_manifest_is_refused(copy: Path) -> None:
    record = copy / "evidence" / "records" / "fade-panda-1.json"
    whole = record.read_text(encoding="utf-8")
    record.write_text(whole.replace('"A_er":100.0', '"A_er":100.5'), encoding="utf-8")
    write_manifest(copy)
    with pytest.raises(AuditError, match="fade-panda/1: its tag lineage_sha256"):
        verify_site(copy)
    record.write_text(whole, encoding="utf-8")
    for name in ("data.json", "champions.html"):
        path = copy / name
        text = path.read_text(encoding="utf-8")
        path.write_text(text.replace("fade-panda/1", "fade-panda/2"), encoding="utf-8")
        write_manifest(copy)
        with pytest.raises(AuditError, match=f"{name} does not show what the evidence holds"):
            verify_site(copy)
        path.write_text(text, encoding="utf-8")
    write_manifest(copy)
    verify_site(copy)


def test_a_log_that_is_gone_is_missed_by_the_witness(team: Published, copy: Path) -> None:
    (copy / "evidence" / "models" / "fade-panda.decisions.json").unlink()
    write_manifest(copy)
    with pytest.raises(AuditError, match="decision 2 was edited, or is missing"):
        verify_site(copy)


def test_a_signature_of_another_manifest_or_key_is_refused(
    team: Published, original: Path, copy: Path, tmp_path: Path
) -> None:
    edit(copy, "evidence/requests.json", lambda rows: rows["requests"].pop())
    write_manifest(copy)
    with pytest.raises(SignatureError, match=r"does not verify manifest\.json"):
        verify_site(copy, str(team.public_key))
    private, public = make_keys(tmp_path, "other")
    with pytest.raises(SignatureError, match=r"does not verify manifest\.json"):
        verify_site(original, str(public))
    write_manifest(copy, str(private))
    with pytest.raises(SignatureError, match=r"public_key\.pem is another key"):
        verify_site(copy, str(public))


def test_the_evidence_of_another_site_is_refused(
    team: Published, copy: Path, tmp_path: Path, original: Path
) -> None:
    shutil.rmtree(copy / "evidence" / "models")
    shutil.copytree(original / "evidence" / "models", copy / "evidence" / "models")
    verify_site(copy)
    edit(copy, "evidence/models/fade-koala.json", set_tag(0, "seed", "99"))
    other = shutil.copytree(copy, tmp_path / "other")
    with pytest.raises(AuditError, match=r"fade-koala\.json has other bytes"):
        verify_site(other, str(team.public_key))
    (other / "evidence" / "models" / "fade-koala.json").rename(other / "evidence" / "models" / "fade-x.json")
    write_manifest(other)
    with pytest.raises(RegistryError, match=r"fade-x\.json is no model"):
        verify_site(other)


def test_one_bad_record_hides_no_other_and_is_named(team: Published, tmp_path: Path) -> None:
    """A broken log, a record that is no record, tags that are no JSON, a version without a run."""
    runs = shutil.copytree(team.project.runs, tmp_path / "runs")
    place = replace(team.project, runs=runs)
    client = connect(runs).client
    client.set_model_version_tag("fade-koala.decisions", "1", "decision", "nonsense")
    client.set_model_version_tag("fade-panda", "2", "neighbours", "{")
    client.set_model_version_tag("fade.request.tiger-1", "1", "event", "{}")
    ensure_model(connect(runs), "fade-stranger")
    client.create_model_version("fade-stranger", "somewhere:/else", tags={"target": "\u202e<script>"})
    made = make_site(place, tmp_path / "out")
    problems = {one["what"]: one["why"] for one in made["problems"]}
    named = {"fade-koala.decisions", "fade.release/1", "fade-panda/2", "fade-stranger/1", "request tiger-1"}
    assert named <= set(problems) and "fade-panda/1" not in problems
    data = content(tmp_path / "out", "data.json")
    states = {f"{one['name']}/{one['number']}": one["state"] for one in data["versions"]}
    assert states["fade-koala/1"] == "unreadable" and states["fade-panda/1"] == "champion"
    requests = {one["id"]: one["state"] for one in data["requests"]}
    assert requests["tiger-1"] == "unreadable" and requests["panda-1"] == "done"
    with pytest.raises(FadeError, match=r"decision 1 cannot be read"):
        verify_site(tmp_path / "out")


def test_a_broken_log_costs_the_requests_of_its_model_alone(team: Published, tmp_path: Path) -> None:
    runs = shutil.copytree(team.project.runs, tmp_path / "runs")
    place = replace(team.project, runs=runs)
    connect(runs).client.set_model_version_tag("fade-panda.decisions", "1", "decision", "{}")
    made = make_site(place, tmp_path / "out", pictures=False)
    assert {one["what"] for one in made["problems"]} >= {"fade-panda.decisions", "fade.release/1"}
    requests = {one["id"]: one["state"] for one in content(tmp_path / "out", "data.json")["requests"]}
    assert requests.pop("panda-1") in ("unreadable", "faulty")
    assert requests == {"koala-1": "open", "tiger-1": "open", "lion-1": "failed"}
    page = (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    assert "decision 1 cannot be read" in page and str(tmp_path) not in page


def test_a_site_that_shows_unreadable_records_is_not_verified_in_silence(
    team: Published, tmp_path: Path
) -> None:
    runs = shutil.copytree(team.project.runs, tmp_path / "runs")
    place = replace(team.project, runs=runs)
    ensure_model(connect(runs), "fade-stranger")
    connect(runs).client.create_model_version("fade-stranger", "somewhere:/else")
    make_site(place, tmp_path / "out", pictures=False)
    with pytest.raises(AuditError, match="cannot be read, as the pages show: fade-stranger/1"):
        verify_site(tmp_path / "out", str(team.public_key))


@pytest.mark.parametrize("name", ["requests", "site", "models/fade-panda"])
@pytest.mark.parametrize("text", ["[]", "{}", "[" * 100_000, '{"requests": [3], "problems": 4}', "\x00"])
def test_evidence_that_is_no_evidence_is_a_sentence(copy: Path, name: str, text: str) -> None:
    (copy / "evidence" / f"{name}.json").write_text(text, encoding="utf-8")
    (copy / SIGNATURE).unlink()
    write_manifest(copy)
    with pytest.raises((AuditError, RegistryError)):
        verify_site(copy)


@pytest.mark.parametrize("problems", ["[{}]", "5", "[1]", '[{"what": 1}]'])
def test_data_of_another_shape_are_a_sentence(copy: Path, problems: str) -> None:
    (copy / "data.json").write_text(f'{{"problems": {problems}}}', encoding="utf-8")
    (copy / SIGNATURE).unlink()
    write_manifest(copy)
    with pytest.raises(AuditError):
        verify_site(copy)


@pytest.mark.parametrize("number", ["Infinity", "-Infinity", "NaN", "1e999"])
@pytest.mark.parametrize("key", ["version", "created"])
def test_a_number_without_end_is_a_sentence(copy: Path, key: str, number: str) -> None:
    path = copy / "evidence" / "models" / "fade-panda.json"
    path.write_text(re.sub(rf'"{key}": ?\d+', f'"{key}":{number}', path.read_text(), count=1))
    (copy / SIGNATURE).unlink()
    write_manifest(copy)
    with pytest.raises((AuditError, RegistryError), match=r"fade-panda\.json"):
        verify_site(copy)


def test_a_folder_of_somebody_else_is_never_touched(team: Published, original: Path, tmp_path: Path) -> None:
    stranger = tmp_path / "home"
    stranger.mkdir()
    (stranger / "thesis.txt").write_text("years of work")
    with pytest.raises(UsageError, match="holds files, and is no site"):
        make_site(team.project, stranger)
    assert [path.name for path in stranger.iterdir()] == ["thesis.txt"]
    mixed = shutil.copytree(original, tmp_path / "mixed")
    (mixed / "notes.txt").write_text("ours")
    with pytest.raises(UsageError, match=r"notes\.txt"):
        make_site(team.project, mixed)
    assert (mixed / "notes.txt").read_text() == "ours"
    with pytest.raises(UsageError, match="is no folder"):
        make_site(team.project, stranger / "thesis.txt")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["home", "mixed"]


def test_a_site_that_cannot_be_made_leaves_the_earlier_one_as_it_is(
    team: Published, original: Path, tmp_path: Path
) -> None:
    out = shutil.copytree(original, tmp_path / "public")
    place = replace(team.project, overrides=("signing.private_key=nowhere.pem",))
    with pytest.raises(SignatureError, match=r"nowhere\.pem is not there"):
        make_site(place, out)
    place = replace(team.project, overrides=(f"signing.public_key={team.private_key}",))
    with pytest.raises(SignatureError):  # it is no key to verify with, and it is not published
        make_site(place, out)
    verify_site(out, str(team.public_key))
    assert [path.name for path in tmp_path.iterdir()] == ["public"]


def test_an_empty_folder_and_an_earlier_site_are_replaced(team: Published, tmp_path: Path) -> None:
    out = tmp_path / "public"
    out.mkdir()
    make_site(team.project, out, pictures=False)
    assert not (out / "pictures").exists()
    report = tmp_path / "report"
    report.mkdir()
    (report / "benchmark.html").write_text("<!doctype html><title>benchmark</title>")
    make_site(team.project, out, benchmark=report)
    assert (out / "pictures").is_dir()
    assert 'href="benchmark/benchmark.html"' in (out / "index.html").read_text(encoding="utf-8")
    verify_site(out, str(team.public_key))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["public", "report"]
