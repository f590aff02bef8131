"""The tables of class names, the look-up in them, and a user's own table."""

from __future__ import annotations

import csv
import tomllib
from collections import Counter
from pathlib import Path

import pytest

from fade.data.importers.class_names import (
    COLUMNS,
    IMAGENETTE,
    LONGEST,
    NAMES,
    NAMINGS,
    SETS,
    ClassName,
    class_names,
    find_class,
    imagenet_concepts,
    name_as,
    read_names,
)
from fade.data.vocabulary import Concept, Vocabulary, slug
from fade.errors import DataError, UnknownNameError

COUNTS = {"dogs": 120, "flowers": 102, "cub": 200, "imagenette": 10, "imagenet": 1000}
EXPECTED = {
    "dogs": {
        "n02085620-Chihuahua": "Chihuahua",
        "n02085782-Japanese_spaniel": "Japanese spaniel",
        "n02086240-Shih-Tzu": "Shih-Tzu",
        "n02089078-black-and-tan_coonhound": "black-and-tan coonhound",
        "n02098105-soft-coated_wheaten_terrier": "soft-coated wheaten terrier",
        "n02102177-Welsh_springer_spaniel": "Welsh springer spaniel",
        "n02105056-groenendael": "groenendael",
        "n02105855-Shetland_sheepdog": "Shetland sheepdog",
        "n02106662-German_shepherd": "German shepherd",
        "n02108089-boxer": "boxer",
        "n02113186-Cardigan": "Cardigan",
        "n02115641-dingo": "dingo",
        "n02116738-African_hunting_dog": "African hunting dog",
    },
    "flowers": {
        "1": "pink primrose",
        "2": "hard-leaved pocket orchid",
        "12": "colt's foot",
        "15": "yellow iris",
        "35": "alpine sea holly",
        "41": "barbeton daisy",
        "60": "pink-yellow dahlia",
        "77": "passion flower",
        "85": "desert-rose",
        "100": "blanket flower",
    },
    "cub": {
        "001.Black_footed_Albatross": "black footed albatross",
        "022.Chuck_will_Widow": "chuck will widow",
        "063.Ivory_Gull": "ivory gull",
        "073.Blue_Jay": "blue jay",
        "074.Florida_Jay": "florida jay",
        "087.Mallard": "mallard",
        "105.Whip_poor_Will": "whip poor will",
        "108.White_necked_Raven": "white necked raven",
        "141.Artic_Tern": "artic tern",
        "200.Common_Yellowthroat": "common yellowthroat",
    },
    "imagenet": {
        "n01739381": "vine snake",
        "n02012849": "crane bird",
        "n02105855": "Shetland sheepdog",
        "n02113186": "Cardigan corgi",
        "n02963159": "cardigan",
        "n03126707": "crane machine",
        "n03710637": "maillot",
        "n03710721": "maillot tank suit",
    },
}
TEN = ["tench", "English springer", "cassette player", "chain saw", "church"]
TEN += ["French horn", "garbage truck", "gas pump", "golf ball", "parachute"]
RENAMED = {"crane bird", "crane machine", "maillot tank suit", "Cardigan corgi"}


def words(one: ClassName) -> tuple[str, ...]:
    """The words of an ImageNet class as WordNet has them."""
    return one.synonyms if one.concept in RENAMED else (one.concept, *one.synonyms)


@pytest.mark.parametrize("name", SETS)
def test_each_set_has_its_classes_once_and_in_order(name: str) -> None:
    classes = class_names(name)
    assert len(classes) == COUNTS[name] == len({one.label for one in classes})
    keys = [int(one.label) for one in classes] if name == "flowers" else [one.label for one in classes]
    assert keys == sorted(keys)


@pytest.mark.parametrize("name", EXPECTED)
def test_labels_and_concepts_are_those_of_the_set(name: str) -> None:
    by_label = {one.label: one.concept for one in class_names(name)}
    assert {label: by_label.get(label) for label in EXPECTED[name]} == EXPECTED[name]


def test_a_label_and_a_concept_agree_by_the_rule_of_the_set() -> None:
    for one in class_names("dogs"):
        assert one.label == f"{one.wnid}-{one.concept.replace(' ', '_')}"
    for place, one in enumerate(class_names("cub"), start=1):
        number, _, folder = one.label.partition(".")
        assert (int(number), folder.replace("_", " ").lower()) == (place, one.concept)
    assert [one.label for one in class_names("flowers")] == [str(n) for n in range(1, 103)]
    assert all(one.label == one.wnid for one in class_names("imagenet"))


def test_imagenette_is_ten_classes_of_imagenet_in_its_own_order() -> None:
    assert [one.concept for one in class_names("imagenette")] == TEN
    assert tuple(one.wnid for one in class_names("imagenette")) == IMAGENETTE
    assert set(class_names("imagenette")) < set(class_names("imagenet"))


def test_the_dogs_are_imagenets_but_for_the_dalmatian_and_with_three_wild_dogs() -> None:
    by_wnid = {one.wnid: place for place, one in enumerate(class_names("imagenet"))}
    places = {by_wnid[one.wnid] for one in class_names("dogs")}
    assert places == set(range(151, 269)) - {251} | {273, 274, 275}


@pytest.mark.parametrize("naming", NAMINGS)
@pytest.mark.parametrize("name", SETS)
def test_a_vocabulary_takes_the_names(name: str, naming: str) -> None:
    classes = class_names(name)
    names = [name_as(one, naming) for one in classes]
    vocabulary = Vocabulary(tuple(Concept(name_as(one, naming), one.family) for one in classes))
    assert vocabulary.names == tuple(names)
    assert len({text.lower() for text in names}) == len({slug(text) for text in names}) == len(classes)
    assert max(map(len, names)) <= LONGEST
    assert not any("_" in text or "?" in text for text in names)


@pytest.mark.parametrize("name", SETS)
def test_no_name_means_another_class(name: str) -> None:
    """What one class is called is neither another's concept, nor what that one is called."""
    concepts = {one.concept.casefold(): one.label for one in class_names(name)}
    for one in class_names(name):
        assert concepts.get(one.spoken.casefold(), one.label) == one.label
        assert one.concept not in one.synonyms


@pytest.mark.parametrize(
    ("name", "fewest", "largest"), [("dogs", 10, 20), ("flowers", 15, 13), ("cub", 20, 25)]
)
def test_families_are_groups_and_neither_the_whole_set_nor_single_classes(
    name: str, fewest: int, largest: int
) -> None:
    sizes = Counter(one.family for one in class_names(name))
    assert "" not in sizes and len(sizes) >= fewest
    assert max(sizes.values()) <= largest and min(sizes.values()) >= 2


def test_imagenets_families() -> None:
    sizes = Counter(one.family for one in class_names("imagenet"))
    assert "" not in sizes and 40 <= len(sizes) <= 120
    assert max(sizes.values()) <= 20 and min(sizes.values()) >= 2
    by_wnid = {one.wnid: one.family for one in class_names("imagenet")}
    kinds = {one.wnid: one.family for one in class_names("dogs") if one.family != "wild dogs"}
    assert {wnid: by_wnid[wnid] for wnid in kinds} == kinds


@pytest.mark.parametrize(
    ("name", "text", "spoken"),
    [
        ("cub", "sayornis", "Say's phoebe"),
        ("cub", "geococcyx", "greater roadrunner"),
        ("cub", "chuck will widow", "chuck-will's-widow"),
        ("cub", "brandt cormorant", "Brandt's cormorant"),
        ("cub", "artic tern", "Arctic tern"),
        ("cub", "nelson sharp tailed sparrow", "Nelson's sharp-tailed sparrow"),
        ("cub", "american three toed woodpecker", "American three-toed woodpecker"),
        ("dogs", "boxer", "boxer dog"),
        ("dogs", "Cardigan", "Cardigan Welsh corgi"),
        ("dogs", "papillon", "papillon dog"),
        ("flowers", "colt's foot", "coltsfoot"),
        ("flowers", "pink-yellow dahlia", "pink and yellow dahlia"),
        ("imagenet", "crane machine", "construction crane"),
        ("imagenet", "crane bird", "crane bird"),
    ],
)
def test_a_name_can_be_spoken(name: str, text: str, spoken: str) -> None:
    one = find_class(name, text)
    assert (name_as(one, "as-prompted"), name_as(one, "spoken")) == (text, spoken)


def test_unknown_sets_and_namings_are_refused() -> None:
    with pytest.raises(UnknownNameError, match="'dogs'"):
        class_names("dog")
    with pytest.raises(UnknownNameError, match="'spoken'"):
        name_as(class_names("dogs")[0], "Spoken")


@pytest.mark.parametrize(
    ("name", "text", "concept"),
    [
        ("imagenet", "tench", "tench"),
        ("imagenet", "tench, Tinca tinca", "tench"),
        ("imagenet", "n01440764", "tench"),
        ("imagenet", "n01440764 tench, Tinca tinca", "tench"),
        ("imagenet", "Cassette_Player", "cassette player"),
        ("imagenet", "crane_bird", "crane bird"),
        ("imagenet", "maillot, tank suit", "maillot tank suit"),
        ("imagenet", "maillot", "maillot"),
        ("imagenet", "cardigan", "cardigan"),
        ("imagenet", "Cardigan, Cardigan Welsh corgi", "Cardigan corgi"),
        ("imagenet", "harp", "harp"),
        ("imagenet", "giant panda", "giant panda"),
        ("dogs", "n02086240-Shih-Tzu", "Shih-Tzu"),
        ("dogs", "afghan_hound", "Afghan hound"),
        ("dogs", "entlebucher", "EntleBucher"),
        ("cub", "Black_footed_Albatross", "black footed albatross"),
        ("cub", "Black footed Albatross", "black footed albatross"),
        ("flowers", "60", "pink-yellow dahlia"),
    ],
)
def test_a_class_is_found_by_any_of_its_names(name: str, text: str, concept: str) -> None:
    assert find_class(name, text).concept == concept


@pytest.mark.parametrize(
    ("text", "candidates"),
    [
        ("crane", ["crane bird", "crane machine"]),
        ("panda", ["lesser panda", "giant panda"]),
        ("horn", ["cornet", "French horn"]),
        ("Cardigan", ["Cardigan corgi", "cardigan"]),
        ("Maillot", ["maillot", "maillot tank suit"]),
        ("Harp", ["harmonica", "harp"]),
    ],
)
def test_an_ambiguous_word_is_refused_with_the_classes_that_may_be_meant(
    text: str, candidates: list[str]
) -> None:
    with pytest.raises(UnknownNameError) as caught:
        find_class("imagenet", text)
    assert ", ".join(map(repr, candidates)) in caught.value.action


@pytest.mark.parametrize("text", ["", ",", "tenche", "tench, goldfish", "n01440764 goldfish", "LABEL_0"])
def test_what_names_no_class_is_refused(text: str) -> None:
    with pytest.raises(UnknownNameError, match="unknown class"):
        find_class("imagenet", text)


def test_a_thousand_labels_are_taken_by_their_place() -> None:
    classes = class_names("imagenet")
    concepts = [one.concept for one in classes]
    synsets = [", ".join(words(one)) for one in classes]
    first = [words(one)[0] for one in classes]
    assert synsets[0] == "tench, Tinca tinca" and first.count("crane") == first.count("maillot") == 2
    torchvision = [one.concept if one.concept != "Cardigan corgi" else "Cardigan" for one in classes]
    second = [*first[:517], "crane2", *first[518:]]
    mapping = [f"{one.wnid} {synset}" for one, synset in zip(classes, synsets, strict=True)]
    keras = [name.replace(" ", "_") for name in first]
    wnids, spoken = [one.wnid for one in classes], [one.spoken for one in classes]
    for labels in (concepts, synsets, first, torchvision, second, mapping, keras, wnids, spoken):
        assert imagenet_concepts(labels) == concepts


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({7: "hen", 8: "cock"}, r"label 7 is 'hen'; ImageNet has 'cock' \(n01514668\)"),
        ({638: "maillot, tank suit"}, "label 638 is 'maillot, tank suit'"),
        ({134: "crane machine", 517: "crane bird"}, "label 134 is 'crane machine'"),
        ({0: "", 1: "x"}, "label 0 is ''"),
        ({0: "LABEL_0"}, "label 0 is 'LABEL_0'"),
        ({999: "toilet tissue, roll"}, "label 999 is"),
    ],
)
def test_the_first_label_that_does_not_fit_its_place_is_named(changes: dict[int, str], named: str) -> None:
    labels = [changes.get(place, words(one)[0]) for place, one in enumerate(class_names("imagenet"))]
    with pytest.raises(DataError, match=named):
        imagenet_concepts(labels)


def test_labels_in_another_order_or_too_many_are_refused() -> None:
    concepts = [one.concept for one in class_names("imagenet")]
    with pytest.raises(DataError, match="label 0 is"):
        imagenet_concepts(sorted(concepts))
    with pytest.raises(DataError, match="1,001"):
        imagenet_concepts(["background", *concepts])


def test_fewer_labels_are_looked_up_one_by_one() -> None:
    labels = ["parachute, chute", "n01440764", "chainsaw", "Cardigan_corgi"]
    assert imagenet_concepts(labels) == ["parachute", "tench", "chain saw", "Cardigan corgi"]
    with pytest.raises(UnknownNameError, match="'crane bird', 'crane machine'"):
        imagenet_concepts(["tench", "crane"])
    with pytest.raises(DataError, match="'tench' and 'Tinca tinca' both name 'tench'"):
        imagenet_concepts(["tench", "Tinca tinca"])


def table(folder: Path, text: str) -> Path:
    """A table of names with this content."""
    path = folder / "names.csv"
    path.write_bytes(text.encode())
    return path


def test_an_own_table_needs_labels_and_concepts_alone(tmp_path: Path) -> None:
    text = '\ufefflabel,concept\r\n01_cat,"tabby, old"\r\n\r\n02_dog, dog \r\n'
    assert list(read_names(table(tmp_path, text)).values()) == [
        ClassName("01_cat", "", "tabby, old", "tabby, old", (), ""),
        ClassName("02_dog", "", "dog", "dog", (), ""),
    ]
    text = "family,synonyms,spoken,concept,label\ncats,moggy; puss;,tabby cat,tabby,7\n,,,dog,8\n"
    names = read_names(table(tmp_path, text))
    assert names["7"] == ClassName("7", "", "tabby", "tabby cat", ("moggy", "puss"), "cats")
    assert names["8"].spoken == "dog"


def test_our_tables_are_such_tables_and_are_written_plainly(repo: Path) -> None:
    paths = sorted(NAMES.glob("*.csv"))
    assert [path.stem for path in paths] == ["cub", "dogs", "flowers", "imagenet"]
    for path in paths:
        content = path.read_bytes().decode("utf-8")
        assert "\r" not in content and content.endswith("\n") and not content.startswith("\ufeff")
        head, *rows = csv.reader(content.splitlines())
        assert tuple(head) == COLUMNS and [row[0] for row in rows] == list(read_names(path))
        assert all(text == text.strip() for row in rows for text in row)
    project = tomllib.loads((repo / "pyproject.toml").read_text(encoding="utf-8"))
    patterns = project["tool"]["setuptools"]["package-data"]["fade"]
    assert set(paths) <= {path for pattern in patterns for path in (repo / "fade").glob(pattern)}


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", "names no class"),
        ("label,concept\n", "names no class"),
        ("label,name\n1,x\n", r"columns: missing \['concept'\], unknown or twice \['name'\]"),
        ("label,concept,concept\n1,x,y\n", r"unknown or twice \['concept'\]"),
        ("label;concept\n1;x\n", "missing"),
        ("label,concept\n1,x,y\n", "row 2 has 3 fields"),
        ("label,concept\n1\n", "row 2 has 1 fields"),
        ('label,concept\n1,"x\n', "no CSV table"),
        ("label,concept\n,x\n", "row 2, column label"),
        ("label,concept\n1,\n", "row 2, column concept"),
        ("label,concept\n1,x\n1,y\n", "row 3, column label: '1' stands in row 2"),
        ("label,concept\n1,x\n2,x\n", "row 3, column concept: 'x' stands in row 2"),
        ("label,concept\n1,Cardigan\n2,cardigan\n", "row 3, column concept: 'cardigan' cannot be told apart"),
        ("label,concept\n1,blue jay\n2,blue-jay\n", "cannot be told apart from 'blue jay' in row 2"),
        ("label,concept\n1,panda\n2,p\u0430nda\n", "cannot be told apart"),
        ("label,concept,spoken\n1,x,jay\n2,y,Jay\n", "row 3, column spoken"),
        ("label,concept,spoken\n1,x,y/z\n", "row 2, column spoken: 'y/z'"),
        ("label,concept,family\n1,x,a\u200bb\n", "row 2, column family"),
        ("label,concept\n1,a {draft}\n", "row 2, column concept: 'a {draft}'"),
        ("label,concept\n1,base\n", "reserved"),
        ("label,concept\n1,12\n", "a number is no name"),
        (f"label,concept\n1,{'x' * 81}\n", "81 characters"),
        ("label,concept,wnid\n1,x,n123\n", "row 2, column wnid"),
        ("label,concept,wnid\n1,x,n01440764\n2,y,n01440764\n", "row 3, column wnid"),
        ('label,concept,synonyms\n1,x,"a\nb"\n', "column synonyms"),
        ('label,concept\n"a\nb",x\n', "column label"),
        ("label,concept\n1,\0\n", "cannot be read"),
    ],
)
def test_a_table_that_is_none_is_refused_by_row_and_column(tmp_path: Path, text: str, named: str) -> None:
    with pytest.raises(DataError, match=named) as caught:
        read_names(table(tmp_path, text))
    assert "names.csv" in str(caught.value) and "label, concept" in caught.value.action


def test_a_missing_table_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"names\.csv does not exist"):
        read_names(tmp_path / "names.csv")
    with pytest.raises(DataError, match="it is a folder"):
        read_names(tmp_path)
