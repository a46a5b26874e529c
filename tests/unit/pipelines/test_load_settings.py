"""One value says what is loaded and how; the app and every command read it from the same options."""

from __future__ import annotations

import argparse
from dataclasses import replace

import pytest

from dit_prune_viz.app import serve
from dit_prune_viz.errors import UserError
from dit_prune_viz.experiments import cli
from dit_prune_viz.pipelines.load_settings import (
    LoadSettings,
    Lora,
    add_load_options,
    changed,
    read_load_settings,
    split_hub_path,
)
from dit_prune_viz.resources import BUNDLED_MODEL


def read(*arguments: str) -> LoadSettings:
    parser = argparse.ArgumentParser()
    add_load_options(parser)
    return read_load_settings(parser.parse_args(arguments))


def test_nothing_asked_for_is_the_bundled_model():
    assert read() == LoadSettings(str(BUNDLED_MODEL))
    assert read().plain
    assert not read("--dequantize").plain


def test_every_option(tmp_path):
    (tmp_path / "token").write_text("hf_secret\n")
    settings = read(
        *("--model", "org/name", "--revision", "v2", "--subfolder", "small", "--base", "org/base"),
        *("--lora", "a.safetensors:0.5", "--lora", "org/lora", "--token-file", str(tmp_path / "token")),
        *("--device", "cpu", "--dtype", "bfloat16", "--dequantize", "--placement", "stream"),
    )
    assert settings == LoadSettings(
        model="org/name",
        device="cpu",
        dtype="bfloat16",
        placement="stream",
        revision="v2",
        subfolder="small",
        token="hf_secret",
        base="org/base",
        loras=(Lora("a.safetensors", 0.5), Lora("org/lora", 1.0)),
        dequantize=True,
    )
    assert "hf_secret" not in repr(settings)
    other = settings.for_model("org/other")
    assert (other.model, other.revision, other.subfolder, other.loras) == ("org/other", None, None, ())
    assert (other.base, other.token, other.device) == ("org/base", "hf_secret", "cpu")
    assert settings.for_model("org/name ") is settings


def test_options_of_the_api():
    settings = LoadSettings("org/name", base="org/base", token="hf_secret")
    options = {"revision": "v2", "lora": ["a.safetensors:0.5"], "dequantize": True, "base": None, "placement": "cpu"}
    loras = (Lora("a.safetensors", 0.5),)
    assert changed(settings, options) == LoadSettings(
        "org/name", revision="v2", loras=loras, dequantize=True, token="hf_secret", placement="cpu"
    )
    assert changed(settings, {}) == settings


@pytest.mark.parametrize(
    "options",
    [
        {"token": "x"},
        {"model": "x"},
        {"lora": "a:1"},
        {"lora": [1]},
        {"dequantize": 1},
        {"base": 2},
        {"placement": 3},
        [1],
    ],
)
def test_options_of_the_api_that_are_refused(options):
    with pytest.raises(UserError, match=r"option.+\.$"):
        changed(LoadSettings("org/name"), options)


def test_a_placement_that_is_none_is_refused_before_anything_is_looked_for():
    with pytest.raises(UserError, match="Unknown placement 'gpu'"):
        changed(LoadSettings("org/name"), {"placement": "gpu"})


@pytest.mark.parametrize("content", ["", "  \n", "two words", None])
def test_a_token_that_is_none(tmp_path, content):
    if content is not None:
        (tmp_path / "token").write_text(content)
    with pytest.raises(UserError, match=r"^--token-file .+\.$"):
        read("--token-file", str(tmp_path / "token"))


def test_no_token_on_the_command_line():
    """Other users of a machine see command lines."""
    with pytest.raises(UserError) as caught:  # it is short for --token-file
        read_load_settings(serve.parse(["--token", "hf_secret"]))
    assert "hf_secret" not in str(caught.value)


@pytest.mark.parametrize("command", [["prune"], ["sweep", "--out", "x"], ["converge"], None])
def test_the_app_and_every_command_take_them(command):
    arguments = ["--model", "org/name", "--base", "org/base", "--lora", "x:2", "--revision", "v2", "--dequantize"]
    arguments += ["--placement", "cpu"]
    if command is None:
        options = serve.parse(arguments)
    else:
        options = cli._parser("dit-prune-viz").parse_args([*command, *arguments])
    found = read_load_settings(options)
    expected = LoadSettings("org/name", base="org/base", loras=(Lora("x", 2.0),), revision="v2", dequantize=True)
    assert found == replace(expected, placement="cpu")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a.safetensors", Lora("a.safetensors", 1.0)),
        ("a.safetensors:0.8", Lora("a.safetensors", 0.8)),
        ("a.safetensors: -1e-1 ", Lora("a.safetensors", -0.1)),
        (r"C:\loras\a.safetensors", Lora(r"C:\loras\a.safetensors", 1.0)),
        (r"C:\loras\a.safetensors:.5", Lora(r"C:\loras\a.safetensors", 0.5)),
        ("C:/loras/a.safetensors", Lora("C:/loras/a.safetensors", 1.0)),
        ("a:b/c.safetensors", Lora("a:b/c.safetensors", 1.0)),
        ("a:b/c.safetensors:2", Lora("a:b/c.safetensors", 2.0)),
        ("org/name:0", Lora("org/name", 0.0)),
    ],
)
def test_files_and_scales(text, expected):
    assert Lora.parse(text) == expected


def test_a_file_whose_name_ends_like_a_scale(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "style:2").write_bytes(b"")
    assert Lora.parse("style:2") == Lora("style:2", 1.0)
    assert Lora.parse("style:2:3") == Lora("style:2", 3.0)


@pytest.mark.parametrize("text", ["a.safetensors:strong", "a:", "a:nan", "a:inf", ":1", "", " "])
def test_scales_that_are_no_numbers(text):
    with pytest.raises(UserError, match=r"(is no number; write FILE:0\.8|write FILE or FILE:SCALE)\.$"):
        Lora.parse(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("org/name", ("org/name", None, None)),
        ("org/name@v2", ("org/name", "v2", None)),
        ("org/name/sub/folder", ("org/name", None, "sub/folder")),
        ("org/name@v2/sub", ("org/name", "v2", "sub")),
        ("hf://org/name@0123abc/file.safetensors", ("org/name", "0123abc", "file.safetensors")),
        ("org/name/", ("org/name", None, None)),
        ("no model at all", ("no model at all", None, None)),
    ],
)
def test_hub_paths(text, expected):
    assert split_hub_path(text) == expected
