"""muse behind Triton Inference Server's Python backend."""

import json

import numpy as np
import triton_python_backend_utils as pb_utils

import muse


class TritonPythonModel:
    """The class that the backend looks for."""

    def initialize(self, args):
        """Loads the model that config.pbtxt names, on the device of this instance."""
        parameters = json.loads(args["model_config"])["parameters"]
        model, dtype, threads = (parameters[name]["string_value"] for name in ("model", "dtype", "threads"))
        gpu = args["model_instance_kind"] == "GPU"
        device = f"cuda:{args['model_instance_device_id']}" if gpu else "cpu"
        try:
            self.engine = muse.Engine(model, device=device, dtype=dtype, threads=int(threads) if threads else None)
        except muse.Error as error:
            raise pb_utils.TritonModelException(str(error)) from error

    def execute(self, requests):
        """A response for each request; one that cannot be used is an error of its own, and not the others'."""
        return [self.respond(request) for request in requests]

    def respond(self, request):
        options = {}
        try:
            prompt = text(request, "PROMPT")
            if pb_utils.get_input_tensor_by_name(request, "OPTIONS") is not None:
                options = json.loads(text(request, "OPTIONS"))
            seed = pb_utils.get_input_tensor_by_name(request, "SEED")
            if seed is not None:
                options["seed"] = int(seed.as_numpy().item())
            # A caller that has gone away is seen after the next step.
            image = self.engine.generate(
                prompt, count=None, callback=lambda step: not request.is_cancelled(), **options
            )
        except muse.Cancelled as error:
            return failed(error, pb_utils.TritonError.CANCELLED)
        except (TypeError, ValueError) as error:
            return failed(error, pb_utils.TritonError.INVALID_ARG)
        except muse.Error as error:
            return failed(error, pb_utils.TritonError.INTERNAL)
        tokens = image.base_tokens if image.superres_tokens is None else image.superres_tokens
        tensors = [
            pb_utils.Tensor("IMAGE", image.array),
            pb_utils.Tensor("TOKENS", tokens),
            pb_utils.Tensor("PNG", np.array([image.png()], np.object_)),
        ]
        return pb_utils.InferenceResponse(output_tensors=tensors)


def text(request, name):
    return pb_utils.get_input_tensor_by_name(request, name).as_numpy().item().decode()


def failed(error, code):
    return pb_utils.InferenceResponse(output_tensors=[], error=pb_utils.TritonError(str(error), code))
