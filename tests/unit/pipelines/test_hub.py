"""Hub models with a stand-in for the hub: what is downloaded, and one sentence for every refusal."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError

from dit_prune_viz.errors import Cancelled, UserError
from dit_prune_viz.metrics.clip import load_clip
from dit_prune_viz.pipelines import hub
from dit_prune_viz.pipelines.model import load_model


def http_error(kind: type[HfHubHTTPError], status: int) -> HfHubHTTPError:
    response = SimpleNamespace(status_code=status, headers={}, request=None)
    return kind("No.\nDetails of the request", response=response)


class Hub:
    """Has one model, the files of a folder. `error` is raised by the call of the same name in `at`."""

    def __init__(self, folder: Path, monkeypatch) -> None:
        self.folder, self.calls, self.at, self.error = folder, [], "", None
        monkeypatch.setattr(hub, "HfApi", lambda: SimpleNamespace(model_info=self.model_info))
        monkeypatch.setattr(hub, "auth_check", self.auth_check)
        monkeypatch.setattr(hub, "hf_hub_download", self.file)
        monkeypatch.setattr(hub, "snapshot_download", self.download)
        monkeypatch.setattr(hub, "try_to_load_from_cache", self.cached)
        self.gated = False

    def _called(self, what: str, **options) -> None:
        self.calls.append((what, options))
        if what == self.at:
            raise self.error

    def model_info(self, hub_id, *, revision, token, timeout, files_metadata):
        self._called("model_info", revision=revision, token=token)
        paths = [path for path in self.folder.rglob("*") if path.is_file()]
        files = [
            SimpleNamespace(rfilename=path.relative_to(self.folder).as_posix(), size=path.stat().st_size)
            for path in paths
        ]
        return SimpleNamespace(gated=self.gated, siblings=files, sha="0123abc")

    def auth_check(self, hub_id, *, token):
        self._called("auth_check", token=token)

    def file(self, hub_id, file, *, revision, token):
        self._called("file", revision=revision, token=token)
        return str(self.folder / file)

    def download(self, hub_id, *, revision, token, allow_patterns, tqdm_class):
        self._called("download", revision=revision, token=token)
        self.downloaded = set(allow_patterns)
        with tqdm_class(total=0, unit="B", desc="received") as bar, tqdm_class(total=9, unit="it") as files:
            for file in allow_patterns:
                bar.update((self.folder / file).stat().st_size)
                files.update(1)
        return str(self.folder)

    def cached(self, hub_id, file, *, revision):
        self._called("cached", revision=revision)
        return None


@pytest.fixture
def there(tiny_flux, tmp_path, monkeypatch) -> Hub:
    return Hub(shutil.copytree(tiny_flux, tmp_path / "snapshot"), monkeypatch)


def refusal(**options) -> str:
    with pytest.raises(UserError) as caught:
        load_model("org/name", device="cpu", **options)
    message = str(caught.value)
    assert message.endswith(".")
    assert "\n" not in message
    return message


def test_revision_and_token_go_along(there, flux):
    there.gated = True
    model = load_model("org/name", device="cpu", dtype="float32", revision="v2", token="secret")
    assert (model.source, model.name) == ("org/name", "org/name")
    assert model.fingerprint == flux.fingerprint
    assert model.defaults.prompts == flux.defaults.prompts
    asked, exactly = {"revision": "v2", "token": "secret"}, {"revision": "0123abc", "token": "secret"}
    calls = [call for call in there.calls if call[0] != "cached"]
    assert calls == [("model_info", asked), ("auth_check", {"token": "secret"}), ("file", asked), ("download", exactly)]
    assert "secret" not in repr(hub.Checkout("org/name", token="secret"))


def test_a_variant_is_downloaded_where_there_is_nothing_else(there):
    file = there.folder / "transformer/diffusion_pytorch_model.safetensors"
    file.rename(file.with_name("diffusion_pytorch_model.fp16.safetensors"))
    assert load_model("org/name", device="cpu").layers
    assert "transformer/diffusion_pytorch_model.fp16.safetensors" in there.downloaded
    assert "text_encoder/model.safetensors" in there.downloaded


NOT_FOUND, NO_REVISION, GATED, TOKEN = (
    "neither a folder nor a hub",
    "no revision 'v2'",
    "is gated",
    "does not accept the token",
)


@pytest.mark.parametrize("at", ["model_info", "file", "download"])
@pytest.mark.parametrize(
    ("kind", "status", "words"),
    [
        (RepositoryNotFoundError, 404, NOT_FOUND),
        (RevisionNotFoundError, 404, NO_REVISION),
        (GatedRepoError, 403, GATED),
        (HfHubHTTPError, 401, "does not accept the token"),
    ],
)
def test_what_the_hub_refuses(there, at, kind, status, words):
    there.at, there.error = at, http_error(kind, status)
    assert words in refusal(revision="v2")


def test_a_licence_that_was_not_accepted(there):
    there.gated, there.at, there.error = True, "auth_check", http_error(GatedRepoError, 403)
    assert GATED in refusal()
    assert "download" not in dict(there.calls)


@pytest.mark.parametrize("error", [ConnectionError("no route"), http_error(HfHubHTTPError, 503)])
def test_no_connection(there, error, monkeypatch):
    there.at, there.error = "model_info", error
    assert "the hub cannot be reached" in refusal()
    assert "at revision 'v2' and the hub" in refusal(revision="v2")
    monkeypatch.setattr(hub, "try_to_load_from_cache", lambda *_, **__: str(there.folder / "model_index.json"))
    assert load_model("org/name", device="cpu").layers
    shutil.rmtree(there.folder / "vae")
    assert "it has no folder vae; download" in refusal()


def test_a_download_that_breaks_off(there):
    there.at, there.error = "download", OSError(28, "No space left on device")
    assert "could not be downloaded ([Errno 28] No space left on device); check" in refusal()
    there.error = http_error(HfHubHTTPError, 500)
    assert "could not send org/name; try again later" in refusal()


def test_no_pipeline_on_the_hub(there):
    index = there.folder / "model_index.json"
    index.write_text(json.dumps({**json.loads(index.read_text()), "transformer": [None, None]}))
    assert "no transformer" in refusal()
    index.unlink()
    assert "choose a hub model in diffusers format" in refusal()


def test_only_what_is_loaded_is_downloaded(there):
    for extra in ("flux1-dev.safetensors", "ae.sft", "vae/diffusion_pytorch_model.bin", "onnx/model.onnx", "cat.png"):
        (there.folder / extra).parent.mkdir(exist_ok=True)
        (there.folder / extra).write_bytes(b"x")
    weights = there.folder / "transformer/diffusion_pytorch_model.safetensors"
    shutil.copy(weights, weights.with_name("diffusion_pytorch_model.fp16.safetensors"))
    assert load_model("org/name", device="cpu").layers
    parts = json.loads((there.folder / "model_index.json").read_text())
    folders = {file.partition("/")[0] for file in there.downloaded if "/" in file}
    assert folders == {key for key, part in parts.items() if key[0] != "_" and part[0]}
    top = {file for file in there.downloaded if "/" not in file}
    assert top == {"model_index.json", "generation_defaults.json"}
    assert "transformer/diffusion_pytorch_model.safetensors" in there.downloaded
    assert "transformer/diffusion_pytorch_model.fp16.safetensors" not in there.downloaded
    assert "vae/diffusion_pytorch_model.bin" not in there.downloaded


@pytest.mark.parametrize(
    ("source", "options"),
    [
        ("org/name@v2/models/small", {}),
        ("hf://org/name/models/small", {"revision": "v2"}),
        ("org/name", {"revision": "v2", "subfolder": "models/small"}),
    ],
)
def test_a_pipeline_in_a_subfolder(there, flux, tmp_path, source, options):
    inner = tmp_path / "repository/models/small"
    shutil.copytree(there.folder, inner)
    (tmp_path / "repository/model_index.json").write_text("{}")
    there.folder = tmp_path / "repository"
    model = load_model(source, device="cpu", dtype="float32", **options)
    assert model.fingerprint == flux.fingerprint
    assert all(file.startswith("models/small/") for file in there.downloaded)
    assert dict(there.calls)["model_info"]["revision"] == "v2"
    with pytest.raises(UserError, match=r"names the (revision|subfolder) .+ and 'other' is asked for"):
        load_model("org/name@v2/models", revision="v2" if "@" not in source else "other", subfolder="other")


def test_what_a_repository_without_a_pipeline_holds(there):
    for path in list(there.folder.iterdir()):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    (there.folder / "unet").mkdir()
    (there.folder / "unet/flux1-dev-fp8.safetensors").write_bytes(b"x")
    assert "such as org/name/unet/flux1-dev-fp8.safetensors" in refusal()
    assert "has no folder 'nowhere'" in refusal(subfolder="nowhere")


def test_the_progress_of_a_download(there):
    told = []
    load_model("org/name", device="cpu", progress=lambda *news: told.append(news))
    size = sum((there.folder / file).stat().st_size for file in there.downloaded)
    done, total, words = told[-1]
    assert done == total == max(1, size // 1_000_000)
    assert words == f"Downloading org/name, {size / 1e6:.1f} MB of {size / 1e6:.1f} MB"
    assert [news[0] for news in told] == sorted(news[0] for news in told)


def test_a_download_is_cancelled(there):
    def progress(done: int, total: int, what: str) -> None:
        raise Cancelled

    with pytest.raises(Cancelled):
        load_model("org/name", device="cpu", progress=progress)


def test_a_disk_that_is_too_small(there, monkeypatch):
    monkeypatch.setattr(hub.shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
    assert "are free at" in refusal()
    assert "download" not in dict(there.calls)


def test_a_clip_is_downloaded_before_it_is_opened(there, tiny_clip, tmp_path):
    there.folder = shutil.copytree(tiny_clip, tmp_path / "clip")
    (there.folder / "pytorch_model.bin").write_bytes(b"never read")
    (there.folder / "onnx").mkdir()
    (there.folder / "onnx/model.json").write_text("{}")
    clip = load_clip("org/clip")
    assert clip.name == "org/clip"
    assert torch.equal(clip.embed_texts(["a cat"]), load_clip(tiny_clip).embed_texts(["a cat"]))
    assert there.downloaded == {path.name for path in tiny_clip.iterdir()}
