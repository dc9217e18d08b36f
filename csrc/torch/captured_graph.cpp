#include "captured_graph.h"

#include <ATen/Functions.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <exception>

#include "graph_recorder.h"
#include "openmp.h"
#include "team_barrier.h"

namespace corestream {
namespace {

bool is_alike(const at::Tensor& tensor, const at::Tensor& held) {
  return is_plain(tensor) && tensor.scalar_type() == held.scalar_type() &&
         tensor.sizes() == held.sizes() && tensor.strides() == held.strides();
}

// Outputs are of who called, and the memory behind them of the next call.
c10::IValue copy_of(const c10::IValue& value) {
  if (value.isTensor()) return value.toTensor().clone();
  if (value.isTuple()) {
    std::vector<c10::IValue> items;
    for (const c10::IValue& item : value.toTupleRef().elements()) items.push_back(copy_of(item));
    return c10::ivalue::Tuple::create(std::move(items));
  }
  c10::List<at::Tensor> tensors;
  for (const at::Tensor& item : value.toTensorVector()) tensors.push_back(item.clone());
  return tensors;
}

}  // namespace

c10::IValue CapturedGraph::capture(const torch::jit::Graph& graph, const torch::jit::Stack& inputs,
                                   std::unique_ptr<CapturedGraph>& captured) {
  GraphRecorder recorder(graph, inputs);
  const c10::IValue output = recorder.run();
  captured = recorder.take();
  return captured == nullptr ? output : copy_of(output);
}

bool CapturedGraph::fits(const torch::jit::Stack& inputs) const {
  if (inputs.size() != inputs_.size()) return false;
  for (size_t i = 0; i < inputs.size(); ++i) {
    if (!inputs_[i].held.defined()) continue;
    if (!inputs[i].isTensor() || !is_alike(inputs[i].toTensor(), inputs_[i].held)) return false;
  }
  return true;
}

// A member goes on to the next work without meeting others where both are one member's.
void CapturedGraph::run_own(const OwnWork& works) {
  int most = 1;
  for (const TeamWork& work : works) most = std::max(most, work.members);
  TeamBarrier barrier;
  const auto body = [&](int member, int members) {
    const int met = std::min(most, members);
    if (member >= met) return;
    for (size_t i = 0; i < works.size(); ++i) {
      for (int part = member; part < works[i].members; part += met) works[i].run(part);
      const bool is_last = i + 1 == works.size();
      if (!is_last && std::max(works[i].members, works[i + 1].members) > 1) barrier.wait(met);
    }
  };
  // All of the team (run_shares).
  run_on_team(most > 1 ? at::get_num_threads() : 1, std::function<void(int, int)>(body));
  // All, so that none is left with what it would throw of in the next call.
  std::exception_ptr error;
  for (const TeamWork& work : works) {
    if (!work.check) continue;
    try {
      work.check();
    } catch (...) {
      if (!error) error = std::current_exception();
    }
  }
  if (error) std::rethrow_exception(error);
}

bool CapturedGraph::run_torch(TorchCall& call, const torch::jit::Stack& inputs) {
  torch::jit::Stack stack = call.arguments;
  for (const auto& [argument, input] : call.inputs) stack[argument] = inputs[input];
  if (call.is_copy) {
    call.outputs[0].copy_(stack[0].toTensor());
    return true;
  }
  call.run(stack);
  for (size_t i = 0; i < call.outputs.size(); ++i) {
    const at::Tensor& output = call.outputs[i];
    const at::Tensor& fresh = stack[i].toTensor();
    if (fresh.sizes() != output.sizes() || fresh.scalar_type() != output.scalar_type())
      return false;
    output.copy_(fresh);
  }
  return true;
}

std::optional<c10::IValue> CapturedGraph::run(const torch::jit::Stack& inputs) {
  for (size_t i = 0; i < inputs.size(); ++i) {
    if (inputs_[i].is_read) inputs_[i].held.copy_(inputs[i].toTensor());
  }
  for (auto& part : parts_) {
    if (auto* works = std::get_if<OwnWork>(&part)) {
      run_own(*works);
    } else if (!run_torch(std::get<TorchCall>(part), inputs)) {
      return std::nullopt;
    }
  }
  return copy_of(output_);
}

}  // namespace corestream
