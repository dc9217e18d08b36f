"""What optimize does to a model, and above all what it does not."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import nn

from corestream.errors import CorestreamWarning
from corestream.measure import compare
from corestream.optimization import optimize, table
from tests.unit.optimization.models import Attention, Net, Taps, trained

IMAGES = torch.linspace(-1, 1, 2 * 3 * 6 * 6).view(2, 3, 6, 6)


def run(model, x):
    with torch.no_grad():
        return model(x)


def assert_same(actual, expected, dtype=torch.float32):
    found = compare(actual, expected, dtype=dtype)
    assert found.is_within, found.reason


def assert_same_state(actual, expected):
    assert list(actual) == list(expected)
    for key, value in expected.items():
        assert actual[key].dtype == value.dtype, key
        assert torch.equal(actual[key], value), key


@pytest.mark.parametrize("level", ["O0", "O1"])
@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize("has_inputs", [False, True])
def test_results_and_state_stay(level, inplace, has_inputs):
    model = trained(Net())
    expected, state = run(model, IMAGES), copy.deepcopy(model.state_dict())
    options = {"example_inputs": IMAGES} if has_inputs else {}
    fast = optimize(model, level=level, inplace=inplace, **options)
    assert (fast is model) == inplace
    assert type(fast) is Net
    assert_same(run(fast, IMAGES), expected)
    assert_same(run(fast, IMAGES[:1]), expected[:1])
    assert_same_state(fast.state_dict(), state)
    if not inplace:
        assert_same_state(model.state_dict(), state)
        assert run(model, IMAGES).equal(expected)


def test_the_users_model_is_not_touched():
    model = trained(Net())
    before = {name: (id(p), p.stride(), p.requires_grad) for name, p in model.named_parameters()}
    modules = {name: id(module) for name, module in model.named_modules()}
    fast = optimize(model, example_inputs=IMAGES)
    after = {name: (id(p), p.stride(), p.requires_grad) for name, p in model.named_parameters()}
    assert after == before
    assert {name: id(module) for name, module in model.named_modules()} == modules
    assert not hasattr(model, "report")
    memory = {t.untyped_storage().data_ptr() for t in model.state_dict().values()}
    plain = [t for t in (*fast.parameters(), *fast.buffers()) if type(t) in (nn.Parameter,)]
    assert not memory & {t.untyped_storage().data_ptr() for t in plain}
    with torch.no_grad():
        expected = run(fast, IMAGES)
        for parameter in model.parameters():
            parameter.zero_()
        assert run(fast, IMAGES).equal(expected)


def test_each_pass_says_what_it_did():
    report = optimize(trained(Net()), example_inputs=IMAGES).report
    text = str(report)
    for name in ("channels_last", "replace_dropout_with_identity", "conv_bn_folding"):
        assert report[name].done or report[name].rolled_back
        assert report[name].error is not None
        assert name in text
    assert report["linear_bn_folding"].done in ((), ("hidden", "hidden_norm"))
    assert report.to_dict()["level"] == "O1"
    with pytest.raises(KeyError):
        report["no such pass"]


def test_linear_folding_needs_to_know_that_inputs_are_rows():
    report = optimize(trained(Net())).report
    assert "pass example_inputs" in report["linear_bn_folding"].skipped["hidden_norm"]


def test_a_batch_norm_over_positions_is_not_folded():
    model = trained(nn.Sequential(nn.Linear(5, 7), nn.BatchNorm1d(7)))
    x = torch.randn(2, 7, 5)  # as many positions as features
    fast = optimize(model, example_inputs=x)
    assert "more dims than two" in fast.report["linear_bn_folding"].skipped["1"]
    assert_same(run(fast, x), run(model, x))


@pytest.mark.parametrize("dtype", [None, torch.bfloat16, "auto"])
def test_nothing_to_do_is_silent(dtype):
    model = nn.Sequential(nn.Flatten(), nn.ReLU()).eval()
    fast = optimize(model, dtype, example_inputs=IMAGES)
    assert all(entry.is_empty for entry in fast.report.passes)
    assert fast.report.notes == ()
    assert fast.report.dtype == "float32"
    assert run(fast, IMAGES).equal(run(model, IMAGES))


def test_backward_hooks_are_no_reason_to_warn():
    model = trained(Net())
    model.head.register_full_backward_hook(lambda *_: None)
    optimize(model)


def test_layers_that_cannot_be_cast_are_left_alone_without_a_warning():
    layers = nn.Conv2d(3, 4, (2, 3), padding="same"), nn.Linear(4, 4, device="meta")
    report = optimize(nn.Sequential(*layers).eval(), torch.bfloat16).report
    assert set(report["dtype"].skipped) == {"0", "1"}
    assert report.dtype == "float32"
    assert report["weights_prepack"].done == ()
    assert any(
        line.startswith("dtype") and "left alone" in line for line in str(report).split("\n")
    )


def test_a_pass_in_parts_has_an_entry_for_the_whole():
    report = optimize(trained(Net()), conv_bn_folding=False, linear_bn_folding=False).report
    assert report["weights_prepack: linears"].done == ("hidden", "head")
    assert report["weights_prepack"].done == ("conv", "hidden", "head")


@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
@pytest.mark.filterwarnings("ignore::corestream.errors.CorestreamWarning")
def test_inference_mode_and_autocast_of_the_caller_do_not_matter(dtype):
    model = trained(Net())
    with torch.inference_mode(), torch.autocast("cpu", torch.float16):
        fast = optimize(model, dtype, example_inputs=IMAGES.clone(), tolerance=0.5)
        assert torch.is_inference_mode_enabled()
        assert torch.get_autocast_dtype("cpu") is torch.float16
    assert_same(run(fast, IMAGES), run(model, IMAGES), dtype or torch.float32)
    fast.load_state_dict(model.state_dict())
    with torch.inference_mode():
        built = trained(Net())
    assert_same(run(optimize(built, example_inputs=IMAGES), IMAGES), run(built, IMAGES))


def test_example_inputs_are_not_written_to():
    class Writes(nn.Linear):
        def forward(self, x):
            return super().forward(x.add_(1))

    x = torch.zeros(2, 4)
    optimize(nn.Sequential(Writes(4, 4), nn.Linear(4, 4)).eval(), example_inputs=x)
    assert x.eq(0).all()


def test_knobs_overrule_the_level():
    off = optimize(trained(Net()), weights_prepack=False, conv_bn_folding=False)
    assert {"weights_prepack", "conv_bn_folding"} <= set(off.report.off)
    assert type(off.conv) is nn.Conv2d
    on = optimize(trained(Net()), level="O0", conv_bn_folding=True)
    assert on.report["conv_bn_folding"].done == ("conv", "norm")
    assert "concat_linear" in table()


def test_values_loaded_later_are_used():
    torch.manual_seed(1)
    model, other = trained(Net()), trained(Net())
    fast = optimize(model, example_inputs=IMAGES)
    fast.load_state_dict(other.state_dict())
    assert_same(run(fast, IMAGES), run(other, IMAGES))
    assert_same_state(fast.state_dict(), other.state_dict())


def test_copies_and_pickles_run():
    fast = optimize(trained(Net()), example_inputs=IMAGES)
    for twin in (copy.deepcopy(fast), pickle.loads(pickle.dumps(fast))):
        assert_same(run(twin, IMAGES), run(fast, IMAGES))
        assert twin.report.level == "O1"


def test_optimizing_twice_is_as_once():
    model = trained(Net())
    once = optimize(model, example_inputs=IMAGES)
    twice = optimize(once, example_inputs=IMAGES)
    assert_same(run(twice, IMAGES), run(model, IMAGES))
    assert_same_state(twice.state_dict(), model.state_dict())


def test_other_methods_and_hooks_work():
    model, seen = trained(Net()), []
    model.conv.register_forward_hook(lambda module, args, output: seen.append(output.shape))
    model.head.register_forward_hook(lambda module, args, output: output * 2)
    fast = optimize(model)
    assert_same(run(fast, IMAGES), run(model, IMAGES))
    assert_same(run(fast.features, IMAGES), run(model.features, IMAGES))
    assert "hooks" in fast.report["conv_bn_folding"].skipped["norm"]
    assert seen


def test_shared_modules_and_parameters_stay_shared():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.head = nn.Embedding(9, 4), nn.Linear(4, 9, bias=False)
            self.head.weight = self.embed.weight
            self.block = nn.Linear(4, 4)
            self.again = self.block

        def forward(self, ids):
            return self.head(self.again(self.block(self.embed(ids))))

    model, ids = Tied().eval(), torch.arange(9)
    fast = optimize(model, example_inputs=ids)
    assert fast.head.weight is fast.embed.weight
    assert fast.block is fast.again
    entry = next(e for e in fast.report.passes if "head" in e.skipped)
    assert "shared" in entry.skipped["head"]
    assert_same(run(fast, ids), run(model, ids))
    assert_same_state(fast.state_dict(), model.state_dict())


def test_what_reads_its_childrens_weights_is_left_alone():
    layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
    model, x = (
        nn.TransformerEncoder(layer, 2, enable_nested_tensor=False).eval(),
        torch.randn(2, 5, 16),
    )
    fast = optimize(model)
    assert type(fast.layers[0].linear1) is nn.Linear
    assert_same(run(fast, x), run(model, x))


def test_reads_beside_the_batch_norm_prevent_folding():
    model = trained(Taps())
    fast = optimize(model, example_inputs=IMAGES)
    assert set(fast.report["conv_bn_folding"].done) <= {"fine", "norms.3"}
    assert_same(run(fast, IMAGES), run(model, IMAGES))


def test_a_model_that_is_one_layer():
    linear, x = nn.Linear(6, 5).eval(), torch.randn(3, 6)
    assert_same(run(optimize(linear), x), run(linear, x))


def test_linears_that_share_an_input_can_be_one_product():
    model, x = Attention().eval(), torch.randn(2, 5, 32)
    fast = optimize(model, example_inputs=x, concat_linear=True)
    entry = fast.report["concat_linear"]
    assert entry.done == ("query", "key", "value") or entry.rolled_back
    assert_same(run(fast, x), run(model, x))
    assert_same_state(fast.state_dict(), model.state_dict())


def test_a_report_of_the_models_own_is_kept():
    class Own(nn.Linear):
        def report(self):
            return "mine"

    fast = optimize(Own(2, 2).eval())
    assert fast.report() == "mine"
    assert fast.optimize_report.level == "O1"


def test_results_hold_for_other_numbers_of_threads():
    model = trained(Net())
    expected = run(model, IMAGES)
    torch.set_num_threads(2)
    fast = optimize(model, example_inputs=IMAGES)
    for num_threads in (1, 2, 3):
        torch.set_num_threads(num_threads)
        assert_same(run(fast, IMAGES), expected)


@pytest.mark.parametrize("num_streams", [1, 2])
@pytest.mark.filterwarnings("ignore:.*GIL.*:corestream.errors.CorestreamWarning")
def test_results_hold_in_streams(num_streams):
    import corestream

    model = trained(Net())
    fast = optimize(model, example_inputs=IMAGES)
    streams = corestream.MultiStreamModule(fast, num_streams=num_streams)
    try:
        assert_same(run(streams, IMAGES), run(model, IMAGES))
    finally:
        streams.executor.shutdown()


@pytest.mark.parametrize("has_inputs", [False, True])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.filterwarnings("ignore::corestream.errors.CorestreamWarning")
def test_low_precision_keeps_dtypes_and_the_exact_state(dtype, has_inputs):
    model = trained(Net())
    options = {"example_inputs": IMAGES} if has_inputs else {}
    fast = optimize(model, dtype, tolerance=0.5, **options)
    out = run(fast, IMAGES)
    assert out.dtype is torch.float32
    assert_same(out, run(model, IMAGES), dtype)
    assert not out.equal(run(model, IMAGES))
    assert_same(run(fast.features, IMAGES), run(model.features, IMAGES), dtype)
    assert_same_state(fast.state_dict(), model.state_dict())
    twin = pickle.loads(pickle.dumps(copy.deepcopy(fast)))
    assert_same(run(twin, IMAGES), out, dtype)
    assert_same_state(optimize(fast, dtype).state_dict(), model.state_dict())
    assert not torch.is_autocast_enabled("cpu")


@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
@pytest.mark.filterwarnings("ignore::corestream.errors.CorestreamWarning")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_result_can_be_compiled_exported_and_traced(dtype):
    fast = optimize(trained(Net()), dtype)
    expected = run(fast, IMAGES)
    with torch.no_grad():
        forms = {
            "compile": torch.compile(fast, backend="aot_eager"),
            "export": torch.export.export(fast, (IMAGES,)).module(),
            "trace": torch.jit.trace(fast, IMAGES),
        }
        for form in forms.values():
            assert_same(form(IMAGES), expected, dtype or torch.float32)
    torch.compiler.reset()
    assert not torch.is_autocast_enabled("cpu")


@pytest.mark.filterwarnings("ignore::corestream.errors.CorestreamWarning")
def test_recurrent_layers_stay_where_there_is_no_kernel(monkeypatch):
    class Recurrent(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.start = nn.Linear(4, 8), nn.Linear(4, 6)
            self.lstm = nn.LSTM(8, 6, batch_first=True)

        def forward(self, x):
            start = self.start(x[:, :1].transpose(0, 1))
            return self.lstm(self.embed(x), hx=(start, start))

    monkeypatch.setattr("corestream.optimization.cast.can_pack", lambda _: False)
    model, x = Recurrent().eval(), torch.linspace(-1, 1, 40).view(2, 5, 4)
    fast = optimize(model, torch.bfloat16, example_inputs=x)
    assert fast.report["dtype"].done == ("embed", "start")
    assert "no kernel" in fast.report["dtype"].skipped["lstm"]
    assert_same(run(fast, x), run(model, x), torch.bfloat16)


@pytest.mark.filterwarnings("ignore::corestream.errors.CorestreamWarning")
def test_a_forward_that_fails_leaves_no_autocast_behind():
    fast = optimize(trained(Net()), torch.bfloat16)
    with pytest.raises(RuntimeError):
        run(fast, torch.ones(2, 5, 6, 6))
    assert not torch.is_autocast_enabled("cpu")
    assert torch.nn.functional.linear(torch.ones(1, 2), torch.ones(2, 2)).dtype is torch.float32


@pytest.mark.filterwarnings("ignore::corestream.errors.CorestreamWarning")
def test_rounded_state_takes_less_memory():
    model = nn.Sequential(nn.Linear(256, 256)).eval()
    exact, rounded = (optimize(model, torch.bfloat16, exact_state_dict=e) for e in (True, False))
    assert rounded[0].packed_nbytes <= 0.6 * exact[0].packed_nbytes
    assert exact.state_dict()["0.weight"].equal(model[0].weight)
    assert rounded.state_dict()["0.weight"].equal(model[0].weight.bfloat16().float())


WRONG = {
    "training": (lambda: optimize(Net()), ValueError, r"model\.eval\(\)"),
    "level": (lambda: optimize(Net().eval(), level="O2"), ValueError, "level must be"),
    "dtype": (lambda: optimize(Net().eval(), torch.int8), ValueError, "dtype must be"),
    "auto": (lambda: optimize(Net().eval(), "auto"), ValueError, "example_inputs"),
    "no module": (lambda: optimize(len), TypeError, "model must be an nn.Module"),
    "inplace": (lambda: optimize(Net().eval(), inplace="no"), ValueError, "inplace must be True"),
    "knob": (lambda: optimize(Net().eval(), concat_linear="y"), ValueError, "concat_linear must"),
    "tolerance": (lambda: optimize(Net().eval(), tolerance=-1), ValueError, "tolerance must be"),
    "NaN": (lambda: optimize(Net().eval(), tolerance=float("nan")), ValueError, "tolerance must"),
    "inputs": (lambda: optimize(Net().eval(), example_inputs=3), TypeError, "example_inputs must"),
    "script": (lambda: optimize(torch.jit.script(nn.ReLU()).eval()), TypeError, "graph is fixed"),
    "compiled": (lambda: optimize(torch.compile(Net().eval())), TypeError, "compiled"),
    "optimizer": (
        lambda: optimize(Net(), optimizer=torch.optim.SGD(Net().parameters())),
        NotImplementedError,
        "training is separate work",
    ),
}


@pytest.mark.parametrize("case", WRONG.values(), ids=WRONG)
def test_wrong_arguments_are_refused(case):
    call, kind, text = case
    with pytest.raises(kind, match=text):
        call()


def test_a_model_that_cannot_be_copied_is_refused_unless_in_place():
    import threading

    model = trained(Net())
    model.lock = threading.Lock()
    with pytest.raises(TypeError, match="inplace=True"):
        optimize(model)
    assert optimize(model, inplace=True) is model


def test_a_slow_dtype_is_warned_of(monkeypatch):
    monkeypatch.setattr("corestream.optimization.products.product_speedup", lambda *_: 0.25)
    with pytest.warns(CorestreamWarning, match="4.0 times slower"):
        fast = optimize(trained(Net()), torch.bfloat16)
    assert "4.0 times slower" in fast.report["dtype"].note
    assert fast.report.dtype == "bfloat16"


def test_auto_keeps_float32_where_products_are_slower(monkeypatch):
    monkeypatch.setattr("corestream.optimization.products.product_speedup", lambda *_: 0.25)
    fast = optimize(trained(Net()), "auto", example_inputs=IMAGES)
    assert fast.report.dtype == "float32"
    assert "0.25" in fast.report["dtype"].note
