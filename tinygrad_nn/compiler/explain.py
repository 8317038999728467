"""What a program does, in words and numbers."""

from __future__ import annotations

from collections import Counter

from tinygrad_nn.compiler.build import Built
from tinygrad_nn.compiler.program import Op

__all__ = ["explain"]


def explain(built: Built, programs: int) -> str:
    """Say what a program calls, what memory it takes, and what it reuses."""
    ops, plan = built.program.ops, built.plan
    views = [op for op in ops if op.kind == "view"]
    free = sum(op.output in plan.static_views for op in views)
    calls = [op for op in ops if op.kind != "view"]
    new = [op for op in calls if op.output not in plan.place]
    saved = plan.nbytes_without_reuse - plan.nbytes
    kernels = Counter(_kernel(op) for op in calls)
    forward = sum(not op.backward for op in calls)
    made_of = f"{len(calls)} kernels ({forward} forward, {len(calls) - forward} backward)"
    reuse = f"{saved:,} bytes saved by reuse, {len(plan.in_place)} results written over an argument"
    lines = [
        f"{built.recorded} recorded calls became {made_of} and {len(views)} views, {free} of them made once",
        f"{len(plan.buffers)} buffers, {plan.nbytes:,} bytes; {reuse}",
        f"{len(new)} calls make a new array each time",
        "kernels: " + ", ".join(f"{count} {name}" for name, count in kernels.most_common()),
        "parameters: " + (", ".join(v.name.removeprefix("d_") for v in built.program.gradients) or "none"),
        f"programs in the cache: {programs}",
    ]
    return "\n".join(lines)


def _kernel(op: Op) -> str:
    name = getattr(op.function, "__name__", str(op.function)).strip("_")
    return {"reduce": f"{name}.reduce", "cast": "copyto", "draw": "random"}.get(op.kind, name)
