"""What a trained run encodes of a user's own pictures, film or rows."""

from dataclasses import dataclass

from torch import Tensor

from itervae.errors import InputError
from itervae.showing import Shown


@dataclass(frozen=True, repr=False)
class Inputs(Shown):
    """What a trained run encodes.

    Attributes:
        x: (N, D) float32, on the CPU; of pictures and film all patches of the first one, then of
            the next. Of a large array in a file what is asked for by index or slice is read then.
            For a convolutional dictionary whole pictures (N, H, W), or arrays of another size than
            the run was trained on, in their own shape.
        positions: (N, 3) int64, the number of the picture or frame, and the row and column of the
            upper left pixel of the patch, 0 of a whole picture; None where the rows were given as
            they are.
        taken: what the input was taken for, in a sentence.
        scenes: of film the first frame of every scene; None where there is no order.
    """

    x: Tensor
    positions: Tensor | None = None
    taken: str = ""
    scenes: tuple[int, ...] | None = None

    def sequences(self) -> Tensor:
        """Film as sequences (n, T, D), one for each place of a patch, for `filter_sequence`; of
        whole frames (1, T, H, W).

        Raises:
            InputError: the input is no film.
        """
        if self.scenes is None or self.positions is None:
            raise InputError(f"there are no sequences: {self.taken}; give a video")
        frames = int(self.positions[-1, 0]) + 1
        return self.x.unflatten(0, (frames, -1)).transpose(0, 1)
