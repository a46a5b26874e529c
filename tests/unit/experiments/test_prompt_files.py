"""Prompt files as people have them: every kind is read as its authors wrote it, and what is none is refused."""

from __future__ import annotations

import codecs
import csv
import io
import json

import pytest
from PIL import Image

import dit_prune_viz as dpv
from dit_prune_viz.errors import UserError
from dit_prune_viz.experiments import prompts as prompt_sets
from dit_prune_viz.experiments.prompt_files import MAX_BYTES
from dit_prune_viz.experiments.prompts import PromptSet, read_prompts


@pytest.fixture
def read(tmp_path):
    """Writes a file and reads it."""

    def write_and_read(name: str, content: str | bytes, encoding: str = "utf-8") -> PromptSet:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode(encoding))
        return read_prompts(path)

    return write_and_read


GENEVAL = (
    '{"tag": "single_object", "include": [{"class": "bench", "count": 1}], "prompt": "a photo of a bench"}\n'
    '{"tag": "colors", "include": [{"class": "cow", "count": 1, "color": "red"}], "prompt": "a photo of a red cow"}\n'
)
TWO = PromptSet(("a photo of a bench", "a photo of a red cow"), ("single_object", "colors"))


def test_reading_is_part_of_the_library():
    assert dpv.read_prompts is read_prompts
    assert dpv.PromptSet is PromptSet


@pytest.mark.parametrize("name", ["evaluation_metadata.jsonl", "a.ndjson", "a.json", "a.txt", "A.JSONL"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r", "\n\n"])
def test_json_lines_of_geneval(read, name, end):
    assert read(name, GENEVAL.replace("\n", end)) == TWO


def test_json_lines_of_texts_with_a_separator_of_lines_inside(read):
    """U+2028 is a plain character of a JSON text, and no end of a line."""
    assert read("a.jsonl", '"a cat\u2028asleep"\n"two dogs"').prompts == ("a cat\u2028asleep", "two dogs")


def test_json_lists_and_dictionaries(read):
    for key in ("prompt", "Prompt", "PROMPTS", "text", "caption"):
        assert read("a.json", json.dumps([{key: "a cat"}, {key: "a dog"}])).prompts == ("a cat", "a dog")
    both = {"caption": "what is seen", "prompt": "what was asked for", "text": "else"}
    assert read("a.json", json.dumps([both])).prompts == ("what was asked for",)
    assert read("a.json", '{"7": "a cat", "3": "a dog"}').prompts == ("a cat", "a dog")
    assert read("a.json", '{"prompt": "a cat", "category": 3}') == PromptSet(("a cat",), ("3",))
    assert read("a.json", '["a cat", null, " ", {"prompt": null}, {"text": "a dog"}]').prompts == ("a cat", "a dog")


def test_meta_data_of_mjhq(read):
    meta = {"0a": {"category": "people", "prompt": "a man"}, "0b": {"category": "food", "prompt": "a pie"}}
    assert read("meta_data.json", json.dumps(meta)) == PromptSet(("a man", "a pie"), ("people", "food"))


def test_captions_of_coco(read):
    coco = {
        "info": {"description": "COCO 2017 Dataset", "year": 2017},
        "images": [{"license": 4, "file_name": "000000397133.jpg", "height": 427, "id": 397133}],
        "licenses": [{"url": "http://creativecommons.org", "id": 1, "name": "a licence"}],
        "annotations": [
            {"image_id": 179765, "id": 38, "caption": "A black Honda motorcycle parked in front of a garage."},
            {"image_id": 190236, "id": 182, "caption": "An office cubicle with four different types of computers.\n"},
        ],
    }
    assert read("captions_val2017.json", json.dumps(coco)) == PromptSet(
        (
            "A black Honda motorcycle parked in front of a garage.",
            "An office cubicle with four different types of computers.",
        )
    )
    with pytest.raises(UserError, match="without a"):
        read("instances.json", json.dumps({**coco, "annotations": [{"image_id": 1, "bbox": [0, 0, 1, 1]}]}))


def test_several_captions_of_a_picture(read):
    entries = [{"image": "a.jpg", "caption": ["a cat", "a kitten"]}, {"image": "b.jpg", "caption": ["a dog"]}]
    assert read("coco_karpathy_val.json", json.dumps(entries)).prompts == ("a cat", "a kitten", "a dog")


def test_a_list_for_every_style_as_of_hpsv2(read):
    styles = {"anime": ["a girl", "a robot"], "photo": ["a dog"]}
    assert read("a.json", json.dumps(styles)) == PromptSet(("a girl", "a robot", "a dog"), ("anime", "anime", "photo"))
    entries = {name: [{"prompt": text} for text in texts] for name, texts in styles.items()}
    assert read("a.json", json.dumps(entries)) == read("b.json", json.dumps(styles))


@pytest.mark.parametrize(
    "content",
    [
        {"prompt": ["a cat", "a dog"], "Category": ["x", "y"]},
        {"prompt": {"0": "a cat", "1": "a dog"}, "category": {"0": "x", "1": "y"}},
        {"prompts": [{"prompt": "a cat", "category": "x"}, {"prompt": "a dog", "category": "y"}]},
        {"version": 2, "data": [{"text": "a cat", "tag": "x"}, {"text": "a dog", "tag": ["y"]}]},
    ],
)
def test_json_written_by_column_or_wrapped(read, content):
    assert read("a.json", json.dumps(content)) == PromptSet(("a cat", "a dog"), ("x", "y"))


PARTI = (
    "Prompt\tCategory\tChallenge\tNote\n"
    '"G I G G L E" painted in thick colors\tArts\tWriting & Symbols\t\n'
    'a sign that says "Hello\tArtifacts\tWriting & Symbols\tone quote\n'
    "the moon\tOutdoor Scenes\tBasic\t\n"
    '"Hello"\tAbstract\tBasic\t\n'
)
PARTI_PROMPTS = ('"G I G G L E" painted in thick colors', 'a sign that says "Hello', "the moon", '"Hello"')


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_quotes_in_the_table_of_parti_are_text(read, end):
    categories = ("Arts", "Artifacts", "Outdoor Scenes", "Abstract")
    assert read("PartiPrompts.tsv", PARTI.replace("\n", end)) == PromptSet(PARTI_PROMPTS, categories)
    assert read("PartiPrompts.txt", PARTI.replace("\n", end)).prompts == PARTI_PROMPTS  # as Excel saves it


def test_a_tab_separated_table_that_a_program_quoted(read):
    """Doubled quotes inside quoted ones are no text that anybody writes."""
    file = io.StringIO()
    table = csv.writer(file, delimiter="\t", lineterminator="\n")
    table.writerows([["Prompt"], *([prompt] for prompt in PARTI_PROMPTS[:3])])
    assert read("a.tsv", file.getvalue()).prompts == PARTI_PROMPTS[:3]


@pytest.mark.parametrize("name", ["Prompt", "Prompts", "prompt", "caption", "TEXT", " text "])
def test_columns_that_hold_prompts(read, name):
    assert read("a.csv", f"id,{name},Category\n1,a cat,x\n2,,y\n3\n").prompts == ("a cat",)
    assert read("a.tsv", f"id\t{name}\n1\ta cat\n").prompts == ("a cat",)


def test_the_table_of_drawbench(read):
    text = 'Prompts,Category\nA red colored car.,Colors\n"One cat, and two dogs.",Counting\n'
    expected = PromptSet(("A red colored car.", "One cat, and two dogs."), ("Colors", "Counting"))
    assert read("drawbench.csv", text) == expected
    semicolons = 'sep=;\r\nPrompts;Category\nA red colored car.;Colors\n"One cat, and two dogs.";Counting'
    assert read("drawbench.csv", semicolons) == expected
    assert read("drawbench.csv", text.replace(",C", ";C")).prompts == expected.prompts


def test_questions_of_dpg_repeat_their_prompt(read):
    text = "item_id,text,category_broad\n1,a long scene,entity\n1,a long scene,attribute\n2,a pier,entity\n"
    found = read("dpg_bench.csv", text)
    assert found.summary == "3 prompts; 1 duplicate, drawn once; 0 too long."
    assert sorted(found.sample(2)) == ["a long scene", "a pier"]
    with pytest.raises(UserError, match="There are 2 prompts, fewer than the 3"):
        found.sample(3)


@pytest.mark.parametrize("ends", ["\n", "\r\n"])
def test_a_csv_follows_its_rules(read, ends):
    prompts = ["a cat, asleep", 'a sign "EXIT"', "two\nlines", "plain", " spaces "]
    file = io.StringIO(newline="")
    csv.writer(file, lineterminator=ends).writerows([["prompt"], *([prompt] for prompt in prompts)])
    assert read("a.csv", file.getvalue()).prompts == tuple(prompt.strip() for prompt in prompts)
    assert read("a.csv", f'prompt,n{ends}say "hello" twice,1{ends}').prompts == ('say "hello" twice',)


def test_a_lone_column_with_commas_is_not_cut(read):
    assert read("a.csv", "Prompt\na cat, asleep, at night\na dog\n").prompts == ("a cat, asleep, at night", "a dog")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("prompt,n\na cat, asleep,1\n", "3 cells in line 2 where its first line has 2"),
        ('prompt,n\na dog,1\n"a cat,2\na bus,3\n', "a quote is never closed in the row from line 3"),
        ('prompt,n\n"G I G" painted,1\n', "not a readable table"),
        ("name,value\na,1\n", "no column Prompt, caption or text: its first line has name, value"),
        ("a cat asleep\n", "its first line has a cat asleep"),
        ("\n\n", "no column Prompt"),
    ],
)
def test_what_is_no_table_of_prompts(read, content, words):
    with pytest.raises(UserError, match=words):
        read("a.csv", content)


@pytest.mark.parametrize(
    "encoded",
    [
        codecs.BOM_UTF8 + "Prompt\tCategory\r\ncafé 🍕\tfood\r\n".encode(),
        "Prompt\tCategory\r\ncafé 🍕\tfood\r\n".encode("utf-16"),
        codecs.BOM_UTF16_BE + "Prompt\tCategory\r\ncafé 🍕\tfood\r\n".encode("utf-16-be"),
        "Prompt\tCategory\ncafé 🍕\tfood".encode("utf-32"),
    ],
)
@pytest.mark.parametrize("name", ["a.tsv", "a.txt"])
def test_encodings_that_are_marked(read, name, encoded):
    assert read(name, encoded) == PromptSet(("café 🍕",), ("food",))


def picture(kind: str) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(file, kind)
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        *((picture(kind), "is a picture") for kind in ("PNG", "JPEG", "GIF", "WEBP", "TIFF")),
        (b"PK\x03\x04 a workbook", "ZIP archive"),
        (b"PAR1\x15\x04", "Parquet"),
        (b"%PDF-1.7\n", "PDF"),
        (b"\x1f\x8b\x08\x00", "compressed"),
        (b"a cat\0a dog", "binary"),
        ("a cat".encode("utf-16-le"), "binary"),
        ("café".encode("latin-1"), "not UTF-8"),
        (codecs.BOM_UTF16_LE + b"\x00", "not UTF-8"),
        (b"\n<!DOCTYPE html>\n<html><body>404</body></html>", "web page"),
        (b"<?xml version='1.0'?><svg/>", "web page or XML"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "not fetched"),
        (b"{\\rtf1 a cat}", "word processor"),
    ],
)
@pytest.mark.parametrize("name", ["a.txt", "a.json", "a.csv"])
def test_what_is_obviously_no_list_of_prompts(read, name, content, words):
    with pytest.raises(UserError, match=words) as caught:
        read(name, content)
    assert caught.value.args[0].count(". ") == 0


def test_a_prompt_may_look_like_something_else(read):
    wildcards = ("{red|blue} car", '["EXIT"] in neon')
    assert read("a.txt", "\n".join(wildcards)).prompts == wildcards
    lines = ("[a cat] in brackets", "<3 a heart", "RIFF raff", "{", "PAR1 is a number plate")
    assert read("a.txt", "\n".join(lines)).prompts == lines


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('{"prompt": "a"}\n{"prompt": \n', "not readable JSON"),
        ('{"prompt": "a"}\n{"other": "b", "more": 1}\n', "it has 'other', 'more'"),
        ("[[1]]", 'without a "prompt"'),
        ("[" * 100_000, "not readable JSON"),
        ('["a" "b"]', "not readable JSON"),
        ('{"prompt": {"0": [["deep"]]}}', "without a"),
        ("[]", "no prompts"),
        ("{}", "no prompts"),
        ("1" * 5000, "not readable JSON"),
    ],
)
def test_what_is_no_json_of_prompts(read, content, words):
    with pytest.raises(UserError, match=words):
        read("a.json", content)


def test_bounds(read, tmp_path, monkeypatch):
    found = read("a.txt", "a cat\n" + "x" * 2001 + "\n" + "y" * 2000)
    assert (len(found.prompts), found.too_long) == (2, 1)
    assert found.summary.endswith("1 too long, left out (longer than 2,000 characters).")
    with pytest.raises(UserError, match="no prompts of at most 2,000"):
        read("a.txt", "x" * 2001)
    monkeypatch.setattr(prompt_sets, "MAX_PROMPTS", 3)
    with pytest.raises(UserError, match="4 prompts, more than 3"):
        read("a.txt", "a\nb\nc\nd")
    with (tmp_path / "large.txt").open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    with pytest.raises(UserError, match="larger than 64 MB"):
        read_prompts(tmp_path / "large.txt")


def test_a_folder_of_single_prompts_as_of_dpg(tmp_path):
    for name, text in {"10": "the tenth", "2": "the second\n", "1": "the first"}.items():
        (tmp_path / f"{name}.txt").write_text(text)
    (tmp_path / ".hidden.txt").write_text("x")
    (tmp_path / "image.png").write_bytes(b"x")
    assert read_prompts(tmp_path) == PromptSet(("the first", "the second", "the tenth"))


def test_a_folder_of_lists_has_a_category_for_every_file(tmp_path):
    (tmp_path / "color_val.txt").write_text("a red bus\na blue cow\n")
    (tmp_path / "shape_val.txt").write_text("a round box\n")
    (tmp_path / "meta.jsonl").write_text(GENEVAL)
    expected = ("a red bus", "a blue cow", *TWO.prompts, "a round box")
    categories = ("color_val", "color_val", *TWO.categories, "shape_val")
    assert read_prompts(tmp_path) == PromptSet(expected, categories)
    paths = [str(tmp_path / name) for name in ("shape_val.txt", "color_val.txt", "meta.jsonl")]
    assert read_prompts(paths) == PromptSet(expected, categories)


def test_folders_that_cannot_be_read(tmp_path, monkeypatch):
    with pytest.raises(UserError, match="holds no prompt files"):
        read_prompts(tmp_path)
    with pytest.raises(UserError, match="no prompt file"):
        read_prompts([])
    for path in (tmp_path / "nothing.txt", "a\0.txt", [tmp_path, tmp_path]):
        with pytest.raises(UserError, match="cannot be read"):
            read_prompts(path)
    for place in range(3):
        (tmp_path / f"{place}.txt").write_text("a cat")
    monkeypatch.setattr(prompt_sets, "MAX_FILES", 2)
    with pytest.raises(UserError, match="3 prompt files, more than 2"):
        read_prompts(tmp_path)


def test_a_draw_keeps_prompt_and_category_together():
    chosen = PromptSet(("a", "b", "c", "a", "d"), ("x", "x", "y", "x", ""))
    drawn = chosen.draw(4, seed=1)
    assert dict(zip(drawn.prompts, drawn.categories, strict=True)) == {"a": "x", "b": "x", "c": "y", "d": ""}
    assert drawn.prompts == chosen.sample(4, seed=1)
    assert chosen.summary == "5 prompts in 2 categories; 1 duplicate, drawn once; 0 too long."
    assert chosen.sizes == {"x": 3, "y": 1}
    assert PromptSet(("a",), ("x",)).summary == "1 prompt in 1 category; 0 duplicates; 0 too long."
