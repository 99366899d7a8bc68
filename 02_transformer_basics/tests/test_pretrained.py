"""Finding models: a model asked for by name is loaded or refused; without a name nobody waits for the hub."""

import json
import os
import pickle
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer, DistilBertModel

from lab.errors import UserError
from models import hub as pretrained
from models.hub import GENERATION, SENTIMENT, Task, find_on_hub, hub_reachable, load_model

COMMIT = "0123456789abcdef0123456789abcdef01234567"
DECISION_SECONDS = 3.0


def cache(hub: Path, name: str, model: Path, *files: str) -> Path:
    """Put `model`, or only `files` of it, into the hub's cache as `name`, as a download would."""
    folder = hub / f"models--{name.replace('/', '--')}"
    snapshot = folder / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    for path in model.iterdir():
        if not files or path.name in files:
            shutil.copy(path, snapshot)
    (folder / "refs").mkdir()
    (folder / "refs/main").write_text(COMMIT)
    return snapshot


def edit_config(folder: Path, **changes: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **changes}))


class Exploit:
    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self) -> tuple:
        return (os.mkdir, (str(self.proof),))


# --- by name: loaded or refused ---------------------------------------------------------------------------------------


def no_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def no_config(folder: Path) -> None:
    (folder / "config.json").unlink()


def no_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()


def nothing(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()


def truncated(folder: Path) -> None:
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[: len(whole) // 2])


def garbage(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"\xff" * 5000)


def damaged_config(folder: Path) -> None:
    (folder / "config.json").write_text('{"model_type": "distil')


def damaged_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").write_text("{}")


def other_size(folder: Path) -> None:
    edit_config(folder, dim=32)


def no_classifier(folder: Path) -> None:
    DistilBertModel.from_pretrained(folder).save_pretrained(folder)


def one_tensor_missing(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    del tensors["distilbert.transformer.layer.0.attention.q_lin.weight"]
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


def fewer_embeddings_than_tokens(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    name = "distilbert.embeddings.word_embeddings.weight"
    tensors[name] = tensors[name][:20].clone()
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    edit_config(folder, vocab_size=20)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (no_weights, "no weights in it"),
        (no_config, "no config.json in it"),
        (no_tokenizer, "no tokenizer in it"),
        (nothing, "no config.json in it"),
        (truncated, "cannot be loaded for text-classification"),
        (garbage, "cannot be loaded for text-classification"),
        (damaged_config, "cannot be loaded for text-classification"),
        (damaged_tokenizer, "cannot be loaded for text-classification"),
        (other_size, "cannot be loaded for text-classification"),
        (no_classifier, "its weights lack"),
        (one_tensor_missing, "its weights lack"),
        (fewer_embeddings_than_tokens, "tokenizer"),
    ],
)
def test_a_damaged_model_is_refused(
    tiny_classifier: Path, tmp_path: Path, damage: Callable[[Path], None], words: str
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny_classifier, folder)
    load_model(SENTIMENT, str(folder))
    damage(folder)
    with pytest.raises(UserError, match=words) as caught:
        load_model(SENTIMENT, str(folder))
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_model_for_something_else_is_refused(tiny_classifier: Path, tiny_language: Path) -> None:
    with pytest.raises(UserError, match="text-classification"):
        load_model(SENTIMENT, str(tiny_language))
    with pytest.raises(UserError, match="text-generation"):
        load_model(GENERATION, str(tiny_classifier))


def test_a_pickle_with_code_is_refused_and_not_run(tiny_classifier: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny_classifier, folder)
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Exploit(tmp_path / "exploited"), protocol=2))
    with pytest.raises(UserError, match="cannot be loaded"):
        load_model(SENTIMENT, str(folder))
    assert not (tmp_path / "exploited").exists()


def test_weights_in_a_file_of_plain_tensors_are_read(tiny_classifier: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny_classifier, folder)
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    assert_same_model(load_model(SENTIMENT, str(folder)), tiny_classifier)


@pytest.mark.parametrize("model_type", ["distilbert", "made_up"])
def test_code_that_comes_with_a_model_is_never_run(tiny_classifier: Path, tmp_path: Path, model_type: str) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny_classifier, folder)
    (folder / "custom.py").write_text(f"import os\nos.mkdir({str(tmp_path / 'exploited')!r})\n")
    auto_map = {"AutoConfig": "custom.C", "AutoModelForSequenceClassification": "custom.M"}
    edit_config(folder, model_type=model_type, auto_map=auto_map)
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    settings["auto_map"] = {"AutoTokenizer": ["custom.T", "custom.T"]}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    if model_type == "distilbert":  # an architecture that the library has: its own code is taken
        assert_same_model(load_model(SENTIMENT, str(folder)), tiny_classifier)
    else:
        with pytest.raises(UserError, match="cannot be loaded") as caught:
            load_model(SENTIMENT, str(folder))
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "exploited").exists()


def assert_same_model(loaded: pretrained.LoadedModel, folder: Path) -> None:
    expected = load_file(folder / "model.safetensors")
    assert expected.keys() == loaded.model.state_dict().keys()
    for name, tensor in loaded.model.state_dict().items():
        torch.testing.assert_close(tensor, expected[name], rtol=0, atol=0)
    assert not loaded.model.training
    assert loaded.tokenizer.get_vocab() == AutoTokenizer.from_pretrained(folder).get_vocab()
    assert loaded.note is None


@pytest.mark.parametrize(
    "name", ["nobody/nothing", "distilbert-base-uncased", "../../../nowhere", "a b", "x" * 200, "é"]
)
def test_unknown_names_are_refused(hub_cache: Path, name: str) -> None:
    with pytest.raises(UserError, match="no such folder") as caught:
        load_model(SENTIMENT, name)
    assert name in str(caught.value)


def test_a_file_is_no_model(hub_cache: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UserError, match="not a folder"):
        load_model(SENTIMENT, str(tmp_path / "file"))


# --- without a name: the official model if available, else the bundled one --------------------------------------------


@pytest.mark.parametrize("task", [SENTIMENT, GENERATION], ids=["sentiment", "generation"])
def test_an_empty_cache_without_a_hub_gives_the_bundled_model(hub_cache: Path, task: Task) -> None:
    loaded = load_model(task)
    assert loaded.note is not None
    assert task.official[0] in loaded.note
    assert "cannot be reached" in loaded.note
    bundled = load_file(task.bundled / "model.safetensors")
    assert all(torch.equal(tensor, loaded.model.state_dict()[name]) for name, tensor in bundled.items())
    assert loaded.name == f"the lab's own {task.bundled.name} model"


@pytest.mark.parametrize("name", SENTIMENT.official)
def test_a_cached_official_model_is_taken_without_a_network(
    hub_cache: Path, tiny_classifier: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    cache(hub_cache, name, tiny_classifier)
    monkeypatch.setattr(socket, "socket", forbidden)
    monkeypatch.setattr(socket, "getaddrinfo", forbidden)
    loaded = load_model(SENTIMENT)
    assert_same_model(loaded, tiny_classifier)
    assert loaded.name == SENTIMENT.official[0]
    assert_same_model(load_model(SENTIMENT, name), tiny_classifier)


@pytest.mark.parametrize("name", GENERATION.official)
def test_a_cached_gpt2_is_taken(hub_cache: Path, tiny_language: Path, name: str) -> None:
    cache(hub_cache, name, tiny_language)
    loaded = load_model(GENERATION)
    assert loaded.note is None
    assert loaded.model.config.n_embd == 16


def forbidden(*_: Any, **__: Any) -> None:
    raise AssertionError("the network was asked")


def test_a_cached_config_without_weights_is_no_model(hub_cache: Path, tiny_classifier: Path) -> None:
    cache(hub_cache, SENTIMENT.official[0], tiny_classifier, "config.json", "tokenizer.json")
    assert load_model(SENTIMENT).note is not None
    with pytest.raises(UserError, match="not in the hub's cache"):
        load_model(SENTIMENT, SENTIMENT.official[0])


def test_a_damaged_official_model_in_the_cache_is_reported(hub_cache: Path, tiny_classifier: Path) -> None:
    truncated(cache(hub_cache, SENTIMENT.official[0], tiny_classifier))
    assert "cannot be loaded" in str(load_model(SENTIMENT).note)
    with pytest.raises(UserError, match="cannot be loaded"):
        load_model(SENTIMENT, SENTIMENT.official[0])


# --- the hub ----------------------------------------------------------------------------------------------------------


@contextmanager
def silent_server() -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as server:  # the system accepts for it; nobody ever answers
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


@contextmanager
def web_server(answer: Callable[[str], tuple[int, bytes]]) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = answer(self.path)
            self.send_response(status)
            headers = {"Content-Length": len(body), "ETag": f'"{len(body)}"', "X-Repo-Commit": COMMIT}
            for name, value in headers.items():
                self.send_header(name, str(value))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        do_HEAD = do_GET

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def seconds_until_refused() -> float:
    started = time.perf_counter()
    with pytest.raises(UserError):
        find_on_hub(SENTIMENT.official)
    return time.perf_counter() - started


def test_a_hub_that_never_answers_costs_little(hub_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with silent_server() as address:
        monkeypatch.setattr(constants, "ENDPOINT", address)
        assert seconds_until_refused() < DECISION_SECONDS


def test_an_unroutable_hub_costs_little(hub_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "http://10.255.255.1")
    assert seconds_until_refused() < DECISION_SECONDS


def test_a_name_resolution_that_hangs_costs_little(hub_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    over = threading.Event()

    def hang(*_: Any, **__: Any) -> None:
        over.wait(60)
        raise socket.gaierror("no such host")

    monkeypatch.setattr(constants, "ENDPOINT", "https://hub.invalid")
    monkeypatch.setattr(socket, "getaddrinfo", hang)
    try:
        assert seconds_until_refused() < DECISION_SECONDS
    finally:
        over.set()


@pytest.mark.parametrize("variable", ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"])
def test_offline_sends_no_request(hub_cache: Path, monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    with web_server(lambda path: (200, b"")) as address:
        monkeypatch.setattr(constants, "ENDPOINT", address)
        assert hub_reachable()
        if variable == "HF_HUB_OFFLINE":
            monkeypatch.setattr(constants, variable, True)
        else:
            monkeypatch.setenv(variable, "1")
        assert not hub_reachable()


@pytest.mark.parametrize(("status", "reachable"), [(200, True), (404, True), (403, False), (407, False), (503, False)])
def test_what_counts_as_an_answer(
    hub_cache: Path, monkeypatch: pytest.MonkeyPatch, status: int, reachable: bool
) -> None:
    with web_server(lambda path: (status, b"")) as address:
        monkeypatch.setattr(constants, "ENDPOINT", address)
        assert hub_reachable() == reachable


def test_a_server_that_is_no_hub_gives_the_bundled_model(hub_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with web_server(lambda path: (200, b"<html>Please log in</html>")) as address:
        monkeypatch.setattr(constants, "ENDPOINT", address)
        assert "the download failed" in str(load_model(SENTIMENT).note)


def test_a_hub_in_reach_gives_the_model_but_no_pickle_and_no_code(
    hub_cache: Path, tiny_classifier: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {path.name: path.read_bytes() for path in tiny_classifier.iterdir()}
    files |= {"pytorch_model.bin": b"pickle", "custom.py": b"code", "tf_model.h5": b"large"}

    def answer(path: str) -> tuple[int, bytes]:
        if path.startswith("/api/models/someone/model/tree/"):
            return 200, json.dumps(
                [{"type": "file", "path": f, "size": len(files[f]), "oid": f} for f in files]
            ).encode()
        if path.startswith("/api/models/someone/model"):
            siblings = [{"rfilename": name} for name in files]
            return 200, json.dumps({"id": "someone/model", "sha": COMMIT, "siblings": siblings}).encode()
        name = path.rpartition("/")[2]
        return (200, files[name]) if path.startswith("/someone/model/resolve/") else (404, b"")

    with web_server(answer) as address:
        monkeypatch.setattr(constants, "ENDPOINT", address)
        template = address + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        loaded = load_model(SENTIMENT, "someone/model")
    assert_same_model(loaded, tiny_classifier)
    fetched = {path.name for path in hub_cache.glob("models--someone--model/snapshots/*/*")}
    assert fetched == {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}


def test_loading_is_quiet(tiny_classifier: Path, capfd: pytest.CaptureFixture[str]) -> None:
    load_model(SENTIMENT, str(tiny_classifier))
    assert capfd.readouterr() == ("", "")
