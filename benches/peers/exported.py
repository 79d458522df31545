"""An engine that runs the three models as convert.py made them for it."""

from amused import Amused, arguments
from serve import serve

PARTS = ("text", "transformer", "vq")


class Exported(Amused):
    def run(self, part: str, *inputs) -> list:
        """Outputs of a part, tensors like its inputs."""
        raise NotImplementedError

    def encode(self, ids):
        return self.run("text", ids)

    def logits(self, *inputs):
        return self.run("transformer", *inputs)[0]

    def decode(self, tokens):
        return self.run("vq", tokens)[0]


def main(engine) -> None:
    given = arguments()
    serve(lambda: engine(given))
