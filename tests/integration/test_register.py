"""Register with a real MLflow on sqlite: tags, bytes, no doubles, and what happens when the store is not
there."""

from __future__ import annotations

import re
import shutil
import socket
import threading
import time
from pathlib import Path

import pytest

from fade.errors import (
    AdapterError,
    RegistryError,
    RegistryUnreachableError,
    StorageError,
    UnknownNameError,
    UsageError,
)
from fade.provenance.lineage import Lineage
from tasks.registry.connection import connect, redacted
from tasks.registry.models import all_versions, model_name
from tasks.registry.register import register, register_pending, register_task
from tasks.registry.runs import final_metrics, flatten, open_run
from tasks.registry.versions import load_version
from tests.registered import adapter_bytes, finished_run

CLOSED = "http://127.0.0.1:9"  # the discard port: nothing listens there

pytestmark = pytest.mark.usefixtures("alone")


def test_a_version_with_lineage_and_evidence_whose_adapter_comes_back_byte_for_byte(
    tmp_path: Path, store: Path
) -> None:
    result, params, lineage, run_dir = finished_run(tmp_path)
    done = register(result, params, lineage, run_dir, runs=store)
    assert (done.name, done.version, done.uri) == ("fade-panda", "1", "models:/fade-panda/1")

    client = connect(store).client
    tags = client.get_model_version("fade-panda", "1").tags
    assert (
        re.fullmatch("[0-9a-f]{64}", tags.pop("evaluation_sha256"))
        and tags.pop("lineage_sha256") == Lineage(lineage).sha256()
    )
    assert tags == {
        "target": "panda",
        "method": "fade",
        "seed": "3",
        "neighbours": '["koala", "bear"]',
        "data_md5": "e" * 32 + ".dir",
        "base_sha256": "1" * 64,
        "adapter_sha256": lineage["outputs"]["adapter_sha256"],
        "params_sha256": params.sha256(),
        "commit": "d" * 40,
        "run_key": "key0",
    }
    run = client.get_run(done.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.params["train.steps"] == "150" and run.data.params["register.experiment"] == "erase"
    assert (
        run.data.metrics["A_er"] == 97.91
        and run.data.metrics["base.A_tar"] == 98.73
        and run.data.metrics["ERB.lo"] == 90.59
    )
    history = client.get_metric_history(done.run_id, "train.loss")
    assert [(m.step, m.value) for m in history] == [(s, 1 / s) for s in range(1, 7)]
    assert {f.path for f in client.list_artifacts(done.run_id)} == {
        "report.html",
        "history.json",
        "lineage.json",
        "pictures",
    }
    (entry,) = run.inputs.dataset_inputs
    assert entry.dataset.digest == "e" * 32 + ".dir" and entry.dataset.name == "images"
    assert {t.key: t.value for t in entry.tags}["dvc.md5"] == "e" * 32 + ".dir"

    for wanted in ("fade-panda/1", "models:/fade-panda/1", "fade-panda/latest", "fade-panda"):
        assert load_version(wanted, store).read_bytes() == (run_dir / "adapter.safetensors").read_bytes()
    client.set_registered_model_alias("fade-panda", "champion", "1")
    with pytest.raises(UnknownNameError, match="champion"):  # nothing was decided, whatever the alias says
        load_version("fade-panda@champion", store)
    assert load_version("fade-panda/1", store).is_relative_to(
        store / "cache" / "adapters" / tags["adapter_sha256"]
    )
    assert not (run_dir / "pending_registration.json").exists()
    assert (
        list((store / "mlartifacts").rglob("pytorch_lora_weights.safetensors"))
        and not Path("mlruns").exists()
    )
    assert list((store / "cache" / "adapters").rglob(".*")) == []

    import mlflow.diffusers  # registered above, so its import is done

    logged = mlflow.diffusers.load_model("models:/fade-panda/1")
    assert logged.base_model == str(tmp_path / "base")


def test_the_same_adapter_of_the_same_run_is_not_registered_twice_but_another_is(
    tmp_path: Path, store: Path
) -> None:
    first = finished_run(tmp_path, model_prefix="twice")
    one = register(*first, runs=store)
    assert register(*first, runs=store) == one
    assert register_pending(first[3]) == one
    other = register(*finished_run(tmp_path, seed=1, model_prefix="twice"), runs=store)
    assert (one.version, other.version) == ("1", "2")
    assert [str(v.version) for v in all_versions(connect(store), "twice-panda")] == ["2", "1"]


def test_the_same_adapter_judged_otherwise_is_another_version(tmp_path: Path, store: Path) -> None:
    result, *rest = finished_run(tmp_path, model_prefix="judged")
    one = register(result, *rest, runs=store)
    anew = register({**result, "metrics": {**result["metrics"], "A_er": 12.5}}, *rest, runs=store)
    assert (one.version, anew.version) == ("1", "2")
    assert connect(store).client.get_run(anew.run_id).data.metrics["A_er"] == 12.5


def test_an_unreachable_server_costs_seconds_and_nothing_else_and_later_it_works(
    tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = finished_run(tmp_path, model_prefix="later", timeout_seconds=30.0)
    before = (run[3] / "adapter.safetensors").read_bytes()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", CLOSED)
    start = time.monotonic()
    with pytest.raises(RegistryUnreachableError) as caught:
        register(*run, runs=store)
    assert time.monotonic() - start < 30
    assert (
        caught.value.exit_code == 1
        and CLOSED in str(caught.value)
        and f"fade register {run[3]}" in str(caught.value)
    )
    assert (run[3] / "adapter.safetensors").read_bytes() == before
    assert (run[3] / "pending_registration.json").is_file()

    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    done = register_pending(run[3], runs=store)
    assert done.name == "later-panda"
    assert connect(store).client.get_run(done.run_id).data.metrics["A_adj"] == 93.42
    assert not (run[3] / "pending_registration.json").exists()


def test_a_server_that_accepts_and_never_answers_is_given_up_in_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://user:secret@127.0.0.1:{silent.getsockname()[1]}")
        run = finished_run(tmp_path, timeout_seconds=24.0)
        caught: list[BaseException] = []

        def attempt() -> None:
            try:
                register(*run, runs=tmp_path / "runs")
            except BaseException as error:
                caught.append(error)

        thread = threading.Thread(target=attempt, daemon=True)
        thread.start()
        thread.join(24)
        assert not thread.is_alive()
    (error,) = caught
    assert isinstance(error, RegistryUnreachableError) and "secret" not in str(error)
    assert "secret" not in (run[3] / "pending_registration.json").read_text()


def test_an_interrupt_keeps_the_registration_for_later(
    tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = finished_run(tmp_path, model_prefix="interrupted")
    monkeypatch.setattr(
        "tasks.registry.register.log_dataset", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt)
    )
    with pytest.raises(KeyboardInterrupt):
        register(*run, runs=store)
    monkeypatch.undo()
    client = connect(store).client
    experiment = client.get_experiment_by_name("erase")
    failed = client.search_runs([experiment.experiment_id], f"tags.params_sha256 = '{run[1].sha256()}'")
    assert [r.info.status for r in failed] == ["FAILED"]
    assert register_pending(run[3], runs=store).version == "1"


def test_a_changed_or_missing_adapter_is_not_registered(tmp_path: Path, store: Path) -> None:
    run = finished_run(tmp_path, model_prefix="changed")
    (run[3] / "adapter.safetensors").write_bytes(adapter_bytes(9))
    with pytest.raises(AdapterError, match="other bytes"):
        register(*run, runs=store)
    (run[3] / "adapter.safetensors").unlink()
    with pytest.raises(AdapterError, match="does not exist"):
        register(*run, runs=store)
    with pytest.raises(UnknownNameError):
        load_version("changed-panda/1", store)


def test_a_tampered_artifact_is_refused_on_load(tmp_path: Path, store: Path) -> None:
    run = finished_run(tmp_path, model_prefix="tampered")
    register(*run, runs=store)
    weights = [
        p
        for p in (store / "mlartifacts").rglob("*.safetensors")
        if p.read_bytes() == (run[3] / "adapter.safetensors").read_bytes()
    ]
    assert weights
    for path in weights:
        path.write_bytes(adapter_bytes(5))
    cached = store / "cache" / "adapters" / run[2]["outputs"]["adapter_sha256"] / "adapter.safetensors"
    cached.unlink(missing_ok=True)
    with pytest.raises(AdapterError, match="tampered-panda/1"):
        load_version("tampered-panda/1", store)
    assert not cached.exists()


def test_names_that_do_not_exist_offer_the_nearest(tmp_path: Path, store: Path) -> None:
    register(*finished_run(tmp_path, model_prefix="near"), runs=store)
    with pytest.raises(UnknownNameError, match="near-panda"):
        load_version("near-pnada/1", store)
    with pytest.raises(UnknownNameError, match="near-panda/1"):
        load_version("near-panda/7", store)
    with pytest.raises(UnknownNameError, match="champion"):
        load_version("near-panda@champion", store)
    with pytest.raises(UsageError):
        load_version("near-panda/one/two", store)
    with pytest.raises(AdapterError, match="none.safetensors"):
        load_version(str(tmp_path / "none.safetensors"), store)


def test_an_unwritable_or_foreign_store_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="file"):
        connect(tmp_path / "file" / "runs")
    (tmp_path / "mlflow.db").write_text("this is no database at all")
    with pytest.raises(RegistryError, match=r"mlflow\.db"):
        connect(tmp_path)
    assert (tmp_path / "mlflow.db").read_text() == "this is no database at all"


def test_metrics_are_sent_in_batches_and_a_failing_body_marks_the_run_failed(store: Path) -> None:
    tracking = connect(store)
    with open_run(tracking, "pretrain", "unet", {"seed": 0}) as run:
        for step in range(700):
            run.log_metrics(step, {"loss": float(step), "lr": 0.1})
    assert len(tracking.client.get_metric_history(run.run_id, "loss")) == 700
    opened: list[str] = []

    def body() -> None:
        with open_run(tracking, "pretrain", "unet") as run:
            opened.append(run.run_id)
            run.log_metrics(0, {"loss": 1.0})
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        body()
    found = tracking.client.get_run(opened[0])
    assert found.info.status == "FAILED" and found.data.metrics == {"loss": 1.0}


def test_two_runs_folders_in_one_process_do_not_mix_and_the_users_address_wins(
    tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in (tmp_path, tmp_path / "one", tmp_path / "two"):
        folder.mkdir(exist_ok=True)
        shutil.copy(store / "mlflow.db", folder / "mlflow.db")
    one, two = connect(tmp_path / "one"), connect(tmp_path / "two")
    assert one.uri != two.uri and two.uri.endswith("/two/mlflow.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    assert connect(tmp_path / "one").uri == f"sqlite:///{tmp_path}/mlflow.db"


def test_the_task_retries_connection_faults_and_nothing_else() -> None:
    from prefect.states import Failed

    assert register_task.retries == 2
    condition = register_task.retry_condition_fn
    assert condition is not None
    assert condition(register_task, None, Failed(data=RegistryUnreachableError("x")))
    for other in (RegistryError("x"), AdapterError("x"), OSError("x")):
        assert not condition(register_task, None, Failed(data=other))


def test_small_parts() -> None:
    assert redacted("https://user:pw@host:5000/path?token=x") == "https://host:5000/path"
    assert redacted("sqlite:////tmp/x.db") == "sqlite:////tmp/x.db"
    assert flatten({"a": {"b": 1, "c": {}}, "d": [1]}) == {"a.b": 1, "d": [1]}
    assert model_name("fade", "Grinning cat") == "fade-grinning-cat"
    assert model_name("fade", "犬") != model_name("fade", "猫")


def test_what_the_evaluation_measures_beside_accuracy_is_logged_and_what_it_did_not_is_left_out() -> None:
    result = {
        "metrics": {"A_er": 100.0, "A_heldout": None},
        "base_metrics": {"A_tar": 90.0},
        "target_probability": {"base": 0.9, "erased": 0.1},
        "clip_score": {"base": 30.0, "erased": 29.0, "n": 8},
        "frechet": {"rest": 1.5, "crossed": None, "floor": 1.0, "n": 8, "n_half": 4},
        "null_drift": 0.0001,
        "indirect": {"A_indirect": 75.0},
    }
    assert final_metrics(result) == {
        "A_er": 100.0,
        "base.A_tar": 90.0,
        "target_probability.base": 0.9,
        "target_probability.erased": 0.1,
        "clip_score.base": 30.0,
        "clip_score.erased": 29.0,
        "frechet.rest": 1.5,
        "frechet.floor": 1.0,
        "null_drift": 0.0001,
        "A_indirect": 75.0,
    }
    assert "A_indirect" not in final_metrics({"metrics": {}, "base_metrics": {}})
