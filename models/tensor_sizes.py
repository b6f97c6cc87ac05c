"""Finds a model's sizes in its checkpoint's tensors."""

import re
from collections import Counter
from collections.abc import Mapping

from torch import Tensor


def common_size(tensors: Mapping[str, Tensor], pattern: str, axis: int) -> int:
    """The size most of the matching tensors agree on, so that one wrong tensor is reported and not believed.

    0 where no name matches the whole pattern.
    """
    sizes = Counter(
        value.shape[axis] for key, value in tensors.items() if re.fullmatch(pattern, key) and value.ndim > axis
    )
    return sizes.most_common(1)[0][0] if sizes else 0
