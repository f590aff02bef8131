"""Tables of prompts: every cell as it is, or one sentence that names the row."""

from __future__ import annotations

from pathlib import Path

import pytest

from fade.data.prompts import MAX_SEED, Prompt, read_prompts, select_prompts
from fade.errors import UnknownNameError, UsageError
from tests.prompt_tables import LOST, ROWS, esd_table, official_table


def test_the_official_table_is_read_cell_by_cell(tmp_path: Path) -> None:
    table = read_prompts(official_table(tmp_path / "i2p.csv"), "nudity")
    for one, (text, categories, hard, nudity, seed, scale, width, height) in zip(
        table.prompts, ROWS, strict=True
    ):
        want = (text, seed, scale, width, height, tuple(categories.split(", ")), nudity, bool(hard))
        assert one == Prompt(*want)
    assert table.columns["seed"] == "sd_seed" and "lexica_url" in table.ignored and table.seeds == "table"


def test_esds_copy_has_the_same_seeds_and_names_the_prompt_that_it_lost(tmp_path: Path) -> None:
    path = esd_table(tmp_path / "unsafe-prompts4703.csv")
    with pytest.raises(UsageError, match=rf"row {LOST + 1} \(line 8\): the prompt is empty.*word 'Null'.*"):
        read_prompts(path, "nudity")
    table = read_prompts(path, "nudity", lenient=True)
    official = read_prompts(official_table(tmp_path / "i2p.csv"), "nudity").prompts
    assert table.prompts == official[:LOST] + official[LOST + 1 :]
    assert [(one.row, one.seed, one.lost) for one in table.empty] == [(LOST + 1, ROWS[LOST][4], "Null")]
    assert table.columns["seed"] == "evaluation_seed" and "" in table.ignored


def test_a_text_file_has_a_prompt_a_line(tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text("\ufeffa panda\n\n  a nude, oil on canvas \n", encoding="utf-8")
    table = read_prompts(tmp_path / "p.txt", "nudity")
    assert [(one.text, one.seed, one.guidance) for one in table.prompts] == [
        ("a panda", 0, None),
        ("a nude, oil on canvas", 1, None),
    ]
    assert table.seeds == "rows"


def test_a_table_without_seeds_is_read_when_its_rows_are_to_be_the_seeds(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_bytes(b"\xef\xbb\xbfprompt\r\na\r\n\r\nb\r\n")
    with pytest.raises(UsageError, match="no column of seeds .*evaluation_seed.*--seeds rows"):
        read_prompts(tmp_path / "p.csv", "nudity")
    table = read_prompts(tmp_path / "p.csv", "nudity", seeds="rows")
    assert [(one.text, one.seed) for one in table.prompts] == [("a", 0), ("b", 1)]


HEAD = "prompt,sd_seed,sd_guidance_scale,sd_image_width,sd_image_height,categories,nudity_percentage,hard\n"
BAD = {
    "a seed of words": (f"{HEAD}a,one,7,512,512,,0,0\n", "row 1 (line 2): the seed 'one' is no whole number"),
    "a negative seed": (f"{HEAD}a,-1,7,512,512,,0,0\n", "the seed '-1' is no whole number from 0"),
    "a seed beyond 2^32": (f"{HEAD}a,{MAX_SEED + 1},7,512,512,,0,0\n", "the seed '4294967297'"),
    "a fraction as a seed": (f"{HEAD}a,1.5,7,512,512,,0,0\n", "the seed '1.5'"),
    "digits of another script": (f"{HEAD}a,٣,7,512,512,,0,0\n", "the seed '٣'"),
    "no guidance": (f"{HEAD}a,1,,512,512,,0,0\n", "sd_guidance_scale is '', not a number from 1 to 255"),
    "guidance 0": (f"{HEAD}a,1,0,512,512,,0,0\n", "sd_guidance_scale is '0', not a number from 1 to 255"),
    "guidance nan": (f"{HEAD}a,1,nan,512,512,,0,0\n", "sd_guidance_scale is 'nan'"),
    "half a pixel": (f"{HEAD}a,1,7,512.5,512,,0,0\n", "sd_image_width is '512.5', not a whole number of"),
    "no height": (f"{HEAD}a,1,7,512,0,,0,0\n", "sd_image_height is '0'"),
    "more than all": (f"{HEAD}a,1,7,512,512,,101,0\n", "nudity_percentage is '101', not a percentage"),
    "half hard": (f"{HEAD}a,1,7,512,512,,0,2\n", "hard is '2', not 0 or 1"),
    "the second row": (f"{HEAD}a,1,7,512,512,,0,0\nb,x,7,512,512,,0,0\n", "row 2 (line 3): the seed 'x'"),
    "a field too few": (f"{HEAD}a,1\n", "row 1 (line 2): 2 fields, and the head has 8"),
    "no prompt in a row": (f"{HEAD},1,7,512,512,,0,0\n", "the prompt is empty"),
    "semicolons": ("prompt;sd_seed\na;1\n", "separates its columns by ';', not by commas"),
    "tabs": ("prompt\tsd_seed\na\t1\n", "separates its columns by '\\t', not by commas"),
    "no column of prompts": ("text,sd_seed\na,1\n", "has no column 'prompt'"),
    "a column twice": ("prompt,prompt,sd_seed\na,b,1\n", "has the column 'prompt' twice"),
    "two columns of seeds": ("prompt,sd_seed,evaluation_seed\na,1,2\n", "has sd_seed and evaluation_seed"),
    "an open quote": ('prompt,sd_seed\n"a,1\n', "is no CSV"),
    "nothing": ("", "is empty"),
    "a head alone": (HEAD, "holds no prompt"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_wrong_is_one_sentence_with_its_row(tmp_path: Path, case: str) -> None:
    body, sentence = BAD[case]
    (tmp_path / "p.csv").write_text(body, encoding="utf-8")
    with pytest.raises(UsageError) as caught:
        read_prompts(tmp_path / "p.csv", "nudity")
    message = str(caught.value)
    assert message.startswith("nudity: ") and "p.csv" in message and sentence in message
    assert caught.value.action and message.count("\n") == 0


@pytest.mark.parametrize("body", [b"prompt,sd_seed\n\xe9,1\n", "prompt,sd_seed\na,1\n".encode("utf-16")])
def test_another_encoding_is_named(tmp_path: Path, body: bytes) -> None:
    (tmp_path / "p.csv").write_bytes(body)
    with pytest.raises(UsageError, match=r"p\.csv cannot be read: it is not UTF-8"):
        read_prompts(tmp_path / "p.csv", "nudity")


def test_rows_are_chosen_by_category_and_nudity(tmp_path: Path) -> None:
    prompts = read_prompts(official_table(tmp_path / "i2p.csv"), "nudity").prompts
    assert [one.text for one in select_prompts(prompts, "nudity", category="hate")] == ["café, 夜", "None"]
    assert [one.nudity for one in select_prompts(prompts, "nudity", nude=True)] == [10.0, 90.0, 70.0, 50.0]
    with pytest.raises(UnknownNameError, match="unknown category 'sexul'.*'sexual'"):
        select_prompts(prompts, "nudity", category="sexul")
    with pytest.raises(UsageError, match="no prompt is left"):
        select_prompts(prompts, "nudity", category="shocking", nude=True)
    with pytest.raises(UsageError, match="does not say which prompts"):
        select_prompts([Prompt("a", 1)], "nudity", nude=True)
