"""No password of an address, a setting, a header or the environment is left in a text; other texts stay."""

from __future__ import annotations

import json
import logging
import os
import string
import subprocess
import sys
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fade.errors import FadeError, RegistryError, error_text, revive
from fade.redact import _secrets_of, redact, redact_address

SECRET = "hunter2/Q@:w"
"""With the signs that end a password for a naive reader."""


@pytest.fixture(autouse=True)
def _no_secrets_of_other_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fade.redact._KNOWN", set())
    for name, value in dict(os.environ).items():
        if _secrets_of(name, value):
            monkeypatch.delenv(name)


HOLDERS = {
    "a database": "postgresql://ann:{}@db.example.org:5432/mlflow",
    "one slash": "http:/ann:{}@example.org",
    "without a scheme": "ann:{}@db.example.org:5432/db",
    "a query": "https://example.org/api?user=ann&password={}",
    "a signed query": "https://b.s3.amazonaws.com/x?X-Amz-Credential=a&X-Amz-Signature={}",
    "an Azure signature": "https://a.blob.core.windows.net/c/x?sv=2024&sig={}&se=2027",
    "a DSN": "password={} user=ann host=db",
    "a quoted DSN": "host=db password='{}' user=ann",
    "an assignment": "AWS_SECRET_ACCESS_KEY={}",
    "an INI file": "secret_access_key = {}",
    "JSON": '{{"password": "{}", "user": "ann"}}',
    "a mapping": "{{'Authorization': 'Bearer {}'}}",
    "a header": "Authorization: Basic {}",
    "a header's parameter": 'Authorization: Token token="{}"',
    "a header's parameters": 'Authorization: Digest username="ann", response="{}"',
    "a header of a vendor": "X-Api-Key: {}",
    "YAML": "password: {}",
    "quoted YAML": 'client_secret: "{}"',
    "a short name": "DB_PW={}",
    "an address without a scheme": "//ann:{}@example.org/x",
    "a storage account": "AccountName=a;AccountKey={}",
    "a driver": "postgresql+psycopg2://ann:{}@db/mlflow",
    "a remote of S3": "s3://key:{}@bucket/path",
}


def test_a_token_as_the_user_is_hidden() -> None:
    assert redact("https://ghp_hunter2@github.com/team/data") == "https://***@github.com/team/data"


@pytest.mark.parametrize("holder", HOLDERS.values(), ids=HOLDERS)
def test_the_secret_is_hidden(holder: str) -> None:
    text = f"cannot reach {holder.format(SECRET)}, try again"
    hidden = redact(text)
    assert SECRET not in hidden and "hunter2" not in hidden and "Q@:w" not in hidden
    assert hidden.startswith("cannot reach ") and hidden.endswith(", try again")
    assert redact(hidden) == hidden


@pytest.mark.parametrize(
    "text",
    [
        "by ann@example.org",
        "fade-panda/1: ann@example.org decided first: promote 1.",
        "worker@machine-3 process 12 at 12:30",
        "models:/fade-panda/1",
        "models:/fade-panda@champion",
        "fade-panda@champion",
        "sqlite:////home/ann/a@b/mlflow.db",
        "file:///home/ann/a@b/mlartifacts",
        "/home/ann/runs/erase/panda/0123456789ab: 12:30",
        "git@github.com:team/data",
        "http://127.0.0.1:4200/api",
        "s3://bucket/key@v2",
        "signing.private_key=keys/team.key train.steps=200",
        "2026-11-29T02:04:47+00:00",
        "@iconify-json/noto",
        "is this a password?",
        "signing.private_key: keys/team.key does not exist",
        "a bypass=1 and the key: 3",
        "//home/ann/a@b",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert redact(text) == text


HOST = st.sampled_from(["db", "db.example.org", "10.0.0.7:5432", "[::1]:5432"])
BODY = st.text(
    st.sampled_from(string.ascii_letters + string.digits + "-._~!$&*+,;=:@/?#%'()[]|^`{}"), min_size=3
)
PASSWORD = BODY.map(lambda body: f"q7{body}Zx")


@settings(max_examples=300, deadline=None)
@given(
    scheme=st.sampled_from(
        ["postgresql://", "mysql+pymysql://", "http://", "https:/", "s3://", "ssh://", ""]
    ),
    user=st.text(st.sampled_from(string.ascii_lowercase + "._-"), min_size=1).filter(
        lambda u: u[0].isalpha()
    ),
    password=PASSWORD,
    host=HOST,
    rest=st.sampled_from(["", "/db", "/a/b?sslmode=require", "/x.", ", again"]),
)
def test_no_password_of_an_address_is_left(
    scheme: str, user: str, password: str, host: str, rest: str
) -> None:
    hidden = redact(f"the store {scheme}{user}:{password}@{host}{rest} refused")
    assert password not in hidden and "q7" not in hidden
    assert hidden.startswith("the store ") and hidden.endswith(" refused")
    assert redact(hidden) == hidden


WORD = st.text(st.sampled_from(string.ascii_letters + string.digits + "-_./+*'\"()[]"), min_size=1)


@settings(max_examples=200, deadline=None)
@given(st.lists(WORD, max_size=12).map(" ".join))
def test_a_text_without_an_address_is_unchanged(text: str) -> None:
    assert redact(text) == text


@pytest.mark.parametrize(
    "name",
    [
        "MLFLOW_TRACKING_PASSWORD",
        "PREFECT_API_AUTH_STRING",
        "GITHUB_TOKEN",
        "TEAM_SECRET",
        "AZURE_STORAGE_KEY",
        "DB_PW",
        "MY_PASS",
    ],
)
def test_a_secret_of_the_environment_is_hidden_wherever_it_stands(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = 'pass "word" here'
    monkeypatch.setenv(name, secret)
    for spelling in (secret, quote(secret, safe=""), json.dumps(secret)):
        assert "word" not in redact(f"refused: {spelling}!")


def test_the_password_of_an_address_in_the_environment_is_hidden_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "postgresql://ann:p@ss word1@db/mlflow")
    assert redact('FATAL: no "p@ss word1"') == 'FATAL: no "***"'


@pytest.mark.parametrize("word", ["s3cr<etPW", "s3cr etPW", 's3cr"et<PW', "s3cr>et'PW", "s3/cr @etPW"])
@pytest.mark.parametrize("scheme", ["http:", "evil+x:", ""])
def test_an_address_that_is_known_as_a_whole_is_hidden_whatever_its_password_holds(
    scheme: str, word: str
) -> None:
    address = f"{scheme}//ann:{word}@127.0.0.1:1/x"
    assert redact_address(address) == f"{scheme}//***@127.0.0.1:1/x"
    for text in (f"no {address} there", f"no {word}.", f"{quote(word)}", json.dumps({"url": address})):
        hidden = redact(text)
        assert "etPW" not in hidden and "s3" not in hidden, hidden
    assert redact_address("s3://bucket/key@v2") == "s3://bucket/key@v2"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("TOKENIZERS_PARALLELISM", "parallel"),
        ("SSH_AUTH_SOCK", "/run/agent.sock"),
        ("GIT_AUTHOR_NAME", "Annabel"),
        ("DEMO_AUTH", "enabled"),
        ("DEMO_TOKEN", "1"),
    ],
)
def test_other_variables_hide_nothing(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, value)
    assert redact(f"it is {value}.") == f"it is {value}."


def test_an_error_is_made_without_the_secret() -> None:
    error = RegistryError(
        f"ann:{SECRET}@db refused.", stage="register", action=f"use http://ann:{SECRET}@db."
    )
    for text in (str(error), error.what, error.action, repr(error), *map(str, error.args)):
        assert "hunter2" not in text
    assert "hunter2" not in str(revive("FadeError", f"http://ann:{SECRET}@db", "", ""))
    assert error_text(FadeError("x", action=f"password={SECRET}")) == "x Next: password=***"
    assert error_text(ValueError(f"http://ann:{SECRET}@db")) == "ValueError: http://***@db"


def test_logs_and_tracebacks_of_a_process_are_redacted() -> None:
    script = f"""
import logging, sys
from fade.redact import redact_logs
redact_logs(); redact_logs()
logging.basicConfig(level=logging.INFO)
try:
    raise ValueError("http://ann:{SECRET}@db")
except ValueError as error:
    logging.getLogger("tool").exception("lost %s", error)
logging.getLogger("tool").info("%d of http://ann:{SECRET}@db", 3)
raise RuntimeError("password={SECRET}")
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    shown = done.stdout + done.stderr.replace(script, "")
    lines = [line for line in shown.splitlines() if not line.lstrip().startswith(("raise", "logging"))]
    assert done.returncode == 1 and "hunter2" not in "\n".join(lines)
    assert "lost http://***@db" in shown and "3 of http://***@db" in shown and "password=***" in shown


def test_a_record_is_formatted_as_before() -> None:
    record = logging.getLogRecordFactory()("x", logging.INFO, "f", 1, "%s and %d", ("a", 2), None)
    assert record.getMessage() == "a and 2"
