"""Data preparation: scaling, one-hot, batches, IDX files and the MNIST subset."""

import gzip
import hashlib
import itertools
import math
import struct
import subprocess
import sys
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tinygrad_nn import data
from tinygrad_nn.errors import ArgumentError, DTypeError, FileFormatError, ShapeError

IDX_CODES = {"u1": 0x08, "i1": 0x09, ">i2": 0x0B, ">i4": 0x0C, ">f4": 0x0D, ">f8": 0x0E}
SCALERS = (data.normalize, data.standardize, data.Normalizer, data.Standardizer)
quick = settings(deadline=None, max_examples=100)

reals = st.floats(-1e6, 1e6, allow_subnormal=False)
tables = hnp.arrays(np.float64, hnp.array_shapes(min_dims=2, max_dims=2, max_side=6), elements=reals)
# On a grid, so that rounding in the loop and in the library cannot differ by much.
thousandths = hnp.arrays(int, hnp.array_shapes(min_dims=2, max_dims=2), elements=st.integers(-(10**6), 10**6)).map(
    lambda values: values / 1000
)


def minimum_and_range(column):
    return min(column), max(column) - min(column)


def mean_and_deviation(column):
    mean = math.fsum(column) / len(column)
    return mean, math.sqrt(math.fsum((v - mean) ** 2 for v in column) / len(column))


FORMULAS = [
    (data.normalize, data.Normalizer, minimum_and_range),
    (data.standardize, data.Standardizer, mean_and_deviation),
]


# Scaling


@quick
@given(thousandths, st.sampled_from(FORMULAS))
def test_scaling_by_feature_equals_a_loop(values, formula):
    function, _, figures = formula
    before = values.copy()
    result = function(values, axis=0)
    assert result.shape == values.shape
    for j in range(values.shape[1]):
        column = values[:, j].tolist()
        offset, scale = figures(column)
        constant = len(set(column)) == 1
        expected = [0.0 if constant else (v - offset) / scale for v in column]
        assert result[:, j].tolist() == pytest.approx(expected, rel=1e-6, abs=1e-6)
    np.testing.assert_array_equal(values, before)
    assert not np.shares_memory(values, result)


@quick
@given(tables)
def test_scaling_the_whole_array_is_the_formula_bit_for_bit(values):
    constant = values.min() == values.max()
    normalized = 0 if constant else (values - values.min()) / (values.max() - values.min())
    np.testing.assert_array_equal(data.normalize(values), normalized)
    # The deviation of distinct values may underflow to 0.
    standardized = 0 if constant or values.std() == 0 else (values - values.mean()) / values.std()
    np.testing.assert_array_equal(data.standardize(values), standardized)


@pytest.mark.parametrize(("function", "scaler", "figures"), FORMULAS)
def test_a_scaler_keeps_the_training_figures(function, scaler, figures):
    rng = np.random.default_rng(0)
    train, test = rng.normal(3, 2, (20, 4)), rng.normal(-1, 5, (7, 4))
    scale = scaler(train, axis=0)
    np.testing.assert_array_equal(scale(train), function(train, axis=0))
    for j in range(4):
        offset, width = figures(train[:, j].tolist())
        np.testing.assert_allclose(scale(test)[:, j], (test[:, j] - offset) / width, rtol=1e-12)
    train[:] = 0
    assert scale.offset.shape == scale.scale.shape == (1, 4)
    assert (scale(test) != 0).all()
    whole = scaler(test)
    assert whole(3.0).shape == ()
    assert whole(np.ones((2, 3, 4))).shape == (2, 3, 4)


def test_axes_are_numpys():
    values = np.random.default_rng(1).normal(size=(2, 3, 4))
    for axis, other in ((-1, 2), ((0, 1), (-3, 1)), (None, (0, 1, 2))):
        np.testing.assert_allclose(data.standardize(values, axis), data.standardize(values, other), atol=1e-15)
    result = data.standardize(values, axis=(0, 1))
    np.testing.assert_allclose(result.mean((0, 1)), 0, atol=1e-15)
    np.testing.assert_allclose(result.std((0, 1)), 1, rtol=1e-14)
    for wrong in (3, -4, (0, 0), "rows", 1.5):
        with pytest.raises(ArgumentError, match="axis"):
            data.normalize(values, axis=wrong)


@pytest.mark.parametrize("value", [0.1, 1 / 3, -7.0, 1e300, 255])
@pytest.mark.parametrize("axis", [None, 0])
@pytest.mark.parametrize("scaler", [data.Normalizer, data.Standardizer])
def test_constant_features_become_zero(value, axis, scaler):
    # np.std of three times 0.1 is not 0: a constant must be found some other way.
    constant = np.full((3, 2), value)
    scale = scaler(constant, axis)
    np.testing.assert_array_equal(scale(constant), 0)
    np.testing.assert_array_equal(scale(constant * 0 + 5), 0)


def test_tiny_and_huge_values_neither_warn_nor_give_nan():
    np.testing.assert_array_equal(data.standardize([0.0, 1e-200]), 0)  # the deviation underflows
    np.testing.assert_array_equal(data.normalize([0.0, 1e-200]), [0, 1])
    np.testing.assert_array_equal(data.normalize(np.array([-3e38, 3e38], np.float32)), [0, 1])
    np.testing.assert_allclose(data.standardize(np.array([-6e4, 6e4], np.float16)), [-1, 1])
    limits = np.iinfo(np.int64)
    np.testing.assert_array_equal(data.normalize([limits.min, limits.max]), [0, 1])
    for function in (data.normalize, data.standardize):
        with pytest.raises(ArgumentError, match="overflow"):
            function([-1.7e308, 1.7e308])


@pytest.mark.parametrize("function", [data.normalize, data.standardize])
def test_scaling_keeps_float_types_and_widens_integers(function):
    for kind in (np.float16, np.float32, np.float64, np.longdouble):
        assert function(np.array([1, 2, 4], kind)).dtype == kind
        assert function(np.array([1, 2, 4], kind), axis=0).dtype == kind
    for kind in (np.bool_, np.uint8, np.int8, np.int64):
        assert function(np.array([0, 1, 1], kind)).dtype == np.float64
    assert data.Normalizer(np.array([1, 2], np.longdouble))(np.array([1, 2])).dtype == np.float64
    pixels = np.array([[0, 255], [255, 0]], np.uint8)
    np.testing.assert_array_equal(data.standardize(pixels), [[-1, 1], [1, -1]])
    fortran = np.asfortranarray(np.random.default_rng(0).normal(size=(5, 3)))
    np.testing.assert_array_equal(function(fortran, 0), function(fortran.copy(), 0))


def test_float32_figures_do_not_drift():
    # The running sum of float32 pixels would lose the last digits of mean and deviation.
    pixels = np.random.default_rng(0).integers(0, 256, 200_000)
    exact = data.standardize(pixels)
    np.testing.assert_allclose(data.standardize(pixels.astype(np.float32)), exact, rtol=1e-6)


@pytest.mark.parametrize("function", SCALERS)
def test_scaling_refuses_what_it_cannot_scale(function):
    with pytest.raises(ArgumentError, match=r"nan at index \(1, 0\)"):
        function([[1.0, 2.0], [math.nan, 3.0]])
    with pytest.raises(ArgumentError, match="-inf"):
        function([-math.inf, 1.0])
    for empty in ([], np.empty((0, 3)), np.empty((3, 0))):
        with pytest.raises(ShapeError, match="empty"):
            function(empty)
    for wrong in (["a", "b"], [None, 1], [1j], np.array(["2020-01-01"], "M8[D]")):
        with pytest.raises(DTypeError, match="real numbers"):
            function(wrong)


@pytest.mark.parametrize("scaler", [data.Normalizer, data.Standardizer])
def test_a_scaler_refuses_other_features(scaler):
    scale = scaler(np.arange(12.0).reshape(3, 4), axis=0)
    for shape in ((3, 1), (3, 5), (4,), (1, 3, 4)):
        with pytest.raises(ShapeError, match="newaxis"):
            scale(np.ones(shape))
    with pytest.raises(ShapeError):  # broadcasting alone would let these pass
        scaler(np.arange(3.0).reshape(3, 1), axis=0)(np.ones((3, 4)))
    with pytest.raises(ArgumentError, match="nan"):
        scale(np.full((1, 4), np.nan))


# One-hot


@quick
@given(
    hnp.arrays(hnp.integer_dtypes(endianness="="), hnp.array_shapes(max_side=4), elements=st.integers(0, 9)),
    st.integers(0, 3),
)
def test_one_hot_equals_a_loop(labels, extra):
    count = int(labels.max()) + 1 + extra
    result = data.one_hot(labels, count)
    assert result.shape == (*labels.shape, count)
    assert result.dtype == np.float64
    for index in np.ndindex(labels.shape):
        assert result[index].tolist() == [1.0 if c == labels[index] else 0.0 for c in range(count)]
    np.testing.assert_array_equal(data.one_hot(labels), result[..., : count - extra])


def test_one_hot_shapes_and_dtypes():
    assert data.one_hot(2).tolist() == [0, 0, 1]
    assert data.one_hot([], 3).shape == (0, 3)
    assert data.one_hot(np.empty((2, 0), int), num_classes=4).shape == (2, 0, 4)
    for kind in (np.float32, np.int8, bool):
        assert data.one_hot([0, 1], dtype=kind).dtype == kind
    assert data.one_hot([0, 1], np.int64(2)).shape == (2, 2)


@pytest.mark.parametrize(
    ("labels", "num_classes", "error", "text"),
    [
        ([0.0, 1.0], None, DTypeError, "astype"),
        ([True, False], 2, DTypeError, "bool"),
        (["cat"], 2, DTypeError, "integers"),
        ([0, -1], 3, ArgumentError, "-1"),
        ([0, -1], None, ArgumentError, "-1"),
        ([-5], None, ArgumentError, "-5"),
        ([0, 3], 3, ArgumentError, r"0 to 3.*0\.\.2"),
        ([], None, ShapeError, "num_classes"),
        ([0], 0, ArgumentError, "num_classes=0"),
        ([0], 2.0, ArgumentError, "num_classes=2.0"),
        ([0], True, ArgumentError, "num_classes=True"),
    ],
)
def test_one_hot_errors(labels, num_classes, error, text):
    with pytest.raises(error, match=text):
        data.one_hot(labels, num_classes)


# Batches


@quick
@given(st.integers(1, 40), st.integers(1, 45), st.booleans(), st.booleans(), st.integers(0, 99))
def test_batches_are_aligned_and_complete(n, batch_size, shuffle, drop_last, seed):
    x, y = np.arange(n * 3).reshape(n, 3), np.arange(n) * 3
    if drop_last and batch_size > n:
        with pytest.raises(ArgumentError, match="leaves no batch"):
            data.batches(x, y, batch_size=batch_size, drop_last=True)
        return
    rng = np.random.default_rng(seed)
    loader = data.batches(x, y, batch_size=batch_size, shuffle=shuffle, rng=rng, drop_last=drop_last)
    for _ in range(2):
        found = list(loader)
        assert len(found) == len(loader) == (n // batch_size if drop_last else math.ceil(n / batch_size))
        for inputs, targets in found:
            np.testing.assert_array_equal(inputs[:, 0], targets)
        sizes = [len(targets) for _, targets in found]
        assert set(sizes[:-1]) <= {batch_size}
        seen = [int(t) for _, targets in found for t in targets]
        kept = n - n % batch_size if drop_last else n
        assert len(set(seen)) == len(seen) == sum(sizes) == kept
        if not shuffle:
            assert seen == y[:kept].tolist()


def test_shuffling_is_reproducible_and_new_in_each_loop():
    def epochs(**options):
        loader = data.batches(np.arange(50), batch_size=7, rng=np.random.default_rng(3), **options)
        return [np.concatenate(list(loader)).tolist() for _ in range(3)]

    assert epochs() == epochs(shuffle=True)
    assert len({tuple(order) for order in epochs()}) == 3
    assert epochs(shuffle=False) == [list(range(50))] * 3


def test_two_loops_at_once_do_not_disturb_each_other():
    loader = data.batches(np.arange(20), batch_size=4, rng=np.random.default_rng(0))
    pairs = list(zip(loader, loader, strict=True))
    for side in range(2):
        assert sorted(np.concatenate([pair[side] for pair in pairs]).tolist()) == list(range(20))


def test_unshuffled_batches_are_views_and_shuffled_ones_copies():
    x = np.arange(10.0)
    assert all(np.shares_memory(batch, x) for batch in data.batches(x, batch_size=4))
    loader = data.batches(x, batch_size=4, rng=np.random.default_rng(0))
    assert not any(np.shares_memory(batch, x) for batch in loader)


def test_batches_checks_before_the_first_batch():
    x, y, rng = np.zeros((6, 2)), np.zeros(6), np.random.default_rng(0)
    cases = [
        ((x, y[:5]), {}, ShapeError, r"\(6, 2\), \(5,\)"),
        ((), {}, ShapeError, "none"),
        ((np.float64(3),), {}, ShapeError, r"\(\)"),
        ((x[:0], y[:0]), {}, ShapeError, "1 sample or more"),
        ((x,), {"batch_size": 0}, ArgumentError, "batch_size=0"),
        ((x,), {"batch_size": -2}, ArgumentError, "batch_size=-2"),
        ((x,), {"batch_size": 2.5}, ArgumentError, "batch_size=2.5"),
        ((x,), {"batch_size": True}, ArgumentError, "batch_size=True"),
        ((x,), {"batch_size": 7, "drop_last": True}, ArgumentError, "6 samples"),
        ((x,), {"shuffle": True}, ArgumentError, "default_rng"),
        ((x,), {"rng": 0}, DTypeError, "rng=0"),
        ((x,), {"rng": np.random.RandomState(0)}, DTypeError, "Generator"),
    ]
    for arrays, options, error, text in cases:
        with pytest.raises(error, match=text):
            data.batches(*arrays, **{"batch_size": 2, **options})
    with pytest.raises(TypeError):
        data.batches(x, y, 2)  # a forgotten keyword is no array
    assert len(data.batches(x.tolist(), y.tolist(), batch_size=4, rng=rng)) == 2


# IDX files


def idx_bytes(array, code):
    array = np.asarray(array, code)
    return bytes([0, 0, IDX_CODES[code], array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


@pytest.fixture(scope="module")
def idx_file(tmp_path_factory):
    """Write bytes to one file, again and again, and return its path."""
    path = tmp_path_factory.mktemp("idx") / "file"

    def write(content):
        path.write_bytes(content)
        return path

    return write


@quick
@given(st.data(), st.sampled_from(sorted(IDX_CODES)), st.booleans())
def test_read_idx_returns_what_was_written(idx_file, draw, code, compress):
    shape = draw.draw(hnp.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=5))
    array = draw.draw(hnp.arrays(code, shape))
    content = idx_bytes(array, code)
    result = data.read_idx(idx_file(gzip.compress(content, 1) if compress else content))
    assert result.shape == array.shape
    assert result.dtype == np.dtype(code).newbyteorder("=")
    assert result.dtype.isnative
    np.testing.assert_array_equal(result, array)
    assert result.flags.writeable
    result[...] = 0


def read_or_refusal(path):
    try:
        return data.read_idx(path)
    except FileFormatError as error:
        return str(error)


def test_read_idx_takes_content_for_gzip_and_not_the_name(tmp_path):
    content = idx_bytes([[1, 2], [3, 4]], "u1")
    half = len(content) // 2
    for name, stored in {
        "plain.gz": content,
        "packed": gzip.compress(content),
        "two members": gzip.compress(content[:half]) + gzip.compress(content[half:]),
    }.items():
        (tmp_path / name).write_bytes(stored)
        assert data.read_idx(str(tmp_path / name)).tolist() == [[1, 2], [3, 4]]


@quick
@given(st.data(), st.booleans())
def test_every_truncation_is_found(idx_file, draw, compress):
    content = idx_bytes(np.arange(20).reshape(4, 5), draw.draw(st.sampled_from(sorted(IDX_CODES))))
    content = gzip.compress(content, mtime=0) if compress else content
    path = idx_file(content[: draw.draw(st.integers(0, len(content) - 1))])
    with pytest.raises(FileFormatError) as caught:
        data.read_idx(path)
    assert str(path) in str(caught.value)


@settings(deadline=None, max_examples=400)
@given(st.data(), st.booleans())
def test_mutated_bytes_give_an_array_or_a_clear_error(idx_file, draw, compress):
    content = idx_bytes(np.arange(60).reshape(3, 4, 5), draw.draw(st.sampled_from(sorted(IDX_CODES))))
    content = bytearray(gzip.compress(content, mtime=0) if compress else content)
    for _ in range(draw.draw(st.integers(1, 4))):
        content[draw.draw(st.integers(0, min(len(content) - 1, 40)))] = draw.draw(st.integers(0, 255))
    path = idx_file(bytes(content))
    result = read_or_refusal(path)
    if isinstance(result, str):
        assert str(path) in result
    else:
        assert result.nbytes <= 480


@quick
@given(st.binary(max_size=80), st.sampled_from([b"", b"\0\0\x08\x01", b"\0\0\x0e\x03", b"\x1f\x8b\x08\x00"]))
def test_random_bytes_give_an_array_or_a_clear_error(idx_file, content, start):
    result = read_or_refusal(idx_file(start + content))
    assert isinstance(result, str) or result.nbytes < 80


def test_damaged_files_say_what_was_expected_and_found(idx_file):
    good = idx_bytes(np.arange(6).reshape(2, 3), ">i4")
    packed = gzip.compress(good)
    cases = {
        b"": "empty file",
        b"\0\0\x08": "00 00 08",
        b"\x89PNG\r\n\x1a\n": "not an IDX file.*89 50 4e 47",
        b"\0\0\x0a\x01\0\0\0\0": "element type.*00 00 0a 01",
        b"\0\0\x08\x00": "number of dimensions",
        b"\0\0\x08\x41" + bytes(400): "number of dimensions",
        b"\0\0\x08\x03\0\0\0\1": "expected 12 bytes of sizes, found 4",
        good[:-1]: r"expected 24 bytes of int32, shape \(2, 3\), found 23",
        good + b"\0": "expected 24 bytes.*found more",
        packed[:-9]: "end-of-stream",
        packed[:-6] + b"\0\0" + packed[-4:]: "CRC",
        packed + b"rubbish": "gzip",
        gzip.compress(good + b"\0"): "found more",
        gzip.compress(good[:-1]): "found 23",
        gzip.compress(b""): "empty file",
        b"\x1f\x8b": "end-of-stream",
    }
    for content, text in cases.items():
        with pytest.raises(FileFormatError, match=text):
            data.read_idx(idx_file(content))
    assert isinstance(data.read_idx(idx_file(packed + bytes(20))), np.ndarray)  # padding, as on tapes


def test_missing_files_are_pythons_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        data.read_idx(tmp_path / "nothing")


def peak_memory(path, **options):
    tracemalloc.start()
    try:
        with pytest.raises(FileFormatError) as caught:
            data.read_idx(path, **options)
        return tracemalloc.get_traced_memory()[1], str(caught.value)
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("compress", [False, True])
def test_a_hostile_header_allocates_nothing(idx_file, compress):
    largest = 0xFFFFFFFF
    for sizes in (
        (largest,),
        (46_000, 46_000),
        (largest,) * 3,
        (0, largest, largest, largest),
        (largest,) * 64,
    ):
        for code in IDX_CODES.values():
            header = bytes([0, 0, code, len(sizes)]) + struct.pack(f">{len(sizes)}I", *sizes)
            content = header + bytes(100)
            peak, text = peak_memory(idx_file(gzip.compress(content) if compress else content))
            assert peak < 4_000_000
            assert "max_bytes" in text or "found 100" in text


def gzip_of_zeros(header, megabytes):
    packer = zlib.compressobj(9, wbits=31)
    parts = [
        packer.compress(header),
        *(packer.compress(bytes(1 << 20)) for _ in range(megabytes)),
        packer.flush(),
    ]
    return b"".join(parts)


def test_a_gzip_bomb_stops_at_the_announced_end(idx_file):
    bomb = gzip_of_zeros(b"\0\0\x08\x01\0\0\0\x0a", megabytes=64)
    assert len(bomb) < 100_000
    peak, text = peak_memory(idx_file(bomb))
    assert peak < 4_000_000
    assert "found more" in text
    honest = gzip_of_zeros(b"\0\0\x08\x02\0\0\0\x08\0\x10\0\0", megabytes=8)
    peak, text = peak_memory(idx_file(honest), max_bytes=(8 << 20) - 1)
    assert peak < 1_000_000
    assert "max_bytes=8388607" in text
    assert data.read_idx(idx_file(honest), max_bytes=8 << 20).shape == (8, 1 << 20)


# MNIST


@pytest.fixture(scope="module")
def subset():
    return data.load_mnist_subset()


def test_the_subset_is_mnist(subset):
    # Counts and checksums of the published files: the first 1,000 training and all 10,000 test images.
    digests = {
        "train_images": "2304e0137aea1f236247daacc2dcaf275996895e40c4bb0760c448434d361d1a",
        "train_labels": "b03ead2884240483d956c7feac7a9b39d28685062da0a980bb73d2196dc506b8",
        "test_images": "6d87418db22cc8025d05968bec9bd5c3932904b23485740db143a061a2c9d161",
        "test_labels": "ddeff807876a9661a1110d45c266c86239a3a1b7d37da0c3716a7a683c852ff5",
    }
    for name, digest in digests.items():
        array = getattr(subset, name)
        assert array.dtype == np.uint8
        assert hashlib.sha256(array.tobytes()).hexdigest() == digest
        assert array.flags.writeable
    assert subset.train_images.shape == (1000, 28, 28)
    assert subset.test_images.shape == (10000, 28, 28)
    assert np.bincount(subset.train_labels).tolist() == [97, 116, 99, 93, 105, 92, 94, 117, 87, 100]
    test_counts = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert np.bincount(subset.test_labels).tolist() == test_counts


def test_the_subset_is_small_and_names_its_licence():
    folder = Path(data.__file__).parent / "_mnist"
    assert sum(path.stat().st_size for path in folder.iterdir()) < 2_000_000
    text = (folder / "LICENSE").read_text(encoding="utf-8")
    doc = data.load_mnist_subset.__doc__
    for fact in ("LeCun", "Cortes", "Burges", "CC BY-SA 3.0", "1,000"):
        assert fact in text
        assert fact in doc


def write_mnist(folder, names, images=3, labels=3):
    contents = [
        idx_bytes(np.full((images, 4, 4), 1), "u1"),
        idx_bytes(np.arange(labels), "u1"),
        idx_bytes(np.full((2, 4, 4), 2), "u1"),
        idx_bytes(np.arange(2), "u1"),
    ]
    for name, content in zip(names, contents, strict=True):
        (folder / name).write_bytes(gzip.compress(content) if name.endswith("gz") else content)


STEMS = ("train-images{}idx3-ubyte{}", "train-labels{}idx1-ubyte{}", "t10k-images{}idx3-ubyte{}",
         "t10k-labels{}idx1-ubyte{}")  # fmt: skip


@pytest.mark.parametrize(("mark", "end"), list(itertools.product("-.", ("", ".gz"))))
def test_load_mnist_finds_every_spelling(tmp_path, mark, end):
    write_mnist(tmp_path, [stem.format(mark, end) for stem in STEMS])
    mnist = data.load_mnist(str(tmp_path))
    assert mnist.train_images.shape == (3, 4, 4)
    assert mnist.train_labels.tolist() == [0, 1, 2]
    assert (mnist.test_images == 2).all()
    assert mnist.test_labels.tolist() == [0, 1]


def test_load_mnist_errors(tmp_path):
    names = [stem.format("-", "") for stem in STEMS]
    write_mnist(tmp_path, names, labels=4)
    with pytest.raises(FileFormatError, match="4 labels, but 3 images"):
        data.load_mnist(tmp_path)
    write_mnist(tmp_path, [names[1], names[0], *names[2:]])
    with pytest.raises(FileFormatError, match="expected 3-d uint8"):
        data.load_mnist(tmp_path)
    write_mnist(tmp_path, names)
    (tmp_path / names[3]).write_bytes(idx_bytes([1, 2], ">i4"))
    with pytest.raises(FileFormatError, match="uint8, found int32"):
        data.load_mnist(tmp_path)
    (tmp_path / names[3]).unlink()
    with pytest.raises(FileNotFoundError, match=r"t10k-labels-idx1-ubyte, .*t10k-labels\.idx1-ubyte\.gz"):
        data.load_mnist(tmp_path)
    with pytest.raises(FileNotFoundError, match="train-images"):
        data.load_mnist(tmp_path / "nowhere")


def test_importing_the_module_does_not_import_the_file_readers():
    code = "import numpy, sys; old = set(sys.modules); import tinygrad_nn.data; print(*set(sys.modules) - old)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"gzip", "importlib.resources"} & set(result.stdout.split())
