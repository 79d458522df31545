"""The model of examples/triton, called as Triton's Python backend calls it."""

import importlib.util
import json
import re
import sys
import types

import numpy as np
import pytest
from conftest import DEMO, PROMPT, ROOT

EXAMPLE = ROOT / "examples/triton/muse"


class Tensor:
    """A stand-in for the backend's Tensor."""

    def __init__(self, name, array):
        self.name, self.array = name, array

    def as_numpy(self):
        return self.array


class TritonError:
    """A stand-in for the backend's TritonError."""

    INVALID_ARG, CANCELLED = 3, 7

    def __init__(self, message, code):
        self.message, self.code = message, code


class InferenceResponse:
    """A stand-in for the backend's InferenceResponse."""

    def __init__(self, output_tensors, error=None):
        self.tensors = {tensor.name: tensor.as_numpy() for tensor in output_tensors}
        self.error = error


class InferenceRequest:
    """A stand-in for the backend's InferenceRequest."""

    def __init__(self, cancelled=False, **tensors):
        arrays = {"PROMPT": np.object_, "SEED": np.uint64, "OPTIONS": np.object_}
        self.tensors = {name: Tensor(name, np.array([value], arrays[name])) for name, value in tensors.items()}
        self.cancelled = cancelled

    def is_cancelled(self):
        return self.cancelled


def stand_in():
    """A stand-in for triton_python_backend_utils, a module that only Triton's process has."""
    module = types.ModuleType("triton_python_backend_utils")
    module.Tensor, module.InferenceResponse, module.TritonError = Tensor, InferenceResponse, TritonError
    module.TritonModelException = type("TritonModelException", (Exception,), {})
    module.get_input_tensor_by_name = lambda request, name: request.tensors.get(name)
    return module


@pytest.fixture
def model(monkeypatch):
    """The model, loaded as its configuration says."""
    monkeypatch.setitem(sys.modules, "triton_python_backend_utils", stand_in())
    spec = importlib.util.spec_from_file_location("model", EXAMPLE / "1/model.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    pairs = re.findall(r'key: "(\w+)" value: { string_value: "(.*?)" }', (EXAMPLE / "config.pbtxt").read_text())
    parameters = {key: {"string_value": value} for key, value in pairs}
    parameters["model"] = {"string_value": str(DEMO)}
    model = module.TritonPythonModel()
    config = json.dumps({"parameters": parameters})
    model.initialize({"model_config": config, "model_instance_kind": "CPU", "model_instance_device_id": "0"})
    return model


def test_requests_get_the_images_they_ask_for(model, engine):
    options = {"steps": 2, "superres_steps": 1}
    first, second, wrong, odd, many, gone = model.execute(
        [
            InferenceRequest(PROMPT=PROMPT.encode(), SEED=2**64 - 1, OPTIONS=json.dumps(options).encode()),
            InferenceRequest(PROMPT=b"two stars", OPTIONS=b'{"size": "base"}'),
            InferenceRequest(PROMPT=b" "),
            InferenceRequest(PROMPT=b"two stars", OPTIONS=b'{"sed": 1}'),
            InferenceRequest(PROMPT=b"two stars", OPTIONS=b'{"count": 2}'),
            InferenceRequest(PROMPT=b"two stars", cancelled=True),
        ]
    )
    image = engine.generate(PROMPT, seed=2**64 - 1, **options)
    assert (first.tensors["IMAGE"] == image.array).all() and first.tensors["IMAGE"].dtype == np.uint8
    assert (first.tensors["TOKENS"] == image.superres_tokens).all()
    assert first.tensors["PNG"].item() == image.png()
    assert (second.tensors["TOKENS"] == engine.generate("two stars", size="base").base_tokens).all()
    for response, code, part in [(wrong, 3, "prompt"), (odd, 3, "'sed'"), (many, 3, "count"), (gone, 7, "cancelled")]:
        assert response.error.code == code and part in response.error.message and not response.tensors


def test_the_configuration_names_the_tensors(model):
    config = (EXAMPLE / "config.pbtxt").read_text()
    outputs = config[config.index("output [") :]
    response = model.execute([InferenceRequest(PROMPT=PROMPT.encode(), OPTIONS=b'{"size": "base", "steps": 1}')])[0]
    declared = re.findall(r'name: "(\w+)" data_type: TYPE_(\w+) dims: \[ (.*?) \]', outputs)
    kinds = {"UINT8": np.uint8, "UINT32": np.uint32, "STRING": np.object_}
    assert {name: kinds[kind] for name, kind, _ in declared} == {n: a.dtype for n, a in response.tensors.items()}
    for name, _, dims in declared:
        expected = [int(side) for side in dims.split(",")]
        shape = response.tensors[name].shape
        assert len(shape) == len(expected) and all(side in (-1, found) for side, found in zip(expected, shape))
