"""What the networks share: packages, threads and GPU, probabilities to masks."""

import importlib.util
import logging
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from crdetect import InputError, Noise, Parameters
from crdetect.detectors import REGISTRY, Resources, make_detector, networks
from crdetect.detectors.deepcr import DeepCR
from crdetect.detectors.networks import NetworkDetector, fill, inference, load, pick_device
from crdetect.simulate import simulate_exposures

torch = pytest.importorskip("torch", reason="pip install '.[deep]' gives the networks")
pytestmark = pytest.mark.networks

NAMES = [name for name, kind in REGISTRY.items() if issubclass(kind, NetworkDetector)]
NOISE = Noise(1.0, 3.4)


def detector_of(name, workers=1, **parameters):
    return make_detector(
        Parameters.from_mapping({"crmethod": name, **parameters}), Resources(workers)
    )


@pytest.fixture(scope="module")
def exposure():
    return simulate_exposures((96, 80), hit_fraction=0.02, double_hits=2).exposures_adu[0]


def in_a_new_process(code):
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done


# ---------------------------------------------------------------------------------------------
# What is not there


@pytest.mark.parametrize("name", NAMES)
def test_a_missing_package_is_told_in_one_line(name, monkeypatch):
    for missing in ("torch", *REGISTRY[name].packages):
        monkeypatch.setattr(
            networks,
            "find_spec",
            lambda package, missing=missing: (
                None if package == missing else importlib.util.find_spec(package)
            ),
        )
        with pytest.raises(InputError, match=rf"no {missing}\).*pip install") as caught:
            detector_of(name).check((100, 100))
        assert '"crdetect[deep]"' in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.subprocess
def test_checking_imports_no_package():
    code = """
import sys
from crdetect import Parameters
from crdetect.detectors import make_detector
for crmethod in ("deepcr", "conn"):
    make_detector(Parameters.from_mapping({"crmethod": crmethod})).check((100, 100))
assert not {"torch", "deepCR", "learned_models", "cosmic_conn"} & set(sys.modules)
"""
    in_a_new_process(code)


def test_device(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert [pick_device(device) for device in ("auto", "cpu")] == ["cpu", "cpu"]
    with pytest.raises(InputError, match="no GPU here; accepted: auto or cpu"):
        detector_of("deepcr", device="cuda").check((100, 100))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert [pick_device(device) for device in ("auto", "cpu", "cuda")] == ["cuda", "cpu", "cuda"]
    detector_of("deepcr", device="cuda").check((100, 100))


# ---------------------------------------------------------------------------------------------
# Probabilities, masks, cleaned images


class Scripted(NetworkDetector):
    """Gives probabilities that a test writes, and counts how often it is asked."""

    block = DeepCR
    limits = ("dc_threshold",)
    packages = ()
    fill_half_px = 1
    map = np.float32([[0.1, 0.5, 0.95, 0.6, 0.1], [0.1] * 5, [0.6, 0.1, 0.1, 0.1, 1.0]])
    seen = ()

    def probability(self, image_e):
        Scripted.seen = (*Scripted.seen, image_e)
        return self.map


def scripted(threshold, gain, monkeypatch):
    monkeypatch.setattr("crdetect.detectors.REGISTRY", {**REGISTRY, "deepcr": Scripted})
    Scripted.seen = ()
    image = np.arange(15, dtype=np.float32).reshape(3, 5) + 1
    detector = detector_of("deepcr", dc_threshold=threshold)
    return image, detector.detect(image, Noise(gain, 1.0))


def test_above_the_threshold_is_flagged(monkeypatch):
    _, result = scripted(0.5, 1.0, monkeypatch)
    np.testing.assert_array_equal(result.mask, Scripted.map > 0.5)


def test_two_thresholds_and_one_pass_of_the_network(monkeypatch):
    image, result = scripted([0.9, 0.5], 2.0, monkeypatch)
    assert len(Scripted.seen) == 1
    np.testing.assert_array_equal(Scripted.seen[0], image * 2)
    expected = np.zeros((3, 5), bool)
    expected[0, 2:4] = expected[2, 4] = True
    np.testing.assert_array_equal(result.mask, expected)
    assert result.image_adu[2, 0] != image[2, 0]  # cleaned by the deeper one


@pytest.mark.parametrize("gain", [1.0, 2.0, np.full((3, 5), 2.0)])
def test_masked_pixels_get_the_median_around_and_others_stay(gain, monkeypatch):
    image, result = scripted(0.55, gain, monkeypatch)
    expected = image.copy()
    expected[0, 2] = np.median([2, 7, 8, 9])
    expected[0, 3] = np.median([5, 8, 9, 10])
    expected[2, 0] = np.median([6, 7, 12])
    expected[2, 4] = np.median([9, 10, 14])
    np.testing.assert_array_equal(result.image_adu, expected)


def test_fill_of_what_is_wider_than_the_window():
    image = np.arange(99, dtype=np.float32).reshape(9, 11)
    mask = np.zeros(image.shape, bool)
    mask[1:8, 1:8] = True
    filled = fill(image, mask, 2)
    assert filled[4, 4] == 49  # the median of the image
    assert filled[1, 1] == np.median([0, 1, 2, 3, 11, 22, 33])
    assert fill(image, np.ones_like(mask), 2).tolist() == np.full(image.shape, 49.0).tolist()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("workers", [1, 2, 5])
def test_threads_change_nothing(name, workers, exposure):
    expected = detector_of(name).detect(exposure, NOISE)
    result = detector_of(name, workers=workers).detect(exposure, NOISE)
    np.testing.assert_array_equal(result.mask, expected.mask)


# ---------------------------------------------------------------------------------------------
# How the network is run


def test_pieces_run_in_single_threads_without_gradients_and_in_full_precision():
    before = torch.get_num_threads()
    with inference(Resources(workers=3, device="cpu")) as in_threads:
        state = in_threads(
            lambda i: (
                i,
                torch.get_num_threads(),
                torch.is_inference_mode_enabled(),
                torch.backends.cudnn.allow_tf32,
                torch.backends.cudnn.benchmark,
            ),
            range(5),
        )
    assert state == [(i, 1, True, False, False) for i in range(5)]
    assert torch.get_num_threads() == before
    assert not torch.is_inference_mode_enabled()


def test_threads_of_torch_are_set_back_for_all_threads():
    def of_a_new_thread():
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(torch.get_num_threads).result()

    before = torch.get_num_threads()
    torch.set_num_threads(3)
    resources = Resources(1, "cpu")
    with resources.bounded(), inference(resources):
        assert (torch.get_num_threads(), of_a_new_thread()) == (1, 1)
    after = torch.get_num_threads(), of_a_new_thread()
    torch.set_num_threads(before)
    assert after == (3, 3)


@pytest.mark.parametrize("name", NAMES)
def test_weights_are_loaded_once(name, exposure, monkeypatch):
    module = sys.modules[REGISTRY[name].__module__]
    calls = []

    def loader(network):
        calls.append(network)
        return original(network)

    original = module.load_network
    monkeypatch.setattr(module, "load_network", loader)
    for threshold in (0.5, [0.9, 0.5]):
        detector = detector_of(name, **{REGISTRY[name].limits[0]: threshold})
        detector.detect(exposure, NOISE)
        detector.detect(exposure + 1, NOISE)
    assert len(calls) == 1


def test_a_loaded_network_is_ready():
    network = load(lambda _: torch.nn.Conv2d(2, 2, 3), "ready", "cpu")
    assert not network.training
    assert not any(parameter.requires_grad for parameter in network.parameters())
    assert network.weight.is_contiguous(memory_format=torch.channels_last)


def test_chatter_goes_to_the_log(caplog, capfd):
    def loader(name):
        print(f"loading {name}\nplease wait")  # noqa: T201
        return torch.nn.Conv2d(1, 1, 1)

    with caplog.at_level(logging.DEBUG, "crdetect"):
        load(loader, "chatter", "cpu")
    assert [record.getMessage() for record in caplog.records] == [
        "loading chatter",
        "please wait",
    ]
    assert capfd.readouterr() == ("", "")


# ---------------------------------------------------------------------------------------------
# What the packages do to their surroundings: where one of these fails, the package does it no
# more, and what `networks` does about it can go


def test_deepcr_still_uses_what_torch_calls_deprecated():
    from deepCR.unet import UNet2Sigmoid

    with pytest.warns(FutureWarning, match="weight_norm"):
        UNet2Sigmoid(1, 1, 32)


@pytest.mark.subprocess
def test_deepcr_still_imports_what_training_needs():
    code = "import deepCR, sys; print(*sorted({'matplotlib', 'tensorboard'} & set(sys.modules)))"
    assert in_a_new_process(code).stdout.split() == ["matplotlib", "tensorboard"]


@pytest.mark.subprocess
def test_cosmic_conn_still_sets_up_the_root_logger_and_cudnn():
    code = """
import logging, torch
assert not torch.backends.cudnn.benchmark and not logging.getLogger().handlers
import cosmic_conn
cosmic_conn.init_model("ground_imaging")
print(torch.backends.cudnn.benchmark, len(logging.getLogger().handlers))
"""
    assert in_a_new_process(code).stdout.split() == ["True", "1"]


@pytest.mark.subprocess
def test_nothing_of_it_is_left_behind():
    code = """
import logging, sys, torch
import numpy as np
from crdetect import Noise, Parameters
from crdetect.detectors import make_detector
image = np.random.default_rng(1).normal(100, 5, (32, 32)).astype(np.float32)
for more in ({"crmethod": "conn"}, {"crmethod": "deepcr", "dc_mask": "WFC3-UVIS"}):
    make_detector(Parameters.from_mapping(more)).detect(image, Noise(1.0, 3.0))
assert not torch.backends.cudnn.benchmark
assert not logging.getLogger().handlers
assert not {"matplotlib", "tensorboard"} & set(sys.modules)
from deepCR import deepCR, train
deepCR(mask="ACS-WFC").clean(image)
"""
    done = in_a_new_process("import warnings; warnings.simplefilter('error')" + code)
    assert done.stdout == done.stderr == ""


@pytest.mark.subprocess
def test_no_network_is_asked():
    """The weights of all networks are in the packages."""
    code = """
import socket
def refuse(*_, **__):
    raise AssertionError("the network is asked")
socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse
import numpy as np
from crdetect import Noise, Parameters
from crdetect.detectors import make_detector
image = np.random.default_rng(1).normal(100, 5, (32, 32)).astype(np.float32)
networks = {"deepcr": ("dc_mask", "ACS-WFC", "WFC3-UVIS"),
            "conn": ("nn_model", "ground_imaging", "NRES", "HST_ACS_WFC")}
for crmethod, (name, *models) in networks.items():
    for model in models:
        parameters = Parameters.from_mapping({"crmethod": crmethod, name: model})
        make_detector(parameters).detect(image, Noise(1.0, 3.0))
"""
    in_a_new_process(code)


def test_importing_a_package_that_is_there_already():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import deepCR
    with networks.without_init("deepCR"):
        assert sys.modules["deepCR"] is deepCR
    assert sys.modules["deepCR"] is deepCR
