"""The examples: each runs from anywhere, says what it should, and reaches the figures it must."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import tinygrad_nn as tn

ROOT = Path(__file__).parents[1]
SCRIPTS = ("ten_points", "xor", "mnist")


def run(script, *arguments, cwd):
    """Run a script as a user does, also where the package is not installed."""
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "PYTHONWARNINGS": "error", "COLUMNS": "80"}
    command = [sys.executable, str(ROOT / "examples" / f"{script}.py"), *arguments]
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, check=False, timeout=120)


@pytest.fixture
def load(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "1")  # what importing mnist sets ends with the test
    return importlib.import_module


def test_a_gpu_that_is_not_there_is_said(load, monkeypatch, capsys):
    script = load("benchmark_gpu")
    monkeypatch.setattr("sys.argv", ["benchmark_gpu.py"])
    if script.missing():
        script.main()
        assert capsys.readouterr().out.startswith(f"Nothing was measured: {script.missing()}.")
    monkeypatch.setattr("sys.argv", ["benchmark_gpu.py", "--on", "cpu", "--quick"])
    if importlib.util.find_spec("torch"):
        script.main()
        assert capsys.readouterr().out.count("ratio") == 2


# As scripts

KEY_LINES = {
    "ten_points": ("A1 2-2-2", "accuracy", "slope twice", "Sigmoid", "total", "17", "lr 0.1, 200 epochs", "2.73"),
    "xor": ("XOR 2-3-1", "1 xor 1 = 0", "as in the notebook", "Adam, lr 0.01", "0.988", "0.0003"),
    "mnist": (
        "B2 raw",
        "B3 normalized",
        "B4 standardized",
        "precision",
        "recall",
        "f1",
        "support",
        "macro  weighted",
        "B5 softmax",
        "nan",
        "0.66524",
        "Modern recipe",
        "not comparable",
        "0.241 -> 0.0080",
    ),
}


PICTURES = {
    "ten_points": ["ten_points_boundary.png"],
    "xor": ["xor_boundary.png", "xor_errors.png", "xor_graph"],
    "mnist": [f"mnist_{name}.png" for name in ("confusion", "digits", "errors", "gradients", "weights")],
}


@pytest.mark.parametrize("script", SCRIPTS)
def test_quick_run(script, tmp_path):
    plots = ["--plots", "a/b"] if importlib.util.find_spec("matplotlib") else []
    done = run(script, "--quick", *plots, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert [text for text in KEY_LINES[script] if text not in done.stdout] == []
    assert "Beside the notebook" in done.stdout
    assert done.stdout.isascii()
    assert max(map(len, done.stdout.splitlines())) <= 100
    assert "\r" not in done.stdout + done.stderr  # no progress bar where there is no terminal
    assert [p.name for p in tmp_path.iterdir()] == ["a"] * bool(plots)
    pictures = sorted(Path(tmp_path, "a/b").iterdir()) if plots else []
    assert [p.name.removesuffix(p.suffix * (p.suffix != ".png")) for p in pictures] == PICTURES[script] * bool(plots)
    assert all(p.read_bytes()[:4] in (b"\x89PNG", b"<?xm", b"digr") and p.stat().st_size > 1000 for p in pictures)


@pytest.mark.parametrize("script", SCRIPTS)
def test_help(script, tmp_path):
    done = run(script, "--help", cwd=tmp_path)
    assert done.returncode == 0
    assert all(option in done.stdout for option in ("--seed", "--seeds", "--quick", "--plots"))
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("script", "arguments", "message"),
    [
        ("ten_points", ["--seeds", "0"], "'0' is not a whole number of 1 or more"),
        ("xor", ["--seed", "-1"], "'-1' is not a whole number of 0 or more"),
        ("xor", ["--sead", "1"], "--sead"),
        ("mnist", ["--only", "colour"], "colour"),
        ("mnist", ["--epochs", "many"], "'many'"),
        ("mnist", ["--data", "nowhere"], "train-images-idx3-ubyte"),
        ("mnist", ["--data", "nowhere", "--only", "raw"], "leave out --only"),
    ],
)
def test_bad_arguments_end_with_one_line(script, arguments, message, tmp_path):
    done = run(script, *arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stdout == ""
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_pictures_need_matplotlib_and_a_folder(tmp_path, load, monkeypatch, capsys):
    common = load("_common")
    parser = common.Parser("")
    parser.add_plots()
    file = tmp_path / "file"
    file.write_text("")
    for path, message in ((file, "is no folder"), (tmp_path, "pip install matplotlib")):
        if path == tmp_path:
            monkeypatch.setitem(sys.modules, "matplotlib", None)
        elif importlib.util.find_spec("matplotlib") is None:
            continue
        with pytest.raises(SystemExit):
            parser.parse_args(["--plots", str(path)])
        assert message in capsys.readouterr().err


def test_saliency_is_the_gradient_of_the_chosen_output(load):
    pytest.importorskip("matplotlib")
    rng = np.random.default_rng(0)
    net = tn.nn.Sequential(tn.nn.Linear(3, 4, rng=rng), tn.nn.Tanh(), tn.nn.Linear(4, 2, rng=rng))
    x, classes = rng.standard_normal((5, 3)), np.array([0, 1, 1, 0, 1])
    found = load("_pictures").saliency(net, x, classes)
    W1, b1, W2, _ = net.state_dict().values()
    np.testing.assert_allclose(found, np.abs(((1 - np.tanh(x @ W1 + b1) ** 2) * W2.T[classes]) @ W1.T), rtol=1e-12)
    assert all(p.grad is None for p in net.parameters())


def test_mnist_trains_on_a_folder_of_idx_files(tmp_path):
    folder = Path(tn.__file__).parent / "_mnist"
    done = run("mnist", "--quick", "--data", str(folder), "--seed", "7", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Modern recipe" in done.stdout
    assert "seed 7" in done.stdout
    assert "B2" not in done.stdout


# Networks side by side are the same networks


def assert_same(stack, networks):
    for joined, *single in zip(stack.parameters(), *(n.parameters() for n in networks), strict=True):
        for k, p in enumerate(single):
            np.testing.assert_allclose(joined.numpy()[k].reshape(p.shape), p.numpy(), rtol=0, atol=1e-12)


@pytest.mark.parametrize("hidden", [2, 3])
def test_side_by_side_equals_one_by_one_with_gradient_descent(hidden, load):
    example, common = load("ten_points"), load("_common")
    networks = [example.sigmoid_network(hidden, seed) for seed in range(3)]
    stack = common.side_by_side(networks)
    for network in (stack, *networks):
        example.train(network, 40)
    assert_same(stack, networks)
    assert example.predict(stack).shape == (3, 10, 2)


def test_side_by_side_equals_one_by_one_with_adam(load):
    example, common = load("ten_points"), load("_common")
    networks = [example.a3_network(seed) for seed in range(3)]
    stack = common.side_by_side(networks)
    for network in (stack, *networks):
        example.train_adam(network, 200, 0.01)
    assert_same(stack, networks)


def test_side_by_side_equals_one_by_one_for_xor(load):
    example, common = load("xor"), load("_common")
    networks = [example.build(seed) for seed in range(3)]
    stack = common.side_by_side(networks)
    histories = [example.train(n, tn.optim.SGD(n.parameters(), lr=0.1), 200) for n in (stack, *networks)]
    assert_same(stack, networks)
    np.testing.assert_allclose(histories[0], np.stack(histories[1:], axis=1), rtol=0, atol=1e-12)


@pytest.mark.parametrize("optimizer", [tn.optim.SGD, tn.optim.Adam])
@pytest.mark.parametrize("count", [1, 3])
def test_compiled_steps_train_xor_as_eager_ones(count, optimizer, load):
    example, common = load("xor"), load("_common")
    found = []
    for compiled in (True, False):
        networks = [example.build(seed) for seed in range(count)]
        network = common.side_by_side(networks) if count > 1 else networks[0]
        errors = example.train(network, optimizer(network.parameters(), lr=0.1), 50, compiled=compiled)
        found.append([errors, *(p.data for p in network.parameters())])
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)


# The figures


@pytest.mark.parametrize(("hidden", "least"), [(2, 80), (3, 85)])
def test_ten_points_learn_in_40_epochs(hidden, least, load):
    example, common = load("ten_points"), load("_common")
    stack = common.side_by_side([example.sigmoid_network(hidden, seed) for seed in range(100)])
    example.train(stack, 40)
    assert np.sum(example.accuracy(example.predict(stack)) == 1) >= least


def test_ten_points_by_hand_and_with_the_slip(load):
    example = load("ten_points")
    network = example.sigmoid_network(3, 4)
    by_hand = example.train_by_hand(network, 40)
    slip = example.train_by_hand(network, 40, slip=True)
    example.train(network, 40)
    np.testing.assert_allclose(by_hand, example.predict(network), rtol=0, atol=1e-12)
    assert example.accuracy(slip) == 0.5
    assert example.error_sum(slip) == pytest.approx(2.7, abs=0.1)


def test_xor_learns_from_most_seeds(load):
    example, common = load("xor"), load("_common")
    stack = common.side_by_side([example.build(seed) for seed in range(100)])
    last = example.train(stack, tn.optim.SGD(stack.parameters(), lr=0.1), 1000)[-1]
    assert np.sum(last < 0.001) >= 60
    np.testing.assert_allclose(last[last >= 0.1], 0.279, atol=0.001)


def test_mnist_modern_recipe(tmp_path):
    done = run("mnist", "--only", "modern", "--seeds", "2", cwd=tmp_path)
    accuracies = [float(found) for found in re.findall(r"accuracy (0\.\d+)", done.stdout)]
    assert len(accuracies) == 2
    assert min(accuracies) >= 0.86


def test_mnist_image_by_image_equals_the_formulas(load, capsys):
    example = load("mnist")
    mnist = tn.data.Mnist(*(part[:100] for part in tn.data.load_mnist_subset()))
    (result,) = example.run_notebook("normalized", mnist, 2, range(1))
    capsys.readouterr()

    rng = np.random.default_rng(0)
    layers = [[rng.uniform(-0.5, 0.5, shape) for shape in ((n, m), (m,))] for n, m in ((784, 100), (100, 50), (50, 10))]
    images, targets = tn.data.normalize(mnist.train_images.reshape(100, 784)), tn.data.one_hot(mnist.train_labels, 10)
    errors = []
    for _ in range(2):
        errors.append(0)
        for x, y in zip(images, targets, strict=True):
            outputs = [x]
            for W, b in layers:
                outputs.append(np.tanh(outputs[-1] @ W + b))
            errors[-1] += np.mean((y - outputs[-1]) ** 2) / 100
            upstream = 2 * (outputs[-1] - y) / y.size
            for k in (2, 1, 0):
                W, b = layers[k]
                dZ = upstream * (1 - outputs[k + 1] ** 2)
                upstream = dZ @ W.T
                W -= 0.1 * np.outer(outputs[k], dZ)
                b -= 0.1 * dZ
    np.testing.assert_allclose(result.errors, errors, rtol=1e-9)
    predicted = tn.data.normalize(mnist.test_images.reshape(100, 784))
    for W, b in layers:
        predicted = np.tanh(predicted @ W + b)
    assert result.report.accuracy == tn.metrics.accuracy(mnist.test_labels, predicted)


# Layers of one's own, and convolutions


def test_custom_layers_are_checked_and_learn(tmp_path):
    done = run("custom_layers", "--quick", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert re.findall(r"(\d) gradients checked", done.stdout) == ["5", "7", "9"]
    assert len(re.findall(r"right 0\.\d{3} -> [01]\.\d{3}", done.stdout)) == 4
    assert list(tmp_path.iterdir()) == []
    assert done.stdout.isascii()


def test_attention_learns_to_reverse_and_the_cell_to_remember(load):
    example = load("custom_layers")
    for model, task, data, steps in (
        (example.Reverser, (tn.functional.cross_entropy, example.right_tokens), example.mirrored, 150),
        (
            example.Memory,
            (tn.functional.binary_cross_entropy_with_logits, example.right_signs),
            example.first_signs,
            300,
        ),
    ):
        rng = np.random.default_rng(0)
        sizes = (10, 8) if model is example.Reverser else (16,)
        before, after = example.learn(model(*sizes, rng), *task, data(rng), steps, "training")
        assert before < 0.65
        assert after > 0.85


class Chosen:
    """Gives for angle, scale and shifts what is asked for."""

    def __init__(self, angle=0.0, scale=1.0, down=0.0, across=0.0):
        self.values = iter([angle, scale, np.array([down, across])[:, None, None, None]])

    def uniform(self, low, high, size):
        value = next(self.values)
        assert np.all((low <= value) & (value <= high))
        return np.broadcast_to(value, size)


def test_images_are_turned_scaled_and_shifted(load):
    moved = load("cnn").moved
    images = np.random.default_rng(0).random((3, 7, 7)).astype(np.float32)
    assert np.array_equal(moved(images, Chosen()), images)
    expected = np.zeros_like(images)
    expected[:, :-2, 1:] = images[:, 2:, :-1]
    np.testing.assert_allclose(moved(images, Chosen(down=2.0, across=-1.0)), expected)
    half = np.pad(images, ((0, 0), (0, 0), (0, 1)))
    half = (half[:, :, 1:] + half[:, :, :-1]) / 2
    np.testing.assert_allclose(moved(images, Chosen(across=0.5)), half, rtol=1e-6)
    ramp = np.broadcast_to(np.arange(7.0) - 3, (1, 7, 7)).copy()  # brighter to the right
    inner = (0, slice(2, 5), slice(2, 5))
    np.testing.assert_allclose(moved(ramp, Chosen(scale=1.1))[inner], ramp[inner] / 1.1, atol=1e-12)
    i, j = np.mgrid[-3:4, -3:4]
    turned = np.sin(np.radians(15)) * i + np.cos(np.radians(15)) * j
    np.testing.assert_allclose(moved(ramp, Chosen(angle=15.0))[inner], turned[inner[1:]], atol=1e-12)


def test_cnn_quick_run(tmp_path):
    plots = ["--plots", "pictures"] if importlib.util.find_spec("matplotlib") else []
    done = run("cnn", "--quick", *plots, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "moved at random" in done.stdout
    assert done.stdout.isascii()
    assert [file.name for file in tmp_path.rglob("*.png")] == ["cnn_errors.png"] * bool(plots)


def test_cnn_learns_from_moved_images(load):
    example = load("cnn")
    mnist = tn.data.load_mnist_subset()
    network, history = example.train(mnist, 0, 8, augment=True)
    images = (mnist.test_images[:2000, None] / 255).astype(np.float32)
    assert tn.metrics.accuracy(mnist.test_labels[:2000], tn.predict(network, images, batch_size=500)) >= 0.85
    assert history["loss"][-1] < history["loss"][0] / 2


@pytest.mark.parametrize("script", ["custom_layers", "cnn"])
def test_help_of_layers(script, tmp_path):
    done = run(script, "--help", cwd=tmp_path)
    assert done.returncode == 0
    assert all(option in done.stdout for option in ("--seed", "--quick"))


# Beyond NumPy


@pytest.mark.parametrize(
    ("script", "needs", "extra", "texts"),
    [
        ("cluster", "distributed", "tinygrad-nn[dask]", ["dashboard at http://127.0.0.1:", "2 workers", "speed"]),
        ("minimize", "scipy", "pip install scipy", ["Rosenbrock", "Hessian products", "XOR 2-3-1"]),
    ],
)
def test_beyond_numpy_quick_run(script, needs, extra, texts, tmp_path):
    done = run(script, "--quick", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    if importlib.util.find_spec(needs) is None:
        assert extra in done.stdout
        assert len(done.stdout.splitlines()) == 1
        return
    assert [text for text in texts if text not in done.stdout] == []
    assert done.stdout.isascii()
    if script == "cluster":
        losses = re.findall(r"\d\.\d{5}", done.stdout)
        assert len(losses) == 3
        assert len(set(losses)) == 1  # the same training, wherever it runs
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("script", "option"), [("cluster", "--data"), ("minimize", "--quick")])
def test_help_beyond_numpy(script, option, tmp_path):
    done = run(script, "--help", cwd=tmp_path)
    assert done.returncode == 0
    assert option in done.stdout


def test_minimize_finds_both_minima(load):
    pytest.importorskip("scipy")
    example = load("minimize")
    for found in example.minimize(example.rosenbrock, np.zeros(6)).values():
        np.testing.assert_allclose(found.x, 1, atol=1e-4)
    for found in example.minimize(example.xor_loss, np.random.default_rng(0).uniform(-1, 1, 13)).values():
        W1, b1, W2, b2 = example.unpack(found.x)
        answers = np.tanh(np.tanh(example.X @ W1 + b1) @ W2 + b2)
        np.testing.assert_allclose(answers, example.Y, atol=0.05)
