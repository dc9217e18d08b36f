"""What the CPU can calculate with, and how fast each arithmetic really is here."""

from __future__ import annotations

from collections.abc import Callable

from corestream.doctor.facts import Facts, Product
from corestream.doctor.finding import Finding, Level
from corestream.doctor.variables import INSTRUCTION_SETS

GROUP = "Arithmetic"

# Names as torch has them, and as /proc/cpuinfo has them, for where torch is not.
_EXTENSIONS = {
    "AVX2": ("avx2", "avx2"),
    "AVX512": ("avx512_f", "avx512f"),
    "AVX512-VNNI": ("avx512_vnni", "avx512_vnni"),
    "AVX-VNNI": ("avx_vnni", "avx_vnni"),
    "AVX512-BF16": ("avx512_bf16", "avx512_bf16"),
    "AVX512-FP16": ("avx512_fp16", "avx512_fp16"),
    "AMX-BF16": ("amx_bf16", "amx_bf16"),
    "AMX-INT8": ("amx_int8", "amx_int8"),
    "AMX-FP16": ("amx_fp16", "amx_fp16"),
    "NEON": ("neon", "asimd"),
    "SVE": ("sve", "sve"),
    "SVE2": ("sve2", "sve2"),
    "BF16": ("bf16", "bf16"),
    "I8MM": ("i8mm", "i8mm"),
}

FELT = 1.3
"""How many times as fast another way has to be to be worth a word."""


def instruction_sets(facts: Facts) -> Finding:
    """The vector and matrix extensions, and whether a variable holds them back."""
    torch, flags = facts.torch, facts.machine.cpu_flags
    known = torch.capabilities if torch and torch.capabilities else None
    present = [
        name
        for name, (key, flag) in _EXTENSIONS.items()
        if (known.get(key, False) if known is not None else flag in flags)
    ]
    limits = [f"{n}={facts.environ[n]}" for n in INSTRUCTION_SETS if n in facts.environ]
    parts = [facts.machine.cpu_name or "CPU of unknown name", ", ".join(present) or "none known"]
    if torch is not None:
        parts.append(f"torch's kernels: {torch.capability}")
    value = "; ".join(parts)
    if limits:
        return Finding(
            group=GROUP,
            title="instruction sets",
            level=Level.WARN,
            value=f"{value}; {', '.join(limits)}",
            explanation="the variable keeps kernels from what the CPU has",
            fix=f"unset {' '.join(limit.split('=')[0] for limit in limits)}, unless it is a test",
        )
    return Finding(group=GROUP, title="instruction sets", value=value)


def _product(
    name: str, judge: Callable[[Facts, Product], Finding]
) -> Callable[[Facts], Finding | None]:
    def check(facts: Facts) -> Finding | None:
        if facts.products is None:
            # One line says it for all.
            return _unmeasured(facts) if name == "fp32" else None
        product = facts.products.get(name)
        if product is not None and product.median_s is not None:
            return judge(facts, product)
        value = f"not available: {product.error if product else 'no answer'}"
        return Finding(group=GROUP, title=_title(facts, name), level=Level.NOTE, value=value)

    return check


def _unmeasured(facts: Facts) -> Finding:
    title, value = "matrix products", facts.products_absence
    if not facts.products_died:
        return Finding(group=GROUP, title=title, level=Level.NOTE, value=value)
    return Finding(
        group=GROUP,
        title=title,
        level=Level.FAIL,
        value=value,
        explanation="while it multiplied matrices: a kernel does not run on this CPU",
        fix="ONEDNN_MAX_CPU_ISA=AVX2 or ATEN_CPU_CAPABILITY=avx2 tell which library's it is",
    )


def _title(facts: Facts, name: str) -> str:
    if name == "fp32":
        return "fp32 through MKL" if facts.torch is None or facts.torch.has_mkl else "fp32"
    return "fp32 through oneDNN" if name == "fp32 oneDNN" else name


def _time(product: Product) -> str:
    return f"{(product.median_s or 0.0) * 1e3:.3g} ms"


def _ratio(factor: float) -> str:
    return f"{factor:.2g}" if factor < 10 else f"{factor:.0f}"


def _judge_fp32(facts: Facts, product: Product) -> Finding:
    title, value = _title(facts, "fp32"), f"{_time(product)} a product of 512 × 512"
    other = (facts.products or {}).get("fp32 oneDNN")
    factor = other.times_as_fast if other is not None and other.is_faster else None
    if factor is None or factor < FELT:
        return Finding(group=GROUP, title=title, value=value)
    return Finding(
        group=GROUP,
        title=title,
        level=Level.WARN,
        value=f"{value}; fp32 linear runs at {1 / factor:.0%} of oneDNN's speed through MKL here",
        explanation="torch sends fp32 matrix products to MKL, which is slow on this CPU",
        fix="corestream.optimize or corestream.lower: they pack linear layers for oneDNN",
    )


def _judge_onednn(facts: Facts, product: Product) -> Finding:
    value = _time(product)
    if product.times_as_fast is not None:
        value += f", {_ratio(product.times_as_fast)}× as fast as torch's own fp32"
    return Finding(group=GROUP, title="fp32 through oneDNN", value=value)


def _judge_dtype(name: str, fix: str) -> Callable[[Facts, Product], Finding]:
    def judge(facts: Facts, product: Product) -> Finding:
        factor = product.times_as_fast
        if factor is None:
            return Finding(group=GROUP, title=name, value=_time(product))
        if not product.is_slower or factor > 1 / FELT:
            value = f"{_time(product)}, {_ratio(factor)}× as fast as fp32"
            return Finding(group=GROUP, title=name, value=value)
        value = f"{_time(product)}: {name} is {_ratio(1 / factor)}× slower than fp32 here"
        layer = (facts.products or {}).get(f"{name} linear")
        if layer is not None and layer.times_as_fast:
            value += f", in linear layers {_ratio(1 / layer.times_as_fast)}×"
        return Finding(
            group=GROUP,
            title=name,
            level=Level.NOTE,
            value=value,
            explanation="the CPU has no instructions for it, or the library no kernel",
            fix=fix,
        )

    return judge


PRODUCTS: tuple[Callable[[Facts], Finding | None], ...] = (
    _product("fp32", _judge_fp32),
    _product("fp32 oneDNN", _judge_onednn),
    _product("bf16", _judge_dtype("bf16", "stay with fp32, or int8 where accuracy allows")),
    _product("fp16", _judge_dtype("fp16", "load fp16 weights as bf16, if that is fast, or fp32")),
    _product("int8", _judge_dtype("int8", "do not quantize for speed on this machine")),
)


def denormals(facts: Facts) -> Finding | None:
    """Whether numbers too small for fp32's range cost extra cycles."""
    if facts.torch is None or facts.torch.flushes_denormals is None:
        return None
    value = "flushed to zero" if facts.torch.flushes_denormals else "kept, torch's default"
    return Finding(group=GROUP, title="denormals", value=value)
