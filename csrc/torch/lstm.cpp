// torch.ops.corestream.lstm_layer: a layer of an LSTM in one direction.
#include <ATen/Functions.h>
#include <torch/library.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <limits>
#include <optional>
#include <tuple>
#include <type_traits>
#include <vector>

#include "convolution.h"
#include "convolution_team.h"
#include "cpu_kernels.h"
#include "linear.h"
#include "lstm_kernel.h"
#include "operands.h"
#include "team_shares.h"

namespace corestream {
namespace {

// (output, the last step's, the last state)
using Results = std::tuple<at::Tensor, at::Tensor, at::Tensor>;

// What a layer reads but for its input, and in which order.
struct Layer {
  const at::Tensor& packed_input;
  const at::Tensor& packed_hidden;
  const std::optional<at::Tensor>& bias;
  const at::Tensor& h0;
  const at::Tensor& c0;
  bool batch_first, reverse;

  int64_t hidden() const { return h0.size(1); }
  int64_t blocks() const { return (hidden() + kVector - 1) / kVector; }
  int64_t gates() const { return blocks() * kGatesPerBlock; }
};

LstmKernel lstm_kernel([[maybe_unused]] at::ScalarType dtype) {
#if defined(__x86_64__)
  return choose_kernel(dtype, &lstm_fp32_avx2, &lstm_fp32_avx512, &lstm_bf16_avx512);
#else
  return nullptr;
#endif
}

void check(const at::Tensor& input, const Layer& layer) {
  const int64_t batch = input.dim() == 3 ? input.size(layer.batch_first ? 0 : 1) : 0;
  TORCH_CHECK(input.dim() == 3 && input.size(2) > 0, "input must have 3 dims and features; got ",
              input.sizes(), "; pass (steps, batch, features), or the batch first");
  TORCH_CHECK(input.size(layer.batch_first ? 1 : 0) > 0, "input must have a step; got ",
              input.sizes(), "; only the batch may be empty");
  const auto check_state = [&](const char* name, const at::Tensor& state) {
    TORCH_CHECK(state.dim() == 2 && state.size(0) == batch && state.size(1) > 0 &&
                    state.sizes() == layer.h0.sizes() && state.scalar_type() == input.scalar_type(),
                name, " must be (batch, hidden) of ", batch, " sequences in ", input.scalar_type(),
                ", like the other; got ", state.sizes(), " in ", state.scalar_type(),
                "; select a layer's");
  };
  check_state("h0", layer.h0);
  check_state("c0", layer.c0);
  const std::array<int64_t, 4> sizes{layer.gates(), input.size(2), 1, 1};
  check_packed(layer.packed_input, layer.bias, sizes, /*groups=*/1, input.scalar_type());
  const std::array<int64_t, 4> hidden_sizes{layer.gates(), layer.hidden(), 1, 1};
  check_packed(layer.packed_hidden, std::nullopt, hidden_sizes, /*groups=*/1, input.scalar_type());
}

// The order of torch's parameters: gates, and in each the units.
at::Tensor in_torchs_order(const at::Tensor& blocks, int64_t hidden) {
  const auto rest = blocks.numel() / blocks.size(0);
  return blocks.reshape({-1, kNumGates, kVector, rest})
      .transpose(0, 1)
      .reshape({kNumGates, -1, rest})
      .narrow(1, 0, hidden)
      .reshape({kNumGates * hidden, rest});
}

Results by_torch(const at::Tensor& input, const Layer& layer) {
  const auto dtype = input.scalar_type();
  const auto weight = [&](const at::Tensor& packed, int64_t features) {
    const std::array<int64_t, 4> sizes{layer.gates(), features, 1, 1};
    const at::Tensor plain = unpack_convolution(packed, sizes, /*groups=*/1, dtype).flatten(1);
    return in_torchs_order(plain, layer.hidden());
  };
  std::vector<at::Tensor> parameters{weight(layer.packed_input, input.size(2)),
                                     weight(layer.packed_hidden, layer.hidden())};
  const bool has_bias = is_given(layer.bias);
  if (has_bias) {
    const at::Tensor bias = in_torchs_order(*layer.bias, layer.hidden()).flatten().to(dtype);
    parameters.push_back(bias);
    parameters.push_back(at::zeros_like(bias));
  }
  const int64_t time = layer.batch_first ? 1 : 0;
  const std::array<at::Tensor, 2> state{layer.h0.unsqueeze(0), layer.c0.unsqueeze(0)};
  const auto [output, last, cell] =
      at::lstm(layer.reverse ? input.flip(time) : input, state, parameters, has_bias,
               /*num_layers=*/1, /*dropout=*/0.0, /*train=*/false, /*bidirectional=*/false,
               layer.batch_first);
  const at::Tensor in_order = layer.reverse ? output.flip(time) : output;
  return {in_order.contiguous(), last.squeeze(0).contiguous(), cell.squeeze(0).contiguous()};
}

// What the members of a team do in each step; distances are in elements.
struct StepWork {
  Convolution product;  // of the hidden state; what the input adds is its residual
  ConvolutionKernel kernel;
  LstmCells cells;
  LstmKernel finish;
  int64_t steps, blocks, element_size;
  int64_t gates_step, output_step;
  bool reverse;
  int members;
};

template <typename Pointer>
Pointer* at_element(Pointer* base, int64_t element, const StepWork& work) {
  using Bytes = std::conditional_t<std::is_const_v<Pointer>, const char, char>;
  return static_cast<Bytes*>(base) + element * work.element_size;
}

// A member's units of a step: their part of the product, and at once what becomes of it.
void run_step(const StepWork& work, int64_t step, int member) {
  const auto [begin, end] = share(work.blocks, member, work.members);
  if (begin == end) return;
  const int64_t time = work.reverse ? work.steps - 1 - step : step;
  const bool is_first = step == 0, is_last = step + 1 == work.steps;
  Convolution product = work.product;
  if (!is_first) {
    const int64_t before = work.reverse ? time + 1 : time - 1;
    product.input = at_element(work.cells.output, before * work.output_step, work);
    product.input_pixel = work.cells.output_row;
  }
  product.residual = at_element(product.residual, time * work.gates_step, work);
  const int64_t panels = kNumGates / work.kernel.panel_vectors;  // of a block
  work.kernel.run(product, {0, work.cells.batch, begin * panels, end * panels});
  LstmCells cells = work.cells;
  cells.output = at_element(cells.output, time * work.output_step, work);
  if (!is_first) cells.first_cell = nullptr;
  if (!is_last) cells.last_output = cells.last_cell = nullptr;
  work.finish(cells, begin, end);
}

StepWork describe(const at::Tensor& added, const at::Tensor& output, const Layer& layer) {
  const int64_t batch = layer.h0.size(0), hidden = layer.hidden(), gates = layer.gates();
  StepWork work{};
  work.steps = output.size(layer.batch_first ? 1 : 0);
  work.blocks = layer.blocks();
  work.element_size = static_cast<int64_t>(output.element_size());
  work.gates_step = layer.batch_first ? gates : batch * gates;
  work.output_step = layer.batch_first ? hidden : batch * hidden;
  work.reverse = layer.reverse;
  work.kernel = convolution_kernel(output.scalar_type(), /*is_depthwise=*/false);
  work.finish = lstm_kernel(output.scalar_type());
  work.product = product_of(batch, gates, hidden);
  Convolution& c = work.product;
  c.weight = layer.packed_hidden.const_data_ptr();
  c.residual = added.const_data_ptr();
  c.residual_pixel = layer.batch_first ? work.steps * gates : gates;
  c.low = -std::numeric_limits<float>::infinity();
  c.high = std::numeric_limits<float>::infinity();
  LstmCells& cells = work.cells;
  cells.batch = batch;
  cells.hidden = hidden;
  cells.gates_row = gates;
  cells.output = output.data_ptr();
  cells.output_row = layer.batch_first ? work.steps * hidden : hidden;
  return work;
}

Results empty_results(const at::Tensor& input, const Layer& layer) {
  const std::array<int64_t, 3> sizes{input.size(0), input.size(1), layer.hidden()};
  return {new_tensor(sizes, input.options()), new_tensor(layer.h0.sizes(), input.options()),
          new_tensor(layer.c0.sizes(), input.options())};
}

Results run(const at::Tensor& input, const Layer& layer) {
  check(input, layer);
  const auto dtype = input.scalar_type();
  if (!is_packed_here(layer.packed_input, dtype, /*is_depthwise=*/false) ||
      !is_packed_here(layer.packed_hidden, dtype, /*is_depthwise=*/false) || input.numel() == 0) {
    return by_torch(input, layer);
  }
  // Of all steps at once: the input's weights are read once.
  const at::Tensor added = linear(input, layer.packed_input, layer.bias, std::nullopt,
                                  layer.gates(), /*gelu=*/false, std::nullopt, std::nullopt);
  const Results results = empty_results(input, layer);
  const auto& [output, last, cell] = results;
  const at::Tensor h0 = layer.h0.contiguous(), c0 = layer.c0.contiguous();
  StepWork work = describe(added, output, layer);
  const at::Tensor gates = new_tensor({work.cells.batch, layer.gates()}, input.options());
  const at::Tensor state = new_tensor(c0.sizes(), input.options().dtype(at::kFloat));
  work.product.input = h0.const_data_ptr();
  work.product.output = gates.data_ptr();
  work.cells.gates = gates.const_data_ptr();
  work.cells.first_cell = c0.const_data_ptr();
  work.cells.cell = state.data_ptr<float>();
  work.cells.last_output = last.data_ptr();
  work.cells.last_cell = cell.data_ptr();
  const int64_t products = work.cells.batch * layer.hidden() * layer.gates();
  // The team is woken once, and meets in each step.
  const int64_t worth_waking = work.steps * products / kLeastProducts;
  work.members = team_size_for(std::min(work.blocks, worth_waking), products, kLeastStepProducts);
  run_steps(work.members, work.steps, work,
            [](const StepWork& all, int64_t step, int member) { run_step(all, step, member); });
  return results;
}

Results lstm_layer(const at::Tensor& input, const at::Tensor& packed_input,
                   const at::Tensor& packed_hidden, const std::optional<at::Tensor>& bias,
                   const at::Tensor& h0, const at::Tensor& c0, bool batch_first, bool reverse) {
  return run(input, {packed_input, packed_hidden, bias, h0, c0, batch_first, reverse});
}

Results lstm_layer_meta(const at::Tensor& input, const at::Tensor&, const at::Tensor&,
                        const std::optional<at::Tensor>&, const at::Tensor& h0,
                        const at::Tensor& c0, bool, bool) {
  return {at::empty_symint({input.sym_size(0), input.sym_size(1), h0.sym_size(1)}, input.options()),
          at::empty_symint(h0.sym_sizes(), input.options()),
          at::empty_symint(c0.sym_sizes(), input.options())};
}

auto& lstm_operator() {
  static const auto found = operator_named<decltype(lstm_layer)>("corestream::lstm_layer");
  return found;
}

Results lstm_layer_autograd(const at::Tensor& input, const at::Tensor& packed_input,
                            const at::Tensor& packed_hidden, const std::optional<at::Tensor>& bias,
                            const at::Tensor& h0, const at::Tensor& c0, bool batch_first,
                            bool reverse) {
  if (needs_gradient({input, bias, h0, c0})) {
    const Layer layer{packed_input, packed_hidden, bias, h0, c0, batch_first, reverse};
    check(input, layer);
    return by_torch(input, layer);
  }
  at::AutoDispatchBelowADInplaceOrView below;
  return lstm_operator().call(input, packed_input, packed_hidden, bias, h0, c0, batch_first,
                              reverse);
}

// The weights are packed in one dtype, which the input then has, whatever autocast made of it.
Results lstm_layer_autocast(const at::Tensor& input, const at::Tensor& packed_input,
                            const at::Tensor& packed_hidden, const std::optional<at::Tensor>& bias,
                            const at::Tensor& h0, const at::Tensor& c0, bool batch_first,
                            bool reverse) {
  c10::impl::ExcludeDispatchKeyGuard no_autocast(c10::DispatchKey::AutocastCPU);
  const auto dtype = packed_input.scalar_type();
  return lstm_operator().call(input.to(dtype), packed_input, packed_hidden, bias, h0.to(dtype),
                              c0.to(dtype), batch_first, reverse);
}

}  // namespace
}  // namespace corestream

TORCH_LIBRARY_FRAGMENT(corestream, library) {
  library.def(
      "lstm_layer(Tensor input, Tensor packed_input, Tensor packed_hidden, Tensor? bias, "
      "Tensor h0, Tensor c0, bool batch_first, bool reverse) -> (Tensor, Tensor, Tensor)",
      {at::Tag::pt2_compliant_tag});
}
TORCH_LIBRARY_IMPL(corestream, CPU, library) {
  library.impl("lstm_layer", TORCH_FN(corestream::lstm_layer));
}
TORCH_LIBRARY_IMPL(corestream, Meta, library) {
  library.impl("lstm_layer", TORCH_FN(corestream::lstm_layer_meta));
}
TORCH_LIBRARY_IMPL(corestream, Autograd, library) {
  library.impl("lstm_layer", TORCH_FN(corestream::lstm_layer_autograd));
}
TORCH_LIBRARY_IMPL(corestream, AutocastCPU, library) {
  library.impl("lstm_layer", TORCH_FN(corestream::lstm_layer_autocast));
}
