"""A session around another: every call is seen, bound or not, and the wrapped session does the work."""

import numpy as np
from x2i.runtime.bundle.calls import Tensor
from x2i.runtime.sessions.session import Arrays, BoundCall, Outputs, SessionWrapper, UnboundSession


class Sum(UnboundSession):
    """Adds `a` and `b`."""

    def __init__(self) -> None:
        super().__init__((Tensor("a", "float32", (2,)), Tensor("b", "float32", (2,))), (Tensor("c", "float32", (2,)),))

    def __call__(self, **arrays: np.ndarray) -> Outputs:
        return {"c": arrays["a"] + arrays["b"]}


class Seen(SessionWrapper):
    """Keeps the names of what was bound before each call and of what came with it."""

    def __init__(self) -> None:
        super().__init__(Sum())
        self.calls: list[tuple[list[str], list[str]]] = []

    def around(self, call: BoundCall, bound: Arrays, rest: Arrays) -> Outputs:
        self.calls.append((list(bound), list(rest)))
        return call(**rest)


A, B = np.float32([1, 2]), np.float32([10, 20])


def test_calls_are_seen_and_made() -> None:
    session = Seen()
    assert session(a=A, b=B)["c"].tolist() == [11, 22]
    bound = session.bind(a=A)
    assert bound(b=B)["c"].tolist() == [11, 22] and bound(b=A)["c"].tolist() == [2, 4]
    assert session.calls == [([], ["a", "b"]), (["a"], ["b"]), (["a"], ["b"])]


def test_it_has_the_inputs_and_outputs_of_what_it_wraps() -> None:
    session, wrapped = SessionWrapper(Sum()), Sum()
    assert (session.inputs, session.outputs) == (wrapped.inputs, wrapped.outputs)
    assert session.bind(a=A)(b=B)["c"].tolist() == [11, 22]
