import os
import pickle

import pytest

from vitsearch_agent.base.npy import check_images, header_of, read_header
from vitsearch_agent.errors import InvalidRequest

numpy = pytest.importorskip("numpy")


@pytest.fixture
def save(tmp_path):
    def write(name, array, **settings):
        numpy.save(str(tmp_path / name), array, **settings)
        return str(tmp_path / name)

    return write


@pytest.mark.parametrize(
    "array",
    [
        numpy.zeros((5, 1, 4, 3), "float32"),
        numpy.arange(7, dtype="int64"),
        numpy.zeros((0, 2), "uint8"),
        numpy.float32(3).reshape(()),
    ],
)
def test_reads_headers_that_numpy_wrote(save, array):
    path = save("array.npy", array)
    header = read_header(path, "array")
    assert (header.dtype, header.shape) == (array.dtype.str, array.shape)
    with open(path, "rb") as stream:
        stream.seek(header.offset)
        assert stream.read() == array.tobytes()


def test_a_long_header_of_version_2_is_read(tmp_path):
    with open(str(tmp_path / "two.npy"), "wb") as stream:
        numpy.lib.format.write_array(stream, numpy.ones((2, 3), "float32"), version=(2, 0))
    assert read_header(str(tmp_path / "two.npy"), "two").shape == (2, 3)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (numpy.array([{}], object), "expected one little-endian array"),
        (numpy.zeros(3, [("a", "f4")]), "expected one little-endian array"),
        (numpy.zeros((2, 2), ">f4"), "expected one little-endian array"),
        (numpy.asfortranarray(numpy.zeros((2, 3), "float32")), "Fortran order"),
    ],
)
def test_other_arrays_are_refused(save, array, message):
    with pytest.raises(InvalidRequest, match=message):
        read_header(save("array.npy", array, allow_pickle=True), "array")


def test_truncated_and_other_files_are_refused(save, tmp_path):
    path = save("array.npy", numpy.zeros((4, 4), "float32"))
    with open(path, "r+b") as stream:
        stream.truncate(os.path.getsize(path) - 1)
    with pytest.raises(InvalidRequest, match="array has 191 bytes, but its header requires 192"):
        read_header(path, "array")
    for content in (
        b"",
        b"\x93NUMPY",
        pickle.dumps([1]),
        b"\x93NUMPY\x09\x00" + b"x" * 99,
        b"\x93NUMPY\x01\x00\xff\xff",
    ):
        (tmp_path / "other").write_bytes(content)
        with pytest.raises(InvalidRequest, match="other"):
            read_header(str(tmp_path / "other"), "other")


def test_a_header_is_never_evaluated(tmp_path):
    text = b"{'descr': '<f4', 'fortran_order': False, 'shape': (__import__('os').getpid(),), }\n"
    (tmp_path / "evil").write_bytes(b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text)
    with pytest.raises(InvalidRequest, match="expected one little-endian array"):
        read_header(str(tmp_path / "evil"), "evil")


@pytest.mark.parametrize("array", [numpy.zeros((3, 1, 2, 2), "float32"), numpy.zeros((3, 3, 2, 2), "uint8")])
def test_images_are_accepted(save, array):
    assert check_images(save("images.npy", array)).shape == array.shape


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (numpy.zeros((3, 1, 2, 2), "float64"), "images: expected float32 or uint8"),
        (numpy.zeros((3, 4), "float32"), "images: expected .* N x C x H x W"),
        (numpy.zeros((0, 1, 2, 2), "float32"), "images: expected"),
    ],
)
def test_what_no_model_takes_is_refused(save, array, message):
    with pytest.raises(InvalidRequest, match=message):
        check_images(save("images.npy", array))


@pytest.mark.parametrize("dtype", ["<f4", "|u1", "<u2"])
@pytest.mark.parametrize("shape", [(), (3,), (3, 2), (2, 3, 4, 5), (1, *[2] * 8)])
def test_numpy_reads_the_headers_that_are_written(tmp_path, dtype, shape):
    expected = numpy.arange(numpy.prod(shape, dtype=int)).astype(dtype).reshape(shape)
    header = header_of(dtype, shape)
    assert len(header) % 64 == 0
    (tmp_path / "array.npy").write_bytes(header + expected.tobytes())
    read = numpy.load(str(tmp_path / "array.npy"))
    assert (read.dtype, read.shape) == (expected.dtype, shape)
    assert numpy.array_equal(read, expected)
    assert read_header(str(tmp_path / "array.npy"), "array") == (dtype, shape, len(header))
