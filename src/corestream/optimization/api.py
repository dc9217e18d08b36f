"""`optimize`: one call that makes a model faster for inference, and says what it did."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import nn

from corestream.errors import CorestreamWarning
from corestream.measure.inputs import ModelInputs
from corestream.nn import shared_parameters
from corestream.optimization import cast, products
from corestream.optimization.checks import check_arguments, check_options, lowest_dtype
from corestream.optimization.passes import switched_on
from corestream.optimization.plan import Packer, Situation
from corestream.optimization.report import OptimizeReport, PassReport
from corestream.optimization.tree import copy_structure, tensors_of, unshare
from corestream.optimization.trial import Rules, Trial
from corestream.optimization.wiring import Wiring, find_wiring

__all__ = ["optimize"]

# A dtype that was asked for is warned of below this speed-up: less is noise.
_AS_FAST = 0.9


def optimize(
    model: nn.Module,
    dtype: torch.dtype | Literal["auto"] | None = None,
    *,
    example_inputs: Any = None,
    optimizer: torch.optim.Optimizer | None = None,
    inplace: bool = False,
    level: Literal["O0", "O1"] = "O1",
    conv_bn_folding: bool | None = None,
    linear_bn_folding: bool | None = None,
    channels_last: bool | None = None,
    replace_dropout_with_identity: bool | None = None,
    weights_prepack: bool | None = None,
    concat_linear: bool | None = None,
    exact_state_dict: bool = True,
    tolerance: float | None = None,
) -> nn.Module:
    """Makes a model faster for inference: the same model, with some of its layers replaced.

    Only modules are swapped in their parents. Its graph, its forward, its other methods and its
    class stay, and so do the keys, dtypes and values of its ``state_dict``.

    Args:
        model: In evaluation mode. It stays as it is, unless `inplace`.
        dtype: What linear layers and convolutions compute in: torch.bfloat16, torch.float16, or
            "auto" for the fastest whose results hold, found by measuring. None: as it is.
            Inputs and outputs keep their dtypes.
        example_inputs: A tensor, a tuple or list of positional arguments, a mapping of keyword
            arguments, or `corestream.measure.ModelInputs`. With them every pass is checked and
            timed, and undone if results change or time is lost; and what only a run can tell is
            found, such as linear layers that share an input.
        optimizer: Not yet: training is separate work.
        inplace: Change the model itself, layer by layer, so that memory for one more layer is
            enough. A model that is itself a single layer cannot be swapped in a parent: use the
            model that is returned.
        level: "O0", for channels last and the dtype alone, or "O1".
        conv_bn_folding: On or off whatever the level has; so the next five.
        linear_bn_folding: Needs example inputs, which tell that the layers' inputs are rows.
        channels_last: Weights of 2d and 3d convolutions in channels-last order.
        replace_dropout_with_identity: Takes out dropout that is in evaluation mode.
        weights_prepack: Weights in oneDNN's layout. Folded and cast layers have it in any case.
        concat_linear: Needs example inputs, and stays only if it gains.
        exact_state_dict: Keep what it takes to give the state's exact values back. False: values
            are those that are computed with, and bfloat16 halves the memory of weights.
        tolerance: A limit of your own on the error of outputs, as `corestream.measure.compare`
            has it; None for the dtype's, and for one that is given what the model itself loses
            in it (`corestream.measure.tolerance_in`).

    Returns:
        The optimized model, whose parameters need no gradient. Its `report`, or
        `optimize_report` if the model has a `report` of its own, is an `OptimizeReport`.

    Raises:
        TypeError: `model` is no nn.Module, or TorchScript's, or compiled; or it cannot be copied.
        ValueError: `model` is in training mode; a level, dtype, knob or tolerance that does not
            exist; "auto" without example inputs.
        NotImplementedError: `optimizer` is given.

    Example:
        >>> import torch
        >>> from corestream.optimization import optimize
        >>> layers = torch.nn.Conv2d(3, 8, 3), torch.nn.BatchNorm2d(8), torch.nn.ReLU()
        >>> fast = optimize(torch.nn.Sequential(*layers).eval())
        >>> fast.report["conv_bn_folding"].done
        ('0', '1')

    Source: ``ipex.optimize``; docs/optimize.md compares them knob by knob.

    Thread-safe unless `inplace`: others may run the model meanwhile. Runs on the calling thread;
    operators release the GIL. The result can be called from any number of threads.
    """
    knobs = {
        "conv_bn_folding": conv_bn_folding,
        "linear_bn_folding": linear_bn_folding,
        "channels_last": channels_last,
        "replace_dropout_with_identity": replace_dropout_with_identity,
        "weights_prepack": weights_prepack,
        "concat_linear": concat_linear,
    }
    inputs = None if example_inputs is None else ModelInputs.of(example_inputs)
    check_arguments(model, dtype=dtype, inputs=inputs, optimizer=optimizer, level=level)
    check_options(
        knobs | {"inplace": inplace, "exact_state_dict": exact_state_dict}, tolerance=tolerance
    )
    # What the caller has on must not be in the results that are compared, nor in new tensors.
    with torch.inference_mode(False), torch.no_grad(), torch.autocast("cpu", enabled=False):
        job = _Job(model, inputs, inplace=inplace, is_exact=exact_state_dict, tolerance=tolerance)
        job.run_passes(level, knobs)
        if dtype is not None:
            job.cast(dtype)
        return job.finish(level)


class _Job:
    """One call of `optimize`."""

    def __init__(
        self,
        model: nn.Module,
        inputs: ModelInputs | None,
        *,
        inplace: bool,
        is_exact: bool,
        tolerance: float | None,
    ) -> None:
        self.model, self.inputs = model, inputs
        self.is_users, self.is_exact = inplace, is_exact
        root = model if inplace else copy_structure(model, keep=tensors_of(model))
        self.dtype = lowest_dtype(model)
        # The first wiring: names stay while modules are replaced, and so does who reads what.
        self.wiring: Wiring = find_wiring(root, inputs)
        self.trial = Trial(
            root,
            inputs=inputs,
            # Of a copy the old modules hold the user's own weights. Where the state is not exact,
            # nothing but the old modules could bring it back.
            keeps_old=not (inplace and is_exact),
            dtype=self.dtype,
            tolerance=tolerance,
        )
        self.original = None if inplace else self.trial.snapshot()
        self.reports: list[PassReport] = []
        self.off: tuple[str, ...] = ()

    def situation(self, dtype: torch.dtype | None = None) -> Situation:
        root = self.trial.root
        return Situation(
            modules=dict(root.named_modules()),
            wiring=self.wiring,
            shared=shared_parameters(root),
            dtype=dtype,
            packer=Packer(self.wiring.input_sizes, self.is_exact, self.is_users),
        )

    def run_passes(self, level: str, knobs: Mapping[str, bool | None]) -> None:
        chosen, self.off = switched_on(level, knobs, has_inputs=self.inputs is not None)
        for each in chosen:
            plan = each.plan(self.situation())
            rules = Rules(must_pay=each.must_pay and knobs[each.name] is None)
            self.reports += self.trial.attempt(plan, name=each.name, rules=rules)

    def cast(self, dtype: torch.dtype | Literal["auto"]) -> None:
        """Casts to the dtype that is asked for, or to the fastest that holds."""
        if self.dtype is not torch.float32:
            note = f"the model computes in {_name(self.dtype)}: only float32 is cast"
            self.reports.append(PassReport("dtype", note=note))
        elif isinstance(dtype, torch.dtype):
            if dtype is not torch.float32:
                self._cast_as_asked(dtype)
        else:
            self._cast_to_fastest()

    def _cast_as_asked(self, dtype: torch.dtype) -> None:
        gain = self._product_speedup(dtype)
        limit = self.trial.tolerance_in(dtype)
        found = self._attempt(dtype, Rules(may_cost=True, dtype=dtype, tolerance=limit))
        if found.rolled_back is not None:
            _warn(f"the model stays in {_name(self.dtype)}: {found.rolled_back}")
        measured = found.speedup or gain
        if found.done and measured is not None and measured < _AS_FAST:
            what = "the model" if found.speedup else "its largest products"
            note = f"{_name(dtype)} makes {what} {1 / measured:.1f} times slower on this CPU"
            found = dataclasses.replace(found, note=note)
            _warn(f'{note}; pass dtype="auto" and example inputs to use it only where it gains')
        self.reports.append(found)

    def _cast_to_fastest(self) -> None:
        gains = {}
        for dtype in (torch.bfloat16, torch.float16):
            gain = self._product_speedup(dtype)
            if gain is not None:
                gains[dtype] = gain
        found = [f"{_name(dtype)} {gain:.2f}" for dtype, gain in gains.items()]
        note = f"speed-up of the largest products: {', '.join(found)}" if found else None
        for dtype in sorted(gains, key=lambda dtype: gains[dtype], reverse=True):
            if gains[dtype] > 1:
                report = self._attempt(dtype, Rules(must_pay=True, dtype=dtype))
                self.reports.append(dataclasses.replace(report, note=note))
                if report.done:
                    return
        if not any(gain > 1 for gain in gains.values()):
            self.reports.append(PassReport("dtype", note=note))

    def _product_speedup(self, dtype: torch.dtype) -> float | None:
        """Of the layers that a cast would change."""
        situation = self.situation(dtype)
        names = [name for edit in cast.plan(situation).edits for name in edit.names]
        return products.product_speedup((situation.modules[name] for name in names), dtype)

    def _attempt(self, dtype: torch.dtype, rules: Rules) -> PassReport:
        plan = cast.plan(self.situation(dtype))
        (report,) = self.trial.attempt(plan, name="dtype", rules=rules)
        if report.done:
            self.dtype = dtype
        # Not those that only have autocast switched around them.
        done = tuple(name for name in report.done if name and name not in report.skipped)
        return dataclasses.replace(report, done=done)

    def finish(self, level: str) -> nn.Module:
        """The model, with tensors of its own and its report."""
        root = self.trial.root
        notes = []
        if not self.trial.is_deterministic:
            notes.append("its outputs differ from run to run, so results could not be compared")
        if self.original is not None:
            is_changed = any(entry.done for entry in self.reports)
            gain = self.trial.time_against(self.original) if is_changed else None
            if gain is not None:
                notes.append(f"all together: {gain:.2f} times as fast")
            unshare(root, tensors_of(self.model))
        for parameter in root.parameters():
            parameter.requires_grad_(False)
        report = OptimizeReport(
            level, _name(self.dtype), tuple(self.reports), self.off, tuple(notes)
        )
        has_own = hasattr(root, "report") and not isinstance(root.report, OptimizeReport)
        root.__dict__["optimize_report" if has_own else "report"] = report
        return root


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _warn(text: str) -> None:
    warnings.warn(text, CorestreamWarning, stacklevel=5)
