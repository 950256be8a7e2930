"""Every way in which weights can be wrong: not there, out of reach, torn, of something else, or code."""

from __future__ import annotations

import functools
import hashlib
import http.server
import pickle
import re
import socket
import threading
from pathlib import Path
from urllib.request import install_opener

import pytest
import torch
import torchvision
from safetensors.torch import save_file

from gcc_search.errors import WeightsError
from gcc_search.training import weights as module
from gcc_search.training.networks import build_network
from gcc_search.training.weights import TORCHVISION_WEIGHTS, _fetch, read_weights

OUT_OF_REACH = "must be in torch's cache or reachable, got neither"


def complaint(name: str, weights: object) -> str:
    with pytest.raises(WeightsError) as caught:
        read_weights(name, str(weights))
    return str(caught.value)


def test_a_missing_file_is_one_line(tmp_path):
    rule = f"must be a file, none, or one of {', '.join(TORCHVISION_WEIGHTS)}, got nothing there"
    assert complaint("resnet18", tmp_path / "none.pth") == f"weights: {tmp_path}/none.pth: {rule}"


def torn(path: Path) -> str:
    return f"weights: {path}: must be a whole file of tensors, got a torn or foreign one; copy it again"


def in_three_formats(folder: Path, tensors: dict[str, torch.Tensor]) -> list[Path]:
    torch.save(tensors, folder / "zip.pth")
    torch.save(tensors, folder / "legacy.pth", _use_new_zipfile_serialization=False)
    save_file(tensors, folder / "weights.safetensors")
    return [folder / "zip.pth", folder / "legacy.pth", folder / "weights.safetensors"]


def test_a_file_cut_anywhere_is_one_line(tmp_path):
    for path in in_three_formats(tmp_path, {"a": torch.arange(6.0)}):
        content = path.read_bytes()
        for length in range(0, len(content) - 1, 7):
            path.write_bytes(content[:length])
            assert complaint("convnet_small", path) == torn(path)


def test_a_file_with_any_byte_changed_is_one_line_or_other_tensors(tmp_path):
    for path in in_three_formats(tmp_path, {"a": torch.arange(6.0)}):
        content = path.read_bytes()
        for place in range(0, len(content), 5):
            path.write_bytes(content[:place] + bytes([content[place] ^ 0xFF]) + content[place + 1 :])
            with pytest.raises(WeightsError) as caught:
                build_network("convnet_small", num_classes=4, weights=str(path), seed=0)
            message = str(caught.value)
            assert message == torn(path) or "must be of this network, got no stages.0.0.weight" in message


@pytest.mark.parametrize("content", [torch.zeros(3), [1, 2], None, "text", [("a", torch.zeros(1))]])
def test_a_file_of_something_else_is_one_line(tmp_path, content):
    torch.save(content, tmp_path / "other.pth")
    assert complaint("convnet_small", tmp_path / "other.pth") == torn(tmp_path / "other.pth")


class TouchesWhenUnpickled:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("save", [torch.save, lambda content, path: path.write_bytes(pickle.dumps(content))])
def test_code_inside_a_file_does_not_run(tmp_path, save):
    mark, path = tmp_path / "ran", tmp_path / "evil.pth"
    save({"fc.weight": TouchesWhenUnpickled(mark)}, path)
    assert complaint("convnet_small", path) == torn(path)
    assert not mark.exists()
    pickle.loads(pickle.dumps(TouchesWhenUnpickled(mark)))
    assert mark.exists()


@pytest.fixture
def offline(tmp_path, monkeypatch):
    """An empty cache of torch's, and a proxy that nobody listens to: no name is looked up, no packet leaves."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        go_through(taken, monkeypatch)
        yield tmp_path / "torch" / "hub" / "checkpoints"
    install_opener(None)


def go_through(proxy: socket.socket, monkeypatch) -> None:
    monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{proxy.getsockname()[1]}")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    # urllib looks at the environment once and remembers.
    install_opener(None)


@pytest.mark.parametrize(
    ("name", "weights", "file"),
    [
        ("resnet18", "IMAGENET1K_V1", "resnet18-f37072fd.pth"),
        ("resnet50", "DEFAULT", "resnet50-11ad3fa6.pth"),
        ("convnext_tiny", "IMAGENET1K_V1", "convnext_tiny-983f1562.pth"),
        ("swin_t", "IMAGENET1K_V1", "swin_t-704ceda3.pth"),
        ("efficientnet_b0", "IMAGENET1K_V1", "efficientnet_b0_rwightman-7f5810bc.pth"),
    ],
)
def test_published_weights_out_of_reach_say_where_to_put_the_file(offline, name, weights, file):
    address = torchvision.models.get_model_weights(name)[weights].url
    assert address.endswith(file)
    place = f"put the file of {address} at {offline}/{file}, or name a file"
    assert complaint(name, weights) == f"weights: {weights} of {name}: {OUT_OF_REACH}; {place}"


def test_a_network_that_swallows_packets_is_given_up_in_time(offline, monkeypatch):
    monkeypatch.setattr(module, "FETCH_TIMEOUT", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        go_through(silent, monkeypatch)
        assert OUT_OF_REACH in complaint("resnet18", "IMAGENET1K_V1")


def test_published_weights_in_the_cache_are_read(offline):
    offline.mkdir(parents=True)
    torch.save({"conv1.weight": torch.arange(3.0), "epoch": 7}, offline / "resnet18-f37072fd.pth")
    (tensor,) = read_weights("resnet18", "IMAGENET1K_V1").values()
    assert torch.equal(tensor, torch.arange(3.0))


def test_densenets_published_names_are_read_as_torchvision_reads_them(offline):
    model = torchvision.models.densenet121(num_classes=3)
    names = [re.sub(r"(denselayer\d+\.(?:norm|conv))([12])", r"\1.\2", name) for name in model.state_dict()]
    published = dict(zip(names, model.state_dict().values(), strict=True))
    assert "features.denseblock1.denselayer1.norm.1.weight" in published
    offline.mkdir(parents=True)
    torch.save(published, offline / "densenet121-a639ec97.pth")
    read = read_weights("densenet121", "IMAGENET1K_V1")
    assert read.keys() == model.state_dict().keys()


def test_a_torn_file_in_the_cache_is_named(offline):
    offline.mkdir(parents=True)
    (offline / "resnet18-f37072fd.pth").write_bytes(b"half of it")
    assert complaint("resnet18", "IMAGENET1K_V1") == torn(offline / "resnet18-f37072fd.pth")


def test_the_small_network_has_no_published_weights():
    rule = "convnet_small has no published weights; use none, baseline or a file"
    assert complaint("convnet_small", "DEFAULT") == f"weights: DEFAULT: {rule}"


@pytest.fixture
def served(tmp_path):
    """Address of a real server of the files in tmp_path / "served"."""
    (tmp_path / "served").mkdir()

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            """Nothing: the terminal is the tests'."""

    handler = functools.partial(Quiet, directory=str(tmp_path / "served"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        # It looks every so many seconds whether it shall stop.
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def serve(folder: Path, content: bytes, *, digest_of: bytes) -> str:
    """Puts `content` where the server finds it, under a name that claims the digest of `digest_of`."""
    name = f"net-{hashlib.sha256(digest_of).hexdigest()[:8]}.pth"
    (folder / "served" / name).write_bytes(content)
    return name


def test_a_fetched_file_is_kept_under_its_name(served, tmp_path):
    name = serve(tmp_path, b"weights", digest_of=b"weights")
    _fetch(f"{served}/{name}", tmp_path / "cache" / name)
    assert [(path.name, path.read_bytes()) for path in (tmp_path / "cache").iterdir()] == [(name, b"weights")]


def test_a_fetched_file_with_another_digest_is_not_kept(served, tmp_path):
    name = serve(tmp_path, b"weights", digest_of=b"others")
    with pytest.raises(RuntimeError, match="invalid hash value"):
        _fetch(f"{served}/{name}", tmp_path / "cache" / name)
    assert list((tmp_path / "cache").iterdir()) == []
