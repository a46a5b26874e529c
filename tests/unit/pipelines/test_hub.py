"""Hub models with a stand-in for the hub: what is downloaded, and one sentence for every refusal."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError

from dit_prune_viz.errors import UserError
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
        monkeypatch.setattr("diffusers.DiffusionPipeline.download", self.download)
        monkeypatch.setattr(hub, "try_to_load_from_cache", self.cached)
        self.gated = False

    def _called(self, what: str, **options) -> None:
        self.calls.append((what, options))
        if what == self.at:
            raise self.error

    def model_info(self, hub_id, *, revision, token, timeout):
        self._called("model_info", revision=revision, token=token)
        files = [path.relative_to(self.folder).as_posix() for path in self.folder.rglob("*") if path.is_file()]
        return SimpleNamespace(gated=self.gated, siblings=[SimpleNamespace(rfilename=file) for file in files])

    def auth_check(self, hub_id, *, token):
        self._called("auth_check", token=token)

    def file(self, hub_id, file, *, revision, token):
        self._called("file", revision=revision, token=token)
        return str(self.folder / file)

    def download(self, hub_id, *, revision, token, variant, use_safetensors):
        assert use_safetensors
        self._called("download", revision=revision, token=token, variant=variant)
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
    asked = {"revision": "v2", "token": "secret"}
    assert there.calls == [
        ("model_info", asked),
        ("auth_check", {"token": "secret"}),
        ("file", asked),
        ("download", {**asked, "variant": None}),
    ]
    assert "secret" not in repr(hub.Checkout("org/name", token="secret"))


def test_a_variant_is_downloaded_where_there_is_nothing_else(there):
    file = there.folder / "transformer/diffusion_pytorch_model.safetensors"
    file.rename(file.with_name("diffusion_pytorch_model.fp16.safetensors"))
    assert load_model("org/name", device="cpu").layers
    assert there.calls[-1] == ("download", {"revision": None, "token": None, "variant": "fp16"})


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
    assert "vae/diffusion_pytorch_model.safetensors is missing" in refusal()


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
