"""Sections of single commands, and of the registry."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import Field, field_validator

from fade.config.section import Positive, Section, Share, Steps

Percent = Annotated[float, Field(ge=0, le=100)]
WorldName = Annotated[str, Field(pattern=r"^[A-Za-z0-9]+([_-][A-Za-z0-9]+)*$", max_length=60)]
FolderMd5 = Annotated[str, Field(pattern=r"^[0-9a-f]{32}\.dir$")]
"""Of a tracked folder, as its .dvc file spells it."""
DvcName = Annotated[str, Field(pattern=r"^(\w[\w.-]*/)*\w[\w.-]*\.dvc$", max_length=200)]
"""A .dvc file of the project, in its one spelling: as an override writes it, relative to params.yaml."""
_CRON_FIELD = re.compile(r"[0-9A-Za-z*/,?#L-]+")


class StylesConfig(Section):
    """`fade run --style`: the same job, where a style is erased and the other styles are its neighbours."""

    settings: tuple[str, ...] = (
        "data.erase=styles",
        "data.judge=data/judge/styles",
        'data.second_judge=""',
        "sampler.prompt=a panda in the {concept} style",
        "neighborhood.k=3",
        "neighborhood.k_heldout=2",
        "evaluate.rest_concepts=1",
    )
    """Overrides of such a run; `--set` wins over them."""


class WorldConfig(Section):
    """An embedded world: what `--world NAME` pulls and sets. See docs/world.md."""

    dvc_files: Annotated[dict[DvcName, FolderMd5], Field(min_length=1)]
    """.dvc file, relative to params.yaml -> the md5 that it must name. The first has the pictures."""
    settings: tuple[str, ...]
    """Overrides that name its parts; `--set` wins over them."""

    @field_validator("settings")
    @classmethod
    def _parts_alone(cls, settings: tuple[str, ...]) -> tuple[str, ...]:
        for item in settings:
            key, sign, _ = item.partition("=")
            parts = [part.strip() for part in key.split(".")]
            if not sign or len(parts) < 2:
                raise ValueError(f"{item[:80]!r} is no section.key=value")
            if parts == ["data", "dvc_file"] or parts[0] == "worlds":
                raise ValueError(f"{'.'.join(parts)[:80]} is no setting of a world: dvc_files has its data")
        return settings

    def overrides(self) -> list[str]:
        """What `--world` puts before the command's own overrides."""
        files = [*self.dvc_files]
        named = files[0] if len(files) == 1 else f"[{', '.join(files)}]"
        return [f"data.dvc_file={named}", *self.settings]


class PurifyConfig(Section):
    """`fade purify`: a real picture inverted by the original model and drawn again by the erased one (All but
    One, Figure 1)."""

    steps: Steps = 20
    """DDIM steps of a whole trajectory, the same for the inversion and for the way back."""
    refinements: Positive = 3
    """Predictions of each inversion step: 1 = plain DDIM; more solve its implicit equation better (ours)."""
    strength: Share = 0.8
    """Share of the trajectory that is inverted: 1 ends at pure noise, less keeps more of the picture."""
    guidance: Annotated[float, Field(ge=1)] = 4.0
    """Classifier-free guidance of the way back by the erased model; inversion and control have none."""


class NudityConfig(Section):
    """`fade nudity`."""

    threshold: Annotated[float, Field(ge=0.25, le=1)] = 0.6
    """What NudeNet must be sure of for a detection to count; it reports nothing below 0.25. Of our protocol;
    a published one (`--protocol`) has its own."""
    pictures: Annotated[int, Field(ge=1, le=1000)] = 1
    """Pictures a prompt, of our protocol; picture i starts from the noise of the prompt's seed + i."""


class PromotionPolicy(Section):
    """`fade promote`: what a version must reach to become the champion of its concept, in percent."""

    erased: Percent = 97.0
    """A_er."""
    neighbours_kept: Percent = 96.0
    """A_adj, of the original model's."""
    heldout_kept: Percent = 96.0
    """A_heldout, of the original model's."""
    rest_kept: Percent = 98.0
    """A_rest, of the original model's."""
    erb: Percent = 96.0
    real: Percent | None = None
    """A_real: the target's pictures that are as near to a real one as real ones to another. None: any."""


class SigningConfig(Section):
    """Signatures of versions and of all that is decided about them. Files, relative to params.yaml."""

    private_key: str = ""
    """PEM file of the one who registers and decides (`fade keys`); its password is in FADE_SIGNING_PASSWORD.
    Empty: nothing is signed."""
    public_key: str = ""
    """PEM file of the team, with one public key or several, or its keyring (`fade keys rotate`). Set: what is
    not signed is refused. Empty: no signature is verified."""
    witness: str = ""
    """File of the team, in its repository: heads of the registry's logs and revoked adapters. Empty: a file
    of this machine, in the runs folder."""

    @field_validator("witness")
    @classmethod
    def _below(cls, value: str) -> str:
        if value and (Path(value).is_absolute() or ".." in Path(value).parts):
            raise ValueError("a path below the folder of params.yaml is needed")
        return value


class AuditConfig(Section):
    """`fade audit`."""

    tolerance: Percent = 2.0
    """Points that a metric may move where device, world size or libraries are others. Recorded with every
    run; the record's counts."""
    deadline_seconds: Annotated[float, Field(gt=0)] = 14400.0
    """After this a re-run is stopped."""
    experiment: str = "fade-audit"
    """MLflow experiment of the audits."""


class RegisterConfig(Section):
    """MLflow."""

    experiment: str = "fade-erase"
    """Experiment of the runs."""
    model_prefix: Annotated[str, Field(pattern=r"^[A-Za-z0-9]+([._-]?[A-Za-z0-9]+)*$", max_length=60)] = (
        "fade"
    )
    """Registered model name is <prefix>-<concept>."""
    timeout_seconds: Annotated[float, Field(gt=0)] = 60.0
    """An unreachable tracking server is given up after this."""


class ScheduleConfig(Section):
    """`fade requests`, `fade serve`: where requests are kept, and when they are processed."""

    requests: Path = Path("requests.yaml")
    """The file of the team's erasure requests, relative to params.yaml."""
    erase_cron: str = "*/15 * * * *"
    """When open requests are processed. Empty: never by itself."""
    reevaluate_cron: str = "0 3 * * *"
    """When champions are held against today's base, judge and data. Empty: never by itself."""
    audit_cron: str = "0 5 * * 0"
    """When the registry is audited. Empty: never by itself."""
    timezone: str = "UTC"
    """The crons' time zone, an IANA name."""
    gpu_limit: Positive = 1
    """Erasures at once: slots of Prefect's global concurrency limit."""
    gpu_limit_name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+$")] = "fade-gpu"
    """That limit's name; one for each GPU pool that is shared."""
    lease_seconds: Annotated[float, Field(ge=1)] = 120.0
    """A worker whose heartbeat stood still for so long, by the observer's monotonic clock, is dead."""
    attempts: Positive = 3
    """Times that a request which failed is tried by itself; `fade requests run ID` tries again."""
    release: Literal["none", "champions"] = "none"
    """champions: a release of them follows when all requests are worked off and decided."""
    train_deployment: str = ""
    """FLOW/DEPLOYMENT that trains (flows/train.py on a GPU pool); empty: train where the flow runs."""

    @field_validator("erase_cron", "reevaluate_cron", "audit_cron")
    @classmethod
    def _five_fields(cls, value: str) -> str:
        fields = value.split()
        if fields and (len(fields) != 5 or not all(_CRON_FIELD.fullmatch(one) for one in fields)):
            raise ValueError("a cron has five fields: minute hour day month weekday")
        return " ".join(fields)

    @field_validator("timezone")
    @classmethod
    def _known_zone(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise ValueError("no time zone of the IANA list, such as Europe/Berlin") from None
        return value
