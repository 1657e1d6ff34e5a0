"""ncnn, for pairs of a text of layers (.param) and their weights (.bin). Only this file imports ncnn, and only inside
functions.

A line of the text is a layer: its kind, its name, the numbers of its inputs and outputs with their names, and
`key=value` settings (https://github.com/Tencent/ncnn/wiki/param-and-model-file-structure). ncnn has no dimension of
images: a run of a batch is one pass for each.
"""

import importlib
import os
import re
from typing import Any, BinaryIO, List, Mapping, Optional, Set

from vitsearch_agent import artifacts
from vitsearch_agent.artifacts.facts import Facts, refusal
from vitsearch_agent.errors import MeasurementFailed
from vitsearch_agent.runtime_facts import RUNTIMES
from vitsearch_agent.runtimes.base import Availability, ReferenceRuntime, Runtime, Session
from vitsearch_agent.runtimes.inputs import Feeds, Input, random_feeds
from vitsearch_agent.runtimes.ort import on_the_cpu
from vitsearch_agent.wire.measure_protocol import Shapes

INPUT, OUTPUT = "in0", "out0"
FP16 = "fp16"
PRECISION_OPTIONS = ("use_fp16_packed", "use_fp16_storage", "use_fp16_arithmetic")
"""ncnn's settings of fp16; each takes effect where the processor has it."""
_PARAM_MAX_BYTES, _LAYERS_MAX, _BLOBS_MAX, _SIDE_MAX = 1 << 22, 1 << 16, 64, 1 << 16
_BEGIN = re.compile(rb"7767517\n(\d{1,6}) +(\d{1,6}) *\n")
_TEXT = re.compile(rb"[\x20-\x7e\n]*")
_COUNT = re.compile(r"\d{1,3}")
_KIND = re.compile(r"[A-Za-z][A-Za-z0-9]*")
_SETTING = re.compile(r"-?\d{1,6}=-?[\d.,e+-]{1,4096}")


def inspect(stream: BinaryIO, size: int, files: Mapping[str, str]) -> Facts:
    """Check the two files, return what they need; MeasurementFailed `incompatible_artifact` refuses them."""
    _input_sizes(stream, size)
    if not os.path.getsize(files["model.bin"]):
        raise refusal("the file of weights is empty")
    return Facts("ncnn")


def _input_sizes(stream: BinaryIO, size: int) -> List[int]:
    """Read channels, height and width of the one input out of the text of layers, and check all of it: each layer is of
    ncnn's own kinds, and takes what layers before it give."""
    if size > _PARAM_MAX_BYTES:
        raise refusal(f"the text of layers has {size} bytes; the limit is {_PARAM_MAX_BYTES}")
    content = stream.read(size)
    begin = _BEGIN.match(content)
    if begin is None or not _TEXT.fullmatch(content):
        raise refusal("the file is damaged: it is no text of layers of ncnn")
    layers, blobs = int(begin.group(1)), int(begin.group(2))
    lines = content.decode("ascii").rstrip("\n").split("\n")
    if not 0 < layers <= _LAYERS_MAX or len(lines) != layers + 2:
        raise refusal(f"the file is damaged: it has {len(lines) - 2} lines for {layers} layers")
    names: Set[str] = set()
    sizes: List[List[int]] = []
    for number, line in enumerate(lines[2:], 3):
        names |= _layer(line, number, names, sizes)
    if len(names) != blobs or OUTPUT not in names or len(sizes) != 1:
        raise refusal(f"the file is damaged: it has not one input, {INPUT}, and the output {OUTPUT}")
    return sizes[0]


def _layer(line: str, number: int, names: Set[str], sizes: List[List[int]]) -> Set[str]:
    """Check a layer and return the names of its outputs; those of the layers before it are in `names`. Of an input, its
    sizes are appended to `sizes`."""
    words = line.split()
    where = f"line {number} of the layers"
    if len(words) < 4 or not all(_COUNT.fullmatch(word) for word in words[2:4]):
        raise refusal(f"{where} is damaged")
    if not _KIND.fullmatch(words[0]):
        raise refusal(f"{where}: {words[0][:80]!r} is no layer of ncnn")
    ins, outs = int(words[2]), int(words[3])
    taken, new, settings = words[4 : 4 + ins], words[4 + ins : 4 + ins + outs], words[4 + ins + outs :]
    if max(ins, outs) > _BLOBS_MAX or len(new) != outs or not set(taken) <= names or set(new) & names:
        raise refusal(f"{where}: its inputs and outputs are not those of a chain of layers")
    if not all(_SETTING.fullmatch(setting) for setting in settings):
        raise refusal(f"{where}: its settings are no numbers")
    if words[0] == "Input":
        values = dict(setting.split("=") for setting in settings)
        sides = [values.get(key, "") for key in ("2", "1", "0")]
        if new != [INPUT] or not all(side.isdigit() and 0 < int(side) <= _SIDE_MAX for side in sides):
            raise refusal(f"{where}: the input has no size")
        sizes.append([int(side) for side in sides])
    return set(new)


class NcnnSession(Session):
    def __init__(self, library: Any, net: Any, feeds: Feeds) -> None:
        self.batch, self.shapes = feeds.sizes
        self._library, self._net = library, net
        self._images = feeds.arrays[0]
        self._mats = self._mats_of(self._images)

    def _mats_of(self, images: Any) -> List[Any]:
        return [self._library.Mat(image).clone() for image in images]  # a Mat does not own the memory of an array

    def _pass(self, mat: Any) -> Any:
        extractor = self._net.create_extractor()
        extractor.input(INPUT, mat)
        status, output = extractor.extract(OUTPUT)
        if status:
            raise MeasurementFailed("incompatible_artifact", f"ncnn refuses to run the model: {status}")
        return output

    def run(self) -> None:
        for mat in self._mats:
            self._pass(mat)

    def infer(self, images: Any) -> Any:
        numpy = importlib.import_module("numpy")
        if (images.shape, images.dtype) != (self._images.shape, self._images.dtype):
            seen, allowed = (f"{array.shape} {array.dtype}" for array in (images, self._images))
            message = f"the model does not accept the images: they are {seen}, expected {allowed}"
            raise MeasurementFailed("incompatible_artifact", message)
        return numpy.stack([numpy.array(self._pass(mat)) for mat in self._mats_of(images)])

    def close(self) -> None:
        self._net = None


class NcnnRuntime(Runtime):
    """Runs files on the CPU. Option: `precision`, in which it stores and, where the processor does, computes."""

    name = "ncnn"
    libraries = RUNTIMES["ncnn"].libraries
    gives_outputs = True
    options = {"precision": ("fp32", FP16)}

    def reference(self, options: Mapping[str, Any]) -> Optional[ReferenceRuntime]:
        return on_the_cpu()  # ncnn reads no ONNX

    def available(self) -> Availability:
        try:
            version = str(importlib.import_module("ncnn").__version__)
        except ImportError as error:
            return Availability(False, f"ncnn cannot be imported: {error}", None, ())
        return Availability(True, None, version, ("cpu",), ("ncnn",), precisions=self.options["precision"])

    def load(
        self, path: str, options: Mapping[str, Any], threads: int, batch: Optional[int], shapes: Shapes
    ) -> NcnnSession:
        files = artifacts.model_files(path)
        if "model.param" not in files:
            raise refusal("ncnn loads .param files with their .bin files")
        artifacts.inspect("ncnn", files)
        with open(path, "rb") as stream:
            sizes = _input_sizes(stream, os.path.getsize(path))
        feeds = random_feeds([Input(INPUT, "float32", ["batch"] + sizes)], batch, shapes)
        library = importlib.import_module("ncnn")
        net = library.Net()
        net.opt.num_threads = threads
        net.opt.use_bf16_storage = False
        for name in PRECISION_OPTIONS:
            setattr(net.opt, name, options["precision"] == FP16)
        if net.load_param(path) or net.load_model(files["model.bin"]):
            raise MeasurementFailed("incompatible_artifact", "ncnn rejects the model")
        return NcnnSession(library, net, feeds)
