"""Networks against torchvision's own, and every way in which weights can be wrong."""

from __future__ import annotations

import functools
import hashlib
import http.server
import pickle
import socket
import threading
from pathlib import Path
from urllib.request import install_opener

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch.testing import assert_close

from gcc_search.errors import WeightsError
from gcc_search.training import networks
from gcc_search.training.networks import TORCHVISION_WEIGHTS, build_network

OF_TORCHVISION = ("resnet18", "resnet50", "convnext_tiny")
FEATURES = {"resnet18": (512, 2), "resnet50": (2048, 2), "convnext_tiny": (768, 2), "convnet_small": (96, 8)}
OUT_OF_REACH = "must be in torch's cache or reachable, got neither"


@functools.cache
def random_network(name: str):
    """Ten classes, float64, in eval mode; shared by tests that only read it."""
    return build_network(name, num_classes=10, weights="none", seed=0).double().eval()


@pytest.fixture
def images():
    return torch.randn(2, 3, 64, 64, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def build_small(weights: object, *, seed: int = 1):
    return build_network("convnet_small", num_classes=4, weights=str(weights), seed=seed)


def complaint(name: str, weights: object) -> str:
    with pytest.raises(WeightsError) as caught:
        build_network(name, num_classes=4, weights=str(weights), seed=0)
    return str(caught.value)


@pytest.mark.parametrize("name", OF_TORCHVISION)
def test_logits_are_those_of_torchvisions_own_forward(name, images):
    network = random_network(name)
    assert_close(network(images), network.model(images), rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", FEATURES)
def test_the_head_of_the_pooled_features_is_the_whole_network(name, images):
    network = random_network(name)
    features = network.features(images)
    width, cells = FEATURES[name]
    assert features.shape == (2, width, cells, cells)
    assert_close(network.head(features.mean((2, 3))), network(images), rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", FEATURES)
@pytest.mark.parametrize("size", [64, 95, 96, 97, 129])
def test_a_maps_side_is_known_before_there_is_one(name, size):
    with torch.no_grad():
        maps = random_network(name).features(torch.zeros(1, 3, size, size, dtype=torch.float64))
    assert maps.shape[2:] == (random_network(name).map_side(size),) * 2


@pytest.mark.parametrize("name", OF_TORCHVISION)
def test_parameters_keep_torchvisions_names(name):
    theirs = torchvision.models.get_model(name, weights=None, num_classes=10)
    theirs.load_state_dict(random_network(name).model.state_dict(), strict=True)


def test_logits_are_float32_under_autocast(images):
    network = build_small("none").eval()
    with torch.autocast("cpu", torch.bfloat16):
        assert network.features(images.float()).dtype == torch.bfloat16
        assert network(images.float()).dtype == torch.float32


@pytest.mark.parametrize("name", ["convnet_small", "resnet18"])
def test_equal_seeds_give_equal_weights_and_others_give_others(name):
    states = [build_network(name, num_classes=4, weights="none", seed=s).state_dict() for s in (0, 0, 1)]
    weight = next(iter(states[0]))
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    assert not torch.equal(states[0][weight], states[2][weight])


def test_random_weights_leave_the_global_generator_alone():
    before = torch.get_rng_state()
    torch.rand(1)
    build_small("none")
    after_one_draw = torch.get_rng_state()
    torch.set_rng_state(before)
    torch.rand(1)
    assert torch.equal(torch.get_rng_state(), after_one_draw)


def test_networks_lie_channels_last_in_memory():
    weight = build_small("none").model.stages[1][0].weight
    assert weight.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_half_precision_weights_without_a_classifier_load(tmp_path, suffix):
    source = build_small("none", seed=0).model.state_dict()
    halves = {key: value.half().contiguous() for key, value in source.items() if not key.startswith("fc.")}
    path = tmp_path / f"weights{suffix}"
    save_file(halves, path) if suffix == ".safetensors" else torch.save(halves, path)
    loaded, fresh = build_small(path).model.state_dict(), build_small("none").model.state_dict()
    assert all(torch.equal(loaded[key], halves[key].to(loaded[key].dtype)) for key in halves)
    assert torch.equal(loaded["fc.weight"], fresh["fc.weight"])


def test_a_classifier_of_another_size_starts_at_random(tmp_path):
    source = build_network("convnet_small", num_classes=9, weights="none", seed=0).model.state_dict()
    torch.save(source, tmp_path / "nine.pth")
    loaded = build_small(tmp_path / "nine.pth").model
    assert loaded.fc.weight.shape == (4, 96)
    assert torch.equal(loaded.stages[0][0].weight, source["stages.0.0.weight"])


def test_a_classifier_of_the_right_size_is_kept(tmp_path):
    source = build_small("none", seed=0).model.state_dict()
    torch.save(source, tmp_path / "four.pth")
    assert torch.equal(build_small(tmp_path / "four.pth").model.fc.weight, source["fc.weight"])


def test_weights_of_another_network_are_one_line(tmp_path):
    path = tmp_path / "resnet.pth"
    torch.save({"conv1.weight": torch.zeros(64, 3, 7, 7), "fc.weight": torch.zeros(4, 96)}, path)
    message = complaint("convnet_small", path)
    rule = "must be of this network, got no stages.0.0.weight of its shape (20 tensors missing); check network"
    assert message == f"weights: {path}: {rule}"


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
            message = complaint("convnet_small", path)
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
    ],
)
def test_published_weights_out_of_reach_say_where_to_put_the_file(offline, name, weights, file):
    address = torchvision.models.get_model_weights(name)[weights].url
    assert address.endswith(file)
    place = f"put the file of {address} at {offline}/{file}, or name a file"
    assert complaint(name, weights) == f"weights: {weights} of {name}: {OUT_OF_REACH}; {place}"


def test_a_network_that_swallows_packets_is_given_up_in_time(offline, monkeypatch):
    monkeypatch.setattr(networks, "FETCH_TIMEOUT", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        go_through(silent, monkeypatch)
        assert OUT_OF_REACH in complaint("resnet18", "IMAGENET1K_V1")


def test_published_weights_in_the_cache_are_used(offline):
    source = random_network("resnet18").model.state_dict()
    offline.mkdir(parents=True)
    halves = {key: value.half() for key, value in source.items() if not key.startswith("fc.")}
    torch.save(halves, offline / "resnet18-f37072fd.pth")
    loaded = build_network("resnet18", num_classes=4, weights="IMAGENET1K_V1", seed=1)
    assert torch.equal(loaded.model.conv1.weight, halves["conv1.weight"].float())


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
    networks._fetch(f"{served}/{name}", tmp_path / "cache" / name)
    assert [(path.name, path.read_bytes()) for path in (tmp_path / "cache").iterdir()] == [(name, b"weights")]


def test_a_fetched_file_with_another_digest_is_not_kept(served, tmp_path):
    name = serve(tmp_path, b"weights", digest_of=b"others")
    with pytest.raises(RuntimeError, match="invalid hash value"):
        networks._fetch(f"{served}/{name}", tmp_path / "cache" / name)
    assert list((tmp_path / "cache").iterdir()) == []
