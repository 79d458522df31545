"""OpenVINO on the models that convert.py traced."""

import openvino
import torch

from exported import PARTS, Exported, main


class OpenVino(Exported):
    def __init__(self, given):
        super().__init__(given, ["openvino", "torch", "diffusers"])
        core = openvino.Core()
        settings = {
            "INFERENCE_PRECISION_HINT": given.dtype,
            "INFERENCE_NUM_THREADS": given.threads,
            "NUM_STREAMS": 1,
            "PERFORMANCE_HINT": "LATENCY",
        }
        self.parts = {
            name: core.compile_model(given.converted / f"{name}.xml", "CPU", settings)
            for name in PARTS
        }
        self.how = f"traced from PyTorch, hint {given.dtype}; diffusers' scheduler"

    def run(self, part: str, *inputs) -> list:
        out = self.parts[part]([value.numpy() for value in inputs], share_inputs=True)
        return [torch.from_numpy(out[i]) for i in range(len(out))]


if __name__ == "__main__":
    main(OpenVino)
