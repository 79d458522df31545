"""ONNX Runtime on the models that convert.py exported."""

import onnxruntime
import torch

from exported import PARTS, Exported, main


class OnnxRuntime(Exported):
    def __init__(self, given):
        super().__init__(given, ["onnxruntime", "torch", "diffusers"])
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = given.threads
        providers = ["CPUExecutionProvider"]
        self.parts = {
            name: onnxruntime.InferenceSession(given.converted / f"{name}.onnx", options, providers)
            for name in PARTS
        }
        self.how = "exported from PyTorch, all graph optimisations; diffusers' scheduler"

    def run(self, part: str, *inputs) -> list:
        session = self.parts[part]
        names = [node.name for node in session.get_inputs()]
        out = session.run(None, {name: value.numpy() for name, value in zip(names, inputs, strict=True)})
        return [torch.from_numpy(value) for value in out]


if __name__ == "__main__":
    main(OnnxRuntime)
