"""How a tensor of TF-Slim lies in another format: its axes, its flattening, the order of its input channels."""

from __future__ import annotations

from dataclasses import dataclass

from voc_cls.weights.tensors import Array, Shape

KERNEL = (0, 1, 2, 3)
"""Axes of a convolution in TF-Slim and Keras: height, width, input, output."""
OIHW = (3, 2, 0, 1)
"""Those axes in the order of PyTorch and ONNX: output, input, height, width."""
OUTPUT = 3


@dataclass(frozen=True)
class Layout:
    """From TF-Slim's layout to another format's, and back. A tensor of a rank that does not fit stays as it is, so that
    a diff can show its shape. Nothing is computed with the values."""

    axes: tuple[int, ...] = ()
    """The other format's axes, as positions in TF-Slim's; empty: the same."""
    grid: int = 0
    """Where the other format has a matrix: height and width of TF-Slim's kernel; 0: it has none. Its rows (or columns)
    are the kernel's three input axes in the order of `axes`, which is what differs in fc6 of VGG."""
    bgr: bool = False
    """Whether the other format's input channels are blue, green, red."""

    def from_slim(self, array: Array) -> Array:
        """A view in the other format's shape; a copy only where a view cannot be flattened."""
        return self.arranged(array).reshape(self.foreign_shape(array.shape))

    def arranged(self, array: Array) -> Array:
        """A view, always: in C order it has the other format's values, but it is not flattened to a matrix yet."""
        if array.ndim != len(self.axes or array.shape):
            return array
        flipped = array[:, :, ::-1] if self.bgr else array
        return flipped.transpose(self.axes) if self.axes else flipped

    def to_slim(self, array: Array) -> Array:
        """The inverse of `from_slim`: a view of a contiguous array."""
        if self.grid:
            unflattened = self._unflattened(array.shape)
            if unflattened is None:
                return array
            array = array.reshape(unflattened)
        if array.ndim != len(self.axes or array.shape):
            return array
        straight = array.transpose(_inverse(self.axes)) if self.axes else array
        return straight[:, :, ::-1] if self.bgr else straight

    def foreign_shape(self, shape: Shape) -> Shape:
        """The other format's shape of a tensor that has `shape` in TF-Slim."""
        if len(shape) != len(self.axes or shape):
            return shape
        arranged = tuple(shape[axis] for axis in self.axes) if self.axes else shape
        if not self.grid:
            return arranged
        inputs = shape[0] * shape[1] * shape[2]
        return (shape[OUTPUT], inputs) if self.axes[0] == OUTPUT else (inputs, shape[OUTPUT])

    def slim_shape(self, shape: Shape) -> Shape:
        """TF-Slim's shape of a tensor that has `shape` in the other format."""
        if self.grid:
            unflattened = self._unflattened(shape)
            if unflattened is None:
                return shape
            shape = unflattened
        if len(shape) != len(self.axes or shape):
            return shape
        return tuple(shape[place] for place in _inverse(self.axes)) if self.axes else shape

    def _unflattened(self, shape: Shape) -> Shape | None:
        """The arranged, four-dimensional shape of a matrix; None where it cannot be one of this grid."""
        places = self.grid * self.grid
        if len(shape) != 2:
            return None
        output_first = self.axes[0] == OUTPUT
        outputs, inputs = shape if output_first else shape[::-1]
        if inputs % places:
            return None
        kernel = (self.grid, self.grid, inputs // places, outputs)
        return tuple(kernel[axis] for axis in self.axes)


def _inverse(axes: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(axes.index(axis) for axis in range(len(axes)))
